//! The conditions of a question as expressions of the engine.

use polars::prelude::{DataType, Expr, LazyFrame, TimeUnit, TimeZone, col, lit};

use super::engine::plan_sql;
use super::question::{Query, Undated};
use crate::Error;
use crate::event::Timestamp;

/// The columns that `grep` looks in.
const SEARCHED: [&str; 4] = ["message", "command", "path", "attrs"];

/// The events that fulfil a question's conditions.
pub(super) fn matching(events: LazyFrame, query: &Query, counted: bool) -> Result<LazyFrame, Error> {
    let mut events = events;
    for condition in conditions(query, counted) {
        events = events.filter(condition);
    }
    match &query.where_ {
        Some(condition) if !condition.trim().is_empty() => {
            plan_sql(events, &format!("SELECT * FROM events WHERE (\n{condition}\n)"))
        }
        _ => Ok(events),
    }
}

fn conditions(query: &Query, counted: bool) -> Vec<Expr> {
    let mut all = Vec::new();
    match query.undated {
        Undated::Only => all.push(col("ts").is_null()),
        Undated::Apart if !counted => all.push(col("ts").is_not_null()),
        Undated::Apart | Undated::Last => {}
    }
    if let Some(since) = query.since {
        all.push(col("ts").gt_eq(time(since)));
        if since.nanos > 0 {
            all.push(col("ts").gt(time(since)).or(col("ts_ns").gt_eq(lit(since.nanos))));
        }
    }
    if let Some(until) = query.until {
        all.push(if until.nanos > 0 {
            let same = col("ts").eq(time(until)).and(col("ts_ns").lt(lit(until.nanos)));
            col("ts").lt(time(until)).or(same)
        } else {
            col("ts").lt(time(until))
        });
    }
    all.extend(any(query.host.iter().map(|host| col("host").eq(lit(host.as_str())))));
    all.extend(any(query.source.iter().map(|source| match source.strip_suffix('*') {
        Some(start) => col("source").str().starts_with(lit(start)),
        None => col("source").eq(lit(source.as_str())),
    })));
    if let Some(text) = query.grep.as_deref().filter(|text| !text.is_empty()) {
        let pattern = format!("(?i){}", escape(text));
        all.extend(any(SEARCHED.iter().map(|name| {
            let found = col(*name).str().contains(lit(pattern.as_str()), true);
            found.fill_null(lit(false))
        })));
    }
    all
}

fn any(conditions: impl Iterator<Item = Expr>) -> Option<Expr> {
    conditions.reduce(Expr::or)
}

fn time(time: Timestamp) -> Expr {
    lit(time.micros).cast(DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)))
}

/// The text as a regular expression that matches it and nothing else.
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
