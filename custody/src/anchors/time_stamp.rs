//! Time stamps (RFC 3161): an authority's signed word that some bytes were there at a time.
//!
//! A token is checked at the time that it states itself, so that it stays good when its certificates have ended.
//! The chain lies in the token, or beside it; the root is brought by whoever verifies.

use super::certificate::{self, Certificate, refuse, words_of};
use super::der::{self, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET, Time};
use super::public_key::{self, HashKind};
use super::token::{Info, Parts, TST_INFO, granted};
use super::{Answer, Post};
use crate::digest::sha256;
use crate::error::Result;
use crate::keys::random;

/// Larger answers are no tokens: the largest seen have 10 KiB.
pub const MOST_TIME_STAMP: usize = 256 << 10;
/// More certificates of the verifier are not taken: the roots of a whole operating system are 150.
const MOST_BROUGHT: usize = 1000;
/// The media type of a request.
pub const QUERY_TYPE: &str = "application/timestamp-query";
/// The media type of an answer.
pub const REPLY_TYPE: &str = "application/timestamp-reply";

/// A request for a time stamp over some bytes: SHA-256, a random nonce, and the wish for certificates.
#[derive(Debug, Clone)]
pub struct TimeStampRequest {
    der: Vec<u8>,
    nonce: Vec<u8>,
}

impl TimeStampRequest {
    /// A request over the SHA-256 of these bytes. Nothing but the hash leaves this machine.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Random`].
    pub fn over(data: &[u8]) -> Result<Self> {
        let mut nonce = random::<8>()?;
        // Positive, and with no leading zero: one INTEGER form, whatever the bits are.
        nonce[0] = nonce[0] & 0x7f | 0x40;
        let algorithm = der::write(SEQUENCE, &der::write(OID, public_key::sha256_oid()));
        let imprint = [algorithm, der::write(OCTET_STRING, &sha256(data).0)].concat();
        let fields = [
            der::write(INTEGER, &[1]),
            der::write(SEQUENCE, &imprint),
            der::write(INTEGER, &nonce),
            der::write(der::BOOLEAN, &[0xff]),
        ];
        Ok(Self { der: der::write(SEQUENCE, &fields.concat()), nonce: nonce.to_vec() })
    }

    /// The TimeStampReq in DER, as `openssl ts -query` makes it.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }
}

/// Asks an authority for a time stamp over these bytes, and checks that its answer is one.
///
/// Checked are the status, the imprint, the nonce, and the signature by the certificate that the token names; that
/// the certificate leads to a root is for [`TimeStamp::verify`] to say.
///
/// # Errors
///
/// Those of `post`; [`crate::Error::Malformed`] with the authority's words when it refuses, or with what is wrong.
pub fn request_time_stamp(post: &dyn Post, url: &str, data: &[u8]) -> Result<TimeStamp> {
    let request = TimeStampRequest::over(data)?;
    let Answer { status, body, .. } = post.post(url, QUERY_TYPE, request.as_der())?;
    if status != 200 {
        return Err(refuse(format!("{url} answered with HTTP status {status}")));
    }
    let stamp = TimeStamp::parse(&body)?;
    if stamp.nonce.as_deref() != Some(request.nonce.as_slice()) {
        return Err(refuse(format!("{url} answered to another request: the nonce is not ours")));
    }
    stamp.check(data, &[])?;
    Ok(stamp)
}

/// Certificates that the verifier brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities(Vec<Vec<u8>>);

impl Authorities {
    /// Adds every certificate of a PEM text that can be read. Those that name themselves as their issuer are roots; the
    /// others only help to find a way there. Gives how many there were.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] when none can be read, or there are more than a thousand.
    pub fn add_pem(&mut self, text: &str) -> Result<usize> {
        let found = certificate::from_pem(text)?;
        let count = found.len();
        for one in found {
            if self.0.len() >= MOST_BROUGHT {
                return Err(refuse(format!("more than {MOST_BROUGHT} certificates")));
            }
            if !self.0.contains(&one) {
                self.0.push(one);
            }
        }
        Ok(count)
    }

    /// Whether there is no certificate.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of another set, as far as there is room.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for one in &other.0 {
            if self.0.len() < MOST_BROUGHT && !self.0.contains(one) {
                self.0.push(one.clone());
            }
        }
    }

    fn parsed(&self) -> Vec<Certificate<'_>> {
        self.0.iter().filter_map(|der| Certificate::parse(der).ok()).collect()
    }
}

/// A time stamp that was read: a TimeStampResp, or a token alone. What it says is a claim until it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamp {
    bytes: Vec<u8>,
    /// Where the token begins in `bytes`.
    token: std::ops::Range<usize>,
    imprint: Vec<u8>,
    hash: HashKind,
    nonce: Option<Vec<u8>>,
    serial: Vec<u8>,
    policy: Vec<u8>,
    time: Time,
    accuracy_us: Option<u64>,
}

/// What a time stamp proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// The authority, by the name in the certificate that signed.
    pub authority: String,
    /// SHA-256 of that authority's root certificate, in hex: two tokens under one root are one party.
    pub root_sha256: String,
    /// The root's name.
    pub root: String,
    /// When, RFC 3339: the bytes were there then.
    pub time: String,
    /// How far the authority says that its clock may be off, in microseconds.
    pub accuracy_us: Option<u64>,
    /// The first day on which a certificate of the chain ends, `YYYY-MM-DD`: renew before.
    pub ends: String,
}

impl Stamped {
    /// One plain sentence; the same whenever it is asked for.
    pub fn words(&self) -> String {
        let accuracy = self.accuracy_us.map_or_else(String::new, |us| format!(" (± {} s)", seconds(us)));
        format!(
            "time stamp by {} under {}, {}{accuracy}: valid at its own time; a certificate of the authority ends {}, \
             renewal is due before",
            self.authority, self.root, self.time, self.ends
        )
    }
}

impl TimeStamp {
    /// Reads a TimeStampResp (as `openssl ts -verify -in` does) or a bare token (`-token_in`).
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] when it is none, or when the authority refused.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MOST_TIME_STAMP {
            return Err(refuse(format!("{} bytes; at most {MOST_TIME_STAMP} are read", bytes.len())));
        }
        let outer = Reader::only(bytes, SEQUENCE)?;
        let token = if outer.inner().peek() == Some(OID) {
            outer.whole
        } else {
            let mut fields = outer.inner();
            granted(fields.take(SEQUENCE)?.inner())?;
            let token = fields.take(SEQUENCE)?.whole;
            fields.end()?;
            token
        };
        let parts = Parts::of(token)?;
        let at = bytes.len().saturating_sub(token.len());
        let info = Info::parse(parts.info)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            token: at..bytes.len(),
            imprint: info.imprint.to_vec(),
            hash: info.hash,
            nonce: info.nonce.map(<[u8]>::to_vec),
            serial: info.serial.to_vec(),
            policy: info.policy.to_vec(),
            time: info.time,
            accuracy_us: info.accuracy_us,
        })
    }

    /// The bytes as they came, to be kept as `.tsr`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The time it states, RFC 3339.
    pub fn time(&self) -> String {
        self.time.rfc3339()
    }

    /// Seconds since 1970 of the time it states, for `openssl ts -verify -attime`.
    pub fn unix_time(&self) -> i64 {
        self.time.seconds
    }

    /// The token's serial number, in hex.
    pub fn serial(&self) -> String {
        hex::encode(&self.serial)
    }

    /// The latest moment that the authority may have meant, in nanoseconds since 1970.
    pub fn latest_ns(&self) -> i64 {
        let accuracy = i64::try_from(self.accuracy_us.unwrap_or(0)).unwrap_or(i64::MAX);
        (self.time.seconds.saturating_mul(1_000_000_000))
            .saturating_add(i64::from(self.time.nanos))
            .saturating_add(accuracy.saturating_mul(1000))
    }

    /// Whether it is over these bytes; nothing is verified.
    pub fn is_over(&self, data: &[u8]) -> bool {
        self.hash.of_bytes(data) == self.imprint
    }

    /// The certificates that lie in the token, as PEM: what `openssl ts -verify -untrusted` takes.
    pub fn certificates_pem(&self) -> String {
        let parts = self.parts();
        certificate::to_pem(parts.iter().flat_map(|parts| parts.certificates.iter().map(|one| one.whole)))
    }

    /// The hash that it is over.
    pub(crate) fn imprint(&self) -> &[u8] {
        &self.imprint
    }

    /// Who signed it, when everything holds but that no root is known above the signer.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] when something in the token itself does not hold.
    pub fn signer(&self, data: &[u8], helpers: &str) -> Result<String> {
        let kept = certificate::from_pem(helpers).unwrap_or_default();
        let kept: Vec<_> = kept.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        self.check(data, &kept).map(|(signer, _)| signer.name())
    }

    /// Verifies it over these bytes, at its own time, up to a root that the verifier brings.
    ///
    /// `helpers` is PEM that was kept beside it; nothing in there is believed.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] saying why it does not count.
    pub fn verify(&self, data: &[u8], authorities: &Authorities, helpers: &str) -> Result<Stamped> {
        let kept = certificate::from_pem(helpers).unwrap_or_default();
        let kept: Vec<_> = kept.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        let brought = authorities.parsed();
        let others: Vec<_> = kept.iter().chain(&brought).copied().collect();
        let (signer, in_token) = self.check(data, &others)?;
        let others: Vec<_> = in_token.into_iter().chain(others).collect();
        let chain = certificate::chain_to_root(signer, &others, &brought, self.time)?;
        let root = chain.last().copied().unwrap_or(signer);
        let ends = chain.iter().map(|one| one.not_after).min().unwrap_or(signer.not_after);
        Ok(Stamped {
            authority: signer.name(),
            root_sha256: sha256(root.whole).to_string(),
            root: root.name(),
            time: self.time(),
            accuracy_us: self.accuracy_us,
            ends: ends.date(),
        })
    }

    /// Everything but the chain: imprint, signature, the exact certificate that signed, and what it is for.
    ///
    /// Gives that certificate, and the others in the token.
    fn check<'a>(
        &'a self,
        data: &[u8],
        others: &[Certificate<'a>],
    ) -> Result<(Certificate<'a>, Vec<Certificate<'a>>)> {
        if !self.is_over(data) {
            return Err(refuse("it is over other bytes"));
        }
        let parts = self.parts()?;
        let signer = parts.signer;
        let attributes = signer.attributes()?;
        if attributes.content_type != TST_INFO {
            return Err(refuse("what is signed is not of the type of a time stamp"));
        }
        if signer.hash.of_bytes(parts.info) != attributes.message_digest {
            return Err(refuse("what it says is not what was signed"));
        }
        let mut named = parts.certificates.iter().chain(others).filter(|one| signer.id.is(one));
        let certificate = *named
            .find(|one| attributes.binds(one).is_ok())
            .ok_or_else(|| refuse("the certificate that it is bound to is not there"))?;
        attributes.binds(&certificate)?;
        certificate.may_time_stamp()?;
        // Signed are the attributes as a SET; in the token they stand under [0].
        let mut signed = signer.signed.to_vec();
        if let Some(tag) = signed.first_mut() {
            *tag = SET;
        }
        public_key::verify(certificate.key, signer.algorithm, Some(signer.hash), &signed, signer.signature)
            .map_err(|error| refuse(format!("the token of {:?}: {}", certificate.name(), words_of(error))))?;
        Ok((certificate, parts.certificates))
    }

    fn parts(&self) -> Result<Parts<'_>> {
        Parts::of(self.bytes.get(self.token.clone()).unwrap_or_default())
    }
}

/// The hashes of some bytes that a token may hold, each by another function.
pub(crate) fn imprints(data: &[u8]) -> [Vec<u8>; 3] {
    [HashKind::Sha256, HashKind::Sha384, HashKind::Sha512].map(|kind| kind.of_bytes(data))
}

/// Microseconds as seconds, without needless digits.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::der::context;
    use super::super::token::SIGNED_DATA;
    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_of_tokens_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = TimeStamp::parse(&bytes);
            let _ = Certificate::parse(&bytes);
            // Deeper in: whole elements around the bytes.
            let inner = der::write(context(0), &der::write(SEQUENCE, &bytes));
            let _ = TimeStamp::parse(&der::write(SEQUENCE, &[der::write(OID, SIGNED_DATA), inner].concat()));
            let _ = Info::parse(&der::write(SEQUENCE, &[vec![2, 1, 1], bytes].concat()));
        }
    }

    #[test]
    fn the_roots_of_a_whole_system_can_be_brought() {
        let Ok(text) = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt") else { return };
        let there = text.matches("BEGIN CERTIFICATE").count();
        let mut authorities = Authorities::default();
        let read = authorities.add_pem(&text).unwrap();
        assert_eq!(read, there);
        assert_eq!(authorities.parsed().iter().filter(|one| one.is_self_issued()).count(), there);
    }

    #[test]
    fn a_request_is_over_the_hash_with_a_nonce_of_its_own() {
        let requests = [TimeStampRequest::over(b"data").unwrap(), TimeStampRequest::over(b"data").unwrap()];
        assert_ne!(requests[0].nonce, requests[1].nonce);
        assert!(requests[0].as_der().windows(32).any(|window| window == sha256(b"data").0));
    }

    #[test]
    fn seconds_have_no_needless_digits() {
        assert_eq!([0, 1_000_000, 1_500_100, 100].map(seconds), ["0", "1", "1.5001", "0.0001"]);
    }
}
