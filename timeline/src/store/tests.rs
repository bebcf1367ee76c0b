use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::made_rows::{event, listed, maker, rows, write_timeline};
use super::parquet::Cuts;
use super::runs::{SortLimits, Sorter};
use super::stored_row::Key;
use super::*;
use crate::Error;
use crate::event::Timestamp;
use crate::parser::Context;

/// All files below a folder with their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Limits so small that a few thousand rows make many runs, most of them on disk.
const TIGHT: SortLimits = SortLimits { run_rows: 300, run_bytes: 1 << 20, held_bytes: 200 << 10 };

fn build(folder: &Path, rows: &[Row], threads: usize, limits: SortLimits) -> Vec<Part> {
    let writer = TimelineWriter::with_limits(folder, "E001", limits).unwrap();
    std::thread::scope(|scope| {
        for share in rows.chunks(rows.len().div_ceil(threads).max(1)) {
            let mut sink = writer.sink();
            scope.spawn(move || {
                share.iter().try_for_each(|row| sink.push(row)).unwrap();
                sink.finish().unwrap();
            });
        }
    });
    writer.finish().unwrap()
}

#[test]
fn the_same_rows_give_the_same_files_whatever_the_order_the_threads_and_the_limits() {
    let mut made = rows("E001", 0..5000);
    let first = tempfile::tempdir().unwrap();
    let parts = build(first.path(), &made, 1, SortLimits::for_threads(1));
    assert_eq!(parts.iter().map(|p| p.rows).sum::<u64>(), 5000);
    let expected = files(first.path());
    assert_eq!(expected.len(), 1);
    for (turn, threads) in [1, 2, 4].into_iter().enumerate() {
        made.reverse();
        made.rotate_left(1234 * turn);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(build(folder.path(), &made, threads, TIGHT), parts);
        assert_eq!(files(folder.path()), expected, "{threads} threads");
    }
}

#[test]
fn many_rows_become_several_parts_one_after_the_other_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TimelineWriter::new(folder.path(), "E001", 1).unwrap();
    writer.cuts = Cuts { group_rows: 64, part_groups: 4, ..Cuts::default() };
    writer.push(rows("E001", 0..1000)).unwrap();
    let parts = writer.finish().unwrap();
    assert_eq!(parts.iter().map(|p| p.rows).collect::<Vec<_>>(), [256, 256, 256, 232]);
    assert!(parts.windows(2).all(|pair| pair[0].last <= pair[1].first));

    // Huge rows close a row group early, and the same way every time.
    let mut writer = TimelineWriter::new(folder.path(), "E001", 1).unwrap();
    writer.cuts = Cuts { group_bytes: 4096, part_groups: 1, ..Cuts::default() };
    writer.push(rows("E001", 0..100)).unwrap();
    let parts = writer.finish().unwrap();
    assert!(parts.len() > 3 && parts.iter().map(|p| p.rows).sum::<u64>() == 100);
}

#[test]
fn what_the_process_wrote_before_does_not_change_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let made = rows("E001", 0..500);
    let before = build(folder.path(), &made, 1, TIGHT);
    let mut other = maker("E001");
    let strange: Vec<Row> = (0..500)
        .map(|n| {
            let mut event = event(n);
            event.host = Some(format!("host-{n}").into());
            event.source = format!("strange:{n}").into();
            other.row(event)
        })
        .collect();
    build(tempfile::tempdir().unwrap().path(), &strange, 1, TIGHT);
    assert_eq!(build(folder.path(), &made, 1, TIGHT), before);
}

#[test]
fn small_timelines_never_touch_the_disk_and_large_ones_clean_up() {
    let folder = tempfile::tempdir().unwrap();
    let tmp = folder.path().join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    std::fs::write(tmp.join("runs.bin"), b"left by a build that was killed").unwrap();
    let sorter = std::sync::Arc::new(Sorter::new(&tmp, SortLimits::for_threads(1)).unwrap());
    assert!(!tmp.exists());
    let mut sink = sorter.sink();
    rows("E001", 0..2000).iter().for_each(|row| sink.push(row).unwrap());
    sink.finish().unwrap();
    assert_eq!(sorter.rows(), 2000);
    assert!(!tmp.exists());

    let sorter = std::sync::Arc::new(Sorter::new(&tmp, TIGHT).unwrap());
    let mut sink = sorter.sink();
    rows("E001", 0..2000).iter().for_each(|row| sink.push(row).unwrap());
    sink.finish().unwrap();
    assert!(tmp.join("runs.bin").exists());
    sorter.clear().unwrap();
    assert!(!tmp.exists());
}

#[test]
fn a_damaged_run_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let limits = SortLimits { held_bytes: 0, ..TIGHT };
    for at in [0usize, 4, 8, 40, 4000] {
        let sorter = std::sync::Arc::new(Sorter::new(folder.path(), limits).unwrap());
        let mut sink = sorter.sink();
        rows("E001", 0..1000).iter().for_each(|row| sink.push(row).unwrap());
        sink.finish().unwrap();
        let path = folder.path().join("runs.bin");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at..at + 4].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let mut read = 0;
        let result = sorter.merge().and_then(|mut merge| {
            while merge.next(|_, _, _| {})? {
                read += 1;
            }
            Ok(())
        });
        assert!(matches!(result, Err(Error::Damaged { .. } | Error::File { .. })), "{at}: {read} rows");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_merge_gives_every_row_once_and_in_order(
        times in prop::collection::vec(prop::option::of((-3i64..3, 0i16..3)), 0..200),
        run_rows in 1usize..40,
        held_bytes in prop::sample::select(vec![0usize, 20_000, 1 << 20]),
        sinks in 1usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let limits = SortLimits { run_rows, run_bytes: 1 << 20, held_bytes };
        let sorter = std::sync::Arc::new(Sorter::new(folder.path(), limits).unwrap());
        let mut maker = maker("E001");
        let made: Vec<Row> = times.iter().enumerate().map(|(n, time)| {
            let mut event = event(n as u64);
            event.time = time.map(|(micros, nanos)| Timestamp { micros, nanos });
            maker.row(event)
        }).collect();
        let mut open: Vec<_> = (0..sinks).map(|_| sorter.sink()).collect();
        for (n, row) in made.iter().enumerate() {
            open[n % sinks].push(row).unwrap();
        }
        open.into_iter().for_each(|sink| sink.finish().unwrap());
        let mut merge = sorter.merge().unwrap();
        let mut merged = Vec::new();
        while merge.next(|key, row, _| merged.push((*key, row.byte_offset))).unwrap() {}
        let mut expected: Vec<_> = made.iter().map(|row| (Key::of(row), row.event.span.offset as i64)).collect();
        expected.sort();
        prop_assert_eq!(merged, expected);
    }
}

#[test]
fn a_manifest_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Manifest::read(folder.path()).unwrap(), None);
    let written = write_timeline(folder.path(), &[("E001", rows("E001", 0..10)), ("E002", Vec::new())]);
    assert_eq!(Manifest::read(folder.path()).unwrap(), Some(written.clone()));
    assert_eq!(written.check_hashes(folder.path()), []);
    assert!(written.exhibits["E002"].parts.is_empty());
    let part = &written.exhibits["E001"].parts[0];
    assert_eq!(part.rows, 10);
    assert!(part.first < part.last);
}

#[test]
fn a_context_survives_the_manifest_with_any_name() {
    let users = [(0, "root".to_owned()), (7, "back\\slash\u{1}é".to_owned())];
    let context = Context {
        host: Some("we\nb".into()),
        users: std::sync::Arc::new(users.into()),
        ..Context::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = write_timeline(folder.path(), &[("E001", rows("E001", 0..1))]);
    manifest.exhibits.get_mut("E001").unwrap().context = (&context).into();
    manifest.write(folder.path()).unwrap();
    let read = Manifest::read(folder.path()).unwrap().unwrap();
    let loaded = read.exhibits["E001"].context.load().unwrap();
    assert_eq!((loaded.host, loaded.users), (context.host, context.users));
}

#[test]
fn a_changed_manifest_is_refused_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..10))]);
    let path = folder.path().join("manifest.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to, why) in [
        ("exhibit-timeline/1", "exhibit-timeline/2", "format"),
        ("events/exhibit=E001/", "events/exhibit=E001/../", "is not where"),
        ("\"rows\":10", "\"rows\": 10", "strict form"),
        ("\"rows\":10", "\"rows\":10,\"rows\":10", "duplicate field"),
        ("\"rows\":10", "\"rows\":-1", "invalid value"),
        ("\"parsers\":", "\"other\":1,\"parsers\":", "unknown field"),
        ("\"E001\":", "\"../E1\":", "no exhibit id"),
    ] {
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged") && error.contains(why), "{to}: {error}");
    }
}

#[test]
fn a_missing_or_shortened_part_is_found_at_once_and_a_changed_one_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = write_timeline(folder.path(), &[("E001", rows("E001", 0..10))]);
    let path = folder.path().join(&manifest.exhibits["E001"].parts[0].path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    manifest.check_sizes(folder.path()).unwrap();
    assert_eq!(manifest.check_hashes(folder.path()).len(), 1);
    std::fs::write(&path, &bytes[1..]).unwrap();
    assert!(matches!(manifest.check_sizes(folder.path()), Err(Error::Damaged { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(manifest.check_sizes(folder.path()), Err(Error::Damaged { .. })));
}

#[test]
fn a_rebuild_leaves_nothing_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..10))]);
    let before = files(folder.path());
    let manifest = write_timeline(folder.path(), &[("E001", rows("E001", 0..11))]);
    assert_eq!(manifest.remove_unlisted(folder.path()).unwrap(), 1);
    let after = files(folder.path());
    assert_eq!(after.len(), 3, "{:?}", after.keys());
    assert_ne!(before, after);
    assert_eq!(manifest.check_hashes(folder.path()), []);
}

#[test]
fn a_ledger_is_sorted_and_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut row = LedgerRow {
        locator: "disk/p1/ext4:/var/log/syslog".into(),
        parser: "syslog@1".into(),
        bytes: u64::MAX,
        reason: Some("no record\nat all".into()),
        ..LedgerRow::default()
    };
    for n in 0..9 {
        row.reject(crate::event::Span::new(n, 1), "not a syslog line");
    }
    assert_eq!((row.failed, row.rejects.len()), (9, ledger::KEPT_REJECTS));
    let earlier = LedgerRow { locator: "disk/p1/ext4:/var/log/auth.log".into(), ..LedgerRow::default() };
    let mut summary = LedgerSummary::default();
    summary.unclaimed("elf", 10);
    summary.unclaimed("elf", 20);
    summary.issue("disk/p2", "no file system that is read");
    let sorted = ledger::Ledger { files: vec![earlier.clone(), row.clone()], summary: summary.clone() };
    let listed = ledger::Ledger { files: vec![row, earlier], summary }.write(folder.path(), "E001").unwrap();
    assert_eq!(listed, sorted.clone().write(folder.path(), "E001").unwrap());
    assert_eq!(ledger::Ledger::read(folder.path(), &listed).unwrap(), sorted);
    std::fs::write(folder.path().join(&listed.path), b"{}").unwrap();
    assert!(matches!(ledger::Ledger::read(folder.path(), &listed), Err(Error::Damaged { .. })));
}

#[test]
fn an_exhibit_id_cannot_lead_out_of_the_timeline() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["", "../E001", "E/1", "E 1"] {
        assert!(matches!(TimelineWriter::new(folder.path(), id, 1), Err(Error::Usage { .. })));
    }
    let mut manifest = Manifest::default();
    let part = Part {
        path: "events/exhibit=E001/x.parquet".into(),
        sha256: "b".repeat(64),
        size: 1,
        rows: 1,
        first: None,
        last: None,
    };
    manifest.exhibits.insert("E001".into(), listed(folder.path(), "E001", vec![part]));
    assert!(matches!(manifest.write(folder.path()), Err(Error::Damaged { .. })));
}
