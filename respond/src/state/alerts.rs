//! Alerts as they were read from deliveries: each update of each alert once, however often it was sent.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::texts::{from_json, to_json};
use crate::alert::{Alert, Status};

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS alerts (
    id INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL,
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    status TEXT NOT NULL,
    severity INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    raw_size INTEGER NOT NULL,
    raw_sha256 TEXT NOT NULL,
    alert TEXT NOT NULL,
    UNIQUE (source, source_id, occurrence, status)
) STRICT;
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (received_at);
CREATE INDEX IF NOT EXISTS alerts_by_delivery ON alerts (delivery);";

/// An alert that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAlert {
    /// Its number.
    pub id: i64,
    /// The delivery that it was read from.
    pub delivery: i64,
    /// When that came, in nanoseconds since 1970.
    pub received_at: i64,
    /// Size of the body as it came.
    pub raw_size: u64,
    /// SHA-256 of the body as it came, in hexadecimal digits.
    pub raw_sha256: String,
    /// What it says.
    pub alert: Alert,
}

/// The body that an alert was read from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The delivery.
    pub delivery: i64,
    /// The source of the settings that it came from.
    pub source: String,
    /// When it came, in nanoseconds since 1970.
    pub received_at: i64,
    /// Size of its body.
    pub size: u64,
    /// SHA-256 of its body, in hexadecimal digits.
    pub sha256: String,
}

/// Keeps an alert; `None` if this update of it was kept before. The second number tells alerts of one body apart that
/// their sender gave no id.
pub(crate) fn keep(
    connection: &Connection,
    alert: &Alert,
    origin: &Origin,
    position: usize,
) -> rusqlite::Result<Option<i64>> {
    let (source, id, status) = key(alert, origin, position);
    let kept = connection
        .prepare(
            "INSERT INTO alerts (delivery, source, source_id, occurrence, status, severity, received_at, raw_size, raw_sha256, alert)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            origin.delivery,
            source,
            id,
            alert.occurrence,
            status,
            alert.severity,
            origin.received_at,
            i64::try_from(origin.size).unwrap_or(i64::MAX),
            origin.sha256,
            to_json(alert)?,
        ])?;
    Ok((kept > 0).then(|| connection.last_insert_rowid()))
}

/// Whether this update of an alert is kept already.
pub(crate) fn is_kept(
    connection: &Connection,
    alert: &Alert,
    origin: &Origin,
    position: usize,
) -> rusqlite::Result<bool> {
    let (source, id, status) = key(alert, origin, position);
    connection
        .prepare(
            "SELECT 1 FROM alerts WHERE source = ?1 AND source_id = ?2 AND occurrence = ?3 AND status = ?4",
        )?
        .exists(params![source, id, alert.occurrence, status])
}

/// Products whose ids of alerts are the same wherever they come from, and different in all their tenants: such an alert may come by
/// two ways and is one.
const OWN_IDS: &[&str] = &["guardduty", "security_hub", "crowdstrike", "defender", "sentinelone", "gcp_scc"];

/// What makes an alert this one. Most products count for themselves, so that two of them have an alert 1 each.
fn key(alert: &Alert, origin: &Origin, position: usize) -> (String, String, &'static str) {
    let source = if OWN_IDS.contains(&alert.source.as_str()) {
        alert.source.clone()
    } else {
        // No name of a source and no kind has a blank.
        format!("{} {}", alert.source, origin.source)
    };
    let status = match alert.status {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
    };
    // Without an id the same bytes are the same alert.
    let id = if alert.source_id.is_empty() {
        format!("{} {position}", origin.sha256)
    } else {
        alert.source_id.clone()
    };
    (source, id, status)
}

/// The alert of this number.
pub(crate) fn of(connection: &Connection, id: i64) -> rusqlite::Result<Option<StoredAlert>> {
    connection
        .prepare("SELECT id, delivery, received_at, raw_size, raw_sha256, alert FROM alerts WHERE id = ?1")?
        .query_row([id], stored)
        .optional()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredAlert> {
    Ok(StoredAlert {
        id: row.get(0)?,
        delivery: row.get(1)?,
        received_at: row.get(2)?,
        raw_size: row.get::<_, i64>(3)?.unsigned_abs(),
        raw_sha256: row.get(4)?,
        alert: from_json(5, &row.get::<_, String>(5)?)?,
    })
}
