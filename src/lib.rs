//! onced

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod pb;
pub mod server;
pub mod storage;
