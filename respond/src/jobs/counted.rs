//! What was done so far, counted in the state, for limits, storms and the breaker of isolations.

use rusqlite::{Connection, Params, params};

use crate::alert::AssetKind;
use crate::error::Result;
use crate::rules::History;
use crate::state::State;
use crate::state::jobs::{asset_of, asset_text_of};
use crate::steps::STEPS;

/// Counts within one transaction, so that what it has written itself is counted too.
pub(super) struct Counted<'a> {
    pub(super) connection: &'a Connection,
    pub(super) state: &'a State,
}

const SECOND: i64 = 1_000_000_000;

impl Counted<'_> {
    fn number(&self, sql: &str, values: impl Params) -> Result<u64> {
        let found: rusqlite::Result<i64> = self.connection.query_row(sql, values, |row| row.get(0));
        found.map(i64::unsigned_abs).map_err(|source| self.state.fault(source))
    }
}

fn nanoseconds(since: i64) -> i64 {
    since.saturating_mul(SECOND)
}

/// The words of steps that isolate, as a list of SQL texts. They are ours and hold no quote.
fn isolating() -> String {
    let words: Vec<String> =
        STEPS.iter().filter(|step| step.isolates()).map(|step| format!("'{}'", step.word())).collect();
    words.join(", ")
}

impl History for Counted<'_> {
    fn matches(&self, rule: &str, since: i64) -> Result<u64> {
        self.number(
            "SELECT count(*) FROM matches WHERE rule = ?1 AND at >= ?2",
            params![rule, nanoseconds(since)],
        )
    }

    fn jobs(&self, rule: &str, since: i64) -> Result<u64> {
        self.number(
            "SELECT count(*) FROM jobs WHERE rule = ?1 AND created_at >= ?2 AND state <> 'observed'",
            params![rule, nanoseconds(since)],
        )
    }

    fn jobs_of_asset(&self, rule: &str, kind: AssetKind, id: &str, since: i64) -> Result<u64> {
        let asset = asset_text_of(kind, id).map_err(|source| self.state.fault(source))?;
        self.number(
            "SELECT count(*) FROM jobs WHERE rule = ?1 AND asset = ?2 AND created_at >= ?3 AND state <> 'observed'",
            params![rule, asset, nanoseconds(since)],
        )
    }

    fn captures(&self, since: i64) -> Result<u64> {
        self.number(
            "SELECT count(DISTINCT job) FROM steps WHERE word LIKE 'capture.%' AND started_at >= ?1",
            [nanoseconds(since)],
        )
    }

    fn captures_now(&self) -> Result<u64> {
        self.number(
            "SELECT count(DISTINCT steps.job) FROM steps JOIN jobs ON jobs.id = steps.job
             WHERE steps.word LIKE 'capture.%' AND steps.state = 'running' AND jobs.state = 'running'",
            [],
        )
    }

    fn bytes(&self, since: i64) -> Result<u64> {
        self.number(
            "SELECT coalesce(sum(json_extract(result, '$.bytes')), 0) FROM steps
             WHERE word LIKE 'capture.%' AND ended_at >= ?1 AND result IS NOT NULL",
            [nanoseconds(since)],
        )
    }

    fn isolations(&self, since: i64) -> Result<u64> {
        let words = isolating();
        self.number(
            &format!("SELECT count(*) FROM steps WHERE word IN ({words}) AND started_at >= ?1"),
            [nanoseconds(since)],
        )
    }

    fn isolated(&self) -> Result<Vec<(AssetKind, String)>> {
        let words = isolating();
        // What is being isolated now counts, or two at the same time would each find room.
        let sql = format!(
            "SELECT jobs.asset FROM leases JOIN jobs ON jobs.id = leases.job
             WHERE leases.word IN ({words}) AND leases.state <> 'ended'
             UNION
             SELECT jobs.asset FROM steps JOIN jobs ON jobs.id = steps.job
             WHERE steps.word IN ({words}) AND steps.state = 'running'"
        );
        let read = || {
            let mut statement = self.connection.prepare(&sql)?;
            let found = statement.query_map([], |row| row.get::<_, String>(0))?;
            found.collect::<rusqlite::Result<Vec<String>>>()
        };
        let found = read().map_err(|source| self.state.fault(source))?;
        Ok(found.iter().filter_map(|text| asset_of(text)).collect())
    }
}
