//! EBS snapshots, read through the EBS direct APIs: no volume is made, no instance is started.

mod service;
mod snapshot;

pub use service::{BLOCK, SnapshotBlocks};
pub use snapshot::EbsSnapshot;
