//! Pods and containers of containerd, CRI-O and cri-dockerd, asked over gRPC at their sockets.
//!
//! - The CRI (`runtime.v1`, else `v1alpha2`): version, pods, containers, images, and the verbose status of each container.
//! - containerd's own services for each of its namespaces, `moby` of Docker among them: containers and tasks.
//! - `/V5/RUNTIME/*.pb` holds the answers as they came, protobuf; `/V5/containers.jsonl` has a row for each container.
//! - Not asked: logs (files below `/var/log/pods`), exec, anything that changes something.
//! - Reference: `cri-api/pkg/apis/runtime/v1/api.proto`, containerd `api/services/{namespaces,containers,tasks}/v1`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::clock::{Clock, rfc3339};

use super::bounded_reads::Patience;
use super::containers::is_plain;
use super::grpc::call;
use super::live_table::{LiveTable, Row};
use super::protobuf::{bytes, messages, number, text_field};
use super::unix_http::AnswerLimits;
use crate::error::Result;
use crate::tar_packer::TarPacker;

const ANSWER: AnswerLimits = AnswerLimits { time: Duration::from_secs(15), body: 64 << 20 };
const LIMIT: Duration = Duration::from_secs(20);
/// Containers whose status is asked for, and namespaces that are looked into.
const MOST: usize = 2000;
/// Unanswered calls after which a runtime is given up.
const MOST_SILENT: u32 = 3;

/// Runtime, socket.
pub(crate) const SOCKETS: [(&str, &str); 5] = [
    ("containerd", "run/containerd/containerd.sock"),
    ("containerd-k3s", "run/k3s/containerd/containerd.sock"),
    ("containerd-docker", "run/docker/containerd/containerd.sock"),
    ("cri-o", "run/crio/crio.sock"),
    ("cri-dockerd", "run/cri-dockerd.sock"),
];

/// Asks every runtime whose socket is there.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What is not answered is an issue.
pub(super) fn runtimes(
    root: &Path,
    table: &mut LiveTable,
    clock: &dyn Clock,
    out: &mut TarPacker<'_>,
) -> Result<()> {
    for (name, socket) in SOCKETS {
        let socket = root.join(socket);
        if !fs::metadata(&socket).is_ok_and(|facts| facts.file_type().is_socket()) {
            continue;
        }
        let mut runtime = Runtime { name, socket, clock, silent: 0 };
        runtime.cri(table, out)?;
        if name.starts_with("containerd") {
            runtime.namespaces(table, out)?;
        }
    }
    Ok(())
}

struct Runtime<'a> {
    name: &'static str,
    socket: PathBuf,
    clock: &'a dyn Clock,
    /// Calls that were not answered in time.
    silent: u32,
}

impl Runtime<'_> {
    fn ask(&self, method: &str, namespace: Option<&str>, message: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let (socket, method) = (self.socket.clone(), method.to_owned());
        let namespace = namespace.map(str::to_owned);
        // Connecting has no time-out of its own.
        Patience::of(LIMIT).wait(move || {
            let metadata: Vec<(&str, &str)> =
                namespace.iter().map(|name| ("containerd-namespace", name.as_str())).collect();
            call(&socket, &method, &metadata, &message, ANSWER)
        })
    }

    /// Asks, and keeps what came.
    fn keep(
        &mut self,
        file: &str,
        method: &str,
        namespace: Option<&str>,
        message: Vec<u8>,
        out: &mut TarPacker<'_>,
    ) -> Result<Option<Vec<u8>>> {
        if self.silent >= MOST_SILENT {
            return Ok(None);
        }
        let place = format!("V5/{}/{file}.pb", self.name);
        match self.ask(method, namespace, message) {
            Ok(answer) => {
                if !answer.is_empty() {
                    out.made(&place, &answer)?;
                }
                Ok(Some(answer))
            }
            Err(error) => {
                self.silent += u32::from(error.kind() == std::io::ErrorKind::TimedOut);
                if self.silent == MOST_SILENT {
                    out.note(&self.socket, "given up: it does not answer in time");
                }
                out.note(Path::new(&place), &format!("{method}: {error}"));
                Ok(None)
            }
        }
    }

    /// Asks by the interface that kubelets use.
    fn cri(&mut self, table: &mut LiveTable, out: &mut TarPacker<'_>) -> Result<()> {
        let version = ["runtime.v1", "runtime.v1alpha2"].into_iter().find(|version| {
            self.ask(&format!("/{version}.RuntimeService/Version"), None, Vec::new())
                .is_ok_and(|text| !text.is_empty())
        });
        let Some(version) = version else {
            out.note(&self.socket, "no answer to the CRI: it is not offered there, or refused");
            return Ok(());
        };
        let runtime = |name: &str| format!("/{version}.RuntimeService/{name}");
        self.keep("version", &runtime("Version"), None, Vec::new(), out)?;
        let pods = self.keep("pods", &runtime("ListPodSandbox"), None, Vec::new(), out)?;
        let listed = self.keep("containers", &runtime("ListContainers"), None, Vec::new(), out)?;
        let images = format!("/{version}.ImageService/ListImages");
        self.keep("images", &images, None, Vec::new(), out)?;
        for pod in messages(pods.as_deref().unwrap_or_default(), 1) {
            let row = self.pod(pod);
            table.row(out, row.into_map())?;
        }
        for (at, container) in messages(listed.as_deref().unwrap_or_default(), 1).enumerate() {
            let row = self.container(container);
            table.row(out, row.into_map())?;
            if at >= MOST {
                if at == MOST {
                    out.note(
                        &self.socket,
                        &format!("more than {MOST} containers: the status of the others was not asked"),
                    );
                }
                continue;
            }
            let id =
                bytes(container, 1).and_then(|id| std::str::from_utf8(id).ok()).filter(|id| is_plain(id));
            let Some(id) = id else { continue };
            // The container's id, and `verbose`: the answer's `info` then holds pid, configuration and runtime spec.
            let message = [text_field(1, id), vec![0x10, 1]].concat();
            self.keep(&format!("status/{id}"), &runtime("ContainerStatus"), None, message, out)?;
        }
        Ok(())
    }

    fn row(&self, view: &'static str) -> Row {
        let mut row = Row::default();
        row.put("engine", self.name);
        row.put("view", view);
        row.text("socket", self.socket.as_os_str().as_bytes());
        row.put("observed", self.clock.now().rfc3339());
        row
    }

    fn pod(&self, pod: &[u8]) -> Row {
        let mut row = self.row("pod sandbox");
        row.some_text("id", bytes(pod, 1));
        let metadata = bytes(pod, 2).unwrap_or_default();
        row.some_text("name", bytes(metadata, 1));
        row.some_text("pod_uid", bytes(metadata, 2));
        row.some_text("namespace", bytes(metadata, 3));
        row.put("state", if number(pod, 3).unwrap_or(0) == 0 { "ready" } else { "not ready" });
        created(&mut row, number(pod, 4));
        row
    }

    fn container(&self, container: &[u8]) -> Row {
        let mut row = self.row("cri");
        row.some_text("id", bytes(container, 1));
        row.some_text("pod", bytes(container, 2));
        row.some_text("name", bytes(container, 3).and_then(|metadata| bytes(metadata, 1)));
        row.some_text("image", bytes(container, 4).and_then(|image| bytes(image, 1)));
        row.some_text("image_id", bytes(container, 5));
        row.put(
            "state",
            match number(container, 6).unwrap_or(0) {
                0 => "created",
                1 => "running",
                2 => "exited",
                _ => "unknown",
            },
        );
        created(&mut row, number(container, 7));
        row
    }

    /// Asks containerd for the containers of all its namespaces.
    fn namespaces(&mut self, table: &mut LiveTable, out: &mut TarPacker<'_>) -> Result<()> {
        let method = "/containerd.services.namespaces.v1.Namespaces/List";
        let Some(listed) = self.keep("namespaces", method, None, Vec::new(), out)? else { return Ok(()) };
        for namespace in messages(&listed, 1).take(MOST) {
            let name = bytes(namespace, 1).and_then(|name| std::str::from_utf8(name).ok());
            let Some(name) = name.filter(|name| is_plain(name)) else { continue };
            let method = "/containerd.services.containers.v1.Containers/List";
            let containers = self.keep(&format!("{name}/containers"), method, Some(name), Vec::new(), out)?;
            let method = "/containerd.services.tasks.v1.Tasks/List";
            let tasks = self.keep(&format!("{name}/tasks"), method, Some(name), Vec::new(), out)?;
            let tasks = tasks.unwrap_or_default();
            let listed = messages(containers.as_deref().unwrap_or_default(), 1);
            let tasks: Vec<&[u8]> = messages(&tasks, 1).collect();
            for container in listed {
                let mut row = self.row("containerd");
                row.put("namespace", name);
                let id = bytes(container, 1);
                row.some_text("id", id);
                row.some_text("image", bytes(container, 3));
                let seconds = bytes(container, 8)
                    .map(|time| (number(time, 1).unwrap_or(0), number(time, 2).unwrap_or(0)));
                created(&mut row, seconds.and_then(|(s, ns)| s.checked_mul(1_000_000_000)?.checked_add(ns)));
                // A task without an id of its own is named by its container.
                let is_its = |task: &&&[u8]| id.is_some() && (bytes(task, 2) == id || bytes(task, 1) == id);
                let task = tasks.iter().find(is_its).copied();
                row.number("pid", task.and_then(|task| number(task, 3)));
                row.put(
                    "state",
                    match task.and_then(|task| number(task, 4)) {
                        Some(1) => "created",
                        Some(2) => "running",
                        Some(3) => "stopped",
                        Some(4) => "paused",
                        Some(_) => "unknown",
                        None => "no task",
                    },
                );
                table.row(out, row.into_map())?;
            }
        }
        Ok(())
    }
}

fn created(row: &mut Row, nanoseconds: Option<u64>) {
    if let Some(time) = nanoseconds.and_then(|time| i64::try_from(time).ok()).filter(|&time| time > 0) {
        row.put("created", rfc3339(time));
    }
}
