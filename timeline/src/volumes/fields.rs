//! Little-endian fields of fixed structures. A field beyond the end of its structure reads as 0.

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(crate) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// `length` bytes at `at`; nothing where they are not all there.
pub(crate) fn part(bytes: &[u8], at: usize, length: usize) -> &[u8] {
    at.checked_add(length).and_then(|end| bytes.get(at..end)).unwrap_or(&[])
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    part(bytes, at, N).try_into().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_beyond_the_end_reads_as_zero() {
        assert_eq!(le16(&[1, 2, 3], 1), 0x0302);
        assert_eq!(le16(&[1, 2, 3], 2), 0);
        assert_eq!(le64(&[1, 2, 3], usize::MAX), 0);
    }
}
