//! Jobs: one plan for one asset, run exactly once.
//!
//! ```text
//! undecided delivery -> decider -> alert, decision, job, steps (one transaction) -> worker -> steps -> case
//! ```
//!
//! The state is the only memory: a service that is killed at any instruction goes on from it. Nothing of a job is done before
//! the intent to do it is on the disk, and each step looks for what an earlier run of it has done.

mod acting;
mod approving;
mod case_of_job;
mod counted;
mod decider;
mod deliveries;
mod ending;
mod governing;
mod graph;
mod keeper;
mod overview;
mod permission;
mod reconcile;
mod runner;
mod settle;
mod step_run;
mod telling;
mod worker;

pub use acting::{Acting, Teller, Told};
pub use approving::{Person, Said, approve, cancel, retry};
pub use decider::{Intake, Undecided};
pub use deliveries::{BY_HAND, Deliveries, OUR_FORM};
pub use governing::Govern;
pub use overview::Overview;
pub use runner::{Runner, Standing};
pub use telling::LogAndCount;
