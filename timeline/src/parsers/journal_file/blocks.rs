//! Reads a journal in blocks: its objects are small, and lie near each other.

use std::sync::Arc;

use crate::bytes::ByteSource;
use crate::error::ReadError;

const BLOCK: u64 = 128 << 10;
const SLOTS: u64 = 64;

/// The bytes of a journal. Up to 8 MiB of it are held.
pub(super) struct Blocks {
    source: Arc<dyn ByteSource>,
    length: u64,
    /// Exactly what is asked for is read: of a single record, there is nothing else.
    exact: bool,
    slots: Vec<Option<(u64, Vec<u8>)>>,
    scratch: Vec<u8>,
}

impl Blocks {
    pub(super) fn new(source: Arc<dyn ByteSource>, exact: bool) -> Blocks {
        let slots = if exact { 0 } else { SLOTS };
        Blocks {
            length: source.len(),
            source,
            exact,
            slots: (0..slots).map(|_| None).collect(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// The bytes at `offset`: fewer than `length` only where the file ends.
    ///
    /// `length` must be bounded by the caller.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> Result<&[u8], ReadError> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(there);
        if length == 0 {
            return Ok(&[]);
        }
        let (block, within) = (offset / BLOCK, (offset % BLOCK) as usize);
        if !self.exact && within + length <= BLOCK as usize {
            return Ok(self.block(block)?.get(within..).map_or(&[][..], |b| b.get(..length).unwrap_or(b)));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if self.exact {
            scratch.resize(length, 0);
            let got = self.source.read_at(offset, &mut scratch)?;
            scratch.truncate(got);
        } else {
            let mut at = offset;
            while scratch.len() < length {
                let part = self.block(at / BLOCK)?.get((at % BLOCK) as usize..).unwrap_or(&[]);
                let part = part.get(..length - scratch.len()).unwrap_or(part);
                if part.is_empty() {
                    break;
                }
                scratch.extend_from_slice(part);
                at = offset.saturating_add(scratch.len() as u64);
            }
        }
        self.scratch = scratch;
        Ok(&self.scratch)
    }

    fn block(&mut self, number: u64) -> Result<&[u8], ReadError> {
        let slot = (number % SLOTS) as usize;
        let Some(place) = self.slots.get_mut(slot) else {
            return Ok(&[]);
        };
        if place.as_ref().is_none_or(|(held, _)| *held != number) {
            let mut bytes = place.take().map(|(_, bytes)| bytes).unwrap_or_default();
            bytes.resize(BLOCK as usize, 0);
            let got = self.source.read_at(number.saturating_mul(BLOCK), &mut bytes)?;
            bytes.truncate(got);
            *place = Some((number, bytes));
        }
        Ok(place.as_ref().map_or(&[], |(_, bytes)| bytes))
    }
}
