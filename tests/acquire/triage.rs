//! Live triage from end to end: what is taken of a made root, what of commands that misbehave, and what never answers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acquire::triage::{ArtefactTable, Profile, State, TriageCapture, TriageOptions, TriageSummary};
use acquire::{Acquisition, Report};
use custody::bundle::{Bundle, CatalogEntry, MemberKind};
use serde_json::Value;

use crate::silent_folder::{Silence, SilentFolder};
use crate::support::{assert_log_holds, destination, options, with_writer};

/// What a triage left behind.
struct Taken {
    report: Report,
    summary: TriageSummary,
    folder: tempfile::TempDir,
}

impl Taken {
    fn catalog(&self, stream: &str) -> Vec<CatalogEntry> {
        let stream = Bundle::open(self.folder.path()).unwrap().stream(stream).unwrap();
        stream.catalog().unwrap().map(Result::unwrap).collect()
    }

    fn entry(&self, path: &str) -> Option<CatalogEntry> {
        self.catalog("files").into_iter().find(|entry| entry.path == path)
    }

    fn content(&self, stream: &str, path: &str) -> Vec<u8> {
        let catalog = self.catalog(stream);
        let entry = catalog.iter().find(|entry| entry.path == path).unwrap_or_else(|| panic!("no {path}"));
        let reader = Bundle::open(self.folder.path()).unwrap().stream(stream).unwrap();
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        reader.read_exact_at(entry.offset, &mut content).unwrap();
        assert_eq!(entry.sha256, Some(custody::sha256(&content)), "{path}");
        content
    }

    /// The rows of a table, without its header.
    fn rows(&self, path: &str) -> Vec<Value> {
        let text = self.content("commands", path);
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.skip(1).map(|line| custody::strict_json::parse(line).unwrap()).collect()
    }

    fn state(&self, artefact: &str) -> State {
        self.summary.artefacts.iter().find(|result| result.name == artefact).unwrap().state
    }

    fn issues(&self) -> String {
        self.report.issues.iter().map(|issue| format!("{}: {}\n", issue.path, issue.what)).collect()
    }
}

fn triage(table: &ArtefactTable, options_of: TriageOptions) -> Taken {
    let folder = tempfile::tempdir().unwrap();
    let capture = TriageCapture::new(table, options_of).unwrap();
    let summary: Arc<Mutex<TriageSummary>> = capture.summary();
    let report = with_writer(|writer| {
        Acquisition::new(capture, destination(folder.path())).options(options()).run(writer)
    })
    .unwrap();
    assert_log_holds(folder.path());
    let summary = summary.lock().unwrap().clone();
    Taken { report, summary, folder }
}

fn table(text: &str) -> ArtefactTable {
    let mut table = ArtefactTable::default();
    table.add("test.toml", text).unwrap();
    table
}

fn of_root(root: &Path) -> TriageOptions {
    let mut options = TriageOptions::default();
    options.root = root.to_owned();
    options.file_time = Duration::from_secs(5);
    options
}

/// A small host.
fn make_host(root: &Path) {
    for folder in [
        "etc/cron.d",
        "var/log/nginx",
        "home/jane/.ssh",
        "root",
        "srv/jobs/.git/hooks",
        "usr/lib/systemd/system",
        "dev",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write("etc/hostname", "web01\n");
    write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\njane:x:1000:1000::/home/jane:/bin/bash\nsvc:x:1001:1001::/srv/svc:/bin/sh\n",
    );
    write("etc/group", "root:x:0:\njane:x:1000:\n");
    write("etc/cron.d/job", "* * * * * root /srv/jobs/x\n");
    write("home/jane/.bash_history", "id\nwget http://x/y\n");
    write("home/jane/.ssh/authorized_keys", "ssh-ed25519 AAAA jane\n");
    write("home/jane/.ssh/id_ed25519", "PRIVATE\n");
    write("root/.bash_history", "passwd\n");
    write("var/log/syslog", &"line\n".repeat(40_000));
    write("var/log/nginx/access.log", "GET /\n");
    write("srv/jobs/.git/hooks/post-commit", "#!/bin/sh\n");
    write("srv/jobs/app.log", "started\n");
    write("usr/lib/systemd/system/x.service", "[Service]\n");
    fs::hard_link(root.join("var/log/syslog"), root.join("var/log/syslog.also")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("/etc/hostname", root.join("etc/HOSTNAME")).unwrap();
    fs::set_permissions(root.join("srv/jobs/.git/hooks/post-commit"), fs::Permissions::from_mode(0o4755))
        .unwrap();
}

#[test]
fn a_mounted_root_gives_its_files_under_their_own_paths_and_nothing_of_this_machine() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    let taken = triage(&ArtefactTable::embedded().unwrap(), of_root(host.path()));
    assert_eq!(taken.content("files", "/etc/hostname"), b"web01\n");
    assert_eq!(taken.content("files", "/home/jane/.bash_history"), b"id\nwget http://x/y\n");
    assert_eq!(taken.content("files", "/var/log/syslog").len(), 200_000);
    assert_eq!(taken.content("files", "/srv/jobs/.git/hooks/post-commit"), b"#!/bin/sh\n");
    // Found by the walk over all, for no known folder holds it.
    assert_eq!(taken.content("files", "/srv/jobs/app.log"), b"started\n");
    // Reached through a link, which is an entry itself.
    assert_eq!(taken.content("files", "/usr/lib/systemd/system/x.service"), b"[Service]\n");
    assert_eq!(taken.entry("/lib").unwrap().link.as_deref(), Some("usr/lib"));
    let hard = taken.entry("/var/log/syslog.also").unwrap();
    assert_eq!((hard.kind, hard.link.as_deref()), (MemberKind::Hardlink, Some("/var/log/syslog")));
    assert!(taken.entry("/home/jane/.ssh/authorized_keys").is_some());
    assert!(taken.entry("/home/jane/.ssh/id_ed25519").is_none(), "private keys only if asked for");
    let mut paths: Vec<_> = taken.catalog("files").into_iter().map(|entry| entry.path).collect();
    paths.sort();
    let all = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), all, "nothing is taken twice");
    assert!(!paths.iter().any(|path| path.contains(host.path().to_str().unwrap())));
    for live in ["ps", "processes", "sockets", "docker"] {
        assert_eq!(taken.state(live), State::Skipped, "{live}");
    }
    assert_eq!(taken.rows("/commands.jsonl").len(), 0);
    assert_eq!(taken.state("browsers"), State::Missing);
}

#[test]
fn the_metadata_of_every_file_is_told_and_the_notable_ones_are_named() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    let mut picked = of_root(host.path());
    picked.picks = vec!["file-metadata".to_owned(), "executables".to_owned()];
    let taken = triage(&ArtefactTable::embedded().unwrap(), picked);
    let rows = taken.rows("/V7/file-metadata.jsonl");
    let mut walked: Vec<String> = vec!["/".to_owned()];
    let mut to_go = vec![host.path().to_owned()];
    while let Some(folder) = to_go.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            walked.push(format!("/{}", entry.path().strip_prefix(host.path()).unwrap().to_str().unwrap()));
            if entry.file_type().unwrap().is_dir() {
                to_go.push(entry.path());
            }
        }
    }
    let mut told: Vec<_> = rows.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect();
    walked.sort();
    told.sort();
    assert_eq!(told, walked);
    let row = rows.iter().find(|row| row["path"] == "/var/log/syslog").unwrap();
    let stat = fs::metadata(host.path().join("var/log/syslog")).unwrap();
    assert_eq!(row["inode"], stat.ino().to_string());
    assert_eq!((row["size"].as_u64(), row["links"].as_u64()), (Some(200_000), Some(2)));
    assert!(row["btime"].is_string() && row["ctime"].is_string());
    let notable = taken.rows("/V7/notable-files.jsonl");
    let suid = notable.iter().find(|row| row["path"] == "/srv/jobs/.git/hooks/post-commit").unwrap();
    assert!(suid["why"].as_array().unwrap().contains(&"suid".into()));
    let hashed = taken.rows("/V12/executables.jsonl");
    assert_eq!(hashed.len(), 1);
    assert_eq!(hashed[0]["sha256"], custody::sha256(b"#!/bin/sh\n").to_string());
}

#[test]
fn several_artefacts_that_name_a_file_take_it_once_and_that_is_told() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    let text = "[[artefact]]\nname = \"one\"\nlevel = \"V8\"\ndescription = \"d\"\nfiles = [\"/etc/hostname\"]\n\
        [[artefact]]\nname = \"two\"\nlevel = \"V9\"\ndescription = \"d\"\nfiles = [\"/etc\"]\n";
    let taken = triage(&table(text), of_root(host.path()));
    let rows = taken.rows("/repeats.jsonl");
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["path"], &rows[0]["artefact"], &rows[0]["taken_by"]),
        (&"/etc/hostname".into(), &"two".into(), &"one".into())
    );
    assert_eq!(taken.state("two"), State::Done);
}

#[test]
fn limits_cut_files_and_artefacts_and_say_so() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("big")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(host.path().join("big").join(name), vec![b'x'; 3 << 20]).unwrap();
    }
    let text = "[[artefact]]\nname = \"big\"\nlevel = \"V6\"\ndescription = \"d\"\nfiles = [\"/big\"]\nmost_file_mib = 2\nmost_total_mib = 3\n";
    let taken = triage(&table(text), of_root(host.path()));
    assert_eq!(taken.entry("/big/a").unwrap().size, 2 << 20);
    assert_eq!(taken.entry("/big/b").unwrap().size, 1 << 20);
    assert!(taken.entry("/big/c").is_none());
    assert_eq!(taken.state("big"), State::Failed);
    assert!(taken.issues().contains("only the first 2097152 of its 3145728 bytes"), "{}", taken.issues());
    assert!(taken.entry("/big/a").unwrap().errors.join(" ").contains("only the first"));
}

#[test]
fn links_never_lead_out_of_the_root_and_loops_end() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret"), "not theirs").unwrap();
    let root = outer.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    symlink("../../../secret", root.join("etc/up")).unwrap();
    symlink("loop", root.join("etc/loop")).unwrap();
    symlink("..", root.join("etc/again")).unwrap();
    let text = "[[artefact]]\nname = \"links\"\nlevel = \"V9\"\ndescription = \"d\"\n\
        files = [\"/etc/up\", \"/etc/loop\", \"/etc/again/etc/again/etc/up\", \"/etc\"]\n";
    let taken = triage(&table(text), of_root(&root));
    let entries = taken.catalog("files");
    assert!(entries.iter().all(|entry| entry.kind != MemberKind::File), "{entries:?}");
    assert!(taken.issues().contains("too many links"), "{}", taken.issues());
}

#[test]
fn each_command_says_how_it_ended_and_a_missing_program_is_no_fault() {
    let text = "[[artefact]]\nname = \"good\"\nlevel = \"V2\"\ndescription = \"d\"\nrun = [[\"echo\", \"hello\"], [\"no-such-program-here\"]]\n\
        [[artefact]]\nname = \"bad\"\nlevel = \"V3\"\ndescription = \"d\"\nrun = [[\"ls\", \"/no/such/place\"]]\n\
        [[artefact]]\nname = \"hangs\"\nlevel = \"V1\"\ndescription = \"d\"\ntimeout = 1\nrun = [[\"sleep\", \"1000\"]]\n\
        [[artefact]]\nname = \"talks\"\nlevel = \"V4\"\ndescription = \"d\"\nmost_output_mib = 1\nrun = [[\"head\", \"-c\", \"1073741824\", \"/dev/zero\"]]\n\
        [[artefact]]\nname = \"gone\"\nlevel = \"V4\"\ndescription = \"d\"\nrun = [[\"no-such-program-here\"]]\n\
        [[artefact]]\nname = \"users\"\nlevel = \"V5\"\ndescription = \"d\"\nrun = [[\"echo\", \"user={}\"]]\neach = { file = \"/etc/passwd\", separator = \":\", only = \"root\" }\n";
    let start = Instant::now();
    let taken = triage(&table(text), TriageOptions::default());
    assert!(start.elapsed() < Duration::from_secs(30));
    let names: Vec<_> = taken.summary.artefacts.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, ["hangs", "good", "bad", "talks", "gone", "users"], "in order of volatility");
    let states: Vec<_> = taken.summary.artefacts.iter().map(|result| result.state).collect();
    assert_eq!(
        states,
        [State::TimedOut, State::Done, State::Done, State::Failed, State::Missing, State::Done]
    );
    assert_eq!(taken.content("commands", "/V2/echo-hello/stdout"), b"hello\n");
    assert_eq!(taken.content("commands", "/V5/echo-user=root/stdout"), b"user=root\n");
    assert_eq!(taken.content("commands", "/V4/head-c-1073741824-dev-zero/stdout").len(), 1 << 20);
    assert!(!taken.content("commands", "/V3/ls-no-such-place/stderr").is_empty());
    let rows = taken.rows("/commands.jsonl");
    let row = |program: &str| rows.iter().find(|row| row["argv"][0] == program).unwrap();
    assert_eq!((&row("echo")["ending"], &row("echo")["code"]), (&"exited".into(), &0.into()));
    assert_eq!(row("ls")["code"], 2);
    assert_eq!(row("sleep")["ending"], "timed-out");
    assert_eq!(row("head")["ending"], "too-much");
    assert_eq!(row("no-such-program-here")["ending"], "not-there");
    let program = row("echo")["program"].as_str().unwrap();
    assert_eq!(row("echo")["program_sha256"], custody::sha256(&fs::read(program).unwrap()).to_string());
    // What went wrong is an issue; what is missing is not.
    assert_eq!(taken.report.issue_count, 3, "{}", taken.issues());
    let footprint = taken.content("commands", "/footprint.json");
    let footprint = custody::strict_json::parse(footprint.trim_ascii()).unwrap();
    assert_eq!(footprint["commands_run"], 5);
    assert_eq!(footprint["pid"], std::process::id());
}

#[test]
fn the_kernels_own_files_are_read_to_their_end_though_they_tell_no_size() {
    let text = "[[artefact]]\nname = \"kernel\"\nlevel = \"V0\"\ndescription = \"d\"\nfiles = [\"/proc/version\", \"/proc/self/mountinfo\", \"/sys/devices/system/cpu/online\"]\n";
    let taken = triage(&table(text), TriageOptions::default());
    for path in ["/proc/version", "/sys/devices/system/cpu/online"] {
        assert_eq!(taken.content("files", path), fs::read(path).unwrap());
    }
    let mounts = taken.catalog("files").into_iter().find(|entry| entry.path.ends_with("/mountinfo")).unwrap();
    assert!(mounts.size > 0);
}

const ALL: &str = "[[artefact]]\nname = \"all\"\nlevel = \"V8\"\ndescription = \"d\"\nfiles = [\"/etc\", \"/mnt\", \"/srv\"]\n\
    [[artefact]]\nname = \"metadata\"\nlevel = \"V9\"\ndescription = \"d\"\ncollector = \"file-metadata\"\n";

#[test]
fn a_file_system_of_the_network_is_not_touched_unless_it_is_asked_for() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    fs::create_dir(host.path().join("mnt")).unwrap();
    let Some(_mounted) = SilentFolder::mount(&host.path().join("mnt"), Silence::Whole) else { return };
    let start = Instant::now();
    let taken = triage(&table(ALL), of_root(host.path()));
    assert!(start.elapsed() < Duration::from_secs(4), "nothing was waited for");
    assert!(
        taken.issues().contains("not entered: network file system fuse from silent"),
        "{}",
        taken.issues()
    );
    assert!(taken.entry("/srv/jobs/app.log").is_some() && taken.entry("/mnt/file").is_none());
}

#[test]
fn a_file_system_that_never_answers_is_given_up_and_all_else_is_taken() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    fs::create_dir(host.path().join("mnt")).unwrap();
    let Some(_mounted) = SilentFolder::mount(&host.path().join("mnt"), Silence::Whole) else { return };
    let mut patient = of_root(host.path());
    (patient.network_mounts, patient.file_time) = (true, Duration::from_millis(500));
    let start = Instant::now();
    let taken = triage(&table(ALL), patient);
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(taken.state("all"), State::TimedOut);
    assert!(taken.issues().contains("/mnt: given up"), "{}", taken.issues());
    // Once is enough: the second walk does not touch it.
    assert!(taken.issues().contains("did not answer before"), "{}", taken.issues());
    assert_eq!(taken.content("files", "/srv/jobs/app.log"), b"started\n");
    let told = taken.rows("/V7/file-metadata.jsonl");
    assert!(told.iter().any(|row| row["path"] == "/srv/jobs/app.log"));
    let footprint = taken.content("commands", "/footprint.json");
    assert!(String::from_utf8_lossy(&footprint).contains("file_systems_that_did_not_answer\":[\"/"));
}

#[test]
fn a_file_whose_reads_stop_being_answered_keeps_what_came_before() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    fs::create_dir(host.path().join("mnt")).unwrap();
    let Some(_mounted) = SilentFolder::mount(&host.path().join("mnt"), Silence::Reads) else { return };
    let mut patient = of_root(host.path());
    (patient.network_mounts, patient.file_time) = (true, Duration::from_millis(500));
    let taken = triage(&table(ALL), patient);
    let content = taken.content("files", "/mnt/file");
    assert_eq!(content.len(), 200_000);
    assert!(content.starts_with(&[b'x'; 65_536]));
    assert!(content.ends_with(&[0; 1024]));
    assert!(taken.entry("/mnt/file").unwrap().errors.join(" ").contains("no answer within"));
    assert_eq!(taken.content("files", "/srv/jobs/app.log"), b"started\n");
}

#[test]
fn the_fast_profile_takes_less_than_the_full_one_and_the_manifest_says_which() {
    let host = tempfile::tempdir().unwrap();
    make_host(host.path());
    let mut fast = of_root(host.path());
    fast.profile = Profile::Fast;
    let taken = triage(&ArtefactTable::embedded().unwrap(), fast);
    assert!(taken.entry("/var/log/syslog").is_some() && taken.entry("/srv/jobs/app.log").is_none());
    let manifest: Value =
        serde_json::from_slice(&fs::read(taken.folder.path().join("manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["source"]["kind"], &manifest["options"]["profile"]),
        (&"triage".into(), &"fast".into())
    );
    assert!(manifest["source"]["artefacts"]["done"].as_u64().unwrap() > 5);
}
