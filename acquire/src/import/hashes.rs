//! MD5, SHA-1 and SHA-256, as far as somebody stated them.

use custody::Hasher;
use md5::Md5;
use sha1::{Digest as _, Sha1};

/// A hash that other tools state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 3] = [Self::Md5, Self::Sha1, Self::Sha256];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The one whose value has so many hexadecimal digits.
    pub(super) fn of_length(digits: usize) -> Option<Self> {
        match digits {
            32 => Some(Self::Md5),
            40 => Some(Self::Sha1),
            64 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// Some of the hashes, running.
#[derive(Clone, Default)]
pub(super) struct Hashes {
    md5: Option<Md5>,
    sha1: Option<Sha1>,
    sha256: Option<Hasher>,
}

/// Their values, in hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) md5: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
}

impl Hashes {
    /// Those that are wanted, of nothing yet.
    pub(super) fn new(wanted: impl Fn(Algorithm) -> bool) -> Self {
        Self {
            md5: wanted(Algorithm::Md5).then(Md5::new),
            sha1: wanted(Algorithm::Sha1).then(Sha1::new),
            sha256: wanted(Algorithm::Sha256).then(Hasher::new),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = self.md5.as_mut() {
            md5.update(bytes);
        }
        if let Some(sha1) = self.sha1.as_mut() {
            sha1.update(bytes);
        }
        if let Some(sha256) = self.sha256.as_mut() {
            sha256.update(bytes);
        }
    }

    pub(super) fn finish(self) -> Values {
        Values {
            md5: self.md5.map(|md5| hex(&md5.finalize())),
            sha1: self.sha1.map(|sha1| hex(&sha1.finalize())),
            sha256: self.sha256.map(|sha256| sha256.finish().to_string()),
        }
    }
}

impl Values {
    pub(super) fn of(&self, algorithm: Algorithm) -> Option<&str> {
        match algorithm {
            Algorithm::Md5 => self.md5.as_deref(),
            Algorithm::Sha1 => self.sha1.as_deref(),
            Algorithm::Sha256 => self.sha256.as_deref(),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
