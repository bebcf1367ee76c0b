//! A file system that answers until a test tells it not to: what a dead server looks like to a program.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, Request,
};

const FILE: u64 = 2;
const SIZE: u64 = 200_000;
const NO_CACHE: Duration = Duration::ZERO;

/// What it does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing at all.
    Whole,
    /// Reads behind the first 64 KiB.
    Reads,
}

type Gate = Arc<(Mutex<bool>, Condvar)>;

struct Silent {
    silence: Silence,
    gate: Gate,
}

/// Mounted until it is dropped.
pub(crate) struct SilentFolder {
    gate: Gate,
    session: Option<fuser::BackgroundSession>,
}

impl SilentFolder {
    /// Mounts one over a folder; `None`, with the reason on standard error, where that is not possible.
    pub(crate) fn mount(folder: &Path, silence: Silence) -> Option<Self> {
        if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
            eprintln!("skipped: /dev/fuse cannot be opened: {error}");
            return None;
        }
        let gate = Gate::default();
        let options = [MountOption::FSName("silent".to_owned()), MountOption::RO];
        match fuser::spawn_mount2(Silent { silence, gate: Arc::clone(&gate) }, folder, &options) {
            Ok(session) => Some(Self { gate, session: Some(session) }),
            Err(error) => {
                eprintln!("skipped: no FUSE file system can be mounted here: {error}");
                None
            }
        }
    }
}

impl Drop for SilentFolder {
    fn drop(&mut self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
        drop(self.session.take());
    }
}

impl Silent {
    fn wait(&self, when: Silence) {
        if self.silence != when {
            return;
        }
        let mut is_open = self.gate.0.lock().unwrap();
        while !*is_open {
            is_open = self.gate.1.wait(is_open).unwrap();
        }
    }
}

fn attributes(ino: u64) -> FileAttr {
    FileAttr {
        ino,
        size: if ino == FILE { SIZE } else { 0 },
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if ino == FILE { FileType::RegularFile } else { FileType::Directory },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}

impl Filesystem for Silent {
    fn lookup(&mut self, _: &Request<'_>, _: u64, name: &OsStr, reply: ReplyEntry) {
        self.wait(Silence::Whole);
        if name == "file" { reply.entry(&NO_CACHE, &attributes(FILE), 0) } else { reply.error(2) }
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _: Option<u64>, reply: ReplyAttr) {
        self.wait(Silence::Whole);
        reply.attr(&NO_CACHE, &attributes(ino));
    }

    fn readdir(&mut self, _: &Request<'_>, _: u64, _: u64, offset: i64, mut reply: ReplyDirectory) {
        self.wait(Silence::Whole);
        if offset == 0 {
            let _ = reply.add(FILE, 1, FileType::RegularFile, "file");
        }
        reply.ok();
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
        // The kernel reads ahead up to 128 KiB.
        if offset >= 128 << 10 {
            self.wait(Silence::Reads);
        }
        let left = SIZE.saturating_sub(u64::try_from(offset).unwrap());
        reply.data(&vec![b'x'; usize::try_from(left.min(size.into())).unwrap()]);
    }
}
