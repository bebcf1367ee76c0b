//! One HTTP exchange at a time, with time limits, and failures that tell nothing secret.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use ureq::http::{Method, Request, Response};
use ureq::{Body, Error};

use crate::aws::{Failure, FailureKind};
use crate::http_agent::careful_agent;

/// Tries of one request before it is given up.
const TRIES: u32 = 6;

/// The first pause between two tries; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A server that does not take a connection in this time is not there.
const CONNECT: Duration = Duration::from_secs(5);

/// A server that has not begun to answer in this time has forgotten us.
const ANSWER: Duration = Duration::from_secs(30);

/// One exchange takes no longer: 4 MiB over the slowest line that is of use.
const EXCHANGE: Duration = Duration::from_secs(90);

/// What a service said with a failure, where we look for its code.
pub(super) type CodeOf = fn(&Response<Body>) -> String;

/// A client of one service.
///
/// No redirect is followed and no proxy of the environment is used, so that a signature goes to whom it was meant for.
#[derive(Debug)]
pub(super) struct Exchange {
    agent: ureq::Agent,
    code_of: CodeOf,
}

impl Exchange {
    pub(super) fn new(code_of: CodeOf) -> Self {
        let config = careful_agent(EXCHANGE, CONNECT)
            .timeout_recv_response(Some(ANSWER))
            .max_idle_connections(32)
            .max_idle_connections_per_host(32)
            .build();
        Self { agent: config.new_agent(), code_of }
    }

    /// Asks once. Any status but 200 and 206 is a failure.
    pub(super) fn once(
        &self,
        operation: &str,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let invalid =
            || Failure::found(operation, FailureKind::Invalid, "the address or a header cannot be sent");
        let answer = self.agent.run(request.body(()).map_err(|_| invalid())?);
        let answer = answer.map_err(|error| unanswered(operation, &error))?;
        let status = answer.status().as_u16();
        if matches!(status, 200 | 206) {
            return Ok(answer);
        }
        let code = (self.code_of)(&answer);
        let request_id = ["x-ms-request-id", "x-guploader-uploadid", "x-amz-request-id"];
        let request_id = request_id.iter().find_map(|name| header(&answer, name));
        let mut failure = Failure::answered(operation, &code, "", "", status, request_id);
        failure.kind = kind_of(&code, status, failure.kind);
        Err(failure)
    }
}

/// Codes that Azure gives and AWS does not.
fn kind_of(code: &str, status: u16, kind: FailureKind) -> FailureKind {
    match (code, status) {
        ("AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation", _)
        | (_, 401) => FailureKind::Credentials,
        ("ConditionNotMet" | "TargetConditionNotMet", _) | (_, 412) => FailureKind::Exists,
        ("ServerBusy" | "OperationTimedOut", _) => FailureKind::Throttled,
        (_, 300..=399) => FailureKind::Invalid,
        _ => kind,
    }
}

/// Does something until it succeeds, or fails for good, or was tried often enough.
pub(super) fn patiently<T>(seed: u64, mut act: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut pause = FIRST_PAUSE;
    let mut tried = 1u32;
    loop {
        match act() {
            Err(failure) if failure.kind.is_worth_another_try() && tried < TRIES => {
                // Many that failed together shall not come back together.
                let jitter = seed.wrapping_add(u64::from(tried)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
                thread::sleep(pause.mul_f64(0.75 + jitter as f64 / 32.0));
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                tried += 1;
            }
            done => return done,
        }
    }
}

/// A header of an answer, if it is text.
pub(super) fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The body of an answer, which must have exactly `length` bytes.
pub(super) fn body_of(
    operation: &str,
    answer: &mut Response<Body>,
    length: usize,
) -> Result<Vec<u8>, Failure> {
    let corrupt = |what: String| Failure::found(operation, FailureKind::Corrupt, what);
    let mut body = Vec::with_capacity(length);
    let limit = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
    let read = answer.body_mut().as_reader().take(limit).read_to_end(&mut body);
    match read {
        Err(error) if timed_out(&error) => Err(Failure::found(
            operation,
            FailureKind::Connection,
            "the answer did not come to its end in time",
        )),
        Err(_) => Err(corrupt(format!("the answer broke off after {} of {length} bytes", body.len()))),
        Ok(_) if body.len() != length => {
            Err(corrupt(format!("{} bytes came where {length} were asked for", body.len())))
        }
        Ok(_) => Ok(body),
    }
}

fn timed_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref())
            .is_some_and(|inner: &Error| matches!(inner, Error::Timeout(_)))
}

/// What happened on the way. The words of the client are not used: some repeat the address.
fn unanswered(operation: &str, error: &Error) -> Failure {
    let (kind, words) = match error {
        Error::Timeout(_) => (FailureKind::Connection, "no answer came in time".to_owned()),
        Error::Io(error) => (FailureKind::Connection, error.kind().to_string()),
        Error::HostNotFound => (FailureKind::Connection, "the host's name is not known".to_owned()),
        Error::ConnectionFailed => (FailureKind::Connection, "no connection could be made".to_owned()),
        Error::Tls(_) | Error::Rustls(_) => {
            (FailureKind::Invalid, "the server could not prove by TLS who it is".to_owned())
        }
        Error::Protocol(_) => (FailureKind::Corrupt, "what came is no answer of HTTP".to_owned()),
        Error::BadUri(_) | Error::Http(_) => (FailureKind::Invalid, "the address cannot be used".to_owned()),
        _ => (FailureKind::Connection, "the exchange failed".to_owned()),
    };
    Failure::found(operation, kind, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_asked_once_and_what_may_pass_is_asked_again_but_not_for_ever() {
        for (kind, expected) in
            [(FailureKind::Credentials, 1), (FailureKind::Exists, 1), (FailureKind::Corrupt, TRIES)]
        {
            let mut asked = 0;
            let failed: Result<(), _> = patiently(1, || {
                asked += 1;
                Err(Failure::found("x", kind, "y"))
            });
            assert!(failed.is_err());
            assert_eq!(asked, expected);
        }
    }

    #[test]
    fn azures_codes_are_told_apart() {
        for (code, status, kind) in [
            ("AuthenticationFailed", 403, FailureKind::Credentials),
            ("AuthorizationPermissionMismatch", 403, FailureKind::Denied),
            ("ConditionNotMet", 412, FailureKind::Exists),
            ("ServerBusy", 503, FailureKind::Throttled),
            ("InternalError", 500, FailureKind::Server),
            ("", 302, FailureKind::Invalid),
        ] {
            assert_eq!(kind_of(code, status, FailureKind::of(code, "", status)), kind, "{code}");
        }
    }
}
