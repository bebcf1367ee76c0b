//! Anchors through the real binary and real connections: authorities and a witness on loopback, some of which hang,
//! lie or are not there.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exhibit::Desk;
use crate::loopback::serve;
use crate::test_authority::{Keys, Recipe, TestAuthority, openssl_accepts};

/// A server that takes connections and never answers.
fn hung() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        held.extend(listener.incoming().flatten());
    });
    format!("http://{address}")
}

fn authorities() -> [Arc<TestAuthority>; 2] {
    let rsa = TestAuthority::new(&Recipe { keys: Keys::RsaPss, ..Recipe::default() });
    let p256 = TestAuthority::new(&Recipe { name: "beta", keys: Keys::P256, ..Recipe::default() });
    [Arc::new(rsa), Arc::new(p256)]
}

/// An authority on loopback; gives its address.
fn serving(authority: &Arc<TestAuthority>) -> String {
    let authority = Arc::clone(authority);
    serve(move |_, body| (200, authority.reply(body)))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_case_is_anchored_by_two_authorities_and_openssl_agrees() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", [7; 100_000]));
    let [rsa, p256] = authorities();
    let (first, second) = (serving(&rsa), serving(&p256));
    desk.ok(&["custody", "anchor", "case", "--tsa", &first, "--tsa", &second, "--copy-to", "kept"]);
    let alone = desk.ok(&["verify", "case"]);
    assert!(alone.stdout.contains("CONSISTENT"), "{}", alone.stdout);
    let (root_a, root_b) = (text(&rsa.path("root.pem")), text(&p256.path("root.pem")));
    let both = desk.ok(&["verify", "case", "--trust", &root_a, "--trust", &root_b, "--at-least", "ANCHORED"]);
    assert!(both.stdout.contains("ANCHORED(2)"), "{}", both.stdout);
    let json = desk.ok(&["verify", "case", "--trust", &root_a, "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let facts = json["log"]["anchored"].as_array().unwrap();
    let counted = facts.iter().filter(|fact| fact["independent"] == true).count();
    assert_eq!((facts.len(), counted, json["verdict"].as_str()), (2, 1, Some("ANCHORED(1)")));
    // The other side, with openssl and the files alone.
    for root in [&root_a, &root_b] {
        let tokens = std::fs::read_dir(desk.path("case/anchors")).unwrap();
        let accepted = tokens
            .map(|item| item.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "tsr"))
            .filter(|token| {
                let chain = text(token).replace(".tsr", ".chain.pem");
                let data = desk.path("case/checkpoints/00000003");
                openssl_accepts(&data, token, Path::new(root), Some(Path::new(&chain)), None)
            })
            .count();
        assert_eq!(accepted, 1);
    }
    // What was copied away vouches for the case without its own anchors, and shows a cut.
    assert!(desk.path("kept/checkpoints/00000003").is_file());
    std::fs::write(desk.path("kept/ca.pem"), rsa.root()).unwrap();
    let kept = desk.ok(&["verify", "case", "--anchors", "kept"]);
    assert!(kept.stdout.contains("ANCHORED(2)"), "a kept copy and one authority: {}", kept.stdout);
    desk.run(&["custody", "anchor", "case", "--copy-to", "case/anchors/x"]).fails(2, &["lies within"]);
}

#[test]
fn an_authority_that_hangs_fails_or_lies_stops_nobody_else() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    let [rsa, p256] = authorities();
    let good = serving(&rsa);
    // Stamps something else than it was asked for.
    let other = custody_request_over_other();
    let lie = Arc::clone(&p256);
    let lying = serve(move |_, _| (200, lie.reply(&other)));
    let failing = serve(|_, _| (500, b"broken".to_vec()));
    let garbage = serve(|_, _| (200, vec![0x30; 5000]));
    let flood = serve(|_, _| (200, vec![0x30; 3 << 20]));
    let elsewhere = good.clone();
    let moved = serve(move |_, _| (302, elsewhere.clone().into_bytes()));
    let hung = hung();
    let all = [&hung, &failing, &garbage, &lying, &flood, &moved, &good];
    let mut args = vec!["custody", "anchor", "case", "--timeout", "3", "--json"];
    args.extend(all.iter().flat_map(|url| ["--tsa", url.as_str()]));
    let started = Instant::now();
    let ran = desk.run(&args);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let made: Vec<&str> =
        json["made"].as_array().unwrap().iter().map(|one| one["who"].as_str().unwrap()).collect();
    assert_eq!(made, [good.as_str()]);
    let why = |url: &str| {
        let failed = json["failed"].as_array().unwrap().iter().find(|one| one["who"] == *url);
        failed.unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert!(why(&hung).contains("timeout"), "{}", why(&hung));
    assert!(why(&failing).contains("status 500") && why(&moved).contains("status 302"));
    assert!(why(&lying).contains("nonce"), "{}", why(&lying));
    let root = text(&rsa.path("root.pem"));
    assert!(desk.ok(&["verify", "case", "--trust", &root]).stdout.contains("ANCHORED(1)"));
}

#[test]
fn an_address_that_shows_no_known_certificate_is_not_asked() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    let [rsa, _] = authorities();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let args = ["s_server", "-accept", &port, "-cert", "tsa.pem", "-key", "tsa.key", "-www", "-quiet"];
    let mut server =
        std::process::Command::new("openssl").args(args).current_dir(rsa.path("")).spawn().unwrap();
    let listens = || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
    let started = Instant::now();
    while !listens() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let ran = desk.run(&["custody", "anchor", "case", "--tsa", &format!("https://127.0.0.1:{port}/tsa")]);
    server.kill().unwrap();
    server.wait().unwrap();
    ran.fails(1, &["certificate"]);
}

/// A request in DER over other bytes, made by openssl.
fn custody_request_over_other() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), b"other").unwrap();
    let args = ["ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "q.tsq"];
    assert!(crate::test_authority::openssl(folder.path(), &args).status.success());
    std::fs::read(folder.path().join("q.tsq")).unwrap()
}

#[test]
fn a_scene_without_a_network_queues_and_is_anchored_later() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    let [rsa, _] = authorities();
    let nobody = "http://127.0.0.1:9/tsa";
    desk.run(&["custody", "anchor", "case", "--tsa", nobody])
        .fails(1, &["checkpoints/00000001 is kept and waits"]);
    let waiting = desk.ok(&["custody", "anchor", "case", "--pending"]).stdout;
    assert!(waiting.contains("case  0 to 0"), "{waiting}");
    desk.ok(&["custody", "note", "case", "back at the laboratory"]);
    let url = serving(&rsa);
    desk.ok(&["custody", "anchor", "case", "--tsa", &url, "--remember"]);
    let log = desk.ok(&["custody", "log", "case", "--json"]).stdout;
    let made: serde_json::Value = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|entry: &serde_json::Value| entry["type"] == "anchor.made")
        .unwrap();
    let genesis: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(made["how"]["waiting_since"], genesis["time"]["wall"]);
    assert!(desk.ok(&["custody", "anchor", "case", "--pending", "--json"]).stdout.starts_with("[]"));
    // Whom to ask is remembered.
    desk.ok(&["custody", "note", "case", "one more"]);
    desk.ok(&["custody", "anchor", "case"]);
    let root = text(&rsa.path("root.pem"));
    assert!(desk.ok(&["verify", "case", "--trust", &root]).stdout.contains("ANCHORED(1)"));
}

#[test]
fn a_second_organisation_cosigns_by_file_and_refuses_to_go_back() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.ok(&["key", "new", "--key", "lab.pem"]);
    desk.ok(&["custody", "checkpoint", "case", "-o", "first.note"]);
    let cosign = |from: &str, to: &str| {
        let args = ["custody", "cosign", from, "--name", "lab.example/w1", "--trust", "case/keys/log.vkey"];
        desk.run(&[&args[..], &["--key", "lab.pem", "--state", "seen.json", "-o", to, "--json"]].concat())
    };
    let made = cosign("first.note", "first.cosigned");
    assert_eq!(made.code, 0, "{}", made.stderr);
    let vkey: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let vkey = vkey["vkey"].as_str().unwrap();
    desk.ok(&["custody", "anchor", "case", "--import", "first.cosigned"]);
    let done = desk.ok(&["verify", "case", "--trust", vkey]);
    assert!(done.stdout.contains("ANCHORED(1)"), "{}", done.stdout);
    // The next one needs the proof.
    desk.ok(&["custody", "checkpoint", "case", "-o", "bare.note"]);
    cosign("bare.note", "x").fails(4, &["proof"]);
    desk.ok(&["custody", "checkpoint", "case", "--since", "1", "-o", "request"]);
    assert_eq!(cosign("request", "second.cosigned").code, 0);
    cosign("first.note", "y").fails(4, &["ROLLED BACK"]);
    // Kept elsewhere, the cosigned checkpoint vouches for the case by itself.
    std::fs::create_dir(desk.path("kept")).unwrap();
    std::fs::copy(desk.path("second.cosigned"), desk.path("kept/n")).unwrap();
    assert!(
        desk.ok(&["verify", "case", "--anchors", "kept", "--trust", vkey]).stdout.contains("ANCHORED(1)")
    );
    desk.run(&["custody", "cosign", "first.note", "--name", "w", "--trust", "SHA256:x"])
        .fails(2, &["--trust"]);
}

#[test]
fn a_receipt_written_at_the_scene_shows_a_cut() {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", [7; 100_000]));
    std::fs::create_dir(desk.path("drawer")).unwrap();
    desk.ok(&["custody", "checkpoint", "case:E001", "-o", "drawer/receipt.txt"]);
    desk.ok(&["custody", "checkpoint", "case:E001", "-o", "drawer/receipt.png"]);
    let receipt = std::fs::read_to_string(desk.path("drawer/receipt.txt")).unwrap();
    assert!(receipt.contains("exhibit  E001-disk") && receipt.contains("examiner J. Doe"), "{receipt}");
    let json = desk.ok(&["custody", "checkpoint", "case:E001", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["words"].as_array().unwrap().len(), 8);
    assert!(receipt.contains(json["words"][7].as_str().unwrap()));
    let done = desk.ok(&["verify", "case:E001", "--anchors", "drawer"]);
    assert!(done.stdout.contains("ANCHORED(1)"), "{}", done.stdout);
    desk.run(&["custody", "checkpoint", "case", "-o", "drawer/receipt.txt"]).fails(4, &["receipt.txt"]);
    let bare = desk.ok(&["custody", "checkpoint", "case"]).stdout;
    assert!(bare.starts_with("exhibit/") && bare.contains("\n— exhibit/"), "{bare}");
}

#[test]
fn the_help_of_each_act_has_an_example() {
    let desk = Desk::new();
    for act in ["anchor", "checkpoint", "cosign"] {
        let help = desk.ok(&["custody", act, "--help"]).stdout;
        assert!(help.contains(&format!("Example: exhibit custody {act}")), "{help}");
    }
}
