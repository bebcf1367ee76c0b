//! log2timeline's CSV of 17 columns.
//!
//! `date` and `time` are UTC and whole seconds, as the format has it; the exact time is in `extra`. Line ends
//! within a field become spaces, since readers of this format go by lines.

use std::io::Write;

use super::{Written, positions, put_csv_field, unwritten};
use crate::Error;
use crate::event::Timestamp;
use crate::query::answer::{Answer, Value};

const HEADER: &str = "date,time,timezone,MACB,source,sourcetype,type,user,host,short,desc,version,filename,inode,notes,format,extra\n";

/// Columns that have a place of their own in the line.
const PLACED: [&str; 10] =
    ["ts", "ts_ns", "ts_desc", "source", "user_name", "host", "message", "path", "inode", "parser"];

pub(super) fn write(answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
    out.write_all(HEADER.as_bytes()).map_err(unwritten)?;
    let [ts, desc, source, user, host, message, path, inode, parser, locator] = positions(
        &answer,
        ["ts", "ts_desc", "source", "user_name", "host", "message", "path", "inode", "parser", "locator"],
    );
    let others: Vec<(usize, String)> = answer
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| !PLACED.contains(&column.name.as_str()))
        .map(|(n, column)| (n, column.name.clone()))
        .collect();
    let mut written = Written::default();
    let mut line = Vec::new();
    for row in answer {
        let row = row?;
        let text = |column: usize| row.value(column).to_text().into_owned();
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let Value::Time(time) = row.value(ts) else {
            written.left_out += 1;
            continue;
        };
        let (date, clock) = date_and_clock(time);
        let (source, desc, message) = (text(source), text(desc), text(message));
        let mut extra = format!("ts: {}", time.to_rfc3339());
        for (n, name) in &others {
            let value = row.value(*n);
            if value != Value::Null {
                extra.push_str("; ");
                extra.push_str(name);
                extra.push_str(": ");
                extra.push_str(&value.to_text());
            }
        }
        let file = match text(path) {
            path if path.is_empty() => text(locator),
            path => path,
        };
        let fields = [
            date,
            clock,
            "UTC".into(),
            macb(&desc).into(),
            kind(&source).into(),
            source,
            desc,
            or_dash(text(user)),
            or_dash(text(host)),
            message.chars().take(80).collect(),
            message,
            "2".into(),
            file,
            or_dash(text(inode)),
            "-".into(),
            text(parser),
            extra,
        ];
        line.clear();
        for (n, field) in fields.iter().enumerate() {
            if n > 0 {
                line.push(b',');
            }
            put_csv_field(&mut line, &field.replace(['\n', '\r'], " "));
        }
        line.push(b'\n');
        out.write_all(&line).map_err(unwritten)?;
        written.rows += 1;
    }
    Ok(written)
}

fn date_and_clock(time: Timestamp) -> (String, String) {
    match chrono::DateTime::from_timestamp(time.seconds(), 0) {
        Some(time) => (time.format("%m/%d/%Y").to_string(), time.format("%H:%M:%S").to_string()),
        // Further away than the calendar goes.
        None => ("00/00/0000".into(), "--:--:--".into()),
    }
}

/// The letters of a time's meaning: modified, accessed, changed, born.
fn macb(desc: &str) -> &'static str {
    match desc {
        "Content Modification Time" | "Content Deletion Time" => "M...",
        "Metadata Modification Time" => "..C.",
        "Creation Time" | "Added Time" | "File Downloaded" | "First Connection Time" => "...B",
        "Last Access Time"
        | "Last Visited Time"
        | "Last Login Time"
        | "Last Connection Time"
        | "Last Time Executed"
        | "Last Printed Time"
        | "Last Shutdown Time"
        | "Start Time" => ".A..",
        _ => "....",
    }
}

/// log2timeline's short word for a source.
fn kind(source: &str) -> &'static str {
    match source.split_once(':') {
        Some(("fs", _)) => "FILE",
        Some(("windows", "evtx")) => "EVT",
        Some(("windows", what)) if what.starts_with("registry") => "REG",
        _ => "LOG",
    }
}
