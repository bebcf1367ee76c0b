//! EC2: instances, volumes, and what stands beside them. Snapshots are in `ec2_snapshots`.

use super::answer::{Answered, Raw, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller, Form};
use super::xml::Element;

pub use super::ec2_network::{
    Address, GroupRule, Interface, Peer, Permission, ProfileAssociation, SecurityGroup,
};
pub use super::ec2_protection::Protection;
pub use super::ec2_snapshots::{Lock, LockMode, LockState, Snapshot, SnapshotState};

static EC2: Service =
    Service { name: "EC2", id: "EC2", host: "ec2", prefix: "ec2", protocol: Protocol::Query("2016-11-15") };

/// Resources of one answer; EC2 gives at most 1,000 of either.
const PAGE: &str = "500";

/// Whether a text is an id of EC2: a kind, as `i-`, and 8 to 32 hexadecimal digits in lower case.
#[must_use]
pub fn is_id(text: &str, kind: &str) -> bool {
    text.strip_prefix(kind).is_some_and(|digits| {
        (8..=32).contains(&digits.len())
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A name and a value on a resource.
pub type Tag = (String, String);

/// A client of EC2.
#[derive(Debug, Clone)]
pub struct Ec2(pub(super) Caller);

/// An instance, as far as an acquisition needs it; all else is in the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// The account that it is in.
    pub owner: String,
    /// `running`, `stopped`, …
    pub state: String,
    /// The image that it was started from.
    pub image: String,
    /// `t3.micro`, …
    pub kind: String,
    /// When it was started, RFC 3339.
    pub launched: String,
    /// Device name of the root volume.
    pub root_device: String,
    /// Where it is.
    pub zone: String,
    /// Its VPC and subnet; empty where there is none.
    pub vpc: String,
    /// Its subnet.
    pub subnet: String,
    /// ARN of the instance profile.
    pub profile: Option<String>,
    /// Volumes by device name.
    pub devices: Vec<Device>,
    /// Security groups of all its network interfaces.
    pub security_groups: Vec<String>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Addresses, private ones first.
    pub addresses: Vec<String>,
    /// Names in the DNS, the private one first.
    pub names: Vec<String>,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// A volume of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// `/dev/xvda`
    pub name: String,
    /// `vol-…`
    pub volume: String,
    /// Whether it is deleted when the instance ends.
    pub delete_on_termination: bool,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// `vol-…`
    pub id: String,
    /// GiB.
    pub gib: u64,
    /// `available`, `in-use`, …
    pub state: String,
    /// The snapshot that it was made from.
    pub from_snapshot: Option<String>,
    /// The key that it is encrypted with.
    pub kms_key: Option<String>,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Instances that it is attached to, with its device name there.
    pub attached: Vec<(String, String)>,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Ec2 {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &EC2)?))
    }

    /// One instance.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if this region has none of that id.
    pub fn describe_instance(&self, id: &str) -> Result<Answered<Instance>, Failure> {
        let found =
            self.list("DescribeInstances", id, "reservationSet", Form::default().list("InstanceId", [id]))?;
        self.one("DescribeInstances", id, found.map(of_reservations), |instance| &instance.id)
    }

    /// Every instance of the region, page by page.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn all_instances(&self) -> Result<Answered<Vec<Instance>>, Failure> {
        let form = Form::default().with("MaxResults", PAGE);
        let found = self.list("DescribeInstances", "the region", "reservationSet", form)?;
        Ok(found.map(of_reservations))
    }

    /// Every volume of the region, page by page.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn all_volumes(&self) -> Result<Answered<Vec<Volume>>, Failure> {
        let form = Form::default().with("MaxResults", PAGE);
        let found = self.list("DescribeVolumes", "the region", "volumeSet", form)?;
        Ok(found.map(|volumes| volumes.iter().map(volume).collect()))
    }

    /// Volumes by id.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if this region has not all of them.
    pub fn describe_volumes(&self, ids: &[&str]) -> Result<Answered<Vec<Volume>>, Failure> {
        let on = ids.join(" ");
        let form = Form::default().list("VolumeId", ids.iter().copied());
        let found = self.list("DescribeVolumes", &on, "volumeSet", form)?;
        let found = found.map(|volumes| volumes.iter().map(volume).collect::<Vec<_>>());
        if ids.iter().any(|id| !found.value.iter().any(|volume| volume.id == *id)) {
            return Err(Failure::found(
                "EC2 DescribeVolumes",
                FailureKind::Corrupt,
                "a volume is not in the answer",
            ));
        }
        Ok(found)
    }

    /// One volume.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if this region has none of that id.
    pub fn describe_volume(&self, id: &str) -> Result<Answered<Volume>, Failure> {
        let all = self.describe_volumes(&[id])?;
        self.one("DescribeVolumes", id, all, |volume| &volume.id)
    }

    /// One attribute of an instance, such as `userData`: the answer alone.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn instance_attribute(&self, id: &str, attribute: &str) -> Result<Raw, Failure> {
        let call = Call::reads("DescribeInstanceAttribute", id);
        let form = Form::default().with("InstanceId", id).with("Attribute", attribute);
        Ok(self.0.form(&call, form)?.1)
    }

    /// What the instance wrote to its console: the last 64 KiB that EC2 kept, in base64 within the answer.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn console_output(&self, id: &str) -> Result<Answered<String>, Failure> {
        let (answer, raw) =
            self.0.form(&Call::reads("GetConsoleOutput", id), Form::default().with("InstanceId", id))?;
        Ok(Answered { value: answer.string(&["output"]), raw: vec![raw] })
    }

    /// Everything that another `Describe…` operation says, where a filter has one of these values, page by page.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn describe(&self, operation: &str, filter: &str, values: &[&str]) -> Result<Vec<Raw>, Failure> {
        let form =
            Form::default().with("Filter.1.Name", filter).list("Filter.1.Value", values.iter().copied());
        Ok(self.list(operation, &values.join(" "), "", form)?.raw)
    }

    /// Whether the account may do this, asked with `DryRun`: nothing is done.
    ///
    /// # Errors
    ///
    /// Whatever else than yes the service says; [`FailureKind::Denied`] is a plain no.
    pub(crate) fn may(&self, operation: &str, on: &str, form: Form) -> Result<(), Failure> {
        let call = Call::reads(operation, on);
        match self.0.form(&call, form.with("DryRun", "true")) {
            Err(failure) if failure.code == "DryRunOperation" => Ok(()),
            Err(failure) => Err(failure),
            // A server that does not know the word does what it was asked; only reading may be tried so.
            Ok(_) => Err(self.0.found(
                &call,
                FailureKind::Corrupt,
                "it was done, though only asked whether it may",
            )),
        }
    }

    /// The items of a list over all its pages. `set` is the name of the list in the answer.
    pub(super) fn list(
        &self,
        operation: &str,
        on: &str,
        set: &str,
        form: Form,
    ) -> Result<Answered<Vec<Element>>, Failure> {
        all_pages(&format!("EC2 {operation}"), |token| {
            let form = form.clone().maybe("NextToken", token);
            let (mut answer, raw) = self.0.form(&Call::reads(operation, on), form)?;
            let next = answer.some(&["nextToken"]);
            let list = answer.children.iter_mut().find(|child| child.name == set);
            let items = list.map(|list| std::mem::take(&mut list.children)).unwrap_or_default();
            Ok((items, next, raw))
        })
    }

    pub(super) fn one<T>(
        &self,
        operation: &str,
        id: &str,
        found: Answered<Vec<T>>,
        id_of: impl Fn(&T) -> &String,
    ) -> Result<Answered<T>, Failure> {
        let Answered { value, raw } = found;
        match value.into_iter().find(|one| id_of(one) == id) {
            Some(value) => Ok(Answered { value, raw }),
            None => {
                let call = Call::reads(operation, id);
                Err(self.0.found(&call, FailureKind::NotFound, format!("{id} is not in the answer")))
            }
        }
    }
}

/// Tags as a form has them, for what is made by the same call.
pub(super) fn tag_specification(form: Form, number: u32, resource: &str, tags: &[Tag]) -> Form {
    let form = form.with(format!("TagSpecification.{number}.ResourceType"), resource);
    (1..).zip(tags).fold(form, |form, (tag, (key, value))| {
        form.with(format!("TagSpecification.{number}.Tag.{tag}.Key"), key.as_str())
            .with(format!("TagSpecification.{number}.Tag.{tag}.Value"), value.as_str())
    })
}

pub(super) fn tags(element: &Element) -> Vec<Tag> {
    element.list("tagSet").map(|tag| (tag.string(&["key"]), tag.string(&["value"]))).collect()
}

fn of_reservations(reservations: Vec<Element>) -> Vec<Instance> {
    let of = |reservation: &Element| {
        let owner = reservation.string(&["ownerId"]);
        reservation.list("instancesSet").map(|found| instance(found, &owner)).collect::<Vec<_>>()
    };
    reservations.iter().flat_map(of).collect()
}

/// Everything that is said at these places, each thing once.
fn said(found: &Element, places: &[&str]) -> Vec<String> {
    let interfaces = || std::iter::once(found).chain(found.list("networkInterfaceSet"));
    let mut all = Vec::new();
    for place in places {
        all.extend(interfaces().filter_map(|element| element.some(&[*place])));
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
    all
}

fn instance(found: &Element, owner: &str) -> Instance {
    let mut security_groups: Vec<String> = Vec::new();
    let mut interfaces = Vec::new();
    let mut groups_of = |element: &Element| {
        for group in element.list("groupSet") {
            let id = group.string(&["groupId"]);
            if !id.is_empty() && !security_groups.contains(&id) {
                security_groups.push(id);
            }
        }
    };
    groups_of(found);
    for interface in found.list("networkInterfaceSet") {
        groups_of(interface);
        interfaces.extend(interface.some(&["networkInterfaceId"]));
    }
    let devices = found.list("blockDeviceMapping").map(|device| Device {
        name: device.string(&["deviceName"]),
        volume: device.string(&["ebs", "volumeId"]),
        delete_on_termination: device.at(&["ebs", "deleteOnTermination"]) == "true",
    });
    Instance {
        id: found.string(&["instanceId"]),
        owner: owner.to_owned(),
        state: found.string(&["instanceState", "name"]),
        image: found.string(&["imageId"]),
        kind: found.string(&["instanceType"]),
        launched: found.string(&["launchTime"]),
        root_device: found.string(&["rootDeviceName"]),
        zone: found.string(&["placement", "availabilityZone"]),
        vpc: found.string(&["vpcId"]),
        subnet: found.string(&["subnetId"]),
        profile: found.some(&["iamInstanceProfile", "arn"]),
        devices: devices.filter(|device| !device.volume.is_empty()).collect(),
        security_groups,
        interfaces,
        addresses: said(found, &["privateIpAddress", "ipAddress", "ipv6Address"]),
        names: said(found, &["privateDnsName", "dnsName"]),
        tags: tags(found),
    }
}

fn volume(found: &Element) -> Volume {
    let attached = found.list("attachmentSet");
    Volume {
        id: found.string(&["volumeId"]),
        gib: found.at(&["size"]).parse().unwrap_or(0),
        state: found.string(&["status"]),
        from_snapshot: found.some(&["snapshotId"]),
        kms_key: found.some(&["kmsKeyId"]),
        is_encrypted: found.at(&["encrypted"]) == "true",
        attached: attached.map(|at| (at.string(&["instanceId"]), at.string(&["device"]))).collect(),
        tags: tags(found),
    }
}
