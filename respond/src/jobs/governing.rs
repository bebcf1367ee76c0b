//! What the rules say at each point of a job's life: when an alert comes, when a job is to be made, before its first capture, and
//! before each isolation.

use std::sync::Arc;

use crate::alert::Alert;
use crate::error::Result;
use crate::inventory::Asset;
use crate::rules::{Admission, Current, Decide, Decider, Decision, Gate, History, Plan};

/// Rules, assets and limits in force. Times are seconds since 1970.
pub trait Govern: Send + Sync {
    /// What is to be done about an alert, and why.
    fn decide(&self, alert: &Alert) -> Decision;

    /// What of a plan becomes a job.
    ///
    /// # Errors
    ///
    /// What the counting of `history` meets. So for all of these.
    fn admit(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<Admission>;

    /// Whether it is still a storm for the rule of a plan; rules that know no storms have none.
    #[allow(clippy::missing_errors_doc, reason = "as `admit`")]
    fn is_storm(&self, _plan: &Plan, _history: &dyn History, _now: i64) -> Result<bool> {
        Ok(false)
    }

    /// Whether a job may begin to capture.
    #[allow(clippy::missing_errors_doc, reason = "as `admit`")]
    fn may_capture(&self, history: &dyn History, now: i64) -> Result<Gate>;

    /// The same, as it is now, where it may be replaced meanwhile: all of one decision is made by that.
    fn pinned(&self) -> Option<Arc<dyn Govern>> {
        None
    }

    /// Whether an asset may be isolated without a person.
    #[allow(clippy::missing_errors_doc, reason = "as `admit`")]
    fn may_isolate(&self, asset: &Asset, history: &dyn History, now: i64) -> Result<Gate>;
}

impl Govern for Decider {
    fn decide(&self, alert: &Alert) -> Decision {
        Decide::decide(self, alert)
    }

    fn admit(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<Admission> {
        self.rules().admit(plan, history, now)
    }

    fn is_storm(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<bool> {
        self.rules().is_storm(plan, history, now)
    }

    fn may_capture(&self, history: &dyn History, now: i64) -> Result<Gate> {
        self.rules().may_capture(history, now)
    }

    fn may_isolate(&self, asset: &Asset, history: &dyn History, now: i64) -> Result<Gate> {
        self.rules().may_isolate(asset, self.inventory(), history, now)
    }
}

/// What was last loaded without a fault.
impl Govern for Current {
    fn decide(&self, alert: &Alert) -> Decision {
        Decide::decide(self, alert)
    }

    fn pinned(&self) -> Option<Arc<dyn Govern>> {
        Some(self.get())
    }

    fn admit(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<Admission> {
        Govern::admit(&*self.get(), plan, history, now)
    }

    fn is_storm(&self, plan: &Plan, history: &dyn History, now: i64) -> Result<bool> {
        Govern::is_storm(&*self.get(), plan, history, now)
    }

    fn may_capture(&self, history: &dyn History, now: i64) -> Result<Gate> {
        Govern::may_capture(&*self.get(), history, now)
    }

    fn may_isolate(&self, asset: &Asset, history: &dyn History, now: i64) -> Result<Gate> {
        Govern::may_isolate(&*self.get(), asset, history, now)
    }
}
