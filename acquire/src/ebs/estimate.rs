//! What reading a snapshot will take, before it is read.

use std::time::Duration;

use super::service::{BLOCK, SnapshotBlocks};
use crate::aws::{Connection, Failure, FailureKind};
use crate::blocks::{BlockService, BlockSource, ListFrom, Listed};
use crate::error::Result;

/// Where the prices hold; in other regions they may differ. Reference: "Amazon EBS pricing", EBS direct APIs.
pub const PRICE_REGION: &str = "us-east-1";

/// Billionths of a dollar for a page of a list, and for a block: $0.0006 and $0.003 a thousand.
const LIST_PRICE: u64 = 600;
const BLOCK_PRICE: u64 = 3000;

/// What reading a snapshot will take.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// Bytes of the volume.
    pub volume_bytes: u64,
    /// Blocks that will be fetched.
    pub blocks: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Pages of the list: as many again as were asked for to make this estimate.
    pub list_calls: u64,
    /// Seconds it takes at the most requests that are allowed in a second, where nothing else is slower.
    pub seconds: u64,
    /// What the requests cost, in billionths of a dollar, at the prices of [`PRICE_REGION`]. Traffic is not in it.
    pub nano_dollars: u64,
    /// What came of reading one block; `None` while there is no snapshot to read from.
    pub trial: Option<Trial>,
}

/// What came of reading one block.
#[derive(Debug, Clone)]
pub enum Trial {
    /// It could be read.
    Read,
    /// The list has no block, so none was tried.
    NoneListed,
    /// None was tried, for the list could not be had a second time.
    NotTried(Failure),
    /// It could not be read.
    Unreadable(Failure),
}

/// Times that a block is tried to be read, and the pause between.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// Pages without a block that are followed to find the one to try.
const MOST_PAGES: u32 = 100;

/// Blocks that a page of a list may hold.
const PAGE: u64 = 10_000;

impl Estimate {
    /// What reading a snapshot of a volume takes at most, with every block written: all that is known before there is one.
    #[must_use]
    pub fn at_most(volume_bytes: u64, requests_per_second: u32) -> Self {
        let blocks = volume_bytes.div_ceil(u64::from(BLOCK));
        Self::of(volume_bytes, blocks, blocks.div_ceil(PAGE), requests_per_second)
    }

    fn of(volume_bytes: u64, blocks: u64, list_calls: u64, requests_per_second: u32) -> Self {
        Self {
            volume_bytes,
            blocks,
            bytes: blocks.saturating_mul(u64::from(BLOCK)),
            list_calls,
            seconds: blocks.div_ceil(u64::from(requests_per_second.max(1))),
            nano_dollars: blocks
                .saturating_mul(BLOCK_PRICE)
                .saturating_add(list_calls.saturating_mul(LIST_PRICE)),
            trial: None,
        }
    }
}

/// Lists a snapshot to its end, or what differs from a base, and reads one block.
pub(super) fn estimate(
    connection: &Connection,
    blocks: &SnapshotBlocks,
    source: &BlockSource<SnapshotBlocks>,
) -> Result<Estimate> {
    let counted = source.count()?;
    let trial = connection.wait(tried(blocks, counted.first_present));
    let estimate =
        Estimate::of(source.size(), counted.present, counted.list_calls, source.requests_per_second());
    Ok(Estimate { trial: Some(trial), ..estimate })
}

/// Tries to read the first block, again where that may help.
async fn tried(blocks: &SnapshotBlocks, first: Option<u64>) -> Trial {
    let Some(first) = first else { return Trial::NoneListed };
    let mut room = vec![0; BLOCK as usize];
    let mut tries = 1;
    loop {
        let trial = tried_once(blocks, first, &mut room).await;
        let (Trial::NotTried(failure) | Trial::Unreadable(failure)) = &trial else { return trial };
        // A token that is refused is another one in the next list.
        let may_pass = failure.kind.is_worth_another_try() || failure.kind == FailureKind::Token;
        if !may_pass || tries >= TRIES {
            return trial;
        }
        tokio::time::sleep(PAUSE.saturating_mul(tries)).await;
        tries += 1;
    }
}

async fn tried_once(blocks: &SnapshotBlocks, first: u64, room: &mut [u8]) -> Trial {
    let mut next = Some(ListFrom::Block(first));
    let mut pages = 0;
    while let Some(from) = next.take().filter(|_| pages < MOST_PAGES) {
        pages += 1;
        let page = match blocks.list(from).await {
            Ok(page) => page,
            Err(failure) => return Trial::NotTried(failure),
        };
        let present = page.blocks.into_iter().find_map(|(index, listed)| match listed {
            Listed::Present(token) => Some((index, token)),
            Listed::Gone => None,
        });
        if let Some((index, token)) = present {
            return match blocks.fetch(index, &token, room).await {
                Ok(_) => Trial::Read,
                Err(failure) => Trial::Unreadable(failure),
            };
        }
        // Empty, or of blocks that the base alone has.
        next = page.next.map(ListFrom::Page);
    }
    let what = "the list has a block no more that it had a moment before";
    Trial::NotTried(Failure::found(SnapshotBlocks::LIST, FailureKind::Corrupt, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_tebibyte_takes_35_minutes_and_6_dollars_at_the_quota() {
        let most = Estimate::at_most(1 << 40, 1000);
        assert_eq!((most.blocks, most.list_calls, most.seconds / 60), (2_097_152, 210, 34));
        assert_eq!(most.nano_dollars / 10_000_000, 629);
    }
}
