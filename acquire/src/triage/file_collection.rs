//! Files of a host by patterns of paths, each taken once, whichever artefacts name it.
//!
//! - Links are entries; one that a pattern leads through is followed within the root.
//! - Files are opened some at a time before they are read, so that a rotation in between renames what is held already.
//! - After a file of a log is read, its name is looked at again, and after a folder of logs its list.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use custody::bundle::MemberKind;
use custody::strict_json::escape_text;

use super::artefact::Files;
use super::host_content::{HeldContent, HostContent};
use super::host_files::{Folder, Found, HostFiles, Refusal};
use super::pattern::{Part, Pattern};
use crate::error::Result;
use crate::inode::Inode;
use crate::tar_packer::TarPacker;

/// Files that are held open at a time.
const WINDOW: usize = 32;

/// A file of the kernel is read up to this: the symbols of a kernel are 20 MiB.
const MOST_OF_KERNEL: u64 = 64 << 20;

/// How often a folder of logs is listed again.
const MOST_LISTINGS: usize = 3;

/// Repeats that are named, over all artefacts.
const MOST_REPEATS: usize = 100_000;

type Id = (u32, u32, u64);

/// What has been taken, over all artefacts.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// A hash of its path, and the artefact that took it.
    inodes: HashMap<Id, (u64, usize)>,
    /// First path of each inode with several names.
    linked: HashMap<Id, PathBuf>,
    /// Hashes of the further paths of those.
    further: HashSet<(Id, u64)>,
    /// Paths that a later artefact named again: path, that artefact, and the one that had taken it.
    pub(crate) repeats: Vec<(String, usize, usize)>,
    /// Rules that have been told.
    told: HashSet<String>,
}

/// What one artefact of files gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileTally {
    /// Entries of any kind.
    pub(crate) entries: u64,
    /// Regular files with content.
    pub(crate) files: u64,
    /// Bytes of their content.
    pub(crate) bytes: u64,
    /// Named by this artefact as well, but taken by an earlier one.
    pub(crate) repeats: u64,
    /// What could not be taken, or not whole.
    pub(crate) failed: u64,
    /// What did not answer in time.
    pub(crate) timed_out: u64,
    /// Whether the artefact ended at its limit of bytes.
    pub(crate) is_cut: bool,
}

/// How an entry was come upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// The pattern says its name.
    ByName,
    /// Its name matches.
    ByWildcard,
    /// It lies in a folder that is taken whole.
    Below,
}

/// Takes the files of one artefact.
pub(crate) struct FileCollection<'a, 'b> {
    pub(crate) host: &'a mut HostFiles,
    pub(crate) out: &'a mut TarPacker<'b>,
    pub(crate) taken: &'a mut Taken,
    pub(crate) files: &'a Files,
    /// The artefact's place in the run.
    pub(crate) artefact: usize,
    pub(crate) tally: FileTally,
}

impl FileCollection<'_, '_> {
    /// Takes what the patterns name. `found` are paths that a survey found for the patterns of any place.
    pub(crate) fn run(mut self, homes: &[PathBuf], found: &[PathBuf]) -> Result<FileTally> {
        let files = self.files;
        for pattern in &files.patterns {
            if pattern.is_of_home {
                for home in homes {
                    let mut parts: Vec<Part> =
                        home.iter().skip(1).map(|name| Part::Name(name.as_bytes().to_vec())).collect();
                    parts.extend_from_slice(&pattern.parts);
                    self.expand(&parts)?;
                }
            } else {
                self.expand(&pattern.parts)?;
            }
        }
        for path in found {
            self.named(path)?;
        }
        Ok(self.tally)
    }

    /// Takes what one pattern names.
    fn expand(&mut self, parts: &[Part]) -> Result<()> {
        let mut prefix = PathBuf::from("/");
        let mut rest = parts;
        while let Some((Part::Name(name), after)) = rest.split_first() {
            prefix.push(OsStr::from_bytes(name));
            rest = after;
        }
        if rest.is_empty() {
            return self.named(&prefix);
        }
        match self.host.folder_at(&prefix) {
            Ok((links, folder)) => {
                self.links(&links)?;
                self.descend(&folder, rest, 0)
            }
            Err(refusal) => self.refused(&prefix, &refusal),
        }
    }

    /// Takes a path, and the links on the way to it.
    fn named(&mut self, path: &Path) -> Result<()> {
        let mut on_the_way = match self.host.walk_to(path) {
            Ok(on_the_way) => on_the_way,
            Err(refusal) => return self.refused(path, &refusal),
        };
        let Some((folder, name)) = on_the_way.pop() else { return Ok(()) };
        self.links(&on_the_way)?;
        if name.is_empty() {
            return self.children(&folder, 0);
        }
        self.entries(&folder, vec![name], 0, Met::ByName)
    }

    fn links(&mut self, links: &[(Folder, OsString)]) -> Result<()> {
        for (folder, name) in links {
            self.entries(folder, vec![name.clone()], 0, Met::ByName)?;
        }
        Ok(())
    }

    /// Takes what the rest of a pattern names below an open folder.
    fn descend(&mut self, folder: &Folder, parts: &[Part], depth: usize) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        if depth > self.files.max_depth {
            return Ok(());
        }
        let names = match part {
            Part::Name(name) => vec![OsString::from(OsStr::from_bytes(name))],
            _ => match self.names(folder)? {
                Some(names) => names,
                None => return Ok(()),
            },
        };
        if *part == Part::AnyDepth {
            if rest.is_empty() {
                return self.children(folder, depth);
            }
            self.descend(folder, rest, depth)?;
            for name in names {
                if let Some(below) = self.folder_below(folder, &name, false)? {
                    self.descend(&below, parts, depth + 1)?;
                }
            }
            return Ok(());
        }
        let met = if matches!(part, Part::Name(_)) { Met::ByName } else { Met::ByWildcard };
        let matching: Vec<OsString> = names.into_iter().filter(|name| part.matches(name)).collect();
        if rest.is_empty() {
            return self.entries(folder, matching, depth, met);
        }
        for name in matching {
            if let Some(below) = self.folder_below(folder, &name, true)? {
                self.descend(&below, rest, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Opens a folder within a folder; a link to one is followed if `links` says so.
    fn folder_below(&mut self, folder: &Folder, name: &OsStr, links: bool) -> Result<Option<Folder>> {
        let path = folder.path.join(name);
        let opened = match self.host.look(folder, name, links) {
            Ok(inode) if self.host.is_left_out(&inode) => return Ok(None),
            Ok(inode) => match inode.kind() {
                MemberKind::Folder if !self.may_enter(&path) => return Ok(None),
                MemberKind::Folder => self.host.open_folder(folder, name, links),
                MemberKind::Symlink if links => match self.host.folder_at(&path) {
                    Ok((on_the_way, folder)) => {
                        self.links(&on_the_way)?;
                        Ok(folder)
                    }
                    Err(refusal) => Err(refusal),
                },
                _ => return Ok(None),
            },
            Err(refusal) => Err(refusal),
        };
        match opened {
            Ok(folder) => Ok(Some(folder)),
            Err(refusal) => self.refused(&path, &refusal).map(|()| None),
        }
    }

    fn may_enter(&self, path: &Path) -> bool {
        (self.files.enter_mounts || !self.host.is_mount_point(path)) && !self.is_excluded(path)
    }

    fn is_excluded(&self, path: &Path) -> bool {
        self.files.exclude.iter().any(|pattern: &Pattern| pattern.matches(path))
    }

    fn names(&mut self, folder: &Folder) -> Result<Option<Vec<OsString>>> {
        match self.host.names(folder) {
            Ok((names, None)) => Ok(Some(names)),
            Ok((names, Some(error))) => {
                self.tally.failed += 1;
                self.out.note(&folder.path, &format!("listing ended early: {error}"));
                Ok(Some(names))
            }
            Err(refusal) => self.refused(&folder.path, &refusal).map(|()| None),
        }
    }

    /// Takes all that lies in an open folder.
    fn children(&mut self, folder: &Folder, depth: usize) -> Result<()> {
        if depth > self.files.max_depth {
            self.tally.failed += 1;
            self.out.note(&folder.path, &format!("not entered: {} folders deep", self.files.max_depth));
            return Ok(());
        }
        let Some(mut names) = self.names(folder)? else { return Ok(()) };
        let mut seen: HashSet<OsString> = HashSet::new();
        for listing in 0..MOST_LISTINGS {
            if listing > 0 {
                for name in &names {
                    self.out.note(&folder.path.join(name), "appeared while its folder was read");
                }
            }
            if self.files.rotating {
                seen.extend(names.iter().cloned());
            }
            self.entries(folder, names, depth, Met::Below)?;
            if !self.files.rotating || self.tally.is_cut {
                break;
            }
            let Some(again) = self.names(folder)? else { break };
            names = again.into_iter().filter(|name| !seen.contains(name)).collect();
            if names.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Takes entries of an open folder: files first, some at a time, then folders with all below them.
    fn entries(&mut self, folder: &Folder, names: Vec<OsString>, depth: usize, met: Met) -> Result<()> {
        let is_named = met == Met::ByName;
        let mut folders = Vec::new();
        for window in names.chunks(WINDOW) {
            let mut held = Vec::new();
            for name in window {
                let path = folder.path.join(name);
                if self.is_excluded(&path) {
                    continue;
                }
                match self.host.open_entry(folder, name, is_named) {
                    Ok(found) => held.push((name, path, found)),
                    Err(Refusal::NotThere) if is_named => {}
                    Err(Refusal::NotThere) => {
                        self.tally.failed += 1;
                        self.out.note(&path, "vanished between listing and opening");
                    }
                    Err(refusal) => self.refused(&path, &refusal)?,
                }
            }
            for (name, path, found) in held {
                if self.tally.is_cut {
                    return Ok(());
                }
                if self.host.is_left_out(&found.inode) {
                    self.out.note(&path, "left out: it is the bundle that is being written");
                } else if found.inode.kind() == MemberKind::Folder {
                    if met != Met::ByWildcard || self.files.whole_folders {
                        folders.push(name.clone());
                    }
                } else {
                    self.entry(folder, name, &path, found)?;
                }
            }
        }
        for name in folders {
            if self.tally.is_cut {
                return Ok(());
            }
            let path = folder.path.join(&name);
            if !self.may_enter(&path) {
                continue;
            }
            match self.host.open_folder(folder, &name, is_named) {
                Ok(below) => {
                    if !self.is_repeat(&below.inode, &path) {
                        self.tally.entries += 1;
                        self.out.without_content(below.inode.clone(), &path, MemberKind::Folder, b"")?;
                    }
                    self.children(&below, depth + 1)?;
                }
                Err(refusal) => self.refused(&path, &refusal)?,
            }
        }
        Ok(())
    }

    /// Whether an inode has been taken. If not, it is from now on.
    fn is_repeat(&mut self, inode: &Inode, path: &Path) -> bool {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let now = (hasher.finish(), self.artefact);
        match self.taken.inodes.get(&inode.id()) {
            // Another name of the same inode is an entry of its own: a hard link.
            Some((of_path, _))
                if *of_path != now.0
                    && inode.links() > 1
                    && inode.kind() != MemberKind::Folder
                    && self.taken.further.insert((inode.id(), now.0)) =>
            {
                false
            }
            Some((_, by)) => {
                if *by != self.artefact {
                    self.tally.repeats += 1;
                    if self.taken.repeats.len() < MOST_REPEATS {
                        let path = escape_text(path.as_os_str().as_bytes());
                        self.taken.repeats.push((path, self.artefact, *by));
                    }
                }
                true
            }
            None => {
                self.taken.inodes.insert(inode.id(), now);
                false
            }
        }
    }

    /// Takes one entry that is no folder.
    fn entry(&mut self, folder: &Folder, name: &OsStr, path: &Path, found: Found) -> Result<()> {
        let (kind, id) = (found.inode.kind(), found.inode.id());
        if self.is_repeat(&found.inode, path) {
            return Ok(());
        }
        if found.inode.links() > 1 {
            if let Some(first) = self.taken.linked.get(&id) {
                if first != path {
                    self.tally.entries += 1;
                    let first = first.as_os_str().as_bytes().to_vec();
                    return self.out.without_content(found.inode, path, MemberKind::Hardlink, &first);
                }
                return Ok(());
            }
            self.taken.linked.insert(id, path.to_owned());
        }
        self.tally.entries += 1;
        for error in &found.inode.errors {
            self.tally.failed += 1;
            self.out.note(path, error);
        }
        let Some(opened) = &found.opened else {
            return self.out.without_content(found.inode, path, kind, &found.target);
        };
        let whole = found.inode.size();
        // They tell no size, or that of a page.
        if self.host.is_of_kernel(&found) {
            return self.kernel_file(path, found);
        }
        let mut size = whole.min(self.files.most_file);
        if size < whole {
            self.cut(path, size, whole, "a file");
        }
        let left = self.files.most_total.saturating_sub(self.tally.bytes);
        if size > left {
            self.tally.is_cut = true;
            self.cut(path, left, whole, "this artefact: what comes after it is not taken");
            size = left;
        }
        let mount = found.mount();
        let mut inode = found.inode;
        if size < whole {
            inode.errors.push(format!("only the first {size} of its {whole} bytes were acquired"));
        }
        let written = inode.mtime();
        let mut content = HostContent::new(self.host, mount, opened, (size, whole), written);
        self.out.content(inode, path, size, &mut content)?;
        self.tally.files += 1;
        self.tally.bytes = self.tally.bytes.saturating_add(size);
        if self.files.rotating {
            self.look_again(folder, name, path, id);
        }
        Ok(())
    }

    fn cut(&mut self, path: &Path, size: u64, whole: u64, of: &str) {
        self.tally.failed += 1;
        self.out.note(path, &format!("only the first {size} of its {whole} bytes: the limit of {of}"));
    }

    /// Takes a file that tells no size, as those of the kernel.
    fn kernel_file(&mut self, path: &Path, found: Found) -> Result<()> {
        let most = MOST_OF_KERNEL.min(self.files.most_file);
        let (bytes, problem) = match self.host.read_whole(&found, most) {
            Ok((bytes, false)) => (bytes, None),
            Ok((bytes, true)) => (bytes, Some(format!("cut after {most} bytes"))),
            Err(refusal) => {
                if matches!(refusal, Refusal::Silent(_)) {
                    self.tally.timed_out += 1;
                }
                (Vec::new(), Some(format!("unreadable: {}", refusal.told())))
            }
        };
        self.tally.failed += u64::from(problem.is_some());
        let size = bytes.len() as u64;
        self.out.content(found.inode, path, size, &mut HeldContent::new(&bytes, problem))?;
        self.tally.files += 1;
        self.tally.bytes = self.tally.bytes.saturating_add(size);
        Ok(())
    }

    /// Says what became of a log's name while the log was read.
    fn look_again(&mut self, folder: &Folder, name: &OsStr, path: &Path, id: Id) {
        match self.host.look(folder, name, true) {
            Ok(inode) if inode.id() == id => {}
            Ok(_) => self.out.note(
                path,
                "was rotated while it was read: the name is another file's now; what was held open is whole",
            ),
            Err(Refusal::NotThere) => {
                self.out.note(path, "was renamed or removed while it was read; what was held open is whole");
            }
            Err(_) => {}
        }
    }

    /// Notes what is not taken. What is not there is no fault; a rule is told once.
    fn refused(&mut self, path: &Path, refusal: &Refusal) -> Result<()> {
        match refusal {
            Refusal::NotThere => {}
            Refusal::Rule(what) => {
                if !what.contains("kernel file system") && self.taken.told.insert(what.clone()) {
                    self.out.note(path, what);
                }
            }
            Refusal::Failed(what) => {
                self.tally.failed += 1;
                self.out.note(path, what);
            }
            Refusal::Silent(what) => {
                self.tally.timed_out += 1;
                self.out.note(path, what);
            }
        }
        Ok(())
    }
}
