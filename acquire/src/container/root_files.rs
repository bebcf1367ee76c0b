//! Files of a container: what it wrote to its logs, what it changed in its root, and what of it lies in memory.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::find::Found;
use crate::error::Result;
use crate::tar_packer::TarPacker;
use crate::triage::bounded_reads::{
    Patience, link_below, names_below, open_folder, read_below, target_below,
};
use crate::triage::container_changes::{Layer, upper_folder};
use crate::triage::live_table::Row;
use crate::triage::mounts::{MountKind, Mounts};
use crate::triage::process_facts::Stat;
use custody::clock::Clock;

const LIMIT: Duration = Duration::from_secs(60);
/// File systems in memory, by statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// Files of one log with the older ones beside it.
const MOST_LOGS: usize = 200;
/// Descriptors of a shim that are looked at.
const MOST_DESCRIPTORS: usize = 4096;
const MOUNTINFO: usize = 8 << 20;

/// One mount that was or was not taken, for the summary.
pub(super) type Mounted = Row;

/// Takes logs, root and memory file systems. Gives what is mounted in the container, and what became of it.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(super) fn root_files(
    root: &Path,
    found: &Found,
    pid: Option<u32>,
    largest: u64,
    clock: &dyn Clock,
    out: &mut TarPacker<'_>,
) -> Result<Vec<Mounted>> {
    let mut patience = Patience::of(LIMIT);
    let mounts = pid.map(|pid| mounts_of(root, pid, &mut patience)).unwrap_or_default();
    let shares_mounts = pid.is_some_and(|pid| shares_mounts(root, pid, &mut patience));
    // What lies in memory goes with the container, so it comes first.
    let mut mounted = Vec::new();
    for mount in Mounts::read(&mounts).all() {
        let mut row = Mounted::default();
        row.text("point", mount.point.as_os_str().as_bytes());
        row.put("type", mount.fs_type.clone());
        row.text("source", &mount.source);
        if mount.point == Path::new("/") {
            row.put("taken", "as the root");
        } else if shares_mounts {
            row.put("taken", "no: of the host, whose mounts it sees");
        } else if let (Some(pid), "tmpfs" | "ramfs") = (pid, mount.fs_type.as_str()) {
            let taken = in_memory(root, pid, &mount.point, largest, &mut patience, out)?;
            row.put("taken", taken);
        } else {
            row.put(
                "taken",
                if mount.kind == MountKind::Kernel { "no: of the kernel" } else { "no: not its own" },
            );
        }
        mounted.push(row);
    }
    logs(root, found, pid, &mut patience, out)?;
    let known = found.views.iter().find_map(|view| view.upper.clone());
    let seen = upper_folder(&mounts);
    if let (Some(known), Some(seen)) = (&known, &seen)
        && known != seen
    {
        let what =
            format!("its runtime says that its changes lie here; its own mounts say {}", seen.display());
        out.note(known, &what);
    }
    match known.or(seen) {
        Some(upper) => {
            let layer = Layer { root, upper: &upper, name: &found.id, pid, largest };
            layer.take(&mut patience, out, None, clock)?;
        }
        None => whole(root, found, pid, largest, out)?,
    }
    Ok(mounted)
}

fn mounts_of(root: &Path, pid: u32, patience: &mut Patience) -> Vec<u8> {
    let folder = root.join(format!("proc/{pid}"));
    let read = patience.wait(move || read_below(&open_folder(&folder)?, "mountinfo", MOUNTINFO));
    read.map(|taken| taken.bytes).unwrap_or_default()
}

/// Whether a process sees the mounts of the host, so that none of them is its own.
fn shares_mounts(root: &Path, pid: u32, patience: &mut Patience) -> bool {
    let proc = root.join("proc");
    let read = patience.wait(move || {
        let of = |pid: u32| link_below(open_folder(&proc.join(pid.to_string()))?, "ns/mnt");
        Ok(of(pid)? == of(1)?)
    });
    read.unwrap_or(false)
}

/// Takes a file system that lies in memory. Gives in words what became of it.
fn in_memory(
    root: &Path,
    pid: u32,
    point: &Path,
    largest: u64,
    patience: &mut Patience,
    out: &mut TarPacker<'_>,
) -> Result<String> {
    let top = root.join(format!("proc/{pid}/root"));
    let below = point.to_owned();
    // Within the container's root, whatever links it has on the way: they would lead us into the host's.
    let opened = patience.wait(move || {
        let root = open_folder(&top)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        Ok(openat2(&root, &below, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
    });
    let folder: OwnedFd = match opened {
        Ok(folder) => folder,
        // A single file, such as one that hides another: it has nothing of its own.
        Err(error) if error.raw_os_error() == Some(20) => return Ok("no: it is a file".to_owned()),
        Err(error) => {
            out.note(point, &format!("in memory, and not taken: {error}"));
            return Ok(format!("no: {error}"));
        }
    };
    // Something may have been mounted over it since; that is not in memory, and maybe not the container's.
    let lies_in_memory = rustix::fs::fstatfs(&folder)
        .is_ok_and(|found| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&u64::try_from(found.f_type).unwrap_or(0)));
    if !lies_in_memory {
        out.note(point, "in memory, and not taken: something else is mounted over it");
        return Ok("no: something is mounted over it".to_owned());
    }
    let real = PathBuf::from(format!("/proc/self/fd/{}/.", folder.as_raw_fd()));
    let shown = root.join(format!("proc/{pid}/root")).join(point.strip_prefix("/").unwrap_or(point));
    out.within(largest, point, |out| out.tree_as(&real, &shown))?;
    Ok("yes".to_owned())
}

/// Takes the files that its output goes to.
fn logs(
    root: &Path,
    found: &Found,
    pid: Option<u32>,
    patience: &mut Patience,
    out: &mut TarPacker<'_>,
) -> Result<()> {
    let mut paths: Vec<PathBuf> = found
        .views
        .iter()
        .flat_map(|view| &view.logs)
        .map(|log| root.join(log.strip_prefix("/").unwrap_or(log)))
        .collect();
    if let Some(pid) = pid {
        let proc = root.join("proc");
        paths.extend(patience.wait(move || Ok(written_by(&proc, pid))).unwrap_or_default());
    }
    paths.sort();
    paths.dedup();
    let mut taken = 0usize;
    for path in paths {
        let to_list = path.clone();
        let listed = patience.wait(move || Ok(with_older(&to_list)));
        for log in listed.unwrap_or_default().into_iter().take(MOST_LOGS) {
            out.once(&log)?;
            taken += 1;
        }
    }
    if taken == 0 {
        out.note(Path::new("logs"), "no file was found that its output goes to");
    }
    Ok(())
}

/// A log and the older ones beside it, whose names begin with its own; only regular files.
fn with_older(log: &Path) -> Vec<PathBuf> {
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|facts| facts.is_file());
    if !is_file(log) {
        return Vec::new();
    }
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return Vec::new() };
    let entries = fs::read_dir(folder).into_iter().flatten().take(10_000).flatten().map(|entry| entry.path());
    let begins = |path: &PathBuf| {
        path.file_name().is_some_and(|found| found.as_bytes().starts_with(name.as_bytes())) && is_file(path)
    };
    let mut found: Vec<PathBuf> = entries.filter(begins).collect();
    found.sort();
    found
}

/// The files on the host that the output of a process goes to: its own, and those that its shim writes.
fn written_by(proc: &Path, pid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let open = |pid: u32| open_folder(&proc.join(pid.to_string()));
    let Ok(folder) = open(pid) else { return found };
    found.extend(["fd/1", "fd/2"].iter().filter_map(|fd| file_of_host(&folder, fd)));
    let parent = read_below(&folder, "stat", 8 << 10).ok().and_then(|taken| Stat::read(&taken.bytes));
    let Some(parent) = parent.and_then(|stat| u32::try_from(stat.parent).ok()).filter(|&pid| pid > 1) else {
        return found;
    };
    let Ok(shim) = open(parent) else { return found };
    let name = read_below(&shim, "comm", 64).unwrap_or_default().bytes;
    if ![&b"containerd-shim"[..], b"conmon", b"docker-container"].iter().any(|start| name.starts_with(start))
    {
        return found;
    }
    let (numbers, _) = names_below(&shim, "fd", MOST_DESCRIPTORS).unwrap_or_default();
    for number in numbers {
        let info = read_below(&shim, &format!("fdinfo/{number}"), 4 << 10).unwrap_or_default();
        let info = String::from_utf8_lossy(&info.bytes).into_owned();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
        // Opened for writing: O_WRONLY or O_RDWR.
        if flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()).is_some_and(|flags| flags & 3 != 0) {
            found.extend(file_of_host(&shim, &format!("fd/{number}")));
        }
    }
    found
}

/// The path of an open regular file, if that is the same file on the host.
fn file_of_host(folder: &OwnedFd, fd: &str) -> Option<PathBuf> {
    let link = link_below(folder, fd).ok()?;
    let path = Path::new(std::ffi::OsStr::from_bytes(&link)).to_owned();
    let (open, there) = (target_below(folder, fd).ok()?, path.symlink_metadata().ok()?);
    let same = there.is_file()
        && there.ino() == open.stx_ino
        && rustix::fs::major(there.dev()) == open.stx_dev_major
        && rustix::fs::minor(there.dev()) == open.stx_dev_minor;
    (path.is_absolute() && same).then_some(path)
}

/// Takes a root that is no overlay as a whole, without what is mounted in it.
fn whole(root: &Path, found: &Found, pid: Option<u32>, largest: u64, out: &mut TarPacker<'_>) -> Result<()> {
    let known = found.views.iter().find_map(|view| view.root.clone());
    let known = known.map(|known| root.join(known.strip_prefix("/").unwrap_or(&known)));
    let through = pid.map(|pid| root.join(format!("proc/{pid}/root")));
    let Some(shown) = known.or(through.clone()) else {
        out.note(Path::new(&found.id), "its root was not found, so no file of it was taken");
        return Ok(());
    };
    let real = through.filter(|path| path.exists()).unwrap_or_else(|| shown.clone()).join(".");
    if is_of_host(root, &real) {
        out.note(&shown, "not taken: its root is that of the host");
        return Ok(());
    }
    out.within(largest, &shown, |out| out.tree_as(&real, &shown))
}

fn is_of_host(root: &Path, real: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    id(root).is_some() && id(root) == id(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_logs_come_with_a_log_and_nothing_that_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0.log", "0.log.1", "1.log"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("0.log.2")).unwrap();
        let found = with_older(&folder.path().join("0.log"));
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["0.log", "0.log.1"]);
        assert!(with_older(&folder.path().join("0.log.2")).is_empty());
    }

    #[test]
    fn the_output_of_a_process_is_found_where_it_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("out.log");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdout(fs::File::create(&log).unwrap())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let found = written_by(Path::new("/proc"), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [log]);
    }
}
