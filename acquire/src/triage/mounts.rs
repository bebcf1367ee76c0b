//! What is mounted where, read before any path is touched: a file system whose server is gone answers nobody.
//!
//! Source: `proc_pid_mountinfo(5)`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use custody::strict_json::escape_text;

/// Files that come over a network, or from a program that may have stopped.
const NETWORK: [&str; 24] = [
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "gfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncp",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "panfs",
    "smb2",
    "smb3",
    "smbfs",
    "virtiofs",
];

/// Made by the kernel: there is no file in them that lies on a disk.
const KERNEL: [&str; 21] = [
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// File systems in user space that hold local files.
const LOCAL_FUSE: [&str; 5] = ["fuse.fuse-overlayfs", "fuse.ntfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.ext4"];

/// What kind of file system something is, as far as entering it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountKind {
    Local,
    Network,
    Kernel,
    /// Touching it would mount something.
    Autofs,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) kind: MountKind,
    pub(crate) fs_type: String,
    pub(crate) source: Vec<u8>,
    /// Whether reading could change access times.
    pub(crate) keeps_atime: bool,
}

/// All mounts of this process's namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounts {
    all: Vec<Mount>,
    by_point: HashMap<PathBuf, usize>,
}

impl Mounts {
    /// Reads the text of `/proc/self/mountinfo`. Lines that are not understood are left out.
    pub(crate) fn read(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for mount in text.split(|&byte| byte == b'\n').filter_map(line) {
            // A later mount at the same point hides the earlier one.
            mounts.by_point.insert(mount.point.clone(), mounts.all.len());
            mounts.all.push(mount);
        }
        mounts
    }

    /// The mount that starts exactly at a path.
    pub(crate) fn at(&self, path: &Path) -> Option<usize> {
        self.by_point.get(path).copied()
    }

    /// The mount that a path lies on.
    pub(crate) fn of(&self, path: &Path) -> Option<usize> {
        path.ancestors().find_map(|above| self.at(above))
    }

    pub(crate) fn get(&self, mount: usize) -> Option<&Mount> {
        self.all.get(mount)
    }

    pub(crate) fn all(&self) -> &[Mount] {
        &self.all
    }
}

impl Mount {
    /// Type, source and place in words.
    pub(crate) fn told(&self) -> String {
        format!("{} from {}", self.fs_type, escape_text(&self.source))
    }
}

fn line(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = words.iter().skip(6).position(|word| *word == b"-")?.checked_add(6)?;
    let fs_type = String::from_utf8_lossy(words.get(dash.checked_add(1)?)?).into_owned();
    let options: &[u8] = words.get(5)?;
    Some(Mount {
        point: PathBuf::from(OsString::from_vec(unescape(words.get(4)?))),
        kind: kind_of(&fs_type),
        fs_type,
        source: unescape(words.get(dash.checked_add(2)?)?),
        keeps_atime: options.split(|&byte| byte == b',').any(|option| matches!(option, b"noatime" | b"ro")),
    })
}

fn kind_of(fs_type: &str) -> MountKind {
    if fs_type == "autofs" {
        MountKind::Autofs
    } else if fs_type == "fuse.lxcfs" || fs_type == "fuse.gvfsd-fuse" || KERNEL.contains(&fs_type) {
        MountKind::Kernel
    } else if NETWORK.contains(&fs_type)
        || fs_type == "fuse"
        || (fs_type.starts_with("fuse.") && !LOCAL_FUSE.contains(&fs_type))
    {
        MountKind::Network
    } else {
        MountKind::Local
    }
}

/// Space, tab, line feed and backslash are written as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\'
            && let Some((digits, others)) = after.split_at_checked(3)
            && let Some(code) =
                std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, 8).ok())
        {
            bytes.push(code);
            rest = others;
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

/// A path below a root: `/mnt` and `/var/log` give `/mnt/var/log`.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    match path.as_os_str().as_bytes().strip_prefix(b"/") {
        Some([]) => root.to_owned(),
        Some(rest) => root.join(std::ffi::OsStr::from_bytes(rest)),
        None => root.join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        23 22 0:4 / /proc rw,nosuid - proc proc rw\n\
        30 22 8:2 / /var/log rw,noatime shared:9 master:2 - xfs /dev/sdb1 rw\n\
        31 22 0:50 / /mnt/a\\040b rw - nfs4 server:/x rw,vers=4\n\
        32 22 0:51 / /home rw - autofs systemd-1 rw\n\
        33 22 0:52 / /home rw - fuse.sshfs me@there: rw\n\
        broken line\n\
        34 22 0:53 / /opt rw - fuse.fuse-overlayfs x rw\n";

    #[test]
    fn each_path_lies_on_the_innermost_and_latest_mount() {
        let mounts = Mounts::read(TEXT);
        let kind = |path: &str| mounts.get(mounts.of(Path::new(path)).unwrap()).unwrap().kind;
        assert_eq!(kind("/etc/passwd"), MountKind::Local);
        assert_eq!(kind("/var/log/syslog"), MountKind::Local);
        assert_eq!(kind("/var/logs"), MountKind::Local);
        assert_eq!(kind("/mnt/a b/c"), MountKind::Network);
        assert_eq!(kind("/home/jane"), MountKind::Network);
        assert_eq!(kind("/proc/1/maps"), MountKind::Kernel);
        assert_eq!(kind("/opt/x"), MountKind::Local);
        assert_eq!(mounts.all().len(), 7);
        let log = mounts.get(mounts.at(Path::new("/var/log")).unwrap()).unwrap();
        assert!(log.keeps_atime);
        assert_eq!(log.told(), "xfs from /dev/sdb1");
    }

    #[test]
    fn paths_go_below_a_root() {
        assert_eq!(below(Path::new("/mnt"), Path::new("/var")), Path::new("/mnt/var"));
        assert_eq!(below(Path::new("/"), Path::new("/var")), Path::new("/var"));
        assert_eq!(below(Path::new("/mnt"), Path::new("/")), Path::new("/mnt"));
    }
}
