//! Gets a bundle out of a store into a folder: small files as they are, the log joined from its objects, data checked on the way.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::manifest::Manifest;
use super::remote_store::RemoteStore;
use super::store::{BundleStore as _, LocalFolder, is_bundle_path};
use crate::case_layout;
use crate::checkpoint::MAX_NOTE;
use crate::digest::Hasher;
use crate::durable_file::{plain_folder, replace, sync_folder};
use crate::entry::MAX_ENTRY;
use crate::error::{Error, Result};
use crate::merkle::Frontier;

/// No file of a bundle but those of its data is larger, except SHA256SUMS.
const LARGEST_SMALL: u64 = 64 << 20;
/// SHA256SUMS of so many files is one of a million segments.
const LARGEST_SUMS: u64 = 1 << 30;
/// All of them together.
const MOST_SMALL: u64 = 4 << 30;
/// Objects that are asked for at once.
const AT_ONCE: usize = 256;
/// Data is read in pieces of this size.
const PIECE: usize = 1 << 20;

/// What an object of a store is in its bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemoteFile {
    /// A file of a stream.
    Data,
    /// An entry of the log.
    Entry(u64),
    /// A checkpoint of this size.
    Checkpoint(u64),
    /// Any other file that lies in a bundle's folder too.
    Small,
    /// Nothing that a bundle in a store has.
    Foreign,
}

impl RemoteFile {
    /// What a path names.
    pub(crate) fn of(path: &str) -> Self {
        let number = |digits: &str| {
            let number: u64 = digits.parse().ok()?;
            (case_layout::kept_checkpoint_name(number) == digits).then_some(number)
        };
        if !is_bundle_path(path) {
            return Self::Foreign;
        }
        let Some((folder, name)) = path.split_once('/') else {
            let of_log = path == case_layout::CHECKPOINT || path.starts_with("custody.");
            return match of_log && !path.starts_with(case_layout::TORN_PREFIX) || path == super::STORE {
                true => Self::Foreign,
                false => Self::Small,
            };
        };
        match folder {
            "data" => Self::Data,
            "custody" => name.strip_suffix(".json").and_then(number).map_or(Self::Foreign, Self::Entry),
            case_layout::CHECKPOINTS => number(name).map_or(Self::Foreign, Self::Checkpoint),
            case_layout::ANCHORS | "keys" if !name.contains('/') => Self::Small,
            _ => Self::Foreign,
        }
    }

    /// The object of an entry.
    pub(crate) fn entry_path(seq: u64) -> String {
        format!("custody/{}.json", case_layout::kept_checkpoint_name(seq))
    }
}

/// How much was got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Gets everything but `data/` into a folder that is there and empty; nothing is verified.
///
/// The log is joined from its objects up to the first that is missing or no line; `checkpoint` is the largest that the store
/// holds. Files that no bundle has are left in the store: verifying names them.
///
/// # Errors
///
/// [`Error::Read`] when the store cannot be listed or read, [`Error::Malformed`] when its small files are too large to be a
/// bundle's, [`Error::Write`].
pub fn fetch_all_but_data(store: &dyn RemoteStore, folder: &Path) -> Result<Fetched> {
    let listing = store.listing();
    if !listing.is_complete {
        let why = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the store cannot be listed, so it is not known which files it holds",
        );
        return Err(Error::Read { path: store.place().into(), source: why });
    }
    let mut fetched = Fetched::default();
    let (mut small, mut entries, mut checkpoints) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (path, size) in &listing.files {
        let longest = if path == "SHA256SUMS" { LARGEST_SUMS } else { LARGEST_SMALL };
        match RemoteFile::of(path) {
            RemoteFile::Entry(seq) if *size <= MAX_ENTRY as u64 => drop(entries.insert(seq)),
            RemoteFile::Checkpoint(of) if *size <= MAX_NOTE as u64 => {
                checkpoints.insert(of);
                small.push(path.clone());
            }
            RemoteFile::Small if *size <= longest => small.push(path.clone()),
            _ => continue,
        }
        fetched.files = fetched.files.saturating_add(1);
        fetched.bytes = fetched.bytes.saturating_add(*size);
    }
    if fetched.bytes > MOST_SMALL {
        return Err(Error::malformed("bundle in a store", "its small files hold more than 4 GiB"));
    }
    for paths in small.chunks(AT_ONCE) {
        store.will_read(paths);
        for path in paths {
            let bytes = read(store, path)?;
            put(folder, path, &bytes)?;
        }
    }
    let frontier = join_log(store, folder, &entries, checkpoints.last().copied())?;
    put(folder, case_layout::FRONTIER, frontier.to_text().as_bytes())?;
    if let Some(largest) = checkpoints.last() {
        let name = case_layout::kept_checkpoint_name(*largest);
        put(folder, case_layout::CHECKPOINT, &read(store, &format!("{}/{name}", case_layout::CHECKPOINTS))?)?;
    }
    sync_folder(folder)?;
    Ok(fetched)
}

/// Joins the entries into the log's file. Gives the tree's edge at the largest checkpoint, if the log reaches it.
fn join_log(
    store: &dyn RemoteStore,
    folder: &Path,
    entries: &BTreeSet<u64>,
    checkpoint: Option<u64>,
) -> Result<Frontier> {
    let whole: Vec<u64> =
        entries.iter().copied().zip(0..).take_while(|(seq, at)| seq == at).map(|(seq, _)| seq).collect();
    let mut log = Vec::new();
    let mut frontier = Frontier::new();
    'joined: for seqs in whole.chunks(AT_ONCE) {
        let paths: Vec<String> = seqs.iter().map(|seq| RemoteFile::entry_path(*seq)).collect();
        store.will_read(&paths);
        for path in &paths {
            let line = read(store, path)?;
            if line.is_empty() || line.contains(&b'\n') {
                break 'joined;
            }
            if checkpoint.is_none_or(|size| frontier.size() < size) {
                frontier.push(&line);
            }
            log.extend_from_slice(&line);
            log.push(b'\n');
        }
    }
    if !whole.is_empty() {
        put(folder, case_layout::LOG, &log)?;
    }
    Ok(frontier)
}

/// Gets the files of all streams; each is compared with the manifest before it gets its name. `told` hears of every piece.
///
/// # Errors
///
/// [`super::Error::Altered`] within [`Error::Bundle`] when a file is not the one that the manifest names: it stays under its
/// temporary name. [`Error::Read`], [`Error::Write`].
pub fn fetch_data(
    store: &dyn RemoteStore,
    manifest: &Manifest,
    folder: &Path,
    told: &dyn Fn(u64),
) -> Result<Fetched> {
    let local = LocalFolder::new(folder);
    let mut fetched = Fetched::default();
    let mut buffer = vec![0; PIECE];
    for file in manifest.streams.iter().flat_map(|stream| stream.files()) {
        let fault = |source| Error::Read { path: format!("{}/{}", store.place(), file.path).into(), source };
        let failed = |source| Error::Write { path: folder.join(&file.path), source };
        let altered = |expected: String, found: String| {
            Error::from(super::Error::Altered { path: file.path.clone(), expected, found })
        };
        let size = store.size_of(&file.path).map_err(fault)?;
        if size != file.size {
            return Err(altered(format!("{} bytes", file.size), format!("{size} bytes")));
        }
        let mut new = local.put_new(&file.path).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut at = 0u64;
        while at < size {
            let read = store.read_at(&file.path, at, &mut buffer).map_err(fault)?;
            let piece = buffer.get(..read).filter(|piece| !piece.is_empty());
            let piece = piece.ok_or_else(|| fault(io::ErrorKind::UnexpectedEof.into()))?;
            hasher.update(piece);
            new.write_all(piece).map_err(failed)?;
            at = at.saturating_add(read as u64);
            told(read as u64);
        }
        let found = hasher.finish();
        if found != file.sha256 {
            return Err(altered(file.sha256.to_string(), found.to_string()));
        }
        new.finish().map_err(failed)?;
        fetched.files = fetched.files.saturating_add(1);
        fetched.bytes = fetched.bytes.saturating_add(size);
    }
    Ok(fetched)
}

/// A small object, whole.
pub(crate) fn read(store: &dyn RemoteStore, path: &str) -> Result<Vec<u8>> {
    let fault = |source| Error::Read { path: format!("{}/{path}", store.place()).into(), source };
    let size = store.size_of(path).map_err(fault)?;
    if size > LARGEST_SUMS {
        return Err(Error::malformed("file in a store", format!("{path} has {size} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = store.read_at(path, 0, &mut bytes).map_err(fault)?;
    if read != bytes.len() {
        return Err(fault(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn put(folder: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let place = folder.join(path);
    if let Some(parent) = place.parent() {
        plain_folder(parent)?;
    }
    replace(&place, &folder.join("custody.kept.tmp"), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_what_its_name_says_and_nothing_else() {
        for (path, kind) in [
            ("custody/00000007.json", RemoteFile::Entry(7)),
            ("custody/123456789.json", RemoteFile::Entry(123_456_789)),
            ("checkpoints/00000008", RemoteFile::Checkpoint(8)),
            ("data/disk/000000.zst", RemoteFile::Data),
            ("manifest.json", RemoteFile::Small),
            ("keys/log.vkey", RemoteFile::Small),
            ("anchors/x.tsr", RemoteFile::Small),
            ("custody.torn.00000003.0", RemoteFile::Small),
        ] {
            assert_eq!(RemoteFile::of(path), kind, "{path}");
        }
        for path in [
            "custody/7.json",
            "custody/000000007.json",
            "custody/00000007",
            "custody/+0000007.json",
            "checkpoints/8",
            "custody.jsonl",
            "custody.frontier",
            "checkpoint",
            "store.json",
            "",
            "a/b",
            "keys/x/y",
            "data/../x",
            "da ta",
        ] {
            assert_eq!(RemoteFile::of(path), RemoteFile::Foreign, "{path}");
        }
    }
}
