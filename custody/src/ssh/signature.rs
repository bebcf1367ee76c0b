//! Signatures of files as `ssh-keygen -Y sign` makes them (OpenSSH PROTOCOL.sshsig).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};

#[cfg(unix)]
use super::agent::AgentKey;
use super::certificate::Certificate;
use super::public_key::SshPublicKey;
use super::wire::{Fields, put_string, strings};
use crate::error::{Error, Result};
use crate::keys::Signer;

const MAGIC: &[u8] = b"SSHSIG";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Letters a line, as `ssh-keygen` writes them.
const LINE: usize = 70;
/// Larger ones, with certificates of many names, are not read.
const MOST: usize = 32_768;

/// A signature of a file, with the key or certificate of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature {
    key: Vec<u8>,
    namespace: String,
    hash: Hash,
    signature: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// Who made a signature that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The key.
    pub key: SshPublicKey,
    /// The certificate, where it was signed with one; its authority's signature was verified.
    pub certificate: Option<Certificate>,
}

impl SshSignature {
    /// Signs a message in a namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when whoever keeps the key does not sign.
    pub fn sign(message: &[u8], namespace: &str, key: &PartyKey<'_>) -> Result<Self> {
        let hash = Hash::Sha512;
        let signature = key.sign(&said(message, namespace, hash))?;
        let blob = key.certificate.as_ref().map_or_else(|| key.public.blob(), Certificate::blob).to_vec();
        let made = Self { key: blob, namespace: namespace.to_owned(), hash, signature };
        made.verify(message, namespace)?;
        Ok(made)
    }

    /// Reads the text of a `.sig` file.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::malformed("SSH signature", why);
        if text.len() > MOST {
            return Err(bad("it is too large for one"));
        }
        let inner = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let base64: String =
            inner.ok_or_else(|| bad("it is not the text of a .sig file"))?.split_whitespace().collect();
        let bytes = STANDARD.decode(base64).map_err(|_| bad("its base64 is not canonical"))?;
        let mut fields = Fields::of("SSH signature", &bytes);
        if fields.take(MAGIC.len())? != MAGIC || fields.int32()? != 1 {
            return Err(bad("it is not of version 1"));
        }
        let key = fields.string()?.to_vec();
        let namespace = fields.text()?.to_owned();
        let reserved = fields.string()?;
        let hash = match fields.text()? {
            "sha256" => Hash::Sha256,
            "sha512" => Hash::Sha512,
            other => return Err(bad(&format!("its hash is {other:?}, not sha256 or sha512"))),
        };
        let signature = fields.string()?.to_vec();
        fields.end()?;
        if !reserved.is_empty() {
            return Err(bad("it uses a field that is reserved"));
        }
        Ok(Self { key, namespace, hash, signature })
    }

    /// The text of a `.sig` file, in the one spelling that `ssh-keygen` uses.
    pub fn to_text(&self) -> String {
        let mut bytes = [MAGIC, &1u32.to_be_bytes()].concat();
        bytes.extend(strings([
            self.key.as_slice(),
            self.namespace.as_bytes(),
            b"",
            self.hash.name().as_bytes(),
        ]));
        put_string(&mut bytes, &self.signature);
        let base64 = STANDARD.encode(bytes);
        let lines = base64.as_bytes().chunks(LINE).map(String::from_utf8_lossy);
        let mut text = format!("{BEGIN}\n");
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        text + END + "\n"
    }

    /// Who signed, whether the signature is good or not.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a key of a kind that is not verified here, [`Error::Signature`] for a certificate
    /// that its authority did not sign.
    pub fn signer(&self) -> Result<Signed> {
        if Certificate::is_one(&self.key) {
            let certificate = Certificate::from_blob(&self.key)?;
            return Ok(Signed { key: certificate.key.clone(), certificate: Some(certificate) });
        }
        Ok(Signed { key: SshPublicKey::from_blob(&self.key)?, certificate: None })
    }

    /// Makes sure that it is over exactly this message, in this namespace; gives who signed.
    ///
    /// Says nothing of whether that key or its authority is to be trusted, nor of the time.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`], and those of [`SshSignature::signer`].
    pub fn verify(&self, message: &[u8], namespace: &str) -> Result<Signed> {
        let signed = self.signer()?;
        if self.namespace != namespace {
            let why = format!("it is in the namespace {:?}, not {namespace:?}", self.namespace);
            return Err(Error::malformed("SSH signature", why));
        }
        signed.key.verify(&said(message, namespace, self.hash), &self.signature)?;
        Ok(signed)
    }
}

/// The bytes that the key signs.
fn said(message: &[u8], namespace: &str, hash: Hash) -> Vec<u8> {
    let fields = strings([namespace.as_bytes(), b"", hash.name().as_bytes(), &hash.of(message)]);
    [MAGIC, &fields].concat()
}

/// A key that a person signs a handover with, and the certificate that says whose it is.
pub struct PartyKey<'a> {
    public: SshPublicKey,
    certificate: Option<Certificate>,
    by: By<'a>,
}

enum By<'a> {
    Signer(&'a dyn Signer),
    #[cfg(unix)]
    Agent(&'a AgentKey),
}

impl<'a> PartyKey<'a> {
    /// An Ed25519 key.
    pub fn of(signer: &'a dyn Signer) -> Self {
        Self { public: signer.verifying_key().to_ssh(), certificate: None, by: By::Signer(signer) }
    }

    /// A key of any kind that an agent keeps; the agent's certificate for it is used, if it holds one.
    #[cfg(unix)]
    pub fn of_agent(key: &'a AgentKey) -> Self {
        Self { public: key.public().clone(), certificate: key.certificate().cloned(), by: By::Agent(key) }
    }

    /// Signs with this certificate.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when the certificate is for another key.
    pub fn certified(mut self, certificate: Certificate) -> Result<Self> {
        if certificate.key != self.public {
            let (theirs, ours) = (certificate.key.fingerprint(), self.public.fingerprint());
            return Err(Error::Key {
                why: format!("the certificate is for the key {theirs}, not for {ours}"),
            });
        }
        self.certificate = Some(certificate);
        Ok(self)
    }

    /// The public key.
    pub fn public(&self) -> &SshPublicKey {
        &self.public
    }

    /// The certificate.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match &self.by {
            By::Signer(signer) => {
                Ok(strings([self.public.algorithm().as_bytes(), signer.sign(message)?.as_slice()]))
            }
            #[cfg(unix)]
            By::Agent(key) => key.sign_blob(message),
        }
    }
}
