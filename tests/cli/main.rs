//! The built binary as people and scripts meet it: exit codes, JSON, and the story of
//! `onced run`. Every test has a server of its own, in its own process and on a free port;
//! nothing waits for time to pass, but for a process to say something or to end.

mod admin;
mod backups;
mod bench;
mod clients;
mod inspect;
mod process;
#[path = "../harness/skip.rs"]
mod skip;

mod hosts;
mod leases;
mod run;
mod settings;
mod signals;
mod wait;
