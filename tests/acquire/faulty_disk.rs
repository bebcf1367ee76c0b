//! A file system with one file, `disk`, whose reads fail where a test says so: the kernel's own way of telling EIO.
//!
//! A read that touches a bad sector fails as a whole, as those of disks do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen,
    Request,
};

const DISK: u64 = 2;
/// Attributes may change at any moment.
const NO_CACHE: Duration = Duration::ZERO;

/// What the file holds and how it fails; can be changed while it is mounted.
pub(crate) struct Faults {
    pub(crate) data: Vec<u8>,
    /// Bad sectors, in units of `sector` bytes.
    pub(crate) bad: BTreeSet<u64>,
    pub(crate) sector: u64,
    /// From this byte on there is no device, once it has been reached.
    pub(crate) gone_at: Option<u64>,
    pub(crate) has_gone: bool,
    /// Once this byte is reached, the file ends there.
    pub(crate) cut_at: Option<u64>,
    /// Every open for writing, which must never come.
    pub(crate) written_to: u64,
}

struct OneFile {
    faults: Arc<Mutex<Faults>>,
    direct: bool,
}

/// The mounted file system; unmounted when it is dropped.
pub(crate) struct FaultyDisk {
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) path: PathBuf,
    session: Option<fuser::BackgroundSession>,
    _folder: tempfile::TempDir,
}

impl FaultyDisk {
    /// Mounts one; `None`, with the reason on standard error, where that is not possible.
    ///
    /// With `direct`, the page cache of the kernel is left out.
    pub(crate) fn mount(data: Vec<u8>, bad: &[u64], sector: u64, direct: bool) -> Option<Self> {
        if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
            eprintln!("skipped: /dev/fuse cannot be opened: {error}");
            return None;
        }
        let faults = Faults {
            data,
            bad: bad.iter().copied().collect(),
            sector,
            gone_at: None,
            has_gone: false,
            cut_at: None,
            written_to: 0,
        };
        let faults = Arc::new(Mutex::new(faults));
        let folder = tempfile::tempdir().unwrap();
        let file_system = OneFile { faults: Arc::clone(&faults), direct };
        let options = [MountOption::FSName("faulty".to_owned()), MountOption::RO];
        match fuser::spawn_mount2(file_system, folder.path(), &options) {
            Ok(session) => {
                let path = folder.path().join("disk");
                Some(Self { faults, path, session: Some(session), _folder: folder })
            }
            Err(error) => {
                eprintln!("skipped: no FUSE file system can be mounted here: {error}");
                None
            }
        }
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        drop(self.session.take());
    }
}

impl OneFile {
    fn attributes(&self, ino: u64) -> FileAttr {
        let size = self.faults.lock().unwrap().data.len() as u64;
        FileAttr {
            ino,
            size: if ino == DISK { size } else { 0 },
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if ino == DISK { FileType::RegularFile } else { FileType::Directory },
            perm: if ino == DISK { 0o444 } else { 0o555 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 512,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn lookup(&mut self, _: &Request<'_>, _: u64, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&NO_CACHE, &self.attributes(DISK), 0);
        } else {
            reply.error(2);
        }
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&NO_CACHE, &self.attributes(ino));
    }

    fn open(&mut self, _: &Request<'_>, _: u64, flags: i32, reply: ReplyOpen) {
        const DIRECT_IO: u32 = 1;
        if flags & 3 != 0 {
            self.faults.lock().unwrap().written_to += 1;
        }
        reply.opened(0, if self.direct { DIRECT_IO } else { 0 });
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let mut faults = self.faults.lock().unwrap();
        let start = offset as u64;
        let end = start + u64::from(size);
        if faults.cut_at.is_some_and(|cut| end > cut) {
            let cut = faults.cut_at.take().unwrap();
            faults.data.truncate(cut as usize);
        }
        if faults.gone_at.is_some_and(|gone| end > gone) {
            faults.has_gone = true;
        }
        if faults.has_gone {
            return reply.error(19); // ENODEV
        }
        let length = faults.data.len() as u64;
        let (start, end) = (start.min(length), end.min(length));
        let sector = faults.sector;
        if start < end && faults.bad.range(start / sector..end.div_ceil(sector)).next().is_some() {
            return reply.error(5); // EIO
        }
        reply.data(&faults.data[start as usize..end as usize]);
    }

    fn readdir(&mut self, _: &Request<'_>, _: u64, _: u64, offset: i64, mut reply: ReplyDirectory) {
        if offset == 0 {
            let _ = reply.add(DISK, 1, FileType::RegularFile, "disk");
        }
        reply.ok();
    }
}

/// A loop device over a file, for reading only; let go when it is dropped.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
}

impl Loop {
    /// Attaches one; `None`, with the reason on standard error, where that is not possible.
    pub(crate) fn attach(file: &Path, sector: u32) -> Option<Self> {
        let sector = sector.to_string();
        let output = Command::new("losetup")
            .args(["--find", "--show", "--read-only", "--sector-size", &sector])
            .arg(file)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let device = String::from_utf8(output.stdout).unwrap();
                Some(Self { device: device.trim().into() })
            }
            Ok(output) => {
                eprintln!("skipped: no loop device: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: losetup cannot be run: {error}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// A device-mapper target made of a table; removed when it is dropped.
pub(crate) struct Mapped {
    name: String,
}

impl Mapped {
    /// Makes one; `None`, with the reason on standard error, where the kernel has no device mapper.
    pub(crate) fn create(name: &str, table: &str) -> Option<(Self, PathBuf)> {
        let output = Command::new("dmsetup").args(["create", name, "--readonly", "--table", table]).output();
        match output {
            Ok(output) if output.status.success() => {
                Some((Self { name: name.to_owned() }, Path::new("/dev/mapper").join(name)))
            }
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr);
                eprintln!("skipped: no device mapper: {}", words.lines().next().unwrap_or_default());
                None
            }
            Err(error) => {
                eprintln!("skipped: dmsetup cannot be run: {error}");
                None
            }
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = Command::new("dmsetup").args(["remove", "--retry", &self.name]).status();
    }
}

/// The writes that a block device has counted: requests and sectors.
pub(crate) fn write_counters(device: &Path) -> (u64, u64) {
    let name = device.file_name().unwrap().to_str().unwrap();
    let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
    let fields: Vec<u64> = stat.split_whitespace().map(|field| field.parse().unwrap()).collect();
    (fields[4], fields[6])
}
