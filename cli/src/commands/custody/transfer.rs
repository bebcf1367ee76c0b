//! `exhibit custody transfer`: offers evidence to somebody.

use std::path::PathBuf;

use custody::handover::{self, Terms};

use super::handing_over::{self, Parties};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Offer evidence to somebody, signed by the giver
///
/// What is handed over is verified first. The offer is printed, and is what the receiver signs: with
/// `exhibit custody receive`, or with `ssh-keygen -Y sign -n custody@v1 -f KEY OFFER`.
///
/// Example: exhibit custody transfer ir-2026-017:E001 --to "Property store" --to-key store.pub --means "by hand"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// Who is to receive it
    #[arg(long, value_name = "NAME")]
    to: String,
    /// The key that the receiver signs with: a fingerprint (SHA256:…), or a file with the public key
    #[arg(
        long,
        value_name = "FINGERPRINT|PUB",
        conflicts_with = "unsigned",
        required_unless_present = "unsigned"
    )]
    to_key: Option<String>,
    /// The receiver has no key and will not sign: the report shows a gap from here on
    #[arg(long)]
    unsigned: bool,
    /// The receiver's role
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Where it is handed over
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// By what means: by hand, by courier, over the network
    #[arg(long, value_name = "MEANS")]
    means: Option<String>,
    /// To what end
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// Number and state of the seal
    #[arg(long, value_name = "SEAL")]
    seal: Option<String>,
    /// The state of what is handed over
    #[arg(long, value_name = "TEXT")]
    condition: Option<String>,
    /// Write the offer to this new file, for the receiver to sign
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Check log and manifest only, and do not read the data; it is recorded so
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    parties: Parties,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let text = |fact: &Option<String>| fact.clone().unwrap_or_default();
    let terms = Terms {
        to: args.to.clone(),
        to_key: args.to_key.as_deref().map(handing_over::fingerprint).transpose()?,
        to_role: text(&args.role),
        place: text(&args.place),
        means: text(&args.means),
        purpose: text(&args.purpose),
        seal: text(&args.seal),
        condition: text(&args.condition),
    };
    if let Some(path) = args.output.as_ref().filter(|path| path.exists()) {
        return Err(Failure::usage(format!("refusing to overwrite {path:?}")));
    }
    let checked = handing_over::check(&target, args.quick, session)?;
    if !checked.intact {
        return Err(Failure::new(format!("not offered: the verdict is {}", checked.verdict)).hint(
            "`exhibit verify` says what is wrong; put it right or record it with `exhibit custody deviate`",
        ));
    }
    let key = session.key()?;
    let kept = args.parties.open()?;
    let party = kept.as_party(&*key)?;
    let writer = session.writer(&key, target.case());
    let log = custody::CustodyLog::open(target.folder())?;
    let facts = checked.facts();
    let (appended, offer) = handover::offer(&log, &terms, checked.items, &facts, Some(&party), &writer)
        .map_err(super::refused)?;
    if let Some(path) = &args.output {
        std::fs::write(path, offer.text())
            .map_err(|error| Failure::new(format!("failed to write the offer {path:?}: {error}")))?;
    }
    if session.ui.is_json() {
        let signed_with = party.public().fingerprint();
        session.ui.document(&serde_json::json!({
            "seq": appended.seq, "size": appended.checkpoint.checkpoint.size,
            "root": appended.checkpoint.checkpoint.root.to_string(), "offer": offer.lines(), "signed_with": signed_with,
        }))?;
    } else {
        session.ui.data(offer.text().trim_end())?;
        session.ui.say(&format!("entry {} is written and signed: the offer above", appended.seq));
        let next = if args.unsigned {
            format!("when it is gone: exhibit custody receive {} --unsigned", args.target)
        } else {
            format!("the receiver runs: exhibit custody receive {} --key THEIR-KEY", args.target)
        };
        session.ui.say(&next);
    }
    Ok(Outcome::Done)
}
