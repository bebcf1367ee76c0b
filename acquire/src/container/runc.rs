//! What runc and crun keep on disk of a container: `state.json` below their `--root`, `config.json` of its bundle.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::find::{View, Wanted};
use crate::triage::bounded_reads::Patience;
use crate::triage::containers::matches;

/// Bytes of one file of state.
const STATE: u64 = 4 << 20;
const LIMIT: Duration = Duration::from_secs(10);

/// Where states lie, `*` standing for any one name: the last is the container's id, the one before containerd's namespace.
const STATES: [&str; 6] = [
    "run/runc/*/state.json",
    "run/containerd/runc/*/*/state.json",
    "run/docker/runtime-runc/*/*/state.json",
    "run/k3s/containerd/runc/*/*/state.json",
    "run/crun/*/status",
    "run/user/*/crun/*/status",
];

/// The containers that fit.
pub(super) fn views(
    root: &Path,
    wanted: &Wanted,
    more: &[PathBuf],
    notes: &mut Vec<(PathBuf, String)>,
) -> Vec<View> {
    let mut patience = Patience::of(LIMIT);
    let mut paths = Vec::new();
    for (at, pattern) in
        STATES.iter().map(|pattern| (root.to_owned(), *pattern)).chain(more.iter().flat_map(|folder| {
            ["*/state.json", "*/*/state.json", "*/status"].map(|pattern| (folder.clone(), pattern))
        }))
    {
        let top = at.clone();
        match patience.wait(move || Ok(matches(&top, pattern))) {
            Ok(found) => paths.extend(found.into_iter().map(|path| (path, pattern.matches('*').count()))),
            Err(error) => notes.push((at.join(pattern), error.to_string())),
        }
    }
    let mut found = Vec::new();
    for (path, stars) in paths {
        let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
        let Some(id) = name(path.parent()) else { continue };
        let is_crun = path.ends_with("status");
        let above = path.parent().and_then(Path::parent);
        let namespace = if stars == 2 && !is_crun { name(above).unwrap_or_default() } else { String::new() };
        if wanted.fits(&namespace, &id, "") == 0 && wanted.fits("", &id, "") == 0 {
            continue;
        }
        let to_read = path.clone();
        let read = patience.wait(move || small(&to_read));
        match read {
            Ok(bytes) => found.push(view(id, namespace, &path, bytes, &mut patience, is_crun)),
            Err(error) => notes.push((path, format!("not read: {error}"))),
        }
    }
    found
}

fn small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(STATE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn view(
    id: String,
    namespace: String,
    path: &Path,
    bytes: Vec<u8>,
    patience: &mut Patience,
    is_crun: bool,
) -> View {
    let state: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let runtime = if is_crun { "crun" } else { "runc" };
    let number = |key: &str| state.get(key).and_then(Value::as_u64).filter(|&number| number > 0);
    let pid = number(if is_crun { "pid" } else { "init_process_pid" });
    let absolute = |text: &str| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    let rootfs = ["/config/rootfs", "/rootfs"].iter().find_map(|at| absolute(state.pointer(at)?.as_str()?));
    let labels = state.pointer("/config/labels").and_then(Value::as_array).into_iter().flatten();
    let label = labels.filter_map(Value::as_str).find_map(|label| label.strip_prefix("bundle="));
    let bundle = label.or_else(|| state.get("bundle").and_then(Value::as_str)).and_then(absolute);
    let mut view = View {
        runtime: runtime.to_owned(),
        namespace,
        id: id.clone(),
        state: "on disk".to_owned(),
        pid: pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 1),
        start_ticks: number(if is_crun { "process-start-time" } else { "init_process_start" }),
        root: rootfs,
        ..View::default()
    };
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or("state");
    view.documents.push((format!("{runtime}/{id}/{file}"), bytes));
    if let Some(bundle) = bundle
        && let Ok(config) = patience.wait(move || small(&bundle.join("config.json")))
    {
        view.documents.push((format!("{runtime}/{id}/config.json"), config));
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_on_disk_tells_the_process_and_its_start_and_damage_tells_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/containerd/runc/k8s.io/box");
        fs::create_dir_all(&folder).unwrap();
        let bundle = root.path().join("bundle");
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), "{}").unwrap();
        let state = format!(
            r#"{{"init_process_pid":4711,"init_process_start":99,"config":{{"rootfs":"/r","labels":["bundle={}"]}}}}"#,
            bundle.display()
        );
        fs::write(folder.join("state.json"), state).unwrap();
        let mut notes = Vec::new();
        let of =
            |text: &str, notes: &mut Vec<_>| views(root.path(), &Wanted::read(text).unwrap(), &[], notes);
        let found = of("k8s.io/box", &mut notes);
        assert_eq!((found[0].pid, found[0].start_ticks), (Some(4711), Some(99)));
        assert_eq!((found[0].namespace.as_str(), found[0].documents.len()), ("k8s.io", 2));
        fs::write(folder.join("state.json"), "{").unwrap();
        assert_eq!(of("box", &mut notes)[0].pid, None);
        assert!(of("other", &mut notes).is_empty());
        assert!(notes.is_empty());
    }
}
