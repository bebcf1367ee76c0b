//! A small server of ranges, as Azure's blob storage and plain HTTP servers give them, that fails when it is told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// The secret part of every address of this server.
pub(crate) const SIGNATURE: &str = "TOPSECRETSIGNATURE";

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) target: String,
    headers: HashMap<String, String>,
    /// How many requests this server had before.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_list(&self) -> bool {
        self.target.contains("comp=pagelist")
    }

    /// First byte and the one behind the last that were asked for.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let range = [self.header("x-ms-range"), self.header("range")].concat();
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?')?.1;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A status and Azure's code of the error.
    Status(u16, &'static str),
    /// Half of the body comes.
    Truncated,
    /// The body is not what its MD5 says.
    WrongMd5,
    /// Another ETag.
    Changed,
    /// This body for a list.
    List(String),
    /// Nothing: it tells this MD5 of the whole, base64, as Google's storage does.
    Told(String),
}

pub(crate) struct RangeServer {
    pub(crate) address: String,
    requests: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl RangeServer {
    /// Serves `bytes` at any path, of which `pages` (first byte, length) are listed.
    pub(crate) fn start(
        bytes: Vec<u8>,
        pages: Vec<(u64, u64)>,
        fault: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let shared = Arc::new((bytes, pages, fault, Arc::clone(&requests), Arc::clone(&seen)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let (bytes, pages, fault, requests, seen) = &*shared;
                    let Some(mut asked) = asked(&stream) else { return };
                    asked.before = requests.fetch_add(1, Ordering::Relaxed);
                    let fault = fault(&asked);
                    seen.lock().unwrap().push(asked.clone());
                    answer(stream, &asked, fault, bytes, pages);
                });
            }
        });
        Self { address, requests, seen }
    }

    /// A signed address of the object.
    pub(crate) fn signed(&self) -> String {
        format!("{}/disks/web01.vhd?se=2026-11-22T00%3A00%3A00Z&sig={SIGNATURE}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

fn asked(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.trim().split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Asked { method, target, headers, before: 0 })
}

fn answer(stream: TcpStream, asked: &Asked, fault: Option<Fault>, bytes: &[u8], pages: &[(u64, u64)]) {
    let size = bytes.len();
    let etag = if fault == Some(Fault::Changed) { "\"two\"" } else { "\"one\"" };
    let mut head = format!(
        "ETag: {etag}\r\nLast-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\nx-ms-blob-type: PageBlob\r\n"
    );
    if let Some(Fault::Status(status, code)) = fault {
        send(stream, status, &format!("x-ms-error-code: {code}\r\n"), b"", 0);
        return;
    }
    if asked.is_list() {
        let (from, to) = asked.range().unwrap_or((0, size));
        let text = match fault {
            Some(Fault::List(text)) => text,
            _ => list(pages, from as u64, to as u64),
        };
        send(stream, 200, &head, text.as_bytes(), text.len());
        return;
    }
    if asked.method == "HEAD" {
        send(stream, 200, &head, b"", size);
        return;
    }
    if !matches!(asked.header("if-match"), "" | "\"one\"") {
        send(stream, 412, "x-ms-error-code: ConditionNotMet\r\n", b"", 0);
        return;
    }
    if let Some(Fault::Told(md5)) = &fault {
        head += &format!("x-goog-hash: crc32c=AAAAAA==,md5={md5}\r\n");
    }
    let (from, to) = asked.range().unwrap_or((0, size));
    let to = to.min(size);
    let mut body = bytes[from..to].to_vec();
    let md5 = STANDARD.encode(Md5::digest(&body));
    head += &format!("Content-MD5: {md5}\r\nContent-Range: bytes {from}-{}/{size}\r\n", to - 1);
    if fault == Some(Fault::WrongMd5) {
        body[0] ^= 1;
    }
    let length = body.len();
    if fault == Some(Fault::Truncated) {
        body.truncate(length / 2);
    }
    send(stream, 206, &head, &body, length);
}

/// The list of pages within a window.
pub(crate) fn list(pages: &[(u64, u64)], from: u64, to: u64) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>".to_owned();
    for (start, length) in pages {
        let (start, end) = ((*start).max(from), (start + length).min(to));
        if start < end {
            text += &format!("<PageRange><Start>{start}</Start><End>{}</End></PageRange>", end - 1);
        }
    }
    text + "</PageList>"
}

fn send(mut stream: TcpStream, status: u16, head: &str, body: &[u8], length: usize) {
    let head = format!("HTTP/1.1 {status} X\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
