//! Part 13: how the times are known: clocks, zones, boots, time services, and what others vouch for.

use std::collections::BTreeMap;

use super::blocks::{Line, fact, list, numbers, part, row, table, times, words};
use super::document::{Block, Part, Row};
use super::material::{Log, Material};
use super::{integrity, text, units};
use crate::entry::Entry;

/// Entries that do not say that a time service kept the clock right.
pub(super) fn unsynchronised(m: &Material) -> u64 {
    let right =
        |entry: &Entry| entry.time.sync.as_ref().is_some_and(|sync| sync.state.starts_with("synchron"));
    u64::try_from(m.entries().filter(|(_, entry)| !right(entry)).count()).unwrap_or(u64::MAX)
}

/// Where the clock went back between two entries of a log.
pub(super) fn backward_steps(log: &Log) -> Vec<Line> {
    let pairs = log.entries.iter().zip(log.entries.iter().skip(1));
    let steps = pairs.filter_map(|(before, after)| {
        let passed = units::between(&before.time.wall, &after.time.wall).filter(|passed| *passed < 0)?;
        let words =
            format!("Log of {}: the clock went back by {} here.", log.title(), units::duration(passed));
        Some(Line::default().bad(words).cite([log.cite(before.seq), log.cite(after.seq)]))
    });
    steps.take(10).collect()
}

/// One boot of one machine, as the entries of a log tell it.
#[derive(Default)]
struct Boot {
    machine: String,
    entries: u64,
    first: u64,
    last: u64,
    from: String,
    to: String,
    zones: Vec<i32>,
    states: BTreeMap<String, u64>,
    /// The largest difference between what the wall clock and the steady clock say passed, in nanoseconds.
    drift: i64,
    before: Option<(i64, i64)>,
}

pub(super) fn time(m: &Material) -> Part {
    let mut rows: Vec<Row> = Vec::new();
    let mut lines = Vec::new();
    for log in m.logs() {
        let mut boots: Vec<(String, Boot)> = Vec::new();
        for entry in &log.entries {
            boot_of(&mut boots, entry);
        }
        rows.extend(boots.iter().map(|(id, boot)| boot_row(log, id, boot)));
        lines.extend(backward_steps(log));
    }
    let columns = vec![
        words("Log", 2),
        words("Machine", 3),
        words("Boot", 5),
        words("Entries", 2),
        times("First (UTC)"),
        times("Last (UTC)"),
        words("Zone", 3),
        words("Time service", 4),
        numbers("Clock moved by", 3),
    ];
    let mut blocks = vec![
        Line::of(
            "Each entry carries the machine's wall clock, its steady clock, the number of its boot and what its time service said. \
             Within one boot the steady clock cannot be set: where it and the wall clock disagree, the wall clock was moved by \
             that much.",
        )
        .block(),
    ];
    blocks.extend(table("Clocks", columns, rows, "custody.jsonl"));
    if !lines.is_empty() {
        blocks.push(list(lines, "custody.jsonl"));
    }
    blocks.push(Block::Facts(facts(m)));
    blocks.push(Block::Heading("Times that others vouch for".to_owned()));
    blocks.extend(integrity::windows(m));
    part(13, "time", "Time evidence", "How do you know when?", blocks)
}

fn boot_of(boots: &mut Vec<(String, Boot)>, entry: &Entry) {
    let id = entry.time.boot.clone().unwrap_or_default();
    let known = boots.iter().rposition(|(known, boot)| *known == id && boot.machine == entry.host.name);
    let at = known.unwrap_or_else(|| {
        let boot = Boot {
            machine: entry.host.name.clone(),
            first: entry.seq,
            from: entry.time.wall.clone(),
            ..Boot::default()
        };
        boots.push((id, boot));
        boots.len() - 1
    });
    let Some((_, boot)) = boots.get_mut(at) else { return };
    boot.entries += 1;
    boot.last = entry.seq;
    boot.to.clone_from(&entry.time.wall);
    if !boot.zones.contains(&entry.time.tz_min) && boot.zones.len() < 4 {
        boot.zones.push(entry.time.tz_min);
    }
    let state = entry.time.sync.as_ref().map_or_else(
        || "not recorded".to_owned(),
        |sync| {
            let offset = sync.offset_us.map(|us| format!(", offset {us} µs")).unwrap_or_default();
            format!("{} {}{offset}", sync.source, sync.state)
        },
    );
    if boot.states.len() < 4 || boot.states.contains_key(&state) {
        *boot.states.entry(state).or_default() += 1;
    }
    let wall = crate::clock::parse_rfc3339(&entry.time.wall).ok();
    if let Some((wall, steady)) = wall.zip(entry.time.mono_ns.parse::<i64>().ok()) {
        if let Some((wall_before, steady_before)) = boot.before {
            let moved = wall.saturating_sub(wall_before).saturating_sub(steady.saturating_sub(steady_before));
            if moved.unsigned_abs() > boot.drift.unsigned_abs() {
                boot.drift = moved;
            }
        }
        boot.before = Some((wall, steady));
    }
}

fn boot_row(log: &Log, id: &str, boot: &Boot) -> Row {
    let zone = |minutes: &i32| {
        let sign = if *minutes < 0 { '-' } else { '+' };
        let minutes = minutes.unsigned_abs();
        format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    };
    let states: Vec<String> = boot.states.iter().map(|(state, n)| format!("{state} ({n})")).collect();
    let sign = if boot.drift < 0 { "-" } else { "+" };
    row([
        log.title(),
        boot.machine.clone(),
        id.to_owned(),
        if boot.first == boot.last {
            boot.first.to_string()
        } else {
            format!("{}–{}", boot.first, boot.last)
        },
        units::time(&boot.from),
        units::time(&boot.to),
        boot.zones.iter().map(zone).collect::<Vec<_>>().join(", "),
        text::cell(&states.join("; ")),
        if boot.entries < 2 { String::new() } else { format!("{sign}{}", units::duration(boot.drift)) },
    ])
}

fn facts(m: &Material) -> Vec<super::document::Fact> {
    let offset = m.entries().find_map(|(log, entry)| {
        let offset =
            entry.about.result.get("clock_offset").or_else(|| entry.about.how.get("clock_offset"))?;
        Some((super::words::plain(offset), vec![log.cite(entry.seq)]))
    });
    let (offset, cites) = offset.unwrap_or_default();
    let measured =
        m.entries().any(|(_, entry)| entry.time.sync.as_ref().is_some_and(|sync| sync.offset_us.is_some()));
    let about_offset = if measured { "in the table above, per boot" } else { "" };
    vec![
        fact("Clock of the source against a reference", &offset, &cites),
        fact("Measured offset of the acquiring machine", about_offset, &[]),
        fact("Earliest time that can be shown (a fresh public value in an entry)", "", &[]),
        fact(
            "State of the logs at",
            &m.entries()
                .map(|(_, entry)| &entry.time.wall)
                .max()
                .map(|time| units::time_utc(time))
                .unwrap_or_default(),
            &[],
        ),
    ]
}
