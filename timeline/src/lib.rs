//! Reads evidence bundles into one columnar timeline, and answers questions about it.
#![forbid(unsafe_code)]

pub mod bytes;
mod error;
pub mod event;
pub mod file_kinds;
pub mod host_facts;
pub mod parser;
pub mod parsers;
#[cfg(feature = "store")]
pub mod query;
#[cfg(feature = "store")]
pub mod store;
pub mod text;
pub mod unpack;
pub mod volumes;
pub mod year;
pub mod year_neighbours;
pub mod zone;

pub use error::{Error, ReadError};
