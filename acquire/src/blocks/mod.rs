//! Sources that are read as numbered blocks over a network, such as snapshots in a cloud.
//!
//! A [`BlockService`] lists which blocks there are and gives each of them; what drives it is here, once for all of them:
//!
//! - Listing runs ahead of fetching by a few pages. An order that cannot be, or pages that go round in a circle, end it.
//! - Blocks are fetched by many tasks at a time: more while all goes well, fewer at once when the service asks for it, and
//!   never more requests a second than were allowed. What failed is tried again after a pause, if that can help.
//! - Tokens that are no longer good are listed anew from the block that needs one.
//! - Blocks wait for those before them in a window of bounded size, and are stored in order.
//!
//! Every block of the source ends in one state: `data`, `zero`, `absent` (not listed), `base` (not listed as changed), or
//! `unreadable`, which is always an issue too. Where it is not the block that fails but the service or the permission,
//! the acquisition stops and can be taken up again: a block is unreadable only once it has failed twice over with the source
//! listed between, and many in a row, for one cause, are none of them.

#[cfg(test)]
mod at_scale;
mod checking;
mod counting;
mod counts;
mod fetching;
mod limits;
mod listing;
mod pacing;
mod service;
mod storing;
mod tokens;
mod window;

pub use counting::Counted;
pub use counts::BlockCounts;
pub use limits::Limits;
pub use service::{BlockService, Fetched, ListFrom, Listed, Page};
pub use storing::BlockSource;

pub(crate) use pacing::pause;
pub(crate) use storing::store_blocks;
