//! The machine whose memory is read: its kernel's files, below one root.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

use crate::sources::disk::open_read_only;

/// `CAP_SYS_RAWIO`, which `/proc/kcore` and `/dev/mem` ask for; `include/uapi/linux/capability.h`.
const CAP_SYS_RAWIO: u32 = 17;

/// Where the files of a running kernel lie: `/`, or a folder that holds copies of them.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// How far the kernel is locked down, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lockdown {
    None,
    Integrity,
    Confidentiality,
    /// securityfs is not mounted, or the kernel has no lockdown.
    Unknown,
}

impl Host {
    /// The machine that this runs on.
    #[must_use]
    pub fn this() -> Self {
        Self::below(Path::new("/"))
    }

    /// The files of a machine below another folder than `/`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where a file of the machine lies.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Opens one of its files for reading.
    pub(crate) fn open(&self, path: &str) -> io::Result<File> {
        open_read_only(CWD, &self.path(path), OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Reads one of its files whole: at most so many bytes, or an error.
    pub(crate) fn read(&self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        read_whole(self.open(path)?, most)
    }

    /// Reads one of its small files as text, without the white space around it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.read(path, 1 << 20).ok()?;
        Some(String::from_utf8_lossy(bytes.trim_ascii()).into_owned())
    }

    /// The names in one of its folders, sorted.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The release of the kernel: `6.1.0-56-cloud-amd64`.
    pub(crate) fn release(&self) -> Option<String> {
        self.text("/proc/sys/kernel/osrelease")
            .filter(|release| !release.is_empty() && !release.contains('/'))
    }

    pub(crate) fn lockdown(&self) -> Lockdown {
        let text = self.text("/sys/kernel/security/lockdown").unwrap_or_default();
        let is = |mode: &str| text.contains(&format!("[{mode}]"));
        if is("confidentiality") {
            Lockdown::Confidentiality
        } else if is("integrity") {
            Lockdown::Integrity
        } else if is("none") {
            Lockdown::None
        } else {
            Lockdown::Unknown
        }
    }

    /// Whether this process may read raw memory, as far as capabilities go.
    pub(crate) fn may_read_raw(&self) -> Option<bool> {
        let status = self.text("/proc/self/status")?;
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let set = u64::from_str_radix(set.trim(), 16).ok()?;
        Some(set & (1 << CAP_SYS_RAWIO) != 0)
    }
}

/// Reads an open file whole: at most so many bytes, or an error.
pub(crate) fn read_whole(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {most} bytes")));
    }
    Ok(bytes)
}
