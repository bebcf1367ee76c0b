//! Grants on a server that checks every signature: what is granted can be done, and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acquire::s3_reader::S3Reader;
use acquire::s3_store::{Grant, Granted, GrantedKind, Pace, S3LogMirror, S3Store, close, issue, renew};
use acquire::sources::disk::DiskCapture;
use acquire::{Acquisition, Report};
use custody::bundle::{
    Manifest, RemotePlace, RemoteStore, Retention, RetentionMode, fetch_all_but_data, fetch_data,
};

use crate::s3::{Fate, Proxy};
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
    (pace.tries, pace.first_pause) = (6, Duration::from_millis(10));
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
    // Of what is put in parts this gateway (16.2) leaves the retention out: who closes the grant makes up for it.
    assert_eq!(close(&bucket.connection, &grant).left, Vec::<String>::new());
    for path in ["manifest.json", "custody/00000000.json", "keys/log.vkey", "data/disk/000000.zst"] {
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

/// Ids of the uploads that were begun in a bucket and not ended.
fn uploads(bucket: &Bucket) -> Vec<String> {
    let listed = bucket.wait(bucket.client.list_multipart_uploads().bucket(&bucket.name).send()).unwrap();
    listed.uploads().iter().filter_map(|upload| upload.upload_id()).map(str::to_owned).collect()
}

#[test]
fn an_upload_that_was_begun_without_an_answer_is_given_up_when_the_grant_is_closed() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        let proxy = Proxy::before(&server.endpoint);
        let first = AtomicBool::new(true);
        proxy.decide(move |asked| match asked.what() {
            "create" if first.swap(false, Ordering::Relaxed) => Fate::CarriedOutThenCut,
            _ => Fate::Pass,
        });
        let connection = server.connect_by(&proxy.endpoint);
        let place = place(&server, &bucket);
        let grant = issue(&connection, &place, &granted(1 << 30), HOUR).unwrap();
        assert_eq!(uploads(&bucket).len(), 4, "{}", server.name);
        // Another exhibit's is not ours to end.
        let other =
            bucket.client.create_multipart_upload().bucket(&bucket.name).key("ir-17/E001-web01-disk-2/x");
        let other = bucket.wait(other.send()).unwrap().upload_id().unwrap().to_owned();
        let closed = close(&connection, &grant);
        assert_eq!((closed.used, closed.aborted, closed.left), (0, 4, vec![]), "{}", server.name);
        assert_eq!(uploads(&bucket), [other], "{}", server.name);
    }
}

#[test]
fn a_grant_that_could_not_be_made_leaves_nothing_or_says_what_it_left() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        let proxy = Proxy::before(&server.endpoint);
        let (connection, place) = (server.connect_by(&proxy.endpoint), place(&server, &bucket));
        let make = || issue(&connection, &place, &granted(1 << 30), HOUR).unwrap_err();
        let refused = |asked: &crate::s3::Asked| asked.what() == "create" && asked.path.contains("extents");
        proxy.decide(
            move |asked| {
                if refused(asked) { Fate::Answer(403, "AccessDenied") } else { Fate::Pass }
            },
        );
        let error = make();
        assert!(matches!(error, acquire::Error::Cloud(_)), "{error}");
        assert_eq!(uploads(&bucket), Vec::<String>::new(), "{}", server.name);
        proxy.decide(move |asked| match asked.what() {
            "abort" => Fate::Answer(403, "AccessDenied"),
            _ if refused(asked) => Fate::Answer(403, "AccessDenied"),
            _ => Fate::Pass,
        });
        let error = make();
        let acquire::Error::GrantLeft { left, .. } = &error else { panic!("{error}") };
        let there = uploads(&bucket);
        assert!(!there.is_empty() && left.len() == there.len(), "{left:?} {there:?}");
        for id in there {
            assert!(
                left.iter().any(|words| words.contains(&id)) && error.to_string().contains(&id),
                "{error}"
            );
        }
        // Who may neither end nor list them is told that there may be more.
        proxy.decide(move |asked| match asked.what() {
            "abort" | "list" => Fate::Answer(403, "AccessDenied"),
            _ if refused(asked) => Fate::Answer(403, "AccessDenied"),
            _ => Fate::Pass,
        });
        assert!(make().to_string().contains("is not known"));
    }
}

/// The same grant, read at a time when it has ended by its own words.
fn as_ended(grant: &Grant) -> Grant {
    let mut file: serde_json::Value = serde_json::from_slice(&grant.to_bytes().unwrap()).unwrap();
    file["expires_ns"] = "1700000000000000000".into();
    let grant = Grant::from_bytes(file.to_string().as_bytes()).unwrap();
    assert!(grant.has_ended());
    grant
}

#[test]
fn a_host_whose_clock_is_wrong_writes_as_long_as_the_store_takes_it() {
    for server in servers() {
        let bucket = server.bucket(Keeps::Versions);
        let grant = issue(&bucket.connection, &place(&server, &bucket), &granted(1 << 30), HOUR).unwrap();
        let disk = content(1 << 20);
        let folder = tempfile::tempdir().unwrap();
        acquire(&as_ended(&grant), &disk, folder.path()).unwrap();
        assert_holds(&bucket, &grant, &disk);
    }
}

#[test]
fn a_grant_that_has_ended_by_the_stores_clock_is_refused_with_what_to_do() {
    let Some(server) = real() else { return };
    let bucket = server.bucket(Keeps::Versions);
    let place = place(&server, &bucket);
    let grant = issue(&bucket.connection, &place, &granted(1 << 30), Duration::from_secs(1)).unwrap();
    // The gateway's clock is this one, which it reads in seconds.
    while !grant.has_ended() {
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(2));
    let folder = tempfile::tempdir().unwrap();
    let error = acquire(&grant, &content(1 << 20), folder.path()).unwrap_err();
    let words = crate::s3_desk::words(&error);
    assert!(words.contains("does not accept the grant") && words.contains("--renew"), "{words}");
}
