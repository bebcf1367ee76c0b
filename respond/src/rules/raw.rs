//! Rules as a file has them, TOML or JSON: the same types for both. What they mean is checked in `load`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Mode, OnError, Repeat};
use crate::alert::AssetKind;

/// A file of rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFile {
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) defaults: RawDefaults,
    pub(crate) limits: Option<RawLimits>,
    pub(crate) protect: Option<RawProtect>,
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<RawRule>,
}

/// What a rule has that does not say it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDefaults {
    pub(crate) mode: Option<Mode>,
    pub(crate) approval: Option<RawApproval>,
    pub(crate) lease: Option<String>,
    pub(crate) timeout: Option<String>,
    pub(crate) dedup: Option<RawDedup>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    pub(crate) captures: Option<RawCaptures>,
    pub(crate) isolations: Option<RawIsolations>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCaptures {
    pub(crate) per_hour: Option<u64>,
    pub(crate) concurrent: Option<u64>,
    pub(crate) bytes_per_day: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawIsolations {
    pub(crate) per_hour: Option<u64>,
    pub(crate) concurrent: Option<u64>,
    pub(crate) max_share_of_group: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawProtect {
    #[serde(rename = "match")]
    pub(crate) matchers: RawMatch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) about: String,
    pub(crate) order: Option<i64>,
    pub(crate) expires: Option<RawTime>,
    pub(crate) mode: Option<Mode>,
    pub(crate) approval: Option<RawApproval>,
    #[serde(rename = "match")]
    pub(crate) matchers: RawMatch,
    #[serde(default)]
    pub(crate) assets: RawAssets,
    pub(crate) dedup: Option<RawDedup>,
    #[serde(default)]
    pub(crate) rate: RawRates,
    pub(crate) storm: Option<RawStorm>,
    #[serde(default)]
    pub(crate) stop: bool,
    #[serde(default)]
    pub(crate) isolate_first: bool,
    #[serde(rename = "step")]
    pub(crate) steps: Vec<RawStep>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMatch {
    #[serde(default)]
    pub(crate) all: Vec<RawMatcher>,
    #[serde(default)]
    pub(crate) any: Vec<RawMatcher>,
    #[serde(default)]
    pub(crate) none: Vec<RawMatcher>,
}

/// A field and its operators.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMatcher {
    pub(crate) field: String,
    pub(crate) eq: Option<Scalar>,
    #[serde(rename = "in")]
    pub(crate) among: Option<Vec<Scalar>>,
    pub(crate) glob: Option<OneOrMany>,
    pub(crate) prefix: Option<OneOrMany>,
    pub(crate) suffix: Option<OneOrMany>,
    pub(crate) contains: Option<OneOrMany>,
    pub(crate) gt: Option<f64>,
    pub(crate) gte: Option<f64>,
    pub(crate) lt: Option<f64>,
    pub(crate) lte: Option<f64>,
    pub(crate) cidr: Option<OneOrMany>,
    pub(crate) exists: Option<bool>,
    pub(crate) anything_but: Option<OneOrMany>,
}

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Flag(bool),
    Whole(i64),
    Real(f64),
    Text(String),
}

impl Scalar {
    pub(crate) fn is(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One value, or a list of which one must hold.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    Many(Vec<Scalar>),
    One(Scalar),
}

impl OneOrMany {
    pub(crate) fn all(&self) -> &[Scalar] {
        match self {
            Self::Many(values) => values,
            Self::One(value) => std::slice::from_ref(value),
        }
    }
}

/// A date or time: TOML's own, or RFC 3339 as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawTime {
    Toml(toml::value::Datetime),
    Text(String),
}

impl fmt::Display for RawTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(time) => time.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAssets {
    pub(crate) role: Option<String>,
    pub(crate) kinds: Option<Vec<AssetKind>>,
    pub(crate) max: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDedup {
    pub(crate) key: Option<Vec<String>>,
    pub(crate) window: Option<String>,
    pub(crate) repeat: Option<Repeat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRates {
    pub(crate) per_asset: Option<String>,
    pub(crate) per_rule: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStorm {
    pub(crate) over: String,
    #[serde(rename = "then")]
    pub(crate) then: Then,
}

/// What a storm makes of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Only what is quick and leaves everything as it is.
    TriageOnly,
    /// Nothing but the record of what would be done.
    Observe,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawApproval {
    #[serde(default)]
    pub(crate) from: Vec<String>,
    pub(crate) count: Option<u32>,
    pub(crate) timeout: Option<String>,
    pub(crate) on_timeout: Option<OnTimeout>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnTimeout {
    Run,
    Skip,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetry {
    pub(crate) max: Option<u32>,
    pub(crate) backoff: Option<String>,
}

/// A step. Whatever else it says are its parameters, which its entry in the table of steps must know.
#[derive(Debug, Deserialize)]
pub(crate) struct RawStep {
    pub(crate) id: String,
    #[serde(rename = "use")]
    pub(crate) word: String,
    pub(crate) needs: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) always: bool,
    pub(crate) on_error: Option<OnError>,
    pub(crate) timeout: Option<String>,
    pub(crate) max_wait: Option<String>,
    pub(crate) retry: Option<RawRetry>,
    pub(crate) lease: Option<String>,
    pub(crate) approval: Option<RawApproval>,
    #[serde(flatten)]
    pub(crate) parameters: Map<String, Value>,
}

/// Any JSON in which no object says a key twice. Its content is dropped.
pub(crate) struct NoKeyTwice;

impl<'de> Deserialize<'de> for NoKeyTwice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NoKeyTwice)
    }
}

impl<'de> serde::de::Visitor<'de> for NoKeyTwice {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<NoKeyTwice>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<NoKeyTwice>()?;
            if let Some(key) = keys.insert(key.clone(), ()).map(|()| key) {
                return Err(serde::de::Error::custom(format!("the key {key:?} is there twice")));
            }
        }
        Ok(self)
    }
}
