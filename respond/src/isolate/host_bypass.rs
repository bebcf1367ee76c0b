//! What passes a host without meeting the hooks of its own filter, as far as it can be seen without leave of anybody: told
//! before an isolation begins, since a table of nftables does not hold it back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::command::run;

/// Names that are told of each kind, interfaces that are looked at, and name spaces, at most.
const MOST_TOLD: usize = 8;
const MOST_INTERFACES: usize = 4_096;
const MOST_SPACES: usize = 256;
const MOST_PROCESSES: usize = 65_536;

/// Bytes of a file of the kernel's that are read.
const MOST_BYTES: u64 = 1 << 20;

/// The kernel's own tunnels are in every name space, and down.
const KERNELS_OWN: [&str; 10] =
    ["lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"];

/// Sentences about what is not held back. What cannot be looked at is left out.
pub(crate) fn warnings() -> Vec<String> {
    let names = interfaces(Path::new("/proc/thread-self/net/dev"));
    let mut found = of_interfaces(Path::new("/sys/class/net"), &names);
    found.extend(of_name_spaces(Path::new("/proc"), Path::new("/sys/class/net"), &names));
    let tables = run("nft", &["list", "flowtables"], "").map(|ran| ran.stdout).unwrap_or_default();
    if tables.contains("flowtable ") {
        found.push("there are flowtables: forwarded flows that one of them has taken over go on".to_owned());
    }
    found
}

/// What the interfaces of this host carry for others, from what is under `sys`.
fn of_interfaces(sys: &Path, names: &BTreeSet<String>) -> Vec<String> {
    let (mut bridged, mut upper, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let folder = sys.join(name);
        if folder.join("brport").is_dir() {
            bridged.push(name.clone());
        }
        if text(&folder.join("device/sriov_numvfs")).trim().parse::<u32>().is_ok_and(|count| count > 0) {
            shared.push(name.clone());
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().take(MOST_INTERFACES);
        for entry in entries {
            let entry = entry.file_name().to_string_lossy().into_owned();
            let Some(over) = entry.strip_prefix("upper_") else { continue };
            let kind = text(&sys.join(over).join("uevent"));
            // Those hand all that comes to this host's own stack; ports of a bridge are told above.
            if !["bond", "vlan", "bridge"].iter().any(|known| kind.contains(&format!("DEVTYPE={known}"))) {
                upper.push(format!("{over} on {name}"));
            }
        }
    }
    let mut said = Vec::new();
    let mut tell = |names: &[String], what: &str| {
        if !names.is_empty() {
            said.push(format!("{}: {what}", listed(names)));
        }
    };
    tell(&bridged, "in a bridge; what virtual machines and containers send across it is not held back");
    tell(
        &upper,
        "what others send and get there by macvlan, macvtap or a switch in software is not held back",
    );
    tell(&shared, "has virtual functions (SR-IOV); what others send and get by them is not held back");
    said
}

/// Other network name spaces that have more than the far end of a pair whose near end is here.
fn of_name_spaces(proc: &Path, sys: &Path, names: &BTreeSet<String>) -> Option<String> {
    let space = |of: &Path| std::fs::read_link(of.join("ns/net")).ok();
    let here = space(&proc.join("thread-self")).or_else(|| space(&proc.join("self")));
    let far_ends: BTreeSet<u32> =
        names.iter().filter_map(|name| text(&sys.join(name).join("iflink")).trim().parse().ok()).collect();
    let mut seen = BTreeMap::new();
    for process in std::fs::read_dir(proc).ok()?.flatten().take(MOST_PROCESSES) {
        let is_process = process.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let Some(there) = is_process.then(|| space(&process.path())).flatten() else { continue };
        if Some(&there) == here.as_ref() || seen.contains_key(&there) || seen.len() >= MOST_SPACES {
            continue;
        }
        // The number and name of each interface: `2 eth0 : 1 V3`.
        let table = text(&process.path().join("net/igmp"));
        let rows = table.lines().skip(1).filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        let own: Vec<String> = rows
            .filter_map(|row| {
                let mut words = row.split_whitespace();
                let (number, name) =
                    (words.next()?.parse::<u32>().ok()?, words.next()?.trim_end_matches(':'));
                let is_own = !KERNELS_OWN.contains(&name) && !far_ends.contains(&number);
                is_own.then(|| name.to_owned())
            })
            .collect();
        seen.insert(there, own);
    }
    let all: Vec<String> = seen.into_values().flatten().collect();
    (!all.is_empty()).then(|| {
        format!("interfaces of other network name spaces are not held back, unless their packets pass this one: {}", listed(&all))
    })
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(MOST_TOLD);
    let told: Vec<&str> = names.iter().take(MOST_TOLD).map(String::as_str).collect();
    if more > 0 { format!("{} and {more} more", told.join(", ")) } else { told.join(", ") }
}

/// The interfaces of a table of the kernel's.
fn interfaces(table: &Path) -> BTreeSet<String> {
    let table = text(table);
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    // A name is a file's below; one that is none of a file is left out.
    let names = names.filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    names.take(MOST_INTERFACES).map(str::to_owned).collect()
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(MOST_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, path: &str, text: &str) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_an_interface_carries_for_others_is_told_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path();
        put(sys, "lo/mtu", "65536");
        put(sys, "vnet0/brport/state", "3");
        put(sys, "eth0/device/sriov_numvfs", "4\n");
        put(sys, "eth1/device/sriov_numvfs", "0\n");
        put(sys, "eth1/upper_bond0/mtu", "1500");
        put(sys, "bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n");
        put(sys, "bond0/upper_macvtap0/mtu", "1500");
        put(sys, "macvtap0/uevent", "INTERFACE=macvtap0\n");
        let told = of_interfaces(sys, &names(&["lo", "vnet0", "eth0", "eth1", "bond0", "gone"]));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("vnet0: in a bridge"), "{told:?}");
        assert!(told[1].starts_with("macvtap0 on bond0: "), "{told:?}");
        assert!(told[2].starts_with("eth0: has virtual functions"), "{told:?}");
        assert!(of_interfaces(sys, &names(&["lo", "eth1"])).is_empty());
    }

    #[test]
    fn another_name_space_is_told_where_it_has_more_than_the_far_end_of_a_pair() {
        let folder = tempfile::tempdir().unwrap();
        let (proc, sys) = (folder.path().join("proc"), folder.path().join("sys"));
        let process = |name: &str, space: &str, rows: &str| {
            put(
                &proc,
                &format!("{name}/net/igmp"),
                &format!("Idx\tDevice    : Count Querier\tGroup\n{rows}"),
            );
            std::fs::create_dir_all(proc.join(name).join("ns")).unwrap();
            std::os::unix::fs::symlink(space, proc.join(name).join("ns/net")).unwrap();
        };
        put(&sys, "veth7/iflink", "12\n");
        process("self", "net:[1]", "");
        process("1", "net:[1]", "2\teth0      :     1      V3\n");
        process(
            "40",
            "net:[2]",
            "1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n12\teth0      :     1      V3\n",
        );
        assert_eq!(of_name_spaces(&proc, &sys, &names(&["veth7"])), None);
        process("41", "net:[3]", "9\tmacvlan0  :     1      V3\n");
        process("42", "net:[3]", "9\tmacvlan0  :     1      V3\n");
        let told = of_name_spaces(&proc, &sys, &names(&["veth7"])).unwrap();
        assert!(told.ends_with("this one: macvlan0"), "{told}");
    }

    #[test]
    fn many_are_counted_and_not_all_named() {
        let many: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
        assert!(listed(&many).ends_with("v7 and 12 more"), "{}", listed(&many));
    }
}
