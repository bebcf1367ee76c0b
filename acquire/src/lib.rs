//! Reads disks, files and logs into evidence bundles.
//!
//! A source is only ever opened for reading. What cannot be read becomes a listed [`Issue`] with its place, and never
//! shifts what follows it. Memory is bounded, whatever the size of the source.

#![forbid(unsafe_code)]

mod acquisition;
mod buffers;
mod capture;
mod context;
mod error;
mod file_content;
mod inode;
mod pax;
mod pipeline;
mod progress;
mod resumption;
mod source;
pub mod sources;
mod tar_packer;
pub mod triage;

pub use acquisition::{Acquisition, Destination, Report};
pub use capture::{Capture, Streams};
pub use error::{Error, Result};
pub use pipeline::{Feed, Marks, PipelineOptions};
pub use progress::{NoProgress, Progress};
pub use resumption::OpenAcquisition;
pub use source::{Issue, Issues, Source, read_source};
pub use tar_packer::{FileCounts, TarPacker};
