//! The sweeper: frees the space of records whose retention is over, and goes on with erases
//! that operators began, in small paced steps.
//!
//! No answer relies on it having run. While there is a backlog it rests after each step, so that
//! it leaves the engine to callers most of the time and they are never far behind it.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Engine;

/// How many records one step looks at: about a millisecond of work.
const STEP: usize = 128;

/// How much of the time that a purge took it rests after it: a quarter. Most of it was reading, in
/// nobody's way; records that come faster than they go would fill the disk in the end.
const PURGE_REST: u32 = 4;

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
            let purging = began_at.elapsed();
            Ok((purged, purging, engine.erase_step(STEP)?))
        });
        let pause = match steps {
            Ok((purged, purging, erased)) => {
                failing = false;
                let (since, records) = backlog.take().unwrap_or((began_at, 0));
                let records = records + purged.records;
                if purged.more {
                    backlog = Some((since, records));
                } else if records > 0 {
                    debug!(records, took = ?since.elapsed(), "swept");
                }
                // An erase keeps callers out for all of its step.
                let erasing = began_at.elapsed() - purging;
                let rest = purging / PURGE_REST + erasing;
                if purged.more || erased.more { rest } else { INTERVAL }
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
