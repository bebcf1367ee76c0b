use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::parser::Collected;
use crate::parsers::sample_checks::{
    claims, every_byte_is_accounted_for, every_record_reads_alone, outside, samples,
};

fn read(path: &str, bytes: &[u8]) -> Collected {
    let mut out = Collected::default();
    let mut input = Input::of_source(path, Arc::new(bytes.to_vec()));
    PARSER.parse(&mut input, &Context::default(), &mut out).unwrap();
    out
}

#[test]
fn real_files_of_every_layout_give_all_their_records() {
    for (name, records, rejects) in [
        ("utmp__utmp", 14, 0),
        ("utmp__wtmp.1", 4, 0),
        ("utmp__utmp_corrupted", 2, 3),
        ("utmp__utmp_aarch64", 6, 0),
        ("utmp__utmp_x86_64", 6, 0),
        ("utmp__utmp_s390", 6, 0),
    ] {
        let Some(bytes) = outside(&format!("linux/{name}")) else { continue };
        assert!(claims(&PARSER, &format!("/var/log/{name}"), &bytes), "{name}");
        let found = read("/var/log/wtmp", &bytes);
        assert_eq!((found.records(), found.rejects.len()), (records, rejects), "{name} {:?}", found.rejects);
        every_byte_is_accounted_for(&found, &bytes);
        every_record_reads_alone(&PARSER, &bytes, &Context::default());
    }
}

fn record(kind: i16, user: &[u8], seconds: u32) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.resize(44, 0);
    bytes.extend(user);
    bytes.resize(340, 0);
    bytes.extend(seconds.to_le_bytes());
    bytes.resize(384, 0);
    bytes
}

#[test]
fn a_failed_login_is_one_only_in_btmp_and_its_typed_name_stays_on_one_line() {
    let bytes = record(6, b"x\n\x1b[2Jy\xff", 1_794_986_902);
    let event = &read("/var/log/btmp.1", &bytes).events[0];
    assert_eq!(event.message, r"failed login of x\x0a\x1b[2Jy\xff (pid 0)");
    assert_eq!(
        (event.outcome.as_deref(), event.user_name.as_deref()),
        (Some("failure"), Some(r"x\x0a\x1b[2Jy\xff"))
    );
    let event = &read("/var/log/wtmp", &bytes).events[0];
    assert_eq!((event.message.as_str(), event.user_name.as_deref()), ("login prompt (pid 0)", None));
}

#[test]
fn wiped_records_are_kept_without_a_time_and_long_runs_of_them_are_filler() {
    let mut bytes = record(7, b"jane", 1_794_986_902);
    bytes.resize(384 * 41, 0);
    bytes.extend(record(7, b"jane", 1_794_986_999));
    let found = read("/var/log/wtmp", &bytes);
    assert_eq!((found.records(), found.rejects.len()), (18, 0));
    assert_eq!(found.filler, [Span::new(384 * 17, 384 * 24)]);
    assert_eq!(found.events.iter().filter(|e| e.time.is_none()).count(), 16);
    every_record_reads_alone(&PARSER, &bytes, &Context::default());
}

#[test]
fn times_last_until_2106_and_impossible_microseconds_do_not_lose_the_second() {
    let found = read("/var/log/wtmp", &record(7, b"jane", 4_102_444_800));
    assert_eq!(found.events[0].time.unwrap().to_rfc3339(), "2100-01-01T00:00:00Z");
    let mut bytes = record(7, b"jane", 1_794_986_902);
    bytes[344..348].copy_from_slice(&(-1i32).to_le_bytes());
    let found = read("/var/log/wtmp", &bytes);
    assert_eq!(found.events[0].time.unwrap().to_rfc3339(), "2026-11-18T07:28:22Z");
    assert_eq!(found.events[0].flags, flags::CORRUPT);
    assert_eq!(found.events[0].attrs.get("tv_usec").unwrap(), -1);
}

#[test]
fn a_name_alone_or_other_binary_data_is_not_claimed() {
    for bytes in [vec![0; 3840], b"x".repeat(3840), vec![0xff; 384]] {
        assert!(!claims(&PARSER, "/var/log/wtmp", &bytes));
    }
    let three = record(7, b"jane", 1_794_986_902).repeat(3);
    assert!(claims(&PARSER, "/evidence/logins", &three));
    assert!(!claims(&PARSER, "/evidence/logins", &three[..1000]));
    assert!(claims(&PARSER, "/evidence/wtmp", &three[..1000]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic_and_records_still_read_alone(
        which in 0..5usize,
        changes in prop::collection::vec((0..12_000usize, any::<u8>()), 0..40),
        cut in 0..12_000usize,
    ) {
        let (_, mut bytes) = samples("utmp").swap_remove(which);
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(400));
        every_byte_is_accounted_for(&read("/sample", &bytes), &bytes);
        every_record_reads_alone(&PARSER, &bytes, &Context::default());
    }
}
