//! CrowdStrike Falcon: alerts of API v2, events of the event stream, and webhooks of Fusion workflows.
//!
//! - Comes as: an alert or a list of them (`resources`), an event (`metadata` and `event`), or a workflow's `data` with dotted
//!   keys and `meta`.
//! - Id: `composite_id`. A workflow sends what its author chose; without an id the content's hash stands for it.
//! - Severity: 0 to 100 as it is; the old `DetectionSummaryEvent` has 1 to 5, which are 10, 30, 50, 80, 95; without a figure, the word.
//! - Samples: the vendor's own test, which runs a command that says `crowdstrike_sample_detection`.
//! - ATT&CK: ids or names as sent; the vendor's own `CSTA`/`CST` ids stay as they are.
//! - Host: agent id, host name, and the cloud instance where the sensor knows it.

use super::draft::{id_of, required, severity_of_word};
use super::fields::Fields;
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "crowdstrike",
    about: "CrowdStrike Falcon alerts v2, event stream detections and Fusion webhooks",
    severity: "0 to 100 as sent; 1 to 5 of old detections are 10, 30, 50, 80, 95; words: low 30, medium 50, high 80, critical 95",
    event_bridge: false,
    items: |body| listed(body, &["resources", "alerts"]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    if item.alert.at("metadata").is_there() && item.alert.at("event").is_there() {
        stream_event(item.alert)
    } else if item.alert.at("data").value().is_object() && item.alert.at("meta").value().is_object() {
        Ok(workflow(item.alert))
    } else {
        alert(item.alert)
    }
}

fn alert(fields: Fields<'_>) -> Result<Alert, Unparsed> {
    let mut alert = Alert::begin(SOURCE.word, &required(fields, "composite_id")?);
    alert.title = fields.first_text(&["display_name", "name", "description"]);
    alert.kind = fields.first_text(&["scenario", "type"]);
    alert.occurrence = fields.first_text(&["updated_timestamp", "timestamp"]);
    set_severity(&mut alert, fields.number("severity"), fields.text("severity_name"));
    alert.account = fields.text("cid");
    alert.seen(fields, "timestamp", "updated_timestamp");
    if alert.first_seen.is_none() {
        alert.seen(fields, "created_timestamp", "updated_timestamp");
    }
    let device = fields.at("device");
    cloud_instance(&mut alert, device);
    let agent = fields.first_text(&["device/device_id", "agent_id"]);
    alert.hosts(&[agent, device.text("hostname")], "primary");
    for path in ["user_name", "user_principal", "user_id", "source_account_name"] {
        alert.principal(&fields.text(path));
    }
    for access in fields.list("network_accesses") {
        alert.ip(&access.text("remote_address"));
    }
    alert.ip(&fields.text("source_endpoint_address_ip4"));
    for path in ["sha256", "sha1", "md5"] {
        alert.hash(&fields.text(path));
    }
    fields.list("quarantined_files").for_each(|file| alert.hash(&file.text("sha256")));
    alert.attack(
        &fields.first_text(&["tactic_id", "tactic"]),
        &fields.first_text(&["technique_id", "technique"]),
    );
    for attack in fields.list("mitre_attack") {
        alert.attack(&attack.text("tactic_id"), &attack.text("technique_id"));
    }
    alert.link(&fields.text("falcon_host_link"));
    alert.is_sample = says_sample(&fields.text("cmdline"));
    alert.resolved_if(matches!(fields.text("status").as_str(), "closed" | "resolved"));
    Ok(alert)
}

fn stream_event(fields: Fields<'_>) -> Result<Alert, Unparsed> {
    let kind = fields.text("metadata/eventType");
    if !kind.ends_with("DetectionSummaryEvent") {
        return Err(Unparsed(format!("an event {kind:?} is no detection")));
    }
    let event = fields.at("event");
    let id = event.raw("CompositeId");
    let id = if id.is_empty() { required(event, "DetectId")? } else { id };
    let mut alert = Alert::begin(SOURCE.word, &id);
    alert.title = event.first_text(&["Name", "DetectName", "Description", "DetectDescription"]);
    alert.kind = kind;
    alert.occurrence = fields.text("metadata/eventCreationTime");
    let old = alert.kind == "DetectionSummaryEvent";
    let figure = event.number("Severity").map(|severity| if old { of_five(severity) } else { severity });
    set_severity(&mut alert, figure, event.text("SeverityName"));
    alert.account = fields.text("metadata/customerIDString");
    alert.first_seen = fields.at("metadata").time_ms("eventCreationTime");
    let names = [event.first_text(&["AgentId", "SensorId"]), event.first_text(&["Hostname", "ComputerName"])];
    alert.hosts(&names, "primary");
    alert.principal(&event.text("UserName"));
    for access in event.list("NetworkAccesses") {
        alert.ip(&access.text("RemoteAddress"));
    }
    for path in ["SHA256String", "SHA1String", "MD5String"] {
        alert.hash(&event.text(path));
    }
    alert.attack(&event.text("Tactic"), &event.text("Technique"));
    for attack in event.list("MitreAttack") {
        alert.attack(
            &attack.first_text(&["TacticID", "Tactic"]),
            &attack.first_text(&["TechniqueID", "Technique"]),
        );
    }
    alert.link(&event.text("FalconHostLink"));
    alert.is_sample = says_sample(&event.text("CommandLine"));
    Ok(alert)
}

fn workflow(fields: Fields<'_>) -> Alert {
    // Keys are `detections.hostname` and the like; which of them come is the author's choice.
    let named = |names: &[&str]| {
        names.iter().find_map(|name| {
            let mut texts = fields
                .entries("data")
                .filter(|(key, _)| key.rsplit('.').next() == Some(name))
                .map(|(_, value)| value.as_text())
                .filter(|text| !text.is_empty());
            texts.next()
        })
    };
    let text = |names: &[&str]| named(names).unwrap_or_default();
    let id = named(&["composite_id", "detect_id", "detection_id", "alert_id", "id"]);
    let id = id.unwrap_or_else(|| id_of(&[fields.at("data").value()]));
    let mut alert = Alert::begin(SOURCE.word, &id);
    alert.title = text(&["display_name", "name", "description"]);
    alert.kind = fields.text("meta/trigger_name");
    if alert.title.is_empty() {
        alert.title.clone_from(&alert.kind);
    }
    let said = text(&["severity"]);
    let name = named(&["severity_name"]).unwrap_or_else(|| said.clone());
    set_severity(&mut alert, said.parse().ok(), name);
    alert.account = text(&["cid", "customer_id"]);
    for when in [fields.at("meta").time_ms("timestamp"), fields.time("meta/timestamp")] {
        alert.first_seen = alert.first_seen.take().or(when);
    }
    alert.hosts(&[text(&["device_id", "aid", "agent_id", "sensor_id"]), text(&["hostname"])], "primary");
    alert.principal(&text(&["user_name"]));
    alert.hash(&text(&["sha256"]));
    alert.attack(&text(&["tactic_id", "tactic"]), &text(&["technique_id", "technique"]));
    alert.link(&text(&["url", "falcon_host_link"]));
    alert.is_sample = says_sample(&text(&["command_line", "cmdline"]));
    alert
}

fn set_severity(alert: &mut Alert, figure: Option<f64>, label: String) {
    alert.severity(figure.or_else(|| severity_of_word(&label)), label);
}

/// Informational, low, medium, high, critical were 1 to 5.
fn of_five(severity: f64) -> f64 {
    let steps = [(1.0, 10.0), (2.0, 30.0), (3.0, 50.0), (4.0, 80.0)];
    steps.iter().find(|(step, _)| severity <= *step).map_or(95.0, |(_, percent)| *percent)
}

fn says_sample(command: &str) -> bool {
    command.contains("crowdstrike_sample_detection")
}

fn cloud_instance(alert: &mut Alert, device: Fields<'_>) {
    if device.text("service_provider").starts_with("AWS") {
        "aws".clone_into(&mut alert.cloud);
        alert.account = device.text("service_provider_account_id");
        alert.asset(AssetKind::Ec2Instance, &device.text("instance_id"), "primary");
    }
}
