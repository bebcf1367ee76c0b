//! A service on loopback that answers as a test says, and an account at it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use acquire::aws::{Connection, Credentials, Settings};

/// What was asked.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

type Answers = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// Serves until the process ends; gives the address.
pub(crate) fn serve(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<Answers> = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || handle(stream, &*answer));
        }
    });
    format!("http://{address}")
}

fn handle(mut stream: TcpStream, answer: &Answers) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|text: &String| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = first.split_whitespace();
    let asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (status, body) = answer(&asked);
    // The answer to a HEAD has no body.
    let sent = if asked.method == "HEAD" { "" } else { &body };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", sent.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent.as_bytes())).ok()
}

/// An account at a server.
pub(crate) fn account(endpoint: &str, region: &str) -> Connection {
    Connection::open(&Settings {
        region: Some(region.to_owned()),
        profile: None,
        credentials: Some(Credentials {
            access_key_id: "AKIAEXAMPLE".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
        }),
        endpoint: Some(endpoint.to_owned()),
    })
    .unwrap()
}

/// Sends one request as it is; moto does not look at the signature. Gives status and body.
pub(crate) fn send(
    endpoint: &str,
    (method, path): (&str, &str),
    (service, region): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {service}.{region}.amazonaws.com\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=AKIAEXAMPLE/20261121/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Connection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
