//! The SSH session that a command is typed in, also where `sudo` has left its variable out of the environment: then a parent
//! of ours has it still.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

const VARIABLE: &str = "SSH_CONNECTION";

/// Parents that are looked at, and bytes of the environment of each.
const MOST_PARENTS: usize = 64;
const MOST_BYTES: u64 = 4 << 20;

/// What the session says of itself; `None` where there is none, or none on this network.
#[allow(clippy::disallowed_methods, reason = "cli is where settings enter")]
pub(super) fn connection() -> Option<String> {
    match std::env::var_os(VARIABLE) {
        Some(own) => Some(own.to_string_lossy().into_owned()),
        None => of_parents(Path::new("/proc"), std::os::unix::process::parent_id()),
    }
}

/// The same of the nearest parent that has it, from the process `first` upwards.
fn of_parents(proc: &Path, first: u32) -> Option<String> {
    let network = |of: &str| std::fs::read_link(proc.join(of).join("ns/net")).ok();
    let here = network("self");
    let mut process = first;
    for _ in 0..MOST_PARENTS {
        // 1 was started by nobody.
        if process <= 1 {
            return None;
        }
        let name = process.to_string();
        let there = network(&name);
        // A session on another network is not cut off by what is done on this one.
        if there.is_none() || here.is_none() || there == here {
            let environment = bytes(&proc.join(&name).join("environ"));
            let prefix = format!("{VARIABLE}=");
            let mut words = environment.split(|byte| *byte == 0);
            if let Some(found) = words.find_map(|word| word.strip_prefix(prefix.as_bytes())) {
                return Some(String::from_utf8_lossy(found).into_owned());
            }
        }
        let status = String::from_utf8_lossy(&bytes(&proc.join(&name).join("status"))).into_owned();
        process = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    }
    None
}

fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(MOST_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// The address at the other end, and the port here; `None` for what cannot be read so.
pub(super) fn ends(connection: &str) -> Option<(IpAddr, u16)> {
    let words: Vec<&str> = connection.split_whitespace().collect();
    let [peer, _, _, port] = words.as_slice() else { return None };
    // A link-local address has the name of its interface behind it, which no ruleset has.
    let peer = peer.split('%').next()?.parse::<IpAddr>().ok()?;
    Some((peer.to_canonical(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_session_are_read_and_what_is_none_is_not_guessed() {
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(ends("192.0.2.5 50000 192.0.2.1 22"), Some((peer("192.0.2.5"), 22)));
        assert_eq!(ends("fe80::1%eth0 50000 fe80::2%eth0 2222"), Some((peer("fe80::1"), 2222)));
        assert_eq!(ends("::ffff:192.0.2.5 50000 ::ffff:192.0.2.1 22"), Some((peer("192.0.2.5"), 22)));
        for none in
            ["", "UNKNOWN 65535 UNKNOWN 65535", "192.0.2.5 50000 192.0.2.1", "192.0.2.5 1 192.0.2.1 99999"]
        {
            assert_eq!(ends(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_session_is_found_above_sudo_and_only_on_this_network() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        let process = |name: &str, parent: &str, network: &str, environment: &str| {
            std::fs::create_dir_all(proc.join(name).join("ns")).unwrap();
            std::fs::write(proc.join(name).join("status"), format!("Name:\tx\nPPid:\t{parent}\n")).unwrap();
            std::fs::write(proc.join(name).join("environ"), environment).unwrap();
            std::os::unix::fs::symlink(network, proc.join(name).join("ns/net")).unwrap();
        };
        process("self", "30", "net:[1]", "");
        process("30", "20", "net:[1]", "SUDO_USER=jd\0TERM=x\0");
        process("20", "10", "net:[1]", "A=b\0SSH_CONNECTION=192.0.2.5 50000 192.0.2.1 22\0");
        process("10", "1", "net:[1]", "");
        assert_eq!(of_parents(proc, 30).as_deref(), Some("192.0.2.5 50000 192.0.2.1 22"));
        assert_eq!(of_parents(proc, 10), None);
        // In a circle, as no kernel tells it, it ends too.
        process("40", "40", "net:[1]", "X_SSH_CONNECTION=a\0");
        assert_eq!(of_parents(proc, 40), None);
        process("50", "1", "net:[2]", "SSH_CONNECTION=192.0.2.5 50000 192.0.2.1 22\0");
        assert_eq!(of_parents(proc, 50), None);
        assert_eq!(of_parents(proc, 60), None);
    }
}
