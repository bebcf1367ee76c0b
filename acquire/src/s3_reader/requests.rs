//! Single requests of the reader: what comes back is checked against what was asked for, and tried again where that helps.

use std::future::Future;
use std::io;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use tokio::time::{sleep, timeout};

use crate::aws::{Failure, FailureKind};
use crate::blocks::pause;

/// A request is tried so often, with longer and longer pauses, before its failure is told.
const MOST_TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A server that sends no byte of an answer for this time has forgotten us.
const STALL: Duration = Duration::from_secs(20);
/// One answer takes no longer: 4 MiB on a line of 20 kB/s.
const WHOLE_ANSWER: Duration = Duration::from_secs(200);

/// One version of one object, as it was when the store was opened. Bytes are only ever taken from this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Numbers the objects of one reader.
    pub(super) id: u32,
    pub(super) size: u64,
    /// Empty where the server gave none.
    pub(super) etag: String,
    /// `None` where the bucket keeps no versions.
    pub(super) version: Option<String>,
}

/// What protects a version from being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lock {
    /// Until then nobody deletes it, or in governance mode nobody without a special permission.
    Until { mode: String, time: String },
    /// A legal hold alone, which has no end.
    Hold,
    /// None is shown.
    None,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) bucket: String,
    /// Empty, or ends in `/`.
    pub(super) prefix: String,
}

impl Client {
    /// Reads `length` bytes of an object, all of them or none.
    pub(super) async fn range(
        &self,
        path: &str,
        object: &Object,
        start: u64,
        length: u64,
    ) -> Result<(Vec<u8>, Lock), Failure> {
        const OPERATION: &str = "S3 GetObject";
        let last = start.saturating_add(length).saturating_sub(1);
        let mut request = self.s3.get_object().bucket(&self.bucket).key(self.key(path));
        request = request.range(format!("bytes={start}-{last}")).set_version_id(object.version.clone());
        if !object.etag.is_empty() {
            request = request.if_match(&object.etag);
        }
        let answer = request.send().await.map_err(|error| {
            let mut failure = Failure::of(OPERATION, &error);
            if failure.kind == FailureKind::Exists {
                failure.kind = FailureKind::Invalid;
                failure.message = "it is no longer the object that was listed: it was replaced".to_owned();
            }
            self.explain(failure, path)
        })?;
        let corrupt = |words: String| Failure::found(OPERATION, FailureKind::Corrupt, words);
        is_what_was_asked(&answer, object, start, length)
            .map_err(|words| corrupt(format!("{path}: {words}")))?;
        let lock = lock_of(&answer);
        let body = timeout(WHOLE_ANSWER, body(answer, length));
        let bytes = body.await.unwrap_or_else(|_| Err("it took too long".to_owned()));
        Ok((bytes.map_err(|words| corrupt(format!("{path}: {words}")))?, lock))
    }

    /// The object that a key names now, where the store could not be listed.
    pub(super) async fn head(&self, path: &str, id: u32) -> Result<Object, Failure> {
        const OPERATION: &str = "S3 HeadObject";
        let request = self.s3.head_object().bucket(&self.bucket).key(self.key(path));
        let answer =
            request.send().await.map_err(|error| self.explain(Failure::of(OPERATION, &error), path))?;
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
        let no_size = || Failure::found(OPERATION, FailureKind::Corrupt, format!("{path}: no size is told"));
        let size = size.ok_or_else(no_size)?;
        let version = answer.version_id().filter(|version| *version != "null").map(str::to_owned);
        Ok(Object { id, size, etag: answer.e_tag().unwrap_or_default().to_owned(), version })
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Adds to a failure which object it was about, and which permission is missing where one is.
    pub(super) fn explain(&self, mut failure: Failure, path: &str) -> Failure {
        let key = self.key(path);
        let on = format!("s3://{}/{key}", self.bucket);
        failure.message = if failure.message.is_empty() { on } else { format!("{on}: {}", failure.message) };
        if failure.kind == FailureKind::Denied {
            let action = match failure.operation.as_str() {
                "S3 ListObjectVersions" => "s3:ListBucketVersions on the bucket",
                "S3 ListObjectsV2" => "s3:ListBucket on the bucket",
                // S3 names the key's permission in its message, if it is that which is missing.
                _ if failure.message.to_lowercase().contains("kms") => {
                    "kms:Decrypt on the key that the bucket is encrypted with"
                }
                _ => {
                    "s3:GetObject and s3:GetObjectVersion on its objects, and kms:Decrypt on the key if a key of KMS \
                     encrypts them"
                }
            };
            failure.message.push_str(&format!("; the reader's role must allow {action}"));
        }
        failure
    }
}

/// Tries again what is worth it, after pauses that grow and are never the same for two readers.
pub(super) async fn tried<T, F>(mut act: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut tries = 1;
    loop {
        match act().await {
            Err(failure) if failure.kind.is_worth_another_try() && tries < MOST_TRIES => {
                sleep(pause(FIRST_PAUSE, LONGEST_PAUSE, tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}

/// The failure as the error of a store.
pub(super) fn io_error(failure: Failure) -> io::Error {
    let kind = match failure.kind {
        FailureKind::NotFound => io::ErrorKind::NotFound,
        FailureKind::Denied | FailureKind::Credentials => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, failure)
}

/// A moment as `2026-11-21T14:00:00Z`.
pub(super) fn moment(time: Option<&DateTime>) -> String {
    time.and_then(|time| time.fmt(Format::DateTime).ok()).unwrap_or_else(|| "a time not told".to_owned())
}

/// Compares what an answer says of itself with the version and range that were asked for.
fn is_what_was_asked(
    answer: &GetObjectOutput,
    object: &Object,
    start: u64,
    length: u64,
) -> Result<(), String> {
    if let Some(etag) = answer.e_tag()
        && !object.etag.is_empty()
        && etag != object.etag
    {
        return Err(format!("the server sent another object, ETag {}", shown(etag)));
    }
    if let (Some(sent), Some(asked)) = (answer.version_id(), &object.version)
        && sent != asked
    {
        return Err(format!("the server sent another version, {}", shown(sent)));
    }
    let expected =
        format!("bytes {start}-{}/{}", start.saturating_add(length).saturating_sub(1), object.size);
    match answer.content_range() {
        Some(range) if range == expected => {}
        Some(range) => return Err(format!("the server sent {}, and {expected} was asked for", shown(range))),
        None if start == 0 && length == object.size => {}
        None => return Err("the server sent the whole object where a part was asked for".to_owned()),
    }
    match answer.content_length() {
        Some(sent) if u64::try_from(sent).ok() != Some(length) => {
            Err(format!("the server announced {sent} bytes, and {length} were asked for"))
        }
        _ => Ok(()),
    }
}

/// The bytes of an answer; neither more nor fewer than asked for, and never waiting without end.
async fn body(answer: GetObjectOutput, length: u64) -> Result<Vec<u8>, String> {
    let most = usize::try_from(length).map_err(|_| "too long for this machine".to_owned())?;
    let mut body = answer.body;
    let mut bytes = Vec::with_capacity(most);
    loop {
        let piece = timeout(STALL, body.next()).await.map_err(|_| "the server stopped sending".to_owned())?;
        match piece {
            None if bytes.len() == most => return Ok(bytes),
            None => return Err(format!("the server sent {} bytes of {most}", bytes.len())),
            Some(Err(error)) => {
                return Err(format!("the connection broke after {} bytes: {error}", bytes.len()));
            }
            Some(Ok(piece)) if bytes.len().saturating_add(piece.len()) > most => {
                return Err(format!("the server sent more than the {most} bytes asked for"));
            }
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
        }
    }
}

fn lock_of(answer: &GetObjectOutput) -> Lock {
    let held = answer.object_lock_legal_hold_status().is_some_and(|status| status.as_str() == "ON");
    match (answer.object_lock_mode(), answer.object_lock_retain_until_date()) {
        (Some(mode), time @ Some(_)) => Lock::Until { mode: shown(mode.as_str()), time: moment(time) },
        _ if held => Lock::Hold,
        _ => Lock::None,
    }
}

/// What a server said, short and on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
