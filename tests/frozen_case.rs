//! A case that an earlier version wrote: this one and every later must find in it exactly what was found then.

use std::path::Path;
use std::process::Command;

use crate::exhibit::Desk;

fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name).to_str().unwrap().to_owned()
}

/// The case as it was committed, in a folder of its own; version control keeps no empty folders and may not keep rights.
fn frozen(desk: &Desk) {
    let copied = Command::new("cp").args(["-r", &sample("case_v1")]).arg(desk.path("case")).status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_case_of_the_first_version_verifies_with_the_recorded_verdict() {
    let desk = Desk::new();
    frozen(&desk);
    let recorded = std::fs::read_to_string(sample("case_v1_kept/EXPECTED.tsv")).unwrap();
    let kept = sample("case_v1_kept/anchors");
    let trusted = std::fs::read_to_string(sample("case_v1_kept/trusted")).unwrap();
    let views: [(&str, Vec<&str>); 3] = [
        ("files", vec![]),
        ("trusted", vec!["--trust", trusted.trim()]),
        ("kept", vec!["--anchors", &kept, "--trust", trusted.trim()]),
    ];
    let mut found = String::new();
    for (view, more) in views {
        let ran = desk.run(&[&["verify", "case", "--json"], more.as_slice()].concat());
        let said: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let mut row = |what: &str, verdict: &serde_json::Value, log: &serde_json::Value| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            found.push_str(&format!(
                "{view}\t{what}\t{}\t{}\t{}\t{}\n",
                text(verdict),
                log["size"],
                text(&log["root"]),
                text(&log["origin"])
            ));
        };
        row("case", &said["verdict"], &said["log"]);
        for exhibit in said["exhibits"].as_array().unwrap() {
            row(exhibit["id"].as_str().unwrap(), &exhibit["verdict"], &exhibit["log"]);
        }
        found.push_str(&format!("{view}\tfaults\t{}\texit\t{}\n", said["fault_count"], ran.code));
    }
    assert_eq!(found, recorded, "what was found in samples/case_v1 is not what was recorded");
}
