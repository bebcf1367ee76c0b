//! Evidence of a cloud account from the command line, against moto.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::exhibit::{Desk, Ran, ran};
use crate::moto::{Moto, moto};

const REGION: &str = "eu-central-1";

/// What must never be seen anywhere.
const SECRET: &str = "kQ7secretkQ7secretkQ7";

fn exhibit(desk: &Desk, moto: &Moto, args: &[&str]) -> Ran {
    let mut command = desk.command();
    command.env("AWS_ACCESS_KEY_ID", "AKIASAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN");
    command.args(args).args(["--region", REGION, "--endpoint-url", &moto.endpoint]);
    ran(command.output().unwrap())
}

/// A volume of one GiB with a small ext4, or the reason said why there is none.
fn image(desk: &Desk) -> Option<std::path::PathBuf> {
    if Command::new("mke2fs").arg("-V").output().is_err() {
        println!("skipped: there is no mke2fs");
        return None;
    }
    let log: String = (0..400)
        .map(|n| format!("2026-11-09T10:{:02}:{:02}+00:00 web01 sshd[7]: Accepted publickey for root from 192.0.2.{}\n", n / 60, n % 60, n % 200))
        .collect();
    desk.write("root/var/log/auth.log", log);
    desk.write("root/etc/hostname", "web01\n");
    desk.write("root/etc/timezone", "Etc/UTC\n");
    desk.write("root/root/.bash_history", "#1762682400\nid\n#1762682460\ncurl http://198.51.100.7/x\n");
    let image = desk.path("volume.raw");
    fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"]).arg(desk.path("root")).arg(&image);
    assert!(mke2fs.status().unwrap().success());
    Some(image)
}

fn put(moto: &Moto, image: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/put_snapshot.py");
    let output =
        Command::new("python3").arg(script).args([&moto.endpoint, REGION]).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All rows of a case's timeline.
fn rows(desk: &Desk, case: &str) -> Vec<Value> {
    desk.ok(&["timeline", case]);
    let shown = desk.ok(&["query", case, "--limit", "100000", "--json"]).stdout;
    let mut rows: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // An event's id is that of its place in this very bundle, and orders those of one moment.
    rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("event_id").unwrap()));
    rows.sort_by_cached_key(Value::to_string);
    rows
}

#[test]
fn a_snapshot_gives_the_timeline_of_the_same_image_acquired_from_disk() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    let Some(image) = image(&desk) else { return };
    let id = put(moto, &image);
    for case in ["disk", "cloud"] {
        desk.ok(&["init", case, "--name", "n", "--examiner", "J. Doe"]);
    }
    desk.ok(&["acquire", "disk", "volume.raw", "--case", "disk", "--name", "volume"]);

    let tried = exhibit(&desk, moto, &["acquire", "ebs", &id, "--case", "cloud", "--dry-run"]);
    assert_eq!(tried.code, 0, "{}", tried.stderr);
    for word in ["blocks", "minutes", "cost: $", "us-east-1"] {
        assert!(tried.stderr.contains(word), "{word} is not in: {}", tried.stderr);
    }
    assert!(
        fs::read_dir(desk.path("cloud/exhibits")).unwrap().next().is_none(),
        "a dry run acquires nothing"
    );

    let acquired = exhibit(
        &desk,
        moto,
        &["acquire", "ebs", &id, "--case", "cloud", "--name", "volume", "--verify-after"],
    );
    assert_eq!(acquired.code, 0, "{}", acquired.stderr);
    assert!(acquired.stderr.contains("absent"), "{}", acquired.stderr);
    let manifest = |bundle: &str| -> Value {
        serde_json::from_slice(&fs::read(desk.path(bundle).join("manifest.json")).unwrap()).unwrap()
    };
    let (of_disk, of_cloud) = (manifest("disk/exhibits/E001-volume"), manifest("cloud/exhibits/E001-volume"));
    for hash in ["sha256", "chunk_root"] {
        assert_eq!(of_disk["streams"][0][hash], of_cloud["streams"][0][hash], "{hash}");
    }
    assert_eq!(of_cloud["source"]["path"], id.as_str());

    let (disk, cloud) = (rows(&desk, "disk"), rows(&desk, "cloud"));
    assert!(disk.len() > 400, "{}", disk.len());
    assert!(disk == cloud, "{:?}", disk.iter().zip(&cloud).find(|(one, other)| one != other));

    let log = desk.ok(&["custody", "log", "cloud:E001", "--json"]).stdout;
    for text in [&log, &acquired.stderr, &acquired.stdout, &of_cloud.to_string()] {
        assert!(!text.contains(SECRET) && !text.contains("Signature="), "{text}");
    }
}

#[test]
fn what_is_no_snapshot_is_wrong_usage_and_one_that_is_not_there_is_named() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    for wrong in ["disk.raw", "snap-", "snap-../../x", "ami-0123456789abcdef0"] {
        exhibit(&desk, moto, &["acquire", "ebs", wrong, "--case", "case"]).fails(2, &["snap-"]);
    }
    let gone = "snap-0123456789abcdef0";
    let refused = exhibit(&desk, moto, &["acquire", "ebs", gone, "--case", "case"]);
    refused.fails(4, &["EBS ListSnapshotBlocks"]);
    assert!(
        fs::read_dir(desk.path("case/exhibits")).unwrap().next().is_none(),
        "no empty exhibit is left behind"
    );
}
