//! What a collector packed: its members, and where they lay on the host that they come from.

use std::collections::HashSet;
use std::sync::Arc;

use crate::bytes::{ByteSource, StreamRange, Window, read_vec};
use crate::error::ReadError;
use crate::event::Span;
use crate::text::{clean, unescaped};

use super::inflated::{Inflated, InflatedBlocks};
use super::{tar_members, zip_members};

/// Issues of one kind are listed so often; the rest is counted.
const LISTED: usize = 100;
/// A link's target is no longer.
const LONGEST_TARGET: u64 = 4096;

/// How a collector names what it packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The names are paths on the host.
    AsOnTheHost,
    /// UAC: the host's files below `[root]/`; all else is the collector's own.
    Uac,
    /// Velociraptor: `uploads/ACCESSOR/…`, each part of the path percent-encoded.
    Velociraptor,
    /// KAPE: a folder for each drive, named by its letter.
    Kape,
}

impl Layout {
    /// The path on the host of the member `name`; `None` for what the collector made itself.
    ///
    /// Of Windows paths the drive `C:` becomes the folder `/C`.
    ///
    /// ```
    /// use timeline::images::collection::Layout;
    /// assert_eq!(Layout::Uac.host_path(b"[root]/var/log/syslog").unwrap(), b"/var/log/syslog");
    /// assert_eq!(Layout::Velociraptor.host_path(b"uploads/auto/C%3A/a%25b").unwrap(), b"/C/a%b");
    /// assert_eq!(Layout::Uac.host_path(b"live_response/process/ps.txt"), None);
    /// ```
    pub fn host_path(self, name: &[u8]) -> Option<Vec<u8>> {
        let parts: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        let join = |parts: &[Vec<u8>]| [b"/".as_slice(), &parts.join(&b'/')].concat();
        let owned = |parts: &[&[u8]]| parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>();
        match self {
            Layout::AsOnTheHost => Some(join(&owned(&parts))),
            Layout::Uac => {
                // Someone may have packed the folder that holds it all.
                let root = parts.iter().take(2).position(|part| *part == b"[root]")?;
                Some(join(&owned(parts.get(root + 1..)?)))
            }
            Layout::Velociraptor => {
                // A server's export puts the client's and the flow's folders before it.
                let uploads = parts.iter().take(6).position(|part| *part == b"uploads")?;
                let rest = parts.get(uploads + 2..).filter(|rest| !rest.is_empty())?;
                // RFC 3986, 2.1; what is no escape stays as it is.
                let mut decoded: Vec<Vec<u8>> = rest.iter().map(|part| unescaped(part, b"%")).collect();
                if let Some(first) = decoded.first_mut() {
                    *first = without_device(first);
                }
                Some(join(&decoded))
            }
            Layout::Kape => {
                let drive = parts.iter().take(3).position(|part| is_drive_letter(part))?;
                let mut path = owned(parts.get(drive..)?);
                path.first_mut()?.make_ascii_uppercase();
                Some(join(&path))
            }
        }
    }
}

fn is_drive_letter(part: &[u8]) -> bool {
    matches!(part, [letter] if letter.is_ascii_alphabetic())
}

/// `C:` and `\\.\C:` as `C`; anything else as it is.
fn without_device(part: &[u8]) -> Vec<u8> {
    let rest = part.strip_prefix(b"\\\\.\\").or_else(|| part.strip_prefix(b"\\\\?\\")).unwrap_or(part);
    match rest {
        [letter, b':'] if letter.is_ascii_alphabetic() => vec![letter.to_ascii_uppercase()],
        _ => part.to_vec(),
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file with content.
    File,
    /// A symbolic link to here.
    Link(Vec<u8>),
    /// A folder, a hard link, a device, or something whose content is not read.
    Other,
}

/// How the content of a zip member is deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deflated {
    /// Its length when inflated.
    pub(super) length: u64,
    /// CRC-32 of what it inflates to.
    pub(super) crc: u32,
}

/// A member of an archive, as its headers tell of it. Spans are in the bytes of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name in the archive.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// What says its times: the headers of a tar, the directory entry of a zip.
    pub(crate) facts: Span,
    /// Its content as stored.
    pub(super) content: Span,
    pub(super) deflated: Option<Deflated>,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
}

/// The members of an archive, and what is damaged or not read in it.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) list: Vec<Member>,
    pub(crate) issues: Vec<String>,
    unlisted: usize,
}

impl Members {
    pub(super) fn issue(&mut self, at: u64, what: String) {
        if self.issues.len() < LISTED {
            self.issues.push(format!("at byte {at}: {what}"));
        } else {
            self.unlisted += 1;
        }
    }
}

/// An archive, opened.
pub(crate) struct Collection {
    /// Its place in a locator behind the stream's: `gzip/tar`, `tar`, `zip`.
    pub(crate) form: &'static str,
    /// The bytes that the members' facts are in: the stream, or what it unpacks to.
    pub(crate) archive: Arc<dyn ByteSource>,
    pub(crate) members: Members,
    blocks: Arc<InflatedBlocks>,
}

impl Collection {
    /// Opens a tar, a gzip-compressed tar or a zip, told by its first bytes; the inner error says what else it is.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the stream cannot be read.
    pub(crate) fn open(stream: Arc<dyn ByteSource>) -> Result<Result<Collection, String>, ReadError> {
        let head = read_vec(&*stream, 0, 512)?;
        let blocks = InflatedBlocks::new();
        let (form, archive): (_, Arc<dyn ByteSource>) = match head.as_slice() {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => ("zip", stream),
            [0x1f, 0x8b, 8, ..] => {
                let name = "the gzip file".to_owned();
                ("gzip/tar", Arc::new(Inflated::gzip(name, stream, blocks.clone())?))
            }
            _ if crate::parsers::file_times::TarHeader(&head).is_sound() => ("tar", stream),
            _ => return Ok(Err(format!("neither tar nor zip: it is {}", crate::file_kinds::kind_of(&head)))),
        };
        let members = match form {
            "zip" => zip_members::read(&*archive)?,
            _ => tar_members::read(&*archive)?,
        };
        Ok(Ok(Collection { form, archive, members, blocks }))
    }

    /// The content of a file.
    pub(crate) fn content(&self, member: &Member) -> Arc<dyn ByteSource> {
        let stored = Window::new(self.archive.clone(), member.content.offset, member.content.length);
        let stored: Arc<dyn ByteSource> = Arc::new(stored);
        let content: Arc<dyn ByteSource> = match member.deflated {
            None => stored,
            Some(Deflated { length, crc }) => {
                let name = clean(&member.name);
                Arc::new(Inflated::deflate(name, stored, length, crc, self.blocks.clone()))
            }
        };
        Arc::new(Content { content, archive: self.archive.clone(), facts: member.facts })
    }

    /// Where a symbolic link points: a zip keeps that as its content.
    pub(crate) fn target(&self, member: &Member) -> Option<Vec<u8>> {
        match &member.kind {
            Kind::Link(target) if !target.is_empty() => Some(target.clone()),
            Kind::Link(_) => {
                let content = self.content(member);
                let length = content.len().min(LONGEST_TARGET) as usize;
                read_vec(&*content, 0, length).ok()
            }
            _ => None,
        }
    }

    /// Everything that is damaged or not read, as found so far.
    pub(crate) fn issues(&self) -> Vec<String> {
        let mut issues = self.members.issues.clone();
        if self.members.unlisted > 0 {
            issues.push(format!("{} more issues are not listed", self.members.unlisted));
        }
        issues.extend(self.blocks.issues.to_vec().iter().map(ToString::to_string));
        issues
    }

    /// Members that Velociraptor stored without their holes: beside each lies an index of what is where.
    pub(crate) fn without_holes(&self) -> usize {
        let names: HashSet<&[u8]> = self.members.list.iter().map(|member| member.name.as_slice()).collect();
        names.iter().filter(|name| name.strip_suffix(b".idx").is_some_and(|of| names.contains(of))).count()
    }
}

/// A member's content, which knows the headers that say where it lies.
struct Content {
    content: Arc<dyn ByteSource>,
    archive: Arc<dyn ByteSource>,
    facts: Span,
}

impl ByteSource for Content {
    fn len(&self) -> u64 {
        self.content.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.content.read_at(offset, buf)
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        self.content.stream_ranges(offset, length)
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        self.archive.stream_ranges(self.facts.offset, self.facts.length)
    }

    fn stored_as(&self, offset: u64, length: u64) -> Option<&'static str> {
        self.content.stored_as(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/collections");
        std::fs::read(folder.join(name)).unwrap()
    }

    /// Reads everything: how many members gave their bytes whole.
    fn read_all(bytes: Vec<u8>) -> Option<(usize, Vec<String>)> {
        let collection = Collection::open(Arc::new(bytes)).unwrap().ok()?;
        let whole = collection.members.list.iter().filter(|member| {
            let content = collection.content(member);
            let _ = collection.target(member);
            let length = content.len().min(1 << 20) as usize;
            read_vec(&*content, 0, length).is_ok_and(|read| read.len() == length)
        });
        Some((whole.count(), collection.issues()))
    }

    fn inflated(stored: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(stored), &mut plain).unwrap();
        plain
    }

    #[test]
    fn an_archive_cut_at_any_length_says_so_and_gives_what_is_left() {
        let uac = sample("uac-web02-linux-20261104120000.tar.gz");
        let plain = inflated(&uac);
        // The zeros that fill a tar up may be missing.
        let end = plain.len() - plain.iter().rev().take_while(|byte| **byte == 0).count();
        for (whole, end) in [
            (uac.clone(), uac.len()),
            (plain, end),
            (sample("Collection-db01-2026-11-04T12_00_00Z.zip"), usize::MAX),
            (sample("kape-ws07.zip"), usize::MAX),
        ] {
            let (members, issues) = read_all(whole.clone()).unwrap();
            assert!(members > 2 && issues.is_empty(), "{issues:?}");
            for length in 0..whole.len().min(end) {
                if let Some((_, issues)) = read_all(whole[..length].to_vec()) {
                    assert!(!issues.is_empty(), "{length} of {}", whole.len());
                }
            }
        }
    }

    #[test]
    fn an_archive_with_any_byte_changed_is_read_without_a_panic() {
        let uac = sample("uac-web02-linux-20261104120000.tar.gz");
        for whole in
            [inflated(&uac), sample("Collection-db01-2026-11-04T12_00_00Z.zip"), sample("kape-ws07.zip"), uac]
        {
            // Every byte of the headers, and every 11th of the rest.
            for at in (0..whole.len()).filter(|at| whole.len() < 3000 || at % 11 == 0) {
                for change in [0xFF, 0x01] {
                    let mut changed = whole.clone();
                    changed[at] ^= change;
                    read_all(changed);
                }
            }
        }
    }

    #[test]
    fn names_in_a_collection_become_the_paths_that_the_files_had() {
        let path = |layout: Layout, name: &str| {
            layout.host_path(name.as_bytes()).map(|path| String::from_utf8_lossy(&path).into_owned())
        };
        for (name, expected) in [
            ("[root]/etc/passwd", Some("/etc/passwd")),
            ("./[root]//var/log/auth.log", Some("/var/log/auth.log")),
            ("uac-web01-linux-20261104/[root]/etc/passwd", Some("/etc/passwd")),
            ("bodyfile/bodyfile.txt", None),
            ("a/b/[root]/etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(path(Layout::Uac, name).as_deref(), expected, "{name}");
        }
        for (name, expected) in [
            ("uploads/auto/var/log/syslog", Some("/var/log/syslog")),
            ("uploads/file/home/a%20b/%2Ebash_history", Some("/home/a b/.bash_history")),
            ("uploads/auto/c%3A/Windows/a%2", Some("/C/Windows/a%2")),
            ("uploads/ntfs/%5C%5C.%5CC%3A/$MFT", Some("/C/$MFT")),
            ("clients/C.1/collections/F.2/uploads/auto/etc/passwd", Some("/etc/passwd")),
            ("uploads/auto", None),
            ("results/Linux.Sys.Users.json", None),
        ] {
            assert_eq!(path(Layout::Velociraptor, name).as_deref(), expected, "{name}");
        }
        assert_eq!(path(Layout::Kape, "C/Users/a/NTUSER.DAT").as_deref(), Some("/C/Users/a/NTUSER.DAT"));
        assert_eq!(path(Layout::Kape, "2026-11-04/d/x").as_deref(), Some("/D/x"));
        assert_eq!(path(Layout::Kape, "ConsoleLog.txt"), None);
        assert_eq!(path(Layout::AsOnTheHost, "./etc/passwd").as_deref(), Some("/etc/passwd"));
    }
}
