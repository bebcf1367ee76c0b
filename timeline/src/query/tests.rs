#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;

use super::*;
use crate::Error;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis};
use crate::store::Manifest;
use crate::store::columns::{COLUMNS, Kind};
use crate::store::made_rows::{event, maker, rows, write_timeline};

pub(super) fn at(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp::from_unix(seconds, nanos).unwrap()
}

pub(super) fn line(offset: u64, time: Option<Timestamp>, message: &str) -> Event {
    let event = Event::new("linux:syslog", "Recorded Time", Span::new(offset, 10), message);
    match time {
        Some(time) => event.at(time, Precision::Ns, TzBasis::InRecord),
        None => event,
    }
}

/// A timeline of two exhibits whose events lie between each other.
pub(super) fn interleaved(folder: &Path) -> Timeline {
    let first = maker("E001").rows([
        line(0, Some(at(100, 5)), "one"),
        line(10, Some(at(100, 7)), "three"),
        line(20, None, "no time"),
    ]);
    let mut second = maker("E002");
    let second = second.rows([
        line(0, Some(at(100, 6)), "two"),
        line(10, Some(at(100, 7)), "three"),
        line(20, Some(at(4000, 0)), "four"),
    ]);
    write_timeline(folder, &[("E001", first), ("E002", second)]);
    Timeline::open(folder).unwrap()
}

fn messages(answer: Answer) -> Vec<String> {
    answer.map(|row| row.unwrap().get("message").to_text().into_owned()).collect()
}

fn json(answer: Answer) -> Vec<serde_json::Value> {
    answer.map(|row| row.unwrap().to_json().into()).collect()
}

#[test]
fn events_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let made = rows("E001", 0..1000);
    write_timeline(folder.path(), &[("E001", made.clone())]);
    let timeline = Timeline::open(folder.path()).unwrap();
    for row in made.iter().step_by(37) {
        assert_eq!(timeline.find_event(&row.id_hex()).unwrap(), row.to_json());
    }
    let mut all = Query { columns: COLUMNS.iter().map(|c| c.name.to_owned()).collect(), ..Query::default() };
    all.undated = Undated::Last;
    let mut found = json(timeline.query(&all).unwrap());
    let mut expected: Vec<serde_json::Value> = made.iter().map(|row| row.to_json().into()).collect();
    for rows in [&mut found, &mut expected] {
        rows.sort_by_key(|row| row["event_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, expected);
}

#[test]
fn events_of_several_exhibits_come_in_one_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let shown = |query: Query| messages(timeline.query(&query).unwrap());
    assert_eq!(shown(Query::default()), ["one", "two", "three", "three", "four"]);
    assert_eq!(shown(Query { limit: Some(2), ..Query::default() }), ["one", "two"]);
    let last = Query { undated: Undated::Last, ..Query::default() };
    assert_eq!(shown(last), ["one", "two", "three", "three", "four", "no time"]);
    assert_eq!(shown(Query { undated: Undated::Only, ..Query::default() }), ["no time"]);
    assert_eq!(timeline.count(&Query::default()).unwrap(), (6, 1));
}

#[test]
fn a_time_is_shown_with_its_nanoseconds() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let first = json(timeline.query(&Query { limit: Some(1), ..Query::default() }).unwrap());
    assert_eq!(first[0]["ts"], "1970-01-01T00:01:40.000000005Z");
    assert_eq!(first[0].get("ts_ns"), None);
    let sql = json(timeline.sql("SELECT ts, ts_ns FROM events WHERE message = 'two'").unwrap());
    assert_eq!(sql[0]["ts"], "1970-01-01T00:01:40.000000006Z");
    assert_eq!(sql[0]["ts_ns"], 6);
}

#[test]
fn limits_of_time_count_nanoseconds_and_the_end_is_excluded() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let shown = |since, until| messages(timeline.query(&Query { since, until, ..Query::default() }).unwrap());
    assert_eq!(shown(Some(at(100, 6)), None), ["two", "three", "three", "four"]);
    assert_eq!(shown(None, Some(at(100, 7))), ["one", "two"]);
    assert_eq!(shown(Some(at(101, 0)), Some(at(4000, 0))), Vec::<String>::new());
    assert_eq!(shown(Some(at(4000, 0)), Some(at(4001, 0))), ["four"]);
}

#[test]
fn duplicates_are_shown_once_with_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let query = Query {
        dedup: true,
        undated: Undated::Last,
        columns: vec!["exhibit".into(), "message".into()],
        ..Query::default()
    };
    let rows = json(timeline.query(&query).unwrap());
    let seen: Vec<_> =
        rows.iter().map(|r| (r["message"].as_str().unwrap(), r["copies"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("one", 1), ("two", 1), ("three", 2), ("four", 1), ("no time", 1)]);
    let limited = timeline.query(&Query { limit: Some(3), ..query }).unwrap();
    assert_eq!(messages(limited), ["one", "two", "three"]);
}

#[test]
fn grep_takes_text_as_it_is_whatever_its_case() {
    let folder = tempfile::tempdir().unwrap();
    let mut with_command = line(10, Some(at(2, 0)), "x");
    with_command.command = Some("/bin/SH -c 'a.b'".into());
    let mut with_attrs = line(20, Some(at(3, 0)), "y");
    with_attrs.attrs.put("note", "Größe 100%");
    let made = maker("E001").rows([line(0, Some(at(1, 0)), "a.b (c)*"), with_command, with_attrs]);
    write_timeline(folder.path(), &[("E001", made)]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let found = |text: &str| {
        messages(timeline.query(&Query { grep: Some(text.into()), ..Query::default() }).unwrap())
    };
    assert_eq!(found("A.B"), ["a.b (c)*", "x"]);
    assert_eq!(found("(C)*"), ["a.b (c)*"]);
    assert_eq!(found("GRÖSSE").len(), 0);
    assert_eq!(found("grÖße 100%"), ["y"]);
    assert_eq!(found("a+b"), Vec::<String>::new());
}

#[test]
fn conditions_of_all_kinds_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..2000))]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let count = |query: Query| timeline.query(&query).unwrap().count();
    let dated = (0..2000u64).filter(|n| event(*n).time.is_some()).count();
    assert_eq!(count(Query::default()), dated);
    let host = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(count(Query { host: host(&["web01", "db01"]), ..Query::default() }), dated);
    assert_eq!(count(Query { host: host(&["db01"]), ..Query::default() }), 0);
    assert_eq!(count(Query { source: host(&["linux:*"]), ..Query::default() }), dated);
    assert_eq!(count(Query { source: host(&["linux:sys"]), ..Query::default() }), 0);
    let roots = (0..2000u64).filter(|n| {
        let event = event(*n);
        event.time.is_some() && event.user_name.as_deref() == Some("root") && event.pid < Some(1000)
    });
    let query = Query {
        where_: Some("user_name = 'root' AND pid < 1000 -- a comment".into()),
        source: host(&["linux:syslog"]),
        ..Query::default()
    };
    assert_eq!(count(query), roots.count());
    let recent = Query { where_: Some("ts >= '2026-05-28T22:00:00'".into()), ..Query::default() };
    let since = Query { since: Some(moment("2026-05-28 22:00").unwrap()), ..Query::default() };
    assert_eq!(count(recent), count(since));
}

/// A value that each kind of column can be compared with.
fn literal(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Words => "'a'",
        Kind::Time => "'2026-01-01 00:00:00'",
        Kind::Int16 | Kind::Int32 | Kind::Int64 => "1",
    }
}

#[test]
fn every_column_works_bare_in_where_and_group_by() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..200))]);
    let timeline = Timeline::open(folder.path()).unwrap();
    for column in COLUMNS {
        let (name, value) = (column.name, literal(column.kind));
        let sql = format!(
            "SELECT {name}, COUNT(*) AS n FROM events WHERE {name} >= {value} OR {name} IS NULL GROUP BY {name} ORDER BY {name}"
        );
        let rows = timeline.sql(&sql).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        rows.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let query = Query { where_: Some(format!("{name} IS NOT NULL")), ..Query::default() };
        timeline.query(&query).unwrap().for_each(|row| drop(row.unwrap()));
        let facet = Query { facet: vec![name.into()], limit: Some(3), ..Query::default() };
        assert!(timeline.query(&facet).unwrap().count() > 0, "{name}");
    }
}

#[test]
fn every_column_works_bare_in_duckdb_too() {
    let python = |script: &str| std::process::Command::new("python3").args(["-c", script]).output();
    if !python("import duckdb").is_ok_and(|found| found.status.success()) {
        eprintln!("skipped: there is no python3 with the module duckdb");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..200)), ("E002", rows("E002", 0..10))]);
    let parts = format!("{}/events/*/*.parquet", folder.path().display());
    let mut script =
        format!("import duckdb\nduckdb.sql(\"CREATE VIEW events AS FROM read_parquet('{parts}')\")\n");
    for column in COLUMNS {
        let (name, value) = (column.name, literal(column.kind));
        script += &format!(
            "duckdb.sql(\"SELECT COUNT(*) FROM (SELECT {name}, COUNT(*) FROM events WHERE {name} >= {value} OR {name} IS NULL GROUP BY {name})\").fetchall()\n"
        );
    }
    script += "print(duckdb.sql(\"SELECT COUNT(*), COUNT(ts), MIN(exhibit), MAX(exhibit), typeof(MIN(ts)) FROM events\").fetchall())";
    let output = python(&script).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim(), "[(210, 208, 'E001', 'E002', 'TIMESTAMP WITH TIME ZONE')]");
}

#[test]
fn strings_that_repeat_are_stored_once_a_row_group() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = write_timeline(folder.path(), &[("E001", rows("E001", 0..20_000))]);
    let size = manifest.exhibits["E001"].parts[0].size;
    // Each locator alone has 32 bytes; message, ids and keys differ in every row.
    assert!(size < 20_000 * 90, "{size} bytes");
}

#[test]
fn facets_and_histograms_count() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..970))]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let facets = Query { facet: vec!["host".into(), "user_name".into()], ..Query::default() };
    let counts = json(timeline.query(&facets).unwrap());
    assert_eq!(counts[0], serde_json::json!({"column": "host", "value": "web01", "count": 970}));
    assert_eq!(counts.len(), 5);
    let users: u64 = counts[1..].iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(users, 970);
    assert!(counts[1]["count"].as_u64() >= counts[2]["count"].as_u64());

    let by_hour = Query { histogram: Some(Bucket::parse("1h").unwrap()), ..Query::default() };
    let buckets = json(timeline.query(&by_hour).unwrap());
    let total: u64 = buckets.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(total, 960);
    let starts: Vec<&str> = buckets.iter().map(|row| row["start"].as_str().unwrap()).collect();
    assert!(starts.is_sorted() && starts.iter().all(|start| start.ends_with(":00:00Z")), "{starts:?}");
    let both = Query { facet: vec!["outcome".into()], ..by_hour };
    let split = json(timeline.query(&both).unwrap());
    assert!(split.len() > buckets.len() && split[0]["outcome"].is_string());
}

#[test]
fn a_histogram_rounds_down_before_1970_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let made = maker("E001").rows([line(0, Some(at(-1, 0)), "before"), line(10, Some(at(0, 0)), "after")]);
    write_timeline(folder.path(), &[("E001", made)]);
    let by_day = Query { histogram: Some(Bucket::parse("1d").unwrap()), ..Query::default() };
    let buckets = json(Timeline::open(folder.path()).unwrap().query(&by_day).unwrap());
    assert_eq!(buckets[0]["start"], "1969-12-31T00:00:00Z");
    assert_eq!(buckets[1]["start"], "1970-01-01T00:00:00Z");
}

#[test]
fn an_event_is_found_by_a_prefix_that_only_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = rows("E001", 0..50);
    // Two ids that differ in their last byte only.
    made[1].event_id = made[0].event_id;
    made[1].event_id[11] ^= 1;
    write_timeline(folder.path(), &[("E001", made.clone())]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let id = made[7].id_hex();
    assert_eq!(timeline.find_event(&id.get(..8).unwrap().to_uppercase()).unwrap(), made[7].to_json());
    let fails = |prefix: &str| match timeline.find_event(prefix) {
        Err(Error::Usage { what }) => what,
        other => panic!("{other:?}"),
    };
    assert!(fails("00000000").contains("no event has the id 00000000"));
    assert!(fails("1234567").contains("8 to 24"));
    assert!(fails("not hex!").contains("8 to 24"));
    let several = fails(made[0].id_hex().get(..20).unwrap());
    assert!(several.contains("several events") && several.contains(&made[1].id_hex()), "{several}");
    assert_eq!(timeline.find_event(&made[0].id_hex()).unwrap(), made[0].to_json());
}

#[test]
fn many_events_are_found_in_the_order_in_which_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let made = rows("E001", 0..50);
    write_timeline(folder.path(), &[("E001", made.clone())]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let mut ids: Vec<String> = [9, 3, 40, 3].map(|row: usize| made[row].id_hex()).into();
    ids[2].truncate(12);
    let expected = [9, 3, 40, 3].map(|row: usize| made[row].to_json());
    assert_eq!(timeline.find_events(&ids).unwrap(), expected);
    ids.push("0".repeat(24));
    let Err(Error::Usage { what }) = timeline.find_events(&ids) else {
        panic!("an id of no event was found")
    };
    assert!(what.contains(ids[4].as_str()), "{what}");
    assert_eq!(timeline.find_events(&[]).unwrap(), []);
}

#[test]
fn a_wrong_query_is_told_apart_and_told_plainly() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..10))]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let said = |sql: &str| match timeline.sql(sql).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Err(Error::Query { reason } | Error::Usage { what: reason }) => reason,
        other => panic!("{sql}: {other:?}"),
    };
    let unknown = said("SELECT usr FROM events");
    assert!(unknown.contains("usr") && unknown.contains("the columns are: event_id, ts"), "{unknown}");
    let unknown = said("SELECT COUNT(*) FROM events WHERE usr = 'x'");
    assert!(unknown.contains("usr") && unknown.contains("user_name"), "{unknown}");
    assert!(said("SELEC 1").contains("begins with SELECT"));
    assert!(said("DROP TABLE events").contains("begins with SELECT"));
    assert_eq!(said("SELECT * FROM other"), "relation 'other' was not found\nthe one table is events");
    assert!(!said("SELECT FROM WHERE").is_empty());
    assert!(!said("SELECT 1; SELECT 2").is_empty());
    for (sql, name) in [
        ("SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
        ("WITH a AS (SELECT * FROM READ_PARQUET('http://127.0.0.1/x')) SELECT * FROM a", "READ_PARQUET"),
        ("SELECT * FROM events WHERE host IN (SELECT host FROM read_json('x'))", "read_json"),
        ("SELECT * FROM '/tmp/x.parquet'", "/tmp/x.parquet"),
    ] {
        let reason = said(sql);
        assert!(reason.contains("nothing else") && reason.contains(name), "{sql}: {reason}");
    }
    let bad = timeline.query(&Query { columns: vec!["usr".into()], ..Query::default() }).unwrap_err();
    assert!(bad.to_string().contains("there is no column \"usr\"\nthe columns are: event_id"), "{bad}");
    let bad = timeline.query(&Query { where_: Some("usr = 1".into()), ..Query::default() }).unwrap_err();
    assert!(matches!(&bad, Error::Query { reason } if reason.contains("usr")), "{bad:?}");
    let bad = timeline.query(&Query { where_: Some("host = ".into()), ..Query::default() });
    assert!(matches!(bad, Err(Error::Query { .. })));
}

#[test]
fn a_query_that_makes_the_engine_fail_does_not_end_the_program() {
    let folder = tempfile::tempdir().unwrap();
    write_timeline(folder.path(), &[("E001", rows("E001", 0..10))]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let failed = timeline.sql("SELECT host, COUNT(*) FROM events GROUP BY 0");
    assert!(matches!(failed, Err(Error::Query { .. })), "{failed:?}");
    assert_eq!(timeline.query(&Query { limit: Some(1), ..Query::default() }).unwrap().count(), 1);
}

#[test]
fn an_empty_timeline_answers_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Timeline::open(folder.path()), Err(Error::NoTimeline { .. })));
    Manifest::default().write(folder.path()).unwrap();
    let timeline = Timeline::open(folder.path()).unwrap();
    assert_eq!(timeline.query(&Query::default()).unwrap().count(), 0);
    assert_eq!(timeline.count(&Query::default()).unwrap(), (0, 0));
    assert_eq!(json(timeline.sql("SELECT COUNT(*) AS n FROM events").unwrap())[0]["n"], 0);
    write_timeline(folder.path(), &[("E001", Vec::new())]);
    let timeline = Timeline::open(folder.path()).unwrap();
    assert_eq!(timeline.query(&Query::default()).unwrap().columns().len(), 6);
    assert_eq!(timeline.ledger("E001").unwrap().files, []);
    assert!(timeline.ledger("E009").unwrap_err().to_string().contains("it has E001"));
}

#[test]
fn the_folder_of_a_case_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join("a b*[c]?{d}='x' %20 é");
    write_timeline(&strange, &[("E001", rows("E001", 0..10))]);
    assert_eq!(Timeline::open(&strange).unwrap().count(&Query::default()).unwrap().0, 10);
}

#[test]
fn times_at_the_ends_of_the_range_break_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let time = |micros| Some(Timestamp { micros, nanos: 999 });
    let made = maker("E001").rows([
        line(0, time(i64::MIN), "first"),
        line(10, time(i64::MAX), "last"),
        line(20, time(0), "between"),
    ]);
    write_timeline(folder.path(), &[("E001", made.clone())]);
    let timeline = Timeline::open(folder.path()).unwrap();
    assert_eq!(messages(timeline.query(&Query::default()).unwrap()), ["first", "between", "last"]);
    assert_eq!(timeline.find_event(&made[1].id_hex()).unwrap(), made[1].to_json());
    let since = Query { since: Some(at(1, 0)), ..Query::default() };
    assert_eq!(messages(timeline.query(&since).unwrap()), ["last"]);
    for (_, format) in Format::ALL {
        let mut query = Query::default();
        format.prepare(&mut query).unwrap();
        format.write(timeline.query(&query).unwrap(), &mut Vec::new()).unwrap();
    }
    let by_day = Query { histogram: Some(Bucket::parse("1d").unwrap()), ..Query::default() };
    assert_eq!(timeline.query(&by_day).unwrap().count(), 3);
}
