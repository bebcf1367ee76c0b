//! A pod of Kubernetes, isolated by a label of its own and a network policy that selects it.
//!
//! - Made: a NetworkPolicy for both directions that selects only our label and lets out only to the allowed addresses; then, in
//!   one patch, the pod loses the labels that were recorded and gets ours. So no Service sends to it, its ReplicaSet lets it go
//!   and makes another, and no policy that selected it before still allows it anything: policies add up.
//! - Verified: the API server is asked; every other policy of the name space is held against the pod's labels.
//! - Taken back: its labels, then our policy is deleted if it is as it was made. What others changed meanwhile is told and left.
//! - Limits, which are told: no effect on a pod in its node's network, or without a network plug-in that knows policies; whether
//!   open connections end is the plug-in's affair; policies of other kinds (Cilium's, Calico's, AdminNetworkPolicy) are not
//!   read, and may allow more. Once its labels are back, a ReplicaSet may find one pod too many and end one.
//! - Reference: Kubernetes, "Network Policies".

use std::collections::BTreeMap;

use custody::clock::{Clock, SystemClock};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::allowed::{Allowed, Way, resolve};
use super::{Isolation, Probe, Restored, Verified, lease_end, read_back, texts, written};
use crate::steps::{Context, Failed, elsewhere::cluster_of};
use crate::targets::kubernetes::{Cluster, Patch, Refusal, is_name};

/// Our label.
pub const LABEL: &str = "exhibit-quarantine";

/// Network plug-ins that enforce policies, by what their DaemonSets' names hold.
const ENFORCING: &[&str] = &[
    "calico",
    "canal",
    "cilium",
    "antrea",
    "kube-router",
    "weave",
    "ovn",
    "aws-node",
    "azure-npm",
    "romana",
    "netd",
];

/// Labels that are kept, at most.
const MOST_LABELS: usize = 200;

/// What isolating a pod needs of an API server.
pub trait ApiServer {
    /// What is at a path.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    fn get(&self, path: &str) -> Result<Value, Refusal>;

    /// Everything in a list.
    ///
    /// # Errors
    ///
    /// [`Refusal`], also where the list is not whole.
    fn list(&self, path: &str) -> Result<Vec<Value>, Refusal>;

    /// Changes a part of what is at a path (`application/merge-patch+json`).
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    fn patch(&self, path: &str, body: &Value) -> Result<Value, Refusal>;

    /// Makes something.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal>;

    /// Deletes something.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    fn delete(&self, path: &str) -> Result<Value, Refusal>;
}

impl ApiServer for Cluster {
    fn get(&self, path: &str) -> Result<Value, Refusal> {
        Cluster::get(self, path)
    }

    fn list(&self, path: &str) -> Result<Vec<Value>, Refusal> {
        let listed = Cluster::list(self, path)?;
        match listed.cut {
            None => Ok(listed.items),
            Some(what) => {
                let act = format!("GET {path}");
                Err(Refusal { act, status: None, may_pass: true, reason: String::new(), what })
            }
        }
    }

    fn patch(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        Cluster::patch(self, path, Patch::Merge, body)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        Cluster::post(self, path, body)
    }

    fn delete(&self, path: &str) -> Result<Value, Refusal> {
        Cluster::delete(self, path, &Value::Null)
    }
}

/// One pod.
pub struct K8sPod<'a> {
    server: Box<dyn ApiServer + 'a>,
    mark: String,
    name_space: String,
    pod: String,
    allow: Vec<String>,
    lease: u64,
    clock: &'a dyn Clock,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    mark: String,
    name_space: String,
    pod: String,
    uid: String,
    node: String,
    labels: BTreeMap<String, String>,
    owners: Vec<String>,
    allowed: Vec<Allowed>,
    until: String,
    warnings: Vec<String>,
}

/// What the API server says of a pod.
struct Pod {
    uid: String,
    node: String,
    is_in_host_network: bool,
    labels: BTreeMap<String, String>,
    owners: Vec<String>,
}

impl<'a> K8sPod<'a> {
    /// A pod, by name space and name.
    ///
    /// # Errors
    ///
    /// [`Failed`] for what are no names.
    pub fn new(
        server: Box<dyn ApiServer + 'a>,
        mark: &str,
        name_space: &str,
        pod: &str,
        allow: Vec<String>,
        lease: u64,
        clock: &'a dyn Clock,
    ) -> Result<Self, Failed> {
        for name in [name_space, pod] {
            if !is_name(name) {
                return Err(Failed::for_good(format!("{name:?} is no name in Kubernetes")));
            }
        }
        let (mark, name_space, pod) = (mark.to_owned(), name_space.to_owned(), pod.to_owned());
        Ok(Self { server, mark, name_space, pod, allow, lease, clock })
    }

    fn pod_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.name_space, self.pod)
    }

    fn policies_path(&self) -> String {
        format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", self.name_space)
    }

    fn policy_path(&self) -> String {
        format!("{}/{}", self.policies_path(), policy_name(&self.mark))
    }

    /// `None` where there is nothing.
    fn find(&self, path: &str) -> Result<Option<Value>, Failed> {
        match self.server.get(path) {
            Ok(found) => Ok(Some(found)),
            Err(refusal) if refusal.is_absent() => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn pod(&self) -> Result<Option<Pod>, Failed> {
        self.find(&self.pod_path())?.map(|found| read_pod(&found)).transpose()
    }

    /// The very pod that was recorded.
    fn same_pod(&self, recorded: &Recorded) -> Result<Pod, Failed> {
        match self.pod()? {
            Some(pod) if pod.uid == recorded.uid => Ok(pod),
            Some(_) => {
                Err(Failed::for_good(format!("{} is another pod of that name by now", self.subject())))
            }
            None => Err(Failed::for_good(format!("{} is gone", self.subject()))),
        }
    }

    /// Whether a plug-in that enforces policies is known to be there; else a sentence about it.
    fn plug_in(&self) -> Option<String> {
        let found = match self.server.list("/apis/apps/v1/daemonsets") {
            Ok(found) => found,
            Err(refusal) => {
                return Some(format!(
                    "whether the cluster enforces network policies is not known: {}",
                    refusal.what
                ));
            }
        };
        let mut names =
            found.iter().filter_map(|item| item.pointer("/metadata/name").and_then(Value::as_str));
        if names.any(|name| ENFORCING.iter().any(|known| name.contains(known))) {
            return None;
        }
        Some(
            "no network plug-in was found that is known to enforce policies: without one this has no effect"
                .to_owned(),
        )
    }

    /// Other policies that select a pod with only our label and allow it something.
    fn other_policies(&self) -> Result<Vec<String>, Failed> {
        let found = self.server.list(&self.policies_path())?;
        let labels = BTreeMap::from([(LABEL.to_owned(), self.mark.clone())]);
        let allows = |item: &&Value| {
            let rules = |direction: &str| {
                item.pointer(&format!("/spec/{direction}"))
                    .and_then(Value::as_array)
                    .is_some_and(|all| !all.is_empty())
            };
            rules("ingress") || rules("egress")
        };
        let selects = |item: &&Value| {
            item.pointer("/spec/podSelector").is_some_and(|selector| matches(selector, &labels))
        };
        let name = |item: &Value| {
            item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let own = policy_name(&self.mark);
        Ok(found.iter().filter(allows).filter(selects).map(name).filter(|name| *name != own).collect())
    }

    /// Gives the pod back the labels that it had, but for what others have set since.
    fn give_back_labels(
        &self,
        recorded: &Recorded,
        pod: &Pod,
        restored: &mut Restored,
    ) -> Result<(), Failed> {
        if !pod.labels.contains_key(LABEL) && pod.labels == recorded.labels {
            return Ok(());
        }
        let mut change = Map::new();
        if pod.labels.get(LABEL) == Some(&recorded.mark) {
            change.insert(LABEL.to_owned(), Value::Null);
        }
        for (key, was) in &recorded.labels {
            match pod.labels.get(key) {
                None if !change.is_empty() => {
                    change.insert(key.clone(), was.as_str().into());
                }
                // Not ours to set any more: our own label was taken away before.
                None => restored.differences.push(format!("it has the label {key} no more, by others")),
                Some(is) if is != was => {
                    restored
                        .differences
                        .push(format!("its label {key} is {is:?}, by others; before it was {was:?}"));
                }
                Some(_) => {}
            }
        }
        for (key, value) in pod.labels.iter().filter(|(key, _)| !recorded.labels.contains_key(*key)) {
            if key != LABEL || value != &recorded.mark {
                restored.differences.push(format!("it has a label {key}={value:?} by others"));
            }
        }
        if !change.is_empty() {
            let patch = json!({ "metadata": { "uid": recorded.uid, "labels": change } });
            self.server.patch(&self.pod_path(), &patch)?;
        }
        Ok(())
    }
}

impl Isolation for K8sPod<'_> {
    fn subject(&self) -> String {
        format!("pod {}/{}", self.name_space, self.pod)
    }

    fn record(&self) -> Result<Value, Failed> {
        let found = self.pod()?.ok_or_else(|| Failed::for_good(format!("there is no {}", self.subject())))?;
        if let Some(other) = found.labels.get(LABEL) {
            return Err(Failed::for_good(format!("{} is isolated already, by {other}", self.subject())));
        }
        if found.labels.len() > MOST_LABELS {
            return Err(Failed::for_good(format!("{} has more than {MOST_LABELS} labels", self.subject())));
        }
        let mut allowed = Vec::new();
        for text in &self.allow {
            allowed.extend(Allowed::read_to(text, &resolve).map_err(Failed::for_good)?);
        }
        allowed.sort();
        allowed.dedup();
        let mut warnings = vec![
            "whether open connections end is up to the cluster's network: in many they go on until either side ends them"
                .to_owned(),
            "policies of Cilium, of Calico and of the whole cluster (AdminNetworkPolicy) are not read: one of them may allow more"
                .to_owned(),
        ];
        if found.is_in_host_network {
            warnings.push(
                "it is in its node's network, where policies have no effect: isolate the node".to_owned(),
            );
        }
        warnings.extend(self.plug_in());
        for name in self.other_policies()? {
            warnings.push(format!("the policy {name} selects every pod and allows something: it still will"));
        }
        if !found.owners.is_empty() {
            let owners = found.owners.join(", ");
            warnings.push(format!(
                "{owners} lets it go and makes another; once it is back, one of the two may be ended"
            ));
        }
        written(&Recorded {
            platform: "kubernetes".to_owned(),
            mark: self.mark.clone(),
            name_space: self.name_space.clone(),
            pod: self.pod.clone(),
            uid: found.uid,
            node: found.node,
            labels: found.labels,
            owners: found.owners,
            allowed,
            until: lease_end(self.clock, self.lease),
            warnings,
        })
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let pod = self.same_pod(&recorded)?;
        // The policy first: from the moment it has our label, the pod is held.
        let wanted = policy(&recorded.mark, &recorded.allowed);
        match self.find(&self.policy_path())? {
            Some(there) if there.get("spec") == wanted.get("spec") => {}
            Some(_) => {
                let what = format!("a policy {} of others is there", policy_name(&recorded.mark));
                return Err(Failed::for_good(what));
            }
            None => {
                self.server.post(&self.policies_path(), &wanted)?;
            }
        }
        // Only what was recorded can be given back: a label that others set since is left, and told by the verification.
        let is_recorded = |(key, value): &(&String, &String)| recorded.labels.get(*key) == Some(*value);
        let mut labels: Map<String, Value> =
            pod.labels.iter().filter(is_recorded).map(|(key, _)| (key.clone(), Value::Null)).collect();
        let is_held = pod.labels.get(LABEL) == Some(&recorded.mark);
        if !labels.is_empty() || !is_held {
            labels.insert(LABEL.to_owned(), recorded.mark.as_str().into());
            // The server refuses it for a pod with another uid.
            let patch = json!({ "metadata": { "uid": recorded.uid, "labels": labels } });
            self.server.patch(&self.pod_path(), &patch)?;
        }
        Ok(json!({ "policy": policy_name(&recorded.mark), "labels_removed": recorded.labels.len() }))
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let pod = self.same_pod(&recorded)?;
        let wanted = policy(&recorded.mark, &recorded.allowed);
        let has_policy =
            self.find(&self.policy_path())?.is_some_and(|there| there.get("spec") == wanted.get("spec"));
        if !has_policy || pod.labels.get(LABEL) != Some(&recorded.mark) {
            return Err(Failed::for_now(format!(
                "{} has not the label and the policy that were made",
                self.subject()
            )));
        }
        let mut verified = Verified::default();
        verified.read_back.push(format!("{} has our label, and our policy selects it", self.subject()));
        for key in pod.labels.keys().filter(|key| *key != LABEL) {
            verified.forbidden.push(Probe {
                what: format!("the label {key}"),
                got_through: true,
                seen: "it is there: services and policies may select the pod by it".to_owned(),
            });
        }
        for name in self.other_policies()? {
            verified.forbidden.push(Probe {
                what: format!("the policy {name}"),
                got_through: true,
                seen: "it selects the pod too, and allows something".to_owned(),
            });
        }
        if pod.is_in_host_network {
            verified.forbidden.push(Probe {
                what: "the network of its node".to_owned(),
                got_through: true,
                seen: "the pod is in it, where policies have no effect".to_owned(),
            });
        }
        verified.not_tried.push("a packet from the pod: nothing is run in it".to_owned());
        Ok(verified)
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let mut restored = Restored::default();
        match self.pod()? {
            None => restored.differences.push(format!("{} is gone", self.subject())),
            Some(pod) if pod.uid != recorded.uid => {
                restored.differences.push(format!("{} is another pod of that name by now", self.subject()));
            }
            Some(pod) => {
                self.give_back_labels(&recorded, &pod, &mut restored)?;
                let now = self.same_pod(&recorded)?;
                if now.labels.get(LABEL) == Some(&recorded.mark) {
                    return Err(Failed::for_now(format!("{} has our label still", self.subject())));
                }
                if now.owners != recorded.owners {
                    let or_none = |owners: &[String]| {
                        if owners.is_empty() { "nobody".to_owned() } else { owners.join(", ") }
                    };
                    let (is, was) = (or_none(&now.owners), or_none(&recorded.owners));
                    restored.differences.push(format!("it belongs to {is}; before it belonged to {was}"));
                }
            }
        }
        // By now nothing has our label any more.
        let Some(there) = self.find(&self.policy_path())? else { return Ok(restored) };
        if there.get("spec") != policy(&recorded.mark, &recorded.allowed).get("spec") {
            let name = policy_name(&recorded.mark);
            restored
                .differences
                .push(format!("the policy {name} is not as it was made, by others, and was left"));
            return Ok(restored);
        }
        match self.server.delete(&self.policy_path()) {
            Err(refusal) if !refusal.is_absent() => Err(refusal.into()),
            _ => Ok(restored),
        }
    }
}

/// The pod of this context.
pub(crate) fn of(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    let (cluster, pod) = cluster_of(context)?;
    let (mark, allow) = (super::mark(context.job, context.id)?, texts(context, "allow")?);
    let pod =
        K8sPod::new(Box::new(cluster), &mark, &pod.namespace, &pod.name, allow, context.lease, &SystemClock)?;
    Ok(Box::new(pod))
}

fn policy_name(mark: &str) -> String {
    format!("exhibit-{mark}")
}

/// The policy, whose `spec` is the same whenever it is asked for.
fn policy(mark: &str, allowed: &[Allowed]) -> Value {
    let block = |net: &IpNet| json!({ "to": [{ "ipBlock": { "cidr": net.to_string() } }] });
    let egress: Vec<Value> = allowed
        .iter()
        .filter_map(|allowed| {
            let mut rule = block(&allowed.net);
            match allowed.way {
                Way::Both => {}
                Way::To(port) => {
                    rule.as_object_mut()?
                        .insert("ports".to_owned(), json!([{ "protocol": "TCP", "port": port }]));
                }
                Way::From(_) => return None,
            }
            Some(rule)
        })
        .collect();
    let mut spec = json!({
        "podSelector": { "matchLabels": { LABEL: mark } },
        "policyTypes": ["Ingress", "Egress"],
    });
    // The server leaves an empty list out, so it is left out here too.
    if let Some(fields) = spec.as_object_mut().filter(|_| !egress.is_empty()) {
        fields.insert("egress".to_owned(), egress.into());
    }
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": policy_name(mark), "labels": { LABEL: mark } },
        "spec": spec,
    })
}

/// Whether a selector selects something with these labels.
fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let has_all =
        wanted.into_iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    let mut expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    has_all
        && expressions.all(|expression| {
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
            let mut values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let has = labels.get(key);
            let is_one = values.any(|value| value.as_str() == has.map(String::as_str));
            match expression.get("operator").and_then(Value::as_str) {
                Some("In") => has.is_some() && is_one,
                Some("NotIn") => has.is_none() || !is_one,
                Some("Exists") => has.is_some(),
                Some("DoesNotExist") => has.is_none(),
                // What is not known may select it.
                _ => true,
            }
        })
}

fn read_pod(found: &Value) -> Result<Pod, Failed> {
    let at = |pointer: &str| found.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let uid = at("/metadata/uid");
    if uid.is_empty() {
        return Err(Failed::for_now("the API server's answer is no pod"));
    }
    let labels = found.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let owners = found.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let owners = owners.map(|owner| {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", text("kind"), text("name"))
    });
    Ok(Pod {
        node: at("/spec/nodeName"),
        is_in_host_network: found.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or(false),
        owners: owners.collect(),
        uid,
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_read_as_kubernetes_reads_it() {
        let labels = BTreeMap::from([(LABEL.to_owned(), "j1".to_owned())]);
        let one = |key: &str, operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        for yes in [
            json!({}),
            one("app", "DoesNotExist", &[]),
            one("app", "NotIn", &["web"]),
            one(LABEL, "Exists", &[]),
            one(LABEL, "In", &["j0", "j1"]),
        ] {
            assert!(matches(&yes, &labels), "{yes}");
        }
        for no in [
            json!({ "matchLabels": { "app": "web" } }),
            one("app", "In", &["web"]),
            one("app", "Exists", &[]),
            one(LABEL, "NotIn", &["j1"]),
            one(LABEL, "DoesNotExist", &[]),
        ] {
            assert!(!matches(&no, &labels), "{no}");
        }
    }

    #[test]
    fn the_policy_closes_both_directions_and_opens_what_is_allowed() {
        let allowed = Allowed::read_to("192.0.2.10:443", &|_| Ok(vec![])).unwrap();
        let made = policy("j1", &allowed);
        assert_eq!(made["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(made["spec"]["ingress"], Value::Null);
        assert_eq!(
            made["spec"]["egress"],
            json!([{ "to": [{ "ipBlock": { "cidr": "192.0.2.10/32" } }], "ports": [{ "protocol": "TCP", "port": 443 }] }])
        );
        assert_eq!(policy("j1", &[])["spec"]["egress"], Value::Null);
    }
}
