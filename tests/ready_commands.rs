//! `exhibit ready` of the real binary: checks, drills, history, waivers.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use serde_json::Value;

use crate::exhibit::{Desk, noise};

/// Settings of a service that has a key, cases and nothing else.
fn settled(more: &str) -> Desk {
    let desk = Desk::new();
    desk.ok(&["key", "new"]);
    fs::create_dir(desk.path("cases")).unwrap();
    desk.write("rules.toml", "version = 1\n");
    let settings = format!(
        "state = \"state\"\ncases = \"cases\"\nrules = \"rules.toml\"\nexaminer = \"J. Doe\"\n{more}"
    );
    desk.write("serve.toml", settings);
    desk
}

/// What `--json` gives, whatever the exit code.
fn results(desk: &Desk, args: &[&str]) -> (i32, Value) {
    let ran = desk.run(&[&["ready", "--config", "serve.toml", "--json"], args].concat());
    let said = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}\n{}", ran.stdout, ran.stderr));
    (ran.code, said)
}

fn of<'a>(said: &'a Value, scope: &str) -> &'a Value {
    let all = said["results"].as_array().unwrap();
    all.iter().find(|one| one["scope"] == scope).unwrap_or_else(|| panic!("{scope}: {said:#}"))
}

#[test]
fn the_drill_of_a_capture_finds_what_was_planted_and_leaves_nothing_behind() {
    let desk = settled("");
    let (code, said) = results(&desk, &["--drill", "capture"]);
    assert_eq!(code, 0, "{said:#}");
    for scope in ["disk", "files"] {
        let found = of(&said, scope);
        assert_eq!(found["status"], "pass", "{found:#}");
        let seen = found["observed"].as_str().unwrap();
        assert!(seen.contains("acquired in") && seen.contains("planted"), "{seen}");
    }
    let left: Vec<_> =
        fs::read_dir(desk.path("state")).unwrap().flatten().map(|file| file.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("drill-")), "{left:?}");
    assert_eq!(fs::read_dir(desk.path("cases")).unwrap().count(), 0);
}

#[test]
fn the_drill_of_a_capture_fails_when_what_is_encrypted_cannot_be_opened() {
    let other = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let desk = settled(&format!("[capture]\nencrypt_to = [\"{other}\"]\n"));
    let (code, said) = results(&desk, &["--drill", "capture", "--fail-on", "critical"]);
    assert_eq!(code, 3, "{said:#}");
    let found = of(&said, "disk");
    assert_eq!(found["status"], "fail");
    assert!(found["observed"].as_str().unwrap().contains("exhibit export"), "{found:#}");
    let (_, said) = results(&desk, &["--check", "RD23"]);
    assert_eq!(said["results"][0]["status"], "error", "{said:#}");
}

#[test]
fn the_drill_of_a_restoration_notices_one_changed_byte_of_old_evidence() {
    let desk = settled("");
    let (code, said) = results(&desk, &["--drill", "restore"]);
    assert_eq!((code, &said["results"][0]["status"]), (0, &Value::from("not_applicable")), "{said:#}");
    let disk = desk.write("disk.raw", noise(2_000_000));
    desk.ok(&["init", "cases/old", "--name", "old", "--examiner", "J. Doe"]);
    desk.ok(&["acquire", "disk", disk.to_str().unwrap(), "--case", "cases/old", "--name", "disk"]);
    let (code, said) = results(&desk, &["--drill", "restore"]);
    assert_eq!((code, &said["results"][0]["status"]), (0, &Value::from("pass")), "{said:#}");
    assert_eq!(said["results"][0]["scope"], "old");
    let segment = desk.path("cases/old/exhibits/E001-disk/data/disk/000000.zst");
    let mut file = fs::File::options().read(true).write(true).open(segment).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(700_000)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(700_000)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    let (code, said) = results(&desk, &["--drill", "restore"]);
    assert_eq!((code, &said["results"][0]["status"]), (1, &Value::from("fail")), "{said:#}");
    assert!(said["results"][0]["observed"].as_str().unwrap().contains("BROKEN"), "{said:#}");
    // What cannot even be opened is the worst damage of all, and was the only case: it is not passed over.
    fs::write(desk.path("cases/old/case.json"), "{").unwrap();
    let (code, said) = results(&desk, &["--drill", "restore"]);
    assert_eq!((code, &said["results"][0]["status"]), (1, &Value::from("fail")), "{said:#}");
    assert!(said["results"][0]["observed"].as_str().unwrap().contains("cannot be opened"), "{said:#}");
}

#[test]
fn results_make_a_history_and_a_waiver_is_told_with_each() {
    let desk =
        settled("[[ready.collector]]\nos = \"other\"\narch = \"x\"\npath = \"none\"\nsha256 = \"00\"\n");
    let fails = ["--check", "rd37", "--fail-on", "high"];
    assert_eq!(results(&desk, &fails).0, 3);
    let bytes = b"a binary";
    desk.write("none", bytes);
    let settings = fs::read_to_string(desk.path("serve.toml")).unwrap();
    let pinned = settings.replace("\"00\"", &format!("\"{}\"", custody_sha256(&desk, "none")));
    desk.write("serve.toml", pinned);
    let (code, said) = results(&desk, &["--check", "RD37"]);
    assert_eq!((code, &said["results"][0]["status"]), (0, &Value::from("pass")), "{said:#}");
    let better = desk.run(&["ready", "diff", "1", "2", "--config", "serve.toml"]);
    assert_eq!(better.code, 0, "{}", better.stderr);
    assert!(better.stdout.contains("fail -> pass"), "{}", better.stdout);
    assert_eq!(desk.run(&["ready", "diff", "0", "-1", "--config", "serve.toml"]).code, 1);
    desk.run(&["ready", "diff", "1", "9", "--config", "serve.toml"]).fails(2, &["no run 9", "from 1 to 2"]);
    let trend = desk.ok(&["ready", "trend", "--config", "serve.toml", "--json"]).stdout;
    let trend: Value = serde_json::from_str(&trend).unwrap();
    assert_eq!((&trend["series"][0]["score"], &trend["series"][1]["score"]), (&0.0.into(), &100.0.into()));
    assert_eq!(trend["history"][0]["flaps"], 1);
    assert!(desk.ok(&["ready", "trend", "--config", "serve.toml"]).stdout.contains("100 %"));

    fs::remove_file(desk.path("none")).unwrap();
    let waive = |until: &str| {
        desk.run(&[
            "ready",
            "waive",
            "RD37",
            "--config",
            "serve.toml",
            "--owner",
            "jane",
            "--until",
            until,
            "--reason",
            "built tonight",
        ])
    };
    waive("2001-01-01").fails(2, &["is over"]);
    waive("2090-01-01").fails(2, &["a year ahead"]);
    let next_month =
        custody::clock::rfc3339(custody::Clock::now(&custody::SystemClock).wall_ns + 2_592_000_000_000_000);
    assert_eq!(waive(next_month.split('T').next().unwrap()).code, 0);
    let (code, said) = results(&desk, &fails);
    assert_eq!(code, 1, "a waived failure is still one: {said:#}");
    assert_eq!(
        (&said["results"][0]["status"], &said["results"][0]["waived"]["owner"]),
        (&"fail".into(), &"jane".into())
    );
    let shown = desk.run(&["ready", "--config", "serve.toml", "--check", "RD37"]);
    assert!(shown.stdout.contains("waived by jane until"), "{}", shown.stdout);
    assert!(shown.stdout.lines().all(|line| line.chars().count() < 80), "{}", shown.stdout);
    let metrics = desk.ok(&["ready", "metrics", "--config", "serve.toml"]).stdout;
    assert!(
        metrics.contains("exhibit_ready_check{check=\"RD37\"") && metrics.contains("waived=\"true\"} 0"),
        "{metrics}"
    );
    desk.run(&["ready", "--config", "serve.toml", "--check", "RD99"]).fails(2, &["RD99", "no such check"]);
    desk.run(&["ready", "--config", "gone.toml"]).fails(4, &["gone.toml"]);
}

fn custody_sha256(desk: &Desk, name: &str) -> String {
    custody::sha256(&fs::read(desk.path(name)).unwrap()).to_string()
}

#[test]
fn every_check_is_listed_and_the_page_of_the_manual_says_the_same() {
    let desk = Desk::new();
    let list = desk.ok(&["ready", "list", "--json"]).stdout;
    let list: Value = serde_json::from_str(&list).unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/READINESS.md")).unwrap();
    // Lines are wrapped there.
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for check in list.as_array().unwrap() {
        let text = |name: &str| check[name].as_str().unwrap();
        let head = format!("### {} {} ({})", text("id"), text("title"), text("severity"));
        assert!(page.contains(&head), "docs/READINESS.md does not say: {head}");
        for name in ["tested", "remediation"] {
            assert!(
                page.contains(text(name)),
                "docs/READINESS.md does not say of {}: {}",
                text("id"),
                text(name)
            );
        }
        for prowler in check["prowler"].as_array().unwrap() {
            assert!(page.contains(prowler.as_str().unwrap()), "docs/READINESS.md does not name {prowler}");
        }
    }
    let heads = page.matches("### RD").count();
    assert_eq!(heads, list.as_array().unwrap().len(), "docs/READINESS.md has a check that there is not");
    assert!(desk.ok(&["ready", "list"]).stdout.lines().all(|line| line.chars().count() < 80));
}

#[cfg(feature = "timeline")]
#[test]
fn an_intrusion_is_found_in_one_timeline_phase_by_phase() {
    let desk = settled("");
    let ran = desk.run(&["exercise", "T5", "--config", "serve.toml", "--json"]);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &said["passed"]), (0, &true.into()), "{said:#}\n{}", ran.stderr);
    let lines = said["lines"].as_array().unwrap();
    for phase in ["entry", "privilege", "movement", "egress"] {
        let line = lines.iter().find(|line| line["what"] == format!("{phase} is found")).unwrap();
        assert!(line["holds"] == true && line["seconds"].as_f64().unwrap() > 0.0, "{line:#}");
    }
}

/// An account whose policies allow everything, or all but one action.
fn account_that_denies(action: &'static str) -> String {
    crate::fake_service::serve(move |asked| {
        if asked.body.contains("Action=GetCallerIdentity") {
            let answer = "<R><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/ir/x</Arn><UserId>X</UserId>\
                          <Account>123456789012</Account></GetCallerIdentityResult></R>";
            return (200, answer.to_owned());
        }
        let decoded = asked.body.replace("%3A", ":");
        let actions = decoded.split('&').filter_map(|pair| pair.split_once('='));
        let actions = actions.filter(|(key, _)| key.starts_with("ActionNames")).map(|(_, value)| value);
        let members: String = actions
            .map(|name| {
                let decision = if name == action { "implicitDeny" } else { "allowed" };
                format!("<member><EvalActionName>{name}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>")
            })
            .collect();
        (
            200,
            format!(
                "<R><SimulatePrincipalPolicyResult><EvaluationResults>{members}</EvaluationResults></SimulatePrincipalPolicyResult></R>"
            ),
        )
    })
}

#[test]
fn a_chain_reaction_passes_only_when_every_link_follows_and_works() {
    if !rustix::process::geteuid().is_root()
        || std::process::Command::new("nft").arg("--version").output().is_err()
    {
        eprintln!("skipped: an isolation needs root and nftables");
        return;
    }
    let channel = crate::fake_service::serve(|_| (204, String::new()));
    let ran = |denied: &'static str| {
        let account = account_that_denies(denied);
        let desk = settled(&format!(
            "inventory = \"inventory.toml\"\n[aws]\nregion = \"eu-west-1\"\nendpoint_url = \"{account}\"\n[notify.people]\nurl = \"{channel}\"\n"
        ));
        desk.write("rules.toml", CHAIN);
        desk.write(
            "inventory.toml",
            "version = 1\n[[asset]]\nkind = \"host\"\nid = \"web01\"\ntarget = \"local\"\n[[asset]]\nkind = \"iam_access_key\"\n\
             id = \"AKIAIOSFODNN7EXAMPLE\"\n",
        );
        let mut command = desk.command();
        command.args(["exercise", "t3", "--config", "serve.toml", "--json"]);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let ran = crate::exhibit::ran(command.output().unwrap());
        let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
        (ran.code, said)
    };
    let (code, said) = ran("");
    let isolation =
        said["lines"].as_array().unwrap().iter().find(|line| line["what"] == "isolation works (RD40)");
    if isolation.is_some_and(|line| line["seen"].as_str().unwrap().contains("ip netns")) {
        eprintln!("skipped: {said}");
        return;
    }
    assert_eq!((code, &said["passed"]), (0, &true.into()), "{said:#}");
    let (code, said) = ran("iam:UpdateAccessKey");
    assert_eq!((code, &said["passed"]), (3, &false.into()), "{said:#}");
    let failed: Vec<_> =
        said["lines"].as_array().unwrap().iter().filter(|line| line["holds"] == false).collect();
    assert!(
        failed.len() == 1 && failed[0]["seen"].as_str().unwrap().contains("iam:UpdateAccessKey"),
        "{failed:#?}"
    );
}

const CHAIN: &str = include_str!("support/hosts_and_keys.toml");
