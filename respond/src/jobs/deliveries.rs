//! Deliveries as the door stores them, for the loop that decides.

use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension};

use super::decider::{Intake, Undecided};
use crate::alert::{self, Alert, Unparsed, strict_json};
use crate::authenticate::Source;
use crate::error::Result;
use crate::state::{DeliveryStatus, State, mark_delivery};

/// What stands before the kind in the source of a delivery that a person made by hand. No name of a source has a `/`.
pub const BY_HAND: &str = "by-hand/";

/// The kind of such a delivery that is an alert in the form that rules see.
pub const OUR_FORM: &str = "alert";

/// What the door stored, read by the sources of the settings.
#[derive(Debug)]
pub struct Deliveries {
    state: Arc<State>,
    sources: RwLock<Vec<Arc<Source>>>,
}

impl Deliveries {
    /// Reads by these sources.
    #[must_use]
    pub fn new(state: Arc<State>, sources: Vec<Arc<Source>>) -> Self {
        Self { state, sources: RwLock::new(sources) }
    }

    /// Reads by these from now on.
    pub fn put_in(&self, sources: Vec<Arc<Source>>) {
        *self.sources.write().unwrap_or_else(PoisonError::into_inner) = sources;
    }
}

impl Intake for Deliveries {
    fn next(&self, most: usize) -> Result<Vec<Undecided>> {
        let waiting = self.state.next_undecided(most)?;
        let undecided = waiting.into_iter().map(|one| Undecided {
            delivery: one.id,
            source: one.source,
            body: one.body,
            received_at: one.received_ns,
        });
        Ok(undecided.collect())
    }

    fn read(&self, delivery: &Undecided) -> std::result::Result<Vec<Alert>, Unparsed> {
        match delivery.source.strip_prefix(BY_HAND) {
            Some(OUR_FORM) => return in_our_form(&delivery.body).map(|alert| vec![alert]),
            Some(kind) => return alert::read(kind, None, &delivery.body),
            None => {}
        }
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let source = sources.iter().find(|source| source.name == delivery.source);
        let gone = || Unparsed(format!("the settings have no source {:?} any more", delivery.source));
        source.ok_or_else(gone)?.read(&delivery.body)
    }

    fn mark(
        &self,
        connection: &Connection,
        delivery: i64,
        unparsed: Option<&Unparsed>,
    ) -> rusqlite::Result<()> {
        match unparsed {
            None => mark_delivery(connection, delivery, DeliveryStatus::Decided, ""),
            Some(why) => mark_delivery(connection, delivery, DeliveryStatus::Unparsed, &why.0),
        }
    }

    fn body(&self, connection: &Connection, delivery: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        connection
            .query_row("SELECT body FROM deliveries WHERE id = ?1", [delivery], |row| row.get(0))
            .optional()
    }
}

fn in_our_form(body: &[u8]) -> std::result::Result<Alert, Unparsed> {
    serde_json::from_value(strict_json::read(body)?).map_err(|error| Unparsed(error.to_string()))
}
