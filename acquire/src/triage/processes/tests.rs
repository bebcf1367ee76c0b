use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::triage::packed::{NOW, Packed, packed};

/// A made `/proc` with one process, and a control group that knows another one.
fn made_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let proc = root.path().join("proc");
    let of = proc.join("42");
    for folder in ["fd", "fdinfo", "ns", "attr"] {
        fs::create_dir_all(of.join(folder)).unwrap();
    }
    let group = root.path().join("sys/fs/cgroup/system.slice");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup.procs"), "42\n0\n777\n").unwrap();
    fs::write(proc.join("stat"), "cpu 1 2\nbtime 1795224000\n").unwrap();
    fs::write(proc.join("uptime"), "600.25 1.0\n").unwrap();
    fs::write(of.join("stat"), "42 (ev) il\x1b) S 1 42 42 0 -1 0 0 0 0 0 5 6 0 0 20 0 2 0 12345 0 0")
        .unwrap();
    fs::write(of.join("status"), "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1000\t1000\t0\t0\nTgid:\t42\n")
        .unwrap();
    fs::write(of.join("cmdline"), b"sh\0-c\0\xff\n\0").unwrap();
    fs::write(of.join("environ"), b"HISTFILE=/dev/null\0").unwrap();
    fs::write(of.join("cgroup"), "0::/system.slice\n").unwrap();
    fs::write(of.join("loginuid"), "4294967295").unwrap();
    symlink("/tmp/x (deleted)", of.join("exe")).unwrap();
    symlink("/", of.join("cwd")).unwrap();
    symlink("net:[4026531840]", of.join("ns/net")).unwrap();
    root
}

#[test]
fn a_process_of_a_made_tree_gives_its_row_and_raw_files() {
    let root = made_root();
    let out = packed(|out, clock| processes_at(root.path(), out, clock));
    let rows = out.rows("V2/processes.jsonl");
    let row = &rows[0];
    // 600.25 s up at 01:30:00, so booted at 01:19:59.75; started 123.45 s later.
    assert_eq!(row["start"], "2026-11-21T01:22:03.200000000Z");
    assert_eq!(row["name"], "ev) il\\x1b");
    assert_eq!(row["cmdline"], "sh -c \\xff\\x0a");
    assert_eq!((&row["exe"], &row["exe_deleted"]), (&"/tmp/x".into(), &true.into()));
    assert_eq!(
        (row["uid"].as_u64(), row["euid"].as_u64(), row["ppid"].as_u64()),
        (Some(1000), Some(0), Some(1))
    );
    assert_eq!(row["namespaces"]["net"], "4026531840");
    assert!(row.get("loginuid").is_none(), "4294967295 is nobody");
    assert_eq!(out.files["V2/proc/42/environ"], b"HISTFILE=/dev/null\0");
    assert_eq!(out.files["V2/proc/42/cmdline"], b"sh\0-c\0\xff\n\0");
}

#[test]
fn a_process_that_only_a_control_group_knows_is_named_as_hidden() {
    let root = made_root();
    let out = packed(|out, clock| processes_at(root.path(), out, clock));
    let rows = out.rows("V2/processes.jsonl");
    assert_eq!(rows[1]["pid"], 777);
    assert_eq!(rows[1]["hidden"], "not listed by /proc, known to a control group");
    assert!(out.issues.iter().any(|issue| issue.path.ends_with("/777") && issue.what.contains("hidden")));
}

#[test]
fn a_process_whose_folder_is_masked_by_a_mount_is_named_as_hidden() {
    let root = made_root();
    fs::create_dir_all(root.path().join("proc/55")).unwrap();
    fs::create_dir_all(root.path().join("proc/self")).unwrap();
    let mounts = "1 2 0:4 / /proc rw - proc proc rw\n3 1 0:5 / /proc/55 rw - tmpfs tmpfs rw\n";
    fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
    let out = packed(|out, clock| processes_at(root.path(), out, clock));
    let rows = out.rows("V2/processes.jsonl");
    let hidden: Vec<_> =
        rows.iter().filter(|row| row.get("hidden").is_some()).map(|row| &row["pid"]).collect();
    assert_eq!(hidden, [55, 777]);
    assert!(out.issues.iter().any(|issue| issue.what.starts_with("something is mounted over this folder")));
}

#[test]
fn a_root_without_proc_is_an_issue() {
    let root = tempfile::tempdir().unwrap();
    let out = packed(|out, clock| processes_at(root.path(), out, clock));
    assert!(out.issues[0].what.starts_with("processes cannot be listed"), "{:?}", out.issues);
}

/// A process of ours that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program that prints one line once it is up, and then waits.
fn run(mut command: Command) -> Running {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    Running(child)
}

fn row_of(out: &Packed, pid: u32) -> serde_json::Value {
    let rows = out.rows("V2/processes.jsonl");
    rows.into_iter().find(|row| row["pid"] == pid).unwrap_or_else(|| panic!("no row of {pid}"))
}

const WAIT: &str = "echo up; read x";

#[test]
fn deleted_executables_memfds_and_deleted_open_files_are_copied_whole_from_the_live_system() {
    let folder = tempfile::tempdir().unwrap();
    let shell = fs::read("/bin/sh").unwrap();

    let deleted = folder.path().join("deleted-shell");
    fs::copy("/bin/sh", &deleted).unwrap();
    let open = folder.path().join("open file");
    let mut command = Command::new(&deleted);
    command.arg("-c").arg(format!("exec 7>'{0}'; printf secret >&7; rm '{0}'; {WAIT}", open.display()));
    let deleted_exe = run(command);
    fs::remove_file(&deleted).unwrap();

    let memory = rustix::fs::memfd_create("implant", rustix::fs::MemfdFlags::empty()).unwrap();
    let mut file = fs::File::from(memory);
    file.write_all(&shell).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut command = Command::new(path);
    command.arg("-c").arg(WAIT);
    let in_memory = run(command);

    let out = packed(processes);
    let row = row_of(&out, deleted_exe.0.id());
    let place = format!("V2/proc/{}", deleted_exe.0.id());
    assert_eq!(row["exe_deleted"], true);
    assert_eq!(row["exe"], deleted.to_str().unwrap());
    assert_eq!(row["exe_sha256"], custody::sha256(&shell).to_string());
    assert!(out.files[&format!("{place}/exe")] == shell, "the copy differs");
    assert_eq!(out.files[&format!("{place}/fd/7")], b"secret");
    assert_eq!(row["copies"], serde_json::json!([format!("/{place}/exe"), format!("/{place}/fd/7")]));
    assert!(!out.files[&format!("{place}/maps")].is_empty());
    assert!(!out.files[&format!("{place}/fd.jsonl")].is_empty());

    let row = row_of(&out, in_memory.0.id());
    assert_eq!(row["exe_in_memory"], true);
    assert_eq!(row["exe"], "/memfd:implant");
    // The test itself holds the memfd open, so whichever process comes first has the copy.
    let copies: Vec<&str> = row["copies"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert!(copies.iter().any(|copy| out.files[copy.trim_start_matches('/')] == shell), "{copies:?}");

    let own = row_of(&out, std::process::id());
    assert!(own.get("hidden").is_none());
    let start = custody::clock::parse_rfc3339(own["start"].as_str().unwrap()).unwrap();
    assert!(start < NOW, "the fixed clock stands at NOW, and we started before");
    assert!(out.rows("V2/processes.jsonl").iter().all(|row| row.get("hidden").is_none()));
}
