//! Networks of our own: name spaces of the kernel, joined by pairs of interfaces.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A host that is to be isolated, with one network to its management and one to an intruder, IPv4 and IPv6.
pub(crate) struct Net {
    pub(crate) host: String,
    pub(crate) management: String,
    pub(crate) intruder: String,
}

/// Addresses of the two others, and of the host as each of them sees it.
pub(crate) const MANAGEMENT: [&str; 2] = ["10.77.1.2", "fd77:1::2"];
pub(crate) const INTRUDER: [&str; 2] = ["10.77.2.2", "fd77:2::2"];
pub(crate) const HOST_TO_MANAGEMENT: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
pub(crate) const HOST_TO_INTRUDER: [&str; 2] = ["10.77.2.1", "fd77:2::1"];

impl Net {
    /// `None`, with the reason said, where such networks cannot be had.
    pub(crate) fn make() -> Option<Net> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |what: &str| format!("ex{}-{number}-{what}", std::process::id());
        let net = Net { host: name("h"), management: name("m"), intruder: name("i") };
        if let Err(why) = net.join() {
            eprintln!("skipped: {why} (it needs root, and the Debian packages nftables and iproute2)");
            return None;
        }
        Some(net)
    }

    fn join(&self) -> Result<(), String> {
        if !std::path::Path::new("/usr/sbin/nft").exists() {
            return Err("there is no nft".to_owned());
        }
        for space in [&self.host, &self.management, &self.intruder] {
            ip(&["netns", "add", space])?;
            ip(&["-n", space, "link", "set", "lo", "up"])?;
        }
        let others = [
            (&self.management, "m0", HOST_TO_MANAGEMENT, MANAGEMENT),
            (&self.intruder, "i0", HOST_TO_INTRUDER, INTRUDER),
        ];
        for (other, interface, here, there) in others {
            ip(&[
                "-n", &self.host, "link", "add", interface, "type", "veth", "peer", "name", "e0", "netns",
                other,
            ])?;
            for (space, interface, [four, six]) in [(&self.host, interface, here), (other, "e0", there)] {
                ip(&["-n", space, "addr", "add", &format!("{four}/24"), "dev", interface])?;
                ip(&["-n", space, "addr", "add", &format!("{six}/64"), "dev", interface, "nodad"])?;
                ip(&["-n", space, "link", "set", interface, "up"])?;
            }
        }
        // The way to everywhere else, so that nobody's addresses have a route.
        ip(&["-n", &self.host, "route", "add", "default", "via", INTRUDER[0]])?;
        ip(&["-n", &self.host, "-6", "route", "add", "default", "via", INTRUDER[1]])
    }

    /// Does something as a process of the host would.
    pub(crate) fn on_host<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.host, act)
    }

    /// What `nft` says of the host.
    pub(crate) fn nft(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("ip").args(["netns", "exec", &self.host, "/usr/sbin/nft"]).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Does something in a name space.
pub(crate) fn within<T: Send>(space: &str, act: impl FnOnce() -> T + Send) -> T {
    let there = File::open(format!("/run/netns/{space}")).unwrap();
    thread::scope(|scope| {
        let acting = scope.spawn(move || {
            // Of this thread alone, and of what it starts.
            move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        });
        acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in [&self.host, &self.management, &self.intruder] {
            let _ = ip(&["netns", "del", space]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {}", arguments.join(" "), said.trim())) }
}
