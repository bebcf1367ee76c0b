//! `exhibit key`: makes a signing key, or shows its public half.

use serde_json::json;

use custody::keys::{Signer, SigningKey};

use crate::failure::{Failure, Outcome};
use crate::session::{self, Session};

/// Make or show a signing key
///
/// The key is an Ed25519 key in a PKCS#8 PEM file that openssl reads too. It never lies in a case or bundle.
///
/// Example: exhibit key new --passphrase
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Make a key at the default place, or at --key FILE
    New {
        /// Ask for a passphrase to encrypt the key with (EXHIBIT_KEY_PASSPHRASE where there is no terminal)
        #[arg(long)]
        passphrase: bool,
    },
    /// Show the public key: fingerprint and PEM
    Show,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let key = match args.act {
        Act::New { passphrase } => make(passphrase, session)?,
        Act::Show => session.key()?,
    };
    let (place, public) = (session.key_place()?.words(), key.verifying_key());
    if session.ui.is_json() {
        session.ui.document(&json!({
            "fingerprint": public.fingerprint(), "path": place, "public_pem": public.to_pem()?,
        }))?;
    } else {
        session.ui.data(&format!("fingerprint  {}", public.fingerprint()))?;
        session.ui.data(&format!("file         {place}"))?;
        session.ui.data(public.to_pem()?.trim_end())?;
    }
    Ok(Outcome::Done)
}

fn make(passphrase: bool, session: &Session) -> Result<Box<dyn Signer>, Failure> {
    let path = session.key_path()?;
    if path.exists() {
        return Err(Failure::new(format!("refusing to overwrite the key {path:?}"))
            .hint("name another file with --key FILE; evidence signed with the old key needs it"));
    }
    let folder = std::path::absolute(&path)?;
    if folder.ancestors().any(|at| at.join("case.json").exists() || at.join("manifest.json").exists()) {
        return Err(Failure::usage(format!(
            "{path:?} lies in a case or bundle, where no private key belongs"
        ))
        .hint("name a file elsewhere with --key FILE"));
    }
    let passphrase = match (passphrase, session::passphrase_from_environment()) {
        (false, from_environment) => from_environment,
        (true, Some(given)) => Some(given),
        (true, None) => {
            let first = rpassword::prompt_password("New passphrase: ")?;
            if first.is_empty() || first != rpassword::prompt_password("Again: ")? {
                return Err(Failure::usage("the two passphrases are not the same, or empty"));
            }
            Some(first)
        }
    };
    session::make_key_folder(&path)?;
    let key = SigningKey::generate()?;
    key.save(&path, passphrase.as_deref())?;
    session.ui.say("made a new key; keep a copy of it where the evidence is not");
    Ok(Box::new(key))
}
