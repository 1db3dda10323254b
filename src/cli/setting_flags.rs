//! The flags of `onced serve` that settings have, made from the table of settings.
//!
//! They are taken as text and may be given twice here; the configuration reads and judges
//! them together with the environment and the file, so that all faults come at once.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{Kind, SETTINGS, Setting};

/// The settings that were given as flags, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SettingFlags(pub(super) Vec<(&'static str, String)>);

fn flag(setting: &'static Setting) -> Arg {
    let help =
        format!("{} [default: {}] [env: {}]", setting.help, setting.default, setting.variable());
    let flag = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.placeholder())
        .help(help)
        .help_heading(setting.group)
        .action(ArgAction::Append);
    match setting.kind {
        // A switch that is named is on.
        Kind::Switch => flag.num_args(0..=1).default_missing_value("true"),
        _ => flag.allow_hyphen_values(true),
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |setting: &'static Setting| {
            let values = matches.get_many::<String>(setting.name).into_iter().flatten();
            values.map(|text| (setting.name, text.clone()))
        };
        Ok(Self(SETTINGS.iter().flat_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
