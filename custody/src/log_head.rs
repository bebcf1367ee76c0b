//! Where a log ends: what an append needs to know, found without reading the whole log when all is well.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::closing::closed_by;
use crate::digest::{Digest, sha256};
use crate::durable_file::read_small;
use crate::entry::{Entry, MAX_ENTRY};
use crate::error::{Error, Result};
use crate::log_walk::{LogWalk, Mark, walk};
use crate::merkle::{Frontier, leaf_hash};

/// Longer unsigned tails are no crash of ours.
const MOST_TAIL: u64 = 16 << 20;
/// How many of the last lines are compared with the cached tree before it is relied on.
const MOST_CHECKED: u64 = 64;

/// The end of a log.
#[derive(Debug)]
pub(crate) struct Head {
    /// What was signed last.
    pub(crate) checkpoint: SignedCheckpoint,
    /// The tree over all lines that stay: the signed ones and whole ones after them.
    pub(crate) frontier: Frontier,
    /// SHA-256 of the last line that stays.
    pub(crate) last: Digest,
    /// Where the next line goes.
    pub(crate) end: u64,
    /// What is there beyond the checkpoint.
    pub(crate) tail: Option<Tail>,
    /// The entry that closed the log.
    pub(crate) closed: Option<u64>,
}

/// What was written and not signed, because a writer was interrupted.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Whole entries in it, chained as they should be; they stay.
    pub(crate) entries: u64,
    /// All its bytes.
    pub(crate) length: u64,
    /// SHA-256 of all its bytes.
    pub(crate) sha256: Digest,
    /// Its bytes from the first that is no whole entry; they are kept aside.
    pub(crate) torn: Vec<u8>,
}

/// Finds the end of the log in `folder`, whose file is open and locked.
pub(crate) fn read_head(folder: &Path, origin: &str, log: &mut File) -> Result<Head> {
    let path = case_layout::log(folder);
    let broken = |why: String| Error::LogBroken { path: path.clone(), why };
    let fault = |source| Error::Read { path: path.clone(), source };
    let checkpoint = read_small(&case_layout::checkpoint(folder), MAX_NOTE as u64)?
        .ok_or_else(|| broken("it has no checkpoint".to_owned()))?;
    let checkpoint = SignedCheckpoint::parse(&checkpoint).map_err(|error| broken(error.to_string()))?;
    if checkpoint.checkpoint.origin != origin {
        return Err(broken(format!(
            "its checkpoint is of {:?}, not of {origin:?}",
            checkpoint.checkpoint.origin
        )));
    }
    if let Some((frontier, last, end, closed)) = near_end(folder, &checkpoint, log).map_err(fault)? {
        return Ok(Head { checkpoint, frontier, last, end, tail: None, closed });
    }
    let (walked, mark) = walk_to_checkpoint(&path, &checkpoint, log, BTreeSet::new())?;
    let Mark { mut frontier, mut end, last, .. } = mark;
    let mut last = last.unwrap_or(Digest([0; 32]));
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(end)).map_err(fault)?;
    log.take(MOST_TAIL + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MOST_TAIL {
        return Err(broken(format!("more than {MOST_TAIL} bytes follow what its checkpoint covers")));
    }
    let mut closed = walked.landmarks.iter().find_map(closed_by);
    if bytes.is_empty() {
        return Ok(Head { checkpoint, frontier, last, end, tail: None, closed });
    }
    let mut tail = Tail { entries: 0, length: bytes.len() as u64, sha256: sha256(&bytes), torn: Vec::new() };
    let mut rest = bytes.as_slice();
    while let Some((line, after)) = split_line(rest) {
        let Ok(entry) = Entry::parse(line) else { break };
        if entry.seq != frontier.size() || entry.prev != last {
            break;
        }
        closed = closed.or_else(|| closed_by(&entry));
        frontier.push(line);
        last = sha256(line);
        end = end.saturating_add(line.len() as u64 + 1);
        tail.entries += 1;
        rest = after;
    }
    tail.torn = rest.to_vec();
    Ok(Head { checkpoint, frontier, last, end, tail: Some(tail), closed })
}

/// Reads a whole log, makes sure that it gives its checkpoint's root, and marks the other sizes in `wanted`.
pub(crate) fn walk_to_checkpoint(
    path: &Path,
    checkpoint: &SignedCheckpoint,
    log: &mut File,
    mut wanted: BTreeSet<u64>,
) -> Result<(LogWalk, Mark)> {
    let broken = |why: String| Error::LogBroken { path: path.to_owned(), why };
    let fault = |source| Error::Read { path: path.to_owned(), source };
    let size = checkpoint.checkpoint.size;
    wanted.insert(size);
    log.seek(SeekFrom::Start(0)).map_err(fault)?;
    let walked = walk(BufReader::new(&*log), &wanted).map_err(fault)?;
    let mark = walked.at.get(&size).cloned().ok_or_else(|| {
        broken(format!("it has {} entries and its checkpoint says {size}", walked.frontier.size()))
    })?;
    if mark.frontier.root() != checkpoint.checkpoint.root {
        return Err(broken(format!("its first {size} entries do not give its checkpoint's root")));
    }
    Ok((walked, mark))
}

/// Tree, hash of the last line, where the next one goes, and the entry that closed the log.
type NearEnd = (Frontier, Digest, u64, Option<u64>);

/// The end by way of `custody.frontier`, if that gives the checkpoint's root and the last lines fit it.
///
/// `None` sends the caller to read the whole log; nothing is an error here but a failing disk.
fn near_end(
    folder: &Path,
    checkpoint: &SignedCheckpoint,
    log: &mut File,
) -> std::io::Result<Option<NearEnd>> {
    let checkpoint = &checkpoint.checkpoint;
    let text = read_small(&folder.join(case_layout::FRONTIER), MAX_NOTE as u64).ok().flatten();
    let Some(frontier) = text
        .and_then(|text| Frontier::from_text(std::str::from_utf8(&text).ok()?).ok())
        .filter(|frontier| frontier.size() == checkpoint.size && frontier.root() == checkpoint.root)
    else {
        return Ok(None);
    };
    // The smallest complete subtree is over the last lines: they are hashed again, unless they are many.
    let covered = 1u64.checked_shl(checkpoint.size.trailing_zeros()).unwrap_or(u64::MAX);
    let count = if covered <= MOST_CHECKED { covered } else { 1 };
    let end = log.seek(SeekFrom::End(0))?;
    let Some(bytes) = last_lines(log, end, count)? else { return Ok(None) };
    let mut rest = bytes.as_slice();
    let mut tree = Frontier::new();
    let mut last: &[u8] = &[];
    while let Some((line, after)) = split_line(rest) {
        tree.push_hash(leaf_hash(line));
        last = line;
        rest = after;
    }
    let fits = count < covered || frontier.smallest() == Some(tree.root());
    let Ok(entry) = Entry::parse(last) else { return Ok(None) };
    let is_last = entry.seq.checked_add(1) == Some(checkpoint.size);
    Ok((fits && is_last && rest.is_empty()).then(|| (frontier, sha256(last), end, closed_by(&entry))))
}

/// The last `count` lines of a file that ends at `end` with a line feed; `None` when it has fewer.
fn last_lines(log: &mut File, end: u64, count: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut size = 4096u64.saturating_mul(count);
    let most = (MAX_ENTRY as u64 + 1).saturating_mul(count).saturating_add(1);
    loop {
        let start = end.saturating_sub(size);
        let mut bytes = Vec::new();
        log.seek(SeekFrom::Start(start))?;
        log.take(end - start).read_to_end(&mut bytes)?;
        if bytes.last() != Some(&b'\n') {
            return Ok(None);
        }
        let feeds = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        // The line feed before the first of the lines, or the beginning of the file.
        let before = feeds.skip(1).nth(usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(1));
        if let Some(before) = before {
            return Ok(Some(bytes.split_off(before + 1)));
        }
        if start == 0 {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            return Ok((lines == count).then_some(bytes));
        }
        if size >= most {
            return Ok(None);
        }
        size = size.saturating_mul(4).min(most);
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(at)?;
    Some((line, rest.get(1..)?))
}
