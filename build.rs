//! Compiles `proto/` to Rust through protox, so that nobody needs protoc, and keeps the
//! descriptor set for reflection.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;
use prost::Message as _;

/// What callers see, and what operators see beside it. Each has a descriptor set of its own,
/// since a server may serve the one without the other.
const IDEMPOTENCY: [&str; 2] = ["onced/v1/idempotency.proto", "onced/v1/namespace_policy.proto"];
const ADMIN: [&str; 1] = ["onced/v1/admin.proto"];

/// What lies on disk, and is never served.
const STORED: [&str; 2] = ["onced/storage/v1/record.proto", "onced/storage/v1/erase.proto"];

fn main() -> anyhow::Result<()> {
    // `compile_fds` prints none of these itself.
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);

    for (served, name) in [(&IDEMPOTENCY[..], "onced_v1"), (&ADMIN, "onced_v1_admin")] {
        let served = protox::compile(served, ["proto"])?;
        fs::write(out.join(format!("{name}_descriptor.bin")), served.encode_to_vec())?;
    }

    let all = protox::compile(IDEMPOTENCY.into_iter().chain(ADMIN).chain(STORED), ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .codec_path("crate::pb::codec::MessageCodec")
        // The same message as in the details of a status.
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .compile_fds(all)?;
    Ok(())
}
