//! What an acquisition reads from, and how a source is read when parts of it cannot be.

use std::io;

use custody::bundle::{Source as SourceFacts, State};

use crate::error::{Error, Result};
use crate::pipeline::{Feed, Marks};

/// Tries for one sector before it is given up.
const TRIES: u32 = 3;

/// Where a read failed, it is tried again in blocks of these sizes, then of one sector.
const STEPS: [usize; 2] = [64 << 10, 4 << 10];

/// Errors that say that the device itself has gone: ENXIO, ENODEV, ENOMEDIUM, ESHUTDOWN.
const GONE: [i32; 4] = [6, 19, 123, 108];

/// A run of unreadable sectors is listed once; at most so many runs are kept as issues, the rest is counted.
const MOST_ISSUES: usize = 10_000;

/// Something that gives bytes and is never written to.
pub trait Source: Send {
    /// What is known of it, for the manifest.
    fn facts(&self) -> SourceFacts;

    /// Its size, if it is known before it has been read.
    fn size(&self) -> Option<u64>;

    /// Bytes of a logical sector: the least that is read where reading fails.
    fn sector_size(&self) -> u32;

    /// Reads at an offset; 0 bytes only at the end. Sources that give each byte once are read in order.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Reads at an offset past any cache of the system, which would spoil the neighbours of a bad sector.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read_at(offset, buf)
    }

    /// Whether bytes can be read again.
    fn is_seekable(&self) -> bool {
        true
    }
}

/// Something that went wrong at one place and did not stop the acquisition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where: the source's path or a file's, escaped.
    pub path: String,
    /// First byte concerned, in the source or file.
    pub offset: Option<u64>,
    /// Bytes concerned.
    pub length: Option<u64>,
    /// What happened, in words.
    pub what: String,
}

/// Issues as they come: all are counted, the first are kept.
#[derive(Debug, Default)]
pub struct Issues {
    kept: Vec<Issue>,
    count: u64,
}

impl Issues {
    /// Adds one.
    pub fn add(&mut self, issue: Issue) {
        self.count = self.count.saturating_add(1);
        if self.kept.len() < MOST_ISSUES {
            self.kept.push(issue);
        }
    }

    /// Adds those of another part of the same acquisition.
    pub(crate) fn append(&mut self, other: Issues) {
        let unkept = other.count.saturating_sub(other.kept.len() as u64);
        other.kept.into_iter().for_each(|issue| self.add(issue));
        self.count = self.count.saturating_add(unkept);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Gives the first of them away.
    #[must_use]
    pub fn into_kept(self) -> Vec<Issue> {
        self.kept
    }

    /// The first of them.
    #[must_use]
    pub fn kept(&self) -> &[Issue] {
        &self.kept
    }
}

/// Reads a source into a stream, from where the stream stands to the source's end.
///
/// The size is fixed when the source is opened: what is missing at the end is filled with zeros as `absent`, what has
/// been added since is noted. What cannot be read is tried again in ever smaller parts down to the logical sector, then
/// filled with zeros as `unreadable`.
///
/// # Errors
///
/// [`Error::Stopped`] if the bundle can take no more, [`Error::SourceLost`] if a source that cannot be read again fails.
pub fn read_source(source: &mut dyn Source, name: &str, feed: &mut Feed, issues: &mut Issues) -> Result<()> {
    let size = source.size();
    let mut reading = Reading { size, source, name, issues, ended: false, lost: None, bad: None };
    let mut offset = feed.size();
    loop {
        let want = match size {
            Some(size) => usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        if want == 0 {
            break;
        }
        let got = feed.fill(|room, marks| {
            let want = want.min(room.len());
            reading.chunk(offset, room.get_mut(..want).unwrap_or_default(), marks)
        })?;
        if got == 0 {
            break;
        }
        offset = offset.saturating_add(got as u64);
    }
    reading.end(offset);
    Ok(())
}

struct Reading<'a> {
    size: Option<u64>,
    source: &'a mut dyn Source,
    name: &'a str,
    issues: &'a mut Issues,
    /// The source ended before its size.
    ended: bool,
    /// The whole source has gone, with this error.
    lost: Option<i32>,
    /// Run of unreadable bytes that may go on: start, length, error.
    bad: Option<(u64, u64, i32)>,
}

impl Reading<'_> {
    /// Fills `buf`, unless a source of unknown size ends before.
    fn chunk(&mut self, offset: u64, buf: &mut [u8], marks: &mut Marks<'_>) -> Result<usize> {
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let all = rest.len();
            if self.ended {
                self.absent(at, rest, marks.from(done));
                return Ok(done + all);
            }
            if let Some(errno) = self.lost {
                self.unreadable(at, rest, marks.from(done), errno, 1);
                return Ok(done + all);
            }
            match self.source.read_at(at, rest) {
                Ok(0) if self.size.is_some() => self.ended = true,
                Ok(0) => return Ok(done),
                Ok(read) => done += read.min(all),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) if !self.source.is_seekable() => {
                    return Err(Error::SourceLost { name: self.name.to_owned(), offset: at, source });
                }
                Err(_) => {
                    let sector = self.source.sector_size().max(1) as usize;
                    let steps: Vec<usize> =
                        STEPS.into_iter().filter(|&step| step > sector).chain([sector]).collect();
                    self.recover(at, rest, marks.from(done), &steps);
                    return Ok(done + all);
                }
            }
        }
        Ok(done)
    }

    /// Reads a range in blocks of the first step; a block that fails is read again in the next, smaller ones.
    fn recover(&mut self, offset: u64, buf: &mut [u8], mut marks: Marks<'_>, steps: &[usize]) {
        let Some((&step, finer)) = steps.split_first() else { return };
        let mut done = 0usize;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            let to_boundary = step - usize::try_from(at % step as u64).unwrap_or(0);
            let end = buf.len().min(done + to_boundary);
            let Some(block) = buf.get_mut(done..end) else { return };
            let mut marks = marks.from(done);
            done = end;
            let tries = if finer.is_empty() { TRIES } else { 1 };
            let mut failed = self.lost;
            let mut tried = 0;
            let mut got = 0;
            while !self.ended && self.lost.is_none() && tried < tries {
                tried += 1;
                (got, failed) = self.read_block(at, block);
                if failed.is_none() {
                    break;
                }
            }
            match failed {
                None => {
                    let missing = block.get_mut(got..).filter(|missing| !missing.is_empty());
                    if let Some(missing) = missing {
                        self.absent(at.saturating_add(got as u64), missing, marks.from(got));
                    }
                }
                Some(errno) if finer.is_empty() || self.lost.is_some() => {
                    self.unreadable(at, block, marks, errno, tried.max(1));
                }
                Some(_) => self.recover(at, block, marks, finer),
            }
        }
    }

    /// Reads one block: how much of it before the end of the source, or the error.
    fn read_block(&mut self, offset: u64, block: &mut [u8]) -> (usize, Option<i32>) {
        let mut done = 0usize;
        while let Some(rest) = block.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.source.reread_at(offset.saturating_add(done as u64), rest) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    if GONE.contains(&errno) {
                        self.lost = Some(errno);
                    }
                    return (0, Some(errno));
                }
            }
        }
        (done, None)
    }

    fn unreadable(&mut self, offset: u64, block: &mut [u8], mut marks: Marks<'_>, errno: i32, tries: u32) {
        block.fill(0);
        marks.add(0, block.len(), State::Unreadable, &format!("errno={errno} tries={tries}"));
        let length = block.len() as u64;
        match self.bad.as_mut() {
            Some((start, run, error)) if *error == errno && start.saturating_add(*run) == offset => {
                *run = run.saturating_add(length);
            }
            _ => {
                self.list_bad();
                self.bad = Some((offset, length, errno));
            }
        }
    }

    fn absent(&mut self, offset: u64, block: &mut [u8], mut marks: Marks<'_>) {
        block.fill(0);
        marks.add(0, block.len(), State::Absent, "source ended");
        if let Some(size) = self.size.take() {
            self.issues.add(Issue {
                path: self.name.to_owned(),
                offset: Some(offset),
                length: Some(size.saturating_sub(offset)),
                what: format!("the source ended at byte {offset}, but had {size} bytes when it was opened"),
            });
        }
    }

    fn list_bad(&mut self) {
        let Some((offset, length, errno)) = self.bad.take() else { return };
        self.issues.add(Issue {
            path: self.name.to_owned(),
            offset: Some(offset),
            length: Some(length),
            what: format!("unreadable: {}", io::Error::from_raw_os_error(errno)),
        });
    }

    fn end(&mut self, offset: u64) {
        self.list_bad();
        let mut behind = [0; 4096];
        let Some(size) = self.size.filter(|_| self.source.is_seekable() && self.lost.is_none()) else {
            return;
        };
        if let Ok(1..) = self.source.read_at(offset, &mut behind) {
            self.issues.add(Issue {
                path: self.name.to_owned(),
                offset: Some(size),
                length: None,
                what: format!(
                    "the source grew while it was read: what lies behind its {size} bytes was not acquired"
                ),
            });
        }
    }
}
