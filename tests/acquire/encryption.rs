//! Acquisitions that are encrypted: nothing of the evidence lies open, and the printed commands check them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use acquire::sources::disk::{DiskCapture, StreamSource};
use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Capture, Error, Report};
use custody::CustodyLog;
use custody::bundle::{Bundle, Identities, Recipients, State};
use custody::verify::{Level, Options, verify};

use crate::custody_of_it::{openssl_has_rawin, run_sheet};
use crate::support::*;

// Made for these tests by age-keygen; they protect nothing else.
const RECIPIENT: &str = "age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga";
const SECRET: &str = "AGE-SECRET-KEY-1722WCU93NXC5V3URAX9Z0WA8ME7CMZSCRFC7RY42K7DPL3PR9E2SPEGE9E";
const MARKER: &str = "a-marker-that-only-the-evidence-holds";

fn acquire_encrypted(what: impl Capture + 'static, folder: &Path) -> acquire::Result<Report> {
    let mut recipients = Recipients::default();
    recipients.add(RECIPIENT).unwrap();
    with_writer(|writer| {
        Acquisition::new(what, destination(folder)).options(options()).encrypted_to(recipients).run(writer)
    })
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

fn assert_hidden(folder: &Path, marker: &str) {
    let mut files = Vec::new();
    files_below(folder, &mut files);
    assert!(files.len() > 10, "{files:?}");
    for path in files {
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(marker.len()).any(|window| window == marker.as_bytes()), "{path:?}");
    }
}

/// A disk with the marker in it, that compression must not hide, and with sectors that cannot be read.
fn marked_disk() -> FaultSource {
    let mut data = content(3 * SEGMENT + 1000);
    data[SEGMENT + 5..SEGMENT + 5 + MARKER.len()].copy_from_slice(MARKER.as_bytes());
    FaultSource::new(data, &[3, 4, 5, 2000])
}

#[test]
fn an_encrypted_disk_comes_back_whole_and_its_manifest_names_the_recipients() {
    let place = tempfile::tempdir().unwrap();
    let (plain, encrypted) = (place.path().join("plain"), place.path().join("encrypted"));
    acquire_disk(Box::new(marked_disk()), &plain).unwrap();
    acquire_encrypted(DiskCapture::new(Box::new(marked_disk())), &encrypted).unwrap();
    let plain = Bundle::open(&plain).unwrap();
    let bundle = Bundle::open_with_identities(&encrypted, &Identities::one(SECRET).unwrap()).unwrap();
    assert_eq!(read_all(&bundle, "disk"), read_all(&plain, "disk"));
    let (one, other) = (&bundle.manifest().streams[0], &plain.manifest().streams[0]);
    assert_eq!(
        (one.sha256, one.sha256_data, one.chunk_root),
        (other.sha256, other.sha256_data, other.chunk_root)
    );
    assert!(one.states.of(State::Unreadable) > 0);
    assert_eq!(bundle.manifest().options["encrypted_to"], serde_json::json!([RECIPIENT]));
    // The same bytes are inside, so that whoever holds the key can compare the two bundles.
    let inside: Vec<_> = one.decrypted().files().map(|file| (file.size, file.sha256)).collect();
    assert_eq!(inside, other.files().map(|file| (file.size, file.sha256)).collect::<Vec<_>>());
    assert_hidden(&encrypted, MARKER);
    assert!(!encrypted.join("journal").exists());
}

#[test]
fn names_and_contents_of_encrypted_files_show_nowhere_not_even_among_the_issues() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    make_tree(&root);
    let log = root.join("var/log");
    fs::write(log.join(MARKER), MARKER).unwrap();
    // Within what it acquires, so that it is left out, which is an issue with its name.
    let folder = log.join("kept-by-name/bundle");
    let report = acquire_encrypted(FilesSource::new(&[log]).unwrap(), &folder).unwrap();
    assert!(report.issues.iter().any(|issue| issue.path.contains("kept-by-name")), "{:?}", report.issues);
    assert_hidden(&folder, MARKER);
    assert_hidden(&folder, "nginx/access.log");
    assert_hidden(&folder, "kept-by-name");
    let entries = CustodyLog::open(&folder).unwrap().read().unwrap().entries;
    let error = entries.iter().find(|entry| entry.kind.as_str() == "acquire.error").unwrap();
    assert_eq!(error.about.errors["issues"], report.issue_count);
    assert!(!error.about.errors.contains_key("first"));
    let bundle = Bundle::open_with_identities(&folder, &Identities::one(SECRET).unwrap()).unwrap();
    let catalog = bundle.stream("files").unwrap().catalog().unwrap();
    assert!(catalog.map(Result::unwrap).any(|entry| entry.path.ends_with(MARKER)));
}

#[test]
fn the_commands_of_an_encrypted_bundles_verify_sheet_print_what_it_says() {
    let tools = ["bash", "sha256sum", "zstd", "jq", "python3", "age"];
    if !tools.into_iter().all(has_tool) || !openssl_has_rawin() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let key = place.path().join("key.txt");
    fs::write(&key, format!("# created: 2026\n{SECRET}\n")).unwrap();
    let disk = place.path().join("disk");
    acquire_encrypted(DiskCapture::new(Box::new(marked_disk())), &disk).unwrap();
    assert_eq!(run_sheet(&disk, Some(&key)), Ok(13));
    let empty = place.path().join("empty");
    let nothing = DiskCapture::new(Box::new(StreamSource::new("-", std::io::empty())));
    acquire_encrypted(nothing, &empty).unwrap();
    assert_eq!(run_sheet(&empty, Some(&key)), Ok(11));
    let root = place.path().join("root");
    make_tree(&root);
    let files = place.path().join("files");
    acquire_encrypted(FilesSource::new(&[root.join("var/log")]).unwrap(), &files).unwrap();
    assert_eq!(run_sheet(&files, Some(&key)), Ok(13));
    // Another file with the listed name is told, by its hash and by what is inside.
    let path = disk.join("data/disk/000001.zst.age");
    let good = fs::read(&path).unwrap();
    fs::write(&path, fs::read(disk.join("data/disk/000000.zst.age")).unwrap()).unwrap();
    assert!(run_sheet(&disk, Some(&key)).is_err());
    fs::write(&path, good).unwrap();
    assert_eq!(run_sheet(&disk, Some(&key)), Ok(13));
}

struct Breaks;

impl Read for Breaks {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::from_raw_os_error(5))
    }
}

#[test]
fn an_encrypted_acquisition_verifies_without_its_key_and_leaves_nothing_in_the_clear() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("bundle");
    let image = place.path().join("image");
    fs::write(&image, content(2 * SEGMENT)).unwrap();
    let open = || DiskCapture::new(acquire::sources::disk::open(&image).unwrap());
    acquire_encrypted(open(), &folder).unwrap();
    let found = verify(&folder, &Options::default()).unwrap();
    assert_eq!(found.verdict.level, Level::Consistent, "{:?}", found.faults);
    assert!(found.ciphertext_only);

    // Cut short, a pipe leaves the log and some ciphertext, and cannot be read again.
    let cut = place.path().join("cut");
    let breaks = std::io::Cursor::new(content(SEGMENT + CHUNK)).chain(Breaks);
    acquire_encrypted(DiskCapture::new(Box::new(StreamSource::new("-", breaks))), &cut).unwrap_err();
    let again = StreamSource::new("-", std::io::Cursor::new(content(2 * SEGMENT)));
    let refused = with_writer(|writer| {
        let plan = Acquisition::new(DiskCapture::new(Box::new(again)), destination(&cut)).options(options());
        plan.resume(writer).unwrap_err()
    });
    assert!(matches!(&refused, Error::NotResumable { .. }), "{refused}");
    let mut files = Vec::new();
    files_below(&cut.join("data"), &mut files);
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        assert!(fs::read(&path).unwrap().starts_with(b"age-encryption.org/v1\n"), "{path:?}");
    }
}

#[test]
fn an_encrypted_disk_is_resumed_at_the_end_of_a_segment_without_its_key() {
    let place = tempfile::tempdir().unwrap();
    let data = content(5 * SEGMENT + CHUNK + 9);
    let bad = [3, (SEGMENT / 512) as u64, (2 * SEGMENT / 512) as u64 + 1];
    let whole = place.path().join("whole");
    let source = || DiskCapture::new(Box::new(FaultSource::new(data.clone(), &bad)));
    let expected = acquire_encrypted(source(), &whole).unwrap();
    let folder = place.path().join("paused");
    let mut recipients = Recipients::default();
    recipients.add(RECIPIENT).unwrap();
    let report = (0..40u64).find_map(|round| {
        let stop = Arc::new(AtomicBool::new(false));
        let inner = FaultSource::new(data.clone(), &bad);
        let at = round * CHUNK as u64;
        let source = StopsAt { inner, at, stop: Arc::clone(&stop), reads: Arc::default() };
        let result = with_writer(|writer| {
            let plan = Acquisition::new(DiskCapture::new(Box::new(source)), destination(&folder));
            let plan = plan.options(options()).stop_when(stop);
            // Whom it is encrypted to is known from the log when it goes on.
            if round == 0 { plan.encrypted_to(recipients.clone()).run(writer) } else { plan.resume(writer) }
        });
        match result {
            Err(Error::Paused) => None,
            other => Some(other.unwrap()),
        }
    });
    let report = report.unwrap();
    let (found, expected) = (&report.streams[0], &expected.streams[0]);
    assert_eq!((found.sha256, found.sha256_data), (expected.sha256, expected.sha256_data));
    assert_eq!((found.chunk_root, found.states), (expected.chunk_root, expected.states));
    let checked = verify(&folder, &Options::default()).unwrap();
    assert_eq!(checked.verdict.level, Level::Consistent, "{:?}", checked.faults);
    let bundle = Bundle::open_with_identities(&folder, &Identities::one(SECRET).unwrap()).unwrap();
    let mut expected = data.clone();
    bad.iter().for_each(|&lba| expected[lba as usize * 512..][..512].fill(0));
    assert!(read_all(&bundle, "disk") == expected);
    assert!(!folder.join("journal").exists());
    let mut files = Vec::new();
    files_below(&folder.join("data"), &mut files);
    assert!(files.iter().all(|path| path.extension() == Some("age".as_ref())), "{files:?}");
}

#[test]
fn a_damaged_encrypted_segment_and_other_recipients_end_a_resumed_run() {
    let place = tempfile::tempdir().unwrap();
    let data = content(4 * SEGMENT);
    let pause = |folder: &Path| {
        let stop = Arc::new(AtomicBool::new(false));
        let inner = FaultSource::new(data.clone(), &[]);
        let at = 2 * SEGMENT as u64 + 1;
        let source = StopsAt { inner, at, stop: Arc::clone(&stop), reads: Arc::default() };
        let mut recipients = Recipients::default();
        recipients.add(RECIPIENT).unwrap();
        with_writer(|writer| {
            let plan = Acquisition::new(DiskCapture::new(Box::new(source)), destination(folder));
            plan.options(options()).stop_when(stop).encrypted_to(recipients).run(writer).unwrap_err()
        });
    };
    let resume = |folder: &Path, others: Option<&str>| {
        let mut recipients = Recipients::default();
        others.iter().for_each(|other| recipients.add(other).unwrap());
        with_writer(|writer| {
            let source = DiskCapture::new(Box::new(FaultSource::new(data.clone(), &[])));
            let plan = Acquisition::new(source, destination(folder)).options(options());
            plan.encrypted_to(recipients).resume(writer)
        })
    };
    let folder = place.path().join("a");
    pause(&folder);
    let other = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    assert!(matches!(resume(&folder, Some(other)), Err(Error::NotResumable { .. })));
    let path = folder.join("data/disk/000001.zst.age");
    let mut stored = fs::read(&path).unwrap();
    stored[300] ^= 1;
    fs::write(&path, &stored).unwrap();
    let refused = resume(&folder, None);
    assert!(matches!(&refused, Err(Error::Bundle(custody::bundle::Error::Altered { .. }))), "{refused:?}");
    stored[300] ^= 1;
    fs::write(&path, &stored).unwrap();
    assert_eq!(resume(&folder, None).unwrap().streams[0].sha256, custody::sha256(&data));
}
