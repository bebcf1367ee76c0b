//! T4: a credential spray over everything, and what automation makes of it. Nothing is done: decisions, limits and the breaker
//! are those of the service, the counts that they are judged by are kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Line, made_alerts};
use crate::alert::{Alert, AssetKind};
use crate::inventory::Inventory;
use crate::ready::{Probe, Unable, read_inventory};
use crate::rules::{Gate, History, Mode, Plan, RuleSet, Subject};
use crate::steps::{Phase, named};

/// Assets that are sprayed.
const MOST_ASSETS: usize = 2_000;

/// Names that are forged.
const FORGED: usize = 50;

/// Seconds from one alert to the next.
const PACE: i64 = 2;

type Key = (AssetKind, String);

/// What was done so far, had it been done.
#[derive(Default)]
struct Done {
    matches: Vec<(String, i64)>,
    jobs: Vec<(String, Key, i64)>,
    captures: Vec<i64>,
    isolations: Vec<i64>,
    isolated: Vec<Key>,
    keys: BTreeSet<String>,
}

impl Done {
    fn count<'a>(times: impl Iterator<Item = &'a i64>, since: i64) -> u64 {
        times.filter(|at| **at >= since).count() as u64
    }
}

impl History for Done {
    fn matches(&self, rule: &str, since: i64) -> crate::Result<u64> {
        Ok(Self::count(self.matches.iter().filter(|(of, _)| of == rule).map(|(_, at)| at), since))
    }

    fn jobs(&self, rule: &str, since: i64) -> crate::Result<u64> {
        Ok(Self::count(self.jobs.iter().filter(|(of, ..)| of == rule).map(|(.., at)| at), since))
    }

    fn jobs_of_asset(&self, rule: &str, kind: AssetKind, id: &str, since: i64) -> crate::Result<u64> {
        let of_it = self
            .jobs
            .iter()
            .filter(|(of, (of_kind, of_id), _)| of == rule && *of_kind == kind && of_id == id);
        Ok(Self::count(of_it.map(|(.., at)| at), since))
    }

    fn captures(&self, since: i64) -> crate::Result<u64> {
        Ok(Self::count(self.captures.iter(), since))
    }

    /// Captures are taken to end before the next alert, so that the limit on those at work holds nothing back here.
    fn captures_now(&self) -> crate::Result<u64> {
        Ok(0)
    }

    fn bytes(&self, _: i64) -> crate::Result<u64> {
        Ok(0)
    }

    fn isolations(&self, since: i64) -> crate::Result<u64> {
        Ok(Self::count(self.isolations.iter(), since))
    }

    fn isolated(&self) -> crate::Result<Vec<Key>> {
        Ok(self.isolated.clone())
    }
}

/// What was counted on the way.
#[derive(Default)]
struct Seen {
    captured: usize,
    isolated: usize,
    held: BTreeMap<String, usize>,
    protected_touched: Vec<String>,
    unknown_touched: Vec<String>,
}

struct Simulation<'a> {
    rules: &'a RuleSet,
    inventory: &'a Inventory,
    accounts: &'a [String],
    done: Done,
    seen: Seen,
}

impl Simulation<'_> {
    fn alert(&mut self, alert: &Alert, now: i64) -> Result<(), Unable> {
        let decision = self.rules.decide(self.inventory, alert, now);
        for plan in decision.plans {
            self.done.matches.push((plan.rule.clone(), now));
            if plan.mode == Mode::Auto {
                self.plan(&plan, alert, now)?;
            }
        }
        Ok(())
    }

    fn plan(&mut self, plan: &Plan, alert: &Alert, now: i64) -> Result<(), Unable> {
        let key = (plan.asset.kind, plan.asset.id.clone());
        let name = format!("{}:{}", key.0.word(), key.1);
        let is_known = self.inventory.lists(&plan.asset);
        let is_owned = !plan.asset.account.is_empty() && self.accounts.contains(&plan.asset.account);
        if !is_known && !is_owned {
            self.seen.unknown_touched.push(name.clone());
        }
        let bucket = now / i64::try_from(plan.dedup_window.max(1)).unwrap_or(i64::MAX);
        if !self.done.keys.insert(format!("{bucket}{}", plan.dedup_key)) {
            return Ok(());
        }
        let admission = self.rules.admit(plan, &self.done, now)?;
        let Some(plan) = admission.plan.filter(|plan| plan.mode == Mode::Auto) else {
            self.hold("limits of the rule");
            return Ok(());
        };
        self.done.jobs.push((plan.rule.clone(), key.clone(), now));
        let phase = |word: &str| named(word).map(|step| (step.phase(), step.isolates()));
        let captures = plan
            .steps
            .iter()
            .any(|step| matches!(phase(&step.word), Some((Phase::Volatile | Phase::Disk | Phase::Slow, _))));
        if captures {
            match self.rules.may_capture(&self.done, now)? {
                Gate::Open => {
                    self.done.captures.push(now);
                    self.seen.captured += 1;
                }
                Gate::Later(_) | Gate::Person(_) => self.hold("limits of captures"),
            }
        }
        for step in plan.steps.iter().filter(|step| phase(&step.word).is_some_and(|(_, isolates)| isolates)) {
            // Nobody answers in a spray: what is run then is run.
            if step.approval.as_ref().is_some_and(|approval| !approval.run_on_timeout) {
                self.hold("a person is asked");
                continue;
            }
            match self.rules.may_isolate(&plan.asset, self.inventory, &self.done, now)? {
                Gate::Open => {
                    let subject = Subject { alert, asset: Some((&plan.asset, "primary")) };
                    if self.rules.protect.iter().any(|protect| protect.holds(&subject)) {
                        self.seen.protected_touched.push(name.clone());
                    }
                    if !self.done.isolated.contains(&key) {
                        self.done.isolated.push(key.clone());
                        self.done.isolations.push(now);
                        self.seen.isolated += 1;
                    }
                }
                Gate::Later(_) | Gate::Person(_) => self.hold("the breaker of isolations"),
            }
        }
        Ok(())
    }

    fn hold(&mut self, by: &str) {
        *self.seen.held.entry(by.to_owned()).or_default() += 1;
    }
}

/// The most of these moments that lie within an hour.
fn most_within_an_hour(times: &[i64]) -> usize {
    let within =
        |at: &i64| times.iter().filter(|other| **other >= *at && **other < at.saturating_add(3_600)).count();
    times.iter().map(within).max().unwrap_or(0)
}

pub(super) fn run(probe: &Arc<Probe>) -> Result<Vec<Line>, Unable> {
    let inventory = read_inventory(probe)?;
    let rules = RuleSet::load(&probe.settings.rules)?;
    let clock = probe.clock.now();
    let (start, at) = (clock.wall_ns / 1_000_000_000, clock.rfc3339());
    let assets: Vec<_> = inventory.assets().iter().take(MOST_ASSETS).cloned().collect();
    let Some(like) = assets.first() else {
        return Err(Unable::NotApplicable("the inventory is empty: there is nothing to spray".to_owned()));
    };
    let mut alerts = Vec::new();
    for (number, asset) in assets.iter().enumerate() {
        alerts.extend(made_alerts::about(asset, number, &at));
    }
    for number in 0..FORGED {
        let id = match like.kind {
            AssetKind::Ec2Instance => format!("i-{:017x}", 0xdead_0000 + number),
            AssetKind::EbsVolume => format!("vol-{:017x}", 0xdead_0000 + number),
            AssetKind::Container => format!("{:064x}", 0xdead_0000 + number),
            _ => format!("forged-{number}"),
        };
        // Between the others, as a flood would have it.
        let place = (number * 37) % alerts.len().max(1);
        alerts.insert(place, made_alerts::forged(like, &id, assets.len() + number, &at));
    }
    let mut simulation = Simulation {
        rules: &rules,
        inventory: &inventory,
        accounts: &probe.settings.aws.accounts,
        done: Done::default(),
        seen: Seen::default(),
    };
    let mut now = start;
    for alert in &alerts {
        simulation.alert(alert, now)?;
        now = now.saturating_add(PACE);
    }
    let Simulation { done, seen, .. } = simulation;
    let limits = rules.limits();
    let acted = seen.captured + seen.isolated;
    let held: Vec<String> = seen.held.iter().map(|(by, count)| format!("{count} by {by}")).collect();
    let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
    let spray = format!(
        "{} alerts about {} assets in {} s, {FORGED} of them forged",
        alerts.len(),
        assets.len(),
        now.saturating_sub(start)
    );
    let told = |names: &[String]| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.iter().take(10).cloned().collect::<Vec<_>>().join(", ")
        }
    };
    let hourly = most_within_an_hour(&done.isolations);
    let captures = most_within_an_hour(&done.captures);
    let mut lines = vec![
        Line::new("a spray", true, spray),
        Line::new(
            "automation acts",
            acted > 0,
            format!("{} captures and {} isolations begun; held back: {held}", seen.captured, seen.isolated),
        ),
        Line::new(
            "no protected asset is isolated unasked",
            seen.protected_touched.is_empty(),
            told(&seen.protected_touched),
        ),
        Line::new(
            "some asset is protected",
            rules.protects(),
            if rules.protects() { "yes" } else { "[protect] is empty" },
        ),
        Line::new("nothing unknown is touched", seen.unknown_touched.is_empty(), told(&seen.unknown_touched)),
        Line::new(
            "isolations within an hour",
            hourly as u64 <= limits.isolations_per_hour,
            format!("{hourly}, {} at most", limits.isolations_per_hour),
        ),
        Line::new(
            "isolated at the same time",
            done.isolated.len() as u64 <= limits.isolations_at_once,
            format!("{}, {} at most", done.isolated.len(), limits.isolations_at_once),
        ),
        Line::new(
            "captures within an hour",
            captures as u64 <= limits.captures_per_hour,
            format!("{captures}, {} at most", limits.captures_per_hour),
        ),
    ];
    lines.extend(shares(&inventory, &done, limits.isolated_share_of_group));
    Ok(lines)
}

/// Of each group, the share that would be isolated; one line, the worst.
fn shares(inventory: &Inventory, done: &Done, most: f64) -> Option<Line> {
    let groups: BTreeSet<&str> = inventory.assets().iter().map(|asset| asset.group.as_str()).collect();
    let share = |group: &str| {
        let members = inventory.group(group);
        let isolated =
            members.iter().filter(|asset| done.isolated.contains(&(asset.kind, asset.id.clone()))).count();
        isolated as f64 / members.len().max(1) as f64
    };
    let shares = groups.into_iter().filter(|group| !group.is_empty()).map(|group| (group, share(group)));
    let (group, worst) = shares.max_by(|one, other| one.1.total_cmp(&other.1))?;
    let seen = format!("{:.0} % of {group:?}, {:.0} % at most", worst * 100.0, most * 100.0);
    Some(Line::new("share of a group", worst <= most, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_hour_is_found_wherever_it_begins() {
        assert_eq!(most_within_an_hour(&[0, 3_000, 3_599, 3_600, 9_000]), 3);
        assert_eq!(most_within_an_hour(&[]), 0);
    }
}
