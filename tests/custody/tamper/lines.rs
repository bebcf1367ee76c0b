//! Entries edited, put in, taken out, moved and doubled, by one without a key and by one with the wrong one.

use custody::{EntryType, HOW_VKEY, SigningKey};
use serde_json::json;

use super::attack::{Attack, Class, Expected, below, class};
use super::forged_log::ForgedLog;
use super::made_case::{STRANGER, View};

pub(super) const CLASSES: &[Class] = &[
    class("T1", "an entry edited", 150, View::Bare, edited),
    class("T1", "an entry edited, and the chain made anew", 150, View::Bare, edited_and_chained),
    class("T1", "an entry edited, chain and frontier made anew", 100, View::Bare, edited_with_frontier),
    class("T1", "the last entry edited", 60, View::Bare, last_edited),
    class("T1", "an entry put in", 150, View::Bare, put_in),
    class("T1", "an entry of another log put in", 100, View::Bare, put_in_from_elsewhere),
    class("T1", "an entry put in, and the chain made anew", 100, View::Bare, put_in_and_chained),
    class("T1", "an entry taken out", 150, View::Bare, taken_out),
    class("T1", "an entry taken out, and the chain made anew", 100, View::Bare, taken_out_and_chained),
    class("T1", "two neighbours in each other's place", 100, View::Bare, neighbours_swapped),
    class("T1", "an entry moved", 100, View::Bare, moved),
    class("T1", "an entry doubled", 100, View::Bare, doubled),
    class("T1", "a range of entries turned round", 60, View::Bare, turned_round),
    class("T1", "an entry turned into another type", 60, View::Bare, another_type),
    class("T1", "edited, and all of it signed by a stranger", 100, View::Bare, signed_by_stranger),
    class("T1", "edited, and signed by a stranger who adds his key", 60, View::Bare, stranger_adds_himself),
    class("T1", "edited, newest checkpoint signed anew, kept ones left", 100, View::Bare, kept_ones_left),
];

/// Changes one character of the words of an entry to another, so that its spelling stays canonical.
fn edit(attack: &mut Attack<'_>, log: &mut ForgedLog, seq: usize) -> bool {
    let line = &mut log.lines[seq];
    let letters: Vec<usize> = (1..line.len().saturating_sub(1))
        .filter(|at| line[*at].is_ascii_alphanumeric() && line[at - 1].is_ascii_alphanumeric())
        .collect();
    let at = letters[attack.random.below(letters.len())];
    let old = line[at];
    line[at] = if old.is_ascii_digit() { b'0' + (old - b'0' + 1) % 10 } else { old ^ 1 };
    if !line[at].is_ascii_alphanumeric() {
        line[at] = old;
    }
    attack.also(format!("entry {seq} byte {at}"));
    log.lines[seq][at] != old
}

/// Changes what an entry says without touching what numbers and chains it.
fn reword(attack: &mut Attack<'_>, log: &mut ForgedLog, seq: usize) {
    let mut value = log.value(seq);
    let word = format!("J. Dot {}", attack.random.below(1000));
    match attack.random.below(4) {
        0 => value["actor"]["name"] = json!(word),
        1 => value["host"]["name"] = json!(word),
        2 => value["result"] = json!({ "text": word }),
        _ => value["tool"]["version"] = json!("0.1.1"),
    }
    log.set(seq, &value);
    attack.also(format!("entry {seq} reworded"));
}

fn any_entry(attack: &mut Attack<'_>, log: &ForgedLog) -> usize {
    attack.random.below(log.lines.len())
}

fn edited(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    if !edit(attack, &mut log, seq) {
        return Expected::Nothing;
    }
    log.write();
    Expected::entry(folder, seq)
}

fn last_edited(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = log.lines.len() - 1;
    reword(attack, &mut log, seq);
    log.write();
    Expected::entry(folder, seq)
}

/// Where the first root that no longer fits is found: the entry before the first checkpoint after the change.
fn first_root_after(log: &ForgedLog, seq: usize) -> usize {
    let kept = log.kept().into_iter().map(|size| size as usize);
    let original = ForgedLog::read(&log.folder).lines.len();
    kept.chain([original]).filter(|size| *size > seq).min().unwrap_or(original) - 1
}

/// The root that does not fit, wherever the changed log still reaches it.
fn root_after(folder: &str, log: &ForgedLog, seq: usize) -> Expected {
    Expected::entry(folder, first_root_after(log, seq)).or(below(folder, "custody.jsonl"), None)
}

fn edited_and_chained(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    reword(attack, &mut log, seq);
    log.chain_from(seq + 1);
    let expected = Expected::entry(folder, first_root_after(&log, seq));
    log.write();
    expected.words("do not give the root signed in")
}

fn edited_with_frontier(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    reword(attack, &mut log, seq);
    log.chain_from(seq + 1);
    let expected = Expected::entry(folder, first_root_after(&log, seq));
    log.write();
    log.write_frontier();
    expected.words("do not give the root signed in")
}

fn put_in(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    let line = log.note_like(seq, "all was in order");
    log.lines.insert(seq, line);
    attack.also(format!("before {seq}"));
    log.write();
    Expected::entry(folder, seq).or(below(folder, "custody.jsonl"), Some(seq.saturating_sub(1)))
}

fn put_in_from_elsewhere(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let other = ForgedLog::read(&attack.made.other.join(folder));
    let seq = any_entry(attack, &log);
    log.lines.insert(seq, other.lines[seq].clone());
    attack.also(format!("before {seq}"));
    log.write();
    Expected::entry(folder, seq)
        .or(below(folder, "custody.jsonl"), Some(seq + 1))
        .or(below(folder, "custody.jsonl"), Some(seq.saturating_sub(1)))
}

fn put_in_and_chained(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    let expected = root_after(folder, &log, seq);
    let line = log.note_like(seq, "all was in order");
    log.lines.insert(seq, line);
    log.chain_from(seq);
    attack.also(format!("before {seq}"));
    log.write();
    log.write_frontier();
    expected.words("root signed in")
}

fn taken_out(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    let last = log.lines.len() - 1;
    log.lines.remove(seq);
    attack.also(format!("entry {seq}"));
    log.write();
    if seq == last {
        return Expected::entry(folder, last).words("TRUNCATED");
    }
    Expected::entry(folder, seq)
}

fn taken_out_and_chained(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.within(1..log.lines.len());
    // The introduction of a key taken out, what it signed is no longer believed; roots are.
    log.lines.remove(seq);
    log.chain_from(seq);
    attack.also(format!("entry {seq}"));
    log.write();
    log.write_frontier();
    Expected::entry(folder, log.lines.len()).or(below(folder, "custody.jsonl"), None)
}

fn neighbours_swapped(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.below(log.lines.len() - 1);
    log.lines.swap(seq, seq + 1);
    attack.also(format!("entry {seq}"));
    log.write();
    Expected::entry(folder, seq)
}

fn moved(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let (from, to) = (any_entry(attack, &log), any_entry(attack, &log));
    if from == to {
        return Expected::Nothing;
    }
    let line = log.lines.remove(from);
    log.lines.insert(to, line);
    attack.also(format!("entry {from} to {to}"));
    log.write();
    Expected::entry(folder, from.min(to))
}

fn doubled(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.below(log.lines.len() - 1);
    log.lines.insert(seq + 1, log.lines[seq].clone());
    attack.also(format!("entry {seq}"));
    log.write();
    Expected::entry(folder, seq + 1)
}

fn turned_round(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let from = attack.random.below(log.lines.len() - 1);
    let to = attack.random.within(from + 2..log.lines.len() + 1);
    log.lines[from..to].reverse();
    attack.also(format!("entries {from} to {to}"));
    log.write();
    Expected::entry(folder, from)
}

fn another_type(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    let all = EntryType::ALL;
    let kind = &all[attack.random.below(all.len())];
    let mut value = log.value(seq);
    if value["type"] == json!(kind.as_str()) {
        return Expected::Nothing;
    }
    value["type"] = json!(kind.as_str());
    log.set(seq, &value);
    attack.also(format!("entry {seq} to {kind}"));
    log.write();
    Expected::entry(folder, seq)
}

fn signed_by_stranger(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = any_entry(attack, &log);
    reword(attack, &mut log, seq);
    log.chain_from(seq + 1);
    log.forge(&STRANGER);
    Expected::fault(below(folder, "checkpoint")).words("no signature on it verifies under a key of the log")
}

fn stranger_adds_himself(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.within(1..log.lines.len());
    reword(attack, &mut log, seq);
    let mut added = log.value(log.lines.len() - 1);
    let key: &SigningKey = &STRANGER;
    let at = log.lines.len();
    let fields = added.as_object_mut().unwrap();
    fields.remove("result");
    fields.insert("type".into(), json!("key.added"));
    fields.insert("how".into(), json!({ HOW_VKEY: key.verifying_key().to_vkey(&log.origin) }));
    log.lines.push(custody::strict_json::to_line(&added).unwrap().into_bytes());
    log.chain_from(seq + 1);
    attack.also(format!("key.added at {at}"));
    log.forge(&STRANGER);
    Expected::fault(below(folder, "checkpoint")).words("outside the entries it may sign for")
}

fn kept_ones_left(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let newest_kept = log.kept().into_iter().max().unwrap() as usize;
    let seq = attack.random.below(newest_kept);
    reword(attack, &mut log, seq);
    log.chain_from(seq + 1);
    let expected = root_after(folder, &log, seq);
    log.write();
    log.write_frontier();
    // The real key, stolen.
    log.sign(&crate::support::KEY);
    expected.words("root signed in")
}
