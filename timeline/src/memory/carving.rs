//! Lines of logs and histories, wherever they lie in memory.
//!
//! - Read: lines that begin with a full time - ISO 8601, RFC 5424, auditd's, dpkg's, web servers', Docker's - by the
//!   parser that would read them in their file; and commands of bash and zsh with the time before them.
//! - Limits: pages are searched one by one, since what lies behind a page need not follow it. A line that runs to the
//!   end of its page is flagged as cut; the rest of it has no time and is not read. Times without a year are no mark.

use std::sync::Arc;

use super::address_space::{AddressSpace, Block, PAGE};
use crate::bytes::{Pieces, read_vec};
use crate::error::ReadError;
use crate::event::{Event, Span, YearBasis, flags};
use crate::file_scan::Accounting;
use crate::parser::{Collected, Context, Input, Parser, Probe, Sink};
use crate::parsers;

/// How much is read at once.
const STEP: u64 = 4 << 20;
/// Lines and commands shorter than this have no room for a time and a word.
const SHORTEST: usize = 14;

/// Searches all memory.
///
/// # Errors
///
/// [`ReadError`] when the image cannot be read.
pub(crate) fn scan(
    space: &AddressSpace,
    context: &Context,
    out: &mut Accounting<'_>,
) -> Result<(), ReadError> {
    let mut carver = Carver::new(context);
    for block in space.blocks() {
        scan_block(space, *block, &mut carver, out)?;
    }
    Ok(())
}

fn scan_block(
    space: &AddressSpace,
    block: Block,
    carver: &mut Carver<'_>,
    out: &mut Accounting<'_>,
) -> Result<(), ReadError> {
    let mut done = 0u64;
    while done < block.length {
        let length = STEP.min(block.length - done);
        // Whole pages, wherever the range begins.
        let length = match (block.physical.wrapping_add(done)) % PAGE {
            0 => length,
            within => length.min(PAGE - within),
        };
        let offset = block.offset.saturating_add(done);
        match read_vec(&**space.source(), offset, length as usize) {
            Ok(bytes) => {
                for (n, page) in bytes.chunks(PAGE as usize).enumerate() {
                    carver.page(page, offset.saturating_add(n as u64 * PAGE), out);
                }
            }
            Err(error) => out.reject(Span::new(offset, length), error.to_string().into()),
        }
        done = done.saturating_add(length);
    }
    Ok(())
}

/// The rows of a line by its bytes alone. `is_cut` where it ends with its page.
pub(crate) fn rows_of_line(bytes: &[u8], span: Span, is_cut: bool, context: &Context) -> Vec<Event> {
    Carver::new(context).rows(bytes, span, is_cut).unwrap_or_default()
}

struct Carver<'c> {
    context: &'c Context,
    logs: Vec<&'static dyn Parser>,
}

impl<'c> Carver<'c> {
    fn new(context: &'c Context) -> Carver<'c> {
        let names = ["auditd", "docker_json_log", "dpkg_log", "web_access", "web_error", "syslog"];
        Carver { context, logs: names.iter().filter_map(|name| parsers::by_name(name)).collect() }
    }

    fn page(&mut self, page: &[u8], offset: u64, out: &mut Accounting<'_>) {
        let mut at = 0;
        while at < page.len() {
            let run = page.get(at..).unwrap_or_default();
            let skip = run.iter().position(|b| is_text(*b)).unwrap_or(run.len());
            let run = run.get(skip..).unwrap_or_default();
            let length = run.iter().position(|b| !is_text(*b)).unwrap_or(run.len());
            let start = at + skip;
            self.run(page, start, length, offset, out);
            at = start + length;
        }
    }

    /// A run of text without line ends; what follows a command's time is the next run.
    fn run(&mut self, page: &[u8], start: usize, length: usize, offset: u64, out: &mut Accounting<'_>) {
        let Some(line) = page.get(start..start + length) else { return };
        if !may_begin_a_record(line) {
            return;
        }
        let (length, line) = if bash_time(line) {
            // The time is a line of its own, and the command the line behind it.
            let rest = page.get(start + length..).unwrap_or_default();
            let Some(command) = rest.strip_prefix(b"\n") else { return };
            let command = command.iter().position(|b| !is_text(*b)).unwrap_or(command.len());
            let length = length + 1 + command;
            let Some(both) = page.get(start..start + length).filter(|_| command > 0) else { return };
            (length, both)
        } else {
            (length, line)
        };
        if length < SHORTEST {
            return;
        }
        let span = Span::new(offset.saturating_add(start as u64), length as u64);
        let is_cut = start + length == PAGE as usize;
        for event in self.rows(line, span, is_cut).unwrap_or_default() {
            out.event(event);
        }
    }

    fn rows(&self, bytes: &[u8], span: Span, is_cut: bool) -> Option<Vec<Event>> {
        let (parser, path) = self.parser(bytes)?;
        let mut random = Pieces::new(span.end());
        random.add(span.offset, bytes.to_vec());
        let mut input = Input::of_record(path, span.offset, bytes.to_vec(), Arc::new(random));
        let mut found = Collected::default();
        parser.parse(&mut input, self.context, &mut found).ok()?;
        let is_dated = |event: &Event| event.time.is_some() && event.year_basis == YearBasis::InRecord;
        // One record, all of it: else the text is something that only looks alike.
        let is_whole = |event: &Event| event.span == span && event.pieces.is_none();
        if found.events.is_empty() || !found.events.iter().all(|event| is_dated(event) && is_whole(event)) {
            return None;
        }
        for event in &mut found.events {
            event.flags |= flags::RECOVERED;
            if is_cut {
                event.flags |= flags::TRUNCATED;
            }
            event.attrs.put("carved_as", parser.name());
        }
        Some(found.events)
    }

    /// Who reads this line, and under what name.
    fn parser(&self, line: &[u8]) -> Option<(&'static dyn Parser, &'static str)> {
        if line.get(..11).is_some_and(bash_time) && line.get(11) == Some(&b'\n') {
            return Some((parsers::by_name("bash_history")?, "/memory/.bash_history"));
        }
        if zsh_time(line) {
            return Some((parsers::by_name("zsh_history")?, "/memory/.zsh_history"));
        }
        let probe = Probe { path: "/memory/line", head: line, size: Some(line.len() as u64) };
        let parser = self.logs.iter().find(|parser| parser.claims(&probe))?;
        (!parser.is_yearless(&probe)).then_some((*parser, "/memory/line"))
    }
}

fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t' || byte == 0x1b
}

/// Whether a line looks like one that is worth a parser: told by few bytes, for there are millions.
fn may_begin_a_record(line: &[u8]) -> bool {
    match line.first() {
        Some(b'2') => is_like(line, b"20dd-dd-dd dd:dd:dd") || is_like(line, b"20dd/dd/dd dd:dd:dd"),
        Some(b'<') => {
            line.len() > SHORTEST && line.get(1).is_some_and(u8::is_ascii_digit) && line.contains(&b'>')
        }
        Some(b't' | b'n') => memchr::memmem::find(line, b"msg=audit(").is_some(),
        Some(b'{') => memchr::memmem::find(line, b"\"time\":\"20").is_some(),
        Some(b'#') => bash_time(line),
        Some(b':') => zsh_time(line),
        Some(b'[') => is_like(line, b"[aaa aaa dd dd:dd:dd"),
        Some(_) => line.len() > 40 && has_web_time(line),
        None => false,
    }
}

/// `[21/Nov/2026:07:00:00` not far into the line, as web servers write it.
fn has_web_time(line: &[u8]) -> bool {
    let head = line.get(..200).unwrap_or(line);
    memchr::memchr(b'[', head)
        .and_then(|at| head.get(at..))
        .is_some_and(|rest| is_like(rest, b"[dd/aaa/dddd:dd:dd:dd"))
}

/// Whether the bytes begin as the pattern: `d` stands for a digit, `a` for a letter, a space for a space or `T`.
fn is_like(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.len() >= pattern.len()
        && bytes.iter().zip(pattern).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            b'a' => byte.is_ascii_alphabetic(),
            b' ' => matches!(byte, b' ' | b'T'),
            _ => byte == form,
        })
}

/// `#1795168810` and nothing else: a time from 2001 to 2036.
fn bash_time(line: &[u8]) -> bool {
    line.len() == 11 && is_like(line, b"#1ddddddddd") || line.len() == 11 && is_like(line, b"#20dddddddd")
}

/// `: 1795168810:0;command`.
fn zsh_time(line: &[u8]) -> bool {
    line.starts_with(b": ")
        && is_like(line.get(2..).unwrap_or_default(), b"1ddddddddd:d")
        && line.contains(&b';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::address_space::lime_header;

    fn carve(pages: &[&[u8]]) -> Vec<Event> {
        let mut memory = Vec::new();
        for page in pages {
            memory.extend_from_slice(page);
            memory.resize(memory.len().next_multiple_of(4096), 0);
        }
        let image = [lime_header(0x10_0000, memory.len() as u64), memory].concat();
        let space = AddressSpace::open(Arc::new(image), &[]).unwrap();
        let context = Context::default();
        let mut events = Vec::new();
        let mut keep = |event| events.push(event);
        let mut out = Accounting::new(&mut keep);
        scan(&space, &context, &mut out).unwrap();
        for event in &events {
            let from = event.span.offset as usize;
            let mut all = [0; 1 << 16];
            let length = space.source().read_at(0, &mut all).unwrap();
            let bytes = &all[..length][from..from + event.span.length as usize];
            let is_cut = event.flags & flags::TRUNCATED != 0;
            let again = rows_of_line(bytes, event.span, is_cut, &context);
            assert_eq!(again, std::slice::from_ref(event), "read alone");
        }
        events
    }

    fn text(event: &Event) -> String {
        let time = event.time.unwrap().to_rfc3339();
        format!("{} {time} {} [{}]", event.span.offset, event.source, event.message)
    }

    #[test]
    fn lines_with_a_full_time_are_found_between_other_bytes() {
        let page = b"\x01\x02junk\0\
            2026-11-20T10:00:01.5+00:00 web01 sshd[811]: Accepted publickey for alice from 192.0.2.7 port 5 ssh2\n\
            no time at all in this line, which is long enough\n\
            Nov 20 10:00:02 web01 sshd[1]: no year\n\
            <34>1 2026-11-20T10:00:03.003Z web01 su 816 ID47 - 'su root' failed\x00\
            type=USER_LOGIN msg=audit(1795168804.512:101): pid=820 uid=0 res=success\n\
            192.0.2.9 - - [20/Nov/2026:10:00:05 +0000] \"GET /x HTTP/1.1\" 200 5 \"-\" \"curl\"\n";
        let found: Vec<String> = carve(&[&[0; 8], page]).iter().map(text).collect();
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].starts_with("4135 2026-11-20T10:00:01.500Z linux:syslog ["), "{found:#?}");
        assert!(found[1].contains("2026-11-20T10:00:03.003Z linux:syslog"), "{found:#?}");
        assert!(found[2].contains("2026-11-20T10:00:04.512Z linux:auditd"), "{found:#?}");
        assert!(found[3].contains("2026-11-20T10:00:05Z web:access"), "{found:#?}");
    }

    #[test]
    fn commands_are_found_with_the_time_above_or_before_them() {
        let page = b"#1795168810\ncurl -s http://198.51.100.9/x\n#1795168815\n\n#179516881\nls\n\0: 1795168820:0;wget x\n";
        let found: Vec<String> = carve(&[page]).iter().map(text).collect();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("32 2026-11-20T10:00:10Z linux:"), "{found:#?}");
        assert!(found[0].contains("curl -s http://198.51.100.9/x"), "{found:#?}");
        assert!(found[1].contains("wget x"), "{found:#?}");
    }

    #[test]
    fn a_line_that_ends_with_its_page_is_said_to_be_cut_and_nothing_is_joined() {
        let line = b"2026-11-20T10:00:01+00:00 web01 cron[1]: (root) CMD (a command that goes on)";
        let mut page = vec![0; 4096 - 40];
        page.extend_from_slice(&line[..40]);
        let found = carve(&[&page, &line[40..]]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].flags, flags::RECOVERED | flags::TRUNCATED);
        assert_eq!(found[0].span.length, 40);
    }
}
