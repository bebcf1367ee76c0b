//! Reads no faster than somebody allows: a live server has other work to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use custody::bundle::{Source as SourceFacts, State};
use custody::clock::Clock;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::reading::Patience;
use crate::source::{Issues, Source};

/// A read takes at most this part of a second's allowance, so that the flow is even.
const PARTS: u64 = 20;

/// No read is cut shorter than this, nor off this boundary: `O_DIRECT` would refuse it.
const LEAST: u64 = 4 << 10;

/// What was not read in time is made up for over this time at most, so that a stall is not followed by a flood.
const MAKE_UP_NS: u64 = 100_000_000;

/// The longest sleep, so that a changed rate is soon obeyed.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Bytes a second, shared with whoever may change it while the acquisition runs.
#[derive(Debug, Clone)]
pub struct Rate(Arc<AtomicU64>);

impl Rate {
    /// At most so many bytes a second; 0 is as fast as it goes.
    #[must_use]
    pub fn of(bytes_per_second: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes_per_second)))
    }

    /// Changes it, also while something is read at this rate.
    pub fn set(&self, bytes_per_second: u64) {
        self.0.store(bytes_per_second, Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A source that is read at a bounded rate, and with bounded patience.
pub(crate) struct Paced<'a> {
    inner: &'a mut dyn Source,
    clock: &'a dyn Clock,
    patience: Patience,
    pace: Pace,
}

impl<'a> Paced<'a> {
    pub(crate) fn new(
        inner: &'a mut dyn Source,
        rate: Rate,
        patience: Patience,
        clock: &'a dyn Clock,
    ) -> Self {
        Self { inner, clock, patience, pace: Pace { rate, next_ns: 0 } }
    }

    fn paced(
        &mut self,
        buf: &mut [u8],
        read: impl FnOnce(&mut dyn Source, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.pace.wait(self.clock.mono_ns());
        let most = self.pace.most(buf.len());
        let result = read(self.inner, buf.get_mut(..most).unwrap_or_default());
        // A read that failed has kept the disk busy all the same.
        self.pace.took(*result.as_ref().unwrap_or(&most), self.clock.mono_ns());
        result
    }
}

/// When the next byte may be read.
struct Pace {
    rate: Rate,
    next_ns: u64,
}

impl Pace {
    /// How much of a read may be done at once.
    fn most(&self, length: usize) -> usize {
        match self.rate.get() {
            0 => length,
            rate => length.min(usize::try_from((rate / PARTS / LEAST).max(1) * LEAST).unwrap_or(length)),
        }
    }

    /// Sleeps until the next read is due. The clock is read once: one that stands still must not stop the run.
    fn wait(&self, now_ns: u64) {
        let mut left = Duration::from_nanos(self.next_ns.saturating_sub(now_ns));
        let rate = self.rate.get();
        while !left.is_zero() && self.rate.get() == rate {
            let nap = left.min(LONGEST_SLEEP);
            thread::sleep(nap);
            left -= nap;
        }
    }

    /// Puts the next read off by what this one was worth.
    fn took(&mut self, bytes: usize, now_ns: u64) {
        let rate = self.rate.get();
        if rate == 0 {
            self.next_ns = 0;
            return;
        }
        let worth = (bytes as u128).saturating_mul(1_000_000_000) / u128::from(rate);
        let earliest = self.next_ns.max(now_ns.saturating_sub(MAKE_UP_NS));
        self.next_ns = earliest.saturating_add(u64::try_from(worth).unwrap_or(u64::MAX));
    }
}

impl Source for Paced<'_> {
    fn facts(&self) -> SourceFacts {
        self.inner.facts()
    }

    fn size(&self) -> Option<u64> {
        self.inner.size()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.paced(buf, |inner, buf| inner.read_at(offset, buf))
    }

    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.paced(buf, |inner, buf| inner.reread_at(offset, buf))
    }

    fn run_at(&mut self, offset: u64) -> io::Result<Option<(State, u64)>> {
        self.inner.run_at(offset)
    }

    fn stopped_by(&mut self) -> Option<Error> {
        self.inner.stopped_by()
    }

    fn is_seekable(&self) -> bool {
        self.inner.is_seekable()
    }

    fn patience(&self) -> Patience {
        self.patience
    }

    fn begin(&mut self, issues: &mut Issues) {
        self.inner.begin(issues);
    }

    fn end(&mut self, issues: &mut Issues) {
        self.inner.end(issues);
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.inner.facts_after()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_read_puts_the_next_one_off_by_its_worth() {
        let mut pace = Pace { rate: Rate::of(1_000_000), next_ns: 0 };
        pace.took(50_000, 1_000_000_000);
        // 50 ms of worth, counted from the 100 ms that may be made up for.
        assert_eq!(pace.next_ns, 950_000_000);
        pace.took(50_000, 1_000_000_000);
        pace.took(50_000, 1_000_000_000);
        assert_eq!(pace.next_ns, 1_050_000_000);
        // An hour's stall is not followed by a flood.
        pace.took(1000, 3_600_000_000_000);
        assert_eq!(pace.next_ns, 3_599_901_000_000);
    }

    #[test]
    fn reads_are_cut_to_an_even_flow_and_never_off_the_boundary() {
        let pace = Pace { rate: Rate::of(200_000_000), next_ns: 0 };
        let most = pace.most(16 << 20);
        assert!(most.is_multiple_of(4096) && most <= 10_000_000 && most > 9_900_000, "{most}");
        pace.rate.set(1);
        assert_eq!((pace.most(16 << 20), pace.most(100)), (4096, 100));
        pace.rate.set(0);
        assert_eq!(pace.most(16 << 20), 16 << 20);
    }
}
