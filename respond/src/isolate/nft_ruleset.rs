//! The ruleset that isolates a Linux host, as text for `nft -f -`: one transaction, so that there is no moment between.
//!
//! - Policy drop in, out and through, in a table of our own before the host's own filters (priority -150), for IPv4 and IPv6.
//! - Nothing is accepted because it is *established*: that would keep the session of the intruder. Answers are accepted from
//!   the allowed addresses and ports alone.
//! - DHCP, neighbour discovery and the reports of multicast listeners (MLD) go on, or the host would lose its address, or, behind
//!   a switch that snoops, be no longer found by IPv6. DNS does not: it is a tunnel.
//! - DHCP out is to the broadcast address alone: a lease that cannot be renewed at its server is renewed by all (RFC 2131, 4.4.5),
//!   and what is said so stays on the link. In, a server's answer may be unicast from any address, through a relay: words may come
//!   in by that port, but none go back.
//! - The end of the lease is an element of a set with a timeout: the kernel lets it go by itself, whatever became of us. From
//!   then on the first rule of each chain accepts everything, so that the host's own filters alone decide.
//!
//! Not held back:
//!
//! - packets of a process with `CAP_NET_RAW` that are sent below these hooks, what such a process puts into neighbour discovery,
//!   and a root user who removes the table;
//! - what passes this host without meeting these hooks: virtual machines and containers on a bridge, by macvlan, macvtap or
//!   SR-IOV, other network name spaces with an interface of their own, redirects by eBPF, flows that a flowtable has taken over.
//!   Those that are seen are told before it begins, see `host_bypass.rs`;
//! - anything after a start of the host, since no table outlives it, and after `systemctl restart nftables` or whatever else
//!   loads rules with `flush ruleset`.
//!
//! Where the network can isolate too, it should.
//!
//! Reference: nft(8).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::allowed::{Allowed, Way};

/// Our table.
pub const TABLE: &str = "exhibit_quarantine";

/// What the empty chain is called that says whose isolation it is, before the mark.
pub(crate) const MARK: &str = "mark_";

/// The chains with rules.
pub(crate) const CHAINS: [&str; 3] = ["q_in", "q_out", "q_fwd"];

/// The ruleset. `lease` is the time after which it lets everything through again, in seconds.
pub(crate) fn ruleset(mark: &str, allowed: &[Allowed], lease: Option<u64>) -> String {
    let groups = Groups::of(allowed);
    // Named before it is deleted, so that it can be loaded over itself.
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    text += &format!("  chain {MARK}{mark} {{\n  }}\n");
    if let Some(seconds) = lease {
        text += &format!(
            "  set lease {{\n    type nf_proto; flags timeout;\n    elements = {{ ipv4 timeout {seconds}s, ipv6 timeout {seconds}s }}\n  }}\n"
        );
    }
    for (name, family, elements) in groups.sets() {
        text += &format!(
            "  set {name} {{\n    type {family}; flags interval;\n    elements = {{ {elements} }}\n  }}\n"
        );
    }
    let first = if lease.is_some() { "    meta nfproto != @lease accept\n" } else { "" };
    for (chain, hook) in CHAINS.iter().zip(["input", "output", "forward"]) {
        text +=
            &format!("  chain {chain} {{\n    type filter hook {hook} priority -150; policy drop;\n{first}");
        match hook {
            "input" => text += &groups.input(),
            "output" => text += &groups.output(),
            _ => {}
        }
        text += "  }\n";
    }
    text + "}\n"
}

/// How many rules each chain of a ruleset has, to be compared with what is loaded.
pub(crate) fn rules_of(ruleset: &str) -> BTreeMap<String, usize> {
    let mut rules = BTreeMap::new();
    let mut chain = None;
    for line in ruleset.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("chain ") {
            let name = rest.trim_end_matches([' ', '{']);
            chain = CHAINS.contains(&name).then(|| name.to_owned());
            if let Some(chain) = &chain {
                rules.insert(chain.clone(), 0);
            }
        }
        if let Some(count) = chain.as_ref().and_then(|chain| rules.get_mut(chain)) {
            *count += usize::from(line.ends_with(" accept"));
        }
    }
    rules
}

/// Networks by what they may do, each as few as they can be.
struct Groups(BTreeMap<Way, (Vec<Ipv4Net>, Vec<Ipv6Net>)>);

impl Groups {
    fn of(allowed: &[Allowed]) -> Self {
        let mut groups: BTreeMap<Way, (Vec<Ipv4Net>, Vec<Ipv6Net>)> = BTreeMap::new();
        for Allowed { net, way } in allowed {
            let group = groups.entry(*way).or_default();
            match net {
                IpNet::V4(net) => group.0.push(*net),
                IpNet::V6(net) => group.1.push(*net),
            }
        }
        for (four, six) in groups.values_mut() {
            // Intervals of one set must not overlap.
            *four = Ipv4Net::aggregate(four);
            *six = Ipv6Net::aggregate(six);
        }
        Self(groups)
    }

    /// Name, type and elements of each set.
    fn sets(&self) -> Vec<(String, &'static str, String)> {
        let mut sets = Vec::new();
        for (way, (four, six)) in &self.0 {
            let four: Vec<String> = four.iter().map(ToString::to_string).collect();
            let six: Vec<String> = six.iter().map(ToString::to_string).collect();
            if !four.is_empty() {
                sets.push((name(*way, 4), "ipv4_addr", four.join(", ")));
            }
            if !six.is_empty() {
                sets.push((name(*way, 6), "ipv6_addr", six.join(", ")));
            }
        }
        sets
    }

    /// The way, `ip` or `ip6`, and the set of each set that has elements.
    fn each(&self) -> impl Iterator<Item = (Way, &'static str, String)> {
        self.0.iter().flat_map(|(way, (four, six))| {
            let four = (!four.is_empty()).then(|| (*way, "ip", name(*way, 4)));
            let six = (!six.is_empty()).then(|| (*way, "ip6", name(*way, 6)));
            four.into_iter().chain(six)
        })
    }

    fn input(&self) -> String {
        let mut text = "    iif \"lo\" accept\n".to_owned();
        for (way, family, set) in self.each() {
            let _ = match way {
                Way::Both => writeln!(text, "    {family} saddr @{set} accept"),
                Way::To(port) => {
                    writeln!(text, "    {family} saddr @{set} tcp sport {port} ct state established accept")
                }
                Way::From(port) => writeln!(text, "    {family} saddr @{set} tcp dport {port} accept"),
            };
        }
        text + "    meta nfproto ipv4 udp sport 67 udp dport 68 accept\n\
                \x20   ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept\n\
                \x20   ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept\n\
                \x20   ip6 saddr fe80::/10 ip6 hoplimit 1 icmpv6 type mld-listener-query accept\n\
                \x20   icmp type destination-unreachable icmp code frag-needed accept\n\
                \x20   icmpv6 type packet-too-big accept\n"
    }

    fn output(&self) -> String {
        let mut text = "    oif \"lo\" accept\n".to_owned();
        for (way, family, set) in self.each() {
            let _ = match way {
                Way::Both => writeln!(text, "    {family} daddr @{set} accept"),
                Way::To(port) => writeln!(text, "    {family} daddr @{set} tcp dport {port} accept"),
                Way::From(port) => {
                    writeln!(text, "    {family} daddr @{set} tcp sport {port} ct state established accept")
                }
            };
        }
        text + "    ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept\n\
                \x20   ip6 daddr { fe80::/10, ff02::1:2 } udp sport 546 udp dport 547 accept\n\
                \x20   ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept\n\
                \x20   ip6 hoplimit 1 icmpv6 type { mld-listener-report, mld2-listener-report, mld-listener-done } accept\n"
    }
}

fn name(way: Way, family: u8) -> String {
    match way {
        Way::Both => format!("any{family}"),
        Way::To(port) => format!("to{family}_{port}"),
        Way::From(port) => format!("from{family}_{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(texts: &[&str]) -> Vec<Allowed> {
        texts.iter().flat_map(|text| Allowed::read_to(text, &|_| Ok(vec![])).unwrap()).collect()
    }

    #[test]
    fn both_families_have_their_sets_and_overlapping_networks_are_one_interval() {
        let text = ruleset(
            "j1",
            &allowed(&["192.0.2.0/24:443", "192.0.2.10:443", "[2001:db8::1]:443", "10.0.0.1"]),
            None,
        );
        assert!(
            text.contains(
                "set to4_443 {\n    type ipv4_addr; flags interval;\n    elements = { 192.0.2.0/24 }"
            ),
            "{text}"
        );
        assert!(text.contains("ip6 daddr @to6_443 tcp dport 443 accept"), "{text}");
        assert!(text.contains("ip saddr @any4 accept") && !text.contains("any6"), "{text}");
        assert!(!text.contains("lease"), "{text}");
    }

    #[test]
    fn nothing_is_accepted_only_because_it_is_established() {
        let text = ruleset("j1", &allowed(&["192.0.2.10:443"]), Some(60));
        for line in text.lines().filter(|line| line.contains("established")) {
            assert!(line.contains("addr @") && line.contains("sport"), "{line}");
        }
        assert_eq!(text.matches("policy drop").count(), 3);
        assert_eq!(text.matches("meta nfproto != @lease accept").count(), 3);
        assert!(!text.contains("53"), "{text}");
    }

    #[test]
    fn the_rules_of_each_chain_are_counted() {
        let rules = rules_of(&ruleset("j1", &allowed(&["192.0.2.10:443"]), Some(60)));
        assert_eq!((rules["q_in"], rules["q_out"], rules["q_fwd"]), (9, 7, 1));
    }

    #[test]
    fn what_goes_out_for_the_addresses_of_the_host_cannot_leave_its_link() {
        let text = ruleset("j1", &[], None);
        let (_, out) = text.split_once("chain q_out {").unwrap();
        let out = out.split("  chain ").next().unwrap();
        for line in out.lines().filter(|line| line.ends_with(" accept") && !line.contains("\"lo\"")) {
            let stays = ["255.255.255.255", "fe80::/10, ff02::1:2", "hoplimit 1 ", "nd-neighbor-solicit"];
            assert!(stays.iter().any(|word| line.contains(word)), "{line}");
        }
        assert!(out.contains("mld2-listener-report") && text.contains("mld-listener-query"), "{text}");
    }

    #[test]
    fn it_is_loaded_over_itself_in_one_transaction() {
        let text = ruleset("j1", &[], None);
        assert!(text.starts_with("table inet exhibit_quarantine\ndelete table inet exhibit_quarantine\ntable inet exhibit_quarantine {"));
    }
}
