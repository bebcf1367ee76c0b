//! Captures of what is no host: `capture.container`, `capture.k8s_pod`.

use serde_json::{Map, Value, json};

use super::capture::value;
use super::exhibits::sealed;
use super::{Context, Failed, Parameter, Step, Takes};
use crate::alert::AssetKind;
use crate::state::steps::standing;
use crate::targets::containers::{self, How};
use crate::targets::kubernetes::{Cluster, Patch, is_name};
use crate::targets::pod::{LEFT_OUT, Pod, PodName, write_evidence};
use crate::targets::ssh_order::{tag, work_folder};

/// Signs of an exhibit's name that stand in the name of its folder.
const LONGEST_NAME: usize = 64;

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, takes: Takes::Text }
}

fn flag(context: &Context<'_>, name: &str) -> bool {
    context.parameters.get(name) == Some(&Value::Bool(true))
}

const PAUSE: Parameter =
    Parameter { name: "pause", about: "Freeze its processes until their memory is read", takes: Takes::Flag };
const MEMORY_LIMIT: Parameter = text("memory_limit", "Memory that is read at most, as 16GiB; 0 for none");
const FILES_LIMIT: Parameter =
    text("files_limit", "Of its files, bytes that are packed at most, as 16GiB; the others are listed");

fn how<'a>(context: &Context<'a>) -> Result<How<'a>, Failed> {
    Ok(How {
        pause: flag(context, "pause"),
        memory_limit: value(context, "memory_limit")?,
        files_limit: value(context, "files_limit")?,
    })
}

/// A container, here or on a host over SSH.
struct Container;

pub(super) static CONTAINER: &dyn Step = &Container;

impl Step for Container {
    fn word(&self) -> &'static str {
        "capture.container"
    }

    fn about(&self) -> &'static str {
        "Takes a container before it goes: processes, memory, sockets, logs, changed and deleted files"
    }

    fn takes(&self, kind: AssetKind) -> bool {
        kind == AssetKind::Container
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[PAUSE, MEMORY_LIMIT, FILES_LIMIT]
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        containers::capture(context, &context.asset.target, &context.asset.id, context.id, how(context)?)
    }
}

/// A pod, through the API server and its node.
struct K8sPod;

pub(super) static K8S_POD: &dyn Step = &K8sPod;

impl Step for K8sPod {
    fn word(&self) -> &'static str {
        "capture.k8s_pod"
    }

    fn about(&self) -> &'static str {
        "Takes what the API server tells of a pod, and its containers where their node is reached"
    }

    fn takes(&self, kind: AssetKind) -> bool {
        kind == AssetKind::K8sPod
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[
            PAUSE,
            MEMORY_LIMIT,
            FILES_LIMIT,
            Parameter {
                name: "cordon",
                about: "Let nothing new be placed on its node, until the step is taken back",
                takes: Takes::Flag,
            },
        ]
    }

    fn undoes(&self) -> bool {
        true
    }

    fn is_undone_from(&self, intent: &Value) -> bool {
        intent.get("cordon").is_some()
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let (cluster, name) = cluster_of(context)?;
        let api = format!("{}-api", context.id);
        // Once its containers went with it, there is nobody left to ask.
        let gone = |how: &str| match sealed(context.case, &api)? {
            Some(sealed) => Ok(json!({"api": sealed, "pod": how})),
            None => Err(Failed::for_good(format!("the pod is {how}"))),
        };
        let pod = match Pod::get(&cluster, &name) {
            Ok(pod) => pod,
            Err(refusal) if refusal.is_absent() => return gone(&format!("not there: {refusal}")),
            Err(refusal) => return Err(refusal.into()),
        };
        if !is_the_same(context, &pod)? {
            return gone("not there any more: another one has its name, and is not taken for it");
        }
        let mut told = Map::new();
        told.insert("uid".to_owned(), pod.uid().into());
        told.insert("node".to_owned(), pod.node().unwrap_or("none").into());
        if flag(context, "cordon")
            && let Some(node) = pod.node()
        {
            told.insert("cordon".to_owned(), cordon(context, &cluster, node)?);
        }
        let (containers, failed) = containers_of(context, &pod)?;
        told.insert("containers".to_owned(), containers);
        told.insert("api".to_owned(), api_evidence(context, &cluster, &pod, &api)?);
        told.insert("left_out".to_owned(), json!(LEFT_OUT));
        match failed {
            // What could be had is sealed; the rest may come at the next try.
            Some(failed) => Err(failed),
            None => Ok(Value::Object(told)),
        }
    }

    fn undo(&self, context: &Context<'_>, recorded: &Value) -> Result<Value, Failed> {
        // What a run that failed had begun stands in its intents alone.
        let intended = |intent: &Value| {
            Some((intent.get("cordon")?.as_str()?.to_owned(), intent.get("was")?.as_bool()?))
        };
        let told = recorded.get("cordon").and_then(|cordon| {
            Some((cordon.get("node")?.as_str()?.to_owned(), cordon.get("was")?.as_bool()?))
        });
        let cordoned = told.or_else(|| standing(context.intents).iter().find_map(intended));
        let Some((node, false)) = cordoned.filter(|(node, _)| is_name(node)) else {
            return Ok(json!({"changed": false}));
        };
        let (cluster, _) = cluster_of(context)?;
        cluster.patch(
            &format!("/api/v1/nodes/{node}"),
            Patch::Merge,
            &json!({"spec": {"unschedulable": null}}),
        )?;
        Ok(json!({"changed": true, "node": node}))
    }
}

pub(crate) fn cluster_of(context: &Context<'_>) -> Result<(Cluster, PodName), Failed> {
    let name = PodName::read(&context.asset.id)
        .ok_or_else(|| Failed::for_good(format!("{:?} names no pod", context.asset.id)))?;
    let clusters = &context.settings.targets.kubernetes;
    let target =
        [context.asset.target.as_str(), name.cluster.as_str()].into_iter().find(|name| !name.is_empty());
    let target = target.unwrap_or_default();
    let settings = clusters
        .get(target)
        .ok_or_else(|| Failed::for_good(format!("{target:?} is none of [targets.kubernetes]")))?;
    Ok((Cluster::open(target, settings)?, name))
}

/// Whether it is the pod that the first run of this step saw: a name may be given to another one meanwhile.
fn is_the_same(context: &Context<'_>, pod: &Pod) -> Result<bool, Failed> {
    let uid = pod.uid().unwrap_or_default();
    if let Some(first) = context.intents.iter().find_map(|intent| intent.get("pod_uid")?.as_str()) {
        return Ok(first == uid);
    }
    (context.intend)(&json!({"pod_uid": uid})).map_err(|error| Failed::for_now(error.to_string()))?;
    Ok(true)
}

/// The exhibit of a container. None can have a name with which it would be taken for another one, or for what the API tells.
fn exhibit_of(step: &str, container: &str, id: &str) -> String {
    let whole = format!("{step}-c-{container}");
    if whole.chars().count() <= LONGEST_NAME {
        return whole;
    }
    // Its folder would be named by the beginning alone.
    let end: String = id.chars().take(8).collect();
    let beginning: String = whole.chars().take(LONGEST_NAME - 9).collect();
    format!("{beginning}-{end}")
}

/// Keeps new pods from the node; gives how it was before.
fn cordon(context: &Context<'_>, cluster: &Cluster, node: &str) -> Result<Value, Failed> {
    let path = format!("/api/v1/nodes/{node}");
    // From before it was taken back none counts: somebody may have closed the node since.
    let earlier = standing(context.intents)
        .iter()
        .find(|intent| intent.get("cordon").and_then(Value::as_str) == Some(node));
    let was = match earlier.and_then(|intent| intent.get("was")?.as_bool()) {
        Some(was) => was,
        None => {
            let was =
                cluster.get(&path)?.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
            (context.intend)(&json!({"cordon": node, "was": was}))
                .map_err(|error| Failed::for_now(error.to_string()))?;
            was
        }
    };
    cluster.patch(&path, Patch::Merge, &json!({"spec": {"unschedulable": true}}))?;
    Ok(json!({"node": node, "was": was}))
}

/// Takes the containers on their node; gives what became of each, and the failure that another try may mend.
fn containers_of(context: &Context<'_>, pod: &Pod) -> Result<(Value, Option<Failed>), Failed> {
    let Some(node) = pod.node() else {
        return Ok(("not taken: the pod is on no node yet".into(), None));
    };
    let name =
        [context.asset.target.as_str(), pod.name.cluster.as_str()].into_iter().find(|name| !name.is_empty());
    let settings = name.and_then(|name| context.settings.targets.kubernetes.get(name));
    let Some(target) = settings.and_then(|settings| settings.nodes.get(node)) else {
        return Ok((
            format!("not taken: no way to node {node} is set, so there is only what the API server tells")
                .into(),
            None,
        ));
    };
    let mut told = Vec::new();
    let mut failure = None;
    for container in pod.containers() {
        let mut row = json!({"container": container.name});
        let outcome = match &container.id {
            None => json!({"not_taken": "it was never started"}),
            Some(id) => {
                let exhibit = exhibit_of(context.id, &container.name, id);
                match containers::capture(context, target, id, &exhibit, how(context)?) {
                    Ok(told) => told,
                    // One that has ended may be gone from its node.
                    Err(failed) if !container.is_running => json!({"not_taken": failed.what}),
                    Err(failed) => {
                        let what = json!({"not_taken": failed.what});
                        if failed.may_help_again {
                            failure = Some(failed);
                        }
                        what
                    }
                }
            }
        };
        if let (Some(row), Value::Object(outcome)) = (row.as_object_mut(), outcome) {
            row.extend(outcome);
        }
        told.push(row);
    }
    Ok((told.into(), failure))
}

/// Takes what the API server tells into an exhibit of its own.
fn api_evidence(context: &Context<'_>, cluster: &Cluster, pod: &Pod, name: &str) -> Result<Value, Failed> {
    if let Some(sealed) = sealed(context.case, name)? {
        return Ok(sealed);
    }
    let PodName { namespace, name: of_pod, .. } = &pod.name;
    let work = work_folder(context, &tag(context.job, name))?;
    let folder = work.join(format!("{}_{namespace}_{of_pod}", cluster.name()));
    let asked = write_evidence(cluster, pod, &folder)?;
    let mut told = containers::here(context, name, &["logs".into(), folder.into()])?;
    let _ = std::fs::remove_dir_all(&work);
    if let Some(told) = told.as_object_mut() {
        told.insert("taken".to_owned(), asked.taken.into());
        told.insert("not_taken".to_owned(), asked.refused.into());
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_container_has_the_exhibit_of_another_or_of_what_the_api_tells() {
        let id = "0123456789abcdef";
        assert_eq!(exhibit_of("pod", "shop", id), "pod-c-shop");
        assert_ne!(exhibit_of("pod", "api", id), "pod-api");
        let long = "s".repeat(60);
        let (one, other) = (format!("{long}-a"), format!("{long}-b"));
        let one = exhibit_of("pod", &one, "aaaaaaaabbbb");
        let other = exhibit_of("pod", &other, "ccccccccdddd");
        assert!(one.len() == 64 && other.len() == 64);
        let folder = |name: &str| custody::case_layout::exhibit_folder_name("E001", name);
        assert_ne!(folder(&one), folder(&other));
    }
}
