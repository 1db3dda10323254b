//! The real binary and callers who mean harm, or whose code is broken.
//!
//! | attack | where |
//! |---|---|
//! | bytes that are no HTTP/2, halves of frames, conversations with bits flipped | [`garbage`] |
//! | floods of resets, settings, pings, empty frames; headers without end | [`floods`] |
//! | messages at and above the bound, lengths that lie, compression that was not agreed | [`messages`] |
//! | many connections with large results and answers, under a limit on memory | [`limit`] |
//! | thousands of connections that say nothing, callers who do not read | [`silence`] |
//!
//! During each attack a caller who means well ([`bystander`]) has to be answered, and rightly.
//! After it the server holds no more memory than the attack may cost, nothing has panicked, and
//! its health is SERVING.

mod bystander;
#[path = "../harness/dice.rs"]
mod dice;
mod floods;
mod garbage;
#[path = "../harness/http2.rs"]
mod http2;
mod limit;
mod messages;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;
mod silence;
mod target;
