//! Keys, clocks, crashes, and what people with a key can write that fits together.

use std::io::Write as _;

use custody::verify::Level;
use custody::{EntryType, HOW_VKEY, NewEntry, SignedNote, SigningKey, sha256};
use serde_json::json;

use super::attack::{Attack, Class, Expected, below, class};
use super::forged_log::ForgedLog;
use super::made_case::{PLAIN, RETIRED, STRANGER, View, open};
use crate::support::{KEY, OTHER_KEY, note, writer};

const ONE_CLOCK: &str = "the host's clock is a claim: moved as a whole it agrees with itself; only time stamps of others bound it";
const NO_LOG: &str = "what was never written cannot be seen in what was";

pub(super) const CLASSES: &[Class] = &[
    class("T6", "the newest checkpoint signed by a revoked key", 40, View::Bare, signed_by_revoked),
    class("T6", "a kept checkpoint signed by a key that came later", 60, View::Bare, signed_before_it_came),
    class("T6", "a checkpoint signed by a stranger", 100, View::Bare, signed_by_stranger),
    class("T6", "the manifest signed by another key", 60, View::Bare, manifest_signature),
    class("T6", "another key as the manifest's signer", 40, View::Bare, another_signer),
    class("T6", "an entry in the name of a key that the log has not", 100, View::Bare, unknown_writer),
    class("T6", "an entry in the name of a key before it came", 60, View::Bare, writer_before_it_came),
    class("T6", "an entry in the name of a key after it was revoked", 100, View::Bare, writer_after_revoked),
    class("T6", "a key added that nobody vouches for", 60, View::Bare, nobody_vouches),
    class("T6", "any entry reworded, all signed with the stolen key", 100, View::Bare, rewritten)
        .missable("who has the log's key can write it anew; only what was kept elsewhere before can tell"),
    class("T6", "the same, against a copy kept elsewhere", 150, View::Outside, rewritten_outside),
    class("T6", "the same, against memory", 150, View::Remembering, rewritten_remembered),
    class("T7", "a time set back, all signed with the stolen key", 150, View::Bare, set_back),
    class("T7", "a time set forward, all signed with the stolen key", 150, View::Bare, set_forward),
    class("T7", "all times moved alike, signed with the stolen key", 30, View::Bare, all_moved)
        .missable(ONE_CLOCK),
    class("T8", "the case made anew with the stolen key", 10, View::Trusting, made_anew)
        .missable("bundle and log agree with each other; only what somebody else keeps is not replaced"),
    class(
        "T8",
        "the case made anew with the stolen key, against a copy",
        10,
        View::Outside,
        made_anew_outside,
    )
    .missable("the new log has another random name, so that no copy of the old one is of it; it is noted"),
    class("T9", "lines of two writers run together", 60, View::Bare, run_together),
    class("T9", "one writer's log with another's checkpoint", 60, View::Bare, another_writers_checkpoint),
    class("T10", "a torn line at the end", 100, View::Bare, torn_tail),
    class("T10", "whole lines of rubbish at the end", 60, View::Bare, rubbish_tail),
    class("T10", "an entry at the end that was never signed", 60, View::Bare, unsigned_entry),
    class("T10", "an unsigned entry that the next append took in", 60, View::Bare, unsigned_taken_in),
    class("T10", "killed between line and checkpoint", 60, View::Bare, killed_before_checkpoint),
    class("T10", "temporary files left over", 60, View::Bare, left_over),
    class("T10", "torn bytes kept aside, changed", 60, View::Bare, kept_bytes_changed),
    class("T10", "torn bytes that no entry tells of", 40, View::Bare, kept_bytes_unknown),
    class("T11", "an act that was never written", 10, View::Bare, never_written).missable(NO_LOG),
    class("T14", "a time stamp that cannot be read, recorded and signed", 60, View::Bare, rubbish_stamp),
    class("T15", "a witness's signature over something else", 60, View::Witnessed, moved_cosignature),
    class("T15", "a witness's name with a stranger's signature", 60, View::Witnessed, forged_cosignature),
    class("T18", "a signature line of nobody known", 60, View::Bare, unknown_line),
];

fn re_sign(attack: &Attack<'_>, file: &str, key: &SigningKey) {
    let bytes = attack.read(file);
    let note = SignedNote::parse(&bytes).unwrap();
    let origin = note.text().lines().next().unwrap().to_owned();
    attack.write(file, SignedNote::sign(note.text(), &origin, key).unwrap().to_text());
}

fn signed_by_revoked(attack: &mut Attack<'_>) -> Expected {
    re_sign(attack, "checkpoint", &RETIRED);
    Expected::fault("checkpoint").words("outside the entries it may sign for")
}

fn signed_before_it_came(attack: &mut Attack<'_>) -> Expected {
    let log = ForgedLog::read(&attack.case);
    let came = log.all_of(&EntryType::KEY_ADDED)[0] as u64;
    let kept: Vec<u64> = log.kept().into_iter().filter(|size| *size <= came).collect();
    let size = attack.random.one_of(&kept);
    let file = format!("checkpoints/{size:08}");
    attack.did = file.clone();
    re_sign(attack, &file, &OTHER_KEY);
    Expected::fault(file).words("outside the entries it may sign for")
}

fn signed_by_stranger(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut files: Vec<String> = ForgedLog::read(&attack.path(folder))
        .kept()
        .into_iter()
        .map(|size| format!("checkpoints/{size:08}"))
        .collect();
    files.push("checkpoint".to_owned());
    let file = below(folder, &files[attack.random.below(files.len())]);
    attack.did = file.clone();
    re_sign(attack, &file, &STRANGER);
    Expected::fault(file)
}

fn manifest_signature(attack: &mut Attack<'_>) -> Expected {
    let file = format!("{PLAIN}/manifest.json.sig");
    let key = attack.random.one_of(&[&*STRANGER, &*OTHER_KEY, &*RETIRED]);
    attack.write(&file, key.sign(&attack.read(&format!("{PLAIN}/manifest.json"))));
    Expected::fault(file)
}

fn another_signer(attack: &mut Attack<'_>) -> Expected {
    let file = format!("{PLAIN}/keys/signer.pub.pem");
    let key = attack.random.one_of(&[&*STRANGER, &*OTHER_KEY]);
    attack.write(&file, key.verifying_key().to_pem().unwrap());
    Expected::fault(file)
}

/// Changes one entry, and signs everything with the log's first key, which was stolen.
fn forged(attack: &mut Attack<'_>, folder: &str, seq: usize, change: impl FnOnce(&mut serde_json::Value)) {
    let mut log = ForgedLog::read(&attack.path(folder));
    log.drop_anchors();
    log.chain_from(0);
    let mut value = log.value(seq);
    change(&mut value);
    log.set(seq, &value);
    log.chain_from(seq + 1);
    attack.also(format!("entry {seq}"));
    log.forge(&KEY);
}

fn size_of(attack: &Attack<'_>, folder: &str) -> usize {
    ForgedLog::read(&attack.path(folder)).lines.len()
}

fn unknown_writer(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let seq = attack.random.within(1..size_of(attack, folder));
    let key = STRANGER.verifying_key().fingerprint();
    forged(attack, folder, seq, |entry| entry["actor"]["key"] = json!(key));
    Expected::entry(folder, seq).words("OUTSIDE ITS WINDOW")
}

fn writer_before_it_came(attack: &mut Attack<'_>) -> Expected {
    let came = ForgedLog::read(&attack.case).all_of(&EntryType::KEY_ADDED)[0];
    let seq = attack.random.within(1..came);
    let key = OTHER_KEY.verifying_key().fingerprint();
    forged(attack, "", seq, |entry| entry["actor"]["key"] = json!(key));
    Expected::entry("", seq).words("OUTSIDE ITS WINDOW")
}

fn writer_after_revoked(attack: &mut Attack<'_>) -> Expected {
    let log = ForgedLog::read(&attack.case);
    let revoked = log.all_of(&EntryType::KEY_REVOKED)[0];
    let seq = attack.random.within(revoked + 1..log.lines.len());
    let key = RETIRED.verifying_key().fingerprint();
    forged(attack, "", seq, |entry| entry["actor"]["key"] = json!(key));
    Expected::entry("", seq).words("OUTSIDE ITS WINDOW")
}

fn nobody_vouches(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let log = ForgedLog::read(&attack.path(folder));
    let least = log.all_of(&EntryType::BUNDLE_SEALED).last().copied().unwrap_or(1);
    let seq = attack.random.within(least + 1..log.lines.len() + 1).min(log.lines.len() - 1);
    let vkey = STRANGER.verifying_key().to_vkey(&log.origin);
    forged(attack, folder, seq, |entry| {
        let fields = entry.as_object_mut().unwrap();
        fields.insert("type".into(), json!("key.added"));
        fields.insert("how".into(), json!({ HOW_VKEY: vkey }));
    });
    // From there on the stranger signs.
    let log = ForgedLog::read(&attack.path(folder));
    for size in log.kept().into_iter().filter(|size| *size as usize > seq) {
        std::fs::write(log.kept_path(size), log.checkpoint(size as usize, &STRANGER).note.to_text()).unwrap();
    }
    log.sign(&STRANGER);
    Expected::fault(below(folder, "checkpoint"))
}

fn reworded(attack: &mut Attack<'_>) -> (&'static str, usize) {
    let folder = attack.any_log();
    let seq = attack.random.below(size_of(attack, folder));
    forged(attack, folder, seq, |entry| entry["host"]["name"] = json!("web02"));
    (folder, seq)
}

fn rewritten(attack: &mut Attack<'_>) -> Expected {
    reworded(attack);
    Expected::vouched_by_nobody(Level::Consistent)
}

fn rewritten_outside(attack: &mut Attack<'_>) -> Expected {
    let (folder, _) = reworded(attack);
    Expected::entry(folder, size_of(attack, folder) - 1).words("FORK")
}

fn rewritten_remembered(attack: &mut Attack<'_>) -> Expected {
    rewritten_outside(attack)
}

fn set_back(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let seq = attack.random.within(1..size_of(attack, folder));
    let year = 2000 + attack.random.below(26);
    forged(attack, folder, seq, |entry| {
        entry["time"]["wall"] = json!(format!("{year}-05-01T00:00:00.000000000Z"));
    });
    Expected::Noted { at_most: Level::Consistent, words: "the clock went back at entry" }
}

fn set_forward(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let seq = attack.random.below(size_of(attack, folder) - 1);
    let year = 2027 + attack.random.below(60);
    forged(attack, folder, seq, |entry| {
        entry["time"]["wall"] = json!(format!("{year}-05-01T00:00:00.000000000Z"));
    });
    Expected::Noted { at_most: Level::Consistent, words: "the clock went back at entry" }
}

fn all_moved(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    log.drop_anchors();
    for seq in 0..log.lines.len() {
        let mut value = log.value(seq);
        let wall = value["time"]["wall"].as_str().unwrap().replacen("2026", "2024", 1);
        value["time"]["wall"] = json!(wall);
        log.set(seq, &value);
    }
    log.chain_from(0);
    log.forge(&KEY);
    Expected::vouched_by_nobody(Level::Consistent)
}

/// The other case is what the owner of the key would make: the same names, another story.
fn show_the_other(attack: &Attack<'_>) {
    std::fs::remove_dir_all(&attack.case).unwrap();
    crate::support::copy_folder(&attack.made.other, &attack.case);
}

fn made_anew(attack: &mut Attack<'_>) -> Expected {
    show_the_other(attack);
    Expected::vouched_by_nobody(Level::Signed)
}

fn made_anew_outside(attack: &mut Attack<'_>) -> Expected {
    show_the_other(attack);
    Expected::vouched_by_nobody(Level::Consistent).words("is of a log that is here")
}

fn run_together(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.below(log.lines.len() - 1);
    let other = log.note_like(seq, "the other writer");
    let at = attack.random.below(log.lines[seq].len());
    attack.also(format!("entry {seq} byte {at}"));
    log.lines[seq].splice(at..at, other);
    log.write();
    Expected::entry(folder, seq)
}

fn another_writers_checkpoint(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let last = log.lines.len() - 1;
    let mine = log.lines[last].clone();
    log.lines[last] = log.note_like(last, "the other writer");
    log.sign(&KEY);
    log.lines[last] = mine;
    // A last entry after which a checkpoint is kept would be found by that one too.
    log.write();
    Expected::entry(folder, last).words("root signed in")
}

fn append_bytes(attack: &Attack<'_>, folder: &str, bytes: &[u8]) {
    let path = attack.path(&below(folder, "custody.jsonl"));
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

const UNSIGNED: Expected = Expected::Noted { at_most: Level::Consistent, words: "UNSIGNED TAIL" };

fn torn_tail(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let log = ForgedLog::read(&attack.path(folder));
    let line = log.note_like(log.lines.len() - 1, "never finished");
    let bytes = match attack.random.below(2) {
        0 => line[..attack.random.within(1..line.len())].to_vec(),
        _ => {
            let length = attack.random.within(1..5000);
            attack.random.bytes(length).into_iter().filter(|byte| *byte != b'\n').collect()
        }
    };
    append_bytes(attack, folder, &bytes);
    UNSIGNED
}

fn rubbish_tail(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    for _ in 0..attack.random.within(1..5) {
        let length = attack.random.below(300);
        let mut bytes = attack.random.bytes(length);
        bytes.push(b'\n');
        append_bytes(attack, folder, &bytes);
    }
    UNSIGNED
}

/// Puts an entry behind the checkpoint as one does who has the files and no key.
fn put_behind(attack: &mut Attack<'_>, folder: &str) {
    let mut log = ForgedLog::read(&attack.path(folder));
    let last = log.lines.len() - 1;
    let line = log.note_like(last, "everybody agreed");
    log.lines.push(line);
    log.chain_from(last + 1);
    log.write();
}

fn unsigned_entry(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    put_behind(attack, folder);
    UNSIGNED
}

fn unsigned_taken_in(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    put_behind(attack, folder);
    open(&attack.path(folder)).append(&note("goes on"), &writer()).unwrap();
    Expected::Noted { at_most: Level::Consistent, words: "was signed by nobody" }
}

fn killed_before_checkpoint(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let old = ["checkpoint", "custody.frontier"].map(|file| (file, attack.read(&below(folder, file))));
    let kind = attack.random.one_of(&[EntryType::NOTE.as_str(), EntryType::TRANSFER_OFFERED.as_str()]);
    let kind: EntryType = serde_json::from_value(json!(kind)).unwrap();
    let log = open(&attack.path(folder));
    let keeps = kind.keeps_checkpoint();
    let appended = log.append(&NewEntry::new(kind).how("to", "nobody"), &writer()).unwrap();
    let back = attack.random.within(1..3);
    for (file, bytes) in old.iter().take(back) {
        attack.write(&below(folder, file), bytes);
    }
    let kept = below(folder, &format!("checkpoints/{:08}", appended.seq + 1));
    if keeps && attack.random.below(2) == 0 && back == 2 {
        attack.remove(&kept);
    } else if keeps {
        // The kept checkpoint signs for the entry already.
        return Expected::Noted { at_most: Level::Consistent, words: "0 anchors" };
    }
    UNSIGNED
}

fn left_over(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let name = attack.random.one_of(&["custody.checkpoint.tmp", "custody.frontier.tmp", "custody.kept.tmp"]);
    let length = attack.random.below(500);
    let bytes = attack.random.bytes(length);
    attack.write(&below(folder, name), bytes);
    Expected::Noted { at_most: Level::Consistent, words: "left over" }
}

fn kept_bytes_changed(attack: &mut Attack<'_>) -> Expected {
    let file = attack.files().into_iter().find(|file| file.starts_with("custody.torn.")).unwrap();
    let mut bytes = attack.read(&file);
    let at = attack.random.below(bytes.len());
    bytes[at] ^= 1 << attack.random.below(8);
    attack.did = format!("{file} byte {at}");
    attack.write(&file, bytes);
    Expected::fault(file)
}

fn kept_bytes_unknown(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let seq = attack.random.below(size_of(attack, folder));
    let file = below(folder, &format!("custody.torn.{seq:08}.{}", attack.random.within(1..9)));
    attack.did = file.clone();
    attack.write(&file, b"half an entry");
    Expected::fault(file)
}

fn never_written(attack: &mut Attack<'_>) -> Expected {
    let file = format!("{PLAIN}/VERIFY.md");
    let _ = attack.read(&file);
    attack.did = "a file was read and nobody said so".to_owned();
    Expected::vouched_by_nobody(Level::Consistent)
}

/// Stores a file in anchors/, with an entry that names it, all by the book.
fn rubbish_stamp(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let length = attack.random.within(1..3000);
    let mut bytes = attack.random.bytes(length);
    if attack.random.below(2) == 0 {
        bytes.splice(0..0, [0x30, 0x82]);
    }
    let log = open(&attack.path(folder));
    log.append_anchor("stamp.tsr", &bytes, NewEntry::new(EntryType::ANCHOR_MADE), &writer()).unwrap();
    Expected::Noted { at_most: Level::Consistent, words: "anchors/stamp.tsr" }
}

/// The case without anchors of its own, and a note of the witness that vouches for something else.
fn with_anchor(attack: &mut Attack<'_>, note: &SignedNote) -> Expected {
    for folder in super::made_case::LOGS {
        let mut log = ForgedLog::read(&attack.path(folder));
        if !log.all_of(&EntryType::ANCHOR_MADE).is_empty() {
            log.drop_anchors();
            log.chain_from(0);
            log.forge(&KEY);
        }
    }
    let bytes = note.to_text();
    let log = open(&attack.case);
    log.append_anchor("witness-2", bytes.as_bytes(), NewEntry::new(EntryType::ANCHOR_MADE), &writer())
        .unwrap();
    Expected::vouched_by_nobody(Level::Consistent)
}

fn moved_cosignature(attack: &mut Attack<'_>) -> Expected {
    let old = SignedNote::parse(&attack.read("anchors/witness-1")).unwrap();
    let newest = String::from_utf8(attack.read("checkpoint")).unwrap();
    let line = old.to_text().lines().last().unwrap().to_owned();
    let note = SignedNote::parse(format!("{newest}{line}\n").as_bytes()).unwrap();
    attack.did = "the witness's line under a newer checkpoint".to_owned();
    // The log is written anew, so that the checkpoint of the note is no longer of it either.
    match with_anchor(attack, &note) {
        Expected::Noted { .. } => Expected::entry("", note_size(&note) - 1).words("FORK"),
        other => other,
    }
}

fn note_size(note: &SignedNote) -> usize {
    note.text().lines().nth(1).unwrap().parse().unwrap()
}

fn forged_cosignature(attack: &mut Attack<'_>) -> Expected {
    let mut log = ForgedLog::read(&attack.case);
    log.drop_anchors();
    log.chain_from(0);
    let mut signed = log.checkpoint(log.lines.len(), &KEY);
    signed.note.add_signature("witness.example/w1", &*STRANGER).unwrap();
    let length = attack.random.below(4);
    attack.did = format!("a stranger's line, variant {length}");
    let expected = with_anchor(attack, &signed.note);
    let _ = sha256(b"");
    expected
}

fn unknown_line(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let file = below(folder, "checkpoint");
    let mut note = SignedNote::parse(&attack.read(&file)).unwrap();
    let name = format!("witness.example/{}", attack.random.below(1000));
    note.add_signature(&name, &*STRANGER).unwrap();
    attack.write(&file, note.to_text());
    Expected::Noted { at_most: Level::Consistent, words: "carries a signature by witness.example/" }
}
