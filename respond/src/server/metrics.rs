//! Counters, gauges and histograms in Prometheus' text format, written by hand. A module adds its own by [`Metrics::describe`].

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More series of one name are added up in one with the label `more`.
const MOST_SERIES: usize = 256;

/// Requests that were answered, by HTTP status.
pub const ANSWERS: &str = "exhibit_answers_total";
/// Deliveries stored, by source.
pub const STORED: &str = "exhibit_deliveries_stored_total";
/// Deliveries that were stored before, by source.
pub const REPEATED: &str = "exhibit_deliveries_repeated_total";
/// Deliveries of a known sender that could not be read, by source.
pub const UNPARSED: &str = "exhibit_deliveries_unparsed_total";
/// Requests refused, by reason.
pub const REFUSED: &str = "exhibit_requests_refused_total";
/// From the first byte of a request to its answer.
pub const REQUEST_SECONDS: &str = "exhibit_request_seconds";
/// How long commits take.
pub const COMMIT_SECONDS: &str = "exhibit_commit_seconds";
/// Deliveries in the state, by status.
pub const DELIVERIES: &str = "exhibit_deliveries";
/// How long the oldest undecided delivery has waited.
pub const OLDEST_SECONDS: &str = "exhibit_queue_oldest_seconds";
/// When a source last sent something.
pub const LAST_SECONDS: &str = "exhibit_last_delivery_timestamp_seconds";
/// From an alert's arrival to the first byte of evidence.
pub const FIRST_BYTE_SECONDS: &str = "exhibit_alert_to_first_byte_seconds";
/// Captures ended, by result: `done`, `with_issues`, `failed`.
pub const CAPTURES: &str = "exhibit_captures_total";
/// Connections open now.
pub const CONNECTIONS: &str = "exhibit_connections";
/// Idle connections closed because there were too many.
pub const EVICTED: &str = "exhibit_connections_evicted_total";
/// Reloads, by result: `done`, `failed`.
pub const RELOADS: &str = "exhibit_reloads_total";
/// Whether the last reload failed, so that what runs is not what the files say.
pub const RELOAD_FAILED: &str = "exhibit_reload_failed";
/// Bytes free where the state and the cases lie.
pub const DISK_FREE: &str = "exhibit_disk_free_bytes";

const SHORT: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0];
const LONG: &[f64] = &[1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// What a name counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many fell below each bound.
    Histogram(&'static [f64]),
}

/// Everything that is counted.
pub struct Metrics {
    families: Mutex<BTreeMap<&'static str, Family>>,
    before: Mutex<Vec<Before>>,
}

type Before = Box<dyn Fn(&Metrics) + Send + Sync>;

struct Family {
    kind: Kind,
    help: &'static str,
    series: BTreeMap<String, Series>,
}

#[derive(Default)]
struct Series {
    value: f64,
    /// Of a histogram: how many fell below each bound, and how many there were; `value` is their sum.
    below: Vec<u64>,
    count: u64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// With the names of this module.
    pub fn new() -> Self {
        let metrics = Self { families: Mutex::default(), before: Mutex::default() };
        for (name, kind, help) in [
            (ANSWERS, Kind::Counter, "Requests answered, by HTTP status."),
            (STORED, Kind::Counter, "Deliveries stored, by source."),
            (REPEATED, Kind::Counter, "Deliveries that had been stored before, by source."),
            (UNPARSED, Kind::Counter, "Deliveries of a known sender that could not be read, by source."),
            (REFUSED, Kind::Counter, "Requests refused, by reason."),
            (REQUEST_SECONDS, Kind::Histogram(SHORT), "From a request's head to its answer."),
            (COMMIT_SECONDS, Kind::Histogram(SHORT), "How long one durable commit takes."),
            (DELIVERIES, Kind::Gauge, "Deliveries in the state, by status."),
            (OLDEST_SECONDS, Kind::Gauge, "How long the oldest undecided delivery has waited."),
            (LAST_SECONDS, Kind::Gauge, "When a source last sent something, Unix time."),
            (
                FIRST_BYTE_SECONDS,
                Kind::Histogram(LONG),
                "From an alert's arrival to the first byte of evidence.",
            ),
            (CAPTURES, Kind::Counter, "Captures ended, by result."),
            (CONNECTIONS, Kind::Gauge, "Connections open now."),
            (EVICTED, Kind::Counter, "Idle connections closed because there were too many."),
            (RELOADS, Kind::Counter, "Reloads of rules and secrets, by result."),
            (
                RELOAD_FAILED,
                Kind::Gauge,
                "1 when the last reload failed: what runs is not what the files say.",
            ),
            (DISK_FREE, Kind::Gauge, "Bytes free, by folder."),
        ] {
            metrics.describe(name, kind, help);
        }
        metrics
    }

    /// Says what a name counts. Whoever describes it first is right.
    pub fn describe(&self, name: &'static str, kind: Kind, help: &'static str) {
        self.families().entry(name).or_insert_with(|| Family { kind, help, series: BTreeMap::new() });
    }

    /// Runs before each scrape, to set gauges that cost something to know.
    pub fn before_scrape(&self, set: impl Fn(&Self) + Send + Sync + 'static) {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(set));
    }

    /// Adds to a counter.
    pub fn add(&self, name: &'static str, labels: &[(&str, &str)], more: f64) {
        self.change(name, labels, |series, _| series.value += more);
    }

    /// Adds one to a counter.
    pub fn count(&self, name: &'static str, labels: &[(&str, &str)]) {
        self.add(name, labels, 1.0);
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.change(name, labels, |series, _| series.value = value);
    }

    /// Adds one observation to a histogram.
    pub fn observe(&self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.change(name, labels, |series, kind| {
            let Kind::Histogram(bounds) = kind else { return };
            series.below.resize(bounds.len(), 0);
            for (below, bound) in series.below.iter_mut().zip(bounds) {
                *below += u64::from(value <= *bound);
            }
            series.count += 1;
            series.value += value;
        });
    }

    /// The value of one series; of a histogram, how many observations it has.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.families();
        let series =
            families.get(name).and_then(|family| Some((family.kind, family.series.get(&text_of(labels))?)));
        match series {
            Some((Kind::Histogram(_), series)) => series.count as f64,
            Some((_, series)) => series.value,
            None => 0.0,
        }
    }

    /// Everything, as Prometheus reads it.
    pub fn text(&self) -> String {
        for set in self.before.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            set(self);
        }
        let mut out = String::new();
        for (name, family) in self.families().iter() {
            // Writing to a text cannot fail.
            let _ = family.write(name, &mut out);
        }
        out
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &'static str, labels: &[(&str, &str)], change: impl FnOnce(&mut Series, Kind)) {
        let mut families = self.families();
        let family = families.entry(name).or_insert_with(|| Family {
            kind: Kind::Gauge,
            help: "",
            series: BTreeMap::new(),
        });
        let mut text = text_of(labels);
        if family.series.len() >= MOST_SERIES && !family.series.contains_key(&text) {
            text = "more=\"true\"".to_owned();
        }
        change(family.series.entry(text).or_default(), family.kind);
    }
}

impl Family {
    fn write(&self, name: &str, out: &mut String) -> fmt::Result {
        let word = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        writeln!(out, "# HELP {name} {}\n# TYPE {name} {word}", self.help)?;
        for (labels, series) in &self.series {
            let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let Kind::Histogram(bounds) = self.kind else {
                writeln!(out, "{name}{braced} {}", series.value)?;
                continue;
            };
            let comma = if labels.is_empty() { "" } else { "," };
            for (bound, below) in bounds.iter().zip(&series.below) {
                writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}")?;
            }
            writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", series.count)?;
            writeln!(out, "{name}_sum{braced} {}\n{name}_count{braced} {}", series.value, series.count)?;
        }
        Ok(())
    }
}

/// `name="value"` of each label. What a value holds cannot end it.
fn text_of(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars().take(128) {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c if c.is_control() => out.push('?'),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::new();
        metrics.count(REFUSED, &[("reason", "bad\n\"x\\")]);
        metrics.count(REFUSED, &[("reason", "old_time")]);
        metrics.add(REFUSED, &[("reason", "old_time")], 2.0);
        metrics.observe(REQUEST_SECONDS, &[], 0.004);
        metrics.observe(REQUEST_SECONDS, &[], 20.0);
        metrics.before_scrape(|metrics| metrics.set(CONNECTIONS, &[], 3.0));
        let text = metrics.text();
        for line in [
            "# TYPE exhibit_requests_refused_total counter",
            "exhibit_requests_refused_total{reason=\"bad\\n\\\"x\\\\\"} 1",
            "exhibit_requests_refused_total{reason=\"old_time\"} 3",
            "exhibit_request_seconds_bucket{le=\"0.0025\"} 0",
            "exhibit_request_seconds_bucket{le=\"0.005\"} 1",
            "exhibit_request_seconds_bucket{le=\"+Inf\"} 2",
            "exhibit_request_seconds_sum 20.004",
            "exhibit_request_seconds_count 2",
            "exhibit_connections 3",
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
        assert_eq!(metrics.value(REFUSED, &[("reason", "old_time")]), 3.0);
    }

    #[test]
    fn strangers_cannot_make_series_without_end() {
        let metrics = Metrics::new();
        for number in 0..10_000 {
            metrics.count(REFUSED, &[("reason", &number.to_string())]);
        }
        assert!(metrics.text().lines().count() < 400);
        assert_eq!(metrics.value(REFUSED, &[("more", "true")]), 10_000.0 - 256.0);
    }
}
