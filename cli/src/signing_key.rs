//! Which key signs, and where it is kept: a file, an ssh-agent, or behind a command.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use custody::CommandSigner;
use custody::keys::{Signer, SigningKey, VerifyingKey};
use custody::ssh::{Agent, AgentKey, SshPublicKey};

use crate::args::Global;
use crate::failure::Failure;
use crate::session::{PASSPHRASE_VARIABLE, passphrase_from_environment};

/// How a key in an agent is named.
const AGENT: &str = "agent:";

/// Where the key is kept that signs.
#[derive(Debug, Clone)]
pub(crate) enum KeyPlace {
    /// In a file: PKCS#8 PEM, or as `ssh-keygen` writes it.
    File(PathBuf),
    /// In the running ssh-agent, under this fingerprint.
    Agent(String),
    /// Behind a command that signs with the private half of the public key in this file.
    Command { command: String, public: PathBuf },
}

impl KeyPlace {
    /// What the global options ask for.
    pub(crate) fn chosen(global: &Global) -> Result<Option<KeyPlace>, &'static str> {
        match (&global.key, &global.sign_cmd, &global.sign_key) {
            (None, Some(command), Some(public)) => {
                Ok(Some(KeyPlace::Command { command: command.clone(), public: public.clone() }))
            }
            (key, None, None) => Ok(key.as_deref().map(KeyPlace::parse)),
            (Some(_), _, _) => Err("--key and --sign-cmd both say who signs; give one of them"),
            (None, _, _) => {
                Err("--sign-cmd and --sign-key go together: the command, and the public key it signs with")
            }
        }
    }

    /// What the words of `--key` name.
    pub(crate) fn parse(words: &str) -> KeyPlace {
        match words.strip_prefix(AGENT) {
            Some(fingerprint) => KeyPlace::Agent(fingerprint.to_owned()),
            None => KeyPlace::File(PathBuf::from(words)),
        }
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            KeyPlace::File(path) => path.display().to_string(),
            KeyPlace::Agent(_) => "kept by the ssh-agent".to_owned(),
            KeyPlace::Command { command, .. } => format!("behind the command {command:?}"),
        }
    }

    /// The key, ready to sign.
    pub(crate) fn open(&self) -> Result<Box<dyn Signer>, Failure> {
        match self {
            KeyPlace::File(path) => Ok(Box::new(load(path)?)),
            KeyPlace::Agent(fingerprint) => Ok(Box::new(agent_key(fingerprint)?.signer()?)),
            KeyPlace::Command { command, public } => {
                Ok(Box::new(CommandSigner::new(command, ed25519_in(public)?)))
            }
        }
    }
}

/// The key of this fingerprint in the running ssh-agent.
pub(crate) fn agent_key(fingerprint: &str) -> Result<AgentKey, Failure> {
    let hint = "start one with `eval $(ssh-agent)` and add the key with `ssh-add FILE`";
    let Some(socket) = agent_socket() else {
        return Err(Failure::new("SSH_AUTH_SOCK names no ssh-agent").hint(hint));
    };
    Agent::at(&socket).key(fingerprint).map_err(|error| {
        Failure::new(error).hint("`ssh-add -l` lists the keys and their fingerprints").hint(hint)
    })
}

#[allow(clippy::disallowed_methods, reason = "cli is where settings enter")]
fn agent_socket() -> Option<PathBuf> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The public key in a file: PEM, or the line of a `.pub` file.
pub(crate) fn public_in(path: &Path) -> Result<SshPublicKey, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("failed to read the public key {path:?}: {error}")))?;
    let key = if text.trim_start().starts_with("-----BEGIN") {
        VerifyingKey::from_pem(&text).map(|key| key.to_ssh())
    } else {
        SshPublicKey::from_line(&text)
    };
    key.map_err(|error| Failure::new(format!("{path:?} holds no public key that can be used: {error}")))
}

fn ed25519_in(path: &Path) -> Result<VerifyingKey, Failure> {
    let key = public_in(path)?;
    key.ed25519().ok_or_else(|| {
        let kind = key.algorithm();
        Failure::usage(format!("{path:?} is of the kind {kind}, and only Ed25519 keys sign a custody log"))
    })
}

fn load(path: &Path) -> Result<SigningKey, Failure> {
    if !path.exists() {
        return Err(Failure::new(format!("there is no signing key at {path:?}"))
            .hint("make one with `exhibit key new`, or name another with --key FILE"));
    }
    let pem = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("failed to read the key {path:?}: {error}")))?;
    if !SigningKey::is_encrypted(&pem) {
        return SigningKey::load(path, None)
            .map_err(|error| Failure::new(format!("{path:?} holds no key that can sign: {error}")));
    }
    let passphrase = match passphrase_from_environment() {
        Some(passphrase) => passphrase,
        None if std::io::stdin().is_terminal() => {
            rpassword::prompt_password(format!("Passphrase of {}: ", path.display()))?
        }
        None => {
            return Err(Failure::new(format!("the key {path:?} needs a passphrase"))
                .hint(format!("set {PASSPHRASE_VARIABLE}, or run in a terminal")));
        }
    };
    SigningKey::load(path, Some(&passphrase))
        .map_err(|error| Failure::new(error).hint("is the passphrase right?"))
}
