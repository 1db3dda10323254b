//! What stands between the port and its callers: TLS and credentials, as the settings name them,
//! read at the start and again whenever their files change.
//!
//! Files are looked at every second, and at once on SIGHUP. What is read then is checked as a
//! whole: a file that is damaged, half written or does not go with the others is reported in one
//! line, and what was in force stays. It is not tried again until a file changes once more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::handshake::Handshakes;
use crate::access::{AccessCounts, Credentials, Guard};
use crate::config::{ConfigError, Fault, Settings, read_named};
use crate::tls::{Tls, TlsFiles};

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is logged that callers were turned away, where any were.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// TLS and credentials in force. What is `None` was not asked for.
pub struct Security {
    tls: Option<Arc<Tls>>,
    guard: Option<(Arc<Guard>, CredentialsFile)>,
    /// How often callers were turned away.
    pub counts: Arc<AccessCounts>,
    tls_handshake_timeout: Duration,
    seen: Seen,
}

/// Where credentials come from.
struct CredentialsFile {
    path: PathBuf,
    /// Whether callers are asked for certificates.
    certificates: bool,
}

impl CredentialsFile {
    fn read(&self) -> Result<Credentials, Vec<Fault>> {
        const SETTING: &str = "credentials";
        let one = |fault| vec![fault];
        let bytes = read_named(SETTING, &self.path).map_err(one)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| one(Fault::of_file(SETTING, &self.path, "is not UTF-8")))?;
        Credentials::read(&self.path, text, self.certificates)
    }
}

/// What files had in them when they were last looked at.
#[derive(Clone, Default, PartialEq, Eq)]
struct Seen {
    tls: Vec<Option<[u8; 32]>>,
    credentials: Option<[u8; 32]>,
}

/// A digest of what is in a file, keys included, which are not to be kept; `None` where it cannot
/// be read.
fn look(path: &Path) -> Option<[u8; 32]> {
    Some(Sha256::digest(read_named("", path).ok()?).into())
}

impl Security {
    /// Reads all that the settings name, or says all that is wrong with it.
    pub fn load(settings: &Settings) -> Result<Self, ConfigError> {
        let mut security = Self {
            tls: None,
            guard: None,
            counts: Arc::default(),
            tls_handshake_timeout: settings.tls_handshake_timeout,
            seen: Seen::default(),
        };
        let files = TlsFiles::of(settings);
        let credentials = settings.credentials.clone().map(|path| CredentialsFile {
            path,
            certificates: files.is_some() && settings.tls_client_ca.is_some(),
        });
        // Before they are read: what changes in between is read once more.
        security.seen = Seen {
            tls: files.iter().flat_map(TlsFiles::paths).map(|path| look(&path)).collect(),
            credentials: credentials.as_ref().and_then(|file| look(&file.path)),
        };
        let mut faults = Vec::new();
        match files.map(Tls::new).transpose() {
            Ok(tls) => security.tls = tls.map(Arc::new),
            Err(mut more) => faults.append(&mut more),
        }
        match credentials.map(|file| Ok((file.read()?, file))).transpose() {
            Ok(read) => {
                security.guard = read.map(|(credentials, file)| {
                    (Arc::new(Guard::new(credentials, Arc::clone(&security.counts))), file)
                });
            }
            Err(mut more) => faults.append(&mut more),
        }
        match faults.is_empty() {
            true => Ok(security),
            false => Err(ConfigError { faults }),
        }
    }

    /// How handshakes are made; `None` where the port speaks no TLS.
    pub fn handshakes(&self) -> Option<Handshakes> {
        let tls = Arc::clone(self.tls.as_ref()?);
        Some(Handshakes::new(tls, self.tls_handshake_timeout, Arc::clone(&self.counts)))
    }

    /// Who says who callers are; `None` where everybody may do everything.
    pub fn guard(&self) -> Option<Arc<Guard>> {
        self.guard.as_ref().map(|(guard, _)| Arc::clone(guard))
    }

    /// Reads files again when they change, for ever.
    pub async fn watch(mut self) {
        if self.tls.is_none() && self.guard.is_none() {
            return;
        }
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                warn!(%error, "cannot listen for SIGHUP; files are read again when they change");
                None
            }
        };
        let mut report = tokio::time::interval(REPORT_INTERVAL);
        let mut reported = (0, 0, 0);
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
                () = told_to_reload(&mut hangup) => true,
                _ = report.tick() => {
                    reported = self.report(reported);
                    continue;
                }
            };
            // A file may lie where reading blocks.
            let looked = tokio::task::spawn_blocking(move || {
                self.look_again(asked);
                self
            });
            match looked.await {
                Ok(security) => self = security,
                Err(error) => return warn!(%error, "files are not read again any more"),
            }
        }
    }

    /// Takes what changed; all of it where somebody asked.
    fn look_again(&mut self, asked: bool) {
        if let Some(tls) = &self.tls {
            let now: Vec<_> = tls.files().paths().iter().map(|path| look(path)).collect();
            if asked || now != self.seen.tls {
                self.seen.tls = now;
                told("the TLS certificate", tls.reload());
            }
        }
        if let Some((guard, file)) = &self.guard {
            let now = look(&file.path);
            if asked || now != self.seen.credentials {
                self.seen.credentials = now;
                told("credentials", file.read().map(|read| guard.exchange(read)));
            }
        }
    }

    /// Logs how many were turned away since it was `last` told.
    fn report(&self, last: (u64, u64, u64)) -> (u64, u64, u64) {
        let counts = &self.counts;
        let now = (counts.unauthenticated(), counts.denied(), counts.failed_handshakes());
        if now != last {
            warn!(
                unauthenticated = now.0 - last.0,
                denied = now.1 - last.1,
                failed_handshakes = now.2 - last.2,
                "callers were turned away"
            );
        }
        now
    }
}

async fn told_to_reload(hangup: &mut Option<Signal>) {
    if let Some(hangup) = hangup
        && hangup.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// Logs what became of reading something again.
fn told(what: &str, reloaded: Result<(), Vec<Fault>>) {
    match reloaded {
        Ok(()) => info!("read {what} again"),
        Err(faults) => {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let faults = faults.join("; ");
            warn!("could not read {what} again, and goes on with what it has: {faults}");
        }
    }
}
