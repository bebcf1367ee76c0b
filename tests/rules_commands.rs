//! `exhibit rules`, `exhibit capture --from-alert` and `exhibit inventory`, as a person runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::exhibit::{Desk, Ran, ran};
use crate::moto::{Moto, moto};

const RULES: &str = r#"
version = 1
[protect]
match.all = [ { field = "asset.criticality", eq = "critical" } ]
[[rule]]
id = "backdoor"
mode = "auto"
match.all = [
  { field = "type", prefix = "Backdoor:" },
  { field = "severity", gte = 70 },
  { field = "status", eq = "firing" },
  { field = "is_sample", eq = false },
]
step = [
  { id = "disk", use = "capture.ebs_snapshot" },
  { id = "isolate", use = "isolate.ec2_sg", needs = ["disk:started"] },
]
"#;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn alert(instance: &str, severity: u8) -> String {
    format!(
        r#"{{"source": "guardduty", "source_id": "f1", "severity": {severity}, "type": "Backdoor:EC2/C&CActivity.B",
        "title": "Command and control", "account": "123456789012", "region": "ap-south-1",
        "assets": [{{"kind": "ec2_instance", "id": "{instance}", "role": "primary"}}]}}"#
    )
}

const INSTANCE: &str = "i-0a1b2c3d4e5f60718";

#[test]
fn the_sample_rules_decide_about_the_sample_alerts_as_a_person_reviewed_it() {
    let desk = Desk::new();
    let golden = sample("rules/decisions.jsonl");
    let (rules, inventory, corpus) = (sample("rules"), sample("inventory"), sample("alerts"));
    let args = [
        "rules",
        "test",
        "--corpus",
        text(&corpus),
        "--rules",
        text(&rules),
        "--inventory",
        text(&inventory),
        "--account",
        "111122223333",
        "--at",
        "2026-11-21",
        "--golden",
    ];
    let same = desk.run(&[&args[..], &[text(&golden)]].concat());
    assert_eq!(same.code, 0, "{}\n{}", same.stdout, same.stderr);
    let lines = fs::read_to_string(&golden).unwrap();
    assert!(lines.lines().count() >= 30);

    // One decision that was another before, one that is new, one that is gone.
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let gone = lines.iter().position(|line| !line["plans"].as_array().unwrap_or(&vec![]).is_empty()).unwrap();
    let name = lines[gone]["alert"].as_str().unwrap().to_owned();
    lines[gone]["plans"] = Value::Array(vec![]);
    let new = lines.remove(if gone == 0 { 1 } else { 0 })["alert"].as_str().unwrap().to_owned();
    lines.push(serde_json::json!({"alert": "none/x.json", "plans": [], "refused": []}));
    let text_of = |lines: &[Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let other = desk.write("other.jsonl", text_of(&lines));
    let differs = desk.run(&[&args[..], &[text(&other)]].concat());
    differs.fails(3, &["3 differ"]);
    for name in [name.as_str(), new.as_str(), "none/x.json"] {
        assert!(differs.stdout.contains(name), "{name}: {}", differs.stdout);
    }
    desk.ok(&[&args[..], &[text(&other), "--update"]].concat());
    let lines_of = |file: &Path| -> Vec<Value> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(lines_of(&other) == lines_of(&golden), "what was updated is not what was reviewed");
}

#[test]
fn an_asset_that_only_an_expired_rule_is_for_has_no_rule() {
    let desk = Desk::new();
    let assets = desk.write(
        "assets.toml",
        format!("version = 1\n[[asset]]\nkind = \"ec2_instance\"\nid = \"{INSTANCE}\"\n"),
    );
    let checked = |name: &str, rules: String| {
        let rules = desk.write(name, rules);
        desk.run(&["rules", "check", text(&rules), "--inventory", text(&assets)])
    };
    let good = checked("good.toml", RULES.to_owned());
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    let expired = RULES.replace("id = \"backdoor\"", "id = \"backdoor\"\nexpires = 2001-01-01");
    let expired = checked("expired.toml", expired);
    assert_eq!(expired.code, 1);
    assert!(expired.stdout.contains("no rule is for ec2_instance"), "{}", expired.stdout);
}

#[test]
fn rules_that_cannot_be_meant_are_told_with_file_and_line() {
    let desk = Desk::new();
    let good = desk.write("rules.toml", RULES);
    let checked = desk.run(&["rules", "check", text(&good)]);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("backdoor"), "{}", checked.stdout);
    let bad = desk.write("bad.toml", RULES.replace("severity", "severty"));
    desk.run(&["rules", "check", text(&bad)]).fails(2, &["bad.toml", "line 10", "\"severity\" is near"]);
    let looked = desk.write("look.toml", RULES.replace("  { field = \"status\", eq = \"firing\" },\n", ""));
    let looked = desk.run(&["rules", "check", text(&looked), "--json"]);
    assert_eq!(looked.code, 1);
    let document: Value = serde_json::from_str(&looked.stdout).unwrap();
    assert!(document["remarks"][0]["what"].as_str().unwrap().contains("`status`"), "{document}");
    assert_eq!(document["rules"][0]["line"], 5);
    let assets = desk.write("assets.toml", "version = 1\n[[asset]]\nkind = \"host\"\nid = \"web01\"\n");
    let unseen = desk.run(&["rules", "check", text(&good), "--inventory", text(&assets)]);
    assert_eq!(unseen.code, 1);
    assert!(unseen.stdout.contains("no rule is for host web01"), "{}", unseen.stdout);
}

#[test]
fn an_explanation_fits_eighty_columns_and_says_why() {
    let desk = Desk::new();
    let rules = desk.write("rules.toml", RULES);
    let file = desk.write("alert.json", alert(INSTANCE, 80));
    let assets = format!("version = 1\n[[asset]]\nkind = \"ec2_instance\"\nid = \"{INSTANCE}\"\n");
    let assets = desk.write("assets.toml", assets);
    let explain = |more: &[&str]| {
        desk.ok(&[&["rules", "explain", text(&file), "--rules", text(&rules)], more].concat()).stdout
    };
    let known = explain(&["--inventory", text(&assets)]);
    assert!(known.lines().all(|line| line.chars().count() <= 80), "{known}");
    for words in [
        "  yes  all of: severity is at least 70 (it is 80)",
        "plan 1 of 1, by rule backdoor: by itself",
        "disk (capture.ebs_snapshot)",
        "when disk has begun",
        "taken back after 8 h",
    ] {
        assert!(known.contains(words), "{words}: {known}");
    }
    let unknown = explain(&[]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        unknown.contains("is refused: it is not in the inventory") && unknown.contains("nothing is done")
    );
    let ours = explain(&["--account", "123456789012", "--json"]);
    let document: Value = serde_json::from_str(&ours).unwrap();
    assert_eq!(document["alerts"][0]["decision"]["plans"][0]["asset"]["id"], INSTANCE);
}

#[test]
fn an_alert_is_known_by_its_form_and_a_hostile_one_reaches_no_terminal() {
    let desk = Desk::new();
    let rules = desk.write("rules.toml", RULES);
    let raw = sample("alerts/guardduty/c2_from_instance.json");
    let found =
        desk.ok(&["rules", "explain", text(&raw), "--rules", text(&rules), "--account", "111122223333"]);
    assert!(
        found.stdout.contains("from guardduty") && found.stdout.contains("plan 1 of 1"),
        "{}",
        found.stdout
    );
    let hostile = desk
        .write("hostile.json", alert("i-1;reboot", 80).replace("Command and control", "\\u001b[31m\\u202ex"));
    let shown = desk.ok(&["rules", "explain", text(&hostile), "--rules", text(&rules)]).stdout;
    assert!(shown.contains("no id of the kind") && !shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    let twice = desk.write("twice.json", r#"{"source": "x", "source": "y"}"#);
    desk.run(&["rules", "explain", text(&twice), "--rules", text(&rules)]).fails(2, &["twice.json"]);
    let nothing = desk.write("nothing.json", "{}");
    desk.run(&["rules", "explain", text(&nothing), "--rules", text(&rules)]).fails(2, &["no source knows"]);
}

const REGION: &str = "ap-south-1";

fn in_account(desk: &Desk, moto: &Moto, args: &[&str]) -> Ran {
    let mut command: Command = desk.command();
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret").args(args);
    command.env("AWS_ENDPOINT_URL", &moto.endpoint);
    ran(command.output().unwrap())
}

fn settings(desk: &Desk, moto: &Moto) -> PathBuf {
    desk.write("rules.toml", RULES);
    desk.write(
        "serve.toml",
        format!(
            "state = \"state\"\ncases = \"cases\"\nexaminer = \"J. Doe\"\nrules = \"rules.toml\"\n\
             [aws]\nregion = \"{REGION}\"\nendpoint_url = \"{}\"\naccounts = [\"123456789012\"]\n",
            moto.endpoint
        ),
    )
}

fn instances(moto: &Moto, count: usize) -> Vec<String> {
    let image = moto.ask(REGION, "Action=DescribeImages&Version=2016-11-15");
    let image = image.split("<imageId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let form = format!(
        "Action=RunInstances&Version=2016-11-15&ImageId={image}&MinCount={count}&MaxCount={count}\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=web01\
         &TagSpecification.1.Tag.2.Key=owner&TagSpecification.1.Tag.2.Value=team-a"
    );
    let answer = moto.ask(REGION, &form);
    let ids = answer.split("<instanceId>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
    ids.collect()
}

#[test]
fn what_an_account_has_is_found_and_captures_are_planned_without_a_change() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    let config = settings(&desk, moto);
    let ids = instances(moto, 7);
    assert_eq!(ids.len(), 7);

    let found =
        in_account(&desk, moto, &["inventory", "discover", "--config", text(&config), "-o", "assets.toml"]);
    assert_eq!(found.code, 0, "{}", found.stderr);
    let assets = fs::read_to_string(desk.path("assets.toml")).unwrap();
    assert!(ids.iter().all(|id| assets.contains(id)), "{assets}");
    assert!(assets.contains("owner = \"team-a\"") && assets.contains("kind = \"ebs_volume\""), "{assets}");
    let again = ["inventory", "discover", "--config", text(&config), "-o", "assets.toml"];
    in_account(&desk, moto, &again).fails(2, &["is there already", "--replace"]);
    assert_eq!(in_account(&desk, moto, &[&again[..], &["--replace"]].concat()).code, 0);
    let checked = desk.run(&["rules", "check", "rules.toml", "--inventory", "assets.toml"]);
    assert!(checked.stdout.contains("no rule is for ebs_volume"), "{}", checked.stdout);

    let snapshots = || {
        moto.ask(REGION, "Action=DescribeSnapshots&Version=2016-11-15&Owner.1=self")
            .matches("<snapshotId>")
            .count()
    };
    let before = snapshots();
    desk.write("alert.json", alert(&ids[0], 80));
    let dry = ["capture", "--from-alert", "alert.json", "--config", text(&config), "--dry-run"];
    let planned = in_account(&desk, moto, &dry);
    // moto simulates no policies: that is said, and is not a missing right.
    assert_eq!(planned.code, 0, "{}{}", planned.stdout, planned.stderr);
    assert!(planned.stdout.lines().all(|line| line.chars().count() <= 80), "{}", planned.stdout);
    let written = format!("{}{}", planned.stdout, planned.stderr);
    for words in [
        "by itself",
        "a new case in",
        "not encrypted",
        "the API of AWS",
        "rights on",
        "0 missing",
        "not asked for: the rights of isolate.ec2_sg",
    ] {
        assert!(written.contains(words), "{words}: {written}");
    }
    let document = in_account(&desk, moto, &[&dry[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&document.stdout).unwrap();
    let rights = document["rights"][0]["permissions"].as_array().unwrap();
    let may = rights.iter().find(|one| one["action"] == "ec2:CreateSnapshots").unwrap();
    assert_eq!(may["state"], "allowed");
    assert_eq!(document["alerts"][0]["plans"][0]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(snapshots(), before);
    assert!(!desk.path("cases").exists() && !desk.path("state").exists());

    desk.write("alert.json", alert(&ids[0], 10));
    in_account(&desk, moto, &dry).fails(1, &["no rule has anything done"]);
}

#[test]
fn a_capture_by_hand_is_the_job_that_the_service_would_do_and_is_done_once() {
    let desk = Desk::new();
    desk.write("logs/a.log", "hello\n");
    let logs = desk.path("logs");
    desk.write(
        "rules.toml",
        format!(
            "version = 1\n[[rule]]\nid = \"local\"\nmode = \"auto\"\nmatch.all = [ {{ field = \"severity\", gte = 70 }} ]\n\
             assets = {{ kinds = [\"host\"] }}\nstep = [ {{ id = \"logs\", use = \"capture.logs\", paths = [{logs:?}] }} ]\n"
        ),
    );
    desk.write(
        "assets.toml",
        "version = 1\n[[asset]]\nkind = \"host\"\nid = \"web01\"\ntarget = \"local\"\n",
    );
    desk.write(
        "serve.toml",
        "state = \"state\"\ncases = \"cases\"\nexaminer = \"J. Doe\"\nrules = \"rules.toml\"\ninventory = \"assets.toml\"\n",
    );
    let alert = r#"{"source": "wazuh", "source_id": "1", "severity": 75, "type": "40112", "title": "brute force",
        "assets": [{"kind": "host", "id": "web01", "role": "primary"}]}"#;
    desk.write("alert.json", alert);
    let capture = ["capture", "--from-alert", "alert.json", "--config", "serve.toml", "--json"];
    for _ in 0..2 {
        let done: Value = serde_json::from_str(desk.ok(&capture).stdout.trim()).unwrap();
        let jobs = done["jobs"].as_array().unwrap();
        assert_eq!(
            (jobs.len(), &jobs[0]["job"], &jobs[0]["state"]),
            (1, &"J000001".into(), &"done".into()),
            "{done}"
        );
    }
    let cases: Vec<PathBuf> =
        fs::read_dir(desk.path("cases")).unwrap().map(|case| case.unwrap().path()).collect();
    assert_eq!(cases.len(), 1);
    let listed = desk.ok(&["list", text(&cases[0])]).stdout;
    assert!(listed.contains("alert") && listed.contains("logs") && !listed.contains("E003"), "{listed}");
    let log = desk.ok(&["custody", "log", text(&cases[0]), "--json"]).stdout;
    assert!(log.contains("decision.made") && log.contains("web01"), "{log}");
}
