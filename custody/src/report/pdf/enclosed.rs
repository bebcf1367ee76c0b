//! What the report speaks of, inside its PDF: logs, checkpoints, manifests, and the report for programs.
//!
//! A file is enclosed only if it is still what the report was made from; what is not is told, with the reason.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::{Attachment, Relationship, render};
use crate::anchors::HOW_CHECKPOINT;
use crate::case_layout;
use crate::clock::parse_rfc3339;
use crate::custody_log::lock_shared;
use crate::digest::{Digest, sha256};
use crate::durable_file::read_small;
use crate::entry::{EntryType, MAX_ENTRY};
use crate::error::Result;
use crate::report::Report;
use crate::report::document::{Block, Column, ColumnKind, Document, Part, Row, Span, Table, Tone};
use crate::report::material::{ExhibitMaterial, Log};
use crate::report::units::thousands;

/// The largest file that is enclosed, and all of them together.
const LARGEST: usize = 64 << 20;
const TOGETHER: usize = 256 << 20;
/// A log with more anchors has its first ones enclosed.
const MOST_ANCHORS: usize = 100;
/// A verification key is one short line.
const LONGEST_VKEY: u64 = 4096;

/// A file to be enclosed, or why it is not.
struct Enclosure {
    name: String,
    mime: &'static str,
    description: String,
    relationship: Relationship,
    content: Result<Vec<u8>, String>,
}

impl Report {
    /// The report as PDF/A-3a. Inside it: `report.json`, `report.case.jsonld`, and of the case and each exhibit the log as far
    /// as it is signed, its checkpoint, key and anchors, the manifest, its signature and `SHA256SUMS`.
    ///
    /// It is dated by the last entry of the logs: the same heads give the same bytes. Its last part lists the files inside,
    /// and what was left out because it is larger than 64 MiB (or all are larger than 256 MiB), or is no longer what the
    /// report was made from.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`](crate::Error::Malformed) if it cannot be written, which no content makes it do.
    pub fn to_pdf(&self, case: &Path) -> Result<Vec<u8>> {
        let mut enclosures = vec![
            made("report.json", "application/json", "This report for programs", self.to_json()),
            made(
                "report.case.jsonld",
                "application/ld+json",
                "Every act in CASE 1.4",
                &self.to_case_jsonld()?,
            ),
        ];
        enclosures.extend(of_log(case, &self.material.log));
        enclosures.extend(of_anchors(case, &self.material.log));
        for exhibit in &self.material.exhibits {
            enclosures.extend(of_log(case, &exhibit.log));
            enclosures.extend(of_anchors(case, &exhibit.log));
            enclosures.extend(of_bundle(case, exhibit));
        }
        let mut rest = TOGETHER;
        for enclosure in &mut enclosures {
            let size = enclosure.content.as_ref().map_or(0, Vec::len);
            match rest.checked_sub(size) {
                Some(left) => rest = left,
                None => enclosure.content = Err("the files before it are large enough".to_owned()),
            }
        }
        let mut document = self.document();
        document.parts.push(part(&document, &enclosures));
        let attachments: Vec<Attachment<'_>> = enclosures.iter().filter_map(Enclosure::attachment).collect();
        render(&document, &attachments, &self.time())
    }

    /// The time of the last entry, which the PDF is dated by.
    fn time(&self) -> String {
        let last = self.material.entries().map(|(_, entry)| entry.time.wall.as_str()).max();
        let times = last.into_iter().chain([self.material.case.created.as_str()]);
        let mut valid = times.filter(|time| parse_rfc3339(time).is_ok());
        valid.next().unwrap_or("1970-01-01T00:00:00Z").to_owned()
    }
}

impl Enclosure {
    fn attachment(&self) -> Option<Attachment<'_>> {
        let bytes = self.content.as_deref().ok()?;
        let (name, description) = (self.name.as_str(), self.description.as_str());
        Some(Attachment { name, mime: self.mime, description, bytes, relationship: self.relationship })
    }

    fn row(&self) -> Row {
        let (cells, tone) = match &self.content {
            Ok(bytes) => {
                let hash = Span::mono(sha256(bytes).to_string());
                ([Span::plain(thousands(bytes.len() as u64)), hash], Tone::Plain)
            }
            Err(why) => ([Span::plain(""), Span::plain(format!("left out: {why}"))], Tone::Warn),
        };
        let [size, hash] = cells.map(|span| vec![span]);
        let name = vec![Span::mono(self.name.clone())];
        Row { cells: vec![name, vec![Span::plain(self.description.clone())], size, hash], tone }
    }
}

fn made(name: &str, mime: &'static str, description: &str, text: &str) -> Enclosure {
    Enclosure {
        name: name.to_owned(),
        mime,
        description: description.to_owned(),
        relationship: Relationship::Alternative,
        content: Ok(text.as_bytes().to_vec()),
    }
}

fn source(
    name: String,
    mime: &'static str,
    description: String,
    content: Result<Vec<u8>, String>,
) -> Enclosure {
    Enclosure { name, mime, description, relationship: Relationship::Source, content }
}

/// A log as far as it is signed, its checkpoint, its key.
fn of_log(case: &Path, log: &Log) -> Vec<Enclosure> {
    let folder = log.folder_in(case);
    let (name, title) = (&log.name, log.title());
    let head = log.head.as_ref().map(|head| head.note.to_text().into_bytes());
    let key = match read_small(&folder.join(case_layout::LOG_VKEY), LONGEST_VKEY) {
        Ok(key) => key.ok_or_else(|| "it is not there".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    vec![
        source(
            format!("{name}-custody.jsonl"),
            "application/jsonl",
            format!("The log of {title}, {} entries", log.size()),
            signed_lines(&folder, log),
        ),
        source(
            format!("{name}-checkpoint"),
            "text/plain",
            format!("The signed head of the log of {title}"),
            head.ok_or_else(|| "the log has no signed head".to_owned()),
        ),
        source(format!("{name}-log.vkey"), "text/plain", format!("The first key of the log of {title}"), key),
    ]
}

/// The anchors of a log, and the checkpoints that they are over.
fn of_anchors(case: &Path, log: &Log) -> Vec<Enclosure> {
    let folder = log.folder_in(case);
    let enclose = |id: &str, sealed: Option<Digest>| {
        let content = match read_small(&folder.join(id), LARGEST as u64) {
            Ok(Some(bytes)) if sealed.is_none_or(|sealed| sealed == sha256(&bytes)) => Ok(bytes),
            Ok(Some(_)) => Err("it is not what the log recorded".to_owned()),
            Ok(None) => Err("it is not there".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let what = if sealed.is_some() { "An anchor" } else { "A checkpoint that anchors are over" };
        let name = format!("{}-{}", log.name, id.replace('/', "-"));
        source(name, "application/octet-stream", format!("{what}, of the log of {}", log.title()), content)
    };
    let mut files = BTreeMap::new();
    for entry in log.of(&EntryType::ANCHOR_MADE).take(MOST_ANCHORS) {
        for subject in entry.about.subject.iter().filter(|subject| is_inside(&subject.id, "anchors/")) {
            files.insert(subject.id.as_str(), subject.sha256);
        }
        if let Some(over) = entry.how_text(HOW_CHECKPOINT).filter(|over| is_inside(over, "checkpoints/")) {
            files.insert(over, None);
        }
    }
    files.into_iter().map(|(id, sealed)| enclose(id, sealed)).collect()
}

/// Whether a name that an entry gives is a plain file's in that folder.
fn is_inside(id: &str, folder: &str) -> bool {
    id.strip_prefix(folder)
        .is_some_and(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'))
}

/// The lines that a log's signed head covers.
fn signed_lines(folder: &Path, log: &Log) -> Result<Vec<u8>, String> {
    let changed = || "it is no longer what this report was made from".to_owned();
    let file = lock_shared(&case_layout::log(folder)).map_err(|error| error.to_string())?;
    let mut file = BufReader::new(file);
    let mut lines = Vec::new();
    for _ in 0..log.size() {
        let read = (&mut file).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut lines);
        if read.map_err(|error| error.to_string())? == 0 {
            return Err(changed());
        }
        if lines.len() > LARGEST {
            return Err("it is larger than 64 MiB".to_owned());
        }
    }
    if log.sha256 == Some(sha256(&lines)) { Ok(lines) } else { Err(changed()) }
}

/// Manifest, signature and list of hashes of an exhibit, as its log sealed them.
fn of_bundle(case: &Path, exhibit: &ExhibitMaterial) -> Vec<Enclosure> {
    let sealed = exhibit.log.first(&EntryType::BUNDLE_SEALED);
    let files = [
        ("manifest.json", "application/json", "The manifest of"),
        ("manifest.json.sig", "application/octet-stream", "The signature over the manifest of"),
        ("SHA256SUMS", "text/plain", "The hashes of the files of"),
    ];
    let enclose = |(name, mime, what): (&str, &'static str, &str)| {
        let content = sealed.ok_or_else(|| "the exhibit is not sealed".to_owned()).and_then(|sealed| {
            let file = case.join(&exhibit.folder).join(name);
            let bytes = read_small(&file, LARGEST as u64).map_err(|error| error.to_string())?;
            let bytes = bytes.ok_or_else(|| "it is not there".to_owned())?;
            let found = Some(sha256(&bytes));
            let same =
                sealed.about.subject.iter().any(|subject| subject.id == name && subject.sha256 == found);
            if same { Ok(bytes) } else { Err("it is not what the log sealed".to_owned()) }
        });
        source(format!("{}-{name}", exhibit.id), mime, format!("{what} {}", exhibit.id), content)
    };
    files.into_iter().map(enclose).collect()
}

/// The part that lists them.
fn part(document: &Document, enclosures: &[Enclosure]) -> Part {
    let column = |title: &str, kind, weight| Column { title: title.to_owned(), kind, weight };
    Part {
        number: u8::try_from(document.parts.len() + 1).unwrap_or(u8::MAX),
        anchor: "enclosed",
        title: "Files inside this PDF",
        question: "Where is what it speaks of?",
        blocks: vec![
            Block::Text(vec![Span::plain(
                "This PDF carries the records that it was made from. Most viewers list them as attachments; pdfdetach \
                 -saveall takes them out. They are the files of the case, byte for byte.",
            )]),
            Block::Table(Table {
                caption: "Enclosed".to_owned(),
                columns: vec![
                    column("File", ColumnKind::Words, 4),
                    column("What it is", ColumnKind::Words, 5),
                    column("Bytes", ColumnKind::Number, 1),
                    column("SHA-256", ColumnKind::Hash, 4),
                ],
                rows: enclosures.iter().map(Enclosure::row).collect(),
            }),
        ],
    }
}
