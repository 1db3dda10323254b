//! Storage.

mod open;

pub use open::StoreUrl;
