//! Exports: the bytes that were acquired, in the forms that other tools read, and nothing else.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use acquire::export::{Export, Exported, Format, SMALLEST_PART};
use acquire::memory::{Host, MemoryCapture, MemorySource};
use acquire::{Acquisition, Error};
use custody::bundle::Bundle;
use custody::sha256;

use crate::support::*;

/// A bundle of a disk with this content, some of whose sectors could not be read.
fn disk_bundle(folder: &Path, data: &[u8], bad: &[u64]) -> Bundle {
    acquire_disk(Box::new(FaultSource::new(data.to_vec(), bad)), folder).unwrap();
    Bundle::open(folder).unwrap()
}

fn export(bundle: &Bundle, format: Format, to: &Path) -> acquire::Result<Exported> {
    Export::new(bundle, format, None)?.workers(2).to_file(to)
}

fn run(tool: &str, args: &[&str], folder: &Path) -> Output {
    Command::new(tool).args(args).current_dir(folder).output().unwrap()
}

/// Whether all of them are there; says which is not.
fn has_tools(tools: &[&str]) -> bool {
    tools.iter().all(|tool| {
        let there = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        let there = there.is_ok_and(|output| output.status.success());
        if !there {
            eprintln!("skipped in part: {tool} is not installed");
        }
        there
    })
}

#[test]
fn a_raw_export_is_the_disk_byte_for_byte_with_holes_where_it_has_zeros() {
    for length in [0, 1, 511, CHUNK, SEGMENT + 513, 3 * SEGMENT + CHUNK] {
        let place = tempfile::tempdir().unwrap();
        let mut data = content(length);
        // A hole at the end too.
        let end = data.len() / 2;
        data[end..].fill(0);
        let bundle = disk_bundle(&place.path().join("bundle"), &data, &[]);
        let file = place.path().join("disk.raw");
        let exported = export(&bundle, Format::Raw, &file).unwrap();
        assert!(fs::read(&file).unwrap() == data, "{length}");
        assert_eq!((exported.sha256, exported.size), (sha256(&data), length as u64));
        assert_eq!(exported.files.len(), 1);
        assert_eq!((exported.files[0].sha256, exported.files[0].size), (sha256(&data), length as u64));
        let stored = fs::metadata(&file).unwrap().blocks() * 512;
        assert!(length < SEGMENT || stored < length as u64, "{stored} of {length}");
        assert!(!place.path().join("disk.raw.part").exists());
    }
}

#[test]
fn parts_joined_are_the_disk_and_each_has_its_own_hash() {
    let place = tempfile::tempdir().unwrap();
    let data = content(5 * SEGMENT + 77);
    let bundle = disk_bundle(&place.path().join("bundle"), &data, &[]);
    let plan = Export::new(&bundle, Format::Raw, None).unwrap().split(SMALLEST_PART).unwrap();
    let exported = plan.to_file(&place.path().join("disk")).unwrap();
    assert_eq!(exported.files.len(), data.len().div_ceil(1 << 20));
    let mut joined = Vec::new();
    for (number, file) in exported.files.iter().enumerate() {
        assert_eq!(file.path.file_name().unwrap().to_str().unwrap(), format!("disk.{:03}", number + 1));
        let part = fs::read(&file.path).unwrap();
        assert_eq!((sha256(&part), part.len() as u64), (file.sha256, file.size));
        joined.extend(part);
    }
    assert!(joined == data);
}

#[test]
fn a_stream_of_bytes_gets_the_same_bytes_as_a_file() {
    let place = tempfile::tempdir().unwrap();
    let data = content(2 * SEGMENT + 77);
    let bundle = disk_bundle(&place.path().join("bundle"), &data, &[]);
    let mut out = Vec::new();
    Export::new(&bundle, Format::Raw, Some("disk")).unwrap().to_stream(&mut out).unwrap();
    assert!(out == data);
    let refused = Export::new(&bundle, Format::E01, None).unwrap().to_stream(&mut Vec::new());
    assert!(matches!(refused, Err(Error::NotExportable { .. })));
}

#[test]
fn a_tar_of_files_is_read_by_tar() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    make_tree(&tree);
    let folder = place.path().join("bundle");
    acquire_files(&[tree.join("etc")], &folder).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let file = place.path().join("files.tar");
    export(&bundle, Format::Tar, &file).unwrap();
    assert!(fs::read(&file).unwrap() == read_all(&bundle, "files"));
    let mut archive = tar::Archive::new(fs::File::open(&file).unwrap());
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.iter().any(|name| name.ends_with("etc/hostname")), "{names:?}");
    for wrong in [Format::Raw, Format::E01, Format::Lime] {
        let refused = export(&bundle, wrong, &place.path().join("x"));
        assert!(
            matches!(&refused, Err(Error::NotExportable { reason }) if reason.contains("files")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_memory_is_written_as_lime_and_padded_by_address() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::write(path("iomem"), "00001000-0009fbff : System RAM\n00100000-0017ffff : System RAM\n").unwrap();
    let mut raw = vec![0; 0x18_0000];
    raw[0x1000..0x9_fc00].copy_from_slice(&content(0x9_ec00));
    raw[0x10_0000..].copy_from_slice(&content(0x8_0000));
    fs::write(path("raw"), &raw).unwrap();
    let source = MemorySource::File { path: path("raw"), iomem: Some(path("iomem")) };
    let capture = MemoryCapture::plan(&Host::below(&path("no-such-machine")), &source).unwrap();
    let to = destination(&path("bundle"));
    with_writer(|writer| Acquisition::new(capture, to).options(options()).run(writer)).unwrap();
    let bundle = Bundle::open(&path("bundle")).unwrap();
    export(&bundle, Format::Lime, &path("memory.lime")).unwrap();
    assert!(fs::read(path("memory.lime")).unwrap() == read_all(&bundle, "memory"));
    let exported = export(&bundle, Format::Raw, &path("memory.raw")).unwrap();
    assert!(fs::read(path("memory.raw")).unwrap() == raw);
    assert_eq!((exported.files[0].size, exported.files[0].sha256), (raw.len() as u64, sha256(&raw)));
    assert!(exported.notes[0].contains("2 ranges"), "{:?}", exported.notes);
    let split = Export::new(&bundle, Format::Raw, None).unwrap().split(SMALLEST_PART);
    assert!(matches!(split, Err(Error::NotExportable { .. })));
    assert!(Export::new(&bundle, Format::Raw, None).unwrap().to_stream(&mut Vec::new()).is_err());
}

#[test]
fn nothing_is_overwritten_and_a_name_that_is_taken_is_named() {
    let place = tempfile::tempdir().unwrap();
    let bundle = disk_bundle(&place.path().join("bundle"), &content(CHUNK), &[]);
    for (there, format, given) in [
        ("a.raw", Format::Raw, "a.raw"),
        ("b.raw.part", Format::Raw, "b.raw"),
        ("c.E01", Format::E01, "c"),
        ("d.e01.part", Format::E01, "d.e01"),
    ] {
        let there = place.path().join(there);
        fs::write(&there, "mine").unwrap();
        match export(&bundle, format, &place.path().join(given)) {
            Err(Error::WouldOverwrite { path }) => assert_eq!(path, there),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(&there).unwrap(), b"mine");
    }
}

#[test]
fn a_changed_bundle_is_not_exported_and_the_place_is_named() {
    for format in [Format::Raw, Format::E01] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("bundle");
        let bundle = disk_bundle(&folder, &content(2 * SEGMENT), &[]);
        // The third chunk, which is noise and so stored as it is.
        let row = bundle.stream("disk").unwrap().chunk_row(2).unwrap();
        let segment = fs::OpenOptions::new().write(true).open(folder.join("data/disk/000000.zst")).unwrap();
        segment.write_all_at(&[0x55; 16], row.frame_offset + 500).unwrap();
        let file = place.path().join("disk.E01");
        let error = export(&Bundle::open(&folder).unwrap(), format, &file).unwrap_err();
        assert!(error.is_not_verified(), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("chunk 2") || cause.contains(&row.offset.to_string()), "{cause}");
        assert!(!file.exists() && place.path().join("disk.E01.part").exists());
    }
}

/// What ewf-tools, or anything built on libewf, reads out of an image.
fn by_ewfexport(folder: &Path, image: &str) -> Vec<u8> {
    let output = run("ewfexport", &["-q", "-u", "-f", "raw", "-t", "exported", image], folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(folder.join("exported.raw")).unwrap()
}

#[test]
fn an_e01_passes_ewfverify_and_gives_the_disk_back() {
    if !has_tools(&["ewfverify", "ewfexport", "ewfinfo"]) {
        return;
    }
    for length in
        [1, 511, 512, 513, 32 << 10, (32 << 10) + 1, CHUNK, CHUNK + 512, 3 * SEGMENT + CHUNK + 12_345]
    {
        let place = tempfile::tempdir().unwrap();
        let data = content(length);
        let bundle = disk_bundle(&place.path().join("bundle"), &data, &[]);
        let exported = export(&bundle, Format::E01, &place.path().join("disk.E01")).unwrap();
        let media = exported.media.unwrap();
        assert_eq!((length + media.padding as usize) % 512, 0);
        assert_eq!(exported.notes.len(), usize::from(media.padding > 0), "{:?}", exported.notes);
        assert_eq!(exported.files[0].sha256, sha256(&fs::read(place.path().join("disk.E01")).unwrap()));
        let verified = run("ewfverify", &["-q", "-d", "sha1", "disk.E01"], place.path());
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success() && said.contains("SUCCESS"), "{length}: {said}");
        let mut expected = data.clone();
        expected.resize(length.next_multiple_of(512), 0);
        assert!(by_ewfexport(place.path(), "disk.E01") == expected, "{length}");
        let info = run("ewfinfo", &["disk.E01"], place.path());
        let info = String::from_utf8_lossy(&info.stdout).into_owned();
        for expected in
            ["EnCase 6", "ir-2026-017", "E001", "J. Doe", &sha256(&data).to_string(), &media.md5, &media.sha1]
        {
            assert!(info.contains(expected), "{expected:?} is not in {info}");
        }
    }
}

#[test]
fn an_e01_of_many_segments_keeps_its_size_and_verifies() {
    let place = tempfile::tempdir().unwrap();
    // Noise, so that the image is as large as the disk and needs names beyond .E99.
    let mut data = vec![0; 102 << 20];
    let mut state = 7u64;
    for word in data.chunks_exact_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    let bundle = disk_bundle(&place.path().join("bundle"), &data, &[]);
    let plan = Export::new(&bundle, Format::E01, None).unwrap().split(SMALLEST_PART).unwrap();
    let exported = plan.to_file(&place.path().join("disk.E01")).unwrap();
    assert!(exported.files.len() > 100);
    assert!(exported.files.iter().all(|file| file.size <= SMALLEST_PART));
    let names: Vec<PathBuf> = exported.files.iter().map(|file| file.path.clone()).collect();
    assert!(names[98].ends_with("disk.E99") && names[99].ends_with("disk.EAA"), "{names:?}");
    if has_tools(&["ewfverify", "ewfexport"]) {
        let verified = run("ewfverify", &["-q", "disk.E01"], place.path());
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        assert!(by_ewfexport(place.path(), "disk.E01") == data);
    }
}

#[test]
fn sectors_that_could_not_be_read_are_in_the_images_list_of_errors() {
    let place = tempfile::tempdir().unwrap();
    let data = content(2 * SEGMENT);
    let last = data.len() as u64 / 512 - 1;
    let bundle = disk_bundle(&place.path().join("bundle"), &data, &[0, 700, 701, 702, last]);
    let exported = export(&bundle, Format::E01, &place.path().join("disk.E01")).unwrap();
    assert_eq!(exported.media.unwrap().unreadable_runs, 3);
    assert!(exported.notes[0].contains(&(5 * 512).to_string()), "{:?}", exported.notes);
    if has_tools(&["ewfinfo", "ewfverify"]) {
        let info = run("ewfinfo", &["-e", "disk.E01"], place.path());
        let info = String::from_utf8_lossy(&info.stdout).into_owned();
        for run in ["0 - 0 number: 1", "700 - 702 number: 3", &format!("{last} - {last} number: 1")] {
            assert!(info.replace('\t', " ").contains(run), "{run:?} is not in {info}");
        }
        assert!(run("ewfverify", &["-q", "disk.E01"], place.path()).status.success());
    }
}

#[test]
fn the_same_bundle_gives_the_same_image() {
    let place = tempfile::tempdir().unwrap();
    let bundle = disk_bundle(&place.path().join("bundle"), &content(3 * SEGMENT + 5), &[9]);
    let once = export(&bundle, Format::E01, &place.path().join("a.E01")).unwrap();
    let plan = Export::new(&bundle, Format::E01, None).unwrap().workers(7);
    let again = plan.to_file(&place.path().join("b.E01")).unwrap();
    assert_eq!(once.files[0].sha256, again.files[0].sha256);
}

#[test]
fn an_empty_disk_is_no_e01_and_small_parts_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let empty = disk_bundle(&place.path().join("empty"), &[], &[]);
    let refused = export(&empty, Format::E01, &place.path().join("disk.E01"));
    assert!(matches!(refused, Err(Error::NotExportable { .. })), "{refused:?}");
    assert!(Export::new(&empty, Format::Raw, None).unwrap().split(SMALLEST_PART - 1).is_err());
    assert!(Export::new(&empty, Format::Raw, Some("memory")).is_err());
}
