//! Jobs: one plan for one asset. Two alerts that mean the same find the same row here.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::texts::{from_json, to_json};
use crate::alert::AssetKind;
use crate::rules::{Mode, Plan};

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    asset TEXT NOT NULL,
    dedup_key TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    alert INTEGER NOT NULL REFERENCES alerts (id),
    mode TEXT NOT NULL,
    severity INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    plan TEXT NOT NULL,
    plan_sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    next_at INTEGER NOT NULL DEFAULT 0,
    cancel TEXT,
    case_folder TEXT,
    UNIQUE (rule, asset, dedup_key, bucket)
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_to_run ON jobs (state, priority DESC);
CREATE INDEX IF NOT EXISTS jobs_by_asset ON jobs (asset, created_at);
CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (created_at);
CREATE TABLE IF NOT EXISTS job_alerts (
    job INTEGER NOT NULL REFERENCES jobs (id),
    alert INTEGER NOT NULL REFERENCES alerts (id),
    at INTEGER NOT NULL,
    how TEXT NOT NULL,
    PRIMARY KEY (job, alert)
) STRICT, WITHOUT ROWID;";

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It waits for a time or for a person.
    Waiting,
    /// All that was planned is done.
    Done,
    /// It ended, and some step failed.
    Failed,
    /// It was given up after too many attempts: the dead letters.
    Dead,
    /// A person ended it.
    Cancelled,
    /// It was only to be said what would be done.
    Observed,
    /// Nobody said yes in time, or somebody said no.
    Refused,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Done,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Observed,
        Self::Refused,
    ];

    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Observed => "observed",
            Self::Refused => "refused",
        }
    }

    /// Whether nothing more will come of it by itself.
    #[must_use]
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Waiting)
    }

    fn of_word(word: &str) -> Self {
        // A word of a later version is shown as an end: nothing is run that is not understood.
        Self::ALL.into_iter().find(|state| state.word() == word).unwrap_or(Self::Dead)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number; its name is [`Job::name`].
    pub id: i64,
    /// Its name in all places and times.
    pub uuid: String,
    /// Start of the window in which the same key is the same job.
    pub bucket: i64,
    /// The alert that it began with.
    pub alert: i64,
    /// How urgent that was.
    pub severity: u8,
    /// How far it is.
    pub state: JobState,
    /// Why it is so, where that needs words.
    pub why: String,
    /// How often it was begun since it last came further.
    pub attempt: u32,
    /// What is to be done.
    pub plan: Plan,
    /// SHA-256 of the plan as it is kept.
    pub plan_sha256: String,
    /// When it was made, in nanoseconds since 1970, as all times here.
    pub created_at: i64,
    /// When a worker first had it.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Who wants it to end, and why.
    pub cancel: Option<String>,
    /// Its case, once it is made: a folder below that of cases.
    pub case_folder: Option<String>,
}

impl Job {
    /// Such as `J000017`.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.id)
    }
}

/// `J000017` of 17.
#[must_use]
pub fn name_of(id: i64) -> String {
    format!("J{id:06}")
}

/// 17 of `J000017`; also of `17`.
#[must_use]
pub fn number_of(name: &str) -> Option<i64> {
    let digits = name.strip_prefix(['J', 'j']).unwrap_or(name);
    (digits.len() <= 18 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The asset as it stands in its column.
pub(crate) fn asset_text(plan: &Plan) -> rusqlite::Result<String> {
    asset_text_of(plan.asset.kind, &plan.asset.id)
}

/// As [`asset_text`].
pub(crate) fn asset_text_of(kind: AssetKind, id: &str) -> rusqlite::Result<String> {
    Ok(format!("{} {id}", to_json(&kind)?.trim_matches('"')))
}

/// The asset that stands in a column.
pub(crate) fn asset_of(text: &str) -> Option<(AssetKind, String)> {
    let (kind, id) = text.split_once(' ')?;
    let kind = serde_json::from_value(serde_json::Value::from(kind)).ok()?;
    Some((kind, id.to_owned()))
}

/// Nanoseconds of waiting that weigh as much as one point of severity.
const AGEING: i64 = 30_000_000_000;

/// The place in the queue: severity, what is ephemeral before all else, and half a minute for each point, so that nothing waits
/// for ever. It need not be computed anew as time goes by, since it goes by for all.
fn priority(is_ephemeral: bool, severity: u8, created_at: i64) -> i64 {
    let points = i64::from(severity) + if is_ephemeral { 100 } else { 0 };
    points.saturating_mul(AGEING).saturating_sub(created_at)
}

/// A job to be made.
pub(crate) struct NewJob<'a> {
    pub(crate) uuid: &'a str,
    pub(crate) alert: i64,
    pub(crate) severity: u8,
    pub(crate) state: JobState,
    pub(crate) plan: &'a Plan,
    pub(crate) plan_sha256: &'a str,
    pub(crate) bucket: i64,
    pub(crate) created_at: i64,
}

/// A mode in one word.
pub(crate) fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Approve => "approve",
        Mode::Auto => "auto",
    }
}

/// Makes a job.
pub(crate) fn insert(connection: &Connection, new: &NewJob<'_>) -> rusqlite::Result<i64> {
    connection
        .prepare(
            "INSERT INTO jobs (uuid, rule, asset, dedup_key, bucket, alert, mode, severity, priority, state, plan, plan_sha256, created_at, ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            new.uuid,
            new.plan.rule,
            asset_text(new.plan)?,
            new.plan.dedup_key,
            new.bucket,
            new.alert,
            mode_word(new.plan.mode),
            new.severity,
            priority(new.plan.asset.is_ephemeral(), new.severity, new.created_at),
            new.state.word(),
            to_json(new.plan)?,
            new.plan_sha256,
            new.created_at,
            new.state.has_ended().then_some(new.created_at),
        ])?;
    Ok(connection.last_insert_rowid())
}

/// The job that means the same as this plan would at this time.
///
/// What was only observed is the same only as what is only to be observed: it must not keep from acting once the rule may.
pub(crate) fn same(connection: &Connection, plan: &Plan, at: i64) -> rusqlite::Result<Option<Job>> {
    let window = i64::try_from(plan.dedup_window).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    // Both ways, since urgent alerts overtake: the one that came first may be decided later.
    let sql = format!(
        "{SELECT} WHERE rule = ?1 AND asset = ?2 AND dedup_key = ?3 AND bucket > ?4 AND bucket < ?5
         AND (?6 OR state <> 'observed') ORDER BY bucket DESC LIMIT 1"
    );
    connection
        .prepare(&sql)?
        .query_row(
            params![
                plan.rule,
                asset_text(plan)?,
                plan.dedup_key,
                at.saturating_sub(window.max(1)),
                at.saturating_add(window.max(1)),
                plan.mode == Mode::Observe,
            ],
            job,
        )
        .optional()
}

/// Whether a job of this plan has this bucket.
pub(crate) fn is_taken(connection: &Connection, plan: &Plan, bucket: i64) -> rusqlite::Result<bool> {
    connection
        .prepare("SELECT 1 FROM jobs WHERE rule = ?1 AND asset = ?2 AND dedup_key = ?3 AND bucket = ?4")?
        .exists(params![plan.rule, asset_text(plan)?, plan.dedup_key, bucket])
}

/// The job of this number.
pub(crate) fn of(connection: &Connection, id: i64) -> rusqlite::Result<Option<Job>> {
    connection.prepare(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], job).optional()
}

/// Jobs, the newest first.
pub(crate) fn newest(connection: &Connection, states: &[JobState], most: u32) -> rusqlite::Result<Vec<Job>> {
    let words: Vec<&str> = states.iter().map(|state| state.word()).collect();
    let marks = vec!["?"; words.len()].join(", ");
    let wanted = if words.is_empty() { String::new() } else { format!("WHERE state IN ({marks})") };
    let mut statement = connection.prepare(&format!("{SELECT} {wanted} ORDER BY id DESC LIMIT {most}"))?;
    let words: Vec<&dyn ToSql> = words.iter().map(|word| word as &dyn ToSql).collect();
    let found = statement.query_map(words.as_slice(), job)?;
    found.collect()
}

/// How many there are of each state.
pub(crate) fn counts(connection: &Connection) -> rusqlite::Result<Vec<(JobState, u64)>> {
    let mut statement = connection.prepare("SELECT state, count(*) FROM jobs GROUP BY state")?;
    let found = statement.query_map([], |row| {
        Ok((JobState::of_word(&row.get::<_, String>(0)?), row.get::<_, i64>(1)?.unsigned_abs()))
    })?;
    found.collect()
}

/// When the oldest job was made that waits for a worker.
pub(crate) fn oldest_queued(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT min(created_at) FROM jobs WHERE state = 'queued'", [], |row| row.get(0))
}

/// When a job that waits looks again by itself. One that is to wait longer is looked at now, for the clock was set back.
pub(crate) const LONGEST_WAIT: i64 = 3600 * 1_000_000_000;

/// Whether a job waits for a worker.
pub(crate) fn is_one_ready(connection: &Connection, now: i64) -> rusqlite::Result<bool> {
    connection
        .prepare(
            "SELECT 1 FROM jobs WHERE state = 'queued' OR (state = 'waiting' AND (next_at <= ?1 OR next_at > ?2)) LIMIT 1",
        )?
        .exists([now, now.saturating_add(LONGEST_WAIT)])
}

/// Whether a job has a step that was not begun.
pub(crate) fn has_pending_steps(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM steps WHERE job = ?1 AND state = 'pending' LIMIT 1")?.exists([id])
}

/// What a worker finds that asks for a job.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// This one.
    Job(Box<Job>),
    /// One that cannot be read, for this reason. It is given up, so that it keeps nobody from the others.
    Unreadable(i64, String),
    /// None.
    Nothing,
}

/// Gives the next job to a worker, and marks it as running. From then on [`wake`] shows by its `next_at`.
pub(crate) fn claim(connection: &Connection, now: i64) -> rusqlite::Result<Claimed> {
    let id: Option<i64> = connection
        .prepare(
            "UPDATE jobs SET state = 'running', why = '', next_at = 1, started_at = coalesce(started_at, ?1)
             WHERE id = (SELECT id FROM jobs
                         WHERE state = 'queued' OR (state = 'waiting' AND (next_at <= ?1 OR next_at > ?2))
                         ORDER BY priority DESC, id LIMIT 1)
             RETURNING id",
        )?
        .query_row([now, now.saturating_add(LONGEST_WAIT)], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(Claimed::Nothing) };
    match of(connection, id) {
        Ok(Some(job)) => Ok(Claimed::Job(Box::new(job))),
        Ok(None) => Ok(Claimed::Nothing),
        // The data base itself may do better next time.
        Err(error @ rusqlite::Error::SqliteFailure(..)) => Err(error),
        Err(error) => {
            let why = format!("what is kept of it cannot be read: {error}");
            set_state(connection, id, JobState::Dead, &why, now, 0)?;
            Ok(Claimed::Unreadable(id, why))
        }
    }
}

/// Says when it was begun: what waits for a time since then counts from there.
pub(crate) fn set_started(connection: &Connection, id: i64, at: Option<i64>) -> rusqlite::Result<()> {
    connection.prepare("UPDATE jobs SET started_at = ?2 WHERE id = ?1")?.execute(params![id, at])?;
    Ok(())
}

/// Gives a job back: it is queued, or waits until `next_at`, or has ended. If somebody wanted it to look again since it was
/// claimed, it does so at once: they may have come when it had looked for the last time.
pub(crate) fn set_state(
    connection: &Connection,
    id: i64,
    state: JobState,
    why: &str,
    now: i64,
    next_at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare(
            "UPDATE jobs SET state = ?2, why = ?3, ended_at = ?5,
                 next_at = CASE WHEN state = 'running' AND next_at = 0 THEN 0 ELSE ?4 END
             WHERE id = ?1",
        )?
        .execute(params![id, state.word(), why, next_at, state.has_ended().then_some(now)])?;
    Ok(())
}

/// What waits looks again at once.
pub(crate) fn wake(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.prepare("UPDATE jobs SET next_at = 0 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// One more attempt, or none counted any more since it came further.
pub(crate) fn set_attempt(connection: &Connection, id: i64, attempt: u32) -> rusqlite::Result<()> {
    connection.prepare("UPDATE jobs SET attempt = ?2 WHERE id = ?1")?.execute(params![id, attempt])?;
    Ok(())
}

/// How often it was begun since it last came further.
pub(crate) fn attempt_of(connection: &Connection, id: i64) -> rusqlite::Result<u32> {
    connection.query_row("SELECT attempt FROM jobs WHERE id = ?1", [id], |row| row.get(0))
}

/// Says that a person wants it to end; `None` takes that back.
pub(crate) fn set_cancel(connection: &Connection, id: i64, who: Option<&str>) -> rusqlite::Result<()> {
    connection.prepare("UPDATE jobs SET cancel = ?2 WHERE id = ?1")?.execute(params![id, who])?;
    Ok(())
}

/// Says where its case lies.
pub(crate) fn set_case(connection: &Connection, id: i64, folder: &str) -> rusqlite::Result<()> {
    connection.prepare("UPDATE jobs SET case_folder = ?2 WHERE id = ?1")?.execute(params![id, folder])?;
    Ok(())
}

/// Replaces the plan, which has grown.
pub(crate) fn set_plan(connection: &Connection, id: i64, plan: &Plan, sha256: &str) -> rusqlite::Result<()> {
    connection
        .prepare("UPDATE jobs SET plan = ?2, plan_sha256 = ?3, mode = ?4 WHERE id = ?1")?
        .execute(params![id, to_json(plan)?, sha256, mode_word(plan.mode)])?;
    Ok(())
}

/// The jobs that some worker has, or had when the service ended.
pub(crate) fn running(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare("SELECT id FROM jobs WHERE state = 'running' ORDER BY id")?;
    let found = statement.query_map([], |row| row.get(0))?;
    found.collect()
}

/// Says that an alert belongs to a job: it `began` it, was `attached`, `ignored`, or made it `escalate`.
pub(crate) fn add_alert(
    connection: &Connection,
    job: i64,
    alert: i64,
    at: i64,
    how: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare(
            "INSERT INTO job_alerts (job, alert, at, how) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![job, alert, at, how])?;
    Ok(())
}

/// How many alerts a job has.
pub(crate) fn count_alerts(connection: &Connection, job: i64) -> rusqlite::Result<usize> {
    let count: i64 =
        connection.query_row("SELECT count(*) FROM job_alerts WHERE job = ?1", [job], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The alerts of a job, and how each belongs to it.
pub(crate) fn alerts_of(connection: &Connection, job: i64) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement =
        connection.prepare("SELECT alert, how FROM job_alerts WHERE job = ?1 ORDER BY at, alert")?;
    let found = statement.query_map([job], |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.collect()
}

const SELECT: &str = "SELECT id, uuid, bucket, alert, severity, state, why, attempt, plan, plan_sha256, created_at, started_at, ended_at, cancel, case_folder FROM jobs";

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        uuid: row.get(1)?,
        bucket: row.get(2)?,
        alert: row.get(3)?,
        severity: row.get(4)?,
        state: JobState::of_word(&row.get::<_, String>(5)?),
        why: row.get(6)?,
        attempt: row.get(7)?,
        plan: from_json(8, &row.get::<_, String>(8)?)?,
        plan_sha256: row.get(9)?,
        created_at: row.get(10)?,
        started_at: row.get(11)?,
        ended_at: row.get(12)?,
        cancel: row.get(13)?,
        case_folder: row.get(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_number_and_nothing_else_does() {
        assert_eq!(
            (name_of(17), number_of("J000017"), number_of("17")),
            ("J000017".into(), Some(17), Some(17))
        );
        for other in ["", "J", "J-1", "Jx", "../1", "J99999999999999999999"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_ephemeral_or_severe_comes_first_and_who_waits_long_enough_before_it() {
        let minute = 60_000_000_000;
        let at = |is_ephemeral, severity, minutes: i64| priority(is_ephemeral, severity, minutes * minute);
        assert!(at(false, 90, 0) > at(false, 20, 0));
        assert!(at(true, 10, 0) > at(false, 100, 0));
        assert!(at(false, 20, 0) < at(false, 90, 30));
        assert!(at(false, 20, 0) > at(false, 90, 36));
    }

    const SECOND: i64 = 1_000_000_000;

    /// A state with one queued job, number 1.
    fn state_with_a_job() -> (tempfile::TempDir, crate::state::State) {
        let folder = tempfile::tempdir().unwrap();
        let state = crate::state::State::open(folder.path()).unwrap();
        let plan: Plan = serde_json::from_value(serde_json::json!({
            "rule": "r", "mode": "auto", "asset": {"kind": "host", "id": "web01"}, "dedup_key": "web01", "dedup_window": 60,
            "repeat": "attach", "steps": [],
        }))
        .unwrap();
        let plan_sha256 = plan.hash();
        let new = NewJob {
            uuid: "u",
            alert: 1,
            severity: 50,
            state: JobState::Queued,
            plan: &plan,
            plan_sha256: &plan_sha256,
            bucket: 0,
            created_at: 0,
        };
        state.connection().execute_batch("PRAGMA foreign_keys=OFF").unwrap();
        assert_eq!(state.with(|connection| insert(connection, &new)).unwrap(), 1);
        (folder, state)
    }

    #[test]
    fn who_wakes_a_job_while_its_worker_puts_it_down_is_heard() {
        let (_folder, state) = state_with_a_job();
        let connection = state.connection();
        let now = 1000 * SECOND;
        let put = || set_state(&connection, 1, JobState::Waiting, "", now, now + LONGEST_WAIT).unwrap();
        assert!(matches!(claim(&connection, now).unwrap(), Claimed::Job(job) if job.id == 1));
        put();
        assert!(!is_one_ready(&connection, now).unwrap());
        wake(&connection, 1).unwrap();
        assert!(matches!(claim(&connection, now).unwrap(), Claimed::Job(_)));
        wake(&connection, 1).unwrap();
        put();
        assert!(is_one_ready(&connection, now).unwrap());
        // That was heard; the next time nobody has come.
        assert!(matches!(claim(&connection, now).unwrap(), Claimed::Job(_)));
        put();
        assert!(!is_one_ready(&connection, now).unwrap());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_job_wait_for_longer_than_any_job_does() {
        let (_folder, state) = state_with_a_job();
        let connection = state.connection();
        let now = 1_000_000 * SECOND;
        claim(&connection, now).unwrap();
        set_state(&connection, 1, JobState::Waiting, "", now, now + LONGEST_WAIT).unwrap();
        assert!(!is_one_ready(&connection, now).unwrap());
        let back = now - 3600 * SECOND;
        assert!(is_one_ready(&connection, back).unwrap());
        assert!(matches!(claim(&connection, back).unwrap(), Claimed::Job(_)));
    }

    #[test]
    fn a_job_that_cannot_be_read_is_given_up_and_keeps_nobody_waiting() {
        let (_folder, state) = state_with_a_job();
        let connection = state.connection();
        connection.execute_batch("UPDATE jobs SET plan = '{'").unwrap();
        let Claimed::Unreadable(1, why) = claim(&connection, 0).unwrap() else { panic!("it was read") };
        assert!(why.contains("cannot be read"), "{why}");
        assert_eq!(counts(&connection).unwrap(), [(JobState::Dead, 1)]);
        assert!(matches!(claim(&connection, 0).unwrap(), Claimed::Nothing));
    }
}
