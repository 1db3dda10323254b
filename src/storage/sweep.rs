//! The sweeper: frees the space of records whose retention is over, and goes on with erases
//! that operators began, in small paced steps.
//!
//! No answer relies on it having run. While there is a backlog it rests after each step for as long
//! as callers had to wait for it, so that the engine is theirs half of the time at least. Not longer:
//! records that come faster than they go would fill the disk in the end.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Engine;

/// How many records one step looks at: about a millisecond of work.
const STEP: usize = 128;

/// How often it looks when there was nothing to do.
const INTERVAL: Duration = Duration::from_millis(500);

/// A thread that sweeps until it is dropped.
pub struct Sweeper {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts to sweep `engine`.
    pub fn start(engine: Arc<dyn Engine>) -> std::io::Result<Self> {
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let seen = Arc::clone(&stopped);
        let thread = std::thread::Builder::new()
            .name("onced-sweep".into())
            .spawn(move || sweep(engine.as_ref(), &seen))?;
        Ok(Self { stopped, thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        *self.stopped.0.lock().unwrap() = true;
        self.stopped.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sweep(engine: &dyn Engine, stopped: &(Mutex<bool>, Condvar)) {
    let mut failing = false;
    // What this backlog came to so far, and since when there is one.
    let mut backlog: Option<(Instant, usize)> = None;
    loop {
        let began_at = Instant::now();
        // Both, so that neither has to wait for the other's backlog.
        let steps = engine.purge(STEP).and_then(|purged| {
            let erasing_at = Instant::now();
            let erased = engine.erase_step(STEP)?;
            // An erase keeps callers out for all of its step.
            Ok((purged, erased, purged.kept_out + erasing_at.elapsed()))
        });
        let pause = match steps {
            Ok((purged, erased, kept_out)) => {
                failing = false;
                let (since, records) = backlog.take().unwrap_or((began_at, 0));
                let records = records + purged.records;
                if purged.more {
                    backlog = Some((since, records));
                } else if records > 0 {
                    debug!(records, took = ?since.elapsed(), "swept");
                }
                if purged.more || erased.more { kept_out } else { INTERVAL }
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot sweep");
                }
                failing = true;
                INTERVAL
            }
        };
        let guard = stopped.0.lock().unwrap();
        let (guard, _) = stopped.1.wait_timeout_while(guard, pause, |stopped| !*stopped).unwrap();
        if *guard {
            return;
        }
    }
}
