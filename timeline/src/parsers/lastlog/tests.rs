use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::bytes::{ByteSource, StreamRange};
use crate::parser::Collected;
use crate::parsers::sample_checks::{claims, every_byte_is_accounted_for, every_record_reads_alone, samples};

fn record(time: &[u8], line: &str, host: &str) -> Vec<u8> {
    let mut bytes = time.to_vec();
    bytes.extend(line.as_bytes());
    bytes.resize(time.len() + 32, 0);
    bytes.extend(host.as_bytes());
    bytes.resize(time.len() + 288, 0);
    bytes
}

fn file(records: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let size = records[0].1.len();
    let mut bytes = vec![0; (records.last().unwrap().0 + 1) * size];
    for (uid, record) in records {
        bytes[uid * size..][..size].copy_from_slice(record);
    }
    bytes
}

fn context() -> Context {
    Context {
        users: Arc::new(BTreeMap::from([(0, "root".into()), (1000, "jane".into())])),
        ..Context::default()
    }
}

fn read(source: Arc<dyn ByteSource>) -> Collected {
    let mut out = Collected::default();
    PARSER.parse(&mut Input::of_source("/var/log/lastlog", source), &context(), &mut out).unwrap();
    out
}

fn shown(found: &Collected) -> Vec<(String, Option<String>)> {
    found.events.iter().map(|e| (e.message.clone(), e.time.map(Timestamp::to_rfc3339))).collect()
}

#[test]
fn both_widths_and_orders_of_time_give_the_same_logins() {
    let at = 1_794_986_902u32;
    let times = [
        at.to_le_bytes().to_vec(),
        u64::from(at).to_le_bytes().to_vec(),
        u64::from(at).to_be_bytes().to_vec(),
    ];
    for time in times {
        let bytes = file(&[(0, record(&time, "tty1", "")), (1000, record(&time, "pts/0", "2001:db8::5"))]);
        assert!(claims(&PARSER, "/var/log/lastlog.1", &bytes));
        assert!(!claims(&PARSER, "/var/log/other", &bytes));
        let found = read(Arc::new(bytes.clone()));
        let time = Some("2026-11-18T07:28:22Z".to_owned());
        assert_eq!(
            shown(&found),
            [
                ("last login of root (uid 0) on tty1".into(), time.clone()),
                ("last login of jane (uid 1000) on pts/0 from 2001:db8::5".into(), time)
            ]
        );
        assert_eq!(found.events[1].src_ip.as_deref(), Some("2001:db8::5"));
        assert_eq!(found.events[1].user_name.as_deref(), Some("jane"));
        every_byte_is_accounted_for(&found, &bytes);
        every_record_reads_alone(&PARSER, &bytes, &context());
    }
}

#[test]
fn damage_is_listed_and_the_other_users_are_read() {
    let at = 1_794_986_902u32.to_le_bytes();
    let mut bytes =
        file(&[(0, record(&at, "tty1", "")), (3, record(&[7; 4], "a\tb", "")), (5, record(&at, "tty2", ""))]);
    bytes.extend(&record(&at, "pts/9", "cut")[..100]);
    let found = read(Arc::new(bytes.clone()));
    assert_eq!((found.records(), found.rejects.len()), (2, 2));
    assert_eq!(found.rejects[0].0, Span::new(3 * 292, 292));
    assert_eq!(found.rejects[1].1, "the last record has 100 of 292 bytes");
    every_byte_is_accounted_for(&found, &bytes);
}

/// A sparse file of which only some records are stored.
struct Sparse {
    length: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl ByteSource for Sparse {
    fn len(&self) -> u64 {
        self.length
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        buf.fill(0);
        for (i, byte) in buf.iter_mut().enumerate() {
            let at = offset + i as u64;
            let part = self.parts.iter().find(|(start, b)| at >= *start && at < start + b.len() as u64);
            *byte = part.map_or(0, |(start, b)| b[(at - start) as usize]);
        }
        Ok(buf.len().min((self.length - offset) as usize))
    }
    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let inside =
            |(start, b): &&(u64, Vec<u8>)| *start < offset + length && start + b.len() as u64 > offset;
        self.parts.iter().filter(inside).map(|(start, b)| *start..start + b.len() as u64).collect()
    }
}

#[test]
fn a_file_of_a_terabyte_with_three_users_takes_no_time() {
    let at = 1_794_986_902u32.to_le_bytes();
    let uids = [1000u64, 1_000_000_000, u64::from(u32::MAX) - 1];
    let parts = uids.iter().map(|uid| (uid * 292, record(&at, "pts/1", "203.0.113.7"))).collect();
    let found = read(Arc::new(Sparse { length: u64::from(u32::MAX) * 292, parts }));
    let messages: Vec<_> = found.events.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "last login of jane (uid 1000) on pts/1 from 203.0.113.7",
            "last login of uid 1000000000 on pts/1 from 203.0.113.7",
            "last login of uid 4294967294 on pts/1 from 203.0.113.7",
        ]
    );
    let filler: u64 = found.filler.iter().map(|span| span.length).sum();
    assert_eq!(filler, u64::from(u32::MAX) * 292 - 3 * 292);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic_and_records_still_read_alone(
        which in 0..2usize,
        changes in prop::collection::vec((0..40_000usize, any::<u8>()), 0..40),
        cut in 0..40_000usize,
    ) {
        let (_, mut bytes) = samples("lastlog").swap_remove(which);
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(300));
        every_byte_is_accounted_for(&read(Arc::new(bytes.clone())), &bytes);
        every_record_reads_alone(&PARSER, &bytes, &context());
    }
}
