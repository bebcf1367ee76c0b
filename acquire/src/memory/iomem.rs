//! Where a machine's memory lies: the `System RAM` ranges of `/proc/iomem`.
//!
//! - Only lines of the top level count; what is indented lies inside one of them. The exception is memory that was
//!   added to a running machine, which the kernel names `System RAM (virtio_mem)` or `(kmem)` below its device.
//! - Ends are inclusive, as the kernel writes them. Ranges that touch are joined, as AVML does.
//! - Without `CAP_SYS_ADMIN` the kernel gives every address as zero: that is said, never taken for a range.
//! - Reference: `r_show` in the kernel's `kernel/resource.c`.

use std::fmt;

/// The longest `/proc/iomem` that is read. Machines with thousands of devices have some hundred KiB.
pub(crate) const LONGEST: u64 = 16 << 20;

/// How memory that was added at run time is named, at any level.
const ADDED: [&[u8]; 2] = [b" : System RAM (virtio_mem)", b" : System RAM (kmem)"];

/// A range of physical addresses; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalRange {
    start: u64,
    last: u64,
}

impl PhysicalRange {
    /// A range by its first and its last address.
    #[must_use]
    pub fn new(start: u64, last: u64) -> Option<Self> {
        (start <= last).then_some(Self { start, last })
    }

    /// A range by its first address and its length.
    #[must_use]
    pub fn with_length(start: u64, length: u64) -> Option<Self> {
        Self::new(start, start.checked_add(length.checked_sub(1)?)?)
    }

    /// First address.
    #[must_use]
    pub fn start(self) -> u64 {
        self.start
    }

    /// Last address: it belongs to the range.
    #[must_use]
    pub fn last(self) -> u64 {
        self.last
    }

    /// Bytes. The whole address space counts one less than it has.
    #[must_use]
    pub fn length(self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }

    /// What both ranges hold.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.last.min(other.last))
    }
}

impl fmt::Display for PhysicalRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.last)
    }
}

/// Why a table of memory ranges is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IomemError {
    /// The kernel hides the addresses.
    #[error("its addresses are all zero: reading them needs CAP_SYS_ADMIN (be root, outside a container)")]
    Hidden,
    /// There is no line of RAM in it.
    #[error("it lists no System RAM")]
    NoRam,
    /// A line of RAM that cannot be read.
    #[error("line {line} names no range of addresses")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
}

/// Reads the `System RAM` ranges out of the text of `/proc/iomem`: sorted, and joined where they touch or overlap.
///
/// # Errors
///
/// [`IomemError`]: nothing may be acquired by a table that is understood in part only.
pub fn system_ram(text: &[u8]) -> Result<Vec<PhysicalRange>, IomemError> {
    let mut ranges = Vec::new();
    let mut hidden = false;
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let at_top = line.strip_suffix(b" : System RAM").filter(|text| !text.starts_with(b" "));
        let added = || ADDED.iter().find_map(|name| line.strip_suffix(*name)).map(<[u8]>::trim_ascii_start);
        let Some(addresses) = at_top.or_else(added) else { continue };
        let (start, last) = addresses_of(addresses).ok_or(IomemError::Line { line: index + 1 })?;
        if (start, last) == (0, 0) {
            hidden = true;
            continue;
        }
        ranges.push(PhysicalRange::new(start, last).ok_or(IomemError::Line { line: index + 1 })?);
    }
    match (ranges.is_empty(), hidden) {
        (_, true) => Err(IomemError::Hidden),
        (true, false) => Err(IomemError::NoRam),
        (false, false) => Ok(joined(ranges)),
    }
}

fn addresses_of(text: &[u8]) -> Option<(u64, u64)> {
    let (start, last) = std::str::from_utf8(text).ok()?.split_once('-')?;
    let address = |digits: &str| {
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    Some((address(start)?, address(last)?))
}

/// Sorts ranges, and joins those that touch or overlap.
pub(crate) fn joined(mut ranges: Vec<PhysicalRange>) -> Vec<PhysicalRange> {
    ranges.sort_unstable();
    let mut out: Vec<PhysicalRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(before) if before.last.checked_add(1).is_none_or(|next| next >= range.start) => {
                before.last = before.last.max(range.last);
            }
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000bffff : PCI Bus 0000:00
00100000-1ffdffff : System RAM
  01000000-02000e2f : Kernel code
  1f000000-1f0fffff : System RAM
1ffe0000-1fffffff : Reserved
100000000-13fffffff : System RAM
140000000-1bfffffff : virtio0
  148000000-14fffffff : System RAM (virtio_mem)
";

    #[test]
    fn only_ram_of_the_top_level_counts_and_its_last_byte_belongs_to_it() {
        let ranges = system_ram(USUAL.as_bytes()).unwrap();
        let told: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["0x1000-0x9fbff", "0x100000-0x1ffdffff", "0x100000000-0x13fffffff", "0x148000000-0x14fffffff"]
        );
        assert_eq!(ranges[0].length(), 0x9fbff - 0x1000 + 1);
    }

    #[test]
    fn hidden_addresses_are_named_and_never_taken_for_a_range() {
        let hidden = b"00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n";
        assert_eq!(system_ram(hidden), Err(IomemError::Hidden));
        assert_eq!(system_ram(b"00000000-00000fff : Reserved\n"), Err(IomemError::NoRam));
        assert_eq!(system_ram(b"x\n1000-1 : System RAM\n"), Err(IomemError::Line { line: 2 }));
        assert_eq!(system_ram(b"+1-2 : System RAM\n"), Err(IomemError::Line { line: 1 }));
    }

    #[test]
    fn ranges_that_touch_are_joined_up_to_the_end_of_the_address_space() {
        let text = b"2000-2fff : System RAM\n1000-1fff : System RAM\nf000-ffffffffffffffff : System RAM\n\
            fffff000-fffffffff : System RAM\n";
        let ranges = system_ram(text).unwrap();
        let told: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["0x1000-0x2fff", "0xf000-0xffffffffffffffff"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_into_ranges_in_order(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(ranges) = system_ram(&text) {
                prop_assert!(ranges.windows(2).all(|pair| pair[0].last() < pair[1].start()));
            }
        }

        #[test]
        fn any_ranges_come_out_sorted_apart_and_whole(pairs in proptest::collection::vec((0u16..2000, 0u16..2000), 1..40)) {
            let mut text = String::new();
            let mut held = std::collections::BTreeSet::new();
            for (a, b) in pairs {
                let (start, last) = (u64::from(a.min(b)) + 1, u64::from(a.max(b)) + 1);
                text.push_str(&format!("{start:08x}-{last:08x} : System RAM\n"));
                held.extend(start..=last);
            }
            let ranges = system_ram(text.as_bytes()).unwrap();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last() + 1 < pair[1].start()));
            let out: std::collections::BTreeSet<u64> = ranges.iter().flat_map(|r| r.start()..=r.last()).collect();
            prop_assert_eq!(out, held);
        }
    }
}
