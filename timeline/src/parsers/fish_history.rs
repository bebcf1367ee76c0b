//! Histories of the fish shell: commands with their times and the files they named.
//!
//! - Found at: `~/.local/share/fish/fish_history`, `~/.config/fish/fish_history` (before fish 2.3).
//! - Known by: a first line `- cmd: …`, with its name or a line `  when: …`.
//! - Times: the seconds of `when`, UTC. Commands without it are undated.
//! - Not read: lines that are none of `- cmd`, `when`, `paths` and the paths below it.
//! - Reference: fish-shell, `src/history/yaml_backend.rs` (not YAML, though it looks so).

use super::bash_history::{executed, is_mostly_text};
use super::home_folder;
use crate::error::ReadError;
use crate::event::{Precision, Span, Timestamp, TzBasis, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct FishHistory;
pub(super) static PARSER: FishHistory = FishHistory;

impl Parser for FishHistory {
    fn name(&self) -> &'static str {
        "fish_history"
    }

    fn reads(&self) -> &'static str {
        "histories of the fish shell"
    }

    fn times(&self) -> &'static str {
        "Last Time Executed"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let first = probe.lines().find(|line| !line.trim_ascii().is_empty());
        let first = first.is_some_and(|line| line.starts_with(b"- cmd: "));
        let timed = || probe.lines().any(|line| line.starts_with(b"  when: "));
        is_mostly_text(probe.head) && first && (probe.name().contains("fish_history") || timed())
            || probe.name() == "fish_history" && probe.lines().any(|line| line.starts_with(b"- cmd: "))
    }

    fn parse(&self, input: &mut Input<'_>, _context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let user = home_folder::owner(input.path());
        let mut open: Option<Entry> = None;
        let result = loop {
            let line = match input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if let Some(command) = line.bytes.strip_prefix(b"- cmd:") {
                finish(open.take(), &user, out);
                open = Some(Entry {
                    span: line.span,
                    command: unescaped(command.strip_prefix(b" ").unwrap_or(command)),
                    when: None,
                    paths: Vec::new(),
                    size: line.bytes.len(),
                    is_cut: line.cut || line.bytes.len() >= LONGEST_LINE,
                });
                continue;
            }
            if line.bytes.trim_ascii().is_empty() {
                if !line.bytes.is_empty() {
                    out.filler(line.span);
                }
                continue;
            }
            match open.as_mut().filter(|entry| entry.size <= LONGEST_LINE).map(|entry| entry.add(line.bytes))
            {
                Some(true) => {
                    if let Some(entry) = &mut open {
                        entry.span = entry.span.to(line.span);
                    }
                }
                Some(false) => out.reject(line.span, "neither command, time nor path".into()),
                None => {
                    finish(open.take(), &user, out);
                    out.reject(line.span, "no command above it, or one too long".into());
                }
            }
        };
        finish(open, &user, out);
        result
    }
}

struct Entry {
    span: Span,
    command: Vec<u8>,
    when: Option<Vec<u8>>,
    paths: Vec<String>,
    size: usize,
    is_cut: bool,
}

impl Entry {
    /// Takes a line below the command; `false` where it is none of fish's.
    fn add(&mut self, line: &[u8]) -> bool {
        if let Some(when) = line.strip_prefix(b"  when:")
            && self.when.is_none()
        {
            self.when = Some(when.trim_ascii().to_vec());
        } else if let Some(path) = line.strip_prefix(b"    - ") {
            self.paths.push(clean(&unescaped(path)));
        } else if line.trim_ascii_end() != b"  paths:" {
            return false;
        }
        self.size = self.size.saturating_add(line.len());
        true
    }
}

fn finish(entry: Option<Entry>, user: &Option<String>, out: &mut dyn Sink) {
    let Some(entry) = entry else { return };
    if entry.command.trim_ascii().is_empty() {
        out.reject(entry.span, "an entry without a command".into());
        return;
    }
    let mut event = executed("linux:fish", "fish", user, clean(&entry.command), entry.span);
    if let Some(when) = entry.when {
        let seconds = std::str::from_utf8(&when).ok().and_then(|when| when.parse().ok());
        match seconds.and_then(|seconds| Timestamp::from_unix(seconds, 0)) {
            Some(time) => event = event.at(time, Precision::S, TzBasis::UtcByFormat),
            None => event.ts_text = Some(clean(&when)),
        }
    }
    if !entry.paths.is_empty() {
        event.attrs.put("paths", entry.paths);
    }
    if entry.is_cut {
        event.flags |= flags::TRUNCATED;
    }
    out.event(event);
}

/// Turns `\n` and `\\` back into what was typed.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let typed = match (*byte, bytes.as_slice().first()) {
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(b'\\')) => Some(b'\\'),
            _ => None,
        };
        if typed.is_some() {
            bytes.next();
        }
        out.push(typed.unwrap_or(*byte));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parser::Collected;

    fn read(text: &str) -> Collected {
        let mut out = Collected::default();
        let path = "/home/alice/.local/share/fish/fish_history";
        let mut input = Input::of_source(path, Arc::new(text.as_bytes().to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn an_entry_is_a_command_with_its_time_and_paths() {
        let out = read(
            "- cmd: echo \\\\n one\\n two\n  when: 1794902531\n  paths:\n    - a b\n    - c\n- cmd: ls\n",
        );
        let first = &out.events[0];
        assert_eq!(first.command.as_deref(), Some("echo \\n one\n two"));
        assert_eq!(first.time.unwrap().to_rfc3339(), "2026-11-17T08:02:11Z");
        assert_eq!(first.user_name.as_deref(), Some("alice"));
        assert_eq!(first.attrs.to_json(), r#"{"paths":["a b","c"]}"#);
        assert_eq!((out.events[1].time, out.events.len()), (None, 2));
    }

    #[test]
    fn a_line_that_is_not_fishs_is_a_reject_and_the_entry_goes_on_behind_it() {
        let out = read("  when: 1\n- cmd: ls\n  whn: 5\n  when: soon\n  when: 1794902531\n- cmd: \n");
        assert_eq!(out.events.len(), 1);
        assert_eq!(out.events[0].ts_text.as_deref(), Some("soon"));
        assert_eq!(out.rejects.len(), 4);
    }
}
