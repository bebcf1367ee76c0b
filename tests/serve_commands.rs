//! `exhibit serve`, the real program: killed, flooded, told to stop and to read its settings again.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use respond::state::State;
use serde_json::Value;

use crate::exhibit::Desk;
use crate::http_client::Client;

const SECRET: &str = "a secret that only the sender has";

/// A desk with settings of one source.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("secret", SECRET);
    desk.write("rules.toml", "version = 1\n");
    settings(&desk, "");
    desk
}

fn settings(desk: &Desk, server: &str) {
    let text = format!(
        "state = 'state'\ncases = 'cases'\nexaminer = 'J. Doe'\nrules = 'rules.toml'\n\
         [server]\nlisten = '127.0.0.1:0'\nmin_free_mib = 1\n{server}\n\
         [[source]]\nname = 'bearer'\nkind = 'falco'\n[[source.authenticate]]\nscheme = 'bearer'\nsecret_files = ['secret']\n"
    );
    desk.write("serve.toml", text);
}

/// The service, running.
struct Serving {
    child: Child,
    address: SocketAddr,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Serving {
    fn start(desk: &Desk) -> Self {
        let mut command = desk.command();
        command.args(["serve", "--config", "serve.toml"]).stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, stderr) = (Arc::clone(&lines), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
                kept.lock().unwrap().push(line);
            }
        });
        let mut serving = Self { child, address: SocketAddr::from(([0; 4], 0)), lines };
        let line = serving.wait_for("listening");
        serving.address = line["address"].as_str().unwrap().parse().unwrap();
        serving
    }

    /// The first line of an event, once there is one.
    fn wait_for(&mut self, event: &str) -> Value {
        let begun = Instant::now();
        loop {
            let found = self.lines.lock().unwrap().iter().find(|line| line["event"] == event).cloned();
            if let Some(line) = found {
                return line;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(60),
                "{event}: {:?}",
                self.lines
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let done =
            std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn end(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn alert(number: u64) -> Vec<u8> {
    format!(
        "{{\"time\":\"2026-11-21T11:59:58.1Z\",\"priority\":\"{}\",\"rule\":\"number {number}\",\"output\":\"o\",\"source\":\"syscall\",\"hostname\":\"web01\",\"output_fields\":{{}}}}",
        if number.is_multiple_of(10) { "Critical" } else { "Notice" }
    )
    .into_bytes()
}

fn post(client: &mut Client<std::net::TcpStream>, number: u64) -> std::io::Result<u16> {
    let auth = format!("Bearer {SECRET}");
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    Ok(client.post("/alerts/bearer", &headers, &alert(number))?.status)
}

/// The numbers of all alerts that are stored.
fn stored(state: &Path) -> std::collections::BTreeSet<u64> {
    let state = State::open(state).unwrap();
    let connection = state.connection();
    let mut statement = connection.prepare("SELECT body FROM deliveries").unwrap();
    let bodies = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let number = |body: Vec<u8>| {
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["rule"].as_str().unwrap().strip_prefix("number ").unwrap().parse().unwrap()
    };
    bodies.map(|body| number(body.unwrap())).collect()
}

#[test]
fn every_202_is_in_the_state_whenever_the_service_is_killed() {
    let desk = desk();
    let next = AtomicU64::new(0);
    let accepted = Mutex::new(Vec::new());
    for round in 0..20u64 {
        let serving = Serving::start(&desk);
        let (address, is_over) = (serving.address, AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let Ok(mut client) = Client::connect(address) else { return };
                    while !is_over.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        match post(&mut client, number) {
                            Ok(202) => accepted.lock().unwrap().push(number),
                            Ok(other) => panic!("{other}"),
                            Err(_) => return,
                        }
                    }
                });
            }
            // Another moment in each round.
            let before = accepted.lock().unwrap().len();
            while accepted.lock().unwrap().len() < before + 5 + usize::try_from(round).unwrap() * 3 {
                std::thread::sleep(Duration::from_micros(200));
            }
            serving.end("-KILL");
            is_over.store(true, Ordering::Relaxed);
        });
        let stored = stored(&desk.path("state"));
        let lost: Vec<_> =
            accepted.lock().unwrap().iter().filter(|number| !stored.contains(number)).copied().collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    assert!(accepted.lock().unwrap().len() > 600);
}

#[test]
fn ten_thousand_alerts_are_all_stored_within_bounded_memory() {
    let desk = desk();
    let serving = Serving::start(&desk);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Client::connect(serving.address).unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 10_000 {
                        return;
                    }
                    while post(&mut client, number).unwrap() != 202 {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }
            });
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 256 << 10, "{peak} KiB");
    assert_eq!(serving.end("-TERM"), Some(0));
    assert_eq!(stored(&desk.path("state")).len(), 10_000);
}

#[test]
fn a_reload_takes_new_secrets_and_a_bad_one_keeps_the_old() {
    let desk = desk();
    let mut serving = Serving::start(&desk);
    let status = |address| post(&mut Client::connect(address).unwrap(), 1).unwrap();
    assert_eq!(status(serving.address), 202);
    desk.write("serve.toml", "this = 'is not it'");
    serving.signal("-HUP");
    let line = serving.wait_for("reload_failed");
    assert_eq!(line["level"], "alarm");
    assert_eq!(status(serving.address), 202);
    settings(&desk, "");
    desk.write("secret", "quite another secret now");
    serving.signal("-HUP");
    serving.wait_for("reloaded");
    assert_eq!(status(serving.address), 401);
    let metrics =
        Client::connect(serving.address).unwrap().request("GET", "/metrics", &[], b"").unwrap().text();
    for line in [
        "exhibit_reloads_total{result=\"failed\"} 1",
        "exhibit_reloads_total{result=\"done\"} 1",
        "exhibit_reload_failed 0",
    ] {
        assert!(metrics.lines().any(|had| had == line), "{line}\n{metrics}");
    }
    assert_eq!(serving.end("-INT"), Some(0));
}

#[test]
fn the_state_belongs_to_one_service_and_can_be_copied_meanwhile() {
    let desk = desk();
    let serving = Serving::start(&desk);
    desk.run(&["serve", "--config", "serve.toml"]).fails(4, &["in use by another"]);
    let mut client = Client::connect(serving.address).unwrap();
    for number in 0..100 {
        assert_eq!(post(&mut client, number).unwrap(), 202);
    }
    let said = desk.ok(&["serve", "--config", "serve.toml", "--backup-to", "copy.sqlite", "--json"]);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said["deliveries"], 100);
    desk.run(&["serve", "--config", "serve.toml", "--backup-to", "copy.sqlite"]).fails(4, &["copy.sqlite"]);
    drop(serving);
    std::fs::create_dir(desk.path("restored")).unwrap();
    std::fs::copy(desk.path("copy.sqlite"), desk.path("restored/state.sqlite")).unwrap();
    assert_eq!(stored(&desk.path("restored")).len(), 100);
}

#[test]
fn settings_that_are_wrong_are_told_with_their_place_and_no_secret() {
    let desk = desk();
    desk.ok(&["serve", "--config", "serve.toml", "--check"]);
    settings(&desk, "lisen = '127.0.0.1:0'");
    desk.run(&["serve", "--config", "serve.toml", "--check"]).fails(4, &["serve.toml", "lisen"]);
    settings(&desk, "");
    desk.write("secret", "hunter2");
    let ran = desk.run(&["serve", "--config", "serve.toml"]);
    ran.fails(4, &["serve.toml", "guessed"]);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    desk.run(&["serve", "--config", "absent.toml"]).fails(4, &["absent.toml"]);
}
