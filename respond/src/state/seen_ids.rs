//! What was let in once, so that the same request again is a repetition and no new alert. Only digests are kept.

use super::State;
use crate::error::Result;

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS seen_ids (
    source TEXT NOT NULL,
    id BLOB NOT NULL,
    seen_ns INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_ids_by_time ON seen_ids (seen_ns);";

/// Ids are kept for a week: longer than any sender tries again (24 hours for EventBridge, 72 for Standard Webhooks), and
/// than any window of signed times.
const KEPT_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// The delivery that an id of a source came with.
pub(super) const FIND: &str = "SELECT delivery FROM seen_ids WHERE source = ?1 AND id = ?2";

/// Remembers source, id, time and delivery.
pub(super) const REMEMBER: &str =
    "INSERT INTO seen_ids (source, id, seen_ns, delivery) VALUES (?1, ?2, ?3, ?4)";

impl State {
    /// Forgets ids that no sender will use again; gives how many.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    pub fn forget_old_ids(&self, now_ns: i64) -> Result<usize> {
        let before = now_ns.saturating_sub(KEPT_NS);
        let forgotten = self.connection().execute("DELETE FROM seen_ids WHERE seen_ns < ?1", [before]);
        forgotten.map_err(|source| self.fault(source))
    }
}
