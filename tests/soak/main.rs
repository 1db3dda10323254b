//! A long run of the real server: what it holds in memory, on disk and open reaches a level,
//! the sweeper keeps up, and a mountain of keys whose retention is over is no cliff for callers.
//!
//! One run has these phases ([`run`]): it fills a store with keys; measures for a while; then
//! the server is restarted on a clock two hours later, so that all of these keys are overdue at
//! once, the worst that expiry can do; then a mixed load of short-lived keys for the length of
//! the run. All the while a probe ([`probe`]) calls at a fixed rate and measures from the
//! moment at which each call was due, so that a stall counts for every call that it delays.
//!
//! `make test` runs it for seconds, `make proof` for minutes, and `make soak` for as long as
//! one likes, with the optimised binary. Times are printed and drawn, and not asserted.

mod plot;
#[path = "../harness/preload.rs"]
mod preload;
mod probe;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;
mod run;
mod samples;
#[path = "../harness/shim.rs"]
mod shim;

use std::time::Duration;

use crate::proof::{Row, effort};
use crate::run::Plan;

/// A setting of `make soak`, or else the effort of this form.
fn setting(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => otherwise,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_files_and_disk_reach_a_level_and_expiry_is_no_cliff() {
    let mixed = Duration::from_secs(setting("ONCED_TEST_SOAK_SECONDS", effort(3, 120)));
    let plan = Plan {
        keys: setting("ONCED_TEST_SOAK_KEYS", effort(10_000, 300_000)),
        quiet: (mixed / 8).max(Duration::from_secs(1)),
        mixed,
    };
    let report = run::run(&plan).await;
    println!("{}", report.table);
    if let Some(path) = std::env::var_os("ONCED_TEST_SOAK_PLOT") {
        plot::draw(&report, path.as_ref());
    }
    Row {
        promise: "7 everything is bounded, 4 purging only frees space",
        attack: "long run: keys that expire at once, then a mixed load of short-lived keys",
        times: &format!(
            "{} keys at once, {} probes, {} s of mixed load; {}",
            plan.keys,
            report.probes,
            plan.mixed.as_secs(),
            report.levels
        ),
        lost: 0,
    }
    .report();
}
