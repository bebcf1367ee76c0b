//! `exhibit custody copy`: copies an exhibit, or records a copy that was made by other means.

use std::path::PathBuf;

use custody::aftercare::NewCopy;
use custody::verify::Options;
use serde_json::json;

use super::{exhibit_in_case, refused};
use crate::failure::{Failure, Outcome};
use crate::progress_bar::Bars;
use crate::session::Session;
use crate::ui;

/// Copy an exhibit and verify the copy, or record a copy made by other means
///
/// Each copy gets an id, E001-C1, that later entries can name. A copy takes the custody log along as it stands; go on
/// writing to the log of the master alone, for two logs that go on differently are a fork.
///
/// Example: exhibit custody copy ir-2026-017:E001 --to /mnt/vault/E001 --purpose "for the defence"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The exhibit, CASE:E001
    #[arg(value_name = "CASE:E001")]
    target: String,
    /// Copy the bundle to this folder, which must not be there, and verify it
    #[arg(long, value_name = "PATH", required_unless_present = "at")]
    to: Option<PathBuf>,
    /// Where the copy lies, in words: "safe 3, LTO tape 0042"
    #[arg(long, value_name = "PLACE", default_value = "")]
    at: String,
    /// This copy is the master from now on
    #[arg(long)]
    master: bool,
    /// How it was made, where not by this command
    #[arg(long, value_name = "TEXT", default_value = "")]
    means: String,
    /// By whose order
    #[arg(long, value_name = "TEXT", default_value = "")]
    authority: String,
    /// What for
    #[arg(long, value_name = "TEXT", default_value = "")]
    purpose: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (case, id) = exhibit_in_case(&args.target)?;
    let new = NewCopy {
        exhibit: id,
        to: args.to.clone(),
        place: args.at.clone(),
        master: args.master,
        means: args.means.clone(),
        authority: args.authority.clone(),
        purpose: args.purpose.clone(),
    };
    let options = Options { identities: session.identities()?.clone(), ..Options::default() };
    let key = session.key()?;
    let bars = Bars::waiting(session.ui, "copying");
    let done = case.copy_exhibit(&new, &options, &session.writer(&key, Some(&case)));
    drop(bars);
    let done = done.map_err(refused)?;
    let verdict = done.verification.as_ref().map(|done| done.verdict.to_string());
    let broken = done.is_broken();
    if session.ui.is_json() {
        session.ui.document(&json!({
            "seq": done.appended.seq, "size": done.appended.checkpoint.checkpoint.size,
            "root": done.appended.checkpoint.checkpoint.root.to_string(), "copy": done.id,
            "manifest_sha256": done.manifest_sha256.map(|hash| hash.to_string()),
            "copy_manifest_sha256": done.copy_manifest_sha256.map(|hash| hash.to_string()),
            "verdict": verdict, "files": done.copied.0, "bytes": done.copied.1, "master": args.master,
        }))?;
    } else {
        session.ui.say(&format!("{} is entry {}, written and signed", done.id, done.appended.seq));
        if let Some(hash) = done.manifest_sha256 {
            session.ui.say(&format!("manifest.json of the exhibit: SHA-256\n  {hash}"));
        }
        match (&verdict, done.copy_manifest_sha256) {
            (Some(verdict), Some(hash)) => {
                let files = ui::count(done.copied.0, "file", "files");
                let bytes = ui::bytes(done.copied.1);
                session.ui.say(&format!("manifest.json of the copy: SHA-256\n  {hash}"));
                session.ui.say(&format!("copied {files}, {bytes}; the copy verifies: {verdict}"));
            }
            _ if broken => {}
            _ => session.ui.say("the copy was not made here, so it was not verified"),
        }
    }
    if broken {
        let to = args.to.clone().unwrap_or_default();
        let faults = done.verification.iter().flat_map(|done| &done.faults).take(3);
        let faults: Vec<String> = faults.map(ToString::to_string).collect();
        session.ui.failure(&Failure::new(format!("the copy does not verify: {}", faults.join("; "))).hint(
            format!("the entry says so; do not use {to:?}, and check the exhibit with `exhibit verify`"),
        ));
        return Ok(Outcome::NotVerified);
    }
    if !session.ui.is_json()
        && let Some(to) = &args.to
    {
        session.ui.data(&to.display().to_string())?;
    }
    Ok(Outcome::Done)
}
