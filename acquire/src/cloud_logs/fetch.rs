//! Reads objects in parts: several on their way at a time, memory bounded, each pinned to what the list said of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use super::integrity::{self, Headers};
use super::listing::Listed;
use super::tries::patiently;
use crate::aws::{Failure, FailureKind};

/// Bytes of one request. Memory is bounded by so many times the requests in flight.
pub(super) const PART: u64 = 4 << 20;

/// A part that does not come in this time does not come.
const PART_TIME: Duration = Duration::from_secs(120);

/// Times that an object may change under our hands before we give it up.
const MOST_CHANGES: u32 = 3;

/// Times that an object is read whose bytes are not what its checksum says.
const MOST_DIFFERENT: u32 = 3;

const GET: &str = "S3 GetObject";

/// What an object was when its first part was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct First {
    /// Its first bytes: all of them if it is no longer than [`PART`].
    pub(super) bytes: Vec<u8>,
    /// Its size.
    pub(super) size: u64,
    pub(super) headers: Headers,
    /// What was noticed on the way.
    pub(super) notes: Vec<String>,
}

/// Where objects are read from.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    client: Client,
    name: Arc<str>,
}

/// Asks for checksums without having the SDK compare them (what does not match is evidence too), and keeps the headers.
#[derive(Debug, Default, Clone)]
struct Notes(Arc<Mutex<Headers>>);

impl Intercept for Notes {
    fn name(&self) -> &'static str {
        "Notes"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Ok(mut headers) = self.0.lock() {
            *headers = Headers::of(context.response().headers().iter());
        }
        Ok(())
    }
}

/// One part of one state of an object.
#[derive(Debug, Clone)]
struct Part<'k> {
    key: &'k str,
    etag: Option<&'k str>,
    version: Option<&'k str>,
    /// First byte and length; `None` for the whole.
    range: Option<(u64, u64)>,
    /// Bytes that it must have.
    length: u64,
}

impl Bucket {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn new(client: &Client, name: &str) -> Self {
        let config = client.config().to_builder();
        let config =
            config.response_checksum_validation(aws_sdk_s3::config::ResponseChecksumValidation::WhenRequired);
        Self { client: Client::from_conf(config.build()), name: name.into() }
    }

    /// Lists one object: how many there are, 0 or 1, and the region that the bucket is said to lie in.
    pub(super) async fn peek(&self, prefix: &str) -> (Result<usize, Failure>, Option<String>) {
        let notes = Notes::default();
        let answer = patiently(|| async {
            let list = self.client.list_objects_v2().bucket(&*self.name).prefix(prefix).max_keys(1);
            let list = list.customize().interceptor(notes.clone());
            let answer = list.send().await.map_err(|error| Failure::of("S3 ListObjectsV2", &error))?;
            Ok(answer.contents().len())
        })
        .await;
        let region =
            notes.0.lock().ok().and_then(|headers| headers.get("x-amz-bucket-region").map(str::to_owned));
        let is_region = |name: &String| {
            name.len() <= 32
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        (answer, region.filter(is_region))
    }

    /// Reads an object as the list told it, or as it is now, if it has changed since.
    pub(super) async fn first(&self, listed: &Listed) -> Result<First, Failure> {
        let (mut size, mut etag) = (listed.size, listed.etag.clone());
        let mut notes = Vec::new();
        for _ in 0..MOST_CHANGES {
            let key = listed.key.as_str();
            let range = (size > PART).then_some((0, PART));
            let part = Part { key, etag: etag.as_deref(), version: None, range, length: size.min(PART) };
            match patiently(|| self.whole_or_first(&part, size)).await {
                Ok(mut first) => {
                    if range.is_some() {
                        first.headers.add(self.head(key).await.unwrap_or_default().checksums());
                    }
                    first.notes.splice(..0, notes);
                    return Ok(first);
                }
                Err(failure) if failure.kind == FailureKind::Exists => {
                    let now = self.head(key).await?;
                    let length = now.get("content-length").and_then(|length| length.parse().ok());
                    let new = now.get("etag").map(str::to_owned);
                    let told = |etag: &Option<String>| etag.clone().unwrap_or_else(|| "none".to_owned());
                    notes.push(format!(
                        "changed between listing and reading: its ETag was {}, and is {} now; what was read is the later one",
                        told(&etag),
                        told(&new)
                    ));
                    size =
                        length.ok_or_else(|| Failure::found(GET, FailureKind::Corrupt, "no size is told"))?;
                    etag = new;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::found(GET, FailureKind::Corrupt, "the object changes faster than it can be read"))
    }

    /// Reads a further part of an object whose first one was read.
    pub(super) async fn part(
        &self,
        key: &str,
        etag: Option<&str>,
        version: Option<&str>,
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, Failure> {
        let part = Part { key, etag, version, range: Some((from, length)), length };
        Ok(patiently(|| self.get(&part)).await?.0)
    }

    async fn whole_or_first(&self, part: &Part<'_>, size: u64) -> Result<First, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (bytes, headers) = self.get(part).await?;
            let notes = match part.range {
                Some(_) => Vec::new(),
                None => integrity::differences(&headers, &bytes),
            };
            // It may have been damaged on the line; if it comes so again, it is so.
            if notes.is_empty() || tries >= MOST_DIFFERENT {
                return Ok(First { bytes, size, headers, notes });
            }
        }
    }

    async fn get(&self, part: &Part<'_>) -> Result<(Vec<u8>, Headers), Failure> {
        let corrupt = |what: String| Failure::found(GET, FailureKind::Corrupt, what);
        let notes = Notes::default();
        let range = part
            .range
            .map(|(from, length)| format!("bytes={from}-{}", from.saturating_add(length).saturating_sub(1)));
        let sent = self
            .client
            .get_object()
            .bucket(&*self.name)
            .key(part.key)
            .set_if_match(part.etag.map(str::to_owned))
            .set_version_id(part.version.map(str::to_owned))
            .set_range(range)
            .customize()
            .interceptor(notes.clone())
            .send();
        let answer = sent.await.map_err(|error| Failure::of(GET, &error))?;
        let headers = notes.0.lock().map(|headers| headers.clone()).unwrap_or_default();
        if let (Some(expected), Some(found)) = (part.etag, answer.e_tag())
            && expected != found
        {
            return Err(Failure::found(
                GET,
                FailureKind::Exists,
                "the server gave another state of the object",
            ));
        }
        if let Some((from, length)) = part.range {
            let expected = format!("bytes {from}-{}/", from.saturating_add(length).saturating_sub(1));
            let given = answer.content_range().unwrap_or("the whole");
            if !given.starts_with(&expected) {
                return Err(corrupt(format!("{expected} was asked for, and {given} came")));
            }
        }
        let length = usize::try_from(part.length).map_err(|_| corrupt("too long".to_owned()))?;
        let mut bytes = Vec::with_capacity(length.min(PART as usize));
        let mut body = answer.body;
        let read = async {
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|error| {
                    Failure::found(GET, FailureKind::Connection, format!("the answer was cut: {error}"))
                })?;
                if bytes.len().saturating_add(piece.len()) > length {
                    return Err(corrupt(format!("more than the {length} bytes that were announced came")));
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(())
        };
        tokio::time::timeout(PART_TIME, read).await.map_err(|_| {
            Failure::found(GET, FailureKind::Connection, "the answer did not come to its end in time")
        })??;
        if bytes.len() != length {
            return Err(corrupt(format!("{} bytes came of {length} that were announced", bytes.len())));
        }
        Ok((bytes, headers))
    }

    /// What the service tells of an object as it is now.
    async fn head(&self, key: &str) -> Result<Headers, Failure> {
        patiently(|| async {
            let notes = Notes::default();
            let sent = self
                .client
                .head_object()
                .bucket(&*self.name)
                .key(key)
                .customize()
                .interceptor(notes.clone())
                .send();
            sent.await.map_err(|error| Failure::of("S3 HeadObject", &error))?;
            Ok(notes.0.lock().map(|headers| headers.clone()).unwrap_or_default())
        })
        .await
    }
}
