//! `copy.made`: every copy of an exhibit, with an id of its own, and which of them is the master.
//!
//! ```text
//! exhibit         the exhibit
//! how.copy        the copy's id: E001-C1, counted for each exhibit
//! how.place       where it lies: a path, a safe, a disk with a seal
//! how.master      `true` when this copy is the master from now on
//! how.means       how it was made, where not by this program
//! why.authority, why.purpose
//! subject         manifest.json of what was copied
//! result.verdict  what the check of the finished copy said; absent when this program did not make it
//! result.copy_manifest_sha256   SHA-256 of the copy's manifest.json, read back
//! result.log_size, result.log_root   how far the custody log reaches that went with it
//! result.files, result.bytes
//! errors.found    what is wrong with the copy
//! ```
//! A copy takes the custody log along as it stands. Only the log of the master may go on: two that go on differently
//! are a fork.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::{must_say, reasons, said, told, writer_of};
use crate::bundle::LONGEST_MANIFEST;
use crate::case::{Case, Exhibit};
use crate::case_layout;
use crate::custody_log::{Appended, Writer, lock_shared};
use crate::digest::{Digest, sha256};
use crate::durable_file::{read_small, sync_folder};
use crate::entry::{Entry, EntryType, NewEntry};
use crate::error::{Error, Result};
use crate::verify::{Options, Verification, verify_bundle};

const MANIFEST: &str = "manifest.json";
/// Folders of a bundle are two deep; what lies deeper is no bundle's.
const DEEPEST: usize = 8;

/// A copy to be made, or to be recorded.
#[derive(Debug, Clone, Default)]
pub struct NewCopy {
    /// The exhibit's id.
    pub exhibit: String,
    /// The folder to copy the bundle to; it must not be there.
    pub to: Option<PathBuf>,
    /// Where the copy lies, in words; the folder where it is left empty.
    pub place: String,
    /// Whether this copy is the master from now on.
    pub master: bool,
    /// How it was made, where not by this program, or empty.
    pub means: String,
    /// By whose order, or empty.
    pub authority: String,
    /// What for, or empty.
    pub purpose: String,
}

/// A copy that was made or recorded.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The copy's id.
    pub id: String,
    /// The entry.
    pub appended: Appended,
    /// SHA-256 of the manifest of what was copied; `None` when it is not sealed.
    pub manifest_sha256: Option<Digest>,
    /// SHA-256 of the copy's manifest; `None` when this program did not make the copy.
    pub copy_manifest_sha256: Option<Digest>,
    /// The check of the copy; `None` when this program did not make it.
    pub verification: Option<Verification>,
    /// Files and bytes that were copied.
    pub copied: (u64, u64),
}

impl Copied {
    /// Whether the copy was checked, and what was checked is wrong.
    pub fn is_broken(&self) -> bool {
        self.verification.as_ref().is_some_and(|done| !done.is_intact())
            || self.copy_manifest_sha256.is_some_and(|hash| self.manifest_sha256 != Some(hash))
    }
}

impl Case {
    /// Copies a bundle to a folder and verifies the copy, or records one that was made by other means.
    ///
    /// A copy that does not verify is recorded as such: see [`Copied::is_broken`].
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`] when the folder is there, [`Error::Malformed`] when it lies in the case, the bundle
    /// is not sealed, or no place is given; [`Error::Read`] and [`Error::Write`], with no entry; those of
    /// [`crate::CustodyLog::append`].
    pub fn copy_exhibit(&self, new: &NewCopy, options: &Options, writer: &Writer<'_>) -> Result<Copied> {
        let exhibit = self.exhibit(&new.exhibit)?;
        let manifest = read_small(&exhibit.folder.join(MANIFEST), LONGEST_MANIFEST)?;
        let manifest_sha256 = manifest.as_deref().map(sha256);
        let mut entry = NewEntry::new(EntryType::COPY_MADE).exhibit(&exhibit.id);
        if let (Some(bytes), Some(hash)) = (&manifest, manifest_sha256) {
            entry = entry.subject(MANIFEST, bytes.len() as u64, hash);
        }
        if !new.authority.is_empty() || !new.purpose.is_empty() {
            entry = entry.why(&new.authority, &new.purpose);
        }
        entry = said(entry.how("master", new.master), "means", &new.means);
        let (mut verification, mut copy_manifest_sha256, mut copied) = (None, None, (0, 0));
        let mut place = new.place.clone();
        if let Some(to) = &new.to {
            if manifest.is_none() {
                return Err(Error::malformed("bundle to copy", format!("{} is not sealed", exhibit.id)));
            }
            copied = self.copy_to(&exhibit, to)?;
            let done = verify_bundle(to, options)?;
            copy_manifest_sha256 = done.manifest_sha256;
            entry = entry
                .result("verdict", done.verdict.to_string())
                .result(
                    "copy_manifest_sha256",
                    done.manifest_sha256.map(|hash| hash.to_string()).unwrap_or_default(),
                )
                .result("log_size", done.log.size)
                .result("log_root", done.log.root.map(|root| root.to_string()).unwrap_or_default())
                .result("files", copied.0)
                .result("bytes", copied.1);
            if done.data_not_read {
                entry = entry.result("data", "lies in an evidence store and was not read");
            }
            if let Some(fault) = done.faults.first() {
                entry = entry.error("found", fault.to_string());
            }
            verification = Some(done);
            if place.is_empty() {
                place = to.display().to_string();
            }
        }
        must_say("place of a copy", &place)?;
        // The id is taken under the lock that also gives exhibits theirs.
        let _lock = self.lock()?;
        let made = copies(&self.log().read()?.entries);
        let own = made.iter().filter(|copy| copy.exhibit.as_deref() == Some(exhibit.id.as_str()));
        let highest = own.filter_map(|copy| number_of(&copy.id)).max().unwrap_or(0);
        let id = format!("{}-C{}", exhibit.id, highest.saturating_add(1));
        let appended = self.append(entry.how("copy", id.as_str()).how("place", place), writer)?;
        Ok(Copied { id, appended, manifest_sha256, copy_manifest_sha256, verification, copied })
    }

    /// Copies every file of a bundle to a new folder, outside the case.
    fn copy_to(&self, exhibit: &Exhibit, to: &Path) -> Result<(u64, u64)> {
        let fault = |source| Error::Write { path: to.to_owned(), source };
        let within = |error| Error::Read { path: self.folder().to_owned(), source: error };
        std::fs::create_dir(to).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::WouldOverwrite { path: to.to_owned() },
            _ => fault(source),
        })?;
        let case = self.folder().canonicalize().map_err(within)?;
        if to.canonicalize().map_err(fault)?.starts_with(&case) {
            let _ = std::fs::remove_dir(to);
            return Err(Error::malformed("place of a copy", format!("{to:?} lies within the case itself")));
        }
        // Nobody appends while the log is copied.
        let _log = lock_shared(&case_layout::log(&exhibit.folder))?;
        let copied = copy_folder(&exhibit.folder, to, 0)?;
        if let Some(parent) = to.canonicalize().map_err(fault)?.parent() {
            sync_folder(parent)?;
        }
        Ok(copied)
    }
}

/// Copies plain files and folders, each synced; gives how many files and bytes.
fn copy_folder(from: &Path, to: &Path, depth: usize) -> Result<(u64, u64)> {
    let fault = |source| Error::Read { path: from.to_owned(), source };
    let (mut files, mut bytes) = (0u64, 0u64);
    for item in std::fs::read_dir(from).map_err(fault)? {
        let item = item.map_err(fault)?;
        let (source, target) = (item.path(), to.join(item.file_name()));
        let kind = item.file_type().map_err(fault)?;
        let failed = |source| Error::Write { path: target.clone(), source };
        if kind.is_dir() && depth < DEEPEST {
            std::fs::create_dir(&target).map_err(failed)?;
            let (more, size) = copy_folder(&source, &target, depth + 1)?;
            (files, bytes) = (files.saturating_add(more), bytes.saturating_add(size));
        } else if kind.is_file() {
            let size = std::fs::copy(&source, &target).map_err(failed)?;
            std::fs::File::open(&target).and_then(|file| file.sync_all()).map_err(failed)?;
            (files, bytes) = (files.saturating_add(1), bytes.saturating_add(size));
        } else {
            return Err(Error::malformed(
                "bundle to copy",
                format!("{source:?} is neither a file nor a folder of it"),
            ));
        }
    }
    sync_folder(to)?;
    Ok((files, bytes))
}

/// The number in a copy's id, `E001-C1`.
fn number_of(id: &str) -> Option<u32> {
    id.rsplit_once("-C")?.1.parse().ok()
}

/// A `copy.made` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// The entry's number.
    pub seq: u64,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Who wrote it.
    pub by: String,
    /// The exhibit.
    pub exhibit: Option<String>,
    /// The copy's id.
    pub id: String,
    /// Where it lies.
    pub place: String,
    /// Whether it is the master now: the newest that was called so, and not gone.
    pub master: bool,
    /// How it was made, where not by this program.
    pub means: String,
    /// By whose order.
    pub authority: String,
    /// What for.
    pub purpose: String,
    /// SHA-256 of the manifest of what was copied.
    pub manifest_sha256: Option<Digest>,
    /// SHA-256 of the copy's manifest, read back.
    pub copy_manifest_sha256: Option<Digest>,
    /// What the check of the copy said; empty when there was none.
    pub verdict: String,
    /// The entry that disposed of this copy.
    pub disposed: Option<u64>,
}

/// All `copy.made` entries. Where an exhibit has no master among them, its bundle in the case is the master.
pub fn copies(entries: &[Entry]) -> Vec<Copy> {
    let mut gone: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == EntryType::ITEM_DISPOSED) {
        gone.entry(entry.how_text("item").unwrap_or_default()).or_default().push(entry.seq);
    }
    let row = |entry: &Entry| {
        let (authority, purpose) = reasons(entry);
        let result =
            |key: &str| entry.about.result.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = told(entry, "copy");
        let manifest = entry.about.subject.iter().find(|subject| subject.id == MANIFEST);
        Copy {
            seq: entry.seq,
            time: entry.time.wall.clone(),
            by: writer_of(entry),
            exhibit: entry.about.exhibit.clone(),
            place: told(entry, "place"),
            master: entry.about.how.get("master").and_then(Value::as_bool).unwrap_or_default(),
            means: told(entry, "means"),
            authority,
            purpose,
            manifest_sha256: manifest.and_then(|subject| subject.sha256),
            copy_manifest_sha256: result("copy_manifest_sha256").parse().ok(),
            verdict: result("verdict"),
            disposed: gone.get(id.as_str()).and_then(|at| at.iter().find(|at| **at > entry.seq)).copied(),
            id,
        }
    };
    let made = entries.iter().filter(|entry| entry.kind == EntryType::COPY_MADE);
    let mut copies: Vec<Copy> = made.map(row).collect();
    let mut have = BTreeSet::new();
    for copy in copies.iter_mut().rev().filter(|copy| copy.master) {
        copy.master = have.insert(copy.exhibit.clone()) && copy.disposed.is_none();
    }
    copies
}
