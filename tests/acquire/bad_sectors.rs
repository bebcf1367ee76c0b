//! Bad sectors as the kernel tells them: what was injected is what is listed, no more and no less.
//!
//! Injectors: a FUSE file that gives EIO, a loop device upon it, and device mapper's error target where there is one.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use acquire::Report;
use acquire::sources::disk;
use custody::bundle::{Bundle, State};
use custody::sha256;

use crate::faulty_disk::{FaultyDisk, Loop, Mapped, write_counters};
use crate::support::*;

const SECTORS: u64 = 24 * CHUNK as u64 / 512;
const PER_CHUNK: u64 = CHUNK as u64 / 512;

/// Where sectors are bad: at the edges, alone, in runs, every second, across chunks.
fn cases(sectors: u64, per_chunk: u64) -> Vec<(&'static str, Vec<u64>)> {
    vec![
        ("the first", vec![0]),
        ("the last", vec![sectors - 1]),
        ("one in the middle", vec![sectors / 2 + 3]),
        ("eight in a row", (700 % sectors..700 % sectors + 8).collect()),
        ("eight across two chunks", (5 * per_chunk - 4..5 * per_chunk + 4).collect()),
        ("every second", (2 * per_chunk..4 * per_chunk).step_by(2).collect()),
        ("at the edges of chunks", vec![per_chunk - 1, per_chunk, 2 * per_chunk, 9 * per_chunk - 1]),
        ("a whole chunk", (3 * per_chunk..4 * per_chunk).collect()),
        ("none", vec![]),
    ]
}

/// Acquires `path`, and checks the bundle against what was injected, in units of `unit` bytes.
fn check(path: &Path, data: &[u8], bad: &[u64], unit: u64, what: &str) -> Report {
    let place = tempfile::tempdir().unwrap();
    let report = acquire_disk(disk::open(path).unwrap(), place.path()).unwrap();
    let bundle = Bundle::open(place.path()).unwrap();
    let mut listed = BTreeSet::new();
    for extent in bundle.stream("disk").unwrap().extents() {
        if extent.state == State::Unreadable {
            assert!(extent.detail.starts_with("errno=5 tries="), "{what}: {}", extent.detail);
            assert_eq!((extent.start % unit, extent.length % unit), (0, 0), "{what}");
            listed.extend(extent.start / unit..extent.end() / unit);
        }
    }
    assert_eq!(listed.into_iter().collect::<Vec<_>>(), bad, "{what}");
    let mut expected = data.to_vec();
    let mut readable = Vec::new();
    for (number, sector) in expected.chunks_mut(unit as usize).enumerate() {
        if bad.binary_search(&(number as u64)).is_ok() {
            sector.fill(0);
        } else {
            readable.extend_from_slice(sector);
        }
    }
    assert!(read_all(&bundle, "disk") == expected, "{what}: a neighbour is wrong");
    assert_eq!(report.streams[0].sha256, sha256(&expected), "{what}");
    assert_eq!(report.streams[0].sha256_data, sha256(&readable), "{what}");
    // The issues name the same bytes.
    let issues: Vec<Range<u64>> = report
        .issues
        .iter()
        .filter(|issue| issue.what.starts_with("unreadable"))
        .map(|issue| issue.offset.unwrap()..issue.offset.unwrap() + issue.length.unwrap())
        .collect();
    let named: u64 = issues.iter().map(|range| range.end - range.start).sum();
    assert_eq!(named, bad.len() as u64 * unit, "{what}");
    report
}

#[test]
fn a_file_that_gives_eio_past_the_page_cache_is_told_to_the_sector() {
    let data = content(SECTORS as usize * 512);
    for (what, bad) in cases(SECTORS, PER_CHUNK) {
        let Some(disk) = FaultyDisk::mount(data.clone(), &bad, 512, true) else { return };
        check(&disk.path, &data, &bad, 512, what);
        assert_eq!(disk.faults.lock().unwrap().written_to, 0);
    }
}

#[test]
fn a_file_that_gives_eio_through_the_page_cache_is_told_to_the_sector_too() {
    let data = content(SECTORS as usize * 512);
    for (what, bad) in cases(SECTORS, PER_CHUNK) {
        // The cache reads pages of 4 KiB, and ahead; what fails is read again past it.
        let Some(disk) = FaultyDisk::mount(data.clone(), &bad, 512, false) else { return };
        check(&disk.path, &data, &bad, 512, what);
    }
}

#[test]
fn sectors_of_four_kib_are_lost_as_a_whole_and_no_more() {
    let data = content(SECTORS as usize * 512);
    for (what, bad) in cases(SECTORS / 8, PER_CHUNK / 8) {
        let Some(disk) = FaultyDisk::mount(data.clone(), &bad, 4096, true) else { return };
        check(&disk.path, &data, &bad, 4096, what);
    }
}

#[test]
fn a_block_device_with_bad_sectors_is_told_to_the_sector() {
    let data = content(SECTORS as usize * 512);
    for (what, bad) in cases(SECTORS, PER_CHUNK) {
        let Some(disk) = FaultyDisk::mount(data.clone(), &bad, 512, true) else { return };
        let Some(attached) = Loop::attach(&disk.path, 512) else { return };
        let before = write_counters(&attached.device);
        let report = check(&attached.device, &data, &bad, 512, what);
        assert_eq!(write_counters(&attached.device), before);
        assert_eq!(report.streams[0].size, data.len() as u64);
        assert_eq!(disk.faults.lock().unwrap().written_to, 0);
    }
}

#[test]
fn a_block_device_of_four_kib_sectors_is_read_by_its_sectors() {
    let data = content(SECTORS as usize * 512);
    for (what, bad) in cases(SECTORS / 8, PER_CHUNK / 8) {
        let Some(disk) = FaultyDisk::mount(data.clone(), &bad, 4096, true) else { return };
        let Some(attached) = Loop::attach(&disk.path, 4096) else { return };
        check(&attached.device, &data, &bad, 4096, what);
    }
}

#[test]
fn device_mappers_error_target_is_told_to_the_sector() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let data = content(SECTORS as usize * 512);
    fs::write(&image, &data).unwrap();
    let Some(attached) = Loop::attach(&image, 512) else { return };
    let device = attached.device.display();
    let rest = SECTORS - 1001;
    let table = format!("0 1000 linear {device} 0\n1000 1 error\n1001 {rest} linear {device} 1001");
    let name = format!("exhibit-test-{}", std::process::id());
    let Some((_mapped, path)) = Mapped::create(&name, &table) else { return };
    check(&path, &data, &[1000], 512, "device mapper");
}

#[test]
fn a_file_that_is_cut_while_it_is_read_keeps_what_came_before() {
    let data = content(SECTORS as usize * 512);
    let cut = 9 * CHUNK as u64 + 5000;
    let Some(disk) = FaultyDisk::mount(data.clone(), &[], 512, true) else { return };
    disk.faults.lock().unwrap().cut_at = Some(cut);
    let place = tempfile::tempdir().unwrap();
    let report = acquire_disk(disk::open(&disk.path).unwrap(), place.path()).unwrap();
    let back = read_all(&Bundle::open(place.path()).unwrap(), "disk");
    assert_eq!(back.len(), data.len());
    assert!(back[..cut as usize] == data[..cut as usize]);
    assert!(back[cut as usize..].iter().all(|&byte| byte == 0));
    assert_eq!(report.states().absent, data.len() as u64 - cut);
    let [issue] = report.issues.as_slice() else { panic!("{:?}", report.issues) };
    assert_eq!(issue.offset, Some(cut));
    assert!(issue.what.contains("ended at byte"), "{issue:?}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_said_to_have_grown() {
    let data = content(SECTORS as usize * 512);
    let Some(disk) = FaultyDisk::mount(data.clone(), &[], 512, true) else { return };
    let source = disk::open(&disk.path).unwrap();
    disk.faults.lock().unwrap().data.extend(content(10_000));
    let place = tempfile::tempdir().unwrap();
    let report = acquire_disk(source, place.path()).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    let [issue] = report.issues.as_slice() else { panic!("{:?}", report.issues) };
    assert!(issue.what.contains("grew"), "{issue:?}");
}

#[test]
fn a_device_that_vanishes_keeps_what_was_read_and_is_not_asked_again() {
    let data = content(SECTORS as usize * 512);
    let gone = 9 * CHUNK as u64;
    let Some(disk) = FaultyDisk::mount(data.clone(), &[], 512, true) else { return };
    disk.faults.lock().unwrap().gone_at = Some(gone);
    let place = tempfile::tempdir().unwrap();
    let report = acquire_disk(disk::open(&disk.path).unwrap(), place.path()).unwrap();
    let bundle = Bundle::open(place.path()).unwrap();
    let back = read_all(&bundle, "disk");
    assert!(back[..gone as usize] == data[..gone as usize]);
    let states = report.states();
    assert_eq!((states.unreadable, states.absent), (data.len() as u64 - gone, 0));
    assert!(report.issues[0].what.contains("No such device"), "{:?}", report.issues);
    let untried = bundle.stream("disk").unwrap().extents().iter().any(|e| e.detail == "errno=19 tries=0");
    assert!(untried);
}

#[test]
fn a_read_only_block_device_tells_what_it_is_and_that_nothing_was_written() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let data = content(3 * SEGMENT + 512);
    fs::write(&image, &data).unwrap();
    let Some(attached) = Loop::attach(&image, 512) else { return };
    let folder = place.path().join("bundle");
    let report = acquire_disk(disk::open(&attached.device).unwrap(), &folder).unwrap();
    assert_eq!((report.streams[0].sha256, report.issue_count), (sha256(&data), 0));
    let bundle = Bundle::open(&folder).unwrap();
    let source = &bundle.manifest().source;
    assert_eq!((source.size, source.sector_size), (Some(data.len() as u64), Some(512)));
    let more = &source.more;
    assert_eq!((&more["form"], &more["transport"]), (&"block device".into(), &"loop".into()));
    assert_eq!((&more["read_only"], &more["read_only_after"]), (&true.into(), &true.into()));
    assert_eq!(more["backing_file"], image.to_str().unwrap());
    assert_eq!(more["kernel_size"], data.len());
    assert_eq!(more["write_counters"]["before"], more["write_counters"]["after"]);
    assert_eq!(more["first_34_sectors"], format!("sha256:{}", sha256(&data[..34 * 512])));
    assert_eq!(more["last_33_sectors"], format!("sha256:{}", sha256(&data[data.len() - 33 * 512..])));
    assert!(more["hidden_areas"]["hpa_dco_ama"].as_str().unwrap().starts_with("not asked: "), "{more:?}");
}
