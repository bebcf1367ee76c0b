//! Timesketch: JSON Lines with `message`, `datetime`, `timestamp` in microseconds, `timestamp_desc` and `data_type`.
//!
//! Every other column that has a value goes along under its own name.

use std::io::Write;

use serde_json::{Map, Value as Json};

use super::plain::put_json_line;
use super::{Written, positions};
use crate::Error;
use crate::query::answer::{Answer, Value};

/// Columns that have a name of Timesketch's.
const RENAMED: [&str; 4] = ["ts", "ts_ns", "ts_desc", "message"];

pub(super) fn write(answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
    let [ts, desc, message, source] = positions(&answer, ["ts", "ts_desc", "message", "source"]);
    let others: Vec<(usize, String)> = answer
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| !RENAMED.contains(&column.name.as_str()))
        .map(|(n, column)| (n, column.name.clone()))
        .collect();
    let mut written = Written::default();
    for row in answer {
        let row = row?;
        let Value::Time(time) = row.value(ts) else {
            written.left_out += 1;
            continue;
        };
        let mut line = Map::new();
        line.insert("message".into(), row.value(message).to_json());
        line.insert("datetime".into(), Json::from(time.to_rfc3339()));
        line.insert("timestamp".into(), Json::from(time.micros));
        line.insert("timestamp_desc".into(), row.value(desc).to_json());
        line.insert("data_type".into(), row.value(source).to_json());
        for (n, name) in &others {
            let value = row.value(*n);
            if value != Value::Null {
                line.insert(name.clone(), value.to_json());
            }
        }
        put_json_line(&line, out)?;
        written.rows += 1;
    }
    Ok(written)
}
