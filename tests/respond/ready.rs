//! Readiness: each check passes where what it is about holds, and fails or errs where it does not.

use std::path::Path;
use std::sync::Arc;

use custody::SigningKey;
use respond::ready::{Outcome, Probe, Status, Wanted, all, run};
use respond::settings::Settings;
use respond::state::State;

/// Settings in a folder, with more of TOML.
pub(crate) fn settings(folder: &Path, more: &str) -> Settings {
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "state = {:?}\ncases = {:?}\nrules = {:?}\nexaminer = \"J. Doe\"\n{more}",
        at("state"),
        at("cases"),
        at("rules.toml")
    );
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A probe with a state and a key of its own.
pub(crate) fn probe(folder: &Path, more: &str) -> Probe {
    let settings = settings(folder, more);
    std::fs::create_dir_all(&settings.cases).unwrap();
    let state = Arc::new(State::open(&settings.state).unwrap());
    let key = SigningKey::generate().unwrap();
    Probe::new(settings, Ok(state), folder.join("exhibit"), Ok(Box::new(key)))
}

/// What came of one check.
pub(crate) fn check(probe: Probe, id: &str) -> Vec<Outcome> {
    check_again(&Arc::new(probe), id)
}

pub(crate) fn check_again(probe: &Arc<Probe>, id: &str) -> Vec<Outcome> {
    let wanted = Wanted { ids: vec![id.to_owned()], drills: Vec::new() };
    let state = probe.state.as_ref().ok().cloned();
    let (_, found) = run(probe, &wanted, state.as_deref()).unwrap();
    assert!(!found.is_empty(), "{id} says nothing");
    assert!(found.iter().all(|one| one.check == id));
    found
}

/// The status of the only finding of a check, with what was seen.
pub(crate) fn one(probe: Probe, id: &str) -> (Status, String) {
    let found = check(probe, id);
    assert_eq!(found.len(), 1, "{found:?}");
    (found[0].status, found[0].observed.clone())
}

/// Asserts a status, and that the words are in what was seen.
pub(crate) fn is(found: &(Status, String), status: Status, words: &[&str]) {
    assert_eq!(found.0, status, "{}", found.1);
    for word in words {
        assert!(found.1.contains(word), "{word:?} is not in: {}", found.1);
    }
}

/// An address where nothing listens: a port that was just let go of.
pub(crate) fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("127.0.0.1:{}", listener.local_addr().unwrap().port())
}

#[test]
fn what_cannot_be_tested_never_passes() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = nowhere();
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let more = format!(
        r#"
        [capture]
        to = "s3://evidence/ir"
        encrypt_to = ["{recipient}"]
        [aws]
        region = "eu-central-1"
        endpoint_url = "http://{nowhere}"
        accounts = ["123456789012"]
        [notify.people]
        url = "http://{nowhere}/"
        [ready]
        limit_seconds = 60
        volumes = ["vol-1"]
        instances = ["i-1"]
        kms_keys = ["alias/x"]
        crown_buckets = ["crown"]
        identities = ["/nonexistent/key"]
        ntp = ["{nowhere}"]
        public_url = "http://{nowhere}"
        container_sockets = ["/nonexistent/docker.sock"]
        backups = "/nonexistent/backups"
        [ready.canary]
        ebs = "vol-1"
        [ready.azure]
        tenant = "t"
        client_id = "c"
        client_secret_file = "/nonexistent/secret"
        subscriptions = ["s"]
        [ready.gcp]
        service_account_file = "/nonexistent/account.json"
        projects = ["p"]
        [[ready.escrow]]
        asset = "web01"
        uuid = "u"
        header = "/nonexistent/header"
        key_file = "/nonexistent/key"
        [[ready.role]]
        arn = "arn:aws:iam::123456789012:role/ir"
        [[ready.time_stamp]]
        url = "http://{nowhere}/tsa"
        root = "/nonexistent/root.pem"
        [[ready.collector]]
        os = "linux"
        arch = "x86_64"
        path = "/nonexistent/exhibit"
        sha256 = "00"
        "#
    );
    let mut settings = settings(folder.path(), &more);
    settings.cases = "/nonexistent/cases".into();
    settings.state = "/nonexistent/state".into();
    settings.inventory = Some("/nonexistent/inventory.toml".into());
    let none = || Err("it is not there".to_owned());
    let account = crate::fake_service::account(&format!("http://{nowhere}"), "eu-central-1");
    let probe = Probe::new(settings, none(), "/nonexistent/exhibit".into(), Err("no key".to_owned()))
        .below(&folder.path().join("empty"))
        .in_account(account);
    let wanted = Wanted { ids: Vec::new(), drills: Vec::new() };
    let probe = Arc::new(probe);
    let (_, mut found) = run(&probe, &wanted, None).unwrap();
    let drills = Wanted { ids: Vec::new(), drills: respond::ready::DrillKind::ALL.to_vec() };
    found.extend(run(&probe, &drills, None).unwrap().1);
    // The drill of an isolation needs nothing but this kernel: it makes its networks itself.
    for check in all().into_iter().filter(|check| check.id != "RD40") {
        let of_it: Vec<_> = found.iter().filter(|one| one.check == check.id).collect();
        assert!(!of_it.is_empty(), "{} was not run", check.id);
        for one in of_it {
            assert!(
                matches!(one.status, Status::Error | Status::Fail | Status::NotApplicable),
                "{} is {} though nothing can be reached: {}",
                check.id,
                one.status,
                one.observed
            );
            // What the settings name applies.
            let excused = ["RD31", "RD42", "RD43", "RD07", "RD08", "RD09"];
            assert!(
                one.status != Status::NotApplicable || excused.contains(&check.id),
                "{} does not apply: {}",
                check.id,
                one.observed
            );
        }
    }
}

#[test]
fn every_check_says_how_it_tests_and_what_to_do_and_ids_are_unique() {
    let all = all();
    for pair in all.windows(2) {
        assert!(pair[0].id < pair[1].id, "{} and {}", pair[0].id, pair[1].id);
    }
    for check in all {
        assert!(check.id.len() == 4 && check.id.starts_with("RD"), "{}", check.id);
        let said = [check.title, check.scope, check.tested, check.remediation];
        assert!(said.iter().all(|words| words.len() >= 3 && !words.contains("  ")), "{}", check.id);
        assert!(check.seconds > 0 && check.version > 0, "{}", check.id);
    }
}

#[test]
fn results_are_kept_with_what_they_were_seen_in_and_make_a_trend() {
    use respond::ready::{metrics, trend};
    use respond::state::readiness::Waiver;
    let folder = tempfile::tempdir().unwrap();
    let collector = folder.path().join("collector");
    std::fs::write(&collector, b"not ELF").unwrap();
    let more = format!(
        "[[ready.collector]]\nos = \"other\"\narch = \"x86_64\"\npath = {:?}\nsha256 = \"{}\"\n",
        collector.display().to_string(),
        custody::sha256(b"the right one")
    );
    let probe = Arc::new(probe(folder.path(), &more));
    let state = probe.state.clone().unwrap();
    assert_eq!(check_again(&probe, "RD37")[0].status, Status::Fail);
    std::fs::write(&collector, b"the right one").unwrap();
    let passed = &check_again(&probe, "RD37")[0];
    assert_eq!(passed.status, Status::Pass, "{}", passed.observed);
    std::fs::remove_file(&collector).unwrap();
    assert_eq!(check_again(&probe, "RD37")[0].status, Status::Fail);

    let evidence = state.readiness_evidence(passed.evidence_sha256.as_deref().unwrap()).unwrap().unwrap();
    assert_eq!(custody::sha256(&evidence).to_string(), passed.evidence_sha256.clone().unwrap());
    let runs = state.readiness_runs().unwrap();
    assert_eq!(runs.len(), 3);
    let found = trend::trend(&state, 0).unwrap();
    let scores: Vec<_> = found.series.iter().map(|point| point.score).collect();
    assert_eq!(scores, [Some(0.0), Some(100.0), Some(0.0)]);
    let history = &found.history[0];
    assert_eq!((history.check.as_str(), history.flaps), ("RD37", 2));
    assert!(history.failing_since.is_some() && history.last_passed.is_some());
    let changes = trend::diff(&state, runs[1].0, runs[2].0).unwrap();
    assert!(changes.len() == 1 && changes[0].is_worse, "{changes:?}");
    assert!(trend::diff(&state, runs[0].0, runs[2].0).unwrap().is_empty());

    let now_ns = custody::Clock::now(&custody::SystemClock).wall_ns;
    let waiver = Waiver {
        check: "RD37".to_owned(),
        scope: String::new(),
        owner: "jane".to_owned(),
        until_ns: now_ns + 3_600_000_000_000,
        reason: "it is built tonight".to_owned(),
        made_ns: now_ns,
    };
    state.waive(&waiver).unwrap();
    let waived = &check_again(&probe, "RD37")[0];
    assert_eq!(waived.status, Status::Fail, "a waiver changes no result");
    assert_eq!(waived.waived.as_ref().unwrap().owner, "jane");
    let wanted = Wanted { ids: vec!["RD37".to_owned()], drills: Vec::new() };
    let (_, unkept) = run(&probe, &wanted, None).unwrap();
    assert_eq!(unkept[0].waived.as_ref().unwrap().owner, "jane", "a run that is not kept tells waivers too");
    let text = metrics::text(&state, now_ns).unwrap();
    let line = "exhibit_ready_check{check=\"RD37\",scope=\"other/x86_64\",severity=\"high\",status=\"fail\",waived=\"true\"} 0";
    assert!(text.contains(line) && text.contains("exhibit_ready_score{scope=\"all\"} 0.00"), "{text}");
}

#[test]
fn a_check_that_hangs_is_given_up_and_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // Takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let root = folder.path().join("root.pem");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&root, made.cert.pem()).unwrap();
    let more = format!(
        "[ready]\nlimit_seconds = 1\n[[ready.time_stamp]]\nurl = \"http://127.0.0.1:{port}/\"\nroot = {:?}\n",
        root.display().to_string()
    );
    let found = one(probe(folder.path(), &more), "RD33");
    is(&found, Status::Error, &["no answer within 1 s"]);
}
