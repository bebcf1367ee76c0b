//! The steps of a rule as a graph: none waits for itself, and each stands after what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::PlannedStep;
use crate::steps::Phase;

/// How a step waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// `id`: it succeeded, or failed with `on_error = "continue"`.
    Done,
    /// `id:started`: it has begun.
    Started,
    /// `id:finished`: it has ended, whatever came of it.
    Finished,
}

/// Splits what a step needs into the other's id and until when.
///
/// # Errors
///
/// What else than `started` and `finished` it says.
pub fn need(text: &str) -> Result<(&str, Until), String> {
    match text.split_once(':') {
        None => Ok((text, Until::Done)),
        Some((id, "started")) => Ok((id, Until::Started)),
        Some((id, "finished")) => Ok((id, Until::Finished)),
        Some((_, word)) => Err(format!("{word:?} is no word for a need; there are `started` and `finished`")),
    }
}

/// Seconds that captures wait at most for an isolation that goes first: it may wait for a person.
const HOLD_UP: u64 = 15 * 60;

/// A step that is not in order, by its place in the list, and why.
pub(crate) type Wrong = (usize, String);

/// Puts steps into the order in which they begin: none before what it needs; of those that could begin, by phase, then as written.
///
/// What the rule left open is filled in: a step that runs always and names no need waits for all others; with `isolate_first`,
/// whatever captures waits until isolation was tried, though not for longer than a quarter of an hour.
pub(crate) fn ordered(
    mut steps: Vec<PlannedStep>,
    phases: &BTreeMap<String, Phase>,
    isolate_first: bool,
) -> Result<Vec<PlannedStep>, Wrong> {
    check(&steps)?;
    let phase = |step: &PlannedStep| phases.get(&step.id).copied().unwrap_or(Phase::Slow);
    if isolate_first {
        wait_for_isolation(&mut steps, &phase)?;
    }
    let usual: Vec<String> =
        steps.iter().filter(|step| !step.always).map(|step| format!("{}:finished", step.id)).collect();
    for step in steps.iter_mut().filter(|step| step.always && step.needs.is_empty()) {
        step.needs.clone_from(&usual);
    }
    let rank = |step: &PlannedStep| match phase(step) {
        Phase::Isolate if isolate_first => (0, 1),
        Phase::Protect => (0, 0),
        phase => (1, phase as u8),
    };
    let mut waiting: Vec<(usize, PlannedStep)> = steps.into_iter().enumerate().collect();
    let mut begun = BTreeSet::new();
    let mut in_order = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting
            .iter()
            .enumerate()
            .filter(|(_, (_, step))| others(step).all(|id| begun.contains(id)))
            .min_by_key(|(_, (written, step))| (rank(step), *written))
            .map(|(place, _)| place);
        let Some(place) = ready else {
            return Err(circle(&waiting));
        };
        let (_, step) = waiting.remove(place);
        begun.insert(step.id.clone());
        in_order.push(step);
    }
    Ok(in_order)
}

/// The ids that a step waits for.
fn others(step: &PlannedStep) -> impl Iterator<Item = &str> {
    step.needs.iter().filter_map(|text| need(text).ok()).map(|(id, _)| id)
}

fn check(steps: &[PlannedStep]) -> Result<(), Wrong> {
    let mut ids = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        if !ids.insert(step.id.as_str()) {
            return Err((at, format!("there are two steps {:?}", step.id)));
        }
    }
    for (at, step) in steps.iter().enumerate() {
        let mut needed = BTreeSet::new();
        for text in &step.needs {
            let (id, _) = need(text).map_err(|what| (at, format!("step {:?}: {what}", step.id)))?;
            if id == step.id {
                return Err((at, format!("step {:?} waits for itself", step.id)));
            }
            if !ids.contains(id) {
                return Err((at, format!("step {:?} needs {id:?}, which is no step of this rule", step.id)));
            }
            if !needed.insert(id) {
                return Err((at, format!("step {:?} needs {id:?} twice", step.id)));
            }
        }
    }
    Ok(())
}

/// Names the steps of a circle, in its order.
fn circle(waiting: &[(usize, PlannedStep)]) -> Wrong {
    let next = |id: &str| -> Option<&str> {
        let (_, step) = waiting.iter().find(|(_, step)| step.id == id)?;
        others(step).find(|other| waiting.iter().any(|(_, step)| step.id == *other))
    };
    let mut way: Vec<&str> = waiting.first().map(|(_, step)| step.id.as_str()).into_iter().collect();
    while let Some(id) = way.last().and_then(|last| next(last)) {
        if let Some(start) = way.iter().position(|earlier| *earlier == id) {
            way.drain(..start);
            way.push(id);
            break;
        }
        way.push(id);
    }
    let first = way.first().copied().unwrap_or_default();
    let at = waiting.iter().find(|(_, step)| step.id == first).map_or(0, |(at, _)| *at);
    (at, format!("steps wait for each other in a circle: {}", way.join(" needs ")))
}

/// All that a step waits for, near or far.
fn ancestors(steps: &[PlannedStep], of: &PlannedStep) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&PlannedStep> = vec![of];
    while let Some(step) = next.pop() {
        for id in others(step) {
            if found.insert(id.to_owned()) {
                next.extend(steps.iter().find(|step| step.id == id));
            }
        }
    }
    found
}

fn wait_for_isolation(
    steps: &mut [PlannedStep],
    phase: &impl Fn(&PlannedStep) -> Phase,
) -> Result<(), Wrong> {
    let captures = |step: &PlannedStep| matches!(phase(step), Phase::Volatile | Phase::Disk | Phase::Slow);
    let mut isolating = Vec::new();
    let mut before = BTreeSet::new();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| phase(step) == Phase::Isolate) {
        let ancestors = ancestors(steps, step);
        if let Some(other) = steps.iter().find(|other| ancestors.contains(&other.id) && captures(other)) {
            return Err((
                at,
                format!("with `isolate_first`, step {:?} cannot wait for {:?}, a capture", step.id, other.id),
            ));
        }
        isolating.push(step.id.clone());
        before.extend(ancestors);
    }
    if isolating.is_empty() {
        return Err((0, "`isolate_first` is set, and no step isolates".to_owned()));
    }
    for at in 0..steps.len() {
        let Some(step) = steps.get(at) else { continue };
        if !captures(step) || before.contains(&step.id) {
            continue;
        }
        let already = ancestors(steps, step);
        let further: Vec<String> =
            isolating.iter().filter(|id| !already.contains(*id)).map(|id| format!("{id}:finished")).collect();
        if let Some(step) = steps.get_mut(at).filter(|_| !further.is_empty()) {
            step.needs.extend(further);
            if step.max_wait == 0 {
                step.max_wait = HOLD_UP;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::OnError;
    use super::*;

    fn step(id: &str, needs: &[&str]) -> PlannedStep {
        PlannedStep {
            id: id.into(),
            word: "x".into(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            always: false,
            on_error: OnError::Stop,
            timeout: 1,
            max_wait: 0,
            retries: 0,
            backoff: (1, 1),
            lease: 0,
            approval: None,
            parameters: serde_json::Map::new(),
        }
    }

    fn phases() -> BTreeMap<String, Phase> {
        [
            ("protect", Phase::Protect),
            ("memory", Phase::Volatile),
            ("disk", Phase::Disk),
            ("isolate", Phase::Isolate),
            ("logs", Phase::Slow),
            ("tell", Phase::Tell),
        ]
        .map(|(id, phase)| (id.to_owned(), phase))
        .into()
    }

    fn ids(steps: Vec<PlannedStep>, isolate_first: bool) -> Result<Vec<String>, Wrong> {
        Ok(ordered(steps, &phases(), isolate_first)?.into_iter().map(|step| step.id).collect())
    }

    #[test]
    fn what_is_lost_first_is_taken_first_unless_a_step_waits() {
        let all = ["tell", "logs", "isolate", "disk", "memory", "protect"];
        let free = all.iter().map(|id| step(id, &[])).collect();
        assert_eq!(ids(free, false).unwrap(), ["protect", "memory", "disk", "isolate", "logs", "tell"]);
        let bound = vec![step("memory", &["logs"]), step("logs", &["disk:started"]), step("disk", &[])];
        assert_eq!(ids(bound, false).unwrap(), ["disk", "logs", "memory"]);
    }

    #[test]
    fn isolation_goes_first_where_the_rule_says_so_and_its_failure_stops_no_capture() {
        let steps = vec![
            step("memory", &[]),
            step("isolate", &["protect"]),
            step("protect", &[]),
            step("disk", &["memory"]),
        ];
        let steps = ordered(steps, &phases(), true).unwrap();
        let order: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(order, ["protect", "isolate", "memory", "disk"]);
        assert_eq!(steps[2].needs, ["isolate:finished"]);
        // An isolation that waits for a person holds no capture up for long.
        assert_eq!(steps[2].max_wait, HOLD_UP);
        assert_eq!((steps[3].needs.as_slice(), steps[3].max_wait), (["memory".to_owned()].as_slice(), 0));
        let waits = vec![step("memory", &[]), step("isolate", &["memory:finished"])];
        assert_eq!(ids(waits, true).unwrap_err().0, 1);
        assert!(ids(vec![step("memory", &[])], true).unwrap_err().1.contains("no step isolates"));
    }

    #[test]
    fn what_runs_always_waits_for_all_others() {
        let mut tell = step("tell", &[]);
        tell.always = true;
        let steps = ordered(vec![tell, step("disk", &[]), step("memory", &[])], &phases(), false).unwrap();
        assert_eq!(steps[2].id, "tell");
        assert_eq!(steps[2].needs, ["disk:finished", "memory:finished"]);
    }

    #[test]
    fn a_graph_that_cannot_be_run_is_refused_by_name() {
        let (at, what) =
            ids(vec![step("a", &[]), step("b", &["c"]), step("c", &["d"]), step("d", &["b"])], false)
                .unwrap_err();
        assert_eq!(
            (at, what.as_str()),
            (1, "steps wait for each other in a circle: b needs c needs d needs b")
        );
        for (steps, says) in [
            (vec![step("a", &["a"])], "itself"),
            (vec![step("a", &["b"])], "no step of this rule"),
            (vec![step("a", &[]), step("a", &[])], "two steps"),
            (vec![step("a", &[]), step("b", &["a:done"])], "no word for a need"),
            (vec![step("a", &[]), step("b", &["a", "a:started"])], "twice"),
        ] {
            assert!(ids(steps, false).unwrap_err().1.contains(says), "{says}");
        }
    }

    proptest! {
        #[test]
        fn any_graph_is_ordered_or_refused_and_the_order_keeps_every_need(
            edges in prop::collection::vec((0usize..8, 0usize..8), 0..20), first: bool,
        ) {
            let names = ["protect", "memory", "disk", "isolate", "logs", "tell", "g", "h"];
            let steps = names.iter().enumerate().map(|(at, name)| {
                let mut needs: Vec<&str> = edges.iter().filter(|(from, _)| *from == at).map(|(_, to)| names[*to]).collect();
                needs.sort_unstable();
                needs.dedup();
                step(name, &needs)
            }).collect();
            if let Ok(steps) = ordered(steps, &phases(), first) {
                prop_assert_eq!(steps.len(), names.len());
                for (at, step) in steps.iter().enumerate() {
                    for id in others(step) {
                        prop_assert!(steps[..at].iter().any(|earlier| earlier.id == id));
                    }
                }
            }
        }
    }
}
