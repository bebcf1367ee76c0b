//! The real binary: the contract of the command line, and what it says to bad input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and says what it skipped"
)]

#[path = "aftercare_commands.rs"]
mod aftercare_commands;
#[path = "anchors.rs"]
mod anchors;
#[cfg(feature = "cloud")]
#[path = "cloud_commands.rs"]
mod cloud_commands;
#[cfg(feature = "cloud")]
#[path = "cloud_read_commands.rs"]
mod cloud_read_commands;
#[cfg(feature = "cloud")]
#[path = "cloud_secrets.rs"]
mod cloud_secrets;
#[cfg(feature = "cloud")]
#[path = "cloud_store_commands.rs"]
mod cloud_store_commands;
#[path = "commission_commands.rs"]
mod commission_commands;
#[path = "crate_graph.rs"]
mod crate_graph;
#[path = "debian_incident.rs"]
mod debian_incident;
#[cfg(feature = "cloud")]
#[path = "ebs_commands.rs"]
mod ebs_commands;
#[cfg(feature = "cloud")]
#[path = "ebs_kills.rs"]
mod ebs_kills;
#[cfg(feature = "serve")]
#[allow(dead_code, reason = "the tests of the library use more of it")]
#[path = "support/edr_console/mod.rs"]
mod edr_console;
#[path = "encrypted_case.rs"]
mod encrypted_case;
#[path = "support/exhibit.rs"]
mod exhibit;
#[path = "export_import.rs"]
mod export_import;
#[cfg(feature = "serve")]
#[allow(dead_code, reason = "the tests of the library use more of it")]
#[path = "respond/fake_service.rs"]
mod fake_service;
#[cfg(feature = "cloud")]
#[path = "support/fault_server/mod.rs"]
mod fault_server;
#[path = "frozen_case.rs"]
mod frozen_case;
#[cfg(feature = "cloud")]
#[path = "grant_commands.rs"]
mod grant_commands;
#[path = "handover_commands.rs"]
mod handover_commands;
#[cfg(feature = "serve")]
#[path = "support/http_client.rs"]
mod http_client;
#[path = "imaging_commands.rs"]
mod imaging_commands;
#[cfg(feature = "serve")]
#[path = "isolate_commands.rs"]
mod isolate_commands;
#[path = "support/loopback.rs"]
mod loopback;
#[cfg(feature = "cloud")]
#[path = "support/moto.rs"]
mod moto;
#[cfg(feature = "serve")]
#[path = "support/netns.rs"]
mod netns;
#[path = "other_side.rs"]
mod other_side;
#[path = "proof_commands.rs"]
mod proof_commands;
#[path = "proofs.rs"]
mod proofs;
#[cfg(feature = "cloud")]
#[path = "support/radosgw.rs"]
mod radosgw;
#[cfg(feature = "serve")]
#[path = "ready_commands.rs"]
mod ready_commands;
#[cfg(feature = "serve")]
#[path = "rules_commands.rs"]
mod rules_commands;
#[cfg(feature = "serve")]
#[path = "support/runc_box.rs"]
mod runc_box;
#[cfg(feature = "cloud")]
#[allow(dead_code, reason = "the tests of the library use more of it")]
#[path = "support/s3.rs"]
mod s3;
#[cfg(feature = "cloud")]
#[path = "support/s3_front.rs"]
mod s3_front;
#[cfg(feature = "serve")]
#[path = "serve_commands.rs"]
mod serve_commands;
#[cfg(feature = "serve")]
#[path = "serve_container.rs"]
mod serve_container;
#[cfg(feature = "serve")]
#[path = "serve_edr.rs"]
mod serve_edr;
#[cfg(feature = "serve")]
#[path = "serve_end_to_end.rs"]
mod serve_end_to_end;
#[cfg(feature = "serve")]
#[path = "serve_jobs.rs"]
mod serve_jobs;
#[cfg(feature = "serve")]
#[path = "serve_ssh.rs"]
mod serve_ssh;
#[cfg(feature = "serve")]
#[path = "support/serving.rs"]
mod serving;
#[cfg(feature = "serve")]
#[path = "support/sshd.rs"]
mod sshd;
#[path = "syscalls.rs"]
mod syscalls;
#[path = "support/test_authority.rs"]
mod test_authority;
#[path = "support/web01.rs"]
mod web01;
#[path = "web01_counts.rs"]
mod web01_counts;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use exhibit::{Desk, noise, ran};

const DISK: &[u8] = &[0x5a; 3_000_000];

#[test]
fn a_case_goes_from_init_to_report_and_each_step_is_an_entry() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", DISK));
    assert!(bundle.ends_with("exhibits/E001-disk"), "{bundle:?}");
    assert!(bundle.join("manifest.json").is_file());
    desk.ok(&["custody", "note", "case", "seal 0042 intact"]);
    let verified = desk.ok(&["verify", "case"]);
    assert!(verified.stdout.contains("CONSISTENT"), "{}", verified.stdout);
    assert!(verified.stdout.contains("0 anchors independent of the presenter"), "{}", verified.stdout);
    desk.ok(&["report", "case", "-o", "out"]);
    let html = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(html.contains("seal 0042 intact"));

    let log = desk.ok(&["custody", "log", "case", "--json"]).stdout;
    let types: Vec<String> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        types,
        ["log.genesis", "exhibit.added", "bundle.sealed", "note", "verify.result", "report.issued"]
    );
    let list = desk.ok(&["list", "case", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!((list[0]["id"].as_str(), list[0]["size"].as_u64()), (Some("E001"), Some(3_000_000)));
}

#[test]
fn the_same_heads_give_the_same_report() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", DISK));
    Command::new("cp").args(["-a", "case", "copy"]).current_dir(desk.path("")).status().unwrap();
    desk.ok(&["report", "case", "-o", "a"]);
    desk.ok(&["report", "copy", "-o", "b"]);
    assert_eq!(fs::read(desk.path("a/report.html")).unwrap(), fs::read(desk.path("b/report.html")).unwrap());
}

#[test]
fn a_report_says_signed_only_with_a_key_that_is_trusted_and_comes_in_every_form() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", DISK));
    let shown = desk.ok(&["report", "case", "-o", "out", "--format", "html,case,json", "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["verdict"], "CONSISTENT");
    assert_eq!(shown["files"].as_array().unwrap().len(), 3);
    let model = fs::read_to_string(desk.path("out/report.json")).unwrap();
    let model: serde_json::Value = serde_json::from_str(&model).unwrap();
    assert!(model["checks"].as_array().unwrap().len() > 10);
    let vkey = desk.path("case/keys/log.vkey");
    desk.ok(&["report", "case", "-o", "signed", "--trust", vkey.to_str().unwrap()]);
    let html = fs::read_to_string(desk.path("signed/report.html")).unwrap();
    assert!(html.contains("<b>SIGNED</b>"));
    desk.run(&["report", "case", "-o", "out", "--anchors", "case/anchors"]).fails(2, &["lies within"]);
}

#[test]
fn hostile_text_is_escaped_in_the_report() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "<script>alert(1)</script>", "--examiner", "a\"b"]);
    desk.ok(&["custody", "note", "case", "<img src=x onerror=alert(2)>"]);
    desk.ok(&["report", "case", "-o", "out"]);
    let html = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(!html.contains("<script>") && !html.contains("<img"), "hostile text reached the page");
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.run(&["acquire", "disk", "gone.raw", "--case", "case"]).fails(4, &["gone.raw", "No such file"]);
    assert!(
        fs::read_dir(desk.path("case/exhibits")).unwrap().next().is_none(),
        "no empty exhibit is left behind"
    );
    desk.run(&["acquire", "logs", "gone", "--case", "case"]).fails(4, &["gone"]);
    desk.run(&["verify", "gone"]).fails(2, &["gone"]);
    desk.run(&["timeline", "gone"]).fails(2, &["gone", "exhibit init"]);
}

#[test]
fn a_folder_where_a_disk_is_due_is_refused_with_the_way_out() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    fs::create_dir(desk.path("folder")).unwrap();
    desk.run(&["acquire", "disk", "folder", "--case", "case"]).fails(4, &["folder", "acquire logs"]);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let desk = Desk::new();
    desk.run(&["frobnicate"]).fails(2, &["frobnicate"]);
    desk.run(&["init", "case"]).fails(2, &["--name", "--examiner"]);
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.run(&["timeline", "case"]).fails(2, &["no exhibit yet"]);
    desk.run(&["init", "case", "--name", "n", "--examiner", "e"]).fails(4, &["case", "new or empty"]);
    desk.run(&["verify", "case:E001"]).fails(2, &["E001", "none yet"]);
}

#[test]
fn a_key_that_the_log_does_not_know_signs_nothing() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.ok(&["key", "new", "--key", "other.pem"]);
    let before = fs::read(desk.path("case/custody.jsonl")).unwrap();
    desk.run(&["custody", "note", "case", "x", "--key", "other.pem"])
        .fails(4, &["may not sign", "--key FILE"]);
    assert_eq!(fs::read(desk.path("case/custody.jsonl")).unwrap(), before);
    desk.run(&["custody", "note", "case", "x", "--key", "missing.pem"])
        .fails(4, &["missing.pem", "exhibit key new"]);
    desk.write("broken.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    desk.run(&["custody", "note", "case", "x", "--key", "broken.pem"]).fails(4, &["key"]);
}

#[test]
fn verifying_with_another_key_does_not_reach_signed() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", DISK));
    desk.ok(&["key", "new", "--key", "other.pem"]);
    let other = desk.ok(&["key", "show", "--key", "other.pem", "--json"]).stdout;
    let other: serde_json::Value = serde_json::from_str(&other).unwrap();
    let mine = desk.ok(&["key", "show", "--json"]).stdout;
    let mine: serde_json::Value = serde_json::from_str(&mine).unwrap();
    let trust = |key: &serde_json::Value| {
        desk.run(&["verify", "case", "--trust", key["fingerprint"].as_str().unwrap(), "--at-least", "SIGNED"])
    };
    assert_eq!(trust(&mine).code, 0);
    assert_eq!(trust(&other).code, 3);
}

#[test]
fn one_changed_byte_is_exit_code_3_and_named() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", noise(2_000_000)));
    let segment = bundle.join("data/disk/000000.zst");
    let file = fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 700_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 700_000).unwrap();
    let ran = desk.run(&["verify", "case"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("BROKEN") && ran.stdout.contains("data/disk/000000.zst"), "{}", ran.stdout);
    assert!(ran.stdout.contains("chunk"), "{}", ran.stdout);
}

/// Runs a closure on a file system of so many bytes, or says why it cannot.
fn on_small_disk(desk: &Desk, size: &str, test: impl FnOnce(&Path)) {
    let mount = desk.path("small");
    fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
        .arg(&mount)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mount)));
    Command::new("umount").arg("-l").arg(&mount).status().unwrap();
    result.unwrap();
}

#[test]
fn a_full_disk_is_a_clear_error_and_loses_nothing_sealed() {
    let desk = Desk::new();
    let noise = noise(6_000_000);
    let (small, large) = (desk.write("small.raw", &noise[..500_000]), desk.write("large.raw", &noise));
    on_small_disk(&desk, "3m", |mount| {
        let case = mount.join("case");
        let case = case.to_str().unwrap();
        desk.ok(&["init", case, "--name", "n", "--examiner", "e"]);
        desk.ok(&["acquire", "disk", small.to_str().unwrap(), "--case", case]);
        let ran = desk.run(&["acquire", "disk", large.to_str().unwrap(), "--case", case]);
        ran.fails(4, &["No space left"]);
        let verified = desk.run(&["verify", &format!("{case}:E001"), "-q"]);
        assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
        assert_eq!(desk.run(&["list", case]).code, 0);
    });
}

#[test]
fn an_open_bundle_is_listed_and_left_out_of_the_timeline() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", DISK));
    desk.ok(&["acquire", "disk", "disk.raw", "--case", "case", "--name", "second"]);
    fs::remove_file(bundle.join("manifest.json")).unwrap();
    let list = desk.ok(&["list", "case"]);
    assert!(list.stdout.contains("E001") && list.stdout.contains("E002"), "{}", list.stdout);
    let ran = desk.run(&["timeline", "case"]);
    ran.fails(1, &["E001 is left out"]);
    desk.run(&["timeline", "case", "--exhibit", "E001"]).fails(4, &["E001"]);
}

#[test]
fn a_bundle_of_a_later_format_version_is_refused_by_name() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", DISK));
    let manifest = fs::read_to_string(bundle.join("manifest.json")).unwrap();
    fs::write(bundle.join("manifest.json"), manifest.replace("exhibit-bundle/1", "exhibit-bundle/2"))
        .unwrap();
    desk.run(&["timeline", "case", "--exhibit", "E001"]).fails(4, &["exhibit-bundle/2"]);
}

#[test]
fn a_corrupt_superblock_is_an_issue_with_its_place() {
    if Command::new("mke2fs").arg("-V").output().is_err() {
        println!("skipped: there is no mke2fs");
        return;
    }
    let desk = Desk::new();
    let disk = desk.write("disk.raw", vec![0; 4 << 20]);
    let made = Command::new("mke2fs").args(["-q", "-t", "ext4", "-F"]).arg(&disk).status().unwrap();
    assert!(made.success());
    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&[0xff; 900], 1024).unwrap();
    desk.case_with_disk(&disk);
    let ran = desk.run(&["timeline", "case"]);
    ran.fails(1, &["warning: disk"]);
}

#[test]
fn a_case_in_use_says_so_and_is_left_alone() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", DISK));
    fs::create_dir_all(desk.path("case/timeline")).unwrap();
    let folder = fs::File::open(desk.path("case/timeline")).unwrap();
    folder.lock().unwrap();
    desk.run(&["timeline", "case"]).fails(4, &["case/timeline", "in use by another process"]);
    drop(folder);
    // 1: the disk holds no file system, which is listed.
    assert_eq!(desk.run(&["timeline", "case"]).code, 1);
}

/// A case with a log folder and its timeline.
fn case_with_timeline(desk: &Desk) {
    let lines: String =
        (0..50).map(|n| format!("2026-11-09T10:00:{n:02}Z web01 app[7]: line {n}\n")).collect();
    desk.write("logs/syslog", lines);
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.ok(&["acquire", "logs", "logs", "--case", "case"]);
    desk.ok(&["timeline", "case"]);
}

#[test]
fn a_timeline_that_was_changed_is_refused_until_it_is_built_anew() {
    let desk = Desk::new();
    case_with_timeline(&desk);
    assert!(desk.ok(&["query", "case", "--grep", "line 7", "--json"]).stdout.contains("line 7"));
    let folder = desk.path("case/timeline/events/exhibit=E001");
    let part = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&part).unwrap();
    bytes[200] ^= 1;
    fs::write(&part, bytes).unwrap();
    desk.run(&["query", "case"]).fails(4, &["was changed", "timeline/events/exhibit=E001"]);
    desk.run(&["sql", "case", "SELECT COUNT(*) FROM events"]).fails(4, &["was changed"]);
    let verified = desk.run(&["verify", "case"]);
    assert!(verified.code == 3 && verified.stdout.contains("timeline/events"), "{}", verified.stdout);
    desk.ok(&["timeline", "case"]);
    desk.ok(&["query", "case"]);
    desk.ok(&["verify", "case"]);
}

#[test]
fn a_hostile_case_does_not_lead_the_clean_up_out_of_itself() {
    let desk = Desk::new();
    case_with_timeline(&desk);
    let victim = desk.write("victim/0123456789abcdef0123456789abcdef.parquet", "precious");
    std::os::unix::fs::symlink(desk.path("victim"), desk.path("case/timeline/events/evil")).unwrap();
    desk.ok(&["timeline", "case", "--timezone", "UTC"]);
    assert_eq!(fs::read(victim).unwrap(), b"precious");
}

#[test]
fn an_anchor_out_of_the_case_itself_is_none() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", DISK));
    let inside = bundle.join("checkpoints");
    desk.run(&["verify", "case", "--anchors", inside.to_str().unwrap()]).fails(2, &["lies within"]);
    Command::new("cp")
        .args(["-r", inside.to_str().unwrap(), "kept"])
        .current_dir(desk.path(""))
        .status()
        .unwrap();
    let kept = desk.ok(&["verify", "case:E001", "--anchors", "kept"]);
    assert!(kept.stdout.contains("ANCHORED(1)"), "{}", kept.stdout);
}

#[test]
fn standard_input_is_a_source() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.write("disk.raw", DISK);
    let output = desk
        .command()
        .args(["acquire", "disk", "-", "--case", "case", "--name", "piped"])
        .stdin(fs::File::open(desk.path("disk.raw")).unwrap())
        .output()
        .unwrap();
    let ran = ran(output);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let list: serde_json::Value = serde_json::from_str(&desk.ok(&["list", "case", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["size"].as_u64(), Some(DISK.len() as u64));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let desk = Desk::new();
    let mut child = desk.command().arg("parsers").stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().code().is_some_and(|code| code == 0));
}

#[test]
fn help_fits_80_columns_and_every_command_has_an_example() {
    let desk = Desk::new();
    let help = desk.ok(&["--help"]).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 14, "{commands:?}");
    for name in commands {
        let help = desk.ok(&[name, "--help"]).stdout;
        assert!(help.contains("Example"), "exhibit {name} --help has no example");
    }
}

#[test]
fn a_query_whose_reader_goes_away_is_logged_all_the_same() {
    let desk = Desk::new();
    case_with_timeline(&desk);
    // More rows than a pipe holds, so that the writer meets the closed end.
    let lines: String =
        (0..20_000).map(|n| format!("2026-11-09T10:00:00Z web01 app[7]: line {n}\n")).collect();
    desk.write("more/syslog", lines);
    desk.ok(&["acquire", "logs", "more", "--case", "case"]);
    desk.ok(&["timeline", "case"]);
    let mut child = desk
        .command()
        .args(["query", "case", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = desk.ok(&["custody", "log", "case", "--json"]).stdout;
    assert!(log.lines().last().unwrap().contains("stopped_by"), "{log}");
}
