//! Falco tells of a shell in a container over HTTP, and unattended becomes: its processes with their memory, sockets, changed and
//! deleted files, sealed before the container is removed; then a timeline and a report. Against Debian's runc.

use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::exhibit::Desk;
use crate::runc_box::{RuncBox, run};
use crate::serving::{Serving, case_of, entries, exhibits, until_ended, verifies, write_settings};

/// As Falco shortens it, of the container's own name.
const SHORT: &str = "4f8e2a1c0d9b";
const ID: &str = "4f8e2a1c0d9b7a6c5e4d3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c";

fn alert() -> String {
    json!({
        "uuid": "a3f1c0de-1d2c-4b7a-8d3e-0c5a7d1b7c01", "hostname": "node-1", "priority": "Critical", "source": "syscall",
        "rule": "Terminal shell in container", "output": "A shell was spawned in a container",
        "tags": ["container", "mitre_execution", "T1059"], "time": "2026-11-20T04:12:33.123456789Z",
        "output_fields": {"container.id": SHORT, "proc.name": "bash", "user.name": "root", "fd.sip": "<NA>"},
    })
    .to_string()
}

fn settings(desk: &Desk, container: &RuncBox) {
    let timeline = if cfg!(feature = "timeline") {
        "{ id = 'timeline', use = 'timeline.build', needs = ['take:finished'] },"
    } else {
        ""
    };
    let rules = format!(
        "version = 1\n[[rule]]\nid = 'container-shell'\nmode = 'auto'\n\
         match.all = [ {{ field = 'source', eq = 'falco' }}, {{ field = 'attack.technique', prefix = ['T1059'] }} ]\n\
         assets = {{ role = 'any', kinds = ['container'], max = 1 }}\n\
         step = [ {{ id = 'take', use = 'capture.container' }}, {timeline} {{ id = 'report', use = 'report.issue', needs = ['take'] }} ]\n"
    );
    let more = format!(
        "[targets.containers.node]\nruntime = 'runc'\nstates = [{:?}]\n\
         [[source]]\nname = 'falco'\nkind = 'falco'\n[[source.authenticate]]\nscheme = 'bearer'\nsecret_files = ['secret']\n",
        container.path("state")
    );
    write_settings(desk, 0, &rules, &more);
    desk.write(
        "assets.toml",
        format!("version = 1\n[[asset]]\nkind = 'container'\nid = '{SHORT}'\ntarget = 'node'\n"),
    );
}

#[test]
fn a_container_that_is_gone_half_a_minute_after_the_alert_was_taken_with_its_memory() {
    let Some(container) = RuncBox::start(ID, true) else { return };
    let desk = Desk::new();
    settings(&desk, &container);
    let serving = Serving::start(desk.command());
    assert_eq!(serving.post("falco", &alert()), Some(202));
    thread::sleep(Duration::from_secs(30));
    run(container.runc().args(["delete", "-f", ID]));
    let ended = until_ended(&desk, 1, &serving);
    assert_eq!(ended[0]["state"], "done", "{ended:#?}\n{}", serving.said());
    let case = case_of(&desk, &ended[0]);
    let (sealed, open) = exhibits(&case);
    assert_eq!((sealed.len(), open), (2, 0), "{sealed:?}");
    verifies(&desk, &case);

    // What goes is taken before the alert itself is kept.
    let folders = std::fs::read_dir(case.join("exhibits")).unwrap().map(|one| one.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|one| !one.to_str().unwrap().ends_with("-alert")).collect();
    let bundle = folders.remove(0).display().to_string();
    let taken = |stream: &str| {
        let file = format!("{stream}.tar");
        desk.ok(&["export", &bundle, "--format", "tar", "--stream", stream, "-o", &file]);
        let names = Command::new("tar").arg("-tf").arg(desk.path(&file)).output().unwrap().stdout;
        (std::fs::read(desk.path(&file)).unwrap(), String::from_utf8_lossy(&names).into_owned())
    };
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let (processes, names) = taken("processes");
    assert!(holds(&processes, "planted-42-secret"), "its memory is not there: {names}");
    assert!(names.contains(".core"), "{names}");
    let (files, names) = taken("files");
    assert!(names.contains("etc/new"), "what it changed is not there: {names}");
    assert!(
        holds(&files, "gone-but-open") || holds(&processes, "gone-but-open"),
        "a deleted file is not there"
    );

    let kinds: Vec<String> =
        entries(&case).iter().map(|entry| entry["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds[..3], ["log.genesis", "alert.received", "decision.made"]);
    assert!(kinds.contains(&"report.issued".to_owned()), "{kinds:?}");
    assert_eq!(kinds.contains(&"timeline.built".to_owned()), cfg!(feature = "timeline"), "{kinds:?}");
    assert_eq!(serving.stop(), Some(0));
}
