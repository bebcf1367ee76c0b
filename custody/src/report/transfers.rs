//! Part 12: handovers, accesses, what left the case, and every entry of every log.

use serde_json::Value;

use super::answers::actor;
use super::blocks::{fact, part, row, table, times, toned, words};
use super::document::{Block, Column, NO_RECORD, Part, Tone};
use super::material::Material;
use super::{text, units};
use crate::entry::{Entry, EntryType};

/// Acts by which evidence was looked at or into.
const ACCESS: [EntryType; 7] = [
    EntryType::ACCESS_OPEN,
    EntryType::VERIFY_RESULT,
    EntryType::TIMELINE_BUILT,
    EntryType::QUERY_RUN,
    EntryType::COPY_MADE,
    EntryType::EXPORT_MADE,
    EntryType::REPORT_ISSUED,
];
/// Acts of a handover.
const HANDOVER: [EntryType; 3] =
    [EntryType::TRANSFER_OFFERED, EntryType::TRANSFER_ACCEPTED, EntryType::TRANSFER_REFUSED];

pub(super) fn transfers(m: &Material) -> Part {
    let mut blocks = vec![Block::Heading("Handovers".to_owned())];
    if m.of(&HANDOVER).next().is_none() {
        blocks.push(Block::Facts(vec![fact(
            "Handovers from one person to another",
            "none is recorded",
            &[],
        )]));
    } else {
        let rows = m.of(&HANDOVER).map(|(log, entry)| {
            let why = entry.about.why.as_ref().map(|why| why.purpose.clone()).filter(|text| !text.is_empty());
            let from_to =
                [entry.how_text("from"), entry.how_text("to").or_else(|| entry.how_text("to_name"))];
            let signed = signatures(entry);
            let row = row([
                log.cite(entry.seq).to_string(),
                units::time(&entry.time.wall),
                super::words::act(&entry.kind).to_owned(),
                actor(entry),
                from_to.iter().flatten().map(|name| text::cell(name)).collect::<Vec<_>>().join(" to "),
                ["place", "means", "seal"]
                    .iter()
                    .filter_map(|key| Some(format!("{key}: {}", entry.how_text(key)?)))
                    .collect::<Vec<_>>()
                    .join(", "),
                why.or_else(|| entry.how_text("purpose").map(ToOwned::to_owned))
                    .unwrap_or_else(|| NO_RECORD.to_owned()),
                signed.clone(),
            ]);
            toned(row, if signed == NO_SIGNATURE { Tone::Warn } else { Tone::Plain })
        });
        let columns = vec![
            words("Entry", 2),
            times("Time (UTC)"),
            words("Act", 3),
            words("By", 4),
            words("From, to", 4),
            words("Place, means, seal", 4),
            words("Purpose", 3),
            words("Signed by", 4),
        ];
        blocks.extend(table("Handovers", columns, rows, "custody.jsonl"));
    }
    blocks.push(Block::Heading("Access".to_owned()));
    let rows = m.of(&ACCESS).map(|(log, entry)| {
        let exhibit = entry.about.exhibit.clone().or_else(|| entry.how_text("bundle").map(ToOwned::to_owned));
        let why = entry.about.why.as_ref().map(|why| why.purpose.clone()).filter(|text| !text.is_empty());
        row([
            log.cite(entry.seq).to_string(),
            units::time(&entry.time.wall),
            super::words::act(&entry.kind).to_owned(),
            exhibit.unwrap_or_else(|| "the case".to_owned()),
            actor(entry),
            why.unwrap_or_else(|| NO_RECORD.to_owned()),
            super::words::told(entry),
        ])
    });
    let columns = vec![
        words("Entry", 2),
        times("Time (UTC)"),
        words("Act", 3),
        words("Exhibit", 3),
        words("By", 4),
        words("Why", 3),
        words("What", 7),
    ];
    blocks.extend(table("Every time that evidence was read", columns, rows, "custody.jsonl"));
    blocks.push(Block::Heading("What left the case, and what is kept".to_owned()));
    blocks.extend(aftermath(m));
    blocks.push(Block::Heading("The case's log, entry by entry".to_owned()));
    let rows = m.log.entries.iter().map(|entry| {
        row([
            entry.seq.to_string(),
            units::time(&entry.time.wall),
            super::words::act(&entry.kind).to_owned(),
            entry.about.exhibit.clone().unwrap_or_default(),
            actor(entry),
            super::words::told(entry),
        ])
    });
    let columns: Vec<Column> = vec![
        words("Entry", 1),
        times("Time (UTC)"),
        words("Act", 3),
        words("Exhibit", 2),
        words("By", 4),
        words("What", 8),
    ];
    blocks.extend(table("Log \"case\"; part 7 has the logs of the exhibits", columns, rows, "custody.jsonl"));
    part(12, "transfers", "Transfers and access", "Whose hands did it go through?", blocks)
}

const NO_SIGNATURE: &str = "nobody beside the log's key";

/// Who signed beside the key of the log.
fn signatures(entry: &Entry) -> String {
    let names: Vec<String> = entry
        .about
        .party_sigs
        .iter()
        .map(|sig| {
            let text = |name: &str| sig.get(name).and_then(Value::as_str).unwrap_or_default();
            let name = if text("name").is_empty() { text("fingerprint") } else { text("name") };
            text::cell(&format!("{} {name}", text("role")))
        })
        .collect();
    if names.is_empty() { NO_SIGNATURE.to_owned() } else { names.join("; ") }
}

/// Retention, disposal and disclosure.
fn aftermath(m: &Material) -> Vec<Block> {
    let kinds = [
        EntryType::DISCLOSURE_MADE,
        EntryType::RETENTION_SET,
        EntryType::ITEM_DISPOSED,
        EntryType::CASE_CLOSED,
    ];
    let mut facts = Vec::new();
    for (kind, label) in
        kinds.iter().zip(["Given to another party", "Retention", "Disposed of or returned", "Case closed"])
    {
        let mut entries = m.entries().filter(|(_, entry)| entry.kind == *kind).peekable();
        if entries.peek().is_none() {
            facts.push(fact(label, "", &[]));
        }
        for (log, entry) in entries.take(100) {
            let words = format!(
                "{}, {}: {}",
                units::time_utc(&entry.time.wall),
                actor(entry),
                super::words::told(entry)
            );
            facts.push(fact(label, &words, &[log.cite(entry.seq)]));
        }
    }
    vec![Block::Facts(facts)]
}
