//! An acquisition to an evidence store that is killed at any of its requests: another process goes on to the same hash.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acquire::s3_store::{S3LogMirror, S3Store};
use acquire::sources::disk::{self, DiskCapture};
use acquire::{Acquisition, OpenAcquisition};
use custody::bundle::Bundle;
use custody::sha256;
use custody::verify::{Options, verify};

use crate::moto::moto;
use crate::s3::{Bucket, Fate};
use crate::s3_desk::*;
use crate::support::*;

const CHILD: &str = "EXHIBIT_TEST_S3";

/// Acquires to a store, goes on, or ends what is sealed, when it is started as a process of its own.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the way to hand things to a test that runs as a process of its own"
)]
fn child_acquires_to_a_store() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [endpoint, bucket, source, root]: [&str; 4] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (connection, to, root) = (connection(endpoint), place(bucket, endpoint), Path::new(root));
    // An exhibit whose log was never begun stays as it is, as in a case; the next one is made.
    let folder = (1..).map(|number| root.join(format!("E{number:03}"))).find(|folder| {
        !folder.join("store.json").exists()
            || OpenAcquisition::in_folder(folder).ok().flatten().is_some()
            || folder.join("manifest.json").exists()
    });
    let folder = folder.unwrap();
    if OpenAcquisition::in_folder(&folder).ok().flatten().is_none() && folder.join("manifest.json").exists() {
        if OpenAcquisition::sealed_in_part(&folder).unwrap().is_none() {
            return;
        }
        let mirror = S3LogMirror::over(&connection, pace(), |_, _| {});
        let store = S3Store::take_up(&connection, &folder, pace()).unwrap();
        with_writer(|writer| store.end_sealed(&writer.clone().mirrored_by(&mirror)).unwrap());
        return;
    }
    let source = disk::open(source.as_ref()).unwrap();
    acquire_to(&connection, &to, &folder, |to| Acquisition::new(DiskCapture::new(source), to)).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how often is for who runs the tests to say")]
fn killed_anywhere_it_goes_on_to_the_same_hash_and_leaves_nothing_unlisted() {
    let Some(desk) = Desk::new() else { return };
    let data = [content(3 * SEGMENT), noise(2 * SEGMENT + 7)].concat();
    let source = desk.path("disk.raw");
    fs::write(&source, &data).unwrap();
    let start = |bucket: &str, root: &Path| {
        let told = [&desk.proxy.endpoint, bucket, source.to_str().unwrap(), root.to_str().unwrap()].join(" ");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "s3_kills::child_acquires_to_a_store"]).env(CHILD, told);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let whole = desk.path("whole");
    fs::create_dir_all(&whole).unwrap();
    assert!(start(&desk.bucket.name, &whole).wait().unwrap().success());
    let requests = desk.proxy.asked().len();
    let kills: usize = std::env::var("EXHIBIT_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(10);
    let mut by_end = (0, 0);
    for kill in 0..kills {
        let at = kill * (requests + 1) / kills;
        let moto = moto().unwrap();
        let bucket = Bucket::make(&moto.endpoint, &format!("{}-{kill}", desk.bucket.name), "");
        let root = desk.path(&format!("kill{kill}"));
        fs::create_dir_all(&root).unwrap();
        let victim = Arc::new(AtomicUsize::new(0));
        let pid = Arc::clone(&victim);
        let carried_out = kill % 2 == 1;
        desk.proxy.decide(move |asked| {
            if asked.number != at {
                return Fate::Pass;
            }
            while pid.load(Ordering::Acquire) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Either nothing of it is carried out, or all.
            let pid = pid.load(Ordering::Acquire);
            if carried_out {
                return Fate::CarriedOutThen(Box::new(move || kill_9(pid)));
            }
            kill_9(pid);
            Fate::Cut
        });
        let mut child = start(&bucket.name, &root);
        victim.store(child.id() as usize, Ordering::Release);
        let killed = !child.wait().unwrap().success();
        desk.proxy.decide(|_| Fate::Pass);
        let ended = start(&bucket.name, &root).wait().unwrap();
        assert!(ended.success(), "killed at request {at}");
        let folders = ["E001", "E002"].map(|name| root.join(name));
        let folder = folders.iter().rfind(|folder| folder.exists()).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let back = desk.path(&format!("back{kill}"));
        bucket.bundle(&format!("ir-17/{name}"), &back);
        let verification = verify(&back, &Options::default()).unwrap();
        assert_eq!(verification.fault_count, 0, "killed at request {at}: {:?}", verification.faults);
        let opened = Bundle::open(&back).unwrap();
        assert_eq!(opened.manifest().streams[0].sha256, sha256(&data), "killed at request {at}");
        assert!(read_all(&opened, "disk") == data);
        assert!(!folder.join("data").exists() && !folder.join("uploads.journal").exists(), "killed at {at}");
        assert_eq!(bucket.uploads(), [], "killed at request {at}");
        if killed {
            by_end.0 += 1;
        } else {
            by_end.1 += 1;
        }
        fs::remove_dir_all(&back).unwrap();
    }
    assert!(by_end.0 > kills / 2, "{by_end:?}");
}

fn kill_9(pid: usize) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}
