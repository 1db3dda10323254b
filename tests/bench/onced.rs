//! onced itself, each answer synced, with the call that does nothing beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::contestant::{Contestant, Running, free_port, kept, loopback};
use crate::place::{output, text};
use crate::process::without_settings;

pub struct Onced {
    running: Running,
    binary: PathBuf,
    port: u16,
    /// The certificate that it proves itself with, where it speaks TLS.
    certificate: Option<String>,
}

impl Onced {
    /// Starts `binary` on a store in `directory`, and waits until it serves.
    pub fn start(binary: &Path, directory: &Path, more: &[String]) -> anyhow::Result<Self> {
        Self::start_by(kept(binary, None), binary, directory, more)
    }

    /// The same by a command that comes to running the binary.
    pub fn start_by(
        command: Command,
        binary: &Path,
        directory: &Path,
        more: &[String],
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = without_settings(command);
        command.args(["serve", "--noop-call", "--listen", &loopback(port).to_string()]);
        command.args(["--store", &format!("rocksdb:{}", directory.join("store").display())]);
        command.args(["--drain-grace", "0s", "--log", "warn,onced=info"]).args(more);
        // Served by default, on a port that others may have.
        let metrics = "--metrics-listen".to_owned();
        if knows(binary, &metrics)? && !more.contains(&metrics) {
            command.args([&*metrics, "off"]);
        }
        let running = Running::start(command, directory)?;
        let certificate = more
            .iter()
            .position(|it| it == "--tls-cert")
            .and_then(|flag| more.get(flag + 1))
            .cloned();
        let mut onced = Self { running, binary: binary.to_owned(), port, certificate };
        let log = directory.join("log");
        onced.running.until(|| {
            // It says so right after health has turned SERVING.
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("listening"))
        })?;
        Ok(onced)
    }

    /// Stops it in order, and waits for the end.
    pub fn stop(self) -> anyhow::Result<()> {
        self.running.stop()
    }
}

/// Whether this build of the server has a flag.
pub fn knows(binary: &Path, flag: &str) -> anyhow::Result<bool> {
    Ok(output(text(binary), &["serve", "--help"])?.contains(flag))
}

impl Contestant for Onced {
    fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    fn id(&self) -> u32 {
        self.running.id()
    }

    fn keys(&self) -> anyhow::Result<u64> {
        let address = self.address();
        let stats = match &self.certificate {
            None => output(
                text(&self.binary),
                &["admin", "stats", "--json", "--server", &address.to_string()],
            )?,
            Some(certificate) => output(
                text(&self.binary),
                &[
                    "admin",
                    "stats",
                    "--json",
                    "--server",
                    &format!("https://{address}"),
                    "--tls-ca",
                    certificate,
                ],
            )?,
        };
        let stats: Value = serde_json::from_str(&stats)?;
        let namespaces = stats["store"]["namespaces"].as_array().context("no namespaces")?;
        let bench = namespaces.iter().find(|it| it["namespace"] == "bench");
        Ok(bench.and_then(|it| it["keys"].as_u64()).unwrap_or(0))
    }

    fn durability(&self) -> anyhow::Result<String> {
        Ok("it always syncs its log before an answer".to_owned())
    }
}
