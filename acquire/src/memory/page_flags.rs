//! Which pages the kernel gives as zeros instead of their content: `/proc/kpageflags`.
//!
//! `/proc/kcore` does not fail on a page that is poisoned, offline or lent to a hypervisor by a balloon: it reads as
//! zeros. Bit 19 `HWPOISON`, bit 20 `NOPAGE` (no memory there, or its block is offline) and bit 23 `OFFLINE` (balloons)
//! tell. Bit numbers: `include/uapi/linux/kernel-page-flags.h`; what kcore does with them: `read_kcore_iter` in
//! `fs/proc/kcore.c`.

use std::fs::File;

use custody::bundle::State;

use super::kcore::{ReadAt, read_exact_at};
use super::physical::PAGE;

/// Why a page is zeros without having been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Withheld {
    /// The memory there is faulty, and the kernel does not touch it.
    Poisoned,
    /// A balloon has given it back to the hypervisor, or a driver has taken it offline.
    Offline,
    /// The kernel knows no page there: its block of memory is offline.
    NoPage,
}

impl Withheld {
    /// What a word of `/proc/kpageflags` says.
    fn of(flags: u64) -> Option<Self> {
        let has = |bit: u32| flags & (1 << bit) != 0;
        if has(19) {
            Some(Self::Poisoned)
        } else if has(23) {
            Some(Self::Offline)
        } else if has(20) {
            Some(Self::NoPage)
        } else {
            None
        }
    }

    /// The state of such a page in the stream.
    #[must_use]
    pub(crate) fn state(self) -> State {
        match self {
            Self::Poisoned => State::Unreadable,
            Self::Offline | Self::NoPage => State::Absent,
        }
    }

    /// The detail in the extents table.
    #[must_use]
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Poisoned => "hwpoison",
            Self::Offline => "page_offline",
            Self::NoPage => "no_page",
        }
    }

    /// What it is, in words.
    #[must_use]
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Poisoned => "faulty memory (hwpoison), which the kernel gives as zeros",
            Self::Offline => "offline pages (a balloon's, or a driver's), which the kernel gives as zeros",
            Self::NoPage => "memory that is offline or not there, which the kernel gives as zeros",
        }
    }
}

/// The flags of all pages, read for each block just before its memory is.
#[derive(Debug)]
pub(crate) struct PageFlags {
    file: Option<File>,
    bytes: Vec<u8>,
}

impl PageFlags {
    /// Of an open `/proc/kpageflags`, if there is one.
    pub(crate) fn new(file: Option<File>) -> Self {
        Self { file, bytes: Vec::new() }
    }

    /// Pages from an address on that the kernel withholds: their index and why. Nothing where the flags are not known.
    pub(crate) fn withheld(&mut self, address: u64, length: usize) -> Vec<(usize, Withheld)> {
        let Some(file) = &self.file else { return Vec::new() };
        let first = address / PAGE as u64;
        let pages = length.div_ceil(PAGE);
        self.bytes.clear();
        self.bytes.resize(pages.saturating_mul(8), 0);
        if read_exact_at(file as &dyn ReadAt, first.saturating_mul(8), &mut self.bytes).is_err() {
            // Past the last page that the kernel knows, the file ends.
            return Vec::new();
        }
        let words = self.bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        words.enumerate().filter_map(|(index, flags)| Some((index, Withheld::of(flags)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn flags_name_the_pages_that_the_kernel_withholds() {
        let mut file = tempfile::tempfile().unwrap();
        for flags in [0u64, 1 << 19, 1 << 23 | 1 << 5, 1 << 10, 1 << 20] {
            file.write_all(&flags.to_le_bytes()).unwrap();
        }
        let mut flags = PageFlags::new(Some(file));
        let expected = [(0, Withheld::Poisoned), (1, Withheld::Offline), (3, Withheld::NoPage)];
        assert_eq!(flags.withheld(0x1000, 4 * PAGE), expected);
        assert_eq!(flags.withheld(0x2000, 1), [(0, Withheld::Offline)]);
        assert!(flags.withheld(0x4000, 2 * PAGE).is_empty());
        assert!(PageFlags::new(None).withheld(0, PAGE).is_empty());
    }
}
