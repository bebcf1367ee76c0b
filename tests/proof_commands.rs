//! `custody compare`, `prove` and `extract`, and what `verify --memory` remembers: as a person runs them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::exhibit::Desk;

/// A case with five files and a disk.
fn case(desk: &Desk) {
    for number in 1..=5 {
        desk.write(&format!("files/private{number}"), format!("secret words {number}\n"));
    }
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    desk.ok(&["acquire", "logs", "files", "--case", "case"]);
    let disk = desk.write("disk.raw", (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    desk.ok(&["acquire", "disk", disk.to_str().unwrap(), "--case", "case", "--chunk-size", "64KiB"]);
}

fn copy(desk: &Desk, from: &str, to: &str) {
    let done = Command::new("cp").args(["-a", from, to]).current_dir(desk.path("")).status().unwrap();
    assert!(done.success());
}

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_fork_is_named_proved_and_refused_by_memory_with_its_proof() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    copy(&desk, "case", "copy");
    assert!(desk.ok(&["custody", "compare", "case", "copy"]).stdout.starts_with("SAME"));
    desk.ok(&["custody", "note", "case", "it was so"]);
    assert!(desk.ok(&["custody", "compare", "case", "copy"]).stdout.starts_with("BEGINNING  copy"));
    desk.ok(&["custody", "note", "copy", "it was otherwise"]);
    let forked = desk.run(&["custody", "compare", "case", "copy", "-o", "fork.json"]);
    forked.fails(3, &[]);
    assert!(
        forked.stdout.starts_with("FORK: two signed heads, size 2, different root, first at entry 1"),
        "{}",
        forked.stdout
    );
    assert!(forked.stdout.contains("it was so") && forked.stdout.contains("it was otherwise"));
    let checked = desk.ok(&["custody", "compare", "--check", "fork.json", "--json"]);
    assert_eq!(document(&checked.stdout)["entry"], 1);
    let strange = ["custody", "compare", "--check", "fork.json", "--trust"];
    let nobody = format!("SHA256:{}", "A".repeat(43));
    desk.run(&[strange.as_slice(), &[nobody.as_str()]].concat()).fails(3, &["none of the keys"]);
    desk.run(&["custody", "compare", "case", "copy", "-o", "fork.json"]).fails(4, &["fork.json"]);
    let text = fs::read_to_string(desk.path("fork.json")).unwrap();
    desk.write("bad.json", text.replace("\"index\":1", "\"index\":0"));
    desk.run(&["custody", "compare", "--check", "bad.json"]).fails(3, &[]);
    // What one verifier saw, another history cannot undo.
    desk.ok(&["verify", "case", "--memory", "seen.json"]);
    let refused = desk.run(&["verify", "copy", "--memory", "seen.json"]);
    refused.fails(3, &["FORK", "proof of it: seen.json.fork-"]);
    let proof = refused.stderr.split("proof of it: ").nth(1).unwrap().lines().next().unwrap();
    desk.ok(&["custody", "compare", "--check", proof]);
    desk.write("seen.json", "damaged");
    desk.run(&["verify", "case", "--memory", "seen.json"]).fails(4, &["seen.json", "left as it is"]);
    assert_eq!(fs::read_to_string(desk.path("seen.json")).unwrap(), "damaged");
}

#[test]
fn threats_stand_under_the_verdict_within_80_columns() {
    let desk = Desk::new();
    case(&desk);
    let short = desk.ok(&["verify", "case"]);
    let lines: Vec<&str> = short.stdout.lines().filter(|line| line.starts_with("  T")).collect();
    assert!(
        lines.iter().any(|line| line.starts_with("  T8  NOT PROVED  0 anchors independent of presenter"))
    );
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    let long = desk.ok(&["verify", "case", "-v"]);
    for id in 1..=18 {
        assert!(
            long.stdout.lines().any(|line| line.starts_with(&format!("  {:<4}", format!("T{id}")))),
            "T{id}"
        );
    }
    let told = document(&desk.ok(&["verify", "case", "--json"]).stdout);
    assert_eq!(told["threats"].as_array().unwrap().len(), 18);
}

#[test]
fn entries_chunks_and_files_are_proved_and_checked_without_the_case() {
    let desk = Desk::new();
    case(&desk);
    let path = desk.path("files/private3");
    let path = path.to_str().unwrap();
    desk.ok(&["custody", "prove", "case", "--entry", "2", "-o", "entry.tlog-proof"]);
    desk.ok(&["custody", "prove", "case:E002", "--chunk", "disk:7", "-o", "chunk.json"]);
    desk.ok(&["custody", "prove", "case:E001", "--file", path, "-o", "file.json"]);
    let vkey = fs::read_to_string(desk.path("case/keys/log.vkey")).unwrap();
    fs::rename(desk.path("case"), desk.path("away")).unwrap();
    for args in [
        vec!["--check", "entry.tlog-proof", "--trust", vkey.trim()],
        vec!["--check", "chunk.json"],
        vec!["--check", "file.json", "--bytes", "files/private3"],
    ] {
        let ran = desk.ok(&[&["custody", "prove"], args.as_slice()].concat());
        assert!(ran.stdout.starts_with("PROVED\n"), "{}", ran.stdout);
    }
    desk.run(&["custody", "prove", "--check", "file.json", "--bytes", "files/private2"]).fails(3, &[]);
    desk.run(&["custody", "prove", "--check", "entry.tlog-proof"]).fails(3, &[]);
    let nobody = format!("SHA256:{}", "A".repeat(43));
    desk.run(&["custody", "prove", "--check", "chunk.json", "--trust", &nobody]).fails(3, &[]);
    desk.run(&["custody", "prove", "away", "--chunk", "disk:7", "-o", "x"]).fails(2, &["CASE:E001"]);
    desk.run(&["custody", "prove", "away:E001", "--file", "/no/such", "-o", "x"]).fails(4, &["/no/such"]);
    desk.run(&["custody", "prove", "away", "--entry", "99", "-o", "x"]).fails(4, &["99"]);
    assert!(!desk.path("x").exists());
}

fn holds(folder: &Path, words: &str) -> Vec<String> {
    let found = Command::new("grep").args(["-rl", words]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn one_file_leaves_the_case_alone_and_the_case_says_so() {
    let desk = Desk::new();
    case(&desk);
    let path = desk.path("files/private3");
    let file =
        ["custody", "extract", "case:E001", "--file", path.to_str().unwrap(), "--to", "Defence: A. Roe"];
    let made = desk.ok(&[file.as_slice(), &["-o", "out"]].concat());
    assert_eq!(made.stdout.trim_end(), "out");
    assert_eq!(fs::read(desk.path("out/file/private3")).unwrap(), b"secret words 3\n");
    for other in [1, 2, 4, 5] {
        for words in [format!("private{other}"), format!("secret words {other}")] {
            assert_eq!(holds(&desk.path("out"), &words), Vec::<String>::new());
        }
    }
    desk.ok(&["custody", "prove", "--check", "out/proof.json", "--bytes", "out/file/private3"]);
    desk.run(&[file.as_slice(), &["-o", "out"]].concat()).fails(4, &["out"]);
    desk.run(&[file.as_slice(), &["-o", "case/out"]].concat()).fails(2, &["within the case"]);
    desk.ok(&["custody", "extract", "case", "--exhibit", "E002", "-o", "whole", "--to", "Court"]);
    desk.ok(&["custody", "extract", "case", "--entry", "1", "-o", "line", "--to", "Court"]);
    assert!(desk.ok(&["verify", "whole/bundle"]).stdout.starts_with("CONSISTENT"));
    assert_eq!(holds(&desk.path("whole"), "private"), Vec::<String>::new());
    let log = desk.ok(&["custody", "log", "case"]).stdout;
    assert_eq!(log.matches("disclosure.made").count(), 3, "{log}");
    assert!(log.contains("Defence: A. Roe"));
    assert!(desk.ok(&["verify", "case"]).stdout.starts_with("CONSISTENT"));
}

#[test]
fn an_event_is_proved_by_its_chunks() {
    let desk = Desk::new();
    if desk.run(&["parsers"]).code == 2 {
        println!("skipped: this build has no timeline");
        return;
    }
    desk.write("root/home/jane/.bash_history", "#1795224600\nid\n#1795224601\nuname -a\n");
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    desk.ok(&["acquire", "logs", "root", "--case", "case"]);
    desk.ok(&["timeline", "case"]);
    let rows = document(
        &desk.ok(&["sql", "case", "SELECT event_id FROM events WHERE parser LIKE 'bash%'", "--json"]).stdout,
    );
    let id = rows[0]["event_id"].as_str().unwrap().to_owned();
    desk.ok(&["custody", "prove", "case", "--event", &id, "-o", "event.json"]);
    let checked = document(&desk.ok(&["custody", "prove", "--check", "event.json", "--json"]).stdout);
    assert_eq!(checked["record"]["row"]["event_id"], id.as_str());
    assert_eq!(checked["chunks"][0]["has_bytes"], true);
}
