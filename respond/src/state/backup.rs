//! A copy of the state while it is in use.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, Result};

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Bytes of the copy.
    pub bytes: u64,
    /// Deliveries in it.
    pub deliveries: i64,
}

/// Copies the data base in a folder of state to a new file, as it is at one moment, while a service may be writing to it.
///
/// The copy is checked and lies on the disk before it gets its name; what is there is not overwritten.
///
/// # Errors
///
/// [`Error::Read`] when the file is there or cannot be written, [`Error::State`] when SQLite fails or the copy is damaged.
pub fn backup(folder: &Path, to: &Path) -> Result<Backup> {
    let path = super::data_base(folder);
    let fault = |source| Error::State { path: path.clone(), source };
    let write = |source| Error::Read { path: to.to_owned(), source };
    if to.exists() {
        return Err(write(std::io::ErrorKind::AlreadyExists.into()));
    }
    // Read-write because a reader of a WAL data base must be able to take part in it; nothing is changed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(fault)?;
    connection.busy_timeout(std::time::Duration::from_secs(30)).map_err(fault)?;
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    super::make_empty_file(part).map_err(write)?;
    let made = (|| {
        connection.execute("VACUUM INTO ?1", [part.to_string_lossy()]).map_err(fault)?;
        let copy = Connection::open_with_flags(part, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fault)?;
        let verdict: String =
            copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(fault)?;
        if verdict != "ok" {
            return Err(Error::Settings {
                path: part.to_owned(),
                what: format!("the copy is damaged: {verdict}"),
            });
        }
        let deliveries =
            copy.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0)).map_err(fault)?;
        drop(copy);
        let file = File::open(part).map_err(write)?;
        file.sync_all().map_err(write)?;
        let bytes = file.metadata().map_err(write)?.len();
        std::fs::hard_link(part, to).map_err(write)?;
        Ok(Backup { bytes, deliveries })
    })();
    let _ = std::fs::remove_file(part);
    let backup = made?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(write)?;
    Ok(backup)
}

#[cfg(test)]
mod tests {
    use super::super::{DeliveryStatus, NewDelivery, State};
    use super::*;

    #[test]
    fn a_copy_holds_what_was_stored_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state")).unwrap();
        let one = NewDelivery {
            source: "falco".into(),
            received_ns: 1,
            body: b"{}".to_vec(),
            headers: vec![],
            sender: String::new(),
            seen_as: None,
            status: DeliveryStatus::New,
            severity: 1,
            why: String::new(),
        };
        state.store_delivery(one.clone()).unwrap();
        let to = folder.path().join("copy").with_extension("sqlite");
        assert_eq!(backup(&folder.path().join("state"), &to).unwrap().deliveries, 1);
        state.store_delivery(one).unwrap();
        assert!(matches!(backup(&folder.path().join("state"), &to), Err(Error::Read { .. })));
        // The copy is a state that can be used.
        let restored = folder.path().join("restored");
        std::fs::create_dir(&restored).unwrap();
        std::fs::copy(&to, restored.join("state.sqlite")).unwrap();
        assert_eq!(State::open(&restored).unwrap().next_undecided(10).unwrap().len(), 1);
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}
