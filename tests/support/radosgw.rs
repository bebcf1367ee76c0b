//! A Ceph object gateway (from Debian) as a real S3 server, on loopback: it enforces Object Lock, versions and signatures.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// A running gateway; it ends with the process of the tests, since its standard input then ends.
pub(crate) struct Radosgw {
    /// As `http://127.0.0.1:24593`.
    pub(crate) endpoint: String,
    pub(crate) access: String,
    pub(crate) secret: String,
    _child: Child,
    _input: ChildStdin,
}

/// The gateway that all tests of this binary share, each in buckets of its own; `None`, with the reason said, where it cannot be
/// had. It takes some ten seconds to start.
pub(crate) fn radosgw() -> Option<&'static Radosgw> {
    static SERVER: OnceLock<Result<Radosgw, String>> = OnceLock::new();
    match SERVER.get_or_init(start) {
        Ok(server) => Some(server),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn start() -> Result<Radosgw, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/radosgw_server.py");
    let mut child = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("python3 could not be started: {error}"))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("python3 has no pipes".to_owned());
    };
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [port, access, secret] if port.parse::<u16>().is_ok() => Ok(Radosgw {
            endpoint: format!("http://127.0.0.1:{port}"),
            access: (*access).to_owned(),
            secret: (*secret).to_owned(),
            _child: child,
            _input: input,
        }),
        ["unavailable:", ..] => Err(line.trim_start_matches("unavailable: ").trim().to_owned()),
        _ => Err("the Ceph gateway did not start".to_owned()),
    }
}
