//! The kernel's symbols: from the text of `/proc/kallsyms`, or from the tables that it is made of.
//!
//! Only the symbols that the readers of memory need are kept.
//!
//! - Reference: Linux `kernel/kallsyms.c`, `scripts/kallsyms.c`.

use std::collections::BTreeMap;

use super::address_space::le;

/// The symbols that are kept.
const WANTED: [&str; 9] = [
    "_stext",
    "init_task",
    "init_top_pgt",
    "init_uts_ns",
    "modules",
    "socket_file_ops",
    "swapper_pg_dir",
    "timekeeper_data",
    "tk_core",
];

/// More symbols than this no kernel has; they are at most this many that are looked at.
const MOST_SYMBOLS: u64 = 1 << 22;

/// `KSYM_NAME_LEN` of the newest kernels.
const LONGEST_NAME: usize = 512;

/// Addresses by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Symbols(BTreeMap<&'static str, u64>);

impl Symbols {
    /// The address of a symbol that was found.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    fn put(&mut self, name: &[u8], address: u64) {
        if let Some(wanted) = WANTED.iter().find(|wanted| wanted.as_bytes() == name) {
            // A static variable of another file may have the same name; the first is the kernel's own.
            self.0.entry(wanted).or_insert(address);
        }
    }

    /// Reads the lines `ffffffff81000000 T _stext` of `/proc/kallsyms`.
    ///
    /// # Errors
    ///
    /// In words, where all addresses are zero, as the kernel shows them to who may not see them.
    pub(crate) fn from_text(text: &[u8]) -> Result<Symbols, String> {
        let mut symbols = Symbols::default();
        let (mut lines, mut hidden) = (0u64, 0u64);
        for line in text.split(|b| *b == b'\n') {
            let mut fields = line.splitn(3, |b| *b == b' ');
            let (Some(address), Some([kind]), Some(name)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(address) =
                std::str::from_utf8(address).ok().and_then(|text| u64::from_str_radix(text, 16).ok())
            else {
                continue;
            };
            lines = lines.saturating_add(1);
            if address == 0 {
                hidden = hidden.saturating_add(1);
            } else if is_kept(*kind) && !name.contains(&b'\t') {
                symbols.put(name, address);
            }
        }
        match lines {
            0 => Err("it has no symbols".to_owned()),
            _ if hidden == lines => {
                Err("its addresses are all zero: it was read without CAP_SYSLOG or with kptr_restrict"
                    .to_owned())
            }
            _ => Ok(symbols),
        }
    }
}

/// Whether a symbol of this kind is code or data: not weak, not absolute.
fn is_kept(kind: u8) -> bool {
    matches!(kind, b't' | b'T' | b'd' | b'D' | b'b' | b'B' | b'r' | b'R')
}

/// Where the tables lie, as VMCOREINFO says since Linux 6.0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableAddresses {
    /// `kallsyms_names`.
    pub(crate) names: u64,
    /// `kallsyms_num_syms`.
    pub(crate) count: u64,
    /// `kallsyms_token_table`.
    pub(crate) tokens: u64,
    /// `kallsyms_token_index`.
    pub(crate) token_index: u64,
    /// `kallsyms_offsets`.
    pub(crate) offsets: u64,
    /// `kallsyms_relative_base`.
    pub(crate) base: u64,
    /// `_stext`, by which the form of the offsets is known.
    pub(crate) stext: u64,
}

/// Reads the tables in memory; `read` gives the bytes at a virtual address.
pub(crate) fn from_memory(
    at: TableAddresses,
    read: &dyn Fn(u64, usize) -> Option<Vec<u8>>,
) -> Option<Symbols> {
    let count = le(&read(at.count, 4)?);
    if count == 0 || count > MOST_SYMBOLS {
        return None;
    }
    let base = le(&read(at.base, 8)?);
    let index = read(at.token_index, 512)?;
    let table = read(at.tokens, 1 << 16).or_else(|| read(at.tokens, 4096))?;
    let mut tokens: Vec<&[u8]> = Vec::with_capacity(256);
    for n in 0..256 {
        let start = le(index.get(2 * n..2 * n + 2)?) as usize;
        let rest = table.get(start..)?;
        let end = memchr::memchr(0, rest.get(..128).unwrap_or(rest))?;
        tokens.push(rest.get(..end)?);
    }
    let mut names = Names { at: at.names, read, held: Vec::new(), from: 0 };
    let mut found: Vec<(Vec<u8>, u64)> = Vec::new();
    let mut name = Vec::new();
    for n in 0..count {
        name.clear();
        let mut length = usize::from(names.byte()?);
        if length & 0x80 != 0 {
            length = (length & 0x7f) | usize::from(names.byte()?) << 7;
        }
        if length > LONGEST_NAME || found.len() > WANTED.len() * 64 {
            return None;
        }
        for _ in 0..length {
            name.extend_from_slice(tokens.get(usize::from(names.byte()?))?);
        }
        let Some((kind, name)) = name.split_first() else { continue };
        if is_kept(*kind) && WANTED.iter().any(|wanted| wanted.as_bytes() == name) {
            found.push((name.to_vec(), n));
        }
    }
    let offset = |n: u64| Some(le(&read(at.offsets.checked_add(n.checked_mul(4)?)?, 4)?) as u32);
    // Offsets count up from the base; or, negative, down from it, where those of per-CPU variables are positive.
    let up = |offset: u32| base.checked_add(offset.into());
    let address_of = |n: u64, form: &dyn Fn(u32) -> Option<u64>| form(offset(n)?);
    let signed = |offset: u32| {
        let offset = offset as i32;
        match u64::try_from(offset) {
            Ok(absolute) => Some(absolute),
            Err(_) => base.checked_sub(1)?.checked_add(offset.unsigned_abs().into()),
        }
    };
    let stext = found.iter().find(|(name, _)| name == b"_stext")?.1;
    let form: &dyn Fn(u32) -> Option<u64> = if address_of(stext, &up) == Some(at.stext) {
        &up
    } else if address_of(stext, &signed) == Some(at.stext) {
        &signed
    } else {
        return None;
    };
    let mut symbols = Symbols::default();
    for (name, n) in &found {
        if let Some(address) = address_of(*n, form) {
            symbols.put(name, address);
        }
    }
    Some(symbols)
}

/// The packed names, read a piece at a time.
struct Names<'a> {
    at: u64,
    read: &'a dyn Fn(u64, usize) -> Option<Vec<u8>>,
    held: Vec<u8>,
    from: usize,
}

impl Names<'_> {
    fn byte(&mut self) -> Option<u8> {
        if let Some(byte) = self.held.get(self.from) {
            self.from += 1;
            return Some(*byte);
        }
        // To the end of the page: behind it memory may be missing.
        let length = 4096 - (self.at % 4096) as usize;
        self.held = (self.read)(self.at, length)?;
        self.at = self.at.checked_add(length as u64)?;
        self.from = 1;
        self.held.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_gives_the_kernels_own_symbols_and_not_those_of_modules() {
        let text = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\n\
            ffffffffc0001000 d modules\t[evil]\nffffffff82000000 d modules\nnonsense\nffffffff82000010 W init_task\n";
        let symbols = Symbols::from_text(text).unwrap();
        assert_eq!(symbols.get("modules"), Some(0xffff_ffff_8200_0000));
        assert_eq!(symbols.get("init_task"), None, "weak");
        assert!(Symbols::from_text(b"0000000000000000 T _stext\n").unwrap_err().contains("kptr_restrict"));
        assert_eq!(Symbols::from_text(b"\n").unwrap_err(), "it has no symbols");
    }

    /// Tables as `scripts/kallsyms.c` lays them out, with one token a letter and `init_` as one of its own.
    fn tables(signed: bool) -> (TableAddresses, Vec<u8>) {
        let at = |n: u64| 0x1_0000 + n;
        let mut memory = vec![0; 0x6000];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        let mut table = Vec::new();
        for n in 0..256usize {
            put(0x2000 + 2 * n, &(table.len() as u16).to_le_bytes());
            match n {
                1 => table.extend(b"init_\0"),
                _ => table.extend([n.clamp(2, 127) as u8, 0]),
            }
        }
        put(0x3000, &table);
        let names = [&b"\x07T_stext"[..], b"\x02tx", b"\x06D\x01task"].concat();
        put(0x4000, &names);
        put(0x1000, &3u32.to_le_bytes());
        put(0x1008, &0xffff_ffff_8000_0000u64.to_le_bytes());
        for (n, address) in [0x10u32, 0x20, 0x30].iter().enumerate() {
            let stored = if signed { (-1 - *address as i32) as u32 } else { *address };
            put(0x5000 + 4 * n, &stored.to_le_bytes());
        }
        let addresses = TableAddresses {
            names: at(0x4000),
            count: at(0x1000),
            tokens: at(0x3000),
            token_index: at(0x2000),
            offsets: at(0x5000),
            base: at(0x1008),
            stext: 0xffff_ffff_8000_0010,
        };
        (addresses, memory)
    }

    #[test]
    fn the_tables_in_memory_give_the_same_in_both_their_forms() {
        for signed in [false, true] {
            let (addresses, memory) = tables(signed);
            let read = |at: u64, length: usize| {
                let from = at.checked_sub(0x1_0000)? as usize;
                memory.get(from..from + length).map(<[u8]>::to_vec)
            };
            let symbols = from_memory(addresses, &read).unwrap();
            assert_eq!(symbols.get("init_task"), Some(0xffff_ffff_8000_0030), "{signed}");
            let wrong = TableAddresses { stext: 0, ..addresses };
            assert_eq!(from_memory(wrong, &read), None);
        }
    }
}
