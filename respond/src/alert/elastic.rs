//! Elastic Security and Kibana: detection alerts, as a webhook connector posts them.
//!
//! - Comes as: what the connector's template says. It has to hold `kibana.alert.uuid`; `{{{context.alerts}}}` as the value of
//!   `alerts`, or one alert, both do. Keys may be dotted (`"host.name"`), nested, or mixed.
//! - Id: `kibana.alert.uuid`, which is one detection; repetitions are retries.
//! - Severity: `kibana.alert.risk_score` 0 to 100; without it the word of `kibana.alert.severity`.
//! - Over: `kibana.alert.status` recovered or untracked, or its workflow closed.

use super::draft::severity_of_word;
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "elastic",
    about: "Elastic Security alerts, posted by a Kibana webhook connector",
    severity: "risk score 0 to 100; else low 30, medium 50, high 80, critical 95",
    event_bridge: false,
    items: |body| listed(body, &["alerts"]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    // Hits of a search have the document below `_source`.
    let source = item.alert.at("_source");
    let fields = if source.is_there() { source } else { item.alert };
    let text = |path: &str| fields.dotted(path).as_text();
    let id = fields.dotted("kibana.alert.uuid").raw("");
    if id.is_empty() {
        return Err(Unparsed(
            "`kibana.alert.uuid` is not there: the connector's template has to hold it".to_owned(),
        ));
    }
    let mut alert = Alert::begin(SOURCE.word, &id);
    alert.kind = text("kibana.alert.rule.name");
    alert.title = text("kibana.alert.reason");
    if alert.title.is_empty() {
        alert.title.clone_from(&alert.kind);
    }
    let label = text("kibana.alert.severity");
    let figure = fields.dotted("kibana.alert.risk_score").as_number();
    alert.severity(figure.or_else(|| severity_of_word(&label)), label);
    alert.first_seen = ["kibana.alert.original_time", "kibana.alert.start", "@timestamp"]
        .iter()
        .find_map(|path| super::fields::time(&text(path)));
    alert.last_seen = super::fields::time(&text("kibana.alert.last_detected"));
    alert.account = text("cloud.account.id");
    alert.region = text("cloud.region");
    let cloud = text("cloud.provider");
    if matches!(cloud.as_str(), "aws" | "azure" | "gcp") {
        alert.cloud = cloud;
    }
    let namespace = text("orchestrator.namespace");
    let pod = [text("orchestrator.resource.name"), text("kubernetes.pod.name")]
        .into_iter()
        .find(|pod| !pod.is_empty());
    let namespace = if namespace.is_empty() { text("kubernetes.namespace") } else { namespace };
    if let Some(pod) = pod.filter(|_| !namespace.is_empty()) {
        alert.asset(
            AssetKind::K8sPod,
            &format!("{}/{namespace}/{pod}", text("orchestrator.cluster.name")),
            "primary",
        );
    }
    let container = text("container.id");
    let role = if alert.has_primary() || !container.is_empty() { "node" } else { "primary" };
    alert.asset(AssetKind::Container, &container, "primary");
    if alert.cloud == "aws" {
        alert.asset(AssetKind::Ec2Instance, &text("cloud.instance.id"), role);
    }
    alert.hosts(&[text("host.id"), text("host.name")], role);
    for path in ["user.name", "user.id", "client.user.name"] {
        alert.principal(&text(path));
    }
    let sides: &[&str] = match text("network.direction").as_str() {
        "egress" | "outbound" | "outgoing" => &["destination.ip"],
        "ingress" | "inbound" | "incoming" => &["source.ip"],
        _ => &["source.ip", "destination.ip"],
    };
    sides.iter().for_each(|side| alert.ip(&text(side)));
    for of in ["file", "process"] {
        for hash in ["sha256", "sha1", "md5"] {
            alert.hash(&text(&format!("{of}.hash.{hash}")));
        }
    }
    for threat in fields.dotted("kibana.alert.rule.threat").list("") {
        let tactic = threat.first_text(&["tactic/id", "tactic/name"]);
        let mut named = false;
        for technique in threat.list("technique") {
            alert.attack(&tactic, &technique.first_text(&["id", "name"]));
            technique
                .list("subtechnique")
                .for_each(|below| alert.attack(&tactic, &below.first_text(&["id", "name"])));
            named = true;
        }
        if !named {
            alert.attack(&tactic, "");
        }
    }
    alert.link(&text("kibana.alert.url"));
    let over = matches!(text("kibana.alert.status").as_str(), "recovered" | "untracked")
        || text("kibana.alert.workflow_status") == "closed";
    alert.resolved_if(over);
    Ok(alert)
}
