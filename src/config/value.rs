//! How the text of a value is read and written: numbers, switches, spans, sizes, choices.
//!
//! Problems are short and say what is wrong with the text; what to give instead is added
//! from the table, where kind and bounds of each setting stand.

use std::net::SocketAddr;
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::{LeaseExpiryAction, Span};
use crate::storage::StoreUrl;

/// A value that a setting can have. `show` writes what `read` reads.
pub(super) trait Value: Sized {
    /// Reads `text`, or says what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;
    /// The value as text.
    fn show(&self) -> String;
}

impl Value for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not an IP address with a port".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for StoreUrl {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not a store".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty".to_owned()),
            path => Ok(Self::from(path)),
        }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(number_problem)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(number_problem)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(number_problem)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

fn number_problem(error: ParseIntError) -> String {
    match error.kind() {
        IntErrorKind::PosOverflow => "is out of bounds".to_owned(),
        _ => "is not a whole number".to_owned(),
    }
}

/// A count of which `cores` stands for the cores of this machine.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct PerCore(pub usize);

impl Value for PerCore {
    fn read(text: &str) -> Result<Self, String> {
        if text == "cores" {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok(Self(cores.min(256)));
        }
        usize::read(text).map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A length of time in whole milliseconds, such as `500ms`, `30s`, `24h` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Timespan(pub Duration);

impl Timespan {
    /// The span as the domain has it.
    pub(crate) fn to_span(self) -> Span {
        Span::from_millis(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX))
    }

    /// Reads `text`, or says what is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let span = humantime::parse_duration(text).map_err(|error| match error {
            humantime::DurationError::Empty => "is empty".to_owned(),
            humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
                "has no unit".to_owned()
            }
            humantime::DurationError::UnknownUnit { unit, .. } => {
                format!("has the unknown unit \"{unit}\"")
            }
            humantime::DurationError::NumberOverflow => "is out of bounds".to_owned(),
            _ => "is not a duration".to_owned(),
        })?;
        if span.subsec_nanos() % 1_000_000 != 0 {
            return Err("is not in whole milliseconds".to_owned());
        }
        Ok(Self(span))
    }
}

impl Value for Timespan {
    fn read(text: &str) -> Result<Self, String> {
        Self::read(text)
    }

    /// In the largest unit that needs no fraction; a single day in hours, as people say.
    fn show(&self) -> String {
        let millis = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        for (length, unit) in units {
            if millis.is_multiple_of(length) && millis >= length && millis != 86_400_000 {
                return format!("{}{unit}", millis / length);
            }
        }
        match millis {
            86_400_000 => "24h".to_owned(),
            0 => "0s".to_owned(),
            _ => format!("{millis}ms"),
        }
    }
}

/// A value that can be switched off.
impl<T: Value> Value for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(None),
            _ => T::read(text).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or("off".to_owned(), Value::show)
    }
}

/// The URL of a server that is spoken to without TLS.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Endpoint(pub String);

impl Value for Endpoint {
    fn read(text: &str) -> Result<Self, String> {
        let url: http::Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
        match (url.scheme_str(), url.host()) {
            (Some("http"), Some(_)) if matches!(url.path(), "" | "/") => Ok(Self(text.to_owned())),
            (Some("http"), Some(_)) => Err("has a path".to_owned()),
            (Some("https"), _) => Err("asks for TLS, which is not spoken here".to_owned()),
            _ => Err("is not an http:// URL".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A number from 0 to 1 with at most six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Ratio {
    millionths: u32,
}

impl Ratio {
    /// It as a number.
    pub fn get(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }
}

impl Value for Ratio {
    fn read(text: &str) -> Result<Self, String> {
        let number = || "is not a number".to_owned();
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
            return Err(number());
        }
        if decimals.len() > 6 {
            return Err("has more than six decimals".to_owned());
        }
        let whole: u32 = whole.parse().map_err(|_| "is out of bounds".to_owned())?;
        let decimals: u32 = format!("{decimals:0<6}").parse().map_err(|_| number())?;
        let millionths = whole.checked_mul(1_000_000).and_then(|it| it.checked_add(decimals));
        millionths.map(|millionths| Self { millionths }).ok_or("is out of bounds".to_owned())
    }

    fn show(&self) -> String {
        let (whole, decimals) = (self.millionths / 1_000_000, self.millionths % 1_000_000);
        let text = format!("{whole}.{decimals:06}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// A number of bytes, such as `1MiB`, `64KiB` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Size(pub usize);

const SIZE_UNITS: [(&str, usize); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Size {
    /// Reads `text`, or says what is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (number, unit) = SIZE_UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), *bytes)))
            .unwrap_or((text.strip_suffix('B').map_or(text, str::trim_end), 1));
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("is not a size".to_owned());
        }
        let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(Self).ok_or_else(|| "is out of bounds".to_owned())
    }
}

impl Value for Size {
    fn read(text: &str) -> Result<Self, String> {
        Self::read(text)
    }

    fn show(&self) -> String {
        for (unit, bytes) in SIZE_UNITS {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return format!("{}{unit}", self.0 / bytes);
            }
        }
        self.0.to_string()
    }
}

impl Value for LeaseExpiryAction {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "takeover" => Ok(Self::Takeover),
            "hold" => Ok(Self::Hold),
            _ => Err("is neither takeover nor hold".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Takeover => "takeover".to_owned(),
            Self::Hold => "hold".to_owned(),
        }
    }
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Value for LogFormat {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is neither text nor json".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

/// Whether callers need a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsClientAuth {
    /// They do.
    Required,
    /// They may show one.
    Optional,
}

impl Value for TlsClientAuth {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self::Required),
            "optional" => Ok(Self::Optional),
            _ => Err("is neither required nor optional".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Required => "required".to_owned(),
            Self::Optional => "optional".to_owned(),
        }
    }
}

/// Directives of a log filter, such as `info` or `warn,onced=debug`.
pub(super) struct LogFilter(pub String);

impl Value for LogFilter {
    fn read(text: &str) -> Result<Self, String> {
        crate::log::filter(text).map(|_| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}
