//! From given values to settings: the strongest source wins, what won is read and held to
//! its bounds, and every fault is kept until all values were read.

use super::given::{Given, given};
use super::value::{LogFilter, PerCore, Size, Timespan, Value};
use super::{ConfigError, Fault, Origin, SETTINGS, Setting, Settings, Sources};
use crate::domain::SpanBounds;

/// Settings, and where each of them came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Each of them, in the order of the table.
    pub effective: Vec<Effective>,
}

/// A value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The name of the setting.
    pub name: &'static str,
    /// Its value as text.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

impl Settings {
    /// The settings that `sources` amount to, or everything that is wrong with them. A pure
    /// function: [`Sources::gather`] looked at the process.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigError> {
        Resolved::of(sources).map(|resolved| resolved.settings)
    }
}

impl Resolved {
    /// Like [`Settings::resolve`], with the origin of every value.
    pub fn of(sources: &Sources) -> Result<Self, ConfigError> {
        let (given, faults) = given(sources);
        let mut reader = Reader { given, faults, effective: Vec::new() };
        let settings = Settings {
            listen: reader.value("listen"),
            store: reader.value("store"),
            runtimes: reader.bounded::<PerCore>("runtimes").0,
            lease: reader.span_bounds("lease_min", "lease_default", "lease_max"),
            retention: reader.span_bounds("retention_min", "retention_default", "retention_max"),
            lease_expiry_action: reader.value("lease_expiry_action"),
            max_response_bytes: reader.bounded::<Size>("max_response_bytes").0,
            restart_grace: reader.bounded::<Timespan>("restart_grace").to_span(),
            drain_grace: reader.bounded::<Timespan>("drain_grace").0,
            drain_limit: reader.bounded::<Timespan>("drain_limit").0,
            max_in_flight: reader.bounded("max_in_flight"),
            max_connections: reader.bounded("max_connections"),
            max_concurrent_streams: reader.bounded("max_concurrent_streams"),
            max_large_message_bytes: reader.bounded::<Size>("max_large_message_bytes").0,
            connection_max_age: reader.bounded_or_off("connection_max_age").map(|span| span.0),
            keepalive_interval: reader.bounded_or_off("keepalive_interval").map(|span| span.0),
            keepalive_timeout: reader.bounded::<Timespan>("keepalive_timeout").0,
            admin: reader.value("admin"),
            reflection: reader.value("reflection"),
            log: reader.value::<LogFilter>("log").0,
            log_format: reader.value("log_format"),
            memtable_bytes: reader.bounded::<Size>("memtable_bytes").0,
            block_cache_bytes: reader.bounded::<Size>("block_cache_bytes").0,
            min_free_disk_bytes: reader.bounded::<Size>("min_free_disk_bytes").0 as u64,
        };
        let Reader { faults, mut effective, .. } = reader;
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        let place = |name| SETTINGS.iter().position(|setting| setting.name == name);
        effective.sort_by_key(|effective| place(effective.name));
        Ok(Self { settings, effective })
    }
}

struct Reader {
    given: Vec<Given>,
    faults: Vec<Fault>,
    effective: Vec<Effective>,
}

impl Reader {
    /// The value of a setting that has no bounds.
    fn value<T: Value>(&mut self, name: &'static str) -> T {
        self.read(name, |_, text| T::read(text))
    }

    /// The value of a setting that has bounds.
    fn bounded<T: Value + PartialOrd>(&mut self, name: &'static str) -> T {
        self.read(name, read_bounded)
    }

    /// The value of a setting that has bounds and can be switched off.
    fn bounded_or_off(&mut self, name: &'static str) -> Option<Timespan> {
        self.read(name, |setting, text| match text {
            "off" => Ok(None),
            _ => read_bounded(setting, text).map(Some),
        })
    }

    /// Three settings that make up the bounds of a span, and have to be in order.
    fn span_bounds(
        &mut self,
        min: &'static str,
        default: &'static str,
        max: &'static str,
    ) -> SpanBounds {
        let faults_before = self.faults.len();
        let bounds = SpanBounds {
            min: self.bounded::<Timespan>(min).to_span(),
            default: self.bounded::<Timespan>(default).to_span(),
            max: self.bounded::<Timespan>(max).to_span(),
        };
        if self.faults.len() > faults_before {
            return bounds;
        }
        if bounds.min > bounds.max {
            self.out_of_order(min, max);
        } else if bounds.default < bounds.min {
            self.out_of_order(min, default);
        } else if bounds.default > bounds.max {
            self.out_of_order(default, max);
        }
        bounds
    }

    /// Reports that `smaller` is above `larger`, at whichever of them was given.
    fn out_of_order(&mut self, smaller: &str, larger: &str) {
        let of = |name| self.effective.iter().find(|effective| effective.name == name);
        let (smaller, larger) = (of(smaller).expect("was read"), of(larger).expect("was read"));
        let (at, problem) = if smaller.origin == Origin::Default {
            (larger, format!("is below {}, which is {}", smaller.name, with_origin(smaller)))
        } else {
            (smaller, format!("is above {}, which is {}", larger.name, with_origin(larger)))
        };
        self.faults.push(Fault {
            setting: at.name.to_owned(),
            origin: at.origin.clone(),
            problem: format!("\"{}\" {problem}; change one of them", at.value),
        });
    }

    /// Reads the strongest value that was given, or else the default. A value that is at
    /// fault is reported, and the default stands in for it until all others are read.
    fn read<T: Value>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Setting, &str) -> Result<T, String>,
    ) -> T {
        let setting = Setting::named(name).expect("every setting is in the table");
        let given = self.given.iter().find(|given| given.setting == setting);
        let mut origin = Origin::Default;
        let mut value = None;
        if let Some(given) = given {
            origin = given.origin.clone();
            let text = given.text.as_deref().map_err(String::clone);
            match text.and_then(|text| {
                read(setting, text).map_err(|problem| format!("\"{text}\" {problem}"))
            }) {
                Ok(read) => value = Some(read),
                Err(problem) => self.faults.push(Fault {
                    setting: name.to_owned(),
                    origin: origin.clone(),
                    problem: format!("{problem}; {}", setting.remedy()),
                }),
            }
        }
        let value = value
            .unwrap_or_else(|| read(setting, setting.default).expect("defaults are within bounds"));
        self.effective.push(Effective { name, value: value.show(), origin });
        value
    }
}

fn read_bounded<T: Value + PartialOrd>(setting: &Setting, text: &str) -> Result<T, String> {
    let value = T::read(text)?;
    let (min, max) = setting.bounds.expect("the table bounds it");
    let bound = |text| T::read(text).expect("bounds can be read");
    if value < bound(min) || value > bound(max) {
        return Err("is out of bounds".to_owned());
    }
    Ok(value)
}

fn with_origin(effective: &Effective) -> String {
    match &effective.origin {
        Origin::Default => format!("\"{}\" by default", effective.value),
        origin => format!("\"{}\" (from {origin})", effective.value),
    }
}
