//! What `exhibit serve --config FILE` is told. Secrets are named by file, never written here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The file of settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the state lies (`state.sqlite`, raw alerts). Made if absent.
    pub state: PathBuf,
    /// Where cases are made.
    pub cases: PathBuf,
    /// Who is answerable for what the service does.
    pub examiner: String,
    /// Their organisation.
    #[serde(default)]
    pub organisation: String,
    /// By which authority it is done.
    #[serde(default)]
    pub authority: String,
    /// The rules.
    pub rules: PathBuf,
    /// The inventory.
    #[serde(default)]
    pub inventory: Option<PathBuf>,
    /// How alerts come in.
    #[serde(default)]
    pub server: crate::server::ServerSettings,
    /// Where alerts come from.
    #[serde(default, rename = "source")]
    pub sources: Vec<crate::authenticate::SourceSettings>,
    /// The cloud account.
    #[serde(default)]
    pub aws: AwsSettings,
    /// What can be reached otherwise, by name: SSH, Docker, Kubernetes, EDR.
    #[serde(default)]
    pub targets: crate::targets::TargetSettings,
    /// Where to tell people, by name.
    #[serde(default)]
    pub notify: BTreeMap<String, NotifySettings>,
    /// How acquisitions are made.
    #[serde(default)]
    pub capture: CaptureSettings,
    /// How jobs are run.
    #[serde(default)]
    pub jobs: JobSettings,
    /// What readiness is measured against.
    #[serde(default)]
    pub ready: crate::ready::ReadySettings,
}

/// The cloud account, as `--region`, `--aws-profile` and `--endpoint-url` of every command.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsSettings {
    /// Region.
    pub region: Option<String>,
    /// Profile of the configuration files.
    pub profile: Option<String>,
    /// Another endpoint than Amazon's.
    pub endpoint_url: Option<String>,
    /// Accounts whose assets may be touched.
    #[serde(default)]
    pub accounts: Vec<String>,
}

/// One channel to people.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySettings {
    /// Posted to as JSON.
    pub url: String,
    /// File with the secret that signs what is posted (Standard Webhooks).
    pub secret_file: Option<PathBuf>,
}

/// How acquisitions are made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureSettings {
    /// Evidence store, `s3://bucket/prefix`; else they lie in the case.
    pub to: Option<String>,
    /// Recipients that data is encrypted to.
    #[serde(default)]
    pub encrypt_to: Vec<String>,
    /// The signing key; else the one that every command takes.
    pub key: Option<PathBuf>,
}

/// How jobs are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobSettings {
    /// Jobs that run at the same time; with 0 alerts are decided about and nothing is done.
    pub workers: usize,
    /// How often a job is begun without coming further before it is given up.
    pub attempts: u32,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { workers: 4, attempts: 10 }
    }
}
