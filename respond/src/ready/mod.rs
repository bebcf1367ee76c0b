//! Whether a capture would work, tried before it is needed. One file a group of checks; [`all`] is the table.
//!
//! A check tests the thing itself wherever that can be done without harm: it signs, decrypts, puts and tries to remove,
//! captures and isolates. What could not be tested is `error`, which counts as a failure and never as a pass.

mod capacity;
mod check;
mod drills;
mod encryption;
mod escrow;
mod evidence_store;
mod host;
mod identity;
mod logging;
pub mod metrics;
mod other_clouds;
mod probe;
mod reach;
mod receiving;
mod rights;
mod rules_in_force;
mod run;
mod service;
mod settings;
mod tools;
pub mod trend;

pub use check::{Check, Finding, Severity, Status, Unable};
pub use probe::Probe;
pub(crate) use probe::Ran;
pub(crate) use rules_in_force::read_inventory;
pub use run::{Outcome, Wanted, run};
pub use settings::{
    AzureSettings, CanarySettings, CollectorSettings, DrillKind, EscrowSettings, GcpSettings, ReadySettings,
    RoleSettings, TimeStampSettings,
};

/// Every check, in the order of its id.
#[must_use]
pub fn all() -> Vec<&'static Check> {
    let groups = [
        identity::CHECKS,
        rights::CHECKS,
        reach::CHECKS,
        logging::CHECKS,
        other_clouds::CHECKS,
        encryption::CHECKS,
        escrow::CHECKS,
        evidence_store::CHECKS,
        capacity::CHECKS,
        receiving::CHECKS,
        host::CHECKS,
        tools::CHECKS,
        drills::CHECKS,
        rules_in_force::CHECKS,
        service::CHECKS,
    ];
    let mut all: Vec<&Check> = groups.into_iter().flatten().collect();
    all.sort_by_key(|check| check.id);
    all
}

/// The check of this id.
#[must_use]
pub fn named(id: &str) -> Option<&'static Check> {
    all().into_iter().find(|check| check.id == id)
}
