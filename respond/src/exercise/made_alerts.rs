//! Alerts that nobody sent, about assets of the inventory.

use crate::alert::{Alert, AssetKind, AssetRef, Status};
use crate::inventory::Asset;

/// Words of GuardDuty and others that rules are usually about, for each kind of asset.
fn kinds(kind: AssetKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        AssetKind::Ec2Instance | AssetKind::EbsVolume => &[
            ("guardduty", "Backdoor:EC2/C&CActivity.B"),
            ("guardduty", "CryptoCurrency:EC2/BitcoinTool.B"),
            ("guardduty", "UnauthorizedAccess:EC2/MaliciousIPCaller.Custom"),
            ("security_hub", "TTPs/Command and Control"),
        ],
        AssetKind::IamAccessKey | AssetKind::IamUser | AssetKind::IamRole => &[
            ("guardduty", "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"),
            ("guardduty", "CredentialAccess:IAMUser/AnomalousBehavior"),
            ("guardduty", "Persistence:IAMUser/AnomalousBehavior"),
        ],
        AssetKind::Container | AssetKind::K8sPod => &[
            ("falco", "Terminal shell in container"),
            ("guardduty", "Execution:Runtime/NewBinaryExecuted"),
            ("guardduty", "Backdoor:Runtime/C&CActivity.B"),
        ],
        AssetKind::Host => &[
            ("crowdstrike", "Ransomware"),
            ("defender", "Malware"),
            ("sentinelone", "Malware"),
            ("wazuh", "5712"),
            ("elastic", "Malware"),
        ],
        AssetKind::S3Bucket => &[("guardduty", "Exfiltration:S3/AnomalousBehavior")],
    }
}

/// Alerts of high severity about an asset, one for each kind of alert that rules are usually about.
pub(super) fn about(asset: &Asset, number: usize, received_at: &str) -> Vec<Alert> {
    let each = kinds(asset.kind).iter().enumerate();
    each.map(|(at, (source, kind))| {
        of((source, kind), (asset.kind, &asset.id), number * 16 + at, received_at, asset)
    })
    .collect()
}

/// An alert about an asset that there is not, as somebody would forge it.
pub(super) fn forged(like: &Asset, id: &str, number: usize, received_at: &str) -> Alert {
    let first = kinds(like.kind).first().copied().unwrap_or(("guardduty", "Backdoor:EC2/C&CActivity.B"));
    let stranger = Asset { account: "000000000000".to_owned(), ..like.clone() };
    of(first, (like.kind, id), number, received_at, &stranger)
}

fn of(
    (source, kind): (&str, &str),
    (asset_kind, id): (AssetKind, &str),
    number: usize,
    received_at: &str,
    asset: &Asset,
) -> Alert {
    Alert {
        source: source.to_owned(),
        source_id: format!("exercise-{number}"),
        occurrence: number.to_string(),
        status: Status::Firing,
        severity: 95,
        severity_label: "critical".to_owned(),
        title: "An exercise: one actor tries stolen credentials everywhere".to_owned(),
        kind: kind.to_owned(),
        first_seen: Some(received_at.to_owned()),
        last_seen: Some(received_at.to_owned()),
        cloud: if asset.account.is_empty() { String::new() } else { "aws".to_owned() },
        account: asset.account.clone(),
        region: asset.region.clone(),
        assets: vec![AssetRef { kind: asset_kind, id: id.to_owned(), role: "primary".to_owned() }],
        ips: vec!["203.0.113.66".to_owned()],
        ..Alert::default()
    }
}
