use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use super::*;
use crate::triage::packed::packed;

const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 0200007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 000 100 0 0 10 0\n   1: garbage\n";

#[test]
#[cfg(target_endian = "little")]
fn a_made_tree_gives_its_sockets_with_who_holds_them() {
    let root = tempfile::tempdir().unwrap();
    let of = root.path().join("proc/42");
    for folder in ["fd", "ns", "net"] {
        fs::create_dir_all(of.join(folder)).unwrap();
    }
    fs::write(of.join("comm"), "ev\\il\n").unwrap();
    fs::write(of.join("net/tcp"), TCP).unwrap();
    symlink("net:[4026531840]", of.join("ns/net")).unwrap();
    symlink("socket:[4711]", of.join("fd/3")).unwrap();
    let out = packed(|out, clock| sockets_at(root.path(), out, clock));
    let rows = out.rows("V3/sockets.jsonl");
    assert_eq!(
        serde_json::to_string(&rows).unwrap(),
        r#"[{"inode":"4711","local_ip":"127.0.0.1","local_port":8080,"netns":"4026531840","observed":"2026-11-21T01:30:00.000000000Z","pids":[42],"process":"ev\\x5cil","protocol":"tcp","receive_queue":0,"remote_ip":"127.0.0.2","remote_port":49153,"send_queue":0,"state":"ESTABLISHED","uid":1000}]"#
    );
    assert_eq!(out.files["V3/netns-4026531840/tcp"], TCP.as_bytes());
    assert_eq!(out.issues[0].what, "tcp: 1 lines could not be read");
}

#[test]
fn mounted_namespaces_are_found() {
    let mounts = b"1 2 0:4 net:[4026532000] /run/netns/blue rw shared:1 - nsfs nsfs rw\n2 2 0:4 / /proc rw - proc proc rw\n3 2 0:4 mnt:[1] /x rw - nsfs nsfs rw\n";
    assert_eq!(
        mounted_namespaces(mounts),
        [(b"net:[4026532000]".to_vec(), PathBuf::from("/run/netns/blue"))]
    );
}

/// Listens in a network namespace of its own, where root may make one.
const ELSEWHERE: &str = "import socket,sys\ns=socket.socket()\ns.bind(('0.0.0.0',4242))\ns.listen()\nprint('up',flush=True)\nsys.stdin.read()";

#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped must say so")]
fn listeners_are_found_with_their_process_in_our_namespace_and_in_another_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = Command::new("unshare")
        .args(["-n", "python3", "-c", ELSEWHERE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut other = other.ok();
    let mut line = String::new();
    if let Some(out) = other.as_mut().and_then(|child| child.stdout.take()) {
        BufReader::new(out).read_line(&mut line).unwrap();
    }
    let out = packed(sockets);
    if let Some(child) = other.as_mut() {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let rows = out.rows("V3/sockets.jsonl");
    let own = rows.iter().find(|row| row["protocol"] == "tcp" && row["local_port"] == port).unwrap();
    assert_eq!((&own["state"], &own["local_ip"]), (&"LISTEN".into(), &"127.0.0.1".into()));
    assert_eq!(own["pids"], serde_json::json!([std::process::id()]));
    assert!(rows.iter().all(|row| row.get("hidden").is_none()), "{:?}", out.issues);

    let (Some(other), "up\n") = (other, line.as_str()) else {
        eprintln!("skipped in part: no second network namespace (needs root, unshare and python3)");
        return;
    };
    let there = rows.iter().find(|row| row["local_port"] == 4242).unwrap();
    assert_ne!(there["netns"], own["netns"]);
    assert_eq!(there["pids"], serde_json::json!([other.id()]));
    let place = format!("V3/netns-{}/tcp", there["netns"].as_str().unwrap());
    assert!(out.files.contains_key(&place));
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped must say so")]
fn a_namespace_without_processes_is_seen_by_entering_it() {
    let name = format!("exhibit-test-{}", std::process::id());
    let ip = |act: &str| {
        Command::new("ip")
            .args(["netns", act, &name])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|done| done.success())
    };
    if !ip("add") {
        eprintln!("skipped: `ip netns add` needs root and iproute2");
        return;
    }
    let out = packed(sockets);
    assert!(ip("delete"));
    // It holds nothing but its own tables, and these are there.
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let own = namespace_inode(own.to_str().unwrap().as_bytes()).unwrap();
    let others = out.files.keys().filter(|name| name.ends_with("/dev") && !name.contains(&own)).count();
    assert!(others >= 1, "{:?}", out.issues);
}
