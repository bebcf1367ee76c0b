//! Tables of what was seen on a live system: JSON lines, the first of which names the format.
//!
//! Text from the system comes escaped (`\xNN` for control characters, `\` and what is not UTF-8) and stays so.

use serde_json::{Map, Value};

use crate::error::ReadError;
use crate::event::{Attrs, Event, Precision, Timestamp, TzBasis, flags};
use crate::parser::{Input, Line, Parser, Probe, Sink};

/// Whether the first line names the format; of a damaged table, whether its name and a row of it say so.
pub(super) fn is_table(probe: &Probe<'_>, format: &str, file: &str, key: &str) -> bool {
    let mut lines = probe.lines();
    if lines
        .next()
        .and_then(read)
        .is_some_and(|header| header.get("format").is_some_and(|found| found == format))
    {
        return true;
    }
    probe.path.ends_with(file)
        && lines.filter_map(read).any(|row| row.contains_key(key) && row.contains_key("observed"))
}

fn read(line: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(line).ok()
}

/// Gives each row to `make`, and what comes of it to `out`.
pub(super) fn parse(
    input: &mut Input<'_>,
    parser: &dyn Parser,
    out: &mut dyn Sink,
    make: impl Fn(Row, &Line<'_>) -> Result<Vec<Event>, &'static str>,
) -> Result<(), ReadError> {
    while let Some(line) = input.next_line()? {
        if line.bytes.trim_ascii().is_empty() {
            if !line.bytes.is_empty() {
                out.filler(line.span);
            }
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(line.bytes) {
            // The head of each part of the table says when it was made; the rows repeat that.
            Ok(map) if map.get("format").is_some_and(|format| format.is_string()) => out.filler(line.span),
            Ok(map) => match make(Row(map), &line) {
                Ok(events) => events.into_iter().for_each(|event| out.event(event)),
                Err(reason) => out.reject(line.span, reason.into()),
            },
            Err(error) => {
                let reason = match error.classify() {
                    serde_json::error::Category::Eof => "JSON that is cut short",
                    serde_json::error::Category::Data => "JSON that is no object",
                    _ => "no JSON",
                };
                out.reject(line.span, format!("{reason}, in a table of {}", parser.name()).into());
            }
        }
    }
    Ok(())
}

/// One row; what is taken out of it goes into columns, and the rest into attributes.
pub(super) struct Row(Map<String, Value>);

impl Row {
    /// Takes a text.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.0.get(key) {
            Some(Value::String(_)) => match self.0.remove(key) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes a number, which may stand there as text.
    pub(super) fn number(&mut self, key: &str) -> Option<i64> {
        let number = match self.0.get(key)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }?;
        self.0.remove(key);
        Some(number)
    }

    /// Reads a number that stays among the attributes.
    pub(super) fn peek(&self, key: &str) -> Option<i64> {
        self.0.get(key)?.as_i64()
    }

    /// Reads the first number of a list, which stays among the attributes.
    pub(super) fn first_number(&self, key: &str) -> Option<i64> {
        self.0.get(key)?.as_array()?.first()?.as_i64()
    }

    /// Reads a text that stays among the attributes.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// Whether a flag is set; it stays among the attributes.
    pub(super) fn has(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Value::Bool(true) | Value::String(_)))
    }

    /// Reads a port; it stays where it is if it is none.
    pub(super) fn port(&mut self, key: &str) -> Option<i32> {
        let port = u16::try_from(self.peek(key)?).ok()?;
        self.0.remove(key);
        Some(port.into())
    }

    /// Takes a time.
    pub(super) fn time(&mut self, key: &str) -> Option<Timestamp> {
        let text = self.word(key)?;
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        let time = Timestamp::from_unix(time.timestamp(), time.timestamp_subsec_nanos())?;
        self.0.remove(key);
        Some(time)
    }

    /// What nobody took, in the order of its keys.
    pub(super) fn rest(self) -> Attrs {
        let mut pairs: Vec<_> = self.0.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut attrs = Attrs::default();
        for (key, value) in pairs {
            attrs.put(key, value);
        }
        attrs
    }
}

/// An event at a time that the table tells with its zone, or undated.
pub(super) fn dated(event: Event, time: Option<Timestamp>, precision: Precision) -> Event {
    match time {
        Some(time) => event.at(time, precision, TzBasis::InRecord),
        None => event,
    }
}

/// Marks an event as being about a deleted file.
pub(super) fn of_deleted(mut event: Event, is: bool) -> Event {
    if is {
        event.flags |= flags::DELETED;
    }
    event
}

/// The user's name, or `uid N`.
pub(super) fn who(name: Option<&str>, uid: Option<i64>) -> Option<String> {
    name.map(str::to_owned).or_else(|| uid.map(|uid| format!("uid {uid}")))
}
