//! The columns of the table `events`: their names, types, meaning, and how a row fills them.

use polars::prelude::{
    DataType, Field, Int16Type, Int32Type, Int64Type, IntoSeries, PolarsResult, PrimitiveChunkedBuilder,
    Schema, StringChunkedBuilder, TimeUnit, TimeZone,
};
use serde_json::{Map, Value};

use super::column_builders::{Late, Words};
use super::row::Row;
use super::stored_row::{Key, StoredRow};
use crate::event::Timestamp;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Text of few different words. Its type is String as well; in the file its pages are dictionary encoded.
    Words,
    /// Microseconds since 1970, UTC.
    Time,
    /// A 16-bit integer.
    Int16,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
}

impl Kind {
    /// The column's type in the query engine.
    ///
    /// Words are plain strings: the engine's categorical type numbers its words in the order in which the whole
    /// process met them, which would make a file's bytes depend on what was written before it. The Parquet
    /// writer finds repeated strings itself and stores each once a row group.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Kind::Text | Kind::Words => DataType::String,
            Kind::Time => DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
            Kind::Int16 => DataType::Int16,
            Kind::Int32 => DataType::Int32,
            Kind::Int64 => DataType::Int64,
        }
    }
}

/// One column of the table `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventColumn {
    /// Its name, which works bare in SQL.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it means, in one line.
    pub meaning: &'static str,
}

macro_rules! builder {
    (Text) => { StringChunkedBuilder };
    (Words) => { Words };
    (Time) => { PrimitiveChunkedBuilder<Int64Type> };
    (Int16) => { PrimitiveChunkedBuilder<Int16Type> };
    (Int32) => { PrimitiveChunkedBuilder<Int32Type> };
    (Int64) => { PrimitiveChunkedBuilder<Int64Type> };
}

macro_rules! series {
    (Time, $builder:expr) => {{
        let micros = $builder.finish(&DataType::Int64)?;
        micros.i64()?.clone().into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_series()
    }};
    ($kind:ident, $builder:expr) => {
        $builder.finish(&Kind::$kind.data_type())?
    };
}

macro_rules! columns {
    (|$key:ident, $hex:ident, $row:ident| $($name:ident: $kind:ident = $value:expr, $meaning:literal;)*) => {
        /// Every column, in the order of the file.
        pub const COLUMNS: &[EventColumn] =
            &[$(EventColumn { name: stringify!($name), kind: Kind::$kind, meaning: $meaning }),*];

        /// One row group in the making: a builder a column.
        pub(super) struct Builders {
            $($name: Late<builder!($kind)>,)*
        }

        impl Builders {
            pub(super) fn new() -> Builders {
                Builders { $($name: Late::new(stringify!($name)),)* }
            }

            pub(super) fn push(&mut self, $key: &Key, $row: &StoredRow<'_>) {
                let hex = id_hex(&$key.event_id);
                let $hex = std::str::from_utf8(&hex).ok();
                $(self.$name.append_option($value);)*
            }

            pub(super) fn finish(self) -> PolarsResult<Vec<polars::prelude::Column>> {
                Ok(vec![$(series!($kind, self.$name).into()),*])
            }
        }

        pub(super) fn row_to_json(row: &Row) -> Map<String, Value> {
            let (key, stored) = (Key::of(row), StoredRow::of(row));
            let ($key, $row) = (&key, &stored);
            let hex = id_hex(&key.event_id);
            let $hex = std::str::from_utf8(&hex).ok();
            let mut json = Map::new();
            $(json.insert(stringify!($name).into(), Value::from($value));)*
            if let Some(time) = row.event.time {
                json.insert("ts".into(), Value::from(Timestamp::to_rfc3339(time)));
            }
            json
        }
    };
}

columns! { |key, hex, row|
    event_id: Text = hex, "id: 24 hex digits, a hash of the row's place in the evidence";
    ts: Time = key.ts(), "best UTC time, in microseconds; null if undated";
    ts_ns: Int16 = key.ts_ns(), "the nanoseconds below the microsecond, 0 to 999";
    ts_desc: Words = Some(row.ts_desc), "what the time means";
    ts_text: Text = row.ts_text, "the time as the source wrote it, where ts and ts_ns do not keep it exactly";
    ts_precision: Words = key.ts().map(|_| row.ts_precision.as_str()), "resolution of the source; null if undated";
    tz_basis: Words = key.ts().map(|_| row.tz_basis.as_str()), "how the time zone is known; null if undated";
    year_basis: Words = key.ts().map(|_| row.year_basis.as_str()), "how the year is known; null if undated";
    host: Words = row.host, "host the event is about";
    source: Words = Some(row.source), "artefact: linux:syslog, fs:stat and so on";
    category: Words = row.category, "ECS event.category";
    action: Words = row.action, "ECS event.action";
    outcome: Words = row.outcome, "ECS event.outcome";
    severity: Int16 = row.severity, "OCSF severity_id, 0 to 6";
    message: Text = Some(row.message), "one line that a person can read alone";
    user_name: Words = row.user_name, "user the event is about";
    process: Words = row.process, "process that did or wrote it";
    pid: Int64 = row.pid, "its process id";
    command: Text = row.command, "command line";
    src_ip: Text = row.src_ip, "where a connection came from";
    src_port: Int32 = row.src_port, "its port";
    dst_ip: Text = row.dst_ip, "where it went";
    dst_port: Int32 = row.dst_port, "its port";
    path: Text = row.path, "file the event is about";
    inode: Int64 = row.inode, "its inode number";
    size: Int64 = row.size, "its size in bytes";
    cloud_account: Words = row.cloud_account, "cloud account";
    cloud_region: Words = row.cloud_region, "cloud region";
    cloud_resource: Text = row.cloud_resource, "cloud resource";
    container: Text = row.container, "container or pod";
    event_code: Words = row.event_code, "event id of the source";
    provider: Words = row.provider, "unit, channel or facility";
    record_no: Int64 = row.record_no, "record number or cursor";
    attrs: Text = Some(row.attrs), "everything else that the record says, a JSON object";
    exhibit: Words = Some(row.exhibit), "exhibit";
    locator: Words = Some(row.locator), "way from the stream to the decoded bytes";
    byte_offset: Int64 = Some(row.byte_offset), "first byte of the record in the bytes that locator names";
    byte_length: Int64 = Some(row.byte_length), "length of the record in bytes";
    pieces: Text = row.pieces, "further pieces of the record: offset+length[>codec]";
    parser: Words = Some(row.parser), "parser: name and version";
    flags: Int16 = Some(row.flags), "bits: 1 recovered, 2 deleted file, 4 corrupt, 8 truncated";
    dup_key: Int64 = Some(row.dup_key), "hash of the content without its place";
}

/// The column of this name.
pub fn column(name: &str) -> Option<&'static EventColumn> {
    COLUMNS.iter().find(|c| c.name == name)
}

/// The table's schema in the query engine.
pub(crate) fn schema() -> Schema {
    COLUMNS.iter().map(|c| Field::new(c.name.into(), c.kind.data_type())).collect()
}

fn id_hex(id: &[u8; 12]) -> [u8; 24] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [b'0'; 24];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(id) {
        for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_those_of_the_design() {
        assert_eq!(COLUMNS.len(), 42);
        assert_eq!(schema().len(), 42);
        assert_eq!(column("ts").map(|c| c.kind), Some(Kind::Time));
        assert_eq!(column("nothing"), None);
        assert_eq!(&id_hex(&[0, 1, 0xab, 0xff, 4, 5, 6, 7, 8, 9, 10, 11]), b"0001abff0405060708090a0b");
    }
}
