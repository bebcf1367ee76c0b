//! An sshd of Debian's on a loopback port, with keys made here. Says "skipped: why" where there can be none.

#![allow(dead_code, reason = "one of several test binaries uses each part")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const DAEMON: &str = "/usr/sbin/sshd";

/// An sshd that listens until this is dropped.
pub(crate) struct Sshd {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Sshd {
    pub(crate) fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new(DAEMON).exists() {
            eprintln!("skipped: an sshd of our own needs root and openssh-server");
            return None;
        }
        fs::create_dir_all("/run/sshd").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "other", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(key))
                .status();
            assert!(made.unwrap().success());
        }
        let (child, port) = (0..20)
            .find_map(|_| listening(folder.path()))
            .unwrap_or_else(|| panic!("sshd listens at no port: {}", said(folder.path())));
        let this = Self { folder, child, port };
        this.know("host");
        fs::create_dir(this.path("remote")).unwrap();
        Some(this)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes this the only key that is known.
    pub(crate) fn know(&self, key: &str) {
        let public = fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap();
        fs::write(self.path("known"), format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
    }

    /// The settings of this host, with a collector.
    pub(crate) fn target(&self, collector: &Path) -> Value {
        let sha256 = custody::sha256(&fs::read(collector).unwrap()).to_string();
        json!({
            "host": "127.0.0.1", "port": self.port, "user": "root", "identity_file": self.path("user"),
            "known_hosts_file": self.path("known"), "collector": collector, "collector_sha256": sha256,
            "folder": self.path("remote"),
        })
    }

    /// What lies in the folder that collectors are put in.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("remote")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// A collector that is no exhibit.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// An sshd at a port that was free just now; `None` if somebody else has taken that since.
fn listening(folder: &Path) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = |name: &str| folder.join(name);
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {user}\nPidFile none\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         PermitUserEnvironment no\nPrintMotd no\n",
        host = path("host").display(),
        user = path("user.pub").display(),
    );
    fs::write(path("config"), config).unwrap();
    let log = fs::File::create(path("log")).unwrap();
    let mut child = Command::new(DAEMON)
        .args(["-D", "-e", "-f"])
        .arg(path("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // Its own word, as whoever answers at the port may be another.
    while !said(folder).contains(&format!("Server listening on 127.0.0.1 port {port}")) {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("sshd does not listen within a minute: {}", said(folder));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Some((child, port))
}
