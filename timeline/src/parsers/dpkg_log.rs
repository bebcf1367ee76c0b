//! dpkg's log: every package unpacked, configured, upgraded and removed.
//!
//! - Found at: `/var/log/dpkg.log*`.
//! - Known by: a date and clock time and one of dpkg's words.
//! - Times: local, to the second.
//! - Not read: lines without a date or with another word; they are rejects.
//! - Reference: dpkg, `lib/dpkg/log.c`, `dpkg(1)` option `--log`.

use super::syslog::pass_nuls;
use super::written_time::Written;
use crate::error::ReadError;
use crate::event::{Event, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Line, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct DpkgLog;
pub(super) static PARSER: DpkgLog = DpkgLog;

impl Parser for DpkgLog {
    fn name(&self) -> &'static str {
        "dpkg_log"
    }

    fn reads(&self) -> &'static str {
        "dpkg's log of package states and actions"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let (mut lines, mut known) = (0u32, 0u32);
        for line in probe.lines().filter(|line| !line.trim_ascii().is_empty()).take(20) {
            lines = lines.saturating_add(1);
            known = known.saturating_add(u32::from(Entry::read(line).is_some()));
        }
        known > 0 && (known.saturating_mul(2) >= lines || probe.base_name() == "dpkg.log")
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        while let Some(line) = input.next_line()? {
            let line = pass_nuls(line, out);
            match Entry::read(line.bytes) {
                Some(entry) => out.event(entry.event(&line, context)),
                None if line.bytes.is_empty() => {}
                None if line.bytes.trim_ascii().is_empty() => out.filler(line.span),
                None => out.reject(line.span, "not a date and one of dpkg's words".into()),
            }
        }
        Ok(())
    }
}

struct Entry<'l> {
    time: Written<'l>,
    /// dpkg's word and what follows it.
    text: &'l [u8],
    verb: &'static str,
}

impl<'l> Entry<'l> {
    fn read(line: &'l [u8]) -> Option<Entry<'l>> {
        const VERBS: [&str; 10] = [
            "status",
            "install",
            "upgrade",
            "configure",
            "trigproc",
            "remove",
            "purge",
            "disappear",
            "startup",
            "conffile",
        ];
        let (time, rest) = Written::read(line, b"YYYY-MM-DD hh:mm:ss ")?;
        let word = rest.split(|b| *b == b' ').next()?;
        let verb = VERBS.iter().find(|verb| verb.as_bytes() == word)?;
        Some(Entry { time, text: rest, verb })
    }

    fn event(&self, line: &Line<'_>, context: &Context) -> Event {
        let text = clean(self.text);
        let mut words = text.split(' ').filter(|word| !word.is_empty()).skip(1).map(str::to_owned);
        let mut event = Event::new("linux:dpkg", "Recorded Time", line.span, "");
        event.category = Some("package".into());
        event.action = Some(self.verb.into());
        event.process = Some("dpkg".into());
        let mut fields: &[&'static str] = match self.verb {
            "status" => &["state", "package", "version"],
            "startup" => &["startup_type", "startup_command"],
            "conffile" => &["conffile", "decision"],
            _ => &["package", "old_version", "new_version"],
        };
        while let Some((field, rest)) = fields.split_first() {
            fields = rest;
            let Some(word) = words.next() else { break };
            match *field {
                "conffile" => event.path = Some(word),
                "package" => match word.rsplit_once(':') {
                    Some((package, architecture)) => {
                        event.attrs.put("package", package);
                        event.attrs.put("architecture", architecture);
                    }
                    None => event.attrs.put("package", word),
                },
                // dpkg writes both where there is none.
                _ if word == "<none>" => {}
                field => event.attrs.put(field, word),
            }
        }
        let more = words.collect::<Vec<_>>().join(" ");
        if !more.is_empty() {
            event.attrs.put("more", more);
        }
        if line.cut || line.bytes.len() >= LONGEST_LINE {
            event.flags |= flags::TRUNCATED;
        }
        event.message = format!("dpkg: {}", text.trim_end());
        self.time.date(event, context, false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::TzBasis;
    use crate::parser::Collected;
    use crate::zone::{KnownZone, Zone};

    fn read(text: &str) -> Collected {
        let zone = KnownZone { zone: Zone::from_name("Europe/Berlin").unwrap(), basis: TzBasis::HostConfig };
        let mut out = Collected::default();
        let mut input = Input::of_source("/var/log/dpkg.log", Arc::new(text.as_bytes().to_vec()));
        PARSER.parse(&mut input, &Context { zone, ..Context::default() }, &mut out).unwrap();
        out
    }

    #[test]
    fn each_word_names_its_fields_and_the_time_is_the_hosts() {
        let out = read(
            "2026-11-18 10:00:00 status half-installed base-passwd:amd64 3.6.1\n\
             2026-11-18 10:00:01 install nginx:amd64 <none> 1.22\n\
             2026-11-18 10:00:02 conffile /etc/nginx/nginx.conf keep\n\
             2026-11-18 10:00:03 startup archives install\n",
        );
        let attrs: Vec<_> = out.events.iter().map(|e| e.attrs.to_json()).collect();
        assert_eq!(
            attrs,
            [
                r#"{"state":"half-installed","package":"base-passwd","architecture":"amd64","version":"3.6.1"}"#,
                r#"{"package":"nginx","architecture":"amd64","new_version":"1.22"}"#,
                r#"{"decision":"keep"}"#,
                r#"{"startup_type":"archives","startup_command":"install"}"#,
            ]
        );
        assert_eq!(out.events[0].time.unwrap().to_rfc3339(), "2026-11-18T09:00:00Z");
        assert_eq!(out.events[2].path.as_deref(), Some("/etc/nginx/nginx.conf"));
    }

    #[test]
    fn an_impossible_date_stays_undated_and_other_lines_are_rejects() {
        let out = read("2026-02-30 10:00:00 remove x:all 1 <none>\n2026-02-03 10:00:00 shred x\nhello\n\n");
        assert_eq!((out.events.len(), out.rejects.len()), (1, 2));
        assert_eq!(
            (out.events[0].time, out.events[0].ts_text.as_deref()),
            (None, Some("2026-02-30 10:00:00"))
        );
    }
}
