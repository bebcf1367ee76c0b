//! What a storm cuts short is made up for once it is over: by the real rules, in the loop that decides.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use custody::{Clock, Identity, Moment, SigningKey, SystemClock};
use respond::alert::{Alert, AssetKind, AssetRef};
use respond::inventory::{Asset, Inventory};
use respond::jobs::{Acting, BY_HAND, Deliveries, OUR_FORM, Overview, Runner};
use respond::rules::{Decider, RuleSet};
use respond::settings::{JobSettings, Settings};
use respond::state::{DeliveryStatus, NewDelivery, State};

const SECOND: i64 = 1_000_000_000;

/// More than two alerts within five minutes are a storm.
const RULES: &str = r#"
version = 1
[[rule]]
id = "hosts"
mode = "auto"
match.all = [ { field = "severity", gte = 1 } ]
assets = { kinds = ["host"], max = 5 }
dedup = { window = "6h", repeat = "REPEAT" }
storm = { over = "2/5m", then = "triage_only" }
step = [
  { id = "triage", use = "capture.triage" },
  { id = "logs", use = "capture.logs", needs = ["triage:finished"] },
]
"#;

/// A clock that goes when it is told to.
#[derive(Clone)]
struct SetClock(Arc<AtomicI64>);

impl Clock for SetClock {
    fn now(&self) -> Moment {
        Moment { wall_ns: self.0.load(Ordering::SeqCst), ..SystemClock.now() }
    }
}

fn host(id: &str) -> Asset {
    serde_json::from_value(serde_json::json!({"kind": "host", "id": id, "target": "local"})).unwrap()
}

struct Serving {
    state: Arc<State>,
    clock: SetClock,
    runner: Option<Runner>,
    alerts: usize,
    _folder: tempfile::TempDir,
}

impl Serving {
    fn start(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
        let clock = SetClock(Arc::new(AtomicI64::new(1_795_219_200 * SECOND)));
        let runner = start(folder.path(), &state, rules, &clock);
        Self { state, clock, runner: Some(runner), alerts: 0, _folder: folder }
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    /// Another alert about a host, decided.
    fn alert(&mut self, host: &str) {
        self.alerts += 1;
        let alert = Alert {
            source: "made".into(),
            source_id: self.alerts.to_string(),
            severity: 80,
            assets: vec![AssetRef { kind: AssetKind::Host, id: host.into(), role: "primary".into() }],
            ..Alert::default()
        };
        let delivery = NewDelivery {
            source: format!("{BY_HAND}{OUR_FORM}"),
            received_ns: self.clock.now().wall_ns,
            body: serde_json::to_vec(&alert).unwrap(),
            headers: Vec::new(),
            sender: "the test".to_owned(),
            seen_as: None,
            status: DeliveryStatus::New,
            severity: alert.severity,
            why: String::new(),
        };
        self.state.store_delivery(delivery).unwrap();
        let begun = Instant::now();
        while !self.state.next_undecided(1).unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(600), "an alert stays undecided");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Of each job, its host and the steps of its rule that it has, without those that keep alerts.
    fn jobs(&self) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut jobs: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        for job in Overview::list(&self.state, &[], 1_000).unwrap() {
            let steps = Overview::of(&self.state, job.id).unwrap().unwrap().steps;
            let ids = steps.into_iter().map(|step| step.plan);
            let ids = ids.filter(|step| step.word != "keep.alert").map(|step| step.id).collect();
            jobs.entry(job.plan.asset.id).or_default().push(ids);
        }
        jobs
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runner) = self.runner.take() {
            runner.stop();
        }
    }
}

fn start(folder: &Path, state: &Arc<State>, rules: &str, clock: &SetClock) -> Runner {
    let file = folder.join("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let text = format!(
        "state = {:?}\ncases = {:?}\nexaminer = 'J. Doe'\nrules = {file:?}\n",
        folder.join("state"),
        folder.join("cases"),
    );
    let mut settings: Settings = toml::from_str(&text).unwrap();
    settings.jobs = JobSettings { workers: 0, ..JobSettings::default() };
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let acting = Acting {
        program: "/nowhere".into(),
        key: Arc::new(SigningKey::generate().unwrap()),
        clock: Arc::clone(&clock),
        identity: Identity::default(),
        teller: Arc::new(()),
    };
    let rules = Arc::new(RuleSet::load(&file).unwrap());
    let inventory = Inventory::of(["web0", "web1", "web2"].map(host));
    let intake = Arc::new(Deliveries::new(Arc::clone(state), Vec::new()));
    let decider = Arc::new(Decider::new(rules, Arc::new(inventory), clock));
    Runner::start(settings, Arc::clone(state), intake, decider, acting).unwrap()
}

#[test]
fn a_job_that_a_storm_cut_short_gets_the_rest_by_the_first_alert_after_it_and_by_none_before() {
    for repeat in ["attach", "ignore", "escalate"] {
        let mut serving = Serving::start(&RULES.replace("REPEAT", repeat));
        serving.alert("web0");
        serving.alert("web1");
        assert_eq!(serving.jobs()["web1"], [["triage", "logs"]], "{repeat}");
        serving.alert("web2");
        assert_eq!(serving.jobs()["web2"], [["triage"]], "{repeat}: it is a storm");
        serving.alert("web2");
        assert_eq!(serving.jobs()["web2"], [["triage"]], "{repeat}: it still is");
        serving.pass(600);
        serving.alert("web2");
        assert_eq!(serving.jobs()["web2"], [["triage", "logs"]], "{repeat}: it is over");
        serving.alert("web2");
        assert_eq!(serving.jobs()["web2"], [["triage", "logs"]], "{repeat}: once and for all");
    }
}

#[test]
fn a_storm_that_leaves_nothing_to_do_does_not_keep_the_whole_job_from_being_made_after_it() {
    let rules = RULES.replace("  { id = \"triage\", use = \"capture.triage\" },\n", "");
    let rules = rules.replace(", needs = [\"triage:finished\"]", "").replace("REPEAT", "attach");
    let mut serving = Serving::start(&rules);
    for host in ["web0", "web1", "web2", "web2"] {
        serving.alert(host);
    }
    assert!(!serving.jobs().contains_key("web2"), "{:?}", serving.jobs());
    serving.pass(600);
    serving.alert("web2");
    assert_eq!(serving.jobs()["web2"], [["logs"]]);
}
