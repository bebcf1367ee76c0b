//! An image of a disk that lies as an object behind HTTPS: what `gcloud compute images export` leaves in a bucket, or a raw
//! image anywhere that gives ranges.
//!
//! - `disk.raw` in a gzip-compressed tar is unpacked while it comes; what the tar leaves out as holes is `absent`.
//! - Anything else is taken as the raw image that it is, and read by ranges; it can be taken up again after an interruption.
//! - The object is pinned by its ETag and, in Google's storage, its generation: one that changes stops the acquisition.
//! - The MD5 that Google's storage tells is compared where all bytes came in order: of a tar always, of a raw image unless its
//!   acquisition was taken up midway or a part could not be read (`md5_compared` in its facts says which). A single range has
//!   no checksum of its own over this interface: TLS alone guards it on the way.
//!
//! Reference: Cloud Storage XML API, Get Object. Tested only against moto and a small server of our own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use custody::bundle::{Source as SourceFacts, State};
use custody::strict_json::escape_text;
use serde_json::{Map, Value};
use ureq::Body;
use ureq::http::{Method, Response};

use super::address::SecretUrl;
use super::compared_object::ComparedObject;
use super::disk_in_tar::DiskInTar;
use super::exchange::{Exchange, body_of, header, patiently};
use super::read_ahead::{RangeService, RemoteDisk, Run};
use crate::aws::{Failure, FailureKind};
use crate::error::Error;
use crate::source::Source;

/// Bytes that one request asks for.
const MOST: u64 = 4 << 20;

/// The first bytes of what gzip has compressed.
const GZIP: [u8; 2] = [0x1F, 0x8B];

const GET: &str = "HTTP GET";

/// A token that lets whoever holds it read, as `gcloud auth print-access-token` prints it. It is never shown.
#[derive(Clone)]
pub struct Bearer(String);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Bearer {
    /// Takes a token; `None` if the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token = (1..=8192).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Self(format!("Bearer {text}")))
    }
}

/// An object, pinned to the state in which it was opened.
#[derive(Debug)]
pub struct ImageObject {
    url: SecretUrl,
    bearer: Option<Bearer>,
    exchange: Exchange,
    pinned: Pinned,
    requests: AtomicU64,
}

/// What tells that the object is still the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pinned {
    size: u64,
    etag: Option<String>,
    generation: Option<String>,
    last_modified: Option<String>,
}

impl Pinned {
    fn of(answer: &Response<Body>) -> Option<Self> {
        let range = header(answer, "content-range")?;
        let size = range.strip_prefix("bytes ")?.split_once('/')?.1.parse().ok()?;
        Some(Self {
            size,
            etag: header(answer, "etag"),
            generation: header(answer, "x-goog-generation"),
            last_modified: header(answer, "last-modified"),
        })
    }
}

impl ImageObject {
    /// Opens an object, and finds out what it is.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`]: it is not there, may not be read, or the server gives no ranges.
    pub fn open(url: SecretUrl, bearer: Option<Bearer>) -> Result<Box<dyn Source>, Error> {
        let exchange = Exchange::new(|_| String::new());
        let (pinned, requests) = (Pinned::default(), AtomicU64::default());
        let mut object = Self { url, bearer, exchange, pinned, requests };
        let (pinned, first, told) = patiently(0, || {
            let mut answer = object.ask(0, 1)?;
            let pinned = Pinned::of(&answer).ok_or_else(|| {
                Failure::found(GET, FailureKind::Invalid, "the server gives no ranges of the object")
            })?;
            let length = usize::from(pinned.size > 1) + 1;
            Ok((pinned, body_of(GET, &mut answer, length)?, told(&answer)))
        })?;
        object.pinned = pinned;
        let md5 = told.get("md5").and_then(Value::as_str).map(str::to_owned);
        let facts = object.facts(told);
        let disk = RemoteDisk::new(Arc::new(object), facts)?;
        match md5 {
            md5 if first == GZIP => Ok(Box::new(DiskInTar::open(disk, md5)?)),
            Some(md5) => Ok(Box::new(ComparedObject::new(disk, md5))),
            None => Ok(Box::new(disk)),
        }
    }

    fn facts(&self, mut more: Map<String, Value>) -> SourceFacts {
        more.insert("form".to_owned(), "image object".into());
        let Pinned { etag, generation, last_modified, .. } = self.pinned.clone();
        for (name, value) in [("etag", etag), ("generation", generation), ("last_modified", last_modified)] {
            if let Some(value) = value {
                more.insert(name.to_owned(), escape_text(value.as_bytes()).into());
            }
        }
        SourceFacts {
            kind: "disk".to_owned(),
            path: Some(escape_text(self.url.shown().as_bytes())),
            size: Some(self.pinned.size),
            more,
            ..SourceFacts::default()
        }
    }

    fn ask(&self, first: u64, last: u64) -> Result<Response<Body>, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let range = format!("bytes={first}-{last}");
        // What is stored compressed shall come as it is stored.
        let mut headers = vec![("Range", range.as_str()), ("Accept-Encoding", "gzip")];
        headers.extend(self.bearer.as_ref().map(|bearer| ("Authorization", bearer.0.as_str())));
        // A weak one never matches.
        let etag = self.pinned.etag.as_deref().filter(|etag| etag.starts_with('"'));
        headers.extend(etag.map(|etag| ("If-Match", etag)));
        let answer = self.exchange.once(GET, Method::GET, &self.url.with(&[]), &headers);
        answer.map_err(explained)
    }
}

fn explained(mut failure: Failure) -> Failure {
    let words = match failure.kind {
        FailureKind::Credentials => {
            "the token or signature is missing or not accepted any more; get a new one"
        }
        FailureKind::Denied => {
            "reading is not allowed: it takes storage.objects.get on the object, or a signature that still holds"
        }
        FailureKind::Exists => "the object was replaced since it was opened",
        FailureKind::NotFound => "there is no such object",
        _ => return failure,
    };
    failure.message = words.to_owned();
    failure
}

/// What the object's headers tell of it.
fn told(answer: &Response<Body>) -> Map<String, Value> {
    let mut told = Map::new();
    for given in answer.headers().get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok()) {
        for (name, value) in given.split(',').filter_map(|hash| hash.trim().split_once('=')) {
            if matches!(name, "md5" | "crc32c") {
                told.insert(name.to_owned(), escape_text(value.as_bytes()).into());
            }
        }
    }
    if let Some(server) = header(answer, "server") {
        told.insert("server".to_owned(), escape_text(server.as_bytes()).into());
    }
    told
}

impl RangeService for ImageObject {
    fn size(&self) -> u64 {
        self.pinned.size
    }

    fn most(&self) -> u64 {
        MOST
    }

    fn runs(&self, from: u64) -> Result<Vec<Run>, Failure> {
        Ok(vec![Run { start: from, end: self.pinned.size, state: State::Data }])
    }

    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let last = offset.saturating_add(length as u64).saturating_sub(1);
        let mut answer = self.ask(offset, last)?;
        let corrupt = || Failure::found(GET, FailureKind::Corrupt, "another range came than was asked for");
        let range = header(&answer, "content-range").ok_or_else(corrupt)?;
        if !range.starts_with(&format!("bytes {offset}-{last}/")) {
            return Err(corrupt());
        }
        if Pinned::of(&answer).is_none_or(|now| now != self.pinned) {
            return Err(explained(Failure::found(GET, FailureKind::Exists, "")));
        }
        body_of(GET, &mut answer, length)
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}
