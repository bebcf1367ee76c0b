//! A container of runc with a root made here, and containers' common needs. Says "skipped: why" where none can run.

#![allow(dead_code, reason = "one of several test binaries uses each part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What runs in the container: its secret is put together there, so that it stands in no file and no command line.
pub(crate) const SCRIPT: &str = "secret=planted-$((40+2))-secret\n\
    echo started\n\
    rm /etc/old; echo new > /etc/new; rm -r /etc/folder; mkdir /etc/folder; echo x > /etc/folder/x\n\
    mkdir -p /dev/shm; echo in-memory > /dev/shm/hidden\n\
    exec 5> /tmp/gone; echo gone-but-open >&5; rm /tmp/gone\n\
    nc -l -p 4444 &\n\
    echo ready\n\
    while true; do sleep 600; done\n";

const PROGRAMS: [&str; 7] = ["sh", "sleep", "cat", "rm", "nc", "mkdir", "ls"];

pub(crate) fn why_not(program: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("containers need root".to_owned());
    }
    for needed in [program, "busybox"] {
        if Command::new(needed).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("there is no {needed}"));
        }
    }
    None
}

pub(crate) fn make_root(root: &Path) {
    for folder in ["bin", "proc", "sys", "dev", "tmp", "etc/folder"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in PROGRAMS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/old"), "old\n").unwrap();
    fs::write(root.join("etc/folder/below"), "old\n").unwrap();
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(180), "not within three minutes: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A container of runc that runs, removed with this.
pub(crate) struct RuncBox {
    folder: tempfile::TempDir,
    pub(crate) id: String,
    overlay: bool,
}

impl RuncBox {
    pub(crate) fn start(id: &str, overlay: bool) -> Option<Self> {
        if let Some(why) = why_not("runc") {
            eprintln!("skipped: {why}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder, id: id.to_owned(), overlay };
        let path = |name: &str| this.folder.path().join(name);
        for name in ["lower", "upper", "work", "rootfs", "state"] {
            fs::create_dir(path(name)).unwrap();
        }
        make_root(&path(if overlay { "lower" } else { "rootfs" }));
        if overlay {
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                path("lower").display(),
                path("upper").display(),
                path("work").display()
            );
            let mounted = Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &options])
                .arg(path("rootfs"))
                .output();
            if !mounted.is_ok_and(|output| output.status.success()) {
                eprintln!("skipped: no overlay can be mounted here");
                return None;
            }
        }
        run(Command::new("runc").arg("spec").current_dir(this.folder.path()));
        let mut config: Value = serde_json::from_slice(&fs::read(path("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["/bin/sh", "-c", SCRIPT]);
        config["root"]["readonly"] = false.into();
        fs::write(path("config.json"), config.to_string()).unwrap();
        let log = File::create(path("out.log")).unwrap();
        let begun = this
            .runc()
            .args(["run", "-d", "--bundle"])
            .arg(this.folder.path())
            .arg(id)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        let said = || fs::read_to_string(path("out.log")).unwrap();
        if !begun.success() {
            eprintln!("skipped: runc cannot run a container here: {}", said());
            return None;
        }
        wait_until("the container is ready", || said().contains("ready"));
        Some(this)
    }

    pub(crate) fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.folder.path().join("state"));
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn status(&self) -> String {
        let state: Value = serde_json::from_str(&run(self.runc().args(["state", &self.id]))).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

impl Drop for RuncBox {
    fn drop(&mut self) {
        let _ = self.runc().args(["delete", "-f", &self.id]).output();
        if self.overlay {
            let _ = Command::new("umount").arg("-l").arg(self.path("rootfs")).output();
        }
    }
}
