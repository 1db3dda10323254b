//! Settings as they may be given: they resolve, and mean the same when they are given again as
//! they are shown; or each fault names what to change.

use std::ffi::OsString;
use std::path::PathBuf;

use bolero::TypeGenerator;

use super::*;
use crate::fuzz::{Tally, Text, time};

/// A text for a setting.
#[derive(Clone, Debug, TypeGenerator)]
enum Value {
    Number(#[generator(0..100_000_u64)] u64),
    Span(#[generator(0..100_u64)] u64, u8),
    Size(#[generator(0..2_000_u64)] u64, u8),
    Word(u8),
    Default,
    Text(Text),
}

const SPANS: [&str; 8] = ["ms", "s", "m", "h", "d", "us", " s", "min"];
const SIZES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "MB"];
const WORDS: [&str; 14] = [
    "off",
    "true",
    "false",
    "takeover",
    "hold",
    "text",
    "json",
    "cores",
    "memory:",
    "info",
    "warn,onced=debug",
    "127.0.0.1:0",
    "[::1]:50051",
    "rocksdb:./elsewhere",
];

impl Value {
    fn to_text(&self, setting: &Setting) -> String {
        let pick = |of: &[&'static str], choice: &u8| of[usize::from(*choice) % of.len()];
        match self {
            Self::Number(number) => number.to_string(),
            Self::Span(number, unit) => format!("{number}{}", pick(&SPANS, unit)),
            Self::Size(number, unit) => format!("{number}{}", pick(&SIZES, unit)),
            Self::Word(word) => pick(&WORDS, word).to_owned(),
            Self::Default => setting.default.to_owned(),
            Self::Text(text) => text.to_text(),
        }
    }
}

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    #[generator(bolero::produce_with::<Vec<(u8, Value)>>().len(0..4_usize))]
    flags: Vec<(u8, Value)>,
    #[generator(bolero::produce_with::<Vec<(u8, Value)>>().len(0..4_usize))]
    environment: Vec<(u8, Value)>,
    file: Option<File>,
}

#[derive(Clone, Debug, TypeGenerator)]
enum File {
    Settings(
        #[generator(bolero::produce_with::<Vec<(u8, Value, bool)>>().len(0..4_usize))]
        Vec<(u8, Value, bool)>,
        #[generator(bolero::produce_with::<Vec<(u8, Value, bool)>>().len(0..4_usize))]
        Vec<(u8, Value, bool)>,
    ),
    Text(String),
    Unreadable,
}

fn setting(choice: u8) -> &'static Setting {
    &SETTINGS[usize::from(choice) % SETTINGS.len()]
}

impl Input {
    fn sources(&self) -> Sources {
        let flag = |(choice, value): &(u8, Value)| {
            let setting = setting(*choice);
            (setting.name, value.to_text(setting))
        };
        let variable = |given: &(u8, Value)| {
            let (_, text) = flag(given);
            (setting(given.0).variable(), OsString::from(text))
        };
        Sources {
            flags: self.flags.iter().map(flag).collect(),
            environment: self.environment.iter().map(variable).collect(),
            file: self.file.as_ref().map(File::config),
            control_group: None,
        }
    }
}

impl File {
    fn config(&self) -> ConfigFile {
        let line = |setting: &Setting, value: &Value, quoted: bool| {
            let text = value.to_text(setting);
            match quoted {
                true => format!("{} = {text:?}\n", setting.name),
                false => format!("{} = {text}\n", setting.name),
            }
        };
        let text = match self {
            Self::Settings(of_server, of_namespace) => {
                let of_server = of_server.iter();
                let mut text: String = of_server
                    .map(|(choice, value, it)| line(setting(*choice), value, *it))
                    .collect();
                text.push_str("[namespaces.orders]\n");
                for (choice, value, quoted) in of_namespace {
                    let mut settings = table::namespace_settings().cycle();
                    let setting = settings.nth(usize::from(*choice)).unwrap();
                    text.push_str(&line(setting, value, *quoted));
                }
                Ok(text)
            }
            Self::Text(text) => Ok(text.clone()),
            Self::Unreadable => Err("permission denied".to_owned()),
        };
        ConfigFile { path: PathBuf::from("onced.toml"), text }
    }
}

/// What is shown of namespaces, as a file has it.
fn shown_namespaces(resolved: &Resolved) -> ConfigFile {
    let mut text = String::new();
    for (name, effective) in &resolved.namespaces {
        text.push_str(&format!("[namespaces.{:?}]\n", name.as_str()));
        let own = |it: &&Effective| table::namespace_settings().any(|own| own.name == it.name);
        for Effective { name, value, .. } in effective.iter().filter(own) {
            let is_bare = value.parse::<u64>().is_ok() || ["true", "false"].contains(&&**value);
            let value = if is_bare { value.clone() } else { format!("{value:?}") };
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    ConfigFile { path: PathBuf::from("onced.toml"), text: Ok(text) }
}

#[test]
fn settings_resolve_to_what_they_are_shown_as_or_each_fault_has_a_name() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(|input| {
        let resolved = Resolved::of(&input.sources());
        TALLY.count(resolved.is_ok());
        match resolved {
            Ok(resolved) => {
                let shown = resolved.effective.iter().map(|it| (it.name, it.value.clone()));
                let file = shown_namespaces(&resolved);
                let again =
                    Sources { flags: shown.collect(), file: Some(file), ..Sources::default() };
                assert_eq!(Settings::resolve(&again).unwrap(), resolved.settings);
            }
            Err(error) => {
                assert!(!error.faults.is_empty());
                for fault in error.faults {
                    assert!(!fault.to_string().trim().is_empty());
                    assert!(!fault.problem.is_empty());
                }
            }
        }
    });
    TALLY.report("settings");
}
