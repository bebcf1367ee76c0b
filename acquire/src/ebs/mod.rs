//! EBS snapshots, read through the EBS direct APIs: no volume is made, no instance is started.

mod described;
mod estimate;
mod note;
mod service;
mod snapshot;

pub use estimate::{Estimate, PRICE_REGION};
pub use service::{BLOCK, SnapshotBlocks};
pub use snapshot::{BaseBundle, EbsSnapshot};
