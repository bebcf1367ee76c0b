//! An S3 evidence store, by moto: what lies there is the bundle, each object is put once, and an interruption costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use acquire::aws::{Connection, Credentials, Settings};
use acquire::s3_store::{Pace, Push, S3LogMirror, S3Store, rights};
use acquire::sources::disk::{self, DiskCapture};
use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Capture, Error, NoProgress, OpenAcquisition, Report};
use custody::bundle::{Bundle, Identities, Recipients, RemotePlace, Retention, RetentionMode, State};
use custody::verify::{Options, verify};
use custody::{CustodyLog, EntryType, HOW_STORE_ASSUMED, MirrorState, NewEntry, sha256};

use crate::moto::moto;
use crate::s3::{Asked, Bucket, Fate, Proxy};
use crate::support::*;

// Made for these tests by age-keygen; they protect nothing else.
const RECIPIENT: &str = "age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga";
const IDENTITY: &str = "AGE-SECRET-KEY-1722WCU93NXC5V3URAX9Z0WA8ME7CMZSCRFC7RY42K7DPL3PR9E2SPEGE9E";

/// What must never be seen.
const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

/// A bucket of its own behind a proxy.
struct Desk {
    place: tempfile::TempDir,
    bucket: Bucket,
    proxy: Proxy,
}

impl Desk {
    fn new() -> Option<Desk> {
        Self::with("")
    }

    fn with(more: &str) -> Option<Desk> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let moto = moto()?;
        let name = format!("evidence-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bucket = Bucket::make(&moto.endpoint, &name, more);
        Some(Desk { place: tempfile::tempdir().unwrap(), bucket, proxy: Proxy::before(&moto.endpoint) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn to(&self) -> RemotePlace {
        place(&self.bucket.name, &self.proxy.endpoint)
    }

    fn connection(&self) -> Connection {
        connection(&self.proxy.endpoint)
    }

    /// Acquires into a new exhibit, or goes on with it.
    fn acquire(&self, what: impl Capture + 'static, name: &str) -> acquire::Result<Report> {
        acquire_to(&self.connection(), &self.to(), &self.path(name), |to| Acquisition::new(what, to))
    }

    fn disk(&self, data: &[u8], name: &str) -> acquire::Result<Report> {
        self.acquire(DiskCapture::new(Box::new(FaultSource::new(data.to_vec(), &[]))), name)
    }

    /// Reads the bundle back, by a reader of its own, and verifies all of it.
    fn read_back(&self, name: &str) -> PathBuf {
        let folder = self.path(&format!("{name}-back"));
        self.bucket.bundle(&format!("ir-17/{name}"), &folder);
        let verification = verify(&folder, &Options::default()).unwrap();
        assert_eq!(verification.fault_count, 0, "{:?}", verification.faults);
        folder
    }
}

fn place(bucket: &str, endpoint: &str) -> RemotePlace {
    let place = RemotePlace::parse(&format!("s3://{bucket}/ir-17")).unwrap();
    place.on("us-east-1", Some(endpoint)).unwrap()
}

fn connection(endpoint: &str) -> Connection {
    let credentials = Credentials {
        access_key_id: "test".into(),
        secret_access_key: SECRET.into(),
        session_token: Some(format!("token-{SECRET}")),
    };
    let settings = Settings {
        region: Some("us-east-1".into()),
        credentials: Some(credentials),
        endpoint: Some(endpoint.to_owned()),
        ..Settings::default()
    };
    Connection::open(&settings).unwrap()
}

/// Small parts, and no patience.
fn pace() -> Pace {
    let mut pace = Pace::default();
    (pace.part_size, pace.in_flight, pace.tries) = (CHUNK, 3, 4);
    (pace.first_pause, pace.longest_pause) = (Duration::from_millis(2), Duration::from_millis(10));
    (pace.part_time, pace.request_time) = (Duration::from_secs(5), Duration::from_secs(5));
    pace
}

fn acquire_to(
    connection: &Connection,
    to: &RemotePlace,
    folder: &Path,
    plan: impl FnOnce(acquire::Destination) -> Acquisition<'static>,
) -> acquire::Result<Report> {
    let resumes = OpenAcquisition::in_folder(folder)?.is_some();
    let to_folder = destination(folder);
    let store = if resumes {
        S3Store::take_up(connection, folder, pace())?
    } else {
        let name = folder.file_name().unwrap().to_str().unwrap();
        S3Store::begin(connection, to.below(name)?, folder, pace())?
    };
    let mirror = S3LogMirror::over(connection, pace(), |_, _| {});
    with_writer(|writer| {
        let writer = writer.clone().mirrored_by(&mirror);
        let plan = plan(to_folder).options(options()).store(Arc::new(store));
        if resumes { plan.resume(&writer) } else { plan.run(&writer) }
    })
}

/// Everything that an error says.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        words = format!("{words}: {cause} {cause:?}");
        next = cause.source();
    }
    assert!(!words.contains(SECRET) && !words.contains("AWS4-HMAC"), "{words}");
    words
}

fn entries(folder: &Path) -> Vec<custody::Entry> {
    CustodyLog::open(folder).unwrap().read().unwrap().entries
}

#[test]
fn what_lies_in_the_store_is_the_bundle_and_the_folder_keeps_all_but_its_data() {
    let Some(desk) = Desk::new() else { return };
    let data = content(5 * SEGMENT + CHUNK + 77);
    let report = desk.disk(&data, "E001-disk").unwrap();
    let here = acquire_disk(Box::new(FaultSource::new(data.clone(), &[])), &desk.path("here")).unwrap();
    assert_eq!(report.streams, here.streams);
    assert_eq!(report.left_behind, Vec::<String>::new());
    let folder = desk.path("E001-disk");
    for gone in ["data", "journal", "uploads.journal"] {
        assert!(!folder.join(gone).exists(), "{gone}");
    }
    let back = desk.read_back("E001-disk");
    assert!(read_all(&Bundle::open(&back).unwrap(), "disk") == data);
    for same in
        ["manifest.json", "manifest.json.sig", "SHA256SUMS", "VERIFY.md", "custody.jsonl", "checkpoint"]
    {
        assert!(fs::read(folder.join(same)).unwrap() == fs::read(back.join(same)).unwrap(), "{same}");
    }
    assert_eq!(desk.bucket.uploads(), []);
    // Each key once, and nothing was asked but to put.
    let asked = desk.proxy.asked();
    let mut puts: Vec<_> =
        asked.iter().filter(|asked| asked.what() == "put").map(|asked| &asked.path).collect();
    let count = puts.len();
    puts.sort();
    puts.dedup();
    assert_eq!(puts.len(), count);
    let puts_only = |asked: &Asked| ["put", "create", "part", "complete"].contains(&asked.what());
    assert!(asked.iter().all(puts_only), "{asked:?}");
    let conditional = asked
        .iter()
        .filter(|asked| ["put", "complete"].contains(&asked.what()))
        .all(|asked| asked.head.to_ascii_lowercase().contains("if-none-match: *"));
    assert!(conditional);
}

#[test]
fn files_an_encrypted_disk_and_an_empty_one_go_there_too() {
    let Some(desk) = Desk::new() else { return };
    let tree = desk.path("tree");
    make_tree(&tree);
    let report =
        desk.acquire(FilesSource::new(&[tree.join("var/log"), tree.join("etc")]).unwrap(), "E001").unwrap();
    assert!(report.streams[0].segments.len() > 1);
    let back = desk.read_back("E001");
    assert_eq!(catalog(&back).len() as u64, report.files.unwrap().entries);

    let mut recipients = Recipients::default();
    recipients.add(RECIPIENT).unwrap();
    let data = content(3 * SEGMENT + 5);
    let source = DiskCapture::new(Box::new(FaultSource::new(data.clone(), &[])));
    let to = desk.path("E002");
    acquire_to(&desk.connection(), &desk.to(), &to, |to| {
        Acquisition::new(source, to).encrypted_to(recipients)
    })
    .unwrap();
    let back = desk.read_back("E002");
    let opened = Bundle::open_with_identities(&back, &Identities::one(IDENTITY).unwrap()).unwrap();
    assert!(read_all(&opened, "disk") == data);

    let report = desk.disk(&[], "E003").unwrap();
    assert_eq!(report.streams[0].segments, []);
    desk.read_back("E003");
    assert_eq!(desk.bucket.uploads(), []);
}

#[test]
fn a_disk_that_is_paused_anywhere_is_the_same_object_for_object_in_the_end() {
    let Some(desk) = Desk::new() else { return };
    let data = content(4 * SEGMENT + CHUNK + 77);
    let bad: Vec<u64> = (SEGMENT as u64 / 512 - 2..SEGMENT as u64 / 512 + 3).collect();
    let whole =
        desk.acquire(DiskCapture::new(Box::new(FaultSource::new(data.clone(), &bad))), "E001").unwrap();
    let mut pauses = 0;
    let report = loop {
        let stop = Arc::new(AtomicBool::new(false));
        let at = pauses * 2 * CHUNK as u64;
        let inner = FaultSource::new(data.clone(), &bad);
        let source = StopsAt { inner, at, stop: Arc::clone(&stop), reads: Arc::default() };
        let folder = desk.path("E002");
        let done = acquire_to(&desk.connection(), &desk.to(), &folder, |to| {
            Acquisition::new(DiskCapture::new(Box::new(source)), to).stop_when(stop)
        });
        match done {
            Err(Error::Paused) => pauses += 1,
            done => break done.unwrap(),
        }
        assert!(pauses < 100);
    };
    assert!(pauses > 8, "{pauses}");
    assert_eq!(report.streams, whole.streams);
    assert_eq!(report.left_behind, Vec::<String>::new());
    assert_eq!(report.streams[0].states.of(State::Unreadable), 5 * 512);
    desk.read_back("E002");
    assert_eq!(desk.bucket.uploads(), []);
}

#[test]
fn parts_that_are_there_are_not_sent_again() {
    let Some(desk) = Desk::new() else { return };
    // What cannot be compressed fills parts.
    let data = noise(2 * SEGMENT);
    let source = |at: u64, stop: &Arc<AtomicBool>| {
        let inner = FaultSource::new(data.clone(), &[]);
        DiskCapture::new(Box::new(StopsAt { inner, at, stop: Arc::clone(stop), reads: Arc::default() }))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let paused = source((SEGMENT + CHUNK) as u64, &stop);
    let folder = desk.path("E001");
    acquire_to(&desk.connection(), &desk.to(), &folder, |to| Acquisition::new(paused, to).stop_when(stop))
        .unwrap_err();
    let noted = fs::read_to_string(folder.join("uploads.journal")).unwrap();
    let there = noted
        .lines()
        .filter(|line| line.contains("\"what\":\"part\"") && line.contains("000001.zst"))
        .count();
    assert!(there >= 2, "{noted}");
    desk.proxy.decide(|_| Fate::Pass);
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    let parts = report.streams[0].segments[1].size.div_ceil(CHUNK as u64) as usize;
    // The first is always sent again, to find out whether the upload is still there.
    assert_eq!(desk.proxy.count("part"), parts - there + 1);
    assert_eq!(desk.proxy.count("create"), 0);
    desk.read_back("E001");
}

#[test]
fn an_upload_that_is_gone_is_begun_anew() {
    let Some(desk) = Desk::new() else { return };
    let data = noise(SEGMENT);
    let stop = Arc::new(AtomicBool::new(false));
    let inner = FaultSource::new(data.clone(), &[]);
    let at = 2 * CHUNK as u64;
    let source = StopsAt { inner, at, stop: Arc::clone(&stop), reads: Arc::default() };
    let folder = desk.path("E001");
    acquire_to(&desk.connection(), &desk.to(), &folder, |to| {
        Acquisition::new(DiskCapture::new(Box::new(source)), to).stop_when(stop)
    })
    .unwrap_err();
    // As a rule of the bucket's life cycle does; moto answers what it does not know by a failure of its own.
    for (key, id) in desk.bucket.uploads() {
        desk.bucket.ask("DELETE", &format!("/{key}?uploadId={id}"), "", b"");
    }
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "part" if first.swap(false, Ordering::Relaxed) => Fate::Answer(404, "NoSuchUpload"),
        _ => Fate::Pass,
    });
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    assert_eq!(desk.proxy.count("create"), 1);
    desk.read_back("E001");
}

/// The first request of each kind fails so; the bundle is whole all the same.
fn first_of_each_fails(
    fate: impl Fn() -> Fate + Send + Sync + 'static,
    kinds: &'static [&'static str],
) -> Option<(Desk, Report)> {
    let desk = Desk::new()?;
    let seen: Vec<AtomicBool> = kinds.iter().map(|_| AtomicBool::new(false)).collect();
    desk.proxy.decide(move |asked| match kinds.iter().position(|kind| *kind == asked.what()) {
        Some(at) if !seen[at].swap(true, Ordering::Relaxed) => fate(),
        _ => Fate::Pass,
    });
    let data = noise(2 * SEGMENT + 5);
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    desk.read_back("E001");
    Some((desk, report))
}

#[test]
fn what_a_server_fails_at_once_is_tried_again() {
    const ALL: &[&str] = &["put", "create", "part", "complete"];
    for fate in [
        || Fate::Answer(500, "InternalError"),
        || Fate::Answer(503, "SlowDown"),
        || Fate::Answer(409, "ConditionalRequestConflict"),
        || Fate::Answer(400, "BadDigest"),
        || Fate::Cut,
    ] {
        let Some((desk, report)) = first_of_each_fails(fate, ALL) else { return };
        assert_eq!(desk.bucket.uploads(), []);
        // What may have been begun was looked for.
        assert_eq!(report.left_behind, Vec::<String>::new());
    }
}

#[test]
fn a_hung_server_is_left_and_asked_again() {
    let Some(_) = first_of_each_fails(|| Fate::Silent(Duration::from_secs(20)), &["part"]) else { return };
}

#[test]
fn what_was_carried_out_without_an_answer_is_ours_and_said_to_be() {
    let Some(desk) = Desk::new() else { return };
    let seen: [AtomicBool; 4] = Default::default();
    desk.proxy.decide(move |asked| {
        match ["put", "create", "part", "complete"].iter().position(|kind| *kind == asked.what()) {
            Some(at) if !seen[at].swap(true, Ordering::Relaxed) => Fate::CarriedOutThenCut,
            // AWS says so; moto completes again what is complete.
            _ if asked.what() == "complete" && asked.path.contains("000000.zst") => {
                Fate::Answer(412, "PreconditionFailed")
            }
            _ => Fate::Pass,
        }
    });
    let data = noise(2 * SEGMENT + 5);
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    desk.read_back("E001");
    // The segment whose completion was not answered; the upload that was begun so is gone.
    assert_eq!(desk.bucket.uploads(), []);
    assert_eq!(report.left_behind.len(), 1, "{:?}", report.left_behind);
    assert!(
        report.left_behind[0].contains("000000.zst was there after an attempt"),
        "{:?}",
        report.left_behind
    );
    let entries = entries(&desk.path("E001"));
    // The first put is that of the log's key; the next entry tells of it.
    let told: Vec<_> = entries.iter().filter_map(|entry| entry.about.how.get(HOW_STORE_ASSUMED)).collect();
    assert_eq!(told, [&serde_json::json!(["keys/log.vkey"])]);
    let sealed = entries.iter().find(|entry| entry.kind == EntryType::BUNDLE_SEALED).unwrap();
    assert!(sealed.about.result["left_in_store"].to_string().contains("000000.zst"));
}

#[test]
fn a_wrong_etag_or_checksum_is_never_taken() {
    for edit in [
        (|text: String| edit_header(&text, "etag", "\"00000000000000000000000000000000\""))
            as fn(String) -> String,
        |text: String| {
            edit_header(&text, "x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        },
    ] {
        let Some(desk) = Desk::new() else { return };
        desk.proxy.decide(move |asked| if asked.what() == "part" { Fate::Edited(edit) } else { Fate::Pass });
        let error = desk.disk(&noise(SEGMENT), "E001").unwrap_err();
        let said = words(&error);
        assert!(said.contains("UploadPart") && said.contains("000000.zst"), "{said}");
        assert_eq!(desk.proxy.count("part") % pace().tries as usize, 0);
    }
}

/// Puts another value, or another header, into an answer.
fn edit_header(answer: &str, name: &str, value: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    let kept: Vec<_> = kept.map(str::to_owned).chain([format!("{name}: {value}")]).collect();
    format!("{}\r\n\r\n{body}", kept.join("\r\n"))
}

#[test]
fn what_is_denied_is_asked_once_and_the_missing_permission_is_named() {
    for (kind, words_of_it) in [
        ("put", "s3:PutObject on arn:aws:s3:::"),
        ("create", "s3:PutObject on arn:aws:s3:::"),
        ("part", "kms:GenerateDataKey and kms:Decrypt"),
        ("complete", "s3:PutObject on arn:aws:s3:::"),
    ] {
        let Some(desk) = Desk::new() else { return };
        desk.proxy.decide(
            move |asked| {
                if asked.what() == kind { Fate::Answer(403, "AccessDenied") } else { Fate::Pass }
            },
        );
        let error = desk.disk(&content(CHUNK), "E001").unwrap_err();
        let said = words(&error);
        assert!(said.contains(words_of_it) && said.contains("AccessDenied"), "{kind}: {said}");
        let denied = desk.proxy.count(kind);
        // The log's entry that says why is tried too.
        assert!(denied == 1 || kind == "put", "{kind}: {denied}");
    }
}

#[test]
fn a_place_that_is_taken_stops_the_writer_before_anything_is_read() {
    let Some(desk) = Desk::new() else { return };
    for (name, key) in [("E001", "keys/log.vkey"), ("E002", "custody/00000000.json")] {
        desk.bucket.ask("PUT", &format!("/ir-17/{name}/{key}"), "", b"another's");
        let reads = Arc::new(AtomicU64::new(0));
        let inner = FaultSource::new(content(CHUNK), &[]);
        let source = StopsAt { inner, at: u64::MAX, stop: Arc::default(), reads: Arc::clone(&reads) };
        let error = desk.acquire(DiskCapture::new(Box::new(source)), name).unwrap_err();
        let said = words(&error);
        assert!(said.contains(key) && said.contains("somebody else"), "{said}");
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert_eq!(desk.bucket.get(&format!("ir-17/{name}/{key}")), b"another's");
        assert!(MirrorState::read(&desk.path(name)).unwrap().unwrap().taken.is_some());
    }
    // A segment that somebody else put in the meantime.
    desk.bucket.ask("PUT", "/ir-17/E003/data/disk/000000.zst", "", b"another's");
    let said = words(&desk.disk(&content(CHUNK), "E003").unwrap_err());
    assert!(said.contains("E003/data/disk/000000.zst is there already"), "{said}");
    assert_eq!(desk.bucket.get("ir-17/E003/data/disk/000000.zst"), b"another's");
}

#[test]
fn a_writer_may_neither_list_nor_read_nor_delete() {
    let Some(desk) = Desk::new() else { return };
    desk.proxy.decide(|asked| match asked.what() {
        "put" | "create" | "part" | "complete" => Fate::Pass,
        _ => Fate::Answer(403, "AccessDenied"),
    });
    let rights = rights(&desk.connection(), &desk.to()).unwrap();
    assert!(rights.remarks.iter().any(|words| words.contains("s3:AbortMultipartUpload")), "{rights:?}");
    assert!(rights.remarks.iter().any(|words| words.contains("Object Lock is not known")), "{rights:?}");
    let data = noise(2 * SEGMENT + 5);
    let stop = Arc::new(AtomicBool::new(false));
    let inner = FaultSource::new(data.clone(), &[]);
    let source = StopsAt { inner, at: SEGMENT as u64, stop: Arc::clone(&stop), reads: Arc::default() };
    let folder = desk.path("E001");
    acquire_to(&desk.connection(), &desk.to(), &folder, |to| {
        Acquisition::new(DiskCapture::new(Box::new(source)), to).stop_when(stop)
    })
    .unwrap_err();
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.left_behind, Vec::<String>::new());
    desk.read_back("E001");
    let refused = |asked: &&Asked| ["list", "get", "delete", "head"].contains(&asked.what());
    assert_eq!(desk.proxy.asked().iter().filter(refused).count(), 0);
}

#[test]
fn an_upload_that_may_have_been_begun_unseen_is_named_where_nobody_may_list() {
    let Some(desk) = Desk::new() else { return };
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "create" if first.swap(false, Ordering::Relaxed) => Fate::CarriedOutThenCut,
        "list" => Fate::Answer(403, "AccessDenied"),
        _ => Fate::Pass,
    });
    let report = desk.disk(&content(CHUNK), "E001").unwrap();
    let left = desk.bucket.uploads();
    assert_eq!(left.len(), 1);
    assert!(report.left_behind[0].contains(&left[0].0), "{:?}", report.left_behind);
    let sealed =
        entries(&desk.path("E001")).into_iter().find(|entry| entry.kind == EntryType::BUNDLE_SEALED).unwrap();
    assert!(sealed.about.result["left_in_store"].to_string().contains(&left[0].0));
    // It stays noted until somebody may look.
    assert!(desk.path("E001").join("uploads.journal").exists());
    desk.read_back("E001");
}

#[test]
fn retention_goes_with_every_object() {
    let Some(desk) = Desk::with("x-amz-bucket-object-lock-enabled: true\r\n") else { return };
    let retention = Retention { days: 3, mode: RetentionMode::Compliance };
    let to = desk.to().retained(Some(retention)).unwrap();
    rights(&desk.connection(), &to).unwrap();
    let folder = desk.path("E001");
    let source = DiskCapture::new(Box::new(FaultSource::new(content(CHUNK), &[])));
    desk.proxy.decide(|_| Fate::Pass);
    acquire_to(&desk.connection(), &to, &folder, |to| Acquisition::new(source, to)).unwrap();
    let mut locked = 0;
    for asked in desk.proxy.asked().iter().filter(|asked| ["put", "create"].contains(&asked.what())) {
        let head = asked.head.to_ascii_lowercase();
        assert!(head.contains("x-amz-object-lock-mode: compliance"), "{head}");
        assert!(head.contains("x-amz-object-lock-retain-until-date: "), "{head}");
        locked += 1;
    }
    assert!(locked >= 15, "{locked}");
    // What was put in parts is retained once more, for servers that leave it out.
    assert_eq!(desk.proxy.count("retain"), 1);
    desk.read_back("E001");
    // A bucket without a lock is known before anything is begun.
    let open = Desk::new().unwrap();
    let to = open.to().retained(Some(retention)).unwrap();
    let said = words(&rights(&open.connection(), &to).unwrap_err());
    assert!(said.contains("has no Object Lock"), "{said}");
}

#[test]
fn later_entries_are_put_too_and_wait_for_the_store_where_they_must() {
    let Some(desk) = Desk::new() else { return };
    desk.disk(&content(CHUNK), "E001").unwrap();
    let folder = desk.path("E001");
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let connection = desk.connection();
    let mirror = S3LogMirror::over(&connection, pace(), move |place, why| {
        assert!(place.to_string().ends_with("/ir-17/E001") && !why.is_empty());
        count.fetch_add(1, Ordering::Relaxed);
    });
    let note = |text: &str| NewEntry::new(EntryType::NOTE).how("text", text);
    with_writer(|writer| {
        let writer = writer.clone().mirrored_by(&mirror);
        let log = CustodyLog::open(&folder).unwrap();
        let there = |what: &str| MirrorState::read(&folder).unwrap().map(|state| state.entries).expect(what);
        let size = there("sealed");
        desk.proxy.decide(|_| Fate::Cut);
        log.append(&note("first"), &writer).unwrap();
        log.append_anchor("token.tsr", b"an anchor", NewEntry::new(EntryType::ANCHOR_MADE), &writer).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 2);
        assert_eq!(there("cut off"), size);
        log.put_missing(&writer).unwrap_err();
        desk.proxy.decide(|_| Fate::Pass);
        log.append(&note("third"), &writer).unwrap();
        assert_eq!((there("back"), told.load(Ordering::Relaxed)), (size + 3, 2));
        desk.proxy.decide(|_| Fate::Cut);
        log.append(&note("fourth"), &writer).unwrap();
        desk.proxy.decide(|_| Fate::Pass);
        assert_eq!(log.put_missing(&writer).unwrap().unwrap().entries, size + 4);
    });
    let back = desk.read_back("E001");
    assert_eq!(fs::read(back.join("anchors/token.tsr")).unwrap(), b"an anchor");
    assert!(fs::read(back.join("custody.jsonl")).unwrap() == fs::read(folder.join("custody.jsonl")).unwrap());
}

#[test]
fn a_sealed_bundle_is_pushed_once_and_what_is_there_is_compared() {
    let Some(desk) = Desk::new() else { return };
    let folder = desk.path("here");
    let data = noise(2 * SEGMENT + 5);
    acquire_disk(Box::new(FaultSource::new(data.clone(), &[])), &folder).unwrap();
    let connection = desk.connection();
    let push = || Push::new(&connection, &folder, &desk.to(), pace()).unwrap().run(&NoProgress);
    // Cut short, it goes on where it was.
    desk.proxy.decide(|asked| if asked.number > 9 { Fate::Answer(403, "AccessDenied") } else { Fate::Pass });
    words(&push().unwrap_err());
    assert!(folder.join("uploads.journal").exists());
    let elsewhere = place(&desk.bucket.name, &desk.proxy.endpoint).below("elsewhere").unwrap();
    let said =
        words(&Push::new(&connection, &folder, &elsewhere, pace()).unwrap().run(&NoProgress).unwrap_err());
    assert!(said.contains("was cut short"), "{said}");
    desk.proxy.decide(|_| Fate::Pass);
    let pushed = push().unwrap();
    assert_eq!((pushed.not_compared, pushed.left_behind.len()), (0, 0), "{pushed:?}");
    assert!(!folder.join("uploads.journal").exists());
    let back = desk.read_back("E001-web01-disk");
    assert!(read_all(&Bundle::open(&back).unwrap(), "disk") == data);
    // All of it is there, and nothing is sent.
    desk.proxy.decide(|_| Fate::Pass);
    let again = push().unwrap();
    let objects = pushed.files + pushed.same;
    assert_eq!((again.files, again.same, again.not_compared), (0, objects, 0));
    assert_eq!((desk.proxy.count("put"), desk.proxy.count("create")), (0, 0));
    // The log goes on: its new objects are put.
    with_writer(|writer| {
        CustodyLog::open(&folder).unwrap().append(&NewEntry::new(EntryType::NOTE), writer).unwrap();
    });
    assert_eq!(push().unwrap().files, 2);
    // Who may not ask sends it, is told that it is there, and leaves nothing behind.
    desk.proxy.decide(|asked| match asked.what() {
        "head" | "list" => Fate::Answer(403, "AccessDenied"),
        _ => Fate::Pass,
    });
    let blind = push().unwrap();
    assert_eq!((blind.files, blind.same, blind.not_compared), (0, 0, objects + 2), "{blind:?}");
    assert_eq!(desk.bucket.uploads(), []);
    desk.read_back("E001-web01-disk");
}

#[test]
fn a_bundle_that_was_changed_or_differs_from_what_is_there_is_not_pushed() {
    let Some(desk) = Desk::new() else { return };
    let folder = desk.path("here");
    acquire_disk(Box::new(FaultSource::new(noise(2 * SEGMENT), &[])), &folder).unwrap();
    let segment = folder.join("data/disk/000001.zst");
    let whole = fs::read(&segment).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&segment, changed).unwrap();
    let connection = desk.connection();
    let push = || Push::new(&connection, &folder, &desk.to(), pace()).unwrap().run(&NoProgress);
    let said = words(&push().unwrap_err());
    assert!(said.contains("000001.zst") && said.contains("changed"), "{said}");
    let keys = desk.bucket.keys("ir-17/");
    assert!(
        !keys.iter().any(|key| key.ends_with("000001.zst") || key.ends_with("custody/00000000.json")),
        "{keys:?}"
    );
    fs::write(&segment, whole).unwrap();
    desk.bucket.ask("PUT", "/ir-17/E001-web01-disk/manifest.json", "", b"another's");
    let said = words(&push().unwrap_err());
    assert!(said.contains("manifest.json") && said.contains("another object"), "{said}");
    // An open bundle is nothing to push.
    let open = desk.path("open");
    fs::create_dir_all(&open).unwrap();
    let said = words(&Push::new(&connection, &open, &desk.to(), pace()).unwrap_err());
    assert!(said.contains("cannot push"), "{said}");
}

const CHILD: &str = "EXHIBIT_TEST_S3";

/// Acquires to a store, goes on, or ends what is sealed, when it is started as a process of its own.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the way to hand things to a test that runs as a process of its own"
)]
fn child_acquires_to_a_store() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [endpoint, bucket, source, root]: [&str; 4] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (connection, to, root) = (connection(endpoint), place(bucket, endpoint), Path::new(root));
    // An exhibit whose log was never begun stays as it is, as in a case; the next one is made.
    let folder = (1..).map(|number| root.join(format!("E{number:03}"))).find(|folder| {
        !folder.join("store.json").exists()
            || OpenAcquisition::in_folder(folder).ok().flatten().is_some()
            || folder.join("manifest.json").exists()
    });
    let folder = folder.unwrap();
    if OpenAcquisition::in_folder(&folder).ok().flatten().is_none() && folder.join("manifest.json").exists() {
        if OpenAcquisition::sealed_in_part(&folder).unwrap().is_none() {
            return;
        }
        let mirror = S3LogMirror::over(&connection, pace(), |_, _| {});
        let store = S3Store::take_up(&connection, &folder, pace()).unwrap();
        with_writer(|writer| store.end_sealed(&writer.clone().mirrored_by(&mirror)).unwrap());
        return;
    }
    let source = disk::open(source.as_ref()).unwrap();
    acquire_to(&connection, &to, &folder, |to| Acquisition::new(DiskCapture::new(source), to)).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how often is for who runs the tests to say")]
fn killed_anywhere_it_goes_on_to_the_same_hash_and_leaves_nothing_unlisted() {
    let Some(desk) = Desk::new() else { return };
    let data = [content(3 * SEGMENT), noise(2 * SEGMENT + 7)].concat();
    let source = desk.path("disk.raw");
    fs::write(&source, &data).unwrap();
    let start = |bucket: &str, root: &Path| {
        let told = [&desk.proxy.endpoint, bucket, source.to_str().unwrap(), root.to_str().unwrap()].join(" ");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "s3_store::child_acquires_to_a_store"]).env(CHILD, told);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let whole = desk.path("whole");
    fs::create_dir_all(&whole).unwrap();
    assert!(start(&desk.bucket.name, &whole).wait().unwrap().success());
    let requests = desk.proxy.asked().len();
    let kills: usize = std::env::var("EXHIBIT_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(10);
    let mut by_end = (0, 0);
    for kill in 0..kills {
        let at = kill * (requests + 1) / kills;
        let moto = moto().unwrap();
        let bucket = Bucket::make(&moto.endpoint, &format!("{}-{kill}", desk.bucket.name), "");
        let root = desk.path(&format!("kill{kill}"));
        fs::create_dir_all(&root).unwrap();
        let victim = Arc::new(AtomicUsize::new(0));
        let pid = Arc::clone(&victim);
        let carried_out = kill % 2 == 1;
        desk.proxy.decide(move |asked| {
            if asked.number != at {
                return Fate::Pass;
            }
            while pid.load(Ordering::Acquire) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Either nothing of it is carried out, or all.
            if carried_out {
                let pid = pid.load(Ordering::Acquire);
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    kill_9(pid);
                });
                return Fate::CarriedOutThenSilent(Duration::from_secs(2));
            }
            kill_9(pid.load(Ordering::Acquire));
            Fate::Cut
        });
        let mut child = start(&bucket.name, &root);
        victim.store(child.id() as usize, Ordering::Release);
        let killed = !child.wait().unwrap().success();
        desk.proxy.decide(|_| Fate::Pass);
        let ended = start(&bucket.name, &root).wait().unwrap();
        assert!(ended.success(), "killed at request {at}");
        let folders = ["E001", "E002"].map(|name| root.join(name));
        let folder = folders.iter().rfind(|folder| folder.exists()).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let back = desk.path(&format!("back{kill}"));
        bucket.bundle(&format!("ir-17/{name}"), &back);
        let verification = verify(&back, &Options::default()).unwrap();
        assert_eq!(verification.fault_count, 0, "killed at request {at}: {:?}", verification.faults);
        let opened = Bundle::open(&back).unwrap();
        assert_eq!(opened.manifest().streams[0].sha256, sha256(&data), "killed at request {at}");
        assert!(read_all(&opened, "disk") == data);
        assert!(!folder.join("data").exists() && !folder.join("uploads.journal").exists(), "killed at {at}");
        assert_eq!(bucket.uploads(), [], "killed at request {at}");
        if killed {
            by_end.0 += 1;
        } else {
            by_end.1 += 1;
        }
        fs::remove_dir_all(&back).unwrap();
    }
    assert!(by_end.0 > kills / 2, "{by_end:?}");
}

fn kill_9(pid: usize) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
