//! The worst pause: a long run at half of what the server can keep up, at fixed moments, while
//! records end their retention, memtables are flushed and tables are compacted.
//!
//! What it can keep up is measured when all of that goes on beside the calls. In the first seconds
//! of an empty store nothing does, and it takes nearly twice as many.

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

/// How long it takes until as many records go as come: the longest lease that a Reserve here has,
/// the retention below, and some time for the sweeper.
const UNTIL_RECORDS_END: Duration = Duration::from_secs(45);

/// For how long the most is measured then: some merges of tables.
const SUSTAINED: Duration = Duration::from_secs(15);

pub fn worst(options: &Options, place: &Place) -> anyhow::Result<Judged> {
    let directory = place.directory.join("pause");
    // Completions are to go while it runs, and reservations without one as well.
    let settings = ["--retention-max", "10s", "--retention-default", "10s"].map(str::to_owned);
    let start = || {
        empty(&directory)?;
        Onced::start(&options.binary, &directory, &settings)
    };
    let (binary, server_name) = (options.binary.as_path(), "onced");
    let run = |server: &Onced, length, rate: Option<u32>| {
        let load = if rate.is_some() { LOAD } else { Load { in_flight: 64, ..LOAD } };
        Run { binary, server: server_name, place, load, length, rate, more: &[] }.on(server)
    };
    let server = start()?;
    // Two calls make an operation.
    let first = 2.0 * run(&server, UNTIL_RECORDS_END, None)?.rate;
    let most = 2.0 * run(&server, SUSTAINED, None)?.rate;
    server.stop()?;
    let rate = most * PART;
    eprintln!(
        "  {first:.0} calls/s until records end, {most:.0}/s then; {rate:.0}/s for {} s",
        options.length
    );
    let server = start()?;
    let window = run(&server, Duration::from_secs_f64(options.length), Some(rate as u32))?;
    server.stop()?;
    let max = window.max_micros / 1e3;
    Ok(Judged {
        what: format!(
            "worst pause in {} s of load with flushes, compaction and expiry",
            options.length
        ),
        measured: format!(
            "{} calls/s at fixed moments, half of what it keeps up: p50 {}, p99 {}, p99.9 {}, {} faults",
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
