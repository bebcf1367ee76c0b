//! What is decided, in what order, how often, and what people's yes is good for. Nothing is run here: that is tried with the real
//! program.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use custody::{Identity, SigningKey, SystemClock};
use respond::alert::{Alert, AssetKind, AssetRef, Unparsed};
use respond::inventory::Asset;
use respond::jobs::{
    Acting, Govern, Intake, Overview, Person, Runner, Said, Undecided, approve, cancel, retry,
};
use respond::rules::{
    Admission, Approval, Decision, Gate, History, Mode, OnError, Plan, PlannedStep, Reason, Repeat,
};
use respond::settings::{JobSettings, Settings};
use respond::state::jobs::JobState;
use respond::state::{DeliveryStatus, NewDelivery, State, mark_delivery};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Map;

const SECOND: i64 = 1_000_000_000;

/// Deliveries whose bodies are alerts of our own form.
struct Inbox(Arc<State>);

impl Intake for Inbox {
    fn next(&self, most: usize) -> respond::Result<Vec<Undecided>> {
        let waiting = self.0.next_undecided(most)?;
        let of = |one: respond::state::Delivery| Undecided {
            delivery: one.id,
            source: one.source,
            body: one.body,
            received_at: one.received_ns,
        };
        Ok(waiting.into_iter().map(of).collect())
    }

    fn read(&self, delivery: &Undecided) -> Result<Vec<Alert>, Unparsed> {
        serde_json::from_slice(&delivery.body)
            .map(|alert| vec![alert])
            .map_err(|error| Unparsed(error.to_string()))
    }

    fn mark(&self, connection: &Connection, delivery: i64, why: Option<&Unparsed>) -> rusqlite::Result<()> {
        let status = if why.is_none() { DeliveryStatus::Decided } else { DeliveryStatus::Unparsed };
        mark_delivery(connection, delivery, status, "")
    }

    fn body(&self, connection: &Connection, delivery: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        let body = "SELECT body FROM deliveries WHERE id = ?1";
        connection.query_row(body, [delivery], |row| row.get(0)).optional()
    }
}

/// One rule for every asset that an alert names.
struct OneRule(Plan);

impl Govern for OneRule {
    fn decide(&self, alert: &Alert) -> Decision {
        let plans = alert.assets.iter().map(|named| Plan {
            asset: Asset { id: named.id.clone(), ..self.0.asset.clone() },
            dedup_key: named.id.clone(),
            ..self.0.clone()
        });
        let reason = Reason { rule: self.0.rule.clone(), holds: true, what: "it names an asset".to_owned() };
        Decision { plans: plans.collect(), reasons: vec![reason] }
    }

    fn admit(&self, plan: &Plan, _: &dyn History, _: i64) -> respond::Result<Admission> {
        Ok(Admission { plan: Some(plan.clone()), reasons: Vec::new() })
    }

    fn may_capture(&self, _: &dyn History, _: i64) -> respond::Result<Gate> {
        Ok(Gate::Open)
    }

    fn may_isolate(&self, _: &Asset, _: &dyn History, _: i64) -> respond::Result<Gate> {
        Ok(Gate::Open)
    }
}

fn step(id: &str) -> PlannedStep {
    PlannedStep {
        id: id.to_owned(),
        word: "capture.logs".to_owned(),
        needs: Vec::new(),
        always: false,
        on_error: OnError::Stop,
        timeout: 60,
        max_wait: 0,
        retries: 0,
        backoff: (1, 1),
        lease: 0,
        approval: None,
        parameters: Map::new(),
    }
}

fn plan(mode: Mode, repeat: Repeat) -> Plan {
    let asset: Asset = serde_json::from_str(r#"{"kind": "host", "id": "web01", "target": "local"}"#).unwrap();
    let approval =
        Approval { from: vec!["ir-oncall".to_owned()], count: 2, timeout: 600, run_on_timeout: false };
    Plan {
        rule: "r".to_owned(),
        mode,
        asset,
        dedup_key: String::new(),
        dedup_window: 3600,
        truncated: false,
        repeat,
        approval: (mode == Mode::Approve).then_some(approval),
        steps: vec![step("logs")],
    }
}

fn alert(id: &str, severity: u8, asset: &str) -> Alert {
    let named = AssetRef { kind: AssetKind::Host, id: asset.to_owned(), role: "primary".to_owned() };
    Alert { source: "made".into(), source_id: id.into(), severity, assets: vec![named], ..Alert::default() }
}

fn deliver(state: &State, alert: &Alert, received_ns: i64) {
    let delivery = NewDelivery {
        source: "made".to_owned(),
        received_ns,
        body: serde_json::to_vec(alert).unwrap(),
        headers: Vec::new(),
        sender: "the test".to_owned(),
        seen_as: None,
        status: DeliveryStatus::New,
        severity: alert.severity,
        why: String::new(),
    };
    state.store_delivery(delivery).unwrap();
}

fn start(folder: &Path, state: &Arc<State>, plan: Plan) -> Runner {
    let text = format!(
        "state = {:?}\ncases = {:?}\nexaminer = 'J. Doe'\nrules = 'rules.toml'\n",
        folder.join("state"),
        folder.join("cases")
    );
    let mut settings: Settings = toml::from_str(&text).unwrap();
    settings.jobs = JobSettings { workers: 0, ..JobSettings::default() };
    let acting = Acting {
        program: "/nowhere".into(),
        key: Arc::new(SigningKey::generate().unwrap()),
        clock: Arc::new(SystemClock),
        identity: Identity::default(),
        teller: Arc::new(()),
    };
    Runner::start(
        settings,
        Arc::clone(state),
        Arc::new(Inbox(Arc::clone(state))),
        Arc::new(OneRule(plan)),
        acting,
    )
    .unwrap()
}

fn until_decided(state: &State) {
    let begun = Instant::now();
    while !state.next_undecided(1).unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(600), "deliveries stay undecided");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn jobs(state: &State) -> Vec<respond::state::jobs::Job> {
    let mut jobs = Overview::list(state, &[], 100_000).unwrap();
    jobs.reverse();
    jobs
}

/// Decides about these alerts, in this order, and gives the state.
fn decided(plan: Plan, alerts: &[(Alert, i64)]) -> (tempfile::TempDir, Arc<State>) {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
    let runner = start(folder.path(), &state, plan);
    for (alert, received) in alerts {
        deliver(&state, alert, *received);
        until_decided(&state);
    }
    runner.stop();
    (folder, state)
}

#[test]
fn the_same_alert_a_thousand_times_at_once_is_one_job() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
    let runner = start(folder.path(), &state, plan(Mode::Auto, Repeat::Attach));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let state = &state;
            scope.spawn(move || {
                for number in 0..125 {
                    deliver(
                        state,
                        &alert("a-1", 80, "web01"),
                        1_800_000_000 * SECOND + thread * 1000 + number,
                    );
                }
            });
        }
    });
    until_decided(&state);
    runner.stop();
    let jobs = jobs(&state);
    assert_eq!(jobs.len(), 1);
    let overview = Overview::of(&state, jobs[0].id).unwrap().unwrap();
    assert_eq!((overview.alerts.len(), overview.alerts[0].1.as_str()), (1, "began"));
    let steps: Vec<&str> = overview.steps.iter().map(|step| step.plan.id.as_str()).collect();
    assert_eq!(steps, ["alert", "logs"]);
}

#[test]
fn ten_thousand_alerts_are_all_decided_the_severe_ones_first() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
    // Stored before anybody decides, in no order of severity.
    let all: Vec<NewDelivery> = (0..10_000u32)
        .map(|number| {
            let severity = u8::try_from(number.wrapping_mul(7919) % 101).unwrap();
            let alert = alert(&format!("a-{number}"), severity, &format!("web{number}"));
            NewDelivery {
                source: "made".to_owned(),
                received_ns: 1_800_000_000 * SECOND + i64::from(number),
                body: serde_json::to_vec(&alert).unwrap(),
                headers: Vec::new(),
                sender: "the test".to_owned(),
                seen_as: None,
                status: DeliveryStatus::New,
                severity,
                why: String::new(),
            }
        })
        .collect();
    state.store_deliveries(&all).unwrap();
    let runner = start(folder.path(), &state, plan(Mode::Auto, Repeat::Attach));
    until_decided(&state);
    runner.stop();
    let severities: Vec<u8> = jobs(&state).iter().map(|job| job.severity).collect();
    assert_eq!(severities.len(), 10_000);
    assert!(severities.is_sorted_by(|one, next| one >= next), "a less severe alert came first");
}

#[test]
fn what_a_further_alert_does_is_as_the_rule_says() {
    let at = |seconds: i64| (1_800_000_000 + seconds) * SECOND;
    let alerts = [(alert("a-1", 80, "web01"), at(0)), (alert("a-2", 90, "web01"), at(60))];
    let hows = |repeat| {
        let (_folder, state) = decided(plan(Mode::Auto, repeat), &alerts);
        let of = |job: &respond::state::jobs::Job| {
            let alerts = Overview::of(&state, job.id).unwrap().unwrap().alerts;
            alerts.into_iter().map(|(_, how)| how).collect::<Vec<_>>().join(" ")
        };
        jobs(&state).iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(hows(Repeat::Attach), ["began attached"]);
    assert_eq!(hows(Repeat::Ignore), ["began ignored"]);
    assert_eq!(hows(Repeat::Rerun), ["began", "began"]);
    // There is nothing to add, so it is attached.
    assert_eq!(hows(Repeat::Escalate), ["began attached"]);
    // After the window the same key is another job.
    let late = [(alert("a-1", 80, "web01"), at(0)), (alert("a-2", 90, "web01"), at(3601))];
    let (_folder, state) = decided(plan(Mode::Auto, Repeat::Attach), &late);
    assert_eq!(jobs(&state).len(), 2);
}

#[test]
fn an_escalation_adds_what_is_missing_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
    let mut plan = plan(Mode::Auto, Repeat::Escalate);
    let runner = start(folder.path(), &state, plan.clone());
    deliver(&state, &alert("a-1", 50, "web01"), 1_800_000_000 * SECOND);
    until_decided(&state);
    plan.steps.push(step("more"));
    runner.reload(Arc::new(OneRule(plan)));
    deliver(&state, &alert("a-2", 90, "web01"), 1_800_000_001 * SECOND);
    until_decided(&state);
    runner.stop();
    let jobs = jobs(&state);
    assert_eq!(jobs.len(), 1);
    let steps = Overview::of(&state, jobs[0].id).unwrap().unwrap().steps;
    let steps: Vec<&str> = steps.iter().map(|step| step.plan.id.as_str()).collect();
    assert_eq!(steps[..3], ["alert", "logs", "more"]);
    assert!(steps[3].starts_with("alert-"), "{steps:?}");
}

#[test]
fn what_was_only_observed_is_done_once_the_rule_may() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
    let runner = start(folder.path(), &state, plan(Mode::Observe, Repeat::Attach));
    deliver(&state, &alert("a-1", 50, "web01"), 1_800_000_000 * SECOND);
    until_decided(&state);
    runner.reload(Arc::new(OneRule(plan(Mode::Auto, Repeat::Attach))));
    deliver(&state, &alert("a-2", 50, "web01"), 1_800_000_001 * SECOND);
    until_decided(&state);
    runner.stop();
    let states: Vec<JobState> = jobs(&state).iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Observed, JobState::Queued]);
}

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
