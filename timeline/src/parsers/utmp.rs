//! Login records: who was logged in, from where and for how long; boots, shutdowns, failed logins.
//!
//! - Found at: `/var/run/utmp`, `/var/log/wtmp*` (history), `/var/log/btmp*` (failed logins).
//! - Known by: records of 384 bytes (most 64-bit and all 32-bit systems) or 400 bytes (aarch64, s390x …), in either
//!   byte order, whose types, times, process ids and texts are possible. A name with `tmp` in it lets damaged files
//!   pass; alone it is not enough.
//! - Times: UTC, to the microsecond. "Start Time" of a login, "End Time" of its end, "Recorded Time" of all else.
//! - Failed logins: all records of a file that is named `btmp`; nothing in the records says so.
//! - Empty: records of nothing but zeros are kept without a time, for that is what a wiped login looks like; of more
//!   than 16 in a row the rest is filler.
//! - Reference: utmp(5); glibc `bits/utmp.h`.

mod layout;

use std::net::IpAddr;

use crate::error::ReadError;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis, flags};
use crate::parser::{Context, Input, Parser, Probe, Sink};
use crate::text::{clean, until_nul};

use layout::{Layout, Record};

/// A multiple of both record sizes.
const BLOCK: usize = 6 * 9600;
/// More empty records than this in a row are an unused part of the file.
const EMPTY_IN_A_ROW: usize = 16;
/// A file that gives only zeros for this long is a hole: nobody logs in that often.
const LONGEST_GAP: u64 = 1 << 30;

pub(super) struct Utmp;
pub(super) static PARSER: Utmp = Utmp;

impl Parser for Utmp {
    fn name(&self) -> &'static str {
        "utmp"
    }

    fn reads(&self) -> &'static str {
        "login records (utmp, wtmp, btmp): 384 or 400 bytes, either byte order"
    }

    fn times(&self) -> &'static str {
        "Start Time (login), End Time (logout), Recorded Time (boot, run level, clock change, failed login)"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        // Programs have such names too (`utmpdump`), and enough zeros in them to look like records.
        let is_program = probe.head.starts_with(b"\x7fELF") || probe.head.starts_with(b"#!");
        let named = !is_program && ["utmp", "wtmp", "btmp"].iter().any(|name| probe.name().contains(name));
        Layout::detect(probe.head, probe.size).is_some_and(|(layout, score)| {
            let even = probe.size.is_none_or(|size| size % layout.size() as u64 == 0);
            if named {
                score.good > 0 && score.good >= score.bad / 4
            } else {
                even && score.bad == 0 && score.good > 1
            }
        })
    }

    fn parse(&self, input: &mut Input<'_>, _context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let is_failed_login =
            Probe { path: input.path(), head: &[], size: None }.base_name().contains("btmp");
        let left = input.size().map(|size| size.saturating_sub(input.position()));
        let mut reading = Reading { layout: None, empty: 0, unused: Span::default(), is_failed_login, out };
        while let Some((block, span)) = input.next_block(BLOCK)? {
            if reading.layout.is_none() {
                let one = (left == Some(block.len() as u64)).then(|| Layout::of_one(block)).flatten();
                reading.layout = one.or_else(|| Some(Layout::detect(block, left)?.0));
            }
            let Some(layout) = reading.layout else {
                reading.out.reject(span, "no login records of a known layout".into());
                continue;
            };
            for (i, bytes) in block.chunks(layout.size()).enumerate() {
                let offset = span.offset.saturating_add((i * layout.size()) as u64);
                reading.record(layout, bytes, Span::new(offset, bytes.len() as u64));
            }
            if reading.unused.length > LONGEST_GAP {
                let rest =
                    Span::new(span.end(), input.size().unwrap_or(span.end()).saturating_sub(span.end()));
                reading.end_unused();
                reading.out.reject(rest, "behind a hole this large nothing was searched".into());
                return Ok(());
            }
        }
        reading.end_unused();
        Ok(())
    }
}

struct Reading<'a> {
    layout: Option<Layout>,
    empty: usize,
    unused: Span,
    is_failed_login: bool,
    out: &'a mut dyn Sink,
}

impl Reading<'_> {
    fn record(&mut self, layout: Layout, bytes: &[u8], span: Span) {
        let is_empty = bytes.iter().all(|b| *b == 0);
        if bytes.len() < layout.size() {
            self.end_unused();
            if is_empty {
                self.out.filler(span);
            } else {
                self.out.reject(
                    span,
                    format!("the last record has {} of {} bytes", bytes.len(), layout.size()).into(),
                );
            }
            return;
        }
        if is_empty {
            self.empty += 1;
            if self.empty > EMPTY_IN_A_ROW {
                self.unused = if self.unused.length == 0 { span } else { self.unused.to(span) };
                return;
            }
            let mut event = Event::new(
                "linux:utmp",
                "Recorded Time",
                span,
                format!("empty login record: {} zero bytes, never used or wiped", bytes.len()),
            );
            (event.ts_precision, event.tz_basis) = (Precision::Us, TzBasis::UtcByFormat);
            self.out.event(event);
            return;
        }
        self.end_unused();
        self.empty = 0;
        match layout.record(bytes) {
            Ok(record) => {
                let event = row(&record, span, self.is_failed_login);
                self.out.event(event);
            }
            Err(reason) => self.out.reject(span, reason.into()),
        }
    }

    fn end_unused(&mut self) {
        if self.unused.length > 0 {
            self.out.filler(self.unused);
            self.unused = Span::default();
        }
    }
}

fn row(record: &Record<'_>, span: Span, is_failed_login: bool) -> Event {
    let text = |field: &[u8]| one_line(clean(until_nul(field)));
    let (user, line, host) = (text(record.user), text(record.line), text(record.host));
    let address = record.address.map_or_else(|| host.parse().ok(), Some).map(|ip: IpAddr| ip.to_canonical());
    let pid = record.pid;
    let from = match (&address, host.as_str()) {
        (Some(ip), _) => format!(" from {ip}"),
        (None, "") => String::new(),
        (None, host) => format!(" from {host}"),
    };
    let on = if line.is_empty() { String::new() } else { format!(" on {line}") };
    let name = if user.is_empty() { "an unnamed user" } else { user.as_str() };
    let process = format!(" (pid {pid})");
    let (ts_desc, category, action, message) = if is_failed_login {
        (
            "Recorded Time",
            "authentication",
            "failed-login",
            format!("failed login of {name}{on}{from}{process}"),
        )
    } else {
        match record.kind {
            0 => (
                "Recorded Time",
                "session",
                "slot-emptied",
                format!("emptied login record of {name}{on}{from}{process}"),
            ),
            1 => ("Recorded Time", "host", run_level_action(&user), run_level(&user, pid, &host)),
            2 => ("Recorded Time", "host", "boot", format!("system boot{}", kernel(&host))),
            3 => ("Recorded Time", "host", "clock-set", "clock set: the new time".to_owned()),
            4 => ("Recorded Time", "host", "clock-set", "clock set: the time before".to_owned()),
            5 => (
                "Recorded Time",
                "process",
                "process-started",
                format!("process of init started{on}{process}"),
            ),
            6 => ("Recorded Time", "session", "login-prompt", format!("login prompt{on}{from}{process}")),
            7 => ("Start Time", "authentication", "login", format!("login of {name}{on}{from}{process}")),
            8 => {
                let of = if user.is_empty() { String::new() } else { format!(" of {user}") };
                ("End Time", "session", "logout", format!("end of the session{of}{on}{from}{process}"))
            }
            _ => (
                "Recorded Time",
                "session",
                "accounting",
                format!("accounting record of {name}{on}{from}{process}"),
            ),
        }
    };
    let mut event = Event::new("linux:utmp", ts_desc, span, message);
    (event.ts_precision, event.tz_basis) = (Precision::Us, TzBasis::UtcByFormat);
    if record.seconds != 0 {
        let micros = u32::try_from(record.micros).ok().filter(|micros| *micros < 1_000_000);
        if micros.is_none() {
            event.flags |= flags::CORRUPT;
            event.attrs.put("tv_usec", record.micros);
        }
        event.time = Timestamp::from_unix(record.seconds, micros.unwrap_or(0) * 1000);
    }
    event.category = Some(category.into());
    event.action = Some(action.into());
    event.outcome = match record.kind {
        _ if is_failed_login => Some("failure".into()),
        7 => Some("success".into()),
        _ => None,
    };
    // The names of the records that no user is behind: `reboot`, `LOGIN`, `runlevel`.
    let is_of_a_user = is_failed_login || matches!(record.kind, 0 | 7..=9);
    event.user_name = Some(user.clone()).filter(|user| is_of_a_user && !user.is_empty());
    event.pid = Some(i64::from(pid)).filter(|pid| *pid != 0 && !matches!(record.kind, 1..=4));
    let is_of_the_host = !is_failed_login && matches!(record.kind, 1..=4);
    match (is_of_the_host, record.address) {
        (false, _) => event.src_ip = address.map(|ip| ip.to_string()),
        (true, ip) => event.attrs.put_some("address", ip.map(|ip| ip.to_string())),
    }
    put_rest(record, &mut event, &user, &line, &host);
    event
}

/// What no column holds; nothing of a record is dropped.
fn put_rest(record: &Record<'_>, event: &mut Event, user: &str, line: &str, host: &str) {
    let attrs = &mut event.attrs;
    attrs.put("type", record.kind_name());
    for (key, value) in [("line", line), ("id", &*clean(until_nul(record.id))), ("host", host)] {
        if !value.is_empty() {
            attrs.put(key, value);
        }
    }
    if event.user_name.is_none() && !user.is_empty() {
        attrs.put("user", user);
    }
    if event.pid.is_none() && record.pid != 0 {
        attrs.put("pid", record.pid);
    }
    if record.session != 0 {
        attrs.put("session", record.session);
    }
    if record.exit != (0, 0) {
        attrs.put("exit_signal", record.exit.0);
        attrs.put("exit_status", record.exit.1);
    }
    // A slot that is used again may keep the end of a longer name.
    for (key, field) in [
        ("line_remains", record.line),
        ("user_remains", record.user),
        ("host_remains", record.host),
        ("unused", record.unused),
    ] {
        let rest = if key == "unused" { field } else { field.get(until_nul(field).len()..).unwrap_or(&[]) };
        let (start, end) = (rest.iter().position(|b| *b != 0), rest.iter().rposition(|b| *b != 0));
        if let (Some(start), Some(end)) = (start, end) {
            attrs.put(key, clean(rest.get(start..=end).unwrap_or(&[])));
        }
    }
}

/// Names in failed logins are whatever was typed: what moves a cursor is shown as `\xNN`.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars()
        .map(|c| if c.is_control() { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() })
        .collect()
}

fn kernel(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!(", kernel {host}") }
}

/// `init` keeps the level in the process id: this one in the low byte, the one before above it.
fn run_level(user: &str, pid: i32, host: &str) -> String {
    let level = |byte: i32| u8::try_from(byte & 0xff).ok().filter(u8::is_ascii_graphic).map(char::from);
    let to = level(pid).map_or_else(|| "unknown".to_owned(), |c| c.to_string());
    let from = level(pid >> 8).map_or_else(String::new, |c| format!(" from {c}"));
    match user {
        "shutdown" => format!("system shutdown{}", kernel(host)),
        _ => format!("run level {to}{from}{}", kernel(host)),
    }
}

fn run_level_action(user: &str) -> &'static str {
    if user == "shutdown" { "shutdown" } else { "run-level" }
}

#[cfg(test)]
mod tests;
