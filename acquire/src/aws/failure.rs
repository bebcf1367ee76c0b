//! What a service said when it did not do what it was asked, without anything that was secret in the asking.

use std::error::Error as StdError;
use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Reasons of the EBS direct APIs that are of the key of a snapshot: what is refused for one block is refused for all.
const KEY_REASONS: [&str; 6] = [
    "DEPENDENCY_ACCESS_DENIED",
    "DEPENDENCY_RESOURCE_NOT_FOUND",
    "GRANT_NOT_FOUND",
    "INVALID_CUSTOMER_KEY",
    "INVALID_DEPENDENCY_REQUEST",
    "INVALID_GRANT_TOKEN",
];

/// Letters of a service's message that are kept.
const LONGEST_MESSAGE: usize = 500;

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The account may not do this. Trying again changes nothing.
    Denied,
    /// There are no credentials, or they have expired.
    Credentials,
    /// Too many requests: fewer, later.
    Throttled,
    /// A token of a list is no longer good: list again.
    Token,
    /// What is asked for is not there.
    NotFound,
    /// A condition did not hold: the object is there already.
    Exists,
    /// Somebody else is changing the same object at this moment.
    Conflict,
    /// The request makes no sense to the service. Trying again changes nothing.
    Invalid,
    /// A limit of the account that waiting does not lift.
    Quota,
    /// The service failed: worth another try.
    Server,
    /// No whole answer came in time, or none at all: worth another try. Whether the request was carried out is not known.
    Connection,
    /// What came is not what was announced: worth another try.
    Corrupt,
}

impl FailureKind {
    /// Whether the same request may be answered a moment later.
    #[must_use]
    pub fn is_worth_another_try(self) -> bool {
        matches!(self, Self::Throttled | Self::Conflict | Self::Server | Self::Connection | Self::Corrupt)
    }

    /// What a service means by the code of its error and the status of its answer.
    #[must_use]
    pub fn of(code: &str, reason: &str, status: u16) -> Self {
        match (code, reason) {
            (_, "INVALID_BLOCK_TOKEN" | "INVALID_PAGE_TOKEN") => Self::Token,
            (_, reason) if KEY_REASONS.contains(&reason) => Self::Denied,
            (_, "INVALID_SNAPSHOT_ID") => Self::NotFound,
            (
                "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestExpired"
                | "InvalidClientTokenId"
                | "InvalidAccessKeyId"
                | "UnrecognizedClientException"
                | "AuthFailure"
                | "InvalidToken"
                | "SignatureDoesNotMatch"
                | "InvalidSignatureException"
                | "MissingAuthenticationToken",
                _,
            ) => Self::Credentials,
            (code, _) if code.contains("AccessDenied") || code.contains("UnauthorizedOperation") => {
                Self::Denied
            }
            ("NotAuthorized" | "AuthorizationError" | "InvalidObjectState", _) => Self::Denied,
            (
                "SlowDown"
                | "RequestLimitExceeded"
                | "TooManyRequestsException"
                | "ConcurrentLimitExceededException"
                | "BandwidthLimitExceeded"
                | "PriorRequestNotComplete"
                | "LimitExceededException",
                _,
            ) => Self::Throttled,
            (code, _) if code.contains("Throttl") => Self::Throttled,
            (
                "ServiceQuotaExceededException" | "SnapshotLimitExceeded" | "ConcurrentSnapshotLimitExceeded",
                _,
            ) => Self::Quota,
            ("PreconditionFailed", _) => Self::Exists,
            ("ConditionalRequestConflict" | "OperationAborted" | "ConflictException", _) => Self::Conflict,
            ("RequestTimeout" | "RequestTimeTooSkewed", _) => Self::Connection,
            ("BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch", _) => Self::Corrupt,
            (code, _) if code.contains("NotFound") || code.starts_with("NoSuch") => Self::NotFound,
            _ => Self::of_status(status),
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            404 => Self::NotFound,
            408 => Self::Connection,
            409 => Self::Conflict,
            412 => Self::Exists,
            429 => Self::Throttled,
            // S3 answers 503 with SlowDown; whatever else answers so is overloaded too.
            503 => Self::Throttled,
            500.. => Self::Server,
            _ => Self::Invalid,
        }
    }
}

/// A request that a cloud service did not answer as asked.
///
/// It tells service, operation, code, the service's message, status and request id: what its support asks for. Addresses that
/// were signed, headers, and messages that repeat what was signed are left out.
#[derive(Debug, Clone)]
pub struct Failure {
    /// As `EBS GetSnapshotBlock`.
    pub operation: String,
    /// What follows from it.
    pub kind: FailureKind,
    /// The service's code, as `AccessDeniedException`; empty if no answer came.
    pub code: String,
    /// The reason within the code that some services give, as `DEPENDENCY_ACCESS_DENIED`.
    pub reason: String,
    /// The service's words, or what happened on the way.
    pub message: String,
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// The service's number of this request. Boxed, since a large error makes every result large.
    pub request_id: Option<Box<str>>,
}

impl Failure {
    /// Whether it is the key of an encrypted snapshot that cannot be used.
    pub(crate) fn is_of_key(&self) -> bool {
        KEY_REASONS.contains(&self.reason.as_str())
    }

    /// What a client of the SDK says.
    pub(crate) fn of<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        Self::with_reason(operation, "", error)
    }

    /// The same, with the reason that the service gives in a field of its own.
    pub(crate) fn with_reason<E>(operation: &str, reason: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let answer = error.raw_response();
        let status = answer.map(|answer| answer.status().as_u16());
        let header = |name: &str| answer.and_then(|answer| answer.headers().get(name)).map(str::to_owned);
        let request_id = header("x-amzn-requestid").or_else(|| header("x-amz-request-id"));
        match error {
            SdkError::ServiceError(context) => {
                let metadata = context.err().meta();
                let (code, message) = (metadata.code().unwrap_or(""), metadata.message().unwrap_or(""));
                Self::answered(operation, code, reason, message, status.unwrap_or(0), request_id)
            }
            error => {
                let kind = match error {
                    SdkError::ConstructionFailure(_) => FailureKind::Invalid,
                    // The credentials are looked for on the way, and say so only in words.
                    SdkError::DispatchFailure(_) if causes(error).contains("credentials") => {
                        FailureKind::Credentials
                    }
                    _ => FailureKind::Connection,
                };
                Self {
                    operation: operation.to_owned(),
                    kind,
                    code: String::new(),
                    reason: String::new(),
                    message: cut(&causes(error)),
                    status,
                    request_id: request_id.map(String::into_boxed_str),
                }
            }
        }
    }

    /// What a service answered.
    pub(crate) fn answered(
        operation: &str,
        code: &str,
        reason: &str,
        message: &str,
        status: u16,
        request_id: Option<String>,
    ) -> Self {
        let kind = FailureKind::of(code, reason, status);
        // These repeat what was signed, the session's token among it.
        let message =
            if code.contains("Signature") { "the service did not accept the signature" } else { message };
        Self {
            operation: operation.to_owned(),
            kind,
            code: cut(code),
            reason: cut(reason),
            message: cut(message),
            status: (status > 0).then_some(status),
            request_id: request_id.map(String::into_boxed_str),
        }
    }

    /// A failure that we found ourselves.
    pub(crate) fn found(operation: &str, kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            operation: operation.to_owned(),
            kind,
            code: String::new(),
            reason: String::new(),
            message: message.into(),
            status: None,
            request_id: None,
        }
    }
}

/// Causes from the outermost to the innermost, without the SDK's dump of request and answer.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let more = error.to_string();
        if !words.iter().any(|said| said.contains(&more)) {
            words.push(more);
        }
        next = error.source();
    }
    words.join(": ")
}

/// The first letters, without control characters: what a server says may be anything.
fn cut(text: &str) -> String {
    let kept: String =
        text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST_MESSAGE).is_some() { kept + "…" } else { kept }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.operation)?;
        match (self.code.is_empty(), self.reason.is_empty()) {
            (true, _) => {}
            (false, true) => write!(f, ": {}", self.code)?,
            (false, false) => write!(f, ": {} {}", self.code, self.reason)?,
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match (self.status, &self.request_id) {
            (Some(status), Some(id)) => write!(f, " (status {status}, request {})", cut(id)),
            (Some(status), None) => write!(f, " (status {status})"),
            _ => Ok(()),
        }
    }
}

impl StdError for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_is_never_worth_another_try() {
        for (code, reason) in [
            ("AccessDeniedException", "DEPENDENCY_ACCESS_DENIED"),
            ("AccessDeniedException", "UNAUTHORIZED_ACCOUNT"),
            ("AccessDenied", ""),
            ("UnauthorizedOperation", ""),
            ("Client.UnauthorizedOperation", ""),
        ] {
            let kind = FailureKind::of(code, reason, 403);
            assert_eq!(kind, FailureKind::Denied, "{code}");
            assert!(!kind.is_worth_another_try(), "{code}");
        }
    }

    #[test]
    fn every_kind_of_throttling_is_told_from_other_failures() {
        for code in [
            "RequestThrottledException",
            "ThrottlingException",
            "Throttling",
            "SlowDown",
            "RequestLimitExceeded",
            "ConcurrentLimitExceededException",
            "TooManyRequestsException",
        ] {
            assert_eq!(FailureKind::of(code, "ACCOUNT_THROTTLED", 400), FailureKind::Throttled, "{code}");
        }
        assert_eq!(FailureKind::of("", "", 503), FailureKind::Throttled);
        assert_eq!(FailureKind::of("InternalServerException", "", 500), FailureKind::Server);
        assert_eq!(FailureKind::of("ValidationException", "INVALID_BLOCK_TOKEN", 400), FailureKind::Token);
        assert_eq!(FailureKind::of("ValidationException", "UNRELATED_SNAPSHOTS", 400), FailureKind::Invalid);
        assert_eq!(
            FailureKind::of("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", 404),
            FailureKind::NotFound
        );
    }

    #[test]
    fn what_is_wrong_with_the_key_or_the_whole_request_is_no_fault_of_one_block() {
        for (code, reason, status) in [
            ("ValidationException", "INVALID_CUSTOMER_KEY", 400),
            ("ValidationException", "INVALID_DEPENDENCY_REQUEST", 400),
            ("ValidationException", "INVALID_GRANT_TOKEN", 400),
            ("ResourceNotFoundException", "DEPENDENCY_RESOURCE_NOT_FOUND", 404),
            ("ResourceNotFoundException", "GRANT_NOT_FOUND", 404),
        ] {
            let failure = Failure::answered("EBS GetSnapshotBlock", code, reason, "", status, None);
            assert_eq!((failure.kind, failure.is_of_key()), (FailureKind::Denied, true), "{reason}");
        }
        let kind = FailureKind::of("ValidationException", "INVALID_SNAPSHOT_ID", 400);
        assert_eq!(kind, FailureKind::NotFound);
        assert_eq!(FailureKind::of("ValidationException", "INVALID_BLOCK", 400), FailureKind::Invalid);
    }

    #[test]
    fn a_message_that_repeats_what_was_signed_is_not_shown() {
        let said = "The canonical request was x-amz-security-token:FwoGZXIvYXdz";
        let failure = Failure::answered("S3 PutObject", "SignatureDoesNotMatch", "", said, 403, None);
        assert_eq!(failure.kind, FailureKind::Credentials);
        assert!(!format!("{failure} {failure:?}").contains("FwoGZXIvYXdz"));
    }

    #[test]
    fn what_a_server_says_is_shown_on_one_line_and_not_without_end() {
        let failure = Failure::answered("S3 GetObject", "X\r\nY", "", &"a\n".repeat(10_000), 418, None);
        let shown = failure.to_string();
        assert!(shown.len() < 700 && !shown.contains(['\n', '\r']), "{shown}");
    }
}
