//! Tests of the respond crate.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[path = "respond/bench.rs"]
mod bench;
#[path = "respond/kubernetes.rs"]
mod kubernetes;
#[path = "support/runc_box.rs"]
mod runc_box;
#[path = "respond/ssh.rs"]
mod ssh;
