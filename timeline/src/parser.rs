//! What a parser is given, and what it gives back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use chrono::NaiveDateTime;

use crate::bytes::ByteSource;
use crate::error::ReadError;
use crate::event::{Event, Span, Timestamp, TzBasis};
use crate::year::{YearPlan, YearScan};
use crate::zone::{KnownZone, utc_timestamp};

/// A line longer than this is cut: its rest stays unread and is counted as such in the ledger.
pub const LONGEST_LINE: usize = 1 << 20;

/// Members that must be held in memory as a whole (a compressed journal) may be this large.
pub const LARGEST_HELD: u64 = 256 << 20;

/// One format that the timeline reads.
///
/// A parser never panics, never loops for ever and never allocates by a length that it only read: evidence is
/// hostile. It reports a damaged record with [`Sink::reject`] and goes on behind it.
pub trait Parser: Send + Sync {
    /// Its name, as in `--parser`: the name of its file.
    fn name(&self) -> &'static str;

    /// Raised whenever the same bytes give other events.
    fn version(&self) -> u32 {
        1
    }

    /// What it reads, in one line for `exhibit parsers`.
    fn reads(&self) -> &'static str;

    /// The times that it gives (`ts_desc` words), in one line.
    fn times(&self) -> &'static str;

    /// Whether the file is one of its own: by content, with the name as a hint.
    ///
    /// A name alone is enough only where the content has no marks (a shell history).
    fn claims(&self, probe: &Probe<'_>) -> bool;

    /// Whether the file may hold times without a year, so that it must wait for its neighbours.
    fn is_yearless(&self, _probe: &Probe<'_>) -> bool {
        false
    }

    /// The first pass over a file without years.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the evidence cannot be read.
    fn scan_years(&self, _input: &mut Input<'_>) -> Result<YearScan, ReadError> {
        Ok(YearScan::default())
    }

    /// Reads all records. Rows of one record must be given one after the other.
    ///
    /// The same code reads a single record for `show --bytes`: then `input` holds the record's bytes alone (and
    /// its pieces), at their true offsets, and the rows must come out equal.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the evidence cannot be read. Damaged content is a [`Sink::reject`].
    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError>;
}

/// What a parser sees of a file before it claims it.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The file's path, escaped as in a locator: `/var/log/auth.log.1`. No codec endings are cut.
    pub path: &'a str,
    /// The first bytes, decoded: 4 KiB, or the whole file if it is shorter.
    pub head: &'a [u8],
    /// The file's size where it is known (not of a compressed member).
    pub size: Option<u64>,
}

impl<'a> Probe<'a> {
    /// The file's name without folders, and without `.gz` and the like.
    pub fn name(&self) -> &'a str {
        let name = self.path.rsplit('/').next().unwrap_or(self.path);
        [".gz", ".xz", ".bz2", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    }

    /// The name without rotation: `auth.log` of `auth.log.2`, `auth.log-20261101` and `auth.log.old`.
    pub fn base_name(&self) -> &'a str {
        let name = self.name();
        match name.rsplit_once(['.', '-']) {
            Some((base, end))
                if end == "old" || (!end.is_empty() && end.bytes().all(|b| b.is_ascii_digit())) =>
            {
                base
            }
            _ => name,
        }
    }

    /// The lines of the head; the last one only if it is whole.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let whole = self.size.is_some_and(|size| size == self.head.len() as u64);
        let end = match memchr::memrchr(b'\n', self.head) {
            Some(last) if !whole => last,
            _ => self.head.len(),
        };
        let head = self.head.get(..end).unwrap_or(&[]);
        head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Whether the head looks like text: no NUL, and nearly all of it printable or white space.
    pub fn is_text(&self) -> bool {
        let odd = self.head.iter().filter(|b| **b < 9 || (14..32).contains(*b) && **b != 27).count();
        !self.head.is_empty() && !self.head.contains(&0) && odd * 50 <= self.head.len()
    }
}

/// What is known about the host that the evidence comes from.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The host's name.
    pub host: Option<String>,
    /// The zone of its local times.
    pub zone: KnownZone,
    /// How lines without a year get one.
    pub year: YearPlan,
    /// User names by uid, from `/etc/passwd`.
    pub users: Arc<BTreeMap<u32, String>>,
}

impl Context {
    /// The timestamp of a host's local time, with how its zone is known.
    pub fn local(&self, local: NaiveDateTime, nanos: u32) -> Option<(Timestamp, TzBasis)> {
        Some((utc_timestamp(self.zone.zone.to_utc(local)?, nanos)?, self.zone.basis))
    }

    /// The name of a uid.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }
}

/// Where a parser puts what it finds.
pub trait Sink {
    /// One row.
    fn event(&mut self, event: Event);

    /// A record that could not be read, and why.
    fn reject(&mut self, span: Span, reason: Cow<'static, str>);

    /// Bytes that are part of the format but no record: headers, padding, empty slots, comments.
    fn filler(&mut self, span: Span);
}

/// A line of a text file.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Its bytes, without LF or CR LF.
    pub bytes: &'a [u8],
    /// Where it lies, without its line end.
    pub span: Span,
    /// Whether it was cut at [`LONGEST_LINE`].
    pub cut: bool,
}

/// The decoded bytes of one file, or of one record of it.
///
/// Text is read with [`Input::next_line`], fixed-size records with [`Input::next_block`], and formats that
/// jump with [`Input::random_access`].
pub struct Input<'a> {
    path: &'a str,
    reader: Box<dyn Read + 'a>,
    random: Option<Arc<dyn ByteSource>>,
    size: Option<u64>,
    codec: Option<&'static str>,
    buffer: Vec<u8>,
    start: usize,
    position: u64,
    ended: bool,
    line_ends: u64,
    unread: u64,
    unread_from: Option<u64>,
}

impl<'a> Input<'a> {
    /// A file that can be read at any offset.
    pub fn of_source(path: &'a str, source: Arc<dyn ByteSource>) -> Input<'a> {
        let reader = SourceReader { source: source.clone(), position: 0 };
        let size = Some(source.len());
        Input { random: Some(source), ..Input::new(path, Box::new(reader), size, None) }
    }

    /// A compressed member, decoded by `reader`.
    pub fn of_member(path: &'a str, codec: &'static str, reader: Box<dyn Read + 'a>) -> Input<'a> {
        Input::new(path, reader, None, Some(codec))
    }

    /// One record: its own bytes, which lie at `origin` of the file, for [`Input::next_line`] and
    /// [`Input::next_block`]; and, for [`Input::random_access`], whatever of the file `random` holds.
    pub fn of_record(path: &'a str, origin: u64, bytes: Vec<u8>, random: Arc<dyn ByteSource>) -> Input<'a> {
        let end = origin.saturating_add(bytes.len() as u64);
        let mut input = Input::new(path, Box::new(std::io::Cursor::new(bytes)), Some(end), None);
        input.position = origin;
        input.random = Some(random);
        input
    }

    fn new(
        path: &'a str,
        reader: Box<dyn Read + 'a>,
        size: Option<u64>,
        codec: Option<&'static str>,
    ) -> Input<'a> {
        Input {
            path,
            reader,
            random: None,
            size,
            codec,
            buffer: Vec::new(),
            start: 0,
            position: 0,
            ended: false,
            line_ends: 0,
            unread: 0,
            unread_from: None,
        }
    }

    /// The file's path, as in its locator.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// Its size in decoded bytes, where known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Offset of the next byte that will be given.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of line ends passed so far.
    pub fn line_ends(&self) -> u64 {
        self.line_ends
    }

    /// Bytes of overlong lines that were passed over, and where the first of them lies.
    pub fn unread(&self) -> Option<(u64, u64)> {
        Some((self.unread_from?, self.unread))
    }

    /// The next line, `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the evidence cannot be read or unpacked any further.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        let mut searched = 0;
        let (length, ended_by_lf) = loop {
            let there = self.buffer.get(self.start..).unwrap_or(&[]);
            match memchr::memchr(b'\n', there.get(searched..).unwrap_or(&[])) {
                Some(at) => break (searched + at, true),
                None if there.len() > LONGEST_LINE || self.ended => break (there.len(), false),
                None => searched = there.len(),
            }
            self.fill()?;
        };
        if length == 0 && !ended_by_lf {
            return Ok(None);
        }
        let (from, offset) = (self.start, self.position);
        let kept = length.min(LONGEST_LINE);
        let mut passed = length;
        let mut cut = length > LONGEST_LINE;
        if ended_by_lf {
            passed += 1;
            self.line_ends += 1;
        } else if !self.ended {
            cut = true;
        }
        if cut {
            // The rest of the line is passed over without being held: keep the head, then skip.
            let head: Vec<u8> = self.buffer.get(from..from + kept).unwrap_or(&[]).to_vec();
            self.unread += (length - kept) as u64;
            self.unread_from.get_or_insert(offset.saturating_add(kept as u64));
            self.consume(passed);
            if !ended_by_lf {
                self.skip_to_line_end()?;
            }
            let rest = self.buffer.split_off(self.start.min(self.buffer.len()));
            self.start = head.len();
            self.buffer = head;
            self.buffer.extend_from_slice(&rest);
            let bytes = self.buffer.get(..kept).unwrap_or(&[]);
            return Ok(Some(Line { bytes, span: Span::new(offset, kept as u64), cut: true }));
        }
        self.consume(passed);
        let mut bytes = self.buffer.get(from..from + length).unwrap_or(&[]);
        // A CR without LF is text: else a record read alone would lose it.
        if let Some(stripped) = bytes.strip_suffix(b"\r").filter(|_| ended_by_lf) {
            bytes = stripped;
            self.line_ends += 1;
        }
        Ok(Some(Line { bytes, span: Span::new(offset, bytes.len() as u64), cut: false }))
    }

    /// The next `length` bytes, fewer at the end, `None` where there are none.
    ///
    /// # Errors
    ///
    /// As [`Input::next_line`].
    pub fn next_block(&mut self, length: usize) -> Result<Option<(&[u8], Span)>, ReadError> {
        while self.buffer.len() - self.start.min(self.buffer.len()) < length && !self.ended {
            self.fill()?;
        }
        let (from, offset) = (self.start, self.position);
        let there = self.buffer.len().saturating_sub(from).min(length);
        if there == 0 {
            return Ok(None);
        }
        self.consume(there);
        let bytes = self.buffer.get(from..from + there).unwrap_or(&[]);
        Ok(Some((bytes, Span::new(offset, there as u64))))
    }

    /// The file as a source that can be read at any offset. A compressed member is unpacked into memory.
    ///
    /// # Errors
    ///
    /// [`ReadError::TooLarge`] when it unpacks to more than [`LARGEST_HELD`].
    pub fn random_access(&mut self) -> Result<Arc<dyn ByteSource>, ReadError> {
        if let Some(random) = &self.random {
            return Ok(random.clone());
        }
        let mut held = self.buffer.split_off(self.start.min(self.buffer.len()));
        let room = LARGEST_HELD.saturating_sub(held.len() as u64);
        let before = self.position.saturating_add(held.len() as u64);
        let result = self.reader.by_ref().take(room.saturating_add(1)).read_to_end(&mut held);
        if held.len() as u64 > LARGEST_HELD {
            return Err(ReadError::TooLarge { what: self.path.to_owned(), limit: LARGEST_HELD });
        }
        // What was unpacked before a decoding fault is still evidence: it is read, and the fault is counted
        // by the engine, which sees that the member ended early.
        if let Err(error) = result
            && held.is_empty()
        {
            return Err(self.failed(before, &error));
        }
        self.ended = true;
        self.start = 0;
        self.buffer = Vec::new();
        let held: Arc<dyn ByteSource> = Arc::new(held);
        self.random = Some(held.clone());
        self.size = Some(held.len());
        Ok(held)
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.position += n as u64;
    }

    fn skip_to_line_end(&mut self) -> Result<(), ReadError> {
        loop {
            let there = self.buffer.get(self.start..).unwrap_or(&[]);
            let found = memchr::memchr(b'\n', there);
            let n = found.unwrap_or(there.len());
            self.unread += n as u64;
            self.consume(n);
            if found.is_some() {
                self.consume(1);
                self.line_ends += 1;
                return Ok(());
            }
            if self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        const STEP: usize = 64 << 10;
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + STEP, 0);
        let got = loop {
            match self.reader.read(self.buffer.get_mut(filled..).unwrap_or(&mut [])) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) => return Err(self.failed(self.position + filled as u64, &error)),
        }
        Ok(())
    }

    fn failed(&self, offset: u64, error: &std::io::Error) -> ReadError {
        if let Some(inner) = error.get_ref().and_then(|e| e.downcast_ref::<ReadError>()) {
            return inner.clone();
        }
        match self.codec {
            Some(codec) => ReadError::Decompress { codec, offset, reason: error.to_string() },
            None => {
                ReadError::Read { what: self.path.to_owned(), offset, length: 0, reason: error.to_string() }
            }
        }
    }
}

/// Reads a source from its start to its end.
pub struct SourceReader {
    source: Arc<dyn ByteSource>,
    position: u64,
}

impl SourceReader {
    /// A reader at the source's first byte.
    pub fn new(source: Arc<dyn ByteSource>) -> SourceReader {
        SourceReader { source, position: 0 }
    }
}

impl Read for SourceReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read_at(self.position, buf).map_err(std::io::Error::other)?;
        self.position += n as u64;
        Ok(n)
    }
}

/// Collects what a parser gives; for tests and for single records.
#[derive(Debug, Default)]
pub struct Collected {
    /// The rows.
    pub events: Vec<Event>,
    /// The rejects.
    pub rejects: Vec<(Span, Cow<'static, str>)>,
    /// The filler.
    pub filler: Vec<Span>,
}

impl Collected {
    /// How many records gave at least one row.
    pub fn records(&self) -> usize {
        let mut spans: Vec<_> = self.events.iter().map(|e| (e.span.offset, e.span.length)).collect();
        spans.sort_unstable();
        spans.dedup();
        spans.len()
    }
}

impl Sink for Collected {
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn reject(&mut self, span: Span, reason: Cow<'static, str>) {
        self.rejects.push((span, reason));
    }

    fn filler(&mut self, span: Span) {
        self.filler.push(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(String, u64, bool)> {
        let mut input = Input::of_source("/x", Arc::new(bytes.to_vec()));
        let mut all = Vec::new();
        while let Some(line) = input.next_line().unwrap() {
            all.push((
                String::from_utf8_lossy(line.bytes).chars().take(5).collect(),
                line.span.offset,
                line.cut,
            ));
        }
        all
    }

    #[test]
    fn lines_come_with_their_offsets_whatever_ends_them() {
        assert_eq!(
            lines(b"a\r\n\nbc\nlast"),
            [
                ("a".into(), 0, false),
                (String::new(), 3, false),
                ("bc".into(), 4, false),
                ("last".into(), 7, false)
            ]
        );
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_line_is_still_found() {
        for length in [LONGEST_LINE + 1, 3 * LONGEST_LINE, LONGEST_LINE + 65536] {
            let mut bytes = vec![b'x'; length];
            bytes.extend_from_slice(b"\nnext\nlast");
            let mut input = Input::of_source("/x", Arc::new(bytes));
            let first = input.next_line().unwrap().unwrap();
            assert_eq!((first.bytes.len(), first.cut), (LONGEST_LINE, true));
            let next = input.next_line().unwrap().unwrap();
            assert_eq!((next.bytes, next.span.offset), (&b"next"[..], length as u64 + 1));
            assert_eq!(input.next_line().unwrap().unwrap().bytes, b"last");
            assert!(input.next_line().unwrap().is_none());
            assert_eq!(input.unread(), Some((LONGEST_LINE as u64, (length - LONGEST_LINE) as u64)));
        }
    }

    #[test]
    fn a_single_record_keeps_its_true_offset() {
        let mut input = Input::of_record("/x", 700, b"one line".to_vec(), Arc::new(Vec::new()));
        assert_eq!(input.next_line().unwrap().unwrap().span, Span::new(700, 8));
        assert!(input.next_line().unwrap().is_none());
    }
}
