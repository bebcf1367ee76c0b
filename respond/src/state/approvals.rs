//! Who must say yes, who has, and what was used: an approval is for one plan, in one time, once.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::texts::{from_json, to_json};
use crate::rules::Approval;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS approvals (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES jobs (id),
    step TEXT NOT NULL,
    bound_to TEXT NOT NULL,
    wanted INTEGER NOT NULL,
    allowed TEXT NOT NULL,
    run_on_timeout INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open'
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS approvals_open ON approvals (job, step) WHERE state IN ('open', 'given', 'refused', 'late');
CREATE TABLE IF NOT EXISTS voices (
    approval INTEGER NOT NULL REFERENCES approvals (id),
    who TEXT NOT NULL,
    at INTEGER NOT NULL,
    yes INTEGER NOT NULL,
    PRIMARY KEY (approval, who)
) STRICT, WITHOUT ROWID;";

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nobody has answered, or not enough.
    Open,
    /// Enough said yes.
    Given,
    /// Somebody said no.
    Refused,
    /// The time was over before enough had said yes.
    Late,
    /// It was given and what it allowed was begun: good for nothing more.
    Used,
    /// The plan changed, or the job ended or is tried again: good for nothing more, and never used.
    Withdrawn,
}

impl Answer {
    const ALL: [Self; 6] = [Self::Open, Self::Given, Self::Refused, Self::Late, Self::Used, Self::Withdrawn];

    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Given => "given",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Used => "used",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A question to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its number.
    pub id: i64,
    /// The job.
    pub job: i64,
    /// The step, or empty for the whole plan.
    pub step: String,
    /// SHA-256 of what is asked about.
    pub bound_to: String,
    /// How many must say yes.
    pub wanted: u32,
    /// Who may: names or groups; empty for whoever may write the state.
    pub allowed: Vec<String>,
    /// What is done when the time is over.
    pub run_on_timeout: bool,
    /// When it was asked.
    pub asked_at: i64,
    /// When the time is over.
    pub until: i64,
    /// How far it is.
    pub answer: Answer,
}

/// Asks.
pub(crate) fn ask(
    connection: &Connection,
    job: i64,
    step: &str,
    bound_to: &str,
    approval: &Approval,
    now: i64,
) -> rusqlite::Result<()> {
    let until =
        now.saturating_add(i64::try_from(approval.timeout).unwrap_or(i64::MAX).saturating_mul(1_000_000_000));
    connection
        .prepare(
            "INSERT INTO approvals (job, step, bound_to, wanted, allowed, run_on_timeout, asked_at, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            job,
            step,
            bound_to,
            approval.count.max(1),
            to_json(&approval.from)?,
            approval.run_on_timeout,
            now,
            until
        ])?;
    Ok(())
}

/// The question about a step that is neither used up nor withdrawn; about the whole plan where the step is empty.
pub(crate) fn about(connection: &Connection, job: i64, step: &str) -> rusqlite::Result<Option<Question>> {
    connection
        .prepare(&format!("{SELECT} WHERE job = ?1 AND step = ?2 AND state NOT IN ('used', 'withdrawn')"))?
        .query_row(params![job, step], question)
        .optional()
}

/// Whether there was a yes to just this, which was used up.
pub(crate) fn is_used(
    connection: &Connection,
    job: i64,
    step: &str,
    bound_to: &str,
) -> rusqlite::Result<bool> {
    connection
        .prepare("SELECT 1 FROM approvals WHERE job = ?1 AND step = ?2 AND bound_to = ?3 AND state = 'used'")?
        .exists(params![job, step, bound_to])
}

/// All questions of a job.
pub(crate) fn of(connection: &Connection, job: i64) -> rusqlite::Result<Vec<Question>> {
    let mut statement = connection.prepare(&format!("{SELECT} WHERE job = ?1 ORDER BY id"))?;
    let found = statement.query_map([job], question)?;
    found.collect()
}

/// Changes how far a question is.
pub(crate) fn set(connection: &Connection, id: i64, answer: Answer) -> rusqlite::Result<()> {
    connection
        .prepare("UPDATE approvals SET state = ?2 WHERE id = ?1")?
        .execute(params![id, answer.word()])?;
    Ok(())
}

/// Notes what one person said; `false` if they had said something already.
pub(crate) fn say(
    connection: &Connection,
    id: i64,
    who: &str,
    yes: bool,
    now: i64,
) -> rusqlite::Result<bool> {
    let said = connection
        .prepare(
            "INSERT INTO voices (approval, who, at, yes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, who, now, yes])?;
    Ok(said > 0)
}

/// Who said yes.
pub(crate) fn yes_of(connection: &Connection, id: i64) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        connection.prepare("SELECT who FROM voices WHERE approval = ?1 AND yes = 1 ORDER BY at, who")?;
    let found = statement.query_map([id], |row| row.get(0))?;
    found.collect()
}

/// Makes every question of a job useless that was not used up.
pub(crate) fn withdraw(connection: &Connection, job: i64) -> rusqlite::Result<()> {
    connection
        .prepare("UPDATE approvals SET state = 'withdrawn' WHERE job = ?1 AND state <> 'used'")?
        .execute([job])?;
    Ok(())
}

const SELECT: &str =
    "SELECT id, job, step, bound_to, wanted, allowed, run_on_timeout, asked_at, until, state FROM approvals";

fn question(row: &Row<'_>) -> rusqlite::Result<Question> {
    let state: String = row.get(9)?;
    Ok(Question {
        id: row.get(0)?,
        job: row.get(1)?,
        step: row.get(2)?,
        bound_to: row.get(3)?,
        wanted: row.get(4)?,
        allowed: from_json(5, &row.get::<_, String>(5)?)?,
        run_on_timeout: row.get(6)?,
        asked_at: row.get(7)?,
        until: row.get(8)?,
        // What is not understood allows nothing.
        answer: Answer::ALL.into_iter().find(|answer| answer.word() == state).unwrap_or(Answer::Refused),
    })
}
