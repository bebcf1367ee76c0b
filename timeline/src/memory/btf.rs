//! The kernel's own type information: where the members of its structures lie.
//!
//! - Found at: `/sys/kernel/btf/vmlinux`, and in the kernel's read-only data in memory.
//! - Limits: sizes of structures and pointers to a depth of 32; a member in anonymous structures to a depth of 16.
//! - Reference: Linux `Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`.

use std::collections::HashMap;

use super::address_space::le;

/// The first bytes of BTF in little-endian kernels: magic, version 1, no flags, a header of 24 bytes.
pub(crate) const MARK: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];

/// No kernel has 64 MiB of types; a real one has 1 to 8.
pub(crate) const LARGEST: u64 = 64 << 20;
/// Bytes of the header.
pub(crate) const HEADER: u64 = 24;
/// Longer names are damage.
const LONGEST_NAME: usize = 256;
/// Members that one search looks at, those of anonymous structures among them.
const MOST_MEMBERS: u32 = 1 << 18;
const DEEPEST_TYPE: u32 = 32;
const DEEPEST_MEMBER: u32 = 16;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION_TYPE: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const FLOAT: u32 = 16;
const DECLARATION_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// A member of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// Bytes from the structure's start.
    pub(crate) offset: u64,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Of a bit field: the first bit, from `offset`, and how many.
    pub(crate) bits: Option<(u32, u32)>,
}

impl Field {
    /// One past its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

/// Where a type is described.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: u32,
    kind: u32,
    /// Whether member offsets hold the sizes of bit fields.
    has_bit_sizes: bool,
    count: u32,
    /// Size in bytes, or the type it refers to.
    size_or_type: u32,
    /// Offset of what follows, in the section of types.
    details: usize,
}

/// The types of one kernel.
pub(crate) struct Btf {
    bytes: Vec<u8>,
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
    /// Offset of each type, from type 1 on.
    starts: Vec<u32>,
    /// Structures and unions by name.
    named: HashMap<Vec<u8>, u32>,
}

/// How many bytes the header says that follow it, types and strings.
pub(crate) fn length_said(header: &[u8]) -> Option<u64> {
    let header = header.get(..HEADER as usize).filter(|header| header.starts_with(&MARK))?;
    let field = |at: usize| header.get(at..at + 4).map(le);
    let end = |offset: usize, length: usize| field(offset)?.checked_add(field(length)?);
    Some(end(8, 12)?.max(end(16, 20)?)).filter(|length| *length <= LARGEST)
}

impl Btf {
    /// Reads all types.
    ///
    /// # Errors
    ///
    /// In words, where the bytes are no BTF or are damaged.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Btf, String> {
        let length = length_said(&bytes).ok_or("it does not begin with a BTF header")?;
        if (bytes.len() as u64) < length.saturating_add(HEADER) {
            return Err(format!("it has {} of {} bytes", bytes.len(), length.saturating_add(HEADER)));
        }
        let section = |at: usize| {
            let field = |at: usize| bytes.get(at..at + 4).map(le);
            let start = field(at)?.checked_add(HEADER)? as usize;
            Some(start..start.checked_add(field(at + 4)? as usize)?)
        };
        let (types, strings) = section(8).zip(section(16)).ok_or("its header is damaged")?;
        let mut btf = Btf { bytes, types, strings, starts: Vec::new(), named: HashMap::new() };
        let mut at = 0usize;
        while at < btf.types.len() {
            let start = at;
            let damaged = || format!("the type at offset {start} is damaged");
            let kind = btf.kind_at(at).ok_or_else(damaged)?;
            let size = match kind.kind {
                INT | VARIABLE | DECLARATION_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | SECTION | ENUM64 => 12usize.saturating_mul(kind.count as usize),
                ENUM | FUNCTION_TYPE => 8usize.saturating_mul(kind.count as usize),
                POINTER | 7..=12 | FLOAT | TYPE_TAG => 0,
                other => return Err(format!("the type at offset {at} is of an unknown kind, {other}")),
            };
            btf.starts.push(at as u32);
            if matches!(kind.kind, STRUCT | UNION) && kind.name != 0 {
                let name = btf.string(kind.name).ok_or_else(damaged)?.to_vec();
                let id = btf.starts.len() as u32;
                btf.named.entry(name).or_insert(id);
            }
            at = kind.details.saturating_add(size);
            if at > btf.types.len() {
                return Err(damaged());
            }
        }
        Ok(btf)
    }

    /// How many structures and unions have a name.
    pub(crate) fn len(&self) -> usize {
        self.named.len()
    }

    /// A member by its way: `sock`, `__sk_common.skc_daddr`. Anonymous structures in between need no name.
    pub(crate) fn field(&self, structure: &str, way: &str) -> Option<Field> {
        let mut id = *self.named.get(structure.as_bytes())?;
        let mut start = 0u64;
        let mut found = None;
        for name in way.split('.') {
            let mut left = MOST_MEMBERS;
            let (field, member) = self.member(id, name.as_bytes(), DEEPEST_MEMBER, &mut left)?;
            id = member;
            let field = Field { offset: start.checked_add(field.offset)?, ..field };
            start = field.offset;
            found = Some(field);
        }
        found
    }

    /// The size of a structure.
    pub(crate) fn size_of(&self, structure: &str) -> Option<u64> {
        self.size(*self.named.get(structure.as_bytes())?, DEEPEST_TYPE)
    }

    /// Where any structure, named or not, has a member of that name that is the structure `of`.
    pub(crate) fn offset_in_any(&self, member: &str, of: &str) -> Option<u64> {
        let of = *self.named.get(of.as_bytes())?;
        (1..=self.starts.len() as u32).find_map(|id| {
            let kind = self.kind(id).filter(|kind| kind.kind == STRUCT)?;
            (0..kind.count).find_map(|n| {
                let (name, id, bits, _) = self.member_at(&kind, n)?;
                let is_it = self.string(name)? == member.as_bytes() && self.bare(id)? == of;
                is_it.then_some(u64::from(bits) / 8)
            })
        })
    }

    fn member(&self, id: u32, name: &[u8], depth: u32, left: &mut u32) -> Option<(Field, u32)> {
        let kind = self.kind(self.bare(id)?).filter(|kind| matches!(kind.kind, STRUCT | UNION))?;
        for n in 0..kind.count {
            *left = left.checked_sub(1)?;
            let (member_name, member_id, bit, bit_count) = self.member_at(&kind, n)?;
            let member_name = self.string(member_name)?;
            let offset = u64::from(bit) / 8;
            if member_name == name {
                let size = self.size(member_id, DEEPEST_TYPE)?;
                let field = if bit_count == 0 {
                    Field { offset, size, bits: None }
                } else {
                    let first = bit % 8;
                    let size = u64::from(first.checked_add(bit_count)?.div_ceil(8));
                    Field { offset, size, bits: Some((first, bit_count)) }
                };
                return Some((field, member_id));
            }
            if member_name.is_empty()
                && depth > 0
                && let Some((field, id)) = self.member(member_id, name, depth.saturating_sub(1), left)
            {
                return Some((Field { offset: offset.checked_add(field.offset)?, ..field }, id));
            }
        }
        None
    }

    /// Name, type, first bit and, of bit fields, number of bits of one member.
    fn member_at(&self, kind: &Kind, n: u32) -> Option<(u32, u32, u32, u32)> {
        let at = kind.details.checked_add((n as usize).checked_mul(12)?)?;
        let (name, id, offset) = (self.u32(at)?, self.u32(at + 4)?, self.u32(at + 8)?);
        Some(if kind.has_bit_sizes {
            (name, id, offset & 0xff_ffff, offset >> 24)
        } else {
            (name, id, offset, 0)
        })
    }

    /// The type without names and qualifiers.
    fn bare(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEEPEST_TYPE {
            let kind = self.kind(id)?;
            if !matches!(kind.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                return Some(id);
            }
            id = kind.size_or_type;
        }
        None
    }

    fn size(&self, id: u32, depth: u32) -> Option<u64> {
        let kind = self.kind(self.bare(id)?)?;
        match kind.kind {
            POINTER => Some(8),
            ARRAY => {
                let each = self.size(self.u32(kind.details)?, depth.checked_sub(1)?)?;
                each.checked_mul(self.u32(kind.details.checked_add(8)?)?.into())
            }
            INT | STRUCT | UNION | ENUM | FLOAT | ENUM64 => Some(kind.size_or_type.into()),
            _ => None,
        }
    }

    fn kind(&self, id: u32) -> Option<Kind> {
        self.kind_at(*self.starts.get((id as usize).checked_sub(1)?)? as usize)
    }

    fn kind_at(&self, at: usize) -> Option<Kind> {
        let info = self.u32(at.checked_add(4)?)?;
        Some(Kind {
            name: self.u32(at)?,
            kind: (info >> 24) & 0x1f,
            has_bit_sizes: info >> 31 == 1,
            count: info & 0xffff,
            size_or_type: self.u32(at + 8)?,
            details: at + 12,
        })
    }

    /// A number in the section of types.
    fn u32(&self, at: usize) -> Option<u32> {
        let types = self.bytes.get(self.types.clone())?;
        Some(le(types.get(at..at.checked_add(4)?)?) as u32)
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        let strings = self.bytes.get(self.strings.clone())?;
        let rest = strings.get(at as usize..)?;
        let rest = rest.get(..LONGEST_NAME).unwrap_or(rest);
        rest.get(..memchr::memchr(0, rest)?)
    }
}

#[cfg(test)]
pub(crate) mod made {
    //! BTF that a test puts together.

    /// Types in the making; ids count from 1.
    #[derive(Default)]
    pub(crate) struct Maker {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Maker {
        pub(crate) fn add(&mut self, name: &str, info: u32, size_or_type: u32, details: &[u32]) -> u32 {
            let name = self.name(name);
            for word in [name, info, size_or_type].iter().chain(details) {
                self.types.extend(word.to_le_bytes());
            }
            self.count += 1;
            self.count
        }

        fn name(&mut self, name: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if name.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(name.as_bytes());
            self.strings.push(0);
            at
        }

        pub(crate) fn int(&mut self, size: u32) -> u32 {
            self.add("int", 1 << 24, size, &[size * 8])
        }

        pub(crate) fn array(&mut self, of: u32, count: u32) -> u32 {
            self.add("", 3 << 24, 0, &[of, of, count])
        }

        /// Members as (name, type, offset in bytes).
        pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
            let details: Vec<u32> =
                members.iter().flat_map(|(name, id, at)| [self.name(name), *id, at * 8]).collect();
            self.add(name, 4 << 24 | members.len() as u32, size, &details)
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            let sizes: Vec<u8> =
                [0, types, types, strings].iter().flat_map(|n: &u32| n.to_le_bytes()).collect();
            [&super::MARK[..], &sizes, &self.types, &self.strings].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::made::Maker;
    use super::*;

    #[test]
    fn members_are_found_through_names_arrays_and_anonymous_structures() {
        let mut made = Maker::default();
        let int = made.int(4);
        let pid = made.add("pid_t", TYPEDEF << 24, int, &[]);
        let letters = made.array(int, 4);
        let inner = made.structure("", 8, &[("tgid", pid, 0), ("flags", int, 4)]);
        let list = made.structure("list_head", 16, &[("next", int, 0), ("prev", int, 8)]);
        made.structure(
            "task",
            64,
            &[("pid", pid, 0), ("", inner, 8), ("tasks", list, 16), ("comm", letters, 40)],
        );
        let btf = Btf::parse(made.bytes()).unwrap();
        let field = |way: &str| btf.field("task", way).map(|field| (field.offset, field.size));
        assert_eq!(field("pid"), Some((0, 4)));
        assert_eq!(field("flags"), Some((12, 4)));
        assert_eq!(field("tasks.prev"), Some((24, 4)));
        assert_eq!(field("comm"), Some((40, 16)));
        assert_eq!(field("gone"), None);
        assert_eq!(field("pid.x"), None);
        assert_eq!(btf.offset_in_any("tasks", "list_head"), Some(16));
    }

    #[test]
    fn bit_fields_give_their_bits() {
        let mut made = Maker::default();
        let int = made.int(4);
        // Member offsets hold the number of bits in their first byte.
        made.add("sock", 1 << 31 | STRUCT << 24 | 1, 8, &[1, int, 8 << 24 | 40]);
        let btf = Btf::parse(made.bytes()).unwrap();
        assert_eq!(btf.field("sock", "int"), Some(Field { offset: 5, size: 1, bits: Some((0, 8)) }));
    }

    #[test]
    fn types_that_refer_to_themselves_end() {
        let mut made = Maker::default();
        made.add("a", TYPEDEF << 24, 1, &[]);
        made.array(2, u32::MAX);
        made.structure("s", 1, &[("", 3, 0), ("x", 1, 0), ("y", 2, 0)]);
        let btf = Btf::parse(made.bytes()).unwrap();
        assert_eq!(btf.field("s", "z"), None);
        assert_eq!(btf.field("s", "x"), None);
        assert_eq!(btf.field("s", "y"), None);
    }

    #[test]
    fn anonymous_structures_without_end_are_given_up() {
        let mut made = Maker::default();
        let members = vec![("", 1, 0); 65_535];
        made.structure("s", 1, &members);
        assert_eq!(Btf::parse(made.bytes()).unwrap().field("s", "x"), None);
    }

    #[test]
    fn damage_is_an_error_in_words_and_never_a_panic() {
        let mut made = Maker::default();
        let int = made.int(4);
        made.structure("task", 64, &[("pid", int, 0)]);
        let whole = made.bytes();
        for length in 0..whole.len() {
            assert!(Btf::parse(whole[..length].to_vec()).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(btf) = Btf::parse(bytes) {
                    btf.field("task", "pid");
                    btf.offset_in_any("pid", "task");
                }
            }
        }
    }
}
