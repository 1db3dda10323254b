//! The log of a server: where it goes, in which shape, and what of it is written, which can be
//! changed while the server runs.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload::Handle;

/// What is in every filter that is set at run time, and last, where it wins: who may change the
/// log must not be able to hide that, nor anything else that operators force.
const AUDIT: &str = "onced::audit=info";

/// Reads directives such as `info` or `warn,onced=debug`, or says what is wrong with them.
///
/// A bare word has to be a level: the filter itself takes `inof` for the name of a module, and
/// would log nothing at all.
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    for directive in directives.split(',').map(str::trim) {
        let bare = !directive.contains(['=', '[']);
        if bare && directive.parse::<LevelFilter>().is_err() {
            return Err(format!("has the unknown level \"{directive}\""));
        }
    }
    EnvFilter::try_new(directives).map_err(|_| "is not a list of log directives".to_owned())
}

/// Changes what is logged. Clones change the same log.
#[derive(Clone)]
pub struct LogControl {
    inner: Arc<Inner>,
}

struct Inner {
    set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
    /// What the settings say.
    configured: String,
    state: Mutex<State>,
}

struct State {
    in_force: String,
    /// Counts changes, so that one that ends in time does not end a later one.
    change: u64,
}

/// A change of what is logged, once it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What was in force.
    pub before: String,
    /// What is.
    pub after: String,
    /// Which change this is.
    change: u64,
}

/// Sends the log of this process to stderr: stdout belongs to answers. `None`: this process has
/// a log already.
///
/// # Panics
///
/// If `directives` are not those of a filter; settings were checked.
pub fn start(directives: &str, json: bool) -> Option<LogControl> {
    let filter = filter(directives).expect("the setting was validated");
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if json {
        let log = log.json().flatten_event(true).with_filter_reloading();
        let handle = log.reload_handle();
        log.try_init().ok()?;
        return Some(LogControl::new(directives, handle));
    }
    let log = log.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
    let handle = log.reload_handle();
    log.try_init().ok()?;
    Some(LogControl::new(directives, handle))
}

impl LogControl {
    fn new<S: 'static>(configured: &str, handle: Handle<EnvFilter, S>) -> Self {
        let set = move |filter| handle.reload(filter).is_ok();
        Self::through(configured, Box::new(set))
    }

    fn through(configured: &str, set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>) -> Self {
        let state = State { in_force: configured.to_owned(), change: 0 };
        let configured = configured.to_owned();
        Self { inner: Arc::new(Inner { set, configured, state: Mutex::new(state) }) }
    }

    /// Logs what `directives` say from now on, and what operators do in any case; empty ones stand
    /// for the settings'. `None` where the log has ended.
    ///
    /// # Errors
    ///
    /// If they are not directives.
    pub fn set(&self, directives: &str) -> Result<Option<Changed>, String> {
        let directives = if directives.is_empty() { &self.inner.configured } else { directives };
        let in_force = format!("{directives},{AUDIT}");
        let filter = filter(&in_force)?;
        let mut state = self.inner.state.lock().unwrap();
        if !(self.inner.set)(filter) {
            return Ok(None);
        }
        state.change += 1;
        let before = std::mem::replace(&mut state.in_force, in_force.clone());
        Ok(Some(Changed { before, after: in_force, change: state.change }))
    }

    /// Goes back to the settings after this time, unless there is another change before.
    pub async fn end(&self, changed: Changed, after: Duration) {
        tokio::time::sleep(after).await;
        let is_the_last = self.inner.state.lock().unwrap().change == changed.change;
        if is_the_last && let Ok(Some(ended)) = self.set("") {
            tracing::info!(
                target: "onced::audit",
                action = "set_log_filter",
                outcome = "ended",
                before = ended.before,
                after = ended.after,
                "a log filter ended after its time"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that notes which filters it is given.
    fn noting(configured: &str) -> (LogControl, Arc<Mutex<Vec<String>>>) {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&noted);
        let set = move |filter: EnvFilter| {
            notes.lock().unwrap().push(filter.to_string());
            true
        };
        (LogControl::through(configured, Box::new(set)), noted)
    }

    #[test]
    fn what_operators_do_stays_in_the_log() {
        let (log, noted) = noting("info");
        let changed = log.set("warn").unwrap().unwrap();
        assert_eq!(changed.before, "info");
        assert_eq!(changed.after, "warn,onced::audit=info");
        log.set("warn,onced::audit=off").unwrap().unwrap();
        assert_eq!(noted.lock().unwrap().last().unwrap(), "onced::audit=info,warn");
        assert_eq!(log.set("").unwrap().unwrap().after, "info,onced::audit=info");
    }

    #[test]
    fn what_is_no_filter_changes_nothing() {
        let (log, noted) = noting("info");
        for wrong in ["inof", "onced=debugg", "a,,b"] {
            assert!(log.set(wrong).is_err(), "{wrong}");
        }
        assert!(noted.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_change_ends_after_its_time_but_not_a_later_one() {
        let (log, noted) = noting("info");
        let first = log.set("debug").unwrap().unwrap();
        let second = log.set("trace").unwrap().unwrap();
        log.end(first, Duration::ZERO).await;
        assert_eq!(noted.lock().unwrap().len(), 2);
        log.end(second, Duration::ZERO).await;
        assert_eq!(noted.lock().unwrap().len(), 3);
        assert_eq!(log.set("warn").unwrap().unwrap().before, "info,onced::audit=info");
    }
}
