//! What every act in a cloud account stands on: a connection with credentials, failures in words of ours, and a small typed
//! client of the few services that are not worth an SDK.
//!
//! The clients wait for their answers, so they must not be called from within a task of the connection's own runtime.

mod answer;
pub mod cloudtrail;
mod connection;
pub mod ec2;
mod ec2_snapshots;
mod endpoint;
mod failure;
pub mod iam;
pub mod kms;
pub mod quotas;
mod request;
pub mod ssm;
pub mod sts;
mod wire;
mod xml;

pub use answer::{Answered, Raw};
pub use connection::{Connection, Credentials, Settings};
pub use failure::{Failure, FailureKind};
pub(crate) use xml::Element;
