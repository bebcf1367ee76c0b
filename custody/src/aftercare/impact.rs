//! Tool recall: which bundles and entries a faulty version of a program touched.
//!
//! Every entry and every manifest names the program that wrote it, its version, and the SHA-256 of the very file that
//! ran. What does not say so, or says it in a way that cannot be compared, is listed as *unknown*: it is never passed
//! over. Acts that were `not logged` (done outside a case) leave no trace here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::{Serialize, Serializer};

use super::notice::{Notice, notice_of};
use super::versions::VersionSet;
use crate::bundle::{LONGEST_MANIFEST, Manifest};
use crate::case::{Exhibit, exhibits_in, folders_in, parse_case_file};
use crate::case_layout;
use crate::custody_log::lock_shared;
use crate::digest::{Digest, sha256};
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType, MAX_ENTRY, Tool};
use crate::error::{Error, Result};

/// Which builds of a program are at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// These versions.
    Versions(VersionSet),
    /// The build whose file has this SHA-256.
    Build(Digest),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Versions(set) => write!(f, "version {set}"),
            Self::Build(hash) => write!(f, "the build with SHA-256 {hash}"),
        }
    }
}

/// What kind of work an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Taking the evidence, up to the seal; automated capture with it.
    Acquisition,
    /// Checking it.
    Verification,
    /// Building a timeline, and asking it.
    Timeline,
    /// Giving evidence out again, as exports and copies.
    Export,
    /// Reports and disclosures.
    Report,
    /// Everything else that keeps custody: handovers, notes, anchors, keys.
    Custody,
}

impl Act {
    /// Every kind, in the order of an investigation.
    pub const ALL: [Self; 6] =
        [Self::Acquisition, Self::Verification, Self::Timeline, Self::Export, Self::Report, Self::Custody];

    /// The kind that an entry of this type is of.
    pub fn of(kind: &EntryType) -> Self {
        match kind.as_str() {
            "bundle.sealed" | "exhibit.added" | "alert.received" | "decision.made" | "approval.given"
            | "isolation.done" | "isolation.undone" => Self::Acquisition,
            "verify.result" | "selftest.result" => Self::Verification,
            "timeline.built" | "query.run" => Self::Timeline,
            "export.made" | "copy.made" => Self::Export,
            "report.issued" | "disclosure.made" => Self::Report,
            other if other.starts_with("acquire.") => Self::Acquisition,
            _ => Self::Custody,
        }
    }

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Acquisition => "acquisition",
            Self::Verification => "verification",
            Self::Timeline => "timeline",
            Self::Export => "export",
            Self::Report => "report",
            Self::Custody => "custody",
        }
    }
}

/// A fault of a program: which builds have it, and which of their work it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The program's name, as entries spell it.
    pub tool: String,
    /// Which builds.
    pub which: Which,
    /// Which work; all of it when this is empty.
    pub acts: Vec<Act>,
}

enum Touch {
    No,
    Yes,
    Unknown(&'static str),
}

impl Fault {
    fn concerns(&self, act: Act) -> bool {
        self.acts.is_empty() || self.acts.contains(&act)
    }

    fn touches(&self, tool: &Tool) -> Touch {
        if tool.name.is_empty() {
            return Touch::Unknown("no program is named");
        }
        if tool.name != self.tool {
            return Touch::No;
        }
        let told = match &self.which {
            Which::Versions(set) => set.holds(&tool.version).ok_or("its version cannot be compared"),
            Which::Build(hash) => {
                tool.build_sha256.map(|own| own == *hash).ok_or("its build's hash is not recorded")
            }
        };
        match told {
            Ok(true) => Touch::Yes,
            Ok(false) => Touch::No,
            Err(why) => Touch::Unknown(why),
        }
    }
}

/// Numbers of entries, as `3-5, 9`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a number that is not below those before it.
    pub fn push(&mut self, number: u64) {
        match self.0.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number.max(*last),
            _ => self.0.push((number, number)),
        }
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1)).sum()
    }

    /// The numbers.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// These and those, in order.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut all: Vec<(u64, u64)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in all {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// At most so many of them in words, and a mark where there are more.
    pub fn words(&self, most: usize) -> String {
        let one = |(first, last): &(u64, u64)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let mut words = self.0.iter().take(most).map(one).collect::<Vec<_>>().join(", ");
        if self.0.len() > most {
            words.push_str(", …");
        }
        words
    }
}

impl std::fmt::Display for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words(usize::MAX))
    }
}

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A bundle that a faulty build acquired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TouchedBundle {
    /// Such as `E001`.
    pub exhibit: String,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub folder: String,
    /// Whether only its record is left, because it was disposed of.
    pub disposed: bool,
    /// When it was begun, RFC 3339.
    pub created: String,
    /// What it was acquired from, in words.
    pub source: String,
    /// The version that acquired it.
    pub version: String,
    /// The hash of that build's file.
    pub build_sha256: Option<Digest>,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Digest,
    /// Name and SHA-256 of its streams.
    pub streams: Vec<(String, Digest)>,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// Entries of one log and one kind that a faulty build wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TouchedActs {
    /// Whose log: `case`, `bundle`, or an exhibit's id.
    pub log: String,
    /// The kind of work.
    pub act: Act,
    /// Which entries.
    pub entries: Ranges,
    /// How many.
    pub count: u64,
    /// When the first was written.
    pub first: String,
    /// When the last was written.
    pub last: String,
    /// The versions that wrote them.
    pub versions: BTreeSet<String>,
}

/// Something of which it cannot be told whether a faulty build made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownTool {
    /// Whose log or manifest: `case`, `bundle`, or an exhibit's id.
    pub log: String,
    /// Which: `entries 3-5`, `manifest.json`.
    pub what: String,
    /// Why it cannot be told.
    pub why: String,
}

/// What a fault means for one case, or for one bundle outside a case.
#[derive(Debug, Clone, Serialize)]
pub struct Impact {
    /// Where it lies.
    pub path: String,
    /// The case's name, or the bundle's.
    pub name: String,
    /// The case's id.
    pub case: Option<String>,
    /// Bundles that a faulty build acquired.
    pub bundles: Vec<TouchedBundle>,
    /// Entries that a faulty build wrote.
    pub acts: Vec<TouchedActs>,
    /// Of what it cannot be told.
    pub unknown: Vec<UnknownTool>,
    /// Notices that its log holds already.
    pub notices: Vec<Notice>,
}

/// What was found in one log.
#[derive(Default)]
struct LogImpact {
    acts: BTreeMap<Act, TouchedActs>,
    unknown: BTreeMap<String, Ranges>,
    notices: Vec<Notice>,
}

impl Impact {
    /// Looks through a case: its log, its exhibits, and the records of those it disposed of. Nothing is verified.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when it is no case. What cannot be read in it is listed as unknown.
    pub fn of_case(folder: &Path, fault: &Fault) -> Result<Self> {
        let path = case_layout::case_file(folder);
        let missing = || Error::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
        let file = read_small(&path, 1 << 20)?.ok_or_else(missing)?;
        let mut impact = Self::none(folder);
        match parse_case_file(&file) {
            Ok(file) => (impact.name, impact.case) = (file.name, Some(file.id)),
            Err(error) => impact.not_told("case", case_layout::CASE, &error.to_string()),
        }
        impact.notices = impact.log(folder, "case", fault);
        let mut there = BTreeSet::new();
        for exhibit in exhibits_in(folder)? {
            impact.exhibit(&exhibit, false, fault);
            there.insert(exhibit.id);
        }
        let records = folders_in(&case_layout::disposed(folder))?;
        // While a bundle is there, it stands for itself; of several records the last has most of its log.
        let gone: BTreeMap<String, Exhibit> = records
            .into_iter()
            .filter(|record| !there.contains(&record.id))
            .map(|record| (record.id.clone(), record))
            .collect();
        gone.values().for_each(|record| impact.exhibit(record, true, fault));
        impact.bundles.sort_by(|a, b| a.exhibit.cmp(&b.exhibit));
        impact.acts.sort_by(|a, b| (a.log != "case", &a.log, a.act).cmp(&(b.log != "case", &b.log, b.act)));
        Ok(impact)
    }

    /// Looks through a bundle outside a case. Nothing is verified.
    ///
    /// # Errors
    ///
    /// None for what is damaged: it is listed as unknown. [`Error::Read`] when the folder is not there.
    pub fn of_bundle(folder: &Path, fault: &Fault) -> Result<Self> {
        std::fs::read_dir(folder).map_err(|source| Error::Read { path: folder.to_owned(), source })?;
        let mut impact = Self::none(folder);
        impact.notices = impact.log(folder, "bundle", fault);
        if let Some(name) = impact.manifest(folder, "bundle", false, fault) {
            impact.name = name;
        }
        Ok(impact)
    }

    fn none(folder: &Path) -> Self {
        Self {
            path: folder.display().to_string(),
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            case: None,
            bundles: Vec::new(),
            acts: Vec::new(),
            unknown: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Whether anything is touched for certain.
    pub fn is_touched(&self) -> bool {
        !self.bundles.is_empty() || !self.acts.is_empty()
    }

    /// The label of the log that a notice goes to.
    pub fn own_log(&self) -> &'static str {
        if self.case.is_some() { "case" } else { "bundle" }
    }

    /// The touched entries of each log.
    pub fn by_log(&self) -> BTreeMap<&str, Ranges> {
        let mut logs: BTreeMap<&str, Ranges> = BTreeMap::new();
        for acts in &self.acts {
            let entries = logs.entry(acts.log.as_str()).or_default();
            *entries = entries.with(&acts.entries);
        }
        logs
    }

    fn not_told(&mut self, log: &str, what: &str, why: &str) {
        self.unknown.push(UnknownTool { log: log.to_owned(), what: what.to_owned(), why: why.to_owned() });
    }

    fn exhibit(&mut self, exhibit: &Exhibit, disposed: bool, fault: &Fault) {
        self.log(&exhibit.folder, &exhibit.id, fault);
        self.manifest(&exhibit.folder, &exhibit.id, disposed, fault);
    }

    fn manifest(&mut self, folder: &Path, id: &str, disposed: bool, fault: &Fault) -> Option<String> {
        let bytes = match read_small(&folder.join("manifest.json"), LONGEST_MANIFEST) {
            Ok(Some(bytes)) => bytes,
            // Its log says all there is to say of a bundle that was never sealed.
            Ok(None) => return None,
            Err(error) => {
                self.not_told(id, "manifest.json", &error.to_string());
                return None;
            }
        };
        let manifest = match Manifest::from_bytes(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.not_told(id, "manifest.json", &error.to_string());
                return None;
            }
        };
        let name = manifest.name.clone();
        if !fault.concerns(Act::Acquisition) {
            return Some(name);
        }
        match fault.touches(&manifest.tool) {
            Touch::No => {}
            Touch::Unknown(why) => {
                self.not_told(id, "manifest.json", &format!("{why} ({:?})", manifest.tool.version));
            }
            Touch::Yes => {
                let source = &manifest.source;
                let facts = [
                    source.model.clone(),
                    source.serial.as_ref().map(|serial| format!("S/N {serial}")),
                    source.path.clone(),
                ];
                let facts: Vec<String> = facts.into_iter().flatten().collect();
                self.bundles.push(TouchedBundle {
                    exhibit: manifest.exhibit,
                    folder: folder.display().to_string(),
                    disposed,
                    created: manifest.created,
                    source: format!("{} {}", source.kind, facts.join(", ")).trim_end().to_owned(),
                    version: manifest.tool.version,
                    build_sha256: manifest.tool.build_sha256,
                    manifest_sha256: sha256(&bytes),
                    encrypted: manifest.streams.iter().any(|stream| stream.is_encrypted()),
                    streams: manifest
                        .streams
                        .into_iter()
                        .map(|stream| (stream.name, stream.sha256))
                        .collect(),
                    name: manifest.name,
                });
            }
        }
        Some(name)
    }

    /// Adds what one log says; gives the notices in it.
    fn log(&mut self, folder: &Path, label: &str, fault: &Fault) -> Vec<Notice> {
        let mut found = LogImpact::default();
        if let Err(error) = found.read(folder, label, fault) {
            self.not_told(label, case_layout::LOG, &crate_words(&error));
        }
        self.acts.extend(found.acts.into_values());
        for (why, entries) in found.unknown {
            let word = if entries.count() == 1 { "entry" } else { "entries" };
            self.not_told(label, &format!("{word} {}", entries.words(50)), &why);
        }
        found.notices
    }
}

/// An error with its cause.
fn crate_words(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl LogImpact {
    /// Reads a log line by line, whatever its length.
    fn read(&mut self, folder: &Path, label: &str, fault: &Fault) -> Result<()> {
        let path = case_layout::log(folder);
        let failed = |source| Error::Read { path: path.clone(), source };
        let file = lock_shared(&path)?;
        let mut lines = BufReader::with_capacity(1 << 18, &file);
        let mut line = Vec::new();
        for number in 0u64.. {
            line.clear();
            let most = MAX_ENTRY as u64 + 1;
            let read = (&mut lines).take(most).read_until(b'\n', &mut line).map_err(failed)?;
            if read == 0 {
                break;
            }
            if line.pop() != Some(b'\n') {
                self.unknown("the line is torn or too long".to_owned(), number);
                break;
            }
            match Entry::parse(&line) {
                Ok(entry) => self.entry(&entry, label, fault),
                Err(error) => self.unknown(error.to_string(), number),
            }
        }
        Ok(())
    }

    fn unknown(&mut self, why: String, number: u64) {
        // As many reasons as a hostile log can think of are not worth the memory.
        let why = if self.unknown.len() < 100 { why } else { "it cannot be read".to_owned() };
        self.unknown.entry(why).or_default().push(number);
    }

    fn entry(&mut self, entry: &Entry, label: &str, fault: &Fault) {
        if entry.kind == EntryType::TOOL_NOTICE {
            // A notice tells of a fault, whoever wrote it.
            self.notices.push(notice_of(entry));
            return;
        }
        let act = Act::of(&entry.kind);
        if !fault.concerns(act) {
            return;
        }
        match fault.touches(&entry.tool) {
            Touch::No => {}
            Touch::Unknown(why) => self.unknown(format!("{why} ({:?})", entry.tool.version), entry.seq),
            Touch::Yes => {
                let time = &entry.time.wall;
                let acts = self.acts.entry(act).or_insert_with(|| TouchedActs {
                    log: label.to_owned(),
                    act,
                    entries: Ranges::default(),
                    count: 0,
                    first: time.clone(),
                    last: time.clone(),
                    versions: BTreeSet::new(),
                });
                acts.entries.push(entry.seq);
                acts.count = acts.entries.count();
                acts.last.clone_from(time);
                if acts.versions.len() < 100 {
                    acts.versions.insert(entry.tool.version.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_as_ranges() {
        let mut ranges = Ranges::default();
        [3, 4, 5, 9, 11, 12].into_iter().for_each(|number| ranges.push(number));
        assert_eq!((ranges.to_string().as_str(), ranges.count()), ("3-5, 9, 11-12", 6));
        let mut others = Ranges::default();
        [1, 6, 9, 10].into_iter().for_each(|number| others.push(number));
        assert_eq!(ranges.with(&others).to_string(), "1, 3-6, 9-12");
        assert_eq!(ranges.words(1), "3-5, …");
        // A hostile log may count backwards.
        ranges.push(2);
        ranges.push(u64::MAX);
        ranges.push(u64::MAX);
        assert_eq!(ranges.words(2), "3-5, 9, …");
    }

    #[test]
    fn every_type_of_entry_is_some_kind_of_work() {
        let kind = |name: &str| {
            let kind = EntryType::ALL.iter().find(|kind| kind.as_str() == name);
            kind.map(Act::of)
        };
        assert_eq!(kind("acquire.resumed"), Some(Act::Acquisition));
        assert_eq!(kind("verify.result"), Some(Act::Verification));
        assert_eq!(kind("query.run"), Some(Act::Timeline));
        assert_eq!(kind("disclosure.made"), Some(Act::Report));
        assert_eq!(kind("transfer.offered"), Some(Act::Custody));
    }

    #[test]
    fn a_build_without_a_hash_is_unknown_not_innocent() {
        let hash = sha256(b"build");
        let fault = Fault { tool: "exhibit".into(), which: Which::Build(hash), acts: Vec::new() };
        let tool = |build| Tool { name: "exhibit".into(), version: "1".into(), build_sha256: build };
        assert!(matches!(fault.touches(&tool(None)), Touch::Unknown(_)));
        assert!(matches!(fault.touches(&tool(Some(hash))), Touch::Yes));
        assert!(matches!(fault.touches(&tool(Some(sha256(b"other")))), Touch::No));
        assert!(matches!(fault.touches(&Tool::default()), Touch::Unknown(_)));
        let other = Tool { name: "dd".into(), ..Tool::default() };
        assert!(matches!(fault.touches(&other), Touch::No));
    }
}
