//! The small case that is tampered with: two bundles, one of them encrypted, a handover, an anchor, a recovered tail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::verify::{Memory, Options, OutsideAnchors, TrustedKey, verify};
use custody::{
    Case, CustodyLog, EntryType, HOW_FINGERPRINT, HOW_TO_KEY, NewCase, NewEntry, SigningKey, sha256,
};

use crate::support::{
    KEY, OTHER_KEY, Recipe, WITNESS, anchor_with_witness, copy_folder, member, note, sample_bytes,
    unreadable, writer, writer_with,
};

/// A key that was introduced and revoked.
pub(super) static RETIRED: std::sync::LazyLock<SigningKey> =
    std::sync::LazyLock::new(|| SigningKey::from_seed(&[5; 32]));
/// Of somebody who has nothing to do with the case.
pub(super) static STRANGER: std::sync::LazyLock<SigningKey> =
    std::sync::LazyLock::new(|| SigningKey::from_seed(&[6; 32]));

pub(super) const PLAIN: &str = "exhibits/E001-disk";
pub(super) const LOCKED: &str = "exhibits/E002-memory";
/// The folders that hold a log, from the case: the case itself and its bundles.
pub(super) const LOGS: [&str; 3] = ["", PLAIN, LOCKED];

/// Folders that are there and hold nothing, which a copy must have too.
pub(super) const EMPTY_FOLDERS: [&str; 3] = ["timeline", "reports", "exhibits/E002-memory/anchors"];

/// The case as it is, as it was, and what others keep of it.
pub(super) struct MadeCase {
    /// Holds everything below.
    _desk: tempfile::TempDir,
    /// The case today.
    pub(super) case: PathBuf,
    /// The same case at earlier moments, each of which verifies.
    pub(super) earlier: Vec<PathBuf>,
    /// Another case by the same people, made in the same way.
    pub(super) other: PathBuf,
    /// Checkpoints that somebody else keeps.
    pub(super) outside: OutsideAnchors,
    /// What a verifier saw last.
    pub(super) memory: Memory,
}

/// A place for many small files: in memory where that can be had.
pub(super) fn desk() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("exhibit-tamper-")
        .tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

impl MadeCase {
    pub(super) fn new() -> Self {
        let desk = desk();
        let case = desk.path().join("case");
        let mut earlier = Vec::new();
        let mut keep = |case: &Path| {
            let kept = desk.path().join(format!("earlier-{}", earlier.len()));
            copy_folder(case, &kept);
            earlier.push(kept);
        };
        fill(&case, &mut keep);
        let other = desk.path().join("other");
        fill(&other, &mut |_| ());
        let receipts = desk.path().join("receipts");
        std::fs::create_dir(&receipts).unwrap();
        for (nth, log) in LOGS.iter().enumerate() {
            std::fs::copy(case.join(log).join("checkpoint"), receipts.join(format!("receipt-{nth}")))
                .unwrap();
        }
        let outside = OutsideAnchors::read(&receipts).unwrap();
        let mut memory = Memory::default();
        verify(&case, &Options::default()).unwrap().remember(&mut memory);
        Self { _desk: desk, case, earlier, other, outside, memory }
    }
}

fn fill(folder: &Path, keep: &mut dyn FnMut(&Path)) {
    let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
    let case = Case::create(folder, &new, &writer()).unwrap();
    let disk = case.add_exhibit("disk", &writer()).unwrap();
    let recipe = Recipe {
        data: sample_bytes(150_000),
        unreadable: Some(unreadable(512, 1024)),
        catalog: vec![member("/etc/passwd"), member("/var/log/auth.log")],
        ..Recipe::default()
    };
    let log = recipe.make(&disk.folder);
    case.append(sealed("E001", &disk.folder), &writer()).unwrap();
    keep(folder);
    let receiver = OTHER_KEY.verifying_key().fingerprint();
    log.append(&NewEntry::new(EntryType::TRANSFER_OFFERED).how(HOW_TO_KEY, receiver), &writer()).unwrap();
    log.append(&NewEntry::new(EntryType::TRANSFER_ACCEPTED).refers_to(4), &writer_with(&OTHER_KEY)).unwrap();
    anchor_with_witness(&log);
    log.append(&note("stored in locker 7"), &writer_with(&OTHER_KEY)).unwrap();
    log.append(&note("seal 0042 intact"), &writer_with(&OTHER_KEY)).unwrap();
    keep(folder);
    let memory = case.add_exhibit("memory", &writer()).unwrap();
    let recipe =
        Recipe { exhibit: "E002", data: sample_bytes(70_000), recipients: recipients(), ..Recipe::default() };
    let log = recipe.make(&memory.folder);
    case.append(sealed("E002", &memory.folder), &writer()).unwrap();
    log.append(&note("kept with E001"), &writer()).unwrap();
    keep(folder);
    of_the_case(&case);
    keep(folder);
    case.append(note("telephone call with counsel"), &writer()).unwrap();
    case.append(note("copies counted"), &writer_with(&OTHER_KEY)).unwrap();
}

/// Keys come and go, a writer is interrupted, a witness signs.
fn of_the_case(case: &Case) {
    case.append(note("second examiner joins"), &writer_with(&OTHER_KEY).vouched_by(&*KEY)).unwrap();
    case.append(note("third examiner joins"), &writer_with(&RETIRED).vouched_by(&*KEY)).unwrap();
    let gone = RETIRED.verifying_key().fingerprint();
    case.append(NewEntry::new(EntryType::KEY_REVOKED).how(HOW_FINGERPRINT, gone), &writer()).unwrap();
    let path = case.folder().join("custody.jsonl");
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"actor\":{\"key\":\"SHA2");
    std::fs::write(&path, torn).unwrap();
    case.append(note("after the power failed"), &writer()).unwrap();
    anchor_with_witness(case.log());
    case.append(note("telephone call with the court"), &writer()).unwrap();
}

/// What a case's log says when a bundle of it is sealed.
fn sealed(exhibit: &str, folder: &Path) -> NewEntry {
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(exhibit).subject(
        "manifest.json",
        manifest.len() as u64,
        sha256(&manifest),
    )
}

/// Made for these tests by age-keygen; it protects nothing else.
#[cfg(feature = "age")]
pub(super) fn recipients() -> Option<Arc<custody::bundle::Recipients>> {
    let mut recipients = custody::bundle::Recipients::default();
    recipients.add("age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga").unwrap();
    Some(Arc::new(recipients))
}

#[cfg(not(feature = "age"))]
pub(super) fn recipients() -> Option<Arc<custody::bundle::Recipients>> {
    None
}

/// How the one who verifies looks at the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// With the files alone.
    Bare,
    /// Trusting the log's first key.
    Trusting,
    /// With the checkpoints that somebody else kept.
    Outside,
    /// Remembering what was seen before.
    Remembering,
    /// Trusting the witness alone.
    Witnessed,
}

impl View {
    pub(super) fn options(self, made: &MadeCase) -> Options {
        let trust = |key: &SigningKey| {
            vec![TrustedKey::parse(&key.verifying_key().to_vkey("witness.example/w1")).unwrap()]
        };
        match self {
            Self::Bare => Options::default(),
            Self::Trusting => crate::support::trusting(&KEY),
            Self::Outside => Options { outside: made.outside.clone(), ..Options::default() },
            Self::Remembering => Options { memory: made.memory.clone(), ..Options::default() },
            Self::Witnessed => Options { trust: trust(&WITNESS), ..Options::default() },
        }
    }
}

/// The log in a folder of the copy.
pub(super) fn open(folder: &Path) -> CustodyLog {
    CustodyLog::open(folder).unwrap()
}
