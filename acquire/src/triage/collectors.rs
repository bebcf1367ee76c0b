//! The table of collectors: code of ours that takes what no single file or program tells.

use super::artefact::{Artefact, How};

/// Which of our collectors an artefact names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collector {
    /// `/V0/self.json`.
    OwnFacts,
    /// The facts of every inode.
    FileMetadata,
    /// SHA-256 of every executable.
    Executables,
}

impl Collector {
    /// The collector of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "self" => Self::OwnFacts,
            "file-metadata" => Self::FileMetadata,
            "executables" => Self::Executables,
            _ => return None,
        })
    }

    /// Whether it asks the running system, not its files.
    pub(crate) fn is_live(self) -> bool {
        match self {
            Self::OwnFacts | Self::FileMetadata | Self::Executables => false,
        }
    }

    /// What it opens that is no file, for the footprint.
    pub(crate) fn sockets(self) -> Option<&'static str> {
        match self {
            Self::OwnFacts | Self::FileMetadata | Self::Executables => None,
        }
    }
}

/// The collector of an artefact, if it has one.
pub(crate) fn collector_of(artefact: &Artefact) -> Option<Collector> {
    match &artefact.how {
        How::Collector(name) => Collector::named(name),
        _ => None,
    }
}
