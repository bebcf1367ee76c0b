//! Whether rules and inventory are what they should be: everything in scope, nothing expired, somebody protected.

use std::collections::BTreeSet;

use serde_json::json;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use crate::inventory::{Discover as _, Ec2Assets, Inventory};
use crate::rules::{Mode, RuleSet};

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD42",
        version: 2,
        severity: Severity::Medium,
        title: "every asset is in the inventory, and some rule is for it",
        scope: "inventory",
        tested: "the inventory is read; for each asset there must be a rule in force whose kinds have it and whose matchers of \
                 assets can hold of it, unless `ready.exempt` names it; an asset for which there is only a rule that observes is a \
                 warning; assets that are new since the last run are told; what EC2 says it has (DescribeInstances, \
                 DescribeVolumes) must be in the inventory",
        remediation: "write a rule for the asset, or name the asset in ready.exempt; `exhibit inventory discover --config FILE -o FILE` writes what was discovered",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: inventory,
    },
    Check {
        id: "RD43",
        version: 1,
        severity: Severity::Medium,
        title: "rules can be read, hold, match, and protect what must not be isolated",
        scope: "rules",
        tested: "the rules are loaded and read over; expired ones, ones that isolate by themselves without any protected asset \
                 (without ones that do, an empty [protect] is a warning), and in the state ones that made no job in `ready.unmatched_days`",
        remediation: "`exhibit rules check` says file and line; mend, renew or remove the rule; fill [protect]",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: rules,
    },
];

/// Names of assets that are told one by one.
const NAMED: usize = 20;

/// The assets that may be acted on.
pub(crate) fn read_inventory(probe: &Probe) -> Result<Inventory, Unable> {
    let path =
        probe.settings.inventory.as_ref().ok_or_else(|| Unable::none("the settings name no inventory"))?;
    Ok(Inventory::load(path)?.with_accounts(probe.settings.aws.accounts.clone()))
}

fn few(mut names: Vec<String>) -> String {
    let beyond = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if beyond > 0 { format!(" and {beyond} more") } else { String::new() };
    names.join(", ") + &more
}

fn inventory(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let inventory = read_inventory(probe)?;
    let rules = RuleSet::load(&probe.settings.rules)?;
    let now = probe.now();
    let exempt = &probe.settings.ready.exempt;
    let name = |kind: crate::alert::AssetKind, id: &str| format!("{}:{id}", kind.word());
    let names: BTreeSet<String> =
        inventory.assets().iter().map(|asset| name(asset.kind, &asset.id)).collect();
    let in_force: Vec<_> = rules.rules().iter().filter(|rule| !rule.has_expired(now)).collect();
    let (mut uncovered, mut observed) = (Vec::new(), Vec::new());
    for asset in inventory.assets() {
        let name = name(asset.kind, &asset.id);
        if exempt.contains(&name) {
            continue;
        }
        let of_it = in_force.iter().filter(|rule| rule.may_be_for(asset));
        let modes: Vec<Mode> = of_it.map(|rule| rule.mode).collect();
        if modes.is_empty() {
            uncovered.push(name);
        } else if modes.iter().all(|mode| *mode == Mode::Observe) {
            observed.push(name);
        }
    }
    let before = probe.state.as_ref().ok().map(|state| state.last_readiness_evidence("RD42")).transpose()?;
    let new = before.flatten().map(|bytes| {
        let before = serde_json::from_slice::<BTreeSet<String>>(&bytes).ok()?;
        Some(names.difference(&before).cloned().collect::<Vec<_>>())
    });
    let mut told = match new {
        // The first run, or nothing new.
        None => String::new(),
        Some(Some(new)) if new.is_empty() => String::new(),
        Some(Some(new)) => format!("; {} new: {}", new.len(), few(new)),
        Some(None) => {
            "; what is new cannot be told: the list of the last run is too long to have been kept whole"
                .to_owned()
        }
    };
    if !observed.is_empty() {
        told = format!("; {} are only observed: {}{told}", observed.len(), few(observed.clone()));
    }
    let expected = "some rule that acts is for every asset";
    let (status, seen) = match (names.is_empty(), uncovered.is_empty()) {
        (true, _) => (Status::Fail, "the inventory is empty".to_owned()),
        (false, true) => {
            let status = if observed.is_empty() { Status::Pass } else { Status::Warn };
            (status, format!("{} assets, and a rule for each{told}", names.len()))
        }
        (false, false) => {
            let (count, all) = (uncovered.len(), names.len());
            (Status::Fail, format!("no rule is for {count} of {all}: {}{told}", few(uncovered)))
        }
    };
    let mut found =
        vec![Finding::new("inventory", status, seen, expected).with_evidence(json!(names).to_string())];
    match probe.aws() {
        Err(Unable::NotApplicable(_)) => {}
        Err(why) => return Err(why),
        Ok(connection) => {
            let account = probe.region_scope()?;
            let discovered = Ec2Assets { connection }.assets()?;
            let unknown: Vec<String> = discovered
                .iter()
                .map(|asset| name(asset.kind, &asset.id))
                .filter(|name| !names.contains(name) && !exempt.contains(name))
                .collect();
            let seen = if unknown.is_empty() {
                format!("all {} that EC2 has are in the inventory", discovered.len())
            } else {
                format!(
                    "{} of {} are not in the inventory: {}",
                    unknown.len(),
                    discovered.len(),
                    few(unknown.clone())
                )
            };
            found.push(Finding::of(
                account,
                unknown.is_empty(),
                seen,
                "everything that EC2 has is in the inventory",
            ));
        }
    }
    Ok(found)
}

fn rules(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let path = &probe.settings.rules;
    let scope = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !path.exists() {
        return Err(Unable::untested(format!("{} is not there", path.display())));
    }
    let set = match RuleSet::load(path) {
        Ok(set) => set,
        // They were read, and are wrong: the service would not start.
        Err(error @ crate::Error::Settings { .. }) => {
            return Ok(vec![Finding::of(scope, false, error.to_string(), "rules that can be read")]);
        }
        Err(error) => return Err(error.into()),
    };
    let now = probe.now();
    let mut found = Vec::new();
    for remark in set.review(now) {
        let is_expired = set.rule(&remark.rule).is_some_and(|rule| rule.has_expired(now));
        // What concerns all rules, and what no longer holds, is a failure; the rest is for a person to look at.
        let status = if remark.rule.is_empty() || is_expired { Status::Fail } else { Status::Warn };
        let scope = if remark.rule.is_empty() { scope.clone() } else { remark.rule };
        found.push(Finding::new(scope, status, remark.what, "nothing to remark"));
    }
    let is_told = found.iter().any(|one| one.observed.contains("[protect]"));
    if !set.protects() && !set.rules().is_empty() && !is_told {
        let seen = "[protect] names no asset, though no rule isolates by itself yet";
        found.push(Finding::new(format!("{scope}/protect"), Status::Warn, seen, "some asset is protected"));
    }
    let matched = probe.state()?.rules_matched()?;
    let days = i64::try_from(probe.settings.ready.unmatched_days).unwrap_or(i64::MAX);
    let since = probe.clock.now().wall_ns.saturating_sub(days.saturating_mul(DAY_NS));
    let silent: Vec<String> = set
        .rules()
        .iter()
        .filter(|rule| matched.get(&rule.id).is_none_or(|at| *at < since))
        .map(|rule| rule.id.clone())
        .collect();
    if !silent.is_empty() {
        let seen = format!("made no job in {days} days: {}", few(silent));
        found.push(Finding::new(
            format!("{scope}/matches"),
            Status::Warn,
            seen,
            "every rule matches now and then",
        ));
    }
    if found.is_empty() {
        let seen = format!("{} rules, nothing to remark; SHA-256 {}", set.rules().len(), set.sha256());
        found.push(Finding::of(scope, true, seen, "nothing to remark"));
    }
    Ok(found.into_iter().map(|one| one.with_evidence(set.sha256())).collect())
}
