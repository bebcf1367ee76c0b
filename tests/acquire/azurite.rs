//! Azurite (from npm) as Azure's blob storage, on loopback.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// Azurite's one account, and its key, which is the same everywhere.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const VERSION: &str = "2020-10-02";

pub(crate) struct Azurite {
    endpoint: String,
    _child: Child,
    _input: ChildStdin,
}

/// The server that all tests share; `None`, with the reason said, where it cannot be had.
pub(crate) fn azurite() -> Option<&'static Azurite> {
    static SERVER: OnceLock<Result<Azurite, String>> = OnceLock::new();
    match SERVER.get_or_init(start) {
        Ok(azurite) => Some(azurite),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the place where tools of tests are kept")]
fn program() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let kept = home.join(".cache/exhibit-azurite/node_modules/.bin/azurite-blob");
    if kept.exists() { kept } else { PathBuf::from("azurite-blob") }
}

fn start() -> Result<Azurite, String> {
    // It ends when the standard input of this shell does, which is with the tests.
    let script = r#""$0" "$@" & server=$!; cat > /dev/null; kill $server"#;
    let options =
        ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"];
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(program())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("sh could not be started: {error}"))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("sh has no pipes".to_owned());
    };
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listens on")).unwrap_or_default();
    // What it prints from now on must go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    let port = line.rsplit(':').next().and_then(|port| port.trim().trim_end_matches('/').parse::<u16>().ok());
    match port {
        Some(port) => {
            let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
            Ok(Azurite { endpoint, _child: child, _input: input })
        }
        None => Err("azurite-blob cannot be had (npm install azurite)".to_owned()),
    }
}

impl Azurite {
    /// The address of a blob with a signature that allows `may` until `end`.
    pub(crate) fn signed(&self, path: &str, may: &str, end: &str) -> String {
        let text = format!("{ACCOUNT}\n{may}\nb\nsco\n\n{end}\n\n\n{VERSION}\n");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY).unwrap());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let end = end.replace(':', "%3A");
        format!("{}/{path}?sv={VERSION}&ss=b&srt=sco&sp={may}&se={end}&sig={signature}", self.endpoint)
    }

    /// A request that must succeed; gives a header of the answer.
    fn put(&self, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8], wanted: &str) -> String {
        let url = self.signed(path, "rwdlac", "2037-01-01T00:00:00Z") + query;
        let mut request = ureq::put(&url).header("x-ms-version", "2021-12-02");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send(body).unwrap();
        answer.headers().get(wanted).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    /// Makes a container and in it a page blob without pages.
    pub(crate) fn page_blob(&self, container: &str, size: usize) -> String {
        self.put(container, "&restype=container", &[], b"", "etag");
        let path = format!("{container}/web01.vhd");
        let size = size.to_string();
        let headers = [("x-ms-blob-type", "PageBlob"), ("x-ms-blob-content-length", size.as_str())];
        self.put(&path, "", &headers, b"", "etag");
        path
    }

    pub(crate) fn write_pages(&self, path: &str, start: u64, bytes: &[u8]) {
        let range = format!("bytes={start}-{}", start + bytes.len() as u64 - 1);
        let headers = [("x-ms-page-write", "update"), ("x-ms-range", range.as_str())];
        self.put(path, "&comp=page", &headers, bytes, "etag");
    }

    /// Gives the time that names the snapshot.
    pub(crate) fn snapshot(&self, path: &str) -> String {
        self.put(path, "&comp=snapshot", &[], b"", "x-ms-snapshot")
    }
}
