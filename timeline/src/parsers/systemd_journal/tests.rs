use std::sync::Arc;

use super::*;
use crate::bytes::Pieces;
use crate::event::Event;
use crate::parser::Collected;
use crate::parsers::sample_checks::{every_byte_is_accounted_for, outside};

fn read(bytes: &[u8]) -> Collected {
    let mut out = Collected::default();
    let mut input = Input::of_source("/system.journal", Arc::new(bytes.to_vec()));
    PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
    out
}

/// The bytes of an entry and its pieces, and nothing else.
fn read_alone(bytes: &[u8], event: &Event) -> Collected {
    let (from, to) = (event.span.offset as usize, event.span.end() as usize);
    let mut pieces = Pieces::new(bytes.len() as u64);
    pieces.add(event.span.offset, bytes[from..to].to_vec());
    for piece in event.pieces.as_ref().unwrap().split(' ') {
        let (offset, length) = piece.split('>').next().unwrap().split_once('+').unwrap();
        let (offset, length): (usize, usize) = (offset.parse().unwrap(), length.parse().unwrap());
        pieces.add(offset as u64, bytes[offset..offset + length].to_vec());
    }
    let mut out = Collected::default();
    let mut input =
        Input::of_record("/system.journal", event.span.offset, bytes[from..to].to_vec(), Arc::new(pieces));
    PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
    out
}

fn each_record_reads_alone(bytes: &[u8], found: &Collected) {
    for rows in found.events.chunk_by(|a, b| a.span == b.span) {
        let alone = read_alone(bytes, &rows[0]);
        assert_eq!(alone.events, rows);
        assert_eq!(alone.rejects, []);
    }
}

#[test]
fn real_journals_give_every_entry() {
    let dirty = "systemd__journal__system@00053f9c9a4c1e0e-2e18a70e8b327fed.journalTILDE";
    for (name, entries, bad, rows) in [
        ("systemd__journal__system.journal", 2101, 0, 4130),
        ("systemd__journal__system.journal.lz4", 85, 0, 136),
        ("systemd__journal__user-1000.journal", 1, 0, 1),
        (dirty, 2211, 46, 3297),
    ] {
        let Some(bytes) = outside(&format!("linux/{name}")) else { continue };
        let found = read(&bytes);
        assert_eq!((found.records(), found.rejects.len()), (entries, bad), "{name} {:?}", found.rejects);
        assert_eq!(found.events.len(), rows, "{name}");
        assert!(found.events.iter().all(|e| e.flags == 0), "{name}");
        every_byte_is_accounted_for(&found, &bytes);
        each_record_reads_alone(&bytes, &found);
    }
}

#[test]
#[ignore]
fn speed() {
    let bytes: Arc<dyn crate::bytes::ByteSource> = Arc::new(std::fs::read("/tmp/journal-x/journal/3f1c9a0d5be24b7f8a6d2c41e07b9a55/system.journal").unwrap());
    struct Count(usize, usize);
    impl Sink for Count {
        fn event(&mut self, _e: Event) { self.0 += 1; }
        fn reject(&mut self, _s: Span, _r: std::borrow::Cow<'static, str>) { self.1 += 1; }
        fn filler(&mut self, _s: Span) {}
    }
    let start = std::time::Instant::now();
    let mut c = Count(0, 0);
    for _ in 0..50 {
        let mut input = Input::of_source("/system.journal", bytes.clone());
        PARSER.parse(&mut input, &Context::default(), &mut c).unwrap();
    }
    eprintln!("rows {} rejects {} in {:?}", c.0, c.1, start.elapsed());
}
