//! One walk over the whole file system: the facts of every inode, without content.
//!
//! - `/V7/file-metadata.jsonl`: every path with times to the nanosecond (birth time included), mode, owner, links,
//!   flags of the file system and extended attributes (ACLs and capabilities are among them).
//! - `/V7/notable-files.jsonl`: those that a responder asks for first, each with the reasons.
//! - File systems of the kernel and of the network are not entered.
//! - Not told, for the system tells it only to programs that use unchecked calls: project id and inode generation.
//! - The same walk finds the paths of patterns that are for any place, and the executables that are hashed later.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use custody::bundle::file_time;
use custody::strict_json::escape_text;
use rustix::fs::{FileType, StatxAttributes, readlinkat};
use serde_json::{Map, Value};

use super::host_files::{Folder, HostFiles, Refusal};
use super::live_table::{LiveTable, Row};
use super::pattern::Pattern;
use crate::error::Result;
use crate::inode::{Facts, inspect as inode_of};
use crate::tar_packer::TarPacker;

/// Entries of a folder that are asked for in one act.
const AT_ONCE: usize = 512;

/// Folders within folders, at most.
const DEEPEST: usize = 200;

/// Paths that are kept for each pattern and for the executables.
const MOST_PATHS: usize = 500_000;

/// Linux allows 64 KiB for the names of attributes and for each value; here one value is told up to this.
const LARGEST_XATTR: usize = 64 << 10;

const METADATA_FORMAT: &str = "exhibit-file-metadata/1";
const NOTABLE_FORMAT: &str = "exhibit-notable-files/1";

/// What a survey is asked for, and what it found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Patterns of any place, by the artefact that asks.
    pub(crate) wanted: Vec<(usize, Vec<Pattern>, Vec<Pattern>)>,
    /// Whether executables are to be found.
    pub(crate) executables_wanted: bool,
    /// Whether the tables are to be written.
    pub(crate) tables_wanted: bool,
    pub(crate) found: HashMap<usize, Vec<PathBuf>>,
    pub(crate) executables: Vec<PathBuf>,
    pub(crate) entries: u64,
    pub(crate) notable: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) is_done: bool,
}

/// Known owners; of a system without these files nobody is unknown.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    pub(crate) users: HashSet<u32>,
    pub(crate) groups: HashSet<u32>,
}

impl Owners {
    /// Reads the text of `/etc/passwd` and `/etc/group`.
    pub(crate) fn read(passwd: &[u8], group: &[u8]) -> Self {
        let ids = |text: &[u8]| {
            text.split(|&byte| byte == b'\n')
                .filter_map(|line| {
                    let id = line.split(|&byte| byte == b':').nth(2)?;
                    std::str::from_utf8(id).ok()?.parse().ok()
                })
                .collect()
        };
        Self { users: ids(passwd), groups: ids(group) }
    }
}

/// One entry as the act brought it.
struct Entry {
    name: OsString,
    stat: Facts,
    target: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    errors: Vec<String>,
}

struct Tables {
    metadata: LiveTable,
    notable: LiveTable,
}

impl Survey {
    /// Walks. `observed` is the time at which it begins.
    pub(crate) fn run(
        &mut self,
        host: &mut HostFiles,
        owners: &Owners,
        observed: &str,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        if self.is_done {
            return Ok(());
        }
        self.is_done = true;
        let about = || Map::from_iter([("observed".to_owned(), Value::from(observed))]);
        let mut tables = self.tables_wanted.then(|| Tables {
            metadata: LiveTable::new("V7/file-metadata", METADATA_FORMAT, about()),
            notable: LiveTable::new("V7/notable-files", NOTABLE_FORMAT, about()),
        });
        let root = match host.open_root() {
            Ok(root) => root,
            Err(refusal) => {
                self.refused(Path::new("/"), &refusal, out);
                return Ok(());
            }
        };
        if let Some(tables) = tables.as_mut() {
            let own = host.in_folder(&root, |folder| inspect(folder, OsStr::new("")));
            if let Ok(own) = own {
                self.tell(&root.path, &own, owners, tables, out)?;
            }
        }
        // Folders still to be walked through: what stands last is next.
        let mut to_go: Vec<(Folder, std::vec::IntoIter<OsString>)> = Vec::new();
        self.enter(root, &mut to_go, host, owners, tables.as_mut(), out)?;
        while let Some((folder, names)) = to_go.last_mut() {
            let Some(name) = names.next() else {
                to_go.pop();
                continue;
            };
            let path = folder.path.join(&name);
            if to_go.len() >= DEEPEST {
                self.failed += 1;
                out.note(&path, &format!("not entered: {DEEPEST} folders deep"));
                continue;
            }
            let Some((folder, _)) = to_go.last() else { continue };
            match host.open_folder(folder, &name, false) {
                Ok(below) if host.is_left_out(&below.inode) => {}
                Ok(below) => self.enter(below, &mut to_go, host, owners, tables.as_mut(), out)?,
                Err(refusal) => self.refused(&path, &refusal, out),
            }
        }
        if let Some(tables) = tables {
            tables.metadata.end(out)?;
            tables.notable.end(out)?;
        }
        Ok(())
    }

    /// Tells all entries of a folder, and puts its folders on the list of those to go through.
    fn enter(
        &mut self,
        folder: Folder,
        to_go: &mut Vec<(Folder, std::vec::IntoIter<OsString>)>,
        host: &mut HostFiles,
        owners: &Owners,
        mut tables: Option<&mut Tables>,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        let names = match host.names(&folder) {
            Ok((names, error)) => {
                if let Some(error) = error {
                    self.failed += 1;
                    out.note(&folder.path, &format!("listing ended early: {error}"));
                }
                names
            }
            Err(refusal) => {
                self.refused(&folder.path, &refusal, out);
                return Ok(());
            }
        };
        let mut below = Vec::new();
        // What is mounted here is judged first, and looked at when it is entered.
        let (mounted, plain): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| host.is_mount_point(&folder.path.join(name)));
        for names in plain.chunks(AT_ONCE) {
            let asked = names.to_vec();
            let entries = host.in_folder(&folder, move |folder| {
                Ok(asked
                    .iter()
                    .map(|name| inspect(folder, name).map_err(|e| (name.clone(), e)))
                    .collect::<Vec<_>>())
            });
            let entries = match entries {
                Ok(entries) => entries,
                Err(refusal) => {
                    self.refused(&folder.path, &refusal, out);
                    return Ok(());
                }
            };
            for entry in entries {
                match entry {
                    Ok(entry) => {
                        if FileType::from_raw_mode(entry.stat.mode) == FileType::Directory {
                            below.push(entry.name.clone());
                        }
                        let path = folder.path.join(&entry.name);
                        self.remember(&path, &entry);
                        if let Some(tables) = tables.as_deref_mut() {
                            self.tell(&path, &entry, owners, tables, out)?;
                        }
                    }
                    // What went between listing and asking was not there for long.
                    Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                    Err((name, error)) => {
                        self.failed += 1;
                        out.note(&folder.path.join(name), &format!("cannot be inspected: {error}"));
                    }
                }
            }
        }
        for name in mounted {
            let path = folder.path.join(&name);
            match host.open_folder(&folder, &name, false) {
                Ok(opened) => {
                    if let (Some(tables), Ok(own)) = (
                        tables.as_deref_mut(),
                        host.in_folder(&opened, |folder| inspect(folder, OsStr::new(""))),
                    ) {
                        self.tell(&path, &own, owners, tables, out)?;
                    }
                    below.push(name);
                }
                // A file can be mounted over a file, as containers do with /etc/hosts.
                Err(Refusal::NotThere) => {
                    let asked = name.clone();
                    if let (Some(tables), Ok(own)) = (
                        tables.as_deref_mut(),
                        host.in_folder(&folder, move |folder| inspect(folder, &asked)),
                    ) {
                        self.tell(&path, &own, owners, tables, out)?;
                    }
                }
                Err(refusal) => self.refused(&path, &refusal, out),
            }
        }
        below.sort();
        to_go.push((folder, below.into_iter()));
        Ok(())
    }

    fn refused(&mut self, path: &Path, refusal: &Refusal, out: &mut TarPacker<'_>) {
        match refusal {
            Refusal::NotThere => {}
            Refusal::Rule(what) if what.contains("kernel file system") => {}
            Refusal::Rule(what) => out.note(path, &format!("without its metadata: {what}")),
            Refusal::Failed(what) => {
                self.failed += 1;
                out.note(path, what);
            }
            Refusal::Silent(what) => {
                self.timed_out += 1;
                out.note(path, what);
            }
        }
    }

    /// Keeps the paths that later artefacts ask for.
    fn remember(&mut self, path: &Path, entry: &Entry) {
        for (artefact, patterns, exclude) in &self.wanted {
            if patterns.iter().any(|pattern| pattern.matches(path))
                && !path.ancestors().any(|above| exclude.iter().any(|pattern| pattern.matches(above)))
            {
                let found = self.found.entry(*artefact).or_default();
                if found.len() < MOST_PATHS {
                    found.push(path.to_owned());
                }
            }
        }
        let is_executable =
            FileType::from_raw_mode(entry.stat.mode) == FileType::RegularFile && entry.stat.mode & 0o111 != 0;
        if self.executables_wanted && is_executable && self.executables.len() < MOST_PATHS {
            self.executables.push(path.to_owned());
        }
    }

    /// Writes the rows of one entry.
    fn tell(
        &mut self,
        path: &Path,
        entry: &Entry,
        owners: &Owners,
        tables: &mut Tables,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        self.entries += 1;
        let path = escape_text(path.as_os_str().as_bytes());
        let why = notable(entry, owners);
        if !why.is_empty() {
            self.notable += 1;
            let mut row = Row::default();
            row.put("path", path.clone());
            row.put("why", why.iter().map(|why| Value::from(*why)).collect::<Vec<_>>());
            row.put("mode", format!("{:06o}", entry.stat.mode));
            row.put("uid", entry.stat.uid);
            row.put("gid", entry.stat.gid);
            row.number("size", Some(entry.stat.size));
            time(&mut row, "mtime", Some(entry.stat.mtime));
            tables.notable.row(out, row.into_map())?;
        }
        tables.metadata.row(out, row_of(path, entry).into_map())
    }
}

fn row_of(path: String, entry: &Entry) -> Row {
    let stat = &entry.stat;
    let mut row = Row::default();
    row.put("path", path);
    row.put("kind", kind(stat));
    row.put("mode", format!("{:06o}", stat.mode));
    row.put("uid", stat.uid);
    row.put("gid", stat.gid);
    row.number("size", Some(stat.size));
    row.number("blocks", Some(stat.blocks));
    row.put("links", stat.links);
    row.put("inode", stat.number.to_string());
    row.put("dev", format!("{}:{}", stat.lies_on.0, stat.lies_on.1));
    if stat.stands_for != (0, 0) {
        row.put("rdev", format!("{}:{}", stat.stands_for.0, stat.stands_for.1));
    }
    time(&mut row, "atime", Some(stat.atime));
    time(&mut row, "mtime", Some(stat.mtime));
    time(&mut row, "ctime", Some(stat.ctime));
    time(&mut row, "btime", stat.btime);
    let flags = flags(stat);
    if !flags.is_empty() {
        row.put("flags", flags.into_iter().map(Value::from).collect::<Vec<_>>());
    }
    if !entry.target.is_empty() {
        row.text("link", &entry.target);
    }
    if !entry.xattrs.is_empty() {
        let xattrs: Vec<Value> = entry
            .xattrs
            .iter()
            .map(|(name, value)| {
                let mut xattr = Row::default();
                xattr.text("name", name);
                xattr.put("value", BASE64_STANDARD.encode(value));
                Value::Object(xattr.into_map())
            })
            .collect();
        row.put("xattrs", xattrs);
    }
    if !entry.errors.is_empty() {
        row.put("errors", entry.errors.clone());
    }
    row
}

fn time(row: &mut Row, key: &str, time: Option<(i64, u32)>) {
    let Some((seconds, nanoseconds)) = time else { return };
    match file_time(seconds, nanoseconds) {
        Some(text) => row.put(key, text),
        // Outside the years 0 to 9999, so as seconds.
        None => row.put(&format!("{key}_seconds"), seconds.to_string()),
    }
}

fn kind(stat: &Facts) -> &'static str {
    match FileType::from_raw_mode(stat.mode) {
        FileType::Directory => "folder",
        FileType::Symlink => "symlink",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character",
        FileType::BlockDevice => "block",
        FileType::RegularFile => "file",
        FileType::Unknown => "unknown",
    }
}

/// Flags that the file system keeps, as `chattr` names them.
fn flags(stat: &Facts) -> Vec<&'static str> {
    [
        (StatxAttributes::COMPRESSED, "compressed"),
        (StatxAttributes::IMMUTABLE, "immutable"),
        (StatxAttributes::APPEND, "append-only"),
        (StatxAttributes::NODUMP, "no-dump"),
        (StatxAttributes::ENCRYPTED, "encrypted"),
        (StatxAttributes::VERITY, "verity"),
        (StatxAttributes::DAX, "dax"),
    ]
    .into_iter()
    .filter(|(flag, _)| stat.flags.contains(*flag))
    .map(|(_, word)| word)
    .collect()
}

/// Why a responder would look at a file first.
fn notable(entry: &Entry, owners: &Owners) -> Vec<&'static str> {
    let stat = &entry.stat;
    let kind = FileType::from_raw_mode(stat.mode);
    let (is_file, is_folder) = (kind == FileType::RegularFile, kind == FileType::Directory);
    let has = |bits: u32| stat.mode & bits != 0;
    let has_xattr = |wanted: &[u8]| entry.xattrs.iter().any(|(name, _)| name == wanted);
    [
        (is_file && has(0o4000), "suid"),
        (is_file && has(0o2000), "sgid"),
        (has_xattr(b"security.capability"), "capability"),
        (is_file && has(0o002), "world-writable"),
        (is_folder && has(0o002) && !has(0o1000), "world-writable-without-sticky"),
        (is_file && has(0o020) && stat.gid != 0, "group-writable"),
        (!owners.users.is_empty() && !owners.users.contains(&stat.uid), "unknown-owner"),
        (!owners.groups.is_empty() && !owners.groups.contains(&stat.gid), "unknown-group"),
        (stat.flags.contains(StatxAttributes::IMMUTABLE), "immutable"),
        (stat.flags.contains(StatxAttributes::APPEND), "append-only"),
        (kind == FileType::Socket, "socket"),
        (is_hidden(&entry.name) && (is_file || is_folder), "hidden"),
        (is_odd(&entry.name), "odd-name"),
    ]
    .into_iter()
    .filter(|(is, _)| *is)
    .map(|(_, why)| why)
    .collect()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// Names that hide in a list: of dots or spaces alone, with spaces at an end, or with control characters.
fn is_odd(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.is_empty()
        && (name.iter().all(|byte| b". ".contains(byte))
            || name.starts_with(b" ")
            || name.ends_with(b" ")
            || name.iter().any(u8::is_ascii_control))
}

fn inspect(folder: &File, name: &OsStr) -> io::Result<Entry> {
    let path = Path::new(name);
    let stat = inode_of(folder, path)?.facts().clone();
    let (mut target, mut errors) = (Vec::new(), Vec::new());
    if FileType::from_raw_mode(stat.mode) == FileType::Symlink {
        match readlinkat(folder, path, Vec::new()) {
            Ok(found) => target = found.into_bytes(),
            Err(error) => errors.push(format!("target unreadable: {error}")),
        }
    }
    let place = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let place = if name.is_empty() { place.join(".") } else { place.join(name) };
    let xattrs = xattrs(&place, &mut errors);
    Ok(Entry { name: name.to_owned(), stat, target, xattrs, errors })
}

fn xattrs(path: &Path, errors: &mut Vec<String>) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Most files have none, or few: the large room is made only where it is needed.
    let mut names = vec![0; 1024];
    let mut listed = rustix::fs::llistxattr(path, &mut names[..]);
    if listed == Err(rustix::io::Errno::RANGE) {
        names = vec![0; LARGEST_XATTR];
        listed = rustix::fs::llistxattr(path, &mut names[..]);
    }
    let length = match listed {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Vec::new(),
        Ok(length) => length,
        Err(error) => {
            errors.push(format!("extended attributes unreadable: {error}"));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    let mut value = vec![0; LARGEST_XATTR];
    for name in
        names.get(..length).unwrap_or_default().split(|&byte| byte == 0).filter(|name| !name.is_empty())
    {
        match rustix::fs::lgetxattr(path, OsString::from_vec(name.to_vec()), &mut value[..]) {
            Ok(length) => found.push((name.to_vec(), value.get(..length).unwrap_or_default().to_vec())),
            Err(error) => errors.push(format!("{}: {error}", escape_text(name))),
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_the_third_field_and_broken_lines_are_none() {
        let owners = Owners::read(
            b"root:x:0:0::/root:/bin/sh\nx\njane:x:1000:1000:::\n",
            b"root:x:0:\nadm:x:4:jane\n",
        );
        assert_eq!(owners.users, HashSet::from([0, 1000]));
        assert_eq!(owners.groups, HashSet::from([0, 4]));
    }

    #[test]
    fn names_that_hide_in_a_list_are_odd() {
        for odd in ["...", " ", ".. ", " x", "x ", "a\nb", "\u{7f}"] {
            assert!(is_odd(OsStr::new(odd)), "{odd:?}");
        }
        for plain in ["a b", ".hidden", "x.y"] {
            assert!(!is_odd(OsStr::new(plain)), "{plain:?}");
        }
    }
}
