//! What a kernel notes of itself for those who read its memory after a crash.
//!
//! - Found at: the VMCOREINFO note of `/proc/kcore`; in memory, a page of its own.
//! - Reference: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`.

use std::collections::BTreeMap;

use super::kallsyms::TableAddresses;

/// The note is a page at most.
pub(crate) const LARGEST: usize = 4096;
/// The words that it begins with.
pub(crate) const MARK: &[u8] = b"OSRELEASE=";

/// The lines of the note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VmcoreInfo(BTreeMap<String, String>);

impl VmcoreInfo {
    /// Reads `NAME=value` lines up to the first NUL.
    pub(crate) fn parse(bytes: &[u8]) -> VmcoreInfo {
        let bytes = bytes.get(..bytes.len().min(1 << 16)).unwrap_or_default();
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let lines = text.split(|b| *b == b'\n').filter_map(|line| {
            let (name, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
            Some((name.to_owned(), value.trim().to_owned()))
        });
        VmcoreInfo(lines.collect())
    }

    /// The kernel's release: `6.1.0-25-amd64`.
    pub(crate) fn release(&self) -> Option<&str> {
        self.0.get("OSRELEASE").map(String::as_str)
    }

    /// `SYMBOL(name)`, an address.
    pub(crate) fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.0.get(&format!("SYMBOL({name})"))?, 16).ok()
    }

    /// `NUMBER(name)`, which may be negative: then its two's complement.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let text = self.0.get(&format!("NUMBER({name})"))?;
        text.parse::<i64>().map(|number| number as u64).or_else(|_| text.parse::<u64>()).ok()
    }

    /// How far the kernel's code was moved from its linked address.
    pub(crate) fn kernel_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.0.get("KERNELOFFSET")?, 16).ok()
    }

    /// Whether it says what is needed to read memory.
    pub(crate) fn is_useful(&self) -> bool {
        self.number("phys_base").is_some() && self.kernel_offset().is_some()
    }

    /// Where the kernel's table of symbols lies.
    pub(crate) fn kallsyms(&self) -> Option<TableAddresses> {
        Some(TableAddresses {
            names: self.symbol("kallsyms_names")?,
            count: self.symbol("kallsyms_num_syms")?,
            tokens: self.symbol("kallsyms_token_table")?,
            token_index: self.symbol("kallsyms_token_index")?,
            offsets: self.symbol("kallsyms_offsets")?,
            base: self.symbol("kallsyms_relative_base")?,
            stext: self.symbol("_stext")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_gives_symbols_and_numbers() {
        let note = VmcoreInfo::parse(
            b"OSRELEASE=6.1.0\nSYMBOL(_stext)=ffffffff84c00000\nNUMBER(phys_base)=-4096\nKERNELOFFSET=3c00000\n\0SYMBOL(x)=1",
        );
        assert_eq!(note.release(), Some("6.1.0"));
        assert_eq!(note.symbol("_stext"), Some(0xffff_ffff_84c0_0000));
        assert_eq!(note.number("phys_base"), Some(-4096i64 as u64));
        assert_eq!(note.kernel_offset(), Some(0x3c0_0000));
        assert_eq!(note.symbol("x"), None);
        assert!(note.is_useful() && note.kallsyms().is_none());
        assert!(!VmcoreInfo::parse(b"\xff=\n==\n").is_useful());
    }
}
