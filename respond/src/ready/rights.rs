//! What policies let us do, what they should not, and whether the account agrees.

use acquire::aws::ec2::Ec2;
use acquire::aws::iam::{Decision, Iam};
use acquire::aws::{Answered, Failure, FailureKind};

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD02",
        version: 1,
        severity: Severity::Critical,
        title: "policies allow every action of a capture",
        scope: "account",
        tested: "IAM SimulatePrincipalPolicy for each action that `exhibit acquire ebs` and `cloud-logs` need; the denied \
                 ones are named",
        remediation: "add the named actions to the role's policy; `exhibit acquire ebs --dry-run` says each with its resource",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: may_capture,
    },
    Check {
        id: "RD03",
        version: 1,
        severity: Severity::High,
        title: "the account itself would let a capture and an isolation be made",
        scope: "volume, instance",
        tested: "EC2 with DryRun, where policies of the organisation, of keys and of endpoints speak too: CreateSnapshot of each \
                 volume, and for each instance its volumes, ModifyNetworkInterfaceAttribute of each interface to the groups \
                 that it has, CreateSecurityGroup in its VPC",
        remediation: "the refusal names the action; when RD02 passes and this fails, look at the organisation's service control \
                      policies, then at the policies of keys and VPC endpoints",
        prowler: &[],
        seconds: 90,
        drill: None,
        test: dry_runs,
    },
    Check {
        id: "RD04",
        version: 1,
        severity: Severity::High,
        title: "policies allow isolation and its undoing",
        scope: "account",
        tested: "IAM SimulatePrincipalPolicy for the actions of isolation and, as important, for those that take it back",
        remediation: "add the named actions: an isolation that cannot be taken back is an outage",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: may_isolate,
    },
    Check {
        id: "RD05",
        version: 1,
        severity: Severity::Medium,
        title: "policies allow nothing that would let evidence or accounts be destroyed",
        scope: "account",
        tested: "IAM SimulatePrincipalPolicy for actions that no capture needs, on the evidence store's objects among others: \
                 each must be denied",
        remediation: "take the named actions from the role's policy: `*` on `*` is never needed",
        prowler: &["iam_policy_attached_no_administrative_privileges"],
        seconds: 60,
        drill: None,
        test: is_bounded,
    },
];

/// What captures need.
const CAPTURE: &[&str] = &[
    "ec2:DescribeInstances",
    "ec2:DescribeVolumes",
    "ec2:DescribeSnapshots",
    "ec2:CreateSnapshot",
    "ec2:CreateSnapshots",
    "ec2:CreateTags",
    "ec2:DeleteSnapshot",
    "ec2:DescribeInstanceAttribute",
    "ec2:GetConsoleOutput",
    "ebs:ListSnapshotBlocks",
    "ebs:ListChangedBlocks",
    "ebs:GetSnapshotBlock",
    "cloudtrail:LookupEvents",
    "cloudtrail:DescribeTrails",
    "cloudtrail:GetTrailStatus",
];

/// What isolation needs, and then its undoing.
const ISOLATION: &[&str] = &[
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:CreateSecurityGroup",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:AuthorizeSecurityGroupEgress",
    "ec2:RevokeSecurityGroupIngress",
    "ec2:RevokeSecurityGroupEgress",
    "ec2:ModifyNetworkInterfaceAttribute",
    "ec2:DeleteSecurityGroup",
    "iam:UpdateAccessKey",
    "iam:PutRolePolicy",
    "iam:DeleteRolePolicy",
];

/// What no capture needs.
const NEVER: &[&str] = &[
    "iam:CreateUser",
    "iam:CreateAccessKey",
    "iam:AttachRolePolicy",
    "kms:ScheduleKeyDeletion",
    "cloudtrail:StopLogging",
    "cloudtrail:DeleteTrail",
    "ec2:TerminateInstances",
    "organizations:LeaveOrganization",
];

/// What nobody who puts evidence may do to it.
const NEVER_TO_EVIDENCE: &[&str] = &[
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:BypassGovernanceRetention",
    "s3:PutObjectRetention",
    "s3:PutBucketPolicy",
];

/// An action, and what a simulation says of it, if anything.
type Said = (&'static str, Option<Decision>);

/// What a simulation says of each action: `Err` where it says nothing.
fn simulated(probe: &Probe, actions: &[&'static str], resource: &str) -> Result<Answered<Vec<Said>>, Unable> {
    let connection = probe.aws()?;
    let who = &probe.caller()?.value;
    if who.arn.ends_with(":root") {
        return Err(Unable::untested(
            "these are the keys of the account's root, which IAM does not simulate",
        ));
    }
    let answer = Iam::new(connection)?.simulate(&who.policy_arn(), actions, resource, &[])?;
    let of = |action: &'static str| {
        let decisions = answer.value.iter().filter(|found| found.action.eq_ignore_ascii_case(action));
        // The least favourable one, if there are several.
        let worst = decisions.map(|found| found.decision).reduce(|one, other| match (one, other) {
            (Decision::Denied, _) | (_, Decision::Denied) => Decision::Denied,
            (Decision::NotAllowed, _) | (_, Decision::NotAllowed) => Decision::NotAllowed,
            _ => Decision::Allowed,
        });
        (action, worst)
    };
    let value = actions.iter().copied().map(of).collect();
    Ok(Answered { value, raw: answer.raw })
}

fn all_allowed(
    probe: &Probe,
    actions: &[&'static str],
    expected: &'static str,
) -> Result<Vec<Finding>, Unable> {
    let answer = simulated(probe, actions, "*")?;
    let named = |wanted: Option<Decision>| {
        let of_it = answer.value.iter().filter(move |(_, decision)| *decision == wanted);
        of_it.map(|(action, _)| *action).collect::<Vec<_>>()
    };
    let (denied, missing) = (named(Some(Decision::Denied)), named(Some(Decision::NotAllowed)));
    let unsaid = named(None);
    let mut said = Vec::new();
    for (list, how) in
        [(&denied, "denied by a policy"), (&missing, "allowed by none"), (&unsaid, "not answered")]
    {
        if !list.is_empty() {
            said.push(format!("{how}: {}", list.join(", ")));
        }
    }
    let status = match (denied.is_empty() && missing.is_empty(), unsaid.is_empty()) {
        (false, _) => Status::Fail,
        (true, false) => Status::Error,
        (true, true) => Status::Pass,
    };
    let seen = if said.is_empty() {
        format!("all {} actions are allowed by simulation", actions.len())
    } else {
        said.join("; ")
    };
    Ok(vec![Finding::new(&probe.caller()?.value.account, status, seen, expected).with_answers(&answer.raw)])
}

fn may_capture(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    all_allowed(probe, CAPTURE, "every action of a capture is allowed")
}

fn may_isolate(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    all_allowed(probe, ISOLATION, "isolating and its undoing are allowed")
}

fn is_bounded(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let expected = "none of what destroys evidence or accounts is allowed";
    let mut raw = Vec::new();
    let (mut allowed, mut unsaid) = (Vec::new(), Vec::new());
    let mut look = |actions: &[&'static str], resource: &str| -> Result<(), Unable> {
        let answer = simulated(probe, actions, resource)?;
        for (action, decision) in answer.value {
            match decision {
                Some(Decision::Allowed) => allowed.push(action),
                None => unsaid.push(action),
                Some(_) => {}
            }
        }
        raw.extend(answer.raw);
        Ok(())
    };
    look(NEVER, "*")?;
    if let Ok((_, place)) = probe.evidence_store() {
        let partition = probe.caller()?.value.arn.split(':').nth(1).unwrap_or("aws").to_owned();
        look(NEVER_TO_EVIDENCE, &format!("arn:{partition}:s3:::{}/*", place.bucket))?;
    }
    let (status, seen) = match (allowed.is_empty(), unsaid.is_empty()) {
        (false, _) => (Status::Fail, format!("allowed: {}", allowed.join(", "))),
        (true, false) => (Status::Error, format!("not answered: {}", unsaid.join(", "))),
        (true, true) => (Status::Pass, "all of them are denied by simulation".to_owned()),
    };
    Ok(vec![Finding::new(&probe.caller()?.value.account, status, seen, expected).with_answers(&raw)])
}

fn dry_runs(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let connection = probe.aws()?;
    let ready = &probe.settings.ready;
    if ready.volumes.is_empty() && ready.instances.is_empty() {
        return Err(Unable::none(
            "the settings name no volumes or instances (ready.volumes, ready.instances)",
        ));
    }
    probe.caller()?;
    let ec2 = Ec2::new(connection)?;
    let mut found = Vec::new();
    for volume in &ready.volumes {
        found.push(dry(volume, "CreateSnapshot", &ec2.may_snapshot(volume)));
    }
    for id in &ready.instances {
        let instance = match ec2.describe_instance(id) {
            Ok(instance) => instance.value,
            Err(failure) => {
                found.push(dry(id, "DescribeInstances", &Err(failure)));
                continue;
            }
        };
        for device in &instance.devices {
            let scope = format!("{id}/{}", device.volume);
            found.push(dry(&scope, "CreateSnapshot", &ec2.may_snapshot(&device.volume)));
        }
        let groups: Vec<&str> = instance.security_groups.iter().map(String::as_str).collect();
        for interface in &instance.interfaces {
            let asked = ec2.may_modify_interface(interface, &groups);
            found.push(dry(&format!("{id}/{interface}"), "ModifyNetworkInterfaceAttribute", &asked));
        }
        let asked = ec2.may_create_security_group(&instance.vpc);
        found.push(dry(&format!("{id}/{}", instance.vpc), "CreateSecurityGroup", &asked));
    }
    Ok(found)
}

/// What a question with `DryRun` was answered.
fn dry(scope: &str, operation: &str, answer: &Result<(), Failure>) -> Finding {
    let expected = format!("EC2 {operation} would be done");
    match answer {
        Ok(()) => Finding::of(scope, true, "EC2 answers DryRunOperation: it would be done", expected)
            .with_evidence(format!("EC2 {operation} {scope}: DryRunOperation")),
        Err(failure) => {
            let status = match failure.kind {
                FailureKind::Denied | FailureKind::NotFound | FailureKind::Quota => Status::Fail,
                _ => Status::Error,
            };
            Finding::new(scope, status, failure.to_string(), expected).with_evidence(failure.to_string())
        }
    }
}
