//! Sealed bundles of made streams, and what a build finds in them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use custody::bundle::{
    Bundle, BundleStore, Cut, Encoder, Examiner, FORMAT, LocalFolder, LogOrigin, Manifest, Source,
    StreamWriter, seal,
};
use custody::{
    Actor, CustodyLog, EntryType, FixedClock, Hasher, Host, Identity, NewEntry, SigningKey, Tool, Writer,
};
use serde_json::Value;
use timeline::build::{BuildOptions, ExhibitReport, RowOutput, build};
use timeline::event::Event;
use timeline::evidence::Evidence;
use timeline::parser::Parser;
use timeline::progress::NoProgress;

const CHUNK: usize = 512 << 10;

/// Makes a sealed bundle in `folder` with one stream `original` of kind "import"; `options` is the manifest's.
pub(crate) fn import(folder: &Path, content: &mut dyn Read, options: &Value) -> Bundle {
    std::fs::create_dir_all(folder).unwrap();
    let key = SigningKey::from_seed(&[1; 32]);
    let clock = FixedClock::stepping(1_795_224_600_123_456_789, 1_000_000_000);
    let identity = Identity {
        actor: Actor { name: "J. Doe".into(), ..Actor::default() },
        tool: Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: None },
        host: Host { name: "lab".into(), ..Host::default() },
        case: Some("test".into()),
        exhibit: None,
    };
    let writer = Writer::new(&key, &clock, identity).for_exhibit("E001");
    let log = CustodyLog::create(folder, NewEntry::new(EntryType::LOG_GENESIS), &writer).unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
    let mut stream = StreamWriter::begin(store.clone(), "original", "import", Cut::default()).unwrap();
    let mut encoder = Encoder::new(1).unwrap();
    let mut hasher = Hasher::new();
    loop {
        let mut chunk = Vec::new();
        content.take(CHUNK as u64).read_to_end(&mut chunk).unwrap();
        if chunk.is_empty() {
            break;
        }
        hasher.update(&chunk);
        stream.push(&encoder.encode(&chunk).unwrap(), &[]).unwrap();
    }
    let hash = hasher.finish();
    let manifest = Manifest {
        base: None,
        case: Some("test".into()),
        created: "2026-11-21T01:30:00.123456789Z".into(),
        exhibit: "E001".into(),
        examiner: Examiner { key: key.verifying_key().fingerprint(), name: "J. Doe".into() },
        format: FORMAT.into(),
        host: Host::default(),
        id: "019aa0d5-0000-7000-8000-000000000000".into(),
        log: LogOrigin { origin: log.origin().into(), vkey: key.verifying_key().to_vkey(log.origin()) },
        name: "imported".into(),
        options: options.as_object().unwrap().clone(),
        source: Source { kind: "import".into(), ..Source::default() },
        streams: vec![stream.finish(hash, hash, None).unwrap()],
        tool: Tool { build_sha256: None, name: "exhibit".into(), version: "0.1.0".into() },
    };
    let files = seal(&store, &manifest, &key).unwrap();
    log.append(&files.entry(), &writer).unwrap();
    Bundle::open(folder).unwrap()
}

/// A row with where it was found.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) locator: String,
    pub(crate) parser: &'static str,
    pub(crate) event: Event,
}

/// All that a build gave.
pub(crate) struct Built {
    pub(crate) rows: Vec<Row>,
    pub(crate) report: ExhibitReport,
}

#[derive(Clone, Default)]
struct Rows(Arc<Mutex<Vec<Row>>>);

impl RowOutput for Rows {
    fn row(
        &mut self,
        locator: &str,
        parser: &'static dyn Parser,
        event: Event,
    ) -> Result<(), timeline::Error> {
        self.0.lock().unwrap().push(Row { locator: locator.into(), parser: parser.name(), event });
        Ok(())
    }

    fn end_of_file(&mut self) -> Result<(), timeline::Error> {
        Ok(())
    }
}

/// Builds the timeline of a bundle in memory.
pub(crate) fn built(bundle: &Bundle) -> Built {
    let evidence = Evidence::open(bundle, None).unwrap();
    let rows = Rows::default();
    let mut outputs: Vec<Box<dyn RowOutput>> = vec![Box::new(rows.clone()), Box::new(rows.clone())];
    let report = build(&evidence, &BuildOptions::default(), &mut outputs, &NoProgress).unwrap();
    drop(outputs);
    let rows = std::mem::take(&mut *rows.0.lock().unwrap());
    Built { rows, report }
}

impl Built {
    /// Rows of each parser.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row.parser).or_default() += 1);
        counts
    }

    /// The reasons of all issues, with their places.
    pub(crate) fn issues(&self) -> Vec<String> {
        self.report.issues.iter().map(|issue| format!("{}: {}", issue.place, issue.reason)).collect()
    }
}
