//! Alerts of many products in one form. One file a product; [`SOURCES`] is the table.

mod asset_patterns;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One alert, as rules see it. What the sender did not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// The product, a word of [`SOURCES`].
    pub source: String,
    /// Its id there, the same in every update of it.
    pub source_id: String,
    /// What tells an update from a repetition: the time of the update, or empty.
    pub occurrence: String,
    /// Whether it is firing or resolved.
    pub status: Status,
    /// 0 to 100.
    pub severity: u8,
    /// The sender's own word or figure for it.
    pub severity_label: String,
    /// One line for people.
    pub title: String,
    /// The sender's kind of alert, such as `Backdoor:EC2/C&CActivity.B`.
    #[serde(rename = "type")]
    pub kind: String,
    /// RFC 3339 in UTC, where the sender gave a time.
    pub first_seen: Option<String>,
    /// As `first_seen`.
    pub last_seen: Option<String>,
    /// `aws`, `azure`, `gcp`, or empty.
    pub cloud: String,
    /// The account, subscription or tenant.
    pub account: String,
    /// The region.
    pub region: String,
    /// What it is about.
    pub assets: Vec<AssetRef>,
    /// Users, roles, access keys.
    pub principals: Vec<String>,
    /// Addresses of the other side.
    pub ips: Vec<String>,
    /// Hashes of files.
    pub hashes: Vec<String>,
    /// ATT&CK tactics and techniques.
    pub attack: Vec<Attack>,
    /// Where a person can look at it.
    pub link: String,
    /// Whether the sender says that it is only a sample.
    pub is_sample: bool,
}

/// Whether it still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    #[default]
    Firing,
    /// It is over.
    Resolved,
}

/// What an alert names. Whether there is such a thing only inventory or account can say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssetRef {
    /// What it is.
    pub kind: AssetKind,
    /// Its id or name, as its kind allows: see [`AssetKind::allows`].
    pub id: String,
    /// `primary`, or the sender's word for a lesser part.
    pub role: String,
}

/// Kinds of assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetKind {
    /// `i-…`
    Ec2Instance,
    /// `vol-…`
    EbsVolume,
    /// A container's id, 12 to 64 hexadecimal digits.
    Container,
    /// `cluster/namespace/name`, cluster may be empty.
    K8sPod,
    /// A host's name or the id its EDR gives it.
    Host,
    /// `AKIA…`
    IamAccessKey,
    /// A user's name or ARN.
    IamUser,
    /// A role's name or ARN.
    IamRole,
    /// A bucket's name.
    S3Bucket,
}

/// An ATT&CK tactic or technique, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// `TA0011` or a name.
    pub tactic: String,
    /// `T1071.004` or a name.
    pub technique: String,
}

/// Why a body is no alert of its source: a sentence with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unparsed(pub String);

/// One product: its word, and what reads its bodies.
pub struct SourceKind {
    /// The word in settings and in [`Alert::source`].
    pub word: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Reads one body, which may hold several alerts.
    pub read: fn(&Value) -> Result<Vec<Alert>, Unparsed>,
}

/// Every product.
pub static SOURCES: &[SourceKind] = &[];
