//! AWS Security Hub: findings in ASFF, imported or sent by a person's custom action.
//!
//! - Comes as: EventBridge `Security Hub Findings - Imported` or `- Custom Action`, bare or in SNS; also `get-findings`.
//! - Id: `Id`. Occurrence: `UpdatedAt`, which `BatchUpdateFindings` leaves alone: what we or others write back (notes, workflow)
//!   is sent again as imported, but is the same occurrence, so it starts nothing. An action is an occurrence of its own.
//! - Severity: `Normalized` where it agrees with `Label`, else the label: informational 10, low 30, medium 50, high 80, critical 95.
//! - Over: archived, or its workflow resolved or suppressed.
//! - Not read: the newer OCSF events (`Findings Imported V2`) and insight results; they are refused by name.
//! - Reference: Security Hub user guide, "ASFF" and "EventBridge event formats".

use super::draft::{required, severity_of_word};
use super::fields::{Fields, after_last};
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "security_hub",
    about: "AWS Security Hub findings (ASFF), imported or by a custom action, through EventBridge or SNS",
    severity: "the normalised figure where it agrees with the label; else low 30, medium 50, high 80, critical 95",
    event_bridge: true,
    items: |body| listed(body, &["findings"]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let kind = item.event.detail_type.as_str();
    let holds_findings = match item.event.source.as_str() {
        "" => kind.is_empty(),
        "aws.securityhub" => {
            matches!(kind, "Security Hub Findings - Imported" | "Security Hub Findings - Custom Action")
        }
        _ => false,
    };
    if !holds_findings {
        return Err(Unparsed(format!("an event {kind:?} holds no findings in ASFF")));
    }
    let finding = item.alert;
    let mut alert = Alert::begin(SOURCE.word, &required(finding, "Id")?);
    required(finding, "AwsAccountId")?;
    alert.title = finding.text("Title");
    alert.kind = finding.text("Types/0");
    alert.occurrence = finding.text("UpdatedAt");
    alert.action.clone_from(&item.event.action);
    if kind.ends_with("Custom Action") {
        alert.occurrence = format!("action/{}", item.event.id);
    }
    let label = finding.text("Severity/Label");
    alert.severity(severity(finding, &label), label);
    "aws".clone_into(&mut alert.cloud);
    alert.account = finding.text("AwsAccountId");
    alert.region = finding.text("Region");
    alert.seen(finding, "FirstObservedAt", "LastObservedAt");
    if alert.first_seen.is_none() {
        alert.seen(finding, "CreatedAt", "UpdatedAt");
    }
    let product = finding.at("ProductFields");
    alert.is_sample = finding.truth("Sample")
        || product
            .entries("")
            .any(|(key, value)| key.ends_with("additionalInfo/sample") && value.as_text() == "true")
        || alert.title.starts_with("[SAMPLE]");
    finding.list("Resources").for_each(|resource| asset(&mut alert, resource));
    alert.first_is_primary();
    remote_sides(&mut alert, finding);
    for indicator in finding.list("ThreatIntelIndicators") {
        if indicator.text("Type").starts_with("HASH_") {
            alert.hash(&indicator.text("Value"));
        }
    }
    for kind in finding.list("Types").map(Fields::as_text) {
        if let Some(tactic) = kind.strip_prefix("TTPs/") {
            alert.attack(tactic.split('/').next().unwrap_or_default(), "");
        }
    }
    alert.link(&finding.text("SourceUrl"));
    let workflow = finding.text("Workflow/Status");
    let over =
        finding.text("RecordState") == "ARCHIVED" || matches!(workflow.as_str(), "RESOLVED" | "SUPPRESSED");
    alert.resolved_if(over);
    Ok(alert)
}

fn severity(finding: Fields<'_>, label: &str) -> Option<f64> {
    let figure = finding.number("Severity/Normalized");
    let word = severity_of_word(label);
    let band = |severity: f64| [1.0, 40.0, 70.0, 90.0].iter().filter(|from| severity >= **from).count();
    match (figure, word) {
        // A person may have set the label anew; the figure is the product's and stays. AWS's own figure for INFORMATIONAL is 0.
        (Some(figure), Some(word)) if band(figure) != band(word) => {
            let agrees = label == "INFORMATIONAL" && band(figure) == 0;
            Some(if agrees { figure } else { word })
        }
        (Some(figure), _) => Some(figure),
        (None, word) => word,
    }
}

fn asset(alert: &mut Alert, resource: Fields<'_>) {
    let id = resource.text("Id");
    let name = after_last(&id, ['/', ':']);
    let role = match resource.text("ResourceRole").to_ascii_lowercase().as_str() {
        "" | "target" => "primary".to_owned(),
        other => other.to_owned(),
    };
    match resource.text("Type").as_str() {
        "AwsEc2Instance" => alert.asset(AssetKind::Ec2Instance, name, &role),
        "AwsEc2Volume" => alert.asset(AssetKind::EbsVolume, name, &role),
        "AwsS3Bucket" => alert.asset(AssetKind::S3Bucket, name, &role),
        "AwsIamUser" => alert.asset(AssetKind::IamUser, &id, &role),
        "AwsIamRole" => alert.asset(AssetKind::IamRole, &id, &role),
        "AwsIamAccessKey" => {
            let details = resource.at("Details/AwsIamAccessKey");
            let named = details.text("AccessKeyId");
            let key = if named.is_empty() { name } else { named.as_str() };
            if AssetKind::IamAccessKey.allows(key) {
                alert.asset(AssetKind::IamAccessKey, key, &role);
            }
            let holder = details.text("PrincipalName");
            match details.text("PrincipalType").as_str() {
                "IAMUser" | "User" => alert.asset(AssetKind::IamUser, &holder, &role),
                "AssumedRole" | "Role" => alert.asset(AssetKind::IamRole, &holder, &role),
                _ => {}
            }
            for principal in [holder.as_str(), &details.text("PrincipalId"), key] {
                alert.principal(principal);
            }
        }
        "Container" => {
            let id = id.split_once("://").map_or(id.as_str(), |(_, bare)| bare);
            // Often a name or an image and no id at all: no asset then, and no fault of the finding.
            if AssetKind::Container.allows(id) {
                alert.asset(AssetKind::Container, id, &role);
            }
        }
        _ => {}
    }
}

fn remote_sides(alert: &mut Alert, finding: Fields<'_>) {
    let network = finding.at("Network");
    let sides: &[&str] = match network.text("Direction").as_str() {
        "IN" => &["SourceIpV4", "SourceIpV6"],
        "OUT" => &["DestinationIpV4", "DestinationIpV6"],
        _ => &["SourceIpV4", "SourceIpV6", "DestinationIpV4", "DestinationIpV6"],
    };
    sides.iter().for_each(|side| alert.ip(&network.text(side)));
    let action = finding.at("Action");
    for kind in ["NetworkConnectionAction", "AwsApiCallAction"] {
        alert.ip(&action.at(kind).text("RemoteIpDetails/IpAddressV4"));
    }
    for probe in action.list("PortProbeAction/PortProbeDetails") {
        alert.ip(&probe.text("RemoteIpDetails/IpAddressV4"));
    }
    for (key, value) in finding.entries("ProductFields") {
        if key.starts_with("aws/guardduty/service/action/") && key.ends_with("remoteIpDetails/ipAddressV4") {
            alert.ip(&value.as_text());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_label_that_a_person_set_is_believed_over_the_products_figure() {
        for (figure, label, expected) in [
            (80.0, "INFORMATIONAL", 10.0),
            (0.0, "INFORMATIONAL", 0.0),
            (80.0, "LOW", 30.0),
            (1.0, "CRITICAL", 95.0),
            (75.0, "HIGH", 75.0),
            (80.0, "", 80.0),
        ] {
            let finding = json!({"Severity": {"Normalized": figure, "Label": label}});
            let seen = severity(Fields::of(&finding), label);
            assert_eq!(seen, Some(expected), "{figure} {label}");
        }
    }
}
