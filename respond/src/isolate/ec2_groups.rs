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
//! - Refused: an instance that another isolation holds, known by the tags of its groups.
//! - Taken back: each interface exactly its own groups, addresses, role; then our groups are deleted (`ec2_restore.rs`).
//! - Not done: network ACLs, which are of a whole subnet; detaching from Auto Scaling or load balancers, which is told.
//! - Not held back, whatever a group says: the resolver of the VPC (a tunnel by DNS), the metadata and time service of
//!   169.254.169.254 and .123, and flows that a NAT gateway, a Network Load Balancer or an interface endpoint tracks by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use acquire::aws::ec2::{Ec2, Interface, Permission, is_id};
use acquire::aws::{Connection, FailureKind};
use custody::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ec2_rules::{MOST_ALLOWED, MOST_SETTLE, everything, permissions};
use super::host_probe::connect;
use super::{
    Isolation, Probe, Restored, Verified, connection, lease_end, read_back, refused, texts, written,
};
use crate::steps::{Context, Failed};

/// The tags of our groups.
const TAG_MARK: &str = "exhibit-isolation";
const TAG_ROLE: &str = "exhibit-role";
const CONVERT: &str = "convert";
const DENY: &str = "deny";

/// Interfaces that an instance may have: more than any type has.
const MOST_INTERFACES: usize = 64;

/// How often EC2 is asked for what was taken away, and how long between.
const LOOKS: u32 = 3;
const LOOK_WAIT: Duration = Duration::from_secs(2);

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
    pub(super) ec2: Ec2,
    mark: String,
    instance: String,
    wanted: Wanted,
    clock: &'a dyn Clock,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) platform: String,
    pub(super) mark: String,
    pub(super) instance: String,
    pub(super) account: String,
    pub(super) until: String,
    pub(super) interfaces: Vec<WasInterface>,
    pub(super) addresses: Vec<WasAddress>,
    /// ARN of the instance profile; empty for none.
    pub(super) profile: String,
    pub(super) takes_addresses: bool,
    pub(super) takes_profile: bool,
    pub(super) allow: Vec<String>,
    /// Those that answered before.
    pub(super) probes: Vec<SocketAddr>,
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WasInterface {
    pub(super) id: String,
    pub(super) vpc: String,
    pub(super) groups: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WasAddress {
    pub(super) allocation: String,
    pub(super) public_ip: String,
    pub(super) interface: String,
    pub(super) private_ip: String,
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

    pub(super) fn interfaces(&self) -> Result<BTreeMap<String, Interface>, Failed> {
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
    pub(super) fn ours(&self) -> Result<BTreeMap<(String, String), String>, Failed> {
        let found =
            self.ec2.security_groups_with(&[(TAG_MARK, &self.mark)]).map_err(|failure| refused(&failure))?;
        let key = |group: &acquire::aws::ec2::SecurityGroup| {
            (group.vpc.clone(), group.tag(TAG_ROLE).unwrap_or_default().to_owned())
        };
        Ok(found.value.into_iter().map(|group| (key(&group), group.id)).collect())
    }

    /// Whose isolation an interface is under, by the tags of its groups: an isolation of this mark, or another one.
    pub(super) fn holder(&self, interfaces: &BTreeMap<String, Interface>) -> Result<Option<String>, Failed> {
        let found = self.ec2.security_groups_tagged(TAG_MARK).map_err(|failure| refused(&failure))?.value;
        let holds = |id: &String| interfaces.values().any(|interface| interface.groups.contains(id));
        let mut marks = found.iter().filter(|group| holds(&group.id)).filter_map(|group| group.tag(TAG_MARK));
        // Another one's before our own, which may be beside it.
        let first = marks.clone().find(|mark| *mark != self.mark).or_else(|| marks.next());
        Ok(first.map(|mark| mark.chars().take(64).collect()))
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

    pub(super) fn addresses(&self, recorded: &Recorded) -> Result<Vec<acquire::aws::ec2::Address>, Failed> {
        let ids: Vec<&str> = recorded.interfaces.iter().map(|interface| interface.id.as_str()).collect();
        Ok(self.ec2.addresses_of(&ids).map_err(|failure| refused(&failure))?.value)
    }

    /// Whether the addresses and the role that were to be taken away are gone. What EC2 says lags behind, so that it is asked
    /// again before a hole is told.
    fn verify_taken(&self, recorded: &Recorded, verified: &mut Verified) -> Result<(), Failed> {
        let mut looks = 0;
        let found = loop {
            looks += 1;
            let mut found = Verified::default();
            self.look_at_taken(recorded, &mut found)?;
            if found.forbidden.is_empty() || looks == LOOKS {
                break found;
            }
            thread::sleep(LOOK_WAIT);
        };
        verified.forbidden.extend(found.forbidden);
        verified.read_back.extend(found.read_back);
        verified.not_tried.extend(found.not_tried);
        Ok(())
    }

    fn look_at_taken(&self, recorded: &Recorded, verified: &mut Verified) -> Result<(), Failed> {
        if recorded.takes_addresses && !recorded.addresses.is_empty() {
            let now = self.addresses(recorded)?;
            let left = |was: &&WasAddress| now.iter().any(|address| address.allocation == was.allocation);
            for was in recorded.addresses.iter().filter(left) {
                verified.forbidden.push(Probe {
                    what: format!("the elastic address {}", was.public_ip),
                    got_through: true,
                    seen: format!("EC2 says that {} has it", was.interface),
                });
            }
            if !recorded.addresses.iter().any(|was| left(&was)) {
                verified.read_back.push("its elastic addresses are taken away".to_owned());
            }
        }
        if recorded.takes_profile && !recorded.profile.is_empty() {
            match self.ec2.profile_of(&recorded.instance).map_err(|failure| refused(&failure))?.value {
                None => verified.read_back.push("its role is taken away".to_owned()),
                Some(role) if role.is_going() => {
                    verified.not_tried.push("EC2 is still taking its role away".to_owned());
                }
                Some(role) => verified.forbidden.push(Probe {
                    what: format!("the role {}", role.profile),
                    got_through: true,
                    seen: format!("EC2 says that it is {}", role.state),
                }),
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
        let found = self.interfaces()?;
        if found.is_empty() {
            return Err(Failed::for_good(format!("{} has no network interface", self.instance)));
        }
        // What another one made must not be recorded as what was before: it goes with that one.
        if let Some(mark) = self.holder(&found)? {
            return Err(Failed::for_good(format!("{} is isolated already, by {mark}", self.instance)));
        }
        let interfaces: Vec<WasInterface> = found
            .into_values()
            .map(|interface| WasInterface { id: interface.id, vpc: interface.vpc, groups: interface.groups })
            .collect();
        let mut warnings = vec![
            "for some seconds everything is let through, so that open connections end".to_owned(),
            "no security group holds back the DNS of the VPC's resolver, which can be a tunnel, nor the link-local services of \
             169.254.169.254 and 169.254.169.123"
                .to_owned(),
            "flows that a NAT gateway, a Network Load Balancer or an interface endpoint tracks by itself may go on until they \
             are idle"
                .to_owned(),
        ];
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
        recorded.profile =
            profile.filter(|profile| !profile.is_going()).map(|profile| profile.profile).unwrap_or_default();
        written(&recorded)
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let now = self.interfaces()?;
        if let Some(other) = self.holder(&now)?.filter(|mark| *mark != self.mark) {
            return Err(Failed::for_good(format!("{} is isolated already, by {other}", self.instance)));
        }
        let groups = self.groups(&recorded)?;
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
            if let Some(now) = now.filter(|now| now.profile == recorded.profile && !now.is_going()) {
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
        self.verify_taken(&recorded, &mut verified)?;
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
        self.restore(&read_back(recorded)?)
    }
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
        let seconds = settle.as_u64().filter(|seconds| *seconds <= MOST_SETTLE);
        let seconds =
            seconds.ok_or_else(|| Failed::for_good(format!("settle_seconds must be 0 to {MOST_SETTLE}")))?;
        wanted.settle = Duration::from_secs(seconds);
    }
    let mark = super::mark(context.job, context.id)?;
    Ok(Box::new(Ec2Groups::new(&connection(context)?, &mark, &context.asset.id, wanted, &SystemClock)?))
}
