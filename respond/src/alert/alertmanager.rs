//! Prometheus Alertmanager, webhook version 4: a group, of which each alert is an alert here.
//!
//! - Id: `fingerprint`; `startsAt` is the occurrence, and being resolved another one.
//! - Severity: the word in `labels.severity`: critical or page 95, error 80, warning 50, info 10, none 0.
//! - Assets, by labels: `pod` with `namespace` (and `cluster`), `container_id`, `instance_id`; `instance` without its port,
//!   `host`, `hostname` and `node` as hosts. Where the scraper's own labels win (`honor_labels` off), `pod` and `instance` are
//!   those of the exporter and not of what it tells of; a mapping can name other labels.
//! - Alerts that the sender cut off (`truncatedAlerts`) are noted on each that came.

use super::draft::{id_of, severity_of_word};
use super::{Alert, AssetKind, Item, SourceKind, Unparsed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "alertmanager",
    about: "Prometheus Alertmanager webhook, version 4",
    severity: "the label `severity`: critical 95, error 80, warning 50, info 10, none 0",
    event_bridge: false,
    items: |body| body.list("alerts").collect(),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let fields = item.alert;
    let labels = fields.at("labels");
    let annotations = fields.at("annotations");
    if !labels.value().is_object() {
        return Err(Unparsed("`labels` is not there".to_owned()));
    }
    let fingerprint = fields.raw("fingerprint");
    let id = if fingerprint.is_empty() { id_of(&[labels.value()]) } else { fingerprint };
    let mut alert = Alert::begin(SOURCE.word, &id);
    alert.occurrence = fields.text("startsAt");
    alert.kind = labels.text("alertname");
    alert.title = annotations.first_text(&["summary", "title", "description", "message"]);
    if alert.title.is_empty() {
        alert.title.clone_from(&alert.kind);
    }
    let label = labels.text("severity");
    alert.severity(severity_of_word(&label), label);
    alert.seen(fields, "startsAt", "");
    alert.account = labels.first_text(&["account", "account_id"]);
    alert.region = labels.text("region");
    let (namespace, pod) = (labels.text("namespace"), labels.text("pod"));
    if !namespace.is_empty() && !pod.is_empty() {
        alert.asset(AssetKind::K8sPod, &format!("{}/{namespace}/{pod}", labels.text("cluster")), "primary");
    }
    alert.asset(AssetKind::Container, &labels.text("container_id"), "primary");
    let role = if alert.has_primary() { "node" } else { "primary" };
    alert.asset(AssetKind::Ec2Instance, &labels.text("instance_id"), role);
    let instance = without_port(&labels.text("instance"));
    alert.hosts(&[instance, labels.text("host"), labels.text("hostname"), labels.text("node")], role);
    alert.principal(&labels.text("user"));
    alert.link(&fields.text("generatorURL"));
    alert.resolved_if(fields.text("status") == "resolved");
    let cut_off = item.body.number("truncatedAlerts").unwrap_or_default();
    if cut_off > 0.0 {
        alert.note(format!("{cut_off} more alerts of the group were cut off by the sender (max_alerts)"));
    }
    Ok(alert)
}

/// `host:9100`, `[2001:db8::1]:9100`, `192.0.2.1`, `https://host:9100/metrics`.
fn without_port(instance: &str) -> String {
    let bare = instance.split_once("://").map_or(instance, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or(bare);
    match bare.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6).to_owned(),
        None => match bare.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.contains(':') => {
                host.to_owned()
            }
            _ => bare.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn an_instance_loses_its_port_and_nothing_else() {
        let bare =
            ["web:9100", "[2001:db8::1]:9100", "2001:db8::1", "192.0.2.1:80", "https://web:1/metrics", "web"];
        assert_eq!(bare.map(without_port), ["web", "2001:db8::1", "2001:db8::1", "192.0.2.1", "web", "web"]);
    }
}
