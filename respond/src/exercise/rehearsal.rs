//! An alert on the service's own way to jobs: stored, read, decided, held to the limits, made into jobs with their steps.
//!
//! It is the loop that decides in the service, over a state of its own that has no worker: nothing is done, and nothing stays.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use custody::{Identity, SigningKey};

use super::Workplace;
use crate::alert::Alert;
use crate::inventory::Inventory;
use crate::jobs::{Acting, BY_HAND, Deliveries, OUR_FORM, Overview, Runner};
use crate::ready::{Probe, Unable};
use crate::rules::{Decider, RuleSet};
use crate::state::jobs::Job;
use crate::state::{DeliveryStatus, NewDelivery, State, Stored};

/// Longer than that no decision takes, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks at the state.
const LOOK: Duration = Duration::from_millis(20);

/// More jobs one alert does not make: it has at most 500 assets.
const MOST_JOBS: u32 = 10_000;

/// What became of an alert.
pub(super) struct Rehearsed {
    /// Its jobs, in the order in which they were made.
    pub(super) jobs: Vec<Job>,
    /// How many there were after the same had come a second time.
    pub(super) after_again: usize,
    /// From its arrival to its jobs.
    pub(super) seconds: f64,
}

pub(super) fn jobs_of(
    probe: &Probe,
    rules: RuleSet,
    inventory: Inventory,
    alert: &Alert,
) -> Result<Rehearsed, Unable> {
    let place = Workplace::make(probe)?;
    let mut settings = probe.settings.clone();
    settings.state = place.0.join("state");
    settings.cases = place.0.join("cases");
    settings.jobs.workers = 0;
    let state = Arc::new(State::open(&settings.state)?);
    let acting = Acting {
        program: probe.program.clone(),
        // Nothing is signed here.
        key: Arc::new(SigningKey::generate()?),
        clock: Arc::clone(&probe.clock),
        identity: Identity::default(),
        teller: Arc::new(()),
    };
    let intake = Arc::new(Deliveries::new(Arc::clone(&state), Vec::new()));
    let decider = Decider::new(Arc::new(rules), Arc::new(inventory), Arc::clone(&probe.clock));
    let runner = Runner::start(settings, Arc::clone(&state), intake, Arc::new(decider), acting)?;
    let rehearsed = send_twice(probe, &state, alert);
    runner.stop();
    rehearsed
}

fn send_twice(probe: &Probe, state: &State, alert: &Alert) -> Result<Rehearsed, Unable> {
    let begun = Instant::now();
    let mut jobs = sent(probe, state, alert)?;
    let seconds = begun.elapsed().as_secs_f64();
    jobs.reverse();
    let after_again = sent(probe, state, alert)?.len();
    Ok(Rehearsed { jobs, after_again, seconds })
}

/// Stores an alert, waits until it is decided, and gives all jobs that there are then.
fn sent(probe: &Probe, state: &State, alert: &Alert) -> Result<Vec<Job>, Unable> {
    let delivery = NewDelivery {
        source: format!("{BY_HAND}{OUR_FORM}"),
        received_ns: probe.clock.now().wall_ns,
        body: serde_json::to_vec(alert)?,
        headers: Vec::new(),
        sender: "an exercise".to_owned(),
        seen_as: None,
        status: DeliveryStatus::New,
        severity: alert.severity,
        why: String::new(),
    };
    let (Stored::New(id) | Stored::Again(id)) = state.store_delivery(delivery)?;
    let begun = Instant::now();
    loop {
        let kept =
            state.delivery(id)?.ok_or_else(|| untested("the alert was stored and is gone".to_owned()))?;
        match kept.status {
            DeliveryStatus::New if begun.elapsed() > PATIENCE => {
                return Err(untested(format!("the alert was not decided within {} s", PATIENCE.as_secs())));
            }
            DeliveryStatus::New => thread::sleep(LOOK),
            DeliveryStatus::Decided => return Ok(Overview::list(state, &[], MOST_JOBS)?),
            DeliveryStatus::Unparsed | DeliveryStatus::Control => {
                return Err(untested(format!("the alert was not understood: {}", kept.why)));
            }
        }
    }
}

fn untested(why: String) -> Unable {
    Unable::CouldNotTest(why)
}
