//! All that the state has of one job, for people.

use crate::error::Result;
use crate::rules::Decision;
use crate::state::alerts::{self, StoredAlert};
use crate::state::approvals::{self, Question};
use crate::state::jobs::{self, Job};
use crate::state::leases::{self, Lease};
use crate::state::steps::{self, StepRow};
use crate::state::{State, decisions};

/// A job with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The job.
    pub job: Job,
    /// Its steps, none before what it needs.
    pub steps: Vec<StepRow>,
    /// What people were asked, with who said yes.
    pub questions: Vec<(Question, Vec<String>)>,
    /// What it holds or held for a time.
    pub leases: Vec<Lease>,
    /// Its alerts, and how each belongs to it.
    pub alerts: Vec<(StoredAlert, String)>,
    /// What was decided about the first of them.
    pub decision: Option<Decision>,
}

impl Overview {
    /// The job of this number; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn of(state: &State, id: i64) -> Result<Option<Self>> {
        state.with(|connection| {
            let Some(job) = jobs::of(connection, id)? else { return Ok(None) };
            let mut questions = Vec::new();
            for question in approvals::of(connection, id)? {
                let yes = approvals::yes_of(connection, question.id)?;
                questions.push((question, yes));
            }
            let mut of_job = Vec::new();
            for (alert, how) in jobs::alerts_of(connection, id)? {
                of_job.extend(alerts::of(connection, alert)?.map(|alert| (alert, how)));
            }
            Ok(Some(Self {
                steps: steps::of(connection, id)?,
                questions,
                leases: leases::of(connection, id)?,
                alerts: of_job,
                decision: decisions::of(connection, job.alert)?,
                job,
            }))
        })
    }

    /// Jobs, the newest first; of these states, or of all when none is named.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn list(state: &State, states: &[jobs::JobState], most: u32) -> Result<Vec<Job>> {
        state.with(|connection| jobs::newest(connection, states, most))
    }
}
