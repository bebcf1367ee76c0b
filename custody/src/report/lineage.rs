//! Part 6: the exhibits, what each was made from, and what was made from it.

use serde_json::Value;

use super::answers::kind_words;
use super::blocks::{Line, hashes, numbers, part, row, table, times, toned, words};
use super::cover::tone;
use super::document::{Block, NO_RECORD, Part, Row, Span, Tone};
use super::material::{ExhibitMaterial, Material};
use super::{text, units};
use crate::entry::{Entry, EntryType};

/// Acts by which something new comes from an exhibit.
const DERIVING: [EntryType; 4] =
    [EntryType::COPY_MADE, EntryType::EXPORT_MADE, EntryType::TIMELINE_BUILT, EntryType::DISCLOSURE_MADE];

pub(super) fn exhibits(m: &Material) -> Part {
    let known = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or(NO_RECORD).to_owned();
    let rows = m.exhibits.iter().map(|x| {
        let source = x.manifest.as_ref().map(|manifest| &manifest.source);
        let size = x.manifest.as_ref().map_or_else(
            || NO_RECORD.to_owned(),
            |manifest| {
                units::thousands(
                    manifest.streams.iter().fold(0, |sum: u64, stream| sum.saturating_add(stream.size)),
                )
            },
        );
        let level = x.found.as_ref().map_or(Tone::Bad, |found| tone(found.verdict.level));
        let row = row([
            x.id.clone(),
            x.name(),
            source.map_or_else(|| "not sealed".to_owned(), |source| kind_words(&source.kind).to_owned()),
            source.and_then(|source| source.path.clone()).unwrap_or_else(|| NO_RECORD.to_owned()),
            size,
            x.verdict(),
        ]);
        toned(row, level)
    });
    let columns = vec![
        words("Exhibit", 2),
        words("Folder", 4),
        words("What", 3),
        words("Source", 5),
        numbers("Bytes", 3),
        words("Verdict", 3),
    ];
    let mut blocks = table("The exhibits", columns, rows, "the case's log");
    let rows = m.exhibits.iter().filter_map(|x| {
        let source = &x.manifest.as_ref()?.source;
        let more = |name: &str| known(source.more.get(name).map(super::words::plain).as_deref());
        Some(row([
            x.id.clone(),
            known(source.model.as_deref()),
            known(source.serial.as_deref()),
            more("wwid"),
            more("firmware"),
            NO_RECORD.to_owned(),
        ]))
    });
    let columns = vec![
        words("Exhibit", 2),
        words("Make and model", 4),
        words("Serial number", 4),
        words("World-wide name", 4),
        words("Firmware", 2),
        words("Photographs", 3),
    ];
    blocks.extend(table("Is this the same thing? Its marks", columns, rows, "the manifests"));
    blocks.push(Block::Heading("From what to what".to_owned()));
    blocks.push(
        Line::of(
            "Each line is one step from an original to what was made of it. A hash names the bytes: two things with the same \
             SHA-256 are the same.",
        )
        .block(),
    );
    let made = m.exhibits.iter().flat_map(|x| roots(m, x));
    let derived = m.of(&DERIVING).map(|(log, entry)| derived(&log.name, entry));
    let columns = vec![
        words("From", 4),
        words("To", 5),
        words("By", 3),
        times("Time (UTC)"),
        hashes("SHA-256 of the result", 7),
        words("Entry", 3),
    ];
    blocks.extend(table("Lineage", columns, made.chain(derived), "custody.jsonl"));
    part(6, "exhibits", "Exhibits and lineage", "Is this the same disk?", blocks)
}

/// From the source to the exhibit, and from a base to what builds on it.
fn roots(_m: &Material, x: &ExhibitMaterial) -> Vec<Row> {
    let Some(manifest) = &x.manifest else { return Vec::new() };
    let cite = x.log.cite_first(&EntryType::ACQUIRE_END).first().map(ToString::to_string).unwrap_or_default();
    let source = manifest.source.path.clone().unwrap_or_else(|| NO_RECORD.to_owned());
    let mut rows: Vec<Row> = manifest
        .streams
        .iter()
        .map(|stream| {
            line([
                source.clone(),
                format!("{}, stream {}", x.id, stream.name),
                "acquisition".to_owned(),
                units::time(&manifest.created),
                stream.sha256.to_string(),
                cite.clone(),
            ])
        })
        .collect();
    if let Some(base) = &manifest.base {
        let on = base.exhibit.as_ref().map_or_else(
            || format!("{}, of which no bundle was at hand", base.snapshot),
            |exhibit| format!("{exhibit}, acquired from {}", base.snapshot),
        );
        let hash = base.manifest_sha256.map(|hash| hash.to_string()).unwrap_or_default();
        let time = units::time(&manifest.created);
        rows.push(line([on, x.id.clone(), "builds on".to_owned(), time, hash, cite]));
    } else if let Some(base) = manifest.options.get("base").or_else(|| manifest.source.more.get("base")) {
        rows.push(line([
            super::words::plain(base),
            x.id.clone(),
            "builds on".to_owned(),
            units::time(&manifest.created),
            String::new(),
            cite,
        ]));
    }
    rows
}

fn derived(log: &str, entry: &Entry) -> Row {
    let from = entry.about.exhibit.clone().unwrap_or_else(|| log.to_owned());
    let subject = entry.about.subject.first();
    let to = entry
        .how_text("output")
        .or_else(|| entry.how_text("to"))
        .map(ToOwned::to_owned)
        .or_else(|| subject.map(|subject| subject.id.clone()))
        .unwrap_or_else(|| NO_RECORD.to_owned());
    let hash = subject.and_then(|subject| subject.sha256.map(|hash| hash.to_string()));
    let hash =
        hash.or_else(|| entry.about.result.get("sha256").and_then(Value::as_str).map(ToOwned::to_owned));
    line([
        from,
        to,
        super::words::act(&entry.kind).to_owned(),
        units::time(&entry.time.wall),
        hash.unwrap_or_else(|| NO_RECORD.to_owned()),
        super::document::Cite::new(log, entry.seq).to_string(),
    ])
}

/// A row whose fifth cell is a hash.
fn line(cells: [String; 6]) -> Row {
    let hash = cells.get(4).cloned().unwrap_or_default();
    let mut row = row(cells);
    if let Some(cell) = row.cells.get_mut(4).filter(|_| hash != NO_RECORD) {
        *cell = vec![Span::mono(text::cell(&hash))];
    }
    row
}
