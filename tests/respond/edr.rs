//! Hosts through their EDR, against consoles of ours: contained and let back, captured while contained, and refused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use custody::{Actor, Case, Commission, Identity, NewCase, SigningKey, SystemClock, Writer};
use respond::alert::Alert;
use respond::edr::isolation::EdrHost;
use respond::edr::{EdrSettings, Patience, capture};
use respond::inventory::Asset;
use respond::isolate::{Isolation as _, Restored, case_log, isolate, take_back};
use respond::settings::Settings;
use respond::steps::{Context, Failed};
use serde_json::{Value, json};

use crate::edr_console::{
    AGENT, AID, Answer, Asked, Console, Fetched, MACHINE, State, defender, falcon, sentinelone,
};

const PRODUCTS: [&str; 3] = ["crowdstrike", "defender", "sentinelone"];

/// A collector that acquires nothing but what it was told.
const COLLECTOR: &str = r#"#!/bin/sh
case "$*" in
  *--give*) for last; do :; done; cat "$last/told" ;;
  *acquire*) mkdir -p E001-edr; printf '%s|' "$@" > E001-edr/told; cat order >> E001-edr/told ;;
esac
"#;

/// One that is never done.
const SLOW_COLLECTOR: &str = "#!/bin/sh\nexec sleep 3600\n";

/// Our own program, as far as it is needed here: it gives the commission, and takes a tar.
const PROGRAM: &str = r#"#!/bin/sh
here=$(dirname "$0")
out= take=
while [ $# -gt 0 ]; do
  case $1 in -o) out=$2 ;; --take) take=$2 ;; esac
  shift
done
if [ -n "$out" ]; then cp "$here/order" "$out"; exit; fi
cp "$take" "$here/taken"
if [ -f "$here/says" ]; then cat "$here/says"; else echo '{"exhibit":"E001","sealed":true}'; fi
"#;

struct Scene {
    folder: tempfile::TempDir,
    console: Console,
    product: &'static str,
    collector: &'static str,
    key: SigningKey,
    stop: Arc<AtomicBool>,
}

impl Scene {
    fn of(product: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        for name in ["host", "work", "state"] {
            std::fs::create_dir(here.join(name)).unwrap();
        }
        std::fs::write(here.join("secret"), "s3cr/t\n").unwrap();
        std::fs::write(here.join("program"), PROGRAM).unwrap();
        std::fs::set_permissions(here.join("program"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let answer: fn(&mut State, &Asked, &str) -> Answer = match product {
            "crowdstrike" => falcon,
            "defender" => defender,
            _ => sentinelone,
        };
        let console = Console::start(&here.join("host"), answer);
        let this = Self {
            folder,
            console,
            product,
            collector: "",
            key: SigningKey::generate().unwrap(),
            stop: Arc::default(),
        };
        this.with_collector(COLLECTOR)
    }

    fn with_collector(mut self, collector: &'static str) -> Self {
        std::fs::write(self.path("collector"), collector).unwrap();
        self.collector = collector;
        self
    }

    fn writer(&self) -> Writer<'_> {
        let identity = Identity {
            actor: Actor { name: "J. Doe".to_owned(), ..Actor::default() },
            ..Identity::default()
        };
        Writer::new(&self.key, &SystemClock, identity)
    }

    /// The job's case.
    fn case(&self) -> Case {
        let folder = self.path("case");
        if folder.exists() {
            return Case::open(&folder).unwrap();
        }
        let case = Case::create(&folder, &NewCase::default(), &self.writer()).unwrap();
        let order =
            Commission::new(case.file(), "E001", "edr", "triage", &[], "2026-11-21T00:00:00Z").unwrap();
        std::fs::write(self.path("order"), order.to_bytes().unwrap()).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> EdrSettings {
        let (url, secret) = (&self.console.url, self.path("secret"));
        let collector = json!({
            "file": self.path("collector"), "sha256": custody::sha256(self.collector.as_bytes()).to_string(),
            "folder": self.path("work"), "most": 1_000_000,
        });
        let value = match self.product {
            "crowdstrike" => json!({"url": url, "client_id": "c", "client_secret_file": secret}),
            "defender" => json!({
                "tenant_id": "b3c1b5fc-0000-4000-8000-10d74f6d6e9c", "client_id": "c", "client_secret_file": secret, "url": url,
                "login_url": format!("{url}/login"), "put_folder": self.path("host"),
            }),
            _ => {
                json!({"url": url, "token_file": secret, "scope_level": "site", "scope_id": "225494730938493804"})
            }
        };
        let mut whole = json!({"kind": self.product, "collector": collector});
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn device(&self) -> &'static str {
        match self.product {
            "crowdstrike" => AID,
            "defender" => MACHINE,
            _ => AGENT,
        }
    }

    fn host(&self) -> EdrHost<'_> {
        self.host_within(Duration::from_secs(120))
    }

    fn host_within(&self, time: Duration) -> EdrHost<'_> {
        let times = (time, Duration::from_millis(5));
        EdrHost::new(&self.settings(), "edr1", self.device(), "j000017-isolate", 0, times)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.console.state.lock().unwrap())
    }

    /// Runs `capture.edr`, as a job would.
    fn capture(&self, intents: &RefCell<Vec<Value>>, parameters: &Value) -> Result<Value, Failed> {
        self.case();
        let case = self.path("case");
        let settings: Settings = serde_json::from_value(json!({
            "state": self.path("state"), "cases": self.path("cases"), "examiner": "J. Doe", "rules": self.path("rules"),
        }))
        .unwrap();
        let asset: Asset =
            serde_json::from_value(json!({"kind": "host", "id": "ws-fin-07", "aliases": [self.device()]}))
                .unwrap();
        let earlier_intents = intents.borrow().clone();
        let context = Context {
            job: "J000017",
            id: "edr",
            parameters: parameters.as_object().unwrap(),
            alert: &Alert::default(),
            lease: 0,
            asset: &asset,
            case: &case,
            settings: &settings,
            program: &self.path("program"),
            earlier: &BTreeMap::new(),
            intend: &|intent| {
                intents.borrow_mut().push(intent.clone());
                Ok(())
            },
            intents: &earlier_intents,
            stop: &self.stop,
        };
        let edr = self.settings();
        let patience = Patience {
            until: Instant::now() + Duration::from_secs(120),
            pause: Duration::from_millis(10),
            stop: &self.stop,
        };
        capture::capture(&context, "edr1", &edr, edr.collector().unwrap(), "fast", patience)
    }

    /// Everything of ours on the host and in the console is gone.
    fn is_clean(&self) -> bool {
        let works = std::fs::read_dir(self.path("work")).unwrap().count();
        let kept = self.with(|state| state.library());
        let collector = format!("exhibit-{:.16}", custody::sha256(self.collector.as_bytes()).to_string());
        works == 0 && kept.iter().all(|name| *name == collector)
    }

    /// Whether something still runs in our folder on the host.
    fn is_at_work(&self) -> bool {
        let work = self.path("work").canonicalize().unwrap().to_str().unwrap().to_owned();
        std::fs::read_dir("/proc").unwrap().any(|process| {
            let cwd = std::fs::read_link(process.unwrap().path().join("cwd")).unwrap_or_default();
            cwd.to_string_lossy().starts_with(&work)
        })
    }

    /// What this machine keeps of the collection.
    fn kept(&self) -> Vec<String> {
        let folders = std::fs::read_dir(self.path("state/collections")).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Takes an isolation back as the keeper of times does: again until it is.
    fn take_back(&self, host: &EdrHost<'_>, given: &Value) -> Restored {
        let begun = Instant::now();
        loop {
            match take_back(host, given) {
                Ok(restored) => return restored,
                Err(failed) => {
                    assert!(failed.may_help_again && begun.elapsed() < Duration::from_secs(120), "{failed}");
                }
            }
        }
    }
}

/// Waits for what must come.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn keep(_: &Value) -> respond::Result<()> {
    Ok(())
}

#[test]
fn a_host_is_contained_and_let_back_once_each_however_long_it_takes() {
    for product in PRODUCTS {
        let scene = Scene::of(product);
        scene.with(|state| state.too_many = 2);
        let host = scene.host();
        let isolated = isolate(&host, None, &keep).unwrap_or_else(|failed| panic!("{product}: {failed}"));
        assert!(scene.with(|state| state.contained), "{product}");
        // The EDR's word is no proof.
        assert!(
            !isolated.is_proved
                && !isolated.verified.read_back.is_empty()
                && !isolated.verified.not_tried.is_empty()
        );
        // A run after a kill finds it done.
        let asked = |scene: &Scene| {
            [
                "POST /devices/entities/devices-actions",
                "POST /api/machines/",
                "POST /web/api/v2.1/agents/actions",
            ]
            .iter()
            .map(|what| scene.console.asked(what))
            .sum::<usize>()
        };
        assert_eq!(asked(&scene), 1, "{product}");
        isolate(&host, Some(&isolated.recorded), &keep).unwrap();
        assert_eq!(asked(&scene), 1, "{product}");
        let restored = scene.take_back(&host, &serde_json::to_value(&isolated).unwrap());
        assert!(restored.is_exact() && !scene.with(|state| state.contained), "{product}");
        assert_eq!(asked(&scene), 2, "{product}");
    }
}

#[test]
fn a_host_that_was_contained_before_stays_so() {
    let scene = Scene::of("sentinelone");
    scene.with(|state| state.contained = true);
    let host = scene.host();
    let isolated = isolate(&host, None, &keep).unwrap();
    assert_eq!(isolated.recorded["was_contained"], true);
    let restored = scene.take_back(&host, &serde_json::to_value(&isolated).unwrap());
    assert!(restored.is_exact() && scene.with(|state| state.contained));
    assert_eq!(scene.console.asked("POST"), 0);
}

#[test]
fn a_filter_that_fits_more_than_one_host_does_nothing() {
    for (product, fits) in [
        ("sentinelone", 2),
        ("sentinelone", 4000),
        ("crowdstrike", 2),
        ("crowdstrike", 0),
        ("sentinelone", 0),
    ] {
        let scene = Scene::of(product);
        scene.with(|state| state.fits = Some(fits));
        let failed = scene.host().record().unwrap_err();
        assert!(!failed.may_help_again, "{product} {fits}: {failed}");
        let failed = scene.host().apply(&Value::Null).unwrap_err();
        assert!(!failed.may_help_again, "{product} {fits}: {failed}");
        assert_eq!(scene.console.asked("POST /web/api/v2.1/agents/actions"), 0);
        assert_eq!(scene.console.asked("POST /devices/entities/devices-actions"), 0);
    }
}

#[test]
fn a_token_that_runs_out_is_fetched_anew_and_a_wrong_secret_is_told_without_it() {
    for product in ["crowdstrike", "defender"] {
        let scene = Scene::of(product);
        scene.with(|state| state.token_ends_after = Some(2));
        isolate(&scene.host(), None, &keep).unwrap_or_else(|failed| panic!("{product}: {failed}"));
        assert!(scene.with(|state| state.contained));
        let scene = Scene::of(product);
        std::fs::write(scene.path("secret"), "wr0ng-s3cret").unwrap();
        let failed = scene.host().record().unwrap_err();
        assert!(!failed.may_help_again && failed.what.contains("no token was given (401)"), "{failed}");
        assert!(!failed.what.contains("s3cr"), "{failed}");
    }
}

#[test]
fn a_contained_host_is_captured_and_stays_contained() {
    for product in PRODUCTS {
        let scene = Scene::of(product);
        scene.with(|state| {
            state.is_contained_already();
            state.too_many = 1;
        });
        let intents = RefCell::new(Vec::new());
        let asked = json!({"contained": true, "artefacts": ["V3", "it's"]});
        let told = scene.capture(&intents, &asked);
        let told = told.unwrap_or_else(|failed| panic!("{product}: {failed}"));
        assert_eq!(told["containment"], json!({"before": "contained", "after": "contained"}), "{product}");
        assert_eq!(
            (&told["exhibit"], &told["device"], &told["left"]),
            (&json!("E001"), &json!(scene.device()), &json!([]))
        );
        let taken = std::fs::read_to_string(scene.path("taken")).unwrap();
        assert!(
            taken.contains("acquire|triage|--profile|fast|--artefact|V3|--artefact|it's|--commission|"),
            "{product}: {taken}"
        );
        assert!(taken.contains("\"exhibit\":\"E001\""), "{product}: {taken}");
        assert_eq!(intents.borrow()[0]["containment_before"], "contained");
        assert!(scene.is_clean(), "{product}: {:?}", scene.with(|state| state.library()));
        assert!(scene.with(|state| state.contained && state.fetched.is_empty()));
        assert!(scene.kept().is_empty(), "{product}: {:?}", scene.kept());
    }
}

#[test]
fn a_service_that_stops_ends_the_collector_on_the_host_and_leaves_nothing_of_ours() {
    for product in PRODUCTS {
        // A script of SentinelOne is run to its end, one of the others leaves the collector in the background.
        let collector = if product == "sentinelone" { COLLECTOR } else { SLOW_COLLECTOR };
        let scene = Scene::of(product).with_collector(collector);
        scene.with(|state| state.stop = Some(scene.stop.clone()));
        let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
        assert!(
            failed.may_help_again && failed.what.contains("the service is stopping"),
            "{product}: {failed}"
        );
        assert!(!failed.what.contains("may not be removed"), "{product}: {failed}");
        until("the host is not clean", || scene.is_clean());
        until("the collector still runs", || !scene.is_at_work());
        assert_eq!(scene.kept(), ["commission"], "{product}");
    }
}

#[test]
fn evidence_that_is_not_sealed_fails_the_step_and_the_next_try_is_for_another_exhibit() {
    let scene = Scene::of("crowdstrike");
    std::fs::write(scene.path("says"), r#"{"exhibit":"E001","sealed":false}"#).unwrap();
    let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
    assert!(failed.may_help_again, "{failed}");
    assert!(failed.what.contains("not sealed") && failed.what.contains("in the case as E001"), "{failed}");
    // Not even the commission, which is used up.
    assert!(scene.kept().is_empty(), "{:?}", scene.kept());
    assert!(scene.is_clean());
    // Who says nothing of a seal has said nothing.
    std::fs::write(scene.path("says"), r#"{"exhibit":"E001"}"#).unwrap();
    let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
    assert!(failed.may_help_again && failed.what.contains("whether what came is sealed"), "{failed}");
    assert!(
        failed.what.contains("bundle.tar") && scene.kept().contains(&"bundle.tar".to_owned()),
        "{failed}"
    );
    std::fs::remove_file(scene.path("says")).unwrap();
    scene.capture(&RefCell::default(), &json!({})).unwrap();
    assert!(scene.kept().is_empty(), "{:?}", scene.kept());
}

/// Where our script works on the host.
fn folder_on_host(scene: &Scene) -> PathBuf {
    let short = format!("{:.8}", custody::sha256(b"J000017\nedr").to_string());
    scene.path("work").join(format!("exhibit-J000017-edr-{short}"))
}

#[test]
fn what_an_earlier_run_fetched_by_the_same_name_is_not_taken_for_this_one_s() {
    let scene = Scene::of("crowdstrike");
    let name = folder_on_host(&scene).join("bundle.tar").to_str().unwrap().to_owned();
    let old = Fetched { request: "old-7".to_owned(), name, content: b"of an earlier run".to_vec() };
    scene.with(|state| state.fetched.push(old));
    let told = scene.capture(&RefCell::default(), &json!({}));
    assert_eq!(told.unwrap()["left"], json!([]));
    let taken = std::fs::read_to_string(scene.path("taken")).unwrap();
    assert!(taken.contains("acquire|triage|"), "{taken}");
    // Ours is deleted from the tenant; what is not ours stays.
    let names: Vec<String> =
        scene.with(|state| state.fetched.iter().map(|file| file.request.clone()).collect());
    assert_eq!(names, ["old-7"]);
}

#[test]
fn a_host_that_is_away_fails_the_step_for_now_and_is_captured_when_it_is_back() {
    let scene = Scene::of("crowdstrike");
    scene.with(|state| (state.refused_sessions, state.warns) = (1, true));
    // Of a run that was killed.
    std::fs::create_dir_all(folder_on_host(&scene)).unwrap();
    let intents = RefCell::new(Vec::new());
    let failed = scene.capture(&intents, &json!({})).unwrap_err();
    assert!(failed.may_help_again && failed.what.contains("not online"), "{failed}");
    // A shell's warning of its language is no failure, nor is a folder that is there.
    scene.capture(&intents, &json!({})).unwrap();
    assert!(scene.is_clean());
}

#[test]
fn a_containment_that_others_make_between_two_runs_is_no_change_of_either() {
    let scene = Scene::of("crowdstrike");
    scene.with(|state| state.refused_sessions = 1);
    let intents = RefCell::new(Vec::new());
    assert!(scene.capture(&intents, &json!({})).unwrap_err().may_help_again);
    scene.with(|state| state.contained = true);
    let told = scene.capture(&intents, &json!({})).unwrap();
    assert_eq!(told["containment"], json!({"before": "contained", "after": "contained"}));
}

#[test]
fn a_containment_by_the_same_job_is_told_and_one_by_others_fails_the_step() {
    for is_ours in [false, true] {
        let scene = Scene::of("crowdstrike");
        scene.with(|state| state.contained_meanwhile = true);
        if is_ours {
            let recorded = json!({"was_contained": false, "until": ""});
            let entry =
                case_log::intended("j000017-cut", "isolate.crowdstrike", "host x", &recorded).unwrap();
            scene.case().append(entry.how("job", "J000017"), &scene.writer()).unwrap();
        }
        match scene.capture(&RefCell::default(), &json!({})) {
            Ok(told) if is_ours => {
                assert_eq!(
                    (&told["containment"]["before"], &told["containment"]["after"]),
                    (&json!("normal"), &json!("contained"))
                );
                let issue = told["containment"]["issue"].as_str().unwrap();
                assert!(issue.contains("j000017-cut") && issue.contains("same job"), "{issue}");
            }
            Err(failed) if !is_ours => {
                assert!(!failed.may_help_again, "{failed}");
                assert!(failed.what.contains("not contained before, contained after"), "{failed}");
            }
            other => panic!("{is_ours}: {other:?}"),
        }
    }
}

#[test]
fn a_console_that_wants_a_second_person_s_approval_is_told_of_and_asked_once() {
    let scene = Scene::of("sentinelone");
    scene.with(|state| state.wants_approval = true);
    let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
    assert!(!failed.may_help_again && failed.what.contains("second person"), "{failed}");
    assert_eq!(scene.console.asked("POST /web/api/v2.1/remote-scripts/execute"), 1);
    // Approving it later runs nothing.
    assert!(scene.is_clean(), "{:?}", scene.with(|state| state.library()));
}

#[test]
fn a_host_that_is_away_is_contained_when_it_is_back_and_never_let_back_for_that() {
    for product in PRODUCTS {
        let scene = Scene::of(product);
        scene.with(|state| state.is_away = true);
        let host = scene.host_within(Duration::from_millis(300));
        let isolated = isolate(&host, None, &keep).unwrap_or_else(|failed| panic!("{product}: {failed}"));
        assert!(!isolated.is_proved && isolated.verified.read_back.is_empty(), "{product}");
        let not_tried = isolated.verified.not_tried.join("; ");
        assert!(not_tried.contains("not confirmed it yet"), "{product}: {not_tried}");
        assert!(scene.with(|state| state.contained), "{product}: it was let back");
        // A run after a kill, while it is still away, changes nothing.
        isolate(&host, Some(&isolated.recorded), &keep).unwrap();
        scene.with(State::comes_back);
        assert!(scene.with(|state| state.contained), "{product}");
        // Letting back is not waited for: others wait to be looked at too.
        scene.with(|state| state.is_away = true);
        let given = serde_json::to_value(&isolated).unwrap();
        let failed = take_back(&scene.host(), &given).unwrap_err();
        assert!(failed.may_help_again && failed.what.contains("not confirmed it yet"), "{product}: {failed}");
        scene.with(State::comes_back);
        assert!(take_back(&scene.host(), &given).unwrap().is_exact(), "{product}");
        assert!(!scene.with(|state| state.contained), "{product}");
    }
}

#[test]
fn a_service_that_stops_waits_no_longer_for_a_containment_and_does_not_lift_it() {
    let scene = Scene::of("crowdstrike");
    scene.with(|state| state.is_away = true);
    scene.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let host = scene.host_within(Duration::from_secs(3600)).stopped_by(&scene.stop);
    let isolated = isolate(&host, None, &keep).unwrap();
    assert!(!isolated.is_proved && scene.with(|state| state.contained));
}

#[test]
fn a_containment_that_changes_meanwhile_fails_the_step_for_good_though_the_evidence_came() {
    for product in PRODUCTS {
        let scene = Scene::of(product);
        if product == "defender" {
            isolate(&scene.host(), None, &keep).unwrap();
        }
        scene.with(|state| (state.contained, state.lifted_meanwhile) = (true, true));
        let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
        assert!(!failed.may_help_again, "{product}: {failed}");
        assert!(failed.what.contains("contained before, not contained after"), "{product}: {failed}");
        assert!(
            failed.what.contains("in the case as E001") && scene.path("taken").is_file(),
            "{product}: {failed}"
        );
        assert!(scene.is_clean(), "{product}");
    }
}

#[test]
fn what_was_recorded_before_a_kill_is_what_is_compared_with() {
    let scene = Scene::of("crowdstrike");
    let intents = RefCell::new(vec![json!({"device": AID, "containment_before": "contained"})]);
    let failed = scene.capture(&intents, &json!({})).unwrap_err();
    assert!(failed.what.contains("contained before, not contained after"), "{failed}");
    assert_eq!(intents.borrow().len(), 1);
}

#[test]
fn a_rule_that_asks_for_a_contained_host_touches_no_other() {
    let scene = Scene::of("crowdstrike");
    let failed = scene.capture(&RefCell::default(), &json!({"contained": true})).unwrap_err();
    assert!(!failed.may_help_again && failed.what.contains("not contained"), "{failed}");
    assert_eq!(scene.console.asked("POST /real-time-response"), 0);
}

#[test]
fn a_collector_that_was_changed_on_its_way_is_not_run() {
    for product in PRODUCTS {
        let scene = Scene::of(product);
        scene.with(|state| state.tampers = true);
        let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
        assert!(failed.what.contains("nowhere on the host, or is another"), "{product}: {failed}");
        assert!(!scene.path("taken").exists());
        assert!(scene.is_clean(), "{product}");
    }
}

#[test]
fn another_collector_than_the_pinned_one_never_leaves_this_machine() {
    let scene = Scene::of("crowdstrike");
    std::fs::write(scene.path("collector"), "#!/bin/sh\nrm -rf /\n").unwrap();
    let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
    assert!(!failed.may_help_again && failed.what.contains("not the one in the settings"), "{failed}");
    assert_eq!(scene.console.asked("POST /real-time-response"), 0);
}

#[test]
fn results_are_fetched_from_nowhere_but_where_the_product_keeps_them() {
    // Nobody may ever connect here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}/x", listener.local_addr().unwrap());
    for product in ["defender", "sentinelone"] {
        let named = [
            "http://169.254.169.254/latest/meta-data",
            "https://evil.example/x",
            "https://x.blob.core.windows.net.evil.example/",
            "file:///etc/passwd",
            "https://a@b",
            &elsewhere,
        ];
        for at in named {
            let scene = Scene::of(product);
            scene.with(|state| state.results_at = Some(at.to_owned()));
            let failed = scene.capture(&RefCell::default(), &json!({})).unwrap_err();
            assert!(!failed.may_help_again, "{product} {at}: {failed}");
        }
    }
    assert!(listener.accept().is_err());
}

#[test]
fn nothing_of_a_secret_stands_in_settings_that_are_shown() {
    for product in PRODUCTS {
        let scene = Scene::of(product);
        let shown = format!("{:?} {:?}", scene.settings(), scene.host());
        assert!(!shown.contains("s3cr") && Path::new(&scene.path("secret")).exists(), "{shown}");
    }
}
