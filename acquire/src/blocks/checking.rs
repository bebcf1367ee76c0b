//! After an interruption: whether the source is still what was read before.
//!
//! The list is compared with the extents that were stored, and some blocks are fetched again and compared by their hash.

use std::ops::Range;

use custody::bundle::{Extent, Sample, State};
use custody::digest::Hasher;

use crate::source::{Issue, Issues};

/// What was stored before the interruption.
#[derive(Debug)]
pub(super) struct Checking {
    path: String,
    extents: Vec<Extent>,
    at: usize,
    samples: Vec<Sample>,
    next_sample: usize,
    /// Of the sample that is being compared.
    hasher: Hasher,
    hashed: u64,
    run: Option<(Range<u64>, &'static str)>,
}

const MISSING: &str = "the list does not have these blocks, though they were read before the interruption: it is not the same source";
const ADDED: &str =
    "the list has these blocks, though it did not before the interruption: it is not the same source";
const CHANGED: &str =
    "the source has other bytes here now than before the interruption: it is not the same one";

impl Checking {
    pub(super) fn new(path: &str, extents: Vec<Extent>, samples: Vec<Sample>) -> Self {
        Self {
            path: path.to_owned(),
            extents,
            at: 0,
            samples,
            next_sample: 0,
            hasher: Hasher::new(),
            hashed: 0,
            run: None,
        }
    }

    /// What must be fetched again, in order.
    pub(super) fn samples(&self) -> Vec<Range<u64>> {
        let range = |sample: &Sample| sample.offset..sample.offset.saturating_add(u64::from(sample.length));
        self.samples.iter().map(range).collect()
    }

    /// The list has, or has not, what lies at a place.
    pub(super) fn listed(&mut self, place: Range<u64>, is_there: bool, issues: &mut Issues) {
        while self.extents.get(self.at).is_some_and(|extent| extent.end() <= place.start) {
            self.at += 1;
        }
        let mut at = self.at;
        while let Some(extent) = self.extents.get(at).filter(|extent| extent.start < place.end) {
            let was_there = matches!(extent.state, State::Data | State::Zero | State::Unreadable);
            if was_there != is_there {
                let differs = extent.start.max(place.start)..extent.end().min(place.end);
                self.note(differs, if was_there { MISSING } else { ADDED }, issues);
            }
            at += 1;
        }
    }

    /// What was fetched again at a place; `None` if it is all zeros. Places must come in order.
    pub(super) fn content(&mut self, place: Range<u64>, bytes: Option<&[u8]>, issues: &mut Issues) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while let Some(sample) = self.samples.get(self.next_sample) {
            let end = sample.offset.saturating_add(u64::from(sample.length));
            let (from, to) = (place.start.max(sample.offset), place.end.min(end));
            if from < to {
                let (skip, length) = ((from - place.start) as usize, (to - from) as usize);
                match bytes {
                    Some(bytes) => {
                        let part = bytes.get(skip..).and_then(|bytes| bytes.get(..length));
                        self.hasher.update(part.unwrap_or_default());
                    }
                    None => {
                        let mut left = length;
                        while left > 0 {
                            let part = left.min(ZEROS.len());
                            self.hasher.update(ZEROS.get(..part).unwrap_or_default());
                            left -= part;
                        }
                    }
                }
                self.hashed = self.hashed.saturating_add(length as u64);
            }
            if end > place.end {
                return;
            }
            let (expected, length, offset) = (sample.sha256, u64::from(sample.length), sample.offset);
            let found = std::mem::take(&mut self.hasher).finish();
            // Of a sample that was not fetched whole, it is told elsewhere why.
            if std::mem::take(&mut self.hashed) == length && found != expected {
                self.note(offset..end, CHANGED, issues);
            }
            self.next_sample += 1;
        }
    }

    fn note(&mut self, place: Range<u64>, what: &'static str, issues: &mut Issues) {
        match self.run.as_mut() {
            Some((run, said)) if *said == what && run.end == place.start => run.end = place.end,
            _ => {
                self.end(issues);
                self.run = Some((place, what));
            }
        }
    }

    /// Lists what has been noted.
    pub(super) fn end(&mut self, issues: &mut Issues) {
        let Some((place, what)) = self.run.take() else { return };
        issues.add(Issue {
            path: self.path.clone(),
            offset: Some(place.start),
            length: Some(place.end.saturating_sub(place.start)),
            what: what.to_owned(),
        });
    }
}
