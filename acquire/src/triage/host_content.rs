//! The content of a host's file on its way into the tar: what was read when it was opened, then the rest, block by block.

use std::fs::File;
use std::sync::Arc;

use custody::bundle::State;
use custody::{Digest, Hasher};

use super::host_files::{HostFiles, Opened, Refusal};
use crate::file_content::{Content, Problem, Problems};
use crate::pipeline::Marks;

/// After a failed read the rest is tried in steps of this.
const STEP: usize = 4096;

/// So many failed steps in a row, and the rest of the file is given up.
const MOST_FAILURES: u32 = 16;

/// The first `size` bytes of a file that is held open.
pub(crate) struct HostContent<'a> {
    host: &'a mut HostFiles,
    mount: Option<usize>,
    file: Arc<File>,
    first: &'a [u8],
    /// The file had ended within `first`.
    ended: bool,
    size: u64,
    whole: u64,
    /// Last writing when it was opened, and after `first` was read.
    written: (i64, i64),
    after: (u64, i64, i64),
    offset: u64,
    hasher: Hasher,
    failed: u32,
    given_up: Option<String>,
    problems: Problems,
}

impl<'a> HostContent<'a> {
    /// `whole` is the size that the file had when it was opened, `size` what is taken of it.
    pub(crate) fn new(
        host: &'a mut HostFiles,
        mount: Option<usize>,
        opened: &'a Opened,
        (size, whole): (u64, u64),
        written: (i64, u32),
    ) -> Self {
        Self {
            host,
            mount,
            file: Arc::clone(&opened.file),
            first: &opened.first,
            ended: opened.ended,
            size,
            whole,
            written: (written.0, written.1.into()),
            after: opened.after,
            offset: 0,
            hasher: Hasher::new(),
            failed: 0,
            given_up: None,
            problems: Problems::default(),
        }
    }

    /// How many bytes of the room were filled.
    fn fill(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize {
        let past = usize::try_from(self.offset).unwrap_or(usize::MAX);
        if let Some(known) = self.first.get(past..).filter(|known| !known.is_empty()) {
            let length = known.len().min(room.len());
            for (to, from) in room.iter_mut().zip(known) {
                *to = *from;
            }
            return length;
        }
        let want = room.len();
        if self.ended {
            self.problems.ended(self.offset, room, marks);
            return want;
        }
        if let Some(what) = self.given_up.clone() {
            self.problems.missing(self.offset, room, marks, (State::Unreadable, "no answer"), &what);
            return want;
        }
        match self.host.read_at(self.mount, &self.file, self.offset, want) {
            Ok(Ok(bytes)) if bytes.is_empty() => {
                self.ended = true;
                0
            }
            Ok(Ok(bytes)) => {
                self.failed = 0;
                for (to, from) in room.iter_mut().zip(&bytes) {
                    *to = *from;
                }
                bytes.len().min(want)
            }
            Ok(Err(error)) => {
                self.failed += 1;
                let past = usize::try_from(self.offset % STEP as u64).unwrap_or(0);
                let step = if self.failed > MOST_FAILURES { want } else { want.min(STEP - past) };
                let detail = format!("errno={} tries=1", error.raw_os_error().unwrap_or(0));
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
            Err(refusal) => {
                self.given_up = Some(format!("unreadable: {}", refusal.told()));
                0
            }
        }
    }
}

impl Content for HostContent<'_> {
    fn is_done(&self) -> bool {
        self.offset >= self.size
    }

    fn read(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize {
        let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let want = room.len().min(left);
        let Some(room) = room.get_mut(..want) else { return 0 };
        let filled = self.fill(room, marks);
        self.hasher.update(room.get(..filled).unwrap_or_default());
        self.offset = self.offset.saturating_add(filled as u64);
        filled
    }

    fn finish(&mut self) -> (Digest, Vec<Problem>) {
        // What was read in the act that opened it was looked at in that act.
        let after = if self.size <= self.first.len() as u64 || self.given_up.is_some() {
            Ok(self.after)
        } else {
            self.host.state(self.mount, &self.file)
        };
        let (size, whole) = (self.size, self.whole);
        let changed = match after {
            Ok((now, ..)) if now > whole => Some((
                whole,
                format!("grew from {whole} to {now} bytes while it was read: the rest was not acquired"),
            )),
            Ok((now, ..)) if now < size => {
                Some((now, format!("was cut from {whole} to {now} bytes while it was read")))
            }
            Ok((_, seconds, nanoseconds)) if (seconds, nanoseconds) != self.written => Some((
                0,
                "was written to while it was read: its parts may be of different moments".to_owned(),
            )),
            Ok(_) | Err(Refusal::Rule(_)) => None,
            Err(refusal) => Some((0, format!("cannot be looked at after reading: {}", refusal.told()))),
        };
        (std::mem::take(&mut self.hasher).finish(), self.problems.take_with(changed))
    }
}

/// Content that is held already.
pub(crate) struct HeldContent<'a> {
    bytes: &'a [u8],
    done: usize,
    hasher: Hasher,
    problem: Option<String>,
}

impl<'a> HeldContent<'a> {
    pub(crate) fn new(bytes: &'a [u8], problem: Option<String>) -> Self {
        Self { bytes, done: 0, hasher: Hasher::new(), problem }
    }
}

impl Content for HeldContent<'_> {
    fn is_done(&self) -> bool {
        self.done >= self.bytes.len()
    }

    fn read(&mut self, room: &mut [u8], _marks: &mut Marks<'_>) -> usize {
        let left = self.bytes.get(self.done..).unwrap_or_default();
        let length = left.len().min(room.len());
        for (to, from) in room.iter_mut().zip(left) {
            *to = *from;
        }
        self.hasher.update(left.get(..length).unwrap_or_default());
        self.done += length;
        length
    }

    fn finish(&mut self) -> (Digest, Vec<Problem>) {
        let offset = self.bytes.len() as u64;
        let problems = self.problem.take().map(|what| Problem { offset, length: None, what });
        (std::mem::replace(&mut self.hasher, Hasher::new()).finish(), problems.into_iter().collect())
    }
}
