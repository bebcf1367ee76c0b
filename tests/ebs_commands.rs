//! `exhibit acquire ebs` of a volume, against moto: killed in its midst, it leaves nothing that is not named.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::exhibit::{Desk, Ran, ran};
use crate::moto::{Moto, moto};

const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "FwoGZXIvYXdzEXAMPLETOKEN";
const REGION: &str = "sa-east-1";

fn command(desk: &Desk, moto: &Moto, args: &[&str]) -> Command {
    let mut command = desk.command();
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.env("AWS_SESSION_TOKEN", TOKEN).env("AWS_REGION", REGION).env("AWS_ENDPOINT_URL", &moto.endpoint);
    command.args(args);
    command
}

fn run(desk: &Desk, moto: &Moto, args: &[&str]) -> Ran {
    let ran = ran(command(desk, moto, args).output().unwrap());
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.contains(SECRET) && !text.contains(TOKEN), "{text}");
    }
    ran
}

fn no_secret_in(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_secret_in(&path);
        } else {
            let bytes = fs::read(&path).unwrap();
            let holds = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!holds(SECRET) && !holds(TOKEN), "{path:?}");
        }
    }
}

fn snapshots(moto: &Moto) -> usize {
    let form = "Action=DescribeSnapshots&Version=2016-11-15&Owner.1=self&Filter.1.Name=tag%3Acreated-by&Filter.1.Value.1=exhibit";
    moto.ask(REGION, form).matches("<snapshotId>").count()
}

#[test]
fn a_killed_acquisition_of_a_volume_is_gone_on_with_and_leaves_no_snapshot() {
    let Some(moto) = moto() else { return };
    let answer =
        moto.ask(REGION, "Action=CreateVolume&Version=2016-11-15&Size=1&AvailabilityZone=sa-east-1a");
    let volume = answer.split("<volumeId>").nth(1).unwrap().split('<').next().unwrap();
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);

    let planned = run(&desk, moto, &["acquire", "ebs", volume, "--case", "case", "--dry-run", "--json"]);
    let planned: serde_json::Value = serde_json::from_str(planned.stdout.trim()).unwrap();
    assert_eq!(planned["blocks_at_most"], 2048);
    let permissions = planned["permissions"].as_array().unwrap();
    let may = permissions.iter().find(|one| one["action"] == "ec2:CreateSnapshot").unwrap();
    assert_eq!(may["state"], "allowed");
    assert_eq!(snapshots(moto), 0);

    let acquire = ["acquire", "ebs", volume, "--case", "case"];
    let mut child =
        command(&desk, moto, &acquire).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = desk.path("case/custody.jsonl");
    // As soon as the case's log names the snapshot, its bundle is being written.
    while !fs::read_to_string(&log).unwrap().contains(r#""snapshots":["snap-"#) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(snapshots(moto), 1);

    let gone_on = run(&desk, moto, &["acquire", "ebs", volume, "--case", "case", "--resume"]);
    assert_eq!(gone_on.code, 0, "{}", gone_on.stderr);
    assert!(gone_on.stderr.contains("going on with snap-"), "{}", gone_on.stderr);
    assert!(
        gone_on.stderr.contains("is deleted: its exhibit was read back and verified"),
        "{}",
        gone_on.stderr
    );
    assert_eq!(snapshots(moto), 0);
    no_secret_in(&desk.path("case"));
    let verified = desk.ok(&["verify", "case"]);
    assert!(verified.stdout.contains("CONSISTENT"), "{}", verified.stdout);
    let log = fs::read_to_string(&log).unwrap();
    for act in ["EC2 CreateSnapshot", "EC2 DeleteSnapshot"] {
        assert!(log.contains(act), "{act}");
    }
}
