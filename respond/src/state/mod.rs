//! What must survive: SQLite in WAL mode with `synchronous=FULL`. One file a table, with its SQL.

pub mod alerts;
pub mod approvals;
pub mod decisions;
pub mod entries;
pub mod jobs;
pub mod leases;
pub mod readiness;
pub mod steps;
pub(crate) mod texts;

mod backup;
mod deliveries;
mod lock;
mod seen_ids;

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

pub use backup::{Backup, backup};
pub use deliveries::{Delivery, DeliveryCounts, DeliveryStatus, NewDelivery, Stored, mark_delivery};
pub use lock::StateLock;

use crate::error::{Error, Result};

/// Every table, in the order in which they are made. Statements only, each of which may be run again.
const TABLES: &[&str] = &[
    deliveries::TABLE,
    seen_ids::TABLE,
    alerts::TABLE,
    decisions::TABLE,
    jobs::TABLE,
    steps::TABLE,
    approvals::TABLE,
    leases::TABLE,
    entries::TABLE,
    readiness::TABLE,
];

/// The state of one service. All writes go through one connection.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    connection: Mutex<Connection>,
    news: (Mutex<u64>, Condvar),
}

impl State {
    /// Opens the data base in a folder, and makes both if they are not there, for their owner only.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the folder cannot be made, [`Error::State`] when SQLite refuses.
    pub fn open(folder: &Path) -> Result<Self> {
        make_folder(folder)?;
        let path = data_base(folder);
        let fault = |source| Error::State { path: path.clone(), source };
        if !path.exists() {
            // Made here, so that the data base is its owner's alone; SQLite gives its other files the same mode.
            match make_empty_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::Read { path, source: error });
                }
                _ => {}
            }
        }
        let connection = Connection::open(&path).map_err(fault)?;
        // FULL: a commit is on the disk before the sender is told so.
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=10000;")
            .map_err(fault)?;
        for table in TABLES {
            connection.execute_batch(table).map_err(fault)?;
        }
        Ok(Self { path, connection: Mutex::new(connection), news: (Mutex::new(0), Condvar::new()) })
    }

    /// The one connection.
    pub fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, or does one statement that is its own transaction.
    ///
    /// # Errors
    ///
    /// [`Error::State`].
    pub fn with<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.connection()).map_err(|source| self.fault(source))
    }

    /// Does all of it or nothing; on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::State`]; nothing is written then.
    pub fn change<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.connection();
        let all = || {
            // At once, so that another process cannot come between what is read here and what is written.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = act(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        all().map_err(|source| self.fault(source))
    }

    /// Says which data base a statement failed in.
    pub fn fault(&self, source: rusqlite::Error) -> Error {
        Error::State { path: self.path.clone(), source }
    }

    /// Writes, and commits, what is there already: whether a delivery could be stored now.
    ///
    /// # Errors
    ///
    /// [`Error::State`].
    pub fn probe(&self) -> Result<()> {
        let connection = self.connection();
        let version: rusqlite::Result<i64> =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        let written =
            version.and_then(|version| connection.execute_batch(&format!("PRAGMA user_version={version}")));
        written.map_err(|source| self.fault(source))
    }

    /// A number that grows whenever deliveries are stored; for [`State::await_news`].
    pub fn news(&self) -> u64 {
        *self.news.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something newer than `known`, or for so long; gives what there is then.
    pub fn await_news(&self, known: u64, patience: Duration) -> u64 {
        let news = self.news.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.news.1.wait_timeout_while(news, patience, |news| *news == known);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes whoever waits: there is something to be decided, or a reason to look again.
    pub fn tell_news(&self) {
        let mut news = self.news.0.lock().unwrap_or_else(PoisonError::into_inner);
        *news = news.wrapping_add(1);
        self.news.1.notify_all();
    }
}

fn data_base(folder: &Path) -> PathBuf {
    folder.join("state.sqlite")
}

/// Makes a folder of state, for its owner only.
fn make_folder(folder: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::Read { path: folder.to_owned(), source })
}

/// Makes an empty file, for its owner only, where there is none.
fn make_empty_file(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}
