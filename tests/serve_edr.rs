//! An alert about a host that its EDR has contained becomes, unattended, a sealed exhibit that our collector made there, and the
//! host stays contained. The consoles are played on loopback, as `support/edr_console` says; the host behind them is this one,
//! where our script and the real collector are truly run. The collector is the small program, as on any host:
//! `cargo test -p exhibit-cli --no-default-features --features cloud,serve --test commands serve_edr`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::edr_console::{AGENT, AID, Answer, Asked, Console, MACHINE, State, defender, falcon, sentinelone};
use crate::exhibit::Desk;
use crate::serving::{Serving, alert, case_of, entries, exhibits, until_ended, verifies, write_settings};

/// The program under test without its symbols: no EDR takes hundreds of megabytes.
fn collector(desk: &Desk) -> Option<(PathBuf, String)> {
    let file = desk.path("collector");
    let stripped = Command::new("strip").arg("-o").arg(&file).arg(env!("CARGO_BIN_EXE_exhibit")).status();
    if !stripped.is_ok_and(|status| status.success()) {
        println!("skipped: strip, of binutils, is not there");
        return None;
    }
    let bytes = std::fs::read(&file).unwrap();
    if bytes.len() > 128 << 20 {
        println!(
            "skipped: with the query engine, unoptimised, the program is larger than a collector may be"
        );
        return None;
    }
    let hash = custody::sha256(&bytes).to_string();
    Some((file, hash))
}

/// The settings of one tenant, as `[targets.edr.tenant]`.
fn tenant(product: &str, desk: &Desk, url: &str, (file, hash): &(PathBuf, String)) -> String {
    let secret = desk.write("edr-secret", "s3cr/t\n");
    let own = match product {
        "crowdstrike" => format!("url = '{url}'\nclient_id = 'c'\nclient_secret_file = {secret:?}\n"),
        "defender" => format!(
            "tenant_id = 'b3c1b5fc-0000-4000-8000-10d74f6d6e9c'\nurl = '{url}'\nlogin_url = '{url}/login'\nclient_id = 'c'\n\
             client_secret_file = {secret:?}\nput_folder = {:?}\n",
            desk.path("host")
        ),
        _ => format!(
            "url = '{url}'\ntoken_file = {secret:?}\nscope_level = 'site'\nscope_id = '225494730938493804'\n"
        ),
    };
    format!(
        "[targets.edr.tenant]\nkind = '{product}'\n{own}\
         collector = {{ file = {file:?}, sha256 = '{hash}', folder = {:?} }}\n",
        desk.path("work")
    )
}

/// What `exhibit jobs show` says of the job's step.
fn step(desk: &Desk, job: &Value) -> Value {
    let name = job["job"].as_str().unwrap();
    let shown = desk.ok(&["jobs", "show", name, "--config", "serve.toml", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let steps = shown["steps"].as_array().unwrap();
    steps.iter().find(|step| step["id"] == "take").unwrap().clone()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

fn is_captured_and_stays_contained(
    product: &str,
    device: &str,
    answer: fn(&mut State, &Asked, &str) -> Answer,
) {
    let desk = Desk::new();
    let Some(collector) = collector(&desk) else { return };
    for folder in ["host", "work"] {
        std::fs::create_dir(desk.path(folder)).unwrap();
    }
    let console = Console::start(&desk.path("host"), answer);
    console.state.lock().unwrap().is_contained_already();
    let rules = "version = 1\n[[rule]]\nid = 'contained-host'\nmode = 'auto'\nmatch.all = [ { field = 'severity', gte = 70 } ]\n\
                 assets = { kinds = ['host'], max = 1 }\n\
                 step = [ { id = 'take', use = 'capture.edr', artefacts = ['V3'], contained = true, pause = '1s' }, \
                 { id = 'report', use = 'report.issue', needs = ['take'] } ]\n";
    write_settings(&desk, 0, rules, &tenant(product, &desk, &console.url, &collector));
    let asset = format!(
        "version = 1\n[[asset]]\nkind = 'host'\nid = 'web0'\ntarget = 'tenant'\naliases = ['{device}']\n"
    );
    desk.write("assets.toml", asset);
    let serving = Serving::start(desk.command());
    assert_eq!(serving.post("made", &alert("a-1", 80, 0)), Some(202));
    let ended = until_ended(&desk, 1, &serving);
    assert_eq!(ended[0]["state"], "done", "{ended:#?}\n{}", serving.said());

    // Read before and after, and the same; nothing was asked for that would change it.
    let take = step(&desk, &ended[0]);
    let contained = json!({"before": "contained", "after": "contained"});
    assert_eq!((&take["result"]["containment"], &take["result"]["device"]), (&contained, &json!(device)));
    assert_eq!((&take["result"]["left"], &take["tries"]), (&json!([]), &json!(0)), "{take:#}");
    for changes in [
        "POST /devices/entities/devices-actions".to_owned(),
        format!("POST /api/machines/{MACHINE}/isolate"),
        format!("POST /api/machines/{MACHINE}/unisolate"),
        "POST /web/api/v2.1/agents/actions".to_owned(),
    ] {
        assert_eq!(console.asked(&changes), 0, "{changes}");
    }
    assert!(console.state.lock().unwrap().contained);

    // What came is the exhibit that our collector sealed there, and it verifies.
    let case = case_of(&desk, &ended[0]);
    assert_eq!(exhibits(&case), (vec!["alert".into(), "take".into()], 0));
    verifies(&desk, &case);
    let bundle = format!("{}:{}", case.display(), take["result"]["exhibit"].as_str().unwrap());
    let verified = desk.run(&["verify", &bundle]);
    assert!(matches!(verified.code, 0 | 1), "{}{}", verified.stdout, verified.stderr);
    desk.ok(&["export", &bundle, "--format", "tar", "--stream", "files", "-o", "taken.tar"]);
    let names = Command::new("tar").arg("-tf").arg(desk.path("taken.tar")).output().unwrap().stdout;
    let names = String::from_utf8_lossy(&names).into_owned();
    assert!(names.contains("/net/tcp\n"), "{names}");
    let log = entries(&case);
    let fulfilled = log.iter().find(|entry| entry["how"]["act"] == "fulfilled");
    let fulfilled = fulfilled.unwrap_or_else(|| panic!("the commission was not fulfilled: {log:#?}"));
    assert_eq!(fulfilled["result"]["collector_sha256"], json!(collector.1), "{fulfilled:#}");
    assert!(log.iter().any(|entry| entry["type"] == "report.issued"));

    // Nothing of ours is left on the host, nor of the evidence outside of the case.
    assert!(files_in(&desk.path("work")).is_empty(), "{:?}", files_in(&desk.path("work")));
    assert!(!desk.path("host").join(format!("exhibit-{:.16}", collector.1)).exists());
    assert!(files_in(&desk.path("state/collections")).is_empty());
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_host_that_falcon_has_contained_is_captured_by_our_collector_and_stays_contained() {
    is_captured_and_stays_contained("crowdstrike", AID, falcon);
}

#[test]
fn a_host_that_defender_has_isolated_is_captured_by_our_collector_and_stays_isolated() {
    is_captured_and_stays_contained("defender", MACHINE, defender);
}

#[test]
fn a_host_that_sentinelone_has_disconnected_is_captured_by_our_collector_and_stays_disconnected() {
    is_captured_and_stays_contained("sentinelone", AGENT, sentinelone);
}
