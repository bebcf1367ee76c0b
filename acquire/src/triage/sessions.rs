//! Who is on the system: logins, sessions, terminals, and what outlives a login.
//!
//! - `/V4/sessions.jsonl`: login records of `utmp`, sessions and users of systemd, terminals, tmux, screen and SSH agent
//!   sockets, queued `at` jobs, `cron` tables. Each row says its `kind` and where it was read.
//! - The files themselves (`/run/utmp`, `/run/systemd/sessions`, `/var/spool/cron` …) are taken as files, by other artefacts.
//! - Sockets are listed, never connected to.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::clock::{Clock, rfc3339};

use super::bounded_reads::Patience;
use super::live_table::{LiveTable, Row};
use super::login_records::{Login, logins};
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// The format of the table.
pub(crate) const FORMAT: &str = "exhibit-live-sessions/1";

const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of one file that is looked into.
const MOST: u64 = 16 << 20;
/// Names in one folder.
const MOST_NAMES: usize = 10_000;

/// Finds rows below a root.
type Collect = fn(&Path) -> Vec<Row>;

/// Takes who is on the running system.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(crate) fn sessions(out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    sessions_at(Path::new("/"), out, clock)
}

/// Takes who is on the system below `root`.
pub(crate) fn sessions_at(root: &Path, out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    let observed = clock.now().rfc3339();
    let mut about = serde_json::Map::new();
    about.insert("observed".to_owned(), observed.clone().into());
    let mut table = LiveTable::new("V4/sessions", FORMAT, about);
    let mut patience = Patience::of(LIMIT);
    let collectors: [(&str, Collect); 5] = [
        ("run/utmp", login_rows),
        ("run/systemd", systemd_rows),
        ("dev/pts", terminal_rows),
        ("tmp", socket_rows),
        ("var/spool", queue_rows),
    ];
    for (what, collect) in collectors {
        let below = root.to_owned();
        match patience.wait(move || Ok(collect(&below))) {
            Ok(rows) => {
                for mut row in rows {
                    row.put("observed", observed.clone());
                    table.row(out, row.into_map())?;
                }
            }
            Err(error) => out.note(&root.join(what), &format!("not looked at: {error}")),
        }
    }
    table.end(out)
}

fn row_of(kind: &'static str, path: &Path) -> Row {
    let mut row = Row::default();
    row.put("kind", kind);
    row.text("path", path.as_os_str().as_bytes());
    row
}

fn owner_and_times(row: &mut Row, facts: &Metadata) {
    row.put("uid", facts.uid());
    put_time(row, "changed", facts.mtime(), facts.mtime_nsec());
}

fn put_time(row: &mut Row, key: &str, seconds: i64, nanoseconds: i64) {
    if let Some(time) = seconds.checked_mul(1_000_000_000).and_then(|time| time.checked_add(nanoseconds)) {
        row.put(key, rfc3339(time));
    }
}

/// The sorted entries of a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.take(MOST_NAMES).flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn small_file(path: &Path) -> Option<Vec<u8>> {
    let facts = fs::symlink_metadata(path).ok()?;
    if !facts.is_file() || facts.len() > MOST {
        return None;
    }
    fs::read(path).ok()
}

fn login_rows(root: &Path) -> Vec<Row> {
    let path = ["run/utmp", "var/run/utmp", "run/utmpx"]
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.is_file());
    let Some(path) = path else { return Vec::new() };
    let Some(bytes) = small_file(&path) else { return Vec::new() };
    let of_login = |login: Login| {
        let mut row = row_of("login", &path);
        row.text("user", &login.user);
        row.text("tty", &login.line);
        row.number("pid", Some(login.pid.into()));
        if !login.host.is_empty() {
            row.text("remote_host", &login.host);
        }
        if let Some(address) = login.address {
            row.put("remote_ip", address.to_string());
        }
        put_time(&mut row, "since", login.seconds, login.microseconds.saturating_mul(1000));
        row
    };
    logins(&bytes).into_iter().map(of_login).collect()
}

/// Sessions and users of systemd-logind: `KEY=VALUE` lines.
fn systemd_rows(root: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for (kind, folder) in [("session", "run/systemd/sessions"), ("user", "run/systemd/users")] {
        for path in below(&root.join(folder)) {
            let Some(text) = small_file(&path) else { continue };
            let mut row = row_of(kind, &path);
            row.some_text("id", path.file_name().map(OsStrExt::as_bytes));
            for line in text.split(|&byte| byte == b'\n') {
                let Some(at) = line.iter().position(|&byte| byte == b'=') else { continue };
                let (Some(key), Some(value)) = (line.get(..at), line.get(at.saturating_add(1)..)) else {
                    continue;
                };
                let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
                match key {
                    b"UID" => row.number("uid", number()),
                    b"LEADER" => row.number("pid", number()),
                    b"USER" | b"NAME" => row.text("user", value),
                    b"TTY" => row.text("tty", value),
                    b"REMOTE_HOST" => row.text("remote_host", value),
                    b"REMOTE_USER" => row.text("remote_user", value),
                    b"STATE" => row.text("state", value),
                    b"TYPE" => row.text("type", value),
                    b"CLASS" => row.text("class", value),
                    b"SERVICE" => row.text("service", value),
                    b"DISPLAY" => row.text("display", value),
                    b"REALTIME" => {
                        let time = number().and_then(|time| i64::try_from(time).ok());
                        if let Some(time) = time.and_then(|time| time.checked_mul(1000)) {
                            row.put("since", rfc3339(time));
                        }
                    }
                    _ => {}
                }
            }
            rows.push(row);
        }
    }
    for path in below(&root.join("run/user")) {
        if let Ok(facts) = fs::symlink_metadata(&path) {
            let mut row = row_of("runtime-folder", &path);
            owner_and_times(&mut row, &facts);
            rows.push(row);
        }
    }
    rows
}

/// Terminals that are open: the last input is the access time, the last output the modification time.
fn terminal_rows(root: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for path in below(&root.join("dev/pts")) {
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if path.ends_with("ptmx") || !facts.file_type().is_char_device() {
            continue;
        }
        let mut row = row_of("terminal", &path);
        row.put("uid", facts.uid());
        row.some_text("tty", path.file_name().map(|name| [b"pts/", name.as_bytes()].concat()).as_deref());
        put_time(&mut row, "last_input", facts.atime(), facts.atime_nsec());
        put_time(&mut row, "last_output", facts.mtime(), facts.mtime_nsec());
        rows.push(row);
    }
    rows
}

/// Sockets of programs that keep a session alive.
fn socket_rows(root: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut list = |kind: &'static str, folder: &Path| {
        for path in below(folder) {
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            // Old versions of screen use a pipe.
            if facts.file_type().is_socket() || facts.file_type().is_fifo() {
                let mut row = row_of(kind, &path);
                owner_and_times(&mut row, &facts);
                rows.push(row);
            }
        }
    };
    let named = |folder: PathBuf, start: &'static str| {
        below(&folder).into_iter().filter(move |path| {
            path.file_name().is_some_and(|name| name.as_bytes().starts_with(start.as_bytes()))
                && is_folder(path)
        })
    };
    for folder in named(root.join("tmp"), "tmux-") {
        list("tmux", &folder);
    }
    for top in ["run/screen", "var/run/screen", "tmp/screens", "tmp/uscreens"] {
        for folder in named(root.join(top), "S-") {
            list("screen", &folder);
        }
    }
    for folder in named(root.join("tmp"), "ssh-") {
        list("ssh-agent", &folder);
    }
    for user in below(&root.join("run/user")).into_iter().filter(|path| is_folder(path)) {
        list("user-socket", &user);
        for folder in ["gnupg", "keyring", "ssh-agent", "systemd"] {
            list("user-socket", &user.join(folder));
        }
        for folder in named(user, "tmux-") {
            list("tmux", &folder);
        }
    }
    list("x11-display", &root.join("tmp/.X11-unix"));
    rows
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir())
}

/// Jobs that wait for their time.
fn queue_rows(root: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for (kind, folder) in [
        ("at-job", "var/spool/cron/atjobs"),
        ("at-job", "var/spool/at"),
        ("cron-table", "var/spool/cron"),
        ("cron-table", "var/spool/cron/crontabs"),
        ("cron-table", "var/spool/cron/tabs"),
    ] {
        for path in below(&root.join(folder)) {
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            if !facts.is_file() {
                continue;
            }
            let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
            if name.starts_with(b".") {
                continue;
            }
            let mut row = row_of(kind, &path);
            owner_and_times(&mut row, &facts);
            if kind == "cron-table" {
                row.text("user", name);
            } else if let Some(due) = due_minute(name) {
                put_time(&mut row, "due", due.saturating_mul(60), 0);
            }
            rows.push(row);
        }
    }
    rows
}

/// The minute since 1970 at which an `at` job is due: `QJJJJJTTTTTTTT`, queue, job number and time in hexadecimal.
fn due_minute(name: &[u8]) -> Option<i64> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() == 14 && name.is_ascii())?;
    i64::from_str_radix(name.get(6..)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::triage::packed::packed;

    fn write(root: &Path, name: &str, bytes: &[u8]) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn logins_sessions_sockets_and_queues_become_rows() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(
            root,
            "run/utmp",
            &crate::triage::login_records::record(7, 4242, "pts/0", "alice", "203.0.113.9", 1_795_220_000),
        );
        write(
            root,
            "run/systemd/sessions/3",
            b"# private\nUID=1000\nUSER=alice\nSTATE=active\nREMOTE_HOST=203.0.113.9\nLEADER=4242\nREALTIME=1795220000123456\n",
        );
        write(root, "var/spool/cron/atjobs/a000010001c8b9e0", b"#!/bin/sh\n");
        write(root, "var/spool/cron/atjobs/a0000101c8b9e0", b"#!/bin/sh\n");
        write(root, "var/spool/cron/crontabs/bob", b"* * * * * /tmp/.x\n");
        fs::create_dir_all(root.join("tmp/tmux-1000")).unwrap();
        let _tmux = UnixListener::bind(root.join("tmp/tmux-1000/default")).unwrap();
        let out = packed(|out, clock| sessions_at(root, out, clock));
        let rows = out.rows("V4/sessions.jsonl");
        let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["login", "session", "tmux", "at-job", "at-job", "cron-table"]);
        assert_eq!(rows[0]["since"], "2026-11-21T00:13:20.000000000Z");
        assert_eq!((&rows[0]["user"], &rows[0]["remote_ip"]), (&"alice".into(), &"203.0.113.9".into()));
        assert_eq!(rows[1]["since"], "2026-11-21T00:13:20.123456000Z");
        assert_eq!((rows[1]["pid"].as_u64(), rows[1]["uid"].as_u64()), (Some(4242), Some(1000)));
        let due: Vec<_> = rows.iter().filter_map(|row| row.get("due")).collect();
        assert_eq!(due, ["2026-11-29T02:40:00.000000000Z"], "the other name is no time");
        assert_eq!(rows[5]["user"], "bob");
    }

    #[test]
    fn a_system_without_anything_of_it_gives_an_empty_table() {
        let root = tempfile::tempdir().unwrap();
        let out = packed(|out, clock| sessions_at(root.path(), out, clock));
        assert!(out.rows("V4/sessions.jsonl").is_empty());
        assert!(out.issues.is_empty());
    }
}
