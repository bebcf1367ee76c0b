//! EBS snapshots, read through the EBS direct APIs: no volume is made, no instance is started.

mod described;
mod estimate;
mod first_look;
mod instance_facts;
mod note;
mod one_run;
mod own_snapshots;
pub mod permissions;
mod service;
mod snapshot;
mod target;

pub use estimate::{Estimate, PRICE_REGION, Trial};
pub use instance_facts::InstanceFacts;
pub use one_run::OneRun;
pub use own_snapshots::{
    Deletion, MADE_BY, Orphan, OwnSnapshot, OwnSnapshots, TAG_CASE, TAG_MADE_BY, TAG_RUN, TAG_TARGET,
};
pub use service::{BLOCK, SnapshotBlocks};
pub use snapshot::{BaseBundle, EbsSnapshot};
pub use target::Target;
