//! What the account lets us do with a target, found out without doing it.
//!
//! EC2 is asked with `DryRun`; IAM simulates what only policies can tell; what only reads is tried. A simulation knows neither
//! the policies of resources (a key's) nor those of an organisation, so *allowed* there is not yet a promise; a *denied* is.

use std::fmt;

use super::first_look::{ask_for_block, first_block};
use super::own_snapshots::{MADE_BY, TAG_CASE, TAG_MADE_BY, tags_for};
use super::target::Target;
use crate::aws::ec2::Ec2;
use crate::aws::iam::{Decision, Iam};
use crate::aws::kms::Kms;
use crate::aws::sts::{CallerIdentity, Sts};
use crate::aws::{Connection, Failure, FailureKind};
use crate::error::Result;

/// What is known of one permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PermissionState {
    /// It is there.
    Allowed,
    /// It is missing.
    Denied,
    /// It could not be found out; the words say why.
    NotTested,
}

impl fmt::Display for PermissionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NotTested => "not tested",
        })
    }
}

/// One permission that an acquisition needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// `ec2:CreateSnapshots`
    pub action: String,
    /// On what: an id or an ARN.
    pub resource: String,
    /// Whether it is there.
    pub state: PermissionState,
    /// How it was found out, or why not.
    pub words: String,
}

/// The permissions that acquiring a target needs, one by one. Nothing is made, changed or kept; of a snapshot, one block is
/// asked for and dropped, since nothing else tells whether its key may be used.
///
/// `case` is the id of the case that tags will name, if there is one; `locks` says whether snapshots will be locked.
///
/// # Errors
///
/// [`crate::Error::Cloud`] where the account cannot be reached at all, or the target is not there.
pub fn check(
    connection: &Connection,
    target: &Target,
    case: Option<&str>,
    locks: bool,
) -> Result<Vec<Permission>> {
    let who = Sts::new(connection)?.caller_identity()?.value;
    let mut found = Found {
        connection,
        iam: Iam::new(connection)?,
        ec2: Ec2::new(connection)?,
        who,
        case: case.unwrap_or("case"),
        no_simulation: None,
        permissions: Vec::new(),
    };
    match target {
        Target::Snapshot(id) => found.snapshot(id)?,
        Target::Volume(id) => {
            let volume = found.ec2.describe_volume(id);
            found.live("ec2:DescribeVolumes", id, &volume);
            let key = volume.ok().and_then(|volume| volume.value.kms_key);
            let tags = tags_for(found.case, "dry-run", target);
            let may = found.ec2.may_create_snapshot(id, &tags);
            found.dry_run("ec2:CreateSnapshot", id, may);
            found.own_snapshots(locks, &key.into_iter().collect::<Vec<_>>());
        }
        Target::Instance(id) => {
            let instance = found.ec2.describe_instance(id)?.value;
            found.add("ec2:DescribeInstances", id, PermissionState::Allowed, "tried");
            let volumes: Vec<&str> = instance.devices.iter().map(|device| device.volume.as_str()).collect();
            let volumes = found.ec2.describe_volumes(&volumes);
            found.live("ec2:DescribeVolumes", id, &volumes);
            let mut keys: Vec<String> = volumes
                .into_iter()
                .flat_map(|found| found.value)
                .filter_map(|volume| volume.kms_key)
                .collect();
            keys.sort();
            keys.dedup();
            let tags = tags_for(found.case, "dry-run", target);
            let may = found.ec2.may_create_snapshots(id, &tags);
            found.dry_run("ec2:CreateSnapshots", id, may);
            let attribute = found.ec2.instance_attribute(id, "userData");
            found.live("ec2:DescribeInstanceAttribute", id, &attribute);
            let console = found.ec2.console_output(id);
            found.live("ec2:GetConsoleOutput", id, &console);
            found.own_snapshots(locks, &keys);
        }
    }
    Ok(found.permissions)
}

struct Found<'a> {
    connection: &'a Connection,
    iam: Iam,
    ec2: Ec2,
    who: CallerIdentity,
    case: &'a str,
    /// Why IAM does not simulate; it is asked once.
    no_simulation: Option<Failure>,
    permissions: Vec<Permission>,
}

impl Found<'_> {
    fn add(&mut self, action: &str, resource: &str, state: PermissionState, words: impl Into<String>) {
        self.permissions.push(Permission {
            action: action.to_owned(),
            resource: resource.to_owned(),
            state,
            words: words.into(),
        });
    }

    /// What was tried.
    fn live<T>(&mut self, action: &str, resource: &str, answer: &std::result::Result<T, Failure>) {
        match answer {
            Ok(_) => self.add(action, resource, PermissionState::Allowed, "tried"),
            Err(failure) if failure.kind == FailureKind::Denied => {
                self.add(action, resource, PermissionState::Denied, failure.to_string());
            }
            Err(failure) => self.add(action, resource, PermissionState::NotTested, failure.to_string()),
        }
    }

    /// What was asked with `DryRun`.
    fn dry_run(&mut self, action: &str, resource: &str, answer: std::result::Result<(), Failure>) {
        match answer {
            Ok(()) => self.add(action, resource, PermissionState::Allowed, "asked with DryRun"),
            no => self.live(action, resource, &no),
        }
    }

    /// A snapshot that is there.
    fn snapshot(&mut self, id: &str) -> Result<()> {
        let snapshot = self.ec2.describe_snapshot(id);
        self.live("ec2:DescribeSnapshots", id, &snapshot);
        let key = snapshot.ok().and_then(|snapshot| snapshot.value.kms_key);
        let first = first_block(self.connection, id);
        self.live("ebs:ListSnapshotBlocks", id, &first);
        if let Err(failure) = &first
            && failure.kind == FailureKind::NotFound
        {
            return Err(failure.clone().into());
        }
        let arn = self.snapshot_arn(id);
        let Ok(Some((index, token))) = first else {
            self.simulated(&["ebs:GetSnapshotBlock"], &arn, &[]);
            self.keys(&key.into_iter().collect::<Vec<_>>());
            return Ok(());
        };
        let block = ask_for_block(self.connection, id, (index, &token));
        let of_key = key.as_deref().unwrap_or("the snapshot's key");
        match &block {
            Err(failure) if failure.is_of_key() => {
                let words = format!("the key refuses, not the snapshot: {failure}");
                self.add("kms:Decrypt", of_key, PermissionState::Denied, words);
            }
            block => {
                self.live("ebs:GetSnapshotBlock", id, block);
                if block.is_ok() && key.is_some() {
                    self.add("kms:Decrypt", of_key, PermissionState::Allowed, "a block was read");
                }
            }
        }
        Ok(())
    }

    /// Snapshots that are not there yet: made by us, with our tags.
    fn own_snapshots(&mut self, locks: bool, keys: &[String]) {
        let arn = self.snapshot_arn("*");
        let case = self.case;
        let on_request =
            [(&*format!("aws:RequestTag/{TAG_CASE}"), case), ("ec2:CreateAction", "CreateSnapshot")];
        self.simulated(&["ec2:CreateTags"], &arn, &on_request);
        let of_case = format!("aws:ResourceTag/{TAG_CASE}");
        let made_by = format!("aws:ResourceTag/{TAG_MADE_BY}");
        let tags = [(of_case.as_str(), case), (made_by.as_str(), MADE_BY)];
        self.simulated(&["ec2:DescribeSnapshots"], "*", &[]);
        let mut actions = vec!["ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock", "ec2:DeleteSnapshot"];
        if locks {
            actions.push("ec2:LockSnapshot");
        }
        self.simulated(&actions, &arn, &tags);
        self.simulated(&["ec2:DescribeLockedSnapshots"], "*", &[]);
        self.keys(keys);
    }

    fn keys(&mut self, keys: &[String]) {
        for key in keys {
            let described = Kms::new(self.connection).and_then(|kms| kms.describe_key(key));
            match &described {
                Ok(described) if described.value.state != "Enabled" => {
                    let words = format!("the key is {}: nothing can be read with it", described.value.state);
                    self.add("kms:DescribeKey", key, PermissionState::Allowed, words);
                }
                described => self.live("kms:DescribeKey", key, described),
            }
            self.simulated(&["kms:Decrypt"], key, &[]);
        }
    }

    /// What policies say of actions on a resource.
    fn simulated(&mut self, actions: &[&str], resource: &str, context: &[(&str, &str)]) {
        if self.who.arn.ends_with(":root") {
            for action in actions {
                let words = "the root of an account cannot be simulated; only its organisation can limit it";
                self.add(action, resource, PermissionState::NotTested, words);
            }
            return;
        }
        let answer = match &self.no_simulation {
            Some(failure) => Err(failure.clone()),
            None => self.iam.simulate(&self.who.policy_arn(), actions, resource, context),
        };
        self.no_simulation = answer.as_ref().err().cloned();
        for action in actions {
            let of_it = answer.as_ref().map(|answer| {
                answer
                    .value
                    .iter()
                    .filter(|found| found.action == *action)
                    .map(|found| found.decision)
                    .collect::<Vec<_>>()
            });
            let (state, words) = match of_it {
                Err(failure) => (PermissionState::NotTested, failure.to_string()),
                Ok(decisions) if decisions.is_empty() => {
                    (PermissionState::NotTested, "IAM said nothing of it".to_owned())
                }
                Ok(decisions) if decisions.contains(&Decision::Denied) => {
                    (PermissionState::Denied, "simulated: a policy denies it".to_owned())
                }
                Ok(decisions) if decisions.contains(&Decision::NotAllowed) => {
                    (PermissionState::Denied, "simulated: no policy allows it".to_owned())
                }
                Ok(_) => (PermissionState::Allowed, "simulated".to_owned()),
            };
            self.add(action, resource, state, words);
        }
    }

    /// `arn:aws:ec2:eu-central-1::snapshot/…`, in the caller's partition.
    fn snapshot_arn(&self, id: &str) -> String {
        let partition = self.who.arn.split(':').nth(1).unwrap_or("aws");
        format!("arn:{partition}:ec2:{}::snapshot/{id}", self.connection.region())
    }
}
