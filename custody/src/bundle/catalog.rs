//! The catalogue of a stream of files: one strict JSON line a member, read without holding all.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::manifest::StoredFile;
use super::store::{BundleStore, StoreFile};
use super::writer::HashedFile;
use crate::digest::{Digest, Hasher};
use crate::keys::random;
use crate::merkle::Frontier;
use crate::strict_json;

/// The field of a line that makes it unguessable: 32 hexadecimal digits. Readers pass over it.
const SALT: &str = "salt";

/// No line is longer: Linux allows 64 KiB a path's xattr names and 64 KiB a value.
const LONGEST_LINE: usize = 4 << 20;

/// What a member of a stream of files is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberKind {
    /// A regular file.
    #[default]
    File,
    /// A folder.
    Folder,
    /// A symbolic link; never followed.
    Symlink,
    /// A further name of a file that an earlier entry holds.
    Hardlink,
    /// A named pipe, without content.
    Pipe,
    /// A socket, without content.
    Socket,
    /// A character device, without content.
    Character,
    /// A block device, without content.
    Block,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr {
    /// Its name, escaped.
    pub name: String,
    /// Its value in Base64.
    pub value: String,
}

/// One member of a stream of files. Unknown facts are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// Last access: RFC 3339, UTC, 9 digits, as all times here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub atime: Option<String>,
    /// Creation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub btime: Option<String>,
    /// Change of the inode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ctime: Option<String>,
    /// Device that holds the file: `major:minor`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dev: Option<String>,
    /// What went wrong with this member, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub errors: Vec<String>,
    /// Offset in the stream of the member's first tar header block.
    pub header: u64,
    /// Bytes of all header blocks: the content follows them.
    pub header_size: u64,
    /// Inode number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<String>,
    /// What the member is.
    pub kind: MemberKind,
    /// Where a link leads, escaped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<String>,
    /// Type and permission bits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<u32>,
    /// Change of the content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mtime: Option<String>,
    /// Offset of the content in the stream.
    pub offset: u64,
    /// Absolute path, escaped.
    pub path: String,
    /// SHA-256 of the content as stored; only of regular files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Digest>,
    /// Bytes of content in the stream.
    pub size: u64,
    /// Group number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<u32>,
    /// User number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Extended attributes.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub xattrs: Vec<Xattr>,
}

impl CatalogEntry {
    /// The line of the catalogue, with its LF.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where a value cannot be told in strict JSON, or the line is too long.
    pub fn to_line(&self) -> Result<String> {
        let refused =
            |reason: String| Error::Refused { reason: format!("catalogue entry {:?}: {reason}", self.path) };
        let value = serde_json::to_value(self).map_err(|error| refused(error.to_string()))?;
        let mut line = strict_json::to_line(&value).map_err(|error| refused(error.to_string()))?;
        line.push('\n');
        if line.len() > LONGEST_LINE {
            return Err(Error::Refused {
                reason: format!("catalogue entry {:?} is longer than 4 MiB", self.path),
            });
        }
        Ok(line)
    }

    /// The line as a tree holds it, without its LF: with 128 random bits, so that nobody who is given one line and the
    /// tree's root can find out another by trying.
    fn to_salted_line(&self) -> Result<String> {
        let refused =
            |reason: String| Error::Refused { reason: format!("catalogue entry {:?}: {reason}", self.path) };
        let salt = random::<16>().map_err(|error| refused(error.to_string()))?;
        let mut value = serde_json::to_value(self).map_err(|error| refused(error.to_string()))?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert(SALT.to_owned(), hex::encode(salt).into());
        }
        let line = strict_json::to_line(&value).map_err(|error| refused(error.to_string()))?;
        if line.len() >= LONGEST_LINE {
            return Err(refused("longer than 4 MiB".to_owned()));
        }
        Ok(line)
    }

    /// Reads a line that left its catalogue, without its LF.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(line: &[u8]) -> std::result::Result<Self, String> {
        Self::from_line(line, u64::MAX)
    }

    fn from_line(line: &[u8], stream_size: u64) -> std::result::Result<Self, String> {
        let value = strict_json::parse(line).map_err(|error| error.to_string())?;
        let entry: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let content = entry.header.checked_add(entry.header_size).ok_or("header_size cannot be")?;
        let end = entry.offset.checked_add(entry.size).ok_or("size cannot be")?;
        if entry.offset != content || end > stream_size {
            return Err(format!(
                "the member ends at {end} of {stream_size} bytes, or does not follow its header"
            ));
        }
        Ok(entry)
    }
}

/// A time as the catalogue and the log write it: RFC 3339, UTC, 9 digits. `None` outside the years 0 to 9999.
#[must_use]
pub fn file_time(seconds: i64, nanoseconds: u32) -> Option<String> {
    let time = DateTime::<Utc>::from_timestamp(seconds, nanoseconds)?;
    let text = time.to_rfc3339_opts(SecondsFormat::Nanos, true);
    (text.len() == 30).then_some(text)
}

/// A catalogue while it is written: a line for each file, and the tree over them.
#[derive(Debug)]
pub struct CatalogWriter {
    file: HashedFile,
    tree: Frontier,
}

impl CatalogWriter {
    /// Writes into this file.
    #[must_use]
    pub fn new(file: HashedFile) -> Self {
        Self { file, tree: Frontier::new() }
    }

    /// Adds a file's line, with a random salt.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where a value cannot be told in strict JSON, or the line is too long; [`Error::Write`].
    pub fn append(&mut self, entry: &CatalogEntry) -> Result<()> {
        let mut line = entry.to_salted_line()?;
        self.tree.push(line.as_bytes());
        line.push('\n');
        self.file.append(line.as_bytes())
    }

    /// Makes the file durable; gives what was stored and the root for [`super::Stream::catalog_root`].
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn finish(self) -> Result<(StoredFile, Digest)> {
        Ok((self.file.finish()?, self.tree.root()))
    }
}

/// Iterates over a catalogue. Its last item is an error if the file is not the one that the manifest names.
pub struct CatalogReader {
    file: StoredFile,
    stream_size: u64,
    input: BufReader<StoreFile>,
    hasher: Option<Hasher>,
    bytes: u64,
    line: u64,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for CatalogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogReader")
            .field("file", &self.file.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl CatalogReader {
    pub(crate) fn new(store: Arc<dyn BundleStore>, file: &StoredFile, stream_size: u64) -> Self {
        Self {
            input: BufReader::with_capacity(64 << 10, StoreFile::new(store, &file.path)),
            file: file.clone(),
            stream_size,
            hasher: Some(Hasher::new()),
            bytes: 0,
            line: 0,
            buffer: Vec::new(),
        }
    }

    /// The line of the entry that came last, without its LF: what its leaf of the tree holds.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer)
    }

    fn read_line(&mut self) -> Result<Option<CatalogEntry>> {
        let Some(hasher) = self.hasher.as_mut() else { return Ok(None) };
        self.buffer.clear();
        let read = Read::take(&mut self.input, LONGEST_LINE as u64 + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| Error::read(&self.file.path, source))?;
        if read == 0 {
            let found = self.hasher.take().map(Hasher::finish);
            if self.bytes != self.file.size || found != Some(self.file.sha256) {
                return Err(Error::Altered {
                    path: self.file.path.clone(),
                    expected: format!("{} bytes, {}", self.file.size, self.file.sha256),
                    found: format!(
                        "{} bytes, {}",
                        self.bytes,
                        found.map(|hash| hash.to_string()).unwrap_or_default()
                    ),
                });
            }
            return Ok(None);
        }
        hasher.update(&self.buffer);
        self.bytes = self.bytes.saturating_add(read as u64);
        self.line += 1;
        let wrong = |reason: String| Error::table(&self.file.path, self.line, reason);
        let Some(line) = self.buffer.strip_suffix(b"\n") else {
            return Err(wrong("the line is cut or too long".to_owned()));
        };
        CatalogEntry::from_line(line, self.stream_size).map(Some).map_err(wrong)
    }
}

impl Iterator for CatalogReader {
    type Item = Result<CatalogEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read_line().transpose();
        if matches!(item, Some(Err(_))) {
            self.hasher = None;
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::store::LocalFolder;
    use crate::digest::sha256;

    fn entry() -> CatalogEntry {
        CatalogEntry {
            atime: file_time(1_700_000_000, 5),
            btime: None,
            ctime: file_time(-1, 999_999_999),
            dev: Some("8:1".into()),
            errors: vec!["grew by 7 bytes while it was read".into()],
            header: 512,
            header_size: 1536,
            inode: Some("18446744073709551615".into()),
            kind: MemberKind::File,
            link: None,
            mode: Some(0o100_644),
            mtime: file_time(0, 0),
            offset: 2048,
            path: r"/var/log/a\x0ab".into(),
            sha256: Some(sha256(b"abc")),
            size: 3,
            gid: Some(0),
            uid: Some(1000),
            xattrs: vec![Xattr { name: "user.x".into(), value: "AAE=".into() }],
        }
    }

    fn read(text: &str, claimed: &str) -> Vec<Result<CatalogEntry>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("data/files.catalog.jsonl"), text).unwrap();
        let file = StoredFile {
            path: "data/files.catalog.jsonl".into(),
            plain: None,
            sha256: sha256(claimed.as_bytes()),
            size: claimed.len() as u64,
        };
        CatalogReader::new(Arc::new(LocalFolder::new(folder.path())), &file, 1 << 20).collect()
    }

    #[test]
    fn times_have_nine_digits_and_stay_within_four_digit_years() {
        assert_eq!(file_time(0, 1).unwrap(), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(file_time(-1, 999_999_999).unwrap(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(file_time(253_402_300_800, 0), None);
        assert_eq!(file_time(i64::MIN, 0), None);
    }

    #[test]
    fn entries_come_back_equal_and_in_order() {
        let text = entry().to_line().unwrap() + &entry().to_line().unwrap();
        let entries: Vec<_> = read(&text, &text).into_iter().map(Result::unwrap).collect();
        assert_eq!(entries, [entry(), entry()]);
    }

    #[test]
    fn a_written_catalogue_reads_back_and_its_lines_give_its_root_and_never_twice_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFolder::new(folder.path());
        let mut made = Vec::new();
        for name in ["one", "two"] {
            let file = HashedFile::begin(&store, &format!("data/{name}.catalog.jsonl")).unwrap();
            let mut writer = CatalogWriter::new(file);
            for _ in 0..3 {
                writer.append(&entry()).unwrap();
            }
            made.push(writer.finish().unwrap());
        }
        assert_ne!(made[0].1, made[1].1, "the salt is not random");
        let mut reader = CatalogReader::new(Arc::new(store), &made[0].0, 1 << 20);
        let mut lines = Vec::new();
        while let Some(read) = reader.next() {
            assert_eq!(read.unwrap(), entry());
            assert_eq!(CatalogEntry::parse(reader.line()).unwrap(), entry());
            lines.push(reader.line().to_vec());
        }
        assert_eq!(crate::merkle::root_of(&lines), made[0].1);
        assert!(lines[0] != lines[1] && lines[1] != lines[2]);
    }

    #[test]
    fn a_changed_or_cut_catalogue_ends_in_an_error() {
        let text = entry().to_line().unwrap();
        let changed = text.replace("1000", "1001");
        assert!(matches!(read(&changed, &text).last(), Some(Err(Error::Altered { .. }))));
        assert!(matches!(read(text.trim_end(), &text).as_slice(), [Err(Error::Table { line: 1, .. })]));
        let outside = text.replace("\"size\":3", "\"size\":9007199254740991");
        assert!(matches!(read(&outside, &outside).as_slice(), [Err(Error::Table { line: 1, .. })]));
    }
}
