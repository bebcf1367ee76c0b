//! Part 9: every hash: of the source while it was read, of the stored files, and of each time they were checked.

use super::blocks::{Line, hashes, numbers, part, row, table, times, toned, words};
use super::cover::tone;
use super::document::{Block, Part, Row, Span, Tone};
use super::material::{ExhibitMaterial, Material};
use super::{text, units};
use crate::bundle::StoredFile;
use crate::entry::EntryType;

pub(super) fn hash_table(m: &Material) -> Part {
    let mut blocks = vec![
        Line::of(
            "All hashes are SHA-256. A hash is a fingerprint of bytes: change one bit, and it is another. The hash of the source \
             was taken while the source was read; those of the stored files when they were written.",
        )
        .block(),
    ];
    let rows = m.exhibits.iter().flat_map(of_streams);
    let columns = vec![
        words("Exhibit", 2),
        words("What was hashed", 6),
        numbers("Bytes", 4),
        hashes("SHA-256", 9),
        words("Entry", 2),
    ];
    blocks.extend(table("The evidence itself", columns, rows, "the manifests"));
    let rows = m.exhibits.iter().flat_map(of_files);
    let columns = vec![
        words("Exhibit", 2),
        words("Stored file", 6),
        numbers("Bytes", 4),
        hashes("SHA-256", 9),
        words("Listed in", 3),
    ];
    blocks.extend(table("The stored files, all segments", columns, rows, "SHA256SUMS of each exhibit"));
    blocks.push(Block::Heading("When it was checked".to_owned()));
    let now = m.exhibits.iter().map(|x| {
        let level = x.found.as_ref().map_or(Tone::Bad, |found| tone(found.verdict.level));
        let row = row([
            "".to_owned(),
            "for this report".to_owned(),
            x.id.clone(),
            "every stored byte read and hashed again".to_owned(),
            x.verdict(),
        ]);
        toned(row, level)
    });
    let past = m.of(&[EntryType::VERIFY_RESULT]).map(|(log, entry)| {
        let verdict = entry.about.result.get("verdict").or_else(|| entry.about.result.get("check"));
        let verdict = verdict.map(super::words::plain).unwrap_or_default();
        let of = entry.about.exhibit.clone().or_else(|| entry.how_text("bundle").map(ToOwned::to_owned));
        let of = of.unwrap_or_else(|| "the whole case".to_owned());
        let broken = verdict.starts_with("BROKEN");
        let row = row([
            log.cite(entry.seq).to_string(),
            units::time(&entry.time.wall),
            of,
            entry.how_text("command").unwrap_or_default().to_owned(),
            verdict,
        ]);
        toned(row, if broken { Tone::Bad } else { Tone::Plain })
    });
    let columns = vec![
        words("Entry", 2),
        times("Time (UTC)"),
        words("Exhibit", 3),
        words("How", 5),
        words("Result", 4),
    ];
    blocks.extend(table("Verifications", columns, now.chain(past), "custody.jsonl"));
    part(9, "hashes", "Hash table", "Are these the bytes that were read?", blocks)
}

fn of_streams(x: &ExhibitMaterial) -> Vec<Row> {
    let Some(manifest) = &x.manifest else { return Vec::new() };
    let cite = |kind: &EntryType| x.log.cite_first(kind).first().map(ToString::to_string).unwrap_or_default();
    let (end, sealed) = (cite(&EntryType::ACQUIRE_END), cite(&EntryType::BUNDLE_SEALED));
    let mut rows = Vec::new();
    for stream in &manifest.streams {
        let what = format!("stream {}, whole, as it was read", stream.name);
        rows.push(line(&x.id, &what, stream.size, &stream.sha256.to_string(), &end));
        if stream.sha256_data != stream.sha256 {
            let read = stream.states.data.saturating_add(stream.states.zero);
            let what = format!("stream {}, only what could be read", stream.name);
            rows.push(line(&x.id, &what, read, &stream.sha256_data.to_string(), &end));
        }
        let what = format!("stream {}: root over the hashes of its chunks", stream.name);
        let chunks = stream.size.div_ceil(u64::from(stream.chunk_size.max(1)));
        rows.push(line(&x.id, &what, chunks.saturating_mul(32), &stream.chunk_root.to_string(), &sealed));
    }
    for subject in x.log.of(&EntryType::BUNDLE_SEALED).flat_map(|entry| &entry.about.subject) {
        let hash = subject.sha256.map(|hash| hash.to_string()).unwrap_or_default();
        rows.push(line(&x.id, &subject.id, subject.size.unwrap_or_default(), &hash, &sealed));
    }
    rows
}

fn of_files(x: &ExhibitMaterial) -> Vec<Row> {
    let streams = x.manifest.iter().flat_map(|manifest| &manifest.streams);
    let files = streams.flat_map(|stream| {
        let tables =
            [Some(&stream.chunks), Some(&stream.extents), stream.catalog.as_ref(), stream.ranges.as_ref()];
        stream.segments.iter().chain(tables.into_iter().flatten())
    });
    files
        .map(|file: &StoredFile| {
            line(&x.id, &file.path, file.size, &file.sha256.to_string(), "manifest.json")
        })
        .collect()
}

/// A row whose fourth cell is a hash.
fn line(exhibit: &str, what: &str, bytes: u64, hash: &str, said: &str) -> Row {
    let mut row = row([exhibit, what, &units::thousands(bytes), hash, said]);
    if let Some(cell) = row.cells.get_mut(3) {
        *cell = vec![Span::mono(text::cell(hash))];
    }
    row
}
