//! A container from end to end: real runc and containerd (Debian's packages), roots made here, whatever goes away in the middle.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use acquire::container::{ContainerCapture, ContainerOptions, ContainerRuntime};
use acquire::{Acquisition, NoProgress, Progress, Report};
use custody::bundle::{Bundle, CatalogEntry, MemberKind};
use custody::sha256;
use serde_json::{Value, json};

use crate::runc_box::{RuncBox, SCRIPT, make_root, run, wait_until, why_not};
use crate::support::{destination, options, with_writer};

fn options_of(it: &RuncBox) -> ContainerOptions {
    let mut options = ContainerOptions::default();
    options.states = vec![it.path("state")];
    options.runtime = ContainerRuntime::Runc;
    options
}

/// What an acquisition left.
struct Taken {
    report: Report,
    folder: tempfile::TempDir,
}

impl Taken {
    fn of(capture: ContainerCapture, progress: &dyn Progress) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let report = with_writer(|writer| {
            let plan = Acquisition::new(capture, destination(folder.path())).options(options());
            plan.progress(progress).run(writer)
        });
        let verification =
            custody::verify::verify(folder.path(), &custody::verify::Options::default()).unwrap();
        assert_eq!(verification.fault_count, 0, "{:?}", verification.faults);
        Self { report: report.unwrap(), folder }
    }

    fn catalog(&self, stream: &str) -> BTreeMap<String, CatalogEntry> {
        let Ok(stream) = Bundle::open(self.folder.path()).unwrap().stream(stream) else {
            return BTreeMap::new();
        };
        stream.catalog().unwrap().map(Result::unwrap).map(|entry| (entry.path.clone(), entry)).collect()
    }

    fn content(&self, stream: &str, path: &str) -> Vec<u8> {
        let catalog = self.catalog(stream);
        let entry = catalog.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", catalog.keys()));
        let reader = Bundle::open(self.folder.path()).unwrap().stream(stream).unwrap();
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        reader.read_exact_at(entry.offset, &mut content).unwrap();
        content
    }

    fn rows(&self, stream: &str, path: &str) -> Vec<Value> {
        let text = self.content(stream, path);
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.skip(1).map(|line| custody::strict_json::parse(line).unwrap()).collect()
    }

    fn issues(&self) -> String {
        self.report.issues.iter().map(|issue| format!("{}: {}\n", issue.path, issue.what)).collect()
    }

    /// Whether any core holds this text.
    fn memory_holds(&self, text: &str) -> bool {
        let cores = self.catalog("processes").into_keys().filter(|path| path.ends_with(".core"));
        let cores: Vec<String> = cores.collect();
        cores.iter().any(|path| {
            self.content("processes", path).windows(text.len()).any(|part| part == text.as_bytes())
        })
    }
}

#[test]
fn a_container_of_runc_is_taken_with_memory_sockets_logs_changes_and_deleted_files() {
    let Some(it) = RuncBox::start("exhibit-test-whole", true) else { return };
    let capture = ContainerCapture::find("exhibit-test-whole", options_of(&it)).unwrap();
    assert_eq!(capture.runtimes(), "runc");
    let taken = Taken::of(capture, &NoProgress);
    let issues = taken.issues();

    let processes = taken.rows("commands", "/V2/processes.jsonl");
    let names: Vec<_> = processes.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"sh") && names.contains(&"nc"), "{names:?}");
    assert!(!names.contains(&"runc") && names.len() <= 4, "{names:?}");
    let sockets = taken.rows("commands", "/V3/sockets.jsonl");
    let listens = |row: &&Value| row["local_port"] == 4444 && row["state"] == "LISTEN";
    assert_eq!(sockets.iter().find(listens).unwrap()["process"], "nc");
    let state: Value =
        serde_json::from_slice(&taken.content("commands", "/V5/runc/exhibit-test-whole/state.json")).unwrap();
    assert_eq!(state["id"], "exhibit-test-whole");
    assert!(taken.catalog("commands").contains_key("/V5/runc/exhibit-test-whole/config.json"));

    let copies: Vec<_> =
        taken.catalog("commands").into_keys().filter(|path| path.ends_with("/fd/5")).collect();
    assert!(!copies.is_empty());
    assert_eq!(taken.content("commands", &copies[0]), b"gone-but-open\n");

    assert!(taken.memory_holds("planted-42-secret"), "{issues}");
    for path in taken.catalog("processes").into_keys().filter(|path| path.ends_with(".ranges.jsonl")) {
        for row in taken.rows("processes", &path) {
            let number = |key: &str| {
                u64::from_str_radix(row[key].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
            };
            let states = ["data", "absent", "unreadable", "skipped"];
            let sum: u64 = states.iter().filter_map(|state| row.get(*state)?.as_u64()).sum();
            assert_eq!(sum, number("end") - number("start"), "{row}");
        }
    }

    let files = taken.catalog("files");
    let upper = it.path("upper").display().to_string();
    assert_eq!(taken.content("files", &format!("{upper}/etc/new")), b"new\n");
    assert_eq!(files[&format!("{upper}/etc/old")].kind, MemberKind::Character);
    let changes = taken.rows("files", "/V5/changes/exhibit-test-whole.jsonl");
    let change =
        |path: &str| changes.iter().find(|row| row["path"] == path).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(change("/etc/old")["deleted"], true);
    assert_eq!(change("/etc/folder")["opaque"], true);
    assert!(change("/etc/new").get("deleted").is_none());
    let log = it.path("out.log").display().to_string();
    assert_eq!(taken.content("files", &log), b"started\nready\n");
    let hidden = files
        .keys()
        .find(|path| path.ends_with("/root/dev/shm/hidden"))
        .unwrap_or_else(|| panic!("{issues}"));
    assert_eq!(taken.content("files", hidden), b"in-memory\n");
    let summary: Value = serde_json::from_slice(&taken.content("files", "/V5/container.json")).unwrap();
    assert_eq!(summary["ended_meanwhile"], false);
    assert_eq!(issues, "");
    assert_eq!(it.status(), "running");
}

#[test]
fn one_large_file_hides_no_other_and_is_listed_without_its_content() {
    let Some(it) = RuncBox::start("exhibit-test-large", true) else { return };
    // It costs whoever is in the container nothing.
    fs::File::create(it.path("upper/large")).unwrap().set_len(1 << 40).unwrap();
    let taken =
        Taken::of(ContainerCapture::find("exhibit-test-large", options_of(&it)).unwrap(), &NoProgress);
    let upper = it.path("upper").display().to_string();
    assert_eq!(taken.content("files", &format!("{upper}/etc/new")), b"new\n");
    let large = &taken.catalog("files")[&format!("{upper}/large")];
    assert!(
        large.sha256.is_none() && large.errors.iter().any(|error| error.contains("beyond the limit")),
        "{large:?}"
    );
    let changes = taken.rows("files", "/V5/changes/exhibit-test-large.jsonl");
    assert!(changes.iter().any(|row| row["path"] == "/large" && row["size"] == 1u64 << 40));
    assert!(taken.issues().contains("1 files of 1099511627776 bytes"), "{}", taken.issues());
}

#[test]
fn a_paused_container_goes_on_afterwards_and_it_is_told_when_it_stood_still() {
    let Some(it) = RuncBox::start("exhibit-test-pause", true) else { return };
    let mut options = options_of(&it);
    options.pause = true;
    let seen = Looking::new(&it);
    let taken = Taken::of(ContainerCapture::find("exhibit-test-pause", options).unwrap(), &seen);
    assert_eq!(seen.status.lock().unwrap().as_deref(), Some("paused"), "{}", taken.issues());
    assert_eq!(it.status(), "running");
    assert!(
        taken.report.facts.contains_key("frozen_from") && taken.report.facts.contains_key("frozen_until")
    );
    assert!(taken.memory_holds("planted-42-secret"));
}

/// Asks runc how the container is when its memory is about to be read.
struct Looking<'a> {
    it: &'a RuncBox,
    status: std::sync::Mutex<Option<String>>,
}

impl<'a> Looking<'a> {
    fn new(it: &'a RuncBox) -> Self {
        Self { it, status: std::sync::Mutex::new(None) }
    }
}

impl Progress for Looking<'_> {
    fn started(&self, what: &str, _: Option<u64>) {
        if what == "processes" {
            *self.status.lock().unwrap() = Some(self.it.status());
        }
    }
}

/// Removes the container when a stream begins.
struct Removing<'a> {
    it: &'a RuncBox,
    at: &'a str,
}

impl Progress for Removing<'_> {
    fn started(&self, what: &str, _: Option<u64>) {
        if what == self.at {
            run(self.it.runc().args(["delete", "-f", &self.it.id]));
        }
    }
}

#[test]
fn a_container_that_dies_in_the_middle_is_sealed_with_what_was_got_and_the_rest_is_listed() {
    for (at, secret) in [("commands", false), ("processes", false), ("files", true)] {
        let id = format!("exhibit-test-dies-{at}");
        let Some(it) = RuncBox::start(&id, true) else { return };
        let capture = ContainerCapture::find(&id, options_of(&it)).unwrap();
        let taken = Taken::of(capture, &Removing { it: &it, at });
        let issues = taken.issues();
        assert!(issues.contains("ended"), "{at}: {issues}");
        assert_eq!(taken.memory_holds("planted-42-secret"), secret, "{at}: {issues}");
        assert!(taken.catalog("commands").contains_key(&format!("/V5/runc/{id}/state.json")), "{at}");
        let summary: Value = serde_json::from_slice(&taken.content("files", "/V5/container.json")).unwrap();
        assert_eq!(summary["ended_meanwhile"], true, "{at}");
    }
}

#[test]
fn a_root_that_is_no_overlay_is_taken_as_a_whole_without_what_is_mounted_in_it() {
    let Some(it) = RuncBox::start("exhibit-test-root", false) else { return };
    let taken = Taken::of(ContainerCapture::find("exhibit-test-root", options_of(&it)).unwrap(), &NoProgress);
    let root = it.path("rootfs").display().to_string();
    assert_eq!(taken.content("files", &format!("{root}/etc/new")), b"new\n");
    let files = taken.catalog("files");
    assert!(files.contains_key(&format!("{root}/bin/busybox")));
    assert!(!files.contains_key(&format!("{root}/etc/old")));
    assert!(!files.keys().any(|path| path.starts_with(&format!("{root}/proc/"))));
    assert_eq!(taken.issues(), "");
}

#[test]
fn memory_beyond_the_limit_is_skipped_and_said_so() {
    let Some(it) = RuncBox::start("exhibit-test-limit", true) else { return };
    let mut options = options_of(&it);
    options.memory = 64 << 10;
    let taken = Taken::of(ContainerCapture::find("exhibit-test-limit", options).unwrap(), &NoProgress);
    assert!(taken.issues().contains("beyond the limit"), "{}", taken.issues());
    assert!(taken.report.facts["memory"]["data"].as_u64().unwrap() <= 64 << 10);
    assert!(taken.report.facts["memory"]["skipped"].as_u64().unwrap() > 0);
}

#[test]
fn a_name_that_fits_several_or_none_is_refused() {
    let ids = ["1", "2"].map(|end| format!("{:0<63}{end}", "feedc0de"));
    let Some(one) = RuncBox::start(&ids[0], true) else { return };
    let Some(two) = RuncBox::start(&ids[1], true) else { return };
    let mut options = options_of(&one);
    options.states.push(two.path("state"));
    let several = ContainerCapture::find("feedc0de", options.clone()).unwrap_err().to_string();
    assert!(several.contains("several"), "{several}");
    assert_eq!(ContainerCapture::find(&ids[1], options.clone()).unwrap().id(), ids[1]);
    options.states.pop();
    assert_eq!(ContainerCapture::find("feedc0de", options.clone()).unwrap().id(), ids[0]);
    assert!(ContainerCapture::find("nothing-of-this-name", options.clone()).is_err());
    // Where no runtime knows it, its control group does, and a pid of its own names it too.
    options.runtime = ContainerRuntime::Auto;
    let by_group = ContainerCapture::find(&ids[1], options.clone()).unwrap();
    assert_eq!((by_group.runtimes().as_str(), by_group.id()), ("control group", ids[1].as_str()));
    let pid = ContainerCapture::find(&ids[0], options.clone()).unwrap().pid().unwrap();
    assert_eq!(ContainerCapture::find(&format!("pid:{pid}"), options).unwrap().pid(), Some(pid));
}

/// containerd on a socket of its own, ended with this.
struct Containerd {
    folder: tempfile::TempDir,
    child: std::process::Child,
}

impl Containerd {
    fn start() -> Option<Self> {
        for program in ["containerd", "ctr", "runc"] {
            if let Some(why) = why_not(program) {
                eprintln!("skipped: {why}");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (root, state, socket) = (path("root"), path("state"), path("c.sock"));
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n[grpc]\naddress = {socket:?}\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n"
        );
        fs::write(path("config.toml"), config).unwrap();
        let log = File::create(path("containerd.log")).unwrap();
        let child = Command::new("containerd")
            .args(["-c", &path("config.toml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let this = Self { folder, child };
        wait_until("containerd answers", || {
            this.ctr().arg("version").output().is_ok_and(|output| output.status.success())
        });
        Some(this)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.socket()).stdin(Stdio::null());
        command
    }

    /// An image of one layer, as `ctr images import` takes it.
    fn import_image(&self) {
        let root = self.folder.path().join("image-root");
        fs::create_dir(&root).unwrap();
        make_root(&root);
        let mut layer = tar::Builder::new(Vec::new());
        layer.follow_symlinks(false);
        layer.append_dir_all(".", &root).unwrap();
        let layer = layer.into_inner().unwrap();
        let digest = |bytes: &[u8]| sha256(bytes).to_string();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        });
        let config = config.to_string().into_bytes();
        let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = described("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({"io.containerd.image.name": "test/box:1"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
        let image = self.folder.path().join("image.tar");
        let mut tar = tar::Builder::new(File::create(&image).unwrap());
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
        for (name, bytes) in [
            ("oci-layout".to_owned(), &b"{\"imageLayoutVersion\":\"1.0.0\"}"[..]),
            ("index.json".to_owned(), &index),
            (blob(&layer), &layer),
            (blob(&config), &config),
            (blob(&manifest), &manifest),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, bytes).unwrap();
        }
        tar.into_inner().unwrap();
        run(self.ctr().args(["images", "import"]).arg(&image));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.ctr().args(["tasks", "rm", "-f", "box"]).output();
        let _ = self.ctr().args(["containers", "rm", "box"]).output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_container_of_containerd_is_taken_with_its_record_its_snapshot_and_the_log_that_its_shim_writes() {
    let Some(it) = Containerd::start() else { return };
    it.import_image();
    let log = it.folder.path().join("box.log");
    let begun = it
        .ctr()
        .args([
            "run",
            "-d",
            "--log-uri",
            &format!("file://{}", log.display()),
            "test/box:1",
            "box",
            "/bin/sh",
            "-c",
            SCRIPT,
        ])
        .output()
        .unwrap();
    if !begun.status.success() {
        eprintln!(
            "skipped: containerd cannot run a container here: {}",
            String::from_utf8_lossy(&begun.stderr)
        );
        return;
    }
    wait_until("the container is ready", || {
        fs::read_to_string(&log).is_ok_and(|said| said.contains("ready"))
    });
    let mut options = ContainerOptions::default();
    options.sockets = vec![it.socket()];
    options.runtime = ContainerRuntime::Containerd;
    let capture = ContainerCapture::find("default/box", options.clone()).unwrap();
    assert!(capture.pid().is_some());
    let taken = Taken::of(capture, &NoProgress);
    let spec: Value =
        serde_json::from_slice(&taken.content("commands", "/V5/containerd/default/box/config.json")).unwrap();
    assert_eq!(spec["process"]["args"][0], "/bin/sh");
    assert!(taken.memory_holds("planted-42-secret"));
    assert_eq!(taken.content("files", &log.display().to_string()), b"started\nready\n");
    let changes = taken.rows("files", "/V5/changes/box.jsonl");
    assert!(changes.iter().any(|row| row["path"] == "/etc/old" && row["deleted"] == true), "{changes:?}");
    let files = taken.catalog("files");
    assert!(files.keys().any(|path| path.ends_with("/fs/etc/new")), "{:?}", files.keys());
    assert_eq!(taken.issues(), "");

    // Without its task, what is left is taken all the same.
    run(it.ctr().args(["tasks", "kill", "-s", "SIGKILL", "box"]));
    wait_until("the task is over", || run(it.ctr().args(["tasks", "ls"])).contains("STOPPED"));
    let taken = Taken::of(ContainerCapture::find("box", options).unwrap(), &NoProgress);
    assert!(taken.issues().contains("does not run"), "{}", taken.issues());
    assert!(taken.catalog("files").keys().any(|path| path.ends_with("/fs/etc/new")));
}
