//! Takes alerts in, decides by rules, captures and isolates exactly once, and proves before the incident that it would.
//!
//! An alert goes one way through this crate, and each stop is a module:
//!
//! ```text
//! server -> authenticate -> state (durable) -> alert -> rules (+ inventory) -> jobs -> steps -> targets, isolate
//! ```
//!
//! Nothing is answered before it is on the disk, and nothing is done before the intent to do it is. What an alert says is
//! hostile: it chooses among assets that the inventory or an owned account has, and never what is run, nor where.

#![deny(unsafe_code)]

pub mod alert;
pub mod authenticate;
pub mod edr;
mod error;
pub mod exercise;
pub mod inventory;
pub mod isolate;
pub mod jobs;
pub mod mttr;
pub mod ready;
pub mod rules;
pub mod server;
pub mod settings;
pub mod state;
pub mod steps;
pub mod targets;

pub use error::{Error, Result};
