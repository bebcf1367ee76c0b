//! `exhibit custody`: reads a custody log, or appends to it.

use custody::strict_json;
use custody::{CustodyLog, Entry, EntryType, NewEntry};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Read a custody log, or append to it
///
/// Example: exhibit custody note ir-2026-017 "disk handed to the lab, seal 0042 intact"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Print the entries of a log, the oldest first
    Log {
        /// CASE, a bundle's folder, or CASE:E001
        #[arg(value_name = "CASE|BUNDLE")]
        target: String,
    },
    /// Append a note
    Note {
        /// CASE, a bundle's folder, or CASE:E001
        #[arg(value_name = "CASE|BUNDLE")]
        target: String,
        /// What to note
        text: String,
    },
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Log { target } => log(target, session),
        Act::Note { target, text } => note(target, text, session),
    }
}

fn log(target: &str, session: &Session) -> Result<Outcome, Failure> {
    let log = CustodyLog::open(Target::open(target)?.folder())?;
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

fn note(target: &str, text: &str, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(target)?;
    let key = session.key()?;
    let writer = session.writer(&key, target.case());
    let entry = NewEntry::new(EntryType::NOTE).how("text", text);
    let appended = CustodyLog::open(target.folder())?.append(&entry, &writer).map_err(|error| {
        let hint = match &error {
            custody::Error::KeyNotIntroduced { .. } => {
                "sign with the key that began this log (--key FILE); another key must be introduced by it first"
            }
            _ => "check the log with `exhibit verify`",
        };
        Failure::new(error).hint(hint)
    })?;
    if session.ui.is_json() {
        session.ui.document(&json!({
            "seq": appended.seq, "size": appended.checkpoint.checkpoint.size,
            "root": appended.checkpoint.checkpoint.root.to_string(),
        }))?;
    } else {
        session.ui.say(&format!("entry {} is written and signed", appended.seq));
    }
    Ok(Outcome::Done)
}
