//! Tests of the respond crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[path = "respond/door.rs"]
mod door;
#[path = "respond/door_support.rs"]
mod door_support;
#[path = "support/http_client.rs"]
mod http_client;
