//! Images that were exported as objects: raw ones by ranges, `disk.raw` in a tar.gz with its holes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use acquire::aws::FailureKind;
use acquire::remote_images::{Bearer, ImageObject, SecretUrl};
use acquire::{Issues, Source};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::Bundle;
use custody::sha256;
use md5::{Digest as _, Md5};

use crate::range_server::{Fault, RangeServer, SIGNATURE};
use crate::support::{CHUNK, acquire_disk, content, has_tool, read_all};

fn object(server: &RangeServer) -> acquire::Result<Box<dyn Source>> {
    ImageObject::open(SecretUrl::parse(&server.signed()).unwrap(), Bearer::parse("token"))
}

/// A disk with holes, as a tar of a form.
fn sparse_tar(folder: &Path, form: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let image = folder.join("disk.raw");
    let file = File::create(&image).unwrap();
    let size = 60 * CHUNK;
    file.set_len(size as u64).unwrap();
    let bytes = content(size);
    // More pieces than the header of an old GNU archive and its first extension hold.
    for piece in (0..56).step_by(2) {
        let from = piece * CHUNK;
        file.write_all_at(&bytes[from..from + 4096], from as u64).unwrap();
    }
    fs::write(folder.join("manifest.json"), "{}").unwrap();
    let status = Command::new("tar")
        .args(form)
        .args(["-Sczf", "image.tar.gz", "manifest.json", "disk.raw"])
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(status.success());
    (fs::read(image).unwrap(), fs::read(folder.join("image.tar.gz")).unwrap())
}

#[test]
fn a_raw_object_is_read_by_ranges_with_the_token_in_no_place_but_the_request() {
    let disk = content(20 * CHUNK + 512);
    let server = RangeServer::start(disk.clone(), Vec::new(), |asked| {
        (asked.before % 4 == 2).then_some(Fault::Truncated)
    });
    let folder = tempfile::tempdir().unwrap();
    let report = acquire_disk(object(&server).unwrap(), folder.path()).unwrap();
    assert_eq!((report.issues, report.streams[0].sha256), (vec![], sha256(&disk)));
    assert!(server.seen().iter().all(|asked| asked.header("authorization") == "Bearer token"));
    let told = fs::read_to_string(folder.path().join("manifest.json")).unwrap()
        + &fs::read_to_string(folder.path().join("custody.jsonl")).unwrap();
    assert!(!told.contains(SIGNATURE) && !told.contains("Bearer"), "{told}");
}

#[test]
fn the_md5_that_a_store_tells_of_a_raw_object_is_compared_where_all_of_it_came_in_order() {
    let disk = content(20 * CHUNK + 512);
    let right = STANDARD.encode(Md5::digest(&disk));
    let wrong = STANDARD.encode([7; 16]);
    for (told, differs) in [(&right, false), (&wrong, true)] {
        let md5 = told.clone();
        let server = RangeServer::start(disk.clone(), Vec::new(), move |_| Some(Fault::Told(md5.clone())));
        let folder = tempfile::tempdir().unwrap();
        let report = acquire_disk(object(&server).unwrap(), folder.path()).unwrap();
        assert_eq!(report.streams[0].sha256, sha256(&disk));
        assert_eq!(report.facts["md5_compared"], true);
        assert_eq!(report.facts["object_md5"], right.as_str());
        let issues: Vec<_> = report.issues.iter().map(|issue| issue.what.as_str()).collect();
        assert_eq!(issues.len(), usize::from(differs), "{issues:?}");
        assert!(issues.iter().all(|what| what.contains(&right) && what.contains(&wrong)), "{issues:?}");
    }
    // Taken up midway, nothing is known of the whole, and that is said.
    let server = RangeServer::start(disk, Vec::new(), move |_| Some(Fault::Told(wrong.clone())));
    let mut source = object(&server).unwrap();
    let (mut at, mut buf, mut issues) = (CHUNK as u64, vec![0; CHUNK], Issues::default());
    loop {
        match source.read_at(at, &mut buf).unwrap() {
            0 => break,
            read => at += read as u64,
        }
    }
    source.end(&mut issues);
    assert_eq!((issues.count(), &source.facts_after()["md5_compared"]), (0, &false.into()));
}

#[test]
fn a_disk_in_a_tar_is_unpacked_and_its_holes_are_absent_in_every_form_of_tar() {
    if !has_tool("tar") {
        return;
    }
    let forms: [&[&str]; 4] = [
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for form in forms {
        let folder = tempfile::tempdir().unwrap();
        let (disk, archive) = sparse_tar(folder.path(), form);
        let server = RangeServer::start(archive, Vec::new(), |_| None);
        let bundle = folder.path().join("bundle");
        let report = acquire_disk(object(&server).unwrap(), &bundle).unwrap();
        assert_eq!((report.issues.clone(), report.streams[0].sha256), (vec![], sha256(&disk)), "{form:?}");
        assert_eq!(read_all(&Bundle::open(&bundle).unwrap(), "disk"), disk);
        let states = report.states();
        assert_eq!(states.data, 28 * 4096, "{form:?}");
        assert_eq!(states.absent, disk.len() as u64 - 28 * 4096, "{form:?}");
        assert!(report.facts.contains_key("object_md5"), "{:?}", report.facts);
    }
}

#[test]
fn an_object_that_is_replaced_and_an_archive_that_breaks_off_stop_the_acquisition() {
    let server = RangeServer::start(content(20 * CHUNK), Vec::new(), |asked| {
        (asked.before > 0).then_some(Fault::Changed)
    });
    let folder = tempfile::tempdir().unwrap();
    let replaced = acquire_disk(object(&server).unwrap(), &folder.path().join("one"));
    let Err(acquire::Error::Cloud(failure)) = replaced else { panic!("{replaced:?}") };
    assert_eq!(failure.kind, FailureKind::Exists);
    if !has_tool("tar") {
        return;
    }
    let (_, mut archive) = sparse_tar(folder.path(), &["--format=oldgnu"]);
    archive.truncate(archive.len() / 2);
    let server = RangeServer::start(archive, Vec::new(), |_| None);
    let short = acquire_disk(object(&server).unwrap(), &folder.path().join("two"));
    assert!(matches!(short, Err(acquire::Error::SourceLost { .. })), "{short:?}");
}

#[test]
fn an_archive_without_a_disk_and_a_server_without_ranges_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    if has_tool("tar") {
        fs::write(folder.path().join("notes.txt"), "x").unwrap();
        let tar =
            Command::new("tar").args(["-czf", "a.tar.gz", "notes.txt"]).current_dir(folder.path()).status();
        assert!(tar.unwrap().success());
        let archive = fs::read(folder.path().join("a.tar.gz")).unwrap();
        let server = RangeServer::start(archive, Vec::new(), |_| None);
        let Err(acquire::Error::Cloud(failure)) = object(&server) else { panic!("it was taken") };
        assert!(failure.message.contains("*.raw"), "{failure}");
    }
    for (status, kind) in
        [(401, FailureKind::Credentials), (403, FailureKind::Denied), (302, FailureKind::Invalid)]
    {
        let server = RangeServer::start(vec![0; 9], Vec::new(), move |_| Some(Fault::Status(status, "")));
        let Err(acquire::Error::Cloud(failure)) = object(&server) else { panic!("{status}") };
        assert_eq!((failure.kind, server.requests()), (kind, 1));
        assert!(!format!("{failure:?}").contains(SIGNATURE));
    }
}
