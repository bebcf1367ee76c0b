//! What one row stands on: bytes of several structures, each with where in the image it lies.
//!
//! The row's range is the first range of the first part. Its pieces are all others, in order; `0+0` stands between one
//! part and the next, so that a part may lie in several places, or in none.

use crate::event::{Event, Span};

/// A piece of one structure, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its bytes; empty where it is not in the image.
    pub(crate) bytes: Vec<u8>,
    /// Where they lie, in their order.
    pub(crate) spans: Vec<Span>,
}

impl Part {
    /// Adds bytes that follow those there are.
    pub(crate) fn add(&mut self, span: Span, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        match self.spans.last_mut() {
            Some(last) if last.end() == span.offset => last.length = last.length.saturating_add(span.length),
            _ => self.spans.push(span),
        }
    }
}

/// The parts of a row, read again by their places.
pub(crate) fn parts_of(bytes: &[u8], span: Span, pieces: &[(u64, Vec<u8>)]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = Part { bytes: bytes.to_vec(), spans: vec![span] };
    for (offset, bytes) in pieces {
        if bytes.is_empty() {
            parts.push(std::mem::take(&mut part));
        } else {
            // Ranges that touch stay apart as they were: the row must name them in the same way.
            part.bytes.extend_from_slice(bytes);
            part.spans.push(Span::new(*offset, bytes.len() as u64));
        }
    }
    parts.push(part);
    parts
}

/// Gives a row its range and its pieces.
pub(crate) fn place(event: &mut Event, parts: &[Part]) {
    let mut spans = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            spans.push(Span::default());
        }
        spans.extend(&part.spans);
    }
    event.span = spans.first().copied().unwrap_or_default();
    let pieces: Vec<String> =
        spans.iter().skip(1).map(|span| format!("{}+{}", span.offset, span.length)).collect();
    event.pieces = (!pieces.is_empty()).then(|| pieces.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::parse_pieces;

    #[test]
    fn parts_come_back_as_they_were_missing_ones_too() {
        let mut first = Part::default();
        first.add(Span::new(100, 2), b"ab");
        first.add(Span::new(102, 1), b"c");
        first.add(Span::new(300, 1), b"d");
        assert_eq!(first.spans.len(), 2);
        let mut last = Part::default();
        last.add(Span::new(50, 2), b"xy");
        let parts = vec![first, Part::default(), last, Part::default()];
        let mut event = Event::new("x", "x", Span::default(), "");
        place(&mut event, &parts);
        assert_eq!(event.span, Span::new(100, 3));
        assert_eq!(event.pieces.as_deref(), Some("300+1 0+0 0+0 50+2 0+0"));
        let all = |span: &Span| match span.offset {
            300 => b"d".to_vec(),
            50 => b"xy".to_vec(),
            _ => Vec::new(),
        };
        let pieces = parse_pieces(event.pieces.as_deref().unwrap()).unwrap();
        let pieces: Vec<_> = pieces.iter().map(|span| (span.offset, all(span))).collect();
        assert_eq!(parts_of(b"abc", event.span, &pieces), parts);
    }
}
