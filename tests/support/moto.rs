//! moto (from PyPI) as the AWS services, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// A running server; it ends with the process of the tests, since its standard input then ends.
pub(crate) struct Moto {
    /// As `http://127.0.0.1:40123`.
    pub(crate) endpoint: String,
    _child: Child,
    _input: ChildStdin,
}

impl Moto {
    /// Asks EC2 for what our client has no need of, such as making a volume.
    pub(crate) fn ask(&self, region: &str, form: &str) -> String {
        self.ask_service("ec2", region, form)
    }

    /// The same of another service.
    pub(crate) fn ask_service(&self, service: &str, region: &str, form: &str) -> String {
        let mut stream = TcpStream::connect(self.endpoint.trim_start_matches("http://")).unwrap();
        let scope = format!(
            "Credential=test/20261121/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {service}.{region}.amazonaws.com\r\nAuthorization: AWS4-HMAC-SHA256 {scope}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}

/// The server that all tests of this binary share, each in a region, buckets and snapshots of its own; `None`, with the reason
/// said, where it cannot be had.
pub(crate) fn moto() -> Option<&'static Moto> {
    static SERVER: OnceLock<Result<Moto, String>> = OnceLock::new();
    match SERVER.get_or_init(start) {
        Ok(moto) => Some(moto),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn start() -> Result<Moto, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/moto_server.py");
    let mut child = Command::new("python3")
        .arg(script)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("python3 could not be started: {error}"))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("python3 has no pipes".to_owned());
    };
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    match (read, line.trim().parse::<u16>()) {
        (Ok(_), Ok(port)) => {
            Ok(Moto { endpoint: format!("http://127.0.0.1:{port}"), _child: child, _input: input })
        }
        _ => Err("moto cannot be had (pip install 'moto[server,ec2,s3,ebs]')".to_owned()),
    }
}
