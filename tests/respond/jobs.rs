//! What is decided, in what order, how often, and what people's yes is good for. Nothing is run here: that is tried with the real
//! program.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use custody::{Identity, SigningKey, SystemClock};
use respond::alert::{Alert, AssetKind, AssetRef, Unparsed};
use respond::inventory::Asset;
use respond::jobs::{Acting, Govern, Intake, Overview, Runner, Teller, Told, Undecided};
use respond::rules::{
    Admission, Approval, Decision, Gate, History, Mode, OnError, Plan, PlannedStep, Reason, Repeat,
};
use respond::settings::{JobSettings, Settings};
use respond::state::jobs::JobState;
use respond::state::{DeliveryStatus, NewDelivery, State, mark_delivery};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Map;

pub(crate) const SECOND: i64 = 1_000_000_000;

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
pub(crate) struct OneRule(pub(crate) Plan);

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

pub(crate) fn step(id: &str) -> PlannedStep {
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

pub(crate) fn plan(mode: Mode, repeat: Repeat) -> Plan {
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

pub(crate) fn alert(id: &str, severity: u8, asset: &str) -> Alert {
    let named = AssetRef { kind: AssetKind::Host, id: asset.to_owned(), role: "primary".to_owned() };
    Alert { source: "made".into(), source_id: id.into(), severity, assets: vec![named], ..Alert::default() }
}

pub(crate) fn deliver(state: &State, alert: &Alert, received_ns: i64) {
    deliver_from("made", state, alert, received_ns);
}

fn deliver_from(source: &str, state: &State, alert: &Alert, received_ns: i64) {
    let delivery = NewDelivery {
        source: source.to_owned(),
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

/// Keeps what is told.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<Told>>);

impl Teller for Heard {
    fn told(&self, told: &Told) {
        self.0.lock().unwrap().push(told.clone());
    }
}

/// How a service is started. It has no program, so that no capture comes to anything.
pub(crate) struct Start {
    pub(crate) workers: usize,
    pub(crate) attempts: u32,
    /// Further lines of the settings.
    pub(crate) settings: String,
    pub(crate) program: PathBuf,
    pub(crate) teller: Arc<dyn Teller>,
}

impl Default for Start {
    fn default() -> Self {
        let (settings, program) = (String::new(), "/nowhere".into());
        Self { workers: 0, attempts: 10, settings, program, teller: Arc::new(()) }
    }
}

impl Start {
    pub(crate) fn with(self, folder: &Path, state: &Arc<State>, rules: Arc<dyn Govern>) -> Runner {
        let text = format!(
            "state = {:?}\ncases = {:?}\nexaminer = 'J. Doe'\nrules = 'rules.toml'\n{}",
            folder.join("state"),
            folder.join("cases"),
            self.settings
        );
        let mut settings: Settings = toml::from_str(&text).unwrap();
        settings.jobs = JobSettings { workers: self.workers, attempts: self.attempts };
        let acting = Acting {
            program: self.program,
            key: Arc::new(SigningKey::generate().unwrap()),
            clock: Arc::new(SystemClock),
            identity: Identity::default(),
            teller: self.teller,
        };
        Runner::start(settings, Arc::clone(state), Arc::new(Inbox(Arc::clone(state))), rules, acting).unwrap()
    }
}

pub(crate) fn start(folder: &Path, state: &Arc<State>, plan: Plan) -> Runner {
    Start::default().with(folder, state, Arc::new(OneRule(plan)))
}

pub(crate) fn state_in(folder: &Path) -> Arc<State> {
    Arc::new(State::open(&folder.join("state")).unwrap())
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(300), "it never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn overview(state: &State, job: i64) -> Overview {
    Overview::of(state, job).unwrap().unwrap()
}

pub(crate) fn until_decided(state: &State) {
    let begun = Instant::now();
    while !state.next_undecided(1).unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(600), "deliveries stay undecided");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn jobs(state: &State) -> Vec<respond::state::jobs::Job> {
    let mut jobs = Overview::list(state, &[], 100_000).unwrap();
    jobs.reverse();
    jobs
}

/// Decides about these alerts, in this order, and gives the state.
pub(crate) fn decided(plan: Plan, alerts: &[(Alert, i64)]) -> (tempfile::TempDir, Arc<State>) {
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
fn a_job_that_its_worker_could_not_put_down_is_worked_on_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let start = Start { workers: 1, ..Start::default() };
    let runner = start.with(folder.path(), &state, Arc::new(OneRule(plan(Mode::Approve, Repeat::Attach))));
    deliver(&state, &alert("a-1", 80, "web01"), SECOND);
    until_decided(&state);
    until("it waits", || jobs(&state)[0].state == JobState::Waiting);
    state.connection().execute_batch("UPDATE jobs SET state = 'running'").unwrap();
    until("it waits again", || jobs(&state)[0].state == JobState::Waiting);
    runner.stop();
    assert!(jobs(&state)[0].attempt > 0);
}

#[test]
fn a_rule_that_is_only_to_observe_now_adds_nothing_to_a_job_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let runner = start(folder.path(), &state, plan(Mode::Auto, Repeat::Escalate));
    deliver(&state, &alert("a-1", 50, "web01"), 1_800_000_000 * SECOND);
    until_decided(&state);
    let mut observes = plan(Mode::Observe, Repeat::Escalate);
    observes.steps.push(step("more"));
    runner.reload(Arc::new(OneRule(observes)));
    deliver(&state, &alert("a-2", 90, "web01"), 1_800_000_001 * SECOND);
    until_decided(&state);
    runner.stop();
    assert!(overview(&state, 1).steps.iter().all(|step| step.plan.id != "more"));
}

#[test]
fn what_was_observed_does_not_hide_the_job_that_acts() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let at = |seconds: i64| (1_800_000_000 + seconds) * SECOND;
    let runner = start(folder.path(), &state, plan(Mode::Observe, Repeat::Attach));
    deliver(&state, &alert("a-1", 50, "web01"), at(60));
    until_decided(&state);
    runner.reload(Arc::new(OneRule(plan(Mode::Auto, Repeat::Attach))));
    // It came before the one that was observed, and is decided after it.
    deliver(&state, &alert("a-2", 50, "web01"), at(0));
    until_decided(&state);
    deliver(&state, &alert("a-3", 50, "web01"), at(70));
    until_decided(&state);
    runner.stop();
    let states: Vec<JobState> = jobs(&state).iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Observed, JobState::Queued], "the asset is captured twice");
    assert_eq!(overview(&state, 2).alerts.len(), 2);
}

/// Decides as [`OneRule`], and admits as it is told.
struct Admits(Plan, fn(&Plan) -> Option<Plan>);

impl Govern for Admits {
    fn decide(&self, alert: &Alert) -> Decision {
        OneRule(self.0.clone()).decide(alert)
    }

    fn admit(&self, plan: &Plan, _: &dyn History, _: i64) -> respond::Result<Admission> {
        Ok(Admission { plan: (self.1)(plan), reasons: Vec::new() })
    }

    fn may_capture(&self, _: &dyn History, _: i64) -> respond::Result<Gate> {
        Ok(Gate::Open)
    }

    fn may_isolate(&self, _: &Asset, _: &dyn History, _: i64) -> respond::Result<Gate> {
        Ok(Gate::Open)
    }
}

#[test]
fn what_a_storm_leaves_to_be_observed_is_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let storm: fn(&Plan) -> Option<Plan> = |plan| Some(Plan { mode: Mode::Observe, ..plan.clone() });
    let rules = Admits(plan(Mode::Auto, Repeat::Attach), storm);
    let runner = Start::default().with(folder.path(), &state, Arc::new(rules));
    for number in 0..3 {
        deliver(&state, &alert(&format!("a-{number}"), 50, "web01"), (1_800_000_000 + number) * SECOND);
        until_decided(&state);
    }
    runner.stop();
    assert_eq!(jobs(&state).len(), 1);
    assert_eq!(overview(&state, 1).alerts.len(), 3);
}

/// Admits nothing itself; what it is pinned to does.
struct Reloaded(Plan);

impl Govern for Reloaded {
    fn decide(&self, alert: &Alert) -> Decision {
        OneRule(self.0.clone()).decide(alert)
    }

    fn pinned(&self) -> Option<Arc<dyn Govern>> {
        Some(Arc::new(OneRule(self.0.clone())))
    }

    fn admit(&self, _: &Plan, _: &dyn History, _: i64) -> respond::Result<Admission> {
        Ok(Admission { plan: None, reasons: Vec::new() })
    }

    fn may_capture(&self, _: &dyn History, _: i64) -> respond::Result<Gate> {
        Ok(Gate::Open)
    }

    fn may_isolate(&self, _: &Asset, _: &dyn History, _: i64) -> respond::Result<Gate> {
        Ok(Gate::Open)
    }
}

#[test]
fn rules_that_are_loaded_between_judging_and_writing_drop_no_alert() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let rules = Arc::new(Reloaded(plan(Mode::Auto, Repeat::Attach)));
    let runner = Start::default().with(folder.path(), &state, rules);
    deliver(&state, &alert("a-1", 50, "web01"), 1_800_000_000 * SECOND);
    until_decided(&state);
    runner.stop();
    assert_eq!(jobs(&state).len(), 1);
}

#[test]
fn an_alert_that_cannot_be_decided_about_is_put_aside_and_keeps_no_other_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    for (number, asset) in ["web01", "bad", "web02"].iter().enumerate() {
        deliver(&state, &alert(&format!("a-{number}"), 50, asset), 1_800_000_000 * SECOND);
    }
    // Two steps of one id cannot be kept.
    let poison: fn(&Plan) -> Option<Plan> = |plan| {
        let mut plan = plan.clone();
        if plan.asset.id == "bad" {
            plan.steps.push(step("logs"));
        }
        Some(plan)
    };
    let rules = Admits(plan(Mode::Auto, Repeat::Attach), poison);
    let runner = Start::default().with(folder.path(), &state, Arc::new(rules));
    until_decided(&state);
    runner.stop();
    let assets: Vec<String> = jobs(&state).into_iter().map(|job| job.plan.asset.id).collect();
    assert_eq!(assets, ["web01", "web02"]);
    let mut counts = state.count_deliveries().unwrap().by_status;
    counts.sort_by_key(|(status, _)| status.word());
    assert_eq!(counts, [(DeliveryStatus::Decided, 2), (DeliveryStatus::Unparsed, 1)]);
}

#[test]
fn a_rule_may_call_a_step_as_the_service_would_call_a_further_alert() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let mut plan = plan(Mode::Auto, Repeat::Attach);
    plan.steps.push(step("alert-2"));
    let runner = start(folder.path(), &state, plan);
    for number in 1..=2 {
        deliver(&state, &alert(&format!("a-{number}"), 50, "web01"), (1_800_000_000 + number) * SECOND);
        until_decided(&state);
    }
    runner.stop();
    let steps: Vec<String> = overview(&state, 1).steps.into_iter().map(|step| step.plan.id).collect();
    assert_eq!(steps, ["alert", "logs", "alert-2", "alert-2-received"]);
}

#[test]
fn a_job_that_gets_very_many_alerts_has_all_of_them_and_its_log_a_few_entries() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let runner = start(folder.path(), &state, plan(Mode::Auto, Repeat::Attach));
    for number in 0..170 {
        deliver(&state, &alert(&format!("a-{number}"), 50, "web01"), (1_800_000_000 + number) * SECOND);
    }
    until_decided(&state);
    runner.stop();
    assert_eq!(overview(&state, 1).alerts.len(), 170);
    let count = |kind: &str| -> i64 {
        let sql = "SELECT count(*) FROM entries WHERE kind = ?1";
        state.connection().query_row(sql, [kind], |row| row.get(0)).unwrap()
    };
    // Each of the first 20, then at 40, 80 and 160.
    assert_eq!((count("alert.received"), count("decision.made")), (23, 1));
}

#[test]
fn two_products_of_one_kind_have_their_own_ids_and_a_finding_that_comes_two_ways_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let heard = Arc::new(Heard::default());
    let begin = Start { teller: Arc::<Heard>::clone(&heard), ..Start::default() };
    let runner = begin.with(folder.path(), &state, Arc::new(OneRule(plan(Mode::Auto, Repeat::Attach))));
    let of = |kind: &str, asset: &str| Alert { source: kind.to_owned(), ..alert("1", 50, asset) };
    for (source, alert) in [
        ("wazuh-a", of("wazuh", "web01")),
        ("wazuh-b", of("wazuh", "web02")),
        ("wazuh-b", of("wazuh", "web02")),
        ("sns", of("guardduty", "web03")),
        ("events", of("guardduty", "web03")),
    ] {
        deliver_from(source, &state, &alert, 1_800_000_000 * SECOND);
        until_decided(&state);
    }
    runner.stop();
    let alerts: Vec<usize> = jobs(&state).iter().map(|job| overview(&state, job.id).alerts.len()).collect();
    assert_eq!(alerts, [1, 1, 1]);
    let heard = heard.0.lock().unwrap();
    let known = heard.iter().filter(|told| told.what == "alert known already");
    let known: Vec<&str> = known.map(|told| told.facts["source"].as_str().unwrap()).collect();
    assert_eq!(known, ["wazuh-b", "events"]);
}

#[test]
fn an_alert_is_taken_whole_though_a_power_loss_left_an_empty_file_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let seen = folder.path().join("seen");
    let program = folder.path().join("program");
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in */received/*) cp \"$word\" {0}.new; mv {0}.new {0} ;; esac; done\nexit 1\n",
        seen.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let received = folder.path().join("state/received");
    std::fs::create_dir_all(&received).unwrap();
    for left in ["alert-1.json", "J000001-alert-1.json"] {
        std::fs::write(received.join(left), "").unwrap();
    }
    let start = Start { workers: 1, program, ..Start::default() };
    let runner = start.with(folder.path(), &state, Arc::new(OneRule(plan(Mode::Auto, Repeat::Attach))));
    let alert = alert("a-1", 80, "web01");
    deliver(&state, &alert, SECOND);
    until_decided(&state);
    until("it is taken", || seen.exists());
    runner.stop();
    assert_eq!(std::fs::read(&seen).unwrap(), serde_json::to_vec(&alert).unwrap());
}
