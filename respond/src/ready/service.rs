//! The service itself: its people, its queue, its backups.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::json;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use crate::state::State;
use crate::steps::notify::post;

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
        version: 2,
        severity: Severity::Medium,
        title: "nothing waits too long, nothing was given up, and the state is backed up",
        scope: "queue",
        tested: "the state: age of the oldest alert without a decision and of the oldest open job (`ready.oldest_job_seconds`), jobs \
                 that were given up, the data base's own integrity; the newest file in `ready.backups` must be young, whole by \
                 SQLite's quick_check and a state of ours; without `ready.backups` a warning",
        remediation: "`exhibit jobs list`, then approve, retry or cancel what waits; let `exhibit serve --backup-to FILE` run daily",
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
    let now = probe.clock.now();
    let id = format!("ready_{}", now.wall_ns);
    let body = json!({
        "type": "exhibit.ready.test", "timestamp": now.rfc3339(), "is_test": true,
        "data": {"text": "This is a test of `exhibit ready`: nothing happened, and nothing is to be done."},
    })
    .to_string();
    let each = channels.iter().map(|(name, channel)| {
        let expected = "the channel takes a test message";
        match post(channel, &id, &body) {
            Ok(status) => Finding::of(name, true, format!("it answered {status}"), expected),
            // It was reached and refused, or it was not reached.
            Err(failed) if failed.what.contains("answered") => {
                Finding::of(name, false, failed.what, expected)
            }
            Err(failed) => Finding::new(name, Status::Error, failed.what, expected),
        }
    });
    Ok(each.collect())
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
    all.push(backup(probe, now_ns));
    Ok(all)
}

/// What is to be said of the newest backup.
fn backup(probe: &Probe, now_ns: i64) -> Finding {
    let ready = &probe.settings.ready;
    let expected = format!("a backup within {} h that is whole", ready.backup_hours);
    let Some(folder) = &ready.backups else {
        let seen = "no backup is looked at: the settings name no folder of backups (ready.backups)";
        return Finding::new("backup", Status::Warn, seen, expected);
    };
    let (at_ns, path) = match newest(folder) {
        Err(error) => return Finding::new("backup", Status::Error, error.to_string(), expected),
        Ok(None) => return Finding::of("backup", false, "there is none", expected),
        Ok(Some(newest)) => newest,
    };
    let hours = now_ns.saturating_sub(at_ns).max(0) / 3_600_000_000_000;
    let limit = i64::try_from(ready.backup_hours).unwrap_or(i64::MAX);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let age = format!("the newest, {name}, is {hours} h old");
    match State::check_copy(&path) {
        Err(why) => {
            Finding::of("backup", false, format!("{age}, and cannot be restored from: {why}"), expected)
        }
        Ok(count) => {
            let seen = format!("{age} and whole, with {count} deliveries");
            Finding::of("backup", hours <= limit, seen, expected)
        }
    }
}

/// The newest file of a folder that is no part of one, with when it was written.
fn newest(folder: &Path) -> std::io::Result<Option<(i64, PathBuf)>> {
    let mut newest = None;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let (path, meta) = (file.path(), file.metadata()?);
        let name = file.file_name();
        let name = name.to_string_lossy();
        let is_part = [".part", "-wal", "-shm", "-journal"].iter().any(|end| name.ends_with(end));
        if !meta.is_file() || is_part {
            continue;
        }
        let at = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        newest = newest.max(Some((i64::try_from(at.as_nanos()).unwrap_or(0), path)));
    }
    Ok(newest)
}
