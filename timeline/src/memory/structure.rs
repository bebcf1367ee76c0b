//! Parts of kernel structures: which of their bytes a record keeps, and their members in them.

use super::address_space::le;
use super::btf::{Btf, Field};
use crate::text::until_nul;

/// Members of one structure, and the bytes from the first of them to the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extract {
    /// First byte, from the structure's start.
    pub(crate) start: u64,
    /// Number of bytes.
    pub(crate) length: u64,
}

/// No structure of the kernel that we read is larger.
const LARGEST: u64 = 64 << 10;

impl Extract {
    /// The bytes that hold all of `fields`; `None` where there are none, or the structure is impossibly large.
    pub(crate) fn over<'f>(fields: impl IntoIterator<Item = &'f Field>) -> Option<Extract> {
        let (mut start, mut end) = (u64::MAX, 0);
        for field in fields {
            start = start.min(field.offset);
            end = end.max(field.end());
        }
        let length = end.checked_sub(start).filter(|length| (1..=LARGEST).contains(length))?;
        (end <= LARGEST).then_some(Extract { start, length })
    }

    /// The extract's bytes, to look up members in.
    pub(crate) fn of<'b>(&self, bytes: &'b [u8]) -> View<'b> {
        View { start: self.start, bytes }
    }
}

/// Bytes of one structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'b> {
    start: u64,
    bytes: &'b [u8],
}

impl<'b> View<'b> {
    /// The bytes of a member.
    pub(crate) fn bytes(&self, field: &Field) -> Option<&'b [u8]> {
        let from = usize::try_from(field.offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(usize::try_from(field.size).ok()?)?)
    }

    /// A number of up to eight bytes, or a bit field.
    pub(crate) fn number(&self, field: &Field) -> Option<u64> {
        let number = le(self.bytes(field)?);
        match field.bits {
            None => Some(number),
            Some((first, count)) => {
                let mask = 1u64.checked_shl(count).map_or(u64::MAX, |bit| bit - 1);
                Some(number.checked_shr(first)? & mask)
            }
        }
    }

    /// A signed number.
    pub(crate) fn signed(&self, field: &Field) -> Option<i64> {
        let number = self.number(field)?;
        Some(match field.size {
            4 => i64::from(number as u32 as i32),
            _ => number as i64,
        })
    }

    /// A text that ends at its first NUL.
    pub(crate) fn text(&self, field: &Field) -> Option<&'b [u8]> {
        Some(until_nul(self.bytes(field)?))
    }
}

/// A member that must be there.
///
/// # Errors
///
/// In words, which is missing.
pub(crate) fn needed(types: &Btf, structure: &str, way: &str) -> Result<Field, String> {
    types.field(structure, way).ok_or_else(|| format!("the kernel's types have no {structure}.{way}"))
}

/// The first of several ways that there is: kernels name members anew.
pub(crate) fn either(types: &Btf, structure: &str, ways: &[&str]) -> Option<Field> {
    ways.iter().find_map(|way| types.field(structure, way))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_out_of_the_kept_bytes_alone() {
        let number = Field { offset: 16, size: 4, bits: None };
        let text = Field { offset: 24, size: 4, bits: None };
        let bits = Field { offset: 20, size: 2, bits: Some((3, 9)) };
        let extract = Extract::over([&number, &text]).unwrap();
        assert_eq!((extract.start, extract.length), (16, 12));
        let bytes = [0xfe, 0xff, 0xff, 0xff, 0xf8, 0x0f, 0, 0, b'a', b'b', 0, b'c'];
        let view = extract.of(&bytes);
        assert_eq!(view.signed(&number), Some(-2));
        assert_eq!(view.number(&bits), Some(0x1ff));
        assert_eq!(view.text(&text), Some(&b"ab"[..]));
        assert_eq!(view.number(&Field { offset: 26, size: 4, bits: None }), None);
        assert_eq!(view.number(&Field { offset: 8, size: 4, bits: None }), None);
        let far = Field { offset: u64::MAX, size: 8, bits: None };
        assert!(Extract::over([&number, &far]).is_none());
    }
}
