//! Builds the timeline of one exhibit: every file looked at once, every claimed file read, every byte accounted for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;
use crate::event::Event;
use crate::evidence::{Evidence, FileTimes};
use crate::file_scan::{Account, Claimed, EvidenceFile, Look};
use crate::memory::{Artefact, MemoryImage};
use crate::parser::{Context, Parser, Probe};
use crate::parsers::{self, file_times};
use crate::progress::Progress;
use crate::year::{YearPlan, YearScan};
use crate::year_neighbours::{self, Activity, YearlessFile};

/// What may be chosen about a build. The same options and build give the same timeline.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BuildOptions {
    /// Only these parsers; all if empty.
    pub parsers: Vec<String>,
    /// The year of the last line of logs that write none.
    pub year: Option<i32>,
    /// How many threads; 0 is taken as 1. Has no influence on the result.
    pub threads: usize,
}

impl BuildOptions {
    /// The parsers to ask, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a name that is no parser's.
    pub fn parsers(&self) -> Result<Vec<&'static dyn Parser>, Error> {
        if let Some(unknown) = self.parsers.iter().find(|name| parsers::by_name(name).is_none()) {
            let known: Vec<&str> = parsers::ALL.iter().map(|parser| parser.name()).collect();
            return Err(Error::Usage {
                what: format!("there is no parser {unknown:?}; there are {}", known.join(", ")),
            });
        }
        let wanted = |name: &str| self.parsers.is_empty() || self.parsers.iter().any(|n| n == name);
        Ok(parsers::ALL.iter().copied().filter(|parser| wanted(parser.name())).collect())
    }
}

/// Takes the rows of one thread.
pub trait RowOutput: Send {
    /// One row: which file (decoded locator), which parser, and what it says.
    ///
    /// # Errors
    ///
    /// When the row cannot be stored.
    fn row(&mut self, locator: &str, parser: &'static dyn Parser, event: Event) -> Result<(), Error>;

    /// All rows of a file have been given.
    ///
    /// # Errors
    ///
    /// When the rows cannot be stored.
    fn end_of_file(&mut self) -> Result<(), Error>;
}

/// What became of one claimed file.
#[derive(Debug)]
pub struct FileReport {
    /// The decoded bytes' locator.
    pub locator: String,
    /// `syslog@1`.
    pub parser: String,
    /// The account.
    pub account: Account,
}

/// What became of an exhibit.
#[derive(Debug, Default)]
pub struct ExhibitReport {
    /// Claimed files, by locator.
    pub files: Vec<FileReport>,
    /// Files that nobody claims, counted by kind, with their bytes.
    pub unclaimed: BTreeMap<&'static str, (u64, u64)>,
    /// Volumes, files and streams that could not be read or are damaged, each with its place.
    pub issues: Vec<Issue>,
}

/// Something that could not be read, or is damaged: its place, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// A locator, or the beginning of one.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl Issue {
    /// An issue at a place.
    pub fn new(place: impl Into<String>, reason: impl ToString) -> Issue {
        Issue { place: place.into(), reason: reason.to_string() }
    }
}

/// The name and version of a parser, as the column `parser` holds it.
pub fn parser_label(parser: &dyn Parser) -> String {
    format!("{}@{}", parser.name(), parser.version())
}

/// Reads the evidence of one exhibit; rows go to one output a thread.
///
/// First all files that date themselves are read; then, knowing what is active when, the logs without years.
///
/// # Errors
///
/// [`Error`] where rows cannot be stored. Evidence that cannot be read is in the report's issues.
pub fn build(
    evidence: &Evidence,
    options: &BuildOptions,
    outputs: &mut [Box<dyn RowOutput + '_>],
    progress: &dyn Progress,
) -> Result<ExhibitReport, Error> {
    let parsers = options.parsers()?;
    let shared = Shared {
        report: Mutex::new(ExhibitReport::default()),
        activity: Mutex::new(Activity::default()),
        later: Mutex::new(Vec::new()),
    };
    let total = evidence.files.len() as u64;
    progress.started("reading files", Some(total));

    // File times go first, so that one thread does them while the others read files.
    let wants_times = parsers.iter().any(|parser| parser.name() == file_times::PARSER.name());
    let times: Vec<&FileTimes> = if wants_times { evidence.file_times.iter().collect() } else { Vec::new() };
    let memory = parsers::of_memory(&parsers);
    let memory: Vec<_> =
        evidence.memory.iter().flat_map(|image| memory.iter().map(move |m| (image, *m))).collect();
    let wholes = times.len() + memory.len();
    in_parallel(wholes + evidence.files.len(), outputs, |job, output| {
        let of_memory = job.checked_sub(times.len()).and_then(|at| memory.get(at));
        let of_file = job.checked_sub(wholes).and_then(|at| evidence.files.get(at));
        match (times.get(job), of_memory, of_file) {
            (Some(times), ..) => read_times(times, &shared, output),
            (_, Some((image, (parser, artefact))), _) => {
                read_memory(image, *parser, *artefact, &evidence.context, &shared, output)
            }
            (.., Some(file)) => {
                progress.advanced(1);
                shared.first_look(file, &parsers, &evidence.context, output)
            }
            _ => Ok(()),
        }
    })?;

    let mut later = std::mem::take(&mut *lock(&shared.later));
    later.sort_by(|a, b| a.file.locator.cmp(&b.file.locator));
    let activity = std::mem::take(&mut *lock(&shared.activity));
    let plans = plan_years(&later, &activity, options.year, &evidence.context);
    let work: Vec<(Waiting, YearPlan)> = later.into_iter().zip(plans).collect();
    in_parallel(work.len(), outputs, |job, output| {
        let Some((waiting, plan)) = work.get(job) else { return Ok(()) };
        let context = Context { year: *plan, ..evidence.context.clone() };
        shared.read(waiting.file, &waiting.claimed, &context, output)
    })?;

    progress.finished();
    let mut report = shared.report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.files.sort_by(|a, b| (&a.locator, &a.parser).cmp(&(&b.locator, &b.parser)));
    report.issues.extend(evidence.all_issues());
    report.issues.sort();
    report.issues.dedup();
    Ok(report)
}

/// A claimed file that waits for its neighbours.
struct Waiting<'a> {
    file: &'a EvidenceFile,
    claimed: Claimed,
    scan: YearScan,
}

struct Shared<'a> {
    report: Mutex<ExhibitReport>,
    activity: Mutex<Activity>,
    later: Mutex<Vec<Waiting<'a>>>,
}

impl<'a> Shared<'a> {
    fn first_look(
        &self,
        file: &'a EvidenceFile,
        parsers: &[&'static dyn Parser],
        context: &Context,
        output: &mut dyn RowOutput,
    ) -> Result<(), Error> {
        match file.look(parsers) {
            Ok(Look::Claimed(claimed)) if claimed.is_yearless => {
                let scan = file.scan_years(&claimed);
                lock(&self.later).push(Waiting { file, claimed, scan });
                Ok(())
            }
            Ok(Look::Claimed(claimed)) => self.read(file, &claimed, context, output),
            Ok(Look::Unclaimed(kind)) => {
                let mut report = lock(&self.report);
                let (files, bytes) = report.unclaimed.entry(kind).or_default();
                *files += 1;
                *bytes = bytes.saturating_add(file.source.len());
                Ok(())
            }
            Ok(Look::Endless { stored }) => {
                let length = file.source.len();
                let reason = format!("not read: it claims {length} bytes, of which {stored} are stored");
                lock(&self.report).issues.push(Issue::new(&file.locator, reason));
                Ok(())
            }
            Err(error) => {
                lock(&self.report).issues.push(Issue::new(&file.locator, error));
                Ok(())
            }
        }
    }

    fn read(
        &self,
        file: &EvidenceFile,
        claimed: &Claimed,
        context: &Context,
        output: &mut dyn RowOutput,
    ) -> Result<(), Error> {
        let locator = file.decoded_locator(claimed.codec);
        let mut activity = Activity::default();
        let mut failed = None;
        let account = file.read(claimed, context, &mut |event| {
            activity.note(&event);
            if failed.is_none() {
                failed = output.row(&locator, claimed.parser, event).err();
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        output.end_of_file()?;
        lock(&self.activity).merge(&activity);
        let mut report = lock(&self.report);
        if let Some(why) = &account.stopped {
            report.issues.push(Issue::new(&locator, why));
        }
        report.files.push(FileReport { locator, parser: parser_label(claimed.parser), account });
        Ok(())
    }
}

fn read_memory(
    image: &MemoryImage,
    parser: &'static dyn Parser,
    artefact: Artefact,
    context: &Context,
    shared: &Shared<'_>,
    output: &mut dyn RowOutput,
) -> Result<(), Error> {
    let mut failed = None;
    let account = image.read(artefact, context, &mut |event| {
        if failed.is_none() {
            failed = output.row(image.locator(), parser, event).err();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    output.end_of_file()?;
    let mut report = lock(&shared.report);
    if let Some(why) = &account.stopped {
        report.issues.push(Issue::new(image.locator(), format!("{}: {why}", parser.name())));
    }
    report.files.push(FileReport {
        locator: image.locator().to_owned(),
        parser: parser_label(parser),
        account,
    });
    Ok(())
}

fn read_times(times: &FileTimes, shared: &Shared<'_>, output: &mut dyn RowOutput) -> Result<(), Error> {
    let mut failed = None;
    let account = times.read(&mut |event| {
        if failed.is_none() {
            failed = output.row(times.locator(), &file_times::PARSER, event).err();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    output.end_of_file()?;
    let mut report = lock(&shared.report);
    if let Some(why) = &account.stopped {
        report.issues.push(Issue::new(times.locator(), why));
    }
    report.files.push(FileReport {
        locator: times.locator().to_owned(),
        parser: parser_label(&file_times::PARSER),
        account,
    });
    Ok(())
}

/// Runs the jobs in their order on as many threads as there are outputs.
fn in_parallel<F>(jobs: usize, outputs: &mut [Box<dyn RowOutput + '_>], run: F) -> Result<(), Error>
where
    F: Fn(usize, &mut dyn RowOutput) -> Result<(), Error> + Sync,
{
    let next = AtomicUsize::new(0);
    let first_error = Mutex::new(None);
    std::thread::scope(|scope| {
        for output in outputs.iter_mut() {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs || lock(&first_error).is_some() {
                        break;
                    }
                    if let Err(error) = run(job, output.as_mut()) {
                        lock(&first_error).get_or_insert(error);
                    }
                }
            });
        }
    });
    first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Plans each waiting file, the newest of a rotation first, since the older ones end where it begins.
fn plan_years(
    later: &[Waiting<'_>],
    activity: &Activity,
    flag: Option<i32>,
    context: &Context,
) -> Vec<YearPlan> {
    let mut plans = vec![YearPlan::Unknown; later.len()];
    let mut families: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
    for (at, waiting) in later.iter().enumerate() {
        let (family, age) = rotation(&waiting.file.locator);
        families.entry(family).or_default().push((age, at));
    }
    for members in families.values_mut() {
        members.sort_unstable();
        let mut newer = None;
        for (_, at) in members {
            let (Some(waiting), Some(plan)) = (later.get(*at), plans.get_mut(*at)) else { continue };
            let file = YearlessFile { scan: waiting.scan, modified: waiting.file.modified };
            *plan = year_neighbours::plan(file, newer, activity, flag, &context.zone.zone);
            if let (YearPlan::Forward { first_year, .. }, Some(first)) = (*plan, waiting.scan.first) {
                newer = Some((first_year, first));
            }
        }
    }
    plans
}

/// The rotation that a file belongs to, and its age in it: 0 for `syslog`, 1 for `syslog.1`; dated rotations
/// (`messages-20261101`) are older the smaller their number.
fn rotation(locator: &str) -> (String, u64) {
    let (folder, _) = locator.rsplit_once('/').unwrap_or(("", locator));
    let probe = Probe { path: locator, head: &[], size: None };
    let (name, base) = (probe.name(), probe.base_name());
    let number: Option<u64> =
        name.strip_prefix(base).and_then(|end| end.get(1..)).and_then(|end| end.parse().ok());
    let age = match number {
        None => 0,
        Some(number) if number < 19_700_101 => number,
        Some(date) => u64::MAX - date,
    };
    (format!("{folder}/{base}"), age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_know_their_family_and_age() {
        assert_eq!(rotation("d/ext4:/var/log/syslog.2.gz"), ("d/ext4:/var/log/syslog".into(), 2));
        assert_eq!(rotation("d/ext4:/var/log/syslog"), ("d/ext4:/var/log/syslog".into(), 0));
        let newer = rotation("d/ext4:/var/log/messages-20261108");
        let older = rotation("d/ext4:/var/log/messages-20261101.xz");
        assert_eq!(newer.0, older.0);
        assert!(newer.1 < older.1);
    }

    #[test]
    fn an_unknown_parser_is_named() {
        let options = BuildOptions { parsers: vec!["sylog".into()], ..BuildOptions::default() };
        assert!(options.parsers().err().unwrap().to_string().contains("no parser \"sylog\""));
    }
}
