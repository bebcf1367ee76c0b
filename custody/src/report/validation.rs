//! Part 10: the program, its builds, and what was tested where it was used.

use std::collections::BTreeMap;

use serde_json::Value;

use super::answers;
use super::blocks::{Line, fact, hashes, list, numbers, part, row, table, times, toned, words};
use super::document::{Block, Cite, NO_RECORD, Part, Span, Tone};
use super::material::Material;
use super::{text, units};
use crate::entry::EntryType;

/// What each assertion of the self-test says, in the order that they are tried.
const ASSERTIONS: [(&str, &str); 12] = [
    ("HASH", "both implementations of SHA-256 agree with the standard"),
    ("AM-06", "every sector is acquired, at any size"),
    ("AM-08", "every sector is in its place"),
    ("AM-09", "bad sectors are told, exactly and with their error"),
    ("AM-10", "only bad sectors are filled, with zeros"),
    ("AO-06", "what is unchanged is said to be unchanged"),
    ("AO-07", "what is changed is said to be changed, and where"),
    ("AO-22", "the table of chunks agrees with an independent hash"),
    ("AO-24", "the source stays as it was"),
    ("X1", "interrupted and resumed, the hash is the same"),
    ("X2", "sectors that read only when tried again are told"),
    ("X3", "a source that shrinks is told, and nothing is lost"),
];

pub(super) fn validation(m: &Material) -> Part {
    let mut tools: BTreeMap<[String; 3], (u64, String, Option<Cite>)> = BTreeMap::new();
    for (log, entry) in m.entries() {
        let build = entry.tool.build_sha256.map_or_else(|| NO_RECORD.to_owned(), |hash| hash.to_string());
        let key = [entry.tool.name.clone(), entry.tool.version.clone(), build];
        if tools.len() > 1000 && !tools.contains_key(&key) {
            continue;
        }
        let of = tools.entry(key).or_default();
        of.0 += 1;
        if of.1.is_empty() || entry.time.wall < of.1 {
            of.1.clone_from(&entry.time.wall);
            of.2 = Some(log.cite(entry.seq));
        }
    }
    let rows = tools.into_iter().map(|([name, version, build], (count, first, cite))| {
        let cite = cite.map(|cite| cite.to_string()).unwrap_or_default();
        let mut row = row([name, version, build.clone(), units::thousands(count), units::time(&first), cite]);
        if let Some(cell) = row.cells.get_mut(2).filter(|_| build != NO_RECORD) {
            *cell = vec![Span::mono(text::cell(&build))];
        }
        row
    });
    let columns = vec![
        words("Program", 2),
        words("Version", 2),
        hashes("SHA-256 of the program file", 8),
        numbers("Entries", 2),
        times("First used (UTC)"),
        words("First entry", 2),
    ];
    let mut blocks = table("Every program that wrote an entry", columns, rows, "custody.jsonl");
    blocks.push(Block::Heading("Tested on the machine where it was used?".to_owned()));
    blocks.push(list(m.exhibits.iter().map(|x| answers::tested(m, x)).collect(), "custody.jsonl"));
    for (log, entry) in m.of(&[EntryType::SELFTEST_RESULT]).take(10) {
        let Some(found) = entry.about.result.get("assertions").and_then(Value::as_object) else { continue };
        let rows = found.iter().map(|(id, verdict)| {
            let words = ASSERTIONS.iter().find(|(known, _)| known == id).map_or("", |(_, words)| *words);
            let verdict = super::words::plain(verdict);
            let holds = verdict == "holds";
            toned(row([id, words, &verdict]), if holds { Tone::Plain } else { Tone::Bad })
        });
        let host = if entry.host.name.is_empty() { "an unnamed machine" } else { &entry.host.name };
        let caption = format!(
            "Self-test {} on {}, {} {}, {}",
            log.cite(entry.seq),
            text::cell(host),
            text::cell(&entry.tool.name),
            text::cell(&entry.tool.version),
            units::time_utc(&entry.time.wall)
        );
        let columns = vec![words("Id", 2), words("Assertion", 9), words("Found", 4)];
        blocks.extend(table(caption, columns, rows, "custody.jsonl"));
    }
    blocks.push(
        Line::of(
            "AM and AO are assertions of the test plan for disk imaging of NIST's Computer Forensics Tool Testing programme; those \
             with X are further ones. They were tried on made sources with known content and known bad sectors, where an answer \
             can be compared with the truth.",
        )
        .block(),
    );
    blocks.push(Block::Facts(vec![
        fact("Known error rate", "", &[]),
        fact("Test by an independent body of this version", "", &[]),
        fact("Accreditation for this method", "", &[]),
    ]));
    blocks.push(Block::Heading("Known issues of these versions".to_owned()));
    let notices: Vec<Line> = m
        .of(&[EntryType::TOOL_NOTICE])
        .map(|(log, entry)| {
            Line::default()
                .bad("Notice: ")
                .say(text::long(&super::words::told(entry)))
                .cite([log.cite(entry.seq)])
        })
        .collect();
    blocks.push(if notices.is_empty() {
        Line::of("No notice about a fault of these versions is in the logs: ").no_record().say(".").block()
    } else {
        list(notices, "custody.jsonl")
    });
    part(10, "tool", "Tool validation", "Which tool, and was it tested?", blocks)
}
