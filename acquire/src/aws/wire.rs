//! One request: signed, sent, answered within a time and a size.

use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use custody::clock::{Clock, SystemClock};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connection::{ATTEMPT, CONNECT, READ};
use super::failure::{Failure, FailureKind, causes};

/// The largest answer that is taken: a page of 1,000 instances has some 10 MiB.
const MOST_ANSWER: usize = 32 << 20;

/// Credentials are looked for again this long before they end, and after this long where they do not say when.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
const RENEW_AFTER: Duration = Duration::from_secs(15 * 60);

/// The sockets and credentials that all signed requests of a connection share.
#[derive(Default)]
pub(crate) struct Wire {
    connector: OnceLock<SharedHttpConnector>,
    credentials: Mutex<Option<Held>>,
}

/// Credentials, and until when they are used, by the monotonic clock.
struct Held {
    credentials: Credentials,
    until_ns: u64,
}

/// What is sent.
pub(crate) struct Parcel<'a> {
    /// As `EC2 DescribeVolumes`, for failures.
    pub(crate) operation: &'a str,
    /// `POST`, for every operation of most services may be one; `GET` where a service has paths.
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) region: &'a str,
    /// The service's name in the signature.
    pub(crate) signing_name: &'a str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came back, whatever it says.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) request_id: Option<String>,
    /// The code of an error, where the service says it in a header.
    pub(crate) error_type: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    /// Signs and sends once.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Credentials`] where there are none, [`FailureKind::Connection`] where no whole answer came in time,
    /// [`FailureKind::Corrupt`] where it is larger than answers are.
    pub(crate) async fn send(&self, config: &SdkConfig, parcel: &Parcel<'_>) -> Result<Reply, Failure> {
        let failed = |kind, words: String| Failure::found(parcel.operation, kind, words);
        let credentials = self.credentials(config, parcel.operation).await?;
        let request = signed(parcel, credentials, SystemClock.now().wall_ns)?;
        let connector = self.connector();
        let exchange = async {
            let answer = connector
                .call(request)
                .await
                .map_err(|error| failed(FailureKind::Connection, causes(&error)))?;
            let status = answer.status().as_u16();
            let header =
                |name: &str| answer.headers().get(name).map(|value| value.chars().take(200).collect());
            let request_id: Option<String> =
                header("x-amzn-requestid").or_else(|| header("x-amz-request-id"));
            let error_type: Option<String> = header("x-amzn-errortype");
            let announced = answer.headers().get("content-length").and_then(|text| text.parse::<u64>().ok());
            let mut stream = ByteStream::new(answer.into_body());
            let mut body = Vec::new();
            loop {
                let part = timeout(READ, stream.next())
                    .await
                    .map_err(|_| failed(FailureKind::Connection, "the answer stopped coming".to_owned()))?;
                let Some(part) = part else { break };
                let part = part.map_err(|error| failed(FailureKind::Connection, causes(&error)))?;
                if body.len().saturating_add(part.len()) > MOST_ANSWER {
                    let words = format!("the answer is larger than {MOST_ANSWER} bytes");
                    return Err(failed(FailureKind::Corrupt, words));
                }
                body.extend_from_slice(&part);
            }
            if announced.is_some_and(|announced| announced != body.len() as u64) {
                return Err(failed(FailureKind::Connection, "the answer ended early".to_owned()));
            }
            Ok(Reply { status, request_id, error_type, body })
        };
        timeout(ATTEMPT, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(FailureKind::Connection, "no answer came in time".to_owned())))
    }

    /// Forgets the credentials, so that they are looked for again: a service says that they have ended.
    pub(crate) async fn forget_credentials(&self) {
        *self.credentials.lock().await = None;
    }

    /// The account's credentials, as the SDK's own clients find them.
    pub(crate) async fn credentials(
        &self,
        config: &SdkConfig,
        operation: &str,
    ) -> Result<Credentials, Failure> {
        let failed = |words: String| Failure::found(operation, FailureKind::Credentials, words);
        let mut held = self.credentials.lock().await;
        let now = SystemClock.now();
        if let Some(held) = held.as_ref().filter(|held| now.mono_ns < held.until_ns) {
            return Ok(held.credentials.clone());
        }
        let Some(provider) = config.credentials_provider() else {
            return Err(failed("there are no credentials".to_owned()));
        };
        let credentials = timeout(ATTEMPT, provider.provide_credentials())
            .await
            .map_err(|_| failed("no credentials came in time".to_owned()))?
            .map_err(|error| failed(causes(&error)))?;
        let life = credentials.expiry().map_or(RENEW_AFTER, |end| {
            let now = UNIX_EPOCH + Duration::from_nanos(u64::try_from(now.wall_ns).unwrap_or(0));
            end.duration_since(now).unwrap_or_default().saturating_sub(RENEW_BEFORE)
        });
        let until_ns = now.mono_ns.saturating_add(u64::try_from(life.as_nanos()).unwrap_or(u64::MAX));
        *held = Some(Held { credentials: credentials.clone(), until_ns });
        Ok(credentials)
    }

    /// The HTTP client. It is made when it is needed: reading the system's certificates takes a moment.
    fn connector(&self) -> &SharedHttpConnector {
        self.connector.get_or_init(|| {
            let settings =
                HttpConnectorSettings::builder().connect_timeout(CONNECT).read_timeout(READ).build();
            let connector = Connector::builder()
                .connector_settings(settings)
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .build();
            SharedHttpConnector::new(connector)
        })
    }
}

/// Signs with Signature Version 4 (AWS General Reference, "Signature Version 4 signing process").
fn signed(parcel: &Parcel<'_>, credentials: Credentials, wall_ns: i64) -> Result<HttpRequest, Failure> {
    // Nothing of what went wrong here is shown: it may hold what was signed.
    let failed =
        |_| Failure::found(parcel.operation, FailureKind::Invalid, "the request could not be put together");
    let time = UNIX_EPOCH + Duration::from_nanos(u64::try_from(wall_ns).unwrap_or(0));
    let identity: Identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(parcel.region)
        .name(parcel.signing_name)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| failed(()))?
        .into();
    let headers = parcel.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let signable =
        SignableRequest::new(parcel.method, &parcel.url, headers, SignableBody::Bytes(&parcel.body))
            .map_err(|_| failed(()))?;
    let (instructions, _) = sign(signable, &params).map_err(|_| failed(()))?.into_parts();
    let mut request = HttpRequest::new(SdkBody::from(parcel.body.clone()));
    request.set_method(parcel.method).map_err(|_| failed(()))?;
    request.set_uri(parcel.url.as_str()).map_err(|_| failed(()))?;
    let more = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let own = parcel.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    for (name, value) in own.chain(more).collect::<Vec<_>>() {
        request.headers_mut().try_insert(name, value).map_err(|_| failed(()))?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn parcel(headers: Vec<(&'static str, String)>, body: &[u8]) -> Parcel<'static> {
        Parcel {
            operation: "Example X",
            method: "POST",
            url: "https://example.amazonaws.com/".to_owned(),
            region: "us-east-1",
            signing_name: "service",
            headers,
            body: body.to_vec(),
        }
    }

    fn authorization(parcel: &Parcel<'_>, token: Option<&str>) -> String {
        let token = token.map(str::to_owned);
        let credentials = Credentials::new("AKIDEXAMPLE", SECRET, token, None, "test");
        // 2015-08-30T12:36:00Z
        let request = signed(parcel, credentials, 1_440_938_160_000_000_000).unwrap();
        assert_eq!(request.headers().get("x-amz-date"), Some("20150830T123600Z"));
        request.headers().get("authorization").unwrap().to_owned()
    }

    /// AWS's published Signature Version 4 test suite: post-vanilla, post-header-key-case, post-x-www-form-urlencoded.
    #[test]
    fn requests_are_signed_as_in_the_test_suite_that_aws_publishes() {
        assert_eq!(
            authorization(&parcel(vec![], b""), None),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let form = ("content-type", "application/x-www-form-urlencoded".to_owned());
        assert_eq!(
            authorization(&parcel(vec![form], b"Param1=value1"), None),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    /// The same suite: post-sts-header-before.
    #[test]
    fn the_token_of_a_session_is_signed_too() {
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        assert_eq!(
            authorization(&parcel(vec![], b""), Some(token)),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
    }

    #[test]
    fn what_cannot_be_signed_says_nothing_of_what_it_was() {
        let mut parcel = parcel(vec![("x-amz-target", "hunter2\r\n".to_owned())], b"hunter2");
        let credentials = Credentials::new("AKIDEXAMPLE", SECRET, Some("hunter2".to_owned()), None, "test");
        let failure = signed(&parcel, credentials.clone(), 0).unwrap_err();
        assert!(!format!("{failure} {failure:?}").contains("hunter2"));
        parcel.headers.clear();
        parcel.url = "http://hunter2 x/".to_owned();
        let failure = signed(&parcel, credentials, 0).unwrap_err();
        assert!(!format!("{failure} {failure:?}").contains("hunter2"));
    }
}
