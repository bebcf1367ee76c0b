//! Artefacts that are the output of the host's programs.
//!
//! Each run is a folder `/V2/ps-auxwww/` with `stdout` and, if there was any, `stderr`, and a line of `/commands.jsonl`
//! with the arguments, times, how it ended, and the program's path and SHA-256. A program that is not there is a line as
//! well, and no fault.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::clock::Clock;
use custody::strict_json::escape_text;
use custody::{Digest, Hasher};
use serde_json::{Map, Value};

use super::artefact::{Artefact, Commands, Each, EachFrom};
use super::command_run::{Ending, Limits, PATH, Ran, run};
use super::host_files::HostFiles;
use super::live_table::{LiveTable, Row};
use super::mounts::below;
use crate::error::Result;
use crate::tar_packer::TarPacker;

const FORMAT: &str = "exhibit-commands/1";

/// A program that hangs so often is not started again by the same artefact.
const MOST_HANGS: u32 = 3;

/// Programs up to this are hashed.
const LARGEST_PROGRAM: u64 = 1 << 30;

/// What is read of a list of items.
const MOST_LIST: u64 = 16 << 20;

/// A program of the host.
#[derive(Debug, Clone)]
struct Program {
    path: PathBuf,
    /// Where the links lead.
    real: PathBuf,
    sha256: Option<Digest>,
}

/// What an artefact of commands gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommandTally {
    pub(crate) ran: u64,
    /// Ended with another code than 0, or by a signal.
    pub(crate) nonzero: u64,
    pub(crate) timed_out: u64,
    pub(crate) failed: u64,
    /// Programs that are not there.
    pub(crate) missing: Vec<String>,
    /// Items that commands were to be repeated for; none is no fault.
    pub(crate) had_no_items: bool,
}

/// Runs commands, and keeps the table of them.
pub(crate) struct CommandRunner<'a> {
    clock: &'a dyn Clock,
    spool: PathBuf,
    programs: HashMap<String, Option<Program>>,
    folders: HashSet<String>,
    table: LiveTable,
    pub(crate) started: u64,
    /// Programs that a kill did not end.
    pub(crate) left_behind: Vec<String>,
}

impl<'a> CommandRunner<'a> {
    /// `spool` is the folder of the bundle, where large output waits without a name.
    pub(crate) fn new(clock: &'a dyn Clock, spool: &Path) -> Self {
        let path: Vec<Value> = PATH.into_iter().map(Value::from).collect();
        let about = Map::from_iter([("path".to_owned(), Value::Array(path))]);
        Self {
            clock,
            spool: spool.to_owned(),
            programs: HashMap::new(),
            folders: HashSet::new(),
            table: LiveTable::new("commands", FORMAT, about),
            started: 0,
            left_behind: Vec::new(),
        }
    }

    /// Runs the commands of one artefact.
    pub(crate) fn artefact(
        &mut self,
        artefact: &Artefact,
        commands: &Commands,
        host: &mut HostFiles,
        out: &mut TarPacker<'_>,
    ) -> Result<CommandTally> {
        let mut tally = CommandTally::default();
        let items = match &commands.each {
            None => vec![String::new()],
            Some(each) => {
                // Without the program there is no need to look for items.
                if commands.run.iter().all(|argv| self.program(argv, host).is_none()) {
                    return self.all_missing(artefact, commands, tally, out);
                }
                let items = self.items(artefact, each, host, &mut tally, out)?;
                tally.had_no_items = items.is_empty();
                items
            }
        };
        let limits = Limits { time: commands.time, output: commands.most_bytes };
        let mut hangs: HashMap<String, u32> = HashMap::new();
        for item in &items {
            for argv in &commands.run {
                let argv: Vec<String> = argv.iter().map(|part| part.replace("{}", item)).collect();
                let name = argv.first().cloned().unwrap_or_default();
                let Some(program) = self.program(&argv, host) else {
                    self.missing(artefact, &argv, out)?;
                    if !tally.missing.contains(&name) {
                        tally.missing.push(name);
                    }
                    continue;
                };
                if hangs.get(&name).is_some_and(|hangs| *hangs >= MOST_HANGS) {
                    let what = format!("not started: {name} did not end {MOST_HANGS} times before");
                    self.row(artefact, &argv, "not-started", out, |row| row.put("why", what.clone()))?;
                    continue;
                }
                let ran = self.one(artefact, &argv, &program, limits, out)?;
                tally.ran += 1;
                match ran.ending {
                    Ending::Exited(0) => {}
                    Ending::Exited(_) | Ending::Signal(_) => tally.nonzero += 1,
                    Ending::TimedOut | Ending::LeftBehind => {
                        tally.timed_out += 1;
                        *hangs.entry(name).or_default() += 1;
                    }
                    Ending::TooMuch | Ending::NotStarted(_) => tally.failed += 1,
                }
                if commands.first_only {
                    break;
                }
            }
        }
        Ok(tally)
    }

    fn all_missing(
        &mut self,
        artefact: &Artefact,
        commands: &Commands,
        mut tally: CommandTally,
        out: &mut TarPacker<'_>,
    ) -> Result<CommandTally> {
        for argv in &commands.run {
            self.missing(artefact, argv, out)?;
            let name = argv.first().cloned().unwrap_or_default();
            if !tally.missing.contains(&name) {
                tally.missing.push(name);
            }
        }
        Ok(tally)
    }

    /// Runs one command and stores what it gave.
    fn one(
        &mut self,
        artefact: &Artefact,
        argv: &[String],
        program: &Program,
        limits: Limits,
        out: &mut TarPacker<'_>,
    ) -> Result<Ran> {
        let folder = self.folder(artefact, argv);
        let start = self.clock.now().rfc3339();
        let ran = run(&program.path, argv, limits, &self.spool);
        let end = self.clock.now().rfc3339();
        self.started += u64::from(ran.pid.is_some());
        ran.stdout.store(&format!("{folder}/stdout"), out)?;
        if ran.stderr.size() > 0 {
            ran.stderr.store(&format!("{folder}/stderr"), out)?;
        }
        let command = escape_text(argv.join(" ").as_bytes());
        let (word, what) = match &ran.ending {
            Ending::Exited(_) => ("exited", None),
            Ending::Signal(_) => ("signal", None),
            Ending::TimedOut => {
                ("timed-out", Some(format!("killed: did not end within {} s", limits.time.as_secs())))
            }
            Ending::TooMuch => ("too-much", Some("killed: said more than is kept".to_owned())),
            Ending::LeftBehind => {
                self.left_behind.push(command.clone());
                ("left-behind", Some("did not end within its time, nor when it was killed".to_owned()))
            }
            Ending::NotStarted(why) => ("not-started", Some(format!("could not be started: {why}"))),
        };
        if let Some(what) = &what {
            out.note(Path::new(&folder), &format!("{command}: {what}"));
        }
        for (spool, name) in [(&ran.stdout, "stdout"), (&ran.stderr, "stderr")] {
            if let Some(lost) = &spool.lost {
                out.note(Path::new(&format!("{folder}/{name}")), lost);
            }
        }
        self.row(artefact, argv, word, out, |row| {
            row.put("folder", folder.clone());
            row.text("program", program.path.as_os_str().as_encoded_bytes());
            if program.real != program.path {
                row.text("program_real", program.real.as_os_str().as_encoded_bytes());
            }
            if let Some(sha256) = program.sha256 {
                row.put("program_sha256", sha256.to_string());
            }
            row.put("start", start.clone());
            row.put("end", end.clone());
            match &ran.ending {
                Ending::Exited(code) => row.put("code", *code),
                Ending::Signal(signal) => row.put("signal", *signal),
                _ => {}
            }
            if let Some(pid) = ran.pid {
                row.put("pid", pid);
            }
            row.number("stdout_bytes", Some(ran.stdout.size()));
            row.number("stderr_bytes", Some(ran.stderr.size()));
            row.flag("output_was_held_by_a_child", ran.was_held);
            if let Some(what) = &what {
                row.text("why", what.as_bytes());
            }
            if let Some(lost) = ran.stdout.lost.as_ref().or(ran.stderr.lost.as_ref()) {
                row.text("lost", lost.as_bytes());
            }
        })?;
        Ok(ran)
    }

    fn missing(&mut self, artefact: &Artefact, argv: &[String], out: &mut TarPacker<'_>) -> Result<()> {
        self.row(artefact, argv, "not-there", out, |_| {})
    }

    fn row(
        &mut self,
        artefact: &Artefact,
        argv: &[String],
        ending: &str,
        out: &mut TarPacker<'_>,
        fill: impl FnOnce(&mut Row),
    ) -> Result<()> {
        let mut row = Row::default();
        row.put("artefact", artefact.name.clone());
        row.put("level", artefact.level.to_string());
        row.put(
            "argv",
            argv.iter().map(|part| Value::from(escape_text(part.as_bytes()))).collect::<Vec<_>>(),
        );
        row.put("ending", ending);
        fill(&mut row);
        self.table.row(out, row.into_map())
    }

    /// Stores the table.
    pub(crate) fn end(self, out: &mut TarPacker<'_>) -> Result<()> {
        self.table.end(out)
    }

    /// A folder for the output of a command, which says which one it was.
    fn folder(&mut self, artefact: &Artefact, argv: &[String]) -> String {
        const LONGEST: usize = 100;
        let mut slug = String::new();
        let program = argv.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program));
        for part in std::iter::once(program).chain(argv.iter().skip(1).map(String::as_str)) {
            slug.push('-');
            slug.extend(part.chars().map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '=' | '+' | '@') { c } else { '-' }
            }));
        }
        let mut name = String::new();
        for c in slug.chars() {
            if name.len() < LONGEST && (c != '-' || !(name.is_empty() || name.ends_with('-'))) {
                name.push(c);
            }
        }
        let name = format!("/{}/{}", artefact.level, name.trim_end_matches('-'));
        let mut unique = name.clone();
        let mut number = 2u32;
        while !self.folders.insert(unique.clone()) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        unique
    }

    /// Finds a program once a run.
    fn program(&mut self, argv: &[String], host: &mut HostFiles) -> Option<Program> {
        let name = argv.first()?;
        if let Some(known) = self.programs.get(name) {
            return known.clone();
        }
        let places: Vec<PathBuf> = if name.starts_with('/') {
            vec![PathBuf::from(name)]
        } else {
            PATH.iter().map(|folder| Path::new(folder).join(name)).collect()
        };
        let found = places.into_iter().find_map(|path| find(&path, host));
        self.programs.insert(name.clone(), found.clone());
        found
    }

    /// What commands are to be repeated for.
    fn items(
        &mut self,
        artefact: &Artefact,
        each: &Each,
        host: &mut HostFiles,
        tally: &mut CommandTally,
        out: &mut TarPacker<'_>,
    ) -> Result<Vec<String>> {
        let text = match &each.from {
            EachFrom::Mounted(types) => {
                let mounts = host.mounts().all().iter();
                let mut devices: Vec<String> = mounts
                    .filter(|mount| types.contains(&mount.fs_type))
                    .filter_map(|mount| String::from_utf8(mount.source.clone()).ok())
                    .filter(|source| source.starts_with('/'))
                    .collect();
                devices.sort();
                devices.dedup();
                return Ok(self.allowed(artefact, devices, each.most, out));
            }
            EachFrom::File(path) => match host.read_small(Path::new(path), MOST_LIST) {
                Ok(text) => text,
                Err(_) => return Ok(Vec::new()),
            },
            EachFrom::Command(argv) => {
                let Some(program) = self.program(argv, host) else { return Ok(Vec::new()) };
                let limits = Limits { time: std::time::Duration::from_secs(30), output: 128 << 10 };
                let ran = self.one(artefact, argv, &program, limits, out)?;
                tally.ran += 1;
                match ran.ending {
                    Ending::Exited(0) => {}
                    Ending::Exited(_) | Ending::Signal(_) => tally.nonzero += 1,
                    Ending::TimedOut | Ending::LeftBehind => tally.timed_out += 1,
                    Ending::TooMuch | Ending::NotStarted(_) => tally.failed += 1,
                }
                ran.stdout.bytes().to_vec()
            }
        };
        let text = String::from_utf8_lossy(&text);
        let first = |line: &str| match each.separator {
            Some(separator) => line.split(separator).next().map(str::to_owned),
            None => line.split_whitespace().next().map(str::to_owned),
        };
        let mut seen = HashSet::new();
        let is_wanted = |item: &String| each.only.as_ref().is_none_or(|only| only.matches(Path::new(item)));
        let items = text
            .lines()
            .filter_map(first)
            .filter(is_wanted)
            .filter(|item| seen.insert(item.clone()))
            .collect();
        Ok(self.allowed(artefact, items, each.most, out))
    }

    /// Items come from the host: none may be read as an option, and there may be too many.
    fn allowed(
        &self,
        artefact: &Artefact,
        items: Vec<String>,
        most: usize,
        out: &mut TarPacker<'_>,
    ) -> Vec<String> {
        let is_safe = |item: &String| {
            !item.is_empty()
                && item.len() <= 255
                && !item.starts_with('-')
                && item.chars().all(|c| c.is_ascii_graphic())
        };
        let place = PathBuf::from(format!("/{}/{}", artefact.level, artefact.name));
        let (mut safe, odd): (Vec<_>, Vec<_>) =
            items.into_iter().filter(|item| !item.is_empty()).partition(is_safe);
        for item in odd.iter().take(20) {
            let item: String = escape_text(item.as_bytes()).chars().take(255).collect();
            out.note(
                &place,
                &format!("not asked for: the item {item:?} could be read as an option or is no word"),
            );
        }
        if safe.len() > most {
            out.note(&place, &format!("only the first {most} of {} items are asked for", safe.len()));
            safe.truncate(most);
        }
        safe
    }
}

fn find(path: &Path, host: &mut HostFiles) -> Option<Program> {
    let (folder, name) = host.walk_to(path).ok()?.pop()?;
    let found = host.open_entry(&folder, &name, true).ok()?;
    let opened = found.opened.as_ref()?;
    if found.inode.mode() & 0o111 == 0 {
        return None;
    }
    let (size, mount) = (found.inode.size(), found.mount());
    let sha256 = (size <= LARGEST_PROGRAM).then(|| hash(host, mount, &opened.file, size)).flatten();
    Some(Program { path: below(host.root(), path), real: folder.path.join(name), sha256 })
}

/// SHA-256 of an open file; none if it cannot be read or did not keep its size.
pub(crate) fn hash(
    host: &mut HostFiles,
    mount: Option<usize>,
    file: &Arc<std::fs::File>,
    size: u64,
) -> Option<Digest> {
    const BLOCK: usize = 1 << 20;
    let (mut hasher, mut offset) = (Hasher::new(), 0u64);
    loop {
        let bytes = host.read_at(mount, file, offset, BLOCK).ok()?.ok()?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        offset = offset.checked_add(bytes.len() as u64).filter(|offset| *offset <= size)?;
    }
    (offset == size).then(|| hasher.finish())
}
