//! A plan is carried out by hand as the service does it: the alert is stored, decided, and its jobs are worked on.
//!
//! Where the service runs, it is the one that does it; else this program is, until the jobs of the alert have ended.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use respond::alert::Alert;
use respond::jobs::{BY_HAND, Deliveries, LogAndCount, Overview, Runner};
use respond::rules::Current;
use respond::server::Prepared;
use respond::settings::Settings;
use respond::state::jobs::{Job, JobState};
use respond::state::{DeliveryStatus, NewDelivery, State, StateLock, Stored};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::commands::jobs::this_person;
use crate::commands::serve::{acting, outfit};
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Between two looks at the state.
const LOOK: Duration = Duration::from_millis(200);

/// Jobs that are looked through for those of the alert.
const NEWEST: u32 = 500;

/// What is carried out.
pub(super) struct Order<'a> {
    /// The file of settings.
    pub(super) config: &'a Path,
    pub(super) settings: &'a Settings,
    /// The body, as the file has it.
    pub(super) body: Vec<u8>,
    /// The name of a source of the settings, or `by-hand/` and the word of its kind.
    pub(super) source: String,
    /// What the body says.
    pub(super) alerts: Vec<Alert>,
}

/// The source that a delivery by hand is kept under.
pub(super) fn by_hand(kind: &str) -> String {
    format!("{BY_HAND}{kind}")
}

pub(super) fn carry_out(order: Order<'_>, session: &Session) -> Result<Outcome, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let Order { config, settings, body, source, alerts } = order;
    let lock = match StateLock::take(&settings.state) {
        Ok(lock) => Some(lock),
        Err(respond::Error::InUse { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let state = Arc::new(State::open(&settings.state)?);
    let outfit = outfit();
    let runner = match &lock {
        None => {
            session.ui.say("the service runs: it does this");
            None
        }
        Some(_) => {
            let sources = if settings.sources.is_empty() {
                Vec::new()
            } else {
                Prepared::load(config, settings, &outfit)?.sources()
            };
            let rules = Arc::new(Current::load(settings, Arc::clone(&outfit.clock))?);
            let deliveries = Arc::new(Deliveries::new(Arc::clone(&state), sources));
            let teller = LogAndCount::new(
                outfit.log.clone(),
                Arc::clone(&outfit.metrics),
                &state,
                Arc::clone(&outfit.clock),
            );
            let acting = acting(settings, Arc::clone(&outfit.clock), Arc::new(teller), session)?;
            Some(Runner::start(settings.clone(), Arc::clone(&state), deliveries, rules, acting)?)
        }
    };
    let person = this_person()?;
    let stored = state.store_delivery(NewDelivery {
        source,
        received_ns: outfit.clock.now().wall_ns,
        body,
        headers: Vec::new(),
        sender: format!("{}, by hand", person.name),
        seen_as: None,
        status: DeliveryStatus::New,
        severity: alerts.iter().map(|alert| alert.severity).max().unwrap_or(0),
        why: String::new(),
    });
    let ended = stored.map_err(Failure::from).and_then(|stored| {
        let (Stored::New(delivery) | Stored::Again(delivery)) = stored;
        wait(&state, delivery, &alerts, &stop)
    });
    if let Some(runner) = runner {
        runner.stop();
    }
    tell(&ended?, stop.load(Ordering::Relaxed), session)
}

/// Waits until the delivery is decided and its jobs have ended, or wait for somebody.
fn wait(state: &State, delivery: i64, alerts: &[Alert], stop: &AtomicBool) -> Result<Vec<Job>, Failure> {
    loop {
        let status = state.delivery(delivery)?.map_or(DeliveryStatus::Decided, |delivery| delivery.status);
        let jobs = jobs_of(state, delivery, alerts)?;
        let is_over = |job: &Job| job.state.has_ended() || job.state == JobState::Waiting;
        if stop.load(Ordering::Relaxed) || status != DeliveryStatus::New && jobs.iter().all(is_over) {
            return Ok(jobs);
        }
        std::thread::sleep(LOOK);
    }
}

/// Jobs that have one of the alerts, whether it came now or was known.
fn jobs_of(state: &State, delivery: i64, alerts: &[Alert]) -> Result<Vec<Job>, Failure> {
    let same: BTreeSet<(&str, &str, &str)> = alerts
        .iter()
        .filter(|alert| !alert.source_id.is_empty())
        .map(|alert| (alert.source.as_str(), alert.source_id.as_str(), alert.occurrence.as_str()))
        .collect();
    let mut found = Vec::new();
    for job in Overview::list(state, &[], NEWEST)? {
        let Some(overview) = Overview::of(state, job.id)? else { continue };
        let is_of_alert = overview.alerts.iter().any(|(stored, _)| {
            let alert = &stored.alert;
            stored.delivery == delivery
                || same.contains(&(
                    alert.source.as_str(),
                    alert.source_id.as_str(),
                    alert.occurrence.as_str(),
                ))
        });
        if is_of_alert {
            found.push(overview.job);
        }
    }
    found.sort_by_key(|job| job.id);
    Ok(found)
}

fn tell(jobs: &[Job], is_stopped: bool, session: &Session) -> Result<Outcome, Failure> {
    if session.ui.is_json() {
        let rows: Vec<_> = jobs
            .iter()
            .map(|job| json!({"job": job.name(), "state": job.state.word(), "why": job.why, "case": job.case_folder}))
            .collect();
        session.ui.document(&json!({ "jobs": rows }))?;
    } else {
        let row = |job: &Job| {
            let case = job.case_folder.clone().unwrap_or_default();
            vec![job.name(), job.state.word().to_owned(), case, job.why.clone()]
        };
        session.ui.table(&["job", "state", "case", "why"], jobs.iter().map(row).collect())?;
    }
    if is_stopped {
        session.ui.warn("stopped: what was begun is gone on with by the service, or by this command again");
    }
    if jobs.iter().any(|job| job.state == JobState::Waiting) {
        session.ui.say("a job waits: exhibit jobs show says for whom, exhibit jobs approve answers");
    }
    if jobs.is_empty() {
        session.ui.say("no job was made; limits and storms of the rules may have kept it from that");
    }
    let is_good = |job: &Job| matches!(job.state, JobState::Done | JobState::Observed);
    Ok(if !jobs.is_empty() && jobs.iter().all(is_good) { Outcome::Done } else { Outcome::WithIssues })
}
