//! What policies let us do, what they should not, and whether the account agrees.

use acquire::aws::ec2::Ec2;
use acquire::aws::iam::{Decision, Iam};
use acquire::aws::sts::{CallerIdentity, Sts};
use acquire::aws::{Answered, Connection, Failure, FailureKind};
use acquire::ebs::{MADE_BY, TAG_CASE, TAG_MADE_BY};

use super::check::{Check, Finding, Severity, Status, Unable};
use super::identity::entered_by;
use super::probe::Probe;
use super::settings::ReadySettings;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD02",
        version: 2,
        severity: Severity::Critical,
        title: "policies allow every action of a capture",
        scope: "account",
        tested: "IAM SimulatePrincipalPolicy as who we are and as each role of `ready.role`, for each action that `exhibit \
                 acquire ebs` and `cloud-logs` need, on ARNs of what it is for and with the tags that it would have; the denied ones \
                 are named, and those that a capture does without are a warning",
        remediation: "add the named actions to the role's policy; `exhibit acquire ebs --dry-run` says each with its resource",
        prowler: &[],
        seconds: 180,
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
        version: 2,
        severity: Severity::High,
        title: "policies allow isolation and its undoing",
        scope: "account",
        tested: "IAM SimulatePrincipalPolicy as for RD02, for the actions of isolation and, as important, for those that take it \
                 back: of networks, addresses, roles of instances, access keys and sessions",
        remediation: "add the named actions: an isolation that cannot be taken back is an outage",
        prowler: &[],
        seconds: 180,
        drill: None,
        test: may_isolate,
    },
    Check {
        id: "RD05",
        version: 2,
        severity: Severity::Medium,
        title: "policies allow nothing that would let evidence or accounts be destroyed",
        scope: "account",
        tested: "IAM SimulatePrincipalPolicy as for RD02, for actions that no capture needs, on everything, on things of their kind \
                 and on the evidence store's bucket and objects: each must be denied",
        remediation: "take the named actions from the role's policy: `*` on `*` is never needed",
        prowler: &["iam_policy_attached_no_administrative_privileges"],
        seconds: 180,
        drill: None,
        test: is_bounded,
    },
];

/// What an action is asked on, as policies name it. `*` alone would pass over every policy that names what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// Actions that know no resource.
    All,
    Instance,
    Volume,
    /// A snapshot that is about to be made with our tags.
    NewSnapshot,
    /// One that has our tags.
    OwnSnapshot,
    Interface,
    Address,
    Vpc,
    /// A security group that is about to be made with our tags.
    NewGroup,
    /// One that has our tags.
    OwnGroup,
    /// One of the instance's own.
    Group,
    Trail,
    Role,
    /// A role that is handed to EC2 again.
    PassedRole,
    User,
    Profile,
    Key,
}

/// What captures need.
const CAPTURE: &[(On, &[&str])] = &[
    (
        On::All,
        &[
            "ec2:DescribeInstances",
            "ec2:DescribeVolumes",
            "ec2:DescribeSnapshots",
            "cloudtrail:LookupEvents",
            "cloudtrail:DescribeTrails",
        ],
    ),
    (On::Instance, &["ec2:CreateSnapshots", "ec2:DescribeInstanceAttribute", "ec2:GetConsoleOutput"]),
    (On::Volume, &["ec2:CreateSnapshot", "ec2:CreateSnapshots"]),
    (On::NewSnapshot, &["ec2:CreateSnapshot", "ec2:CreateSnapshots", "ec2:CreateTags"]),
    (
        On::OwnSnapshot,
        &["ec2:DeleteSnapshot", "ebs:ListSnapshotBlocks", "ebs:ListChangedBlocks", "ebs:GetSnapshotBlock"],
    ),
    (On::Trail, &["cloudtrail:GetTrailStatus"]),
];

/// What a capture of an instance notes beside its disks, and does without.
const CAPTURE_BESIDE: &[(On, &[&str])] = &[
    (On::Profile, &["iam:GetInstanceProfile"]),
    (On::Role, &["iam:GetRole", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies", "iam:GetRolePolicy"]),
];

/// What isolation and its undoing need.
const ISOLATION: &[(On, &[&str])] = &[
    (
        On::All,
        &[
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSecurityGroupRules",
            "ec2:DescribeAddresses",
            "ec2:DescribeIamInstanceProfileAssociations",
        ],
    ),
    (
        On::Instance,
        &[
            "ec2:DescribeInstanceAttribute",
            "ec2:ModifyInstanceAttribute",
            "ec2:DisassociateIamInstanceProfile",
            "ec2:AssociateIamInstanceProfile",
        ],
    ),
    (On::PassedRole, &["iam:PassRole"]),
    (On::Interface, &["ec2:ModifyNetworkInterfaceAttribute", "ec2:AssociateAddress"]),
    (On::Address, &["ec2:DisassociateAddress", "ec2:AssociateAddress"]),
    (On::Vpc, &["ec2:CreateSecurityGroup"]),
    (On::NewGroup, &["ec2:CreateSecurityGroup", "ec2:CreateTags"]),
    (
        On::OwnGroup,
        &[
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:ModifyNetworkInterfaceAttribute",
            "ec2:DeleteSecurityGroup",
        ],
    ),
    // Taking it back gives an interface the groups that it had.
    (On::Group, &["ec2:ModifyNetworkInterfaceAttribute"]),
    (On::User, &["iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey"]),
    (On::Role, &["iam:ListRolePolicies", "iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"]),
];

/// What no capture needs, on anything and on things of its kind.
const NEVER: &[(On, &[&str])] = &[
    (
        On::All,
        &[
            "iam:CreateUser",
            "iam:CreateAccessKey",
            "iam:AttachRolePolicy",
            "kms:ScheduleKeyDeletion",
            "cloudtrail:StopLogging",
            "cloudtrail:DeleteTrail",
            "ec2:TerminateInstances",
            "organizations:LeaveOrganization",
        ],
    ),
    (On::User, &["iam:CreateUser", "iam:CreateAccessKey"]),
    (On::Role, &["iam:AttachRolePolicy"]),
    (On::Key, &["kms:ScheduleKeyDeletion"]),
    (On::Trail, &["cloudtrail:StopLogging", "cloudtrail:DeleteTrail"]),
    (On::Instance, &["ec2:TerminateInstances"]),
];

/// What nobody who puts evidence may do to it.
const NEVER_TO_EVIDENCE: &[&str] =
    &["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutObjectRetention"];

/// The same of the bucket itself.
const NEVER_TO_BUCKET: &[&str] = &["s3:PutBucketPolicy"];

/// Tags of what an isolation makes.
const TAG_ISOLATION: &str = "exhibit-isolation";

/// Whose policies are asked, and where.
struct Principal {
    /// The account; of a role that is assumed, with its name.
    scope: String,
    iam: Iam,
    arn: String,
    partition: String,
    account: String,
    region: String,
}

/// An action on something, and what a simulation says of it, if anything.
type Said = (String, Option<Decision>);

impl Principal {
    fn of(connection: &Connection, who: &CallerIdentity, scope: String) -> Result<Self, Unable> {
        if who.arn.ends_with(":root") {
            return Err(Unable::untested(
                "these are the keys of the account's root, which IAM does not simulate",
            ));
        }
        Ok(Self {
            scope,
            iam: Iam::new(connection)?,
            arn: who.policy_arn(),
            partition: who.arn.split(':').nth(1).unwrap_or("aws").to_owned(),
            account: who.account.clone(),
            region: connection.region().to_owned(),
        })
    }

    /// The resource that an action is asked on, and the keys of conditions that the request would have.
    fn subject(&self, on: On, ready: &ReadySettings) -> (String, Vec<(String, String)>) {
        let ec2 = |kind: &str, id: &str| {
            format!("arn:{}:ec2:{}:{}:{kind}/{id}", self.partition, self.region, self.account)
        };
        let iam = |kind: &str| format!("arn:{}:iam::{}:{kind}/*", self.partition, self.account);
        let other = |service: &str, kind: &str| {
            format!("arn:{}:{service}:{}:{}:{kind}/*", self.partition, self.region, self.account)
        };
        let first = |ids: &[String]| ids.first().map_or_else(|| "*".to_owned(), Clone::clone);
        let snapshot = format!("arn:{}:ec2:{}::snapshot/*", self.partition, self.region);
        let tags = |of: &str, more: Option<(&str, &str)>, all: &[(&str, &str)]| -> Vec<(String, String)> {
            let tags = all.iter().map(|(key, value)| (format!("aws:{of}/{key}"), (*value).to_owned()));
            tags.chain(more.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
        };
        let of_case = [(TAG_CASE, "case"), (TAG_MADE_BY, MADE_BY)];
        let of_isolation = [(TAG_ISOLATION, "case")];
        match on {
            On::All => ("*".to_owned(), Vec::new()),
            On::Instance => (ec2("instance", &first(&ready.instances)), Vec::new()),
            On::Volume => (ec2("volume", &first(&ready.volumes)), Vec::new()),
            On::NewSnapshot => {
                (snapshot, tags("RequestTag", Some(("ec2:CreateAction", "CreateSnapshot")), &of_case))
            }
            On::OwnSnapshot => (snapshot, tags("ResourceTag", None, &of_case)),
            On::Interface => (ec2("network-interface", "*"), Vec::new()),
            On::Address => (ec2("elastic-ip", "*"), Vec::new()),
            On::Vpc => (ec2("vpc", "*"), Vec::new()),
            On::NewGroup => {
                let by = Some(("ec2:CreateAction", "CreateSecurityGroup"));
                (ec2("security-group", "*"), tags("RequestTag", by, &of_isolation))
            }
            On::OwnGroup => (ec2("security-group", "*"), tags("ResourceTag", None, &of_isolation)),
            On::Group => (ec2("security-group", "*"), Vec::new()),
            On::Trail => (other("cloudtrail", "trail"), Vec::new()),
            On::Key => (other("kms", "key"), Vec::new()),
            On::Role => (iam("role"), Vec::new()),
            On::PassedRole => {
                let to = ("iam:PassedToService".to_owned(), "ec2.amazonaws.com".to_owned());
                (iam("role"), vec![to])
            }
            On::User => (iam("user"), Vec::new()),
            On::Profile => (iam("instance-profile"), Vec::new()),
        }
    }

    /// What a simulation says of actions on a resource: nothing where it says nothing.
    fn asked(
        &self,
        actions: &[&str],
        resource: &str,
        context: &[(String, String)],
    ) -> Result<Answered<Vec<Said>>, Failure> {
        let context: Vec<(&str, &str)> =
            context.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let answer = self.iam.simulate(&self.arn, actions, resource, &context)?;
        // Without what is the same for all: `instance/*`.
        let short = resource.splitn(6, ':').nth(5).unwrap_or(resource);
        let of = |action: &&str| {
            let decisions = answer.value.iter().filter(|found| found.action.eq_ignore_ascii_case(action));
            // The least favourable one, if there are several.
            let worst = decisions.map(|found| found.decision).reduce(|one, other| match (one, other) {
                (Decision::Denied, _) | (_, Decision::Denied) => Decision::Denied,
                (Decision::NotAllowed, _) | (_, Decision::NotAllowed) => Decision::NotAllowed,
                _ => Decision::Allowed,
            });
            let on = if short == "*" { String::new() } else { format!(" on {short}") };
            (format!("{action}{on}"), worst)
        };
        Ok(Answered { value: actions.iter().map(of).collect(), raw: answer.raw })
    }

    /// The same of a table.
    fn asked_all(
        &self,
        table: &[(On, &[&str])],
        ready: &ReadySettings,
    ) -> Result<Answered<Vec<Said>>, Failure> {
        let mut all = Answered { value: Vec::new(), raw: Vec::new() };
        for (on, actions) in table {
            let (resource, context) = self.subject(*on, ready);
            let answer = self.asked(actions, &resource, &context)?;
            all.value.extend(answer.value);
            all.raw.extend(answer.raw);
        }
        Ok(all)
    }
}

/// Asks as who we are, and as each role of `ready.role`; what cannot be asked of a role is a finding of its own.
fn of_each(
    probe: &Probe,
    expected: &str,
    test: impl Fn(&Principal) -> Result<Finding, Unable>,
) -> Result<Vec<Finding>, Unable> {
    let who = &probe.caller()?.value;
    let own = Principal::of(probe.aws()?, who, who.account.clone())?;
    let mut found = vec![test(&own)?];
    for role in &probe.settings.ready.roles {
        let name = role.arn.rsplit('/').next().unwrap_or_default();
        let scope = format!("{}/{name}", role.arn.split(':').nth(4).unwrap_or_default());
        let tested = match entered_by(probe, role)? {
            Err((status, why)) => Ok(Finding::new(&scope, status, why, expected)),
            Ok(inside) => Sts::new(&inside)
                .and_then(|sts| sts.caller_identity())
                .map_err(Unable::from)
                .and_then(|who| Principal::of(&inside, &who.value, scope.clone()))
                // The session does not say the path that the role's name may have.
                .and_then(|principal| test(&Principal { arn: role.arn.clone(), ..principal })),
        };
        found.push(match tested {
            Ok(finding) => finding,
            Err(Unable::NotApplicable(why) | Unable::CouldNotTest(why)) => {
                Finding::new(scope, Status::Error, why, expected)
            }
        });
    }
    Ok(found)
}

/// The actions of which a simulation says this.
fn named(said: &[Said], wanted: Option<Decision>) -> Vec<&str> {
    said.iter().filter(|(_, decision)| *decision == wanted).map(|(action, _)| action.as_str()).collect()
}

fn all_allowed(
    probe: &Probe,
    needed: &[(On, &[&str])],
    beside: &[(On, &[&str])],
    expected: &'static str,
) -> Result<Vec<Finding>, Unable> {
    of_each(probe, expected, |principal| {
        let ready = &probe.settings.ready;
        let mut answer = principal.asked_all(needed, ready)?;
        let poorer = principal.asked_all(beside, ready)?;
        answer.raw.extend(poorer.raw);
        let all = answer.value;
        let (denied, missing) =
            (named(&all, Some(Decision::Denied)), named(&all, Some(Decision::NotAllowed)));
        let unsaid = named(&all, None);
        let poorer: Vec<&str> = poorer
            .value
            .iter()
            .filter(|(_, decision)| *decision != Some(Decision::Allowed))
            .map(|(action, _)| action.as_str())
            .collect();
        let mut said = Vec::new();
        for (list, how) in [
            (&denied, "denied by a policy"),
            (&missing, "allowed by none"),
            (&unsaid, "not answered"),
            (&poorer, "not allowed, and done without"),
        ] {
            if !list.is_empty() {
                said.push(format!("{how}: {}", list.join(", ")));
            }
        }
        let status = match (denied.is_empty() && missing.is_empty(), unsaid.is_empty(), poorer.is_empty()) {
            (false, _, _) => Status::Fail,
            (true, false, _) => Status::Error,
            (true, true, false) => Status::Warn,
            (true, true, true) => Status::Pass,
        };
        let seen = if said.is_empty() {
            format!("all {} actions are allowed by simulation, each on what it is for", all.len())
        } else {
            said.join("; ")
        };
        Ok(Finding::new(&principal.scope, status, seen, expected).with_answers(&answer.raw))
    })
}

fn may_capture(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    all_allowed(probe, CAPTURE, CAPTURE_BESIDE, "every action of a capture is allowed")
}

fn may_isolate(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    all_allowed(probe, ISOLATION, &[], "isolating and its undoing are allowed")
}

fn is_bounded(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let expected = "none of what destroys evidence or accounts is allowed";
    let place = match probe.evidence_store() {
        Ok((_, place)) => Some(place),
        Err(Unable::NotApplicable(_)) => None,
        Err(why) => return Err(why),
    };
    of_each(probe, expected, |principal| {
        let mut answer = principal.asked_all(NEVER, &probe.settings.ready)?;
        if let Some(place) = &place {
            let bucket = format!("arn:{}:s3:::{}", principal.partition, place.bucket);
            let mut asked =
                vec![(NEVER_TO_EVIDENCE, format!("{bucket}/*")), (NEVER_TO_BUCKET, bucket.clone())];
            if !place.prefix.is_empty() {
                asked.push((NEVER_TO_EVIDENCE, format!("{bucket}/{}/*", place.prefix)));
            }
            for (actions, resource) in asked {
                let more = principal.asked(actions, &resource, &[])?;
                answer.value.extend(more.value);
                answer.raw.extend(more.raw);
            }
        }
        let (allowed, unsaid) = (named(&answer.value, Some(Decision::Allowed)), named(&answer.value, None));
        let (status, seen) = match (allowed.is_empty(), unsaid.is_empty()) {
            (false, _) => (Status::Fail, format!("allowed: {}", allowed.join(", "))),
            (true, false) => (Status::Error, format!("not answered: {}", unsaid.join(", "))),
            (true, true) => (Status::Pass, "all of them are denied by simulation".to_owned()),
        };
        Ok(Finding::new(&principal.scope, status, seen, expected).with_answers(&answer.raw))
    })
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
