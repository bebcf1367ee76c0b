//! Files and folders: the tar, its catalogue and the context that says whose they are.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use custody::bundle::{self, Bundle, MemberKind};
use custody::sha256;

use crate::support::*;

#[test]
fn files_come_with_context_catalogue_and_content_in_a_fixed_order() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root").canonicalize().unwrap_or_else(|_| place.path().join("root"));
    make_tree(&root);
    let folder = place.path().join("bundle");
    let report = acquire_files(&[root.join("var/log")], &folder).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    let entries = catalog(&folder);
    let base = root.to_str().unwrap();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.strip_prefix(base).unwrap()).collect();
    let long = "n".repeat(200);
    assert_eq!(
        paths,
        [
            "/etc/hostname",
            "/etc/localtime",
            "/usr/share/zoneinfo/Europe/Berlin",
            "/etc/passwd",
            "/var/log",
            "/var/log/block",
            r"/var/log/caf\xe9\x0a.log",
            "/var/log/current",
            "/var/log/dangling",
            "/var/log/empty",
            "/var/log/lastlog",
            "/var/log/loop",
            "/var/log/nginx",
            "/var/log/nginx/access.log",
            &format!("/var/log/{long}"),
            &format!("/var/log/{long}/{long}"),
            "/var/log/nothing",
            "/var/log/pipe",
            "/var/log/socket",
            "/var/log/syslog",
            "/var/log/syslog.also",
            "/var/log/ünïcode",
        ]
    );
    let named = |name: &str| entries.iter().find(|entry| entry.path.ends_with(name)).unwrap();
    assert_eq!(named("/pipe").kind, MemberKind::Pipe);
    assert_eq!(named("/socket").kind, MemberKind::Socket);
    assert_eq!(named("/loop").link.as_deref(), Some("."));
    assert_eq!(named("/syslog.also").kind, MemberKind::Hardlink);
    assert_eq!(named("/syslog.also").link.as_deref(), Some(named("/syslog").path.as_str()));
    let stat = fs::metadata(root.join("var/log/syslog")).unwrap();
    let entry = named("/syslog");
    assert_eq!(entry.mode, Some(stat.mode()));
    assert_eq!(entry.inode, Some(stat.ino().to_string()));
    assert_eq!(entry.mtime, bundle::file_time(stat.mtime(), stat.mtime_nsec() as u32));
    assert_eq!(entry.ctime, bundle::file_time(stat.ctime(), stat.ctime_nsec() as u32));
    let bundle = Bundle::open(&folder).unwrap();
    let context: Vec<_> = bundle.manifest().options["context"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert_eq!(context, entries[..4].iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>());
    let stream = bundle.stream("files").unwrap();
    for entry in entries.iter().filter(|entry| entry.sha256.is_some()) {
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        stream.read_exact_at(entry.offset, &mut content).unwrap();
        assert_eq!(Some(sha256(&content)), entry.sha256, "{}", entry.path);
        let path = custody::strict_json::unescape_text(&entry.path).unwrap();
        assert!(
            fs::read(Path::new(std::ffi::OsStr::from_bytes(&path))).unwrap() == content,
            "{}",
            entry.path
        );
    }
    let again = place.path().join("again");
    let second = acquire_files(&[root.join("var/log")], &again).unwrap();
    assert_eq!(catalog(&again).len(), entries.len());
    assert_eq!(second.streams[0].size, report.streams[0].size);
}

#[test]
fn on_a_kernel_without_statx_only_the_birth_times_are_missing() {
    let refuse = ["strace", "-f", "-o", "/dev/null", "-e", "inject=statx,renameat2:error=ENOSYS"];
    if !std::process::Command::new("strace")
        .args(&refuse[1..])
        .arg("true")
        .status()
        .is_ok_and(|s| s.success())
    {
        eprintln!("skipped: there is no strace, or it may not change calls here");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    make_tree(&root);
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    acquire_files(&[root.join("var/log")], &new).unwrap();
    assert!(child(&refuse, &root.join("var/log"), &old).status().unwrap().success());
    let without_birth = |folder: &Path| {
        let place = |entry: custody::bundle::CatalogEntry| custody::bundle::CatalogEntry {
            btime: None,
            atime: None,
            header: 0,
            header_size: 0,
            offset: 0,
            ..entry
        };
        catalog(folder).into_iter().map(place).collect::<Vec<_>>()
    };
    assert!(catalog(&new).iter().any(|entry| entry.btime.is_some()) || cfg!(not(target_os = "linux")));
    assert!(catalog(&old).iter().all(|entry| entry.btime.is_none()));
    assert_eq!(without_birth(&old), without_birth(&new));
}

#[test]
fn gnu_tar_takes_the_stream_and_gets_what_the_catalogue_says() {
    if !has_tool("tar") || !has_tool("zstd") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    make_tree(&root);
    let folder = place.path().join("bundle");
    acquire_files(&[root.join("var/log")], &folder).unwrap();
    let archive = place.path().join("files.tar");
    fs::write(&archive, by_zstd(&folder, "files")).unwrap();
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&out).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let mut checked = 0;
    for entry in catalog(&folder) {
        let path = custody::strict_json::unescape_text(&entry.path).unwrap();
        let path = out.join(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap()));
        let found = fs::symlink_metadata(&path).unwrap();
        if let Some(hash) = entry.sha256 {
            assert_eq!(sha256(&fs::read(&path).unwrap()), hash, "{path:?}");
            assert_eq!(bundle::file_time(found.mtime(), found.mtime_nsec() as u32), entry.mtime, "{path:?}");
            assert_eq!(Some(found.mode()), entry.mode, "{path:?}");
            checked += 1;
        }
        match entry.kind {
            MemberKind::Symlink => {
                assert_eq!(fs::read_link(&path).unwrap().to_str(), entry.link.as_deref());
            }
            MemberKind::Folder => assert!(found.is_dir()),
            MemberKind::Hardlink => assert_eq!(fs::metadata(&path).unwrap().nlink(), 2),
            _ => {}
        }
    }
    assert!(checked >= 9, "{checked}");
    // Python's reader is stricter about PAX records than GNU tar.
    if has_tool("python3") {
        let script = "import tarfile,sys\nfor m in tarfile.open(sys.argv[1]): assert 'EXHIBIT.btime' in m.pax_headers or m.mtime, m";
        let python = Command::new("python3").args(["-c", script]).arg(&archive).output().unwrap();
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    }
}

#[test]
fn extended_attributes_are_in_the_catalogue_and_in_the_tar() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "x").unwrap();
    if rustix::fs::setxattr(&file, "user.exhibit", b"a\0b\n", rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("skipped: no extended attributes on this file system");
        return;
    }
    let folder = place.path().join("bundle");
    acquire_files(std::slice::from_ref(&file), &folder).unwrap();
    let entry = catalog(&folder).pop().unwrap();
    assert_eq!(entry.xattrs.len(), 1);
    assert_eq!((entry.xattrs[0].name.as_str(), entry.xattrs[0].value.as_str()), ("user.exhibit", "YQBiCg=="));
    let tar = read_all(&Bundle::open(&folder).unwrap(), "files");
    let needle = b"SCHILY.xattr.user.exhibit=a\0b\n\n";
    assert!(tar.windows(needle.len()).any(|window| window == needle));
}

#[test]
fn files_that_change_while_they_are_read_keep_the_size_they_had_and_are_named() {
    let place = tempfile::tempdir().unwrap();
    let logs = place.path().join("logs");
    fs::create_dir(&logs).unwrap();
    // Large enough that the first thread is still reading when the second one writes.
    let growing = logs.join("growing.log");
    fs::write(&growing, vec![b'a'; 64 << 20]).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (growing, stop) = (growing, Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                File::options().append(true).open(&growing).unwrap().write_all(b"more\n").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let folder = place.path().join("bundle");
    let report = acquire_files(&[logs], &folder).unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let entry = catalog(&folder).pop().unwrap();
    assert!(entry.errors.iter().any(|error| error.starts_with("grew from")), "{:?}", entry.errors);
    assert_eq!(report.issue_count, 1);
    let mut content = vec![0; usize::try_from(entry.size).unwrap()];
    Bundle::open(&folder)
        .unwrap()
        .stream("files")
        .unwrap()
        .read_exact_at(entry.offset, &mut content)
        .unwrap();
    assert_eq!(Some(sha256(&content)), entry.sha256);
}

#[test]
fn the_bundle_itself_is_left_out_of_what_it_holds() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.log"), "a").unwrap();
    let folder = place.path().join("case/exhibits/E001-x");
    let report = acquire_files(&[place.path().to_owned()], &folder).unwrap();
    assert!(report.issues.iter().any(|issue| issue.what.contains("left out")), "{:?}", report.issues);
    assert!(!catalog(&folder).iter().any(|entry| entry.path.contains("custody.jsonl")));
}

#[test]
fn a_file_that_is_rewritten_in_place_while_it_is_read_is_named() {
    let place = tempfile::tempdir().unwrap();
    let logs = place.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let rewritten = logs.join("rewritten.log");
    fs::write(&rewritten, vec![b'a'; 64 << 20]).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                File::options().write(true).open(&rewritten).unwrap().write_all(b"other").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let report = acquire_files(&[logs], &place.path().join("bundle")).unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert!(report.issues.iter().any(|issue| issue.what.contains("written to while")), "{:?}", report.issues);
}
