//! `acquire container`: finds the container, then reads it in the order in which it would go away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::clock::Clock;
use custody::strict_json::{escape_text, to_line};
use serde_json::{Map, Value};

use super::docker;
use super::find::{Found, View, find};
use super::freezer::Frozen;
use super::members::{members, start_below, start_of};
use super::memory_ranges::Tally;
use super::process_memory::process_memory;
use super::root_files::root_files;
use crate::capture::{Capture, Streams};
use crate::error::Result;
use crate::source::Issue;
use crate::tar_packer::TarPacker;
use crate::triage::bounded_reads::{link_below, open_folder, read_below};
use crate::triage::containers::FORMAT as CONTAINERS_FORMAT;
use crate::triage::live_table::{LiveTable, Row};
use crate::triage::processes::{namespace_inode, processes_of};
use crate::triage::sockets::sockets_in;

const FORMAT: &str = "exhibit-container/1";

/// Who is asked for the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContainerRuntime {
    /// All of them, and the control groups of processes if none knows it.
    #[default]
    Auto,
    /// Docker and Podman.
    Docker,
    /// containerd.
    Containerd,
    /// What runc and crun keep on disk.
    Runc,
}

impl ContainerRuntime {
    /// Its word on a command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Runc => "runc",
        }
    }
}

/// How a container is acquired.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContainerOptions {
    /// Who is asked.
    pub runtime: ContainerRuntime,
    /// Sockets of Docker or containerd, beside those at the usual places.
    pub sockets: Vec<PathBuf>,
    /// Folders of runc's state (its `--root`), beside those at the usual places.
    pub states: Vec<PathBuf>,
    /// Hold its processes still until their memory is read.
    pub pause: bool,
    /// Bytes of memory that are read, at most; 0 for none.
    pub memory: u64,
    /// Of the files of a root, an upper folder or a file system in memory, bytes that are packed; the others are listed.
    pub files: u64,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        Self {
            runtime: ContainerRuntime::Auto,
            sockets: Vec::new(),
            states: Vec::new(),
            pause: false,
            memory: 16 << 30,
            files: 16 << 30,
        }
    }
}

/// A container that was found and is ready to be acquired.
#[derive(Debug)]
pub struct ContainerCapture {
    wanted: String,
    options: ContainerOptions,
    found: Found,
    after: Map<String, Value>,
}

impl ContainerCapture {
    /// Finds a container by its id, the beginning of its id, its name, `NAMESPACE/ID` of containerd, or `pid:N`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Container`] when there is none, or more than one.
    pub fn find(id: &str, options: ContainerOptions) -> Result<Self> {
        let found = find(Path::new("/"), id, &options)?;
        Ok(Self { wanted: id.to_owned(), options, found, after: Map::new() })
    }

    /// Its whole id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.found.id
    }

    /// Which runtimes know it.
    #[must_use]
    pub fn runtimes(&self) -> String {
        self.found.runtimes()
    }

    /// Its first process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.found.first().and_then(|view| view.pid)
    }
}

impl Capture for ContainerCapture {
    fn facts(&self) -> SourceFacts {
        let mut facts = SourceFacts {
            kind: "container".to_owned(),
            path: Some(escape_text(self.found.id.as_bytes())),
            ..SourceFacts::default()
        };
        let mut tell = |key: &str, text: &str| {
            if !text.is_empty() {
                facts.more.insert(key.to_owned(), escape_text(text.as_bytes()).into());
            }
        };
        tell("runtimes", &self.found.runtimes());
        let first_of = |of: fn(&View) -> &str| {
            self.found.views.iter().map(of).find(|text| !text.is_empty()).unwrap_or_default()
        };
        tell("container_name", first_of(|view| &view.name));
        tell("image", first_of(|view| &view.image));
        tell("namespace", first_of(|view| &view.namespace));
        tell("state", first_of(|view| &view.state));
        if let Some(pid) = self.pid() {
            facts.more.insert("pid".to_owned(), pid.into());
        }
        facts
    }

    fn options(&self) -> Map<String, Value> {
        let paths = |paths: &[PathBuf]| -> Value {
            let told = paths.iter().map(|path| Value::from(escape_text(path.as_os_str().as_encoded_bytes())));
            told.collect()
        };
        Map::from_iter([
            ("asked_for".to_owned(), escape_text(self.wanted.as_bytes()).into()),
            ("runtime".to_owned(), self.options.runtime.word().into()),
            ("sockets".to_owned(), paths(&self.options.sockets)),
            ("states".to_owned(), paths(&self.options.states)),
            ("pause".to_owned(), self.options.pause.into()),
            ("memory_limit".to_owned(), self.options.memory.into()),
            ("files_limit".to_owned(), self.options.files.into()),
        ])
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let mut run = Run::begin(&self.found, &self.options, streams);
        let frozen = run.freeze(streams);
        run.live(streams)?;
        run.memory(streams)?;
        run.thaw(frozen, streams);
        run.files(streams)?;
        self.after = run.after;
        Ok(())
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.after.clone()
    }
}

/// An acquisition that runs.
struct Run<'a> {
    root: &'static Path,
    found: &'a Found,
    options: &'a ContainerOptions,
    /// Its first process while that is the one that its runtime means, and when that began.
    first: Option<(u32, u64)>,
    /// Its processes, and when each began.
    members: BTreeMap<u32, u64>,
    after: Map<String, Value>,
}

impl<'a> Run<'a> {
    fn begin(found: &'a Found, options: &'a ContainerOptions, streams: &mut Streams<'_>) -> Self {
        let root = Path::new("/");
        let mut run = Self { root, found, options, first: None, members: BTreeMap::new(), after: Map::new() };
        for (path, what) in &found.notes {
            issue(streams, &path.to_string_lossy(), what);
        }
        let Some(view) = found.first() else {
            issue(
                streams,
                &found.id,
                "it does not run: there is no process, no memory and no socket to take",
            );
            return run;
        };
        let Some(pid) = view.pid else { return run };
        let known = found.views.iter().find_map(|view| view.start_ticks);
        match start_of(root, pid) {
            None => issue(streams, &found.id, "its first process had ended before it could be read"),
            Some(start) if known.is_some_and(|known| known != start) => {
                let what =
                    format!("process {pid} began at another time than its runtime says: it is another one");
                issue(streams, &found.id, &what);
            }
            Some(start) => run.first = Some((pid, start)),
        }
        run.look(streams);
        run
    }

    /// Looks which processes it has now; those that were seen before stay.
    fn look(&mut self, streams: &mut Streams<'_>) {
        let Some((pid, start)) = self.first else { return };
        match members(self.root, pid) {
            Ok(found) => self.members.extend(found),
            Err(error) => {
                self.members.insert(pid, start);
                issue(streams, &self.found.id, &format!("its other processes were not found: {error}"));
            }
        }
    }

    fn freeze(&mut self, streams: &mut Streams<'_>) -> Option<Frozen> {
        let (pid, _) = self.first.filter(|_| self.options.pause)?;
        match Frozen::freeze(pid, &self.members.keys().copied().collect()) {
            Ok(frozen) => {
                let now = streams.clock().now().rfc3339();
                self.after.insert("frozen_from".to_owned(), now.into());
                if frozen.was() {
                    self.after.insert("was_frozen".to_owned(), true.into());
                }
                // What was begun until now.
                self.look(streams);
                Some(frozen)
            }
            Err(why) => {
                issue(streams, &self.found.id, &format!("not held still: {why}"));
                None
            }
        }
    }

    fn thaw(&mut self, frozen: Option<Frozen>, streams: &mut Streams<'_>) {
        let Some(frozen) = frozen else { return };
        match frozen.thaw() {
            Ok(()) => {
                let now = streams.clock().now().rfc3339();
                self.after.insert("frozen_until".to_owned(), now.into());
            }
            Err(why) => issue(streams, &self.found.id, &why),
        }
    }

    /// What its runtime says, its processes with what they hold open, its sockets.
    fn live(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let (root, clock) = (self.root, streams.clock());
        let (found, members) = (self.found, &self.members);
        streams.tar("commands", "commands", |out| {
            for view in &found.views {
                for (name, bytes) in &view.documents {
                    out.made(&format!("V5/{name}"), bytes)?;
                }
            }
            views_table(found, clock, out)?;
            if members.is_empty() {
                return Ok(());
            }
            let namespaces = network_namespaces(root, members);
            processes_of(root, members, out, clock)?;
            sockets_in(root, Some(&namespaces), out, clock)
        })?;
        self.after.insert("processes".to_owned(), self.members.len().into());
        Ok(())
    }

    fn memory(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        if self.options.memory == 0 || self.members.is_empty() {
            return Ok(());
        }
        let (proc, members, progress) = (self.root.join("proc"), &self.members, streams.flow.progress);
        let mut left = self.options.memory;
        let (mut sum, mut read) = (Tally::default(), 0u64);
        streams.tar("processes", "files", |out| {
            // The smallest first, and none more than its share of what is left: one large process hides no other.
            for (at, (pid, start)) in smallest_first(&proc, members).into_iter().enumerate() {
                progress.part(&format!("memory of process {pid}"));
                let share = left / (members.len().saturating_sub(at).max(1) as u64);
                if let Some(tally) = process_memory(&proc, pid, start, share, out)? {
                    left = left.saturating_sub(tally.data);
                    sum.append(tally);
                    read += 1;
                }
            }
            Ok(())
        })?;
        let counts = [
            ("data", sum.data),
            ("absent", sum.absent),
            ("unreadable", sum.unreadable),
            ("skipped", sum.skipped),
        ];
        // Addresses that nothing lies at may be more than strict JSON can count.
        let counts = counts.map(|(state, bytes)| (state.to_owned(), Value::from(bytes.min(1 << 52))));
        self.after.insert("memory".to_owned(), Value::Object(Map::from_iter(counts)));
        self.after.insert("processes_with_memory".to_owned(), read.into());
        Ok(())
    }

    fn files(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let (root, found, options, clock) = (self.root, self.found, self.options, streams.clock());
        let first = self.first;
        let is_there = || is_there(root, first);
        let was_there = is_there();
        let pid = first.filter(|_| was_there).map(|(pid, _)| pid);
        if first.is_some() && !was_there {
            let what = "the container ended while it was read: what follows is what it left behind";
            issue(streams, &found.id, what);
        }
        let after = &mut self.after;
        streams.tar("files", "files", |out| {
            let mounted = root_files(root, found, pid, options.files, clock, out)?;
            let answers =
                |view: &&View| view.runtime.starts_with("docker") || view.runtime.starts_with("podman");
            for view in found.views.iter().filter(answers) {
                for (name, answer) in docker::later(view) {
                    match answer {
                        Ok(bytes) => out.made(&format!("V5/{name}"), &bytes)?,
                        Err(why) => out.note(Path::new(&name), &format!("not answered: {why}")),
                    }
                }
            }
            let is_there = is_there();
            if was_there && !is_there {
                out.note(Path::new(&found.id), "the container ended while its files were read");
            }
            after.insert("ended_meanwhile".to_owned(), (first.is_some() && !is_there).into());
            summary(found, after, mounted, clock, out)
        })
    }
}

/// Whether a process that began then is still there.
fn is_there(root: &Path, process: Option<(u32, u64)>) -> bool {
    process.is_some_and(|(pid, start)| start_of(root, pid) == Some(start))
}

fn issue(streams: &mut Streams<'_>, path: &str, what: &str) {
    let path = escape_text(path.as_bytes());
    streams.issues().add(Issue { path, offset: None, length: None, what: what.to_owned() });
}

/// Processes by the memory that they hold.
fn smallest_first(proc: &Path, members: &BTreeMap<u32, u64>) -> Vec<(u32, u64)> {
    let pages = |pid: u32| {
        let folder = open_folder(&proc.join(pid.to_string())).ok()?;
        let taken = read_below(&folder, "statm", 4 << 10).ok()?;
        std::str::from_utf8(&taken.bytes).ok()?.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let mut all: Vec<(u64, u32, u64)> =
        members.iter().map(|(&pid, &start)| (pages(pid).unwrap_or(0), pid, start)).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, pid, start)| (pid, start)).collect()
}

/// The network namespaces of processes, by inode.
fn network_namespaces(root: &Path, members: &BTreeMap<u32, u64>) -> BTreeSet<String> {
    let of = |(pid, start): (&u32, &u64)| {
        let folder = open_folder(&root.join(format!("proc/{pid}"))).ok()?;
        if start_below(&folder) != Some(*start) {
            return None;
        }
        namespace_inode(&link_below(&folder, "ns/net").ok()?)
    };
    members.iter().filter_map(of).collect()
}

/// One row for each runtime that knows it, as a triage has it.
fn views_table(found: &Found, clock: &dyn Clock, out: &mut TarPacker<'_>) -> Result<()> {
    let observed = clock.now().rfc3339();
    let about = Map::from_iter([("observed".to_owned(), observed.clone().into())]);
    let mut table = LiveTable::new("V5/containers", CONTAINERS_FORMAT, about);
    for view in &found.views {
        let mut row = Row::default();
        row.put("observed", observed.clone());
        for (key, text) in [
            ("engine", &view.runtime),
            ("id", &view.id),
            ("namespace", &view.namespace),
            ("name", &view.name),
            ("image", &view.image),
            ("state", &view.state),
        ] {
            if !text.is_empty() {
                row.text(key, text.as_bytes());
            }
        }
        row.number("pid", view.pid.map(u64::from));
        if let Some(upper) = &view.upper {
            row.text("upper_folder", upper.as_os_str().as_encoded_bytes());
        }
        table.row(out, row.into_map())?;
    }
    table.end(out)
}

/// `/V5/container.json`: what was found, how it was read, and what is mounted in it.
fn summary(
    found: &Found,
    after: &Map<String, Value>,
    mounted: Vec<Row>,
    clock: &dyn Clock,
    out: &mut TarPacker<'_>,
) -> Result<()> {
    let mut about = after.clone();
    about.insert("format".to_owned(), FORMAT.into());
    about.insert("observed".to_owned(), clock.now().rfc3339().into());
    about.insert("id".to_owned(), escape_text(found.id.as_bytes()).into());
    let mounted: Vec<Value> = mounted.into_iter().map(|row| Value::Object(row.into_map())).collect();
    about.insert("mounts".to_owned(), mounted.into());
    match to_line(&Value::Object(about)) {
        Ok(line) => out.made("V5/container.json", (line + "\n").as_bytes()),
        Err(error) => {
            out.note(Path::new("V5/container.json"), &format!("not written: {error}"));
            Ok(())
        }
    }
}
