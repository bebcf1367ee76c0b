//! Change notifications of Microsoft Graph: the address is validated by an echo, each notification carries `clientState`.

use std::path::PathBuf;

use serde::Deserialize;

use super::secrets::Secrets;
use super::{Proof, Refused};

/// Longer tokens are not echoed.
const LONGEST_TOKEN: usize = 2048;

/// More notifications in one body are not read.
const MOST_NOTIFICATIONS: usize = 10_000;

/// Microsoft Graph.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSettings {
    /// One file with the `clientState` of the subscription, or two while one replaces the other.
    pub secret_files: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Graph {
    secrets: Secrets,
}

#[derive(Deserialize)]
struct Notifications {
    value: Vec<Notification>,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "clientState")]
    client_state: String,
}

impl Graph {
    pub(super) fn load(settings: &GraphSettings) -> Result<Self, String> {
        Ok(Self { secrets: Secrets::read(&settings.secret_files)? })
    }

    /// Every notification of the body must carry the state; one that does not makes all of them suspect.
    pub(super) fn check(&self, body: &[u8]) -> Result<Proof, Refused> {
        let all: Notifications = serde_json::from_slice(body).map_err(|_| Refused("no_client_state"))?;
        if all.value.is_empty() || all.value.len() > MOST_NOTIFICATIONS {
            return Err(Refused("no_client_state"));
        }
        let mut number = None;
        let mut is_good = true;
        for one in &all.value {
            let found = self.secrets.find(one.client_state.as_bytes());
            is_good &= found.is_some();
            number = number.or(found);
        }
        match number {
            Some(number) if is_good => Ok(Proof::of(format!("graph clientState {number}"))),
            _ => Err(Refused("bad_secret")),
        }
    }
}

/// The token that Microsoft Graph wants echoed, where a query has one: `validationToken=…`, percent-decoded.
///
/// Only printable ASCII of bounded length: it is sent back as plain text, and must not become anything else.
pub fn validation_token(query: Option<&str>) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("validationToken="))?;
    if value.len() > LONGEST_TOKEN {
        return None;
    }
    let mut token = String::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            b'+' => b' ',
            other => other,
        };
        if !(b' '..=b'~').contains(&byte) {
            return None;
        }
        token.push(char::from(byte));
    }
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Proof, Refused> {
        Graph { secrets: Secrets::of(&[b"the state of the subscription"]) }.check(body.as_bytes())
    }

    #[test]
    fn every_notification_must_carry_the_state() {
        let good = r#"{"clientState":"the state of the subscription","resource":"security/alerts_v2/1"}"#;
        assert_eq!(check(&format!(r#"{{"value":[{good},{good}]}}"#)).unwrap().sender, "graph clientState 1");
        let wrong = r#"{"clientState":"the state of the subscriptioN"}"#;
        for body in [
            format!(r#"{{"value":[{good},{wrong}]}}"#),
            format!(r#"{{"value":[{wrong},{good}]}}"#),
            format!(r#"{{"value":[{good},{{}}]}}"#),
            r#"{"value":[]}"#.to_owned(),
            "[]".to_owned(),
            String::new(),
        ] {
            assert!(check(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn one_flipped_bit_of_the_state_is_refused() {
        let state = "the state of the subscription";
        for at in 0..state.len() {
            let mut wrong = state.as_bytes().to_vec();
            wrong[at] ^= 1;
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(check(&format!(r#"{{"value":[{{"clientState":"{wrong}"}}]}}"#)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_validation_token_is_decoded_and_nothing_odd_is_echoed() {
        let token = |query| validation_token(Some(query));
        assert_eq!(token("validationToken=Validation%3a+Testing").as_deref(), Some("Validation: Testing"));
        assert_eq!(token("a=b&validationToken=abc").as_deref(), Some("abc"));
        for query in [
            "validationToken=",
            "validationToken=a%0d%0ab",
            "validationToken=%zz",
            "validationToken=%c3%a9",
            "x=1",
        ] {
            assert_eq!(token(query), None, "{query}");
        }
        assert_eq!(token(&format!("validationToken={}", "a".repeat(LONGEST_TOKEN + 1))), None);
        assert_eq!(validation_token(None), None);
    }
}
