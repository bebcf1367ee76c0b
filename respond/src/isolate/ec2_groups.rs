//! An EC2 instance, isolated by security groups of our own, interface by interface.
//!
//! - Made: in each VPC of the instance a group that lets everything through (*convert*) and one that lets nothing through but
//!   what is allowed (*deny*), tagged with the isolation. Each interface gets the first, then the second.
//! - Why two: a flow that a group tracks goes on after the group is changed. One that is let through by rules for everything in
//!   both directions, IPv4 and IPv6, is not tracked, and ends with those rules (Amazon EC2, "Security group connection
//!   tracking"). The price: for a moment everything is let through.
//! - On demand: elastic addresses are taken away, and the role; credentials that it had fetched hold on, see
//!   [`super::iam_sessions`].
//! - Verified: EC2 is asked what the interfaces and groups have; addresses named as probes are tried from here.
//! - Taken back: each interface exactly its own groups, addresses, role; then our groups are deleted.
//! - Not done: network ACLs, which are of a whole subnet; detaching from Auto Scaling or load balancers, which is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use acquire::aws::ec2::{Ec2, Interface, Peer, Permission};
use acquire::aws::{Connection, Failure, FailureKind, Settings};
use custody::clock::{Clock, SystemClock};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::host_probe::connect;
use super::{Isolation, Probe, Restored, Verified, lease_end, read_back, refused, texts, written};
use crate::steps::{Context, Failed};

/// The tags of our groups.
const TAG_MARK: &str = "exhibit-isolation";
const TAG_ROLE: &str = "exhibit-role";
const CONVERT: &str = "convert";
const DENY: &str = "deny";

/// Rules of a group, at most: what EC2 allows unless more was asked for.
const MOST_ALLOWED: usize = 30;

/// Interfaces that an instance may have: more than any type has.
const MOST_INTERFACES: usize = 64;

/// How often a group that EC2 says is still in use is tried to be deleted, and how long between.
const DELETE_TRIES: u32 = 6;
const DELETE_WAIT: Duration = Duration::from_secs(3);

/// How long a probe may take to be answered.
const ANSWER: Duration = Duration::from_secs(4);

/// What is wanted of the isolation of an instance.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it may still connect to: `NET:PORT`, `sg-…:PORT`, `pl-…:PORT`, such as the endpoint of SSM or the collector.
    pub allow: Vec<String>,
    /// Addresses of the instance that are tried from here, `ADDR:PORT`.
    pub probes: Vec<String>,
    /// Whether its elastic addresses are taken away.
    pub takes_addresses: bool,
    /// Whether its role is taken away.
    pub takes_profile: bool,
    /// How long it stays in the group that lets everything through, so that flows become untracked.
    pub settle: Duration,
    /// Seconds after which the service takes it back; 0 for never.
    pub lease: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            probes: Vec::new(),
            takes_addresses: false,
            takes_profile: false,
            settle: Duration::from_secs(5),
            lease: 0,
        }
    }
}

/// One instance.
pub struct Ec2Groups<'a> {
    ec2: Ec2,
    mark: String,
    instance: String,
    wanted: Wanted,
    clock: &'a dyn Clock,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    mark: String,
    instance: String,
    account: String,
    until: String,
    interfaces: Vec<WasInterface>,
    addresses: Vec<WasAddress>,
    /// ARN of the instance profile; empty for none.
    profile: String,
    takes_addresses: bool,
    takes_profile: bool,
    allow: Vec<String>,
    /// Those that answered before.
    probes: Vec<SocketAddr>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WasInterface {
    id: String,
    vpc: String,
    groups: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WasAddress {
    allocation: String,
    public_ip: String,
    interface: String,
    private_ip: String,
}

/// The two groups of one VPC.
struct Groups {
    convert: String,
    deny: String,
}

impl<'a> Ec2Groups<'a> {
    /// An instance in the account and region of a connection.
    ///
    /// # Errors
    ///
    /// [`Failed`] for an id that is none, or an address that is none.
    pub fn new(
        connection: &Connection,
        mark: &str,
        instance: &str,
        wanted: Wanted,
        clock: &'a dyn Clock,
    ) -> Result<Self, Failed> {
        if !is_id(instance, "i-") {
            return Err(Failed::for_good(format!("{instance:?} is no id of an instance")));
        }
        let ec2 = Ec2::new(connection).map_err(|failure| refused(&failure))?;
        Ok(Self { ec2, mark: mark.to_owned(), instance: instance.to_owned(), wanted, clock })
    }

    fn interfaces(&self) -> Result<BTreeMap<String, Interface>, Failed> {
        let found = self.ec2.interfaces_of(&self.instance).map_err(|failure| refused(&failure))?.value;
        if found.len() > MOST_INTERFACES {
            return Err(Failed::for_good(format!(
                "{} has more interfaces than an instance can",
                self.instance
            )));
        }
        Ok(found.into_iter().map(|interface| (interface.id.clone(), interface)).collect())
    }

    /// Our groups that are there, by VPC and role.
    fn ours(&self) -> Result<BTreeMap<(String, String), String>, Failed> {
        let found =
            self.ec2.security_groups_with(&[(TAG_MARK, &self.mark)]).map_err(|failure| refused(&failure))?;
        let key = |group: &acquire::aws::ec2::SecurityGroup| {
            (group.vpc.clone(), group.tag(TAG_ROLE).unwrap_or_default().to_owned())
        };
        Ok(found.value.into_iter().map(|group| (key(&group), group.id)).collect())
    }

    /// The groups of each VPC, made where they are not there, each with exactly its rules.
    fn groups(&self, recorded: &Recorded) -> Result<BTreeMap<String, Groups>, Failed> {
        let vpcs: BTreeSet<&String> = recorded.interfaces.iter().map(|interface| &interface.vpc).collect();
        let allowed = permissions(&recorded.allow)?;
        let mut there = self.ours()?;
        let mut groups = BTreeMap::new();
        for vpc in vpcs {
            let mut group = |role: &str, rules: &BTreeSet<Permission>| {
                let id = match there.remove(&(vpc.clone(), role.to_owned())) {
                    Some(id) => id,
                    None => self.make(recorded, vpc, role)?,
                };
                self.give_rules(&id, rules)?;
                Ok::<String, Failed>(id)
            };
            let (convert, deny) = (group(CONVERT, &everything())?, group(DENY, &allowed)?);
            groups.insert(vpc.clone(), Groups { convert, deny });
        }
        Ok(groups)
    }

    fn make(&self, recorded: &Recorded, vpc: &str, role: &str) -> Result<String, Failed> {
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let tags = [
            tag(TAG_MARK, &self.mark),
            tag(TAG_ROLE, role),
            tag("exhibit-instance", &recorded.instance),
            tag("Name", &format!("exhibit {role} {}", self.mark)),
        ];
        let (name, about) = (
            format!("exhibit-{role}-{}", self.mark),
            format!(
                "Isolation {} of {} by Exhibit; removed when it is taken back",
                self.mark, recorded.instance
            ),
        );
        self.ec2.create_security_group(vpc, &name, &about, &tags).map_err(|failure| refused(&failure))
    }

    /// Removes every rule that is not wanted, above all those that EC2 gives a new group, and adds what lacks.
    fn give_rules(&self, group: &str, wanted: &BTreeSet<Permission>) -> Result<(), Failed> {
        let there = self.ec2.rules_of_group(group).map_err(|failure| refused(&failure))?.value;
        for is_egress in [true, false] {
            let unwanted: Vec<&str> = there
                .iter()
                .filter(|rule| rule.is_egress == is_egress)
                .filter(|rule| !rule.permission.as_ref().is_some_and(|has| wanted.contains(has)))
                .map(|rule| rule.id.as_str())
                .collect();
            if !unwanted.is_empty() {
                self.ec2.remove_rules(group, is_egress, &unwanted).map_err(|failure| refused(&failure))?;
            }
        }
        for permission in wanted {
            if there.iter().any(|rule| rule.permission.as_ref() == Some(permission)) {
                continue;
            }
            match self.ec2.add_rule(group, permission) {
                Err(failure) if failure.code != "InvalidPermission.Duplicate" => {
                    return Err(refused(&failure));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn set(&self, interface: &str, groups: &[&str]) -> Result<(), Failed> {
        self.ec2.set_interface_groups(interface, groups).map_err(|failure| refused(&failure))
    }

    fn addresses(&self, recorded: &Recorded) -> Result<Vec<acquire::aws::ec2::Address>, Failed> {
        let ids: Vec<&str> = recorded.interfaces.iter().map(|interface| interface.id.as_str()).collect();
        Ok(self.ec2.addresses_of(&ids).map_err(|failure| refused(&failure))?.value)
    }

    fn give_back_groups(&self, recorded: &Recorded, restored: &mut Restored) -> Result<(), Failed> {
        let ours: BTreeSet<String> = self.ours()?.into_values().collect();
        let now = self.interfaces()?;
        for was in &recorded.interfaces {
            let Some(is) = now.get(&was.id) else {
                restored.differences.push(format!("{} is no longer with {}", was.id, recorded.instance));
                continue;
            };
            if is.groups == was.groups {
                continue;
            }
            if is.groups.iter().all(|group| ours.contains(group)) {
                let groups: Vec<&str> = was.groups.iter().map(String::as_str).collect();
                self.set(&was.id, &groups)?;
            } else {
                // Somebody else has changed them since: which of the two is right is not ours to say.
                let (is, was_groups) = (is.groups.join(" "), was.groups.join(" "));
                restored.differences.push(format!(
                    "{} has the groups {is}, set by others; before the isolation it had {was_groups}",
                    was.id
                ));
            }
        }
        for id in now.keys().filter(|id| !recorded.interfaces.iter().any(|was| was.id == **id)) {
            restored.differences.push(format!("{id} was added to {} by others", recorded.instance));
        }
        Ok(())
    }

    fn give_back_addresses(&self, recorded: &Recorded, restored: &mut Restored) -> Result<(), Failed> {
        for was in &recorded.addresses {
            let now = match self.ec2.address(&was.allocation) {
                Ok(found) => found.value,
                Err(failure) if failure.kind == FailureKind::NotFound => {
                    restored.differences.push(format!("{} was given back by others", was.public_ip));
                    continue;
                }
                Err(failure) => return Err(refused(&failure)),
            };
            if now.interface == was.interface && now.private_ip == was.private_ip {
                continue;
            }
            if now.association.is_empty() && recorded.takes_addresses {
                self.ec2
                    .associate_address(&was.allocation, &was.interface, &was.private_ip)
                    .map_err(|failure| refused(&failure))?;
            } else {
                let at = if now.interface.is_empty() { "nobody" } else { &now.interface };
                restored.differences.push(format!("{} is with {at} now, by others", was.public_ip));
            }
        }
        let now = self.addresses(recorded)?;
        for new in
            now.iter().filter(|now| !recorded.addresses.iter().any(|was| was.allocation == now.allocation))
        {
            restored.differences.push(format!("{} was given to {} by others", new.public_ip, new.interface));
        }
        Ok(())
    }

    fn give_back_profile(&self, recorded: &Recorded, restored: &mut Restored) -> Result<(), Failed> {
        let now = self.ec2.profile_of(&recorded.instance).map_err(|failure| refused(&failure))?.value;
        let now = now.map(|now| now.profile).unwrap_or_default();
        if now == recorded.profile {
            return Ok(());
        }
        if now.is_empty() && recorded.takes_profile {
            return self
                .ec2
                .associate_profile(&recorded.instance, &recorded.profile)
                .map_err(|failure| refused(&failure));
        }
        let (now, was) = (or_none(&now), or_none(&recorded.profile));
        restored
            .differences
            .push(format!("the role is {now}, set by others; before the isolation it was {was}"));
        Ok(())
    }

    fn delete_groups(&self, restored: &mut Restored) -> Result<(), Failed> {
        for ((vpc, role), id) in self.ours()? {
            let mut tries = 0;
            loop {
                tries += 1;
                match self.ec2.delete_security_group(&id) {
                    Ok(()) => break,
                    Err(failure) if failure.kind == FailureKind::NotFound => break,
                    // EC2 takes a while to see that an interface has other groups.
                    Err(failure) if is_in_use(&failure) && tries < DELETE_TRIES => thread::sleep(DELETE_WAIT),
                    Err(failure) if is_in_use(&failure) => {
                        restored
                            .differences
                            .push(format!("our group {id} ({role} of {vpc}) is in use by others"));
                        break;
                    }
                    Err(failure) => return Err(refused(&failure)),
                }
            }
        }
        Ok(())
    }
}

impl Isolation for Ec2Groups<'_> {
    fn subject(&self) -> String {
        format!("instance {}", self.instance)
    }

    fn record(&self) -> Result<Value, Failed> {
        let instance = self.ec2.describe_instance(&self.instance).map_err(|failure| refused(&failure))?.value;
        permissions(&self.wanted.allow)?;
        let interfaces: Vec<WasInterface> = self
            .interfaces()?
            .into_values()
            .map(|interface| WasInterface { id: interface.id, vpc: interface.vpc, groups: interface.groups })
            .collect();
        if interfaces.is_empty() {
            return Err(Failed::for_good(format!("{} has no network interface", self.instance)));
        }
        let ours: BTreeSet<String> = self.ours()?.into_values().collect();
        if interfaces.iter().any(|interface| interface.groups.iter().any(|group| ours.contains(group))) {
            return Err(Failed::for_good(format!("{} has a group of this isolation already", self.instance)));
        }
        let mut warnings =
            vec!["for some seconds everything is let through, so that open connections end".to_owned()];
        let tag =
            |key: &str| instance.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        if let Some(group) = tag("aws:autoscaling:groupName") {
            warnings.push(format!(
                "it is in the Auto Scaling group {group:?}, which may replace it: detach it first"
            ));
        }
        if !self.wanted.takes_profile && instance.profile.is_some() {
            warnings.push(
                "it keeps its role: credentials that were fetched go on working from elsewhere".to_owned(),
            );
        }
        let mut probes = Vec::new();
        for text in self.wanted.probes.iter().take(MOST_ALLOWED) {
            let address =
                text.parse().map_err(|_| Failed::for_good(format!("{text:?} is no ADDRESS:PORT")))?;
            match connect(address, ANSWER) {
                Ok(()) => probes.push(address),
                Err(why) => warnings.push(format!("{address} did not answer before either: {why}")),
            }
        }
        let mut recorded = Recorded {
            platform: "aws ec2 security groups".to_owned(),
            mark: self.mark.clone(),
            instance: self.instance.clone(),
            account: instance.owner,
            until: lease_end(self.clock, self.wanted.lease),
            interfaces,
            addresses: Vec::new(),
            profile: String::new(),
            takes_addresses: self.wanted.takes_addresses,
            takes_profile: self.wanted.takes_profile,
            allow: self.wanted.allow.clone(),
            probes,
            warnings,
        };
        let addresses = self.addresses(&recorded)?.into_iter().map(|address| WasAddress {
            allocation: address.allocation,
            public_ip: address.public_ip,
            interface: address.interface,
            private_ip: address.private_ip,
        });
        recorded.addresses = addresses.collect();
        let profile = self.ec2.profile_of(&self.instance).map_err(|failure| refused(&failure))?.value;
        recorded.profile = profile.map(|profile| profile.profile).unwrap_or_default();
        written(&recorded)
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let groups = self.groups(&recorded)?;
        let now = self.interfaces()?;
        let of = |was: &WasInterface| groups.get(&was.vpc);
        let is_denied = |was: &WasInterface| {
            of(was).zip(now.get(&was.id)).is_some_and(|(groups, now)| now.groups == [groups.deny.as_str()])
        };
        let open: Vec<&WasInterface> =
            recorded.interfaces.iter().filter(|was| now.contains_key(&was.id) && !is_denied(was)).collect();
        for was in &open {
            if let Some(groups) = of(was) {
                self.set(&was.id, &[&groups.convert])?;
            }
        }
        if !open.is_empty() {
            thread::sleep(self.wanted.settle);
        }
        for was in &open {
            if let Some(groups) = of(was) {
                self.set(&was.id, &[&groups.deny])?;
            }
        }
        if recorded.takes_addresses {
            for address in self.addresses(&recorded)? {
                // Only those that were recorded can be given back.
                if recorded.addresses.iter().any(|was| was.allocation == address.allocation) {
                    match self.ec2.disassociate_address(&address.association) {
                        Err(failure) if failure.kind != FailureKind::NotFound => {
                            return Err(refused(&failure));
                        }
                        _ => {}
                    }
                }
            }
        }
        if recorded.takes_profile {
            let now = self.ec2.profile_of(&recorded.instance).map_err(|failure| refused(&failure))?.value;
            if let Some(now) = now.filter(|now| now.profile == recorded.profile) {
                self.ec2.disassociate_profile(&now.id).map_err(|failure| refused(&failure))?;
            }
        }
        let made: Vec<Value> = groups
            .iter()
            .map(|(vpc, groups)| json!({ "vpc": vpc, "convert": groups.convert, "deny": groups.deny }))
            .collect();
        Ok(json!({ "groups": made, "interfaces": recorded.interfaces.len() }))
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let (ours, allowed) = (self.ours()?, permissions(&recorded.allow)?);
        let mut verified = Verified::default();
        for (id, interface) in self.interfaces()? {
            let deny = ours.get(&(interface.vpc.clone(), DENY.to_owned()));
            let has = interface.groups.join(" ");
            match deny {
                Some(deny) if interface.groups == [deny.as_str()] => {
                    let rules = self.ec2.rules_of_group(deny).map_err(|failure| refused(&failure))?.value;
                    let has: BTreeSet<Option<Permission>> =
                        rules.into_iter().map(|rule| rule.permission).collect();
                    if has != allowed.iter().cloned().map(Some).collect() {
                        return Err(Failed::for_now(format!("{deny} has not the rules that it was given")));
                    }
                    let said =
                        format!("{id} has {deny} alone, which lets in nothing and out {}", allowed.len());
                    verified.read_back.push(format!("{said} allowed destinations"));
                }
                // One that was attached since, or changed: the isolation has a hole.
                _ => verified.forbidden.push(Probe {
                    what: format!("the groups of {id}"),
                    got_through: true,
                    seen: format!("it has {has}, which is not our group alone"),
                }),
            }
        }
        for address in &recorded.probes {
            let result = connect(*address, ANSWER);
            verified.forbidden.push(Probe {
                what: format!("TCP to {address} from this service"),
                got_through: result.is_ok(),
                seen: result.map_or_else(|why| why, |()| "it answered".to_owned()),
            });
        }
        if recorded.probes.is_empty() {
            verified
                .not_tried
                .push("no address of the instance was named, or answered before, to be tried".to_owned());
        }
        for allowed in &recorded.allow {
            verified
                .not_tried
                .push(format!("whether it reaches {allowed}: only the instance itself can try"));
        }
        Ok(verified)
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let mut restored = Restored::default();
        self.give_back_groups(&recorded, &mut restored)?;
        self.give_back_addresses(&recorded, &mut restored)?;
        self.give_back_profile(&recorded, &mut restored)?;
        self.delete_groups(&mut restored)?;
        // Whatever was set, EC2 must now say so itself.
        let now = self.interfaces()?;
        for was in &recorded.interfaces {
            let told = restored.differences.iter().any(|difference| difference.starts_with(&was.id));
            if !told && now.get(&was.id).is_none_or(|now| now.groups != was.groups) {
                return Err(Failed::for_now(format!("{} has not its groups again", was.id)));
            }
        }
        Ok(restored)
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn is_in_use(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "DependencyViolation" | "InvalidGroup.InUse")
}

/// A prefix and hexadecimal digits.
fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        (8..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Everything in both directions and both families: only so is a flow not tracked.
fn everything() -> BTreeSet<Permission> {
    let peers = [Peer::Ipv4("0.0.0.0/0".to_owned()), Peer::Ipv6("::/0".to_owned())];
    let both = |peer: Peer| {
        [true, false].map(|is_egress| Permission { is_egress, tcp_port: None, peer: peer.clone() })
    };
    peers.into_iter().flat_map(both).collect()
}

/// What may still be connected to.
fn permissions(allow: &[String]) -> Result<BTreeSet<Permission>, Failed> {
    if allow.len() > MOST_ALLOWED {
        return Err(Failed::for_good(format!(
            "{} destinations are allowed, more than {MOST_ALLOWED}",
            allow.len()
        )));
    }
    allow.iter().map(|text| permission(text)).collect()
}

fn permission(text: &str) -> Result<Permission, Failed> {
    let wrong = || Failed::for_good(format!("{text:?} is no NETWORK:PORT, sg-…:PORT or pl-…:PORT"));
    let (who, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let bare = who.strip_prefix('[').and_then(|who| who.strip_suffix(']')).unwrap_or(who);
    let net = bare.parse::<IpNet>().or_else(|_| bare.parse().map(|address: std::net::IpAddr| address.into()));
    let peer = match net {
        Ok(net) if net.prefix_len() < 8 => {
            return Err(Failed::for_good(format!("{net} is too much to leave open")));
        }
        Ok(IpNet::V4(net)) => Peer::Ipv4(net.trunc().to_string()),
        Ok(IpNet::V6(net)) => Peer::Ipv6(net.trunc().to_string()),
        Err(_) if is_id(who, "sg-") => Peer::Group(who.to_owned()),
        Err(_) if is_id(who, "pl-") => Peer::PrefixList(who.to_owned()),
        Err(_) => return Err(wrong()),
    };
    Ok(Permission { is_egress: true, tcp_port: Some(port), peer })
}

/// The connection of this context's account, in the region of its asset.
pub(crate) fn connection(context: &Context<'_>) -> Result<Connection, Failed> {
    let aws = &context.settings.aws;
    let account = &context.asset.account;
    if !account.is_empty() && !aws.accounts.is_empty() && !aws.accounts.contains(account) {
        return Err(Failed::for_good(format!("account {account} is none of those in the settings")));
    }
    let region =
        Some(context.asset.region.clone()).filter(|region| !region.is_empty()).or_else(|| aws.region.clone());
    let settings = Settings {
        region,
        profile: aws.profile.clone(),
        credentials: None,
        endpoint: aws.endpoint_url.clone(),
    };
    Connection::open(&settings).map_err(|error| Failed::for_now(error.to_string()))
}

/// The instance of this context.
pub(crate) fn of(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    let flag = |name: &str| match context.parameters.get(name) {
        None => Ok(false),
        Some(value) => {
            value.as_bool().ok_or_else(|| Failed::for_good(format!("{name} must be true or false")))
        }
    };
    let mut wanted = Wanted {
        allow: texts(context, "allow")?,
        probes: texts(context, "probes")?,
        takes_addresses: flag("takes_addresses")?,
        takes_profile: flag("takes_profile")?,
        lease: context.lease,
        ..Wanted::default()
    };
    if let Some(settle) = context.parameters.get("settle_seconds") {
        let seconds = settle.as_u64().filter(|seconds| *seconds <= 120);
        let seconds = seconds.ok_or_else(|| Failed::for_good("settle_seconds must be 0 to 120"))?;
        wanted.settle = Duration::from_secs(seconds);
    }
    let mark = super::mark(context.job, context.id)?;
    Ok(Box::new(Ec2Groups::new(&connection(context)?, &mark, &context.asset.id, wanted, &SystemClock)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_destination_is_a_network_a_group_or_a_prefix_list_with_a_port() {
        let peer = |text: &str| permission(text).unwrap().peer;
        assert_eq!(peer("10.1.2.3/16:443"), Peer::Ipv4("10.1.0.0/16".to_owned()));
        assert_eq!(peer("[2001:db8::5]:443"), Peer::Ipv6("2001:db8::5/128".to_owned()));
        assert_eq!(peer("sg-0123456789abcdef0:443"), Peer::Group("sg-0123456789abcdef0".to_owned()));
        assert_eq!(peer("pl-63a5400a:443"), Peer::PrefixList("pl-63a5400a".to_owned()));
        for bad in
            ["10.0.0.1", "sg-x:443", "0.0.0.0/0:443", "x.example:443", "10.0.0.1:0", "sg-0123456789abcdef0"]
        {
            assert!(permission(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_makes_a_flow_untracked_is_everything_both_ways_in_both_families() {
        let all = everything();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|permission| permission.tcp_port.is_none()));
    }

    #[test]
    fn an_id_is_checked_before_it_reaches_a_request() {
        assert!(is_id("i-0123456789abcdef0", "i-"));
        for bad in ["i-", "i-0123456789abcdef0&x", "j-0123456789abcdef0", "i-xyzxyzxyz"] {
            assert!(!is_id(bad, "i-"), "{bad}");
        }
    }
}
