//! Pods and nodes of a cluster, as its API server lists them.

use serde_json::Value;

use super::discover::{Discover, of_tags};
use super::Asset;
use crate::alert::AssetKind;
use crate::error::{Error, Result};
use crate::targets::kubernetes::{Cluster, ClusterSettings, Refusal};

/// The label of nodes that rule the cluster; an empty value is usual, so it is the name that says it.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// Pods and nodes of one cluster.
pub struct KubernetesAssets<'a> {
    /// Its name in the settings.
    pub name: &'a str,
    /// How it is reached.
    pub settings: &'a ClusterSettings,
}

impl Discover for KubernetesAssets<'_> {
    fn assets(&self) -> Result<Vec<Asset>> {
        let fault = |refusal: Refusal| Error::Refused { what: format!("cluster {}: {refusal}", self.name) };
        let cluster = Cluster::open(self.name, self.settings).map_err(fault)?;
        let mut assets = Vec::new();
        for (path, of) in [("/api/v1/nodes", of_node as fn(&Self, &Value) -> Asset), ("/api/v1/pods", of_pod)] {
            let listed = cluster.list(path).map_err(fault)?;
            if let Some(cut) = listed.cut {
                return Err(Error::Refused { what: format!("cluster {}, {path}: {cut}", self.name) });
            }
            let is_over = |item: &&Value| item.pointer("/status/phase").is_some_and(|phase| phase == "Succeeded");
            assets.extend(listed.items.iter().filter(|item| !is_over(item)).map(|item| of(self, item)));
        }
        assets.retain(|asset| asset.kind.allows(&asset.id));
        assets.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        assets.dedup_by(|a, b| (a.kind, &a.id) == (b.kind, &b.id));
        Ok(assets)
    }
}

fn of_node(cluster: &KubernetesAssets<'_>, node: &Value) -> Asset {
    let name = text(node, "/metadata/name");
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let aliases = addresses.into_iter().flatten().map(|address| text(address, "/address"));
    let aliases = aliases.filter(|alias| *alias != name).map(str::to_owned).collect();
    let mut asset = of_tags(AssetKind::Host, name, &labels(node), aliases);
    if CONTROL_PLANE.iter().any(|label| asset.tags.contains_key(*label)) {
        asset.tags.insert("kind".to_owned(), "k8s_control_plane".to_owned());
    }
    cluster.name.clone_into(&mut asset.account);
    if asset.group.is_empty() {
        asset.group = format!("{} nodes", cluster.name);
    }
    asset.target = cluster.settings.nodes.get(name).cloned().unwrap_or_default();
    asset
}

fn of_pod(cluster: &KubernetesAssets<'_>, pod: &Value) -> Asset {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let id = format!("{}/{namespace}/{name}", cluster.name);
    // On the network of its node, a pod has the node's address.
    let is_on_host = pod.pointer("/spec/hostNetwork").is_some_and(|on| on == true);
    let address = Some(text(pod, "/status/podIP")).filter(|_| !is_on_host);
    let mut asset = of_tags(AssetKind::K8sPod, &id, &labels(pod), address.map(str::to_owned).into_iter().collect());
    cluster.name.clone_into(&mut asset.account);
    cluster.name.clone_into(&mut asset.target);
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owner = owners.into_iter().flatten().find(|owner| owner.get("controller").is_some_and(|is| is == true));
    if let (Some(owner), true) = (owner, asset.group.is_empty()) {
        // Copies of one thing: not too many are cut off at once.
        asset.group = format!("{}/{namespace}/{}/{}", cluster.name, text(owner, "/kind"), text(owner, "/name"));
    }
    asset
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn labels(item: &Value) -> Vec<(String, String)> {
    let labels = item.pointer("/metadata/labels").and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    /// Answers these paths, once each, and anything else with 404; gives its address.
    fn server(answers: Vec<(&'static str, Value)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let answer = answers.iter().find(|(wanted, _)| *wanted == path);
                let (status, body) = answer.map_or(("404 Not Found", json!({})), |(_, body)| ("200 OK", body.clone()));
                let body = body.to_string();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        address
    }

    fn pod(name: &str, more: Value) -> Value {
        let mut pod = json!({
            "metadata": {
                "name": name, "namespace": "shop", "labels": {"team": "a", "app": "web"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d4b", "controller": true}],
            },
            "spec": {}, "status": {"phase": "Running", "podIP": "10.1.0.7"},
        });
        for (key, value) in more.as_object().unwrap() {
            pod[key] = value.clone();
        }
        pod
    }

    fn settings(server: String) -> ClusterSettings {
        serde_json::from_value(json!({"server": server, "nodes": {"node-1": "node-1-ssh"}})).unwrap()
    }

    #[test]
    fn nodes_and_pods_are_listed_page_by_page() {
        let nodes = json!({"items": [
            {"metadata": {"name": "node-1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
             "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "node-1"}]}},
            {"metadata": {"name": "bad name; reboot"}},
        ]});
        let first = json!({"metadata": {"continue": "more"}, "items": [pod("web-1", json!({}))]});
        let second = json!({"items": [
            pod("agent-1", json!({"spec": {"hostNetwork": true}})), pod("done-1", json!({"status": {"phase": "Succeeded"}})),
        ]});
        let settings = settings(server(vec![
            ("/api/v1/nodes?limit=250", nodes),
            ("/api/v1/pods?limit=250", first),
            ("/api/v1/pods?limit=250&continue=more", second),
        ]));
        let assets = KubernetesAssets { name: "prod", settings: &settings }.assets().unwrap();
        let ids: Vec<&str> = assets.iter().map(|asset| asset.id.as_str()).collect();
        assert_eq!(ids, ["prod/shop/agent-1", "prod/shop/web-1", "node-1"]);
        let [agent, web, node] = assets.as_slice() else { panic!("three") };
        assert_eq!((agent.aliases.len(), web.aliases.as_slice()), (0, ["10.1.0.7".to_owned()].as_slice()));
        assert_eq!((web.owner.as_str(), web.target.as_str()), ("a", "prod"));
        assert_eq!(web.group, "prod/shop/ReplicaSet/web-7d4b");
        assert_eq!((node.tags["kind"].as_str(), node.target.as_str()), ("k8s_control_plane", "node-1-ssh"));
        assert_eq!((node.aliases.as_slice(), node.group.as_str()), (["10.0.0.1".to_owned()].as_slice(), "prod nodes"));
    }

    #[test]
    fn a_part_of_a_cluster_is_not_given_as_the_whole() {
        let nodes = json!({"items": []});
        let first = json!({"metadata": {"continue": "more"}, "items": [pod("web-1", json!({}))]});
        let settings = settings(server(vec![
            ("/api/v1/nodes?limit=250", nodes),
            ("/api/v1/pods?limit=250", first),
        ]));
        let fault = KubernetesAssets { name: "prod", settings: &settings }.assets().unwrap_err().to_string();
        assert!(fault.contains("cluster prod, /api/v1/pods: the list ends after 1 items"), "{fault}");
    }
}
