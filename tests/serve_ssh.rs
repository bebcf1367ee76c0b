//! An alert about a host that is reached over SSH becomes, unattended, a sealed exhibit made there, a report, and no trace of the
//! collector on the host. Against Debian's sshd.

use std::path::Path;

use crate::exhibit::Desk;
use crate::serving::{Serving, alert, case_of, entries, exhibits, until_ended, verifies, write_settings};
use crate::sshd::Sshd;

#[test]
fn an_alert_about_a_host_over_ssh_becomes_a_sealed_exhibit_and_a_report_and_leaves_nothing_there() {
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new();
    let log = "Nov 21 10:00:00 web01 sshd[1]: Accepted password for root from 203.0.113.9 port 4 ssh2\n";
    let logs = desk.write("the hosts logs/auth.log", log).parent().unwrap().to_owned();
    let rules = format!(
        "version = 1\n[[rule]]\nid = 'host'\nmode = 'auto'\nmatch.all = [ {{ field = 'severity', gte = 70 }} ]\n\
         assets = {{ kinds = ['host'], max = 1 }}\n\
         step = [ {{ id = 'logs', use = 'capture.logs', paths = [{logs:?}] }}, {{ id = 'report', use = 'report.issue', needs = ['logs'] }} ]\n"
    );
    let target = sshd.target(Path::new(env!("CARGO_BIN_EXE_exhibit")));
    let mut more = "[targets.ssh.web01]\n".to_owned();
    for (name, value) in target.as_object().unwrap() {
        more.push_str(&format!("{name} = {value}\n"));
    }
    write_settings(&desk, 0, &rules, &more);
    desk.write("assets.toml", "version = 1\n[[asset]]\nkind = 'host'\nid = 'web0'\ntarget = 'web01'\n");
    let serving = Serving::start(desk.command());
    assert_eq!(serving.post("made", &alert("a-1", 80, 0)), Some(202));
    let ended = until_ended(&desk, 1, &serving);
    assert_eq!(ended[0]["state"], "done", "{ended:#?}\n{}", serving.said());
    let case = case_of(&desk, &ended[0]);
    assert_eq!(exhibits(&case), (vec!["alert".into(), "logs".into()], 0));
    verifies(&desk, &case);
    let bundle = format!("{}:E002", case.display());
    desk.ok(&["export", &bundle, "--format", "tar", "-o", "logs.tar"]);
    let tar = std::fs::read(desk.path("logs.tar")).unwrap();
    assert!(tar.windows(log.len()).any(|part| part == log.as_bytes()), "the log is not in it");
    assert!(entries(&case).iter().any(|entry| entry["type"] == "report.issued"));
    assert!(sshd.left().is_empty(), "{:?}", sshd.left());
    assert_eq!(serving.stop(), Some(0));
}
