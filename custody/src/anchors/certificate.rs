//! X.509 certificates (RFC 5280), as far as the chain of a time-stamp authority needs them.
//!
//! A chain is checked at a given time: signatures, names, validity windows, who may issue, how deep. A critical
//! extension that is not understood makes the certificate unfit. Revocation lists are not read.

use super::der::{
    self, Algorithm, BOOLEAN, Element, OCTET_STRING, OID, Reader, SEQUENCE, Time, bad, context,
};
use super::public_key;
use crate::error::{Error, Result};

/// Larger certificates are none.
const MOST_CERTIFICATE: usize = 64 << 10;
/// More certificates of one party are not looked at.
pub(super) const MOST_CERTIFICATES: usize = 64;
/// More certificates of a PEM text are not read.
const MOST_IN_PEM: usize = 1000;
/// A chain is not longer.
const DEEPEST: usize = 8;
/// Signatures that are tried to find a chain.
const MOST_TRIES: usize = 128;

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 0x20];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
/// id-kp-timeStamping.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// A certificate that was read; nothing is verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    pub(super) whole: &'a [u8],
    signed: &'a [u8],
    algorithm: Algorithm<'a>,
    signature: &'a [u8],
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) not_before: Time,
    pub(super) not_after: Time,
    /// The whole SubjectPublicKeyInfo.
    pub(super) key: &'a [u8],
    extensions: Option<Element<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads one certificate.
    pub(super) fn parse(whole: &'a [u8]) -> Result<Self> {
        if whole.len() > MOST_CERTIFICATE {
            return Err(bad("a certificate of more than 64 KiB"));
        }
        let mut outer = Reader::only(whole, SEQUENCE)?.inner();
        let signed = outer.take(SEQUENCE)?;
        let algorithm = outer.algorithm()?;
        let signature = outer.bits()?;
        outer.end()?;
        let mut inner = signed.inner();
        inner.take_if(context(0))?;
        let serial = inner.integer()?;
        if inner.algorithm()? != algorithm {
            return Err(bad("a certificate that names two signature algorithms"));
        }
        let issuer = inner.take(SEQUENCE)?.whole;
        let mut validity = inner.take(SEQUENCE)?.inner();
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.end()?;
        let subject = inner.take(SEQUENCE)?.whole;
        let key = inner.take(SEQUENCE)?.whole;
        inner.take_if(der::context_plain(1))?;
        inner.take_if(der::context_plain(2))?;
        let extensions = inner.take_if(context(3))?;
        inner.end()?;
        let extensions = extensions.map(|tagged| Reader::only(tagged.content, SEQUENCE)).transpose()?;
        let certificate = Self {
            whole,
            signed: signed.whole,
            algorithm,
            signature,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            extensions,
        };
        certificate.extensions()?;
        Ok(certificate)
    }

    fn extensions(&self) -> Result<Vec<Extension<'a>>> {
        let mut found: Vec<Extension<'a>> = Vec::new();
        let Some(list) = self.extensions else { return Ok(found) };
        let mut list = list.inner();
        while !list.is_empty() {
            let mut fields = list.take(SEQUENCE)?.inner();
            let id = fields.take(OID)?.content;
            let critical = match fields.take_if(BOOLEAN)? {
                None => false,
                Some(flag) if flag.content == [0xff] => true,
                Some(_) => return Err(bad("a critical flag that is neither left out nor true")),
            };
            let value = fields.take(OCTET_STRING)?.content;
            fields.end()?;
            if found.iter().any(|extension| extension.id == id) {
                return Err(bad("an extension that is there twice"));
            }
            found.push(Extension { id, critical, value });
        }
        Ok(found)
    }

    fn extension(&self, id: &[u8]) -> Result<Option<Extension<'a>>> {
        Ok(self.extensions()?.into_iter().find(|extension| extension.id == id))
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// The bytes of its subject key identifier.
    pub(super) fn key_identifier(&self) -> Option<&'a [u8]> {
        let found = self.extension(SUBJECT_KEY_IDENTIFIER).ok()??;
        Reader::only(found.value, OCTET_STRING).ok().map(|element| element.content)
    }

    /// A name to call it by: its common name, or organisation.
    pub(super) fn name(&self) -> String {
        let part = |id| name_part(self.subject, id);
        part(COMMON_NAME)
            .or_else(|| part(ORGANIZATION))
            .unwrap_or_else(|| "a party without a name".to_owned())
    }

    fn is_valid_at(&self, time: Time) -> Result<()> {
        let words = |end: &str, when: Time| {
            refuse(format!("the certificate of {:?} {end} {}", self.name(), when.rfc3339()))
        };
        // A window ends with the whole of its last second.
        if time.seconds < self.not_before.seconds {
            return Err(words("begins only at", self.not_before));
        }
        if time.seconds > self.not_after.seconds {
            return Err(words("had ended at", self.not_after));
        }
        Ok(())
    }

    /// Whether nothing critical in it is beyond us.
    fn is_understood(&self) -> Result<()> {
        let known = [
            BASIC_CONSTRAINTS,
            KEY_USAGE,
            EXTENDED_KEY_USAGE,
            CERTIFICATE_POLICIES,
            SUBJECT_ALTERNATIVE_NAME,
            SUBJECT_KEY_IDENTIFIER,
        ];
        match self.extensions()?.iter().find(|extension| extension.critical && !known.contains(&extension.id))
        {
            Some(extension) => Err(refuse(format!(
                "the certificate of {:?} has a critical extension that this version does not know ({})",
                self.name(),
                hex::encode(extension.id)
            ))),
            None => Ok(()),
        }
    }

    /// Whether it may sign time stamps: RFC 3161, section 2.3, demands this purpose, critical and alone.
    pub(super) fn may_time_stamp(&self) -> Result<()> {
        let not = |why: &str| refuse(format!("the certificate of {:?} {why}", self.name()));
        let Some(purposes) = self.extension(EXTENDED_KEY_USAGE)? else {
            return Err(not("is not for time stamping"));
        };
        let mut list = Reader::only(purposes.value, SEQUENCE)?.inner();
        let first = list.take(OID)?.content;
        if first != TIME_STAMPING {
            return Err(not("is not for time stamping"));
        }
        if !list.is_empty() {
            return Err(not("is for time stamping and for something else, which RFC 3161 forbids"));
        }
        if !purposes.critical {
            return Err(not("does not say critically that it is for time stamping"));
        }
        // digitalSignature or nonRepudiation, and nothing else, where it is said.
        if let Some(usage) = self.key_usage()?
            && (usage & 0xc0 == 0 || usage & !0xc0 != 0)
        {
            return Err(not("has a key that is not for signatures alone"));
        }
        Ok(())
    }

    /// The first byte of its key usage.
    fn key_usage(&self) -> Result<Option<u8>> {
        let Some(usage) = self.extension(KEY_USAGE)? else { return Ok(None) };
        let bits = Reader::only(usage.value, der::BIT_STRING)?.content;
        Ok(Some(bits.get(1).copied().unwrap_or(0)))
    }

    /// Whether it may issue certificates with `below` more issuers between it and the end.
    fn may_issue(&self, below: usize) -> Result<()> {
        let not = |why: &str| refuse(format!("the certificate of {:?} {why}", self.name()));
        let Some(basic) = self.extension(BASIC_CONSTRAINTS)? else {
            return Err(not("may not issue certificates"));
        };
        let mut fields = Reader::only(basic.value, SEQUENCE)?.inner();
        if fields.take_if(BOOLEAN)?.is_none_or(|flag| flag.content != [0xff]) {
            return Err(not("may not issue certificates"));
        }
        if !fields.is_empty() && fields.small()? < below as u64 {
            return Err(not("may not issue so long a chain"));
        }
        fields.end()?;
        // keyCertSign, where usages are said.
        if self.key_usage()?.is_some_and(|usage| usage & 0x04 == 0) {
            return Err(not("has a key that is not for issuing certificates"));
        }
        // Purposes of an issuer bound what it issues.
        if let Some(purposes) = self.extension(EXTENDED_KEY_USAGE)? {
            let mut list = Reader::only(purposes.value, SEQUENCE)?.inner();
            let mut fits = false;
            while !list.is_empty() {
                // anyExtendedKeyUsage is 2.5.29.37.0.
                fits |= [TIME_STAMPING, &[0x55, 0x1d, 0x25, 0x00]].contains(&list.take(OID)?.content);
            }
            if !fits {
                return Err(not("may not issue certificates for time stamping"));
            }
        }
        Ok(())
    }

    /// Whether `issuer`'s key signed it.
    fn is_signed_by(&self, issuer: &Certificate<'_>) -> Result<()> {
        public_key::verify(issuer.key, self.algorithm, None, self.signed, self.signature)
            .map_err(|error| refuse(format!("the certificate of {:?}: {}", self.name(), words_of(error))))
    }
}

/// Finds the chain from `leaf` to one of `roots` by way of `others`, all valid at `time`.
///
/// Gives the chain, the leaf first. A root is a certificate that the verifier brought and that names itself as its
/// issuer.
pub(super) fn chain_to_root<'a>(
    leaf: Certificate<'a>,
    others: &[Certificate<'a>],
    roots: &[Certificate<'a>],
    time: Time,
) -> Result<Vec<Certificate<'a>>> {
    let mut search = Search { others, roots, time, tries: 0, why: None };
    let mut chain = vec![leaf];
    leaf.is_understood()?;
    leaf.is_valid_at(time)?;
    if search.extend(&mut chain) {
        return Ok(chain);
    }
    Err(search.why.unwrap_or_else(|| {
        refuse(format!("no certificate that you brought is a root above {:?}", leaf.name()))
    }))
}

struct Search<'a, 's> {
    others: &'s [Certificate<'a>],
    roots: &'s [Certificate<'a>],
    time: Time,
    tries: usize,
    /// The last reason why a chain that looked right was none.
    why: Option<Error>,
}

impl<'a> Search<'a, '_> {
    fn extend(&mut self, chain: &mut Vec<Certificate<'a>>) -> bool {
        let Some(last) = chain.last().copied() else { return false };
        if last.is_self_issued() && self.roots.contains(&last) {
            return true;
        }
        if chain.len() >= DEEPEST {
            return false;
        }
        let candidates: Vec<_> = (self.roots.iter().filter(|root| root.is_self_issued()))
            .chain(self.others.iter().filter(|other| !other.is_self_issued()))
            .filter(|issuer| issuer.subject == last.issuer && !chain.contains(issuer))
            .copied()
            .collect();
        for issuer in candidates {
            self.tries += 1;
            if self.tries > MOST_TRIES {
                return false;
            }
            let fits = issuer
                .is_understood()
                .and_then(|()| issuer.may_issue(chain.len().saturating_sub(1)))
                .and_then(|()| issuer.is_valid_at(self.time))
                .and_then(|()| last.is_signed_by(&issuer));
            if let Err(why) = fits {
                self.why = Some(why);
                continue;
            }
            chain.push(issuer);
            if self.extend(chain) {
                return true;
            }
            chain.pop();
        }
        false
    }
}

/// Reads every certificate of a PEM text; other blocks, and certificates that cannot be read, are passed over.
///
/// # Errors
///
/// [`Error::Malformed`] when none can be read, with why the first could not, or when there are more than a thousand.
pub(super) fn from_pem(text: &str) -> Result<Vec<Vec<u8>>> {
    use base64::Engine as _;
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let bad = |why: &str| Error::malformed("PEM certificate", why);
    let (mut found, mut first_fault) = (Vec::new(), None);
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (body, after) = after.split_once(END).ok_or_else(|| bad("it has no end"))?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| bad("not base64"));
        match der.and_then(|der| Certificate::parse(&der).map(|_| ()).map(|()| der)) {
            Ok(der) => found.push(der),
            Err(error) => first_fault = first_fault.or(Some(error)),
        }
        if found.len() > MOST_IN_PEM {
            return Err(bad("more than 1,000 of them"));
        }
        rest = after;
    }
    match first_fault {
        Some(fault) if found.is_empty() => Err(fault),
        _ => Ok(found),
    }
}

/// Certificates as a PEM text.
pub(super) fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// The certificates of several PEM texts, each once.
pub(super) fn merged_pem(texts: &[&str]) -> String {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for one in texts.iter().flat_map(|text| from_pem(text).unwrap_or_default()) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    to_pem(all.iter().map(Vec::as_slice))
}

/// The first part of a distinguished name of this kind.
fn name_part(name: &[u8], id: &[u8]) -> Option<String> {
    let mut sets = Reader::only(name, SEQUENCE).ok()?.inner();
    while !sets.is_empty() {
        let mut pairs = sets.take(der::SET).ok()?.inner();
        while !pairs.is_empty() {
            let mut pair = pairs.take(SEQUENCE).ok()?.inner();
            if pair.take(OID).ok()?.content == id {
                let text = pair.any().ok()?;
                // UTF8String, PrintableString, IA5String and, as far as it goes, T61String; BMPString is UTF-16.
                let text = if text.tag == 0x1e {
                    let units = text.content.chunks_exact(2).map(|pair| match pair {
                        [high, low] => u16::from_be_bytes([*high, *low]),
                        _ => 0,
                    });
                    char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect()
                } else {
                    String::from_utf8_lossy(text.content).into_owned()
                };
                return Some(text.chars().take(128).collect());
            }
        }
    }
    None
}

pub(super) fn refuse(why: impl Into<String>) -> Error {
    Error::Malformed { what: "time stamp", why: why.into() }
}

/// Why, without the label before it.
pub(crate) fn words_of(error: Error) -> String {
    match error {
        Error::Malformed { why, .. } => why,
        other => other.to_string(),
    }
}
