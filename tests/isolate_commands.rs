//! `exhibit isolate` as a person types it, on a host of our own: killed at any moment, left alone, undone.

use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exhibit::{Desk, ran};
use crate::netns::{MANAGEMENT, Net};

fn desk() -> Desk {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    desk
}

fn status(desk: &Desk, net: &Net) -> Value {
    let ran = net.on_host(|| desk.ok(&["isolate", "status", "--case", "case", "--json"]));
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Processes on this host whose command line is like this, found by their network.
fn processes(net: &Net, is_like: impl Fn(&str) -> bool) -> Vec<i32> {
    let ours = net.on_host(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_there = std::fs::read_link(process.path().join("ns/net")).is_ok_and(|there| there == ours);
        if is_there && is_like(&String::from_utf8_lossy(&words)) {
            found.push(pid);
        }
    }
    found
}

/// Those that wait for the end of a lease.
fn waiting(net: &Net) -> Vec<i32> {
    processes(net, |words| words.contains("--table-handle"))
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(180), "it never came that {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_host_is_isolated_by_hand_extended_and_undone_and_the_log_tells_it_all() {
    let Some(net) = Net::make() else { return };
    let desk = desk();
    let allow = format!("{}:443", MANAGEMENT[0]);
    let isolated =
        net.on_host(|| desk.run(&["isolate", "host", "--case", "case", "--allow", &allow, "--lease", "1h"]));
    assert_eq!(isolated.code, 0, "{}", isolated.stderr);
    let id = isolated.stdout.trim().to_owned();
    let now = status(&desk, &net);
    assert_eq!(
        (&now["this_host"]["id"], &now["isolations"][0]["state"]),
        (&id.clone().into(), &"done".into())
    );
    // A second one on the same host is none.
    let second = net.on_host(|| desk.run(&["isolate", "host", "--case", "case", "--lease", "1h"]));
    second.fails(4, &["isolated already"]);
    net.on_host(|| desk.ok(&["isolate", "extend", "--case", "case", &id, "--lease", "3h"]));
    assert!(status(&desk, &net)["this_host"]["lease_left"].as_u64().unwrap() > 7200);
    for _ in 0..2 {
        net.on_host(|| desk.ok(&["isolate", "undo", "--case", "case", &id]));
        assert_eq!(net.nft(&["list", "ruleset"]), "");
    }
    let log = desk.ok(&["custody", "log", "case"]).stdout;
    for act in ["decision.made", "isolation.done", "isolation.undone"] {
        assert!(log.contains(act), "{act} is not in: {log}");
    }
    desk.ok(&["verify", "case"]);
    net.on_host(|| desk.run(&["isolate", "undo", "--case", "case", "i999"])).fails(2, &["i999", &id]);
}

#[test]
fn the_session_that_it_is_typed_in_is_not_cut_off_by_mistake() {
    let Some(net) = Net::make() else { return };
    let desk = desk();
    let typed = |words: &[&str]| {
        let mut command = desk.command();
        command.args(["isolate", "host", "--case", "case", "--lease", "1h"]).args(words);
        command.env("SSH_CONNECTION", "10.77.1.2 50000 10.77.1.1 22");
        net.on_host(|| ran(command.output().unwrap()))
    };
    typed(&[]).fails(2, &["10.77.1.2", "--allow-from 10.77.1.2:22"]);
    typed(&["--allow-from", "10.77.1.2:2222"]).fails(2, &["cut off"]);
    let unclear = net.on_host(|| {
        let mut command = desk.command();
        command.args(["isolate", "host", "--case", "case", "--lease", "1h"]);
        ran(command.env("SSH_CONNECTION", "UNKNOWN 65535 UNKNOWN 65535").output().unwrap())
    });
    unclear.fails(2, &["not understood", "--even-me"]);
    assert_eq!(net.nft(&["list", "ruleset"]), "");
    assert_eq!(typed(&["--allow-from", "10.77.1.2:22"]).code, 0);
}

#[test]
fn a_session_that_sudo_has_left_out_of_the_environment_is_not_cut_off_either() {
    let Some(net) = Net::make() else { return };
    let desk = desk();
    let typed = |more: &str| {
        let words = desk.command();
        let program = words.get_program().to_str().unwrap().to_owned();
        // A shell that has the variable, and what it starts that has it not, as by sudo.
        let mut shell = std::process::Command::new("/bin/sh");
        let line = format!(
            "env -u SSH_CONNECTION '{program}' isolate host --case case --lease 1h {more}; code=$?; exit $code"
        );
        shell.args(["-c", &line]).current_dir(desk.path("."));
        for (name, value) in words.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            shell.env(name, value);
        }
        shell.env("SSH_CONNECTION", "fe80::9%m0 50000 fe80::1%m0 22");
        net.on_host(|| ran(shell.output().unwrap()))
    };
    typed("").fails(2, &["cut off", "--allow-from [fe80::9]:22"]);
    assert_eq!(net.nft(&["list", "ruleset"]), "");
    assert_eq!(typed("--allow-from '[fe80::9]:22'").code, 0);
}

#[test]
fn a_lease_that_could_not_be_extended_is_not_longer_in_the_log() {
    let Some(net) = Net::make() else { return };
    let desk = desk();
    let made = net.on_host(|| desk.run(&["isolate", "host", "--case", "case", "--lease", "1h"]));
    assert_eq!(made.code, 0, "{}", made.stderr);
    let id = made.stdout.trim().to_owned();
    let before = status(&desk, &net)["isolations"][0]["until"].clone();
    net.nft(&["delete", "table", "inet", "exhibit_quarantine"]);
    let extended = net.on_host(|| desk.run(&["isolate", "extend", "--case", "case", &id, "--lease", "3h"]));
    extended.fails(4, &["isolates this host no more"]);
    assert_eq!(status(&desk, &net)["isolations"][0]["until"], before);
    assert!(desk.ok(&["custody", "log", "case"]).stdout.matches("decision.made").count() >= 3);
}

#[test]
fn a_lease_ends_and_leaves_nothing_with_nobody_there_and_lets_through_with_all_of_us_killed() {
    let Some(net) = Net::make() else { return };
    let desk = desk();
    let isolate = || {
        let made = net.on_host(|| desk.run(&["isolate", "host", "--case", "case", "--lease", "30s"]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        made.stdout.trim().to_owned()
    };
    let first = isolate();
    assert_eq!(waiting(&net).len(), 1, "{:?}", waiting(&net));
    until("the table is gone", || net.nft(&["list", "ruleset"]).is_empty());
    net.on_host(|| desk.ok(&["isolate", "undo", "--case", "case", &first]));

    let second = isolate();
    waiting(&net).into_iter().for_each(kill);
    until("they are killed", || waiting(&net).is_empty());
    until("the kernel lets through", || status(&desk, &net)["this_host"]["lease_left"] == 0);
    let sent = net.on_host(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.0.2.1:9"));
    assert!(sent.is_ok(), "{sent:?}");
    net.on_host(|| desk.ok(&["isolate", "undo", "--case", "case", &second]));
    assert_eq!(net.nft(&["list", "ruleset"]), "");
}

#[test]
fn a_kill_at_any_moment_leaves_the_host_as_it_was_or_a_log_that_puts_it_back() {
    let Some(net) = Net::make() else { return };
    let desk = desk();
    net.nft(&["add", "table", "inet", "users_own"]);
    let before = net.nft(&["list", "ruleset"]);
    let (mut random, mut undone) = (0x2545_f491_4f6c_dd1d_u64, 0);
    for round in 0..25 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((random >> 33) % 2_000_000);
        let mut command = desk.command();
        command.args(["isolate", "host", "--case", "case", "--lease", "1h"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = net.on_host(|| command.spawn().unwrap());
        thread::sleep(moment);
        let _ = child.kill();
        child.wait().unwrap();
        // What nft was told it may do a moment after us.
        let acts = |words: &str| words.contains("/nft\0") || words.contains("\0isolate\0host\0");
        until("no nft is at work", || processes(&net, acts).is_empty());
        let now = status(&desk, &net);
        for isolation in now["isolations"].as_array().unwrap() {
            if isolation["state"] != "undone" {
                let id = isolation["id"].as_str().unwrap();
                net.on_host(|| desk.ok(&["isolate", "undo", "--case", "case", id]));
                undone += 1;
            }
        }
        assert_eq!(net.nft(&["list", "ruleset"]), before, "round {round}, killed after {moment:?}");
    }
    assert!(undone > 0, "every kill came too early to try anything");
    let log: PathBuf = desk.path("case");
    desk.ok(&["verify", log.to_str().unwrap()]);
}
