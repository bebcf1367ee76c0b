//! Ed25519 keys: PKCS#8 and SubjectPublicKeyInfo files that `openssl` reads, C2SP verifier keys, fingerprints.
//!
//! Private keys never lie in a case or bundle. A private key's file is created with mode 0600, and may be
//! encrypted with a passphrase (PBES2: PBKDF2-SHA256, AES-256-CBC, which every `openssl` since 1.1 reads).

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes,
};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2;
use zeroize::Zeroizing;

use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::ssh;

/// The C2SP signature type of Ed25519 in a signed note.
const NOTE_ED25519: u8 = 1;
/// The C2SP signature type of an Ed25519 cosignature with a time.
const NOTE_COSIGNATURE: u8 = 4;
/// What OWASP advises for PBKDF2-SHA256.
const PBKDF2_ROUNDS: u32 = 600_000;

/// Something that signs with Ed25519: a private key in memory, or one that an agent, token or service keeps.
pub trait Signer: Send + Sync {
    /// The public half of the key that signs.
    fn verifying_key(&self) -> VerifyingKey;

    /// Signs the exact bytes (Ed25519, RFC 8032; no pre-hash). What is given verifies under
    /// [`Signer::verifying_key`]; one who asks another program to sign makes sure of it.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when whoever keeps the key does not sign, or gives what does not verify.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]>;
}

/// A private Ed25519 key. Wiped from memory when dropped, and never shown by `Debug`.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] when the system gives none.
    pub fn generate() -> Result<Self> {
        Ok(Self::from_seed(&random()?))
    }

    /// The key of a 32-byte seed (RFC 8032's private key).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs the exact bytes (Ed25519, RFC 8032; no pre-hash).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The key as PKCS#8 PEM, encrypted when there is a passphrase.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] or [`Error::Key`].
    pub fn to_pem(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>> {
        // Without the public half, which is PKCS#8 version 1: OpenSSL before 3.5 refuses version 2.
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let document = pair.to_pkcs8_der().map_err(key_fault)?;
        let (label, document) = match passphrase {
            None => ("PRIVATE KEY", document),
            Some(passphrase) => {
                let (salt, iv) = (random::<16>()?, random::<16>()?);
                let scheme = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, &salt, iv)
                    .map_err(key_fault)?;
                let info = pkcs8::PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(key_fault)?;
                ("ENCRYPTED PRIVATE KEY", info.encrypt_with_params(scheme, passphrase).map_err(key_fault)?)
            }
        };
        document.to_pem(label, LineEnding::LF).map_err(key_fault)
    }

    /// Reads PKCS#8 PEM or a private key of OpenSSH, encrypted or not; the passphrase is not looked at when it is not needed.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when it is no Ed25519 key, or the passphrase is missing or wrong.
    pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<Self> {
        if ssh::is_openssh(pem) {
            return ssh::read_openssh(pem, passphrase).map(|seed| Self::from_seed(&seed));
        }
        if !Self::is_encrypted(pem) {
            return ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map(Self).map_err(key_fault);
        }
        let Some(passphrase) = passphrase else {
            return Err(Error::Key { why: "it is encrypted and no passphrase was given".to_owned() });
        };
        let (_, document) = pkcs8::SecretDocument::from_pem(pem).map_err(key_fault)?;
        let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(key_fault)?;
        let plain = info
            .decrypt(passphrase)
            .map_err(|_| Error::Key { why: "the passphrase does not open it".to_owned() })?;
        ed25519_dalek::SigningKey::from_pkcs8_der(plain.as_bytes()).map(Self).map_err(key_fault)
    }

    /// Whether this PEM needs a passphrase.
    pub fn is_encrypted(pem: &str) -> bool {
        pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || ssh::is_encrypted_openssh(pem)
    }

    /// Writes the key to a new file that only its owner can read (mode 0600).
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`], [`Error::Write`], or those of [`SigningKey::to_pem`].
    pub fn save(&self, path: &Path, passphrase: Option<&str>) -> Result<()> {
        let pem = self.to_pem(passphrase)?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let fault = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::WouldOverwrite { path: path.to_owned() },
            _ => Error::Write { path: path.to_owned(), source },
        };
        let mut file = options.open(path).map_err(fault)?;
        file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)
    }

    /// Reads a key's file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or those of [`SigningKey::from_pem`].
    pub fn load(path: &Path, passphrase: Option<&str>) -> Result<Self> {
        let pem = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_pem(&pem, passphrase)
    }
}

impl Signer for SigningKey {
    fn verifying_key(&self) -> VerifyingKey {
        Self::verifying_key(self)
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        Ok(Self::sign(self, message))
    }
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn verifying_key(&self) -> VerifyingKey {
        (**self).verifying_key()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        (**self).sign(message)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key().fingerprint())
    }
}

/// A public Ed25519 key. Never one of the weak points that would verify forged signatures.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// The key of these 32 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when they are no point of the curve, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        Self::checked(ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(key_fault)?)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Reads SubjectPublicKeyInfo PEM (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    ///
    /// [`Error::Key`] when it is no Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self> {
        Self::checked(ed25519_dalek::VerifyingKey::from_public_key_pem(pem).map_err(key_fault)?)
    }

    /// The key as SubjectPublicKeyInfo PEM; the last 32 bytes of its DER are the key.
    ///
    /// # Errors
    ///
    /// [`Error::Key`], which no key that was read or made here gives.
    pub fn to_pem(&self) -> Result<String> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(key_fault)
    }

    /// The key in the form of OpenSSH.
    pub fn to_ssh(&self) -> ssh::SshPublicKey {
        ssh::SshPublicKey::of_ed25519(*self)
    }

    /// `SHA256:` and the unpadded base64 of the SHA-256 of the SSH key blob, as `ssh-keygen -lf` prints.
    pub fn fingerprint(&self) -> String {
        self.to_ssh().fingerprint()
    }

    /// The key id in a signed note: the first 4 bytes of `SHA-256(name || LF || 0x01 || key)`.
    pub fn note_id(&self, name: &str) -> [u8; 4] {
        self.id_of_type(NOTE_ED25519, name)
    }

    /// The key id of its cosignatures: the same with `0x04` (C2SP tlog-cosignature).
    pub fn cosigner_id(&self, name: &str) -> [u8; 4] {
        self.id_of_type(NOTE_COSIGNATURE, name)
    }

    /// The key as a C2SP verifier key: `name+hex(note id)+base64(0x01 || key)`.
    pub fn to_vkey(&self, name: &str) -> String {
        self.vkey_of_type(NOTE_ED25519, name)
    }

    /// The key as the C2SP verifier key of a cosigner: `name+hex(cosigner id)+base64(0x04 || key)`.
    pub fn to_cosigner_vkey(&self, name: &str) -> String {
        self.vkey_of_type(NOTE_COSIGNATURE, name)
    }

    fn id_of_type(&self, kind: u8, name: &str) -> [u8; 4] {
        let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[kind], self.as_bytes()].concat()).0;
        [a, b, c, d]
    }

    fn vkey_of_type(&self, kind: u8, name: &str) -> String {
        let key = STANDARD.encode([&[kind], self.as_bytes().as_slice()].concat());
        format!("{name}+{}+{key}", hex::encode(self.id_of_type(kind, name)))
    }

    /// Reads a C2SP verifier key: its name and key.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is none, its id does not fit, or its base64 is not canonical;
    /// [`Error::Key`] when the key itself is none.
    pub fn from_vkey(vkey: &str) -> Result<(String, Self)> {
        Self::from_vkey_of_type(NOTE_ED25519, vkey)
    }

    /// Reads the C2SP verifier key of a cosigner: its name and key.
    ///
    /// # Errors
    ///
    /// As [`VerifyingKey::from_vkey`].
    pub fn from_cosigner_vkey(vkey: &str) -> Result<(String, Self)> {
        Self::from_vkey_of_type(NOTE_COSIGNATURE, vkey)
    }

    fn from_vkey_of_type(kind: u8, vkey: &str) -> Result<(String, Self)> {
        let bad = |why: &str| Error::malformed("verifier key", format!("{vkey:?}: {why}"));
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("not name+id+key"));
        };
        let bytes = STANDARD.decode(key).map_err(|_| bad("its key is not canonical base64"))?;
        let Some((_, key)) = bytes.split_first_chunk::<1>().filter(|([found], _)| *found == kind) else {
            return Err(bad(&format!("not of type {kind:#04x}, which is due here")));
        };
        let key = Self::from_bytes(key.try_into().map_err(|_| bad("its key is not 32 bytes"))?)?;
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad("its name is empty or holds a space"));
        }
        if key.vkey_of_type(kind, name) != vkey {
            return Err(bad(&format!("its id {id:?} does not fit")));
        }
        Ok((name.to_owned(), key))
    }

    /// Whether the signature is this key's over exactly these bytes (strict rules: no malleable encodings).
    ///
    /// # Errors
    ///
    /// [`Error::Signature`] when it is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        ed25519_dalek::Signature::from_slice(signature)
            .and_then(|signature| self.0.verify_strict(message, &signature))
            .map_err(|_| Error::Signature { fingerprint: self.fingerprint() })
    }

    fn checked(key: ed25519_dalek::VerifyingKey) -> Result<Self> {
        if key.is_weak() {
            return Err(Error::Key { why: "it is a weak point of the curve".to_owned() });
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.fingerprint())
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random { why: error.to_string() })?;
    Ok(bytes)
}

fn key_fault(error: impl fmt::Display) -> Error {
    Error::Key { why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32])
    }

    #[test]
    fn the_first_vector_of_rfc_8032_comes_out() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SigningKey::from_seed(seed.as_slice().try_into().unwrap());
        assert_eq!(
            hex::encode(key.verifying_key().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(
            hex::encode(key.sign(b"")),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        );
    }

    #[test]
    fn a_private_key_survives_its_file_with_and_without_a_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        for (name, passphrase) in [("plain", None), ("locked", Some("correct horse"))] {
            let path = folder.path().join(name);
            key().save(&path, passphrase).unwrap();
            let read = SigningKey::load(&path, passphrase).unwrap();
            assert_eq!(read.verifying_key(), key().verifying_key());
            assert!(matches!(key().save(&path, None), Err(Error::WouldOverwrite { .. })));
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        let locked = folder.path().join("locked");
        assert!(SigningKey::load(&locked, None).is_err());
        assert!(SigningKey::load(&locked, Some("wrong")).is_err());
    }

    #[test]
    fn the_fingerprint_is_the_one_ssh_prints() {
        // ssh-keygen -lf on "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + the RFC 8032 key.
        let bytes = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let key = VerifyingKey::from_bytes(bytes.as_slice().try_into().unwrap()).unwrap();
        assert_eq!(key.fingerprint(), "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8");
    }

    #[test]
    fn a_public_key_survives_pem_and_vkey() {
        let public = key().verifying_key();
        assert_eq!(VerifyingKey::from_pem(&public.to_pem().unwrap()).unwrap(), public);
        let vkey = public.to_vkey("example.org/log");
        assert_eq!(VerifyingKey::from_vkey(&vkey).unwrap(), ("example.org/log".to_owned(), public));
        for bad in [vkey.replace("log", "lo"), format!("{vkey} "), vkey.replace('+', "-"), format!("+{vkey}")]
        {
            assert!(VerifyingKey::from_vkey(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_changed_message_signature_or_key_does_not_verify() {
        let signature = key().sign(b"message");
        let public = key().verifying_key();
        public.verify(b"message", &signature).unwrap();
        assert!(public.verify(b"messagf", &signature).is_err());
        assert!(public.verify(b"message", &signature[..63]).is_err());
        for i in 0..64 {
            let mut changed = signature;
            changed[i] ^= 1;
            assert!(public.verify(b"message", &changed).is_err());
        }
        assert!(SigningKey::generate().unwrap().verifying_key().verify(b"message", &signature).is_err());
    }

    #[test]
    fn weak_points_are_no_keys() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(VerifyingKey::from_bytes(&identity).is_err());
    }
}
