//! What the log, the verifier and a stranger with standard tools say of an acquisition.

use std::collections::BTreeMap;
use std::fs::{self};
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use acquire::sources::disk::{DiskCapture, StreamSource};
use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Destination};
use custody::verify::{Level, Options, verify};
use custody::{Case, CustodyLog, NewCase, sha256};

use crate::support::*;

/// Runs what `VERIFY.md` prints, as it prints it. Gives the number of commands, or the first that printed another thing.
/// `key` is the file of an identity, for a bundle that is encrypted.
pub(crate) fn run_sheet(folder: &Path, key: Option<&Path>) -> Result<usize, String> {
    let sheet = fs::read_to_string(folder.join("VERIFY.md")).unwrap();
    let mut commands = 0;
    let mut rest = sheet.as_str();
    while let Some((_, from)) = rest.split_once("```sh\n") {
        let (command, behind) = from.split_once("```\n").unwrap();
        let (between, expected) = behind.split_once("```text\n").unwrap();
        assert!(between.trim().is_empty(), "no expected outcome beside {command}");
        let (expected, behind) = expected.split_once("```\n").unwrap();
        rest = behind;
        let output = Command::new("bash")
            .args(["-c", command])
            .current_dir(folder)
            .envs(key.map(|key| ("KEY", key)))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        if printed != expected {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command}printed {printed:?} instead of {expected:?}: {words}"));
        }
        commands += 1;
    }
    Ok(commands)
}

#[test]
fn the_commands_of_the_verify_sheet_print_what_it_says() {
    let tools = ["bash", "sha256sum", "zstd", "jq", "python3"];
    if !tools.into_iter().all(has_tool) || !openssl_has_rawin() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    let bad = [3u64, 4, 5, 2000];
    acquire_disk(Box::new(FaultSource::new(content(3 * SEGMENT + 1000), &bad)), &disk).unwrap();
    assert_eq!(run_sheet(&disk, None), Ok(12));
    let empty = place.path().join("empty");
    acquire_disk(Box::new(StreamSource::new("-", io::empty())), &empty).unwrap();
    assert_eq!(run_sheet(&empty, None), Ok(10));
    let root = place.path().join("root");
    make_tree(&root);
    let files = place.path().join("files");
    acquire_files(&[root.join("var/log")], &files).unwrap();
    assert_eq!(run_sheet(&files, None), Ok(12));
}

#[test]
fn the_commands_of_the_verify_sheet_tell_what_was_changed() {
    if !["bash", "sha256sum", "zstd", "jq", "python3"].into_iter().all(has_tool) || !openssl_has_rawin() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("bundle");
    acquire_disk(Box::new(StreamSource::new("-", io::Cursor::new(content(2 * SEGMENT)))), &folder).unwrap();
    for (file, at) in
        [("data/disk/000000.zst", 3000), ("manifest.json", 40), ("custody.jsonl", 300), ("checkpoint", 60)]
    {
        let path = folder.join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(run_sheet(&folder, None).is_err(), "{file}");
        fs::write(&path, good).unwrap();
    }
    fs::write(folder.join("data/extra"), "x").unwrap();
    assert!(run_sheet(&folder, None).unwrap_err().contains("no other file"));
}

pub(crate) fn openssl_has_rawin() -> bool {
    let help = Command::new("openssl").args(["pkeyutl", "-help"]).output();
    let has = help
        .is_ok_and(|help| String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("-rawin"));
    if !has {
        eprintln!("skipped: openssl is older than 3.0");
    }
    has
}

#[test]
fn what_was_acquired_in_a_case_verifies_and_what_was_cut_short_does_not() {
    let place = tempfile::tempdir().unwrap();
    let case_folder = place.path().join("case");
    with_writer(|writer| {
        let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
        let case = Case::create(&case_folder, &new, writer).unwrap();
        let destination = Destination::in_case(&case, "web01-disk", writer).unwrap();
        let source = Box::new(FaultSource::new(content(3 * SEGMENT + 10), &[5, 6, 700]));
        let report =
            Acquisition::new(DiskCapture::new(source), destination).options(options()).run(writer).unwrap();
        assert_eq!(report.bundle, case_folder.join("exhibits/E001-web01-disk"));
        let found = verify(&report.bundle, &Options::default()).unwrap();
        assert_eq!(found.verdict.level, Level::Consistent, "{:?}", found.faults);

        let root = place.path().join("root");
        make_tree(&root);
        let destination = Destination::in_case(&case, "web01-logs", writer).unwrap();
        let source = FilesSource::new(&[root.join("var/log")]).unwrap();
        let report = Acquisition::new(source, destination).options(options()).run(writer).unwrap();
        assert_eq!(report.bundle, case_folder.join("exhibits/E002-web01-logs"));
        let found = verify(&case_folder, &Options::default()).unwrap();
        assert!(found.faults.is_empty(), "{:?}", found.faults);

        let destination = Destination::in_case(&case, "broken", writer).unwrap();
        let folder = destination.folder.clone();
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        Acquisition::new(DiskCapture::new(Box::new(StreamSource::new("-", Breaks))), destination)
            .run(writer)
            .unwrap_err();
        let found = verify(&folder, &Options::default()).unwrap();
        assert_eq!(found.verdict.level, Level::Open, "{:?}", found.faults);
    });
}

#[test]
fn the_log_tells_the_acquisition_in_order() {
    let place = tempfile::tempdir().unwrap();
    let report =
        acquire_disk(Box::new(StreamSource::new("-", io::Cursor::new(content(99)))), place.path()).unwrap();
    let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
    let kinds: Vec<_> = log.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["log.genesis", "acquire.start", "acquire.end", "bundle.sealed"]);
    let subjects: BTreeMap<_, _> =
        log.entries[3].about.subject.iter().map(|subject| (subject.id.as_str(), subject.sha256)).collect();
    assert_eq!(subjects["manifest.json"], Some(report.manifest_sha256));
    for (path, hash) in subjects {
        assert_eq!(hash, Some(sha256(&fs::read(place.path().join(path)).unwrap())));
    }
    assert!(place.path().join("checkpoints/00000004").exists());
    assert!(log.entries.iter().all(|entry| entry.about.exhibit.as_deref() == Some("E001")));
}
