//! One acquisition from its first entry in the log to the seal: plan, run, report.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use custody::bundle::{
    BundleStore, Examiner, FORMAT, LocalFolder, LogOrigin, Manifest, Recipients, SealFiles,
    Source as SourceFacts, State, StateBytes, Stream, WriteOnly, journaled_bytes, lock_journal,
    remove_journal, seal, seal_again,
};
use custody::strict_json::escape_text;
use custody::{Case, CustodyLog, Digest, EntryType, Moment, NewEntry, Writer, uuid_v7};
use serde_json::{Map, Value};

use crate::buffers::SPARING_BUFFER_BYTES;
use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::pipeline::{Flow, PipelineOptions};
use crate::progress::{NoProgress, Progress};
use crate::resumption::OpenAcquisition;
use crate::source::{Issue, Issues};
use crate::tar_packer::FileCounts;

/// Issues named in the log; all of them are in the bundle's tables.
const NAMED_ISSUES: usize = 20;

/// The option that lists whom the data is encrypted to.
const ENCRYPTED_TO: &str = "encrypted_to";

/// Bytes that a fact may take in the log's entry, which is 64 KiB at most; a longer one stands in the manifest alone,
/// which the log seals.
const LONGEST_FACT: usize = 8 << 10;

/// Where a bundle is made, and what it is called. The folder must be there, without a log in it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The bundle's folder: `CASE/exhibits/E001-web01-disk`.
    pub folder: PathBuf,
    /// Id of the exhibit: `E001`.
    pub exhibit: String,
    /// Name of the exhibit: `web01-disk`.
    pub name: String,
    /// Name of the case, escaped as `case.json` has it, if there is one.
    pub case: Option<String>,
}

impl Destination {
    /// Takes the next exhibit id of a case, and makes the bundle's folder there.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] if the case cannot be written.
    pub fn in_case(case: &Case, name: &str, writer: &Writer<'_>) -> Result<Self> {
        let exhibit = case.add_exhibit(name, writer)?;
        Ok(Self {
            folder: exhibit.folder,
            exhibit: exhibit.id,
            name: name.to_owned(),
            case: Some(case.file().name.clone()),
        })
    }
}

/// An acquisition that can be shown before it is run.
pub struct Acquisition<'a> {
    what: Box<dyn Capture>,
    destination: Destination,
    options: PipelineOptions,
    told: Map<String, Value>,
    command_line: Option<String>,
    progress: &'a dyn Progress,
    store: Option<Arc<dyn BundleStore>>,
    stop: Arc<AtomicBool>,
    protection: Option<Arc<Recipients>>,
}

impl std::fmt::Debug for Acquisition<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acquisition").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// What an acquisition did.
#[derive(Debug)]
pub struct Report {
    /// The bundle, sealed.
    pub bundle: PathBuf,
    /// Its streams.
    pub streams: Vec<Stream>,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Digest,
    /// What was packed, of an acquisition of files.
    pub files: Option<FileCounts>,
    /// Facts that only the run could tell, as the manifest has them.
    pub facts: Map<String, Value>,
    /// What went wrong at single places, the first 10,000 of them.
    pub issues: Vec<Issue>,
    /// How many there were.
    pub issue_count: u64,
    /// What may be left in an evidence store that belongs to no file, or was taken there on trust.
    pub left_behind: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// Bytes of all streams by state.
    #[must_use]
    pub fn states(&self) -> StateBytes {
        states(&self.streams)
    }
}

static SILENT: NoProgress = NoProgress;

impl<'a> Acquisition<'a> {
    /// Plans an acquisition into a bundle.
    #[must_use]
    pub fn new(what: impl Capture + 'static, destination: Destination) -> Self {
        let (options, told) = (PipelineOptions::default(), Map::new());
        Self {
            what: Box::new(what),
            destination,
            options,
            told,
            command_line: None,
            progress: &SILENT,
            store: None,
            stop: Arc::default(),
            protection: None,
        }
    }

    /// Sets chunk size, level and threads.
    #[must_use]
    pub fn options(mut self, options: PipelineOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds an option to the manifest and the log: what the caller was told to do.
    #[must_use]
    pub fn told(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.told.insert(name.to_owned(), value.into());
        self
    }

    /// Says in the log what was typed; the first 4,096 bytes of it.
    #[must_use]
    pub fn command_line(mut self, typed: &str) -> Self {
        let cut = (0..=typed.len().min(4096)).rev().find(|at| typed.is_char_boundary(*at)).unwrap_or(0);
        let (kept, rest) = typed.split_at(cut);
        let more = if rest.is_empty() { String::new() } else { format!(" … ({} bytes more)", rest.len()) };
        self.command_line = Some(format!("{kept}{more}"));
        self
    }

    /// Tells somebody how far it is.
    #[must_use]
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Puts the bundle's files into another store than the destination's folder, which then holds the log alone.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn BundleStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Pauses when `stop` is set: what was read until then is kept, and [`Acquisition::resume`] goes on from there.
    #[must_use]
    pub fn stop_when(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Encrypts data, tables and catalogue to age recipients; to none, it encrypts nothing.
    ///
    /// Manifest and log stay readable: they tell the source, the options and every hash, and of what went wrong only how
    /// often.
    #[must_use]
    pub fn encrypted_to(mut self, recipients: Recipients) -> Self {
        self.protection = (!recipients.is_empty()).then(|| Arc::new(recipients));
        self
    }

    /// What is known of the source before anything is read.
    #[must_use]
    pub fn source_facts(&self) -> SourceFacts {
        self.what.facts()
    }

    /// Bytes that will be read, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.what.size()
    }

    /// Acquires: the log's first entries, the data, the tables, the log's last entries, the seal.
    ///
    /// Stopped at any moment, it leaves an open bundle whose log holds and whose stored chunks can be read with zstd.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::SourceLost`], [`Error::Bundle`], [`Error::Custody`]. The log says why, where it can
    /// still be written.
    pub fn run(self, writer: &Writer<'_>) -> Result<Report> {
        // Where the bundle goes to an evidence store, nothing is read whose log is not there.
        let writer = writer.clone().for_exhibit(&self.destination.exhibit).needing_mirror();
        let started = writer.clock().now();
        let facts = self.source_facts();
        let options = self.option_values();
        let genesis =
            NewEntry::new(EntryType::LOG_GENESIS).how("name", escape_text(self.destination.name.as_bytes()));
        let log = CustodyLog::create(&self.destination.folder, genesis, &writer)?;
        let store = self.bundle_store();
        let lock = self.lock(&store)?;
        let start = NewEntry::new(EntryType::ACQUIRE_START)
            .how("command", format!("acquire {}", facts.kind))
            .how("options", Value::Object(options.clone()))
            .how("source", serde_json::to_value(&facts).unwrap_or_default());
        let start = match &self.command_line {
            Some(typed) => start.how("command_line", typed.as_str()),
            None => start,
        };
        let start = log.append(&start, &writer)?.seq;
        let begun = Start {
            log,
            start,
            created: started.rfc3339(),
            options,
            facts,
            resumes: false,
            store,
            _lock: lock,
        };
        self.go_on(begun, &writer, started)
    }

    /// Goes on with an acquisition of a source that can be read again, which was cut short in this destination.
    ///
    /// What the journal vouches for is hashed again; then the source is read on, in the chunks that were begun with. The
    /// stream's hash is that of an acquisition that was never interrupted.
    ///
    /// # Errors
    ///
    /// [`Error::NotResumable`] if no acquisition of this source is open there, those of [`Acquisition::run`], and
    /// [`Error::Bundle`] where what was stored is damaged.
    pub fn resume(mut self, writer: &Writer<'_>) -> Result<Report> {
        let writer = writer.clone().for_exhibit(&self.destination.exhibit).needing_mirror();
        let started = writer.clock().now();
        let (folder, facts) = (&self.destination.folder, self.source_facts());
        let open = OpenAcquisition::expect(folder, &self.destination.exhibit, &facts)?;
        self.protection = self.same_recipients(&open)?;
        let chunk_size = open.options.get("chunk_size").and_then(Value::as_u64);
        if let Some(chunk_size) = chunk_size.and_then(|size| u32::try_from(size).ok()) {
            self.options.cut.chunk_size = chunk_size;
        }
        if let Some(level) = open.options.get("level").and_then(Value::as_i64) {
            self.options.level = i32::try_from(level).unwrap_or(self.options.level);
        }
        let store = self.bundle_store();
        let lock = self.lock(&store)?;
        let log = CustodyLog::open(&self.destination.folder)?;
        let entry = NewEntry::new(EntryType::ACQUIRE_RESUMED)
            .how("journaled_bytes", journaled_bytes(&store)?)
            .refers_to(open.start);
        log.append(&entry, &writer)?;
        let OpenAcquisition { created, options, start, .. } = open;
        if store.write_only().is_some_and(WriteOnly::is_settling) {
            let end = Sealing { log: &log, start, store: &store, started: &started };
            return end.again(self.destination.folder.clone(), &writer);
        }
        let begun = Start { log, start, created, options, facts, resumes: true, store, _lock: lock };
        self.go_on(begun, &writer, started)
    }

    /// Whom the acquisition was encrypted to when it was begun. Others cannot be given now.
    fn same_recipients(&self, open: &OpenAcquisition) -> Result<Option<Arc<Recipients>>> {
        let names = open.options.get(ENCRYPTED_TO).and_then(Value::as_array);
        let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
        let mut recipients = Recipients::default();
        names.iter().try_for_each(|name| recipients.add(name))?;
        match &self.protection {
            Some(given) if given.names() != recipients.names() => Err(Error::NotResumable {
                exhibit: self.destination.exhibit.clone(),
                reason: format!("it was begun encrypted to {names:?}, which cannot be changed now"),
            }),
            _ => Ok((!recipients.is_empty()).then(|| Arc::new(recipients))),
        }
    }

    fn bundle_store(&self) -> Arc<dyn BundleStore> {
        self.store.clone().unwrap_or_else(|| {
            let folder = LocalFolder::new(&self.destination.folder);
            Arc::new(if self.what.reads_own_memory() { folder.leaving_no_cache() } else { folder })
        })
    }

    fn lock(&self, store: &Arc<dyn BundleStore>) -> Result<Option<File>> {
        lock_journal(&**store).map_err(|error| match &error {
            custody::bundle::Error::Write { source, .. } if source.kind() == ErrorKind::WouldBlock => {
                Error::NotResumable {
                    exhibit: self.destination.exhibit.clone(),
                    reason: "another process is acquiring it now".to_owned(),
                }
            }
            _ => error.into(),
        })
    }

    /// Everything behind the first entries of the log.
    fn go_on(mut self, begun: Start, writer: &Writer<'_>, started: Moment) -> Result<Report> {
        let Start { log, start, created, options, mut facts, resumes, store, _lock } = begun;
        let folder = self.destination.folder.clone();
        if self.what.reads_own_memory() {
            self.options.buffer_bytes = SPARING_BUFFER_BYTES;
        }
        let mut streams = Streams {
            store: &store,
            folder: &folder,
            flow: Flow {
                options: self.options,
                progress: self.progress,
                stop: Arc::clone(&self.stop),
                protection: self.protection.clone(),
            },
            resumes,
            log: &log,
            writer,
            issues: Issues::default(),
            finished: Vec::new(),
            ranges: Vec::new(),
            files: None,
        };
        let captured = self.what.capture(&mut streams);
        let Streams { issues, finished, files, .. } = streams;
        if let Err(error) = captured {
            let entry = match &error {
                Error::Paused => NewEntry::new(EntryType::ACQUIRE_PAUSED)
                    .how("by", "signal")
                    .result("journaled_bytes", journaled_bytes(&store).unwrap_or(0)),
                error => NewEntry::new(EntryType::ACQUIRE_ERROR)
                    .error("stopped_by", escape_text(chain(error).as_bytes())),
            };
            // A full disk takes no entry either; the error itself says what happened.
            let entry = if issues.count() > 0 { entry.error("issues", issues.count()) } else { entry };
            let left = left_behind(&store);
            let entry = if left.is_empty() { entry } else { entry.error("left_in_store", left) };
            let _ = log.append(&entry.refers_to(start), writer);
            return Err(error);
        }
        let after = self.what.facts_after();
        facts.more.extend(after.clone());
        if issues.count() > 0 {
            log.append(&issues_entry(&issues, &finished, start, self.protection.is_none()), writer)?;
        }
        let end = end_entry(&finished, &issues, files, start);
        let short = after.iter().filter(|(_, fact)| fact.to_string().len() <= LONGEST_FACT);
        let end = short.fold(end, |end, (name, fact)| end.result(name, fact.clone()));
        log.append(&end, writer)?;
        let identity = writer.identity();
        let escape = |text: &str| escape_text(text.as_bytes());
        let manifest = Manifest {
            base: self.what.base(),
            case: self.destination.case.clone(),
            created,
            exhibit: self.destination.exhibit.clone(),
            examiner: Examiner {
                key: writer.key().verifying_key().fingerprint(),
                name: escape(&identity.actor.name),
            },
            format: FORMAT.to_owned(),
            host: custody::Host {
                name: escape(&identity.host.name),
                machine: escape(&identity.host.machine),
                os: escape(&identity.host.os),
            },
            id: uuid_v7(started.wall_ns)?,
            log: LogOrigin { origin: log.origin().to_owned(), vkey: log.genesis_key().to_vkey(log.origin()) },
            name: escape(&self.destination.name),
            options,
            source: facts,
            streams: finished.clone(),
            tool: custody::Tool {
                name: escape(&identity.tool.name),
                version: escape(&identity.tool.version),
                build_sha256: identity.tool.build_sha256,
            },
        };
        let sealed = seal(&store, &manifest, writer.key())?;
        let left_behind =
            Sealing { log: &log, start, store: &store, started: &started }.end(&sealed, writer)?;
        Ok(Report {
            bundle: folder,
            streams: finished,
            manifest_sha256: sealed.manifest.sha256,
            files,
            facts: after,
            issue_count: issues.count(),
            issues: issues.into_kept(),
            left_behind,
            seconds: seconds_since(&started, writer),
        })
    }

    fn option_values(&self) -> Map<String, Value> {
        let mut options = self.told.clone();
        options.insert("chunk_size".to_owned(), self.options.cut.chunk_size.into());
        options.insert("level".to_owned(), self.options.level.into());
        if let Some(recipients) = &self.protection {
            options.insert(ENCRYPTED_TO.to_owned(), recipients.names().into());
        }
        options.extend(self.what.options());
        options
    }
}

/// An acquisition whose log has begun.
struct Start {
    log: CustodyLog,
    /// Number of `acquire.start`.
    start: u64,
    created: String,
    options: Map<String, Value>,
    facts: SourceFacts,
    resumes: bool,
    store: Arc<dyn BundleStore>,
    /// Held until the bundle is sealed.
    _lock: Option<File>,
}

/// The end of an acquisition whose files are all decided.
struct Sealing<'a> {
    log: &'a CustodyLog,
    /// Number of `acquire.start`.
    start: u64,
    store: &'a Arc<dyn BundleStore>,
    started: &'a Moment,
}

impl Sealing<'_> {
    /// Seals: the log's entry, and nothing that was kept only until now. Gives what is left in the store.
    fn end(&self, sealed: &SealFiles, writer: &Writer<'_>) -> Result<Vec<String>> {
        let left = left_behind(self.store);
        let entry = sealed.entry().refers_to(self.start);
        let entry = if left.is_empty() { entry } else { entry.result("left_in_store", left.clone()) };
        self.log.append(&entry, writer)?;
        remove_journal(&**self.store)?;
        if let Some(store) = self.store.write_only() {
            store
                .sealed()
                .map_err(|source| custody::bundle::Error::Write { path: "data".to_owned(), source })?;
        }
        Ok(left)
    }

    /// Seals a bundle whose files were decided before an interruption, and may be in the store in part.
    fn again(&self, folder: PathBuf, writer: &Writer<'_>) -> Result<Report> {
        let (sealed, manifest) = seal_again(self.store)?;
        let left_behind = self.end(&sealed, writer)?;
        let entries = self.log.read()?.entries;
        let end = entries.iter().rfind(|entry| entry.kind == EntryType::ACQUIRE_END);
        let issue_count = end.and_then(|end| end.about.result.get("issues")?.as_u64()).unwrap_or_default();
        Ok(Report {
            bundle: folder,
            streams: manifest.streams,
            manifest_sha256: sealed.manifest.sha256,
            files: None,
            facts: Map::new(),
            issues: Vec::new(),
            issue_count,
            left_behind,
            seconds: seconds_since(self.started, writer),
        })
    }
}

fn left_behind(store: &Arc<dyn BundleStore>) -> Vec<String> {
    store.write_only().map(WriteOnly::left_behind).unwrap_or_default()
}

fn seconds_since(started: &Moment, writer: &Writer<'_>) -> f64 {
    let passed = writer.clock().now().mono_ns.saturating_sub(started.mono_ns);
    std::time::Duration::from_nanos(passed).as_secs_f64()
}

fn states(streams: &[Stream]) -> StateBytes {
    let mut all = StateBytes::default();
    for stream in streams {
        for state in State::ALL {
            all.add(state, stream.states.of(state));
        }
    }
    all
}

/// With `names`, the first issues are told; else what was encrypted would show here in part.
fn issues_entry(issues: &Issues, streams: &[Stream], start: u64, names: bool) -> NewEntry {
    let named: Vec<Value> = issues
        .kept()
        .iter()
        .take(NAMED_ISSUES)
        .map(|issue| {
            let mut named = Map::new();
            // Paths may be 4 KiB, and an entry 64 KiB at most.
            named.insert("path".to_owned(), cut(&issue.path, 1000).into());
            named.insert("what".to_owned(), cut(&issue.what, 300).into());
            if let Some(offset) = issue.offset {
                named.insert("offset".to_owned(), offset.into());
            }
            if let Some(length) = issue.length {
                named.insert("length".to_owned(), length.into());
            }
            Value::Object(named)
        })
        .collect();
    let tables = streams.iter().flat_map(|stream| [Some(&stream.extents), stream.catalog.as_ref()]);
    let states = states(streams);
    let entry = NewEntry::new(EntryType::ACQUIRE_ERROR)
        .error("issues", issues.count())
        .error("unreadable_bytes", states.unreadable)
        .error("absent_bytes", states.absent)
        .refers_to(start);
    let entry = if names { entry.error("first", named) } else { entry };
    tables.flatten().fold(entry, |entry, file| entry.subject(&file.path, file.size, file.sha256))
}

fn end_entry(streams: &[Stream], issues: &Issues, files: Option<FileCounts>, start: u64) -> NewEntry {
    let size = streams.iter().fold(0u64, |size, stream| size.saturating_add(stream.size));
    let entry = NewEntry::new(EntryType::ACQUIRE_END)
        .result("bytes", size)
        .result("states", serde_json::to_value(states(streams)).unwrap_or_default())
        .result("issues", issues.count())
        .refers_to(start);
    let entry =
        streams.iter().fold(entry, |entry, stream| entry.subject(&stream.name, stream.size, stream.sha256));
    let entry = match streams {
        [stream] => entry
            .result("sha256", stream.sha256.to_string())
            .result("sha256_data", stream.sha256_data.to_string()),
        _ => entry,
    };
    match files {
        Some(counts) => entry.result("entries", counts.entries).result("files", counts.files),
        None => entry,
    }
}

/// The first characters of an escaped text, never within an escape.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(longest / 4).collect();
    if let Some(at) = short.rfind('\\').filter(|at| short.len() - at < 4) {
        short.truncate(at);
    }
    short + "…"
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
