//! Bundles in S3: every byte comes back, what was put later or deleted is told, and nothing is said of what was not read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use acquire::sources::disk;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use custody::bundle::{
    self, Bundle, BundleStore, DEFAULT_CACHE, LayeredStore, LocalFolder, Manifest, RemoteStore,
};
use custody::verify::{self, FaultKind, Level, Options, ThreatState, Verification};

use crate::s3_servers::*;
use crate::support::*;

const PREFIX: &str = "ir-17/E001-web01-disk";

/// A sealed bundle in a folder of its own, and what was acquired.
fn bundle(place: &Path) -> (PathBuf, Vec<u8>) {
    let (image, folder) = (place.join("image.raw"), place.join("E001-web01-disk"));
    let data = content(3 * SEGMENT + CHUNK + 513);
    fs::write(&image, &data).unwrap();
    acquire_disk(disk::open(&image).unwrap(), &folder).unwrap();
    (folder, data)
}

fn with_store(bucket: &Bucket) -> Options {
    Options { remote: Some(Arc::new(Opening(bucket.connection.clone()))), ..Options::default() }
}

fn verified(folder: &Path, bucket: &Bucket) -> Verification {
    verify::verify(folder, &with_store(bucket)).unwrap()
}

fn opened(folder: &Path, bucket: &Bucket) -> Bundle {
    let data = Arc::new(bucket.reader(PREFIX));
    let store = LayeredStore::new(Arc::new(LocalFolder::new(folder)), data);
    Bundle::open_with(folder, Arc::new(store), DEFAULT_CACHE).unwrap()
}

fn fault<'a>(done: &'a Verification, file: &str) -> &'a verify::Fault {
    let found = done.faults.iter().find(|fault| fault.place.file == file);
    found.unwrap_or_else(|| panic!("no fault of {file} in {:?}", done.faults))
}

#[test]
fn a_bundle_in_a_store_verifies_to_the_last_byte_and_reads_as_it_did_on_the_disk() {
    for server in servers() {
        let here = tempfile::tempdir().unwrap();
        let (folder, data) = bundle(here.path());
        let local = verify::verify(&folder, &Options::default()).unwrap();
        let bucket = server.bucket(Keeps::Versions);
        bucket.take_over(PREFIX, &folder);
        assert!(read_all(&opened(&folder, &bucket), "disk") == data, "{}", server.name);
        let done = verified(&folder, &bucket);
        assert_eq!(done.faults, [], "{}", server.name);
        assert!(!done.data_not_read && done.verdict.level == Level::Consistent);
        assert_eq!((done.counts, done.manifest_sha256), (local.counts, local.manifest_sha256));
        assert!(done.notes.iter().any(|note| note.contains("no lock is shown of")), "{:?}", done.notes);
        assert!(!done.notes.iter().any(|note| note.contains("kept no versions")), "{:?}", done.notes);
    }
}

#[test]
fn data_that_was_not_asked_for_is_said_not_to_have_been_read() {
    let here = tempfile::tempdir().unwrap();
    let (folder, _) = bundle(here.path());
    let Some(server) = simulated() else { return };
    let bucket = server.bucket(Keeps::Versions);
    bucket.take_over(PREFIX, &folder);
    let done = verify::verify(&folder, &Options::default()).unwrap();
    assert_eq!(done.faults, []);
    assert!(done.data_not_read && done.sentence.contains("DATA NOT READ"), "{}", done.sentence);
    assert!(done.notes.iter().any(|note| note.contains(&format!("s3://{}/{PREFIX}", bucket.name))));
    assert_eq!((done.counts.chunks, done.counts.stream_bytes), (0, 0));
    for id in ["T12", "T16"] {
        let threat = done.threats.iter().find(|threat| threat.id == id).unwrap();
        assert_eq!(threat.state, ThreatState::NotProved, "{}", threat.words);
    }
    // What lies in the folder is checked all the same.
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    fs::write(folder.join("SHA256SUMS"), sums.replacen('a', "b", 1)).unwrap();
    assert_eq!(verify::verify(&folder, &Options::default()).unwrap().verdict.level, Level::Broken);
}

#[test]
fn a_later_version_is_told_and_the_first_is_what_is_read() {
    for server in servers() {
        let here = tempfile::tempdir().unwrap();
        let (folder, data) = bundle(here.path());
        let bucket = server.bucket(Keeps::Versions);
        bucket.take_over(PREFIX, &folder);
        let key = "data/disk/000001.zst";
        let later = bucket.put(&format!("{PREFIX}/{key}"), b"other bytes");
        let entry = bucket.put(&format!("{PREFIX}/custody/00000000.json"), b"{}");
        let done = verified(&folder, &bucket);
        assert_eq!(done.verdict.level, Level::Broken);
        for (path, version) in [(key, later), ("custody/00000000.json", entry)] {
            let fault = fault(&done, path);
            assert_eq!(fault.kind, FaultKind::Version);
            assert!(
                fault.words.contains("LATER VERSION") && fault.words.contains(&version),
                "{}",
                fault.words
            );
            assert!(fault.words.contains("bytes") && fault.words.contains("20"), "{}", fault.words);
        }
        assert_eq!(done.fault_count, 2, "{:?}", done.faults);
        assert_eq!(done.counts.chunks, 14, "every chunk of the first versions was checked");
        assert!(read_all(&opened(&folder, &bucket), "disk") == data, "{}", server.name);
    }
}

#[test]
fn a_deletion_is_told_and_what_was_deleted_is_still_read() {
    for server in servers() {
        let here = tempfile::tempdir().unwrap();
        let (folder, data) = bundle(here.path());
        let bucket = server.bucket(Keeps::Versions);
        bucket.take_over(PREFIX, &folder);
        let marker = bucket.delete(&format!("{PREFIX}/data/disk/000000.zst"), None).unwrap().unwrap();
        let done = verified(&folder, &bucket);
        let fault = fault(&done, "data/disk/000000.zst");
        assert_eq!((fault.kind, done.fault_count), (FaultKind::Version, 1));
        assert!(fault.words.contains("DELETED") && fault.words.contains(&marker), "{}", fault.words);
        assert!(read_all(&opened(&folder, &bucket), "disk") == data, "{}", server.name);
    }
}

#[test]
fn objects_that_no_bundle_has_and_objects_that_are_missing_are_named() {
    for server in servers() {
        let here = tempfile::tempdir().unwrap();
        let (folder, _) = bundle(here.path());
        let bucket = server.bucket(Keeps::Plain);
        bucket.take_over(PREFIX, &folder);
        let strange = [
            "data/disk/000099.zst",
            "evil.txt",
            "custody/7.json",
            "custody.jsonl",
            "a b/\u{e9}+%41",
            "data/",
        ];
        for path in strange {
            bucket.put(&format!("{PREFIX}/{path}"), b"x");
        }
        bucket.delete(&format!("{PREFIX}/data/disk/000002.zst"), None).unwrap();
        let done = verified(&folder, &bucket);
        for path in
            ["data/disk/000099.zst", "evil.txt", "custody/7.json", "custody.jsonl", "a b/\u{e9}+%41", "data/"]
        {
            assert_eq!(fault(&done, path).kind, FaultKind::Unlisted, "{}", server.name);
        }
        assert_eq!(fault(&done, "data/disk/000002.zst").kind, FaultKind::Missing);
        assert!(done.notes.iter().any(|note| note.contains("kept no versions")), "{:?}", done.notes);
    }
}

#[test]
fn a_changed_byte_in_the_store_is_named_by_its_chunk() {
    for server in servers() {
        let here = tempfile::tempdir().unwrap();
        let (folder, _) = bundle(here.path());
        let segment = folder.join("data/disk/000001.zst");
        let mut bytes = fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let local = verify::verify(&folder, &Options::default()).unwrap();
        let bucket = server.bucket(Keeps::Versions);
        bucket.take_over(PREFIX, &folder);
        let done = verified(&folder, &bucket);
        assert_eq!(done.faults, local.faults, "{}", server.name);
        assert_eq!(done.faults[0].kind, FaultKind::Chunk);
    }
}

#[test]
fn a_log_in_the_store_that_is_not_the_one_here_is_a_fork() {
    let Some(server) = simulated() else { return };
    let here = tempfile::tempdir().unwrap();
    let (folder, _) = bundle(here.path());
    let objects = objects_of(&folder);
    let entries = objects.keys().filter(|path| path.starts_with("custody/")).count();
    let bucket = server.bucket(Keeps::Plain);
    bucket.take_over(PREFIX, &folder);
    bucket.put(&format!("{PREFIX}/custody/00000001.json"), b"{\"another\":1}");
    bucket.put(&format!("{PREFIX}/custody/{:08}.json", entries + 1), b"{}");
    bucket.put(&format!("{PREFIX}/manifest.json.sig"), &[0; 64]);
    let done = verified(&folder, &bucket);
    assert_eq!(fault(&done, "custody/00000001.json").kind, FaultKind::Fork);
    assert_eq!(fault(&done, &format!("custody/{entries:08}.json")).kind, FaultKind::Missing);
    assert_eq!(fault(&done, "custody.jsonl").kind, FaultKind::Truncated);
    assert_eq!(fault(&done, "manifest.json.sig").kind, FaultKind::Changed);
    // An entry that is not there yet is no fault: the next append puts it.
    bucket.delete(&format!("{PREFIX}/custody/{:08}.json", entries + 1), None).unwrap();
    bucket.delete(&format!("{PREFIX}/custody/{:08}.json", entries - 1), None).unwrap();
    bucket.put(&format!("{PREFIX}/custody/00000001.json"), &objects["custody/00000001.json"]);
    bucket.put(&format!("{PREFIX}/manifest.json.sig"), &objects["manifest.json.sig"]);
    let done = verified(&folder, &bucket);
    assert_eq!(done.faults, []);
    assert!(
        done.notes.iter().any(|note| note.contains("the next append puts them there")),
        "{:?}",
        done.notes
    );
}

#[test]
fn a_bundle_that_is_brought_back_is_the_one_that_was_put_there() {
    for server in servers() {
        let here = tempfile::tempdir().unwrap();
        let (folder, data) = bundle(here.path());
        let objects = objects_of(&folder);
        let log = fs::read(folder.join("custody.jsonl")).unwrap();
        let frontier = fs::read(folder.join("custody.frontier")).unwrap();
        let bucket = server.bucket(Keeps::Versions);
        bucket.take_over(PREFIX, &folder);
        let back = here.path().join("back");
        fs::create_dir(&back).unwrap();
        let reader = bucket.reader(PREFIX);
        let small = bundle::fetch_all_but_data(&reader, &back).unwrap();
        assert_eq!(small.files as usize, objects.keys().filter(|path| !path.starts_with("data/")).count());
        let manifest = Manifest::from_bytes(&fs::read(back.join("manifest.json")).unwrap()).unwrap();
        let told = std::cell::Cell::new(0);
        let got =
            bundle::fetch_data(&reader, &manifest, &back, &|bytes| told.set(told.get() + bytes)).unwrap();
        assert_eq!(got.bytes, told.get());
        assert_eq!(objects_of(&back), objects, "{}", server.name);
        assert_eq!(fs::read(back.join("custody.jsonl")).unwrap(), log);
        assert_eq!(fs::read(back.join("custody.frontier")).unwrap(), frontier);
        assert_eq!(verify::verify(&back, &Options::default()).unwrap().faults, []);
        assert!(read_all(&Bundle::open(&back).unwrap(), "disk") == data);
    }
}

#[test]
fn a_file_that_is_not_the_one_of_the_manifest_never_gets_its_name() {
    let Some(server) = simulated() else { return };
    let here = tempfile::tempdir().unwrap();
    let (folder, _) = bundle(here.path());
    let manifest = Manifest::from_bytes(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let bucket = server.bucket(Keeps::Plain);
    let path = "data/disk/000001.zst";
    let mut bytes = fs::read(folder.join(path)).unwrap();
    bucket.take_over(PREFIX, &folder);
    bytes[9] ^= 1;
    bucket.put(&format!("{PREFIX}/{path}"), &bytes);
    let back = here.path().join("back");
    fs::create_dir(&back).unwrap();
    let failed = bundle::fetch_data(&bucket.reader(PREFIX), &manifest, &back, &|_| ()).unwrap_err();
    assert!(failed.to_string().contains(path), "{failed}");
    assert!(back.join("data/disk/000000.zst").exists() && !back.join(path).exists());
}

#[test]
fn more_keys_than_a_page_holds_are_all_seen() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        for some in (0..1_050).collect::<Vec<_>>().chunks(25) {
            let puts = some.iter().map(|number| {
                let key = format!("{PREFIX}/data/files/{number:06}.zst");
                let put = bucket.client.put_object().bucket(&bucket.name).key(key);
                put.body(ByteStream::from_static(b"x")).send()
            });
            bucket.wait(async {
                let tasks: Vec<_> = puts.map(tokio::spawn).collect();
                for task in tasks {
                    task.await.unwrap().unwrap();
                }
            });
        }
        // Of another bundle, whose name begins as this one's.
        bucket.put(&format!("{PREFIX}2/data/x"), b"x");
        bucket.put(&format!("{PREFIX}/data/files/001049.zst"), b"later");
        let reader = bucket.reader(PREFIX);
        assert_eq!(
            (reader.listing().files.len(), reader.listing().faults.len()),
            (1_050, 1),
            "{}",
            server.name
        );
        let paths: Vec<String> = reader.listing().files.keys().cloned().collect();
        reader.will_read(&paths);
        for path in &paths {
            let mut byte = [0; 8];
            assert_eq!(reader.read_at(path, 0, &mut byte).unwrap(), 1);
            assert_eq!(byte[0], b'x');
        }
        assert_eq!(reader.fetched(), 1_050, "no object was asked for twice");
    }
}

/// Puts an object in parts of 5 MiB.
fn put_in_parts(bucket: &Bucket, key: &str, bytes: &[u8]) {
    bucket.wait(async {
        let begun =
            bucket.client.create_multipart_upload().bucket(&bucket.name).key(key).send().await.unwrap();
        let id = begun.upload_id().unwrap();
        let mut parts = Vec::new();
        for (number, part) in (1..).zip(bytes.chunks(5 << 20)) {
            let put =
                bucket.client.upload_part().bucket(&bucket.name).key(key).upload_id(id).part_number(number);
            let done = put.body(ByteStream::from(part.to_vec())).send().await.unwrap();
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(done.e_tag).build());
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let end = bucket.client.complete_multipart_upload().bucket(&bucket.name).key(key).upload_id(id);
        end.multipart_upload(parts).send().await.unwrap();
    });
}

#[test]
fn any_range_of_an_object_that_was_put_in_parts_is_read() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        let bytes = content(13 << 20);
        put_in_parts(&bucket, &format!("{PREFIX}/data/disk/000000.zst"), &bytes);
        let reader = bucket.reader(PREFIX);
        let path = "data/disk/000000.zst";
        assert_eq!(reader.size_of(path).unwrap(), bytes.len() as u64);
        for (at, length) in
            [(5 << 20, 77), ((5 << 20) - 3, 600_000), (bytes.len() - 5, 100), (bytes.len(), 9)]
        {
            let mut read = vec![0; length];
            let count = reader.read_at(path, at as u64, &mut read).unwrap();
            assert_eq!(count, length.min(bytes.len() - at));
            assert!(read[..count] == bytes[at..at + count], "{} at {at}", server.name);
        }
        let before = reader.fetched();
        assert!(before < bytes.len() as u64, "{before} bytes for some small reads");
        let mut whole = vec![0; bytes.len()];
        for (number, piece) in whole.chunks_mut(300_001).enumerate() {
            assert_eq!(reader.read_at(path, number as u64 * 300_001, piece).unwrap(), piece.len());
        }
        assert!(whole == bytes);
        assert_eq!(reader.fetched(), bytes.len() as u64, "no byte came twice");
        assert!(reader.read_at("data/disk/000001.zst", 0, &mut [0]).is_err());
    }
}

/// Seconds of the Unix time, an hour and more from now.
#[allow(clippy::disallowed_methods, reason = "a lock on a real server lies in the real future")]
fn in_hours(hours: u64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    (now + hours * 3600) as i64
}

#[test]
fn under_object_lock_the_first_version_cannot_be_deleted_nor_its_lock_shortened() {
    let Some(server) = real() else { return };
    let here = tempfile::tempdir().unwrap();
    let (folder, data) = bundle(here.path());
    let bucket = server.bucket(Keeps::Locked);
    let until = in_hours(48);
    let mut versions = Vec::new();
    for (path, bytes) in objects_of(&folder) {
        let key = format!("{PREFIX}/{path}");
        versions.push((bucket.put_locked(&key, &bytes, until), key));
    }
    fs::remove_dir_all(folder.join("data")).unwrap();
    bucket.place(PREFIX).write(&folder).unwrap();
    for (version, key) in &versions {
        let refused = bucket.delete(key, Some(version)).unwrap_err();
        assert!(refused.contains("AccessDenied"), "{refused}");
    }
    let (version, key) = &versions[0];
    let refused = bucket.retain(key, version, in_hours(24)).unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");
    bucket.retain(key, version, in_hours(72)).unwrap();
    let done = verified(&folder, &bucket);
    assert_eq!(done.faults, []);
    let note = done.notes.iter().find(|note| note.contains("Object Lock")).unwrap();
    assert!(note.contains("COMPLIANCE") && note.contains("locked until 20"), "{note}");
    assert!(!done.notes.iter().any(|note| note.contains("no lock is shown")), "{:?}", done.notes);
    // What the lock does not stop is told: a deletion of the name, and a version on top.
    bucket.delete(&versions[0].1, None).unwrap();
    bucket.put(&versions[1].1, b"on top");
    let done = verified(&folder, &bucket);
    assert_eq!(
        done.faults.iter().filter(|fault| fault.kind == FaultKind::Version).count(),
        2,
        "{:?}",
        done.faults
    );
    assert!(read_all(&opened(&folder, &bucket), "disk") == data);
}
