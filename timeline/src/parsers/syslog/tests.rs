use proptest::prelude::*;

use super::PARSER;
use crate::event::{Event, TzBasis, YearBasis, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Parser, Probe};
use crate::parsers::sample_checks::{
    claims, every_byte_is_accounted_for, every_record_reads_alone, outside, read, samples,
};
use crate::year::YearPlan;
use crate::zone::{KnownZone, Zone};

fn context(first_year: i32) -> Context {
    Context { year: YearPlan::Forward { first_year, basis: YearBasis::Neighbour }, ..Context::default() }
}

fn sample(name: &str) -> Vec<u8> {
    samples("syslog").into_iter().find(|(n, _)| n == name).unwrap().1
}

fn times(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|e| {
            e.time.map_or_else(|| format!("? {}", e.ts_text.as_deref().unwrap_or("")), |t| t.to_rfc3339())
        })
        .collect()
}

/// Text, span and reason of one record or reject.
fn one(line: &str) -> Event {
    let mut all = read(&PARSER, line.as_bytes(), &context(2026)).events;
    assert_eq!(all.len(), 1, "{line}");
    all.remove(0)
}

#[test]
fn each_sample_is_claimed_and_counted() {
    let expected = [
        ("damaged.log", 27, 8),
        ("iso.log", 28, 0),
        ("rfc5424.log", 25, 0),
        ("traditional.log", 32, 0),
        ("year_turn.log", 25, 0),
    ];
    let all = samples("syslog");
    assert_eq!(all.len(), expected.len());
    for ((name, bytes), (expected_name, records, rejects)) in all.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!(
            claims(&PARSER, "/some/where", bytes) || name == "damaged.log",
            "{name} must be claimed by content"
        );
        assert!(claims(&PARSER, "/var/log/syslog.1", bytes), "{name}");
        let found = read(&PARSER, bytes, &context(2026));
        assert_eq!(
            (found.records(), found.rejects.len()),
            (records, rejects),
            "{name}: {:#?}",
            found.rejects
        );
        every_byte_is_accounted_for(&found, bytes);
    }
}

#[test]
fn each_record_of_the_samples_reads_the_same_from_its_bytes_alone() {
    let berlin = KnownZone { zone: Zone::from_name("Europe/Berlin").unwrap(), basis: TzBasis::HostConfig };
    for (_, bytes) in samples("syslog") {
        for year in [2025, 2026] {
            every_record_reads_alone(&PARSER, &bytes, &context(year));
        }
        every_record_reads_alone(&PARSER, &bytes, &Context { zone: berlin.clone(), ..context(2024) });
        every_record_reads_alone(&PARSER, &bytes, &Context::default());
    }
}

#[test]
fn a_record_says_host_program_time_and_what_happened() {
    let event = one(
        "<38>Nov  9 07:01:10 web01 sshd[1321]: Accepted password for alice from 198.51.100.23 port 38196 ssh2",
    );
    assert_eq!(event.time.unwrap().to_rfc3339(), "2026-11-09T07:01:10Z");
    assert_eq!((event.year_basis, event.tz_basis), (YearBasis::Neighbour, TzBasis::AssumedUtc));
    assert_eq!(event.host.as_deref(), Some("web01"));
    assert_eq!((event.process.as_deref(), event.pid), (Some("sshd"), Some(1321)));
    assert_eq!((event.provider.as_deref(), event.severity), (Some("auth"), Some(1)));
    assert_eq!((event.action.as_deref(), event.outcome.as_deref()), (Some("ssh-login"), Some("success")));
    assert_eq!((event.user_name.as_deref(), event.src_ip.as_deref()), (Some("alice"), Some("198.51.100.23")));
    assert_eq!(event.message, "sshd[1321]: Accepted password for alice from 198.51.100.23 port 38196 ssh2");
    assert_eq!(event.ts_text, None);
}

#[test]
fn the_year_turns_with_the_lines_and_late_lines_keep_the_old_one() {
    let bytes = sample("year_turn.log");
    let mut input = Input::of_record("/x", 0, bytes.clone(), std::sync::Arc::new(Vec::new()));
    let scan = PARSER.scan_years(&mut input).unwrap();
    assert_eq!((scan.turns, scan.last.map(|t| (t.month, t.day))), (2, Some((2, 29))));

    let found = times(&read(&PARSER, &bytes, &context(2023)).events);
    assert_eq!(found[0], "2023-10-30T01:00:00Z");
    assert_eq!(found[7], "2024-01-01T00:00:00Z");
    assert_eq!(found[8], "2023-12-31T23:59:59Z");
    assert_eq!(found[12], "2024-02-29T12:00:00Z");
    assert_eq!(found[22], "2025-01-02T00:00:00Z");
    assert_eq!(found[24], "? Feb 29 12:00:00");
}

#[test]
fn without_any_year_a_line_is_kept_undated_with_its_own_time() {
    let event = read(&PARSER, b"Nov  9 07:01:10 web01 a: x", &Context::default()).events.remove(0);
    assert_eq!((event.time, event.ts_text.as_deref()), (None, Some("Nov  9 07:01:10")));
}

#[test]
fn local_times_are_read_in_the_hosts_zone_and_named_offsets_as_they_stand() {
    let zone = KnownZone { zone: Zone::from_name("Europe/Berlin").unwrap(), basis: TzBasis::HostConfig };
    let context = Context { zone, ..context(2026) };
    let lines = b"Nov  9 07:00:00 web01 a: x\n2026-11-09T07:00:00 web01 a: x\n2026-11-09T07:00:00.5-07:00 web01 a: x\n";
    let events = read(&PARSER, lines, &context).events;
    assert_eq!(times(&events), ["2026-11-09T06:00:00Z", "2026-11-09T06:00:00Z", "2026-11-09T14:00:00.500Z"]);
    let bases: Vec<_> = events.iter().map(|e| (e.tz_basis, e.year_basis)).collect();
    assert_eq!(
        bases,
        [
            (TzBasis::HostConfig, YearBasis::Neighbour),
            (TzBasis::HostConfig, YearBasis::InRecord),
            (TzBasis::InRecord, YearBasis::InRecord)
        ]
    );
}

#[test]
fn impossible_times_are_kept_undated_and_leap_seconds_keep_their_text() {
    let found = times(&read(&PARSER, &sample("damaged.log"), &context(2026)).events);
    for undated in ["? Nov 31 10:00:06", "? Feb 30 10:00:06", "? Nov  9 25:61:61", "? Nov  0 10:00:07"] {
        assert!(found.iter().any(|t| t == undated), "{undated}: {found:#?}");
    }
    assert!(
        found.iter().any(|t| t == "2026-11-09T10:00:19Z"),
        "30 February must not turn the year: {found:#?}"
    );
    let leap = one("Nov  9 23:59:60 web01 a: x");
    assert_eq!(leap.time.unwrap().to_rfc3339(), "2026-11-09T23:59:59Z");
    assert_eq!(leap.ts_text.as_deref(), Some("Nov  9 23:59:60"));
}

#[test]
fn lines_without_a_date_continue_a_record_only_if_they_can_be_its_text() {
    let found = read(&PARSER, &sample("damaged.log"), &context(2026));
    let reasons: Vec<&str> = found.rejects.iter().map(|(_, reason)| &**reason).collect();
    assert_eq!(
        reasons,
        [
            "no date, and no record before it to continue",
            "no date, and no record before it to continue",
            "no date, and no record before it to continue",
            "no readable date",
            "no readable date",
            "no readable date",
            "no date, and not plain text",
            "no date, and not plain text",
        ]
    );
    let event = found.events.iter().find(|e| e.message.contains("a message")).unwrap();
    assert_eq!(event.message, "app[1]: a message with an indented line and one that is not");
    assert_eq!(event.attrs.to_json(), r#"{"lines":3}"#);
}

#[test]
fn an_overlong_record_is_cut_and_says_so() {
    let long =
        format!("Nov  9 07:00:00 web01 a: {}\nNov  9 07:00:01 web01 a: y\n", "x".repeat(2 * LONGEST_LINE));
    let events = read(&PARSER, long.as_bytes(), &context(2026)).events;
    assert_eq!(events.iter().map(|e| e.flags).collect::<Vec<_>>(), [flags::TRUNCATED, 0]);
    every_record_reads_alone(&PARSER, long.as_bytes(), &context(2026));

    let mut many = b"Nov  9 07:00:00 web01 a: x\n".to_vec();
    many.extend(b"\tmore\n".repeat(LONGEST_LINE / 4));
    let found = read(&PARSER, &many, &context(2026));
    assert!(found.events[0].message.len() <= LONGEST_LINE);
    assert!(!found.rejects.is_empty());
}

#[test]
fn other_logs_are_left_to_their_own_parsers() {
    let others: [&[u8]; 8] = [
        b"2026-11-09 06:25:01 startup archives unpack\n2026-11-09 06:25:02 install curl:amd64 <none> 7.88.1\n",
        b"2016-10-06T00:17:09.669794202Z stdout F The content: 1\n2016-10-06T00:17:09.669794203Z stdout F x\n",
        b"2015-05-13T23:39:43.945958Z my-loadbalancer 192.0.2.39:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200\n",
        b"Nov 11 06:25:01 Installed: curl-7.29.0-59.el7.x86_64\nNov 11 06:25:02 Updated: openssl-1.0.1e\n",
        b"type=LOGIN msg=audit(1337845201.174:94983): pid=25443 uid=0\n",
        b"Mon Jun  6 18:43:28 2016 [pid 3] CONNECT: Client \"192.0.2.1\"\n",
        b"192.0.2.1 - - [09/Nov/2026:06:25:01 +0000] \"GET / HTTP/1.1\" 200 5\n",
        b"",
    ];
    for other in others {
        assert!(!claims(&PARSER, "/x", other), "{}", String::from_utf8_lossy(other));
    }
    let script = b"#!/bin/sh\n# Nov 9\necho hello\nset -e\ncd /\nls\nNov  9 07:00:00 web01 a: x\n";
    assert!(!claims(&PARSER, "/x", script));
}

#[test]
fn only_files_without_years_wait_for_their_neighbours() {
    for (name, bytes) in samples("syslog") {
        let head = bytes.get(..4096).unwrap_or(&bytes);
        let probe = Probe { path: "/x", head, size: Some(bytes.len() as u64) };
        assert_eq!(PARSER.is_yearless(&probe), !matches!(&*name, "iso.log" | "rfc5424.log"), "{name}");
    }
}

#[test]
fn real_syslog_files_give_the_counts_that_are_known() {
    let expected = [
        ("syslog__syslog", 16, 1),
        ("syslog__syslog_cron.log", 9, 0),
        ("syslog__syslog_ssh.log", 9, 0),
        ("syslog__syslog_chromeos", 8, 0),
        ("syslog__syslog_rsyslog", 5, 0),
        ("syslog__syslog_rsyslog_SyslogProtocol23Format", 9, 0),
        ("syslog__syslog_rsyslog_SysklogdFileFormat", 9, 0),
        ("syslog__syslog_rsyslog_traditional", 8, 0),
        ("syslog__syslog_osx", 2, 0),
    ];
    for (name, records, rejects) in expected {
        let Some(bytes) = outside(&format!("linux/{name}")) else { return };
        assert!(claims(&PARSER, &format!("/{name}"), &bytes), "{name}");
        let found = read(&PARSER, &bytes, &context(2012));
        assert_eq!(
            (found.records(), found.rejects.len()),
            (records, rejects),
            "{name}: {:#?}",
            found.rejects
        );
        assert_eq!(found.events.len(), records);
        every_byte_is_accounted_for(&found, &bytes);
        every_record_reads_alone(&PARSER, &bytes, &context(2012));
    }
}

#[test]
fn a_sample_cut_anywhere_gives_events_and_rejects_and_never_a_panic() {
    for (_, bytes) in samples("syslog") {
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            claims(&PARSER, "/var/log/syslog", cut);
            every_byte_is_accounted_for(&read(&PARSER, cut, &context(2026)), cut);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic_and_records_still_read_alone(
        which in 0usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let (_, mut bytes) = samples("syslog").remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        every_byte_is_accounted_for(&read(&PARSER, &bytes, &context(2026)), &bytes);
        every_record_reads_alone(&PARSER, &bytes, &context(2026));
    }

    #[test]
    fn any_message_of_any_program_is_read_without_panic(
        program in "(sshd|sudo|su|CRON|kernel|systemd|useradd|login|pkexec|doas|gpasswd|systemd-logind)",
        message in "(Accepted|Failed|Invalid|from|for|by|user|port|\\(|\\)|\\[|\\]|:|;|=|'| |SRC=|DST=|TTY=|COMMAND=|CMD|é|[0-9.]){0,30}",
    ) {
        let line = format!("Nov  9 10:00:00 web01 {program}[1]: {message}");
        prop_assert_eq!(read(&PARSER, line.as_bytes(), &context(2026)).events.len(), 1);
    }
}
