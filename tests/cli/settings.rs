//! `onced serve --check`: what holds, for the server and in each namespace, and where each
//! value came from. `onced settings`: what can be set at all.

use serde_json::json;

use crate::process::alone;

#[test]
fn a_check_shows_what_holds_in_each_namespace_and_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("onced.toml");
    let text = "\
strict = true
[namespaces.payments]
lease_expiry_action = \"hold\"
lease_max = \"5m\"
[namespaces.\"mail.eu\"]
quota_keys = 1000
";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let serve = ["serve", "--config", file, "--lease-default", "20s", "--check"];

    let shown = alone(&serve);
    let lines: Vec<_> = shown.text(0).lines().map(str::split_whitespace).collect();
    let lines: Vec<_> =
        lines.into_iter().map(|words| words.collect::<Vec<_>>().join(" ")).collect();
    let of = |namespace: &str| {
        let begin = lines.iter().position(|line| line == &format!("namespace {namespace}"));
        lines[begin.unwrap() + 1..].iter().take_while(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    let payments = of("payments");
    for line in [
        format!("lease_expiry_action hold {file}:3"),
        format!("lease_max 5m {file}:4"),
        "lease_default 20s the server's (--lease-default)".to_owned(),
        "retention_max 90d the server's (default)".to_owned(),
        "quota_keys off default".to_owned(),
    ] {
        assert!(payments.contains(&&line), "{line}: {payments:#?}");
    }
    assert!(of("mail.eu").contains(&&format!("quota_keys 1000 {file}:6")));

    let report = alone(&[&serve[..], &["--json"]].concat()).json(0);
    assert_eq!(
        report["settings"]["strict"],
        json!({ "value": "true", "source": format!("{file}:1") })
    );
    assert_eq!(
        report["namespaces"]["payments"]["lease_default"],
        json!({ "value": "20s", "source": "the server's (--lease-default)" })
    );
    assert_eq!(report["namespaces"].as_object().unwrap().len(), 2);
}

#[test]
fn faults_of_namespaces_are_told_with_all_others() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("onced.toml");
    std::fs::write(&file, "[namespaces.Orders]\nquota_keys = 0\nleese_max = \"1s\"\n").unwrap();
    let refused = alone(&["serve", "--config", file.to_str().unwrap(), "--runtimes", "0"]);
    let message = refused.complaint(2);
    assert!(message.starts_with("onced: the settings have 4 faults:\n"), "{message}");
    for fault in [
        "namespaces.Orders ",
        "namespaces.Orders.quota_keys",
        "namespaces.Orders.leese_max",
        "did you mean lease_max?",
    ] {
        assert!(message.contains(fault), "{fault} is missing: {message}");
    }
}

#[test]
fn the_settings_that_are_listed_are_those_of_the_readme() {
    let readme = include_str!("../../README.md");
    let listed = alone(&["settings"]);
    let rows: Vec<_> = listed.text(0).lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.iter().any(|row| row.starts_with("| `lease_default` | `30s` |")), "{rows:#?}");
    assert!(rows.iter().any(|row| row.starts_with("| `quota_keys` | `off` |")), "{rows:#?}");
    for row in rows {
        assert!(readme.contains(row), "put this into the README's settings: {row}");
    }
}
