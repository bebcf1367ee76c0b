//! No secret of a cloud account is ever written or printed: by any command, to a good server and to one that repeats what it got.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::exhibit::{Desk, ran};
use crate::moto::moto;
use crate::s3_front::{Front, Request, Response, send};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/SecretOfThisTest+9";
const TOKEN: &str = "FwoGZXIvYXdzEXAMPLE//SessionTokenOfThisTest+abc==";
/// A snapshot whose blocks nobody has.
const SNAPSHOT: &str = "snap-0123456789abcdef0";

/// Where a bundle is put.
const STORE: &str = "s3://secrets/store";

/// The one file that is a secret, and says so: who has it can put what it grants.
const GRANT: &str = "web01.grant";

/// How a command gets its credentials.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Environment,
    Profile,
}

/// What must show nowhere, in every form in which it may be written.
fn forbidden() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for secret in [SECRET, TOKEN] {
        let percent: String = secret
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        all.extend([secret.to_owned(), percent, hex]);
        // Also where a line was cut, or a character was escaped.
        all.extend(secret.split(['/', '+', '=']).filter(|part| part.len() > 12).map(str::to_owned));
    }
    all.into_iter().map(String::into_bytes).collect()
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn assert_clean(what: &str, text: &[u8]) {
    for secret in forbidden() {
        assert!(!holds(text, &secret), "{what} holds {:?}", String::from_utf8_lossy(&secret));
    }
}

/// Every file below a folder; what is compressed is looked into.
fn assert_folder_clean(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert_clean("a name", path.as_os_str().as_encoded_bytes());
        if path.is_dir() {
            assert_folder_clean(&path);
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        assert_clean(&path.display().to_string(), &bytes);
        if path.extension().is_some_and(|kind| kind == "zst") {
            let inside = Command::new("zstd").arg("-dcq").arg(&path).output().unwrap().stdout;
            assert!(!inside.is_empty(), "{path:?} cannot be looked into");
            assert_clean(&format!("inside {}", path.display()), &inside);
        }
    }
}

/// The command lines of a process and of all below it, as anybody on the host can read them.
fn command_lines(of: u32, into: &mut BTreeSet<Vec<u8>>) {
    let mut family = BTreeSet::from([of]);
    let mut processes: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        processes.extend(parent.map(|parent| (pid, parent)));
    }
    while let Some((pid, _)) =
        processes.iter().find(|(pid, parent)| family.contains(parent) && !family.contains(pid))
    {
        family.insert(*pid);
    }
    for pid in family {
        into.extend(fs::read(format!("/proc/{pid}/cmdline")).ok());
    }
}

/// A server that says no and repeats all that it got, as S3 does of a signature, and worse.
fn parrot(seen: Arc<Mutex<Vec<u8>>>) -> String {
    let number = std::sync::atomic::AtomicUsize::new(0);
    Front::alone(move |request| {
        let got: String = request.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        seen.lock().unwrap().extend(got.as_bytes());
        let (canonical, token) = (format!("{}\n{}\n{got}", request.method, request.target), TOKEN);
        let codes = ["SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "SignatureDoesNotMatch"];
        let code = codes[number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % codes.len()];
        let message = match code {
            "SignatureDoesNotMatch" => format!(
                "The request signature we calculated does not match. The Canonical String was\n{canonical}"
            ),
            _ => "The provided token is malformed or otherwise not valid.".to_owned(),
        };
        let is_json = request.headers.iter().any(|(_, value)| value.starts_with("application/x-amz-json"));
        let is_ebs = request.target.starts_with("/snapshots/");
        let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
        let (kind, body) = if is_json || is_ebs {
            let body = serde_json::json!({"__type": format!("{code}Exception"), "Message": message, "message": message, "Token": token});
            ("application/x-amz-json-1.1", body.to_string())
        } else {
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{}</Message><StringToSign>{}</StringToSign><Token-0>{token}</Token-0></Error>",
                text(&message),
                text(&canonical)
            );
            ("application/xml", body)
        };
        let mut headers = vec![
            ("content-type".to_owned(), kind.to_owned()),
            ("x-amz-request-id".to_owned(), "4442587FB7D0A2F9".to_owned()),
        ];
        headers
            .extend((is_json || is_ebs).then(|| ("x-amzn-errortype".to_owned(), format!("{code}Exception"))));
        Response { status: 403, headers, body: body.into_bytes() }
    })
}

/// moto behind a server that keeps what was sent to be stored, and what it was signed with.
fn good(seen: Arc<Mutex<Vec<u8>>>, bodies: Arc<Mutex<Vec<Vec<u8>>>>) -> Option<String> {
    let origin = moto()?.endpoint.clone();
    for (target, body) in
        [("/secrets", ""), ("/secrets/logs/a.log", "one line\n"), ("/secrets/logs/b.log", "another\n")]
    {
        let request = Request {
            method: "PUT".to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        send(&origin, &request);
    }
    Some(Front::before(&origin, move |request, pass| {
        for (name, value) in &request.headers {
            seen.lock().unwrap().extend(format!("{name}:{value}\n").as_bytes());
        }
        bodies.lock().unwrap().push(request.body.clone());
        pass(request)
    }))
}

/// Runs a command; gives its exit code. Whatever it says, and whatever its command lines tell, is clean.
fn run(desk: &Desk, credentials: &Path, from: From, endpoint: &str, args: &[&str]) -> i32 {
    let mut command = desk.command();
    for variable in
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"]
    {
        command.env_remove(variable);
    }
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/nonexistent");
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
    command.args(args).args(["--endpoint-url", endpoint]);
    match from {
        From::Environment => {
            command
                .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
                .env("AWS_SECRET_ACCESS_KEY", SECRET)
                .env("AWS_SESSION_TOKEN", TOKEN);
            command.env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
        }
        From::Profile => {
            command.env("AWS_SHARED_CREDENTIALS_FILE", credentials).args(["--aws-profile", "incident"]);
        }
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BTreeSet::new();
    let pid = child.id();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            from.read_to_end(&mut said).unwrap();
            said
        })
    };
    let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
    let status = loop {
        command_lines(pid, &mut lines);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    let output =
        std::process::Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    assert!(lines.iter().any(|line| !line.is_empty()), "no command line was seen");
    for line in lines {
        assert_clean("a command line", &line);
    }
    for (what, said) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        assert_clean(&format!("{what} of {args:?}"), said);
        assert!(!holds(said, b"Signature="), "{what} of {args:?} shows a signature");
    }
    ran(output).code
}

/// The commands, each with what it may exit with at a good server.
fn commands() -> Vec<(Vec<&'static str>, &'static [i32])> {
    vec![
        (vec!["acquire", "cloud-logs", "s3://secrets/logs/", "--case", "case"], &[0]),
        (vec!["acquire", "cloud-logs", "s3://secrets/logs/", "--dry-run"], &[0]),
        (vec!["acquire", "cloud-logs", "--lookup", "--case", "case"], &[4]),
        (vec!["acquire", "ebs", SNAPSHOT, "--case", "case"], &[4]),
        (vec!["acquire", "ebs", SNAPSHOT, "--dry-run", "--case", "case"], &[4]),
        (vec!["acquire", "disk", "disk.raw", "--case", "case", "--to", STORE], &[0]),
        (vec!["push", "sealed:E001", STORE], &[0]),
        (
            vec![
                "grant", "--case", "case", "--to", STORE, "--size", "1MiB", "--name", "granted", "-o", GRANT,
            ],
            &[0],
        ),
        (vec!["grant", "--close", GRANT, "--give-up", "--case", "case"], &[0, 1]),
        (vec!["verify", "s3://secrets/no-such-bundle"], &[2, 4]),
        (vec!["pull", "s3://secrets/no-such-bundle", "-o", "pulled"], &[2, 4]),
    ]
}

/// Runs every command at a server, in every way. Gives exit codes in their order.
fn run_all(endpoint: &str) -> Vec<(String, i32, &'static [i32])> {
    let keys = tempfile::tempdir().unwrap();
    let credentials: PathBuf = keys.path().join("credentials");
    let profile = format!(
        "[incident]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    );
    fs::write(&credentials, profile).unwrap();
    let mut codes = Vec::new();
    for (from, store, more) in
        [(From::Environment, STORE, &["-v"][..]), (From::Profile, "s3://secrets/other", &["--json", "-v"])]
    {
        let desk = Desk::new();
        desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
        desk.write("disk.raw", vec![7; 100_000]);
        desk.ok(&["init", "sealed", "--name", "n", "--examiner", "J. Doe"]);
        desk.ok(&["acquire", "disk", "disk.raw", "--case", "sealed", "--name", "sealed"]);
        for (args, expected) in commands() {
            let args = args.into_iter().chain(more.iter().copied());
            // The exhibits of two cases have the same names.
            let args: Vec<&str> = args.map(|arg| if arg == STORE { store } else { arg }).collect();
            let code = run(&desk, &credentials, from, endpoint, &args);
            codes.push((format!("{from:?} {}", args.join(" ")), code, expected));
        }
        if let Ok(grant) = fs::metadata(desk.path(GRANT)) {
            assert_eq!(grant.permissions().mode() & 0o777, 0o600, "others can read the grant");
            fs::remove_file(desk.path(GRANT)).unwrap();
        }
        assert_folder_clean(&desk.path(""));
    }
    codes
}

#[test]
fn no_secret_is_written_printed_or_seen_in_a_list_of_processes_when_all_goes_well() {
    let (seen, bodies) = (Arc::default(), Arc::default());
    let Some(endpoint) = good(Arc::clone(&seen), Arc::clone(&bodies)) else { return };
    let codes = run_all(&endpoint);
    for (command, code, expected) in codes {
        assert!(expected.contains(&code), "{command}: {code}");
    }
    // It was in use all the while, so that it could have been shown.
    assert!(holds(&seen.lock().unwrap(), TOKEN.as_bytes()), "the token was never sent");
    let bodies = bodies.lock().unwrap();
    assert!(bodies.iter().any(|body| body.len() > 1000), "nothing was stored");
    for body in bodies.iter() {
        assert_clean("what was stored", body);
    }
}

#[test]
fn no_secret_is_written_or_printed_when_a_server_repeats_what_it_got() {
    let seen = Arc::default();
    let endpoint = parrot(Arc::clone(&seen));
    for (command, code, _) in run_all(&endpoint) {
        assert!(code == 4 || code == 2, "{command}: {code}");
    }
    assert!(holds(&seen.lock().unwrap(), TOKEN.as_bytes()), "the token was never sent");
}

#[test]
fn a_secret_that_is_there_is_found() {
    let desk = Desk::new();
    desk.write("a/log", format!("x{TOKEN}y"));
    assert!(std::panic::catch_unwind(|| assert_folder_clean(&desk.path(""))).is_err());
    let mut lines = BTreeSet::new();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    let is_seen = |lines: &BTreeSet<Vec<u8>>| lines.iter().any(|line| holds(line, b"sleep"));
    while !is_seen(&lines) && Instant::now() < until {
        command_lines(std::process::id(), &mut lines);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_seen(&lines), "its command line was not seen");
    assert_clean("an address", b"https://bucket/x?list-type=2");
}
