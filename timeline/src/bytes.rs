//! Random access to evidence bytes, layer upon layer: stream, partition, file.

use std::ops::Range;
use std::sync::Arc;

use crate::error::ReadError;

/// A byte range of a bundle's stream.
pub type StreamRange = Range<u64>;

/// Bytes that can be read at any offset, and that know where in the bundle's stream they lie.
///
/// Layers wrap each other: a partition wraps the disk stream, a file wraps the file system. All of
/// them are read-only and may be read by several threads at once.
pub trait ByteSource: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset` on, and says how many bytes there were: fewer than `buf.len()` only
    /// at the end, 0 beyond it.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the layer below cannot give bytes that it claims to have.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError>;

    /// The ranges of the stream that hold these bytes, in the order of the bytes.
    ///
    /// Bytes that are stored nowhere (holes of a sparse file) have no range.
    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange>;

    /// The ranges of the stream that say where these bytes are: inode and extent map of a file.
    fn map_ranges(&self) -> Vec<StreamRange> {
        Vec::new()
    }

    /// The ranges of the stream that say where an image keeps these bytes: entries of its tables.
    fn container_ranges(&self, _offset: u64, _length: u64) -> Vec<StreamRange> {
        Vec::new()
    }

    /// What [`ByteSource::stream_ranges`] hold, where that is not these bytes themselves.
    fn stored_as(&self, _offset: u64, _length: u64) -> Option<&'static str> {
        None
    }
}

/// Reads exactly `length` bytes, or as many as there are before the end.
///
/// # Errors
///
/// As [`ByteSource::read_at`]. `length` must come from us, not from evidence: it is allocated.
pub fn read_vec(source: &dyn ByteSource, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    let there = usize::try_from(source.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut out = vec![0; length.min(there)];
    let got = source.read_at(offset, &mut out)?;
    out.truncate(got);
    Ok(out)
}

/// As [`read_vec`], with zeros for bytes that an image has lost: for tables and directories, of which the rest is still
/// worth reading. The image lists what it has lost.
///
/// # Errors
///
/// [`ReadError`] when bytes cannot be read for another reason.
pub fn read_or_zeros(source: &dyn ByteSource, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    const PIECE: u64 = 512;
    match read_vec(source, offset, length) {
        Err(ReadError::Lost { .. }) => {}
        other => return other,
    }
    let there = source.len().saturating_sub(offset).min(length as u64);
    let end = offset.saturating_add(there);
    let mut out = Vec::new();
    let mut at = offset;
    while at < end {
        let n = (PIECE - at % PIECE).min(end - at);
        match read_vec(source, at, n as usize) {
            Ok(piece) => out.extend(piece),
            Err(ReadError::Lost { .. }) => {}
            Err(error) => return Err(error),
        }
        at = at.saturating_add(n);
        out.resize((at - offset) as usize, 0);
    }
    Ok(out)
}

/// A part of another source: a partition of a disk, a member of a tar.
pub struct Window {
    inner: Arc<dyn ByteSource>,
    start: u64,
    length: u64,
}

impl Window {
    /// The bytes `start..start + length` of `inner`, cut where `inner` ends.
    pub fn new(inner: Arc<dyn ByteSource>, start: u64, length: u64) -> Window {
        let start = start.min(inner.len());
        let length = length.min(inner.len().saturating_sub(start));
        Window { inner, start, length }
    }
}

impl ByteSource for Window {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let there = self.length.saturating_sub(offset);
        let want = usize::try_from(there).unwrap_or(usize::MAX).min(buf.len());
        match buf.get_mut(..want) {
            Some(part) if want > 0 => self.inner.read_at(self.start.saturating_add(offset), part),
            _ => Ok(0),
        }
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let offset = offset.min(self.length);
        let length = length.min(self.length.saturating_sub(offset));
        self.inner.stream_ranges(self.start.saturating_add(offset), length)
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        self.inner.map_ranges()
    }

    fn container_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let length = length.min(self.length.saturating_sub(offset));
        self.inner.container_ranges(self.start.saturating_add(offset), length)
    }

    fn stored_as(&self, offset: u64, length: u64) -> Option<&'static str> {
        let length = length.min(self.length.saturating_sub(offset));
        self.inner.stored_as(self.start.saturating_add(offset), length)
    }
}

/// Bytes held in memory: an unpacked member, or a test's made evidence. They lie at offset 0 of the stream.
impl ByteSource for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let rest = usize::try_from(offset).ok().and_then(|o| self.get(o..)).unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let end = offset.saturating_add(length).min(ByteSource::len(self));
        if offset < end { std::iter::once(offset..end).collect() } else { Vec::new() }
    }
}

/// A few known pieces of a larger source; everything else reads as an error.
///
/// This is what `show --bytes` gives a parser: only the bytes of one record.
#[derive(Debug, Default, Clone)]
pub struct Pieces {
    length: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Pieces {
    /// No pieces yet of a source of `length` bytes.
    pub fn new(length: u64) -> Pieces {
        Pieces { length, parts: Vec::new() }
    }

    /// Adds the bytes that lie at `offset`.
    pub fn add(&mut self, offset: u64, bytes: Vec<u8>) {
        self.parts.push((offset, bytes));
    }
}

impl ByteSource for Pieces {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buf.len().min(there);
        let mut done = 0;
        while done < want {
            let at = offset.saturating_add(done as u64);
            let part = self.parts.iter().find_map(|(start, bytes)| {
                let skip = usize::try_from(at.checked_sub(*start)?).ok()?;
                bytes.get(skip..).filter(|rest| !rest.is_empty())
            });
            let (Some(from), Some(to)) = (part, buf.get_mut(done..want)) else {
                return Err(ReadError::Read {
                    what: "the record's pieces".into(),
                    offset: at,
                    length: want.saturating_sub(done) as u64,
                    reason: "these bytes are not part of the record".into(),
                });
            };
            let n = from.len().min(to.len());
            for (t, f) in to.iter_mut().zip(from) {
                *t = *f;
            }
            done = done.saturating_add(n);
        }
        Ok(want)
    }

    fn stream_ranges(&self, _offset: u64, _length: u64) -> Vec<StreamRange> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_never_reads_beyond_its_end_or_its_parents() {
        let disk: Arc<dyn ByteSource> = Arc::new((0..100u8).collect::<Vec<_>>());
        let part = Window::new(disk.clone(), 90, 50);
        assert_eq!(part.len(), 10);
        assert_eq!(read_vec(&part, 8, 50).unwrap(), [98, 99]);
        assert_eq!(part.stream_ranges(8, 50), vec![98u64..100]);
        assert_eq!(read_vec(&part, u64::MAX, 5).unwrap(), [0u8; 0]);
        assert!(Window::new(disk, u64::MAX, u64::MAX).is_empty());
    }

    #[test]
    fn pieces_give_their_own_bytes_and_refuse_all_others() {
        let mut pieces = Pieces::new(1000);
        pieces.add(100, vec![1, 2]);
        pieces.add(102, vec![3, 4]);
        assert_eq!(read_vec(&pieces, 100, 4).unwrap(), [1, 2, 3, 4]);
        assert!(read_vec(&pieces, 100, 5).is_err());
        assert!(read_vec(&pieces, 0, 1).is_err());
    }
}
