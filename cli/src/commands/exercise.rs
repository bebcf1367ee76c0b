//! `exhibit exercise`: whether the whole answers as it should, with pass or fail.

use std::path::PathBuf;

use respond::exercise::{self, Exercise};
use respond::settings::Settings;

use super::ready::{probe_of, wrapped};
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Try the whole answer to a threat, with pass or fail
///
/// T3 chain reaction: one threat, decided and made into jobs in a state of its own; capture, isolation, credentials and people must be
/// in them. The jobs are not run: each link is tried by its own check instead. T4 autonomous boundary: a credential spray over the
/// inventory, decided as the service would; limits must hold and nothing protected or unknown be touched. T5 one-hour timeline: a
/// made intrusion, from evidence to entry, privilege, movement and egress. Nothing of yours is isolated or changed. Exit code 3 when
/// it fails.
///
/// Example: exhibit exercise T4 --config serve.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// T3, T4 or T5
    #[arg(value_name = "EXERCISE", value_parser = named)]
    exercise: String,
    /// The settings of `exhibit serve`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn named(text: &str) -> Result<String, String> {
    let id = text.to_ascii_uppercase();
    exercise::named(&id).map(|exercise| exercise.id.to_owned()).ok_or_else(|| "it is T3, T4 or T5".to_owned())
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let exercise: &Exercise =
        exercise::named(&args.exercise).ok_or_else(|| Failure::usage("there is no such exercise"))?;
    let (probe, _) = probe_of(Settings::load(&args.config)?, session)?;
    let report = exercise.run(&probe);
    if session.ui.is_json() {
        session.ui.document(&serde_json::to_value(&report)?)?;
    } else {
        wrapped(&format!("{} ", report.exercise), &format!("{}: {}", report.title, exercise.about), session)?;
        for line in &report.lines {
            let mark = if line.holds { "PASS" } else { "FAIL" };
            let took = line.seconds.map_or_else(String::new, |seconds| format!(" ({seconds:.1} s)"));
            wrapped(&format!("{mark} "), &format!("{}{took}: {}", line.what, line.seen), session)?;
        }
        let verdict = if report.passed { "passed" } else { "failed" };
        session.ui.say(&format!("{} {verdict} after {:.1} min", report.exercise, report.seconds / 60.0));
    }
    Ok(if report.passed { Outcome::Done } else { Outcome::NotVerified })
}
