//! The service itself: its people, its queue, its backups.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::json;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use crate::settings::NotifySettings;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD44",
        version: 1,
        severity: Severity::Medium,
        title: "people can be told",
        scope: "channel",
        tested: "a message that says that it is a test is posted to each channel of `[notify]`, signed where it has a secret; the \
                 answer must be 2xx",
        remediation: "mend the channel's address or secret; open the way to it",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: channels,
    },
    Check {
        id: "RD45",
        version: 1,
        severity: Severity::Medium,
        title: "nothing waits too long, nothing was given up, and the state is backed up",
        scope: "queue",
        tested: "the state: age of the oldest alert without a decision and of the oldest open job (`ready.oldest_job_seconds`), jobs \
                 that were given up, the data base's own integrity; age of the newest file in `ready.backups`",
        remediation: "`exhibit jobs list`, then approve, retry or cancel what waits; let `exhibit serve --backup` run daily",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: queue,
    },
];

fn channels(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let channels = &probe.settings.notify;
    if channels.is_empty() {
        return Err(Unable::none("the settings name no channel to people ([notify])"));
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("exhibit/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = config.new_agent();
    let each = channels.iter().map(|(name, channel)| {
        let expected = "the channel takes a test message";
        match post(probe, &agent, channel) {
            Ok(status) => {
                let holds = (200..300).contains(&status);
                Finding::of(name, holds, format!("it answered with status {status}"), expected)
            }
            // The address may hold a token, so it is not repeated.
            Err(why) => Finding::new(name, Status::Error, why, expected),
        }
    });
    Ok(each.collect())
}

/// Posts a test message, as Standard Webhooks asks for where there is a secret.
fn post(probe: &Probe, agent: &ureq::Agent, channel: &NotifySettings) -> Result<u16, String> {
    let now = probe.clock.now();
    let (id, time) = (format!("ready_{}", now.wall_ns), (now.wall_ns / 1_000_000_000).to_string());
    let body = json!({
        "type": "exhibit.ready.test", "timestamp": now.rfc3339(), "is_test": true,
        "data": {"text": "This is a test of `exhibit ready`: nothing happened, and nothing is to be done."},
    })
    .to_string();
    let mut request = agent.post(&channel.url).header("Content-Type", "application/json");
    if let Some(file) = &channel.secret_file {
        let mut secret = String::new();
        let read = File::open(file).and_then(|file| file.take(4096).read_to_string(&mut secret));
        read.map_err(|error| format!("the secret cannot be read: {error}"))?;
        let secret = secret.trim();
        let key = match secret.strip_prefix("whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| "the secret is no base64".to_owned())?,
            None => secret.as_bytes().to_vec(),
        };
        let signed = format!("{id}.{time}.{body}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        request = request
            .header("webhook-id", &id)
            .header("webhook-timestamp", &time)
            .header("webhook-signature", format!("v1,{}", BASE64.encode(tag.as_ref())));
    }
    match request.send(body.as_bytes()) {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(ureq::Error::Io(error)) => Err(format!("no answer: {}", error.kind())),
        Err(ureq::Error::Timeout(_)) => Err("no answer within 10 s".to_owned()),
        Err(_) => Err("the message could not be posted".to_owned()),
    }
}

fn queue(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let state = probe.state()?;
    let found = state.queue_health()?;
    let ready = &probe.settings.ready;
    let limit = i64::try_from(ready.oldest_job_seconds).unwrap_or(i64::MAX);
    let now_ns = probe.clock.now().wall_ns;
    let age = |at: i64| now_ns.saturating_sub(at).max(0) / 1_000_000_000;
    let expected = format!("{limit} s at most");
    let mut all = Vec::new();
    for (what, oldest) in [("undecided", found.oldest_undecided_ns), ("jobs", found.oldest_job_ns)] {
        all.push(match oldest {
            None => Finding::of(what, true, "nothing waits", &expected),
            Some(at) => {
                let seen = format!("the oldest waits for {} s", age(at));
                Finding::of(what, age(at) <= limit, seen, &expected)
            }
        });
    }
    let seen = format!("{} were given up", found.dead_jobs);
    all.push(Finding::of("dead-letters", found.dead_jobs == 0, seen, "none"));
    let seen = format!("SQLite says {}", found.integrity);
    all.push(Finding::of("data-base", found.integrity == "ok", seen, "SQLite says ok"));
    if let Some(folder) = &ready.backups {
        let expected = format!("a backup within {} h", ready.backup_hours);
        let newest = std::fs::read_dir(folder).map(|files| {
            let times = files.flatten().filter_map(|file| {
                let meta = file.metadata().ok().filter(|meta| meta.is_file() && meta.len() > 0)?;
                meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()
            });
            times.max()
        });
        all.push(match newest {
            Err(error) => Finding::new("backup", Status::Error, error.to_string(), expected),
            Ok(None) => Finding::of("backup", false, "there is none", expected),
            Ok(Some(at)) => {
                let at = i64::try_from(at.as_nanos()).unwrap_or(0);
                let hours = age(at) / 3600;
                let limit = i64::try_from(ready.backup_hours).unwrap_or(i64::MAX);
                Finding::of("backup", hours <= limit, format!("the newest is {hours} h old"), expected)
            }
        });
    }
    Ok(all)
}
