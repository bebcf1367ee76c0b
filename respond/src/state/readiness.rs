//! What readiness was, run by run. Results and waivers are only ever added: triggers of the data base refuse the rest.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::State;
use crate::error::Result;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS readiness_runs (
    id INTEGER PRIMARY KEY, started_ns INTEGER NOT NULL, ended_ns INTEGER
);
CREATE TABLE IF NOT EXISTS readiness_evidence (sha256 TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readiness_results (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES readiness_runs(id), at_ns INTEGER NOT NULL,
    check_id TEXT NOT NULL, version INTEGER NOT NULL, severity TEXT NOT NULL, scope TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pass', 'warn', 'fail', 'error', 'not_applicable')),
    observed TEXT NOT NULL, expected TEXT NOT NULL, evidence_sha256 TEXT REFERENCES readiness_evidence(sha256),
    duration_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS readiness_results_of_run ON readiness_results (run, check_id, scope);
CREATE TABLE IF NOT EXISTS readiness_waivers (
    id INTEGER PRIMARY KEY, made_ns INTEGER NOT NULL, check_id TEXT NOT NULL, scope TEXT NOT NULL,
    owner TEXT NOT NULL CHECK (owner <> ''), until_ns INTEGER NOT NULL, reason TEXT NOT NULL CHECK (reason <> '')
);
CREATE TRIGGER IF NOT EXISTS readiness_results_stay BEFORE UPDATE ON readiness_results
BEGIN SELECT RAISE(ABORT, 'results of readiness are only added'); END;
CREATE TRIGGER IF NOT EXISTS readiness_results_remain BEFORE DELETE ON readiness_results
BEGIN SELECT RAISE(ABORT, 'results of readiness are only added'); END;
CREATE TRIGGER IF NOT EXISTS readiness_waivers_stay BEFORE UPDATE ON readiness_waivers
BEGIN SELECT RAISE(ABORT, 'waivers are only added'); END;
CREATE TRIGGER IF NOT EXISTS readiness_waivers_remain BEFORE DELETE ON readiness_waivers
BEGIN SELECT RAISE(ABORT, 'waivers are only added'); END;
";

/// The check that looks at one of many at a time, so that what it does not name may still be broken.
pub(crate) const SAMPLED: &str = "RD41";

/// One result, to be kept.
#[derive(Debug)]
pub(crate) struct NewResult<'a> {
    pub(crate) run: i64,
    pub(crate) at_ns: i64,
    pub(crate) check: &'a str,
    pub(crate) version: u32,
    pub(crate) severity: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) status: &'a str,
    pub(crate) observed: &'a str,
    pub(crate) expected: &'a str,
    pub(crate) evidence_sha256: Option<&'a str>,
    pub(crate) evidence: &'a [u8],
    pub(crate) duration_ms: u64,
}

/// One result, as it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptResult {
    /// The run.
    pub run: i64,
    /// When, in nanoseconds since 1970.
    pub at_ns: i64,
    /// `RD01` and so on.
    pub check: String,
    /// The version of the check.
    pub version: u32,
    /// `critical`, `high`, `medium`, as it was then.
    pub severity: String,
    /// What it is about.
    pub scope: String,
    /// `pass`, `warn`, `fail`, `error`, `not_applicable`.
    pub status: String,
    /// What was seen.
    pub observed: String,
    /// What should have been.
    pub expected: String,
    /// SHA-256 of the raw answers.
    pub evidence_sha256: Option<String>,
    /// How long the check took.
    pub duration_ms: i64,
}

/// A failure that somebody answers for until a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiver {
    /// The check.
    pub check: String,
    /// What it is about; empty for every scope.
    pub scope: String,
    /// Who answers for it.
    pub owner: String,
    /// Until when, in nanoseconds since 1970.
    pub until_ns: i64,
    /// Why.
    pub reason: String,
    /// When it was given.
    pub made_ns: i64,
}

impl Waiver {
    /// Whether it is about this check and scope.
    #[must_use]
    pub fn holds_for(&self, check: &str, scope: &str) -> bool {
        self.check == check && (self.scope.is_empty() || self.scope == scope)
    }
}

/// What a source delivered last, in nanoseconds since 1970.
#[derive(Debug, Clone, Default)]
pub(crate) struct Newest {
    /// An alert that could be read.
    pub(crate) alert_ns: Option<i64>,
    /// Something that is no alert the source is known to send.
    pub(crate) unread_ns: Option<i64>,
    /// A message of the transport to us, and its bytes.
    pub(crate) control: Option<(i64, Vec<u8>)>,
}

/// What waits in the state.
#[derive(Debug, Default)]
pub(crate) struct QueueHealth {
    pub(crate) oldest_undecided_ns: Option<i64>,
    pub(crate) oldest_job_ns: Option<i64>,
    pub(crate) dead_jobs: i64,
    /// What SQLite says of its file: `ok`.
    pub(crate) integrity: String,
}

impl State {
    /// Begins a run, and gives its number.
    pub(crate) fn begin_readiness(&self, now_ns: i64) -> Result<i64> {
        let connection = self.connection();
        let sql = "INSERT INTO readiness_runs (started_ns) VALUES (?1)";
        connection.execute(sql, [now_ns]).map_err(|error| self.fault(error))?;
        Ok(connection.last_insert_rowid())
    }

    /// Ends a run.
    pub(crate) fn end_readiness(&self, run: i64, now_ns: i64) -> Result<()> {
        let sql = "UPDATE readiness_runs SET ended_ns = ?2 WHERE id = ?1";
        self.connection().execute(sql, [run, now_ns]).map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Keeps one result, with the raw answers that it was seen in.
    pub(crate) fn keep_readiness(&self, new: &NewResult<'_>) -> Result<()> {
        let connection = self.connection();
        if let Some(sha256) = new.evidence_sha256 {
            let sql = "INSERT OR IGNORE INTO readiness_evidence (sha256, bytes) VALUES (?1, ?2)";
            connection.execute(sql, params![sha256, new.evidence]).map_err(|error| self.fault(error))?;
        }
        let sql = "INSERT INTO readiness_results (run, at_ns, check_id, version, severity, scope, status, observed, \
                   expected, evidence_sha256, duration_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let duration = i64::try_from(new.duration_ms).unwrap_or(i64::MAX);
        let values = params![
            new.run,
            new.at_ns,
            new.check,
            new.version,
            new.severity,
            new.scope,
            new.status,
            new.observed,
            new.expected,
            new.evidence_sha256,
            duration
        ];
        connection.execute(sql, values).map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// The raw answers of a hash, as far as they were kept.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn readiness_evidence(&self, sha256: &str) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT bytes FROM readiness_evidence WHERE sha256 = ?1";
        let found = self.connection().query_row(sql, [sha256], |row| row.get(0)).optional();
        found.map_err(|error| self.fault(error))
    }

    /// Numbers of the runs that ended, with the time of their start, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn readiness_runs(&self) -> Result<Vec<(i64, i64)>> {
        let sql = "SELECT id, started_ns FROM readiness_runs WHERE ended_ns IS NOT NULL ORDER BY id";
        self.rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The results of one run.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn readiness_of(&self, run: i64) -> Result<Vec<KeptResult>> {
        self.rows(&format!("{RESULTS} WHERE run = ?1 ORDER BY check_id, scope, id"), [run], result)
    }

    /// Every result since a moment, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn readiness_since(&self, since_ns: i64) -> Result<Vec<KeptResult>> {
        let sql = format!(
            "{RESULTS} WHERE at_ns >= ?1 AND run IN (SELECT id FROM readiness_runs WHERE ended_ns IS NOT NULL) ORDER BY run, id"
        );
        self.rows(&sql, [since_ns], result)
    }

    /// What the last run that ended said of each check, by scope.
    ///
    /// A scope that an earlier run named and the last one of its check does not is no longer known of: what passed before
    /// credentials broke is no pass now, nor is an error that went away one. Of several results of one scope, the first
    /// counts, which is a failure if there is any. Only the drill that looks at one case of many at a time is told otherwise:
    /// a case that it found broken stays so until that very case passes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn readiness_now(&self) -> Result<Vec<KeptResult>> {
        let sql = format!(
            "{RESULTS} WHERE id IN (SELECT MIN(one.id) FROM readiness_results one JOIN \
             (SELECT r.check_id AS check_id, MAX(r.run) AS run FROM readiness_results r JOIN readiness_runs u ON u.id = r.run \
             WHERE u.ended_ns IS NOT NULL GROUP BY r.check_id) last ON last.check_id = one.check_id AND last.run = one.run \
             GROUP BY one.check_id, one.scope) OR (status = 'fail' AND check_id = '{SAMPLED}' AND id IN \
             (SELECT MAX(r.id) FROM readiness_results r JOIN readiness_runs u ON u.id = r.run \
             WHERE u.ended_ns IS NOT NULL AND r.check_id = '{SAMPLED}' GROUP BY r.scope)) ORDER BY check_id, scope"
        );
        self.rows(&sql, [], result)
    }

    /// The last raw answers of a check before a run.
    pub(crate) fn last_readiness_evidence(&self, check: &str) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT bytes FROM readiness_evidence WHERE sha256 = (SELECT evidence_sha256 FROM readiness_results \
                   WHERE check_id = ?1 AND evidence_sha256 IS NOT NULL ORDER BY id DESC LIMIT 1)";
        let found = self.connection().query_row(sql, [check], |row| row.get(0)).optional();
        found.map_err(|error| self.fault(error))
    }

    /// Adds a waiver. A later one of the same check and scope counts in place of an earlier one.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`], also when owner or reason is empty.
    pub fn waive(&self, waiver: &Waiver) -> Result<()> {
        let sql = "INSERT INTO readiness_waivers (made_ns, check_id, scope, owner, until_ns, reason) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values =
            params![waiver.made_ns, waiver.check, waiver.scope, waiver.owner, waiver.until_ns, waiver.reason];
        self.connection().execute(sql, values).map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// The waivers that hold at a moment: of each check and scope the last one, if it has not ended.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn waivers_at(&self, now_ns: i64) -> Result<Vec<Waiver>> {
        let sql = "SELECT check_id, scope, owner, until_ns, reason, made_ns FROM readiness_waivers WHERE id IN \
                   (SELECT MAX(id) FROM readiness_waivers GROUP BY check_id, scope) AND until_ns > ?1 ORDER BY id";
        self.rows(sql, [now_ns], |row| {
            Ok(Waiver {
                check: row.get(0)?,
                scope: row.get(1)?,
                owner: row.get(2)?,
                until_ns: row.get(3)?,
                reason: row.get(4)?,
                made_ns: row.get(5)?,
            })
        })
    }

    /// What each source delivered last.
    pub(crate) fn newest_deliveries(&self) -> Result<BTreeMap<String, Newest>> {
        if !self.has_table("deliveries")? {
            return Ok(BTreeMap::new());
        }
        let sql = "SELECT source, MAX(CASE WHEN status IN ('new', 'decided') THEN received_ns END), \
                   MAX(CASE WHEN status = 'unparsed' THEN received_ns END), \
                   MAX(CASE WHEN status = 'control' THEN id END) FROM deliveries GROUP BY source";
        let found = self.rows(sql, [], |row| {
            let newest = Newest { alert_ns: row.get(1)?, unread_ns: row.get(2)?, control: None };
            Ok((row.get::<_, String>(0)?, newest, row.get::<_, Option<i64>>(3)?))
        })?;
        let mut all = BTreeMap::new();
        for (source, mut newest, control) in found {
            if let Some(id) = control {
                newest.control = self.delivery(id)?.map(|one| (one.received_ns, one.body));
            }
            all.insert(source, newest);
        }
        Ok(all)
    }

    /// Whether a source delivered exactly these bytes since a moment.
    pub(crate) fn has_delivery(&self, source: &str, sha256: &[u8], since_ns: i64) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM deliveries WHERE source = ?1 AND sha256 = ?2 AND received_ns >= ?3";
        let found =
            self.connection().query_row(sql, params![source, sha256, since_ns], |row| row.get::<_, i64>(0));
        Ok(found.map_err(|error| self.fault(error))? > 0)
    }

    /// What waits, and whether the data base is whole.
    pub(crate) fn queue_health(&self) -> Result<QueueHealth> {
        let mut health = QueueHealth::default();
        if self.has_table("deliveries")? {
            let sql = "SELECT MIN(received_ns) FROM deliveries WHERE status = 'new'";
            health.oldest_undecided_ns = self.one(sql)?;
        }
        if self.has_table("jobs")? {
            // One that waits for a person until a time is told by its approval, not here.
            let sql = "SELECT MIN(created_at) FROM jobs WHERE state IN ('queued', 'running')";
            health.oldest_job_ns = self.one(sql)?;
            health.dead_jobs =
                self.one::<i64>("SELECT COUNT(*) FROM jobs WHERE state = 'dead'")?.unwrap_or(0);
        }
        let integrity = self.one::<String>("PRAGMA quick_check(1)")?;
        health.integrity = integrity.unwrap_or_else(|| "nothing".to_owned());
        Ok(health)
    }

    /// Whether a file is a whole copy of a state: SQLite finds no fault, and the table of deliveries is there. Gives how many
    /// it holds, else why it is none, in words.
    pub(crate) fn check_copy(path: &Path) -> std::result::Result<i64, String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let said = |error: rusqlite::Error| error.to_string();
        let copy = Connection::open_with_flags(path, flags).map_err(said)?;
        let verdict: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(said)?;
        if verdict != "ok" {
            return Err(format!("SQLite says {verdict}"));
        }
        copy.query_row("SELECT COUNT(*) FROM deliveries", [], |row| row.get(0)).map_err(said)
    }

    /// When each rule last made a job, in nanoseconds since 1970.
    pub(crate) fn rules_matched(&self) -> Result<BTreeMap<String, i64>> {
        if !self.has_table("jobs")? {
            return Ok(BTreeMap::new());
        }
        let sql = "SELECT rule, MAX(created_at) FROM jobs GROUP BY rule";
        Ok(self.rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect())
    }

    fn has_table(&self, name: &str) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
        let found = self.connection().query_row(sql, [name], |row| row.get::<_, i64>(0));
        Ok(found.map_err(|error| self.fault(error))? > 0)
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<Option<T>> {
        let found = self.connection().query_row(sql, [], |row| row.get(0));
        found.map_err(|error| self.fault(error))
    }

    fn rows<T, P: rusqlite::Params>(
        &self,
        sql: &str,
        values: P,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let connection = self.connection();
        let mut statement = connection.prepare(sql).map_err(|error| self.fault(error))?;
        let rows = statement.query_map(values, read).map_err(|error| self.fault(error))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|error| self.fault(error))
    }
}

const RESULTS: &str = "SELECT run, at_ns, check_id, version, severity, scope, status, observed, expected, \
                       evidence_sha256, duration_ms FROM readiness_results";

fn result(row: &Row<'_>) -> rusqlite::Result<KeptResult> {
    Ok(KeptResult {
        run: row.get(0)?,
        at_ns: row.get(1)?,
        check: row.get(2)?,
        version: row.get(3)?,
        severity: row.get(4)?,
        scope: row.get(5)?,
        status: row.get(6)?,
        observed: row.get(7)?,
        expected: row.get(8)?,
        evidence_sha256: row.get(9)?,
        duration_ms: row.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_of(state: &State, run: i64, check: &str, scope: &str, status: &str) {
        let new = NewResult {
            run,
            at_ns: run * 1_000_000_000,
            check,
            version: 1,
            severity: "critical",
            scope,
            status,
            observed: "o",
            expected: "e",
            evidence_sha256: None,
            evidence: b"",
            duration_ms: 7,
        };
        state.keep_readiness(&new).unwrap();
    }

    #[test]
    fn what_the_last_run_of_a_check_does_not_name_is_not_told_as_if_it_still_held() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let ran = |results: &[(&str, &str, &str)], ends: bool| {
            let run = state.begin_readiness(1).unwrap();
            for (check, scope, status) in results {
                kept_of(&state, run, check, scope, status);
            }
            if ends {
                state.end_readiness(run, 2).unwrap();
            }
        };
        let now = || -> Vec<(String, String, String)> {
            let all = state.readiness_now().unwrap().into_iter();
            all.map(|one| (one.check, one.scope, one.status)).collect()
        };
        let told = |all: &[(&str, &str, &str)]| -> Vec<(String, String, String)> {
            all.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
        };
        ran(&[("RD01", "123456789012", "pass"), ("RD32", "host", "pass")], true);
        // Credentials break: there is no account to speak of.
        ran(&[("RD01", "account", "error")], true);
        assert_eq!(now(), told(&[("RD01", "account", "error"), ("RD32", "host", "pass")]));
        // A run that has not ended says nothing yet.
        ran(&[("RD01", "123456789012", "pass")], false);
        assert_eq!(now(), told(&[("RD01", "account", "error"), ("RD32", "host", "pass")]));
        // They are mended; of two results of one scope a failure counts.
        ran(&[("RD01", "123456789012", "fail"), ("RD01", "123456789012", "pass")], true);
        assert_eq!(now(), told(&[("RD01", "123456789012", "fail"), ("RD32", "host", "pass")]));
    }

    #[test]
    fn a_case_that_was_found_broken_stays_so_until_it_passes_itself() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let ran = |scope: &str, status: &str| -> Vec<(String, String)> {
            let run = state.begin_readiness(1).unwrap();
            kept_of(&state, run, SAMPLED, scope, status);
            state.end_readiness(run, 2).unwrap();
            let all = state.readiness_now().unwrap().into_iter();
            all.map(|one| (one.scope, one.status)).collect()
        };
        let told = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(scope, status)| ((*scope).to_owned(), (*status).to_owned())).collect()
        };
        assert_eq!(ran("a", "fail"), told(&[("a", "fail")]));
        assert_eq!(ran("b", "pass"), told(&[("a", "fail"), ("b", "pass")]));
        assert_eq!(ran("c", "pass"), told(&[("a", "fail"), ("c", "pass")]));
        assert_eq!(ran("a", "pass"), told(&[("a", "pass")]));
        assert_eq!(ran("b", "pass"), told(&[("b", "pass")]));
    }

    fn kept(state: &State, run: i64, status: &str) {
        let evidence = b"raw";
        let sha256 = custody::sha256(evidence).to_string();
        let new = NewResult {
            run,
            at_ns: 5,
            check: "RD01",
            version: 1,
            severity: "critical",
            scope: "a",
            status,
            observed: "o",
            expected: "e",
            evidence_sha256: Some(&sha256),
            evidence,
            duration_ms: 7,
        };
        state.keep_readiness(&new).unwrap();
    }

    #[test]
    fn results_are_kept_with_their_raw_answers_and_can_be_neither_changed_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let run = state.begin_readiness(1).unwrap();
        kept(&state, run, "fail");
        state.end_readiness(run, 2).unwrap();
        let found = state.readiness_of(run).unwrap();
        assert_eq!((found.len(), found[0].status.as_str()), (1, "fail"));
        let sha256 = found[0].evidence_sha256.clone().unwrap();
        assert_eq!(state.readiness_evidence(&sha256).unwrap().unwrap(), b"raw");
        assert_eq!(sha256, custody::sha256(b"raw").to_string());
        for sql in ["UPDATE readiness_results SET status = 'pass'", "DELETE FROM readiness_results"] {
            let refused = state.connection().execute(sql, []).unwrap_err();
            assert!(refused.to_string().contains("only added"), "{refused}");
        }
        assert!(state.connection().execute("DELETE FROM readiness_evidence", []).is_err());
    }

    #[test]
    fn a_waiver_needs_an_owner_and_a_reason_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let waiver = |owner: &str, until_ns, made_ns| Waiver {
            check: "RD10".to_owned(),
            scope: String::new(),
            owner: owner.to_owned(),
            until_ns,
            reason: "moved in May".to_owned(),
            made_ns,
        };
        assert!(state.waive(&waiver("", 10, 0)).is_err());
        state.waive(&waiver("jane", 10, 0)).unwrap();
        assert_eq!(state.waivers_at(9).unwrap().len(), 1);
        assert!(state.waivers_at(9).unwrap()[0].holds_for("RD10", "any"));
        assert!(state.waivers_at(10).unwrap().is_empty());
        // A later one takes its place, and so ends it early.
        state.waive(&waiver("jane", 5, 1)).unwrap();
        assert!(state.waivers_at(6).unwrap().is_empty());
    }
}
