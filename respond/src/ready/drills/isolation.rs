//! RD40.

use super::super::check::{Finding, Unable};
use super::super::probe::Probe;

pub(super) fn drill(_: &Probe) -> Result<Vec<Finding>, Unable> {
    Err(Unable::untested("this build has no isolation yet"))
}
