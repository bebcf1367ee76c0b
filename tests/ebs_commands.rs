//! `exhibit acquire ebs` of a volume or an instance, against moto: killed in its midst, it leaves nothing that is not named.
//! And against a server of ours: our own snapshot is deleted only once all of it is known to be in the case.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use acquire::ebs::{OneRun, Target};
use custody::Case;

use crate::exhibit::{Desk, Ran, ran};
use crate::fault_server::{Fault, FaultServer, Piece, Plan, Rule, Snapshot};
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

const OURS: &str = "snap-0123456789abcdef0";
const VOLUME: &str = "vol-0fedcba9876543210";
const BLOCK: u64 = 512 << 10;

/// A server with one volume, of which a snapshot can be made.
fn server(rules: Vec<Rule>) -> FaultServer {
    let piece = |index: u32| if index < 24 { Piece::Text(index) } else { Piece::Absent };
    let snapshot = Snapshot::made(OURS, 1, piece).of_volume(VOLUME);
    FaultServer::start(vec![snapshot], Plan { rules, ..Plan::default() })
}

/// A block that stays bad.
fn one_bad_block() -> Vec<Rule> {
    vec![Rule::block(7, Fault::Error(400, "ValidationException", "INVALID_BLOCK"))]
}

fn desk_with_case() -> Desk {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    desk
}

fn acquires(desk: &Desk, server: &FaultServer, more: &[&str]) -> Command {
    let mut command = desk.command();
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.env_remove("AWS_PROFILE").env("AWS_EC2_METADATA_DISABLED", "true");
    command.args(["acquire", "ebs", VOLUME, "--case", "case", "--region", REGION]);
    command.args(["--endpoint-url", &server.endpoint()]).args(more);
    command
}

fn acquire(desk: &Desk, server: &FaultServer, more: &[&str]) -> Ran {
    ran(acquires(desk, server, more).output().unwrap())
}

#[test]
fn our_snapshot_is_deleted_when_all_of_it_was_read_and_kept_while_a_part_of_it_was_not() {
    let whole = server(vec![]);
    let ran = acquire(&desk_with_case(), &whole, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(whole.deleted(), [OURS]);

    let (bad, desk) = (server(one_bad_block()), desk_with_case());
    let words = format!("{BLOCK} bytes of it could not be read: acquire it again before deleting it");
    acquire(&desk, &bad, &[]).fails(1, &["is kept", &words]);
    assert!(bad.deleted().is_empty());
    // It is kept on purpose, so that it is no orphan of a later run.
    let log = fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
    assert!(log.contains("keep snapshot") && !log.contains("EC2 DeleteSnapshot"));
}

#[test]
fn a_run_that_was_killed_after_the_seal_is_ended_by_the_next_which_keeps_what_has_unreadable_blocks() {
    let (bad, desk) = (server(one_bad_block()), desk_with_case());
    let mut child = acquires(&desk, &bad, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_sealed = || {
        let folders = fs::read_dir(desk.path("case/exhibits")).into_iter().flatten().flatten();
        folders.into_iter().any(|folder| {
            let log = fs::read_to_string(folder.path().join("custody.jsonl")).unwrap_or_default();
            log.contains(r#""type":"bundle.sealed""#)
        })
    };
    while !is_sealed() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let log = || fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
    // Where the machine was quicker than we are, there is nothing left to end.
    if !log().contains("keep snapshot") {
        let resumed = acquire(&desk, &bad, &["--resume"]);
        resumed.fails(1, &["is exhibit E001 already", "read back and verified", "is kept"]);
    }
    assert!(log().contains("keep snapshot") && log().contains(r#""type":"bundle.sealed""#));
    assert!(bad.deleted().is_empty());
    let verified = desk.run(&["verify", "case"]);
    assert!(verified.stdout.contains("CONSISTENT"), "{}{}", verified.stdout, verified.stderr);
}

#[test]
fn our_snapshot_is_kept_where_what_is_inside_its_exhibit_could_not_be_checked() {
    let server = server(vec![]);
    let recipient = "age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga";
    let ran = acquire(&desk_with_case(), &server, &["--encrypt-to", recipient]);
    let says = |words: &str| ran.stderr.contains(words);
    assert!(says("is kept") && says("could not be checked here"), "{}", ran.stderr);
    assert!(server.deleted().is_empty());
}

#[test]
fn two_runs_of_one_target_and_case_are_never_at_work_together() {
    let (desk, server) = (desk_with_case(), server(vec![]));
    let case = Case::open(&desk.path("case")).unwrap();
    let held = OneRun::take(&case, &Target::Volume(VOLUME.into())).unwrap();
    for more in [&["--resume"][..], &[]] {
        acquire(&desk, &server, more).fails(4, &["another run acquires", VOLUME]);
    }
    assert!(!fs::read_to_string(desk.path("case/custody.jsonl")).unwrap().contains("EC2 CreateSnapshot"));
    drop(held);
    assert_eq!(acquire(&desk, &server, &[]).code, 0);
    assert_eq!(server.deleted(), [OURS]);
}

#[test]
fn a_volume_that_is_in_no_snapshot_any_more_is_named_when_an_instance_is_gone_on_with() {
    let Some(moto) = moto() else { return };
    // Of its own, for other tests count the snapshots of theirs.
    let region = "eu-north-1";
    let answer = moto.ask(
        region,
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-12c6146b&MinCount=1&MaxCount=1&InstanceType=t3.micro\
         &BlockDeviceMapping.1.DeviceName=%2Fdev%2Fxvda&BlockDeviceMapping.1.Ebs.VolumeSize=1\
         &BlockDeviceMapping.2.DeviceName=%2Fdev%2Fsdf&BlockDeviceMapping.2.Ebs.VolumeSize=1",
    );
    let of = |text: &str, tag: &str| text.split(tag).nth(1).unwrap().split('<').next().unwrap().to_owned();
    let instance = of(&answer, "<instanceId>");
    let desk = desk_with_case();
    let args = ["acquire", "ebs", &instance, "--case", "case", "--region", region, "--resume"];
    let mut child =
        command(&desk, moto, &args[..7]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = desk.path("case/custody.jsonl");
    while !fs::read_to_string(&log).unwrap().contains(r#""snapshots":["snap-"#) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let made = text.split(r#""snapshots":["#).nth(1).unwrap().split(']').next().unwrap();
    let lost = made.split(',').nth(1).unwrap().trim_matches('"');
    let form = format!("Action=DescribeSnapshots&Version=2016-11-15&SnapshotId.1={lost}");
    let volume = of(&moto.ask(region, &form), "<volumeId>");
    moto.ask(region, &format!("Action=DeleteSnapshot&Version=2016-11-15&SnapshotId={lost}"));

    let gone_on = run(&desk, moto, &args);
    let words = format!("{volume} of {instance} is in no exhibit and no snapshot of that run");
    gone_on.fails(1, &["going on with snap-", &words]);
}
