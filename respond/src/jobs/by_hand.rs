//! The plan that the service would carry out, carried out now because a person asks for it.
//!
//! It has a state of its own beside the service's, so that it can be done while that runs, goes on after a kill, and does the same
//! alert once: asked again, it says what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::acting::Acting;
use super::decider::{Intake, Undecided};
use super::governing::Govern;
use super::overview::Overview;
use super::runner::Runner;
use crate::alert::{Alert, Unparsed};
use crate::error::Result;
use crate::inventory::Asset;
use crate::rules::{Admission, Decide, Decider, Decision, Gate, History, Mode, Plan, Reason};
use crate::settings::Settings;
use crate::state::{Delivery, DeliveryStatus, NewDelivery, State, StateLock, mark_delivery};

/// Below the service's folder of state.
pub const STATE_BY_HAND: &str = "by-hand";

const LOOK: Duration = Duration::from_millis(300);

/// What a person asks for.
pub struct ByHand {
    /// The settings of the service.
    pub settings: Settings,
    /// Its rules and assets.
    pub rules: Arc<Decider>,
    /// By whose hand it is done.
    pub acting: Acting,
    /// The person.
    pub who: String,
    /// The alert as it came.
    pub body: Vec<u8>,
    /// What it says.
    pub alerts: Vec<Alert>,
}

impl ByHand {
    /// Carries it out, until all of it has ended or `stop` is set. Tells of every job whenever it looks.
    ///
    /// Steps that need somebody's yes wait for it.
    ///
    /// # Errors
    ///
    /// Those of [`Runner::start`]; [`crate::Error::InUse`] while another capture by hand runs.
    pub fn run(self, stop: &AtomicBool, mut told: impl FnMut(&[Overview])) -> Result<Vec<Overview>> {
        let mut settings = self.settings;
        settings.state = settings.state.join(STATE_BY_HAND);
        let _lock = StateLock::take(&settings.state)?;
        let state = Arc::new(State::open(&settings.state)?);
        state.store_delivery(NewDelivery {
            source: STATE_BY_HAND.to_owned(),
            received_ns: self.acting.now(),
            severity: self.alerts.iter().map(|alert| alert.severity).max().unwrap_or(0),
            body: self.body,
            headers: Vec::new(),
            sender: self.who.clone(),
            seen_as: None,
            status: DeliveryStatus::New,
            why: String::new(),
        })?;
        let intake = OneFile { state: Arc::clone(&state), alerts: self.alerts };
        let alerts = intake.alerts.clone();
        let rules = Arc::new(AskedFor { rules: self.rules, who: self.who });
        let runner = Runner::start(settings, Arc::clone(&state), Arc::new(intake), rules, self.acting)?;
        let ended = loop {
            std::thread::sleep(LOOK);
            if !state.next_undecided(1)?.is_empty() {
                continue;
            }
            let jobs = jobs_of(&state, &alerts)?;
            told(&jobs);
            if stop.load(Ordering::Relaxed) || jobs.iter().all(|one| one.job.state.has_ended()) {
                break jobs;
            }
        };
        runner.stop();
        Ok(ended)
    }
}

/// Every job that has one of these alerts.
fn jobs_of(state: &State, alerts: &[Alert]) -> Result<Vec<Overview>> {
    let mut ids: Vec<i64> = Vec::new();
    for alert in alerts {
        let found = state.with(|connection| {
            let mut statement = connection.prepare(
                "SELECT job_alerts.job FROM job_alerts JOIN alerts ON alerts.id = job_alerts.alert
                 WHERE alerts.source = ?1 AND alerts.source_id = ?2 AND alerts.occurrence = ?3",
            )?;
            let key = params![alert.source, alert.source_id, alert.occurrence];
            let found = statement.query_map(key, |row| row.get::<_, i64>(0))?;
            found.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        ids.extend(found);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut jobs = Vec::new();
    for id in ids {
        jobs.extend(Overview::of(state, id)?);
    }
    Ok(jobs)
}

/// A file with alerts that were read already.
struct OneFile {
    state: Arc<State>,
    alerts: Vec<Alert>,
}

impl Intake for OneFile {
    fn next(&self, most: usize) -> Result<Vec<Undecided>> {
        let of = |one: Delivery| Undecided {
            delivery: one.id,
            source: one.source,
            body: one.body,
            received_at: one.received_ns,
        };
        Ok(self.state.next_undecided(most)?.into_iter().map(of).collect())
    }

    fn read(&self, _: &Undecided) -> std::result::Result<Vec<Alert>, Unparsed> {
        Ok(self.alerts.clone())
    }

    fn mark(&self, connection: &Connection, delivery: i64, _: Option<&Unparsed>) -> rusqlite::Result<()> {
        mark_delivery(connection, delivery, DeliveryStatus::Decided, "")
    }

    fn body(&self, connection: &Connection, delivery: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        connection
            .query_row("SELECT body FROM deliveries WHERE id = ?1", [delivery], |row| row.get(0))
            .map(Some)
    }
}

/// The rules, where the person who asks is the yes to the plan; a step's own approval stays.
struct AskedFor {
    rules: Arc<Decider>,
    who: String,
}

impl Govern for AskedFor {
    fn decide(&self, alert: &Alert) -> Decision {
        let mut decision = Decide::decide(&*self.rules, alert);
        for plan in &mut decision.plans {
            if plan.mode != Mode::Auto {
                let what = format!("{} asks for it by hand", self.who);
                decision.reasons.push(Reason { rule: plan.rule.clone(), holds: true, what });
            }
            plan.mode = Mode::Auto;
            plan.approval = None;
        }
        decision
    }

    /// A person knows what they ask for; limits and storms are for what comes by itself.
    fn admit(&self, plan: &Plan, _: &dyn History, _: i64) -> Result<Admission> {
        Ok(Admission { plan: Some(plan.clone()), reasons: Vec::new() })
    }

    fn may_capture(&self, _: &dyn History, _: i64) -> Result<Gate> {
        Ok(Gate::Open)
    }

    fn may_isolate(&self, asset: &Asset, history: &dyn History, now: i64) -> Result<Gate> {
        self.rules.rules().may_isolate(asset, self.rules.inventory(), history, now)
    }
}
