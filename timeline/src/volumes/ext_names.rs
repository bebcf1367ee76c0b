//! Which names an inode has, and the way from the root to it.

use std::collections::{HashMap, HashSet};

use crate::error::ReadError;
use crate::event::Span;

use super::ext::{Disk, ROOT};
use super::ext_directory;
use super::ext_inode::Inode;

/// A path with more parts than this, or longer than [`LONGEST_PATH`], starts at a folder below the root.
const DEEPEST_PATH: usize = 256;
/// In bytes: what Linux takes in one call.
const LONGEST_PATH: usize = 4096;

/// Every name of a file system.
///
/// Takes 32 bytes and the name for each.
pub struct Names {
    /// By child, then live before deleted, then by place.
    entries: Vec<Entry>,
    text: Vec<u8>,
    /// What each directory calls `..`.
    parents: HashMap<u32, u32>,
    /// Directories in use: a name that deletion left is not theirs.
    live: HashSet<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    child: u32,
    parent: u32,
    at: u64,
    text: u64,
    length: u8,
    is_deleted: bool,
}

/// One name of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The directory it stands in.
    pub parent: u32,
    /// The name.
    pub name: &'a [u8],
    /// Where the directory entry lies in the volume, up to the end of the name.
    pub dirent: Span,
    /// Whether it was found in the slack of a directory, or in a deleted directory.
    pub is_deleted: bool,
}

/// A way to an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPath {
    /// The path: `/etc/passwd`, or `$inode/7/passwd` where it does not start at the root.
    pub path: Vec<u8>,
    /// The directory entries on the way, from the top down.
    pub dirents: Vec<Span>,
    /// The directory where the path starts, if not the root: one without a name, in a cycle, or of too deep a path.
    pub start: Option<u32>,
}

impl Names {
    /// Reads all `directories`, live ones first: a block belongs to the first that names it.
    pub(super) fn read(disk: &Disk, mut directories: Vec<Inode>) -> Result<Names, ReadError> {
        directories
            .sort_by_key(|inode| (!inode.allocated || inode.deleted, inode.first_block(), inode.number));
        let is_live = |inode: &Inode| inode.allocated && !inode.deleted;
        let mut names = Names {
            entries: Vec::new(),
            text: Vec::new(),
            parents: HashMap::new(),
            live: directories.iter().filter(|inode| is_live(inode)).map(|inode| inode.number).collect(),
        };
        let mut claimed = HashSet::new();
        for directory in &directories {
            let is_live = is_live(directory);
            let mut is_own = is_live;
            let number = directory.number;
            ext_directory::read(disk, directory, &mut claimed, &mut |dirent| {
                // The blocks of a deleted directory may have become something else.
                match dirent.name {
                    b"." if dirent.inode == number && !dirent.is_deleted => is_own = true,
                    b".." if is_own && !dirent.is_deleted => {
                        names.parents.entry(number).or_insert(dirent.inode);
                    }
                    b"." | b".." => {}
                    name if is_own => names.entries.push(Entry {
                        child: dirent.inode,
                        parent: number,
                        at: dirent.at,
                        text: push(&mut names.text, name),
                        length: name.len() as u8,
                        is_deleted: dirent.is_deleted || !is_live,
                    }),
                    _ => {}
                }
            })?;
        }
        names.entries.sort_unstable_by_key(|entry| (entry.child, entry.is_deleted, entry.at));
        Ok(names)
    }

    /// Every name of an inode, live ones first. A deleted name may be of an earlier file with that number.
    pub fn of(&self, inode: u32) -> impl Iterator<Item = Name<'_>> {
        self.entries_of(inode).iter().map(|entry| Name {
            parent: entry.parent,
            name: self.name(entry),
            dirent: entry.span(),
            is_deleted: entry.is_deleted,
        })
    }

    /// Every way to an inode: as many as it has hard links. The names that deletion left count for deleted inodes only.
    pub fn paths_of(&self, inode: &Inode) -> Vec<FoundPath> {
        if inode.number == ROOT {
            return vec![FoundPath { path: b"/".to_vec(), dirents: Vec::new(), start: None }];
        }
        self.names_that_count(inode).map(|entry| self.path(entry)).collect()
    }

    /// The first of [`Names::paths_of`], as bytes.
    pub(super) fn first_path(&self, inode: &Inode) -> Option<Vec<u8>> {
        self.names_that_count(inode).next().map(|entry| self.path(entry).path)
    }

    fn names_that_count(&self, inode: &Inode) -> impl Iterator<Item = &Entry> {
        let all = inode.deleted;
        self.entries_of(inode.number).iter().filter(move |entry| all || !entry.is_deleted)
    }

    fn entries_of(&self, child: u32) -> &[Entry] {
        let first = self.entries.partition_point(|entry| entry.child < child);
        let rest = self.entries.get(first..).unwrap_or(&[]);
        rest.get(..rest.partition_point(|entry| entry.child == child)).unwrap_or(&[])
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        let from = entry.text as usize;
        self.text.get(from..from.saturating_add(entry.length.into())).unwrap_or(&[])
    }

    /// The name by which a directory is reached: the one in the directory that it calls `..`, else the first. One that
    /// deletion left counts for deleted directories only.
    fn entry_of_directory(&self, directory: u32) -> Option<&Entry> {
        let entries = self.entries_of(directory);
        let parent = self.parents.get(&directory);
        let first = entries.first().filter(|entry| !entry.is_deleted || !self.live.contains(&directory));
        entries.iter().find(|entry| !entry.is_deleted && Some(&entry.parent) == parent).or(first)
    }

    fn path(&self, leaf: &Entry) -> FoundPath {
        let mut way = vec![leaf];
        let mut length = usize::from(leaf.length) + 1;
        let mut at = leaf.parent;
        while at != ROOT {
            let Some(entry) = self.entry_of_directory(at) else { break };
            length = length.saturating_add(usize::from(entry.length) + 1);
            let is_cycle = way.iter().any(|known| known.parent == entry.parent);
            if is_cycle || way.len() >= DEEPEST_PATH || length > LONGEST_PATH {
                break;
            }
            way.push(entry);
            at = entry.parent;
        }
        let start = (at != ROOT).then_some(at);
        way.reverse();
        let path = join(start, way.iter().map(|entry| self.name(entry)));
        FoundPath { path, dirents: way.iter().map(|entry| entry.span()).collect(), start }
    }
}

/// The path through `names`, from the root or from directory `start`.
pub(crate) fn join<'a>(start: Option<u32>, names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = start.map_or_else(Vec::new, |start| format!("$inode/{start}").into_bytes());
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

impl Entry {
    fn span(&self) -> Span {
        Span::new(self.at, u64::from(self.length).saturating_add(8))
    }
}

fn push(text: &mut Vec<u8>, name: &[u8]) -> u64 {
    let at = text.len() as u64;
    text.extend_from_slice(name);
    at
}
