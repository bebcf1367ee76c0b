//! `item.disposed`: evidence that was destroyed, returned or erased, and the record that stays of it.
//!
//! ```text
//! exhibit         the exhibit
//! how.item        what went: `bundle`, a copy's id such as `E001-C1`, or words such as `original disk, S/N 1234`
//! how.method      `destroyed`, `returned` or `erased`
//! how.who         who did it
//! how.to          to whom it went, when it was returned
//! how.witness     who saw it
//! how.folder      the folder of the bundle in the case
//! how.delete      `true` when this program deletes that folder, right after this entry
//! how.log_origin, how.log_size, how.log_root   the exhibit's own log, as it ended
//! how.verdict     what a check of that log said; the content is not read again for a disposal
//! why.authority   the order that lets it go; without one it may go only after its retention, unless it is a copy
//!                 that is not the master
//! why.purpose     the reason
//! subject         of a bundle: manifest.json, and the list of the record that is kept (see below)
//! refs            the rules that held it, and a disposal before this one
//! ```
//!
//! Who held an exhibit may be asked for years after the exhibit is gone. So before a bundle goes, everything of it
//! but its content is kept in `disposed/` of the case: manifest, signature, sums, keys, custody log, checkpoints and
//! anchors. [`RECORD_LIST`] names each with its SHA-256 (`sha256sum -c`), and the entry holds the hash of that list.
//! Deleting removes names and frees blocks; it overwrites nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Day, Rules, must_say, reasons, said, told, writer_of};
use crate::bundle::{LONGEST_MANIFEST, LocalFolder, lock_journal};
use crate::case::Case;
use crate::case_layout;
use crate::custody_log::{Appended, Writer, lock_shared};
use crate::digest::{Digest, sha256, sha256_of};
use crate::durable_file::{is_plain_file, plain_folder, read_small, sync_folder, write_new};
use crate::entry::{Entry, EntryType, NewEntry, Subject};
use crate::error::{Error, Result};
use crate::verify::{Options, verify_log};

/// In `how.item`: the whole bundle of the exhibit.
pub const ITEM_BUNDLE: &str = "bundle";
/// The list of a kept record, in its folder.
pub const RECORD_LIST: &str = "RECORD.sha256";

const MANIFEST: &str = "manifest.json";
const JOURNAL: &str = "journal";
/// What is kept of a bundle that goes: files, and whole folders.
const KEPT_FILES: [&str; 4] = [MANIFEST, "manifest.json.sig", "SHA256SUMS", "VERIFY.md"];
const KEPT_LOG: [&str; 3] = [case_layout::LOG, case_layout::FRONTIER, case_layout::CHECKPOINT];
const KEPT_FOLDERS: [&str; 3] = ["keys", case_layout::CHECKPOINTS, case_layout::ANCHORS];

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The thing itself was destroyed.
    Destroyed,
    /// It went back to its owner, or to whom the order says.
    Returned,
    /// Its content was erased.
    Erased,
}

impl Method {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed",
            Self::Returned => "returned",
            Self::Erased => "erased",
        }
    }
}

/// A disposal that is to be recorded, and done where it is the bundle's folder.
#[derive(Debug, Clone)]
pub struct NewDisposal {
    /// The exhibit's id.
    pub exhibit: String,
    /// What goes: [`ITEM_BUNDLE`], a copy's id, or words.
    pub item: String,
    /// How.
    pub method: Method,
    /// Who does it.
    pub who: String,
    /// To whom it goes; needed when it is returned.
    pub to: String,
    /// Who sees it, or empty.
    pub witness: String,
    /// The order that lets it go, or empty: then only after its retention.
    pub authority: String,
    /// The reason, or empty.
    pub reason: String,
    /// Whether to delete the bundle's folder once the entry is written.
    pub delete: bool,
}

/// What a disposal did.
#[derive(Debug, Clone)]
pub struct Disposed {
    /// The entry.
    pub appended: Appended,
    /// SHA-256 of the manifest of the bundle that went; `None` when it was never sealed, or no bundle.
    pub manifest_sha256: Option<Digest>,
    /// Where the record is kept, from the case.
    pub record: Option<String>,
    /// Whether the bundle's folder was deleted.
    pub deleted: bool,
    /// What the check of the exhibit's own log said.
    pub verdict: Option<String>,
}

impl Case {
    /// Records that an exhibit, a copy or an original was disposed of; deletes the bundle if asked to.
    ///
    /// The order is: record kept, entry written and signed, folder deleted. Cut short in between, it can be done
    /// again. The content of the bundle is not verified first: the entry says what the manifest's hash was.
    ///
    /// # Errors
    ///
    /// [`Error::Retained`] before the retention ends, or when none was set, without an authority;
    /// [`Error::Malformed`] for what is missing or is not there; [`Error::InUse`] while somebody acquires into it;
    /// those of [`crate::CustodyLog::append`]. Only a failing deletion comes after the entry: [`Error::Write`].
    pub fn dispose(&self, new: &NewDisposal, writer: &Writer<'_>) -> Result<Disposed> {
        must_say("name of who disposes of it", &new.who)?;
        must_say("name of what is disposed of", &new.item)?;
        if new.method == Method::Returned {
            must_say("name of whom it is returned to", &new.to)?;
        }
        if new.delete && new.item != ITEM_BUNDLE {
            return Err(Error::malformed("disposal", "only a bundle's folder can be deleted"));
        }
        let _lock = self.lock()?;
        let entries = self.log().read()?.entries;
        let today = Day::of_moment(&writer.clock().now())?;
        let rules = Rules::of(&entries);
        let keeping = rules.keeping(&new.exhibit);
        if !rules.is_spare_copy(&new.exhibit, &new.item)
            && new.authority.trim().is_empty()
            && let Some(why) = keeping.holds(today)
        {
            return Err(Error::Retained { exhibit: new.exhibit.clone(), why });
        }
        let mut entry = NewEntry::new(EntryType::ITEM_DISPOSED)
            .exhibit(&new.exhibit)
            .how("method", new.method.word())
            .why(&new.authority, &new.reason);
        for (key, text) in
            [("item", &new.item), ("who", &new.who), ("to", &new.to), ("witness", &new.witness)]
        {
            entry = said(entry, key, text);
        }
        let earlier = entries.iter().rfind(|entry| {
            entry.about.exhibit.as_deref() == Some(&new.exhibit)
                && entry.kind == EntryType::ITEM_DISPOSED
                && entry.how_text("item").unwrap_or(ITEM_BUNDLE) == new.item
        });
        for seq in keeping.rules.iter().map(|rule| rule.seq).chain(earlier.map(|entry| entry.seq)) {
            entry = entry.refers_to(seq);
        }
        if new.item != ITEM_BUNDLE {
            if let Some(earlier) = earlier {
                let why = format!("entry {} says already that it is gone", earlier.seq);
                return Err(Error::malformed("disposal", why));
            }
            let added = |entry: &Entry| {
                entry.kind == EntryType::EXHIBIT_ADDED && entry.about.exhibit.as_deref() == Some(&new.exhibit)
            };
            if !entries.iter().any(added) {
                return Err(Error::malformed("exhibit id", format!("the case never had {:?}", new.exhibit)));
            }
            let appended = self.append(entry, writer)?;
            return Ok(Disposed {
                appended,
                manifest_sha256: None,
                record: None,
                deleted: false,
                verdict: None,
            });
        }
        let exhibit = self.exhibit(&new.exhibit).map_err(|error| match earlier {
            Some(earlier) => {
                Error::malformed("exhibit id", format!("entry {} disposed of {}", earlier.seq, new.exhibit))
            }
            None => error,
        })?;
        if earlier.is_some() && !new.delete {
            let seq = earlier.map(|entry| entry.seq).unwrap_or_default();
            let why = format!(
                "entry {seq} disposed of it already; what is left is its folder, which can be deleted"
            );
            return Err(Error::malformed("disposal", why));
        }
        // Held while it goes, so that nobody acquires into it.
        let _journal = if is_plain_file(&exhibit.folder.join(JOURNAL))? {
            let store = LocalFolder::new(&exhibit.folder);
            lock_journal(&store).map_err(|_| Error::InUse { path: exhibit.folder.clone() })?
        } else {
            None
        };
        let manifest = read_small(&exhibit.folder.join(MANIFEST), LONGEST_MANIFEST)?;
        let manifest_sha256 = manifest.as_deref().map(sha256);
        if let (Some(bytes), Some(hash)) = (&manifest, manifest_sha256) {
            entry = entry.subject(MANIFEST, bytes.len() as u64, hash);
        }
        let checked = verify_log(&exhibit.folder, &Options::default())?;
        let verdict = checked.verdict.to_string();
        let name = exhibit.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (record, list) = self.keep_record(&exhibit.folder, &name, &entries)?;
        entry = entry
            .subject(format!("{record}/{RECORD_LIST}"), list.len() as u64, sha256(list.as_bytes()))
            .how("folder", name.as_str())
            .how("delete", new.delete)
            .how("verdict", verdict.as_str())
            .how("log_origin", checked.log.origin.as_str())
            .how("log_size", checked.log.size)
            .how("log_root", checked.log.root.map(|root| root.to_string()).unwrap_or_default());
        let appended = self.append(entry, writer).inspect_err(|_| {
            // A record that no entry names is none. Where it stays behind, verify says so.
            if disposals(&entries).iter().all(|row| row.record.as_ref() != Some(&record)) {
                let _ = std::fs::remove_dir_all(self.folder().join(&record));
            }
        })?;
        if new.delete {
            let fault = |source| Error::Write { path: exhibit.folder.clone(), source };
            std::fs::remove_dir_all(&exhibit.folder).map_err(fault)?;
            sync_folder(&case_layout::exhibits(self.folder()))?;
        }
        Ok(Disposed {
            appended,
            manifest_sha256,
            record: Some(record),
            deleted: new.delete,
            verdict: Some(verdict),
        })
    }

    /// Keeps everything of a bundle but its content, in a folder of its own; gives that, from the case, and its list.
    fn keep_record(&self, bundle: &Path, name: &str, entries: &[Entry]) -> Result<(String, String)> {
        let all = case_layout::disposed(self.folder());
        plain_folder(&all)?;
        let named: BTreeSet<String> = disposals(entries).into_iter().filter_map(|row| row.record).collect();
        let numbered = |nth: u32| if nth == 1 { name.to_owned() } else { format!("{name}.{nth}") };
        let free = (1..u32::MAX)
            .map(numbered)
            .find(|folder| !named.contains(&format!("{}/{folder}", case_layout::DISPOSED)));
        let folder = free.unwrap_or_else(|| name.to_owned());
        let into = all.join(&folder);
        // One that no entry names was left by a disposal that was cut short.
        match std::fs::remove_dir_all(&into) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Write { path: into, source: error });
            }
            _ => plain_folder(&into)?,
        }
        // Nobody appends while its log is copied.
        let _log = lock_shared(&case_layout::log(bundle)).ok();
        let torn = names(bundle)?.into_iter().filter(|name| name.starts_with(case_layout::TORN_PREFIX));
        for file in KEPT_FILES.into_iter().chain(KEPT_LOG).map(str::to_owned).chain(torn) {
            keep_file(&bundle.join(&file), &into.join(&file))?;
        }
        for sub in KEPT_FOLDERS {
            plain_folder(&into.join(sub))?;
            for file in names(&bundle.join(sub))? {
                keep_file(&bundle.join(sub).join(&file), &into.join(sub).join(&file))?;
            }
            sync_folder(&into.join(sub))?;
        }
        let list = list_of_record(&into)?;
        // Nothing came to it since it was kept before.
        let same = |row: &Disposal| row.folder == name && row.record_sha256 == Some(sha256(list.as_bytes()));
        if let Some(record) = disposals(entries).into_iter().rfind(same).and_then(|row| row.record) {
            std::fs::remove_dir_all(&into).map_err(|source| Error::Write { path: into, source })?;
            return Ok((record, list));
        }
        write_new(&into.join(RECORD_LIST), list.as_bytes())?;
        sync_folder(&into)?;
        sync_folder(&all)?;
        Ok((format!("{}/{folder}", case_layout::DISPOSED), list))
    }
}

/// Copies one plain file that may not be there; links and the like are left where they are.
fn keep_file(from: &Path, to: &Path) -> Result<()> {
    if !std::fs::symlink_metadata(from).is_ok_and(|about| about.is_file()) {
        return Ok(());
    }
    std::fs::copy(from, to).map_err(|source| Error::Write { path: to.to_owned(), source })?;
    let synced = std::fs::File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|source| Error::Write { path: to.to_owned(), source })
}

/// The names in a folder that are UTF-8; none where there is no folder.
fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let fault = |source| Error::Read { path: folder.to_owned(), source };
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(fault(source)),
        Ok(listing) => {
            let mut found = BTreeSet::new();
            for item in listing {
                found.extend(item.map_err(fault)?.file_name().into_string().ok());
            }
            Ok(found)
        }
    }
}

/// What [`RECORD_LIST`] must hold: every other plain file of the record with its SHA-256, sorted by path.
pub(crate) fn list_of_record(folder: &Path) -> Result<String> {
    let mut list = std::collections::BTreeMap::new();
    let mut add = |path: PathBuf, name: String| -> Result<()> {
        if std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_file()) && name != RECORD_LIST {
            let fault = |source| Error::Read { path: path.clone(), source };
            let hash =
                std::fs::File::open(&path).map_err(fault).and_then(|file| sha256_of(file).map_err(fault))?;
            list.insert(name, hash);
        }
        Ok(())
    };
    for name in names(folder)? {
        add(folder.join(&name), name)?;
    }
    for sub in KEPT_FOLDERS {
        for name in names(&folder.join(sub))? {
            add(folder.join(sub).join(&name), format!("{sub}/{name}"))?;
        }
    }
    Ok(list.into_iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect())
}

/// An `item.disposed` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disposal {
    /// The entry's number.
    pub seq: u64,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Who wrote it.
    pub by: String,
    /// The exhibit.
    pub exhibit: Option<String>,
    /// What went; [`ITEM_BUNDLE`] where the entry does not say.
    pub item: String,
    /// How.
    pub method: String,
    /// Who did it.
    pub who: String,
    /// To whom it went.
    pub to: String,
    /// Who saw it.
    pub witness: String,
    /// The order that let it go.
    pub authority: String,
    /// The reason.
    pub reason: String,
    /// The folder of the bundle.
    pub folder: String,
    /// Whether this program was to delete it.
    pub delete: bool,
    /// SHA-256 of the manifest of what went.
    pub manifest_sha256: Option<Digest>,
    /// What a check of its own log said.
    pub verdict: String,
    /// Where its record is kept, from the case.
    pub record: Option<String>,
    /// SHA-256 of the list of that record.
    pub record_sha256: Option<Digest>,
}

impl Disposal {
    /// Reads one entry, whatever its type.
    pub(crate) fn of(entry: &Entry) -> Self {
        let (authority, reason) = reasons(entry);
        let item = entry.how_text("item").unwrap_or(ITEM_BUNDLE).to_owned();
        let named = |wanted: &dyn Fn(&Subject) -> bool| {
            let found = entry.about.subject.iter().find(|subject| wanted(subject));
            found.map(|subject| (subject.id.clone(), subject.sha256))
        };
        let list = format!("/{RECORD_LIST}");
        let record = named(&|subject| record_folder(&subject.id, &list).is_some());
        Self {
            seq: entry.seq,
            time: entry.time.wall.clone(),
            by: writer_of(entry),
            exhibit: entry.about.exhibit.clone(),
            item,
            method: told(entry, "method"),
            who: told(entry, "who"),
            to: told(entry, "to"),
            witness: told(entry, "witness"),
            authority,
            reason,
            folder: told(entry, "folder"),
            delete: entry.about.how.get("delete").and_then(serde_json::Value::as_bool).unwrap_or_default(),
            manifest_sha256: named(&|subject| subject.id == MANIFEST).and_then(|(_, hash)| hash),
            verdict: told(entry, "verdict"),
            record_sha256: record.as_ref().and_then(|(_, hash)| *hash),
            record: record.and_then(|(id, _)| record_folder(&id, &list).map(str::to_owned)),
        }
    }

    /// In one line, such as `destroyed by J. Doe`.
    pub fn words(&self) -> String {
        let mut words = self.method.clone();
        for (link, text) in [("by", &self.who), ("to", &self.to), ("seen by", &self.witness)] {
            if !text.is_empty() {
                words = format!("{words} {link} {text}");
            }
        }
        words
    }
}

/// The folder of a record by its list's path; `None` for a path that leads anywhere else.
fn record_folder<'a>(id: &'a str, list: &str) -> Option<&'a str> {
    let folder = id.strip_suffix(list)?;
    let name = folder.strip_prefix(case_layout::DISPOSED)?.strip_prefix('/')?;
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    plain.then_some(folder)
}

/// All `item.disposed` entries.
pub fn disposals(entries: &[Entry]) -> Vec<Disposal> {
    entries.iter().filter(|entry| entry.kind == EntryType::ITEM_DISPOSED).map(Disposal::of).collect()
}

/// Whether an `item.disposed` entry lets the exhibit's folder be absent: not when only a copy or an original went.
pub(crate) fn disposes_of_bundle(entry: &Entry) -> bool {
    entry.how_text("item").is_none_or(|item| item == ITEM_BUNDLE)
}
