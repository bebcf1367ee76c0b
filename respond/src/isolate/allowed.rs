//! What an isolated host may still talk to: addresses, never names, since a name is of no use once it cannot be asked for.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Addresses that one name may have, at most.
const MOST_ADDRESSES: usize = 32;

/// What is allowed with one address or network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Anything, begun by either side.
    Both,
    /// The host may connect to this TCP port there.
    To(u16),
    /// From there, this TCP port of the host may be connected to.
    From(u16),
}

/// One channel that stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Allowed {
    /// With whom.
    pub net: IpNet,
    /// What.
    pub way: Way,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = self.net.prefix_len() == self.net.max_prefix_len();
        let who = if is_one { self.net.addr().to_string() } else { self.net.to_string() };
        match self.way {
            Way::Both => write!(f, "anything with {who}"),
            Way::To(port) => write!(f, "TCP to {who} port {port}"),
            Way::From(port) => write!(f, "TCP from {who} to port {port} here"),
        }
    }
}

/// Turns a name into addresses; the one of the system is [`resolve`].
pub type Resolve<'a> = &'a dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

impl Allowed {
    /// Reads `ADDR`, `ADDR:PORT`, `NET/LEN`, `[ADDR6]:PORT`, `NAME` or `NAME:PORT`: with a port, what the host may connect to.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or why the name has no address.
    pub fn read_to(text: &str, resolve: Resolve<'_>) -> Result<Vec<Self>, String> {
        read(text, Way::To, resolve)
    }

    /// The same, with what the port is of the host and who may connect to it.
    ///
    /// # Errors
    ///
    /// As [`Allowed::read_to`].
    pub fn read_from(text: &str, resolve: Resolve<'_>) -> Result<Vec<Self>, String> {
        read(text, Way::From, resolve)
    }
}

fn read(text: &str, way: fn(u16) -> Way, resolve: Resolve<'_>) -> Result<Vec<Allowed>, String> {
    let wrong = || format!("{text:?} is no ADDRESS, NETWORK/LENGTH or NAME, with :PORT or without");
    if let Ok(net) = text.parse::<IpNet>() {
        return checked(net, Way::Both).map(|allowed| vec![allowed]);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return checked(address.into(), Way::Both).map(|allowed| vec![allowed]);
    }
    let (who, way) = match text.rsplit_once(':') {
        Some((who, port)) => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
            (who, way(port))
        }
        None => (text, Way::Both),
    };
    let bare = who.strip_prefix('[').and_then(|who| who.strip_suffix(']')).unwrap_or(who);
    if let Ok(net) = bare.parse::<IpNet>() {
        return checked(net, way).map(|allowed| vec![allowed]);
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        return checked(address.into(), way).map(|allowed| vec![allowed]);
    }
    let is_name = !who.is_empty()
        && who.len() <= 253
        && who.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        && who.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !is_name {
        return Err(wrong());
    }
    let addresses = resolve(who)?;
    if addresses.is_empty() {
        return Err(format!("the name {who:?} has no address"));
    }
    addresses.into_iter().take(MOST_ADDRESSES).map(|address| checked(address.into(), way)).collect()
}

fn checked(net: IpNet, way: Way) -> Result<Allowed, String> {
    // All of the Internet is no exception from an isolation.
    if net.prefix_len() < 8 {
        return Err(format!("{net} is too much to leave open: name at most a network of length 8"));
    }
    Ok(Allowed { net: net.trunc(), way })
}

/// The addresses of a name, as this host's resolver has them now.
///
/// # Errors
///
/// What the resolver said.
pub fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    use std::net::ToSocketAddrs;
    let found =
        (name, 0).to_socket_addrs().map_err(|error| format!("the name {name:?} has no address: {error}"))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(name: &str) -> Result<Vec<IpAddr>, String> {
        Err(format!("asked for {name}"))
    }

    fn words(text: &str) -> String {
        match Allowed::read_to(text, &none) {
            Ok(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Err(what) => format!("! {what}"),
        }
    }

    #[test]
    fn addresses_networks_and_ports_of_both_families_are_read() {
        assert_eq!(words("192.0.2.10"), "anything with 192.0.2.10");
        assert_eq!(words("192.0.2.10:443"), "TCP to 192.0.2.10 port 443");
        assert_eq!(words("192.0.2.77/24:443"), "TCP to 192.0.2.0/24 port 443");
        assert_eq!(words("2001:db8::10"), "anything with 2001:db8::10");
        assert_eq!(words("[2001:db8::10]:8443"), "TCP to 2001:db8::10 port 8443");
        let from = Allowed::read_from("[2001:db8::/32]:22", &none).unwrap();
        assert_eq!(from[0].to_string(), "TCP from 2001:db8::/32 to port 22 here");
    }

    #[test]
    fn a_name_becomes_its_addresses_of_both_families() {
        let both = |_: &str| Ok(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        let all = Allowed::read_to("collector.example:443", &both).unwrap();
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|allowed| allowed.way == Way::To(443)));
        assert_eq!(words("collector.example"), "! asked for collector.example");
        assert!(Allowed::read_to("x.example", &|_| Ok(vec![])).is_err());
    }

    #[test]
    fn what_could_reach_a_ruleset_as_more_than_an_address_is_refused() {
        for text in [
            "",
            ":",
            ":443",
            "a b",
            "x; drop",
            "192.0.2.1:0",
            "192.0.2.1:70000",
            "10.0.0.1 }",
            "[::1",
            "1.2.3",
            "é",
        ] {
            assert!(words(text).starts_with("! \""), "{text:?}: {}", words(text));
        }
        for text in ["0.0.0.0/0", "::/0", "0.0.0.0/1:443"] {
            assert!(words(text).contains("too much"), "{text}");
        }
    }
}
