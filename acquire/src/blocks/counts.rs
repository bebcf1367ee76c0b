//! What was asked of a service, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

/// What was asked of a service, and how often it did not answer as asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// Blocks that the list has.
    pub listed: u64,
    /// Blocks fetched, and found to be what the service says of them.
    pub fetched: u64,
    /// Requests for blocks, tries again among them.
    pub requests: u64,
    /// Pages of lists asked for.
    pub list_calls: u64,
    /// Requests tried again.
    pub retries: u64,
    /// Answers that there are too many requests.
    pub throttles: u64,
    /// Blocks that came other than announced.
    pub corrupt: u64,
    /// Lists begun anew because tokens were no longer good.
    pub relists: u64,
    /// Blocks that were fetched again after an interruption, to compare them.
    pub compared: u64,
}

impl BlockCounts {
    /// The counts as facts of a manifest.
    #[must_use]
    pub fn facts(&self) -> Map<String, Value> {
        [
            ("blocks_listed", self.listed),
            ("blocks_fetched", self.fetched),
            ("block_requests", self.requests),
            ("list_calls", self.list_calls),
            ("retries", self.retries),
            ("throttles", self.throttles),
            ("corrupt_answers", self.corrupt),
            ("relists", self.relists),
            ("blocks_compared", self.compared),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
    }
}

/// One of them, while it runs.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All of them, while it runs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) listed: Counter,
    pub(super) fetched: Counter,
    pub(super) requests: Counter,
    pub(super) list_calls: Counter,
    pub(super) retries: Counter,
    pub(super) throttles: Counter,
    pub(super) corrupt: Counter,
    pub(super) relists: Counter,
    pub(super) compared: Counter,
}

impl Counters {
    pub(super) fn counts(&self) -> BlockCounts {
        BlockCounts {
            listed: self.listed.get(),
            fetched: self.fetched.get(),
            requests: self.requests.get(),
            list_calls: self.list_calls.get(),
            retries: self.retries.get(),
            throttles: self.throttles.get(),
            corrupt: self.corrupt.get(),
            relists: self.relists.get(),
            compared: self.compared.get(),
        }
    }
}
