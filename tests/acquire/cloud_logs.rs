//! Logs in a bucket, against moto's S3 and a server between that does what a bucket does on a bad day.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use acquire::aws::{Connection, Credentials, Settings};
use acquire::cloud_logs::{CloudLogs, CloudLogsOptions, Place, Window};
use acquire::{Acquisition, Report};
use custody::bundle::{Bundle, CatalogEntry};
use custody::sha256;

use crate::moto::moto;
use crate::s3_front::{Front, Request, Response};
use crate::support::{assert_log_holds, destination, options, with_writer};

const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A bucket of its own at a server.
pub(crate) struct Shelf {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
}

impl Shelf {
    /// A new bucket at moto; `None` where that cannot be had.
    pub(crate) fn new() -> Option<Shelf> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let endpoint = moto()?.endpoint.clone();
        let bucket = format!("cloud-logs-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let shelf = Shelf { endpoint, bucket };
        shelf.request("PUT", "", "", &[], b"");
        Some(shelf)
    }

    /// Sends a request as it is; moto does not look at the signature. Gives status and body.
    pub(crate) fn request(
        &self,
        method: &str,
        key: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let answer = crate::s3_front::send(
            &self.endpoint,
            &Request {
                method: method.to_owned(),
                target: format!(
                    "/{}{}{}{query}",
                    self.bucket,
                    if key.is_empty() { "" } else { "/" },
                    encoded(key)
                ),
                headers: headers
                    .iter()
                    .chain(&[("Authorization", SIGNED)])
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                body: body.to_vec(),
            },
        );
        (answer.status, answer.body)
    }

    pub(crate) fn put(&self, key: &str, body: &[u8]) {
        self.put_with(key, &[], body);
    }

    pub(crate) fn put_with(&self, key: &str, headers: &[(&str, &str)], body: &[u8]) {
        let (status, said) = self.request("PUT", key, "", headers, body);
        assert_eq!(status, 200, "{key:?}: {}", String::from_utf8_lossy(&said));
    }

    pub(crate) fn remove(&self, key: &str) {
        assert_eq!(self.request("DELETE", key, "", &[], b"").0, 204);
    }

    pub(crate) fn connection(&self) -> Connection {
        connect(&self.endpoint)
    }

    pub(crate) fn logs(&self, prefix: &str, change: impl FnOnce(&mut CloudLogsOptions)) -> CloudLogs {
        logs_at(&self.connection(), &self.bucket, prefix, change)
    }
}

/// A connection with the credentials of nobody.
pub(crate) fn connect(endpoint: &str) -> Connection {
    let credentials = Credentials {
        access_key_id: "AKIAEXAMPLE".into(),
        secret_access_key: "secret".into(),
        session_token: None,
    };
    let settings = Settings {
        region: Some("eu-central-1".into()),
        credentials: Some(credentials),
        endpoint: Some(endpoint.to_owned()),
        ..Settings::default()
    };
    Connection::open(&settings).unwrap()
}

pub(crate) fn logs_at(
    connection: &Connection,
    bucket: &str,
    prefix: &str,
    change: impl FnOnce(&mut CloudLogsOptions),
) -> CloudLogs {
    let mut options = CloudLogsOptions::default();
    options.place = Some(Place { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
    change(&mut options);
    CloudLogs::new(connection, options).unwrap()
}

pub(crate) fn window(since: &str, until: &str) -> Window {
    let second = |text: &str| custody::clock::parse_rfc3339(text).ok().map(|time| time / 1_000_000_000);
    Window { since: second(since), until: second(until) }
}

fn encoded(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// What an acquisition gave: its report, and every file by its path, with its catalogue entry.
pub(crate) struct Got {
    pub(crate) report: Report,
    pub(crate) files: BTreeMap<String, (CatalogEntry, Vec<u8>)>,
    _folder: tempfile::TempDir,
}

impl Got {
    /// The value of an attribute of a file.
    pub(crate) fn attribute(&self, path: &str, name: &str) -> Option<String> {
        use base64::Engine as _;
        let entry = &self.files[path].0;
        let found = entry.xattrs.iter().find(|xattr| xattr.name == format!("user.{name}"))?;
        let value = base64::prelude::BASE64_STANDARD.decode(&found.value).unwrap();
        Some(String::from_utf8(value).unwrap())
    }

    pub(crate) fn issues(&self) -> Vec<(String, String)> {
        self.report.issues.iter().map(|issue| (issue.path.clone(), issue.what.clone())).collect()
    }

    /// The one issue of a path that says this.
    pub(crate) fn assert_issue(&self, path: &str, words: &str) {
        let issues = self.issues();
        let count = issues.iter().filter(|(at, what)| at.ends_with(path) && what.contains(words)).count();
        assert_eq!(count, 1, "{path:?} {words:?}: {issues:#?}");
    }

    pub(crate) fn fact(&self, name: &str) -> u64 {
        let mut value = &serde_json::Value::Object(self.report.facts.clone());
        for part in name.split('.') {
            value = value.get(part).unwrap_or_else(|| panic!("no {name} in {:#?}", self.report.facts));
        }
        value.as_u64().unwrap()
    }

    /// Paths of the objects alone.
    pub(crate) fn objects(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).filter(|path| !path.starts_with("/_cloud-logs/")).collect()
    }
}

pub(crate) fn try_acquire(logs: CloudLogs, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| Acquisition::new(logs, destination(folder)).options(options()).run(writer))
}

pub(crate) fn acquire(logs: CloudLogs) -> Got {
    let folder = tempfile::tempdir().unwrap();
    let report = try_acquire(logs, folder.path()).unwrap();
    assert_log_holds(folder.path());
    let reader = Bundle::open(folder.path()).unwrap().stream("objects").unwrap();
    let files = reader
        .catalog()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mut bytes = vec![0; usize::try_from(entry.size).unwrap()];
            reader.read_exact_at(entry.offset, &mut bytes).unwrap();
            assert!(entry.sha256.is_none_or(|told| told == sha256(&bytes)), "{}", entry.path);
            (entry.path.clone(), (entry, bytes))
        })
        .collect();
    Got { report, files, _folder: folder }
}

fn trail_key(day: &str, time: &str) -> String {
    let date = day.replace('/', "");
    format!(
        "AWSLogs/111122223333/CloudTrail/eu-central-1/{day}/111122223333_CloudTrail_eu-central-1_{date}T{time}Z_x.json.gz"
    )
}

#[test]
fn twelve_hundred_objects_come_in_order_byte_for_byte_with_their_metadata() {
    let Some(shelf) = Shelf::new() else { return };
    let mut expected = Vec::new();
    for number in 0..1_205 {
        let key = format!("logs/{:03}/{number:05}.log", number % 7);
        let body = format!("line of {number}\n").repeat(number % 50);
        shelf.put_with(
            &key,
            &[("x-amz-meta-origin", "host-é".trim_end_matches('é')), ("content-type", "text/plain")],
            body.as_bytes(),
        );
        expected.push((format!("/{}/{key}", shelf.bucket), body));
    }
    shelf.put("other/x", b"not of this prefix");
    let mut logs = shelf.logs("logs/", |_| ());
    logs.check().unwrap();
    let got = acquire(logs);
    assert_eq!(got.report.issue_count, 0, "{:?}", got.issues());
    expected.sort();
    assert_eq!(got.objects().len(), 1_205);
    for (path, body) in &expected {
        assert_eq!(got.files[path].1, body.as_bytes(), "{path}");
    }
    // In the stream they lie in the order of their keys, whatever came first over the line.
    let mut places: Vec<_> =
        got.files.values().map(|(entry, _)| (entry.offset, entry.path.clone())).collect();
    places.sort();
    let in_stream: Vec<_> =
        places.iter().map(|(_, path)| path.as_str()).filter(|path| path.contains("/logs/")).collect();
    assert_eq!(in_stream, expected.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>());
    let path = &expected[8].0;
    assert_eq!(got.attribute(path, "s3.x-amz-meta-origin").as_deref(), Some("host-"));
    assert_eq!(got.attribute(path, "s3.content-type").as_deref(), Some("text/plain"));
    assert_eq!(got.attribute(path, "s3.bucket").as_deref(), Some(shelf.bucket.as_str()));
    assert!(got.attribute(path, "s3.etag").is_some() && got.attribute(path, "s3.last-modified").is_some());
    assert!(got.files[path].0.mtime.is_some());
    assert_eq!((got.fact("objects"), got.fact("compared_by.md5")), (1_205, 1_205));
}

#[test]
fn the_window_takes_what_may_hold_its_events_and_lists_no_other_day() {
    let Some(shelf) = Shelf::new() else { return };
    for (day, time) in [
        ("2025/12/31", "2355"),
        ("2026/11/19", "2355"),
        ("2026/11/20", "0955"),
        ("2026/11/20", "1000"),
        ("2026/11/20", "1155"),
        ("2026/11/20", "1259"),
        ("2026/11/20", "1300"),
        ("2026/11/21", "0000"),
    ] {
        shelf.put(&trail_key(day, time), time.as_bytes());
    }
    shelf.put("AWSLogs/111122223333/GuardDuty/eu-central-1/2026/11/20/a.jsonl.gz", b"of the day");
    shelf.put("AWSLogs/111122223333/GuardDuty/eu-central-1/2026/11/22/b.jsonl.gz", b"of a later day");
    shelf.put("notes/just-written.txt", b"written now, so outside");
    let logs =
        shelf.logs("", |options| options.window = window("2026-11-20T10:00:00Z", "2026-11-20T12:00:00Z"));
    let estimate = logs.estimate().unwrap();
    let got = acquire(logs);
    let names: Vec<_> =
        got.objects().iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect();
    let stamp = |time: &str| format!("111122223333_CloudTrail_eu-central-1_20261120T{time}Z_x.json.gz");
    // Files of events before 12:00 may be delivered up to an hour later.
    assert_eq!(names, [stamp("1000"), stamp("1155"), stamp("1259"), "a.jsonl.gz".into()]);
    // 2025, 19 and 21 November of CloudTrail, and 22 November of GuardDuty.
    assert_eq!(got.fact("folders_not_listed"), 4);
    let summary: serde_json::Value =
        serde_json::from_slice(&got.files["/_cloud-logs/summary.json"].1).unwrap();
    assert!(summary["not_listed_keys"].to_string().contains("/CloudTrail/eu-central-1/2025/"));
    assert_eq!((estimate.objects, estimate.bytes, estimate.not_listed), (4, 4 * 3 + 10, 4));
    assert_eq!(estimate.layouts["CloudTrail log files"], (3, 12));
    let gaps = String::from_utf8(got.files["/_cloud-logs/gaps.jsonl"].1.clone()).unwrap();
    assert!(
        gaps.contains("\"from\":\"2026-11-20T10:00:00Z\"")
            && gaps.contains("\"to\":\"2026-11-20T11:55:00Z\""),
        "{gaps}"
    );
}

#[test]
fn access_logs_without_folders_are_listed_only_around_the_window() {
    let Some(shelf) = Shelf::new() else { return };
    let key = |day: u32, hour: u32, minute: u32| {
        format!("web-2026-11-{day:02}-{hour:02}-{minute:02}-00-0123456789ABCDEF")
    };
    for day in 10..=20 {
        for hour in 0..24 {
            for minute in [0, 10, 20, 30, 40] {
                shelf.put(&key(day, hour, minute), b"x");
            }
        }
    }
    let logs =
        shelf.logs("web-", |options| options.window = window("2026-11-12T00:00:00Z", "2026-11-12T01:00:00Z"));
    let got = acquire(logs);
    // Delivered up to a day later: all of the 12th, and the first hour of the 13th.
    assert_eq!(got.objects().len(), 24 * 5 + 5);
    assert_eq!(got.fact("lists"), 2);
    assert_eq!((got.fact("folders_not_listed"), got.fact("objects_outside_the_time")), (2, 0));
}

#[test]
fn hostile_keys_become_files_that_stay_in_their_folder() {
    let Some(shelf) = Shelf::new() else { return };
    let long = format!("k/{}", "n".repeat(1022));
    let keys = [
        "k/../../etc/passwd",
        "k/a%2Fb",
        "k/tab\t\u{1}\u{7f}",
        "k/ü/日本",
        "k/ space +plus",
        "k/a/",
        "k/quote\"&<>'",
        "k/..",
        long.as_str(),
    ];
    for key in keys {
        shelf.put(key, key.as_bytes());
    }
    let got = acquire(shelf.logs("k/", |_| ()));
    assert_eq!(got.issues(), []);
    let mut found: Vec<_> = got.objects().iter().map(|path| got.attribute(path, "s3.key").unwrap()).collect();
    let mut wanted: Vec<_> = keys.map(str::to_owned).to_vec();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    for path in got.objects() {
        assert!(path.starts_with(&format!("/{}/k/", shelf.bucket)) && !path.contains("/../"), "{path}");
        assert_eq!(got.files[path].1, got.attribute(path, "s3.key").unwrap().as_bytes(), "{path}");
    }
}

#[test]
fn versions_are_named_and_large_objects_come_in_parts() {
    let Some(shelf) = Shelf::new() else { return };
    let versioning = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(shelf.request("PUT", "", "?versioning", &[], versioning).0, 200);
    shelf.put("v/one", b"first");
    shelf.put("v/one", b"second");
    let large: Vec<u8> =
        (0..9_500_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    shelf.put("v/large", &large);
    let got = acquire(shelf.logs("v/", |_| ()));
    assert_eq!(got.issues(), []);
    let path = |name: &str| format!("/{}/v/{name}", shelf.bucket);
    assert_eq!(got.files[&path("one")].1, b"second");
    assert!(got.attribute(&path("one"), "s3.x-amz-version-id").is_some_and(|id| id.len() > 8));
    assert!(got.files[&path("large")].1 == large);
    assert_eq!(got.attribute(&path("large"), "s3.listed-size").as_deref(), Some("9500000"));
}

/// What a store answers when it refuses.
fn refused(status: u16, code: &str, message: &str) -> Response {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Response {
        status,
        headers: vec![("content-type".into(), "application/xml".into())],
        body: body.into_bytes(),
    }
}

#[test]
fn what_cannot_be_read_is_named_with_what_to_do_and_the_rest_is_acquired() {
    let Some(shelf) = Shelf::new() else { return };
    for name in ["archived", "changed", "damaged", "denied", "fine", "gone", "kms", "never", "wobbly"] {
        shelf.put(&format!("t/{name}"), name.as_bytes());
    }
    let asked = Arc::new(std::sync::Mutex::new(BTreeMap::<String, u32>::new()));
    let (count, origin) = (Arc::clone(&asked), shelf.endpoint.clone());
    let changer = Shelf { endpoint: shelf.endpoint.clone(), bucket: shelf.bucket.clone() };
    let front = Front::before(&origin, move |request, pass| {
        let name = request.target.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        if request.method != "GET" || request.target.contains("list-type") {
            return pass(request);
        }
        let tries = {
            let mut asked = count.lock().unwrap();
            let tries = asked.entry(name.clone()).or_default();
            *tries += 1;
            *tries
        };
        match name.as_str() {
            "archived" => refused(
                403,
                "InvalidObjectState",
                "The operation is not valid for the object's storage class",
            ),
            "denied" => refused(403, "AccessDenied", "Access Denied"),
            "kms" => refused(
                403,
                "AccessDenied",
                "User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-central-1:1:key/k",
            ),
            "gone" if tries == 1 => {
                changer.remove("t/gone");
                pass(request)
            }
            "changed" if tries == 1 => {
                changer.put("t/changed", b"changed, and longer than before");
                pass(request)
            }
            "never" => refused(503, "SlowDown", "Please reduce your request rate."),
            "wobbly" if tries < 3 => refused(500, "InternalError", "We encountered an internal error."),
            "damaged" => {
                let mut answer = pass(request);
                answer.body[0] ^= 1;
                answer
            }
            _ => pass(request),
        }
    });
    let got = acquire(logs_at(&connect(&front), &shelf.bucket, "t/", |_| ()));
    let path = |name: &str| format!("/{}/t/{name}", shelf.bucket);
    for (name, words) in [
        ("archived", "restore it"),
        ("denied", "s3:GetObject on arn:aws:s3:::"),
        ("kms", "kms:Decrypt on that key is missing"),
        ("gone", "deleted between listing and reading"),
        ("changed", "changed between listing and reading: its ETag was"),
        ("never", "SlowDown"),
        ("damaged", "do not have the MD5"),
    ] {
        got.assert_issue(&path(name), words);
    }
    assert_eq!(got.report.issue_count, 7, "{:#?}", got.issues());
    assert_eq!(got.files[&path("fine")].1, b"fine");
    assert_eq!(got.files[&path("wobbly")].1, b"wobbly");
    assert_eq!(got.files[&path("changed")].1, b"changed, and longer than before");
    assert_eq!(got.files[&path("damaged")].1, b"eamaged");
    assert!(got.files[&path("gone")].0.sha256.is_none() && !got.files[&path("gone")].0.errors.is_empty());
    let asked = asked.lock().unwrap();
    assert_eq!(
        (asked["denied"], asked["kms"], asked["archived"]),
        (1, 1, 1),
        "what is denied is not asked for again"
    );
    assert_eq!((asked["never"], asked["damaged"]), (6, 3));
    assert_eq!((got.fact("objects"), got.fact("objects_unread")), (4, 5));
}

#[test]
fn the_rest_of_a_large_object_that_changes_midway_is_zeros_and_listed_as_unreadable() {
    let Some(shelf) = Shelf::new() else { return };
    shelf.put("l/large", &vec![7; 9_500_000]);
    let front = Front::before(&shelf.endpoint, |request, pass| {
        let range = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("range"));
        match range {
            Some((_, range)) if range.starts_with("bytes=8388608-") => {
                refused(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
            }
            _ => pass(request),
        }
    });
    let got = acquire(logs_at(&connect(&front), &shelf.bucket, "l/", |_| ()));
    let path = format!("/{}/l/large", shelf.bucket);
    got.assert_issue(&path, "changed while it was read");
    assert_eq!(got.report.issue_count, 1, "{:?}", got.issues());
    let bytes = &got.files[&path].1;
    assert!(bytes[..8 << 20].iter().all(|byte| *byte == 7) && bytes[8 << 20..].iter().all(|byte| *byte == 0));
    assert_eq!(got.report.states().unreadable, 9_500_000 - (8 << 20));
}

#[test]
fn a_list_that_may_not_be_had_stops_with_the_permission_that_is_missing() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let front = Front::alone(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        refused(403, "AccessDenied", "Access Denied")
    });
    let mut logs = logs_at(&connect(&front), "evidence", "p/", |_| ());
    let said = logs.check().unwrap_err().to_string();
    assert!(
        said.contains("s3:ListBucket on arn:aws:s3:::evidence") && said.contains("AccessDenied"),
        "{said}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn an_empty_prefix_is_said_before_an_exhibit_is_begun() {
    let Some(shelf) = Shelf::new() else { return };
    let said = shelf.logs("no/such/", |_| ()).check().unwrap_err().to_string();
    assert!(said.contains("no object of the bucket") && said.contains("no/such/"), "{said}");
}

/// A page of a list with these keys, that goes on if there is a token.
fn page(keys: &[&str], token: Option<&str>) -> Response {
    let contents: String = keys
        .iter()
        .map(|key| format!("<Contents><Key>{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"))
        .collect();
    let next = token
        .map_or_else(String::new, |token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    let truncated = token.is_some();
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{truncated}</IsTruncated>{next}{contents}</ListBucketResult>"
    );
    Response {
        status: 200,
        headers: vec![("content-type".into(), "application/xml".into())],
        body: body.into_bytes(),
    }
}

#[test]
fn a_list_that_goes_round_in_circles_or_names_what_was_not_asked_for_ends_and_is_told() {
    type Pages = fn(&Request) -> Response;
    let cases: [(&str, Pages, &str, usize); 4] = [
        ("circle", |_| page(&["p/a", "p/b"], Some("again")), "not in the order of its keys", 2),
        ("empty", |_| page(&[], Some("again")), "pages of the list were empty", 0),
        ("foreign", |_| page(&["q/a", "p/%FF", "p/b%0A"], None), "no key of this prefix", 1),
        (
            "tokenless",
            |request| {
                if request.target.contains("token") { page(&["p/b"], None) } else { page(&["p/a"], Some("")) }
            },
            "the list goes on, but does not say how",
            0,
        ),
    ];
    for (name, pages, words, objects) in cases {
        let front = Front::alone(move |request| {
            if request.target.contains("list-type") {
                return pages(request);
            }
            Response { status: 200, headers: vec![("etag".into(), "\"e\"".into())], body: b"x".to_vec() }
        });
        let logs = logs_at(&connect(&front), "evidence", "p/", |_| ());
        let folder = tempfile::tempdir().unwrap();
        match try_acquire(logs, folder.path()) {
            Ok(report) => {
                assert!(
                    report.issues.iter().any(|issue| issue.what.contains(words)),
                    "{name}: {:?}",
                    report.issues
                );
                assert_eq!(report.facts["objects"], objects, "{name}");
            }
            Err(error) => {
                let said = format!("{error}");
                assert!(name == "tokenless" && said.contains(words), "{name}: {said}");
            }
        }
    }
}
