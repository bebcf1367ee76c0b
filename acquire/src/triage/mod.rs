//! Live response: what goes first is taken first, and nothing that hangs holds up the rest.

mod artefact;
mod bounded_reads;
mod collectors;
mod command_artefact;
mod command_run;
mod container_changes;
mod containers;
mod cri;
mod file_collection;
mod footprint;
mod grpc;
mod host_content;
mod host_files;
mod instance_metadata;
mod kernel_files;
mod kernel_state;
mod live_table;
mod login_records;
mod mounts;
mod own_facts;
#[cfg(test)]
mod packed;
mod pattern;
mod process_facts;
mod process_files;
mod processes;
mod protobuf;
mod run;
mod sessions;
mod sock_diag;
mod socket_tables;
mod sockets;
pub(crate) mod spool;
mod survey;
pub mod unix_http;

pub use artefact::{
    Artefact, ArtefactError, ArtefactTable, Commands, Each, EachFrom, Files, How, Profile, Volatility,
};
pub use pattern::Pattern;
pub use run::{ArtefactResult, State, TriageCapture, TriageOptions, TriageSummary};
