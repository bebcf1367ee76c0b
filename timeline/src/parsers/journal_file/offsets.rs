//! A set of places in a file.

use std::collections::BTreeMap;

const WORDS: u64 = 64;
/// A page of the set covers 32 KiB of the file: one bit for each 8 bytes.
const COVERED: u64 = WORDS * 64 * 8;

/// Offsets that are multiples of 8, one bit each, in pages that exist only where there are any: the set never
/// grows beyond a small part of the bytes that name its members.
#[derive(Default)]
pub(crate) struct OffsetSet {
    pages: BTreeMap<u64, Box<[u64; WORDS as usize]>>,
}

impl OffsetSet {
    /// Adds an offset, and says whether it was new.
    pub(crate) fn insert(&mut self, offset: u64) -> bool {
        let page = self.pages.entry(offset / COVERED).or_insert_with(|| Box::new([0; WORDS as usize]));
        let bit = offset % COVERED / 8;
        match page.get_mut((bit / 64) as usize) {
            Some(word) => {
                let mask = 1 << (bit % 64);
                let new = *word & mask == 0;
                *word |= mask;
                new
            }
            None => false,
        }
    }

    pub(crate) fn contains(&self, offset: u64) -> bool {
        let bit = offset % COVERED / 8;
        let word = self.pages.get(&(offset / COVERED)).and_then(|page| page.get((bit / 64) as usize));
        word.is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// All offsets, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.iter().flat_map(|(page, words)| {
            let bits = words.iter().enumerate().flat_map(|(i, word)| {
                (0..64u64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| i as u64 * 64 + bit)
            });
            bits.map(move |bit| page * COVERED + bit * 8)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_comes_back_once_and_in_order() {
        let mut set = OffsetSet::default();
        let offsets = [1 << 60, 0, 8, 32760, 32768, 8];
        let new: Vec<bool> = offsets.iter().map(|o| set.insert(*o)).collect();
        assert_eq!(new, [true, true, true, true, true, false]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 8, 32760, 32768, 1 << 60]);
        assert!(set.contains(32760) && !set.contains(16));
    }
}
