use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::bytes::Pieces;
use crate::event::{Event, flags};
use crate::parser::Collected;
use crate::parsers::sample_checks::{every_byte_is_accounted_for, outside, samples};

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

fn sample(name: &str) -> Vec<u8> {
    let (_, bytes) = samples("systemd_journal").into_iter().find(|(n, _)| n == name).unwrap();
    if name.ends_with(".zst") { zstd::decode_all(&bytes[..]).unwrap() } else { bytes }
}

/// Replaces eight bytes.
fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn every_codec_and_layout_tells_the_same() {
    let told = |name: &str| -> Vec<_> {
        let found = read(&sample(name));
        assert_eq!(found.rejects, [], "{name}");
        found
            .events
            .into_iter()
            .map(|e| (e.time, e.ts_desc, e.message, e.user_name, e.src_ip, e.record_no))
            .collect()
    };
    let plain = told("plain.journal.zst");
    assert_eq!(plain.len(), 37);
    for name in ["compact_zstd.journal.zst", "lz4.journal", "xz.journal"] {
        assert_eq!(told(name), plain, "{name}");
    }
}

#[test]
fn an_entry_keeps_all_its_fields() {
    let found = read(&sample("xz.journal"));
    let of = |text: &str| found.events.iter().find(|e| e.message.contains(text)).unwrap();
    let trace = of("Traceback");
    assert_eq!(trace.message, "Traceback (most recent call last):");
    assert!(trace.attrs.get("MESSAGE").unwrap().as_str().unwrap().ends_with("order 4711 has no items"));
    assert!(trace.pieces.as_ref().unwrap().contains(">xz"));
    assert_eq!((trace.severity, trace.provider.as_deref()), (Some(4), Some("shop.service")));
    let tags = of("two values");
    assert_eq!(
        (tags.attrs.get("TAG").unwrap(), tags.attrs.get("TAG#2").unwrap()),
        (&"red".into(), &"green".into())
    );
    assert_eq!(of("binary field").attrs.get("PAYLOAD").unwrap(), "\0\u{1}\\xfe\\xff=\n\\x80");
    let login = of("Accepted publickey");
    assert_eq!((login.user_name.as_deref(), login.src_ip.as_deref()), (Some("jane"), Some("198.51.100.23")));
    assert_eq!((login.host.as_deref(), login.pid), (Some("shop01"), Some(710)));
    assert_eq!(of("GET / HTTP").container.as_deref(), Some("web"));
    let cursor = tags.attrs.get("__CURSOR").unwrap().as_str().unwrap();
    assert!(
        cursor.starts_with("s=c0ffee00112233445566778899aabbcc;i=10;b=0d5c1f7be2a94f8ca1b2c3d4e5f60718;m="),
        "{cursor}"
    );
}

#[test]
fn tampering_is_flagged_and_unlinked_entries_are_recovered() {
    let bytes = sample("damaged.journal~");
    let found = read(&bytes);
    assert_eq!((found.records(), found.rejects.len()), (24, 5));
    let flags_of = |text: &str| found.events.iter().find(|e| e.message.contains(text)).unwrap().flags;
    assert_eq!(flags_of("for mail"), flags::CORRUPT | flags::RECOVERED);
    assert_eq!(flags_of("203.0.113.14"), flags::CORRUPT);
    assert_eq!(flags_of("Traceback"), flags::CORRUPT);
    assert_eq!(flags_of("New session 3"), flags::RECOVERED);
    assert_eq!(flags_of("Accepted"), 0);
    every_byte_is_accounted_for(&found, &bytes);
    each_record_reads_alone(&bytes, &found);
}

#[test]
fn arrays_that_lead_nowhere_or_back_end_and_the_entries_are_still_found() {
    let good = sample("lz4.journal");
    let array = get(&good, 176) as usize;
    for (at, value) in [(176, 0), (176, 8), (176, 1 << 40), (array + 16, array as u64), (array, 0)] {
        let mut bytes = good.clone();
        put(&mut bytes, at, value);
        let found = read(&bytes);
        assert_eq!(found.records(), 25, "{at} {value}");
        assert!(found.events.iter().any(|e| e.flags == flags::RECOVERED));
        each_record_reads_alone(&bytes, &found);
    }
    let mut bytes = good.clone();
    bytes[12] |= 0x80;
    assert!(read(&bytes).rejects[0].1.contains("0x80"));
    let mut bytes = good;
    put(&mut bytes, 88, u64::MAX);
    assert_eq!(read(&bytes).records(), 25);
}

#[test]
fn an_object_of_a_false_size_does_not_hide_what_follows() {
    let good = sample("lz4.journal");
    let all = read(&good);
    let third = all.events[3].span.offset as usize;
    for size in [0, 64, 65, 400, 4000, 9000, u64::MAX] {
        let mut bytes = good.clone();
        put(&mut bytes, third + 8, size);
        let found = read(&bytes);
        assert!(found.records() >= 24, "{size}: {} {:?}", found.records(), found.rejects);
        assert!(!found.rejects.is_empty(), "{size}");
    }
}

#[test]
fn a_few_bytes_that_name_the_same_megabyte_over_and_over_are_stopped() {
    let mut bytes = sample("lz4.journal");
    let data = bytes.len() as u64;
    let text = vec![b'x'; 250 << 10];
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend((64 + 2 + text.len() as u64).to_le_bytes());
    bytes.extend([0; 48]);
    bytes.extend(b"A=");
    bytes.extend(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let entry: Vec<u8> = [3u64, 128, 1, 1 << 50, 1, 1, 1, 1]
        .into_iter()
        .chain([data, 0].repeat(4))
        .flat_map(u64::to_le_bytes)
        .collect();
    for _ in 0..5000 {
        bytes.extend(&entry);
    }
    struct Counted(usize, Vec<String>);
    impl Sink for Counted {
        fn event(&mut self, event: Event) {
            assert!(event.attrs.get("A").is_none_or(|a| a.as_str().unwrap().len() <= 250 << 10));
            self.0 += 1;
        }
        fn reject(&mut self, _: Span, reason: Cow<'static, str>) {
            self.1.push(reason.into());
        }
        fn filler(&mut self, _: Span) {}
    }
    let mut out = Counted(0, Vec::new());
    PARSER.parse(&mut Input::of_source("/x", Arc::new(bytes)), &Context::default(), &mut out).unwrap();
    assert!((37..1000).contains(&out.0), "{}", out.0);
    assert!(out.1.last().unwrap().contains("more text than any true one"), "{:?}", out.1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic_and_records_still_read_alone(
        which in 0..3usize,
        changes in prop::collection::vec((0..30_000usize, any::<u8>(), 0..4u8), 1..24),
        cut in prop::option::of(0..30_000usize),
    ) {
        let mut bytes = sample(["lz4.journal", "xz.journal", "damaged.journal~"][which]);
        for (at, value, how) in changes {
            // Most of a journal is tables: aim at the header and at what lies behind them.
            let at = if how == 0 { at % 240 } else { 1700 + at % (bytes.len() - 1800) };
            match how {
                1 => put(&mut bytes, at & !7, u64::from(value) * 8),
                2 => put(&mut bytes, at & !7, 1700 + u64::from(value) * 96),
                _ => bytes[at] = value,
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        if bytes.starts_with(SIGNATURE) {
            let found = read(&bytes);
            each_record_reads_alone(&bytes, &found);
        }
    }
}
