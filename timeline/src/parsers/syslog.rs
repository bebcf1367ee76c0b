//! Syslog files in every form that Linux loggers, ChromeOS and macOS write.
//!
//! - Found at: `/var/log/{syslog,messages,auth.log,secure,kern.log,cron.log,daemon.log,user.log,mail.log,debug}*`,
//!   and anywhere else.
//! - Known by: a syslog date, and where that alone is no mark (ISO 8601) a `program:` behind it, within the first
//!   20 lines. Names only help.
//! - Times: RFC 3164 has no year and no zone: the year comes from neighbours, the zone from the host. ISO 8601 and
//!   RFC 5424 times name both.
//! - Not read: lines without a date, unless they continue the record before; they are rejects.
//! - Reference: RFC 3164 section 4.1, RFC 5424 section 6, rsyslog's `RSYSLOG_*Format` templates, Apple's
//!   `asl.conf(5)`.

mod header;
mod structured;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::header::{Header, Opening, When, opening};
use super::syslog_messages;
use crate::error::ReadError;
use crate::event::{Event, Precision, Span, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Line, Parser, Probe, Sink};
use crate::text::clean;
use crate::year::{YearCounter, YearScan, YearTracker};
use crate::zone::{civil, offset_timestamp};

pub(super) struct Syslog;
pub(super) static PARSER: Syslog = Syslog;

impl Parser for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn reads(&self) -> &'static str {
        "syslog files: traditional (RFC 3164), RFC 5424, ISO 8601, ChromeOS, macOS"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let usual = has_usual_name(probe);
        let (mut seen, mut dated) = (0u32, 0u32);
        for line in probe.lines().take(20) {
            let line = without_nuls(line);
            if matches!(line.first(), None | Some(b' ' | b'\t')) {
                continue;
            }
            seen = seen.saturating_add(1);
            if is_record(line, usual) {
                dated = dated.saturating_add(1);
            }
        }
        dated > 0 && (usual || dated.saturating_mul(2) >= seen)
    }

    fn is_yearless(&self, probe: &Probe<'_>) -> bool {
        probe
            .lines()
            .any(|line| opening(without_nuls(line)).is_some_and(|o| matches!(o.when, When::Yearless { .. })))
    }

    fn scan_years(&self, input: &mut Input<'_>) -> Result<YearScan, ReadError> {
        let mut counter = YearCounter::default();
        while let Some(line) = input.next_line()? {
            if let Some(Opening { when: When::Yearless { time: Some(time), .. }, .. }) =
                opening(without_nuls(line.bytes))
            {
                counter.next(time);
            }
        }
        Ok(counter.scan())
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let mut years = YearTracker::new(context.year);
        let mut record: Option<Record> = None;
        let result = loop {
            let line = match input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let from = line.span.offset;
            let line = pass_nuls(line, out);
            if let Some(open) = opening(line.bytes) {
                let next = Record::begin(open, &line, context, &mut years);
                if let Some(done) = record.replace(next) {
                    done.finish(out);
                }
                continue;
            }
            let mut reason = None;
            if !line.bytes.trim_ascii().is_empty() {
                let before = record.as_mut().filter(|_| from == line.span.offset);
                match continues(before, &line) {
                    Ok(()) => continue,
                    Err(why) => reason = Some(why),
                }
            }
            // Whatever does not continue the record ends it: its bytes are one range, without holes.
            if let Some(done) = record.take() {
                done.finish(out);
            }
            match reason {
                Some(reason) => out.reject(line.span, reason.into()),
                _ if !line.bytes.is_empty() => out.filler(line.span),
                _ => {}
            }
        };
        // What was read before a fault is still evidence.
        if let Some(done) = record {
            done.finish(out);
        }
        result
    }
}

fn has_usual_name(probe: &Probe<'_>) -> bool {
    const NAMES: [&str; 19] = [
        "syslog",
        "messages",
        "auth.log",
        "secure",
        "kern.log",
        "cron.log",
        "cron",
        "daemon.log",
        "user.log",
        "mail.log",
        "maillog",
        "mail.info",
        "mail.warn",
        "mail.err",
        "debug",
        "ufw.log",
        "system.log",
        "spooler",
        "local0.log",
    ];
    NAMES.contains(&probe.base_name())
}

/// Whether a line is so clearly syslog that the file may be claimed for it.
fn is_record(line: &[u8], usual_name: bool) -> bool {
    let Some(open) = opening(line) else { return false };
    let text = clean(open.rest);
    let header = Header::new(&open, &text);
    match open.when {
        // yum's log has the same dates, and neither host nor program.
        When::Yearless { .. } => !["Installed", "Updated", "Erased"]
            .iter()
            .any(|w| header.program == Some(w) && header.host.is_none()),
        When::Nil => true,
        When::Full { .. } => open.version || header.program.is_some() || usual_name,
    }
}

/// A crash leaves runs of NUL in a log, often in front of the first line of the next boot.
fn without_nuls(line: &[u8]) -> &[u8] {
    let nuls = line.iter().take_while(|b| **b == 0).count();
    line.get(nuls..).unwrap_or(&[])
}

/// The line without the NULs in front of it, which are filler.
pub(super) fn pass_nuls<'l>(line: Line<'l>, out: &mut dyn Sink) -> Line<'l> {
    let bytes = without_nuls(line.bytes);
    let nuls = line.bytes.len().saturating_sub(bytes.len()) as u64;
    if nuls == 0 {
        return line;
    }
    out.filler(Span::new(line.span.offset, nuls));
    let span = Span::new(line.span.offset.saturating_add(nuls), bytes.len() as u64);
    Line { bytes, span, cut: line.cut }
}

/// Adds a line without a date to the record before it, or says why it cannot belong there.
fn continues(record: Option<&mut Record>, line: &Line<'_>) -> Result<(), &'static str> {
    let indented = matches!(line.bytes.first(), Some(b' ' | b'\t'));
    if !indented && !is_plain_text(line.bytes) {
        return Err("no date, and not plain text");
    }
    if !indented && looks_damaged(line.bytes) {
        return Err("no readable date");
    }
    let Some(record) = record else { return Err("no date, and no record before it to continue") };
    if record.event.flags & flags::TRUNCATED != 0
        || record.event.message.len().saturating_add(line.bytes.len()) > LONGEST_LINE
    {
        return Err("no date, and the record before it is too long to be continued");
    }
    record.lines = record.lines.saturating_add(1);
    record.event.message.push(' ');
    record.event.message.push_str(clean(line.bytes).trim());
    record.event.span = record.event.span.to(line.span);
    if line.cut || line.bytes.len() >= LONGEST_LINE {
        record.event.flags |= flags::TRUNCATED;
    }
    Ok(())
}

fn is_plain_text(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(|text| !text.chars().any(|c| c.is_control() && c != '\t'))
}

/// Whether a line without a date was a record once: it still has a clock time or a `program[pid]: ` near its start.
fn looks_damaged(line: &[u8]) -> bool {
    let head = line.get(..48).unwrap_or(line);
    let clock = head.windows(8).any(|w| {
        matches!(w, [h1, h0, b':', m1, m0, b':', s1, s0]
            if [h1, h0, m1, m0, s1, s0].iter().all(|b| b.is_ascii_digit()))
    });
    let head = line.get(..80).unwrap_or(line);
    clock || head.windows(4).any(|w| matches!(w, [d, b']', b':', b' '] if d.is_ascii_digit()))
}

/// A record that may still be continued by the next line.
struct Record {
    event: Event,
    /// Where in `event.message` the text behind `program[pid]: ` begins.
    text_at: usize,
    lines: u32,
}

impl Record {
    fn begin(open: Opening<'_>, line: &Line<'_>, context: &Context, years: &mut YearTracker) -> Record {
        let rest = match std::str::from_utf8(open.rest) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(clean(open.rest)),
        };
        let header = Header::new(&open, &rest);
        let (message, text_at) = header.shown();
        let event = Event::new("linux:syslog", "Recorded Time", line.span, message);
        let mut event = dated(event, &open.when, context, years);
        if line.cut || line.bytes.len() >= LONGEST_LINE {
            event.flags |= flags::TRUNCATED;
        }
        event.host = header.host.map(|h| Cow::Owned(h.to_owned()));
        event.process = header.program.map(str::to_owned);
        match header.pid.map(|pid| (pid, pid.parse())) {
            Some((_, Ok(pid))) => event.pid = Some(pid),
            Some((text, Err(_))) => event.attrs.put("pid", text),
            None => {}
        }
        if let Some(priority) = open.priority {
            event.provider = syslog_messages::facility_name(priority / 8).map(Cow::Borrowed);
            event.severity = syslog_messages::severity_of_level(priority % 8);
        } else if let Some(word) = header.level {
            event.severity = syslog_messages::severity_of_word(word);
        }
        event.attrs.put_some("message_id", header.message_id);
        event.attrs.put_some("sender", header.sender);
        if let Some(data) = header.structured {
            event.attrs.put("structured_data", structured::to_json(data));
        }
        Record { event, text_at, lines: 1 }
    }

    fn finish(self, out: &mut dyn Sink) {
        let Record { mut event, text_at, lines } = self;
        if lines > 1 {
            event.attrs.put("lines", lines);
        }
        let message = std::mem::take(&mut event.message);
        let program = event.process.clone().unwrap_or_default();
        syslog_messages::understand(&program, message.get(text_at..).unwrap_or(""), &mut event);
        event.message = message;
        out.event(event);
    }
}

/// Gives the event its time. An impossible one (29 February of a common year, 25:00) leaves it undated, with the
/// time as it was written.
fn dated(mut event: Event, when: &When<'_>, context: &Context, years: &mut YearTracker) -> Event {
    let (text, clock, time) = match when {
        When::Nil => return event,
        When::Full { text, date: (year, month, day), clock, offset } => {
            let local = civil(*year, *month, *day, clock.hour, clock.minute, clock.second);
            let time = local.and_then(|local| match offset {
                Some(offset) => {
                    Some((offset_timestamp(local, *offset, clock.nanos)?, crate::event::TzBasis::InRecord))
                }
                None => context.local(local, clock.nanos),
            });
            (*text, clock, time)
        }
        When::Yearless { text, month, day, clock, time } => {
            let year = time.and_then(|time| years.year_of(time));
            let time = year.and_then(|(year, basis)| {
                let local = civil(year, *month, *day, clock.hour, clock.minute, clock.second)?;
                event.year_basis = basis;
                context.local(local, clock.nanos)
            });
            (*text, clock, time)
        }
    };
    let precision = Precision::of_fraction(clock.digits);
    match time {
        Some((time, basis)) => event = event.at(time, precision, basis),
        None => event.ts_precision = precision,
    }
    if time.is_none() || clock.second == 60 || clock.digits > 9 {
        event.ts_text = Some(text.to_owned());
    }
    event
}
