//! What holds for all rules together: how much is captured and isolated at most, and what a storm makes of a plan.
//!
//! Judged by a pure function over counts, which whoever keeps the jobs gives.

use super::amounts::{Rate, spoken};
use super::decide::named;
use super::graph;
use super::raw::Then;
use super::rule::{Rule, RuleSet};
use super::{Mode, Plan, PlannedStep, Reason};
use crate::alert::AssetKind;
use crate::error::Result;
use crate::inventory::{Asset, Inventory};
use crate::steps::Phase;

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// Limits over all rules. They are in force even where no file says them.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Jobs that capture, begun within an hour.
    pub captures_per_hour: u64,
    /// Jobs that capture, at work at the same time.
    pub captures_at_once: u64,
    /// Bytes that all captures of a day read.
    pub bytes_per_day: Option<u64>,
    /// Isolations begun within an hour.
    pub isolations_per_hour: u64,
    /// Assets isolated at the same time.
    pub isolations_at_once: u64,
    /// Of the assets of one group, the share that is isolated at the same time.
    pub isolated_share_of_group: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            captures_per_hour: 30,
            captures_at_once: 4,
            bytes_per_day: None,
            isolations_per_hour: 5,
            isolations_at_once: 3,
            isolated_share_of_group: 0.34,
        }
    }
}

/// What was done so far. Times are seconds since 1970; `since` is part of the span.
pub trait History {
    /// Alerts that a rule matched, the present one among them, once for each asset that it has a plan for. The same occurrence of
    /// an alert sent again is not one more: it is known already and decided only once.
    ///
    /// # Errors
    ///
    /// Whatever the counting meets; then nothing is decided. So for all of these.
    fn matches(&self, rule: &str, since: i64) -> Result<u64>;

    /// Jobs of a rule that were made.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn jobs(&self, rule: &str, since: i64) -> Result<u64>;

    /// Those of them that are for one asset.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn jobs_of_asset(&self, rule: &str, kind: AssetKind, id: &str, since: i64) -> Result<u64>;

    /// Captures that were begun.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn captures(&self, since: i64) -> Result<u64>;

    /// Captures at work now.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn captures_now(&self) -> Result<u64>;

    /// Bytes that captures read.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn bytes(&self, since: i64) -> Result<u64>;

    /// Isolations that were begun, whatever came of them.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn isolations(&self, since: i64) -> Result<u64>;

    /// Assets that are isolated now.
    #[allow(clippy::missing_errors_doc, reason = "as `matches`")]
    fn isolated(&self) -> Result<Vec<(AssetKind, String)>>;
}

/// What of a plan becomes a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// The plan, perhaps less of it than was decided; `None`: no job is made.
    pub plan: Option<Plan>,
    /// Why it is less.
    pub reasons: Vec<Reason>,
}

/// Whether something may begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not yet: ask again later. Nothing is lost.
    Later(String),
    /// Only when a person says yes.
    Person(String),
}

impl RuleSet {
    /// What of a plan becomes a job, after what was done so far: asked once, before the job is made.
    ///
    /// # Errors
    ///
    /// As [`History::matches`].
    pub fn admit(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<Admission> {
        let Some(rule) = self.rule(&plan.rule) else {
            let what = "its rule is no longer there".to_owned();
            return Ok(none(plan, what));
        };
        if let Some(rate) = rule.rate_per_asset {
            let (kind, id) = (plan.asset.kind, plan.asset.id.as_str());
            let made = history.jobs_of_asset(&rule.id, kind, id, since(now, rate))?;
            if made >= rate.count {
                return Ok(none(
                    plan,
                    format!("{} has had its {rate}: `rate.per_asset`", named(&plan.asset)),
                ));
            }
        }
        if let Some(rate) = rule.rate_per_rule
            && history.jobs(&rule.id, since(now, rate))? >= rate.count
        {
            return Ok(none(plan, format!("the rule has had its {rate}: `rate.per_rule`")));
        }
        if let Some((over, then, matches)) = storm(rule, history, now)? {
            return Ok(of_storm(rule, plan, then, matches, over));
        }
        Ok(Admission { plan: Some(plan.clone()), reasons: Vec::new() })
    }

    /// Whether it is still a storm for the rule of a plan: asked before a job that a storm cut short gets the rest of its steps.
    ///
    /// # Errors
    ///
    /// As [`History::matches`].
    pub fn is_storm(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<bool> {
        match self.rule(&plan.rule) {
            Some(rule) => Ok(storm(rule, history, now)?.is_some()),
            None => Ok(false),
        }
    }

    /// Whether a job that captures may begin now. Asked before its first capture.
    ///
    /// # Errors
    ///
    /// As [`History::matches`].
    pub fn may_capture(&self, history: &dyn History, now: i64) -> Result<Gate> {
        let limits = &self.limits;
        if history.captures_now()? >= limits.captures_at_once {
            let what =
                format!("{} captures are at work: `limits.captures.concurrent`", limits.captures_at_once);
            return Ok(Gate::Later(what));
        }
        if history.captures(now.saturating_sub(HOUR))? >= limits.captures_per_hour {
            let what = format!(
                "{} captures were begun within an hour: `limits.captures.per_hour`",
                limits.captures_per_hour
            );
            return Ok(Gate::Later(what));
        }
        if let Some(most) = limits.bytes_per_day
            && history.bytes(now.saturating_sub(DAY))? >= most
        {
            let what = format!("{most} bytes were captured within a day: `limits.captures.bytes_per_day`");
            return Ok(Gate::Later(what));
        }
        Ok(Gate::Open)
    }

    /// Whether an asset may be isolated now without a person. Asked before each step that isolates.
    ///
    /// The breaker never takes an isolation back, and what it stops a person can still say yes to.
    ///
    /// # Errors
    ///
    /// As [`History::matches`].
    pub fn may_isolate(
        &self,
        asset: &Asset,
        inventory: &Inventory,
        history: &dyn History,
        now: i64,
    ) -> Result<Gate> {
        let limits = &self.limits;
        let isolated = history.isolated()?;
        if isolated.iter().any(|(kind, id)| *kind == asset.kind && *id == asset.id) {
            // A second way of isolating the same: it is counted already.
            return Ok(Gate::Open);
        }
        if history.isolations(now.saturating_sub(HOUR))? >= limits.isolations_per_hour {
            let what = format!(
                "{} isolations were begun within an hour: `limits.isolations.per_hour`",
                limits.isolations_per_hour
            );
            return Ok(Gate::Person(what));
        }
        if u64::try_from(isolated.len()).unwrap_or(u64::MAX) >= limits.isolations_at_once {
            let what =
                format!("{} assets are isolated: `limits.isolations.concurrent`", limits.isolations_at_once);
            return Ok(Gate::Person(what));
        }
        if asset.group.is_empty() {
            return Ok(Gate::Open);
        }
        let members = inventory.group(&asset.group);
        let of_group = members
            .iter()
            .filter(|member| isolated.iter().any(|(kind, id)| *kind == member.kind && *id == member.id))
            .count();
        let (after, all) = (of_group + 1, members.len().max(1));
        #[allow(clippy::cast_precision_loss, reason = "assets are counted, not atoms")]
        let share = after as f64 / all as f64;
        if share > limits.isolated_share_of_group {
            let what = format!(
                "{after} of {all} of group {:?} would be isolated: `limits.isolations.max_share_of_group`",
                asset.group
            );
            return Ok(Gate::Person(what));
        }
        Ok(Gate::Open)
    }
}

/// What a rule does in a storm, if this is one, and how many alerts make it one.
fn storm(rule: &Rule, history: &dyn History, now: i64) -> Result<Option<(Rate, Then, u64)>> {
    let Some((over, then)) = rule.storm else { return Ok(None) };
    let matches = history.matches(&rule.id, since(now, over))?;
    Ok((matches > over.count).then_some((over, then, matches)))
}

fn since(now: i64, rate: Rate) -> i64 {
    now.saturating_sub(i64::try_from(rate.within).unwrap_or(i64::MAX))
}

fn none(plan: &Plan, what: String) -> Admission {
    let reason = Reason { rule: plan.rule.clone(), holds: false, what };
    Admission { plan: None, reasons: vec![reason] }
}

fn of_storm(rule: &Rule, plan: &Plan, then: Then, matches: u64, over: Rate) -> Admission {
    let mut plan = plan.clone();
    let mut what = format!("a storm: {matches} alerts within {}", spoken(over.within));
    match then {
        Then::Observe => {
            plan.mode = Mode::Observe;
            plan.approval = None;
            what.push_str("; nothing is done but the record of it");
        }
        Then::TriageOnly => {
            let before = plan.steps.len();
            plan.steps = triage_only(rule, plan.steps);
            let left = before.saturating_sub(plan.steps.len());
            if plan.steps.is_empty() {
                // A job without a step would only stand in the way of the whole one.
                what.push_str("; none of its steps is triage, so no job is made: an alert after the storm makes the whole one");
                return none(&plan, what);
            }
            plan.truncated = left > 0;
            what.push_str(&format!("; {left} of {before} steps are left out: triage only"));
        }
    }
    let reasons = vec![Reason { rule: rule.id.clone(), holds: false, what }];
    Admission { plan: Some(plan), reasons }
}

/// What is quick and changes nothing that users would notice: protection, triage, telling people. Memory is not quick.
fn triage_only(rule: &Rule, steps: Vec<PlannedStep>) -> Vec<PlannedStep> {
    let stays = |step: &PlannedStep| match rule.phases.get(&step.id) {
        Some(Phase::Protect | Phase::Tell) => !rule.isolating.contains(&step.id),
        Some(Phase::Volatile) => !step.word.contains("memory"),
        _ => false,
    };
    let (mut kept, gone): (Vec<_>, Vec<_>) = steps.into_iter().partition(stays);
    let is_gone = |need: &String| {
        graph::need(need).is_ok_and(|(id, _)| gone.iter().any(|step: &PlannedStep| step.id == id))
    };
    for step in &mut kept {
        step.needs.retain(|need| !is_gone(need));
        if step.needs.is_empty() {
            step.max_wait = 0;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::made_steps::{BACKDOOR, BEFORE, alert, asset, inventory, rules};
    use super::*;

    /// Counts as a test says them, whatever the span.
    #[derive(Default)]
    struct Counts {
        matches: u64,
        jobs: u64,
        jobs_of_asset: u64,
        captures: u64,
        captures_now: u64,
        bytes: u64,
        isolations: u64,
        isolated: Vec<usize>,
    }

    impl History for Counts {
        fn matches(&self, _: &str, since: i64) -> Result<u64> {
            assert_eq!(since, BEFORE - 300);
            Ok(self.matches)
        }
        fn jobs(&self, _: &str, since: i64) -> Result<u64> {
            assert_eq!(since, BEFORE - 3_600);
            Ok(self.jobs)
        }
        fn jobs_of_asset(&self, _: &str, _: AssetKind, _: &str, since: i64) -> Result<u64> {
            assert_eq!(since, BEFORE - 21_600);
            Ok(self.jobs_of_asset)
        }
        fn captures(&self, since: i64) -> Result<u64> {
            assert_eq!(since, BEFORE - HOUR);
            Ok(self.captures)
        }
        fn captures_now(&self) -> Result<u64> {
            Ok(self.captures_now)
        }
        fn bytes(&self, since: i64) -> Result<u64> {
            assert_eq!(since, BEFORE - DAY);
            Ok(self.bytes)
        }
        fn isolations(&self, since: i64) -> Result<u64> {
            assert_eq!(since, BEFORE - HOUR);
            Ok(self.isolations)
        }
        fn isolated(&self) -> Result<Vec<(AssetKind, String)>> {
            Ok(self.isolated.iter().map(|number| (AssetKind::Ec2Instance, asset(*number).id)).collect())
        }
    }

    fn set() -> RuleSet {
        rules(BACKDOOR).unwrap()
    }

    fn admitted(counts: &Counts) -> Admission {
        let plan = set().decide(&inventory(9), &alert(&[1]), BEFORE).plans.remove(0);
        set().admit(&plan, counts, BEFORE).unwrap()
    }

    #[test]
    fn rates_hold_up_to_their_count_and_not_beyond() {
        let whole = admitted(&Counts { jobs: 19, matches: 50, ..Counts::default() });
        assert!(whole.plan.is_some_and(|plan| plan.steps.len() == 5) && whole.reasons.is_empty());
        let asset = admitted(&Counts { jobs_of_asset: 1, ..Counts::default() });
        assert!(
            asset.plan.is_none() && asset.reasons[0].what.contains("has had its 1 in 6 h: `rate.per_asset`")
        );
        let rule = admitted(&Counts { jobs: 20, ..Counts::default() });
        assert!(rule.plan.is_none() && rule.reasons[0].what.contains("20 in 1 h: `rate.per_rule`"));
    }

    #[test]
    fn a_storm_leaves_what_is_quick_and_says_so() {
        let counts = Counts { matches: 51, ..Counts::default() };
        let storm = admitted(&counts);
        let plan = storm.plan.unwrap();
        let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["protect", "tell"]);
        assert_eq!(plan.steps[1].needs, ["protect:finished"]);
        assert!(plan.truncated, "what was left out is still owed");
        assert!(storm.reasons[0].what.contains("51 alerts within 5 min; 3 of 5 steps are left out"));
        let text = BACKDOOR.replace("\"triage_only\"", "\"observe\"");
        let plan = set().decide(&inventory(9), &alert(&[1]), BEFORE).plans.remove(0);
        let observed = rules(&text).unwrap().admit(&plan, &counts, BEFORE).unwrap().plan.unwrap();
        assert_eq!((observed.mode, observed.steps.len(), observed.truncated), (Mode::Observe, 5, false));
    }

    #[test]
    fn a_storm_that_leaves_no_step_makes_no_job() {
        let (before, _) = BACKDOOR.split_once("step = [").unwrap();
        let text = format!("{before}step = [ {{ id = \"disk\", use = \"capture.ebs_snapshot\" }} ]\n");
        let set = rules(&text).unwrap();
        let plan = set.decide(&inventory(9), &alert(&[1]), BEFORE).plans.remove(0);
        let storm = set.admit(&plan, &Counts { matches: 51, ..Counts::default() }, BEFORE).unwrap();
        assert!(storm.plan.is_none() && storm.reasons[0].what.contains("no job is made"), "{storm:?}");
        let calm = set.admit(&plan, &Counts { matches: 50, ..Counts::default() }, BEFORE).unwrap();
        assert!(calm.plan.is_some_and(|plan| !plan.truncated && plan.steps.len() == 1));
    }

    #[test]
    fn it_is_a_storm_above_the_count_and_not_at_it() {
        let plan = set().decide(&inventory(9), &alert(&[1]), BEFORE).plans.remove(0);
        let is_storm = |matches, text: &str| {
            let counts = Counts { matches, ..Counts::default() };
            rules(text).unwrap().is_storm(&plan, &counts, BEFORE).unwrap()
        };
        assert_eq!((is_storm(50, BACKDOOR), is_storm(51, BACKDOOR)), (false, true));
        // Rules may have changed since: without a word of storms there is none.
        let calm = BACKDOOR.replace("storm  = { over = \"50/5m\", then = \"triage_only\" }\n", "");
        assert!(!is_storm(51, &calm));
    }

    #[test]
    fn captures_wait_and_are_not_dropped() {
        let gate = |counts: &Counts| set().may_capture(counts, BEFORE).unwrap();
        assert_eq!(
            gate(&Counts { captures: 29, captures_now: 3, bytes: (2 << 40) - 1, ..Counts::default() }),
            Gate::Open
        );
        for (counts, says) in [
            (Counts { captures: 30, ..Counts::default() }, "per_hour"),
            (Counts { captures_now: 4, ..Counts::default() }, "concurrent"),
            (Counts { bytes: 2 << 40, ..Counts::default() }, "bytes_per_day"),
        ] {
            assert!(matches!(gate(&counts), Gate::Later(why) if why.contains(says)), "{says}");
        }
    }

    #[test]
    fn beyond_the_breaker_a_person_isolates() {
        let members = (0..6).map(|number| Asset { group: "web".into(), ..asset(number) });
        let assets = Inventory::of(members);
        let gate = |number: usize, counts: &Counts| {
            let asset =
                Asset { group: if number < 6 { "web".into() } else { String::new() }, ..asset(number) };
            set().may_isolate(&asset, &assets, counts, BEFORE).unwrap()
        };
        let of = |isolated: &[usize]| Counts { isolated: isolated.to_vec(), ..Counts::default() };
        // Of six, 0.34 is two.
        assert_eq!(gate(0, &of(&[1])), Gate::Open);
        assert!(
            matches!(gate(0, &of(&[1, 2])), Gate::Person(why) if why.contains("3 of 6 of group \"web\""))
        );
        assert_eq!(gate(1, &of(&[1, 2])), Gate::Open, "it is isolated already");
        assert_eq!(gate(7, &of(&[1, 2])), Gate::Open, "it is of no group");
        assert!(matches!(gate(7, &of(&[1, 2, 3])), Gate::Person(why) if why.contains("concurrent")));
        let many = Counts { isolations: 5, ..Counts::default() };
        assert!(matches!(gate(7, &many), Gate::Person(why) if why.contains("per_hour")));
    }
}
