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

pub(crate) fn falcon(state: &mut State, asked: &Asked, _: &str) -> Answer {
    if let Some(answer) = let_in(state, asked) {
        return answer;
    }
    let one = |value: Value| json!({"meta": {"query_time": 0.01, "trace_id": "t-1"}, "resources": [value], "errors": []});
    let body = json_of(asked);
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/devices/entities/devices/v2") => {
            let status = state.network([
                "normal",
                "contained",
                if state.contained { "containment_pending" } else { "lift_containment_pending" },
            ]);
            let host = json!({"device_id": parameter(&asked.query, "ids"), "hostname": "ws-fin-07", "status": status});
            let count = state.fits.unwrap_or(1) as usize;
            plain(200, &json!({"meta": {}, "resources": vec![host; count], "errors": []}))
        }
        ("POST", "/devices/entities/devices-actions/v2") => {
            assert_eq!(body["ids"], json!([AID]));
            state.contain(parameter(&asked.query, "action_name") == "contain");
            plain(202, &one(json!({"id": AID, "path": format!("/devices/entities/devices/v1?ids={AID}")})))
        }
        ("POST", "/real-time-response/entities/sessions/v1") => {
            assert_eq!(body["device_id"], AID);
            if state.refused_sessions > 0 {
                state.refused_sessions -= 1;
                let offline =
                    json!({"code": 40401, "message": "Could not establish sensor comms: host is not online"});
                return plain(404, &json!({"meta": {}, "resources": null, "errors": [offline]}));
            }
            let session = format!("7d0ed6b8-0000-4000-8000-{:012}", state.next());
            state.sessions.insert(session.clone());
            state.cwd = PathBuf::new();
            plain(201, &one(json!({"session_id": session, "scripts": []})))
        }
        ("GET", "/real-time-response/queries/put-files/v1") => {
            let ids: Vec<&str> = if state.library.is_empty() { vec![] } else { vec!["put_1"] };
            plain(200, &json!({"resources": ids, "errors": []}))
        }
        ("GET", "/real-time-response/entities/put-files/v2") => {
            let (name, content) = state.library.iter().next().unwrap();
            plain(
                200,
                &one(json!({"id": "put_1", "name": name, "sha256": custody::sha256(content).to_string()})),
            )
        }
        ("POST", "/real-time-response/entities/put-files/v1") => {
            let (name, content) = parts(&asked.body)["file"].clone();
            state.library.insert(name, content);
            plain(200, &json!({"meta": {"writes": {"resources_affected": 1}}, "errors": []}))
        }
        (
            "POST",
            "/real-time-response/entities/admin-command/v1"
            | "/real-time-response/entities/active-responder-command/v1",
        ) => {
            let session = body["session_id"].as_str().unwrap().to_owned();
            if !state.sessions.contains(&session) {
                let gone = json!({"code": 40401, "message": "Session not found"});
                return plain(404, &json!({"meta": {}, "resources": null, "errors": [gone]}));
            }
            let line = body["command_string"].as_str().unwrap();
            let (base, rest) = line.split_once(' ').unwrap();
            assert_eq!(body["base_command"], base);
            let request = format!("req-{}-{base}", state.next());
            let mut task = Task { session, ..Task::default() };
            let mut said = String::new();
            match base {
                "mkdir" if Path::new(rest).exists() => task.words = format!("mkdir: {rest}: File exists"),
                "mkdir" => std::fs::create_dir_all(rest).unwrap(),
                "cd" => state.cwd = rest.into(),
                "put" => state.put(rest, &state.cwd),
                "runscript" => {
                    let script = rest.split("```").nth(1).unwrap();
                    if state.warns {
                        let locale = "LC_ALL: cannot change locale (en_US.UTF-8)";
                        task.words = format!("/bin/bash: warning: setlocale: {locale}\n");
                    }
                    if state.is_fetched_at_once() {
                        said = state.run(script);
                    } else {
                        task.waits = Some(script.to_owned());
                    }
                }
                "get" => {
                    let content = std::fs::read(rest).unwrap();
                    state.fetched.push(Fetched { request: request.clone(), name: rest.to_owned(), content });
                    state.meanwhile();
                }
                other => panic!("{other}"),
            }
            *task.said.lock().unwrap() = Some(Some(said));
            let begun = json!({"session_id": task.session, "cloud_request_id": request, "queued_command_offline": false});
            state.tasks.insert(request, task);
            state.polls = 0;
            plain(201, &one(begun))
        }
        (
            "GET",
            "/real-time-response/entities/admin-command/v1"
            | "/real-time-response/entities/active-responder-command/v1",
        ) => {
            let mut task = state.tasks.remove(parameter(&asked.query, "cloud_request_id")).unwrap();
            task.polls += 1;
            let complete = task.polls > 1;
            // A session that was ended meanwhile runs nothing more.
            if complete
                && state.sessions.contains(&task.session)
                && let Some(script) = task.waits.take()
            {
                *task.said.lock().unwrap() = Some(Some(state.run(&script)));
            }
            let stdout = if complete { task.said().flatten().unwrap() } else { String::new() };
            let stderr = if complete { task.words.as_str() } else { "" };
            // Of the request's own id there is nothing in it.
            let told = json!({"session_id": task.session, "task_id": "e3f1a2b4", "complete": complete, "stdout": stdout, "stderr": stderr, "sequence_id": 0, "base_command": "x"});
            state.tasks.insert(parameter(&asked.query, "cloud_request_id").to_owned(), task);
            plain(200, &one(told))
        }
        ("GET", "/real-time-response/entities/file/v2") => {
            state.polls += 1;
            // Whatever was fetched from the host is listed, the oldest first. It takes a while to arrive.
            let is_old = |file: &Fetched| file.request.starts_with("old");
            let files: Vec<Value> = state.fetched.iter().enumerate().filter(|(_, file)| state.polls > 3 || is_old(file)).map(|(id, file)| {
                json!({"id": id, "name": file.name, "size": file.content.len(), "sha256": custody::sha256(&file.content).to_string(), "cloud_request_id": file.request})
            }).collect();
            plain(200, &json!({"resources": files, "errors": []}))
        }
        ("DELETE", "/real-time-response/entities/file/v2") => {
            state.fetched.remove(parameter(&asked.query, "ids").parse().unwrap());
            (204, String::new(), Vec::new())
        }
        ("GET", "/real-time-response/entities/extracted-file-contents/v1") => {
            let hash = parameter(&asked.query, "sha256");
            let file = state.fetched.iter().find(|file| custody::sha256(&file.content).to_string() == hash);
            let file = file.unwrap();
            bytes(seven_z(&file.name, &file.content))
        }
        ("DELETE", "/real-time-response/entities/sessions/v1") => {
            state.sessions.remove(parameter(&asked.query, "session_id"));
            (204, String::new(), Vec::new())
        }
        (method, path) => {
            plain(404, &json!({"errors": [{"code": 404, "message": format!("{method} {path}")}]}))
        }
    }
}

pub(crate) fn defender(state: &mut State, asked: &Asked, base: &str) -> Answer {
    if asked.path.starts_with("/results/") {
        assert!(!asked.authorization.is_empty(), "it is on the API's own host here");
        return bytes(state.files["result"].clone());
    }
    if let Some(answer) = let_in(state, asked) {
        return answer;
    }
    let body = json_of(asked);
    let begin = |state: &mut State, kind: &str, commands: Value| {
        let number = state.actions.len() + 1;
        let action = json!({
            "id": format!("5382f7ea-0000-4000-8000-{number:012}"), "type": kind, "status": "Pending", "machineId": MACHINE,
            "creationDateTimeUtc": format!("2026-11-20T12:{number:02}:00.0000001Z"), "commands": commands,
        });
        state.actions.push(action.clone());
        state.polls = 0;
        plain(201, &action)
    };
    let path = asked.path.as_str();
    match (asked.method.as_str(), path) {
        ("GET", "/api/machineactions") => {
            // They go on whether anybody asks for them by their id or not.
            state.polls += 1;
            let is_done = state.polls > 2 && !state.is_away;
            for action in
                state.actions.iter_mut().filter(|action| is_done && action["type"] != "LiveResponse")
            {
                action["status"] = "Succeeded".into();
            }
            let known: Vec<&Value> =
                state.actions.iter().filter(|action| action["type"] != "LiveResponse").collect();
            plain(200, &json!({"value": known}))
        }
        ("GET", _) if path.contains("GetLiveResponseResultDownloadLink") => {
            let at = state.results_at.clone().unwrap_or_else(|| format!("{base}/results/1?sig=x"));
            plain(200, &json!({"@odata.context": "x", "value": at}))
        }
        ("GET", _) if path.starts_with("/api/machineactions/") => {
            state.polls += 1;
            let id = path.rsplit('/').next().unwrap().to_owned();
            let mut status = if state.polls > 1 && !state.is_away { "Succeeded" } else { "InProgress" };
            if status == "Succeeded"
                && let Some(mut task) = state.tasks.remove(&id)
                && let Some(name) = task.waits.take()
            {
                // Only now: what was deleted from the library meanwhile is not run.
                match state.library.get(&name).map(|script| String::from_utf8(script.clone()).unwrap()) {
                    Some(script) => script_result(state, &name, &script),
                    None => status = "Failed",
                }
            }
            let action = state.actions.iter_mut().find(|action| action["id"] == id.as_str()).unwrap();
            action["status"] = status.into();
            plain(200, action)
        }
        ("GET", _) if path.starts_with("/api/machines/") => {
            plain(200, &json!({"id": MACHINE, "computerDnsName": "ws-fin-07"}))
        }
        ("POST", "/api/libraryfiles") => {
            let (name, content) = parts(&asked.body)["file"].clone();
            state.library.insert(name, content);
            plain(200, &json!({}))
        }
        ("GET", "/api/libraryfiles") => {
            let files: Vec<Value> = state.library.iter().map(|(name, content)| json!({"fileName": name, "sha256": custody::sha256(content).to_string()})).collect();
            plain(200, &json!({"value": files}))
        }
        ("DELETE", _) if path.starts_with("/api/libraryfiles/") => {
            state.library.remove(path.rsplit('/').next().unwrap());
            (204, String::new(), Vec::new())
        }
        ("POST", _) if path.ends_with("/isolate") || path.ends_with("/unisolate") => {
            assert!(path.contains(MACHINE) && !body["Comment"].as_str().unwrap().is_empty());
            let isolates = path.ends_with("/isolate");
            assert_eq!(body["IsolationType"] == "Full", isolates);
            state.contained = isolates;
            begin(state, if isolates { "Isolate" } else { "Unisolate" }, Value::Null)
        }
        ("POST", _) if path.ends_with("/runliveresponse") => {
            let is_open =
                |action: &&Value| matches!(action["status"].as_str(), Some("Pending" | "InProgress"));
            if let Some(open) = state.actions.iter().find(is_open).cloned() {
                // One at a time. Nobody waits for it any more, so it goes on here.
                let id = open["id"].as_str().unwrap().to_owned();
                let on = Asked {
                    method: "GET".into(),
                    path: format!("/api/machineactions/{id}"),
                    query: String::new(),
                    authorization: asked.authorization.clone(),
                    body: Vec::new(),
                };
                let _ = defender(state, &on, base);
                let busy = json!({"error": {"code": "ActiveRequestAlreadyExists", "message": "Action is already in progress"}});
                return plain(400, &busy);
            }
            let command = &body["Commands"][0];
            let value = command["params"][0]["value"].as_str().unwrap().to_owned();
            match command["type"].as_str().unwrap() {
                "PutFile" => state.put(&value, &state.host.clone()),
                "RunScript" => {
                    if state.is_fetched_at_once() {
                        let script = String::from_utf8(state.library[&value].clone()).unwrap();
                        script_result(state, &value, &script);
                    } else {
                        let id = format!("5382f7ea-0000-4000-8000-{:012}", state.actions.len() + 1);
                        state.tasks.insert(id, Task { waits: Some(value.clone()), ..Task::default() });
                    }
                }
                "GetFile" => {
                    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    packer.write_all(&std::fs::read(&value).unwrap()).unwrap();
                    state.files.insert("result".into(), packer.finish().unwrap());
                    state.meanwhile();
                    if state.lifted_meanwhile {
                        let _ = begin(state, "Unisolate", Value::Null);
                        state.actions.last_mut().unwrap()["status"] = "Succeeded".into();
                    }
                }
                other => panic!("{other}"),
            }
            begin(
                state,
                "LiveResponse",
                json!([{"index": 0, "commandStatus": "Completed", "errors": [], "command": command}]),
            )
        }
        (method, path) => {
            plain(404, &json!({"error": {"code": "ResourceNotFound", "message": format!("{method} {path}")}}))
        }
    }
}

/// Runs a script through live response.
fn script_result(state: &mut State, name: &str, script: &str) {
    let output = state.run(script);
    let said = json!({"script_name": name, "exit_code": 0, "script_output": output, "script_errors": ""});
    state.files.insert("result".into(), said.to_string().into_bytes());
}

pub(crate) fn sentinelone(state: &mut State, asked: &Asked, base: &str) -> Answer {
    if asked.authorization != "ApiToken s3cr/t" {
        return plain(
            401,
            &json!({"errors": [{"code": 4010010, "detail": null, "title": "Authentication Failed"}]}),
        );
    }
    if asked.path == "/results/1.zip" {
        return bytes(state.files["result"].clone());
    }
    let body = json_of(asked);
    match (asked.method.as_str(), asked.path.strip_prefix("/web/api/v2.1").unwrap()) {
        ("GET", "/agents") => {
            let status = state.network([
                "connected",
                "disconnected",
                if state.contained { "disconnecting" } else { "connecting" },
            ]);
            let agent =
                json!({"id": AGENT, "computerName": "build-04", "networkStatus": status, "osType": "linux"});
            let count = state.fits.unwrap_or(1);
            plain(
                200,
                &json!({"data": vec![agent; count.min(10) as usize], "pagination": {"totalItems": count, "nextCursor": null}}),
            )
        }
        ("POST", act @ ("/agents/actions/disconnect" | "/agents/actions/connect")) => {
            assert_eq!(body, json!({"filter": {"ids": [AGENT]}, "data": {}}));
            state.contain(act.ends_with("disconnect"));
            plain(200, &json!({"data": {"affected": 1}}))
        }
        ("POST", "/remote-scripts") => {
            let parts = parts(&asked.body);
            assert_eq!(
                (parts["osTypes"].1.as_slice(), parts["scopeId"].1.as_slice()),
                (b"linux".as_slice(), b"225494730938493804".as_slice())
            );
            let id = format!("10000{}", state.next());
            for (field, stored) in [("file", id.clone()), ("packageFile", "package".to_owned())] {
                if let Some((name, content)) = parts.get(field) {
                    state.library.insert(stored, content.clone());
                    if field == "packageFile" {
                        state.package = name.clone();
                    }
                }
            }
            plain(200, &json!({"data": {"id": id, "scriptName": "x", "packageId": null}}))
        }
        ("POST", "/remote-scripts/execute") => {
            assert_eq!(body["filter"], json!({"ids": [AGENT]}));
            if state.wants_approval {
                let pending = json!({"affected": 1, "parentTaskId": null, "pending": true, "pendingExecutionId": "9001"});
                return plain(200, &json!({"data": pending}));
            }
            let task = state.next().to_string();
            let id = body["data"]["scriptId"].as_str().unwrap().to_owned();
            state.tasks.insert(task.clone(), Task { waits: Some(id), ..Task::default() });
            if state.is_fetched_at_once() {
                script_task(state, &task);
            }
            plain(
                200,
                &json!({"data": {"affected": 1, "parentTaskId": task, "pending": false, "pendingExecutionId": null}}),
            )
        }
        ("GET", "/remote-scripts/status") => {
            let task = parameter(&asked.query, "parentTaskId").to_owned();
            let is_due = {
                let task = state.tasks.get_mut(&task).unwrap();
                task.polls += 1;
                task.polls > 2 && task.waits.is_some()
            };
            if is_due {
                script_task(state, &task);
            }
            let status = match (state.tasks[&task].polls, state.tasks[&task].said()) {
                (0..=1, _) => "created",
                (2, _) => "pending",
                (3, _) | (_, None) => "in_progress",
                (_, Some(None)) => "failed",
                (_, Some(Some(_))) => "completed",
            };
            plain(
                200,
                &json!({"data": [{"id": task, "parentTaskId": task, "agentId": AGENT, "status": status, "detailedStatus": ""}], "pagination": {"totalItems": 1}}),
            )
        }
        ("POST", "/remote-scripts/fetch-files") => {
            let task = body["data"]["taskIds"][0].as_str().unwrap().to_owned();
            let mut files =
                vec![("stdout".to_owned(), state.tasks[&task].said().flatten().unwrap().into_bytes())];
            for file in std::fs::read_dir(state.host.join(format!("output-{task}"))).unwrap() {
                let file = file.unwrap();
                let name = format!("build-04/{}", file.file_name().to_str().unwrap());
                files.push((name, std::fs::read(file.path()).unwrap()));
            }
            if files.iter().any(|(name, _)| name.ends_with("bundle.tar")) {
                state.meanwhile();
            }
            state.files.insert("result".into(), zip_of(&files));
            let at = state.results_at.clone().unwrap_or_else(|| format!("{base}/results/1.zip"));
            plain(
                200,
                &json!({"data": {"download_links": [{"downloadUrl": at, "fileName": "1.zip", "taskId": task}], "errors": []}}),
            )
        }
        ("DELETE", "/remote-scripts") => {
            state.library.remove(body["filter"]["ids"][0].as_str().unwrap());
            // A package goes with its script.
            state.library.remove("package");
            plain(200, &json!({"data": {"affected": 1}}))
        }
        (method, path) => {
            plain(404, &json!({"errors": [{"code": 4040010, "title": format!("{method} {path}")}]}))
        }
    }
}

/// The host fetches the script of a task with its package and runs it, for as long as it takes.
fn script_task(state: &mut State, task: &str) {
    let (package, output) =
        (state.host.join(format!("package-{task}")), state.host.join(format!("output-{task}")));
    for folder in [&package, &output] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let script = state.tasks.get_mut(task).unwrap().waits.take().unwrap();
    let said = state.tasks[task].said.clone();
    let Some(script) = state.library.get(&script).map(|script| String::from_utf8(script.clone()).unwrap())
    else {
        // It was deleted meanwhile.
        *said.lock().unwrap() = Some(None);
        return;
    };
    if let Some(mut content) = state.library.remove("package") {
        if state.tampers {
            content.push(b'#');
        }
        std::fs::write(package.join(&state.package), content).unwrap();
    }
    let host = state.host.clone();
    std::thread::spawn(move || {
        let folders = [("S1_PACKAGE_DIR_PATH", package), ("S1_OUTPUT_DIR_PATH", output)];
        let text = run(&script, &host, &folders);
        *said.lock().unwrap() = Some(Some(text));
    });
}

/// A zip of stored files.
fn zip_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, plain) in files {
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        let size = (plain.len() as u32).to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend([size, size].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let at = body.len() as u32;
        body.extend([b"PK\x03\x04".as_slice(), &common, name.as_bytes(), plain].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0".as_slice(), &common, &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let (at, size) = (body.len() as u32, directory.len() as u32);
    let count = (files.len() as u16).to_le_bytes();
    [
        &body,
        &directory,
        b"PK\x05\x06\0\0\0\0".as_slice(),
        &count,
        &count,
        &size.to_le_bytes(),
        &at.to_le_bytes(),
        &[0, 0],
    ]
    .concat()
}
