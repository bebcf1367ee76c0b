//! A row as bytes: what a run holds between the parsers and the Parquet files.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::row::Row;

/// What rows are sorted by: time, then id; rows without a time last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// False sorts first, so the undated come last.
    pub(super) undated: bool,
    pub(super) micros: i64,
    pub(super) nanos: i16,
    pub(super) event_id: [u8; 12],
}

/// Bytes of a key in a run.
pub(super) const KEY_LENGTH: usize = 23;

impl Key {
    pub(super) fn of(row: &Row) -> Key {
        let time = row.event.time;
        Key {
            undated: time.is_none(),
            micros: time.map_or(0, |t| t.micros),
            nanos: time.map_or(0, |t| t.nanos),
            event_id: row.event_id,
        }
    }

    pub(super) fn ts(&self) -> Option<i64> {
        (!self.undated).then_some(self.micros)
    }

    pub(super) fn ts_ns(&self) -> Option<i16> {
        (!self.undated).then_some(self.nanos)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.undated));
        out.extend_from_slice(&self.micros.to_le_bytes());
        out.extend_from_slice(&self.nanos.to_le_bytes());
        out.extend_from_slice(&self.event_id);
    }

    /// The key and the bytes behind it; `None` where there are too few.
    pub(super) fn take(bytes: &[u8]) -> Option<(Key, &[u8])> {
        let (undated, bytes) = bytes.split_first()?;
        let (micros, bytes) = bytes.split_first_chunk::<8>()?;
        let (nanos, bytes) = bytes.split_first_chunk::<2>()?;
        let (event_id, bytes) = bytes.split_first_chunk::<12>()?;
        let key = Key {
            undated: *undated != 0,
            micros: i64::from_le_bytes(*micros),
            nanos: i16::from_le_bytes(*nanos),
            event_id: *event_id,
        };
        Some((key, bytes))
    }
}

/// The order of two rows: by key, and by content where keys are equal, so that it never depends on who came first.
pub(super) fn order(a: (&Key, &[u8]), b: (&Key, &[u8])) -> Ordering {
    a.0.cmp(b.0).then_with(|| a.1.cmp(b.1))
}

/// Every column but those of the [`Key`], borrowed from a [`Row`] or from a run's bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredRow<'a> {
    pub(super) ts_desc: &'a str,
    pub(super) ts_text: Option<&'a str>,
    pub(super) ts_precision: crate::event::Precision,
    pub(super) tz_basis: crate::event::TzBasis,
    pub(super) year_basis: crate::event::YearBasis,
    pub(super) host: Option<&'a str>,
    pub(super) source: &'a str,
    pub(super) category: Option<&'a str>,
    pub(super) action: Option<&'a str>,
    pub(super) outcome: Option<&'a str>,
    pub(super) severity: Option<i16>,
    pub(super) message: &'a str,
    pub(super) user_name: Option<&'a str>,
    pub(super) process: Option<&'a str>,
    pub(super) pid: Option<i64>,
    pub(super) command: Option<&'a str>,
    pub(super) src_ip: Option<&'a str>,
    pub(super) src_port: Option<i32>,
    pub(super) dst_ip: Option<&'a str>,
    pub(super) dst_port: Option<i32>,
    pub(super) path: Option<&'a str>,
    pub(super) inode: Option<i64>,
    pub(super) size: Option<i64>,
    pub(super) cloud_account: Option<&'a str>,
    pub(super) cloud_region: Option<&'a str>,
    pub(super) cloud_resource: Option<&'a str>,
    pub(super) container: Option<&'a str>,
    pub(super) event_code: Option<&'a str>,
    pub(super) provider: Option<&'a str>,
    pub(super) record_no: Option<i64>,
    pub(super) attrs: &'a str,
    pub(super) exhibit: &'a str,
    pub(super) locator: &'a str,
    pub(super) byte_offset: i64,
    pub(super) byte_length: i64,
    pub(super) pieces: Option<&'a str>,
    pub(super) parser: &'a str,
    pub(super) flags: i16,
    pub(super) dup_key: i64,
}

impl<'a> StoredRow<'a> {
    pub(super) fn of(row: &'a Row) -> StoredRow<'a> {
        let event = &row.event;
        StoredRow {
            ts_desc: &event.ts_desc,
            ts_text: event.ts_text.as_deref(),
            ts_precision: event.ts_precision,
            tz_basis: event.tz_basis,
            year_basis: event.year_basis,
            host: event.host.as_deref(),
            source: &event.source,
            category: event.category.as_deref(),
            action: event.action.as_deref(),
            outcome: event.outcome.as_deref(),
            severity: event.severity,
            message: &event.message,
            user_name: event.user_name.as_deref(),
            process: event.process.as_deref(),
            pid: event.pid,
            command: event.command.as_deref(),
            src_ip: event.src_ip.as_deref(),
            src_port: event.src_port,
            dst_ip: event.dst_ip.as_deref(),
            dst_port: event.dst_port,
            path: event.path.as_deref(),
            inode: event.inode,
            size: event.size,
            cloud_account: event.cloud_account.as_deref(),
            cloud_region: event.cloud_region.as_deref(),
            cloud_resource: event.cloud_resource.as_deref(),
            container: event.container.as_deref(),
            event_code: event.event_code.as_deref(),
            provider: event.provider.as_deref(),
            record_no: event.record_no,
            attrs: &row.attrs,
            exhibit: &row.exhibit,
            locator: &row.locator,
            byte_offset: i64::try_from(event.span.offset).unwrap_or(i64::MAX),
            byte_length: i64::try_from(event.span.length).unwrap_or(i64::MAX),
            pieces: event.pieces.as_deref(),
            parser: &row.parser,
            flags: event.flags,
            dup_key: row.dup_key,
        }
    }
}
