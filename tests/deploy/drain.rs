//! How long a server may take to stop, which whoever stops it has to know.

use std::time::Duration;

use serde_json::Value;

use crate::process::onced;
use crate::said_by;

/// The longest drain of a server with the default settings: after it, the process ends.
pub fn longest() -> Duration {
    let shown = said_by(onced().args(["serve", "--check", "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let of = |name: &str| {
        humantime::parse_duration(shown["settings"][name]["value"].as_str().unwrap()).unwrap()
    };
    of("drain_grace") + of("drain_limit")
}
