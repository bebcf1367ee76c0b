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
CREATE INDEX IF NOT EXISTS leases_due ON leases (state, until);
CREATE TABLE IF NOT EXISTS undo_wishes (
    job INTEGER PRIMARY KEY REFERENCES jobs (id)
) STRICT;";

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

/// Longer than any pause between two tries: what is to be tried later than that is due now, for the clock was set back.
const LONGEST_PAUSE: i64 = 3600 * 1_000_000_000;
/// How far a clock may go back without a word.
const SLACK: i64 = 60 * 1_000_000_000;

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

/// The one that is to be taken back now. One that is stuck waits for a person, and is tried on all the same.
pub(crate) fn due(connection: &Connection, now: i64) -> rusqlite::Result<Option<Lease>> {
    connection
        .prepare(&format!(
            "{SELECT} WHERE state IN ('held', 'stuck') AND until <= ?1 AND (not_before <= ?1 OR not_before > ?2)
             ORDER BY not_before, until LIMIT 1"
        ))?
        .query_row([now, now.saturating_add(LONGEST_PAUSE)], lease)
        .optional()
}

/// Leases that began in the future, since the clock was set back, begin now: none holds longer than it was to.
pub(crate) fn begin_by_now(connection: &Connection, now: i64) -> rusqlite::Result<usize> {
    connection
        .prepare(
            "UPDATE leases SET until = ?1 + (until - since), since = ?1 WHERE state <> 'ended' AND since > ?2 AND until >= since",
        )?
        .execute([now, now.saturating_add(SLACK)])
}

/// A step of a job that was not done and whose work is still to be taken back.
pub(crate) fn being_taken_back(
    connection: &Connection,
    job: i64,
    now: i64,
) -> rusqlite::Result<Option<String>> {
    connection
        .prepare(
            "SELECT leases.step FROM leases JOIN steps ON steps.job = leases.job AND steps.id = leases.step
             WHERE leases.job = ?1 AND leases.state <> 'ended' AND leases.until <= ?2 AND steps.state <> 'done' LIMIT 1",
        )?
        .query_row([job, now], |row| row.get(0))
        .optional()
}

/// A person wants taken back whatever the job comes to hold; or no longer.
pub(crate) fn wish_undo(connection: &Connection, job: i64, is_wished: bool) -> rusqlite::Result<()> {
    let sql = if is_wished {
        "INSERT INTO undo_wishes (job) VALUES (?1) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM undo_wishes WHERE job = ?1"
    };
    connection.prepare(sql)?.execute([job])?;
    Ok(())
}

/// Whether a person wants taken back whatever the job comes to hold.
pub(crate) fn is_undo_wished(connection: &Connection, job: i64) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM undo_wishes WHERE job = ?1")?.exists([job])
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

/// It was taken back; `false` if it is another one by now.
pub(crate) fn ended(connection: &Connection, lease: &Lease, now: i64) -> rusqlite::Result<bool> {
    let ended = connection
        .prepare(
            "UPDATE leases SET state = 'ended', ended_at = ?3 WHERE job = ?1 AND step = ?2 AND since = ?4",
        )?
        .execute(params![lease.job, lease.step, now, lease.since])?;
    Ok(ended > 0)
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
            "UPDATE leases SET state = ?3, tries = tries + 1, why = ?4, not_before = ?5
             WHERE job = ?1 AND step = ?2 AND since = ?6",
        )?
        .execute(params![
            lease.job,
            lease.step,
            if is_stuck { "stuck" } else { "held" },
            why,
            not_before,
            lease.since
        ])?;
    Ok(())
}

const SELECT: &str = "SELECT job, step, word, recorded, since, until, state, tries, why FROM leases";

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    Ok(Lease {
        job: row.get(0)?,
        step: row.get(1)?,
        word: row.get(2)?,
        // What cannot be read cannot be taken back, which a person must hear of; it must not keep the others from it.
        recorded: from_json(3, &row.get::<_, String>(3)?).unwrap_or(Value::Null),
        since: row.get(4)?,
        until: row.get(5)?,
        state: row.get(6)?,
        tries: row.get(7)?,
        why: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn held(since: i64, until: Option<i64>) -> Lease {
        Lease {
            job: 1,
            step: "isolate".to_owned(),
            word: "isolate.host".to_owned(),
            recorded: Value::Null,
            since,
            until,
            state: String::new(),
            tries: 0,
            why: String::new(),
        }
    }

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(TABLE).unwrap();
        connection
    }

    #[test]
    fn a_lease_holds_no_longer_than_it_was_to_when_the_clock_is_set_back() {
        let connection = connection();
        let (then, day) = (1_000_000 * SECOND, 86_400 * SECOND);
        hold(&connection, &held(then, Some(then + 60 * SECOND))).unwrap();
        assert_eq!(begin_by_now(&connection, then - SECOND).unwrap(), 0);
        assert_eq!(begin_by_now(&connection, then - day).unwrap(), 1);
        assert!(due(&connection, then - day).unwrap().is_none());
        assert!(due(&connection, then - day + 61 * SECOND).unwrap().is_some());
        // One without end stays so.
        hold(&connection, &held(then, None)).unwrap();
        assert_eq!(begin_by_now(&connection, then - day).unwrap(), 0);
    }

    #[test]
    fn what_is_stuck_is_due_again_and_what_was_held_anew_is_not_ended_by_an_older_try() {
        let connection = connection();
        hold(&connection, &held(1, Some(2))).unwrap();
        let lease = due(&connection, SECOND).unwrap().unwrap();
        failed(&connection, &lease, true, "it is gone", 900 * SECOND).unwrap();
        assert!(due(&connection, SECOND).unwrap().is_none());
        let stuck = due(&connection, 900 * SECOND).unwrap().unwrap();
        assert_eq!((stuck.state.as_str(), stuck.why.as_str(), stuck.tries), ("stuck", "it is gone", 1));
        // The clock was set back by far.
        failed(&connection, &lease, true, "it is gone", 90_000 * SECOND).unwrap();
        assert!(due(&connection, 901 * SECOND).unwrap().is_some());
        hold(&connection, &held(5, Some(6))).unwrap();
        assert!(!ended(&connection, &stuck, SECOND).unwrap());
        let anew = due(&connection, SECOND).unwrap().unwrap();
        assert_eq!((anew.since, anew.state.as_str()), (5, "held"));
        assert!(ended(&connection, &anew, SECOND).unwrap());
        assert!(due(&connection, SECOND).unwrap().is_none());
    }
}
