//! Compiles `proto/` to Rust through protox, so that nobody needs protoc, and keeps the
//! descriptor set for reflection.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;
use prost::Message as _;

/// What is served.
const PUBLIC: [&str; 2] = ["onced/v1/idempotency.proto", "onced/v1/namespace_policy.proto"];
/// What lies on disk.
const PRIVATE: [&str; 1] = ["onced/storage/v1/record.proto"];

fn main() -> anyhow::Result<()> {
    // `compile_fds` prints none of these itself.
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);

    // Only the public API is served, so only it is reflected.
    let public = protox::compile(PUBLIC, ["proto"])?;
    fs::write(out.join("onced_v1_descriptor.bin"), public.encode_to_vec())?;

    let all = protox::compile(PUBLIC.iter().chain(&PRIVATE), ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // The same message as in the details of a status.
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .compile_fds(all)?;
    Ok(())
}
