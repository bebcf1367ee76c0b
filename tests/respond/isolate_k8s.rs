//! A pod, isolated and let back, against an API server of our own: objects by path, merge patches as RFC 7386 has them, conflicts
//! of names and of uids. What a network plug-in then does with a policy is not tried here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use custody::SystemClock;
use respond::isolate::k8s_pod::{ApiServer, K8sPod, LABEL};
use respond::isolate::{Isolation, isolate, take_back};
use respond::targets::kubernetes::Refusal;
use serde_json::{Value, json};

const POD: &str = "/api/v1/namespaces/shop/pods/web-1";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";

/// Objects by path.
#[derive(Default, Clone)]
struct Server(Rc<RefCell<BTreeMap<String, Value>>>);

impl Server {
    fn with_pod(plug_in: &str) -> Self {
        let server = Self::default();
        let pod = json!({
            "metadata": {
                "uid": "u-1", "name": "web-1", "labels": { "app": "web", "tier": "front" },
                "ownerReferences": [{ "kind": "ReplicaSet", "name": "web-7d4b" }],
            },
            "spec": { "nodeName": "node-1" },
        });
        server.put(POD, pod);
        server.put("/apis/apps/v1/daemonsets/x", json!({ "metadata": { "name": plug_in } }));
        server
    }

    fn put(&self, path: &str, value: Value) {
        self.0.borrow_mut().insert(path.to_owned(), value);
    }

    /// Changes the specification of something, as somebody else would.
    fn patch_spec(&self, path: &str, change: &Value) {
        merge(&mut self.0.borrow_mut().get_mut(path).unwrap()["spec"], change);
    }

    fn labels(&self) -> Value {
        self.0.borrow()[POD]["metadata"]["labels"].clone()
    }

    fn all(&self) -> BTreeMap<String, Value> {
        self.0.borrow().clone()
    }
}

fn refusal(status: u16) -> Refusal {
    let (act, what) = ("an act".to_owned(), format!("status {status}"));
    Refusal { act, status: Some(status), may_pass: false, reason: String::new(), what }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge(&mut into[key], value),
        }
    }
}

impl ApiServer for Server {
    fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.0.borrow().get(path).cloned().ok_or_else(|| refusal(404))
    }

    fn list(&self, path: &str) -> Result<Vec<Value>, Refusal> {
        let under = format!("{path}/");
        let all = self.0.borrow();
        Ok(all.iter().filter(|(at, _)| at.starts_with(&under)).map(|(_, value)| value.clone()).collect())
    }

    fn patch(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        let mut all = self.0.borrow_mut();
        let there = all.get_mut(path).ok_or_else(|| refusal(404))?;
        if body["metadata"]["uid"] != there["metadata"]["uid"] {
            return Err(refusal(409));
        }
        merge(there, body);
        Ok(there.clone())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
        if self.0.borrow().contains_key(&path) {
            return Err(refusal(409));
        }
        self.put(&path, body.clone());
        Ok(body.clone())
    }

    fn delete(&self, path: &str) -> Result<Value, Refusal> {
        self.0.borrow_mut().remove(path).ok_or_else(|| refusal(404))
    }
}

fn pod(server: &Server) -> K8sPod<'static> {
    let allow = vec!["192.0.2.10:443".to_owned()];
    K8sPod::new(Box::new(server.clone()), "j5-isolate", "shop", "web-1", allow, 0, &SystemClock).unwrap()
}

fn warnings(recorded: &Value) -> String {
    recorded["warnings"].to_string()
}

#[test]
fn a_pod_loses_its_labels_and_gets_them_back_and_the_policy_goes_with_ours() {
    let server = Server::with_pod("calico-node");
    let before = server.all();
    let isolation = pod(&server);
    let isolated = isolate(&isolation, None, &|_| {
        assert_eq!(server.all(), before);
        Ok(())
    })
    .unwrap();
    assert_eq!(server.labels(), json!({ LABEL: "j5-isolate" }));
    let policy = server.all()[&format!("{POLICIES}/exhibit-j5-isolate")].clone();
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], json!({ LABEL: "j5-isolate" }));
    // No packet was tried, so nothing is proved.
    assert!(!isolated.is_proved && isolated.verified.open().is_none());
    assert!(warnings(&isolated.recorded).contains("ReplicaSet web-7d4b"));
    assert!(!warnings(&isolated.recorded).contains("plug-in"));
    let during = server.all();
    isolate(&isolation, Some(&isolated.recorded), &|_| panic!("it is recorded already")).unwrap();
    assert_eq!(server.all(), during);
    let given = serde_json::to_value(&isolated).unwrap();
    for _ in 0..2 {
        let restored = take_back(&isolation, &given).unwrap();
        assert!(restored.is_exact(), "{restored:?}");
        assert_eq!(server.all(), before);
    }
}

#[test]
fn a_kill_between_policy_and_labels_is_gone_on_from_and_taken_back() {
    let server = Server::with_pod("cilium");
    let before = server.all();
    let isolation = pod(&server);
    let recorded = isolation.record().unwrap();
    isolation.apply(&recorded).unwrap();
    let whole = server.all();
    // As if killed before the labels were changed.
    server.put(POD, before[POD].clone());
    assert!(isolation.verify(&recorded).is_err());
    isolate(&isolation, Some(&recorded), &|_| panic!("it is recorded already")).unwrap();
    assert_eq!(server.all(), whole);
    server.put(POD, before[POD].clone());
    let restored = take_back(&isolation, &json!({ "recorded": recorded })).unwrap();
    assert!(restored.is_exact() && server.all() == before, "{restored:?}");
}

#[test]
fn what_makes_a_policy_useless_is_told() {
    let server = Server::with_pod("some-log-shipper");
    let all = json!({ "metadata": { "name": "let-all" }, "spec": { "podSelector": {}, "ingress": [{}] } });
    server.put(&format!("{POLICIES}/let-all"), all);
    let other = json!({ "metadata": { "name": "web" }, "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{}] } });
    server.put(&format!("{POLICIES}/web"), other);
    let closed = json!({ "metadata": { "name": "deny-all" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    server.put(&format!("{POLICIES}/deny-all"), closed);
    server.0.borrow_mut().get_mut(POD).unwrap()["spec"]["hostNetwork"] = json!(true);
    let isolation = pod(&server);
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let told = warnings(&isolated.recorded);
    for said in ["node's network", "no network plug-in was found", "policy let-all"] {
        assert!(told.contains(said), "{said} is not in: {told}");
    }
    assert!(!told.contains("policy web") && !told.contains("deny-all"), "{told}");
    let open: Vec<&str> = isolated.verified.forbidden.iter().map(|probe| probe.what.as_str()).collect();
    assert_eq!(open, ["the policy let-all", "the network of its node"]);
    assert!(!isolated.is_proved);
}

#[test]
fn what_others_change_on_an_isolated_pod_is_told_and_left() {
    let server = Server::with_pod("calico-node");
    let isolation = pod(&server);
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    let patch = json!({ "metadata": { "uid": "u-1", "labels": { "tier": "back", "team": "x" }, "ownerReferences": null } });
    server.patch(POD, &patch).unwrap();
    let open = isolation.verify(&isolated.recorded).unwrap();
    assert!(open.open().is_some_and(|probe| probe.what.contains("label")), "{open:?}");
    let restored = take_back(&isolation, &given).unwrap();
    assert_eq!(restored.differences.len(), 3, "{restored:?}");
    assert_eq!(server.labels(), json!({ "app": "web", "tier": "back", "team": "x" }));
    assert!(!server.all().contains_key(&format!("{POLICIES}/exhibit-j5-isolate")));

    // Another pod of that name is none of ours.
    server.0.borrow_mut().get_mut(POD).unwrap()["metadata"]["uid"] = json!("u-2");
    let now = server.all();
    assert!(
        isolate(&isolation, Some(&isolated.recorded), &|_| Ok(())).unwrap_err().what.contains("another pod")
    );
    assert!(!take_back(&isolation, &given).unwrap().is_exact() && server.all() == now);
    server.0.borrow_mut().remove(POD);
    assert!(take_back(&isolation, &given).unwrap().differences[0].contains("gone"));
    assert!(isolation.record().is_err());
}

#[test]
fn a_policy_that_is_not_ours_any_more_is_left_and_told() {
    let server = Server::with_pod("calico-node");
    let isolation = pod(&server);
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let path = format!("{POLICIES}/exhibit-j5-isolate");
    server.patch_spec(&path, &json!({ "ingress": [{}] }));
    let theirs = server.all()[&path].clone();
    let restored = take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap();
    assert!(restored.differences.join("\n").contains("policy exhibit-j5-isolate"), "{restored:?}");
    assert_eq!(server.all()[&path], theirs);
    assert_eq!(server.labels(), json!({ "app": "web", "tier": "front" }));
}

#[test]
fn a_label_that_others_set_before_a_run_goes_on_is_told_and_never_taken() {
    let server = Server::with_pod("calico-node");
    let isolation = pod(&server);
    let recorded = isolation.record().unwrap();
    // Killed after what was is kept; then somebody sets one label anew, and changes another.
    let patch = json!({ "metadata": { "uid": "u-1", "labels": { "team": "x", "tier": "back" } } });
    server.patch(POD, &patch).unwrap();
    let isolated = isolate(&isolation, Some(&recorded), &|_| panic!("it is recorded already")).unwrap();
    assert_eq!(server.labels(), json!({ LABEL: "j5-isolate", "team": "x", "tier": "back" }));
    let told: Vec<&str> = isolated.verified.forbidden.iter().map(|probe| probe.what.as_str()).collect();
    assert_eq!(told, ["the label team", "the label tier"]);
    let restored = take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap();
    assert_eq!(restored.differences.len(), 2, "{restored:?}");
    assert_eq!(server.labels(), json!({ "app": "web", "team": "x", "tier": "back" }));
}

#[test]
fn what_other_kinds_of_policies_and_open_connections_may_do_is_told_before() {
    let server = Server::with_pod("cilium");
    let told = warnings(&pod(&server).record().unwrap());
    for said in ["open connections", "Cilium", "Calico", "AdminNetworkPolicy"] {
        assert!(told.contains(said), "{said} is not in: {told}");
    }
}
