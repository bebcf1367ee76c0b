//! `notify.webhook`: tells a channel of the settings, signed as Standard Webhooks say. Where it is sent to stands in the settings,
//! never in an alert.

use std::time::Duration;

use acquire::careful_agent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::{Clock, SystemClock};
use ring::hmac;
use serde_json::{Value, json};

use super::{Context, Failed, Parameter, Step, Takes};
use crate::alert::AssetKind;
use crate::settings::NotifySettings;

struct Webhook;

pub(super) static WEBHOOK: &dyn Step = &Webhook;

/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// Of an answer nothing is read but this much, which is thrown away.
const MOST_ANSWER: u64 = 64 << 10;
/// No secret is longer.
const MOST_SECRET: u64 = 4096;

impl Step for Webhook {
    fn word(&self) -> &'static str {
        "notify.webhook"
    }

    fn about(&self) -> &'static str {
        "Posts what happened to a channel of the settings, signed; the same id at every try"
    }

    fn takes(&self, _: AssetKind) -> bool {
        true
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter { name: "to", about: "The channel's name in [notify]", takes: Takes::Text }]
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let channels = &context.settings.notify;
        let (name, channel) = match context.parameters.get("to").and_then(Value::as_str) {
            Some(name) => (name, channels.get(name)),
            None => {
                channels.iter().next().map_or(("", None), |(name, channel)| (name.as_str(), Some(channel)))
            }
        };
        let channel =
            channel.ok_or_else(|| Failed::for_good(format!("the settings have no channel {name:?}")))?;
        let case = custody::Case::open(context.case).map(|case| case.file().id.clone());
        // By it a receiver knows that it was told before: the same for every try, and for no other job of any state.
        let id = format!("msg_{}_{}_{}", case.unwrap_or_default(), context.job, context.id);
        let body = message(context).to_string();
        let status = post(channel, &id, &body)?;
        Ok(json!({"to": name, "id": id, "status": status}))
    }
}

/// What is told: nothing that is secret, and of the alert only what a person needs to find it.
fn message(context: &Context<'_>) -> Value {
    let (alert, asset) = (context.alert, context.asset);
    json!({
        "type": "exhibit.job",
        "timestamp": SystemClock.now().rfc3339(),
        "data": {
            "job": context.job, "step": context.id, "case": context.case.file_name().map(|name| name.to_string_lossy()),
            "asset": {"kind": asset.kind, "id": asset.id, "owner": asset.owner, "criticality": asset.criticality},
            "alert": {
                "source": alert.source, "id": alert.source_id, "severity": alert.severity, "title": alert.title,
                "type": alert.kind, "link": alert.link,
            },
            "steps": context.earlier,
        },
    })
}

/// Posts a message; gives the status of the answer, which is 2xx.
pub(crate) fn post(channel: &NotifySettings, id: &str, body: &str) -> Result<u16, Failed> {
    let seconds = (SystemClock.now().wall_ns / 1_000_000_000).to_string();
    // What is meant for one receiver goes to no other.
    let config = careful_agent(PATIENCE, CONNECT).build();
    let mut request = config
        .new_agent()
        .post(&channel.url)
        .header("Content-Type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", &seconds);
    if let Some(file) = &channel.secret_file {
        let secret = secret(file)?;
        request = request.header("webhook-signature", signature(&secret, id, &seconds, body));
    }
    // The address may hold a token, so it is never repeated.
    let answer = request.send(body);
    let mut answer = answer
        .map_err(|error| Failed::for_now(format!("the channel was not reached: {}", kind_of(&error))))?;
    let status = answer.status().as_u16();
    let _ = answer.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
    match status {
        200..=299 => Ok(status),
        // Gone, forbidden, moved: the settings are wrong, or the receiver's.
        300..=399 | 400 | 401 | 403 | 404 | 405 | 410 | 413 => {
            Err(Failed::for_good(format!("the channel answered {status}")))
        }
        _ => Err(Failed::for_now(format!("the channel answered {status}"))),
    }
}

fn kind_of(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::Timeout(_) => "no answer in time",
        ureq::Error::HostNotFound => "there is no such host",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "TLS failed",
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "its address is none",
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => "no connection",
        _ => "the exchange failed",
    }
}

/// The key in a file: `whsec_` and base64, or any other text as it is.
fn secret(file: &std::path::Path) -> Result<Vec<u8>, Failed> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MOST_SECRET).read_to_string(&mut text));
    read.map_err(|error| Failed::for_now(format!("the secret of the channel cannot be read: {error}")))?;
    let text = text.trim();
    match text.strip_prefix("whsec_") {
        Some(coded) => STANDARD
            .decode(coded)
            .map_err(|_| Failed::for_good("the secret of the channel is not base64 after whsec_")),
        None if text.is_empty() => Err(Failed::for_good("the secret of the channel is empty")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// `v1,` and the HMAC of id, time and body.
fn signature(secret: &[u8], id: &str, seconds: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The worked example of the specification.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
