//! How much memory changed while it was read: every 97th page is read again at the end, and compared by its hash.
//!
//! Memory is read while the machine runs, so its first page and its last are of different moments. This measures how
//! different. The pages are spread evenly and are the same ones in every run over the same ranges: nothing is drawn.

use custody::digest::sha256;

/// Each page whose number, counted over all pages read, is a multiple of this. A prime, so that no pattern of the kernel's
/// (huge pages, slabs, zones) falls together with it; of 97 pages one is a little more than 1 %.
const EVERY: u64 = 97;

/// Samples that are kept at most: 24 MiB. With more memory than 380 GiB, they are spread wider.
const MOST: u64 = 1 << 20;

/// Pages that were hashed while they were read.
#[derive(Debug)]
pub(crate) struct Samples {
    every: u64,
    seen: u64,
    kept: Vec<(u64, [u8; 16])>,
}

/// What reading the samples again showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Smear {
    /// Pages read again.
    pub(crate) sampled: u64,
    /// Those that had changed.
    pub(crate) changed: u64,
    /// Those that could not be read again.
    pub(crate) failed: u64,
    /// Every so many pages one was sampled.
    pub(crate) every: u64,
}

impl Samples {
    /// Samples of memory with so many pages in all.
    pub(crate) fn new(pages: u64) -> Self {
        // Odd, so that it never falls together with the powers of two that memory is laid out in.
        Self { every: EVERY.max(pages / MOST + 1) | 1, seen: 0, kept: Vec::new() }
    }

    /// Whether the next page is one of them. Every page is asked for once, in order.
    pub(crate) fn wants(&mut self) -> bool {
        let wanted = self.seen.is_multiple_of(self.every);
        self.seen = self.seen.saturating_add(1);
        wanted
    }

    /// Keeps the hash of a page as it was stored.
    pub(crate) fn keep(&mut self, address: u64, page: &[u8]) {
        self.kept.push((address, short_hash(page)));
    }

    /// Reads every sample again with `read`, which says whether it filled the page.
    pub(crate) fn compare(&self, mut read: impl FnMut(u64, &mut [u8]) -> bool) -> Smear {
        let mut smear = Smear { every: self.every, ..Smear::default() };
        let mut page = [0u8; super::physical::PAGE];
        for (address, before) in &self.kept {
            if read(*address, &mut page) {
                smear.sampled += 1;
                smear.changed += u64::from(short_hash(&page) != *before);
            } else {
                smear.failed += 1;
            }
        }
        smear
    }
}

/// Half of a page's SHA-256: more than enough to tell a change, at half the memory.
fn short_hash(page: &[u8]) -> [u8; 16] {
    let digest = sha256(page);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::physical::PAGE;

    #[test]
    fn changed_pages_are_counted_among_the_samples_and_failures_apart() {
        let pages: Vec<Vec<u8>> = (0..1000u32).map(|i| vec![i as u8; PAGE]).collect();
        let mut samples = Samples::new(1000);
        for (index, page) in pages.iter().enumerate() {
            if samples.wants() {
                samples.keep((index * PAGE) as u64, page);
            }
        }
        let smear = samples.compare(|address, page| {
            let index = address as usize / PAGE;
            page.copy_from_slice(&pages[index]);
            if index == 97 * 3 || index == 97 * 5 {
                page[PAGE - 1] ^= 1;
            }
            index != 97 * 7
        });
        assert_eq!(smear, Smear { sampled: 10, changed: 2, failed: 1, every: 97 });
    }

    #[test]
    fn the_samples_of_a_huge_machine_are_bounded() {
        let samples = Samples::new(6 << 40 >> 12);
        assert!((6u64 << 40 >> 12) / samples.every <= MOST && samples.every % 2 == 1);
        assert_eq!(Samples::new(1).every, 97);
    }
}
