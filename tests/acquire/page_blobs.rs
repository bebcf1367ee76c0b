//! Azure's page blobs: what is acquired by a signature is the disk, page for page, and a service that fails loses nothing.

use std::fs;
use std::path::Path;

use acquire::aws::FailureKind;
use acquire::remote_images::{PageBlob, SecretUrl};
use acquire::sources::disk::{DiskCapture, DiskSource};
use acquire::{Acquisition, Report, Source};
use custody::bundle::{Bundle, Extent, State};
use custody::sha256;

use crate::azurite::azurite;
use crate::range_server::{Asked, Fault, RangeServer, SIGNATURE, list};
use crate::support::{CHUNK, acquire_disk, content, destination, options, read_all, with_writer};

fn blob(url: &str, since: Option<&str>) -> acquire::Result<Box<dyn Source>> {
    PageBlob::open(SecretUrl::parse(url).unwrap(), since)
}

fn extents(folder: &Path) -> Vec<Extent> {
    let bundle = Bundle::open(folder).unwrap();
    bundle.stream("disk").unwrap().extents().to_vec()
}

/// Runs of written pages, and the disk that they make: whole chunks, pieces of some, single pages, written zeros.
fn made_disk() -> (Vec<u8>, Vec<(u64, u64)>) {
    let size = 40 * CHUNK;
    let pages = [
        (0, CHUNK as u64),
        (2 * CHUNK as u64 + 512, 512),
        (2 * CHUNK as u64 + 1536, 1024),
        (5 * CHUNK as u64, 6 * CHUNK as u64),
        (13 * CHUNK as u64 - 512, 1024),
        (39 * CHUNK as u64, CHUNK as u64),
    ];
    let from = content(size);
    let mut disk = vec![0; size];
    for (start, length) in pages {
        let range = start as usize..(start + length) as usize;
        disk[range.clone()].copy_from_slice(&from[range]);
    }
    (disk, pages.to_vec())
}

/// What is stored equals the disk; what the service did not list is absent, to the page.
fn assert_is(folder: &Path, disk: &[u8], pages: &[(u64, u64)]) {
    assert_eq!(read_all(&Bundle::open(folder).unwrap(), "disk"), disk);
    let mut state = vec![State::Absent; disk.len() / 512];
    for (start, length) in pages {
        state[(*start / 512) as usize..((start + length) / 512) as usize].fill(State::Data);
    }
    for extent in extents(folder) {
        for page in extent.start / 512..extent.end() / 512 {
            let found = if extent.state == State::Zero { State::Data } else { extent.state };
            assert_eq!(found, state[page as usize], "page {page} in {extent:?}");
        }
    }
}

fn no_secret_in(folder: &Path) {
    for name in ["custody.jsonl", "manifest.json", "journal"] {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(!text.contains(SIGNATURE) && !text.contains("sig="), "{name}");
    }
}

fn failed(result: acquire::Result<Report>) -> acquire::aws::Failure {
    match result {
        Err(acquire::Error::Cloud(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_blob_gives_the_same_hashes_as_the_image_of_the_same_disk() {
    let Some(azurite) = azurite() else { return };
    let (disk, pages) = made_disk();
    let path = azurite.page_blob("same", disk.len());
    for (start, length) in &pages {
        azurite.write_pages(&path, *start, &disk[*start as usize..(start + length) as usize]);
    }
    let snapshot = azurite.snapshot(&path);
    // The disk lives on; the snapshot does not.
    azurite.write_pages(&path, 0, &[0xEE; 4096]);
    let folder = tempfile::tempdir().unwrap();
    let (of_blob, of_file) = (folder.path().join("blob"), folder.path().join("file"));
    let url = azurite.signed(&path, "r", "2037-01-01T00:00:00Z") + "&snapshot=" + &snapshot;
    let report = acquire_disk(blob(&url, None).unwrap(), &of_blob).unwrap();
    let image = folder.path().join("web01.raw");
    fs::write(&image, &disk).unwrap();
    let same = acquire_disk(Box::new(DiskSource::open(&image).unwrap()), &of_file).unwrap();
    assert_eq!(report.issues, []);
    assert_eq!(report.streams[0].sha256, same.streams[0].sha256);
    assert_eq!(report.streams[0].chunk_root, same.streams[0].chunk_root);
    assert_eq!(report.streams[0].sha256, sha256(&disk));
    assert_is(&of_blob, &disk, &pages);
    let manifest = fs::read_to_string(of_blob.join("manifest.json")).unwrap();
    assert!(manifest.contains(&snapshot) && manifest.contains("Azure page blob"), "{manifest}");
    assert!(!manifest.contains("sig="), "{manifest}");
}

#[test]
fn a_signature_that_has_ended_or_is_for_something_else_is_told_in_words() {
    let Some(azurite) = azurite() else { return };
    let path = azurite.page_blob("ended", 4096);
    let ended = azurite.signed(&path, "r", "2020-01-01T00:00:00Z");
    let Err(acquire::Error::Cloud(failure)) = blob(&ended, None) else { panic!("it was accepted") };
    assert_eq!(failure.kind, FailureKind::Credentials);
    assert!(failure.to_string().contains("2020-01-01T00:00:00Z"), "{failure}");
    let signature = ended.split_once("sig=").unwrap().1.to_owned();
    assert!(!format!("{failure} {failure:?}").contains(&signature), "{failure:?}");
    let Err(acquire::Error::Cloud(failure)) =
        blob(&azurite.signed("ended/none.vhd", "r", "2037-01-01T00:00:00Z"), None)
    else {
        panic!("there is none")
    };
    assert_eq!(failure.kind, FailureKind::NotFound);
}

#[test]
fn what_fails_for_a_moment_costs_nothing() {
    let (disk, pages) = made_disk();
    for fault in [
        Fault::Truncated,
        Fault::WrongMd5,
        Fault::Status(503, "ServerBusy"),
        Fault::Status(500, "InternalError"),
        Fault::List("<PageList><PageRange><Start>0".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let is_of_list = matches!(fault, Fault::List(_));
        let often = move |asked: &Asked| {
            let hit = asked.method == "GET" && asked.is_list() == is_of_list && asked.before % 3 != 2;
            hit.then(|| fault.clone())
        };
        let server = RangeServer::start(disk.clone(), pages.clone(), often);
        let report = acquire_disk(blob(&server.signed(), None).unwrap(), folder.path()).unwrap();
        assert_eq!((report.issues, report.streams[0].sha256), (vec![], sha256(&disk)));
        assert_is(folder.path(), &disk, &pages);
        no_secret_in(folder.path());
    }
}

#[test]
fn a_sector_that_only_ever_comes_damaged_is_listed_and_shifts_nothing() {
    let (disk, pages) = made_disk();
    let bad = 6 * CHUNK + 1024;
    let server = RangeServer::start(disk.clone(), pages, move |asked| {
        let (from, to) = asked.range()?;
        (!asked.is_list() && from <= bad && bad < to).then_some(Fault::WrongMd5)
    });
    let folder = tempfile::tempdir().unwrap();
    let report = acquire_disk(blob(&server.signed(), None).unwrap(), folder.path()).unwrap();
    let mut expected = disk;
    expected[bad..bad + 512].fill(0);
    assert_eq!(read_all(&Bundle::open(folder.path()).unwrap(), "disk"), expected);
    assert_eq!(report.issue_count, 1);
    assert_eq!((report.issues[0].offset, report.issues[0].length), (Some(bad as u64), Some(512)));
    assert_eq!(report.states().unreadable, 512);
}

#[test]
fn a_blob_that_changes_while_it_is_read_stops_the_acquisition() {
    for fault in [Fault::Changed, Fault::Status(412, "ConditionNotMet")] {
        let (disk, pages) = made_disk();
        let server = RangeServer::start(disk, pages, move |asked| {
            (asked.range()?.0 >= 6 * CHUNK && !asked.is_list()).then(|| fault.clone())
        });
        let folder = tempfile::tempdir().unwrap();
        let failure = failed(acquire_disk(blob(&server.signed(), None).unwrap(), folder.path()));
        assert_eq!(failure.kind, FailureKind::Exists);
        assert!(failure.message.contains("snapshot"), "{failure}");
        no_secret_in(folder.path());
    }
}

#[test]
fn a_signature_that_ends_midway_is_asked_with_once_and_a_new_one_goes_on_to_the_same_hash() {
    let (disk, pages) = made_disk();
    let ended = |asked: &Asked| {
        let is_late = asked.range().is_some_and(|(from, _)| from >= 39 * CHUNK);
        (is_late && !asked.is_list()).then_some(Fault::Status(403, "AuthenticationFailed"))
    };
    let server = RangeServer::start(disk.clone(), pages.clone(), move |asked| {
        if asked.parameter("sig") == Some("second") { None } else { ended(asked) }
    });
    let folder = tempfile::tempdir().unwrap();
    let failure = failed(acquire_disk(blob(&server.signed(), None).unwrap(), folder.path()));
    assert_eq!(failure.kind, FailureKind::Credentials);
    assert!(failure.message.contains("--resume"), "{failure}");
    let mut refused: Vec<_> =
        server.seen().iter().filter(|asked| ended(asked).is_some()).map(Asked::range).collect();
    let all = refused.len();
    refused.sort();
    refused.dedup();
    assert!(all > 0 && refused.len() == all, "what is refused is not asked again: {refused:?}");
    no_secret_in(folder.path());
    let second = blob(&server.signed().replace(SIGNATURE, "second"), None).unwrap();
    let report = with_writer(|writer| {
        Acquisition::new(DiskCapture::new(second), destination(folder.path()))
            .options(options())
            .resume(writer)
    })
    .unwrap();
    assert_eq!((report.issues, report.streams[0].sha256), (vec![], sha256(&disk)));
    assert_is(folder.path(), &disk, &pages);
}

#[test]
fn a_service_that_stays_overloaded_stops_the_acquisition_and_marks_nothing_as_unreadable() {
    let (disk, pages) = made_disk();
    let server = RangeServer::start(disk, pages, |asked| {
        (asked.range()?.0 >= 39 * CHUNK && !asked.is_list()).then_some(Fault::Status(503, "ServerBusy"))
    });
    let folder = tempfile::tempdir().unwrap();
    let failure = failed(acquire_disk(blob(&server.signed(), None).unwrap(), folder.path()));
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Throttled, "ServerBusy"));
}

#[test]
fn since_an_earlier_snapshot_only_what_changed_is_read_and_the_rest_is_base() {
    let size = 8 * CHUNK;
    let disk = content(size);
    let server = RangeServer::start(disk.clone(), Vec::new(), move |asked| {
        if !asked.is_list() {
            return None;
        }
        assert_eq!(asked.parameter("prevsnapshot"), Some("2026-11-20T00%3A00%3A00.0000000Z"));
        // Pages of the list: an empty one, one with a cleared run, one with a changed run before it.
        let (first, chunk) = (512, CHUNK);
        let text = match asked.parameter("marker") {
            None => "<PageList><NextMarker>one</NextMarker></PageList>".to_owned(),
            Some("one") => format!(
                "<PageList><ClearRange><Start>{}</Start><End>{}</End></ClearRange><NextMarker>a%26b</NextMarker></PageList>",
                2 * chunk,
                3 * chunk - 1
            ),
            Some("a%2526b") => format!(
                "<PageList><PageRange><Start>{first}</Start><End>{}</End></PageRange><NextMarker /></PageList>",
                chunk - 1
            ),
            other => panic!("{other:?}"),
        };
        Some(Fault::List(text))
    });
    let folder = tempfile::tempdir().unwrap();
    let source = blob(&server.signed(), Some("2026-11-20T00:00:00.0000000Z")).unwrap();
    let report = acquire_disk(source, folder.path()).unwrap();
    let states = report.states();
    let chunk = CHUNK as u64;
    assert_eq!((states.absent, states.base, states.data), (chunk, 6 * chunk + 512, chunk - 512));
    let mut expected = vec![0; size];
    expected[512..CHUNK].copy_from_slice(&disk[512..CHUNK]);
    assert_eq!(read_all(&Bundle::open(folder.path()).unwrap(), "disk"), expected);
}

#[test]
fn a_list_that_goes_round_or_lies_is_refused_and_does_not_hang() {
    let round = |asked: &Asked| {
        let text = list(&[], 0, 0).replace("</PageList>", "<NextMarker>again</NextMarker></PageList>");
        asked.is_list().then_some(Fault::List(text))
    };
    let outside = |asked: &Asked| {
        let text = list(&[(0, 1 << 40)], 0, 1 << 40);
        asked.is_list().then_some(Fault::List(text))
    };
    let faults: [fn(&Asked) -> Option<Fault>; 2] = [round, outside];
    for fault in faults {
        let server = RangeServer::start(vec![1; 4096], Vec::new(), fault);
        let folder = tempfile::tempdir().unwrap();
        let failure = failed(acquire_disk(blob(&server.signed(), None).unwrap(), folder.path()));
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
        assert!(server.requests() < 20);
    }
}
