//! What the README says of the code, held against the code.

use onced::config::reference_table;

#[test]
fn the_table_of_settings_in_the_readme_is_the_one_in_force() {
    let readme = include_str!("../../README.md");
    let table = reference_table();
    assert!(readme.contains(&table), "put this into the README's section on settings:\n\n{table}");
}
