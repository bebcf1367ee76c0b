//! Rules as they are judged: checked, in order, with every default filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::amounts::Rate;
use super::field::{Field, Subject};
use super::limits::Limits;
use super::matcher::Matcher;
use super::raw::Then;
use super::{Approval, Mode, PlannedStep, Reason, Repeat};
use crate::alert::{Alert, AssetKind};
use crate::inventory::Asset;
use crate::steps::Phase;

/// All rules in force, in the order in which they are looked at.
#[derive(Debug, Clone)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) limits: Limits,
    pub(crate) protect: Vec<Match>,
    pub(crate) sha256: String,
}

impl RuleSet {
    /// The rules, by order and id.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of this id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// What holds for all rules together.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether any asset is protected.
    #[must_use]
    pub fn protects(&self) -> bool {
        !self.protect.is_empty()
    }

    /// SHA-256 over the files that it was loaded from, in hexadecimal: which rules a decision was made by.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its id, unique among all files.
    pub id: String,
    /// What it is for, in words.
    pub about: String,
    /// Rules of a lower order are looked at first.
    pub order: i64,
    /// The second since 1970 from which it no longer holds.
    pub expires: Option<i64>,
    /// How far it goes by itself.
    pub mode: Mode,
    /// Who says yes to a plan of it, where the mode asks for that.
    pub approval: Approval,
    /// The role that an asset must have in the alert; `None` for any.
    pub role: Option<String>,
    /// Kinds of assets that it is for.
    pub kinds: Vec<AssetKind>,
    /// At most so many assets of one alert.
    pub most_assets: u32,
    /// Seconds within which a further alert of the same key is the same.
    pub dedup_window: u64,
    /// What a further alert of the same key does.
    pub repeat: Repeat,
    /// At most so many jobs for one asset.
    pub rate_per_asset: Option<Rate>,
    /// At most so many jobs.
    pub rate_per_rule: Option<Rate>,
    /// Above how many matches it is a storm, and what then.
    pub storm: Option<(Rate, Then)>,
    /// Whether no later rule is asked about an asset that this one took.
    pub stop: bool,
    /// Whether it isolates before it captures.
    pub isolate_first: bool,
    /// Its steps, in the order in which they begin.
    pub steps: Vec<PlannedStep>,
    /// The file that it stands in, and its line there.
    pub file: PathBuf,
    /// See `file`.
    pub line: Option<usize>,
    /// When each step is done, by its id.
    pub(crate) phases: BTreeMap<String, Phase>,
    /// The ids of those that isolate.
    pub(crate) isolating: BTreeSet<String>,
    pub(crate) dedup_key: Vec<Field>,
    pub(crate) matchers: Match,
}

impl Rule {
    /// Whether it no longer holds at this second since 1970.
    #[must_use]
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Whether some alert could have this rule act on an asset, as the inventory has it.
    pub(crate) fn may_be_for(&self, asset: &Asset) -> bool {
        self.kinds.contains(&asset.kind) && self.matchers.may_hold_of(asset)
    }
}

/// Three lists of matchers: all of the first must hold, one of the second if there are any, none of the third.
#[derive(Debug, Clone, Default)]
pub(crate) struct Match {
    pub(crate) all: Vec<Matcher>,
    pub(crate) any: Vec<Matcher>,
    pub(crate) none: Vec<Matcher>,
}

impl Match {
    /// Whether it holds.
    pub(crate) fn holds(&self, subject: &Subject<'_>) -> bool {
        self.all.iter().all(|matcher| matcher.holds(subject))
            && (self.any.is_empty() || self.any.iter().any(|matcher| matcher.holds(subject)))
            && !self.none.iter().any(|matcher| matcher.holds(subject))
    }

    /// Every matcher.
    pub(crate) fn matchers(&self) -> impl Iterator<Item = &Matcher> {
        self.all.iter().chain(&self.any).chain(&self.none)
    }

    /// Whether what it says of the alert alone leaves it possible that it holds of some asset.
    pub(crate) fn may_hold(&self, subject: &Subject<'_>) -> bool {
        let of_alert = |matcher: &&Matcher| !matcher.is_of_asset();
        self.all.iter().filter(of_alert).all(|matcher| matcher.holds(subject))
            && (self.any.is_empty()
                || self.any.iter().any(|matcher| matcher.is_of_asset() || matcher.holds(subject)))
            && !self.none.iter().filter(of_alert).any(|matcher| matcher.holds(subject))
    }

    /// Whether what it says of the asset alone leaves it possible that it holds for some alert. The role is the alert's word.
    pub(crate) fn may_hold_of(&self, asset: &Asset) -> bool {
        let alert = Alert::default();
        let subject = Subject { alert: &alert, asset: Some((asset, "")) };
        let is_known = |matcher: &&Matcher| matcher.is_of_asset() && matcher.field() != "asset.role";
        self.all.iter().filter(is_known).all(|matcher| matcher.holds(&subject))
            && (self.any.is_empty()
                || self.any.iter().any(|matcher| !is_known(&matcher) || matcher.holds(&subject)))
            && !self.none.iter().filter(is_known).any(|matcher| matcher.holds(&subject))
    }

    /// A reason for each matcher of the alert, or for each of the asset.
    pub(crate) fn explain(&self, rule: &str, subject: &Subject<'_>, of_asset: bool) -> Vec<Reason> {
        let lists = [("all", &self.all), ("any", &self.any), ("none", &self.none)];
        let mut reasons = Vec::new();
        for (name, list) in lists {
            for matcher in list.iter().filter(|matcher| matcher.is_of_asset() == of_asset) {
                let (holds, words) = matcher.explain(subject);
                let asset = match subject.asset {
                    Some((asset, _)) if of_asset => format!("{}: ", super::decide::named(asset)),
                    _ => String::new(),
                };
                // Of `none`, what does not hold speaks for the rule.
                let holds = holds != (name == "none");
                reasons.push(Reason {
                    rule: rule.to_owned(),
                    holds,
                    what: format!("{asset}{name} of: {words}"),
                });
            }
        }
        reasons
    }
}
