//! Unpacks a tar of `--give` into an empty folder. Whoever sends it is not trusted.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use custody::case_layout;

use crate::failure::Failure;
use crate::ui;

/// Files and folders of one bundle.
const MOST_FILES: u64 = 2_000_000;
/// Folders within folders of one bundle.
const DEEPEST: usize = 6;
/// Bytes of a name that does not fit into a header, which is the only thing of a tar that is held in memory.
const LONGEST_NAME: u64 = 4096;
/// Bytes that are written between two looks at the room that is left.
const STEP: u64 = 16 << 20;
/// What a bundle whose data lies in its folder has none of: a place elsewhere, and what would make a case of it.
const NOT_OF_A_BUNDLE: [&str; 5] =
    [case_layout::CASE, case_layout::EXHIBITS, case_layout::MIRROR, "store.json", "uploads.journal"];

/// How much may be written.
pub(super) struct Room<'a> {
    /// Bytes of files at most.
    pub(super) most: u64,
    /// Bytes that the file system can take without being filled.
    pub(super) free: &'a dyn Fn() -> io::Result<u64>,
}

/// Bytes that the file system of a folder can take so that a twentieth of it, or a GiB, is left to all others.
pub(super) fn free_at(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let reserve = (bytes(found.f_blocks) / 20).min(1 << 30);
    Ok(bytes(found.f_bavail).saturating_sub(reserve))
}

fn refused(why: &str) -> Failure {
    Failure::verification(format!("what came is refused: a member {why}"))
}

/// Unpacks into an empty folder: only regular files below `name`, each once, at plain names, as much as there is room for.
pub(super) fn unpack(from: impl Read, name: &str, folder: &Path, room: &Room<'_>) -> Result<(), Failure> {
    let mut archive = tar::Archive::new(from);
    let (mut bytes, mut files) = (0u64, 0u64);
    let mut long_name = None;
    // Raw: else the library would read names and attributes of any length into memory.
    for entry in archive.entries()?.raw(true) {
        let mut entry =
            entry.map_err(|error| Failure::verification(format!("what came is no whole tar: {error}")))?;
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if kind == tar::EntryType::GNULongName {
            if size > LONGEST_NAME || long_name.is_some() {
                return Err(refused("has a name that is too long"));
            }
            long_name = Some(read_name(&mut entry, size)?);
            continue;
        }
        if !matches!(kind, tar::EntryType::Regular | tar::EntryType::Directory) {
            return Err(refused("is neither a file nor a folder"));
        }
        let path = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = below(&path, name).ok_or_else(|| refused("lies outside of the exhibit's folder"))?;
        if NOT_OF_A_BUNDLE.iter().any(|other| path.starts_with(other)) {
            return Err(refused("is no file of a bundle that lies where it is"));
        }
        files = files.saturating_add(1);
        if files > MOST_FILES || size > room.most.saturating_sub(bytes) {
            return Err(refused("goes beyond the limit").hint("a larger one is taken with --most"));
        }
        is_room_for(size, room)?;
        let to = folder.join(&path);
        if kind == tar::EntryType::Directory {
            if size > 0 {
                return Err(refused("is a folder with content"));
            }
            std::fs::create_dir_all(&to)?;
            continue;
        }
        if let Some(above) = to.parent().filter(|above| *above != folder) {
            std::fs::create_dir_all(above)?;
        }
        // Nothing is ever overwritten, and no link is followed.
        let mut file = File::options().write(true).create_new(true).open(&to)?;
        copy(&mut entry, &mut file, size, room)?;
        file.sync_all()?;
        bytes = bytes.saturating_add(size);
    }
    if files == 0 || long_name.is_some() {
        return Err(Failure::verification("nothing came, or only its beginning"));
    }
    Ok(())
}

/// Reads the name of the member after this one.
fn read_name(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, Failure> {
    let mut name = Vec::new();
    entry.take(LONGEST_NAME).read_to_end(&mut name)?;
    if name.len() as u64 != size {
        return Err(refused("ends before its size"));
    }
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// Copies a member's content, and looks at the room again and again: others write there too.
fn copy(from: &mut impl Read, to: &mut File, size: u64, room: &Room<'_>) -> Result<(), Failure> {
    let mut left = size;
    while left > 0 {
        let part = left.min(STEP);
        is_room_for(part, room)?;
        if io::copy(&mut from.by_ref().take(part), to)? != part {
            return Err(refused("ends before its size"));
        }
        left = left.saturating_sub(part);
    }
    Ok(())
}

fn is_room_for(bytes: u64, room: &Room<'_>) -> Result<(), Failure> {
    let free = (room.free)()?;
    if bytes <= free && free > 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "there is no room: a member has {} to come, and the case's file system can take {} before it is filled",
        ui::bytes(bytes),
        ui::bytes(free)
    ))
    .hint("nothing of it was kept; make room, and take it again"))
}

/// The path of a member below the exhibit's folder, if all of it is plain.
fn below(path: &[u8], name: &str) -> Option<PathBuf> {
    let path = Path::new(std::str::from_utf8(path).ok()?);
    let plain = |part: &str| {
        !part.starts_with('.')
            && part.len() <= 255
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let mut parts = path.components();
    if parts.next() != Some(Component::Normal(name.as_ref())) {
        return None;
    }
    let rest: Vec<&str> = parts
        .map(|part| match part {
            Component::Normal(part) => part.to_str().filter(|part| plain(part)),
            _ => None,
        })
        .collect::<Option<_>>()?;
    (!rest.is_empty() && rest.len() <= DEEPEST).then(|| rest.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn header(path: &[u8], kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        // Set by hand: the library refuses to write what a hostile one would.
        header.as_old_mut().name.get_mut(..path.len()).unwrap().copy_from_slice(path);
        header.set_size(size);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn tar_of(members: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, content) in members {
            let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
            let mut header = header(path, *kind, if is_link { 0 } else { content.len() as u64 });
            if is_link {
                header.set_link_name("/etc/passwd").unwrap();
                header.set_cksum();
            }
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    fn unpack_up_to(tar: &[u8], to: &Path, most: u64) -> Result<(), Failure> {
        unpack(tar, "E001-x", to, &Room { most, free: &|| Ok(u64::MAX) })
    }

    #[test]
    fn what_was_given_is_taken_as_it_was() {
        let from = tempfile::tempdir().unwrap();
        let long = "n".repeat(120);
        std::fs::create_dir_all(from.path().join("data/disk")).unwrap();
        std::fs::create_dir(from.path().join("anchors")).unwrap();
        std::fs::write(from.path().join("data/disk/000000.zst"), "abc").unwrap();
        std::fs::write(from.path().join("data").join(&long), "").unwrap();
        std::fs::write(from.path().join("custody.jsonl"), "").unwrap();
        let mut tar = Vec::new();
        assert_eq!(super::super::pack(from.path(), "E001-x", &mut tar).unwrap(), 3);
        let to = tempfile::tempdir().unwrap();
        unpack_up_to(&tar, to.path(), 3).unwrap();
        assert_eq!(std::fs::read(to.path().join("data/disk/000000.zst")).unwrap(), b"abc");
        assert!(to.path().join("anchors").is_dir() && to.path().join("custody.jsonl").is_file());
        assert!(to.path().join("data").join(&long).is_file());
        // Twice into the same place overwrites nothing.
        assert!(unpack_up_to(&tar, to.path(), 3).is_err());
        for end in [1, 511, 600, 1030] {
            assert!(unpack_up_to(&tar[..end], tempfile::tempdir().unwrap().path(), 3).is_err(), "{end}");
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_exhibits_folder_whoever_sends_it() {
        let above = tempfile::tempdir().unwrap();
        for (path, kind) in [
            (&b"../evil"[..], FILE),
            (b"/etc/evil", FILE),
            (b"E001-x/../../evil", FILE),
            (b"E001-x", FILE),
            (b"E002-x/a", FILE),
            (b"E001-x/a b", FILE),
            (b"E001-x/.hidden", FILE),
            (b"E001-x/a\n", FILE),
            (b"E001-x/\xff", FILE),
            (b"E001-x/1/2/3/4/5/6/7", FILE),
            (b"E001-x/link", tar::EntryType::Symlink),
            (b"E001-x/hard", tar::EntryType::Link),
            (b"E001-x/pipe", tar::EntryType::Fifo),
            (b"E001-x/dev", tar::EntryType::Char),
            (b"E001-x/folder", tar::EntryType::Directory),
            // What would have it read as a case, or its data looked for elsewhere.
            (b"E001-x/case.json", FILE),
            (b"E001-x/exhibits/E001-y/custody.jsonl", FILE),
            (b"E001-x/store.json", FILE),
            (b"E001-x/custody.mirror", FILE),
        ] {
            let to = above.path().join("to");
            std::fs::create_dir(&to).unwrap();
            let tar = tar_of(&[(path, kind, b"x")]);
            assert!(unpack_up_to(&tar, &to, 1000).is_err(), "{path:?}");
            std::fs::remove_dir(&to).unwrap_or_else(|error| panic!("{path:?} left something: {error}"));
            assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 0, "{path:?}");
        }
        let tar = tar_of(&[(b"E001-x/a", FILE, &[0; 600]), (b"E001-x/b", FILE, &[0; 600])]);
        assert!(unpack_up_to(&tar, tempfile::tempdir().unwrap().path(), 1000).is_err());
        assert!(unpack_up_to(&tar_of(&[]), above.path(), 1000).is_err());
    }

    /// Zeros without end, of which it is told how many were read.
    struct Endless<'a>(&'a std::cell::Cell<u64>);

    impl Read for Endless<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            to.fill(b'a');
            self.0.set(self.0.get() + to.len() as u64);
            Ok(to.len())
        }
    }

    #[test]
    fn names_and_attributes_of_any_length_are_refused_before_they_are_read() {
        for kind in [
            tar::EntryType::GNULongName,
            tar::EntryType::GNULongLink,
            tar::EntryType::XHeader,
            tar::EntryType::XGlobalHeader,
            tar::EntryType::GNUSparse,
        ] {
            let read = std::cell::Cell::new(0);
            let header = header(b"E001-x/a", kind, 1 << 40);
            let endless = (&header.as_bytes()[..]).chain(Endless(&read));
            let to = tempfile::tempdir().unwrap();
            let room = Room { most: u64::MAX, free: &|| Ok(u64::MAX) };
            assert!(unpack(endless, "E001-x", to.path(), &room).is_err(), "{kind:?}");
            assert!(read.get() < 1 << 20, "{} bytes of {kind:?} were read", read.get());
        }
        // A name that names a file outside is no better when it is long, and one without a file is nothing.
        let name = tar_of(&[(b"././@LongLink", tar::EntryType::GNULongName, b"E001-x/../evil\0")]);
        let file = tar_of(&[(b"E001-x/a", FILE, b"x")]);
        let headers = name.len() - 1024;
        let to = tempfile::tempdir().unwrap();
        assert!(unpack_up_to(&[&name[..headers], &file].concat(), to.path(), 1000).is_err());
        assert!(unpack_up_to(&name, to.path(), 1000).is_err());
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_system_is_not_filled_whatever_size_is_claimed() {
        let mut tar = header(b"E001-x/a", FILE, 1 << 40).as_bytes().to_vec();
        tar.write_all(&[0; 4096]).unwrap();
        let to = tempfile::tempdir().unwrap();
        let room = Room { most: u64::MAX, free: &|| Ok(1 << 30) };
        let failure = unpack(&tar[..], "E001-x", to.path(), &room).unwrap_err();
        assert!(failure.words().contains("there is no room"), "{}", failure.words());
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
        // Somebody else fills it meanwhile.
        let free = std::cell::Cell::new(64 << 20);
        let shrinking = || {
            free.set(free.get() / 2);
            Ok(free.get())
        };
        let read = std::cell::Cell::new(0);
        let header = header(b"E001-x/a", FILE, 32 << 20);
        let failure = unpack(
            (&header.as_bytes()[..]).chain(Endless(&read)),
            "E001-x",
            to.path(),
            &Room { most: u64::MAX, free: &shrinking },
        );
        assert!(failure.unwrap_err().words().contains("there is no room"));
        assert!(read.get() <= 17 << 20);
        assert!(free_at(to.path()).is_ok());
    }
}
