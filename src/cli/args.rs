//! Arguments that several commands share, and how their values are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sha2::{Digest as _, Sha256};
use tonic::transport::Endpoint;

use super::failure::Failure;
use crate::config::{Size, Timespan};

/// Which key.
#[derive(Clone, Debug, Args)]
pub(super) struct KeyArgs {
    /// The idempotency key: 1 to 255 characters of printable ASCII
    pub(super) key: String,
    /// Where the key lives
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) namespace: String,
}

/// What the key is bound to.
#[derive(Clone, Debug, Args)]
#[group(id = "fingerprint_source", multiple = false)]
pub(super) struct FingerprintArgs {
    /// The digest of the request that the key stands for, in hex: 0 to 64 bytes
    #[arg(long, value_name = "HEX", value_parser = hex)]
    fingerprint: Option<Bytes>,
    /// Take the SHA-256 of this file for the fingerprint; "-" is stdin
    #[arg(long, value_name = "FILE")]
    fingerprint_of: Option<PathBuf>,
}

impl FingerprintArgs {
    /// The fingerprint, where one was given.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        match (&self.fingerprint, &self.fingerprint_of) {
            (Some(Bytes(digest)), _) => Ok(Some(digest.clone())),
            (None, Some(path)) => {
                let mut digest = Sha256::new();
                let copied = open(path).and_then(|mut file| io::copy(&mut file, &mut digest));
                copied.map_err(|error| unreadable(path, &error))?;
                Ok(Some(digest.finalize().to_vec()))
            }
            (None, None) => Ok(None),
        }
    }
}

/// The proof of ownership.
#[derive(Clone, Args)]
pub(super) struct OwnerArgs {
    /// The owner token that the grant came with
    #[arg(long, value_name = "UUID", env = "ONCED_OWNER_TOKEN", hide_env_values = true)]
    pub(super) owner_token: String,
}

/// The token is a secret.
impl std::fmt::Debug for OwnerArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnerArgs(…)")
    }
}

/// How long to wait for somebody else.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct WaitArgs {
    /// Wait this long while somebody else is at it, in addition to --timeout
    #[arg(long = "wait", value_name = "DURATION", value_parser = timeout)]
    wait: Option<Duration>,
}

impl WaitArgs {
    /// How long; zero where nothing was said.
    pub(super) fn limit(self) -> Duration {
        self.wait.unwrap_or_default()
    }
}

/// In which shape the answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputArgs {
    /// Print JSON, errors included
    #[arg(long)]
    pub(super) json: bool,
}

/// Bytes that were written as one argument; clap takes a plain `Vec` for a list of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

/// Reads hex digits.
pub(super) fn hex(text: &str) -> Result<Bytes, String> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.ok_or("has a character that is no hex digit")?;
    if digits.len() % 2 != 0 {
        return Err("has an odd number of hex digits".to_owned());
    }
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("two hex digits");
    Ok(Bytes(digits.chunks(2).map(byte).collect()))
}

/// Reads a length of time.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    Timespan::read(text)
        .map(|span| span.0)
        .map_err(|problem| format!("{problem}; give a duration such as 500ms, 30s or 24h"))
}

/// Reads how long to wait for an answer.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match wait(text)? {
        Duration::ZERO => Err("leaves no time; give at least 1ms".to_owned()),
        timeout => Ok(timeout),
    }
}

/// Reads how long to wait for somebody else, which may be not at all.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait > Duration::from_secs(24 * 60 * 60) {
        return Err("is too long; give at most 24h".to_owned());
    }
    Ok(wait)
}

/// Reads how much output is kept, in bytes.
pub(super) fn output_size(text: &str) -> Result<usize, String> {
    // No server can be set to store more than that.
    const MAX_BYTES: usize = 8 << 20;
    let Size(bytes) = Size::read(text)
        .map_err(|problem| format!("{problem}; give a size such as 64KiB or 1MiB"))?;
    if bytes > MAX_BYTES {
        return Err("is too much; give at most 8MiB".to_owned());
    }
    Ok(bytes)
}

/// Reads the address of a server, `http://` or `https://`; without either it is the former.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let url = match text.split_once("://") {
        Some(("http" | "https", _)) => text.to_owned(),
        Some((scheme, _)) => {
            return Err(format!(
                "has the scheme \"{scheme}\"; only http:// and https:// are spoken"
            ));
        }
        None => format!("http://{text}"),
    };
    let endpoint = Endpoint::from_shared(url).map_err(|_| malformed())?;
    match endpoint.uri().host() {
        Some(host) if !host.is_empty() => Ok(endpoint.tcp_nodelay(true)),
        _ => Err(malformed()),
    }
}

fn malformed() -> String {
    "is not the URL of a server; give one such as http://127.0.0.1:50051".to_owned()
}

/// Reads `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not NAME=VALUE".to_owned()),
    }
}

/// Everything in the file at `path`; `-` is stdin.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(path)?))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", path.display()))
}
