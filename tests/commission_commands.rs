//! A machine without a case acquires for one: commission, acquire, give, take.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Acts on an exhibit that the case's log tells of.
fn acts(desk: &Desk) -> Vec<String> {
    let log = custody::Case::open(&desk.path("case")).unwrap().log().read().unwrap();
    let of_it = log.entries.iter().filter(|entry| entry.about.exhibit.as_deref() == Some("E001"));
    of_it.map(|entry| entry.how_text("act").unwrap_or(entry.kind.as_str()).to_owned()).collect()
}

const WHOLE: [&str; 4] = ["issued", "exhibit.added", "bundle.sealed", "fulfilled"];

#[test]
fn killed_at_any_moment_it_adopts_nothing_unchecked_and_the_same_again_takes_it_in() {
    let whole = fs::read(acquired().path("web01.tar")).unwrap();
    let steps = [1, 4, 8, 16, 24, 30, 31, 32, 32, 32];
    for at in steps.map(|step| (whole.len() * step / 32).min(whole.len())) {
        let desk = acquired();
        let tar = fs::read(desk.path("web01.tar")).unwrap();
        let mut child = desk
            .command()
            .args([&TAKE[..5], &["--take", "-"]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&tar[..at.min(tar.len())]).unwrap();
        // Until it has read all of that, and waits for more or goes on to the end.
        let begun = Instant::now();
        while rustix::io::ioctl_fionread(&pipe).unwrap_or(0) > 0 && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(pipe);
        let there = desk.path("case/exhibits/E001-web01");
        let is_there = fs::read_dir(&there).unwrap().next().is_some();
        // What lies among the exhibits is whole, whatever else was done.
        if is_there {
            let found = custody::verify::verify(&there, &custody::verify::Options::default()).unwrap();
            assert!(found.is_intact() && found.manifest_sha256.is_some(), "{at}: {:?}", found.faults);
        } else {
            desk.ok(&["verify", "case"]);
        }
        if acts(&desk) != WHOLE {
            desk.ok(&TAKE);
        }
        assert_eq!(acts(&desk), WHOLE, "killed after {at} bytes");
        desk.ok(&["verify", "case"]);
        assert!(!desk.path("case/taking").exists(), "killed after {at} bytes");
    }
}

#[test]
fn what_is_in_its_place_and_not_in_the_log_is_checked_again_and_told() {
    // Put in place, and killed before the case's log told of it: as it lies in a case that took it, in one that did not.
    let desk = acquired();
    copy(&desk.path("case"), &desk.path("before"));
    desk.ok(&TAKE);
    let place = desk.path("before/exhibits/E001-web01");
    fs::remove_dir(&place).unwrap();
    copy(&desk.path("case/exhibits/E001-web01"), &place);
    fs::remove_dir_all(desk.path("case")).unwrap();
    fs::rename(desk.path("before"), desk.path("case")).unwrap();
    assert_eq!(acts(&desk), ["issued"]);
    desk.run(&["commission", "--case", "case", "--commission", "web01.commission", "--give-up"])
        .fails(4, &["it is not given up"]);
    copy(&desk.path("case"), &desk.path("damaged"));

    desk.write("web01.tar", "nothing that is read");
    desk.ok(&TAKE);
    assert_eq!(acts(&desk), WHOLE);
    desk.ok(&["verify", "case"]);

    // The same, and somebody has changed it meanwhile.
    fs::remove_dir_all(desk.path("case")).unwrap();
    fs::rename(desk.path("damaged"), desk.path("case")).unwrap();
    let data = desk.path("case/exhibits/E001-web01/data/files/000000.zst");
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, bytes).unwrap();
    desk.run(&TAKE).fails(3, &["does not verify"]);
    assert_eq!(acts(&desk), ["issued"]);
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_commission_that_was_given_up_takes_nothing_in() {
    let desk = acquired();
    let give_up = ["commission", "--case", "case", "--commission", "web01.commission", "--give-up"];
    desk.ok(&give_up);
    desk.run(&TAKE).fails(4, &["was given up"]);
    // Twice says no more than once.
    desk.ok(&give_up);
    assert_eq!(acts(&desk), ["issued", "given up"]);
    assert_eq!(fs::read_dir(desk.path("case/exhibits/E001-web01")).unwrap().count(), 0);
}

/// What came, changed on the way by somebody who may sign.
fn given(desk: &Desk, change: impl FnOnce(&Path)) {
    let folder = desk.path("there/E001-web01");
    change(&folder);
    let given = desk.command().args(["commission", "--give", "there/E001-web01"]).output().unwrap();
    assert!(given.status.success());
    desk.write("web01.tar", given.stdout);
}

#[test]
fn what_holds_nothing_of_value_is_not_taken_for_evidence() {
    // Its data is said to lie elsewhere.
    let desk = acquired();
    given(&desk, |folder| {
        fs::remove_dir_all(folder.join("data/files")).unwrap();
        fs::write(folder.join("store.json"), "{}\n").unwrap();
    });
    desk.run(&TAKE).fails(3, &["no file of a bundle that lies where it is"]);
    // A log alone, validly signed, of another case.
    let desk = acquired();
    given(&desk, |folder| {
        fs::remove_dir_all(folder).unwrap();
        copy(&desk.path("case"), folder);
        for more in ["case.json", "exhibits", "timeline", "reports"] {
            let path = folder.join(more);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
        }
    });
    desk.run(&TAKE).fails(3, &["has the exhibit"]);
    desk.ok(&["verify", "case"]);
    assert_eq!(acts(&desk), ["issued"]);
}
