//! The real `exhibit serve` with rules, hosts and a generic source, and what its jobs became.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exhibit::{Desk, ran};
use crate::http_client::Client;

pub(crate) const SECRET: &str = "a secret that only the sender has";

/// Settings, an inventory of hosts `web0` … that are this host, and rules.
pub(crate) fn write_settings(desk: &Desk, hosts: usize, rules: &str, more: &str) {
    desk.write("secret", SECRET);
    desk.write("rules.toml", rules);
    let mut assets = "version = 1\n".to_owned();
    for number in 0..hosts {
        assets.push_str(&format!("[[asset]]\nkind = 'host'\nid = 'web{number}'\ntarget = 'local'\n"));
    }
    desk.write("assets.toml", assets);
    let text = format!(
        "state = 'state'\ncases = 'cases'\nexaminer = 'J. Doe'\nrules = 'rules.toml'\ninventory = 'assets.toml'\n{more}\n\
         [server]\nlisten = '127.0.0.1:0'\nmin_free_mib = 1\n\
         [[source]]\nname = 'made'\nkind = 'generic'\n[[source.authenticate]]\nscheme = 'bearer'\nsecret_files = ['secret']\n"
    );
    desk.write("serve.toml", text);
}

/// An alert about host `web{number}`.
pub(crate) fn alert(id: &str, severity: u8, number: usize) -> String {
    serde_json::json!({
        "id": id, "severity": severity, "title": "something was done to a host", "type": "test",
        "assets": [{"kind": "host", "id": format!("web{number}")}],
    })
    .to_string()
}

/// The service, running.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        command.args(["serve", "--config", "serve.toml"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, stderr) = (Arc::clone(&lines), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        let mut serving = Self { child, address: SocketAddr::from(([0; 4], 0)), lines };
        let begun = Instant::now();
        loop {
            let line = serving.line_with("\"listening\"");
            if let Some(line) = line {
                let line: Value = serde_json::from_str(&line).unwrap();
                serving.address = line["address"].as_str().unwrap().parse().unwrap();
                return serving;
            }
            let ended = serving.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(90), "{}", serving.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn line_with(&self, words: &str) -> Option<String> {
        self.lines.lock().unwrap().iter().find(|line| line.contains(words)).cloned()
    }

    /// All that it said.
    pub(crate) fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Posts; the status, or nothing if there is no answer.
    pub(crate) fn post(&self, source: &str, body: &str) -> Option<u16> {
        let mut client = Client::connect(self.address).ok()?;
        let bearer = format!("Bearer {SECRET}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        client
            .request("POST", &format!("/alerts/{source}"), &headers, body.as_bytes())
            .ok()
            .map(|answer| answer.status)
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Where a test failed, nothing of it goes on.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The jobs, the oldest first.
pub(crate) fn jobs(desk: &Desk) -> Vec<Value> {
    let listed = desk.ok(&["jobs", "list", "--config", "serve.toml", "--limit", "100000", "--json"]);
    let mut jobs: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    jobs.reverse();
    jobs
}

/// Waits until so many jobs are there and all of them have ended.
pub(crate) fn until_ended(desk: &Desk, count: usize, serving: &Serving) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let jobs = jobs(desk);
        let is_open = |job: &Value| matches!(job["state"].as_str(), Some("queued" | "running" | "waiting"));
        if jobs.len() >= count && !jobs.iter().any(is_open) {
            return jobs;
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "{jobs:#?}\n{}", serving.said());
        std::thread::sleep(Duration::from_millis(300));
    }
}

pub(crate) fn case_of(desk: &Desk, job: &Value) -> PathBuf {
    desk.path("cases").join(job["case"].as_str().unwrap_or_else(|| panic!("no case: {job:#}")))
}

/// The names of the sealed exhibits of a case, without their numbers, and how many are open.
pub(crate) fn exhibits(case: &Path) -> (Vec<String>, usize) {
    let (mut sealed, mut open) = (Vec::new(), 0);
    for folder in std::fs::read_dir(case.join("exhibits")).unwrap() {
        let folder = folder.unwrap();
        let log = std::fs::read_to_string(folder.path().join("custody.jsonl")).unwrap_or_default();
        if log.contains("\"bundle.sealed\"") {
            let name = folder.file_name().into_string().unwrap();
            sealed.push(name.split_once('-').map(|(_, name)| name.to_owned()).unwrap_or_default());
        } else {
            open += 1;
        }
    }
    sealed.sort();
    (sealed, open)
}

/// The kinds of entries of a case's log, in order.
pub(crate) fn entries(case: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(case.join("custody.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn verifies(desk: &Desk, case: &Path) {
    let verified = ran(desk.command().arg("verify").arg(case).output().unwrap());
    assert!(
        matches!(verified.code, 0 | 1) && verified.stdout.contains("CONSISTENT"),
        "{case:?}: {}{}",
        verified.stdout,
        verified.stderr
    );
}
