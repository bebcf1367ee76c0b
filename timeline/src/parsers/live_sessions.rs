//! Who was on a live system when it was captured: logins, sessions, terminals, tmux and screen, queued jobs.
//!
//! - Found at: `/V4/sessions.jsonl` of the stream `commands`.
//! - Known by: a first line with the format `exhibit-live-sessions/1`.
//! - Times: UTC. "Recorded Time" is when it was seen, "Start Time" since when it is so, as its record says, "Last Access
//!   Time" the last input of a terminal, "Content Modification Time" its last output, or when a socket, job or table was
//!   last changed, "Scheduled to Start Time" when an `at` job is due.
//! - Reference: `acquire/src/triage/sessions.rs`.

use super::live_table::{Row, dated, is_table, parse};
use crate::error::ReadError;
use crate::event::{Event, Precision};
use crate::parser::{Context, Input, Line, Parser, Probe, Sink};

pub(super) struct LiveSessions;
pub(super) static PARSER: LiveSessions = LiveSessions;

impl Parser for LiveSessions {
    fn name(&self) -> &'static str {
        "live_sessions"
    }

    fn reads(&self) -> &'static str {
        "logins, sessions and terminals of a live system, from the table of a live triage"
    }

    fn times(&self) -> &'static str {
        "Recorded Time, Start Time, Last Access Time, Content Modification Time, Scheduled to Start Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        is_table(probe, "exhibit-live-sessions/1", "V4/sessions.jsonl", "kind")
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        parse(input, self, out, |row, line| session(row, line, context))
    }
}

fn session(mut row: Row, line: &Line<'_>, context: &Context) -> Result<Vec<Event>, &'static str> {
    let Some(kind) = row.word("kind").map(str::to_owned) else { return Err("a session without its kind") };
    let told = row.text("user");
    let by_uid = row.peek("uid").and_then(|uid| u32::try_from(uid).ok()).and_then(|uid| context.user(uid));
    let user = told.or_else(|| by_uid.map(str::to_owned));
    let whose = match (&user, row.peek("uid")) {
        (Some(user), _) => format!(" of {user}"),
        (None, Some(uid)) => format!(" of uid {uid}"),
        (None, None) => String::new(),
    };
    let path = row.text("path");
    let (tty, host) = (row.word("tty"), row.word("remote_host"));
    let ip = row.word("remote_ip").or_else(|| host.filter(|host| host.parse::<std::net::IpAddr>().is_ok()));
    let ip = ip.map(str::to_owned);
    let on = tty.filter(|tty| !tty.is_empty()).map(|tty| format!(" on {tty}")).unwrap_or_default();
    let from = host.or(ip.as_deref()).map(|host| format!(" from {host}")).unwrap_or_default();
    let at = match kind.as_str() {
        "login" | "session" | "user" | "terminal" => String::new(),
        _ => path.as_deref().map(|path| format!(" at {path}")).unwrap_or_default(),
    };
    let subject = format!("{kind}{whose}{on}{from}{at}");
    let is_login = matches!(kind.as_str(), "login" | "session");
    let pid = row.number("pid");
    // A kernel or program of its own wrote these: microseconds; inodes have nanoseconds.
    let precision = if is_login || kind == "user" { Precision::Us } else { Precision::Ns };
    let times = [
        ("Recorded Time", "session-seen", "seen", row.time("observed"), Precision::Ns),
        ("Start Time", "session-started", "began, and was still there", row.time("since"), precision),
        ("Content Modification Time", "session-changed", "last changed", row.time("changed"), Precision::Ns),
        ("Last Access Time", "terminal-input", "last input", row.time("last_input"), Precision::Ns),
        (
            "Content Modification Time",
            "terminal-output",
            "last output",
            row.time("last_output"),
            Precision::Ns,
        ),
        ("Scheduled to Start Time", "job-due", "is due", row.time("due"), Precision::Min),
    ];
    let attrs = row.rest();
    let of_time = |(ts_desc, action, words, time, precision): (&'static str, &'static str, &str, _, _)| {
        let message = format!("{subject}: {words}");
        let mut event = dated(Event::new("linux:session", ts_desc, line.span, message), time, precision);
        event.category = Some(if is_login { "authentication" } else { "session" }.into());
        event.action = Some(action.into());
        event.user_name = user.clone();
        event.pid = pid;
        event.path = path.clone();
        event.src_ip = ip.clone();
        event.attrs = attrs.clone();
        event
    };
    let dated: Vec<Event> = times.into_iter().filter(|time| time.3.is_some()).map(of_time).collect();
    if dated.is_empty() {
        return Ok(vec![of_time(("Recorded Time", "session-seen", "seen", None, Precision::Ns))]);
    }
    Ok(dated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parsers::sample_checks::{every_byte_is_accounted_for, every_record_reads_alone, read};

    const TABLE: &str = concat!(
        "{\"format\":\"exhibit-live-sessions/1\",\"observed\":\"2026-11-21T01:30:00.000000000Z\"}\n",
        "{\"kind\":\"login\",\"observed\":\"2026-11-21T01:30:00.000000000Z\",\"path\":\"/run/utmp\",\"pid\":4242,\"remote_host\":\"203.0.113.9\",\"since\":\"2026-11-21T00:13:20.123456000Z\",\"tty\":\"pts/0\",\"user\":\"alice\"}\n",
        "{\"due\":\"2026-11-29T02:40:00.000000000Z\",\"kind\":\"at-job\",\"path\":\"/var/spool/at/a1\",\"uid\":0}\n",
        "{\"kind\":\"terminal\",\"path\":\"/dev/pts/0\",\"since\":\"never\"}\n{\"observed\":\"2026-11-21T01:30:00Z\"}\n",
    );

    #[test]
    fn a_login_gives_when_it_was_seen_and_since_when_it_lasts() {
        let out = read(&PARSER, TABLE.as_bytes(), &Context::default());
        let rows: Vec<_> = out
            .events
            .iter()
            .map(|e| (e.ts_desc.as_ref(), e.time.map(|t| t.to_rfc3339()), e.message.as_str()))
            .collect();
        let time = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows,
            [
                (
                    "Recorded Time",
                    time("2026-11-21T01:30:00Z"),
                    "login of alice on pts/0 from 203.0.113.9: seen"
                ),
                (
                    "Start Time",
                    time("2026-11-21T00:13:20.123456Z"),
                    "login of alice on pts/0 from 203.0.113.9: began, and was still there"
                ),
                (
                    "Scheduled to Start Time",
                    time("2026-11-29T02:40:00Z"),
                    "at-job of uid 0 at /var/spool/at/a1: is due"
                ),
                ("Recorded Time", None, "terminal: seen"),
            ]
        );
        assert_eq!((out.events[0].src_ip.as_deref(), out.events[0].pid), (Some("203.0.113.9"), Some(4242)));
        assert_eq!(out.events[3].attrs.to_json(), r#"{"kind":"terminal","since":"never"}"#);
        assert_eq!(out.rejects[0].1, "a session without its kind");
        every_record_reads_alone(&PARSER, TABLE.as_bytes(), &Context::default());
        every_byte_is_accounted_for(&out, TABLE.as_bytes());
    }
}
