//! What happens to jobs, as lines of the service's log and as numbers.

use std::sync::Arc;

use custody::Clock;
use serde_json::Value;

use super::acting::{Teller, Told};
use super::runner::Standing;
use crate::server::log::{Level, Log};
use crate::server::metrics::{self, Kind, Metrics};
use crate::state::State;

/// Jobs in the state, by state.
const JOBS: &str = "exhibit_jobs";
/// How long the oldest job has waited for a worker.
const OLDEST_JOB: &str = "exhibit_jobs_oldest_queued_seconds";

/// Alerts that were kept before, by source.
const KNOWN: &str = "exhibit_alerts_known_already_total";

/// Writes a line of each thing that happens, and counts it.
#[derive(Debug)]
pub struct LogAndCount {
    log: Log,
    metrics: Arc<Metrics>,
}

impl LogAndCount {
    /// Into this log and these numbers; how many jobs there are is looked up whenever somebody asks for the numbers.
    #[must_use]
    pub fn new(log: Log, metrics: Arc<Metrics>, state: &Arc<State>, clock: Arc<dyn Clock>) -> Self {
        metrics.describe(JOBS, Kind::Gauge, "Jobs in the state, by state.");
        metrics.describe(OLDEST_JOB, Kind::Gauge, "How long the oldest job has waited for a worker.");
        metrics.describe(
            KNOWN,
            Kind::Counter,
            "Alerts that were kept before and not decided about again, by source.",
        );
        let state = Arc::downgrade(state);
        metrics.before_scrape(move |metrics| {
            let Some(standing) = state.upgrade().and_then(|state| Standing::of(&state).ok()) else { return };
            for state in crate::state::jobs::JobState::ALL {
                let count = standing.jobs.iter().find(|(of, _)| *of == state).map_or(0, |(_, count)| *count);
                metrics.set(JOBS, &[("state", state.word())], count as f64);
            }
            let waited = standing.oldest_queued.map_or(0, |made| clock.now().wall_ns.saturating_sub(made));
            metrics.set(OLDEST_JOB, &[], waited as f64 / 1e9);
        });
        Self { log, metrics }
    }
}

impl Teller for LogAndCount {
    fn told(&self, told: &Told) {
        let text = |name: &str| told.facts.get(name).and_then(Value::as_str).unwrap_or_default();
        let is_capture = text("use").starts_with("capture.");
        match told.what {
            "step done" if is_capture => {
                let issues = told.facts.get("issues").and_then(Value::as_u64).unwrap_or(0);
                let result = if issues > 0 { "with_issues" } else { "done" };
                self.metrics.count(metrics::CAPTURES, &[("result", result)]);
                if let Some(seconds) = told.facts.get("seconds_after_alert").and_then(Value::as_f64) {
                    self.metrics.observe(metrics::FIRST_BYTE_SECONDS, &[], seconds);
                }
            }
            "alert known already" => self.metrics.count(KNOWN, &[("source", text("source"))]),
            "step failed" if is_capture => self.metrics.count(metrics::CAPTURES, &[("result", "failed")]),
            _ => {}
        }
        let level = match told.what {
            "job given up" | "cannot be taken back" | "could not go on" | "alert not understood" => {
                Level::Alarm
            }
            "step failed"
            | "job returned"
            | "step failed for now"
            | "not taken back yet"
            | "plan not admitted"
            | "approval wanted"
            | "log could not be written" => Level::Warning,
            _ => Level::Info,
        };
        let mut fields: Vec<(&str, Value)> = Vec::new();
        if !told.job.is_empty() {
            fields.push(("job", told.job.clone().into()));
        }
        fields.extend(told.facts.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let event = told.what.replace(' ', "_");
        if told.what == "alert known already" {
            // As often as a sender likes.
            self.log.write_some(level, &event, &event, &fields);
        } else {
            self.log.write(level, &event, &fields);
        }
    }
}
