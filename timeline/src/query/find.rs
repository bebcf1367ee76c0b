//! Events by their ids.

use std::collections::HashMap;

use polars::prelude::{LazyFrame, NamedFrom, Series, col, lit};
use serde_json::{Map, Value as Json};

use super::answer::{AnswerRow, Value};
use super::engine::answer;
use crate::Error;

/// Digits of a whole id.
const WHOLE: usize = 24;
/// Digits that a prefix needs at least.
const SHORTEST: usize = 8;
/// Events that are named where a prefix fits several.
const NAMED: usize = 5;

/// One event for each prefix, in their order. Whole ids are looked up together, in one pass over the timeline.
pub(super) fn events(events: &LazyFrame, prefixes: &[String]) -> Result<Vec<Map<String, Json>>, Error> {
    let prefixes = prefixes.iter().map(|prefix| checked(prefix)).collect::<Result<Vec<_>, _>>()?;
    let whole: Vec<&str> = prefixes.iter().map(String::as_str).filter(|id| id.len() == WHOLE).collect();
    let mut found: HashMap<String, Vec<AnswerRow>> = HashMap::new();
    if !whole.is_empty() {
        let ids = lit(Series::new("ids".into(), &whole)).implode(false);
        for row in answer(events.clone().filter(col("event_id").is_in(ids, false)))? {
            let row = row?;
            found.entry(row.get("event_id").to_text().into_owned()).or_default().push(row);
        }
    }
    let event = |prefix: &String| match found.get(prefix) {
        Some(rows) => the_only(rows, prefix),
        None if prefix.len() == WHOLE => the_only(&[], prefix),
        None => {
            let begins = col("event_id").str().starts_with(lit(prefix.as_str()));
            let rows = answer(events.clone().filter(begins).limit(NAMED as u32 + 1))?;
            the_only(&rows.collect::<Result<Vec<_>, _>>()?, prefix)
        }
    };
    prefixes.iter().map(event).collect()
}

fn checked(prefix: &str) -> Result<String, Error> {
    let prefix = prefix.trim().to_ascii_lowercase();
    let digits = prefix.bytes().all(|b| b.is_ascii_hexdigit());
    if !digits || !(SHORTEST..=WHOLE).contains(&prefix.len()) {
        return Err(Error::Usage {
            what: format!("{prefix:?} is no event id: it takes {SHORTEST} to {WHOLE} hex digits"),
        });
    }
    Ok(prefix)
}

fn the_only(rows: &[AnswerRow], prefix: &str) -> Result<Map<String, Json>, Error> {
    match rows {
        [] => Err(Error::Usage { what: format!("no event has the id {prefix}") }),
        [row] => Ok(row.to_json()),
        several => {
            let mut ids: Vec<String> =
                several.iter().take(NAMED).map(|row| row.get("event_id").to_text().into_owned()).collect();
            ids.sort();
            let more = if several.len() > NAMED { " and more" } else { "" };
            let same =
                matches!(several.first().map(|r| r.get("event_id")), Some(Value::Text(id)) if id == prefix);
            let what = if same {
                format!("{} events have the id {prefix}", several.len())
            } else {
                format!("several events have ids that begin with {prefix}: {}{more}", ids.join(", "))
            };
            Err(Error::Usage { what })
        }
    }
}
