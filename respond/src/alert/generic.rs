//! Any JSON, by a mapping; without one, by the names that [`PLAIN`] has.

use std::sync::LazyLock;

use super::draft::id_of;
use super::{Alert, Item, Mapping, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "generic",
    about: "any JSON by a mapping file; without one, the field names of an alert of Exhibit",
    severity: "as the mapping says; without one a figure from 0 to 100 or a word",
    event_bridge: false,
    items: |body| listed(body, &["alerts"]),
    read,
};

/// The mapping of those who write their sender themselves, or an alert by hand.
const PLAIN: &str = r#"
[field]
source_id = { at = ["/id", "/source_id"] }
occurrence = "/occurrence"
status = { at = "/status", resolved = ["resolved", "closed", "ok"] }
severity = { at = "/severity", words = { critical = 95, high = 80, medium = 50, low = 30, informational = 10 } }
title = { at = ["/title", "/message"] }
type = "/type"
first_seen = "/first_seen"
last_seen = "/last_seen"
cloud = "/cloud"
account = "/account"
region = "/region"
link = "/link"
is_sample = "/is_sample"
principals = "/principals/*"
ips = "/ips/*"
hashes = "/hashes/*"
techniques = "/techniques/*"

[[asset]]
at = "/assets/*"
id = "/id"
kind_at = "/kind"
role_at = "/role"
"#;

static PLAIN_MAPPING: LazyLock<Result<Mapping, String>> = LazyLock::new(|| Mapping::parse(PLAIN));

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    if !item.alert.value().is_object() {
        return Err(Unparsed("the alert is no object".to_owned()));
    }
    let alert = Alert::begin(SOURCE.word, &id_of(&[item.alert.value()]));
    if item.is_mapped {
        return Ok(alert);
    }
    match &*PLAIN_MAPPING {
        Ok(mapping) => mapping.apply(item.alert, alert),
        Err(why) => Err(Unparsed(why.clone())),
    }
}
