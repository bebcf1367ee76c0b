//! Members that no file system tells of: what we make ourselves, and objects of a store.

use std::fs::File;
use std::path::Path;

#[cfg(feature = "cloud")]
use base64::Engine as _;
#[cfg(feature = "cloud")]
use base64::prelude::BASE64_STANDARD;
#[cfg(feature = "cloud")]
use custody::bundle::Xattr;
use custody::bundle::{CatalogEntry, MemberKind, file_time};
use custody::sha256;
use custody::strict_json::escape_text;

use super::TarPacker;
use crate::error::Result;
use crate::file_content::{Content, FileContent};
use crate::inode::inspect;
use crate::pax::Member;

/// A file of which no file system tells.
#[cfg(feature = "cloud")]
#[derive(Debug)]
pub(crate) struct Object<'a> {
    /// Absolute.
    pub(crate) path: &'a [u8],
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) size: u64,
    /// What is known of it: extended attributes of the catalogue, and records of the tar.
    pub(crate) attributes: Vec<(String, String)>,
    /// What went wrong with it.
    pub(crate) errors: Vec<String>,
}

impl TarPacker<'_> {
    /// Packs a file of our own making, such as the output of a command, as one that was changed now.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped) if the bundle can take no more, or what the catalogue gives.
    pub fn made(&mut self, name_in_tar: &str, bytes: &[u8]) -> Result<()> {
        let mut entry = self.made_header(name_in_tar, bytes.len() as u64)?;
        entry.sha256 = Some(sha256(bytes));
        self.feed.append(bytes)?;
        self.pad(entry.size)?;
        self.enter(&entry)
    }

    /// Packs the first `size` bytes of a file of ours that is no member itself, such as the spooled output of a command.
    ///
    /// # Errors
    ///
    /// As [`TarPacker::made`].
    pub(crate) fn made_from(&mut self, name_in_tar: &str, spool: &File, size: u64) -> Result<()> {
        let mut entry = self.made_header(name_in_tar, size)?;
        self.pour(&mut entry, &mut FileContent::new(spool, size))?;
        self.enter(&entry)
    }

    /// Packs `size` bytes of a file of ours that come as they are read, such as the memory of a process.
    ///
    /// # Errors
    ///
    /// As [`TarPacker::made`]. What cannot be read is an issue.
    pub(crate) fn made_of(&mut self, name_in_tar: &str, size: u64, content: &mut dyn Content) -> Result<()> {
        let mut entry = self.made_header(name_in_tar, size)?;
        self.pour(&mut entry, content)?;
        self.enter(&entry)
    }

    /// Packs a file of which no file system tells, such as an object of a store; without content, it could not be read.
    #[cfg(feature = "cloud")]
    pub(crate) fn object(&mut self, object: &Object<'_>, content: Option<&mut dyn Content>) -> Result<()> {
        let size = if content.is_some() { object.size } else { 0 };
        let member = Member {
            path: object.path.strip_prefix(b"/").unwrap_or(object.path),
            typeflag: b'0',
            mode: 0o100_600,
            uid: 0,
            gid: 0,
            size,
            mtime: object.mtime.unwrap_or_default(),
            link: b"",
            device: (0, 0),
            records: (object.attributes.iter())
                .map(|(name, value)| {
                    (format!("SCHILY.xattr.{name}").into_bytes(), value.clone().into_bytes())
                })
                .collect(),
        };
        let blocks = member.blocks();
        let header = self.feed.size();
        self.feed.append(&blocks)?;
        let attributes = object.attributes.iter();
        let mut entry = CatalogEntry {
            errors: object.errors.clone(),
            header,
            header_size: blocks.len() as u64,
            kind: MemberKind::File,
            mtime: object.mtime.and_then(|(seconds, nanoseconds)| file_time(seconds, nanoseconds)),
            offset: self.feed.size(),
            path: escape_text(object.path),
            size,
            xattrs: attributes
                .map(|(name, value)| Xattr {
                    name: escape_text(name.as_bytes()),
                    value: BASE64_STANDARD.encode(value),
                })
                .collect(),
            ..CatalogEntry::default()
        };
        if let Some(content) = content {
            self.pour(&mut entry, content)?;
        }
        self.enter(&entry)
    }

    fn made_header(&mut self, name_in_tar: &str, size: u64) -> Result<CatalogEntry> {
        let now = self.clock.now().wall_ns;
        let nanoseconds = u32::try_from(now.rem_euclid(1_000_000_000)).unwrap_or(0);
        let mtime = (now.div_euclid(1_000_000_000), nanoseconds);
        let name = name_in_tar.trim_start_matches('/').as_bytes();
        let member = Member {
            path: name,
            typeflag: b'0',
            mode: 0o100_600,
            uid: 0,
            gid: 0,
            size,
            mtime,
            link: b"",
            device: (0, 0),
            records: Vec::new(),
        };
        let blocks = member.blocks();
        let header = self.feed.size();
        self.feed.append(&blocks)?;
        Ok(CatalogEntry {
            header,
            header_size: blocks.len() as u64,
            kind: MemberKind::File,
            mtime: file_time(mtime.0, mtime.1),
            offset: self.feed.size(),
            path: escape_text(&[b"/", name].concat()),
            size,
            ..CatalogEntry::default()
        })
    }

    /// Packs an open file under a name of its own, with the facts of its inode.
    ///
    /// Its size is fixed now; at most `most` bytes are taken, and a cut is listed.
    ///
    /// # Errors
    ///
    /// As [`TarPacker::made`]. What cannot be read is an issue.
    pub fn file_at(&mut self, name_in_tar: &Path, file: &File, most: Option<u64>) -> Result<()> {
        let path = Path::new("/").join(name_in_tar);
        let inode = match inspect(file, Path::new("")) {
            Ok(inode) => inode,
            Err(error) => {
                self.note(&path, &format!("cannot be inspected: {error}"));
                return Ok(());
            }
        };
        let size = inode.size();
        let taken = most.map_or(size, |most| size.min(most));
        if taken < size {
            self.note(&path, &format!("only the first {taken} of its {size} bytes were acquired"));
        }
        let mut inode = inode;
        inode.read_xattrs(file);
        self.content(inode, &path, taken, &mut FileContent::new(file, taken))
    }
}
