//! A server that answers an evidence store's reader wrongly: what it sends is asked for again or refused, and never believed.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use acquire::aws::Credentials;
use acquire::s3_reader::S3Reader;
use custody::bundle::{BundleStore, RemoteStore};

use crate::s3_servers::connect;
use crate::support::content;

const PATH: &str = "data/disk/000000.zst";
const SIZE: usize = 900_000;
const ETAG: &str = "\"0123\"";

/// A request, as far as the tests look at it.
struct Request {
    target: String,
    range: Option<(usize, usize)>,
    /// How many of this kind came before.
    before: usize,
}

/// What is sent, byte for byte.
struct Answer {
    bytes: Vec<u8>,
    /// Whether the connection then stays open, and nothing comes.
    hangs: bool,
}

impl Answer {
    fn new(status: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        Answer { bytes: [head.as_bytes(), body].concat(), hangs: false }
    }

    fn error(status: &str, code: &str, message: &str) -> Answer {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Answer::new(status, "Content-Type: application/xml\r\n", body.as_bytes())
    }

    /// The answer that is right.
    fn range(request: &Request, data: &[u8]) -> Answer {
        let (first, last) = request.range.unwrap();
        Answer::part(data, first, last, ETAG, "v1", data.get(first..=last).unwrap())
    }

    fn part(data: &[u8], first: usize, last: usize, etag: &str, version: &str, body: &[u8]) -> Answer {
        let headers = format!(
            "Content-Range: bytes {first}-{last}/{}\r\nETag: {etag}\r\nx-amz-version-id: {version}\r\n",
            data.len()
        );
        Answer::new("206 Partial Content", &headers, body)
    }
}

/// Versions of one page.
fn listing(versions: &[(&str, &str)], next: Option<&str>) -> Answer {
    let mut body = String::from("<?xml version=\"1.0\"?><ListVersionsResult><Name>evidence</Name>");
    for (key, version) in versions {
        body.push_str(&format!(
            "<Version><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>true</IsLatest>\
             <LastModified>2026-11-21T10:00:00.000Z</LastModified><ETag>{ETAG}</ETag><Size>{SIZE}</Size></Version>"
        ));
    }
    match next {
        Some(key) => {
            body.push_str(&format!("<IsTruncated>true</IsTruncated><NextKeyMarker>{key}</NextKeyMarker>"));
        }
        None => body.push_str("<IsTruncated>false</IsTruncated>"),
    }
    body.push_str("</ListVersionsResult>");
    Answer::new("200 OK", "Content-Type: application/xml\r\n", body.as_bytes())
}

/// The one object that these tests read.
fn one_object() -> Answer {
    listing(&[(&format!("p/{PATH}"), "v1")], None)
}

fn is_listing(request: &Request) -> bool {
    request.target.contains("versions")
}

/// Serves until the process ends; gives the address, and what was asked for so far.
fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (all, answer) = (Arc::clone(&asked), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
            thread::spawn(move || handle(stream, &all, &*answer));
        }
    });
    (address, asked)
}

fn handle(mut stream: TcpStream, all: &Mutex<Vec<String>>, answer: &dyn Fn(&Request) -> Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut range) = (String::new(), None);
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = value.trim().split_once('-').unwrap();
            range = Some((from.parse().unwrap(), to.parse().unwrap()));
        }
    }
    let mut words = first.split_whitespace();
    let target = format!("{} {}", words.next().unwrap(), words.next().unwrap());
    let kind = target.split(['?', '&']).filter(|part| !part.contains('=')).collect::<Vec<_>>().join("?");
    let before = {
        let mut all = all.lock().unwrap();
        all.push(kind.clone());
        all.iter().filter(|asked| **asked == kind).count() - 1
    };
    let given = answer(&Request { target, range, before });
    let _ = stream.write_all(&given.bytes).and_then(|()| stream.flush());
    if given.hangs {
        thread::sleep(Duration::from_secs(120));
    }
}

fn open(endpoint: &str) -> acquire::Result<S3Reader> {
    let credentials = Credentials {
        access_key_id: "A".into(),
        secret_access_key: "hidden-key".into(),
        session_token: None,
    };
    S3Reader::open(&connect(endpoint, &credentials), "evidence", "p")
}

/// A reader of one object, whose ranges are answered so.
fn reader(
    get: impl Fn(&Request, &[u8]) -> Answer + Send + Sync + 'static,
) -> (S3Reader, Arc<Mutex<Vec<String>>>) {
    let data = content(SIZE);
    let (address, asked) = serve(move |request| match request {
        request if is_listing(request) => one_object(),
        request if request.target.contains("retention") => {
            Answer::error("404 Not Found", "NoSuchObjectLockConfiguration", "none")
        }
        request => get(request, &data),
    });
    (open(&address).unwrap(), asked)
}

/// Reads some bytes, and compares them with what is there.
fn read(reader: &S3Reader) -> std::io::Result<()> {
    let mut bytes = vec![0; 300_000];
    assert_eq!(reader.read_at(PATH, 1000, &mut bytes)?, bytes.len());
    assert!(bytes == content(SIZE)[1000..301_000]);
    Ok(())
}

#[test]
fn what_was_cut_short_or_refused_for_a_moment_is_asked_for_again() {
    let (store, asked) = reader(|request, data| match request.before {
        0 => Answer::error("503 Slow Down", "SlowDown", "slower"),
        1 => Answer { bytes: Answer::range(request, data).bytes[..5000].to_vec(), hangs: false },
        2 => Answer::error("500 Internal Server Error", "InternalError", "again"),
        _ => Answer::range(request, data),
    });
    read(&store).unwrap();
    assert_eq!(
        asked
            .lock()
            .unwrap()
            .iter()
            .filter(|kind| kind.contains(PATH) && !kind.contains("retention"))
            .count(),
        4
    );
    // What is held is not asked for again.
    read(&store).unwrap();
    assert_eq!(
        asked
            .lock()
            .unwrap()
            .iter()
            .filter(|kind| kind.contains(PATH) && !kind.contains("retention"))
            .count(),
        4
    );
    assert_eq!(store.fetched(), SIZE as u64);
}

#[test]
fn what_is_denied_is_asked_for_once_and_the_missing_permission_is_named() {
    for (message, names) in [
        ("Access Denied", "s3:GetObjectVersion"),
        ("User is not authorized to perform: kms:Decrypt on the resource", "kms:Decrypt"),
    ] {
        let (store, asked) = reader(move |_, _| Answer::error("403 Forbidden", "AccessDenied", message));
        let refused = read(&store).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains(names), "{refused}");
        assert!(!refused.to_string().contains("hidden-key"));
        let gets = asked
            .lock()
            .unwrap()
            .iter()
            .filter(|kind| kind.starts_with("GET") && kind.ends_with(".zst"))
            .count();
        assert_eq!(gets, 1, "{:?}", asked.lock().unwrap());
    }
}

#[test]
fn an_object_that_was_replaced_meanwhile_is_told_and_not_mixed_with_the_first() {
    let (store, asked) = reader(|_, _| Answer::error("412 Precondition Failed", "PreconditionFailed", "x"));
    let refused = read(&store).unwrap_err();
    assert!(refused.to_string().contains("it was replaced"), "{refused}");
    assert_eq!(asked.lock().unwrap().iter().filter(|kind| kind.ends_with(".zst")).count(), 1);
}

/// Each takes some twenty seconds until the reader gives up, so all at once.
#[test]
fn bytes_that_are_not_those_that_were_asked_for_are_refused() {
    type Get = fn(&Request, &[u8]) -> Answer;
    let wrong: [(&str, Get); 6] = [
        ("another object", |request, data| {
            let (first, last) = request.range.unwrap();
            Answer::part(data, first, last, "\"4567\"", "v1", &data[first..=last])
        }),
        ("another version", |request, data| {
            let (first, last) = request.range.unwrap();
            Answer::part(data, first, last, ETAG, "v2", &data[first..=last])
        }),
        ("was asked for", |request, data| {
            let (first, last) = request.range.unwrap();
            Answer::part(data, first, last - 1, ETAG, "v1", &data[first..last])
        }),
        ("bytes", |request, data| {
            let mut answer = Answer::range(request, data);
            let length = answer.bytes.len();
            answer.bytes.truncate(length - 1);
            answer
        }),
        ("announced", |request, data| {
            let (first, last) = request.range.unwrap();
            let longer: Vec<u8> = data[first..=last].iter().chain(b"more").copied().collect();
            Answer::part(data, first, last, ETAG, "v1", &longer)
        }),
        ("more than the", |request, data| {
            let (first, last) = request.range.unwrap();
            let body = [&data[first..=last], b"more"].concat();
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\nETag: {ETAG}\r\n\
                 Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n",
                body.len()
            );
            Answer { bytes: [head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(), hangs: false }
        }),
    ];
    thread::scope(|scope| {
        for (words, get) in wrong {
            scope.spawn(move || {
                let (store, asked) = reader(get);
                let refused = read(&store).unwrap_err().to_string();
                assert!(refused.contains(words), "{words}: {refused}");
                let asked = asked.lock().unwrap().iter().filter(|kind| kind.ends_with(".zst")).count();
                assert!((2..=8).contains(&asked), "{words}: {asked}");
            });
        }
        scope.spawn(|| {
            let (store, _) = reader(|request, data| match request.before {
                0 => Answer { bytes: Answer::range(request, data).bytes[..70_000].to_vec(), hangs: true },
                _ => Answer::range(request, data),
            });
            read(&store).unwrap();
        });
    });
}

#[test]
fn a_listing_that_goes_round_in_a_circle_or_never_ends_is_given_up() {
    let key = format!("p/{PATH}");
    let same = key.clone();
    let circle = move |request: &Request| {
        let versions = [(same.as_str(), "v1")];
        listing(if request.before == 0 { &versions } else { &[] }, Some(&same))
    };
    let endless = |request: &Request| listing(&[], Some(&format!("p/{}", request.before)));
    let twice = move |_: &Request| listing(&[(&key, "v1"), (&key, "v1")], None);
    let outside = |_: &Request| listing(&[("q/x", "v1")], None);
    let no_marker = |_: &Request| listing(&[], Some(""));
    type Served = Box<dyn Fn(&Request) -> Answer + Send + Sync>;
    let wrong: [(&str, Served); 5] = [
        ("does not go on", Box::new(circle)),
        ("does not go on", Box::new(endless)),
        ("listed twice", Box::new(twice)),
        ("lies elsewhere", Box::new(outside)),
        ("does not go on", Box::new(no_marker)),
    ];
    for (words, answer) in wrong {
        let (address, asked) = serve(answer);
        let refused = open(&address).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(asked.lock().unwrap().len() < 110);
    }
}

#[test]
fn where_versions_or_all_keys_may_not_be_listed_it_is_said_what_could_not_be_seen() {
    for may_list in [true, false] {
        let data = content(SIZE);
        let (address, asked) = serve(move |request| match request {
            request if is_listing(request) || request.target.contains("list-type") && !may_list => {
                Answer::error("403 Forbidden", "AccessDenied", "no")
            }
            request if request.target.contains("list-type") => {
                let body = format!(
                    "<ListBucketResult><Name>evidence</Name><IsTruncated>false</IsTruncated><Contents><Key>p/{PATH}</Key>\
                     <ETag>{ETAG}</ETag><Size>{SIZE}</Size></Contents></ListBucketResult>"
                );
                Answer::new("200 OK", "Content-Type: application/xml\r\n", body.as_bytes())
            }
            request if request.target.contains("retention") => {
                Answer::error("403 Forbidden", "AccessDenied", "no")
            }
            request if request.target.starts_with("HEAD") => {
                let mut answer = Answer::new("200 OK", &format!("ETag: {ETAG}\r\n"), &data);
                answer.bytes.truncate(answer.bytes.len() - data.len());
                answer
            }
            request => Answer::range(request, &data),
        });
        let store = open(&address).unwrap();
        read(&store).unwrap();
        assert_eq!(store.listing().is_complete, may_list);
        let notes = store.notes().join("\n");
        assert!(
            notes.contains("versions could not be listed") && notes.contains("s3:ListBucketVersions"),
            "{notes}"
        );
        assert_eq!(notes.contains("s3:ListBucket on"), !may_list, "{notes}");
        assert_eq!(notes.contains("s3:GetObjectRetention is not allowed"), may_list, "{notes}");
        let denied = asked.lock().unwrap().iter().filter(|kind| kind.contains("versions")).count();
        assert_eq!(denied, 1, "what is denied is asked for once");
    }
}
