//! `exhibit acquire triage`

use std::path::PathBuf;

use acquire::Acquisition;
use acquire::triage::{ArtefactTable, How, Profile, State, TriageCapture, TriageOptions, TriageSummary};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{Into, acquire_into, show_with};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::ui::{self, Ui};

/// Live response in order of volatility, then files
///
/// What goes first is taken first. Programs of the host are run without a shell, each within a limit of time and of
/// output; file systems of the network and such as do not answer hold up nothing. What was read, run and touched is
/// listed in footprint.json.
///
/// Example: exhibit acquire triage --case ir-2026-017 --profile fast
#[derive(Debug, clap::Args)]
#[command(mut_arg("case", |case| {
    case.required(false).required_unless_present("list").default_value_if("list", clap::builder::ArgPredicate::IsPresent, ".")
}))]
pub(super) struct Args {
    #[command(flatten)]
    into: Into,
    /// Where the host's files lie; of another root than / only files are taken
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
    /// Which artefacts
    #[arg(long, default_value = "full", value_enum)]
    profile: ProfileName,
    /// Only these, by name or level (V3); can be given several times
    #[arg(long, value_name = "NAME", num_args = 1..)]
    artefact: Vec<String>,
    /// Add artefacts from a TOML file, or replace those of the same name
    #[arg(long, value_name = "FILE")]
    artefacts: Vec<PathBuf>,
    /// Enter file systems of the network too
    #[arg(long)]
    network_mounts: bool,
    /// List the artefacts and take nothing
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    /// What goes first and answers the first questions
    Fast,
    /// All that a responder takes
    Full,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let mut table = ArtefactTable::embedded().map_err(Failure::new)?;
    for path in &args.artefacts {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(error).hint(format!("the file of artefacts is {}", path.display()))
        })?;
        table.add(&path.display().to_string(), &text).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let mut options = TriageOptions::default();
    options.root.clone_from(&args.root);
    options.picks.clone_from(&args.artefact);
    options.network_mounts = args.network_mounts;
    options.profile = match args.profile {
        ProfileName::Fast => Profile::Fast,
        ProfileName::Full => Profile::Full,
    };
    if args.list {
        return list(&table, &options, session.ui);
    }
    let into = &args.into;
    let capture = TriageCapture::new(&table, options)?;
    let name = into.name.clone().unwrap_or_else(|| "triage".to_owned());
    let summary = capture.summary();
    let report = acquire_into(into, &name, session, |to| Acquisition::new(capture, to))?;
    let summary = summary.lock().map(|summary| summary.clone()).unwrap_or_default();
    say(&summary, session.ui);
    let rows: Vec<Value> = summary
        .artefacts
        .iter()
        .map(|result| {
            json!({
                "name": result.name, "level": result.level, "state": result.state.word(), "files": result.files,
                "bytes": result.bytes, "commands": result.commands, "what": result.what,
            })
        })
        .collect();
    show_with(&report, Map::from_iter([("artefacts".to_owned(), rows.into())]), session.ui)
}

fn list(table: &ArtefactTable, options: &TriageOptions, ui: Ui) -> Result<Outcome, Failure> {
    let picked =
        table.select(options.profile, &options.picks).map_err(|error| Failure::usage(error.to_string()))?;
    // Without picks all are listed, also those that are taken by name only.
    let all: Vec<_> = if options.picks.is_empty() { table.in_order() } else { picked.iter().collect() };
    if ui.is_json() {
        let rows: Vec<Value> = all
            .iter()
            .map(|artefact| {
                let mut row = json!({
                    "name": artefact.name, "level": artefact.level.to_string(), "profile": artefact.profile.word(),
                    "kind": artefact.how.word(), "description": artefact.description,
                });
                let what = match &artefact.how {
                    How::Commands(commands) => json!(commands.run),
                    How::Files(files) => {
                        json!(files.patterns.iter().chain(&files.anywhere).map(acquire::triage::Pattern::text).collect::<Vec<_>>())
                    }
                    How::Collector(name) => json!(name),
                    _ => Value::Null,
                };
                if let Some(row) = row.as_object_mut() {
                    row.insert("what".to_owned(), what);
                }
                row
            })
            .collect();
        ui.document(&rows.into())?;
    } else {
        let rows = all
            .iter()
            .map(|artefact| {
                vec![
                    artefact.level.to_string(),
                    artefact.name.clone(),
                    artefact.how.word().to_owned(),
                    artefact.profile.word().to_owned(),
                    artefact.description.clone(),
                ]
            })
            .collect();
        ui.table(&["level", "artefact", "kind", "profile", "what it is good for"], rows)?;
    }
    Ok(Outcome::Done)
}

/// How the artefacts went, in plain words.
fn say(summary: &TriageSummary, ui: Ui) {
    const SHOWN: usize = 12;
    let count = |state| summary.count(state);
    ui.say(&format!(
        "{}: {} taken, {} not on this host, {} taken in part, {} did not answer in time, {} skipped",
        ui::count(summary.artefacts.len() as u64, "artefact", "artefacts"),
        count(State::Done),
        count(State::Missing),
        count(State::Failed),
        count(State::TimedOut),
        count(State::Skipped),
    ));
    let wrong: Vec<_> = summary
        .artefacts
        .iter()
        .filter(|result| matches!(result.state, State::Failed | State::TimedOut))
        .collect();
    for result in wrong.iter().take(SHOWN) {
        ui.say(&format!("  {} {}: {}", result.level, result.name, result.what));
    }
    if wrong.len() > SHOWN {
        ui.say(&format!("  {} more: see artefacts.jsonl in the stream of commands", wrong.len() - SHOWN));
    }
    for result in summary.artefacts.iter().filter(|result| result.state == State::Skipped) {
        ui.detail(&format!("  {} {} skipped: {}", result.level, result.name, result.what));
    }
}
