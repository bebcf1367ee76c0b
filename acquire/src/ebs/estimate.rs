//! What reading a snapshot will take, before it is read.

use super::service::{BLOCK, SnapshotBlocks};
use crate::aws::{Connection, Failure};
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
    /// Why no block can be read, if so: one was tried.
    pub unreadable: Option<Failure>,
}

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
            unreadable: None,
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
    let first = connection.wait(async {
        let page = blocks.list(ListFrom::Block(counted.first_present.unwrap_or(0))).await.ok()?;
        let (index, listed) = page.blocks.into_iter().next()?;
        let Listed::Present(token) = listed else { return None };
        let mut room = vec![0; BLOCK as usize];
        blocks.fetch(index, &token, &mut room).await.err()
    });
    let estimate =
        Estimate::of(source.size(), counted.present, counted.list_calls, source.requests_per_second());
    Ok(Estimate { unreadable: first, ..estimate })
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
