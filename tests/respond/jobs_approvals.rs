//! What people say to plans: a yes is for one plan, in its time, by who may, and once; and people hear of what waits for them.

use std::sync::Arc;

use respond::jobs::{Overview, Person, Said, approve, cancel, retry};
use respond::rules::{Approval, Mode, PlannedStep, Repeat};
use respond::state::State;
use respond::state::jobs::JobState;

use crate::jobs::{
    Heard, OneRule, SECOND, Start, alert, decided, deliver, jobs, overview, plan, start, state_in, step,
    until, until_decided,
};

#[test]
fn a_yes_is_for_one_plan_in_its_time_by_who_may_and_once() {
    let (_folder, state) =
        decided(plan(Mode::Approve, Repeat::Attach), &[(alert("a-1", 80, "web01"), SECOND)]);
    let job = jobs(&state).remove(0);
    let question = || Overview::of(&state, job.id).unwrap().unwrap().questions.remove(0).0;
    let now = question().asked_at;
    let person = |name: &str, group: &str| Person { name: name.to_owned(), groups: vec![group.to_owned()] };
    let yes = Said { job: job.id, step: String::new(), yes: true, bound_to: None };
    let refused = |person: &Person, said: &Said, now: i64, words: &str| {
        let why = approve(&state, person, said, now).unwrap_err().to_string();
        assert!(why.contains(words), "{words:?} is not in {why:?}");
    };
    let (ana, ben, eve) = (person("ana", "ir-oncall"), person("ben", "ir-oncall"), person("eve", "staff"));
    refused(&eve, &yes, now, "eve is not among ir-oncall");
    refused(&ana, &Said { bound_to: Some("0".repeat(64)), ..yes.clone() }, now, "the plan has changed");
    refused(&ana, &Said { step: "logs".to_owned(), ..yes.clone() }, now, "nobody is asked about step logs");
    refused(&ana, &Said { job: 99, ..yes.clone() }, now, "there is no job J000099");
    refused(&ana, &yes, now + 601 * SECOND, "the time to say so is over");
    let bound = Said { bound_to: Some(job.plan_sha256.clone()), ..yes.clone() };
    assert_eq!(approve(&state, &ana, &bound, now).unwrap(), 1);
    refused(&ana, &yes, now, "ana has said something to it already");
    assert_eq!(approve(&state, &ben, &yes, now).unwrap(), 0);
    refused(&person("cy", "ir-oncall"), &yes, now, "it is given already");
    assert_eq!(question().answer.word(), "given");
}

#[test]
fn a_no_ends_it_and_what_has_ended_is_tried_again_only_when_something_is_left() {
    let (_folder, state) =
        decided(plan(Mode::Approve, Repeat::Attach), &[(alert("a-1", 80, "web01"), SECOND)]);
    let job = jobs(&state).remove(0);
    let now = job.created_at;
    let ana = Person { name: "ana".to_owned(), groups: vec!["ir-oncall".to_owned()] };
    let no = Said { job: job.id, step: String::new(), yes: false, bound_to: None };
    approve(&state, &ana, &no, now).unwrap();
    let overview = Overview::of(&state, job.id).unwrap().unwrap();
    assert_eq!(overview.questions[0].0.answer.word(), "refused");
    assert!(retry(&state, &ana, job.id, now).unwrap_err().to_string().contains("is queued"));
    cancel(&state, &ana, job.id, false, now).unwrap();
    let cancelled = Overview::of(&state, job.id).unwrap().unwrap().job.cancel;
    assert_eq!(cancelled.as_deref(), Some("cancelled by ana"));
}

/// Ana and Ben, of those who may.
fn two() -> [Person; 2] {
    ["ana", "ben"].map(|name| Person { name: name.to_owned(), groups: vec!["ir-oncall".to_owned()] })
}

fn is_begun(state: &State, job: i64) -> bool {
    overview(state, job).steps.iter().any(|step| step.started_at.is_some())
}

#[test]
fn a_plan_that_was_ended_before_the_yes_is_asked_about_again_when_it_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let start = Start { workers: 1, ..Start::default() };
    let runner = start.with(folder.path(), &state, Arc::new(OneRule(plan(Mode::Approve, Repeat::Attach))));
    deliver(&state, &alert("a-1", 80, "web01"), SECOND);
    until_decided(&state);
    let is = |wanted| jobs(&state)[0].state == wanted;
    until("it waits", || is(JobState::Waiting));
    let [ana, ben] = two();
    cancel(&state, &ana, 1, false, 2).unwrap();
    until("it is cancelled", || is(JobState::Cancelled));
    let now = overview(&state, 1).questions[0].0.asked_at;
    assert!(retry(&state, &ana, 1, now).unwrap(), "nobody is asked");
    until("it waits again", || is(JobState::Waiting));
    let answers = || -> Vec<&str> {
        overview(&state, 1).questions.iter().map(|(question, _)| question.answer.word()).collect()
    };
    assert_eq!((answers(), is_begun(&state, 1)), (vec!["withdrawn", "open"], false));
    let yes = Said { job: 1, step: String::new(), yes: true, bound_to: None };
    assert_eq!(approve(&state, &ana, &yes, now).unwrap(), 1);
    assert_eq!(approve(&state, &ben, &yes, now).unwrap(), 0);
    until("it is begun", || is_begun(&state, 1));
    assert_eq!(answers(), ["withdrawn", "used"]);
    runner.stop();
}

#[test]
fn a_plan_that_wants_a_yes_is_not_run_without_one_though_the_question_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let plan = plan(Mode::Approve, Repeat::Attach);
    let runner = start(folder.path(), &state, plan.clone());
    deliver(&state, &alert("a-1", 80, "web01"), SECOND);
    until_decided(&state);
    runner.stop();
    state.connection().execute_batch("DELETE FROM approvals").unwrap();
    let heard = Arc::new(Heard::default());
    let start = Start { workers: 1, teller: Arc::<Heard>::clone(&heard), ..Start::default() };
    let runner = start.with(folder.path(), &state, Arc::new(OneRule(plan)));
    until("it waits", || jobs(&state)[0].state == JobState::Waiting);
    runner.stop();
    let asked = overview(&state, 1).questions;
    assert_eq!((asked.len(), asked[0].0.wanted, is_begun(&state, 1)), (1, 2, false));
    assert!(heard.0.lock().unwrap().iter().any(|told| told.what == "approval wanted"));
}

#[test]
fn the_times_of_a_plan_count_from_the_yes_and_not_from_when_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let mut plan = plan(Mode::Approve, Repeat::Attach);
    // It waits for people, so that the other one begins after its time alone.
    let people = Approval { from: Vec::new(), count: 1, timeout: 36_000, run_on_timeout: false };
    plan.steps[0].approval = Some(people);
    plan.steps.push(PlannedStep { needs: vec!["logs".to_owned()], max_wait: 3600, ..step("late") });
    let start = Start { workers: 1, ..Start::default() };
    let runner = start.with(folder.path(), &state, Arc::new(OneRule(plan)));
    deliver(&state, &alert("a-1", 80, "web01"), SECOND);
    until_decided(&state);
    until("it waits", || jobs(&state)[0].state == JobState::Waiting);
    // As if it had waited for longer than the second step is to.
    state.connection().execute_batch("UPDATE jobs SET started_at = 1").unwrap();
    let now = overview(&state, 1).questions[0].0.asked_at;
    for person in two() {
        let yes = Said { job: 1, step: String::new(), yes: true, bound_to: None };
        approve(&state, &person, &yes, now).unwrap();
    }
    until("it is begun", || is_begun(&state, 1));
    until("the first step is asked about", || overview(&state, 1).questions.len() == 2);
    until("it waits for people again", || jobs(&state)[0].state == JobState::Waiting);
    runner.stop();
    assert!(jobs(&state)[0].started_at >= Some(now));
    let steps = overview(&state, 1).steps;
    let late = steps.iter().find(|step| step.plan.id == "late").unwrap();
    assert_eq!((late.state.word(), late.started_at), ("pending", None));
}

#[test]
fn people_hear_of_a_plan_that_waits_for_them_and_of_one_that_has_grown() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let heard = Arc::new(Heard::default());
    let begin = Start { teller: Arc::<Heard>::clone(&heard), ..Start::default() };
    // The rule acts by itself at first.
    let runner = begin.with(folder.path(), &state, Arc::new(OneRule(plan(Mode::Auto, Repeat::Escalate))));
    let wanted = || {
        let heard = heard.0.lock().unwrap();
        heard
            .iter()
            .filter(|told| told.what == "approval wanted")
            .map(|told| told.job.clone())
            .collect::<Vec<_>>()
    };
    deliver(&state, &alert("a-1", 50, "web01"), 1_800_000_000 * SECOND);
    until_decided(&state);
    assert_eq!(wanted(), Vec::<String>::new());
    let mut asks = plan(Mode::Approve, Repeat::Escalate);
    asks.steps.push(step("more"));
    runner.reload(Arc::new(OneRule(asks)));
    deliver(&state, &alert("a-2", 90, "web01"), 1_800_000_001 * SECOND);
    deliver(&state, &alert("a-3", 90, "web02"), 1_800_000_002 * SECOND);
    until_decided(&state);
    runner.stop();
    assert_eq!(wanted(), ["J000001", "J000002"]);
    let grown = overview(&state, 1);
    assert_eq!((grown.job.plan.mode, grown.questions.len()), (Mode::Approve, 1));
    let question = &grown.questions[0].0;
    assert_eq!((question.wanted, &question.bound_to), (2, &grown.job.plan_sha256));
}
