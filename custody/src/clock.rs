//! The only place that asks what time it is.
//!
//! Everything else is given a [`Clock`], so that tests, replays and reports can be run at a fixed moment.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Offset as _, SecondsFormat, TimeZone as _, Utc};

use crate::error::{Error, Result};

/// What the clocks of this machine said at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock: nanoseconds since 1970-01-01 UTC. A claim of this machine, not a proof.
    pub wall_ns: i64,
    /// What the local time zone adds to UTC, in minutes.
    pub tz_min: i32,
    /// The monotonic clock in nanoseconds; only differences within one boot mean something.
    pub mono_ns: u64,
    /// The id of this boot, where the system has one.
    pub boot: Option<String>,
    /// How the wall clock is kept right, where the system says so.
    pub sync: Option<ClockSync>,
}

/// How a wall clock is kept right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSync {
    /// The service that sets the clock, such as `systemd-timesyncd`.
    pub source: String,
    /// The measured offset in microseconds, where known.
    pub offset_us: Option<i64>,
    /// `synchronised` or what the service said instead.
    pub state: String,
}

impl Moment {
    /// The wall clock as RFC 3339 in UTC with 9 digits, such as `2026-11-21T01:30:00.123456789Z`.
    pub fn rfc3339(&self) -> String {
        rfc3339(self.wall_ns)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Reads all clocks once.
    fn now(&self) -> Moment;

    /// Reads the monotonic clock alone, which is quick; see [`Moment::mono_ns`].
    fn mono_ns(&self) -> u64 {
        self.now().mono_ns
    }
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    fn now(&self) -> Moment {
        let now = Utc::now();
        Moment {
            wall_ns: now.timestamp_nanos_opt().unwrap_or_default(),
            tz_min: chrono::Local.offset_from_utc_datetime(&now.naive_utc()).fix().local_minus_utc() / 60,
            mono_ns: self.mono_ns(),
            boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()
                .map(|id| id.trim().to_owned()),
            sync: std::path::Path::new("/run/systemd/timesync/synchronized").exists().then(|| ClockSync {
                source: "systemd-timesyncd".to_owned(),
                offset_us: None,
                state: "synchronised".to_owned(),
            }),
        }
    }

    fn mono_ns(&self) -> u64 {
        let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mono_ns = i128::from(mono.tv_sec) * 1_000_000_000 + i128::from(mono.tv_nsec);
        u64::try_from(mono_ns).unwrap_or_default()
    }
}

/// A clock that starts at a given time and goes on by a fixed step at each reading.
#[derive(Debug)]
pub struct FixedClock {
    start_ns: i64,
    step_ns: u64,
    readings: AtomicU64,
}

impl FixedClock {
    /// Always says the same time.
    pub fn at(wall_ns: i64) -> Self {
        Self::stepping(wall_ns, 0)
    }

    /// Goes on by `step_ns` at each reading.
    pub fn stepping(wall_ns: i64, step_ns: u64) -> Self {
        Self { start_ns: wall_ns, step_ns, readings: AtomicU64::new(0) }
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Moment {
        let passed = self.readings.fetch_add(1, Ordering::Relaxed).saturating_mul(self.step_ns);
        Moment {
            wall_ns: self.start_ns.saturating_add_unsigned(passed),
            tz_min: 0,
            mono_ns: passed,
            boot: Some("00000000-0000-4000-8000-000000000000".to_owned()),
            sync: None,
        }
    }
}

/// Writes nanoseconds since 1970 as RFC 3339 in UTC, always with 9 digits.
pub fn rfc3339(wall_ns: i64) -> String {
    DateTime::from_timestamp_nanos(wall_ns).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// Reads what [`rfc3339`] writes, and any other RFC 3339 time.
///
/// # Errors
///
/// [`Error::Malformed`] when it is none, or outside the years 1678 to 2262.
pub fn parse_rfc3339(text: &str) -> Result<i64> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .and_then(|time| time.timestamp_nanos_opt())
        .ok_or_else(|| Error::malformed("RFC 3339 time", format!("{text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_nine_digits_and_read_back() {
        assert_eq!(rfc3339(1_795_224_600_123_456_789), "2026-11-21T01:30:00.123456789Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(parse_rfc3339("2026-11-21T02:30:00.123456789+01:00").unwrap(), 1_795_224_600_123_456_789);
        assert!(parse_rfc3339("2026-11-21").is_err());
        assert!(parse_rfc3339("9999-11-21T02:30:00Z").is_err());
    }

    #[test]
    fn the_system_clock_moves_forward() {
        let (first, second) = (SystemClock.now(), SystemClock.now());
        assert!(first.wall_ns > 1_700_000_000_000_000_000);
        assert!(second.mono_ns > first.mono_ns);
    }

    #[test]
    fn a_stepping_clock_gives_each_reading_its_own_time() {
        let clock = FixedClock::stepping(100, 5);
        assert_eq!([clock.now().wall_ns, clock.now().wall_ns, clock.now().wall_ns], [100, 105, 110]);
    }
}
