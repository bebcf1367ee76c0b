//! `exhibit timeline`: builds or updates the timeline of a case.

use std::collections::BTreeMap;

use custody::{Case, Digest, EntryType, Exhibit, NewEntry, TimelineState, case_layout};
use serde_json::{Value, json};
use timeline::build::BuildOptions;
use timeline::case_timeline::{self, Update, UpdateOptions};
use timeline::store::Tool;
use timeline::zone::Zone;

use crate::failure::{Failure, Outcome};
use crate::identity;
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;
use crate::target;
use crate::ui::{self, Ui};

/// Build or update the timeline of a case
///
/// Disks are read straight out of their bundles; rotated logs are read through gzip, xz, bzip2 and zstd. An exhibit
/// that was built before from the same bundle, by this build with the same options, is left as it is.
///
/// Example: exhibit timeline ir-2026-017 --exhibit E001 --timezone Europe/Berlin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: std::path::PathBuf,
    /// Only this exhibit; may be given again
    #[arg(long, value_name = "ID")]
    exhibit: Vec<String>,
    /// Only this parser; may be given again (see `exhibit parsers`)
    #[arg(long, value_name = "NAME")]
    parser: Vec<String>,
    /// The zone of the host's local times, instead of what the evidence says: Europe/Berlin, UTC, +02:00
    #[arg(long, value_name = "TZ")]
    timezone: Option<String>,
    /// The year of the last line of logs that write no year
    #[arg(long, value_name = "Y", value_parser = clap::value_parser!(i32).range(1970..=2200))]
    year: Option<i32>,
    /// Stop at the first exhibit with a damaged or unreadable place
    #[arg(long)]
    strict: bool,
    /// How many threads to use [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    cloud: crate::cloud_args::CloudArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    #[cfg(feature = "cloud")]
    session.use_cloud(&args.cloud);
    let case = target::open_case(&args.case)?;
    let (reports, outcome) = build(&case, args, session)?;
    if session.ui.is_json() {
        session.ui.document(&Value::Array(reports))?;
    }
    Ok(outcome)
}

/// Builds as the command line says; also what `demo` does.
pub(crate) fn build(case: &Case, args: &Args, session: &Session) -> Result<(Vec<Value>, Outcome), Failure> {
    let mut options = options(args)?;
    options.keep_existing = case.check_timeline()? == TimelineState::AsLogged;
    let exhibits = if args.exhibit.is_empty() {
        case.exhibits()?
    } else {
        args.exhibit.iter().map(|id| target::exhibit_of(case, id)).collect::<Result<_, _>>()?
    };
    if exhibits.is_empty() {
        return Err(Failure::usage(format!("the case {:?} has no exhibit yet", case.folder()))
            .hint("acquire one with `exhibit acquire disk SOURCE --case CASE`"));
    }
    let _lock = case.lock_timeline()?;
    let mut outcome = Outcome::Done;
    let mut reports = Vec::new();
    for exhibit in exhibits {
        let bundle = match session.open_bundle(&exhibit.folder) {
            Ok(bundle) => bundle,
            Err(error) if args.exhibit.is_empty() => {
                session.ui.warn(&format!("{} is left out: {}", exhibit.id, error.words()));
                outcome = Outcome::WithIssues;
                continue;
            }
            Err(error) => return Err(error),
        };
        if bundle.manifest().streams.iter().any(|stream| stream.is_encrypted()) {
            session.ui.warn(&format!("{} is encrypted; the timeline that is made of it is not", exhibit.id));
        }
        let bars = Bars::new(session.ui, Unit::Files);
        let update = case_timeline::update(
            &case_layout::timeline(case.folder()),
            &exhibit.id,
            &bundle,
            &options,
            &bars,
        )?;
        drop(bars);
        let entry = record(case, &exhibit, &update, session);
        let has_issues = !update.ledger.summary.issues.is_empty();
        if has_issues || update.ledger.files.iter().any(|file| file.failed > 0) {
            outcome = Outcome::WithIssues;
        }
        summarise(session.ui, &exhibit.id, &update);
        reports.push(report(&exhibit.id, &update, entry));
        if args.strict && has_issues {
            return Err(Failure::new(format!(
                "{}: the evidence has damaged or unreadable places",
                exhibit.id
            ))
            .hint("without --strict they are listed and the rest is read"));
        }
    }
    Ok((reports, outcome))
}

impl Args {
    /// The defaults for one case: all exhibits, all parsers.
    pub(crate) fn for_case(case: std::path::PathBuf) -> Args {
        Args {
            case,
            exhibit: vec![],
            parser: vec![],
            timezone: None,
            year: None,
            strict: false,
            threads: None,
            #[cfg(feature = "cloud")]
            cloud: crate::cloud_args::CloudArgs::default(),
        }
    }
}

fn options(args: &Args) -> Result<UpdateOptions, Failure> {
    let timezone = match &args.timezone {
        None => None,
        Some(name) => Some(Zone::from_name(name).ok_or_else(|| {
            Failure::usage(format!("there is no time zone {name:?}"))
                .hint("name it like Europe/Berlin, UTC or +02:00")
        })?),
    };
    let threads = args
        .threads
        .map_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get), usize::from);
    let mut build = BuildOptions::default();
    // `syslog@1`, as we print it, is as good as `syslog`.
    let name = |given: &String| given.split('@').next().unwrap_or(given).to_owned();
    (build.parsers, build.year, build.threads) = (args.parser.iter().map(name).collect(), args.year, threads);
    build.parsers().map_err(|error| Failure::usage(error.to_string()))?;
    let tool = identity::tool();
    let build_sha256 = tool.build_sha256.map(|hash| hash.to_string()).unwrap_or_default();
    let tool = Tool { name: tool.name, version: tool.version, build_sha256 };
    Ok(UpdateOptions { build, timezone, tool, keep_existing: false })
}

/// More parts than this are vouched for by the manifest alone: an entry is bounded.
const MOST_NAMED: usize = 200;

fn record(case: &Case, exhibit: &Exhibit, update: &Update, session: &Session) -> Option<u64> {
    let totals = Totals::of(update);
    let mut files = vec![("manifest.json", update.manifest_size, &update.manifest_sha256)];
    let ledger = &update.exhibit.ledger;
    files.push((&ledger.path, ledger.size, &ledger.sha256));
    files.extend(update.exhibit.parts.iter().take(MOST_NAMED).map(|p| (p.path.as_str(), p.size, &p.sha256)));
    let entry =
        files.into_iter().fold(NewEntry::new(EntryType::TIMELINE_BUILT), |entry, (path, size, sha256)| {
            // Our own hex digits always read back; an entry without them would vouch for nothing.
            match sha256.parse::<Digest>() {
                Ok(sha256) => entry.subject(format!("timeline/{path}"), size, sha256),
                Err(_) => entry,
            }
        });
    let entry = entry
        .exhibit(&exhibit.id)
        .how("command", "timeline")
        .how("rebuilt", update.was_built)
        .result("events", totals.events)
        .result("undated", totals.undated)
        .result("files_read", totals.files)
        .result("records_failed", totals.failed)
        .result("files_unclaimed", totals.unclaimed)
        .result("issues", update.ledger.summary.issues.len());
    session.record_reading(Some(case), entry)
}

/// The sums of a ledger.
struct Totals {
    files: u64,
    events: u64,
    undated: u64,
    failed: u64,
    unclaimed: u64,
}

impl Totals {
    fn of(update: &Update) -> Totals {
        let files = &update.ledger.files;
        Totals {
            files: files.len() as u64,
            events: files.iter().map(|file| file.events).sum(),
            undated: files.iter().map(|file| file.undated).sum(),
            failed: files.iter().map(|file| file.failed).sum(),
            unclaimed: update.ledger.summary.unclaimed.values().map(|kind| kind.files).sum(),
        }
    }
}

fn summarise(ui: Ui, exhibit: &str, update: &Update) {
    let totals = Totals::of(update);
    let state = if update.was_built { "" } else { " (already there, unchanged)" };
    ui.say(&format!(
        "{exhibit}: {} from {}{state}",
        ui::count(totals.events, "event", "events"),
        ui::count(totals.files, "file", "files"),
    ));
    let mut by_parser: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for file in &update.ledger.files {
        let (files, events, failed) = by_parser.entry(&file.parser).or_default();
        (*files, *events, *failed) = (*files + 1, *events + file.events, *failed + file.failed);
    }
    for (parser, (files, events, failed)) in by_parser {
        let failed = if failed > 0 {
            format!(", {} not read", ui::count(failed, "record", "records"))
        } else {
            String::new()
        };
        ui.say(&format!(
            "  {parser:<20} {:>10} from {}{failed}",
            ui::grouped(events),
            ui::count(files, "file", "files")
        ));
    }
    if totals.undated > 0 {
        ui.say(&format!(
            "  {} without a time: kept, and shown with `query --undated`",
            ui::count(totals.undated, "record", "records")
        ));
    }
    ui.say(&format!(
        "  {} that no parser reads, counted by kind in the ledger",
        ui::count(totals.unclaimed, "file", "files")
    ));
    const SHOWN: usize = 5;
    for issue in update.ledger.summary.issues.iter().take(SHOWN) {
        ui.warn(&format!("{}: {}", issue.place, issue.reason));
    }
    let more = update.ledger.summary.issues.len().saturating_sub(SHOWN);
    if more > 0 {
        ui.warn(&format!(
            "{} more in {}",
            ui::count(more as u64, "issue", "issues"),
            update.exhibit.ledger.path
        ));
    }
}

fn report(exhibit: &str, update: &Update, entry: Option<u64>) -> Value {
    let totals = Totals::of(update);
    json!({
        "exhibit": exhibit, "built": update.was_built, "events": totals.events, "undated": totals.undated,
        "files": update.ledger.files, "failed": totals.failed, "unclaimed": update.ledger.summary.unclaimed,
        "issues": update.ledger.summary.issues, "parts": update.exhibit.parts, "ledger": update.exhibit.ledger,
        "manifest_sha256": update.manifest_sha256, "entry": entry,
    })
}
