//! T3: one primitive threat, and everything that must follow.

use std::sync::Arc;

use super::rehearsal::{Rehearsed, jobs_of};
use super::{Line, made_alerts};
use crate::alert::{Alert, AssetKind, AssetRef};
use crate::ready::{Probe, Status, Unable, Wanted, read_inventory, run as run_checks};
use crate::rules::{Mode, Plan, PlannedStep, RuleSet};
use crate::state::jobs::{Job, JobState};
use crate::steps::{Phase, named};

/// Assets that are tried.
const MOST_ASSETS: usize = 5_000;

/// What must follow, the check that tries whether it works, and whether a step is of it.
struct Link {
    what: &'static str,
    check: &'static str,
    is_of: fn(Phase, &PlannedStep) -> bool,
}

const LINKS: [Link; 4] = [
    Link {
        what: "capture",
        check: "RD39",
        is_of: |phase, step| {
            matches!(phase, Phase::Volatile | Phase::Disk)
                || (phase == Phase::Slow && step.word.starts_with("capture."))
        },
    },
    Link {
        what: "isolation",
        check: "RD40",
        is_of: |phase, step| phase == Phase::Isolate && !of_credentials(step),
    },
    Link {
        what: "taking credentials away",
        check: "RD04",
        is_of: |phase, step| phase == Phase::Credentials || of_credentials(step),
    },
    Link { what: "telling people", check: "RD44", is_of: |phase, _| phase == Phase::Tell },
];

/// Whether a step takes credentials away: an isolation, but of who acts and not of where.
fn of_credentials(step: &PlannedStep) -> bool {
    step.word.starts_with("isolate.iam")
}

/// The step of a link that would run without a person between.
fn by_itself<'a>(
    plans: impl IntoIterator<Item = &'a Plan>,
    link: &Link,
) -> Option<(&'a Plan, &'a PlannedStep)> {
    let plans = plans.into_iter().filter(|plan| plan.mode == Mode::Auto);
    let mut steps = plans.flat_map(|plan| plan.steps.iter().map(move |step| (plan, step)));
    steps.find(|(plan, step)| {
        let known = named(&step.word).filter(|known| known.takes(plan.asset.kind));
        step.approval.is_none() && known.is_some_and(|known| (link.is_of)(known.phase(), step))
    })
}

pub(super) fn run(probe: &Arc<Probe>) -> Result<Vec<Line>, Unable> {
    let inventory = read_inventory(probe)?;
    let rules = RuleSet::load(&probe.settings.rules)?;
    let clock = probe.clock.now();
    let (now, at) = (clock.wall_ns / 1_000_000_000, clock.rfc3339());
    let is_key = |kind| matches!(kind, AssetKind::IamAccessKey | AssetKind::IamRole | AssetKind::IamUser);
    let keys: Vec<AssetRef> = inventory
        .assets()
        .iter()
        .filter(|asset| is_key(asset.kind))
        .take(3)
        .map(|asset| AssetRef { kind: asset.kind, id: asset.id.clone(), role: "primary".to_owned() })
        .collect();
    let mut best: Option<(usize, String, Alert)> = None;
    for (number, asset) in inventory.assets().iter().take(MOST_ASSETS).enumerate() {
        for mut alert in made_alerts::about(asset, number, &at) {
            // As a theft of an instance's credentials names both: the thing, and whose keys were used there.
            for key in &keys {
                if !alert.assets.contains(key) {
                    alert.assets.push(key.clone());
                }
            }
            let decision = rules.decide(&inventory, &alert, now);
            let count = LINKS.iter().filter(|link| by_itself(&decision.plans, link).is_some()).count();
            if best.as_ref().is_none_or(|(most, ..)| count > *most) {
                let threat = format!("{} about {}:{}", alert.kind, asset.kind.word(), asset.id);
                best = Some((count, threat, alert));
            }
        }
        if best.as_ref().is_some_and(|(count, ..)| *count == LINKS.len()) {
            break;
        }
    }
    let Some((_, threat, alert)) = best else {
        return Err(Unable::NotApplicable(
            "the inventory is empty: there is nothing that could be attacked".to_owned(),
        ));
    };
    let Rehearsed { jobs, after_again, seconds } = jobs_of(probe, rules, inventory, &alert)?;
    let begun: Vec<&Job> = jobs.iter().filter(|job| job.state == JobState::Queued).collect();
    let names: Vec<String> = begun
        .iter()
        .map(|job| {
            format!(
                "{}: rule {}, {}:{}",
                job.name(),
                job.plan.rule,
                job.plan.asset.kind.word(),
                job.plan.asset.id
            )
        })
        .collect();
    let made = if names.is_empty() { "none".to_owned() } else { names.join("; ") };
    let mut lines = vec![
        Line::new("a threat", true, threat),
        Line::new("it is stored, decided and becomes jobs", !begun.is_empty(), made).taking(seconds),
        Line::new(
            "the same again makes no further job",
            after_again == jobs.len(),
            format!("{} before, {after_again} after", jobs.len()),
        ),
    ];
    for link in &LINKS {
        lines.push(match by_itself(begun.iter().map(|job| &job.plan), link) {
            Some((plan, step)) => Line::new(
                format!("{} follows by itself", link.what),
                true,
                format!("rule {}: {}", plan.rule, step.word),
            ),
            None => {
                let held: Vec<String> = jobs
                    .iter()
                    .map(|job| {
                        let plan = &job.plan;
                        let words: Vec<&str> = plan.steps.iter().map(|step| step.word.as_str()).collect();
                        format!(
                            "rule {} ({:?}, {}): {}",
                            plan.rule,
                            plan.mode,
                            job.state.word(),
                            words.join(", ")
                        )
                    })
                    .collect();
                let held = if held.is_empty() { "no job was made of it".to_owned() } else { held.join("; ") };
                Line::new(format!("{} follows by itself", link.what), false, held)
            }
        });
    }
    // A link that follows by rule and does not work is none: each is tried by its check, not on the asset. RD39 captures a planted
    // disk and files, RD40 isolates networks of its own, RD44 sends to the channels; RD04 only asks the account whether it may.
    let wanted = Wanted { ids: LINKS.iter().map(|link| link.check.to_owned()).collect(), drills: Vec::new() };
    let keep = probe.state.as_ref().ok().cloned();
    let (_, found) = run_checks(probe, &wanted, keep.as_deref())?;
    for link in &LINKS {
        let of_it: Vec<_> = found.iter().filter(|one| one.check == link.check).collect();
        let holds =
            !of_it.is_empty() && of_it.iter().all(|one| matches!(one.status, Status::Pass | Status::Warn));
        let worst =
            of_it.iter().find(|one| !matches!(one.status, Status::Pass | Status::Warn)).or(of_it.first());
        let seen = worst.map_or("nothing was tried", |one| one.observed.as_str());
        let seconds = of_it.iter().map(|one| one.duration_ms).max().unwrap_or(0) as f64 / 1000.0;
        lines.push(Line::new(format!("{} works ({})", link.what, link.check), holds, seen).taking(seconds));
    }
    Ok(lines)
}
