use super::*;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis};
use crate::query::Timeline;
use crate::query::tests::{at, interleaved, line};
use crate::store::made_rows::{maker, write_timeline};
use crate::store::{Row, RowMaker};

fn written(format: Format, timeline: &Timeline, mut query: Query) -> (String, Written) {
    format.prepare(&mut query).unwrap();
    let mut out = Vec::new();
    let written = format.write(timeline.query(&query).unwrap(), &mut out).unwrap();
    (String::from_utf8(out).unwrap(), written)
}

#[test]
fn csv_quotes_what_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let made =
        maker("E001").rows([line(0, Some(at(1, 0)), "a,b \"c\"\nd"), line(10, Some(at(2, 500)), "=1+1")]);
    write_timeline(folder.path(), &[("E001", made)]);
    let timeline = Timeline::open(folder.path()).unwrap();
    let query = Query { columns: vec!["ts".into(), "message".into(), "pid".into()], ..Query::default() };
    let (text, counts) = written(Format::Csv, &timeline, query);
    assert_eq!(
        text,
        "ts,message,pid\n1970-01-01T00:00:01Z,\"a,b \"\"c\"\"\nd\",\n1970-01-01T00:00:02.000000500Z,=1+1,\n"
    );
    assert_eq!(counts, Written { rows: 2, left_out: 0 });
}

#[test]
fn jsonl_keeps_types() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let columns = ["ts", "message", "byte_offset", "pid"].map(str::to_owned).to_vec();
    let (text, _) = written(Format::Jsonl, &timeline, Query { columns, limit: Some(1), ..Query::default() });
    assert_eq!(
        text,
        "{\"ts\":\"1970-01-01T00:01:40.000000005Z\",\"message\":\"one\",\"byte_offset\":0,\"pid\":null}\n"
    );
}

#[test]
fn an_answer_in_parquet_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let mut query = Query { dedup: true, undated: Undated::Last, ..Query::default() };
    Format::Parquet.prepare(&mut query).unwrap();
    let mut out = Vec::new();
    let counts = Format::Parquet.write(timeline.query(&query).unwrap(), &mut out).unwrap();
    assert_eq!(counts.rows, 5);
    use polars::prelude::{ParquetReader, SerReader};
    let read = ParquetReader::new(std::io::Cursor::new(out)).finish().unwrap();
    assert_eq!(read.height(), 5);
    let names: Vec<&str> = read.get_column_names().into_iter().map(|n| n.as_str()).collect();
    assert_eq!(names, ["ts", "ts_ns", "host", "source", "user_name", "message", "event_id", "copies"]);
    assert_eq!(read.column("ts_ns").unwrap().i16().unwrap().get(1), Some(6));
    assert_eq!(read.column("message").unwrap().str().unwrap().get(4), Some("no time"));
}

#[test]
fn timesketch_gets_its_four_fields_and_ours() {
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    let query = Query { undated: Undated::Last, ..Query::default() };
    let (text, counts) = written(Format::Timesketch, &timeline, query);
    assert_eq!(counts, Written { rows: 5, left_out: 1 });
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["message"], "one");
    assert_eq!(first["datetime"], "1970-01-01T00:01:40.000000005Z");
    assert_eq!(first["timestamp"], 100_000_000);
    assert_eq!(first["timestamp_desc"], "Recorded Time");
    assert_eq!(first["data_type"], "linux:syslog");
    assert_eq!(first["exhibit"], "E001");
    assert_eq!(first.get("pid"), None);
}

#[test]
fn l2tcsv_has_seventeen_columns_a_line_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut born = Event::new("fs:stat", "Creation Time", Span::new(0, 256), "a\nfile, \"quoted\"");
    born.path = Some("/etc/passwd".into());
    born.inode = Some(12);
    let made = maker("E001").rows([born.at(at(951_782_400, 5), Precision::Ns, TzBasis::UtcByFormat)]);
    write_timeline(folder.path(), &[("E001", made)]);
    let (text, counts) = written(Format::L2tcsv, &Timeline::open(folder.path()).unwrap(), Query::default());
    assert_eq!(counts.rows, 1);
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap().split(',').count(), 17);
    let line = lines.next().unwrap();
    let start = "02/29/2000,00:00:00,UTC,...B,FILE,fs:stat,Creation Time,-,web01,\"a file, \"\"quoted\"\"\",";
    assert!(line.starts_with(start), "{line}");
    assert!(
        line.contains(",2,/etc/passwd,12,-,syslog@1,ts: 2000-02-29T00:00:00.000000005Z; event_id: "),
        "{line}"
    );
    assert_eq!(lines.next(), None);
}

#[test]
fn a_body_file_has_a_line_a_file_with_its_four_times() {
    let folder = tempfile::tempdir().unwrap();
    let stat = |inode: i64, path: &str, desc: &'static str, time: Option<Timestamp>| {
        let mut event = Event::new("fs:stat", desc, Span::new(inode as u64 * 256, 256), path);
        event.path = Some(path.into());
        event.inode = Some(inode);
        event.size = Some(9);
        event.attrs.put("mode", 0o100_644);
        event.attrs.put("uid", 1000);
        event.attrs.put("gid", 1000);
        match time {
            Some(time) => event.at(time, Precision::Ns, TzBasis::UtcByFormat),
            None => event,
        }
    };
    let mut maker = RowMaker::new("b", "E001", "disk/p1/ext4:", "file_times@1", None);
    let made: Vec<Row> = maker.rows([
        stat(12, "/a|b", "Last Access Time", Some(at(100, 0))),
        stat(12, "/a|b", "Content Modification Time", Some(at(200, 123_456_789))),
        stat(12, "/a|b", "Metadata Modification Time", Some(at(300, 0))),
        stat(12, "/a|b", "Creation Time", Some(at(50, 500_000_000))),
        stat(13, "/new\nline", "Last Access Time", None),
        line(9000, Some(at(1, 0)), "not a file"),
    ]);
    write_timeline(folder.path(), &[("E001", made)]);
    let (text, counts) = written(Format::Bodyfile, &Timeline::open(folder.path()).unwrap(), Query::default());
    assert_eq!(counts, Written { rows: 2, left_out: 0 });
    assert_eq!(
        text,
        "0|/a\\|b|12|r/rrw-r--r--|1000|1000|9|100|200.123456789|300|50.5\n\
         0|/new\\x0aline|13|r/rrw-r--r--|1000|1000|9|0|0|0|0\n"
    );
}

#[test]
fn a_format_of_events_refuses_counts() {
    for format in [Format::Timesketch, Format::L2tcsv, Format::Bodyfile] {
        let mut query = Query { facet: vec!["host".into()], ..Query::default() };
        assert!(matches!(format.prepare(&mut query), Err(Error::Usage { .. })));
    }
    assert_eq!(Format::from_name("l2tcsv"), Some(Format::L2tcsv));
    assert_eq!(Format::from_name("xlsx"), None);
}

#[test]
fn a_closed_pipe_is_known_as_one() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let timeline = interleaved(folder.path());
    for format in [Format::Csv, Format::Jsonl, Format::L2tcsv, Format::Timesketch] {
        let mut query = Query::default();
        format.prepare(&mut query).unwrap();
        match format.write(timeline.query(&query).unwrap(), &mut Closed) {
            Err(Error::File { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
    }
}
