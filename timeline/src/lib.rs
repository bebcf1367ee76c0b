//! Reads evidence bundles into one columnar timeline, and answers questions about it.
#![forbid(unsafe_code)]

pub mod build;
mod bundle_stream;
pub mod bytes;
#[cfg(feature = "store")]
pub mod case_timeline;
mod error;
pub mod event;
pub mod evidence;
pub mod file_kinds;
pub mod file_scan;
pub mod host_facts;
pub mod images;
pub mod memory;
pub mod parser;
pub mod parsers;
pub mod progress;
pub mod prove;
#[cfg(feature = "store")]
pub mod query;
pub mod record;
#[cfg(feature = "store")]
pub mod store;
pub mod text;
pub mod unpack;
pub mod volumes;
pub mod year;
pub mod year_neighbours;
pub mod zone;

pub use error::{Error, ReadError};
