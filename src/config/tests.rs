//! Settings as people give them: precedence, every kind of value, and all faults at once.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{Size, Value};
use super::*;

mod memory;
mod namespaces;

fn flags(flags: &[(&'static str, &str)]) -> Sources {
    let flags = flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    Sources { flags, ..Sources::default() }
}

fn variables(variables: &[(&str, &str)]) -> Sources {
    let environment =
        variables.iter().map(|(name, text)| ((*name).to_owned(), OsString::from(text))).collect();
    Sources { environment, ..Sources::default() }
}

fn file(text: &str) -> Sources {
    let file = ConfigFile { path: PathBuf::from("onced.toml"), text: Ok(text.to_owned()) };
    Sources { file: Some(file), ..Sources::default() }
}

fn faults(sources: &Sources) -> Vec<String> {
    let error = Settings::resolve(sources).expect_err("is at fault");
    error.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_given_is_the_documented_default() {
    let settings = Settings::default();

    assert_eq!(settings.listen, "127.0.0.1:50051".parse().unwrap());
    assert_eq!(settings.store, StoreUrl::RocksDb(PathBuf::from("./onced-data")));
    assert!((1..=256).contains(&settings.runtimes));
    assert_eq!(settings.lease, SpanBounds::LEASE);
    assert_eq!(settings.retention, SpanBounds::RETENTION);
    assert_eq!(settings.lease_expiry_action, LeaseExpiryAction::Takeover);
    assert_eq!(settings.max_response_bytes, 1 << 20);
    assert_eq!(settings.restart_grace, Span::from_secs(10));
    assert_eq!(settings.drain_grace, Duration::from_secs(1));
    assert_eq!(settings.drain_limit, Duration::from_secs(30));
    assert_eq!(settings.max_in_flight, 16_384);
    assert_eq!(settings.max_connections, 16_384);
    assert_eq!(settings.max_concurrent_streams, 1_024);
    assert_eq!(settings.max_large_message_bytes, 256 << 20);
    assert_eq!(settings.connection_max_age, Some(Duration::from_secs(30 * 60)));
    assert_eq!(settings.keepalive_interval, Some(Duration::from_secs(60)));
    assert_eq!(settings.keepalive_timeout, Duration::from_secs(20));
    assert!(settings.reflection);
    assert!(!settings.strict);
    assert!(settings.tls_cert.is_none() && settings.tls_key.is_none());
    assert!(settings.tls_client_ca.is_none() && settings.credentials.is_none());
    assert_eq!(settings.tls_client_auth, TlsClientAuth::Required);
    assert_eq!(settings.tls_handshake_timeout, Duration::from_secs(10));
    assert!(!settings.insecure_any_interface);
    assert!(settings.namespaces.is_empty());
    assert_eq!(settings.log, "info");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.memtable_bytes, 4 << 20);
    assert_eq!(settings.block_cache_bytes, 64 << 20);
}

#[test]
fn every_row_of_the_table_is_a_setting_once() {
    let resolved = Resolved::of(&Sources::default()).unwrap();
    let effective: Vec<_> = resolved.effective.iter().map(|effective| effective.name).collect();
    let table: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(effective, table);
    assert_eq!(table.iter().collect::<HashSet<_>>().len(), table.len());
}

#[test]
fn defaults_are_shown_as_the_table_writes_them() {
    for effective in Resolved::of(&Sources::default()).unwrap().effective {
        if effective.name == "runtimes" {
            continue; // "cores" is shown as their number.
        }
        let setting = Setting::named(effective.name).unwrap();
        // 60s is shown as 1m.
        let shown = effective.value.replace("1m", "60s");
        assert!(shown == setting.default || effective.value == setting.default, "{effective:?}");
    }
}

#[test]
fn both_bounds_of_every_setting_can_be_given_and_nothing_beyond_them() {
    for setting in SETTINGS {
        let Some((min, max)) = setting.bounds else { continue };
        let given = |text: &str| match setting.name.strip_suffix("_default") {
            // The three settings of a span have to be in order, so they move together.
            Some(span) => flags(
                &SETTINGS
                    .iter()
                    .filter(|other| {
                        other.name.starts_with(span) && other.name != "lease_expiry_action"
                    })
                    .map(|other| (other.name, text))
                    .collect::<Vec<_>>(),
            ),
            None => flags(&[(setting.name, text)]),
        };
        if setting.name.ends_with("_min") || setting.name.ends_with("_max") {
            continue;
        }
        Settings::resolve(&given(min)).unwrap();
        Settings::resolve(&given(max)).unwrap();
        let unit = max.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let beyond: u64 = max.trim_end_matches(unit).parse().unwrap();
        let faults = faults(&given(&format!("{}{unit}", beyond + 1)));
        assert!(faults[0].contains("is out of bounds; give "), "{faults:?}");
        assert!(faults[0].ends_with(&format!(", from {min} to {max}")), "{faults:?}");
    }
}

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    let mut sources = file("lease_default = \"11s\"");
    let lease = |sources: &Sources| {
        let resolved = Resolved::of(sources).unwrap();
        let effective = resolved.effective.into_iter().find(|one| one.name == "lease_default");
        let Effective { value, origin, .. } = effective.unwrap();
        assert_eq!(value, format!("{}s", resolved.settings.lease.default.as_millis() / 1_000));
        (value, origin.to_string())
    };
    assert_eq!(lease(&sources), ("11s".into(), "onced.toml:1".into()));

    sources.environment = variables(&[("ONCED_LEASE_DEFAULT", "12s")]).environment;
    assert_eq!(lease(&sources), ("12s".into(), "ONCED_LEASE_DEFAULT".into()));

    sources.flags = flags(&[("lease_default", "13s")]).flags;
    assert_eq!(lease(&sources), ("13s".into(), "--lease-default".into()));

    assert_eq!(lease(&Sources::default()), ("30s".into(), "default".into()));
}

#[test]
fn a_file_holds_every_kind_of_value() {
    let settings = Settings::resolve(&file(
        r#"
        listen = "[::]:50052"
        insecure_any_interface = true
        store = "memory:"
        runtimes = "cores"
        reflection = false
        lease_expiry_action = "hold"
        max_response_bytes = 65_536
        memtable_bytes = "8MiB"
        max_in_flight = 0x10
        connection_max_age = "off"
        keepalive_interval = "1m 30s"
        restart_grace = "0s"
        log = "warn,onced=debug"
        log_format = "json"
        "#,
    ))
    .unwrap();

    assert_eq!(settings.listen, "[::]:50052".parse().unwrap());
    assert_eq!(settings.store, StoreUrl::Memory);
    assert!(!settings.reflection);
    assert_eq!(settings.lease_expiry_action, LeaseExpiryAction::Hold);
    assert_eq!(settings.max_response_bytes, 65_536);
    assert_eq!(settings.memtable_bytes, 8 << 20);
    assert_eq!(settings.max_in_flight, 16);
    assert_eq!(settings.connection_max_age, None);
    assert_eq!(settings.keepalive_interval, Some(Duration::from_secs(90)));
    assert_eq!(settings.restart_grace, Span::default());
    assert_eq!(settings.log, "warn,onced=debug");
    assert_eq!(settings.log_format, LogFormat::Json);
}

#[test]
fn all_faults_are_reported_at_once_with_what_to_give_instead() {
    let mut sources = file("lease_defualt = \"30s\"\nmax_in_flight = \"9\"\n\nlisten = 50051\n");
    sources.flags = flags(&[("retention_max", "90"), ("runtimes", "0"), ("log", "inof")]).flags;
    sources.environment =
        variables(&[("ONCED_STORE", "redis:"), ("ONCED_LEASE_DEFUALT", "30s")]).environment;

    let error = Settings::resolve(&sources).unwrap_err();

    assert_eq!(
        error.to_string(),
        "the settings have 8 faults:
  ONCED_LEASE_DEFUALT (from ONCED_LEASE_DEFUALT): is no setting; did you mean ONCED_LEASE_DEFAULT?
  lease_defualt (from onced.toml:1): is no setting; did you mean lease_default?
  listen (from onced.toml:4): is a number; write it in quotes; give one such as 127.0.0.1:50051 \
         or [::]:50051
  store (from ONCED_STORE): \"redis:\" is not a store; give rocksdb:PATH or memory:
  runtimes (from --runtimes): \"0\" is out of bounds; give cores or a number, from 1 to 256
  retention_max (from --retention-max): \"90\" has no unit; give a duration such as 500ms, 30s or \
         24h, from 1ms to 3660d
  max_in_flight (from onced.toml:2): is a string; write it without quotes; give a number, from 1 \
         to 1000000
  log (from --log): \"inof\" has the unknown level \"inof\"; give off, error, warn, info, debug or \
         trace, or MODULE=LEVEL, with commas between"
    );
}

#[test]
fn a_file_that_is_not_toml_is_a_fault_beside_the_others() {
    let mut sources = file("reflection = true\nstore = = \"memory:\"\nreflection = true\n");
    sources.flags = flags(&[("drain_limit", "never")]).flags;
    let faults = faults(&sources);
    assert!(faults.iter().any(|fault| fault.starts_with("onced.toml:2: ")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("onced.toml:3: duplicate")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("drain_limit (from --")), "{faults:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let file = ConfigFile::read(PathBuf::from("/nonexistent/onced.toml"));
    let faults = faults(&Sources { file: Some(file), ..Sources::default() });
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("/nonexistent/onced.toml: cannot be read: "), "{faults:?}");
}

#[test]
fn a_flag_given_twice_is_a_fault() {
    let faults = faults(&flags(&[("log_format", "text"), ("log_format", "json")]));
    assert_eq!(faults, ["log_format (from --log-format): is given more than once; give it once"]);
}

#[test]
fn a_value_that_a_stronger_source_overrides_is_not_looked_at() {
    let mut sources = variables(&[("ONCED_LOG_FORMAT", "yaml")]);
    sources.flags = flags(&[("log_format", "json")]).flags;
    assert_eq!(Settings::resolve(&sources).unwrap().log_format, LogFormat::Json);
}

#[test]
fn spans_have_to_be_in_order() {
    assert_eq!(
        faults(&flags(&[("lease_min", "40s")])),
        ["lease_min (from --lease-min): \"40s\" is above lease_default, which is \"30s\" by \
          default; change one of them"]
    );
    let mut sources = flags(&[("lease_default", "3m")]);
    sources.file = file("lease_max = \"2m\"").file;
    assert_eq!(
        faults(&sources),
        ["lease_default (from --lease-default): \"3m\" is above lease_max, which is \"2m\" (from \
          onced.toml:1); change one of them"]
    );
    assert_eq!(
        faults(&flags(&[("retention_max", "50ms")])),
        ["retention_max (from --retention-max): \"50ms\" is below retention_min, which is \
          \"100ms\" by default; change one of them"]
    );
}

#[test]
fn only_with_credentials_or_in_so_many_words_others_than_this_host_are_served() {
    for address in ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051", "[::ffff:192.0.2.1]:50051"] {
        assert_eq!(
            faults(&flags(&[("listen", address)])),
            [format!(
                "listen (from --listen): \"{address}\" is not on loopback, and without credentials \
                 whoever reaches it may do everything; name a file of credentials, or listen on \
                 127.0.0.1, or say insecure_any_interface = true"
            )]
        );
        let known = [("listen", address), ("credentials", "credentials.toml")];
        assert!(Settings::resolve(&flags(&known)).is_ok());
        let said = [("listen", address), ("insecure_any_interface", "true")];
        assert!(Settings::resolve(&flags(&said)).is_ok());
    }
    for address in ["127.0.0.1:50051", "127.8.8.8:50051", "[::1]:50051", "[::ffff:127.0.0.1]:1"] {
        assert!(Settings::resolve(&flags(&[("listen", address)])).is_ok(), "{address}");
    }
    // Whether there are credentials is not known, so the address is not held against them.
    let unread = faults(&flags(&[("listen", "0.0.0.0:1"), ("credentials", "")]));
    assert_eq!(
        unread,
        ["credentials (from --credentials): \"\" is empty; give off or the path of a file"]
    );
}

#[test]
fn what_belongs_together_for_tls_is_given_together() {
    for (given, problem) in [
        ("tls_cert", "is given, and tls_key is not; give both or neither"),
        ("tls_key", "is given, and tls_cert is not; give both or neither"),
        (
            "tls_client_ca",
            "is given, and tls_cert is not; without TLS there are no client certificates",
        ),
    ] {
        let setting = Setting::named(given).unwrap();
        assert_eq!(
            faults(&flags(&[(given, "a.pem")])),
            [format!("{given} (from --{}): \"a.pem\" {problem}", setting.flag())]
        );
    }
    assert_eq!(
        faults(&flags(&[("tls_client_auth", "optional"), ("tls_key", "a"), ("listen", "[::]:1")]))
            .len(),
        3
    );
    let all = [("tls_cert", "a"), ("tls_key", "b"), ("tls_client_ca", "c")];
    let settings = Settings::resolve(&flags(&all)).unwrap();
    assert_eq!(settings.tls_client_ca, Some(PathBuf::from("c")));
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [
        ("ONCED_CONFIG", "onced.toml"),
        ("ONCED_SERVER", "http://127.0.0.1:50051"),
        ("ONCED_OWNER_TOKEN", "secret"),
        ("ONCED_TOKEN", "secret"),
        ("ONCED_TOKEN_FILE", "shop.token"),
        ("ONCED_TLS_CA", "ca.crt"),
        ("ONCED_CLIENT_CERT", "shop.crt"),
        ("ONCED_CLIENT_KEY", "shop.key"),
        ("ONCED_REQUIRE_CLIENTS", "1"),
        ("ONCED_TEST_SEED", "42"),
        ("ONCED_KEY", "report"),
        ("ONCED_NAMESPACE", "default"),
        ("ONCED_ATTEMPT", "1"),
        ("ONCED_FENCING_TOKEN", "1"),
        ("ONCED_TAKEOVER", "false"),
        // What Kubernetes makes of services called `onced` and `onced-canary`.
        ("ONCED_SERVICE_HOST", "10.0.0.7"),
        ("ONCED_SERVICE_PORT", "50051"),
        ("ONCED_SERVICE_PORT_GRPC", "50051"),
        ("ONCED_PORT", "tcp://10.0.0.7:50051"),
        ("ONCED_PORT_50051_TCP", "tcp://10.0.0.7:50051"),
        ("ONCED_PORT_50051_TCP_ADDR", "10.0.0.7"),
        ("ONCED_CANARY_SERVICE_HOST", "10.0.0.8"),
        ("ONCED_CANARY_PORT", "tcp://10.0.0.8:50051"),
    ];
    Settings::resolve(&variables(&others)).unwrap();

    for wrong in ["ONCED_LISTEN_PORT", "ONCED_PORT", "ONCED_lease_default", "ONCED_"] {
        let faults = faults(&variables(&[(wrong, "50051")]));
        assert!(faults[0].starts_with(&format!("{wrong} (from {wrong}): is no setting; ")));
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_a_fault() {
    use std::os::unix::ffi::OsStringExt as _;
    let value = OsString::from_vec(vec![0xff]);
    let environment = vec![("ONCED_LOG".to_owned(), value)];
    let faults = faults(&Sources { environment, ..Sources::default() });
    assert!(faults[0].starts_with("log (from ONCED_LOG): is not UTF-8; give "), "{faults:?}");
}

#[test]
fn where_to_be_watched_is_an_address_or_a_url_or_off() {
    let mut sources = flags(&[("metrics_listen", "off"), ("slow_call", "off")]);
    sources.file = file("otlp_endpoint = \"http://otel:4317\"\notlp_sampling = 0.25\n").file;
    let settings = Settings::resolve(&sources).unwrap();
    assert_eq!((settings.metrics_listen, settings.slow_call), (None, None));
    assert_eq!(settings.otlp_endpoint.as_deref(), Some("http://otel:4317"));
    assert_eq!(settings.otlp_sampling.get(), 0.25);

    let wrong = [
        (
            "metrics_listen",
            "9464",
            "\"9464\" is not an IP address with a port; give off or one such",
        ),
        ("otlp_endpoint", "otel:4317", "\"otel:4317\" is not an http:// URL; give off or one such"),
        (
            "otlp_endpoint",
            "https://otel",
            "\"https://otel\" asks for TLS, which is not spoken here",
        ),
        ("otlp_endpoint", "http://otel/v1", "\"http://otel/v1\" has a path"),
        (
            "otlp_sampling",
            "1.5",
            "\"1.5\" is out of bounds; give a number such as 0.01, from 0 to 1",
        ),
        ("otlp_sampling", "-1", "\"-1\" is not a number"),
        ("slow_call", "0s", "\"0s\" is out of bounds"),
    ];
    for (name, value, problem) in wrong {
        let faults = faults(&flags(&[(name, value)]));
        assert!(faults.len() == 1 && faults[0].contains(problem), "{faults:?}");
    }
    let quoted = Sources { file: file("otlp_sampling = \"0.25\"").file, ..Sources::default() };
    assert!(faults(&quoted)[0].contains("is a string; write it without quotes"));
}

#[test]
fn ratios_are_read_and_shown() {
    for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.01", 0.01), ("0.000001", 1e-6)] {
        let read = Ratio::read(text).unwrap();
        assert_eq!((read.get(), read.show().as_str()), (ratio, text));
    }
    for text in ["", ".5", "1.", "1e-3", "+1", "0.0000001", "nan", "0,5"] {
        assert!(Ratio::read(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_and_spans_are_read_and_shown() {
    for (text, bytes) in [("0", 0), ("4096B", 4_096), ("64KiB", 65_536), ("2 GiB", 2 << 30)] {
        assert_eq!(Size::read(text), Ok(Size(bytes)));
        assert_eq!(Size::read(&Size(bytes).show()), Ok(Size(bytes)));
    }
    for text in ["", "KiB", "-1", "1.5MiB", "1MB", "+1"] {
        assert_eq!(Size::read(text), Err("is not a size".to_owned()), "{text}");
    }
    assert_eq!(Size::read("99999999TiB"), Err("is out of bounds".to_owned()));

    for (millis, shown) in [
        (0, "0s"),
        (1, "1ms"),
        (1_500, "1500ms"),
        (90_000, "90s"),
        (3_600_000, "1h"),
        (86_400_000, "24h"),
        (172_800_000, "2d"),
    ] {
        let span = Timespan(Duration::from_millis(millis));
        assert_eq!(span.show(), shown);
        assert_eq!(Timespan::read(shown), Ok(span));
    }
    assert_eq!(Timespan::read("1us"), Err("is not in whole milliseconds".to_owned()));
    assert_eq!(Timespan::read("3 fortnights"), Err("has the unknown unit \"fortnights\"".into()));
}

#[test]
fn the_reference_table_has_a_line_for_every_setting() {
    let table = reference_table();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(table.contains(
        "| `keepalive_interval` | `60s` | 1s to 1h, or off | How long a connection may be silent \
         before the server pings it |"
    ));
}
