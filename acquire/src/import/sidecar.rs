//! Hashes that other tools wrote beside an image: checksum files, and the logs of imagers.
//!
//! - Checksum files, as of `md5sum` and `sha256sum` (`HEX  NAME`, `MD5 (NAME) = HEX`, or the digits alone).
//! - Logs: dc3dd (`HEX (md5)`), FTK Imager (`MD5 checksum: HEX`), Guymager (`MD5 hash : HEX`), ewfacquire
//!   (`MD5 hash calculated over data: HEX`), UAC (the digits below `[Output File MD5 Computed Hash]`).
//!
//! A log is read line by line: a line must name the algorithm, and a value of the right length. Hashes of pieces
//! (`sectors 0 - 1023`) are left alone.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use custody::sha256;
use custody::strict_json::escape_text;

use super::hashes::Algorithm;
use super::parts::{Part, Parts};

/// A longer file is no note beside an image.
const LONGEST: u64 = 1 << 20;
/// Statements of one file, at most.
const MOST: usize = 1000;

/// Endings of a name that has such notes, with the image's own ending before them or in place of it.
const ENDINGS: [&str; 12] = [
    "md5",
    "sha1",
    "sha256",
    "md5sum",
    "sha1sum",
    "sha256sum",
    "hash",
    "hashes",
    "txt",
    "log",
    "info",
    "hlog",
];
/// Lists of many files.
const LISTS: [&str; 4] = ["MD5SUMS", "SHA1SUMS", "SHA256SUMS", "hashes.txt"];

/// What a hash is said to be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// What was imaged: the content of all parts.
    Image,
    /// One file of the set.
    Part(usize),
}

/// One hash that somebody stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) algorithm: Algorithm,
    /// Lower-case digits.
    pub(super) value: String,
    pub(super) of: Of,
    /// Name of the file that says so, escaped.
    pub(super) by: String,
}

/// A file that states hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    /// Its name, escaped.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// Looks for notes beside the parts. Files that cannot be read, or say nothing, are as if they were not there.
pub(super) fn find(parts: &Parts) -> (Vec<Stated>, Vec<Sidecar>) {
    let (mut stated, mut sidecars) = (Vec::new(), Vec::new());
    for path in candidates(parts) {
        let Ok(part) = Part::open(&path) else { continue };
        if part.size > LONGEST || parts.list().iter().any(|image| image.path == path) {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(part.size).unwrap_or(0)];
        if part.read_exact_at(0, &mut bytes).is_err() {
            continue;
        }
        let names: Vec<&str> = parts.list().iter().map(|part| part.name.as_str()).collect();
        let found = read(&text_of(&bytes), &names, &part.name);
        if !found.is_empty() {
            stated.extend(found);
            let sha256 = sha256(&bytes).to_string();
            sidecars.push(Sidecar { name: part.name, size: part.size, sha256 });
        }
    }
    (stated, sidecars)
}

fn candidates(parts: &Parts) -> Vec<PathBuf> {
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut add = |path: PathBuf| {
        if seen.insert(path.clone()) {
            paths.push(path);
        }
    };
    let with = |path: &Path, ending: &str| {
        let mut name: OsString = path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    };
    for part in parts.list().iter().take(MOST) {
        for ending in ENDINGS {
            add(with(&part.path, ending));
        }
    }
    if let Some(first) = parts.list().first() {
        for ending in ENDINGS {
            add(first.path.with_extension(ending));
            // `uac-host.log` beside `uac-host.tar.gz`, `disk.log` beside `disk.raw.001`.
            add(first.path.with_extension("").with_extension(ending));
        }
        for list in LISTS {
            add(first.path.with_file_name(list));
        }
    }
    paths
}

/// The text of a note: UTF-8, or UTF-16 with its mark, as FTK Imager's logs have been.
fn text_of(bytes: &[u8]) -> String {
    let (mark, rest) = bytes.split_at_checked(2).unwrap_or((&[], &[]));
    let unit: fn([u8; 2]) -> u16 = match mark {
        [0xFF, 0xFE] => u16::from_le_bytes,
        [0xFE, 0xFF] => u16::from_be_bytes,
        _ => return String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned(),
    };
    let units: Vec<u16> = rest.chunks_exact(2).filter_map(|pair| Some(unit(pair.try_into().ok()?))).collect();
    String::from_utf16_lossy(&units)
}

/// Reads what a note states.
fn read(text: &str, parts: &[&str], by: &str) -> Vec<Stated> {
    let mut found: Vec<Stated> = Vec::new();
    let mut headed: Option<Algorithm> = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(heading) = line.strip_prefix('[') {
            headed = heading.ends_with(']').then(|| named(heading)).flatten();
            continue;
        }
        let Some((algorithm, value)) = digits(line) else { continue };
        let rest = line.replace(value, "");
        let of = match rest.trim() {
            // Alone, or below a heading that names the algorithm.
            "" if headed.is_none_or(|headed| headed == algorithm) => Some(Of::Image),
            rest => named_part(rest, algorithm, parts),
        };
        let Some(of) = of else { continue };
        let stated = Stated { algorithm, value: value.to_ascii_lowercase(), of, by: by.to_owned() };
        if !found.contains(&stated) && found.len() < MOST {
            found.push(stated);
        }
    }
    found
}

/// The one value of the line that has the length of a hash.
fn digits(line: &str) -> Option<(Algorithm, &str)> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    let mut values = words.filter_map(|word| {
        let algorithm = Algorithm::of_length(word.len())?;
        word.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some((algorithm, word))
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// What the rest of a line says that its value is of.
fn named_part(rest: &str, algorithm: Algorithm, parts: &[&str]) -> Option<Of> {
    let part = |name: &str| {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let name = escape_text(name.as_bytes());
        parts.iter().position(|part| *part == name)
    };
    // `MD5 (NAME) =`
    if let Some(name) =
        rest.strip_suffix('=').and_then(|rest| rest.split_once('(')?.1.trim_end().strip_suffix(')'))
    {
        return part(name).map(Of::Part);
    }
    // `NAME`, `*NAME`
    if let Some(at) = part(rest.strip_prefix('*').unwrap_or(rest)) {
        return Some(Of::Part(at));
    }
    let is_of_a_piece = rest.to_ascii_lowercase().contains("sector");
    (named(rest) == Some(algorithm) && !is_of_a_piece).then_some(Of::Image)
}

/// The one algorithm that a text names.
fn named(text: &str) -> Option<Algorithm> {
    let text = text.to_ascii_lowercase().replace('-', "");
    let mut names = Algorithm::ALL.into_iter().filter(|algorithm| {
        text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == algorithm.word())
    });
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "0123456789abcdef0123456789abcdef";
    const SHA1: &str = "0123456789abcdef0123456789abcdef01234567";

    fn stated(text: &str) -> Vec<(Algorithm, String, Of)> {
        let found = read(text, &["disk.001", "disk.002"], "note");
        found.into_iter().map(|stated| (stated.algorithm, stated.value, stated.of)).collect()
    }

    #[test]
    fn notes_of_the_common_tools_are_understood() {
        let image = |algorithm, value: &str| vec![(algorithm, value.to_owned(), Of::Image)];
        let sha256 = "ab".repeat(32);
        for (text, expected) in [
            (format!("{MD5}\n"), image(Algorithm::Md5, MD5)),
            (format!("{MD5}  disk.002\n"), vec![(Algorithm::Md5, MD5.into(), Of::Part(1))]),
            (format!("{SHA1} *evidence\\disk.001\r\n"), vec![(Algorithm::Sha1, SHA1.into(), Of::Part(0))]),
            (
                format!("SHA256 (/x/disk.001) = {}\n", sha256.to_uppercase()),
                vec![(Algorithm::Sha256, sha256.clone(), Of::Part(0))],
            ),
            (
                format!("   39062 sectors in\n   {MD5} (md5)\n   {sha256} (sha256)\n"),
                [image(Algorithm::Md5, MD5), image(Algorithm::Sha256, &sha256)].concat(),
            ),
            (
                format!(
                    "[Computed Hashes]\n MD5 checksum:    {MD5}\n SHA1 checksum:   {SHA1}\n\n MD5 checksum:    {MD5} : verified\n"
                ),
                [image(Algorithm::Md5, MD5), image(Algorithm::Sha1, SHA1)].concat(),
            ),
            (
                format!("MD5 hash                   : {MD5}\nSHA1 hash      : --\n"),
                image(Algorithm::Md5, MD5),
            ),
            (format!("SHA-256 hash: {sha256}\n"), image(Algorithm::Sha256, &sha256)),
            (format!("[Output File MD5 Computed Hash]\n{MD5}\n"), image(Algorithm::Md5, MD5)),
        ] {
            assert_eq!(stated(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_statement_about_the_image_is_left_alone() {
        for text in [
            format!("{MD5}  other.raw\n"),
            format!("{MD5}, sectors 0 - 1023 (md5)\n"),
            format!("id {MD5}\n"),
            format!("SHA1: {MD5}\n"),
            format!("{MD5} {MD5} (md5)\n"),
            format!("MD5: {MD5}0\n"),
            format!("[Output File SHA1 Computed Hash]\n{MD5}\n"),
            String::new(),
        ] {
            assert_eq!(stated(&text), [], "{text}");
        }
    }

    #[test]
    fn a_note_in_utf_16_is_read() {
        let text = format!("MD5 checksum: {MD5}\r\n");
        let mut bytes = vec![0xFF, 0xFE];
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(stated(&text_of(&bytes)), stated(&text));
        assert_eq!(stated(&text).len(), 1);
    }
}
