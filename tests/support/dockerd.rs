//! Docker's own daemon (Debian's docker.io) in a network of its own, with one image made here.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running daemon; it ends with this, or with the thread that started it.
pub(crate) struct Dockerd {
    pub(crate) socket: PathBuf,
    folder: tempfile::TempDir,
    child: Child,
}

impl Dockerd {
    /// `None`, with the reason said, where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        match Self::try_start() {
            Ok(daemon) => Some(daemon),
            Err(why) => {
                eprintln!("skipped: {why} (it needs root, and the Debian package docker.io)");
                None
            }
        }
    }

    fn try_start() -> Result<Self, String> {
        if !Path::new("/usr/sbin/dockerd").exists() {
            return Err("there is no dockerd".to_owned());
        }
        // Short: a socket's path must be.
        let folder =
            tempfile::Builder::new().prefix("dk").tempdir_in("/tmp").map_err(|error| error.to_string())?;
        let at = |name: &str| folder.path().join(name);
        let (socket, log) = (at("s"), at("log"));
        let output = std::fs::File::create(&log).map_err(|error| error.to_string())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "unshare", "-n", "/usr/sbin/dockerd"])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"])
            .args([Path::new("--data-root"), &at("data"), Path::new("--exec-root"), &at("exec")])
            .args([Path::new("--pidfile"), &at("pid")])
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(|error| error.to_string())?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        let mut daemon = Self { socket, folder, child };
        let begun = Instant::now();
        while daemon.try_ask("GET", "/_ping", "text/plain", b"").is_err() {
            let has_ended = daemon.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || begun.elapsed() > Duration::from_secs(90) {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("dockerd does not start: {}", log.lines().last().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon.import()?;
        Ok(daemon)
    }

    /// Asks the daemon; status and document.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.try_ask(method, target, "application/json", body.as_bytes()).unwrap()
    }

    /// The same, which must succeed.
    pub(crate) fn ok(&self, method: &str, target: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, target, body);
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        answer
    }

    fn try_ask(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> Result<(u16, Value), String> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| error.to_string())?;
        let mut head =
            format!("{method} {target} HTTP/1.0\r\nHost: docker\r\nContent-Length: {}\r\n", body.len());
        if !body.is_empty() {
            let _ = write!(head, "Content-Type: {kind}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).map_err(|error| error.to_string())?;
        stream.write_all(body).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no answer")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        Ok((status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()))))
    }

    /// An image `sleeper` with `sleep` and what it is linked to.
    fn import(&self) -> Result<(), String> {
        let linked =
            Command::new("ldd").arg("/bin/sleep").output().map_err(|error| format!("ldd: {error}"))?;
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
        let root = self.folder.path().join("root");
        for file in ["/bin/sleep"].into_iter().chain(libraries) {
            let to = root.join(file.trim_start_matches('/'));
            let copied = std::fs::create_dir_all(to.parent().unwrap_or(&root))
                .and_then(|()| std::fs::copy(Path::new(file).canonicalize()?, &to));
            copied.map_err(|error| format!("{file}: {error}"))?;
        }
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output();
        let tar = tar.map_err(|error| format!("tar: {error}"))?.stdout;
        match self.try_ask("POST", "/images/create?fromSrc=-&repo=sleeper", "application/x-tar", &tar)? {
            (200, _) => Ok(()),
            (status, answer) => Err(format!("the image is refused: {status} {answer}")),
        }
    }

    /// Starts a container; its id.
    pub(crate) fn run(&self, host: &Value, networks: &Value) -> String {
        let body = serde_json::json!({
            "Image": "sleeper", "Cmd": ["/bin/sleep", "3600"], "HostConfig": host, "NetworkingConfig": { "EndpointsConfig": networks },
        });
        let id = self.ok("POST", "/containers/create", &body)["Id"].as_str().unwrap().to_owned();
        self.ok("POST", &format!("/containers/{id}/start"), &Value::Null);
        id
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let (_, Value::Array(all)) = self.ask("GET", "/containers/json?all=1", &Value::Null) {
            for container in all {
                let id = container["Id"].as_str().unwrap_or_default().to_owned();
                let _ = self.ask("DELETE", &format!("/containers/{id}?force=1"), &Value::Null);
            }
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
        // It leaves its network name space mounted there, and a folder with a mount cannot be removed.
        let _ = Command::new("umount").arg(self.folder.path().join("exec/netns/default")).output();
    }
}
