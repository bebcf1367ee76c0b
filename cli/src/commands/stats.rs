//! `exhibit stats mttr`: how long it took from the alert to the evidence, out of the case's own log.

use std::path::PathBuf;

use respond::mttr::{Milestones, milestones};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;

/// Say how long a response took, out of the custody log of its case
///
/// Example: exhibit stats mttr cases/J000017-i-0123456789abcdef0
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Mttr(MttrArgs),
}

/// From the alert to capture, isolation and timeline
///
/// Every time is that of an entry of the case's log, by the clocks of the hosts that wrote them; what the log does not have
/// is left out.
///
/// Example: exhibit stats mttr cases/J000017-i-0123456789abcdef0
#[derive(Debug, clap::Args)]
struct MttrArgs {
    /// The case of a job
    case: PathBuf,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let What::Mttr(args) = &args.what;
    let case = target::open_case(&args.case)?;
    let entries = case.log().read()?.entries;
    let Milestones { rows, .. } = milestones(&entries);
    if rows.is_empty() {
        return Err(Failure::usage("the case did not begin with an alert")
            .hint("only cases that `exhibit serve` or `exhibit capture` made have these times"));
    }
    let zero = rows.first().map_or(0, |row| row.at);
    let seconds = |at: i64| at.saturating_sub(zero) as f64 / 1e9;
    if session.ui.is_json() {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let at = custody::clock::rfc3339(row.at);
                json!({"what": row.what, "at": at, "seconds_after_alert": seconds(row.at), "entry": row.entry})
            })
            .collect();
        session.ui.document(&rows.into())?;
    } else {
        let rows = rows.iter().map(|row| {
            let at: String = custody::clock::rfc3339(row.at).replace('T', " ").chars().take(23).collect();
            vec![row.what.to_owned(), at, format!("{:.1}", seconds(row.at)), row.entry.to_string()]
        });
        session.ui.table(&["what", "time (UTC)", "seconds after", "entry"], rows.collect())?;
    }
    Ok(Outcome::Done)
}
