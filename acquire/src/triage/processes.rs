//! Every process of the live system: one quick pass over all of them, then each in full.
//!
//! - The quick pass takes what goes first: name, command line, parent, owner, start, links, namespaces.
//! - Cross view: pids that `/proc` does not list, but that `kill(pid, 0)` or a control group knows, are hidden ones.
//!   So are those whose folder is empty because something is mounted over it.
//! - Start: the wall clock at the time of reading, less `/proc/uptime`, plus the start in clock ticks. Both are told to
//!   a hundredth of a second, so a start is right to about 20 ms, as far as the wall clock is.
//! - `/V2/processes.jsonl` is the table; `/V2/proc/PID/` keeps the raw files (see [`super::process_files`]).
//! - Processes without a right to read them give what they give; what was refused stands in the row's `errors`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use custody::clock::{Clock, rfc3339};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde_json::Value;

use super::bounded_reads::{Patience, Taken, link_below, names_below, open_folder, read_below};
use super::live_table::{LiveTable, Row};
use super::process_facts::{Stat, Status, boot_second, container_of, control_group, uptime_ns};
use super::process_files::ProcessFiles;
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// The format of the table.
pub(crate) const FORMAT: &str = "exhibit-live-processes/1";

/// One read of `/proc`; a healthy one takes microseconds.
const LIMIT: Duration = Duration::from_secs(5);
/// Processes, at most: Linux allows 4,194,304 pids.
const MOST_PROCESSES: usize = 1 << 22;
/// Bytes of a command line in the table; the whole one is a raw file.
const COMMAND_LINE: usize = 32 << 10;
/// Who knows a process that answers to signal 0.
const BY_KILL: &str = "kill(pid, 0)";
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Takes all processes of the running system.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(crate) fn processes(out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    processes_at(Path::new("/"), out, clock)
}

/// Takes all processes of the system whose `/proc` lies below `root`.
pub(crate) fn processes_at(root: &Path, out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    let proc = root.join("proc");
    let mut patience = Patience::of(LIMIT);
    let listed = match pids(&mut patience, &proc) {
        Ok(listed) => listed,
        Err(error) => {
            out.note(&proc, &format!("processes cannot be listed: {error}"));
            return Ok(());
        }
    };
    let boot = Boot::read(&proc, clock);
    let mut found = Vec::new();
    let mut empty = Vec::new();
    for &pid in &listed {
        match Process::open(&mut patience, &proc, pid, clock) {
            Some(process) => found.push(process),
            None => empty.push(pid),
        }
    }
    masked(&mut patience, &proc, &mut found, &empty, clock, out);
    let unlisted = unlisted(root, &mut patience, &listed, out);
    for (pid, seen_by) in unlisted {
        let what = format!("process {pid} is not listed by /proc, but {seen_by} knows it: it is hidden");
        out.note(&proc.join(pid.to_string()), &what);
        let mut process = Process::open(&mut patience, &proc, pid, clock)
            .unwrap_or_else(|| Process::unknown(pid, clock.now().wall_ns));
        process.hidden = Some(format!("not listed by /proc, known to {seen_by}"));
        found.push(process);
    }
    told(root, found, &boot, &mut patience, out, clock)
}

/// Takes these processes alone, such as those of one container, each with its start in clock ticks; no cross view is made. One
/// that has gone is an issue, and so is one whose number another process has by now.
pub(crate) fn processes_of(
    root: &Path,
    wanted: &BTreeMap<u32, u64>,
    out: &mut TarPacker<'_>,
    clock: &dyn Clock,
) -> Result<()> {
    let proc = root.join("proc");
    let mut patience = Patience::of(LIMIT);
    let boot = Boot::read(&proc, clock);
    let mut found = Vec::new();
    for (&pid, &start) in wanted {
        match Process::open(&mut patience, &proc, pid, clock) {
            Some(process) if process.stat.as_ref().is_some_and(|stat| stat.start != start) => {
                out.note(&proc.join(pid.to_string()), "the process ended, and another one has its number");
            }
            Some(process) => found.push(process),
            None => out.note(&proc.join(pid.to_string()), "the process ended before it could be read"),
        }
    }
    told(root, found, &boot, &mut patience, out, clock)
}

/// Writes the table, and keeps what there is of each process.
fn told(
    root: &Path,
    found: Vec<Process>,
    boot: &Boot,
    patience: &mut Patience,
    out: &mut TarPacker<'_>,
    clock: &dyn Clock,
) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("observed".to_owned(), clock.now().rfc3339().into());
    header.insert("processes".to_owned(), found.len().into());
    boot.tell(&mut header);
    let mut table = LiveTable::new("V2/processes", FORMAT, header);
    let mut files = ProcessFiles::new(root);
    for process in found {
        let mut row = process.row(boot);
        if let Some(folder) = &process.folder {
            files.take(process.pid, folder, &process.links, &mut row, patience, out)?;
        }
        table.row(out, row.into_map())?;
    }
    table.end(out)
}

/// The pids that `/proc` lists.
fn pids(patience: &mut Patience, proc: &Path) -> io::Result<BTreeSet<u32>> {
    let folder = open_folder(proc)?;
    let (names, _) = patience.wait(move || names_below(&folder, ".", MOST_PROCESSES))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// When the system started, and how that is known.
struct Boot {
    wall_ns: Option<i64>,
    ticks: u64,
    basis: &'static str,
    btime: Option<i64>,
}

impl Boot {
    fn read(proc: &Path, clock: &dyn Clock) -> Self {
        let read = |name: &str| open_folder(proc).and_then(|proc| read_below(&proc, name, 8 << 20));
        let btime = read("stat").ok().and_then(|taken| boot_second(&taken.bytes));
        let uptime = read("uptime").ok().and_then(|taken| uptime_ns(&taken.bytes));
        let now = clock.now().wall_ns;
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        match uptime.and_then(|uptime| now.checked_sub(uptime)) {
            Some(boot) => Self { wall_ns: Some(boot), ticks, basis: "wall clock less /proc/uptime", btime },
            None => {
                let wall_ns = btime.and_then(|second| second.checked_mul(1_000_000_000));
                Self { wall_ns, ticks, basis: "btime of /proc/stat", btime }
            }
        }
    }

    /// The moment that lies so many ticks after boot.
    fn after(&self, ticks: u64) -> Option<i64> {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks);
        self.wall_ns?.checked_add(i64::try_from(nanoseconds).ok()?)
    }

    fn tell(&self, header: &mut serde_json::Map<String, Value>) {
        if let Some(boot) = self.wall_ns {
            header.insert("boot".to_owned(), rfc3339(boot).into());
            header.insert("boot_basis".to_owned(), self.basis.into());
        }
        if let Some(btime) = self.btime {
            header.insert("btime".to_owned(), btime.into());
        }
        header.insert("ticks_per_second".to_owned(), self.ticks.into());
    }
}

/// What the quick pass found of one process.
pub(super) struct Process {
    pub(super) pid: u32,
    observed: i64,
    folder: Option<Arc<OwnedFd>>,
    stat: Option<Stat>,
    status: Status,
    group: Vec<u8>,
    command: Taken,
    pub(super) links: BTreeMap<&'static str, Vec<u8>>,
    small: BTreeMap<&'static str, Vec<u8>>,
    hidden: Option<String>,
    errors: Vec<String>,
}

/// What the first of the two jobs of the quick pass brings: nothing in it waits for a lock of the process.
#[derive(Default)]
struct Quick {
    stat: Taken,
    status: Taken,
    group: Taken,
    small: BTreeMap<&'static str, Vec<u8>>,
    links: BTreeMap<&'static str, Vec<u8>>,
    errors: Vec<String>,
}

impl Process {
    /// `None` if it has gone.
    fn open(patience: &mut Patience, proc: &Path, pid: u32, clock: &dyn Clock) -> Option<Self> {
        let folder = Arc::new(open_folder(&proc.join(pid.to_string())).ok()?);
        let mut process = Self::unknown(pid, clock.now().wall_ns);
        let to_read = Arc::clone(&folder);
        match patience.wait(move || Ok(Quick::read(&to_read))) {
            Ok(quick) => {
                process.stat = Stat::read(&quick.stat.bytes);
                process.status = Status::read(&quick.status.bytes);
                process.group = control_group(&quick.group.bytes).unwrap_or_default().to_vec();
                process.links = quick.links;
                process.small = quick.small;
                process.errors = quick.errors;
            }
            Err(error) => process.errors.push(format!("stat: {error}")),
        }
        let to_read = Arc::clone(&folder);
        match patience.wait(move || read_below(&to_read, "cmdline", COMMAND_LINE)) {
            Ok(command) => process.command = command,
            Err(error) if has_gone(&error) && process.stat.is_none() => return None,
            Err(error) => process.errors.push(format!("cmdline: {error}")),
        }
        process.folder = Some(folder);
        Some(process)
    }

    fn unknown(pid: u32, observed: i64) -> Self {
        Self {
            pid,
            observed,
            folder: None,
            stat: None,
            status: Status::default(),
            group: Vec::new(),
            command: Taken::default(),
            links: BTreeMap::new(),
            small: BTreeMap::new(),
            hidden: None,
            errors: Vec::new(),
        }
    }

    fn row(&self, boot: &Boot) -> Row {
        let mut row = Row::default();
        row.put("pid", self.pid);
        row.put("observed", rfc3339(self.observed));
        if let Some(stat) = &self.stat {
            row.text("name", &stat.name);
            row.put("state", stat.state.to_string());
            row.number("ppid", Some(stat.parent));
            row.number("pgrp", Some(stat.group));
            row.number("session", Some(stat.session));
            row.number("threads", Some(stat.threads));
            row.number("cpu_ticks", stat.user_ticks.checked_add(stat.system_ticks));
            row.flag("kernel_thread", stat.is_kernel_thread());
            row.number("start_ticks", Some(stat.start));
            if let Some(start) = boot.after(stat.start) {
                row.put("start", rfc3339(start));
                row.put("start_basis", boot.basis);
            }
            if let Some((major, minor)) = stat.terminal_device() {
                row.put("tty", format!("{major}:{minor}"));
            }
        }
        for (key, from, nth) in [
            ("uid", "Uid", 0),
            ("euid", "Uid", 1),
            ("gid", "Gid", 0),
            ("egid", "Gid", 1),
            ("tracer", "TracerPid", 0),
            ("rss_kib", "VmRSS", 0),
            ("seccomp", "Seccomp", 0),
        ] {
            row.number(key, self.status.number(from, nth));
        }
        for (key, from) in [("capabilities", "CapEff"), ("pid_in_namespaces", "NSpid")] {
            row.some_text(key, self.status.value(from).map(str::as_bytes));
        }
        if !self.command.bytes.is_empty() {
            let line = self.command.bytes.strip_suffix(b"\0").unwrap_or(&self.command.bytes);
            let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
            row.text("cmdline", &words.join(&b' '));
            row.flag("cmdline_cut", self.command.cut);
        }
        if let Some(exe) = self.links.get("exe") {
            let name = exe.strip_suffix(b" (deleted)");
            row.text("exe", name.unwrap_or(exe));
            row.flag("exe_deleted", name.is_some());
            row.flag("exe_in_memory", exe.starts_with(b"/memfd:"));
        }
        for key in ["cwd", "root"] {
            row.some_text(key, self.links.get(key).map(Vec::as_slice));
        }
        let mut namespaces = serde_json::Map::new();
        for name in NAMESPACES {
            if let Some(inode) = self.links.get(name).and_then(|link| namespace_inode(link)) {
                namespaces.insert(name.to_owned(), inode.into());
            }
        }
        if !namespaces.is_empty() {
            row.put("namespaces", namespaces);
        }
        if !self.group.is_empty() {
            row.text("cgroup", &self.group);
        }
        if let Some((id, engine)) = container_of(&self.group) {
            row.text("container", id.as_bytes());
            row.put("container_by", engine);
        }
        for (key, text) in &self.small {
            let text = text.trim_ascii_end();
            // 4294967295 says that nobody has logged in.
            if !text.is_empty() && text != b"4294967295" {
                row.text(key, text.strip_suffix(b"\0").unwrap_or(text));
            }
        }
        if let Some(how) = &self.hidden {
            row.put("hidden", how.clone());
        }
        if !self.errors.is_empty() {
            let errors: Vec<Value> = self
                .errors
                .iter()
                .map(|error| custody::strict_json::escape_text(error.as_bytes()).into())
                .collect();
            row.put("errors", errors);
        }
        row
    }
}

impl Quick {
    fn read(folder: &OwnedFd) -> Self {
        let mut quick = Self::default();
        let mut errors = Vec::new();
        let mut note = |name: &str, error: &io::Error| {
            if !has_gone(error) {
                errors.push(format!("{name}: {error}"));
            }
        };
        let mut text = |name: &str, most: usize| {
            read_below(folder, name, most).unwrap_or_else(|error| {
                note(name, &error);
                Taken::default()
            })
        };
        quick.stat = text("stat", 8 << 10);
        quick.status = text("status", 64 << 10);
        quick.group = text("cgroup", 64 << 10);
        for (key, name) in
            [("loginuid", "loginuid"), ("audit_session", "sessionid"), ("label", "attr/current")]
        {
            // A kernel without the feature has no such file, or an empty one.
            if let Ok(taken) = read_below(folder, name, 4 << 10) {
                quick.small.insert(key, taken.bytes);
            }
        }
        for name in ["exe", "cwd", "root"] {
            match link_below(folder, name) {
                Ok(link) => drop(quick.links.insert(name, link)),
                Err(error) => note(name, &error),
            }
        }
        for name in NAMESPACES {
            if let Ok(link) = link_below(folder, &format!("ns/{name}")) {
                quick.links.insert(name, link);
            }
        }
        quick.errors = errors;
        quick
    }
}

/// Whether an error says that the process has ended (or, of a link, that a kernel thread has none).
pub(crate) fn has_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::SRCH | Errno::NOENT))
}

/// The number in `net:[4026531840]`, as text: an inode.
pub(crate) fn namespace_inode(link: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(link).ok()?;
    let (_, inode) = text.split_once(":[")?;
    let inode = inode.strip_suffix(']')?;
    inode.bytes().all(|byte| byte.is_ascii_digit()).then(|| inode.to_owned())
}

/// Marks processes over whose folder something is mounted, and adds those that are still listed though nothing of them
/// can be read.
fn masked(
    patience: &mut Patience,
    proc: &Path,
    found: &mut Vec<Process>,
    empty: &[u32],
    clock: &dyn Clock,
    out: &mut TarPacker<'_>,
) {
    let mounts =
        open_folder(proc).and_then(|proc| read_below(&proc, "self/mountinfo", 8 << 20)).unwrap_or_default();
    let masks: BTreeSet<u32> = mounted_over(&mounts.bytes).collect();
    for &pid in &masks {
        out.note(
            &proc.join(pid.to_string()),
            "something is mounted over this folder, which hides the process",
        );
    }
    let still = if empty.is_empty() { BTreeSet::new() } else { pids(patience, proc).unwrap_or_default() };
    for process in found.iter_mut().filter(|process| masks.contains(&process.pid)) {
        let what =
            "something is mounted over its folder in /proc: what is told here may be of another process";
        process.hidden = Some(what.to_owned());
    }
    for &pid in empty.iter().filter(|pid| still.contains(pid)) {
        // A number that has gone to another process meanwhile can be read after all.
        found.push(Process::open(patience, proc, pid, clock).unwrap_or_else(|| {
            let what = "its folder in /proc is empty, as if something were mounted over it";
            out.note(&proc.join(pid.to_string()), &format!("process {pid} is hidden: {what}"));
            Process { hidden: Some(what.to_owned()), ..Process::unknown(pid, clock.now().wall_ns) }
        }));
    }
}

/// The processes over whose folder something is mounted.
fn mounted_over(mounts: &[u8]) -> impl Iterator<Item = u32> {
    mounts.split(|&byte| byte == b'\n').filter_map(|line| {
        let place = line.split(|&byte| byte == b' ').nth(4)?.strip_prefix(b"/proc/")?;
        std::str::from_utf8(place).ok()?.split('/').next()?.parse().ok()
    })
}

/// Processes that are there and that `/proc` does not list, and who knows them.
fn unlisted(
    root: &Path,
    patience: &mut Patience,
    listed: &BTreeSet<u32>,
    out: &mut TarPacker<'_>,
) -> BTreeMap<u32, &'static str> {
    let proc = root.join("proc");
    let mut candidates: BTreeMap<u32, &'static str> = BTreeMap::new();
    for pid in group_members(root, patience) {
        candidates.insert(pid, "a control group");
    }
    let own = u32::try_from(rustix::process::getpid().as_raw_nonzero().get()).ok();
    let shows_us =
        std::fs::read_link(proc.join("self")).ok().and_then(|link| link.to_str()?.parse().ok()) == own;
    if root == Path::new("/") && shows_us {
        if hides_others(&proc) {
            let what =
                "mounted with hidepid: processes of other users are not seen, and no cross view was made";
            out.note(&proc, what);
            return BTreeMap::new();
        }
        let most = std::fs::read_to_string(proc.join("sys/kernel/pid_max"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(32_768u32)
            .min(1 << 22);
        for pid in (1..=most).filter(|&pid| exists(pid)) {
            candidates.insert(pid, BY_KILL);
        }
    } else {
        out.note(&proc, "not the /proc of this system: no sweep over all pids was made");
    }
    // Whoever came while we looked is listed by now.
    let now_listed = pids(patience, &proc).unwrap_or_default();
    candidates.retain(|pid, _| !listed.contains(pid) && !now_listed.contains(pid));
    let known = |pid: &u32| listed.contains(pid) || now_listed.contains(pid);
    candidates.retain(|&pid, seen_by| {
        let status = open_folder(&proc.join(pid.to_string()))
            .and_then(|folder| read_below(&folder, "status", 64 << 10))
            .map(|taken| Status::read(&taken.bytes));
        match status {
            // A thread answers to its own number, but is not listed.
            Ok(status) => {
                let group = status.number("Tgid", 0).and_then(|group| u32::try_from(group).ok());
                group.is_none_or(|group| group == pid || !known(&group))
            }
            // Not even the folder is there: hidden well, or gone meanwhile.
            Err(_) if *seen_by == BY_KILL => exists(pid),
            Err(_) => true,
        }
    });
    if candidates.values().any(|seen_by| *seen_by != BY_KILL) {
        let still = group_members(root, patience);
        candidates.retain(|pid, seen_by| *seen_by == BY_KILL || still.contains(pid));
    }
    candidates
}

fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}

/// Whether this `/proc` shows only our own processes.
fn hides_others(proc: &Path) -> bool {
    let mounts = std::fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
    let hides = mounts.lines().any(|line| {
        line.split(' ').nth(4) == Some("/proc")
            && [
                "hidepid=1",
                "hidepid=2",
                "hidepid=4",
                "hidepid=noaccess",
                "hidepid=invisible",
                "hidepid=ptraceable",
            ]
            .iter()
            .any(|option| line.contains(option))
    });
    hides && !rustix::process::geteuid().is_root()
}

/// All pids in the control groups' member lists.
fn group_members(root: &Path, patience: &mut Patience) -> BTreeSet<u32> {
    const MOST_GROUPS: usize = 100_000;
    let top = root.join("sys/fs/cgroup");
    patience
        .wait(move || {
            let mut members = BTreeSet::new();
            let mut folders: Vec<PathBuf> = vec![top];
            let mut seen = 0usize;
            while let Some(folder) = folders.pop() {
                seen += 1;
                if seen > MOST_GROUPS {
                    break;
                }
                if let Ok(text) = std::fs::read_to_string(folder.join("cgroup.procs")) {
                    // 0 stands for a process of another pid namespace.
                    members.extend(
                        text.lines().filter_map(|line| line.parse().ok()).filter(|&pid: &u32| pid != 0),
                    );
                }
                let Ok(below) = std::fs::read_dir(&folder) else { continue };
                folders.extend(
                    below
                        .flatten()
                        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                        .map(|entry| entry.path()),
                );
            }
            Ok(members)
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
