//! The journal of steps: what was meant to be done, and what came of it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::texts::{from_json, to_json};
use crate::rules::PlannedStep;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS steps (
    job INTEGER NOT NULL REFERENCES jobs (id),
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    word TEXT NOT NULL,
    plan TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    tries INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    ended_at INTEGER,
    result TEXT,
    why TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS steps_by_word ON steps (word, started_at);
CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    step TEXT NOT NULL,
    at INTEGER NOT NULL,
    intent TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS intents_of_step ON intents (job, step);";

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// It was not begun.
    Pending,
    /// It was begun. After a kill it is begun again, with its intents.
    Running,
    /// It is done.
    Done,
    /// It was tried as often as it may be.
    Failed,
    /// It was not begun, and will not be.
    Skipped,
}

impl StepState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Done, Self::Failed, Self::Skipped];

    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Skipped)
    }
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// What is to be done.
    pub plan: PlannedStep,
    /// How far it is.
    pub state: StepState,
    /// How often it was tried and failed.
    pub tries: u32,
    /// Not to be tried again before.
    pub not_before: i64,
    /// When it was first begun.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// What it gave.
    pub result: Option<Value>,
    /// Why it failed or was skipped.
    pub why: String,
}

/// Adds steps to a job, after those that it has.
pub(crate) fn add(connection: &Connection, job: i64, steps: &[PlannedStep]) -> rusqlite::Result<()> {
    for step in steps {
        connection
            .prepare(
                "INSERT INTO steps (job, id, position, word, plan)
                 VALUES (?1, ?2, (SELECT coalesce(max(position), 0) + 1 FROM steps WHERE job = ?1), ?3, ?4)",
            )?
            .execute(params![job, step.id, step.word, to_json(step)?])?;
    }
    Ok(())
}

/// The steps of a job, none before what it needs.
pub(crate) fn of(connection: &Connection, job: i64) -> rusqlite::Result<Vec<StepRow>> {
    let mut statement = connection.prepare(
        "SELECT plan, state, tries, not_before, started_at, ended_at, result, why FROM steps WHERE job = ?1 ORDER BY position",
    )?;
    let found = statement.query_map([job], row)?;
    found.collect()
}

/// Says that a step is begun.
pub(crate) fn begin(connection: &Connection, job: i64, step: &str, now: i64) -> rusqlite::Result<()> {
    connection
        .prepare(
            "UPDATE steps SET state = 'running', started_at = coalesce(started_at, ?3) WHERE job = ?1 AND id = ?2",
        )?
        .execute(params![job, step, now])?;
    Ok(())
}

/// What became of a step.
pub(crate) fn end(
    connection: &Connection,
    job: i64,
    step: &str,
    state: StepState,
    result: Option<&Value>,
    why: &str,
    now: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare(
            "UPDATE steps SET state = ?3, result = ?4, why = ?5, ended_at = ?6 WHERE job = ?1 AND id = ?2",
        )?
        .execute(params![job, step, state.word(), result.map(Value::to_string), why, now])?;
    Ok(())
}

/// It failed, and is to be tried again.
pub(crate) fn again(
    connection: &Connection,
    job: i64,
    step: &str,
    tries: u32,
    why: &str,
    not_before: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare(
            "UPDATE steps SET state = 'pending', tries = ?3, why = ?4, not_before = ?5 WHERE job = ?1 AND id = ?2",
        )?
        .execute(params![job, step, tries, why, not_before])?;
    Ok(())
}

/// Steps that failed or were skipped are to be tried again, as if they never had been begun.
pub(crate) fn reset_failed(connection: &Connection, job: i64) -> rusqlite::Result<usize> {
    connection
        .prepare(
            "UPDATE steps SET state = 'pending', tries = 0, not_before = 0, started_at = NULL, ended_at = NULL
             WHERE job = ?1 AND state IN ('failed', 'skipped')",
        )?
        .execute([job])
}

/// Writes an intent, before the act.
pub(crate) fn intend(
    connection: &Connection,
    job: i64,
    step: &str,
    now: i64,
    intent: &Value,
) -> rusqlite::Result<()> {
    connection
        .prepare("INSERT INTO intents (job, step, at, intent) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![job, step, now, intent.to_string()])?;
    Ok(())
}

/// The intent that says that all was taken back that the intents before it tell of.
pub(crate) fn taken_back() -> Value {
    serde_json::json!({"taken_back": true})
}

/// What of the intents of a step still stands: those after it was last taken back, oldest first.
pub(crate) fn standing(intents: &[Value]) -> &[Value] {
    let last = intents.iter().rposition(|intent| *intent == taken_back());
    last.and_then(|last| intents.get(last.saturating_add(1)..)).unwrap_or(intents)
}

/// Whether another step than this one does the same to the same asset, or may have: which job's, where there is one. An undo of
/// either would undo both, and what the later one recorded would be the work of the earlier.
pub(crate) fn same_elsewhere(
    connection: &Connection,
    job: i64,
    step: &str,
    word: &str,
    asset: &str,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare(
            "SELECT leases.job FROM leases JOIN jobs ON jobs.id = leases.job
             WHERE leases.word = ?3 AND leases.state <> 'ended' AND jobs.asset = ?4
                 AND (leases.job <> ?1 OR leases.step <> ?2)
             UNION ALL
             SELECT steps.job FROM steps JOIN jobs ON jobs.id = steps.job
             WHERE steps.word = ?3 AND steps.state IN ('running', 'pending') AND steps.started_at IS NOT NULL
                 AND jobs.asset = ?4 AND (steps.job <> ?1 OR steps.id <> ?2)
             LIMIT 1",
        )?
        .query_row(params![job, step, word, asset], |row| row.get(0))
        .optional()
}

/// The intents of a step, oldest first.
pub(crate) fn intents(connection: &Connection, job: i64, step: &str) -> rusqlite::Result<Vec<Value>> {
    let mut statement =
        connection.prepare("SELECT intent FROM intents WHERE job = ?1 AND step = ?2 ORDER BY id")?;
    let found = statement.query_map(params![job, step], |row| from_json(0, &row.get::<_, String>(0)?))?;
    found.collect()
}

fn row(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    let state: String = row.get(1)?;
    let result: Option<String> = row.get(6)?;
    Ok(StepRow {
        plan: from_json(0, &row.get::<_, String>(0)?)?,
        // What is not understood is not run.
        state: StepState::ALL.into_iter().find(|one| one.word() == state).unwrap_or(StepState::Skipped),
        tries: row.get(2)?,
        not_before: row.get(3)?,
        started_at: row.get(4)?,
        ended_at: row.get(5)?,
        result: result.map(|text| from_json(6, &text)).transpose()?,
        why: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_of_intents_is_what_came_after_the_last_taking_back() {
        let (one, two, back) = (json!({"recorded": 1}), json!({"recorded": 2}), taken_back());
        let of = |intents: &[&Value]| intents.iter().map(|one| (*one).clone()).collect::<Vec<Value>>();
        for (intents, left) in [
            (of(&[]), of(&[])),
            (of(&[&one, &two]), of(&[&one, &two])),
            (of(&[&one, &back]), of(&[])),
            (of(&[&one, &back, &two]), of(&[&two])),
            (of(&[&back, &one, &back, &two, &one]), of(&[&two, &one])),
        ] {
            assert_eq!(standing(&intents), left, "{intents:?}");
        }
    }
}
