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
    /// Every process, its files, and what lies in no folder any more.
    Processes,
    /// The sockets of every network namespace.
    Sockets,
    /// What the kernel says of itself.
    KernelState,
    /// Who is on the system.
    Sessions,
    /// Containers, and what they changed.
    Containers,
}

impl Collector {
    /// The collector of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "self" => Self::OwnFacts,
            "file-metadata" => Self::FileMetadata,
            "executables" => Self::Executables,
            "processes" => Self::Processes,
            "sockets" => Self::Sockets,
            "kernel-state" => Self::KernelState,
            "sessions" => Self::Sessions,
            "containers" => Self::Containers,
            _ => return None,
        })
    }

    /// Whether it asks the running system, not its files.
    pub(crate) fn is_live(self) -> bool {
        match self {
            Self::OwnFacts | Self::FileMetadata | Self::Executables => false,
            Self::Processes | Self::Sockets | Self::KernelState | Self::Sessions | Self::Containers => true,
        }
    }

    /// What it opens that is no file, for the footprint.
    pub(crate) fn sockets(self) -> Option<&'static str> {
        match self {
            Self::Sockets => Some("the kernel's socket monitor (netlink), in every network namespace"),
            Self::Containers => {
                Some("Docker, Podman, containerd, CRI-O, cri-dockerd, where their sockets are")
            }
            _ => None,
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
