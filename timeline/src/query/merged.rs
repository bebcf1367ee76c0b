//! Events of several exhibits in one order of time, and duplicates counted, while they stream by.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use polars::prelude::{AnyValue, Column, DataFrame, LazyFrame, col};

use super::answer::{Answer, AnswerRow, Batch, COPIES, Shown};
use super::engine::{columns_of, stream};
use super::question::Query;
use super::timeline::DEFAULT_COLUMNS;
use crate::Error;

/// The events of `frames`, each one in order of time already.
pub(super) fn events(frames: Vec<LazyFrame>, query: &Query) -> Result<Answer, Error> {
    let mut names: Vec<&str> = if query.columns.is_empty() {
        DEFAULT_COLUMNS.to_vec()
    } else {
        query.columns.iter().map(String::as_str).collect()
    };
    let mut needed = names.clone();
    needed.extend(["ts", "ts_ns", "event_id"]);
    if query.dedup {
        names.push(COPIES);
        needed.push("dup_key");
    }
    needed.sort_unstable();
    needed.dedup();

    let mut shown = None;
    let mut streams = Vec::new();
    for frame in frames {
        let mut plan = frame.select(needed.iter().map(|name| col(*name)).collect::<Vec<_>>());
        if let Some(limit) = query.limit.filter(|_| !query.dedup) {
            plan = plan.limit(u32::try_from(limit).unwrap_or(u32::MAX));
        }
        let columns = columns_of(&mut plan)?;
        let shown = shown.get_or_insert_with(|| Arc::new(Shown::new(&columns, &names))).clone();
        streams.push(Stream { receiver: stream(plan)?, shown, batch: None });
    }
    let columns = shown.map_or_else(|| Arc::from([]), |shown| shown.columns.clone());
    let limit = query.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let merged = Merged { streams };
    Ok(if query.dedup {
        Answer::new(columns, Deduplicated::new(merged).take(limit))
    } else {
        Answer::new(columns, merged.take(limit))
    })
}

/// One exhibit's events.
struct Stream {
    receiver: Receiver<Result<DataFrame, Error>>,
    shown: Arc<Shown>,
    batch: Option<Position>,
}

struct Position {
    batch: Arc<Batch>,
    times: Vec<Time>,
    ids: Column,
    row: usize,
}

/// What rows are in order of before their ids: undated last, microseconds, nanoseconds.
type Time = (bool, i64, i16);

impl Stream {
    /// Makes sure that there is a next row; false at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.batch.as_ref().is_none_or(|at| at.row >= at.times.len()) {
            let Ok(frame) = self.receiver.recv() else {
                self.batch = None;
                return Ok(false);
            };
            let frame = frame?;
            let ids = column(&frame, "event_id")?.clone();
            let times = times(&frame)?;
            let batch = Arc::new(Batch { frame, shown: self.shown.clone() });
            self.batch = Some(Position { batch, times, ids, row: 0 });
        }
        Ok(true)
    }
}

impl Position {
    fn order(&self, other: &Position) -> Ordering {
        let time = |at: &Position| at.times.get(at.row).copied();
        time(self).cmp(&time(other)).then_with(|| self.id().cmp(&other.id()))
    }

    fn id(&self) -> Option<&str> {
        self.ids.as_materialized_series().str().ok()?.get(self.row)
    }
}

/// All exhibits' events in one order.
struct Merged {
    streams: Vec<Stream>,
}

impl Iterator for Merged {
    type Item = Result<AnswerRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<(usize, &Position)> = None;
        let mut failed = None;
        for stream in &mut self.streams {
            if let Err(error) = stream.fill() {
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            self.streams.clear();
            return Some(Err(error));
        }
        for (n, stream) in self.streams.iter().enumerate() {
            if let Some(at) = &stream.batch
                && first.is_none_or(|(_, best)| at.order(best) == Ordering::Less)
            {
                first = Some((n, at));
            }
        }
        let n = first?.0;
        let at = self.streams.get_mut(n)?.batch.as_mut()?;
        let row = AnswerRow { batch: at.batch.clone(), row: at.row, copies: 1 };
        at.row += 1;
        Some(Ok(row))
    }
}

/// Rows with one content key become the first of them. Such rows have one time, so only rows of one time are held
/// at once; of the undated, all.
struct Deduplicated {
    rows: Merged,
    time: Option<Time>,
    held: Vec<AnswerRow>,
    by_key: HashMap<i64, usize>,
    ready: VecDeque<AnswerRow>,
}

impl Deduplicated {
    fn new(rows: Merged) -> Deduplicated {
        Deduplicated { rows, time: None, held: Vec::new(), by_key: HashMap::new(), ready: VecDeque::new() }
    }

    fn take_in(&mut self, row: AnswerRow) -> Result<(), Error> {
        let time = time_of(&row)?;
        if self.time != Some(time) {
            self.release();
            self.time = Some(time);
        }
        let Ok(AnyValue::Int64(key)) = column(&row.batch.frame, "dup_key")?.get(row.row) else {
            return Err(Error::Query { reason: "a row has no dup_key".into() });
        };
        let place = *self.by_key.entry(key).or_insert(self.held.len());
        match self.held.get_mut(place) {
            Some(first) => first.copies += 1,
            None => self.held.push(row),
        }
        Ok(())
    }

    fn release(&mut self) {
        self.ready.extend(self.held.drain(..));
        self.by_key.clear();
    }
}

impl Iterator for Deduplicated {
    type Item = Result<AnswerRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            match self.rows.next() {
                Some(row) => {
                    if let Err(error) = row.and_then(|row| self.take_in(row)) {
                        return Some(Err(error));
                    }
                }
                None if self.held.is_empty() => return None,
                None => self.release(),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

fn column<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a Column, Error> {
    frame.column(name).map_err(|e| Error::Query { reason: e.to_string() })
}

fn times(frame: &DataFrame) -> Result<Vec<Time>, Error> {
    let of = |reason: polars::prelude::PolarsError| Error::Query { reason: reason.to_string() };
    let ts = column(frame, "ts")?.as_materialized_series().to_physical_repr();
    let nanos = column(frame, "ts_ns")?.as_materialized_series();
    let (ts, nanos) = (ts.i64().map_err(of)?, nanos.i16().map_err(of)?);
    let pairs = ts.iter().zip(nanos.iter());
    Ok(pairs.map(|(ts, nanos)| (ts.is_none(), ts.unwrap_or(0), nanos.unwrap_or(0))).collect())
}

fn time_of(row: &AnswerRow) -> Result<Time, Error> {
    let cell = |name: &str| Ok::<_, Error>(column(&row.batch.frame, name)?.get(row.row).ok());
    let nanos = match cell("ts_ns")? {
        Some(AnyValue::Int16(n)) => n,
        _ => 0,
    };
    Ok(match cell("ts")? {
        Some(AnyValue::Datetime(micros, _, _) | AnyValue::DatetimeOwned(micros, _, _)) => {
            (false, micros, nanos)
        }
        _ => (true, 0, 0),
    })
}
