//! Runs checks, each in a thread of its own and within its time, and keeps what came of them.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use custody::{Clock as _, SystemClock, sha256};
use serde::Serialize;

use super::check::{Check, Finding, Status, Unable, words};
use super::probe::Probe;
use super::settings::DrillKind;
use crate::error::Result;
use crate::state::State;
use crate::state::readiness::{NewResult, Waiver};

/// Checks that are run at a time: most of them wait for an answer.
const AT_A_TIME: usize = 6;

/// Bytes of raw answers that are kept of one finding; the hash is of all of them.
const MOST_EVIDENCE: usize = 1 << 20;

/// Findings of one check that are kept.
const MOST_FINDINGS: usize = 1_000;

/// Which checks.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// These ids; all, if there is none.
    pub ids: Vec<String>,
    /// These drills too.
    pub drills: Vec<DrillKind>,
}

impl Wanted {
    /// Whether a check is wanted: drills only when they are asked for, and the others not when only drills are.
    fn has(&self, check: &Check) -> bool {
        let is_named = self.ids.iter().any(|id| id == check.id);
        match check.drill {
            Some(drill) => is_named || self.drills.contains(&drill),
            None => is_named || (self.ids.is_empty() && self.drills.is_empty()),
        }
    }
}

/// What came of one check in one scope.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// `RD01` and so on.
    pub check: &'static str,
    /// What should hold.
    pub title: &'static str,
    /// `critical`, `high`, `medium`.
    pub severity: super::Severity,
    /// What it is about.
    pub scope: String,
    /// What came of it.
    pub status: Status,
    /// What was seen.
    pub observed: String,
    /// What should have been.
    pub expected: String,
    /// SHA-256 of the raw answers, where there are any.
    pub evidence_sha256: Option<String>,
    /// How long the check took.
    pub duration_ms: u64,
    /// When it ended, RFC 3339.
    pub at: String,
    /// What to do if it failed.
    pub remediation: &'static str,
    /// The checks of Prowler that ask the same.
    pub prowler: &'static [&'static str],
    /// The waiver that holds for it.
    pub waived: Option<Waiver>,
}

/// Runs checks and gives what came of each scope, in the order of the ids. `keep` is where it is kept, with its number.
///
/// A check that takes longer than its time is given up and is an `error`: its thread is left behind, since nothing can end
/// it, so the process should end soon after.
///
/// # Errors
///
/// [`crate::Error::State`] when what was found cannot be kept.
pub fn run(probe: &Arc<Probe>, wanted: &Wanted, keep: Option<&State>) -> Result<(Option<i64>, Vec<Outcome>)> {
    let checks: VecDeque<&'static Check> =
        super::all().into_iter().filter(|check| wanted.has(check)).collect();
    let run = keep.map(|state| state.begin_readiness(probe.clock.now().wall_ns)).transpose()?;
    let waiting = Mutex::new(checks);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(check) = next else { break };
                    let found = within_its_time(probe, check);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((check, found));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(check, _)| check.id);
    let now = probe.clock.now();
    // Whether results are kept or not: who answers for what is known either way.
    let known = keep.or_else(|| probe.state.as_deref().ok());
    let waivers = known.map(|state| state.waivers_at(now.wall_ns)).transpose()?.unwrap_or_default();
    let mut outcomes = Vec::new();
    for (check, (findings, duration_ms, at_ns)) in done {
        for finding in findings {
            let evidence_sha256 =
                (!finding.evidence.is_empty()).then(|| sha256(&finding.evidence).to_string());
            if let (Some(state), Some(run)) = (keep, run) {
                state.keep_readiness(&NewResult {
                    run,
                    at_ns,
                    check: check.id,
                    version: check.version,
                    severity: check.severity.word(),
                    scope: &finding.scope,
                    status: finding.status.word(),
                    observed: &finding.observed,
                    expected: &finding.expected,
                    evidence_sha256: evidence_sha256.as_deref(),
                    evidence: finding.evidence.get(..MOST_EVIDENCE).unwrap_or(&finding.evidence),
                    duration_ms,
                })?;
            }
            let waived = waivers.iter().find(|waiver| waiver.holds_for(check.id, &finding.scope)).cloned();
            outcomes.push(Outcome {
                check: check.id,
                title: check.title,
                severity: check.severity,
                scope: finding.scope,
                status: finding.status,
                observed: finding.observed,
                expected: finding.expected,
                evidence_sha256,
                duration_ms,
                at: custody::Moment { wall_ns: at_ns, ..now.clone() }.rfc3339(),
                remediation: check.remediation,
                prowler: check.prowler,
                waived,
            });
        }
    }
    if let (Some(state), Some(run)) = (keep, run) {
        state.end_readiness(run, probe.clock.now().wall_ns)?;
    }
    Ok((run, outcomes))
}

type Timed = (Vec<Finding>, u64, i64);

fn within_its_time(probe: &Arc<Probe>, check: &'static Check) -> Timed {
    let begun = Instant::now();
    let limit = Duration::from_secs(probe.settings.ready.limit_seconds.unwrap_or(check.seconds));
    let (send, receive) = channel();
    let for_thread = Arc::clone(probe);
    let started = std::thread::Builder::new().name(check.id.to_owned()).spawn(move || {
        // Nobody waits for it any more if this fails.
        let _ = send.send((check.test)(&for_thread));
    });
    let answer = match started {
        Err(error) => Err(Unable::untested(format!("no thread could be had: {error}"))),
        Ok(_) => match receive.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                Err(Unable::untested(format!("no answer within {} s", limit.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Unable::untested("the check itself ended in an error of the program"))
            }
        },
    };
    let findings = findings(check, answer);
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    (findings, duration_ms, SystemClock.now().wall_ns)
}

/// What an answer says: never a pass where nothing was tested.
fn findings(check: &Check, answer: std::result::Result<Vec<Finding>, Unable>) -> Vec<Finding> {
    match answer {
        Ok(found) if found.is_empty() => {
            vec![Finding::new(check.scope, Status::Error, "nothing was tested", check.title)]
        }
        Ok(mut found) => {
            let beyond = found.len().saturating_sub(MOST_FINDINGS);
            // What failed is kept first.
            found.sort_by_key(|finding| !finding.status.has_failed());
            found.truncate(MOST_FINDINGS);
            if beyond > 0 {
                let seen = format!("{beyond} further findings are not listed");
                found.push(Finding::new("the rest", Status::Warn, seen, check.title));
            }
            found.sort_by(|one, other| one.scope.cmp(&other.scope));
            found
        }
        Err(Unable::NotApplicable(why)) => {
            vec![Finding::new(check.scope, Status::NotApplicable, why, check.title)]
        }
        Err(Unable::CouldNotTest(why)) => {
            vec![Finding::new(check.scope, Status::Error, words(&why), check.title)]
        }
    }
}
