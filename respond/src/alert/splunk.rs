//! Splunk: the webhook action of an alert.
//!
//! - Comes as: `sid`, `search_name`, `result` (the first row, or each where the alert says so). `search_name` may be null.
//! - Id: `sid` with the hash of the row: one search gives many rows.
//! - Columns are what the search made them. These are read where they are there: `dest`, `dest_host`, `dvc`, `host` (the first
//!   of them); `user`, `src_user`; `src`, `src_ip`; `file_hash`; `severity`, `urgency`, `risk_score`; `_time`. A mapping (see
//!   [`super::Mapping`]) names others.
//! - Severity: `risk_score` 0 to 100, else the word; without either 0.
//! - Times: `_time` in seconds since 1970 or with a zone.

use super::draft::{id_of, severity_of_word};
use super::fields::{Fields, epoch};
use super::{Alert, AssetKind, Item, SourceKind, Unparsed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "splunk",
    about: "Splunk webhook alert action",
    severity: "`risk_score` 0 to 100; else low 30, medium 50, high 80, critical 95; a mapping can say otherwise",
    event_bridge: false,
    items: |body| vec![body],
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let fields = item.alert;
    let result = fields.at("result");
    if !result.value().is_object() {
        return Err(Unparsed("`result` is no row".to_owned()));
    }
    let mut alert =
        Alert::begin(SOURCE.word, &format!("{}/{}", fields.text("sid"), id_of(&[result.value()])));
    alert.kind = fields.text("search_name");
    alert.title = result.first_text(&["title", "rule_title", "rule_name", "signature"]);
    if alert.title.is_empty() {
        alert.title.clone_from(&alert.kind);
    }
    let label = result.first_text(&["severity", "urgency"]);
    alert.severity(result.number("risk_score").or_else(|| severity_of_word(&label)), label);
    let time = result.text("_time");
    alert.first_seen = result.time("_time").or_else(|| epoch(&time, 1_000_000_000));
    alert.hosts(&[result.first_text(&["dest", "dest_host", "dest_nt_host", "dvc", "host"])], "primary");
    for instance in ["instance_id", "dest_instance_id"].map(|path| result.text(path)) {
        // The column is anyone's: only what is an instance becomes one.
        if AssetKind::Ec2Instance.allows(&instance) {
            alert.asset(AssetKind::Ec2Instance, &instance, "primary");
        }
    }
    for path in ["user", "src_user"] {
        alert.principal(&result.text(path));
    }
    for path in ["src", "src_ip"] {
        alert.ip(&result.text(path));
    }
    result.list("file_hash").for_each(|hash| alert.hash(&hash.as_text()));
    for path in [
        "annotations.mitre_attack",
        "annotations/mitre_attack",
        "annotations.mitre_attack.mitre_technique_id",
    ] {
        result.list(path).map(Fields::as_text).for_each(|technique| alert.attack("", &technique));
    }
    alert.link(&fields.text("results_link"));
    Ok(alert)
}
