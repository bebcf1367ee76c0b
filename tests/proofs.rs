//! What `show --bytes --proof` says holds: for rows of every parser, and by a script that is not ours to trust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::exhibit::{Desk, ran};
use crate::web01::{Web01, samples};

/// Rows that are proved of each kind, and the least that there must be.
const OF_EACH: usize = 80;
const LEAST: usize = 20;

/// Makes a case of the disk, of the logs, and of a folder with every sample of every parser.
fn acquire(desk: &Desk) {
    let web01 = Web01::unpack(&desk.path("web01"));
    desk.write("parts/etc/hostname", "web02\n");
    desk.write("parts/etc/timezone", "America/New_York\n");
    desk.write("parts/etc/passwd", "root:x:0:0:root:/root:/bin/bash\njane:x:1000:1000::/home/jane:/bin/sh\n");
    fs::create_dir(desk.path("parts/var")).unwrap();
    for parser in parsers(desk) {
        let folder = samples().join(&parser);
        if folder.is_dir() {
            let copied = Command::new("cp").arg("-r").arg(folder).arg(desk.path("parts")).status().unwrap();
            assert!(copied.success());
        }
    }
    desk.ok(&["init", "case", "--name", "proofs", "--examiner", "J. Doe"]);
    desk.ok(&["acquire", "disk", web01.disk.to_str().unwrap(), "--case", "case"]);
    desk.ok(&["acquire", "logs", web01.logs.to_str().unwrap(), "--case", "case"]);
    desk.ok(&["acquire", "logs", "parts", "--case", "case"]);
}

/// Builds the timeline; samples are damaged on purpose, so there are issues to list.
fn build(desk: &Desk, args: &[&str]) {
    let ran = desk.run(&[&["timeline"], args].concat());
    assert!([0, 1].contains(&ran.code), "{}{}", ran.stdout, ran.stderr);
}

fn parsers(desk: &Desk) -> Vec<String> {
    let parsers: Value = serde_json::from_str(&desk.ok(&["parsers", "--json"]).stdout).unwrap();
    let names = parsers.as_array().unwrap().iter();
    names.map(|parser| parser["name"].as_str().unwrap().to_owned()).collect()
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// The ids of rows of every kind, by exhibit.
fn rows_of_every_kind(desk: &Desk) -> BTreeMap<String, BTreeSet<String>> {
    let sql = "SELECT event_id, exhibit, parser, locator, flags, year_basis, pieces, ts FROM events \
         ORDER BY exhibit, locator, byte_offset, ts_desc, ts, event_id";
    let rows: Value = serde_json::from_str(&desk.ok(&["sql", "case", sql, "--json"]).stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let mut chosen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut choose = |kind: &str, is_of_kind: &dyn Fn(&Value) -> bool| {
        let all: Vec<&Value> = rows.iter().filter(|row| is_of_kind(row)).collect();
        assert!(all.len() >= LEAST, "only {} rows are of the kind: {kind}", all.len());
        for row in all.iter().step_by(all.len().div_ceil(OF_EACH)) {
            chosen.entry(text(row, "exhibit").into()).or_default().insert(text(row, "event_id").into());
        }
    };
    // Memory needs a machine's: its rows are proved where the timeline's own tests make one.
    for parser in parsers(desk).into_iter().filter(|name| !name.starts_with("memory_")) {
        choose(&parser, &|row| text(row, "parser").split('@').next() == Some(&parser));
    }
    for end in [">gzip", ">xz", ">bzip2", ">zstd", "/lz4.journal", "/xz.journal", "zstd.journal.zst>zstd"] {
        choose(end, &|row| text(row, "locator").ends_with(end));
    }
    choose("deleted inodes", &|row| row["flags"].as_u64().unwrap() & 2 != 0);
    choose("no year in the record", &|row| ["neighbour", "file_time"].contains(&text(row, "year_basis")));
    choose("records in pieces", &|row| !row["pieces"].is_null());
    choose("records without a time", &|row| row["ts"].is_null());
    for exhibit in ["E001", "E002", "E003"] {
        choose(exhibit, &|row| text(row, "exhibit") == exhibit);
    }
    chosen
}

/// What `show` says of these events, a line each.
fn proofs(desk: &Desk, ids: &BTreeSet<String>) -> Vec<Value> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut command = desk.command();
    command.args(["show", "case", "-", "--bytes", "--proof", "--json"]);
    let ran = ran(with_input(command, &ids.join("\n")));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let proofs: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<&str> = proofs.iter().map(|proof| text(&proof["event"], "event_id")).collect();
    assert_eq!(shown, ids);
    proofs
}

fn with_input(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A reader that stops early is seen by its exit code.
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        child.wait_with_output().unwrap()
    })
}

fn checked_by_script(bundle: &Path, proofs: &[Value]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/check_proofs.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(bundle);
    with_input(command, &proofs.iter().map(|proof| format!("{proof}\n")).collect::<String>())
}

fn script_can_run() -> bool {
    let missing = ["python3", "openssl", "zstd"].into_iter().find(|tool| {
        let output = Command::new(tool).arg("--version").output();
        output.is_err()
    });
    if let Some(tool) = missing {
        println!("skipped: there is no {tool}");
    }
    missing.is_none()
}

fn bundle(desk: &Desk, exhibit: &str) -> PathBuf {
    let entries = fs::read_dir(desk.path("case/exhibits")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(exhibit)).unwrap()
}

#[test]
fn rows_of_every_parser_and_kind_are_proved_and_a_changed_proof_is_refused() {
    let desk = Desk::new();
    acquire(&desk);
    build(&desk, &["case"]);
    let chosen = rows_of_every_kind(&desk);
    assert!(chosen.values().map(BTreeSet::len).sum::<usize>() >= 1_000);
    for (exhibit, ids) in &chosen {
        let proofs = proofs(&desk, ids);
        for proof in &proofs {
            assert_eq!(proof["same_row"], true, "its bytes alone give another row: {}", proof["event"]);
            assert!(!proof["chunks"].as_array().unwrap().is_empty(), "{proof}");
        }
        if !script_can_run() {
            continue;
        }
        let bundle = bundle(&desk, exhibit);
        let output = checked_by_script(&bundle, &proofs);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, format!("{} proofs hold\n", proofs.len()), "{exhibit}: {complaint}");
        if exhibit == "E001" {
            changed_proofs_are_refused(&bundle, &proofs);
        }
    }
}

/// In each of these, one digit is another.
fn changed_proofs_are_refused(bundle: &Path, proofs: &[Value]) {
    let of_a_file = proofs.iter().find(|proof| !proof["map_chunks"].as_array().unwrap().is_empty()).unwrap();
    let in_pieces = proofs.iter().find(|proof| !proof["pieces"].as_array().unwrap().is_empty()).unwrap();
    let compressed = proofs.iter().find(|proof| text(&proof["event"], "locator").contains('>')).unwrap();
    let changes = [
        (&proofs[0], "/bytes_b64"),
        (&proofs[0], "/chunks/0/path/0"),
        (&proofs[0], "/chunks/0/sha256"),
        (&proofs[0], "/chunk_root"),
        (&proofs[0], "/manifest_sha256"),
        (compressed, "/bytes_b64"),
        (in_pieces, "/pieces/0/bytes_b64"),
        (of_a_file, "/map_chunks/0/path/1"),
    ];
    for (proof, place) in changes {
        let mut changed = proof.clone();
        let value = changed.pointer_mut(place).unwrap();
        let mut letters = value.as_str().unwrap().to_owned().into_bytes();
        letters[0] = if letters[0] == b'4' { b'5' } else { b'4' };
        *value = String::from_utf8(letters).unwrap().into();
        assert_ne!(changed, *proof);
        let output = checked_by_script(bundle, &[changed]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("AssertionError"), "{place}: {said}");
    }
}

#[test]
fn a_record_that_reaches_into_a_hole_of_its_file_is_proved_too() {
    if Command::new("mke2fs").arg("-V").output().is_err() {
        println!("skipped: there is no mke2fs");
        return;
    }
    // The record of uid 14 is 4088..4380: time and line end with the first block, the rest is in a hole.
    let mut lastlog = vec![0; 5 * 4096];
    lastlog[4088..4096].copy_from_slice(b"\x80\x6a\xe8\x69tty9");
    lastlog[68 * 292..68 * 292 + 8].copy_from_slice(b"\x81\x6a\xe8\x69tty8");
    let desk = Desk::new();
    desk.write("root/var/log/lastlog", lastlog);
    let disk = desk.write("disk.raw", vec![0; 4 << 20]);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"]).arg(desk.path("root")).arg(&disk);
    assert!(mke2fs.status().unwrap().success());
    let bundle = desk.path("").join(desk.case_with_disk(&disk));
    desk.ok(&["timeline", "case"]);
    let sql = "SELECT event_id FROM events WHERE parser LIKE 'lastlog@%' ORDER BY byte_offset";
    let rows: Value = serde_json::from_str(&desk.ok(&["sql", "case", sql, "--json"]).stdout).unwrap();
    let ids = rows.as_array().unwrap().iter().map(|row| text(row, "event_id").to_owned()).collect();
    let proofs = proofs(&desk, &ids);
    let is_cut = |proof: &&Value| proof["event"]["byte_offset"] == 4088;
    let cut = proofs.iter().find(is_cut).expect("the record of uid 14");
    let stored = cut["ranges"][0][1].as_u64().unwrap() - cut["ranges"][0][0].as_u64().unwrap();
    assert_eq!((cut["ranges"].as_array().unwrap().len(), stored), (1, 8), "the file has no hole: {cut}");
    assert!(proofs.len() == 2 && proofs.iter().all(|proof| proof["same_row"] == true), "{proofs:#?}");
    if script_can_run() {
        let output = checked_by_script(&bundle, &proofs);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "2 proofs hold\n", "{output:?}");
        let mut changed = cut.clone();
        let in_the_hole = changed["bytes_b64"].as_str().unwrap().replacen("AAAA", "AAAB", 1);
        changed["bytes_b64"] = in_the_hole.into();
        assert!(!checked_by_script(&bundle, &[changed]).status.success());
    }
}

/// Every file below a folder, with its bytes.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_same_bundles_give_the_same_timeline_byte_for_byte_on_any_number_of_threads() {
    let desk = Desk::new();
    acquire(&desk);
    let copied = Command::new("cp").args(["-a", "case", "copy"]).current_dir(desk.path("")).status().unwrap();
    assert!(copied.success());
    build(&desk, &["case", "--threads", "1"]);
    build(&desk, &["copy", "--threads", "4"]);
    let (one, four) = (files_below(&desk.path("case/timeline")), files_below(&desk.path("copy/timeline")));
    let names: Vec<_> = one.keys().filter(|path| path.extension().is_some_and(|end| end != "json")).collect();
    assert!(names.len() >= 6, "a part and a ledger for each exhibit: {names:?}");
    assert_eq!(one.keys().collect::<Vec<_>>(), four.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(bytes == &four[path], "{} is another file on four threads", path.display());
    }
}
