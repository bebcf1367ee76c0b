//! How assets are reached: this host, SSH, an EC2 account, a container runtime, a Kubernetes API server, an EDR.

pub mod containers;
pub mod kubernetes;
pub(crate) mod pod;
pub(crate) mod programs;
pub(crate) mod shell_words;
pub mod ssh;
pub(crate) mod ssh_order;
mod ssh_settings;

use std::collections::BTreeMap;

use serde::Deserialize;

/// What can be reached, by name. Each kind's settings are in its own file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// Hosts over SSH.
    #[serde(default)]
    pub ssh: BTreeMap<String, ssh::SshSettings>,
    /// Container runtimes.
    #[serde(default)]
    pub containers: BTreeMap<String, containers::ContainerSettings>,
    /// Kubernetes clusters.
    #[serde(default)]
    pub kubernetes: BTreeMap<String, kubernetes::ClusterSettings>,
    /// EDR tenants.
    #[serde(default)]
    pub edr: BTreeMap<String, crate::edr::EdrSettings>,
}
