//! How many requests may be on their way, and how many may be sent in a second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What was not asked for in time is made up for over this time at most, so that a stall is not followed by a flood.
const MAKE_UP: Duration = Duration::from_millis(20);

/// After tasks were taken back, those already on their way are not held against the new number.
const SETTLE: Duration = Duration::from_millis(200);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives out so much in a second, evenly.
#[derive(Debug)]
pub(super) struct Allowance {
    /// 0 for no bound.
    per_second: u64,
    next: Mutex<Option<Instant>>,
}

impl Allowance {
    pub(super) fn of(per_second: u64) -> Self {
        Self { per_second, next: Mutex::new(None) }
    }

    /// Waits until `amount` more may be had.
    pub(super) async fn take(&self, amount: u64) {
        if let Some(due) = self.due(amount, Instant::now()).filter(|due| *due > Instant::now()) {
            sleep_until(due).await;
        }
    }

    /// When `amount` more may be had, which is kept free for who asked.
    fn due(&self, amount: u64, now: Instant) -> Option<Instant> {
        if self.per_second == 0 {
            return None;
        }
        let worth = u128::from(amount).saturating_mul(1_000_000_000) / u128::from(self.per_second);
        let worth = Duration::from_nanos(u64::try_from(worth).unwrap_or(u64::MAX));
        let mut next = lock(&self.next);
        let earliest = now.checked_sub(MAKE_UP).unwrap_or(now);
        let due = next.map_or(now, |next| next.max(earliest));
        *next = due.checked_add(worth).or(Some(due));
        Some(due)
    }
}

/// How many tasks may run: one more for each round that all went well, a third fewer when the service asks for it.
#[derive(Debug)]
pub(super) struct Tasks {
    state: Mutex<State>,
    changed: Notify,
    most: usize,
}

#[derive(Debug)]
struct State {
    running: usize,
    limit: f64,
    /// Until then, what is throttled was sent before the limit was lowered.
    settled: Option<Instant>,
}

impl Tasks {
    pub(super) fn new(start: usize, most: usize) -> Self {
        let most = most.max(1);
        let limit = start.clamp(1, most) as f64;
        Self { state: Mutex::new(State { running: 0, limit, settled: None }), changed: Notify::new(), most }
    }

    /// Waits until one more may run. There must be one caller only, and [`Tasks::end`] for each.
    pub(super) async fn begin(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = lock(&self.state);
                if (state.running as f64) < state.limit.floor().max(1.0) {
                    state.running += 1;
                    return;
                }
            }
            changed.await;
        }
    }

    /// One has ended.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_sub(1);
        drop(state);
        self.changed.notify_one();
    }

    /// The service answered as asked.
    pub(super) fn went_well(&self) {
        let mut state = lock(&self.state);
        // Where fewer run than may, more would change nothing.
        if state.running as f64 + 1.0 >= state.limit {
            state.limit = (state.limit + 1.0 / state.limit.max(1.0)).min(self.most as f64);
        }
    }

    /// The service asked for less.
    pub(super) fn throttled(&self) {
        self.throttled_at(Instant::now());
    }

    fn throttled_at(&self, now: Instant) {
        let mut state = lock(&self.state);
        if state.settled.is_none_or(|settled| now >= settled) {
            state.limit = (state.limit * 2.0 / 3.0).max(1.0);
            state.settled = now.checked_add(SETTLE);
        }
    }

    #[cfg(test)]
    fn limit(&self) -> f64 {
        lock(&self.state).limit
    }
}

/// A number from 0 to 1 by chance, good enough to keep many tasks from asking at the same moment.
pub(super) fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (number >> 11) as f64 / (1u64 << 53) as f64
}

/// The pause before the next try: twice as long each time, between half of it and the whole by chance.
pub(crate) fn pause(first: Duration, longest: Duration, tries: u32) -> Duration {
    let factor = 2u32.saturating_pow(tries.saturating_sub(1).min(20));
    first.saturating_mul(factor).min(longest).mul_f64(0.5 + chance() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_allowance_is_given_out_evenly_and_a_stall_is_not_followed_by_a_flood() {
        let allowance = Allowance::of(1000);
        let now = Instant::now();
        assert_eq!(allowance.due(1, now), Some(now));
        for n in 1..100u64 {
            assert_eq!(allowance.due(1, now), Some(now + Duration::from_millis(n)));
        }
        let later = now + Duration::from_secs(60);
        let at_once = (0..1000).filter(|_| allowance.due(1, later).is_some_and(|due| due <= later)).count();
        assert!((1..=21).contains(&at_once), "{at_once}");
        assert_eq!(Allowance::of(0).due(1, now), None);
    }

    #[tokio::test]
    async fn fewer_tasks_run_once_for_each_burst_of_throttling_and_more_when_all_goes_well() {
        let (tasks, now) = (Tasks::new(64, 100), Instant::now());
        for _ in 0..50 {
            tasks.throttled_at(now);
        }
        assert!((tasks.limit() - 128.0 / 3.0).abs() < 0.01, "{}", tasks.limit());
        for _ in 0..42 {
            tasks.begin().await;
        }
        for _ in 0..10_000 {
            tasks.went_well();
        }
        // 42 run, so nothing is known of what more of them would do.
        assert!(tasks.limit() < 45.0, "{}", tasks.limit());
        for _ in 0..42 {
            tasks.end();
        }
        assert_eq!(lock(&tasks.state).running, 0);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        for tries in 1..100 {
            let pause = pause(first, longest, tries);
            assert!(pause <= longest && pause >= first / 2, "{tries}: {pause:?}");
        }
        let several: std::collections::HashSet<_> = (0..10).map(|_| pause(first, longest, 5)).collect();
        assert!(several.len() > 1);
    }
}
