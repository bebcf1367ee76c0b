//! Signatures of certificates and time-stamp tokens: RSA (PKCS #1 v1.5 and PSS) and ECDSA over P-256 and P-384.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::certificate::refuse;
use super::der::{Algorithm, OID, Reader, SEQUENCE, context};
use crate::error::{Error, Result};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];

/// A hash function that a token may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashKind {
    Sha256,
    Sha384,
    Sha512,
}

impl HashKind {
    /// The function that an AlgorithmIdentifier names; its parameters are NULL or left out.
    pub(super) fn of(algorithm: &Algorithm<'_>) -> Result<Self> {
        let plain = algorithm.parameters.is_none_or(|parameters| parameters.whole == [5, 0]);
        match algorithm.oid {
            SHA256 if plain => Ok(Self::Sha256),
            SHA384 if plain => Ok(Self::Sha384),
            SHA512 if plain => Ok(Self::Sha512),
            other => Err(refuse(format!("a hash function that is not accepted ({})", hex::encode(other)))),
        }
    }

    /// The hash of these bytes.
    pub(super) fn of_bytes(self, bytes: &[u8]) -> Vec<u8> {
        let function = match self {
            Self::Sha256 => &ring::digest::SHA256,
            Self::Sha384 => &ring::digest::SHA384,
            Self::Sha512 => &ring::digest::SHA512,
        };
        ring::digest::digest(function, bytes).as_ref().to_vec()
    }
}

/// The OID of SHA-256, for requests.
pub(super) const fn sha256_oid() -> &'static [u8] {
    SHA256
}

/// Verifies a signature under a SubjectPublicKeyInfo.
///
/// `digest` is the hash function that a CMS signer names beside its signature algorithm; the two must agree.
pub(super) fn verify(
    key: &[u8],
    algorithm: Algorithm<'_>,
    digest: Option<HashKind>,
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    let mut fields = Reader::only(key, SEQUENCE)?.inner();
    let kind = fields.algorithm()?;
    let bits = fields.bits()?;
    fields.end()?;
    let said = match algorithm.oid {
        RSA_SHA256 | ECDSA_SHA256 => Some(HashKind::Sha256),
        RSA_SHA384 | ECDSA_SHA384 => Some(HashKind::Sha384),
        RSA_SHA512 | ECDSA_SHA512 => Some(HashKind::Sha512),
        RSA_PSS => Some(pss_hash(&algorithm)?),
        // The bare key type: the hash function is the one beside it.
        RSA | EC => digest,
        _ => None,
    };
    let unknown =
        || refuse(format!("a signature algorithm that is not accepted ({})", hex::encode(algorithm.oid)));
    let hash = said.ok_or_else(unknown)?;
    if digest.is_some_and(|digest| digest != hash) {
        return Err(refuse("the hash functions of signature and signed text differ"));
    }
    let curve =
        kind.parameters.filter(|parameters| parameters.tag == OID).map(|parameters| parameters.content);
    let rsa = matches!(algorithm.oid, RSA | RSA_SHA256 | RSA_SHA384 | RSA_SHA512);
    let ecdsa = matches!(algorithm.oid, EC | ECDSA_SHA256 | ECDSA_SHA384 | ECDSA_SHA512);
    if let (EC, Some(curve), HashKind::Sha512, true) = (kind.oid, curve, hash, ecdsa) {
        return ecdsa_sha512(curve, bits, message, signature);
    }
    let chosen: &dyn VerificationAlgorithm = match (kind.oid, curve, hash) {
        (RSA, _, HashKind::Sha256) if rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        (RSA, _, HashKind::Sha384) if rsa => &signature::RSA_PKCS1_2048_8192_SHA384,
        (RSA, _, HashKind::Sha512) if rsa => &signature::RSA_PKCS1_2048_8192_SHA512,
        (RSA | RSA_PSS, _, HashKind::Sha256) if algorithm.oid == RSA_PSS => {
            &signature::RSA_PSS_2048_8192_SHA256
        }
        (RSA | RSA_PSS, _, HashKind::Sha384) if algorithm.oid == RSA_PSS => {
            &signature::RSA_PSS_2048_8192_SHA384
        }
        (RSA | RSA_PSS, _, HashKind::Sha512) if algorithm.oid == RSA_PSS => {
            &signature::RSA_PSS_2048_8192_SHA512
        }
        (EC, Some(P256), HashKind::Sha256) if ecdsa => &signature::ECDSA_P256_SHA256_ASN1,
        (EC, Some(P256), HashKind::Sha384) if ecdsa => &signature::ECDSA_P256_SHA384_ASN1,
        (EC, Some(P384), HashKind::Sha256) if ecdsa => &signature::ECDSA_P384_SHA256_ASN1,
        (EC, Some(P384), HashKind::Sha384) if ecdsa => &signature::ECDSA_P384_SHA384_ASN1,
        _ => {
            return Err(refuse(format!(
                "a key and signature algorithm that this version cannot check together ({}, {hash:?})",
                hex::encode(kind.oid)
            )));
        }
    };
    UnparsedPublicKey::new(chosen, bits)
        .verify(message, signature)
        .map_err(|_| refuse("the signature does not verify"))
}

/// ECDSA with SHA-512, of which both curves take the leftmost bits (FIPS 186-5, section 6.4.2); `ring` has no such pair.
fn ecdsa_sha512(curve: &[u8], key: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
    let hash = HashKind::Sha512.of_bytes(message);
    let holds = match curve {
        P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(key).is_ok_and(|key| {
            p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|made| key.verify_prehash(&hash, &made).is_ok())
        }),
        P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(key).is_ok_and(|key| {
            p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|made| key.verify_prehash(&hash, &made).is_ok())
        }),
        _ => return Err(refuse("a curve that this version does not know")),
    };
    if holds { Ok(()) } else { Err(refuse("the signature does not verify")) }
}

/// The hash function of RSASSA-PSS-params (RFC 4055), which must name it for the mask too, and a salt as long.
fn pss_hash(algorithm: &Algorithm<'_>) -> Result<HashKind> {
    let unfit = || refuse("RSA-PSS parameters that are not accepted");
    let parameters = algorithm.parameters.filter(|found| found.tag == SEQUENCE).ok_or_else(unfit)?;
    let mut fields = parameters.inner();
    let hash = fields.take(context(0))?.inner().algorithm()?;
    let mask = fields.take(context(1))?.inner().algorithm()?;
    let salt = fields.take(context(2))?.inner().small()?;
    // [3] is the trailer field, whose one value is the default.
    fields.take_if(context(3))?;
    fields.end()?;
    let kind = HashKind::of(&hash)?;
    let mask_hash = mask.parameters.filter(|_| mask.oid == MGF1).ok_or_else(unfit)?;
    let mask_hash = HashKind::of(&Reader::new(mask_hash.whole).algorithm()?)?;
    let length = kind.of_bytes(b"").len() as u64;
    if mask_hash != kind || salt != length { Err::<HashKind, Error>(unfit()) } else { Ok(kind) }
}
