//! `exhibit ready`: tries before an incident what an incident would need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::aftercare::Day;
use custody::clock::Clock as _;
use respond::ready::{self, DrillKind, Outcome as Found, Probe, Severity, Status, Wanted};
use respond::ready::{metrics, trend};
use respond::settings::Settings;
use respond::state::State;
use respond::state::readiness::Waiver;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;
use crate::signing_key::KeyPlace;
use crate::ui;

/// Columns of a line.
const WIDTH: usize = 79;

/// Days that a trend looks back.
const TREND_DAYS: i64 = 90;

/// Try before an incident whether a capture would work
///
/// Every check that applies to what the settings name is run: RD01 to RD45, each with what was seen, what should be, and what to
/// do. What could not be tested is an error, which counts as a failure. Drills are run when they are asked for. Results are kept
/// in the state; a waiver is told with each result that it is about. Exit code 1 when something failed, 3 with --fail-on.
///
/// Example: exhibit ready --config serve.toml --fail-on high
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Option<Act>,
    /// The settings of `exhibit serve`
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Only this check; may be given again
    #[arg(long, value_name = "RDnn", value_parser = check_id)]
    check: Vec<String>,
    /// Run this drill: capture, isolation or restore; may be given again
    #[arg(long, value_name = "DRILL", value_parser = drill)]
    drill: Vec<DrillKind>,
    /// Exit with code 3 when a check of this severity or a worse one failed: medium, high or critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    fail_on: Option<Severity>,
    /// Keep nothing of it in the state
    #[arg(long)]
    no_keep: bool,
}

/// What else there is to do with results.
#[derive(Debug, clap::Subcommand)]
enum Act {
    Trend(TrendArgs),
    Diff(DiffArgs),
    Waive(WaiveArgs),
    Metrics(MetricsArgs),
    List(ListArgs),
}

/// Show the score of each run, and what fails since when
///
/// Example: exhibit ready trend --config serve.toml --days 30
#[derive(Debug, clap::Args)]
struct TrendArgs {
    /// The settings of `exhibit serve`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How far back
    #[arg(long, value_name = "N", default_value_t = TREND_DAYS, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
}

/// Show what is other in one run than in another
///
/// Exit code 1 when something is worse.
///
/// Example: exhibit ready diff 3 4 --config serve.toml
#[derive(Debug, clap::Args)]
struct DiffArgs {
    /// The number of the earlier run; -1 is the one before the last
    #[arg(value_name = "A", allow_hyphen_values = true)]
    first: i64,
    /// The number of the later run; 0 is the last
    #[arg(value_name = "B", allow_hyphen_values = true)]
    second: i64,
    /// The settings of `exhibit serve`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Answer for a failure until a day
///
/// The result stays what it is and is told with the waiver; only --fail-on passes over it. A later waiver of the same check and
/// scope takes the place of an earlier one.
///
/// Example: exhibit ready waive RD26 --config serve.toml --owner jane --until 2027-01-31 --reason "bucket moves in January"
#[derive(Debug, clap::Args)]
struct WaiveArgs {
    /// The check
    #[arg(value_name = "RDnn", value_parser = check_id)]
    check: String,
    /// The settings of `exhibit serve`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only for this scope
    #[arg(long, value_name = "SCOPE", default_value = "")]
    scope: String,
    /// Who answers for it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    owner: String,
    /// The last day, UTC, a year ahead at most: 2027-01-31
    #[arg(long, value_name = "DATE", value_parser = super::custody::day)]
    until: Day,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

/// Print the last result of each check as Prometheus reads it
///
/// Example: exhibit ready metrics --config serve.toml > /var/lib/node_exporter/exhibit.prom
#[derive(Debug, clap::Args)]
struct MetricsArgs {
    /// The settings of `exhibit serve`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// List every check: what it tests, how, and what to do when it fails
///
/// Example: exhibit ready list
#[derive(Debug, clap::Args)]
struct ListArgs {}

fn check_id(text: &str) -> Result<String, String> {
    let id = text.to_ascii_uppercase();
    match ready::named(&id) {
        Some(check) => Ok(check.id.to_owned()),
        None => Err("there is no such check; `exhibit ready list` shows them".to_owned()),
    }
}

fn drill(text: &str) -> Result<DrillKind, String> {
    DrillKind::of(text).ok_or_else(|| "it is capture, isolation or restore".to_owned())
}

fn severity(text: &str) -> Result<Severity, String> {
    Severity::of(text).ok_or_else(|| "it is medium, high or critical".to_owned())
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match (&args.act, &args.config) {
        (Some(Act::Trend(args)), _) => tell_trend(args, session),
        (Some(Act::Diff(args)), _) => tell_diff(args, session),
        (Some(Act::Waive(args)), _) => waive(args, session),
        (Some(Act::Metrics(args)), _) => {
            let text = metrics::text(&state_of(&args.config)?, session.clock.now().wall_ns)?;
            session.ui.data(text.trim_end())?;
            Ok(Outcome::Done)
        }
        (Some(Act::List(_)), _) => list(session),
        (None, Some(config)) => try_all(args, config, session),
        (None, None) => Err(Failure::usage("name the settings with --config FILE")),
    }
}

fn state_of(config: &Path) -> Result<State, Failure> {
    let settings = Settings::load(config)?;
    Ok(State::open(&settings.state)?)
}

/// Where results are kept, or why nowhere.
pub(super) type KeptIn = Result<Arc<State>, String>;

/// What checks work with, and the state where results are kept.
pub(super) fn probe_of(settings: Settings, session: &Session) -> Result<(Arc<Probe>, KeptIn), Failure> {
    let state = State::open(&settings.state).map(Arc::new).map_err(|error| chain(&error));
    let key = match &settings.capture.key {
        Some(path) => KeyPlace::File(path.clone()).open(),
        None => session.key(),
    };
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("this program's own file cannot be found: {error}")))?;
    let signer = key.map_err(|failure| failure.words());
    Ok((Arc::new(Probe::new(settings, state.clone(), program, signer)), state))
}

fn try_all(args: &Args, config: &Path, session: &Session) -> Result<Outcome, Failure> {
    let (probe, state) = probe_of(Settings::load(config)?, session)?;
    let keep = match (&state, args.no_keep) {
        (Ok(state), false) => Some(&**state),
        (Err(why), false) => {
            session.ui.warn(&format!("results are not kept: {why}"));
            None
        }
        (_, true) => None,
    };
    let wanted = Wanted { ids: args.check.clone(), drills: args.drill.clone() };
    let (run, found) = ready::run(&probe, &wanted, keep)?;
    let score = trend::score(found.iter().map(|one| (one.severity.word(), one.status.word())));
    if session.ui.is_json() {
        session.ui.document(&json!({ "run": run, "score": score, "results": found }))?;
    } else {
        let applies = |one: &&Found| one.status != Status::NotApplicable || session.ui.is_verbose();
        for one in found.iter().filter(applies) {
            tell(one, session)?;
        }
        let others: Vec<&str> = found.iter().filter(|one| !applies(one)).map(|one| one.check).collect();
        if !others.is_empty() {
            wrapped("do not apply (-v says why): ", &others.join(" "), session)?;
        }
        session.ui.say(&summary(&found, score, run));
    }
    let failed = |one: &&Found| one.status.has_failed() && one.waived.is_none();
    if let Some(limit) = args.fail_on
        && found.iter().filter(failed).any(|one| one.severity >= limit)
    {
        return Ok(Outcome::NotVerified);
    }
    let is_clean = !found.iter().any(|one| one.status.has_failed());
    Ok(if is_clean { Outcome::Done } else { Outcome::WithIssues })
}

fn summary(found: &[Found], score: Option<f64>, run: Option<i64>) -> String {
    let of = |status: Status| found.iter().filter(|one| one.status == status).count();
    let waived = found.iter().filter(|one| one.waived.is_some() && one.status.has_failed()).count();
    let score = score.map_or_else(|| "nothing applied".to_owned(), |score| format!("score {score:.0} %"));
    let run = run.map_or_else(|| "not kept".to_owned(), |run| format!("run {run}"));
    format!(
        "{score}: {} passed, {} warned, {} failed, {} could not be tested, {} do not apply; {waived} waived; {run}",
        of(Status::Pass),
        of(Status::Warn),
        of(Status::Fail),
        of(Status::Error),
        of(Status::NotApplicable)
    )
}

/// One result: a line, and below it what was seen, and what to do where it did not pass.
fn tell(one: &Found, session: &Session) -> Result<(), Failure> {
    let status = match one.status {
        Status::NotApplicable => "n/a".to_owned(),
        status => status.word().to_ascii_uppercase(),
    };
    let is_quiet = matches!(one.status, Status::Pass | Status::NotApplicable);
    wrapped(&format!("{} {status:<5} {:<8} ", one.check, one.severity), one.title, session)?;
    wrapped("     scope  ", &one.scope, session)?;
    wrapped("     seen   ", &one.observed, session)?;
    if !is_quiet || session.ui.is_verbose() {
        wrapped("     wanted ", &one.expected, session)?;
        wrapped("     do     ", one.remediation, session)?;
    }
    if let Some(waiver) = &one.waived {
        let until = custody::clock::rfc3339(waiver.until_ns);
        let words = format!("by {} until {until}: {}", waiver.owner, waiver.reason);
        wrapped("     waived ", &words, session)?;
    }
    Ok(())
}

/// Words behind a label, wrapped below each other.
pub(super) fn wrapped(label: &str, words: &str, session: &Session) -> Result<(), Failure> {
    let words = ui::printable(words, false);
    let room = WIDTH.saturating_sub(label.chars().count()).max(20);
    let mut lines = vec![String::new()];
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let mut rest: Vec<char> = word.chars().collect();
        while let Some(line) = lines.last_mut() {
            let used = line.chars().count();
            let space = usize::from(used > 0);
            if used + space + rest.len() <= room {
                line.push_str(if space == 1 { " " } else { "" });
                line.extend(rest.iter());
                break;
            }
            if used == 0 {
                // A word longer than a line is cut.
                line.extend(rest.drain(..room));
            }
            lines.push(String::new());
        }
    }
    let indent = " ".repeat(label.chars().count());
    for (number, line) in lines.iter().enumerate() {
        let label = if number == 0 { label } else { &indent };
        session.ui.data(format!("{label}{line}").trim_end())?;
    }
    Ok(())
}

fn tell_trend(args: &TrendArgs, session: &Session) -> Result<Outcome, Failure> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let state = state_of(&args.config)?;
    let since = session.clock.now().wall_ns.saturating_sub(args.days.saturating_mul(DAY_NS));
    let found = trend::trend(&state, since)?;
    if session.ui.is_json() {
        session.ui.document(&serde_json::to_value(&found)?)?;
        return Ok(Outcome::Done);
    }
    if found.series.is_empty() {
        session.ui.say("nothing was tried in this time");
        return Ok(Outcome::Done);
    }
    let rows = found.series.iter().map(|point| {
        let of = |status: Status| point.counts.get(status.word()).copied().unwrap_or(0).to_string();
        let score = point.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.0} %"));
        vec![
            point.run.to_string(),
            second(&point.at),
            score,
            of(Status::Pass),
            of(Status::Warn),
            of(Status::Fail),
            of(Status::Error),
        ]
    });
    session.ui.table(&["run", "at", "score", "pass", "warn", "fail", "error"], rows.collect())?;
    let failing: Vec<_> = found.history.iter().filter(|one| one.failing_since.is_some()).collect();
    for one in &failing {
        let since = one.failing_since.as_deref().map(second).unwrap_or_default();
        let passed = one.last_passed.as_deref().map_or_else(|| "never".to_owned(), second);
        let words =
            format!("{} fails since {since}, last passed {passed}, turned {} times", one.scope, one.flaps);
        wrapped(&format!("{} ", one.check), &words, session)?;
    }
    if let Some(seconds) = found.mean_seconds_to_fix {
        session.ui.say(&format!("a repair took {:.1} h on average", seconds as f64 / 3600.0));
    }
    Ok(Outcome::Done)
}

/// A time without parts of a second.
fn second(rfc3339: &str) -> String {
    rfc3339.split('.').next().unwrap_or_default().to_owned() + "Z"
}

fn tell_diff(args: &DiffArgs, session: &Session) -> Result<Outcome, Failure> {
    let state = state_of(&args.config)?;
    let runs: Vec<i64> = state.readiness_runs()?.into_iter().map(|(run, _)| run).collect();
    let number = |asked: i64| {
        // 0 is the last, -1 the one before it.
        let found = match usize::try_from(-asked) {
            Ok(back) => runs.len().checked_sub(back.saturating_add(1)).and_then(|at| runs.get(at)),
            Err(_) => runs.iter().find(|run| **run == asked),
        };
        let known = || match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => format!("there are runs from {first} to {last}"),
            _ => "nothing was tried yet: exhibit ready --config FILE".to_owned(),
        };
        found.copied().ok_or_else(|| Failure::usage(format!("there is no run {asked}")).hint(known()))
    };
    let (first, second) = (number(args.first)?, number(args.second)?);
    let changes = trend::diff(&state, first, second)?;
    if session.ui.is_json() {
        session.ui.document(&json!({ "first": first, "second": second, "changes": changes }))?;
    } else {
        for change in &changes {
            let (before, after) = (change.before.as_deref(), change.after.as_deref());
            let mark = if change.is_worse { "worse" } else { "" };
            let words = format!(
                "{} -> {}  {}: {}",
                before.unwrap_or("not there"),
                after.unwrap_or("not there"),
                change.scope,
                change.observed
            );
            wrapped(&format!("{} {mark:<5} ", change.check), &words, session)?;
        }
        session.ui.say(&format!(
            "{} from run {first} to run {second}",
            ui::count(changes.len() as u64, "change", "changes")
        ));
    }
    let is_worse = changes.iter().any(|change| change.is_worse);
    Ok(if is_worse { Outcome::WithIssues } else { Outcome::Done })
}

fn waive(args: &WaiveArgs, session: &Session) -> Result<Outcome, Failure> {
    const YEAR_NS: i64 = 366 * 86_400_000_000_000;
    let now_ns = session.clock.now().wall_ns;
    // To the end of that day.
    let until_ns = custody::clock::parse_rfc3339(&format!("{}T23:59:59Z", args.until))?;
    if until_ns <= now_ns {
        return Err(Failure::usage(format!("{} is over", args.until)));
    }
    if until_ns.saturating_sub(now_ns) > YEAR_NS {
        return Err(Failure::usage("nobody can answer for more than a year ahead"));
    }
    let waiver = Waiver {
        check: args.check.clone(),
        scope: args.scope.clone(),
        owner: args.owner.clone(),
        until_ns,
        reason: args.reason.clone(),
        made_ns: now_ns,
    };
    state_of(&args.config)?.waive(&waiver)?;
    if session.ui.is_json() {
        session.ui.document(&serde_json::to_value(&waiver)?)?;
    } else {
        session.ui.say(&format!(
            "{} is waived by {} until the end of {}; it is told with every result",
            waiver.check, waiver.owner, args.until
        ));
    }
    Ok(Outcome::Done)
}

fn list(session: &Session) -> Result<Outcome, Failure> {
    let all = ready::all();
    if session.ui.is_json() {
        let list: Vec<Value> = all
            .iter()
            .map(|check| {
                json!({
                    "id": check.id, "version": check.version, "severity": check.severity, "title": check.title,
                    "scope": check.scope, "tested": check.tested, "remediation": check.remediation,
                    "prowler": check.prowler, "drill": check.drill,
                })
            })
            .collect();
        session.ui.document(&Value::Array(list))?;
        return Ok(Outcome::Done);
    }
    for check in all {
        wrapped(&format!("{} {:<8} ", check.id, check.severity), check.title, session)?;
        if session.ui.is_verbose() {
            wrapped("     tested ", check.tested, session)?;
            wrapped("     do     ", check.remediation, session)?;
        }
    }
    Ok(Outcome::Done)
}
