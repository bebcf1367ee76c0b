//! What a rule can have done. One file a step; [`STEPS`] is the table.
//!
//! A step may be run again after a kill at any instruction: it looks for what an earlier run has done before it does it.

pub(crate) mod capture;
pub(crate) mod child;
mod ebs_snapshot;
mod ec2_protect;
pub(crate) mod elsewhere;
pub(crate) mod exhibits;
pub mod isolate;
pub(crate) mod keep_alert;
pub(crate) mod notify;
mod timeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use crate::alert::{Alert, AssetKind};
use crate::inventory::Asset;
use crate::settings::Settings;

/// One step of the table.
pub trait Step: Sync {
    /// The word in rules, such as `capture.memory`.
    fn word(&self) -> &'static str;

    /// What it does, in one sentence for people.
    fn about(&self) -> &'static str;

    /// What it can be done to.
    fn takes(&self, kind: AssetKind) -> bool;

    /// Whether it changes something that users would notice, so that limits of isolation hold for it.
    fn isolates(&self) -> bool {
        false
    }

    /// Whether it can be taken back, so that a rule may give it a lease.
    fn undoes(&self) -> bool {
        self.isolates()
    }

    /// Whether an intent tells of something that [`Step::undo`] takes back, given that intent as `recorded`: a run that did not come
    /// to its end left nothing else.
    fn is_undone_from(&self, intent: &Value) -> bool {
        intent.get("recorded").is_some()
    }

    /// What else a rule may say of it. A rule that says anything else is refused when it is loaded.
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }

    /// Whether what a rule says of it can be meant, beyond its kind: asked when rules are loaded, so that a mistake is not found
    /// when it is too late.
    ///
    /// # Errors
    ///
    /// What is wrong, in a sentence.
    fn check(&self, parameters: &serde_json::Map<String, Value>) -> Result<(), String> {
        let _ = parameters;
        Ok(())
    }

    /// When it is done, among steps of which none waits for another.
    fn phase(&self) -> Phase {
        Phase::of(self.word(), self.isolates())
    }

    /// Does it, or finds that it was done; gives what the journal and later steps are to know.
    ///
    /// # Errors
    ///
    /// [`Failed`], which says whether another try may help.
    fn run(&self, context: &Context<'_>) -> Result<Value, Failed>;

    /// Takes it back, as `recorded` (what `run` gave) says it was before.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn undo(&self, context: &Context<'_>, recorded: &Value) -> Result<Value, Failed> {
        let _ = (context, recorded);
        Err(Failed::for_good(format!("{} cannot be taken back", self.word())))
    }
}

/// Something that a rule may say of a step beside what every step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in rules.
    pub name: &'static str,
    /// What it does, in one sentence for people.
    pub about: &'static str,
    /// What values it takes.
    pub takes: Takes,
}

/// Values that a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// A whole number, zero or above.
    Number,
    /// `true` or `false`.
    Flag,
    /// A span of time, such as `15m`.
    Span,
}

/// When a step is done, among steps of which none waits for another: what is lost first is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Keeps the asset from being ended or replaced.
    Protect,
    /// Takes what ends with the asset or its power: memory, processes, a container's changes.
    Volatile,
    /// Fixes the point in time of its disks.
    Disk,
    /// Cuts it off.
    Isolate,
    /// Takes credentials away.
    Credentials,
    /// Copies what does not go away meanwhile.
    Slow,
    /// Makes sense of what was taken.
    Analyse,
    /// Tells people.
    Tell,
}

impl Phase {
    /// As the word of a step says.
    #[must_use]
    pub fn of(word: &str, isolates: bool) -> Self {
        let (family, rest) = word.split_once('.').unwrap_or((word, ""));
        match family {
            "credentials" => Self::Credentials,
            _ if isolates => Self::Isolate,
            "protect" => Self::Protect,
            "aws" if rest.ends_with("protect") => Self::Protect,
            "capture" if rest.contains("ebs") || rest.contains("disk") => Self::Disk,
            "capture" if rest.contains("logs") => Self::Slow,
            "capture" => Self::Volatile,
            "build" | "timeline" | "report" => Self::Analyse,
            "notify" => Self::Tell,
            _ => Self::Slow,
        }
    }
}

/// What a step works with.
pub struct Context<'a> {
    /// The job, such as `J000017`; stands in the names and tags of all that it makes.
    pub job: &'a str,
    /// The step's id within its rule.
    pub id: &'a str,
    /// Its further parameters in the rule.
    pub parameters: &'a serde_json::Map<String, Value>,
    /// The alert that it began with.
    pub alert: &'a Alert,
    /// Seconds after which what it does ends by itself; 0 for never.
    pub lease: u64,
    /// What it is done to.
    pub asset: &'a Asset,
    /// The case.
    pub case: &'a Path,
    /// What was set.
    pub settings: &'a Settings,
    /// This program, for steps that are its commands.
    pub program: &'a PathBuf,
    /// What the steps that it needs gave.
    pub earlier: &'a BTreeMap<String, Value>,
    /// Writes an intent durably, before the act; a later run finds it in `intents`.
    pub intend: &'a dyn Fn(&Value) -> crate::Result<()>,
    /// Intents of earlier runs of this step, oldest first.
    pub intents: &'a [Value],
    /// Set when the service stops: end soon; the step is run again.
    pub stop: &'a AtomicBool,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failed {
    /// A sentence for people.
    pub what: String,
    /// Whether the same again may help.
    pub may_help_again: bool,
}

impl Failed {
    /// Another try may help.
    pub fn for_now(what: impl Into<String>) -> Self {
        Self { what: what.into(), may_help_again: true }
    }

    /// No try will help.
    pub fn for_good(what: impl Into<String>) -> Self {
        Self { what: what.into(), may_help_again: false }
    }
}

/// Every step.
pub static STEPS: &[&dyn Step] = &[
    keep_alert::KEEP_ALERT,
    capture::DISK,
    capture::MEMORY,
    capture::TRIAGE,
    capture::LOGS,
    capture::CLOUD_LOGS,
    ebs_snapshot::EBS_SNAPSHOT,
    ec2_protect::EC2_PROTECT,
    &isolate::HOST,
    &isolate::EC2,
    &isolate::DOCKER,
    &isolate::K8S,
    &isolate::IAM_KEY,
    &isolate::IAM_SESSIONS,
    notify::WEBHOOK,
    timeline::BUILD,
    timeline::ISSUE,
    elsewhere::CONTAINER,
    elsewhere::K8S_POD,
    &crate::edr::capture::CaptureEdr,
    &isolate::CROWDSTRIKE,
    &isolate::DEFENDER,
    &isolate::SENTINELONE,
];

/// The step of this word.
#[must_use]
pub fn named(word: &str) -> Option<&'static dyn Step> {
    STEPS.iter().copied().find(|step| step.word() == word)
}
