//! What was decided about each alert, with every reason.

use rusqlite::{Connection, OptionalExtension, params};

use super::texts::{from_json, to_json};
use crate::rules::Decision;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS decisions (
    alert INTEGER PRIMARY KEY REFERENCES alerts (id),
    decided_at INTEGER NOT NULL,
    plans INTEGER NOT NULL,
    decision TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS matches (
    rule TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS matches_of_rule ON matches (rule, at);";

/// Keeps the decision about an alert.
pub(crate) fn keep(
    connection: &Connection,
    alert: i64,
    decided_at: i64,
    decision: &Decision,
) -> rusqlite::Result<()> {
    connection
        .prepare("INSERT INTO decisions (alert, decided_at, plans, decision) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            alert,
            decided_at,
            i64::try_from(decision.plans.len()).unwrap_or(i64::MAX),
            to_json(decision)?
        ])?;
    Ok(())
}

/// The decision about an alert.
pub(crate) fn of(connection: &Connection, alert: i64) -> rusqlite::Result<Option<Decision>> {
    connection
        .prepare("SELECT decision FROM decisions WHERE alert = ?1")?
        .query_row([alert], |row| from_json(0, &row.get::<_, String>(0)?))
        .optional()
}

/// Notes that a rule matched an alert.
pub(crate) fn matched(connection: &Connection, rule: &str, at: i64) -> rusqlite::Result<()> {
    connection.prepare("INSERT INTO matches (rule, at) VALUES (?1, ?2)")?.execute(params![rule, at])?;
    Ok(())
}
