//! A running ssh-agent that keeps the private key (draft-ietf-sshm-ssh-agent). Reached by its Unix socket alone.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::certificate::Certificate;
use super::public_key::SshPublicKey;
use super::wire::{Fields, put_string};
use crate::error::{Error, Result};
use crate::keys::{Signer, VerifyingKey};

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// RSA keys sign with SHA-512, not SHA-1.
const RSA_SHA2_512: u32 = 4;
/// Larger answers no agent gives (OpenSSH's own limit).
const MOST_ANSWER: u32 = 256 << 10;
const MOST_IDENTITIES: u32 = 2048;
/// A person may have to touch a token or say yes.
const PATIENCE: Duration = Duration::from_secs(180);

/// An agent.
#[derive(Debug, Clone)]
pub struct Agent {
    socket: PathBuf,
}

/// A key that an agent says it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The key's fingerprint; a certificate has that of its key.
    pub fingerprint: String,
    /// What the agent calls it.
    pub comment: String,
    /// Whether it is a certificate.
    pub certificate: bool,
    blob: Vec<u8>,
}

/// A key that an agent keeps, chosen by its fingerprint.
#[derive(Debug, Clone)]
pub struct AgentKey {
    agent: Agent,
    public: SshPublicKey,
    certificate: Option<Certificate>,
    /// What the agent is asked to sign with.
    blob: Vec<u8>,
}

impl Agent {
    /// The agent behind this socket; nothing is asked of it yet.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The keys it keeps, of the kinds that can be verified here.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when no agent answers there.
    pub fn identities(&self) -> Result<Vec<AgentIdentity>> {
        let answer = self.ask(&[REQUEST_IDENTITIES], IDENTITIES_ANSWER)?;
        let mut fields = Fields::of("answer of the ssh-agent", &answer);
        let mut found = Vec::new();
        for _ in 0..fields.int32()?.min(MOST_IDENTITIES) {
            let (blob, comment) = (fields.string()?, String::from_utf8_lossy(fields.string()?).into_owned());
            let certificate = Certificate::is_one(blob);
            let key = if certificate {
                Certificate::from_blob(blob).map(|certificate| certificate.key)
            } else {
                SshPublicKey::from_blob(blob)
            };
            if let Ok(key) = key {
                let fingerprint = key.fingerprint();
                found.push(AgentIdentity { fingerprint, comment, certificate, blob: blob.to_vec() });
            }
        }
        Ok(found)
    }

    /// The key of this fingerprint, with its certificate where the agent holds one.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when no agent answers, or it has no such key; then the words list those that it has.
    pub fn key(&self, fingerprint: &str) -> Result<AgentKey> {
        let all = self.identities()?;
        let is_it = |identity: &&AgentIdentity| identity.fingerprint == fingerprint;
        let certificate = all.iter().filter(is_it).find(|identity| identity.certificate);
        let plain = all.iter().filter(is_it).find(|identity| !identity.certificate);
        let Some(found) = plain.or(certificate) else {
            let known: Vec<_> = all.iter().map(|identity| identity.fingerprint.as_str()).collect();
            let known = if known.is_empty() { "no key".to_owned() } else { known.join(", ") };
            return Err(Error::Key {
                why: format!("the ssh-agent has no key {fingerprint}; it has {known}"),
            });
        };
        let certificate = certificate.and_then(|identity| Certificate::from_blob(&identity.blob).ok());
        let public = match &certificate {
            Some(certificate) => certificate.key.clone(),
            None => SshPublicKey::from_blob(&found.blob)?,
        };
        Ok(AgentKey { agent: self.clone(), public, certificate, blob: found.blob.clone() })
    }

    /// Sends one request and reads its answer, without the type byte.
    fn ask(&self, request: &[u8], expected: u8) -> Result<Vec<u8>> {
        let fault = |error: std::io::Error| Error::Key {
            why: format!("no ssh-agent answers at {:?}: {error}", self.socket),
        };
        let mut stream = UnixStream::connect(&self.socket).map_err(fault)?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(fault)?;
        let mut message = Vec::new();
        put_string(&mut message, request);
        stream.write_all(&message).map_err(fault)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(fault)?;
        let length = u32::from_be_bytes(length);
        if length == 0 || length > MOST_ANSWER {
            return Err(Error::malformed(
                "answer of the ssh-agent",
                format!("it would be {length} bytes long"),
            ));
        }
        let mut answer = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut answer).map_err(fault)?;
        match answer.split_first() {
            Some((kind, rest)) if *kind == expected => Ok(rest.to_vec()),
            _ => Err(Error::Key { why: "the ssh-agent refused".to_owned() }),
        }
    }
}

impl AgentKey {
    /// The public key.
    pub fn public(&self) -> &SshPublicKey {
        &self.public
    }

    /// The certificate that the agent holds for it.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Has the agent sign; gives the signature blob, verified.
    pub(super) fn sign_blob(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, &self.blob);
        put_string(&mut request, message);
        request.extend(RSA_SHA2_512.to_be_bytes());
        let answer = self.agent.ask(&request, SIGN_RESPONSE)?;
        let mut fields = Fields::of("answer of the ssh-agent", &answer);
        let signature = fields.string()?.to_vec();
        fields.end()?;
        self.public.verify(message, &signature)?;
        Ok(signature)
    }

    /// The key as a signer of logs.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when it is no plain Ed25519 key: others give no raw Ed25519 signature.
    pub fn signer(self) -> Result<impl Signer + 'static> {
        match self.public.ed25519() {
            Some(key) => Ok(AgentSigner { at: self, key }),
            None => Err(Error::Key {
                why: format!(
                    "{} is of the kind {}, and only ssh-ed25519 keys sign a custody log",
                    self.public.fingerprint(),
                    self.public.algorithm()
                ),
            }),
        }
    }
}

struct AgentSigner {
    at: AgentKey,
    key: VerifyingKey,
}

impl Signer for AgentSigner {
    fn verifying_key(&self) -> VerifyingKey {
        self.key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let blob = self.at.sign_blob(message)?;
        let mut fields = Fields::of("answer of the ssh-agent", &blob);
        fields.string()?;
        let signature = fields.string()?;
        fields.end()?;
        // The log's own rules are stricter than the agent's.
        self.key.verify(message, signature)?;
        signature.try_into().map_err(|_| Error::malformed("answer of the ssh-agent", "not 64 bytes"))
    }
}
