//! `exhibit custody`: reads a custody log, or appends to it. One file an act.

mod access;
mod anchor;
mod checkpoint;
mod close;
pub(crate) mod compare;
mod copy;
mod correct;
mod cosign;
mod deviate;
mod disclose;
mod dispose;
mod extract;
mod handing_over;
mod impact;
mod key;
mod log;
mod note;
mod prove;
mod receive;
mod retain;
mod transfer;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::{Target, open_case};
use custody::aftercare::Day;
use custody::bundle::Bundle;
use custody::{Appended, Case, CustodyLog, NewEntry, case_layout};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;

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
    Compare(compare::Args),
    Log(log::Args),
    Note(note::Args),
    Prove(prove::Args),
    Extract(extract::Args),
    Retain(retain::Args),
    Dispose(dispose::Args),
    Disclose(disclose::Args),
    Copy(copy::Args),
    Access(access::Args),
    Impact(impact::Args),
    Transfer(transfer::Args),
    Receive(receive::Args),
    Correct(correct::Args),
    Deviate(deviate::Args),
    Key(key::Args),
    Close(close::Args),
}

/// Runs the act.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Anchor(args) => anchor::run(args, session),
        Act::Checkpoint(args) => checkpoint::run(args, session),
        Act::Cosign(args) => cosign::run(args, session),
        Act::Compare(args) => compare::run(args, session),
        Act::Log(args) => log::run(args, session),
        Act::Note(args) => note::run(args, session),
        Act::Prove(args) => prove::run(args, session),
        Act::Extract(args) => extract::run(args, session),
        Act::Retain(args) => retain::run(args, session),
        Act::Dispose(args) => dispose::run(args, session),
        Act::Disclose(args) => disclose::run(args, session),
        Act::Copy(args) => copy::run(args, session),
        Act::Access(args) => access::run(args, session),
        Act::Impact(args) => impact::run(args, session),
        Act::Transfer(args) => transfer::run(args, session),
        Act::Receive(args) => receive::run(args, session),
        Act::Correct(args) => correct::run(args, session),
        Act::Deviate(args) => deviate::run(args, session),
        Act::Key(args) => key::run(args, session),
        Act::Close(args) => close::run(args, session),
    }
}

/// Appends one entry to the log of what is named, and gives what was done.
fn append(target: &Target, entry: &NewEntry, session: &Session) -> Result<Appended, Failure> {
    let key = session.key()?;
    let writer = session.writer(&key, target.case());
    CustodyLog::open(target.folder())?.append(entry, &writer).map_err(refused)
}

/// Appends one entry to the log of the case that is named, or that the exhibit lies in; outside a case to the bundle's.
fn append_to_case(target: &Target, entry: &NewEntry, session: &Session) -> Result<Appended, Failure> {
    let key = session.key()?;
    let writer = session.writer(&key, target.case());
    let appended = match target.case() {
        Some(case) => case.append(entry.clone(), &writer),
        None => CustodyLog::open(target.folder())?.append(entry, &writer),
    };
    appended.map_err(refused)
}

/// What to do about an entry that was not written.
fn refused(error: custody::Error) -> Failure {
    let hint = match &error {
        custody::Error::KeyNotIntroduced { .. } => {
            "sign with the key that began this log (--key FILE); another key must be introduced by it first"
        }
        custody::Error::Retained { .. } => {
            "give the order that lets it go with --authority, or set the retention anew with `exhibit custody retain`"
        }
        custody::Error::Closed { kind, .. } if kind == "note" => {
            "a closed log takes no note; `exhibit custody correct` refers to an entry and says what is right"
        }
        custody::Error::Closed { .. } => {
            "a closed case can be looked at, handed on, disclosed, corrected and anchored, and nothing is added to it"
        }
        custody::Error::Handover { .. } => "`exhibit custody log` shows the offers and their answers",
        custody::Error::Key { .. } | custody::Error::Signature { .. } => return Failure::new(error),
        custody::Error::WouldOverwrite { .. } => "name a folder that is not there",
        custody::Error::InUse { .. } => "wait until the acquisition has ended",
        custody::Error::Malformed { .. } => return Failure::usage(error.to_string()),
        _ => "check the log with `exhibit verify`",
    };
    Failure::new(error).hint(hint)
}

/// The exhibit that an act is about: none when it is the whole case.
fn about(target: &Target) -> Result<Option<String>, Failure> {
    let Target::Bundle { folder, .. } = target else { return Ok(None) };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if let Some(number) = case_layout::exhibit_number(&name) {
        return Ok(Some(case_layout::exhibit_id(number)));
    }
    Ok(Some(Bundle::open(folder)?.manifest().exhibit.clone()))
}

/// The case and the id of the exhibit in `CASE:E001`, or in a bundle's folder that lies in a case. The exhibit's folder
/// need not be there: its copies may still be.
fn exhibit_in_case(words: &str) -> Result<(Case, String), Failure> {
    if !Path::new(words).is_dir()
        && let Some((case, id)) = words.rsplit_once(':')
        && case_layout::exhibit_number(&id.to_ascii_uppercase()).is_some_and(|_| !id.contains('-'))
    {
        return Ok((open_case(Path::new(case))?, id.to_ascii_uppercase()));
    }
    let target = Target::open(words)?;
    let id = about(&target)?.ok_or_else(|| {
        Failure::usage(format!("{words:?} is a case: name one of its exhibits"))
            .hint(format!("such as {words}:E001; `exhibit list` shows them"))
    })?;
    let outside = || {
        Failure::usage(format!("{words:?} lies outside a case, and the record must outlive the bundle"))
            .hint("name it as CASE:E001")
    };
    Ok((target.case().cloned().ok_or_else(outside)?, id))
}

/// A day, as `--until` takes it.
pub(super) fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).map_err(|error| error.to_string())
}

/// A text that must say something.
fn said<'a>(text: &'a str, what: &str) -> Result<&'a str, Failure> {
    let text = text.trim();
    if text.is_empty() { Err(Failure::usage(format!("{what} says nothing"))) } else { Ok(text) }
}

/// Makes sure that a log has this entry, before one refers to it.
fn must_be_there(target: &Target, seq: u64) -> Result<(), Failure> {
    let entries = CustodyLog::open(target.folder())?.read()?.entries;
    match entries.last().map(|last| last.seq) {
        Some(last) if seq <= last => Ok(()),
        last => Err(Failure::usage(format!(
            "the log has no entry {seq}; its last is {}",
            last.map_or("none".to_owned(), |last| last.to_string())
        ))),
    }
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

/// Writes a proof to a file that is not there yet.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = std::fs::File::options().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(|error| {
        Failure::new(format!("failed to write {path:?}: {error}"))
            .hint("name a new file in a folder that is there; nothing is ever written over")
    })
}

/// Reads a proof, which is never large.
fn read_proof(path: &Path) -> Result<Vec<u8>, Failure> {
    const MOST: u64 = 512 << 20;
    let fault = |why: String| Failure::new(format!("failed to read {path:?}: {why}"));
    let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| fault(error.to_string()))?;
    if bytes.len() as u64 > MOST {
        return Err(fault(format!("larger than {MOST} bytes, so it is no proof")));
    }
    Ok(bytes)
}

/// Says that a proof proves nothing, and why.
fn say_not_proved(error: &custody::Error, session: &Session) -> Result<Outcome, Failure> {
    if session.ui.is_json() {
        session.ui.document(&json!({"proved": false, "why": error.to_string()}))?;
    } else {
        session.ui.data(&crate::ui::printable(&format!("NOT PROVED  {error}"), false))?;
    }
    Ok(Outcome::NotVerified)
}
