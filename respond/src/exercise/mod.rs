//! Exercises: whether the whole answers as it should, with pass or fail. One file an exercise.

mod autonomous_boundary;
mod chain_reaction;
mod made_alerts;
mod one_hour_timeline;
mod rehearsal;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::ready::{Probe, Unable};

/// One exercise of the table.
pub struct Exercise {
    /// `T3` and so on.
    pub id: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    run: fn(&Arc<Probe>) -> Result<Vec<Line>, Unable>,
}

/// Every exercise.
pub static EXERCISES: &[Exercise] = &[
    Exercise {
        id: "T3",
        title: "chain reaction",
        about: "one threat, stored, decided and made into jobs as the service does it, in a state of its own: capture, isolation, taking \
                credentials away and telling people must all be in these jobs without a person between. The jobs are not run on the \
                asset: each link is tried by its own check instead",
        run: chain_reaction::run,
    },
    Exercise {
        id: "T4",
        title: "autonomous boundary",
        about: "a credential spray over the whole inventory, forged names among it: automation acts, limits hold, nothing protected or \
                unknown is touched",
        run: autonomous_boundary::run,
    },
    Exercise {
        id: "T5",
        title: "one-hour timeline",
        about: "from a made intrusion's evidence to entry, privilege, movement and egress in one timeline: within an hour, and less than \
                half of it spent on putting sources together",
        run: one_hour_timeline::run,
    },
];

/// The exercise of this id.
#[must_use]
pub fn named(id: &str) -> Option<&'static Exercise> {
    EXERCISES.iter().find(|exercise| exercise.id == id)
}

/// One thing that had to hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What.
    pub what: String,
    /// Whether it did; what could not be tried did not.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
    /// How long it took, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl Line {
    fn new(what: impl Into<String>, holds: bool, seen: impl Into<String>) -> Self {
        Self { what: what.into(), holds, seen: seen.into(), seconds: None }
    }

    fn taking(self, seconds: f64) -> Self {
        Self { seconds: Some(seconds), ..self }
    }
}

/// A folder of an exercise, below that of the state, which goes with it.
struct Workplace(PathBuf);

impl Workplace {
    fn make(probe: &Probe) -> Result<Self, Unable> {
        let place = Self(probe.settings.state.join(format!("exercise-{}", probe.clock.now().wall_ns)));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&place.0)?;
        Ok(place)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What came of an exercise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `T3` and so on.
    pub exercise: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// Whether everything held.
    pub passed: bool,
    /// Each thing that had to hold.
    pub lines: Vec<Line>,
    /// How long it took.
    pub seconds: f64,
}

impl Exercise {
    /// Runs it. What cannot be tried is a line that does not hold, so that it never passes unseen.
    #[must_use]
    pub fn run(&self, probe: &Arc<Probe>) -> Report {
        let begun = Instant::now();
        let lines = (self.run)(probe).unwrap_or_else(|unable| {
            let (Unable::NotApplicable(why) | Unable::CouldNotTest(why)) = unable;
            vec![Line::new("it could be tried", false, why)]
        });
        Report {
            exercise: self.id,
            title: self.title,
            passed: !lines.is_empty() && lines.iter().all(|line| line.holds),
            lines,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}
