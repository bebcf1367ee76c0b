//! `lastlog`: when, on which line and from where each user last logged in.
//!
//! - Found at: `/var/log/lastlog`. The record of a user lies at the user's number, so the file is sparse: with large
//!   user ids it claims hundreds of gigabytes of which a few kilobytes are there. Holes are passed over.
//! - Known by: its name, and records of 292 or 296 bytes whose times and texts are possible.
//! - Times: UTC, to the second.
//! - Not read: files of big-endian systems with 32-bit times, as one record of them alone does not say so.
//! - Reference: lastlog(8); glibc `bits/utmp.h`, `struct lastlog`.

use std::net::IpAddr;

use crate::error::ReadError;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis};
use crate::parser::{Context, Input, Parser, Probe, Sink};
use crate::text::{clean, until_nul};

/// A multiple of both record sizes, so that no block cuts a record: 292 × 296 = 86,432.
const BLOCK: u64 = 3 * 86_432;
/// Holes are looked for in steps of about 64 MiB.
const STEP: u64 = 256 * BLOCK;
/// So many bytes of true zeros in a row, where holes cannot be told, end the search.
const LONGEST_GAP: u64 = 4 << 30;
/// 1980: no lastlog is older. 2106 ends 32-bit seconds.
const POSSIBLE_TIMES: std::ops::Range<u64> = 315_532_800..1 << 32;

pub(super) struct Lastlog;
pub(super) static PARSER: Lastlog = Lastlog;

impl Parser for Lastlog {
    fn name(&self) -> &'static str {
        "lastlog"
    }

    fn reads(&self) -> &'static str {
        "lastlog: the last login of each user, records of 292 or 296 bytes"
    }

    fn times(&self) -> &'static str {
        "Last Login Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        if probe.base_name() != "lastlog" || probe.head.len() < Layout::Short.size() {
            return false;
        }
        let layout = Layout::detect(probe.head, probe.size);
        let used = probe.head.chunks_exact(layout.size()).filter(|bytes| is_used(bytes));
        let (good, all) =
            used.fold((0, 0), |(good, all), bytes| (good + usize::from(layout.is_possible(bytes)), all + 1));
        // Nobody among the first users may ever have logged in.
        good * 2 >= all
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let mut reading = Reading { layout: None, context, out, filler: Span::default() };
        let start = input.position();
        match input.size() {
            // A small file, one record, and a member of unknown size come as a stream.
            Some(size) if start == 0 && size > STEP => reading.sparse(input, size)?,
            size => {
                let left = size.map(|size| size - start.min(size));
                while let Some((block, span)) = input.next_block(BLOCK as usize)? {
                    reading.block(block, span, left);
                    if reading.filler.length > LONGEST_GAP {
                        reading.out.reject(
                            Span::new(span.end(), 0),
                            "behind a hole this large nothing was searched".into(),
                        );
                        break;
                    }
                }
            }
        }
        reading.end_filler();
        Ok(())
    }
}

struct Reading<'a> {
    layout: Option<Layout>,
    context: &'a Context,
    out: &'a mut dyn Sink,
    filler: Span,
}

impl Reading<'_> {
    /// Reads a file of known size, and passes over what is stored nowhere.
    fn sparse(&mut self, input: &mut Input<'_>, size: u64) -> Result<(), ReadError> {
        let source = input.random_access()?;
        let (mut at, mut buffer) = (0, vec![0; BLOCK as usize]);
        while at < size {
            let (step, block) = (STEP.min(size - at), BLOCK.min(size - at));
            if source.stream_ranges(at, step).is_empty() {
                self.fill(Span::new(at, step));
                at = at.saturating_add(step);
                continue;
            }
            let got = source.read_at(at, buffer.get_mut(..block as usize).unwrap_or(&mut []))?;
            if got == 0 {
                break;
            }
            self.block(buffer.get(..got).unwrap_or(&[]), Span::new(at, got as u64), Some(size));
            at = at.saturating_add(block);
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8], span: Span, left: Option<u64>) {
        let layout = match self.layout {
            Some(layout) => layout,
            None if is_used(block) => *self.layout.insert(Layout::detect(block, left)),
            None => return self.fill(span),
        };
        for (i, bytes) in block.chunks(layout.size()).enumerate() {
            let at = span.offset.saturating_add((i * layout.size()) as u64);
            let place = Span::new(at, bytes.len() as u64);
            if !is_used(bytes) {
                self.fill(place);
            } else if bytes.len() < layout.size() {
                self.end_filler();
                let reason = format!("the last record has {} of {} bytes", bytes.len(), layout.size());
                self.out.reject(place, reason.into());
            } else if !layout.is_possible(bytes) {
                self.end_filler();
                self.out.reject(place, "no record of a last login: its time or its text cannot be".into());
            } else {
                self.end_filler();
                let event = row(layout, bytes, place, self.context);
                self.out.event(event);
            }
        }
    }

    /// Users who never logged in.
    fn fill(&mut self, span: Span) {
        self.filler = if self.filler.length == 0 { span } else { self.filler.to(span) };
    }

    fn end_filler(&mut self) {
        if self.filler.length > 0 {
            self.out.filler(self.filler);
            self.filler = Span::default();
        }
    }
}

fn row(layout: Layout, bytes: &[u8], span: Span, context: &Context) -> Event {
    let text = |at: usize, length: usize| {
        clean(until_nul(bytes.get(layout.time_size() + at..).and_then(|b| b.get(..length)).unwrap_or(&[])))
    };
    let (line, host) = (text(0, 32), text(32, 256));
    let uid = span.offset / layout.size() as u64;
    let user = u32::try_from(uid).ok().and_then(|uid| context.user(uid));
    let ip: Option<IpAddr> = host.parse().ok();
    let who = user.map_or_else(|| format!("uid {uid}"), |user| format!("{user} (uid {uid})"));
    let on = if line.is_empty() { String::new() } else { format!(" on {line}") };
    let from = if host.is_empty() { String::new() } else { format!(" from {host}") };
    let mut event =
        Event::new("linux:lastlog", "Last Login Time", span, format!("last login of {who}{on}{from}"));
    (event.ts_precision, event.tz_basis) = (Precision::S, TzBasis::UtcByFormat);
    event.time = layout.time(bytes).filter(|s| *s != 0).and_then(|s| Timestamp::from_unix(s as i64, 0));
    event.category = Some("authentication".into());
    event.action = Some("last-login".into());
    event.outcome = Some("success".into());
    event.user_name = user.map(str::to_owned);
    event.src_ip = ip.map(|ip| ip.to_canonical().to_string());
    event.attrs.put("uid", uid);
    for (key, value) in [("line", line), ("host", host)] {
        if !value.is_empty() {
            event.attrs.put(key, value);
        }
    }
    event
}

/// How wide the time is, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// 32 bits, little-endian: 292 bytes.
    Short,
    /// 64 bits, little-endian: 296 bytes.
    Long,
    /// 64 bits, big-endian: 296 bytes.
    LongBig,
}

impl Layout {
    fn size(self) -> usize {
        self.time_size() + 288
    }

    fn time_size(self) -> usize {
        if self == Layout::Short { 4 } else { 8 }
    }

    /// The layout that fits most records; where that says nothing, the one whose size divides the file's.
    fn detect(head: &[u8], size: Option<u64>) -> Layout {
        let score = |layout: Layout| {
            let used = head.chunks_exact(layout.size()).filter(|bytes| is_used(bytes));
            let score: i64 = used
                .map(|bytes| match layout.time(bytes) {
                    Some(0) if layout.is_possible(bytes) => 0,
                    Some(_) if layout.is_possible(bytes) => 1,
                    _ => -1,
                })
                .sum();
            let even = size.is_some_and(|size| size % layout.size() as u64 == 0);
            (even && score >= 0, score, even)
        };
        let all = [Layout::LongBig, Layout::Long, Layout::Short];
        all.into_iter().max_by_key(|layout| score(*layout)).unwrap_or(Layout::Short)
    }

    fn time(self, bytes: &[u8]) -> Option<u64> {
        Some(match self {
            Layout::Short => u32::from_le_bytes(*bytes.first_chunk()?).into(),
            Layout::Long => u64::from_le_bytes(*bytes.first_chunk()?),
            Layout::LongBig => u64::from_be_bytes(*bytes.first_chunk()?),
        })
    }

    fn is_possible(self, bytes: &[u8]) -> bool {
        let text = bytes.get(self.time_size()..).unwrap_or(&[]);
        let printable = |field: &[u8]| !until_nul(field).iter().any(|b| *b < 32 || *b == 127);
        self.time(bytes).is_some_and(|time| time == 0 || POSSIBLE_TIMES.contains(&time))
            && printable(text.get(..32).unwrap_or(text))
            && printable(text.get(32..).unwrap_or(&[]))
    }
}

fn is_used(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| *b != 0)
}

#[cfg(test)]
mod tests;
