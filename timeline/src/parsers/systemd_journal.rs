//! The systemd journal: what services, the kernel and logins said, with the identities that journald checked.
//!
//! - Found at: `/var/log/journal/*/*.journal`, `*.journal~`; `/run/log/journal`.
//! - Known by: `LPKSHHRH`, its first bytes.
//! - Times: UTC, to the microsecond. "Recorded Time" is the sender's (`_SOURCE_REALTIME_TIMESTAMP`); where that
//!   is missing, journald's own. "Written Time" is journald's, a second row where the two differ.
//! - Recovered: entries that no entry array leads to (unclean files, arrays that were changed) are found by going
//!   over all objects, and are flagged so.
//! - Checked: a field that does not give its stored hash, or an entry whose fields do not give its `xor_hash`, is
//!   flagged as corrupt, with the names in `attrs`. Either means damage, or a change after the fact.
//! - Not read: seals (FSS tags) are not verified; fields are cut at 256 KiB, all fields of an entry at 1 MiB.
//! - Reference: systemd, "Journal File Format"; systemd.journal-fields(7).

mod row;

use std::borrow::Cow;

use crate::error::ReadError;
use crate::event::{Span, Timestamp};
use crate::parser::{Context, Input, Parser, Probe, Sink};
use crate::parsers::journal_file::{
    ENTRY, Entry, Field, Fields, JournalFile, NoObject, OffsetSet, SIGNATURE, SMALLEST_HEADER,
};

use row::Row;

/// No journal gives less than this much text …
const HARMLESS: u64 = 64 << 20;
/// … or more than this for each of its bytes: entries of ten bytes can name the same megabyte over and over.
const HIGHEST_RATIO: u64 = 500;

pub(super) struct SystemdJournal;
pub(super) static PARSER: SystemdJournal = SystemdJournal;

impl Parser for SystemdJournal {
    fn name(&self) -> &'static str {
        "systemd_journal"
    }

    fn reads(&self) -> &'static str {
        "systemd journal files (*.journal, *.journal~): plain, compact, compressed by xz, lz4 or zstd, unclean"
    }

    fn times(&self) -> &'static str {
        "Recorded Time (the sender's), Written Time (journald's, where it differs)"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        probe.head.starts_with(SIGNATURE)
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        // An entry never lies at the file's start: who begins elsewhere has one entry in hand, and its pieces.
        let origin = input.position();
        let source = input.random_access()?;
        let file = if origin > 0 { JournalFile::open_record(source)? } else { JournalFile::open(source)? };
        let Some(file) = file else {
            let span = Span::new(0, input.size().unwrap_or(0));
            out.reject(span, "the file ends within its header".into());
            return Ok(());
        };
        let mut reading = Reading {
            fields: Fields::new(origin > 0),
            file,
            entry: Entry::default(),
            found: Vec::new(),
            lost: Vec::new(),
            bad_places: OffsetSet::default(),
            is_record: origin > 0,
            entries: 0,
            context,
            out,
        };
        if origin > 0 { reading.record(origin) } else { reading.all() }
    }
}

struct Reading<'a> {
    file: JournalFile,
    fields: Fields,
    entry: Entry,
    /// The fields of the entry …
    found: Vec<std::rc::Rc<Field>>,
    /// … and the places where there should be others.
    lost: Vec<u64>,
    /// Such places of all entries so far: each is told once.
    bad_places: OffsetSet,
    is_record: bool,
    entries: u64,
    context: &'a Context,
    out: &'a mut dyn Sink,
}

impl Reading<'_> {
    fn record(&mut self, at: u64) -> Result<(), ReadError> {
        match self.file.entry(at, &mut self.entry)? {
            Ok(()) => self.give(self.file.header.entry_array.is_none()),
            Err(none) => {
                self.reject(Span::new(at, 0), none.reason());
                Ok(())
            }
        }
    }

    /// All objects in the order of the file, then what the arrays name and this order did not meet.
    fn all(&mut self) -> Result<(), ReadError> {
        let header = self.file.header.clone();
        if header.unknown_features() != 0 {
            let features = format!("features that are not known: {:#x}", header.unknown_features());
            self.reject(Span::new(8, 8), features);
        }
        let mut start = header.size;
        if start < SMALLEST_HEADER || start > self.file.len() || !start.is_multiple_of(8) {
            self.reject(Span::new(88, 8), format!("a header of {start} bytes"));
            start = self.file.next_object(SMALLEST_HEADER)?;
        }
        let reached = self.file.walk_arrays()?;
        let missed = reached.bad.len() as u64;
        for (span, reason) in reached.bad {
            self.reject(span, reason);
        }
        let mut met = OffsetSet::default();
        let is_whole = self.scan(start, &reached.entries, &mut met)?;
        if !is_whole {
            return Ok(());
        }
        let mut told = missed;
        for at in reached.entries.iter().filter(|at| !met.contains(*at)) {
            match self.file.entry(at, &mut self.entry)? {
                Ok(()) => {
                    self.entries += 1;
                    self.give(false)?;
                }
                Err(none) => {
                    told += 1;
                    let reason =
                        format!("an array of entries names this place, where there is {}", none.reason());
                    self.reject(Span::new(at, 64), reason);
                }
            }
        }
        let known = self.entries.saturating_add(told);
        if header.entries > known {
            let reason = format!(
                "the header counts {} entries, of which {} are not there",
                header.entries,
                header.entries - known
            );
            self.reject(Span::new(152, 8), reason);
        }
        Ok(())
    }

    /// Goes over all objects; false where it had to stop.
    fn scan(&mut self, start: u64, reached: &OffsetSet, met: &mut OffsetSet) -> Result<bool, ReadError> {
        let end = self.file.len();
        let (mut at, mut filler, mut previous, mut last_bad) = (start, 0, start, None);
        while at < end {
            match self.file.object(at)? {
                Ok(object) => {
                    if object.kind == ENTRY && met.insert(at) {
                        self.fill(filler, at);
                        filler = object.next(at).min(end);
                        self.entries += 1;
                        match self.file.entry(at, &mut self.entry)? {
                            Ok(()) => {
                                self.give(!reached.contains(at))?;
                            }
                            Err(none) => self.reject(Span::new(at, object.size), none.reason()),
                        }
                        self.fill(at.saturating_add(object.size), filler);
                        if self.fields.work() > HARMLESS && self.fields.work() / HIGHEST_RATIO > at {
                            let reason =
                                "this journal gives more text than any true one: reading stopped here";
                            self.reject(Span::new(filler, end - filler), reason);
                            return Ok(false);
                        }
                    }
                    previous = at;
                    at = object.next(at);
                }
                Err(NoObject::Zeros) => {
                    let (next, is_searched) = self.file.skip_zeros(at)?;
                    if !is_searched {
                        let reason = "behind a hole this large nothing was searched";
                        self.fill(filler, next);
                        self.reject(Span::new(next, end - next), reason);
                        return Ok(true);
                    }
                    at = next.max(at.saturating_add(8));
                }
                Err(NoObject::Bad(reason)) => {
                    // Perhaps the object before it is not as long as it says: look into that one, too.
                    let from = if at > previous { previous.saturating_add(8) } else { at.saturating_add(8) };
                    let next = self.file.next_object(from)?;
                    if last_bad != Some(at) {
                        last_bad = Some(at);
                        self.fill(filler, at);
                        filler = next.max(at);
                        self.reject(Span::new(at, filler - at), reason);
                    }
                    previous = next;
                    at = next;
                }
            }
        }
        self.fill(filler, end);
        Ok(true)
    }

    /// Names a bad place, as far as it is in the file.
    fn reject(&mut self, span: Span, reason: impl Into<Cow<'static, str>>) {
        let (start, end) = (span.offset.min(self.file.len()), span.end().min(self.file.len()));
        self.out.reject(Span::new(start, end - start), reason.into());
    }

    fn fill(&mut self, from: u64, to: u64) {
        if from < to {
            self.out.filler(Span::new(from, to - from));
        }
    }

    /// Gives the rows of the entry that was read.
    fn give(&mut self, is_recovered: bool) -> Result<(), ReadError> {
        self.found.clear();
        self.lost.clear();
        let mut why = "";
        for at in &self.entry.items {
            match self.fields.get(&mut self.file, *at) {
                Ok(Ok(field)) => self.found.push(field),
                Ok(Err(reason)) => {
                    why = reason;
                    self.lost.push(*at);
                }
                // What was not readable in the file is not among the entry's pieces either.
                Err(_) if self.is_record => self.lost.push(*at),
                Err(error) => return Err(error),
            }
        }
        let (lost, all) = (self.lost.len(), self.entry.items.len());
        if lost * 2 > all {
            let time = Timestamp::from_micros(self.entry.realtime as i64).to_rfc3339();
            let reason = format!(
                "entry {} of {time}, of which {lost} of {all} fields cannot be read: {why}",
                self.entry.seqnum
            );
            self.reject(self.entry.span, reason);
            return Ok(());
        }
        for i in 0..self.lost.len() {
            if let Some(at) = self.lost.get(i).copied()
                && self.bad_places.insert(at & !7)
                && !self.is_record
            {
                self.reject(Span::new(at, 16), format!("an entry names this place, where there is {why}"));
            }
        }
        let row =
            Row { header: &self.file.header, entry: &self.entry, fields: &self.found, lost: &self.lost };
        row.give(is_recovered, self.context, self.out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
