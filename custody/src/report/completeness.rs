//! Part 8: every byte of every source in exactly one state, summed up to its capacity, with a picture.

use serde_json::Value;

use super::blocks::{Line, fact, list, numbers, part, row, table, toned, words};
use super::device_picture::{self, DevicePicture};
use super::document::{Block, Part, Tone};
use super::material::{ExhibitMaterial, Material};
use super::{answers, text, units};
use crate::bundle::{Extent, State, Stream};
use crate::entry::EntryType;

/// The order of the ledger: what was read, then what was not.
const ORDER: [State; 6] =
    [State::Data, State::Zero, State::Base, State::Absent, State::Skipped, State::Unreadable];

pub(super) fn ledger(m: &Material) -> Part {
    let mut blocks = vec![
        Line::of(
            "Every byte of a source is in exactly one state. The states add up to its size: nothing can be missing without \
             standing here.",
        )
        .block(),
    ];
    for x in m.exhibits.iter().take(100) {
        blocks.push(Block::Heading(format!("{}: {}", x.id, x.name())));
        if x.manifest.is_none() {
            blocks.push(Line::of("Not sealed: the ledger is not settled.").block());
        }
        for (stream, extents) in x.streams() {
            blocks.extend(of_stream(x, stream, extents));
        }
        blocks.extend(capacity(x));
        blocks.extend(irregularities(x));
    }
    if m.exhibits.len() > 100 {
        blocks.push(
            Line::of(format!("{} more exhibits have their own tables.", m.exhibits.len() - 100)).block(),
        );
    }
    blocks.push(Block::Facts(vec![fact("Items at the scene that were not taken, and why", "", &[])]));
    part(8, "completeness", "Completeness ledger", "Did you get all of it?", blocks)
}

/// What a state means.
pub(super) fn meaning(state: State) -> &'static str {
    match state {
        State::Data => "read from the source and stored",
        State::Zero => "read from the source: nothing but zeros",
        State::Absent => "the source has no such block",
        State::Unreadable => "could not be read; zeros stand in its place",
        State::Skipped => "was not asked for; zeros stand in its place",
        State::Base => "as in the bundle that this one builds on",
    }
}

/// A state in a word that needs no explaining.
pub(super) fn state_words(state: State) -> &'static str {
    match state {
        State::Data => "read: data",
        State::Zero => "read: zeros",
        State::Base => "held by the base",
        State::Absent => "not in the source",
        State::Skipped => "not asked for",
        State::Unreadable => "unreadable",
    }
}

fn of_stream(x: &ExhibitMaterial, stream: &Stream, extents: Option<&[Extent]>) -> Vec<Block> {
    let size = stream.size;
    let mut blocks = Vec::new();
    let ledger: Vec<String> = ORDER
        .iter()
        .filter(|state| stream.states.of(**state) > 0)
        .map(|state| format!("{} {}", units::size(stream.states.of(*state)), state_words(*state)))
        .collect();
    if let Some(extents) = extents.filter(|_| size > 0) {
        let (bars, key) = device_picture::picture(extents, size);
        blocks.push(Block::Device(DevicePicture {
            title: format!("{}, stream {}: first byte at the left, last at the right", x.id, stream.name),
            words: ledger.join("; "),
            bars,
            key,
        }));
    }
    let rows = ORDER.into_iter().map(|state| {
        let bytes = stream.states.of(state);
        let tone = match state {
            State::Unreadable if bytes > 0 => Tone::Bad,
            State::Skipped | State::Absent if bytes > 0 => Tone::Warn,
            _ => Tone::Plain,
        };
        toned(
            row([state_words(state), &units::thousands(bytes), &units::share(bytes, size), meaning(state)]),
            tone,
        )
    });
    let total = stream.states.total();
    let agrees = if total == size { "is the size of the stream" } else { "IS NOT the size of the stream" };
    let sum = row(["sum".to_owned(), units::thousands(total), units::share(total, size), agrees.to_owned()]);
    let sum = toned(sum, if total == size { Tone::Good } else { Tone::Bad });
    let columns = vec![words("State", 3), numbers("Bytes", 3), numbers("Share", 2), words("Meaning", 7)];
    let caption = format!("Stream {}: {}", stream.name, units::size(size));
    blocks.extend(table(caption, columns, rows.chain([sum]), "the extents table"));
    blocks.extend(lost(x, stream, extents));
    blocks
}

/// Where something could not be read.
fn lost(x: &ExhibitMaterial, stream: &Stream, extents: Option<&[Extent]>) -> Vec<Block> {
    let Some(extents) = extents else {
        let words = "The table of states is encrypted or damaged and was not read; the sums above are the manifest's.";
        return vec![Line::of(words).cite(x.sealed()).block()];
    };
    let lost = || extents.iter().filter(|extent| extent.state == State::Unreadable);
    if lost().next().is_none() {
        let words = if stream.kind == "disk" {
            "No part of the source was unreadable."
        } else {
            "No part of the stream is unreadable."
        };
        return vec![Line::of(words).cite(x.log.cite_first(&EntryType::ACQUIRE_END)).block()];
    }
    let sector =
        x.manifest.as_ref().and_then(|it| it.source.sector_size).filter(|size| *size > 0).unwrap_or(512);
    let rows = lost().map(|extent| {
        let (first, last) =
            (extent.start / u64::from(sector), extent.end().saturating_sub(1) / u64::from(sector));
        row([
            units::thousands(extent.start),
            units::thousands(extent.length),
            if first == last {
                units::thousands(first)
            } else {
                format!("{}–{}", units::thousands(first), units::thousands(last))
            },
            reason(&extent.detail),
        ])
    });
    let columns = vec![
        numbers("From byte", 3),
        numbers("Bytes", 2),
        numbers(&format!("Sectors of {sector} bytes"), 3),
        words("Why", 7),
    ];
    let caption =
        format!("{}, stream {}: what could not be read, and was filled with zeros", x.id, stream.name);
    table(caption, columns, rows, &stream.extents.path)
}

/// The detail of an unreadable extent in words: `errno=5 tries=3`.
fn reason(detail: &str) -> String {
    let mut words = Vec::new();
    for fact in detail.split(' ') {
        words.push(match fact.split_once('=') {
            Some(("errno", "5")) => "input/output error (errno 5)".to_owned(),
            Some(("errno", n)) => format!("system error {n}"),
            Some(("tries", "1")) => "tried once".to_owned(),
            Some(("tries", n)) => format!("tried {n} times"),
            _ => fact.to_owned(),
        });
    }
    text::cell(&words.join(", "))
}

/// The whole device: what was read, what could not be, and what it hides.
fn capacity(x: &ExhibitMaterial) -> Option<Block> {
    let manifest = x.manifest.as_ref()?;
    let size = manifest.source.size.filter(|_| manifest.source.kind == "disk")?;
    let read = manifest.streams.iter().fold(0, |sum: u64, stream| sum.saturating_add(stream.size));
    let cites = x.log.cite_first(&EntryType::ACQUIRE_START);
    Some(if read == size {
        Line::of(format!(
            "The source said that it holds {}; the ledger accounts for all of them.",
            units::size(size)
        ))
        .cite(cites)
        .block()
    } else {
        Line::default()
            .bad(format!(
                "The source said that it holds {}; the ledger accounts for {}.",
                units::size(size),
                units::size(read)
            ))
            .cite(cites)
            .block()
    })
}

/// The irregularities that the log names one by one.
fn irregularities(x: &ExhibitMaterial) -> Vec<Block> {
    let mut lines = Vec::new();
    for entry in x.log.of(&EntryType::ACQUIRE_ERROR) {
        let Some(first) = entry.about.errors.get("first").and_then(Value::as_array) else { continue };
        for issue in first {
            let text =
                |name: &str| issue.get(name).and_then(Value::as_str).map(text::cell).unwrap_or_default();
            let at = issue
                .get("offset")
                .and_then(Value::as_u64)
                .map(|at| format!(", from byte {}", units::thousands(at)));
            let line = Line::default().mono(text("path")).say(format!(
                "{}: {}",
                at.unwrap_or_default(),
                text("what")
            ));
            lines.push(line.cite([x.log.cite(entry.seq)]));
        }
    }
    if lines.is_empty() {
        return Vec::new();
    }
    vec![
        Line::of(format!("{}: irregularities that the log names:", x.id)).block(),
        list(lines, &format!("{}/custody.jsonl", x.folder)),
    ]
}

/// Whether anything at all is missing.
pub(super) fn is_whole(m: &Material) -> bool {
    m.exhibits.iter().all(|x| answers::missing(x).is_empty())
}
