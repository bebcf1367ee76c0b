//! SentinelOne Singularity: threats, and alerts of STAR rules.
//!
//! - Comes as: a threat or alert, or a list of them (`data`).
//! - Id: `threatInfo.threatId` or `alertInfo.alertId`. Occurrence: `updatedAt`.
//! - Severity: of a STAR rule its word (low 30, medium 50, high 80, critical 95); a threat has none, so its confidence stands
//!   for it: malicious 80, suspicious 50.
//! - Host: agent id, computer name, and the cloud instance where the agent knows it.
//! - Hashes are often null.

use super::draft::{required, severity_of_word};
use super::fields::Fields;
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "sentinelone",
    about: "SentinelOne threats and STAR alerts",
    severity: "STAR: low 30, medium 50, high 80, critical 95; threats by confidence: malicious 80, suspicious 50",
    event_bridge: false,
    items: |body| {
        let data = body.at("data");
        if data.value().is_object() { vec![data] } else { listed(body, &["data"]) }
    },
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let fields = item.alert;
    let star = fields.at("alertInfo").is_there();
    let mut alert = if star { star_alert(fields)? } else { threat(fields)? };
    let agent = fields.first_text(&[
        "agentRealtimeInfo/agentId",
        "agentRealtimeInfo/id",
        "agentDetectionInfo/agentId",
    ]);
    let name = fields.first_text(&[
        "agentRealtimeInfo/agentComputerName",
        "agentRealtimeInfo/name",
        "agentDetectionInfo/name",
        "agentDetectionInfo/agentComputerName",
    ]);
    let kubernetes = fields.at("kubernetesInfo");
    let pod = kubernetes.text("pod");
    let role = if pod.is_empty() { "primary" } else { "node" };
    if !pod.is_empty() {
        let pod = format!("{}/{}/{pod}", kubernetes.text("cluster"), kubernetes.text("namespace"));
        alert.asset(AssetKind::K8sPod, &pod, "primary");
    }
    alert.asset(AssetKind::Container, &fields.text("containerInfo/id"), "container");
    let aws = fields.at("agentDetectionInfo/cloudProviders/AWS");
    if aws.is_there() {
        "aws".clone_into(&mut alert.cloud);
        (alert.account, alert.region) = (aws.text("cloudAccount"), aws.text("cloudLocation"));
        alert.asset(AssetKind::Ec2Instance, &aws.text("cloudInstanceId"), role);
    }
    alert.hosts(&[agent, name], role);
    if alert.cloud.is_empty() {
        alert.account = fields.first_text(&["agentDetectionInfo/accountId", "agentRealtimeInfo/accountId"]);
    }
    Ok(alert)
}

fn threat(fields: Fields<'_>) -> Result<Alert, Unparsed> {
    let info = fields.at("threatInfo");
    let mut alert = Alert::begin(SOURCE.word, &required(info, "threatId")?);
    alert.title = info.text("threatName");
    alert.kind = info.text("classification");
    alert.occurrence = info.text("updatedAt");
    let label = info.text("confidenceLevel");
    let severity = match label.as_str() {
        "malicious" => Some(80.0),
        "suspicious" => Some(50.0),
        _ => None,
    };
    alert.severity(severity, label);
    alert.seen(info, "identifiedAt", "updatedAt");
    alert.principal(&info.text("processUser"));
    for hash in ["sha256", "sha1", "md5"] {
        alert.hash(&info.text(hash));
    }
    for indicator in fields.list("indicators") {
        for tactic in indicator.list("tactics") {
            let name = tactic.text("name");
            tactic.list("techniques").for_each(|technique| alert.attack(&name, &technique.text("name")));
        }
    }
    alert.resolved_if(info.text("incidentStatus").eq_ignore_ascii_case("resolved"));
    Ok(alert)
}

fn star_alert(fields: Fields<'_>) -> Result<Alert, Unparsed> {
    let info = fields.at("alertInfo");
    let mut alert = Alert::begin(SOURCE.word, &required(info, "alertId")?);
    alert.title = fields.text("ruleInfo/name");
    alert.kind = info.text("eventType");
    alert.occurrence = info.text("updatedAt");
    let label = fields.text("ruleInfo/severity");
    alert.severity(severity_of_word(&label), label);
    alert.seen(info, "createdAt", "updatedAt");
    let sides: &[&str] = match info.text("netEventDirection").as_str() {
        "OUTGOING" => &["dstIp"],
        "INCOMING" => &["srcIp"],
        _ => &["srcIp", "dstIp"],
    };
    sides.iter().for_each(|side| alert.ip(&info.text(side)));
    alert.principal(&fields.text("sourceProcessInfo/user"));
    alert.principal(&info.text("loginsUserName"));
    for of in ["sourceProcessInfo/fileHash", "targetProcessInfo/tgtFileHash"] {
        for kind in ["Sha256", "Sha1", "Md5"] {
            alert.hash(&fields.text(&format!("{of}{kind}")));
        }
    }
    alert.resolved_if(info.text("incidentStatus").eq_ignore_ascii_case("resolved"));
    Ok(alert)
}
