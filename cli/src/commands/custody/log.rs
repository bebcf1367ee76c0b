//! `exhibit custody log`: prints the entries of a log.

use custody::strict_json;
use custody::{CustodyLog, Entry};

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Print the entries of a log, the oldest first
///
/// Example: exhibit custody log ir-2026-017:E001
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let log = CustodyLog::open(Target::open(&args.target)?.folder())?;
    let contents = log.read()?;
    if session.ui.is_json() {
        // The strict spelling is unique: these are the stored lines, which jq and sha256sum see.
        for entry in &contents.entries {
            session.ui.data(&strict_json::to_line(&serde_json::to_value(entry)?)?)?;
        }
    } else {
        let rows = contents.entries.iter().map(row).collect();
        session.ui.table(&["entry", "time (UTC)", "act", "by", "what"], rows)?;
    }
    if contents.torn_bytes > 0 {
        let torn = contents.torn_bytes;
        session
            .ui
            .warn(&format!("{torn} bytes after the last whole entry: the next append keeps them aside"));
        return Ok(Outcome::WithIssues);
    }
    Ok(Outcome::Done)
}

fn row(entry: &Entry) -> Vec<String> {
    let time = entry.time.wall.get(..19).unwrap_or(&entry.time.wall).replace('T', " ");
    vec![
        entry.seq.to_string(),
        time,
        entry.kind.to_string(),
        entry.actor.name.clone(),
        custody::report::what(entry),
    ]
}
