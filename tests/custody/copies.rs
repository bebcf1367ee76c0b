//! Copies of one log compared, forks proved, and the memory of a verifier that many may use at once.

use std::path::Path;
use std::process::Command;

use custody::proof::ForkProof;
use custody::verify::{
    Comparison, LogCopy, Memory, Options, Side, compare, forks_from_memory, verify, verify_remembering,
};
use custody::{CustodyLog, EntryType, Error, NewEntry};
use tempfile::TempDir;

use crate::support::{Recipe, copy_folder, log_with, note, writer};

/// A log of 3 entries, copied, and gone on with in both copies; `more` entries follow in the first.
fn two_histories(more: usize) -> (TempDir, TempDir) {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(one.path(), 2);
    copy_folder(one.path(), other.path());
    log.append(&note("as it was"), &writer()).unwrap();
    CustodyLog::open(other.path()).unwrap().append(&note("as it \"should\" \\ be"), &writer()).unwrap();
    for i in 0..more {
        log.append(&note(&format!("more {i}")), &writer()).unwrap();
    }
    (one, other)
}

fn compared(a: &Path, b: &Path) -> Comparison {
    compare(&LogCopy::read(a).unwrap(), &LogCopy::read(b).unwrap()).unwrap()
}

fn fork(a: &Path, b: &Path) -> ForkProof {
    match compared(a, b) {
        Comparison::Forked(proof) => *proof,
        other => panic!("{other:?}"),
    }
}

/// What the script says of a proof; `None` where there is no python3 or openssl.
fn script(proof: &[u8]) -> Option<Result<String, String>> {
    for tool in ["python3", "openssl"] {
        if Command::new(tool).arg("version").output().is_err() {
            eprintln!("skipped: there is no {tool}");
            return None;
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), proof).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/check_fork.py");
    let done = Command::new("python3").arg(script).arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    Some(if done.status.success() {
        Ok(said)
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    })
}

#[test]
fn a_copy_is_the_same_or_the_beginning_or_of_another_log() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(one.path(), 2);
    copy_folder(one.path(), other.path());
    assert_eq!(compared(one.path(), other.path()), Comparison::Same { size: 3 });
    assert_eq!(compared(one.path(), &other.path().join("checkpoint")), Comparison::Same { size: 3 });
    let before = log.read().unwrap().checkpoint.unwrap().checkpoint;
    for _ in 0..4 {
        log.append(&note("more"), &writer()).unwrap();
    }
    let after = log.read().unwrap().checkpoint.unwrap().checkpoint;
    for path in [other.path().to_owned(), other.path().join("checkpoint")] {
        let Comparison::Beginning { shorter: Side::B, old: 3, new: 7, proof } = compared(one.path(), &path)
        else {
            panic!("{path:?}");
        };
        assert!(custody::merkle::verify_consistency(3, 7, &before.root, &after.root, &proof));
    }
    // The longer checkpoint against the shorter log: nobody can tell.
    assert!(matches!(compared(&one.path().join("checkpoint"), other.path()), Comparison::Unknown { .. }));
    let stranger = tempfile::tempdir().unwrap();
    log_with(stranger.path(), 2);
    assert!(matches!(compared(one.path(), stranger.path()), Comparison::OtherLogs { .. }));
}

#[test]
fn a_fork_is_proved_in_every_form_and_a_stranger_can_check_it() {
    for more in [0, 1, 4, 9] {
        let (one, other) = two_histories(more);
        for (a, b) in [
            (one.path().to_owned(), other.path().to_owned()),
            (other.path().to_owned(), one.path().to_owned()),
            (one.path().to_owned(), other.path().join("checkpoint")),
            (other.path().join("checkpoint"), one.path().to_owned()),
        ] {
            let bytes = fork(&a, &b).to_bytes().unwrap();
            let forked = ForkProof::parse(&bytes).unwrap().check().unwrap();
            assert_eq!(forked.keys[0], forked.keys[1]);
            assert!(forked.words().starts_with("FORK: two signed heads, size"), "{}", forked.words());
            if a.is_dir() && b.is_dir() {
                assert_eq!(forked.entry, Some(3));
            }
            if let Some(said) = script(&bytes) {
                let said = said.unwrap();
                assert!(said.starts_with(&format!("FORK of {}: sizes ", forked.origin)), "{said}");
                assert!(said.trim_end().ends_with(&forked.keys[0]), "{said}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_a_fork_proof_is_refused() {
    let (one, other) = two_histories(4);
    for b in [other.path().to_owned(), other.path().join("checkpoint")] {
        let bytes = fork(one.path(), &b).to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let passes = ForkProof::parse(&changed).is_ok_and(|proof| proof.check().is_ok());
            assert!(!passes, "byte {at}");
        }
        // A script costs a process, so it gets a sample.
        for at in (0..bytes.len()).step_by(bytes.len() / 12) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Some(said) = script(&changed) {
                assert!(said.is_err(), "byte {at}: {said:?}");
            }
        }
    }
}

#[test]
fn one_history_cannot_be_made_to_look_like_a_fork() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(one.path(), 2);
    copy_folder(one.path(), other.path());
    log.append(&note("more"), &writer()).unwrap();
    let (forked, _) = two_histories(0);
    let head = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("checkpoint")).unwrap();
        custody::strict_json::escape_text(text.as_bytes())
    };
    let vkey =
        |folder: &Path| std::fs::read_to_string(folder.join("keys/log.vkey")).unwrap().trim().to_owned();
    let of = |a: &Path, b: &Path| {
        let value = serde_json::json!({
            "a": {"checkpoint": head(a), "vkey": vkey(a)}, "b": {"checkpoint": head(b), "vkey": vkey(b)},
            "format": "exhibit-fork-proof/1",
        });
        let line = custody::strict_json::to_line(&value).unwrap() + "\n";
        ForkProof::parse(line.as_bytes()).unwrap()
    };
    assert!(of(one.path(), one.path()).check().is_err(), "the same head twice");
    assert!(of(one.path(), other.path()).check().is_err(), "a log that grew");
    assert!(of(one.path(), forked.path()).check().is_err(), "two logs");
}

#[test]
fn a_log_that_does_not_verify_is_not_compared() {
    let (one, other) = two_histories(0);
    let path = one.path().join("custody.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("as it was", "as it is!")).unwrap();
    assert!(matches!(LogCopy::read(one.path()), Err(Error::LogBroken { .. })));
    assert!(LogCopy::read(&other.path().join("custody.jsonl")).is_err());
    assert!(LogCopy::read(&other.path().join("absent")).is_err());
}

#[test]
fn a_fork_against_memory_is_proved_in_logs_and_in_bundles() {
    let (one, other) = two_histories(4);
    let memory_file = tempfile::tempdir().unwrap();
    let path = memory_file.path().join("seen.json");
    let mut memory = Memory::default();
    let log = CustodyLog::open(other.path()).unwrap();
    let head = log.read().unwrap().checkpoint.unwrap();
    memory.remember(log.origin(), head.checkpoint.size, head.checkpoint.root, Some(head));
    memory.save(&path).unwrap();
    let memory = Memory::load(&path).unwrap();
    let proofs = forks_from_memory(one.path(), &memory).unwrap();
    assert_eq!(proofs.len(), 1);
    assert_eq!(proofs[0].check().unwrap().sizes, [4, 8]);
    if let Some(said) = script(&proofs[0].to_bytes().unwrap()) {
        said.unwrap();
    }
    assert!(forks_from_memory(other.path(), &memory).unwrap().is_empty());
}

#[test]
fn a_memory_is_kept_through_many_verifiers_at_once_and_never_when_something_is_broken() {
    let folders: Vec<TempDir> = (0..6).map(|_| tempfile::tempdir().unwrap()).collect();
    for folder in &folders {
        Recipe::default().make(folder.path());
    }
    let beside = tempfile::tempdir().unwrap();
    let path = beside.path().join("seen.json");
    std::thread::scope(|scope| {
        for folder in &folders {
            for _ in 0..3 {
                scope.spawn(|| {
                    let done = verify_remembering(folder.path(), &Options::default(), &path).unwrap();
                    assert!(done.is_intact());
                });
            }
        }
    });
    let memory = Memory::load(&path).unwrap();
    for folder in &folders {
        let origin = CustodyLog::open(folder.path()).unwrap().origin().to_owned();
        assert!(memory.of(&origin).unwrap().checkpoint.is_some(), "one was lost");
    }
    let good = std::fs::read(&path).unwrap();
    std::fs::write(folders[0].path().join("manifest.json"), "{}\n").unwrap();
    CustodyLog::open(folders[0].path()).unwrap().append(&note("grown"), &writer()).unwrap();
    assert!(!verify_remembering(folders[0].path(), &Options::default(), &path).unwrap().is_intact());
    assert_eq!(std::fs::read(&path).unwrap(), good);
    std::fs::write(&path, "{\"damaged\n").unwrap();
    let refused = verify_remembering(folders[1].path(), &Options::default(), &path).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"damaged\n");
}

#[test]
fn two_verifiers_of_two_histories_do_not_both_remember() {
    // Both begin before either has remembered: the slower one must still see the fork.
    let (one, other) = two_histories(1);
    let beside = tempfile::tempdir().unwrap();
    let path = beside.path().join("seen.json");
    let verdicts: Vec<bool> = std::thread::scope(|scope| {
        let each =
            [one.path(), other.path()].map(|folder| scope.spawn(|| verify_log_remembering(folder, &path)));
        each.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(verdicts.contains(&true) && verdicts.contains(&false), "{verdicts:?}");
}

fn verify_log_remembering(folder: &Path, path: &Path) -> bool {
    verify_remembering(folder, &Options::default(), path).unwrap().is_intact()
}

#[test]
fn remembered_exhibits_of_a_case_are_rolled_back_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = Recipe { after: vec![NewEntry::new(EntryType::TRANSFER_OFFERED)], ..Recipe::default() }
        .make(folder.path());
    let beside = tempfile::tempdir().unwrap();
    let path = beside.path().join("seen.json");
    let old = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), old.path());
    log.append(&note("later"), &writer()).unwrap();
    assert!(verify_remembering(folder.path(), &Options::default(), &path).unwrap().is_intact());
    let back = verify_remembering(old.path(), &Options::default(), &path).unwrap();
    assert_eq!(back.threats[3].words, "ROLLED BACK from 6 to 5");
    assert!(verify(old.path(), &Options::default()).unwrap().is_intact(), "only memory can tell");
}
