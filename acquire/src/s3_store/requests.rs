//! The few requests of a writer, each tried until it is answered, refused for good, or out of patience.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime, SdkBody};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use custody::bundle::{RemotePlace, Retention, RetentionMode};
use custody::{Clock, SystemClock, sha256};
use md5::{Digest as _, Md5};

use super::checksums::{PartSums, composite, hex};
use super::denied;
use super::grant::{Grant, PART};
use super::granted::GrantedWay;
use super::uploads::Part;
use crate::aws::{Connection, Failure, FailureKind};
use crate::blocks::pause;

/// No upload id or ETag that is longer is believed.
const LONGEST_TEXT: usize = 1024;

/// How much is asked of the line to a store, and how long it is waited for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Pace {
    /// Bytes of every part but the last. S3 takes 5 MiB at least, and 10,000 parts at most.
    pub part_size: usize,
    /// Parts that are on their way at a time; so many are held in memory, and one more for each file.
    pub in_flight: usize,
    /// Attempts of one request.
    pub tries: u32,
    /// The first pause between two attempts; each is twice as long as the one before.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// One attempt to send a part takes no longer.
    pub part_time: Duration,
    /// One attempt of any other request takes no longer.
    pub request_time: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            part_size: 8 << 20,
            in_flight: 8,
            tries: 10,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
            part_time: Duration::from_secs(180),
            request_time: Duration::from_secs(30),
        }
    }
}

impl Pace {
    /// What a person at a shell waits for: a log's entry can be put later too.
    pub(super) fn brief() -> Self {
        Self { tries: 2, request_time: Duration::from_secs(10), ..Self::default() }
    }
}

/// What a request may have left undone or done twice.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    /// The last failure.
    pub(super) failure: Failure,
    /// Some attempt may have been carried out though its answer never came.
    pub(super) unsure: bool,
    /// The object has its name, and the store says that it holds other bytes than were sent.
    pub(super) differs: bool,
}

impl Failed {
    /// The store took what was sent, and says that it holds something else: another try would only find the name taken.
    fn differing(operation: &str, words: String) -> Self {
        let failure = Failure::found(operation, FailureKind::Invalid, words);
        Self { failure, unsure: false, differs: true }
    }
}

/// A multipart upload that the store has begun.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) id: String,
    /// Whether the store checks SHA-256 of every part.
    pub(super) checksummed: bool,
}

/// An object in the store, as a reader is told.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) size: u64,
    /// In base64, where the store keeps it; of an object that was put in parts, of the hashes of its parts.
    pub(super) sha256: Option<String>,
    /// In hexadecimal digits, where the ETag is one; likewise.
    pub(super) md5: Option<String>,
    /// Into how many parts it was cut, if it was.
    pub(super) parts: Option<u64>,
}

/// The requests of a writer at one place.
#[derive(Clone)]
pub(super) struct Requests {
    connection: Connection,
    pub(super) client: Client,
    /// Every request is signed already, and no other can be made.
    granted: Option<Arc<GrantedWay>>,
    pub(super) place: RemotePlace,
    pub(super) pace: Pace,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Requests {
    pub(super) fn new(connection: &Connection, place: RemotePlace, pace: Pace) -> Self {
        let config = aws_sdk_s3::config::Builder::from(connection.config())
            .force_path_style(connection.has_own_endpoint())
            // The checksums are ours; those that the SDK adds by itself are not understood by every server.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(20)).build(),
            )
            .timeout_config(times(pace.request_time));
        let client = Client::from_conf(config.build());
        Self { connection: connection.clone(), client, granted: None, place, pace }
    }

    /// The requests that a grant allows.
    pub(super) fn of_grant(connection: &Connection, grant: &Grant, pace: Pace) -> Self {
        let pace = Pace { part_size: PART, in_flight: pace.in_flight.min(4), ..pace };
        let granted = Some(Arc::new(GrantedWay::new(grant.clone(), pace)));
        Self { granted, ..Self::new(connection, grant.place().clone(), pace) }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits for an answer.
    pub(super) fn wait<F: Future>(&self, answer: F) -> F::Output {
        self.connection.wait(answer)
    }

    /// Puts an object that must not be there yet.
    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Failed> {
        let sha256 = BASE64.encode(sha256(&bytes).as_bytes());
        let md5 = BASE64.encode(Md5::digest(&bytes));
        let body = SdkBody::from(bytes);
        let own_server = self.connection.has_own_endpoint();
        if let Some(granted) = &self.granted {
            return self.tried(|| granted.put(key, &body, &md5)).await;
        }
        let operation = "S3 PutObject";
        let put = self.tried(|| async {
            let (mode, until) = retained(self.place.retention);
            let request = self
                .client
                .put_object()
                .bucket(&self.place.bucket)
                .key(key)
                .if_none_match("*")
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .checksum_sha256(&sha256)
                .set_content_md5(own_server.then(|| md5.clone()))
                .set_object_lock_mode(mode)
                .set_object_lock_retain_until_date(until)
                .body(stream_of(&body));
            let sent = if own_server {
                request.send().await
            } else {
                request.customize().disable_payload_signing().send().await
            };
            let answer = sent.map_err(|error| self.failure(operation, key, &error))?;
            Ok(answer.checksum_sha256)
        });
        let found = put.await?;
        match other_checksum(found.as_deref(), &sha256) {
            Some(words) => Err(Failed::differing(operation, words)),
            None => Ok(()),
        }
    }

    /// One attempt to begin an upload in parts. The caller notes each, since any may leave an upload behind.
    pub(super) async fn create_once(&self, key: &str) -> Result<Begun, Failure> {
        if let Some(granted) = &self.granted {
            return granted.begun(key);
        }
        let (mode, until) = retained(self.place.retention);
        let operation = "S3 CreateMultipartUpload";
        let answer = self
            .client
            .create_multipart_upload()
            .bucket(&self.place.bucket)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until)
            .send()
            .await
            .map_err(|error| self.failure(operation, key, &error))?;
        let checksummed = is_checksummed(&answer);
        let id = answer.upload_id.filter(|id| is_text(id));
        let id =
            id.ok_or_else(|| Failure::found(operation, FailureKind::Corrupt, "the answer names no upload"))?;
        Ok(Begun { id, checksummed })
    }

    /// Begins an upload for a grant: its parts have no checksum of their own, for that would have to be signed before they are known.
    pub(super) async fn create_unchecked(&self, key: &str) -> Result<String, Failed> {
        let operation = "S3 CreateMultipartUpload";
        self.tried(|| async {
            let (mode, until) = retained(self.place.retention);
            let answer = self
                .client
                .create_multipart_upload()
                .bucket(&self.place.bucket)
                .key(key)
                .set_object_lock_mode(mode)
                .set_object_lock_retain_until_date(until)
                .send()
                .await
                .map_err(|error| self.failure(operation, key, &error))?;
            let id = answer.upload_id.filter(|id| is_text(id));
            id.ok_or_else(|| Failure::found(operation, FailureKind::Corrupt, "the answer names no upload"))
        })
        .await
    }

    /// What a host with a grant may not do at all.
    fn not_granted(&self, operation: &str) -> Result<(), Failure> {
        match &self.granted {
            Some(_) => Err(Failure::found(
                operation,
                FailureKind::Denied,
                "the grant does not allow it; its issuer can",
            )),
            None => Ok(()),
        }
    }

    /// Sends one part, and gives its ETag.
    pub(super) async fn part(
        &self,
        key: &str,
        upload: &Begun,
        number: i32,
        body: &SdkBody,
        sums: &PartSums,
    ) -> Result<String, Failed> {
        let operation = "S3 UploadPart";
        let own_server = self.connection.has_own_endpoint();
        let length = body.bytes().map_or(0, <[u8]>::len);
        if let Some(granted) = &self.granted {
            return self.tried(|| granted.part(key, number, body)).await;
        }
        self.tried(|| async {
            let request = self
                .client
                .upload_part()
                .bucket(&self.place.bucket)
                .key(key)
                .upload_id(&upload.id)
                .part_number(number)
                .content_length(i64::try_from(length).unwrap_or(0))
                .set_checksum_sha256(upload.checksummed.then(|| sums.sha256_base64.clone()))
                .set_content_md5(sums.md5.as_ref().map(|md5| BASE64.encode(md5)))
                .body(stream_of(body))
                .customize()
                .config_override(Builder::new().timeout_config(times(self.pace.part_time)));
            let sent = if own_server {
                request.send().await
            } else {
                request.disable_payload_signing().send().await
            };
            let answer = sent.map_err(|error| self.failure(operation, key, &error))?;
            let corrupt = |words: &str| Failure::found(operation, FailureKind::Corrupt, words);
            // A part has no name yet: another try replaces it.
            if let Some(words) = other_checksum(answer.checksum_sha256(), &sums.sha256_base64) {
                return Err(corrupt(&words));
            }
            let etag =
                answer.e_tag.filter(|etag| is_text(etag)).ok_or_else(|| corrupt("the answer has no ETag"))?;
            // With keys of a KMS an ETag is no hash of anything.
            let by_kms = answer.server_side_encryption.as_ref().is_some_and(|kind| kind.as_str() != "AES256");
            let is_hash = !by_kms && etag.trim_matches('"').len() == 32;
            if let Some(md5) = sums.md5.filter(|_| is_hash)
                && !etag.trim_matches('"').eq_ignore_ascii_case(&hex(&md5))
            {
                return Err(corrupt("the ETag is not the MD5 of the part that was sent"));
            }
            Ok(etag)
        })
        .await
    }

    /// Makes one object of the parts of an upload, if there is none of its key yet.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &Begun,
        parts: &[(i32, Part)],
    ) -> Result<(), Failed> {
        let operation = "S3 CompleteMultipartUpload";
        if let Some(granted) = &self.granted {
            return self.tried(|| granted.complete(key, parts)).await;
        }
        let list = parts
            .iter()
            .map(|(number, part)| {
                CompletedPart::builder()
                    .part_number(*number)
                    .e_tag(&part.etag)
                    .set_checksum_sha256(upload.checksummed.then(|| BASE64.encode(part.sha256.as_bytes())))
                    .build()
            })
            .collect();
        let list = CompletedMultipartUpload::builder().set_parts(Some(list)).build();
        let completed = self.tried(|| async {
            let answer = self
                .client
                .complete_multipart_upload()
                .bucket(&self.place.bucket)
                .key(key)
                .upload_id(&upload.id)
                .if_none_match("*")
                .multipart_upload(list.clone())
                .send()
                .await
                .map_err(|error| self.failure(operation, key, &error))?;
            Ok(answer.checksum_sha256)
        });
        let found = completed.await?.filter(|_| upload.checksummed);
        match other_checksum(found.as_deref(), &composite(parts)) {
            Some(words) => Err(Failed::differing(operation, words)),
            None => Ok(()),
        }
    }

    /// Retains an object that was put in parts: there are servers (Ceph 16) that leave the retention out which its upload was
    /// begun with. AWS does not, so it is not asked.
    pub(super) async fn retain(&self, key: &str) -> Result<(), Failure> {
        let Some(Retention { mode, .. }) = self.place.retention else { return Ok(()) };
        if self.granted.is_some() || !self.connection.has_own_endpoint() {
            return Ok(());
        }
        let mode = match mode {
            RetentionMode::Compliance => ObjectLockRetentionMode::Compliance,
            RetentionMode::Governance => ObjectLockRetentionMode::Governance,
        };
        let sent = self
            .tried(|| async {
                let (_, until) = retained(self.place.retention);
                let retention =
                    ObjectLockRetention::builder().mode(mode.clone()).set_retain_until_date(until);
                let request = self.client.put_object_retention().bucket(&self.place.bucket).key(key);
                let sent = request.retention(retention.build()).send().await;
                sent.map_err(|error| self.failure("S3 PutObjectRetention", key, &error)).map(|_| ())
            })
            .await;
        sent.map_err(|failed| failed.failure)
    }

    /// Gives an upload up, so that its parts are freed. Says whether there was one: one that is no more there is as good.
    pub(super) async fn abort(&self, key: &str, id: &str) -> Result<bool, Failure> {
        self.not_granted("S3 AbortMultipartUpload")?;
        let sent = self
            .tried(|| async {
                let request = self.client.abort_multipart_upload().bucket(&self.place.bucket).key(key);
                let sent = request.upload_id(id).send().await;
                sent.map_err(|error| self.failure("S3 AbortMultipartUpload", key, &error)).map(|_| ())
            })
            .await;
        match sent {
            Ok(()) => Ok(true),
            Err(Failed { failure, .. }) if failure.kind == FailureKind::NotFound => Ok(false),
            Err(failed) => Err(failed.failure),
        }
    }

    /// The uploads of one key that were begun and not ended, where that may be asked.
    pub(super) async fn uploads_of(&self, key: &str) -> Result<Vec<String>, Failure> {
        let found = self.uploads_below(key).await?;
        Ok(found.into_iter().filter(|(of, _)| of == key).map(|(_, id)| id).collect())
    }

    /// The uploads of keys that begin so, begun and not ended: key and id.
    pub(super) async fn uploads_below(&self, prefix: &str) -> Result<Vec<(String, String)>, Failure> {
        const MOST_PAGES: usize = 100;
        let operation = "S3 ListMultipartUploads";
        self.not_granted(operation)?;
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        for _ in 0..MOST_PAGES {
            let (key_marker, id_marker) = after.clone().unzip();
            let page = self
                .tried(|| async {
                    let request =
                        self.client.list_multipart_uploads().bucket(&self.place.bucket).prefix(prefix);
                    let sent = request
                        .set_key_marker(key_marker.clone())
                        .set_upload_id_marker(id_marker.clone())
                        .send()
                        .await;
                    sent.map_err(|error| self.failure(operation, prefix, &error))
                })
                .await
                .map_err(|failed| failed.failure)?;
            // A server that leaves the prefix out of account must not have us touch what belongs to others.
            let both = page.uploads().iter().filter_map(|upload| upload.key().zip(upload.upload_id()));
            found.extend(
                both.filter(|(key, id)| key.starts_with(prefix) && is_text(id))
                    .map(|(key, id)| (key.to_owned(), id.to_owned())),
            );
            let next = page.next_key_marker().zip(page.next_upload_id_marker());
            match next.map(|(key, id)| (key.to_owned(), id.to_owned())) {
                Some(next) if page.is_truncated() == Some(true) && after.as_ref() != Some(&next) => {
                    after = Some(next);
                }
                _ => return Ok(found),
            }
        }
        Err(Failure::found(operation, FailureKind::Corrupt, "the list has no end"))
    }

    /// What the store tells of an object, where that may be asked.
    pub(super) async fn head(&self, key: &str) -> Result<Known, Failure> {
        self.not_granted("S3 HeadObject")?;
        let sent = self
            .tried(|| async {
                let request = self.client.head_object().bucket(&self.place.bucket).key(key);
                let sent = request.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled).send().await;
                sent.map_err(|error| self.failure("S3 HeadObject", key, &error))
            })
            .await
            .map_err(|failed| failed.failure)?;
        let cut_off = |sum: &str| {
            sum.split_once('-')
                .map_or((sum.to_owned(), None), |(sum, count)| (sum.to_owned(), count.parse::<u64>().ok()))
        };
        let sha256 = sent.checksum_sha256().filter(|sum| is_text(sum)).map(cut_off);
        let etag = sent.e_tag().map(|etag| cut_off(etag.trim_matches('"')));
        let parts = etag.as_ref().and_then(|etag| etag.1).or(sha256.as_ref().and_then(|sum| sum.1));
        // With keys of a KMS an ETag is no hash of anything.
        let by_kms = sent.server_side_encryption().is_some_and(|kind| kind.as_str() != "AES256");
        let md5 = etag.map(|etag| etag.0).filter(|md5| !by_kms && md5.len() == 32);
        let size = sent.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
        Ok(Known { size, sha256: sha256.map(|sum| sum.0), md5, parts })
    }

    /// Tries until there is an answer; what is refused is not tried again.
    pub(super) async fn tried<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failed> {
        let mut unsure = false;
        for tries in 1.. {
            match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    let again = failure.kind.is_worth_another_try() && tries < self.pace.tries;
                    unsure |= may_be_done(&failure);
                    if !again {
                        return Err(Failed { failure, unsure, differs: false });
                    }
                    self.pause(tries).await;
                }
            }
        }
        // The loop ends by one of its returns.
        let failure = Failure::found("S3", FailureKind::Invalid, "was not tried");
        Err(Failed { failure, unsure, differs: false })
    }

    /// Waits before the next attempt.
    pub(super) async fn pause(&self, tries: u32) {
        tokio::time::sleep(pause(self.pace.first_pause, self.pace.longest_pause, tries)).await;
    }

    pub(super) fn failure<E>(&self, operation: &str, key: &str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut failure = Failure::of(operation, error);
        if failure.kind == FailureKind::Denied {
            let words = denied::permission(&failure, &self.place, key);
            failure.message =
                [failure.message.as_str(), &words].join(if failure.message.is_empty() { "" } else { "; " });
        }
        failure
    }
}

/// A body that can be sent again without copying it.
fn stream_of(body: &SdkBody) -> ByteStream {
    ByteStream::new(body.try_clone().unwrap_or_else(SdkBody::taken))
}

/// What the store says, in words, if it holds another SHA-256 than was sent.
fn other_checksum(found: Option<&str>, sent: &str) -> Option<String> {
    let found = found.filter(|found| *found != sent)?;
    Some(format!("the store has SHA-256 {} and {sent} was sent", cut(found)))
}

/// Whether a request that failed so may have been carried out all the same: no answer came, or a 5xx.
pub(super) fn may_be_done(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::Connection | FailureKind::Server | FailureKind::Corrupt => true,
        // A bare 503 counts as throttling too, but does not say that nothing was done.
        FailureKind::Throttled => {
            FailureKind::of(&failure.code, &failure.reason, 0) != FailureKind::Throttled
        }
        _ => false,
    }
}

fn is_checksummed(answer: &CreateMultipartUploadOutput) -> bool {
    answer.checksum_algorithm() == Some(&ChecksumAlgorithm::Sha256)
}

/// Whether a text from a server can stand in a request and in the journal.
pub(super) fn is_text(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_TEXT
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn times(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        // Counted from the first byte that is sent, so it must hold for a whole part.
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}

/// How an object is retained that is put now.
fn retained(retention: Option<Retention>) -> (Option<ObjectLockMode>, Option<DateTime>) {
    let Some(Retention { days, mode }) = retention else { return (None, None) };
    let mode = match mode {
        RetentionMode::Compliance => ObjectLockMode::Compliance,
        RetentionMode::Governance => ObjectLockMode::Governance,
    };
    let now = SystemClock.now().wall_ns / 1_000_000_000;
    (Some(mode), Some(DateTime::from_secs(now.saturating_add(i64::from(days) * 86_400))))
}
