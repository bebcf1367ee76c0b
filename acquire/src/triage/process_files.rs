//! What is kept of one process: its raw `/proc` files, its descriptors, and what exists in no folder any more.
//!
//! - `/V2/proc/PID/NAME`: the raw files, each up to a limit; mounts once for each mount namespace and root folder.
//! - `/V2/proc/PID/fd.jsonl`: every descriptor: where it leads, its inode, its `fdinfo`.
//! - Executables are hashed. Those that were deleted or live in memory alone (memfd) are copied whole to
//!   `/V2/proc/PID/exe`; open files that are so to `/V2/proc/PID/fd/N`, mapped ones to `/V2/proc/PID/map_files/RANGE`.
//! - Only regular files are ever opened: never a pipe, socket, terminal or device. An inode is copied once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use custody::clock::rfc3339;
use custody::strict_json::escape_text;
use custody::{Digest, Hasher};
use rustix::fs::{FileType, Mode, OFlags, Statx, fstatfs, openat};
use serde_json::Value;

use super::bounded_reads::{Patience, Taken, link_below, names_below, read_below, target_below};
use super::live_table::{Lines, Row};
use super::process_facts::Status;
use super::processes::has_gone;
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// The raw files of a process, and how much of each is kept.
const RAW: [(&str, usize); 26] = [
    ("status", 64 << 10),
    ("stat", 8 << 10),
    ("cmdline", 2 << 20),
    ("environ", 2 << 20),
    ("comm", 1 << 10),
    ("cgroup", 64 << 10),
    ("maps", 8 << 20),
    ("smaps_rollup", 64 << 10),
    ("limits", 64 << 10),
    ("loginuid", 64),
    ("sessionid", 64),
    ("io", 4 << 10),
    ("wchan", 4 << 10),
    ("syscall", 4 << 10),
    ("stack", 64 << 10),
    ("timerslack_ns", 64),
    ("attr/current", 4 << 10),
    ("auxv", 64 << 10),
    ("personality", 64),
    ("statm", 4 << 10),
    ("sched", 64 << 10),
    ("oom_score_adj", 64),
    ("coredump_filter", 64),
    ("uid_map", 64 << 10),
    ("gid_map", 64 << 10),
    ("autogroup", 4 << 10),
];
const MOUNTS: [(&str, usize); 2] = [("mounts", 8 << 20), ("mountinfo", 8 << 20)];

/// Descriptors of a process that are listed.
const MOST_DESCRIPTORS: usize = 65_536;
/// Bytes of one `fdinfo`: an epoll descriptor has a line for each it waits for.
const FDINFO: usize = 64 << 10;
/// Reading an executable through, for its hash.
const HASHING: Duration = Duration::from_secs(120);
/// Deleted files named in the row of a process.
const MOST_NAMED: usize = 100;

/// Mapped areas that look like deleted files and are parts of memory.
const NO_FILES: [&[u8]; 8] =
    [b"/SYSV", b"/dev/zero", b"/[aio]", b"/anon_hugepage", b"/i915", b"/drm", b"/dmabuf", b"/secretmem"];

/// `f_type` of file systems whose other end may not answer: NFS, SMB (three), FUSE, 9P, AFS, Coda, Ceph, Lustre.
const REMOTE: [i64; 10] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x5346_414f,
    0x7375_7245,
    0x00c3_6400,
    0x0bd0_0bd0,
];

/// How much of a file that no folder holds any more is copied; what is cut is listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyLimits {
    /// Executables and memfds.
    pub(crate) executables: Option<u64>,
    /// Other files.
    pub(crate) files: Option<u64>,
}

impl Default for CopyLimits {
    fn default() -> Self {
        Self { executables: None, files: Some(1 << 30) }
    }
}

type InodeId = (u32, u32, u64);

/// What has been kept so far, so that it is kept once.
pub(super) struct ProcessFiles {
    root: PathBuf,
    limits: CopyLimits,
    hashing: Patience,
    /// By inode, time and size.
    hashes: HashMap<(InodeId, i64, u32, u64), Option<Digest>>,
    /// Where the copy of an inode lies.
    copies: HashMap<InodeId, String>,
    mounts: HashSet<(Vec<u8>, Vec<u8>)>,
}

/// One open descriptor.
struct Descriptor {
    number: String,
    link: Vec<u8>,
    target: Option<Statx>,
    info: Taken,
}

/// A process that is being kept.
struct Kept<'a> {
    pid: u32,
    folder: &'a Arc<OwnedFd>,
    row: &'a mut Row,
    /// Copies made of it, and files that it alone holds.
    copies: Vec<Value>,
    deleted: Vec<Value>,
}

impl Kept<'_> {
    fn place(&self, name: &str) -> String {
        format!("V2/proc/{}/{name}", self.pid)
    }
}

impl ProcessFiles {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            limits: CopyLimits::default(),
            hashing: Patience::of(HASHING),
            hashes: HashMap::new(),
            copies: HashMap::new(),
            mounts: HashSet::new(),
        }
    }

    /// Keeps all of one process, and adds to its row what was found.
    pub(super) fn take(
        &mut self,
        pid: u32,
        folder: &Arc<OwnedFd>,
        links: &BTreeMap<&'static str, Vec<u8>>,
        row: &mut Row,
        patience: &mut Patience,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        let mut kept = Kept { pid, folder, row, copies: Vec::new(), deleted: Vec::new() };
        // What is lost with the process comes first.
        if let Some(link) = links.get("exe") {
            self.executable(&mut kept, link, patience, out)?;
        }
        self.descriptors(&mut kept, patience, out)?;
        let mount_key = || Some((links.get("mnt")?.clone(), links.get("root")?.clone()));
        let with_mounts = mount_key().is_none_or(|key| self.mounts.insert(key));
        let mounts = MOUNTS.iter().filter(|_| with_mounts);
        for &(name, most) in RAW.iter().chain(mounts) {
            let to_read = Arc::clone(folder);
            match patience.wait(move || read_below(&to_read, name, most)) {
                Ok(taken) => {
                    if name == "maps" {
                        self.mapped(&mut kept, &taken.bytes, patience, out)?;
                    }
                    let place = kept.place(name);
                    if taken.cut {
                        out.note(Path::new(&place), &format!("only its first {} bytes", taken.bytes.len()));
                    }
                    if !taken.bytes.is_empty() {
                        out.made(&place, &taken.bytes)?;
                    }
                }
                // Not every kernel has every file, and not every process an answer.
                Err(error) if has_gone(&error) || error.raw_os_error() == Some(22) => {}
                Err(error) => out.note(Path::new(&kept.place(name)), &format!("unreadable: {error}")),
            }
        }
        let to_read = Arc::clone(folder);
        let still = patience.wait(move || read_below(&to_read, "stat", 1));
        kept.row.flag("ended_meanwhile", still.is_err_and(|error| has_gone(&error)));
        if !kept.deleted.is_empty() {
            kept.row.put("deleted_files", kept.deleted);
        }
        if !kept.copies.is_empty() {
            kept.row.put("copies", kept.copies);
        }
        Ok(())
    }

    /// Hashes the executable, and copies it if it lies in no folder.
    fn executable(
        &mut self,
        kept: &mut Kept<'_>,
        link: &[u8],
        patience: &mut Patience,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        let (file, target) = match open_target(kept.folder, "exe", patience) {
            Ok(opened) => opened,
            Err(error) => {
                if !has_gone(&error) {
                    out.note(Path::new(&kept.place("exe")), &format!("cannot be opened: {error}"));
                }
                return Ok(());
            }
        };
        let id = inode_id(&target);
        let changed = (target.stx_mtime.tv_sec, target.stx_mtime.tv_nsec);
        let key = (id, changed.0, changed.1, target.stx_size);
        let file = Arc::new(file);
        let hash = match self.hashes.get(&key) {
            Some(&hash) => hash,
            None => {
                let to_read = Arc::clone(&file);
                let hash = self.hashing.wait(move || hash_of(&to_read));
                if let Err(error) = &hash {
                    out.note(Path::new(&kept.place("exe")), &format!("not hashed: {error}"));
                }
                *self.hashes.entry(key).or_insert(hash.ok())
            }
        };
        if let Some(hash) = hash {
            kept.row.put("exe_sha256", hash.to_string());
        }
        kept.row.number("exe_size", Some(target.stx_size));
        kept.row.put("exe_inode", id.2.to_string());
        kept.row.put("exe_dev", format!("{}:{}", id.0, id.1));
        if let Some(mtime) =
            changed.0.checked_mul(1_000_000_000).and_then(|s| s.checked_add(changed.1.into()))
        {
            kept.row.put("exe_mtime", rfc3339(mtime));
        }
        if self.is_gone_file(link, &target, kept) {
            let limit = self.limits.executables;
            // A hash that could not be taken within its time says that reading may never end.
            if hash.is_some() {
                self.copy(kept, "exe", &file, &target, limit, out)?;
            }
        }
        Ok(())
    }

    fn descriptors(
        &mut self,
        kept: &mut Kept<'_>,
        patience: &mut Patience,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        let to_read = Arc::clone(kept.folder);
        let (descriptors, cut) = match patience.wait(move || list_descriptors(&to_read)) {
            Ok(listed) => listed,
            Err(error) => {
                if !has_gone(&error) {
                    out.note(Path::new(&kept.place("fd")), &format!("descriptors not listed: {error}"));
                }
                return Ok(());
            }
        };
        if cut {
            out.note(Path::new(&kept.place("fd")), &format!("only {} descriptors listed", descriptors.len()));
        }
        kept.row.put("open_files", descriptors.len());
        if descriptors.is_empty() {
            return Ok(());
        }
        let mut lines = Lines::default();
        let mut programs = Vec::new();
        for descriptor in &descriptors {
            let mut row = Row::default();
            row.number("fd", descriptor.number.parse().ok());
            row.text("link", &descriptor.link);
            row.text("fdinfo", &descriptor.info.bytes);
            row.flag("fdinfo_cut", descriptor.info.cut);
            if let Some(target) = &descriptor.target {
                let id = inode_id(target);
                row.put("kind", kind_word(target));
                row.put("dev", format!("{}:{}", id.0, id.1));
                row.put("inode", id.2.to_string());
                row.number("links", Some(target.stx_nlink.into()));
                row.number("size", Some(target.stx_size));
            }
            programs.extend(kernel_program(&descriptor.info.bytes).map(Value::from));
            lines.line(row);
        }
        out.made(&kept.place("fd.jsonl"), lines.bytes())?;
        if !programs.is_empty() {
            kept.row.put("bpf", programs);
        }
        for descriptor in &descriptors {
            let Some(target) = &descriptor.target else { continue };
            if !is_regular(target) || !self.is_gone_file(&descriptor.link, target, kept) {
                continue;
            }
            if kept.deleted.len() < MOST_NAMED {
                kept.deleted.push(escape_text(&descriptor.link).into());
            }
            let limit = match descriptor.link.starts_with(b"/memfd:") {
                true => self.limits.executables,
                false => self.limits.files,
            };
            let name = format!("fd/{}", descriptor.number);
            self.copy_by_name(kept, &name, target, limit, patience, out)?;
        }
        Ok(())
    }

    /// Copies mapped files that lie in no folder, such as a library that was deleted after it was loaded.
    fn mapped(
        &mut self,
        kept: &mut Kept<'_>,
        maps: &[u8],
        patience: &mut Patience,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        for line in maps.split(|&byte| byte == b'\n') {
            let Some((range, path)) = mapped_file(line) else { continue };
            let is_gone =
                path.ends_with(b" (deleted)") && !NO_FILES.iter().any(|no_file| path.starts_with(no_file));
            if !is_gone {
                continue;
            }
            let name = format!("map_files/{range}");
            let (folder, to_ask) = (Arc::clone(kept.folder), name.clone());
            let target = match patience.wait(move || target_below(&folder, &to_ask)) {
                Ok(target) if is_regular(&target) => target,
                Ok(_) => continue,
                Err(error) => {
                    if !has_gone(&error) {
                        let what = format!("{} not copied: {error}", escape_text(path));
                        out.note(Path::new(&kept.place(&name)), &what);
                    }
                    continue;
                }
            };
            let limit = match path.starts_with(b"/memfd:") {
                true => self.limits.executables,
                false => self.limits.files,
            };
            self.copy_by_name(kept, &name, &target, limit, patience, out)?;
        }
        Ok(())
    }

    fn copy_by_name(
        &mut self,
        kept: &mut Kept<'_>,
        name: &str,
        target: &Statx,
        limit: Option<u64>,
        patience: &mut Patience,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        if self.copies.contains_key(&inode_id(target)) {
            return self.mention(kept, target);
        }
        match open_target(kept.folder, name, patience) {
            Ok((file, now)) if inode_id(&now) == inode_id(target) => {
                self.copy(kept, name, &file, target, limit, out)
            }
            Ok(_) => {
                out.note(Path::new(&kept.place(name)), "not copied: another file took its place");
                Ok(())
            }
            Err(error) => {
                if !has_gone(&error) {
                    out.note(Path::new(&kept.place(name)), &format!("not copied: {error}"));
                }
                Ok(())
            }
        }
    }

    fn copy(
        &mut self,
        kept: &mut Kept<'_>,
        name: &str,
        file: &File,
        target: &Statx,
        limit: Option<u64>,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        if let Entry::Vacant(free) = self.copies.entry(inode_id(target)) {
            let place = kept.place(name);
            out.file_at(Path::new(&place), file, limit)?;
            free.insert(place);
        }
        self.mention(kept, target)
    }

    fn mention(&self, kept: &mut Kept<'_>, target: &Statx) -> Result<()> {
        if let Some(place) = self.copies.get(&inode_id(target)) {
            let place = Value::from(format!("/{place}"));
            if !kept.copies.contains(&place) {
                kept.copies.push(place);
            }
        }
        Ok(())
    }

    /// Whether a file lies in no folder (any more) under the name that its link tells.
    fn is_gone_file(&self, link: &[u8], target: &Statx, kept: &Kept<'_>) -> bool {
        let Some(name) = link.strip_suffix(b" (deleted)") else { return false };
        if target.stx_nlink == 0 || name.starts_with(b"/memfd:") {
            return true;
        }
        // Another name is left: whether it is this one after all, for files may be called so.
        let path = std::str::from_utf8(link).unwrap_or_default().trim_start_matches('/');
        let seen = self.root.join("proc").join(kept.pid.to_string()).join("root").join(path);
        target_below(rustix::fs::CWD, seen.to_str().unwrap_or_default())
            .map_or(true, |named| inode_id(&named) != inode_id(target))
    }
}

/// Opens what a link of `/proc/PID` leads to, only if it is a regular file.
fn open_target(folder: &Arc<OwnedFd>, name: &str, patience: &mut Patience) -> io::Result<(File, Statx)> {
    let (folder, name) = (Arc::clone(folder), name.to_owned());
    patience.wait(move || {
        if !is_regular(&target_below(&folder, &name)?) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match openat(&folder, name.as_str(), flags | OFlags::NOATIME, Mode::empty()) {
            Err(rustix::io::Errno::PERM) => File::from(openat(&folder, name.as_str(), flags, Mode::empty())?),
            opened => File::from(opened?),
        };
        let target = target_below(&file, "").or_else(|_| of_open(&file))?;
        if !is_regular(&target) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        if fstatfs(&file).is_ok_and(|found| REMOTE.contains(&found.f_type)) {
            // If its other end is silent, this is where we wait, and no longer than allowed.
            let mut byte = [0];
            file.read_at(&mut byte, 0)?;
        }
        Ok((file, target))
    })
}

fn of_open(file: &File) -> io::Result<Statx> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(statx(file, "", flags, StatxFlags::BASIC_STATS)?)
}

fn hash_of(file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut block = vec![0; 256 << 10];
    let mut offset = 0u64;
    loop {
        match file.read_at(&mut block, offset) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(block.get(..read).unwrap_or_default());
                offset = offset.saturating_add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn list_descriptors(folder: &OwnedFd) -> io::Result<(Vec<Descriptor>, bool)> {
    let (numbers, cut) = names_below(folder, "fd", MOST_DESCRIPTORS)?;
    let mut all = Vec::new();
    for number in numbers {
        let name = format!("fd/{number}");
        let Ok(link) = link_below(folder, &name) else { continue };
        let target = target_below(folder, &name).ok();
        let info = read_below(folder, &format!("fdinfo/{number}"), FDINFO).unwrap_or_default();
        all.push(Descriptor { number, link, target, info });
    }
    Ok((all, cut))
}

/// The range and path of a line of `maps` that a file backs, the range as `map_files` spells it.
fn mapped_file(line: &[u8]) -> Option<(String, &[u8])> {
    let start = line.iter().position(|&byte| byte == b'/')?;
    let fields = std::str::from_utf8(line.get(..start)?).ok()?;
    let (from, to) = fields.split_ascii_whitespace().next()?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some((format!("{:x}-{:x}", number(from)?, number(to)?), line.get(start..)?))
}

/// What the `fdinfo` of a BPF descriptor tells: `prog_id 12, prog_tag 3b1…`.
fn kernel_program(info: &[u8]) -> Option<String> {
    let info = Status::read(info);
    let keys = ["prog_type", "prog_id", "prog_tag", "map_type", "map_id", "link_type", "link_id", "btf_id"];
    let known: Vec<String> =
        keys.iter().filter_map(|key| Some(format!("{key} {}", info.value(key)?))).collect();
    (!known.is_empty()).then(|| escape_text(known.join(", ").as_bytes()))
}

fn inode_id(stat: &Statx) -> InodeId {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
}

fn is_regular(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
}

fn kind_word(stat: &Statx) -> &'static str {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Symlink => "link",
        // What the kernel makes without a type: epoll, eventfd, BPF …
        FileType::Unknown => "nameless",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_maps_are_spelt_as_map_files_spells_them() {
        let line = b"00400000-0040b000 r-xp 00000000 fd:01 7 /usr/lib/a b.so (deleted)";
        assert_eq!(mapped_file(line), Some(("400000-40b000".to_owned(), &b"/usr/lib/a b.so (deleted)"[..])));
        assert_eq!(mapped_file(b"7ff0-7ff1 rw-p 00000000 00:00 0 [stack]"), None);
        assert_eq!(mapped_file(b"x-y /z"), None);
    }

    #[test]
    fn the_fdinfo_of_a_bpf_program_is_recognised() {
        let info = b"pos:\t0\nflags:\t02000002\nprog_type:\t1\nprog_tag:\t3b185187f1855c4c\nprog_id:\t12\n";
        assert_eq!(kernel_program(info).unwrap(), "prog_type 1, prog_id 12, prog_tag 3b185187f1855c4c");
        assert_eq!(kernel_program(b"pos:\t0\n"), None);
    }
}
