//! The row: an event with its place in the evidence, its id and its content key.

use std::sync::Arc;

use custody::digest::Hasher;
use serde_json::{Map, Value};

use crate::event::{Event, Span, Text};

/// One row of the timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// First 12 bytes of a SHA-256 over the row's place; see [`RowMaker`].
    pub event_id: [u8; 12],
    /// What the parser said. Its `attrs` are empty here: they are in [`Row::attrs`].
    pub event: Event,
    /// The event's attributes as JSON, made once.
    pub attrs: String,
    /// `E001`.
    pub exhibit: Arc<str>,
    /// Way from the stream to the decoded bytes.
    pub locator: Arc<str>,
    /// Name and version: `syslog@1`.
    pub parser: Arc<str>,
    /// Hash of the content without its place; see [`RowMaker`].
    pub dup_key: i64,
}

impl Row {
    /// The id as 24 hex digits.
    pub fn id_hex(&self) -> String {
        hex::encode(self.event_id)
    }

    /// The row as `find_event` gives it: every column by name, `null` where there is none, `ts` as RFC 3339 with
    /// the nanoseconds of `ts_ns` in it. Two rows are the same exactly if these are equal.
    pub fn to_json(&self) -> Map<String, Value> {
        super::columns::row_to_json(self)
    }
}

/// Makes the rows of one file: gives every event its id and content key.
///
/// A hashed field is its length in bytes as 8 bytes little-endian, then the bytes; numbers are decimal text; a
/// field that is not there is hashed as an empty one.
///
/// - `event_id`: the first 12 bytes of SHA-256 over bundle id, locator, byte_offset, byte_length, ts_desc and
///   ordinal. The ordinal counts from 0 the rows of one record (one span, rows one after the other) that have
///   the same `ts_desc`.
/// - `dup_key`: the first 8 bytes (little-endian, signed) of SHA-256 over source, ts_desc, ts in microseconds,
///   ts_ns, ts_text, host, message and attrs.
///
/// ```
/// use timeline::event::{Event, Span};
/// use timeline::store::RowMaker;
///
/// let mut maker = RowMaker::new("a-bundle", "E001", "disk/p1/ext4:/var/log/syslog", "syslog@1", Some("web01"));
/// let row = maker.row(Event::new("linux:syslog", "Recorded Time", Span::new(0, 40), "a line"));
/// assert_eq!(row.id_hex().len(), 24);
/// assert_eq!(row.event.host.as_deref(), Some("web01"));
/// ```
pub struct RowMaker {
    exhibit: Arc<str>,
    locator: Arc<str>,
    parser: Arc<str>,
    host: Option<Text>,
    /// The hash of bundle id and locator, which all rows of the file begin with.
    place: Hasher,
    record: Option<Span>,
    /// How many rows of the record had each `ts_desc`.
    seen: Vec<(Text, u64)>,
    field: Vec<u8>,
}

impl RowMaker {
    /// A maker for the file at `locator`. `parser` is name and version; `host` is for rows that name none.
    pub fn new(bundle_id: &str, exhibit: &str, locator: &str, parser: &str, host: Option<&str>) -> RowMaker {
        let mut place = Hasher::new();
        let mut field = Vec::with_capacity(512);
        put(&mut field, bundle_id.as_bytes());
        put(&mut field, locator.as_bytes());
        place.update(&field);
        RowMaker {
            exhibit: exhibit.into(),
            locator: locator.into(),
            parser: parser.into(),
            host: host.map(|h| Text::Owned(h.to_owned())),
            place,
            record: None,
            seen: Vec::new(),
            field,
        }
    }

    /// The row of an event. Events of one record must come one after the other.
    pub fn row(&mut self, mut event: Event) -> Row {
        if event.host.is_none() {
            event.host.clone_from(&self.host);
        }
        let attrs = std::mem::take(&mut event.attrs).to_json();
        let event_id = self.event_id(&event);
        let dup_key = self.dup_key(&event, &attrs);
        Row {
            event_id,
            event,
            attrs,
            exhibit: self.exhibit.clone(),
            locator: self.locator.clone(),
            parser: self.parser.clone(),
            dup_key,
        }
    }

    /// The rows of several events, in their order.
    pub fn rows(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Row> {
        events.into_iter().map(|event| self.row(event)).collect()
    }

    fn event_id(&mut self, event: &Event) -> [u8; 12] {
        if self.record != Some(event.span) {
            self.record = Some(event.span);
            self.seen.clear();
        }
        let ordinal = match self.seen.iter_mut().find(|(desc, _)| *desc == event.ts_desc) {
            Some((_, n)) => {
                *n = n.saturating_add(1);
                *n
            }
            None => {
                self.seen.push((event.ts_desc.clone(), 0));
                0
            }
        };
        self.field.clear();
        put_number(&mut self.field, i128::from(event.span.offset));
        put_number(&mut self.field, i128::from(event.span.length));
        put(&mut self.field, event.ts_desc.as_bytes());
        put_number(&mut self.field, i128::from(ordinal));
        let mut hasher = self.place.clone();
        hasher.update(&self.field);
        first_bytes(hasher)
    }

    fn dup_key(&mut self, event: &Event, attrs: &str) -> i64 {
        self.field.clear();
        put(&mut self.field, event.source.as_bytes());
        put(&mut self.field, event.ts_desc.as_bytes());
        match event.time {
            Some(time) => {
                put_number(&mut self.field, i128::from(time.micros));
                put_number(&mut self.field, i128::from(time.nanos));
            }
            None => {
                put(&mut self.field, b"");
                put(&mut self.field, b"");
            }
        }
        put(&mut self.field, event.ts_text.as_deref().unwrap_or("").as_bytes());
        put(&mut self.field, event.host.as_deref().unwrap_or("").as_bytes());
        put(&mut self.field, event.message.as_bytes());
        put(&mut self.field, attrs.as_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&self.field);
        i64::from_le_bytes(first_bytes(hasher))
    }
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u64).to_le_bytes());
    out.extend_from_slice(field);
}

/// A number as decimal text, without an allocation.
fn put_number(out: &mut Vec<u8>, number: i128) {
    let mut digits = [0u8; 40];
    let mut rest = number.unsigned_abs();
    let mut length = 0usize;
    for place in digits.iter_mut().rev() {
        *place = b'0'.saturating_add((rest % 10) as u8);
        rest /= 10;
        length = length.saturating_add(1);
        if rest == 0 {
            break;
        }
    }
    let negative = number < 0;
    let total = length.saturating_add(usize::from(negative)) as u64;
    out.extend_from_slice(&total.to_le_bytes());
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(length)..).unwrap_or(&[]));
}

fn first_bytes<const N: usize>(hasher: Hasher) -> [u8; N] {
    let digest = hasher.finish();
    let mut first = [0; N];
    first.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn event(offset: u64, desc: &'static str) -> Event {
        Event::new("linux:syslog", desc, Span::new(offset, 40), "sshd: hello")
    }

    fn maker(locator: &str) -> RowMaker {
        RowMaker::new("01890000-bundle", "E001", locator, "syslog@1", Some("web01"))
    }

    #[test]
    fn the_id_is_the_documented_hash_of_the_rows_place() {
        let row = maker("disk/p2/ext4:/var/log/syslog").row(event(1234, "Recorded Time"));
        let mut bytes = Vec::new();
        for field in ["01890000-bundle", "disk/p2/ext4:/var/log/syslog", "1234", "40", "Recorded Time", "0"] {
            bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        assert_eq!(&custody::digest::sha256(&bytes).as_bytes()[..12], &row.event_id);
    }

    #[test]
    fn rows_of_one_record_with_the_same_description_are_told_apart_by_their_ordinal() {
        let mut maker = maker("x");
        let rows = maker.rows([
            event(0, "Start Time"),
            event(0, "End Time"),
            event(0, "Start Time"),
            event(40, "Start Time"),
        ]);
        let ids: std::collections::BTreeSet<_> = rows.iter().map(Row::id_hex).collect();
        assert_eq!(ids.len(), 4);
        // A record that is read alone has the ids it has in its file.
        let alone = self::maker("x").row(event(40, "Start Time"));
        assert_eq!(alone, rows[3]);
    }

    #[test]
    fn the_same_line_in_two_files_has_one_content_key_and_two_ids() {
        let a = maker("syslog").row(event(0, "Recorded Time"));
        let b = maker("syslog.1").row(event(900, "Recorded Time"));
        assert_eq!(a.dup_key, b.dup_key);
        assert_ne!(a.event_id, b.event_id);
        let mut other = event(0, "Recorded Time");
        other.time = Some(Timestamp::from_micros(-7));
        assert_ne!(maker("syslog").row(other).dup_key, a.dup_key);
    }

    #[test]
    fn numbers_are_hashed_as_decimal_text() {
        for number in [0, 7, -7, i128::from(i64::MIN), i128::from(u64::MAX)] {
            let (mut quick, mut plain) = (Vec::new(), Vec::new());
            put_number(&mut quick, number);
            put(&mut plain, number.to_string().as_bytes());
            assert_eq!(quick, plain);
        }
    }
}
