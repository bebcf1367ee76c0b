//! Error logs of nginx and Apache.
//!
//! - Found at: `/var/log/nginx/error.log*`, `/var/log/apache2/error.log*`, `/var/log/httpd/error_log*`.
//! - Known by: `2026/11/18 10:00:00 [error] 12#12: ` or `[Wed Nov 18 10:00:00.123456 2026] [core:error]`.
//! - Times: local; nginx to the second, Apache 2.4 to the microsecond.
//! - Not read: lines without a head, unless they continue the record before (stack traces).
//! - Reference: nginx `src/core/ngx_log.c`, `ngx_http_log_error`; Apache `ErrorLogFormat`, `server/log.c`.
//!
//! nginx writes file names, requests and referrers as they came. Where a line could name several clients, the row
//! takes the one in front of the request, and `ambiguous` says so.

use std::net::IpAddr;

use super::syslog::pass_nuls;
use super::web_access::put_request;
use super::written_time::Written;
use crate::error::ReadError;
use crate::event::{Event, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Line, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct WebError;
pub(super) static PARSER: WebError = WebError;

/// A record of several lines is not continued beyond this.
const LONGEST_RECORD: u64 = 256 << 10;

impl Parser for WebError {
    fn name(&self) -> &'static str {
        "web_error"
    }

    fn reads(&self) -> &'static str {
        "error logs of nginx and Apache"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let named = probe.name().contains("error");
        let (mut lines, mut known) = (0u32, 0u32);
        for line in probe.head.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(20) {
            lines = lines.saturating_add(1);
            known = known.saturating_add(u32::from(Head::read(line).is_some()));
        }
        known > 0 && (named || known.saturating_mul(4) >= lines)
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let mut open: Option<Record> = None;
        let result = loop {
            let line = match input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let from = line.span.offset;
            let line = pass_nuls(line, out);
            if let Some(head) = Head::read(line.bytes) {
                finish(open.replace(Record::begin(&head, &line, context)), out);
                continue;
            }
            if line.bytes.trim_ascii().is_empty() {
                finish(open.take(), out);
                if !line.bytes.is_empty() {
                    out.filler(line.span);
                }
                continue;
            }
            // A record's bytes are one range, without holes.
            let holds = from == line.span.offset;
            if holds && open.as_mut().is_some_and(|record| record.is_continued_by(&line)) {
                continue;
            }
            finish(open.take(), out);
            out.reject(line.span, "no time and level, and no record before it to continue".into());
        };
        finish(open, out);
        result
    }
}

/// What a record starts with.
struct Head<'l> {
    time: Written<'l>,
    level: &'l [u8],
    text: &'l [u8],
    server: Server<'l>,
}

enum Server<'l> {
    Nginx,
    /// Apache: the module that speaks, since 2.4.
    Apache(Option<&'l [u8]>),
}

impl<'l> Head<'l> {
    fn read(line: &'l [u8]) -> Option<Head<'l>> {
        if let Some((time, rest)) = Written::read(line, b"YYYY/MM/DD hh:mm:ss [") {
            let (level, rest) = bracketed(rest)?;
            return Some(Head { time, level: known(level)?, text: rest, server: Server::Nginx });
        }
        // `%t` may come with microseconds or without.
        let (time, rest) = Written::read(line, b"[www bbb DD hh:mm:ss. YYYY] [")?;
        let (name, text) = bracketed(rest)?;
        let (module, level) = match name.iter().position(|b| *b == b':') {
            Some(at) => (Some(name.get(..at)?), name.get(at.checked_add(1)?..)?),
            None => (None, name),
        };
        Some(Head { time, level: known(level)?, text, server: Server::Apache(module) })
    }
}

/// The text up to the bracket that closes it, and what stands behind the space after that.
fn bracketed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b']', text)?;
    let rest = text.get(at.checked_add(1)?..)?;
    Some((text.get(..at)?, rest.strip_prefix(b" ").unwrap_or(rest)))
}

fn known(level: &[u8]) -> Option<&[u8]> {
    severity(level).map(|_| level)
}

/// OCSF severity of a level's word.
fn severity(level: &[u8]) -> Option<i16> {
    Some(match level {
        b"debug" | b"info" | b"notice" => 1,
        b"warn" => 2,
        b"error" => 3,
        b"crit" => 4,
        b"alert" => 5,
        b"emerg" => 6,
        // Apache: trace1 to trace8.
        _ if level.starts_with(b"trace") && level.len() == 6 => 1,
        _ => return None,
    })
}

/// A record that the next line may continue.
struct Record {
    /// With its time, and yet without what the text says.
    event: Event,
    level: String,
    /// The Apache module that speaks.
    module: Option<String>,
    is_nginx: bool,
    text: String,
    lines: u32,
}

impl Record {
    fn begin(head: &Head<'_>, line: &Line<'_>, context: &Context) -> Record {
        let mut event = Event::new("web:error", "Recorded Time", line.span, "");
        event.category = Some("web".into());
        event.severity = severity(head.level);
        if line.cut || line.bytes.len() >= LONGEST_LINE {
            event.flags |= flags::TRUNCATED;
        }
        let module = match head.server {
            Server::Apache(Some(module)) if !module.is_empty() => Some(clean(module)),
            _ => None,
        };
        Record {
            event: head.time.date(event, context, false),
            level: clean(head.level),
            module,
            is_nginx: matches!(head.server, Server::Nginx),
            text: clean(head.text),
            lines: 1,
        }
    }

    fn is_continued_by(&mut self, line: &Line<'_>) -> bool {
        // A damaged head is no continuation.
        let damaged = line.bytes.starts_with(b"[")
            || line.bytes.first_chunk::<4>().is_some_and(|year| year.iter().all(u8::is_ascii_digit));
        let binary = line.bytes.iter().any(|b| *b < 9 || (14..32).contains(b) && *b != 27);
        let full = self.event.flags & flags::TRUNCATED != 0
            || line.cut
            || self.event.span.to(line.span).length > LONGEST_RECORD;
        if damaged || binary || full {
            return false;
        }
        self.lines = self.lines.saturating_add(1);
        self.text.push_str(" ⏎ ");
        self.text.push_str(&clean(line.bytes));
        self.event.span = self.event.span.to(line.span);
        true
    }
}

fn finish(record: Option<Record>, out: &mut dyn Sink) {
    let Some(Record { mut event, level, module, is_nginx, text, lines }) = record else { return };
    event.attrs.put("level", level.as_str());
    event.provider = module.map(Into::into);
    let said =
        if is_nginx { nginx(text.trim_end(), &mut event) } else { apache(text.trim_end(), &mut event) };
    event.message = format!("{level}: {said}");
    event.attrs.put_some("lines", Some(lines).filter(|lines| *lines > 1));
    out.event(event);
}

/// `811#811: *90213 message, client: 203.0.113.77, server: _, request: "GET / HTTP/1.1", host: "x"`
fn nginx<'t>(text: &'t str, event: &mut Event) -> &'t str {
    event.process = Some("nginx".into());
    let mut text = text;
    if let Some((ids, rest)) = text.split_once(": ")
        && let Some((pid, tid)) = ids.split_once('#')
        && let (Ok(pid), Ok(tid)) = (pid.parse::<u32>(), tid.parse::<u64>())
    {
        event.pid = Some(pid.into());
        event.attrs.put_some("thread", Some(tid).filter(|tid| *tid != u64::from(pid)));
        text = rest;
    }
    if let Some((connection, rest)) = text.strip_prefix('*').and_then(|t| t.split_once(' '))
        && let Ok(connection) = connection.parse::<u64>()
    {
        event.attrs.put("connection", connection);
        text = rest;
    }
    let Some((message, mut tail, ambiguous)) = split_client(text) else { return text };
    if ambiguous {
        event.attrs.put("ambiguous", true);
    }
    for key in ["client", "server", "request", "subrequest", "upstream", "host", "referrer"] {
        let Some(rest) = tail.strip_prefix(key).and_then(|t| t.strip_prefix(": ")) else { continue };
        let (value, behind) = match rest.strip_prefix('"') {
            // The value ends at the quote that the next key or the end follows.
            Some(rest) => match rest.split_once("\", ") {
                Some(parts) => parts,
                None => (rest.strip_suffix('"').unwrap_or(rest), ""),
            },
            None => rest.split_once(", ").unwrap_or((rest, "")),
        };
        tail = behind;
        match key {
            "client" => event.src_ip = Some(value.to_owned()),
            "request" => {
                event.action = Some("http-request".into());
                put_request(event, value.into());
            }
            key => event.attrs.put(key, value),
        }
    }
    if !tail.is_empty() {
        event.attrs.put("more", tail);
    }
    message
}

/// The message, and the tail from `client: ` on, if there is one; and whether another place could be its start.
fn split_client(text: &str) -> Option<(&str, &str, bool)> {
    const MARK: &str = ", client: ";
    let starts = |at: &usize| {
        let rest = text.get(at.saturating_add(MARK.len())..).unwrap_or("");
        let value = rest.split([',', ' ']).next().unwrap_or("");
        value.parse::<IpAddr>().is_ok() || value == "unix:"
    };
    let request = text.find(", request: \"").unwrap_or(text.len());
    let mut places = text.match_indices(MARK).map(|(at, _)| at).filter(starts).take(64).peekable();
    let first = *places.peek()?;
    let (mut last, mut count) = (first, 0u32);
    for at in places {
        count = count.saturating_add(1);
        if at < request {
            last = at;
        }
    }
    Some((text.get(..last)?, text.get(last.saturating_add(2)..)?, count > 1))
}

/// `[pid 811:tid 139] [client 203.0.113.5:4711] AH00126: message, referer: http://…`
fn apache<'t>(text: &'t str, event: &mut Event) -> &'t str {
    let mut text = text;
    // A bracket within an address is not the field's end.
    while let Some((field, rest)) = text.strip_prefix('[').and_then(|t| t.split_once("] ")) {
        if let Some(ids) = field.strip_prefix("pid ") {
            let (pid, tid) = ids.split_once(":tid ").unwrap_or((ids, ""));
            event.pid = pid.parse::<u32>().ok().map(i64::from);
            event.attrs.put_some("pid", Some(pid).filter(|_| event.pid.is_none()));
            event.attrs.put_some("thread", tid.parse::<u64>().ok());
        } else if !put_client(field, event) {
            break;
        }
        text = rest;
    }
    // `(13)Permission denied: [client …] AH00035: …`
    let coded = text.find("AH").filter(|at| code(text.get(*at..).unwrap_or("")).is_some());
    if let Some((before, rest)) = text.split_once("[client ")
        && event.src_ip.is_none()
        && coded.is_none_or(|coded| before.len() < coded)
        && let Some((client, _)) = rest.split_once(']')
    {
        put_address(client, event);
    }
    if let Some(found) = coded.and_then(|at| code(text.get(at..).unwrap_or(""))) {
        event.event_code = Some(found.to_owned().into());
    }
    event.attrs.put_some("referrer", text.rsplit_once(", referer: ").map(|(_, referrer)| referrer));
    text
}

/// `AH` and five digits.
fn code(text: &str) -> Option<&str> {
    let (code, rest) = text.split_at_checked(7)?;
    let digits = code.strip_prefix("AH")?;
    (digits.bytes().all(|b| b.is_ascii_digit()) && rest.starts_with(':')).then_some(code)
}

fn put_client(field: &str, event: &mut Event) -> bool {
    match field.strip_prefix("client ").or_else(|| field.strip_prefix("remote ")) {
        Some(client) => put_address(client, event),
        None => false,
    }
}

/// `203.0.113.5:4711`, `2001:db8::7:4711`, `[2001:db8::7]:4711` or an address alone.
fn put_address(client: &str, event: &mut Event) -> bool {
    let address = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let (ip, port) = match client.rsplit_once(':') {
        // Apache 2.4 always writes a port; Apache 2.2 never does.
        Some((ip, port)) if address(ip).is_some() && port.parse::<u16>().is_ok() => {
            (address(ip), port.parse::<u16>().ok())
        }
        _ => (address(client), None),
    };
    match ip {
        Some(_) => {
            let text = match port {
                Some(_) => client.rsplit_once(':').map_or(client, |(ip, _)| ip),
                None => client,
            };
            event.src_ip = Some(text.trim_start_matches('[').trim_end_matches(']').to_owned());
            event.src_port = port.map(i32::from);
        }
        None => event.attrs.put("client", client),
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::Span;
    use crate::parser::Collected;

    fn read(text: &str) -> Collected {
        let mut out = Collected::default();
        let mut input = Input::of_source("/var/log/nginx/error.log", Arc::new(text.as_bytes().to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn an_nginx_line_gives_client_request_and_process() {
        let out = read(
            "2026/11/18 10:00:00 [error] 811#812: *9 open() \"/var/www/x\" failed (2: No such file or directory), \
             client: 203.0.113.77, server: _, request: \"GET /x?y=1 HTTP/1.1\", upstream: \"http://127.0.0.1:80/x\", \
             host: \"web01.example.test\", referrer: \"http://a, b\"\n",
        );
        let event = &out.events[0];
        assert_eq!(event.message, "error: open() \"/var/www/x\" failed (2: No such file or directory)");
        assert_eq!(
            (event.pid, event.src_ip.as_deref(), event.severity),
            (Some(811), Some("203.0.113.77"), Some(3))
        );
        assert_eq!(event.path.as_deref(), Some("/x"));
        assert_eq!(
            event.attrs.to_json(),
            r#"{"level":"error","thread":812,"connection":9,"server":"_","method":"GET","query":"y=1","protocol":"HTTP/1.1","upstream":"http://127.0.0.1:80/x","host":"web01.example.test","referrer":"http://a, b"}"#
        );
    }

    #[test]
    fn a_client_that_an_attacker_wrote_is_not_taken_silently() {
        let line = |middle: &str, end: &str| {
            let out = read(&format!(
                "2026/11/18 10:00:00 [error] 8#8: *9 open() \"/x{middle}\" failed, client: 203.0.113.77, server: _, \
                 request: \"GET / HTTP/1.1\"{end}\n"
            ));
            let event = &out.events[0];
            (event.src_ip.clone().unwrap(), event.attrs.get("ambiguous").is_some())
        };
        assert_eq!(line("", ""), ("203.0.113.77".into(), false));
        assert_eq!(line(", client: 198.51.100.1, server: x", ""), ("203.0.113.77".into(), true));
        assert_eq!(line("", ", referrer: \"x, client: 198.51.100.1, y\""), ("203.0.113.77".into(), true));
        assert_eq!(line(", client: me", ""), ("203.0.113.77".into(), false));
    }

    #[test]
    fn apache_lines_of_both_ages_give_module_client_and_code() {
        let out = read(
            "[Wed Nov 18 10:00:00.123456 2026] [core:error] [pid 811:tid 139] (13)Permission denied: \
             [client 203.0.113.5:4711] AH00035: access to /x denied, referer: http://example.test/\n\
             [Wed Nov 18 10:00:01 2026] [error] [client 2001:db8::7] File does not exist: /var/www/y\n\
             [Wed Nov 18 10:00:02.000001 2026] [mpm_event:notice] [pid 1:tid 2] AH00489: Apache/2.4 configured\n",
        );
        let rows: Vec<_> = out
            .events
            .iter()
            .map(|e| {
                let text = |t: &Option<String>| t.clone().unwrap_or_default();
                let code = e.event_code.as_deref().unwrap_or("-").to_owned();
                let provider = e.provider.as_deref().unwrap_or("-").to_owned();
                (e.time.unwrap().to_rfc3339(), provider, text(&e.src_ip), e.src_port, code)
            })
            .collect();
        let row = |t: &str, p: &str, ip: &str, port, code: &str| {
            (t.to_owned(), p.to_owned(), ip.to_owned(), port, code.to_owned())
        };
        assert_eq!(
            rows,
            [
                row("2026-11-18T10:00:00.123456Z", "core", "203.0.113.5", Some(4711), "AH00035"),
                row("2026-11-18T10:00:01Z", "-", "2001:db8::7", None, "-"),
                row("2026-11-18T10:00:02.000001Z", "mpm_event", "", None, "AH00489"),
            ]
        );
        assert_eq!(out.events[0].attrs.get("referrer").unwrap(), "http://example.test/");
    }

    #[test]
    fn a_stack_trace_continues_its_record_and_a_damaged_head_does_not() {
        let out = read(
            "PHP lost\n2026/11/18 10:00:00 [error] 8#8: PHP message: boom\n#0 /x.php(3)\n  thrown\n\
             2026/13 [error] x\n[Wed Nov] y\nafter\n2026/11/18 10:00:01 [info] 8#8: z\n",
        );
        assert_eq!(out.events[0].message, "error: PHP message: boom ⏎ #0 /x.php(3) ⏎   thrown");
        assert_eq!(out.events[0].span, Span::new(9, 72));
        assert_eq!((out.events.len(), out.rejects.len()), (2, 4));
    }
}
