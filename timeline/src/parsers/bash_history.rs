//! Histories of bash and the other Bourne shells: the commands a person typed.
//!
//! - Found at: `~/.bash_history`, `~/.sh_history`, `~/.ash_history`, `~/.ksh_history`, tcsh's `~/.history`.
//! - Known by: its name, or by a line `#` and ten digits above a command.
//! - Times: the seconds of that line, UTC, written where `HISTTIMEFORMAT` was set. Commands without one are undated.
//! - Not read: lines with NUL bytes, which no shell writes.
//! - Reference: bash(1), HISTORY; GNU history library, `lib/readline/histfile.c`.
//!
//! As bash does, everything from one time to the next is one command of several lines. Lines above the first time
//! (a history that begins in the middle) and all lines of a history without times are one command each.

use super::home_folder;
use crate::error::ReadError;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Line, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct BashHistory;
pub(super) static PARSER: BashHistory = BashHistory;

/// Names of the files, without their leading point, and the shell that writes them.
const NAMES: [(&str, &str); 7] = [
    ("bash_history", "bash"),
    ("sh_history", "sh"),
    ("ash_history", "ash"),
    ("dash_history", "dash"),
    ("ksh_history", "ksh"),
    ("mksh_history", "mksh"),
    ("history", "tcsh"),
];

impl Parser for BashHistory {
    fn name(&self) -> &'static str {
        "bash_history"
    }

    fn reads(&self) -> &'static str {
        "histories of bash, sh, ash, dash, ksh and tcsh, with and without times"
    }

    fn times(&self) -> &'static str {
        "Last Time Executed"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        if !is_mostly_text(probe.head) {
            return false;
        }
        let mut lines = probe.lines().filter(|line| !line.trim_ascii().is_empty());
        let stamped = lines.next().is_some_and(|line| stamp(line).is_some())
            && lines.next().is_some_and(|line| stamp(line).is_none() && !line.starts_with(b"#"));
        stamped || is_usual_name(probe.name())
    }

    fn parse(&self, input: &mut Input<'_>, _context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let typist = Typist::of(input.path());
        let mut open: Option<Command> = None;
        let result = loop {
            let line = match input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if memchr::memchr(0, line.bytes).is_some() {
                typist.finish(open.take(), out);
                out.reject(line.span, "NUL bytes, not text".into());
            } else if let Some(seconds) = stamp(line.bytes) {
                typist.finish(open.take(), out);
                open = Some(Command::stamped(seconds, line.span));
            } else if line.bytes.trim_ascii().is_empty() {
                match &mut open {
                    Some(command) => command.blank_lines = command.blank_lines.saturating_add(1),
                    None if !line.bytes.is_empty() => out.filler(line.span),
                    None => {}
                }
            } else {
                let mut command = match open.take() {
                    Some(command) if command.has_room(&line) => command,
                    full => {
                        typist.finish(full, out);
                        Command::default()
                    }
                };
                command.push(&line);
                // Only a time begins a command of several lines, and a line cut short ends it.
                if command.seconds.is_some() && !command.is_cut {
                    open = Some(command);
                } else {
                    typist.finish(Some(command), out);
                }
            }
        };
        typist.finish(open, out);
        result
    }
}

fn is_usual_name(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    name == "history" || NAMES.iter().any(|(usual, _)| *usual != "history" && name.starts_with(usual))
}

/// Whether the head is text, though a crash may have left runs of NUL in it.
pub(super) fn is_mostly_text(head: &[u8]) -> bool {
    let nuls = head.iter().filter(|b| **b == 0).count();
    let odd = head.iter().filter(|b| (1..9).contains(*b) || (14..32).contains(*b) && **b != 27).count();
    !head.is_empty() && nuls.saturating_mul(2) <= head.len() && odd.saturating_mul(50) <= head.len()
}

/// The seconds of a line `#1794219121`; tcsh writes `#+1794219121`.
fn stamp(line: &[u8]) -> Option<i64> {
    let digits = line.strip_prefix(b"#")?.trim_ascii_end();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if !(9..=10).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A command that further lines may continue.
#[derive(Default)]
struct Command {
    seconds: Option<i64>,
    span: Span,
    text: String,
    lines: u32,
    /// Blank lines since the last line of text: part of the command only if more text follows.
    blank_lines: u32,
    is_cut: bool,
}

impl Command {
    fn stamped(seconds: i64, span: Span) -> Command {
        Command { seconds: Some(seconds), span, ..Command::default() }
    }

    fn has_room(&self, line: &Line<'_>) -> bool {
        self.text.len().saturating_add(self.blank_lines as usize).saturating_add(line.bytes.len())
            <= 2 * LONGEST_LINE
    }

    fn push(&mut self, line: &Line<'_>) {
        if self.lines > 0 {
            for _ in 0..=self.blank_lines {
                self.text.push('\n');
            }
        }
        self.span =
            if self.lines == 0 && self.seconds.is_none() { line.span } else { self.span.to(line.span) };
        self.text.push_str(&clean(line.bytes));
        self.blank_lines = 0;
        self.lines = self.lines.saturating_add(1);
        self.is_cut = line.cut || line.bytes.len() >= LONGEST_LINE;
    }
}

/// Who typed the commands, and into which shell, as the file's path tells.
struct Typist {
    user: Option<String>,
    shell: &'static str,
}

impl Typist {
    fn of(path: &str) -> Typist {
        let name = Probe { path, head: &[], size: None }.name();
        let name = name.strip_prefix('.').unwrap_or(name);
        let shell =
            NAMES.iter().find(|(usual, _)| name.starts_with(usual)).map_or("bash", |(_, shell)| shell);
        Typist { user: home_folder::owner(path), shell }
    }

    fn finish(&self, command: Option<Command>, out: &mut dyn Sink) {
        let Some(command) = command else { return };
        if command.lines == 0 {
            out.reject(command.span, "a time without a command".into());
            return;
        }
        let mut event = executed("linux:bash", self.shell, &self.user, command.text, command.span);
        event.attrs.put_some("lines", Some(command.lines).filter(|lines| *lines > 1));
        if command.is_cut {
            event.flags |= flags::TRUNCATED;
        }
        if let Some(time) = command.seconds.and_then(|seconds| Timestamp::from_unix(seconds, 0)) {
            event = event.at(time, Precision::S, TzBasis::UtcByFormat);
        }
        out.event(event);
    }
}

/// The undated row of a command that `user` typed into `shell`.
pub(super) fn executed(
    source: &'static str,
    shell: &str,
    user: &Option<String>,
    command: String,
    span: Span,
) -> Event {
    let mut message = String::with_capacity(command.len().saturating_add(shell.len()).saturating_add(2));
    message.push_str(shell);
    message.push_str(": ");
    for (n, line) in command.split('\n').enumerate() {
        if n > 0 {
            message.push_str(" ⏎ ");
        }
        message.push_str(line);
    }
    let mut event = Event::new(source, "Last Time Executed", span, message);
    event.category = Some("process".into());
    event.action = Some("command-run".into());
    event.user_name.clone_from(user);
    event.process = Some(shell.to_owned());
    event.command = Some(command);
    event
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parser::Collected;

    fn read(path: &str, text: &[u8]) -> (Vec<String>, Vec<(Span, String)>) {
        let mut out = Collected::default();
        let mut input = Input::of_source(path, Arc::new(text.to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        let row = |e: &Event| {
            let time = e.time.map_or("undated".into(), |t| t.to_rfc3339());
            format!("{}+{} {time} {}", e.span.offset, e.span.length, e.command.as_deref().unwrap())
        };
        let rejects = out.rejects.iter().map(|(span, why)| (*span, why.to_string())).collect();
        (out.events.iter().map(row).collect(), rejects)
    }

    #[test]
    fn a_command_reaches_from_its_time_to_the_next() {
        let (rows, rejects) = read("/x", b"#1794219121\nfor i in 1\ndo\n\n  ls\ndone\n\n#1794219130\nid\n");
        assert_eq!(
            rows,
            ["0+36 2026-11-09T10:12:01Z for i in 1\ndo\n\n  ls\ndone", "38+14 2026-11-09T10:12:10Z id"]
        );
        assert_eq!(rejects, []);
    }

    #[test]
    fn lines_above_the_first_time_are_undated_commands() {
        let (rows, _) = read("/x", b"/sbin/reboot\n\nls # now\n#1794219121\nid\n");
        assert_eq!(
            rows,
            ["0+12 undated /sbin/reboot", "14+8 undated ls # now", "23+14 2026-11-09T10:12:01Z id"]
        );
    }

    #[test]
    fn a_time_without_a_command_and_lines_with_nul_are_rejects() {
        let (rows, rejects) = read("/x", b"#1794219121\n#1794219122\nid\n\0\0\0\n#1794219123\n");
        assert_eq!(rows, ["12+14 2026-11-09T10:12:02Z id"]);
        let offsets: Vec<u64> = rejects.iter().map(|(span, _)| span.offset).collect();
        assert_eq!(offsets, [0, 27, 31]);
    }

    #[test]
    fn a_comment_that_a_person_typed_is_a_command() {
        let (rows, _) = read("/x", b"#1794219121\n#12345 is the ticket\n#12345678901\n");
        assert_eq!(rows, ["0+45 2026-11-09T10:12:01Z #12345 is the ticket\n#12345678901"]);
    }

    #[test]
    fn a_history_is_claimed_by_its_name_or_its_times() {
        let claims = |path, head: &[u8]| PARSER.claims(&Probe { path, head, size: Some(head.len() as u64) });
        for path in ["/root/.bash_history", "/home/a/.ash_history", "/bash_history.1", "/home/a/.history"] {
            assert!(claims(path, b"ls\n"), "{path}");
        }
        assert!(claims("/srv/copy.txt", b"#1794219121\nid\n"));
        assert!(!claims("/srv/copy.txt", b"#1794219121\n# a comment\n"));
        assert!(!claims("/srv/copy.txt", b"id\n#1794219121\n"));
        assert!(!claims("/root/.mysql_history", b"select 1;\n"));
        assert!(!claims("/root/.bash_history", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\0\0"));
        assert!(claims("/root/.bash_history", b"ls\n\0\0\0\0\ncd /\n"));
        assert!(!claims("/var/lib/history.db", b"text\n"));
    }

    #[test]
    fn a_command_without_end_is_cut_and_what_follows_is_undated() {
        let mut text = b"#1794219121\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', LONGEST_LINE + 5));
        text.extend(b"\nid\n");
        let mut out = Collected::default();
        let mut input = Input::of_source("/x", Arc::new(text));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        let [cut, after] = &out.events[..] else { panic!("{}", out.events.len()) };
        assert_eq!((cut.flags, cut.span), (flags::TRUNCATED, Span::new(0, 12 + LONGEST_LINE as u64)));
        assert_eq!((after.time, after.command.as_deref()), (None, Some("id")));
    }
}
