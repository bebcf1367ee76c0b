//! Entries dropped from the end, older copies shown as today's, other histories, other beginnings.

use custody::verify::Level;
use custody::{EntryType, NewEntry};
use serde_json::json;

use super::attack::{Attack, Class, Expected, below, class, files_of};
use super::forged_log::ForgedLog;
use super::made_case::{LOGS, PLAIN, STRANGER, View, open};
use crate::support::{KEY, copy_folder, note, writer};

const INSIDE_ONLY: &str = "everything inside was made to agree, with the log's own key or an older state of it; only what \
                           somebody else keeps can tell";

pub(super) const CLASSES: &[Class] = &[
    class("T2", "tail cut, the rest left", 150, View::Bare, cut),
    class("T2", "tail cut, frontier made anew", 150, View::Bare, cut_with_frontier),
    class("T2", "tail cut within a line", 100, View::Bare, cut_within_a_line),
    class("T2", "tail cut, newest checkpoint gone", 100, View::Bare, cut_and_checkpoint_removed),
    class("T2", "tail cut to a kept checkpoint, later ones left", 100, View::Bare, cut_to_kept_leaving_later),
    class("T2", "tail cut neatly, an anchor file left", 60, View::Bare, neat_cut_leaving_anchor),
    class("T2", "tail cut neatly to a kept checkpoint", 60, View::Bare, neat_cut).missable(INSIDE_ONLY),
    class("T2", "tail cut neatly, with the first key trusted", 60, View::Trusting, neat_cut_trusted)
        .missable(INSIDE_ONLY),
    class("T2", "tail cut neatly, against a copy kept elsewhere", 100, View::Outside, neat_cut_outside),
    class("T2", "tail cut neatly, against memory", 100, View::Remembering, neat_cut_remembered),
    class("T2", "any k entries cut and signed with the stolen key", 60, View::Bare, signed_cut)
        .missable(INSIDE_ONLY),
    class("T2", "the same, against a copy kept elsewhere", 100, View::Outside, signed_cut_outside),
    class("T2", "the same, against memory", 100, View::Remembering, signed_cut_remembered),
    class("T2", "a bundle's seal cut away, the case's log left", 60, View::Bare, seal_cut_away),
    class("T3", "head dropped", 60, View::Bare, head_dropped),
    class("T3", "head dropped, the rest chained anew", 60, View::Bare, head_dropped_and_chained),
    class("T3", "head dropped, all signed with the stolen key", 60, View::Bare, head_dropped_and_signed),
    class("T3", "first entry of another log", 60, View::Bare, genesis_of_another),
    class("T3", "first key's file of another log", 40, View::Bare, vkey_of_another),
    class("T3", "a bundle's whole log of another bundle", 40, View::Bare, log_of_another),
    class("T3", "the case's whole log of another case", 40, View::Bare, case_log_of_another),
    class("T4", "an older copy of the case", 40, View::Bare, older_case).missable(INSIDE_ONLY),
    class("T4", "an older copy of the case, against memory", 60, View::Remembering, older_case_remembered),
    class(
        "T4",
        "an older copy of the case, against a copy kept elsewhere",
        60,
        View::Outside,
        older_case_outside,
    ),
    class(
        "T4",
        "an older copy of one bundle, against memory",
        60,
        View::Remembering,
        older_bundle_remembered,
    ),
    class("T5", "another history, against memory", 100, View::Remembering, fork_remembered),
    class("T5", "another history, against a copy kept elsewhere", 100, View::Outside, fork_outside),
    class("T5", "another history, an anchor file of the first left", 60, View::Bare, fork_leaving_anchor),
    class("T5", "another history", 60, View::Bare, fork).missable(INSIDE_ONLY),
    class("T5", "a checkpoint of another history put among the kept", 60, View::Bare, fork_checkpoint_kept),
    class("T5", "two writers' entries under one number", 60, View::Bare, two_of_one_number),
];

fn keep(attack: &mut Attack<'_>, log: &mut ForgedLog) -> usize {
    let size = attack.random.within(1..log.lines.len());
    log.lines.truncate(size);
    attack.also(format!("cut to {size}"));
    size
}

fn cut(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let size = keep(attack, &mut log);
    log.write();
    truncated(folder, size)
}

/// TRUNCATED is found by the checkpoint that a key still known signed.
fn truncated(folder: &str, size: usize) -> Expected {
    Expected::entry(folder, size).words("TRUNCATED")
}

fn cut_with_frontier(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let size = keep(attack, &mut log);
    log.write();
    log.write_frontier();
    truncated(folder, size)
}

fn cut_within_a_line(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let file = below(folder, "custody.jsonl");
    let bytes = attack.read(&file);
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let at = attack.random.within(first + 2..bytes.len());
    attack.also(format!("cut to byte {at}"));
    attack.write(&file, &bytes[..at]);
    let whole = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
    truncated(folder, whole)
}

fn cut_and_checkpoint_removed(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    keep(attack, &mut log);
    log.write();
    log.write_frontier();
    attack.remove(&below(folder, "checkpoint"));
    Expected::fault(below(folder, "checkpoint"))
}

/// Cuts to one of the kept sizes but the last, and makes that checkpoint the newest.
fn cut_to_kept(attack: &mut Attack<'_>, folder: &str) -> Option<(ForgedLog, usize)> {
    let mut log = ForgedLog::read(&attack.path(folder));
    let sizes: Vec<u64> = log.kept().into_iter().filter(|size| (*size as usize) < log.lines.len()).collect();
    let size = *sizes.get(attack.random.below(sizes.len()))?;
    log.lines.truncate(size as usize);
    attack.also(format!("cut to {size}"));
    log.write();
    log.write_frontier();
    std::fs::copy(log.kept_path(size), log.folder.join("checkpoint")).unwrap();
    Some((log, size as usize))
}

fn cut_to_kept_leaving_later(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let Some((log, size)) = cut_to_kept(attack, folder) else { return Expected::Nothing };
    if log.kept().into_iter().max() == Some(size as u64) {
        return Expected::Nothing;
    }
    truncated(folder, size)
}

/// Cuts so that nothing inside tells: kept checkpoints, anchors and what recovery kept aside go too.
fn cut_neatly(attack: &mut Attack<'_>, folder: &str) -> Option<usize> {
    let (log, size) = cut_to_kept(attack, folder)?;
    log.forget_kept_above(size as u64);
    forget_what_came_later(&log);
    Some(size)
}

fn forget_what_came_later(log: &ForgedLog) {
    let said = log.lines.concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    for file in files_of(&log.folder) {
        let named = said.contains(&format!("\"id\":\"{file}\""));
        if (file.starts_with("anchors/") || file.starts_with("custody.torn.")) && !named {
            std::fs::remove_file(log.folder.join(file)).unwrap();
        }
    }
    // Exhibits that the case then never got.
    if let Ok(exhibits) = std::fs::read_dir(log.folder.join("exhibits")) {
        for exhibit in exhibits.map(|item| item.unwrap().path()) {
            let name = exhibit.file_name().unwrap().to_str().unwrap();
            if !said.contains(&format!("\"folder\":\"{name}\"")) {
                std::fs::remove_dir_all(&exhibit).unwrap();
            }
        }
    }
}

/// Of a bundle, so that its seal stays; of the case, anything.
fn neatly(attack: &mut Attack<'_>) -> Option<(&'static str, usize)> {
    let folder = attack.any_log();
    let size = cut_neatly(attack, folder)?;
    Some((folder, size))
}

fn neat_cut_leaving_anchor(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.random.one_of(&["", PLAIN]);
    let Some((log, size)) = cut_to_kept(attack, folder) else { return Expected::Nothing };
    log.forget_kept_above(size as u64);
    let anchor = below(folder, "anchors/witness-1");
    if String::from_utf8_lossy(&log.lines.concat()).contains("anchors/witness-1") {
        return Expected::Nothing;
    }
    Expected::fault(anchor)
}

fn neat_cut(attack: &mut Attack<'_>) -> Expected {
    if neatly(attack).is_none() {
        return Expected::Nothing;
    }
    Expected::vouched_by_nobody(Level::Consistent)
}

fn neat_cut_trusted(attack: &mut Attack<'_>) -> Expected {
    if neatly(attack).is_none() {
        return Expected::Nothing;
    }
    Expected::vouched_by_nobody(Level::Signed)
}

fn neat_cut_outside(attack: &mut Attack<'_>) -> Expected {
    neatly(attack).map_or(Expected::Nothing, |(folder, size)| truncated(folder, size))
}

fn neat_cut_remembered(attack: &mut Attack<'_>) -> Expected {
    neatly(attack)
        .map_or(Expected::Nothing, |(folder, size)| Expected::entry(folder, size).words("ROLLED BACK"))
}

/// Cuts any number of entries but the seal, and signs what is left.
fn cut_and_sign(attack: &mut Attack<'_>) -> Option<(&'static str, usize)> {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let least = log.all_of(&EntryType::BUNDLE_SEALED).last().copied().unwrap_or(0) + 1;
    if least >= log.lines.len() {
        return None;
    }
    let size = attack.random.within(least..log.lines.len());
    log.lines.truncate(size);
    attack.also(format!("cut to {size} and signed"));
    log.forge(&KEY);
    forget_what_came_later(&log);
    Some((folder, size))
}

fn signed_cut(attack: &mut Attack<'_>) -> Expected {
    cut_and_sign(attack).map_or(Expected::Nothing, |_| Expected::vouched_by_nobody(Level::Consistent))
}

fn signed_cut_outside(attack: &mut Attack<'_>) -> Expected {
    cut_and_sign(attack).map_or(Expected::Nothing, |(folder, size)| truncated(folder, size))
}

fn signed_cut_remembered(attack: &mut Attack<'_>) -> Expected {
    cut_and_sign(attack)
        .map_or(Expected::Nothing, |(folder, size)| Expected::entry(folder, size).words("ROLLED BACK"))
}

fn seal_cut_away(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.random.one_of(&LOGS[1..]);
    let mut log = ForgedLog::read(&attack.path(folder));
    let seal = log.all_of(&EntryType::BUNDLE_SEALED)[0];
    let size = attack.random.within(1..seal + 1);
    log.lines.truncate(size);
    attack.did = format!("{folder} cut to {size}");
    log.forge(&KEY);
    forget_what_came_later(&log);
    Expected::fault(below(folder, "custody.jsonl")).or(below(folder, "manifest.json"), None).words("seal")
}

fn head_dropped(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let gone = attack.random.within(1..log.lines.len());
    log.lines.drain(..gone);
    attack.also(format!("first {gone}"));
    log.write();
    Expected::entry(folder, 0)
}

fn head_dropped_and_chained(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let gone = attack.random.within(1..log.lines.len());
    log.lines.drain(..gone);
    log.chain_from(0);
    attack.also(format!("first {gone}"));
    log.write();
    log.write_frontier();
    Expected::entry(folder, 0)
}

fn head_dropped_and_signed(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let gone = attack.random.within(1..log.lines.len());
    log.lines.drain(..gone);
    log.chain_from(0);
    attack.also(format!("first {gone}"));
    log.forge(&KEY);
    Expected::entry(folder, 0)
}

fn genesis_of_another(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let from = attack.random.one_of(&LOGS);
    let other = ForgedLog::read(&attack.made.other.join(from));
    log.lines[0] = other.lines[0].clone();
    match attack.random.below(3) {
        0 => {}
        1 => log.chain_from(1),
        _ => {
            log.chain_from(1);
            log.write_frontier();
            log.sign(&KEY);
            log.sign_kept(&KEY);
        }
    }
    attack.also(format!("of {from:?}"));
    log.write();
    Expected::entry(folder, 0)
}

fn vkey_of_another(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let from = attack.random.one_of(&LOGS);
    let file = below(folder, "keys/log.vkey");
    let vkey = match attack.random.below(2) {
        0 => std::fs::read(attack.made.other.join(from).join("keys/log.vkey")).unwrap(),
        _ => {
            let origin = ForgedLog::read(&attack.path(folder)).origin;
            format!("{}\n", STRANGER.verifying_key().to_vkey(&origin)).into_bytes()
        }
    };
    attack.also(format!("of {from:?}"));
    attack.write(&file, vkey);
    Expected::fault(file)
}

/// The files that make a log, and no others.
fn replace_log(attack: &Attack<'_>, folder: &str, from: &std::path::Path) {
    for part in ["checkpoints", "anchors"] {
        let into = attack.path(&below(folder, part));
        let _ = std::fs::remove_dir_all(&into);
        std::fs::create_dir_all(&into).unwrap();
        copy_folder(&from.join(part), &into);
    }
    for file in ["custody.jsonl", "custody.frontier", "checkpoint", "keys/log.vkey"] {
        std::fs::copy(from.join(file), attack.path(&below(folder, file))).unwrap();
    }
}

fn log_of_another(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.random.one_of(&LOGS[1..]);
    let from = attack.made.other.join(attack.random.one_of(&LOGS[1..]));
    attack.did = format!("{folder} gets {from:?}");
    replace_log(attack, folder, &from);
    Expected::fault(below(folder, "manifest.json"))
}

fn case_log_of_another(attack: &mut Attack<'_>) -> Expected {
    let from = attack.made.other.clone();
    replace_log(attack, "", &from);
    for file in files_of(&from).into_iter().filter(|file| file.starts_with("custody.torn.")) {
        std::fs::copy(from.join(&file), attack.path(&file)).unwrap();
    }
    Expected::fault("case.json")
}

/// Shows the case as it was.
fn go_back(attack: &mut Attack<'_>) -> ForgedLog {
    let nth = attack.random.below(attack.made.earlier.len());
    attack.did = format!("as it was at moment {nth}");
    std::fs::remove_dir_all(&attack.case).unwrap();
    copy_folder(&attack.made.earlier[nth], &attack.case);
    ForgedLog::read(&attack.case)
}

fn older_case(attack: &mut Attack<'_>) -> Expected {
    go_back(attack);
    Expected::vouched_by_nobody(Level::Consistent)
}

fn older_case_remembered(attack: &mut Attack<'_>) -> Expected {
    let log = go_back(attack);
    Expected::entry("", log.lines.len()).words("ROLLED BACK")
}

fn older_case_outside(attack: &mut Attack<'_>) -> Expected {
    let log = go_back(attack);
    truncated("", log.lines.len())
}

fn older_bundle_remembered(attack: &mut Attack<'_>) -> Expected {
    attack.did = format!("{PLAIN} as it was at first");
    std::fs::remove_dir_all(attack.path(PLAIN)).unwrap();
    copy_folder(&attack.made.earlier[0].join(PLAIN), &attack.path(PLAIN));
    let log = ForgedLog::read(&attack.path(PLAIN));
    Expected::entry(PLAIN, log.lines.len()).words("ROLLED BACK")
}

/// From an older state on, the owner of the key writes another history, as long as the first or longer.
fn other_history(attack: &mut Attack<'_>, folder: &str) -> usize {
    let mut log = ForgedLog::read(&attack.path(folder));
    let whole = log.lines.len();
    let least = log.all_of(&EntryType::BUNDLE_SEALED).last().copied().unwrap_or(0) + 1;
    let from = attack.random.within(least..whole);
    log.lines.truncate(from);
    log.forge(&KEY);
    forget_what_came_later(&log);
    let more = attack.random.below(5);
    attack.also(format!("another history from {from} on, {more} longer"));
    let written = open(&log.folder);
    for nth in 0..whole - from + more {
        let entry = match attack.random.below(3) {
            0 => NewEntry::new(EntryType::TRANSFER_OFFERED).how("to", "nobody"),
            _ => note(&format!("another history {nth}")),
        };
        written.append(&entry, &writer()).unwrap();
    }
    whole
}

fn fork_remembered(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let whole = other_history(attack, folder);
    Expected::entry(folder, whole - 1).words("FORK")
}

fn fork_outside(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let whole = other_history(attack, folder);
    Expected::entry(folder, whole - 1).words("FORK")
}

fn fork(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    other_history(attack, folder);
    Expected::vouched_by_nobody(Level::Consistent)
}

/// The witness's file stays, and an entry of the new history still names it.
fn fork_leaving_anchor(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.random.one_of(&["", PLAIN]);
    let mut log = ForgedLog::read(&attack.path(folder));
    let anchor = log.all_of(&EntryType::ANCHOR_MADE)[0];
    let seq = attack.random.within(1..anchor);
    let mut value = log.value(seq);
    value["actor"]["name"] = json!("J. Dot");
    log.set(seq, &value);
    log.chain_from(seq + 1);
    attack.did = format!("log {folder:?}, entry {seq} reworded, all signed anew");
    log.forge(&KEY);
    Expected::fault(below(folder, "anchors/witness-1")).or(below(folder, "custody.jsonl"), None).words("FORK")
}

fn fork_checkpoint_kept(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.below(log.lines.len());
    let size = attack.random.within(seq + 1..log.lines.len() + 1);
    let mut value = log.value(seq);
    value["actor"]["name"] = json!("J. Dot");
    log.set(seq, &value);
    log.chain_from(seq + 1);
    std::fs::write(log.kept_path(size as u64), log.checkpoint(size, &KEY).note.to_text()).unwrap();
    attack.also(format!("size {size}"));
    Expected::entry(folder, size - 1).or(below(folder, &format!("checkpoints/{size:08}")), None)
}

fn two_of_one_number(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.within(1..log.lines.len() - 1);
    let line = log.note_like(seq, "the other writer");
    log.lines.insert(seq + 1, line);
    attack.also(format!("two entries {seq}"));
    // Chained as each writer saw it: both to the entry before, what follows to the second.
    log.write();
    Expected::entry(folder, seq + 1).or(below(folder, "custody.jsonl"), Some(seq))
}
