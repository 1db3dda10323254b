//! From given values to settings: the strongest source wins, what won is read and held to
//! its bounds, and every fault is kept until all values were read. A namespace is read in the
//! same way, with the server's values in the place of the defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::given::{AllGiven, Given, given};
use super::memory;
use super::namespaces::{self, GivenNamespace, NamespaceSettings};
use super::table::namespace_settings;
use super::value::{Endpoint, LogFilter, PerCore, Size, Timespan, Value};
use super::{
    ConfigError, ControlGroup, Fault, Origin, SETTINGS, Setting, Settings, Sources, TlsClientAuth,
};
use crate::domain::{Namespace, SpanBounds};
use crate::storage::{Quota, StoreUrl};

/// Settings, and where each of them came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Each of them, in the order of the table.
    pub effective: Vec<Effective>,
    /// What holds in each namespace that is listed: the server's settings that concern a
    /// namespace, and those that only a namespace has.
    pub namespaces: BTreeMap<Namespace, Vec<Effective>>,
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

impl Effective {
    /// Whether it was given for just what it is the setting of, and can be changed there.
    fn is_given_here(&self) -> bool {
        !matches!(self.origin, Origin::Default | Origin::MemoryLimit | Origin::Server(_))
    }
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
        let AllGiven { values, namespaces, faults } = given(sources);
        let mut reader = Reader::of_server(values, faults);
        let memory_limit = reader.bounded_or_off::<Size>("memory_limit").map(|size| size.0);
        if let Some(limit) = memory_limit {
            reader.share_out(limit, sources.control_group.as_ref());
        }
        let mut settings = Settings {
            memory_limit,
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
            wait_max: reader.bounded::<Timespan>("wait_max").to_span(),
            max_waiting: reader.bounded("max_waiting"),
            max_waiting_per_key: reader.bounded("max_waiting_per_key"),
            max_waiting_per_connection: reader.bounded("max_waiting_per_connection"),
            max_connections: reader.bounded("max_connections"),
            max_concurrent_streams: reader.bounded("max_concurrent_streams"),
            max_large_message_bytes: reader.bounded::<Size>("max_large_message_bytes").0,
            connection_max_age: reader.span_or_off("connection_max_age"),
            keepalive_interval: reader.span_or_off("keepalive_interval"),
            keepalive_timeout: reader.bounded::<Timespan>("keepalive_timeout").0,
            admin: reader.value("admin"),
            reflection: reader.value("reflection"),
            noop_call: false,
            strict: reader.value("strict"),
            tls_cert: reader.value("tls_cert"),
            tls_key: reader.value("tls_key"),
            tls_client_ca: reader.value("tls_client_ca"),
            tls_client_auth: reader.value("tls_client_auth"),
            tls_handshake_timeout: reader.bounded::<Timespan>("tls_handshake_timeout").0,
            credentials: reader.value("credentials"),
            insecure_any_interface: reader.value("insecure_any_interface"),
            namespaces: BTreeMap::new(),
            metrics_listen: reader.value("metrics_listen"),
            otlp_endpoint: reader.value::<Option<Endpoint>>("otlp_endpoint").map(|it| it.0),
            otlp_sampling: reader.bounded("otlp_sampling"),
            log: reader.value::<LogFilter>("log").0,
            log_format: reader.value("log_format"),
            slow_call: reader.span_or_off("slow_call"),
            memtable_bytes: reader.bounded::<Size>("memtable_bytes").0,
            block_cache_bytes: reader.bounded::<Size>("block_cache_bytes").0,
            min_free_disk_bytes: reader.bounded::<Size>("min_free_disk_bytes").0 as u64,
            backup_dir: reader.value("backup_dir"),
            backup_keep: reader.bounded("backup_keep"),
        };
        reader.exceed(&settings);
        if let Some(problem) = misplaced(&settings) {
            reader.refuse("backup_dir", &problem);
        }
        if settings.strict && namespaces.is_empty() && reader.faults.is_empty() {
            reader.refuse_all();
        }
        reader.guard(&settings);
        let mut in_force = BTreeMap::new();
        for GivenNamespace { given, name, values } in namespaces {
            let mut of_namespace = Reader::of_namespace(given, values, &reader);
            let read = of_namespace.namespace();
            reader.faults.append(&mut of_namespace.faults);
            if let Some(name) = name {
                settings.namespaces.insert(name.clone(), read);
                in_force.insert(name, in_order(of_namespace.effective));
            }
        }
        let Reader { faults, effective, .. } = reader;
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(Self { settings, effective: in_order(effective), namespaces: in_force })
    }
}

/// In the order of the tables.
fn in_order(mut effective: Vec<Effective>) -> Vec<Effective> {
    let place = |name| SETTINGS.iter().chain(namespace_settings()).position(|it| it.name == name);
    effective.sort_by_key(|effective| place(effective.name));
    effective
}

struct Reader {
    /// The namespace whose settings are read; `None`: those of the server.
    namespace: Option<String>,
    given: Vec<Given>,
    /// What holds where nothing is given, before the defaults.
    inherited: Vec<Effective>,
    /// Settings of the server that are at fault: nothing is held against what stands in.
    doubtful: Vec<String>,
    faults: Vec<Fault>,
    effective: Vec<Effective>,
}

impl Reader {
    fn of_server(given: Vec<Given>, faults: Vec<Fault>) -> Self {
        let (inherited, doubtful, effective) = (Vec::new(), Vec::new(), Vec::new());
        Self { namespace: None, given, inherited, doubtful, faults, effective }
    }

    fn of_namespace(name: String, given: Vec<Given>, server: &Self) -> Self {
        Self {
            namespace: Some(name),
            given,
            inherited: server.effective.clone(),
            doubtful: server.faults.iter().map(|fault| fault.setting.clone()).collect(),
            faults: Vec::new(),
            effective: Vec::new(),
        }
    }

    fn namespace(&mut self) -> NamespaceSettings {
        NamespaceSettings {
            lease: self.span_bounds("lease_min", "lease_default", "lease_max"),
            retention: self.span_bounds("retention_min", "retention_default", "retention_max"),
            lease_expiry_action: self.value("lease_expiry_action"),
            max_response_bytes: self.bounded::<Size>("max_response_bytes").0,
            fingerprint_required: self.value("fingerprint_required"),
            shadow: self.value("shadow"),
            quota: Quota {
                keys: self.bounded_or_off("quota_keys"),
                bytes: self.bounded_or_off::<Size>("quota_bytes").map(|size| size.0 as u64),
            },
        }
    }

    /// Lets what is not given follow from the limit on memory, which has to be within that of
    /// the process.
    fn share_out(&mut self, limit: usize, control_group: Option<&ControlGroup>) {
        if let Some(group) = control_group.filter(|group| group.limit_bytes < limit as u64) {
            let problem = format!(
                "is more than the {} bytes that {} leaves to the process; give less",
                group.limit_bytes,
                group.path.display()
            );
            self.refuse("memory_limit", &problem);
        }
        let derived = memory::derived(limit).into_iter();
        let origin = Origin::MemoryLimit;
        self.inherited = derived
            .map(|(name, value)| Effective { name, value, origin: origin.clone() })
            .collect();
    }

    /// Reports what takes more than its share of the memory, where there is too little for it.
    fn exceed(&mut self, settings: &Settings) {
        let Some(limit) = settings.memory_limit else { return };
        for (name, problem) in memory::excess(settings, limit) {
            if self.in_force(name).is_given_here() {
                self.refuse(name, &problem);
            }
        }
    }

    /// Reports what is wrong with a setting beside others.
    fn refuse(&mut self, name: &str, problem: &str) {
        let Effective { value, origin, .. } = self.in_force(name);
        let (setting, origin) = (name.to_owned(), origin.clone());
        self.faults.push(Fault { setting, origin, problem: format!("\"{value}\" {problem}") });
    }

    /// A server that is strict and lists nothing would refuse every call.
    fn refuse_all(&mut self) {
        let strict = self.in_force("strict");
        self.faults.push(Fault {
            setting: strict.name.to_owned(),
            origin: strict.origin.clone(),
            problem: "is true and no namespace is listed, so every call would be refused; list \
                      them in the file, each as [namespaces.NAME]"
                .to_owned(),
        });
    }

    /// Settings that say who may call go together, and a port that others reach has callers who
    /// are known.
    fn guard(&mut self, settings: &Settings) {
        let (cert, key) = (settings.tls_cert.is_some(), settings.tls_key.is_some());
        let ca = settings.tls_client_ca.is_some();
        let is_optional = settings.tls_client_auth == TlsClientAuth::Optional;
        let is_reached = !settings.listen.ip().to_canonical().is_loopback();
        let is_open = settings.credentials.is_none() && !settings.insecure_any_interface;
        let checks: [(bool, &str, &[&str], &str); 5] = [
            (
                cert && !key,
                "tls_cert",
                &["tls_key"],
                "is given, and tls_key is not; give both or neither",
            ),
            (
                key && !cert,
                "tls_key",
                &["tls_cert"],
                "is given, and tls_cert is not; give both or neither",
            ),
            (
                ca && !cert && !key,
                "tls_client_ca",
                &["tls_cert", "tls_key"],
                "is given, and tls_cert is not; without TLS there are no client certificates",
            ),
            (
                is_optional && !ca,
                "tls_client_auth",
                &["tls_client_ca"],
                "means nothing without tls_client_ca, which says whose certificates are asked for",
            ),
            (
                is_reached && is_open,
                "listen",
                &["credentials", "insecure_any_interface"],
                "is not on loopback, and without credentials whoever reaches it may do everything; \
                 name a file of credentials, or listen on 127.0.0.1, or say \
                 insecure_any_interface = true",
            ),
        ];
        // What cannot be read is not held against what goes with it.
        let unread: Vec<_> = self.faults.iter().map(|fault| fault.setting.clone()).collect();
        for (is_wrong, name, others, problem) in checks {
            if is_wrong && !others.iter().any(|other| unread.iter().any(|it| it == other)) {
                let effective = self.in_force(name);
                let (origin, value) = (effective.origin.clone(), &effective.value);
                let problem = format!("\"{value}\" {problem}");
                self.faults.push(Fault { setting: name.to_owned(), origin, problem });
            }
        }
    }

    fn in_force(&self, name: &str) -> &Effective {
        self.effective.iter().find(|effective| effective.name == name).expect("was read")
    }

    /// The value of a setting that has no bounds.
    fn value<T: Value>(&mut self, name: &'static str) -> T {
        self.read(name, |_, text| T::read(text))
    }

    /// The value of a setting that has bounds.
    fn bounded<T: Value + PartialOrd>(&mut self, name: &'static str) -> T {
        self.read(name, read_bounded)
    }

    /// The value of a setting that has bounds and can be switched off.
    fn bounded_or_off<T: Value + PartialOrd>(&mut self, name: &'static str) -> Option<T> {
        self.read(name, |setting, text| match text {
            "off" => Ok(None),
            _ => read_bounded(setting, text).map(Some),
        })
    }

    /// A span that can be switched off.
    fn span_or_off(&mut self, name: &'static str) -> Option<Duration> {
        self.bounded_or_off::<Timespan>(name).map(|span| span.0)
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
        let doubtful = |name: &str| self.doubtful.iter().any(|other| other == name);
        if self.faults.len() > faults_before || [min, default, max].into_iter().any(doubtful) {
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
        let (smaller, larger) = (self.in_force(smaller), self.in_force(larger));
        let (at, problem) = if smaller.is_given_here() {
            (smaller, format!("is above {}, which is {}", larger.name, with_origin(larger)))
        } else {
            (larger, format!("is below {}, which is {}", smaller.name, with_origin(smaller)))
        };
        self.faults.push(Fault {
            setting: self.path_of(at.name),
            origin: at.origin.clone(),
            problem: format!("\"{}\" {problem}; change one of them", at.value),
        });
    }

    /// How a fault names a setting.
    fn path_of(&self, name: &str) -> String {
        match &self.namespace {
            Some(namespace) => namespaces::path_of(namespace, name),
            None => name.to_owned(),
        }
    }

    /// Reads the strongest value that was given, or else what is inherited, or else the
    /// default. A value that is at fault is reported, and one of the latter stands in for it
    /// until all others are read.
    fn read<T: Value>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Setting, &str) -> Result<T, String>,
    ) -> T {
        let mut known = SETTINGS.iter().chain(namespace_settings());
        let setting = known.find(|setting| setting.name == name).expect("it is in a table");
        let given = self.given.iter().find(|given| given.setting == setting);
        let inherited = self.inherited.iter().find(|effective| effective.name == name);
        let (otherwise, mut origin) = match inherited {
            Some(Effective { value, origin, .. }) if self.namespace.is_some() => {
                (value.as_str(), Origin::Server(Box::new(origin.clone())))
            }
            Some(Effective { value, origin, .. }) => (value.as_str(), origin.clone()),
            None => (setting.default, Origin::Default),
        };
        let mut value = None;
        if let Some(given) = given {
            origin = given.origin.clone();
            let text = given.text.as_deref().map_err(String::clone);
            match text.and_then(|text| {
                read(setting, text).map_err(|problem| format!("\"{text}\" {problem}"))
            }) {
                Ok(read) => value = Some(read),
                Err(problem) => self.faults.push(Fault {
                    setting: self.path_of(name),
                    origin: origin.clone(),
                    problem: format!("{problem}; {}", setting.remedy()),
                }),
            }
        }
        let value =
            value.unwrap_or_else(|| read(setting, otherwise).expect("defaults are within bounds"));
        self.effective.push(Effective { name, value: value.show(), origin });
        value
    }
}

/// What is wrong with the place of backups, beside that of the store.
fn misplaced(settings: &Settings) -> Option<String> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let dir = absolute(settings.backup_dir.as_ref()?);
    let are_apart = |data: &PathBuf| {
        let data = absolute(data);
        !dir.starts_with(&data) && !data.starts_with(&dir)
    };
    match &settings.store {
        StoreUrl::Memory => {
            Some("is given, and the store is memory:, which has no backups; give off".to_owned())
        }
        StoreUrl::RocksDb(data) if are_apart(data) => None,
        StoreUrl::RocksDb(data) => Some(format!(
            "and the data directory, {}, are not apart; give another directory",
            data.display()
        )),
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
        Origin::Server(_) => format!("the server's \"{}\"", effective.value),
        origin => format!("\"{}\" (from {origin})", effective.value),
    }
}
