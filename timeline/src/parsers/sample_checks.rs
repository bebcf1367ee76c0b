//! What the tests of several parsers check alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Datelike;

use crate::bytes::Pieces;
use crate::event::Event;
use crate::parser::{Collected, Context, Input, Parser, Probe};
use crate::year::YearPlan;

/// The samples of one parser, by name.
pub(super) fn samples(parser: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(parser);
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "{parser} has no samples");
    all
}

/// A file of the evidence kept beside the project, or `None`, said aloud, where it is not there.
#[allow(clippy::print_stderr, reason = "a test that is skipped must say so")]
pub(super) fn outside(name: &str) -> Option<Vec<u8>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora").join(name);
    std::fs::read(&path).map_err(|error| eprintln!("skipped: {}: {error}", path.display())).ok()
}

/// Whether the parser claims the file.
pub(super) fn claims(parser: &dyn Parser, path: &str, bytes: &[u8]) -> bool {
    let head = bytes.get(..4096).unwrap_or(bytes);
    parser.claims(&Probe { path, head, size: Some(bytes.len() as u64) })
}

/// All that the parser finds.
pub(super) fn read(parser: &dyn Parser, bytes: &[u8], context: &Context) -> Collected {
    let mut out = Collected::default();
    let mut input = Input::of_source("/sample", Arc::new(bytes.to_vec()));
    parser.parse(&mut input, context, &mut out).unwrap();
    out
}

/// Reads each record again from its own bytes alone; the rows must be equal.
pub(super) fn every_record_reads_alone(parser: &dyn Parser, bytes: &[u8], context: &Context) {
    let events = read(parser, bytes, context).events;
    for record in events.chunk_by(|a, b| a.span == b.span) {
        let first: &Event = record.first().unwrap();
        let (from, to) = (first.span.offset as usize, first.span.end() as usize);
        let year = match first.time.and_then(|t| context.zone.zone.to_local(t)) {
            Some(local) => YearPlan::Exact { year: local.year(), basis: first.year_basis },
            None => YearPlan::Unknown,
        };
        let mut out = Collected::default();
        let own = bytes[from..to].to_vec();
        let mut input = Input::of_record("/sample", from as u64, own, Arc::new(Pieces::new(0)));
        parser.parse(&mut input, &Context { year, ..context.clone() }, &mut out).unwrap();
        assert_eq!(out.events, record, "{}", String::from_utf8_lossy(&bytes[from..to]));
        assert_eq!(out.rejects, [], "{}", String::from_utf8_lossy(&bytes[from..to]));
    }
}

/// Every byte is in a record, a reject, the filler or a line end.
pub(super) fn every_byte_is_accounted_for(found: &Collected, bytes: &[u8]) {
    let mut free = vec![true; bytes.len()];
    let spans = found.events.iter().map(|e| e.span).chain(found.rejects.iter().map(|(span, _)| *span));
    for span in spans.chain(found.filler.iter().copied()) {
        free[span.offset as usize..span.end() as usize].fill(false);
    }
    let left: Vec<usize> =
        (0..bytes.len()).filter(|at| free[*at] && !matches!(bytes[*at], b'\n' | b'\r')).collect();
    assert_eq!(left, [0usize; 0], "bytes in no record");
}
