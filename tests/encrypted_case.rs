//! A case with an encrypted exhibit, from the command line.

use std::fs;

use crate::exhibit::Desk;

// Made for these tests by age-keygen; they protect nothing else.
const RECIPIENT: &str = "age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga";
const SECRET: &str = "AGE-SECRET-KEY-1722WCU93NXC5V3URAX9Z0WA8ME7CMZSCRFC7RY42K7DPL3PR9E2SPEGE9E";
/// What no message may repeat.
const SECRET_PART: &str = "1722WCU93NXC5V";
const SECOND: &str = "age1m8qy93mzgz934h49772mjkgmudyny4p8ek2284kt8kncsk7x5ceqckkfey";
const SECOND_SECRET: &str = "AGE-SECRET-KEY-1WYWHP4LUAMUPNA2T3HKAMLWVY2972Y4N9892CQEREJXQXJ2QH5GQM302VQ";

/// A case with one encrypted disk, and the key files `key.txt` (which opens it) and `other.txt`.
fn encrypted_case(recipients: &[&str]) -> Desk {
    let desk = Desk::new();
    desk.write("key.txt", format!("# made for a test\n{SECRET}\n"));
    desk.write("other.txt", format!("{SECOND_SECRET}\n"));
    desk.write("disk.raw", [0x5a; 300_000]);
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let mut acquire =
        vec!["acquire", "disk", "disk.raw", "--case", "case", "--name", "disk", "--verify-after"];
    for recipient in recipients {
        acquire.extend(["--encrypt-to", recipient]);
    }
    desk.ok(&acquire);
    desk
}

#[test]
fn an_encrypted_exhibit_verifies_as_ciphertext_only_and_wholly_with_a_key_that_fits() {
    let desk = encrypted_case(&[RECIPIENT]);
    for args in [&["verify", "case"][..], &["verify", "case", "--identity", "other.txt"]] {
        let ran = desk.ok(args);
        assert!(ran.stdout.starts_with("CONSISTENT (CIPHERTEXT ONLY)  case\n"), "{}", ran.stdout);
        assert!(ran.stdout.contains("what is inside the encrypted files was not"), "{}", ran.stdout);
    }
    let ran = desk.ok(&["--identity", "other.txt", "--identity", "key.txt", "verify", "case:E001"]);
    assert!(ran.stdout.starts_with("CONSISTENT  "), "{}", ran.stdout);
    assert!(!ran.stdout.contains("CIPHERTEXT"), "{}", ran.stdout);
    let log = fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
    assert!(log.contains(r#""verdict":"CONSISTENT (CIPHERTEXT ONLY)""#), "{log}");
    let document: serde_json::Value =
        serde_json::from_str(&desk.ok(&["verify", "case", "--json"]).stdout).unwrap();
    assert_eq!(document["ciphertext_only"], true);
    let ran = desk.ok(&["list", "case"]);
    assert!(
        ran.stdout.contains("293"),
        "the size is in the manifest, which is not encrypted: {}",
        ran.stdout
    );
    desk.ok(&["report", "case", "-o", "out"]);
    let html = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(html.contains(RECIPIENT) && html.contains("CIPHERTEXT ONLY"));
}

#[test]
fn each_recipient_of_several_opens_it_and_a_file_of_them_is_taken() {
    let desk = encrypted_case(&[RECIPIENT, SECOND]);
    for key in ["key.txt", "other.txt"] {
        let ran = desk.ok(&["verify", "case", "--identity", key]);
        assert!(!ran.stdout.contains("CIPHERTEXT"), "{key}: {}", ran.stdout);
    }
    desk.write("to.txt", format!("# examiners\n{RECIPIENT}\n\n{SECOND}\n"));
    desk.ok(&["acquire", "disk", "disk.raw", "--case", "case", "--name", "again", "--encrypt-to", "to.txt"]);
    let manifest = fs::read_to_string(desk.path("case/exhibits/E002-again/manifest.json")).unwrap();
    assert!(manifest.contains(&format!(r#""encrypted_to":["{RECIPIENT}","{SECOND}"]"#)), "{manifest}");
}

#[test]
fn one_changed_byte_of_ciphertext_is_exit_code_3_and_named_without_the_key() {
    let desk = encrypted_case(&[RECIPIENT]);
    let path = desk.path("case/exhibits/E001-disk/data/disk.chunks.tsv.age");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = desk.run(&["verify", "case"]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(ran.stdout.contains("FAULT  exhibits/E001-disk/data/disk.chunks.tsv.age"), "{}", ran.stdout);
}

#[test]
fn an_encrypted_exhibit_is_exported_with_its_key_and_not_without() {
    let desk = encrypted_case(&[RECIPIENT]);
    let export = ["export", "case:E001", "--format", "raw", "-o", "out.raw"];
    desk.run(&export).fails(4, &["data/disk.chunks.tsv.age", "is encrypted", "--identity FILE"]);
    let wrong = desk.run(&[&export[..], &["--identity", "other.txt"]].concat());
    wrong.fails(4, &["data/disk.chunks.tsv.age", "none of the given identities opens it"]);
    assert!(!desk.path("out.raw").exists());
    desk.ok(&[&export[..], &["--identity", "key.txt"]].concat());
    assert_eq!(fs::read(desk.path("out.raw")).unwrap(), fs::read(desk.path("disk.raw")).unwrap());
    let path = desk.path("case/exhibits/E001-disk/data/disk/000000.zst.age");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 30;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged =
        desk.run(&["export", "case:E001", "--format", "raw", "-o", "bad.raw", "--identity", "key.txt"]);
    damaged.fails(3, &["000000.zst.age"]);
    assert!(!desk.path("bad.raw").exists());
}

#[test]
fn keys_that_are_none_are_refused_before_anything_is_made() {
    let desk = Desk::new();
    desk.write("disk.raw", [1; 5000]);
    desk.write("locked.txt", "age-encryption.org/v1\n-> scrypt abc 18\n");
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let acquire = |to: &str| desk.run(&["acquire", "disk", "disk.raw", "--case", "case", "--encrypt-to", to]);
    acquire("age1nonsense").fails(2, &["--encrypt-to", "age1nonsense", "age-keygen"]);
    acquire("ssh-ed25519 AAAA").fails(2, &["SSH keys are not supported"]);
    let ran = acquire(SECRET);
    ran.fails(2, &["that is a secret key"]);
    assert!(!ran.stderr.contains(SECRET_PART), "{}", ran.stderr);
    assert_eq!(fs::read_dir(desk.path("case/exhibits")).map_or(0, Iterator::count), 0);
    desk.run(&["verify", "case", "--identity", "locked.txt"]).fails(4, &["locked.txt", "itself encrypted"]);
    desk.run(&["verify", "case", "--identity", "gone.txt"]).fails(4, &["gone.txt", "No such file"]);
}

#[cfg(feature = "timeline")]
#[test]
fn an_encrypted_exhibit_is_left_out_of_the_timeline_without_its_key_and_read_with_it() {
    let desk = Desk::new();
    desk.write("key.txt", format!("{SECRET}\n"));
    desk.write(
        "logs/var/log/auth.log",
        "2026-11-21T01:30:00.000000+00:00 web01 sshd[1]: Accepted password for root from 192.0.2.7 port 40000 ssh2\n",
    );
    desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let to = ["--case", "case", "--name", "logs", "--encrypt-to", RECIPIENT];
    desk.ok(&[&["acquire", "logs", "logs"], &to[..]].concat());
    let ran = desk.run(&["timeline", "case"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("E001 is left out") && ran.stderr.contains("is encrypted"), "{}", ran.stderr);
    desk.run(&["timeline", "case", "--exhibit", "E001"]).fails(4, &["is encrypted", "--identity FILE"]);
    let ran = desk.ok(&["timeline", "case", "--identity", "key.txt"]);
    assert!(ran.stderr.contains("the timeline that is made of it is not"), "{}", ran.stderr);
    let sql = "SELECT event_id FROM events WHERE message LIKE '%root%'";
    let rows: serde_json::Value =
        serde_json::from_str(&desk.ok(&["sql", "case", sql, "--json"]).stdout).unwrap();
    let id = rows[0]["event_id"].as_str().unwrap();
    desk.run(&["show", "case", id, "--bytes"]).fails(4, &["is encrypted", "--identity FILE"]);
    let ran = desk.ok(&["show", "case", id, "--bytes", "--proof", "--identity", "key.txt"]);
    assert!(ran.stdout.contains("these bytes alone give the equal row"), "{}", ran.stdout);
}
