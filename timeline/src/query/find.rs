//! One event by its id.

use polars::prelude::{LazyFrame, col, lit};
use serde_json::{Map, Value as Json};

use super::answer::{Answer, Value};
use super::engine::answer;
use crate::Error;

/// Digits of a whole id.
const WHOLE: usize = 24;
/// Digits that a prefix needs at least.
const SHORTEST: usize = 8;
/// Events that are named where a prefix fits several.
const NAMED: usize = 5;

pub(super) fn event(events: LazyFrame, prefix: &str) -> Result<Map<String, Json>, Error> {
    let prefix = prefix.trim().to_ascii_lowercase();
    let digits = prefix.bytes().all(|b| b.is_ascii_hexdigit());
    if !digits || !(SHORTEST..=WHOLE).contains(&prefix.len()) {
        return Err(Error::Usage {
            what: format!("{prefix:?} is no event id: it takes {SHORTEST} to {WHOLE} hex digits"),
        });
    }
    let condition = if prefix.len() == WHOLE {
        col("event_id").eq(lit(prefix.as_str()))
    } else {
        col("event_id").str().starts_with(lit(prefix.as_str()))
    };
    let found: Answer = answer(events.filter(condition).limit(NAMED as u32 + 1))?;
    let rows = found.collect::<Result<Vec<_>, _>>()?;
    match rows.as_slice() {
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
