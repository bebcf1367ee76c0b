//! The door: what is let in is on the disk, what is not is refused, and it stays open whatever is thrown at it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use respond::server::Prepared;
use respond::settings::Settings;
use respond::state::DeliveryStatus;

use crate::door_support::{BEARER, SECRET, TestDoor, write_settings};
use crate::http_client::{Client, head};

/// A Falco alert, as its `http_output` posts it.
pub(crate) fn falco(rule: &str) -> Vec<u8> {
    serde_json::json!({
        "time": "2026-11-21T11:59:58.123456789Z", "priority": "Critical", "rule": rule, "source": "syscall",
        "hostname": "web01", "output": format!("{rule} (user=root)"), "tags": ["T1059"],
        "output_fields": { "container.id": "0123456789ab", "user.name": "root", "fd.rip": null }
    })
    .to_string()
    .into_bytes()
}

fn good() -> String {
    format!("Bearer {SECRET}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_alert_is_on_the_disk_before_its_sender_is_told_so() {
    let mut door = TestDoor::open(BEARER, "");
    let answer = door.post(
        "/alerts/bearer",
        &[("authorization", &good()), ("user-agent", "falco/1")],
        &falco("Shell"),
    );
    assert_eq!(answer.status, 202, "{}", answer.text());
    // Read by another connection to the data base: it was committed.
    let other = respond::state::State::open(&door.folder.path().join("state")).unwrap();
    let stored = other.next_undecided(10).unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].body, falco("Shell"));
    assert_eq!((stored[0].source.as_str(), stored[0].sender.as_str()), ("bearer", "bearer secret 1"));
    let headers = format!("{:?}", stored[0].headers);
    assert!(headers.contains("falco/1") && !headers.contains(SECRET), "{headers}");
    assert!(door.stop());
    let bytes = std::fs::read(door.folder.path().join("state/state.sqlite")).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
}

#[test]
fn a_forged_alert_and_an_unknown_path_have_one_answer() {
    let door = TestDoor::open(BEARER, "");
    let wrong = "Bearer a secret that only the sender hat";
    let plain = |answer: &crate::http_client::Answer| {
        let mut answer = answer.clone();
        answer.headers.retain(|(name, _)| name != "date");
        answer
    };
    let forged = plain(&door.post("/alerts/bearer", &[("authorization", wrong)], &falco("Shell")));
    assert_eq!(forged.status, 401);
    for (path, headers) in [
        ("/alerts/bearer", vec![]),
        ("/alerts/nobody", vec![("authorization", good())]),
        ("/alerts/bearer/x", vec![]),
        ("/alerts/", vec![]),
        ("/", vec![]),
        ("/alerts/../alerts/bearer", vec![("authorization", good())]),
        ("/alerts/bearer%2f", vec![("authorization", good())]),
        ("/metrics", vec![]),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = plain(&door.post(path, &headers, &falco("Shell")));
        if path == "/metrics" {
            assert_eq!(answer.status, 405);
        } else {
            assert_eq!(answer, forged, "{path}");
        }
    }
    assert!(door.state.next_undecided(10).unwrap().is_empty());
    assert!(door.refused("bad_secret") >= 1.0 && door.refused("unknown_path") >= 5.0);
    let lines = door.lines.lock().unwrap().join("\n");
    assert!(lines.contains("bad_secret") && !lines.contains(SECRET) && !lines.contains("hat"), "{lines}");
}

#[test]
fn other_methods_kinds_and_packings_are_not_taken() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    let auth = ("authorization", auth.as_str());
    let mut client = Client::connect(door.address()).unwrap();
    assert_eq!(client.request("GET", "/alerts/bearer", &[auth], b"").unwrap().status, 405);
    assert_eq!(client.request("PUT", "/alerts/nobody", &[auth], b"{}").unwrap().status, 405);
    for (name, value) in [("content-type", "multipart/form-data; boundary=x"), ("content-encoding", "br")] {
        assert_eq!(door.post("/alerts/bearer", &[auth, (name, value)], b"{}").status, 415, "{value}");
        // The same where there is nothing: it tells nobody what there is.
        assert_eq!(door.post("/alerts/nobody", &[(name, value)], b"{}").status, 415, "{value}");
    }
    let packed = gzip(&falco("Packed"));
    let answer = door.post("/alerts/bearer", &[auth, ("content-encoding", "gzip")], &packed);
    assert_eq!(answer.status, 202);
    assert_eq!(door.state.next_undecided(1).unwrap()[0].body, falco("Packed"));
}

#[test]
fn what_a_known_sender_sends_and_nobody_can_read_is_kept_and_alarmed() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    let auth = ("authorization", auth.as_str());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 5] = [b"", b"no json", b"{\"a\":1", b"\xff\xfe", deep.as_bytes()];
    for body in bodies {
        let answer = door.post("/alerts/bearer", &[auth], body);
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let broken = door.post("/alerts/bearer", &[auth, ("content-encoding", "gzip")], b"no gzip");
    assert_eq!(broken.status, 202);
    let counts = door.state.count_deliveries().unwrap().by_status;
    assert_eq!(counts, [(DeliveryStatus::Unparsed, 6)]);
    assert_eq!(door.metrics.value("exhibit_deliveries_unparsed_total", &[("source", "bearer")]), 6.0);
    assert!(
        door.lines.lock().unwrap().iter().any(|line| line.contains("\"alarm\"") && line.contains("unparsed"))
    );
}

#[test]
fn hostile_fields_are_stored_as_they_came_and_never_reach_a_line() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    let hostile = "$(touch /tmp/owned); `id` ../../etc/passwd <script>alert(1)</script>\n{\"level\":\"info\",\"event\":\"fake\"}\r\u{1b}[2J\u{202e}";
    let body = falco(hostile);
    let headers = [("authorization", auth.as_str()), ("user-agent", "x\u{1}y")];
    // A control character in a header is no HTTP.
    assert_eq!(door.post("/alerts/bearer", &headers, &body).status, 400);
    let path = "/alerts/x%0a%7b%22event%22:%22fake%22%7d?a=%1b[2J";
    assert_eq!(door.post(path, &[("authorization", &auth)], &body).status, 401);
    assert_eq!(door.post("/alerts/bearer", &[("authorization", &auth)], &body).status, 202);
    assert_eq!(door.state.next_undecided(1).unwrap()[0].body, body);
    for line in door.lines.lock().unwrap().iter() {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(read["event"] != "fake" && !line.contains("script") && !line.contains("passwd"), "{line}");
    }
}

#[test]
fn a_hundred_mebibytes_are_refused_whether_announced_or_not() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    let auth = ("authorization", auth.as_str());
    // Announced: refused before any of it is sent.
    let mut client = Client::connect(door.address()).unwrap();
    let length = (100u64 << 20).to_string();
    let announced = head("POST", "/alerts/bearer", &[("host", "x"), auth, ("content-length", &length)]);
    client.raw().write_all(&announced).unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));

    // Not announced: cut off soon after the limit.
    let mut client = Client::connect(door.address()).unwrap();
    let chunked = head("POST", "/alerts/bearer", &[("host", "x"), auth, ("transfer-encoding", "chunked")]);
    client.raw().write_all(&chunked).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let sent = (0..1600).take_while(|_| client.raw().write_all(&chunk).is_ok()).count();
    assert!(sent < 1600, "all of it was taken");
    assert!(door.refused("too_large") >= 2.0);
    assert_eq!(door.post("/alerts/bearer", &[auth], &falco("After")).status, 202);
}

#[test]
fn a_gzip_bomb_is_refused() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    let headers = [("authorization", auth.as_str()), ("content-encoding", "gzip")];
    let bomb = gzip(&vec![b' '; 1 << 30]);
    assert!(bomb.len() < 2 << 20);
    assert_eq!(door.post("/alerts/bearer", &headers, &bomb).status, 413);
    assert_eq!(door.refused("too_large_unpacked"), 1.0);
    assert_eq!(door.post("/alerts/bearer", &headers[..1], &falco("After")).status, 202);
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if most < 12_000 {
        eprintln!("skipped: only {most} files may be open, and 10,000 connections need more");
        return;
    }
    let door = TestDoor::open(BEARER, "max_connections = 200");
    let auth = good();
    let mut idle = Vec::new();
    for number in 0..10_000 {
        let mut stream = TcpStream::connect(door.address()).unwrap();
        // Some say nothing, some begin a head or a body and never end it.
        let begun: &[u8] = match number % 3 {
            0 => b"POST /alerts/bearer HTTP/1.1\r\nHost: x\r\nX-A: ",
            1 => b"POST /alerts/bearer HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{",
            _ => b"",
        };
        let _ = stream.write_all(begun);
        idle.push(stream);
        if number % 1000 == 999 {
            let answer = door.post("/alerts/bearer", &[("authorization", &auth)], &falco("Meanwhile"));
            assert_eq!(answer.status, 202, "after {number}");
        }
    }
    assert_eq!(door.state.next_undecided(100).unwrap().len(), 10);
    // Up to 64 more, while those that must go are going.
    assert!(door.metrics.value("exhibit_connections", &[]) <= 264.0);
    assert!(door.metrics.value("exhibit_connections_evicted_total", &[]) > 9000.0);
}

#[test]
fn bodies_that_come_byte_by_byte_keep_nobody_out_and_are_ended() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    let slow = head(
        "POST",
        "/alerts/bearer",
        &[("host", "x"), ("authorization", &auth), ("content-length", "2000000")],
    );
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(door.address()).unwrap()).collect();
    for client in &mut clients {
        client.raw().write_all(&slow).unwrap();
        client.raw().write_all(b"{").unwrap();
    }
    assert_eq!(door.post("/alerts/bearer", &[("authorization", &auth)], &falco("Meanwhile")).status, 202);
    // Who is known by its head may try again; a stranger gets a final answer.
    assert_eq!(clients[0].answer().unwrap().status, 503);
    assert!(door.refused("slow_body") >= 1.0);
    let mut stranger = Client::connect(door.address()).unwrap();
    let slow = head("POST", "/alerts/bearer", &[("host", "x"), ("content-length", "2000000")]);
    stranger.raw().write_all(&slow).unwrap();
    assert_eq!(stranger.answer().unwrap().status, 408);
}

#[test]
fn overload_is_503_with_a_time_to_come_back_and_nothing_is_lost() {
    let door = TestDoor::open(BEARER, "");
    let auth = good();
    // While this is held nothing can be committed, so that bodies fill their memory: 64 MiB, 2 MiB each.
    let held = door.state.connection();
    let mut body = falco("Large");
    body.resize((2 << 20) - 10, b' ');
    let (accepted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..60)
        .map(|_| {
            let (accepted, refused) = (Arc::clone(&accepted), Arc::clone(&refused));
            let (address, auth, body) = (door.address(), auth.clone(), body.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(address).unwrap();
                let answer = client.post("/alerts/bearer", &[("authorization", &auth)], &body).unwrap();
                match answer.status {
                    202 => accepted.fetch_add(1, Ordering::Relaxed),
                    503 => {
                        assert_eq!(answer.header("retry-after"), Some("5"));
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    other => panic!("{other}"),
                };
            })
        })
        .collect();
    let begun = std::time::Instant::now();
    while refused.load(Ordering::Relaxed) < 20 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{refused:?} refused");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 0);
    drop(held);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let counts = door.state.count_deliveries().unwrap();
    let stored: i64 = counts.by_status.iter().map(|(_, count)| count).sum();
    assert_eq!(usize::try_from(stored).unwrap(), accepted.load(Ordering::Relaxed));
    assert!(accepted.load(Ordering::Relaxed) >= 20);
    assert_eq!(door.post("/alerts/bearer", &[("authorization", &auth)], &body).status, 202);
}

#[test]
fn a_stop_answers_who_is_in_and_loses_nothing() {
    let mut door = TestDoor::open(BEARER, "");
    let (address, auth) = (door.address(), good());
    let accepted = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (accepted, auth) = (Arc::clone(&accepted), auth.clone());
            std::thread::spawn(move || {
                let Ok(mut client) = Client::connect(address) else { return };
                while let Ok(answer) =
                    client.post("/alerts/bearer", &[("authorization", &auth)], &falco("Busy"))
                {
                    assert_eq!(answer.status, 202);
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let begun = std::time::Instant::now();
    while accepted.load(Ordering::Relaxed) < 50 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{accepted:?} accepted");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(door.stop());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stored = door.state.next_undecided(1_000_000).unwrap().len();
    assert!(stored >= accepted.load(Ordering::Relaxed), "{stored} of {accepted:?}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn secrets_change_under_way_and_a_bad_change_changes_nothing() {
    let door = TestDoor::open(BEARER, "");
    let file = door.folder.path().join("serve.toml");
    let put_in = || {
        let settings = Settings::load(&file)?;
        let prepared = Prepared::load(&file, &settings, &door.outfit)?;
        door.server.as_ref().unwrap().put_in(&file, prepared)
    };
    let status = |secret: &str| {
        door.post("/alerts/bearer", &[("authorization", &format!("Bearer {secret}"))], &falco("Change"))
            .status
    };
    let new = "the secret that comes after it";
    std::fs::write(door.folder.path().join("new"), new).unwrap();
    let both = BEARER.replace("['secret']", "['secret', 'new']");
    assert_eq!((status(SECRET), status(new)), (202, 401));
    write_settings(door.folder.path(), &both, "");
    put_in().unwrap();
    assert_eq!((status(SECRET), status(new)), (202, 202));
    write_settings(door.folder.path(), &both.replace("'new'", "'absent'"), "");
    let why = put_in().unwrap_err().to_string();
    assert!(why.contains("absent"), "{why}");
    assert_eq!((status(SECRET), status(new)), (202, 202));
    write_settings(door.folder.path(), &BEARER.replace("'secret'", "'new'"), "");
    put_in().unwrap();
    assert_eq!((status(SECRET), status(new)), (401, 202));
}

#[test]
fn health_and_metrics_are_told_to_those_who_may_know() {
    let door = TestDoor::open(BEARER, "");
    let mut client = Client::connect(door.address()).unwrap();
    let healthy = client.request("GET", "/healthz", &[], b"").unwrap();
    assert_eq!((healthy.status, healthy.text().contains("ok")), (200, true));
    door.post("/alerts/bearer", &[], b"{}");
    let text = client.request("GET", "/metrics", &[], b"").unwrap().text();
    for line in [
        "exhibit_requests_refused_total{reason=\"missing_header\"} 1",
        "exhibit_deliveries{status=\"new\"} 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    for header in ["x-forwarded-for", "forwarded", "via"] {
        assert_eq!(client.request("GET", "/metrics", &[(header, "192.0.2.1")], b"").unwrap().status, 405);
    }
    drop(client);

    let door = TestDoor::open(BEARER, "operations = '127.0.0.1:0'\nmin_free_mib = 1000000000");
    let operations = door.server.as_ref().unwrap().operations().unwrap();
    let mut client = Client::connect(operations).unwrap();
    assert_eq!(client.request("GET", "/metrics", &[("via", "1.1 a")], b"").unwrap().status, 200);
    let failing = client.request("GET", "/healthz", &[], b"").unwrap();
    assert_eq!((failing.status, failing.text().contains("nearly full")), (503, true));
    assert_eq!(client.post("/alerts/bearer", &[("authorization", &good())], b"{}").unwrap().status, 404);
    assert_eq!(
        Client::connect(door.address()).unwrap().request("GET", "/metrics", &[], b"").unwrap().status,
        405
    );
}

#[test]
fn what_is_no_http_is_ended_and_nobody_minds() {
    let door = TestDoor::open(BEARER, "");
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"POST /alerts/bearer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /alerts/bearer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[b'A'; 70_000],
        &[b"POST / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(1000), b"\r\n"].concat(),
    ] {
        let mut stream = TcpStream::connect(door.address()).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let first = String::from_utf8_lossy(&answer);
        assert!(!first.starts_with("HTTP/1.1 2") && !first.starts_with("HTTP/1.1 3"), "{first}");
    }
    assert_eq!(door.post("/alerts/bearer", &[("authorization", &good())], &falco("After")).status, 202);
}

#[test]
fn microsoft_graph_has_its_token_echoed_and_nothing_else() {
    let sources = "[[source]]\nname = 'graph'\nkind = 'defender'\n[[source.authenticate]]\nscheme = 'graph'\nsecret_files = ['secret']\n\
                   [[source.authenticate]]\nscheme = 'path_token'\nsecret_files = ['token']\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "a-token-in-the-path-0123").unwrap();
    let door = TestDoor::open_in(folder, sources, "", None);
    let echo = door.post(
        "/alerts/graph/a-token-in-the-path-0123?validationToken=Validation%3A%20x%3Cb%3E",
        &[],
        b"",
    );
    assert_eq!((echo.status, echo.text().as_str()), (200, "Validation: x<b>"));
    assert_eq!(echo.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(echo.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(door.post("/alerts/graph/a-token-in-the-path-0124?validationToken=x", &[], b"").status, 401);
    assert_eq!(door.post("/alerts/bearer?validationToken=x", &[], b"").status, 401);

    let body = |state: &str| {
        serde_json::json!({"value": [{"clientState": state, "resource": "security/alerts_v2/1"}]}).to_string()
    };
    let path = "/alerts/graph/a-token-in-the-path-0123";
    assert_eq!(door.post(path, &[], body(SECRET).as_bytes()).status, 202);
    assert_eq!(door.post(path, &[], body("another").as_bytes()).status, 401);
    assert_eq!(door.post("/alerts/graph", &[], body(SECRET).as_bytes()).status, 401);
}

#[test]
fn the_sample_of_settings_is_one_that_can_be_used() {
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/serve/serve.toml");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("serve.toml");
    std::fs::copy(samples, &file).unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    for word in text.split('"').filter(|word| word.starts_with("secrets/")) {
        // A secret that every scheme takes.
        std::fs::write(folder.path().join(word), "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    }
    let settings = Settings::load(&file).unwrap();
    let web: Arc<dyn respond::authenticate::Fetch> = Arc::new(crate::door_support::Web::default());
    let certificates = Arc::new(respond::authenticate::SigningCertificates::new(web));
    let sources = respond::authenticate::load(&file, &settings.sources, &certificates).unwrap();
    assert_eq!(sources.len(), 9);
}
