//! `disclosure.made`: what was given to whom, by its hash.
//!
//! ```text
//! exhibit         the exhibit, when exactly one was given
//! subject         each file by its name, each exhibit as `E001/manifest.json`: size and SHA-256 of the very bytes
//! how.to          to whom
//! how.means       how it went: by hand, by an upload, on a disk with this seal
//! how.reference   the request, order or schedule it answers
//! how.on          the day it was given, where that is not the day of the entry
//! how.withheld    what was kept back, and why
//! why.authority   by what rule or order
//! why.purpose     what for
//! result.origin   for each subject in order, what the case knows of its hash, or `NO RECORD`
//! refs            the entries that made what was given
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Day, about, must_say, reasons, said, told, writer_of};
use crate::bundle::{Bundle, LONGEST_MANIFEST, Manifest};
use crate::case::{Case, folders_in};
use crate::case_layout;
use crate::digest::Digest;
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType, NewEntry, Subject};
use crate::error::{Error, Result};

/// In `result.origin`: the case has no such bytes.
const UNKNOWN: &str = "NO RECORD";

/// What the case knows of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// In words, such as `entry 7 (export.made)` or `E001: the stream disk`.
    pub words: String,
    /// The entry of the case's log that names them.
    pub entry: Option<u64>,
}

/// One thing that is given.
#[derive(Debug, Clone)]
pub struct Disclosed {
    /// The file's name, or `E001/manifest.json`.
    pub id: String,
    /// Its size.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// What the case knows of it, see [`origins`].
    pub origin: Option<Origin>,
}

/// A disclosure.
#[derive(Debug, Clone, Default)]
pub struct NewDisclosure {
    /// The exhibit, when exactly one is given.
    pub exhibit: Option<String>,
    /// What is given.
    pub items: Vec<Disclosed>,
    /// To whom.
    pub to: String,
    /// How it goes, or empty.
    pub means: String,
    /// What it answers, or empty.
    pub reference: String,
    /// The day it was given, where that is not today.
    pub on: Option<Day>,
    /// What is kept back and why, or empty.
    pub withheld: String,
    /// By what rule or order, or empty.
    pub authority: String,
    /// What for, or empty.
    pub purpose: String,
}

impl NewDisclosure {
    /// The entry to append.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it does not say to whom, or gives nothing.
    pub fn entry(&self) -> Result<NewEntry> {
        must_say("name of whom it is disclosed to", &self.to)?;
        if self.items.is_empty() {
            return Err(Error::malformed("disclosure", "it names nothing that is given"));
        }
        let mut entry = about(NewEntry::new(EntryType::DISCLOSURE_MADE), self.exhibit.as_deref());
        for item in &self.items {
            entry = entry.subject(&item.id, item.size, item.sha256);
        }
        if !self.authority.is_empty() || !self.purpose.is_empty() {
            entry = entry.why(&self.authority, &self.purpose);
        }
        let on = self.on.map(|day| day.to_string()).unwrap_or_default();
        for (key, text) in [
            ("to", &self.to),
            ("means", &self.means),
            ("reference", &self.reference),
            ("on", &on),
            ("withheld", &self.withheld),
        ] {
            entry = said(entry, key, text);
        }
        let known =
            |item: &Disclosed| item.origin.clone().map_or_else(|| UNKNOWN.to_owned(), |origin| origin.words);
        let origins: Vec<Value> = self.items.iter().map(|item| known(item).into()).collect();
        let mut refs: Vec<u64> = self
            .items
            .iter()
            .filter_map(|item| item.origin.as_ref().and_then(|origin| origin.entry))
            .collect();
        refs.sort_unstable();
        refs.dedup();
        let entry = entry.result("origin", origins);
        Ok(refs.into_iter().fold(entry, NewEntry::refers_to))
    }
}

/// A `disclosure.made` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disclosure {
    /// The entry's number.
    pub seq: u64,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Who wrote it.
    pub by: String,
    /// The exhibit, when exactly one was given.
    pub exhibit: Option<String>,
    /// What was given.
    pub items: Vec<Subject>,
    /// For each of them what the case knew of it, or `NO RECORD`.
    pub origins: Vec<String>,
    /// To whom.
    pub to: String,
    /// How it went.
    pub means: String,
    /// What it answers.
    pub reference: String,
    /// The day it was given, where that is not the day of the entry.
    pub on: String,
    /// What was kept back and why.
    pub withheld: String,
    /// By what rule or order.
    pub authority: String,
    /// What for.
    pub purpose: String,
}

/// All `disclosure.made` entries.
pub fn disclosures(entries: &[Entry]) -> Vec<Disclosure> {
    let row = |entry: &Entry| {
        let (authority, purpose) = reasons(entry);
        let origins = entry.about.result.get("origin").and_then(Value::as_array);
        let words = |origin: &Value| origin.as_str().unwrap_or_default().to_owned();
        Disclosure {
            seq: entry.seq,
            time: entry.time.wall.clone(),
            by: writer_of(entry),
            exhibit: entry.about.exhibit.clone(),
            items: entry.about.subject.clone(),
            origins: origins.map(|origins| origins.iter().map(words).collect()).unwrap_or_default(),
            to: told(entry, "to"),
            means: told(entry, "means"),
            reference: told(entry, "reference"),
            on: told(entry, "on"),
            withheld: told(entry, "withheld"),
            authority,
            purpose,
        }
    };
    entries.iter().filter(|entry| entry.kind == EntryType::DISCLOSURE_MADE).map(row).collect()
}

/// What the case knows of each of these hashes: from its log, the manifests of its exhibits, and the catalogues of
/// those that are not encrypted. Nothing is verified, and an exhibit that cannot be read is passed over.
///
/// # Errors
///
/// Those of reading the case's log.
pub fn origins(case: &Case, wanted: &[Digest]) -> Result<Vec<Option<Origin>>> {
    let mut found: BTreeMap<Digest, Origin> = BTreeMap::new();
    let set: BTreeSet<Digest> = wanted.iter().copied().collect();
    for entry in case.log().read()?.entries {
        let made = entry.kind != EntryType::DISCLOSURE_MADE;
        for hash in entry.about.subject.iter().filter(|_| made).filter_map(|subject| subject.sha256) {
            if set.contains(&hash) {
                let words = format!("entry {} ({})", entry.seq, entry.kind);
                found.entry(hash).or_insert(Origin { words, entry: Some(entry.seq) });
            }
        }
    }
    for exhibit in case.exhibits()? {
        if found.len() == set.len() {
            break;
        }
        let Ok(bundle) = Bundle::open(&exhibit.folder) else { continue };
        let mut add = |hash: Digest, what: String| {
            if set.contains(&hash) {
                let words = format!("{}: {what}", exhibit.id);
                found.entry(hash).or_insert(Origin { words, entry: None });
            }
        };
        add(bundle.manifest_sha256(), "manifest.json".to_owned());
        for stream in &bundle.manifest().streams {
            add(stream.sha256, format!("the stream {}", stream.name));
            stream.files().for_each(|file| add(file.sha256, file.path.clone()));
            let catalog = stream.catalog.as_ref().filter(|_| !stream.is_encrypted());
            let Some(reader) = catalog.and_then(|_| bundle.stream(&stream.name).ok()) else { continue };
            for member in reader.catalog().into_iter().flatten().map_while(Result::ok) {
                if let Some(hash) = member.sha256 {
                    add(hash, format!("{} in the stream {}", member.path, stream.name));
                }
            }
        }
    }
    for gone in folders_in(&case_layout::disposed(case.folder()))? {
        let bytes = read_small(&gone.folder.join("manifest.json"), LONGEST_MANIFEST).ok().flatten();
        let Some(manifest) = bytes.and_then(|bytes| Manifest::from_bytes(&bytes).ok()) else { continue };
        for stream in &manifest.streams {
            let files = stream.files().map(|file| (file.sha256, file.path.as_str()));
            for (hash, what) in files.chain([(stream.sha256, stream.name.as_str())]) {
                if set.contains(&hash) {
                    let words = format!("{}, disposed of: {what}", gone.id);
                    found.entry(hash).or_insert(Origin { words, entry: None });
                }
            }
        }
    }
    Ok(wanted.iter().map(|hash| found.get(hash).cloned()).collect())
}
