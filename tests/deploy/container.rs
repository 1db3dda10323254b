//! The container file: linted, and what it says of onced held against onced. No image is built
//! here, since that takes base images from a registry.

use std::path::Path;
use std::process::Command;

use crate::process::onced;
use crate::skip::skip;
use crate::tool::tool;
use crate::{deployed, read, run, said_by};

fn container_file() -> String {
    // An instruction may go on on the next line.
    read(&deployed("Containerfile")).replace("\\\n", " ")
}

/// What stands behind the one instruction of this name.
fn instruction(name: &str) -> String {
    let file = container_file();
    let found: Vec<_> = file.lines().filter_map(|line| line.strip_prefix(name)).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0].trim().to_owned()
}

#[test]
fn hadolint_finds_no_fault_with_the_container_file() {
    let hadolint = match tool("ONCED_TEST_HADOLINT", "hadolint", &["--version"]) {
        Ok(hadolint) => hadolint,
        Err(why) => return skip("hadolint_finds_no_fault_with_the_container_file", &why),
    };
    let lint = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Containerfile");
        std::fs::write(&file, text).unwrap();
        run(Command::new(&hadolint).args(["--no-color", "--failure-threshold", "style"]).arg(file))
    };
    let text = read(&deployed("Containerfile"));
    assert_eq!(lint(&text), (true, String::new()));

    // It would have said so.
    let (passed, said) = lint(&text.replace("cc-debian12:nonroot", "cc-debian12"));
    assert!(!passed && said.contains("DL3006"), "{said}");
}

#[test]
fn the_server_takes_the_settings_of_the_image() {
    let check = |more: &[&str]| {
        let mut command = onced();
        for variable in instruction("ENV ").split_whitespace() {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, value);
        }
        run(command.args(["serve", "--check"]).args(more))
    };
    let (taken, said) = check(&[]);
    assert!(!taken && said.contains("credentials"), "nobody said who may call: {said}");
    let (taken, shown) = check(&["--insecure-any-interface", "true"]);
    assert!(taken, "{shown}");
    assert!(shown.contains("rocksdb:/var/lib/onced/data"), "{shown}");
    assert_eq!(instruction("VOLUME "), "/var/lib/onced");
    assert_eq!(instruction("CMD ["), "\"serve\"]");
}

#[test]
fn the_probe_of_the_image_asks_where_its_server_listens() {
    let probe = instruction("HEALTHCHECK ");
    let (_, command) = probe.split_once("CMD ").unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(words[0], "/usr/local/bin/onced");
    // It names no server, so it asks the one at the usual port.
    let help = said_by(onced().args(&words[1..]).arg("--help"));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("[default: http://127.0.0.1:50051]"), "{help}");
    assert!(instruction("ENV ").contains("ONCED_LISTEN=0.0.0.0:50051"));
}

#[test]
fn the_image_is_built_with_a_compiler_that_is_new_enough() {
    let version =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let file = container_file();
    let (_, image) = file.split_once("/rust:").unwrap();
    let (compiler, _) = image.split_once('-').unwrap();
    assert!(version(compiler) >= version(env!("CARGO_PKG_RUST_VERSION")), "{compiler}");
}

#[test]
fn everything_that_the_build_of_the_image_is_given_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = read(&root.join(".dockerignore"));
    for path in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(root.join(path).exists(), "{path}");
    }
    assert!(ignored.lines().any(|line| line == "*"));
}
