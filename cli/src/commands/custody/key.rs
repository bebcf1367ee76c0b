//! `exhibit custody key`: which keys may write a log, and from where to where.

use custody::keys::VerifyingKey;
use custody::{CustodyLog, EntryType, HOW_FINGERPRINT, HOW_NAME, HOW_REASON, HOW_VKEY, KeyWindow, NewEntry};
use serde_json::json;

use super::handing_over;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::signing_key::{self, KeyPlace};
use crate::target::Target;

/// Add, rotate, revoke or list the keys that may write a log
///
/// Example: exhibit custody key rotate ir-2026-017 --to new.pem --reason "yearly"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    Add(Add),
    Rotate(Rotate),
    Revoke(Revoke),
    List(List),
}

/// Let another key write this log too; your key vouches for it
///
/// Example: exhibit custody key add ir-2026-017 colleague.pub --name "P. Roe"
#[derive(Debug, clap::Args)]
struct Add {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// The file of the other public key: PEM or .pub
    #[arg(value_name = "PUB")]
    public: std::path::PathBuf,
    /// Whose key it is
    #[arg(long)]
    name: Option<String>,
}

/// Go over to a new key: your key vouches for it, and it revokes yours
///
/// Example: exhibit custody key rotate ir-2026-017 --to new.pem --reason "yearly"
#[derive(Debug, clap::Args)]
struct Rotate {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// The new private key: a file, or agent:SHA256:…
    #[arg(long, value_name = "KEY")]
    to: String,
    /// Why
    #[arg(long, default_value = "rotated")]
    reason: String,
}

/// Revoke a key: it may sign nothing from there on
///
/// What it signed before stays valid. A key cannot revoke itself: sign with another key of the log.
///
/// Example: exhibit custody key revoke ir-2026-017 SHA256:… --reason "laptop stolen on 2026-11-19"
#[derive(Debug, clap::Args)]
struct Revoke {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// The key: its fingerprint, or a file with the public key
    #[arg(value_name = "KEY")]
    revoked: String,
    /// Why
    #[arg(long)]
    reason: String,
}

/// List the keys of a log, and the entries that each may sign for
///
/// Example: exhibit custody key list ir-2026-017:E001
#[derive(Debug, clap::Args)]
struct List {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Add(args) => add(args, session),
        Act::Rotate(args) => rotate(args, session),
        Act::Revoke(args) => revoke(args, session),
        Act::List(args) => list(args, session),
    }
}

fn add(args: &Add, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let public = signing_key::public_in(&args.public)?;
    let Some(key) = public.ed25519() else {
        let kind = public.algorithm();
        return Err(Failure::usage(format!(
            "a key of the kind {kind} signs no custody log; only Ed25519 does"
        )));
    };
    let entry = added(&target, &key, args.name.as_deref())?;
    super::say_appended(&super::append(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}

/// The entry that brings a key which is new to the log.
fn added(target: &Target, key: &VerifyingKey, name: Option<&str>) -> Result<NewEntry, Failure> {
    let log = CustodyLog::open(target.folder())?;
    let fingerprint = key.fingerprint();
    if let Some(known) = log.keys()?.iter().find(|known| known.fingerprint == fingerprint && known.accepted) {
        return Err(match known.revoked {
            Some(seq) => {
                Failure::new(format!("entry {seq} revoked the key {fingerprint}; it never comes back"))
            }
            None => Failure::new(format!("the key {fingerprint} may write this log already")),
        });
    }
    let entry = NewEntry::new(EntryType::KEY_ADDED).how(HOW_VKEY, key.to_vkey(log.origin()));
    Ok(name.into_iter().fold(entry, |entry, name| entry.how(HOW_NAME, name)))
}

fn rotate(args: &Rotate, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let reason = super::said(&args.reason, "the reason")?;
    let (old, new) = (session.key()?, KeyPlace::parse(&args.to).open()?);
    let log = CustodyLog::open(target.folder())?;
    let entry = added(&target, &new.verifying_key(), None)?;
    log.append(&entry, &session.writer(&old, target.case())).map_err(super::refused)?;
    let gone = old.verifying_key().fingerprint();
    let entry =
        NewEntry::new(EntryType::KEY_REVOKED).how(HOW_FINGERPRINT, gone.as_str()).how(HOW_REASON, reason);
    let appended = log.append(&entry, &session.writer(&new, target.case())).map_err(|error| {
        super::refused(error).hint(format!(
            "the new key is in the log, and the old one is not revoked yet: run `exhibit custody key revoke {} {gone}` \
             with the new key",
            args.target
        ))
    })?;
    super::say_appended(&appended, session)?;
    session.ui.say(&format!("from now on sign with --key {}", args.to));
    Ok(Outcome::Done)
}

fn revoke(args: &Revoke, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let reason = super::said(&args.reason, "the reason")?;
    let fingerprint = handing_over::fingerprint(&args.revoked)?;
    let known = CustodyLog::open(target.folder())?.keys()?;
    match known.iter().find(|known| known.fingerprint == fingerprint && known.accepted) {
        None => {
            let all: Vec<_> = known.iter().map(|known| known.fingerprint.as_str()).collect();
            let all = all.join(", ");
            return Err(Failure::new(format!("the log has no key {fingerprint}; it has {all}")));
        }
        Some(KeyWindow { revoked: Some(seq), .. }) => {
            return Err(Failure::new(format!("entry {seq} revoked the key {fingerprint} already")));
        }
        Some(_) => {}
    }
    let entry = NewEntry::new(EntryType::KEY_REVOKED)
        .how(HOW_FINGERPRINT, fingerprint.as_str())
        .how(HOW_REASON, reason);
    super::say_appended(&super::append(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}

fn list(args: &List, session: &Session) -> Result<Outcome, Failure> {
    let keys = CustodyLog::open(Target::open(&args.target)?.folder())?.keys()?;
    if session.ui.is_json() {
        session.ui.document(&json!(keys))?;
        return Ok(Outcome::Done);
    }
    let rows = keys.iter().map(row).collect();
    session.ui.table(&["key", "whose", "may sign", "why it ended"], rows)?;
    Ok(Outcome::Done)
}

fn row(key: &KeyWindow) -> Vec<String> {
    let window = match (key.accepted, key.revoked) {
        (false, _) => "nothing: no earlier key vouches for it".to_owned(),
        (true, None) => format!("from entry {}", key.introduced),
        (true, Some(revoked)) => format!("entries {} to {}", key.introduced, revoked.saturating_sub(1)),
    };
    vec![key.fingerprint.clone(), key.name.clone(), window, key.reason.clone()]
}
