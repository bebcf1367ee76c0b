//! What came in, as it came: committed before the sender is told so.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement, TransactionBehavior, params};

use super::{State, seen_ids};
use crate::error::Result;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    received_ns INTEGER NOT NULL,
    body BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    headers TEXT NOT NULL,
    sender TEXT NOT NULL,
    status TEXT NOT NULL,
    severity INTEGER NOT NULL,
    urgency INTEGER NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (urgency DESC, id) WHERE status = 'new';
CREATE INDEX IF NOT EXISTS deliveries_by_status ON deliveries (status, received_ns);";

/// Seconds of waiting that weigh as much as one point of severity: a delivery of severity 10 overtakes a new one of 90
/// once it has waited 80 minutes, so that nothing waits for ever.
const SECONDS_A_POINT: i64 = 60;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// Not decided yet.
    New,
    /// Decided.
    Decided,
    /// From a known sender, and no alert that its source is known to send. A person must look.
    Unparsed,
    /// A message of the transport to us, such as a confirmation of a subscription. Kept as a record.
    Control,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::New, Self::Decided, Self::Unparsed, Self::Control];

    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Decided => "decided",
            Self::Unparsed => "unparsed",
            Self::Control => "control",
        }
    }

    fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|status| status.word() == word).unwrap_or(Self::Unparsed)
    }
}

/// What is stored of a request.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// The source's name.
    pub source: String,
    /// When it came, nanoseconds since 1970.
    pub received_ns: i64,
    /// The body, unpacked.
    pub body: Vec<u8>,
    /// Headers as pairs, those that hold secrets left out.
    pub headers: Vec<(String, String)>,
    /// Who sent it, and how that is known.
    pub sender: String,
    /// What of a repetition is the same.
    pub seen_as: Option<[u8; 32]>,
    /// [`DeliveryStatus::New`], or why not.
    pub status: DeliveryStatus,
    /// 0 to 100: the highest of its alerts.
    pub severity: u8,
    /// Why it could not be read, where it could not.
    pub why: String,
}

/// What became of storing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is on the disk under this number.
    New(i64),
    /// The same request was stored before, under this number.
    Again(i64),
}

/// A delivery as it was stored.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// The source's name.
    pub source: String,
    /// When it came.
    pub received_ns: i64,
    /// The body.
    pub body: Vec<u8>,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
    /// Headers as pairs.
    pub headers: Vec<(String, String)>,
    /// Who sent it.
    pub sender: String,
    /// What became of it.
    pub status: DeliveryStatus,
    /// 0 to 100.
    pub severity: u8,
    /// Why it has this status.
    pub why: String,
}

const COLUMNS: &str = "id, source, received_ns, body, sha256, headers, sender, status, severity, why";

impl State {
    /// Stores many in one transaction: all of them are on the disk when this returns, or none.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`] when the commit failed.
    pub fn store_deliveries(&self, all: &[NewDelivery]) -> Result<Vec<Stored>> {
        let mut connection = self.connection();
        let mut store = || {
            // Immediate, so that another process that writes is waited for and not failed by.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut statements = Statements::prepare(&transaction)?;
            let stored = all.iter().map(|one| statements.store(one)).collect::<rusqlite::Result<Vec<_>>>()?;
            drop(statements);
            transaction.commit()?;
            Ok(stored)
        };
        let stored = store();
        drop(connection);
        let stored = stored.map_err(|source| self.fault(source))?;
        self.tell_news();
        Ok(stored)
    }

    /// Stores one.
    ///
    /// # Errors
    ///
    /// As [`State::store_deliveries`].
    pub fn store_delivery(&self, one: NewDelivery) -> Result<Stored> {
        let stored = self.store_deliveries(&[one])?;
        Ok(stored.into_iter().next().unwrap_or(Stored::Again(0)))
    }

    /// Those that are not decided: the highest severity first, then the oldest, and what waits long rises.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn next_undecided(&self, limit: usize) -> Result<Vec<Delivery>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries WHERE status = 'new' ORDER BY urgency DESC, id LIMIT ?1"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let connection = self.connection();
        let read = || {
            let mut statement = connection.prepare(&sql)?;
            let rows = statement.query_map([limit], read_row)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|source| self.fault(source))
    }

    /// One delivery.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn delivery(&self, id: i64) -> Result<Option<Delivery>> {
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = ?1");
        let found = self.connection().query_row(&sql, [id], read_row).optional();
        found.map_err(|source| self.fault(source))
    }

    /// How many have each status, and when the oldest that waits came.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn count_deliveries(&self) -> Result<DeliveryCounts> {
        let connection = self.connection();
        let count = || {
            let mut counts = DeliveryCounts::default();
            let mut statement = connection
                .prepare("SELECT status, count(*), min(received_ns) FROM deliveries GROUP BY status")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let status = DeliveryStatus::of(&row.get::<_, String>(0)?);
                if status == DeliveryStatus::New {
                    counts.oldest_new_ns = Some(row.get(2)?);
                }
                counts.by_status.push((status, row.get(1)?));
            }
            Ok(counts)
        };
        count().map_err(|source| self.fault(source))
    }
}

/// Says what became of a delivery, within the transaction that holds what was made of it.
///
/// # Errors
///
/// What SQLite says.
pub fn mark_delivery(
    connection: &Connection,
    id: i64,
    status: DeliveryStatus,
    why: &str,
) -> rusqlite::Result<()> {
    let sql = "UPDATE deliveries SET status = ?2, why = ?3 WHERE id = ?1";
    connection.execute(sql, params![id, status.word(), why]).map(drop)
}

/// See [`State::count_deliveries`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// How many of each status there are.
    pub by_status: Vec<(DeliveryStatus, i64)>,
    /// When the oldest undecided one came.
    pub oldest_new_ns: Option<i64>,
}

/// What is run for each delivery of a transaction.
struct Statements<'c> {
    connection: &'c Connection,
    find: Statement<'c>,
    insert: Statement<'c>,
    remember: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        let insert = "INSERT INTO deliveries (source, received_ns, body, sha256, headers, sender, status, severity, urgency, why)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        Ok(Self {
            connection,
            find: connection.prepare(seen_ids::FIND)?,
            insert: connection.prepare(insert)?,
            remember: connection.prepare(seen_ids::REMEMBER)?,
        })
    }

    fn store(&mut self, one: &NewDelivery) -> rusqlite::Result<Stored> {
        if let Some(id) = &one.seen_as
            && let Some(before) = self.find.query_row(params![one.source, id], |row| row.get(0)).optional()?
        {
            return Ok(Stored::Again(before));
        }
        let headers = serde_json::to_string(&one.headers).unwrap_or_default();
        let urgency = i64::from(one.severity) * SECONDS_A_POINT - one.received_ns / 1_000_000_000;
        self.insert.execute(params![
            one.source,
            one.received_ns,
            one.body,
            custody::sha256(&one.body).as_bytes(),
            headers,
            one.sender,
            one.status.word(),
            one.severity,
            urgency,
            one.why,
        ])?;
        let delivery = self.connection.last_insert_rowid();
        if let Some(id) = &one.seen_as {
            self.remember.execute(params![one.source, id, one.received_ns, delivery])?;
        }
        Ok(Stored::New(delivery))
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: row.get(0)?,
        source: row.get(1)?,
        received_ns: row.get(2)?,
        body: row.get(3)?,
        sha256: row.get(4)?,
        headers: serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default(),
        sender: row.get(6)?,
        status: DeliveryStatus::of(&row.get::<_, String>(7)?),
        severity: row.get(8)?,
        why: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn delivery(body: &str, severity: u8, received_s: i64) -> NewDelivery {
        NewDelivery {
            source: "guardduty".into(),
            received_ns: received_s * SECOND,
            body: body.into(),
            headers: vec![("user-agent".into(), "a\nb".into())],
            sender: "bearer secret 1".into(),
            seen_as: None,
            status: DeliveryStatus::New,
            severity,
            why: String::new(),
        }
    }

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        (folder, state)
    }

    #[test]
    fn the_most_severe_comes_first_and_who_waits_long_rises() {
        let (_folder, state) = state();
        let base = 1_800_000_000;
        state.store_delivery(delivery("low", 10, base)).unwrap();
        state.store_delivery(delivery("high", 90, base + 60)).unwrap();
        state.store_delivery(delivery("also high", 90, base + 60)).unwrap();
        state.store_delivery(delivery("much later", 90, base + 81 * 60)).unwrap();
        let order: Vec<_> = state
            .next_undecided(10)
            .unwrap()
            .into_iter()
            .map(|one| String::from_utf8(one.body).unwrap())
            .collect();
        assert_eq!(order, ["high", "also high", "low", "much later"]);
        assert_eq!(state.next_undecided(1).unwrap().len(), 1);
    }

    #[test]
    fn what_was_stored_is_what_came() {
        let (folder, state) = state();
        let Stored::New(id) = state.store_delivery(delivery("{}", 50, 1)).unwrap() else { panic!() };
        drop(state);
        let state = State::open(folder.path()).unwrap();
        let one = state.delivery(id).unwrap().unwrap();
        assert_eq!((one.body.as_slice(), one.severity, one.status), (&b"{}"[..], 50, DeliveryStatus::New));
        assert_eq!(&one.sha256, custody::sha256(b"{}").as_bytes());
        assert_eq!(one.headers, [("user-agent".to_owned(), "a\nb".to_owned())]);
        mark_delivery(&state.connection(), id, DeliveryStatus::Decided, "no rule").unwrap();
        assert!(state.next_undecided(10).unwrap().is_empty());
        let counts = state.count_deliveries().unwrap();
        assert_eq!((counts.by_status, counts.oldest_new_ns), (vec![(DeliveryStatus::Decided, 1)], None));
        assert_eq!(state.delivery(99).unwrap().map(|one| one.id), None);
    }

    #[test]
    fn the_same_request_again_is_not_stored_again_for_a_week() {
        let (_folder, state) = state();
        let one = NewDelivery { seen_as: Some([7; 32]), ..delivery("{}", 50, 1) };
        assert_eq!(state.store_delivery(one.clone()).unwrap(), Stored::New(1));
        let both = state.store_deliveries(&[one.clone(), delivery("{}", 50, 1)]).unwrap();
        assert_eq!(both, [Stored::Again(1), Stored::New(2)]);
        // Another source's ids are its own.
        let other = NewDelivery { source: "falco".into(), ..one.clone() };
        assert_eq!(state.store_delivery(other).unwrap(), Stored::New(3));
        assert_eq!(state.forget_old_ids(72 * 3600 * SECOND).unwrap(), 0);
        assert_eq!(state.store_delivery(one.clone()).unwrap(), Stored::Again(1));
        assert_eq!(state.forget_old_ids((7 * 24 * 3600 + 2) * SECOND).unwrap(), 2);
        assert_eq!(state.store_delivery(one).unwrap(), Stored::New(4));
    }

    #[test]
    fn whoever_waits_for_news_is_woken() {
        let (_folder, state) = state();
        let before = state.news();
        assert_eq!(state.await_news(before, std::time::Duration::from_millis(1)), before);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| state.await_news(before, std::time::Duration::from_secs(60)));
            state.store_delivery(delivery("{}", 1, 1)).unwrap();
            assert!(waiting.join().unwrap() > before);
        });
    }
}
