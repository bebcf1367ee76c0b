//! A host over SSH: a real sshd of Debian's on a loopback port, with keys made here.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use respond::alert::AssetKind;
use serde_json::json;

use crate::bench::{Bench, program};
use crate::moto::{Moto, moto};
use crate::runc_box::RuncBox;
use crate::sshd::Sshd;

const HOST: (AssetKind, &str, &str) = (AssetKind::Host, "web01", "web01");

/// A bench with this host, and the program as its collector unless another is given.
fn bench(sshd: &Sshd, collector: Option<&Path>) -> Option<Bench> {
    let program = program()?;
    let target = sshd.target(collector.unwrap_or(&program));
    Some(Bench::new(program, |_| json!({"ssh": {"web01": target}})))
}

#[test]
fn a_host_is_captured_over_ssh_verified_taken_into_the_case_and_nothing_stays_there() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(bench) = bench(&sshd, None) else { return };
    let logs = sshd.path("the host's logs; $(touch evil)");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("auth.log"), "Nov 21 10:00:00 web01 sshd[1]: hello\n").unwrap();
    let told = bench.run("capture.logs", "logs", HOST, json!({"paths": [logs]})).unwrap();
    assert_eq!((&told["sealed"], &told["removed"]), (&json!(true), &json!(true)), "{told}");
    assert_eq!(sshd.left(), Vec::<PathBuf>::new());
    let files = bench.files("E001-logs", "files");
    let log = files.get(&logs.join("auth.log").display().to_string());
    assert_eq!(log.unwrap(), b"Nov 21 10:00:00 web01 sshd[1]: hello\n");
    bench.assert_verifies();
    assert_eq!(bench.intents().len(), 1);

    // The same step again finds what it has done.
    let again = bench.run("capture.logs", "logs", HOST, json!({"paths": [logs]})).unwrap();
    assert_eq!(again["exhibit"], told["exhibit"]);
    assert_eq!(bench.exhibits().len(), 1);
    let log = custody::Case::open(&bench.path("case")).unwrap().log().read().unwrap();
    let acts: Vec<_> = log.entries.iter().map(|entry| entry.kind.as_str().to_owned()).collect();
    assert_eq!(acts, ["log.genesis", "approval.given", "exhibit.added", "bundle.sealed", "approval.given"]);
}

#[test]
fn a_host_with_another_key_is_told_and_nothing_is_sent_to_it() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(bench) = bench(&sshd, None) else { return };
    sshd.know("other");
    let failed = bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
    assert!(
        failed.what.contains("the key of 127.0.0.1 is not the one") && !failed.may_help_again,
        "{failed}"
    );
    assert!(sshd.left().is_empty() && bench.exhibits().is_empty() && bench.intents().is_empty());
    // Nor to one that is not known at all.
    fs::write(sshd.path("known"), "").unwrap();
    let failed = bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
    assert!(failed.what.contains("the key of 127.0.0.1 is not the one"), "{failed}");
}

#[test]
fn a_collector_with_another_hash_is_not_sent() {
    let Some(sshd) = Sshd::start() else { return };
    let collector = sshd.script("collector", "exit 0\n");
    let Some(bench) = bench(&sshd, Some(&collector)) else { return };
    fs::write(&collector, "#!/bin/sh\necho evil\n").unwrap();
    let failed = bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
    assert!(failed.what.contains("not the one in the settings") && !failed.may_help_again, "{failed}");
    assert!(sshd.left().is_empty());
}

#[test]
fn a_collector_that_fails_is_removed_all_the_same_and_its_words_are_told_plainly() {
    let Some(sshd) = Sshd::start() else { return };
    let collector = sshd.script("collector", "printf 'no disk\\033[31m\\n' >&2; exit 4\n");
    let Some(bench) = bench(&sshd, Some(&collector)) else { return };
    let failed = bench.run("capture.triage", "triage", HOST, json!({})).unwrap_err();
    assert!(failed.what.contains("exit code 4: no disk[31m") && failed.may_help_again, "{failed}");
    assert!(sshd.left().is_empty());
    // The number stays reserved, for the next try takes it.
    assert_eq!(bench.exhibits().len(), 1);
    assert!(bench.run("capture.triage", "triage", HOST, json!({})).is_err());
    assert_eq!(bench.exhibits().len(), 1);
}

#[test]
fn what_a_hostile_host_sends_back_stays_out_of_the_case_and_of_this_host() {
    let Some(sshd) = Sshd::start() else { return };
    let mut tar = tar::Builder::new(fs::File::create(sshd.path("evil.tar")).unwrap());
    let mut header = tar::Header::new_gnu();
    let path = b"E001-logs/../../../escaped";
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    // More than all pipes on the way hold: whoever sends it must not wait for us, who read no further.
    header.set_size(10_000_000);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, &*vec![b'x'; 10_000_000]).unwrap();
    tar.into_inner().unwrap().flush().unwrap();
    let script =
        format!("case \"$*\" in *--give*) cat {};; *) echo '{{}}';; esac\n", sshd.path("evil.tar").display());
    let collector = sshd.script("collector", &script);
    let Some(bench) = bench(&sshd, Some(&collector)) else { return };
    let failed = bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
    assert!(failed.what.contains("outside of the exhibit's folder"), "{failed}");
    let (_, folder) = bench.exhibits().remove(0);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    assert!(!bench.path("escaped").exists() && !bench.path("case/escaped").exists());
    assert!(sshd.left().is_empty());
    bench.assert_verifies();
}

#[test]
fn a_stop_in_the_middle_ends_the_collector_there_and_removes_it() {
    let Some(sshd) = Sshd::start() else { return };
    let mark = sshd.path("running");
    let script = format!("echo $$ > {}; exec sleep 20\n", mark.display());
    let collector = sshd.script("collector", &script);
    let Some(bench) = bench(&sshd, Some(&collector)) else { return };
    thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while !mark.exists() && begun.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_millis(20));
            }
            bench.stop.store(true, Ordering::Relaxed);
        });
        let failed = bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
        assert!(failed.what.contains("stopping") && failed.may_help_again, "{failed}");
    });
    assert!(sshd.left().is_empty());
}

/// Whether no such process runs any more. One that nobody waits for may stay a zombie.
fn is_gone(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn a_stop_ends_the_collector_there_also_where_its_folder_is_reached_by_a_link() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(program) = program() else { return };
    std::os::unix::fs::symlink(sshd.path("remote"), sshd.path("link")).unwrap();
    let mut target = sshd.target(&program);
    target["folder"] = json!(sshd.path("link"));
    let bench = Bench::new(program, |_| json!({"ssh": {"web01": target}}));
    let disk = sshd.path("disk");
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let running = |sshd: &Sshd| {
        let folder = sshd.left().pop()?;
        let id = fs::read_to_string(folder.join("pid")).ok()?.trim().to_owned();
        let is_it = fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.ends_with("exhibit"));
        is_it.then_some(id)
    };
    let id = thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let begun = Instant::now();
            let id = loop {
                if let Some(id) = running(&sshd) {
                    break Some(id);
                }
                if begun.elapsed() > Duration::from_secs(300) {
                    break None;
                }
                thread::sleep(Duration::from_millis(20));
            };
            bench.stop.store(true, Ordering::Relaxed);
            id
        });
        // The real collector, which reads for hours.
        let failed = bench
            .run("capture.disk", "disk", HOST, json!({"source": disk, "max_read": "1KB/s"}))
            .unwrap_err();
        assert!(failed.what.contains("stopping"), "{failed}");
        seen.join().unwrap()
    });
    assert!(sshd.left().is_empty(), "{:?}", sshd.left());
    let id = id.expect("the collector was begun");
    assert!(is_gone(&id), "the collector {id} goes on");
}

#[test]
fn what_was_killed_while_it_took_in_is_taken_in_by_the_next_run_and_is_whole() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(mut bench) = bench(&sshd, None) else { return };
    let logs = sshd.path("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("auth.log"), "hello\n").unwrap();
    // Once, what comes stops when the exhibit's log and its seal have come and nothing of its data, and whoever takes it in is
    // killed.
    let script = format!(
        "case \"$*\" in *--take*) if [ ! -e {mark} ]; then touch {mark}; mkfifo {mark}.pipe; exec 9<&0\n\
         ( head -c 18000 <&9; n=0; until [ $n -gt 1000 ] || [ -n \"$(find {case} -path '*/E001-logs/data' 2>/dev/null)\" ]; do \
         sleep 0.1; n=$((n+1)); done; kill -9 $$ ) > {mark}.pipe &\n\
         exec 9<&-; exec {program} \"$@\" < {mark}.pipe; fi;; esac\nexec {program} \"$@\"\n",
        mark = sshd.path("mark").display(),
        case = bench.path("case").display(),
        program = bench.program.display(),
    );
    bench.program = sshd.script("killed-once", &script);
    let failed = bench.run("capture.logs", "logs", HOST, json!({"paths": [logs]})).unwrap_err();
    assert!(failed.what.contains("not taken in") && failed.may_help_again, "{failed}");
    assert!(sshd.path("mark").exists());
    let (_, folder) = bench.exhibits().remove(0);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "nothing unchecked lies among the exhibits");
    bench.assert_verifies();
    let told = bench.run("capture.logs", "logs", HOST, json!({"paths": [logs]})).unwrap();
    assert_eq!((&told["sealed"], &told["exhibit"]), (&json!(true), &json!("E001")), "{told}");
    assert_eq!(bench.exhibits().len(), 1);
    let files = bench.files("E001-logs", "files");
    assert_eq!(files.get(&logs.join("auth.log").display().to_string()).unwrap(), b"hello\n");
    assert!(!bench.path("case/taking").exists() && sshd.left().is_empty());
    bench.assert_verifies();
}

#[test]
fn what_came_without_a_seal_is_kept_and_is_no_success() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(program) = program() else { return };
    // A collector that is killed in the middle, and says that all is well.
    let disk = sshd.path("disk");
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let script = format!(
        "case \"$*\" in *--give*) exec {program} \"$@\";; esac\n\
         {program} \"$@\" & id=$!\n\
         until [ \"$(sed -n 2p E*/checkpoint 2>/dev/null)0\" -ge 20 ]; do sleep 0.05; done\n\
         kill -9 $id; wait; echo '{{\"issue_count\":18446744073709551615}}'; echo '{{\"issue_count\":1}}'\n",
        program = program.display()
    );
    let collector = sshd.script("collector", &script);
    let Some(bench) = bench(&sshd, Some(&collector)) else { return };
    let parameters = json!({"source": disk, "max_read": "1KB/s"});
    let failed = bench.run("capture.disk", "disk", HOST, parameters.clone()).unwrap_err();
    assert!(failed.what.contains("E001 was not sealed") && failed.may_help_again, "{failed}");
    assert!(sshd.left().is_empty());
    // The next try makes another, and the first one stays as it came.
    let failed = bench.run("capture.disk", "disk", HOST, parameters).unwrap_err();
    assert!(failed.what.contains("E002 was not sealed"), "{failed}");
    assert_eq!(bench.exhibits().len(), 2);
    bench.assert_verifies();
}

#[test]
fn what_cannot_be_removed_there_is_told_and_holds_no_capture_up() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(bench) = bench(&sshd, None) else { return };
    let logs = sshd.path("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("auth.log"), "hello\n").unwrap();
    let tag = custody::sha256(b"J000017\nlogs").to_string();
    let left = sshd.path(&format!("remote/exhibit-J000017-logs-{}.aB3dE6gH9j", tag.get(..8).unwrap()));
    fs::create_dir(&left).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&left).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let told = bench.run("capture.logs", "logs", HOST, json!({"paths": [logs]}));
    let unmounted = Command::new("umount").arg(&left).status().unwrap();
    assert!(unmounted.success());
    let told = told.unwrap();
    assert_eq!((&told["sealed"], &told["removed"]), (&json!(true), &json!(false)), "{told}");
    assert!(told["left"].as_str().unwrap().contains("is of an earlier run and was not removed"), "{told}");
    bench.assert_verifies();
}

#[test]
fn what_an_earlier_run_left_there_is_removed_by_the_next() {
    let Some(sshd) = Sshd::start() else { return };
    let collector = sshd.script("collector", "exit 4\n");
    let Some(bench) = bench(&sshd, Some(&collector)) else { return };
    // A folder of this very step, as a killed run leaves it, and one of another.
    bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
    let named = bench.intents().remove(0)["folder"].as_str().unwrap().to_owned();
    let left = PathBuf::from(named.replace('*', "aB3dE6gH9j"));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("exhibit"), "x").unwrap();
    let other = sshd.path("remote/exhibit-J000018-x.aB3dE6gH9j");
    fs::create_dir(&other).unwrap();
    bench.run("capture.logs", "logs", HOST, json!({})).unwrap_err();
    assert_eq!(sshd.left(), [other]);
}

#[test]
fn a_container_on_a_host_over_ssh_is_captured_with_its_memory() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(program) = program() else { return };
    let id = format!("{:0<64}", "55dcafe");
    let Some(it) = RuncBox::start(&id, true) else { return };
    let target = sshd.target(&program);
    let state = it.path("state");
    let bench = Bench::new(
        program,
        |_| json!({"ssh": {"web01": target}, "containers": {"boxes": {"on": "web01", "runtime": "runc", "states": [state]}}}),
    );
    let asset = (AssetKind::Container, "55dcafe00000", "boxes");
    let told = bench.run("capture.container", "box", asset, json!({"pause": true})).unwrap();
    assert_eq!(told["sealed"], true, "{told}");
    let cores = bench.files("E001-box", "processes");
    let secret = b"planted-42-secret";
    assert!(cores.values().any(|core| core.windows(secret.len()).any(|part| part == secret)));
    assert!(sshd.left().is_empty());
    assert_eq!(it.status(), "running");
    bench.assert_verifies();
}

/// A bucket of the server, which takes requests without a signature.
fn make_bucket(moto: &Moto, name: &str) {
    let place = "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>";
    let versioned = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    for (target, body) in [(format!("/{name}"), place), (format!("/{name}?versioning"), versioned)] {
        let host = moto.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        let length = body.len();
        write!(stream, "PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }
}

#[test]
fn with_an_evidence_store_the_host_writes_there_by_a_grant_and_knows_no_credential() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(mut bench) = bench(&sshd, None) else { return };
    let knows = Command::new(&bench.program)
        .args(["grant", "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !knows.unwrap().success() {
        eprintln!("skipped: the exhibit beside the tests has no cloud part");
        return;
    }
    let Some(moto) = moto() else { return };
    make_bucket(moto, "evidence-over-ssh");
    // The service's account, which the host must not see.
    let script = format!(
        "export AWS_ACCESS_KEY_ID=AKIASERVICE AWS_SECRET_ACCESS_KEY=service-secret AWS_CONFIG_FILE=/dev/null\nexec {} \"$@\"\n",
        bench.program.display()
    );
    bench.program = sshd.script("with-account", &script);
    bench.settings.capture.to = Some("s3://evidence-over-ssh/cases".to_owned());
    bench.settings.aws.endpoint_url = Some(moto.endpoint.clone());
    bench.settings.aws.region = Some("eu-central-1".to_owned());
    let logs = sshd.path("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("auth.log"), "hello\n").unwrap();
    let told = bench.run("capture.logs", "logs", HOST, json!({"paths": [logs]})).unwrap();
    assert_eq!((&told["sealed"], &told["removed"]), (&json!(true), &json!(true)), "{told}");
    assert!(told["place"].as_str().unwrap().starts_with("s3://evidence-over-ssh/cases/"), "{told}");
    assert!(sshd.left().is_empty());
    let (_, folder) = bench.exhibits().remove(0);
    assert!(folder.join("manifest.json").is_file() && !folder.join("data/files/000000.zst").exists());
    // The grant is a secret, and is kept no longer than it is needed.
    let kept = bench.path("state/collections");
    let grants = fs::read_dir(kept).unwrap().flatten().filter(|entry| entry.path().join("grant").exists());
    assert_eq!(grants.count(), 0);
    assert!(!bench.intents().iter().any(|intent| intent.to_string().contains("Signature")));
}
