//! What every act in a cloud account stands on: a connection with credentials, failures in words of ours, and a small typed
//! client of the few services that are not worth an SDK.
//!
//! What was only tried against answers in the shape that AWS documents, since no test server has it: LockSnapshot,
//! DescribeLockedSnapshots, SimulatePrincipalPolicy, LookupEvents, GetServiceQuota of EBS, DescribeInstanceInformation. Not tried
//! at all: the addresses of AWS itself, which tests cannot reach.
//!
//! The clients wait for their answers, so they must not be called from within a task of the connection's own runtime.

mod answer;
pub mod cloudtrail;
mod connection;
pub mod ec2;
mod ec2_network;
mod ec2_protection;
mod ec2_rights;
mod ec2_snapshots;
pub mod eks;
mod endpoint;
mod failure;
pub mod guardduty;
pub mod iam;
pub mod kms;
pub mod log_groups;
pub mod query_logs;
pub mod quotas;
mod request;
pub mod ssm;
pub mod sts;
mod wire;
mod xml;

pub use answer::{Answered, Raw};
pub use connection::{Connection, Credentials, CredentialsLife, Settings};
pub use failure::{Failure, FailureKind};
pub(crate) use xml::Element;
