//! `exhibit query`: asks the timeline with a condition, facets or a histogram.

use std::io::Write;
use std::path::PathBuf;

use custody::{Case, EntryType, NewEntry, TimelineState, case_layout};
use timeline::query::outputs::Format;
use timeline::query::{Answer, Bucket, Query, Timeline, Undated, moment};

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{target, ui};

/// Rows of a table on a terminal, unless --limit says otherwise.
const TABLE_ROWS: u64 = 200;

/// Ask the timeline: events in order of time, or counts
///
/// WHERE is a SQL condition over the event columns, as in: "action = 'ssh-login' AND outcome = 'failure'".
///
/// Example: exhibit query ir-2026-017 "src_ip = '203.0.113.66'" --since 2026-11-03 --facet action
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: PathBuf,
    /// A SQL condition over the event columns
    #[arg(value_name = "WHERE")]
    condition: Option<String>,
    /// From this time on: RFC 3339, or 2026-11-03, or "2026-11-03 04:00", in UTC
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Up to this time, itself not included
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// Only this host; may be given again
    #[arg(long, value_name = "H")]
    host: Vec<String>,
    /// Only this source, such as linux:syslog or linux:*; may be given again
    #[arg(long, value_name = "S")]
    source: Vec<String>,
    /// Only events with this text in message, command, path or attrs, whatever its case
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Count the values of a column instead; may be given again
    #[arg(long, value_name = "COL")]
    facet: Vec<String>,
    /// Count events in spans of time instead: 15m, 1h, 1d
    #[arg(long, value_name = "SPAN")]
    histogram: Option<String>,
    /// The columns to show, separated by commas
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Show only events without a time
    #[arg(long)]
    undated: bool,
    /// Show rows with the same content once, with the number of copies
    #[arg(long)]
    dedup: bool,
    /// How to write the answer: table, csv, jsonl, parquet, timesketch, l2tcsv or bodyfile
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = shape)]
    format: Shape,
}

/// A table for people, or a format for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Table,
    Of(Format),
}

fn shape(name: &str) -> Result<Shape, String> {
    if name == "table" {
        return Ok(Shape::Table);
    }
    Format::from_name(name).map(Shape::Of).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
        format!("there are table, {}", names.join(", "))
    })
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let timeline = open(&case, session)?;
    let mut query = question(args)?;
    let shape = if session.ui.is_json() { Shape::Of(Format::Jsonl) } else { args.format };
    if let Shape::Of(format) = shape {
        format.prepare(&mut query).map_err(refused)?;
    }
    let counts = query.histogram.is_some() || !query.facet.is_empty();
    let is_cut_by_us = shape == Shape::Table && query.limit.is_none() && !counts;
    if is_cut_by_us {
        query.limit = Some(TABLE_ROWS);
    }
    let answer = timeline.query(&query).map_err(refused)?;
    let mut entry = NewEntry::new(EntryType::QUERY_RUN).how("command", "query");
    if let Some(condition) = &args.condition {
        entry = entry.how("where", condition.as_str());
    }
    let written = match shape {
        Shape::Table => table(answer, session),
        Shape::Of(format) => write(answer, format, session),
    };
    // An answer that was cut short was asked for all the same.
    let rows = match written {
        Ok(rows) => rows,
        Err(failure) => {
            session.record_reading(Some(&case), entry.error("stopped_by", failure.words()));
            return Err(failure);
        }
    };
    if !counts {
        let (all, undated) = timeline.count(&query).map_err(refused)?;
        if shape == Shape::Table {
            let shown =
                if is_cut_by_us && rows == TABLE_ROWS { " shown first; --limit N shows more" } else { "" };
            session.ui.say(&format!("{} of {}{shown}", ui::grouped(rows), ui::count(all, "event", "events")));
        }
        if undated > 0 && query.undated == Undated::Apart {
            session.ui.say(&format!("{} have no time: --undated shows them", ui::grouped(undated)));
        }
    }
    let entry = entry.result("rows", rows);
    session.record_reading(Some(&case), entry);
    Ok(Outcome::Done)
}

/// Opens a case's timeline, if it is the one that the case's log says was built.
pub(crate) fn open(case: &Case, session: &Session) -> Result<Timeline, Failure> {
    let timeline = Timeline::open(&case_layout::timeline(case.folder())).map_err(|error| {
        let hint = match &error {
            timeline::Error::NoTimeline { .. } => "build it with `exhibit timeline CASE`",
            _ => "build it anew with `exhibit timeline CASE`",
        };
        Failure::new(error).hint(hint)
    })?;
    match case.check_timeline()? {
        TimelineState::AsLogged => {}
        TimelineState::NotLogged => {
            session.ui.warn("the case's log has no entry of this timeline: nothing vouches for it");
        }
        TimelineState::Changed(files) => {
            let (file, why) = files.first().cloned().unwrap_or_default();
            return Err(Failure::new(format!("the timeline was changed: {file}: {why}"))
                .hint("build it anew from the evidence with `exhibit timeline CASE`"));
        }
    }
    Ok(timeline)
}

/// A question that the engine refuses is the asker's to mend.
pub(crate) fn refused(error: timeline::Error) -> Failure {
    match error {
        timeline::Error::Query { .. } | timeline::Error::Usage { .. } => Failure::usage(error.to_string())
            .hint("all columns with their values: exhibit sql CASE 'SELECT * FROM events LIMIT 1' --json"),
        other => Failure::new(other),
    }
}

fn question(args: &Args) -> Result<Query, Failure> {
    let time = |text: &Option<String>| text.as_deref().map(moment).transpose().map_err(refused);
    Ok(Query {
        where_: args.condition.clone(),
        since: time(&args.since)?,
        until: time(&args.until)?,
        host: args.host.clone(),
        source: args.source.clone(),
        grep: args.grep.clone(),
        undated: if args.undated { Undated::Only } else { Undated::Apart },
        facet: args.facet.clone(),
        histogram: args.histogram.as_deref().map(Bucket::parse).transpose().map_err(refused)?,
        columns: args.columns.iter().map(|name| name.trim().to_owned()).collect(),
        dedup: args.dedup,
        limit: args.limit,
    })
}

/// Writes an answer; gives the number of rows.
fn write(answer: Answer, format: Format, session: &Session) -> Result<u64, Failure> {
    let mut out = session.ui.stream();
    let written = format.write(answer, &mut out).map_err(refused)?;
    out.flush()?;
    if written.left_out > 0 {
        let left_out = ui::count(written.left_out, "event", "events");
        session.ui.warn(&format!("{left_out} left out: this format cannot hold them"));
    }
    Ok(written.rows)
}

/// Draws an answer as a table; gives the number of rows.
pub(crate) fn table(answer: Answer, session: &Session) -> Result<u64, Failure> {
    let names: Vec<String> = answer.columns().iter().map(|column| column.name.clone()).collect();
    let mut rows = Vec::new();
    for row in answer {
        let mut texts = row?.to_texts();
        for (name, text) in names.iter().zip(&mut texts) {
            match name.as_str() {
                // Enough to name the event, and short enough to read.
                "event_id" => text.truncate(12),
                "ts" => *text = text.replacen('T', " ", 1),
                _ => {}
            }
        }
        rows.push(texts);
    }
    let count = rows.len() as u64;
    session.ui.table(&names.iter().map(String::as_str).collect::<Vec<_>>(), rows)?;
    Ok(count)
}
