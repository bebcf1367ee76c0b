//! `--to s3://…` and `exhibit push` by the real binary, against moto: what a person types, reads and is refused.

use std::fs;
use std::path::PathBuf;

use custody::MirrorState;

use crate::exhibit::{Desk, Ran, noise, ran};
use crate::moto::moto;
use crate::s3::{Bucket, Fate, Proxy};

/// What must never be seen anywhere.
const SECRET: &str = "zP4secretzP4secretzP4";

struct Store {
    desk: Desk,
    bucket: Bucket,
    proxy: Proxy,
}

impl Store {
    fn new(name: &str, more: &str) -> Option<Store> {
        let moto = moto()?;
        let desk = Desk::new();
        desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
        let bucket = Bucket::make(&moto.endpoint, name, more);
        Some(Store { desk, bucket, proxy: Proxy::before(&moto.endpoint) })
    }

    fn to(&self) -> String {
        format!("s3://{}/ir-17", self.bucket.name)
    }

    /// Runs a command with the account's credentials in its environment.
    fn run(&self, args: &[&str]) -> Ran {
        self.run_naming("", args)
    }

    /// The same, with this server named in the environment.
    fn run_naming(&self, endpoint: &str, args: &[&str]) -> Ran {
        let mut command = self.desk.command();
        command.env("AWS_ACCESS_KEY_ID", "AKIASAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("AWS_SESSION_TOKEN", format!("token{SECRET}")).env("AWS_REGION", "us-east-1");
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_ENDPOINT_URL");
        if !endpoint.is_empty() {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        let ran = ran(command.args(args).output().unwrap());
        for said in [&ran.stdout, &ran.stderr] {
            assert!(!said.contains(SECRET) && !said.contains("Signature="), "{said}");
        }
        ran
    }

    /// Acquires to the store; gives the folder that the case keeps.
    fn acquire(&self, args: &[&str]) -> (Ran, PathBuf) {
        let to = self.to();
        let more = ["--case", "case", "--to", &to, "--endpoint-url", &self.proxy.endpoint];
        let ran = self.run(&[&["acquire"], args, &more].concat());
        assert!(ran.code < 2, "{}{}", ran.stdout, ran.stderr);
        let mut lines = ran.stdout.trim_end().lines().rev();
        let folder = self.desk.path(lines.next().unwrap());
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(lines.next(), Some(format!("{to}/{name}").as_str()), "{}", ran.stdout);
        (ran, folder)
    }

    /// Verifies what a reader gets.
    fn read_back(&self, name: &str) -> PathBuf {
        let back = self.desk.path(&format!("back-{name}"));
        self.bucket.bundle(&format!("ir-17/{name}"), &back);
        let ran = self.desk.run(&["verify", back.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        back
    }
}

#[test]
fn every_kind_of_evidence_goes_to_a_store_and_the_case_keeps_its_record() {
    let Some(store) = Store::new("every-kind", "") else { return };
    let disk = store.desk.write("disk.raw", noise(9_000_000));
    let memory = store.desk.write("memory.raw", noise(1 << 20));
    store.desk.write("root/etc/hostname", "web01\n");
    store.desk.write("root/var/log/auth.log", "Nov  9 10:00:00 web01 sshd[7]: Accepted publickey for root\n");
    let (disk, memory) = (disk.to_str().unwrap(), memory.to_str().unwrap());
    for args in [
        &["disk", disk][..],
        &["logs", "root/var/log"],
        &["import", disk, "--format", "raw"],
        &["memory", "--source", memory],
        &["triage", "--root", "root", "--profile", "fast"],
    ] {
        let (_, folder) = store.acquire(args);
        assert!(!folder.join("data").exists() && !folder.join("uploads.journal").exists(), "{args:?}");
        let state = MirrorState::read(&folder).unwrap().unwrap();
        let lines = fs::read_to_string(folder.join("custody.jsonl")).unwrap().lines().count() as u64;
        assert_eq!(state.entries, lines, "{args:?}");
        let back = store.read_back(folder.file_name().unwrap().to_str().unwrap());
        assert!(
            fs::read(back.join("manifest.json")).unwrap() == fs::read(folder.join("manifest.json")).unwrap()
        );
        for file in ["custody.jsonl", "manifest.json", "store.json"] {
            assert!(!fs::read_to_string(folder.join(file)).unwrap().contains(SECRET), "{args:?}: {file}");
        }
    }
    assert_eq!(store.bucket.uploads(), []);
}

#[test]
fn what_went_to_a_store_is_read_back_from_it_where_that_is_allowed() {
    let Some(store) = Store::new("read-back", "") else { return };
    let disk = store.desk.write("disk.raw", noise(700_000));
    let (ran, folder) = store.acquire(&["disk", disk.to_str().unwrap(), "--verify-after"]);
    assert!(ran.stderr.contains("read back and verified: "), "{}", ran.stderr);
    assert!(!folder.join("data").exists());
    store.proxy.decide(|asked| match asked.what() {
        "list" | "get" => Fate::Answer(403, "AccessDenied"),
        _ => Fate::Pass,
    });
    let to = store.to();
    let args = [
        "acquire",
        "disk",
        disk.to_str().unwrap(),
        "--case",
        "case",
        "--name",
        "second",
        "--to",
        &to,
        "--verify-after",
    ];
    store.run(&[&args[..], &["--endpoint-url", &store.proxy.endpoint]].concat()).fails(4, &["AccessDenied"]);
    // It is sealed all the same.
    assert!(store.desk.path("case/exhibits/E002-second/manifest.json").exists());
}

#[test]
fn a_store_that_is_not_there_or_not_lockable_costs_no_exhibit() {
    let Some(store) = Store::new("no-exhibit", "") else { return };
    let disk = store.desk.write("disk.raw", [7; 100_000]);
    let acquire = |to: &str, more: &[&str]| {
        let args = ["acquire", "disk", disk.to_str().unwrap(), "--case", "case", "--to", to];
        store.run(&[&args, &["--endpoint-url", store.proxy.endpoint.as_str()][..], more].concat())
    };
    acquire("s3://no-such-bucket/x", &[]).fails(4, &["NoSuchBucket", "nothing was begun"]);
    acquire(&store.to(), &["--lock", "compliance", "--lock-days", "3"]).fails(4, &["has no Object Lock"]);
    acquire(&store.to(), &["--lock", "compliance"]).fails(2, &["--lock-days"]);
    acquire(&store.to(), &["--lock", "for-ever", "--lock-days", "3"]).fails(2, &["compliance or governance"]);
    acquire("evidence/x", &[]).fails(2, &["is not s3://bucket/prefix"]);
    acquire("s3://Evidence", &[]).fails(2, &["no name of a bucket"]);
    store
        .proxy
        .decide(|asked| if asked.what() == "part" { Fate::Answer(403, "AccessDenied") } else { Fate::Pass });
    acquire(&store.to(), &[]).fails(4, &["AccessDenied", "s3:PutObject on arn:aws:s3:::no-exhibit/ir-17/"]);
    assert_eq!(fs::read_dir(store.desk.path("case/exhibits")).map_or(0, Iterator::count), 0);
    assert_eq!(store.bucket.keys(""), Vec::<String>::new());
}

#[test]
fn an_exhibit_in_a_store_takes_entries_with_and_without_a_network() {
    let Some(store) = Store::new("later-entries", "x-amz-bucket-object-lock-enabled: true\r\n") else {
        return;
    };
    let disk = store.desk.write("disk.raw", noise(300_000));
    let (ran, folder) = store.acquire(&[
        "disk",
        disk.to_str().unwrap(),
        "--name",
        "disk",
        "--lock",
        "governance",
        "--lock-days",
        "2",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let there = || MirrorState::read(&folder).unwrap().unwrap().entries;
    let sealed = there();
    let run = |args: &[&str]| store.run_naming(&store.proxy.endpoint, args);
    assert_eq!(run(&["custody", "note", "case:E001", "with a network"]).code, 0);
    assert_eq!(there(), sealed + 1);
    store.proxy.decide(|_| Fate::Cut);
    let noted = run(&["custody", "note", "case:E001", "without one"]);
    assert_eq!(noted.code, 0, "{}", noted.stderr);
    assert!(noted.stderr.contains(&format!("not yet in {}/E001-disk", store.to())), "{}", noted.stderr);
    assert_eq!(there(), sealed + 1);
    run(&["push", "--log", "case:E001"]).fails(4, &["E001-disk"]);
    store.proxy.decide(|_| Fate::Pass);
    // A server that only the evidence names is not asked, whatever the command.
    let asked = store.proxy.asked().len();
    let noted = store.run(&["custody", "note", "case:E001", "to nobody"]);
    assert!(noted.code == 0 && noted.stderr.contains("which you did not name"), "{}", noted.stderr);
    store.run(&["push", "--log", "case:E001"]).fails(2, &["which you did not name", "--endpoint-url"]);
    assert_eq!((store.proxy.asked().len(), there()), (asked, sealed + 1));
    let pushed = run(&["push", "--log", "case:E001"]);
    assert_eq!((pushed.code, there()), (0, sealed + 3), "{}", pushed.stderr);
    // Later objects are retained as the first ones.
    let head = store.proxy.asked().into_iter().find(|asked| asked.what() == "put").unwrap().head;
    assert!(head.to_ascii_lowercase().contains("x-amz-object-lock-mode: governance"), "{head}");
    let back = store.read_back("E001-disk");
    assert!(fs::read(back.join("custody.jsonl")).unwrap() == fs::read(folder.join("custody.jsonl")).unwrap());
}

#[test]
fn a_bundle_is_pushed_and_the_case_says_so() {
    let Some(store) = Store::new("pushed-here", "") else { return };
    let disk = store.desk.write("disk.raw", noise(9_000_000));
    let ran = store.desk.ok(&["acquire", "disk", disk.to_str().unwrap(), "--case", "case", "--name", "disk"]);
    let folder = store.desk.path(ran.stdout.trim_end().lines().last().unwrap());
    let to = store.to();
    let push = || {
        store.run(&["push", "case:E001", &to, "--endpoint-url", &store.proxy.endpoint, "--purpose", "vault"])
    };
    let pushed = push();
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    assert_eq!(pushed.stdout.trim_end(), format!("{to}/E001-disk"));
    assert!(pushed.stderr.contains("E001-C1"), "{}", pushed.stderr);
    store.read_back("E001-disk");
    let again = push();
    assert!(again.code == 0 && again.stderr.contains("everything is there already"), "{}", again.stderr);
    let log = fs::read_to_string(store.desk.path("case/custody.jsonl")).unwrap();
    let copies: Vec<_> = log.lines().filter(|line| line.contains("\"type\":\"copy.made\"")).collect();
    assert_eq!(copies.len(), 1);
    assert!(copies[0].contains(&format!("{to}/E001-disk")) && copies[0].contains("vault"), "{}", copies[0]);
    // A bundle that is not what was sealed stays here.
    let segment = folder.join("data/disk/000000.zst");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let elsewhere = format!("s3://{}/elsewhere", store.bucket.name);
    let refused = store.run(&["push", "case:E001", &elsewhere, "--endpoint-url", &store.proxy.endpoint]);
    refused.fails(3, &["does not verify", "nothing of it was sent"]);
    assert_eq!(store.bucket.keys("elsewhere"), Vec::<String>::new());
    store.run(&["push", "case", &to]).fails(2, &["name one of its exhibits"]);
    store.run(&["push", "--log", "case:E001"]).fails(2, &["all of this bundle lies here"]);
}

#[test]
fn an_exhibit_goes_on_where_it_was_begun_and_nowhere_else() {
    let Some(store) = Store::new("goes-on", "") else { return };
    let disk = store.desk.write("disk.raw", noise(20_000_000));
    let to = store.to();
    let acquire = |to: &str, more: &[&str]| {
        let args =
            ["acquire", "disk", disk.to_str().unwrap(), "--case", "case", "--name", "disk", "--to", to];
        store.run(&[&args, &["--endpoint-url", store.proxy.endpoint.as_str()][..], more].concat())
    };
    // The right is lost in the middle.
    let denied = |asked: &crate::s3::Asked| asked.what() == "part" && asked.path.contains("partNumber=2");
    store
        .proxy
        .decide(move |asked| if denied(asked) { Fate::Answer(403, "AccessDenied") } else { Fate::Pass });
    acquire(&to, &[]).fails(4, &["AccessDenied", "s3:PutObject", "stays OPEN"]);
    store.proxy.decide(|_| Fate::Pass);
    let elsewhere = format!("s3://{}/elsewhere", store.bucket.name);
    acquire(&elsewhere, &["--resume"]).fails(2, &["cannot be changed now"]);
    let ended = acquire(&to, &["--resume"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("going on with exhibit E001"), "{}", ended.stderr);
    store.read_back("E001-disk");
    assert_eq!(store.bucket.uploads(), []);
    assert!(acquire(&to, &["--json"]).stdout.contains(&format!("\"place\":\"{to}/E002-disk\"")));
}
