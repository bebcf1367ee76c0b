//! Docker's `json-file` logs: what a container wrote to its standard output and error.
//!
//! - Found at: `/var/lib/docker/containers/<id>/<id>-json.log*`.
//! - Known by: lines of JSON with `log`, `stream` and `time`.
//! - Times: RFC 3339 with nanoseconds, UTC.
//! - Not read: `local` and `journald` logs; lines that are no such JSON, which are rejects.
//! - Reference: moby, `daemon/logger/jsonfilelog/jsonlog`.
//!
//! A write without line end is kept as it stands, with `partial`: joining it with the next would be a guess.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::syslog::pass_nuls;
use super::written_time::Written;
use crate::error::ReadError;
use crate::event::Event;
use crate::parser::{Context, Input, Line, Parser, Probe, Sink};

pub(super) struct DockerJsonLog;
pub(super) static PARSER: DockerJsonLog = DockerJsonLog;

impl Parser for DockerJsonLog {
    fn name(&self) -> &'static str {
        "docker_json_log"
    }

    fn reads(&self) -> &'static str {
        "what containers wrote, from Docker's json-file logs"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let named = container(probe.path).is_some();
        let is_entry = |line: &[u8]| {
            Entry::read(line).is_ok_and(|entry| entry.time.is_some() && (named || entry.stream.is_some()))
        };
        // A first line longer than the head is told by its beginning.
        probe.lines().filter(|line| !line.trim_ascii().is_empty()).take(20).any(is_entry)
            || named && probe.head.starts_with(b"{\"log\":")
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let container = container(input.path());
        while let Some(line) = input.next_line()? {
            let line = pass_nuls(line, out);
            if line.bytes.trim_ascii().is_empty() {
                if !line.bytes.is_empty() {
                    out.filler(line.span);
                }
                continue;
            }
            match Entry::read(line.bytes) {
                Ok(entry) => out.event(entry.event(&line, container, context)),
                Err(error) => {
                    // The message ends in the column: reasons are counted by name.
                    let reason = match error.classify() {
                        serde_json::error::Category::Eof => "JSON that is cut short",
                        serde_json::error::Category::Data => "JSON with other fields than Docker's",
                        _ => "no JSON",
                    };
                    out.reject(line.span, reason.into());
                }
            }
        }
        Ok(())
    }
}

/// The container's id: 64 hex digits, the name of the log or of its folder.
fn container(path: &str) -> Option<&str> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
    path.rsplit('/').map(|part| part.split_once("-json.log").map_or(part, |(id, _)| id)).find(is_id)
}

#[derive(Deserialize)]
struct Entry<'l> {
    #[serde(borrow)]
    log: Cow<'l, str>,
    #[serde(default)]
    stream: Option<Cow<'l, str>>,
    #[serde(default)]
    time: Option<Cow<'l, str>>,
    /// Labels and environment, where the daemon was told to add them.
    #[serde(default)]
    attrs: BTreeMap<String, Value>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

impl Entry<'_> {
    fn read(line: &[u8]) -> Result<Entry<'_>, serde_json::Error> {
        serde_json::from_slice(line)
    }

    fn event(self, line: &Line<'_>, container: Option<&str>, context: &Context) -> Event {
        let text = self.log.trim_end_matches(['\r', '\n']);
        let mut event = Event::new("container:docker", "Recorded Time", line.span, text);
        event.container = container.map(str::to_owned);
        event.attrs.put_some("stream", self.stream.as_deref());
        if !self.log.ends_with('\n') {
            event.attrs.put("partial", true);
        }
        for (key, value) in self.attrs.into_iter().chain(self.other) {
            event.attrs.put(key, value);
        }
        let Some(written) = self.time else { return event };
        match Written::read(written.as_bytes(), b"YYYY-MM-DDThh:mm:ss.Z") {
            Some((time, [])) => time.date(event, context, true),
            _ => Event { ts_text: Some(written.into_owned()), ..event },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::TzBasis;
    use crate::parser::Collected;

    const ID: &str = "9c1f4c0e6f9b2a7d5e3c1b0a99887766554433221100ffeeddccbbaa99887766";

    fn read(text: &str) -> Collected {
        let mut out = Collected::default();
        let path = format!("/var/lib/docker/containers/{ID}/{ID}-json.log.1");
        let mut input = Input::of_source(&path, Arc::new(text.as_bytes().to_vec()));
        PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn a_line_gives_its_text_stream_and_time_to_the_nanosecond() {
        let out = read(
            "{\"log\":\"GET \\u003c/\\r\\n\",\"stream\":\"stderr\",\"attrs\":{\"env\":\"prod\"},\"time\":\"2026-11-18T10:00:00.123456789Z\"}\n\
             {\"log\":\"half\",\"stream\":\"stdout\",\"time\":\"2026-11-18T10:00:00.5\",\"x\":1}\n",
        );
        let [first, half] = &out.events[..] else { panic!("{:?}", out.rejects) };
        assert_eq!((first.message.as_str(), first.container.as_deref()), ("GET </", Some(ID)));
        assert_eq!(first.time.unwrap().to_rfc3339(), "2026-11-18T10:00:00.123456789Z");
        assert_eq!(first.attrs.to_json(), r#"{"stream":"stderr","env":"prod"}"#);
        assert_eq!(half.attrs.to_json(), r#"{"stream":"stdout","partial":true,"x":1}"#);
        assert_eq!(half.tz_basis, TzBasis::UtcByFormat);
    }

    #[test]
    fn broken_json_is_a_reject_and_a_bad_time_stays_undated() {
        let out = read(
            "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-31T10:00:00Z\"}\n{\"log\":\"b\n{\"lag\":\"c\"}\nd\n\n",
        );
        let reasons: Vec<_> = out.rejects.iter().map(|(_, why)| why.as_ref()).collect();
        assert_eq!(reasons, ["JSON that is cut short", "JSON with other fields than Docker's", "no JSON"]);
        assert_eq!(
            (out.events[0].time, out.events[0].ts_text.as_deref()),
            (None, Some("2026-11-31T10:00:00Z"))
        );
    }

    #[test]
    fn a_log_is_claimed_by_its_lines_and_not_for_any_json() {
        let claims = |path: &str, head: &str| {
            PARSER.claims(&Probe { path, head: head.as_bytes(), size: Some(head.len() as u64) })
        };
        let line = r#"{"log":"x\n","stream":"stdout","time":"2026-11-18T10:00:00Z"}"#;
        assert!(claims("/x", &format!("{line}\n")));
        assert!(claims("/x", line));
        assert!(!claims("/x", r#"{"log":"x","time":"now"}"#));
        assert!(!claims("/x", "{\"a\":1}\n"));
        let long = format!("{{\"log\":\"{}", "x".repeat(4000));
        assert!(claims(&format!("/containers/{ID}/{ID}-json.log"), &long));
        assert!(!claims("/x", &long));
    }
}
