//! `exhibit custody receive`: accepts or refuses what was offered.

use std::path::PathBuf;

use custody::handover::{self, Answer, ReceiverSigns};
use custody::ssh::SshSignature;

use super::handing_over::{self, Parties};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Accept or refuse what was offered, signed by the receiver
///
/// What was offered is verified first, and what that gave is recorded. Sign with your own key (--key), which the offer
/// names and so introduces to the log; or bring a signature of the offer that ssh-keygen made (--sig).
///
/// Example: exhibit custody receive ir-2026-017:E001 --key store.pem --condition "seal 0042 intact"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// The entry of the offer, where it is not the one that is open
    #[arg(long, value_name = "SEQ")]
    offer: Option<u64>,
    /// Refuse it, and say why
    #[arg(long, value_name = "REASON", conflicts_with = "condition")]
    refuse: Option<String>,
    /// The state of what was received
    #[arg(long, value_name = "TEXT")]
    condition: Option<String>,
    /// The receiver's signature of the offer, as `ssh-keygen -Y sign -n custody@v1` made it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unsigned", "party_key", "party_cert"])]
    sig: Option<PathBuf>,
    /// The receiver does not sign; it is recorded so, and the report shows a gap
    #[arg(long, conflicts_with_all = ["party_key", "party_cert"])]
    unsigned: bool,
    /// Check log and manifest only, and do not read the data; it is recorded so
    #[arg(long)]
    quick: bool,
    /// Accept it though it does not verify; what is wrong is recorded
    #[arg(long, conflicts_with = "refuse")]
    anyway: bool,
    #[command(flatten)]
    parties: Parties,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let log = custody::CustodyLog::open(target.folder())?;
    let waiting = handover::open_offer(&log.read()?.entries, args.offer).map_err(super::refused)?;
    let Some(offer) = &waiting.offer else {
        return Err(Failure::new(format!("the offer in entry {} holds no text to sign", waiting.seq)));
    };
    let key = session.key()?;
    let kept = args.parties.open()?;
    let party = kept.as_party(&*key)?;
    let brought = args.sig.as_deref().map(read_signature).transpose()?;
    let own = party.public().fingerprint();
    let named = offer.terms.to_key.as_ref();
    let answer = match &args.refuse {
        Some(reason) => Answer::Refused { reason: reason.clone() },
        None => Answer::Accepted { condition: args.condition.clone().unwrap_or_default() },
    };
    let signs = match &brought {
        _ if args.unsigned => ReceiverSigns::Not,
        Some(signature) => ReceiverSigns::Brought(signature),
        None if named.is_some_and(|named| *named == own) => ReceiverSigns::With(&party),
        // Whoever is not the receiver can only say that it was not taken.
        None if args.refuse.is_some() => ReceiverSigns::Not,
        None if named.is_none() && offer.from_key.as_ref() != Some(&own) => ReceiverSigns::With(&party),
        None => return Err(not_the_receiver(named, &own, &args.target)),
    };
    let checked = handing_over::check(&target, args.quick, session)?;
    if !checked.intact && args.refuse.is_none() && !args.anyway {
        session.ui.warn(&format!("not accepted: the verdict is {}", checked.verdict));
        session.ui.warn("refuse it with --refuse REASON, or accept it as it is with --anyway");
        return Ok(Outcome::NotVerified);
    }
    let before: Vec<_> = offer.items.iter().filter(|item| !checked.items.contains(item)).collect();
    if let (Some(item), None, false) = (before.first(), &args.refuse, args.anyway) {
        return Err(Failure::new(format!("{} is not what was offered: its manifest is another", item.id))
            .hint("refuse it with --refuse REASON, or accept it as it is with --anyway"));
    }
    let mut facts = checked.facts();
    facts.push(("as_offered", before.is_empty().into()));
    let mut writer_identity = session.identity(target.case());
    // Who signs as the receiver writes as the receiver.
    if matches!(signs, ReceiverSigns::With(_)) {
        writer_identity.actor.name.clone_from(&offer.terms.to);
        writer_identity.actor.role = role(&offer.terms.to_role);
        writer_identity.actor.org = String::new();
    }
    let writer = custody::Writer::new(&key, &session.clock, writer_identity).mirrored_by(session.mirror());
    let (appended, _) = handover::answer(&log, Some(waiting.seq), &answer, &facts, &signs, &writer)
        .map_err(super::refused)?;
    super::say_appended(&appended, session)?;
    Ok(Outcome::Done)
}

fn role(said: &str) -> String {
    if said.is_empty() { "receiver".to_owned() } else { said.to_owned() }
}

fn read_signature(path: &std::path::Path) -> Result<SshSignature, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("failed to read the signature {path:?}: {error}")))?;
    SshSignature::parse(&text).map_err(|error| Failure::new(format!("{path:?}: {error}")))
}

fn not_the_receiver(named: Option<&String>, own: &str, target: &str) -> Failure {
    let who =
        named.map_or("nobody's key, and yours is the giver's".to_owned(), |key| format!("the key {key}"));
    Failure::usage(format!("the offer names {who}; you would sign with {own}"))
        .hint(format!("the receiver signs: exhibit custody receive {target} --key THEIR-KEY (or agent:SHA256:…)"))
        .hint("or bring their signature of the offer with --sig FILE, or record with --unsigned that they do not sign")
}
