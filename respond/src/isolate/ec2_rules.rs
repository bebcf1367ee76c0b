//! What our security groups let through: everything, so that flows are not tracked, or what is allowed and no more.

use std::collections::BTreeSet;

use acquire::aws::ec2::{Peer, Permission, is_id};
use ipnet::IpNet;

use crate::steps::Failed;

/// Rules of a group, at most: what EC2 allows unless more was asked for.
pub(super) const MOST_ALLOWED: usize = 30;

/// Seconds for which everything may be let through, at most.
pub(crate) const MOST_SETTLE: u64 = 120;

/// Everything in both directions and both families: only so is a flow not tracked.
pub(super) fn everything() -> BTreeSet<Permission> {
    let peers = [Peer::Ipv4("0.0.0.0/0".to_owned()), Peer::Ipv6("::/0".to_owned())];
    let both = |peer: Peer| {
        [true, false].map(|is_egress| Permission { is_egress, tcp_port: None, peer: peer.clone() })
    };
    peers.into_iter().flat_map(both).collect()
}

/// What may still be connected to.
pub(crate) fn permissions(allow: &[String]) -> Result<BTreeSet<Permission>, Failed> {
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
}
