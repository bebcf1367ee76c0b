//! Imaging from the command line: rates, ranges, parts of images, and the self-test.

use std::fs;

use serde_json::Value;

use crate::exhibit::Desk;

/// Each sector tells its number.
fn stamped(sectors: usize) -> Vec<u8> {
    (0..sectors)
        .flat_map(|lba| format!("sector {lba:>12}|").repeat(26).into_bytes()[..512].to_vec())
        .collect()
}

fn manifest(desk: &Desk, bundle: &str) -> Value {
    let manifest = fs::read_to_string(desk.path(bundle.trim_end()).join("manifest.json")).unwrap();
    serde_json::from_str(&manifest).unwrap()
}

#[test]
fn a_range_a_rate_and_a_bound_on_bad_areas_are_options_of_the_manifest() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let data = stamped(1000);
    desk.write("disk.raw", &data);
    let ran = desk.ok(&[
        "acquire",
        "disk",
        "disk.raw",
        "--case",
        "case",
        "--offset",
        "100s",
        "--length",
        "51200",
        "--max-read",
        "50MB/s",
        "--bad-area-time",
        "20min",
    ]);
    let manifest = manifest(&desk, &ran.stdout);
    assert_eq!(manifest["options"]["max_read"], 50_000_000);
    assert_eq!(manifest["options"]["bad_areas_s"], 1200);
    assert_eq!(manifest["source"]["subset"]["offset"], 51_200);
    assert_eq!(manifest["source"]["subset"]["not_acquired_behind"], 800 * 512);
    let sha256 = custody::sha256(&data[51_200..102_400]).to_string();
    assert_eq!(manifest["streams"][0]["sha256"], sha256);

    for wrong in [["--max-read", "50"], ["--offset", "1x"], ["--bad-area-time", "soon"]] {
        let args = [&["acquire", "disk", "disk.raw", "--case", "case"][..], &wrong].concat();
        desk.run(&args).fails(2, &["write it"]);
    }
    let behind = ["acquire", "disk", "disk.raw", "--case", "case", "--offset", "999s", "--length", "2s"];
    desk.run(&behind).fails(4, &["disk.raw", "ends behind its last byte"]);
}

#[test]
fn any_part_of_a_split_image_is_the_whole_and_a_missing_one_is_named() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let data = stamped(1000);
    for (number, part) in data.chunks(200 * 512).enumerate() {
        desk.write(&format!("image.{:03}", number + 1), part);
    }
    let ran = desk.ok(&["acquire", "disk", "image.004", "--case", "case"]);
    let told = manifest(&desk, &ran.stdout);
    assert_eq!((&told["source"]["form"], &told["source"]["part_count"]), (&"split image".into(), &5.into()));
    assert_eq!(told["streams"][0]["sha256"], custody::sha256(&data).to_string());
    fs::remove_file(desk.path("image.003")).unwrap();
    desk.run(&["acquire", "disk", "image.001", "--case", "case"])
        .fails(4, &["image.003", "missing", "--one-file"]);
    let ran = desk.ok(&["acquire", "disk", "image.001", "--case", "case", "--one-file"]);
    assert_eq!(manifest(&desk, &ran.stdout)["source"]["size"], 200 * 512);
}

#[test]
fn the_self_test_is_signed_into_the_case() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let ran = desk.ok(&["selftest", "--case", "case"]);
    for line in ran.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(ran.stdout.matches("holds").count(), 11, "{}", ran.stdout);
    let log = desk.ok(&["custody", "log", "case", "--json"]).stdout;
    let entry: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&entry["type"], &entry["result"]["failed"]), (&"selftest.result".into(), &0.into()));
    assert_eq!(entry["result"]["assertions"]["AM-09"], "holds");
    assert!(entry["tool"]["build_sha256"].is_string() && entry["host"]["name"].is_string(), "{entry}");
    desk.ok(&["verify", "case"]);

    let json: Value = serde_json::from_str(&desk.ok(&["selftest", "--json"]).stdout).unwrap();
    assert_eq!((json["assertions"].as_array().unwrap().len(), &json["failed"]), (11, &0.into()));
    desk.run(&["selftest", "--case", "gone"]).fails(2, &["gone"]);
}
