//! Grants: a host without any credential writes one exhibit to an evidence store, and nothing else.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::exhibit::{Desk, Ran, noise, ran};
use crate::moto::{Moto, moto};
use crate::s3_front::{Front, Response};

const REGION: &str = "eu-central-1";

/// A request that moto takes without a signature.
fn asked(moto: &Moto, method: &str, target: &str, body: &str) -> String {
    let host = moto.endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn bucket(moto: &Moto, name: &str) {
    let versioned = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let place = format!(
        "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    );
    assert!(asked(moto, "PUT", &format!("/{name}"), &place).contains(" 200 "));
    assert!(asked(moto, "PUT", &format!("/{name}?versioning"), versioned).contains(" 200 "));
}

/// The issuer's command, with an account.
fn issuer(desk: &Desk, moto: &Moto, args: &[&str]) -> Ran {
    ran(issuer_command(desk, &moto.endpoint, args).output().unwrap())
}

fn issuer_command(desk: &Desk, endpoint: &str, args: &[&str]) -> Command {
    let mut command = desk.command();
    command.env("AWS_ACCESS_KEY_ID", "AKIAISSUER").env("AWS_SECRET_ACCESS_KEY", "issuer-secret");
    command.env("AWS_SESSION_TOKEN", "issuer-session-token").env("AWS_CONFIG_FILE", "/dev/null");
    command.args(args).args(["--endpoint-url", endpoint, "--region", REGION]);
    command
}

/// The host's command: no account, no configuration, a home of its own.
fn host_command(desk: &Desk, args: &[&str]) -> Command {
    let home = desk.path("home");
    fs::create_dir_all(&home).unwrap();
    let mut command = desk.command();
    command.env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin").args(args);
    command
}

fn host(desk: &Desk, args: &[&str]) -> Ran {
    ran(host_command(desk, args).output().unwrap())
}

fn ok(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

/// A case with a grant for a disk in it.
fn granted(desk: &Desk, moto: &Moto, to: &str, more: &[&str]) {
    desk.ok(&["init", "case", "--name", "ir-17", "--examiner", "J. Doe"]);
    let args =
        ["grant", "--case", "case", "--to", to, "--hours", "1", "--name", "web01", "-o", "web01.grant"];
    ok(&issuer(desk, moto, &[args.as_slice(), more].concat()));
}

/// Every signature in a grant, and what signs.
fn secrets(desk: &Desk) -> Vec<String> {
    let grant: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("web01.grant")).unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut secrets: Vec<String> = grant["once"].as_object().unwrap().values().map(text).collect();
    for upload in grant["uploads"].as_object().unwrap().values() {
        secrets.push(text(&upload["complete"]));
        secrets.extend(upload["parts"].as_array().unwrap().iter().map(text));
    }
    assert!(secrets.len() > 100 && secrets.iter().all(|secret| secret.len() == 64));
    secrets.extend(["issuer-secret", "issuer-session-token", "X-Amz-Signature"].map(str::to_owned));
    secrets
}

fn assert_tells_none(secrets: &[String], text: &[u8], what: &str) {
    let text = String::from_utf8_lossy(text);
    for secret in secrets {
        assert!(!text.contains(secret), "{what} tells {secret}");
    }
}

/// No file below a folder tells a secret.
fn assert_kept(secrets: &[String], folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            assert_kept(secrets, &path);
        } else {
            assert_tells_none(secrets, &fs::read(&path).unwrap(), &path.display().to_string());
        }
    }
}

#[test]
fn a_host_without_a_credential_writes_an_exhibit_that_verifies_and_no_signature_is_told() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    bucket(moto, "granted-whole");
    granted(&desk, moto, "s3://granted-whole/ir", &["--size", "1GiB"]);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(desk.path("web01.grant")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Until it is used, the case says only that the number is taken.
    ok(&desk.run(&["verify", "case"]));

    let disk = [noise(20 << 20), vec![0; 5 << 20], vec![7; 1000]].concat();
    desk.write("disk.raw", &disk);
    let made = host(&desk, &["acquire", "disk", "disk.raw", "--grant", "web01.grant", "--json"]);
    ok(&made);
    let shown: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(shown["place"], "s3://granted-whole/ir/E001-web01");
    assert_eq!(shown["size"], disk.len());
    let left = desk.path("E001-web01");
    assert!(left.join("custody.jsonl").is_file() && !left.join("data").exists());

    let closed = issuer(&desk, moto, &["grant", "--case", "case", "--close", "web01.grant"]);
    ok(&closed);
    let verified = issuer(&desk, moto, &["verify", "case", "--remote", "--json"]);
    ok(&verified);
    let verified: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(verified["verdict"], "CONSISTENT", "{verified}");
    let exhibit = desk.path("case/exhibits/E001-web01");
    assert_eq!(
        fs::read(exhibit.join("custody.jsonl")).unwrap(),
        fs::read(left.join("custody.jsonl")).unwrap(),
        "the log in the store is the log of the host"
    );
    // What was begun and not used is given up: nothing is left that nobody knows.
    let uploads = asked(moto, "GET", "/granted-whole?uploads", "");
    assert!(uploads.contains("ListMultipartUploadsResult") && !uploads.contains("<UploadId>"), "{uploads}");

    let secrets = secrets(&desk);
    for ran in [&made, &closed] {
        assert_tells_none(&secrets, ran.stdout.as_bytes(), "standard output");
        assert_tells_none(&secrets, ran.stderr.as_bytes(), "standard error");
    }
    assert_kept(&secrets, &desk.path("case"));
    assert_kept(&secrets, &left);

    // A grant is good for one acquisition.
    fs::create_dir(desk.path("elsewhere")).unwrap();
    let again = ["acquire", "disk", "disk.raw", "--grant", "web01.grant", "--log-in", "elsewhere"];
    let again = host(&desk, &again);
    again.fails(4, &["is there already"]);
    assert_tells_none(&secrets, again.stderr.as_bytes(), "standard error");
    host(&desk, &["acquire", "disk", "disk.raw", "--grant", "web01.grant"]).fails(4, &["one acquisition"]);
}

#[test]
fn a_grant_that_does_not_fit_is_told_before_anything_is_sent() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    bucket(moto, "granted-not");
    granted(&desk, moto, "s3://granted-not/ir", &["--size", "1MiB"]);
    desk.write("disk.raw", noise(3 << 20));
    let args = ["acquire", "disk", "disk.raw", "--grant", "web01.grant"];
    host(&desk, &args).fails(2, &["too small", "1048576", "3145728"]);
    desk.write("logs/syslog", "x");
    host(&desk, &["acquire", "logs", "logs", "--grant", "web01.grant"]).fails(2, &["for `acquire disk`"]);

    let grant = fs::read_to_string(desk.path("web01.grant")).unwrap();
    let mut ended: serde_json::Value = serde_json::from_str(&grant).unwrap();
    ended["expires_ns"] = "1700000000000000000".into();
    desk.write("ended.grant", ended.to_string());
    // This host's clock is not believed: what ends the command is the size.
    let ended = host(&desk, &["acquire", "disk", "disk.raw", "--grant", "ended.grant"]);
    ended.fails(2, &["by this host's clock the grant ended", "--renew", "too small"]);
    // Evidence must not go to a server that somebody wrote into the file.
    desk.write("other.grant", grant.replacen(&moto.endpoint, "http://127.0.0.1:1", 1));
    host(&desk, &["acquire", "disk", "disk.raw", "--grant", "other.grant"]).fails(4, &["another server"]);
    desk.write("cut.grant", &grant.as_bytes()[..grant.len() / 2]);
    host(&desk, &["acquire", "disk", "disk.raw", "--grant", "cut.grant"])
        .fails(4, &["no grant, or was cut short"]);
    assert!(!desk.path("E001-web01").exists());

    // Nothing came: the number stays taken, and the case verifies.
    issuer(&desk, moto, &["grant", "--case", "case", "--close", "web01.grant"])
        .fails(4, &["not sealed", "--give-up"]);
    let closed = issuer(&desk, moto, &["grant", "--case", "case", "--close", "web01.grant", "--give-up"]);
    closed.fails(1, &["nothing was acquired"]);
    ok(&desk.run(&["verify", "case"]));
    assert!(!asked(moto, "GET", "/granted-not?uploads", "").contains("<UploadId>"));
}

#[test]
fn an_acquisition_that_was_interrupted_goes_on_with_a_renewed_grant_to_the_same_hash() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    bucket(moto, "granted-twice");
    granted(&desk, moto, "s3://granted-twice/ir", &["--size", "1GiB"]);
    desk.write("disk.raw", noise(48 << 20));
    let slow = ["acquire", "disk", "disk.raw", "--grant", "web01.grant", "--max-read", "2MiB/s"];
    let mut child = host_command(&desk, &slow).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // A part is there.
    let journal = desk.path("E001-web01/uploads.journal");
    let until = Instant::now() + Duration::from_secs(300);
    while !fs::read_to_string(&journal).unwrap_or_default().contains("\"what\":\"part\"") {
        if child.try_wait().unwrap().is_some() || Instant::now() > until {
            let _ = child.kill();
            panic!("no part was sent: {:?}", ran(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let paused = ran(child.wait_with_output().unwrap());
    paused.fails(4, &["--resume"]);

    ok(&issuer(&desk, moto, &["grant", "--case", "case", "--renew", "web01.grant", "-o", "second.grant"]));
    let resumed = ["acquire", "disk", "disk.raw", "--grant", "second.grant", "--resume", "--json"];
    let resumed = host(&desk, &resumed);
    ok(&resumed);
    desk.ok(&["init", "other", "--name", "n", "--examiner", "e"]);
    let whole = desk.ok(&["acquire", "disk", "disk.raw", "--case", "other", "--json"]);
    let hash = |ran: &Ran| serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()["sha256"].clone();
    assert_eq!(hash(&resumed), hash(&whole));
    ok(&issuer(&desk, moto, &["grant", "--case", "case", "--close", "second.grant"]));
    ok(&issuer(&desk, moto, &["verify", "case", "--remote"]));
}

fn is_create(request: &crate::s3_front::Request) -> bool {
    request.method == "POST" && request.target.contains("?uploads")
}

/// What the log of the case tells of grants: of each entry, what was done.
fn acts(desk: &Desk) -> Vec<String> {
    let log = fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
    let entries = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    entries.filter_map(|entry| Some(find(&entry, "act")?.as_str()?.to_owned())).collect()
}

/// A field, wherever in an entry it stands.
fn find<'e>(value: &'e serde_json::Value, name: &str) -> Option<&'e serde_json::Value> {
    let fields = value.as_object()?;
    fields.get(name).or_else(|| fields.values().find_map(|value| find(value, name)))
}

#[test]
fn a_grant_that_is_killed_while_it_is_made_is_in_the_log_and_its_uploads_can_be_given_up() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    bucket(moto, "granted-killed");
    desk.ok(&["init", "case", "--name", "ir-17", "--examiner", "J. Doe"]);
    let (told, begun) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    // The store begins uploads, and is never done with answering.
    let front = Front::before(&moto.endpoint, move |request, pass| {
        let answer = pass(request);
        if is_create(request) {
            told.lock().unwrap().send(()).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        answer
    });
    let to = "s3://granted-killed/ir";
    let args =
        ["grant", "--case", "case", "--to", to, "--name", "web01", "--size", "1GiB", "-o", "web01.grant"];
    let mut child = issuer_command(&desk, &front, &args).spawn().unwrap();
    // One for the data, and one for each of its tables.
    for _ in 0..3 {
        begun.recv_timeout(Duration::from_secs(300)).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!desk.path("web01.grant").exists());
    assert!(asked(moto, "GET", "/granted-killed?uploads", "").contains("<UploadId>"));
    assert_eq!(acts(&desk), ["begun"]);
    let log = fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
    assert!(log.contains("s3://granted-killed/ir/E001-web01"), "{log}");

    let close = ["grant", "--case", "case", "--close", "E001"];
    issuer(&desk, moto, &close).fails(2, &["without its file", "--give-up"]);
    let closed = issuer(&desk, moto, &[&close[..], &["--give-up", "--json"]].concat());
    ok(&closed);
    let shown: serde_json::Value = serde_json::from_str(&closed.stdout).unwrap();
    assert!(shown["uploads_given_up"].as_u64().unwrap() > 0, "{shown}");
    assert!(!asked(moto, "GET", "/granted-killed?uploads", "").contains("<UploadId>"));
    assert_eq!(acts(&desk), ["begun", "closed"]);
    ok(&desk.run(&["verify", "case"]));
    issuer(&desk, moto, &["grant", "--case", "case", "--close", "E002"]).fails(2, &["no grant for E002"]);
}

#[test]
fn a_grant_that_cannot_be_written_leaves_nothing_in_the_store_and_the_log_says_so() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    bucket(moto, "granted-nowhere");
    desk.ok(&["init", "case", "--name", "ir-17", "--examiner", "J. Doe"]);
    let args = ["grant", "--case", "case", "--to", "s3://granted-nowhere/ir", "-o", "missing/web01.grant"];
    issuer(&desk, moto, &args).fails(4, &["the grant cannot be written"]);
    assert_eq!(acts(&desk), ["begun", "not issued"]);
    assert!(!asked(moto, "GET", "/granted-nowhere?uploads", "").contains("<UploadId>"));
    ok(&desk.run(&["verify", "case"]));
}

#[test]
fn closing_a_grant_that_was_interrupted_is_done_again_to_its_end() {
    let Some(moto) = moto() else { return };
    let desk = Desk::new();
    bucket(moto, "granted-again");
    granted(&desk, moto, "s3://granted-again/ir", &["--size", "1GiB"]);
    desk.write("disk.raw", noise(1 << 20));
    ok(&host(&desk, &["acquire", "disk", "disk.raw", "--grant", "web01.grant"]));
    // Taken in, and none of the uploads could be given up.
    let front = Front::before(&moto.endpoint, |request, pass| match request.method.as_str() {
        "DELETE" => {
            let body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_vec();
            Response { status: 403, headers: Vec::new(), body }
        }
        _ => pass(request),
    });
    // An earlier run was cut short while it fetched.
    desk.write("case/exhibits/.E001.coming/half", "x");
    let close = ["grant", "--case", "case", "--close", "web01.grant", "--json"];
    let first = ran(issuer_command(&desk, &front, &close).output().unwrap());
    first.fails(1, &["is left"]);
    assert!(asked(moto, "GET", "/granted-again?uploads", "").contains("<UploadId>"));
    let exhibit = desk.path("case/exhibits/E001-web01");
    let manifest = fs::read(exhibit.join("manifest.json")).unwrap();
    assert!(!desk.path("case/exhibits/.E001.coming").exists());

    let second = issuer(&desk, moto, &close);
    ok(&second);
    assert!(second.stderr.contains("already"), "{}", second.stderr);
    let shown: serde_json::Value = serde_json::from_str(&second.stdout).unwrap();
    assert!(shown["uploads_given_up"].as_u64().unwrap() > 0, "{shown}");
    assert!(!asked(moto, "GET", "/granted-again?uploads", "").contains("<UploadId>"));
    assert_eq!(fs::read(exhibit.join("manifest.json")).unwrap(), manifest);
    ok(&issuer(&desk, moto, &["verify", "case", "--remote"]));
    // Added and sealed are told once.
    let log = fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
    for kind in ["exhibit.added", "bundle.sealed"] {
        assert_eq!(log.matches(&format!("\"{kind}\"")).count(), 1, "{kind}");
    }
    // What is not from the store is neither overwritten nor taken for it.
    fs::write(exhibit.join("manifest.json"), "{}").unwrap();
    issuer(&desk, moto, &close).fails(4, &["it is not what the store holds", "--give-up"]);
    assert_eq!(fs::read(exhibit.join("manifest.json")).unwrap(), b"{}");
}
