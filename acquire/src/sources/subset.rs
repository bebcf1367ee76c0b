//! A range of a source: one partition's worth, or the area that an earlier acquisition gave up.

use std::io;

use custody::bundle::Source as SourceFacts;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::reading::Patience;
use crate::source::{Issues, Source};

/// Part of another source. Offsets in the stream, its tables and its issues count from the start of the range; the
/// manifest says where that is (`subset`), and how much was left out before and behind it.
pub struct Subset {
    inner: Box<dyn Source>,
    offset: u64,
    length: u64,
    whole: u64,
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Subset {
    /// Takes `length` bytes from `offset` on, or all from there.
    ///
    /// # Errors
    ///
    /// [`Error::NotASource`] for a source whose size is not known, a range that does not lie within it, or one that
    /// does not begin and end where sectors do.
    pub fn new(inner: Box<dyn Source>, offset: u64, length: Option<u64>) -> Result<Self> {
        let refused =
            |reason| Err(Error::NotASource { path: inner.facts().path.unwrap_or_default().into(), reason });
        let Some(whole) = inner.size() else {
            return refused("a range can be taken only of what has a size");
        };
        let sector = u64::from(inner.sector_size().max(1));
        let length = length.unwrap_or_else(|| whole.saturating_sub(offset));
        match offset.checked_add(length) {
            None => return refused("the range ends behind its last byte"),
            Some(end) if end > whole => return refused("the range ends behind its last byte"),
            Some(end) if end != whole && !end.is_multiple_of(sector) => {
                return refused("the range does not end where a sector does");
            }
            Some(_) if !offset.is_multiple_of(sector) => {
                return refused("the range does not begin where a sector does");
            }
            Some(_) => {}
        }
        Ok(Self { inner, offset, length, whole })
    }

    /// The part of a read that lies within the range.
    fn within<'b>(&self, offset: u64, buf: &'b mut [u8]) -> &'b mut [u8] {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = buf.len().min(left);
        buf.get_mut(..most).unwrap_or_default()
    }
}

impl Source for Subset {
    fn facts(&self) -> SourceFacts {
        let mut facts = self.inner.facts();
        let behind = self.whole.saturating_sub(self.offset).saturating_sub(self.length);
        let subset = json!({
            "offset": self.offset, "length": self.length, "source_size": self.whole,
            "not_acquired_before": self.offset, "not_acquired_behind": behind,
        });
        facts.size = Some(self.length);
        facts.more.insert("subset".to_owned(), subset);
        facts
    }

    fn size(&self) -> Option<u64> {
        Some(self.length)
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let buf = self.within(offset, buf);
        if buf.is_empty() { Ok(0) } else { self.inner.read_at(self.offset.saturating_add(offset), buf) }
    }

    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let buf = self.within(offset, buf);
        if buf.is_empty() { Ok(0) } else { self.inner.reread_at(self.offset.saturating_add(offset), buf) }
    }

    fn patience(&self) -> Patience {
        self.inner.patience()
    }

    fn begin(&mut self, issues: &mut Issues) {
        self.inner.begin(issues);
    }

    fn end(&mut self, issues: &mut Issues) {
        self.inner.end(issues);
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.inner.facts_after()
    }
}
