//! The worst pause: a long run at half of what the server can do, at fixed moments, while records
//! end their retention, memtables are flushed and tables are compacted.

use std::time::Duration;

use crate::figures::{Bar, Judged, Spread, span, thousands};
use crate::load::{Load, Run};
use crate::onced::Onced;
use crate::options::Options;
use crate::place::Place;
use crate::stage::empty;

/// Reservations and their completions, with a response that fills memtables.
const LOAD: Load = Load::new("cycle", 4, 256);

/// The part of the most that is possible.
const PART: f64 = 0.5;

pub fn worst(options: &Options, place: &Place) -> anyhow::Result<Judged> {
    let directory = place.directory.join("pause");
    empty(&directory)?;
    let server = Onced::start(
        &options.binary,
        &directory,
        // Completions are to go while it runs, and reservations without one as well.
        &["--retention-max", "10s", "--retention-default", "10s"].map(str::to_owned),
    )?;
    let (binary, server_name) = (options.binary.as_path(), "onced");
    let run = |length, rate: Option<u32>| {
        let load = if rate.is_some() { LOAD } else { Load { in_flight: 64, ..LOAD } };
        Run { binary, server: server_name, place, load, length, rate, more: &[] }.on(&server)
    };
    // Two calls make an operation.
    let most = 2.0 * run(options.window(), None)?.rate;
    let rate = most * PART;
    eprintln!("  {most:.0} calls/s at most; {rate:.0}/s for {} s", options.length);
    let window = run(Duration::from_secs_f64(options.length), Some(rate as u32))?;
    server.stop()?;
    let max = window.max_micros / 1e3;
    Ok(Judged {
        what: format!(
            "worst pause in {} s of load with flushes, compaction and expiry",
            options.length
        ),
        measured: format!(
            "{} calls/s at fixed moments: p50 {}, p99 {}, p99.9 {}, {} faults",
            thousands(rate),
            span(window.p50_micros),
            span(window.p99_micros),
            span(window.p999_micros),
            window.faults
        ),
        figure: Spread { median: max, min: max, max },
        unit: "ms",
        bar: Bar::AtMost(100.0),
    })
}
