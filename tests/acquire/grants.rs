//! Grants on a server that checks every signature: what is granted can be done, and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acquire::s3_reader::S3Reader;
use acquire::s3_store::{Grant, Granted, GrantedKind, Pace, S3LogMirror, S3Store, close, issue, renew};
use acquire::sources::disk::DiskCapture;
use acquire::{Acquisition, Report};
use custody::bundle::{
    Manifest, RemotePlace, RemoteStore, Retention, RetentionMode, fetch_all_but_data, fetch_data,
};

use crate::s3_servers::{Bucket, Keeps, Server, real, servers};
use crate::support::{FaultSource, content, destination, with_writer};

const HOUR: Duration = Duration::from_secs(3600);

fn place(server: &Server, bucket: &Bucket) -> RemotePlace {
    let place = RemotePlace::parse(&format!("s3://{}/ir-17", bucket.name)).unwrap();
    place.on("us-east-1", Some(&server.endpoint)).unwrap().below("E001-web01-disk").unwrap()
}

fn granted(size: u64) -> Granted {
    Granted {
        case: "ir-2026-017".into(),
        examiner: "J. Doe".into(),
        organisation: String::new(),
        exhibit: "E001".into(),
        name: "web01-disk".into(),
        kind: GrantedKind::Disk,
        size,
        encrypt_to: Vec::new(),
    }
}

fn pace() -> Pace {
    let mut pace = Pace::default();
    (pace.tries, pace.first_pause) = (2, Duration::from_millis(10));
    pace
}

fn acquire(grant: &Grant, disk: &[u8], folder: &Path) -> acquire::Result<Report> {
    let source = Box::new(FaultSource::new(disk.to_vec(), &[]));
    let to = destination(folder);
    with_writer(|writer| {
        let mirror = S3LogMirror::granted(grant, pace())?;
        let store = S3Store::begin_granted(grant, folder, pace())?;
        let plan = Acquisition::new(DiskCapture::new(source), to).store(Arc::new(store));
        plan.run(&writer.clone().mirrored_by(&mirror))
    })
}

/// What a stranger finds in the store verifies.
fn assert_holds(bucket: &Bucket, grant: &Grant, disk: &[u8]) {
    let reader = S3Reader::open(&bucket.connection, &bucket.name, &grant.place().prefix).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fetch_all_but_data(&reader, folder.path()).unwrap();
    let manifest = std::fs::read(folder.path().join("manifest.json")).unwrap();
    fetch_data(&reader, &Manifest::from_bytes(&manifest).unwrap(), folder.path(), &|_| {}).unwrap();
    let verified = custody::verify::verify(folder.path(), &custody::verify::Options::default()).unwrap();
    assert_eq!(verified.faults, [], "{:?}", reader.notes());
    let bundle = custody::bundle::Bundle::open(folder.path()).unwrap();
    assert_eq!(crate::support::read_all(&bundle, "disk"), disk);
}

#[test]
fn what_is_signed_ahead_is_taken_by_servers_and_makes_a_whole_bundle() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        let grant = issue(&bucket.connection, &place(&server, &bucket), &granted(1 << 30), HOUR).unwrap();
        let grant = Grant::from_bytes(&grant.to_bytes().unwrap()).unwrap();
        let disk = content((18 << 20) + 512);
        let folder = tempfile::tempdir().unwrap();
        let report = acquire(&grant, &disk, folder.path()).unwrap();
        assert_eq!(report.issue_count, 0, "{}", server.name);
        assert_holds(&bucket, &grant, &disk);
        let closed = close(&bucket.connection, &grant);
        assert_eq!((closed.used, closed.aborted, closed.left), (1, 2, vec![]), "{}", server.name);
    }
}

#[test]
fn objects_are_locked_as_the_grant_says() {
    let Some(server) = real() else { return };
    let bucket = server.bucket(Keeps::Locked);
    let retention = Some(Retention { days: 2, mode: RetentionMode::Governance });
    let place = place(&server, &bucket).retained(retention).unwrap();
    let grant = issue(&bucket.connection, &place, &granted(1 << 30), HOUR).unwrap();
    let folder = tempfile::tempdir().unwrap();
    acquire(&grant, &content(1 << 20), folder.path()).unwrap();
    // Of what is put in parts this gateway (16.2) keeps no retention, whoever puts it.
    for path in ["manifest.json", "custody/00000000.json", "keys/log.vkey"] {
        let key = place.key(path).unwrap();
        let asked = bucket.client.get_object_retention().bucket(&bucket.name).key(key);
        let answer = bucket.wait(asked.send()).unwrap();
        let mode = answer.retention().unwrap().mode().unwrap().as_str();
        assert_eq!(mode, "GOVERNANCE", "{path}");
    }
}

#[test]
fn a_signature_that_was_changed_is_refused_once_and_not_shown() {
    let Some(server) = real() else { return };
    let bucket = server.bucket(Keeps::Versions);
    let grant = issue(&bucket.connection, &place(&server, &bucket), &granted(1 << 30), HOUR).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&grant.to_bytes().unwrap()).unwrap();
    let signature = "0".repeat(64);
    file["once"]["keys/log.vkey"] = signature.clone().into();
    let changed = Grant::from_bytes(file.to_string().as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = acquire(&changed, &content(1 << 20), folder.path()).unwrap_err();
    let mut words = format!("{error} {error:?} {changed:?}");
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        words += &format!(" {cause} {cause:?}");
        next = cause.source();
    }
    assert!(words.contains("does not accept the grant"), "{words}");
    assert!(!words.contains(&signature) && !words.contains("X-Amz"), "{words}");
}

#[test]
fn a_grant_that_was_renewed_signs_the_same_uploads_anew() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        let grant = issue(&bucket.connection, &place(&server, &bucket), &granted(1 << 30), HOUR).unwrap();
        let second = renew(&bucket.connection, &grant, 2 * HOUR).unwrap();
        assert!(second.expires() > grant.expires());
        let disk = content(1 << 20);
        let folder = tempfile::tempdir().unwrap();
        acquire(&second, &disk, folder.path()).unwrap();
        assert_holds(&bucket, &second, &disk);
    }
}

#[test]
fn limits_that_cannot_be_are_refused_before_anything_is_begun() {
    let Some(server) = servers().next() else { return };
    let bucket = server.bucket(Keeps::Plain);
    let place = place(&server, &bucket);
    for (size, lasts) in [(0, HOUR), (u64::MAX, HOUR), (1, Duration::ZERO), (1, 169 * HOUR)] {
        let refused = issue(&bucket.connection, &place, &granted(size), lasts);
        assert!(matches!(refused, Err(acquire::Error::Grant { .. })), "{refused:?}");
    }
}

#[test]
fn a_disk_that_is_larger_than_was_granted_is_told_with_the_limits() {
    let Some(server) = servers().next() else { return };
    let bucket = server.bucket(Keeps::Versions);
    let mut granted = granted(1 << 30);
    granted.kind = GrantedKind::Logs;
    // A grant for files has no upload for a disk.
    let grant = issue(&bucket.connection, &place(&server, &bucket), &granted, HOUR).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = acquire(&grant, &content(1 << 20), folder.path()).unwrap_err();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    let mut words = String::new();
    while let Some(cause) = next {
        words += &format!("{cause} ");
        next = cause.source();
    }
    assert!(words.contains("no signature for") && words.contains("--size"), "{words}");
}
