//! The dashboard and the alert rules, held against what a server shows: a metric that was renamed
//! would leave an empty panel, and an alert that never fires.

use std::collections::BTreeSet;
use std::path::PathBuf;

use onced::config::{ConfigFile, Settings, Sources};
use tempfile::TempDir;

use crate::scrape::scrape;
use crate::server::{TestServer, settings};

/// The names of metrics in `text`.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    let metrics = words.filter(|word| word.starts_with("onced_") || word.starts_with("process_"));
    // The beginning of several names is none.
    let whole = metrics.filter(|word| !word.ends_with('_'));
    whole.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_metric_that_the_dashboard_and_the_rules_name_is_there() {
    // Given a server that shows all there can be.
    let dir = TempDir::new().unwrap();
    let file = "[namespaces.orders]\nquota_keys = 1\nquota_bytes = 1\nshadow = true\n";
    let file = ConfigFile { path: PathBuf::from("onced.toml"), text: Ok(file.to_owned()) };
    let flags = vec![("otlp_endpoint", "http://127.0.0.1:9".to_owned())];
    let sources = Sources { file: Some(file), flags, ..Sources::default() };
    let Settings { namespaces, otlp_endpoint, .. } = Settings::resolve(&sources).unwrap();
    let store = format!("rocksdb:{}", dir.path().display());
    let (server, metrics) =
        TestServer::watched(Settings { namespaces, otlp_endpoint, ..settings(&store) });
    let _client = server.client().await;
    let samples = tokio::task::spawn_blocking(move || scrape(metrics)).await.unwrap();

    let shown: BTreeSet<_> = samples.names().into_iter().map(str::to_owned).collect();
    let is_shown = |name: &String| {
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
        shown.contains(name) || parts.into_iter().any(|name| shown.contains(name))
    };
    let deployed = [
        ("the dashboard", include_str!("../../.deploy/grafana/onced.json"), 40),
        ("the rules", include_str!("../../.deploy/prometheus/onced.rules.yml"), 20),
        (
            "the test of the rules",
            include_str!("../../.deploy/prometheus/onced.rules.test.yml"),
            20,
        ),
        ("the README", include_str!("../../README.md"), 5),
    ];
    for (what, text, at_least) in deployed {
        let named = named(text);
        assert!(named.len() >= at_least, "{what} names {named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !is_shown(name)).collect();
        assert!(missing.is_empty(), "{what} names what is not there: {missing:?}");
    }
}
