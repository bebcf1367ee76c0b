//! Whether assets can be reached as a capture would reach them: clusters, hosts over SSH, agents of SSM.

use std::time::{Duration, Instant};

use acquire::aws::ssm::Ssm;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use crate::targets::kubernetes::{Cluster, Resource};
use crate::targets::ssh::answers;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD08",
        version: 1,
        severity: Severity::High,
        title: "API servers of Kubernetes answer, and let pods be captured and isolated",
        scope: "cluster",
        tested: "SelfSubjectAccessReview at each cluster of `[targets.kubernetes]`: get and patch pods, get their logs, create and \
                 delete network policies, list events",
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

/// What a capture and an isolation of a pod need: verb, group, resource, part of it.
const RIGHTS: [(&str, &str, &str, &str); 6] = [
    ("get", "", "pods", ""),
    ("patch", "", "pods", ""),
    ("get", "", "pods", "log"),
    ("list", "", "events", ""),
    ("create", "networking.k8s.io", "networkpolicies", ""),
    ("delete", "networking.k8s.io", "networkpolicies", ""),
];

fn clusters(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let clusters = &probe.settings.targets.kubernetes;
    if clusters.is_empty() {
        return Err(Unable::none("the settings name no cluster ([targets.kubernetes])"));
    }
    let each = clusters.iter().map(|(name, settings)| {
        let expected = "every right that a capture and an isolation need";
        let asked = Cluster::open(name, settings).and_then(|cluster| {
            let mut missing = Vec::new();
            for (verb, group, resource, subresource) in RIGHTS {
                let what = Resource { group, resource, subresource, ..Resource::default() };
                if !cluster.may(verb, what)? {
                    let part = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
                    missing.push(format!("{verb} {resource}{part}"));
                }
            }
            Ok(missing)
        });
        match asked {
            Ok(missing) if missing.is_empty() => {
                let seen = format!("all {} rights are there", RIGHTS.len());
                Finding::of(name, true, &seen, expected).with_evidence(seen)
            }
            Ok(missing) => {
                let seen = format!("missing: {}", missing.join(", "));
                Finding::of(name, false, &seen, expected).with_evidence(seen)
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
