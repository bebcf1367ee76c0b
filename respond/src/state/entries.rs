//! Entries that a case's log is to get: kept here in the transaction that they tell of, and written into the log as soon as
//! there is a case.

use custody::{About, EntryType, NewEntry};
use rusqlite::{Connection, params};

use super::texts::{from_json, to_json};

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES jobs (id),
    kind TEXT NOT NULL,
    about TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'to_write'
) STRICT;
CREATE INDEX IF NOT EXISTS entries_to_write ON entries (job) WHERE state = 'to_write';";

/// Keeps an entry that the log of a job's case is to get.
pub(crate) fn add(connection: &Connection, job: i64, entry: &NewEntry) -> rusqlite::Result<()> {
    connection.prepare("INSERT INTO entries (job, kind, about) VALUES (?1, ?2, ?3)")?.execute(params![
        job,
        entry.kind.as_str(),
        to_json(&entry.about)?
    ])?;
    Ok(())
}

/// The entries that are still to be written, oldest first.
pub(crate) fn to_write(connection: &Connection, job: i64) -> rusqlite::Result<Vec<(i64, NewEntry)>> {
    let mut statement = connection
        .prepare("SELECT id, kind, about FROM entries WHERE job = ?1 AND state = 'to_write' ORDER BY id")?;
    let found = statement.query_map([job], |row| {
        let kind: EntryType = from_json(1, &to_json(&row.get::<_, String>(1)?)?)?;
        let about: About = from_json(2, &row.get::<_, String>(2)?)?;
        Ok((row.get(0)?, NewEntry { kind, about }))
    })?;
    found.collect()
}

/// Jobs that nobody works on, with a case that lacks an entry, in order.
pub(crate) fn jobs_behind(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare(
        "SELECT DISTINCT entries.job FROM entries JOIN jobs ON jobs.id = entries.job
         WHERE entries.state = 'to_write' AND jobs.case_folder IS NOT NULL AND jobs.state <> 'running'
         ORDER BY entries.job",
    )?;
    let found = statement.query_map([], |row| row.get(0))?;
    found.collect()
}

/// Says that the log has it, or why it never will.
pub(crate) fn written(connection: &Connection, id: i64, refused: Option<&str>) -> rusqlite::Result<()> {
    let state = refused.map_or_else(|| "written".to_owned(), |why| format!("refused: {why}"));
    connection.prepare("UPDATE entries SET state = ?2 WHERE id = ?1")?.execute(params![id, state])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use custody::sha256;

    use super::*;

    #[test]
    fn an_entry_comes_back_as_it_was_given() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(TABLE).unwrap();
        let entry = NewEntry::new(EntryType::ALERT_RECEIVED)
            .subject("alert", 3, sha256(b"abc"))
            .how("title", "a\nb\\")
            .result("count", 3)
            .why("by order", "to find out");
        add(&connection, 7, &entry).unwrap();
        assert_eq!(to_write(&connection, 7).unwrap(), [(1, entry)]);
        written(&connection, 1, None).unwrap();
        assert_eq!(to_write(&connection, 7).unwrap(), []);
    }
}
