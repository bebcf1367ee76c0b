#![expect(clippy::print_stderr, reason = "what it took is for a person to read")]

use super::*;
use crate::event::Event;
use crate::store::Manifest;
use crate::store::made_rows::{event, listed, maker};

/// Processor time of all threads so far, in seconds; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// The most memory the process ever held, in KiB; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Prints what it took; asserts only that the rows are there. A fiftieth of the rows where nothing is optimised.
#[test]
fn a_million_rows_are_written_and_asked() {
    let count: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let folder = tempfile::tempdir().unwrap();
    let mut took = [0.0; 3];
    let mut timed = |n: usize, start: f64| took[n] += cpu_seconds() - start;
    let writer = crate::store::TimelineWriter::new(folder.path(), "E001", 2).unwrap();
    let mut sink = writer.sink();
    let mut maker = maker("E001");
    let share = count / 10;
    for chunk in 0..10 {
        let events: Vec<Event> = (chunk * share..(chunk + 1) * share).map(event).collect();
        let start = cpu_seconds();
        let rows = maker.rows(events);
        timed(0, start);
        let start = cpu_seconds();
        rows.iter().try_for_each(|row| sink.push(row)).unwrap();
        timed(1, start);
    }
    let start = cpu_seconds();
    sink.finish().unwrap();
    let parts = writer.finish().unwrap();
    timed(2, start);
    let bytes: u64 = parts.iter().map(|part| part.size).sum();
    let rate = |seconds: f64| count as f64 / seconds;
    eprintln!(
        "{count} rows, by one core: made {:.0}/s, sorted {:.0}/s, merged and written {:.0}/s, all {:.0}/s; {:.1} bytes a row; peak {} MiB",
        rate(took[0]),
        rate(took[1]),
        rate(took[2]),
        rate(took.iter().sum()),
        bytes as f64 / count as f64,
        peak_kib() >> 10
    );
    let mut manifest = Manifest::default();
    manifest.exhibits.insert("E001".into(), listed(folder.path(), "E001", parts));
    manifest.write(folder.path()).unwrap();
    let timeline = Timeline::open(folder.path()).unwrap();
    let timed = |what: &str, query: &dyn Fn() -> u64| {
        let start = std::time::Instant::now();
        let rows = query();
        eprintln!(
            "{what}: {rows} rows in {:.3} s; peak {} MiB",
            start.elapsed().as_secs_f64(),
            peak_kib() >> 10
        );
        rows
    };
    let all = timed("every event as CSV", &|| {
        let answer = timeline.query(&Query::default()).unwrap();
        Format::Csv.write(answer, &mut std::io::sink()).unwrap().rows
    });
    assert_eq!(all, (0..count).filter(|n| n % 97 != 96).count() as u64);
    let rows_of = |query: &Query| timeline.query(query).unwrap().count() as u64;
    let hour = (moment("2026-05-29 03:00").unwrap(), moment("2026-05-29 04:00").unwrap());
    timed("one hour", &|| rows_of(&Query { since: Some(hour.0), until: Some(hour.1), ..Query::default() }));
    timed("grep", &|| rows_of(&Query { grep: Some("PORT 4242 ".into()), ..Query::default() }));
    timed("facet", &|| {
        rows_of(&Query { facet: vec!["user_name".into(), "src_ip".into()], ..Query::default() })
    });
    timed("histogram", &|| {
        rows_of(&Query { histogram: Some(Bucket::parse("1h").unwrap()), ..Query::default() })
    });
    let id = maker.row(event(0)).id_hex();
    timed("one event", &|| timeline.find_event(id.get(..12).unwrap()).map_or(0, |_| 1));
}

/// More than the engine hands over at once, so that batches of two exhibits interleave.
#[test]
fn exhibits_stay_in_order_and_duplicates_together_across_batches() {
    let folder = tempfile::tempdir().unwrap();
    let made = |exhibit: &str| {
        maker(exhibit).rows((0..17_000u64).map(|n| {
            let mut event =
                Event::new("t:t", "Recorded Time", crate::event::Span::new(n, 1), (n % 3).to_string());
            event.time = Some(crate::event::Timestamp::from_micros((n / 3) as i64));
            event
        }))
    };
    let exhibits = [("E001", made("E001")), ("E002", made("E002"))];
    crate::store::made_rows::write_timeline(folder.path(), &exhibits);
    let timeline = Timeline::open(folder.path()).unwrap();
    let columns = vec!["ts".to_owned(), "event_id".to_owned()];
    let all = Query { columns: columns.clone(), ..Query::default() };
    let keys: Vec<(i64, String)> = timeline
        .query(&all)
        .unwrap()
        .map(|row| row.unwrap())
        .map(|row| match row.value(0) {
            Value::Time(time) => (time.micros, row.value(1).to_text().into_owned()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys.len(), 34_000);
    assert!(keys.is_sorted());
    let once = Query { columns, dedup: true, ..Query::default() };
    let copies: Vec<u64> = timeline
        .query(&once)
        .unwrap()
        .map(|row| match row.unwrap().get("copies") {
            Value::UInt(n) => n,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((copies.len(), copies.iter().all(|n| *n == 2)), (17_000, true));
}
