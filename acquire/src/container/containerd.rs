//! What containerd says of a container, asked over gRPC: its record, its task, its snapshot's mounts, and by the interface
//! that kubelets use its status with the place of its log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::find::{View, Wanted, is_socket};
use crate::triage::bounded_reads::Patience;
use crate::triage::containers::is_plain;
use crate::triage::cri::SOCKETS;
use crate::triage::grpc::call;
use crate::triage::protobuf::{bytes, messages, number, text_field};
use crate::triage::unix_http::AnswerLimits;

const ANSWER: AnswerLimits = AnswerLimits { time: Duration::from_secs(10), body: 64 << 20 };
const LIMIT: Duration = Duration::from_secs(12);
/// Namespaces that are looked into.
const MOST: usize = 200;

/// The containers that fit.
pub(super) fn views(
    root: &Path,
    wanted: &Wanted,
    more: &[PathBuf],
    notes: &mut Vec<(PathBuf, String)>,
) -> Vec<View> {
    let known = SOCKETS.iter().filter(|(name, _)| name.starts_with("containerd"));
    let known = known.map(|(_, socket)| root.join(socket)).filter(|socket| is_socket(socket));
    let mut sockets: Vec<PathBuf> = more.iter().filter(|socket| is_socket(socket)).cloned().collect();
    let given = sockets.len();
    sockets.extend(known);
    let mut found = Vec::new();
    for (at, socket) in sockets.into_iter().enumerate() {
        let service = Service { socket };
        match service.namespaces() {
            Ok(names) => {
                for name in
                    names.iter().filter(|name| wanted.namespace.is_empty() || **name == wanted.namespace)
                {
                    service.in_namespace(name, wanted, &mut found, notes);
                }
            }
            // A socket that was given may be that of Docker.
            Err(_) if at < given => {}
            Err(error) => notes.push((service.socket, format!("did not list its namespaces: {error}"))),
        }
    }
    found
}

struct Service {
    socket: PathBuf,
}

impl Service {
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

    fn namespaces(&self) -> std::io::Result<Vec<String>> {
        let listed = self.ask("/containerd.services.namespaces.v1.Namespaces/List", None, Vec::new())?;
        let names = messages(&listed, 1).filter_map(|namespace| text(namespace, 1));
        Ok(names.filter(|name| is_plain(name)).take(MOST).collect())
    }

    fn in_namespace(
        &self,
        name: &str,
        wanted: &Wanted,
        found: &mut Vec<View>,
        notes: &mut Vec<(PathBuf, String)>,
    ) {
        let method = "/containerd.services.containers.v1.Containers/List";
        let listed = match self.ask(method, Some(name), Vec::new()) {
            Ok(listed) => listed,
            Err(error) => {
                notes.push((self.socket.clone(), format!("did not list the containers of {name}: {error}")));
                return;
            }
        };
        for container in messages(&listed, 1) {
            let Some(id) = text(container, 1).filter(|id| is_plain(id)) else { continue };
            if wanted.fits(name, &id, &label(container, "io.kubernetes.container.name")) == 0
                && wanted.fits(name, &id, &label(container, "nerdctl/name")) == 0
            {
                continue;
            }
            found.push(self.view(name, id, container, notes));
        }
    }

    fn view(
        &self,
        namespace: &str,
        id: String,
        container: &[u8],
        notes: &mut Vec<(PathBuf, String)>,
    ) -> View {
        let place = |file: &str| format!("containerd/{namespace}/{id}/{file}");
        let mut view = View {
            runtime: "containerd".to_owned(),
            namespace: namespace.to_owned(),
            id: id.clone(),
            image: text(container, 3).unwrap_or_default(),
            state: "no task".to_owned(),
            ..View::default()
        };
        let pod = ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"]
            .map(|key| label(container, key));
        let name = label(container, "nerdctl/name");
        view.name = if pod.iter().all(String::is_empty) { name } else { pod.join("/") };
        view.documents.push((place("container.pb"), container.to_vec()));
        // An Any: its value is the OCI runtime specification, as JSON.
        if let Some(spec) =
            bytes(container, 5).and_then(|any| bytes(any, 2)).filter(|spec| spec.starts_with(b"{"))
        {
            view.documents.push((place("config.json"), spec.to_vec()));
        }
        match self.ask("/containerd.services.tasks.v1.Tasks/List", Some(namespace), Vec::new()) {
            Ok(tasks) => {
                // A task without an id of its own is named by its container.
                let is_its = |task: &&[u8]| {
                    text(task, 2).as_deref() == Some(&id) || text(task, 1).as_deref() == Some(&id)
                };
                if let Some(task) = messages(&tasks, 1).find(is_its) {
                    view.documents.push((place("task.pb"), task.to_vec()));
                    self.task(task, &mut view);
                }
            }
            Err(error) => notes.push((self.socket.clone(), format!("did not list its tasks: {error}"))),
        }
        self.snapshot(namespace, container, &mut view);
        if namespace == "k8s.io" {
            self.status(&id, &mut view, notes);
        }
        view
    }

    fn task(&self, task: &[u8], view: &mut View) {
        view.state = match number(task, 4) {
            Some(1) => "created",
            Some(2) => "running",
            Some(3) => "stopped",
            Some(4) => "paused",
            Some(5) => "pausing",
            _ => "unknown",
        }
        .to_owned();
        let pid = number(task, 3).and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 1);
        view.pid = pid.filter(|_| view.state != "stopped");
        for stream in [6, 7] {
            let Some(place) = text(task, stream) else { continue };
            let path = PathBuf::from(place.strip_prefix("file://").unwrap_or(&place));
            // Mostly a pipe to the shim, which is none of the files that are taken.
            if path.is_absolute() && !view.logs.contains(&path) {
                view.logs.push(path);
            }
        }
    }

    /// Where the snapshot of the container lies, which also one without a process has.
    fn snapshot(&self, namespace: &str, container: &[u8], view: &mut View) {
        let (Some(snapshotter), Some(key)) = (text(container, 6), text(container, 7)) else { return };
        if !is_plain(&snapshotter) || key.is_empty() || key.len() > 127 {
            return;
        }
        let message = [text_field(1, &snapshotter), text_field(2, &key)].concat();
        let method = "/containerd.services.snapshots.v1.Snapshots/Mounts";
        let Ok(mounts) = self.ask(method, Some(namespace), message) else { return };
        for mount in messages(&mounts, 1) {
            let absolute = |text: &str| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
            match text(mount, 1).as_deref() {
                Some("overlay") => {
                    let options = messages(mount, 4).filter_map(|option| std::str::from_utf8(option).ok());
                    view.upper =
                        options.filter_map(|option| option.strip_prefix("upperdir=")).find_map(absolute);
                }
                Some("bind") => view.root = text(mount, 2).as_deref().and_then(absolute),
                _ => {}
            }
        }
    }

    /// The status that kubelets see; it names the log.
    fn status(&self, id: &str, view: &mut View, notes: &mut Vec<(PathBuf, String)>) {
        // The container's id, and `verbose`.
        let message = [text_field(1, id), vec![0x10, 1]].concat();
        match self.ask("/runtime.v1.RuntimeService/ContainerStatus", None, message) {
            Ok(status) => {
                let log = bytes(&status, 1).and_then(|status| text(status, 15)).map(PathBuf::from);
                view.logs.extend(log.filter(|path| path.is_absolute()));
                view.documents.push((format!("containerd/k8s.io/{id}/status.pb"), status));
            }
            Err(error) => notes.push((self.socket.clone(), format!("no status by the CRI: {error}"))),
        }
    }
}

fn text(message: &[u8], field: u64) -> Option<String> {
    let text = std::str::from_utf8(bytes(message, field)?).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The value of a label, or nothing.
fn label(container: &[u8], key: &str) -> String {
    let found = messages(container, 2).find(|pair| text(pair, 1).as_deref() == Some(key));
    found.and_then(|pair| text(pair, 2)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_its_process_and_where_its_output_goes() {
        let service = Service { socket: PathBuf::new() };
        let mut task = [text_field(1, "box"), vec![0x18, 0xac, 0x02, 0x20, 2]].concat();
        task.extend(text_field(6, "file:///var/log/box.log"));
        task.extend(text_field(7, "file:///var/log/box.log"));
        let mut view = View::default();
        service.task(&task, &mut view);
        assert_eq!((view.pid, view.state.as_str()), (Some(300), "running"));
        assert_eq!(view.logs, [PathBuf::from("/var/log/box.log")]);
        for end in 0..task.len() {
            service.task(&task[..end], &mut View::default());
        }
    }

    #[test]
    fn labels_are_read_by_their_key() {
        let pair = [text_field(1, "nerdctl/name"), text_field(2, "web")].concat();
        let mut container = vec![0x12, u8::try_from(pair.len()).unwrap()];
        container.extend(pair);
        assert_eq!(label(&container, "nerdctl/name"), "web");
        assert_eq!(label(&container, "other"), "");
    }
}
