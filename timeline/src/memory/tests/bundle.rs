//! A bundle with a stream of memory and one of symbols: what `exhibit timeline` and `exhibit show` do with it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use custody::bundle::{
    Bundle, BundleStore, CatalogEntry, Cut, Encoder, Examiner, FORMAT, HashedFile, LocalFolder, LogOrigin,
    Manifest, MemberKind, Source, Stream, StreamWriter, seal,
};
use custody::{
    CustodyLog, EntryType, FixedClock, Hasher, Host, Identity, NewEntry, SigningKey, Tool, Writer,
};

use super::*;
use crate::build::{BuildOptions, RowOutput, build};
use crate::error::Error;
use crate::evidence::Evidence;
use crate::parser::Parser;
use crate::progress::NoProgress;
use crate::prove::{Hints, Prover};

const CHUNK: u32 = 64 << 10;

fn stream(
    store: &Arc<dyn BundleStore>,
    name: &str,
    kind: &str,
    bytes: &[u8],
    members: &[CatalogEntry],
) -> Stream {
    let cut = Cut { chunk_size: CHUNK, segment_size: u64::from(CHUNK) * 16 };
    let mut stream = StreamWriter::begin(store.clone(), name, kind, cut).unwrap();
    let mut encoder = Encoder::new(1).unwrap();
    let (mut whole, mut data) = (Hasher::new(), Hasher::new());
    for chunk in bytes.chunks(CHUNK as usize) {
        whole.update(chunk);
        data.update(chunk);
        stream.push(&encoder.encode(chunk).unwrap(), &[]).unwrap();
    }
    let catalog = (!members.is_empty()).then(|| {
        let mut file = HashedFile::begin(&**store, &format!("data/{name}.catalog.jsonl")).unwrap();
        members.iter().for_each(|member| file.append(member.to_line().unwrap().as_bytes()).unwrap());
        file.finish().unwrap()
    });
    stream.finish(whole.finish(), data.finish(), catalog).unwrap()
}

/// Makes and seals the bundle.
fn make(folder: &Path, image: &[u8], pack: &[(&'static str, Arc<dyn ByteSource>)]) {
    let key = SigningKey::from_seed(&[1; 32]);
    let clock = FixedClock::stepping(1_795_224_600_123_456_789, 1_000_000_000);
    let tool = Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: None };
    let identity = Identity { tool: tool.clone(), ..Identity::default() };
    let writer = Writer::new(&key, &clock, identity).for_exhibit("E001");
    let log = CustodyLog::create(folder, NewEntry::new(EntryType::LOG_GENESIS), &writer).unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
    let (mut tar, mut members) = (Vec::new(), Vec::new());
    for (path, source) in pack {
        let header = tar.len() as u64;
        tar.extend_from_slice(&[b'h'; 512]);
        let content = crate::bytes::read_vec(&**source, 0, 1 << 20).unwrap();
        members.push(CatalogEntry {
            header,
            header_size: 512,
            kind: MemberKind::File,
            offset: header + 512,
            path: (*path).into(),
            size: content.len() as u64,
            sha256: Some(custody::sha256(&content)),
            ..CatalogEntry::default()
        });
        tar.extend_from_slice(&content);
    }
    let mut streams = vec![stream(&store, "memory", "memory", image, &[])];
    if !pack.is_empty() {
        streams.push(stream(&store, "symbols", "files", &tar, &members));
    }
    let public = key.verifying_key();
    let manifest = Manifest {
        base: None,
        case: None,
        created: "2026-11-21T01:30:00.123456789Z".into(),
        exhibit: "E001".into(),
        examiner: Examiner { key: public.fingerprint(), name: "J. Doe".into() },
        format: FORMAT.into(),
        host: Host::default(),
        id: "019aa0d5-0000-7000-8000-000000000000".into(),
        log: LogOrigin { origin: log.origin().into(), vkey: public.to_vkey(log.origin()) },
        name: "made01-memory".into(),
        options: serde_json::Map::new(),
        source: Source { kind: "memory".into(), ..Source::default() },
        streams,
        tool,
    };
    let files = seal(&store, &manifest, &key).unwrap();
    log.append(&files.entry(), &writer).unwrap();
}

/// Locator, parser and row.
type Row = (String, &'static str, Event);

#[derive(Default, Clone)]
struct Rows(Arc<Mutex<Vec<Row>>>);

impl RowOutput for Rows {
    fn row(&mut self, locator: &str, parser: &'static dyn Parser, event: Event) -> Result<(), Error> {
        self.0.lock().unwrap().push((locator.to_owned(), parser.name(), event));
        Ok(())
    }
    fn end_of_file(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// All rows, sorted, and the report as text.
fn rows_of(folder: &Path, threads: usize) -> (Vec<Row>, String) {
    let evidence = Evidence::open(&Bundle::open(folder).unwrap(), None).unwrap();
    let rows = Rows::default();
    let mut outputs: Vec<Box<dyn RowOutput>> =
        (0..threads).map(|_| Box::new(rows.clone()) as Box<dyn RowOutput>).collect();
    let report = build(&evidence, &BuildOptions::default(), &mut outputs, &NoProgress).unwrap();
    let files: Vec<String> = report
        .files
        .iter()
        .map(|file| {
            format!(
                "{} {} {} rows, {}/{} bytes",
                file.locator, file.parser, file.account.events, file.account.bytes_used, file.account.bytes
            )
        })
        .collect();
    let mut rows = rows.0.lock().unwrap().clone();
    rows.sort_by_key(|(locator, parser, event)| {
        (locator.clone(), *parser, event.span.offset, format!("{event:?}"))
    });
    (rows, format!("{}\n{:?} {:?}", files.join("\n"), report.issues, report.unclaimed))
}

#[test]
fn a_bundle_gives_the_same_rows_for_any_number_of_threads_and_each_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let image = machine().image();
    make(folder.path(), &image, &MadeKernel::pack());
    let (rows, report) = rows_of(folder.path(), 1);
    let memory_rows = rows.iter().filter(|(locator, ..)| locator == "memory/lime").count();
    assert_eq!(memory_rows, 2 + 3 + 2 + 5 + 1 + 1, "{report}");
    for threads in [2, 5] {
        let again = rows_of(folder.path(), threads);
        assert!(again == (rows.clone(), report.clone()));
    }

    let prover = Prover::open(Bundle::open(folder.path()).unwrap(), None).unwrap();
    assert_eq!(prover.host(), Some("made01"));
    for (locator, parser, row) in rows.iter().filter(|(locator, ..)| locator == "memory/lime") {
        let place = Place { locator: locator.clone(), span: row.span, pieces: row.pieces.clone() };
        let record = prover.record(&place).unwrap();
        let from = row.span.offset as usize;
        assert_eq!(record.bytes, image[from..from + row.span.length as usize]);
        let hints = Hints { parser: (*parser).to_owned(), year: None };
        let again = prover.parse(&place, &record, &hints).unwrap();
        assert!(again.contains(row), "{} {again:?}", row.message);
        let chunks = prover.chunks("memory", &record.ranges).unwrap();
        assert!(chunks.iter().any(|chunk| chunk.index == row.span.offset / u64::from(CHUNK)));
        assert_eq!(record.map_ranges, vec![0..32, 0x8020..0x8040]);
    }
}

#[test]
fn a_bundle_without_symbols_lists_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &machine().image(), &[]);
    let (rows, report) = rows_of(folder.path(), 2);
    assert_eq!(rows.len(), 1);
    assert!(report.contains("there are no kernel types (BTF)"), "{report}");
    assert!(report.contains("memory_processes: the kernel is not known"), "{report}");
}
