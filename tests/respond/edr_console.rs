//! Consoles of three EDRs, played on loopback from what is documented of them: the shapes of answers, states that take a
//! while, refused rates, tokens that run out. Behind them is one host, on which scripts are truly run by `/bin/sh`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
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
    /// Where results are said to lie, instead.
    pub(crate) results_at: Option<String>,
    pub(crate) tampers: bool,
    library: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    actions: Vec<Value>,
    cwd: PathBuf,
    pub(crate) host: PathBuf,
    output: String,
    polls: u32,
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
        (self.contained, self.pending) = (contained, 2);
    }

    /// Runs a script on the host, in a folder there.
    fn run(&self, script: &str, environment: &[(&str, &Path)]) -> (i32, String) {
        let cwd = if self.cwd.as_os_str().is_empty() { &self.host } else { &self.cwd };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(cwd).env_clear().env("PATH", "/usr/bin:/bin");
        command
            .envs(environment.iter().map(|(name, value)| (name.to_string(), value.as_os_str().to_owned())));
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn put(&self, name: &str, into: &Path) {
        let mut bytes = self.library[name].clone();
        if self.tampers {
            bytes.push(b'#');
        }
        std::fs::write(into.join(name), bytes).unwrap();
    }

    /// Others let the host back when the evidence is on its way.
    fn meanwhile(&mut self) {
        if self.lifted_meanwhile {
            self.contained = false;
        }
    }
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
            plain(201, &one(json!({"session_id": "7d0ed6b8-0000-4000-8000-1d2c3b4a5968", "scripts": []})))
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
            let line = body["command_string"].as_str().unwrap();
            let (base, rest) = line.split_once(' ').unwrap();
            assert_eq!(body["base_command"], base);
            match base {
                "mkdir" => std::fs::create_dir_all(rest).unwrap(),
                "cd" => state.cwd = rest.into(),
                "put" => state.put(rest, &state.cwd),
                "runscript" => {
                    let script = rest.split("```").nth(1).unwrap();
                    state.output = state.run(script, &[]).1;
                }
                "get" => {
                    let content = std::fs::read(rest).unwrap();
                    state.files.insert(rest.to_owned(), content);
                    state.meanwhile();
                }
                other => panic!("{other}"),
            }
            state.polls = 0;
            plain(
                201,
                &one(
                    json!({"session_id": body["session_id"], "cloud_request_id": format!("req-{base}"), "queued_command_offline": false}),
                ),
            )
        }
        (
            "GET",
            "/real-time-response/entities/admin-command/v1"
            | "/real-time-response/entities/active-responder-command/v1",
        ) => {
            state.polls += 1;
            let complete = state.polls > 1;
            let stdout = if complete { state.output.clone() } else { String::new() };
            let request = parameter(&asked.query, "cloud_request_id");
            plain(
                200,
                &one(
                    json!({"session_id": "7d0e", "complete": complete, "stdout": stdout, "stderr": "", "sequence_id": 0, "cloud_request_id": request}),
                ),
            )
        }
        ("GET", "/real-time-response/entities/file/v2") => {
            state.polls += 1;
            // It takes a while to arrive.
            let files: Vec<Value> = state.files.iter().filter(|_| state.polls > 3).map(|(name, content)| {
                json!({"id": 1, "name": name, "size": content.len(), "sha256": custody::sha256(content).to_string(), "cloud_request_id": "req-get"})
            }).collect();
            plain(200, &json!({"resources": files, "errors": []}))
        }
        ("GET", "/real-time-response/entities/extracted-file-contents/v1") => {
            let (name, content) = state.files.iter().next().unwrap();
            bytes(seven_z(name, content))
        }
        ("DELETE", "/real-time-response/entities/sessions/v1") => (204, String::new(), Vec::new()),
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
            let is_done = state.polls > 1;
            let id = path.rsplit('/').next().unwrap().to_owned();
            let action = state.actions.iter_mut().find(|action| action["id"] == id.as_str()).unwrap();
            action["status"] = if is_done { "Succeeded" } else { "InProgress" }.into();
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
            let command = &body["Commands"][0];
            let value = command["params"][0]["value"].as_str().unwrap().to_owned();
            match command["type"].as_str().unwrap() {
                "PutFile" => state.put(&value, &state.host.clone()),
                "RunScript" => {
                    let script = String::from_utf8(state.library[&value].clone()).unwrap();
                    let (code, output) = state.run(&script, &[]);
                    let said = json!({"script_name": value, "exit_code": code, "script_output": output, "script_errors": ""});
                    state.files.insert("result".into(), said.to_string().into_bytes());
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
            let id = format!("10000{}", state.library.len());
            for (field, stored) in [("file", id.clone()), ("packageFile", "package".to_owned())] {
                if let Some((name, content)) = parts.get(field) {
                    state.library.insert(stored, content.clone());
                    if field == "packageFile" {
                        state.output = name.clone();
                    }
                }
            }
            plain(200, &json!({"data": {"id": id, "scriptName": "x", "packageId": null}}))
        }
        ("POST", "/remote-scripts/execute") => {
            assert_eq!(body["filter"], json!({"ids": [AGENT]}));
            let (package, output) = (state.host.join("package"), state.host.join("output"));
            for folder in [&package, &output] {
                let _ = std::fs::remove_dir_all(folder);
                std::fs::create_dir_all(folder).unwrap();
            }
            if let Some(mut content) = state.library.remove("package") {
                if state.tampers {
                    content.push(b'#');
                }
                std::fs::write(package.join(&state.output), content).unwrap();
            }
            let id = body["data"]["scriptId"].as_str().unwrap();
            let script = String::from_utf8(state.library[id].clone()).unwrap();
            let (_, said) =
                state.run(&script, &[("S1_PACKAGE_DIR_PATH", &package), ("S1_OUTPUT_DIR_PATH", &output)]);
            let mut files = vec![("stdout".to_owned(), said.into_bytes())];
            for file in std::fs::read_dir(&output).unwrap() {
                let file = file.unwrap();
                files.push((
                    format!("build-04/{}", file.file_name().to_str().unwrap()),
                    std::fs::read(file.path()).unwrap(),
                ));
            }
            state.files.insert("result".into(), zip_of(&files));
            state.polls = 0;
            if files.iter().any(|(name, _)| name.ends_with("bundle.tar")) {
                state.meanwhile();
            }
            plain(
                200,
                &json!({"data": {"affected": 1, "parentTaskId": "777", "pending": false, "pendingExecutionId": null}}),
            )
        }
        ("GET", "/remote-scripts/status") => {
            state.polls += 1;
            let status =
                ["created", "pending", "in_progress", "completed"][(state.polls as usize).min(4) - 1];
            plain(
                200,
                &json!({"data": [{"id": "778", "parentTaskId": "777", "agentId": AGENT, "status": status, "detailedStatus": ""}], "pagination": {"totalItems": 1}}),
            )
        }
        ("POST", "/remote-scripts/fetch-files") => {
            let at = state.results_at.clone().unwrap_or_else(|| format!("{base}/results/1.zip"));
            plain(
                200,
                &json!({"data": {"download_links": [{"downloadUrl": at, "fileName": "1.zip", "taskId": "778"}], "errors": []}}),
            )
        }
        ("DELETE", "/remote-scripts") => {
            state.library.remove(body["filter"]["ids"][0].as_str().unwrap());
            plain(200, &json!({"data": {"affected": 1}}))
        }
        (method, path) => {
            plain(404, &json!({"errors": [{"code": 4040010, "title": format!("{method} {path}")}]}))
        }
    }
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
