//! A stream that holds only what changed, read together with what it builds on.

use super::error::{Error, Result};
use super::extent::State;
use super::manifest::Base;
use super::opening::Bundle;
use super::reader::StreamReader;
use crate::digest::{Digest, Hasher};

/// No chain of bases is longer.
const MOST_LAYERS: usize = 256;

/// Bytes that are read at a time.
const PART: usize = 1 << 20;

/// A stream with the streams that it builds on, each on the next.
#[derive(Debug, Clone)]
pub struct Overlaid {
    layers: Vec<StreamReader>,
}

impl Overlaid {
    /// A stream that is read by itself as long as nothing is put below it.
    #[must_use]
    pub fn new(newest: StreamReader) -> Self {
        Self { layers: vec![newest] }
    }

    /// The stream of a bundle over those of its bases, which `find` opens; `None` if it does not have one of them.
    ///
    /// # Errors
    ///
    /// What `find` or the tables of the streams give; [`Error::Refused`] where the chain has no end.
    pub fn open(
        bundle: &Bundle,
        stream: &str,
        mut find: impl FnMut(&Base) -> Result<Option<Bundle>>,
    ) -> Result<Option<Self>> {
        let mut whole = Self::new(bundle.stream(stream)?);
        let mut next = bundle.manifest().base.clone();
        while let Some(base) = next.take() {
            let Some(below) = find(&base)? else { return Ok(None) };
            whole = whole.over(below.stream(stream)?)?;
            next.clone_from(&below.manifest().base);
        }
        Ok(Some(whole))
    }

    /// The same, over another stream, or over others that lie on each other.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where there are too many of them.
    pub fn over(mut self, base: impl Into<Self>) -> Result<Self> {
        self.layers.extend(base.into().layers);
        if self.layers.len() > MOST_LAYERS {
            return Err(Error::Refused {
                reason: format!("more than {MOST_LAYERS} bundles build on each other"),
            });
        }
        Ok(self)
    }

    /// Bytes of the newest stream.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.layers.first().map_or(0, StreamReader::len)
    }

    /// Whether it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills a buffer from an offset.
    ///
    /// # Errors
    ///
    /// Those of [`StreamReader::read_exact_at`], and [`Error::Refused`] for bytes that lie in a base that is not there.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        read(&self.layers, offset, buf)
    }

    /// The hash of the whole. `progress` is told of the bytes.
    ///
    /// # Errors
    ///
    /// As [`Overlaid::read_exact_at`].
    pub fn sha256(&self, progress: &mut dyn FnMut(u64)) -> Result<Digest> {
        let (mut hasher, mut part, mut at) = (Hasher::new(), vec![0; PART], 0u64);
        while at < self.len() {
            let length = usize::try_from(self.len() - at).unwrap_or(PART).min(PART);
            let part = part.get_mut(..length).unwrap_or_default();
            self.read_exact_at(at, part)?;
            hasher.update(part);
            at = at.saturating_add(length as u64);
            progress(length as u64);
        }
        Ok(hasher.finish())
    }
}

impl From<StreamReader> for Overlaid {
    fn from(stream: StreamReader) -> Self {
        Self::new(stream)
    }
}

fn read(layers: &[StreamReader], offset: u64, buf: &mut [u8]) -> Result<()> {
    let Some((top, below)) = layers.split_first() else {
        return Err(Error::Refused { reason: "bytes are as in a base that is not there".to_owned() });
    };
    let mut done = 0usize;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        let (state, end) = match top.extent_at(at) {
            Some(extent) => (extent.state, extent.end()),
            None => {
                return Err(Error::Refused { reason: format!("a base ends before byte {at}") });
            }
        };
        let length = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(rest.len());
        let part = rest.get_mut(..length).unwrap_or_default();
        match state {
            State::Base => read(below, at, part)?,
            State::Data => top.read_exact_at(at, part)?,
            State::Zero | State::Absent | State::Unreadable | State::Skipped => part.fill(0),
        }
        done = done.saturating_add(length);
    }
    Ok(())
}
