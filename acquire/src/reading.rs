//! How a source is read from its start to its end when parts of it cannot be read.
//!
//! A read that fails is tried again in blocks of 64 KiB, then of 4 KiB, then of one logical sector, and a sector three
//! times, so that no good sector is lost with a bad one. What stays unreadable is zeros, listed with the error and the
//! tries, and nothing behind it is shifted.
//!
//! A stream is hashed in order, so bad areas cannot be left for last. Instead the time lost to them is bounded
//! ([`Patience`]): disks are known that take half a minute for each bad sector, which is 180 years for a terabyte.
//!
//! - A sector whose first try was slow is not tried again: the disk has tried many times itself by then.
//! - When the time is used up, a read that fails is given up as a whole, and the end of the bad area is looked for by
//!   doubling steps, then by halving: some 40 failing reads an area at most. What lies between is listed as not tried
//!   (`tries=0`), and as an issue with its place, so that this very range can be acquired again later.
//!
//! A place that gave an error once and bytes another time is listed too, and is read once more: two readings that
//! differ are both told by their hashes.

use std::io;
use std::time::Duration;

use custody::bundle::State;
use custody::clock::Clock;
use custody::sha256;

use crate::error::{Error, Result};
use crate::pipeline::{Feed, Marks};
use crate::source::{Issue, Issues, Source};

/// Tries for one sector before it is given up.
const TRIES: u32 = 3;

/// Where a read failed, it is tried again in blocks of these sizes, then of one sector.
const STEPS: [usize; 2] = [64 << 10, 4 << 10];

/// Bytes that are read to see whether a bad area has ended. A multiple of any logical sector that `O_DIRECT` knows.
const PROBE: usize = 4 << 10;

/// Errors that say that the device itself has gone: ENXIO, ENODEV, ENOMEDIUM, ESHUTDOWN.
const GONE: [i32; 4] = [6, 19, 123, 108];

/// How long bad areas may hold up an acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patience {
    /// Time that reads which fail may take altogether, before bad areas are given up without trying each sector.
    pub bad_areas: Duration,
    /// A sector whose first try took longer than this is not tried again.
    pub slow_try: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { bad_areas: Duration::from_secs(3600), slow_try: Duration::from_secs(2) }
    }
}

impl Patience {
    /// Bounds the time that reads which fail may take altogether.
    #[must_use]
    pub fn of(bad_areas: Duration) -> Self {
        Self { bad_areas, ..Self::default() }
    }
}

/// Reads a source to its end into a stream, from where the stream ends now.
///
/// The size is fixed when the source is opened: what is missing at the end is filled with zeros as `absent`, what has
/// been added since is noted. What cannot be read is tried again in ever smaller parts down to the logical sector, then
/// filled with zeros as `unreadable`.
///
/// # Errors
///
/// [`Error::Stopped`] if the bundle can take no more, [`Error::SourceLost`] if a source that cannot be read again fails.
pub fn read_source(
    source: &mut dyn Source,
    name: &str,
    clock: &dyn Clock,
    feed: &mut Feed,
    issues: &mut Issues,
) -> Result<()> {
    let (size, patience) = (source.size(), source.patience());
    source.begin(issues);
    let mut reading = Reading {
        size,
        source,
        name,
        issues,
        patience,
        clock,
        time_lost: Duration::ZERO,
        ended: false,
        lost: None,
        given_up: None,
        run: None,
    };
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
    patience: Patience,
    clock: &'a dyn Clock,
    /// What reads that failed took so far.
    time_lost: Duration,
    /// The source ended before its size.
    ended: bool,
    /// The whole source has gone, with this error.
    lost: Option<i32>,
    /// Up to here nothing is tried, because of this error before.
    given_up: Option<(u64, i32)>,
    /// Neighbours with the same trouble, which are one issue.
    run: Option<Run>,
}

/// Bytes one after the other with the same trouble.
struct Run {
    start: u64,
    length: u64,
    what: String,
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
                self.unreadable(at, rest, marks.from(done), errno, 0);
                return Ok(done + all);
            }
            if let Some((until, errno)) = self.given_up.filter(|(until, _)| *until > at) {
                let part = usize::try_from(until - at).unwrap_or(all).min(all);
                self.give_up(at, rest.get_mut(..part).unwrap_or_default(), marks.from(done), errno, 0);
                done += part;
                continue;
            }
            let (state, length) = match self.source.run_at(at) {
                Ok(run) => run.unwrap_or((State::Data, u64::MAX)),
                Err(source) => return Err(self.lost_at(at, source)),
            };
            let part = all.min(usize::try_from(length).unwrap_or(all));
            let rest = rest.get_mut(..part).unwrap_or_default();
            if state != State::Data {
                rest.fill(0);
                marks.from(done).add(0, part, state, "");
                done += part;
                continue;
            }
            match self.timed(|source| source.read_at(at, rest)).0 {
                Ok(0) if self.size.is_some() => self.ended = true,
                Ok(0) => return Ok(done),
                Ok(read) => done += read.min(part),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) if !self.source.is_seekable() => return Err(self.lost_at(at, source)),
                Err(error) => {
                    if let Some(why) = self.source.stopped_by() {
                        return Err(why);
                    }
                    self.bad_chunk(at, rest, marks.from(done), &error);
                    if let Some(why) = self.source.stopped_by() {
                        return Err(why);
                    }
                    done += part;
                }
            }
        }
        Ok(done)
    }

    fn lost_at(&mut self, offset: u64, source: io::Error) -> Error {
        let lost = || Error::SourceLost { name: self.name.to_owned(), offset, source };
        self.source.stopped_by().unwrap_or_else(lost)
    }

    /// Gets what can be got of a chunk that could not be read in one.
    fn bad_chunk(&mut self, at: u64, rest: &mut [u8], mut marks: Marks<'_>, error: &io::Error) {
        let errno = errno_of(error);
        if GONE.contains(&errno) {
            self.lost = Some(errno);
            // What came before the device went is in the part that is tried no more.
            self.unreadable(at, rest, marks, errno, 1);
            return;
        }
        if self.is_out_of_time() {
            self.give_up(at, rest, marks, errno, 1);
            let from = at.saturating_add(rest.len() as u64);
            self.given_up = Some((self.end_of_bad_area(from, rest.len() as u64), errno));
            return;
        }
        let sector = self.source.sector_size().max(1) as usize;
        let steps: Vec<usize> = STEPS.into_iter().filter(|&step| step > sector).chain([sector]).collect();
        if !self.recover(at, rest, marks.from(0), &steps) {
            self.unsteady(at, rest.len());
        }
    }

    /// Reads a range in blocks of the first step; a block that fails is read again in the next, smaller ones.
    ///
    /// Says whether anything was noted of it.
    fn recover(&mut self, offset: u64, buf: &mut [u8], mut marks: Marks<'_>, steps: &[usize]) -> bool {
        let Some((&step, finer)) = steps.split_first() else { return false };
        let (mut done, mut noted) = (0usize, false);
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            let to_boundary = step - usize::try_from(at % step as u64).unwrap_or(0);
            let end = buf.len().min(done + to_boundary);
            let Some(block) = buf.get_mut(done..end) else { return noted };
            let mut marks = marks.from(done);
            done = end;
            let (got, failed, tried) = self.try_block(at, block, if finer.is_empty() { TRIES } else { 1 });
            noted |= match failed {
                None => {
                    let missing = block.get_mut(got..).filter(|missing| !missing.is_empty());
                    let ends_here = missing.is_some();
                    if let Some(missing) = missing {
                        self.absent(at.saturating_add(got as u64), missing, marks.from(got));
                    } else if tried > 1 {
                        self.read_late(at, block, tried);
                    }
                    ends_here || tried > 1
                }
                Some(errno) if finer.is_empty() || self.lost.is_some() => {
                    self.unreadable(at, block, marks, errno, tried);
                    true
                }
                Some(errno) if self.is_out_of_time() => {
                    self.give_up(at, block, marks, errno, tried);
                    true
                }
                Some(_) => {
                    if !self.recover(at, block, marks, finer) {
                        self.unsteady(at, block.len());
                    }
                    true
                }
            };
        }
        noted
    }

    /// Reads a block until it succeeds or has been tried often enough: bytes read, the last error, tries made.
    fn try_block(&mut self, at: u64, block: &mut [u8], most: u32) -> (usize, Option<i32>, u32) {
        let (mut got, mut failed, mut tried) = (0, self.lost, 0);
        while !self.ended && self.lost.is_none() && tried < most {
            tried += 1;
            let took;
            (got, failed, took) = self.read_block(at, block);
            if failed.is_none() || took > self.patience.slow_try || self.is_out_of_time() {
                break;
            }
        }
        (got, failed, tried)
    }

    /// Reads one block: how much of it before the end of the source, or the error, and how long that took.
    fn read_block(&mut self, offset: u64, block: &mut [u8]) -> (usize, Option<i32>, Duration) {
        let mut done = 0usize;
        while let Some(rest) = block.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            match self.timed(|source| source.reread_at(at, rest)) {
                (Ok(0), _) => {
                    self.ended = true;
                    break;
                }
                (Ok(read), _) => done += read,
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                (Err(error), took) => {
                    let errno = errno_of(&error);
                    if GONE.contains(&errno) {
                        self.lost = Some(errno);
                    }
                    return (0, Some(errno), took);
                }
            }
        }
        (done, None, Duration::ZERO)
    }

    /// Where reading is worth trying again behind a bad area: the size if it never is.
    fn end_of_bad_area(&mut self, from: u64, chunk: u64) -> u64 {
        let Some(size) = self.size else { return from };
        if from >= size || self.is_good(from, size) {
            return from.min(size);
        }
        // Halving must get on by at least one probe.
        let chunk = chunk.max(2 * PROBE as u64);
        let (mut bad, mut step) = (from, chunk);
        let mut good = loop {
            let at = bad.saturating_add(step);
            if at >= size {
                // The last sectors may be good although all that was tried before them is not.
                let last = size.saturating_sub(1) / PROBE as u64 * PROBE as u64;
                if last <= bad || !self.is_good(last, size) {
                    return size;
                }
                break last;
            }
            if self.is_good(at, size) {
                break at;
            }
            bad = at;
            step = step.saturating_mul(2);
        };
        while good - bad > chunk {
            let middle = bad + (good - bad) / 2 / PROBE as u64 * PROBE as u64;
            if self.is_good(middle, size) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good
    }

    /// Whether there is anything to read at an offset. A source that ends or goes there is seen by who reads it.
    fn is_good(&mut self, at: u64, size: u64) -> bool {
        let mut probe = [0; PROBE];
        let length = usize::try_from(size.saturating_sub(at)).unwrap_or(PROBE).min(PROBE);
        match self.timed(|source| source.reread_at(at, probe.get_mut(..length).unwrap_or_default())).0 {
            Ok(_) => true,
            Err(error) => GONE.contains(&errno_of(&error)),
        }
    }

    /// Reads, and counts the time if that fails.
    fn timed(
        &mut self,
        read: impl FnOnce(&mut dyn Source) -> io::Result<usize>,
    ) -> (io::Result<usize>, Duration) {
        let before = self.clock.mono_ns();
        let result = read(self.source);
        let took = Duration::from_nanos(self.clock.mono_ns().saturating_sub(before));
        if result.is_err() {
            self.time_lost = self.time_lost.saturating_add(took);
        }
        (result, took)
    }

    fn is_out_of_time(&self) -> bool {
        self.time_lost > self.patience.bad_areas
    }

    /// Notes a block that has been tried as far as it is tried at all.
    fn unreadable(&mut self, at: u64, block: &mut [u8], mut marks: Marks<'_>, errno: i32, tries: u32) {
        block.fill(0);
        marks.add(0, block.len(), State::Unreadable, &format!("errno={errno} tries={tries}"));
        self.note(at, block.len(), format!("unreadable: {}", io::Error::from_raw_os_error(errno)));
    }

    /// Notes a block whose sectors have not all been tried.
    fn give_up(&mut self, at: u64, block: &mut [u8], mut marks: Marks<'_>, errno: i32, tries: u32) {
        block.fill(0);
        let detail = match tries {
            0 => format!("errno={errno} tries=0"),
            _ => format!("errno={errno} tries={tries} read={}", block.len()),
        };
        marks.add(0, block.len(), State::Unreadable, &detail);
        let what = format!(
            "given up, not every sector was tried: reads that fail had taken {} s: {}",
            self.patience.bad_areas.as_secs(),
            io::Error::from_raw_os_error(errno)
        );
        self.note(at, block.len(), what);
    }

    /// Notes a block that could be read in parts only.
    fn unsteady(&mut self, at: u64, length: usize) {
        self.note(at, length, "a read failed here, but each part could be read when tried alone".to_owned());
    }

    /// Notes a sector that could be read only when tried again, and whether it reads the same once more.
    fn read_late(&mut self, at: u64, block: &[u8], tries: u32) {
        let mut again = vec![0; block.len()];
        let what = match self.read_block(at, &mut again) {
            (_, None, _) if again == block => format!("read only at try {tries}"),
            (_, None, _) => format!(
                "read only at try {tries}, and differently once more: SHA-256 {} was kept, {} came then",
                sha256(block),
                sha256(&again)
            ),
            (_, Some(_), _) => format!("read only at try {tries}, and not once more"),
        };
        self.note(at, block.len(), what);
    }

    fn absent(&mut self, offset: u64, block: &mut [u8], mut marks: Marks<'_>) {
        block.fill(0);
        marks.add(0, block.len(), State::Absent, "source ended");
        if let Some(size) = self.size.take() {
            self.list_run();
            self.issues.add(Issue {
                path: self.name.to_owned(),
                offset: Some(offset),
                length: Some(size.saturating_sub(offset)),
                what: format!("the source ended at byte {offset}, but had {size} bytes when it was opened"),
            });
        }
    }

    /// Notes trouble at a place; neighbours with the same trouble become one issue.
    fn note(&mut self, offset: u64, length: usize, what: String) {
        match self.run.as_mut() {
            Some(run) if run.what == what && run.start.saturating_add(run.length) == offset => {
                run.length = run.length.saturating_add(length as u64);
            }
            _ => {
                self.list_run();
                self.run = Some(Run { start: offset, length: length as u64, what });
            }
        }
    }

    fn list_run(&mut self) {
        let Some(Run { start, length, what }) = self.run.take() else { return };
        self.issues.add(Issue {
            path: self.name.to_owned(),
            offset: Some(start),
            length: Some(length),
            what,
        });
    }

    fn end(&mut self, offset: u64) {
        self.list_run();
        let mut behind = [0; PROBE];
        if let Some(size) = self.size.filter(|_| self.source.is_seekable() && self.lost.is_none())
            && let Ok(1..) = self.source.read_at(offset, &mut behind)
        {
            self.issues.add(Issue {
                path: self.name.to_owned(),
                offset: Some(size),
                length: None,
                what: format!(
                    "the source grew while it was read: what lies behind its {size} bytes was not acquired"
                ),
            });
        }
        self.source.end(self.issues);
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}
