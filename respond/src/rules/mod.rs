//! Rules: which alerts have what done to which asset, and why. Pure: the same alert, rules and inventory give the same plan.

pub mod amounts;
mod current;
mod decide;
mod field;
mod files;
mod graph;
mod limits;
mod load;
#[cfg(test)]
mod made_steps;
mod matcher;
mod place;
mod plan_hash;
mod raw;
mod review;
mod rule;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::alert::Alert;
use crate::inventory::Asset;

pub use current::Current;
pub use decide::Decider;
pub use field::{FIELDS, FieldKind, Holds, Subject, TAGS};
pub(crate) use files::{files_of, read};
pub use graph::{Until, need};
pub use limits::{Admission, Gate, History, Limits};
pub use matcher::OPERATORS;
pub(crate) use place::{Fault, Part, Syntax};
pub use raw::Then;
pub use review::Remark;
pub use rule::{Rule, RuleSet};

/// What was decided about one alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decision {
    /// What is to be done; empty if nothing.
    pub plans: Vec<Plan>,
    /// Each rule that was looked at and, for each of its matchers, why it matched or not; each asset that was refused and why.
    pub reasons: Vec<Reason>,
}

/// A line of the explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The rule, or empty.
    pub rule: String,
    /// Whether it spoke for acting.
    pub holds: bool,
    /// In words.
    pub what: String,
}

/// How far a rule may go by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Say what would be done.
    Observe,
    /// Do it once a person said yes.
    Approve,
    /// Do it.
    Auto,
}

/// What is to be done to one asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The rule.
    pub rule: String,
    /// Its mode.
    pub mode: Mode,
    /// The asset.
    pub asset: Asset,
    /// Jobs with the same key are one job.
    pub dedup_key: String,
    /// Seconds within which the key means the same.
    pub dedup_window: u64,
    /// What a further alert of the same key does.
    pub repeat: Repeat,
    /// Whether a storm left out steps of it, which are still owed once the storm is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Who must say yes to all of it, where the mode is [`Mode::Approve`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// The steps, none before what it needs.
    pub steps: Vec<PlannedStep>,
}

/// What a further alert about an asset under capture does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// It is added to the case.
    Attach,
    /// It is kept, and that is all.
    Ignore,
    /// Steps that the job has not yet are added.
    Escalate,
    /// A new job.
    Rerun,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its id within the plan.
    pub id: String,
    /// The word of the step.
    #[serde(rename = "use")]
    pub word: String,
    /// Steps it waits for: `id`, `id:started`, `id:finished` (whatever came of it).
    pub needs: Vec<String>,
    /// Whether it runs whatever came of the others.
    pub always: bool,
    /// What its failure does: `continue` or `stop`.
    pub on_error: OnError,
    /// Seconds it may take.
    pub timeout: u64,
    /// Seconds to wait for what it needs, after which it runs all the same; 0 for ever.
    pub max_wait: u64,
    /// Tries after the first.
    pub retries: u32,
    /// Seconds before the second try and at most between two.
    pub backoff: (u64, u64),
    /// Seconds after which what it did is taken back; 0 for never.
    pub lease: u64,
    /// Who must say yes before it.
    pub approval: Option<Approval>,
    /// What else the rule says of it.
    pub parameters: Map<String, Value>,
}

/// What a failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Steps that need it are not run.
    Stop,
    /// They are.
    Continue,
}

/// Who must say yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Names or groups.
    pub from: Vec<String>,
    /// How many of them.
    pub count: u32,
    /// Seconds to wait.
    pub timeout: u64,
    /// Whether it is then run, or not.
    pub run_on_timeout: bool,
}

/// Decides about an alert.
pub trait Decide: Send + Sync {
    /// What is to be done, and why; never an error: what is missing does not match.
    fn decide(&self, alert: &Alert) -> Decision;
}
