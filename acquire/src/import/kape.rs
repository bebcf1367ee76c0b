//! A folder that KAPE collected: its files, and the copy log that says which SHA-1 each had.
//!
//! Reference: KapeDocs, "Log files": `*_CopyLog.csv` with columns `DestinationFile`, `FileSize`, `SourceFileSha1`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use custody::strict_json::escape_text;
use rustix::fs::{CWD, OFlags};
use serde_json::{Map, Value};

use super::hashes::{Algorithm, Hashes};
use crate::source::{Issue, Issues};
use crate::sources::disk::open_read_only;

/// A longer line of a log is not read.
const LONGEST_LINE: u64 = 256 << 10;
/// Rows of all logs, at most.
const MOST_ROWS: u64 = 5_000_000;
/// Copy logs in one folder, at most.
const MOST_LOGS: usize = 64;

/// The copy logs at the top of a folder.
pub(super) fn copy_logs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_log = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with("_CopyLog.csv"))
    };
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_log(path)).collect();
    logs.sort();
    logs.truncate(MOST_LOGS);
    logs
}

/// Compares the files of a folder with its copy logs.
pub(super) fn check(folder: &Path, issues: &mut Issues) -> Map<String, Value> {
    let mut counts = Counts::default();
    let logs = copy_logs(folder);
    for log in &logs {
        let note = |what: String| Issue { path: name(log), offset: None, length: None, what };
        match open_read_only(CWD, log, OFlags::NOFOLLOW | OFlags::NONBLOCK) {
            Ok(file) => read_log(folder, BufReader::new(file), &mut counts, &mut |offset, what| {
                issues.add(Issue { offset, ..note(what) });
            }),
            Err(error) => issues.add(note(format!("it cannot be opened: {error}"))),
        }
    }
    let verdict = match &counts {
        Counts { wrong: 1.., .. } | Counts { missing: 1.., .. } => "differs",
        Counts { right: 1.., .. } => "matches",
        _ => "none stored",
    };
    Map::from_iter([
        ("tool".to_owned(), "KAPE".into()),
        ("copy_logs".to_owned(), logs.iter().map(|log| Value::from(name(log))).collect::<Vec<_>>().into()),
        ("files_right".to_owned(), counts.right.into()),
        ("files_differ".to_owned(), counts.wrong.into()),
        ("files_missing".to_owned(), counts.missing.into()),
        ("check".to_owned(), verdict.into()),
    ])
}

fn name(path: &Path) -> String {
    escape_text(path.file_name().unwrap_or(path.as_os_str()).as_bytes())
}

#[derive(Default)]
struct Counts {
    rows: u64,
    right: u64,
    wrong: u64,
    missing: u64,
}

fn read_log(
    folder: &Path,
    mut log: impl BufRead,
    counts: &mut Counts,
    note: &mut dyn FnMut(Option<u64>, String),
) {
    let mut columns: Option<(usize, usize)> = None;
    let mut at = 0u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let offset = Some(at);
        match read {
            Ok(0) => break,
            Ok(read) if read as u64 == LONGEST_LINE => {
                return note(offset, "a line is too long: the rest is not read".to_owned());
            }
            Ok(read) => at += read as u64,
            Err(error) => return note(offset, format!("it cannot be read: {error}")),
        }
        let text = String::from_utf8_lossy(&line);
        let fields = fields(text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']));
        let Some((path, sha1)) = columns else {
            let column = |name: &str| fields.iter().position(|field| field == name);
            columns = column("DestinationFile").zip(column("SourceFileSha1"));
            if columns.is_none() {
                return note(offset, "its first line names no DestinationFile and SourceFileSha1".to_owned());
            }
            continue;
        };
        counts.rows += 1;
        if counts.rows > MOST_ROWS {
            return note(offset, "more rows than are read".to_owned());
        }
        let (Some(path), Some(sha1)) = (fields.get(path), fields.get(sha1)) else { continue };
        if Algorithm::of_length(sha1.len()) != Some(Algorithm::Sha1) {
            continue;
        }
        let shown = escape_text(path.as_bytes());
        match sha1_of(folder, path) {
            None => {
                counts.missing += 1;
                note(offset, format!("{shown} is in the copy log, but not in the folder"));
            }
            Some(Err(error)) => {
                counts.missing += 1;
                note(offset, format!("{shown} cannot be read: {error}"));
            }
            Some(Ok(found)) if found.eq_ignore_ascii_case(sha1) => counts.right += 1,
            Some(Ok(found)) => {
                counts.wrong += 1;
                let said = sha1.to_ascii_lowercase();
                note(offset, format!("{shown} has the SHA-1 {found}, but the copy log says {said}"));
            }
        }
    }
}

/// SHA-1 of the file in the folder that a destination of the log means. The folder lay elsewhere when it was written, so
/// leading parts of the path are left out until a file is found. Links are not followed.
fn sha1_of(folder: &Path, destination: &str) -> Option<std::io::Result<String>> {
    let parts: Vec<&str> = destination.split(['\\', '/']).filter(|part| !part.is_empty()).collect();
    if parts.contains(&"..") {
        return None;
    }
    let file = (0..parts.len()).find_map(|from| {
        let mut path = folder.to_owned();
        let mut names = parts.get(from..)?.iter().peekable();
        while let Some(name) = names.next() {
            path.push(name);
            let kind = fs::symlink_metadata(&path).ok()?.file_type();
            if !(kind.is_dir() && names.peek().is_some() || kind.is_file() && names.peek().is_none()) {
                return None;
            }
        }
        Some(path)
    })?;
    Some(hash(&file))
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = open_read_only(CWD, path, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let mut hashes = Hashes::new(|algorithm| algorithm == Algorithm::Sha1);
    let mut room = vec![0; 256 << 10];
    loop {
        match file.read(&mut room)? {
            0 => return Ok(hashes.finish().sha1.unwrap_or_default()),
            read => hashes.update(room.get(..read).unwrap_or_default()),
        }
    }
}

/// The fields of a line of CSV; a field in quotes may hold commas, and quotes that are doubled.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(field) = fields.last_mut() else { break };
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_quotes_may_hold_commas_and_quotes() {
        assert_eq!(fields(r#"a,"b,c","d""e",,f"#), ["a", "b,c", "d\"e", "", "f"]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields("\"open"), ["open"]);
    }
}
