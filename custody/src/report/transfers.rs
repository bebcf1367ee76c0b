//! Part 12: handovers, accesses, what left the case, and every entry of every log.

use super::answers::actor;
use super::blocks::{fact, part, row, table, times, toned, words};
use super::document::{Block, Column, NO_RECORD, Part, Row, Span, Tone};
use super::material::{Log, Material};
use super::{aftermath, text, units};
use crate::entry::{Entry, EntryType};
use crate::handover::{Offer, Terms};
use crate::parties;

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
        let rows = m.of(&HANDOVER).map(|(log, entry)| handover(log, entry));
        let columns = vec![
            words("Entry", 3),
            times("Time (UTC)"),
            words("Act", 4),
            words("From, to", 5),
            words("Terms", 7),
            words("What was handed over", 9),
            words("Signed by", 9),
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
    blocks.extend(aftermath::blocks(m));
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

/// A handover, as the text says that was signed.
fn handover(log: &Log, entry: &Entry) -> Row {
    let offer = Offer::of(entry).ok().flatten();
    let terms = offer.as_ref().map(|offer| &offer.terms);
    let from_to = match &offer {
        Some(offer) => format!("{} to {}", text::cell(&offer.from), text::cell(&offer.terms.to)),
        None => actor(entry),
    };
    let said = |label: &str, of: fn(&Terms) -> &String| {
        let words = terms.map(|terms| of(terms).as_str()).filter(|words| !words.is_empty());
        format!("{label}: {}", words.map_or_else(|| NO_RECORD.to_owned(), text::cell))
    };
    let mut agreed = vec![
        said("place", |terms| &terms.place),
        said("means", |terms| &terms.means),
        said("purpose", |terms| &terms.purpose),
        said("seal", |terms| &terms.seal),
    ];
    // Giver and receiver each say the state.
    match entry.how_text("condition") {
        Some(state) => agreed.push(format!("state as received: {}", text::cell(state))),
        None => agreed.push(said("state", |terms| &terms.condition)),
    }
    let mut items = Vec::new();
    for item in offer.iter().flat_map(|offer| &offer.items).take(20) {
        items.push(Span::plain(format!("{}, manifest ", text::cell(&item.id))));
        items.push(match &item.manifest {
            Some(hash) => Span::mono(format!("{hash} ")),
            None => Span::plain("not sealed "),
        });
    }
    let signed = parties::check(entry);
    let mut names = Vec::new();
    for it in &signed {
        let good = if it.good { "good" } else { "NOT GOOD" };
        names.push(Span::plain(format!("{} {}, {good}, key ", it.role, text::cell(&it.name))));
        names.push(Span::mono(format!("{} ", it.fingerprint)));
    }
    let mut row = row([
        log.cite(entry.seq).to_string(),
        units::time(&entry.time.wall),
        super::words::act(&entry.kind).to_owned(),
        from_to,
        agreed.join("; "),
    ]);
    row.cells.push(if items.is_empty() { vec![Span::no_record()] } else { items });
    row.cells.push(if names.is_empty() { vec![Span::plain("no party: the log's key only")] } else { names });
    let tone = match (signed.is_empty(), signed.iter().all(|it| it.good)) {
        (true, _) => Tone::Warn,
        (false, true) => Tone::Plain,
        (false, false) => Tone::Bad,
    };
    toned(row, tone)
}
