//! One request at the door: is it from who it says, and is it on the disk? Only then 202.
//!
//! A path that is not there and a secret that is wrong have one answer, after the same reading of the body. No 429 and no
//! redirect: senders give up at the first, and must not be sent elsewhere by the second.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Door;
use super::body::{self, NotTaken, NotUnpacked, Packed};
use super::connections::{Peer, Seat};
use super::log::Level;
use super::metrics;
use super::writer::Waiting;
use crate::authenticate::{self, Control, Proof, Refused, Source, Stage, Unproven, validation_token};
use crate::state::{DeliveryStatus, NewDelivery, Stored};

/// Seconds after which a sender should try again.
const AGAIN: &str = "5";

/// How a request ends.
enum End {
    Stored,
    /// A token is echoed.
    Echo(String),
    Refused(&'static str),
    NotTaken(NotTaken),
    NotNow(&'static str),
    NotPost,
}

impl From<NotTaken> for End {
    fn from(not: NotTaken) -> Self {
        if not.0 == StatusCode::SERVICE_UNAVAILABLE { Self::NotNow(not.1) } else { Self::NotTaken(not) }
    }
}

impl From<Unproven> for End {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Refused(Refused(why)) => Self::Refused(why),
            Unproven::NotNow(why) => Self::NotNow(why),
        }
    }
}

/// Answers whatever is not `/healthz` or `/metrics`.
pub(super) async fn receive(Shared(door): Shared<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    let begun = Instant::now();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    let sources = door.sources();
    let (name, _) = name_and_token(request.uri().path());
    let source = sources.iter().find(|source| source.name == name).cloned();
    let known = source.as_ref().map_or("", |source| source.name.as_str()).to_owned();
    let end = admit(&door, source, request).await;
    let answer = answer(&end);
    tell(&door, &end, &known, peer, answer.status());
    door.metrics.observe(metrics::REQUEST_SECONDS, &[], begun.elapsed().as_secs_f64());
    answer
}

/// `/alerts/NAME` and `/alerts/NAME/TOKEN`; an empty name for everything else.
fn name_and_token(path: &str) -> (&str, Option<&str>) {
    let Some(rest) = path.strip_prefix("/alerts/") else { return ("", None) };
    match rest.split_once('/') {
        None => (rest, None),
        Some((name, token)) => (name, Some(token)),
    }
}

async fn admit(door: &Arc<Door>, source: Option<Arc<Source>>, request: Request<Body>) -> End {
    if request.method() != Method::POST {
        return End::NotPost;
    }
    let packed = match body::announced(request.headers(), door.limits.body) {
        Ok(packed) => packed,
        Err(not) => return not.into(),
    };
    let (parts, body) = request.into_parts();
    let now_ns = door.clock.now().wall_ns;
    let Some(peer) = parts.extensions.get::<Peer>().cloned() else { return End::Refused("no_peer") };
    let (_, token) = name_and_token(parts.uri.path());
    let who = Asked { headers: parts.headers, token: token.map(str::to_owned), peer, now_ns };
    let first = match &source {
        None => Err(Unproven::Refused(Refused("unknown_path"))),
        Some(source) => source.check(Stage::Headers, &who.request(), &[]),
    };
    // A body is read whatever comes of it, so that an unknown path looks like a wrong secret; it is kept only if it may be good.
    let memory = first.is_ok().then_some(&door.memory);
    let read = body::read(body, door.limits.body, memory).await;
    if let Some(seat) = parts.extensions.get::<Seat>() {
        seat.is_heard();
    }
    let (source, first) = match (source, first) {
        (Some(source), Ok(first)) => (source, first),
        (_, Err(unproven)) => return read.err().map_or_else(|| unproven.into(), End::from),
        (None, Ok(_)) => return End::Refused("unknown_path"),
    };
    let (bytes, share) = match read {
        Ok((bytes, share)) => (bytes, share),
        // Some senders never try again after 408.
        Err(NotTaken(StatusCode::REQUEST_TIMEOUT, why)) => {
            return NotTaken(StatusCode::SERVICE_UNAVAILABLE, why).into();
        }
        Err(not) => return not.into(),
    };
    if source.is_graph()
        && let Some(token) = validation_token(parts.uri.query())
    {
        return End::Echo(token);
    }
    let share = match share.map_or_else(|| body::share(&door.memory, 0), Ok) {
        Ok(share) => share,
        Err(not) => return not.into(),
    };
    prove_and_store(door, source, who, first, packed, bytes, share).await.unwrap_or_else(|end| end)
}

/// What a request is judged by, owned.
struct Asked {
    headers: HeaderMap,
    token: Option<String>,
    peer: Peer,
    now_ns: i64,
}

impl Asked {
    fn request(&self) -> authenticate::Request<'_> {
        authenticate::Request {
            headers: &self.headers,
            path_token: self.token.as_deref(),
            client: self.peer.client.as_ref(),
            peer: self.peer.address.ip(),
            now_ns: self.now_ns,
        }
    }
}

async fn prove_and_store(
    door: &Arc<Door>,
    source: Arc<Source>,
    who: Asked,
    first: Proof,
    packed: Packed,
    bytes: Vec<u8>,
    mut share: tokio::sync::OwnedSemaphorePermit,
) -> Result<End, End> {
    let second = source.check(Stage::Bytes, &who.request(), &bytes)?;
    let mut broken = None;
    let body = match packed {
        Packed::No => bytes,
        Packed::Gzip => match body::unpack(&bytes, door.limits.body) {
            Ok(body) => {
                share.merge(body::share(&door.memory, body.len())?);
                body
            }
            Err(NotUnpacked::TooLarge) => {
                return Err(NotTaken(StatusCode::PAYLOAD_TOO_LARGE, "too_large_unpacked").into());
            }
            // Kept as it came: the sender is known, or the next stage refuses it.
            Err(NotUnpacked::Broken) => {
                broken = Some("it says that it is gzip, and is not".to_owned());
                bytes
            }
        },
    };
    let (third, body, who) = if source.may_wait() {
        // It may fetch a certificate, which must not hold up the others.
        let source = Arc::clone(&source);
        let checked = tokio::task::spawn_blocking(move || check_content(&source, body, who)).await;
        checked.map_err(|_| End::NotNow("stopped"))?
    } else {
        check_content(&source, body, who)
    };
    let third = third?;
    let control = third.control.clone();
    let sender = join(&[first.sender, second.sender, third.sender]);
    let seen_as = second.seen_as.or(third.seen_as).or(first.seen_as);
    let (status, severity, why) = match (&control, broken) {
        (Some(_), _) => (DeliveryStatus::Control, 0, String::new()),
        (None, Some(why)) => (DeliveryStatus::Unparsed, 0, why),
        (None, None) => match door.severity(&source, &body) {
            Ok(severity) => (DeliveryStatus::New, severity, String::new()),
            Err(why) => (DeliveryStatus::Unparsed, 0, why),
        },
    };
    let delivery = NewDelivery {
        source: source.name.clone(),
        received_ns: who.now_ns,
        headers: source.kept_headers(&who.headers),
        body,
        sender,
        seen_as: if matches!(control, Some(Control::Subscribe { .. })) { None } else { seen_as },
        status,
        severity,
        why: why.clone(),
    };
    let (done, stored) = oneshot::channel();
    door.writer()
        .ok_or(End::NotNow("stopping"))?
        .try_send(Waiting { delivery, share, done })
        .map_err(|_| End::NotNow("queue"))?;
    let stored = stored.await.ok().flatten().ok_or(End::NotNow("not_stored"))?;
    count(door, &source, stored, status, &why, who.now_ns);
    if let Some(control) = control {
        answer_control(door, source, control).await?;
    }
    Ok(End::Stored)
}

fn check_content(source: &Source, body: Vec<u8>, who: Asked) -> (Result<Proof, Unproven>, Vec<u8>, Asked) {
    let found = source.check(Stage::Content, &who.request(), &body);
    (found, body, who)
}

fn count(door: &Door, source: &Source, stored: Stored, status: DeliveryStatus, why: &str, now_ns: i64) {
    let labels = [("source", source.name.as_str())];
    door.metrics.set(metrics::LAST_SECONDS, &labels, (now_ns / 1_000_000_000) as f64);
    match stored {
        Stored::Again(id) => {
            door.metrics.count(metrics::REPEATED, &labels);
            let fields = [("source", json!(source.name)), ("delivery", json!(id))];
            door.log.write_some(Level::Info, "repeated", "repeated", &fields);
        }
        Stored::New(id) => {
            door.metrics.count(metrics::STORED, &labels);
            if status == DeliveryStatus::Unparsed {
                door.metrics.count(metrics::UNPARSED, &labels);
                let fields = [("source", json!(source.name)), ("delivery", json!(id)), ("why", json!(why))];
                door.log.write_some(Level::Alarm, "unparsed", &format!("unparsed {}", source.name), &fields);
            } else {
                let fields =
                    [("source", json!(source.name)), ("delivery", json!(id)), ("as", json!(status.word()))];
                door.log.write_some(Level::Info, "stored", &format!("stored {}", source.name), &fields);
            }
        }
    }
}

/// Does what a message to us asks for. It is recorded by now.
async fn answer_control(door: &Arc<Door>, source: Arc<Source>, control: Control) -> Result<(), End> {
    let (topic, token_is_confirmed) = match &control {
        Control::Unsubscribed { topic } => {
            let fields = [("source", json!(source.name)), ("topic", json!(topic))];
            door.log.write(Level::Alarm, "unsubscribed", &fields);
            return Ok(());
        }
        Control::Subscribe { topic, confirm, .. } => (topic.clone(), *confirm),
    };
    let fields = |more: Value| [("source", json!(source.name)), ("topic", json!(topic)), ("why", more)];
    if !token_is_confirmed {
        door.log.write(Level::Warning, "subscription_not_confirmed", &fields("confirm = false".into()));
        return Ok(());
    }
    let (asking, asked) = (Arc::clone(&source), control.clone());
    let confirmed = tokio::task::spawn_blocking(move || asking.confirm(&asked)).await;
    match confirmed {
        Ok(Ok(())) => {
            door.log.write(Level::Info, "subscription_confirmed", &fields(Value::Null));
            Ok(())
        }
        Ok(Err(why)) => {
            door.log.write_some(Level::Alarm, "subscription_not_confirmed", "confirm", &fields(why.into()));
            Err(End::NotNow("not_confirmed"))
        }
        Err(_) => Err(End::NotNow("stopped")),
    }
}

fn join(parts: &[String]) -> String {
    let there: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    there.join("; ")
}

fn answer(end: &End) -> Response<Body> {
    let plain = |status: StatusCode, words: &str| {
        let mut answer = Response::new(Body::from(words.to_owned()));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    };
    match end {
        End::Stored => plain(StatusCode::ACCEPTED, "kept\n"),
        End::Echo(token) => plain(StatusCode::OK, token),
        End::Refused(_) => {
            let mut answer = plain(StatusCode::UNAUTHORIZED, "refused\n");
            // SNS sends the user and password of an address only to who asks for them.
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"alerts\""));
            answer
        }
        End::NotTaken(NotTaken(status, _)) => {
            let mut answer = plain(*status, "not taken\n");
            // What is left of the body is not read.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        }
        End::NotNow(_) => {
            let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, "try again\n");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(AGAIN));
            answer
        }
        End::NotPost => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "alerts are posted\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            answer
        }
    }
}

/// Counts every request, and writes down why one was refused. Never what it was: that is whoever's text.
fn tell(door: &Door, end: &End, source: &str, peer: Option<IpAddr>, status: StatusCode) {
    door.metrics.count(metrics::ANSWERS, &[("status", status.as_str())]);
    let (reason, level) = match end {
        End::Stored | End::Echo(_) => return,
        End::Refused(why) | End::NotTaken(NotTaken(_, why)) => (*why, Level::Warning),
        End::NotNow(why) => (*why, Level::Alarm),
        End::NotPost => ("not_post", Level::Info),
    };
    door.metrics.count(metrics::REFUSED, &[("reason", reason)]);
    let peer = peer.map(|peer| peer.to_canonical().to_string());
    let fields = [
        ("reason", json!(reason)),
        ("status", json!(status.as_u16())),
        ("source", json!(source)),
        ("peer", json!(peer)),
    ];
    door.log.write_some(level, "refused", reason, &fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_name_and_at_most_a_token() {
        assert_eq!(name_and_token("/alerts/falco"), ("falco", None));
        assert_eq!(name_and_token("/alerts/splunk/abc"), ("splunk", Some("abc")));
        assert_eq!(name_and_token("/alerts/splunk/a/b"), ("splunk", Some("a/b")));
        for path in ["/", "/alerts", "/alert/falco", "/../alerts/falco", "*"] {
            assert_eq!(name_and_token(path), ("", None), "{path}");
        }
    }

    #[test]
    fn no_answer_sends_a_sender_elsewhere_or_away_for_good() {
        for end in [
            End::Stored,
            End::Echo("t".into()),
            End::Refused("x"),
            End::NotTaken(NotTaken(StatusCode::PAYLOAD_TOO_LARGE, "x")),
            End::NotNow("x"),
            End::NotPost,
        ] {
            let status = answer(&end).status();
            assert!(
                !status.is_redirection()
                    && status != StatusCode::TOO_MANY_REQUESTS
                    && status != StatusCode::GONE
            );
        }
        assert_eq!(answer(&End::NotNow("x")).headers()[RETRY_AFTER], AGAIN);
    }
}
