//! What the report is made from, gathered once: the logs up to their signed heads, the manifests, the verification.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
#[cfg(feature = "pdf")]
use std::path::PathBuf;

use crate::bundle::{Bundle, Extent, Manifest, State, Stream};
use crate::case::{Case, CaseFile, Exhibit};
use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::continuity::Continuity;
use crate::custody_log::{CustodyLog, lock_shared};
use crate::digest::{Digest, Hasher};
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType, MAX_ENTRY};
use crate::error::Result;
use crate::keys::VerifyingKey;
use crate::log_keys::HOW_VKEY;
use crate::verify::{ExhibitVerdict, Verification};

use super::document::Cite;

/// Kept checkpoints that are read; the rest are counted.
const MOST_KEPT: usize = 100;

/// All of it.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) case: CaseFile,
    pub(super) log: Log,
    /// Who held the case itself.
    pub(super) continuity: Continuity,
    pub(super) exhibits: Vec<ExhibitMaterial>,
    pub(super) verification: Verification,
}

/// A log up to its signed head.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// `case`, or an exhibit's id.
    pub(super) name: String,
    /// Its folder, from the case's; empty for the case itself.
    pub(super) folder: String,
    pub(super) origin: String,
    /// The entries that the signed head covers.
    pub(super) entries: Vec<Entry>,
    pub(super) head: Option<SignedCheckpoint>,
    /// The key that signed the head, among those that the log names.
    pub(super) signer: Option<VerifyingKey>,
    /// Checkpoints kept whole: size and root.
    pub(super) kept: Vec<(u64, Digest)>,
    /// How many are kept beyond those.
    pub(super) kept_more: usize,
    /// SHA-256 of the lines that the signed head covers, line feeds included.
    pub(super) sha256: Option<Digest>,
    /// Why the log could not be read; then there are no entries.
    pub(super) unread: Option<String>,
}

/// One exhibit.
#[derive(Debug)]
pub(super) struct ExhibitMaterial {
    pub(super) id: String,
    /// Its folder, from the case's.
    pub(super) folder: String,
    pub(super) found: Option<ExhibitVerdict>,
    /// Of a sealed bundle.
    pub(super) manifest: Option<Manifest>,
    pub(super) manifest_sha256: Option<Digest>,
    /// Of each stream of the manifest, in order; nothing where it is encrypted or damaged.
    pub(super) extents: Vec<Option<Vec<Extent>>>,
    pub(super) log: Log,
    /// Who held it, by its own log and the case's.
    pub(super) continuity: Continuity,
}

impl Material {
    /// Gathers it. What is damaged is left out here and told by the verification.
    pub(super) fn gather(case: &Case, verification: &Verification) -> Result<Self> {
        let exhibits = case.exhibits()?;
        let log = Log::read("case", case.folder(), String::new());
        Ok(Self {
            case: case.file().clone(),
            exhibits: exhibits.iter().map(|exhibit| gather(case, &log, exhibit, verification)).collect(),
            continuity: Continuity::of(&log.entries),
            log,
            verification: verification.clone(),
        })
    }

    /// The case's log, then each exhibit's.
    pub(super) fn logs(&self) -> impl Iterator<Item = &Log> {
        std::iter::once(&self.log).chain(self.exhibits.iter().map(|exhibit| &exhibit.log))
    }

    /// Every entry with its log.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Log, &Entry)> {
        self.logs().flat_map(|log| log.entries.iter().map(move |entry| (log, entry)))
    }

    /// Every entry of some types with its log.
    pub(super) fn of<'a>(&'a self, kinds: &'a [EntryType]) -> impl Iterator<Item = (&'a Log, &'a Entry)> {
        self.entries().filter(move |(_, entry)| kinds.contains(&entry.kind))
    }

    /// The entries about an exhibit, those of the case's log first.
    pub(super) fn about<'a>(
        &'a self,
        exhibit: &'a ExhibitMaterial,
    ) -> impl Iterator<Item = (&'a Log, &'a Entry)> {
        let of_case =
            self.log.entries.iter().filter(|entry| entry.about.exhibit.as_deref() == Some(&exhibit.id));
        of_case
            .map(|entry| (&self.log, entry))
            .chain(exhibit.log.entries.iter().map(|entry| (&exhibit.log, entry)))
    }
}

impl Log {
    fn read(name: &str, folder: &Path, relative: String) -> Self {
        let empty = Self { name: name.to_owned(), folder: relative, ..Self::default() };
        let read = CustodyLog::open(folder).and_then(|log| Ok((log.read()?, log)));
        let (contents, log) = match read {
            Ok(read) => read,
            Err(error) => return Self { unread: Some(error.to_string()), ..empty },
        };
        let mut entries = contents.entries;
        let covered = contents.checkpoint.as_ref().map_or(0, |head| head.checkpoint.size);
        entries.truncate(usize::try_from(covered).unwrap_or(usize::MAX));
        let added = entries.iter().filter(|entry| entry.kind == EntryType::KEY_ADDED);
        let added = added.filter_map(|entry| VerifyingKey::from_vkey(entry.how_text(HOW_VKEY)?).ok());
        let mut keys = std::iter::once(*log.genesis_key()).chain(added.map(|(_, key)| key));
        let signer = contents.checkpoint.as_ref().and_then(|head| keys.find(|key| head.is_signed_by(key)));
        let (kept, kept_more) = kept(folder);
        let sha256 = lines_sha256(folder, covered);
        Self {
            origin: log.origin().to_owned(),
            entries,
            head: contents.checkpoint,
            signer,
            kept,
            kept_more,
            sha256,
            ..empty
        }
    }

    /// Where it lies, in the case of that folder.
    #[cfg(feature = "pdf")]
    pub(super) fn folder_in(&self, case: &Path) -> PathBuf {
        if self.folder.is_empty() { case.to_owned() } else { case.join(&self.folder) }
    }

    /// How many entries are signed for.
    pub(super) fn size(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.checkpoint.size)
    }

    /// The root over them.
    pub(super) fn root(&self) -> Option<Digest> {
        self.head.as_ref().map(|head| head.checkpoint.root)
    }

    /// A citation of one of its entries.
    pub(super) fn cite(&self, seq: u64) -> Cite {
        Cite::new(self.name.clone(), seq)
    }

    /// Its entries of a type.
    pub(super) fn of<'a>(&'a self, kind: &'a EntryType) -> impl DoubleEndedIterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.kind == *kind)
    }

    /// The first entry of a type.
    pub(super) fn first(&self, kind: &EntryType) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.kind == *kind)
    }

    /// A citation of its first entry of a type; none where there is none.
    pub(super) fn cite_first(&self, kind: &EntryType) -> Vec<Cite> {
        self.first(kind).map(|entry| self.cite(entry.seq)).into_iter().collect()
    }

    /// How people call it.
    pub(super) fn title(&self) -> String {
        if self.folder.is_empty() { "the case".to_owned() } else { self.name.clone() }
    }
}

impl ExhibitMaterial {
    /// The streams with their extents, where those can be read.
    pub(super) fn streams(&self) -> impl Iterator<Item = (&Stream, Option<&[Extent]>)> {
        let streams = self.manifest.iter().flat_map(|manifest| &manifest.streams);
        let none = || std::iter::repeat(None);
        streams.zip(self.extents.iter().map(Option::as_deref).chain(none()))
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        self.folder.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Bytes in a state, of all its streams.
    pub(super) fn bytes(&self, state: State) -> u64 {
        self.streams().fold(0, |sum, (stream, _)| sum.saturating_add(stream.states.of(state)))
    }

    /// The entry that tells the manifest's hash, and so all that the manifest says.
    pub(super) fn sealed(&self) -> Vec<Cite> {
        self.log.cite_first(&EntryType::BUNDLE_SEALED)
    }

    /// A fact of the source beyond the named ones, where it is told; the entry of the end of the acquisition tells those
    /// that were only known then.
    pub(super) fn source_fact(&self, name: &str) -> Option<&serde_json::Value> {
        self.manifest.as_ref().and_then(|manifest| manifest.source.more.get(name))
    }

    /// What was found when it was verified for this report.
    pub(super) fn verdict(&self) -> String {
        self.found.as_ref().map_or_else(
            || "not verified".to_owned(),
            |found| match (found.ciphertext_only, found.data_not_read) {
                (true, _) => format!("{} (CIPHERTEXT ONLY)", found.verdict),
                (_, true) => format!("{} (DATA NOT READ)", found.verdict),
                _ => found.verdict.to_string(),
            },
        )
    }
}

fn gather(case: &Case, of_case: &Log, exhibit: &Exhibit, verification: &Verification) -> ExhibitMaterial {
    let found = verification.exhibits.iter().find(|found| found.id == exhibit.id).cloned();
    let folder = exhibit.folder.strip_prefix(case.folder()).unwrap_or(&exhibit.folder);
    let folder = folder.to_string_lossy().into_owned();
    let bundle = Bundle::open(&exhibit.folder).ok();
    let extents = bundle.as_ref().map_or_else(Vec::new, |bundle| {
        let of = |stream: &Stream| Some(bundle.stream(&stream.name).ok()?.extents().to_vec());
        bundle.manifest().streams.iter().map(of).collect()
    });
    let log = Log::read(&exhibit.id, &exhibit.folder, folder.clone());
    ExhibitMaterial {
        id: exhibit.id.clone(),
        found,
        manifest: bundle.as_ref().map(|bundle| bundle.manifest().clone()),
        manifest_sha256: bundle.as_ref().map(Bundle::manifest_sha256),
        extents,
        continuity: Continuity::of_exhibit(&log.entries, &of_case.entries),
        log,
        folder,
    }
}

/// SHA-256 of the first lines of a log; nothing where there are fewer.
fn lines_sha256(folder: &Path, lines: u64) -> Option<Digest> {
    let mut log = BufReader::new(lock_shared(&case_layout::log(folder)).ok()?);
    let mut hasher = Hasher::new();
    let mut line = Vec::new();
    for _ in 0..lines {
        line.clear();
        (&mut log).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line).ok()?;
        if line.last() != Some(&b'\n') {
            return None;
        }
        hasher.update(&line);
    }
    Some(hasher.finish())
}

/// The checkpoints that a log keeps whole, and how many more there are.
fn kept(folder: &Path) -> (Vec<(u64, Digest)>, usize) {
    let Ok(names) = std::fs::read_dir(folder.join(case_layout::CHECKPOINTS)) else { return (Vec::new(), 0) };
    let mut sizes: Vec<u64> =
        names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok()).collect();
    sizes.sort_unstable();
    let more = sizes.len().saturating_sub(MOST_KEPT);
    let read = |size: &u64| {
        let bytes = read_small(&case_layout::kept_checkpoint(folder, *size), MAX_NOTE as u64).ok()??;
        let head = SignedCheckpoint::parse(&bytes).ok()?.checkpoint;
        Some((head.size, head.root))
    };
    (sizes.iter().take(MOST_KEPT).filter_map(read).collect(), more)
}
