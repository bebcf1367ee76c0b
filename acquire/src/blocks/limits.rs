//! How much of a service may be asked for, and how long for what.

use std::time::Duration;

/// Bounds on what is asked of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Blocks fetched at a time when it begins.
    pub tasks: usize,
    /// The same at most.
    pub most_tasks: usize,
    /// Blocks asked for in a second at most: the account's quota, or less; 0 for no bound.
    pub requests_per_second: u32,
    /// Pages of a list asked for in a second at most; 0 for no bound.
    pub lists_per_second: u32,
    /// Bytes read in a second at most; 0 for no bound.
    pub bytes_per_second: u64,
    /// Bytes of blocks that are on their way or wait for those before them.
    pub window_bytes: usize,
    /// Times that one request is tried.
    pub tries: u32,
    /// Times that one request is tried that the service puts off because there are too many.
    pub throttled_tries: u32,
    /// The first pause before another try; each is twice as long as the one before, and shortened by chance.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Time that one try may take.
    pub attempt: Duration,
    /// For so long a source that could be listed is asked for again when it is said not to be there; then that is believed.
    pub gone_after: Duration,
    /// So many blocks in a row, unreadable for one cause, are no longer taken for faults of blocks: the acquisition stops.
    pub most_unreadable: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks: 64,
            most_tasks: 192,
            requests_per_second: 1000,
            lists_per_second: 50,
            bytes_per_second: 0,
            window_bytes: 128 << 20,
            tries: 8,
            throttled_tries: 40,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            attempt: Duration::from_secs(30),
            gone_after: Duration::from_secs(60),
            most_unreadable: 1000,
        }
    }
}
