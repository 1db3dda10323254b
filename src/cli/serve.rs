//! `onced serve`: settings, log, and then the server until it has drained.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::setting_flags::SettingFlags;
use super::{Exit, print};
use crate::config::{ConfigError, Effective, LogFormat, Resolved, Settings, Sources};

/// Run the server
///
/// Every setting is a flag, a variable, and a key in the file: --lease-default,
/// ONCED_LEASE_DEFAULT and lease_default. A flag goes before the environment, the
/// environment before the file, and the file before the default. Durations are written as
/// 500ms, 30s or 24h, sizes as 64KiB, 1MiB or a number of bytes.
///
/// Certificates and credentials are read again when their files change, and on SIGHUP.
///
/// The server stops on SIGTERM or SIGINT once it has drained; a second one ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced serve --store rocksdb:/var/lib/onced --listen 0.0.0.0:50051 \\
      --tls-cert tls.crt --tls-key tls.key --credentials credentials.toml
  onced serve --config onced.toml --check")]
pub(super) struct Serve {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    #[arg(help = "Read settings from this TOML file [env: ONCED_CONFIG]")]
    config: Option<PathBuf>,
    /// Only read and validate the settings, print them with their sources, and exit
    #[arg(long)]
    check: bool,
    /// With --check: print JSON
    #[arg(long, requires = "check")]
    json: bool,
    /// Serve a call that does nothing as well: what gRPC itself costs here, for `onced bench`
    #[arg(long, hide = true)]
    noop_call: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

impl Serve {
    pub(super) fn execute(self) -> Exit {
        let sources = Sources::gather(self.settings.0.clone(), self.config.clone());
        let mut resolved = match Resolved::of(&sources) {
            Ok(resolved) => resolved,
            Err(error) => return self.refuse(&error),
        };
        // What only the files can tell that the settings name.
        if let Err(error) = crate::server::check(&resolved.settings) {
            return self.refuse(&error);
        }
        if self.check {
            if self.json {
                print::answer(&in_force(&resolved), true);
            } else {
                print::line(&table(&resolved));
            }
            return Exit::Done;
        }
        resolved.settings.noop_call = self.noop_call;
        let Settings { log, log_format, .. } = &resolved.settings;
        let log = crate::log::start(log, *log_format == LogFormat::Json);
        if log.is_none() {
            print::complain("onced: no log: this process has one already");
        }
        match crate::server::serve(&resolved.settings, log) {
            Ok(()) => Exit::Done,
            Err(error) => {
                print::complain(&format!("onced: {error:#}"));
                Exit::Unavailable
            }
        }
    }

    /// Says what is wrong with the settings.
    fn refuse(&self, error: &ConfigError) -> Exit {
        match self.json {
            true => print::answer(&faults(error), true),
            false => print::complain(&format!("onced: {error}")),
        }
        Exit::Usage
    }
}

/// The settings in force as `{"settings": {NAME: {"value", "source"}}, "namespaces": {NAMESPACE:
/// {NAME: {"value", "source"}}}}`.
fn in_force(resolved: &Resolved) -> Value {
    let namespaces: Map<_, _> = resolved
        .namespaces
        .iter()
        .map(|(name, effective)| (name.as_str().to_owned(), by_name(effective)))
        .collect();
    json!({ "settings": by_name(&resolved.effective), "namespaces": namespaces })
}

fn by_name(effective: &[Effective]) -> Value {
    let settings = effective.iter().map(|effective| {
        let source = effective.origin.to_string();
        (effective.name.to_owned(), json!({ "value": effective.value, "source": source }))
    });
    Value::Object(settings.collect())
}

/// What is wrong as `{"faults": [{"setting", "source", "problem"}]}`.
fn faults(error: &ConfigError) -> Value {
    let faults: Vec<_> = error
        .faults
        .iter()
        .map(|fault| {
            let source = fault.origin.to_string();
            json!({ "setting": fault.setting, "source": source, "problem": fault.problem })
        })
        .collect();
    json!({ "faults": faults })
}

/// The settings in force, one line each: name, value, source; and under the name of each
/// namespace those that hold in it.
fn table(resolved: &Resolved) -> String {
    let mut lines = aligned(&resolved.effective);
    for (name, effective) in &resolved.namespaces {
        lines.push(format!("\nnamespace {}", name.as_str()));
        lines.extend(aligned(effective).into_iter().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

fn aligned(effective: &[Effective]) -> Vec<String> {
    let width = |of: fn(&Effective) -> usize| effective.iter().map(of).max().unwrap_or(0);
    let (names, values) = (width(|it| it.name.len()), width(|it| it.value.len()));
    let line = |Effective { name, value, origin }: &Effective| {
        format!("{name:names$}  {value:values$}  {origin}")
    };
    effective.iter().map(line).collect()
}
