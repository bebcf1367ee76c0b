//! The 18 threats: each is found where it was done, and none is said to be held that was not looked for.

use std::path::Path;

use custody::verify::{Memory, Options, ThreatState, Verification, verify};
use custody::{CustodyLog, EntryType, FixedClock, NewEntry, Writer};

use crate::support::{
    KEY, Recipe, anchor_with_witness, check, copy_folder, faults, identity, log_with, note, writer,
};

fn threat<'a>(done: &'a Verification, id: &str) -> (ThreatState, &'a str) {
    let found = done.threats.iter().find(|threat| threat.id == id).unwrap();
    (found.state, &found.words)
}

fn ids(done: &Verification, state: ThreatState) -> Vec<&'static str> {
    done.threats.iter().filter(|threat| threat.state == state).map(|threat| threat.id).collect()
}

fn change(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} does not hold {from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn of_a_good_bundle_all_18_are_told_and_what_only_others_can_show_is_not_claimed() {
    let folder = tempfile::tempdir().unwrap();
    Recipe::default().make(folder.path());
    let done = check(folder.path());
    let all: Vec<String> = (1..=18).map(|n| format!("T{n}")).collect();
    assert_eq!(done.threats.iter().map(|threat| threat.id).collect::<Vec<_>>(), all);
    assert_eq!(ids(&done, ThreatState::Found), Vec::<&str>::new(), "{}", faults(&done));
    assert_eq!(ids(&done, ThreatState::NotProved), ["T2", "T4", "T5", "T6", "T7", "T8", "T11"]);
    assert_eq!(threat(&done, "T8").1, "0 anchors independent of presenter: internal consistency only");
    let json = serde_json::to_value(&done).unwrap();
    assert_eq!(json["threats"][1]["id"], "T2");
    assert_eq!(json["threats"][1]["state"], "not_proved");
}

#[test]
fn an_altered_entry_and_a_line_in_another_spelling_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    log_with(folder.path(), 4);
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path());
    change(folder.path(), "custody.jsonl", "note 1", "note 7");
    let done = verify(folder.path(), &Options::default()).unwrap();
    assert_eq!(threat(&done, "T1").0, ThreatState::Found);
    assert!(threat(&done, "T1").1.starts_with("ALTERED entry 2: "), "{}", threat(&done, "T1").1);
    assert_eq!(done.faults[0].threat, "T1");
    change(copy.path(), "custody.jsonl", "\"note 1\"", " \"note 1\"");
    let done = verify(copy.path(), &Options::default()).unwrap();
    assert!(threat(&done, "T13").1.starts_with("NON-CANONICAL line 2: "), "{}", threat(&done, "T13").1);
}

#[test]
fn a_log_without_its_head_or_with_another_logs_papers_has_the_wrong_genesis() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    log_with(folder.path(), 3);
    log_with(other.path(), 3);
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path());
    let path = folder.path().join("custody.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.split_once('\n').unwrap().1).unwrap();
    let done = check(folder.path());
    assert_eq!(threat(&done, "T3").0, ThreatState::Found, "{}", faults(&done));
    assert!(threat(&done, "T3").1.starts_with("WRONG GENESIS"));
    std::fs::copy(other.path().join("keys/log.vkey"), copy.path().join("keys/log.vkey")).unwrap();
    let done = check(copy.path());
    assert!(threat(&done, "T3").1.starts_with("WRONG GENESIS"), "{}", faults(&done));
}

#[test]
fn a_memory_shows_a_roll_back_and_only_with_it_is_none_claimed() {
    let (folder, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(folder.path(), 3);
    copy_folder(folder.path(), old.path());
    log.append(&note("more"), &writer()).unwrap();
    let mut memory = Memory::default();
    let first = verify(folder.path(), &Options { memory: memory.clone(), ..Options::default() }).unwrap();
    assert_eq!(threat(&first, "T4").0, ThreatState::NotProved);
    first.remember(&mut memory);
    let options = Options { memory, ..Options::default() };
    log.append(&note("again more"), &writer()).unwrap();
    let grown = verify(folder.path(), &options).unwrap();
    assert_eq!(threat(&grown, "T4").0, ThreatState::Held, "{}", threat(&grown, "T4").1);
    assert_eq!(threat(&grown, "T5").0, ThreatState::Held);
    let done = verify(old.path(), &options).unwrap();
    assert_eq!(threat(&done, "T4"), (ThreatState::Found, "ROLLED BACK from 5 to 4"));
}

#[test]
fn two_signed_heads_that_disagree_are_a_fork_and_not_a_mere_change() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(folder.path(), 2);
    copy_folder(folder.path(), other.path());
    let offer = |text: &str| NewEntry::new(EntryType::TRANSFER_OFFERED).how("text", text);
    log.append(&offer("one"), &writer()).unwrap();
    log.append(&note("later"), &writer()).unwrap();
    CustodyLog::open(other.path()).unwrap().append(&offer("two"), &writer()).unwrap();
    std::fs::copy(other.path().join("checkpoints/00000004"), folder.path().join("checkpoints/00000004"))
        .unwrap();
    let done = check(folder.path());
    let (state, words) = threat(&done, "T5");
    assert_eq!(state, ThreatState::Found, "{}", faults(&done));
    assert!(words.starts_with("FORK: two signed heads, size 4, different root"), "{words}");
}

#[test]
fn an_anchor_that_counts_is_named_and_what_follows_it_is_called_open() {
    let folder = tempfile::tempdir().unwrap();
    let log = Recipe::default().make(folder.path());
    anchor_with_witness(&log);
    let mut options = Options::default();
    options.trust.push(
        custody::verify::TrustedKey::parse(
            &crate::support::WITNESS.verifying_key().to_vkey("witness.example/w1"),
        )
        .unwrap(),
    );
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(threat(&done, "T8").0, ThreatState::Held, "{}", faults(&done));
    let (state, words) = threat(&done, "T2");
    assert_eq!(state, ThreatState::NotProved);
    assert!(words.starts_with("OPEN: complete only up to last anchor 4"), "{words}");
}

#[test]
fn acts_without_an_end_gaps_and_a_clock_set_back_are_told() {
    const HOUR: i64 = 3_600_000_000_000;
    let folder = tempfile::tempdir().unwrap();
    let at = |ns: i64| FixedClock::at(1_795_224_600_000_000_000 + ns);
    let clocks = [at(0), at(14 * HOUR), at(15 * HOUR), at(13 * HOUR)];
    let with = |n: usize| Writer::new(&*KEY, &clocks[n], identity());
    let log = CustodyLog::create(folder.path(), NewEntry::new(EntryType::LOG_GENESIS), &with(0)).unwrap();
    log.append(&NewEntry::new(EntryType::ACQUIRE_START), &with(1)).unwrap();
    log.append(&note("still reading"), &with(2)).unwrap();
    log.append(&note("earlier?"), &with(3)).unwrap();
    let done = verify(folder.path(), &Options::default()).unwrap();
    let (state, words) = threat(&done, "T11");
    assert_eq!(
        (state, words),
        (ThreatState::Found, "UNFINISHED act seq 1 (acquire.start); GAP 14 h after entry 0")
    );
    let (state, words) = threat(&done, "T7");
    assert_eq!(state, ThreatState::Found);
    assert!(words.starts_with("the clock was set back by 2 h before entry 3"), "{words}");
}

#[test]
fn torn_bytes_are_named_with_their_hash() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    let path = folder.path().join("custody.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend([b'x'; 61]);
    std::fs::write(&path, text).unwrap();
    let open = verify(folder.path(), &Options::default()).unwrap();
    assert!(threat(&open, "T10").1.starts_with("UNSIGNED TAIL: 0 entries and 61 torn bytes"));
    log.append(&note("after the crash"), &writer()).unwrap();
    let done = verify(folder.path(), &Options::default()).unwrap();
    let hash = custody::sha256(&[b'x'; 61]);
    assert_eq!(
        threat(&done, "T10"),
        (ThreatState::Found, format!("RECOVERED: 61 torn bytes kept, hash {hash} (entry 3)").as_str())
    );
}

#[test]
fn nothing_is_held_of_a_folder_without_a_readable_log() {
    let folder = tempfile::tempdir().unwrap();
    Recipe::default().make(folder.path());
    std::fs::write(folder.path().join("custody.jsonl"), "no log\n").unwrap();
    std::fs::write(folder.path().join("keys/log.vkey"), "no key\n").unwrap();
    let done = check(folder.path());
    assert!(!ids(&done, ThreatState::Found).is_empty());
    assert_eq!(ids(&done, ThreatState::Held), Vec::<&str>::new());
}
