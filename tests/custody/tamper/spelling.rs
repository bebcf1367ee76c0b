//! One value spelled in two ways: lines, tables of the log and checkpoints that another reader would read otherwise.
//!
//! All of it is signed anew with the log's own key, so that nothing but the spelling is wrong.

use super::attack::{Attack, Class, Expected, below, class};
use super::forged_log::ForgedLog;
use super::made_case::View;
use crate::support::KEY;

pub(super) const CLASSES: &[Class] = &[
    class("T13", "an entry in another spelling, signed", 800, View::Bare, entry),
    class("T13", "an entry with a field that cannot be, signed", 300, View::Bare, field),
    class("T13", "case.json in another spelling, signed", 60, View::Bare, case_file),
    class("T13", "a checkpoint in another spelling", 200, View::Bare, checkpoint),
    class("T13", "the first key's file in another spelling", 40, View::Bare, vkey),
    class("T13", "the frontier in another spelling", 60, View::Bare, frontier),
];

type Respell = fn(&mut Attack<'_>, &str) -> Vec<u8>;

/// Each gives the line with the same or nearly the same meaning.
const SPELLINGS: &[(&str, Respell)] = &[
    ("a space after the brace", |_, line| line.replacen('{', "{ ", 1).into_bytes()),
    ("a space after a colon", |a, line| at_one(a, line, "\":", "\": ")),
    ("a space after a comma", |a, line| at_one(a, line, ",\"", ", \"")),
    ("a space behind", |_, line| format!("{line} ").into_bytes()),
    ("a space before", |_, line| format!(" {line}").into_bytes()),
    ("a tab behind", |_, line| format!("{line}\t").into_bytes()),
    ("a carriage return behind", |_, line| format!("{line}\r").into_bytes()),
    ("a byte order mark", |_, line| format!("\u{feff}{line}").into_bytes()),
    ("a key twice, the same value", |_, line| line.replacen("\"v\":1", "\"v\":1,\"v\":1", 1).into_bytes()),
    ("a key twice, another value first", |_, line| line.replacen('{', "{\"type\":\"note\",", 1).into_bytes()),
    ("a key twice, another value last", |_, line| {
        format!("{},\"v\":2}}", line.strip_suffix('}').unwrap()).into_bytes()
    }),
    ("keys out of order", |_, line| {
        let rest = line.replacen(",\"v\":1", "", 1);
        rest.replacen('{', "{\"v\":1,", 1).into_bytes()
    }),
    ("a letter as an escape", |_, line| line.replacen("\"exhibit", "\"\\u0065xhibit", 1).into_bytes()),
    ("a letter of a key as an escape", |_, line| line.replacen("\"v\":", "\"\\u0076\":", 1).into_bytes()),
    ("a slash escaped", |_, line| line.replacen("0.1.0", "0.1.0\\/", 1).into_bytes()),
    ("one as 1.0", |_, line| line.replacen("\"v\":1", "\"v\":1.0", 1).into_bytes()),
    ("one as 1e0", |_, line| line.replacen("\"v\":1", "\"v\":1e0", 1).into_bytes()),
    ("one as 10E-1", |_, line| line.replacen("\"v\":1", "\"v\":10E-1", 1).into_bytes()),
    ("one as 01", |_, line| line.replacen("\"v\":1", "\"v\":01", 1).into_bytes()),
    ("one as +1", |_, line| line.replacen("\"v\":1", "\"v\":+1", 1).into_bytes()),
    ("zero as -0", |_, line| line.replacen("\"tz_min\":0", "\"tz_min\":-0", 1).into_bytes()),
    ("an integer that JSON readers round", |_, line| {
        line.replacen("\"v\":1", "\"v\":9007199254740993", 1).into_bytes()
    }),
    ("an integer of forty digits", |_, line| {
        line.replacen("\"v\":1", &format!("\"v\":1{}", "0".repeat(40)), 1).into_bytes()
    }),
    ("an infinite number", |_, line| line.replacen("\"v\":1", "\"v\":1e999", 1).into_bytes()),
    ("NaN", |_, line| line.replacen("\"v\":1", "\"v\":NaN", 1).into_bytes()),
    ("a null", |_, line| line.replacen("\"v\":1", "\"u\":null,\"v\":1", 1).into_bytes()),
    ("bytes that are not UTF-8", |_, line| with_bytes(line, &[0xff])),
    ("an overlong letter", |_, line| with_bytes(line, &[0xc0, 0xaf])),
    ("half a surrogate pair", |_, line| with_bytes(line, b"\\ud800")),
    ("a tab within a text", |_, line| with_bytes(line, b"\t")),
    ("a NUL within a text", |_, line| with_bytes(line, &[0])),
    ("a DEL within a text", |_, line| with_bytes(line, &[0x7f])),
    ("an escaped control character", |_, line| with_bytes(line, b"\\u0007")),
    ("an escaped line feed", |_, line| with_bytes(line, b"\\n")),
    ("a key that is not ASCII", |_, line| line.replacen("\"v\":1", "\"v\":1,\"v\u{e9}\":1", 1).into_bytes()),
    ("a comma before the end", |_, line| line.replacen("\"v\":1}", "\"v\":1,}", 1).into_bytes()),
    ("a comment", |_, line| line.replacen('{', "{/**/", 1).into_bytes()),
    ("single quotes", |_, line| line.replacen("\"v\":1", "'v':1", 1).into_bytes()),
    ("a text of its own behind", |_, line| format!("{line}{{}}").into_bytes()),
    ("a list around it", |_, line| format!("[{line}]").into_bytes()),
    ("an empty line", |_, _| Vec::new()),
    ("a text", |_, _| b"\"note\"".to_vec()),
    ("hundreds of brackets", |_, _| [b"[".repeat(500), b"]".repeat(500)].concat()),
    ("UTF-16", |_, line| {
        line.encode_utf16().flat_map(u16::to_le_bytes).filter(|byte| *byte != b'\n').collect()
    }),
    ("more than 65,535 bytes", |_, line| with_bytes(line, &b"x".repeat(70_000))),
    ("an upper-case hash", |_, line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let prev = value["prev"].as_str().unwrap();
        line.replacen(prev, &prev.to_uppercase(), 1).into_bytes()
    }),
];

fn at_one(attack: &mut Attack<'_>, line: &str, what: &str, with: &str) -> Vec<u8> {
    let places: Vec<usize> = line.match_indices(what).map(|(at, _)| at).collect();
    let at = places[attack.random.below(places.len())];
    let (before, after) = line.split_at(at);
    format!("{before}{with}{}", after.strip_prefix(what).unwrap_or(after)).into_bytes()
}

/// Puts bytes into the text that says what host it was.
fn with_bytes(line: &str, bytes: &[u8]) -> Vec<u8> {
    let at = line.find("\"name\":\"").map_or(1, |at| at + 8);
    [&line.as_bytes()[..at], bytes, &line.as_bytes()[at..]].concat()
}

fn entry(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.within(1..log.lines.len());
    let nth = attack.random.below(SPELLINGS.len());
    replace(attack, folder, &mut log, seq, SPELLINGS[nth])
}

const FIELDS: &[(&str, Respell)] = &[
    ("no type", |_, line| without(line, "type")),
    ("no number", |_, line| without(line, "seq")),
    ("no hash of the line before", |_, line| without(line, "prev")),
    ("no id", |_, line| without(line, "id")),
    ("no time", |_, line| without(line, "time")),
    ("no version", |_, line| without(line, "v")),
    ("the number as a text", |_, line| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["seq"] = value["seq"].to_string().into();
        value.to_string().into_bytes()
    }),
    ("a negative number", |_, line| with(line, "seq", (-1).into())),
    ("a list as type", |_, line| with(line, "type", serde_json::json!(["note"]))),
    ("a short hash", |_, line| with(line, "prev", "00".into())),
    ("a hash that is no hex", |_, line| with(line, "prev", "zz".repeat(32).into())),
    ("an empty time", |_, line| wall(line, "")),
    ("a time in words", |_, line| wall(line, "last Tuesday")),
    ("a time of another zone", |_, line| wall(line, "2026-11-21T01:30:00.123456789+01:00")),
    ("a time of few digits", |_, line| wall(line, "2026-11-21T01:30:00Z")),
    ("a time of month 13", |_, line| wall(line, "2026-13-21T01:30:00.123456789Z")),
    ("the actor as a text", |_, line| with(line, "actor", "J. Doe".into())),
    ("subject as a text", |_, line| with(line, "subject", "manifest.json".into())),
];

fn without(line: &str, key: &str) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    value.as_object_mut().unwrap().remove(key);
    custody::strict_json::to_line(&value).unwrap().into_bytes()
}

fn with(line: &str, key: &str, put: serde_json::Value) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    value[key] = put;
    custody::strict_json::to_line(&value).unwrap().into_bytes()
}

fn wall(line: &str, put: &str) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["time"]["wall"] = put.into();
    custody::strict_json::to_line(&value).unwrap().into_bytes()
}

fn field(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let mut log = ForgedLog::read(&attack.path(folder));
    let seq = attack.random.within(1..log.lines.len());
    let nth = attack.random.below(FIELDS.len());
    replace(attack, folder, &mut log, seq, FIELDS[nth])
}

fn replace(
    attack: &mut Attack<'_>,
    folder: &str,
    log: &mut ForgedLog,
    seq: usize,
    (what, respell): (&str, Respell),
) -> Expected {
    log.drop_anchors();
    log.chain_from(0);
    let line = String::from_utf8(log.lines[seq].clone()).unwrap();
    let changed = respell(attack, &line);
    if changed == line.as_bytes() || changed.contains(&b'\n') {
        return Expected::Nothing;
    }
    log.lines[seq] = changed;
    log.chain_from(seq + 1);
    attack.also(format!("entry {seq}: {what}"));
    log.forge(&KEY);
    Expected::entry(folder, seq)
}

fn case_file(attack: &mut Attack<'_>) -> Expected {
    let nth = attack.random.below(SPELLINGS.len());
    let line = String::from_utf8(attack.read("case.json")).unwrap();
    let line = line.trim_end().to_owned();
    let (what, respell) = SPELLINGS[nth];
    // There is no entry's hash in it.
    if ["an upper-case hash", "a key twice, another value last"].contains(&what) {
        return Expected::Nothing;
    }
    let mut changed = respell(attack, &line);
    if changed == line.as_bytes() {
        return Expected::Nothing;
    }
    attack.did = what.to_owned();
    changed.push(b'\n');
    attack.write("case.json", &changed);
    let mut log = ForgedLog::read(&attack.case);
    log.drop_anchors();
    let mut genesis = log.value(0);
    genesis["subject"][0]["sha256"] = custody::sha256(&changed).to_string().into();
    genesis["subject"][0]["size"] = changed.len().into();
    log.set(0, &genesis);
    log.chain_from(1);
    log.forge(&KEY);
    Expected::fault("case.json")
}

fn checkpoint(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let log = ForgedLog::read(&attack.path(folder));
    let kept = log.kept();
    let file = match attack.random.below(2) {
        0 => "checkpoint".to_owned(),
        _ => format!("checkpoints/{:08}", kept[attack.random.below(kept.len())]),
    };
    let file = below(folder, &file);
    let text = String::from_utf8(attack.read(&file)).unwrap();
    let size = text.lines().nth(1).unwrap().to_owned();
    let root = text.lines().nth(2).unwrap().to_owned();
    let changed = match attack.random.below(13) {
        0 => text.replace('\n', "\r\n"),
        1 => text.replacen("\n\n", "\n\n\n", 1),
        2 => text.replacen('\u{2014}', "-", 1),
        3 => format!("{text}\n"),
        4 => text.trim_end().to_owned(),
        5 => text.replacen(&format!("\n{size}\n"), &format!("\n0{size}\n"), 1),
        6 => text.replacen(&format!("\n{size}\n"), &format!("\n+{size}\n"), 1),
        7 => text.replacen(&root, root.trim_end_matches('='), 1),
        8 => text.replacen(&format!("{root}\n"), &format!("{root}\nextension\n"), 1),
        9 => text.replacen(&root, &format!("{root} "), 1),
        10 => format!("\u{feff}{text}"),
        11 => format!("{text}{}", text.rsplit_once("\n\n").unwrap().1.replacen(' ', "  ", 1)),
        _ => text.to_uppercase(),
    };
    attack.did = file.clone();
    attack.write(&file, changed);
    Expected::fault(file)
}

fn vkey(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let file = below(folder, "keys/log.vkey");
    let text = String::from_utf8(attack.read(&file)).unwrap();
    let changed = match attack.random.below(6) {
        0 => text.replace('\n', "\r\n"),
        1 => text.trim_end().to_owned(),
        2 => format!(" {text}"),
        3 => format!("{text}\n"),
        4 => text.replacen("exhibit/", "EXHIBIT/", 1),
        _ => format!("{text}{text}"),
    };
    attack.write(&file, changed);
    Expected::fault(file)
}

fn frontier(attack: &mut Attack<'_>) -> Expected {
    let folder = attack.any_log();
    let file = below(folder, "custody.frontier");
    let text = String::from_utf8(attack.read(&file)).unwrap();
    let changed = match attack.random.below(6) {
        0 => text.replace('\n', "\r\n"),
        1 => text.trim_end().to_owned(),
        2 => format!("0{text}"),
        3 => format!("{text}\n"),
        4 => text.to_uppercase(),
        _ => format!("{text}{}\n", "0".repeat(64)),
    };
    if changed == text {
        return Expected::Nothing;
    }
    attack.write(&file, changed);
    Expected::fault(file)
}
