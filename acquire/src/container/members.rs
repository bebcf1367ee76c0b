//! Which processes are those of a container.
//!
//! - Those in a control group of the first process that neither its parent, nor `init`, nor we ourselves are in, and in
//!   groups below it, as far as they share a pid or mount namespace with it that is not `init`'s: a group may be that of a
//!   whole session. So processes that were brought in later (`exec`) are members too.
//! - Without such a group, those of its pid namespace, unless that is the host's.
//! - In any case the children of the first process, and theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use crate::triage::bounded_reads::{Patience, link_below, names_below, open_folder, read_below};
use crate::triage::process_facts::{Stat, container_of, control_group};

const LIMIT: Duration = Duration::from_secs(10);
const MOST: usize = 1 << 22;

/// What is looked at of every process.
#[derive(Debug, Clone, Default)]
struct Seen {
    parent: u64,
    start: u64,
    /// It has ended and was not waited for.
    is_over: bool,
    /// Hierarchy, path.
    groups: BTreeSet<(String, String)>,
    pid_namespace: Vec<u8>,
    mount_namespace: Vec<u8>,
}

/// All processes, or why they cannot be listed.
fn all(proc: &Path) -> std::io::Result<BTreeMap<u32, Seen>> {
    let proc = proc.to_owned();
    Patience::of(LIMIT).wait(move || {
        let (names, _) = names_below(&open_folder(&proc)?, ".", MOST)?;
        let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
        Ok(pids.filter_map(|pid| Some((pid, seen(&proc, pid)?))).collect())
    })
}

fn seen(proc: &Path, pid: u32) -> Option<Seen> {
    let folder = open_folder(&proc.join(pid.to_string())).ok()?;
    let stat = Stat::read(&read_below(&folder, "stat", 8 << 10).ok()?.bytes)?;
    let groups = read_below(&folder, "cgroup", 64 << 10).unwrap_or_default();
    let groups = String::from_utf8_lossy(&groups.bytes).into_owned();
    let pairs = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, _, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((hierarchy.to_owned(), path.to_owned()))
    });
    Some(Seen {
        parent: stat.parent,
        start: stat.start,
        is_over: matches!(stat.state, 'Z' | 'X'),
        groups: pairs.collect(),
        pid_namespace: link_below(&folder, "ns/pid").unwrap_or_default(),
        mount_namespace: link_below(&folder, "ns/mnt").unwrap_or_default(),
    })
}

/// The start of a process in clock ticks since boot; `None` if there is none of that number, or it has ended.
pub(super) fn start_of(root: &Path, pid: u32) -> Option<u64> {
    let proc = root.join("proc");
    Patience::of(LIMIT)
        .wait(move || Ok(seen(&proc, pid).filter(|seen| !seen.is_over).map(|seen| seen.start)))
        .ok()
        .flatten()
}

/// The processes of the container whose first one is `first`, each with its start in clock ticks since boot; the first is always
/// among them if it is there.
///
/// # Errors
///
/// Why processes cannot be listed.
pub(super) fn members(root: &Path, first: u32) -> std::io::Result<BTreeMap<u32, u64>> {
    let all = all(&root.join("proc"))?;
    let found = members_of(&all, first, std::process::id());
    Ok(found.into_iter().filter_map(|pid| Some((pid, all.get(&pid)?.start))).collect())
}

/// When the process began whose folder in `/proc` this is, in clock ticks since boot.
pub(super) fn start_below(folder: &OwnedFd) -> Option<u64> {
    Some(Stat::read(&read_below(folder, "stat", 8 << 10).ok()?.bytes)?.start)
}

fn members_of(all: &BTreeMap<u32, Seen>, first: u32, us: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let Some(of) = all.get(&first) else { return found };
    found.insert(first);
    let parent = u32::try_from(of.parent).unwrap_or(0);
    let others: Vec<&Seen> =
        [1, us, parent].iter().filter(|&&pid| pid != first).filter_map(|pid| all.get(pid)).collect();
    let is_shared = |group: &&(String, String)| {
        group.1 == "/" || others.iter().any(|other| other.groups.contains(*group))
    };
    let own: Vec<&(String, String)> = of.groups.iter().filter(|group| !is_shared(group)).collect();
    let below = |path: &str, top: &str| {
        path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Where it has no namespace of its own, there is nothing but the group to go by.
    let init = all.get(&1);
    let is_own = |of: fn(&Seen) -> &[u8], seen: &Seen| {
        !of(seen).is_empty() && init.is_none_or(|init| of(init) != of(seen))
    };
    let (pids, mounts) = (is_own(|seen| &seen.pid_namespace, of), is_own(|seen| &seen.mount_namespace, of));
    let shares_with = |of: &Seen, seen: &Seen| {
        (pids && seen.pid_namespace == of.pid_namespace)
            || (mounts && seen.mount_namespace == of.mount_namespace)
            || (!pids && !mounts)
    };
    for (&pid, seen) in all {
        let in_group = own
            .iter()
            .any(|(hierarchy, top)| seen.groups.iter().any(|(h, path)| h == hierarchy && below(path, top)));
        let in_group = in_group && shares_with(of, seen);
        let in_namespace = own.is_empty()
            && !of.pid_namespace.is_empty()
            && seen.pid_namespace == of.pid_namespace
            && others.iter().all(|other| other.pid_namespace != of.pid_namespace);
        if in_group || in_namespace {
            found.insert(pid);
        }
    }
    // A child may have a smaller number than its parent, so that one pass is not enough.
    loop {
        let children = all.iter().filter(|(pid, seen)| {
            !found.contains(pid) && u32::try_from(seen.parent).is_ok_and(|parent| found.contains(&parent))
        });
        let children: Vec<u32> = children.map(|(&pid, _)| pid).collect();
        if children.is_empty() {
            return found;
        }
        found.extend(children);
    }
}

/// The containers whose id begins so, as the paths of control groups tell, each with its oldest process.
pub(super) fn container_in_control_group(root: &Path, id: &str) -> Vec<(String, u32)> {
    let mut oldest: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    for (pid, seen) in all(&root.join("proc")).unwrap_or_default() {
        let text: String = seen.groups.iter().map(|(h, path)| format!("{h}::{path}\n")).collect();
        let Some((found, _)) = control_group(text.as_bytes()).and_then(container_of) else { continue };
        let fits = found == id || (id.len() >= 4 && found.len() == 64 && found.starts_with(id));
        if fits {
            let oldest = oldest.entry(found).or_insert((seen.start, pid));
            *oldest = (*oldest).min((seen.start, pid));
        }
    }
    oldest.into_iter().map(|(id, (_, pid))| (id, pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u64, group: &str, namespace: &str) -> Seen {
        let groups = BTreeSet::from([("0".to_owned(), group.to_owned()), ("9".to_owned(), "/".to_owned())]);
        let (pid_namespace, mount_namespace) = (namespace.into(), namespace.into());
        Seen { parent, start: 1, is_over: false, groups, pid_namespace, mount_namespace }
    }

    #[test]
    fn members_are_those_of_the_own_group_and_below_and_all_children() {
        let all = BTreeMap::from([
            (1, process(0, "/init.scope", "host")),
            (5, process(1, "/system.slice/shim", "host")),
            (7, process(5, "/c/box", "own")),
            (8, process(5, "/c/box/sub", "own")),
            (6, process(7, "/elsewhere", "host")),
            (9, process(1, "/c/boxer", "host")),
            // Brought into the group, and into nothing else.
            (10, process(1, "/c/box", "host")),
            (99, process(1, "/user", "host")),
        ]);
        assert_eq!(members_of(&all, 7, 99), BTreeSet::from([6, 7, 8]));
        assert!(members_of(&all, 1000, 99).is_empty());
    }

    #[test]
    fn a_group_that_the_parent_shares_is_not_the_containers_own() {
        let all = BTreeMap::from([
            (1, process(0, "/init.scope", "host")),
            (5, process(1, "/user/session", "host")),
            (7, process(5, "/user/session", "own")),
            (8, process(5, "/user/session", "own")),
            (9, process(5, "/user/session", "host")),
        ]);
        assert_eq!(members_of(&all, 7, 9), BTreeSet::from([7, 8]));
    }
}
