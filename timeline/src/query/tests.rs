use super::*;
use crate::store::made_rows::{rows, write_timeline};

#[test]
fn events_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let made = rows("E001", 0..1000);
    write_timeline(folder.path(), &[("E001", made.clone())]);
    let timeline = Timeline::open(folder.path()).unwrap();
    for row in made.iter().step_by(37) {
        let found = timeline.find_event(&row.id_hex()).unwrap();
        assert_eq!(found, row.to_json());
    }
    let shown = timeline.query(&Query { limit: Some(3), ..Query::default() }).unwrap();
    for row in shown {
        eprintln!("{:?}", row.unwrap());
    }
    for row in timeline.sql("SELECT source, COUNT(*) AS n FROM events GROUP BY source").unwrap() {
        eprintln!("{:?}", row.unwrap());
    }
}
