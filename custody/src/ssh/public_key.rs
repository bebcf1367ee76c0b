//! Public keys as OpenSSH writes them, and signatures by them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use super::wire::{Fields, strings};
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;

const ED25519: &str = "ssh-ed25519";
const RSA: &str = "ssh-rsa";
const P256: &str = "ecdsa-sha2-nistp256";
const P384: &str = "ecdsa-sha2-nistp384";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
const SK_P256: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

/// A FIDO key says in its signature that it was touched.
const TOUCHED: u8 = 1;

/// A public key of OpenSSH, of a kind that can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPublicKey {
    blob: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Ed25519(VerifyingKey),
    Rsa {
        e: Vec<u8>,
        n: Vec<u8>,
    },
    /// An uncompressed point of P-256 or P-384.
    Ecdsa {
        curve: Curve,
        point: Vec<u8>,
    },
    SkEd25519 {
        key: VerifyingKey,
        application: Vec<u8>,
    },
    SkP256 {
        point: Vec<u8>,
        application: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
        }
    }

    /// Bytes of one coordinate.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

impl SshPublicKey {
    /// Reads a key's blob.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is none, or of a kind that is not verified here; [`Error::Key`].
    pub fn from_blob(blob: &[u8]) -> Result<Self> {
        let mut fields = Fields::of("SSH public key", blob);
        let algorithm = fields.text()?;
        let key = Self::of_fields(algorithm, &mut fields)?;
        fields.end()?;
        Ok(key)
    }

    pub(crate) fn of_ed25519(key: VerifyingKey) -> Self {
        Self { blob: strings([ED25519.as_bytes(), key.as_bytes()]), kind: Kind::Ed25519(key) }
    }

    /// Reads the fields of a key of this kind, which a certificate holds too.
    pub(super) fn of_fields(algorithm: &str, fields: &mut Fields<'_>) -> Result<Self> {
        let bad = |why: &str| Error::malformed("SSH public key", why);
        let ed25519 = |bytes: &[u8]| {
            VerifyingKey::from_bytes(bytes.try_into().map_err(|_| bad("its key is not 32 bytes"))?)
        };
        let point = |curve: Curve, fields: &mut Fields<'_>| {
            if fields.string()? != curve.name().as_bytes() {
                return Err(bad("its curve is another than its kind says"));
            }
            let point = fields.string()?;
            if point.first() != Some(&4) || point.len() != curve.size() * 2 + 1 {
                return Err(bad("its point is not in the uncompressed form"));
            }
            Ok(point.to_vec())
        };
        let kind = match algorithm {
            ED25519 => Kind::Ed25519(ed25519(fields.string()?)?),
            RSA => Kind::Rsa { e: fields.positive()?.to_vec(), n: fields.positive()?.to_vec() },
            P256 => Kind::Ecdsa { curve: Curve::P256, point: point(Curve::P256, fields)? },
            P384 => Kind::Ecdsa { curve: Curve::P384, point: point(Curve::P384, fields)? },
            SK_ED25519 => {
                Kind::SkEd25519 { key: ed25519(fields.string()?)?, application: fields.string()?.to_vec() }
            }
            SK_P256 => {
                Kind::SkP256 { point: point(Curve::P256, fields)?, application: fields.string()?.to_vec() }
            }
            other => return Err(bad(&format!("keys of the kind {other:?} are not verified here"))),
        };
        let blob = match &kind {
            Kind::Ed25519(key) => strings([algorithm.as_bytes(), key.as_bytes()]),
            Kind::Rsa { e, n } => strings([algorithm.as_bytes(), &number(e), &number(n)]),
            Kind::Ecdsa { curve, point } => strings([algorithm.as_bytes(), curve.name().as_bytes(), point]),
            Kind::SkEd25519 { key, application } => {
                strings([algorithm.as_bytes(), key.as_bytes(), application])
            }
            Kind::SkP256 { point, application } => {
                strings([algorithm.as_bytes(), Curve::P256.name().as_bytes(), point, application])
            }
        };
        Ok(Self { blob, kind })
    }

    /// Reads the line of a `.pub` file: `ssh-ed25519 AAAA… comment`.
    ///
    /// # Errors
    ///
    /// As [`SshPublicKey::from_blob`].
    pub fn from_line(line: &str) -> Result<Self> {
        let bad = || Error::malformed("SSH public key", "not the line of a .pub file");
        let mut words = line.split_whitespace();
        let (algorithm, base64) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
        let key = Self::from_blob(&STANDARD.decode(base64).map_err(|_| bad())?)?;
        if key.algorithm() == algorithm { Ok(key) } else { Err(bad()) }
    }

    /// The key as a line of a `.pub` file, without a comment.
    pub fn to_line(&self) -> String {
        format!("{} {}", self.algorithm(), STANDARD.encode(&self.blob))
    }

    /// The kind of key, as OpenSSH calls it.
    pub fn algorithm(&self) -> &'static str {
        match &self.kind {
            Kind::Ed25519(_) => ED25519,
            Kind::Rsa { .. } => RSA,
            Kind::Ecdsa { curve: Curve::P256, .. } => P256,
            Kind::Ecdsa { curve: Curve::P384, .. } => P384,
            Kind::SkEd25519 { .. } => SK_ED25519,
            Kind::SkP256 { .. } => SK_P256,
        }
    }

    /// The key's blob.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:` and the unpadded base64 of the blob's SHA-256, as `ssh-keygen -lf` prints.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(&self.blob).0))
    }

    /// The key, where it is a plain Ed25519 key, which may sign a custody log too.
    pub fn ed25519(&self) -> Option<VerifyingKey> {
        match &self.kind {
            Kind::Ed25519(key) => Some(*key),
            _ => None,
        }
    }

    /// Whether `signature`, a signature blob of OpenSSH, is this key's over exactly these bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`] when it is not, or is of a kind that is not taken (SHA-1, an untouched FIDO key).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        let bad = || Error::Signature { fingerprint: self.fingerprint() };
        self.verified(message, signature).ok().filter(|good| *good).map(|_| ()).ok_or_else(bad)
    }

    fn verified(&self, message: &[u8], signature: &[u8]) -> Result<bool> {
        let mut fields = Fields::of("SSH signature", signature);
        let algorithm = fields.text()?;
        let bytes = fields.string()?;
        let good = match &self.kind {
            Kind::Ed25519(key) => algorithm == ED25519 && key.verify(message, bytes).is_ok(),
            Kind::Ecdsa { curve, point } => {
                algorithm == self.algorithm() && ecdsa(*curve, point, message, bytes)?
            }
            Kind::Rsa { e, n } => {
                let with = match algorithm {
                    "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                    "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return Ok(false),
                };
                let Some(missing) = n.len().checked_sub(bytes.len()) else { return Ok(false) };
                let padded = [vec![0; missing].as_slice(), bytes].concat();
                RsaPublicKeyComponents { n, e }.verify(with, message, &padded).is_ok()
            }
            Kind::SkEd25519 { key, application } => {
                let said = by_token(application, message, &mut fields)?;
                algorithm == SK_ED25519 && key.verify(&said, bytes).is_ok()
            }
            Kind::SkP256 { point, application } => {
                let said = by_token(application, message, &mut fields)?;
                algorithm == SK_P256 && ecdsa(Curve::P256, point, &said, bytes)?
            }
        };
        fields.end()?;
        Ok(good)
    }
}

/// What a FIDO token signs (OpenSSH PROTOCOL.u2f): application, flags, counter and message.
fn by_token(application: &[u8], message: &[u8], fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    let flags = fields.byte()?;
    let counter = fields.int32()?;
    if flags & TOUCHED == 0 {
        return Err(Error::malformed("SSH signature", "the token was not touched"));
    }
    let (application, message) = (sha256(application).0, sha256(message).0);
    Ok([&application, [flags].as_slice(), &counter.to_be_bytes(), &message].concat())
}

fn ecdsa(curve: Curve, point: &[u8], message: &[u8], signature: &[u8]) -> Result<bool> {
    let mut fields = Fields::of("ECDSA signature", signature);
    let mut fixed = Vec::with_capacity(curve.size() * 2);
    for _ in 0..2 {
        let number = fields.positive()?;
        let Some(missing) = curve.size().checked_sub(number.len()) else { return Ok(false) };
        fixed.resize(fixed.len() + missing, 0);
        fixed.extend(number);
    }
    fields.end()?;
    let with: &dyn VerificationAlgorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED,
    };
    Ok(UnparsedPublicKey::new(with, point).verify(message, &fixed).is_ok())
}

/// A number with the leading zero that keeps it positive.
fn number(bytes: &[u8]) -> Vec<u8> {
    let sign = bytes.first().filter(|byte| **byte >= 0x80).map(|_| 0);
    sign.into_iter().chain(bytes.iter().copied()).collect()
}
