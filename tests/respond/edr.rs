//! Hosts through their EDR, against consoles of ours: contained and let back, captured while contained, and refused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use custody::{Actor, Case, Commission, Identity, NewCase, SigningKey, SystemClock, Writer};
use respond::alert::Alert;
use respond::edr::isolation::EdrHost;
use respond::edr::{EdrSettings, Patience, capture};
use respond::inventory::Asset;
use respond::isolate::{Isolation as _, isolate, take_back};
use respond::settings::Settings;
use respond::steps::{Context, Failed};
use serde_json::{Value, json};

use crate::edr_console::{AGENT, AID, Answer, Asked, Console, MACHINE, State, defender, falcon, sentinelone};

const PRODUCTS: [&str; 3] = ["crowdstrike", "defender", "sentinelone"];

/// A collector that acquires nothing but what it was told.
const COLLECTOR: &str = r#"#!/bin/sh
case "$*" in
  *--give*) for last; do :; done; cat "$last/told" ;;
  *acquire*) mkdir -p E001-edr; printf '%s|' "$@" > E001-edr/told; cat order >> E001-edr/told ;;
esac
"#;

/// Our own program, as far as it is needed here: it gives the commission, and takes a tar.
const PROGRAM: &str = r#"#!/bin/sh
here=$(dirname "$0")
out= take=
while [ $# -gt 0 ]; do
  case $1 in -o) out=$2 ;; --take) take=$2 ;; esac
  shift
done
if [ -n "$out" ]; then cp "$here/order" "$out"; else cp "$take" "$here/taken"; echo '{"exhibit":"E001"}'; fi
"#;

struct Scene {
    folder: tempfile::TempDir,
    console: Console,
    product: &'static str,
    stop: AtomicBool,
}

impl Scene {
    fn of(product: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        for name in ["host", "work", "state"] {
            std::fs::create_dir(here.join(name)).unwrap();
        }
        std::fs::write(here.join("secret"), "s3cr/t\n").unwrap();
        std::fs::write(here.join("collector"), COLLECTOR).unwrap();
        std::fs::write(here.join("program"), PROGRAM).unwrap();
        std::fs::set_permissions(here.join("program"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let answer: fn(&mut State, &Asked, &str) -> Answer = match product {
            "crowdstrike" => falcon,
            "defender" => defender,
            _ => sentinelone,
        };
        let console = Console::start(&here.join("host"), answer);
        Self { folder, console, product, stop: AtomicBool::new(false) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> EdrSettings {
        let (url, secret) = (&self.console.url, self.path("secret"));
        let collector = json!({
            "file": self.path("collector"), "sha256": custody::sha256(COLLECTOR.as_bytes()).to_string(),
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

    fn host(&self) -> EdrHost {
        let times = (Duration::from_secs(20), Duration::from_millis(5));
        EdrHost::new(&self.settings(), "edr1", self.device(), "j000017-isolate", 0, times)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.console.state.lock().unwrap())
    }

    /// Runs `capture.edr`, as a job would.
    fn capture(&self, intents: &RefCell<Vec<Value>>, parameters: &Value) -> Result<Value, Failed> {
        let case = self.path("case");
        if !case.exists() {
            let key = SigningKey::generate().unwrap();
            let identity = Identity {
                actor: Actor { name: "J. Doe".to_owned(), ..Actor::default() },
                ..Identity::default()
            };
            let case =
                Case::create(&case, &NewCase::default(), &Writer::new(&key, &SystemClock, identity)).unwrap();
            let order =
                Commission::new(case.file(), "E001", "edr", "triage", &[], "2026-11-21T00:00:00Z").unwrap();
            std::fs::write(self.path("order"), order.to_bytes().unwrap()).unwrap();
        }
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
            until: Instant::now() + Duration::from_secs(30),
            pause: Duration::from_millis(10),
            stop: &self.stop,
        };
        capture::capture(&context, "edr1", &edr, edr.collector().unwrap(), "fast", patience)
    }

    /// Everything of ours on the host and in the console is gone.
    fn is_clean(&self) -> bool {
        let works = std::fs::read_dir(self.path("work")).unwrap().count();
        let kept = self.with(|state| state.library());
        let collector = format!("exhibit-{:.16}", custody::sha256(COLLECTOR.as_bytes()).to_string());
        works == 0 && kept.iter().all(|name| *name == collector)
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
        let restored = take_back(&host, &serde_json::to_value(&isolated).unwrap()).unwrap();
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
    let restored = take_back(&host, &serde_json::to_value(&isolated).unwrap()).unwrap();
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
        scene.with(|state| (state.contained, state.too_many) = (true, 1));
        if product == "defender" {
            // Isolated before, by others.
            let host = scene.host();
            scene.with(|state| state.contained = false);
            isolate(&host, None, &keep).unwrap();
        }
        let intents = RefCell::new(Vec::new());
        let told = scene.capture(&intents, &json!({"contained": true}));
        let told = told.unwrap_or_else(|failed| panic!("{product}: {failed}"));
        assert_eq!(told["containment"], json!({"before": "contained", "after": "contained"}), "{product}");
        assert_eq!(
            (&told["exhibit"], &told["device"], &told["left"]),
            (&json!("E001"), &json!(scene.device()), &json!([]))
        );
        let taken = std::fs::read_to_string(scene.path("taken")).unwrap();
        assert!(taken.contains("acquire|triage|--profile|fast|--commission|"), "{product}: {taken}");
        assert!(taken.contains("\"exhibit\":\"E001\""), "{product}: {taken}");
        assert_eq!(intents.borrow()[0]["containment_before"], "contained");
        assert!(scene.is_clean(), "{product}: {:?}", scene.with(|state| state.library()));
        assert!(scene.with(|state| state.contained));
    }
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
