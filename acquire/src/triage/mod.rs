//! Live response in order of volatility.

#![allow(dead_code, reason = "the engine that calls these collectors comes with another change")]

mod bounded_reads;
mod container_changes;
mod containers;
mod cri;
mod grpc;
mod kernel_state;
mod live_table;
mod login_records;
#[cfg(test)]
mod packed;
mod process_facts;
mod process_files;
mod processes;
mod protobuf;
mod sessions;
mod sock_diag;
mod socket_tables;
mod sockets;
mod unix_http;
