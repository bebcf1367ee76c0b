//! Tests of the respond crate.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[path = "respond/alerts.rs"]
mod alerts;
#[path = "respond/isolate_aws.rs"]
mod isolate_aws;
#[path = "respond/isolate_host.rs"]
mod isolate_host;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/netns.rs"]
mod netns;
