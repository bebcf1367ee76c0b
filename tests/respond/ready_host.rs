//! Checks of this host, of our tools and of the way in: temporary folders, sockets, an authority of `openssl`.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use custody::{Clock as _, SigningKey, SystemClock};
use respond::ready::{Probe, Status};

use crate::fake_service::serve;
use crate::ready::{check, is, nowhere, one, probe, settings};
use crate::test_authority::{Recipe, TestAuthority};

const GIB: u64 = 1 << 30;

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

#[test]
fn logs_that_go_with_a_restart_or_are_stale_fail() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let seen = || one(probe(folder.path(), "").below(&root), "RD19");
    is(&seen(), Status::Error, &["/var/log"]);
    fs::create_dir_all(root.join("var/log")).unwrap();
    is(&seen(), Status::Fail, &["go with a restart"]);
    let journal = root.join("var/log/journal/0123/system.journal");
    write(&journal, "x");
    is(&seen(), Status::Warn, &["auditd"]);
    write(&root.join("var/log/audit/audit.log"), "x");
    is(&seen(), Status::Pass, &["/var/log/journal", "audit.log"]);
    let old = fs::File::open(&journal).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    is(&seen(), Status::Fail, &["/var/log/journal was written"]);
}

#[test]
fn memory_is_judged_by_reading_it_and_lockdown_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    write(&root.join("sys/kernel/security/lockdown"), "none integrity [confidentiality]\n");
    let found = one(probe(folder.path(), "").below(&root), "RD35");
    is(&found, Status::Fail, &["no way works", "[confidentiality]"]);
    // What this host says is what the forecast says.
    let here = one(probe(folder.path(), ""), "RD35");
    let works = acquire::memory::Forecast::of(&acquire::memory::Host::this()).best().is_some();
    assert_eq!(here.0, if works { Status::Pass } else { Status::Fail }, "{}", here.1);
}

#[test]
fn symbols_without_addresses_fail() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let seen = || one(probe(folder.path(), "").below(&root), "RD36");
    is(&seen(), Status::Error, &["release"]);
    write(&root.join("proc/sys/kernel/osrelease"), "6.1.0-1-amd64\n");
    is(&seen(), Status::Fail, &["neither"]);
    write(&root.join("sys/kernel/btf/vmlinux"), "x");
    write(&root.join("proc/kallsyms"), "0000000000000000 T _text\n");
    is(&seen(), Status::Fail, &["hides the addresses"]);
    write(&root.join("proc/kallsyms"), "ffffffff81000000 T _text\n");
    is(&seen(), Status::Pass, &[]);
}

#[test]
fn room_is_measured_against_the_largest_disk_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let sized = |gib: u64, more: &str| {
        let more = format!("{more}\n[ready]\nlargest_disk_gib = {gib}\nlargest_memory_gib = 0\n");
        let found = check(probe(folder.path(), &more), "RD28");
        found.into_iter().find(|one| one.scope.ends_with("/cases")).unwrap()
    };
    let free = rustix::fs::statvfs(folder.path()).unwrap();
    let free = free.f_bavail * free.f_frsize / GIB;
    let enough = sized(free / 4, "");
    // A file system with few inodes left is no room either.
    assert!(matches!(enough.status, Status::Pass | Status::Fail), "{}", enough.observed);
    let inodes = rustix::fs::statvfs(folder.path()).unwrap();
    if inodes.f_files == 0 || inodes.f_favail >= 100_000 {
        assert_eq!(enough.status, Status::Pass, "{}", enough.observed);
        let stored = sized(free * 4 + 10, "[capture]\nto = \"s3://evidence\"\n");
        assert_eq!(stored.status, Status::Warn, "{}", stored.observed);
    }
    assert_eq!(sized(free * 4 + 10, "").status, Status::Fail);
}

#[test]
fn a_disk_that_would_take_too_long_to_write_fails_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let timed = |gib: u64, hours: u64| {
        let more =
            format!("[ready]\nlargest_disk_gib = {gib}\nlongest_hours = {hours}\nthroughput_mib = 4\n");
        one(probe(folder.path(), &more), "RD29")
    };
    is(&timed(1, 24), Status::Pass, &["MB/s", "h"]);
    is(&timed(1_000_000_000, 1), Status::Fail, &["would take"]);
    assert_eq!(fs::read_dir(folder.path().join("cases")).unwrap().count(), 0);
}

#[test]
fn a_token_must_verify_up_to_the_root_that_was_given_and_a_single_authority_is_a_warning() {
    if !crate::test_authority::openssl(Path::new("/"), &["version"]).status.success() {
        eprintln!("skipped: openssl cannot be had");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(TestAuthority::new(&Recipe::default()));
    let other = TestAuthority::new(&Recipe { name: "other", ..Recipe::default() });
    let address = |authority: &Arc<TestAuthority>| {
        let authority = Arc::clone(authority);
        crate::loopback::serve(move |_, body| (200, authority.reply(body)))
    };
    let url = address(&authority);
    let entry = |url: &str, authority: &TestAuthority| {
        format!("[[ready.time_stamp]]\nurl = \"{url}\"\nroot = {}\n", quoted(&authority.path("root.pem")))
    };
    let alone = one(probe(folder.path(), &entry(&url, &authority)), "RD33");
    is(&alone, Status::Warn, &["no second authority"]);
    let two = entry(&url, &authority) + &entry(&format!("{url}/b"), &authority);
    let found = check(probe(folder.path(), &two), "RD33");
    assert!(found.iter().all(|one| one.status == Status::Pass), "{found:?}");
    is(&one(probe(folder.path(), &entry(&url, &other)), "RD33"), Status::Fail, &[]);
    let gone = entry(&format!("http://{}/", nowhere()), &authority);
    is(&one(probe(folder.path(), &gone), "RD33"), Status::Error, &[]);
    let ending =
        TestAuthority::new(&Recipe { name: "ending", ends_in: Some(10 * 86_400), ..Recipe::default() });
    let ending = Arc::new(ending);
    let found = one(probe(folder.path(), &entry(&address(&ending), &ending)), "RD33");
    is(&found, Status::Fail, &["a certificate ends in"]);
}

#[test]
fn the_key_must_sign_and_be_the_one_that_was_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let published = folder.path().join("public.pem");
    fs::write(&published, key.verifying_key().to_pem().unwrap()).unwrap();
    let named = format!("[ready]\npublic_key = {}\n", quoted(&published));
    let with = |key: SigningKey, more: &str| {
        let base = probe(folder.path(), "");
        let signer: Result<Box<dyn custody::Signer>, String> = Ok(Box::new(key));
        Probe::new(settings(folder.path(), more), base.state, "exhibit".into(), signer)
    };
    let same = SigningKey::from_pem(&key.to_pem(None).unwrap(), None).unwrap();
    is(&one(with(same, &named), "RD34"), Status::Pass, &[]);
    is(&one(with(key, ""), "RD34"), Status::Warn, &["ready.public_key"]);
    let other = SigningKey::generate().unwrap();
    is(&one(with(other, &named), "RD34"), Status::Fail, &["is another"]);
    let none = Probe::new(settings(folder.path(), &named), Err("x".into()), "x".into(), Err("no key".into()));
    is(&one(none, "RD34"), Status::Error, &["no key"]);
}

#[test]
fn a_binary_must_be_the_pinned_one_and_of_its_machine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exhibit");
    let entry = |arch: &str, bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        format!(
            "[[ready.collector]]\nos = \"linux\"\narch = \"{arch}\"\npath = {}\nsha256 = \"{}\"\n",
            quoted(&file),
            custody::sha256(bytes)
        )
    };
    let mut elf = vec![0_u8; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62;
    is(&one(probe(folder.path(), &entry("x86_64", &elf)), "RD37"), Status::Pass, &[]);
    is(&one(probe(folder.path(), &entry("aarch64", &elf)), "RD37"), Status::Fail, &["machine 62"]);
    is(&one(probe(folder.path(), &entry("x86_64", b"#!/bin/sh")), "RD37"), Status::Fail, &["no ELF"]);
    let pinned = entry("x86_64", &elf);
    elf[40] = 1;
    fs::write(&file, &elf).unwrap();
    is(&one(probe(folder.path(), &pinned), "RD37"), Status::Fail, &["its SHA-256 is"]);
    fs::remove_file(&file).unwrap();
    is(&one(probe(folder.path(), &pinned), "RD37"), Status::Fail, &["cannot be read"]);
}

#[test]
fn a_recipient_whose_key_is_not_there_fails() {
    let Ok(made) = std::process::Command::new("age-keygen").output() else {
        eprintln!("skipped: age-keygen cannot be had");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.txt");
    fs::write(&file, &made.stdout).unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let own = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    // The recipient of the format's own documentation; nobody here has its key.
    let other = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let more = |keys: &str| {
        format!("[capture]\nencrypt_to = [\"{own}\", \"{other}\"]\n[ready]\nidentities = [{keys}]\n")
    };
    let found = check(probe(folder.path(), &more(&quoted(&file))), "RD23");
    let of = |name: &str| found.iter().find(|one| one.scope == name).unwrap().status;
    assert_eq!((of(&own), of(other)), (Status::Pass, Status::Fail), "{found:?}");
    is(&one(probe(folder.path(), &more("")), "RD23"), Status::Error, &["ready.identities"]);
}

/// A server of NTP whose clock is off by so many seconds.
fn time_server(off: i64, stratum: u8) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut request = [0; 128];
        while let Ok((_, from)) = socket.recv_from(&mut request) {
            let now_ns = SystemClock.now().wall_ns;
            let seconds = u32::try_from(now_ns / 1_000_000_000 + off + 2_208_988_800).unwrap();
            let fraction = u32::try_from((now_ns % 1_000_000_000) * (1 << 32) / 1_000_000_000).unwrap();
            let mut answer = [0; 48];
            answer[0] = 0x24;
            answer[1] = stratum;
            answer[24..32].copy_from_slice(&request[40..48]);
            for at in [32, 40] {
                answer[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
                answer[at + 4..at + 8].copy_from_slice(&fraction.to_be_bytes());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[test]
fn a_clock_that_is_off_fails_and_a_server_that_is_not_synchronised_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |server: &str| one(probe(folder.path(), &format!("[ready]\nntp = [\"{server}\"]\n")), "RD32");
    // On a busy machine an answer may take so long that it says nothing: it is asked again.
    let told = |off: i64, expected: Status| {
        let server = time_server(off, 2);
        let found = (0..50).map(|_| asked(&server)).find(|found| found.0 != Status::Error).unwrap();
        assert_eq!(found.0, expected, "{}", found.1);
        let seconds: f64 = found.1.split(' ').next().unwrap().parse().unwrap();
        assert!((seconds - off as f64).abs() < 5.0, "{}", found.1);
    };
    told(0, Status::Pass);
    told(30, Status::Fail);
    told(-30, Status::Fail);
    is(&asked(&time_server(0, 16)), Status::Error, &["not synchronised"]);
    is(&asked(&nowhere()), Status::Error, &["no answer"]);
}

#[test]
fn a_runtime_that_does_not_answer_fails() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let more = format!("[ready]\ncontainer_sockets = [{}]\n", quoted(&path));
    is(&one(probe(folder.path(), &more), "RD38"), Status::Fail, &["cannot be connected to"]);
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 512]);
            let status = if number == 0 { "200 OK" } else { "403 Forbidden" };
            let _ = stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n{{}}").as_bytes());
        }
    });
    is(&one(probe(folder.path(), &more), "RD38"), Status::Pass, &["200"]);
    is(&one(probe(folder.path(), &more), "RD38"), Status::Fail, &["403"]);
    // Whoever listens at another socket takes connections, and may be no runtime at all.
    let other = folder.path().join("containerd.sock");
    let _listener = UnixListener::bind(&other).unwrap();
    let more = format!("[ready]\ncontainer_sockets = [{}]\n", quoted(&other));
    is(&one(probe(folder.path(), &more), "RD38"), Status::Warn, &["was not tested"]);
}

#[test]
fn the_door_must_answer_and_its_certificate_must_last() {
    let folder = tempfile::tempdir().unwrap();
    let well = r#"{"status":"ok","why":[]}"#;
    let url =
        serve(move |asked| if asked.path == "/healthz" { (200, well.into()) } else { (404, String::new()) });
    let more = |url: &str| format!("[ready]\npublic_url = \"{url}\"\n");
    let found = check(probe(folder.path(), &more(&url)), "RD30");
    let of = |end: &str| found.iter().find(|one| one.scope == format!("{url}{end}")).unwrap();
    assert_eq!(of("").status, Status::Pass, "{}", of("").observed);
    assert_eq!(of("/tls").status, Status::Warn, "{}", of("/tls").observed);
    assert_eq!(of("/alert").status, Status::Warn, "{}", of("/alert").observed);
    // Another server that answers everything with 200.
    let other = serve(|_| (200, "ok".into()));
    let found = check(probe(folder.path(), &more(&other)), "RD30");
    let found = found.iter().find(|one| one.scope == other).unwrap();
    assert_eq!(found.status, Status::Fail, "{}", found.observed);
    let broken = serve(|_| (503, String::new()));
    let found = check(probe(folder.path(), &more(&broken)), "RD30");
    assert!(found.iter().any(|one| one.status == Status::Fail && one.observed.contains("503")), "{found:?}");
    let gone = format!("http://{}", nowhere());
    is(&one(probe(folder.path(), &more(&gone)), "RD30"), Status::Error, &["cannot be reached"]);

    let tls = |days: i64| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let now = SystemClock.now().wall_ns / 1_000_000_000;
        let moment = |seconds: i64| {
            rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(u64::try_from(seconds).unwrap())
        };
        params.not_before = moment(now - 86_400);
        params.not_after = moment(now + days * 86_400);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let root = folder.path().join(format!("root-{days}.pem"));
        fs::write(&root, certificate.pem()).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{\"status\":\"ok\",\"why\":[]}",
                );
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        let more =
            format!("[ready]\npublic_url = \"https://localhost:{port}\"\npublic_root = {}\n", quoted(&root));
        check(probe(folder.path(), &more), "RD30")
    };
    let lasting = tls(60);
    let is_alert = |one: &respond::ready::Outcome| one.scope.ends_with("/alert");
    assert!(
        lasting.len() == 3 && lasting.iter().all(|one| one.status == Status::Pass || is_alert(one)),
        "{lasting:?}"
    );
    let ending = tls(10);
    let failed: Vec<_> = ending.iter().filter(|one| one.status == Status::Fail).collect();
    assert!(failed.len() == 1 && failed[0].observed.contains("in 21 days"), "{ending:?}");
}

#[test]
fn a_channel_that_refuses_fails_and_its_address_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let send = std::sync::Mutex::new(send);
    let url = serve(move |asked| {
        let signed = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| asked.header(name).to_owned());
        let _ = send.lock().unwrap().send((signed, asked.body.clone()));
        (204, String::new())
    });
    let more = |url: &str| {
        format!("[notify.people]\nurl = \"{url}/hook-token-123\"\nsecret_file = {}\n", quoted(&secret))
    };
    is(&one(probe(folder.path(), &more(&url)), "RD44"), Status::Pass, &["204"]);
    let ([id, time, signature], body) = receive.recv().unwrap();
    let key = ring::hmac::Key::new(
        ring::hmac::HMAC_SHA256,
        &base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
        .unwrap(),
    );
    let signature = signature.strip_prefix("v1,").unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).unwrap();
    ring::hmac::verify(&key, format!("{id}.{time}.{body}").as_bytes(), &signature).unwrap();
    assert!(body.contains("\"is_test\":true"), "{body}");
    let refusing = serve(|_| (401, String::new()));
    is(&one(probe(folder.path(), &more(&refusing)), "RD44"), Status::Fail, &["401"]);
    let found = one(probe(folder.path(), &more(&format!("http://{}", nowhere()))), "RD44");
    is(&found, Status::Error, &["not reached"]);
    assert!(!found.1.contains("hook-token-123"), "{}", found.1);
}

#[test]
fn jobs_that_wait_or_were_given_up_and_old_backups_fail() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::create_dir_all(&backups).unwrap();
    let more = format!("[ready]\nbackups = {}\n", quoted(&backups));
    let of = |found: &[respond::ready::Outcome], scope: &str| {
        found.iter().find(|one| one.scope == scope).unwrap().status
    };
    let found = check(probe(folder.path(), &more), "RD45");
    assert_eq!((of(&found, "jobs"), of(&found, "dead-letters")), (Status::Pass, Status::Pass), "{found:?}");
    assert_eq!((of(&found, "data-base"), of(&found, "backup")), (Status::Pass, Status::Fail));
    let (bare, copy) = (backups.join("state-0.sqlite"), backups.join("state-1.sqlite"));
    let seen = || {
        let found = check(probe(folder.path(), &more), "RD45");
        let found = found.into_iter().find(|one| one.scope == "backup").unwrap();
        (found.status, found.observed)
    };
    // A file is no backup by being there.
    fs::write(&bare, "x").unwrap();
    is(&seen(), Status::Fail, &["state-0.sqlite", "cannot be restored from"]);
    fs::write(&bare, "").unwrap();
    is(&seen(), Status::Fail, &["no such table"]);
    fs::File::options().write(true).open(&bare).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    respond::state::backup(&folder.path().join("state"), &copy).unwrap();
    // What is still being written is none yet.
    fs::write(backups.join("state-2.sqlite.part"), "x").unwrap();
    is(&seen(), Status::Pass, &["state-1.sqlite", "whole, with 0 deliveries"]);
    let unnamed = check(probe(folder.path(), ""), "RD45");
    assert_eq!(of(&unnamed, "backup"), Status::Warn, "{unnamed:?}");
    fs::File::options().write(true).open(&copy).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::remove_file(&bare).unwrap();
    is(&seen(), Status::Fail, &["h old"]);
}

#[test]
fn a_test_alert_must_be_taken_and_lie_in_the_state() {
    use crate::door_support::TestDoor;
    use respond::state::State;
    let schemes = [
        ("bearer", "scheme = 'bearer'\nsecret_files = ['secret']"),
        ("header", "scheme = 'header'\nheader = 'X-Secret'\nsecret_files = ['secret']"),
        ("basic", "scheme = 'basic'\nuser = 'sns'\nsecret_files = ['secret']"),
        (
            "hmac",
            "scheme = 'hmac'\nheader = 'X-Signature'\nprefix = 'sha512='\nalgorithm = 'sha512'\nencoding = 'base64'\n\
             signed = '{id}.{ts}.{body}'\nts_header = 'X-Time'\nid_header = 'X-Id'\nsecret_files = ['secret']",
        ),
    ];
    let sources: String = schemes
        .iter()
        .map(|(name, scheme)| {
            format!("[[source]]\nname = '{name}'\nkind = 'generic'\n[[source.authenticate]]\n{scheme}\n")
        })
        .collect();
    let door = TestDoor::open(&sources, "");
    door.clock.set(&custody::Clock::now(&SystemClock).rfc3339());
    let secret = quoted(&door.folder.path().join("secret"));
    let asked = |name: &str, secret: &str, state: Arc<State>| {
        let more = sources.replace("'secret'", secret);
        let more =
            format!("{more}[ready]\npublic_url = \"http://{}\"\ntest_source = \"{name}\"\n", door.address());
        let folder = tempfile::tempdir().unwrap();
        let base = probe(folder.path(), &more);
        let made = Probe::new(base.settings, Ok(state), "exhibit".into(), Err("none".into()));
        let found = check(made, "RD30");
        let found = found.into_iter().find(|one| one.scope.ends_with("/alert")).unwrap();
        (found.status, found.observed)
    };
    // On a busy machine an answer may take longer than the service's own may: it is asked again.
    let told = |name: &str, secret: &str, state: &Arc<State>| {
        let mut all = (0..20).map(|_| asked(name, secret, Arc::clone(state)));
        all.find(|found| !found.1.contains("not in time")).unwrap()
    };
    for (name, _) in schemes {
        is(&told(name, &secret, &door.state), Status::Pass, &["202", "lies in the state"]);
    }
    let kept = door.state.count_deliveries().unwrap().by_status;
    assert!(
        kept.len() == 1 && kept[0].0 == respond::state::DeliveryStatus::New,
        "each can be read: {kept:?}"
    );
    // The service behind the address is another one than ours, or our secret is not its own.
    let other = tempfile::tempdir().unwrap();
    let other_state = Arc::new(State::open(other.path()).unwrap());
    is(&told("bearer", &secret, &other_state), Status::Fail, &["is not in the state"]);
    let wrong = other.path().join("secret");
    fs::write(&wrong, "not the secret of that service").unwrap();
    let found = told("bearer", &quoted(&wrong), &door.state);
    is(&found, Status::Fail, &["was not taken", "401"]);
    assert!(!found.1.contains("not the secret"), "{}", found.1);
    is(&told("nobody", &secret, &door.state), Status::Error, &["no [[source]]"]);
}
