//! Files of a host that may not answer: each act is done by a thread that can be left behind.
//!
//! - A mount is judged by the table of mounts before anything on it is touched.
//! - Once a file system has not answered in time, nothing on it is touched again.
//! - Folders are opened one below the other without following links, so that no path leads elsewhere than it says.
//! - Paths are those of the host, below the root that is read: `/var/log`, wherever the root is mounted.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use custody::bundle::MemberKind;
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};

use super::bounded_reads::Patience;
use super::mounts::{MountKind, Mounts, below};
use crate::inode::{Inode, inspect};

/// Links from one name to the next, at most.
const MOST_LINKS: usize = 40;

/// What is read of a file in the act that opens it: most files are smaller.
const FIRST: u64 = 64 << 10;

/// Names of one folder, at most.
const MOST_NAMES: usize = 4 << 20;

/// The files of a host below a root.
pub(crate) struct HostFiles {
    root: PathBuf,
    mounts: Mounts,
    /// Whether file systems of the network are entered.
    network: bool,
    patience: Patience,
    silent: HashSet<usize>,
    /// The bundle that is being written.
    leave_out: Option<(u32, u32, u64)>,
    pub(crate) touched: Touched,
}

/// What was done to the host by reading.
#[derive(Debug, Default, Clone)]
pub(crate) struct Touched {
    pub(crate) folders_listed: u64,
    pub(crate) files_opened: u64,
    /// Opened without `O_NOATIME` on a file system that keeps access times.
    pub(crate) atimes: u64,
    /// The first of them.
    pub(crate) atime_paths: Vec<String>,
    /// Mounts that did not answer.
    pub(crate) silent: Vec<String>,
    /// Mounts that were not entered, and why.
    pub(crate) not_entered: HashMap<PathBuf, String>,
}

/// Why something is not touched or gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotThere,
    /// A rule, in words. Told once a mount.
    Rule(String),
    /// The system, in words.
    Failed(String),
    /// It did not answer within the time.
    Silent(String),
}

impl Refusal {
    pub(crate) fn told(&self) -> String {
        match self {
            Self::NotThere => "is not there".to_owned(),
            Self::Rule(what) | Self::Failed(what) | Self::Silent(what) => what.clone(),
        }
    }
}

/// A folder that is open.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) inode: Inode,
    mount: Option<usize>,
}

/// What an entry of a folder turned out to be.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) inode: Inode,
    /// Of a regular file.
    pub(crate) opened: Option<Opened>,
    /// Of a link.
    pub(crate) target: Vec<u8>,
    mount: Option<usize>,
}

/// A regular file, held open, so that it stays the same one whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: Arc<File>,
    pub(crate) first: Vec<u8>,
    /// The file has ended within `first`, or failed there.
    pub(crate) ended: bool,
    /// Size and last writing after `first` was read.
    pub(crate) after: (u64, i64, i64),
    keeps_atime: bool,
}

impl HostFiles {
    pub(crate) fn new(root: &Path, mounts: Mounts, network: bool, limit: Duration) -> Self {
        Self {
            root: root.to_owned(),
            mounts,
            network,
            patience: Patience::of(limit),
            silent: HashSet::new(),
            leave_out: None,
            touched: Touched::default(),
        }
    }

    pub(crate) fn leave_out(&mut self, folder: &Path) {
        self.leave_out = inspect(rustix::fs::CWD, folder).ok().map(|inode| inode.id());
    }

    pub(crate) fn is_left_out(&self, inode: &Inode) -> bool {
        self.leave_out == Some(inode.id())
    }

    pub(crate) fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Runs an act on what lies on a mount.
    fn ask<T: Send + 'static>(
        &mut self,
        mount: Option<usize>,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        if let Some(mount) = mount.filter(|mount| self.silent.contains(mount)) {
            return Err(Refusal::Rule(format!("not touched: {} did not answer before", self.named(mount))));
        }
        self.patience.wait(act).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => {
                if let Some(mount) = mount {
                    self.silent.insert(mount);
                    let named = self.named(mount);
                    self.touched.silent.push(named);
                }
                Refusal::Silent(format!("given up: {error}"))
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::NotThere,
            _ => Refusal::Failed(error.to_string()),
        })
    }

    fn named(&self, mount: usize) -> String {
        self.mounts.get(mount).map_or_else(String::new, |mount| {
            format!(
                "{} ({})",
                custody::strict_json::escape_text(mount.point.as_os_str().as_bytes()),
                mount.told()
            )
        })
    }

    /// The mount of an entry of a folder, or why it is not to be touched.
    fn mount_of(
        &mut self,
        path: &Path,
        above: Option<usize>,
        is_named: bool,
    ) -> Result<Option<usize>, Refusal> {
        let Some(at) = self.mounts.at(&below(&self.root, path)) else { return Ok(above) };
        let Some(mount) = self.mounts.get(at) else { return Ok(above) };
        let refused = match mount.kind {
            MountKind::Network if !self.network => "not entered: network file system",
            MountKind::Autofs => "not entered, for that would mount it: automatic mount",
            MountKind::Kernel if !is_named => "not entered: kernel file system",
            _ => return Ok(Some(at)),
        };
        let what = format!("{refused} {}", mount.told());
        if mount.kind != MountKind::Kernel {
            self.touched.not_entered.insert(path.to_owned(), what.clone());
        }
        Err(Refusal::Rule(what))
    }

    /// Opens the root.
    pub(crate) fn open_root(&mut self) -> Result<Folder, Refusal> {
        let root = self.root.clone();
        let mount = self.mounts.of(&root);
        let opened = self.ask(mount, move || {
            let (file, by_atime) = open(rustix::fs::CWD, &root, OFlags::DIRECTORY)?;
            let inode = inspect(&file, Path::new(""))?;
            Ok((file, inode, by_atime))
        })?;
        Ok(Folder { path: PathBuf::from("/"), file: Arc::new(opened.0), inode: opened.1, mount })
    }

    /// Opens a folder within an open one, without following a link.
    pub(crate) fn open_folder(
        &mut self,
        above: &Folder,
        name: &OsStr,
        is_named: bool,
    ) -> Result<Folder, Refusal> {
        let path = above.path.join(name);
        let mount = self.mount_of(&path, above.mount, is_named)?;
        let (directory, name) = (Arc::clone(&above.file), name.to_owned());
        let (file, mut inode, keeps) = self.ask(mount, move || {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let (file, keeps) = open(directory.as_fd(), Path::new(&name), flags)?;
            let mut inode = inspect(&file, Path::new(""))?;
            inode.read_xattrs(&file);
            Ok((file, inode, keeps))
        })?;
        inode.errors.sort();
        self.note_atime(&path, mount, keeps);
        Ok(Folder { path, file: Arc::new(file), inode, mount })
    }

    /// The names in a folder, in the order of their bytes; those before an error are kept, and the error is given.
    pub(crate) fn names(&mut self, folder: &Folder) -> Result<(Vec<OsString>, Option<String>), Refusal> {
        self.touched.folders_listed += 1;
        let file = Arc::clone(&folder.file);
        self.ask(folder.mount, move || {
            let mut names = Vec::new();
            let mut error = None;
            for entry in Dir::read_from(&*file)? {
                match entry {
                    Ok(_) if names.len() >= MOST_NAMES => {
                        error = Some(format!("more than {MOST_NAMES} names"));
                        break;
                    }
                    Ok(entry) => {
                        let name = entry.file_name().to_bytes();
                        if name != b"." && name != b".." {
                            names.push(OsString::from_vec(name.to_vec()));
                        }
                    }
                    Err(failed) => {
                        error = Some(failed.to_string());
                        break;
                    }
                }
            }
            names.sort();
            Ok((names, error))
        })
    }

    /// Asks for the inode of an entry alone.
    pub(crate) fn look(&mut self, folder: &Folder, name: &OsStr, is_named: bool) -> Result<Inode, Refusal> {
        let mount = self.mount_of(&folder.path.join(name), folder.mount, is_named)?;
        let (directory, name) = (Arc::clone(&folder.file), name.to_owned());
        self.ask(mount, move || Ok(inspect(&*directory, Path::new(&name))?))
    }

    /// Opens an entry: the first bytes of a file, the target of a link. A folder is only looked at.
    pub(crate) fn open_entry(
        &mut self,
        folder: &Folder,
        name: &OsStr,
        is_named: bool,
    ) -> Result<Found, Refusal> {
        let path = folder.path.join(name);
        let mount = self.mount_of(&path, folder.mount, is_named)?;
        let (directory, name) = (Arc::clone(&folder.file), name.to_owned());
        let found = self.ask(mount, move || look_and_open(&directory, &name))?;
        if let Some(opened) = &found.opened {
            self.touched.files_opened += 1;
            self.note_atime(&path, mount, opened.keeps_atime);
        }
        Ok(Found { mount, ..found })
    }

    fn note_atime(&mut self, path: &Path, mount: Option<usize>, is_kept: bool) {
        const MOST: usize = 1000;
        let never = mount
            .and_then(|mount| self.mounts.get(mount))
            .is_some_and(|mount| mount.keeps_atime || mount.kind == MountKind::Kernel);
        if is_kept || never {
            return;
        }
        self.touched.atimes += 1;
        if self.touched.atime_paths.len() < MOST {
            self.touched.atime_paths.push(custody::strict_json::escape_text(path.as_os_str().as_bytes()));
        }
    }

    /// Whether an entry lies in a file system of the kernel, whose files tell no size.
    pub(crate) fn is_of_kernel(&self, found: &Found) -> bool {
        found
            .mount
            .and_then(|mount| self.mounts.get(mount))
            .is_some_and(|mount| mount.kind == MountKind::Kernel)
    }

    /// Whether a folder lies on another mount than its own parent.
    pub(crate) fn is_mount_point(&self, path: &Path) -> bool {
        self.mounts.at(&below(&self.root, path)).is_some()
    }

    /// Reads a file that tells no size to its end, or to a limit. Gives whether there was more.
    pub(crate) fn read_whole(&mut self, found: &Found, most: u64) -> Result<(Vec<u8>, bool), Refusal> {
        let Some(opened) = &found.opened else { return Err(Refusal::NotThere) };
        let file = Arc::clone(&opened.file);
        self.ask(found.mount, move || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(&*file, most.saturating_add(1)), &mut bytes)?;
            let is_more = bytes.len() as u64 > most;
            bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            Ok((bytes, is_more))
        })
    }

    /// Reads a small file by its path, following links within the root.
    pub(crate) fn read_small(&mut self, path: &Path, most: u64) -> Result<Vec<u8>, Refusal> {
        let (folder, name) = self.walk_to(path)?.pop().ok_or(Refusal::NotThere)?;
        let found = self.open_entry(&folder, &name, true)?;
        self.read_whole(&found, most).map(|(bytes, _)| bytes)
    }

    /// Reads further bytes of an open file.
    pub(crate) fn read_at(
        &mut self,
        found_on: Option<usize>,
        file: &Arc<File>,
        offset: u64,
        length: usize,
    ) -> Result<Result<Vec<u8>, io::Error>, Refusal> {
        let file = Arc::clone(file);
        self.ask(found_on, move || {
            let mut bytes = vec![0; length];
            // An error of the disk is an answer.
            Ok(loop {
                match file.read_at(&mut bytes, offset) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => {
                        break read.map(|read| {
                            bytes.truncate(read);
                            bytes
                        });
                    }
                }
            })
        })
    }

    /// Size and last writing of an open file.
    pub(crate) fn state(
        &mut self,
        mount: Option<usize>,
        file: &Arc<File>,
    ) -> Result<(u64, i64, i64), Refusal> {
        let file = Arc::clone(file);
        self.ask(mount, move || state(&file))
    }

    /// Runs an act on an open folder and on one of its entries' mounts.
    pub(crate) fn in_folder<T: Send + 'static>(
        &mut self,
        folder: &Folder,
        act: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let file = Arc::clone(&folder.file);
        self.ask(folder.mount, move || act(&file))
    }

    /// Follows a path, links within the root included, and gives what stands on the way: each link, then the end.
    ///
    /// Each is given as a name within its folder; the root itself as a name of no bytes.
    pub(crate) fn walk_to(&mut self, path: &Path) -> Result<Vec<(Folder, OsString)>, Refusal> {
        let mut to_go: Vec<OsString> = parts(path).into_iter().rev().collect();
        let mut above = vec![self.open_root()?];
        let mut on_the_way = Vec::new();
        let mut links = 0usize;
        while let Some(name) = to_go.pop() {
            if name == ".." {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            let Some(folder) = above.last().cloned() else { return Err(Refusal::NotThere) };
            match self.look(&folder, &name, true)?.kind() {
                MemberKind::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Refusal::Failed("too many links on the way".to_owned()));
                    }
                    let (directory, asked) = (Arc::clone(&folder.file), name.clone());
                    let target = self.ask(folder.mount, move || {
                        Ok(readlinkat(&*directory, Path::new(&asked), Vec::new())?.into_bytes())
                    })?;
                    on_the_way.push((folder, name));
                    let target = PathBuf::from(OsString::from_vec(target));
                    if target.is_absolute() {
                        above.truncate(1);
                    }
                    to_go.extend(parts(&target).into_iter().rev());
                }
                MemberKind::Folder if !to_go.is_empty() => {
                    above.push(self.open_folder(&folder, &name, true)?);
                }
                _ if to_go.is_empty() => {
                    on_the_way.push((folder, name));
                    return Ok(on_the_way);
                }
                _ => return Err(Refusal::NotThere),
            }
        }
        // The path is the root itself, or ends in "..": the folder that was reached stands for it.
        on_the_way.extend(above.pop().map(|folder| (folder, OsString::new())));
        Ok(on_the_way)
    }

    /// Opens the folder at a path, and gives the links on the way to it.
    pub(crate) fn folder_at(&mut self, path: &Path) -> Result<(Vec<(Folder, OsString)>, Folder), Refusal> {
        let mut on_the_way = self.walk_to(path)?;
        let (above, name) = on_the_way.pop().ok_or(Refusal::NotThere)?;
        let folder = if name.is_empty() { above } else { self.open_folder(&above, &name, true)? };
        Ok((on_the_way, folder))
    }
}

impl Found {
    pub(crate) fn mount(&self) -> Option<usize> {
        self.mount
    }
}

/// The parts of a path: names, and `..` where it stands.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

fn look_and_open(directory: &File, name: &OsStr) -> io::Result<Found> {
    let name = Path::new(name);
    let mut inode = inspect(directory, name)?;
    let found = |inode, opened, target| Ok(Found { inode, opened, target, mount: None });
    match inode.kind() {
        MemberKind::Folder => found(inode, None, Vec::new()),
        MemberKind::File => {
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            match open(directory.as_fd(), name, flags) {
                Ok((file, keeps_atime)) => {
                    let mut inode = inspect(&file, Path::new(""))?;
                    if inode.kind() != MemberKind::File {
                        return Err(io::Error::other("replaced between looking and opening"));
                    }
                    inode.read_xattrs(&file);
                    let mut first = vec![0; usize::try_from(inode.size().min(FIRST)).unwrap_or(0)];
                    let mut done = 0usize;
                    let mut ended = false;
                    while let Some(room) = first.get_mut(done..).filter(|room| !room.is_empty()) {
                        match file.read_at(room, done as u64) {
                            Ok(0) => {
                                ended = true;
                                break;
                            }
                            Ok(read) => done += read,
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                            // Read again later, block by block, where it can be told which part fails.
                            Err(_) => break,
                        }
                    }
                    first.truncate(done);
                    let after = state(&file)?;
                    let file = Arc::new(file);
                    found(inode, Some(Opened { file, first, ended, after, keeps_atime }), Vec::new())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
                Err(error) => {
                    inode.errors.push(format!("content not acquired, cannot be opened: {error}"));
                    found(inode, None, Vec::new())
                }
            }
        }
        MemberKind::Symlink => {
            read_xattrs_below(&mut inode, directory, name);
            let target = match readlinkat(directory, name, Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(error) => {
                    inode.errors.push(format!("target unreadable: {error}"));
                    Vec::new()
                }
            };
            found(inode, None, target)
        }
        _ => {
            read_xattrs_below(&mut inode, directory, name);
            found(inode, None, Vec::new())
        }
    }
}

/// Those of what cannot be opened, by the descriptor of its folder, which no rename can change.
fn read_xattrs_below(inode: &mut Inode, directory: &File, name: &Path) {
    use std::os::fd::AsRawFd;
    inode.read_xattrs_at(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name));
}

fn state(file: &File) -> io::Result<(u64, i64, i64)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Opens for reading; the second value says whether the access time is left alone.
fn open(directory: impl AsFd, name: &Path, more: OFlags) -> io::Result<(File, bool)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | more;
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner and root may leave the access time alone.
        Err(rustix::io::Errno::PERM) => {
            Ok((File::from(openat(&directory, name, flags, Mode::empty())?), false))
        }
        opened => Ok((File::from(opened?), true)),
    }
}
