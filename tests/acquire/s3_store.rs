//! An S3 evidence store, by moto: what lies there is the bundle, each object is put once, and an interruption costs nothing.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use acquire::s3_store::{S3LogMirror, rights};
use acquire::sources::disk::DiskCapture;
use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Error, Report};
use custody::bundle::{Bundle, Identities, Recipients, State};
use custody::{CustodyLog, EntryType, HOW_STORE_ASSUMED, MirrorState, NewEntry, sha256};

use crate::s3::{Asked, Fate};
use crate::s3_desk::*;
use crate::support::*;

#[test]
fn what_lies_in_the_store_is_the_bundle_and_the_folder_keeps_all_but_its_data() {
    let Some(desk) = Desk::new() else { return };
    let data = content(5 * SEGMENT + CHUNK + 77);
    let report = desk.disk(&data, "E001-disk").unwrap();
    let here = acquire_disk(Box::new(FaultSource::new(data.clone(), &[])), &desk.path("here")).unwrap();
    assert_eq!(report.streams, here.streams);
    assert_eq!(report.left_behind, Vec::<String>::new());
    let folder = desk.path("E001-disk");
    for gone in ["data", "journal", "uploads.journal"] {
        assert!(!folder.join(gone).exists(), "{gone}");
    }
    let back = desk.read_back("E001-disk");
    assert!(read_all(&Bundle::open(&back).unwrap(), "disk") == data);
    for same in
        ["manifest.json", "manifest.json.sig", "SHA256SUMS", "VERIFY.md", "custody.jsonl", "checkpoint"]
    {
        assert!(fs::read(folder.join(same)).unwrap() == fs::read(back.join(same)).unwrap(), "{same}");
    }
    assert_eq!(desk.bucket.uploads(), []);
    // Each key once, and nothing was asked but to put.
    let asked = desk.proxy.asked();
    let mut puts: Vec<_> =
        asked.iter().filter(|asked| asked.what() == "put").map(|asked| &asked.path).collect();
    let count = puts.len();
    puts.sort();
    puts.dedup();
    assert_eq!(puts.len(), count);
    let puts_only = |asked: &Asked| ["put", "create", "part", "complete"].contains(&asked.what());
    assert!(asked.iter().all(puts_only), "{asked:?}");
    let conditional = asked
        .iter()
        .filter(|asked| ["put", "complete"].contains(&asked.what()))
        .all(|asked| asked.head.to_ascii_lowercase().contains("if-none-match: *"));
    assert!(conditional);
}

#[test]
fn files_an_encrypted_disk_and_an_empty_one_go_there_too() {
    let Some(desk) = Desk::new() else { return };
    let tree = desk.path("tree");
    make_tree(&tree);
    let report =
        desk.acquire(FilesSource::new(&[tree.join("var/log"), tree.join("etc")]).unwrap(), "E001").unwrap();
    assert!(report.streams[0].segments.len() > 1);
    let back = desk.read_back("E001");
    assert_eq!(catalog(&back).len() as u64, report.files.unwrap().entries);

    let mut recipients = Recipients::default();
    recipients.add(RECIPIENT).unwrap();
    let data = content(3 * SEGMENT + 5);
    let source = DiskCapture::new(Box::new(FaultSource::new(data.clone(), &[])));
    let to = desk.path("E002");
    acquire_to(&desk.connection(), &desk.to(), &to, |to| {
        Acquisition::new(source, to).encrypted_to(recipients)
    })
    .unwrap();
    let back = desk.read_back("E002");
    let opened = Bundle::open_with_identities(&back, &Identities::one(IDENTITY).unwrap()).unwrap();
    assert!(read_all(&opened, "disk") == data);

    let report = desk.disk(&[], "E003").unwrap();
    assert_eq!(report.streams[0].segments, []);
    desk.read_back("E003");
    assert_eq!(desk.bucket.uploads(), []);
}

#[test]
fn a_disk_that_is_paused_anywhere_is_the_same_object_for_object_in_the_end() {
    let Some(desk) = Desk::new() else { return };
    let data = content(4 * SEGMENT + CHUNK + 77);
    let bad: Vec<u64> = (SEGMENT as u64 / 512 - 2..SEGMENT as u64 / 512 + 3).collect();
    let whole =
        desk.acquire(DiskCapture::new(Box::new(FaultSource::new(data.clone(), &bad))), "E001").unwrap();
    let mut pauses = 0;
    let report = loop {
        let stop = Arc::new(AtomicBool::new(false));
        let at = pauses * 2 * CHUNK as u64;
        let inner = FaultSource::new(data.clone(), &bad);
        let source = StopsAt { inner, at, stop: Arc::clone(&stop), reads: Arc::default() };
        let folder = desk.path("E002");
        let done = acquire_to(&desk.connection(), &desk.to(), &folder, |to| {
            Acquisition::new(DiskCapture::new(Box::new(source)), to).stop_when(stop)
        });
        match done {
            Err(Error::Paused) => pauses += 1,
            done => break done.unwrap(),
        }
        assert!(pauses < 100);
    };
    assert!(pauses > 8, "{pauses}");
    assert_eq!(report.streams, whole.streams);
    assert_eq!(report.left_behind, Vec::<String>::new());
    assert_eq!(report.streams[0].states.of(State::Unreadable), 5 * 512);
    desk.read_back("E002");
    assert_eq!(desk.bucket.uploads(), []);
}

#[test]
fn parts_that_are_there_are_not_sent_again() {
    let Some(desk) = Desk::new() else { return };
    // What cannot be compressed fills parts.
    let data = noise(2 * SEGMENT);
    let source = |at: u64, stop: &Arc<AtomicBool>| {
        let inner = FaultSource::new(data.clone(), &[]);
        DiskCapture::new(Box::new(StopsAt { inner, at, stop: Arc::clone(stop), reads: Arc::default() }))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let paused = source((SEGMENT + CHUNK) as u64, &stop);
    let folder = desk.path("E001");
    acquire_to(&desk.connection(), &desk.to(), &folder, |to| Acquisition::new(paused, to).stop_when(stop))
        .unwrap_err();
    let noted = fs::read_to_string(folder.join("uploads.journal")).unwrap();
    let there = noted
        .lines()
        .filter(|line| line.contains("\"what\":\"part\"") && line.contains("000001.zst"))
        .count();
    assert!(there >= 2, "{noted}");
    desk.proxy.decide(|_| Fate::Pass);
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    let parts = report.streams[0].segments[1].size.div_ceil(CHUNK as u64) as usize;
    // The first is always sent again, to find out whether the upload is still there.
    assert_eq!(desk.proxy.count("part"), parts - there + 1);
    assert_eq!(desk.proxy.count("create"), 0);
    desk.read_back("E001");
}

#[test]
fn an_upload_that_is_gone_is_begun_anew() {
    let Some(desk) = Desk::new() else { return };
    let data = noise(SEGMENT);
    let stop = Arc::new(AtomicBool::new(false));
    let inner = FaultSource::new(data.clone(), &[]);
    let at = 2 * CHUNK as u64;
    let source = StopsAt { inner, at, stop: Arc::clone(&stop), reads: Arc::default() };
    let folder = desk.path("E001");
    acquire_to(&desk.connection(), &desk.to(), &folder, |to| {
        Acquisition::new(DiskCapture::new(Box::new(source)), to).stop_when(stop)
    })
    .unwrap_err();
    // As a rule of the bucket's life cycle does; moto answers what it does not know by a failure of its own.
    for (key, id) in desk.bucket.uploads() {
        desk.bucket.ask("DELETE", &format!("/{key}?uploadId={id}"), "", b"");
    }
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "part" if first.swap(false, Ordering::Relaxed) => Fate::Answer(404, "NoSuchUpload"),
        _ => Fate::Pass,
    });
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    assert_eq!(desk.proxy.count("create"), 1);
    desk.read_back("E001");
}

/// The first request of each kind fails so; the bundle is whole all the same.
fn first_of_each_fails(
    fate: impl Fn() -> Fate + Send + Sync + 'static,
    kinds: &'static [&'static str],
) -> Option<(Desk, Report)> {
    let desk = Desk::new()?;
    let seen: Vec<AtomicBool> = kinds.iter().map(|_| AtomicBool::new(false)).collect();
    desk.proxy.decide(move |asked| match kinds.iter().position(|kind| *kind == asked.what()) {
        Some(at) if !seen[at].swap(true, Ordering::Relaxed) => fate(),
        _ => Fate::Pass,
    });
    let data = noise(2 * SEGMENT + 5);
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    desk.read_back("E001");
    Some((desk, report))
}

#[test]
fn what_a_server_fails_at_once_is_tried_again() {
    const ALL: &[&str] = &["put", "create", "part", "complete"];
    for fate in [
        || Fate::Answer(500, "InternalError"),
        || Fate::Answer(503, "SlowDown"),
        || Fate::Answer(409, "ConditionalRequestConflict"),
        || Fate::Answer(400, "BadDigest"),
        || Fate::Cut,
    ] {
        let Some((desk, report)) = first_of_each_fails(fate, ALL) else { return };
        assert_eq!(desk.bucket.uploads(), []);
        // What may have been begun was looked for.
        assert_eq!(report.left_behind, Vec::<String>::new());
    }
}

#[test]
fn a_hung_server_is_left_and_asked_again() {
    let Some(desk) = Desk::new() else { return };
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "part" if first.swap(false, Ordering::Relaxed) => Fate::Silent(Duration::from_secs(600)),
        _ => Fate::Pass,
    });
    let mut pace = pace();
    (pace.part_time, pace.tries) = (Duration::from_secs(5), 8);
    let data = noise(SEGMENT);
    let source = DiskCapture::new(Box::new(FaultSource::new(data.clone(), &[])));
    let (connection, to, folder) = (desk.connection(), desk.to(), desk.path("E001"));
    let report = acquire_at(pace, &connection, &to, &folder, |to| Acquisition::new(source, to)).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    desk.read_back("E001");
}

#[test]
fn a_503_that_says_nothing_more_may_hide_an_upload_which_is_looked_for_and_given_up() {
    let Some(desk) = Desk::new() else { return };
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "create" if first.swap(false, Ordering::Relaxed) => Fate::Edited(|_| {
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }),
        _ => Fate::Pass,
    });
    let report = desk.disk(&content(CHUNK), "E001").unwrap();
    assert_eq!(desk.proxy.count("create"), 2);
    assert_eq!(desk.bucket.uploads(), []);
    assert_eq!(report.left_behind, Vec::<String>::new());
    desk.read_back("E001");
}

#[test]
fn what_was_carried_out_without_an_answer_is_ours_and_said_to_be() {
    let Some(desk) = Desk::new() else { return };
    let seen: [AtomicBool; 4] = Default::default();
    desk.proxy.decide(move |asked| {
        match ["put", "create", "part", "complete"].iter().position(|kind| *kind == asked.what()) {
            Some(at) if !seen[at].swap(true, Ordering::Relaxed) => Fate::CarriedOutThenCut,
            // AWS says so; moto completes again what is complete.
            _ if asked.what() == "complete" && asked.path.contains("000000.zst") => {
                Fate::Answer(412, "PreconditionFailed")
            }
            _ => Fate::Pass,
        }
    });
    let data = noise(2 * SEGMENT + 5);
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    desk.read_back("E001");
    // The segment whose completion was not answered; the upload that was begun so is gone.
    assert_eq!(desk.bucket.uploads(), []);
    assert_eq!(report.left_behind.len(), 1, "{:?}", report.left_behind);
    assert!(
        report.left_behind[0].contains("000000.zst was there after an attempt"),
        "{:?}",
        report.left_behind
    );
    let entries = entries(&desk.path("E001"));
    // The first put is that of the log's key; the next entry tells of it.
    let told: Vec<_> = entries.iter().filter_map(|entry| entry.about.how.get(HOW_STORE_ASSUMED)).collect();
    assert_eq!(told, [&serde_json::json!(["keys/log.vkey"])]);
    let sealed = entries.iter().find(|entry| entry.kind == EntryType::BUNDLE_SEALED).unwrap();
    assert!(sealed.about.result["left_in_store"].to_string().contains("000000.zst"));
}

#[test]
fn a_wrong_etag_or_checksum_is_never_taken() {
    for edit in [
        (|text: String| edit_header(&text, "etag", "\"00000000000000000000000000000000\""))
            as fn(String) -> String,
        |text: String| {
            edit_header(&text, "x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        },
    ] {
        let Some(desk) = Desk::new() else { return };
        desk.proxy.decide(move |asked| if asked.what() == "part" { Fate::Edited(edit) } else { Fate::Pass });
        let error = desk.disk(&noise(SEGMENT), "E001").unwrap_err();
        let said = words(&error);
        assert!(said.contains("UploadPart") && said.contains("000000.zst"), "{said}");
        assert_eq!(desk.proxy.count("part") % pace().tries as usize, 0);
    }
}

#[test]
fn an_object_of_which_the_store_says_that_it_holds_other_bytes_is_not_believed_on_a_second_try() {
    let Some(desk) = Desk::new() else { return };
    let edit = |text: String| {
        edit_header(&text, "x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
    };
    let is_of = |asked: &Asked, path: &str| asked.path.split('?').next().unwrap().ends_with(path);
    desk.proxy.decide(
        move |asked| {
            if is_of(asked, "/manifest.json") { Fate::Edited(edit) } else { Fate::Pass }
        },
    );
    let said = words(&desk.disk(&content(CHUNK), "E001").unwrap_err());
    assert!(said.contains("manifest.json") && said.contains("the store has SHA-256 47DEQpj8"), "{said}");
    let puts = desk.proxy.asked().iter().filter(|asked| is_of(asked, "/manifest.json")).count();
    assert_eq!(puts, 1, "another try would find the name taken, and take the object for ours");
    // Nor when somebody goes on later, with a server that says only that the name is taken.
    desk.proxy.decide(|_| Fate::Pass);
    for _ in 0..2 {
        let said = words(&desk.disk(&content(CHUNK), "E001").unwrap_err());
        assert!(said.contains("it holds other bytes than were sent"), "{said}");
    }
    // Objects of the log are put by another hand.
    desk.proxy.decide(
        move |asked| {
            if is_of(asked, "/custody/00000000.json") { Fate::Edited(edit) } else { Fate::Pass }
        },
    );
    let said = words(&desk.disk(&content(CHUNK), "E002").unwrap_err());
    assert!(said.contains("custody/00000000.json does not hold what was sent"), "{said}");
    let state = MirrorState::read(&desk.path("E002")).unwrap().unwrap();
    assert_eq!(state.taken.as_deref(), Some("custody/00000000.json"));
}

/// Puts another value, or another header, into an answer.
fn edit_header(answer: &str, name: &str, value: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    let kept: Vec<_> = kept.map(str::to_owned).chain([format!("{name}: {value}")]).collect();
    format!("{}\r\n\r\n{body}", kept.join("\r\n"))
}

#[test]
fn what_is_denied_is_asked_once_and_the_missing_permission_is_named() {
    for (kind, words_of_it) in [
        ("put", "s3:PutObject on arn:aws:s3:::"),
        ("create", "s3:PutObject on arn:aws:s3:::"),
        ("part", "kms:GenerateDataKey and kms:Decrypt"),
        ("complete", "s3:PutObject on arn:aws:s3:::"),
    ] {
        let Some(desk) = Desk::new() else { return };
        desk.proxy.decide(
            move |asked| {
                if asked.what() == kind { Fate::Answer(403, "AccessDenied") } else { Fate::Pass }
            },
        );
        let error = desk.disk(&content(CHUNK), "E001").unwrap_err();
        let said = words(&error);
        assert!(said.contains(words_of_it) && said.contains("AccessDenied"), "{kind}: {said}");
        let denied = desk.proxy.count(kind);
        // The log's entry that says why is tried too.
        assert!(denied == 1 || kind == "put", "{kind}: {denied}");
    }
}

#[test]
fn a_place_that_is_taken_stops_the_writer_before_anything_is_read() {
    let Some(desk) = Desk::new() else { return };
    for (name, key) in [("E001", "keys/log.vkey"), ("E002", "custody/00000000.json")] {
        desk.bucket.ask("PUT", &format!("/ir-17/{name}/{key}"), "", b"another's");
        let reads = Arc::new(AtomicU64::new(0));
        let inner = FaultSource::new(content(CHUNK), &[]);
        let source = StopsAt { inner, at: u64::MAX, stop: Arc::default(), reads: Arc::clone(&reads) };
        let error = desk.acquire(DiskCapture::new(Box::new(source)), name).unwrap_err();
        let said = words(&error);
        assert!(said.contains(key) && said.contains("somebody else"), "{said}");
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert_eq!(desk.bucket.get(&format!("ir-17/{name}/{key}")), b"another's");
        assert!(MirrorState::read(&desk.path(name)).unwrap().unwrap().taken.is_some());
    }
    // A segment that somebody else put in the meantime.
    desk.bucket.ask("PUT", "/ir-17/E003/data/disk/000000.zst", "", b"another's");
    let said = words(&desk.disk(&content(CHUNK), "E003").unwrap_err());
    assert!(said.contains("E003/data/disk/000000.zst is there already"), "{said}");
    assert_eq!(desk.bucket.get("ir-17/E003/data/disk/000000.zst"), b"another's");
}

#[test]
fn a_writer_may_neither_list_nor_read_nor_delete() {
    let Some(desk) = Desk::new() else { return };
    desk.proxy.decide(|asked| match asked.what() {
        "put" | "create" | "part" | "complete" => Fate::Pass,
        _ => Fate::Answer(403, "AccessDenied"),
    });
    let rights = rights(&desk.connection(), &desk.to()).unwrap();
    assert!(rights.remarks.iter().any(|words| words.contains("s3:AbortMultipartUpload")), "{rights:?}");
    assert!(rights.remarks.iter().any(|words| words.contains("Object Lock is not known")), "{rights:?}");
    let data = noise(2 * SEGMENT + 5);
    let stop = Arc::new(AtomicBool::new(false));
    let inner = FaultSource::new(data.clone(), &[]);
    let source = StopsAt { inner, at: SEGMENT as u64, stop: Arc::clone(&stop), reads: Arc::default() };
    let folder = desk.path("E001");
    acquire_to(&desk.connection(), &desk.to(), &folder, |to| {
        Acquisition::new(DiskCapture::new(Box::new(source)), to).stop_when(stop)
    })
    .unwrap_err();
    let report = desk.disk(&data, "E001").unwrap();
    assert_eq!(report.left_behind, Vec::<String>::new());
    desk.read_back("E001");
    let refused = |asked: &&Asked| ["list", "get", "delete", "head"].contains(&asked.what());
    assert_eq!(desk.proxy.asked().iter().filter(refused).count(), 0);
}

#[test]
fn an_upload_that_may_have_been_begun_unseen_is_named_where_nobody_may_list() {
    let Some(desk) = Desk::new() else { return };
    let first = AtomicBool::new(true);
    desk.proxy.decide(move |asked| match asked.what() {
        "create" if first.swap(false, Ordering::Relaxed) => Fate::CarriedOutThenCut,
        "list" => Fate::Answer(403, "AccessDenied"),
        _ => Fate::Pass,
    });
    let report = desk.disk(&content(CHUNK), "E001").unwrap();
    let left = desk.bucket.uploads();
    assert_eq!(left.len(), 1);
    assert!(report.left_behind[0].contains(&left[0].0), "{:?}", report.left_behind);
    let sealed =
        entries(&desk.path("E001")).into_iter().find(|entry| entry.kind == EntryType::BUNDLE_SEALED).unwrap();
    assert!(sealed.about.result["left_in_store"].to_string().contains(&left[0].0));
    // It stays noted until somebody may look.
    assert!(desk.path("E001").join("uploads.journal").exists());
    desk.read_back("E001");
}

#[test]
fn later_entries_are_put_too_and_wait_for_the_store_where_they_must() {
    let Some(desk) = Desk::new() else { return };
    desk.disk(&content(CHUNK), "E001").unwrap();
    let folder = desk.path("E001");
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let connection = desk.connection();
    let mirror = S3LogMirror::over(&connection, pace(), move |place, why| {
        assert!(place.to_string().ends_with("/ir-17/E001") && !why.is_empty());
        count.fetch_add(1, Ordering::Relaxed);
    });
    let note = |text: &str| NewEntry::new(EntryType::NOTE).how("text", text);
    with_writer(|writer| {
        let writer = writer.clone().mirrored_by(&mirror);
        let log = CustodyLog::open(&folder).unwrap();
        let there = |what: &str| MirrorState::read(&folder).unwrap().map(|state| state.entries).expect(what);
        let size = there("sealed");
        desk.proxy.decide(|_| Fate::Cut);
        log.append(&note("first"), &writer).unwrap();
        log.append_anchor("token.tsr", b"an anchor", NewEntry::new(EntryType::ANCHOR_MADE), &writer).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 2);
        assert_eq!(there("cut off"), size);
        log.put_missing(&writer).unwrap_err();
        desk.proxy.decide(|_| Fate::Pass);
        log.append(&note("third"), &writer).unwrap();
        assert_eq!((there("back"), told.load(Ordering::Relaxed)), (size + 3, 2));
        desk.proxy.decide(|_| Fate::Cut);
        log.append(&note("fourth"), &writer).unwrap();
        desk.proxy.decide(|_| Fate::Pass);
        assert_eq!(log.put_missing(&writer).unwrap().unwrap().entries, size + 4);
    });
    let back = desk.read_back("E001");
    assert_eq!(fs::read(back.join("anchors/token.tsr")).unwrap(), b"an anchor");
    assert!(fs::read(back.join("custody.jsonl")).unwrap() == fs::read(folder.join("custody.jsonl")).unwrap());
}
