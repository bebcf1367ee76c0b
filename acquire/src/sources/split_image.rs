//! A raw image in several files, `image.001 image.002 …`: found from any one of them, read as one.
//!
//! - Numbers: two or more digits, from 0 or 1 on, all of one width; behind `.999` comes `.1000`.
//! - Letters: `.aa .ab …`, as `split` makes them, all of one width.
//! - A part that is missing between others is an error that names it, never a hole.
//! - A part that goes or shrinks while it is read becomes unreadable (ENOENT, ENODATA): what follows stays in place.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use rustix::fs::{CWD, OFlags};
use serde_json::{Value, json};

use super::disk::open_read_only;
use crate::error::{Error, Result};
use crate::source::Source;

/// Parts that the manifest lists one by one; an entry of the log, which repeats it, holds 64 KiB.
const MOST_LISTED: usize = 256;

/// More parts than that are no image, but a folder full of numbers.
const MOST_PARTS: usize = 100_000;

/// Says that a part holds less than when it was opened.
const ENODATA: i32 = 61;

/// How the parts of a set are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Digits,
    Letters,
}

/// A name that may be one of a set: what comes before the ending, and where in the set it is.
struct PartName<'a> {
    stem: &'a [u8],
    count: Count,
    width: usize,
    number: u64,
}

impl<'a> PartName<'a> {
    fn of(name: &'a [u8]) -> Option<Self> {
        let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0)?;
        let (stem, ending) = (name.get(..dot)?, name.get(dot + 1..)?);
        let count = if ending.iter().all(u8::is_ascii_digit) {
            Count::Digits
        } else if ending.iter().all(u8::is_ascii_lowercase) {
            Count::Letters
        } else {
            return None;
        };
        let most = if count == Count::Digits { 2..=9 } else { 2..=4 };
        if !most.contains(&ending.len()) {
            return None;
        }
        let number = ending.iter().fold(0u64, |number, &byte| match count {
            Count::Digits => number * 10 + u64::from(byte - b'0'),
            Count::Letters => number * 26 + u64::from(byte - b'a'),
        });
        Some(Self { stem, count, width: ending.len(), number })
    }

    /// Whether another name belongs to the set that this one's width gives.
    fn is_of_set(&self, other: &Self) -> bool {
        let grown = self.count == Count::Digits
            && other.width > self.width
            && u32::try_from(other.width - 1).is_ok_and(|zeros| other.number >= 10u64.saturating_pow(zeros));
        self.stem == other.stem && self.count == other.count && (other.width == self.width || grown)
    }

    fn name_of(&self, number: u64) -> Vec<u8> {
        let mut name = self.stem.to_vec();
        name.push(b'.');
        match self.count {
            Count::Digits => name.extend(format!("{number:0width$}", width = self.width).into_bytes()),
            Count::Letters => {
                let (mut letters, mut left) = (vec![b'a'; self.width], number);
                for letter in letters.iter_mut().rev() {
                    *letter = b'a' + u8::try_from(left % 26).unwrap_or(0);
                    left /= 26;
                }
                name.extend(letters);
            }
        }
        name
    }
}

/// All parts of the image that `path` is one of, in order; `None` if it is no part of any.
///
/// # Errors
///
/// [`Error::OpenSource`] if the folder cannot be listed, [`Error::MissingPart`] with the first part that is not there.
pub(crate) fn parts_of(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(given) = path.file_name().and_then(|name| PartName::of(name.as_bytes())) else {
        return Ok(None);
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source| Error::OpenSource { path: folder.to_owned(), source };
    let mut names: Vec<Vec<u8>> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_vec();
        let is_part =
            PartName::of(&name).is_some_and(|part| part.stem == given.stem && part.count == given.count);
        if is_part && names.len() < MOST_PARTS {
            names.push(name);
        }
    }
    // `.1000` belongs to the set that begins with `.001`.
    let Some(first) = names
        .iter()
        .filter_map(|name| PartName::of(name))
        .filter(|part| part.is_of_set(&given))
        .min_by_key(|part| part.width)
    else {
        return Ok(None);
    };
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| PartName::of(name))
        .filter(|part| first.is_of_set(part))
        .map(|part| part.number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let from = match (first.count, numbers.first()) {
        (_, Some(0)) => 0,
        (Count::Digits, Some(1)) => 1,
        // Without a first part it may be anything, but three digits are an image's.
        (Count::Digits, _) if first.width == 3 => 1,
        _ => return Ok(None),
    };
    if numbers.len() < 2 && numbers.first() == Some(&from) {
        return Ok(None);
    }
    let missing = (from..).zip(&numbers).find(|(due, number)| due != *number).map(|(due, _)| due);
    let path_of = |number| folder.join(std::ffi::OsString::from_vec(first.name_of(number)));
    match missing {
        Some(number) => Err(Error::MissingPart { path: path_of(number), of: path.to_owned() }),
        None => Ok(Some(numbers.into_iter().map(path_of).collect())),
    }
}

/// A raw image in several files.
#[derive(Debug)]
pub struct SplitImage {
    given: PathBuf,
    parts: Vec<Part>,
    size: u64,
    /// The part that was read last, and its number.
    open: Option<(usize, File)>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    start: u64,
    size: u64,
}

impl SplitImage {
    /// Opens the parts of an image, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::OpenSource`] with the part that cannot be opened, [`Error::NotASource`] for one that is no file.
    pub(crate) fn open(given: &Path, paths: Vec<PathBuf>) -> Result<Self> {
        let mut image = Self { given: given.to_owned(), parts: Vec::new(), size: 0, open: None };
        for path in paths {
            let failed = |source| Error::OpenSource { path: path.clone(), source };
            let metadata = open_read_only(CWD, &path, OFlags::empty())
                .and_then(|file| file.metadata())
                .map_err(failed)?;
            if !metadata.is_file() {
                return Err(Error::NotASource { path, reason: "a part of a split image must be a file" });
            }
            let (start, size) = (image.size, metadata.len());
            image.size = image.size.saturating_add(size);
            image.parts.push(Part { path, start, size });
        }
        Ok(image)
    }

    fn file(&mut self, number: usize) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = None;
            let part = self.parts.get(number).ok_or(io::ErrorKind::NotFound)?;
            self.open = Some((number, open_read_only(CWD, &part.path, OFlags::empty())?));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Name and size of each part. Where there are very many, parts of one size share a row.
    fn listed(&self) -> Value {
        let name = |part: &Part| escape_text(part.path.file_name().unwrap_or_default().as_bytes());
        if self.parts.len() <= MOST_LISTED {
            return self.parts.iter().map(|part| json!({"name": name(part), "size": part.size})).collect();
        }
        let runs = self.parts.chunk_by(|one, next| one.size == next.size);
        let rows = runs.take(MOST_LISTED).filter_map(|run| {
            let (first, last) = (run.first()?, run.last()?);
            Some(json!({"first": name(first), "last": name(last), "count": run.len(), "size": first.size}))
        });
        rows.collect()
    }
}

impl Source for SplitImage {
    fn facts(&self) -> SourceFacts {
        let mut facts = SourceFacts {
            kind: "disk".to_owned(),
            path: Some(escape_text(self.given.as_os_str().as_bytes())),
            size: Some(self.size),
            ..SourceFacts::default()
        };
        facts.more.insert("form".to_owned(), "split image".into());
        facts.more.insert("part_count".to_owned(), self.parts.len().into());
        facts.more.insert("parts".to_owned(), self.listed());
        facts
    }

    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset >= self.size || buf.is_empty() {
            return Ok(0);
        }
        // The last part that begins here or before; empty parts before it begin here too.
        let number = self.parts.partition_point(|part| part.start <= offset).saturating_sub(1);
        let Some((at, left)) = self
            .parts
            .get(number)
            .map(|part| (offset - part.start, part.size.saturating_sub(offset - part.start)))
        else {
            return Ok(0);
        };
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.file(number)?.read_at(buf.get_mut(..most).unwrap_or_default(), at)? {
            0 => Err(io::Error::from_raw_os_error(ENODATA)),
            read => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the set that `given` belongs to, in a folder with these files.
    fn set(files: &[&str], given: &str) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "x").unwrap();
        }
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        match parts_of(&folder.path().join(given)) {
            Ok(parts) => Ok(parts.unwrap_or_default().iter().map(name).collect()),
            Err(Error::MissingPart { path, .. }) => Err(name(&path)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn any_part_leads_to_all_of_them_in_order() {
        let files = ["i.003", "i.001", "i.002", "other.001", "i.01", "i.raw", "i.0001"];
        for given in ["i.001", "i.002", "i.003"] {
            assert_eq!(set(&files, given).unwrap(), ["i.001", "i.002", "i.003"]);
        }
        assert_eq!(set(&["d.aa", "d.ab", "d.txt"], "d.ab").unwrap(), ["d.aa", "d.ab"]);
        assert_eq!(set(&["z.000", "z.001"], "z.001").unwrap(), ["z.000", "z.001"]);
        let many: Vec<String> = (1..=1002).map(|number| format!("i.{number:03}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for given in ["i.001", "i.1001"] {
            assert_eq!(set(&many, given).unwrap(), many);
        }
    }

    #[test]
    fn a_missing_part_is_named() {
        assert_eq!(set(&["i.001", "i.002", "i.004"], "i.001"), Err("i.003".to_owned()));
        assert_eq!(set(&["i.002", "i.003"], "i.002"), Err("i.001".to_owned()));
        assert_eq!(set(&["i.005"], "i.005"), Err("i.001".to_owned()));
        assert_eq!(set(&["d.aa", "d.ab", "d.ad"], "d.aa"), Err("d.ac".to_owned()));
    }

    #[test]
    fn a_file_that_only_looks_like_a_part_is_left_alone() {
        for (files, given) in [
            (&["i.001"][..], "i.001"),
            (&["log.2023", "log.2024"], "log.2024"),
            (&["syslog.10", "syslog.11", "syslog.1"], "syslog.10"),
            (&["disk.raw", "disk.img"], "disk.raw"),
            (&["disk.dd"], "disk.dd"),
            (&["a.gz", "a.xz"], "a.gz"),
            (&[".001", ".002"], ".001"),
        ] {
            assert_eq!(set(files, given), Ok(vec![]), "{given}");
        }
    }
}
