//! What left the case, what copies there are, who was let at it outside the program, and how long it is kept: rows of
//! part 12.

use super::blocks::{Line, hashes, row, table, times, words};
use super::document::{Block, NO_RECORD, Row, Span};
use super::material::{Log, Material};
use super::{text, units};
use crate::aftercare;
use crate::digest::Digest;

/// A cell, or `NO RECORD`.
fn known(text: &str) -> String {
    if text.is_empty() { NO_RECORD.to_owned() } else { text.to_owned() }
}

fn what(exhibit: Option<&String>) -> String {
    exhibit.cloned().unwrap_or_else(|| "the whole case".to_owned())
}

/// Authority and purpose in one cell.
fn why(authority: &str, purpose: &str) -> String {
    let both: Vec<&str> = [authority, purpose].into_iter().filter(|text| !text.is_empty()).collect();
    known(&both.join("; "))
}

/// A row with a hash in one cell.
fn with_hash(mut row: Row, at: usize, hash: Option<&Digest>) -> Row {
    if let (Some(cell), Some(hash)) = (row.cells.get_mut(at), hash) {
        *cell = vec![Span::mono(hash.to_string())];
    }
    row
}

fn from(log: &Log, seq: u64) -> String {
    log.cite(seq).to_string()
}

/// All of it, in the order that people ask for it.
pub(super) fn blocks(m: &Material) -> Vec<Block> {
    let mut blocks = Vec::new();
    blocks.extend(disclosures(m));
    blocks.extend(copies(m));
    blocks.extend(accesses(m));
    blocks.extend(retentions(m));
    blocks.extend(disposals(m));
    let closed = m.of(&[crate::entry::EntryType::CASE_CLOSED]).next().map(|(log, entry)| {
        Line::of(format!("The case was closed at {}.", units::time_utc(&entry.time.wall)))
            .cite([log.cite(entry.seq)])
    });
    blocks.push(closed.unwrap_or_else(|| Line::of("The case has not been closed.")).block());
    blocks
}

/// A table, or a sentence that there is nothing.
fn or_none(blocks: Vec<Block>, rows: usize, none: Line) -> Vec<Block> {
    if rows == 0 { vec![none.block()] } else { blocks }
}

fn disclosures(m: &Material) -> Vec<Block> {
    let all: Vec<_> = m
        .logs()
        .flat_map(|log| aftercare::disclosures(&log.entries).into_iter().map(move |it| (log, it)))
        .collect();
    let rows = all.iter().flat_map(|(log, it)| {
        it.items.iter().zip(it.origins.iter().map(Some).chain(std::iter::repeat(None))).map(
            move |(item, origin)| {
                let on = if it.on.is_empty() { units::time(&it.time) } else { text::cell(&it.on) };
                let row = row([
                    from(log, it.seq),
                    on,
                    known(&it.to),
                    item.id.clone(),
                    String::new(),
                    origin.map_or_else(|| NO_RECORD.to_owned(), |origin| known(origin)),
                    known(&it.means),
                    why(&it.authority, &it.purpose),
                    if it.withheld.is_empty() {
                        "nothing is recorded".to_owned()
                    } else {
                        it.withheld.clone()
                    },
                ]);
                with_hash(row, 4, item.sha256.as_ref())
            },
        )
    });
    let columns = vec![
        words("Entry", 3),
        times("On (UTC)"),
        words("To", 3),
        words("Item", 3),
        hashes("SHA-256", 6),
        words("Where it came from", 3),
        words("Means", 2),
        words("Why", 3),
        words("Held back", 3),
    ];
    let none = Line::of("Given to another party: ").no_record().say(".");
    or_none(table("What was given to another party", columns, rows, "custody.jsonl"), all.len(), none)
}

fn copies(m: &Material) -> Vec<Block> {
    let all: Vec<_> = m
        .logs()
        .flat_map(|log| aftercare::copies(&log.entries).into_iter().map(move |it| (log, it)))
        .collect();
    let rows = all.iter().map(|(log, it)| {
        let state = match it.disposed {
            Some(seq) => format!("disposed of {}", from(log, seq)),
            None if it.master => "master".to_owned(),
            None => "copy".to_owned(),
        };
        let row = row([
            from(log, it.seq),
            units::time(&it.time),
            what(it.exhibit.as_ref()),
            known(&it.id),
            known(&it.place),
            state,
            known(&it.verdict),
            String::new(),
            why(&it.authority, &it.purpose),
        ]);
        with_hash(row, 7, it.copy_manifest_sha256.as_ref().or(it.manifest_sha256.as_ref()))
    });
    let columns = vec![
        words("Entry", 3),
        times("Time (UTC)"),
        words("Exhibit", 2),
        words("Copy", 2),
        words("Place", 4),
        words("State", 2),
        words("Verdict", 2),
        hashes("SHA-256 of its manifest", 5),
        words("Why", 3),
    ];
    let none = Line::of("No further copy of an exhibit is recorded.");
    or_none(table("Copies", columns, rows, "custody.jsonl"), all.len(), none)
}

fn accesses(m: &Material) -> Vec<Block> {
    let all: Vec<_> = m
        .logs()
        .flat_map(|log| aftercare::accesses(&log.entries).into_iter().map(move |it| (log, it)))
        .collect();
    let rows = all.iter().map(|(log, it)| {
        let span = [it.from.as_str(), it.to.as_str()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>();
        row([
            from(log, it.seq),
            units::time(&it.time),
            what(it.exhibit.as_ref()),
            known(&it.who),
            known(&it.item),
            known(&it.place),
            known(&span.join(" to ")),
            why(&it.authority, &it.purpose),
            known(&it.outcome),
        ])
    });
    let columns = vec![
        words("Entry", 3),
        times("Recorded (UTC)"),
        words("Exhibit", 2),
        words("Who", 3),
        words("Item", 3),
        words("Place", 3),
        words("From, to", 3),
        words("Why", 3),
        words("Outcome", 3),
    ];
    let none = Line::of("Access to the things themselves, outside the program: ").no_record().say(".");
    or_none(table("Access to the things themselves", columns, rows, "custody.jsonl"), all.len(), none)
}

fn retentions(m: &Material) -> Vec<Block> {
    let all: Vec<_> = m
        .logs()
        .flat_map(|log| aftercare::retentions(&log.entries).into_iter().map(move |it| (log, it)))
        .collect();
    let rows = all.iter().map(|(log, it)| {
        row([
            from(log, it.seq),
            units::time(&it.time),
            what(it.exhibit.as_ref()),
            it.words(),
            it.review.map_or_else(|| NO_RECORD.to_owned(), |day| day.to_string()),
            why(&it.authority, &it.reason),
        ])
    });
    let columns = vec![
        words("Entry", 3),
        times("Time (UTC)"),
        words("Exhibit", 3),
        words("Kept", 5),
        words("Review on", 3),
        words("Why", 6),
    ];
    let none = Line::of("How long it is kept: ").no_record().say(".");
    or_none(table("Retention", columns, rows, "custody.jsonl"), all.len(), none)
}

fn disposals(m: &Material) -> Vec<Block> {
    let all: Vec<_> = m
        .logs()
        .flat_map(|log| aftercare::disposals(&log.entries).into_iter().map(move |it| (log, it)))
        .collect();
    let rows = all.iter().map(|(log, it)| {
        let row = row([
            from(log, it.seq),
            units::time(&it.time),
            what(it.exhibit.as_ref()),
            known(&it.item),
            it.words(),
            why(&it.authority, &it.reason),
            known(&it.verdict),
            String::new(),
        ]);
        with_hash(row, 7, it.manifest_sha256.as_ref())
    });
    let columns = vec![
        words("Entry", 3),
        times("Time (UTC)"),
        words("Exhibit", 2),
        words("Item", 2),
        words("What was done", 4),
        words("Why", 4),
        words("Verdict before", 2),
        hashes("SHA-256 of the manifest", 5),
    ];
    let none = Line::of("No disposal and no return is recorded.");
    or_none(table("Disposal and return", columns, rows, "custody.jsonl"), all.len(), none)
}
