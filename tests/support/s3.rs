//! A proxy before an S3 server that counts, refuses, breaks and stops on purpose; and what a reader finds behind it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is asked, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// As `PUT`.
    pub(crate) method: String,
    /// With the query, as `/bucket/key?partNumber=1`.
    pub(crate) path: String,
    /// Headers as they came.
    pub(crate) head: String,
    /// Its number, from 0.
    pub(crate) number: usize,
}

impl Asked {
    /// The operation in a word.
    pub(crate) fn what(&self) -> &'static str {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let has =
            |name: &str| query.split('&').any(|part| part == name || part.starts_with(&format!("{name}=")));
        let is_bucket = path.trim_matches('/').split('/').count() < 2;
        match self.method.as_str() {
            "PUT" if has("partNumber") => "part",
            "PUT" if has("retention") => "retain",
            "PUT" => "put",
            "POST" if has("uploads") => "create",
            "POST" if has("uploadId") => "complete",
            "DELETE" if has("uploadId") => "abort",
            "DELETE" => "delete",
            "HEAD" => "head",
            "GET" if has("object-lock") => "lock",
            "GET" if is_bucket => "list",
            "GET" => "get",
            _ => "other",
        }
    }
}

/// What becomes of a request.
pub(crate) enum Fate {
    /// It is passed on, and its answer back.
    Pass,
    /// It is not passed on, and answered so.
    Answer(u16, &'static str),
    /// It is not passed on, and the connection is cut.
    Cut,
    /// It is carried out, and the connection is cut before the answer.
    CarriedOutThenCut,
    /// It is carried out, then this is done, and the connection is cut.
    CarriedOutThen(Box<dyn FnOnce() + Send>),
    /// It is carried out, and its answer is changed.
    Edited(fn(String) -> String),
    /// It is not passed on, and nothing is answered for so long.
    Silent(Duration),
}

type Decide = Box<dyn Fn(&Asked) -> Fate + Send + Sync>;

/// A proxy; it ends with the process of the tests.
pub(crate) struct Proxy {
    /// As `http://127.0.0.1:40123`.
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    decide: Arc<Mutex<Decide>>,
}

impl Proxy {
    /// Passes everything on to a server until it is told otherwise.
    pub(crate) fn before(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = server.trim_start_matches("http://").to_owned();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(|_| Fate::Pass)));
        let (log, by) = (Arc::clone(&asked), Arc::clone(&decide));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, log, by) = (server.clone(), Arc::clone(&log), Arc::clone(&by));
                std::thread::spawn(move || serve(client, &server, &log, &by));
            }
        });
        Proxy { endpoint, asked, decide }
    }

    /// Decides from now on, and counts anew.
    pub(crate) fn decide(&self, decide: impl Fn(&Asked) -> Fate + Send + Sync + 'static) {
        *self.decide.lock().unwrap() = Box::new(decide);
        self.asked.lock().unwrap().clear();
    }

    /// What was asked since.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often this was asked.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|asked| asked.what() == what).count()
    }
}

/// One connection, one request: the server's answers say that the connection is closed, and so it is.
fn serve(mut client: TcpStream, server: &str, log: &Mutex<Vec<Asked>>, decide: &Mutex<Decide>) {
    let Some((head, body)) = read_request(&mut client) else { return };
    let mut words = head.split_whitespace();
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let asked = {
        let mut log = log.lock().unwrap();
        let asked = Asked { method, path, head: head.clone(), number: log.len() };
        log.push(asked.clone());
        asked
    };
    let fate = decide.lock().unwrap()(&asked);
    let answer = match fate {
        Fate::Pass => pass(server, &head, &body),
        Fate::Edited(edit) => pass(server, &head, &body).map(|answer| {
            let text = String::from_utf8_lossy(&answer).into_owned();
            edit(text).into_bytes()
        }),
        Fate::Answer(status, code) => Some(refusal(status, code)),
        Fate::CarriedOutThenCut => {
            pass(server, &head, &body);
            None
        }
        Fate::Cut => None,
        Fate::CarriedOutThen(act) => {
            pass(server, &head, &body);
            act();
            None
        }
        Fate::Silent(time) => {
            std::thread::sleep(time);
            None
        }
    };
    match answer {
        Some(answer) => {
            let _ = client.write_all(&answer);
        }
        None => {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}

fn refusal(status: u16, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>made by the test</Message></Error>"
    );
    format!(
        "HTTP/1.1 {status} Made\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn read_request(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut block = [0; 65536];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let read = client.read(&mut block).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&block[..read]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes.split_off(end + 4);
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    if header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        let read = client.read(&mut block).ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&block[..read]);
    }
    Some((head, body))
}

fn pass(server: &str, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).ok()?;
    let mut lines = head.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("connection:") && !line.starts_with("expect:")
    });
    let mut text = format!("{}\r\n", lines.next()?);
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("Connection: close\r\n\r\n");
    upstream.write_all(text.as_bytes()).ok()?;
    upstream.write_all(body).ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// A bucket, as somebody sees it who may read all of it.
pub(crate) struct Bucket {
    server: String,
    pub(crate) name: String,
}

impl Bucket {
    /// Makes one; its name is its own.
    pub(crate) fn make(server: &str, name: &str, more: &str) -> Bucket {
        let bucket =
            Bucket { server: server.trim_start_matches("http://").to_owned(), name: name.to_owned() };
        let (status, body) = bucket.ask("PUT", "", more, b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        bucket
    }

    /// Asks the server behind the proxy.
    pub(crate) fn ask(&self, method: &str, path: &str, more: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "{method} /{}{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{more}Authorization: AWS4-HMAC-SHA256 \
             Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x\r\n",
            self.name,
            self.server,
            body.len()
        );
        let answer = pass(&self.server, head.trim_end(), body).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    /// Every key below a prefix.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let (_, body) =
                self.ask("GET", &format!("?list-type=2&prefix={prefix}&start-after={after}"), "", b"");
            let page = between(&String::from_utf8(body).unwrap(), "Key");
            match page.last() {
                Some(last) => after.clone_from(last),
                None => return keys,
            }
            keys.extend(page);
        }
    }

    /// Uploads that were begun and not ended: key and id.
    pub(crate) fn uploads(&self) -> Vec<(String, String)> {
        let (_, body) = self.ask("GET", "?uploads", "", b"");
        let text = String::from_utf8(body).unwrap();
        let keys = between(&text, "Key");
        keys.into_iter().zip(between(&text, "UploadId")).collect()
    }

    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let (status, body) = self.ask("GET", &format!("/{key}"), "", b"");
        assert_eq!(status, 200, "{key}");
        body
    }

    /// The bundle below a prefix, as a folder: what FORMAT.md says of joining its log.
    pub(crate) fn bundle(&self, prefix: &str, folder: &Path) {
        let mut entries = BTreeMap::new();
        let mut newest = (String::new(), Vec::new());
        for key in self.keys(&format!("{prefix}/")) {
            let path = key.strip_prefix(prefix).unwrap().trim_start_matches('/').to_owned();
            let bytes = self.get(&key);
            if path.starts_with("custody/") {
                entries.insert(path, bytes);
                continue;
            }
            if path.starts_with("checkpoints/") && path > newest.0 {
                newest = (path.clone(), bytes.clone());
            }
            let place = folder.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, bytes).unwrap();
        }
        let log: Vec<u8> = entries.into_values().flat_map(|line| [line, b"\n".to_vec()].concat()).collect();
        let mut frontier = custody::merkle::Frontier::new();
        log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| frontier.push(line));
        fs::write(folder.join("custody.frontier"), frontier.to_text()).unwrap();
        fs::write(folder.join("custody.jsonl"), log).unwrap();
        fs::write(folder.join("checkpoint"), newest.1).unwrap();
        fs::create_dir_all(folder.join("anchors")).unwrap();
    }
}

/// What stands between the tags of a name.
fn between(text: &str, name: &str) -> Vec<String> {
    text.split(&format!("<{name}>")).skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}
