//! What EC2 and IAM know of an instance, as evidence beside its disks: the answers as they came, in one exhibit.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::Source as SourceFacts;
use custody::clock::Clock;
use custody::sha256;
use serde_json::{Map, Value, json};

use crate::aws::ec2::{Ec2, Instance};
use crate::aws::iam::Iam;
use crate::aws::ssm::Ssm;
use crate::aws::sts::Sts;
use crate::aws::{Connection, Failure, FailureKind, Raw};
use crate::capture::{Capture, Streams};
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// Attributes of an instance that no description of it has.
const ATTRIBUTES: [&str; 4] =
    ["userData", "disableApiTermination", "disableApiStop", "instanceInitiatedShutdownBehavior"];

/// An instance whose facts are acquired: groups and rules, role, user data, image, tags, interfaces, volumes, console.
///
/// Its bundle has one stream `objects`: a folder for each service, a file for each page of each answer, and
/// `/answers.jsonl`, which says of each file what was asked when, under which number of the service, and its hash. What is
/// encoded within an answer (user data, console output) stands beside it once more as plain bytes. What could not be had is
/// an issue and a line there, with the reason.
#[derive(Debug)]
pub struct InstanceFacts {
    connection: Connection,
    instance: Instance,
    account: String,
    first: Vec<Raw>,
    /// Answers had, and those that were not.
    counts: (u64, u64),
}

impl InstanceFacts {
    /// Looks at the instance: it must be there.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`].
    pub fn open(connection: &Connection, id: &str) -> Result<Self> {
        let found = Ec2::new(connection)?.describe_instance(id)?;
        let account = found.value.owner.clone();
        let connection = connection.clone();
        Ok(Self { connection, instance: found.value, account, first: found.raw, counts: (0, 0) })
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl Capture for InstanceFacts {
    fn facts(&self) -> SourceFacts {
        let Instance { id, image, kind, launched, state, zone, .. } = &self.instance;
        let more = json!({
            "account": self.account, "image": image, "instance_type": kind, "launched": launched,
            "region": self.connection.region(), "state": state, "zone": zone,
        });
        SourceFacts {
            kind: "cloud-instance".to_owned(),
            path: Some(id.clone()),
            more: more.as_object().cloned().unwrap_or_default(),
            ..SourceFacts::default()
        }
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let clock = streams.clock();
        let (connection, instance) = (self.connection.clone(), self.instance.clone());
        let first = std::mem::take(&mut self.first);
        self.counts = streams.tar("objects", "objects", |packer| {
            let mut answers =
                Answers { packer, clock, prefix: String::new(), lines: String::new(), counts: (0, 0) };
            answers.gather(&connection, &instance, first)?;
            answers.end()
        })?;
        Ok(())
    }

    fn facts_after(&self) -> Map<String, Value> {
        let (had, missing) = self.counts;
        Map::from_iter([("answers".to_owned(), had.into()), ("answers_missing".to_owned(), missing.into())])
    }
}

/// Packs answers, one after the other, and the list of them.
struct Answers<'a, 'b> {
    packer: &'a mut TarPacker<'b>,
    clock: &'a dyn Clock,
    /// The folder of the service that is asked now.
    prefix: String,
    lines: String,
    counts: (u64, u64),
}

impl Answers<'_, '_> {
    fn gather(&mut self, connection: &Connection, instance: &Instance, first: Vec<Raw>) -> Result<()> {
        let id = instance.id.as_str();
        "sts".clone_into(&mut self.prefix);
        let who = Sts::new(connection)?.caller_identity();
        self.pack("caller-identity", who.map(|who| who.raw))?;

        "ec2".clone_into(&mut self.prefix);
        let ec2 = Ec2::new(connection)?;
        self.pack("instance", Ok(first))?;
        for attribute in ATTRIBUTES {
            let answer = ec2.instance_attribute(id, attribute);
            let user_data = answer.as_ref().ok().filter(|_| attribute == "userData").and_then(user_data);
            self.pack(&format!("attribute-{attribute}"), answer.map(|raw| vec![raw]))?;
            if let Some(encoded) = user_data {
                self.decoded("user-data.bin", &encoded)?;
            }
        }
        let console = ec2.console_output(id);
        let output = console.as_ref().ok().map(|console| console.value.clone());
        self.pack("console-output", console.map(|console| console.raw))?;
        if let Some(encoded) = output.filter(|encoded| !encoded.is_empty()) {
            self.decoded("console-output.txt", &encoded)?;
        }
        let volumes: Vec<&str> = instance.devices.iter().map(|device| device.volume.as_str()).collect();
        let groups: Vec<&str> = instance.security_groups.iter().map(String::as_str).collect();
        let mut resources = vec![id];
        resources.extend(volumes.iter().chain(&groups));
        resources.extend(instance.interfaces.iter().map(String::as_str));
        let (image, vpc, subnet) =
            ([instance.image.as_str()], [instance.vpc.as_str()], [instance.subnet.as_str()]);
        let questions: [(&str, &str, &str, &[&str]); 16] = [
            ("network-interfaces", "DescribeNetworkInterfaces", "attachment.instance-id", &[id]),
            ("security-groups", "DescribeSecurityGroups", "group-id", &groups),
            ("security-group-rules", "DescribeSecurityGroupRules", "group-id", &groups),
            ("volumes", "DescribeVolumes", "volume-id", &volumes),
            ("snapshots-of-volumes", "DescribeSnapshots", "volume-id", &volumes),
            ("tags", "DescribeTags", "resource-id", &resources),
            ("image", "DescribeImages", "image-id", &image),
            ("addresses", "DescribeAddresses", "instance-id", &[id]),
            ("instance-profile-associations", "DescribeIamInstanceProfileAssociations", "instance-id", &[id]),
            ("subnet", "DescribeSubnets", "subnet-id", &subnet),
            ("vpc", "DescribeVpcs", "vpc-id", &vpc),
            ("network-acls", "DescribeNetworkAcls", "vpc-id", &vpc),
            ("route-tables", "DescribeRouteTables", "vpc-id", &vpc),
            ("vpc-endpoints", "DescribeVpcEndpoints", "vpc-id", &vpc),
            ("flow-logs-of-vpc", "DescribeFlowLogs", "resource-id", &vpc),
            ("flow-logs-of-subnet", "DescribeFlowLogs", "resource-id", &subnet),
        ];
        for (name, operation, filter, values) in questions {
            // Without a value there is nothing to ask about: no VPC, no image any more.
            if !values.iter().all(|value| value.is_empty()) {
                self.pack(name, ec2.describe(operation, filter, values))?;
            }
        }

        self.role(connection, instance)?;
        "ssm".clone_into(&mut self.prefix);
        let agent = Ssm::new(connection)?.agents(&[id]);
        self.pack("agent", agent.map(|agent| agent.raw))
    }

    /// The role that the instance acts with, who may become it, and what it may do.
    fn role(&mut self, connection: &Connection, instance: &Instance) -> Result<()> {
        // As arn:aws:iam::123456789012:instance-profile/path/name.
        let profile = instance.profile.as_deref().and_then(|arn| arn.rsplit('/').next());
        let Some(profile) = profile else { return Ok(()) };
        "iam".clone_into(&mut self.prefix);
        let iam = Iam::new(connection)?;
        let found = iam.profile_roles(profile);
        let roles = found.as_ref().map(|found| found.value.clone()).unwrap_or_default();
        self.pack("instance-profile", found.map(|found| found.raw))?;
        for role in roles {
            self.pack(&format!("role-{role}"), iam.role(&role).map(|raw| vec![raw]))?;
            let attached = iam.attached_policies(&role).map(|found| found.raw);
            self.pack(&format!("role-{role}-attached-policies"), attached)?;
            let own = iam.own_policies(&role);
            let names = own.as_ref().map(|own| own.value.clone()).unwrap_or_default();
            self.pack(&format!("role-{role}-own-policies"), own.map(|own| own.raw))?;
            for name in names {
                let policy = iam.own_policy(&role, &name).map(|raw| vec![raw]);
                self.pack(&format!("role-{role}-own-policy-{name}"), policy)?;
            }
        }
        Ok(())
    }

    /// Packs what was answered, or lists what was not.
    fn pack(&mut self, name: &str, answer: std::result::Result<Vec<Raw>, Failure>) -> Result<()> {
        let asked = self.clock.now().rfc3339();
        // What comes into a name comes from an answer.
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.+=@,".contains(c) { c } else { '_' };
        let name: String = name.chars().take(200).map(safe).collect();
        let pages = match answer {
            Ok(pages) => pages,
            Err(failure) => {
                let path = PathBuf::from(format!("/{}/{name}", self.prefix));
                let kind = if failure.kind == FailureKind::Denied { "not permitted" } else { "not had" };
                self.packer.note(&path, &format!("{kind}: {failure}"));
                self.line(json!({"answered": asked, "failure": failure.to_string(), "name": name}));
                self.counts.1 = self.counts.1.saturating_add(1);
                return Ok(());
            }
        };
        let is_long = pages.len() > 1;
        for (number, page) in (1..).zip(pages) {
            let ending = if page.is_json { "json" } else { "xml" };
            let part = if is_long { format!(".{number}") } else { String::new() };
            let path = format!("{}/{name}{part}.{ending}", self.prefix);
            self.packer.made(&path, &page.bytes)?;
            self.line(json!({
                "answered": asked, "name": name, "operation": page.operation, "path": format!("/{path}"),
                "request_id": page.request_id.unwrap_or_default(), "sha256": sha256(&page.bytes).to_string(),
                "size": page.bytes.len(),
            }));
        }
        self.counts.0 = self.counts.0.saturating_add(1);
        Ok(())
    }

    /// Packs what stands in base64 within an answer, as the bytes that it is.
    fn decoded(&mut self, name: &str, encoded: &str) -> Result<()> {
        let path = format!("{}/{name}", self.prefix);
        let encoded: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        match STANDARD.decode(encoded) {
            Ok(bytes) => self.packer.made(&path, &bytes),
            Err(_) => {
                self.packer.note(
                    Path::new(&format!("/{path}")),
                    "it is no base64; it is kept as it came, in the answer",
                );
                Ok(())
            }
        }
    }

    fn line(&mut self, line: Value) {
        self.lines.push_str(&line.to_string());
        self.lines.push('\n');
    }

    fn end(self) -> Result<(u64, u64)> {
        self.packer.made("answers.jsonl", self.lines.as_bytes())?;
        Ok(self.counts)
    }
}

/// User data within its answer, if there is any.
fn user_data(raw: &Raw) -> Option<String> {
    let answer = crate::aws::Element::parse(&raw.bytes).ok()?;
    answer.some(&["userData", "value"])
}
