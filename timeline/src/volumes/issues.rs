//! Damage found in a disk or volume, listed in the order of its place.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// How many issues are kept; the rest is counted.
const LISTED: usize = 1000;

/// Something damaged, contradictory or unknown in a disk or volume. Reading went on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeIssue {
    /// Where, in bytes from the start of the disk or volume that was read.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for VolumeIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.what)
    }
}

/// Collects issues; each is listed once, whoever finds it and however often.
#[derive(Debug, Default)]
pub(crate) struct IssueList(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    listed: BTreeSet<VolumeIssue>,
    beyond: u64,
}

impl IssueList {
    pub(crate) fn add(&self, offset: u64, what: impl Into<String>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.listed.len() < LISTED {
            kept.listed.insert(VolumeIssue { offset, what: what.into() });
        } else {
            kept.beyond = kept.beyond.saturating_add(1);
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<VolumeIssue> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = kept.listed.iter().cloned().collect();
        if kept.beyond > 0 {
            let what = format!("{} more issues are not listed", kept.beyond);
            all.push(VolumeIssue { offset: 0, what });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issues_come_once_in_the_order_of_their_place_and_bounded() {
        let list = IssueList::default();
        list.add(9, "b");
        list.add(3, "a");
        list.add(9, "b");
        assert_eq!(
            list.to_vec().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["at byte 3: a", "at byte 9: b"]
        );
        (0..2000).for_each(|n| list.add(n, "c"));
        assert_eq!(list.to_vec().len(), LISTED + 1);
    }
}
