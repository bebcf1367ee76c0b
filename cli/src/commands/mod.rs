//! One file a command: its arguments, and a `run` that only translates.

pub(crate) mod acquire;
pub(crate) mod completions;
pub(crate) mod custody;
#[cfg(feature = "timeline")]
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod man;
#[cfg(feature = "timeline")]
pub(crate) mod parsers;
#[cfg(feature = "cloud")]
pub(crate) mod pull;
#[cfg(feature = "timeline")]
pub(crate) mod query;
pub(crate) mod report;
pub(crate) mod selftest;
#[cfg(feature = "timeline")]
pub(crate) mod show;
#[cfg(feature = "timeline")]
pub(crate) mod sql;
#[cfg(feature = "timeline")]
pub(crate) mod timeline;
pub(crate) mod verify;
