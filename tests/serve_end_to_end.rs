//! A signed GuardDuty finding comes over HTTP, and unattended becomes: a protected instance, its disks as sealed bundles, a timeline,
//! a report, a word to people; and what was changed in the account is put back when its time is over. Against moto.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exhibit::Desk;
use crate::http_client::Client;
use crate::moto::{Moto, moto};
use crate::serving::{SECRET, Serving, case_of, entries, exhibits, jobs, until_ended, verifies, write_settings};

const REGION: &str = "eu-west-2";
const ACCOUNT: &str = "123456789012";
const AWS_SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).unwrap().0
}

/// A disk of 1 GiB: a file system with a log where it can be made, else some text.
fn disk(desk: &Desk) -> std::path::PathBuf {
    let log = "Nov 20 23:10:01 web01 sshd[812]: Accepted publickey for root from 203.0.113.9 port 40022 ssh2\n";
    desk.write("root/var/log/auth.log", log.repeat(20));
    desk.write("root/etc/hostname", "web01\n");
    let image = desk.path("root.raw");
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"]).arg(desk.path("root")).arg(&image).arg("1G");
    if !make.status().is_ok_and(|status| status.success()) {
        fs::write(&image, log).unwrap();
        fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(1 << 30).unwrap();
    }
    image
}

/// A running instance whose root disk holds what the image does.
fn instance(moto: &Moto, image: &std::path::Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/put_snapshot.py");
    let put = Command::new("python3").args([script, &moto.endpoint, REGION]).arg(image).output().unwrap();
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let snapshot = String::from_utf8(put.stdout).unwrap().trim().to_owned();
    let answer = moto.ask(
        REGION,
        &format!(
            "Action=RunInstances&Version=2016-11-15&ImageId=ami-12c6146b&MinCount=1&MaxCount=1&InstanceType=t3.micro\
             &BlockDeviceMapping.1.DeviceName=%2Fdev%2Fxvda&BlockDeviceMapping.1.Ebs.SnapshotId={snapshot}\
             &BlockDeviceMapping.1.Ebs.VolumeSize=1&BlockDeviceMapping.1.Ebs.DeleteOnTermination=true"
        ),
    );
    between(&answer, "<instanceId>", "</instanceId>").to_owned()
}

fn finding(instance: &str) -> String {
    serde_json::json!({
        "version": "0", "id": "8e2f0a52-0000-4000-8000-000000000001", "detail-type": "GuardDuty Finding",
        "source": "aws.guardduty", "account": ACCOUNT, "time": "2026-11-20T23:15:00Z", "region": REGION, "resources": [],
        "detail": {
            "schemaVersion": "2.0", "accountId": ACCOUNT, "region": REGION, "partition": "aws",
            "id": "16afba5c5c43e07c9e3e5e2e544e95df", "type": "Backdoor:EC2/C&CActivity.B!DNS", "severity": 8,
            "createdAt": "2026-11-20T23:14:00.000Z", "updatedAt": "2026-11-20T23:14:30.000Z",
            "title": "An instance asks for the name of a command and control server",
            "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": instance}},
            "service": {
                "serviceName": "guardduty", "archived": false, "count": 1,
                "eventFirstSeen": "2026-11-20T23:10:00.000Z", "eventLastSeen": "2026-11-20T23:13:00.000Z",
                "action": {"actionType": "DNS_REQUEST", "dnsRequestAction": {"domain": "c2.example"}},
            },
        },
    })
    .to_string()
}

/// Time and signature, as Standard Webhooks say.
fn signed(id: &str, body: &str) -> (String, String) {
    const SIGN: &str = "import base64,hashlib,hmac,sys,time\n\
        now=str(int(time.time()));key=base64.b64decode(sys.argv[1]);text=f'{sys.argv[2]}.{now}.'.encode()+sys.stdin.buffer.read()\n\
        print(now,'v1,'+base64.b64encode(hmac.new(key,text,hashlib.sha256).digest()).decode())";
    let mut child = Command::new("python3")
        .args(["-c", SIGN, KEY, id])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let (time, signature) = said.trim().split_once(' ').unwrap();
    (time.to_owned(), signature.to_owned())
}

const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

/// Takes one message, and gives it with its headers.
fn channel() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..read]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            let length = whole.to_ascii_lowercase().split_once("content-length: ").map(|(_, rest)| {
                rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
            });
            let body = whole.split_once("\r\n\r\n").map(|(_, body)| body.len());
            if read == 0 || (length.is_some() && body >= length) {
                stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
                return whole;
            }
        }
    });
    (url, taken)
}

#[test]
fn a_signed_guardduty_finding_becomes_sealed_disks_a_timeline_and_a_report() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    let id = instance(moto, &disk(&desk));
    let (url, taken) = channel();
    let timeline = if cfg!(feature = "timeline") {
        r#"  { id = "timeline", use = "timeline.build", needs = ["disk"], timeout = "10m" },
"#
    } else {
        ""
    };
    let rules = format!(
        r#"version = 1
[[rule]]
id = "ec2-backdoor"
mode = "auto"
match.all = [
  {{ field = "source", eq = "guardduty" }}, {{ field = "severity", gte = 70 }},
  {{ field = "type", glob = ["Backdoor:EC2/*"] }}, {{ field = "is_sample", eq = false }}, {{ field = "status", eq = "firing" }},
]
assets = {{ role = "primary", kinds = ["ec2_instance"], max = 5 }}
dedup = {{ key = ["asset.id"], window = "6h", repeat = "attach" }}
step = [
  {{ id = "protect", use = "aws.ec2.protect", lease = "1s" }},
  {{ id = "disk", use = "capture.ebs_snapshot", needs = ["protect"], retry = {{ max = 3, backoff = "1s..5s" }} }},
{timeline}  {{ id = "report", use = "report.issue", needs = ["disk"] }},
  {{ id = "tell", use = "notify.webhook", to = "oncall", always = true }},
]
"#
    );
    let more = format!(
        "[aws]\nregion = '{REGION}'\nendpoint_url = '{}'\naccounts = ['{ACCOUNT}']\n[notify.oncall]\nurl = '{url}'\nsecret_file = 'secret'\n\
         [[source]]\nname = 'guardduty'\nkind = 'guardduty'\n[[source.authenticate]]\nscheme = 'standard_webhooks'\nsecret_files = ['whsec']\n",
        moto.endpoint
    );
    desk.write("whsec", format!("whsec_{KEY}"));
    write_settings(&desk, 0, &rules, &more);
    let mut command = desk.command();
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", AWS_SECRET);
    command.env_remove("AWS_PROFILE").env("AWS_EC2_METADATA_DISABLED", "true");
    let serving = Serving::start(command);

    let body = finding(&id);
    let (time, signature) = signed("msg_1", &body);
    let post = |signature: &str| {
        let mut client = Client::connect(serving.address).unwrap();
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature),
        ];
        client.request("POST", "/alerts/guardduty", &headers, body.as_bytes()).unwrap().status
    };
    let flipped = signature.replacen("v1,", "v1,A", 1);
    assert!(matches!(post(&flipped), 401 | 403 | 404), "a signature that does not fit was taken");
    assert_eq!(post(&signature), 202);
    let ended = until_ended(&desk, 1, &serving);
    assert_eq!((ended.len(), ended[0]["state"].as_str()), (1, Some("done")), "{ended:#?}\n{}", serving.said());
    let case = case_of(&desk, &ended[0]);
    let (sealed, open) = exhibits(&case);
    assert_eq!((sealed, open), (vec!["alert".into(), "disk-facts".into(), "disk-xvda".into()], 0));
    verifies(&desk, &case);

    // The disk is the disk.
    let listed: Value = serde_json::from_str(&desk.ok(&["list", case.to_str().unwrap(), "--json"]).stdout).unwrap();
    let disk = listed.as_array().unwrap().iter().find(|one| one["size"] == 1 << 30);
    let disk = disk.unwrap_or_else(|| panic!("{listed:#}"))["id"].as_str().unwrap().to_owned();
    let bundle = format!("{}:{disk}", case.display());
    desk.ok(&["export", &bundle, "--format", "raw", "-o", "again.raw"]);
    let same = Command::new("cmp").args(["again.raw", "root.raw"]).current_dir(desk.path("")).status().unwrap();
    assert!(same.success(), "what was captured is not what the volume held");

    let kinds: Vec<String> =
        entries(&case).iter().map(|entry| entry["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds[..3], ["log.genesis", "alert.received", "decision.made"]);
    assert!(kinds.contains(&"report.issued".to_owned()), "{kinds:?}");
    assert_eq!(kinds.contains(&"timeline.built".to_owned()), cfg!(feature = "timeline"), "{kinds:?}");
    assert!(case.join("reports/report/report.html").is_file());
    let form = "Action=DescribeSnapshots&Version=2016-11-15&Owner.1=self&Filter.1.Name=tag%3Acreated-by&Filter.1.Value.1=exhibit";
    assert_eq!(moto.ask(REGION, form).matches("<snapshotId>").count(), 0, "a snapshot of ours is left");

    // People were told, signed, with the same id that a second try would have.
    let told = taken.join().unwrap();
    assert!(told.contains("webhook-id: msg_") && told.contains("webhook-signature: v1,"), "{told}");
    assert!(told.contains(&id) && !told.contains(SECRET) && !told.contains(AWS_SECRET), "{told}");

    // The instance was protected, and is no longer: the lease is over by itself.
    let begun = Instant::now();
    let attribute = format!(
        "Action=DescribeInstanceAttribute&Version=2016-11-15&InstanceId={id}&Attribute=disableApiTermination"
    );
    let shown = desk.ok(&["jobs", "show", "J000001", "--config", "serve.toml", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let protect = shown["steps"].as_array().unwrap().iter().find(|step| step["id"] == "protect").unwrap().clone();
    assert_eq!(protect["result"]["after"]["termination"], true, "{protect:#}");
    while !moto.ask(REGION, &attribute).replace(char::is_whitespace, "").contains("<value>false</value>") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", serving.said());
        std::thread::sleep(Duration::from_millis(200));
    }
    let undone = |entry: &Value| entry["type"] == "isolation.undone";
    while !entries(&case).iter().any(undone) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", serving.said());
        std::thread::sleep(Duration::from_millis(200));
    }
    // The same finding again is the same job, and another signature of the same bytes changes nothing.
    let (time, signature) = signed("msg_2", &body);
    let mut client = Client::connect(serving.address).unwrap();
    let headers =
        [("webhook-id", "msg_2"), ("webhook-timestamp", time.as_str()), ("webhook-signature", signature.as_str())];
    assert_eq!(client.request("POST", "/alerts/guardduty", &headers, body.as_bytes()).unwrap().status, 202);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(jobs(&desk).len(), 1);
    assert_eq!(exhibits(&case).0.len(), 3);

    let said = serving.said();
    assert!(!said.contains(SECRET) && !said.contains(AWS_SECRET) && !said.contains(KEY), "{said}");
    for file in ["state/state.sqlite", "state/state.sqlite-wal"] {
        let bytes = fs::read(desk.path(file)).unwrap_or_default();
        for secret in [SECRET, AWS_SECRET, KEY] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{file}");
        }
    }
    assert_eq!(serving.stop(), Some(0));
}
