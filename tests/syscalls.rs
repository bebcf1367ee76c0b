//! Invariant 1, watched from outside: acquiring opens its sources for reading only, and changes nothing about them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exhibit::{Desk, ran};
use crate::web01::Web01;

/// What may be asked of a path in a source. Any other call that names one fails the test.
const HARMLESS: [&str; 16] = [
    "access",
    "execve",
    "faccessat",
    "faccessat2",
    "getxattr",
    "lgetxattr",
    "listxattr",
    "llistxattr",
    "lstat",
    "newfstatat",
    "readlink",
    "readlinkat",
    "stat",
    "statfs",
    "statx",
    "name_to_handle_at",
];

/// Calls that take a path, and those that change a file through a descriptor opened for reading.
const WATCHED: &str = "trace=%file,fchmod,fchown,fsetxattr,fremovexattr,ftruncate,fallocate";

/// Flags of an opening that could change something.
const WRITES: [&str; 6] = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];

fn strace_works() -> bool {
    let status = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    let works = status.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: there is no strace, or it may not watch here");
    }
    works
}

/// Runs the binary below strace; gives the calls, without the results of those that were interrupted.
fn calls(desk: &Desk, args: &[&str]) -> Vec<String> {
    let exhibit = desk.command();
    let mut strace = Command::new("strace");
    // With the paths of descriptors, uncut.
    strace.args(["-f", "-y", "-s", "4096", "-e", WATCHED, "-e", "signal=none", "-o", "calls"]);
    strace.arg(exhibit.get_program()).args(args).current_dir(exhibit.get_current_dir().unwrap());
    for (name, value) in exhibit.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let ran = ran(strace.output().unwrap());
    // A source that has its issues, as every live system has, gives 1.
    assert!(matches!(ran.code, 0 | 1), "{}", ran.stderr);
    let calls = fs::read_to_string(desk.path("calls")).unwrap();
    // Each line begins with the number of its thread.
    let calls = calls.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start().to_owned()));
    calls.filter(|call| !call.starts_with("<... ") && !call.starts_with("+++")).collect()
}

/// What reading must leave as it was: size and times of every file and folder of a source, by path.
///
/// Reading where a symbolic link leads sets its access time: there is no way to ask the kernel not to.
fn facts(source: &Path) -> BTreeMap<PathBuf, Vec<i64>> {
    let mut facts = BTreeMap::new();
    let mut waiting = vec![source.to_owned()];
    while let Some(path) = waiting.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        let mut of_path = vec![m.len() as i64, m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
        if !m.is_symlink() {
            of_path.extend([m.atime(), m.atime_nsec()]);
        }
        if m.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        facts.insert(path, of_path);
    }
    facts
}

/// Acquires `source`, a part of `all`, and checks every call that names something in `all`.
fn watch(how: &[&str], source: &Path, all: &Path) {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    // Listing a folder may set its access time, so it is listed once before.
    facts(source);
    let before = facts(source);
    let command = [&["acquire"], how, &[source.to_str().unwrap(), "--case", "case"]].concat();
    let calls = calls(&desk, &command);
    let after = facts(source);
    assert!(before.keys().eq(after.keys()), "files came or went");
    for (path, facts) in &before {
        assert_eq!(facts, &after[path], "acquiring changed {}", path.display());
    }

    let mut opens = Vec::new();
    for call in calls.iter().filter(|call| call.contains(all.to_str().unwrap())) {
        let name = call.split('(').next().unwrap();
        if name.starts_with("open") {
            assert!(call.contains("O_RDONLY") && !WRITES.iter().any(|flag| call.contains(flag)), "{call}");
            opens.push(call);
        } else {
            assert!(HARMLESS.contains(&name), "{call}");
        }
    }
    let is_file = |path: &&PathBuf| fs::symlink_metadata(path).unwrap().is_file();
    for path in before.keys().filter(is_file) {
        let whole = format!("\"{}\"", path.display());
        let below =
            format!("{}>, \"{}\"", path.parent().unwrap().display(), path.file_name().unwrap().display());
        let is_open = |call: &&&String| call.contains(&whole) || call.contains(&below);
        assert!(opens.iter().any(|call| is_open(&call)), "the opening of {} was not seen", path.display());
    }
}

#[test]
fn no_source_is_opened_for_writing_or_changed() {
    if !strace_works() {
        return;
    }
    let desk = Desk::new();
    let all = desk.path("source");
    let web01 = Web01::unpack(&all);
    watch(&["disk"], &web01.disk, &all);
    watch(&["logs"], &web01.logs, &all);
    watch(&["import", "--format", "raw"], &web01.disk, &all);
}

#[test]
fn live_collectors_open_nothing_outside_the_case_for_writing() {
    if !strace_works() {
        return;
    }
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let collectors = ["self", "processes", "sockets", "kernel-state", "sessions"];
    let mut command = vec!["acquire", "triage", "--case", "case", "--artefact"];
    command.extend(collectors);
    let own = desk.path("").canonicalize().unwrap();
    let mut reads = 0;
    for call in calls(&desk, &command).iter().filter(|call| call.starts_with("open")) {
        if !WRITES.iter().any(|flag| call.contains(flag)) {
            reads += 1;
            continue;
        }
        let is_own = call.contains(own.to_str().unwrap()) || call.contains("\"case/");
        assert!(is_own || call.contains("= -1 "), "{call}");
    }
    assert!(reads > 100, "{reads} files were read");
}
