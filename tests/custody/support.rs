//! Logs, bundles and cases to test with: fixed keys, a fixed clock, small sizes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use custody::bundle::{
    BundleStore, CatalogEntry, CatalogWriter, Cut, Encoder, Examiner, FORMAT, Gap, HashedFile, LocalFolder,
    LogOrigin, Manifest, MemberKind, Recipients, Source, State, StreamWriter, seal,
};
use custody::verify::{Options, TrustedKey, Verification, verify};
use custody::{
    Actor, CustodyLog, EntryType, FixedClock, Hasher, Host, Identity, NewEntry, SigningKey, Tool, Writer,
};

pub(crate) static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[1; 32]));
pub(crate) static OTHER_KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[2; 32]));
pub(crate) static WITNESS: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[3; 32]));
/// 2026-11-21, a second later at each reading.
pub(crate) static CLOCK: LazyLock<FixedClock> =
    LazyLock::new(|| FixedClock::stepping(1_795_224_600_123_456_789, 1_000_000_000));

pub(crate) fn identity() -> Identity {
    Identity {
        actor: Actor { name: "J. Doe".into(), org: "Example Lab".into(), ..Actor::default() },
        tool: Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: None },
        host: Host { name: "web01".into(), ..Host::default() },
        case: Some("ir-2026-017".into()),
        exhibit: None,
    }
}

pub(crate) fn writer() -> Writer<'static> {
    Writer::new(&*KEY, &*CLOCK, identity())
}

pub(crate) fn writer_with(key: &'static SigningKey) -> Writer<'static> {
    Writer::new(key, &*CLOCK, identity())
}

pub(crate) fn note(text: &str) -> NewEntry {
    NewEntry::new(EntryType::NOTE).result("text", text)
}

/// A log of a genesis entry and `more` notes.
pub(crate) fn log_with(folder: &Path, more: usize) -> CustodyLog {
    let log = CustodyLog::create(folder, NewEntry::new(EntryType::LOG_GENESIS), &writer()).unwrap();
    for i in 0..more {
        log.append(&note(&format!("note {i}")), &writer()).unwrap();
    }
    log
}

pub(crate) fn check(folder: &Path) -> Verification {
    verify(folder, &Options::default()).unwrap()
}

pub(crate) fn trusting(key: &SigningKey) -> Options {
    let key = TrustedKey::parse(&key.verifying_key().fingerprint()).unwrap();
    Options { trust: vec![key], ..Options::default() }
}

pub(crate) fn faults(done: &Verification) -> String {
    done.faults.iter().map(|fault| format!("{:?} {fault}\n", fault.kind)).collect()
}

/// Bytes that compress a little, unlike each other.
pub(crate) fn sample_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..length)
        .map(|i| {
            if i % 512 == 0 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            }
            (state >> 24) as u8
        })
        .collect()
}

pub(crate) const CHUNK: u32 = 64 << 10;

/// What to make a bundle of.
pub(crate) struct Recipe {
    pub(crate) exhibit: &'static str,
    pub(crate) data: Vec<u8>,
    pub(crate) unreadable: Option<Gap>,
    pub(crate) catalog: Vec<CatalogEntry>,
    pub(crate) recipients: Option<Arc<Recipients>>,
    pub(crate) sealed: bool,
    pub(crate) after: Vec<NewEntry>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            exhibit: "E001",
            data: sample_bytes(150_000),
            unreadable: None,
            catalog: Vec::new(),
            recipients: None,
            sealed: true,
            after: Vec::new(),
        }
    }
}

impl Recipe {
    /// Makes the bundle in a folder that is there and empty.
    pub(crate) fn make(&self, folder: &Path) -> CustodyLog {
        let writer = writer().for_exhibit(self.exhibit);
        let genesis = NewEntry::new(EntryType::LOG_GENESIS);
        let log = CustodyLog::create(folder, genesis, &writer).unwrap();
        log.append(&NewEntry::new(EntryType::ACQUIRE_START), &writer).unwrap();
        let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
        let cut = Cut { chunk_size: CHUNK, segment_size: u64::from(CHUNK) * 2 };
        let mut stream =
            StreamWriter::begin_with(Arc::clone(&store), "disk", "disk", cut, self.recipients.clone())
                .unwrap();
        let mut encoder = Encoder::new(1).unwrap();
        let (mut whole, mut read) = (Hasher::new(), Hasher::new());
        for (i, chunk) in self.data.chunks(CHUNK as usize).enumerate() {
            let mut chunk = chunk.to_vec();
            let gap = self.unreadable.as_ref().filter(|_| i == 0);
            if let Some(gap) = gap {
                chunk[gap.start as usize..(gap.start + gap.length) as usize].fill(0);
                read.update(&chunk[..gap.start as usize]);
                read.update(&chunk[(gap.start + gap.length) as usize..]);
            } else {
                read.update(&chunk);
            }
            whole.update(&chunk);
            stream.push(&encoder.encode(&chunk).unwrap(), gap.as_slice_of_one()).unwrap();
        }
        let catalog = (!self.catalog.is_empty()).then(|| {
            let path = "data/disk.catalog.jsonl";
            let file = HashedFile::begin_with(&*store, path, self.recipients.as_deref()).unwrap();
            let mut catalog = CatalogWriter::new(file);
            for entry in &self.catalog {
                catalog.append(entry).unwrap();
            }
            catalog.finish().unwrap()
        });
        let (catalog, root) = catalog.unzip();
        let mut stream = stream.finish(whole.finish(), read.finish(), catalog).unwrap();
        stream.catalog_root = root;
        log.append(&NewEntry::new(EntryType::ACQUIRE_END), &writer).unwrap();
        if self.sealed {
            let key = KEY.verifying_key();
            let manifest = Manifest {
                base: None,
                case: Some("ir-2026-017".into()),
                created: "2026-11-21T01:30:00.123456789Z".into(),
                exhibit: self.exhibit.into(),
                examiner: Examiner { key: key.fingerprint(), name: "J. Doe".into() },
                format: FORMAT.into(),
                host: Host::default(),
                id: "019aa0d5-0000-7000-8000-000000000000".into(),
                log: LogOrigin { origin: log.origin().into(), vkey: key.to_vkey(log.origin()) },
                name: "web01-disk".into(),
                options: serde_json::Map::new(),
                source: Source { kind: "disk".into(), ..Source::default() },
                streams: vec![stream],
                tool: Tool { build_sha256: None, name: "exhibit".into(), version: "0.1.0".into() },
            };
            let files = seal(&store, &manifest, &*KEY).unwrap();
            log.append(&files.entry(), &writer).unwrap();
        }
        for entry in &self.after {
            log.append(entry, &writer).unwrap();
        }
        log
    }
}

trait OneOrNone<T> {
    fn as_slice_of_one(&self) -> &[T];
}

impl<T> OneOrNone<T> for Option<&T> {
    fn as_slice_of_one(&self) -> &[T] {
        self.map_or(&[], std::slice::from_ref)
    }
}

pub(crate) fn unreadable(start: u32, length: u32) -> Gap {
    Gap { start, length, state: State::Unreadable, detail: "errno=5 tries=3".into() }
}

/// Adds an anchor file, made by the witness over the newest checkpoint, with its entry.
pub(crate) fn anchor_with_witness(log: &CustodyLog) {
    let mut newest = log.read().unwrap().checkpoint.unwrap();
    newest.note.add_signature("witness.example/w1", &*WITNESS).unwrap();
    let bytes = newest.note.to_text();
    let entry = NewEntry::new(EntryType::ANCHOR_MADE);
    log.append_anchor("witness-1", bytes.as_bytes(), entry, &writer()).unwrap();
}

/// Every file below a folder, as relative paths.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for item in std::fs::read_dir(next).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        std::fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        std::fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}

pub(crate) fn member(path: &str) -> CatalogEntry {
    CatalogEntry {
        atime: None,
        btime: None,
        ctime: None,
        dev: None,
        errors: Vec::new(),
        header: 0,
        header_size: 512,
        inode: None,
        kind: MemberKind::File,
        link: None,
        mode: None,
        mtime: None,
        offset: 512,
        path: path.into(),
        sha256: None,
        size: 1,
        gid: None,
        uid: None,
        xattrs: Vec::new(),
    }
}
