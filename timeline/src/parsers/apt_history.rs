//! apt's history: each run with its command line, who asked for it, and what it changed.
//!
//! - Found at: `/var/log/apt/history.log*`.
//! - Known by: a line `Start-Date: ` and a date.
//! - Times: `Start-Date` and `End-Date`, local, to the second; one row each. A run that never ended has one row.
//! - Not read: `term.log`, the terminal output of the same runs; lines that are no `Key: value`.
//! - Reference: apt, `apt-pkg/deb/dpkgpm.cc` (`OpenLog`, `CloseLog`).

use std::fmt::Write;

use super::written_time::Written;
use crate::error::ReadError;
use crate::event::{Event, Precision, Span, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct AptHistory;
pub(super) static PARSER: AptHistory = AptHistory;

/// A run larger than this is split: no apt writes one.
const LARGEST_RUN: usize = 8 << 20;

/// The lists of packages, and what happened to these.
const CHANGES: [(&str, &str); 6] = [
    ("Install", "installed"),
    ("Reinstall", "reinstalled"),
    ("Upgrade", "upgraded"),
    ("Downgrade", "downgraded"),
    ("Remove", "removed"),
    ("Purge", "purged"),
];

impl Parser for AptHistory {
    fn name(&self) -> &'static str {
        "apt_history"
    }

    fn reads(&self) -> &'static str {
        "apt's history of runs and the packages they changed"
    }

    fn times(&self) -> &'static str {
        "Start Time, End Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let is_start = |line: &[u8]| {
            line.strip_prefix(b"Start-Date: ").is_some_and(|date| Written::read(date, DATE).is_some())
        };
        probe.lines().any(is_start)
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let mut open: Option<Run> = None;
        let result = loop {
            let line = match input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if line.bytes.trim_ascii().is_empty() {
                finish(open.take(), context, out);
                if !line.bytes.is_empty() {
                    out.filler(line.span);
                }
                continue;
            }
            let begins = line.bytes.starts_with(b"Start-Date:");
            if open.as_ref().is_some_and(|run| begins || run.size > LARGEST_RUN) {
                finish(open.take(), context, out);
            }
            let run = open.get_or_insert_with(|| Run { span: line.span, ..Run::default() });
            run.span = run.span.to(line.span);
            run.size = run.size.saturating_add(line.bytes.len());
            run.is_cut |= line.cut || line.bytes.len() >= LONGEST_LINE;
            run.add(clean(line.bytes));
        };
        finish(open, context, out);
        result
    }
}

/// apt puts two spaces between date and time.
const DATE: &[u8] = b"YYYY-MM-DD  hh:mm:ss";

/// One run, from `Start-Date` to the blank line.
#[derive(Default)]
struct Run {
    span: Span,
    size: usize,
    fields: Vec<(String, String)>,
    /// Lines that are no `Key: value`.
    unread: Vec<String>,
    is_cut: bool,
}

impl Run {
    fn add(&mut self, line: String) {
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        match line.split_once(':') {
            Some((key, value)) if is_key(key) => self.fields.push((key.to_owned(), value.trim().to_owned())),
            _ => self.unread.push(line),
        }
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.fields.iter().position(|(k, _)| k == key)?;
        Some(self.fields.remove(at).1)
    }

    fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(k, _)| k == key)
    }
}

fn finish(run: Option<Run>, context: &Context, out: &mut dyn Sink) {
    let Some(mut run) = run else { return };
    let known = ["Start-Date", "End-Date", "Commandline"];
    if !known.iter().any(|key| run.has(key)) && !CHANGES.iter().any(|(key, _)| run.has(key)) {
        out.reject(run.span, "no start, end, command line or package".into());
        return;
    }
    let (start, end) = (run.take("Start-Date"), run.take("End-Date"));
    let event = describe(run, end.is_some());
    let row = |desc: &'static str, date: &str| {
        let event = Event { ts_desc: desc.into(), ..event.clone() };
        match Written::read(date.as_bytes(), DATE) {
            Some((time, [])) => time.date(event, context, false),
            _ => Event { ts_text: Some(date.to_owned()), ..event },
        }
    };
    if let Some(start) = &start {
        out.event(row("Start Time", start));
    }
    if let Some(end) = &end {
        out.event(row("End Time", end));
    }
    if start.is_none() && end.is_none() {
        out.event(event);
    }
}

/// The undated row of a run.
fn describe(mut run: Run, ended: bool) -> Event {
    let mut event = Event::new("linux:apt", "Start Time", run.span, "");
    event.ts_precision = Precision::S;
    event.category = Some("package".into());
    event.process = Some("apt".into());
    event.command = run.take("Commandline");
    event.message = format!("apt: {}", event.command.as_deref().unwrap_or("(no command line)"));
    if let Some(who) = run.take("Requested-By") {
        let (name, uid) = match who.strip_suffix(')').and_then(|w| w.rsplit_once(" (")) {
            Some((name, uid)) => (name, uid.parse::<u32>().ok()),
            None => (who.as_str(), None),
        };
        event.attrs.put_some("uid", uid);
        event.user_name = Some(name.to_owned());
    }
    let mut separator = "; ";
    for (key, done) in CHANGES {
        // Names in front of `(version, automatic)`; a comma in brackets separates no packages.
        let Some(list) =
            run.fields.iter().find(|(k, list)| k == key && !list.is_empty()).map(|(_, list)| list)
        else {
            continue;
        };
        let packages = list.split("), ").count();
        if event.action.is_none() {
            event.action = Some(key.to_ascii_lowercase().into());
        }
        // Writing to a String cannot fail.
        let _ = match packages {
            1 => write!(event.message, "{separator}{done} {list}"),
            _ => write!(event.message, "{separator}{done} {packages} packages"),
        };
        separator = ", ";
    }
    let failed = run.has("Error");
    if let Some((_, error)) = run.fields.iter().find(|(key, _)| key == "Error") {
        let _ = write!(event.message, "; error: {error}");
    }
    event.outcome = Some(
        if failed {
            "failure"
        } else if ended {
            "success"
        } else {
            "unknown"
        }
        .into(),
    );
    for (key, value) in run.fields {
        event.attrs.put(key.to_ascii_lowercase().replace('-', "_"), value);
    }
    if !run.unread.is_empty() {
        event.attrs.put("unread", run.unread);
        event.flags |= flags::CORRUPT;
    }
    if run.is_cut {
        event.flags |= flags::TRUNCATED;
    }
    event
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parser::Collected;

    fn read(text: &str) -> Collected {
        let mut out = Collected::default();
        let mut input = Input::of_source("/var/log/apt/history.log", Arc::new(text.as_bytes().to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn a_run_gives_a_row_for_its_start_and_one_for_its_end() {
        let out = read(
            "\nStart-Date: 2026-11-18  10:00:00\nCommandline: apt-get install -y curl\nRequested-By: alice (1001)\n\
             Install: curl:amd64 (7.88), libcurl4:amd64 (7.88, automatic)\nEnd-Date: 2026-11-18  10:00:09\n",
        );
        let [start, end] = &out.events[..] else { panic!("{:?}", out.events) };
        assert_eq!((start.ts_desc.as_ref(), end.ts_desc.as_ref()), ("Start Time", "End Time"));
        assert_eq!(end.time.unwrap().to_rfc3339(), "2026-11-18T10:00:09Z");
        assert_eq!(start.message, "apt: apt-get install -y curl; installed 2 packages");
        assert_eq!((start.user_name.as_deref(), start.outcome.as_deref()), (Some("alice"), Some("success")));
        assert_eq!(
            start.attrs.to_json(),
            r#"{"uid":1001,"install":"curl:amd64 (7.88), libcurl4:amd64 (7.88, automatic)"}"#
        );
        assert_eq!(out.records(), 1);
    }

    #[test]
    fn a_run_that_never_ended_or_failed_says_so() {
        let out = read(
            "Start-Date: 2026-11-18  10:00:00\nPurge: nano:amd64 (7.2)\n\n\
             Start-Date: 2026-11-18  10:00:00\nUpgrade: a (1, 2)\nError: dpkg failed\nEnd-Date: soon\n",
        );
        let outcomes: Vec<_> = out.events.iter().map(|e| e.outcome.as_deref().unwrap()).collect();
        assert_eq!(outcomes, ["unknown", "failure", "failure"]);
        assert_eq!(out.events[0].message, "apt: (no command line); purged nano:amd64 (7.2)");
        assert_eq!((out.events[2].time, out.events[2].ts_text.as_deref()), (None, Some("soon")));
    }

    #[test]
    fn lines_of_no_run_are_rejects_and_odd_lines_of_a_run_are_kept() {
        let out = read("hello\nError: x\n\nStart-Date: 2026-11-18  10:00:00\n%%%\nFoo-Bar: 1\n");
        assert_eq!(out.rejects, [(Span::new(0, 14), "no start, end, command line or package".into())]);
        assert_eq!(out.events[0].attrs.to_json(), r#"{"foo_bar":"1","unread":["%%%"]}"#);
        assert_eq!(out.events[0].flags, flags::CORRUPT);
    }
}
