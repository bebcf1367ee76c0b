//! What jobs hold for a time, and what becomes of it when a step does not come to its end, the service is killed, or people say so.
//! The host that is isolated is one of a console of ours, which says at once what it was told.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use respond::jobs::{Overview, Person, Runner, cancel, retry};
use respond::rules::{Mode, Plan, PlannedStep, Repeat};
use respond::state::State;
use respond::state::jobs::{Job, JobState};
use serde_json::{Value, json};

use crate::fake_service::{Asked, serve};
use crate::jobs::{OneRule, SECOND, Start, alert, deliver, jobs, plan, step, until_decided};

const AID: &str = "4d92d2adf9009775a446ce0fe2689900";

/// What the console knows of the one host, and how it misbehaves.
#[derive(Default)]
struct Host {
    is_contained: bool,
    contained: usize,
    lifted: usize,
    /// Every reading of the host fails, once it was contained.
    is_broken: bool,
    /// So many readings of the contained host fail.
    breaks: usize,
    /// There is no such host.
    is_gone: bool,
    /// Containing takes until this is false again.
    hangs: bool,
}

/// A console of Falcon.
#[derive(Clone, Default)]
struct Console(Arc<(Mutex<Host>, Condvar)>);

impl Console {
    fn with<T>(&self, act: impl FnOnce(&mut Host) -> T) -> T {
        let done = act(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        done
    }

    fn start(&self) -> String {
        let this = self.clone();
        serve(move |asked| this.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> (u16, String) {
        let mut host = self.0.0.lock().unwrap();
        let one = |value: Value| json!({"meta": {"trace_id": "t"}, "resources": [value], "errors": []});
        let answer = match asked.path.as_str() {
            "/oauth2/token" => json!({"access_token": "t", "expires_in": 1799}),
            path if path.ends_with("action_name=contain") => {
                (host.is_contained, host.contained) = (true, host.contained + 1);
                drop(self.0.1.wait_while(host, |host| host.hangs).unwrap());
                one(json!({"id": AID}))
            }
            path if path.ends_with("action_name=lift_containment") => {
                (host.is_contained, host.lifted) = (false, host.lifted + 1);
                one(json!({"id": AID}))
            }
            _ if host.is_gone => json!({"resources": [], "errors": []}),
            _ if (host.is_broken || host.breaks > 0) && host.is_contained => {
                host.breaks = host.breaks.saturating_sub(1);
                json!({"resources": [], "errors": [{"code": 500, "message": "broken"}]})
            }
            _ => one(json!({
                "device_id": AID, "status": if host.is_contained { "contained" } else { "normal" },
            })),
        };
        (200, answer.to_string())
    }
}

struct Scene {
    folder: tempfile::TempDir,
    state: Arc<State>,
    console: Console,
    url: String,
    plan: Plan,
}

impl Scene {
    fn new(lease: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "secret\n").unwrap();
        let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
        let isolate = PlannedStep { word: "isolate.crowdstrike".to_owned(), lease, ..step("isolate") };
        let mut plan = Plan { steps: vec![isolate], ..plan(Mode::Auto, Repeat::Rerun) };
        plan.asset.aliases = vec![AID.to_owned()];
        let console = Console::default();
        let url = console.start();
        Self { folder, state, console, url, plan }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, workers: usize, attempts: u32) -> Runner {
        let more = format!(
            "[targets.edr.edr1]\nkind = 'crowdstrike'\nurl = {:?}\nclient_id = 'c'\nclient_secret_file = {:?}\n",
            self.url,
            self.path().join("secret")
        );
        let start = Start { workers, attempts, settings: more, ..Start::default() };
        start.with(self.path(), &self.state, Arc::new(OneRule(self.plan.clone())))
    }

    fn deliver(&self, id: &str) {
        deliver(&self.state, &alert(id, 80, "web01"), 1_800_000_000 * SECOND);
        until_decided(&self.state);
    }

    fn job(&self, number: i64) -> Job {
        jobs(&self.state).into_iter().find(|job| job.id == number).unwrap()
    }

    fn lease(&self, number: i64) -> Option<respond::state::leases::Lease> {
        Overview::of(&self.state, number).unwrap().unwrap().leases.pop()
    }

    fn lease_is(&self, number: i64, state: &str) -> bool {
        self.lease(number).is_some_and(|lease| lease.state == state)
    }

    fn isolate(&self, number: i64) -> respond::state::steps::StepRow {
        let steps = Overview::of(&self.state, number).unwrap().unwrap().steps;
        steps.into_iter().find(|step| step.plan.id == "isolate").unwrap()
    }

    fn sql(&self, sql: &str) {
        self.state.connection().execute_batch(sql).unwrap();
    }

    /// As a service leaves it that is killed when the host is contained and nothing of that is written down but the intent.
    fn killed_while_isolating(&self) {
        let runner = self.run(0, 10);
        self.deliver("a-1");
        runner.stop();
        let recorded = json!({
            "platform": "crowdstrike", "tenant": "edr1", "device": AID, "mark": "j000001-isolate",
            "was_contained": false, "until": "", "warnings": [],
        });
        let intent = json!({"subject": "host", "recorded": recorded});
        self.sql(&format!(
            "UPDATE jobs SET state = 'running', started_at = 1;
             UPDATE steps SET state = 'running', started_at = 1 WHERE id = 'isolate';
             INSERT INTO intents (job, step, at, intent) VALUES (1, 'isolate', 1, '{intent}');"
        ));
        self.console.with(|host| host.is_contained = true);
    }
}

fn ana() -> Person {
    Person { name: "ana".to_owned(), groups: Vec::new() }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(300), "it never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_isolated_is_let_back_when_its_time_is_over_though_the_job_goes_on() {
    let scene = Scene::new(1);
    let runner = scene.run(1, 10);
    scene.deliver("a-1");
    until("the lease ends", || scene.lease_is(1, "ended"));
    runner.stop();
    let (contained, lifted) = scene.console.with(|host| (host.contained, host.lifted));
    assert_eq!((contained, lifted, scene.isolate(1).state.word()), (1, 1, "done"));
}

#[test]
fn half_an_isolation_of_a_killed_service_is_taken_back_when_the_job_is_cancelled_before_the_next_start() {
    let scene = Scene::new(3600);
    scene.killed_while_isolating();
    cancel(&scene.state, &ana(), 1, true, 2).unwrap();
    let runner = scene.run(1, 10);
    until("the lease ends", || scene.lease_is(1, "ended"));
    until("the job ends", || scene.job(1).state == JobState::Cancelled);
    runner.stop();
    assert!(!scene.console.with(|host| host.is_contained));
    assert_eq!(scene.isolate(1).state.word(), "skipped");
}

#[test]
fn half_an_isolation_of_a_job_that_is_given_up_is_taken_back_and_recorded_anew_when_it_is_tried_again() {
    let scene = Scene::new(0);
    scene.killed_while_isolating();
    let runner = scene.run(1, 1);
    until("the lease ends", || scene.lease_is(1, "ended"));
    assert_eq!(scene.job(1).state, JobState::Dead);
    assert!(!scene.console.with(|host| host.is_contained));
    // Since then an administrator has contained the host: that is what is to be restored.
    scene.console.with(|host| host.is_contained = true);
    retry(&scene.state, &ana(), 1, 3).unwrap();
    until("it is isolated again", || scene.lease_is(1, "held"));
    assert_eq!(scene.lease(1).unwrap().recorded["recorded"]["was_contained"], true);
    let lifted = scene.console.with(|host| host.lifted);
    cancel(&scene.state, &ana(), 1, true, 4).unwrap();
    until("the lease ends again", || scene.lease_is(1, "ended"));
    runner.stop();
    assert_eq!(scene.console.with(|host| (host.is_contained, host.lifted)), (true, lifted));
}

#[test]
fn an_isolation_that_fails_and_cannot_be_taken_back_at_once_is_taken_back_later_and_not_tried_again_before() {
    let scene = Scene::new(3600);
    scene.console.with(|host| host.is_broken = true);
    let runner = scene.run(1, 10);
    scene.deliver("a-1");
    until("it is tried to be taken back", || scene.lease(1).is_some_and(|lease| lease.tries > 0));
    assert_eq!(scene.isolate(1).state.word(), "failed");
    cancel(&scene.state, &ana(), 1, false, 2).unwrap();
    until("the job ends", || scene.job(1).state.has_ended());
    let why = retry(&scene.state, &ana(), 1, i64::MAX).unwrap_err().to_string();
    assert!(why.contains("what step isolate of J000001 did is still being taken back"), "{why}");
    scene.console.with(|host| host.is_broken = false);
    until("the lease ends", || scene.lease_is(1, "ended"));
    runner.stop();
    assert_eq!(scene.console.with(|host| (host.is_contained, host.lifted)), (false, 1));
}

#[test]
fn half_an_isolation_between_two_tries_is_taken_back_when_the_job_is_cancelled() {
    let mut scene = Scene::new(3600);
    (scene.plan.steps[0].retries, scene.plan.steps[0].backoff) = (5, (3600, 3600));
    scene.console.with(|host| host.is_broken = true);
    let runner = scene.run(1, 10);
    scene.deliver("a-1");
    until("the first try fails", || scene.isolate(1).tries == 1);
    assert!(scene.lease(1).is_none());
    scene.console.with(|host| host.is_broken = false);
    cancel(&scene.state, &ana(), 1, false, 2).unwrap();
    until("the lease ends", || scene.lease_is(1, "ended"));
    runner.stop();
    assert_eq!(scene.console.with(|host| (host.is_contained, host.lifted)), (false, 1));
}

#[test]
fn a_try_after_one_that_was_taken_back_records_anew() {
    let mut scene = Scene::new(3600);
    scene.plan.steps[0].retries = 5;
    scene.console.with(|host| host.breaks = 1);
    let runner = scene.run(1, 10);
    scene.deliver("a-1");
    until("the second try isolates", || scene.lease_is(1, "held"));
    runner.stop();
    let connection = scene.state.connection();
    let mut intents =
        connection.prepare("SELECT intent FROM intents WHERE step = 'isolate' ORDER BY id").unwrap();
    let intents = intents.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let keys: Vec<&str> = intents
        .map(|intent| if intent.unwrap().contains("\"recorded\"") { "recorded" } else { "taken back" })
        .collect();
    assert_eq!(keys, ["recorded", "taken back", "recorded"]);
    assert_eq!(scene.console.with(|host| (host.contained, host.lifted)), (2, 1));
}

#[test]
fn a_job_that_is_cancelled_with_undo_while_it_isolates_holds_nothing_afterwards() {
    let scene = Scene::new(0);
    scene.console.with(|host| host.hangs = true);
    let runner = scene.run(1, 10);
    scene.deliver("a-1");
    until("it isolates", || scene.console.with(|host| host.contained > 0));
    cancel(&scene.state, &ana(), 1, true, 2).unwrap();
    scene.console.with(|host| host.hangs = false);
    until("the lease ends", || scene.lease_is(1, "ended"));
    until("the job ends", || scene.job(1).state == JobState::Cancelled);
    runner.stop();
    assert_eq!(scene.console.with(|host| (host.is_contained, host.lifted)), (false, 1));
}

#[test]
fn what_is_stuck_is_tried_again() {
    let scene = Scene::new(3600);
    let runner = scene.run(1, 10);
    scene.deliver("a-1");
    until("it is isolated", || scene.lease(1).is_some());
    scene.console.with(|host| host.is_gone = true);
    scene.sql("UPDATE leases SET until = 1");
    until("it is stuck", || scene.lease_is(1, "stuck"));
    scene.console.with(|host| host.is_gone = false);
    // As after the long pause.
    scene.sql("UPDATE leases SET not_before = 0");
    until("the lease ends", || scene.lease_is(1, "ended"));
    runner.stop();
    assert_eq!(scene.console.with(|host| (host.is_contained, host.lifted)), (false, 1));
}

#[test]
fn two_jobs_do_not_isolate_the_same_asset_in_the_same_way() {
    let scene = Scene::new(0);
    let runner = scene.run(2, 10);
    scene.deliver("a-1");
    until("the first isolates", || scene.lease_is(1, "held"));
    scene.deliver("a-2");
    until("the second does not", || scene.isolate(2).state.has_ended());
    runner.stop();
    let step = scene.isolate(2);
    assert_eq!((step.state.word(), step.started_at), ("failed", None));
    assert!(step.why.contains("web01 is isolated already by isolate.crowdstrike of J000001"), "{}", step.why);
    assert!(scene.lease(2).is_none());
    assert_eq!(scene.console.with(|host| (host.contained, host.lifted)), (1, 0));
}

#[test]
fn a_node_that_was_closed_for_a_capture_that_failed_is_opened_again() {
    let scene = Scene::new(0);
    let closed = Arc::new(Mutex::new((false, 0)));
    let node = Arc::clone(&closed);
    let url = serve(move |asked| {
        let mut node = node.lock().unwrap();
        let answer = match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/api/v1/namespaces/ns/pods/web") => json!({
                "metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "spec": {"nodeName": "n1"},
            }),
            ("GET", "/api/v1/nodes/n1") => json!({"spec": {"unschedulable": node.0}}),
            ("PATCH", "/api/v1/nodes/n1") => {
                *node = (asked.body.contains("true"), node.1 + 1);
                json!({})
            }
            _ => return (404, json!({"kind": "Status", "reason": "NotFound"}).to_string()),
        };
        (200, answer.to_string())
    });
    let capture = json!({"cordon": true}).as_object().unwrap().clone();
    let capture = PlannedStep { word: "capture.k8s_pod".to_owned(), parameters: capture, ..step("pod") };
    let mut plan = Plan { steps: vec![capture], ..scene.plan.clone() };
    plan.asset.kind = respond::alert::AssetKind::K8sPod;
    plan.asset.target = "prod".to_owned();
    let start = Start {
        workers: 1,
        settings: format!("[targets.kubernetes.prod]\nserver = {url:?}\n"),
        ..Start::default()
    };
    let runner = start.with(scene.path(), &scene.state, Arc::new(OneRule(plan)));
    deliver(&scene.state, &alert("a-1", 80, "prod/ns/web"), 1_800_000_000 * SECOND);
    until_decided(&scene.state);
    // There is no program that would take anything, so the step fails when the node is closed already.
    until("the lease ends", || scene.lease_is(1, "ended"));
    runner.stop();
    assert_eq!(*closed.lock().unwrap(), (false, 2));
}
