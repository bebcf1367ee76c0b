//! What EC2 and Service Quotas know of a snapshot. None of it is needed to read the blocks.

use custody::strict_json::escape_text;
use serde_json::{Map, Value};

use super::snapshot::EbsSnapshot;
use crate::aws::ec2::Ec2;
use crate::aws::quotas::{EbsQuota, Quotas};
use crate::aws::{Connection, Failure};

/// What the account may ask of the direct APIs, in requests a second.
struct Allowed {
    blocks: u32,
    lists: u32,
    /// Why it is only a guess, if it is.
    guessed: Option<Failure>,
}

impl EbsSnapshot {
    /// Adds what EC2 knows of the snapshot to its facts, and keeps to the account's quota where that is less than what was
    /// allowed. What cannot be learnt is left out, with the reason among the facts: the blocks can be read without it.
    #[must_use]
    pub fn described(self) -> Self {
        let mut facts = Map::new();
        let mut encrypted = None;
        let text = |text: &str| Value::from(escape_text(text.as_bytes()));
        match describe(self.connection(), self.snapshot()) {
            Ok(snapshot) => {
                encrypted = Some(snapshot.is_encrypted);
                for (name, value) in
                    [("owner", &snapshot.owner), ("volume", &snapshot.volume), ("started", &snapshot.started)]
                {
                    if !value.is_empty() {
                        facts.insert(name.to_owned(), text(value));
                    }
                }
                if let Some(key) = &snapshot.kms_key {
                    facts.insert("kms_key".to_owned(), text(key));
                }
            }
            Err(failure) => {
                facts.insert("not_described".to_owned(), text(&failure.to_string()));
            }
        }
        let allowed = allowed(self.connection(), self.has_base());
        facts.insert("quota_requests_per_second".to_owned(), allowed.blocks.into());
        facts.insert("quota_lists_per_second".to_owned(), allowed.lists.into());
        if let Some(failure) = allowed.guessed {
            facts.insert("quota_assumed_because".to_owned(), text(&failure.to_string()));
        }
        self.told(facts).encrypted(encrypted).no_faster_than(allowed.blocks, allowed.lists)
    }
}

fn describe(
    connection: &Connection,
    snapshot: &str,
) -> std::result::Result<crate::aws::ec2::Snapshot, Failure> {
    Ok(Ec2::new(connection)?.describe_snapshot(snapshot)?.value)
}

/// The account's quotas: of blocks the lesser of its own and the snapshot's, of pages that of the list that is read.
fn allowed(connection: &Connection, changes_only: bool) -> Allowed {
    let (quotas, mut guessed) = (Quotas::new(connection), None);
    let mut ask = |quota: EbsQuota| {
        let answer = match &quotas {
            Ok(quotas) if guessed.is_none() => quotas.ebs(quota).map(|answer| answer.value),
            Ok(_) => Ok(quota.default_value()),
            Err(failure) => Err(failure.clone()),
        };
        let value = answer.unwrap_or_else(|failure| {
            guessed = Some(failure);
            quota.default_value()
        });
        value.max(1)
    };
    let blocks = ask(EbsQuota::GetPerAccount).min(ask(EbsQuota::GetPerSnapshot));
    let lists = ask(if changes_only { EbsQuota::ListChangedPerAccount } else { EbsQuota::ListPerAccount });
    Allowed { blocks, lists, guessed }
}
