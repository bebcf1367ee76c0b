//! Which steps of a job may begin. Pure: the same rows and the same time give the same answer.

use crate::rules::OnError;
use crate::state::steps::{StepRow, StepState};

/// What is to be done with a step that was not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may begin.
    Begin,
    /// It never will, for this reason.
    Skip(String),
    /// It waits for other steps; at this time it begins all the same.
    Wait(Option<i64>),
}

/// What one need says.
enum Need {
    Met,
    NotYet,
    /// It never will be met, for this reason.
    Never(String),
}

const SECOND: i64 = 1_000_000_000;

/// What is to be done with `step` at `now`, in a job that was begun at `begun`.
///
/// - `id`: met when that step is done, or failed with `on_error = "continue"`.
/// - `id:started`: met when it was begun, whatever came of it.
/// - `id:finished`: met when it has ended, whatever came of it, also if it was skipped.
/// - `always`: what can never be met counts as met. Without needs it waits for all steps that are not `always`.
/// - `max_wait`: after that time since the job was begun, and at once when a need can never be met, it begins all the same.
pub(super) fn turn(step: &StepRow, all: &[StepRow], begun: i64, now: i64) -> Turn {
    if step.plan.always && step.plan.needs.is_empty() {
        let others = all.iter().filter(|other| !other.plan.always);
        return if others.into_iter().all(|other| other.state.has_ended()) {
            Turn::Begin
        } else {
            Turn::Wait(None)
        };
    }
    let needs: Vec<Need> = step.plan.needs.iter().map(|need| look_at(need, all)).collect();
    let max_wait = i64::try_from(step.plan.max_wait).unwrap_or(i64::MAX).saturating_mul(SECOND);
    let is_waited = max_wait > 0 && now >= begun.saturating_add(max_wait);
    let never = needs.iter().find_map(|need| match need {
        Need::Never(why) => Some(why.clone()),
        _ => None,
    });
    let waits = needs.iter().any(|need| matches!(need, Need::NotYet));
    match never {
        Some(why) if !step.plan.always && max_wait == 0 => Turn::Skip(why),
        _ if !waits || is_waited => Turn::Begin,
        _ => Turn::Wait((max_wait > 0).then(|| begun.saturating_add(max_wait))),
    }
}

fn look_at(need: &str, all: &[StepRow]) -> Need {
    let (id, when) = need.split_once(':').unwrap_or((need, ""));
    let Some(other) = all.iter().find(|other| other.plan.id == id) else {
        return Need::Never(format!("it needs {id}, which the plan has not"));
    };
    match (when, other.state) {
        ("started", StepState::Running | StepState::Done | StepState::Failed) => Need::Met,
        // Between two tries it was begun, too.
        ("started", StepState::Pending) if other.started_at.is_some() => Need::Met,
        ("finished", state) if state.has_ended() => Need::Met,
        ("", StepState::Done) => Need::Met,
        ("", StepState::Failed) if other.plan.on_error == OnError::Continue => Need::Met,
        ("", StepState::Failed) => Need::Never(format!("it needs {id}, which failed")),
        ("" | "started", StepState::Skipped) => Need::Never(format!("it needs {id}, which was not run")),
        ("" | "started" | "finished", _) => Need::NotYet,
        _ => Need::Never(format!("it needs {need}, which means nothing")),
    }
}

/// Seconds before the next try: the first pause doubled each time, up to the longest.
pub(super) fn pause_before(step: &StepRow, tries: u32) -> i64 {
    let (first, longest) = step.plan.backoff;
    let factor = 1u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
    let seconds = first.saturating_mul(factor).min(longest.max(first));
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND)
}

/// Nanoseconds that are never exceeded between two tries of a step.
pub(super) fn longest_pause(step: &StepRow) -> i64 {
    pause_before(step, u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::rules::PlannedStep;

    fn step(id: &str, state: StepState, needs: &[&str]) -> StepRow {
        StepRow {
            plan: PlannedStep {
                id: id.to_owned(),
                word: "capture.logs".to_owned(),
                needs: needs.iter().map(|need| (*need).to_owned()).collect(),
                always: false,
                on_error: OnError::Stop,
                timeout: 0,
                max_wait: 0,
                retries: 0,
                backoff: (10, 300),
                lease: 0,
                approval: None,
                parameters: Map::new(),
            },
            state,
            tries: 0,
            not_before: 0,
            started_at: None,
            ended_at: None,
            result: None,
            why: String::new(),
        }
    }

    fn turn_after(first: StepState, need: &str, change: impl FnOnce(&mut StepRow, &mut StepRow)) -> Turn {
        let mut one = step("one", first, &[]);
        let mut two = step("two", StepState::Pending, &[need]);
        change(&mut one, &mut two);
        turn(&two.clone(), &[one, two], 0, 5 * SECOND)
    }

    #[test]
    fn a_need_waits_for_success_start_or_end() {
        use StepState::{Done, Failed, Pending, Running, Skipped};
        let begins = |state, need: &str| turn_after(state, need, |_, _| {}) == Turn::Begin;
        for (need, met) in [
            ("one", vec![Done]),
            ("one:started", vec![Running, Done, Failed]),
            ("one:finished", vec![Done, Failed, Skipped]),
        ] {
            for state in [Pending, Running, Done, Failed, Skipped] {
                assert_eq!(begins(state, need), met.contains(&state), "{need} {state:?}");
            }
        }
    }

    #[test]
    fn a_failure_skips_what_needs_it_unless_it_is_to_go_on() {
        let skipped = turn_after(StepState::Failed, "one", |_, _| {});
        assert_eq!(skipped, Turn::Skip("it needs one, which failed".to_owned()));
        let goes_on = turn_after(StepState::Failed, "one", |one, _| one.plan.on_error = OnError::Continue);
        assert_eq!(goes_on, Turn::Begin);
        assert_eq!(turn_after(StepState::Failed, "one", |_, two| two.plan.always = true), Turn::Begin);
        assert!(matches!(turn_after(StepState::Done, "other", |_, _| {}), Turn::Skip(_)));
    }

    #[test]
    fn waiting_ends_at_its_time_or_when_it_is_in_vain() {
        let at = |max_wait| turn_after(StepState::Running, "one", move |_, two| two.plan.max_wait = max_wait);
        assert_eq!(at(0), Turn::Wait(None));
        assert_eq!(at(6), Turn::Wait(Some(6 * SECOND)));
        assert_eq!(at(5), Turn::Begin);
        assert_eq!(turn_after(StepState::Failed, "one", |_, two| two.plan.max_wait = 60), Turn::Begin);
    }

    #[test]
    fn a_step_that_is_always_run_waits_for_all_others_when_it_names_none() {
        let mut tell = step("tell", StepState::Pending, &[]);
        tell.plan.always = true;
        let all = |state| [step("one", state, &[]), step("two", StepState::Skipped, &["one"]), tell.clone()];
        assert_eq!(turn(&tell, &all(StepState::Running), 0, 0), Turn::Wait(None));
        assert_eq!(turn(&tell, &all(StepState::Failed), 0, 0), Turn::Begin);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let step = step("one", StepState::Pending, &[]);
        let pauses: Vec<i64> = (1..=7).map(|tries| pause_before(&step, tries) / SECOND).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!((pause_before(&step, 200), longest_pause(&step)), (300 * SECOND, 300 * SECOND));
    }
}
