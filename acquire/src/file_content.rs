//! The content of one open file, read in order: what cannot be read is zeros and a listed problem.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use custody::bundle::State;
use custody::{Digest, Hasher};

use crate::pipeline::Marks;

/// After a failed read the rest is tried in steps of this; a page is what the system reads at least.
const STEP: usize = 4096;

/// So many failed steps in a row, and the rest of the file is given up.
const MOST_FAILURES: u32 = 64;

/// Problems kept of one file.
const MOST_PROBLEMS: usize = 1000;

/// Something that went wrong while one file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// First byte concerned.
    pub(crate) offset: u64,
    /// Bytes concerned.
    pub(crate) length: Option<u64>,
    /// What happened, in words.
    pub(crate) what: String,
}

/// What went wrong while one file was read: neighbours of one kind are joined, and the first are kept.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Fills a block that lies at `at` in the file with zeros, and notes why.
    pub(crate) fn missing(
        &mut self,
        at: u64,
        block: &mut [u8],
        marks: &mut Marks<'_>,
        (state, detail): (State, &str),
        what: &str,
    ) {
        block.fill(0);
        marks.add(0, block.len(), state, detail);
        let length = block.len() as u64;
        if let Some(Problem { offset, length: Some(run), what: last }) = self.0.last_mut()
            && offset.saturating_add(*run) == at
            && last == what
        {
            *run = run.saturating_add(length);
        } else if self.0.len() < MOST_PROBLEMS {
            self.0.push(Problem { offset: at, length: Some(length), what: what.to_owned() });
        }
    }

    /// Fills a block that lies behind the end of a file that was longer when it was opened.
    pub(crate) fn ended(&mut self, at: u64, block: &mut [u8], marks: &mut Marks<'_>) {
        self.missing(at, block, marks, (State::Absent, "source ended"), "shorter than when it was opened");
    }

    /// Gives them away, with what was found of the file as a whole.
    pub(crate) fn take_with(&mut self, whole: Option<(u64, String)>) -> Vec<Problem> {
        let mut all = std::mem::take(&mut self.0);
        all.extend(whole.map(|(offset, what)| Problem { offset, length: None, what }));
        all
    }
}

/// The content of one file on its way into a stream.
pub(crate) trait Content {
    /// Whether all of it has been read.
    fn is_done(&self) -> bool;

    /// Fills room with the next bytes, or with zeros and a mark for what cannot be had.
    fn read(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize;

    /// Its hash as stored, and what went wrong. Asked once, at the end.
    fn finish(&mut self) -> (Digest, Vec<Problem>);
}

/// The content of one file. Its size is fixed when it is opened.
pub(crate) struct FileContent<'a> {
    file: &'a File,
    size: u64,
    /// When it had last been written to, before it was read.
    written: Option<(i64, i64)>,
    offset: u64,
    hasher: Hasher,
    /// Failed steps in a row.
    failed: u32,
    problems: Problems,
}

impl<'a> FileContent<'a> {
    /// Takes the first `size` bytes of an open file.
    pub(crate) fn new(file: &'a File, size: u64) -> Self {
        let (written, hasher, problems) = (written(file), Hasher::new(), Problems::default());
        Self { file, size, written, offset: 0, hasher, failed: 0, problems }
    }
}

impl Content for FileContent<'_> {
    fn is_done(&self) -> bool {
        self.offset >= self.size
    }

    fn read(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize {
        let left = self.size.saturating_sub(self.offset);
        let want = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(room) = room.get_mut(..want) else { return 0 };
        let filled = match self.file.read_at(room, self.offset) {
            Ok(0) => {
                self.problems.ended(self.offset, room, marks);
                want
            }
            Ok(read) => {
                self.failed = 0;
                read.min(want)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                self.failed += 1;
                let errno = error.raw_os_error().unwrap_or(0);
                let past = usize::try_from(self.offset % STEP as u64).unwrap_or(0);
                let step = if self.failed > MOST_FAILURES { want } else { want.min(STEP - past) };
                let detail = format!("errno={errno} tries=1");
                let block = room.get_mut(..step).unwrap_or_default();
                self.problems.missing(
                    self.offset,
                    block,
                    marks,
                    (State::Unreadable, &detail),
                    &format!("unreadable: {error}"),
                );
                step
            }
        };
        self.hasher.update(room.get(..filled).unwrap_or_default());
        self.offset = self.offset.saturating_add(filled as u64);
        filled
    }

    /// Looks whether the file changed meanwhile.
    fn finish(&mut self) -> (Digest, Vec<Problem>) {
        let now = self.file.metadata().map_or(0, |metadata| metadata.len());
        let changed = if now > self.size {
            let size = self.size;
            Some((
                size,
                format!("grew from {size} to {now} bytes while it was read: the rest was not acquired"),
            ))
        } else if written(self.file) != self.written {
            Some((0, "was written to while it was read: its parts may be of different moments".to_owned()))
        } else {
            None
        };
        (std::mem::take(&mut self.hasher).finish(), self.problems.take_with(changed))
    }
}

/// When a file was last written to: seconds and nanoseconds.
fn written(file: &File) -> Option<(i64, i64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec()))
}
