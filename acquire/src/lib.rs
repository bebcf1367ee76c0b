//! Reads disks, files and logs into evidence bundles.
//!
//! A source is only ever opened for reading. What cannot be read becomes a listed [`Issue`] with its place, and never
//! shifts what follows it. Memory is bounded, whatever the size of the source.

#![deny(unsafe_code)]

mod acquisition;
#[cfg(feature = "cloud")]
pub mod aws;
#[cfg(feature = "cloud")]
pub mod blocks;
mod buffers;
mod capture;
#[cfg(feature = "cloud")]
pub mod cloud_logs;
pub mod container;
mod context;
#[cfg(feature = "cloud")]
pub mod ebs;
mod error;
mod ewf;
pub mod export;
mod file_content;
mod http_agent;
mod http_post;
pub mod import;
mod inode;
pub mod memory;
mod pax;
mod pipeline;
mod progress;
mod reading;
#[cfg(feature = "cloud")]
pub mod remote_images;
mod resumption;
#[cfg(feature = "cloud")]
pub mod s3_reader;
#[cfg(feature = "cloud")]
pub mod s3_store;
pub mod selftest;
mod source;
pub mod sources;
mod tar_packer;
pub mod triage;

pub use acquisition::{Acquisition, Destination, Report};
pub use capture::{Capture, Streams};
pub use error::{Error, Result};
pub use http_agent::careful_agent;
pub use http_post::HttpPost;
pub use pipeline::{Feed, Marks, PipelineOptions};
pub use progress::{NoProgress, Progress};
pub use reading::{Patience, read_source};
pub use resumption::OpenAcquisition;
pub use source::{Issue, Issues, Source};
pub use tar_packer::{FileCounts, TarPacker};
