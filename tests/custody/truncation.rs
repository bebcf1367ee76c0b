//! Logs cut at their end: found whenever anything survives that can tell, and never called anchored otherwise.

use std::path::Path;

use custody::anchors::{Authorities, Cosignature, Receipt, request_time_stamp};
use custody::merkle::{Frontier, root_of};
use custody::verify::{Level, Memory, Options, OutsideAnchors, TrustedKey, verify, verify_log};
use custody::{Checkpoint, EntryType, NewEntry, SignedCheckpoint};

use crate::support::{
    KEY, Recipe, WITNESS, anchor_with_witness, check, faults, log_with, note, trusting, writer,
};

/// Keeps the first `size` entries.
fn cut_log(folder: &Path, size: usize) {
    let path = folder.join("custody.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: String = text.lines().take(size).map(|line| format!("{line}\n")).collect();
    std::fs::write(path, &lines).unwrap();
    let mut frontier = Frontier::new();
    lines.lines().for_each(|line| frontier.push(line.as_bytes()));
    std::fs::write(folder.join("custody.frontier"), frontier.to_text()).unwrap();
}

/// Makes the kept checkpoint of this size the newest, and removes all later ones.
fn roll_back(folder: &Path, size: u64) {
    std::fs::copy(folder.join(format!("checkpoints/{size:08}")), folder.join("checkpoint")).unwrap();
    for item in std::fs::read_dir(folder.join("checkpoints")).unwrap() {
        let path = item.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap() > size {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// A sealed bundle with two offers after the seal (kept checkpoints of sizes 4, 5 and 6) and a last note.
fn bundle(folder: &Path) {
    let offer = || NewEntry::new(EntryType::TRANSFER_OFFERED);
    Recipe { after: vec![offer(), offer(), note("the end")], ..Recipe::default() }.make(folder);
}

#[test]
fn a_cut_is_found_when_the_checkpoint_survives() {
    for size in 1..7 {
        let folder = tempfile::tempdir().unwrap();
        bundle(folder.path());
        cut_log(folder.path(), size);
        std::fs::remove_dir_all(folder.path().join("checkpoints")).unwrap();
        let done = check(folder.path());
        assert_eq!(done.verdict.level, Level::Broken);
        let named = done.faults.iter().find(|fault| fault.words.starts_with("TRUNCATED")).unwrap();
        assert_eq!(named.place.entry, Some(size as u64));
    }
}

#[test]
fn a_cut_is_found_when_a_later_kept_checkpoint_survives() {
    let folder = tempfile::tempdir().unwrap();
    bundle(folder.path());
    let later = std::fs::read(folder.path().join("checkpoints/00000006")).unwrap();
    cut_log(folder.path(), 5);
    roll_back(folder.path(), 5);
    assert!(check(folder.path()).is_intact(), "the cut itself is neat");
    std::fs::write(folder.path().join("checkpoints/00000006"), later).unwrap();
    let done = check(folder.path());
    assert!(done.faults.iter().any(|fault| fault.words.contains("TRUNCATED")), "{}", faults(&done));
}

#[test]
fn a_cut_is_found_when_an_anchor_outside_survives() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    bundle(folder.path());
    std::fs::copy(folder.path().join("checkpoint"), elsewhere.path().join("receipt")).unwrap();
    let outside = OutsideAnchors::read(elsewhere.path()).unwrap();
    let options = Options { outside, ..Options::default() };
    let whole = verify(folder.path(), &options).unwrap();
    assert_eq!(whole.verdict.to_string(), "ANCHORED(1)", "{}", faults(&whole));
    cut_log(folder.path(), 5);
    roll_back(folder.path(), 5);
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(done.verdict.level, Level::Broken);
    assert!(done.faults[0].words.contains("TRUNCATED: have 5, the anchor receipt says >=7"));
}

#[test]
fn a_neat_cut_stays_below_anchored_and_says_that_nothing_independent_vouches() {
    // At every size of which a checkpoint was kept, with and without a trusted key.
    for size in [4, 5, 6] {
        let folder = tempfile::tempdir().unwrap();
        bundle(folder.path());
        cut_log(folder.path(), size);
        roll_back(folder.path(), size as u64);
        for options in [Options::default(), trusting(&KEY)] {
            let done = verify(folder.path(), &options).unwrap();
            assert!(done.is_intact() && done.verdict.level < Level::Anchored, "{}", faults(&done));
            assert!(done.sentence.contains("0 anchors independent of the presenter"), "{}", done.sentence);
        }
    }
}

#[test]
fn a_seal_that_was_cut_away_leaves_an_open_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let log = Recipe { sealed: false, ..Recipe::default() }.make(folder.path());
    let (before, frontier) =
        (log.read().unwrap().checkpoint.unwrap(), folder.path().join("custody.frontier"));
    let edge = std::fs::read(&frontier).unwrap();
    log.append(&NewEntry::new(EntryType::BUNDLE_SEALED), &writer()).unwrap();
    cut_log(folder.path(), 3);
    std::fs::write(frontier, edge).unwrap();
    std::fs::write(folder.path().join("checkpoint"), before.note.to_text()).unwrap();
    std::fs::remove_file(folder.path().join("checkpoints/00000004")).unwrap();
    let done = check(folder.path());
    assert_eq!(done.verdict.level, Level::Open);
    assert!(done.sentence.contains("0 anchors independent of the presenter"));
}

#[test]
fn a_witness_that_is_trusted_anchors_and_a_stranger_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = Recipe::default().make(folder.path());
    anchor_with_witness(&log);
    let witness = WITNESS.verifying_key();
    for text in [witness.to_vkey("witness.example/w1"), witness.to_pem().unwrap()] {
        let trust = vec![TrustedKey::parse(&text).unwrap()];
        let done = verify(folder.path(), &Options { trust, ..Options::default() }).unwrap();
        assert_eq!(done.verdict.to_string(), "ANCHORED(1)", "{}", faults(&done));
    }
    assert_eq!(check(folder.path()).verdict.level, Level::Consistent);
    assert_eq!(verify(folder.path(), &trusting(&KEY)).unwrap().verdict.level, Level::Signed);
}

#[test]
fn an_anchor_from_before_the_seal_does_not_anchor_the_bundle() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Recipe { sealed: false, ..Recipe::default() }.make(folder.path());
    std::fs::copy(folder.path().join("checkpoint"), elsewhere.path().join("early")).unwrap();
    drop(log);
    let sealed = tempfile::tempdir().unwrap();
    let early = {
        let log = Recipe::default().make(sealed.path());
        // The log as it was at its second entry, signed by its own key.
        let text = std::fs::read_to_string(sealed.path().join("custody.jsonl")).unwrap();
        let checkpoint = custody::Checkpoint {
            origin: log.origin().to_owned(),
            size: 2,
            root: custody::merkle::root_of(text.lines().take(2)),
        };
        SignedCheckpoint::sign(checkpoint, &*KEY).unwrap()
    };
    std::fs::write(elsewhere.path().join("early"), early.note.to_text()).unwrap();
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..Options::default() };
    let done = verify(sealed.path(), &options).unwrap();
    assert_eq!(done.verdict.level, Level::Consistent, "{}", faults(&done));
    assert_eq!(done.log.anchors.len(), 1);
}

#[test]
fn a_closed_and_anchored_log_is_complete() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Recipe::default().make(folder.path());
    log.append(&NewEntry::new(EntryType::CASE_CLOSED), &writer()).unwrap();
    assert_eq!(check(folder.path()).verdict.level, Level::Consistent);
    std::fs::copy(folder.path().join("checkpoint"), elsewhere.path().join("receipt")).unwrap();
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..trusting(&KEY) };
    assert_eq!(verify(folder.path(), &options).unwrap().verdict.level, Level::Complete);
}

#[test]
fn an_anchor_of_a_rewritten_log_shows_the_fork() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(folder.path(), 3);
    std::fs::copy(folder.path().join("checkpoint"), elsewhere.path().join("receipt")).unwrap();
    // The key's owner writes another history of the same length and signs it.
    let path = folder.path().join("custody.jsonl");
    let first = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned() + "\n";
    std::fs::write(&path, &first).unwrap();
    let root = custody::merkle::root_of(first.lines());
    let back = custody::Checkpoint { origin: log.origin().to_owned(), size: 1, root };
    let back = SignedCheckpoint::sign(back, &*KEY).unwrap();
    std::fs::write(folder.path().join("checkpoint"), back.note.to_text()).unwrap();
    for text in ["another", "history", "altogether"] {
        log.append(&note(text), &writer()).unwrap();
    }
    assert!(check(folder.path()).is_intact(), "from the inside it cannot be seen");
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..Options::default() };
    let done = verify_log(folder.path(), &options).unwrap();
    assert!(done.faults[0].words.starts_with("FORK"), "{}", faults(&done));
}

#[test]
fn a_remembered_size_shows_a_roll_back_and_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen.json");
    let bundle_folder = folder.path().join("bundle");
    std::fs::create_dir(&bundle_folder).unwrap();
    bundle(&bundle_folder);
    let mut memory = Memory::load(&file).unwrap();
    check(&bundle_folder).remember(&mut memory);
    memory.save(&file).unwrap();
    let options = Options { memory: Memory::load(&file).unwrap(), ..Options::default() };
    assert!(verify(&bundle_folder, &options).unwrap().is_intact());
    cut_log(&bundle_folder, 5);
    roll_back(&bundle_folder, 5);
    let done = verify(&bundle_folder, &options).unwrap();
    assert!(done.faults[0].words.starts_with("ROLLED BACK from 7 to 5"));
    // A broken log is not remembered.
    let mut after = memory.clone();
    done.remember(&mut after);
    assert_eq!(after, memory);
}

/// Cuts the log to `size` entries as one who has its key does: signs a new checkpoint there, and leaves no later one.
fn cut_and_sign_anew(folder: &Path, size: u64) {
    cut_log(folder, usize::try_from(size).unwrap());
    let text = std::fs::read_to_string(folder.join("custody.jsonl")).unwrap();
    let origin = custody::CustodyLog::open(folder).unwrap().origin().to_owned();
    let checkpoint = Checkpoint { origin, size, root: root_of(text.lines()) };
    let signed = SignedCheckpoint::sign(checkpoint, &*KEY).unwrap();
    std::fs::write(folder.join("checkpoint"), signed.note.to_text()).unwrap();
    for item in std::fs::read_dir(folder.join("checkpoints")).unwrap() {
        let path = item.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap() > size {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_cut_of_any_length_is_found_whenever_one_anchor_of_any_kind_survives() {
    let made = tempfile::tempdir().unwrap();
    bundle(made.path());
    let newest = std::fs::read(made.path().join("checkpoint")).unwrap();
    let signed = SignedCheckpoint::parse(&newest).unwrap();
    let stamp =
        request_time_stamp(&crate::time_stamps::Near(&crate::time_stamps::P256), "", &newest).unwrap();
    let mut cosigned = signed.note.clone();
    let line = Cosignature::sign(signed.note.text(), "w.example/1", &*WITNESS, 1_795_300_000).unwrap().line;
    cosigned.add_line(line).unwrap();
    let mut stripped = custody::SignedNote::sign(signed.note.text(), "w.example/1", &*WITNESS).unwrap();
    stripped.add_line(cosigned.signatures().last().unwrap().clone()).unwrap();
    let receipt = Receipt::new(signed, Vec::new()).to_text().unwrap();
    let root = crate::time_stamps::P256.root();
    type Files = Vec<(&'static str, Vec<u8>)>;
    let kinds: [(&str, Files); 5] = [
        ("kept copy", vec![("c", newest.clone())]),
        ("receipt", vec![("r.txt", receipt.into_bytes())]),
        ("token", vec![("c", newest), ("t.tsr", stamp.as_bytes().to_vec()), ("ca.pem", root.into_bytes())]),
        ("cosignature", vec![("n", cosigned.to_text().into_bytes())]),
        // The log's own signature is not even there.
        ("cosignature alone", vec![("n", stripped.to_text().into_bytes())]),
    ];
    for (kind, files) in kinds {
        let elsewhere = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(elsewhere.path().join(name), bytes).unwrap();
        }
        let vkey = WITNESS.verifying_key().to_cosigner_vkey("w.example/1");
        let options = || Options {
            outside: OutsideAnchors::read(elsewhere.path()).unwrap(),
            trust: if kind.starts_with("cosignature") {
                vec![TrustedKey::parse(&vkey).unwrap()]
            } else {
                Vec::new()
            },
            ..Options::default()
        };
        let whole = verify(made.path(), &options()).unwrap();
        assert!(whole.verdict.level == Level::Anchored, "{kind}: {} {}", whole.verdict, faults(&whole));
        for size in 1..7 {
            let cut = tempfile::tempdir().unwrap();
            crate::support::copy_folder(made.path(), cut.path());
            cut_and_sign_anew(cut.path(), size);
            let alone = check(cut.path());
            assert!(
                alone.verdict.level < Level::Anchored && alone.sentence.contains("0 anchors independent")
            );
            let done = verify(cut.path(), &options()).unwrap();
            let named = done.faults.iter().any(|fault| {
                fault.words.starts_with(&format!("TRUNCATED: have {size}, the anchor "))
                    && fault.words.ends_with("says >=7")
            });
            assert!(named, "{kind}, {size} left: {}", faults(&done));
        }
    }
}

#[test]
fn a_token_without_its_checkpoint_proves_nothing_and_is_told_of() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    bundle(folder.path());
    let newest = std::fs::read(folder.path().join("checkpoint")).unwrap();
    let stamp = request_time_stamp(&crate::time_stamps::Near(&crate::time_stamps::RSA), "", &newest).unwrap();
    std::fs::write(elsewhere.path().join("t.tsr"), stamp.as_bytes()).unwrap();
    let mut authorities = Authorities::default();
    authorities.add_pem(&crate::time_stamps::RSA.root()).unwrap();
    let outside = OutsideAnchors::read(elsewhere.path()).unwrap();
    let options = Options { outside, authorities, ..Options::default() };
    assert_eq!(verify(folder.path(), &options).unwrap().verdict.to_string(), "ANCHORED(1)");
    cut_and_sign_anew(folder.path(), 5);
    let done = verify(folder.path(), &options).unwrap();
    assert!(done.is_intact() && done.verdict.level < Level::Anchored, "{}", faults(&done));
    assert!(
        done.notes.iter().any(|note| note.contains("t.tsr is a time stamp over no checkpoint")),
        "{:?}",
        done.notes
    );
}

#[test]
fn a_token_that_a_cut_left_behind_in_the_bundle_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let log = Recipe::default().make(folder.path());
    let parties = custody::anchors::Parties { authorities: vec!["http://tsa".into()], ..Default::default() };
    let near = crate::time_stamps::Near(&crate::time_stamps::RSA);
    let (_, asked) = custody::anchors::anchor(&log, &parties, &near, &writer()).unwrap();
    assert!(asked[0].outcome.is_ok());
    cut_and_sign_anew(folder.path(), 4);
    let done = check(folder.path());
    assert!(
        done.faults.iter().any(|fault| fault.place.file == "anchors/00000004.tsa.tsr"),
        "{}",
        faults(&done)
    );
}
