//! The commands that read a bundle out of an evidence store: verify, pull, timeline, show, export, list.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::exhibit::{Desk, Ran, noise, ran};
use crate::moto::moto;
use crate::radosgw::radosgw;

/// boto3 comes with moto: each line of its input is one act.
const ACTS: &str = r#"
import os, sys, boto3, botocore.config
config = botocore.config.Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required",
                                response_checksum_validation="when_required")
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", config=config)
bucket = sys.argv[2]
for line in sys.stdin.read().splitlines():
    act, key, path = line.split("\t")
    if act == "bucket":
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    elif act == "put":
        s3.put_object(Bucket=bucket, Key=key, Body=open(path, "rb").read())
    elif act == "bundle":
        for folder, _, names in os.walk(path):
            for name in names:
                file = os.path.join(folder, name)
                inside = os.path.relpath(file, path)
                if inside == "custody.jsonl":
                    for seq, entry in enumerate(open(file, "rb").read().splitlines()):
                        s3.put_object(Bucket=bucket, Key=f"{key}/custody/{seq:08}.json", Body=entry)
                    head = open(os.path.join(path, "checkpoint"), "rb").read()
                    if not os.path.exists(os.path.join(path, f"checkpoints/{seq + 1:08}")):
                        s3.put_object(Bucket=bucket, Key=f"{key}/checkpoints/{seq + 1:08}", Body=head)
                elif inside not in ("checkpoint", "custody.frontier", "store.json"):
                    s3.put_object(Bucket=bucket, Key=f"{key}/{inside}", Body=open(file, "rb").read())
    elif act == "delete":
        s3.delete_object(Bucket=bucket, Key=key)
"#;

/// A desk with an account on a server, and a bucket of its own.
struct Cloud {
    desk: Desk,
    endpoint: String,
    keys: [String; 2],
    bucket: String,
}

impl Cloud {
    fn on(endpoint: &str, access: &str, secret: &str) -> Cloud {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("read-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let keys = [access.to_owned(), secret.to_owned()];
        let cloud = Cloud { desk: Desk::new(), endpoint: endpoint.to_owned(), keys, bucket };
        cloud.act("bucket", "", Path::new(""));
        cloud
    }

    fn on_moto() -> Option<Cloud> {
        moto().map(|server| Cloud::on(&server.endpoint, "AKIATEST", "moto-secret-key-0123456789"))
    }

    /// Every server that can be had.
    fn everywhere() -> impl Iterator<Item = Cloud> {
        let real = radosgw().map(|server| Cloud::on(&server.endpoint, &server.access, &server.secret));
        Cloud::on_moto().into_iter().chain(real)
    }

    fn with_keys<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let config = self.desk.path("no-aws-config");
        command.env("AWS_ACCESS_KEY_ID", &self.keys[0]).env("AWS_SECRET_ACCESS_KEY", &self.keys[1]);
        command.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", &config);
        command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").env_remove("AWS_ENDPOINT_URL");
        command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true")
    }

    fn act(&self, act: &str, key: &str, path: &Path) {
        let mut command = Command::new("python3");
        let command = self.with_keys(&mut command).args(["-c", ACTS, &self.endpoint, &self.bucket]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{act}\t{key}\t{}", path.display()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs the command with the account; neither key nor signature may show in what it says.
    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.desk.command();
        let ran = ran(self.with_keys(&mut command).args(args).output().unwrap());
        for said in [&ran.stdout, &ran.stderr] {
            assert!(!said.contains(&self.keys[1]) && !said.contains("Signature"), "{said}");
        }
        ran
    }

    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "exhibit {args:?}\n{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// The same on this server.
    fn here(&self, args: &[&str]) -> Ran {
        self.run(&[args, &["--endpoint-url", &self.endpoint]].concat())
    }

    fn ok_here(&self, args: &[&str]) -> Ran {
        self.ok(&[args, &["--endpoint-url", &self.endpoint]].concat())
    }

    /// The place of an exhibit in the bucket.
    fn place(&self, folder: &Path) -> String {
        format!("s3://{}/ir-17/{}", self.bucket, folder.file_name().unwrap().to_str().unwrap())
    }

    fn key(&self, folder: &Path, path: &str) -> String {
        format!("ir-17/{}/{path}", folder.file_name().unwrap().to_str().unwrap())
    }

    /// Puts a bundle of the case into the store, and leaves in its folder what `--to` leaves there.
    fn take_over(&self, folder: &Path) -> String {
        let place = self.place(folder);
        self.act("bundle", place.split_once(&format!("{}/", self.bucket)).unwrap().1, folder);
        fs::remove_dir_all(folder.join("data")).unwrap();
        let text = format!(
            "{{\"bucket\":\"{}\",\"endpoint\":\"{}\",\"prefix\":\"ir-17/{}\",\"region\":\"us-east-1\",\"v\":1}}\n",
            self.bucket,
            self.endpoint,
            folder.file_name().unwrap().to_str().unwrap()
        );
        fs::write(folder.join("store.json"), text).unwrap();
        place
    }

    fn case(&self) -> PathBuf {
        self.desk.case_with_disk(&self.desk.write("disk.raw", noise(3_000_000)))
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

#[test]
fn a_bundle_is_verified_where_it_lies_and_a_later_version_is_exit_code_3() {
    for cloud in Cloud::everywhere() {
        let folder = cloud.case();
        let place = cloud.take_over(&folder);
        let verified = cloud.ok_here(&["verify", &place]);
        assert!(verified.stdout.starts_with(&format!("CONSISTENT  {place}")), "{}", verified.stdout);
        assert!(verified.stdout.contains("its data was read at"), "{}", verified.stdout);
        assert!(
            verified.stderr.contains("6 chunks") && verified.stderr.contains("not logged"),
            "{}",
            verified.stderr
        );
        cloud.act("put", &cloud.key(&folder, "data/disk/000000.zst"), &cloud.desk.write("x", "later"));
        let broken = cloud.here(&["verify", &place, "--json"]);
        assert_eq!(broken.code, 3);
        let document: serde_json::Value = serde_json::from_str(&broken.stdout).unwrap();
        assert_eq!(document["faults"][0]["kind"], "version", "{}", broken.stdout);
        assert_eq!(document["path"], place);
        let nothing = cloud.here(&["verify", &format!("s3://{}/ir-17", cloud.bucket)]);
        nothing.fails(2, &["no bundle lies at", "E001-disk"]);
    }
}

#[test]
fn a_case_says_that_data_was_not_read_until_that_is_asked_for() {
    let Some(cloud) = Cloud::on_moto() else { return };
    let folder = cloud.case();
    let place = cloud.take_over(&folder);
    let without = cloud.ok(&["verify", "case"]);
    assert!(without.stdout.starts_with("CONSISTENT (DATA NOT READ)"), "{}", without.stdout);
    assert!(without.stdout.contains(&place), "{}", without.stdout);
    let log = cloud.ok(&["custody", "log", "case", "--json"]).stdout;
    assert!(last_line(&log).contains("CONSISTENT (DATA NOT READ)"), "{log}");
    cloud.run(&["verify", "case", "--remote"]).fails(4, &[&cloud.endpoint, "--endpoint-url"]);
    let with = cloud.ok_here(&["verify", "case", "--remote"]);
    assert!(!with.stdout.contains("NOT READ") && with.stdout.starts_with("CONSISTENT  "), "{}", with.stdout);
    let list = cloud.ok(&["list", "case"]);
    assert!(list.stdout.contains(&format!("its data lies at {place}")), "{}", list.stdout);
    let list: serde_json::Value =
        serde_json::from_str(&cloud.ok(&["list", "case", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["data_at"], place);
    cloud.act("delete", &cloud.key(&folder, "data/disk.chunks.tsv"), Path::new(""));
    let broken = cloud.here(&["verify", "case", "--remote"]);
    assert!(
        broken.code == 3 && broken.stdout.contains("E001-disk/data/disk.chunks.tsv: DELETED"),
        "{}",
        broken.stdout
    );
}

#[test]
fn a_bundle_is_brought_back_whole_or_without_its_data_and_never_over_something() {
    for cloud in Cloud::everywhere() {
        let folder = cloud.case();
        let kept = cloud.desk.path("kept");
        Command::new("cp").arg("-a").args([&folder, &kept]).status().unwrap();
        let place = cloud.take_over(&folder);
        let pulled = cloud.ok_here(&["pull", &place, "-o", "back"]);
        assert_eq!(last_line(&pulled.stdout), "back");
        assert_eq!(files_below(&cloud.desk.path("back")), files_below(&kept));
        let verified = cloud.ok(&["verify", "back"]);
        assert!(verified.stdout.starts_with("CONSISTENT  "), "{}", verified.stdout);
        cloud.here(&["pull", &place, "-o", "back"]).fails(2, &["refusing to overwrite"]);
        cloud.here(&["pull", &place, "--case", "case"]).fails(2, &["has E001 already"]);
        // Lost here, it is brought back as the exhibit that it was.
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(cloud.run(&["verify", "case"]).code, 3);
        let pulled = cloud.ok_here(&["pull", &place, "--case", "case", "--no-data"]);
        assert!(last_line(&pulled.stdout).ends_with("E001-disk"), "{}", pulled.stdout);
        assert!(folder.join("store.json").is_file() && !folder.join("data").exists());
        assert!(cloud.ok_here(&["verify", "case", "--remote"]).stdout.starts_with("CONSISTENT  "));
        let log = cloud.ok(&["custody", "log", "case", "--json"]).stdout;
        assert!(log.lines().any(|line| line.contains("copy.made") && line.contains(&place)), "{log}");
        assert_eq!(log.lines().filter(|line| line.contains("exhibit.added")).count(), 1, "{log}");
    }
}

#[test]
fn a_bundle_of_this_case_that_was_acquired_elsewhere_becomes_its_exhibit_and_one_of_another_case_does_not() {
    let Some(cloud) = Cloud::on_moto() else { return };
    // The case as it stood before: another host has it like that.
    let (case, same) = (cloud.desk.path("case"), cloud.desk.path("same"));
    cloud.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    Command::new("cp").arg("-a").args([&case, &same]).status().unwrap();
    cloud.desk.write("disk.raw", noise(3_000_000));
    cloud.ok(&["acquire", "disk", "disk.raw", "--case", "case", "--name", "disk"]);
    let place = cloud.take_over(&case.join("exhibits/E001-disk"));
    cloud.ok(&["init", "other", "--name", "another", "--examiner", "e"]);
    cloud.here(&["pull", &place, "--case", "other"]).fails(2, &["is of the case", "-o DIR"]);
    cloud.ok_here(&["pull", &place, "--case", "same"]);
    let verified = cloud.ok(&["verify", "same"]);
    assert!(verified.stdout.starts_with("CONSISTENT  "), "{}", verified.stdout);
    assert!(verified.stdout.contains("exhibits/E001-disk"), "{}", verified.stdout);
}

#[test]
fn a_file_that_is_not_the_one_that_was_sealed_is_not_brought_back() {
    let Some(cloud) = Cloud::on_moto() else { return };
    let folder = cloud.case();
    let segment = folder.join("data/disk/000000.zst");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let place = cloud.take_over(&folder);
    let pulled = cloud.here(&["pull", &place, "-o", "back"]);
    pulled.fails(3, &["data/disk/000000.zst", "not the file that the manifest names"]);
    assert!(!cloud.desk.path("back/data/disk/000000.zst").exists());
    // A manifest that does not verify: nothing is written at all.
    cloud.act("bundle", "second/E001-disk", &{
        let copy = cloud.desk.path("copy");
        Command::new("cp").arg("-a").args([&folder, &copy]).status().unwrap();
        fs::write(copy.join("manifest.json.sig"), [0; 64]).unwrap();
        copy
    });
    let place = format!("s3://{}/second/E001-disk", cloud.bucket);
    cloud.here(&["pull", &place, "-o", "none"]).fails(3, &["nothing was written"]);
    assert!(!cloud.desk.path("none").exists());
}

/// SHA-256 of every file below a folder, by its path.
fn files_below(folder: &Path) -> Vec<String> {
    let sums = Command::new("sh")
        .args(["-c", "find . -type f -exec sha256sum {} + | sort -k 2"])
        .current_dir(folder)
        .output();
    String::from_utf8(sums.unwrap().stdout).unwrap().lines().map(str::to_owned).collect()
}

#[cfg(feature = "timeline")]
#[test]
fn a_timeline_out_of_the_store_is_the_one_out_of_the_folder_byte_for_byte() {
    for cloud in Cloud::everywhere() {
        let desk = &cloud.desk;
        let lines: String = (0..400)
            .map(|n| format!("2026-11-09T10:{:02}:{:02}Z web01 app[7]: line {n}\n", n / 60, n % 60))
            .collect();
        desk.write("root/var/log/syslog", &lines);
        desk.write("root/etc/hostname", "web01\n");
        desk.write("root/var/log/noise.bin", noise(5_000_000));
        desk.write("image.raw", "");
        fs::OpenOptions::new().write(true).open(desk.path("image.raw")).unwrap().set_len(32 << 20).unwrap();
        let made = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-F", "-d"])
            .args([desk.path("root"), desk.path("image.raw")])
            .status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: there is no mke2fs");
            return;
        }
        desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
        desk.ok(&["acquire", "disk", "image.raw", "--case", "case", "--name", "disk"]);
        desk.ok(&["acquire", "logs", "root/var/log", "--case", "case", "--name", "logs"]);
        desk.run(&["timeline", "case"]);
        let local = files_below(&desk.path("case/timeline"));
        assert!(local.len() > 3, "{local:?}");
        let event = "SELECT event_id FROM events WHERE ts_desc = 'logged' OR message LIKE '%line 77%' ORDER BY event_id";
        let ids = desk.ok(&["sql", "case", event, "--json"]).stdout;
        let ids: serde_json::Value = serde_json::from_str(&ids).unwrap();
        let id = ids[0]["event_id"].as_str().unwrap().to_owned();
        let shown = desk.ok(&["show", "case", &id, "--bytes", "--proof", "--json"]).stdout;
        for name in ["E001-disk", "E002-logs"] {
            cloud.take_over(&desk.path("case/exhibits").join(name));
        }
        fs::remove_dir_all(desk.path("case/timeline")).unwrap();
        fs::create_dir(desk.path("case/timeline")).unwrap();
        let built = cloud.here(&["timeline", "case", "-v"]);
        assert!(built.code <= 1 && built.stderr.contains("its data is read at s3://"), "{}", built.stderr);
        assert_eq!(files_below(&desk.path("case/timeline")), local);
        assert_eq!(cloud.ok_here(&["show", "case", &id, "--bytes", "--proof", "--json"]).stdout, shown);
        cloud.ok_here(&["export", "case:E001", "--format", "raw", "-o", "again.raw"]);
        assert!(fs::read(desk.path("again.raw")).unwrap() == fs::read(desk.path("image.raw")).unwrap());
        cloud.run(&["export", "case:E001", "--format", "raw", "-o", "no.raw"]).fails(2, &["--endpoint-url"]);
    }
}
