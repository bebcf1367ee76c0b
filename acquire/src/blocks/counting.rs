//! Counts what a list has, without reading any of it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::listing::Batch;
use super::service::{BlockService, Listed};
use super::storing::BlockSource;
use crate::error::{Error, Result};

/// How much a list has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Blocks that are present.
    pub present: u64,
    /// The first of them.
    pub first_present: Option<u64>,
    /// Blocks that the base has and this source has no more.
    pub gone: u64,
    /// Pages that were asked for.
    pub list_calls: u64,
}

impl<S: BlockService> BlockSource<S> {
    /// Follows the list to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`].
    pub fn count(&self) -> Result<Counted> {
        let reader = Arc::new(self.reader());
        let (give, mut pages) = mpsc::channel(1);
        let listing = self.runtime().spawn(Arc::clone(&reader).list_all(0, give));
        let mut counted = Counted::default();
        let whole = self.runtime().block_on(async {
            while let Some(batch) = pages.recv().await {
                let entries = match batch {
                    Batch::Blocks(entries) => entries,
                    Batch::Lost(_) => return false,
                    Batch::End => return true,
                };
                for entry in entries {
                    match entry.listed {
                        Listed::Present(_) => {
                            counted.first_present.get_or_insert(entry.index);
                            counted.present = counted.present.saturating_add(1);
                        }
                        Listed::Gone => counted.gone = counted.gone.saturating_add(1),
                    }
                }
            }
            false
        });
        listing.abort();
        counted.list_calls = reader.counters.list_calls.get();
        match reader.stopped().or(reader.lost()) {
            Some(failure) => Err(Error::Cloud(failure.clone())),
            None if whole => Ok(counted),
            None => Err(Error::Stopped),
        }
    }
}
