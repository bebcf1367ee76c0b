//! `exhibit init`: makes a case.

use std::path::PathBuf;

use custody::{Case, NewCase, Writer};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::identity;
use crate::session::Session;

/// Make a case: its folder, its custody log, and a signing key if there is none
///
/// Example: exhibit init ir-2026-017 --name "web01 intrusion" --examiner "J. Doe" --authority "ticket 4711"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to make
    case: PathBuf,
    /// What the case is called
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// Who examines
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    examiner: String,
    /// By what authority: a warrant, an order, a consent, a ticket
    #[arg(long)]
    authority: Option<String>,
    /// For what organisation
    #[arg(long)]
    org: Option<String>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (key, is_new) = session.key_or_new()?;
    let identity = identity::of_this_run(&args.examiner, args.org.as_deref());
    let new = NewCase {
        name: args.name.clone(),
        examiner: args.examiner.clone(),
        organisation: args.org.clone().unwrap_or_default(),
        authority: args.authority.clone().unwrap_or_default(),
    };
    let case = Case::create(&args.case, &new, &Writer::new(&key, &session.clock, identity))
        .map_err(|error| Failure::new(error).hint("a case is made in a folder that is new or empty"))?;
    let fingerprint = key.verifying_key().fingerprint();
    if is_new {
        session.ui.say(&format!("made a signing key: {}", session.key_path()?.display()));
    }
    if session.ui.is_json() {
        session.ui.document(&json!({
            "case": case.folder().display().to_string(), "id": case.file().id, "key": fingerprint,
            "origin": case.log().origin(),
        }))?;
    } else {
        session.ui.say(&format!("case {} is ready; its log is signed by {fingerprint}", args.case.display()));
        session.ui.say(&format!("next: exhibit acquire disk SOURCE --case {}", args.case.display()));
    }
    Ok(Outcome::Done)
}
