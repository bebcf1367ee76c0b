//! The event: one row of the timeline, one time of one record.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Text that is mostly one of our own words, and sometimes the evidence's.
pub type Text = Cow<'static, str>;

/// A time to the nanosecond: microseconds since 1970-01-01 UTC, and the nanoseconds below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Microseconds since 1970-01-01T00:00:00Z, rounded down.
    pub micros: i64,
    /// The nanoseconds below the microsecond, 0–999.
    pub nanos: i16,
}

impl Timestamp {
    /// The time `seconds` and `nanos` after 1970; `None` where it does not fit or `nanos` is over a second.
    pub fn from_unix(seconds: i64, nanos: u32) -> Option<Timestamp> {
        if nanos >= 1_000_000_000 {
            return None;
        }
        let micros = seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000))?;
        Some(Timestamp { micros, nanos: (nanos % 1000) as i16 })
    }

    /// The time `micros` microseconds after 1970.
    pub fn from_micros(micros: i64) -> Timestamp {
        Timestamp { micros, nanos: 0 }
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.micros.div_euclid(1_000_000)
    }

    /// The nanoseconds below the second, 0–999,999,999.
    pub fn subsec_nanos(self) -> u32 {
        (self.micros.rem_euclid(1_000_000) * 1000) as u32 + self.nanos.unsigned_abs() as u32
    }

    /// RFC 3339 in UTC, with as many of 0, 3, 6 or 9 digits as the time needs.
    pub fn to_rfc3339(self) -> String {
        match chrono::DateTime::from_timestamp(self.seconds(), self.subsec_nanos()) {
            Some(t) => t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
            None => format!("{} s since 1970", self.seconds()),
        }
    }
}

/// Defines an enum of fixed words that is stored as those words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// The word that the column holds.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// How fine the source's own time is.
    Precision {
        /// Nanoseconds.
        Ns = "ns",
        /// 100 nanoseconds.
        HundredNs = "100ns",
        /// Microseconds.
        Us = "us",
        /// Milliseconds.
        Ms = "ms",
        /// Seconds.
        S = "s",
        /// Two seconds (FAT).
        TwoS = "2s",
        /// Minutes.
        Min = "min",
        /// Days.
        Day = "day",
    }
}

impl Precision {
    /// The precision of a time written with `digits` digits after the second.
    pub fn of_fraction(digits: usize) -> Precision {
        match digits {
            0 => Precision::S,
            1..=3 => Precision::Ms,
            4..=6 => Precision::Us,
            7 => Precision::HundredNs,
            _ => Precision::Ns,
        }
    }
}

words! {
    /// How the time zone of a time is known.
    TzBasis {
        /// The record names an offset or zone.
        InRecord = "in_record",
        /// The format is UTC by definition.
        UtcByFormat = "utc_by_format",
        /// From the host's own configuration in the evidence.
        HostConfig = "host_config",
        /// The person who built the timeline said so.
        Flag = "flag",
        /// Nothing says; taken as UTC.
        AssumedUtc = "assumed_utc",
    }
}

words! {
    /// How the year of a time is known.
    YearBasis {
        /// The record has it.
        InRecord = "in_record",
        /// From dated neighbours in the same exhibit.
        Neighbour = "neighbour",
        /// From the file's own times.
        FileTime = "file_time",
        /// The person who built the timeline said so.
        Flag = "flag",
    }
}

/// A range of bytes: where a record lies in the decoded bytes of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Span {
    /// `length` bytes from `offset` on.
    pub fn new(offset: u64, length: u64) -> Span {
        Span { offset, length }
    }

    /// One past the last byte.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// From the start of this span to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { offset: self.offset, length: last.end().saturating_sub(self.offset) }
    }
}

/// The event's flags, as bits.
pub mod flags {
    /// Carved or otherwise recovered.
    pub const RECOVERED: i16 = 1;
    /// About, or from, a deleted file.
    pub const DELETED: i16 = 2;
    /// The record is damaged.
    pub const CORRUPT: i16 = 4;
    /// The record is cut short.
    pub const TRUNCATED: i16 = 8;
}

/// Everything else that a record says, as a JSON object with its keys in the order they were put.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attrs(Vec<(Text, serde_json::Value)>);

impl Attrs {
    /// Adds a value. A key that is there already gets a number: nothing is dropped.
    pub fn put(&mut self, key: impl Into<Text>, value: impl Into<serde_json::Value>) {
        let (key, value) = (key.into(), in_order(value.into()));
        if self.0.iter().any(|(k, _)| *k == key) {
            let n = self.0.iter().filter(|(k, _)| k.starts_with(&*key)).count();
            self.0.push((format!("{key}#{}", n.saturating_add(1)).into(), value));
        } else {
            self.0.push((key, value));
        }
    }

    /// Adds a value where there is one.
    pub fn put_some(&mut self, key: impl Into<Text>, value: Option<impl Into<serde_json::Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&serde_json::Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The JSON object, on one line; `{}` when empty.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".into())
    }
}

impl Serialize for Attrs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The value with the keys of its objects in order. Whether a JSON map keeps the order of insertion depends on what
/// else is built in; rows must not.
fn in_order(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().map(|(key, value)| (key, in_order(value))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect()
        }
        serde_json::Value::Array(items) => items.into_iter().map(in_order).collect(),
        other => other,
    }
}

/// What a parser says about one time of one record.
///
/// The engine adds what the parser cannot know: the event's id, exhibit, locator, parser and `dup_key`,
/// and the host where the record names none.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The time, or `None` for a record without one: it is kept, undated.
    pub time: Option<Timestamp>,
    /// What the time means, in plaso's words.
    pub ts_desc: Text,
    /// The time as the source wrote it, where `time` does not keep it exactly.
    pub ts_text: Option<String>,
    /// How fine the source's time is.
    pub ts_precision: Precision,
    /// How the zone is known.
    pub tz_basis: TzBasis,
    /// How the year is known.
    pub year_basis: YearBasis,
    /// The host that the record names.
    pub host: Option<Text>,
    /// The artefact: `linux:syslog`.
    pub source: Text,
    /// ECS `event.category`.
    pub category: Option<Text>,
    /// ECS `event.action`.
    pub action: Option<Text>,
    /// ECS `event.outcome`: `success`, `failure` or `unknown`.
    pub outcome: Option<Text>,
    /// OCSF `severity_id`, 0 to 6.
    pub severity: Option<i16>,
    /// One line that a person can read alone.
    pub message: String,
    /// The user the event is about.
    pub user_name: Option<String>,
    /// The process that did or wrote it.
    pub process: Option<String>,
    /// Its process id.
    pub pid: Option<i64>,
    /// The command line.
    pub command: Option<String>,
    /// Where a connection came from.
    pub src_ip: Option<String>,
    /// Its port.
    pub src_port: Option<i32>,
    /// Where it went.
    pub dst_ip: Option<String>,
    /// Its port.
    pub dst_port: Option<i32>,
    /// The file the event is about.
    pub path: Option<String>,
    /// Its inode number.
    pub inode: Option<i64>,
    /// Its size in bytes.
    pub size: Option<i64>,
    /// Cloud account.
    pub cloud_account: Option<Text>,
    /// Cloud region.
    pub cloud_region: Option<Text>,
    /// Cloud resource.
    pub cloud_resource: Option<String>,
    /// Container or pod.
    pub container: Option<String>,
    /// Event id of the source.
    pub event_code: Option<Text>,
    /// Unit, channel or facility.
    pub provider: Option<Text>,
    /// Record number or cursor.
    pub record_no: Option<i64>,
    /// Everything else.
    pub attrs: Attrs,
    /// Where the record lies.
    pub span: Span,
    /// Further pieces of the record, in the same bytes: `offset+length[>codec]`, separated by spaces.
    pub pieces: Option<String>,
    /// Bits of [`flags`].
    pub flags: i16,
}

impl Event {
    /// An event of `source` at `span`, undated until [`Event::at`] says otherwise.
    pub fn new(source: &'static str, ts_desc: &'static str, span: Span, message: impl Into<String>) -> Event {
        Event {
            time: None,
            ts_desc: Cow::Borrowed(ts_desc),
            ts_text: None,
            ts_precision: Precision::S,
            tz_basis: TzBasis::InRecord,
            year_basis: YearBasis::InRecord,
            host: None,
            source: Cow::Borrowed(source),
            category: None,
            action: None,
            outcome: None,
            severity: None,
            message: message.into(),
            user_name: None,
            process: None,
            pid: None,
            command: None,
            src_ip: None,
            src_port: None,
            dst_ip: None,
            dst_port: None,
            path: None,
            inode: None,
            size: None,
            cloud_account: None,
            cloud_region: None,
            cloud_resource: None,
            container: None,
            event_code: None,
            provider: None,
            record_no: None,
            attrs: Attrs::default(),
            span,
            pieces: None,
            flags: 0,
        }
    }

    /// Gives the event its time, how fine it is and how its zone is known.
    pub fn at(mut self, time: Timestamp, precision: Precision, tz_basis: TzBasis) -> Event {
        self.time = Some(time);
        self.ts_precision = precision;
        self.tz_basis = tz_basis;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_keeps_nanoseconds_on_both_sides_of_1970() {
        let t = Timestamp::from_unix(-1, 999_999_999).unwrap();
        assert_eq!((t.micros, t.nanos), (-1, 999));
        assert_eq!((t.seconds(), t.subsec_nanos()), (-1, 999_999_999));
        assert_eq!(t.to_rfc3339(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(Timestamp::from_unix(i64::MAX, 0), None);
        assert_eq!(Timestamp::from_unix(0, 1_000_000_000), None);
    }

    #[test]
    fn objects_within_attributes_have_their_keys_in_order() {
        let mut attrs = Attrs::default();
        attrs.put("sd", serde_json::json!({"z": {"b": 1, "a": [{"d": 1, "c": 2}]}, "a": 2}));
        assert_eq!(attrs.to_json(), r#"{"sd":{"a":2,"z":{"a":[{"c":2,"d":1}],"b":1}}}"#);
    }

    #[test]
    fn attributes_keep_their_order_and_never_drop_a_repeated_key() {
        let mut attrs = Attrs::default();
        attrs.put("z", 1);
        attrs.put("a", "x\"y");
        attrs.put("z", 2);
        assert_eq!(attrs.to_json(), r#"{"z":1,"a":"x\"y","z#2":2}"#);
    }
}
