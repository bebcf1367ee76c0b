//! A Linux host in a network of our own, isolated and let back: what lives, what dies, and that nothing else is changed.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use custody::clock::{Clock, SystemClock};
use respond::isolate::host_nft::{HostNft, Wanted, now};
use respond::isolate::{Isolation, isolate, mark, take_back};
use serde_json::{Value, json};

use crate::netns::{HOST_TO_INTRUDER, HOST_TO_MANAGEMENT, INTRUDER, MANAGEMENT, Net, within};

const RULES_OF_THE_USER: &str = "table inet filter {
  set friends { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.0/16 } }
  chain input { type filter hook input priority filter; policy accept;
    ip saddr @friends tcp dport 7777 accept
    tcp dport 9999 counter drop comment \"the user's own\"
  }
}
table ip nat {
  chain post { type nat hook postrouting priority srcnat; policy accept; oifname \"m9\" masquerade; }
}
";

/// Long enough for a packet on this machine, many times over: for what must not come.
const SOON: Duration = Duration::from_millis(1200);

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(90);

fn wanted(lease: u64) -> Wanted {
    let at = |address: &str, port: u16| SocketAddr::new(address.parse().unwrap(), port).to_string();
    Wanted {
        allow: MANAGEMENT.map(|address| at(address, 443)).to_vec(),
        allow_from: MANAGEMENT.map(|address| at(address, 22)).to_vec(),
        probes: INTRUDER.map(|address| at(address, 8080)).to_vec(),
        lease,
    }
}

fn host(lease: u64) -> HostNft<'static> {
    HostNft::new("j1-isolate", wanted(lease), &SystemClock, None)
}

fn address(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse::<IpAddr>().unwrap(), port)
}

/// Listens in a name space; both ends of each connection that is then made.
fn listen(space: &str, at: SocketAddr) -> TcpListener {
    within(space, || TcpListener::bind(at).unwrap())
}

fn connected(from: &str, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let to = listener.local_addr().unwrap();
    let there = within(from, || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
    (listener.accept().unwrap().0, there)
}

/// Whether what one end says comes to the other.
fn speaks(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4]) -> bool {
    hears(from, to, word, PATIENCE)
}

/// Whether nothing of what one end says comes to the other.
fn is_silent(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4]) -> bool {
    !hears(from, to, word, SOON)
}

fn hears(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4], within: Duration) -> bool {
    to.set_read_timeout(Some(within)).unwrap();
    from.write_all(word).unwrap();
    let mut heard = [0; 4];
    to.read_exact(&mut heard).is_ok_and(|()| heard == *word)
}

fn reaches(from: &str, to: SocketAddr) -> bool {
    within(from, || TcpStream::connect_timeout(&to, SOON).is_ok())
}

fn begin(isolation: &HostNft<'_>) -> Value {
    let isolated = isolate(isolation, None, &|_| Ok(())).unwrap();
    assert!(isolated.is_proved, "{:?}", isolated.verified);
    serde_json::to_value(isolated).unwrap()
}

#[test]
fn management_lives_and_the_intruder_is_cut_off_in_both_families_and_all_comes_back_exactly() {
    let Some(net) = Net::make() else { return };
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES_OF_THE_USER).unwrap();
    net.nft(&["-f", rules.path().to_str().unwrap()]);
    let before = net.nft(&["list", "ruleset"]);

    let mut collectors = Vec::new();
    let mut to_collector = Vec::new();
    let mut shells = Vec::new();
    let mut of_intruder = Vec::new();
    let mut backdoors = Vec::new();
    for family in 0..2 {
        let collector = listen(&net.management, address(MANAGEMENT[family], 443));
        to_collector.push(connected(&net.host, &collector));
        collectors.push(collector);
        let shell = listen(&net.host, address(HOST_TO_MANAGEMENT[family], 22));
        shells.push((connected(&net.management, &shell), shell));
        // The intruder came in, and the host was made to call out too.
        let backdoor = listen(&net.host, address(HOST_TO_INTRUDER[family], 4444));
        of_intruder.push(connected(&net.intruder, &backdoor));
        backdoors.push(backdoor);
        let control = listen(&net.intruder, address(INTRUDER[family], 8080));
        of_intruder.push(connected(&net.host, &control));
        backdoors.push(control);
    }
    for (here, there) in to_collector.iter_mut().chain(&mut of_intruder) {
        assert!(speaks(here, there, b"one.") && speaks(there, here, b"two."));
    }

    let isolated = net.on_host(|| begin(&host(3600)));
    let allowed = isolated["verified"]["allowed"].as_array().unwrap().len();
    let forbidden = isolated["verified"]["forbidden"].as_array().unwrap().len();
    assert_eq!((allowed, forbidden), (2, 4), "{isolated}");
    for (here, there) in &mut to_collector {
        assert!(speaks(there, here, b"pull") && speaks(here, there, b"push"), "an allowed connection died");
    }
    for ((here, there), _) in &mut shells {
        assert!(speaks(there, here, b"ls -") && speaks(here, there, b"a b "), "the shell of management died");
    }
    for (family, (collector, (_, shell))) in collectors.iter().zip(&shells).enumerate() {
        let _ = connected(&net.host, collector);
        let _ = connected(&net.management, shell);
        assert!(!reaches(&net.management, address(HOST_TO_MANAGEMENT[family], 4444)), "another port");
    }
    for (here, there) in &mut of_intruder {
        assert!(is_silent(there, here, b"rm -"), "an open connection of the intruder lives");
        assert!(is_silent(here, there, b"gone"), "an open connection to the intruder lives");
    }
    for family in 0..2 {
        assert!(
            !reaches(&net.intruder, address(HOST_TO_INTRUDER[family], 4444)),
            "the intruder comes in anew"
        );
        assert!(!reaches(&net.host, address(INTRUDER[family], 8080)), "the host calls out anew");
        assert!(!reaches(&net.intruder, address(HOST_TO_INTRUDER[family], 22)), "not even the allowed port");
    }

    let restored = net.on_host(|| take_back(&host(0), &isolated).unwrap());
    assert!(restored.is_exact(), "{restored:?}");
    assert_eq!(net.nft(&["list", "ruleset"]), before);
    for (family, backdoor) in [0, 0, 1, 1].into_iter().zip(&backdoors) {
        let from = if backdoor.local_addr().unwrap().port() == 4444 { &net.intruder } else { &net.host };
        let _ = (family, connected(from, backdoor));
    }
}

#[test]
fn applied_twice_is_as_once_and_taken_back_twice_too() {
    let Some(net) = Net::make() else { return };
    let before = net.nft(&["list", "ruleset"]);
    let recorded = net.on_host(|| host(3600).record().unwrap());
    net.on_host(|| host(3600).apply(&recorded).unwrap());
    let once = net.nft(&["-s", "list", "ruleset"]);
    let handle = net.nft(&["-a", "list", "table", "inet", "exhibit_quarantine"]);
    let handle = handle.lines().next().unwrap().to_owned();
    let again = net.on_host(|| host(3600).apply(&recorded).unwrap());
    assert_eq!((net.nft(&["-s", "list", "ruleset"]), &again["was_there"]), (once, &json!(true)));
    // It was not even loaded anew.
    assert!(net.nft(&["-a", "list", "table", "inet", "exhibit_quarantine"]).starts_with(&handle));
    for _ in 0..2 {
        let restored = net.on_host(|| host(0).rollback(&recorded).unwrap());
        assert!(restored.is_exact(), "{restored:?}");
        assert_eq!(net.nft(&["list", "ruleset"]), before);
    }
}

#[test]
fn a_kill_at_any_act_leaves_what_the_next_run_goes_on_from() {
    for killed_after in ["record", "apply", "rollback"] {
        let Some(net) = Net::make() else { return };
        let before = net.nft(&["list", "ruleset"]);
        let intents = RefCell::new(Vec::new());
        // The first run: what it recorded is kept, its result is not.
        let recorded = net.on_host(|| host(3600).record().unwrap());
        intents.borrow_mut().push(json!({ "subject": "this host", "recorded": recorded }));
        if killed_after != "record" {
            net.on_host(|| host(3600).apply(&recorded).unwrap());
        }
        if killed_after == "rollback" {
            net.on_host(|| host(3600).rollback(&recorded).unwrap());
        }
        // The second.
        let kept = intents.borrow()[0].clone();
        let isolated = net.on_host(|| {
            isolate(&host(3600), Some(&kept["recorded"]), &|_| panic!("it is recorded already")).unwrap()
        });
        assert!(isolated.is_proved && isolated.recorded == recorded, "{killed_after}");
        // And from the intent alone it is taken back.
        let restored = net.on_host(|| take_back(&host(0), &kept).unwrap());
        assert!(restored.is_exact(), "{killed_after}: {restored:?}");
        assert_eq!(net.nft(&["list", "ruleset"]), before);
    }
}

#[test]
fn the_lease_ends_in_the_kernel_with_nobody_left_to_end_it() {
    let Some(net) = Net::make() else { return };
    let control: Vec<TcpListener> =
        INTRUDER.iter().map(|intruder| listen(&net.intruder, address(intruder, 8080))).collect();
    // No program was named: there is no process of ours, nor a timer.
    let isolated = net.on_host(|| begin(&host(20)));
    assert!(isolated["applied"]["table_removed_by"].as_str().unwrap().starts_with("nobody"));
    assert!(!reaches(&net.host, control[0].local_addr().unwrap()));
    let begun = Instant::now();
    for listener in &control {
        while !reaches(&net.host, listener.local_addr().unwrap()) {
            assert!(begun.elapsed() < Duration::from_secs(180), "the lease does not end");
        }
    }
    assert_eq!(net.on_host(|| now().unwrap().unwrap().lease_left), Some(0));
    // What is left is an empty shell, and goes with the taking back.
    assert!(net.on_host(|| take_back(&host(0), &isolated).unwrap()).is_exact());
    assert_eq!(net.nft(&["list", "ruleset"]), "");
    // Applied after its lease it would hold for no time: it is not.
    let failed = net.on_host(|| host(20).apply(&isolated["recorded"]).unwrap_err());
    assert!(!failed.may_help_again && failed.what.contains("ended"), "{failed}");
}

#[test]
fn addresses_are_kept_and_no_datagram_of_theirs_leaves_the_link() {
    let Some(net) = Net::make() else { return };
    net.on_host(|| begin(&host(3600)));
    let client = net.on_host(|| UdpSocket::bind("0.0.0.0:68").unwrap());
    client.set_broadcast(true).unwrap();
    // A tunnel to anywhere by the ports of DHCP, and what a client says to all when its own server is silent.
    let refused = client.send_to(b"tunnel", (INTRUDER[0], 67)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    client.send_to(b"request", "255.255.255.255:67").unwrap();
    // What comes so far was not held back by us: our hook is before this one.
    let rules = "table ip6 watch { chain out { type filter hook output priority 0; \
                 icmpv6 type { mld-listener-report, mld2-listener-report } counter } }";
    net.nft(&[rules]);
    let index = net.on_host(|| interface_index("m0"));
    let socket = net.on_host(|| UdpSocket::bind("[::]:0").unwrap());
    let begun = Instant::now();
    let mut number = 0_u16;
    while net.nft(&["list", "table", "ip6", "watch"]).contains("packets 0") {
        assert!(begun.elapsed() < PATIENCE, "no report of a multicast listener leaves");
        number += 1;
        // Each group that is joined is reported.
        let group = std::net::Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x77, number);
        socket.join_multicast_v6(&group, index).unwrap();
        socket.leave_multicast_v6(&group, index).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn interface_index(name: &str) -> u32 {
    let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
    let row = table.lines().find(|row| row.split_whitespace().last() == Some(name)).unwrap();
    u32::from_str_radix(row.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

#[test]
fn a_lease_is_made_longer_and_endless_without_a_gap() {
    let Some(net) = Net::make() else { return };
    let isolated = net.on_host(|| begin(&host(120)));
    let left = || net.on_host(|| now().unwrap().unwrap().lease_left);
    assert!(left().unwrap() <= 120);
    let until = SystemClock.now().wall_ns + 7200 * 1_000_000_000;
    let recorded = &isolated["recorded"];
    assert!(net.on_host(|| host(0).lease_until(recorded, Some(until)).unwrap()));
    assert!((7000..=7200).contains(&left().unwrap()));
    // A run that comes later does not make it shorter again.
    net.on_host(|| host(120).apply(recorded).unwrap());
    assert!(left().unwrap() > 7000);
    assert!(net.on_host(|| host(0).verify(recorded).unwrap()).is_proved());
    assert!(net.on_host(|| host(0).lease_until(recorded, None).unwrap()));
    assert_eq!(left(), None);
    assert!(net.on_host(|| host(0).verify(recorded).unwrap()).is_proved());
    assert!(net.on_host(|| take_back(&host(0), &isolated).unwrap()).is_exact());
    assert!(net.on_host(|| host(0).lease_until(recorded, Some(until)).is_err()));
}

#[test]
fn a_host_that_another_isolated_is_refused_and_never_let_back_by_us() {
    let Some(net) = Net::make() else { return };
    let first = net.on_host(|| begin(&host(3600)));
    let other = HostNft::new(&mark("J000002", "isolate").unwrap(), wanted(60), &SystemClock, None);
    let failed = net.on_host(|| other.record().unwrap_err());
    assert!(failed.what.contains("isolated already, by j1-isolate"), "{failed}");
    let mut foreign = first["recorded"].clone();
    foreign["mark"] = json!("j000002-isolate");
    assert!(net.on_host(|| other.apply(&foreign).is_err()));
    let restored = net.on_host(|| other.rollback(&foreign).unwrap());
    assert!(restored.notes[0].contains("j1-isolate"), "{restored:?}");
    assert!(net.on_host(|| host(0).verify(&first["recorded"]).unwrap()).is_proved());
}

#[test]
fn an_allowed_channel_that_is_lost_takes_all_of_it_back_at_once() {
    let Some(net) = Net::make() else { return };
    // The collector is behind a port that the user's own filter closes once the isolation is there: here, by a hand.
    let collector = listen(&net.management, address(MANAGEMENT[0], 443));
    let recorded = net.on_host(|| host(3600).record().unwrap());
    assert_eq!(recorded["answered"], json!(["10.77.1.2:443", "[fd77:1::2]:443"]));
    drop(collector);
    let mut lost = recorded;
    // An address that answered before and is not allowed: what an error in the rules would look like.
    lost["answered"] = json!(["10.77.2.2:8080"]);
    let failed = net.on_host(|| isolate(&host(3600), Some(&lost), &|_| Ok(())).unwrap_err());
    assert!(failed.what.contains("was lost") && failed.what.contains("taken back"), "{failed}");
    assert_eq!(net.nft(&["list", "ruleset"]), "");
}

#[test]
fn whatever_others_change_meanwhile_is_told_and_never_overwritten() {
    const CHANGES: &[(&[&str], bool)] = &[
        (&["add", "table", "ip", "new_one"], true),
        (&["add", "rule", "inet", "filter", "input", "tcp", "dport", "1234", "drop"], true),
        (&["flush", "chain", "inet", "filter", "input"], true),
        (&["delete", "table", "ip", "nat"], true),
        (&["add", "element", "inet", "filter", "friends", "{", "172.16.0.0/12", "}"], true),
        (&["flush", "chain", "inet", "exhibit_quarantine", "q_in"], false),
        (&["add", "rule", "inet", "exhibit_quarantine", "q_out", "accept"], false),
        (&["add", "chain", "inet", "exhibit_quarantine", "more"], false),
        (&["delete", "table", "inet", "exhibit_quarantine"], false),
    ];
    let Some(net) = Net::make() else { return };
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), format!("flush ruleset\n{RULES_OF_THE_USER}")).unwrap();
    let without_ours = || {
        let all = net.nft(&["list", "ruleset"]);
        match all.split_once("table inet exhibit_quarantine {") {
            Some((before, rest)) => before.to_owned() + rest.split_once("\n}\n").unwrap().1,
            None => all,
        }
    };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..60 {
        net.nft(&["-f", rules.path().to_str().unwrap()]);
        let recorded = net.on_host(|| host(3600).record().unwrap());
        net.on_host(|| host(3600).apply(&recorded).unwrap());
        let mut is_changed = false;
        let mut ours_is_changed = false;
        for (change, is_of_user) in CHANGES {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if random >> 62 == 0 {
                net.nft(change);
                is_changed |= is_of_user;
                ours_is_changed |= !is_of_user;
            }
        }
        let left = without_ours();
        if ours_is_changed {
            assert!(
                net.on_host(|| host(3600).verify(&recorded).is_err()),
                "a changed table was taken for whole"
            );
        }
        let restored = net.on_host(|| host(0).rollback(&recorded).unwrap());
        assert_eq!(net.nft(&["list", "ruleset"]), left, "{restored:?}");
        assert_eq!(restored.is_exact(), !is_changed, "{restored:?}");
        assert!(!ours_is_changed || !restored.notes.is_empty(), "{restored:?}");
    }
}
