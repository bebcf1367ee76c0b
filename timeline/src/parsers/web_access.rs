//! Access logs of nginx and Apache: one request a line, in the common, combined and virtual host formats.
//!
//! - Found at: `/var/log/nginx/access.log*`, `/var/log/apache2/*access.log*`, `/var/log/httpd/access_log*`.
//! - Known by: a client and `[18/Nov/2026:10:00:00 +0000] "` on at least half of the first lines.
//! - Times: when the request was read (Apache) or answered (nginx), to the second, with its offset.
//! - Not read: formats of one's own without these fields in this order; fields behind them are kept as `extra`.
//! - Reference: Apache `mod_log_config`, nginx `ngx_http_log_module`.
//!
//! Text is kept as it was logged: servers escape quotes and control characters, and undoing that would invite
//! forged lines. The request ends at the first quote that a status follows, for old servers did not escape quotes.

use std::borrow::Cow;
use std::net::IpAddr;

use super::syslog::pass_nuls;
use super::written_time::Written;
use crate::error::ReadError;
use crate::event::Event;
use crate::parser::{Context, Input, LONGEST_LINE, Line, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct WebAccess;
pub(super) static PARSER: WebAccess = WebAccess;

impl Parser for WebAccess {
    fn name(&self) -> &'static str {
        "web_access"
    }

    fn reads(&self) -> &'static str {
        "access logs of nginx and Apache: common, combined, virtual host"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let named = probe.name().contains("access");
        let (mut lines, mut known) = (0u32, 0u32);
        // Also a last line that goes on beyond the head: it may be the only one.
        for line in probe.head.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(20) {
            lines = lines.saturating_add(1);
            known = known.saturating_add(u32::from(Opening::read(line).is_ok()));
        }
        known > 0 && (named || known.saturating_mul(2) >= lines)
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        while let Some(line) = input.next_line()? {
            let line = pass_nuls(line, out);
            if line.bytes.trim_ascii().is_empty() {
                if !line.bytes.is_empty() {
                    out.filler(line.span);
                }
                continue;
            }
            if line.cut || line.bytes.len() >= LONGEST_LINE {
                out.reject(line.span, "a line without end".into());
                continue;
            }
            match Request::read(line.bytes) {
                Ok(request) => out.event(request.event(&line, context)),
                Err(reason) => out.reject(line.span, reason.into()),
            }
        }
        Ok(())
    }
}

/// Everything up to the request.
struct Opening<'l> {
    /// `host:port` in front of the client.
    virtual_host: Option<&'l [u8]>,
    client: &'l [u8],
    identity: &'l [u8],
    user: &'l [u8],
    time: Written<'l>,
    /// From behind the quote that opens the request.
    rest: &'l [u8],
}

impl<'l> Opening<'l> {
    fn read(line: &'l [u8]) -> Result<Opening<'l>, &'static str> {
        const TIME: &[u8] = b" [DD/bbb/YYYY:hh:mm:ss Z] \"";
        // A user's name may hold a bracket too.
        let (before, time, rest) = memchr::memchr_iter(b'[', line)
            .take(16)
            .find_map(|at| {
                let (before, behind) = line.split_at_checked(at.checked_sub(1)?)?;
                let (time, rest) = Written::read(behind, TIME)?;
                Some((before, time, rest))
            })
            .ok_or("no time in brackets in front of a request")?;
        let mut words = before.splitn(3, |b| *b == b' ');
        let (Some(first), Some(second), Some(third)) = (words.next(), words.next(), words.next()) else {
            return Err("no client, identity and user in front of the time");
        };
        // Four words: a virtual host comes first, unless a client does and the user's name has a space.
        let (virtual_host, client, identity, user) = match split_once(third, b' ') {
            Some((identity, user)) if ip(first).is_none() => (Some(first), second, identity, user),
            _ => (None, first, second, third),
        };
        if client.is_empty() || user.is_empty() {
            return Err("no client, identity and user in front of the time");
        }
        Ok(Opening { virtual_host, client, identity, user, time, rest })
    }
}

/// One line in its fields, as they were logged.
struct Request<'l> {
    opening: Opening<'l>,
    request: &'l [u8],
    status: &'l [u8],
    size: &'l [u8],
    referrer: Option<&'l [u8]>,
    user_agent: Option<&'l [u8]>,
    extra: &'l [u8],
}

impl<'l> Request<'l> {
    fn read(line: &'l [u8]) -> Result<Request<'l>, &'static str> {
        let opening = Opening::read(line)?;
        let [request, status, size, rest] =
            split_request(opening.rest).ok_or("no status behind the request")?;
        let mut request =
            Request { opening, request, status, size, referrer: None, user_agent: None, extra: rest };
        if let Some(rest) = request.extra.strip_prefix(b"\"") {
            let (referrer, rest) = quoted(rest).ok_or("the quotes of the referrer are not closed")?;
            request.referrer = Some(referrer);
            request.extra = rest;
            if let Some(rest) = rest.strip_prefix(b"\"") {
                let (user_agent, rest) = quoted(rest).ok_or("the quotes of the user agent are not closed")?;
                request.user_agent = Some(user_agent);
                request.extra = rest;
            }
        }
        Ok(request)
    }

    fn event(&self, line: &Line<'_>, context: &Context) -> Event {
        let (client, request) = (text(self.opening.client), text(self.request));
        let (status, size) = (text(self.status), text(self.size));
        let mut message = String::with_capacity(client.len() + request.len() + status.len() + size.len() + 5);
        for part in [&*client, " \"", &request, "\" ", &status, " ", &size] {
            message.push_str(part);
        }
        let mut event = Event::new("web:access", "Recorded Time", line.span, message);
        event.category = Some("web".into());
        event.action = Some("http-request".into());
        let code: Option<i16> = status.parse().ok();
        let (outcome, severity) = match code {
            Some(100..=399) => ("success", 1),
            Some(400..=499) => ("failure", 2),
            Some(500..=599) => ("failure", 3),
            _ => ("unknown", 0),
        };
        event.outcome = Some(outcome.into());
        event.severity = Some(severity);
        if ip(self.opening.client).is_some() {
            event.src_ip = Some(client.into_owned());
        } else {
            event.attrs.put("client", client);
        }
        event.user_name = present(self.opening.user).map(clean);
        event.size = size.parse().ok();
        put_request(&mut event, request);
        match code {
            Some(code) => event.attrs.put("status", code),
            None => event.attrs.put("status", status),
        }
        if let Some(size) = event.size {
            event.attrs.put("bytes", size);
        }
        event.attrs.put_some("referrer", self.referrer.and_then(present).map(text));
        event.attrs.put_some("user_agent", self.user_agent.and_then(present).map(text));
        event.attrs.put_some("virtual_host", self.opening.virtual_host.map(text));
        event.attrs.put_some("identity", present(self.opening.identity).map(text));
        event.attrs.put_some("extra", Some(self.extra).filter(|extra| !extra.is_empty()).map(text));
        self.opening.time.date(event, context, false)
    }
}

/// Puts method, path, query and protocol of `GET /path?query HTTP/1.1`, or the text where it is no such request.
pub(super) fn put_request(event: &mut Event, request: Cow<'_, str>) {
    let is_method =
        |m: &&str| (1..=32).contains(&m.len()) && m.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    let parts = request.split_once(' ').filter(|(method, _)| is_method(method)).map(|(method, rest)| {
        match rest.rsplit_once(' ') {
            Some((target, protocol)) if protocol.starts_with("HTTP/") => (method, target, Some(protocol)),
            _ => (method, rest, None),
        }
    });
    let Some((method, target, protocol)) = parts else {
        if request != "-" && !request.is_empty() {
            event.attrs.put("request", request);
        }
        return;
    };
    event.attrs.put("method", method);
    match target.split_once('?') {
        Some((path, query)) => {
            event.path = Some(path.to_owned());
            event.attrs.put("query", query);
        }
        None => event.path = Some(target.to_owned()),
    }
    event.attrs.put_some("protocol", protocol);
}

/// Request, status, size and what is behind them.
fn split_request(text: &[u8]) -> Option<[&[u8]; 4]> {
    let behind = |at: usize| {
        let rest = text.get(at.checked_add(1)?..)?.strip_prefix(b" ")?;
        let (status, rest) =
            rest.split_at_checked(rest.iter().position(|b| *b == b' ').unwrap_or(rest.len()))?;
        let is_status = status.len() == 3 && status.iter().all(u8::is_ascii_digit) || status == b"-";
        let rest = rest.strip_prefix(b" ")?;
        let (size, rest) = split_once(rest, b' ').unwrap_or((rest, b""));
        let is_size = !size.is_empty() && size.iter().all(u8::is_ascii_digit) || size == b"-";
        (is_status && is_size).then_some([text.get(..at)?, status, size, rest])
    };
    // A quote behind a backslash is part of the request, if any other quote can be its end.
    let quotes = || memchr::memchr_iter(b'"', text);
    quotes().filter(|at| !is_escaped(text, *at)).find_map(behind).or_else(|| quotes().find_map(behind))
}

/// The text up to the quote that closes it, and what stands behind the space after it.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr::memchr_iter(b'"', text).filter(|at| !is_escaped(text, *at)).find_map(|at| {
        let rest = text.get(at.checked_add(1)?..)?;
        match rest.split_first() {
            None => Some((text.get(..at)?, rest)),
            Some((b' ', rest)) => Some((text.get(..at)?, rest)),
            Some(_) => None,
        }
    })
}

/// Whether an odd number of backslashes stands in front of `at`.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or(&[]);
    before.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(byte, text)?;
    Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))
}

fn ip(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A field that is not `-`.
fn present(field: &[u8]) -> Option<&[u8]> {
    Some(field).filter(|field| *field != b"-" && !field.is_empty())
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(clean(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parser::Collected;

    fn read(line: &str) -> Result<Event, String> {
        let mut out = Collected::default();
        let mut input = Input::of_source("/var/log/nginx/access.log", Arc::new(line.as_bytes().to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        out.events.pop().ok_or_else(|| out.rejects[0].1.to_string())
    }

    const TIME: &str = "[18/Nov/2026:10:00:00 +0100]";

    #[test]
    fn a_combined_line_gives_every_field() {
        let event = read(&format!(
            r#"203.0.113.5 - alice {TIME} "GET /x?a=1&b=2 HTTP/1.1" 200 512 "http://example.test/" "curl/8 \"x\"" "198.51.100.1" 0.003"#
        ))
        .unwrap();
        assert_eq!(event.message, r#"203.0.113.5 "GET /x?a=1&b=2 HTTP/1.1" 200 512"#);
        assert_eq!(event.time.unwrap().to_rfc3339(), "2026-11-18T09:00:00Z");
        assert_eq!(
            (event.user_name.as_deref(), event.path.as_deref(), event.size),
            (Some("alice"), Some("/x"), Some(512))
        );
        assert_eq!(
            event.attrs.to_json(),
            r#"{"method":"GET","query":"a=1&b=2","protocol":"HTTP/1.1","status":200,"bytes":512,"referrer":"http://example.test/","user_agent":"curl/8 \\\"x\\\"","extra":"\"198.51.100.1\" 0.003"}"#
        );
    }

    #[test]
    fn clients_are_addresses_of_both_kinds_or_names_and_a_virtual_host_may_come_first() {
        let fields = |start: &str| {
            let event = read(&format!(r#"{start} {TIME} "GET / HTTP/1.0" 304 -"#)).unwrap();
            let attr = |key| event.attrs.get(key).and_then(|v| v.as_str()).unwrap_or("").to_owned();
            [
                event.src_ip.unwrap_or_default(),
                attr("client"),
                attr("virtual_host"),
                event.user_name.unwrap_or_default(),
            ]
        };
        assert_eq!(fields("2001:db8::7 - -"), ["2001:db8::7", "", "", ""]);
        assert_eq!(fields("crawler.example.test - -"), ["", "crawler.example.test", "", ""]);
        assert_eq!(
            fields("www.example.test:443 203.0.113.5 - bob"),
            ["203.0.113.5", "", "www.example.test:443", "bob"]
        );
        assert_eq!(fields("203.0.113.5 - bob [x] y"), ["203.0.113.5", "", "", "bob [x] y"]);
    }

    #[test]
    fn a_request_ends_where_a_status_follows_whatever_quotes_it_holds() {
        let request = |middle: &str| {
            let event = read(&format!("192.0.2.1 - - {TIME} \"{middle}")).unwrap();
            (event.path.unwrap_or_default(), event.attrs.get("status").unwrap().to_string())
        };
        assert_eq!(request(r#"GET /a"b" HTTP/1.1" 404 9"#), (r#"/a"b""#.into(), "404".into()));
        // An attacker writes a status of his own; the server has escaped his quote.
        assert_eq!(request(r#"GET /a\" 200 5 x HTTP/1.1" 404 9"#), (r#"/a\" 200 5 x"#.into(), "404".into()));
        assert_eq!(request(r#"GET /a\" 200 5"#), (r#"/a\"#.into(), "200".into()));
        assert_eq!(request(r#"-" 408 -"#), (String::new(), "408".into()));
        assert_eq!(request(r#"\x16\x03\x01" 400 157 "-" "-""#), (String::new(), "400".into()));
    }

    #[test]
    fn a_line_that_is_cut_says_where() {
        let why = |line: &str| read(line).unwrap_err();
        assert_eq!(why("203.0.113.5 - - ["), "no time in brackets in front of a request");
        assert_eq!(
            why(&format!("203.0.113.5 {TIME} \"GET")),
            "no client, identity and user in front of the time"
        );
        assert_eq!(why(&format!("203.0.113.5 - - {TIME} \"GET / HTTP/1.1")), "no status behind the request");
        assert_eq!(
            why(&format!("203.0.113.5 - - {TIME} \"GET / HTTP/1.1\" 200 5 \"-\" \"curl")),
            "the quotes of the user agent are not closed"
        );
    }

    #[test]
    fn an_impossible_day_stays_undated_with_its_text() {
        let event = read(r#"192.0.2.1 - - [31/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5"#).unwrap();
        assert_eq!((event.time, event.ts_text.as_deref()), (None, Some("31/Nov/2026:10:00:00 +0000")));
    }
}
