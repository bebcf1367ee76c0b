//! What an acquisition would read, and what that costs.

use std::collections::BTreeMap;

use super::kinds::know;
use super::listing::{Found, Walk};
use crate::aws::{Connection, Failure};

/// Billionths of a dollar of one request: Amazon S3 pricing, Standard, us-east-1; LIST $0.005 and GET $0.0004 per 1,000.
const LIST: u64 = 5_000;
const GET: u64 = 400;

/// What an acquisition would read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Objects that would be read.
    pub objects: u64,
    /// Bytes that they have.
    pub bytes: u64,
    /// The same by layout: objects and bytes.
    pub layouts: BTreeMap<&'static str, (u64, u64)>,
    /// Objects that were listed and lie outside the time asked for.
    pub not_taken: u64,
    /// Objects in storage classes that have to be restored first.
    pub archived: u64,
    /// Lists that were asked for now, and will be again.
    pub lists: u64,
    /// Groups of keys that are not listed, since they lie outside the time asked for.
    pub not_listed: u64,
    /// What is wrong with parts of the list.
    pub troubles: Vec<String>,
}

impl Estimate {
    /// Requests in billionths of a dollar at the price of us-east-1. Transfer out of the region is not in it.
    #[must_use]
    pub fn nanodollars(&self) -> u64 {
        LIST.saturating_mul(self.lists).saturating_add(GET.saturating_mul(self.objects))
    }
}

/// Whether a storage class keeps objects where they cannot be read at once.
fn is_archive(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}

pub(super) fn estimate(connection: &Connection, mut walk: Walk) -> Result<Estimate, Failure> {
    let mut estimate = Estimate::default();
    while let Some(found) = connection.wait(walk.next())? {
        match found {
            Found::Object(listed) => {
                let known = know(&listed.key);
                if !listed.is_chosen(&known, walk.window()) {
                    estimate.not_taken += 1;
                    continue;
                }
                estimate.objects += 1;
                estimate.bytes = estimate.bytes.saturating_add(listed.size);
                let layout = estimate.layouts.entry(known.layout.words).or_default();
                *layout = (layout.0 + 1, layout.1.saturating_add(listed.size));
                estimate.archived += u64::from(listed.class.as_deref().is_some_and(is_archive));
            }
            Found::Unlisted { .. } => estimate.not_listed += 1,
            Found::Trouble { key, what } => estimate.troubles.push(format!("{key}: {what}")),
        }
    }
    estimate.lists = walk.requests();
    Ok(estimate)
}
