//! Live response: what goes first is taken first, and nothing that hangs holds up the rest.

mod artefact;
pub(crate) mod bounded_reads;
mod collectors;
mod command_artefact;
mod command_run;
pub(crate) mod container_changes;
pub(crate) mod containers;
pub(crate) mod cri;
mod file_collection;
mod footprint;
pub(crate) mod grpc;
mod host_content;
mod host_files;
mod instance_metadata;
mod kernel_files;
mod kernel_state;
pub(crate) mod live_table;
mod login_records;
pub(crate) mod mounts;
mod own_facts;
#[cfg(test)]
pub(crate) mod packed;
mod pattern;
pub(crate) mod process_facts;
mod process_files;
pub(crate) mod processes;
pub(crate) mod protobuf;
mod run;
mod sessions;
mod sock_diag;
mod socket_tables;
pub(crate) mod sockets;
pub(crate) mod spool;
mod survey;
pub mod unix_http;

pub use artefact::{
    Artefact, ArtefactError, ArtefactTable, Commands, Each, EachFrom, Files, How, Profile, Volatility,
};
pub use pattern::Pattern;
pub use run::{ArtefactResult, State, TriageCapture, TriageOptions, TriageSummary};
