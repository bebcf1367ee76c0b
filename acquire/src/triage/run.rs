//! One triage: the artefacts in order of volatility, into two streams.
//!
//! - Stream `commands`: output of programs, tables of our collectors, and what happened in the run. `/artefacts.jsonl`
//!   says of each artefact how it went, `/commands.jsonl` of each command, `/repeats.jsonl` which files several artefacts
//!   named, `/footprint.json` what the run did to the host.
//! - Stream `files`: the host's files under the paths that they have below the root.
//! - Of a root that is not the running system's, only files are taken: its programs would tell of this machine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use custody::bundle::Source as SourceFacts;
use custody::clock::Clock;
use custody::strict_json::escape_text;
use serde_json::{Map, Value};

use super::artefact::{Artefact, ArtefactTable, How, Profile};
use super::bounded_reads::Patience;
use super::collectors::{Collector, collector_of};
use super::command_artefact::{CommandRunner, CommandTally, hash};
use super::container_changes::container_changes;
use super::containers::containers;
use super::file_collection::{FileCollection, FileTally, Taken};
use super::footprint::{Footprint, Moment};
use super::host_files::HostFiles;
use super::kernel_state::kernel_state;
use super::live_table::{LiveTable, Row};
use super::mounts::Mounts;
use super::own_facts::own_facts;
use super::processes::processes;
use super::sessions::sessions;
use super::sockets::sockets;
use super::survey::{Owners, Survey};
use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::tar_packer::TarPacker;

const ARTEFACTS_FORMAT: &str = "exhibit-artefacts/1";
const REPEATS_FORMAT: &str = "exhibit-repeats/1";
const EXECUTABLES_FORMAT: &str = "exhibit-executables/1";

/// What is read of `/etc/passwd` and of the table of mounts.
const MOST_TABLE: u64 = 64 << 20;

/// Homes, at most.
const MOST_HOMES: usize = 20_000;

/// How a triage is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TriageOptions {
    /// Where the host's files lie: `/`, or where its file systems are mounted.
    pub root: PathBuf,
    /// Which artefacts are taken.
    pub profile: Profile,
    /// Only these, by name or level; the profile does not count then.
    pub picks: Vec<String>,
    /// Enter file systems of the network too.
    pub network_mounts: bool,
    /// For how long one act on a file may take before its file system is given up.
    pub file_time: Duration,
}

impl Default for TriageOptions {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            profile: Profile::Full,
            picks: Vec::new(),
            network_mounts: false,
            file_time: Duration::from_secs(10),
        }
    }
}

/// How an artefact went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// All of it was taken.
    Done,
    /// There was nothing of it on this host: no such program, no such file.
    Missing,
    /// A part of it could not be taken.
    Failed,
    /// A part of it did not answer in time.
    TimedOut,
    /// It was not tried; the reason says why.
    Skipped,
}

impl State {
    /// The word that stands in `/artefacts.jsonl`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Skipped => "skipped",
        }
    }
}

/// How one artefact went.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ArtefactResult {
    /// Its name.
    pub name: String,
    /// How volatile it is: `V3`.
    pub level: String,
    /// How it went.
    pub state: State,
    /// Files taken.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Commands run.
    pub commands: u64,
    /// What there is to say, in words; may be empty.
    pub what: String,
}

/// How a triage went, artefact by artefact.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TriageSummary {
    /// In the order in which they were taken.
    pub artefacts: Vec<ArtefactResult>,
}

impl TriageSummary {
    /// How many went that way.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.artefacts.iter().filter(|result| result.state == state).count()
    }
}

/// A triage that is ready to run.
#[derive(Debug)]
pub struct TriageCapture {
    options: TriageOptions,
    artefacts: Vec<Artefact>,
    summary: Arc<Mutex<TriageSummary>>,
}

impl TriageCapture {
    /// Plans a triage. Nothing is touched but the root.
    ///
    /// # Errors
    ///
    /// [`Error::OpenSource`] if the root is not there, [`Error::NotASource`] if it is no folder, or if no artefact is
    /// picked, [`Error::Artefacts`] for a pick that is not in the table.
    pub fn new(table: &ArtefactTable, mut options: TriageOptions) -> Result<Self> {
        let failed = |source| Error::OpenSource { path: options.root.clone(), source };
        let root = options.root.canonicalize().map_err(failed)?;
        if !root.is_dir() {
            return Err(Error::NotASource { path: root, reason: "the root of a host is a folder" });
        }
        options.root = root;
        let artefacts = table.select(options.profile, &options.picks).map_err(Error::Artefacts)?;
        if artefacts.is_empty() {
            return Err(Error::NotASource { path: options.root, reason: "no artefact is picked" });
        }
        Ok(Self { options, artefacts, summary: Arc::default() })
    }

    /// Where it will stand how it went, once it has run.
    #[must_use]
    pub fn summary(&self) -> Arc<Mutex<TriageSummary>> {
        Arc::clone(&self.summary)
    }

    /// What will be taken, in order.
    #[must_use]
    pub fn artefacts(&self) -> &[Artefact] {
        &self.artefacts
    }
}

impl Capture for TriageCapture {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            kind: "triage".to_owned(),
            path: Some(escape_text(self.options.root.as_os_str().as_encoded_bytes())),
            ..SourceFacts::default()
        }
    }

    fn options(&self) -> Map<String, Value> {
        let mut options = Map::new();
        options.insert("profile".to_owned(), self.options.profile.word().into());
        options.insert("picked".to_owned(), self.options.picks.clone().into());
        options.insert("network_mounts".to_owned(), self.options.network_mounts.into());
        options.insert("artefacts".to_owned(), self.artefacts.len().into());
        options
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let (writer, progress, bundle) = (streams.writer, streams.flow.progress, streams.folder.to_owned());
        let (artefacts, options) = (&self.artefacts, &self.options);
        let results = streams.tar_pair([("commands", "commands"), ("files", "files")], |live, files| {
            let run = Run::begin(options, artefacts, &bundle, writer.clock(), live);
            run.all(writer.identity(), progress, live, files)
        })?;
        if let Ok(mut summary) = self.summary.lock() {
            summary.artefacts = results;
        }
        Ok(())
    }

    fn facts_after(&self) -> Map<String, Value> {
        let Ok(summary) = self.summary.lock() else { return Map::new() };
        let mut counts = Map::new();
        for state in [State::Done, State::Missing, State::Failed, State::TimedOut, State::Skipped] {
            counts.insert(state.word().to_owned(), summary.count(state).into());
        }
        Map::from_iter([("artefacts".to_owned(), Value::Object(counts))])
    }
}

/// A triage that runs.
struct Run<'a> {
    artefacts: &'a [Artefact],
    bundle: &'a Path,
    clock: &'a dyn Clock,
    is_live: bool,
    host: HostFiles,
    homes: Vec<PathBuf>,
    owners: Owners,
    taken: Taken,
    survey: Survey,
    runner: CommandRunner<'a>,
    start: Moment,
    sockets: Vec<&'static str>,
    table: LiveTable,
}

impl<'a> Run<'a> {
    fn begin(
        options: &'a TriageOptions,
        artefacts: &'a [Artefact],
        bundle: &'a Path,
        clock: &'a dyn Clock,
        out: &mut TarPacker<'_>,
    ) -> Self {
        let start = Moment::now(clock);
        let read = || std::fs::read("/proc/self/mountinfo");
        let mounts = Patience::of(options.file_time).wait(read).unwrap_or_else(|error| {
            let what =
                format!("cannot be read, so mounts of the network cannot be told from others: {error}");
            out.note(Path::new("/proc/self/mountinfo"), &what);
            Vec::new()
        });
        let mut host =
            HostFiles::new(&options.root, Mounts::read(&mounts), options.network_mounts, options.file_time);
        host.leave_out(bundle);
        let passwd = host.read_small(Path::new("/etc/passwd"), MOST_TABLE).unwrap_or_default();
        let group = host.read_small(Path::new("/etc/group"), MOST_TABLE).unwrap_or_default();
        let homes = homes(&mut host, &passwd);
        Self {
            artefacts,
            bundle,
            clock,
            is_live: options.root == Path::new("/"),
            host,
            homes,
            owners: Owners::read(&passwd, &group),
            taken: Taken::default(),
            survey: wanted(artefacts),
            runner: CommandRunner::new(clock, bundle),
            start,
            sockets: Vec::new(),
            table: LiveTable::new("artefacts", ARTEFACTS_FORMAT, Map::new()),
        }
    }

    fn all(
        mut self,
        identity: &custody::Identity,
        progress: &dyn Progress,
        live: &mut TarPacker<'_>,
        files: &mut TarPacker<'_>,
    ) -> Result<Vec<ArtefactResult>> {
        let mut results = Vec::new();
        for (place, artefact) in self.artefacts.iter().enumerate() {
            progress.part(&format!("{} {}", artefact.level, artefact.name));
            let start = self.clock.now().rfc3339();
            let result = self.one(place, artefact, identity, live, files)?;
            self.tell(artefact, &result, start, live)?;
            results.push(result);
        }
        let name_of = |place: usize| self.artefacts.get(place).map_or("", |artefact| artefact.name.as_str());
        let mut repeats = LiveTable::new("repeats", REPEATS_FORMAT, Map::new());
        for (path, artefact, taken_by) in &self.taken.repeats {
            let mut row = Row::default();
            row.put("path", path.clone());
            row.put("artefact", name_of(*artefact));
            row.put("taken_by", name_of(*taken_by));
            repeats.row(live, row.into_map())?;
        }
        repeats.end(live)?;
        self.table.end(live)?;
        let footprint = Footprint {
            start: &self.start,
            identity,
            bundle: self.bundle,
            host: &self.host,
            results: &results,
            sockets: &self.sockets,
        };
        footprint.store(&self.runner, self.clock, live)?;
        self.runner.end(live)?;
        Ok(results)
    }

    fn one(
        &mut self,
        place: usize,
        artefact: &Artefact,
        identity: &custody::Identity,
        live: &mut TarPacker<'_>,
        files: &mut TarPacker<'_>,
    ) -> Result<ArtefactResult> {
        let mut result = ArtefactResult {
            name: artefact.name.clone(),
            level: artefact.level.to_string(),
            state: State::Done,
            files: 0,
            bytes: 0,
            commands: 0,
            what: String::new(),
        };
        let skipped = "the root is not that of the running system";
        match &artefact.how {
            How::Commands(_) if !self.is_live => result.skip(skipped),
            How::Commands(commands) => {
                let tally = self.runner.artefact(artefact, commands, &mut self.host, live)?;
                result.of_commands(&tally);
            }
            How::Files(wanted) => {
                if !wanted.anywhere.is_empty() {
                    // Mostly it has run by now, for file metadata.
                    self.survey.run(&mut self.host, &self.owners, &self.clock.now().rfc3339(), live)?;
                }
                let found = self.survey.found.remove(&place).unwrap_or_default();
                let (host, taken, tally) = (&mut self.host, &mut self.taken, FileTally::default());
                let collection =
                    FileCollection { host, out: files, taken, files: wanted, artefact: place, tally };
                let tally = collection.run(&self.homes, &found)?;
                result.of_files(&tally);
            }
            How::Collector(name) => match collector_of(artefact) {
                None => {
                    result.state = State::Failed;
                    result.what = format!("there is no collector {name:?} in this program");
                    live.note(Path::new(name), &result.what);
                }
                Some(collector) if collector.is_live() && !self.is_live => result.skip(skipped),
                Some(collector) => self.collect(collector, identity, &mut result, live, files)?,
            },
        }
        Ok(result)
    }

    fn collect(
        &mut self,
        collector: Collector,
        identity: &custody::Identity,
        result: &mut ArtefactResult,
        live: &mut TarPacker<'_>,
        files: &mut TarPacker<'_>,
    ) -> Result<()> {
        self.sockets.extend(collector.sockets());
        let (before, counts) = (live.issues().count(), live.counts());
        match collector {
            Collector::OwnFacts => own_facts(&mut self.host, identity, self.bundle, self.clock, live)?,
            Collector::FileMetadata => {
                self.survey.run(&mut self.host, &self.owners, &self.clock.now().rfc3339(), live)?;
                result.what =
                    format!("{} entries, {} of them notable", self.survey.entries, self.survey.notable);
                result.went_wrong(self.survey.failed, self.survey.timed_out);
            }
            Collector::Executables => self.executables(result, live)?,
            Collector::Processes => processes(live, self.clock)?,
            Collector::Sockets => sockets(live, self.clock)?,
            Collector::KernelState => kernel_state(live, self.clock)?,
            Collector::Sessions => sessions(live, self.clock)?,
            Collector::Containers => {
                containers(live, self.clock)?;
                container_changes(live, files, self.clock)?;
            }
        }
        if collector.is_live() {
            // What could not be read is listed one by one, and the rest is there.
            let issues = live.issues().count().saturating_sub(before);
            result.files = live.counts().files.saturating_sub(counts.files);
            result.bytes = live.counts().bytes.saturating_sub(counts.bytes);
            result.what = if issues > 0 { format!("{issues} issues") } else { String::new() };
        }
        Ok(())
    }

    /// SHA-256 of every executable that the survey found.
    fn executables(&mut self, result: &mut ArtefactResult, live: &mut TarPacker<'_>) -> Result<()> {
        self.survey.run(&mut self.host, &self.owners, &self.clock.now().rfc3339(), live)?;
        let mut table = LiveTable::new("V12/executables", EXECUTABLES_FORMAT, Map::new());
        let mut failed = 0u64;
        let paths = std::mem::take(&mut self.survey.executables);
        for path in &paths {
            let mut row = Row::default();
            row.text("path", path.as_os_str().as_encoded_bytes());
            match hash_at(&mut self.host, path) {
                Ok((size, sha256)) => {
                    row.number("size", Some(size));
                    row.put("sha256", sha256.to_string());
                    result.files += 1;
                    result.bytes = result.bytes.saturating_add(size);
                }
                Err(why) => {
                    failed += 1;
                    row.text("error", why.as_bytes());
                }
            }
            table.row(live, row.into_map())?;
        }
        result.went_wrong(failed, 0);
        table.end(live)
    }

    fn tell(
        &mut self,
        artefact: &Artefact,
        result: &ArtefactResult,
        start: String,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        let mut row = Row::default();
        row.put("artefact", artefact.name.clone());
        row.put("level", artefact.level.to_string());
        row.put("profile", artefact.profile.word());
        row.put("kind", artefact.how.word());
        row.text("description", artefact.description.as_bytes());
        row.put("state", result.state.word());
        row.put("start", start);
        row.put("end", self.clock.now().rfc3339());
        row.number("files", (result.files > 0).then_some(result.files));
        row.number("bytes", (result.files > 0).then_some(result.bytes));
        row.number("commands", (result.commands > 0).then_some(result.commands));
        if !result.what.is_empty() {
            row.text("what", result.what.as_bytes());
        }
        if let How::Files(files) = &artefact.how {
            let texts = |patterns: &[super::pattern::Pattern]| -> Vec<Value> {
                patterns.iter().map(|pattern| Value::from(escape_text(pattern.text().as_bytes()))).collect()
            };
            row.put("patterns", [texts(&files.patterns), texts(&files.anywhere)].concat());
        }
        self.table.row(out, row.into_map())
    }
}

impl ArtefactResult {
    fn skip(&mut self, why: &str) {
        self.state = State::Skipped;
        why.clone_into(&mut self.what);
    }

    fn went_wrong(&mut self, failed: u64, timed_out: u64) {
        if timed_out > 0 {
            self.state = State::TimedOut;
        } else if failed > 0 {
            self.state = State::Failed;
        }
    }

    fn of_commands(&mut self, tally: &CommandTally) {
        self.commands = tally.ran;
        if tally.ran == 0 && !tally.missing.is_empty() {
            self.state = State::Missing;
        }
        self.went_wrong(tally.failed, tally.timed_out);
        let mut words = Vec::new();
        if !tally.missing.is_empty() {
            words.push(format!("not there: {}", tally.missing.join(", ")));
        }
        if tally.had_no_items {
            words.push("there was nothing to ask for".to_owned());
        }
        if tally.nonzero > 0 {
            words.push(format!("{} of {} ended with an error", tally.nonzero, tally.ran));
        }
        if tally.timed_out > 0 {
            words.push(format!("{} did not end in time", tally.timed_out));
        }
        self.what = words.join("; ");
    }

    fn of_files(&mut self, tally: &FileTally) {
        (self.files, self.bytes) = (tally.files, tally.bytes);
        if tally.entries == 0 && tally.repeats == 0 {
            self.state = State::Missing;
        }
        self.went_wrong(tally.failed, tally.timed_out);
        let mut words = Vec::new();
        if tally.repeats > 0 {
            words.push(format!("{} entries were taken by earlier artefacts", tally.repeats));
        }
        if tally.is_cut {
            words.push("ended at its limit of bytes".to_owned());
        }
        if tally.failed > 0 {
            words.push(format!("{} could not be taken, or not whole", tally.failed));
        }
        if tally.timed_out > 0 {
            words.push(format!("{} did not answer in time", tally.timed_out));
        }
        self.what = words.join("; ");
    }
}

/// What the artefacts want of the one walk over the whole file system.
fn wanted(artefacts: &[Artefact]) -> Survey {
    let mut survey = Survey::default();
    for (place, artefact) in artefacts.iter().enumerate() {
        match (&artefact.how, collector_of(artefact)) {
            (How::Files(files), _) if !files.anywhere.is_empty() => {
                survey.wanted.push((place, files.anywhere.clone(), files.exclude.clone()));
            }
            (_, Some(Collector::FileMetadata)) => survey.tables_wanted = true,
            (_, Some(Collector::Executables)) => survey.executables_wanted = true,
            _ => {}
        }
    }
    survey
}

/// Home folders: those of `/etc/passwd`, `/root`, and what lies in `/home`.
fn homes(host: &mut HostFiles, passwd: &[u8]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut homes: Vec<PathBuf> = passwd
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b':').nth(5))
        .filter(|home| home.starts_with(b"/"))
        .map(|home| PathBuf::from(std::ffi::OsStr::from_bytes(home)))
        .filter(|home| home.components().all(|part| part != std::path::Component::ParentDir))
        .collect();
    homes.push(PathBuf::from("/root"));
    let listed = host.folder_at(Path::new("/home")).and_then(|(_, folder)| host.names(&folder));
    if let Ok((names, _)) = listed {
        homes.extend(names.into_iter().map(|name| Path::new("/home").join(name)));
    }
    homes.sort();
    homes.dedup();
    homes.truncate(MOST_HOMES);
    homes
}

fn hash_at(host: &mut HostFiles, path: &Path) -> std::result::Result<(u64, custody::Digest), String> {
    let (folder, name) = match host.walk_to(path) {
        Ok(mut on_the_way) => on_the_way.pop().ok_or("is not there")?,
        Err(refusal) => return Err(refusal.told()),
    };
    let found = host.open_entry(&folder, &name, true).map_err(|refusal| refusal.told())?;
    let opened = found.opened.as_ref().ok_or("cannot be opened")?;
    let size = found.inode.size();
    let digest = if opened.first.len() as u64 == size {
        Some(custody::sha256(&opened.first))
    } else {
        hash(host, found.mount(), &opened.file, size)
    };
    digest.map(|digest| (size, digest)).ok_or_else(|| "cannot be read whole".to_owned())
}
