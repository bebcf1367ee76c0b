//! What running containers changed in their file systems: the upper folder of each overlay, with its whiteouts.
//!
//! - Found by the root mount of each process that lives in a mount namespace of its own.
//! - `/V5/changes/ID.jsonl` lists all of it: `deleted` names what a whiteout hides, `opaque` a folder whose lower content
//!   is hidden. ID is the container's, or the mount namespace where none is known.
//! - The upper folder itself is packed under its own path, of all its files [`LARGEST`] bytes at most: a file that has no room
//!   is listed without its content, and said so.
//! - Reference: `Documentation/filesystems/overlayfs.rst`.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::clock::{Clock, rfc3339};

use super::bounded_reads::{Patience, link_below, names_below, open_folder, read_below};
use super::live_table::{Lines, Row};
use super::process_facts::{container_of, control_group};
use super::processes::namespace_inode;
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// Bytes of one upper folder that are packed.
pub(crate) const LARGEST: u64 = 4 << 30;

const LIMIT: Duration = Duration::from_secs(60);
/// Names in one upper folder that are listed.
const MOST_NAMES: usize = 500_000;

/// Takes what the containers of the running system changed: the lists go to `out`, the folders to `files`.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(crate) fn container_changes(
    out: &mut TarPacker<'_>,
    files: &mut TarPacker<'_>,
    clock: &dyn Clock,
) -> Result<()> {
    container_changes_at(Path::new("/"), out, Some(files), clock)
}

/// Takes what the containers of the system below `root` changed; all goes to `out` if there is nothing for files.
pub(crate) fn container_changes_at(
    root: &Path,
    out: &mut TarPacker<'_>,
    mut files: Option<&mut TarPacker<'_>>,
    clock: &dyn Clock,
) -> Result<()> {
    let mut patience = Patience::of(LIMIT);
    let proc = root.join("proc");
    let overlays = match patience.wait(move || overlays(&proc)) {
        Ok(overlays) => overlays,
        Err(error) => {
            out.note(&root.join("proc"), &format!("containers cannot be found by their mounts: {error}"));
            return Ok(());
        }
    };
    for (upper, overlay) in overlays {
        let layer =
            Layer { root, upper: &upper, name: &overlay.name(), pid: Some(overlay.pid), largest: LARGEST };
        layer.take(&mut patience, out, files.as_deref_mut(), clock)?;
    }
    Ok(())
}

/// The upper folder of one overlay.
pub(crate) struct Layer<'a> {
    /// Below which the system's files lie.
    pub(crate) root: &'a Path,
    pub(crate) upper: &'a Path,
    /// The container's.
    pub(crate) name: &'a str,
    pub(crate) pid: Option<u32>,
    /// Bytes of its files that are packed.
    pub(crate) largest: u64,
}

impl Layer<'_> {
    /// Lists what is in it, and packs it, into `out` if there is nothing for files.
    pub(crate) fn take(
        &self,
        patience: &mut Patience,
        out: &mut TarPacker<'_>,
        files: Option<&mut TarPacker<'_>>,
        clock: &dyn Clock,
    ) -> Result<()> {
        // The engine mounted it in the system's own tree; what leads elsewhere is not ours to follow.
        let place = self.root.join(self.upper.strip_prefix("/").unwrap_or(self.upper));
        let to_walk = place.clone();
        let (rows, cut) = match patience.wait(move || walk(&to_walk)) {
            Ok(walked) => walked,
            // Too many names for the list are no reason to leave the files.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                out.note(&place, "its changes were not all listed in time: see the files themselves");
                (Vec::new(), false)
            }
            Err(error) => {
                let what = format!("the upper folder of container {} is not read: {error}", self.name);
                out.note(&place, &what);
                return Ok(());
            }
        };
        let mut lines = Lines::default();
        let mut header = Row::default();
        header.put("format", "exhibit-container-changes/1");
        header.put("observed", clock.now().rfc3339());
        header.put("container", self.name);
        header.number("pid", self.pid.map(u64::from));
        header.text("upper_folder", self.upper.as_os_str().as_bytes());
        lines.line(header);
        rows.into_iter().for_each(|row| lines.line(row));
        out.made(&format!("V5/changes/{}.jsonl", self.name), lines.bytes())?;
        if cut {
            out.note(&place, &format!("only {MOST_NAMES} names were listed"));
        }
        match files {
            Some(files) => files.within(self.largest, &place, |files| files.once(&place)),
            None => out.within(self.largest, &place, |out| out.once(&place)),
        }
    }
}

/// Whose an overlay is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overlay {
    pid: u32,
    namespace: String,
    container: Option<String>,
}

impl Overlay {
    fn name(&self) -> String {
        let container = self.container.as_ref().filter(|name| super::containers::is_plain(name));
        container.cloned().unwrap_or_else(|| format!("mnt-{}", self.namespace))
    }
}

/// The upper folders of all root mounts that are overlays, each with its first process.
fn overlays(proc: &Path) -> io::Result<BTreeMap<PathBuf, Overlay>> {
    let mut found = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    let (names, _) = names_below(&open_folder(proc)?, ".", 1 << 22)?;
    // The system's own root may be an overlay too, and is no container.
    let init = open_folder(&proc.join("1")).and_then(|folder| link_below(&folder, "ns/mnt")).ok();
    for name in names {
        let Ok(pid) = name.parse::<u32>() else { continue };
        let Ok(folder) = open_folder(&proc.join(&name)) else { continue };
        let Ok(link) = link_below(&folder, "ns/mnt") else { continue };
        if Some(&link) == init.as_ref() || !seen.insert(link.clone()) {
            continue;
        }
        let Some(namespace) = namespace_inode(&link) else { continue };
        let Ok(mounts) = read_below(&folder, "mountinfo", 8 << 20) else { continue };
        let Some(upper) = upper_folder(&mounts.bytes) else { continue };
        let group = read_below(&folder, "cgroup", 64 << 10).unwrap_or_default();
        let container = control_group(&group.bytes).and_then(container_of).map(|(id, _)| id);
        found.entry(upper).or_insert(Overlay { pid, namespace, container });
    }
    Ok(found)
}

/// `upperdir=` of the mount at `/`, if that is an overlay.
pub(crate) fn upper_folder(mounts: &[u8]) -> Option<PathBuf> {
    // The first: what lies over it later was mounted from within, and may name any folder of the host.
    let mounted = mounts
        .split(|&byte| byte == b'\n')
        .find(|line| line.split(|&byte| byte == b' ').nth(4) == Some(b"/"))?;
    let at = mounted.windows(3).position(|part| part == b" - ")?;
    let mut behind = mounted.get(at.checked_add(3)?..)?.split(|&byte| byte == b' ');
    if behind.next()? != b"overlay" {
        return None;
    }
    let options = unescape_octal(behind.nth(1)?);
    let upper = split_options(&options)
        .into_iter()
        .find_map(|option| option.strip_prefix(b"upperdir=").map(<[u8]>::to_vec))?;
    let upper = PathBuf::from(std::ffi::OsString::from_vec(upper));
    let plain =
        upper.is_absolute() && !upper.components().any(|part| part == std::path::Component::ParentDir);
    plain.then_some(upper)
}

/// Options are parted by commas; one within a name is written `\,`.
fn split_options(options: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut bytes = options.iter();
    while let Some(&byte) = bytes.next() {
        let Some(last) = all.last_mut() else { break };
        match byte {
            b'\\' => last.extend(bytes.next()),
            b',' => all.push(Vec::new()),
            byte => last.push(byte),
        }
    }
    all
}

/// Blanks, tabs, line feeds and backslashes of `mountinfo` are `\040` and so on.
fn unescape_octal(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .first_chunk::<3>()
            .filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(&[a, b, c]) => {
                let value = (u32::from(a) - 48) * 64 + (u32::from(b) - 48) * 8 + u32::from(c) - 48;
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// All names below an upper folder, and whether there were more.
fn walk(upper: &Path) -> io::Result<(Vec<Row>, bool)> {
    let mut rows = Vec::new();
    let mut folders = vec![upper.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == upper => return Err(error),
            Err(_) => continue,
        };
        let mut paths: Vec<PathBuf> = entries.take(MOST_NAMES).flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if rows.len() >= MOST_NAMES {
                return Ok((rows, true));
            }
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            rows.push(change(upper, &path, &facts));
            if facts.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok((rows, false))
}

fn change(upper: &Path, path: &Path, facts: &Metadata) -> Row {
    let mut row = Row::default();
    let below = path.strip_prefix(upper).unwrap_or(path).as_os_str().as_bytes();
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    row.text("path", &[b"/", below].concat());
    let has = |attribute: &str| {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(path, attribute, &mut value)
            .is_ok_and(|length| value.get(..length) == Some(b"y"))
    };
    // The kernel's whiteout, and the one that fuse-overlayfs makes without the right to make devices.
    let device = facts.file_type().is_char_device() && facts.rdev() == 0;
    row.flag("deleted", device || name.starts_with(b".wh.") && name != b".wh..wh..opq");
    if facts.is_dir() {
        let opaque = ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
        row.flag(
            "opaque",
            opaque.iter().any(|attribute| has(attribute)) || path.join(".wh..wh..opq").exists(),
        );
        row.put("kind", "folder");
    } else if facts.is_file() {
        row.put("kind", "file");
        row.number("size", Some(facts.len()));
    } else if facts.is_symlink() {
        row.put("kind", "link");
    }
    row.put("uid", facts.uid());
    row.put("mode", format!("{:o}", facts.mode() & 0o7777));
    let mtime =
        facts.mtime().checked_mul(1_000_000_000).and_then(|time| time.checked_add(facts.mtime_nsec()));
    if let Some(mtime) = mtime {
        row.put("mtime", rfc3339(mtime));
    }
    row
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::triage::packed::packed;

    #[test]
    fn the_upper_folder_is_found_whatever_its_name_holds() {
        let line = |options: &str| {
            format!(
                "5 1 0:9 / / rw,relatime shared:1 - overlay overlay {options}\n6 5 0:4 / /proc rw - proc proc rw\n7 5 0:8 / / rw - overlay overlay rw,upperdir=/etc\n"
            )
        };
        let found = |options: &str| upper_folder(line(options).as_bytes());
        assert_eq!(
            found("rw,lowerdir=/a:/b,upperdir=/var/lib/x/diff,workdir=/w"),
            Some("/var/lib/x/diff".into())
        );
        assert_eq!(found("rw,upperdir=/a\\040b\\134,c"), Some("/a b,c".into()));
        assert_eq!(found("rw,lowerdir=/a"), None);
        assert_eq!(found("rw,upperdir=relative"), None);
        assert_eq!(found("rw,upperdir=/a/../../etc"), None);
        assert_eq!(upper_folder(b"1 0 0:1 / / rw - ext4 /dev/x rw\n"), None);
        assert_eq!(upper_folder(b""), None);
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a test that is skipped must say so")]
    fn what_a_container_changed_is_listed_with_whiteouts_and_packed() {
        let root = tempfile::tempdir().unwrap();
        let upper = root.path().join("var/lib/docker/overlay2/abc/diff");
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/evil.conf"), "x=1\n").unwrap();
        fs::write(upper.join("etc/.wh.gone"), "").unwrap();
        let with_device =
            mknodat(CWD, upper.join("etc/passwd-"), FileType::CharacterDevice, Mode::empty(), 0).is_ok();
        if !with_device {
            eprintln!("skipped in part: only root can make the whiteouts that the kernel makes");
        }
        let id = "9c1f4c0e6f9b2a7d5e3c1b0a99887766554433221100ffeeddccbbaa99887766";
        for (pid, namespace, mounts) in [
            ("1", "4026531832", "1 0 0:1 / / rw - ext4 /dev/x rw\n"),
            (
                "42",
                "4026532999",
                "5 1 0:9 / / rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/abc/diff\n",
            ),
        ] {
            let of = root.path().join("proc").join(pid);
            fs::create_dir_all(of.join("ns")).unwrap();
            symlink(format!("mnt:[{namespace}]"), of.join("ns/mnt")).unwrap();
            fs::write(of.join("mountinfo"), mounts).unwrap();
            fs::write(of.join("cgroup"), format!("0::/system.slice/docker-{id}.scope\n")).unwrap();
        }
        let out = packed(|out, clock| container_changes_at(root.path(), out, None, clock));
        let rows = out.rows(&format!("V5/changes/{id}.jsonl"));
        let told: Vec<_> =
            rows.iter().map(|row| (row["path"].as_str().unwrap(), row.get("deleted").is_some())).collect();
        let mut expected = vec![("/etc", false), ("/etc/.wh.gone", true), ("/etc/evil.conf", false)];
        expected.extend(with_device.then_some(("/etc/passwd-", true)));
        assert_eq!(told, expected);
        let name = upper.join("etc/evil.conf");
        assert_eq!(out.files[name.strip_prefix("/").unwrap().to_str().unwrap()], b"x=1\n");
    }
}
