//! Azure: a page blob, a snapshot of one, or a managed disk's snapshot, by a shared access signature (SAS).
//!
//! - Pages are listed by Get Page Ranges, a gibibyte at a time, markers followed. A page that the service does not list was
//!   never written or was cleared: it is `absent`, to the very page of 512 bytes, and reads as zeros.
//! - Ranges of at most 4 MiB are read with `x-ms-range-get-content-md5`, and each is checked against its Content-MD5.
//! - Every request but the first has `If-Match`: a blob that is written to while it is read stops the acquisition.
//! - Since an earlier snapshot (`prevsnapshot`), what did not change is `base`, what was cleared is `absent`.
//!
//! Reference: Azure Blob Storage REST API, version 2021-12-02: Get Blob, Get Blob Properties, Get Page Ranges. Tested only
//! against Azurite 3.35, which has no `prevsnapshot` and gives every list whole: those are tested against a small server of our own.

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::{Source as SourceFacts, State};
use custody::strict_json::escape_text;
use custody::{Clock, SystemClock};
use md5::{Digest as _, Md5};
use serde_json::{Map, Value};
use ureq::Body;
use ureq::http::{Method, Response};

use super::address::SecretUrl;
use super::exchange::{Exchange, body_of, header, patiently};
use super::page_list::{self, PAGE, PageRange};
use super::read_ahead::{RangeService, RemoteDisk, Run};
use crate::aws::{Failure, FailureKind};
use crate::error::Error;
use crate::source::Source;

/// The version of the service that is asked for.
const VERSION: (&str, &str) = ("x-ms-version", "2021-12-02");

/// The service gives no MD5 of a longer range.
const MOST: u64 = 4 << 20;

/// Bytes of the disk that one listing is about, so that a list never has more than two million ranges.
const WINDOW: u64 = 1 << 30;

/// Ranges on one page of a list.
const LISTED_AT_ONCE: &str = "10000";

/// Bytes that one page of a list may have.
const LONGEST_LIST: u64 = 256 << 20;

/// Pages of one list that may come without a range, one after the other.
const MOST_EMPTY_PAGES: u32 = 1000;

/// The last sector of a fixed VHD begins so, and is no part of the disk.
const VHD_FOOTER: &[u8] = b"conectix";

/// What identifies the state of a blob that is read.
#[derive(Debug)]
pub struct PageBlob {
    url: SecretUrl,
    exchange: Exchange,
    etag: String,
    size: u64,
    since: Option<String>,
    requests: AtomicU64,
}

impl PageBlob {
    /// Opens a blob, and finds out what it is. With `since`, only what has changed since that snapshot of the same blob is
    /// read (its time, as `2026-11-21T01:30:00.1234567Z`).
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`]: it is not there, is no page blob, or the signature does not allow reading it.
    pub fn open(url: SecretUrl, since: Option<&str>) -> Result<Box<dyn Source>, Error> {
        let exchange = Exchange::new(|answer| header(answer, "x-ms-error-code").unwrap_or_default());
        let (etag, since) = (String::new(), since.map(str::to_owned));
        let mut blob = Self { url, exchange, etag, size: 0, since, requests: AtomicU64::default() };
        let facts = patiently(0, || {
            blob.ask("GetBlobProperties", &Method::HEAD, &[], &[]).and_then(|answer| found(&answer))
        })?;
        (blob.etag, blob.size) = (facts.etag.clone(), facts.size);
        let mut told = blob.facts(facts.told);
        if blob.has_vhd_footer() {
            told.more.insert("vhd_footer".to_owned(), true.into());
        }
        Ok(Box::new(RemoteDisk::new(Arc::new(blob), told)?))
    }

    fn facts(&self, mut more: Map<String, Value>) -> SourceFacts {
        more.insert("form".to_owned(), "Azure page blob".into());
        more.insert("etag".to_owned(), escape_text(self.etag.as_bytes()).into());
        for (name, value) in [
            ("snapshot", self.url.parameter("snapshot")),
            ("version", self.url.parameter("versionid")),
            ("since_snapshot", self.since.clone()),
        ] {
            if let Some(value) = value {
                more.insert(name.to_owned(), escape_text(value.as_bytes()).into());
            }
        }
        SourceFacts {
            kind: "disk".to_owned(),
            path: Some(escape_text(self.url.shown().as_bytes())),
            size: Some(self.size),
            sector_size: Some(512),
            more,
            ..SourceFacts::default()
        }
    }

    /// Whether the last sector is the footer of a fixed VHD, as of every disk that Azure gives out.
    fn has_vhd_footer(&self) -> bool {
        let at = self.size.saturating_sub(PAGE);
        self.size > PAGE && self.fetch(at, VHD_FOOTER.len()).is_ok_and(|bytes| bytes == VHD_FOOTER)
    }

    fn ask(
        &self,
        operation: &str,
        method: &Method,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut all = vec![VERSION];
        if !self.etag.is_empty() {
            all.push(("If-Match", self.etag.as_str()));
        }
        all.extend_from_slice(headers);
        let operation = format!("Azure {operation}");
        let answer = self.exchange.once(&operation, method.clone(), &self.url.with(query), &all);
        answer.map_err(|failure| self.explained(failure))
    }

    /// The same failure with what it means for who holds the signature.
    fn explained(&self, mut failure: Failure) -> Failure {
        // Not every server says that this is why.
        let now = SystemClock.now().rfc3339();
        let has_ended = |end: String| {
            let seconds = end.len().min(19);
            end.is_ascii() && seconds >= 10 && end.get(..seconds) < now.get(..seconds)
        };
        if failure.kind == FailureKind::Denied && self.url.parameter("se").is_some_and(has_ended) {
            failure.kind = FailureKind::Credentials;
        }
        let words = match failure.kind {
            FailureKind::Credentials => match self.url.parameter("se") {
                Some(end) => format!(
                    "the SAS is not accepted: it holds until {end}, or its signature is wrong; get a new one for the same \
                     snapshot and go on with --resume",
                    end = end.chars().filter(|letter| letter.is_ascii_graphic()).take(40).collect::<String>()
                ),
                None => "the SAS is not accepted, or none is in the address".to_owned(),
            },
            FailureKind::Denied => {
                "the SAS does not allow it: it must have the permission r (read), for this blob, from this address"
                    .to_owned()
            }
            FailureKind::Exists => {
                "the blob was changed since it was opened: acquire a snapshot of it, which does not change".to_owned()
            }
            FailureKind::NotFound => "there is no such blob or snapshot".to_owned(),
            _ => return failure,
        };
        failure.message = words;
        failure
    }

    /// All ranges that the service lists about a window.
    fn list(&self, window: (u64, u64)) -> Result<Vec<PageRange>, Failure> {
        const LIST: &str = "GetPageRanges";
        let about = format!("bytes={}-{}", window.0, window.1.saturating_sub(1));
        let most = (window.1 - window.0) / PAGE;
        let refused = |why: &str| Failure::found("Azure GetPageRanges", FailureKind::Invalid, why);
        let (mut ranges, mut marker, mut empty): (Vec<PageRange>, Option<String>, u32) =
            (Vec::new(), None, 0);
        loop {
            let mut query = vec![("comp", "pagelist"), ("maxresults", LISTED_AT_ONCE)];
            query.extend(self.since.as_deref().map(|since| ("prevsnapshot", since)));
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let page = patiently(window.0, || {
                let answer = self.ask(LIST, &Method::GET, &query, &[("x-ms-range", &about)])?;
                let body = answer.into_body().into_reader().take(LONGEST_LIST);
                page_list::read(BufReader::new(body), most)
                    .map_err(|why| Failure::found("Azure GetPageRanges", FailureKind::Corrupt, why))
            })?;
            empty = if page.ranges.is_empty() { empty + 1 } else { 0 };
            ranges.extend(page.ranges);
            if ranges.len() as u64 > most || empty > MOST_EMPTY_PAGES {
                return Err(refused("the list of pages does not end"));
            }
            match page.next {
                None => break,
                next if next == marker => return Err(refused("the list of pages goes round in a circle")),
                next => marker = next,
            }
        }
        page_list::in_order(ranges, window).map_err(refused)
    }
}

/// What the first answer tells.
struct Found {
    etag: String,
    size: u64,
    told: Map<String, Value>,
}

fn found(answer: &Response<Body>) -> Result<Found, Failure> {
    let refused = |why: &str| Failure::found("Azure GetBlobProperties", FailureKind::Invalid, why);
    match header(answer, "x-ms-blob-type").as_deref() {
        Some("PageBlob") => {}
        Some(_) => {
            return Err(refused(
                "this is no page blob, so it has no list of pages; download it as an object",
            ));
        }
        None => return Err(refused("the server does not answer as Azure's blob storage does")),
    }
    let size = header(answer, "content-length").and_then(|size| size.parse::<u64>().ok());
    let size = size.filter(|size| size.is_multiple_of(PAGE) && *size <= 1 << 53);
    let size = size.ok_or_else(|| refused("the size of the blob is not told, or is none of a page blob"))?;
    let etag = header(answer, "etag").filter(|etag| !etag.is_empty());
    let etag = etag.ok_or_else(|| refused("the blob has no ETag, so a change could not be noticed"))?;
    let mut told = Map::new();
    for (name, of) in [
        ("last_modified", "last-modified"),
        ("created", "x-ms-creation-time"),
        ("sequence_number", "x-ms-blob-sequence-number"),
        ("content_md5", "content-md5"),
        ("server", "server"),
    ] {
        if let Some(value) = header(answer, of) {
            told.insert(name.to_owned(), escape_text(value.as_bytes()).into());
        }
    }
    Ok(Found { etag, size, told })
}

impl RangeService for PageBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn most(&self) -> u64 {
        MOST
    }

    fn runs(&self, from: u64) -> Result<Vec<Run>, Failure> {
        let window = (from / PAGE * PAGE, self.size.min((from / WINDOW + 1).saturating_mul(WINDOW)));
        let other = if self.since.is_some() { State::Base } else { State::Absent };
        let (mut runs, mut behind) = (Vec::new(), from);
        let mut add = |end: u64, state: State| {
            if end > behind {
                runs.push(Run { start: behind, end, state });
                behind = end;
            }
        };
        for range in self.list(window)? {
            add(range.start, other);
            add(range.end, if range.cleared { State::Absent } else { State::Data });
        }
        add(window.1, other);
        Ok(runs)
    }

    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        const GET: &str = "GetBlob";
        let last = offset.saturating_add(length as u64).saturating_sub(1);
        let range = format!("bytes={offset}-{last}");
        let headers = [("x-ms-range", range.as_str()), ("x-ms-range-get-content-md5", "true")];
        let mut answer = self.ask(GET, &Method::GET, &[], &headers)?;
        let corrupt = |why: &str| Failure::found("Azure GetBlob", FailureKind::Corrupt, why);
        let expected = format!("bytes {offset}-{last}/{}", self.size);
        if header(&answer, "content-range").is_some_and(|given| given != expected) {
            return Err(corrupt("another range came than was asked for"));
        }
        if header(&answer, "etag").is_some_and(|etag| etag != self.etag) {
            let changed = Failure::found("Azure GetBlob", FailureKind::Exists, "");
            return Err(self.explained(changed));
        }
        let md5 = header(&answer, "content-md5").and_then(|text| STANDARD.decode(text).ok());
        let bytes = body_of("Azure GetBlob", &mut answer, length)?;
        match md5 {
            Some(md5) if md5 == Md5::digest(&bytes).as_slice() => Ok(bytes),
            Some(_) => Err(corrupt("the bytes do not have the MD5 that came with them")),
            None => Err(corrupt("the bytes came without their MD5")),
        }
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}
