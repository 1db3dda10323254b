//! What the README says of the code, held against the code.

use std::path::Path;

use onced::access::Credentials;
use onced::config::{ConfigFile, Settings, Sources, namespace_table, reference_table};

#[test]
fn the_tables_of_settings_in_the_readme_are_those_in_force() {
    let readme = include_str!("../../README.md");
    for table in [reference_table(), namespace_table()] {
        assert!(readme.contains(&table), "put this into the README's settings:\n\n{table}");
    }
}

#[test]
fn the_settings_file_in_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let file = ConfigFile { path: "onced.toml".into(), text: Ok(text.to_owned()) };
    let settings = Settings::resolve(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    assert!(settings.strict && settings.namespaces.len() == 3);
}

#[test]
fn the_credentials_in_the_readme_are_a_file_of_credentials() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n# credentials.toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let credentials = Credentials::read(Path::new("credentials.toml"), text, true).unwrap();
    assert_eq!(credentials.principals(), 2);
}
