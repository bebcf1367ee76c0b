//! Imports: foreign files come in byte for byte, and what they state about themselves is checked and told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use acquire::export::{Export, Format as ExportFormat};
use acquire::import::{Format, Import};
use acquire::{Acquisition, Error, Report};
use custody::bundle::Bundle;
use custody::{CustodyLog, EntryType, sha256};
use serde_json::Value;

use crate::support::*;

fn import_as(given: &[PathBuf], format: Option<Format>, folder: &Path) -> acquire::Result<Report> {
    let import = Import::open(given, format)?;
    with_writer(|writer| Acquisition::new(import, destination(folder)).options(options()).run(writer))
}

/// Imports what it is found to be; gives the report, and what the manifest says of the foreign file.
fn import(given: &[&Path], folder: &Path) -> (Report, String, Value) {
    let given: Vec<PathBuf> = given.iter().map(|path| path.to_path_buf()).collect();
    let report = import_as(&given, None, folder).unwrap();
    let bundle = Bundle::open(folder).unwrap();
    let manifest = bundle.manifest();
    let format = manifest.options["format"].as_str().unwrap().to_owned();
    (report, format, manifest.source.more["foreign"].clone())
}

fn words(report: &Report) -> String {
    report.issues.iter().map(|issue| format!("{}: {}\n", issue.path, issue.what)).collect()
}

/// An E01 of our own making, of a disk with bad sectors.
fn make_e01(place: &Path, data: &[u8], split: bool) -> PathBuf {
    let folder = place.join("made");
    acquire_disk(Box::new(FaultSource::new(data.to_vec(), &[3, 4, 9])), &folder).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let plan = Export::new(&bundle, ExportFormat::E01, None).unwrap();
    let plan = if split { plan.split(1 << 20).unwrap() } else { plan };
    plan.to_file(&place.join("disk.E01")).unwrap();
    place.join("disk.E01")
}

/// The digits that `md5sum` and its kin print.
fn first_word(output: std::process::Output) -> String {
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut data = vec![0; length];
    data.fill_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    data
}

#[test]
fn an_e01_comes_in_unchanged_and_its_hashes_and_header_are_told() {
    let place = tempfile::tempdir().unwrap();
    let file = make_e01(place.path(), &content(3 * SEGMENT + 700), false);
    let folder = place.path().join("bundle");
    let (report, format, foreign) = import(&[&file], &folder);
    assert_eq!((format.as_str(), report.issue_count), ("e01", 0));
    let bytes = fs::read(&file).unwrap();
    assert!(read_all(&Bundle::open(&folder).unwrap(), "original") == bytes);
    assert_eq!(report.streams[0].kind, "import");
    assert_eq!(foreign["check"], "matches");
    assert_eq!(foreign["stored"], foreign["computed"]);
    assert_eq!(foreign["stored"].as_object().unwrap().len(), 2, "MD5 and SHA-1");
    assert_eq!((&foreign["evidence_number"], &foreign["examiner"]), (&"E001".into(), &"J. Doe".into()));
    assert_eq!(foreign["acquired"], "2026-11-21T01:30:00.000000000Z");
    assert_eq!(foreign["media"]["size"], (3 * SEGMENT + 1024) as u64);
    assert_eq!(foreign["read_errors"]["first"].to_string(), "[[3,2],[9,1]]");
    let source = Bundle::open(&folder).unwrap().manifest().source.clone();
    assert_eq!(source.more["parts"][0]["sha256"], sha256(&bytes).to_string());
    let log = CustodyLog::open(&folder).unwrap().read().unwrap();
    let entry = log.entries.iter().find(|entry| entry.kind == EntryType::VERIFY_RESULT).unwrap();
    assert_eq!(entry.about.result["check"], "matches");
}

#[test]
fn a_set_of_segments_is_found_from_any_of_them_and_a_missing_one_is_named() {
    let place = tempfile::tempdir().unwrap();
    let first = make_e01(place.path(), &noise(3 << 20), true);
    let parts: Vec<PathBuf> = (1..=4).map(|number| place.path().join(format!("disk.E{number:02}"))).collect();
    for beside in ["disk.log", "disk.LOG", "disk.RAW", "disk.txt"] {
        fs::write(place.path().join(beside), "no segment").unwrap();
    }
    let whole: Vec<u8> = parts.iter().flat_map(|part| fs::read(part).unwrap()).collect();
    for (number, given) in
        [vec![&first], vec![&parts[2]], vec![&parts[3], &parts[0], &parts[2], &parts[1]]].iter().enumerate()
    {
        let folder = place.path().join(format!("bundle{number}"));
        let given: Vec<&Path> = given.iter().map(|path| path.as_path()).collect();
        let (report, _, foreign) = import(&given, &folder);
        assert_eq!((report.issue_count, &foreign["check"]), (0, &"matches".into()), "{}", words(&report));
        let bundle = Bundle::open(&folder).unwrap();
        assert!(read_all(&bundle, "original") == whole);
        for (part, told) in parts.iter().zip(bundle.manifest().source.more["parts"].as_array().unwrap()) {
            assert_eq!(told["sha256"], sha256(&fs::read(part).unwrap()).to_string());
        }
        assert_eq!(bundle.manifest().options["parts"].as_array().unwrap().len(), 4);
    }
    fs::rename(&parts[1], place.path().join("elsewhere")).unwrap();
    match import_as(std::slice::from_ref(&first), None, &place.path().join("x")) {
        Err(Error::NotImportable { path, .. }) => assert_eq!(path, parts[1]),
        other => panic!("{other:?}"),
    }
    fs::rename(place.path().join("elsewhere"), &parts[1]).unwrap();
    // That the last one is missing, only the one before can tell.
    fs::remove_file(&parts[3]).unwrap();
    let (report, _, foreign) = import(&[&first], &place.path().join("short"));
    assert!(words(&report).contains("goes on in a file that is missing"), "{}", words(&report));
    assert_eq!(foreign["check"], "none stored", "hashes stand in the last file");
}

#[test]
fn an_e01_whose_content_was_changed_is_told_with_its_chunk() {
    let place = tempfile::tempdir().unwrap();
    let file = make_e01(place.path(), &noise(1 << 20), false);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let folder = place.path().join("bundle");
    let (report, _, foreign) = import(&[&file], &folder);
    assert_eq!(foreign["check"], "differs");
    assert!(
        words(&report).contains("chunk 15 is damaged") || words(&report).contains("chunk 16 is damaged"),
        "{}",
        words(&report)
    );
    assert!(words(&report).contains("its media have the md5"), "{}", words(&report));
    assert!(read_all(&Bundle::open(&folder).unwrap(), "original") == bytes, "it is stored as it is");
}

#[test]
fn an_e01_damaged_or_cut_anywhere_is_stored_and_never_passes() {
    let place = tempfile::tempdir().unwrap();
    let file = make_e01(place.path(), &content(2 * CHUNK), false);
    let good = fs::read(&file).unwrap();
    // Every byte of the file header, and places all over the sections.
    for at in (0..13).chain((13..good.len()).step_by(good.len() / 30)) {
        let mut damaged = good.clone();
        damaged[at] = damaged[at].wrapping_add(0x41);
        for (is_cut, bytes) in [(false, damaged), (true, good[..at].to_vec())] {
            fs::write(&file, &bytes).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let Ok(report) = import_as(std::slice::from_ref(&file), Some(Format::E01), folder.path()) else {
                assert!(at < 13, "only a file that is no E01 at all is refused: {at}");
                continue;
            };
            let bundle = Bundle::open(folder.path()).unwrap();
            assert!(read_all(&bundle, "original") == bytes);
            let foreign = &bundle.manifest().source.more["foreign"];
            // What no checksum covers and no hash needs cannot be told, such as the second copy of a table.
            let is_told = report.issue_count > 0 || foreign["check"] != "matches";
            assert!(is_told || !is_cut, "cut at {at} of {}: {foreign}", good.len());
        }
    }
}

#[test]
fn images_of_ewfacquire_pass_in_all_their_forms() {
    let tool = |tool: &str| Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    if !tool("ewfacquire").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: ewfacquire is not installed");
        return;
    }
    for (format, more) in [
        ("encase1", ["-c", "fast"].as_slice()),
        ("encase3", &["-c", "none"]),
        ("encase5", &["-c", "best", "-b", "128"]),
        ("encase6", &["-c", "fast", "-S", "1M", "-d", "sha1"]),
        ("encase6", &["-c", "empty-block"]),
        ("ftk", &["-c", "none"]),
        ("smart", &["-c", "fast"]),
        ("linen6", &["-c", "none", "-S", "1M"]),
    ] {
        let place = tempfile::tempdir().unwrap();
        let mut data = content(2 * SEGMENT);
        data.extend(noise(2 << 20));
        fs::write(place.path().join("disk.raw"), &data).unwrap();
        let made = Command::new("ewfacquire")
            .args(["-q", "-u", "-f", format, "-t", "disk", "-C", "case 7", "-e", "examiner"])
            .args(more)
            .arg("disk.raw")
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{format}: {}", String::from_utf8_lossy(&made.stderr));
        let first = ["disk.E01", "disk.e01", "disk.s01"].map(|name| place.path().join(name));
        let first = first.iter().find(|path| path.exists()).unwrap();
        let (report, found, foreign) = import(&[first], &place.path().join("bundle"));
        assert_eq!(found, "e01");
        assert_eq!(
            (words(&report).as_str(), &foreign["check"]),
            ("", &"matches".into()),
            "{format} {more:?} {foreign}"
        );
        assert_eq!(foreign["media"]["size"], data.len() as u64);
        assert_eq!(
            (&foreign["case_number"], &foreign["examiner"]),
            (&"case 7".into(), &"examiner".into()),
            "{format}"
        );
    }
}

#[test]
fn hashes_beside_a_raw_image_are_checked() {
    let md5 = |data: &[u8]| {
        let output = Command::new("md5sum")
            .arg("-")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let mut child = output.unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), data).unwrap();
        first_word(child.wait_with_output().unwrap())
    };
    let data = content(SEGMENT);
    for (note, text, check) in [
        ("disk.raw.md5", format!("{}  disk.raw\n", md5(&data)), "matches"),
        ("disk.md5", md5(&data), "matches"),
        ("disk.raw.txt", format!("[Computed Hashes]\r\n MD5 checksum:    {}\r\n", md5(&data)), "matches"),
        ("disk.info", format!("MD5 hash    : {}\nSHA256 hash : {}\n", md5(&data), sha256(&data)), "matches"),
        ("SHA256SUMS", format!("{} *./disk.raw\n{} *other\n", sha256(&data), sha256(b"")), "matches"),
        ("disk.raw.sha256", format!("{}  disk.raw\n", sha256(b"something else")), "differs"),
        ("disk.log", "no hash here\n".to_owned(), "none stored"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("disk.raw");
        fs::write(&file, &data).unwrap();
        fs::write(place.path().join(note), &text).unwrap();
        let (report, format, foreign) = import(&[&file], &place.path().join("bundle"));
        assert_eq!((format.as_str(), &foreign["check"]), ("raw", &check.into()), "{note}");
        assert_eq!(report.issue_count, u64::from(check == "differs"), "{note}");
        if check != "none stored" {
            assert_eq!(foreign["sidecars"][0]["sha256"], sha256(text.as_bytes()).to_string());
        }
        if check == "differs" {
            assert!(words(&report).contains(&sha256(&data).to_string()), "{}", words(&report));
        }
    }
}

#[test]
fn parts_of_a_raw_image_are_one_stream_and_a_missing_part_is_named() {
    let place = tempfile::tempdir().unwrap();
    let data = content(2 * SEGMENT + 99);
    let parts: Vec<PathBuf> =
        (1..=3).map(|number| place.path().join(format!("disk.raw.{number:03}"))).collect();
    for (part, bytes) in parts.iter().zip(data.chunks(SEGMENT)) {
        fs::write(part, bytes).unwrap();
    }
    fs::write(place.path().join("disk.raw.002.md5"), "00000000000000000000000000000000  disk.raw.002\n")
        .unwrap();
    let folder = place.path().join("bundle");
    let (report, format, foreign) = import(&[&parts[1]], &folder);
    assert_eq!((format.as_str(), report.streams[0].sha256), ("split-raw", sha256(&data)));
    assert_eq!((&foreign["check"], report.issue_count), (&"differs".into(), 1));
    assert_eq!(foreign["stated"][0]["of"], "disk.raw.002");
    // A disk in parts can be written as an image of one.
    let bundle = Bundle::open(&folder).unwrap();
    let plan = Export::new(&bundle, ExportFormat::E01, None).unwrap();
    plan.to_file(&place.path().join("again.E01")).unwrap();
    fs::remove_file(&parts[0]).unwrap();
    match import_as(std::slice::from_ref(&parts[2]), None, &place.path().join("x")) {
        Err(Error::NotImportable { path, .. }) => assert_eq!(path, parts[0]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_set_of_thousands_of_parts_comes_in_with_all_of_them_in_the_manifest() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..2000 {
        fs::write(place.path().join(format!("disk.{number:04}")), number.to_string()).unwrap();
    }
    let folder = place.path().join("bundle");
    let (report, _, _) = import(&[&place.path().join("disk.0777")], &folder);
    let expected: String = (0..2000).map(|number| number.to_string()).collect();
    assert_eq!(report.streams[0].sha256, sha256(expected.as_bytes()));
    let bundle = Bundle::open(&folder).unwrap();
    assert_eq!(bundle.manifest().source.more["parts"].as_array().unwrap().len(), 2000);
}

fn lime_header(magic: &[u8; 4], version: u32, start: u64, last: u64) -> Vec<u8> {
    [magic.as_slice(), &version.to_le_bytes(), &start.to_le_bytes(), &last.to_le_bytes(), &[0; 8]].concat()
}

#[test]
fn a_lime_image_tells_its_ranges_its_gaps_and_that_it_is_cut() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("memory.lime");
    let mut image = lime_header(b"EMiL", 1, 0x1000, 0x1fff);
    image.extend(noise(0x1000));
    image.extend(lime_header(b"EMiL", 1, 0x2000, 0x2fff));
    image.extend(noise(0x1000));
    image.extend(lime_header(b"EMiL", 1, 0x10_0000, 0x10_7fff));
    image.extend(noise(0x8000));
    fs::write(&file, &image).unwrap();
    let (report, format, foreign) = import(&[&file], &place.path().join("a"));
    assert_eq!((format.as_str(), report.issue_count), ("lime", 0));
    assert_eq!(foreign["ranges"].to_string(), r#"[["0x1000","0x2fff"],["0x100000","0x107fff"]]"#);
    assert_eq!(
        (&foreign["gaps"].to_string(), &foreign["is_whole"]),
        (&r#"[["0x3000","0xfffff"]]"#.to_owned(), &true.into())
    );
    fs::write(&file, &image[..image.len() - 0x123]).unwrap();
    let (report, _, foreign) = import(&[&file], &place.path().join("b"));
    assert_eq!(foreign["is_whole"], false);
    assert!(words(&report).contains("291 bytes of this range are missing"), "{}", words(&report));
    fs::write(&file, [&image[..], b"rest"].concat()).unwrap();
    let (report, _, _) = import(&[&file], &place.path().join("c"));
    assert!(words(&report).contains("within a header"), "{}", words(&report));
}

fn avml(blocks: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut image = Vec::new();
    for (start, bytes) in blocks {
        image.extend(lime_header(b"AVML", 2, *start, start + bytes.len() as u64 - 1));
        let mut frames = snap::write::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut frames, bytes).unwrap();
        let frames = frames.into_inner().unwrap();
        image.extend(&frames);
        image.extend((frames.len() as u64).to_le_bytes());
    }
    image
}

#[test]
fn an_avml_image_is_decompressed_and_its_lost_bytes_are_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("memory.avml");
    let block = |length: usize| [noise(length / 2), vec![0; length - length / 2]].concat();
    let good = avml(&[(0x1000, block(0x9_e000)), (0x10_0000, block(0x20_0000))]);
    fs::write(&file, &good).unwrap();
    let (report, format, foreign) = import(&[&file], &place.path().join("good"));
    assert_eq!((format.as_str(), words(&report).as_str()), ("avml", ""));
    assert_eq!((&foreign["compressed_blocks"], &foreign["is_whole"]), (&2.into(), &true.into()));
    let old = avml(&[(0x1000, block(0x9_ebff)), (0x10_0000, block(0x20_0000 - 1))]);
    fs::write(&file, old).unwrap();
    let (report, _, _) = import(&[&file], &place.path().join("old"));
    assert!(
        words(&report).contains("2 of its 2 ranges end one byte short: AVML up to 0.20"),
        "{}",
        words(&report)
    );
    for (at, cut) in [(good.len() - 4, true), (good.len() / 2, true), (good.len() / 2, false), (40, false)] {
        let mut bad = good.clone();
        if cut {
            bad.truncate(at);
        } else {
            bad[at] ^= 0x55;
        }
        fs::write(&file, &bad).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (report, _, foreign) = import(&[&file], folder.path());
        assert!(report.issue_count > 0 && foreign["is_whole"] == false, "{at} {cut}: {foreign}");
    }
}

#[test]
fn an_archive_of_uac_is_known_and_the_hash_in_its_log_is_checked() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir_all(tree.join("live_response/process")).unwrap();
    fs::create_dir_all(tree.join("[root]/etc")).unwrap();
    fs::write(tree.join("live_response/process/ps.txt"), "PID\n").unwrap();
    fs::write(tree.join("[root]/etc/hostname"), "web01\n").unwrap();
    fs::write(tree.join("uac.log"), "log\n").unwrap();
    let file = place.path().join("uac-web01-linux-20261121.tar.gz");
    let tar = Command::new("tar")
        .arg("czf")
        .arg(&file)
        .args(["live_response", "[root]", "uac.log"])
        .current_dir(&tree)
        .status();
    assert!(tar.unwrap().success());
    let sum = Command::new("md5sum").arg(&file).output().unwrap();
    let md5 = first_word(sum);
    let log = place.path().join("uac-web01-linux-20261121.log");
    let text = |md5: &str| {
        format!(
            "Created by UAC (Unix-like Artifacts Collector) 3.1.0\n\n[Case Information]\nCase Number: ir-7\nExaminer: \n\n\
             [System Information]\nOperating System: linux\nHostname: web01\n\n[Output File MD5 Computed Hash]\n{md5}\n"
        )
    };
    fs::write(&log, text(&md5)).unwrap();
    let (report, format, foreign) = import(&[&file], &place.path().join("a"));
    assert_eq!(
        (format.as_str(), words(&report).as_str(), &foreign["check"]),
        ("uac-tar", "", &"matches".into())
    );
    assert_eq!((&foreign["hostname"], &foreign["version"]), (&"web01".into(), &"3.1.0".into()));
    fs::write(&log, text(&"0".repeat(32))).unwrap();
    let (report, _, foreign) = import(&[&file], &place.path().join("b"));
    assert_eq!((&foreign["check"], report.issue_count), (&"differs".into(), 1));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    let (report, _, _) = import(&[&file], &place.path().join("c"));
    assert!(words(&report).contains("cannot be unpacked to its end"), "{}", words(&report));
}

#[test]
fn an_archive_of_velociraptor_is_known_and_its_members_are_checked() {
    if !has_tool("python3") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let script = r#"
import zipfile, json
with zipfile.ZipFile("Collection-web01.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("uploads/auto/etc/passwd", "root:x:0:0::/root:/bin/sh\n" * 500)
    z.writestr(zipfile.ZipInfo("client_info.json"), json.dumps({"Hostname": "web01", "OS": "linux"}))
    z.writestr("collection_context.json", json.dumps({"session_id": "F.1", "create_time": 1795224600, "x": {"total_uploaded_files": 1}}))
"#;
    let made = Command::new("python3").args(["-c", script]).current_dir(place.path()).status().unwrap();
    assert!(made.success());
    let file = place.path().join("Collection-web01.zip");
    let (report, format, foreign) = import(&[&file], &place.path().join("a"));
    assert_eq!((format.as_str(), words(&report).as_str()), ("velociraptor-zip", ""));
    assert_eq!(
        (&foreign["members_right"], &foreign["hostname"], &foreign["total_uploaded_files"]),
        (&3.into(), &"web01".into(), &"1".into())
    );
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    let (report, _, foreign) = import(&[&file], &place.path().join("b"));
    assert_eq!(foreign["check"], "differs");
    assert!(words(&report).contains("uploads/auto/etc/passwd"), "{}", words(&report));
    // Damage anywhere: it is stored, and nothing else happens.
    let good = fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(13) {
        let mut bad = good.clone();
        bad[at] = !bad[at];
        fs::write(&file, &bad).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let report =
            import_as(std::slice::from_ref(&file), Some(Format::VelociraptorZip), folder.path()).unwrap();
        assert_eq!(report.streams[0].sha256, sha256(&bad));
    }
}

#[test]
fn a_folder_of_kape_is_taken_whole_and_its_copy_log_is_checked() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("tout");
    fs::create_dir_all(root.join("C/Windows/System32/config")).unwrap();
    fs::write(root.join("C/Windows/System32/config/SYSTEM"), "regf").unwrap();
    fs::write(root.join("C/a,b.txt"), "x").unwrap();
    let sha1 = |path: &str| {
        let output = Command::new("sha1sum").arg(root.join(path)).output().unwrap();
        first_word(output).to_uppercase()
    };
    let log = root.join("2026-11-21T013000_CopyLog.csv");
    let header =
        "\u{feff}CopiedTimestamp,SourceFile,DestinationFile,FileSize,SourceFileSha1,DeferredCopy\r\n";
    let row = |path: &str, sha1: &str| format!("t,C:\\x,\"D:\\cases\\tout\\{path}\",4,{sha1},False\r\n");
    let system = row("C\\Windows\\System32\\config\\SYSTEM", &sha1("C/Windows/System32/config/SYSTEM"));
    let text = format!("{header}{system}{}", row("C\\a,b.txt", &sha1("C/a,b.txt")));
    fs::write(&log, &text).unwrap();
    let folder = place.path().join("bundle");
    let (report, format, foreign) = import(&[&root], &folder);
    assert_eq!(
        (format.as_str(), words(&report).as_str(), &foreign["check"]),
        ("kape", "", &"matches".into())
    );
    assert_eq!((&foreign["files_right"], report.streams[0].kind.as_str()), (&2.into(), "files"));
    assert!(catalog(&folder).iter().any(|entry| entry.path.ends_with("C/a,b.txt")));
    let wrong = format!(
        "{text}{}{}",
        row("C\\a,b.txt", &"0".repeat(40)),
        row("C\\..\\..\\bundle\\manifest.json", &"0".repeat(40))
    );
    fs::write(&log, wrong).unwrap();
    let (report, _, foreign) = import(&[&root], &place.path().join("b"));
    assert_eq!(
        (&foreign["check"], &foreign["files_differ"], &foreign["files_missing"]),
        (&"differs".into(), &1.into(), &1.into()),
        "{}",
        words(&report)
    );
    fs::remove_file(&log).unwrap();
    assert!(matches!(
        import_as(std::slice::from_ref(&root), None, &place.path().join("c")),
        Err(Error::NotImportable { .. })
    ));
    import_as(&[root], Some(Format::Kape), &place.path().join("d")).unwrap();
}

#[test]
fn what_cannot_be_imported_is_refused_with_the_way_out() {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes, says) in [
        ("a.L01", b"LVF\x09\x0d\x0a\xff\x00".as_slice(), "--format raw"),
        ("a.Ex01", b"EVF2\x0d\x0a\x81\x00", "--format raw"),
    ] {
        let file = place.path().join(name);
        fs::write(&file, bytes).unwrap();
        match import_as(&[file], None, &place.path().join("x")) {
            Err(Error::NotImportable { reason, .. }) => assert!(reason.contains(says), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let file = place.path().join("plain.raw");
    fs::write(&file, "x").unwrap();
    for format in [Format::E01, Format::Kape] {
        assert!(matches!(
            import_as(std::slice::from_ref(&file), Some(format), &place.path().join("x")),
            Err(Error::NotImportable { .. })
        ));
    }
    assert!(matches!(Import::open(&[place.path().join("gone")], None), Err(Error::OpenSource { .. })));
    assert!(Import::open(&[], None).is_err());
}
