//! A Kubernetes pod as evidence: what the API server tells of it, and its containers through their node.
//!
//! - Asked with GET alone: the pod, its logs (those of the container before too), its events, its node, what owns it, its
//!   service account, and the network policies of its namespace.
//! - Memory, processes and files are taken on the node, where the settings of the cluster say how that is reached
//!   (`nodes`). Else only what the API tells is taken, and that is said.
//! - Left out: an ephemeral container, which changes the pod and runs a foreign image beside what is examined; the kubelet's
//!   checkpoint, which writes all memory to the node's disk and needs CRIU there; `exec`, which runs programs of whoever has
//!   the container.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::kubernetes::{Cluster, Refusal, encoded, is_name};
use crate::steps::Failed;

/// Bytes of one log.
const MOST_LOG: u64 = 64 << 20;
/// Containers of one pod.
const MOST_CONTAINERS: usize = 100;

/// Why what one might expect is not done; told with every capture.
pub(crate) const LEFT_OUT: [&str; 3] = [
    "no ephemeral container: it would change the pod, and run a foreign image beside what is examined",
    "no checkpoint by the kubelet: it would write the memory to the node's disk, and needs CRIU there",
    "no exec: it would run programs of whoever has the container",
];

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    /// May be empty.
    pub(crate) cluster: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl PodName {
    /// Reads `CLUSTER/NAMESPACE/NAME`; `None` if a part is no name.
    pub(crate) fn read(id: &str) -> Option<Self> {
        let mut parts = id.splitn(3, '/');
        let (cluster, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = is_name(namespace) && !namespace.contains('.') && is_name(name);
        plain.then(|| Self {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

/// One container of a pod, as its status tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodContainer {
    pub(crate) name: String,
    /// Without the `containerd://` before it; `None` where none was ever started.
    pub(crate) id: Option<String>,
    pub(crate) is_running: bool,
    /// Whether one ran before it.
    pub(crate) has_previous: bool,
}

/// The pod as the API server has it.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: PodName,
    pub(crate) object: Value,
}

impl Pod {
    /// Asks for it.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(crate) fn get(cluster: &Cluster, name: &PodName) -> Result<Self, Refusal> {
        Ok(Self { name: name.clone(), object: cluster.get(&name.path())? })
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer).and_then(Value::as_str)
    }

    /// The node it runs on.
    pub(crate) fn node(&self) -> Option<&str> {
        self.text("/spec/nodeName").filter(|node| is_name(node))
    }

    pub(crate) fn uid(&self) -> Option<&str> {
        self.text("/metadata/uid")
    }

    /// Its containers: those that run first.
    pub(crate) fn containers(&self) -> Vec<PodContainer> {
        let of = |key: &str| self.object.pointer(&format!("/status/{key}")).and_then(Value::as_array);
        let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        let mut found: Vec<PodContainer> = statuses
            .iter()
            .flat_map(|key| of(key).into_iter().flatten())
            .filter_map(|status| {
                let name = status.get("name")?.as_str().filter(|name| is_name(name))?.to_owned();
                let id = status.get("containerID").and_then(Value::as_str);
                let id = id.and_then(|id| id.split_once("://")).map(|(_, id)| id.to_owned());
                let id = id.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
                Some(PodContainer {
                    name,
                    id,
                    is_running: status.pointer("/state/running").is_some(),
                    has_previous: status.pointer("/lastState/terminated").is_some()
                        || status.get("restartCount").and_then(Value::as_u64).is_some_and(|count| count > 0),
                })
            })
            .take(MOST_CONTAINERS)
            .collect();
        found.sort_by_key(|container| !container.is_running);
        found
    }
}

/// What was asked of the API server, and what it did not give.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) taken: Vec<String>,
    pub(crate) refused: Vec<String>,
}

/// Writes what the API server tells of a pod into a new folder.
///
/// # Errors
///
/// [`Failed`] when the folder cannot be written. What is refused is listed, also in `not-taken.json` there.
pub(crate) fn write_evidence(cluster: &Cluster, pod: &Pod, folder: &Path) -> Result<Asked, Failed> {
    let mut writing = Writing { folder, asked: Asked::default() };
    writing.folder()?;
    writing.json("pod.json", &pod.object)?;
    let PodName { namespace, name, .. } = &pod.name;
    for container in pod.containers() {
        for (file, query, wanted) in [
            ("previous.log", "previous=true&", container.has_previous),
            ("current.log", "", container.id.is_some()),
        ] {
            if !wanted {
                continue;
            }
            let path = format!(
                "{}/log?{query}container={}&timestamps=true&limitBytes={MOST_LOG}",
                pod.name.path(),
                container.name
            );
            let file = format!("{}.{file}", container.name);
            match cluster.text(&path, MOST_LOG) {
                Ok((text, cut)) => {
                    writing.bytes(&file, &text)?;
                    if cut || text.len() as u64 >= MOST_LOG {
                        writing.asked.refused.push(format!("{file}: only its first {} bytes", text.len()));
                    }
                }
                Err(refusal) => writing.asked.refused.push(format!("{file}: {refusal}")),
            }
        }
    }
    let uid = pod.uid().unwrap_or_default();
    let selector = encoded(&format!("involvedObject.name={name},involvedObject.uid={uid}"));
    let events = format!("/api/v1/namespaces/{namespace}/events?fieldSelector={selector}");
    writing.list("events.json", cluster, &events)?;
    writing.list(
        "network-policies.json",
        cluster,
        &format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"),
    )?;
    if let Some(node) = pod.node() {
        writing.get("node.json", cluster, &format!("/api/v1/nodes/{node}"))?;
    }
    if let Some(account) = pod.text("/spec/serviceAccountName").filter(|account| is_name(account)) {
        writing.get(
            "service-account.json",
            cluster,
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}"),
        )?;
    }
    if let Some((path, file)) = owner(&pod.object, namespace) {
        writing.get(&file, cluster, &path)?;
    }
    let told = json!({ "left_out": LEFT_OUT, "not_taken": writing.asked.refused });
    writing.json("not-taken.json", &told)?;
    Ok(writing.asked)
}

/// Where what owns the pod stands, and the file it goes to.
fn owner(pod: &Value, namespace: &str) -> Option<(String, String)> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner =
        owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true))).or(owners.first())?;
    let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, plural) = match text("kind") {
        "ReplicaSet" => ("apis/apps/v1", "replicasets"),
        "StatefulSet" => ("apis/apps/v1", "statefulsets"),
        "DaemonSet" => ("apis/apps/v1", "daemonsets"),
        "Job" => ("apis/batch/v1", "jobs"),
        _ => return None,
    };
    let name = text("name");
    is_name(name)
        .then(|| (format!("/{group}/namespaces/{namespace}/{plural}/{name}"), "owner.json".to_owned()))
}

struct Writing<'a> {
    folder: &'a Path,
    asked: Asked,
}

impl Writing<'_> {
    fn folder(&self) -> Result<(), Failed> {
        // What an earlier run has left is of an earlier moment.
        let _ = fs::remove_dir_all(self.folder);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.folder)
            .map_err(|error| Failed::for_now(format!("{:?} cannot be made: {error}", self.folder)))
    }

    fn bytes(&mut self, file: &str, bytes: &[u8]) -> Result<(), Failed> {
        let path = self.folder.join(file);
        fs::write(&path, bytes)
            .map_err(|error| Failed::for_now(format!("{path:?} cannot be written: {error}")))?;
        self.asked.taken.push(file.to_owned());
        Ok(())
    }

    fn json(&mut self, file: &str, value: &Value) -> Result<(), Failed> {
        let text = serde_json::to_vec_pretty(value).unwrap_or_default();
        self.bytes(file, &text)
    }

    fn get(&mut self, file: &str, cluster: &Cluster, path: &str) -> Result<(), Failed> {
        match cluster.get(path) {
            Ok(value) => self.json(file, &value),
            Err(refusal) => {
                self.asked.refused.push(format!("{file}: {refusal}"));
                Ok(())
            }
        }
    }

    fn list(&mut self, file: &str, cluster: &Cluster, path: &str) -> Result<(), Failed> {
        match cluster.list(path) {
            Ok(listed) => {
                if let Some(why) = &listed.cut {
                    self.asked.refused.push(format!("{file}: {why}"));
                }
                let object = Map::from_iter([("items".to_owned(), Value::Array(listed.items))]);
                self.json(file, &Value::Object(object))
            }
            Err(refusal) => {
                self.asked.refused.push(format!("{file}: {refusal}"));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_three_parts_and_nothing_that_leads_elsewhere() {
        let found = PodName::read("prod/web/shop-7d9").unwrap();
        assert_eq!(found.path(), "/api/v1/namespaces/web/pods/shop-7d9");
        assert_eq!(PodName::read("/web/shop").unwrap().cluster, "");
        for id in ["web/shop", "a/b/c/d", "a/../c", "a/B/c", "a/b.c/d", "a//c", "a/b/", "a/b/c?x"] {
            assert_eq!(PodName::read(id), None, "{id}");
        }
    }

    #[test]
    fn containers_are_read_from_the_status_and_what_runs_comes_first() {
        let id = "0".repeat(64);
        let object = json!({"status": {
            "initContainerStatuses": [{"name": "init", "containerID": format!("containerd://{id}"), "state": {"terminated": {}}}],
            "containerStatuses": [
                {"name": "waits", "state": {"waiting": {}}},
                {"name": "shop", "containerID": format!("docker://{id}"), "state": {"running": {}}, "restartCount": 2},
                {"name": "../x", "containerID": "docker://x"},
                {"name": "odd", "containerID": "containerd://--help", "state": {"running": {}}},
            ],
        }});
        let pod = Pod { name: PodName::read("/web/shop").unwrap(), object };
        let found = pod.containers();
        let told: Vec<_> =
            found.iter().map(|c| (c.name.as_str(), c.id.is_some(), c.is_running, c.has_previous)).collect();
        assert_eq!(
            told,
            [
                ("shop", true, true, true),
                ("odd", false, true, false),
                ("waits", false, false, false),
                ("init", true, false, false)
            ]
        );
    }
}
