//! Which keys may write a log: introduced, handed over to, revoked, or none of these.

use custody::verify::Level;
use custody::{
    EntryType, Error, HOW_FINGERPRINT, HOW_TO_KEY, HOW_VKEY, NewEntry, SignedCheckpoint, Signer,
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
