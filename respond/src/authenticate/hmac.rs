//! A keyed digest over the bytes as they came: any product's variant, and CrowdStrike's.
//!
//! A replay is stopped only by a time that is itself signed. Where the settings sign one, its header must be there and be
//! near; where they sign none, they must say `replayable = true`, so that nobody believes in a window that is not.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac as mac;
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq as _};

use super::secrets::Secrets;
use super::{Proof, Refused, Request, digest_of, is_near, one_header};

/// Seconds, unless told.
const TOLERANCE: u64 = 300;

/// No window is longer.
const LONGEST_TOLERANCE: u64 = 3600;

/// A keyed digest in a header.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacSettings {
    /// The header that holds it.
    pub header: String,
    /// The digest.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How it is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands before it, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// What is signed, of `{body}`, `{ts}`, `{id}` and other characters: `{ts}.{body}`.
    pub signed: String,
    /// The header that `{ts}` stands for: seconds or milliseconds since 1970, or RFC 3339.
    #[serde(default)]
    pub ts_header: Option<String>,
    /// The header that `{id}` stands for; the same id again is a repetition.
    #[serde(default)]
    pub id_header: Option<String>,
    /// Seconds by which `{ts}` may differ from the time of this host; 300 unless told, at most 3600.
    #[serde(default)]
    pub tolerance: Option<u64>,
    /// That a request may be sent again for ever, where no time is signed.
    #[serde(default)]
    pub replayable: bool,
    /// One file, or two while one secret replaces the other.
    pub secret_files: Vec<PathBuf>,
}

/// Of which digest.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// HMAC-SHA1, for old senders.
    Sha1,
    /// HMAC-SHA256.
    #[default]
    Sha256,
    /// HMAC-SHA384.
    Sha384,
    /// HMAC-SHA512.
    Sha512,
}

/// How a digest is written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// CrowdStrike's Fusion webhooks: `X-Cs-Primary-Signature` is the base64 HMAC-SHA256 of body and then delivery time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdstrikeSettings {
    /// Seconds by which the delivery time may differ from the time of this host; 300 unless told.
    #[serde(default)]
    pub tolerance: Option<u64>,
    /// One file, or two while one secret replaces the other.
    pub secret_files: Vec<PathBuf>,
}

impl HmacSettings {
    /// The digest of some bytes, written as these settings say, without its prefix: for who sends.
    pub(crate) fn tag(&self, secret: &[u8], bytes: &[u8]) -> String {
        let tag = mac::sign(&mac::Key::new(self.algorithm.of_ring(), secret), bytes);
        match self.encoding {
            Encoding::Hex => hex::encode(tag.as_ref()),
            Encoding::Base64 => STANDARD.encode(tag.as_ref()),
        }
    }
}

impl Algorithm {
    fn of_ring(self) -> mac::Algorithm {
        match self {
            Self::Sha1 => mac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => mac::HMAC_SHA256,
            Self::Sha384 => mac::HMAC_SHA384,
            Self::Sha512 => mac::HMAC_SHA512,
        }
    }
}

#[derive(Debug)]
pub(super) struct Hmac {
    header: String,
    algorithm: Algorithm,
    encoding: Encoding,
    prefix: String,
    signed: Vec<Part>,
    ts_header: Option<String>,
    id_header: Option<String>,
    tolerance: u64,
    secrets: Secrets,
    /// A header that, where it is there, must say this.
    stated: Option<(&'static str, &'static str)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Body,
    Ts,
    Id,
    Words(String),
}

impl Hmac {
    pub(super) fn load(settings: &HmacSettings) -> Result<Self, String> {
        Self::of(settings, Secrets::read(&settings.secret_files)?)
    }

    pub(super) fn crowdstrike(settings: &CrowdstrikeSettings) -> Result<Self, String> {
        Self::crowdstrike_of(settings.tolerance, Secrets::read(&settings.secret_files)?)
    }

    fn crowdstrike_of(tolerance: Option<u64>, secrets: Secrets) -> Result<Self, String> {
        let settings = HmacSettings {
            header: "x-cs-primary-signature".to_owned(),
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Base64,
            prefix: String::new(),
            signed: "{body}{ts}".to_owned(),
            ts_header: Some("x-cs-delivery-timestamp".to_owned()),
            id_header: None,
            tolerance,
            replayable: false,
            secret_files: Vec::new(),
        };
        let hmac = Self::of(&settings, secrets)?;
        Ok(Self { stated: Some(("x-cs-signature-algorithm", "HmacSHA256")), ..hmac })
    }

    fn of(settings: &HmacSettings, secrets: Secrets) -> Result<Self, String> {
        let signed = parts(&settings.signed)?;
        let has = |part: &Part| signed.contains(part);
        if !has(&Part::Body) {
            return Err(
                "signed must hold {body}: a signature that does not cover the alert proves nothing".into()
            );
        }
        for (part, header, word) in
            [(Part::Ts, &settings.ts_header, "ts"), (Part::Id, &settings.id_header, "id")]
        {
            match (has(&part), header) {
                (true, None) => {
                    return Err(format!("signed holds {{{word}}}, and {word}_header names no header"));
                }
                (false, Some(_)) => {
                    return Err(format!(
                        "{word}_header is named, but signed does not hold {{{word}}}: what is not signed protects from nothing"
                    ));
                }
                _ => {}
            }
        }
        if !has(&Part::Ts) && !settings.replayable {
            return Err(
                "no time is signed, so whoever records one request can send it again for ever: sign {ts}, or say replayable = true"
                    .into(),
            );
        }
        let tolerance = settings.tolerance.unwrap_or(TOLERANCE);
        if tolerance == 0 || tolerance > LONGEST_TOLERANCE {
            return Err(format!("tolerance is 1 to {LONGEST_TOLERANCE} seconds"));
        }
        let headers = [Some(&settings.header), settings.ts_header.as_ref(), settings.id_header.as_ref()];
        for header in headers.into_iter().flatten() {
            axum::http::HeaderName::try_from(header.as_str())
                .map_err(|_| format!("{header:?} is no name of a header"))?;
        }
        Ok(Self {
            header: settings.header.to_ascii_lowercase(),
            algorithm: settings.algorithm,
            encoding: settings.encoding,
            prefix: settings.prefix.clone(),
            signed,
            ts_header: settings.ts_header.clone(),
            id_header: settings.id_header.clone(),
            tolerance,
            secrets,
            stated: None,
        })
    }

    pub(super) fn check(&self, request: &Request<'_>, body: &[u8]) -> Result<Proof, Refused> {
        let given = one_header(request.headers, &self.header)?;
        let given = given.strip_prefix(&self.prefix).ok_or(Refused("malformed_signature"))?;
        let given = match self.encoding {
            Encoding::Hex => hex::decode(given).map_err(|_| Refused("malformed_signature"))?,
            Encoding::Base64 => STANDARD.decode(given).map_err(|_| Refused("malformed_signature"))?,
        };
        let header =
            |name: &Option<String>| name.as_deref().map(|name| one_header(request.headers, name)).transpose();
        let (ts, id) = (header(&self.ts_header)?, header(&self.id_header)?);
        if let Some((name, must)) = self.stated
            && request.headers.contains_key(name)
            && !one_header(request.headers, name)?.eq_ignore_ascii_case(must)
        {
            return Err(Refused("other_algorithm"));
        }
        let number = self.secrets.find_by(|secret| self.tag(secret, body, ts, id, &given));
        let number = number.ok_or(Refused("bad_signature"))?;
        // After the signature, so that a forger learns nothing of our clock.
        if let Some(ts) = ts {
            let then = time_of(ts).ok_or(Refused("malformed_time"))?;
            if !is_near(request.now_ns, then, self.tolerance) {
                return Err(Refused("old_time"));
            }
        }
        let seen_as = match id {
            Some(id) => digest_of(&[b"id", id.as_bytes()]),
            None => digest_of(&[b"hmac", ts.unwrap_or_default().as_bytes(), body]),
        };
        Ok(Proof {
            sender: format!("hmac secret {number}"),
            // Without a signed time or id the same bytes may be a new alert; rules know repetitions by the alert's own id.
            seen_as: (ts.is_some() || id.is_some()).then_some(seen_as),
            control: None,
        })
    }

    fn tag(&self, secret: &[u8], body: &[u8], ts: Option<&str>, id: Option<&str>, given: &[u8]) -> Choice {
        let mut context = mac::Context::with_key(&mac::Key::new(self.algorithm.of_ring(), secret));
        for part in &self.signed {
            match part {
                Part::Body => context.update(body),
                Part::Ts => context.update(ts.unwrap_or_default().as_bytes()),
                Part::Id => context.update(id.unwrap_or_default().as_bytes()),
                Part::Words(words) => context.update(words.as_bytes()),
            }
        }
        context.sign().as_ref().ct_eq(given)
    }
}

/// Takes a template apart. A brace that opens nothing known is an error.
fn parts(template: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let known = [("{body}", Part::Body), ("{ts}", Part::Ts), ("{id}", Part::Id)];
        if let Some((after, part)) =
            known.into_iter().find_map(|(word, part)| Some((rest.strip_prefix(word)?, part)))
        {
            if parts.contains(&part) {
                return Err(format!("signed holds the same thing twice: {template:?}"));
            }
            parts.push(part);
            rest = after;
        } else {
            let mut chars = rest.chars();
            match chars.next() {
                Some('{' | '}') | None => {
                    return Err(format!(
                        "signed holds {{body}}, {{ts}}, {{id}} and no other braces: {template:?}"
                    ));
                }
                Some(c) => match parts.last_mut() {
                    Some(Part::Words(words)) => words.push(c),
                    _ => parts.push(Part::Words(c.into())),
                },
            }
            rest = chars.as_str();
        }
    }
    // Otherwise an id could end where a time begins, and two requests would have one signature.
    if parts
        .windows(2)
        .any(|two| matches!(two, [Part::Id, Part::Ts | Part::Body] | [Part::Ts | Part::Body, Part::Id]))
    {
        return Err(format!("signed must keep {{id}} apart from what is beside it: {template:?}"));
    }
    Ok(parts)
}

/// Seconds or milliseconds since 1970, or RFC 3339, as nanoseconds since 1970.
pub(super) fn time_of(text: &str) -> Option<i64> {
    if !text.is_empty() && text.len() <= 13 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return number.checked_mul(if text.len() == 13 { 1_000_000 } else { 1_000_000_000 });
    }
    if text.len() > 40 {
        return None;
    }
    custody::clock::parse_rfc3339(text).ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    const THEN: &str = "2024-01-02T03:04:05Z";

    fn ask(hmac: &Hmac, headers: &[(&str, &str)], body: &[u8], now: &str) -> Result<Proof, Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(axum::http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let request = Request {
            headers: &map,
            path_token: None,
            client: None,
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
            now_ns: custody::clock::parse_rfc3339(now).unwrap(),
        };
        hmac.check(&request, body)
    }

    fn settings(signed: &str) -> HmacSettings {
        toml::from_str(&format!("header = 'X-Signature'\nsigned = '{signed}'\nsecret_files = []")).unwrap()
    }

    #[test]
    fn crowdstrikes_vector_holds_and_no_flipped_bit_does() {
        let hmac = Hmac::crowdstrike_of(None, Secrets::of(&[b"topsecret"])).unwrap();
        let body = br#"{"foo":"bar"}"#;
        let tag = "ZsHgFt/y8VjkngXTuDdmHmcnfLjU92aqEddjDD/rtF4=";
        let headers = [("x-cs-primary-signature", tag), ("x-cs-delivery-timestamp", THEN)];
        let proof = ask(&hmac, &headers, body, "2024-01-02T03:08:00Z").unwrap();
        assert_eq!(proof.sender, "hmac secret 1");
        assert!(proof.seen_as.is_some());

        for bit in 0..body.len() * 8 {
            let mut wrong = body.to_vec();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ask(&hmac, &headers, &wrong, THEN), Err(Refused("bad_signature")), "bit {bit}");
        }
        let bytes = STANDARD.decode(tag).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let wrong = STANDARD.encode(wrong);
            let headers = [("x-cs-primary-signature", wrong.as_str()), ("x-cs-delivery-timestamp", THEN)];
            assert_eq!(ask(&hmac, &headers, body, THEN), Err(Refused("bad_signature")), "bit {bit}");
        }
        for at in 0..THEN.len() {
            let mut wrong = THEN.as_bytes().to_vec();
            wrong[at] ^= 1;
            let wrong = String::from_utf8(wrong).unwrap();
            let headers = [("x-cs-primary-signature", tag), ("x-cs-delivery-timestamp", wrong.as_str())];
            assert_eq!(ask(&hmac, &headers, body, THEN), Err(Refused("bad_signature")), "{wrong}");
        }
        assert_eq!(ask(&hmac, &headers, body, "2024-01-02T03:09:06Z"), Err(Refused("old_time")));
        assert_eq!(ask(&hmac, &headers, body, "2024-01-02T02:59:04Z"), Err(Refused("old_time")));
        assert_eq!(ask(&hmac, &headers[..1], body, THEN), Err(Refused("missing_header")));
        let other = [headers[0], headers[1], ("x-cs-signature-algorithm", "HmacMD5")];
        assert_eq!(ask(&hmac, &other, body, THEN), Err(Refused("other_algorithm")));
    }

    #[test]
    fn every_algorithm_and_encoding_is_what_openssl_says() {
        // printf '1704164645.{"a":1}' | openssl dgst -ALGORITHM -hmac 'an example secret of 32 bytes ...'
        let cases =
            [("sha1", "hex", SHA1_HEX), ("sha256", "hex", SHA256_HEX), ("sha512", "base64", SHA512_BASE64)];
        for (algorithm, encoding, tag) in cases {
            let settings: HmacSettings = toml::from_str(&format!(
                "header = 'X-Signature'\nalgorithm = '{algorithm}'\nencoding = '{encoding}'\nprefix = '{algorithm}='\n\
                 signed = '{{ts}}.{{body}}'\nts_header = 'X-Time'\nsecret_files = []"
            ))
            .unwrap();
            let hmac = Hmac::of(&settings, Secrets::of(&[b"an example secret of 32 bytes ..."])).unwrap();
            let tag = format!("{algorithm}={tag}");
            let headers = [("x-signature", tag.as_str()), ("x-time", "1704164645")];
            assert!(ask(&hmac, &headers, br#"{"a":1}"#, THEN).is_ok(), "{algorithm}");
            assert!(ask(&hmac, &headers, br#"{"a":2}"#, THEN).is_err(), "{algorithm}");
        }
    }

    const SHA1_HEX: &str = "9d027596cdf30faa2527b53a15f45d68ff910453";
    const SHA256_HEX: &str = "4b04217c85ac134f123e15e2eb0ca9bea02f873dc53ff53e6a11b577ff940296";
    const SHA512_BASE64: &str =
        "kAHUJteqzl4w2ZvelZl6hzCUDbPH2Uubbd/DCUo1Gy6ewKLpbIp2hfLcLraF9a0laxFUwjun/KHg+Yf+dQzZRw==";

    #[test]
    fn settings_that_protect_from_nothing_are_refused() {
        let secrets = || Secrets::of(&[b"an example secret of 32 bytes ..."]);
        let why = |settings: HmacSettings| Hmac::of(&settings, secrets()).unwrap_err();
        assert!(why(settings("{body}")).contains("for ever"));
        assert!(why(settings("{ts}")).contains("must hold {body}"));
        assert!(why(settings("{ts}.{body}")).contains("ts_header names no header"));
        assert!(why(settings("{body}.{boby}")).contains("no other braces"));
        let unsigned =
            HmacSettings { ts_header: Some("x-time".into()), replayable: true, ..settings("{body}") };
        assert!(why(unsigned).contains("protects from nothing"));
        let forever = HmacSettings {
            ts_header: Some("x-time".into()),
            tolerance: Some(1 << 40),
            ..settings("{ts}.{body}")
        };
        assert!(why(forever).contains("1 to 3600"));
        let beside = HmacSettings {
            ts_header: Some("x-time".into()),
            id_header: Some("x-id".into()),
            ..settings("{id}{ts}.{body}")
        };
        assert!(why(beside).contains("apart"));
    }

    #[test]
    fn times_of_senders_are_read_and_nothing_else() {
        assert_eq!(time_of("1704164645"), Some(1_704_164_645_000_000_000));
        assert_eq!(time_of("1704164645123"), Some(1_704_164_645_123_000_000));
        assert_eq!(time_of(THEN), Some(1_704_164_645_000_000_000));
        for wrong in ["", "-1", "17041646451234", "1e9", " 1704164645", "yesterday"] {
            assert_eq!(time_of(wrong), None, "{wrong}");
        }
    }
}
