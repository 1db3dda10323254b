//! Namespaces as a file lists them: what each has, where it came from, and all faults at once.

use super::*;
use crate::storage::Quota;

fn namespace(name: &str) -> Namespace {
    Namespace::new(name.to_owned()).unwrap()
}

#[test]
fn a_namespace_has_what_its_table_says_and_otherwise_what_the_server_has() {
    let mut sources = file(
        r#"
        retention_max = "30d"

        [namespaces.orders]
        lease_default = "10s"
        lease_max = "1m"
        retention_default = "7d"
        retention_max = "14d"
        lease_expiry_action = "hold"
        max_response_bytes = "4KiB"
        fingerprint_required = true
        shadow = true
        quota_keys = 1_000
        quota_bytes = "1MiB"

        [namespaces."mail.eu-1"]
        shadow = false
        "#,
    );
    sources.flags = flags(&[("lease_default", "20s")]).flags;

    let settings = Settings::resolve(&sources).unwrap();

    let orders = &settings.namespaces[&namespace("orders")];
    let (secs, days) = (Span::from_secs, |days: i64| Span::from_secs(days * 24 * 60 * 60));
    assert_eq!(
        *orders,
        NamespaceSettings {
            lease: SpanBounds { min: Span::from_millis(100), default: secs(10), max: secs(60) },
            retention: SpanBounds { min: Span::from_millis(100), default: days(7), max: days(14) },
            lease_expiry_action: LeaseExpiryAction::Hold,
            max_response_bytes: 4_096,
            fingerprint_required: true,
            shadow: true,
            quota: Quota { keys: Some(1_000), bytes: Some(1 << 20) },
        }
    );
    let mail = &settings.namespaces[&namespace("mail.eu-1")];
    assert_eq!(
        *mail,
        NamespaceSettings {
            lease: settings.lease,
            retention: settings.retention,
            lease_expiry_action: settings.lease_expiry_action,
            max_response_bytes: settings.max_response_bytes,
            fingerprint_required: false,
            shadow: false,
            quota: Quota::default(),
        }
    );
    assert_eq!((mail.lease.default, mail.retention.max), (secs(20), days(30)));
}

#[test]
fn each_value_of_a_namespace_is_shown_with_where_it_came_from() {
    let mut sources =
        file("max_response_bytes = 0\n[namespaces.orders]\nlease_max = \"2m\"\nquota_keys = 5\n");
    sources.environment = variables(&[("ONCED_LEASE_DEFAULT", "9s")]).environment;
    let resolved = Resolved::of(&sources).unwrap();
    let shown: Vec<_> = resolved.namespaces[&namespace("orders")]
        .iter()
        .map(|Effective { name, value, origin }| format!("{name} {value} {origin}"))
        .collect();
    assert_eq!(
        shown,
        [
            "lease_default 9s the server's (ONCED_LEASE_DEFAULT)",
            "lease_min 100ms the server's (default)",
            "lease_max 2m onced.toml:3",
            "lease_expiry_action takeover the server's (default)",
            "retention_default 24h the server's (default)",
            "retention_min 100ms the server's (default)",
            "retention_max 90d the server's (default)",
            "max_response_bytes 0 the server's (onced.toml:1)",
            "fingerprint_required false default",
            "shadow false default",
            "quota_keys 5 onced.toml:4",
            "quota_bytes off default",
        ]
    );
}

#[test]
fn all_faults_of_namespaces_are_reported_at_once_with_namespace_and_key() {
    let mut sources = file(
        r#"[namespaces.orders]
lease_defualt = "10s"
lease_max = "50ms"
quota_keys = 0
quota_bytes = "lots"
shadow = "true"
listen = "[::]:50051"

[namespaces.Mail]
quota_keys = "many"

[namespaces.mail.eu]
shadow = true

[namespaces]
billing = true

[namespaces.""]

[namespace.jobs]
"#,
    );
    sources.flags = flags(&[("runtimes", "0")]).flags;

    let error = Settings::resolve(&sources).unwrap_err();

    let all = "a namespace has lease_default, lease_max, lease_expiry_action, retention_default, \
               retention_max, max_response_bytes, fingerprint_required, shadow, quota_keys, \
               quota_bytes";
    let expected = [
        "  namespaces.orders.lease_defualt (from onced.toml:2): is no setting of a namespace; did \
         you mean lease_default?",
        &format!(
            "  namespaces.orders.listen (from onced.toml:7): is no setting of a namespace; {all}"
        ),
        "  namespaces.Mail (from onced.toml:9): is no name of a namespace: byte 0 is outside a-z, \
         0-9, '-', '_' and '.'",
        "  namespaces.Mail.quota_keys (from onced.toml:10): \"many\" is not a whole number; give \
         off or a number, from 1 to 1000000000000",
        "  namespaces.mail.eu (from onced.toml:12): is a table; write a name with dots in quotes, \
         [namespaces.\"mail.eu\"]",
        "  namespaces.billing (from onced.toml:16): has the wrong type, boolean; write a table, \
         [namespaces.billing]",
        "  namespaces.\"\" (from onced.toml:18): is no name of a namespace: has 0 bytes; must have \
         1 to 63",
        "  namespace (from onced.toml:20): is no setting; did you mean namespaces?",
        "  runtimes (from --runtimes): \"0\" is out of bounds; give cores or a number, from 1 to \
         256",
        "  namespaces.orders.shadow (from onced.toml:6): is a string; write it without quotes; \
         give true or false",
        "  namespaces.orders.quota_keys (from onced.toml:4): \"0\" is out of bounds; give off or \
         a number, from 1 to 1000000000000",
        "  namespaces.orders.quota_bytes (from onced.toml:5): \"lots\" is not a size; give off or \
         a size such as 64KiB, 1MiB or a number of bytes, from 1 to 1024TiB",
        "  namespaces.orders.lease_max (from onced.toml:3): \"50ms\" is below lease_min, which is \
         the server's \"100ms\"; change one of them",
    ];
    let mut told: Vec<_> = error.faults.iter().map(|fault| format!("  {fault}")).collect();
    let mut expected = expected.map(str::to_owned).to_vec();
    told.sort();
    expected.sort();
    assert_eq!(told, expected, "{error}");
}

#[test]
fn spans_of_a_namespace_have_to_be_in_order_with_those_of_the_server_too() {
    assert_eq!(
        faults(&file("[namespaces.orders]\nlease_max = \"10s\"")),
        ["namespaces.orders.lease_max (from onced.toml:2): \"10s\" is below lease_default, which \
          is the server's \"30s\"; change one of them"]
    );
    assert_eq!(
        faults(&file("[namespaces.orders]\nlease_max = \"10s\"\nlease_default = \"11s\"")),
        ["namespaces.orders.lease_default (from onced.toml:3): \"11s\" is above lease_max, which \
          is \"10s\" (from onced.toml:2); change one of them"]
    );
    assert_eq!(
        faults(&file("[namespaces.\"a.b\"]\nretention_default = \"1ms\"")),
        ["namespaces.\"a.b\".retention_default (from onced.toml:2): \"1ms\" is below \
          retention_min, which is the server's \"100ms\"; change one of them"]
    );
    // What stands in for a server's setting that is at fault is held against nothing.
    assert_eq!(
        faults(&file("lease_max = \"9 moons\"\n[namespaces.orders]\nlease_default = \"300d\""))
            .len(),
        1
    );
}

#[test]
fn both_bounds_of_every_setting_of_a_namespace_can_be_given_and_nothing_beyond_them() {
    for (name, min, max, beyond) in [
        ("quota_keys", "1", "1000000000000", "1000000000001"),
        ("quota_bytes", "1", "\"1024TiB\"", "\"1025TiB\""),
        ("max_response_bytes", "0", "\"8MiB\"", "\"9MiB\""),
        ("retention_max", "\"24h\"", "\"3660d\"", "\"3661d\""),
        ("lease_max", "\"30s\"", "\"366d\"", "\"367d\""),
    ] {
        let given = |value: &str| file(&format!("[namespaces.orders]\n{name} = {value}"));
        Settings::resolve(&given(min)).unwrap();
        Settings::resolve(&given(max)).unwrap();
        let faults = faults(&given(beyond));
        assert!(faults[0].contains("is out of bounds; give "), "{faults:?}");
    }
}

#[test]
fn off_is_a_quota_too() {
    let settings =
        Settings::resolve(&file("[namespaces.a]\nquota_keys = \"off\"\nquota_bytes = \"off\""));
    assert_eq!(settings.unwrap().namespaces[&namespace("a")].quota, Quota::default());
}

#[test]
fn what_is_not_a_table_of_tables_is_a_fault() {
    assert_eq!(
        faults(&file("namespaces = [\"orders\"]")),
        ["namespaces (from onced.toml:1): has the wrong type, array; write tables such as \
          [namespaces.orders]"]
    );
}

#[test]
fn a_strict_server_has_to_list_a_namespace() {
    assert_eq!(
        faults(&flags(&[("strict", "true")])),
        ["strict (from --strict): is true and no namespace is listed, so every call would be \
          refused; list them in the file, each as [namespaces.NAME]"]
    );
    let strict = Settings::resolve(&file("strict = true\n[namespaces.orders]")).unwrap();
    assert!(strict.strict);
    assert_eq!(strict.namespaces.keys().collect::<Vec<_>>(), [&namespace("orders")]);
}

#[test]
fn the_table_of_a_namespace_has_a_line_for_every_setting_of_it() {
    let table = namespace_table();
    assert_eq!(table.lines().count(), 10 + 2);
    assert!(table.contains("| `lease_max` | the server's | 1ms to 366d | The longest lease; "));
    assert!(table.contains("| `quota_keys` | `off` | 1 to 1000000000000, or off | "));
}
