//! What the service watches in itself: old ids, disks, the clock, what waits too long.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Door;
use super::log::Level;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(30);

/// Between two times of forgetting ids.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Between two alarms about the same.
const ALARM_EVERY: Duration = Duration::from_secs(600);

/// The wall clock may drift from the monotonic one by so much between two looks.
const MOST_DRIFT_NS: i128 = 30_000_000_000;

/// An undecided delivery that waits longer is told.
const LONGEST_WAIT_S: i64 = 300;

/// Looks until the door is closed.
pub(super) fn start(door: &Arc<Door>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let door = Arc::downgrade(door);
    std::thread::Builder::new().name("housekeeping".to_owned()).spawn(move || watch(&door))
}

fn watch(door: &Weak<Door>) {
    let mut looked = Instant::now();
    let mut forgot: Option<Instant> = None;
    let mut alarmed: Option<Instant> = None;
    let mut last_clock: Option<(i64, u64)> = None;
    loop {
        let Some(door) = door.upgrade() else { return };
        if door.is_stopping() {
            return;
        }
        let is_time = looked.elapsed() >= EVERY || last_clock.is_none();
        if is_time {
            looked = Instant::now();
            let now = door.clock.now();
            if let Some((wall, mono)) = last_clock {
                watch_clock(
                    &door,
                    i128::from(now.wall_ns) - i128::from(wall),
                    i128::from(now.mono_ns) - i128::from(mono),
                );
            }
            last_clock = Some((now.wall_ns, now.mono_ns));
            if forgot.is_none_or(|then| then.elapsed() >= FORGET_EVERY) {
                forgot = Some(Instant::now());
                if let Err(error) = door.state.forget_old_ids(now.wall_ns) {
                    door.log.write(Level::Alarm, "ids_not_forgotten", &[("why", json!(error.to_string()))]);
                }
            }
            if alarmed.is_none_or(|then| then.elapsed() >= ALARM_EVERY)
                && watch_queue_and_disk(&door, now.wall_ns)
            {
                alarmed = Some(Instant::now());
            }
        }
        drop(door);
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A clock that jumps makes windows of signed times wrong, and the order in the custody log doubtful.
fn watch_clock(door: &Door, wall_ns: i128, mono_ns: i128) {
    let drift = wall_ns - mono_ns;
    if drift.abs() > MOST_DRIFT_NS {
        let seconds = i64::try_from(drift / 1_000_000_000).unwrap_or_default();
        door.log.write(Level::Alarm, "clock_jumped", &[("seconds", json!(seconds))]);
    }
}

/// Says whether something was wrong.
fn watch_queue_and_disk(door: &Door, now_ns: i64) -> bool {
    let faults = door.health.faults(&door.state);
    if !faults.is_empty() {
        door.log.write(Level::Alarm, "unhealthy", &[("why", json!(faults))]);
    }
    let waits = match door.state.count_deliveries() {
        Ok(counts) => counts.oldest_new_ns.map_or(0, |then| now_ns.saturating_sub(then) / 1_000_000_000),
        Err(_) => 0,
    };
    if waits > LONGEST_WAIT_S {
        door.log.write(Level::Alarm, "undecided_for_long", &[("oldest_seconds", json!(waits))]);
    }
    !faults.is_empty() || waits > LONGEST_WAIT_S
}
