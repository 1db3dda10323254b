//! The real binary on a machine that fails it.
//!
//! | fault | what callers get | health | what brings it back |
//! |---|---|---|---|
//! | disk nearly full ([`disk`]) | Reserve: STORE_FULL; everything that ends a reservation is taken | NOT_SERVING | room: by itself |
//! | disk so full that tables may not be written ([`disk`]) | STORE_FULL for results and checkpoints too; releases are taken | NOT_SERVING | room: by itself |
//! | disk full, writes or syncs fail ([`disk`]) | OUTCOME_UNKNOWN where it was being written, then STORE_UNAVAILABLE | NOT_SERVING | a restart, once the disk is in order |
//! | read-only file system ([`disk`]) | the server does not start, and says so | | a writable one |
//! | stalled disk ([`disk`]) | no answer before the sync, or the caller's deadline | SERVING: nothing is known to be wrong | by itself |
//! | system clock steps ([`clock`]) | leases are judged by the new time after a step forward, and go on after a step back; `decide_time` never goes back | SERVING | nothing is needed |
//! | too many open files ([`limits`]) | new connections wait; what is open is served | SERVING | by itself |
//! | torn log tail, garbage behind it ([`files`]) | everything that was acknowledged | SERVING | by itself |
//! | damaged table or manifest ([`files`]) | the server does not start and says what to do, or STORE_CORRUPTED for what cannot be read; never another answer | | a copy of the directory |
//! | newer format ([`files`]) | the server does not start, and names both formats | | the build that wrote it |
//! | killed while it recovers ([`limits`]) | everything that was acknowledged | SERVING | by itself |
//!
//! SIGTERM under load and kill -9 under load are in `tests/crash`, power cuts in `tests/power`.
//!
//! What nobody can promise: a bit that flips in a log *before* its last record looks like a torn
//! tail to RocksDB, which then forgets what came behind it. Only a disk that breaks its word
//! does that, and nothing here detects it.

mod caller;
mod clock;
#[path = "../harness/dice.rs"]
mod dice;
mod disk;
mod files;
#[path = "../harness/ledger.rs"]
mod ledger;
mod limits;
mod mount;
#[path = "../harness/preload.rs"]
mod preload;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;
#[path = "../harness/scrape.rs"]
mod scrape;
#[path = "../harness/shim.rs"]
mod shim;
mod watch;

use std::path::Path;
use std::process::Output;

use crate::process::onced;
use crate::proof::Row;

/// A server that is expected to give up at once: how it ended, and what it said.
fn refuses_to_serve(store: &Path) -> (Option<i32>, String) {
    let url = format!("rocksdb:{}", store.display());
    let ended: Output =
        onced().args(["serve", "--listen", "127.0.0.1:0", "--store", &url]).output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

/// A row of the proof: no acknowledged answer was lost by this fault.
fn survived(attack: &str, times: &str) {
    Row {
        promise: "2 durable before answered, 6 poisoned after a failed commit",
        attack,
        times,
        lost: 0,
    }
    .report();
}
