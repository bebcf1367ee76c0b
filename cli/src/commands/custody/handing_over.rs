//! What giving and receiving share: the parties' keys, and the check of what changes hands.

use std::path::{Path, PathBuf};

use custody::handover::Item;
use custody::keys::{Signer, VerifyingKey};
use custody::ssh::{AgentKey, Certificate, PartyKey};
use custody::verify::{self, Level, Options};
use serde_json::Value;

use crate::failure::Failure;
use crate::progress_bar::Bars;
use crate::session::Session;
use crate::signing_key::{self, KeyPlace};
use crate::target::Target;

/// The key that a party signs the handover with.
#[derive(Debug, clap::Args)]
pub(crate) struct Parties {
    /// Sign the handover with this key, where it is another than --key: a file, or agent:SHA256:… (RSA and others too)
    #[arg(long, value_name = "FILE|agent:FINGERPRINT")]
    party_key: Option<String>,
    /// The OpenSSH certificate of that key (FILE-cert.pub), which says who signs and in what role
    #[arg(long, value_name = "CERT")]
    party_cert: Option<PathBuf>,
}

/// A party's key, opened.
pub(crate) struct OpenParty {
    key: Option<Kept>,
    certificate: Option<Certificate>,
}

enum Kept {
    Signer(Box<dyn Signer>),
    Agent(Box<AgentKey>),
}

impl Parties {
    /// Opens the key that is named, if one is.
    pub(crate) fn open(&self) -> Result<OpenParty, Failure> {
        let key = match self.party_key.as_deref().map(KeyPlace::parse) {
            None => None,
            Some(KeyPlace::Agent(fingerprint)) => {
                Some(Kept::Agent(Box::new(signing_key::agent_key(&fingerprint)?)))
            }
            Some(place) => Some(Kept::Signer(place.open()?)),
        };
        let certificate = self.party_cert.as_deref().map(read_certificate).transpose()?;
        Ok(OpenParty { key, certificate })
    }
}

impl OpenParty {
    /// The key that signs as the party: the one that was named, else the log's.
    pub(crate) fn as_party<'a>(&'a self, log_key: &'a dyn Signer) -> Result<PartyKey<'a>, Failure> {
        let party = match &self.key {
            None => PartyKey::of(log_key),
            Some(Kept::Signer(signer)) => PartyKey::of(&**signer),
            Some(Kept::Agent(key)) => PartyKey::of_agent(key),
        };
        Ok(match &self.certificate {
            Some(certificate) => party.certified(certificate.clone())?,
            None => party,
        })
    }
}

fn read_certificate(path: &Path) -> Result<Certificate, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("failed to read the certificate {path:?}: {error}")))?;
    Certificate::from_line(&text).map_err(|error| Failure::new(format!("{path:?}: {error}")))
}

/// The fingerprint that is given, or of the public key in the file that is named.
pub(crate) fn fingerprint(words: &str) -> Result<String, Failure> {
    if words.starts_with("SHA256:") {
        return Ok(words.to_owned());
    }
    if let Ok((_, key)) = VerifyingKey::from_vkey(words) {
        return Ok(key.fingerprint());
    }
    Ok(signing_key::public_in(Path::new(words))?.fingerprint())
}

/// What was verified before evidence changes hands.
pub(crate) struct Checked {
    pub(crate) intact: bool,
    pub(crate) verdict: String,
    pub(crate) items: Vec<Item>,
    read: &'static str,
    faults: u64,
    entries: u64,
    root: Option<String>,
}

impl Checked {
    /// What is recorded of it.
    pub(crate) fn facts(&self) -> Vec<(&'static str, Value)> {
        let mut facts = vec![
            ("verdict", self.verdict.as_str().into()),
            ("verified", self.read.into()),
            ("faults", self.faults.into()),
            ("entries", self.entries.into()),
        ];
        facts.extend(self.root.as_deref().map(|root| ("root", root.into())));
        for item in &self.items {
            // One exhibit is the rule; of a whole case the offer's own lines say it.
            if let (Some(manifest), 1) = (item.manifest, self.items.len()) {
                facts.push(("manifest_sha256", manifest.to_string().into()));
            }
        }
        facts
    }
}

/// Verifies what is to change hands: all of it, or its log and manifests alone.
pub(crate) fn check(target: &Target, quick: bool, session: &Session) -> Result<Checked, Failure> {
    let items = custody::handover::items_in(target.folder())?;
    if let (Target::Bundle { folder, .. }, Some(item)) = (target, items.first())
        && item.manifest.is_none()
    {
        return Err(Failure::new(format!(
            "the bundle {folder:?} is not sealed, so nobody could say what it holds"
        ))
        .hint("finish it with `exhibit acquire … --resume`, or hand over the whole case"));
    }
    let options = Options { identities: session.identities()?.clone(), ..Options::default() };
    let bars = Bars::waiting(session.ui, "verifying");
    let done = if quick {
        verify::verify_log(target.folder(), &options)?
    } else {
        verify::verify(target.folder(), &options)?
    };
    drop(bars);
    let read = match (quick, done.ciphertext_only, done.data_not_read) {
        (true, ..) => "the log alone",
        (false, true, true) => "everything but what is encrypted and what lies in an evidence store",
        (false, true, false) => "everything but what is encrypted",
        (false, false, true) => "everything but what lies in an evidence store",
        (false, false, false) => "everything",
    };
    for fault in done.faults.iter().take(20) {
        session.ui.warn(&fault.to_string());
    }
    Ok(Checked {
        intact: done.verdict.level > Level::Broken,
        verdict: done.verdict.level.word().to_owned(),
        items,
        read,
        faults: done.fault_count,
        entries: done.log.size,
        root: done.log.root.map(|root| root.to_string()),
    })
}
