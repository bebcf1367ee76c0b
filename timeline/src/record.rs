//! Walks from a row back to its bytes, reads them alone again, and says which bytes of the stream they stand on.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bytes::{ByteSource, Pieces, StreamRange, read_vec};
use crate::error::ReadError;
use crate::event::{Event, Span};
use crate::file_scan::EvidenceFile;
use crate::parser::{Collected, Context, Input, LARGEST_HELD, Parser};
use crate::unpack::Codec;

/// Where a row says its record lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Way from the stream to the decoded bytes.
    pub locator: String,
    /// The record's range in them.
    pub span: Span,
    /// Further pieces: `offset+length[>codec]`, separated by spaces.
    pub pieces: Option<String>,
}

/// A record's bytes, and where in the stream they come from.
pub struct Record {
    /// The bytes of the record's range.
    pub bytes: Vec<u8>,
    /// The bytes of its pieces, each with its offset.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// Ranges of the stream that hold the record: of a compressed member, from its start to the record's end.
    pub ranges: Vec<StreamRange>,
    /// What the ranges hold, where that is not the record's own bytes: deflated chunks of an image, say.
    pub stored_as: Option<&'static str>,
    /// Ranges of the stream that say where the file lies: inode and extent map, entries of an image's tables.
    pub map_ranges: Vec<StreamRange>,
    /// Size of the decoded bytes where known, for the parser.
    size: u64,
}

/// The ranges in a `pieces` column; `None` where it is not of that form.
pub fn parse_pieces(pieces: &str) -> Option<Vec<Span>> {
    pieces
        .split_ascii_whitespace()
        .map(|piece| {
            let place = piece.split_once('>').map_or(piece, |(place, _)| place);
            let (offset, length) = place.split_once('+')?;
            Some(Span::new(offset.parse().ok()?, length.parse().ok()?))
        })
        .collect()
}

/// Reads the record at `place` out of `source`, the stored bytes of its file.
///
/// # Errors
///
/// [`ReadError`] when the bytes cannot be read, or the place is not in them.
pub fn read(source: &Arc<dyn ByteSource>, codec: Option<Codec>, place: &Place) -> Result<Record, ReadError> {
    let bad = |reason: &str| ReadError::Read {
        what: place.locator.clone(),
        offset: place.span.offset,
        length: place.span.length,
        reason: reason.to_owned(),
    };
    let spans = match &place.pieces {
        Some(pieces) => {
            parse_pieces(pieces).ok_or_else(|| bad("the pieces are not of the form offset+length"))?
        }
        None => Vec::new(),
    };
    let end = spans.iter().map(|span| span.end()).max().unwrap_or(0).max(place.span.end());
    if spans.iter().chain([&place.span]).map(|span| span.length).fold(0, u64::saturating_add) > LARGEST_HELD {
        return Err(bad("the record is larger than any we read"));
    }
    let record = match codec {
        None => {
            let part =
                |span: &Span| read_vec(&**source, span.offset, usize::try_from(span.length).unwrap_or(0));
            let all: Vec<Span> = std::iter::once(place.span).chain(spans.iter().copied()).collect();
            let mut ranges = source.stream_ranges(place.span.offset, place.span.length);
            let mut pieces = Vec::new();
            for span in &spans {
                pieces.push((span.offset, part(span)?));
                ranges.extend(source.stream_ranges(span.offset, span.length));
            }
            Record {
                bytes: part(&place.span)?,
                pieces,
                ranges,
                stored_as: all.iter().find_map(|span| source.stored_as(span.offset, span.length)),
                map_ranges: map_ranges(&**source, &all),
                size: source.len(),
            }
        }
        Some(codec) => {
            let first = spans.iter().map(|span| span.offset).min().unwrap_or(u64::MAX).min(place.span.offset);
            let (mut reader, taken) = codec.open(source.clone());
            let failed = |error: std::io::Error| ReadError::Decompress {
                codec: codec.name(),
                offset: first,
                reason: error.to_string(),
            };
            std::io::copy(&mut reader.by_ref().take(first), &mut std::io::sink()).map_err(failed)?;
            let length = end.saturating_sub(first);
            if length > LARGEST_HELD {
                return Err(bad("the record's pieces lie too far apart in a compressed member"));
            }
            let mut held = Vec::new();
            reader.take(length).read_to_end(&mut held).map_err(failed)?;
            let taken = taken.load(Ordering::Relaxed);
            let part = |span: &Span| -> Vec<u8> {
                let from = usize::try_from(span.offset.saturating_sub(first)).unwrap_or(usize::MAX);
                let length = usize::try_from(span.length).unwrap_or(0);
                held.get(from..).map(|rest| rest.get(..length).unwrap_or(rest).to_vec()).unwrap_or_default()
            };
            Record {
                bytes: part(&place.span),
                pieces: spans.iter().map(|span| (span.offset, part(span))).collect(),
                ranges: source.stream_ranges(0, taken),
                stored_as: source.stored_as(0, taken),
                map_ranges: map_ranges(&**source, &[Span::new(0, taken)]),
                size: u64::MAX,
            }
        }
    };
    if record.bytes.len() as u64 != place.span.length {
        return Err(bad("the range is not in the file"));
    }
    Ok(record)
}

/// Everything that says where these spans of a source lie, each range once.
fn map_ranges(source: &dyn ByteSource, spans: &[Span]) -> Vec<StreamRange> {
    let mut ranges = source.map_ranges();
    for range in spans.iter().flat_map(|span| source.container_ranges(span.offset, span.length)) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    ranges
}

impl Record {
    /// Gives the record's bytes alone, and nothing else of the evidence, to its parser.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the parser asks for bytes that are not the record's.
    pub fn parse(
        &self,
        file: &EvidenceFile,
        parser: &dyn Parser,
        span: Span,
        context: &Context,
    ) -> Result<Vec<Event>, ReadError> {
        let mut random = Pieces::new(self.size);
        for (offset, bytes) in std::iter::once(&(span.offset, self.bytes.clone())).chain(&self.pieces) {
            random.add(*offset, bytes.clone());
        }
        let mut input = Input::of_record(&file.path, span.offset, self.bytes.clone(), Arc::new(random));
        let mut out = Collected::default();
        parser.parse(&mut input, context, &mut out)?;
        out.events.iter_mut().for_each(|event| file.complete(event, context));
        Ok(out.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_with_and_without_a_codec() {
        assert_eq!(parse_pieces("0+272 4096+100>zstd"), Some(vec![Span::new(0, 272), Span::new(4096, 100)]));
        assert_eq!(parse_pieces("12-5"), None);
        assert_eq!(parse_pieces("1+99999999999999999999"), None);
    }

    #[test]
    fn a_record_in_a_compressed_member_stands_on_its_stored_bytes_up_to_there() {
        let stored: Arc<dyn ByteSource> =
            Arc::new(zstd::encode_all(&b"first\nsecond\nthird"[..], 1).unwrap());
        let place = Place { locator: "x>zstd".into(), span: Span::new(6, 6), pieces: None };
        let record = read(&stored, Some(Codec::Zstd), &place).unwrap();
        assert_eq!(record.bytes, b"second");
        assert_eq!(record.ranges, vec![0..stored.len()]);
        let beyond = Place { span: Span::new(13, 6), ..place };
        assert!(read(&stored, Some(Codec::Zstd), &beyond).is_err());
    }
}
