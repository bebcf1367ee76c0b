//! A disk behind a service that gives ranges of it: fetched ahead by a few threads, given in order.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use custody::bundle::{Source as SourceFacts, State};
use serde_json::{Map, Value};

use crate::aws::{Failure, FailureKind};
use crate::error::Error;
use crate::source::Source;

/// Requests on their way at a time.
const THREADS: usize = 8;

/// Answers that are asked for ahead of who reads, once it is clear that it reads on.
const MOST_AHEAD: usize = 16;

/// Runs of bytes with less than this between them are fetched by one request.
const WORTH_BRIDGING: u64 = 64 << 10;

/// The error of the system that stands for a range which only ever came damaged.
const EIO: i32 = 5;

/// Bytes one after the other in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    /// Behind the last byte.
    pub(super) end: u64,
    /// [`State::Data`] is fetched; all else is told as it is.
    pub(super) state: State,
}

/// What gives ranges of one object that does not change.
pub(super) trait RangeService: fmt::Debug + Send + Sync + 'static {
    /// Bytes of the whole.
    fn size(&self) -> u64;

    /// Bytes that one request may ask for.
    fn most(&self) -> u64;

    /// The runs from an offset on, without a hole between them, and at least one: as many as one listing gives.
    fn runs(&self, from: u64) -> Result<Vec<Run>, Failure>;

    /// Exactly these bytes, checked; asks once.
    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure>;

    /// Requests so far.
    fn requests(&self) -> u64;
}

/// A range that is on its way, or came.
#[derive(Debug)]
struct Unit {
    start: u64,
    end: u64,
    answer: Receiver<Result<Vec<u8>, Failure>>,
    came: Option<Result<Vec<u8>, Failure>>,
}

#[derive(Debug)]
struct Job {
    start: u64,
    length: usize,
    answer: Sender<Result<Vec<u8>, Failure>>,
}

/// The source of such a disk.
#[derive(Debug)]
pub(super) struct RemoteDisk {
    service: Arc<dyn RangeService>,
    facts: SourceFacts,
    jobs: Sender<Job>,
    /// From where is read on to where was listed.
    runs: VecDeque<Run>,
    units: VecDeque<Unit>,
    /// Up to here ranges were asked for.
    planned: u64,
    ahead: usize,
    /// Why nothing more can be read.
    stopped: Option<Failure>,
}

impl RemoteDisk {
    pub(super) fn new(service: Arc<dyn RangeService>, facts: SourceFacts) -> Result<Self, Error> {
        let (jobs, queue) = unbounded::<Job>();
        for _ in 0..THREADS {
            let (service, queue) = (Arc::clone(&service), queue.clone());
            // They end when the source is dropped.
            thread::Builder::new()
                .name("fetch".to_owned())
                .spawn(move || work(&*service, &queue))
                .map_err(Error::Thread)?;
        }
        let (runs, units) = (VecDeque::new(), VecDeque::new());
        Ok(Self { service, facts, jobs, runs, units, planned: 0, ahead: 1, stopped: None })
    }

    /// The whole as a stream, from its first byte.
    pub(super) fn into_stream(self) -> RemoteStream {
        RemoteStream { disk: self, at: 0 }
    }

    /// Up to where the states are known.
    fn listed(&self) -> u64 {
        self.runs.back().map_or(self.planned, |run| run.end)
    }

    /// Reads somewhere else than where it went on.
    fn seek(&mut self, offset: u64) {
        self.runs.clear();
        self.units.clear();
        self.planned = offset;
        self.ahead = 1;
    }

    fn list_more(&mut self) -> Result<(), Failure> {
        let from = self.listed();
        let runs = self.service.runs(from)?;
        let mut behind = from;
        for run in runs {
            if run.start != behind || run.end <= run.start {
                return Err(Failure::found("list", FailureKind::Invalid, "the listing has a hole"));
            }
            behind = run.end;
            self.runs.push_back(run);
        }
        if behind == from {
            return Err(Failure::found("list", FailureKind::Invalid, "the listing does not get on"));
        }
        Ok(())
    }

    /// The run that an offset lies in.
    fn run_of(&mut self, offset: u64) -> Result<Run, Failure> {
        let begins = self.runs.front().map_or(self.planned, |run| run.start);
        if offset < begins || offset > self.listed() {
            self.seek(offset);
        }
        loop {
            match self.runs.front() {
                Some(run) if run.end > offset => return Ok(*run),
                // The last one tells up to where was listed.
                Some(_) if self.runs.len() > 1 => {
                    self.runs.pop_front();
                }
                _ => {
                    self.list_more()?;
                    self.planned = self.planned.max(offset);
                }
            }
        }
    }

    /// Asks for what comes next, as far ahead as is right by now.
    fn plan(&mut self) -> Result<(), Failure> {
        while self.units.len() < self.ahead {
            if self.planned >= self.service.size() {
                return Ok(());
            }
            if self.planned >= self.listed() {
                self.list_more()?;
            }
            let Some((start, end)) = self.next_range() else {
                self.planned = self.listed();
                // A long run of nothing is listed when it is reached.
                if self.units.is_empty() {
                    continue;
                }
                return Ok(());
            };
            let (reply, answer) = bounded(1);
            let length = usize::try_from(end - start).unwrap_or(0);
            // The threads live as long as this does.
            let _ = self.jobs.send(Job { start, length, answer: reply });
            self.units.push_back(Unit { start, end, answer, came: None });
            self.planned = end;
        }
        Ok(())
    }

    /// The next range that is worth one request.
    fn next_range(&self) -> Option<(u64, u64)> {
        let first = self.runs.partition_point(|run| run.end <= self.planned);
        let data = self.runs.iter().skip(first).filter(|run| run.state == State::Data);
        let mut range: Option<(u64, u64)> = None;
        for run in data {
            let from = run.start.max(self.planned);
            let (start, end) = range.unwrap_or((from, from));
            let most = start.saturating_add(self.service.most());
            if from.saturating_sub(end) > WORTH_BRIDGING || from >= most {
                break;
            }
            range = Some((start, run.end.min(most)));
            if run.end >= most {
                break;
            }
        }
        range
    }

    /// What came of the range that an offset lies in, and where that range begins.
    fn answer(&mut self, offset: u64) -> Result<(u64, &Result<Vec<u8>, Failure>), Failure> {
        while self.units.front().is_some_and(|unit| unit.end <= offset) {
            self.units.pop_front();
            self.ahead = self.ahead.saturating_mul(2).min(MOST_AHEAD);
        }
        if self.units.front().is_none_or(|unit| unit.start > offset) {
            self.units.clear();
            self.planned = offset;
        }
        self.plan()?;
        let gone = || Failure::found("fetch", FailureKind::Connection, "the thread that fetches has ended");
        let unit = self.units.front_mut().ok_or_else(gone)?;
        if unit.came.is_none() {
            unit.came = Some(unit.answer.recv().unwrap_or_else(|_| Err(gone())));
        }
        let came = unit.came.as_ref().ok_or_else(gone)?;
        Ok((unit.start, came))
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        let run = self.run_of(offset)?;
        let most = buf.len().min(usize::try_from(run.end - offset).unwrap_or(usize::MAX));
        let buf = buf.get_mut(..most).unwrap_or_default();
        if run.state != State::Data {
            buf.fill(0);
            return Ok(most);
        }
        let (start, came) = self.answer(offset)?;
        match came {
            Ok(bytes) => {
                let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
                Ok(copied(bytes.get(from..).unwrap_or_default(), buf))
            }
            // What comes damaged as a part of much may come whole alone.
            Err(failure) if failure.kind == FailureKind::Corrupt => {
                let bytes = super::exchange::patiently(offset, || self.service.fetch(offset, most))?;
                Ok(copied(&bytes, buf))
            }
            Err(failure) => Err(failure.clone()),
        }
    }

    /// What a failure is to who reads: damaged for good is a bad sector, all else ends the reading.
    fn fault(&mut self, failure: Failure) -> io::Error {
        if failure.kind == FailureKind::Corrupt {
            return io::Error::from_raw_os_error(EIO);
        }
        let error = io::Error::other(failure.clone());
        self.stopped.get_or_insert(failure);
        error
    }
}

/// Copies as much as there is room for.
fn copied(from: &[u8], to: &mut [u8]) -> usize {
    let most = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..most), from.get(..most)) {
        to.copy_from_slice(from);
    }
    most
}

fn work(service: &dyn RangeService, queue: &Receiver<Job>) {
    for Job { start, length, answer } in queue {
        let came = super::exchange::patiently(start, || service.fetch(start, length));
        // Whoever asked may read elsewhere by now.
        let _ = answer.send(came);
    }
}

impl Source for RemoteDisk {
    fn facts(&self) -> SourceFacts {
        self.facts.clone()
    }

    fn size(&self) -> Option<u64> {
        Some(self.service.size())
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn run_at(&mut self, offset: u64) -> io::Result<Option<(State, u64)>> {
        if offset >= self.service.size() {
            return Ok(None);
        }
        let run = self.run_of(offset).map_err(|failure| self.fault(failure))?;
        Ok(Some((run.state, run.end - offset)))
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset >= self.service.size() || buf.is_empty() {
            return Ok(0);
        }
        self.read(offset, buf).map_err(|failure| self.fault(failure))
    }

    /// Asks for exactly this, so that the neighbours of what is damaged are not lost with it.
    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.service.size().saturating_sub(offset);
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let service = Arc::clone(&self.service);
        let came = super::exchange::patiently(offset, || match service.fetch(offset, most) {
            // Who reads counts the tries of a sector itself.
            Err(failure) if failure.kind == FailureKind::Corrupt => Ok(None),
            Err(failure) => Err(failure),
            Ok(bytes) => Ok(Some(bytes)),
        });
        match came.map_err(|failure| self.fault(failure))? {
            Some(bytes) => Ok(copied(&bytes, buf)),
            None => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn stopped_by(&mut self) -> Option<Error> {
        self.stopped.take().map(Error::Cloud)
    }

    fn facts_after(&self) -> Map<String, Value> {
        Map::from_iter([("requests".to_owned(), self.service.requests().into())])
    }
}

/// The bytes of an object one after the other.
#[derive(Debug)]
pub(super) struct RemoteStream {
    pub(super) disk: RemoteDisk,
    at: u64,
}

impl io::Read for RemoteStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.read_at(self.at, buf).inspect_err(|error| {
            // Here nothing can be left out: what came damaged for good ends the stream.
            if error.raw_os_error() == Some(EIO) {
                let words = "a range came damaged however often it was asked for";
                self.disk.stopped.get_or_insert(Failure::found("HTTP GET", FailureKind::Corrupt, words));
            }
        })?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Made {
        bytes: Vec<u8>,
        runs: Vec<Run>,
        asked: AtomicU64,
    }

    impl RangeService for Made {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }
        fn most(&self) -> u64 {
            4096
        }
        fn runs(&self, from: u64) -> Result<Vec<Run>, Failure> {
            let run = self.runs.iter().find(|run| run.end > from).unwrap();
            Ok(vec![Run { start: from.max(run.start), ..*run }])
        }
        fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(self.bytes[offset as usize..offset as usize + length].to_vec())
        }
        fn requests(&self) -> u64 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn made() -> RemoteDisk {
        let mut runs = Vec::new();
        for (number, page) in (0..200u64).map(|page| (page, page * 512)) {
            let state =
                if number % 3 == 1 || (50..90).contains(&number) { State::Absent } else { State::Data };
            runs.push(Run { start: page, end: page + 512, state });
        }
        let bytes = (0..200 * 512).map(|at| (at % 251) as u8).collect();
        let service = Made { bytes, runs, asked: AtomicU64::default() };
        RemoteDisk::new(Arc::new(service), SourceFacts::default()).unwrap()
    }

    fn expected(offset: u64) -> u8 {
        let page = offset / 512;
        if page % 3 == 1 || (50..90).contains(&page) { 0 } else { (offset % 251) as u8 }
    }

    #[test]
    fn bytes_come_in_order_with_their_states_and_by_few_requests() {
        let mut disk = made();
        let mut at = 0;
        while let Some((state, length)) = disk.run_at(at).unwrap() {
            let mut buf = vec![9; 700];
            let read = disk.read_at(at, &mut buf).unwrap();
            assert!(read > 0 && read as u64 <= length, "{at}");
            for (number, byte) in buf[..read].iter().enumerate() {
                assert_eq!(*byte, expected(at + number as u64), "{state} at {at}");
            }
            at += read as u64;
        }
        assert_eq!(at, 200 * 512);
        assert!(disk.service.requests() < 130, "{}", disk.service.requests());
    }

    #[test]
    fn any_place_can_be_read_at_any_time() {
        let mut disk = made();
        for at in [0u64, 99_000, 512, 512, 70_000, 3, 102_399, 40_000, 0] {
            let mut buf = [7; 1];
            assert_eq!(disk.read_at(at, &mut buf).unwrap(), 1);
            assert_eq!(buf[0], expected(at), "{at}");
        }
        assert_eq!(disk.read_at(200 * 512, &mut [0; 9]).unwrap(), 0);
    }
}
