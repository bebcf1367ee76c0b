//! Darktrace: incidents of the AI Analyst, and model breaches.
//!
//! - Comes as: one of either, or a list. How they are delivered (syslog, polling, a webhook module) is not told by the form.
//! - Id: `id` of an incident, `pbid` of a breach. Occurrence: `createdAt` with the end of the last period, or `time`.
//! - Severity: `aiaScore` 0 to 100; `score` 0 to 1 of a breach, times 100.
//! - Numbers come as texts too, addresses may carry a mask, and `did` -1 is Darktrace itself, no device.

use super::draft::required;
use super::fields::{Fields, address};
use super::{Alert, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "darktrace",
    about: "Darktrace AI Analyst incidents and model breaches",
    severity: "`aiaScore` as it is; `score` of a breach times 100",
    event_bridge: false,
    items: |body| listed(body, &[]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    if item.alert.at("pbid").is_there() { breach(item.alert) } else { incident(item.alert) }
}

fn incident(fields: Fields<'_>) -> Result<Alert, Unparsed> {
    required(fields, "aiaScore")?;
    let mut alert = Alert::begin(SOURCE.word, &required(fields, "id")?);
    alert.title = fields.text("title");
    alert.kind = fields.text("summariser");
    alert.severity(fields.number("aiaScore"), fields.text("category"));
    let ends = fields.list("periods").filter_map(|period| period.number("end").map(|end| (end, period)));
    let last = ends.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, period)| period);
    alert.occurrence = fields.text("createdAt");
    if let Some(last) = last {
        alert.occurrence = format!("{}/{}", alert.occurrence, last.text("end"));
        alert.last_seen = last.time_ms("end");
    }
    let starts = fields.list("periods").filter_map(|period| period.time_ms("start"));
    alert.first_seen = starts.min().or_else(|| fields.time_ms("createdAt"));
    fields.list("breachDevices").for_each(|device| add_device(&mut alert, device, "primary"));
    for section in fields.list("details").flat_map(|group| group.list("")) {
        for content in section.list("contents") {
            let is_user = content.text("key").to_ascii_lowercase().contains("username");
            for value in content.list("values") {
                // A device of ours has a number.
                if value.number("did").is_none() {
                    alert.ip(&value.text("ip"));
                }
                if is_user {
                    alert.principal(&value.as_text());
                }
            }
        }
    }
    alert.link(&fields.text("incidentEventUrl"));
    Ok(alert)
}

fn breach(fields: Fields<'_>) -> Result<Alert, Unparsed> {
    let mut alert = Alert::begin(SOURCE.word, &required(fields, "pbid")?);
    // Newer versions keep the model as it was and as it is.
    alert.kind = fields.first_text(&["model/name", "model/then/name", "model/now/name"]);
    alert.title = alert.kind.replace("::", ": ");
    alert.occurrence = fields.text("time");
    let label = fields.first_text(&["model/category", "model/then/category", "model/now/category"]);
    alert.severity(fields.number("score").map(|score| score * 100.0), label);
    alert.first_seen = fields.time_ms("time");
    add_device(&mut alert, fields.at("device"), "primary");
    for name in fields.list("device/credentials").map(Fields::as_text) {
        alert.principal(&name);
    }
    for filter in fields.list("triggeredComponents").flat_map(|component| component.list("triggeredFilters"))
    {
        if matches!(filter.text("filterType").as_str(), "Destination IP" | "Source IP") {
            alert.ip(&filter.text("trigger/value"));
        }
    }
    for technique in fields.list("mitreTechniques") {
        alert.attack("", &technique.first_text(&["techniqueID", "technique"]));
    }
    alert.link(&fields.text("breachUrl"));
    Ok(alert)
}

fn add_device(alert: &mut Alert, device: Fields<'_>, role: &str) {
    if device.number("did").is_some_and(|number| number < 0.0) {
        return;
    }
    let ip = address(&device.text("ip")).map(|ip| ip.to_string()).unwrap_or_default();
    alert.hosts(&[device.text("hostname"), ip], role);
}
