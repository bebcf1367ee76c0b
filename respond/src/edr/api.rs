//! HTTP to an EDR's API: one place for tokens, limits, retries and what may be told of failures.
//!
//! No redirect is followed, every exchange has a time, every answer a limit. A token that has expired is fetched anew once; a
//! refused rate is waited for as the answer says. Requests that change something are sent again only where the answer says
//! that they were not heard (401, 429).

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use acquire::careful_agent;
use serde_json::Value;
use ureq::http::{Method, Request, Response, Uri};
use ureq::{Agent, Body};

use super::Patience;
use crate::alert::strict_json;
use crate::steps::Failed;

const EXCHANGE: Duration = Duration::from_secs(60);
/// Collectors go up and evidence comes down.
const TRANSFER: Duration = Duration::from_secs(3600);
const MOST_ANSWER: u64 = 8 << 20;
const MOST_SECRET: u64 = 16 << 10;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Times that a refused rate or a failing server is waited for.
const TRIES: u32 = 6;
/// What is said of a host that is away, and of a session with it that has ended: it may be there again.
const AWAY: &[u16] = &[400, 404, 405, 410, 422];

/// By what we are let in.
pub(super) enum Credentials {
    /// A token for an hour or so, for these fields of a form.
    Oauth { url: String, form: Vec<(&'static str, String)> },
    /// A token that stays, sent as `Authorization: ApiToken …`.
    ApiToken(String),
}

/// One API.
pub(super) struct Api<'a> {
    agent: Agent,
    transfers: Agent,
    base: String,
    credentials: Credentials,
    token: Mutex<Option<(String, Instant)>>,
    patience: Patience<'a>,
}

/// What is sent.
pub(super) enum Send<'b> {
    Nothing,
    Json(Value),
    Parts { fields: &'b [(&'b str, &'b str)], files: &'b [(&'b str, &'b str, &'b [u8])] },
}

impl<'a> Api<'a> {
    /// # Errors
    ///
    /// [`Failed`] when the address is not one of https, or of this machine itself.
    pub(super) fn new(base: &str, credentials: Credentials, patience: Patience<'a>) -> Result<Self, Failed> {
        let base = base.trim_end_matches('/').to_owned();
        check_address(&base)?;
        if let Credentials::Oauth { url, .. } = &credentials {
            check_address(url)?;
        }
        Ok(Self {
            agent: agent(EXCHANGE),
            transfers: agent(TRANSFER),
            base,
            credentials,
            token: Mutex::new(None),
            patience,
        })
    }

    pub(super) fn patience(&self) -> Patience<'a> {
        self.patience
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Failed> {
        self.ask(&Method::GET, path, &Send::Nothing)
    }

    pub(super) fn post(&self, path: &str, body: Value) -> Result<Value, Failed> {
        self.ask(&Method::POST, path, &Send::Json(body))
    }

    /// Asks, and reads the JSON of the answer; nothing is `null`.
    ///
    /// # Errors
    ///
    /// [`Failed`] with the status and the API's own words.
    pub(super) fn ask(&self, method: &Method, path: &str, send: &Send<'_>) -> Result<Value, Failed> {
        let (url, what) = self.place(method, path);
        let agent = if matches!(send, Send::Parts { .. }) { &self.transfers } else { &self.agent };
        let mut response = self.send(agent, method, &url, send, &what, &[])?;
        value_of(&mut response, &what)
    }

    /// Asks something of a host, which may be away now and back later: what an API says of one that is not online is no
    /// failure for good. A right that is missing still is.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub(super) fn ask_host(&self, method: &Method, path: &str, send: &Send<'_>) -> Result<Value, Failed> {
        let (url, what) = self.place(method, path);
        let mut response = self.send(&self.agent, method, &url, send, &what, AWAY)?;
        match response.status().as_u16() {
            status if AWAY.contains(&status) => {
                Err(Failed { may_help_again: true, ..refused(status, &what, &mut response) })
            }
            _ => value_of(&mut response, &what),
        }
    }

    /// Removes something; what is gone already is removed.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub(super) fn remove(&self, path: &str) -> Result<(), Failed> {
        let (url, what) = self.place(&Method::DELETE, path);
        self.send(&self.agent, &Method::DELETE, &url, &Send::Nothing, &what, &[404]).map(drop)
    }

    /// The address of a path, and how it is told of.
    fn place(&self, method: &Method, path: &str) -> (String, String) {
        let what = format!("{method} {}", path.split('?').next().unwrap_or(path));
        (format!("{}{path}", self.base), what)
    }

    /// Fetches what an address of this API gives into a file.
    ///
    /// # Errors
    ///
    /// [`Failed`], also when there is more than `most`.
    pub(super) fn fetch(&self, path: &str, into: &Path, most: u64) -> Result<(), Failed> {
        let (url, what) = self.place(&Method::GET, path);
        let response = self.send(&self.transfers, &Method::GET, &url, &Send::Nothing, &what, &[])?;
        save(response, into, most, &what, self.patience)
    }

    /// Fetches what an address that the API named gives into a file. It is one of the API's own host, or of these endings of
    /// names; to the latter nothing of ours is sent along.
    ///
    /// # Errors
    ///
    /// As [`Self::fetch`], and for other addresses.
    pub(super) fn fetch_elsewhere(
        &self,
        url: &str,
        endings: &[&str],
        into: &Path,
        most: u64,
    ) -> Result<(), Failed> {
        let (response, what) = self.elsewhere(url, endings)?;
        save(response, into, most, &what, self.patience)
    }

    /// The same of a short text.
    ///
    /// # Errors
    ///
    /// As [`Self::fetch_elsewhere`].
    pub(super) fn read_elsewhere(&self, url: &str, endings: &[&str]) -> Result<Vec<u8>, Failed> {
        let (mut response, what) = self.elsewhere(url, endings)?;
        read(&mut response, &what)
    }

    fn elsewhere(&self, url: &str, endings: &[&str]) -> Result<(Response<Body>, String), Failed> {
        let host = |url: &str| url.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
        let (Some(there), Some(ours)) = (host(url), host(&self.base)) else {
            return Err(Failed::for_good("the API named an address that is none"));
        };
        let is_named =
            endings.iter().any(|ending| there.host().ends_with(ending)) && there.as_str() == there.host();
        if check_address(url).is_err() || !(there == ours || is_named) {
            let named = crate::alert::one_line(there.host());
            return Err(Failed::for_good(format!(
                "the API named {named:?} to fetch from, which is not its own"
            )));
        }
        let what = format!("GET from {}", there.host());
        if there == ours {
            return Ok((self.send(&self.transfers, &Method::GET, url, &Send::Nothing, &what, &[])?, what));
        }
        let asked = self.transfers.get(url).call();
        let mut response = asked.map_err(|error| unreached(&what, &error))?;
        match response.status().as_u16() {
            200 => Ok((response, what)),
            status => Err(refused(status, &what, &mut response)),
        }
    }

    /// Sends until there is an answer of success, or of one of the statuses that `pass`.
    fn send(
        &self,
        agent: &Agent,
        method: &Method,
        url: &str,
        send: &Send<'_>,
        what: &str,
        pass: &[u16],
    ) -> Result<Response<Body>, Failed> {
        let mut renewed = false;
        for attempt in 1.. {
            let authorization = self.authorization()?;
            let mut response = match once(agent, method, url, send, &authorization) {
                Ok(response) => response,
                // Nobody knows whether it was heard: only what changes nothing is sent again.
                Err(_) if *method == Method::GET && attempt < TRIES => {
                    self.patience.wait(Duration::from_secs(1), what)?;
                    continue;
                }
                Err(error) => return Err(unreached(what, &error)),
            };
            let status = response.status().as_u16();
            match status {
                200..=299 => return Ok(response),
                status if pass.contains(&status) => return Ok(response),
                401 if !renewed && matches!(self.credentials, Credentials::Oauth { .. }) => {
                    renewed = true;
                    *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                429 if attempt < TRIES => self.patience.wait(asked_to_wait(&response), what)?,
                500..=599 if *method == Method::GET && attempt < TRIES => {
                    self.patience.wait(Duration::from_secs(u64::from(attempt)), what)?;
                }
                _ => return Err(refused(status, what, &mut response)),
            }
        }
        Err(Failed::for_now(format!("{what}: tried too often")))
    }

    fn authorization(&self) -> Result<String, Failed> {
        let (url, form_fields) = match &self.credentials {
            Credentials::ApiToken(token) => return Ok(format!("ApiToken {token}")),
            Credentials::Oauth { url, form } => (url, form),
        };
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return Ok(format!("Bearer {token}"));
        }
        for attempt in 1.. {
            let asked = self
                .agent
                .post(url)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .header("Accept", "application/json")
                .send(form(form_fields).as_bytes());
            let mut response = asked.map_err(|error| unreached("fetching a token", &error))?;
            match response.status().as_u16() {
                200 | 201 => {}
                429 if attempt < TRIES => {
                    self.patience.wait(asked_to_wait(&response), "fetching a token")?;
                    continue;
                }
                status @ (400 | 401 | 403) => {
                    return Err(Failed::for_good(format!(
                        "no token was given ({status}): client id or secret is wrong"
                    )));
                }
                status => return Err(Failed::for_now(format!("no token was given ({status})"))),
            }
            let body = read(&mut response, "fetching a token")?;
            // Nothing of this answer is ever told.
            let answer = strict_json::read(&body)
                .map_err(|_| Failed::for_now("the answer with the token is no JSON"))?;
            let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Failed::for_now("the answer holds no token"));
            }
            let lasts = answer.get("expires_in").and_then(Value::as_u64).unwrap_or(600).clamp(60, 24 * 3600);
            *held = Some((token.to_owned(), Instant::now() + Duration::from_secs(lasts - lasts / 10)));
            return Ok(format!("Bearer {token}"));
        }
        Err(Failed::for_now("no token was given"))
    }
}

fn once(
    agent: &Agent,
    method: &Method,
    url: &str,
    send: &Send<'_>,
    authorization: &str,
) -> Result<Response<Body>, ureq::Error> {
    let request = Request::builder().method(method).uri(url).header("Accept", "application/json, */*");
    let request = request.header("Authorization", authorization);
    let (kind, body) = match send {
        Send::Nothing => return agent.run(request.body(())?),
        Send::Json(value) => ("application/json".to_owned(), value.to_string().into_bytes()),
        Send::Parts { fields, files } => {
            let (boundary, body) = parts(fields, files);
            (format!("multipart/form-data; boundary={boundary}"), body)
        }
    };
    agent.run(request.header("Content-Type", kind).body(body)?)
}

/// Reads a secret from its file: one line.
///
/// # Errors
///
/// [`Failed`], without anything of it.
pub(super) fn secret(file: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    File::open(file).and_then(|file| file.take(MOST_SECRET).read_to_string(&mut text)).map_err(|error| {
        Failed::for_good(format!("the secret in {file:?} cannot be read: {}", error.kind()))
    })?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failed::for_good(format!("{file:?} holds no secret of one line")));
    }
    Ok(secret.to_owned())
}

/// As it may stand in a query or a form.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hex::encode_upper([byte]));
        }
    }
    escaped
}

fn agent(patience: Duration) -> Agent {
    careful_agent(patience, Duration::from_secs(10)).build().new_agent()
}

/// https, or plain to this machine itself, where a proxy of one's own may stand.
fn check_address(url: &str) -> Result<(), Failed> {
    let wrong = || Failed::for_good(format!("{:?} is no https address", shown(url)));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let is_plain = !authority.as_str().contains('@');
    match uri.scheme_str() {
        Some("https") if is_plain => Ok(()),
        Some("http") if is_plain && matches!(authority.host(), "127.0.0.1" | "[::1]" | "localhost") => Ok(()),
        _ => Err(wrong()),
    }
}

fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

fn form(fields: &[(&str, String)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    pairs.join("&")
}

/// Fields, and files with the name of their field and their own.
fn parts(fields: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    // Whoever knows all of it could put this into it; the files are our own.
    let whole: Vec<u8> = files.iter().flat_map(|(_, _, bytes)| custody::sha256(bytes).0).collect();
    let boundary = format!("exhibit-{}", custody::sha256(&whole));
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    for (name, file_name, bytes) in files {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (boundary, body)
}

fn read(response: &mut Response<Body>, what: &str) -> Result<Vec<u8>, Failed> {
    response
        .body_mut()
        .with_config()
        .limit(MOST_ANSWER)
        .read_to_vec()
        .map_err(|error| unreached(what, &error))
}

/// The JSON of an answer; nothing is `null`.
fn value_of(response: &mut Response<Body>, what: &str) -> Result<Value, Failed> {
    let body = read(response, what)?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    strict_json::read(&body).map_err(|why| Failed::for_now(format!("{what}: {why}")))
}

fn save(
    response: Response<Body>,
    into: &Path,
    most: u64,
    what: &str,
    patience: Patience<'_>,
) -> Result<(), Failed> {
    let mut from = response.into_body().into_with_config().limit(u64::MAX).reader();
    let here = |error: std::io::Error| Failed::for_now(format!("{into:?} cannot be written: {error}"));
    let mut to = File::create(into).map_err(here)?;
    let mut block = vec![0; 256 << 10];
    let mut whole = 0_u64;
    loop {
        // It may take most of an hour: whoever wants to stop is heard in between.
        patience.wait(Duration::ZERO, what)?;
        let read = from.read(&mut block).map_err(|error| Failed::for_now(format!("{what}: {error}")))?;
        if read == 0 {
            break;
        }
        whole = whole.saturating_add(read as u64);
        if whole > most {
            return Err(Failed::for_good(format!("{what}: more than the {most} bytes that may come")));
        }
        to.write_all(block.get(..read).unwrap_or_default()).map_err(here)?;
    }
    to.sync_all().map_err(here)
}

fn asked_to_wait(response: &Response<Body>) -> Duration {
    let header = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let seconds = header("retry-after").unwrap_or(5);
    Duration::from_secs(seconds).min(LONGEST_WAIT)
}

/// What the API said, as far as it can be told: one short line.
fn refused(status: u16, what: &str, response: &mut Response<Body>) -> Failed {
    let body = response.body_mut().with_config().limit(64 << 10).read_to_vec().unwrap_or_default();
    let value = strict_json::read(&body).unwrap_or_default();
    let said = ["/errors/0/message", "/errors/0/detail", "/errors/0/title", "/error/message", "/message"]
        .iter()
        .find_map(|place| value.pointer(place)?.as_str())
        .unwrap_or_default();
    let code = value.pointer("/error/code").and_then(Value::as_str).unwrap_or_default();
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    let words: Vec<String> =
        [plain(code), plain(said)].into_iter().filter(|words| !words.is_empty()).collect();
    let words = match words.as_slice() {
        [] => format!("{what}: {status}"),
        words => format!("{what}: {status}, {}", words.join(": ")),
    };
    match status {
        401 | 403 => Failed::for_good(format!("{words}: the client lacks a right for this")),
        400 | 404 | 405 | 410 | 422 => Failed::for_good(words),
        _ => Failed::for_now(words),
    }
}

fn unreached(what: &str, error: &ureq::Error) -> Failed {
    // Addresses of tokens and shared signatures may stand in the error itself.
    let kind = match error {
        ureq::Error::Timeout(_) => "no answer in time",
        ureq::Error::HostNotFound => "there is no such host",
        ureq::Error::BodyExceedsLimit(_) => "the answer is too long",
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => "no connection",
        _ => "the exchange failed",
    };
    Failed::for_now(format!("{what}: {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_talked_to() {
        for good in ["https://api.example.com", "http://127.0.0.1:80", "http://[::1]:1/x"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.example.com",
            "ftp://x",
            "https://a@b",
            "x",
            "",
            "http://127.0.0.1.evil.example",
            "http://localhost@evil.example",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_transfer_is_broken_off_when_the_service_stops() {
        use std::net::TcpListener;
        use std::sync::atomic::{AtomicBool, Ordering};

        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n").unwrap();
                let block = [7; 64 << 10];
                stream.write_all(&block).unwrap();
                stop.store(true, Ordering::Relaxed);
                // Without end for one who does not listen to that.
                for _ in 0..16_000 {
                    if stream.write_all(&block).is_err() {
                        break;
                    }
                }
            });
            let until = Instant::now() + Duration::from_secs(600);
            let patience = Patience { until, pause: Duration::from_secs(1), stop: &stop };
            let api = Api::new(&base, Credentials::ApiToken("t".to_owned()), patience).unwrap();
            let failed = api.fetch("/x", &folder.path().join("x"), u64::MAX).unwrap_err();
            assert!(failed.may_help_again && failed.what.contains("the service is stopping"), "{failed}");
        });
    }

    #[test]
    fn nothing_can_break_out_of_a_query() {
        assert_eq!(escaped("a b&c=d/é'"), "a%20b%26c%3Dd%2F%C3%A9%27");
    }
}
