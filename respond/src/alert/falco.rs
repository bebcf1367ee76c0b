//! Falco, by its own `http_output` or through falcosidekick.
//!
//! - Comes as: one alert. Keys are read in any letter case; values of `output_fields` may be texts, numbers, null or `<NA>`.
//! - Id: `uuid`, which falcosidekick adds; without it the hash of host, time, rule and fields.
//! - Severity: emergency 100, alert 95, critical 90, error 70, warning 50, notice 30, informational 10, debug 0.
//! - Samples: falcosidekick's own `Test rule`.
//! - Asset: the pod and the container; the host itself is primary only where the event is not from a container. Events of a plugin
//!   (`source` `k8s_audit`, `aws_cloudtrail`, `okta` …) come from elsewhere: `hostname` is then the machine that Falco runs on, and no
//!   asset. Of a cluster's audit, a target that is a pod is the asset.

use super::draft::id_of;
use super::fields::Fields;
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "falco",
    about: "Falco, directly or through falcosidekick",
    severity: "emergency 100, alert 95, critical 90, error 70, warning 50, notice 30, informational 10, debug 0",
    event_bridge: false,
    items: |body| listed(body, &[]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let fields = item.alert;
    let rule = fields.text("rule");
    if rule.is_empty() || fields.text("priority").is_empty() {
        return Err(Unparsed("`rule` or `priority` is not there".to_owned()));
    }
    let of = fields.at("output_fields");
    let said = |key: &str| Some(of.text(key)).filter(|text| text != "<NA>").unwrap_or_default();
    let uuid = fields.raw("uuid");
    let id = if uuid.is_empty() {
        id_of(&[
            fields.at("hostname").value(),
            fields.at("time").value(),
            fields.at("rule").value(),
            of.value(),
        ])
    } else {
        uuid
    };
    let mut alert = Alert::begin(SOURCE.word, &id);
    alert.is_sample = rule == "Test rule";
    alert.kind = rule;
    alert.title = fields.text("output");
    let label = fields.text("priority");
    alert.severity(severity(&label), label);
    alert.seen(fields, "time", "time");

    let (namespace, pod) = (said("k8s.ns.name"), said("k8s.pod.name"));
    if !namespace.is_empty() && !pod.is_empty() {
        let cluster = [said("k8s.cluster.name"), said("cluster")].into_iter().find(|name| !name.is_empty());
        alert.asset(
            AssetKind::K8sPod,
            &format!("{}/{namespace}/{pod}", cluster.unwrap_or_default()),
            "primary",
        );
    }
    if said("ka.target.resource") == "pods" {
        let (namespace, pod) = (said("ka.target.namespace"), said("ka.target.name"));
        if !namespace.is_empty() && !pod.is_empty() {
            let cluster = said("cluster");
            alert.asset(AssetKind::K8sPod, &format!("{cluster}/{namespace}/{pod}"), "primary");
        }
    }
    let container = said("container.id");
    let in_container = !matches!(container.as_str(), "" | "host");
    if in_container {
        alert.asset(AssetKind::Container, &container, "primary");
    }
    let (source, host) = (fields.text("source"), fields.text("hostname"));
    let is_seen_here = ["", "syscall", "internal"].iter().any(|of_host| source.eq_ignore_ascii_case(of_host));
    if is_seen_here {
        let role = if in_container || alert.has_primary() { "node" } else { "primary" };
        alert.hosts(&[host], role);
    } else if !host.is_empty() {
        alert.note(format!("an event of {source:?}: {host:?} is where Falco runs, and no asset"));
    }
    for key in ["user.name", "ka.user.name"] {
        alert.principal(&said(key));
    }
    for key in ["fd.rip", "fd.sip"] {
        alert.ip(&said(key));
    }
    alert.hash(&said("proc.hash.sha256"));
    for tag in fields.list("tags").map(Fields::as_text) {
        if let Some(tactic) = tag.strip_prefix("mitre_") {
            alert.attack(&tactic.replace('_', " "), "");
        } else if is_technique(&tag) {
            alert.attack("", &tag);
        }
    }
    Ok(alert)
}

fn severity(priority: &str) -> Option<f64> {
    Some(match priority.to_ascii_lowercase().as_str() {
        "emergency" => 100.0,
        "alert" => 95.0,
        "critical" => 90.0,
        "error" => 70.0,
        "warning" => 50.0,
        "notice" => 30.0,
        "informational" | "info" => 10.0,
        "debug" => 0.0,
        _ => return None,
    })
}

/// `T1059` or `T1059.004`.
fn is_technique(tag: &str) -> bool {
    let Some(number) = tag.strip_prefix('T') else { return false };
    let (number, below) = number.split_once('.').unwrap_or((number, "000"));
    let is_digits =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(number, 4) && is_digits(below, 3)
}
