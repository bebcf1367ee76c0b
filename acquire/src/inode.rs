//! What the file system tells of one file: times to the nanosecond, birth time, extended attributes.

use std::os::fd::AsFd;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use custody::bundle::{CatalogEntry, MemberKind, Xattr, file_time};
use custody::strict_json::escape_text;
use rustix::fs::{
    AtFlags, FileType, Stat, Statx, StatxAttributes, StatxFlags, StatxTimestamp, major, minor, statat, statx,
};
use rustix::io::Errno;

/// Extended attributes of one file beyond this are listed as not taken.
const MOST_XATTR_BYTES: usize = 1 << 20;

/// Linux allows 64 KiB for the names and for each value.
const LARGEST_XATTR: usize = 64 << 10;

/// The facts of one inode.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    stat: Facts,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) errors: Vec<String>,
}

/// What `statx` tells, or `fstatat` where the kernel has no `statx`: all but the birth time.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) size: u64,
    /// Blocks of 512 bytes that it takes up.
    pub(crate) blocks: u64,
    /// Flags that the file system keeps; none where the kernel has no `statx`.
    pub(crate) flags: StatxAttributes,
    pub(crate) number: u64,
    /// Major and minor number of the device that holds it.
    pub(crate) lies_on: (u32, u32),
    /// Of the device that it stands for.
    pub(crate) stands_for: (u32, u32),
    pub(crate) atime: (i64, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) btime: Option<(i64, u32)>,
}

/// Asks for an inode without following a link. An empty name asks for the descriptor itself.
pub(crate) fn inspect(directory: impl AsFd, name: &Path) -> rustix::io::Result<Inode> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let stat = match statx(&directory, name, flags, wanted) {
        Ok(stat) => Facts::from(&stat),
        // Linux before 4.11, and sandboxes that do not know the call.
        Err(Errno::NOSYS) => Facts::of_old_kernel(&statat(&directory, name, flags)?),
        Err(error) => return Err(error),
    };
    Ok(Inode { stat, xattrs: Vec::new(), errors: Vec::new() })
}

impl From<&Statx> for Facts {
    fn from(stat: &Statx) -> Self {
        let knows_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            mode: stat.stx_mode.into(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: stat.stx_nlink,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            flags: stat.stx_attributes,
            number: stat.stx_ino,
            lies_on: (stat.stx_dev_major, stat.stx_dev_minor),
            stands_for: (stat.stx_rdev_major, stat.stx_rdev_minor),
            atime: seconds(&stat.stx_atime),
            mtime: seconds(&stat.stx_mtime),
            ctime: seconds(&stat.stx_ctime),
            btime: knows_birth.then(|| seconds(&stat.stx_btime)),
        }
    }
}

impl Facts {
    #[allow(clippy::useless_conversion, reason = "the fields' types differ from one processor to the next")]
    fn of_old_kernel(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: i64| {
            (seconds, u32::try_from(nanoseconds.clamp(0, 999_999_999)).unwrap_or(0))
        };
        let nanoseconds = |value: u64| i64::try_from(value).unwrap_or(0);
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: u32::try_from(u64::from(stat.st_nlink)).unwrap_or(u32::MAX),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            flags: StatxAttributes::empty(),
            number: stat.st_ino.into(),
            lies_on: (major(stat.st_dev), minor(stat.st_dev)),
            stands_for: (major(stat.st_rdev), minor(stat.st_rdev)),
            atime: time(stat.st_atime.into(), nanoseconds(stat.st_atime_nsec.into())),
            mtime: time(stat.st_mtime.into(), nanoseconds(stat.st_mtime_nsec.into())),
            ctime: time(stat.st_ctime.into(), nanoseconds(stat.st_ctime_nsec.into())),
            btime: None,
        }
    }
}

impl Inode {
    /// All that the system tells of it.
    pub(crate) fn facts(&self) -> &Facts {
        &self.stat
    }

    pub(crate) fn kind(&self) -> MemberKind {
        match FileType::from_raw_mode(self.stat.mode) {
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
        self.stat.size
    }

    pub(crate) fn mode(&self) -> u32 {
        self.stat.mode
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (self.stat.uid, self.stat.gid)
    }

    pub(crate) fn links(&self) -> u32 {
        self.stat.links
    }

    /// What tells one inode from all others.
    pub(crate) fn id(&self) -> (u32, u32, u64) {
        (self.stat.lies_on.0, self.stat.lies_on.1, self.stat.number)
    }

    /// The device that a device file stands for.
    pub(crate) fn device(&self) -> (u32, u32) {
        self.stat.stands_for
    }

    pub(crate) fn mtime(&self) -> (i64, u32) {
        self.stat.mtime
    }

    fn btime(&self) -> Option<(i64, u32)> {
        self.stat.btime
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
        let mut records = vec![time(b"atime", self.stat.atime), time(b"ctime", self.stat.ctime)];
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
        let (atime, ctime) = (self.stat.atime, self.stat.ctime);
        let (atime, ctime) = (time("atime", atime), time("ctime", ctime));
        let (mtime, btime) =
            (time("mtime", self.mtime()), self.btime().and_then(|btime| time("btime", btime)));
        let (uid, gid) = self.owner();
        CatalogEntry {
            atime,
            btime,
            ctime,
            dev: Some(format!("{}:{}", self.stat.lies_on.0, self.stat.lies_on.1)),
            errors,
            header: 0,
            header_size: 0,
            inode: Some(self.stat.number.to_string()),
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
