//! CloudTrail's digest chain: whole, and broken in every way. The key is made and used by openssl.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use acquire::cloud_logs::CloudLogsOptions;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use custody::sha256;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::cloud_logs::{Got, Shelf, acquire, connect, logs_at, window};
use crate::s3_front::{Front, Response};
use crate::support::has_tool;

const ACCOUNT: &str = "AWSLogs/111122223333/";
const FINGERPRINT: &str = "31e8b5433410dfb61a9dc45cc65b22ff";

/// An RSA key of its own.
struct Key {
    folder: tempfile::TempDir,
}

impl Key {
    /// `None` where openssl cannot be had.
    fn new() -> Option<Key> {
        if !has_tool_openssl() {
            return None;
        }
        let key = Key { folder: tempfile::tempdir().unwrap() };
        key.openssl(&["genrsa", "-out", "key.pem", "2048"]);
        key.openssl(&["rsa", "-in", "key.pem", "-RSAPublicKey_out", "-outform", "DER", "-out", "key.der"]);
        Some(key)
    }

    fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").args(args).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `aws cloudtrail list-public-keys` prints.
    fn list(&self) -> Vec<u8> {
        let value = BASE64_STANDARD.encode(fs::read(self.folder.path().join("key.der")).unwrap());
        json!({"PublicKeyList": [{"Fingerprint": FINGERPRINT, "Value": value, "ValidityStartTime": 1.5, "ValidityEndTime": 4e9}]})
            .to_string()
            .into_bytes()
    }

    /// The signature in hexadecimal.
    fn sign(&self, text: &str) -> String {
        fs::write(self.folder.path().join("text"), text).unwrap();
        self.openssl(&["dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "text"]);
        fs::read(self.folder.path().join("signature"))
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn has_tool_openssl() -> bool {
    // openssl says its version with another word than most.
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        has_tool("openssl");
    }
    found
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn log_key(hour: u32, minute: u32) -> String {
    format!(
        "{ACCOUNT}CloudTrail/eu-central-1/2026/11/20/111122223333_CloudTrail_eu-central-1_20261120T{hour:02}{minute:02}Z_x.json.gz"
    )
}

/// The digest that ends in this hour.
fn digest_key(hour: u32) -> String {
    format!(
        "{ACCOUNT}CloudTrail-Digest/eu-central-1/2026/11/20/111122223333_CloudTrail-Digest_eu-central-1_audit_eu-central-1_20261120T{hour:02}0131Z.json.gz"
    )
}

fn log_body(hour: u32, minute: u32) -> Vec<u8> {
    json!({"Records": [{"eventTime": format!("2026-11-20T{hour:02}:{minute:02}:00Z"), "eventName": "ConsoleLogin"}]})
        .to_string()
        .into_bytes()
}

/// A digest file before it is stored: what it says, and what is changed of it after it was signed.
#[derive(Clone, Default)]
struct Change {
    /// Of what it says, before it is signed.
    before: BTreeMap<&'static str, Value>,
    /// Bytes put behind what was signed.
    after: &'static [u8],
    signature: Option<&'static str>,
}

/// Six hours, with a digest for each and three log files in each.
const HOURS: std::ops::RangeInclusive<u32> = 10..=15;

struct Trail {
    shelf: Shelf,
    key: Key,
}

impl Trail {
    fn new() -> Option<Trail> {
        Trail::changed(|_| Change::default())
    }

    /// A trail some of whose digests are made otherwise.
    fn changed(change: impl Fn(u32) -> Change) -> Option<Trail> {
        let trail = Trail { shelf: Shelf::new()?, key: Key::new()? };
        let mut previous: Option<(String, String, String)> = None;
        for hour in HOURS {
            let mut files = Vec::new();
            for minute in [5, 25, 45] {
                let (hour, body) = (hour - 1, log_body(hour - 1, minute));
                trail.shelf.put(&log_key(hour, minute), &gzip(&body, 6));
                files.push(json!({
                    "s3Bucket": trail.shelf.bucket, "s3Object": log_key(hour, minute), "hashAlgorithm": "SHA-256",
                    "hashValue": sha256(&body).to_string(), "newestEventTime": "2026-11-20T09:00:00Z", "oldestEventTime": "2026-11-20T09:00:00Z",
                }));
            }
            let change = change(hour);
            let mut digest = json!({
                "awsAccountId": "111122223333", "digestStartTime": format!("2026-11-20T{:02}:01:31Z", hour - 1),
                "digestEndTime": format!("2026-11-20T{hour:02}:01:31Z"), "digestS3Bucket": trail.shelf.bucket,
                "digestS3Object": digest_key(hour), "digestPublicKeyFingerprint": FINGERPRINT,
                "digestSignatureAlgorithm": "SHA256withRSA", "logFiles": files,
                "previousDigestS3Bucket": previous.as_ref().map(|_| trail.shelf.bucket.clone()),
                "previousDigestS3Object": previous.as_ref().map(|(key, ..)| key.clone()),
                "previousDigestHashValue": previous.as_ref().map(|(_, hash, _)| hash.clone()),
                "previousDigestHashAlgorithm": "SHA-256",
                "previousDigestSignature": previous.as_ref().map(|(.., signature)| signature.clone()),
            });
            for (name, value) in change.before {
                digest[name] = value;
            }
            let text = digest.to_string();
            let told = digest["previousDigestSignature"].as_str().unwrap_or("null");
            let end = digest["digestEndTime"].as_str().unwrap();
            let place = format!(
                "{}/{}",
                digest["digestS3Bucket"].as_str().unwrap(),
                digest["digestS3Object"].as_str().unwrap()
            );
            let signature = trail.key.sign(&format!("{end}\n{place}\n{}\n{told}", sha256(text.as_bytes())));
            let body = [text.as_bytes(), change.after].concat();
            trail.put_digest(&digest_key(hour), &body, change.signature.unwrap_or(&signature));
            previous = Some((digest_key(hour), sha256(text.as_bytes()).to_string(), signature));
        }
        Some(trail)
    }

    fn put_digest(&self, key: &str, body: &[u8], signature: &str) {
        let metadata =
            [("x-amz-meta-signature", signature), ("x-amz-meta-signature-algorithm", "SHA256withRSA")];
        let metadata = if signature.is_empty() { &metadata[1..] } else { &metadata[..] };
        self.shelf.put_with(key, metadata, &gzip(body, 6));
    }

    fn acquire(&self) -> Got {
        self.acquire_with("", |_| ())
    }

    fn acquire_with(&self, prefix: &str, change: impl FnOnce(&mut CloudLogsOptions)) -> Got {
        acquire(self.shelf.logs(prefix, |options| {
            options.trail_keys = Some(self.key.list());
            change(options);
        }))
    }
}

impl Got {
    /// Digests that are signed, and log files: right, right by an unverified digest, changed, missing, in no digest, at times
    /// without one.
    fn trail(&self) -> [u64; 7] {
        [
            "digests_signed",
            "logs_right",
            "logs_right_by_unverified_digest",
            "logs_changed",
            "logs_missing",
            "logs_in_no_digest",
            "logs_at_times_without_digest",
        ]
        .map(|name| self.fact(&format!("cloudtrail.{name}")))
    }
}

#[test]
fn a_whole_chain_verifies_with_every_log_file_and_its_keys_are_kept() {
    let Some(trail) = Trail::new() else { return };
    // What counts is what is inside: packed again it is the same.
    trail.shelf.put(&log_key(11, 25), &gzip(&log_body(11, 25), 1));
    let got = trail.acquire();
    assert_eq!(got.issues(), []);
    assert_eq!(got.trail(), [6, 18, 0, 0, 0, 0, 0]);
    assert_eq!(got.files["/_cloud-logs/cloudtrail-public-keys/given.json"].1, trail.key.list());
    let summary: Value = serde_json::from_slice(&got.files["/_cloud-logs/summary.json"].1).unwrap();
    let chain = &summary["chains"][0];
    assert_eq!((chain["digests"].as_u64(), chain["signed"].as_u64()), (Some(6), Some(6)));
    assert_eq!(
        (chain["first_start"].as_str(), chain["last_end"].as_str()),
        (Some("2026-11-20T09:01:31Z"), Some("2026-11-20T15:01:31Z"))
    );
    assert_eq!(chain["before"], "none: the chain begins here");
}

#[test]
fn the_digests_of_a_prefix_of_log_files_are_read_too_and_only_those_of_the_window() {
    let Some(trail) = Trail::new() else { return };
    let prefix = format!("{ACCOUNT}CloudTrail/");
    let got = trail.acquire_with(&prefix, |options| {
        options.window = window("2026-11-20T11:00:00Z", "2026-11-20T12:00:00Z");
    });
    assert_eq!(got.issues(), []);
    // Log files of 11:05 to 12:45; the digests that end from 11:01:31 to 14:01:31.
    assert_eq!(got.trail(), [4, 6, 0, 0, 0, 0, 0]);
    assert_eq!(got.fact("cloudtrail.logs_named_outside"), 6);
    let day = format!("{ACCOUNT}CloudTrail/eu-central-1/2026/11/20/");
    assert_eq!(trail.acquire_with(&day, |_| ()).trail()[..2], [6, 18]);
}

#[test]
fn log_files_that_were_changed_removed_or_added_are_named() {
    let Some(trail) = Trail::new() else { return };
    trail.shelf.put(&log_key(10, 5), &gzip(b"{\"Records\":[]}", 6));
    trail.shelf.put(&log_key(10, 25), b"no gzip at all");
    trail.shelf.remove(&log_key(11, 45));
    trail.shelf.put(&log_key(12, 6), &gzip(&log_body(12, 6), 6));
    let got = trail.acquire();
    got.assert_issue(&log_key(10, 5), "not what was delivered");
    got.assert_issue(&log_key(10, 25), "cannot be unpacked");
    got.assert_issue(&log_key(11, 45), "removed, or expired");
    got.assert_issue(&log_key(12, 6), "no digest file here names");
    assert_eq!((got.report.issue_count, got.trail()), (4, [6, 15, 0, 1, 1, 1, 0]));
    assert_eq!(got.fact("cloudtrail.logs_unread"), 1);
}

#[test]
fn a_removed_digest_is_named_and_its_log_files_are_not_called_forged() {
    let Some(trail) = Trail::new() else { return };
    trail.shelf.remove(&digest_key(12));
    let got = trail.acquire();
    got.assert_issue(&digest_key(13), &format!("should be {}", digest_key(12)));
    assert_eq!((got.report.issue_count, got.trail()), (1, [5, 15, 0, 0, 0, 0, 3]));
}

#[test]
fn digests_removed_from_the_ends_are_told_where_the_time_asked_for_reaches_them() {
    let Some(trail) = Trail::new() else { return };
    for hour in [10, 14, 15] {
        trail.shelf.remove(&digest_key(hour));
    }
    let got =
        trail.acquire_with("", |options| options.window.until = window("", "2026-11-20T16:00:00Z").until);
    got.assert_issue(&digest_key(11), &format!("{}, is not there", digest_key(10)));
    got.assert_issue(
        &digest_key(13),
        "no digest file tells of what was delivered after 2026-11-20T13:01:31Z",
    );
    assert_eq!(got.report.issue_count, 2, "{:#?}", got.issues());
}

#[test]
fn a_digest_that_is_not_what_was_signed_is_named_and_so_is_the_link_to_it() {
    let bad = "00".repeat(256).leak();
    for (change, words, link) in [
        (
            Change { signature: Some(bad), ..Change::default() },
            "signature does not verify",
            "another signature",
        ),
        (Change { after: b" ", ..Change::default() }, "signature does not verify", "its hash differs"),
        (Change { signature: Some(""), ..Change::default() }, "without a signature", "another signature"),
        (Change { signature: Some("zz"), ..Change::default() }, "without a signature", "another signature"),
    ] {
        let Some(trail) = Trail::changed(|hour| if hour == 12 { change.clone() } else { Change::default() })
        else {
            return;
        };
        let got = trail.acquire();
        got.assert_issue(&digest_key(12), words);
        got.assert_issue(&digest_key(13), link);
        assert_eq!((got.report.issue_count, got.trail()), (2, [5, 15, 3, 0, 0, 0, 0]), "{:#?}", got.issues());
    }
}

#[test]
fn a_digest_put_in_the_place_of_another_breaks_the_link_though_its_signature_holds() {
    let Some(trail) = Trail::new() else { return };
    let other = json!({
        "digestStartTime": "2026-11-20T11:01:31Z", "digestEndTime": "2026-11-20T12:01:31Z", "digestS3Bucket": trail.shelf.bucket,
        "digestS3Object": digest_key(12), "digestPublicKeyFingerprint": FINGERPRINT, "logFiles": [],
    });
    let text = other.to_string();
    let signature = trail.key.sign(&format!(
        "2026-11-20T12:01:31Z\n{}/{}\n{}\nnull",
        trail.shelf.bucket,
        digest_key(12),
        sha256(text.as_bytes())
    ));
    trail.put_digest(&digest_key(12), text.as_bytes(), &signature);
    let got = trail.acquire();
    got.assert_issue(&digest_key(12), "begins anew here");
    got.assert_issue(&digest_key(13), "its hash differs");
    // It names no log file, so those of its hour stand in none.
    assert_eq!((got.report.issue_count, got.trail()), (5, [6, 15, 0, 0, 0, 3, 0]));
}

#[test]
fn a_chain_that_was_cut_or_has_a_hole_is_told_with_its_times() {
    let none = [
        "previousDigestS3Bucket",
        "previousDigestS3Object",
        "previousDigestHashValue",
        "previousDigestSignature",
    ];
    let cut =
        Change { before: none.into_iter().map(|name| (name, Value::Null)).collect(), ..Change::default() };
    let Some(trail) = Trail::changed(|hour| if hour == 13 { cut.clone() } else { Change::default() }) else {
        return;
    };
    let got = trail.acquire();
    got.assert_issue(
        &digest_key(13),
        "begins anew here: between the end of the one before (2026-11-20T12:01:31Z)",
    );
    assert_eq!((got.report.issue_count, got.trail()), (1, [6, 18, 0, 0, 0, 0, 0]));

    let late = Change {
        before: BTreeMap::from([("digestStartTime", json!("2026-11-20T12:31:31Z"))]),
        ..Change::default()
    };
    let Some(trail) = Trail::changed(|hour| if hour == 13 { late.clone() } else { Change::default() }) else {
        return;
    };
    let got = trail.acquire();
    got.assert_issue(
        &digest_key(13),
        "no digest file tells of what was delivered from 2026-11-20T12:01:31Z to 2026-11-20T12:31:31Z",
    );
    assert_eq!(got.report.issue_count, 1);
}

#[test]
fn a_digest_in_another_place_or_that_is_none_is_named() {
    let moved =
        Change { before: BTreeMap::from([("digestS3Object", json!("elsewhere"))]), ..Change::default() };
    let Some(trail) = Trail::changed(|hour| if hour == 15 { moved.clone() } else { Change::default() })
    else {
        return;
    };
    trail.shelf.put(&digest_key(10), b"no gzip at all");
    trail.put_digest(&digest_key(12), b"{\"digestEndTime\":1}", "00");
    let got = trail.acquire();
    got.assert_issue(&digest_key(15), "was delivered to s3://");
    got.assert_issue(&digest_key(10), "cannot be unpacked");
    got.assert_issue(&digest_key(11), "could not be read");
    got.assert_issue(&digest_key(12), "it is no digest file");
    got.assert_issue(&digest_key(13), "could not be read");
    assert_eq!((got.report.issue_count, got.trail()[0]), (5, 4));
}

#[test]
fn keys_are_asked_for_once_and_without_them_nothing_is_called_signed() {
    let Some(trail) = Trail::new() else { return };
    let asked = Arc::new(Mutex::new(Vec::new()));
    for may in [true, false] {
        let (list, asked, origin) = (trail.key.list(), Arc::clone(&asked), trail.shelf.endpoint.clone());
        let front = Front::before(&origin, move |request, pass| {
            let is_for_keys = request.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("x-amz-target") && value.ends_with(".ListPublicKeys")
            });
            if !is_for_keys {
                return pass(request);
            }
            asked.lock().unwrap().push(String::from_utf8(request.body.clone()).unwrap());
            let denied = br#"{"__type":"AccessDeniedException","Message":"not authorized"}"#.to_vec();
            let (status, body) = if may { (200, list.clone()) } else { (400, denied) };
            Response {
                status,
                headers: vec![("content-type".into(), "application/x-amz-json-1.1".into())],
                body,
            }
        });
        let logs = logs_at(&connect(&front), &trail.shelf.bucket, "", |_| ());
        let got = acquire(logs);
        if may {
            assert_eq!((got.issues(), got.trail()), (vec![], [6, 18, 0, 0, 0, 0, 0]));
            assert_eq!(
                got.files["/_cloud-logs/cloudtrail-public-keys/eu-central-1-000.json"].1,
                trail.key.list()
            );
        } else {
            got.assert_issue(&digest_key(12), "cloudtrail:ListPublicKeys");
            assert_eq!((got.report.issue_count, got.trail()), (6, [0, 0, 18, 0, 0, 0, 0]));
            assert_eq!(got.fact("cloudtrail.digests_not_checked"), 6);
        }
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let other = Key::new().unwrap();
    let got = trail.acquire_with("", |options| options.trail_keys = Some(other.list()));
    assert_eq!((got.report.issue_count, got.trail()), (6, [0, 0, 18, 0, 0, 0, 0]));
    let unknown = String::from_utf8(other.list()).unwrap().replace(FINGERPRINT, "00");
    let got = trail.acquire_with("", |options| options.trail_keys = Some(unknown.into_bytes()));
    got.assert_issue(&digest_key(10), &format!("has none with the fingerprint {FINGERPRINT}"));
}

#[test]
fn digests_that_may_not_be_listed_do_not_keep_from_the_log_files() {
    let Some(trail) = Trail::new() else { return };
    let front = Front::before(&trail.shelf.endpoint, |request, pass| {
        if !request.target.contains("CloudTrail-Digest") {
            return pass(request);
        }
        let body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>".to_vec();
        Response { status: 403, headers: vec![("content-type".into(), "application/xml".into())], body }
    });
    let prefix = format!("{ACCOUNT}CloudTrail/");
    let got = acquire(logs_at(&connect(&front), &trail.shelf.bucket, &prefix, |_| ()));
    got.assert_issue("CloudTrail-Digest/%2F", "s3:ListBucket on arn:aws:s3:::");
    assert_eq!((got.report.issue_count, got.trail()), (1, [0, 0, 0, 0, 0, 0, 18]));
    assert_eq!(got.report.facts["list_is_whole"], false);
}

#[test]
fn without_digests_nothing_is_claimed_of_log_files() {
    let Some(trail) = Trail::new() else { return };
    for hour in HOURS {
        trail.shelf.remove(&digest_key(hour));
    }
    let got = trail.acquire();
    assert_eq!((got.issues(), got.trail()), (vec![], [0, 0, 0, 0, 0, 0, 18]));
}

#[test]
fn looked_up_events_are_kept_page_by_page_and_what_ends_early_is_told() {
    for fails in [false, true] {
        let front = Front::alone(move |request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let event = |name: &str, time: u64| json!({"EventId": name, "EventName": name, "EventTime": time, "CloudTrailEvent": "{}"});
            let (status, answer) = match body["NextToken"].as_str() {
                None => (
                    200,
                    json!({"Events": [event("a", 1_795_224_600), event("b", 1_795_224_000)], "NextToken": "t"}),
                ),
                Some("t") if !fails => (200, json!({"Events": [event("c", 1_795_220_000)]})),
                _ => (
                    400,
                    json!({"__type": "AccessDeniedException", "Message": "no more cloudtrail:LookupEvents"}),
                ),
            };
            Response { status, headers: vec![], body: answer.to_string().into_bytes() }
        });
        let options = |options: &mut CloudLogsOptions| {
            (options.place, options.lookup) = (None, true);
            options.window = window("2026-01-01T00:00:00Z", "2026-11-22T00:00:00Z");
        };
        let mut logs = logs_at(&connect(&front), "unused", "", options);
        logs.check().unwrap();
        let got = acquire(logs);
        let page =
            |number: u32| PathBuf::from(format!("/_cloud-logs/lookup-events/eu-central-1/{number:06}.json"));
        let first: Value = serde_json::from_slice(&got.files[page(0).to_str().unwrap()].1).unwrap();
        assert_eq!(first["Events"][1]["EventId"], "b");
        got.assert_issue("lookup-events", "keeps 90 days");
        if fails {
            got.assert_issue("eu-central-1", "ended before its end");
        }
        let (events, pages, issues) = if fails { (2, 1, 2) } else { (3, 2, 1) };
        assert_eq!(got.report.issue_count, issues);
        assert_eq!(got.fact("lookup.eu-central-1.events"), events);
        assert_eq!(got.fact("lookup.eu-central-1.pages"), pages);
    }
}
