//! The inside of a time-stamp token: CMS SignedData (RFC 5652) with one signer, around a TSTInfo (RFC 3161).
//!
//! Each part is the bytes that stand there; nothing is verified here.

use super::certificate::{Certificate, MOST_CERTIFICATES, refuse};
use super::der::{self, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET, Time, bad, context};
use super::public_key::HashKind;
use crate::error::Result;

pub(super) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// id-ct-TSTInfo.
pub(super) const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SIGNING_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
const SIGNING_CERTIFICATE_V2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];

/// PKIStatusInfo: granted, or granted with changes.
pub(super) fn granted(mut fields: Reader<'_>) -> Result<()> {
    let status = fields.small()?;
    if status <= 1 {
        return Ok(());
    }
    let mut words = Vec::new();
    if let Some(texts) = fields.take_if(SEQUENCE)? {
        let mut texts = texts.inner();
        while !texts.is_empty() && words.len() < 4 {
            let text: String = String::from_utf8_lossy(texts.any()?.content).chars().take(200).collect();
            words.push(text);
        }
    }
    Err(refuse(format!("the authority refused (status {status}): {}", words.join("; "))))
}

/// The parts of a token, each as the bytes that stand there.
pub(super) struct Parts<'a> {
    /// The TSTInfo.
    pub(super) info: &'a [u8],
    pub(super) certificates: Vec<Certificate<'a>>,
    pub(super) signer: Signer<'a>,
}

impl<'a> Parts<'a> {
    /// ContentInfo and SignedData (RFC 5652), with one signer, as RFC 3161 demands.
    pub(super) fn of(token: &'a [u8]) -> Result<Self> {
        let mut outer = Reader::only(token, SEQUENCE)?.inner();
        if outer.take(OID)?.content != SIGNED_DATA {
            return Err(refuse("not signed data"));
        }
        let data = outer.take(context(0))?;
        outer.end()?;
        let mut fields = Reader::only(data.content, SEQUENCE)?.inner();
        fields.small()?;
        fields.take(SET)?;
        let mut content = fields.take(SEQUENCE)?.inner();
        if content.take(OID)?.content != TST_INFO {
            return Err(refuse("signed data that is no time stamp"));
        }
        let info = Reader::only(content.take(context(0))?.content, OCTET_STRING)?.content;
        content.end()?;
        let mut certificates = Vec::new();
        if let Some(set) = fields.take_if(context(0))? {
            let mut set = set.inner();
            while !set.is_empty() {
                let element = set.any()?;
                // Other forms than X.509 have a context tag.
                if element.tag == SEQUENCE {
                    certificates.push(Certificate::parse(element.whole)?);
                }
                if certificates.len() > MOST_CERTIFICATES {
                    return Err(refuse("more than 64 certificates"));
                }
            }
        }
        fields.take_if(context(1))?;
        let mut signers = fields.take(SET)?.inner();
        fields.end()?;
        let signer = Signer::parse(signers.take(SEQUENCE)?.inner())?;
        signers.end().map_err(|_| refuse("more than one signer"))?;
        Ok(Self { info, certificates, signer })
    }
}

/// SignerInfo.
pub(super) struct Signer<'a> {
    pub(super) id: SignerId<'a>,
    pub(super) hash: HashKind,
    /// The signed attributes with their `[0]`.
    pub(super) signed: &'a [u8],
    pub(super) algorithm: der::Algorithm<'a>,
    pub(super) signature: &'a [u8],
}

pub(super) enum SignerId<'a> {
    Serial { issuer: &'a [u8], serial: &'a [u8] },
    Key(&'a [u8]),
}

impl SignerId<'_> {
    pub(super) fn is(&self, certificate: &Certificate<'_>) -> bool {
        match self {
            Self::Serial { issuer, serial } => certificate.issuer == *issuer && certificate.serial == *serial,
            Self::Key(id) => certificate.key_identifier() == Some(*id),
        }
    }
}

impl<'a> Signer<'a> {
    pub(super) fn parse(mut fields: Reader<'a>) -> Result<Self> {
        fields.small()?;
        let id = if let Some(key) = fields.take_if(der::context_plain(0))? {
            SignerId::Key(key.content)
        } else {
            let mut pair = fields.take(SEQUENCE)?.inner();
            let id = SignerId::Serial { issuer: pair.take(SEQUENCE)?.whole, serial: pair.integer()? };
            pair.end()?;
            id
        };
        let hash = HashKind::of(&fields.algorithm()?)?;
        let signed = fields.take(context(0))?.whole;
        let algorithm = fields.algorithm()?;
        let signature = fields.take(OCTET_STRING)?.content;
        fields.take_if(context(1))?;
        fields.end()?;
        Ok(Self { id, hash, signed, algorithm, signature })
    }

    pub(super) fn attributes(&self) -> Result<Attributes<'a>> {
        let mut list = Reader::new(self.signed).any()?.inner();
        let (mut content_type, mut message_digest) = (None, None);
        let (mut first, mut second) = (None, None);
        while !list.is_empty() {
            let mut attribute = list.take(SEQUENCE)?.inner();
            let id = attribute.take(OID)?.content;
            let mut values = attribute.take(SET)?.inner();
            attribute.end()?;
            let place = match id {
                CONTENT_TYPE => &mut content_type,
                MESSAGE_DIGEST => &mut message_digest,
                SIGNING_CERTIFICATE => &mut first,
                SIGNING_CERTIFICATE_V2 => &mut second,
                _ => continue,
            };
            let value = values.any()?;
            values.end()?;
            if place.replace(value).is_some() {
                return Err(refuse("a signed attribute that is there twice"));
            }
        }
        let due = |what: &str| refuse(format!("no {what} among the signed attributes"));
        Ok(Attributes {
            content_type: Reader::only(content_type.ok_or_else(|| due("content type"))?.whole, OID)?.content,
            message_digest: Reader::only(
                message_digest.ok_or_else(|| due("message digest"))?.whole,
                OCTET_STRING,
            )?
            .content,
            first: first.map(|found| found.whole),
            second: second.map(|found| found.whole),
        })
    }
}

/// The signed attributes that matter.
pub(super) struct Attributes<'a> {
    pub(super) content_type: &'a [u8],
    pub(super) message_digest: &'a [u8],
    /// SigningCertificate: SHA-1 (RFC 2634).
    pub(super) first: Option<&'a [u8]>,
    /// SigningCertificateV2 (RFC 5035).
    pub(super) second: Option<&'a [u8]>,
}

impl Attributes<'_> {
    /// Whether the token is bound to exactly this certificate; each binding that is there must hold.
    pub(super) fn binds(&self, certificate: &Certificate<'_>) -> Result<()> {
        if self.first.is_none() && self.second.is_none() {
            return Err(refuse("it is not bound to the certificate that signed it"));
        }
        for (value, newer) in [(self.first, false), (self.second, true)] {
            let Some(value) = value else { continue };
            // The first identifier is the signer's; more may follow, for its issuers.
            let mut ids = Reader::only(value, SEQUENCE)?.inner().take(SEQUENCE)?.inner();
            let mut id = ids.take(SEQUENCE)?.inner();
            let expected = if !newer {
                let legacy = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
                ring::digest::digest(legacy, certificate.whole).as_ref().to_vec()
            } else if id.peek() == Some(SEQUENCE) {
                HashKind::of(&id.algorithm()?)?.of_bytes(certificate.whole)
            } else {
                HashKind::Sha256.of_bytes(certificate.whole)
            };
            if id.take(OCTET_STRING)?.content != expected {
                return Err(refuse("it is bound to another certificate"));
            }
            if let Some(issuer) = id.take_if(SEQUENCE)? {
                let mut pair = issuer.inner();
                let names = pair.take(SEQUENCE)?;
                // GeneralNames with one directoryName.
                let fits = Reader::only(names.content, context(4))
                    .is_ok_and(|name| name.content == certificate.issuer);
                if !fits || pair.integer()? != certificate.serial {
                    return Err(refuse("it is bound to a certificate of another issuer or number"));
                }
            }
            id.end()?;
        }
        Ok(())
    }
}

/// TSTInfo.
pub(super) struct Info<'a> {
    pub(super) policy: &'a [u8],
    pub(super) hash: HashKind,
    pub(super) imprint: &'a [u8],
    pub(super) serial: &'a [u8],
    pub(super) time: Time,
    pub(super) accuracy_us: Option<u64>,
    pub(super) nonce: Option<&'a [u8]>,
}

impl<'a> Info<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut fields = Reader::only(bytes, SEQUENCE)?.inner();
        if fields.small()? != 1 {
            return Err(refuse("of another version than 1"));
        }
        let policy = fields.take(OID)?.content;
        let mut imprint = fields.take(SEQUENCE)?.inner();
        let hash = HashKind::of(&imprint.algorithm()?)?;
        let hashed = imprint.take(OCTET_STRING)?.content;
        imprint.end()?;
        let serial = fields.integer()?;
        if fields.peek() != Some(der::GENERALIZED_TIME) {
            return Err(bad("no time where one is due"));
        }
        let time = fields.time()?;
        let accuracy_us = fields.take_if(SEQUENCE)?.map(|found| accuracy(found.inner())).transpose()?;
        fields.take_if(der::BOOLEAN)?;
        let nonce = if fields.peek() == Some(INTEGER) { Some(fields.integer()?) } else { None };
        fields.take_if(context(0))?;
        if let Some(extensions) = fields.take_if(context(1))? {
            let mut list = extensions.inner();
            while !list.is_empty() {
                let mut extension = list.take(SEQUENCE)?.inner();
                extension.take(OID)?;
                if extension.take_if(der::BOOLEAN)?.is_some() {
                    return Err(refuse("a critical extension that this version does not know"));
                }
            }
        }
        fields.end()?;
        Ok(Self { policy, hash, imprint: hashed, serial, time, accuracy_us, nonce })
    }
}

fn accuracy(mut fields: Reader<'_>) -> Result<u64> {
    let whole = if fields.peek() == Some(INTEGER) { fields.small()? } else { 0 };
    let mut part = |number| -> Result<u64> {
        match fields.take_if(der::context_plain(number))? {
            None => Ok(0),
            Some(found) => der::small_of(found.content).map(|value| value.min(999)),
        }
    };
    let (millis, micros) = (part(0)?, part(1)?);
    fields.end()?;
    Ok(whole.saturating_mul(1_000_000).saturating_add(millis * 1000 + micros))
}
