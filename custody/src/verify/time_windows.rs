//! Between which two times of others each entry was written, and whether the host's own clock agrees.
//!
//! An anchor that covers an entry says that it was there by then. An `anchor.made` entry names an anchor's file by its
//! hash, so it and all after it are younger than that anchor.

use super::anchors::AnchorFact;
use crate::clock::{parse_rfc3339, rfc3339};
use crate::entry::Entry;
use crate::log_story::Story;

/// What an authority's own clock may be off by.
const PLAY_NS: i64 = 2_000_000_000;
const OPEN: (i64, i64) = (i64::MIN, i64::MAX);

/// The windows of a log's entries, in sum.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Entries that say a time.
    pub(super) entries: u64,
    /// Of these, the ones that somebody else bounds from both sides.
    pub(super) narrow: u64,
    /// Of these, the ones that somebody else bounds from above.
    bounded: u64,
    /// The last entry that is bounded from above, with its window.
    last: Option<(u64, (i64, i64))>,
    /// The entry whose claim is farthest outside its window, and by how much.
    pub(super) worst: Option<Outside>,
}

/// A claim outside its window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outside {
    seq: u64,
    window: (i64, i64),
    by_ns: i64,
}

impl Windows {
    /// Compares what entries claim with the times of anchors that count.
    pub(super) fn of<'a>(
        anchors: impl Iterator<Item = &'a AnchorFact>,
        made: impl Iterator<Item = &'a Entry>,
        claims: &[i64],
    ) -> Self {
        let timed: Vec<(&AnchorFact, i64)> =
            anchors.filter_map(|fact| Some((fact, parse_rfc3339(fact.time.as_deref()?).ok()?))).collect();
        let mut windows = vec![OPEN; claims.len()];
        let mut lower = vec![i64::MIN; claims.len()];
        for (fact, time) in &timed {
            let last = usize::try_from(fact.covers).ok().and_then(|covers| covers.checked_sub(1));
            if let Some(window) = last.and_then(|at| windows.get_mut(at)) {
                window.1 = window.1.min(*time);
            }
        }
        for entry in made {
            let names = |fact: &AnchorFact| entry.about.subject.iter().any(|subject| subject.id == fact.file);
            let newest = timed.iter().filter(|(fact, _)| names(fact)).map(|(_, time)| *time).max();
            let at = usize::try_from(entry.seq).ok();
            if let (Some(newest), Some(bound)) = (newest, at.and_then(|at| lower.get_mut(at))) {
                *bound = (*bound).max(newest);
            }
        }
        // What was there is bounded by every later anchor, and is younger than every anchor before it.
        let mut upper = i64::MAX;
        for window in windows.iter_mut().rev() {
            upper = upper.min(window.1);
            window.1 = upper;
        }
        let mut newest = i64::MIN;
        for (window, bound) in windows.iter_mut().zip(lower) {
            newest = newest.max(bound);
            window.0 = newest;
        }
        let mut sum = Self::default();
        for ((seq, claim), window) in (0..).zip(claims).zip(windows) {
            sum.take_in(seq, *claim, window);
        }
        sum
    }

    fn take_in(&mut self, seq: u64, claim: i64, window: (i64, i64)) {
        if claim == Story::NO_TIME {
            return;
        }
        self.entries += 1;
        if window.1 != i64::MAX {
            self.bounded += 1;
            self.narrow += u64::from(window.0 != i64::MIN);
            self.last = Some((seq, window));
        }
        let by_ns = claim.saturating_sub(window.1).max(window.0.saturating_sub(claim));
        if by_ns > PLAY_NS && self.worst.is_none_or(|worst| worst.by_ns < by_ns) {
            self.worst = Some(Outside { seq, window, by_ns });
        }
    }

    /// The windows in one sentence, with the claim that fits worst, or else the last that can be compared.
    pub(super) fn words(&self, claims: &[i64]) -> String {
        let claim = |seq: u64| {
            let claim = usize::try_from(seq).ok().and_then(|seq| claims.get(seq)).copied();
            claim.filter(|claim| *claim != Story::NO_TIME).map_or_else(|| "no time".to_owned(), second)
        };
        let of = |(from, to): (i64, i64)| {
            let side =
                |ns: i64| if ns == i64::MIN || ns == i64::MAX { "open".to_owned() } else { second(ns) };
            format!("time window [{}, {}]", side(from), side(to))
        };
        if let Some(Outside { seq, window, by_ns }) = self.worst {
            let by = by_ns / 1_000_000_000;
            return format!("{}; host claims {}; outside by {by} s (entry {seq})", of(window), claim(seq));
        }
        let Some((seq, window)) = self.last else {
            let last = (claims.len() as u64).saturating_sub(1);
            return format!(
                "{}; host claims {} to {}; no anchor has a time",
                of(OPEN),
                claim(0),
                claim(last)
            );
        };
        format!(
            "{}; host claims {}; inside (entry {seq}); of {} entries {} are bounded from above, {} on both sides",
            of(window),
            claim(seq),
            self.entries,
            self.bounded,
            self.narrow
        )
    }
}

/// A time to the second, as the wall clock of the log writes it.
fn second(wall_ns: i64) -> String {
    let text = rfc3339(wall_ns);
    text.split_once('.').map_or_else(|| text.clone(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Subject;
    use crate::verify::anchors::AnchorKind;

    const SECOND: i64 = 1_000_000_000;

    fn anchor(file: &str, covers: u64, seconds: i64) -> AnchorFact {
        AnchorFact {
            kind: AnchorKind::TimeStamp,
            who: "TSA".to_owned(),
            party: "TSA".to_owned(),
            independent: true,
            covers,
            time: Some(rfc3339(seconds * SECOND)),
            file: file.to_owned(),
            words: String::new(),
        }
    }

    fn made(seq: u64, file: &str) -> Entry {
        let line = format!(
            r#"{{"id":"","prev":"{}","seq":{seq},"time":{{"mono_ns":"0","tz_min":0,"wall":""}},"type":"anchor.made","v":1}}"#,
            "0".repeat(64)
        );
        let mut entry = Entry::parse(line.as_bytes()).unwrap();
        entry.about.subject.push(Subject { id: file.to_owned(), size: None, sha256: None });
        entry
    }

    fn seconds(claims: &[i64]) -> Vec<i64> {
        claims.iter().map(|second| second * SECOND).collect()
    }

    #[test]
    fn an_entry_between_two_anchors_is_bounded_on_both_sides() {
        let anchors = [anchor("anchors/1", 2, 100), anchor("anchors/2", 5, 200)];
        let claims = seconds(&[90, 99, 101, 150, 190]);
        let windows = Windows::of(anchors.iter(), [made(2, "anchors/1")].iter(), &claims);
        assert_eq!((windows.entries, windows.bounded, windows.narrow), (5, 5, 3));
        assert!(windows.worst.is_none());
        assert_eq!(
            windows.words(&claims),
            "time window [1970-01-01T00:01:40Z, 1970-01-01T00:03:20Z]; host claims 1970-01-01T00:03:10Z; inside (entry \
             4); of 5 entries 5 are bounded from above, 3 on both sides"
        );
    }

    #[test]
    fn a_claim_before_an_anchor_that_it_names_or_after_one_that_covers_it_is_outside() {
        let anchors = [anchor("anchors/1", 2, 100), anchor("anchors/2", 5, 200)];
        let named = [made(2, "anchors/1")];
        let backdated = seconds(&[90, 99, 101, 40, 190]);
        let windows = Windows::of(anchors.iter(), named.iter(), &backdated);
        assert!(
            windows.words(&backdated).contains("outside by 60 s (entry 3)"),
            "{}",
            windows.words(&backdated)
        );
        let ahead = seconds(&[90, 109, 110, 120, 190]);
        let windows = Windows::of(anchors.iter(), named.iter(), &ahead);
        assert!(windows.words(&ahead).contains("outside by 9 s (entry 1)"), "{}", windows.words(&ahead));
    }

    #[test]
    fn without_a_timed_anchor_nothing_is_bounded() {
        let claims = seconds(&[90, 99]);
        let windows = Windows::of([].iter(), [].iter(), &claims);
        assert_eq!((windows.bounded, windows.narrow), (0, 0));
        assert!(windows.words(&claims).ends_with("no anchor has a time"));
    }
}
