//! The LiME format, version 1: each range of memory behind a header of 32 bytes.
//!
//! Little-endian: magic `0x4C694D45`, version, first address, last address (inclusive), eight reserved bytes of zero.
//! Nothing follows the last range: neither a count nor a hash, so a cut file can only be told by its last range.
//! Reference: `doc/README.md` of LiME (<https://github.com/504ensicsLabs/LiME>).

use super::iomem::PhysicalRange;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 32;

const MAGIC: u32 = 0x4C69_4D45;
const AVML_MAGIC: u32 = 0x4C4D_5641;

/// The header that goes before a range's bytes.
#[must_use]
pub(crate) fn header(range: PhysicalRange) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let fields = MAGIC
        .to_le_bytes()
        .into_iter()
        .chain(1u32.to_le_bytes())
        .chain(range.start().to_le_bytes())
        .chain(range.last().to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(fields) {
        *to = from;
    }
    bytes
}

/// What stands where a header should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A range of plain bytes follows.
    Lime(PhysicalRange),
    /// A compressed block of AVML's own format follows.
    Avml,
    /// Something else.
    Other,
}

/// Reads a header. Reserved bytes that are not zero are accepted, as LiME's own readers do.
#[must_use]
pub(crate) fn read_header(bytes: &[u8; HEADER_BYTES]) -> Header {
    let four =
        |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let eight =
        |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    match (four(0), four(4)) {
        (MAGIC, 1) => PhysicalRange::new(eight(8), eight(16)).map_or(Header::Other, Header::Lime),
        (AVML_MAGIC, _) => Header::Avml,
        _ => Header::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_avml_writes_and_reads() {
        let range = PhysicalRange::new(0x1000, 0x9fbff).unwrap();
        let ours = header(range);
        let mut theirs = Vec::new();
        avml::image::Header { range: 0x1000..0x9fc00, format: avml::image::Format::Lime }
            .write(&mut theirs)
            .unwrap();
        assert_eq!(ours.as_slice(), theirs);
        assert_eq!(read_header(&ours), Header::Lime(range));
    }

    #[test]
    fn an_inverted_range_or_another_magic_is_no_header() {
        let mut bytes = header(PhysicalRange::new(5, 9).unwrap());
        bytes[8] = 10;
        assert_eq!(read_header(&bytes), Header::Other);
        bytes[4] = 2;
        assert_eq!(read_header(&bytes), Header::Other);
        assert_eq!(read_header(b"AVML\x02\0\0\0........................"), Header::Avml);
    }
}
