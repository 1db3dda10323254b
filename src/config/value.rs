//! How the text of a value is read and written: numbers, switches, spans, sizes, choices.
//!
//! Problems are short and say what is wrong with the text; what to give instead is added
//! from the table, where kind and bounds of each setting stand.

use std::net::SocketAddr;
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

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

/// Directives of an [`EnvFilter`], such as `info` or `warn,onced=debug`.
pub(super) struct LogFilter(pub String);

impl Value for LogFilter {
    /// A bare word has to be a level: the filter itself takes `inof` for the name of a
    /// module, and would log nothing at all.
    fn read(text: &str) -> Result<Self, String> {
        for directive in text.split(',').map(str::trim) {
            let bare = !directive.contains(['=', '[']);
            if bare && directive.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
                return Err(format!("has the unknown level \"{directive}\""));
            }
        }
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err("is not a list of log directives".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}
