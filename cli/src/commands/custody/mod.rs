//! `exhibit custody`: reads a custody log, or appends to it. One file an act.

mod anchor;
mod checkpoint;
mod cosign;
mod log;
mod note;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;
use custody::{Appended, CustodyLog, NewEntry};
use serde_json::json;

/// Read a custody log, or append to it
///
/// Example: exhibit custody note ir-2026-017 "disk handed to the lab, seal 0042 intact"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

/// The table of acts. Each one's help is the documentation of its `Args`.
#[derive(Debug, clap::Subcommand)]
enum Act {
    Anchor(anchor::Args),
    Checkpoint(checkpoint::Args),
    Cosign(cosign::Args),
    Log(log::Args),
    Note(note::Args),
}

/// Runs the act.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Anchor(args) => anchor::run(args, session),
        Act::Checkpoint(args) => checkpoint::run(args, session),
        Act::Cosign(args) => cosign::run(args, session),
        Act::Log(args) => log::run(args, session),
        Act::Note(args) => note::run(args, session),
    }
}

/// Appends one entry to the log of what is named, and gives what was done.
fn append(target: &Target, entry: &NewEntry, session: &Session) -> Result<Appended, Failure> {
    let key = session.key()?;
    let writer = session.writer(&key, target.case());
    CustodyLog::open(target.folder())?.append(entry, &writer).map_err(|error| {
        let hint = match &error {
            custody::Error::KeyNotIntroduced { .. } => {
                "sign with the key that began this log (--key FILE); another key must be introduced by it first"
            }
            _ => "check the log with `exhibit verify`",
        };
        Failure::new(error).hint(hint)
    })
}

/// Says which entry was written.
fn say_appended(appended: &Appended, session: &Session) -> Result<(), Failure> {
    if session.ui.is_json() {
        return session.ui.document(&json!({
            "seq": appended.seq, "size": appended.checkpoint.checkpoint.size,
            "root": appended.checkpoint.checkpoint.root.to_string(),
        }));
    }
    session.ui.say(&format!("entry {} is written and signed", appended.seq));
    Ok(())
}
