//! Object Lock of what an acquisition puts into an evidence store: once whole and in parts, by moto and by a real server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use acquire::s3_store::rights;
use acquire::sources::disk::DiskCapture;
use acquire::{Acquisition, Report};
use custody::bundle::{RemotePlace, Retention, RetentionMode};

use crate::s3::{Fate, Proxy};
use crate::s3_desk::*;
use crate::s3_servers::{Bucket, Keeps, real};
use crate::support::*;

const LOCKED: &str = "x-amz-bucket-object-lock-enabled: true\r\n";

/// Of the segments, which are all put in parts.
const SEGMENT_PATH: &str = "data/disk/000000.zst";

fn for_days(days: u32) -> Option<Retention> {
    Some(Retention { days, mode: RetentionMode::Compliance })
}

fn disk(connection: &acquire::aws::Connection, to: &RemotePlace, folder: &Path) -> acquire::Result<Report> {
    let source = DiskCapture::new(Box::new(FaultSource::new(content(CHUNK), &[])));
    acquire_to(connection, to, folder, |to| Acquisition::new(source, to))
}

#[test]
fn retention_goes_with_every_object() {
    let Some(desk) = Desk::with(LOCKED) else { return };
    let to = desk.to().retained(for_days(3)).unwrap();
    rights(&desk.connection(), &to).unwrap();
    desk.proxy.decide(|_| Fate::Pass);
    disk(&desk.connection(), &to, &desk.path("E001")).unwrap();
    let mut locked = 0;
    for asked in desk.proxy.asked().iter().filter(|asked| ["put", "create"].contains(&asked.what())) {
        let head = asked.head.to_ascii_lowercase();
        assert!(head.contains("x-amz-object-lock-mode: compliance"), "{head}");
        assert!(head.contains("x-amz-object-lock-retain-until-date: "), "{head}");
        locked += 1;
    }
    assert!(locked >= 15, "{locked}");
    // What was put in parts is retained once more, for servers that leave it out.
    assert_eq!(desk.proxy.count("retain"), 1);
    desk.read_back("E001");
    // A bucket without a lock is known before anything is begun.
    let open = Desk::new().unwrap();
    let to = open.to().retained(for_days(3)).unwrap();
    let said = words(&rights(&open.connection(), &to).unwrap_err());
    assert!(said.contains("has no Object Lock"), "{said}");
}

/// As Ceph's gateway answers who asks to complete what is complete.
#[test]
fn an_object_whose_upload_is_gone_since_it_was_made_is_retained_all_the_same() {
    let Some(desk) = Desk::with(LOCKED) else { return };
    let to = desk.to().retained(for_days(3)).unwrap();
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "complete" if first.swap(false, Ordering::Relaxed) => Fate::CarriedOutThenCut,
        "complete" => Fate::Answer(404, "NoSuchUpload"),
        _ => Fate::Pass,
    });
    disk(&desk.connection(), &to, &desk.path("E001")).unwrap();
    assert_eq!((desk.proxy.count("complete"), desk.proxy.count("retain")), (2, 1));
    desk.read_back("E001");
    // Cut short between the two, by whatever: who goes on retains it.
    desk.proxy.decide(
        |asked| {
            if asked.what() == "retain" { Fate::Answer(403, "AccessDenied") } else { Fate::Pass }
        },
    );
    let said = words(&disk(&desk.connection(), &to, &desk.path("E002")).unwrap_err());
    assert!(said.contains("s3:PutObjectRetention"), "{said}");
    desk.proxy.decide(|asked| {
        if asked.what() == "complete" { Fate::Answer(404, "NoSuchUpload") } else { Fate::Pass }
    });
    disk(&desk.connection(), &to, &desk.path("E002")).unwrap();
    assert_eq!((desk.proxy.count("complete"), desk.proxy.count("retain")), (1, 1));
    desk.read_back("E002");
}

/// The object is locked, and the gateway refuses to delete its version.
fn assert_locked(bucket: &Bucket, key: &str) {
    let head = bucket.client.head_object().bucket(&bucket.name).key(key);
    let version = bucket.wait(head.send()).unwrap().version_id().unwrap().to_owned();
    let asked = bucket.client.get_object_retention().bucket(&bucket.name).key(key).version_id(&version);
    let answer = bucket.wait(asked.send()).unwrap();
    assert_eq!(answer.retention().unwrap().mode().unwrap().as_str(), "COMPLIANCE", "{key}");
    let refused = bucket.delete(key, Some(&version)).unwrap_err();
    assert!(refused.contains("AccessDenied"), "{key}: {refused}");
    let head = bucket.client.head_object().bucket(&bucket.name).key(key).version_id(&version);
    assert!(bucket.wait(head.send()).is_ok(), "{key}");
}

#[test]
fn on_a_real_server_what_is_put_in_parts_is_locked_and_its_version_is_not_deleted() {
    let Some(server) = real() else { return };
    let bucket = server.bucket(Keeps::Locked);
    let proxy = Proxy::before(&server.endpoint);
    let connection = server.connect_by(&proxy.endpoint);
    let to = place(&bucket.name, &proxy.endpoint).retained(for_days(1)).unwrap();
    let here = tempfile::tempdir().unwrap();
    disk(&connection, &to, &here.path().join("E001")).unwrap();
    assert_eq!((proxy.count("complete"), proxy.count("retain")), (1, 1));
    // The object was made, and nobody was told.
    let first = AtomicBool::new(true);
    proxy.decide(move |asked| match asked.what() {
        "complete" if first.swap(false, Ordering::Relaxed) => Fate::CarriedOutThenCut,
        _ => Fate::Pass,
    });
    disk(&connection, &to, &here.path().join("E002")).unwrap();
    // The same, and the writer ended before it could retain what it had made.
    proxy.decide(|asked| match asked.what() {
        "complete" => Fate::CarriedOutThenCut,
        _ => Fate::Pass,
    });
    disk(&connection, &to, &here.path().join("E003")).unwrap_err();
    assert_eq!(proxy.count("retain"), 0);
    proxy.decide(|_| Fate::Pass);
    disk(&connection, &to, &here.path().join("E003")).unwrap();
    for exhibit in ["E001", "E002", "E003"] {
        for path in [SEGMENT_PATH, "manifest.json", "custody/00000000.json"] {
            assert_locked(&bucket, &format!("ir-17/{exhibit}/{path}"));
        }
    }
}
