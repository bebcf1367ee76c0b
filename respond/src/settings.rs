//! What `exhibit serve --config FILE` is told. Secrets are named by file, never written here.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

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

/// No file of settings is longer.
const LONGEST: u64 = 1 << 20;

impl Settings {
    /// Reads a file of settings. Paths in it that are not absolute start at its folder.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], and [`Error::Settings`] with the line of what is wrong.
    pub fn load(file: &Path) -> Result<Self> {
        let mut text = String::new();
        let read = std::fs::File::open(file).and_then(|open| open.take(LONGEST).read_to_string(&mut text));
        read.map_err(|source| Error::Read { path: file.to_owned(), source })?;
        let wrong =
            |error: toml::de::Error| Error::Settings { path: file.to_owned(), what: error.to_string() };
        let mut settings: Self = toml::from_str(&text).map_err(wrong)?;
        settings.start_at(file.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    fn start_at(&mut self, folder: &Path) {
        let from_folder = |path: &mut PathBuf| *path = folder.join(&*path);
        from_folder(&mut self.state);
        from_folder(&mut self.cases);
        from_folder(&mut self.rules);
        self.inventory.iter_mut().for_each(from_folder);
        self.capture.key.iter_mut().for_each(from_folder);
        self.server.paths().for_each(from_folder);
        self.ready.paths().for_each(from_folder);
        self.sources.iter_mut().flat_map(crate::authenticate::SourceSettings::paths).for_each(from_folder);
        self.notify.values_mut().filter_map(|one| one.secret_file.as_mut()).for_each(from_folder);
    }
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
