//! Where the bytes of a sparse file stand that a tar holds: old GNU headers and the three PAX forms.
//!
//! Reference: GNU tar manual, "Storing Sparse Files" and "Standard" headers.

/// Pieces that one file may have; a disk of 64 TiB with a hole in every 16 MiB has fewer.
pub(super) const MOST_PIECES: usize = 4 << 20;

/// A piece of the file that the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// In the file.
    pub(super) start: u64,
    pub(super) length: u64,
    /// In what the archive stores of it.
    pub(super) stored: u64,
}

/// The pieces of a file, in order, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    pub(super) pieces: Vec<Piece>,
    pub(super) size: u64,
}

impl SparseMap {
    /// A file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { pieces: vec![Piece { start: 0, length: size, stored: 0 }], size }
    }

    /// A file of `size` bytes, of which these (offset, length) are stored in `stored` bytes.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    pub(super) fn new(pairs: &[(u64, u64)], size: u64, stored: u64) -> Result<Self, &'static str> {
        let (mut pieces, mut behind, mut at) = (Vec::new(), 0u64, 0u64);
        for &(start, length) in pairs {
            let end = start.checked_add(length).filter(|end| *end <= size);
            let end = end.ok_or("a piece of the sparse file lies behind its end")?;
            if start < behind {
                return Err("the pieces of the sparse file are not in order");
            }
            if length > 0 {
                pieces.push(Piece { start, length, stored: at });
            }
            (behind, at) = (end, at.checked_add(length).ok_or("the sparse file is too long")?);
        }
        if at != stored {
            return Err("the pieces of the sparse file are not as long as what is stored of it");
        }
        Ok(Self { pieces, size })
    }

    /// What an offset lies in: a piece, or a hole of so many bytes.
    pub(super) fn at(&self, offset: u64) -> Result<Piece, u64> {
        let next = self.pieces.partition_point(|piece| piece.start.saturating_add(piece.length) <= offset);
        match self.pieces.get(next) {
            Some(piece) if piece.start <= offset => Ok(*piece),
            Some(piece) => Err(piece.start - offset),
            None => Err(self.size.saturating_sub(offset)),
        }
    }
}

/// A number in a header of tar: octal text, or base 256 where the first bit is set.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first().filter(|(first, _)| **first & 0x80 != 0) {
        let mut value = u64::from(*first & 0x7F);
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let text: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, b' ' | 0)).collect();
    text.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// The (offset, length) pairs in a header's field of an old GNU archive; an empty one ends them.
pub(super) fn old_gnu_pairs(field: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    for pair in field.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if length.first() == Some(&0) {
            break;
        }
        pairs.push((number(offset)?, number(length)?));
    }
    Some(pairs)
}

/// The pairs of `GNU.sparse.map`: `offset,length,offset,length`.
pub(super) fn listed_pairs(text: &str) -> Option<Vec<(u64, u64)>> {
    let numbers: Option<Vec<u64>> =
        text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect();
    let numbers = numbers?;
    numbers.chunks(2).map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_lies_in_a_piece_or_in_a_hole() {
        let map = SparseMap::new(&[(512, 512), (2048, 512), (4096, 0)], 4096, 1024).unwrap();
        assert_eq!(map.at(0), Err(512));
        assert_eq!(map.at(600).unwrap().stored, 0);
        assert_eq!(map.at(1024), Err(1024));
        assert_eq!(map.at(2559).unwrap().stored, 512);
        assert_eq!(map.at(2560), Err(1536));
        assert_eq!(map.at(4096), Err(0));
    }

    #[test]
    fn a_map_that_does_not_fit_is_refused() {
        for (pairs, size, stored) in [
            (&[(512, 512), (0, 512)][..], 4096, 1024),
            (&[(0, 512), (256, 512)], 4096, 1024),
            (&[(4000, 512)], 4096, 512),
            (&[(u64::MAX, 2)], u64::MAX, 2),
            (&[(0, 512)], 4096, 513),
        ] {
            assert!(SparseMap::new(pairs, size, stored).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn numbers_of_tar_are_octal_or_of_base_256() {
        assert_eq!(number(b"00000001750\0"), Some(1000));
        assert_eq!(number(b" 1750 \0"), Some(1000));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(&[0xFF; 12]), None);
        assert_eq!(number(b"12x"), None);
        assert_eq!(listed_pairs("0,512,1024,5"), Some(vec![(0, 512), (1024, 5)]));
        assert_eq!(listed_pairs("0,512,1024"), None);
    }
}
