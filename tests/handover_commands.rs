//! Handing evidence over at the command line, with keys in files, in a real ssh-agent and behind a command.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::exhibit::{Desk, Ran, ran};

const DISK: &[u8] = &[0x5a; 300_000];

/// Runs another program in the desk's folder; `false` where there is none.
fn tool(desk: &Desk, program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).current_dir(desk.path("")).stdin(Stdio::null()).output() {
        Ok(done) => {
            assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
            true
        }
        Err(_) => {
            println!("skipped: there is no {program} here");
            false
        }
    }
}

/// A case with one disk, and the key of a receiver in `store.pem`.
fn case_and_receiver() -> Desk {
    let desk = Desk::new();
    desk.case_with_disk(&desk.write("disk.raw", DISK));
    let shown = desk.ok(&["key", "new", "--key", "store.pem"]).stdout;
    let pem = shown.lines().skip_while(|line| !line.starts_with("-----BEGIN")).collect::<Vec<_>>().join("\n");
    desk.write("store.pub.pem", pem + "\n");
    desk
}

const OFFER: [&str; 7] =
    ["custody", "transfer", "case:E001", "--to", "Property store", "--to-key", "store.pub.pem"];

fn types(desk: &Desk, target: &str) -> Vec<String> {
    let log = desk.ok(&["custody", "log", target, "--json"]).stdout;
    let kind = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
    };
    log.lines().map(kind).collect()
}

fn entry(desk: &Desk, target: &str, seq: usize) -> serde_json::Value {
    let log = desk.ok(&["custody", "log", target, "--json"]).stdout;
    serde_json::from_str(log.lines().nth(seq).unwrap()).unwrap()
}

#[test]
fn a_handover_goes_from_offer_to_receipt_and_both_have_signed() {
    let desk = case_and_receiver();
    let more = [
        "--place",
        "Lab 2",
        "--means",
        "by hand",
        "--purpose",
        "storage",
        "--seal",
        "0042 intact",
        "-o",
        "offer",
    ];
    let offered = desk.ok(&[&OFFER[..], &more].concat());
    assert!(offered.stdout.starts_with("exhibit custody offer v1\n"), "{}", offered.stdout);
    for line in ["from: J. Doe", "to: Property store", "place: Lab 2", "means: by hand", "seal: 0042 intact"]
    {
        assert!(offered.stdout.lines().any(|said| said == line), "{line}: {}", offered.stdout);
    }
    assert_eq!(fs::read_to_string(desk.path("offer")).unwrap(), offered.stdout);
    desk.ok(&["custody", "receive", "case:E001", "--key", "store.pem", "--condition", "seal 0042 intact"]);
    let types = types(&desk, "case:E001");
    assert!(
        types.ends_with(&["transfer.offered", "key.added", "transfer.accepted"].map(str::to_owned)),
        "{types:?}"
    );
    let receipt = entry(&desk, "case:E001", types.len() - 1);
    assert_eq!(receipt["actor"]["name"], "Property store");
    assert_eq!(receipt["result"]["verdict"], "CONSISTENT");
    assert_eq!(receipt["result"]["as_offered"], true);
    let offer = entry(&desk, "case:E001", types.len() - 3);
    assert_eq!(offer["result"]["manifest_sha256"], receipt["result"]["manifest_sha256"]);
    let verified = desk.ok(&["verify", "case:E001", "--json"]).stdout;
    let verified: serde_json::Value = serde_json::from_str(&verified).unwrap();
    let parties = verified["log"]["parties"].as_array().unwrap();
    assert_eq!(parties.len(), 2);
    assert!(parties.iter().all(|party| party["good"] == true), "{parties:?}");
    // The receiver writes on, and so does the whole case verify.
    desk.ok(&["custody", "note", "case:E001", "on shelf 7", "--key", "store.pem"]);
    desk.ok(&["verify", "case"]);
}

#[test]
fn whoever_is_not_the_receiver_is_told_who_is() {
    let desk = case_and_receiver();
    desk.run(&["custody", "receive", "case:E001"]).fails(4, &["the log holds no offer"]);
    let offered = desk.ok(&OFFER);
    let named = offered.stdout.lines().find_map(|line| line.strip_prefix("to key: ")).unwrap().to_owned();
    desk.run(&["custody", "receive", "case:E001"])
        .fails(2, &["the offer names the key", &named, "--sig FILE", "--unsigned"]);
    desk.run(&["custody", "receive", "case:E001", "--offer", "0"]).fails(4, &["entry 0 is no offer"]);
    desk.run(&OFFER).fails(4, &["was not answered yet"]);
    desk.run(&["custody", "transfer", "case:E001", "--to", "x"]).fails(2, &["--to-key"]);
    desk.run(&["custody", "transfer", "case:E001", "--to", "x", "--to-key", "gone.pub"])
        .fails(4, &["gone.pub"]);
    desk.run(&["custody", "transfer", "case:E001", "--to", "x", "--to-key", "SHA256:short"])
        .fails(4, &["no fingerprint"]);
    desk.ok(&["custody", "receive", "case:E001", "--key", "store.pem"]);
    desk.run(&["custody", "receive", "case:E001", "--key", "store.pem"]).fails(4, &["no offer is open"]);
    let seq = types(&desk, "case:E001").len() - 3;
    desk.run(&["custody", "receive", "case:E001", "--key", "store.pem", "--offer", &seq.to_string()])
        .fails(4, &["was accepted already, by entry"]);
}

#[test]
fn a_receiver_refuses_a_giver_withdraws_and_an_unsigned_receipt_says_so() {
    let desk = case_and_receiver();
    desk.ok(&OFFER);
    desk.ok(&["custody", "receive", "case:E001", "--key", "store.pem", "--refuse", "seal broken"]);
    assert_eq!(types(&desk, "case:E001").last().unwrap(), "transfer.refused");
    desk.ok(&OFFER);
    desk.ok(&["custody", "receive", "case:E001", "--refuse", "withdrawn: wrong store"]);
    desk.ok(&["custody", "transfer", "case:E001", "--to", "Courier", "--unsigned"]);
    desk.run(&["custody", "receive", "case:E001"]).fails(2, &["yours is the giver's"]);
    desk.ok(&["custody", "receive", "case:E001", "--unsigned"]);
    let verified = desk.ok(&["verify", "case:E001"]).stdout;
    assert!(verified.contains("the receiver did not sign the receipt, and says so"), "{verified}");
    // A whole case is offered with all that it holds.
    let whole = desk.ok(&["custody", "transfer", "case", "--to", "Court", "--unsigned"]).stdout;
    assert!(whole.lines().any(|line| line.starts_with("item: E001 manifest ")), "{whole}");
}

#[test]
fn evidence_that_was_changed_on_the_way_is_not_accepted_unawares() {
    let desk = case_and_receiver();
    desk.ok(&OFFER);
    let segment = desk.path("case/exhibits/E001-disk/data/disk/000000.zst");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let receive = ["custody", "receive", "case:E001", "--key", "store.pem"];
    desk.run(&receive).fails(3, &["not accepted: the verdict is BROKEN", "000000.zst", "--refuse REASON"]);
    desk.ok(&[&receive[..], &["--refuse", "damaged"]].concat());
    desk.run(&OFFER).fails(4, &["not offered: the verdict is BROKEN"]);
}

#[test]
fn a_receiver_without_exhibit_signs_the_offer_with_ssh_keygen() {
    let desk = case_and_receiver();
    if !tool(&desk, "ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "roe"]) {
        return;
    }
    desk.ok(&["custody", "transfer", "case:E001", "--to", "P. Roe", "--to-key", "roe.pub", "-o", "offer"]);
    tool(&desk, "ssh-keygen", &["-q", "-Y", "sign", "-f", "roe", "-n", "file", "offer"]);
    let receive = ["custody", "receive", "case:E001", "--sig", "offer.sig"];
    desk.run(&receive).fails(2, &["namespace \"file\", not \"custody@v1\""]);
    fs::remove_file(desk.path("offer.sig")).unwrap();
    tool(&desk, "ssh-keygen", &["-q", "-Y", "sign", "-f", "roe", "-n", "custody@v1", "offer"]);
    desk.run(&["custody", "receive", "case:E001", "--sig", "offer"])
        .fails(4, &["\"offer\"", "not the text of a .sig file"]);
    desk.ok(&receive);
    let list = fs::read_to_string(desk.path("roe.pub")).unwrap();
    desk.write("allowed", format!("roe@store {list}"));
    let verified = desk.ok(&["verify", "case:E001", "--signers", "allowed"]).stdout;
    assert!(!verified.contains("\"P. Roe\" with"), "a known person needs no note: {verified}");
    desk.write("allowed", "roe@store odd");
    desk.run(&["verify", "case:E001", "--signers", "allowed"]).fails(4, &["line 1"]);
}

/// A real ssh-agent, stopped when this goes.
struct RunningAgent(Child);

impl Drop for RunningAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(desk: &Desk, keys: &[&str]) -> Option<RunningAgent> {
    let socket = desk.path("agent");
    let Ok(agent) = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn()
    else {
        println!("skipped: there is no ssh-agent here");
        return None;
    };
    let agent = RunningAgent(agent);
    for _ in 0..200 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for key in keys {
        let mut add = Command::new("ssh-add");
        add.args(["-q", key]).env("SSH_AUTH_SOCK", &socket).current_dir(desk.path(""));
        assert!(add.status().unwrap().success());
    }
    Some(agent)
}

fn with_agent(desk: &Desk, args: &[&str]) -> Ran {
    ran(desk.command().env("SSH_AUTH_SOCK", desk.path("agent")).args(args).output().unwrap())
}

fn fingerprint(desk: &Desk, key: &str) -> String {
    let shown = Command::new("ssh-keygen").args(["-lf", key]).current_dir(desk.path("")).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_key_in_an_ssh_agent_signs_the_whole_of_a_case() {
    let desk = Desk::new();
    if !tool(&desk, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "doe"]) {
        return;
    }
    tool(&desk, "ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "roe"]);
    let Some(_agent) = agent(&desk, &["doe", "roe"]) else { return };
    let key = format!("agent:{}", fingerprint(&desk, "doe.pub"));
    let done = with_agent(&desk, &["--key", &key, "init", "case", "--name", "n", "--examiner", "J. Doe"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let disk = desk.write("disk.raw", DISK);
    let acquire =
        ["acquire", "disk", disk.to_str().unwrap(), "--case", "case", "--name", "disk", "--key", &key];
    assert_eq!(with_agent(&desk, &acquire).code, 0);
    // A party may sign with a key of another kind than the log's.
    let roe = format!("agent:{}", fingerprint(&desk, "roe.pub"));
    let offer = [
        "custody",
        "transfer",
        "case:E001",
        "--to",
        "Store",
        "--unsigned",
        "--key",
        &key,
        "--party-key",
        &roe,
    ];
    let offered = with_agent(&desk, &offer);
    assert_eq!(offered.code, 0, "{}", offered.stderr);
    assert!(
        offered.stdout.contains(&format!("from key: {}", roe.trim_start_matches("agent:"))),
        "{}",
        offered.stdout
    );
    desk.ok(&["verify", "case", "--trust", key.trim_start_matches("agent:"), "--at-least", "SIGNED"]);
    // What cannot be said in the log's own signature, and who is not there.
    let refused = |words: &[&str], done: Ran| done.fails(4, words);
    refused(
        &["only ssh-ed25519 keys sign"],
        with_agent(&desk, &["custody", "note", "case", "x", "--key", &roe]),
    );
    let stranger = ["custody", "note", "case", "x", "--key", "agent:SHA256:nobody"];
    refused(&["has no key SHA256:nobody", "ssh-add"], with_agent(&desk, &stranger));
    let gone = ran(desk
        .command()
        .env_remove("SSH_AUTH_SOCK")
        .args(["custody", "note", "case", "x", "--key", &key])
        .output()
        .unwrap());
    refused(&["SSH_AUTH_SOCK names no ssh-agent"], gone);
    let dead = ran(desk
        .command()
        .env("SSH_AUTH_SOCK", "dead")
        .args(["custody", "note", "case", "x", "--key", &key])
        .output()
        .unwrap());
    refused(&["no ssh-agent answers at \"dead\""], dead);
}

#[test]
fn a_command_signs_and_one_that_signs_wrongly_changes_nothing() {
    let desk = Desk::new();
    if !tool(&desk, "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "hsm.pem"]) {
        return;
    }
    tool(&desk, "openssl", &["pkey", "-in", "hsm.pem", "-pubout", "-out", "hsm.pub"]);
    // openssl reads what it signs from a file, so a script stands between.
    desk.write(
        "sign.sh",
        "t=$(mktemp); cat > \"$t\"; openssl pkeyutl -sign -rawin -in \"$t\" -inkey hsm.pem; rm \"$t\"\n",
    );
    let with = |command: &str, args: &[&str]| {
        desk.run(&[args, &["--sign-cmd", command, "--sign-key", "hsm.pub"]].concat())
    };
    let done = with("sh sign.sh", &["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    desk.write("disk.raw", DISK);
    let done = with("sh sign.sh", &["acquire", "disk", "disk.raw", "--case", "case", "--name", "disk"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let base64 = "sh sign.sh | openssl base64 -A";
    assert_eq!(with(base64, &["custody", "note", "case", "signed elsewhere"]).code, 0);
    desk.ok(&["verify", "case", "--trust", "hsm.pub", "--at-least", "SIGNED"]);
    let before = fs::read(desk.path("case/custody.jsonl")).unwrap();
    for (command, words) in [
        ("exit 9", "exit status: 9"),
        ("head -c 64 /dev/zero", "does not verify"),
        ("echo hello", "no signature of 64 bytes"),
    ] {
        with(command, &["custody", "note", "case", "never"]).fails(4, &["the signing command", words]);
    }
    assert_eq!(fs::read(desk.path("case/custody.jsonl")).unwrap(), before);
    desk.run(&["custody", "note", "case", "x", "--sign-cmd", "true"])
        .fails(2, &["--sign-cmd and --sign-key go together"]);
    desk.run(&[
        "custody",
        "note",
        "case",
        "x",
        "--sign-cmd",
        "true",
        "--sign-key",
        "hsm.pub",
        "--key",
        "hsm.pem",
    ])
    .fails(2, &["give one of them"]);
}

#[test]
fn keys_that_ssh_keygen_made_sign_and_bad_ones_are_named() {
    let desk = Desk::new();
    if !tool(&desk, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "locked"]) {
        return;
    }
    tool(&desk, "ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa"]);
    let init = |case: &str, passphrase: &str, key: &str| {
        let args = ["init", case, "--name", "n", "--examiner", "e", "--key", key];
        ran(desk.command().env("EXHIBIT_KEY_PASSPHRASE", passphrase).args(args).output().unwrap())
    };
    assert_eq!(init("case", "secret", "locked").code, 0);
    init("wrong", "guess", "locked").fails(4, &["the passphrase does not open it"]);
    init("rsa-case", "", "rsa").fails(4, &["rsa", "only ssh-ed25519 keys sign"]);
    desk.run(&["custody", "note", "case", "x", "--key", "locked"])
        .fails(4, &["needs a passphrase", "EXHIBIT_KEY_PASSPHRASE"]);
    desk.write("garbage", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    init("garbage-case", "", "garbage").fails(4, &["garbage", "no OpenSSH key"]);
}

#[test]
fn corrections_and_deviations_refer_to_entries_that_are_there() {
    let desk = case_and_receiver();
    desk.ok(&["custody", "note", "case", "seal 0042"]);
    let last = types(&desk, "case").len() - 1;
    desk.ok(&["custody", "correct", "case", &last.to_string(), "the seal was 0043"]);
    let correction = entry(&desk, "case", last + 1);
    assert_eq!((&correction["type"], &correction["refs"][0]), (&"correction".into(), &last.into()));
    assert_eq!(correction["how"]["text"], "the seal was 0043");
    desk.ok(&["custody", "deviate", "case:E001", "no write blocker", "--refs", "0,1"]);
    let entries = types(&desk, "case:E001");
    let deviation = entry(&desk, "case:E001", entries.len() - 1);
    assert_eq!((&deviation["type"], &deviation["refs"]), (&"deviation".into(), &serde_json::json!([0, 1])));
    desk.run(&["custody", "correct", "case", "99", "x"]).fails(2, &["the log has no entry 99; its last is"]);
    desk.run(&["custody", "correct", "case", "1", " "]).fails(2, &["the correction says nothing"]);
    desk.run(&["custody", "deviate", "case", "x", "--refs", "99"]).fails(2, &["no entry 99"]);
    desk.ok(&["verify", "case"]);
}

#[test]
fn a_closed_case_takes_no_evidence_and_no_note_and_still_verifies() {
    let desk = case_and_receiver();
    desk.ok(&["custody", "transfer", "case:E001", "--to", "Store", "--unsigned"]);
    desk.run(&["custody", "close", "case"])
        .fails(4, &["not finished", "of E001 was not answered", "--anyway REASON"]);
    desk.ok(&["custody", "receive", "case:E001", "--unsigned"]);
    desk.ok(&["custody", "close", "case", "judgment is final"]);
    let closed = types(&desk, "case").len() - 1;
    let close = entry(&desk, "case", closed);
    assert_eq!((&close["type"], &close["how"]["text"]), (&"case.closed".into(), &"judgment is final".into()));
    assert_eq!(close["result"]["exhibits"][0]["id"], "E001");
    let says = format!("closed by entry {closed}");
    desk.run(&["custody", "note", "case", "late"]).fails(4, &[&says, "takes no note", "custody correct"]);
    desk.run(&["custody", "deviate", "case", "late"]).fails(4, &[&says, "takes no deviation"]);
    desk.run(&["custody", "close", "case"]).fails(4, &[&says]);
    let exhibits = fs::read_dir(desk.path("case/exhibits")).unwrap().count();
    desk.run(&["acquire", "disk", "disk.raw", "--case", "case", "--name", "more"]).fails(4, &[&says]);
    assert_eq!(
        fs::read_dir(desk.path("case/exhibits")).unwrap().count(),
        exhibits,
        "no empty exhibit is left"
    );
    desk.ok(&["custody", "correct", "case", &closed.to_string(), "the judgment is of 2026-11-20"]);
    desk.ok(&["verify", "case"]);
    let after = entry(&desk, "case", closed + 2);
    assert_eq!((&after["type"], &after["how"]["after_close"]), (&"verify.result".into(), &closed.into()));
    desk.ok(&["custody", "transfer", "case", "--to", "Archive", "--unsigned"]);
}

#[test]
fn a_case_with_an_open_exhibit_closes_only_with_a_reason() {
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "n", "--examiner", "e"]);
    desk.write("disk.raw", DISK);
    desk.ok(&["acquire", "disk", "disk.raw", "--case", "case"]);
    let bundle = fs::read_dir(desk.path("case/exhibits")).unwrap().next().unwrap().unwrap().path();
    // As an acquisition that was never finished leaves it: a log without a seal.
    let log = fs::read_to_string(bundle.join("custody.jsonl")).unwrap();
    assert!(log.contains("bundle.sealed"));
    fs::write(
        bundle.join("custody.jsonl"),
        log.lines()
            .filter(|line| !line.contains("bundle.sealed"))
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
    .unwrap();
    desk.run(&["custody", "close", "case"]).fails(4, &["E001 is not sealed"]);
    desk.run(&["custody", "close", "case", "--anyway", ""]).fails(2, &["the reason says nothing"]);
    desk.ok(&["custody", "close", "case", "--anyway", "the disk died"]);
    let closed = types(&desk, "case").len() - 1;
    let close = entry(&desk, "case", closed);
    assert_eq!(
        (&close["how"]["anyway"], &close["result"]["open"][0]),
        (&"the disk died".into(), &"E001".into())
    );
    desk.run(&["custody", "transfer", "case:E001", "--to", "x", "--unsigned"]).fails(4, &["is not sealed"]);
}

#[test]
fn keys_are_added_rotated_revoked_and_listed() {
    let desk = case_and_receiver();
    let note = |key: &str| desk.run(&["custody", "note", "case", "x", "--key", key]);
    note("store.pem").fails(4, &["may not sign", "must be introduced"]);
    desk.ok(&["custody", "key", "add", "case", "store.pub.pem", "--name", "P. Roe"]);
    assert_eq!(note("store.pem").code, 0);
    desk.run(&["custody", "key", "add", "case", "store.pub.pem"]).fails(4, &["may write this log already"]);
    desk.ok(&["key", "new", "--key", "new.pem"]);
    desk.ok(&["custody", "key", "rotate", "case", "--to", "new.pem", "--reason", "yearly"]);
    desk.run(&["custody", "note", "case", "x"]).fails(4, &["it was revoked"]);
    assert_eq!(note("new.pem").code, 0);
    let keys: serde_json::Value =
        serde_json::from_str(&desk.ok(&["custody", "key", "list", "case", "--json"]).stdout).unwrap();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 3);
    assert_eq!((&keys[0]["reason"], &keys[1]["name"]), (&"yearly".into(), &"P. Roe".into()));
    assert!(keys[0]["revoked"].is_u64() && keys[2]["revoked"].is_null());
    let table = desk.ok(&["custody", "key", "list", "case"]).stdout;
    assert!(
        table.contains("P. Roe") && table.contains("entries 0 to") && table.contains("yearly"),
        "{table}"
    );
    let store = keys[1]["fingerprint"].as_str().unwrap();
    let revoke = |key: &str, gone: &str| {
        desk.run(&["custody", "key", "revoke", "case", gone, "--reason", "stolen", "--key", key])
    };
    revoke("store.pem", store).fails(4, &["cannot revoke itself"]);
    revoke("new.pem", "SHA256:nobody").fails(4, &["has no key SHA256:nobody; it has SHA256:"]);
    assert_eq!(revoke("new.pem", store).code, 0);
    revoke("new.pem", store).fails(4, &["revoked the key", "already"]);
    note("store.pem").fails(4, &["it was revoked"]);
    desk.run(&["custody", "key", "add", "case", "store.pub.pem", "--key", "new.pem"])
        .fails(4, &["it never comes back"]);
    desk.ok(&["verify", "case", "--key", "new.pem"]);
}

#[test]
fn what_is_cut_from_an_exhibits_log_after_the_close_is_found_by_the_cases_log() {
    let desk = case_and_receiver();
    let bundle = desk.path("case/exhibits/E001-disk");
    let before: Vec<(&str, Vec<u8>)> = ["custody.jsonl", "checkpoint", "custody.frontier"]
        .into_iter()
        .map(|name| (name, fs::read(bundle.join(name)).unwrap()))
        .collect();
    desk.ok(&["custody", "note", "case:E001", "the seal was found broken"]);
    desk.ok(&["custody", "close", "case"]);
    desk.ok(&["verify", "case"]);
    for (name, bytes) in before {
        fs::write(bundle.join(name), bytes).unwrap();
    }
    desk.ok(&["verify", "case:E001"]);
    let cut = desk.run(&["verify", "case"]);
    assert_eq!(cut.code, 3);
    assert!(cut.stdout.contains("TRUNCATED") && cut.stdout.contains("closed the case"), "{}", cut.stdout);
}
