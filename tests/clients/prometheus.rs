//! The alert rules and the dashboard, in a real Prometheus that watches real servers.
//!
//! `prometheus` and `promtool` are found on the PATH (Debian's package `prometheus` has both), or
//! where `ONCED_TEST_PROMETHEUS` and `ONCED_TEST_PROMTOOL` point.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, onced};
use crate::scrape::{exchange, scrape};
use crate::skip::skip;
use crate::tool;

/// When a test gives up and fails.
const PATIENCE: Duration = Duration::from_secs(120);

fn deployed(path: &str) -> String {
    format!("{}/.deploy/{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_alert_rules_are_right_and_each_fires_when_it_should() {
    let promtool = match tool("ONCED_TEST_PROMTOOL", "promtool", &["--version"]) {
        Ok(program) => program,
        Err(why) => {
            return skip("the_alert_rules_are_right_and_each_fires_when_it_should", &why);
        }
    };
    let checks: [&[&str]; 3] = [
        &["check", "rules", &deployed("prometheus/onced.rules.yml")],
        &["check", "config", &deployed("prometheus/prometheus.yml")],
        &["test", "rules", &deployed("prometheus/onced.rules.test.yml")],
    ];
    for check in checks {
        let output = Command::new(&promtool).args(check).output().unwrap();
        assert!(output.status.success(), "{check:?}: {output:?}");
    }
}

#[test]
fn what_a_server_shows_follows_the_conventions() {
    let promtool = match tool("ONCED_TEST_PROMTOOL", "promtool", &["--version"]) {
        Ok(program) => program,
        Err(why) => return skip("what_a_server_shows_follows_the_conventions", &why),
    };
    let dir = TempDir::new().unwrap();
    let watched = ["--metrics-listen", "127.0.0.1:0"];
    let server = Process::serve(&dir.path().join("data"), &watched);
    let mut check = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let shown = scrape(server.metrics()).0;
    check.stdin.take().unwrap().write_all(shown.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

/// A Prometheus that is killed when it is dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes `targets` every second, with these rules.
    fn start(program: &str, dir: &Path, rules: &str, targets: &[SocketAddr]) -> Self {
        std::fs::write(dir.join("rules.yml"), rules).unwrap();
        let targets: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n  \
             - job_name: onced\n    \
               static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, address }
    }

    /// What its API says; `None` where it does not answer yet.
    fn api(&self, path: &str) -> Option<Value> {
        // Of this version every answer ends with its connection.
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\nhost: test\r\n\r\n");
        std::net::TcpStream::connect(self.address).ok()?;
        let answer = exchange(self.address, request.as_bytes());
        serde_json::from_str(&answer.body).ok()
    }

    /// The names of the alerts that fire.
    fn firing(&self) -> Vec<String> {
        let alerts = self.api("alerts").unwrap_or_default();
        let alerts = alerts["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Everything but letters and digits as `%XX`.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[test]
fn alerts_fire_in_a_real_prometheus_and_the_dashboard_asks_it_questions_that_it_understands() {
    let program = match tool("ONCED_TEST_PROMETHEUS", "prometheus", &["--version"]) {
        Ok(program) => program,
        Err(why) => {
            return skip(
                "alerts_fire_in_a_real_prometheus_and_the_dashboard_asks_it_questions_that_it_understands",
                &why,
            );
        }
    };
    let dir = TempDir::new().unwrap();

    // Given a server whose disk is nearly full, one with a reservation in doubt, and one that is
    // down.
    let watched = ["--metrics-listen", "127.0.0.1:0"];
    let full = [&watched[..], &["--min-free-disk-bytes", "1TiB"]].concat();
    let full = Process::serve(&dir.path().join("full"), &full);
    let doubtful = Process::serve(&dir.path().join("doubtful"), &watched);
    let url = format!("http://{}", doubtful.address);
    let reserved = onced()
        .args(["reserve", "order-1", "--lease", "100ms", "--lease-expiry-action", "hold"])
        .args(["--server", &url])
        .output()
        .unwrap();
    assert!(reserved.status.success(), "{reserved:?}");
    let down = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();

    // When a Prometheus watches them that has less patience than the rules ask for,
    let rules = std::fs::read_to_string(deployed("prometheus/onced.rules.yml")).unwrap();
    let patient = |line: &&str| !line.trim_start().starts_with("for: ");
    let hasty = rules.lines().filter(patient).collect::<Vec<_>>().join("\n");
    assert!(hasty.len() < rules.len());
    let targets = [full.metrics(), doubtful.metrics(), down];
    let prometheus = Prometheus::start(&program, dir.path(), &hasty, &targets);

    // then the alerts for these three fire. Rules that look at rates may as well: without their
    // patience they take a few seconds for a trend.
    let began_at = Instant::now();
    let expected = ["OncedDown", "OncedInDoubt", "OncedStoreFull"];
    loop {
        let firing = prometheus.firing();
        if expected.iter().all(|name| firing.iter().any(|it| it == name)) {
            let others = ["OncedPoisoned", "OncedCallsFail", "OncedNotReady", "OncedQueueFull"];
            assert!(!others.iter().any(|name| firing.iter().any(|it| it == name)), "{firing:?}");
            break;
        }
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(began_at.elapsed() < PATIENCE, "{firing:?} fire; Prometheus says:\n{}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let rules = prometheus.api("rules").unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");

    // And all that the dashboard asks is answered.
    let dashboard = std::fs::read_to_string(deployed("grafana/onced.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = 0;
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let question = target["expr"].as_str().unwrap();
        let question = question.replace("$__rate_interval", "1m").replace("$instance", ".*");
        let answer = prometheus.api(&format!("query?query={}", escaped(&question))).unwrap();
        assert_eq!(answer["status"], "success", "{question}: {answer}");
        asked += 1;
    }
    assert!(asked > 40, "{asked}");
}
