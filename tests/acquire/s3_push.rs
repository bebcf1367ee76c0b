//! A bundle that was sealed here on its way into an evidence store: put once, compared with what is there, never mixed.

use std::fs;

use acquire::NoProgress;
use acquire::s3_store::Push;
use custody::bundle::Bundle;
use custody::{CustodyLog, EntryType, NewEntry};

use crate::s3::Fate;
use crate::s3_desk::*;
use crate::support::*;

#[test]
fn a_sealed_bundle_is_pushed_once_and_what_is_there_is_compared() {
    let Some(desk) = Desk::new() else { return };
    let folder = desk.path("here");
    let data = noise(2 * SEGMENT + 5);
    acquire_disk(Box::new(FaultSource::new(data.clone(), &[])), &folder).unwrap();
    let connection = desk.connection();
    let push = || Push::new(&connection, &folder, &desk.to(), pace()).unwrap().run(&NoProgress);
    // Cut short, it goes on where it was.
    desk.proxy.decide(|asked| if asked.number > 9 { Fate::Answer(403, "AccessDenied") } else { Fate::Pass });
    words(&push().unwrap_err());
    assert!(folder.join("uploads.journal").exists());
    let elsewhere = place(&desk.bucket.name, &desk.proxy.endpoint).below("elsewhere").unwrap();
    let said =
        words(&Push::new(&connection, &folder, &elsewhere, pace()).unwrap().run(&NoProgress).unwrap_err());
    assert!(said.contains("was cut short"), "{said}");
    desk.proxy.decide(|_| Fate::Pass);
    let pushed = push().unwrap();
    assert_eq!((pushed.not_compared, pushed.left_behind.len()), (0, 0), "{pushed:?}");
    assert!(!folder.join("uploads.journal").exists());
    let back = desk.read_back("E001-web01-disk");
    assert!(read_all(&Bundle::open(&back).unwrap(), "disk") == data);
    // All of it is there, and nothing is sent.
    desk.proxy.decide(|_| Fate::Pass);
    let again = push().unwrap();
    let objects = pushed.files + pushed.same;
    assert_eq!((again.files, again.same, again.not_compared), (0, objects, 0));
    assert_eq!((desk.proxy.count("put"), desk.proxy.count("create")), (0, 0));
    // The log goes on: its new objects are put.
    with_writer(|writer| {
        CustodyLog::open(&folder).unwrap().append(&NewEntry::new(EntryType::NOTE), writer).unwrap();
    });
    assert_eq!(push().unwrap().files, 2);
    // Who may not ask sends it, is told that it is there, and leaves nothing behind.
    desk.proxy.decide(|asked| match asked.what() {
        "head" | "list" => Fate::Answer(403, "AccessDenied"),
        _ => Fate::Pass,
    });
    let blind = push().unwrap();
    assert_eq!((blind.files, blind.same, blind.not_compared), (0, 0, objects + 2), "{blind:?}");
    assert_eq!(desk.bucket.uploads(), []);
    desk.read_back("E001-web01-disk");
}

#[test]
fn a_bundle_that_was_changed_or_differs_from_what_is_there_is_not_pushed() {
    let Some(desk) = Desk::new() else { return };
    let folder = desk.path("here");
    acquire_disk(Box::new(FaultSource::new(noise(2 * SEGMENT), &[])), &folder).unwrap();
    let segment = folder.join("data/disk/000001.zst");
    let whole = fs::read(&segment).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&segment, changed).unwrap();
    let connection = desk.connection();
    let push = || Push::new(&connection, &folder, &desk.to(), pace()).unwrap().run(&NoProgress);
    let said = words(&push().unwrap_err());
    assert!(said.contains("000001.zst") && said.contains("changed"), "{said}");
    let keys = desk.bucket.keys("ir-17/");
    assert!(
        !keys.iter().any(|key| key.ends_with("000001.zst") || key.ends_with("custody/00000000.json")),
        "{keys:?}"
    );
    fs::write(&segment, whole).unwrap();
    desk.bucket.ask("PUT", "/ir-17/E001-web01-disk/manifest.json", "", b"another's");
    let said = words(&push().unwrap_err());
    assert!(said.contains("manifest.json") && said.contains("another object"), "{said}");
    // An open bundle is nothing to push.
    let open = desk.path("open");
    fs::create_dir_all(&open).unwrap();
    let said = words(&Push::new(&connection, &open, &desk.to(), pace()).unwrap_err());
    assert!(said.contains("cannot push"), "{said}");
}
