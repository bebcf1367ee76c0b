//! What the entries of a log tell together: when each was written, which acts have no end, where nobody acted.

use std::collections::BTreeMap;

use crate::custody_log::HOW_SINGLE_WRITER;
use crate::entry::{Entry, EntryType};

/// Shorter times without an entry are no gap.
pub(crate) const SHORTEST_GAP_NS: i64 = 3_600_000_000_000;
/// The monotonic clock may run a little faster than a wall clock that is being slowed down.
const CLOCK_PLAY_NS: i64 = 2_000_000_000;
/// More of each kind are counted, not kept.
const MOST_KEPT: usize = 1000;

/// Gathered while a log is walked; 8 bytes are held for each entry.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// When each entry says it was written, in nanoseconds since 1970; [`Story::NO_TIME`] where it says nothing.
    pub(crate) times: Vec<i64>,
    /// Acts that were begun and not ended, by the entry that began them.
    pub(crate) unfinished: BTreeMap<u64, Unfinished>,
    /// Entries that answer an offer which nobody made.
    pub(crate) unasked: Vec<u64>,
    /// Times without an entry while no act was going on.
    pub(crate) gaps: Kept<Gap>,
    /// Places where the wall clock was set back.
    pub(crate) clock_backs: Kept<ClockBack>,
    /// Entries written where locks cannot be relied on, with the kind of file system.
    pub(crate) without_lock: Kept<(u64, String)>,
    /// Entries chained to the same entry as the one before them: two writers at once.
    pub(crate) same_parent: Kept<u64>,
    last: Option<Last>,
}

/// The first of something, and how many there were.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) first: Vec<T>,
    pub(crate) count: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Kept<T> {
    fn push(&mut self, item: T) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < MOST_KEPT {
            self.first.push(item);
        }
    }
}

/// An act without an end.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) kind: EntryType,
    /// The last entry about it: a pause, an error, a resumption.
    pub(crate) last: Option<(u64, EntryType)>,
}

/// A time without an entry, between `after` and the next entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    pub(crate) after: u64,
    pub(crate) length_ns: i64,
}

/// An entry whose wall clock is behind what the entry before it lets one expect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockBack {
    pub(crate) seq: u64,
    pub(crate) by_ns: i64,
}

#[derive(Debug)]
struct Last {
    seq: u64,
    prev: crate::digest::Digest,
    time: i64,
    mono: Option<i64>,
    boot: Option<String>,
}

impl Story {
    /// In the place of a time that cannot be read.
    pub(crate) const NO_TIME: i64 = i64::MIN;

    /// Takes in a line that is no entry.
    pub(crate) fn see_no_entry(&mut self) {
        self.times.push(Self::NO_TIME);
        self.last = None;
    }

    /// Takes in the next entry.
    pub(crate) fn see(&mut self, entry: &Entry) {
        let time = crate::clock::parse_rfc3339(&entry.time.wall).unwrap_or(Self::NO_TIME);
        self.times.push(time);
        if let Some(kind) = entry.how_text(HOW_SINGLE_WRITER) {
            self.without_lock.push((entry.seq, kind.to_owned()));
        }
        let mono = entry.time.mono_ns.parse::<i64>().ok();
        if let Some(last) = self.last.take() {
            self.compare(entry, time, mono, &last);
        }
        self.follow(entry);
        self.last =
            Some(Last { seq: entry.seq, prev: entry.prev, time, mono, boot: entry.time.boot.clone() });
    }

    fn compare(&mut self, entry: &Entry, time: i64, mono: Option<i64>, last: &Last) {
        if entry.prev == last.prev {
            self.same_parent.push(entry.seq);
        }
        if time == Self::NO_TIME || last.time == Self::NO_TIME {
            return;
        }
        let passed = time.saturating_sub(last.time);
        // In one boot the monotonic clock says how much the wall clock should have gained at least.
        let least = match (mono, last.mono) {
            (Some(mono), Some(before)) if entry.time.boot.is_some() && entry.time.boot == last.boot => {
                mono.saturating_sub(before).max(0)
            }
            _ => 0,
        };
        let play = CLOCK_PLAY_NS.saturating_add(least / 1000);
        let behind = least.saturating_sub(passed);
        if passed < 0 || behind > play {
            self.clock_backs.push(ClockBack { seq: entry.seq, by_ns: behind.max(passed.saturating_neg()) });
        }
        let acts = self.unfinished.values().any(|act| act.kind == EntryType::ACQUIRE_START && act.goes_on());
        if passed >= SHORTEST_GAP_NS && !acts {
            self.gaps.push(Gap { after: last.seq, length_ns: passed });
        }
    }

    /// Follows acts from their first entry to their last.
    fn follow(&mut self, entry: &Entry) {
        let kind = &entry.kind;
        if [EntryType::ACQUIRE_START, EntryType::TRANSFER_OFFERED].contains(kind) {
            // Each costs memory; a log of a million offers is told by its count alone.
            if self.unfinished.len() < MOST_KEPT {
                self.unfinished.insert(entry.seq, Unfinished { kind: kind.clone(), last: None });
            }
            return;
        }
        let (begun_by, ends) = if *kind == EntryType::ACQUIRE_END {
            (EntryType::ACQUIRE_START, true)
        } else if [EntryType::ACQUIRE_PAUSED, EntryType::ACQUIRE_RESUMED, EntryType::ACQUIRE_ERROR]
            .contains(kind)
        {
            (EntryType::ACQUIRE_START, false)
        } else if [EntryType::TRANSFER_ACCEPTED, EntryType::TRANSFER_REFUSED].contains(kind) {
            (EntryType::TRANSFER_OFFERED, true)
        } else {
            return;
        };
        let open = |seq: &u64| self.unfinished.get(seq).is_some_and(|act| act.kind == begun_by);
        let named = entry.about.refs.iter().copied().find(open);
        // An entry that names nothing is about the newest act that it can be about.
        let newest = || self.unfinished.iter().rev().find(|(_, act)| act.kind == begun_by);
        let about = named.or_else(|| newest().filter(|_| entry.about.refs.is_empty()).map(|(seq, _)| *seq));
        match about {
            Some(seq) if ends => drop(self.unfinished.remove(&seq)),
            Some(seq) => {
                if let Some(act) = self.unfinished.get_mut(&seq) {
                    act.last = Some((entry.seq, kind.clone()));
                }
            }
            None if begun_by == EntryType::TRANSFER_OFFERED && self.unasked.len() < MOST_KEPT => {
                self.unasked.push(entry.seq);
            }
            None => {}
        }
    }
}

impl Unfinished {
    /// Whether it went on when its last entry was written.
    fn goes_on(&self) -> bool {
        self.last.as_ref().is_none_or(|(_, kind)| *kind != EntryType::ACQUIRE_PAUSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::entry::EntryTime;

    fn entry(seq: u64, kind: EntryType, wall: &str, mono_s: u64, refs: &[u64]) -> Entry {
        Entry {
            v: 1,
            seq,
            prev: Digest([u8::try_from(seq).unwrap(); 32]),
            id: String::new(),
            kind,
            time: EntryTime {
                wall: wall.to_owned(),
                mono_ns: (mono_s * 1_000_000_000).to_string(),
                boot: Some("b".to_owned()),
                ..EntryTime::default()
            },
            actor: crate::entry::Actor::default(),
            tool: crate::entry::Tool::default(),
            host: crate::entry::Host::default(),
            about: crate::entry::About { refs: refs.to_vec(), ..Default::default() },
        }
    }

    fn told(entries: &[Entry]) -> Story {
        let mut story = Story::default();
        entries.iter().for_each(|entry| story.see(entry));
        story
    }

    #[test]
    fn a_start_without_an_end_stays_open_and_an_end_closes_the_start_it_names() {
        let story = told(&[
            entry(0, EntryType::ACQUIRE_START, "2026-11-21T01:00:00Z", 0, &[]),
            entry(1, EntryType::ACQUIRE_START, "2026-11-21T01:00:01Z", 1, &[]),
            entry(2, EntryType::ACQUIRE_PAUSED, "2026-11-21T01:00:02Z", 2, &[1]),
            entry(3, EntryType::ACQUIRE_END, "2026-11-21T01:00:03Z", 3, &[0]),
        ]);
        assert_eq!(story.unfinished.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(story.unfinished[&1].last.as_ref().unwrap().0, 2);
    }

    #[test]
    fn offers_and_answers_are_matched() {
        let story = told(&[
            entry(0, EntryType::TRANSFER_OFFERED, "2026-11-21T01:00:00Z", 0, &[]),
            entry(1, EntryType::TRANSFER_OFFERED, "2026-11-21T01:00:01Z", 1, &[]),
            entry(2, EntryType::TRANSFER_ACCEPTED, "2026-11-21T01:00:02Z", 2, &[]),
            entry(3, EntryType::TRANSFER_REFUSED, "2026-11-21T01:00:03Z", 3, &[1]),
        ]);
        assert_eq!(story.unfinished.keys().collect::<Vec<_>>(), [&0]);
        assert_eq!(story.unasked, [3], "offer 1 was accepted before it was refused");
    }

    #[test]
    fn only_time_outside_an_acquisition_is_a_gap() {
        let story = told(&[
            entry(0, EntryType::NOTE, "2026-11-21T01:00:00Z", 0, &[]),
            entry(1, EntryType::ACQUIRE_START, "2026-11-21T15:00:00Z", 50_400, &[]),
            entry(2, EntryType::ACQUIRE_END, "2026-11-21T20:00:00Z", 68_400, &[1]),
            entry(3, EntryType::NOTE, "2026-11-21T20:59:59Z", 71_999, &[]),
        ]);
        assert_eq!(story.gaps.count, 1);
        assert_eq!((story.gaps.first[0].after, story.gaps.first[0].length_ns), (0, 14 * SHORTEST_GAP_NS));
    }

    #[test]
    fn a_clock_that_was_set_back_shows_even_where_times_still_rise() {
        let story = told(&[
            entry(0, EntryType::NOTE, "2026-11-21T01:00:00Z", 0, &[]),
            entry(1, EntryType::NOTE, "2026-11-21T01:00:10Z", 600, &[]),
            entry(2, EntryType::NOTE, "2026-11-21T01:00:05Z", 601, &[]),
            entry(3, EntryType::NOTE, "2026-11-21T01:10:05Z", 1201, &[]),
        ]);
        let found: Vec<_> =
            story.clock_backs.first.iter().map(|back| (back.seq, back.by_ns / 1_000_000_000)).collect();
        assert_eq!(found, [(1, 590), (2, 6)]);
    }
}
