//! What the file system tells of one file: times to the nanosecond, birth time, extended attributes.

use std::os::fd::AsFd;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use custody::bundle::{CatalogEntry, MemberKind, Xattr, file_time};
use custody::strict_json::escape_text;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};
use rustix::io::Errno;

/// Extended attributes of one file beyond this are listed as not taken.
const MOST_XATTR_BYTES: usize = 1 << 20;

/// Linux allows 64 KiB for the names and for each value.
const LARGEST_XATTR: usize = 64 << 10;

/// The facts of one inode.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    stat: Statx,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) errors: Vec<String>,
}

/// Asks for an inode without following a link. An empty name asks for the descriptor itself.
pub(crate) fn inspect(directory: impl AsFd, name: &Path) -> rustix::io::Result<Inode> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let stat = statx(directory, name, flags, wanted)?;
    Ok(Inode { stat, xattrs: Vec::new(), errors: Vec::new() })
}

impl Inode {
    pub(crate) fn kind(&self) -> MemberKind {
        match FileType::from_raw_mode(self.stat.stx_mode.into()) {
            FileType::Directory => MemberKind::Folder,
            FileType::Symlink => MemberKind::Symlink,
            FileType::Fifo => MemberKind::Pipe,
            FileType::Socket => MemberKind::Socket,
            FileType::CharacterDevice => MemberKind::Character,
            FileType::BlockDevice => MemberKind::Block,
            _ => MemberKind::File,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.stat.stx_size
    }

    pub(crate) fn mode(&self) -> u32 {
        self.stat.stx_mode.into()
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (self.stat.stx_uid, self.stat.stx_gid)
    }

    pub(crate) fn links(&self) -> u32 {
        self.stat.stx_nlink
    }

    /// What tells one inode from all others.
    pub(crate) fn id(&self) -> (u32, u32, u64) {
        (self.stat.stx_dev_major, self.stat.stx_dev_minor, self.stat.stx_ino)
    }

    /// The device that a device file stands for.
    pub(crate) fn device(&self) -> (u32, u32) {
        (self.stat.stx_rdev_major, self.stat.stx_rdev_minor)
    }

    pub(crate) fn mtime(&self) -> (i64, u32) {
        seconds(&self.stat.stx_mtime)
    }

    fn btime(&self) -> Option<(i64, u32)> {
        let known = self.stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then(|| seconds(&self.stat.stx_btime))
    }

    /// Reads the extended attributes of an open file.
    pub(crate) fn read_xattrs(&mut self, file: impl AsFd) {
        self.collect_xattrs(
            |names| rustix::fs::flistxattr(&file, names),
            |name, value| rustix::fs::fgetxattr(&file, name, value),
        );
    }

    /// Reads those of what cannot be opened for reading: a link, pipe, socket or device.
    pub(crate) fn read_xattrs_at(&mut self, path: &Path) {
        self.collect_xattrs(
            |names| rustix::fs::llistxattr(path, names),
            |name, value| rustix::fs::lgetxattr(path, name, value),
        );
    }

    fn collect_xattrs(
        &mut self,
        list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&std::ffi::CStr, &mut [u8]) -> rustix::io::Result<usize>,
    ) {
        let mut names = vec![0; LARGEST_XATTR];
        let length = match list(&mut names) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return,
            Err(error) => {
                self.errors.push(format!("extended attributes unreadable: {error}"));
                return;
            }
        };
        if length == 0 {
            return;
        }
        let mut total = 0usize;
        let mut value = vec![0; LARGEST_XATTR];
        for name in names.get(..length).unwrap_or_default().split_inclusive(|&byte| byte == 0) {
            let Ok(name) = std::ffi::CStr::from_bytes_with_nul(name) else { continue };
            match get(name, &mut value) {
                Ok(length) if total.saturating_add(length) <= MOST_XATTR_BYTES => {
                    total = total.saturating_add(length);
                    let value = value.get(..length).unwrap_or_default().to_vec();
                    self.xattrs.push((name.to_bytes().to_vec(), value));
                }
                Ok(length) => {
                    let name = escape_text(name.to_bytes());
                    self.errors
                        .push(format!("extended attribute {name:?} of {length} bytes not taken: over 1 MiB"));
                }
                Err(error) => {
                    let name = escape_text(name.to_bytes());
                    self.errors.push(format!("extended attribute {name:?} unreadable: {error}"));
                }
            }
        }
        // The system's order may differ from run to run.
        self.xattrs.sort();
    }

    /// The PAX records that a tar header has no field for.
    pub(crate) fn pax_records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let time = |key: &[u8], time| (key.to_vec(), crate::pax::time(time).into_bytes());
        let mut records = vec![
            time(b"atime", seconds(&self.stat.stx_atime)),
            time(b"ctime", seconds(&self.stat.stx_ctime)),
        ];
        records.extend(self.btime().map(|btime| time(b"EXHIBIT.btime", btime)));
        for (name, value) in &self.xattrs {
            // A key ends at the first "=", so such a name can stand in the catalogue only.
            if !name.contains(&b'=') {
                records.push(([b"SCHILY.xattr.".as_slice(), name].concat(), value.clone()));
            }
        }
        records
    }

    /// The catalogue entry of this inode, its place in the stream still empty.
    pub(crate) fn entry(&self, path: &[u8]) -> CatalogEntry {
        let mut errors = self.errors.clone();
        let mut time = |name: &str, (seconds, nanoseconds): (i64, u32)| {
            let text = file_time(seconds, nanoseconds);
            if text.is_none() {
                errors.push(format!("{name} is {seconds} s from 1970, outside the years 0 to 9999"));
            }
            text
        };
        let (atime, ctime) = (seconds(&self.stat.stx_atime), seconds(&self.stat.stx_ctime));
        let (atime, ctime) = (time("atime", atime), time("ctime", ctime));
        let (mtime, btime) =
            (time("mtime", self.mtime()), self.btime().and_then(|btime| time("btime", btime)));
        let (uid, gid) = self.owner();
        CatalogEntry {
            atime,
            btime,
            ctime,
            dev: Some(format!("{}:{}", self.stat.stx_dev_major, self.stat.stx_dev_minor)),
            errors,
            header: 0,
            header_size: 0,
            inode: Some(self.stat.stx_ino.to_string()),
            kind: self.kind(),
            link: None,
            mode: Some(self.mode()),
            mtime,
            offset: 0,
            path: escape_text(path),
            sha256: None,
            size: 0,
            gid: Some(gid),
            uid: Some(uid),
            xattrs: self
                .xattrs
                .iter()
                .map(|(name, value)| Xattr { name: escape_text(name), value: BASE64_STANDARD.encode(value) })
                .collect(),
        }
    }
}

fn seconds(time: &StatxTimestamp) -> (i64, u32) {
    (time.tv_sec, time.tv_nsec.min(999_999_999))
}
