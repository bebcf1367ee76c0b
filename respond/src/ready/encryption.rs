//! Whether what is gathered can be read: keys of the account, and our own.

use std::collections::BTreeMap;

use acquire::aws::ec2::{Ec2, Volume};
use acquire::aws::kms::Kms;
use acquire::aws::{FailureKind, Raw};
use custody::bundle::{Identities, Recipients};

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD20",
        version: 1,
        severity: Severity::Critical,
        title: "the keys of volumes in scope decrypt for us",
        scope: "key",
        tested: "KMS GenerateDataKey and Decrypt with each key of `ready.kms_keys` and of the volumes in `ready.volumes` and \
                 `ready.instances`: what comes back must be the same; nothing of it is kept",
        remediation: "let the capture role use the key in the key's own policy: kms:Decrypt, kms:GenerateDataKey, kms:CreateGrant, \
                      kms:DescribeKey",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: decrypts,
    },
    Check {
        id: "RD21",
        version: 1,
        severity: Severity::Critical,
        title: "no volume in scope is under a key that no other account can use",
        scope: "volume",
        tested: "EC2 DescribeVolumes and KMS DescribeKey: a key that AWS manages (aws/ebs) is listed",
        remediation: "snapshots of such a volume cannot be shared: copy them under a customer key first, or move the volume to one",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: default_keys,
    },
    Check {
        id: "RD22",
        version: 1,
        severity: Severity::High,
        title: "no key in scope is disabled or about to be deleted",
        scope: "key",
        tested: "KMS DescribeKey: the state is Enabled",
        remediation: "aws kms cancel-key-deletion and enable-key, before what is under it is lost",
        prowler: &["kms_cmk_not_deleted_unintentionally"],
        seconds: 60,
        drill: None,
        test: key_states,
    },
    Check {
        id: "RD23",
        version: 1,
        severity: Severity::Critical,
        title: "encrypted evidence can be opened again",
        scope: "recipient",
        tested: "a canary is encrypted with age to each recipient of `capture.encrypt_to`, and must come back whole with the keys \
                 in `ready.identities`",
        remediation: "bring the recipient's key back from escrow, or take the recipient from `capture.encrypt_to`: evidence that \
                      nobody can open is none",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: recipients,
    },
];

/// The volumes that stand for all.
fn volumes(probe: &Probe) -> Result<(Vec<Volume>, Vec<Raw>), Unable> {
    let ready = &probe.settings.ready;
    let ec2 = Ec2::new(probe.aws()?)?;
    let (mut found, mut raw) = (Vec::new(), Vec::new());
    for id in &ready.instances {
        let instance = ec2.describe_instance(id)?;
        raw.extend(instance.raw);
        let ids: Vec<&str> = instance.value.devices.iter().map(|device| device.volume.as_str()).collect();
        if !ids.is_empty() {
            let of_it = ec2.describe_volumes(&ids)?;
            raw.extend(of_it.raw);
            found.extend(of_it.value);
        }
    }
    for id in &ready.volumes {
        let one = ec2.describe_volume(id)?;
        raw.extend(one.raw);
        found.push(one.value);
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found.dedup_by(|one, other| one.id == other.id);
    Ok((found, raw))
}

/// The keys in scope, each with what it is the key of.
fn keys(probe: &Probe) -> Result<BTreeMap<String, String>, Unable> {
    let ready = &probe.settings.ready;
    probe.aws()?;
    if ready.kms_keys.is_empty() && ready.volumes.is_empty() && ready.instances.is_empty() {
        return Err(Unable::none("the settings name no keys, volumes or instances (ready.kms_keys …)"));
    }
    probe.caller()?;
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    for key in &ready.kms_keys {
        keys.insert(key.clone(), "named in the settings".to_owned());
    }
    for volume in volumes(probe)?.0 {
        if let Some(key) = volume.kms_key {
            keys.entry(key).or_insert_with(|| format!("of {}", volume.id));
        }
    }
    if keys.is_empty() {
        return Err(Unable::none("no volume in scope is encrypted with a key of KMS"));
    }
    Ok(keys)
}

fn decrypts(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let keys = keys(probe)?;
    let kms = Kms::new(probe.aws()?)?;
    let expected = "a data key that it made is decrypted to the same";
    let each = keys.iter().map(|(key, of)| match kms.round_trip(key) {
        Ok(()) => Finding::of(key, true, format!("a data key came back the same ({of})"), expected),
        Err(failure) => {
            let status = match failure.kind {
                FailureKind::Connection | FailureKind::Throttled | FailureKind::Server => Status::Error,
                _ => Status::Fail,
            };
            Finding::new(key, status, format!("{failure} ({of})"), expected)
        }
    });
    Ok(each.collect())
}

fn default_keys(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let ready = &probe.settings.ready;
    let connection = probe.aws()?;
    if ready.volumes.is_empty() && ready.instances.is_empty() {
        return Err(Unable::none(
            "the settings name no volumes or instances (ready.volumes, ready.instances)",
        ));
    }
    let (volumes, raw) = volumes(probe)?;
    let kms = Kms::new(connection)?;
    let expected = "not encrypted, or under a key of the customer";
    let mut found = Vec::new();
    for volume in volumes {
        let Some(key) = volume.kms_key else {
            let seen = if volume.is_encrypted { "encrypted, and EC2 names no key" } else { "not encrypted" };
            let status = if volume.is_encrypted { Status::Error } else { Status::Pass };
            found.push(Finding::new(&volume.id, status, seen, expected).with_answers(&raw));
            continue;
        };
        let described = kms.describe_key(&key)?;
        let holds = described.value.manager == "CUSTOMER";
        let seen = format!("under {key}, which is managed by {}", described.value.manager);
        found.push(
            Finding::of(&volume.id, holds, seen, expected).with_answers(raw.iter().chain(&described.raw)),
        );
    }
    Ok(found)
}

fn key_states(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let keys = keys(probe)?;
    let kms = Kms::new(probe.aws()?)?;
    let each = keys.iter().map(|(key, of)| match kms.describe_key(key) {
        Ok(described) => {
            let state = &described.value.state;
            let seen = format!("{state} ({of})");
            Finding::of(key, state == "Enabled", seen, "Enabled").with_answers(&described.raw)
        }
        Err(failure) => {
            let is_answer = matches!(failure.kind, FailureKind::Denied | FailureKind::NotFound);
            let status = if is_answer { Status::Fail } else { Status::Error };
            Finding::new(key, status, format!("{failure} ({of})"), "Enabled")
        }
    });
    Ok(each.collect())
}

fn recipients(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let to = &probe.settings.capture.encrypt_to;
    if to.is_empty() {
        return Err(Unable::none("captures are not encrypted (capture.encrypt_to is empty)"));
    }
    let files = &probe.settings.ready.identities;
    if files.is_empty() {
        return Err(Unable::untested("the settings name no key to try it with (ready.identities)"));
    }
    let identities = Identities::read(files)?;
    let mut recipients = Recipients::default();
    for one in to {
        recipients.add(one)?;
    }
    let canary = format!("exhibit ready, {}", probe.clock.now().rfc3339());
    let opened = recipients.opened_by(&identities, canary.as_bytes())?;
    let each = opened.into_iter().map(|(recipient, holds)| {
        let seen = if holds {
            "the canary came back whole"
        } else {
            "none of the keys in ready.identities opens what is encrypted to it"
        };
        Finding::of(recipient, holds, seen, "what is encrypted to it can be opened")
    });
    Ok(each.collect())
}
