//! As much of HTTP/1.1 as clients of the EBS direct APIs speak.

use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;

/// A request without its body, of which EC2's form is kept.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Fields of a form in the body, as EC2 and STS are asked.
    pub(crate) form: BTreeMap<String, String>,
}

impl Request {
    /// The next request of a connection; `None` at its end.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self { method, path: unescaped(path), query: fields(query), ..Self::default() };
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length =
            request.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        reader.take(length).read_to_end(&mut body)?;
        request.form = fields(&String::from_utf8_lossy(&body));
        Ok(Some(request))
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

fn fields(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (unescaped(name), unescaped(value)))
        .collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Head and body in as few calls as it takes.
pub(crate) fn write(mut to: &TcpStream, head: &str, body: &[u8]) -> io::Result<()> {
    let (mut head, mut body) = (head.as_bytes(), body);
    while !head.is_empty() || !body.is_empty() {
        let sent = to.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
        if sent == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        let of_head = sent.min(head.len());
        head = &head[of_head..];
        body = &body[sent - of_head..];
    }
    Ok(())
}

pub(crate) fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Makes the end of a connection a reset: what is closed with a time of zero to linger says no farewell.
pub(crate) fn reset(connection: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(connection, Some(std::time::Duration::ZERO));
}
