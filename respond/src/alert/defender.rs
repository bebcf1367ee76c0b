//! Microsoft Defender XDR: alerts of Graph `alerts_v2`, and those of the older Defender for Endpoint API.
//!
//! - Comes as: an alert or a list of them (`value`), as a playbook or an export posts it. A Graph change notification holds
//!   only the name of an alert; it is recognised and refused as thin, so that it is kept and somebody is told.
//! - Id: `id`. Occurrence: `lastUpdateDateTime`.
//! - Severity: informational 10, low 30, medium 50, high 80.
//! - Primary device: the one whose roles say so, else the first.
//! - Samples: titles that begin with `[Test Alert]`.

use super::draft::{required, severity_of_word};
use super::fields::{Fields, after_last};
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "defender",
    about: "Microsoft Defender XDR alerts (Graph alerts_v2) and Defender for Endpoint alerts",
    severity: "informational 10, low 30, medium 50, high 80",
    event_bridge: false,
    items: |body| listed(body, &["value"]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let fields = item.alert;
    if fields.at("subscriptionId").is_there() && fields.at("changeType").is_there() {
        let about = fields.first_text(&["resourceData/id", "resource"]);
        return Err(Unparsed(format!(
            "a thin change notification: it names the alert {about:?} but does not hold it; have a playbook post the alert itself"
        )));
    }
    let mut alert = Alert::begin(SOURCE.word, &required(fields, "id")?);
    required(fields, "title")?;
    alert.title = fields.text("title");
    alert.kind = fields.text("category");
    alert.occurrence = fields.first_text(&["lastUpdateDateTime", "lastUpdateTime"]);
    let label = fields.text("severity");
    alert.severity(severity_of_word(&label), label);
    alert.account = fields.first_text(&["tenantId", "aadTenantId"]);
    alert.seen(fields, "firstActivityDateTime", "lastActivityDateTime");
    if alert.first_seen.is_none() {
        alert.seen(fields, "createdDateTime", "lastUpdateDateTime");
    }
    if alert.first_seen.is_none() {
        alert.seen(fields, "alertCreationTime", "lastEventTime");
    }
    alert.hosts(&[fields.text("machineId"), fields.text("computerDnsName")], "primary");
    let is_said = fields.list("evidence").any(is_primary);
    let mut devices = 0;
    for evidence in fields.list("evidence") {
        if kind_of(evidence) == "deviceevidence" {
            devices += 1;
            let primary = if is_said { is_primary(evidence) } else { devices == 1 };
            device(&mut alert, evidence, if primary { "primary" } else { "device" });
        } else {
            add_evidence(&mut alert, evidence);
        }
    }
    alert.first_is_primary();
    for technique in fields.list("mitreTechniques").map(Fields::as_text) {
        alert.attack("", &technique);
    }
    alert.link(&fields.text("alertWebUrl"));
    alert.is_sample = alert.title.starts_with("[Test Alert]");
    alert.resolved_if(fields.text("status").eq_ignore_ascii_case("resolved"));
    Ok(alert)
}

fn kind_of(evidence: Fields<'_>) -> String {
    let kind = evidence.first_text(&["@odata.type", "entityType"]).to_ascii_lowercase();
    after_last(&kind, ['.', '#']).to_owned()
}

fn is_primary(evidence: Fields<'_>) -> bool {
    let says =
        |list: &str, word: &str| evidence.list(list).any(|role| role.as_text().eq_ignore_ascii_case(word));
    kind_of(evidence) == "deviceevidence"
        && (says("detailedRoles", "PrimaryDevice") || says("roles", "compromised"))
}

fn add_evidence(alert: &mut Alert, evidence: Fields<'_>) {
    match kind_of(evidence).as_str() {
        "userevidence" | "user" => {
            for path in ["userPrincipalName", "accountName", "userSid"] {
                let within = format!("userAccount/{path}");
                alert.principal(&evidence.first_text(&[&within, path]));
            }
        }
        "ipevidence" | "ip" => alert.ip(&evidence.text("ipAddress")),
        "processevidence" | "fileevidence" | "process" | "file" => {
            for of in ["imageFile", "fileDetails", ""] {
                for hash in ["sha256", "sha1", "md5"] {
                    alert.hash(&evidence.at(of).text(hash));
                }
            }
            alert.principal(&evidence.text("userAccount/userPrincipalName"));
        }
        "kubernetespodevidence" => {
            let namespace = evidence.at("namespace");
            let cluster = evidence.first_text(&["namespace/cluster/name", "cluster/name"]);
            let pod = format!("{cluster}/{}/{}", namespace.text("name"), evidence.text("name"));
            alert.asset(AssetKind::K8sPod, &pod, "primary");
        }
        "containerevidence" => alert.asset(AssetKind::Container, &evidence.text("containerId"), "container"),
        _ => {}
    }
}

fn device(alert: &mut Alert, device: Fields<'_>, role: &str) {
    alert.hosts(&[device.text("mdeDeviceId"), device.text("deviceDnsName"), device.text("hostName")], role);
    if let Some(user) = device.list("loggedOnUsers").next() {
        alert.principal(&user.text("accountName"));
    }
}
