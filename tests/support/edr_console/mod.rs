//! Consoles of three EDRs, played on loopback from what is documented of them: the shapes of answers, states that take a
//! while, refused rates, tokens that run out. Behind them is one host, on which scripts are truly run by `/bin/sh`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

mod defender;
mod falcon;
mod sentinelone;

pub(crate) use defender::defender;
pub(crate) use falcon::falcon;
pub(crate) use sentinelone::sentinelone;

pub(crate) const AID: &str = "4d92d2adf9009775a446ce0fe2689900";
pub(crate) const MACHINE: &str = "73e7e2de709dff64ef64b1d0c30e67fab6327900";
pub(crate) const AGENT: &str = "1395119999999999999";

/// One request, as it came.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: String,
    pub(crate) body: Vec<u8>,
}

/// An answer: status, header, body.
pub(crate) type Answer = (u16, String, Vec<u8>);

/// What the consoles know, and how they misbehave.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) contained: bool,
    /// States that are given before the next one holds.
    pub(crate) pending: u32,
    pub(crate) asked: Vec<String>,
    tokens: u32,
    /// Requests after which the token no longer holds.
    pub(crate) token_ends_after: Option<u32>,
    since_token: u32,
    /// Requests that are refused for their rate.
    pub(crate) too_many: u32,
    /// How many hosts a filter fits.
    pub(crate) fits: Option<u64>,
    /// Who lets the host back while we collect.
    pub(crate) lifted_meanwhile: bool,
    /// Who contains it while we collect.
    pub(crate) contained_meanwhile: bool,
    /// Where results are said to lie, instead.
    pub(crate) results_at: Option<String>,
    pub(crate) tampers: bool,
    /// The host is not online: what is to change there does not.
    pub(crate) is_away: bool,
    /// Sessions with the host that are refused because it is away.
    pub(crate) refused_sessions: u32,
    /// A shell on the host warns of its language.
    pub(crate) warns: bool,
    /// A second person must approve scripts.
    pub(crate) wants_approval: bool,
    /// Who sets this does so when the first script has begun; from then on the host fetches scripts late.
    pub(crate) stop: Option<Arc<AtomicBool>>,
    is_late: bool,
    library: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    /// What was fetched from the host, for RTR.
    pub(crate) fetched: Vec<Fetched>,
    sessions: BTreeSet<String>,
    tasks: BTreeMap<String, Task>,
    number: u32,
    actions: Vec<Value>,
    cwd: PathBuf,
    pub(crate) host: PathBuf,
    package: String,
    polls: u32,
}

/// A file that RTR fetched from the host, by which request.
pub(crate) struct Fetched {
    pub(crate) request: String,
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// Something that goes on on the host.
#[derive(Default)]
struct Task {
    polls: u32,
    /// The name in the library of a script that the host did not fetch yet.
    waits: Option<String>,
    session: String,
    words: String,
    /// What it said, once it has ended; nothing if it could not be fetched.
    said: Arc<Mutex<Option<Option<String>>>>,
}

impl Task {
    fn said(&self) -> Option<Option<String>> {
        self.said.lock().unwrap().clone()
    }
}

impl State {
    pub(crate) fn library(&self) -> Vec<String> {
        self.library.keys().cloned().collect()
    }

    fn network(&mut self, words: [&'static str; 3]) -> &'static str {
        if self.pending > 0 {
            self.pending -= 1;
            return words[2];
        }
        words[usize::from(self.contained)]
    }

    fn contain(&mut self, contained: bool) {
        (self.contained, self.pending) = (contained, if self.is_away { u32::MAX } else { 2 });
    }

    /// Others contained the host long ago.
    pub(crate) fn is_contained_already(&mut self) {
        self.contained = true;
        self.actions.push(json!({
            "id": "5382f7ea-0000-4000-8000-000000000000", "type": "Isolate", "status": "Succeeded", "machineId": MACHINE,
            "creationDateTimeUtc": "2026-11-19T12:00:00.0000001Z", "commands": null,
        }));
    }

    /// The host is there again, and does what it was asked to meanwhile.
    pub(crate) fn comes_back(&mut self) {
        (self.is_away, self.pending) = (false, 0);
        for action in &mut self.actions {
            action["status"] = "Succeeded".into();
        }
    }

    /// Runs a script on the host, in a folder there.
    fn run(&self, script: &str) -> String {
        let cwd = if self.cwd.is_dir() { &self.cwd } else { &self.host };
        run(script, cwd, &[])
    }

    /// A script has been asked for: whether the host fetches it at once.
    fn is_fetched_at_once(&mut self) -> bool {
        let is_at_once = !self.is_late;
        if let Some(stop) = &self.stop {
            stop.store(true, Ordering::Relaxed);
            self.is_late = true;
        }
        is_at_once
    }

    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn put(&self, name: &str, into: &Path) {
        let mut bytes = self.library[name].clone();
        if self.tampers {
            bytes.push(b'#');
        }
        std::fs::write(into.join(name), bytes).unwrap();
    }

    /// Others let the host back, or contain it, when the evidence is on its way.
    fn meanwhile(&mut self) {
        if self.lifted_meanwhile {
            self.contained = false;
        }
        if self.contained_meanwhile {
            self.contained = true;
        }
    }
}

/// Runs a script on the host.
fn run(script: &str, cwd: &Path, environment: &[(&str, PathBuf)]) -> String {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(cwd).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(environment.iter().map(|(name, value)| (name.to_string(), value.as_os_str().to_owned())));
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A console that listens.
pub(crate) struct Console {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Console {
    pub(crate) fn start(host: &Path, answer: fn(&mut State, &Asked, &str) -> Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { host: host.to_owned(), ..State::default() }));
        let (shared, base) = (state.clone(), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, base) = (shared.clone(), base.clone());
                std::thread::spawn(move || serve(stream, &shared, &base, answer));
            }
        });
        Self { url, state }
    }

    pub(crate) fn asked(&self, what: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|asked| asked.starts_with(what)).count()
    }
}

fn serve(
    stream: TcpStream,
    state: &Mutex<State>,
    base: &str,
    answer: fn(&mut State, &Asked, &str) -> Answer,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let asked = Asked { method: method.into(), path: path.into(), query: query.into(), authorization, body };
    let (status, headers, body) = {
        let mut state = state.lock().unwrap();
        state.asked.push(format!("{method} {path}"));
        let is_token = path.ends_with("/token");
        if !is_token && state.too_many > 0 {
            state.too_many -= 1;
            (
                429,
                "Retry-After: 0\r\n".to_owned(),
                b"{\"errors\":[{\"code\":429,\"message\":\"API rate limit exceeded.\"}]}".to_vec(),
            )
        } else {
            answer(&mut state, &asked, base)
        }
    };
    let mut stream = stream;
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn plain(status: u16, value: &Value) -> Answer {
    (status, "Content-Type: application/json\r\n".to_owned(), value.to_string().into_bytes())
}

fn bytes(body: Vec<u8>) -> Answer {
    (200, "Content-Type: application/octet-stream\r\n".to_owned(), body)
}

fn json_of(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap_or_default()
}

/// A token, or whether the one that came still holds.
fn let_in(state: &mut State, asked: &Asked) -> Option<Answer> {
    if asked.path.ends_with("/token") {
        let form = String::from_utf8_lossy(&asked.body).into_owned();
        if !form.contains("client_secret=s3cr%2Ft") {
            return Some(plain(
                401,
                &json!({"error": "invalid_client", "error_description": "s3cr/t is wrong"}),
            ));
        }
        state.tokens += 1;
        state.since_token = 0;
        let token = format!("token-{}", state.tokens);
        return Some(plain(201, &json!({"access_token": token, "expires_in": 1799, "token_type": "bearer"})));
    }
    state.since_token += 1;
    let is_over = state.token_ends_after.is_some_and(|most| state.since_token > most);
    if is_over || asked.authorization != format!("Bearer token-{}", state.tokens) {
        return Some(plain(
            401,
            &json!({"errors": [{"code": 401, "message": "access denied, invalid bearer token"}]}),
        ));
    }
    None
}

fn parameter<'a>(query: &'a str, name: &str) -> &'a str {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

/// Fields and files of a multipart form.
fn parts(body: &[u8]) -> BTreeMap<String, (String, Vec<u8>)> {
    let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
    let boundary = &body[..end];
    let mut found = BTreeMap::new();
    let starts: Vec<usize> = body
        .windows(boundary.len())
        .enumerate()
        .filter(|(_, window)| *window == boundary)
        .map(|(at, _)| at)
        .collect();
    for pair in starts.windows(2) {
        let part = &body[pair[0] + boundary.len() + 2..pair[1] - 2];
        let split = part.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&part[..split]).into_owned();
        let word = |name: &str| Some(head.split_once(&format!("{name}=\""))?.1.split('"').next()?.to_owned());
        let name = head.split_once("; name=\"").unwrap().1.split('"').next().unwrap().to_owned();
        found.insert(name, (word("filename").unwrap_or_default(), part[split + 4..].to_vec()));
    }
    found
}

/// As RTR packs what it hands out.
fn seven_z(name: &str, plain: &[u8]) -> Vec<u8> {
    use sevenz_rust2::encoder_options::AesEncoderOptions;
    use sevenz_rust2::{ArchiveEntry, ArchiveWriter, EncoderMethod, Password};
    let mut writer = ArchiveWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    writer.set_content_methods(vec![
        AesEncoderOptions::new(Password::from("infected")).into(),
        EncoderMethod::LZMA2.into(),
    ]);
    writer.push_archive_entry(ArchiveEntry::new_file(name), Some(plain)).unwrap();
    writer.finish().unwrap().into_inner()
}
