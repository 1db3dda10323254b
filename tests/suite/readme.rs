//! What the README says of the code, held against the code.

use onced::config::{namespace_table, reference_table};

#[test]
fn the_tables_of_settings_in_the_readme_are_those_in_force() {
    let readme = include_str!("../../README.md");
    for table in [reference_table(), namespace_table()] {
        assert!(readme.contains(&table), "put this into the README's settings:\n\n{table}");
    }
}
