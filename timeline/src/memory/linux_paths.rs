//! Paths of open files: names from the file up to the root, across mounts.
//!
//! - Limits: 256 names; a name of 255 bytes.
//! - Reference: Linux `fs/d_path.c`.

use super::btf::{Btf, Field};
use super::kernel::Kernel;
use super::record_parts::Part;
use crate::text::clean;

const MOST_NAMES: usize = 256;
const LONGEST_NAME: u64 = 255;

/// Where the members of files, names and mounts lie.
pub(crate) struct PathReader {
    file_dentry: u64,
    file_mount: u64,
    name: u64,
    name_length: Field,
    parent: u64,
    hashed: u64,
    mount: u64,
    mount_root: u64,
    mount_parent: u64,
    mount_point: u64,
}

impl PathReader {
    /// Finds the members, if the types have them all.
    pub(crate) fn new(types: &Btf) -> Option<PathReader> {
        let at = |structure, way| Some(types.field(structure, way)?.offset);
        Some(PathReader {
            file_dentry: at("file", "f_path.dentry")?,
            file_mount: at("file", "f_path.mnt")?,
            name: at("dentry", "d_name.name")?,
            name_length: types.field("dentry", "d_name.len")?,
            parent: at("dentry", "d_parent")?,
            hashed: at("dentry", "d_hash.pprev")?,
            mount: at("mount", "mnt")?,
            mount_root: at("vfsmount", "mnt_root")?,
            mount_parent: at("mount", "mnt_parent")?,
            mount_point: at("mount", "mnt_mountpoint")?,
        })
    }

    /// The names of a file's path, each with the NUL behind it, from the file up; and the pointer that is zero once
    /// the file is deleted.
    pub(crate) fn parts(&self, kernel: &Kernel, file: u64) -> Option<[Part; 2]> {
        let pointer = |at: u64, member: u64| kernel.u64(at.checked_add(member)?).filter(|at| *at != 0);
        let mut entry = pointer(file, self.file_dentry)?;
        let mut mount = pointer(file, self.file_mount)?.checked_sub(self.mount)?;
        let hashed = kernel.part(entry.checked_add(self.hashed)?, 8)?;
        let mut names = Part::default();
        for _ in 0..MOST_NAMES {
            if pointer(mount, self.mount.checked_add(self.mount_root)?)? == entry {
                let above = pointer(mount, self.mount_parent)?;
                if above == mount {
                    return Some([names, hashed]);
                }
                entry = pointer(mount, self.mount_point)?;
                mount = above;
                continue;
            }
            let parent = pointer(entry, self.parent)?;
            if parent == entry {
                return Some([names, hashed]);
            }
            let mut length = [0; 4];
            if !kernel.read(entry.checked_add(self.name_length.offset)?, &mut length) {
                return None;
            }
            let length = u64::from(u32::from_le_bytes(length)).min(LONGEST_NAME);
            let name = kernel.part(pointer(entry, self.name)?, length.checked_add(1)?)?;
            names.bytes.extend(name.bytes);
            names.spans.extend(name.spans);
            entry = parent;
        }
        None
    }

    /// The path that the names make.
    pub(crate) fn path(names: &Part) -> Option<String> {
        let names = names.bytes.strip_suffix(b"\0")?;
        let parts: Vec<String> = names.split(|b| *b == 0).rev().map(clean).collect();
        Some(format!("/{}", parts.join("/")))
    }

    /// Whether the file had no name any more; not known where the pointer is missing.
    pub(crate) fn is_deleted(hashed: &Part) -> Option<bool> {
        (hashed.bytes.len() == 8).then(|| hashed.bytes.iter().all(|b| *b == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Span;

    #[test]
    fn names_become_a_path_from_the_root_down() {
        let names = Part { bytes: b"sshd\0sbin\0usr\0".to_vec(), spans: vec![Span::new(0, 14)] };
        assert_eq!(PathReader::path(&names).as_deref(), Some("/usr/sbin/sshd"));
        assert_eq!(PathReader::path(&Part::default()), None);
        assert_eq!(PathReader::is_deleted(&Part { bytes: vec![0; 8], spans: vec![] }), Some(true));
        assert_eq!(PathReader::is_deleted(&Part::default()), None);
    }
}
