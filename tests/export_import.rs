//! `exhibit export` and `exhibit acquire import`: exit codes, what is logged, and what is said.

use std::fs;
use std::os::unix::fs::FileExt;

use custody::{CustodyLog, Entry, EntryType};
use serde_json::Value;

use crate::exhibit::Desk;

fn disk() -> Vec<u8> {
    let mut disk = vec![0; 3_000_123];
    let mut state = 1u64;
    for byte in disk.iter_mut().skip(700_000).take(1_500_000) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    disk
}

fn last_entry(desk: &Desk) -> Entry {
    CustodyLog::open(&desk.path("case")).unwrap().read().unwrap().entries.pop().unwrap()
}

#[test]
fn an_export_is_verified_and_logged_with_the_hashes_of_its_files() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", disk()));
    let bundle = bundle.to_str().unwrap();
    let said = desk.ok(&["export", "case:E001", "--format", "raw", "-o", "out.raw"]);
    assert_eq!(said.stdout, "out.raw\n");
    assert!(said.stderr.contains("it is what was acquired"), "{}", said.stderr);
    assert!(fs::read(desk.path("out.raw")).unwrap() == disk());
    let entry = last_entry(&desk);
    let subjects: Vec<_> = entry.about.subject.iter().map(|subject| subject.id.as_str()).collect();
    assert_eq!((entry.kind, subjects), (EntryType::EXPORT_MADE, vec!["disk", "out.raw"]));
    assert_eq!(entry.about.subject[0].sha256, entry.about.subject[1].sha256);

    let json =
        desk.ok(&["export", bundle, "--format", "e01", "-o", "out", "--split", "1MiB", "--json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let files: Vec<_> =
        json["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["out.E01", "out.E02"]);
    assert_eq!(
        (json["size"].as_u64(), json["padding"].as_u64()),
        (Some(3_000_123), Some(512 - 3_000_123 % 512))
    );
    assert_eq!(last_entry(&desk).about.result["md5"], json["md5"]);

    let piped = desk.command().args(["export", bundle, "--format", "raw", "-o", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout == disk());
    desk.run(&["export", bundle, "--format", "raw", "-o", "out.raw"])
        .fails(2, &["out.raw", "overwrite", "-o FILE"]);
    desk.run(&["export", bundle, "--format", "tar", "-o", "x.tar"]).fails(2, &["disk (disk)"]);
    desk.run(&["export", bundle, "--format", "e01", "-o", "-"]).fails(2, &["-o FILE"]);
    desk.run(&["export", bundle, "--format", "raw", "-o", "-", "--json"]).fails(2, &["--json"]);
    desk.run(&["export", "case", "--format", "raw", "-o", "x"]).fails(2, &["case:E001"]);
    desk.run(&["export", bundle, "--format", "zip", "-o", "x"]).fails(2, &["raw, lime, tar and e01"]);
    desk.run(&["export", bundle, "--format", "raw", "-o", "no/such/folder/x"]).fails(4, &["no/such/folder"]);
}

#[test]
fn a_changed_bundle_ends_an_export_with_exit_code_3_and_the_place() {
    let desk = Desk::new();
    let bundle = desk.case_with_disk(&desk.write("disk.raw", disk()));
    let segment = fs::OpenOptions::new().write(true).open(bundle.join("data/disk/000000.zst")).unwrap();
    segment.write_all_at(&[0x55; 64], 600_000).unwrap();
    let ran = desk.run(&["export", "case:E001", "--format", "raw", "-o", "out.raw"]);
    ran.fails(3, &["does not verify", "chunk", "out.raw"]);
    assert!(!desk.path("out.raw").exists() && desk.path("out.raw.part").exists());
    let entry = last_entry(&desk);
    assert_eq!((&entry.kind, &entry.about.result["verdict"]), (&EntryType::VERIFY_RESULT, &"BROKEN".into()));
    desk.run(&["export", "case:E001", "--format", "e01", "-o", "out"]).fails(3, &["chunk"]);
}

#[test]
fn an_image_goes_out_and_comes_in_again_with_its_own_hashes_checked() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", disk()));
    desk.ok(&["export", "case:E001", "--format", "e01", "-o", "out"]);
    let said = desk.ok(&["acquire", "import", "out.E01", "--case", "case"]);
    assert!(said.stderr.contains("taken for e01") && said.stderr.contains("hashes match"), "{}", said.stderr);
    let bundle = said.stdout.trim_end().lines().last().unwrap().to_owned();
    // What was imported is given back as it was.
    desk.ok(&["export", &bundle, "--format", "raw", "-o", "again.E01"]);
    assert!(fs::read(desk.path("again.E01")).unwrap() == fs::read(desk.path("out.E01")).unwrap());
    desk.ok(&["verify", "case"]);

    desk.write("disk.raw.md5", format!("{}  disk.raw\n", "0".repeat(32)));
    let ran = desk.run(&["acquire", "import", "disk.raw", "--case", "case"]);
    ran.fails(1, &["taken for raw", "DIFFER", "disk.raw.md5"]);
    desk.run(&["acquire", "import", "disk.raw", "--format", "e01", "--case", "case"])
        .fails(4, &["disk.raw", "no segment of an E01"]);
    desk.run(&["acquire", "import", "gone.E01", "--case", "case"]).fails(4, &["gone.E01"]);
    desk.run(&["acquire", "import", "disk.raw", "--format", "zip", "--case", "case"])
        .fails(2, &["velociraptor"]);
}
