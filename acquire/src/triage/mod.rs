//! Live response: what goes first is taken first, and nothing that hangs holds up the rest.

mod artefact;
mod bounded_reads;
mod collectors;
mod command_artefact;
mod command_run;
mod file_collection;
mod footprint;
mod host_content;
mod host_files;
mod live_table;
mod mounts;
mod own_facts;
mod pattern;
mod run;
mod spool;
mod survey;

pub use artefact::{
    Artefact, ArtefactError, ArtefactTable, Commands, Each, EachFrom, Files, How, Profile, Volatility,
};
pub use pattern::Pattern;
pub use run::{ArtefactResult, State, TriageCapture, TriageOptions, TriageSummary};
