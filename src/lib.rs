//! onced

pub mod domain;
pub mod pb;
pub mod storage;
