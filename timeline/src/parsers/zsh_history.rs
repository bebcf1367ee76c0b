//! Histories of zsh, with the times and durations of its extended form.
//!
//! - Found at: `~/.zsh_history`, `~/.zhistory`.
//! - Known by: its name, or by a first line `: seconds:duration;command`.
//! - Times: those seconds, UTC. Lines without them are undated commands.
//! - Not read: lines with NUL bytes; lines whose time is cut.
//! - Reference: zshoptions(1), EXTENDED_HISTORY; zsh, `Src/hist.c` (`readhistline`), `Src/utils.c` (`metafy`).
//!
//! A backslash at the end of a line continues the command. Bytes 0x00 and 0x83–0xA2 are written as 0x83 and the byte
//! with bit 5 turned over.

use super::bash_history::{executed, is_mostly_text};
use super::home_folder;
use crate::error::ReadError;
use crate::event::{Precision, Span, Timestamp, TzBasis, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct ZshHistory;
pub(super) static PARSER: ZshHistory = ZshHistory;

impl Parser for ZshHistory {
    fn name(&self) -> &'static str {
        "zsh_history"
    }

    fn reads(&self) -> &'static str {
        "histories of zsh, plain and extended"
    }

    fn times(&self) -> &'static str {
        "Last Time Executed"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let name = probe.name();
        let name = name.strip_prefix('.').unwrap_or(name);
        let usual = ["zsh_history", "zhistory"].iter().any(|usual| name.starts_with(usual));
        let first = probe.lines().find(|line| !line.trim_ascii().is_empty());
        is_mostly_text(probe.head) && (usual || first.is_some_and(|line| stamp(line).is_some()))
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
            if memchr::memchr(0, line.bytes).is_some() {
                finish(open.take(), &user, out);
                out.reject(line.span, "NUL bytes, not text".into());
                continue;
            }
            let full =
                |entry: &mut Entry| entry.bytes.len().saturating_add(line.bytes.len()) > 2 * LONGEST_LINE;
            if let Some(entry) = open.take_if(full) {
                finish(Some(entry), &user, out);
            }
            // An empty line ends a command and adds nothing to it; its backslash stays.
            if line.bytes.is_empty() {
                finish(open.take(), &user, out);
                continue;
            }
            let mut entry = match open.take() {
                Some(mut entry) => {
                    // What was a backslash is the end of a line of the command.
                    entry.bytes.pop();
                    entry.bytes.push(b'\n');
                    entry.bytes.extend_from_slice(line.bytes);
                    entry.span = entry.span.to(line.span);
                    entry
                }
                None if line.bytes.trim_ascii().is_empty() => {
                    out.filler(line.span);
                    continue;
                }
                None => match Entry::begin(line.bytes, line.span) {
                    Some(entry) => entry,
                    None => {
                        out.reject(line.span, "a time that is cut short".into());
                        continue;
                    }
                },
            };
            entry.lines = entry.lines.saturating_add(1);
            entry.is_cut = line.cut || line.bytes.len() >= LONGEST_LINE;
            if !entry.is_cut && entry.bytes.last() == Some(&b'\\') {
                open = Some(entry);
            } else {
                finish(Some(entry), &user, out);
            }
        };
        finish(open, &user, out);
        result
    }
}

/// One command as it is written, up to where it has been read.
struct Entry {
    span: Span,
    time: Option<(i64, i64)>,
    bytes: Vec<u8>,
    lines: u32,
    is_cut: bool,
}

impl Entry {
    /// `None` where a time begins and does not end.
    fn begin(line: &[u8], span: Span) -> Option<Entry> {
        let (time, command) = match stamp(line) {
            Some((time, command)) => (Some(time), command),
            None if begins_with_seconds(line) => return None,
            None => (None, line),
        };
        Some(Entry { span, time, bytes: command.to_vec(), lines: 0, is_cut: false })
    }
}

fn finish(entry: Option<Entry>, user: &Option<String>, out: &mut dyn Sink) {
    let Some(entry) = entry else { return };
    let mut bytes = entry.bytes;
    // zsh adds a space where the command itself ends in a backslash and spaces.
    let without_spaces = bytes.iter().rposition(|b| *b != b' ').map_or(0, |at| at.saturating_add(1));
    if without_spaces < bytes.len()
        && without_spaces.checked_sub(1).and_then(|i| bytes.get(i)) == Some(&b'\\')
    {
        bytes.pop();
    }
    let mut event = executed("linux:zsh", "zsh", user, clean(&unmetafied(&bytes)), entry.span);
    if let Some((seconds, elapsed)) = entry.time {
        event.attrs.put("elapsed_seconds", elapsed);
        match Timestamp::from_unix(seconds, 0) {
            Some(time) => event = event.at(time, Precision::S, TzBasis::UtcByFormat),
            None => event.ts_text = Some(seconds.to_string()),
        }
    }
    event.attrs.put_some("lines", Some(entry.lines).filter(|lines| *lines > 1));
    if entry.is_cut {
        event.flags |= flags::TRUNCATED;
    }
    out.event(event);
}

/// Seconds, duration and command of `: 1794902531:4;git status`.
fn stamp(line: &[u8]) -> Option<((i64, i64), &[u8])> {
    let (seconds, rest) = number(line.strip_prefix(b": ")?.trim_ascii_start())?;
    let (elapsed, rest) = number(rest.strip_prefix(b":")?)?;
    Some(((seconds, elapsed), rest.strip_prefix(b";")?))
}

/// Whether a line that is no whole time begins like one: nobody types `: 1794902531`.
fn begins_with_seconds(line: &[u8]) -> bool {
    let digits = line.strip_prefix(b": ").map_or(0, |l| l.iter().take_while(|b| b.is_ascii_digit()).count());
    digits >= 9
}

fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

fn unmetafied(bytes: &[u8]) -> Vec<u8> {
    const META: u8 = 0x83;
    let mut out = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match (*byte, bytes.as_slice().first()) {
            (META, Some(next)) => {
                out.push(next ^ 32);
                bytes.next();
            }
            (byte, _) => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parser::Collected;

    fn read(text: &[u8]) -> (Vec<String>, usize) {
        let mut out = Collected::default();
        let mut input = Input::of_source("/home/alice/.zsh_history", Arc::new(text.to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        let rows = out.events.iter().map(|e| {
            let time = e.time.map_or("undated".into(), |t| t.to_rfc3339());
            let elapsed = e.attrs.get("elapsed_seconds").map(ToString::to_string).unwrap_or_default();
            format!("{time} {elapsed} {}", e.command.as_deref().unwrap())
        });
        (rows.collect(), out.rejects.len())
    }

    #[test]
    fn extended_lines_give_time_duration_and_command() {
        let (rows, rejects) = read(b": 1794902531:4;git status\n:  1794902540:0;echo a; echo b\nplain\n");
        assert_eq!(
            rows,
            ["2026-11-17T08:02:11Z 4 git status", "2026-11-17T08:02:20Z 0 echo a; echo b", "undated  plain"]
        );
        assert_eq!(rejects, 0);
    }

    #[test]
    fn a_backslash_continues_the_command_and_one_at_the_end_of_the_file_stays() {
        let (rows, _) = read(b": 1794902531:0;echo x \\\\\n& touch y\nls\\\n\n: 1794902531:0;a\\ \nend\\\n");
        assert_eq!(
            rows,
            [
                "2026-11-17T08:02:11Z 0 echo x \\\n& touch y",
                "undated  ls\\",
                "2026-11-17T08:02:11Z 0 a\\",
                "undated  end\\"
            ]
        );
    }

    #[test]
    fn metafied_bytes_are_turned_back_and_others_are_escaped() {
        // U+00C3 is C3 83 in UTF-8; zsh writes its second byte as 83 A3.
        assert_eq!(unmetafied(b"\xc3\x83\xa3x\x83"), b"\xc3\x83x\x83");
        let (rows, _) = read(b": 1794902531:0;echo \xc3\x83\xa3 \xff\n");
        assert_eq!(rows, ["2026-11-17T08:02:11Z 0 echo Ã \\xff"]);
    }

    #[test]
    fn a_cut_time_is_a_reject_and_a_time_too_large_is_kept_as_text() {
        let (rows, rejects) = read(b": 1794902531:4\n: 1794902531\n: 9999999999999999:0;x\n: 5 is no time\n");
        assert_eq!(rows, ["undated 0 x", "undated  : 5 is no time"]);
        assert_eq!(rejects, 2);
    }
}
