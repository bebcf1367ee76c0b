//! Whether assets can be reached as a capture would reach them: clusters, hosts over SSH, agents of SSM.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use acquire::aws::ssm::Ssm;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use super::rules_in_force::read_inventory;
use crate::edr::{CollectorSettings, Patience, device};
use crate::targets::kubernetes::{Cluster, Refusal, Resource};
use crate::targets::ssh::answers;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD07",
        version: 1,
        severity: Severity::High,
        title: "EDR tenants answer, know our hosts, and the collector for them is ours",
        scope: "tenant, host",
        tested: "each tenant of `[targets.edr]` is logged in to, and asked whether hosts of the inventory that it watches (five at most) \
                 are contained, which changes nothing; its collector is hashed and compared with the pinned SHA-256. Whether live \
                 response is allowed cannot be asked without doing it",
        remediation: "issue the token anew with the rights to read hosts, contain, and use live response; give assets the tag edr_id; \
                      pin the collector's hash",
        prowler: &[],
        seconds: 120,
        drill: None,
        test: tenants,
    },
    Check {
        id: "RD08",
        version: 2,
        severity: Severity::High,
        title: "API servers of Kubernetes answer, and let pods be captured and isolated",
        scope: "cluster",
        tested: "SelfSubjectAccessReview at each cluster of `[targets.kubernetes]`: get and patch pods, get their logs, list events, get, \
                 list, create and delete network policies. A warning without what makes a capture or an isolation poorer: to list \
                 pods, nodes and daemon sets, to get service accounts, to get and patch nodes",
        remediation: "bind a ClusterRole with the named verbs to the service's account",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: clusters,
    },
    Check {
        id: "RD09",
        version: 1,
        severity: Severity::Medium,
        title: "hosts can be reached",
        scope: "host",
        tested: "each host of `[targets.ssh]` is logged in to with its key and known host key, and a command is run with the rights \
                 that a capture has; SSM says of each instance in `ready.instances` whether its agent is online",
        remediation: "put the key into the account's authorized_keys, the host's key into known_hosts, and the rule into sudoers; \
                      install or restart the agent",
        prowler: &[],
        seconds: 90,
        drill: None,
        test: hosts,
    },
];

/// Hosts of one tenant that are asked about.
const ASKED: usize = 5;

fn tenants(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let tenants = &probe.settings.targets.edr;
    if tenants.is_empty() {
        return Err(Unable::none("the settings name no EDR ([targets.edr])"));
    }
    let inventory = read_inventory(probe);
    let mut found = Vec::new();
    for (name, settings) in tenants {
        let scope = format!("{name}/collector");
        match settings.collector().map(CollectorSettings::read) {
            None => {
                let seen = "no collector is set: hosts can be contained, and nothing be captured through it";
                found.push(Finding::new(scope, Status::Warn, seen, "a collector with the pinned SHA-256"));
            }
            Some(read) => {
                let seen = read.as_ref().err().map_or("it is the pinned one".to_owned(), ToString::to_string);
                found.push(Finding::of(scope, read.is_ok(), seen, "a collector with the pinned SHA-256"));
            }
        }
        let expected = "it says whether the host is contained";
        let assets = inventory.as_ref().map(|inventory| inventory.assets()).unwrap_or_default();
        let devices: Vec<(&str, &str)> = assets
            .iter()
            .filter(|asset| {
                asset.target.is_empty() || asset.target == *name || !tenants.contains_key(&asset.target)
            })
            .filter_map(|asset| device(settings, asset).ok().map(|device| (asset.id.as_str(), device)))
            .take(ASKED)
            .collect();
        if devices.is_empty() {
            let seen = "no asset of the inventory has an id of this product: there is nothing to ask about";
            found.push(Finding::new(name, Status::Error, seen, expected));
            continue;
        }
        let stop = AtomicBool::new(false);
        let until = Instant::now() + Duration::from_secs(30);
        let patience = Patience { until, pause: Duration::from_secs(1), stop: &stop };
        let product = settings.connect(patience);
        for (asset, device) in devices {
            let asked = product.as_ref().map_err(ToString::to_string);
            let asked =
                asked.and_then(|product| product.containment(device).map_err(|failed| failed.to_string()));
            let scope = format!("{name}/{asset}");
            found.push(match asked {
                Ok(state) => Finding::of(scope, true, state.told(), expected),
                // Why it gives no answer stands in the words: a capture or an isolation would end there too.
                Err(why) => Finding::of(scope, false, why, expected),
            });
        }
    }
    Ok(found)
}

/// What a capture and an isolation of a pod need: verb, group, resource, part of it.
const RIGHTS: [(&str, &str, &str, &str); 8] = [
    ("get", "", "pods", ""),
    ("patch", "", "pods", ""),
    ("get", "", "pods", "log"),
    ("list", "", "events", ""),
    ("get", "networking.k8s.io", "networkpolicies", ""),
    ("list", "networking.k8s.io", "networkpolicies", ""),
    ("create", "networking.k8s.io", "networkpolicies", ""),
    ("delete", "networking.k8s.io", "networkpolicies", ""),
];

/// What they would be poorer without: discovery, the node and account of the pod, whether policies are enforced, cordoning.
const USEFUL: [(&str, &str, &str, &str); 6] = [
    ("list", "", "pods", ""),
    ("list", "", "nodes", ""),
    ("get", "", "nodes", ""),
    ("patch", "", "nodes", ""),
    ("get", "", "serviceaccounts", ""),
    ("list", "apps", "daemonsets", ""),
];

/// Those of some rights that a cluster denies us.
fn denied(cluster: &Cluster, rights: &[(&str, &str, &str, &str)]) -> Result<Vec<String>, Refusal> {
    let mut missing = Vec::new();
    for (verb, group, resource, subresource) in rights {
        let what = Resource { group, resource, subresource, ..Resource::default() };
        if !cluster.may(verb, what)? {
            let part = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
            missing.push(format!("{verb} {resource}{part}"));
        }
    }
    Ok(missing)
}

fn clusters(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let clusters = &probe.settings.targets.kubernetes;
    if clusters.is_empty() {
        return Err(Unable::none("the settings name no cluster ([targets.kubernetes])"));
    }
    let each = clusters.iter().map(|(name, settings)| {
        let expected = "every right that a capture and an isolation need";
        let asked = Cluster::open(name, settings)
            .and_then(|cluster| Ok((denied(&cluster, &RIGHTS)?, denied(&cluster, &USEFUL)?)));
        match asked {
            Ok((missing, poorer)) => {
                let (status, seen) = match (missing.is_empty(), poorer.is_empty()) {
                    (false, _) => {
                        (Status::Fail, format!("missing: {}", [missing, poorer].concat().join(", ")))
                    }
                    (true, false) => {
                        let poorer = poorer.join(", ");
                        (Status::Warn, format!("what must be is there; it is poorer without: {poorer}"))
                    }
                    (true, true) => {
                        let count = RIGHTS.len().saturating_add(USEFUL.len());
                        (Status::Pass, format!("all {count} rights are there"))
                    }
                };
                Finding::new(name, status, &seen, expected).with_evidence(seen)
            }
            Err(refusal) if refusal.is_denied() => Finding::of(name, false, refusal.to_string(), expected),
            Err(refusal) => Finding::new(name, Status::Error, refusal.to_string(), expected),
        }
    });
    Ok(each.collect())
}

fn hosts(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let hosts = &probe.settings.targets.ssh;
    let instances = &probe.settings.ready.instances;
    if hosts.is_empty() && instances.is_empty() {
        return Err(Unable::none("the settings name no host ([targets.ssh], ready.instances)"));
    }
    let mut found: Vec<Finding> = hosts
        .iter()
        .map(|(name, settings)| {
            let expected = "a command runs there as a capture would";
            let until = Instant::now() + Duration::from_secs(30);
            match settings.check().and_then(|()| answers(settings, until)) {
                Ok(said) => Finding::of(name, true, format!("{} answers: {said}", settings.host), expected),
                // Whether the host is down or refuses, a capture would fail; that much was tested.
                Err(why) => Finding::of(name, false, why, expected),
            }
        })
        .collect();
    if instances.is_empty() {
        return Ok(found);
    }
    let connection = probe.aws()?;
    probe.caller()?;
    let ids: Vec<&str> = instances.iter().map(String::as_str).collect();
    let agents = Ssm::new(connection)?.agents(&ids)?;
    for id in ids {
        let agent = agents.value.iter().find(|agent| agent.instance == id);
        let (holds, seen) = match agent {
            Some(agent) => (agent.ping == "Online", format!("agent {} is {}", agent.version, agent.ping)),
            None => (false, "SSM knows no agent there".to_owned()),
        };
        found.push(Finding::of(id, holds, seen, "the agent is Online").with_answers(&agents.raw));
    }
    Ok(found)
}
