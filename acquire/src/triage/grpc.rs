//! One unary gRPC call over a Unix socket: enough HTTP/2 for a daemon on this machine, and nothing else.
//!
//! The daemon is not trusted: frames, message and time are limited. Headers of the answer are not decoded, so an error
//! of the daemon shows as an answer without a message. Reference: RFC 9113, RFC 7541, gRPC over HTTP2.

use std::io::{self, Read, Write};
use std::path::Path;

use super::unix_http::{AnswerLimits, Timed};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest frame that a peer may send us, unless we allow more.
const FRAME: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH: u8 = 5;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Calls `method` (`/package.Service/Name`) with a message, and gives the message of the answer.
///
/// # Errors
///
/// What the system says, `TimedOut`, or `InvalidData` for what is no such answer.
pub(crate) fn call(
    socket: &Path,
    method: &str,
    metadata: &[(&str, &str)],
    message: &[u8],
    limits: AnswerLimits,
) -> io::Result<Vec<u8>> {
    let mut stream = Timed::connect(socket, limits.time)?;
    stream.write_all(&request(method, metadata, message, limits.body)?)?;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream_id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let of_ours = u32::from_be_bytes(stream_id) & 0x7fff_ffff == 1;
        if length > FRAME {
            return Err(invalid("a frame longer than it may be"));
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match kind {
            DATA if of_ours => {
                let data = if flags & PADDED == 0 { &payload } else { without_padding(&payload)? };
                if body.len().saturating_add(data.len()) > limits.body {
                    return Err(io::Error::other(format!("an answer of more than {} bytes", limits.body)));
                }
                body.extend_from_slice(data);
            }
            // A daemon that has said all may have closed already: what it said counts.
            SETTINGS if flags & ACK == 0 => drop(stream.write_all(&frame(SETTINGS, ACK, 0, &[]))),
            PING if flags & ACK == 0 => drop(stream.write_all(&frame(PING, ACK, 0, &payload))),
            RESET if of_ours => return Err(refused("reset the call", payload.first_chunk())),
            GO_AWAY => return Err(refused("closed the connection", payload.last_chunk())),
            PUSH => return Err(invalid("a push that was forbidden")),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && of_ours && flags & END_STREAM != 0 {
            return message_of(&body);
        }
    }
}

/// The one message in the data: a byte that says whether it is compressed, its length, and it.
fn message_of(body: &[u8]) -> io::Result<Vec<u8>> {
    let Some(([compressed, length @ ..], message)) = body.split_first_chunk::<5>() else {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "answered without a message: refused, or not known",
        ));
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    match message.get(..length) {
        Some(message) if *compressed == 0 => Ok(message.to_vec()),
        _ => Err(invalid("a message that is compressed or cut short")),
    }
}

fn request(method: &str, metadata: &[(&str, &str)], message: &[u8], window: usize) -> io::Result<Vec<u8>> {
    let window = u32::try_from(window.saturating_add(FRAME)).unwrap_or(u32::MAX).min(0x7fff_ffff);
    let mut bytes = PREFACE.to_vec();
    // No table of headers, no push, room for the whole answer.
    let mut settings = Vec::new();
    for (key, value) in [(1u16, 0u32), (2, 0), (4, window)] {
        settings.extend(key.to_be_bytes());
        settings.extend(value.to_be_bytes());
    }
    bytes.extend(frame(SETTINGS, 0, 0, &settings));
    bytes.extend(frame(WINDOW, 0, 0, &window.saturating_sub(65_535).max(1).to_be_bytes()));
    // HPACK: 3 is `:method POST`, 6 `:scheme http`; names 4 `:path`, 1 `:authority`, 31 `content-type`.
    let mut headers = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        headers.extend_from_slice(name);
        string(&mut headers, value)
    };
    literal(&[0x04], method)?;
    literal(&[0x01], "localhost")?;
    literal(&[0x0f, 0x10], "application/grpc")?;
    literal(b"\0\x02te", "trailers")?;
    for (name, value) in metadata {
        headers.push(0);
        string(&mut headers, name)?;
        string(&mut headers, value)?;
    }
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &headers));
    let mut data = vec![0];
    data.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend_from_slice(message);
    bytes.extend(frame(DATA, END_STREAM, 1, &data));
    Ok(bytes)
}

/// A string without Huffman's code, of a length that one byte holds.
fn string(headers: &mut Vec<u8>, text: &str) -> io::Result<()> {
    match u8::try_from(text.len()) {
        Ok(length @ ..127) => {
            headers.push(length);
            headers.extend_from_slice(text.as_bytes());
            Ok(())
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a header of 127 bytes or more")),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn without_padding(payload: &[u8]) -> io::Result<&[u8]> {
    let (padding, data) = payload.split_first().ok_or_else(|| invalid("padding without length"))?;
    let end =
        data.len().checked_sub(usize::from(*padding)).ok_or_else(|| invalid("more padding than data"))?;
    Ok(data.get(..end).unwrap_or_default())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is no gRPC: {what}"))
}

fn refused(what: &str, code: Option<&[u8; 4]>) -> io::Error {
    let code = code.map_or(0, |code| u32::from_be_bytes(*code));
    io::Error::new(io::ErrorKind::ConnectionReset, format!("the daemon {what}, HTTP/2 code {code}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const LIMITS: AnswerLimits = AnswerLimits { time: Duration::from_secs(2), body: 100_000 };

    /// A daemon that reads a call, and answers with what `answer` gives for its method.
    pub(crate) fn serve(
        socket: PathBuf,
        answer: impl Fn(&str, &mut UnixStream) -> io::Result<()> + Send + 'static,
    ) {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut preface = vec![0; PREFACE.len()];
                stream.read_exact(&mut preface).unwrap();
                assert_eq!(preface, PREFACE);
                let mut method = String::new();
                loop {
                    let mut head = [0; 9];
                    if stream.read_exact(&mut head).is_err() {
                        break;
                    }
                    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                    stream.read_exact(&mut payload).unwrap();
                    if head[3] == HEADERS {
                        method = String::from_utf8(payload[4..4 + usize::from(payload[3])].to_vec()).unwrap();
                    }
                    if head[3] == DATA && head[4] & END_STREAM != 0 {
                        let _ = answer(&method, &mut stream);
                        break;
                    }
                }
            }
        });
    }

    /// What a daemon sends around a message: its settings, headers, data, trailers.
    pub(crate) fn good_answer(message: &[u8]) -> Vec<u8> {
        let mut data = vec![0];
        data.extend((message.len() as u32).to_be_bytes());
        data.extend(message);
        let mut bytes = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        bytes.extend(frame(PING, 0, 0, b"12345678"));
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &[0x88]));
        for part in data.chunks(FRAME) {
            bytes.extend(frame(DATA, 0, 1, part));
        }
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x40]));
        bytes
    }

    fn ask(answer: impl Fn(&str, &mut UnixStream) -> io::Result<()> + Send + 'static) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        serve(socket.clone(), answer);
        call(&socket, "/a.B/C", &[("containerd-namespace", "k8s.io")], b"x", LIMITS)
    }

    #[test]
    fn a_message_comes_whole_in_however_many_frames() {
        for length in [0, 1, FRAME - 5, FRAME, 3 * FRAME + 7] {
            let message = vec![7; length];
            let sent = message.clone();
            let got = ask(move |method, stream| {
                assert_eq!(method, "/a.B/C");
                stream.write_all(&good_answer(&sent))
            });
            assert_eq!(got.unwrap(), message);
        }
    }

    #[test]
    fn answers_that_lie_end_with_an_error() {
        let with = |bytes: Vec<u8>| ask(move |_, stream| stream.write_all(&bytes)).unwrap_err().kind();
        assert_eq!(with(frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88])), io::ErrorKind::Unsupported);
        assert_eq!(with(frame(RESET, 0, 1, &[0, 0, 0, 2])), io::ErrorKind::ConnectionReset);
        assert_eq!(with(vec![0xff; 9]), io::ErrorKind::InvalidData);
        assert_eq!(with(frame(DATA, END_STREAM, 1, &[1, 0, 0, 0, 1, 9])), io::ErrorKind::InvalidData);
        assert_eq!(
            with(frame(DATA, END_STREAM, 1, &[0, 0xff, 0xff, 0xff, 0xff, 9])),
            io::ErrorKind::InvalidData
        );
        assert_eq!(with(frame(DATA, PADDED, 1, &[9, 1])), io::ErrorKind::InvalidData);
        assert_eq!(with(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), io::ErrorKind::InvalidData);
        let whole = good_answer(b"hello");
        for end in 0..whole.len() {
            let part = whole[..end].to_vec();
            assert!(ask(move |_, stream| stream.write_all(&part)).is_err());
        }
    }

    #[test]
    fn an_endless_answer_and_a_silent_daemon_end_by_their_limits() {
        let endless = ask(|_, stream| {
            loop {
                stream.write_all(&frame(DATA, 0, 1, &[0; 1000]))?;
            }
        });
        assert!(endless.unwrap_err().to_string().contains("more than 100000 bytes"));
        let idle = ask(|_, stream| {
            loop {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(idle.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
