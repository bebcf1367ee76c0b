//! What readiness is measured against: the section `[ready]` of the settings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What readiness is measured against. A check whose part is not named here or elsewhere in the settings does not apply.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadySettings {
    /// Roles that captures are made in, one for each account.
    #[serde(rename = "role")]
    pub roles: Vec<RoleSettings>,
    /// Volumes that stand for all: whether they can be captured is asked for these.
    pub volumes: Vec<String>,
    /// Instances that stand for all.
    pub instances: Vec<String>,
    /// Keys of KMS that in-scope volumes are encrypted with, besides those of the volumes above.
    pub kms_keys: Vec<String>,
    /// Buckets whose every reading and writing must be in CloudTrail.
    pub crown_buckets: Vec<String>,
    /// Days that logs must be kept.
    pub log_retention_days: u64,
    /// Days after which an access key is too old.
    pub access_key_days: u64,
    /// Files of age keys that open what is encrypted to `capture.encrypt_to`.
    pub identities: Vec<PathBuf>,
    /// The public half of the signing key as it was given out: PEM or a line of OpenSSH.
    pub public_key: Option<PathBuf>,
    /// Time-stamp authorities, the first choice first.
    #[serde(rename = "time_stamp")]
    pub time_stamps: Vec<TimeStampSettings>,
    /// Servers of NTP that this clock is compared with, as `host` or `host:port`.
    pub ntp: Vec<String>,
    /// Our binaries for hosts.
    #[serde(rename = "collector")]
    pub collectors: Vec<CollectorSettings>,
    /// GiB of the largest disk in scope.
    pub largest_disk_gib: Option<u64>,
    /// GiB of memory of the largest host in scope; this host's, if it is not said.
    pub largest_memory_gib: Option<u64>,
    /// MiB that the drill of throughput writes: 1,024 at most.
    pub throughput_mib: u64,
    /// Hours that the capture of the largest disk may take.
    pub longest_hours: u64,
    /// Sockets of container runtimes on this host.
    pub container_sockets: Vec<PathBuf>,
    /// Where alerts come in, as others see it: `https://ir.example.org`.
    pub public_url: Option<String>,
    /// PEM of the roots that the certificate of `public_url` may lead to, if it is none of Mozilla's.
    pub public_root: Option<PathBuf>,
    /// The source, of kind `generic`, that a test alert is sent as.
    pub test_source: Option<String>,
    /// Days after which a source that sent nothing is silent.
    pub silence_days: u64,
    /// Assets that no rule needs to be about, as `kind:id`.
    pub exempt: Vec<String>,
    /// Days after which a rule that never matched is looked at.
    pub unmatched_days: u64,
    /// Seconds after which the oldest open job is too old.
    pub oldest_job_seconds: u64,
    /// The folder that backups of the state are put in.
    pub backups: Option<PathBuf>,
    /// Hours after which the last backup is too old.
    pub backup_hours: u64,
    /// Keys of encrypted disks that lie in escrow.
    pub escrow: Vec<EscrowSettings>,
    /// Subscriptions of Azure whose logging is looked at.
    pub azure: Option<AzureSettings>,
    /// Projects of Google Cloud whose logging is looked at.
    pub gcp: Option<GcpSettings>,
    /// What the drills work on, besides what they make themselves.
    pub canary: CanarySettings,
    /// Seconds that any check may take, in place of its own limit.
    pub limit_seconds: Option<u64>,
}

impl Default for ReadySettings {
    fn default() -> Self {
        Self {
            roles: Vec::new(),
            volumes: Vec::new(),
            instances: Vec::new(),
            kms_keys: Vec::new(),
            crown_buckets: Vec::new(),
            log_retention_days: 365,
            access_key_days: 90,
            identities: Vec::new(),
            public_key: None,
            time_stamps: Vec::new(),
            ntp: Vec::new(),
            collectors: Vec::new(),
            largest_disk_gib: None,
            largest_memory_gib: None,
            throughput_mib: 256,
            longest_hours: 24,
            container_sockets: Vec::new(),
            public_url: None,
            public_root: None,
            test_source: None,
            silence_days: 7,
            exempt: Vec::new(),
            unmatched_days: 90,
            oldest_job_seconds: 3600,
            backups: None,
            backup_hours: 26,
            escrow: Vec::new(),
            azure: None,
            gcp: None,
            canary: CanarySettings::default(),
            limit_seconds: None,
        }
    }
}

impl ReadySettings {
    /// Every file and folder that it names.
    pub(crate) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let options = [&mut self.public_key, &mut self.public_root, &mut self.backups];
        let roots = self.time_stamps.iter_mut().map(|one| &mut one.root);
        let binaries = self.collectors.iter_mut().map(|one| &mut one.path);
        let keys = self.escrow.iter_mut().flat_map(|one| {
            [Some(&mut one.key_file), one.header.as_mut(), one.device.as_mut()].into_iter().flatten()
        });
        let azure = self.azure.iter_mut().map(|one| &mut one.client_secret_file);
        let gcp = self.gcp.iter_mut().map(|one| &mut one.service_account_file);
        let named = options.into_iter().flatten().chain(&mut self.identities).chain(roots).chain(binaries);
        named.chain(keys).chain(azure).chain(gcp)
    }
}

/// A role that captures are made in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// Its ARN.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
}

/// A time-stamp authority.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeStampSettings {
    /// Where requests are posted to.
    pub url: String,
    /// PEM of its root.
    pub root: PathBuf,
}

/// One of our binaries.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorSettings {
    /// `linux`
    pub os: String,
    /// `x86_64`, `aarch64`
    pub arch: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it must be.
    pub sha256: String,
}

/// A key of an encrypted disk, as it lies in escrow.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscrowSettings {
    /// Whose disk it is.
    pub asset: String,
    /// The UUID of the encrypted disk, as `lsblk` and `cryptsetup luksUUID` say it.
    pub uuid: String,
    /// A backup of its header (`cryptsetup luksHeaderBackup`) that the key is tried on.
    pub header: Option<PathBuf>,
    /// The disk itself, where it can be reached from here; only if there is no header.
    pub device: Option<PathBuf>,
    /// The key: all bytes of this file, a line feed at its end too.
    pub key_file: PathBuf,
}

/// Azure, as an application that may read (`Reader`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureSettings {
    /// The tenant's id.
    pub tenant: String,
    /// The application.
    pub client_id: String,
    /// File with its secret.
    pub client_secret_file: PathBuf,
    /// Ids of subscriptions.
    pub subscriptions: Vec<String>,
    /// `https://management.azure.com` unless told.
    pub url: Option<String>,
    /// `https://login.microsoftonline.com` unless told.
    pub login_url: Option<String>,
}

/// Google Cloud, as a service account that may read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcpSettings {
    /// The key of the service account, JSON as the console gives it.
    pub service_account_file: PathBuf,
    /// Ids of projects.
    pub projects: Vec<String>,
    /// In place of `https://*.googleapis.com`.
    pub url: Option<String>,
}

/// What drills work on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanarySettings {
    /// A snapshot, volume or instance that holds nothing but a canary: `exhibit acquire ebs` is run on it.
    pub ebs: Option<String>,
    /// Words that stand somewhere on it.
    pub planted: Option<String>,
}

/// Which drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// A canary is captured, verified, given out again and found.
    Capture,
    /// A canary is isolated, and put back as it was.
    Isolation,
    /// Old evidence is hashed, decrypted and its time stamps verified again.
    Restore,
}

impl DrillKind {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Capture, Self::Isolation, Self::Restore];

    /// As on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Isolation => "isolation",
            Self::Restore => "restore",
        }
    }

    /// The drill of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drill| drill.word() == word)
    }
}
