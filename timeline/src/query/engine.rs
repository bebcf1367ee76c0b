//! The query engine, kept on a leash: streaming mode, its errors in plain words, its panics caught.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use polars::prelude::{DataFrame, Engine, LazyFrame, PlanCallback, PolarsError};
use polars::sql::{SQLContext, extract_table_identifiers};

use super::answer::{Answer, AnswerColumn, AnswerRow, Batch, Shown};
use super::time_literals::without_zones;
use crate::Error;
use crate::store::columns::COLUMNS;

/// Rows that the engine hands over at once.
const BATCH_ROWS: usize = 16 << 10;

/// Runs a plan; batches come in the order of the plan. Dropping the receiver stops the engine.
pub(super) fn stream(frame: LazyFrame) -> Result<Receiver<Result<DataFrame, Error>>, Error> {
    let (send, receive) = sync_channel(1);
    let send_error = send.clone();
    let hand_over =
        PlanCallback::new(move |batch: DataFrame| Ok(batch.height() > 0 && send.send(Ok(batch)).is_err()));
    let plan = guarded(|| frame.sink_batches(hand_over, true, NonZeroUsize::new(BATCH_ROWS)))?;
    let run = move || {
        if let Err(error) = guarded(|| plan.collect_with_engine(Engine::Streaming)) {
            // Nobody listens any more: then nobody misses the error.
            let _ = send_error.send(Err(error));
        }
    };
    std::thread::Builder::new()
        .name("query".into())
        .spawn(run)
        .map_err(|e| Error::Query { reason: format!("no thread for it: {e}") })?;
    Ok(receive)
}

/// The rows of a plan, in its order, with all its columns.
pub(super) fn answer(mut plan: LazyFrame) -> Result<Answer, Error> {
    let columns = columns_of(&mut plan)?;
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let shown = Arc::new(Shown::new(&columns, &names));
    let batches = stream(plan)?;
    let columns = shown.columns.clone();
    let rows = batches.into_iter().flat_map(move |batch| {
        let rows: Box<dyn Iterator<Item = Result<AnswerRow, Error>> + Send> = match batch {
            Err(error) => Box::new(std::iter::once(Err(error))),
            Ok(frame) => {
                let batch = Arc::new(Batch { frame, shown: shown.clone() });
                let rows = 0..batch.frame.height();
                Box::new(rows.map(move |row| Ok(AnswerRow { batch: batch.clone(), row, copies: 1 })))
            }
        };
        rows
    });
    Ok(Answer::new(columns, rows))
}

/// Runs a plan whose result is small.
pub(super) fn collect(frame: LazyFrame) -> Result<DataFrame, Error> {
    guarded(|| frame.collect_with_engine(Engine::Streaming).map(|result| result.unwrap_single()))
}

/// The columns that a plan gives.
pub(super) fn columns_of(frame: &mut LazyFrame) -> Result<Vec<AnswerColumn>, Error> {
    let schema = guarded(|| frame.collect_schema())?;
    Ok(schema.iter().map(|(name, data_type)| AnswerColumn::new(name, data_type.clone())).collect())
}

/// The plan of a SQL query over the table `events`.
pub(super) fn plan_sql(events: LazyFrame, sql: &str) -> Result<LazyFrame, Error> {
    refuse_all_but_queries(sql)?;
    let sql = &without_zones(sql);
    guarded(|| {
        let mut context = SQLContext::new();
        context.register("events", events);
        context.execute(sql)
    })
}

/// A query may read the timeline and nothing else: no statement that changes tables, no function that opens a
/// file or an address.
fn refuse_all_but_queries(sql: &str) -> Result<(), Error> {
    let first = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    let word: String = first.chars().take_while(char::is_ascii_alphabetic).collect();
    if !["select", "with", "explain", "from"].contains(&word.to_ascii_lowercase().as_str()) {
        return Err(Error::Usage { what: format!("a query begins with SELECT or WITH, not {word:?}") });
    }
    for table in guarded(|| extract_table_identifiers(sql, true, true))? {
        let name = table.to_ascii_lowercase();
        if name.starts_with("read_") || name.contains(['/', '.', ':']) {
            return Err(Error::Usage {
                what: format!("a query reads the table events and nothing else, not {table:?}"),
            });
        }
    }
    Ok(())
}

/// Runs a step of the engine; its errors become ours, and so do its panics: a query must not end the program.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, PolarsError>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|e| in_plain_words(&e)),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(Error::Query { reason: format!("the query engine failed within itself: {said}") })
        }
    }
}

fn in_plain_words(error: &PolarsError) -> Error {
    let said = error.to_string();
    // The engine adds the plan it had so far, or lists all columns in a form of its own.
    let first = said.split("\n\n").next().unwrap_or(&said).trim();
    let first = first.strip_prefix("not found: ").unwrap_or(first);
    let column = matches!(error, PolarsError::ColumnNotFound(_)) || first.contains("find column");
    let reason = if column {
        let names: Vec<&str> = COLUMNS.iter().map(|c| c.name).collect();
        let first = first.split("; valid columns").next().unwrap_or(first);
        format!("{first}\nthe columns are: {}", names.join(", "))
    } else if first.starts_with("relation ") {
        format!("{first}\nthe one table is events")
    } else {
        first.to_owned()
    };
    Error::Query { reason }
}
