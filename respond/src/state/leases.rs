//! What is taken back when its time is over, though nobody asks for it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::texts::from_json;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS leases (
    job INTEGER NOT NULL REFERENCES jobs (id),
    step TEXT NOT NULL,
    word TEXT NOT NULL,
    recorded TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    state TEXT NOT NULL DEFAULT 'held',
    tries INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER,
    why TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leases_due ON leases (state, until);";

/// What a step did that can be taken back.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The job.
    pub job: i64,
    /// The step's id.
    pub step: String,
    /// The step's word.
    pub word: String,
    /// What the step gave: all that taking it back needs.
    pub recorded: Value,
    /// Since when it holds.
    pub since: i64,
    /// When it is taken back; `None` when only a person does that.
    pub until: Option<i64>,
    /// `held`, `ended` or `stuck`.
    pub state: String,
    /// How often taking it back has failed.
    pub tries: u32,
    /// Why it is stuck, or how it ended.
    pub why: String,
}

/// Notes what a step has done, and for how long.
pub(crate) fn hold(connection: &Connection, lease: &Lease) -> rusqlite::Result<()> {
    connection
        .prepare(
            "INSERT INTO leases (job, step, word, recorded, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (job, step) DO UPDATE SET recorded = excluded.recorded, since = excluded.since,
                 until = excluded.until, state = 'held', tries = 0, not_before = 0, ended_at = NULL, why = ''",
        )?
        .execute(params![lease.job, lease.step, lease.word, lease.recorded.to_string(), lease.since, lease.until])?;
    Ok(())
}

/// The one that is to be taken back now.
pub(crate) fn due(connection: &Connection, now: i64) -> rusqlite::Result<Option<Lease>> {
    connection
        .prepare(&format!(
            "{SELECT} WHERE state = 'held' AND until <= ?1 AND not_before <= ?1 ORDER BY until LIMIT 1"
        ))?
        .query_row([now], lease)
        .optional()
}

/// What a job holds or held.
pub(crate) fn of(connection: &Connection, job: i64) -> rusqlite::Result<Vec<Lease>> {
    let mut statement = connection.prepare(&format!("{SELECT} WHERE job = ?1 ORDER BY since"))?;
    let found = statement.query_map([job], lease)?;
    found.collect()
}

/// All that a job holds is to be taken back now.
pub(crate) fn end_now(connection: &Connection, job: i64, now: i64) -> rusqlite::Result<usize> {
    connection
        .prepare(
            "UPDATE leases SET until = ?2, state = 'held', tries = 0, not_before = 0 WHERE job = ?1 AND state <> 'ended'",
        )?
        .execute(params![job, now])
}

/// It was taken back.
pub(crate) fn ended(connection: &Connection, lease: &Lease, now: i64) -> rusqlite::Result<()> {
    connection
        .prepare("UPDATE leases SET state = 'ended', ended_at = ?3 WHERE job = ?1 AND step = ?2")?
        .execute(params![lease.job, lease.step, now])?;
    Ok(())
}

/// It could not be taken back this time; a person must look when that will not help again.
pub(crate) fn failed(
    connection: &Connection,
    lease: &Lease,
    is_stuck: bool,
    why: &str,
    not_before: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare(
            "UPDATE leases SET state = ?3, tries = tries + 1, why = ?4, not_before = ?5 WHERE job = ?1 AND step = ?2",
        )?
        .execute(params![lease.job, lease.step, if is_stuck { "stuck" } else { "held" }, why, not_before])?;
    Ok(())
}

const SELECT: &str = "SELECT job, step, word, recorded, since, until, state, tries, why FROM leases";

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    Ok(Lease {
        job: row.get(0)?,
        step: row.get(1)?,
        word: row.get(2)?,
        recorded: from_json(3, &row.get::<_, String>(3)?)?,
        since: row.get(4)?,
        until: row.get(5)?,
        state: row.get(6)?,
        tries: row.get(7)?,
        why: row.get(8)?,
    })
}
