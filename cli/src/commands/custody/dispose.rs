//! `exhibit custody dispose`: records how evidence ended, and deletes a bundle if asked to.

use custody::aftercare::{Disposed, ITEM_BUNDLE, Method, NewDisposal};
use serde_json::json;

use super::{exhibit_in_case, refused};
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Record that an exhibit was destroyed, returned or erased
///
/// Refused before its retention ends, or where none was set, unless an authority is given. The exhibit's log,
/// manifest, signature and keys stay in the case under disposed/. With --delete the bundle's folder is deleted once
/// that is written: its names go and its blocks are freed; nothing is overwritten.
///
/// Example: exhibit custody dispose ir-2026-017:E001 --method erased --authority "Order 12/31" --delete --yes-delete E001
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The exhibit, CASE:E001
    #[arg(value_name = "CASE:E001")]
    target: String,
    /// How it ends
    #[arg(long, value_enum)]
    method: How,
    /// What goes, where it is not the bundle: a copy's id such as E001-C1, or "original disk, S/N 1234"
    #[arg(long, value_name = "TEXT", default_value = ITEM_BUNDLE)]
    item: String,
    /// Who does it [default: the case's examiner]
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// To whom it is returned
    #[arg(long, value_name = "WHO", default_value = "", required_if_eq("method", "returned"))]
    to: String,
    /// Who sees it
    #[arg(long, value_name = "WHO", default_value = "")]
    witness: String,
    /// The order or consent that lets it go
    #[arg(long, value_name = "TEXT", default_value = "")]
    authority: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Delete the bundle's folder
    #[arg(long, requires = "yes_delete")]
    delete: bool,
    /// The exhibit's id once more, so that nothing is deleted by a slip
    #[arg(long, value_name = "E001", requires = "delete")]
    yes_delete: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// The thing itself was destroyed
    Destroyed,
    /// It went back to its owner, or to whom the order says
    Returned,
    /// Its content was erased
    Erased,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (case, id) = exhibit_in_case(&args.target)?;
    if args.delete && args.item != ITEM_BUNDLE {
        return Err(Failure::usage("--delete deletes the bundle's folder, and --item names something else"));
    }
    if let Some(yes) = args.yes_delete.as_ref().filter(|yes| **yes != id) {
        return Err(Failure::usage(format!(
            "--yes-delete says {yes:?}, and the exhibit is {id}: nothing was deleted"
        ))
        .hint(format!("to delete it, give --delete --yes-delete {id}")));
    }
    let new = NewDisposal {
        exhibit: id.clone(),
        item: args.item.clone(),
        method: match args.method {
            How::Destroyed => Method::Destroyed,
            How::Returned => Method::Returned,
            How::Erased => Method::Erased,
        },
        who: args.by.clone().unwrap_or_else(|| case.file().examiner.clone()),
        to: args.to.clone(),
        witness: args.witness.clone(),
        authority: args.authority.clone(),
        reason: args.reason.clone(),
        delete: args.delete,
    };
    let key = session.key()?;
    let done = case.dispose(&new, &session.writer(&key, Some(&case))).map_err(refused)?;
    show(&id, &new, &done, session)?;
    Ok(Outcome::Done)
}

fn show(id: &str, new: &NewDisposal, done: &Disposed, session: &Session) -> Result<(), Failure> {
    if session.ui.is_json() {
        return session.ui.document(&json!({
            "seq": done.appended.seq, "size": done.appended.checkpoint.checkpoint.size,
            "root": done.appended.checkpoint.checkpoint.root.to_string(), "exhibit": id, "item": new.item,
            "manifest_sha256": done.manifest_sha256.map(|hash| hash.to_string()), "record": done.record,
            "deleted": done.deleted, "verdict": done.verdict,
        }));
    }
    let ui = session.ui;
    ui.say(&format!("entry {} is written and signed", done.appended.seq));
    if let Some(hash) = done.manifest_sha256 {
        ui.say(&format!("what went is known by its manifest.json:\nSHA-256 {hash}"));
    }
    if let Some(verdict) = done.verdict.as_ref().filter(|verdict| verdict.starts_with("BROKEN")) {
        ui.warn(&format!("the exhibit's own log is {verdict}; the entry says so"));
    }
    if let Some(record) = &done.record {
        ui.say(&format!("its log, manifest and keys are kept in {record}"));
    }
    if done.deleted {
        ui.say("the bundle's folder is deleted; its blocks were not overwritten");
    } else if done.record.is_some() {
        ui.say(&format!("the bundle's folder is still there: --delete --yes-delete {id} deletes it"));
    }
    Ok(())
}
