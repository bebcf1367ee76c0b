//! The requests of a host that has a grant and nothing else: every address is signed already.

use std::fmt;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use custody::bundle::RemotePlace;
use md5::{Digest as _, Md5};
use tokio::time::timeout;

use super::grant::{Act, Grant};
use super::requests::{Begun, Pace, is_text};
use super::uploads::Part;
use crate::aws::{Failure, FailureKind};

/// No answer to a writer is longer.
const MOST_ANSWER: usize = 1 << 20;

/// A grant, and the way to the store.
pub(super) struct GrantedWay {
    grant: Grant,
    connector: SharedHttpConnector,
    pace: Pace,
}

impl fmt::Debug for GrantedWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedWay").field("grant", &self.grant).finish_non_exhaustive()
    }
}

struct Answer {
    etag: Option<String>,
    is_hash: bool,
    body: Vec<u8>,
}

impl GrantedWay {
    pub(super) fn new(grant: Grant, pace: Pace) -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(pace.part_time)
            .build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build();
        Self { grant, connector: SharedHttpConnector::new(connector), pace }
    }

    /// Puts an object that must not be there yet.
    pub(super) async fn put(&self, key: &str, body: &SdkBody, md5: &str) -> Result<(), Failure> {
        let operation = "S3 PutObject";
        let mut headers: Vec<(String, String)> =
            self.grant.file.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.push(("content-md5".to_owned(), md5.to_owned()));
        self.send(operation, "PUT", key, Act::Once, headers, body, self.pace.part_time).await.map(|_| ())
    }

    /// The upload that was begun for an object.
    pub(super) fn begun(&self, key: &str) -> Result<Begun, Failure> {
        let upload = self.path(key).and_then(|path| self.grant.file.uploads.get(path));
        let upload = upload.ok_or_else(|| self.too_small("S3 CreateMultipartUpload", key))?;
        Ok(Begun { id: upload.id.clone(), checksummed: false })
    }

    /// Sends one part, and gives its ETag.
    pub(super) async fn part(&self, key: &str, number: i32, body: &SdkBody) -> Result<String, Failure> {
        let operation = "S3 UploadPart";
        let md5: [u8; 16] = Md5::digest(body.bytes().unwrap_or_default()).into();
        let headers = vec![("content-md5".to_owned(), BASE64.encode(md5))];
        let time = self.pace.part_time;
        let answer = self.send(operation, "PUT", key, Act::Part(number), headers, body, time).await?;
        let corrupt = |words| Failure::found(operation, FailureKind::Corrupt, words);
        let etag =
            answer.etag.filter(|etag| is_text(etag)).ok_or_else(|| corrupt("the answer has no ETag"))?;
        let ours: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = etag.trim_matches('"');
        if answer.is_hash && found.len() == 32 && !found.eq_ignore_ascii_case(&ours) {
            return Err(corrupt("the ETag is not the MD5 of the part that was sent"));
        }
        Ok(etag)
    }

    /// Makes one object of the parts of its upload, if there is none of its key yet.
    pub(super) async fn complete(&self, key: &str, parts: &[(i32, Part)]) -> Result<(), Failure> {
        let operation = "S3 CompleteMultipartUpload";
        let mut list =
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
        for (number, part) in parts {
            let etag = part.etag.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            list += &format!("<Part><ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>");
        }
        list += "</CompleteMultipartUpload>";
        let headers = vec![("if-none-match".to_owned(), "*".to_owned())];
        let (body, time) = (SdkBody::from(list), self.pace.request_time);
        let answer = self.send(operation, "POST", key, Act::Complete, headers, &body, time).await?;
        // An error may come after a status of 200 here.
        match code_in(&answer.body) {
            Some(code) => Err(Failure::answered(operation, &code, "", "", 500, None)),
            None => Ok(()),
        }
    }

    fn path<'k>(&self, key: &'k str) -> Option<&'k str> {
        self.grant.place().path_of(key)
    }

    fn place(&self) -> &RemotePlace {
        self.grant.place()
    }

    fn too_small(&self, operation: &str, key: &str) -> Failure {
        let words = format!(
            "the grant has no signature for s3://{}/{key}: it is too small for this acquisition, or was made for another \
             kind; {}. The issuer can make another with a larger --size",
            self.place().bucket,
            self.grant.limits()
        );
        Failure::found(operation, FailureKind::Quota, words)
    }

    #[allow(clippy::too_many_arguments, reason = "one request is all of this")]
    async fn send(
        &self,
        operation: &str,
        method: &str,
        key: &str,
        act: Act,
        headers: Vec<(String, String)>,
        body: &SdkBody,
        time: Duration,
    ) -> Result<Answer, Failure> {
        let failed = |kind, words: &str| Failure::found(operation, kind, words);
        // Whether the grant has ended is for the store to say: the clock of a host under suspicion may be wrong.
        let url = self.path(key).and_then(|path| self.grant.url(path, act));
        let url = url.ok_or_else(|| self.too_small(operation, key))?;
        let invalid = || failed(FailureKind::Invalid, "the request could not be put together");
        let mut request = HttpRequest::new(body.try_clone().ok_or_else(invalid)?);
        request.set_method(method).map_err(|_| invalid())?;
        request.set_uri(url).map_err(|_| invalid())?;
        let length = body.bytes().map_or(0, <[u8]>::len).to_string();
        for (name, value) in headers.into_iter().chain([("content-length".to_owned(), length)]) {
            request.headers_mut().try_insert(name, value).map_err(|_| invalid())?;
        }
        let exchange = async {
            // The words of the client are not used: they may repeat the address.
            let answer = self.connector.call(request).await.map_err(|_| {
                failed(FailureKind::Connection, "the store could not be reached, or did not answer")
            })?;
            let status = answer.status().as_u16();
            let header = |name: &str| {
                answer.headers().get(name).map(|value| value.chars().take(1024).collect::<String>())
            };
            let (etag, request_id) = (header("etag"), header("x-amz-request-id"));
            // With keys of a KMS an ETag is no hash of anything.
            let is_hash = header("x-amz-server-side-encryption").is_none_or(|kind| kind == "AES256");
            let mut stream = ByteStream::new(answer.into_body());
            let mut body = Vec::new();
            while let Some(part) = stream.next().await {
                let part = part.map_err(|_| failed(FailureKind::Connection, "the answer ended early"))?;
                if body.len().saturating_add(part.len()) > MOST_ANSWER {
                    return Err(failed(FailureKind::Corrupt, "the answer is too long"));
                }
                body.extend_from_slice(&part);
            }
            if (200..300).contains(&status) {
                return Ok(Answer { etag, is_hash, body });
            }
            let code = code_in(&body).unwrap_or_default();
            // Of the service's words nothing is taken: they repeat what was signed.
            let mut failure = Failure::answered(operation, &code, "", "", status, request_id);
            if matches!(failure.kind, FailureKind::Denied | FailureKind::Credentials) {
                failure.message = format!(
                    "the store does not accept the grant: {}, or whoever made it may not write there",
                    self.ended()
                );
            }
            Err(failure)
        };
        timeout(time, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(FailureKind::Connection, "no answer came in time")))
    }

    fn ended(&self) -> String {
        format!(
            "the grant holds until {}; what was sent is kept, and goes on with --resume and a grant that the issuer renews \
             (exhibit grant --renew)",
            self.grant.expires()
        )
    }
}

/// The code of an error in an answer of S3.
fn code_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let error = text.split_once("<Error>")?.1;
    let code = error.split_once("<Code>")?.1.split_once("</Code>")?.0;
    Some(code.chars().filter(char::is_ascii_alphanumeric).take(100).collect())
}
