//! Files and folders, as they lie on a running or mounted system, packed into one PAX tar with a catalogue.
//!
//! - Order: context files first, then each given path; folders before their content, names by their bytes.
//! - A file's size is fixed when it is opened: a shorter one is filled with zeros (`absent`), growth is noted.
//! - Links are entries and never followed, except one that is itself a given path: then its target is taken as well.
//! - Sockets, pipes and devices are entries without content. A second name of an inode is a hard link.
//! - Mounts are crossed; kernel file systems (`/proc`, `/sys` …) are entered only if given by name.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::Hasher;
use custody::bundle::{CatalogEntry, MemberKind, Source as SourceFacts, State};
use custody::strict_json::escape_text;
use rustix::fs::{CWD, Dir, OFlags, fstatfs, readlinkat};
use serde_json::{Map, Value};

use super::disk::open_read_only;
use crate::context::context_files;
use crate::error::{Error, Result};
use crate::inode::{Inode, inspect};
use crate::pax::{BLOCK, Member, padding};
use crate::pipeline::Feed;
use crate::source::{Issue, Issues};

/// Folders within folders, at most: each holds a descriptor open.
const DEEPEST: usize = 400;

/// After a failed read the rest is tried in steps of this; a page is what the system reads at least.
const STEP: usize = 4096;

/// So many failed steps in a row, and the rest of the file is given up.
const MOST_FAILURES: u32 = 64;

/// `f_type` of kernel file systems: proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, configfs,
/// devpts, mqueue, binfmt_misc, fusectl, autofs (entering one would mount something). From `linux/magic.h`.
const KERNEL_FILE_SYSTEMS: [i64; 14] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0x1cd1,
    0x1980_0202,
    0x4249_4e4d,
    0x6573_5543,
    0x0187,
];

/// Files and folders to acquire.
#[derive(Debug, Clone)]
pub struct FilesSource {
    given: Vec<PathBuf>,
    roots: Vec<PathBuf>,
    context: Vec<PathBuf>,
}

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Entries in all.
    pub entries: u64,
    /// Regular files with content of their own.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

impl FilesSource {
    /// Takes paths to acquire; they must be there.
    ///
    /// # Errors
    ///
    /// [`Error::OpenSource`] for one that is not, [`Error::NotASource`] if none is given.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::NotASource { path: PathBuf::new(), reason: "no file or folder is given" });
        }
        let mut roots = Vec::new();
        for path in paths {
            let failed = |source| Error::OpenSource { path: path.clone(), source };
            let place = absolute(path).map_err(failed)?;
            if place.symlink_metadata().map_err(failed)?.is_symlink() {
                roots.push(place.canonicalize().map_err(failed)?);
            }
            roots.push(place);
        }
        roots.sort();
        roots.dedup();
        // A path within another one comes with it. In this order the outer one stands first.
        let mut outer: Vec<PathBuf> = Vec::new();
        for root in roots {
            if !outer.iter().any(|other| root.starts_with(other)) {
                outer.push(root);
            }
        }
        let context = context_files(&outer);
        Ok(Self { given: paths.to_vec(), roots: outer, context })
    }

    /// The context files that are acquired first.
    #[must_use]
    pub fn context(&self) -> Vec<String> {
        self.context.iter().map(|path| escape_text(path.as_os_str().as_bytes())).collect()
    }

    /// What is known of the source, for the manifest.
    #[must_use]
    pub fn facts(&self) -> SourceFacts {
        let text = |path: &PathBuf| escape_text(path.as_os_str().as_bytes());
        let paths: Vec<Value> = self.roots.iter().map(|path| text(path).into()).collect();
        SourceFacts {
            kind: "logs".to_owned(),
            path: self.given.first().filter(|_| self.given.len() == 1).map(text),
            more: Map::from_iter([("paths".to_owned(), Value::Array(paths))]),
            ..SourceFacts::default()
        }
    }

    /// Packs everything into a stream, and gives each member's entry to `catalog`.
    ///
    /// `leave_out` is a folder that is not entered: the bundle itself, which grows while it is written.
    ///
    /// # Errors
    ///
    /// What `catalog` gives, or [`Error::Stopped`] if the bundle can take no more. Files that cannot be read are issues.
    pub fn pack(
        &self,
        feed: &mut Feed,
        catalog: &mut dyn FnMut(&CatalogEntry) -> Result<()>,
        leave_out: Option<&Path>,
        issues: &mut Issues,
    ) -> Result<FileCounts> {
        let leave_out = leave_out.and_then(|path| inspect(CWD, path).ok()).map(|inode| inode.id());
        let mut packer = Packer {
            feed,
            catalog,
            issues,
            leave_out,
            hard_links: HashMap::new(),
            taken: HashSet::new(),
            counts: FileCounts::default(),
        };
        for path in &self.context {
            packer.given(path)?;
            packer.taken.insert(path.clone());
        }
        for path in &self.roots {
            packer.given(path)?;
        }
        packer.feed.append(&[0; 2 * BLOCK])?;
        Ok(packer.counts)
    }
}

/// An absolute path without links on the way; its last part may be one.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        // "/" and paths that end in "..".
        _ => path.canonicalize(),
    }
}

struct Packer<'a> {
    feed: &'a mut Feed,
    catalog: &'a mut dyn FnMut(&CatalogEntry) -> Result<()>,
    issues: &'a mut Issues,
    leave_out: Option<(u32, u32, u64)>,
    /// First path of each inode that has several names.
    hard_links: HashMap<(u32, u32, u64), PathBuf>,
    /// Context files, which their folder must not bring again.
    taken: HashSet<PathBuf>,
    counts: FileCounts,
}

/// A folder that is being walked through.
struct OpenFolder {
    file: Arc<File>,
    path: PathBuf,
    id: (u32, u32, u64),
    names: std::vec::IntoIter<OsString>,
}

impl Packer<'_> {
    /// Packs a given path with all below it.
    fn given(&mut self, path: &Path) -> Result<()> {
        let mut open: Vec<OpenFolder> = Vec::new();
        if let Some(folder) = self.member(CWD.as_fd(), path.as_os_str(), path, &[], true)? {
            open.push(folder);
        }
        while let Some(folder) = open.last_mut() {
            let Some(name) = folder.names.next() else {
                open.pop();
                continue;
            };
            let path = folder.path.join(&name);
            let directory = Arc::clone(&folder.file);
            if let Some(folder) = self.member(directory.as_fd(), &name, &path, &open, false)? {
                open.push(folder);
            }
        }
        Ok(())
    }

    /// Packs one member. Gives the folder to walk through, if it is one.
    fn member(
        &mut self,
        directory: std::os::fd::BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        above: &[OpenFolder],
        is_given: bool,
    ) -> Result<Option<OpenFolder>> {
        if self.taken.contains(path) {
            return Ok(None);
        }
        let name = Path::new(name);
        let mut inode = match inspect(directory, name) {
            Ok(inode) => inode,
            Err(rustix::io::Errno::NOENT) => {
                self.note(path, "vanished between listing and opening");
                return Ok(None);
            }
            Err(error) => {
                self.note(path, &format!("cannot be inspected: {error}"));
                return Ok(None);
            }
        };
        if self.leave_out == Some(inode.id()) {
            self.note(path, "left out: it is the bundle that is being written");
            return Ok(None);
        }
        if inode.kind() != MemberKind::Folder
            && inode.links() > 1
            && let Some(first) = self.hard_links.get(&inode.id())
        {
            let first = first.clone();
            return self
                .without_content(inode, path, MemberKind::Hardlink, first.as_os_str().as_bytes())
                .map(|()| None);
        }
        let kind = inode.kind();
        match kind {
            MemberKind::Folder => return self.folder(directory, name, inode, path, above, is_given),
            MemberKind::File => self.file(directory, name, inode.clone(), path)?,
            MemberKind::Symlink => {
                inode.read_xattrs_at(path);
                let target = match readlinkat(directory, name, Vec::new()) {
                    Ok(target) => target.into_bytes(),
                    Err(error) => {
                        inode.errors.push(format!("target unreadable: {error}"));
                        Vec::new()
                    }
                };
                self.without_content(inode.clone(), path, kind, &target)?;
            }
            _ => {
                inode.read_xattrs_at(path);
                self.without_content(inode.clone(), path, kind, b"")?;
            }
        }
        if inode.links() > 1 {
            self.hard_links.insert(inode.id(), path.to_owned());
        }
        Ok(None)
    }

    fn note(&mut self, path: &Path, what: &str) {
        self.issues.add(Issue {
            path: escape_text(path.as_os_str().as_bytes()),
            offset: None,
            length: None,
            what: what.to_owned(),
        });
    }

    fn folder(
        &mut self,
        directory: std::os::fd::BorrowedFd<'_>,
        name: &Path,
        mut inode: Inode,
        path: &Path,
        above: &[OpenFolder],
        is_given: bool,
    ) -> Result<Option<OpenFolder>> {
        let opened = open_read_only(directory, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK);
        let mut names = Vec::new();
        let mut entered = None;
        let id = inode.id();
        let refusal = match &opened {
            Err(error) => Some(format!("cannot be opened: {error}")),
            Ok(_) if above.len() >= DEEPEST => Some(format!("not entered: {DEEPEST} folders deep")),
            Ok(_) if above.iter().any(|folder| folder.id == id) => {
                Some("not entered: it is one of the folders above it".to_owned())
            }
            Ok(file) if !is_given && crosses_mount(above, id) && is_kernel_file_system(file) => {
                Some("not entered: kernel file system".to_owned())
            }
            Ok(_) => None,
        };
        if let Ok(file) = opened {
            inode.read_xattrs(&file);
            if refusal.is_none() {
                if let Err(error) = list(&file, &mut names) {
                    let what = format!("listing ended early: {error}");
                    self.note(path, &what);
                    inode.errors.push(what);
                }
                entered = Some(file);
            }
        }
        if let Some(what) = refusal {
            self.note(path, &what);
            inode.errors.push(what);
        }
        self.without_content(inode, path, MemberKind::Folder, b"")?;
        names.sort();
        Ok(entered.map(|file| OpenFolder {
            file: Arc::new(file),
            path: path.to_owned(),
            id,
            names: names.into_iter(),
        }))
    }

    /// Packs an entry that has no bytes of its own.
    fn without_content(&mut self, inode: Inode, path: &Path, kind: MemberKind, link: &[u8]) -> Result<()> {
        let mut entry = self.header(&inode, path, kind, link, 0)?;
        entry.kind = kind;
        if matches!(kind, MemberKind::Symlink | MemberKind::Hardlink) {
            entry.link = Some(escape_text(link));
        }
        self.enter(&entry)
    }

    fn enter(&mut self, entry: &CatalogEntry) -> Result<()> {
        self.counts.entries = self.counts.entries.saturating_add(1);
        (self.catalog)(entry)
    }

    /// Writes a member's headers, and gives its entry with its place in the stream.
    fn header(
        &mut self,
        inode: &Inode,
        path: &Path,
        kind: MemberKind,
        link: &[u8],
        size: u64,
    ) -> Result<CatalogEntry> {
        let in_tar = |path: &[u8]| path.strip_prefix(b"/").unwrap_or(path).to_vec();
        let mut name = in_tar(path.as_os_str().as_bytes());
        if kind == MemberKind::Folder {
            name.push(b'/');
        }
        if name == b"/" {
            name = b"./".to_vec();
        }
        let link_in_tar = if kind == MemberKind::Hardlink { in_tar(link) } else { link.to_vec() };
        let (uid, gid) = inode.owner();
        let member = Member {
            path: &name,
            typeflag: match kind {
                MemberKind::File | MemberKind::Socket => b'0',
                MemberKind::Hardlink => b'1',
                MemberKind::Symlink => b'2',
                MemberKind::Character => b'3',
                MemberKind::Block => b'4',
                MemberKind::Folder => b'5',
                MemberKind::Pipe => b'6',
            },
            mode: inode.mode(),
            uid,
            gid,
            size,
            mtime: inode.mtime(),
            link: &link_in_tar,
            device: inode.device(),
            records: inode.pax_records(),
        };
        let blocks = member.blocks();
        let header = self.feed.size();
        self.feed.append(&blocks)?;
        let mut entry = inode.entry(path.as_os_str().as_bytes());
        entry.header = header;
        entry.header_size = blocks.len() as u64;
        entry.offset = self.feed.size();
        entry.size = size;
        Ok(entry)
    }

    fn file(
        &mut self,
        directory: std::os::fd::BorrowedFd<'_>,
        name: &Path,
        listed: Inode,
        path: &Path,
    ) -> Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = open_read_only(directory, name, flags).and_then(|file| {
            let inode = inspect(&file, Path::new(""))?;
            Ok((file, inode))
        });
        let (file, mut inode) = match opened {
            Ok((file, inode)) if inode.kind() == MemberKind::File => (file, inode),
            Ok(_) => {
                self.note(path, "replaced by something that is not a file between listing and opening");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.note(path, "vanished between listing and opening");
                return Ok(());
            }
            Err(error) => {
                let what = format!("content not acquired, cannot be opened: {error}");
                self.note(path, &what);
                let mut inode = listed;
                inode.errors.push(what);
                return self.without_content(inode, path, MemberKind::File, b"");
            }
        };
        inode.read_xattrs(&file);
        let size = inode.size();
        let mut entry = self.header(&inode, path, MemberKind::File, b"", size)?;
        let written = written(&file);
        let (hasher, problems) = (Hasher::new(), Vec::new());
        let mut content = Content { file: &file, size, written, offset: 0, hasher, failed: 0, problems };
        while content.offset < size {
            self.feed.fill(|room, marks| Ok(content.read(room, marks)))?;
        }
        content.check_growth();
        let Content { hasher, problems, .. } = content;
        for (offset, length, what) in problems {
            entry.errors.push(match length {
                Some(length) => format!("{what} (bytes {offset} to {})", offset.saturating_add(length)),
                None => what.clone(),
            });
            let path = entry.path.clone();
            self.issues.add(Issue { path, offset: Some(offset), length, what });
        }
        entry.sha256 = Some(hasher.finish());
        self.feed.append([0; BLOCK].get(..padding(size)).unwrap_or_default())?;
        self.counts.files = self.counts.files.saturating_add(1);
        self.counts.bytes = self.counts.bytes.saturating_add(size);
        self.enter(&entry)
    }
}

/// The content of one file, read in order.
struct Content<'a> {
    file: &'a File,
    size: u64,
    /// When it had last been written to, before it was read.
    written: Option<(i64, i64)>,
    offset: u64,
    hasher: Hasher,
    /// Failed steps in a row.
    failed: u32,
    /// Offset, length and what happened; runs are joined.
    problems: Vec<(u64, Option<u64>, String)>,
}

impl Content<'_> {
    /// Fills room with the next bytes, or with zeros and a mark for what cannot be had.
    fn read(&mut self, room: &mut [u8], marks: &mut crate::pipeline::Marks<'_>) -> usize {
        let left = self.size.saturating_sub(self.offset);
        let want = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(room) = room.get_mut(..want) else { return 0 };
        let filled = match self.file.read_at(room, self.offset) {
            Ok(0) => {
                self.missing(room, marks, State::Absent, "source ended", "shorter than when it was opened");
                want
            }
            Ok(read) => {
                self.failed = 0;
                read.min(want)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                self.failed += 1;
                let errno = error.raw_os_error().unwrap_or(0);
                let past = usize::try_from(self.offset % STEP as u64).unwrap_or(0);
                let step = if self.failed > MOST_FAILURES { want } else { want.min(STEP - past) };
                let detail = format!("errno={errno} tries=1");
                let block = room.get_mut(..step).unwrap_or_default();
                self.missing(block, marks, State::Unreadable, &detail, &format!("unreadable: {error}"));
                step
            }
        };
        self.hasher.update(room.get(..filled).unwrap_or_default());
        self.offset = self.offset.saturating_add(filled as u64);
        filled
    }

    fn missing(
        &mut self,
        block: &mut [u8],
        marks: &mut crate::pipeline::Marks<'_>,
        state: State,
        detail: &str,
        what: &str,
    ) {
        block.fill(0);
        marks.add(0, block.len(), state, detail);
        let length = block.len() as u64;
        if let Some((start, Some(run), last)) = self.problems.last_mut()
            && start.saturating_add(*run) == self.offset
            && last == what
        {
            *run = run.saturating_add(length);
            return;
        }
        if self.problems.len() < 1000 {
            self.problems.push((self.offset, Some(length), what.to_owned()));
        }
    }

    fn check_growth(&mut self) {
        let now = self.file.metadata().map_or(0, |metadata| metadata.len());
        if now > self.size {
            let what = format!(
                "grew from {} to {now} bytes while it was read: the rest was not acquired",
                self.size
            );
            self.problems.push((self.size, None, what));
        } else if written(self.file) != self.written {
            let what = "was written to while it was read: its parts may be of different moments".to_owned();
            self.problems.push((0, None, what));
        }
    }
}

/// When a file was last written to: seconds and nanoseconds.
fn written(file: &File) -> Option<(i64, i64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec()))
}

fn crosses_mount(above: &[OpenFolder], id: (u32, u32, u64)) -> bool {
    above.last().is_none_or(|folder| (folder.id.0, folder.id.1) != (id.0, id.1))
}

fn is_kernel_file_system(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| KERNEL_FILE_SYSTEMS.contains(&found.f_type))
}

/// Lists a folder's names; those before an error are kept.
fn list(file: &File, names: &mut Vec<OsString>) -> io::Result<()> {
    for entry in Dir::read_from(file)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(())
}
