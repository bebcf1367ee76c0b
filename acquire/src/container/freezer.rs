//! Holds the processes of a container still by their control group, and lets them go on in any case.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Within this time all of them stand still, or they are let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Groups below groups that are looked into.
const DEEPEST: u32 = 16;

/// A control group that stands still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen {
    switch: Switch,
    /// It stood still before us, so it is left so.
    was: bool,
    is_thawed: bool,
}

/// How a group is frozen, by the version of its hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Switch {
    One(PathBuf),
    Two(PathBuf),
}

impl Switch {
    fn group(&self) -> &Path {
        match self {
            Self::One(group) | Self::Two(group) => group,
        }
    }

    fn set(&self, frozen: bool) -> io::Result<()> {
        match self {
            Self::One(group) => {
                fs::write(group.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
            }
            Self::Two(group) => fs::write(group.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
        }
    }

    fn is_frozen(&self) -> io::Result<bool> {
        Ok(match self {
            Self::One(group) => fs::read_to_string(group.join("freezer.state"))?.trim() == "FROZEN",
            Self::Two(group) => {
                fs::read_to_string(group.join("cgroup.events"))?.lines().any(|line| line == "frozen 1")
            }
        })
    }
}

impl Frozen {
    /// Freezes the control group of a process, if none but `members` is in it or below it.
    ///
    /// # Errors
    ///
    /// Why it cannot be done; then nothing stands still.
    pub(super) fn freeze(pid: u32, members: &BTreeSet<u32>) -> Result<Self, String> {
        let read = |name: &str| fs::read_to_string(name).map_err(|error| format!("{name}: {error}"));
        let groups = read(&format!("/proc/{pid}/cgroup"))?;
        let ours = read("/proc/self/cgroup")?;
        let switch = switch(&groups, &ours, &read("/proc/self/mountinfo")?)?;
        if let Some(other) = others(switch.group(), members, 0)? {
            return Err(format!("process {other} is in its control group, and not of the container"));
        }
        let was = switch.is_frozen().map_err(|error| format!("{switch:?}: {error}"))?;
        let frozen = Self { switch, was, is_thawed: false };
        if was {
            return Ok(frozen);
        }
        frozen.switch.set(true).map_err(|error| format!("{:?}: {error}", frozen.switch))?;
        let begun = Instant::now();
        loop {
            match frozen.switch.is_frozen() {
                Ok(true) => return Ok(frozen),
                Ok(false) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(2)),
                Ok(false) => return Err("some of its processes did not stand still in time".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// Why it could not be; a person must do it then.
    pub(super) fn thaw(mut self) -> Result<(), String> {
        self.is_thawed = true;
        if self.was {
            return Ok(());
        }
        match self.switch.set(false) {
            // Its group went with its last process.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|error| format!("{:?} could not be thawed: {error}", self.switch)),
        }
    }

    /// Whether it stood still before.
    pub(super) fn was(&self) -> bool {
        self.was
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.is_thawed && !self.was {
            // There is nobody left to tell; the next thing its owner sees is a container that stands still.
            let _ = self.switch.set(false);
        }
    }
}

/// A process in a group or below it that is none of the members.
fn others(group: &Path, members: &BTreeSet<u32>, depth: u32) -> Result<Option<u32>, String> {
    let fault = |error: io::Error| format!("{}: {error}", group.display());
    let listed = fs::read_to_string(group.join("cgroup.procs")).map_err(fault)?;
    let started_since = |pid: u32| {
        // A child of a member that began after they were listed.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.and_then(|text| text.trim().parse::<u32>().ok());
        status.is_empty() || parent.is_some_and(|parent| members.contains(&parent))
    };
    let found = listed.lines().filter_map(|line| line.trim().parse().ok());
    if let Some(other) = found.filter(|pid| !members.contains(pid)).find(|&pid| !started_since(pid)) {
        return Ok(Some(other));
    }
    for entry in fs::read_dir(group).map_err(fault)?.flatten() {
        if depth < DEEPEST && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // One that has gone meanwhile holds nobody.
            if let Ok(Some(other)) = others(&entry.path(), members, depth + 1) {
                return Ok(Some(other));
            }
        }
    }
    Ok(None)
}

/// The group of a process, on the hierarchy that can freeze it.
fn switch(groups: &str, ours: &str, mounts: &str) -> Result<Switch, String> {
    let line = |text: &str, wanted: fn(&str, &str) -> bool| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(hierarchy, controllers).then(|| path.to_owned())
        })
    };
    let one = |_: &str, controllers: &str| controllers.split(',').any(|name| name == "freezer");
    let two = |hierarchy: &str, controllers: &str| hierarchy == "0" && controllers.is_empty();
    let mut refusals = Vec::new();
    for (is_two, wanted) in [(false, one as fn(&str, &str) -> bool), (true, two as fn(&str, &str) -> bool)] {
        let Some(path) = line(groups, wanted) else { continue };
        if path == "/" || path.contains("..") {
            refusals.push("it has no control group of its own".to_owned());
            continue;
        }
        let own = line(ours, wanted).unwrap_or_default();
        if own.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            refusals.push(format!("this program is in its control group {path}"));
            continue;
        }
        match mounted(mounts, is_two, &path) {
            Some(group) => return Ok(if is_two { Switch::Two(group) } else { Switch::One(group) }),
            None => refusals.push(format!("control group {path} is not mounted here")),
        }
    }
    Err(if refusals.is_empty() {
        "it is in no control group that can freeze".to_owned()
    } else {
        refusals.join("; ")
    })
}

/// Where a group's folder lies, by the table of mounts.
fn mounted(mounts: &str, is_two: bool, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let fits = match is_two {
            true => kind == "cgroup2",
            false => kind == "cgroup" && options.split(',').any(|option| option == "freezer"),
        };
        let below = match root {
            "/" => path,
            root => path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
        };
        fits.then(|| Path::new(point).join(below.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "30 1 0:26 / /sys/fs/cgroup/freezer rw shared:9 - cgroup cgroup rw,freezer\n\
        31 1 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_is_found_on_either_version() {
        let both = "6:freezer:/c1\n0::/c1\n";
        assert_eq!(switch(both, "0::/\n", MIXED), Ok(Switch::One("/sys/fs/cgroup/freezer/c1".into())));
        let two = "31 1 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let group = "0::/system.slice/docker-1.scope\n";
        assert_eq!(
            switch(group, "0::/user.slice\n", two),
            Ok(Switch::Two("/sys/fs/cgroup/system.slice/docker-1.scope".into()))
        );
    }

    #[test]
    fn a_group_that_others_are_in_is_not_the_containers_to_freeze() {
        let group = tempfile::tempdir().unwrap();
        let below = group.path().join("below");
        fs::create_dir(&below).unwrap();
        let us = std::process::id();
        fs::write(group.path().join("cgroup.procs"), "").unwrap();
        fs::write(below.join("cgroup.procs"), format!("{us}\n")).unwrap();
        assert_eq!(others(group.path(), &BTreeSet::from([us]), 0), Ok(None));
        assert_eq!(others(group.path(), &BTreeSet::new(), 0), Ok(Some(us)));
        // A child of a member, begun since.
        let parent = std::os::unix::process::parent_id();
        assert_eq!(others(group.path(), &BTreeSet::from([parent]), 0), Ok(None));
        assert!(others(&group.path().join("none"), &BTreeSet::new(), 0).is_err());
    }

    #[test]
    fn neither_the_host_nor_we_ourselves_are_frozen() {
        assert!(switch("0::/\n", "0::/x\n", MIXED).unwrap_err().contains("no control group of its own"));
        assert!(switch("0::/a\n", "0::/a/b\n", MIXED).unwrap_err().contains("this program"));
        assert!(switch("0::/a\n", "0::/ab\n", MIXED).is_ok());
        assert!(switch("0::/a/../..\n", "0::/b\n", MIXED).is_err());
        assert!(switch("", "", "").is_err());
    }
}
