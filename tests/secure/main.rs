//! The real binary behind TLS and credentials, as the command line meets it ([`command_line`]), as
//! strangers do that share no code with onced ([`strangers`]: openssl and grpcurl), and while its
//! files change under it ([`reload`]).
//!
//! The tools are found on the PATH, or where `ONCED_TEST_OPENSSL` and `ONCED_TEST_GRPCURL` point.
//! Where one is missing its test says so and passes, unless `ONCED_REQUIRE_CLIENTS=1`.

#[path = "../harness/certificates.rs"]
mod certificates;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/skip.rs"]
mod skip;
#[path = "../harness/tool.rs"]
mod tool;

mod command_line;
mod premises;
mod reload;
mod strangers;
