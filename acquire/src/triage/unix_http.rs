//! A small HTTP/1.1 client for daemons that listen at a Unix socket.
//!
//! The daemon is not trusted. Head, body and the time for all of it are limited; what comes beyond is cut and said so.
//! Reference: RFC 9112.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a head, or of the line before a chunk.
const HEAD: usize = 64 << 10;

/// How much is waited for, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimits {
    /// For request and answer together.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
}

/// An answer, or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of its first line.
    pub status: u16,
    /// What came of the body.
    pub body: Vec<u8>,
    /// Why the body is not whole.
    pub cut: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// `GET`
    Get,
    /// `POST` of a JSON document; an empty one has no body.
    Post(&'a str),
    /// `DELETE`
    Delete,
}

/// Asks a daemon for a target such as `/version`.
///
/// # Errors
///
/// What the system says, `TimedOut`, or `InvalidData` for what is no HTTP. Of a body that began, the beginning is given.
pub fn get(socket: &Path, target: &str, limits: AnswerLimits) -> io::Result<Answer> {
    request(socket, Ask::Get, target, limits)
}

/// Asks a daemon for something, or to do something. Nothing is sent twice: whether it was done when no answer came is not known.
///
/// # Errors
///
/// As [`get`], and `InvalidInput` for a target that is more than one word.
pub fn request(socket: &Path, ask: Ask<'_>, target: &str, limits: AnswerLimits) -> io::Result<Answer> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a target must be one word of ASCII"));
    }
    let (method, body) = match ask {
        Ask::Get => ("GET", None),
        Ask::Post(body) => ("POST", Some(body)),
        Ask::Delete => ("DELETE", None),
    };
    let length = body.map_or_else(String::new, |body| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        format!("{kind}Content-Length: {}\r\n", body.len())
    });
    let mut stream = Timed::connect(socket, limits.time)?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: exhibit\r\nAccept: */*\r\nConnection: close\r\n{length}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.unwrap_or_default().as_bytes())?;
    let mut incoming = Incoming { stream, held: Vec::new() };
    let (status, head) = loop {
        let head = incoming.until(b"\r\n\r\n")?;
        let status = status_of(&head)?;
        // 100 Continue and the like go before the answer.
        if status >= 200 {
            break (status, head);
        }
    };
    let mut body = Vec::new();
    // These have none, whatever their head says.
    if matches!(status, 204 | 304) {
        return Ok(Answer { status, body, cut: None });
    }
    let result = match header(&head, "transfer-encoding") {
        Some(coding) if coding.eq_ignore_ascii_case("chunked") => incoming.chunks(&mut body, limits.body),
        Some(coding) => Err(invalid(&format!("transfer coding {coding:?}"))),
        None => match header(&head, "content-length") {
            Some(length) => match length.parse::<u64>() {
                Ok(length) => incoming.exactly(length, &mut body, limits.body),
                Err(_) => Err(invalid("a length that is no number")),
            },
            None => incoming.exactly(u64::MAX, &mut body, limits.body),
        },
    };
    Ok(Answer { status, body, cut: result.err().map(|error| error.to_string()) })
}

/// A socket that gives up once the time for all of it is over, however slowly bytes come.
pub(crate) struct Timed {
    stream: UnixStream,
    end: Instant,
}

impl Timed {
    /// Connects. That alone may wait, when the daemon's queue is full, so the caller should be patient but bounded.
    pub(crate) fn connect(socket: &Path, time: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let end = Instant::now().checked_add(time).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { stream, end })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"))
        } else {
            Ok(left)
        }
    }
}

impl Read for Timed {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(room) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                other => return other,
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is no HTTP: {what}"))
}

struct Incoming {
    stream: Timed,
    held: Vec<u8>,
}

impl Incoming {
    /// Reads more; whether there was any.
    fn more(&mut self) -> io::Result<bool> {
        let mut block = [0; 16 << 10];
        let read = self.stream.read(&mut block)?;
        self.held.extend_from_slice(block.get(..read).unwrap_or_default());
        Ok(read > 0)
    }

    /// Takes all up to and with a mark, which must come soon.
    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let mut searched = 0usize;
        loop {
            let there = self.held.get(searched..).unwrap_or_default();
            if let Some(at) = there.windows(mark.len()).position(|part| part == mark) {
                let end = searched.saturating_add(at).saturating_add(mark.len()).min(self.held.len());
                return Ok(self.held.drain(..end).collect());
            }
            searched = self.held.len().saturating_sub(mark.len());
            if self.held.len() > HEAD {
                return Err(invalid("a line or head without end"));
            }
            if !self.more()? {
                return Err(invalid("it ended within a line or head"));
            }
        }
    }

    /// Moves `length` bytes into the body, or those before the end if the length was not told.
    fn exactly(&mut self, length: u64, body: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.held.is_empty() && !self.more()? {
                let told = length != u64::MAX;
                return if told { Err(invalid("it ended before its length")) } else { Ok(()) };
            }
            let room = most.saturating_sub(body.len());
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.held.len());
            body.extend(self.held.drain(..take.min(room)));
            if take > room {
                return Err(io::Error::other(format!("only the first {most} bytes were taken")));
            }
            left = left.saturating_sub(take as u64);
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>, most: usize) -> io::Result<()> {
        loop {
            let line = self.until(b"\r\n")?;
            let line = std::str::from_utf8(&line).map_err(|_| invalid("a chunk without length"))?;
            let length = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(length, 16).map_err(|_| invalid("a chunk without length"))?;
            if length == 0 {
                return Ok(());
            }
            // The largest one stands for "until the end" and is none that a daemon could mean.
            self.exactly(length.min(u64::MAX - 1), body, most)?;
            if self.until(b"\r\n")?.len() != 2 {
                return Err(invalid("a chunk longer than its length"));
            }
        }
    }
}

fn status_of(head: &[u8]) -> io::Result<u16> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| invalid("its first line"))?;
    let mut words = line.split(' ');
    match (words.next(), words.next().map(str::parse::<u16>)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") && status >= 100 => Ok(status),
        _ => Err(invalid("its first line")),
    }
}

/// A header's value; of several the last.
fn header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let found = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let found = found.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).last();
    found.map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;

    use super::*;

    /// A daemon that answers each request by what `answer` writes; it ends with the test.
    pub(crate) fn serve(
        socket: PathBuf,
        answer: impl Fn(&str, &mut UnixStream) -> io::Result<()> + Send + 'static,
    ) {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                    request.push(byte[0]);
                }
                let request = String::from_utf8(request).unwrap();
                let _ = answer(request.split(' ').nth(1).unwrap_or_default(), &mut stream);
            }
        });
    }

    fn ask(answer: impl Fn(&str, &mut UnixStream) -> io::Result<()> + Send + 'static) -> io::Result<Answer> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        serve(socket.clone(), answer);
        get(&socket, "/version", AnswerLimits { time: Duration::from_millis(1500), body: 1000 })
    }

    fn fixed(text: &'static str) -> io::Result<Answer> {
        ask(move |_, stream| stream.write_all(text.as_bytes()))
    }

    #[test]
    fn a_body_comes_whole_by_length_by_chunks_and_by_the_end() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
        ] {
            let answer = fixed(text).unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice(), &answer.cut),
                (200, &b"hello"[..], &None),
                "{text}"
            );
        }
        assert_eq!(fixed("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap().status, 404);
    }

    #[test]
    fn a_document_is_posted_whole_and_an_answer_without_body_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut heard = Vec::new();
            while !heard.ends_with(b"{\"a\":1}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                heard.push(byte[0]);
            }
            // It keeps the connection open, as some do.
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            (String::from_utf8(heard).unwrap(), stream)
        });
        let limits = AnswerLimits { time: Duration::from_secs(20), body: 1000 };
        let answer = request(&socket, Ask::Post("{\"a\":1}"), "/x", limits).unwrap();
        assert_eq!((answer.status, answer.cut), (204, None));
        let (heard, _stream) = daemon.join().unwrap();
        assert!(
            heard.starts_with("POST /x HTTP/1.1\r\n") && heard.contains("\r\nContent-Length: 7\r\n\r\n"),
            "{heard}"
        );
        for target in ["/x HTTP/1.1\r\nHost: y", "/ü", "/a b"] {
            let error = request(&socket, Ask::Get, target, limits).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn what_is_no_http_is_said_and_what_came_before_is_kept() {
        for text in ["", "SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert!(fixed(text).is_err(), "{text}");
        }
        for (text, kept) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", &b"hello"[..]),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", b""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", b"he"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", b""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello", b"hello"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello", b""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", b""),
        ] {
            let answer = fixed(text).unwrap();
            assert_eq!(answer.body, kept, "{text}");
            assert!(answer.cut.is_some(), "{text}");
        }
    }

    #[test]
    fn an_endless_body_an_endless_head_and_a_slow_one_end_by_their_limits() {
        let endless = ask(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                stream.write_all(b"4\r\nAAAA\r\n")?;
            }
        })
        .unwrap();
        assert_eq!(
            (endless.body.len(), endless.cut.as_deref()),
            (1000, Some("only the first 1000 bytes were taken"))
        );
        let huge = fixed("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello").unwrap();
        assert_eq!(huge.body, b"hello");
        let head = ask(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(&[b'x'; 1024])?;
            }
        });
        assert_eq!(head.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let slow = ask(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
        })
        .unwrap();
        assert_eq!(slow.cut.as_deref(), Some("no whole answer in time"));
        assert!(!slow.body.is_empty());
        let silent = ask(|_, _| {
            thread::sleep(Duration::from_secs(2));
            Ok(())
        });
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
