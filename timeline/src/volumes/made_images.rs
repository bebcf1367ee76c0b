//! File systems made for tests by `mke2fs` and changed by `debugfs`, both of e2fsprogs.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::bytes::ByteSource;

/// A long enough target to need a block of its own.
pub(crate) const LONG_TARGET: &str =
    "/usr/share/a/very/long/way/to/a/file/that/does/not/fit/into/an/inode/of/ext4/at/all/really";

/// An image, with the folder whose files are in it.
pub(crate) struct MadeImage {
    folder: tempfile::TempDir,
}

impl MadeImage {
    /// Makes an image of `size` with the files of [`fill`]; `None`, said aloud, where there is no `mke2fs`.
    pub(crate) fn new(size: &str, options: &[&str]) -> Option<MadeImage> {
        MadeImage::of(size, options, fill)
    }

    pub(crate) fn of(size: &str, options: &[&str], fill: fn(&Path)) -> Option<MadeImage> {
        let mke2fs = find("mke2fs")?;
        find("debugfs")?;
        // `mke2fs` waits for the disk, so memory is much faster.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let made = MadeImage { folder };
        std::fs::create_dir(made.files()).unwrap();
        fill(&made.files());
        let ran = Command::new(mke2fs)
            .args(["-q", "-F", "-d"])
            .arg(made.files())
            .args(options)
            .arg(made.path())
            .arg(size)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ran.status.success(), "mke2fs {options:?}: {}", String::from_utf8_lossy(&ran.stderr));
        Some(made)
    }

    /// The folder whose files are in the image.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Runs commands of `debugfs`, which may write, and gives its words.
    pub(crate) fn debugfs(&self, commands: &[String]) -> String {
        let script = self.folder.path().join("script");
        std::fs::write(&script, commands.join("\n") + "\n").unwrap();
        let ran = Command::new(find("debugfs").unwrap())
            .arg("-w")
            .arg("-f")
            .arg(&script)
            .arg(self.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ran.status.success());
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    pub(crate) fn volume(&self) -> Arc<dyn ByteSource> {
        Arc::new(self.bytes())
    }
}

/// A tool of the system; `None`, said aloud, where it is not there.
#[allow(clippy::print_stderr, reason = "a test that is skipped says why")]
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/opt/homebrew/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(tool))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: there is no {tool} on this machine");
    }
    found
}

/// Bytes that differ from place to place, so that a block in the wrong place is seen.
pub(crate) fn pattern(from: u64, length: usize) -> Vec<u8> {
    (from..).take(length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect()
}

/// Files of every kind: small, sparse, in many pieces, linked, with long names, and a folder of many blocks.
fn fill(root: &Path) {
    let path = |name: &str| root.join(name);
    for folder in ["etc", "many", "deep/er/and/deeper"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    std::fs::write(path("etc/hostname"), "web01\n").unwrap();
    std::fs::write(path("etc/empty"), "").unwrap();
    std::fs::write(path("deep/er/and/deeper/file"), "deep").unwrap();
    symlink("/usr/share/zoneinfo/Europe/Berlin", path("etc/localtime")).unwrap();
    symlink(LONG_TARGET, path("long link")).unwrap();
    std::fs::hard_link(path("etc/hostname"), path("etc/zweiter name")).unwrap();
    std::fs::write(path(&"n".repeat(255)), "a long name").unwrap();
    std::fs::write(path("middle"), pattern(0, 3_000_000)).unwrap();
    std::fs::write(path("deleted.txt"), "gone").unwrap();
    std::fs::write(path("etc/also deleted"), pattern(0, 5000)).unwrap();
    for n in 0..700 {
        std::fs::write(path(&format!("many/file number {n:04}")), n.to_string()).unwrap();
    }
    let mut pieces = std::fs::File::create(path("pieces")).unwrap();
    for n in 0..500u64 {
        pieces.seek(SeekFrom::Start(n * 16384)).unwrap();
        pieces.write_all(&pattern(n * 16384, 4096)).unwrap();
    }
    // Beyond what two levels of indirect blocks of 1 KiB reach.
    let mut sparse = std::fs::File::create(path("sparse")).unwrap();
    sparse.write_all(b"start").unwrap();
    sparse.seek(SeekFrom::Start(70 << 20)).unwrap();
    sparse.write_all(b"far").unwrap();
}
