//! Processes that were running when a live system was captured: when each was started, by whom, and as what.
//!
//! - Found at: `/V2/processes.jsonl` of the stream `commands`.
//! - Known by: a first line with the format `exhibit-live-processes/1`.
//! - Times: UTC. The start is computed: the wall clock when it was captured, less the time since boot, plus the start in
//!   ticks after boot. It is right to about 20 ms as far as that clock was, so its precision is said to be a second.
//! - Not read: the raw files of each process, which lie beside the table.
//! - Reference: `acquire/src/triage/processes.rs`.
//!
//! A process whose start is not known (a hidden one) gives a row at the time it was seen.

use super::live_table::{Row, dated, is_table, of_deleted, parse, who};
use crate::error::ReadError;
use crate::event::{Event, Precision, Timestamp};
use crate::parser::{Context, Input, Line, Parser, Probe, Sink};

pub(super) struct LiveProcesses;
pub(super) static PARSER: LiveProcesses = LiveProcesses;

impl Parser for LiveProcesses {
    fn name(&self) -> &'static str {
        "live_processes"
    }

    fn reads(&self) -> &'static str {
        "processes of a live system, from the table of a live triage"
    }

    fn times(&self) -> &'static str {
        "Start Time (computed from the boot), Recorded Time (of a process whose start is unknown)"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        is_table(probe, "exhibit-live-processes/1", "V2/processes.jsonl", "pid")
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        parse(input, self, out, |row, line| process(row, line, context).map(|event| vec![event]))
    }
}

fn process(mut row: Row, line: &Line<'_>, context: &Context) -> Result<Event, &'static str> {
    let Some(pid) = row.number("pid") else { return Err("a process without its number") };
    let start = row.time("start");
    let seen = row.word("observed").unwrap_or("an unknown time").to_owned();
    let name = row.text("name");
    let user = row.peek("uid").and_then(|uid| u32::try_from(uid).ok()).and_then(|uid| context.user(uid));
    let user = user.map(str::to_owned);
    let by = who(user.as_deref(), row.peek("uid")).map(|who| format!(" of {who}")).unwrap_or_default();
    let command = row.text("cmdline");
    let shown = name.as_deref().unwrap_or("a process of unknown name");
    let what = command.as_deref().map(|line| format!(": {line}")).unwrap_or_default();
    let deleted = row.has("exe_deleted");
    let mut oddities = String::new();
    for (key, words) in [
        ("exe_in_memory", "; its executable is in memory alone"),
        ("exe_deleted", "; its executable is deleted"),
        ("hidden", "; it is hidden"),
    ] {
        if row.has(key) && !(key == "exe_deleted" && row.has("exe_in_memory")) {
            oddities.push_str(words);
        }
    }
    let (ts_desc, action, message) = match start {
        Some(_) => (
            "Start Time",
            "process-started",
            format!("{shown}[{pid}]{by} started, running at {seen}{what}{oddities}"),
        ),
        None => ("Recorded Time", "process-seen", format!("{shown}[{pid}]{by} seen{what}{oddities}")),
    };
    let time: Option<Timestamp> = start.or_else(|| row.time("observed"));
    let precision = if start.is_some() { Precision::S } else { Precision::Ns };
    let mut event = dated(Event::new("linux:process", ts_desc, line.span, message), time, precision);
    event.category = Some("process".into());
    event.action = Some(action.into());
    event.process = name;
    event.pid = Some(pid);
    event.user_name = user;
    event.command = command;
    event.path = row.text("exe");
    event.inode = row.number("exe_inode");
    event.size = row.number("exe_size");
    event.container = row.text("container");
    event.attrs = row.rest();
    Ok(of_deleted(event, deleted))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::event::flags;
    use crate::parsers::sample_checks::{
        claims, every_byte_is_accounted_for, every_record_reads_alone, read,
    };

    const TABLE: &str = concat!(
        "{\"boot\":\"2026-11-21T01:00:00.000000000Z\",\"format\":\"exhibit-live-processes/1\"}\n",
        "{\"cmdline\":\"/tmp/x -c\",\"exe\":\"/tmp/x\",\"exe_deleted\":true,\"name\":\"x\",\"observed\":\"2026-11-21T01:30:00.000000000Z\",\"pid\":42,\"ppid\":1,\"start\":\"2026-11-21T01:22:03.250000000Z\",\"uid\":1000}\n",
        "{\"hidden\":\"not listed by /proc, known to kill(pid, 0)\",\"observed\":\"2026-11-21T01:30:01.000000000Z\",\"pid\":777}\n",
        "{\"name\":\"no number\"}\n{\"pid\":\n[1]\n",
    );

    fn context() -> Context {
        Context { users: Arc::new(BTreeMap::from([(1000, "alice".to_owned())])), ..Context::default() }
    }

    #[test]
    fn a_process_gives_its_start_and_a_hidden_one_when_it_was_seen() {
        let out = read(&PARSER, TABLE.as_bytes(), &context());
        let [first, hidden] = &out.events[..] else { panic!("{:?}", out.events) };
        assert_eq!(first.time.unwrap().to_rfc3339(), "2026-11-21T01:22:03.250Z");
        assert_eq!((first.ts_precision, first.user_name.as_deref()), (Precision::S, Some("alice")));
        assert_eq!(first.flags, flags::DELETED);
        assert_eq!(
            first.message,
            "x[42] of alice started, running at 2026-11-21T01:30:00.000000000Z: /tmp/x -c; its executable is deleted"
        );
        assert_eq!(hidden.ts_desc, "Recorded Time");
        assert_eq!(hidden.time.unwrap().to_rfc3339(), "2026-11-21T01:30:01Z");
        let reasons: Vec<_> = out.rejects.iter().map(|(_, why)| why.as_ref()).collect();
        assert_eq!(
            reasons,
            [
                "a process without its number",
                "JSON that is cut short, in a table of live_processes",
                "JSON that is no object, in a table of live_processes"
            ]
        );
        every_record_reads_alone(&PARSER, TABLE.as_bytes(), &context());
        every_byte_is_accounted_for(&out, TABLE.as_bytes());
    }

    #[test]
    fn the_table_is_known_by_its_first_line_or_by_its_name_and_a_row() {
        assert!(claims(&PARSER, "/anything", TABLE.as_bytes()));
        let (_, rows) = TABLE.split_once('\n').unwrap();
        let headless = format!("{{\"boo\n{rows}");
        assert!(claims(&PARSER, "/V2/processes.jsonl", headless.as_bytes()));
        assert!(!claims(&PARSER, "/srv/pids.jsonl", rows.as_bytes()));
        assert!(!claims(&PARSER, "/V2/processes.jsonl", b"{\"a\":1}\n"));
    }
}
