//! Containers, as their engines and the disk tell them.
//!
//! - Docker and Podman (rootless ones too) are asked at their sockets, with GET alone: `/V5/ENGINE/…` holds their answers
//!   as they came. A Docker daemon that the socket would have to start first is not asked: it would start containers.
//! - containerd and CRI-O are asked for their pods and containers over gRPC, see [`super::cri`]; what runs is also told by
//!   the state on disk: `/V5/state/…` holds the configuration of each container of runc, crun, containerd, CRI-O, Podman.
//! - `/V5/containers.jsonl`: one row for each container and each of the views that tells of it.
//! - What a container changed in its file system: see [`super::container_changes`].

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::clock::Clock;
use serde_json::Value;

use super::bounded_reads::Patience;
use super::cri;
use super::live_table::{LiveTable, Row};
use super::sockets::holders_of_socket;
use super::unix_http::{Answer, AnswerLimits, get};
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// The format of the table.
pub(crate) const FORMAT: &str = "exhibit-live-containers/1";

/// One answer. Sizes of containers may take the daemon a while.
const ANSWER: AnswerLimits = AnswerLimits { time: Duration::from_secs(30), body: 64 << 20 };
/// Connecting included.
const LIMIT: Duration = Duration::from_secs(40);
/// Containers of one engine that are asked about.
const MOST_CONTAINERS: usize = 2000;
/// Lines of each container's log.
const LOG_LINES: u32 = 10_000;
/// Bytes of one file of state.
const STATE: u64 = 4 << 20;
/// Silent answers after which an engine is given up.
const MOST_SILENT: u32 = 3;

/// What is asked of the whole engine: file, target.
const OF_ENGINE: [(&str, &str); 6] = [
    ("version.json", "/version"),
    ("info.json", "/info"),
    ("networks.json", "/networks"),
    ("volumes.json", "/volumes"),
    ("images.json", "/images/json?all=1&digests=1"),
    ("plugins.json", "/plugins"),
];

/// What is asked of each container: file, end of the target, only while it runs.
const OF_CONTAINER: [(&str, &str, bool); 5] = [
    ("inspect.json", "json", false),
    ("top.json", "top", true),
    ("changes.json", "changes", false),
    ("stats.json", "stats?stream=false&one-shot=true", true),
    ("log", "logs?stdout=1&stderr=1&timestamps=1&tail=", false),
];

/// Where the state of containers lies, with one `*` a level that stands for any name.
const STATES: [&str; 16] = [
    "run/containerd/io.containerd.runtime.v2.task/*/*/config.json",
    "run/containerd/io.containerd.runtime.v2.task/*/*/init.pid",
    "run/containerd/io.containerd.runtime.v2.task/*/*/options.json",
    "run/containerd/io.containerd.runtime.v2.task/*/*/log.json",
    "run/containerd/runc/*/*/state.json",
    "run/docker/runtime-runc/*/*/state.json",
    "run/runc/*/state.json",
    "run/crun/*/status",
    "run/containers/storage/overlay-containers/*/userdata/config.json",
    "run/containers/storage/overlay-containers/*/userdata/pidfile",
    "run/containers/storage/overlay-containers/*/userdata/conmon.pid",
    "var/lib/containers/storage/overlay-containers/*/userdata/config.json",
    "var/lib/containers/storage/overlay-containers/*/userdata/state.json",
    "var/lib/containers/storage/overlay-containers/containers.json",
    "var/lib/docker/containers/*/config.v2.json",
    "var/lib/docker/containers/*/hostconfig.json",
];

/// Takes the containers of the running system.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(crate) fn containers(out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    containers_at(Path::new("/"), out, clock)
}

/// Takes the containers of the system below `root`.
pub(crate) fn containers_at(root: &Path, out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    let mut about = serde_json::Map::new();
    about.insert("observed".to_owned(), clock.now().rfc3339().into());
    let mut table = LiveTable::new("V5/containers", FORMAT, about);
    for engine in engines(root) {
        let Some(holders) = engine.may_be_asked(root, out) else { continue };
        let mut asking = Asking { engine, silent: 0, until: clock.now().wall_ns / 1_000_000_000 };
        asking.all(&mut table, clock, holders, out)?;
    }
    cri::runtimes(root, &mut table, clock, out)?;
    states(root, &mut table, clock, out)?;
    table.end(out)
}

/// An engine with a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engine {
    /// `docker`, `podman`, `podman-1000` of a user's own.
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
}

/// The engines whose sockets are there.
pub(crate) fn engines(root: &Path) -> Vec<Engine> {
    let mut found = Vec::new();
    let mut add = |name: String, socket: PathBuf| {
        if fs::metadata(&socket).is_ok_and(|facts| facts.file_type().is_socket()) {
            found.push(Engine { name, socket });
        }
    };
    add("docker".to_owned(), root.join("run/docker.sock"));
    add("podman".to_owned(), root.join("run/podman/podman.sock"));
    for user in matches(root, "run/user/*") {
        let uid = user.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if uid.bytes().all(|byte| byte.is_ascii_digit()) {
            add(format!("docker-{uid}"), user.join("docker.sock"));
            add(format!("podman-{uid}"), user.join("podman/podman.sock"));
        }
    }
    found
}

impl Engine {
    /// Who listens, unless asking would start a daemon that runs containers.
    fn may_be_asked(&self, root: &Path, out: &mut TarPacker<'_>) -> Option<Vec<String>> {
        let holders = holders_of_socket(root, &self.socket);
        let sleeps = !holders.is_empty() && holders.iter().all(|name| name == "systemd");
        if sleeps && self.name.starts_with("docker") {
            let what = "not asked: only systemd holds this socket, so asking would start the daemon and its containers";
            out.note(&self.socket, what);
            return None;
        }
        if sleeps {
            out.note(&self.socket, "asking made systemd start the Podman service, which ends by itself");
        }
        Some(holders)
    }
}

struct Asking {
    engine: Engine,
    silent: u32,
    /// Now, in seconds since 1970.
    until: i64,
}

impl Asking {
    fn all(
        &mut self,
        table: &mut LiveTable,
        clock: &dyn Clock,
        holders: Vec<String>,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        for (file, target) in OF_ENGINE {
            self.keep(file, target, out)?;
        }
        // What happened lately; without an end the daemon would go on telling.
        let events = format!("/events?since=0&until={}", self.until);
        self.keep("events.jsonl", &events, out)?;
        let with_sizes = self.keep("containers.json", "/containers/json?all=1&size=1", out)?;
        let listed = match with_sizes {
            Some(listed) => Some(listed),
            None => self.keep("containers-without-sizes.json", "/containers/json?all=1", out)?,
        };
        let Some(listed) = listed else { return Ok(()) };
        let Ok(Value::Array(containers)) = serde_json::from_slice::<Value>(&listed) else {
            out.note(&self.engine.socket, "the list of containers is no JSON list");
            return Ok(());
        };
        if containers.len() > MOST_CONTAINERS {
            let what =
                format!("{} containers, of which {MOST_CONTAINERS} were asked about", containers.len());
            out.note(&self.engine.socket, &what);
        }
        for container in containers.iter().take(MOST_CONTAINERS) {
            let text = |key: &str| container.get(key).and_then(Value::as_str);
            let Some(id) = text("Id").filter(|id| is_plain(id)) else {
                out.note(&self.engine.socket, "a container whose id is no name was not asked about");
                continue;
            };
            let runs = text("State").is_none_or(|state| matches!(state, "running" | "paused" | "restarting"));
            let mut inspected = None;
            for (file, end, only_running) in OF_CONTAINER {
                if only_running && !runs {
                    continue;
                }
                let lines = if file == "log" { LOG_LINES.to_string() } else { String::new() };
                let target = format!("/containers/{id}/{end}{lines}");
                let body = self.keep(&format!("containers/{id}/{file}"), &target, out)?;
                if file == "inspect.json" {
                    inspected = body.and_then(|body| serde_json::from_slice::<Value>(&body).ok());
                }
            }
            let mut row = self.row(id, container, inspected.as_ref());
            row.put("observed", clock.now().rfc3339());
            if !holders.is_empty() {
                row.text("socket_held_by", holders.join(", ").as_bytes());
            }
            table.row(out, row.into_map())?;
        }
        Ok(())
    }

    fn row(&self, id: &str, container: &Value, inspected: Option<&Value>) -> Row {
        let mut row = Row::default();
        row.text("engine", self.engine.name.as_bytes());
        row.text("socket", self.engine.socket.as_os_str().as_bytes());
        row.text("id", id.as_bytes());
        for (key, from) in
            [("image", "Image"), ("image_id", "ImageID"), ("command", "Command"), ("state", "State")]
        {
            row.some_text(key, container.get(from).and_then(Value::as_str).map(str::as_bytes));
        }
        let names: Vec<&str> = container
            .get("Names")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        row.text("name", names.join(",").trim_start_matches('/').as_bytes());
        let inside = |path: &str| inspected?.pointer(path);
        row.number("pid", inside("/State/Pid").and_then(Value::as_u64).filter(|&pid| pid != 0));
        for (key, path) in [
            ("created", "/Created"),
            ("started", "/State/StartedAt"),
            ("finished", "/State/FinishedAt"),
            ("upper_folder", "/GraphDriver/Data/UpperDir"),
        ] {
            row.some_text(key, inside(path).and_then(Value::as_str).map(str::as_bytes));
        }
        row.flag("privileged", inside("/HostConfig/Privileged").and_then(Value::as_bool) == Some(true));
        row
    }

    /// Asks, and keeps the answer as it came; gives it if it says "well done" and is whole.
    fn keep(&mut self, file: &str, target: &str, out: &mut TarPacker<'_>) -> Result<Option<Vec<u8>>> {
        if self.silent >= MOST_SILENT {
            return Ok(None);
        }
        let place = format!("V5/{}/{file}", self.engine.name);
        let (socket, asked) = (self.engine.socket.clone(), target.to_owned());
        // Each on a thread of its own: connecting has no time-out.
        let answer = Patience::of(LIMIT).wait(move || get(&socket, &asked, ANSWER));
        match answer {
            Ok(Answer { status, body, cut }) => {
                if let Some(why) = &cut {
                    out.note(Path::new(&place), &format!("the answer is not whole: {why}"));
                }
                if !body.is_empty() {
                    out.made(&place, &body)?;
                }
                if status != 200 {
                    out.note(Path::new(&place), &format!("{target} was answered with status {status}"));
                }
                Ok((status == 200 && cut.is_none()).then_some(body))
            }
            Err(error) => {
                out.note(Path::new(&place), &format!("{target} was not answered: {error}"));
                if error.kind() == io::ErrorKind::PermissionDenied
                    || error.kind() == io::ErrorKind::ConnectionRefused
                {
                    self.silent = MOST_SILENT;
                }
                self.silent += 1;
                Ok(None)
            }
        }
    }
}

/// Whether a name from outside may stand in a target and in a path.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) && !name.starts_with('.')
}

/// The files that a pattern names, `*` standing for any one name.
pub(crate) fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    const MOST: usize = 20_000;
    let mut places = vec![root.to_owned()];
    for part in pattern.split('/') {
        places = match part {
            "*" => {
                let below =
                    places.iter().flat_map(fs::read_dir).flat_map(|entries| entries.take(MOST).flatten());
                below.map(|entry| entry.path()).take(MOST).collect()
            }
            part => places.into_iter().map(|place| place.join(part)).collect(),
        };
    }
    places.retain(|place| place.symlink_metadata().is_ok());
    places.sort();
    places
}

/// What runtimes keep on disk of each container.
fn states(root: &Path, table: &mut LiveTable, clock: &dyn Clock, out: &mut TarPacker<'_>) -> Result<()> {
    let mut patience = Patience::of(LIMIT);
    for pattern in STATES {
        let top = root.to_owned();
        let paths = patience.wait(move || Ok(matches(&top, pattern))).unwrap_or_default();
        for path in paths {
            let to_read = path.clone();
            let read = patience.wait(move || {
                let facts = fs::symlink_metadata(&to_read)?;
                if !facts.is_file() || facts.len() > STATE {
                    return Err(io::Error::other(format!("a file of {} bytes, or none", facts.len())));
                }
                fs::read(&to_read)
            });
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(error) => {
                    out.note(&path, &format!("not taken: {error}"));
                    continue;
                }
            };
            let below = path.strip_prefix(root).unwrap_or(&path);
            let Some(name) = below.to_str() else {
                out.note(&path, "not taken: its name is not UTF-8");
                continue;
            };
            out.made(&format!("V5/state/{name}"), &bytes)?;
            if let Some(mut row) = state_row(below, &bytes) {
                row.put("observed", clock.now().rfc3339());
                row.text("path", path.as_os_str().as_bytes());
                table.row(out, row.into_map())?;
            }
        }
    }
    Ok(())
}

/// The row of a container that a runtime's state tells of.
fn state_row(path: &Path, bytes: &[u8]) -> Option<Row> {
    let file = path.file_name()?.to_str()?;
    let folder = path.parent()?;
    let folder = if folder.ends_with("userdata") { folder.parent()? } else { folder };
    let id = folder.file_name()?;
    let text = path.to_str()?;
    let state: Option<Value> = serde_json::from_slice(bytes).ok();
    let inside = |path: &str| state.as_ref()?.pointer(path);
    let mut row = Row::default();
    row.text("id", id.as_bytes());
    let engine = match (file, text) {
        ("init.pid", _) => "containerd",
        ("state.json", text) if text.contains("runc") => "runc",
        ("status", _) => "crun",
        ("pidfile", _) => "podman or cri-o",
        ("config.v2.json", _) => "docker",
        _ => return None,
    };
    row.put("engine", engine);
    row.put("view", "state on disk");
    let pid = match file {
        "init.pid" | "pidfile" => std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()),
        "state.json" => inside("/init_process_pid").and_then(Value::as_u64),
        "status" => inside("/pid").and_then(Value::as_u64),
        _ => inside("/State/Pid").and_then(Value::as_u64),
    };
    row.number("pid", pid.filter(|&pid| pid != 0));
    for (key, pointers) in [
        ("created", ["/created", "/Created"]),
        ("started", ["/start", "/State/StartedAt"]),
        ("name", ["/name", "/Name"]),
        ("image", ["/image", "/Config/Image"]),
        ("bundle", ["/bundle", "/config/rootfs"]),
    ] {
        let found = pointers.iter().find_map(|pointer| inside(pointer).and_then(Value::as_str));
        row.some_text(key, found.map(str::as_bytes));
    }
    Some(row)
}

#[cfg(test)]
mod tests;
