//! The timeline's manifest: which parts there are, of which exhibit, made from what and by what.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use custody::digest::{Hasher, sha256};
use custody::strict_json;
use serde::{Deserialize, Serialize};

use super::files::{failed, replace};
use crate::Error;
use crate::parser::Context;
use crate::year::YearPlan;
use crate::zone::StoredZone;

/// The format's name and version.
pub const FORMAT: &str = "exhibit-timeline/1";

const NAME: &str = "manifest.json";

/// A manifest larger than this is refused.
const LARGEST: u64 = 256 << 20;

/// What a timeline holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// By exhibit id.
    pub exhibits: BTreeMap<String, ExhibitTimeline>,
}

/// The timeline of one exhibit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExhibitTimeline {
    /// The bundle's id.
    pub bundle: String,
    /// SHA-256 of the bundle's manifest, in hex.
    pub manifest_sha256: String,
    /// The options of the build that change its rows, as strings.
    pub options: BTreeMap<String, String>,
    /// Version of each parser that had a say, by name.
    pub parsers: BTreeMap<String, u32>,
    /// What built it.
    pub tool: Tool,
    /// What was known of the host when it was built. `show` reads it out of the bundle anew.
    pub context: StoredContext,
    /// The parts, in order of time.
    pub parts: Vec<Part>,
    /// The completeness ledger.
    pub ledger: ListedFile,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// `exhibit`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the program file, in hex.
    pub build_sha256: String,
}

/// A Parquet file with events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Below the timeline folder.
    pub path: String,
    /// In hex.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// Events in it.
    pub rows: u64,
    /// The first time as RFC 3339; none where all rows are undated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A file that the manifest vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    /// Below the timeline folder.
    pub path: String,
    /// In hex.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
}

/// A parser's [`Context`], as the manifest keeps it; names are escaped as strict JSON needs it. Years are not in
/// it: a record's year is in its row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredContext {
    /// The host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The zone of its local times.
    pub zone: StoredZone,
    /// User names by uid.
    pub users: BTreeMap<u32, String>,
}

impl From<&Context> for StoredContext {
    fn from(context: &Context) -> StoredContext {
        StoredContext {
            host: context.host.as_deref().map(escaped),
            zone: StoredZone::from(&context.zone),
            users: context.users.iter().map(|(uid, name)| (*uid, escaped(name))).collect(),
        }
    }
}

fn escaped(name: &str) -> String {
    strict_json::escape_text(name.as_bytes())
}

fn plain(name: &str) -> Option<String> {
    String::from_utf8(strict_json::unescape_text(name).ok()?).ok()
}

impl StoredContext {
    /// The context again, its years unknown; `None` if this program does not know the zone, or a name is not
    /// as it was written.
    pub fn load(&self) -> Option<Context> {
        let users: Option<BTreeMap<u32, String>> =
            self.users.iter().map(|(uid, name)| Some((*uid, plain(name)?))).collect();
        let host = match &self.host {
            Some(host) => Some(plain(host)?),
            None => None,
        };
        Some(Context { host, zone: self.zone.load()?, year: YearPlan::Unknown, users: users?.into() })
    }
}

impl Default for Manifest {
    fn default() -> Manifest {
        Manifest { format: FORMAT.into(), exhibits: BTreeMap::new() }
    }
}

impl Manifest {
    /// The manifest of the timeline in `timeline`; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is not what this program writes: another format, a path that leads elsewhere,
    /// a hash that is none, a member twice, or bytes that differ from those of the same content written anew.
    /// [`Error::File`] when it cannot be read.
    pub fn read(timeline: &Path) -> Result<Option<Manifest>, Error> {
        let path = timeline.join(NAME);
        let size = match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(failed("read", &path))?.len(),
        };
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        if size > LARGEST {
            return Err(damaged(format!("it is larger than {LARGEST} bytes")));
        }
        let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format is {:?}, not {FORMAT:?}", manifest.format)));
        }
        if manifest.to_bytes()? != bytes {
            return Err(damaged("it is not in the strict form that is written".into()));
        }
        manifest.check().map_err(damaged)?;
        Ok(Some(manifest))
    }

    /// Replaces the timeline's manifest atomically, and gives the SHA-256 of the new one. The parts and ledgers
    /// that it lists must be there. The caller holds the case lock.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be written; the old one is then still in place.
    pub fn write(&self, timeline: &Path) -> Result<String, Error> {
        let path = timeline.join(NAME);
        self.check().map_err(|reason| Error::Damaged { path: path.clone(), reason })?;
        let bytes = self.to_bytes()?;
        replace(&path, &timeline.join("manifest.unfinished"), &bytes)?;
        Ok(sha256(&bytes).to_string())
    }

    /// Every file that it lists: path below the timeline folder, SHA-256, size.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.exhibits.values().flat_map(|exhibit| {
            let ledger = &exhibit.ledger;
            exhibit.parts.iter().map(|part| (part.path.as_str(), part.sha256.as_str(), part.size)).chain([(
                ledger.path.as_str(),
                ledger.sha256.as_str(),
                ledger.size,
            )])
        })
    }

    /// Checks that every listed file is there with its size: quick, done at every opening.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for the first one that is not.
    pub fn check_sizes(&self, timeline: &Path) -> Result<(), Error> {
        for (path, _, size) in self.files() {
            let path = timeline.join(path);
            let reason = match std::fs::metadata(&path) {
                Ok(found) if found.len() == size => continue,
                Ok(found) => format!("it has {} bytes, {size} were written", found.len()),
                Err(error) => error.to_string(),
            };
            return Err(Error::Damaged { path, reason });
        }
        Ok(())
    }

    /// Hashes every listed file, and gives those that are not what was written, with why.
    pub fn check_hashes(&self, timeline: &Path) -> Vec<(PathBuf, String)> {
        let mut faults = Vec::new();
        for (path, sha256, _) in self.files() {
            let path = timeline.join(path);
            match hash_file(&path) {
                Ok(found) if found == sha256 => {}
                Ok(found) => faults.push((path, format!("its SHA-256 is {found}, {sha256} was written"))),
                Err(error) => faults.push((path, error.to_string())),
            }
        }
        faults
    }

    /// Removes parts and ledgers that the manifest does not list: those of older builds and of interrupted ones.
    /// To be called after [`Manifest::write`], under the same lock; gives how many went.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when one cannot be removed.
    pub fn remove_unlisted(&self, timeline: &Path) -> Result<usize, Error> {
        let listed: BTreeSet<PathBuf> = self.files().map(|(path, _, _)| timeline.join(path)).collect();
        let mut removed = 0;
        for kind in ["events", "ledger"] {
            for folder in entries(&timeline.join(kind))? {
                for file in entries(&folder)? {
                    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
                    let ours = file.extension().is_some_and(|e| e == "parquet" || e == "jsonl")
                        && name.len() == 32
                        && name.bytes().all(|b| b.is_ascii_hexdigit());
                    if ours && !listed.contains(&file) {
                        std::fs::remove_file(&file).map_err(failed("remove", &file))?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let value = serde_json::to_value(self)
            .map_err(|e| Error::Usage { what: format!("the manifest cannot be written: {e}") })?;
        let mut line = strict_json::to_line(&value)?;
        line.push('\n');
        Ok(line.into_bytes())
    }

    fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for (id, exhibit) in &self.exhibits {
            check_exhibit(id).map_err(|_| format!("{id:?} is no exhibit id"))?;
            for hash in [&exhibit.manifest_sha256, &exhibit.tool.build_sha256] {
                check_hash(hash)?;
            }
            let parts = exhibit.parts.iter().map(|part| ("events", "parquet", &part.path, &part.sha256));
            let ledger = &exhibit.ledger;
            for (kind, end, path, sha256) in parts.chain([("ledger", "jsonl", &ledger.path, &ledger.sha256)])
            {
                check_hash(sha256)?;
                let name = sha256.get(..32).unwrap_or("");
                if *path != format!("{kind}/exhibit={id}/{name}.{end}") {
                    return Err(format!("{path:?} is not where a file with its hash lies"));
                }
                if !seen.insert(path) {
                    return Err(format!("{path:?} is listed twice"));
                }
            }
        }
        Ok(())
    }
}

/// Refuses what is no exhibit id: the id is part of paths.
pub(super) fn check_exhibit(id: &str) -> Result<(), Error> {
    let fine = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fine { Ok(()) } else { Err(Error::Usage { what: format!("{id:?} is no exhibit id, like E001") }) }
}

fn check_hash(hash: &str) -> Result<(), String> {
    if hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(format!("{hash:?} is no SHA-256 in hex"))
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish().to_string()),
            n => hasher.update(buffer.get(..n).unwrap_or(&[])),
        }
    }
}

/// What lies in a folder; nothing if it is a link: a hostile case must not lead out of itself.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if std::fs::symlink_metadata(folder).is_ok_and(|kind| kind.is_symlink()) {
        return Ok(Vec::new());
    }
    let found = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        found => found.map_err(failed("read", folder))?,
    };
    found.map(|entry| entry.map(|e| e.path()).map_err(failed("read", folder))).collect()
}
