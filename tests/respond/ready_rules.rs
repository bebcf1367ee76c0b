//! Checks of rules, inventory, sources and ways to assets; the drill of an isolation; exercises.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use respond::exercise;
use respond::ready::{Outcome, Probe, Status};
use respond::state::{DeliveryStatus, NewDelivery};

use crate::fake_service::serve;
use crate::ready::{check, check_again, is, nowhere, one, probe};

/// Rules that capture and isolate hosts by themselves, and spare what is critical.
pub(crate) const RULES: &str = include_str!("../support/hosts_and_keys.toml");

/// A rule that captures by itself and isolates nothing, before the next.
const CAPTURING: &str = r#"[[rule]]
id = "look"
mode = "auto"
match.all = [ { field = "severity", gte = 70 }, { field = "is_sample", eq = false }, { field = "status", eq = "firing" } ]
assets = { kinds = ["host"], max = 5 }
step = [ { id = "triage", use = "capture.triage" } ]
[[rule]]"#;

pub(crate) fn inventory_of(hosts: usize) -> String {
    let mut text = "version = 1\n".to_owned();
    for number in 0..hosts {
        let criticality = if number % 4 == 0 { "critical" } else { "normal" };
        text.push_str(&format!(
            "[[asset]]\nkind = \"host\"\nid = \"host-{number}\"\ngroup = \"web\"\ntarget = \"local\"\ncriticality = \"{criticality}\"\n"
        ));
    }
    text + "[[asset]]\nkind = \"iam_access_key\"\nid = \"AKIAIOSFODNN7EXAMPLE\"\n"
}

/// A probe with rules and an inventory.
fn ruled(folder: &Path, rules: &str, inventory: &str, more: &str) -> Probe {
    fs::write(folder.join("rules.toml"), rules).unwrap();
    let path = folder.join("inventory.toml");
    fs::write(&path, inventory).unwrap();
    let line = format!("inventory = {:?}\n", path.display().to_string());
    let mut made = probe(folder, more);
    made.settings.inventory =
        toml::from_str::<toml::Table>(&line).unwrap()["inventory"].as_str().map(Into::into);
    made
}

#[test]
fn an_asset_that_no_rule_is_for_is_named_and_new_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |inventory: &str, more: &str| one(ruled(folder.path(), RULES, inventory, more), "RD42");
    is(&seen(&inventory_of(2), ""), Status::Pass, &["3 assets, and a rule for each"]);
    is(&seen(&inventory_of(3), ""), Status::Pass, &["1 new: host:host-2"]);
    let bucket = inventory_of(3) + "[[asset]]\nkind = \"s3_bucket\"\nid = \"crown\"\n";
    is(&seen(&bucket, ""), Status::Fail, &["no rule is for 1 of 5: s3_bucket:crown"]);
    is(&seen(&bucket, "[ready]\nexempt = [\"s3_bucket:crown\"]\n"), Status::Pass, &[]);
    is(&seen("version = 1\n", ""), Status::Fail, &["empty"]);
    is(&seen("version = 9\n", ""), Status::Error, &[]);
}

#[test]
fn a_rule_of_the_right_kind_that_can_never_hold_of_an_asset_does_not_cover_it() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |rules: &str| one(ruled(folder.path(), rules, &inventory_of(2), ""), "RD42");
    let of_hosts = |matcher: &str| RULES.replacen("match.all = [ ", &format!("match.all = [ {matcher}, "), 1);
    let only_prod = of_hosts("{ field = \"asset.tags.env\", eq = \"prod\" }");
    is(&seen(&only_prod), Status::Fail, &["no rule is for 2 of 3: host:host-0, host:host-1"]);
    let only_critical = of_hosts("{ field = \"asset.criticality\", eq = \"critical\" }");
    is(&seen(&only_critical), Status::Fail, &["no rule is for 1 of 3: host:host-1"]);
    // What only an alert can say may hold.
    let of_some_alert =
        of_hosts("{ field = \"asset.role\", eq = \"primary\" }, { field = \"account\", eq = \"1\" }");
    is(&seen(&of_some_alert), Status::Pass, &["3 assets"]);
    let observing = RULES.replacen("mode = \"auto\"", "mode = \"observe\"", 1);
    is(&seen(&observing), Status::Warn, &["2 are only observed: host:host-0, host:host-1"]);
}

#[test]
fn what_is_new_is_said_not_to_be_known_when_the_last_list_was_kept_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let many: String = (0..14_000)
        .map(|number| {
            format!("[[asset]]\nkind = \"host\"\nid = \"h{number}.{}.{}\"\n", "a".repeat(40), "b".repeat(40))
        })
        .collect();
    let many = format!("version = 1\n{many}");
    let seen = |inventory: &str| one(ruled(folder.path(), RULES, inventory, ""), "RD42");
    is(&seen(&many), Status::Pass, &["14000 assets"]);
    is(&seen(&inventory_of(1)), Status::Pass, &["what is new cannot be told"]);
    is(&seen(&inventory_of(2)), Status::Pass, &["1 new: host:host-1"]);
}

#[test]
fn rules_that_are_wrong_expired_or_protect_nobody_fail() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |rules: &str| check(ruled(folder.path(), rules, &inventory_of(1), ""), "RD43");
    let worst = |found: &[Outcome]| {
        let rank = |status: &Status| {
            [Status::Pass, Status::Warn, Status::Fail, Status::Error].iter().position(|one| one == status)
        };
        found.iter().map(|one| one.status).max_by_key(rank).unwrap()
    };
    // They never matched anything yet, which is worth a word.
    let good = seen(RULES);
    assert_eq!(worst(&good), Status::Warn, "{good:?}");
    assert!(good.iter().any(|one| one.observed.contains("made no job in 90 days: hosts, keys")), "{good:?}");
    let broken = seen("version = 1\n[[rule]]\nid = 7\n");
    assert_eq!(worst(&broken), Status::Fail);
    let expired = seen(&RULES.replace("id = \"keys\"", "id = \"keys\"\nexpires = 2001-01-01"));
    assert!(expired.iter().any(|one| one.status == Status::Fail && one.scope == "keys"), "{expired:?}");
    let naked = seen(
        &RULES
            .replace("[protect]\nmatch.any = [ { field = \"asset.criticality\", eq = \"critical\" } ]\n", ""),
    );
    assert!(
        naked.iter().any(|one| one.status == Status::Fail && one.observed.contains("[protect]")),
        "{naked:?}"
    );
    // A rule that captures by itself makes nobody safe from the one beside it that isolates once a person says yes.
    let capturing = seen(
        &RULES
            .replace("[protect]\nmatch.any = [ { field = \"asset.criticality\", eq = \"critical\" } ]\n", "")
            .replace("mode = \"auto\"", "mode = \"approve\"")
            .replacen("[[rule]]", CAPTURING, 1),
    );
    let protect: Vec<_> = capturing.iter().filter(|one| one.observed.contains("[protect]")).collect();
    assert!(protect.len() == 1 && protect[0].status == Status::Warn, "{capturing:?}");
}

#[test]
fn a_source_that_fell_silent_fails() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let source = |name: &str| {
        format!(
            "[[source]]\nname = \"{name}\"\nkind = \"falco\"\n[[source.authenticate]]\nscheme = \"bearer\"\nsecret_files = [{:?}]\n",
            secret.display().to_string()
        )
    };
    let made =
        Arc::new(probe(folder.path(), &["loud", "old", "mute", "left", "garbled"].map(source).concat()));
    let state = made.state.clone().unwrap();
    let now_ns = custody::Clock::now(&custody::SystemClock).wall_ns;
    let (read, control) = (DeliveryStatus::Decided, DeliveryStatus::Control);
    let hour_ago = now_ns - 3_600_000_000_000;
    let goodbye = r#"{"Type": "UnsubscribeConfirmation"}"#;
    for (name, received_ns, status, body) in [
        ("loud", now_ns, read, "{}"),
        ("old", now_ns - 30 * 86_400_000_000_000, read, "{}"),
        // Each said something lately: that it leaves, or what nobody can read.
        ("left", hour_ago, read, "{}"),
        ("left", now_ns, control, goodbye),
        ("garbled", hour_ago, read, "{}"),
        ("garbled", now_ns, DeliveryStatus::Unparsed, "?"),
    ] {
        let delivery = NewDelivery {
            source: name.to_owned(),
            received_ns,
            body: body.as_bytes().to_vec(),
            headers: Vec::new(),
            sender: String::new(),
            seen_as: None,
            status,
            severity: 1,
            why: String::new(),
        };
        state.store_delivery(delivery).unwrap();
    }
    let found = check_again(&made, "RD31");
    let of = |name: &str| found.iter().find(|one| one.scope == name).unwrap();
    assert_eq!(of("loud").status, Status::Pass, "{found:?}");
    assert_eq!((of("old").status, of("mute").status), (Status::Fail, Status::Fail), "{found:?}");
    assert!(of("mute").observed.contains("never"), "{found:?}");
    assert_eq!((of("left").status, of("garbled").status), (Status::Fail, Status::Fail), "{found:?}");
    assert!(of("left").observed.contains("subscription was ended"), "{found:?}");
    assert!(of("garbled").observed.contains("could not be read"), "{found:?}");
}

#[test]
fn a_cluster_that_denies_a_right_fails() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |server: &str| {
        one(
            probe(
                folder.path(),
                &format!("[targets.kubernetes.prod]\nserver = \"{server}\"\npatience = 5\n"),
            ),
            "RD08",
        )
    };
    let answer = |denied: &'static str| {
        serve(move |asked| {
            let allowed = denied.is_empty() || !asked.body.contains(denied);
            (201, format!(r#"{{"kind": "SelfSubjectAccessReview", "status": {{"allowed": {allowed}}}}}"#))
        })
    };
    is(&asked(&answer("")), Status::Pass, &["all 14 rights"]);
    let policies =
        "get networkpolicies, list networkpolicies, create networkpolicies, delete networkpolicies";
    is(&asked(&answer("networkpolicies")), Status::Fail, &[policies]);
    is(&asked(&answer("daemonsets")), Status::Warn, &["it is poorer without: list daemonsets"]);
    is(&asked(&answer("\"nodes\"")), Status::Warn, &["list nodes, get nodes, patch nodes"]);
    is(&asked(&serve(|_| (403, "{}".to_owned()))), Status::Fail, &["403"]);
    is(&asked(&format!("http://{}", nowhere())), Status::Error, &[]);
}

#[test]
fn a_tenant_that_does_not_know_our_hosts_or_sends_another_collector_fails() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let collector = folder.path().join("collector");
    fs::write(&collector, b"a program").unwrap();
    let inventory = "version = 1\n[[asset]]\nkind = \"host\"\nid = \"web01\"\n[asset.tags]\nedr_id = \"1234567890123456789\"\n";
    let asked = |url: &str, sha256: &str| {
        let more = format!(
            "[targets.edr.s1]\nkind = \"sentinelone\"\nurl = \"{url}\"\ntoken_file = {:?}\nscope_level = \"global\"\n\
             [targets.edr.s1.collector]\nfile = {:?}\nsha256 = \"{sha256}\"\n",
            token.display().to_string(),
            collector.display().to_string()
        );
        check(ruled(folder.path(), RULES, inventory, &more), "RD07")
    };
    let of = |found: &[Outcome], scope: &str| found.iter().find(|one| one.scope == scope).unwrap().clone();
    let console = serve(|_| {
        let agent = r#"{"data": [{"id": "1234567890123456789", "networkStatus": "connected"}], "pagination": {"totalItems": 1}}"#;
        (200, agent.to_owned())
    });
    let pinned = custody::sha256(b"a program").to_string();
    let found = asked(&console, &pinned);
    assert!(found.len() == 2 && found.iter().all(|one| one.status == Status::Pass), "{found:?}");
    assert_eq!(of(&found, "s1/web01").observed, "not contained");
    assert_eq!(of(&asked(&console, &"0".repeat(64)), "s1/collector").status, Status::Fail);
    let empty = serve(|_| (200, r#"{"data": [], "pagination": {"totalItems": 0}}"#.to_owned()));
    let found = of(&asked(&empty, &pinned), "s1/web01");
    assert!(found.status == Status::Fail && found.observed.contains("no agent"), "{found:?}");
    let refusing = serve(|_| (401, "{}".to_owned()));
    assert_eq!(of(&asked(&refusing, &pinned), "s1/web01").status, Status::Fail);
    let gone = format!("http://{}", nowhere());
    assert_eq!(of(&asked(&gone, &pinned), "s1/web01").status, Status::Fail);
}

#[test]
fn a_host_that_lets_nobody_in_fails() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ssh");
    let hosted = |script: &str| {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| format!("{:?}", folder.path().join(name).display().to_string());
        let more = format!(
            "[targets.ssh.web01]\nhost = \"web01.example\"\nuser = \"ir\"\nidentity_file = {}\nknown_hosts_file = {}\n\
             collector = {}\ncollector_sha256 = \"{}\"\nprogram = {}\n",
            at("key"),
            at("known"),
            at("collector"),
            "0".repeat(64),
            at("ssh")
        );
        one(probe(folder.path(), &more), "RD09")
    };
    is(&hosted("echo Linux x86_64"), Status::Pass, &["web01.example answers: Linux x86_64"]);
    is(&hosted("echo 'Permission denied (publickey)' >&2; exit 255"), Status::Fail, &["Permission denied"]);
}

#[test]
fn an_isolation_is_tried_in_networks_of_our_own_and_leaves_no_trace() {
    let spaces = || std::process::Command::new("ip").args(["netns", "list"]).output();
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || spaces().is_err() || std::process::Command::new("nft").arg("--version").output().is_err() {
        eprintln!("skipped: network name spaces need root, iproute2 and nftables");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let found = check(probe(folder.path(), ""), "RD40");
    if found[0].status == Status::Error && found[0].observed.contains("ip netns add") {
        eprintln!("skipped: {}", found[0].observed);
        return;
    }
    assert_eq!(found[0].status, Status::Pass, "{}", found[0].observed);
    let left = String::from_utf8(spaces().unwrap().stdout).unwrap();
    let ours = format!("exhibit-a{}", std::process::id());
    assert!(!left.contains(&ours), "{left}");
}

#[test]
fn a_spray_meets_limits_and_protection_and_without_them_the_exercise_fails() {
    let folder = tempfile::tempdir().unwrap();
    let ran = |rules: &str, inventory: &str| {
        let probe = Arc::new(ruled(folder.path(), rules, inventory, ""));
        exercise::named("T4").unwrap().run(&probe)
    };
    let report = ran(RULES, &inventory_of(40));
    assert!(report.passed, "{report:#?}");
    let line = |what: &str| report.lines.iter().find(|line| line.what == what).unwrap();
    assert!(line("automation acts").seen.contains("2 isolations"), "{report:#?}");
    assert!(line("a spray").seen.contains("50 of them forged"), "{report:#?}");
    let observing = ran(&RULES.replace("\"auto\"", "\"observe\""), &inventory_of(40));
    assert!(!observing.passed, "nothing acts: {observing:#?}");
    let naked = RULES.replace("match.any = [ { field = \"asset.criticality\", eq = \"critical\" } ]\n", "");
    let naked = ran(&naked.replace("[protect]\n", ""), &inventory_of(40));
    assert!(
        !naked.passed && naked.lines.iter().any(|line| !line.holds && line.seen.contains("[protect]")),
        "{naked:#?}"
    );
    assert!(!ran(RULES, "version = 1\n").passed, "nothing to spray is no pass");
}

#[test]
fn a_chain_with_a_link_that_needs_a_person_or_does_not_work_fails() {
    let folder = tempfile::tempdir().unwrap();
    let ran = |rules: &str| {
        let mut made = ruled(folder.path(), rules, &inventory_of(2), "");
        made.program = "/nonexistent/exhibit".into();
        exercise::named("T3").unwrap().run(&Arc::new(made))
    };
    let report = ran(RULES);
    let line = |what: &str| report.lines.iter().find(|line| line.what == what).unwrap();
    for link in ["capture", "isolation", "taking credentials away", "telling people"] {
        assert!(line(&format!("{link} follows by itself")).holds, "{report:#?}");
    }
    // It follows, and would not work: no program, no account, no channel.
    for link in
        ["capture works (RD39)", "taking credentials away works (RD04)", "telling people works (RD44)"]
    {
        assert!(!line(link).holds, "{report:#?}");
    }
    assert!(!report.passed);
    // The alert names a host and the key: a job of each rule, and none twice.
    let made = line("it is stored, decided and becomes jobs");
    assert!(made.holds && made.seen.contains("rule hosts, host:host-1"), "{report:#?}");
    assert!(made.seen.contains("rule keys, iam_access_key:AKIAIOSFODNN7EXAMPLE"), "{report:#?}");
    assert!(line("the same again makes no further job").holds, "{report:#?}");
    assert!(left_by_exercises(folder.path()).is_empty());
    let asked = ran(&RULES.replacen("mode = \"auto\"", "mode = \"approve\"", 1));
    let isolation = asked.lines.iter().find(|line| line.what == "isolation follows by itself").unwrap();
    assert!(!isolation.holds && isolation.seen.contains("Approve"), "{asked:#?}");
}

/// Folders that an exercise should have taken with it.
fn left_by_exercises(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder.join("state")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("exercise-")).collect()
}

#[test]
fn a_chain_that_the_rules_decide_and_their_limits_do_not_let_happen_fails() {
    let folder = tempfile::tempdir().unwrap();
    // The alert names two keys: for this rule that is a storm already, and nothing is done but the record of it.
    let stormy = RULES.replace(
        "assets = { kinds = [\"iam_access_key\"], max = 5 }",
        "assets = { kinds = [\"iam_access_key\"], max = 5 }\nstorm = { over = \"1/5m\", then = \"observe\" }",
    );
    let ran = |keys: &str| {
        let mut made = ruled(folder.path(), &stormy, &(inventory_of(2) + keys), "");
        made.program = "/nonexistent/exhibit".into();
        let report = exercise::named("T3").unwrap().run(&Arc::new(made));
        let what = "taking credentials away follows by itself";
        report.lines.into_iter().find(|line| line.what == what).unwrap()
    };
    let one = ran("");
    assert!(one.holds, "{one:?}");
    let two = ran("[[asset]]\nkind = \"iam_access_key\"\nid = \"AKIAIOSFODNN7EXAMPL2\"\n");
    assert!(!two.holds && two.seen.contains("rule keys (Observe, observed)"), "{two:?}");
    assert!(left_by_exercises(folder.path()).is_empty());
}

#[test]
fn a_spray_counts_what_is_run_because_nobody_answers_and_knows_what_a_scope_holds() {
    let folder = tempfile::tempdir().unwrap();
    let ran = |rules: &str, inventory: &str| {
        let report =
            exercise::named("T4").unwrap().run(&Arc::new(ruled(folder.path(), rules, inventory, "")));
        assert!(report.lines.len() > 5, "{report:#?}");
        report
    };
    let asking = RULES.replace(
        "lease = \"1h\" },\n  { id = \"tell\"",
        "lease = \"1h\", approval = { timeout = \"10m\", on_timeout = \"ANSWER\" } },\n  { id = \"tell\"",
    );
    assert_ne!(asking, RULES);
    let isolations = |answer: &str| {
        let report = ran(&asking.replace("ANSWER", answer), &inventory_of(40));
        report.lines.into_iter().find(|line| line.what == "automation acts").unwrap().seen
    };
    assert!(isolations("run").contains(" 2 isolations"), "{}", isolations("run"));
    // The key's own rule asks nobody.
    assert!(isolations("skip").contains(" 1 isolations"), "{}", isolations("skip"));
    let scope = "[[scope]]\nkind = \"host\"\nid = \"forged-*\"\ntarget = \"local\"\n";
    let report = ran(RULES, &(inventory_of(40) + scope));
    let unknown = report.lines.iter().find(|line| line.what == "nothing unknown is touched").unwrap();
    assert!(unknown.holds, "a scope says that they are ours: {unknown:?}");
}
