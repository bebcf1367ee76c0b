//! Standard Webhooks: `v1` (HMAC-SHA256) and `v1a` (Ed25519), over id, time and the bytes as they came.
//!
//! Source: the specification at <https://github.com/standard-webhooks/standard-webhooks>.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac as mac, signature};
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq as _};

use super::hmac::time_of;
use super::secrets::Secrets;
use super::{Proof, Refused, Request, digest_of, is_near, one_header};

/// Seconds, as the specification recommends.
const TOLERANCE: u64 = 300;

/// More signatures in one header are not looked at.
const MOST_SIGNATURES: usize = 16;

/// Standard Webhooks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardWebhooksSettings {
    /// Seconds by which `webhook-timestamp` may differ from the time of this host; 300 unless told, at most 3600.
    #[serde(default)]
    pub tolerance: Option<u64>,
    /// One file, or two while one replaces the other, with `whsec_…` (a secret) or `whpk_…` (a public key).
    pub secret_files: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) struct StandardWebhooks {
    tolerance: u64,
    keys: Vec<Key>,
}

enum Key {
    Secret(Vec<u8>),
    Public(Vec<u8>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "a secret",
            Self::Public(_) => "a public key",
        })
    }
}

impl StandardWebhooks {
    pub(super) fn load(settings: &StandardWebhooksSettings) -> Result<Self, String> {
        Self::of(settings.tolerance, &Secrets::read(&settings.secret_files)?)
    }

    fn of(tolerance: Option<u64>, secrets: &Secrets) -> Result<Self, String> {
        let tolerance = tolerance.unwrap_or(TOLERANCE);
        if tolerance == 0 || tolerance > 3600 {
            return Err("tolerance is 1 to 3600 seconds".to_owned());
        }
        let keys = secrets.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { tolerance, keys })
    }

    pub(super) fn check(&self, request: &Request<'_>, body: &[u8]) -> Result<Proof, Refused> {
        let id = one_header(request.headers, "webhook-id")?;
        let ts = one_header(request.headers, "webhook-timestamp")?;
        let given = one_header(request.headers, "webhook-signature")?;
        let signed = [id.as_bytes(), b".", ts.as_bytes(), b".", body].concat();
        let mut found = None;
        for one in given.split(' ').take(MOST_SIGNATURES) {
            let Some((version, text)) = one.split_once(',') else { continue };
            let Ok(bytes) = STANDARD.decode(text) else { continue };
            for (number, key) in (1..).zip(&self.keys) {
                if bool::from(key.signed(version, &signed, &bytes)) {
                    found = found.or(Some((version, number)));
                }
            }
        }
        let (version, number) = found.ok_or(Refused("bad_signature"))?;
        let then = time_of(ts).filter(|_| ts.len() < 13).ok_or(Refused("malformed_time"))?;
        if !is_near(request.now_ns, then, self.tolerance) {
            return Err(Refused("old_time"));
        }
        Ok(Proof {
            sender: format!("standard webhooks {version} key {number}"),
            seen_as: Some(digest_of(&[b"id", id.as_bytes()])),
            control: None,
        })
    }
}

impl Key {
    /// Whether the signature is this key's.
    fn signed(&self, version: &str, signed: &[u8], bytes: &[u8]) -> Choice {
        match (self, version) {
            (Self::Secret(secret), "v1") => {
                mac::sign(&mac::Key::new(mac::HMAC_SHA256, secret), signed).as_ref().ct_eq(bytes)
            }
            (Self::Public(key), "v1a") => {
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                Choice::from(u8::from(key.verify(signed, bytes).is_ok()))
            }
            _ => Choice::from(0),
        }
    }
}

fn key(text: &[u8]) -> Result<Key, String> {
    let wrong = || "a key of Standard Webhooks is whsec_ or whpk_ and then base64".to_owned();
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    if let Some(secret) = text.strip_prefix("whsec_") {
        let secret = STANDARD.decode(secret).map_err(|_| wrong())?;
        if !(24..=64).contains(&secret.len()) {
            return Err("a secret of Standard Webhooks has 24 to 64 bytes".to_owned());
        }
        return Ok(Key::Secret(secret));
    }
    let public = text.strip_prefix("whpk_").ok_or_else(wrong)?;
    let public = STANDARD.decode(public).map_err(|_| wrong())?;
    if public.len() != 32 {
        return Err("a public key of Standard Webhooks has 32 bytes".to_owned());
    }
    Ok(Key::Public(public))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use ring::signature::KeyPair as _;

    use super::*;

    const SECRET: &[u8] = b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const TS: &str = "1649367553";
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const TAG: &str = "tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
    const NOW: i64 = 1_649_367_553_000_000_000;

    fn ask(
        keys: &[&[u8]],
        id: &str,
        ts: &str,
        given: &str,
        body: &[u8],
        now_ns: i64,
    ) -> Result<Proof, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", ts.parse().unwrap());
        headers.insert("webhook-signature", given.parse().unwrap());
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let request = Request { headers: &headers, path_token: None, client: None, peer, now_ns };
        StandardWebhooks::of(None, &Secrets::of(keys)).unwrap().check(&request, body)
    }

    fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        (0..bytes.len() * 8).map(|bit| {
            let mut wrong = bytes.to_vec();
            wrong[bit / 8] ^= 1 << (bit % 8);
            wrong
        })
    }

    /// Every change of one bit of body, signature, id and time is refused.
    fn no_flipped_bit_holds(key: &[u8], version: &str, tag: &[u8]) {
        let given = format!("{version},{}", STANDARD.encode(tag));
        assert!(ask(&[key], ID, TS, &given, BODY, NOW).is_ok());
        for wrong in flips(BODY) {
            assert_eq!(ask(&[key], ID, TS, &given, &wrong, NOW), Err(Refused("bad_signature")));
        }
        for wrong in flips(tag) {
            let given = format!("{version},{}", STANDARD.encode(wrong));
            assert_eq!(ask(&[key], ID, TS, &given, BODY, NOW), Err(Refused("bad_signature")));
        }
        for (id, ts) in flips(ID.as_bytes())
            .map(|id| (id, TS.as_bytes().to_vec()))
            .chain(flips(TS.as_bytes()).map(|ts| (ID.as_bytes().to_vec(), ts)))
        {
            let texts = (String::from_utf8(id), String::from_utf8(ts));
            let (Ok(id), Ok(ts)) = texts else { continue };
            // What no header can hold does not reach us.
            if id.chars().chain(ts.chars()).any(|c| c.is_ascii_control()) {
                continue;
            }
            assert_eq!(ask(&[key], &id, &ts, &given, BODY, NOW), Err(Refused("bad_signature")), "{id} {ts}");
        }
    }

    #[test]
    fn the_published_vector_holds_and_no_flipped_bit_does() {
        no_flipped_bit_holds(SECRET, "v1", &STANDARD.decode(TAG).unwrap());
    }

    #[test]
    fn our_vector_of_v1a_holds_and_no_flipped_bit_does() {
        // Seed 00 01 … 1f; checked with `openssl pkeyutl -verify -rawin` too.
        let seed: Vec<u8> = (0..32).collect();
        let pair = signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()));
        assert_eq!(public, "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
        let tag = STANDARD.decode(V1A).unwrap();
        assert_eq!(pair.sign(&[ID.as_bytes(), b".", TS.as_bytes(), b".", BODY].concat()).as_ref(), tag);
        no_flipped_bit_holds(public.as_bytes(), "v1a", &tag);
        // A signature of one kind never passes for the other.
        let given = format!("v1,{V1A}");
        assert!(ask(&[public.as_bytes()], ID, TS, &given, BODY, NOW).is_err());
    }

    const V1A: &str =
        "CnkujwXFUOk59gNZFCCzmJ2MkkC0yKa+OmyYFXFtPnxkRhEkUBAd4PGNNNjLh4huOXNuqy+Eyxud5+wHP2ezBA==";

    #[test]
    fn any_listed_signature_and_either_key_will_do() {
        let other = b"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let given = format!("v1,AAAA v2,{TAG} v1,{TAG}");
        let proof = ask(&[other, SECRET], ID, TS, &given, BODY, NOW).unwrap();
        assert_eq!(proof.sender, "standard webhooks v1 key 2");
        assert!(ask(&[other], ID, TS, &given, BODY, NOW).is_err());
        assert!(ask(&[SECRET], ID, TS, &format!("v2,{TAG}"), BODY, NOW).is_err());
    }

    #[test]
    fn the_time_must_be_near() {
        let given = format!("v1,{TAG}");
        let second = 1_000_000_000;
        for (shift, good) in [(300, true), (-300, true), (301, false), (-301, false)] {
            assert_eq!(ask(&[SECRET], ID, TS, &given, BODY, NOW + shift * second).is_ok(), good, "{shift}");
        }
    }
}
