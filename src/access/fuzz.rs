//! The fuzz target of credentials: a file as it may be written, damaged at will, lets in whoever
//! it names and nobody else, or each of its faults has a name and quotes no secret.

use std::path::Path;

use bolero::TypeGenerator;

use super::*;
use crate::fuzz::{Harm, Tally, Text, time};

/// What somebody wrote into the list of tokens instead of its digest.
const SECRET: &str = "onced_IjpQ0v7yXo5NfTzC1mS9rKdE3uLhGbWqA8tVxRk2Zw4";

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    #[generator(bolero::produce_with::<Vec<Entry>>().len(0..4_usize))]
    principals: Vec<Entry>,
    harm: Option<Harm>,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Entry {
    name: Text,
    role: u8,
    pattern: u8,
    namespace: Text,
    token: u8,
    is_a_secret: bool,
}

impl Entry {
    fn table(&self, number: usize) -> String {
        let role = ["reader", "writer", "operator", "king"][usize::from(self.role % 4)];
        let pattern = match self.pattern % 4 {
            0 => "*".to_owned(),
            1 => "mail.*".to_owned(),
            2 => "orders".to_owned(),
            _ => self.namespace.to_text(),
        };
        let token = match self.is_a_secret && self.token.is_multiple_of(4) {
            true => SECRET.to_owned(),
            false => TokenDigest::of(&[self.token]).to_string(),
        };
        let name = format!("{}{number}", self.name.to_text());
        format!(
            "[principals.{name:?}]\nrole = {role:?}\nnamespaces = [{pattern:?}]\n\
             tokens = [{token:?}]\n"
        )
    }
}

#[test]
fn a_file_of_credentials_lets_in_whom_it_names_or_each_fault_has_a_name() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(|input| {
        let tables = input.principals.iter().enumerate();
        let mut text: String = tables.map(|(number, entry)| entry.table(number)).collect();
        if let Some(harm) = &input.harm {
            let mut bytes = text.into_bytes();
            harm.apply(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let read = Credentials::read(Path::new("credentials.toml"), &text, false);
        TALLY.count(read.is_ok());
        match read {
            Ok(credentials) => {
                assert!(credentials.principals() > 0);
                // Nobody is known by what stands in the file.
                for token in (0..=255).map(|byte: u8| TokenDigest::of(&[byte]).to_string()) {
                    assert!(credentials.of_token(token.as_bytes()).is_none());
                }
                if input.harm.is_none() {
                    for (number, entry) in input.principals.iter().enumerate() {
                        let name = format!("{}{number}", entry.name.to_text());
                        let known = credentials.of_token(&[entry.token]).unwrap();
                        assert_eq!(known.name(), name);
                    }
                }
            }
            Err(faults) => {
                assert!(!faults.is_empty());
                for fault in faults {
                    assert!(!fault.problem.is_empty());
                    assert!(!fault.to_string().contains(SECRET), "{fault}");
                }
            }
        }
    });
    TALLY.report("credentials");
}

#[test]
fn whatever_a_certificate_is_its_names_are_read_or_left_out() {
    bolero::check!()
        .with_type::<Vec<u8>>()
        .with_test_time(time())
        .for_each(|bytes| drop(SubjectName::all_of(bytes)));
}
