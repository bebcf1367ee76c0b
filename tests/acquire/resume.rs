//! Interrupted and taken up again: the hash is that of an acquisition that was never interrupted.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use acquire::sources::disk::{self, DiskCapture};
use acquire::{Acquisition, Error, OpenAcquisition, Report, Source};
use custody::bundle::{self, Bundle, State};
use custody::{CustodyLog, EntryType, sha256};

use crate::support::*;

fn pause_at(at: u64, source: impl Source + 'static, folder: &Path) -> acquire::Result<Report> {
    let stop = Arc::new(AtomicBool::new(false));
    let source = StopsAt { inner: source, at, stop: Arc::clone(&stop), reads: Arc::default() };
    with_writer(|writer| {
        let plan = Acquisition::new(DiskCapture::new(Box::new(source)), destination(folder));
        let plan = plan.options(options()).stop_when(stop);
        if OpenAcquisition::in_folder(folder).unwrap().is_some() {
            plan.resume(writer)
        } else {
            plan.run(writer)
        }
    })
}

fn resume(source: impl Source + 'static, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| {
        let plan = Acquisition::new(DiskCapture::new(Box::new(source)), destination(folder));
        plan.options(options()).resume(writer)
    })
}

fn kinds(folder: &Path) -> Vec<EntryType> {
    let entries = CustodyLog::open(folder).unwrap().read().unwrap().entries;
    entries.into_iter().map(|entry| entry.kind).collect()
}

/// Every table and segment is what an acquisition without interruption writes.
fn assert_same_files(folder: &Path, whole: &Path) {
    for path in ["data/disk.chunks.tsv", "data/disk.extents.tsv"] {
        assert_eq!(
            fs::read_to_string(folder.join(path)).unwrap(),
            fs::read_to_string(whole.join(path)).unwrap()
        );
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder.join("data/disk")).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder), names(whole));
    for name in names(whole) {
        let path = Path::new("data/disk").join(name);
        assert!(fs::read(folder.join(&path)).unwrap() == fs::read(whole.join(&path)).unwrap(), "{path:?}");
    }
}

#[test]
fn pauses_at_every_chunk_end_in_the_same_bundle_and_each_is_an_entry() {
    let data = content(3 * SEGMENT + CHUNK + 77);
    // Sectors within one chunk, over an edge of chunks, and over one of segments.
    let lbas = |range: std::ops::Range<usize>| range.map(|lba| lba as u64);
    let bad: Vec<u64> = lbas(3..5)
        .chain(lbas(CHUNK / 512 - 1..CHUNK / 512 + 1))
        .chain(lbas(SEGMENT / 512 - 2..SEGMENT / 512 + 3))
        .collect();
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    let expected = acquire_disk(Box::new(FaultSource::new(data.clone(), &bad)), &whole).unwrap();
    let folder = place.path().join("paused");
    let mut pauses = 0;
    let report = loop {
        let at = (pauses as u64) * CHUNK as u64;
        match pause_at(at, FaultSource::new(data.clone(), &bad), &folder) {
            Err(Error::Paused) => pauses += 1,
            other => break other.unwrap(),
        }
        assert!(matches!(Bundle::open(&folder), Err(bundle::Error::NotSealed { .. })));
        assert!(pauses < 100);
    };
    assert_eq!(pauses, data.len().div_ceil(CHUNK));
    assert_eq!(report.streams[0], expected.streams[0]);
    assert_same_files(&folder, &whole);
    assert!(!folder.join("journal").exists());
    let kinds = kinds(&folder);
    assert_eq!(kinds.iter().filter(|&kind| *kind == EntryType::ACQUIRE_PAUSED).count(), pauses);
    assert_eq!(kinds.iter().filter(|&kind| *kind == EntryType::ACQUIRE_RESUMED).count(), pauses);
    let named: u64 = report.issues.iter().filter_map(|issue| issue.length).sum();
    assert_eq!(named, report.streams[0].states.of(State::Unreadable), "{:?}", report.issues);
}

#[test]
fn a_resumed_run_reads_only_what_is_missing_and_some_samples() {
    let data = content(8 * SEGMENT);
    let place = tempfile::tempdir().unwrap();
    pause_at(6 * SEGMENT as u64, FaultSource::new(data.clone(), &[]), place.path()).unwrap_err();
    let reads = Arc::new(AtomicU64::new(0));
    let source = FaultSource::new(data.clone(), &[]);
    let source = StopsAt { inner: source, at: u64::MAX, stop: Arc::default(), reads: Arc::clone(&reads) };
    let report = resume(source, place.path()).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    assert_eq!(report.issue_count, 0);
    let read = reads.load(Ordering::Relaxed);
    assert!(read < (2 * SEGMENT + 20 * CHUNK) as u64, "{read} bytes were read again");
}

#[test]
fn another_source_a_changed_source_and_a_sealed_bundle_are_told_apart() {
    let data = content(4 * SEGMENT);
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a");
    pause_at(2 * SEGMENT as u64, FaultSource::new(data.clone(), &[]), &folder).unwrap_err();
    let other = resume(FaultSource::new(data[..SEGMENT].to_vec(), &[]), &folder);
    // FaultSource tells no size among its facts, so the kind must speak.
    let pipe = with_writer(|writer| {
        let pipe = disk::StreamSource::new("-", io::Cursor::new(data.clone()));
        Acquisition::new(DiskCapture::new(Box::new(pipe)), destination(&folder))
            .options(options())
            .resume(writer)
    });
    assert!(matches!(pipe, Err(Error::NotResumable { .. })), "{pipe:?}");
    drop(other);
    let folder = place.path().join("b");
    pause_at(2 * SEGMENT as u64, FaultSource::new(data.clone(), &[]), &folder).unwrap_err();
    let mut changed = data.clone();
    changed[0] ^= 1;
    let report = resume(FaultSource::new(changed, &[]), &folder).unwrap();
    assert_eq!(report.issue_count, 1, "{:?}", report.issues);
    assert!(report.issues[0].what.contains("other bytes"), "{:?}", report.issues);
    assert_eq!(report.streams[0].sha256, sha256(&data), "what was stored stays as it was read");
    let sealed = resume(FaultSource::new(data, &[]), &folder);
    assert!(matches!(sealed, Err(Error::NotResumable { .. })), "{sealed:?}");
}

#[test]
fn damage_to_what_was_stored_is_never_built_upon() {
    let data = content(4 * SEGMENT);
    let place = tempfile::tempdir().unwrap();
    pause_at(2 * SEGMENT as u64 + 1, FaultSource::new(data.clone(), &[]), place.path()).unwrap_err();
    let path = place.path().join("data/disk/000001.zst");
    let mut stored = fs::read(&path).unwrap();
    stored[40] ^= 1;
    fs::write(&path, &stored).unwrap();
    let refused = resume(FaultSource::new(data.clone(), &[]), place.path());
    assert!(matches!(&refused, Err(Error::Bundle(bundle::Error::Chunk { index: 4, .. }))), "{refused:?}");
    assert!(matches!(Bundle::open(place.path()), Err(bundle::Error::NotSealed { .. })));
    stored[40] ^= 1;
    fs::write(&path, &stored).unwrap();
    assert_eq!(
        resume(FaultSource::new(data.clone(), &[]), place.path()).unwrap().streams[0].sha256,
        sha256(&data)
    );
}

#[test]
fn what_lies_behind_the_last_mark_is_discarded() {
    let data = content(4 * SEGMENT);
    let place = tempfile::tempdir().unwrap();
    pause_at(2 * SEGMENT as u64 + CHUNK as u64, FaultSource::new(data.clone(), &[]), place.path())
        .unwrap_err();
    for name in
        ["data/disk/000002.zst.part", "data/disk.chunks.tsv.part", "data/disk.extents.tsv.part", "journal"]
    {
        let mut file = OpenOptions::new().append(true).open(place.path().join(name)).unwrap();
        file.write_all(b"{\"torn").unwrap();
    }
    fs::write(place.path().join("data/disk/000003.zst.part"), b"never marked").unwrap();
    fs::write(place.path().join("manifest.json"), b"of a seal that was cut short").unwrap();
    let report = resume(FaultSource::new(data.clone(), &[]), place.path()).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    assert!(read_all(&Bundle::open(place.path()).unwrap(), "disk") == data);
}

#[test]
fn a_pipe_keeps_no_journal_since_it_cannot_be_read_again() {
    let place = tempfile::tempdir().unwrap();
    let source = disk::StreamSource::new("-", io::repeat(1).take(1 << 20));
    acquire_disk(Box::new(source), place.path()).unwrap();
    assert!(!place.path().join("journal").exists());
}

/// 30 rounds, or as many as `EXHIBIT_KILLS` says; the release check runs 200.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a person asks for the long run")]
fn killed_at_random_points_a_resumed_run_gives_the_hash_of_an_uninterrupted_one() {
    let rounds: u32 = std::env::var("EXHIBIT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let data = content(48 * SEGMENT + 5);
    fs::write(&image, &data).unwrap();
    let whole = place.path().join("whole");
    let begun = Instant::now();
    assert!(child(&[], &image, &whole).status().unwrap().success());
    let time = begun.elapsed().as_nanos() as u64;
    let (mut kills, mut resumed, mut anew) = (0, 0, 0);
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    for round in 0..rounds {
        let folder = place.path().join("killed");
        // Once or twice or three times: a resumed run may be killed too.
        for _ in 0..=round % 3 {
            let mut running = child(&[], &image, &folder).spawn().unwrap();
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_nanos(random % time));
            running.kill().unwrap();
            running.wait().unwrap();
            kills += 1;
        }
        if Bundle::open(&folder).is_err() {
            match OpenAcquisition::in_folder(&folder) {
                Ok(Some(_)) => {
                    resumed += 1;
                    resume(disk::DiskSource::open(&image).unwrap(), &folder).unwrap();
                }
                _ => {
                    anew += 1;
                    let _ = fs::remove_dir_all(&folder);
                    acquire_disk(disk::open(&image).unwrap(), &folder).unwrap();
                }
            }
        }
        assert_same_files(&folder, &whole);
        assert_log_holds(&folder);
        assert_eq!(
            Bundle::open(&folder).unwrap().manifest().streams[0].sha256,
            sha256(&data),
            "round {round}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
    eprintln!("killed {kills} times in {rounds} rounds: {resumed} resumed, {anew} begun anew");
    assert!(resumed > 0, "the moments missed the acquisition");
}
