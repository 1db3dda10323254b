//! `onced serve`: from flags to settings to a server.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Resolved, SETTINGS, Setting, Settings, Sources};

/// The exit code of wrong usage or settings.
const USAGE: u8 = 2;
/// The exit code of a server that could not start.
const UNAVAILABLE: u8 = 3;

/// What `onced serve` understands: one flag for each setting, `--config` and `--check`.
pub fn command() -> Command {
    let command = Command::new("serve")
        .about("Run the server")
        .after_help(
            "Every setting is also an environment variable (--lease-default is \
             ONCED_LEASE_DEFAULT) and a key in the file (lease_default). Flags win over the \
             environment, the environment over the file.\n\n\
             Example: onced serve --listen 0.0.0.0:50051 --store rocksdb:/var/lib/onced",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A TOML file with settings [env: ONCED_CONFIG]"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Read and validate all settings, show them, and exit"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .requires("check")
                .help("Show them as JSON"),
        );
    SETTINGS.iter().fold(command, |command, setting| command.arg(flag(setting)))
}

fn flag(setting: &'static Setting) -> Arg {
    let bounds = match setting.bounds {
        Some((min, max)) => format!(", from {min} to {max}"),
        None => String::new(),
    };
    Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.placeholder())
        .help_heading(setting.group)
        // Faults of values are reported all at once by the settings, not one by one here.
        .action(ArgAction::Append)
        .help(format!("{} [default: {}{bounds}]", setting.help, setting.default))
}

/// Runs the server, or checks its settings.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let flags = SETTINGS
        .iter()
        .flat_map(|setting| {
            let values = matches.get_many::<String>(setting.name).unwrap_or_default();
            values.map(|value| (setting.name, value.clone()))
        })
        .collect();
    let sources = Sources::gather(flags, matches.get_one::<PathBuf>("config").cloned());
    let resolved = match Resolved::of(&sources) {
        Ok(resolved) => resolved,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    if matches.get_flag("check") {
        show(&resolved, matches.get_flag("json"));
        return ExitCode::SUCCESS;
    }
    log_as(&resolved.settings);
    match crate::server::serve(&resolved.settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onced: {error:#}");
            ExitCode::from(UNAVAILABLE)
        }
    }
}

fn show(resolved: &Resolved, as_json: bool) {
    if as_json {
        let settings: serde_json::Map<_, _> = resolved
            .effective
            .iter()
            .map(|setting| {
                let shown = serde_json::json!({
                    "value": setting.value,
                    "origin": setting.origin.to_string(),
                });
                (setting.name.to_owned(), shown)
            })
            .collect();
        println!("{}", serde_json::Value::Object(settings));
        return;
    }
    for setting in &resolved.effective {
        println!("{:<24} {:<24} {}", setting.name, setting.value, setting.origin);
    }
}

fn log_as(settings: &Settings) {
    let filter = EnvFilter::new(&settings.log);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => {
            log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
        }
        LogFormat::Json => log.json().init(),
    }
}
