//! Amazon GuardDuty: findings and attack sequences.
//!
//! - Comes as: EventBridge `GuardDuty Finding`, bare or in SNS; also findings as exported to S3 or printed by `get-findings`.
//! - Id: `id`, which stays through updates; `updatedAt` is the occurrence.
//! - Severity: 1 to 10, times ten.
//! - Samples: `additionalInfo.sample`, in both forms that it has, and titles that begin with `[SAMPLE]`.
//! - Reference: GuardDuty user guide, "Finding format" and "Extended Threat Detection".

use super::draft::required;
use super::fields::{Fields, after_last};
use super::{Alert, AssetKind, Item, SourceKind, Unparsed, listed, strict_json};

pub(super) static SOURCE: SourceKind = SourceKind {
    word: "guardduty",
    about: "Amazon GuardDuty findings and attack sequences, through EventBridge or SNS",
    severity: "1 to 10, times ten",
    event_bridge: true,
    items: |body| listed(body, &["findings"]),
    read,
};

fn read(item: &Item<'_>) -> Result<Alert, Unparsed> {
    let kind = item.event.detail_type.as_str();
    if !matches!((item.event.source.as_str(), kind), ("", "") | ("aws.guardduty", "GuardDuty Finding")) {
        return Err(Unparsed(format!("an event {kind:?} is no finding of GuardDuty")));
    }
    let finding = item.alert;
    let mut alert = Alert::begin(SOURCE.word, &required(finding, "id")?);
    alert.kind = required(finding, "type").map(|_| finding.text("type"))?;
    alert.title = finding.text("title");
    alert.occurrence = finding.text("updatedAt");
    alert.severity(finding.number("severity").map(|severity| severity * 10.0), finding.text("severity"));
    "aws".clone_into(&mut alert.cloud);
    alert.account = finding.text("accountId");
    alert.region = finding.text("region");
    alert.seen(finding, "service/eventFirstSeen", "service/eventLastSeen");
    if alert.first_seen.is_none() {
        alert.seen(finding, "createdAt", "updatedAt");
    }
    alert.is_sample = is_sample(finding, &alert.title);
    resource(&mut alert, finding.at("resource"));
    remote_sides(&mut alert, finding.at("service/action"));
    malware(&mut alert, finding.at("service"));
    let sequence = finding.at("service/detection/sequence");
    if sequence.is_there() {
        attack_sequence(&mut alert, sequence);
    } else {
        purpose(&mut alert);
    }
    alert.first_is_primary();
    alert.resolved_if(finding.truth("service/archived"));
    console_link(&mut alert);
    Ok(alert)
}

/// `additionalInfo` is an object, or one whose `value` is JSON in a text.
fn is_sample(finding: Fields<'_>, title: &str) -> bool {
    let info = finding.at("service/additionalInfo");
    let within = info.at("value").value().as_str().and_then(|text| strict_json::read(text.as_bytes()).ok());
    info.truth("sample")
        || within.is_some_and(|within| Fields::of(&within).truth("sample"))
        || title.starts_with("[SAMPLE]")
}

fn resource(alert: &mut Alert, resource: Fields<'_>) {
    let about = resource.text("resourceType");
    let role = |types: &[&str], lesser: &'static str| {
        if types.contains(&about.as_str()) { "primary" } else { lesser }
    };

    let cluster = resource.first_text(&["eksClusterDetails/name", "kubernetesDetails/clusterName"]);
    let workload = resource.at("kubernetesDetails/kubernetesWorkloadDetails");
    if matches!(workload.text("type").as_str(), "pods" | "pod" | "Pod") {
        let pod = format!("{cluster}/{}/{}", workload.text("namespace"), workload.text("name"));
        alert.asset(AssetKind::K8sPod, &pod, role(&["EKSCluster", "KubernetesCluster"], "pod"));
    }
    let container = resource.text("containerDetails/id");
    alert.asset(AssetKind::Container, bare_container(&container), role(&["Container"], "container"));
    for of in ["kubernetesDetails/kubernetesWorkloadDetails", "ecsClusterDetails/taskDetails"] {
        for container in resource.at(of).list("containers") {
            alert.asset(AssetKind::Container, bare_container(&container.text("id")), "container");
        }
    }
    let instance = resource.text("instanceDetails/instanceId");
    alert.asset(AssetKind::Ec2Instance, &instance, role(&["Instance"], "instance"));
    for list in ["scannedVolumeDetails", "skippedVolumeDetails"] {
        for volume in resource.at("ebsVolumeDetails").list(list) {
            let arn = volume.text("volumeArn");
            alert.asset(AssetKind::EbsVolume, after_last(&arn, ['/', ':']), role(&["EBSVolume"], "volume"));
        }
    }
    for bucket in resource.list("s3BucketDetails") {
        alert.asset(AssetKind::S3Bucket, &bucket.text("name"), role(&["S3Bucket", "S3Object"], "bucket"));
    }
    access_key(alert, resource.at("accessKeyDetails"), role(&["AccessKey"], "access_key"));
    alert.principal(&resource.text("kubernetesDetails/kubernetesUserDetails/username"));
}

fn access_key(alert: &mut Alert, key: Fields<'_>, role: &str) {
    let user = key.text("userName");
    let id = key.text("accessKeyId");
    // Samples and federated sessions have keys of other forms, which nothing can be done with.
    if AssetKind::IamAccessKey.allows(&id) {
        alert.asset(AssetKind::IamAccessKey, &id, role);
    }
    match key.text("userType").as_str() {
        "IAMUser" => alert.asset(AssetKind::IamUser, &user, role),
        "AssumedRole" | "Role" => alert.asset(AssetKind::IamRole, &user, role),
        _ => {}
    }
    for principal in [user, key.text("principalId"), id] {
        alert.principal(&principal);
    }
}

fn bare_container(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, bare)| bare)
}

fn remote_sides(alert: &mut Alert, action: Fields<'_>) {
    let mut remote = |of: Fields<'_>| {
        alert.ip(&of.text("remoteIpDetails/ipAddressV4"));
        alert.ip(&of.text("remoteIpDetails/ipAddressV6"));
    };
    for kind in
        ["networkConnectionAction", "awsApiCallAction", "kubernetesApiCallAction", "rdsLoginAttemptAction"]
    {
        remote(action.at(kind));
    }
    action.list("portProbeAction/portProbeDetails").for_each(&mut remote);
}

fn malware(alert: &mut Alert, service: Fields<'_>) {
    alert.hash(&service.text("runtimeDetails/process/executableSha256"));
    for threat in service.list("ebsVolumeScanDetails/scanDetections/threatDetectedByName/threatNames") {
        threat.list("filePaths").for_each(|file| alert.hash(&file.text("hash")));
    }
    for threat in service.list("malwareScanDetails/threats") {
        threat.list("itemPaths").for_each(|file| alert.hash(&file.text("hash")));
    }
}

fn attack_sequence(alert: &mut Alert, sequence: Fields<'_>) {
    for resource in sequence.list("resources") {
        let uid = resource.first_text(&["uid", "name"]);
        // An ARN or the id alone: both occur.
        let id = after_last(&uid, ['/', ':']);
        match resource.text("resourceType").as_str() {
            "EC2_INSTANCE" => {
                let named =
                    if AssetKind::Ec2Instance.allows(id) { id.to_owned() } else { resource.text("name") };
                alert.asset(AssetKind::Ec2Instance, &named, "primary");
            }
            "S3_BUCKET" => alert.asset(AssetKind::S3Bucket, id, "primary"),
            "CONTAINER" => alert.asset(AssetKind::Container, id, "primary"),
            "ACCESS_KEY" => {
                if AssetKind::IamAccessKey.allows(id) {
                    alert.asset(AssetKind::IamAccessKey, id, "primary");
                }
                access_key(alert, resource.at("data/accessKey"), "primary");
            }
            "KUBERNETES_WORKLOAD" => {
                let workload = resource.at("data/kubernetesWorkload");
                if matches!(workload.text("type").to_ascii_lowercase().as_str(), "pod" | "pods") {
                    let pod = format!("/{}/{}", workload.text("namespace"), resource.text("name"));
                    alert.asset(AssetKind::K8sPod, &pod, "primary");
                }
            }
            _ => {}
        }
    }
    for actor in sequence.list("actors") {
        alert.principal(&actor.text("user/name"));
        alert.principal(&actor.text("user/uid"));
        alert.principal(&actor.text("user/credentialUid"));
        alert.hash(&actor.text("process/sha256"));
    }
    sequence.list("endpoints").for_each(|endpoint| alert.ip(&endpoint.text("ip")));
    for indicator in sequence.list("sequenceIndicators") {
        let key = indicator.text("key");
        for value in indicator.list("values").map(Fields::as_text) {
            if key.ends_with("TACTIC") {
                alert.attack(&value, "");
            } else if key.ends_with("TECHNIQUE") {
                alert.attack("", &value);
            }
        }
    }
}

/// The threat purpose before the first colon of the type, where it is a tactic by name. Others (`Backdoor`, `Trojan`,
/// `UnauthorizedAccess` …) are none, and none is made up.
fn purpose(alert: &mut Alert) {
    let purpose = alert.kind.split(':').next().unwrap_or_default();
    let tactic = match purpose {
        "Recon" => "TA0043",
        "InitialAccess" => "TA0001",
        "Execution" => "TA0002",
        "Persistence" => "TA0003",
        "PrivilegeEscalation" => "TA0004",
        "DefenseEvasion" | "Stealth" => "TA0005",
        "CredentialAccess" => "TA0006",
        "Discovery" => "TA0007",
        "Exfiltration" => "TA0010",
        "Impact" => "TA0040",
        _ if alert.kind.contains("/C&CActivity") => "TA0011",
        _ => return,
    };
    alert.attack(tactic, "");
}

fn console_link(alert: &mut Alert) {
    let is_id = alert.source_id.len() == 32 && alert.source_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_region = alert.region.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if is_id && is_region && (4..=32).contains(&alert.region.len()) {
        let (region, id) = (&alert.region, &alert.source_id);
        alert.link =
            format!("https://console.aws.amazon.com/guardduty/home?region={region}#/findings?fId={id}");
    }
}
