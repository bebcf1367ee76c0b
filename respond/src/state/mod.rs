//! What must survive: SQLite in WAL mode with `synchronous=FULL`. One file a table, with its SQL.

pub mod readiness;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Every table, in the order in which they are made. Statements only, each of which may be run again.
const TABLES: &[&str] = &[readiness::TABLE];

/// The state of one service. All writes go through one connection.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl State {
    /// Opens the data base in a folder, and makes both if they are not there.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the folder cannot be made, [`Error::State`] when SQLite refuses.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| Error::Read { path: folder.to_owned(), source })?;
        let path = folder.join("state.sqlite");
        let fault = |source| Error::State { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(fault)?;
        // FULL: a commit is on the disk before the sender is told so.
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=10000;")
            .map_err(fault)?;
        for table in TABLES {
            connection.execute_batch(table).map_err(fault)?;
        }
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    /// The one connection.
    pub fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which data base a statement failed in.
    pub fn fault(&self, source: rusqlite::Error) -> Error {
        Error::State { path: self.path.clone(), source }
    }
}
