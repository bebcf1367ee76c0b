//! Rows for tests: many, varied, and the same every time.

use std::path::Path;

use super::ledger::Ledger;
use super::manifest::{ExhibitTimeline, Manifest, StoredContext, Tool};
use super::row::{Row, RowMaker};
use super::writer::TimelineWriter;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis};
use crate::parser::Context;

/// The `n`th row of a made log: its line, time and the rest follow from `n` alone. Every 97th has no time.
pub(crate) fn event(n: u64) -> Event {
    // Multiplying by an odd number mixes without repeating.
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let span = Span::new(n * 120, 119);
    let user = ["root", "alice", "bob", "deploy"][(mixed % 4) as usize];
    let ip = format!("203.0.113.{}", mixed % 251);
    let message =
        format!("sshd[{}]: Failed password for {user} from {ip} port {} ssh2", n % 30000, mixed % 65536);
    let mut event = Event::new("linux:syslog", "Recorded Time", span, message);
    event.user_name = Some(user.into());
    event.process = Some("sshd".into());
    event.pid = Some((n % 30000) as i64);
    event.src_ip = Some(ip);
    event.src_port = Some((mixed % 65536) as i32);
    event.category = Some("authentication".into());
    event.action = Some("ssh_login".into());
    event.outcome = Some(if mixed.is_multiple_of(9) { "success" } else { "failure" }.into());
    event.attrs.put("facility", mixed % 24);
    event.attrs.put("method", "password");
    if n % 97 == 96 {
        return event;
    }
    let micros = 1_780_000_000_000_000 + (mixed % 86_400_000) as i64 * 1000;
    event.at(Timestamp { micros, nanos: (mixed % 1000) as i16 }, Precision::Ns, TzBasis::UtcByFormat)
}

pub(crate) fn maker(exhibit: &str) -> RowMaker {
    let bundle = format!("0195-{exhibit}");
    RowMaker::new(&bundle, exhibit, "disk/p1/ext4:/var/log/auth.log", "syslog@1", Some("web01"))
}

pub(crate) fn rows(exhibit: &str, range: std::ops::Range<u64>) -> Vec<Row> {
    maker(exhibit).rows(range.map(event))
}

/// Writes a timeline of these exhibits, manifest and all.
pub(crate) fn write_timeline(folder: &Path, exhibits: &[(&str, Vec<Row>)]) -> Manifest {
    let mut manifest = Manifest::default();
    for (id, rows) in exhibits {
        let writer = TimelineWriter::new(folder, id, 1).unwrap();
        writer.push(rows.clone()).unwrap();
        let parts = writer.finish().unwrap();
        manifest.exhibits.insert((*id).into(), listed(folder, id, parts));
    }
    manifest.write(folder).unwrap();
    manifest
}

pub(crate) fn listed(folder: &Path, id: &str, parts: Vec<super::Part>) -> ExhibitTimeline {
    ExhibitTimeline {
        bundle: format!("0195-{id}"),
        manifest_sha256: "0".repeat(64),
        options: [("timezone".to_owned(), "UTC".to_owned())].into(),
        parsers: [("syslog".to_owned(), 1)].into(),
        tool: Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: "a".repeat(64) },
        context: StoredContext::from(&Context { host: Some("web01".into()), ..Context::default() }),
        parts,
        ledger: Ledger::default().write(folder, id).unwrap(),
    }
}
