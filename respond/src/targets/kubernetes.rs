//! A Kubernetes API server, asked over HTTPS: as little of its API as evidence, isolation and readiness need.
//!
//! - Who it is: certificates of `ca_file` alone (else Mozilla's roots). Plain HTTP is for a loopback address only, where
//!   `kubectl proxy` listens. No redirect is followed, no proxy of the environment is used.
//! - Who we are: a bearer token, read anew from its file for each request as tokens of service accounts change every hour,
//!   or a client certificate. Neither stands in an error, nor in what `Debug` prints.
//! - Every exchange has an end in time and bytes. What the server says of a refusal is kept, escaped and cut.
//! - Reference: Kubernetes API concepts, `meta/v1` `Status`, `authorization.k8s.io/v1`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use acquire::careful_agent;
use custody::strict_json::escape_text;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Bytes of one answer: a list's page of 500 large pods has 10 MiB.
const MOST_ANSWER: u64 = 64 << 20;
/// Items of a page of a list.
const PAGE: usize = 250;
/// Items of a whole list, beyond which it is cut and said so.
const MOST_ITEMS: usize = 100_000;
/// Bytes of a file with a token, a certificate or a key.
const MOST_FILE: u64 = 1 << 20;
/// Seconds that one exchange may take unless told.
const PATIENCE: u64 = 30;

/// One cluster in the settings: `[targets.kubernetes.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// `https://host:6443`; `http` for a loopback address only.
    pub server: String,
    /// PEM file of the authorities that the server's certificate must lead to.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// File with the bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// PEM file with our certificate.
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with its key.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// Seconds that one exchange may take; 30 unless told.
    #[serde(default)]
    pub patience: Option<u64>,
    /// By which target a node is reached: its name to `local` or a name of `[targets.ssh]`.
    #[serde(default)]
    pub nodes: std::collections::BTreeMap<String, String>,
}

/// Why the API server did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{act}: {what}")]
pub struct Refusal {
    /// What was asked, such as `GET /api/v1/pods`.
    pub act: String,
    /// The status of HTTP; `None` if there was no answer, or nothing was sent.
    pub status: Option<u16>,
    /// Whether the same may be granted later: no answer came, or the server has too much to do.
    pub may_pass: bool,
    /// The server's word, such as `NotFound`, `Conflict`, `AlreadyExists`; may be empty.
    pub reason: String,
    /// A sentence for people.
    pub what: String,
}

impl Refusal {
    /// Whether there is no such thing.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.status == Some(404)
    }

    /// Whether it is there already, or has changed meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }

    /// Whether we may not.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.status, Some(401 | 403))
    }

    fn unsent(act: &str, what: impl Into<String>) -> Self {
        Self { act: act.to_owned(), status: None, may_pass: false, reason: String::new(), what: what.into() }
    }
}

impl From<Refusal> for crate::steps::Failed {
    fn from(refusal: Refusal) -> Self {
        Self { what: refusal.to_string(), may_help_again: refusal.may_pass }
    }
}

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// RFC 7386: what is null is removed.
    Merge,
    /// RFC 6902: a list of operations, of which `test` makes the others conditional.
    Json,
    /// Kubernetes's own, which knows the keys of lists.
    Strategic,
}

impl Patch {
    fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// What an act is done to, for [`Cluster::may`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Resource<'a> {
    /// API group; empty for the core.
    pub group: &'a str,
    /// Plural name, such as `pods`.
    pub resource: &'a str,
    /// Such as `log`; may be empty.
    pub subresource: &'a str,
    /// Namespace; empty for all, or for what has none.
    pub namespace: &'a str,
    /// Name; empty for any.
    pub name: &'a str,
}

/// A list, whole or cut.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Its items.
    pub items: Vec<Value>,
    /// Why it is not whole.
    pub cut: Option<String>,
}

/// One API server, ready to be asked.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    server: String,
    token_file: Option<PathBuf>,
    agent: Agent,
}

impl Cluster {
    /// Makes ready to ask. Reads the files of certificates; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal`] without a status when an address or a file is not what it should be.
    pub fn open(name: &str, settings: &ClusterSettings) -> Result<Self, Refusal> {
        let act = format!("cluster {name}");
        let fault = |what: String| Refusal::unsent(&act, what);
        let server = settings.server.trim_end_matches('/').to_owned();
        check_server(&server).map_err(|what| fault(format!("server {server:?}: {what}")))?;
        let roots = match &settings.ca_file {
            None => RootCerts::WebPki,
            Some(path) => {
                let found = certificates(path).map_err(fault)?;
                RootCerts::new_with_certs(&found)
            }
        };
        let ours = match (&settings.client_certificate_file, &settings.client_key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate).map_err(fault)?;
                Some(ClientCert::new_with_certs(&chain, private_key(key).map_err(fault)?))
            }
            _ => return Err(fault("client_certificate_file and client_key_file belong together".to_owned())),
        };
        let patience = Duration::from_secs(settings.patience.unwrap_or(PATIENCE).clamp(1, 600));
        let config = careful_agent(patience, patience.min(Duration::from_secs(10)))
            .tls_config(TlsConfig::builder().root_certs(roots).client_cert(ours).build())
            .build();
        let token_file = settings.token_file.clone();
        Ok(Self { name: name.to_owned(), server, token_file, agent: config.new_agent() })
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gets what stands at a path, such as `/api/v1/namespaces/web/pods/shop`.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.ask("GET", path, None)
    }

    /// Makes something.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; [`Refusal::is_conflict`] when it is there already.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.ask("POST", path, Some(("application/json", body)))
    }

    /// Changes something.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; [`Refusal::is_conflict`] when a `test` or a `resourceVersion` says that it is not as it was.
    pub fn patch(&self, path: &str, kind: Patch, body: &Value) -> Result<Value, Refusal> {
        self.ask("PATCH", path, Some((kind.content_type(), body)))
    }

    /// Removes something; `options` is a `DeleteOptions`, or null.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; [`Refusal::is_absent`] when it is not there.
    pub fn delete(&self, path: &str, options: &Value) -> Result<Value, Refusal> {
        self.ask("DELETE", path, (!options.is_null()).then_some(("application/json", options)))
    }

    /// Lists, page by page. `path` may have a query already, such as `?labelSelector=…`.
    ///
    /// A list that changed too much while it was read (410), or is longer than 100,000 items, is given as far as it came.
    ///
    /// # Errors
    ///
    /// [`Refusal`] of the first page.
    pub fn list(&self, path: &str) -> Result<Listed, Refusal> {
        let mut listed = Listed::default();
        let mut next = String::new();
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let mut page = format!("{path}{join}limit={PAGE}");
            if !next.is_empty() {
                page.push_str("&continue=");
                page.push_str(&encoded(&next));
            }
            let mut answer = match self.get(&page) {
                Ok(answer) => answer,
                Err(refusal) if next.is_empty() => return Err(refusal),
                Err(refusal) => {
                    listed.cut = Some(format!("the list ends after {} items: {refusal}", listed.items.len()));
                    return Ok(listed);
                }
            };
            if let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) {
                listed.items.extend(items);
            }
            let before = next;
            next =
                answer.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(listed);
            }
            if listed.items.len() >= MOST_ITEMS || next == before || next.len() > 64 << 10 {
                listed.cut = Some(format!("the list was cut after {} items", listed.items.len()));
                return Ok(listed);
            }
        }
    }

    /// Gets a text, such as a pod's log: at most `most` bytes of it, and whether that cut it.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn text(&self, path: &str, most: u64) -> Result<(Vec<u8>, bool), Refusal> {
        let act = act("GET", path);
        let mut answer = self.exchange("GET", path, None)?;
        let mut text = Vec::new();
        let read = answer.body_mut().as_reader().take(most.saturating_add(1)).read_to_end(&mut text);
        if !answer.status().is_success() {
            return Err(refused(&act, answer.status().as_u16(), &text));
        }
        let cut = text.len() as u64 > most || (read.is_err() && !text.is_empty());
        if text.is_empty()
            && let Err(error) = read
        {
            return Err(unanswered(&act, &error.into()));
        }
        text.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok((text, cut))
    }

    /// Whether our account may do `verb` to something, as the server says (`SelfSubjectAccessReview`).
    ///
    /// # Errors
    ///
    /// [`Refusal`] when that itself could not be asked.
    pub fn may(&self, verb: &str, what: Resource<'_>) -> Result<bool, Refusal> {
        let mut attributes = json!({ "verb": verb, "group": what.group, "resource": what.resource });
        for (key, value) in
            [("subresource", what.subresource), ("namespace", what.namespace), ("name", what.name)]
        {
            if !value.is_empty()
                && let Some(attributes) = attributes.as_object_mut()
            {
                attributes.insert(key.to_owned(), value.into());
            }
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.post(path, &review)?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool);
        allowed.ok_or_else(|| Refusal {
            act: act("POST", path),
            status: Some(200),
            may_pass: false,
            reason: String::new(),
            what: "the answer does not say whether it is allowed".to_owned(),
        })
    }

    /// One exchange of JSON.
    fn ask(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Value, Refusal> {
        let act = act(method, path);
        let mut answer = self.exchange(method, path, body)?;
        let status = answer.status().as_u16();
        let limited = answer.body_mut().with_config().limit(MOST_ANSWER);
        let bytes = limited.read_to_vec().map_err(|error| unanswered(&act, &error))?;
        if !answer.status().is_success() {
            return Err(refused(&act, status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| Refusal {
            act,
            status: Some(status),
            may_pass: false,
            reason: String::new(),
            what: format!("{} bytes came that are no JSON", bytes.len()),
        })
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Response<Body>, Refusal> {
        let act = act(method, path);
        check_path(path).map_err(|what| Refusal::unsent(&act, what))?;
        let url = format!("{}{path}", self.server);
        let token = match &self.token_file {
            None => None,
            Some(file) => Some(secret(file).map_err(|what| Refusal::unsent(&act, what))?),
        };
        let authorization = token.map(|token| format!("Bearer {token}"));
        let bytes = body.map(|(kind, body)| (kind, body.to_string()));
        let request = match method {
            "POST" => Ok(self.agent.post(url)),
            "PATCH" => Ok(self.agent.patch(url)),
            "DELETE" => Err(self.agent.delete(url)),
            _ => Err(self.agent.get(url)),
        };
        let sent = match (request, bytes) {
            (Ok(mut request), bytes) => {
                request = request.header("Accept", "application/json");
                if let Some(value) = &authorization {
                    request = request.header("Authorization", value);
                }
                let (kind, bytes) = bytes.unwrap_or(("application/json", "{}".to_owned()));
                request.header("Content-Type", kind).send(bytes.as_bytes())
            }
            (Err(mut request), bytes) => {
                // A log is text, whatever we would rather have.
                request = request.header("Accept", "application/json, */*");
                if let Some(value) = &authorization {
                    request = request.header("Authorization", value);
                }
                match bytes {
                    Some((kind, bytes)) => {
                        request.header("Content-Type", kind).force_send_body().send(bytes.as_bytes())
                    }
                    None => request.call(),
                }
            }
        };
        sent.map_err(|error| unanswered(&act, &error))
    }
}

/// Whether a name may stand in a path: `[a-z0-9.-]`, as DNS subdomains, and node, pod and namespace names are.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.len() <= 253
        && name.bytes().all(plain)
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && !name.contains("..")
}

/// A text as it may stand in a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The words that name an exchange: no query, which may hold a token to go on with.
fn act(method: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    format!("{method} {}", cut(path, 300))
}

fn check_server(server: &str) -> Result<(), &'static str> {
    let uri: Uri = server.parse().map_err(|_| "no address")?;
    let host = uri.host().ok_or("it names no host")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a name or a password does not belong into an address");
    }
    if uri.query().is_some() {
        return Err("it has a query");
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback => Ok(()),
        _ => Err("it must begin with https:// (http:// is for a loopback address only)"),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:=,&?%".contains(&byte);
    let segments = path.split('?').next().unwrap_or_default();
    let climbs = segments.split('/').any(|part| matches!(part, "." | ".."));
    if !path.starts_with('/')
        || path.len() > 128 << 10
        || !path.bytes().all(plain)
        || climbs
        || segments.contains("//")
    {
        return Err("not sent: the path holds what no name may hold".to_owned());
    }
    Ok(())
}

/// What the server says of itself when it refuses: a `Status`, or any text.
fn refused(act: &str, status: u16, body: &[u8]) -> Refusal {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
    let message = if text("message").is_empty() && !said.is_object() {
        escape_text(body.get(..body.len().min(300)).unwrap_or_default())
    } else {
        escape_text(text("message").as_bytes())
    };
    Refusal {
        act: act.to_owned(),
        status: Some(status),
        may_pass: matches!(status, 408 | 409 | 410 | 429 | 500..=599),
        reason: cut(&escape_text(text("reason").as_bytes()), 60),
        what: format!("status {status}: {}", cut(&message, 500)),
    }
}

/// What happened on the way. The words of the client are not used: some repeat the address.
fn unanswered(act: &str, error: &ureq::Error) -> Refusal {
    use ureq::Error;
    let (what, may_pass) = match error {
        Error::Timeout(_) => ("no whole answer came in time".to_owned(), true),
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            ("the server could not prove by TLS who it is".to_owned(), false)
        }
        Error::Io(error) => (error.kind().to_string(), true),
        Error::HostNotFound => ("the server's name is not known".to_owned(), true),
        Error::ConnectionFailed => ("no connection could be made".to_owned(), true),
        Error::Tls(_) | Error::Rustls(_) => ("the server could not prove by TLS who it is".to_owned(), false),
        Error::Protocol(_) => ("what came is no answer of HTTP".to_owned(), true),
        Error::BodyExceedsLimit(most) => (format!("the answer has more than {most} bytes"), false),
        Error::BadUri(_) | Error::Http(_) => ("the address or a header cannot be sent".to_owned(), false),
        _ => ("the exchange failed".to_owned(), true),
    };
    Refusal { act: act.to_owned(), status: None, may_pass, reason: String::new(), what }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(MOST_FILE).read_to_end(&mut bytes));
    file.map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    Ok(bytes)
}

/// A secret of one line.
fn secret(path: &Path) -> Result<String, String> {
    let bytes = read_file(path)?;
    let text = bytes.trim_ascii();
    // A token goes into a header: nothing else than visible ASCII may stand there.
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err(format!("{path:?} holds no token"));
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let bytes = read_file(path)?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(format!("{path:?} is no file of PEM")),
        }
    }
    if found.is_empty() {
        return Err(format!("{path:?} holds no certificate"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, String> {
    PrivateKey::from_pem(&read_file(path)?).map_err(|_| format!("{path:?} holds no private key"))
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most).collect::<String>() + "…"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_a_loopback_address_only_and_an_address_holds_no_password() {
        for server in
            ["https://api.example:6443", "http://127.0.0.1:8001", "http://[::1]:8001", "http://localhost:1"]
        {
            assert_eq!(check_server(server), Ok(()), "{server}");
        }
        for server in [
            "http://10.0.0.1",
            "ftp://x",
            "https://u:p@x",
            "https://x/?a=b",
            "nonsense",
            "",
            "http://127.0.0.1.example",
        ] {
            assert!(check_server(server).is_err(), "{server}");
        }
    }

    #[test]
    fn names_and_paths_that_could_mean_another_thing_are_not_sent() {
        for name in ["shop-7d9", "ip-10-0-0-1.ec2.internal", "a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "..", "a/b", "A", "a%2fb", "-a", "a-", "a..b", "a b", "a?b", &"a".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(check_path("/api/v1/pods?limit=2&continue=a%3D").is_ok());
        for path in ["api", "/api/../secret", "/a b", "/a\r\nb", "/a#b", "//host/x"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        assert_eq!(encoded("a/b=c d\n"), "a%2Fb%3Dc%20d%0A");
    }

    #[test]
    fn what_a_server_says_of_a_refusal_is_kept_but_escaped_and_cut() {
        let said = br#"{"kind":"Status","reason":"Forbidden","message":"no\nlist \u001b[31m"}"#;
        let refusal = refused("GET /x", 403, said);
        assert!(refusal.is_denied() && !refusal.may_pass);
        assert_eq!(refusal.to_string(), "GET /x: status 403: no\\x0alist \\x1b[31m");
        let refusal = refused("GET /x", 502, &[b'<'; 100_000]);
        assert!(refusal.may_pass);
        assert!(refusal.to_string().len() < 400);
    }
}
