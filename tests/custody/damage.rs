//! A sealed bundle damaged in every way: all of it is found, and named where it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use custody::verify::{FaultKind, Level, Options, Verification, verify};
use custody::{EntryType, NewEntry};

use crate::support::{
    CHUNK, Recipe, anchor_with_witness, check, copy_folder, faults, files_below, note, sample_bytes,
    unreadable, writer,
};

/// A sealed bundle with everything in it: two segments, an anchor, kept checkpoints, notes after the seal.
fn full_bundle(folder: &Path) {
    let recipe = Recipe { unreadable: Some(unreadable(512, 1024)), ..Recipe::default() };
    let log = recipe.make(folder);
    anchor_with_witness(&log);
    log.append(&note("stored in locker 7"), &writer()).unwrap();
    log.append(&NewEntry::new(EntryType::CASE_CLOSED), &writer()).unwrap();
    log.append(&NewEntry::new(EntryType::CORRECTION).refers_to(1), &writer()).unwrap();
}

/// Whether a fault names the file, and the entry or chunk where one can be named.
fn is_named(done: &Verification, file: &str, line: Option<u64>, chunk: Option<u64>) -> bool {
    done.faults.iter().any(|fault| {
        fault.place.file == file
            && line.is_none_or(|line| fault.place.entry == Some(line))
            && chunk.is_none_or(|chunk| fault.place.chunk == Some(chunk) || fault.place.chunk.is_none())
    })
}

/// The frames of a bundle: file, chunk, first byte, the byte behind the last.
fn frames(folder: &Path) -> Vec<(String, u64, usize, usize)> {
    let table = std::fs::read_to_string(folder.join("data/disk.chunks.tsv")).unwrap();
    table
        .lines()
        .skip(1)
        .map(|row| {
            let cells: Vec<_> = row.split('\t').collect();
            let start: usize = cells[5].parse().unwrap();
            let length: usize = cells[6].parse().unwrap();
            (format!("data/disk/{}", cells[4]), cells[0].parse().unwrap(), start, start + length)
        })
        .collect()
}

#[test]
fn every_byte_flipped_is_found_and_named() {
    let original = tempfile::tempdir().unwrap();
    full_bundle(original.path());
    let clean = check(original.path());
    assert!(clean.is_intact(), "{}", faults(&clean));
    let frames = frames(original.path());
    let mut flips: Vec<(PathBuf, usize)> = Vec::new();
    for file in files_below(original.path()) {
        let length = std::fs::metadata(original.path().join(&file)).unwrap().len() as usize;
        flips.extend((0..length).map(|at| (file.clone(), at)));
    }
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let missed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let copy = tempfile::tempdir().unwrap();
                    copy_folder(original.path(), copy.path());
                    let mut missed = Vec::new();
                    while let Some((file, at)) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
                        missed.extend(flip(copy.path(), file, *at, &frames));
                    }
                    missed
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(flips.len() > 5_000);
    assert!(missed.is_empty(), "{} of {} flips missed:\n{}", missed.len(), flips.len(), missed.join("\n"));
}

/// Flips one byte, verifies, and puts it back; says what was missed.
fn flip(folder: &Path, file: &Path, at: usize, frames: &[(String, u64, usize, usize)]) -> Option<String> {
    let path = folder.join(file);
    let bytes = std::fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    changed[at] ^= 1 << (at % 8);
    std::fs::write(&path, &changed).unwrap();
    let done = check(folder);
    std::fs::write(&path, &bytes).unwrap();
    let name = file.to_str().unwrap();
    let line =
        (name == "custody.jsonl").then(|| bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64);
    let chunk = frames
        .iter()
        .find(|(segment, _, start, end)| segment == name && (*start..*end).contains(&at))
        .map(|(_, chunk, ..)| *chunk);
    let found = done.verdict.level == Level::Broken && is_named(&done, name, line, chunk);
    (!found).then(|| format!("{name} byte {at}: {}\n{}", done.verdict, faults(&done)))
}

#[test]
fn every_file_deleted_or_truncated_is_found_and_named() {
    let original = tempfile::tempdir().unwrap();
    full_bundle(original.path());
    for file in files_below(original.path()) {
        let bytes = std::fs::read(original.path().join(&file)).unwrap();
        let name = file.to_str().unwrap();
        let cuts = [None, Some(0), Some(bytes.len() / 2), Some(bytes.len() - 1)];
        for cut in cuts {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(original.path(), copy.path());
            match cut {
                None => std::fs::remove_file(copy.path().join(&file)).unwrap(),
                Some(cut) => std::fs::write(copy.path().join(&file), &bytes[..cut]).unwrap(),
            }
            let done = check(copy.path());
            assert_eq!(done.verdict.level, Level::Broken, "{name} cut to {cut:?}");
            assert!(is_named(&done, name, None, None), "{name} cut to {cut:?}:\n{}", faults(&done));
        }
    }
}

#[test]
fn a_file_that_nothing_lists_is_found_wherever_it_lies() {
    let original = tempfile::tempdir().unwrap();
    full_bundle(original.path());
    for name in [
        "stray",
        "data/stray",
        "data/disk/000009.zst",
        "keys/other.pem",
        "custody.extra",
        "checkpoints/stray",
        "anchors/stray",
        "new/stray",
    ] {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(original.path(), copy.path());
        std::fs::create_dir_all(copy.path().join("new")).unwrap();
        std::fs::write(copy.path().join(name), b"x").unwrap();
        let done = check(copy.path());
        assert!(!done.is_intact(), "{name}");
        assert!(is_named(&done, name, None, None), "{name}:\n{}", faults(&done));
    }
    let copy = tempfile::tempdir().unwrap();
    copy_folder(original.path(), copy.path());
    std::os::unix::fs::symlink("/etc/passwd", copy.path().join("link")).unwrap();
    assert!(is_named(&check(copy.path()), "link", None, None));
}

#[test]
fn clean_bundles_raise_no_false_alarm() {
    let chunk = CHUNK as usize;
    let mut sizes =
        vec![0, 1, 511, 512, chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 1, 5 * chunk + 77];
    sizes.extend((0..40).map(|i| i * 7919));
    for size in sizes {
        let folder = tempfile::tempdir().unwrap();
        Recipe { data: sample_bytes(size), ..Recipe::default() }.make(folder.path());
        for _ in 0..4 {
            let done = check(folder.path());
            assert_eq!(done.verdict.level, Level::Consistent, "{size}:\n{}", faults(&done));
            assert_eq!(done.counts.stream_bytes, size as u64);
            assert!(done.notes.is_empty(), "{:?}", done.notes);
        }
    }
    let zeros = tempfile::tempdir().unwrap();
    Recipe { data: vec![0; 3 * chunk], ..Recipe::default() }.make(zeros.path());
    assert!(check(zeros.path()).is_intact());
    let gaps = tempfile::tempdir().unwrap();
    Recipe { unreadable: Some(unreadable(0, CHUNK)), ..Recipe::default() }.make(gaps.path());
    let done = check(gaps.path());
    assert!(done.is_intact(), "{}", faults(&done));
}

#[test]
fn a_damaged_chunk_is_named_with_its_bytes_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    Recipe::default().make(folder.path());
    let (segment, chunk, start, end) = frames(folder.path())[1].clone();
    let path = folder.path().join(&segment);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(start + end) / 2] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let done = check(folder.path());
    let chunks: Vec<_> = done.faults.iter().filter(|fault| fault.kind == FaultKind::Chunk).collect();
    assert_eq!(chunks.len(), 1, "{}", faults(&done));
    assert_eq!(chunks[0].place.chunk, Some(chunk));
    assert_eq!(chunks[0].place.bytes, Some((u64::from(CHUNK), u64::from(CHUNK) * 2)));
    assert_eq!(chunks[0].place.file, segment);
}

#[test]
fn a_rewritten_bundle_whose_log_was_not_rewritten_is_found() {
    // Someone who can write the files, but not sign: another disk, manifest and sums that agree with each other.
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Recipe::default().make(ours.path());
    Recipe { data: sample_bytes(99_999), ..Recipe::default() }.make(theirs.path());
    for file in files_below(theirs.path()) {
        let name = file.to_str().unwrap();
        if !name.starts_with("custody.") && !name.starts_with("checkpoint") && !name.starts_with("keys/") {
            std::fs::copy(theirs.path().join(&file), ours.path().join(&file)).unwrap();
        }
    }
    let done = check(ours.path());
    assert!(!done.is_intact());
    assert!(is_named(&done, "manifest.json", None, None), "{}", faults(&done));
}

#[test]
fn an_unsealed_bundle_is_open() {
    let folder = tempfile::tempdir().unwrap();
    Recipe { sealed: false, ..Recipe::default() }.make(folder.path());
    let done = check(folder.path());
    assert_eq!(done.verdict.level, Level::Open, "{}", faults(&done));
    assert!(done.sentence.contains("Not sealed"));
}

#[test]
fn two_checks_of_one_bundle_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    full_bundle(folder.path());
    let json = || serde_json::to_string(&verify(folder.path(), &Options::default()).unwrap()).unwrap();
    assert_eq!(json(), json());
    assert!(json().contains("\"verdict\":\"CONSISTENT\""), "{}", json());
}

#[test]
fn a_pipe_or_link_in_the_place_of_a_file_neither_hangs_nor_leads_out() {
    let original = tempfile::tempdir().unwrap();
    full_bundle(original.path());
    let secret = tempfile::NamedTempFile::new().unwrap();
    for file in files_below(original.path()) {
        for pipe in [true, false] {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(original.path(), copy.path());
            let path = copy.path().join(&file);
            std::fs::remove_file(&path).unwrap();
            if pipe {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            } else {
                std::os::unix::fs::symlink(original.path().join(&file), &path).unwrap();
            }
            let done = check(copy.path());
            assert!(!done.is_intact(), "{file:?}");
            assert!(is_named(&done, file.to_str().unwrap(), None, None), "{file:?}:\n{}", faults(&done));
        }
    }
    // A receiver appends to a bundle that somebody prepared: links for our temporary files.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(original.path(), copy.path());
    for name in ["custody.checkpoint.tmp", "custody.frontier.tmp", "custody.kept.tmp"] {
        std::os::unix::fs::symlink(secret.path(), copy.path().join(name)).unwrap();
    }
    let log = custody::CustodyLog::open(copy.path()).unwrap();
    log.append(&NewEntry::new(EntryType::TRANSFER_OFFERED), &writer()).unwrap();
    assert_eq!(std::fs::read(secret.path()).unwrap(), b"");
    let done = check(copy.path());
    assert!(done.is_intact(), "{}", faults(&done));
    // Nor does the log itself lead out.
    std::fs::rename(copy.path().join("custody.jsonl"), copy.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(copy.path().join("moved"), copy.path().join("custody.jsonl")).unwrap();
    assert!(log.append(&note("x"), &writer()).is_err());
}
