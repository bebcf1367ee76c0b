//! The public keys that CloudTrail's digest files are signed with.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use custody::strict_json::escape_text;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use crate::aws::Failure;

/// Keys that are kept. CloudTrail makes a few a year and region.
const MOST_KEYS: usize = 10_000;

/// From a second on, and up to one if there is an end.
pub(super) type Since = (i64, Option<i64>);

/// Who can be asked for the keys of a region that signed in a span of time: gives the answers as they came.
pub(super) type AskForKeys<'a> = dyn FnMut(&str, Since) -> Result<Vec<Vec<u8>>, Failure> + 'a;

/// Keys by their fingerprint, and the answers that they came in.
#[derive(Debug, Default)]
pub(super) struct TrailKeys {
    /// PKCS #1 in DER.
    keys: BTreeMap<String, Vec<u8>>,
    asked: BTreeSet<String>,
    /// Evidence: name and bytes of each answer, or of the file that was given.
    answers: Vec<(String, Vec<u8>)>,
    given: bool,
    /// Why keys of a region could not be had.
    pub(super) refused: BTreeMap<String, String>,
}

impl TrailKeys {
    /// Takes the keys of a file, as `aws cloudtrail list-public-keys` writes it. Nobody is asked for others then.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn of_file(bytes: &[u8]) -> Result<Self, String> {
        let mut keys = Self { given: true, ..Self::default() };
        if keys.read(bytes)? == 0 {
            return Err("it lists no key".to_owned());
        }
        keys.answers.push(("given.json".to_owned(), bytes.to_vec()));
        Ok(keys)
    }

    /// Takes over the keys of one answer; gives how many there were.
    fn read(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let answer: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
        let list =
            answer.get("PublicKeyList").or_else(|| answer.get("publicKeyList")).and_then(Value::as_array);
        let list = list.ok_or("it has no PublicKeyList, as `aws cloudtrail list-public-keys` writes it")?;
        let mut count = 0;
        for key in list {
            let field = |name: &str| key.get(name).and_then(Value::as_str);
            let (Some(fingerprint), Some(value)) = (field("Fingerprint"), field("Value")) else {
                return Err("a key has no Fingerprint or no Value".to_owned());
            };
            let der =
                BASE64_STANDARD.decode(value).map_err(|error| format!("a key is not Base64: {error}"))?;
            if self.keys.len() < MOST_KEYS {
                self.keys.insert(fingerprint.to_ascii_lowercase(), der);
                count += 1;
            }
        }
        Ok(count)
    }

    /// The key of that fingerprint; CloudTrail is asked for those of each region once.
    pub(super) fn find(
        &mut self,
        fingerprint: &str,
        regions: &[&str],
        span: Since,
        ask: &mut AskForKeys<'_>,
    ) -> Option<&[u8]> {
        let fingerprint = fingerprint.to_ascii_lowercase();
        for region in regions {
            if self.given || self.keys.contains_key(&fingerprint) {
                break;
            }
            if region.is_empty() || !self.asked.insert((*region).to_owned()) {
                continue;
            }
            match ask(region, span) {
                Ok(answers) => {
                    for (number, answer) in answers.into_iter().enumerate() {
                        if let Err(why) = self.read(&answer) {
                            self.refused
                                .insert((*region).to_owned(), format!("the answer cannot be read: {why}"));
                        }
                        self.answers.push((format!("{region}-{number:03}.json"), answer));
                    }
                }
                Err(failure) => {
                    self.refused.insert((*region).to_owned(), failure.to_string());
                }
            }
        }
        self.keys.get(&fingerprint).map(Vec::as_slice)
    }

    /// Why there is no key, in words.
    pub(super) fn why_not(&self, fingerprint: &str, regions: &[&str]) -> String {
        let fingerprint = escape_text(fingerprint.as_bytes());
        let refused = regions.iter().find_map(|region| self.refused.get(*region).map(|why| (region, why)));
        match refused {
            _ if self.given => format!("the file of keys has none with the fingerprint {fingerprint}"),
            Some((region, why)) => {
                format!(
                    "the keys of {region} could not be had ({why}); the permission is cloudtrail:ListPublicKeys"
                )
            }
            None => format!(
                "CloudTrail names no key with the fingerprint {fingerprint} in {}",
                regions.join(" or ")
            ),
        }
    }

    /// What the keys came in, by name.
    pub(super) fn answers(&self) -> &[(String, Vec<u8>)] {
        &self.answers
    }
}

/// Whether a text was signed by the key (PKCS #1 v1.5 with SHA-256).
pub(super) fn is_signed(der: &[u8], text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(text, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::FailureKind;

    #[test]
    fn keys_come_from_a_file_or_are_asked_for_once_a_region() {
        let list = br#"{"PublicKeyList":[{"Fingerprint":"AB","Value":"AAEC","ValidityStartTime":1.5}]}"#;
        let mut given = TrailKeys::of_file(list).unwrap();
        let mut never = |_: &str, _| panic!("keys were given");
        assert_eq!(given.find("ab", &["r"], (0, None), &mut never), Some([0, 1, 2].as_slice()));
        assert_eq!(given.find("cd", &["r"], (0, None), &mut never), None);
        assert!(given.why_not("cd", &["r"]).contains("cd"));

        let mut asked = Vec::new();
        let mut ask = |region: &str, _| {
            asked.push(region.to_owned());
            if region == "a" {
                Ok(vec![list.to_vec()])
            } else {
                Err(Failure::found("x", FailureKind::Denied, "no"))
            }
        };
        let mut keys = TrailKeys::default();
        assert!(keys.find("ab", &["", "b", "a"], (0, None), &mut ask).is_some());
        assert!(keys.find("cd", &["b", "a"], (0, None), &mut ask).is_none());
        assert_eq!(asked, ["b", "a"]);
        assert!(keys.why_not("cd", &["b"]).contains("cloudtrail:ListPublicKeys"));
        assert_eq!(keys.answers()[0].0, "a-000.json");
    }

    #[test]
    fn a_file_that_holds_no_keys_is_refused() {
        for bad in [
            "",
            "{}",
            "{\"PublicKeyList\":[]}",
            "{\"PublicKeyList\":[{}]}",
            "{\"PublicKeyList\":[{\"Fingerprint\":\"a\",\"Value\":\"!\"}]}",
        ] {
            assert!(TrailKeys::of_file(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
