//! How long a response took, out of the custody log of its case and nothing else.

use custody::clock::parse_rfc3339;
use custody::{Entry, EntryType};

/// One moment of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestone {
    /// What was then.
    pub what: &'static str,
    /// Nanoseconds since 1970.
    pub at: i64,
    /// The entry that says so.
    pub entry: u64,
}

/// The moments of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Milestones {
    /// In order of time.
    pub rows: Vec<Milestone>,
}

/// The moments that a case's log tells of: the first alert, when it came in, was decided about, allowed; when the first and the
/// last exhibit was begun and sealed; when the asset was isolated and freed, and when a timeline and a report were there.
///
/// Empty when the case did not begin with an alert.
#[must_use]
pub fn milestones(entries: &[Entry]) -> Milestones {
    let first = |kind: &EntryType| entries.iter().find(|entry| entry.kind == *kind);
    let last = |kind: &EntryType| entries.iter().rfind(|entry| entry.kind == *kind);
    let Some(alert) = first(&EntryType::ALERT_RECEIVED) else { return Milestones::default() };
    let mut rows = Vec::new();
    let mut add = |what: &'static str, at: Option<&str>, entry: &Entry| {
        if let Some(at) = at.and_then(|text| parse_rfc3339(text).ok()) {
            rows.push(Milestone { what, at, entry: entry.seq });
        }
    };
    let seen = alert.how_text("last_seen").or(alert.how_text("first_seen"));
    add("alert", seen, alert);
    add("received", alert.how_text("received_at"), alert);
    if let Some(decision) = first(&EntryType::DECISION_MADE) {
        add("queued", decision.how_text("decided_at"), decision);
    }
    let is_evidence = |entry: &&Entry| !entry.how_text("name").is_some_and(|name| name.starts_with("alert"));
    let begun: Vec<&Entry> =
        entries.iter().filter(|entry| entry.kind == EntryType::EXHIBIT_ADDED).filter(is_evidence).collect();
    let ids: Vec<_> = begun.iter().filter_map(|entry| entry.about.exhibit.as_deref()).collect();
    let of_evidence = |entry: &&Entry| entry.about.exhibit.as_deref().is_some_and(|id| ids.contains(&id));
    let sealed: Vec<&Entry> =
        entries.iter().filter(|entry| entry.kind == EntryType::BUNDLE_SEALED).filter(of_evidence).collect();
    for (what, entry) in [
        ("allowed", first(&EntryType::APPROVAL_GIVEN)),
        ("capture begun", begun.first().copied()),
        ("first exhibit sealed", sealed.first().copied()),
        ("last exhibit sealed", sealed.last().copied()),
        ("isolated", first(&EntryType::ISOLATION_DONE)),
        ("freed again", last(&EntryType::ISOLATION_UNDONE)),
        ("timeline ready", first(&EntryType::TIMELINE_BUILT)),
        ("report issued", first(&EntryType::REPORT_ISSUED)),
    ] {
        if let Some(entry) = entry {
            add(what, Some(&entry.time.wall), entry);
        }
    }
    rows.sort_by_key(|row| (row.at, row.entry));
    Milestones { rows }
}
