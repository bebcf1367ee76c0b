//! What an E01 says of itself, and whether its media have the hashes that it stores.
//!
//! Every length comes from the file and is checked against it: sections go forward only and end within their file, chunks
//! lie one behind the other, and none gives more than a chunk has. So the work is bounded by the size of the files.
//!
//! Reference: J. Metz, "Expert Witness Compression Format specification" (libewf project, 2026).

use std::io::Read as _;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use custody::strict_json::escape_text;
use flate2::read::ZlibDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use serde_json::{Map, Value, json};

use super::Checked;
use super::hashes::{Algorithm, Hashes, Values, hex};
use super::parts::{Part, Parts};
use crate::ewf::{
    COMPRESSED, DESCRIPTOR, Descriptor, FILE_HEADER, TABLE_HEADER, adler32, checked, u32_at, u64_at,
};
use crate::source::{Issue, Issues};

/// A longer header text is not read.
const LONGEST_HEADER: u64 = 1 << 20;
/// No chunk is larger: EnCase makes them up to 16 MiB.
const LARGEST_CHUNK: u64 = 32 << 20;
/// Tables of all files together, at most.
const MOST_TABLES: usize = 1 << 20;
/// Entries of one table, at most.
const LARGEST_TABLE: u64 = 64 << 20;
/// So many damaged chunks, and the rest is not tried.
const MOST_DAMAGED: u64 = 10_000;
/// Read errors that are listed one by one.
const LISTED_ERRORS: usize = 1000;
/// Chunks that may wait to be hashed.
const WAITING: usize = 64;

/// Header fields and what we call them.
const FIELDS: [(&str, &str); 11] = [
    ("a", "description"),
    ("c", "case_number"),
    ("n", "evidence_number"),
    ("e", "examiner"),
    ("t", "notes"),
    ("md", "model"),
    ("sn", "serial"),
    ("av", "version"),
    ("ov", "platform"),
    ("m", "acquired"),
    ("u", "system_date"),
];

/// Reads the image through. `wanted` are hashes of the media that are asked for beside those that are stored.
pub(super) fn check(parts: &Parts, wanted: &[Algorithm]) -> Checked {
    let mut image = Image { parts, issues: Issues::default(), told: Told::default(), tables: Vec::new() };
    for (number, part) in parts.list().iter().enumerate() {
        image.walk(number, part);
    }
    let stored = image.told.stored.clone();
    let mut wanted: Vec<Algorithm> =
        Algorithm::ALL.into_iter().filter(|&one| stored.of(one).is_some() || wanted.contains(&one)).collect();
    if wanted.is_empty() {
        wanted.push(Algorithm::Sha256);
    }
    let media = image.media(&wanted);
    let mut differs = false;
    for algorithm in Algorithm::ALL {
        if let (Some(stored), Some(media)) = (stored.of(algorithm), media.as_ref()) {
            let found = media.of(algorithm).unwrap_or_default();
            if stored != found {
                differs = true;
                image.note(
                    0,
                    None,
                    format!("its media have the {} {found}, but it stores {stored}", algorithm.word()),
                );
            }
        }
    }
    let verdict = match (&media, differs) {
        _ if stored == Values::default() => "none stored",
        (None, _) => "cannot be computed",
        (Some(_), true) => "differs",
        (Some(_), false) => "matches",
    };
    image.told.facts.insert("check".to_owned(), verdict.into());
    image.told.facts.insert("stored".to_owned(), super::values_json(&stored));
    if let Some(media) = &media {
        image.told.facts.insert("computed".to_owned(), super::values_json(media));
    }
    Checked { facts: image.told.facts, issues: image.issues, image: media }
}

/// What the sections tell.
#[derive(Default)]
struct Told {
    facts: Map<String, Value>,
    volume: Option<Volume>,
    stored: Values,
    has_header: bool,
}

#[derive(Clone, Copy)]
struct Volume {
    chunks: u32,
    chunk_size: u64,
    size: u64,
}

/// Where a table lies, and the chunks that it names.
struct Table {
    part: usize,
    /// Where its header lies, and the section's end.
    at: u64,
    end: u64,
    /// The same of its copy.
    copy: Option<(u64, u64)>,
    /// The byte behind its last chunk.
    data_end: u64,
}

struct Image<'p> {
    parts: &'p Parts,
    issues: Issues,
    told: Told,
    tables: Vec<Table>,
}

impl Image<'_> {
    fn note(&mut self, part: usize, offset: Option<u64>, what: String) {
        let path = self.parts.list().get(part).map(|part| part.name.clone()).unwrap_or_default();
        self.issues.add(Issue { path, offset, length: None, what });
    }

    /// Goes through the sections of one file.
    fn walk(&mut self, number: usize, part: &Part) {
        let is_last = number + 1 == self.parts.list().len();
        let mut at = FILE_HEADER as u64;
        let mut sectors_end = None;
        loop {
            let mut bytes = [0; DESCRIPTOR];
            if part.read_exact_at(at, &mut bytes).is_err() {
                return self.note(number, Some(at), "the file ends without a last section".to_owned());
            }
            let Some(section) = Descriptor::parse(&bytes) else {
                return self.note(number, Some(at), "a section descriptor is damaged".to_owned());
            };
            let (data, end) = (at + DESCRIPTOR as u64, section.next);
            match section.kind.as_str() {
                "done" if !is_last => {
                    return self.note(
                        number,
                        Some(at),
                        "the set ends here, but more files follow".to_owned(),
                    );
                }
                "next" if is_last => {
                    return self.note(
                        number,
                        Some(at),
                        "the set goes on in a file that is missing".to_owned(),
                    );
                }
                "done" | "next" => return,
                _ => {}
            }
            let kind = escape_text(section.kind.as_bytes());
            if end < data || end > part.size {
                let what = format!("section {kind} ends at byte {end}, outside the file");
                return self.note(number, Some(at), what);
            }
            if section.size != 0 && at.checked_add(section.size) != Some(end) {
                let what = format!("section {kind} has two ends: byte {end}, and {} bytes on", section.size);
                self.note(number, Some(at), what);
            }
            match section.kind.as_str() {
                "sectors" => sectors_end = Some(end),
                "table" if self.tables.len() < MOST_TABLES => {
                    let data_end = sectors_end.take().unwrap_or(end);
                    self.tables.push(Table { part: number, at: data, end, copy: None, data_end });
                }
                "table" => return self.note(number, Some(at), "more tables than are read".to_owned()),
                "table2" => {
                    if let Some(table) = self.tables.last_mut().filter(|table| table.part == number) {
                        table.copy.get_or_insert((data, end));
                    }
                }
                _ => self.small_section(number, part, &section.kind, at, end - data),
            }
            at = end;
        }
    }

    /// Reads a section that says something about the image.
    fn small_section(&mut self, number: usize, part: &Part, kind: &str, at: u64, length: u64) {
        if !matches!(kind, "header" | "header2" | "volume" | "disk" | "hash" | "digest" | "error2" | "ltree")
        {
            return;
        }
        if kind == "ltree" {
            return self.note(
                number,
                Some(at),
                "it holds files, not a disk: its media are not checked".to_owned(),
            );
        }
        let mut data = vec![0; usize::try_from(length.min(LONGEST_HEADER)).unwrap_or(0)];
        if part.read_exact_at(at + DESCRIPTOR as u64, &mut data).is_err() {
            return self.note(number, Some(at), format!("section {kind} cannot be read"));
        }
        let understood = match kind {
            // The first of them is the one in UTF-16, where there is one.
            "header" | "header2" if self.told.has_header => Some(()),
            "header" | "header2" => self.told.header(&data),
            "volume" | "disk" if self.told.volume.is_some() => Some(()),
            "volume" | "disk" => self.told.volume(&data),
            "hash" => self.told.hash(data.get(..36).unwrap_or_default()),
            "digest" => self.told.digest(data.get(..80).unwrap_or_default()),
            _ => self.told.errors(&data),
        };
        if understood.is_none() {
            self.note(number, Some(at), format!("section {kind} is damaged"));
        }
    }

    /// Decompresses the media and hashes them. `None` where they cannot be read to their end.
    fn media(&mut self, wanted: &[Algorithm]) -> Option<Values> {
        let Some(volume) = self.told.volume else {
            self.note(0, None, "no volume section says how large the media are".to_owned());
            return None;
        };
        let tables = std::mem::take(&mut self.tables);
        let hashed = thread::scope(|scope| {
            let mut hashing = Vec::new();
            let mut queues = Vec::new();
            for &algorithm in wanted {
                let (chunks, queue) = bounded::<std::sync::Arc<Vec<u8>>>(WAITING);
                let work = move || hash(&queue, algorithm);
                let spawned =
                    thread::Builder::new().name(algorithm.word().to_owned()).spawn_scoped(scope, work);
                hashing.push((algorithm, spawned.ok()?));
                queues.push(chunks);
            }
            let mut reading = Reading {
                volume,
                left: volume.size,
                index: 0,
                damaged: 0,
                deflate: Decompress::new(true),
                give: |chunk: std::sync::Arc<Vec<u8>>| {
                    queues.iter().all(|queue| queue.send(std::sync::Arc::clone(&chunk)).is_ok())
                },
            };
            for table in &tables {
                reading.table(self, table)?;
            }
            let (left, index, damaged) = (reading.left, reading.index, reading.damaged);
            drop(queues);
            let mut values = Values::default();
            for (algorithm, thread) in hashing {
                let found = thread.join().ok()?;
                match algorithm {
                    Algorithm::Md5 => values.md5 = found.md5,
                    Algorithm::Sha1 => values.sha1 = found.sha1,
                    Algorithm::Sha256 => values.sha256 = found.sha256,
                }
            }
            Some((values, left, index, damaged))
        });
        let (values, left, index, damaged) = hashed?;
        if damaged > 0 {
            self.told.facts.insert("damaged_chunks".to_owned(), damaged.into());
        }
        if left > 0 {
            self.note(0, None, format!("{left} bytes of its media are in no chunk"));
            return None;
        }
        if index != u64::from(volume.chunks) {
            self.note(
                0,
                None,
                format!("it has {index} chunks, but its volume section says {}", volume.chunks),
            );
        }
        Some(values)
    }

    /// The entries of a table, or of its copy, and the offset that they count from.
    fn entries(&mut self, table: &Table) -> Option<(Vec<u32>, u64)> {
        let part = self.parts.list().get(table.part)?;
        let mut found = read_table(part, table.at, table.end);
        if found.is_none() {
            self.note(table.part, Some(table.at), "a table is damaged".to_owned());
            found = table.copy.and_then(|(at, end)| read_table(part, at, end));
        }
        if found.is_none() {
            self.note(
                table.part,
                Some(table.at),
                "the copy of a table is damaged too, or not there".to_owned(),
            );
        }
        found
    }
}

fn read_table(part: &Part, at: u64, end: u64) -> Option<(Vec<u32>, u64)> {
    let mut header = [0; TABLE_HEADER];
    part.read_exact_at(at, &mut header).ok()?;
    let body = checked(&header)?;
    let (count, base) = (u64::from(u32_at(body, 0)?), u64_at(body, 8)?);
    let length = count.checked_mul(4)?;
    let start = at.checked_add(TABLE_HEADER as u64)?;
    if length > LARGEST_TABLE || start.checked_add(length)? > end {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    part.read_exact_at(start, &mut bytes).ok()?;
    let entries: Vec<u32> = bytes.chunks_exact(4).filter_map(|entry| u32_at(entry, 0)).collect();
    // In images of SMART the chunks themselves follow at once; else a checksum does.
    let behind = start.checked_add(length)?;
    let is_followed_by_data =
        entries.first().is_some_and(|entry| base.saturating_add(u64::from(entry & !COMPRESSED)) == behind);
    if !is_followed_by_data && behind.checked_add(4)? <= end {
        let mut sum = [0; 4];
        part.read_exact_at(behind, &mut sum).ok()?;
        if u32::from_le_bytes(sum) != adler32(&bytes) {
            return None;
        }
    }
    Some((entries, base))
}

fn hash(chunks: &Receiver<std::sync::Arc<Vec<u8>>>, algorithm: Algorithm) -> Values {
    let mut hashes = Hashes::new(|one| one == algorithm);
    for chunk in chunks {
        hashes.update(&chunk);
    }
    hashes.finish()
}

/// The media, as they are read chunk by chunk.
struct Reading<G> {
    volume: Volume,
    left: u64,
    index: u64,
    damaged: u64,
    deflate: Decompress,
    give: G,
}

impl<G: Fn(std::sync::Arc<Vec<u8>>) -> bool> Reading<G> {
    /// Reads the chunks of a table. `None` ends it: too much is damaged, or nobody takes the chunks.
    fn table(&mut self, image: &mut Image<'_>, table: &Table) -> Option<()> {
        let part = image.parts.list().get(table.part)?;
        let (entries, base) = image.entries(table)?;
        let place = |entry: u32| base.saturating_add(u64::from(entry & !COMPRESSED));
        let mut behind = 0u64;
        for (at, &entry) in entries.iter().enumerate() {
            let expected = self.volume.chunk_size.min(self.left);
            if expected == 0 {
                image.note(table.part, Some(table.at), "it has more chunks than its media need".to_owned());
                return Some(());
            }
            let start = place(entry);
            let end = entries.get(at + 1).map_or(table.data_end, |&next| place(next));
            let wanted = usize::try_from(expected).ok()?;
            // Chunks that overlap would let a small file ask for endless work.
            let lies_well = start >= behind && end > start && end <= part.size;
            let chunk =
                if lies_well { self.chunk(part, start, end, entry & COMPRESSED != 0, wanted) } else { None };
            behind = end.max(behind);
            let chunk = chunk.unwrap_or_else(|| {
                self.damaged += 1;
                let what = format!("chunk {} is damaged: its {expected} bytes count as zeros", self.index);
                image.note(table.part, Some(start), what);
                vec![0; wanted]
            });
            if self.damaged > MOST_DAMAGED {
                image.note(
                    table.part,
                    Some(start),
                    "too many chunks are damaged: the rest is not read".to_owned(),
                );
                return None;
            }
            if !(self.give)(std::sync::Arc::new(chunk)) {
                return None;
            }
            self.left -= expected;
            self.index += 1;
        }
        Some(())
    }

    /// Reads one chunk, whole or not at all.
    fn chunk(
        &mut self,
        part: &Part,
        start: u64,
        end: u64,
        is_compressed: bool,
        wanted: usize,
    ) -> Option<Vec<u8>> {
        // A little more than the chunk itself is what its stored form may have.
        let most = self.volume.chunk_size.saturating_mul(2).saturating_add(4096);
        let length = usize::try_from((end - start).min(most)).ok()?;
        let mut stored = vec![0; length];
        part.read_exact_at(start, &mut stored).ok()?;
        if !is_compressed {
            let data_length = usize::try_from(self.volume.chunk_size).ok()?.min(length.checked_sub(4)?);
            stored.truncate(data_length + 4);
            let mut data = checked(&stored)?.to_vec();
            data.truncate(wanted);
            return (data.len() == wanted).then_some(data);
        }
        self.deflate.reset(true);
        let mut data = vec![0; usize::try_from(self.volume.chunk_size).ok()?];
        let status = self.deflate.decompress(&stored, &mut data, FlushDecompress::Finish).ok()?;
        let given = usize::try_from(self.deflate.total_out()).ok()?;
        data.truncate(wanted);
        (status == Status::StreamEnd && given >= wanted).then_some(data)
    }
}

impl Told {
    /// The text of a header section: names in one line, values in the next, divided by tabs.
    fn header(&mut self, data: &[u8]) -> Option<()> {
        let mut bytes = Vec::new();
        ZlibDecoder::new(data).take(LONGEST_HEADER).read_to_end(&mut bytes).ok()?;
        let text = match bytes.split_at_checked(2) {
            Some(([0xFF, 0xFE], rest)) => wide(rest, u16::from_le_bytes),
            Some(([0xFE, 0xFF], rest)) => wide(rest, u16::from_be_bytes),
            _ => bytes.iter().map(|&byte| char::from(byte)).collect(),
        };
        let mut lines = text.lines().map(|line| line.trim_end_matches('\r'));
        lines.find(|line| *line == "main")?;
        let (names, values) = (lines.next()?, lines.next()?);
        for (name, value) in names.split('\t').zip(values.split('\t')) {
            let Some((_, called)) = FIELDS.iter().find(|(field, _)| *field == name) else { continue };
            if value.is_empty() {
                continue;
            }
            let value = match value.parse::<i64>() {
                Ok(seconds) if matches!(name, "m" | "u") => custody::bundle::file_time(seconds, 0)?,
                _ => escape_text(value.chars().take(4000).collect::<String>().as_bytes()),
            };
            self.facts.insert((*called).to_owned(), value.into());
        }
        self.has_header = true;
        Some(())
    }

    fn volume(&mut self, data: &[u8]) -> Option<()> {
        // Images of SMART have 94 bytes, with the number of sectors in 32 bits.
        let is_short = data.len() < 1052;
        let body = checked(data.get(..if is_short { 94 } else { 1052 })?)?;
        let (chunks, per_chunk, sector) = (u32_at(body, 4)?, u32_at(body, 8)?, u32_at(body, 12)?);
        let sectors = if is_short { u64::from(u32_at(body, 16)?) } else { u64_at(body, 16)? };
        let chunk_size = u64::from(per_chunk).checked_mul(u64::from(sector))?;
        let size = sectors.checked_mul(u64::from(sector))?;
        if chunk_size == 0 || chunk_size > LARGEST_CHUNK || size > 1 << 53 {
            return None;
        }
        self.facts.insert(
            "media".to_owned(),
            json!({"size": size, "sector_size": sector, "sectors": sectors, "chunk_size": chunk_size}),
        );
        self.volume = Some(Volume { chunks, chunk_size, size });
        Some(())
    }

    fn hash(&mut self, data: &[u8]) -> Option<()> {
        let md5 = checked(data)?.get(..16)?;
        if md5.iter().any(|&byte| byte != 0) && self.stored.md5.is_none() {
            self.stored.md5 = Some(hex(md5));
        }
        Some(())
    }

    fn digest(&mut self, data: &[u8]) -> Option<()> {
        let body = checked(data)?;
        let (md5, sha1) = (body.get(..16)?, body.get(16..36)?);
        let is_there = |hash: &[u8]| hash.iter().any(|&byte| byte != 0);
        if is_there(md5) {
            self.stored.md5 = Some(hex(md5));
        }
        if is_there(sha1) {
            self.stored.sha1 = Some(hex(sha1));
        }
        Some(())
    }

    /// Sectors that its maker could not read.
    fn errors(&mut self, data: &[u8]) -> Option<()> {
        let count = usize::try_from(u32_at(checked(data.get(..520)?)?, 0)?).ok()?;
        // The list may be longer than what was read of it.
        let entries = data.get(520..)?.chunks_exact(8).take(count);
        let mut sectors = 0u64;
        let mut listed = Vec::new();
        for entry in entries {
            let (start, length) = (u32_at(entry, 0)?, u32_at(entry, 4)?);
            sectors = sectors.saturating_add(length.into());
            if listed.len() < LISTED_ERRORS {
                listed.push(json!([start, length]));
            }
        }
        self.facts
            .insert("read_errors".to_owned(), json!({"runs": count, "sectors": sectors, "first": listed}));
        Some(())
    }
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> =
        bytes.chunks_exact(2).filter_map(|pair| Some(unit(pair.try_into().ok()?))).collect();
    String::from_utf16_lossy(&units)
}
