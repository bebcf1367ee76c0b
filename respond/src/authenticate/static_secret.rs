//! Secrets that are sent as they are: bearer, a header, a part of the path, Basic.
//!
//! They prove nothing about the body and stop no replay: use them over TLS, and a signature where the sender has one.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::secrets::Secrets;
use super::{Proof, Refused, Request, one_header};

/// `Authorization: Bearer SECRET`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerSettings {
    /// One file, or two while one secret replaces the other.
    pub secret_files: Vec<PathBuf>,
}

/// A header that holds the secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderSettings {
    /// Its name, such as `X-Webhook-Secret`.
    pub header: String,
    /// One file, or two while one secret replaces the other.
    pub secret_files: Vec<PathBuf>,
}

/// The last part of the path, for senders that can set no header.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathTokenSettings {
    /// One file, or two while one secret replaces the other; letters, digits, `-`, `_`, `.` and `~` only.
    pub secret_files: Vec<PathBuf>,
}

/// `Authorization: Basic …`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicSettings {
    /// The user's name.
    pub user: String,
    /// One file with the password, or two while one replaces the other.
    pub secret_files: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) struct StaticSecret {
    place: Place,
    secrets: Secrets,
}

#[derive(Debug)]
enum Place {
    Bearer,
    Header(String),
    Path,
    Basic { user: String },
}

impl BearerSettings {
    pub(super) fn load(&self) -> Result<StaticSecret, String> {
        Ok(StaticSecret { place: Place::Bearer, secrets: Secrets::read(&self.secret_files)? })
    }
}

impl HeaderSettings {
    pub(super) fn load(&self) -> Result<StaticSecret, String> {
        let name = axum::http::HeaderName::try_from(self.header.as_str());
        name.map_err(|_| format!("{:?} is no name of a header", self.header))?;
        Ok(StaticSecret {
            place: Place::Header(self.header.to_ascii_lowercase()),
            secrets: Secrets::read(&self.secret_files)?,
        })
    }
}

impl PathTokenSettings {
    pub(super) fn load(&self) -> Result<StaticSecret, String> {
        let secrets = Secrets::read(&self.secret_files)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
        if !secrets.iter().all(|secret| secret.iter().all(plain)) {
            return Err("a path token has only letters, digits, - _ . and ~".to_owned());
        }
        Ok(StaticSecret { place: Place::Path, secrets })
    }
}

impl BasicSettings {
    pub(super) fn load(&self) -> Result<StaticSecret, String> {
        if self.user.is_empty() || self.user.contains(':') {
            return Err("a user of Basic has a name without a colon".to_owned());
        }
        Ok(StaticSecret {
            // Compared whole, so that time tells nothing of the name either.
            secrets: Secrets::read(&self.secret_files)?.after(&format!("{}:", self.user)),
            place: Place::Basic { user: self.user.clone() },
        })
    }
}

impl StaticSecret {
    pub(super) fn check(&self, request: &Request<'_>) -> Result<Proof, Refused> {
        let whole;
        let given: &[u8] = match &self.place {
            Place::Bearer => after_word(one_header(request.headers, "authorization")?, "bearer")?.as_bytes(),
            Place::Header(name) => one_header(request.headers, name)?.as_bytes(),
            Place::Path => request.path_token.ok_or(Refused("missing_token"))?.as_bytes(),
            Place::Basic { .. } => {
                let text = after_word(one_header(request.headers, "authorization")?, "basic")?;
                whole = STANDARD.decode(text).map_err(|_| Refused("malformed_header"))?;
                &whole
            }
        };
        let number = self.secrets.find(given).ok_or(Refused("bad_secret"))?;
        Ok(Proof::of(match &self.place {
            Place::Bearer => format!("bearer secret {number}"),
            Place::Header(name) => format!("secret {number} in {name}"),
            Place::Path => format!("path token {number}"),
            Place::Basic { user } => format!("user {user} with password {number}"),
        }))
    }
}

/// What follows the scheme's word in an `Authorization` header.
fn after_word<'a>(value: &'a str, word: &str) -> Result<&'a str, Refused> {
    let (scheme, rest) = value.split_once(' ').ok_or(Refused("malformed_header"))?;
    if scheme.eq_ignore_ascii_case(word) { Ok(rest.trim()) } else { Err(Refused("malformed_header")) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    const SECRET: &[u8] = b"correct horse battery staple";

    fn check(
        place: Place,
        headers: &[(&'static str, &str)],
        path_token: Option<&str>,
    ) -> Result<Proof, Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let request = Request {
            headers: &map,
            path_token,
            client: None,
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
            now_ns: 0,
        };
        let secrets = Secrets::of(&[b"the old one, still good", SECRET]);
        let secrets = if matches!(place, Place::Basic { .. }) { secrets.after("sns:") } else { secrets };
        StaticSecret { place, secrets }.check(&request)
    }

    #[test]
    fn each_place_takes_its_secret() {
        let basic = format!("Basic {}", STANDARD.encode(b"sns:correct horse battery staple"));
        let bearer = "Bearer correct horse battery staple";
        assert_eq!(
            check(Place::Bearer, &[("authorization", bearer)], None).unwrap().sender,
            "bearer secret 2"
        );
        assert!(check(Place::Basic { user: "sns".into() }, &[("authorization", &basic)], None).is_ok());
        assert!(check(Place::Path, &[], Some("correct horse battery staple")).is_ok());
        let header = Place::Header("x-secret".into());
        assert!(check(header, &[("x-secret", "the old one, still good")], None).is_ok());
    }

    #[test]
    fn one_flipped_bit_is_refused_at_every_place() {
        for at in 0..SECRET.len() {
            let mut wrong = SECRET.to_vec();
            // The lowest bit, so that it stays a text that a header can hold.
            wrong[at] ^= 1;
            let wrong = String::from_utf8(wrong).unwrap();
            let basic = format!("Basic {}", STANDARD.encode(format!("sns:{wrong}")));
            let bearer = format!("Bearer {wrong}");
            assert_eq!(check(Place::Bearer, &[("authorization", &bearer)], None), Err(Refused("bad_secret")));
            assert!(check(Place::Basic { user: "sns".into() }, &[("authorization", &basic)], None).is_err());
            assert!(check(Place::Path, &[], Some(&wrong)).is_err());
            assert!(check(Place::Header("x-secret".into()), &[("x-secret", &wrong)], None).is_err());
        }
    }

    #[test]
    fn a_missing_or_doubled_header_is_refused() {
        let good = "Bearer correct horse battery staple";
        assert_eq!(check(Place::Bearer, &[], None), Err(Refused("missing_header")));
        let twice = [("authorization", good), ("authorization", good)];
        assert_eq!(check(Place::Bearer, &twice, None), Err(Refused("repeated_header")));
        assert_eq!(check(Place::Path, &[], None), Err(Refused("missing_token")));
    }
}
