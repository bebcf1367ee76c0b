//! What EC2 and Service Quotas know of a snapshot. None of it is needed to read the blocks.

use custody::strict_json::escape_text;
use serde_json::{Map, Value};

use super::snapshot::EbsSnapshot;
use crate::aws::ec2::Ec2;
use crate::aws::quotas::{EbsQuota, Quotas};
use crate::aws::{Connection, Failure};

/// The quota of GetSnapshotBlock, in requests a second.
struct Quota {
    per_second: u32,
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
        let quota = quota(self.connection());
        facts.insert("quota_requests_per_second".to_owned(), quota.per_second.into());
        if let Some(failure) = quota.guessed {
            facts.insert("quota_assumed_because".to_owned(), text(&failure.to_string()));
        }
        self.told(facts).encrypted(encrypted).no_faster_than(quota.per_second)
    }
}

fn describe(
    connection: &Connection,
    snapshot: &str,
) -> std::result::Result<crate::aws::ec2::Snapshot, Failure> {
    Ok(Ec2::new(connection)?.describe_snapshot(snapshot)?.value)
}

/// The lesser of the account's quota and the snapshot's.
fn quota(connection: &Connection) -> Quota {
    let mut least = Quota { per_second: u32::MAX, guessed: None };
    let quotas = Quotas::new(connection);
    for quota in [EbsQuota::GetPerAccount, EbsQuota::GetPerSnapshot] {
        let answer = match &quotas {
            Ok(quotas) if least.guessed.is_none() => quotas.ebs(quota).map(|answer| answer.value),
            Ok(_) => Ok(quota.default_value()),
            Err(failure) => Err(failure.clone()),
        };
        let value = answer.unwrap_or_else(|failure| {
            least.guessed = Some(failure);
            quota.default_value()
        });
        least.per_second = least.per_second.min(value.max(1));
    }
    least
}
