//! A small HTTP server on loopback that keeps the headers: alone, or before another server whose answers it may change.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Makes servers; each goes on until the process ends.
pub(crate) struct Front;

impl Front {
    /// A server that answers by itself. Gives its address.
    pub(crate) fn alone(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read_request(&mut reader) {
                        let response = answer(&request);
                        if write_response(&stream, &request.method, &response).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        format!("http://{address}")
    }

    /// A server before `origin`: `answer` may pass a request on, and change what comes back.
    pub(crate) fn before(
        origin: &str,
        answer: impl Fn(&Request, &dyn Fn(&Request) -> Response) -> Response + Send + Sync + 'static,
    ) -> String {
        let origin = origin.to_owned();
        Self::alone(move |request| answer(request, &|request| send(&origin, request)))
    }
}

/// Sends a request, and reads the answer.
pub(crate) fn send(server: &str, request: &Request) -> Response {
    let host = server.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method, request.target);
    let own = ["host", "connection", "content-length", "transfer-encoding"];
    for (name, value) in
        request.headers.iter().filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()))
    {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let status = first.split_whitespace().nth(1).unwrap().parse().unwrap();
    let headers = read_headers(&mut reader);
    let length = value_of(&headers, "content-length").and_then(|length| length.parse::<u64>().ok());
    let mut body = Vec::new();
    if request.method != "HEAD" {
        reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body).unwrap();
    }
    Response { status, headers, body }
}

fn value_of<'h>(headers: &'h [(String, String)], wanted: &str) -> Option<&'h str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

fn read_headers(reader: &mut impl BufRead) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            return headers;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = read_headers(reader);
    let length = value_of(&headers, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, target, headers, body })
}

fn write_response(mut stream: &TcpStream, method: &str, response: &Response) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\n", response.status);
    let is_head = method == "HEAD";
    for (name, value) in &response.headers {
        let name_is = |other: &str| name.eq_ignore_ascii_case(other);
        if !name_is("connection") && !name_is("transfer-encoding") && (is_head || !name_is("content-length"))
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !is_head {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if is_head { Ok(()) } else { stream.write_all(&response.body) }
}
