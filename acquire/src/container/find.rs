//! Which container is meant, and what its runtime says of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::capture::{ContainerOptions, ContainerRuntime};
use super::members::container_in_control_group;
use super::{containerd, docker, runc};
use crate::error::{Error, Result};

/// What one runtime says of a container.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// `docker`, `containerd`, `runc` …
    pub(super) runtime: String,
    /// Of containerd.
    pub(super) namespace: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
    /// Its runtime's word.
    pub(super) state: String,
    pub(super) pid: Option<u32>,
    /// When that process began, in clock ticks since boot, where the runtime knows.
    pub(super) start_ticks: Option<u64>,
    /// The upper folder of its overlay.
    pub(super) upper: Option<PathBuf>,
    /// Where its root lies on the host, while it is not mounted in a namespace of its own.
    pub(super) root: Option<PathBuf>,
    /// Files with what it wrote.
    pub(super) logs: Vec<PathBuf>,
    /// Answers and files as they came: name below `V5/`, bytes.
    pub(super) documents: Vec<(String, Vec<u8>)>,
    /// Where its runtime was asked.
    pub(super) socket: Option<PathBuf>,
}

impl View {
    fn told(&self) -> String {
        let namespace =
            if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) };
        let name = if self.name.is_empty() { String::new() } else { format!(" ({})", self.name) };
        format!("{namespace}{}{name} of {}", self.id, self.runtime)
    }
}

/// The container that was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) id: String,
    /// As each runtime sees it; the first with a process counts.
    pub(super) views: Vec<View>,
    /// What went wrong while it was looked for: place, words.
    pub(super) notes: Vec<(PathBuf, String)>,
}

impl Found {
    /// Its first process, as its runtimes say.
    pub(super) fn first(&self) -> Option<&View> {
        self.views.iter().find(|view| view.pid.is_some())
    }

    pub(super) fn runtimes(&self) -> String {
        let mut names: Vec<&str> = self.views.iter().map(|view| view.runtime.as_str()).collect();
        names.dedup();
        names.join(", ")
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Of containerd; empty for any.
    pub(super) namespace: String,
    pub(super) id: String,
}

impl Wanted {
    /// Reads `ID`, `NAMESPACE/ID`.
    ///
    /// # Errors
    ///
    /// Why it can be no container.
    pub(super) fn read(text: &str) -> std::result::Result<Self, String> {
        let (namespace, id) = text.rsplit_once('/').unwrap_or(("", text));
        let plain = |text: &str| {
            text.len() <= 128
                && !text.starts_with('.')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-+".contains(&byte))
        };
        if id.is_empty() || !plain(id) || !plain(namespace) {
            return Err(
                "it must be an id, a name or NAMESPACE/ID, of letters, digits, _ . - and +".to_owned()
            );
        }
        Ok(Self { namespace: namespace.to_owned(), id: id.to_owned() })
    }

    /// How well an id and a name fit: 2 wholly, 1 as a beginning, 0 not.
    pub(super) fn fits(&self, namespace: &str, id: &str, name: &str) -> u8 {
        if !self.namespace.is_empty() && self.namespace != namespace {
            return 0;
        }
        let hex = self.id.len() >= 4 && self.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        // What an alert gives is the beginning of an id: a container that has this for its name is not the better one.
        let short = hex && (12..64).contains(&self.id.len());
        match () {
            () if id == self.id => 2,
            () if name == self.id => {
                if short {
                    1
                } else {
                    2
                }
            }
            () if hex && id.len() == 64 && id.starts_with(&self.id) => 1,
            () => 0,
        }
    }
}

/// Asks all runtimes that are chosen, and finds the one container that is meant.
///
/// # Errors
///
/// [`Error::Container`] when there is none, or several.
pub(super) fn find(root: &Path, text: &str, options: &ContainerOptions) -> Result<Found> {
    let fault = |reason: String| Error::Container { id: text.to_owned(), reason };
    if let Some(pid) = text.strip_prefix("pid:") {
        let pid = pid.parse::<u32>().ok().filter(|&pid| pid > 1 && root.join(format!("proc/{pid}")).is_dir());
        let pid = pid.ok_or_else(|| fault("there is no such process".to_owned()))?;
        return Ok(by_process(root, pid));
    }
    let wanted = Wanted::read(text).map_err(fault)?;
    let mut notes = Vec::new();
    let mut views = Vec::new();
    let has = |runtime: ContainerRuntime| {
        matches!(options.runtime, ContainerRuntime::Auto) || options.runtime == runtime
    };
    if has(ContainerRuntime::Docker) {
        views.extend(docker::views(root, &wanted, &options.sockets, &mut notes));
    }
    if has(ContainerRuntime::Containerd) {
        views.extend(containerd::views(root, &wanted, &options.sockets, &mut notes));
    }
    if has(ContainerRuntime::Runc) {
        views.extend(runc::views(root, &wanted, &options.states, &mut notes));
    }
    let mut found = chosen(&wanted, views).map_err(fault)?;
    if found.views.is_empty() && options.runtime == ContainerRuntime::Auto {
        let groups = container_in_control_group(root, &wanted.id);
        match groups.as_slice() {
            [] => {}
            [(_, pid)] => found = by_process(root, *pid),
            several => {
                let ids: Vec<&str> = several.iter().take(10).map(|(id, _)| id.as_str()).collect();
                return Err(fault(format!("several containers are called so: {}", ids.join(", "))));
            }
        }
    }
    if found.views.is_empty() {
        let said = notes.iter().map(|(path, what): &(PathBuf, String)| format!("{}: {what}", path.display()));
        let said: Vec<String> = said.collect();
        let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) };
        return Err(fault(format!("no runtime, no state on disk and no control group knows it{said}")));
    }
    found.notes = notes;
    Ok(found)
}

/// The views of the one container that fits best.
fn chosen(wanted: &Wanted, mut views: Vec<View>) -> std::result::Result<Found, String> {
    let fit = |view: &View| wanted.fits(&view.namespace, &view.id, &view.name);
    let best = views.iter().map(fit).max().unwrap_or(0);
    // A view by its own id only, such as that of runc, belongs to what was found by its name elsewhere.
    let ids: BTreeSet<String> =
        views.iter().filter(|view| best > 0 && fit(view) == best).map(|view| view.id.clone()).collect();
    if ids.len() > 1 {
        let told: Vec<String> =
            views.iter().filter(|view| fit(view) == best).map(View::told).take(10).collect();
        return Err(format!("several containers are called so: {}", told.join(", ")));
    }
    let Some(id) = ids.into_iter().next() else { return Ok(Found::default()) };
    let is_there = |view: &View| {
        wanted.namespace.is_empty() || view.namespace.is_empty() || view.namespace == wanted.namespace
    };
    views.retain(|view| view.id == id && is_there(view));
    let pids: BTreeSet<u32> = views.iter().filter_map(|view| view.pid).collect();
    if pids.len() > 1 {
        let told: Vec<String> = views.iter().map(View::told).collect();
        return Err(format!(
            "several containers have this id: {}; say NAMESPACE/ID, or choose one with --runtime",
            told.join(", ")
        ));
    }
    Ok(Found { id, views, notes: Vec::new() })
}

fn by_process(root: &Path, pid: u32) -> Found {
    let group = fs::read(root.join(format!("proc/{pid}/cgroup"))).unwrap_or_default();
    let group = crate::triage::process_facts::control_group(&group).unwrap_or_default();
    let id = crate::triage::process_facts::container_of(group).map(|(id, _)| id);
    let id = id.unwrap_or_else(|| format!("pid-{pid}"));
    let view = View {
        runtime: "control group".to_owned(),
        id: id.clone(),
        state: "running".to_owned(),
        pid: Some(pid),
        ..View::default()
    };
    Found { id, views: vec![view], notes: Vec::new() }
}

/// Whether a socket lies there.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(runtime: &str, namespace: &str, id: &str, name: &str, pid: Option<u32>) -> View {
        let [runtime, namespace, id, name] = [runtime, namespace, id, name].map(str::to_owned);
        View { runtime, namespace, id, name, pid, ..View::default() }
    }

    #[test]
    fn a_name_from_outside_is_a_name_and_nothing_else() {
        for text in ["c1", "k8s.io/0123abcd", "web-1_x.y"] {
            assert!(Wanted::read(text).is_ok(), "{text}");
        }
        for text in ["", "a/", "../x", "a/../b", "a b", "a;b", "x\n", "/x/y", &"a".repeat(129)] {
            assert!(Wanted::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_beginning_that_fits_two_is_refused_and_a_whole_id_is_not() {
        let (one, two) = (format!("{:0<64}", "abcd1"), format!("{:0<64}", "abcd2"));
        let views =
            || vec![view("docker", "", &one, "web", Some(4)), view("docker", "", &two, "db", Some(5))];
        let find = |text: &str| chosen(&Wanted::read(text).unwrap(), views());
        assert!(find("abcd").unwrap_err().contains("several"));
        assert_eq!(find("abcd1").unwrap().id, one);
        assert_eq!(find("db").unwrap().id, two);
        let short: String = one.chars().take(12).collect();
        let named = vec![view("docker", "", &one, "web", Some(4)), view("docker", "", &two, &short, Some(5))];
        assert!(chosen(&Wanted::read(&short).unwrap(), named.clone()).unwrap_err().contains("several"));
        assert_eq!(chosen(&Wanted::read(&one).unwrap(), named).unwrap().id, one);
        assert!(find("abc").unwrap().views.is_empty());
        assert!(find("nothing").unwrap().views.is_empty());
    }

    #[test]
    fn the_views_of_one_container_are_one_and_the_same_name_in_two_namespaces_is_not() {
        let id = format!("{:0<64}", "abcd1");
        let same = vec![view("docker", "", &id, "web", Some(4)), view("runc", "moby", &id, "", Some(4))];
        assert_eq!(chosen(&Wanted::read("web").unwrap(), same).unwrap().views.len(), 2);
        let two =
            || vec![view("containerd", "a", "box", "", Some(4)), view("containerd", "b", "box", "", Some(5))];
        assert!(chosen(&Wanted::read("box").unwrap(), two()).unwrap_err().contains("NAMESPACE/ID"));
        assert_eq!(chosen(&Wanted::read("b/box").unwrap(), two()).unwrap().views[0].pid, Some(5));
    }
}
