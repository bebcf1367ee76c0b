//! Google Security Command Center: findings, by Pub/Sub push.
//!
//! - Comes as: a push whose data is a notification with `finding` and `resource`; also such a notification alone.
//! - Id: `finding.name`. Occurrence: `eventTime`. Over: `INACTIVE`, or muted.
//! - Severity: low 30, medium 50, high 80, critical 95.
//! - Asset: an instance by its name, as a host; pods.

use super::draft::{required, severity_of_word};
use super::fields::{Fields, after_last};
use super::{Alert, AssetKind, Item, SourceKind, Unparsed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "gcp_scc",
    about: "Google Security Command Center findings, by Pub/Sub push",
    severity: "low 30, medium 50, high 80, critical 95",
    event_bridge: false,
    items: |body| vec![body],
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let finding = item.alert.at("finding");
    let mut alert = Alert::begin(SOURCE.word, &required(finding, "name")?);
    alert.kind = finding.text("category");
    alert.title = finding.first_text(&["description", "category"]);
    alert.occurrence = finding.text("eventTime");
    let label = finding.text("severity");
    alert.severity(severity_of_word(&label), label);
    alert.seen(finding, "createTime", "eventTime");
    "gcp".clone_into(&mut alert.cloud);
    let resource = item.alert.at("resource");
    let project = resource.first_text(&["gcpMetadata/project", "project", "projectDisplayName"]);
    after_last(&project, ['/', '/']).clone_into(&mut alert.account);
    alert.region = resource.text("location");
    let name = finding.text("resourceName");
    let mut cluster = String::new();
    if let Some((_, instance)) = name.rsplit_once("/instances/")
        && name.starts_with("//compute.googleapis.com/")
    {
        // The path ends in a number; people and inventories know the display name.
        alert.hosts(&[resource.text("displayName"), instance.to_owned()], "primary");
    }
    if let Some((_, named)) = name.split_once("/clusters/") {
        named.split('/').next().unwrap_or_default().clone_into(&mut cluster);
    }
    for pod in finding.list("kubernetes/pods") {
        alert.asset(
            AssetKind::K8sPod,
            &format!("{cluster}/{}/{}", pod.text("ns"), pod.text("name")),
            "primary",
        );
    }
    alert.principal(&finding.text("access/principalEmail"));
    alert.ip(&finding.text("access/callerIp"));
    finding.list("indicator/ipAddresses").for_each(|ip| alert.ip(&ip.as_text()));
    finding.list("files").for_each(|file| alert.hash(&file.text("sha256")));
    let tactic = finding.text("mitreAttack/primaryTactic");
    for technique in finding.list("mitreAttack/primaryTechniques").map(Fields::as_text) {
        alert.attack(&tactic, &technique);
    }
    alert.link(&finding.text("externalUri"));
    alert.resolved_if(finding.text("state") == "INACTIVE" || finding.text("mute") == "MUTED");
    Ok(alert)
}
