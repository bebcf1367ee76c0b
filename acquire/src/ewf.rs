//! What the writer and the reader of Expert Witness images share: file header, section descriptors, checksums, names.
//!
//! Reference: J. Metz, "Expert Witness Compression Format specification" (libewf project, 2026), sections "File header",
//! "Section descriptor", "Segment file extensions" and "Adler-32 checksum".

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What every segment file begins with.
pub(crate) const SIGNATURE: [u8; 8] = *b"EVF\x09\x0d\x0a\xff\x00";
/// Bytes of the file header: signature, a 1, the segment's number, two zeros.
pub(crate) const FILE_HEADER: usize = 13;
/// Bytes of a section descriptor.
pub(crate) const DESCRIPTOR: usize = 76;
/// Bytes of a volume or data section, its descriptor not counted.
pub(crate) const VOLUME: usize = 1052;
/// Bytes before the entries of a table.
pub(crate) const TABLE_HEADER: usize = 24;
/// Entries of a table, at most.
pub(crate) const MOST_ENTRIES: usize = 16_375;
/// The bit of a table entry that says that the chunk is compressed.
pub(crate) const COMPRESSED: u32 = 1 << 31;

/// The file header of a segment.
pub(crate) fn file_header(segment: u16) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(1);
    header.extend_from_slice(&segment.to_le_bytes());
    header.extend_from_slice(&[0, 0]);
    header
}

/// What a section descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// `header`, `volume`, `sectors` …
    pub(crate) kind: String,
    /// Where the next section begins, from the start of the file.
    pub(crate) next: u64,
    /// Bytes of the section, the descriptor included.
    pub(crate) size: u64,
}

impl Descriptor {
    /// The 76 bytes of a descriptor.
    pub(crate) fn bytes(kind: &str, next: u64, size: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = kind.bytes().take(16).collect();
        bytes.resize(16, 0);
        bytes.extend_from_slice(&next.to_le_bytes());
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.resize(DESCRIPTOR - 4, 0);
        with_checksum(bytes)
    }

    /// Reads a descriptor, unless its checksum is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let body = checked(bytes.get(..DESCRIPTOR)?)?;
        let kind = body.get(..16)?.split(|&byte| byte == 0).next().unwrap_or_default();
        let kind = String::from_utf8_lossy(kind).into_owned();
        Some(Self { kind, next: u64_at(body, 16)?, size: u64_at(body, 24)? })
    }
}

/// Appends the Adler-32 of what is there.
pub(crate) fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = adler32(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// What stands before the last four bytes, if those are its Adler-32.
pub(crate) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (u32_at(sum, 0)? == adler32(body)).then_some(body)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// RFC 1950, section 8.2.
pub(crate) fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    // So many bytes cannot overflow 32 bits.
    const RUN: usize = 5552;
    let (mut low, mut high) = (1u32, 0u32);
    for run in bytes.chunks(RUN) {
        for &byte in run {
            low += u32::from(byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    (high << 16) | low
}

/// The path of a segment, counted from 1: `.E01` to `.E99`, then `.EAA` to `.EZZ`, `.FAA` … `.ZZZ`.
///
/// `first` is the path of the first, or a name that gets an ending; its spelling (`e01`) is kept.
pub(crate) fn segment_path(first: &Path, segment: u16) -> Option<PathBuf> {
    let ending = first.extension().and_then(OsStr::to_str);
    let (base, is_small) = match ending {
        Some("E01") => (first.with_extension("").into_os_string(), false),
        Some("e01") => (first.with_extension("").into_os_string(), true),
        _ => (first.as_os_str().to_owned(), false),
    };
    let ending = segment_ending(segment)?;
    let ending = if is_small { ending.to_ascii_lowercase() } else { ending };
    let mut path: OsString = base;
    path.push(".");
    path.push(ending);
    Some(PathBuf::from(path))
}

fn segment_ending(segment: u16) -> Option<String> {
    if (1..=99).contains(&segment) {
        return Some(format!("E{segment:02}"));
    }
    let number = u32::from(segment.checked_sub(100)?);
    let letter = |from: u8, n: u32| u8::try_from(n).ok().map(|n| char::from(from.saturating_add(n)));
    let first = number / 676;
    let is_last = b'E'.saturating_add(u8::try_from(first).ok()?) > b'Z';
    if is_last {
        return None;
    }
    Some([letter(b'E', first)?, letter(b'A', number / 26 % 26)?, letter(b'A', number % 26)?].iter().collect())
}

/// The number of the segment that has this ending, in either spelling.
pub(crate) fn segment_number(ending: &OsStr) -> Option<u16> {
    let ending = ending.to_str()?.to_ascii_uppercase();
    let &[first, second, third] = ending.as_bytes() else { return None };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    if first == b'E'
        && let (Some(tens), Some(ones)) = (digit(second), digit(third))
    {
        return Some(tens * 10 + ones).filter(|number| *number > 0);
    }
    let letter = |byte: u8, from: u8| (from..=b'Z').contains(&byte).then(|| u16::from(byte - from));
    Some(100 + letter(first, b'E')? * 676 + letter(second, b'A')? * 26 + letter(third, b'A')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1950() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(adler32(&[0xFF; 100_000]), {
            let (mut low, mut high) = (1u64, 0u64);
            for _ in 0..100_000 {
                low = (low + 255) % 65_521;
                high = (high + low) % 65_521;
            }
            ((high << 16) | low) as u32
        });
    }

    #[test]
    fn segments_are_named_from_e01_to_zzz() {
        let name =
            |segment| segment_path(Path::new("disk.E01"), segment).map(|path| path.display().to_string());
        for (segment, ending) in [
            (1, "E01"),
            (99, "E99"),
            (100, "EAA"),
            (101, "EAB"),
            (125, "EAZ"),
            (126, "EBA"),
            (775, "EZZ"),
            (776, "FAA"),
        ] {
            assert_eq!(name(segment).unwrap(), format!("disk.{ending}"));
            assert_eq!(segment_number(OsStr::new(ending)), Some(segment));
            assert_eq!(segment_number(OsStr::new(&ending.to_lowercase())), Some(segment));
        }
        let last = 99 + 22 * 676;
        assert_eq!(name(last).unwrap(), "disk.ZZZ");
        assert_eq!((name(last + 1), name(0), name(u16::MAX)), (None, None, None));
        for none in ["E00", "E1", "DAA", "E0A", "txt1", "ÄAA"] {
            assert_eq!(segment_number(OsStr::new(none)), None, "{none}");
        }
        let name = |first: &str| segment_path(Path::new(first), 100).unwrap().display().to_string();
        assert_eq!((name("x/disk.e01"), name("x/disk.img")), ("x/disk.eaa".into(), "x/disk.img.EAA".into()));
    }

    #[test]
    fn a_descriptor_comes_back_and_a_changed_one_does_not() {
        let bytes = Descriptor::bytes("sectors", 1 << 40, 1234);
        assert_eq!(bytes.len(), DESCRIPTOR);
        let expected = Descriptor { kind: "sectors".into(), next: 1 << 40, size: 1234 };
        assert_eq!(Descriptor::parse(&bytes), Some(expected));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Descriptor::parse(&changed), None, "byte {at}");
            assert_eq!(Descriptor::parse(&bytes[..at]), None);
        }
    }
}
