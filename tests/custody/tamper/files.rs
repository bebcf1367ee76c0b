//! Files damaged by disks and people: every file of a case, in every way a file can be wrong.

use std::os::unix::ffi::OsStrExt as _;

use custody::strict_json::escape_text;
use custody::verify::Level;

use super::attack::{Attack, Class, Expected, class, files_of};
use super::forged_log::ForgedLog;
use super::made_case::{LOCKED, PLAIN, View};
use crate::support::{KEY, copy_folder};

pub(super) const CLASSES: &[Class] = &[
    class("T16", "a bit flipped anywhere", 2500, View::Bare, bit_flipped),
    class("T16", "several bytes overwritten", 300, View::Bare, overwritten),
    class("T16", "a block of zeros", 200, View::Bare, zeroed),
    class("T16", "a byte lost", 200, View::Bare, byte_lost),
    class("T16", "a byte too many", 200, View::Bare, byte_too_many),
    class("T16", "a file cut short", 300, View::Bare, cut_short),
    class("T16", "a file with something behind its end", 150, View::Bare, lengthened),
    class("T16", "a file gone", 120, View::Bare, gone),
    class("T16", "two files in each other's place", 200, View::Bare, swapped),
    class("T12", "a file of another case in its place", 150, View::Bare, of_another_case),
    class("T12", "a file of the other exhibit in its place", 100, View::Bare, of_another_exhibit),
    class("T12", "an exhibit of another case in its place", 20, View::Bare, exhibit_of_another_case),
    class("T12", "the two exhibits in each other's folder", 4, View::Bare, exhibits_swapped),
    class("T12", "an exhibit doubled under another number", 20, View::Bare, exhibit_doubled),
    class(
        "T12",
        "an exhibit under another number, by the owner of the key",
        10,
        View::Bare,
        exhibit_renumbered,
    ),
    class(
        "T12",
        "an exhibit of a case of another name, by the owner of the key",
        10,
        View::Bare,
        case_renamed,
    ),
    class("T12", "an exhibit taken away", 10, View::Bare, exhibit_gone),
    class("T17", "a file that nothing lists", 150, View::Bare, unlisted),
    class("T17", "a file with a hostile name", 150, View::Bare, hostile_name),
    class("T17", "a link in the place of a file", 120, View::Bare, link),
    class("T17", "a pipe in the place of a file", 120, View::Bare, pipe),
    class("T17", "a folder in the place of a file", 120, View::Bare, folder),
    class("T17", "an endless file in the place of a small one", 100, View::Bare, endless),
    class("T17", "a folder that is a link to another place", 60, View::Bare, linked_folder),
    class("T17", "folders hundreds deep", 20, View::Bare, deep),
];

/// A checkpoint of several signers fits without the last of them, which must be noted.
fn of_several_signers(file: &str, before: &[u8]) -> Option<Expected> {
    let lines = String::from_utf8_lossy(before).lines().filter(|line| line.starts_with('\u{2014}')).count();
    (file.contains("checkpoint") && lines > 1).then(|| Expected::FaultOrNote { file: file.to_owned() })
}

/// What an append may leave behind and what is no part of the evidence.
fn fault_in(file: &str, at: usize, before: &[u8]) -> Expected {
    if let Some(expected) = of_several_signers(file, before) {
        return expected;
    }
    if !file.ends_with("custody.jsonl") {
        return Expected::fault(file);
    }
    let line = before[..at.min(before.len())].iter().filter(|byte| **byte == b'\n').count();
    Expected::Fault { places: vec![(file.to_owned(), Some(line as u64))], words: "" }
}

fn bit_flipped(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let before = attack.read(&file);
    let at = attack.random.below(before.len());
    let mut bytes = before.clone();
    bytes[at] ^= 1 << attack.random.below(8);
    attack.also(format!("byte {at}"));
    attack.write(&file, &bytes);
    fault_in(&file, at, &before)
}

fn overwritten(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let before = attack.read(&file);
    let at = attack.random.below(before.len());
    let end = (at + 1 + attack.random.below(40)).min(before.len());
    let mut bytes = before.clone();
    let rubbish = attack.random.bytes(end - at);
    bytes[at..end].copy_from_slice(&rubbish);
    if bytes == before {
        return Expected::Nothing;
    }
    attack.also(format!("bytes {at} to {end}"));
    let before = attack.read(&file);
    attack.write(&file, &bytes);
    of_several_signers(&file, &before).unwrap_or_else(|| Expected::fault(file))
}

fn zeroed(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let mut bytes = attack.read(&file);
    let at = attack.random.below(bytes.len()) / 512 * 512;
    let end = (at + 512).min(bytes.len());
    bytes[at..end].fill(0);
    attack.also(format!("bytes {at} to {end}"));
    let before = attack.read(&file);
    attack.write(&file, &bytes);
    of_several_signers(&file, &before).unwrap_or_else(|| Expected::fault(file))
}

fn byte_lost(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let mut bytes = attack.read(&file);
    let at = attack.random.below(bytes.len());
    bytes.remove(at);
    attack.also(format!("byte {at}"));
    let before = attack.read(&file);
    attack.write(&file, &bytes);
    of_several_signers(&file, &before).unwrap_or_else(|| Expected::fault(file))
}

fn byte_too_many(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let mut bytes = attack.read(&file);
    let at = attack.random.below(bytes.len());
    bytes.insert(at, attack.random.next() as u8);
    attack.also(format!("byte {at}"));
    let before = attack.read(&file);
    attack.write(&file, &bytes);
    of_several_signers(&file, &before).unwrap_or_else(|| Expected::fault(file))
}

fn cut_short(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let bytes = attack.read(&file);
    let at = attack.random.below(bytes.len());
    attack.also(format!("to {at} bytes"));
    attack.write(&file, &bytes[..at]);
    Expected::fault(file)
}

fn lengthened(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let mut bytes = attack.read(&file);
    let length = attack.random.within(1..600);
    match attack.random.below(3) {
        0 => bytes.extend(attack.random.bytes(length)),
        1 => bytes.resize(bytes.len() + length, 0),
        _ => bytes.extend(bytes.clone()),
    }
    attack.also(format!("by {length}"));
    attack.write(&file, &bytes);
    if file.ends_with("custody.jsonl") {
        // What stands behind the last signed entry is an unsigned tail.
        return Expected::Noted { at_most: Level::Consistent, words: "UNSIGNED TAIL" };
    }
    Expected::fault(file)
}

fn gone(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    attack.remove(&file);
    Expected::fault(file)
}

fn swapped(attack: &mut Attack<'_>) -> Expected {
    let (one, two) = (attack.any_file(), attack.any_file());
    let (of_one, of_two) = (attack.read(&one), attack.read(&two));
    if of_one == of_two {
        return Expected::Nothing;
    }
    attack.did = format!("{one} and {two}");
    attack.write(&one, of_two);
    attack.write(&two, of_one);
    Expected::fault(one).or(two, None)
}

fn of_another_case(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let Ok(theirs) = std::fs::read(attack.made.other.join(&file)) else { return Expected::Nothing };
    if theirs == attack.read(&file) {
        return Expected::Nothing;
    }
    attack.write(&file, theirs);
    Expected::fault(file)
}

fn of_another_exhibit(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    let Some(other) = file
        .strip_prefix(PLAIN)
        .map(|rest| format!("{LOCKED}{rest}"))
        .or_else(|| file.strip_prefix(LOCKED).map(|rest| format!("{PLAIN}{rest}")))
    else {
        return Expected::Nothing;
    };
    let Ok(theirs) = std::fs::read(attack.path(&other)) else { return Expected::Nothing };
    if theirs == attack.read(&file) {
        return Expected::Nothing;
    }
    attack.write(&file, theirs);
    Expected::fault(file)
}

fn exhibit_of_another_case(attack: &mut Attack<'_>) -> Expected {
    let exhibit = attack.random.one_of(&[PLAIN, LOCKED]);
    attack.did = exhibit.to_owned();
    std::fs::remove_dir_all(attack.path(exhibit)).unwrap();
    copy_folder(&attack.made.other.join(exhibit), &attack.path(exhibit));
    Expected::fault(format!("{exhibit}/manifest.json"))
}

fn exhibits_swapped(attack: &mut Attack<'_>) -> Expected {
    std::fs::rename(attack.path(PLAIN), attack.path("aside")).unwrap();
    std::fs::rename(attack.path(LOCKED), attack.path(PLAIN)).unwrap();
    std::fs::rename(attack.path("aside"), attack.path(LOCKED)).unwrap();
    Expected::fault(format!("{PLAIN}/manifest.json"))
}

fn exhibit_doubled(attack: &mut Attack<'_>) -> Expected {
    let exhibit = attack.random.one_of(&[PLAIN, LOCKED]);
    let name = format!("exhibits/E{:03}-copy", attack.random.within(3..30));
    attack.did = format!("{exhibit} as {name}");
    copy_folder(&attack.path(exhibit), &attack.path(&name));
    Expected::fault(name)
}

/// The case's log is made to tell of it as if it had always been there.
fn exhibit_renumbered(attack: &mut Attack<'_>) -> Expected {
    let exhibit = attack.random.one_of(&[PLAIN, LOCKED]);
    let (old, name) = exhibit.rsplit_once('/').unwrap().1.split_once('-').unwrap();
    let new = format!("E{:03}", attack.random.within(3..100));
    attack.did = format!("{old} as {new}");
    let folder = format!("exhibits/{new}-{name}");
    std::fs::rename(attack.path(exhibit), attack.path(&folder)).unwrap();
    let mut log = ForgedLog::read(&attack.case);
    log.drop_anchors();
    for line in &mut log.lines {
        let said = String::from_utf8(line.clone()).unwrap();
        *line = said.replace(&format!("\"{old}"), &format!("\"{new}")).into_bytes();
    }
    log.chain_from(0);
    log.forge(&KEY);
    Expected::fault(format!("{folder}/manifest.json")).words("of exhibit")
}

fn case_renamed(attack: &mut Attack<'_>) -> Expected {
    let text = String::from_utf8(attack.read("case.json")).unwrap();
    let name = format!("ir-2026-{:03}", 100 + attack.random.below(800));
    let text = text.replace("ir-2026-017", &name);
    attack.did = name;
    attack.write("case.json", &text);
    let mut log = ForgedLog::read(&attack.case);
    log.drop_anchors();
    let mut genesis = log.value(0);
    genesis["subject"][0]["sha256"] = custody::sha256(text.as_bytes()).to_string().into();
    log.set(0, &genesis);
    log.chain_from(0);
    log.forge(&KEY);
    Expected::fault(format!("{PLAIN}/manifest.json")).words("of the case")
}

fn exhibit_gone(attack: &mut Attack<'_>) -> Expected {
    let exhibit = attack.random.one_of(&[PLAIN, LOCKED]);
    attack.did = exhibit.to_owned();
    std::fs::remove_dir_all(attack.path(exhibit)).unwrap();
    Expected::fault(exhibit)
}

/// Any folder but those that are not looked into.
fn any_folder(attack: &mut Attack<'_>) -> String {
    let mut folders: Vec<String> = attack
        .files()
        .iter()
        .filter_map(|file| Some(file.rsplit_once('/')?.0.to_owned()))
        .chain(["".to_owned(), "exhibits".to_owned()])
        .collect();
    folders.sort();
    folders.dedup();
    let at = attack.random.below(folders.len());
    folders.swap_remove(at)
}

fn within(folder: &str, name: &str) -> String {
    super::attack::below(folder, name)
}

fn unlisted(attack: &mut Attack<'_>) -> Expected {
    let folder = any_folder(attack);
    let name = attack.random.one_of(&[
        "notes.txt",
        "custody.extra",
        "custody.jsonl.bak",
        "checkpoint.old",
        "00000099",
        "000009.zst",
        "x.tsr",
        ".hidden",
        "manifest.json.sig2",
        "E009",
        "log.vkey2",
    ]);
    let file = within(&folder, name);
    if attack.path(&file).exists() {
        return Expected::Nothing;
    }
    attack.did = file.clone();
    let length = attack.random.below(2000);
    let bytes = attack.random.bytes(length);
    attack.write(&file, bytes);
    Expected::fault(file)
}

fn hostile_name(attack: &mut Attack<'_>) -> Expected {
    let folder = any_folder(attack);
    let names: [&[u8]; 10] = [
        b"a\nb",
        b"\x1b[2J\x1b[1;31mOK",
        b"\xff\xfe",
        b"manifest.json ",
        b"Checkpoint",
        b"..\\..\\etc",
        b"<script>alert(1)",
        b"$(reboot)",
        b"custody.jsonl\r",
        "custody\u{200b}.jsonl".as_bytes(),
    ];
    let name = attack.random.one_of(&names);
    let path = attack.path(&folder).join(std::ffi::OsStr::from_bytes(name));
    std::fs::write(path, b"x").unwrap();
    let file = within(&folder, &escape_text(name));
    attack.did = file.clone();
    Expected::fault(file)
}

fn link(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    attack.remove(&file);
    // To the very same bytes, elsewhere.
    std::os::unix::fs::symlink(attack.made.case.join(&file), attack.path(&file)).unwrap();
    Expected::fault(file)
}

fn pipe(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    attack.remove(&file);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, attack.path(&file), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    Expected::fault(file)
}

fn folder(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    attack.remove(&file);
    std::fs::create_dir(attack.path(&file)).unwrap();
    if attack.random.below(2) == 0 {
        attack.write(&format!("{file}/{}", file.rsplit('/').next().unwrap()), b"x");
    }
    Expected::fault(file)
}

/// Files that are read whole must be small; this one is 40 GiB of nothing.
fn endless(attack: &mut Attack<'_>) -> Expected {
    let file = attack.any_file();
    // These are evidence, as long as they are, or are read through like it.
    let read_through =
        ["custody.jsonl", ".zst", ".age", ".tsv", "catalog.jsonl", "VERIFY.md", "signer.pub.pem"];
    if read_through.iter().any(|end| file.ends_with(end)) {
        return Expected::Nothing;
    }
    if file.ends_with("keys/log.vkey") && !file.starts_with("keys/") {
        return Expected::Nothing;
    }
    let sparse = std::fs::OpenOptions::new().write(true).open(attack.path(&file)).unwrap();
    sparse.set_len(40 << 30).unwrap();
    Expected::fault(file)
}

fn linked_folder(attack: &mut Attack<'_>) -> Expected {
    let folders = [
        "checkpoints",
        "anchors",
        "keys",
        "exhibits/E001-disk",
        "exhibits/E001-disk/data",
        "exhibits/E001-disk/data/disk",
        "exhibits/E001-disk/checkpoints",
        "exhibits/E001-disk/anchors",
        "exhibits/E001-disk/keys",
        "exhibits",
    ];
    let name = attack.random.one_of(&folders);
    attack.did = name.to_owned();
    std::fs::remove_dir_all(attack.path(name)).unwrap();
    std::os::unix::fs::symlink(attack.made.case.join(name), attack.path(name)).unwrap();
    Expected::fault(name)
}

fn deep(attack: &mut Attack<'_>) -> Expected {
    let folder =
        attack.random.one_of(&["exhibits/E001-disk/data", "exhibits/E002-memory", "exhibits/E001-disk/keys"]);
    let mut name = folder.to_owned();
    for _ in 0..attack.random.within(100..400) {
        name.push_str("/d");
    }
    attack.did = format!("{} bytes of path", name.len());
    let file = format!("{name}/x");
    attack.write(&file, b"x");
    assert!(files_of(&attack.case).contains(&file));
    Expected::fault(file)
}
