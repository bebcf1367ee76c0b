//! An answer: columns, and a stream of rows.

use std::borrow::Cow;
use std::sync::Arc;

use polars::prelude::{AnyValue, Column, DataFrame, DataType, TimeUnit};
use serde_json::{Map, Value as Json};

use crate::Error;
use crate::event::Timestamp;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that may not fit an `i64`.
    UInt(u64),
    /// A number with a fraction.
    Float(f64),
    /// Text; also dates, durations and lists that a SQL query made.
    Text(Cow<'a, str>),
    /// A time.
    Time(Timestamp),
}

impl Value<'_> {
    /// As JSON: numbers as numbers, times as RFC 3339. A float that JSON cannot hold is text.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::UInt(n) => Json::from(*n),
            Value::Float(x) if x.is_finite() => Json::from(*x),
            Value::Float(x) => Json::from(x.to_string()),
            Value::Text(text) => Json::from(text.as_ref()),
            Value::Time(time) => Json::from(time.to_rfc3339()),
        }
    }

    /// As text; nothing is empty.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Value::Null => Cow::Borrowed(""),
            Value::Text(text) => Cow::Borrowed(text),
            Value::Bool(b) => Cow::Owned(b.to_string()),
            Value::Int(n) => Cow::Owned(n.to_string()),
            Value::UInt(n) => Cow::Owned(n.to_string()),
            Value::Float(x) => Cow::Owned(x.to_string()),
            Value::Time(time) => Cow::Owned(time.to_rfc3339()),
        }
    }
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerColumn {
    /// Its name.
    pub name: String,
    pub(super) data_type: DataType,
}

impl AnswerColumn {
    pub(super) fn new(name: &str, data_type: DataType) -> AnswerColumn {
        AnswerColumn { name: name.to_owned(), data_type }
    }

    /// Whether its values are numbers, which a table aligns to the right.
    pub fn is_number(&self) -> bool {
        self.data_type.is_primitive_numeric()
    }
}

/// The rows that answer a question, as they come from the engine.
///
/// Dropping it stops the engine.
pub struct Answer {
    columns: Arc<[AnswerColumn]>,
    rows: Box<dyn Iterator<Item = Result<AnswerRow, Error>> + Send>,
}

impl Answer {
    pub(super) fn new(
        columns: Arc<[AnswerColumn]>,
        rows: impl Iterator<Item = Result<AnswerRow, Error>> + Send + 'static,
    ) -> Answer {
        Answer { columns, rows: Box::new(rows) }
    }

    /// The columns of every row.
    pub fn columns(&self) -> &[AnswerColumn] {
        &self.columns
    }
}

impl Iterator for Answer {
    type Item = Result<AnswerRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Rows as the engine gave them, and how they are shown.
pub(super) struct Batch {
    pub(super) frame: DataFrame,
    pub(super) shown: Arc<Shown>,
}

/// How the columns of an answer come out of a batch.
pub(super) struct Shown {
    pub(super) columns: Arc<[AnswerColumn]>,
    /// For each column its place in the batch.
    places: Vec<Place>,
}

enum Place {
    /// The column with this number; where given, the nanoseconds below it are in another one.
    Column(usize, Option<usize>),
    /// How many rows with the same content there are.
    Copies,
}

/// The name of the column that [`super::Query::dedup`] adds.
pub(super) const COPIES: &str = "copies";

impl Shown {
    /// Shows the columns `names` of batches whose columns are `batch`.
    pub(super) fn new(batch: &[AnswerColumn], names: &[&str]) -> Shown {
        let place_of = |name: &str| batch.iter().position(|c| c.name == name);
        let mut columns = Vec::new();
        let mut places = Vec::new();
        for name in names {
            if let Some(place) = place_of(name) {
                let nanos = if *name == "ts" { place_of("ts_ns") } else { None };
                columns.extend(batch.get(place).cloned());
                places.push(Place::Column(place, nanos));
            } else if *name == COPIES {
                columns.push(AnswerColumn::new(COPIES, DataType::UInt64));
                places.push(Place::Copies);
            }
        }
        Shown { columns: columns.into(), places }
    }
}

/// One row of an answer.
#[derive(Clone)]
pub struct AnswerRow {
    pub(super) batch: Arc<Batch>,
    pub(super) row: usize,
    pub(super) copies: u64,
}

impl AnswerRow {
    /// The value of the column with this number; `Null` where there is no such column.
    pub fn value(&self, column: usize) -> Value<'_> {
        match self.batch.shown.places.get(column) {
            Some(Place::Column(place, nanos)) => self.place(*place, *nanos),
            Some(Place::Copies) => Value::UInt(self.copies),
            None => Value::Null,
        }
    }

    /// The value as the engine has it.
    pub(super) fn engine_value(&self, column: usize) -> AnyValue<'_> {
        match self.batch.shown.places.get(column) {
            Some(Place::Column(place, _)) => {
                let column = self.batch.frame.columns().get(*place);
                column.and_then(|c| c.get(self.row).ok()).unwrap_or(AnyValue::Null)
            }
            Some(Place::Copies) => AnyValue::UInt64(self.copies),
            None => AnyValue::Null,
        }
    }

    /// The value of the column of this name.
    pub fn get(&self, name: &str) -> Value<'_> {
        let found = self.batch.shown.columns.iter().position(|c| c.name == name);
        found.map_or(Value::Null, |column| self.value(column))
    }

    /// All columns by name.
    pub fn to_json(&self) -> Map<String, Json> {
        let columns = self.batch.shown.columns.iter().enumerate();
        columns.map(|(n, column)| (column.name.clone(), self.value(n).to_json())).collect()
    }

    /// The row as texts for a table; an event id as its first 12 digits.
    pub fn to_texts(&self) -> Vec<String> {
        let columns = self.batch.shown.columns.iter().enumerate();
        columns
            .map(|(n, column)| {
                let mut text = self.value(n).to_text().into_owned();
                if column.name == "event_id" {
                    text.truncate(12);
                }
                text
            })
            .collect()
    }

    fn place(&self, place: usize, nanos: Option<usize>) -> Value<'_> {
        let columns = self.batch.frame.columns();
        let cell = |n: usize| columns.get(n).and_then(|c: &Column| c.get(self.row).ok());
        let mut value = cell(place).map_or(Value::Null, plain);
        if let (Value::Time(time), Some(AnyValue::Int16(nanos))) = (&mut value, nanos.and_then(cell)) {
            time.nanos = nanos;
        }
        value
    }
}

impl std::fmt::Debug for AnswerRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.to_json()).finish()
    }
}

pub(super) fn plain(value: AnyValue<'_>) -> Value<'_> {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(b) => Value::Bool(b),
        AnyValue::Int8(n) => Value::Int(n.into()),
        AnyValue::Int16(n) => Value::Int(n.into()),
        AnyValue::Int32(n) => Value::Int(n.into()),
        AnyValue::Int64(n) => Value::Int(n),
        AnyValue::UInt8(n) => Value::UInt(n.into()),
        AnyValue::UInt16(n) => Value::UInt(n.into()),
        AnyValue::UInt32(n) => Value::UInt(n.into()),
        AnyValue::UInt64(n) => Value::UInt(n),
        AnyValue::Float32(x) => Value::Float(x.into()),
        AnyValue::Float64(x) => Value::Float(x),
        AnyValue::String(text) => Value::Text(Cow::Borrowed(text)),
        AnyValue::StringOwned(text) => Value::Text(Cow::Owned(text.to_string())),
        AnyValue::Datetime(n, unit, _) => time(n, unit),
        AnyValue::DatetimeOwned(n, unit, _) => time(n, unit),
        other => Value::Text(Cow::Owned(other.to_string())),
    }
}

fn time(n: i64, unit: TimeUnit) -> Value<'static> {
    Value::Time(match unit {
        TimeUnit::Microseconds => Timestamp::from_micros(n),
        TimeUnit::Milliseconds => Timestamp::from_micros(n.saturating_mul(1000)),
        TimeUnit::Nanoseconds => Timestamp { micros: n.div_euclid(1000), nanos: n.rem_euclid(1000) as i16 },
    })
}
