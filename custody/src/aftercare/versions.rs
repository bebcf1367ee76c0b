//! Versions of a program, and sets of them, as a fault notice names them.
//!
//! Order is that of Semantic Versioning 2.0.0, §11: numbers by value, a pre-release before its release, what follows
//! `+` aside. Missing numbers are 0 and a leading `v` is left out, as people write them. What is no version so is
//! *unknown*, never passed over.

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// A version such as `0.3.0`, `0.3` or `1.0.0-rc.2+abc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    // §11.4.3: numeric identifiers come before others.
    Number(u64),
    Word(String),
}

impl Version {
    /// Reads a version; `None` when the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (plain, pre) = match text.split_once('-') {
            Some((plain, pre)) => (plain, Some(pre)),
            None => (text, None),
        };
        let mut numbers = [0; 3];
        let mut places = numbers.iter_mut();
        for part in plain.split('.') {
            *places.next()? = number(part)?;
        }
        let pre = match pre {
            None => Vec::new(),
            Some(pre) => pre.split('.').map(identifier).collect::<Option<_>>()?,
        };
        Some(Self { numbers, pre })
    }
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn identifier(text: &str) -> Option<Part> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return None;
    }
    Some(number(text).map_or_else(|| Part::Word(text.to_owned()), Part::Number))
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        })
    }
}

/// Which versions are meant: one, or all that meet every condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSet {
    text: String,
    conditions: Vec<(Sign, Version)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Is,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl VersionSet {
    /// Reads `0.3.0`, or conditions such as `>=0.1.0,<0.3.0`. A single word that is no version, such as `nightly`, means
    /// exactly that text.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is empty, or a condition names no version.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let wrong = |why: String| Error::malformed("set of versions", why);
        if text.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        let mut conditions = Vec::new();
        for part in text.split(',').map(str::trim) {
            // The longer signs first.
            let signs = [
                (">=", Sign::AtLeast),
                ("<=", Sign::AtMost),
                (">", Sign::Above),
                ("<", Sign::Below),
                ("=", Sign::Is),
            ];
            let found = signs.into_iter().find_map(|(word, sign)| Some((sign, part.strip_prefix(word)?)));
            let (sign, version) = found.unwrap_or((Sign::Is, part));
            match Version::parse(version.trim()) {
                Some(version) => conditions.push((sign, version)),
                None if found.is_none() && part == text => {
                    return Ok(Self { text: text.to_owned(), conditions });
                }
                None => return Err(wrong(format!("{part:?} names no version such as 0.3.0"))),
            }
        }
        Ok(Self { text: text.to_owned(), conditions })
    }

    /// Every version before this one.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is no version.
    pub fn before(version: &str) -> Result<Self> {
        let version = version.trim();
        match Version::parse(version) {
            Some(_) => Self::parse(&format!("<{version}")),
            None => Err(Error::malformed("version", format!("{version:?}; write it as 0.3.0"))),
        }
    }

    /// Whether a version belongs to it; `None` when that cannot be told from its text.
    pub fn holds(&self, version: &str) -> Option<bool> {
        if version == self.text {
            return Some(true);
        }
        let version = Version::parse(version)?;
        // Only a text is meant, and this is another.
        if self.conditions.is_empty() {
            return Some(false);
        }
        Some(self.conditions.iter().all(|(sign, other)| match sign {
            Sign::Is => version == *other,
            Sign::Below => version < *other,
            Sign::AtMost => version <= *other,
            Sign::Above => version > *other,
            Sign::AtLeast => version >= *other,
        }))
    }
}

impl std::fmt::Display for VersionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semantic_versioning_says() {
        // The chain of https://semver.org/#spec-item-11, with what people leave out.
        let rising = [
            "0.9.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1",
            "1.0.1",
            "1.0.10",
            "1.2",
            "v1.10.0",
            "2.0.0",
        ];
        let parsed: Vec<_> = rising.iter().map(|text| Version::parse(text).unwrap()).collect();
        assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]), "{parsed:?}");
        assert_eq!(Version::parse("1.0.0+a"), Version::parse("v1+b.c"));
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "",
            "v",
            "1.",
            ".1",
            "1..2",
            "1.2.3.4",
            "nightly",
            "1.0.0-",
            "1.0.0-a..b",
            "1.x",
            "-1",
            "99999999999999999999",
            "1.0.0-é",
            "１.0",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_set_is_one_version_or_a_range_and_what_cannot_be_told_is_not_told() {
        let holds = |set: &str, version: &str| VersionSet::parse(set).unwrap().holds(version);
        assert_eq!(holds("0.1.0", "0.1.0"), Some(true));
        assert_eq!(holds("0.1", "0.1.0+build7"), Some(true));
        assert_eq!(holds("0.1.0", "0.1.1"), Some(false));
        assert_eq!(holds(">=0.1.0, <0.3.0", "0.2.9"), Some(true));
        assert_eq!(holds(">=0.1.0,<0.3.0", "0.3.0"), Some(false));
        assert_eq!(holds(">=0.1.0,<0.3.0", "0.3.0-rc.1"), Some(true));
        assert_eq!(holds(">0.1.0,<=0.3.0", "0.1.0"), Some(false));
        assert_eq!(holds(">0.1.0,<=0.3.0", "0.3.0"), Some(true));
        assert_eq!(holds("0.1.0", "git-0a1b2c"), None);
        assert_eq!(holds("<9", ""), None);
        assert_eq!(holds("nightly", "nightly"), Some(true));
        assert_eq!(holds("nightly", "0.1.0"), Some(false));
        assert_eq!(holds("nightly", "weekly"), None);
        assert_eq!(VersionSet::before("0.3").unwrap().holds("0.2.99"), Some(true));
    }

    #[test]
    fn a_set_that_names_no_version_is_refused() {
        for text in ["", " ", "<nightly", ">=0.1.0,x", "0.1.0,", "nightly,0.1.0"] {
            assert!(VersionSet::parse(text).is_err(), "{text:?}");
        }
        assert!(VersionSet::before("nightly").is_err());
        assert!(VersionSet::before("<1").is_err());
    }
}
