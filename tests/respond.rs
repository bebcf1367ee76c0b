//! Tests of the respond crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[path = "respond/alerts.rs"]
mod alerts;
#[path = "respond/edr.rs"]
mod edr;
#[path = "respond/edr_console.rs"]
mod edr_console;
#[path = "respond/isolate_aws.rs"]
mod isolate_aws;
#[path = "respond/isolate_host.rs"]
mod isolate_host;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/netns.rs"]
mod netns;
#[path = "respond/door.rs"]
mod door;
#[path = "respond/door_sns.rs"]
mod door_sns;
#[path = "respond/door_support.rs"]
mod door_support;
#[path = "respond/door_tls.rs"]
mod door_tls;
#[path = "support/http_client.rs"]
mod http_client;
#[path = "respond/sns_sender.rs"]
mod sns_sender;
