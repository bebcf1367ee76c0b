//! A machine without a case acquires for one: commission, acquire, give, take.

use std::fs;

use serde_json::Value;

use crate::exhibit::{Desk, ran};

/// A case with a commission for logs, and what a machine elsewhere has acquired for it.
fn acquired() -> Desk {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    desk.ok(&["commission", "--case", "case", "--kind", "logs", "--name", "web01", "-o", "web01.commission"]);
    desk.write("there/logs/auth.log", "hello\n");
    let there = desk.path("there");
    let output = desk
        .command()
        .args(["acquire", "logs", "logs", "--commission", "../web01.commission"])
        .current_dir(&there)
        .env("XDG_DATA_HOME", there.join("data"))
        .output()
        .unwrap();
    assert_eq!(ran(output).code, 0);
    let given = desk.command().args(["commission", "--give", "there/E001-web01"]).output().unwrap();
    assert!(given.status.success());
    desk.write("web01.tar", given.stdout);
    desk
}

const TAKE: [&str; 7] =
    ["commission", "--case", "case", "--commission", "web01.commission", "--take", "web01.tar"];

#[test]
fn what_was_acquired_elsewhere_becomes_an_exhibit_that_the_cases_log_vouches_for() {
    let desk = acquired();
    let taken: Value = serde_json::from_str(&desk.ok(&[&TAKE[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!((&taken["exhibit"], &taken["sealed"]), (&"E001".into(), &true.into()));
    let log = desk.ok(&["custody", "log", "case", "--json"]).stdout;
    for act in [
        "commission",
        "exhibit.added",
        "bundle.sealed",
        "fulfilled",
        taken["collector_key"].as_str().unwrap(),
    ] {
        assert!(log.contains(act), "{act} is not in {log}");
    }
    desk.ok(&["verify", "case"]);
    // One commission is for one exhibit.
    desk.run(&TAKE).fails(4, &["holds something already"]);
    desk.ok(&["verify", "case"]);
}

#[test]
fn what_was_damaged_or_cut_on_the_way_is_not_taken_and_can_be_sent_again() {
    let desk = acquired();
    let whole = fs::read(desk.path("web01.tar")).unwrap();
    let at = whole.windows(6).position(|part| part == b"hello\n" || part == b"E001-w").unwrap();
    let mut changed = whole.clone();
    let data = whole.windows(4).position(|part| part == [0x28, 0xb5, 0x2f, 0xfd]).expect("a frame of zstd");
    changed[data + 20] ^= 1;
    let mut moved = whole.clone();
    moved[at] = b'X';
    for bad in [changed, moved, whole[..whole.len() / 2].to_vec(), Vec::new()] {
        desk.write("web01.tar", bad);
        let ran = desk.run(&TAKE);
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert_eq!(fs::read_dir(desk.path("case/exhibits/E001-web01")).unwrap().count(), 0);
    }
    desk.write("web01.tar", whole);
    desk.run(&[&TAKE[..], &["--most", "1KiB"]].concat()).fails(3, &["beyond the limit"]);
    desk.ok(&TAKE);
    desk.ok(&["verify", "case"]);
}

#[test]
fn a_commission_is_for_one_kind_of_one_case() {
    let desk = acquired();
    desk.run(&["acquire", "disk", "web01.tar", "--commission", "web01.commission"])
        .fails(2, &["acquire logs"]);
    desk.run(&["acquire", "logs", "there", "--commission", "web01.commission", "--case", "case"])
        .fails(2, &["--case"]);
    desk.ok(&["init", "other", "--name", "o", "--examiner", "J. Doe"]);
    let other = ["commission", "--case", "other", "--commission", "web01.commission", "--take", "web01.tar"];
    desk.run(&other).fails(2, &["not for this one"]);
    desk.run(&["commission", "--case", "case", "--kind", "ebs", "-o", "x"])
        .fails(2, &["container, disk, logs"]);
    desk.run(&["commission", "--give", "case"]).fails(2, &["not named as an exhibit"]);
    // An exhibit of the right number that is another one.
    desk.ok(&["acquire", "logs", "there/logs", "--case", "other", "--name", "web01"]);
    let given = desk.command().args(["commission", "--give", "other/exhibits/E001-web01"]).output().unwrap();
    desk.write("web01.tar", given.stdout);
    desk.run(&TAKE).fails(3, &["its case is"]);
}
