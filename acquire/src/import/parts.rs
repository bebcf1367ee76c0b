//! The files of a foreign image: found, put in order, and read as one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use custody::strict_json::escape_text;
use rustix::fs::{CWD, OFlags};

use crate::error::{Error, Result};
use crate::ewf::{FILE_HEADER, SIGNATURE, segment_number, segment_path};
use crate::sources::disk::open_read_only;

/// A process may have 1024 files open where nobody said otherwise, so the files of a larger set are opened when they are
/// read.
const MOST_OPEN: usize = 200;

/// One file of the set.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Its name, escaped.
    pub(super) name: String,
    /// Kept open, unless the set has many parts.
    file: Option<File>,
    pub(super) size: u64,
    /// Where it begins in the set.
    pub(super) start: u64,
    /// Inode, and when it was last written to.
    identity: (u64, u64, i64, i64),
}

impl Part {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::OpenSource { path: path.to_owned(), source };
        // A pipe would hold us up for ever.
        let file = open_read_only(CWD, path, OFlags::NONBLOCK).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(refused(path, "it is no plain file"));
        }
        let name = escape_text(path.file_name().unwrap_or(path.as_os_str()).as_bytes());
        let (size, identity) = (metadata.len(), identity(&metadata));
        Ok(Self { path: path.to_owned(), name, file: Some(file), size, start: 0, identity })
    }

    /// Whether it was written to since it was opened, or is another file now.
    pub(super) fn has_changed(&self) -> bool {
        let now = self.file.as_ref().map_or_else(|| fs::metadata(&self.path), File::metadata);
        now.is_ok_and(|now| identity(&now) != self.identity || now.len() != self.size)
    }

    /// Reads at an offset; 0 bytes only at the end.
    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match &self.file {
            Some(file) => file.read_at(buf, offset),
            None => self.opened_again()?.read_at(buf, offset),
        }
    }

    /// Reads exactly so many bytes, unless the file ends before.
    pub(super) fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(buf, offset),
            None => self.opened_again()?.read_exact_at(buf, offset),
        }
    }

    fn opened_again(&self) -> io::Result<File> {
        let file = open_read_only(CWD, &self.path, OFlags::NONBLOCK)?;
        let metadata = file.metadata()?;
        let (now, then) = (identity(&metadata), self.identity);
        if (now.0, now.1) == (then.0, then.1) { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64, i64, i64) {
    (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// The files of a set in their order, read as one behind the other.
#[derive(Debug)]
pub(super) struct Parts {
    list: Vec<Part>,
    size: u64,
}

impl Parts {
    /// Opens files in the order that is given.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut parts = Self { list: Vec::new(), size: 0 };
        for path in paths {
            let mut part = Part::open(path)?;
            part.start = parts.size;
            parts.size = parts
                .size
                .checked_add(part.size)
                .ok_or_else(|| refused(path, "the files are larger together than any can be"))?;
            if paths.len() > MOST_OPEN {
                part.file = None;
            }
            parts.list.push(part);
        }
        Ok(parts)
    }

    pub(super) fn list(&self) -> &[Part] {
        &self.list
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The part that holds a byte.
    pub(super) fn part_at(&self, offset: u64) -> Option<&Part> {
        let after = self.list.partition_point(|part| part.start <= offset);
        // Empty parts begin where the next one does.
        self.list.get(after.checked_sub(1)?).filter(|part| offset - part.start < part.size)
    }

    /// Reads at an offset of the set; 0 bytes only at its end.
    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(part) = self.part_at(offset) else { return Ok(0) };
        let within = offset - part.start;
        let room = usize::try_from(part.size - within).unwrap_or(usize::MAX).min(buf.len());
        let read = part.read_at(within, buf.get_mut(..room).unwrap_or_default())?;
        let is_last = part.start.saturating_add(part.size) == self.size;
        if read == 0 && room > 0 && !is_last {
            // Behind a part that became shorter, nothing may move up.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::NotImportable { path: path.to_owned(), reason: reason.into() }
}

/// Files beside this one whose name is the same up to the ending, by the number that the ending stands for.
fn siblings(path: &Path, number: impl Fn(&OsStr) -> Option<u32>) -> Result<BTreeMap<u32, PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| Error::OpenSource { path: folder.to_owned(), source };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = Path::new(&name);
        if name.file_stem() == path.file_stem()
            && let Some(number) = name.extension().and_then(&number)
        {
            // The path as it was given, where it is this one: its folder may be spelled otherwise.
            found.insert(number, path.with_file_name(name));
        }
    }
    Ok(found)
}

/// Fails at the first number that is not there.
fn without_gap(
    found: BTreeMap<u32, PathBuf>,
    first: u32,
    name: impl Fn(u32) -> PathBuf,
) -> Result<Vec<PathBuf>> {
    let mut expected = first;
    let mut paths = Vec::new();
    for (number, path) in found {
        if number != expected {
            let missing = name(expected);
            return Err(refused(
                &missing,
                format!("this part of the set is missing, though {path:?} is there"),
            ));
        }
        expected = expected.saturating_add(1);
        paths.push(path);
    }
    Ok(paths)
}

/// The segments of an E01 of which any one, or all, are given.
pub(super) fn e01_set(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut set = BTreeMap::new();
    match given {
        [one] if ending_number(one).is_some() => {
            header_number(one)?;
            let is_small = |end: &OsStr| {
                end.to_str().is_some_and(|end| end.starts_with(|c: char| c.is_ascii_lowercase()))
            };
            let small = one.extension().is_some_and(is_small);
            set = siblings(one, |end| segment_number(end).filter(|_| is_small(end) == small).map(u32::from))?;
            // `.log` and `.raw` are endings of segments too, as much as `.EAA`.
            set.retain(|number, path| *number <= 99 || header_number(path).is_ok());
        }
        _ => {
            for path in given {
                let number = u32::from(header_number(path)?);
                if let Some(other) = set.insert(number, path.clone()) {
                    return Err(refused(path, format!("it is segment {number}, as is {other:?}")));
                }
            }
        }
    }
    let first = set.get(&1).cloned();
    let paths = without_gap(set, 1, |number| {
        let first = first.as_deref().or(given.first().map(PathBuf::as_path)).unwrap_or(Path::new(""));
        let number = u16::try_from(number).ok();
        let first = first.with_extension(
            first.extension().filter(|end| end.eq_ignore_ascii_case("e01")).unwrap_or(OsStr::new("E01")),
        );
        number.and_then(|number| segment_path(&first, number)).unwrap_or_default()
    })?;
    for (expected, path) in (1u16..).zip(&paths) {
        let number = header_number(path)?;
        if number != expected {
            return Err(refused(
                path,
                format!("its header says that it is segment {number}, not {expected}"),
            ));
        }
    }
    Ok(paths)
}

fn ending_number(path: &Path) -> Option<u16> {
    segment_number(path.extension()?)
}

/// The number that the file header of a segment tells.
fn header_number(path: &Path) -> Result<u16> {
    let part = Part::open(path)?;
    let mut header = [0; FILE_HEADER];
    let read = part.read_exact_at(0, &mut header);
    match (read, header) {
        (Ok(()), [signature @ .., _, low, high, _, _]) if signature == SIGNATURE => {
            Ok(u16::from_le_bytes([low, high]))
        }
        _ => Err(refused(path, "it is no segment of an E01")),
    }
}

/// The parts of a raw image: those given, or all beside the one given, whose name ends in a number.
pub(super) fn raw_set(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let [one] = given else { return numbered(given) };
    let Some(width) = digits(one) else { return Ok(given.to_vec()) };
    let same = |end: &OsStr| {
        let end = end.to_str()?;
        (end.len() == width && end.bytes().all(|byte| byte.is_ascii_digit())).then(|| end.parse().ok())?
    };
    let found = siblings(one, same)?;
    let first = u32::from(!found.contains_key(&0));
    without_gap(found, first, |number| one.with_extension(format!("{number:0width$}")))
}

/// Several given files: by their numbers if all have some, else as they are given.
fn numbered(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let Some(width) = given.first().and_then(|path| digits(path)) else { return Ok(given.to_vec()) };
    let same_set = given.iter().all(|path| {
        digits(path) == Some(width) && path.file_stem() == given.first().and_then(|first| first.file_stem())
    });
    if !same_set {
        return Ok(given.to_vec());
    }
    let mut set = BTreeMap::new();
    for path in given {
        let number =
            path.extension().and_then(OsStr::to_str).and_then(|end| end.parse::<u32>().ok()).unwrap_or(0);
        if set.insert(number, path.clone()).is_some() {
            return Err(refused(path, "it is given twice"));
        }
    }
    let first = u32::from(!set.contains_key(&0));
    let model = given.first().cloned().unwrap_or_default();
    without_gap(set, first, |number| model.with_extension(format!("{number:0width$}")))
}

/// How many digits a name ends in, if its ending is a number of 2 to 6 digits.
pub(super) fn digits(path: &Path) -> Option<usize> {
    let end = path.extension()?.to_str()?;
    ((2..=6).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_digit())).then_some(end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf]) -> Vec<&str> {
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn any_part_brings_the_set_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.001", "a.002", "a.003", "a.txt", "b.001", "a.0004"] {
            fs::write(path(name), name).unwrap();
        }
        for given in ["a.001", "a.003"] {
            assert_eq!(names(&raw_set(&[path(given)]).unwrap()), ["a.001", "a.002", "a.003"]);
        }
        assert_eq!(names(&raw_set(&[path("a.txt")]).unwrap()), ["a.txt"]);
        let shuffled = [path("a.003"), path("a.001"), path("a.002")];
        assert_eq!(names(&raw_set(&shuffled).unwrap()), ["a.001", "a.002", "a.003"]);
        assert_eq!(names(&raw_set(&[path("b.001"), path("a.002")]).unwrap()), ["b.001", "a.002"]);
        for gone in ["a.002", "a.001"] {
            fs::remove_file(path(gone)).unwrap();
            match raw_set(&[path("a.003")]) {
                Err(Error::NotImportable { path, .. }) => assert!(path.ends_with(gone), "{path:?}"),
                other => panic!("{other:?}"),
            }
            fs::write(path("a.002"), "").unwrap();
        }
    }

    #[test]
    fn parts_read_as_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut whole = Vec::new();
        let mut paths = Vec::new();
        for (number, length) in [3usize, 0, 5, 1].into_iter().enumerate() {
            let bytes = vec![number as u8 + b'a'; length];
            let path = folder.path().join(number.to_string());
            fs::write(&path, &bytes).unwrap();
            whole.extend(bytes);
            paths.push(path);
        }
        let parts = Parts::open(&paths).unwrap();
        assert_eq!(parts.size(), 9);
        for offset in 0..10 {
            let mut read: Vec<u8> = Vec::new();
            let mut buf = [0; 2];
            while let got @ 1.. = parts.read_at((offset + read.len()) as u64, &mut buf).unwrap() {
                read.extend(&buf[..got]);
            }
            assert_eq!(read, whole.get(offset..).unwrap_or_default());
        }
    }
}
