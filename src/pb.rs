//! The generated protobuf types: the public API, and the record as it is stored.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

pub mod codec;

/// `onced.v1`: what callers see.
pub mod v1 {
    tonic::include_proto!("onced.v1");

    /// The descriptor set of the public API, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/onced_v1_descriptor.bin"));

    /// The descriptor set of what operators see, for reflection.
    pub const ADMIN_FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/onced_v1_admin_descriptor.bin"));
}

/// `onced.storage.v1`: what lies on disk.
pub mod storage {
    tonic::include_proto!("onced.storage.v1");
}
