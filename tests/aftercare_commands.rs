//! Life after the case, with the real binary: what each command says, writes and refuses.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::exhibit::{Desk, Ran};

const DISK: &[u8] = &[0x5a; 300_000];

fn desk() -> Desk {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", DISK));
    desk
}

/// The entries of the case's log.
fn entries(desk: &Desk) -> Vec<Value> {
    let log = desk.ok(&["custody", "log", "case", "--json"]).stdout;
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

/// The case verifies, and what was said fits a terminal.
fn goes_on(desk: &Desk, ran: &Ran) {
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    let done = desk.ok(&["verify", "case"]);
    assert!(done.stdout.starts_with("CONSISTENT"), "{}", done.stdout);
}

const YES: [&str; 6] = ["--authority", "Order 12", "--delete", "--yes-delete", "E001", "--method=erased"];

fn dispose(desk: &Desk, more: &[&str]) -> Ran {
    desk.run(&[&["custody", "dispose", "case:E001"], more].concat())
}

#[test]
fn retention_is_set_listed_and_holds_the_exhibit() {
    let desk = desk();
    let ran = desk.ok(&["custody", "retain", "case", "--until", "2099-12-31", "--authority", "Policy 7.2"]);
    assert!(ran.stderr.contains("entry 3 is written and signed"), "{}", ran.stderr);
    goes_on(&desk, &ran);
    let args = [
        "custody",
        "retain",
        "case:E001",
        "--until",
        "2020-01-31",
        "--review",
        "2020-01-01",
        "--authority",
        "O",
        "--json",
    ];
    let seq = json(&desk.ok(&args))["seq"].as_u64().unwrap();
    let entry = &entries(&desk)[seq as usize];
    assert_eq!((entry["type"].as_str(), entry["exhibit"].as_str()), (Some("retention.set"), Some("E001")));
    assert_eq!(
        (entry["how"]["until"].as_str(), entry["why"]["authority"].as_str()),
        (Some("2020-01-31"), Some("O"))
    );
    let list = desk.ok(&["list", "case"]);
    assert!(list.stdout.contains("E001  is kept until 2020-01-31"), "{}", list.stdout);
    assert!(list.stdout.contains("E001  REVIEW DUE since 2020-01-01"), "{}", list.stdout);
    goes_on(&desk, &list);
    dispose(&desk, &["--method", "erased"])
        .fails(4, &["may not be disposed of", "until 2099-12-31 (entry 3)", "--authority"]);
    // The whole case let go: now the exhibit is overdue.
    desk.ok(&["custody", "retain", "case", "--until", "2020-01-31", "--authority", "Order 9"]);
    let list = desk.ok(&["list", "case"]);
    assert!(list.stdout.contains("E001  OVERDUE: was to be kept until 2020-01-31"), "{}", list.stdout);
    let list = json(&desk.ok(&["list", "case", "--json"]));
    assert_eq!(list[0]["retention"]["state"], "overdue");
    let ran = dispose(&desk, &["--method", "erased"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_retention_that_says_too_little_is_wrong_usage() {
    let desk = desk();
    let retain = |more: &[&str]| desk.run(&[&["custody", "retain"], more].concat());
    retain(&["case", "--until", "2030-01-01"]).fails(2, &["--authority"]);
    retain(&["case", "--authority", "x"]).fails(2, &["--until"]);
    retain(&["case", "--until", "2030-02-30", "--authority", "x"]).fails(2, &["2030-02-30", "2031-12-31"]);
    retain(&["case", "--after", " ", "--authority", "x"]).fails(2, &["neither a last day nor an event"]);
    retain(&["case", "--until", "2030-01-01", "--review", "2031-01-01", "--authority", "x"])
        .fails(2, &["review"]);
    retain(&["case:E009", "--until", "2030-01-01", "--authority", "x"]).fails(2, &["E009", "it has E001"]);
    retain(&["gone", "--until", "2030-01-01", "--authority", "x"]).fails(2, &["gone"]);
    assert_eq!(entries(&desk).len(), 3, "only what the acquisition wrote");
}

#[test]
fn a_disposal_deletes_only_when_the_id_is_said_twice() {
    let desk = desk();
    let bundle = desk.path("case/exhibits/E001-disk");
    dispose(&desk, &["--authority", "x"]).fails(2, &["--method"]);
    dispose(&desk, &["--method", "erased"]).fails(4, &["no retention was ever set", "--authority"]);
    dispose(&desk, &["--method", "returned", "--authority", "x"]).fails(2, &["--to"]);
    dispose(&desk, &["--method", "erased", "--authority", "x", "--delete"]).fails(2, &["--yes-delete"]);
    dispose(&desk, &["--method", "erased", "--authority", "x", "--delete", "--yes-delete", "E002"])
        .fails(2, &["E002", "nothing was deleted"]);
    dispose(&desk, &[&YES[..], &["--item", "original disk"]].concat())
        .fails(2, &["--item names something else"]);
    desk.run(&["custody", "dispose", "case", "--method", "erased"])
        .fails(2, &["name one of its exhibits", "case:E001"]);
    desk.run(&["custody", "dispose", "case:E009", "--method", "erased", "--authority", "x"])
        .fails(2, &["E009"]);
    assert!(bundle.join("manifest.json").is_file());
    assert!(entries(&desk).iter().all(|entry| entry["type"] != "item.disposed"));

    let ran = dispose(&desk, &YES);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("kept in disposed/E001-disk") && ran.stderr.contains("not overwritten"),
        "{}",
        ran.stderr
    );
    assert!(!bundle.exists());
    assert!(desk.path("case/disposed/E001-disk/custody.jsonl").is_file());
    goes_on(&desk, &ran);
    let list = desk.ok(&["list", "case"]);
    assert!(
        list.stdout.contains("DISPOSED OF 20") && list.stdout.contains("E001  was erased by J. Doe"),
        "{}",
        list.stdout
    );
    let list = json(&desk.ok(&["list", "case", "--json"]));
    assert_eq!(
        (list[0]["id"].as_str(), list[0]["disposed"]["method"].as_str()),
        (Some("E001"), Some("erased"))
    );
    desk.run(&["verify", "case:E001"]).fails(2, &["disposed of it", "disposed/E001-disk"]);
    dispose(&desk, &YES).fails(2, &["disposed of E001"]);
    // Its id stays its own.
    let ran = desk.ok(&["acquire", "disk", "disk.raw", "--case", "case", "--name", "next"]);
    assert!(ran.stdout.contains("E002-next"), "{}", ran.stdout);
}

#[test]
fn a_disposal_tells_programs_what_went() {
    let desk = desk();
    let before = custody::sha256(&fs::read(desk.path("case/exhibits/E001-disk/manifest.json")).unwrap());
    let done = json(&dispose(
        &desk,
        &["--method", "returned", "--to", "the owner", "--authority", "Order 12", "--json"],
    ));
    assert_eq!(done["manifest_sha256"], before.to_string());
    assert_eq!((done["deleted"].as_bool(), done["verdict"].as_str()), (Some(false), Some("CONSISTENT")));
    let entry = &entries(&desk)[done["seq"].as_u64().unwrap() as usize];
    assert_eq!(
        (entry["how"]["to"].as_str(), entry["how"]["item"].as_str()),
        (Some("the owner"), Some("bundle"))
    );
    let verified = desk.ok(&["verify", "case"]);
    assert!(verified.stdout.contains("E001 IS HERE, though entry"), "{}", verified.stdout);
    let list = desk.ok(&["list", "case"]);
    assert!(list.stdout.contains("E001  STILL HERE, though entry"), "{}", list.stdout);
}

#[test]
fn what_is_given_out_is_hashed_and_traced() {
    let desk = desk();
    desk.ok(&["report", "case", "-o", "out"]);
    desk.write("elsewhere.txt", "not of this case");
    let args =
        ["custody", "disclose", "case", "out/report.html", "E001", "disk.raw", "elsewhere.txt", "--to"];
    let more = [
        "Defence: A. Roe",
        "--reference",
        "Request 3",
        "--withheld",
        "E002: privileged",
        "--on",
        "2026-11-20",
    ];
    let ran = desk.ok(&[&args[..], &more].concat());
    for words in ["the case has it: entry", "(report.issued)", "(bundle.sealed)", "E001: the stream disk"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert!(
        ran.stderr.contains("warning: no exhibit, export or report of the case has elsewhere.txt"),
        "{}",
        ran.stderr
    );
    goes_on(&desk, &ran);
    let noted = desk.ok(&["verify", "case"]).stdout;
    assert!(noted.contains("discloses elsewhere.txt") && !noted.contains("discloses disk.raw"), "{noted}");
    let args = ["custody", "disclose", "case", "e001", "--to", "B. Poe", "--json"];
    let done = json(&desk.ok(&args));
    assert_eq!(done["items"][0]["id"], "E001/manifest.json");
    let entry = &entries(&desk)[done["seq"].as_u64().unwrap() as usize];
    assert_eq!((entry["exhibit"].as_str(), entry["how"]["to"].as_str()), (Some("E001"), Some("B. Poe")));
    let manifest = fs::read(desk.path("case/exhibits/E001-disk/manifest.json")).unwrap();
    assert_eq!(entry["subject"][0]["sha256"], custody::sha256(&manifest).to_string());
}

#[test]
fn a_disclosure_of_nothing_or_to_nobody_is_wrong_usage() {
    let desk = desk();
    let disclose = |more: &[&str]| desk.run(&[&["custody", "disclose"], more].concat());
    disclose(&["case", "disk.raw"]).fails(2, &["--to"]);
    disclose(&["case", "--to", "x"]).fails(2, &["FILE|E001"]);
    disclose(&["case", "disk.raw", "--to", " "]).fails(2, &["whom it is disclosed to"]);
    disclose(&["case", "gone.zip", "--to", "x"]).fails(2, &["gone.zip", "no file"]);
    disclose(&["case", "E007", "--to", "x"]).fails(2, &["E007", "it has E001"]);
    disclose(&["case", "case", "--to", "x"]).fails(2, &["is a folder"]);
    disclose(&["case:E001", "disk.raw", "--to", "x"]).fails(2, &["recorded in its case"]);
    assert!(entries(&desk).iter().all(|entry| entry["type"] != "disclosure.made"));
}

#[test]
fn a_copy_is_made_verified_and_recorded_with_both_hashes() {
    let desk = desk();
    let ran = desk.ok(&["custody", "copy", "case:E001", "--to", "vault", "--purpose", "for the defence"]);
    assert_eq!(ran.stdout, "vault\n");
    assert!(
        ran.stderr.contains("E001-C1 is entry") && ran.stderr.contains("the copy verifies: CONSISTENT"),
        "{}",
        ran.stderr
    );
    goes_on(&desk, &ran);
    desk.ok(&["verify", "vault"]);
    let done = json(&desk.ok(&["custody", "copy", "case:E001", "--to", "second", "--master", "--json"]));
    assert_eq!((&done["copy"], &done["manifest_sha256"]), (&"E001-C2".into(), &done["copy_manifest_sha256"]));
    let done = desk.ok(&["custody", "copy", "case:E001", "--at", "safe 3, tape 42"]);
    assert!(done.stderr.contains("E001-C3") && done.stderr.contains("not verified"), "{}", done.stderr);
    let copy = |more: &[&str]| desk.run(&[&["custody", "copy"], more].concat());
    copy(&["case:E001"]).fails(2, &["--to"]);
    copy(&["case:E001", "--to", "vault"]).fails(4, &["refusing to overwrite", "vault"]);
    copy(&["case:E001", "--to", "case/reports/x"]).fails(2, &["within the case itself"]);
    copy(&["case", "--at", "safe"]).fails(2, &["name one of its exhibits"]);
    copy(&["case:E009", "--at", "safe"]).fails(2, &["E009"]);
    copy(&["vault", "--at", "safe"]).fails(2, &["outside a case"]);
    // A spare copy may go without an order; the exhibit may not.
    let ran = dispose(&desk, &["--method", "destroyed", "--item", "E001-C1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    dispose(&desk, &["--method", "destroyed", "--item", "E001-C2"]).fails(4, &["may not be disposed of"]);
}

#[test]
fn a_copy_that_does_not_verify_is_exit_code_3_and_an_entry() {
    let desk = desk();
    let sums = desk.path("case/exhibits/E001-disk/SHA256SUMS");
    fs::write(&sums, fs::read_to_string(&sums).unwrap().replace('a', "b")).unwrap();
    desk.run(&["custody", "copy", "case:E001", "--to", "vault"]).fails(3, &["does not verify", "SHA256SUMS"]);
    let last = entries(&desk).pop().unwrap();
    assert_eq!(
        (last["type"].as_str(), last["result"]["verdict"].as_str()),
        (Some("copy.made"), Some("BROKEN"))
    );
}

#[test]
fn an_access_elsewhere_is_recorded() {
    let desk = desk();
    let args = [
        "custody",
        "access",
        "case:E001",
        "--by",
        "Dr. Lee",
        "--purpose",
        "defence examination",
        "--at",
        "lab 2",
    ];
    let ran = desk.ok(&args);
    goes_on(&desk, &ran);
    let done = json(&desk.ok(&[&args[..], &["--json"]].concat()));
    let entry = &entries(&desk)[done["seq"].as_u64().unwrap() as usize];
    assert_eq!(
        (entry["type"].as_str(), entry["how"]["who"].as_str()),
        (Some("access.open"), Some("Dr. Lee"))
    );
    desk.run(&["custody", "access", "case", "--by", "x"]).fails(2, &["--purpose"]);
    desk.run(&["custody", "access", "case", "--by", " ", "--purpose", "x"]).fails(2, &["who had access"]);
}

/// The version of the binary under test.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The hash of the build that wrote the first entry.
fn build(entries: &[Value]) -> String {
    entries[0]["tool"]["build_sha256"].as_str().unwrap().to_owned()
}

#[test]
fn a_recall_lists_what_was_touched_tells_the_case_once_and_drafts_the_letter() {
    let desk = desk();
    fs::create_dir(desk.path("shelf")).unwrap();
    desk.ok(&["custody", "copy", "case:E001", "--to", "shelf/loose"]);
    desk.ok(&["init", "other", "--name", "other", "--examiner", "J. Doe"]);
    let range = format!(">=0.0.1,<={VERSION}");
    let ran = desk.ok(&[
        "custody",
        "impact",
        "case",
        "--version",
        &range,
        "--notice",
        "logs read twice",
        "--reference",
        "BUG-17",
    ]);
    for words in ["E001  bundle", "case  acquisition", "case  export", "notice written and signed as entry 4"]
    {
        assert!(ran.stdout.contains(words), "{words:?} is not in\n{}", ran.stdout);
    }
    goes_on(&desk, &ran);
    let all = entries(&desk);
    let notice = all.iter().find(|entry| entry["type"] == "tool.notice").unwrap();
    assert_eq!(notice["refs"], serde_json::json!([0, 1, 2, 3]));
    assert_eq!(
        (&notice["how"]["reference"], &notice["result"]["entries"]["case"]),
        (&"BUG-17".into(), &"0-3".into())
    );
    // Entry 5, the check above, is new; it is no work that this fault concerns.
    let args = ["custody", "impact", "--cases", ".", "--version", &range, "--act", "acquisition,export"];
    let told = ["--notice", "logs read twice", "--reference", "BUG-17"];
    let letters = ["--letter", "-o", "letters"];
    let ran = desk.ok(&[&args[..], &told, &letters].concat());
    assert!(ran.stdout.contains("no notice: it lies outside a case"), "{}", ran.stdout);
    goes_on(&desk, &ran);
    let files: Vec<_> =
        fs::read_dir(desk.path("letters")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "one letter a case that is touched: {files:?}");
    let letter = fs::read_to_string(desk.path("letters/case.txt")).unwrap();
    for words in
        ["BUG-17", "logs read twice", "Exhibit E001, disk", "zstd -dc data/disk/*.zst | sha256sum", "____"]
    {
        assert!(letter.contains(words), "{words:?} is not in\n{letter}");
    }
    assert!(letter.lines().all(|line| line.chars().count() <= 80), "{letter}");
    // The command that the letter gives does what the letter says.
    let expected = custody::sha256(DISK).to_string();
    assert!(letter.contains(&format!("expected: {expected}")), "{letter}");
    let again = desk.ok(&[&args[..], &told].concat());
    assert!(again.stdout.contains("says so already"), "{}", again.stdout);
    let one = desk.ok(&[
        "custody",
        "impact",
        "case",
        "--build",
        &build(&entries(&desk)),
        "--letter",
        "-o",
        "one.txt",
        "--json",
    ]);
    assert_eq!(json(&one)["places"][0]["letter"], "one.txt");
    assert!(desk.path("one.txt").is_file());
    // A bundle that is named is told, in its own log.
    let ran = desk.ok(&["custody", "impact", "shelf/loose", "--version", VERSION, "--notice", "x"]);
    assert!(ran.stdout.contains("notice written"), "{}", ran.stdout);
    desk.ok(&["verify", "shelf/loose"]);
}

#[test]
fn a_recall_of_another_version_touches_nothing() {
    let desk = desk();
    let ran = desk.ok(&["custody", "impact", "case", "--version", "99.0.0"]);
    assert!(
        ran.stdout.is_empty() && ran.stderr.contains("touched: 0 of 1 place, 0 bundles, 0 entries"),
        "{}",
        ran.stderr
    );
    goes_on(&desk, &ran);
    desk.ok(&[
        "custody",
        "impact",
        "case",
        "--before",
        "0.0.1",
        "--notice",
        "x",
        "--letter",
        "-o",
        "letter.txt",
    ]);
    assert!(!desk.path("letter.txt").exists());
    assert!(entries(&desk).iter().all(|entry| entry["type"] != "tool.notice"));
}

#[test]
fn what_cannot_be_told_is_listed_and_is_exit_code_1() {
    let desk = desk();
    let impact = |more: &[&str]| desk.run(&[&["custody", "impact", "--cases", "."], more].concat());
    fs::create_dir_all(desk.path("odd")).unwrap();
    fs::write(desk.path("odd/custody.jsonl"), "{}\n").unwrap();
    let ran = impact(&["--version", "99.0.0"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("UNKNOWN  bundle, entry 0"), "{}", ran.stdout);
    let ran = impact(&["--version", "99.0.0", "--json"]);
    let odd = json(&ran)["places"]
        .as_array()
        .unwrap()
        .iter()
        .find(|place| place["name"] == "odd")
        .cloned()
        .unwrap();
    assert_eq!((&odd["touched"], &odd["unknown"][0]["what"]), (&false.into(), &"entry 0".into()));
    fs::create_dir(desk.path("empty")).unwrap();
    desk.run(&["custody", "impact", "--cases", "empty", "--version", "1.0.0"])
        .fails(1, &["no case and no bundle"]);
}

#[test]
fn a_recall_that_names_no_version_is_wrong_usage() {
    let desk = desk();
    let impact = |more: &[&str]| desk.run(&[&["custody", "impact"], more].concat());
    impact(&["case"]).fails(2, &["--version"]);
    impact(&["--version", "1.0.0"]).fails(2, &["CASE|BUNDLE"]);
    impact(&["case", "--version", "1.0.0", "--before", "2.0.0"]).fails(2, &["cannot be used with"]);
    impact(&["case", "--before", "nightly"]).fails(2, &["nightly", "0.3.0"]);
    impact(&["case", "--version", ">=x,<2"]).fails(2, &["names no version"]);
    impact(&["case", "--build", "abc"]).fails(2, &["no SHA-256"]);
    impact(&["data", "--version", "1.0.0"]).fails(2, &["neither a case nor a bundle", "--cases"]);
    impact(&["case", "--version", "1.0.0", "--letter"]).fails(2, &["--output"]);
    impact(&["case", "--version", "1.0.0", "--notice", " "]).fails(2, &["--notice is empty"]);
    impact(&["--cases", "gone", "--version", "1.0.0"]).fails(2, &["gone"]);
}

#[test]
fn a_key_that_the_log_does_not_know_writes_none_of_these() {
    let desk = desk();
    desk.ok(&["key", "new", "--key", "other.pem"]);
    let before = fs::read(desk.path("case/custody.jsonl")).unwrap();
    let acts: [&[&str]; 6] = [
        &["retain", "case", "--until", "2030-01-01", "--authority", "x"],
        &[
            "dispose",
            "case:E001",
            "--method",
            "erased",
            "--authority",
            "x",
            "--delete",
            "--yes-delete",
            "E001",
        ],
        &["disclose", "case", "disk.raw", "--to", "x"],
        &["copy", "case:E001", "--at", "safe"],
        &["access", "case", "--by", "x", "--purpose", "y"],
        &["impact", "case", "--version", VERSION, "--notice", "x"],
    ];
    for act in acts {
        let ran = desk.run(&[&["custody"], act, &["--key", "other.pem"]].concat());
        assert_eq!(ran.code, 4, "{act:?}: {}{}", ran.stdout, ran.stderr);
        assert!((ran.stdout + &ran.stderr).contains("may not sign"), "{act:?}");
    }
    assert_eq!(fs::read(desk.path("case/custody.jsonl")).unwrap(), before);
    assert!(desk.path("case/exhibits/E001-disk/manifest.json").is_file(), "nothing was deleted");
    assert!(!desk.path("case/disposed/E001-disk").exists(), "no record of what did not happen");
    desk.ok(&["verify", "case"]);
}

#[test]
fn a_closed_case_takes_all_of_these() {
    let desk = desk();
    desk.ok(&["custody", "close", "case", "judgment is final"]);
    desk.ok(&["custody", "retain", "case", "--until", "2099-12-31", "--authority", "Policy 7.2"]);
    desk.ok(&["custody", "disclose", "case", "E001", "--to", "A. Roe"]);
    desk.ok(&["custody", "copy", "case:E001", "--to", "vault"]);
    desk.ok(&["custody", "access", "case:E001", "--by", "Dr. Lee", "--purpose", "appeal"]);
    desk.ok(&["custody", "impact", "case", "--version", VERSION, "--notice", "logs read twice"]);
    let ran = dispose(&desk, &YES);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    goes_on(&desk, &ran);
}

#[test]
fn each_act_has_an_example_and_programs_output() {
    let desk = Desk::new();
    for act in ["retain", "dispose", "disclose", "copy", "access", "impact"] {
        let help = desk.ok(&["custody", act, "--help"]).stdout;
        assert!(help.contains("Example: exhibit custody") && help.contains("--json"), "{help}");
    }
    assert!(!Path::new("letters").exists());
}
