//! Which keys may write a log: introduced, handed over to, revoked, or none of these.

use custody::verify::Level;
use custody::{
    EntryType, Error, HOW_FINGERPRINT, HOW_REASON, HOW_TO_KEY, HOW_VKEY, NewEntry, SignedCheckpoint, Signer,
    VerifyingKey, Writer,
};

use crate::support::{
    CLOCK, KEY, OTHER_KEY, check, faults, identity, log_with, note, trusting, writer, writer_with,
};

#[test]
fn a_stranger_may_not_write() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let refused = log.append(&note("mine"), &writer_with(&OTHER_KEY));
    assert!(matches!(refused, Err(Error::KeyNotIntroduced { .. })), "{refused:?}");
    assert!(check(folder.path()).is_intact());
}

#[test]
fn a_key_that_an_earlier_key_vouches_for_writes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let both = writer_with(&OTHER_KEY).vouched_by(&*KEY);
    log.append(&note("first of the new key"), &both).unwrap();
    log.append(&note("second"), &writer_with(&OTHER_KEY)).unwrap();
    log.append(&note("the old key again"), &writer()).unwrap();
    let kinds: Vec<_> = log.read().unwrap().entries.into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds[2], EntryType::KEY_ADDED);
    let done = check(folder.path());
    assert!(done.is_intact(), "{}", faults(&done));
    // A later key descends from the genesis key; to trust that is enough.
    log.append(&note("the new key again"), &writer_with(&OTHER_KEY)).unwrap();
    for key in [&*KEY, &*OTHER_KEY] {
        let done = custody::verify::verify_log(folder.path(), &trusting(key)).unwrap();
        assert_eq!(done.verdict.level, Level::Signed);
    }
}

#[test]
fn a_handover_introduces_the_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let receiver = OTHER_KEY.verifying_key().fingerprint();
    log.append(&NewEntry::new(EntryType::TRANSFER_OFFERED).how(HOW_TO_KEY, receiver), &writer()).unwrap();
    log.append(&NewEntry::new(EntryType::TRANSFER_ACCEPTED).refers_to(2), &writer_with(&OTHER_KEY)).unwrap();
    let entries = log.read().unwrap().entries;
    assert_eq!(entries[3].kind, EntryType::KEY_ADDED);
    assert_eq!(entries[3].about.refs, [2]);
    assert_eq!(entries[4].kind, EntryType::TRANSFER_ACCEPTED);
    let done = check(folder.path());
    assert!(done.is_intact(), "{}", faults(&done));
    // Each step's checkpoint was kept whole.
    for size in [3, 4, 5] {
        assert!(folder.path().join(format!("checkpoints/{size:08}")).exists());
    }
}

#[test]
fn a_revoked_key_writes_no_more_and_no_key_revokes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    log.append(&note("in"), &writer_with(&OTHER_KEY).vouched_by(&*KEY)).unwrap();
    let revoke = |key: &custody::SigningKey| {
        NewEntry::new(EntryType::KEY_REVOKED).how(HOW_FINGERPRINT, key.verifying_key().fingerprint())
    };
    assert!(log.append(&revoke(&KEY), &writer()).is_err());
    log.append(&revoke(&OTHER_KEY), &writer()).unwrap();
    let refused = log.append(&note("still here"), &writer_with(&OTHER_KEY));
    assert!(
        matches!(&refused, Err(Error::KeyNotIntroduced { why, .. }) if why.contains("revoked")),
        "{refused:?}"
    );
    assert!(check(folder.path()).is_intact());
    // A checkpoint that the revoked key signs all the same is a fault with its place.
    let newest = log.read().unwrap().checkpoint.unwrap();
    let forged = SignedCheckpoint::sign(newest.checkpoint, &*OTHER_KEY).unwrap();
    std::fs::write(folder.path().join("checkpoint"), forged.note.to_text()).unwrap();
    let done = check(folder.path());
    assert_eq!(done.faults[0].place.file, "checkpoint", "{}", faults(&done));
    assert!(done.faults[0].words.contains("outside the entries it may sign for"));
}

#[test]
fn a_key_that_adds_itself_to_a_log_is_not_believed() {
    // The forger has the files and no key: appends key.added and signs with the key it adds.
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let forger = tempfile::tempdir().unwrap();
    let theirs = log_with(forger.path(), 0);
    drop(theirs);
    let entry =
        NewEntry::new(EntryType::KEY_ADDED).how(HOW_VKEY, OTHER_KEY.verifying_key().to_vkey(log.origin()));
    log.append(&entry, &writer()).unwrap();
    // Put the forger's signature in the place of the real one, here and in the kept copy.
    let newest = log.read().unwrap().checkpoint.unwrap();
    let forged = SignedCheckpoint::sign(newest.checkpoint, &*OTHER_KEY).unwrap().note.to_text();
    std::fs::write(folder.path().join("checkpoint"), &forged).unwrap();
    std::fs::write(folder.path().join("checkpoints/00000003"), &forged).unwrap();
    let done = check(folder.path());
    assert!(!done.is_intact());
    assert!(done.faults.iter().any(|fault| fault.place.file == "checkpoint"), "{}", faults(&done));
}

#[test]
fn a_trusted_key_that_did_not_sign_gives_no_signed_verdict() {
    let folder = tempfile::tempdir().unwrap();
    log_with(folder.path(), 1);
    let done = custody::verify::verify_log(folder.path(), &trusting(&OTHER_KEY)).unwrap();
    assert_eq!(done.verdict.level, Level::Consistent);
    let done = custody::verify::verify_log(folder.path(), &trusting(&KEY)).unwrap();
    assert_eq!(done.verdict.level, Level::Signed);
}

/// A key in a token that was pulled out.
struct Absent;

impl Signer for Absent {
    fn verifying_key(&self) -> VerifyingKey {
        KEY.verifying_key()
    }

    fn sign(&self, _: &[u8]) -> Result<[u8; 64], Error> {
        Err(Error::Key { why: "the agent is gone".to_owned() })
    }
}

#[test]
fn a_key_that_does_not_sign_leaves_the_log_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let before = std::fs::read(folder.path().join("custody.jsonl")).unwrap();
    let refused = log.append(&note("lost"), &Writer::new(&Absent, &*CLOCK, identity()));
    assert!(matches!(refused, Err(Error::Key { .. })), "{refused:?}");
    assert_eq!(std::fs::read(folder.path().join("custody.jsonl")).unwrap(), before);
    assert!(!check(folder.path()).unsigned_tail);
}

#[test]
fn the_windows_of_all_keys_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    log.append(&note("in"), &writer_with(&OTHER_KEY).vouched_by(&*KEY)).unwrap();
    let gone = OTHER_KEY.verifying_key().fingerprint();
    let revoke =
        NewEntry::new(EntryType::KEY_REVOKED).how(HOW_FINGERPRINT, gone.as_str()).how(HOW_REASON, "lost");
    log.append(&revoke, &writer()).unwrap();
    let keys = log.keys().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!((keys[0].introduced, keys[0].revoked, keys[0].accepted), (0, None, true));
    assert_eq!((keys[1].introduced, keys[1].revoked, keys[1].reason.as_str()), (2, Some(4), "lost"));
    assert_eq!(keys[1].fingerprint, gone);
}

#[test]
fn an_entry_in_the_name_of_a_key_outside_its_window_is_a_fault() {
    /// Signs as one key, and says that it is another: what a program that forges its log would write.
    struct Posing(bool, std::sync::atomic::AtomicU32);
    impl Signer for Posing {
        fn verifying_key(&self) -> VerifyingKey {
            // The first question is who writes; the entry's name is asked for later.
            let nth = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if self.0 && nth == 2 { OTHER_KEY.verifying_key() } else { KEY.verifying_key() }
        }
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], Error> {
            Ok(KEY.sign(message))
        }
    }
    for (posing, faulty) in [(false, false), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let log = log_with(folder.path(), 1);
        let signer = Posing(posing, 0.into());
        log.append(&note("by whom?"), &Writer::new(&signer, &*CLOCK, identity())).unwrap();
        let named = log.read().unwrap().entries[2].actor.key.clone();
        assert_eq!(
            named == OTHER_KEY.verifying_key().fingerprint(),
            faulty,
            "the forged name went elsewhere"
        );
        let done = check(folder.path());
        assert_eq!(!done.is_intact(), faulty, "{}", faults(&done));
        if faulty {
            assert_eq!(done.faults[0].place.entry, Some(2));
            assert!(
                done.faults[0].words.starts_with("SIGNED BY KEY OUTSIDE ITS WINDOW"),
                "{}",
                faults(&done)
            );
        }
    }
}

#[test]
fn a_closed_log_takes_what_follows_evidence_about_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    assert_eq!(log.closed().unwrap(), None);
    log.append(&NewEntry::new(EntryType::CASE_CLOSED), &writer()).unwrap();
    assert_eq!(log.closed().unwrap(), Some(2));
    let before = log.read().unwrap().entries.len();
    for kind in EntryType::ALL {
        let allowed = custody::closing::allowed_after_close(kind);
        // These two say more than their type, and are tried below.
        if allowed && ![EntryType::KEY_ADDED, EntryType::KEY_REVOKED].contains(kind) {
            let entry = NewEntry::new(kind.clone()).refers_to(1);
            if kind.as_str().starts_with("transfer.") {
                continue;
            }
            log.append(&entry, &writer()).unwrap();
        } else if !allowed {
            let refused = log.append(&NewEntry::new(kind.clone()), &writer());
            assert!(matches!(refused, Err(Error::Closed { closed: 2, .. })), "{kind}: {refused:?}");
        }
    }
    log.append(
        &NewEntry::new(EntryType::CORRECTION).refers_to(1),
        &writer_with(&OTHER_KEY).vouched_by(&*KEY),
    )
    .unwrap();
    let entries = log.read().unwrap().entries;
    assert!(entries[before..].iter().all(|entry| entry.about.how["after_close"] == 2));
    assert!(check(folder.path()).is_intact(), "{}", faults(&check(folder.path())));
    // Also where the cached end is gone and the whole log must be read.
    std::fs::remove_file(folder.path().join("custody.frontier")).unwrap();
    assert!(matches!(log.append(&note("late"), &writer()), Err(Error::Closed { .. })));
}

#[test]
fn a_note_that_a_forger_put_behind_the_close_is_a_fault() {
    // The forger has the key, and a program that knows no close: the note is written and the close put before it.
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    log.append(&NewEntry::new(EntryType::CASE_CLOSED), &writer()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let longer = log_with(other.path(), 2).read().unwrap();
    let lines = std::fs::read_to_string(folder.path().join("custody.jsonl")).unwrap();
    let last = custody::sha256(lines.lines().last().unwrap().as_bytes()).to_string();
    let note = serde_json::to_value(&longer.entries[2]).unwrap();
    let note =
        custody::strict_json::to_line(&note).unwrap().replace(&longer.entries[2].prev.to_string(), &last);
    let mut tree = custody::merkle::Frontier::new();
    let forged = format!("{lines}{note}\n");
    forged.lines().for_each(|line| tree.push(line.as_bytes()));
    let checkpoint =
        custody::Checkpoint { origin: log.origin().to_owned(), size: tree.size(), root: tree.root() };
    let signed = SignedCheckpoint::sign(checkpoint, &*KEY).unwrap();
    std::fs::write(folder.path().join("custody.jsonl"), forged).unwrap();
    std::fs::write(folder.path().join("checkpoint"), signed.note.to_text()).unwrap();
    std::fs::write(folder.path().join("custody.frontier"), tree.to_text()).unwrap();
    let done = check(folder.path());
    assert_eq!(done.fault_count, 1, "{}", faults(&done));
    assert_eq!(done.faults[0].words, "a note follows the close in entry 1, which allows none");
}
