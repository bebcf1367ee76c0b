//! Jobs of the real service: one capture however often an alert comes, whenever the service is killed; what people say to it.

use std::time::Duration;

use serde_json::Value;

use crate::exhibit::{Desk, noise};
use crate::serving::{
    Serving, alert, case_of, entries, exhibits, jobs, until_ended, verifies, write_settings,
};

fn rules(desk: &Desk, mode: &str, more: &str) -> String {
    let (logs, disk) = (desk.path("logs"), desk.path("disk.raw"));
    format!(
        r#"version = 1
[limits]
captures = {{ per_hour = 100000, concurrent = 8 }}
[[rule]]
id = "host"
mode = "{mode}"
match.all = [ {{ field = "severity", gte = 1 }} ]
assets = {{ kinds = ["host"], max = 5 }}
dedup = {{ key = ["asset.id"], window = "6h", repeat = "attach" }}
step = [
  {{ id = "logs", use = "capture.logs", paths = [{logs:?}], retry = {{ max = 3, backoff = "1s..2s" }} }},
  {{ id = "disk", use = "capture.disk", source = {disk:?}, needs = ["logs:started"], retry = {{ max = 3, backoff = "1s..2s" }} }},
{more}]
"#
    )
}

fn desk(hosts: usize, mode: &str, more: &str, settings: &str) -> Desk {
    let desk = Desk::new();
    desk.write("logs/auth.log", "Nov 21 01:30:00 web01 sshd[1]: Accepted publickey for root\n");
    desk.write("disk.raw", noise(3 << 20));
    let rules = rules(&desk, mode, more);
    write_settings(&desk, hosts, &rules, settings);
    desk
}

fn types(case: &std::path::Path) -> Vec<String> {
    entries(case).iter().map(|entry| entry["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_alert_sent_a_thousand_times_at_once_is_captured_once() {
    let desk = desk(1, "auto", "", "");
    let serving = Serving::start(desk.command());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..63 {
                    let status = serving.post("made", &alert("a-1", 80, 0));
                    assert!(matches!(status, Some(202 | 503)), "{status:?}");
                }
            });
        }
    });
    let jobs = until_ended(&desk, 1, &serving);
    assert_eq!((jobs.len(), jobs[0]["state"].as_str()), (1, Some("done")), "{jobs:#?}\n{}", serving.said());
    let case = case_of(&desk, &jobs[0]);
    assert_eq!(exhibits(&case), (vec!["alert".into(), "disk".into(), "logs".into()], 0));
    verifies(&desk, &case);
    let types = types(&case);
    assert_eq!(types[..3], ["log.genesis", "alert.received", "decision.made"]);
    assert_eq!(types.iter().filter(|kind| *kind == "bundle.sealed").count(), 3);
    // The body as it came is in the case, under the hash that the first entry names.
    let folders = std::fs::read_dir(case.join("exhibits")).unwrap();
    let folder = folders
        .map(|one| one.unwrap().path())
        .find(|path| path.to_str().unwrap().ends_with("-alert"))
        .unwrap();
    desk.ok(&["export", folder.to_str().unwrap(), "--format", "tar", "-o", "alert.tar"]);
    let tar = std::fs::read(desk.path("alert.tar")).unwrap();
    let body = alert("a-1", 80, 0);
    assert!(tar.windows(body.len()).any(|part| part == body.as_bytes()));
    let times = desk.ok(&["stats", "mttr", case.to_str().unwrap(), "--json"]);
    let times: Vec<Value> = serde_json::from_str(&times.stdout).unwrap();
    let whats: Vec<&str> = times.iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(whats[..2], ["received", "queued"]);
    assert!(whats.contains(&"capture begun") && whats.contains(&"last exhibit sealed"), "{whats:?}");
    assert_eq!(serving.stop(), Some(0));
}

/// 8 kills, or as many as `EXHIBIT_KILLS` says; the release check runs 200.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a person asks for the long run")]
fn killed_at_any_moment_the_service_loses_no_alert_and_captures_nothing_twice() {
    let kills: u64 = std::env::var("EXHIBIT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let hosts = if kills > 50 { 50 } else { 10 };
    let desk = desk(hosts, "auto", "", "[jobs]\nattempts = 100000\n");
    let mut state = 0x2545_f491_4f6c_dd1du64 ^ kills;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut sent = 0;
    let mut during = 0;
    for kill in 0..kills {
        let serving = Serving::start(desk.command());
        // The alerts come spread over the first half of the kills, some of them while it is being killed.
        let due = (hosts as u64 * (kill + 1)).div_ceil(kills.div_ceil(2)).min(hosts as u64) as usize;
        std::thread::scope(|scope| {
            let (serving, wait) = (&serving, random(1800));
            let sender = scope.spawn(move || {
                let mut next = sent;
                while next < due && serving.post("made", &alert(&format!("a-{next}"), 50, next)) == Some(202)
                {
                    next += 1;
                }
                next
            });
            std::thread::sleep(Duration::from_millis(wait));
            let id = serving.child.id().to_string();
            assert!(std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
            sent = sender.join().unwrap();
        });
        serving.kill();
        let jobs = jobs(&desk);
        during += usize::from(jobs.iter().any(|job| matches!(job["state"].as_str(), Some("running"))));
    }
    let serving = Serving::start(desk.command());
    while sent < hosts {
        assert_eq!(serving.post("made", &alert(&format!("a-{sent}"), 50, sent)), Some(202));
        sent += 1;
    }
    let jobs = until_ended(&desk, hosts, &serving);
    assert_eq!(jobs.len(), hosts, "an alert was lost, or became two jobs");
    let mut left_open = 0;
    for job in &jobs {
        assert_eq!(job["state"], "done", "{job:#}\n{}", serving.said());
        let case = case_of(&desk, job);
        let (sealed, open) = exhibits(&case);
        assert_eq!(sealed, ["alert", "disk", "logs"], "{case:?}");
        left_open += open;
        verifies(&desk, &case);
        let types = types(&case);
        let count = |kind: &str| types.iter().filter(|one| *one == kind).count();
        assert_eq!(
            (count("alert.received"), count("decision.made"), count("bundle.sealed")),
            (1, 1, 3),
            "{case:?}"
        );
    }
    let cases = std::fs::read_dir(desk.path("cases")).unwrap().count();
    assert_eq!(cases, hosts, "a case without a job was left");
    println!(
        "killed {kills} times, {during} of them while jobs ran; {left_open} bundles were left open and made again"
    );
    assert!(during > 0, "no kill met a job at work");
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_plan_waits_for_a_yes_and_a_step_for_its_own() {
    let isolates = r#"  { id = "more", use = "capture.logs", paths = ["/etc/hostname"], needs = ["disk"], approval = { count = 1, timeout = "10m" } },
"#;
    let desk = desk(1, "approve", isolates, "");
    let serving = Serving::start(desk.command());
    assert_eq!(serving.post("made", &alert("a-1", 80, 0)), Some(202));
    let wait_for = |what: &dyn Fn(&Value) -> bool| {
        let begun = std::time::Instant::now();
        loop {
            let shown = desk.run(&["jobs", "show", "J000001", "--config", "serve.toml", "--json"]);
            if shown.code == 0 {
                let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
                if what(&shown) {
                    return shown;
                }
                assert!(begun.elapsed() < Duration::from_secs(120), "{shown:#}\n{}", serving.said());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let asked = wait_for(&|job| job["state"] == "waiting");
    assert!(asked["steps"].as_array().unwrap().iter().all(|step| step["state"] == "pending"));
    assert_eq!(
        (asked["approvals"][0]["step"].as_str(), asked["approvals"][0]["answer"].as_str()),
        (Some(""), Some("open"))
    );
    let hash = asked["plan_sha256"].as_str().unwrap();
    let approve = ["jobs", "approve", "J000001", "--config", "serve.toml"];
    desk.run(&[&approve[..], &["--bound-to", &"0".repeat(64)]].concat()).fails(4, &["the plan has changed"]);
    desk.ok(&[&approve[..], &["--bound-to", hash]].concat());
    let asked = wait_for(&|job| job["approvals"].as_array().unwrap().iter().any(|one| one["step"] == "more"));
    assert!(
        asked["steps"].as_array().unwrap().iter().any(|step| step["id"] == "disk" && step["state"] == "done")
    );
    desk.run(&approve).fails(4, &["nobody is asked about the plan"]);
    desk.ok(&[&approve[..], &["--step", "more"]].concat());
    let jobs = until_ended(&desk, 1, &serving);
    assert_eq!(jobs[0]["state"], "done", "{}", serving.said());
    let case = case_of(&desk, &jobs[0]);
    let given: Vec<Value> =
        entries(&case).into_iter().filter(|entry| entry["type"] == "approval.given").collect();
    assert_eq!(given.len(), 2);
    assert!(given.iter().all(|entry| entry["how"]["by"].as_str().is_some_and(|name| !name.is_empty())));
    verifies(&desk, &case);
    let table = desk.ok(&["jobs", "show", "J000001", "--config", "serve.toml"]).stdout;
    assert!(table.lines().all(|line| line.chars().count() <= 80) || table.contains("plan "), "{table}");
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_step_that_fails_skips_what_needs_it_and_no_more_and_the_job_can_be_tried_again() {
    let more = r#"  { id = "gone", use = "capture.disk", source = "/nonexistent/disk" },
  { id = "after", use = "capture.logs", paths = ["/etc/hostname"], needs = ["gone"] },
  { id = "beside", use = "capture.logs", paths = ["/etc/hostname"], needs = ["gone:finished"] },
"#;
    let desk = desk(1, "auto", more, "");
    let serving = Serving::start(desk.command());
    assert_eq!(serving.post("made", &alert("a-1", 80, 0)), Some(202));
    let jobs = until_ended(&desk, 1, &serving);
    assert_eq!((jobs[0]["state"].as_str(), jobs[0]["why"].as_str()), (Some("failed"), Some("failed: gone")));
    let show = || -> Value {
        let shown = desk.ok(&["jobs", "show", "J000001", "--config", "serve.toml", "--json"]);
        serde_json::from_str(&shown.stdout).unwrap()
    };
    let state = |id: &str| {
        let shown = show();
        let steps = shown["steps"].as_array().unwrap().clone();
        steps.into_iter().find(|step| step["id"] == id).unwrap()["state"].as_str().unwrap().to_owned()
    };
    let states = ["logs", "disk", "gone", "after", "beside"].map(state);
    assert_eq!(states, ["done", "done", "failed", "skipped", "done"]);
    let case = case_of(&desk, &jobs[0]);
    assert_eq!(exhibits(&case).0, ["alert", "beside", "disk", "logs"]);
    // Nothing that is done is done again.
    desk.ok(&["jobs", "retry", "J000001", "--config", "serve.toml"]);
    std::thread::sleep(Duration::from_millis(700));
    until_ended(&desk, 1, &serving);
    assert_eq!(exhibits(&case).0, ["alert", "beside", "disk", "logs"]);
    verifies(&desk, &case);
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_job_that_cannot_be_begun_becomes_a_dead_letter_that_everybody_sees() {
    let desk = desk(1, "auto", "", "[jobs]\nattempts = 2\n");
    let serving = Serving::start(desk.command());
    std::fs::remove_dir(desk.path("cases")).unwrap();
    desk.write("cases", "no folder");
    assert_eq!(serving.post("made", &alert("a-1", 80, 0)), Some(202));
    let jobs = until_ended(&desk, 1, &serving);
    assert_eq!(jobs[0]["state"], "dead", "{}", serving.said());
    assert!(jobs[0]["why"].as_str().unwrap().starts_with("given up after 2 attempts: "), "{jobs:#?}");
    let listed = desk.ok(&["jobs", "list", "--config", "serve.toml", "--state", "dead"]);
    assert!(
        listed.stdout.contains("J000001") && listed.stderr.contains("1 job waits for somebody"),
        "{listed:?}"
    );
    std::fs::remove_file(desk.path("cases")).unwrap();
    desk.ok(&["jobs", "retry", "J000001", "--config", "serve.toml"]);
    let begun = std::time::Instant::now();
    while crate::serving::jobs(&desk)[0]["state"] != "done" {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", serving.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_stop_ends_what_runs_and_the_next_start_goes_on() {
    let desk = desk(3, "auto", "", "");
    desk.write("disk.raw", noise(64 << 20));
    let serving = Serving::start(desk.command());
    for number in 0..3 {
        assert_eq!(serving.post("made", &alert(&format!("a-{number}"), 80, number)), Some(202));
    }
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(serving.stop(), Some(0));
    let serving = Serving::start(desk.command());
    for job in until_ended(&desk, 3, &serving) {
        assert_eq!(
            (job["state"].as_str(), job["attempt"].as_u64()),
            (Some("done"), Some(0)),
            "{}",
            serving.said()
        );
        assert_eq!(exhibits(&case_of(&desk, &job)).0, ["alert", "disk", "logs"]);
    }
    assert_eq!(serving.stop(), Some(0));
}
