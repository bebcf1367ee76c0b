//! Alerts of many products in one form. One file a product; [`SOURCES`] is the table.
//!
//! What a body says is hostile. Texts become lines without control characters, of bounded length; addresses, hashes, links
//! and times are parsed and written anew; an id of an asset has the form of its kind ([`AssetKind::allows`]) or is left out.
//! None of it is fit for a shell or for HTML by that alone: who shows or passes it on escapes it as the place wants.

mod alertmanager;
mod asset_patterns;
mod crowdstrike;
mod darktrace;
mod defender;
mod draft;
mod elastic;
mod envelope;
mod falco;
mod fields;
mod gcp_scc;
mod generic;
mod guardduty;
mod mapping;
mod security_hub;
mod sentinelone;
mod splunk;
pub mod strict_json;
mod wazuh;

use serde::{Deserialize, Serialize};

use envelope::Event;
use fields::Fields;
pub(crate) use fields::line as one_line;
pub use mapping::Mapping;

/// One alert, as rules see it. What the sender did not say is empty.
///
/// A host may be named several times, by each name and id that its product gives it: whoever resolves assets counts those
/// that are one asset of the inventory once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    /// What a person pressed at the sender to send it, such as the name of a custom action of Security Hub; else empty.
    pub action: String,
    /// What of the body could not be used, and why.
    pub notes: Vec<String>,
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
    /// How its severities become 0 to 100.
    pub severity: &'static str,
    /// Whether it comes as an event of Amazon EventBridge.
    event_bridge: bool,
    /// The parts of a body that are an alert each.
    items: for<'a> fn(Fields<'a>) -> Vec<Fields<'a>>,
    /// Reads one of them.
    read: fn(&Item<'_>) -> Result<Alert, Unparsed>,
}

/// One alert of a body, and what surrounds it.
struct Item<'a> {
    alert: Fields<'a>,
    body: Fields<'a>,
    event: &'a Event,
    /// Whether a mapping of the settings will say what is what.
    is_mapped: bool,
}

/// Every product.
pub static SOURCES: &[&SourceKind] = &[
    &guardduty::SOURCE,
    &security_hub::SOURCE,
    &crowdstrike::SOURCE,
    &defender::SOURCE,
    &sentinelone::SOURCE,
    &elastic::SOURCE,
    &splunk::SOURCE,
    &wazuh::SOURCE,
    &falco::SOURCE,
    &alertmanager::SOURCE,
    &darktrace::SOURCE,
    &gcp_scc::SOURCE,
    &generic::SOURCE,
];

/// How many alerts one body may hold.
const MOST_ALERTS: usize = 1000;

/// The product of this word.
#[must_use]
pub fn source(word: &str) -> Option<&'static SourceKind> {
    SOURCES.iter().copied().find(|source| source.word == word)
}

/// Reads the alerts of one body: strict JSON (see [`strict_json`]), taken out of the envelopes of SNS, Pub/Sub and
/// EventBridge. Fields that the mapping names are read as it says, the others as the product has them.
///
/// What an alert lacks is empty, what it has in a wrong form is left out and noted in [`Alert::notes`].
///
/// # Errors
///
/// [`Unparsed`] when the body is no acceptable JSON, or nothing that this product sends as an alert. There is never an
/// empty list.
pub fn read(source_word: &str, mapping: Option<&Mapping>, body: &[u8]) -> Result<Vec<Alert>, Unparsed> {
    let kind =
        source(source_word).ok_or_else(|| Unparsed(format!("no source {:?}", fields::line(source_word))))?;
    let (event, body) = envelope::open(strict_json::read(body)?, kind.event_bridge)?;
    let body = Fields::of(&body);
    if !body.value().is_object() && !body.value().is_array() {
        return Err(Unparsed("the body is no object".to_owned()));
    }
    let items = match mapping {
        Some(mapping) if mapping.has_items() => mapping.items(body),
        _ => (kind.items)(body),
    };
    if items.is_empty() {
        return Err(Unparsed("the body holds no alert".to_owned()));
    }
    if items.len() > MOST_ALERTS {
        return Err(Unparsed(format!("more than {MOST_ALERTS} alerts in one body")));
    }
    let several = items.len() > 1;
    let mut alerts = Vec::with_capacity(items.len());
    for (number, alert) in items.into_iter().enumerate() {
        let item = Item { alert, body, event: &event, is_mapped: mapping.is_some() };
        let read = (kind.read)(&item).and_then(|alert| match mapping {
            Some(mapping) => mapping.apply(item.alert, alert),
            None => Ok(alert),
        });
        // All or nothing: half a body would look like the whole.
        let place =
            |why: Unparsed| if several { Unparsed(format!("alert {}: {why}", number + 1)) } else { why };
        let mut alert = read.map_err(place)?;
        alert.check_place();
        alerts.push(alert);
    }
    Ok(alerts)
}

/// The body itself is the alert, or each item of the first of these lists that there is.
fn listed<'a>(body: Fields<'a>, lists: &[&str]) -> Vec<Fields<'a>> {
    if body.value().is_array() {
        return body.list("").collect();
    }
    match lists.iter().map(|list| body.at(list)).find(|list| list.value().is_array()) {
        Some(list) => list.list("").collect(),
        None => vec![body],
    }
}
