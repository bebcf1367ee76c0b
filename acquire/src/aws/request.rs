//! Requests to one service: put together, tried again where that helps, and answered in words.

use std::time::Duration;

use serde_json::Value;

use super::answer::Raw;
use super::connection::Connection;
use super::endpoint::{Endpoint, Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::wire::{Parcel, Reply};
use super::xml::Element;
use crate::blocks::pause;

/// Tries of one request, at most, with waits between them that double up to [`LONGEST_WAIT`].
const MOST_TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Whether a request may be sent again when it is not known whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or nothing more the second time.
    Freely,
    /// It makes something each time: only when the service says that it refused it for being one too many.
    OnlyIfRefused,
}

/// One request to a service.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    /// Such as `DescribeVolumes`.
    pub(crate) operation: &'a str,
    /// On what, for the words of a failure: an id, an ARN, or empty.
    pub(crate) on: &'a str,
    pub(crate) repeat: Repeat,
}

impl<'a> Call<'a> {
    /// A request that changes nothing.
    pub(crate) fn reads(operation: &'a str, on: &'a str) -> Self {
        Self { operation, on, repeat: Repeat::Freely }
    }

    /// A request that makes something each time.
    pub(crate) fn makes(operation: &'a str, on: &'a str) -> Self {
        Self { operation, on, repeat: Repeat::OnlyIfRefused }
    }
}

/// A form, as it is filled in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Each value under `name.1`, `name.2`, …
    pub(crate) fn list<V: Into<String>>(self, name: &str, values: impl IntoIterator<Item = V>) -> Self {
        (1..).zip(values).fold(self, |form, (number, value)| form.with(format!("{name}.{number}"), value))
    }

    pub(crate) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut text = String::new();
        for (name, value) in &self.0 {
            if !text.is_empty() {
                text.push('&');
            }
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
        }
        text.into_bytes()
    }
}

/// RFC 3986: all but unreserved characters.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Sends signed requests to one service.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    connection: Connection,
    service: &'static Service,
    endpoint: Endpoint,
}

impl Caller {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub(crate) fn new(connection: &Connection, service: &'static Service) -> Result<Self, Failure> {
        let endpoint = Endpoint::of(connection.config(), service)?;
        Ok(Self { connection: connection.clone(), service, endpoint })
    }

    /// Sends a form, and gives the XML that comes back.
    pub(crate) fn form(&self, call: &Call<'_>, form: Form) -> Result<(Element, Raw), Failure> {
        let Protocol::Query(version) = self.service.protocol else {
            return Err(self.found(call, FailureKind::Invalid, "this service takes no forms"));
        };
        let mut whole = Form::default().with("Action", call.operation).with("Version", version);
        whole.0.extend(form.0);
        let kind = ("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned());
        self.repeated(call, vec![kind], whole.encoded(), |reply| {
            let answer = Element::parse(&reply.body);
            let answer = answer.map_err(|what| self.found(call, FailureKind::Corrupt, what))?;
            Ok((answer, self.raw(call, reply, false)))
        })
    }

    /// Sends JSON, and gives the JSON that comes back.
    pub(crate) fn json(&self, call: &Call<'_>, body: &Value) -> Result<(Value, Raw), Failure> {
        let Protocol::Json(target) = self.service.protocol else {
            return Err(self.found(call, FailureKind::Invalid, "this service takes no JSON"));
        };
        let headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("{target}.{}", call.operation)),
        ];
        self.repeated(call, headers, body.to_string().into_bytes(), |reply| {
            let answer: Value = serde_json::from_slice(&reply.body)
                .map_err(|error| self.found(call, FailureKind::Corrupt, format!("no JSON: {error}")))?;
            Ok((answer, self.raw(call, reply, true)))
        })
    }

    /// Gets what lies at a path, and gives the JSON that comes back. The path is put into the address as it is: it holds
    /// only words of ours and names that were checked.
    pub(crate) fn get(&self, call: &Call<'_>, path: &str) -> Result<(Value, Raw), Failure> {
        let Protocol::Rest = self.service.protocol else {
            return Err(self.found(call, FailureKind::Invalid, "this service has no paths"));
        };
        self.exchanged(call, ("GET", path), Vec::new(), Vec::new(), |reply| {
            let answer: Value = serde_json::from_slice(&reply.body)
                .map_err(|error| self.found(call, FailureKind::Corrupt, format!("no JSON: {error}")))?;
            Ok((answer, self.raw(call, reply, true)))
        })
    }

    fn repeated<T>(
        &self,
        call: &Call<'_>,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        read: impl Fn(Reply) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.exchanged(call, ("POST", "/"), headers, body, read)
    }

    fn exchanged<T>(
        &self,
        call: &Call<'_>,
        (method, path): (&'static str, &str),
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        read: impl Fn(Reply) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let operation = self.operation(call);
        let parcel = Parcel {
            operation: &operation,
            method,
            url: format!("{}{path}", self.endpoint.url),
            region: &self.endpoint.region,
            signing_name: self.service.prefix,
            headers,
            body,
        };
        let (wire, config) = (self.connection.wire(), self.connection.config());
        self.connection.wait(async {
            let mut tries = 0;
            loop {
                tries += 1;
                let answer = wire.send(config, &parcel).await.and_then(|reply| match reply.status {
                    200..=299 => read(reply),
                    _ => Err(self.refused(call, &reply)),
                });
                let failure = match answer {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                let has_ended = failure.kind == FailureKind::Credentials && failure.code.contains("Expired");
                let again = match call.repeat {
                    _ if has_ended => tries == 1,
                    // A whole answer that makes no sense will hardly make more the next time.
                    Repeat::Freely if failure.kind == FailureKind::Corrupt => tries == 1,
                    Repeat::Freely => failure.kind.is_worth_another_try(),
                    // A bare 503 counts as throttling too, but does not say that nothing was done.
                    Repeat::OnlyIfRefused => {
                        FailureKind::of(&failure.code, &failure.reason, 0) == FailureKind::Throttled
                    }
                };
                if !again || tries >= MOST_TRIES {
                    return Err(failure);
                }
                if has_ended {
                    wire.forget_credentials().await;
                }
                tokio::time::sleep(pause(FIRST_WAIT, LONGEST_WAIT, tries)).await;
            }
        })
    }

    /// As `EC2 DescribeVolumes`.
    fn operation(&self, call: &Call<'_>) -> String {
        format!("{} {}", self.service.name, call.operation)
    }

    pub(crate) fn found(&self, call: &Call<'_>, kind: FailureKind, what: impl Into<String>) -> Failure {
        Failure::found(&self.operation(call), kind, what)
    }

    fn raw(&self, call: &Call<'_>, reply: Reply, is_json: bool) -> Raw {
        Raw { operation: self.operation(call), request_id: reply.request_id, is_json, bytes: reply.body }
    }

    /// What an answer other than 2xx says.
    fn refused(&self, call: &Call<'_>, reply: &Reply) -> Failure {
        let (mut code, mut message, mut request_id) =
            (String::new(), String::new(), reply.request_id.clone());
        match self.service.protocol {
            Protocol::Query(_) => {
                if let Ok(answer) = Element::parse(&reply.body) {
                    let error = answer.find("Error");
                    code = error.map(|error| error.string(&["Code"])).unwrap_or_default();
                    message = error.map(|error| error.string(&["Message"])).unwrap_or_default();
                    let id = answer.find("RequestId").or_else(|| answer.find("RequestID"));
                    request_id = request_id.or_else(|| id.map(|id| id.text.chars().take(100).collect()));
                }
            }
            Protocol::Json(_) | Protocol::Rest => {
                let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let text = |name: &str| answer.get(name).and_then(Value::as_str);
                let kind = reply.error_type.as_deref().or_else(|| text("__type")).unwrap_or_default();
                // As `com.amazonaws.kms#NotFoundException:http://…`.
                let kind = kind.split(':').next().unwrap_or_default();
                code = kind.rsplit('#').next().unwrap_or_default().to_owned();
                message = text("message").or_else(|| text("Message")).unwrap_or_default().to_owned();
            }
        }
        let kind = FailureKind::of(&code, "", reply.status);
        if kind == FailureKind::Denied && code != "DryRunOperation" {
            message = denied(self.service.prefix, call, &code, &message);
        }
        Failure::answered(&self.operation(call), &code, "", &message, reply.status, request_id)
    }
}

/// Says which permission is missing on what, and whether it is one of a key: nobody should have to decode it.
fn denied(prefix: &str, call: &Call<'_>, code: &str, message: &str) -> String {
    // A long cipher, of use only to `sts decode-authorization-message`.
    let message = message.split("Encoded authorization failure message").next().unwrap_or_default().trim();
    let of_key =
        prefix != "kms" && (code.starts_with("Kms") || code.contains("KMS") || message.contains("kms:"));
    let on = if call.on.is_empty() { String::new() } else { format!(" on {}", call.on) };
    let ours = format!("{prefix}:{}", call.operation);
    let missing = if of_key {
        format!("KMS refused: a permission on the key is missing, for {ours}{on}")
    } else {
        format!("missing permission {ours}{on}")
    };
    if message.is_empty() { missing } else { format!("{missing}; AWS says: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_so_that_no_value_can_add_a_parameter() {
        let form =
            Form::default().with("Action", "X").list("Id", ["a&Action=Delete", "ü ~*"]).maybe("Y", None);
        assert_eq!(form.encoded(), b"Action=X&Id.1=a%26Action%3DDelete&Id.2=%C3%BC%20~%2A");
    }

    #[test]
    fn a_denial_names_the_permission_what_it_is_on_and_whether_it_is_the_key() {
        let call = Call::reads("CreateSnapshots", "i-1");
        let said = denied(
            "ec2",
            &call,
            "UnauthorizedOperation",
            "You are not. Encoded authorization failure message: AAAA",
        );
        assert_eq!(said, "missing permission ec2:CreateSnapshots on i-1; AWS says: You are not.");
        let said = denied(
            "ec2",
            &call,
            "AccessDenied",
            "not authorized to perform: kms:CreateGrant on resource: arn:x",
        );
        assert!(said.starts_with("KMS refused") && said.contains("kms:CreateGrant"), "{said}");
        assert_eq!(
            denied("sts", &Call::reads("AssumeRole", ""), "AccessDenied", ""),
            "missing permission sts:AssumeRole"
        );
    }
}
