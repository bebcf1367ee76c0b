//! What a parser gave, as text that a person can review.

use std::fmt::Write;

use serde_json::Value;
use timeline::event::Event;
use timeline::parser::{Collected, Parser};

use crate::sample_files::SampleFile;

/// Of larger files only the first and last rows are kept.
const LARGEST_KEPT_WHOLE: usize = 64 << 10;
const ROWS_AT_EACH_END: usize = 5;

/// Counts, then one line a row, then one line a reject.
pub(crate) fn page(sample: &SampleFile, parser: &dyn Parser, found: &Collected) -> String {
    let mut out = String::new();
    let undated = found.events.iter().filter(|event| event.time.is_none()).count();
    writeln!(out, "{} read by {}@{}", sample.path, parser.name(), parser.version()).unwrap();
    writeln!(
        out,
        "{} bytes, {} records, {} rows ({undated} undated), {} rejects, {} filler bytes",
        sample.bytes.len(),
        found.records(),
        found.events.len(),
        found.rejects.len(),
        found.filler.iter().map(|span| span.length).sum::<u64>(),
    )
    .unwrap();
    let rows: Vec<String> = found.events.iter().map(row).collect();
    let rejects = found
        .rejects
        .iter()
        .map(|(span, reason)| format!("reject {}+{}: {reason}", span.offset, span.length))
        .collect::<Vec<_>>();
    let whole = sample.bytes.len() <= LARGEST_KEPT_WHOLE;
    for lines in [rows, rejects] {
        if whole || lines.len() <= 2 * ROWS_AT_EACH_END {
            out.extend(lines.iter().map(|line| format!("{line}\n")));
        } else {
            let (first, last) = (&lines[..ROWS_AT_EACH_END], &lines[lines.len() - ROWS_AT_EACH_END..]);
            out.extend(first.iter().map(|line| format!("{line}\n")));
            writeln!(out, "… {} more", lines.len() - 2 * ROWS_AT_EACH_END).unwrap();
            out.extend(last.iter().map(|line| format!("{line}\n")));
        }
    }
    out
}

/// An event as one line of JSON, without its empty columns.
pub(crate) fn row(event: &Event) -> String {
    let mut columns: Vec<(&str, Value)> = Vec::new();
    let mut put = |name: &'static str, value: Option<Value>| {
        columns.extend(value.map(|value| (name, value)));
    };
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let word = |text: &Option<timeline::event::Text>| text.as_deref().map(Value::from);
    put("at", Some(format!("{}+{}", event.span.offset, event.span.length).into()));
    put("pieces", text(&event.pieces));
    put("ts", event.time.map(|time| time.to_rfc3339().into()));
    put("ts_desc", Some(event.ts_desc.as_ref().into()));
    put("ts_text", text(&event.ts_text));
    if event.time.is_some() {
        let bases = [event.ts_precision.as_str(), event.tz_basis.as_str(), event.year_basis.as_str()];
        put("known", Some(bases.join(" ").into()));
    }
    put("host", word(&event.host));
    put("source", Some(event.source.as_ref().into()));
    put("category", word(&event.category));
    put("action", word(&event.action));
    put("outcome", word(&event.outcome));
    put("severity", event.severity.map(Value::from));
    put("message", Some(event.message.as_str().into()));
    put("user_name", text(&event.user_name));
    put("process", text(&event.process));
    put("pid", event.pid.map(Value::from));
    put("command", text(&event.command));
    put("src_ip", text(&event.src_ip));
    put("src_port", event.src_port.map(Value::from));
    put("dst_ip", text(&event.dst_ip));
    put("dst_port", event.dst_port.map(Value::from));
    put("path", text(&event.path));
    put("inode", event.inode.map(Value::from));
    put("size", event.size.map(Value::from));
    put("cloud_account", word(&event.cloud_account));
    put("cloud_region", word(&event.cloud_region));
    put("cloud_resource", text(&event.cloud_resource));
    put("container", text(&event.container));
    put("event_code", word(&event.event_code));
    put("provider", word(&event.provider));
    put("record_no", event.record_no.map(Value::from));
    put("flags", (event.flags != 0).then(|| event.flags.into()));
    let mut out = String::from("{");
    for (name, value) in columns {
        write!(out, "\"{name}\":{value},").unwrap();
    }
    write!(out, "\"attrs\":{}}}", event.attrs.to_json()).unwrap();
    out
}
