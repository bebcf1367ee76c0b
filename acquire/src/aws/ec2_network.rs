//! EC2: what stands between an instance and the network. Interfaces, security groups, addresses, and its role.

use super::answer::Answered;
use super::ec2::{Ec2, Tag, tag_specification, tags};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Form};
use super::xml::Element;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// `eni-…`
    pub id: String,
    /// The VPC it is in.
    pub vpc: String,
    /// The instance it is attached to.
    pub instance: String,
    /// Its security groups.
    pub groups: Vec<String>,
}

/// An elastic address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// `eipalloc-…`
    pub allocation: String,
    /// `eipassoc-…`; empty while it is with nobody.
    pub association: String,
    /// The address itself.
    pub public_ip: String,
    /// The interface that it is with.
    pub interface: String,
    /// The private address there.
    pub private_ip: String,
}

/// A security group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-…`
    pub id: String,
    /// Its name, of which a VPC has one.
    pub name: String,
    /// The VPC it is in.
    pub vpc: String,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl SecurityGroup {
    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// The other side of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// IPv4 addresses, as `10.0.0.0/8`.
    Ipv4(String),
    /// IPv6 addresses, as `::/0`.
    Ipv6(String),
    /// Whatever has this security group.
    Group(String),
    /// The addresses of a prefix list, such as those of S3.
    PrefixList(String),
}

/// What a rule lets through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// Whether it is for what goes out.
    pub is_egress: bool,
    /// A TCP port; `None` for everything.
    pub tcp_port: Option<u16>,
    /// From or to whom.
    pub peer: Peer,
}

/// A rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// `sgr-…`
    pub id: String,
    /// Whether it is for what goes out.
    pub is_egress: bool,
    /// What it lets through; `None` for what this type has no words for.
    pub permission: Option<Permission>,
}

/// The role of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileAssociation {
    /// `iip-assoc-…`
    pub id: String,
    /// ARN of the instance profile.
    pub profile: String,
    /// `associating`, `associated`, `disassociating`
    pub state: String,
}

impl ProfileAssociation {
    /// Whether it is being taken away at this moment: the instance has no role soon, and takes none until then.
    #[must_use]
    pub fn is_going(&self) -> bool {
        self.state == "disassociating"
    }
}

impl Ec2 {
    /// The network interfaces of an instance.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeNetworkInterfaces`.
    pub fn interfaces_of(&self, instance: &str) -> Result<Answered<Vec<Interface>>, Failure> {
        let form = Form::default()
            .with("Filter.1.Name", "attachment.instance-id")
            .with("Filter.1.Value.1", instance);
        let found = self.list("DescribeNetworkInterfaces", instance, "networkInterfaceSet", form)?;
        // A server that does not filter must not have us change foreign ones.
        let is_its = |interface: &Interface| interface.instance == instance;
        Ok(found.map(|all| all.iter().map(interface).filter(is_its).collect()))
    }

    /// Gives an interface these security groups, and no others.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if the interface or a group is not there.
    pub fn set_interface_groups(&self, interface: &str, groups: &[&str]) -> Result<(), Failure> {
        let form = Form::default()
            .with("NetworkInterfaceId", interface)
            .list("SecurityGroupId", groups.iter().copied());
        self.change("ModifyNetworkInterfaceAttribute", interface, form)
    }

    /// The elastic addresses of these interfaces.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeAddresses`.
    pub fn addresses_of(&self, interfaces: &[&str]) -> Result<Answered<Vec<Address>>, Failure> {
        if interfaces.is_empty() {
            return Ok(Answered { value: Vec::new(), raw: Vec::new() });
        }
        let form = Form::default()
            .with("Filter.1.Name", "network-interface-id")
            .list("Filter.1.Value", interfaces.iter().copied());
        let found = self.list("DescribeAddresses", &interfaces.join(" "), "addressesSet", form)?;
        let is_its = |address: &Address| interfaces.contains(&address.interface.as_str());
        Ok(found.map(|all| all.iter().map(address).filter(is_its).collect()))
    }

    /// One elastic address.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if it was given back.
    pub fn address(&self, allocation: &str) -> Result<Answered<Address>, Failure> {
        let form = Form::default().list("AllocationId", [allocation]);
        let found = self.list("DescribeAddresses", allocation, "addressesSet", form)?;
        let found = found.map(|all| all.iter().map(address).collect());
        self.one("DescribeAddresses", allocation, found, |address| &address.allocation)
    }

    /// Takes an elastic address from its interface; it stays the account's.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if it is with no interface any more.
    pub fn disassociate_address(&self, association: &str) -> Result<(), Failure> {
        self.change("DisassociateAddress", association, Form::default().with("AssociationId", association))
    }

    /// Gives an elastic address to an interface, unless another has it.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn associate_address(
        &self,
        allocation: &str,
        interface: &str,
        private_ip: &str,
    ) -> Result<(), Failure> {
        let form = Form::default()
            .with("AllocationId", allocation)
            .with("NetworkInterfaceId", interface)
            .with("AllowReassociation", "false")
            .maybe("PrivateIpAddress", Some(private_ip).filter(|ip| !ip.is_empty()));
        self.change("AssociateAddress", allocation, form)
    }

    /// Security groups that have all of these tags.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeSecurityGroups`.
    pub fn security_groups_with(
        &self,
        tags: &[(&str, &str)],
    ) -> Result<Answered<Vec<SecurityGroup>>, Failure> {
        let form = (1..).zip(tags).fold(Form::default(), |form, (number, (key, value))| {
            form.with(format!("Filter.{number}.Name"), format!("tag:{key}"))
                .with(format!("Filter.{number}.Value.1"), *value)
        });
        self.groups_where(form, |found| tags.iter().all(|(key, value)| found.tag(key) == Some(*value)))
    }

    /// Security groups that have a tag of this key, with whatever value.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeSecurityGroups`.
    pub fn security_groups_tagged(&self, key: &str) -> Result<Answered<Vec<SecurityGroup>>, Failure> {
        let form = Form::default().with("Filter.1.Name", "tag-key").with("Filter.1.Value.1", key);
        self.groups_where(form, |found| found.tag(key).is_some())
    }

    /// Those of these security groups that there are.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeSecurityGroups`.
    pub fn security_groups_of(&self, ids: &[&str]) -> Result<Answered<Vec<SecurityGroup>>, Failure> {
        if ids.is_empty() {
            return Ok(Answered { value: Vec::new(), raw: Vec::new() });
        }
        // Not as `GroupId`: that fails for all of them if one is gone.
        let form =
            Form::default().with("Filter.1.Name", "group-id").list("Filter.1.Value", ids.iter().copied());
        self.groups_where(form, |found| ids.contains(&found.id.as_str()))
    }

    fn groups_where(
        &self,
        form: Form,
        is_wanted: impl Fn(&SecurityGroup) -> bool,
    ) -> Result<Answered<Vec<SecurityGroup>>, Failure> {
        let found = self.list("DescribeSecurityGroups", "", "securityGroupInfo", form)?;
        Ok(found.map(|all| all.iter().map(group).filter(|group| is_wanted(group)).collect()))
    }

    /// Makes a security group, with its tags on it from the start. EC2 gives it rules that let everything out.
    ///
    /// # Errors
    ///
    /// A code `InvalidGroup.Duplicate` if the VPC has one of that name.
    pub fn create_security_group(
        &self,
        vpc: &str,
        name: &str,
        description: &str,
        tags: &[Tag],
    ) -> Result<String, Failure> {
        let call = Call::makes("CreateSecurityGroup", vpc);
        let form =
            Form::default().with("GroupName", name).with("GroupDescription", description).with("VpcId", vpc);
        let (answer, _) = self.0.form(&call, tag_specification(form, 1, "security-group", tags))?;
        let id = answer.string(&["groupId"]);
        if id.starts_with("sg-") {
            Ok(id)
        } else {
            Err(self.0.found(&call, FailureKind::Corrupt, "the answer names no security group"))
        }
    }

    /// The rules of a security group.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeSecurityGroupRules`.
    pub fn rules_of_group(&self, id: &str) -> Result<Answered<Vec<GroupRule>>, Failure> {
        let form = Form::default().with("Filter.1.Name", "group-id").with("Filter.1.Value.1", id);
        let found = self.list("DescribeSecurityGroupRules", id, "securityGroupRuleSet", form)?;
        Ok(found.map(|all| {
            all.iter().filter(|found| found.at(&["groupId"]) == id).map(group_rule).collect::<Vec<_>>()
        }))
    }

    /// Adds a rule to a security group.
    ///
    /// # Errors
    ///
    /// A code `InvalidPermission.Duplicate` if it is there.
    pub fn add_rule(&self, group: &str, permission: &Permission) -> Result<(), Failure> {
        let operation = if permission.is_egress {
            "AuthorizeSecurityGroupEgress"
        } else {
            "AuthorizeSecurityGroupIngress"
        };
        let form = Form::default().with("GroupId", group);
        let form = match permission.tcp_port {
            Some(port) => form
                .with("IpPermissions.1.IpProtocol", "tcp")
                .with("IpPermissions.1.FromPort", port.to_string())
                .with("IpPermissions.1.ToPort", port.to_string()),
            None => form.with("IpPermissions.1.IpProtocol", "-1"),
        };
        let form = match &permission.peer {
            Peer::Ipv4(net) => form.with("IpPermissions.1.IpRanges.1.CidrIp", net),
            Peer::Ipv6(net) => form.with("IpPermissions.1.Ipv6Ranges.1.CidrIpv6", net),
            Peer::Group(id) => form.with("IpPermissions.1.Groups.1.GroupId", id),
            Peer::PrefixList(id) => form.with("IpPermissions.1.PrefixListIds.1.PrefixListId", id),
        };
        self.change(operation, group, form)
    }

    /// Removes rules of a security group by their ids, all of one direction.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if one is not there.
    pub fn remove_rules(&self, group: &str, is_egress: bool, ids: &[&str]) -> Result<(), Failure> {
        let operation = if is_egress { "RevokeSecurityGroupEgress" } else { "RevokeSecurityGroupIngress" };
        let form = Form::default().with("GroupId", group).list("SecurityGroupRuleId", ids.iter().copied());
        self.change(operation, group, form)
    }

    /// Deletes a security group.
    ///
    /// # Errors
    ///
    /// A code `DependencyViolation` while an interface has it, [`FailureKind::NotFound`] if it is gone.
    pub fn delete_security_group(&self, id: &str) -> Result<(), Failure> {
        self.change("DeleteSecurityGroup", id, Form::default().with("GroupId", id))
    }

    /// The role of an instance, also one that is being taken away; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeIamInstanceProfileAssociations`.
    pub fn profile_of(&self, instance: &str) -> Result<Answered<Option<ProfileAssociation>>, Failure> {
        let form = Form::default().with("Filter.1.Name", "instance-id").with("Filter.1.Value.1", instance);
        let found = self.list(
            "DescribeIamInstanceProfileAssociations",
            instance,
            "iamInstanceProfileAssociationSet",
            form,
        )?;
        Ok(found.map(|all| association(&all, instance)))
    }

    /// Takes the role from an instance. Credentials that it had fetched hold on until they end.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if it has it no more.
    pub fn disassociate_profile(&self, association: &str) -> Result<(), Failure> {
        let form = Form::default().with("AssociationId", association);
        self.change("DisassociateIamInstanceProfile", association, form)
    }

    /// Gives an instance a role.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:PassRole`; a code `IncorrectState` if it has one.
    pub fn associate_profile(&self, instance: &str, profile: &str) -> Result<(), Failure> {
        let form = Form::default().with("InstanceId", instance).with("IamInstanceProfile.Arn", profile);
        self.change("AssociateIamInstanceProfile", instance, form)
    }

    /// A change that is no other the second time.
    fn change(&self, operation: &str, on: &str, form: Form) -> Result<(), Failure> {
        self.0.form(&Call::reads(operation, on), form)?;
        Ok(())
    }
}

/// The association that counts: one that stands before one that goes.
fn association(all: &[Element], instance: &str) -> Option<ProfileAssociation> {
    let its =
        all.iter().filter(|found| found.at(&["instanceId"]) == instance).map(|found| ProfileAssociation {
            id: found.string(&["associationId"]),
            profile: found.string(&["iamInstanceProfile", "arn"]),
            state: found.string(&["state"]),
        });
    its.filter(|its| its.state != "disassociated").min_by_key(ProfileAssociation::is_going)
}

fn interface(found: &Element) -> Interface {
    let mut groups: Vec<String> = found.list("groupSet").map(|group| group.string(&["groupId"])).collect();
    groups.sort();
    Interface {
        id: found.string(&["networkInterfaceId"]),
        vpc: found.string(&["vpcId"]),
        instance: found.string(&["attachment", "instanceId"]),
        groups,
    }
}

fn address(found: &Element) -> Address {
    Address {
        allocation: found.string(&["allocationId"]),
        association: found.string(&["associationId"]),
        public_ip: found.string(&["publicIp"]),
        interface: found.string(&["networkInterfaceId"]),
        private_ip: found.string(&["privateIpAddress"]),
    }
}

fn group(found: &Element) -> SecurityGroup {
    SecurityGroup {
        id: found.string(&["groupId"]),
        name: found.string(&["groupName"]),
        vpc: found.string(&["vpcId"]),
        tags: tags(found),
    }
}

fn group_rule(found: &Element) -> GroupRule {
    let is_egress = found.at(&["isEgress"]) == "true";
    let peer = found
        .some(&["cidrIpv4"])
        .map(Peer::Ipv4)
        .or_else(|| found.some(&["cidrIpv6"]).map(Peer::Ipv6))
        .or_else(|| found.some(&["prefixListId"]).map(Peer::PrefixList))
        .or_else(|| found.some(&["referencedGroupInfo", "groupId"]).map(Peer::Group));
    let port = |name: &str| found.at(&[name]).parse::<u16>().ok();
    let tcp_port = match found.at(&["ipProtocol"]) {
        "-1" => Some(None),
        "tcp" | "6" if port("fromPort") == port("toPort") => port("fromPort").map(Some),
        _ => None,
    };
    let permission = tcp_port.zip(peer).map(|(tcp_port, peer)| Permission { is_egress, tcp_port, peer });
    GroupRule { id: found.string(&["securityGroupRuleId"]), is_egress, permission }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(xml: &str) -> GroupRule {
        let whole = format!("<item><securityGroupRuleId>sgr-1</securityGroupRuleId>{xml}</item>");
        group_rule(&Element::parse(whole.as_bytes()).unwrap())
    }

    #[test]
    fn rules_of_every_kind_of_peer_are_read_and_what_has_no_words_is_never_a_permission() {
        let all = rule(
            "<isEgress>true</isEgress><ipProtocol>-1</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort><cidrIpv6>::/0</cidrIpv6>",
        );
        let everything = Permission { is_egress: true, tcp_port: None, peer: Peer::Ipv6("::/0".to_owned()) };
        assert_eq!(all.permission, Some(everything));
        let one = rule(
            "<isEgress>false</isEgress><ipProtocol>tcp</ipProtocol><fromPort>443</fromPort><toPort>443</toPort><referencedGroupInfo><groupId>sg-2</groupId></referencedGroupInfo>",
        );
        let https =
            Permission { is_egress: false, tcp_port: Some(443), peer: Peer::Group("sg-2".to_owned()) };
        assert_eq!(one.permission, Some(https));
        for other in [
            "<ipProtocol>tcp</ipProtocol><fromPort>1</fromPort><toPort>9</toPort><cidrIpv4>0.0.0.0/0</cidrIpv4>",
            "<ipProtocol>udp</ipProtocol><fromPort>53</fromPort><toPort>53</toPort><cidrIpv4>0.0.0.0/0</cidrIpv4>",
            "<ipProtocol>-1</ipProtocol>",
            "",
        ] {
            assert_eq!(rule(other).permission, None, "{other}");
        }
    }

    #[test]
    fn a_role_that_stands_is_told_before_one_that_goes_and_one_that_went_is_none() {
        let of = |states: &[&str]| {
            let all: Vec<Element> = states
                .iter()
                .map(|state| {
                    let xml = format!(
                        "<item><associationId>iip-assoc-1</associationId><instanceId>i-1</instanceId><state>{state}</state></item>"
                    );
                    Element::parse(xml.as_bytes()).unwrap()
                })
                .collect();
            association(&all, "i-1").map(|found| (found.state.clone(), found.is_going()))
        };
        assert_eq!(of(&["disassociating", "associating"]), Some(("associating".to_owned(), false)));
        assert_eq!(of(&["disassociated", "disassociating"]), Some(("disassociating".to_owned(), true)));
        assert_eq!(of(&["disassociated"]), None);
        assert_eq!(of(&[]), None);
    }
}
