//! The check by the other side: the commands that the report and each bundle print, run with none of our software.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exhibit::{Desk, noise};

/// What the commands may use: six programs, and what is on every Unix system beside them.
const PROGRAMS: &[&str] = &["sha256sum", "zstd", "jq", "openssl", "ssh-keygen", "python3"];
const ORDINARY: &[&str] = &[
    "awk", "base64", "cat", "cmp", "cut", "date", "find", "grep", "head", "mktemp", "rm", "sed", "sort",
    "tail", "tr", "wc",
];

/// A check as it is printed: where it is run, with what shell, and what it must print.
struct Printed {
    title: String,
    folder: PathBuf,
    shell: &'static str,
    command: String,
    expect: String,
}

/// A folder of links to the allowed programs and to nothing else; or what is not there.
fn toolbox(desk: &Desk) -> Result<PathBuf, String> {
    let folder = desk.path("toolbox");
    fs::create_dir(&folder).unwrap();
    let path = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];
    for name in PROGRAMS.iter().chain(ORDINARY) {
        let found = path.iter().map(|place| Path::new(place).join(name)).find(|file| file.exists());
        symlink(found.ok_or_else(|| format!("there is no {name} here"))?, folder.join(name)).unwrap();
    }
    Ok(folder)
}

impl Printed {
    /// Whether it prints what it should, for somebody who has only the toolbox.
    fn holds(&self, case: &Path, toolbox: &Path) -> Result<(), String> {
        let output = Command::new(self.shell)
            .args(["-c", &self.command])
            .current_dir(case.join(&self.folder))
            .env_clear()
            .env("PATH", toolbox)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if said.trim_end() == self.expect.trim_end() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}\n{}\nsaid: {said}{complaint}\ndue:  {}", self.title, self.command, self.expect))
    }
}

/// The commands of `report.json`.
fn of_report(report: &Path) -> Vec<Printed> {
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .map(|check| Printed {
            title: text(&check["title"]),
            folder: PathBuf::new(),
            shell: "/bin/sh",
            command: text(&check["command"]),
            expect: text(&check["expect"]),
        })
        .collect()
}

/// The commands of a bundle's `VERIFY.md`, each with the text below it.
fn of_sheet(case: &Path, folder: &str) -> Vec<Printed> {
    let sheet = fs::read_to_string(case.join(folder).join("VERIFY.md")).unwrap();
    let blocks: Vec<&str> = sheet.split("```").skip(1).step_by(2).collect();
    blocks
        .chunks(2)
        .map(|pair| Printed {
            title: format!("{folder}/VERIFY.md"),
            folder: PathBuf::from(folder),
            shell: "/bin/bash",
            command: pair[0].strip_prefix("sh\n").unwrap().to_owned(),
            expect: pair[1].strip_prefix("text\n").unwrap().to_owned(),
        })
        .collect()
}

/// A case with a disk and some logs, handed over with both signatures; its report lies in `out`.
fn reported_case(desk: &Desk) -> PathBuf {
    desk.case_with_disk(&desk.write("disk.raw", [noise(700_000), vec![0; 600_000]].concat()));
    desk.write("logs/auth.log", "Nov 21 01:30:00 web01 sshd[1]: Accepted publickey for root\n".repeat(50));
    desk.ok(&["acquire", "logs", "logs", "--case", "case", "--name", "logs"]);
    desk.ok(&["key", "new", "--key", "store.pem"]);
    let store = desk.ok(&["key", "show", "--key", "store.pem", "--json"]).stdout;
    let store: serde_json::Value = serde_json::from_str(&store).unwrap();
    let store = store["fingerprint"].as_str().unwrap();
    desk.ok(&[
        "custody",
        "transfer",
        "case:E001",
        "--to",
        "Property store",
        "--to-key",
        store,
        "--means",
        "by hand",
    ]);
    desk.ok(&["custody", "receive", "case:E001", "--key", "store.pem"]);
    // The receiver's key has the last word in the bundle's log.
    desk.ok(&["custody", "note", "case:E001", "in locker 7", "--key", "store.pem"]);
    desk.ok(&["custody", "note", "case", "seal 0042 intact"]);
    desk.ok(&["verify", "case"]);
    desk.ok(&["report", "case", "-o", "out", "--format", "json"]);
    desk.path("case")
}

fn all_checks(case: &Path, desk: &Desk) -> Vec<Printed> {
    let mut checks = of_report(&desk.path("out/report.json"));
    for exhibit in ["exhibits/E001-disk", "exhibits/E002-logs"] {
        checks.extend(of_sheet(case, exhibit));
    }
    checks
}

/// Changes one thing in a file of the case.
fn replace(case: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(case.join(file)).unwrap();
    assert!(text.contains(from), "{file} does not hold {from}");
    fs::write(case.join(file), text.replacen(from, to, 1)).unwrap();
}

fn flip(case: &Path, file: &str, at: usize) {
    let mut bytes = fs::read(case.join(file)).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    fs::write(case.join(file), bytes).unwrap();
}

fn without_lines(case: &Path, file: &str, gone: impl Fn(usize) -> bool) {
    let text = fs::read_to_string(case.join(file)).unwrap();
    let kept: Vec<&str> =
        text.lines().enumerate().filter(|(nth, _)| !gone(*nth)).map(|(_, line)| line).collect();
    fs::write(case.join(file), kept.join("\n") + "\n").unwrap();
}

type Harm = (&'static str, fn(&Path));

const DISK: &str = "exhibits/E001-disk";

const HARMS: &[Harm] = &[
    ("a byte of the disk", |case| flip(case, &format!("{DISK}/data/disk/000000.zst"), 5000)),
    ("the table of chunks", |case| flip(case, &format!("{DISK}/data/disk.chunks.tsv"), 120)),
    ("the ledger of bytes", |case| replace(case, &format!("{DISK}/data/disk.extents.tsv"), "data", "zero")),
    ("the manifest", |case| replace(case, &format!("{DISK}/manifest.json"), "J. Doe", "J. Dot")),
    ("the manifest's signature", |case| flip(case, &format!("{DISK}/manifest.json.sig"), 10)),
    ("the list of sums", |case| flip(case, &format!("{DISK}/SHA256SUMS"), 3)),
    ("the signer's key", |case| flip(case, &format!("{DISK}/keys/signer.pub.pem"), 60)),
    ("a file gone", |case| fs::remove_file(case.join(DISK).join("data/disk.extents.tsv")).unwrap()),
    ("a file too many", |case| fs::write(case.join(DISK).join("data/more"), "x").unwrap()),
    ("an entry edited", |case| replace(case, "custody.jsonl", "seal 0042 intact", "seal 0043 intact")),
    ("an entry taken out", |case| without_lines(case, "custody.jsonl", |nth| nth == 2)),
    ("the last entries cut off", |case| without_lines(case, "custody.jsonl", |nth| nth > 3)),
    ("an entry of the exhibit edited", |case| {
        replace(case, &format!("{DISK}/custody.jsonl"), "Property store", "Property st0re");
    }),
    ("the receiver's signature", |case| {
        replace(
            case,
            &format!("{DISK}/custody.jsonl"),
            "-----END SSH SIGNATURE-----",
            "-----END SSH SIGNATURF-----",
        );
    }),
    ("the exhibits in each other's place", |case| {
        let (one, two, aside) = (case.join(DISK), case.join("exhibits/E002-logs"), case.join("aside"));
        fs::rename(&one, &aside).unwrap();
        fs::rename(&two, &one).unwrap();
        fs::rename(&aside, &two).unwrap();
    }),
];

#[test]
fn the_other_side_checks_everything_without_our_software() {
    let desk = Desk::new();
    let toolbox = match toolbox(&desk) {
        Ok(toolbox) => toolbox,
        Err(missing) => return println!("skipped: {missing}"),
    };
    let case = reported_case(&desk);
    let checks = all_checks(&case, &desk);
    let failed: Vec<String> = checks.iter().filter_map(|check| check.holds(&case, &toolbox).err()).collect();
    assert!(failed.is_empty(), "{} of {} checks:\n{}", failed.len(), checks.len(), failed.join("\n\n"));
    assert!(checks.len() > 30, "{}", checks.len());
    let used: BTreeSet<&str> = PROGRAMS
        .iter()
        .copied()
        .filter(|program| checks.iter().any(|check| check.command.contains(program)))
        .collect();
    assert_eq!(used.len(), PROGRAMS.len(), "{used:?}");
    for (what, harm) in HARMS {
        let copy = desk.path("copy");
        let _ = fs::remove_dir_all(&copy);
        assert!(Command::new("cp").arg("-a").args([&case, &copy]).status().unwrap().success());
        harm(&copy);
        let failed = checks.iter().filter(|check| check.holds(&copy, &toolbox).is_err()).count();
        assert!(failed > 0, "{what}: all {} checks hold", checks.len());
    }
}
