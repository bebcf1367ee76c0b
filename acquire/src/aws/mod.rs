//! What every act in a cloud account stands on: a connection with credentials, and failures in words of ours.

mod connection;
mod failure;

pub use connection::{Connection, Credentials, Settings};
pub use failure::{Failure, FailureKind};
