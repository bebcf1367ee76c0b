//! Packs files into one PAX tar stream with its catalogue.
//!
//! - A file's size is fixed when it is opened: a shorter one is filled with zeros (`absent`), growth is noted.
//! - Links are entries and never followed. A second name of an inode is a hard link.
//! - Sockets, pipes and devices are entries without content.
//! - Folders come before their content, names in the order of their bytes.

mod made;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::bundle::{CatalogEntry, CatalogWriter, MemberKind};
use custody::clock::Clock;
use custody::strict_json::escape_text;
use rustix::fs::{CWD, Dir, OFlags, fstatfs, readlinkat};

use crate::error::Result;
use crate::file_content::{Content, FileContent, Problem};
use crate::inode::{Inode, inspect};
use crate::pax::{BLOCK, Member, padding};
use crate::pipeline::Feed;
use crate::source::{Issue, Issues};
use crate::sources::disk::open_read_only;

#[cfg(feature = "cloud")]
pub(crate) use made::Object;

/// Folders within folders, at most: each holds a descriptor open.
const DEEPEST: usize = 400;

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

impl FileCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.files = self.files.saturating_add(other.files);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Packs files into a stream, one after the other; what cannot be read is an issue.
pub struct TarPacker<'a> {
    feed: &'a mut Feed,
    catalog: &'a mut CatalogWriter,
    issues: &'a mut Issues,
    clock: &'a dyn Clock,
    /// The bundle itself, which grows while it is written.
    leave_out: Option<(u32, u32, u64)>,
    /// First path of each inode that has several names.
    hard_links: HashMap<(u32, u32, u64), PathBuf>,
    /// Paths that their folder must not bring again.
    taken: HashSet<PathBuf>,
    /// What is being packed as if it lay elsewhere: where it lies, and where it is said to.
    elsewhere: Option<(PathBuf, PathBuf)>,
    /// What may still be packed of a tree that is bounded.
    room: Option<Room>,
    counts: FileCounts,
}

/// What may still be packed, and what had no room.
#[derive(Debug, Clone, Copy)]
struct Room {
    left: u64,
    files: u64,
    bytes: u64,
}

impl std::fmt::Debug for TarPacker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarPacker").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// A folder that is being walked through.
struct OpenFolder {
    file: Arc<File>,
    path: PathBuf,
    id: (u32, u32, u64),
    names: std::vec::IntoIter<OsString>,
}

impl<'a> TarPacker<'a> {
    pub(crate) fn new(
        feed: &'a mut Feed,
        catalog: &'a mut CatalogWriter,
        issues: &'a mut Issues,
        clock: &'a dyn Clock,
        leave_out: Option<&Path>,
    ) -> Self {
        let leave_out = leave_out.and_then(|path| inspect(CWD, path).ok()).map(|inode| inode.id());
        let (hard_links, taken, counts) = (HashMap::new(), HashSet::new(), FileCounts::default());
        Self {
            feed,
            catalog,
            issues,
            clock,
            leave_out,
            hard_links,
            taken,
            elsewhere: None,
            room: None,
            counts,
        }
    }

    /// What went wrong so far; more can be added.
    pub fn issues(&mut self) -> &mut Issues {
        self.issues
    }

    /// Notes that something went wrong with a path.
    pub fn note(&mut self, path: &Path, what: &str) {
        self.issues.add(Issue {
            path: escape_text(path.as_os_str().as_bytes()),
            offset: None,
            length: None,
            what: what.to_owned(),
        });
    }

    /// What was packed so far.
    #[must_use]
    pub fn counts(&self) -> FileCounts {
        self.counts
    }

    /// Ends the tar.
    pub(crate) fn finish(self) -> Result<FileCounts> {
        self.feed.append(&[0; 2 * BLOCK])?;
        Ok(self.counts)
    }

    /// Packs a path that no later call brings again.
    ///
    /// # Errors
    ///
    /// As [`TarPacker::tree`].
    pub fn once(&mut self, path: &Path) -> Result<()> {
        self.tree(path)?;
        self.taken.insert(path.to_owned());
        Ok(())
    }

    /// Packs a path with all below it. Mounts are crossed; kernel file systems are entered only if they are `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped) if the bundle can take no more, or what the catalogue gives. What
    /// cannot be read is an issue.
    pub fn tree(&mut self, path: &Path) -> Result<()> {
        self.walk(path, path)
    }

    /// Packs what lies at `real` with all below it, as if it lay at `shown`. What is mounted below it is not entered.
    ///
    /// # Errors
    ///
    /// As [`TarPacker::tree`].
    pub(crate) fn tree_as(&mut self, real: &Path, shown: &Path) -> Result<()> {
        self.elsewhere = Some((real.to_owned(), shown.to_owned()));
        let packed = self.walk(real, shown);
        self.elsewhere = None;
        packed
    }

    /// Packs by `pack`, of all files together at most `most` bytes. A file that has no room is listed with all that is known of it
    /// but its content; one issue at `place` tells how many those are.
    ///
    /// # Errors
    ///
    /// Those of `pack`.
    pub(crate) fn within(
        &mut self,
        most: u64,
        place: &Path,
        pack: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let before = self.room.replace(Room { left: most, files: 0, bytes: 0 });
        let packed = pack(self);
        if let Some(room) = std::mem::replace(&mut self.room, before)
            && room.files > 0
        {
            let Room { files, bytes, .. } = room;
            self.note(
                place,
                &format!("{files} files of {bytes} bytes are listed without their content: beyond the limit of {most} bytes"),
            );
        }
        packed
    }

    /// Whether a file still has room, which is kept for it.
    fn has_room(&mut self, size: u64) -> bool {
        let Some(room) = &mut self.room else { return true };
        if let Some(left) = room.left.checked_sub(size) {
            room.left = left;
            return true;
        }
        room.files = room.files.saturating_add(1);
        room.bytes = room.bytes.saturating_add(size);
        false
    }

    /// Where a path that is shown lies.
    fn real(&self, path: &Path) -> PathBuf {
        let elsewhere = self.elsewhere.as_ref();
        let moved = elsewhere.and_then(|(real, shown)| Some(real.join(path.strip_prefix(shown).ok()?)));
        moved.unwrap_or_else(|| path.to_owned())
    }

    fn walk(&mut self, real: &Path, path: &Path) -> Result<()> {
        let mut open: Vec<OpenFolder> = Vec::new();
        if let Some(folder) = self.member(CWD.as_fd(), real.as_os_str(), path, &[], true)? {
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
                inode.read_xattrs_at(&self.real(path));
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
                inode.read_xattrs_at(&self.real(path));
                self.without_content(inode.clone(), path, kind, b"")?;
            }
        }
        if inode.links() > 1 {
            self.hard_links.insert(inode.id(), path.to_owned());
        }
        Ok(None)
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
        if self.elsewhere.is_some() && !is_given && crosses_mount(above, id) {
            inode.errors.push("not entered: something is mounted here".to_owned());
            self.without_content(inode, path, MemberKind::Folder, b"")?;
            return Ok(None);
        }
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
    pub(crate) fn without_content(
        &mut self,
        inode: Inode,
        path: &Path,
        kind: MemberKind,
        link: &[u8],
    ) -> Result<()> {
        let mut entry = self.header(&inode, path, kind, link, 0)?;
        entry.kind = kind;
        if matches!(kind, MemberKind::Symlink | MemberKind::Hardlink) {
            entry.link = Some(escape_text(link));
        }
        self.enter(&entry)
    }

    fn enter(&mut self, entry: &CatalogEntry) -> Result<()> {
        self.counts.entries = self.counts.entries.saturating_add(1);
        if entry.kind == MemberKind::File && entry.sha256.is_some() {
            self.counts.files = self.counts.files.saturating_add(1);
            self.counts.bytes = self.counts.bytes.saturating_add(entry.size);
        }
        Ok(self.catalog.append(entry)?)
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
        let (file, inode) = match opened {
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
        let (size, mut inode) = (inode.size(), inode);
        inode.read_xattrs(&file);
        if !self.has_room(size) {
            inode.errors.push(format!("content not acquired: {size} bytes are beyond the limit"));
            return self.without_content(inode, path, MemberKind::File, b"");
        }
        self.content(inode, path, size, &mut FileContent::new(&file, size))
    }

    /// Packs `size` bytes of content under the facts of an inode.
    pub(crate) fn content(
        &mut self,
        inode: Inode,
        path: &Path,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<()> {
        let mut entry = self.header(&inode, path, MemberKind::File, b"", size)?;
        entry.kind = MemberKind::File;
        self.pour(&mut entry, content)?;
        self.enter(&entry)
    }

    /// Stores the content that an entry's headers announce.
    fn pour(&mut self, entry: &mut CatalogEntry, content: &mut dyn Content) -> Result<()> {
        while !content.is_done() {
            self.feed.fill(|room, marks| Ok(content.read(room, marks)))?;
        }
        let (sha256, problems) = content.finish();
        for Problem { offset, length, what } in problems {
            entry.errors.push(match length {
                Some(length) => format!("{what} (bytes {offset} to {})", offset.saturating_add(length)),
                None => what.clone(),
            });
            let path = entry.path.clone();
            self.issues.add(Issue { path, offset: Some(offset), length, what });
        }
        entry.sha256 = Some(sha256);
        self.pad(entry.size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        self.feed.append([0; BLOCK].get(..padding(size)).unwrap_or_default())
    }
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
