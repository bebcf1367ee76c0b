//! The management events that CloudTrail keeps of the last 90 days where there is no trail, as LookupEvents gives them.

use custody::strict_json::escape_text;
use serde_json::{Map, Value, json};

use super::window::{DAY, Window, text};
use crate::aws::cloudtrail::{CloudTrail, EventQuery};
use crate::aws::{Connection, Failure};
use crate::error::{Error, Result};
use crate::source::Issue;
use crate::tar_packer::TarPacker;

/// Days that events are kept.
const KEPT: i64 = 90;

/// Where events of services without a region are.
const GLOBAL: &str = "us-east-1";

/// The regions that are asked, and the time.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    connections: Vec<Connection>,
    query: EventQuery,
}

/// What one region gave.
#[derive(Debug, Default)]
struct Found {
    pages: u64,
    events: u64,
    /// First and last second of the events.
    span: Option<(i64, i64)>,
}

/// Ends a lookup after its first page.
struct Enough(Option<Failure>);

impl From<Failure> for Enough {
    fn from(failure: Failure) -> Self {
        Self(Some(failure))
    }
}

impl Lookup {
    /// For a time, in the connection's region and in the one of the services that have none.
    pub(super) fn new(connection: &Connection, window: Window) -> Self {
        let region = connection.region();
        let has_global =
            !region.starts_with("cn-") && !region.starts_with("us-gov-") && !connection.has_own_endpoint();
        let mut connections = vec![connection.clone()];
        if has_global && region != GLOBAL {
            connections.push(connection.in_region(GLOBAL));
        }
        let query = EventQuery { since: window.since, until: window.until, attribute: None };
        Self { connections, query }
    }

    /// The regions that are asked.
    pub(super) fn regions(&self) -> Vec<String> {
        self.connections.iter().map(|connection| escape_text(connection.region().as_bytes())).collect()
    }

    /// Asks for one page.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], with the permission that is missing.
    pub(super) fn check(&self) -> Result<()> {
        for connection in &self.connections {
            let client = CloudTrail::new(connection)?;
            if let Err(Enough(Some(failure))) = client.lookup_events(&self.query, |_, _| Err(Enough(None))) {
                return Err(failure.into());
            }
        }
        Ok(())
    }

    /// Packs every page as it came. A region that fails midway is an issue, and what it gave is kept.
    ///
    /// # Errors
    ///
    /// What stops the bundle from being written.
    pub(super) fn pack(&self, packer: &mut TarPacker<'_>, now: i64) -> Result<Value> {
        let mut facts = Map::new();
        for connection in &self.connections {
            let region = escape_text(connection.region().as_bytes());
            let folder = format!("_cloud-logs/lookup-events/{region}");
            let mut found = Found::default();
            let client = CloudTrail::new(connection)?;
            let ended = client.lookup_events(&self.query, |events, answer| {
                packer.made(&format!("{folder}/{:06}.json", found.pages), &answer.bytes)?;
                found.pages += 1;
                found.events = found.events.saturating_add(events.len() as u64);
                for second in events.iter().filter_map(|event| event.time).map(|time| time.floor() as i64) {
                    let (first, last) = found.span.unwrap_or((second, second));
                    found.span = Some((first.min(second), last.max(second)));
                }
                Ok::<(), Error>(())
            });
            match ended {
                Ok(()) => {}
                Err(Error::Cloud(failure)) => {
                    let what = format!(
                        "events of {region}: the lookup ended before its end, so older ones are missing: {failure}"
                    );
                    packer.issues().add(Issue {
                        path: format!("/{folder}"),
                        offset: None,
                        length: None,
                        what: escape_text(what.as_bytes()),
                    });
                }
                Err(error) => return Err(error),
            }
            let mut row = json!({"events": found.events, "pages": found.pages});
            if let (Some(row), Some((first, last))) = (row.as_object_mut(), found.span) {
                row.insert("first".to_owned(), text(first).into());
                row.insert("last".to_owned(), text(last).into());
            }
            facts.insert(region, row);
        }
        let kept = now.saturating_sub(KEPT * DAY);
        if self.query.since.is_some_and(|since| since < kept) {
            let what = format!("LookupEvents keeps 90 days: events before {} cannot be had so", text(kept));
            packer.issues().add(Issue {
                path: "/_cloud-logs/lookup-events".to_owned(),
                offset: None,
                length: None,
                what,
            });
        }
        Ok(Value::Object(facts))
    }
}
