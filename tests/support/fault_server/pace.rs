//! A bucket of tokens: so many requests a second, and a tenth of a second's worth at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) struct Pace {
    rate: f64,
    state: Mutex<(f64, Instant)>,
    refused: AtomicU64,
}

impl Pace {
    #[allow(clippy::disallowed_methods, reason = "a server's own rate, nothing of evidence")]
    pub(crate) fn new(rate: u32) -> Self {
        let rate = f64::from(rate);
        Self { rate, state: Mutex::new((rate / 10.0, Instant::now())), refused: AtomicU64::new(0) }
    }

    /// Whether one more request may be answered now.
    #[allow(clippy::disallowed_methods, reason = "a server's own rate, nothing of evidence")]
    pub(crate) fn allows_one(&self) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        let earned = now.duration_since(state.1).as_secs_f64() * self.rate;
        *state = ((state.0 + earned).min((self.rate / 10.0).max(1.0)), now);
        if state.0 >= 1.0 {
            state.0 -= 1.0;
            return true;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    pub(crate) fn is_unbounded(&self) -> bool {
        self.rate == 0.0
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
