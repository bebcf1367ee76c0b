//! The report as PDF/A-3a: pages to print, structure for those who cannot see them, and the files it speaks of inside.
//!
//! [`krilla`] writes the PDF and refuses what PDF/A-3a (ISO 19005-3) or PDF/UA-1 (ISO 14289-1) forbid; the layout is
//! ours. No clock is read: the same document, files and time give the same bytes.

mod blocks;
mod columns;
mod contents;
mod draw;
mod enclosed;
mod fonts;
mod lines;
mod page;
mod picture;
mod table;
mod text;

use chrono::{DateTime as Instant, Datelike, Timelike};
use krilla::SerializeSettings;
use krilla::configure::{Accessibility, Archival, ConfigurationBuilder};
use krilla::embed::{AssociationKind, EmbeddedFile, MimeType};
use krilla::metadata::{DateTime, Metadata, TextDirection};
use krilla::outline::{Outline, OutlineNode};

use self::fonts::Fonts;
use self::page::Book;
use self::text::named;
use super::document::Document;
use crate::clock::parse_rfc3339;
use crate::error::{Error, Result};

/// All attachments together are at most so large: the whole PDF is made in memory.
pub const MOST_ATTACHED: usize = 1 << 30;

/// The longest title, description or name in the file's own data, in characters.
const LONGEST: usize = 500;

/// A file inside the PDF.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// Its name, without a folder; no two are the same.
    pub name: &'a str,
    /// What it is, as `application/json`.
    pub mime: &'a str,
    /// What it is, for a reader.
    pub description: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
    /// What it is to the report.
    pub relationship: Relationship,
}

/// What an attachment is to the report (`AFRelationship` of ISO 19005-3, annex E).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relationship {
    /// The report was made from it: logs, manifests, checkpoints.
    Source,
    /// The report shows it: tables as data.
    Data,
    /// It says the same in another form: JSON, CASE.
    Alternative,
    /// It adds to the report.
    Supplement,
}

/// The document as one PDF/A-3a file, with these files inside. `created` is the time it is of (RFC 3339); no clock is
/// read.
///
/// A document of one part has no table of contents. A character that no face within the program has, and one that would
/// act on the text around it, is printed as `[U+XXXX]`. The same arguments give the same bytes in every build of the
/// same versions.
///
/// # Errors
///
/// [`Error::Malformed`] if `created` is no time, if an attachment has a name that is not plain or is there twice or a type
/// that is none, or if there are more than [`MOST_ATTACHED`] bytes of them.
pub fn render(document: &Document, attachments: &[Attachment<'_>], created: &str) -> Result<Vec<u8>> {
    let created = date(created)?;
    let fonts = Fonts::load()?;
    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A3_A)
        .with_accessibility_validator(Accessibility::UA1)
        .finish()
        .map_err(|error| Error::malformed("PDF", format!("{error:?}")))?;
    let settings = SerializeSettings { configuration, enable_tagging: true, ..SerializeSettings::default() };
    let mut pdf = krilla::Document::new_with(settings);
    pdf.set_metadata(metadata(document, created));

    let mut book = lay_out(document, &fonts);
    let pages = std::mem::take(&mut book.pages);
    let structure = draw::pages(&mut pdf, &fonts, pages, &book.parts, &document.foot)?;
    pdf.set_tag_tree(structure);
    let mut outline = Outline::new();
    for (part, place) in document.parts.iter().zip(&book.parts) {
        outline.push_child(OutlineNode::new(named(part.title, LONGEST), draw::destination(place)));
    }
    pdf.set_outline(outline);
    attach(&mut pdf, attachments, created)?;
    pdf.finish().map_err(|error| {
        let why: String = format!("{error}: {error:?}").chars().take(LONGEST).collect();
        Error::malformed("PDF", why)
    })
}

/// Everything in its place, page by page.
fn lay_out<'f>(document: &Document, fonts: &'f Fonts) -> Book<'f> {
    let mut book = Book::new(fonts);
    blocks::title(&mut book, document);
    let many = document.parts.len() > 1;
    let mut kept = None;
    for (at, part) in document.parts.iter().enumerate() {
        blocks::part(&mut book, part, many);
        if at == 0 && many {
            kept = Some(contents::keep(&mut book, &document.parts));
        }
    }
    if let Some(kept) = kept {
        contents::fill(&mut book, &kept, &document.parts);
    }
    book
}

fn metadata(document: &Document, created: DateTime) -> Metadata {
    let exhibit = format!("exhibit {}", env!("CARGO_PKG_VERSION"));
    let title = format!("{}: {}", document.title, document.subtitle);
    let foot = &document.foot;
    Metadata::new()
        .title(named(&title, LONGEST))
        .description(named(&format!("Report {}, checkpoint {}", foot.report_id, foot.checkpoint), LONGEST))
        .language("en-GB".to_owned())
        .creator(exhibit.clone())
        .producer(exhibit)
        .creation_date(created)
        .document_id(named(&format!("{}/{}/{}", foot.case, foot.report_id, foot.checkpoint), LONGEST))
        .text_direction(TextDirection::LeftToRight)
}

fn attach(pdf: &mut krilla::Document, attachments: &[Attachment<'_>], created: DateTime) -> Result<()> {
    let mut rest = MOST_ATTACHED;
    for attachment in attachments {
        let name = attachment.name;
        let refused = |why: &str| Error::malformed("attachment", format!("{name:?} {why}"));
        let plain = |character: char| !character.is_control() && !"/\\:".contains(character);
        if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(refused("is no plain name of a file"));
        }
        rest = rest
            .checked_sub(attachment.bytes.len())
            .ok_or_else(|| refused("is too much: the attachments are larger than a GiB together"))?;
        let mime = MimeType::new(attachment.mime).ok_or_else(|| refused("has a type that is none"))?;
        let file = EmbeddedFile {
            path: name.to_owned(),
            mime_type: Some(mime),
            description: Some(named(attachment.description, LONGEST)),
            association_kind: match attachment.relationship {
                Relationship::Source => AssociationKind::Source,
                Relationship::Data => AssociationKind::Data,
                Relationship::Alternative => AssociationKind::Alternative,
                Relationship::Supplement => AssociationKind::Supplement,
            },
            data: attachment.bytes.to_vec().into(),
            modification_date: Some(created),
            compress: None,
            location: None,
        };
        pdf.embed_file(file).ok_or_else(|| refused("is there twice"))?;
    }
    Ok(())
}

fn date(created: &str) -> Result<DateTime> {
    let time = Instant::from_timestamp_nanos(parse_rfc3339(created)?);
    let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let year =
        u16::try_from(time.year()).map_err(|_| Error::malformed("time", "its year is out of range"))?;
    Ok(DateTime::new(year)
        .month(small(time.month()))
        .day(small(time.day()))
        .hour(small(time.hour()))
        .minute(small(time.minute()))
        .second(small(time.second()))
        .utc_offset_hour(0)
        .utc_offset_minute(0))
}
