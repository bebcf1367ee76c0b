//! Who held evidence when, as a log tells it. (Placeholder shape; the handover work replaces this file.)
use crate::entry::{Entry, EntryType};

/// Custody over time.
#[derive(Debug, Clone, Default)]
pub struct Continuity {
    /// The spans.
    pub spans: Vec<HeldSpan>,
}

/// One span.
#[derive(Debug, Clone)]
pub struct HeldSpan {
    /// From.
    pub from: String,
    /// To.
    pub to: Option<String>,
    /// Holder.
    pub holder: String,
    /// Giver.
    pub signed_by_giver: bool,
    /// Receiver.
    pub signed_by_receiver: bool,
    /// Entries.
    pub entries: Vec<u64>,
    /// Gap.
    pub gap: Option<String>,
}

impl Continuity {
    /// From entries.
    pub fn of(entries: &[Entry]) -> Self {
        let mut spans: Vec<HeldSpan> = Vec::new();
        for entry in entries {
            let new = spans.is_empty()
                || entry.kind == EntryType::TRANSFER_ACCEPTED
                || entry.kind == EntryType::TRANSFER_OFFERED;
            if new {
                if let Some(last) = spans.last_mut() {
                    last.to = Some(entry.time.wall.clone());
                }
                spans.push(HeldSpan {
                    from: entry.time.wall.clone(),
                    to: None,
                    holder: entry.actor.name.clone(),
                    signed_by_giver: true,
                    signed_by_receiver: true,
                    entries: vec![entry.seq],
                    gap: (entry.kind == EntryType::TRANSFER_OFFERED)
                        .then(|| "offered, not yet accepted".to_owned()),
                });
            } else if let Some(last) = spans.last_mut() {
                last.entries.push(entry.seq);
            }
        }
        Self { spans }
    }

    /// In words.
    pub fn share_words(&self) -> String {
        format!("{} spans", self.spans.len())
    }
}
