//! Wazuh: alerts as the manager writes them, sent by an integration script.
//!
//! - Id: the manager's name and `id`, which is unique on it only.
//! - Severity: `rule.level` 0 to 16 on a scale to 100, so that Wazuh's own classes fall into the same bands: 7 is 44, 12 is 75,
//!   15 is 94.
//! - Host: `agent.name`. The number of an agent is none that anything else would know. Agent `000` is the manager: it is the host only
//!   where it watches itself (a file or journal of its own, `syscheck`, `rootcheck`, `sca`). What came to it from elsewhere (syslog of
//!   others, logs of clouds) names no host that is known, and says so.

use super::draft::required;
use super::fields::Fields;
use super::{Alert, Item, SourceKind, Unparsed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "wazuh",
    about: "Wazuh alerts, sent by an integration script of the manager",
    severity: "rule level 0 to 16, times 100/16",
    event_bridge: false,
    items: |body| vec![body],
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let fields = item.alert;
    required(fields, "rule/id")?;
    let id = format!("{}:{}", fields.raw("manager/name"), required(fields, "id")?);
    let mut alert = Alert::begin(SOURCE.word, &id);
    alert.title = fields.text("rule/description");
    alert.kind = fields.text("rule/id");
    alert.severity(fields.number("rule/level").map(|level| level * 100.0 / 16.0), fields.text("rule/level"));
    alert.seen(fields, "timestamp", "timestamp");
    match not_of_the_manager(fields) {
        None => alert.hosts(&[fields.text("agent/name")], "primary"),
        Some(why) => alert.note(why),
    }
    for path in ["srcuser", "dstuser"] {
        alert.principal(&fields.at("data").text(path));
    }
    for path in ["srcip", "dstip"] {
        alert.ip(&fields.at("data").text(path));
    }
    for hash in ["sha256_after", "sha1_after", "md5_after"] {
        alert.hash(&fields.at("syscheck").text(hash));
    }
    // Three lists of their own, which do not go by the same order.
    let mitre = fields.at("rule/mitre");
    mitre.list("id").map(Fields::as_text).for_each(|technique| alert.attack("", &technique));
    mitre.list("tactic").map(Fields::as_text).for_each(|tactic| alert.attack(&tactic, ""));
    Ok(alert)
}

/// Why an alert of agent `000` is not about the manager, which only passed it on.
fn not_of_the_manager(fields: Fields<'_>) -> Option<String> {
    let (id, manager) = (fields.text("agent/id"), fields.text("agent/name"));
    if id.is_empty() || id.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let location = fields.text("location");
    let watches_itself = matches!(location.as_str(), "journald" | "syscheck" | "rootcheck" | "sca")
        || (location.is_empty() && fields.at("syscheck").is_there());
    if watches_itself {
        return None;
    }
    if !location.starts_with('/') {
        return Some(format!("agent 000 is the manager, which got this from {location:?}: no host is known"));
    }
    // A file of the manager in which a syslog server keeps what others send.
    let sender = fields.text("predecoder/hostname");
    let first_label = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_other = !sender.is_empty() && first_label(&sender) != first_label(&manager);
    is_other.then(|| {
        format!("agent 000 is the manager, and {location:?} has what {sender:?} sent: no host is known")
    })
}
