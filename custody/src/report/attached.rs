//! The report as PDF, with the files inside that it was made from.

use super::Report;
use super::material::Log;
use super::pdf::{self, Attachment, Relationship};
use crate::case::Case;
use crate::case_layout;
use crate::durable_file::read_small;
use crate::error::Result;

/// A log that is longer is named in the report and not put into the PDF.
const LONGEST_LOG: u64 = 64 << 20;
/// All files inside one PDF together.
const MOST: u64 = 256 << 20;

/// A file to put into the PDF.
struct Inside {
    name: String,
    mime: &'static str,
    description: String,
    bytes: Vec<u8>,
    relationship: Relationship,
}

impl Report {
    /// The report as one PDF/A-3a file. Inside it lie the logs up to their signed heads, those heads, the manifests, the
    /// CASE graph and the JSON; a log of more than 64 MiB, and what goes beyond 256 MiB, stays outside.
    ///
    /// `case` is the one that the report was made from. The same heads give the same bytes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] if it cannot be laid out, which no content makes it do.
    pub fn to_pdf(&self, case: &Case) -> Result<Vec<u8>> {
        let m = &self.material;
        let mut files = vec![
            Inside {
                name: "report.json".to_owned(),
                mime: "application/json",
                description: "The report for programs; its SHA-256 begins with the report's id".to_owned(),
                bytes: self.json.clone().into_bytes(),
                relationship: Relationship::Alternative,
            },
            Inside {
                name: "report.case.jsonld".to_owned(),
                mime: "application/ld+json",
                description: "Every act in the ontology CASE 1.4".to_owned(),
                bytes: self.to_case_jsonld()?.into_bytes(),
                relationship: Relationship::Alternative,
            },
        ];
        for log in m.logs() {
            files.extend(of_log(case, log));
        }
        for x in &m.exhibits {
            for (file, mime) in
                [("manifest.json", "application/json"), ("manifest.json.sig", "application/octet-stream")]
            {
                let path = case.folder().join(&x.folder).join(file);
                if let Ok(Some(bytes)) = read_small(&path, LONGEST_LOG) {
                    files.push(Inside {
                        name: format!("{}-{file}", x.id),
                        mime,
                        description: format!("{file} of exhibit {}", x.id),
                        bytes,
                        relationship: Relationship::Source,
                    });
                }
            }
        }
        let mut room = MOST;
        files.retain(|file| {
            let size = u64::try_from(file.bytes.len()).unwrap_or(u64::MAX);
            let fits = size <= room;
            room = room.saturating_sub(if fits { size } else { 0 });
            fits
        });
        let attachments: Vec<Attachment<'_>> = files
            .iter()
            .map(|file| Attachment {
                name: &file.name,
                mime: file.mime,
                description: &file.description,
                bytes: &file.bytes,
                relationship: file.relationship,
            })
            .collect();
        let created = m.entries().map(|(_, entry)| entry.time.wall.as_str()).max();
        pdf::render(&self.document(), &attachments, created.unwrap_or(&m.case.created))
    }
}

/// A log up to its signed head, and that head.
fn of_log(case: &Case, log: &Log) -> Vec<Inside> {
    let Some(head) = &log.head else { return Vec::new() };
    let folder = case.folder().join(&log.folder);
    let bytes = read_small(&case_layout::log(&folder), LONGEST_LOG).ok().flatten();
    let lines = bytes.map(|bytes| {
        let covered = usize::try_from(log.size()).unwrap_or(usize::MAX);
        bytes.split_inclusive(|byte| *byte == b'\n').take(covered).flatten().copied().collect::<Vec<u8>>()
    });
    let log_file = lines.map(|bytes| Inside {
        name: format!("{}-custody.jsonl", log.name),
        mime: "application/x-ndjson",
        description: format!(
            "The custody log of {}, up to the signed head that the report was made from",
            log.title()
        ),
        bytes,
        relationship: Relationship::Source,
    });
    let head = Inside {
        name: format!("{}-checkpoint", log.name),
        mime: "text/plain",
        description: format!("The signed head of the log of {}", log.title()),
        bytes: head.note.to_text().into_bytes(),
        relationship: Relationship::Source,
    };
    log_file.into_iter().chain([head]).collect()
}
