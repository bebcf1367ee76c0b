//! What a verification knows of each of 18 threats to a custody log, in the words of the table in `FORMAT.md`.
//!
//! [`ThreatState::Held`] is said only of what was checked here and not found. What the files alone cannot show is
//! [`ThreatState::NotProved`], with what would show it. Every fault belongs to one threat, so a verification that is
//! broken has at least one [`ThreatState::Found`].

use std::collections::BTreeSet;

use serde::Serialize;

use super::anchors::{AnchorFact, AnchorKind, DOES_NOT_HOLD};
use super::findings::{Fault, FaultKind};
use super::log::LogCheck;
use super::time_windows::Windows;
use super::{Kind, Level, Options, Verification};
use crate::case_layout;
use crate::entry::{Entry, EntryType};
use crate::log_story::Unfinished;

/// How things stand with a threat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreatState {
    /// There is nothing here that it could touch, or no file could ever show it.
    NotApplicable,
    /// Looked for, and not found.
    Held,
    /// Nothing here could show it; the words say what would.
    NotProved,
    /// There are signs of it; the words say where.
    Found,
}

impl ThreatState {
    /// The state in capitals, as a terminal and a report show it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotApplicable => "N/A",
            Self::Held => "HELD",
            Self::NotProved => "NOT PROVED",
            Self::Found => "FOUND",
        }
    }
}

/// One threat, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThreatFinding {
    /// `T1` to `T18`.
    pub id: &'static str,
    /// What it is.
    pub name: &'static str,
    /// How things stand.
    pub state: ThreatState,
    /// What was seen, the most important first.
    pub words: String,
}

/// Every threat, in order.
pub const THREATS: [(&str, &str); 18] = [
    ("T1", "edit, insert, reorder"),
    ("T2", "tail dropped"),
    ("T3", "head dropped, genesis swapped"),
    ("T4", "rolled back to an old copy"),
    ("T5", "fork: two histories signed"),
    ("T6", "key stolen, log signed anew"),
    ("T7", "backdating, clock set wrong"),
    ("T8", "bundle and log replaced together"),
    ("T9", "two writers at once"),
    ("T10", "crash while appending"),
    ("T11", "act never logged"),
    ("T12", "proof of another thing accepted"),
    ("T13", "text read in two ways"),
    ("T14", "time-stamps grow old"),
    ("T15", "time-stamp authority mistaken"),
    ("T16", "stored bytes decay"),
    ("T17", "evidence attacks the tool"),
    ("T18", "anchor tells the case's name"),
];

type Said = (ThreatState, String);

/// Decides all threats to a log and what it tells of. Of a case, its exhibits are joined by [`of_case`].
pub(super) fn decide(done: &Verification, log: &LogCheck, options: &Options) -> Vec<ThreatFinding> {
    let seen = Seen { done, log, options };
    let found = |(id, name): &(&'static str, &'static str)| {
        let (state, words) = seen.faults_of(id).unwrap_or_else(|| seen.without_faults(id));
        ThreatFinding { id, name, state, words }
    };
    THREATS.iter().map(found).collect()
}

/// Adds a fault that was found after all else was decided.
pub(super) fn add_fault(threats: &mut [ThreatFinding], fault: &Fault) {
    for threat in threats.iter_mut().filter(|threat| threat.id == fault.threat) {
        let words = words_of(fault);
        threat.words =
            if threat.state == ThreatState::Found { format!("{}; {words}", threat.words) } else { words };
        threat.state = ThreatState::Found;
    }
}

/// A bundle's own log need not be anchored where an anchored entry of its case names its manifest.
pub(super) fn anchored_by_case(threats: &mut [ThreatFinding], seq: u64, anchors: u32) {
    for threat in threats.iter_mut().filter(|threat| threat.id == "T8" && threat.state < ThreatState::Found) {
        threat.state = ThreatState::Held;
        threat.words =
            format!("its manifest is named by entry {seq} of the case, under {}", independent(anchors));
    }
}

/// Joins what is known of a case's own log with what is known of its exhibits: the worst is said first.
pub(super) fn of_case(own: Vec<ThreatFinding>, of: Vec<(String, Vec<ThreatFinding>)>) -> Vec<ThreatFinding> {
    const MOST_NAMED: usize = 3;
    own.into_iter()
        .map(|mut joined| {
            let theirs = || {
                of.iter()
                    .filter_map(|(id, all)| Some((id, all.iter().find(|threat| threat.id == joined.id)?)))
            };
            let worst =
                theirs().map(|(_, threat)| threat.state).max().unwrap_or(joined.state).max(joined.state);
            let own = (joined.state == worst).then(|| joined.words.clone());
            // What is the same of several exhibits is said once.
            let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
            for (id, threat) in theirs().filter(|(_, threat)| threat.state == worst) {
                match said.iter_mut().find(|(words, _)| *words == threat.words) {
                    Some((_, ids)) => ids.push(id),
                    None => said.push((&threat.words, vec![id])),
                }
            }
            let more = said.len().saturating_sub(MOST_NAMED);
            let mut parts: Vec<String> = own.iter().cloned().collect();
            for (words, ids) in said.into_iter().take(MOST_NAMED) {
                let ids = ids.join(", ");
                parts.push(if own.as_deref() == Some(words) {
                    format!("so of {ids}")
                } else {
                    format!("{ids}: {words}")
                });
            }
            if more > 0 {
                parts.push(format!("and {more} more exhibits otherwise"));
            }
            joined.state = worst;
            joined.words = parts.join("; ");
            joined
        })
        .collect()
}

/// What is said of data that lies in an evidence store and was not asked for.
const NOT_READ: &str = "DATA NOT READ: the data lies in an evidence store and was not recomputed";

struct Seen<'a> {
    done: &'a Verification,
    log: &'a LogCheck,
    options: &'a Options,
}

impl Seen<'_> {
    /// Faults that this log and its evidence have themselves, of one threat.
    fn faults_of(&self, id: &str) -> Option<Said> {
        const MOST_NAMED: usize = 3;
        let within = format!("{}/", case_layout::EXHIBITS);
        // A fault with a file below an exhibit's folder was counted there.
        let own = |fault: &&Fault| {
            let below = fault.place.file.strip_prefix(&within).is_some_and(|rest| rest.contains('/'));
            fault.threat == id && !(self.done.kind == Kind::Case && below)
        };
        let faults: Vec<_> = self.done.faults.iter().filter(own).collect();
        if faults.is_empty() {
            return None;
        }
        let mut words: Vec<_> = faults.iter().take(MOST_NAMED).map(|fault| words_of(fault)).collect();
        if let Some(more) = faults.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            words.push(format!("and {more} more"));
        }
        Some((ThreatState::Found, words.join("; ")))
    }

    fn without_faults(&self, id: &str) -> Said {
        // Without a log there is nothing that the other threats could be looked for in.
        if self.log.summary.origin.is_empty() {
            return (ThreatState::NotProved, "there is no log that could be read".to_owned());
        }
        match id {
            "T1" => self.edited(),
            "T2" => self.tail(),
            "T3" => self.genesis(),
            "T4" => self.rolled_back(),
            "T5" => self.forked(),
            "T6" => self.stolen_key(),
            "T7" => self.time(),
            "T8" => self.replaced(),
            "T9" => self.writers(),
            "T10" => self.crash(),
            "T11" => self.acts(),
            "T12" => self.verifier(),
            "T13" => {
                let lines = self.lines();
                (ThreatState::Held, format!("{lines} lines, each in the one canonical spelling"))
            }
            "T14" => self.ageing(),
            "T15" => self.authority(),
            "T16" => self.decay(),
            "T17" => (
                ThreatState::NotApplicable,
                "no file can show it; by design parsers of evidence hold no key and cannot write to a log or bundle"
                    .to_owned(),
            ),
            _ => self.privacy(),
        }
    }

    fn size(&self) -> u64 {
        self.log.summary.size
    }

    fn lines(&self) -> u64 {
        self.log.story.times.len() as u64
    }

    /// The largest size that an anchor counts for, and how many anchors there are.
    fn last_anchor(&self) -> Option<u64> {
        self.log.anchored.iter().map(|(size, _)| *size).max()
    }

    fn landmarks<'a>(&'a self, kind: &'a EntryType) -> impl Iterator<Item = &'a Entry> {
        self.log.entries_of(kind)
    }

    fn edited(&self) -> Said {
        let size = self.size();
        let (unsigned, torn) = (self.log.summary.unsigned_entries, self.log.summary.torn_bytes);
        if size == 0 {
            return (ThreatState::NotProved, "no signed checkpoint fits the log".to_owned());
        }
        let held = format!("{size} entries are chained and under the signed root");
        if unsigned > 0 || torn > 0 {
            let words =
                format!("{held}; {unsigned} entries and {torn} bytes after them are signed by nobody");
            return (ThreatState::NotProved, words);
        }
        (ThreatState::Held, held)
    }

    fn tail(&self) -> Said {
        let size = self.size();
        let closed = self.landmarks(&EntryType::CASE_CLOSED).last().map(|entry| entry.seq);
        match (self.last_anchor(), closed) {
            (Some(anchor), Some(closed)) if anchor > closed && size == closed.saturating_add(1) => {
                (ThreatState::Held, format!("closed by entry {closed}, which an anchor covers"))
            }
            (Some(anchor), _) => {
                let after = size.saturating_sub(anchor);
                let words = format!(
                    "OPEN: complete only up to last anchor {anchor}{}; {after} entries follow it, and more may have \
                     been cut",
                    self.at(anchor)
                );
                (ThreatState::NotProved, words)
            }
            (None, _) => (
                ThreatState::NotProved,
                format!(
                    "OPEN: {size} entries and no anchor; entries cut together with every checkpoint of them would \
                     not show: bring a copy kept elsewhere (--anchors, --memory)"
                ),
            ),
        }
    }

    /// ` at T` for the anchor of this size, where its time is known.
    fn at(&self, size: u64) -> String {
        let times =
            self.counting().filter(|fact| fact.covers == size).filter_map(|fact| fact.time.as_deref());
        times.min().map(|time| format!(" at {time}")).unwrap_or_default()
    }

    /// The anchors that the presenter does not control.
    fn counting(&self) -> impl Iterator<Item = &AnchorFact> {
        self.log.summary.anchored.iter().filter(|fact| fact.independent)
    }

    fn stamps(&self) -> impl Iterator<Item = &AnchorFact> {
        self.log.summary.anchored.iter().filter(|fact| fact.kind == AnchorKind::TimeStamp)
    }

    fn ageing(&self) -> Said {
        let all = self.stamps().count();
        if all == 0 {
            return (ThreatState::NotApplicable, "there is no time-stamp token".to_owned());
        }
        let Some(first) = self.stamps().find(|fact| fact.independent) else {
            let words = format!("{all} tokens, none of them checked to the root of its authority (--trust)");
            return (ThreatState::NotProved, words);
        };
        let checked = self.stamps().filter(|fact| fact.independent).count();
        let words = format!("valid at genTime, {checked} of {all} tokens; {}", first.words);
        (if checked == all { ThreatState::Held } else { ThreatState::NotProved }, words)
    }

    fn authority(&self) -> Said {
        let broken = |note: &&String| note.starts_with("the time stamp ") && note.contains(DOES_NOT_HOLD);
        let broken: Vec<&String> = self.done.notes.iter().filter(broken).collect();
        if let Some(first) = broken.first() {
            return (ThreatState::Found, format!("{first}{}", and_more(broken.len() as u64)));
        }
        match (self.stamps().count(), self.stamps().filter(|fact| fact.independent).count()) {
            (0, _) => (ThreatState::NotApplicable, "there is no time-stamp token".to_owned()),
            (all, checked) if all == checked => (
                ThreatState::Held,
                format!("{all} tokens, each bound to its own authority and the window of its certificate"),
            ),
            (all, checked) => (
                ThreatState::NotProved,
                format!("{checked} of {all} tokens are bound to an authority whose root you trust (--trust)"),
            ),
        }
    }

    fn genesis(&self) -> Said {
        let held = "entry 0 starts from 64 zeros and holds the key of keys/log.vkey and the origin of every checkpoint";
        (ThreatState::Held, held.to_owned())
    }

    fn rolled_back(&self) -> Said {
        match self.log.remembered {
            Some(seen) => (
                ThreatState::Held,
                format!(
                    "{seen} entries were seen before, now {}; the first {seen} have the same root",
                    self.lines()
                ),
            ),
            None if self.log.compared > 0 => {
                let words = "this verifier remembers no earlier size (--memory FILE); the copies kept elsewhere are not \
                             newer than the log";
                (ThreatState::NotProved, words.to_owned())
            }
            None => (
                ThreatState::NotProved,
                "no earlier size is remembered; an older copy of this log would look as good (--memory FILE)"
                    .to_owned(),
            ),
        }
    }

    fn forked(&self) -> Said {
        let inside = self.log.summary.checkpoints;
        let outside = self.log.compared.saturating_add(usize::from(self.log.remembered.is_some()));
        let cosigned = self.log.anchored.iter().filter(|(_, foreign)| *foreign).count();
        if outside == 0 && cosigned == 0 {
            let words = format!(
                "{inside} checkpoints agree, all from this copy; a second history would show only against another \
                 copy (exhibit custody compare)"
            );
            return (ThreatState::NotProved, words);
        }
        let words = format!(
            "{inside} checkpoints of this copy, {outside} from elsewhere and {cosigned} cosignatures are of one history"
        );
        (ThreatState::Held, words)
    }

    fn stolen_key(&self) -> Said {
        let keys = self.log.keys.as_ref().map_or(0, |keys| keys.all().len());
        let windows = format!(
            "{} checkpoints, each by a key within its window, of {keys}",
            self.log.summary.checkpoints
        );
        match self.last_anchor() {
            None => (ThreatState::NotProved, format!("re-signed at any time: no earlier anchor; {windows}")),
            Some(anchor) if anchor < self.size() => (
                ThreatState::NotProved,
                format!(
                    "entries {anchor} to {} have no anchor yet; {windows}",
                    self.size().saturating_sub(1)
                ),
            ),
            Some(anchor) => (
                ThreatState::Held,
                format!("an anchor fixes all {anchor} entries{}; {windows}", self.at(anchor)),
            ),
        }
    }

    fn time(&self) -> Said {
        let story = &self.log.story;
        if let Some(back) = story.clock_backs.first.first() {
            let words = format!(
                "the clock was set back by {} before entry {}{}; times of the host are claims",
                span(back.by_ns),
                back.seq,
                and_more(story.clock_backs.count)
            );
            return (ThreatState::Found, words);
        }
        let windows =
            Windows::of(self.counting(), self.log.entries_of(&EntryType::ANCHOR_MADE), &story.times);
        let state = match (windows.worst, windows.narrow == windows.entries && windows.entries > 0) {
            (Some(_), _) => ThreatState::Found,
            (None, true) => ThreatState::Held,
            (None, false) => ThreatState::NotProved,
        };
        (state, windows.words(&story.times))
    }

    fn replaced(&self) -> Said {
        let verdict = self.done.verdict;
        if verdict.anchors > 0 {
            let names: BTreeSet<&str> = self.counting().map(|fact| fact.who.as_str()).collect();
            let names: Vec<&str> = names.into_iter().take(4).collect();
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            return (ThreatState::Held, format!("{}{names}", independent(verdict.anchors)));
        }
        let mut words = "0 anchors independent of presenter: internal consistency only".to_owned();
        if self.log.trusted {
            words.push_str(", signed by a key you trust");
        } else if !self.options.trust.is_empty() {
            words.push_str(", and no key you trust signed it");
        }
        (ThreatState::NotProved, words)
    }

    fn writers(&self) -> Said {
        let story = &self.log.story;
        if let Some(seq) = story.same_parent.first.first() {
            let more = and_more(story.same_parent.count);
            return (
                ThreatState::Found,
                format!("entry {seq} is chained to the same entry as the one before it{more}"),
            );
        }
        if let Some((seq, kind)) = story.without_lock.first.first() {
            let more = and_more(story.without_lock.count);
            let words = format!(
                "entry {seq} was written on {kind}, where locks cannot be relied on{more}; one chain"
            );
            return (ThreatState::NotProved, words);
        }
        let words =
            format!("prevented by a lock from reading to signing; {} entries make one chain", self.lines());
        (ThreatState::Held, words)
    }

    fn crash(&self) -> Said {
        let (entries, torn) = (self.log.summary.unsigned_entries, self.log.summary.torn_bytes);
        let mut said: Vec<String> =
            self.landmarks(&EntryType::LOG_RECOVERED).take(4).map(recovered).collect();
        if let Some(more) =
            self.landmarks(&EntryType::LOG_RECOVERED).count().checked_sub(4).filter(|n| *n > 0)
        {
            said.push(format!("and {more} more"));
        }
        if entries > 0 || torn > 0 {
            said.insert(
                0,
                format!("UNSIGNED TAIL: {entries} entries and {torn} torn bytes, not yet recorded"),
            );
        }
        if said.is_empty() {
            return (ThreatState::Held, "no torn line, and no checkpoint is ahead of the log".to_owned());
        }
        (ThreatState::Found, said.join("; "))
    }

    fn acts(&self) -> Said {
        let story = &self.log.story;
        let mut said: Vec<String> = story.unfinished.iter().take(3).map(unfinished).collect();
        if let Some(more) = story.unfinished.len().checked_sub(3).filter(|n| *n > 0) {
            said.push(format!("and {more} more"));
        }
        said.extend(
            story.unasked.iter().take(3).map(|seq| format!("entry {seq} answers an offer that is not there")),
        );
        let state = if said.is_empty() { ThreatState::NotProved } else { ThreatState::Found };
        if let Some(longest) = story.gaps.first.iter().max_by_key(|gap| gap.length_ns) {
            let more = and_more(story.gaps.count);
            said.push(format!("GAP {} after entry {}{more}", span(longest.length_ns), longest.after));
        }
        if state == ThreatState::NotProved {
            said.push(
                "every act that was begun has its end; no log can show an act that was never logged"
                    .to_owned(),
            );
        }
        (state, said.join("; "))
    }

    fn verifier(&self) -> Said {
        let counts = &self.done.counts;
        if self.done.ciphertext_only {
            let words = "CIPHERTEXT ONLY: what is inside the encrypted files was not recomputed";
            return (ThreatState::NotProved, words.to_owned());
        }
        if self.done.data_not_read {
            return (ThreatState::NotProved, NOT_READ.to_owned());
        }
        match self.done.kind {
            Kind::Log => (
                ThreatState::NotProved,
                format!("{} entries recomputed; what they tell of was not looked at", self.size()),
            ),
            Kind::Bundle if self.done.verdict.level == Level::Open => (
                ThreatState::NotProved,
                "not sealed: there is no manifest that binds the evidence to the log".to_owned(),
            ),
            Kind::Bundle => (
                ThreatState::Held,
                format!(
                    "fail closed: {} files and {} chunks recomputed, bound to the seal by hash",
                    counts.files, counts.chunks
                ),
            ),
            Kind::Case => (
                ThreatState::Held,
                format!("fail closed: {} entries recomputed, case.json bound to entry 0", self.size()),
            ),
        }
    }

    fn decay(&self) -> Said {
        if self.done.data_not_read {
            return (ThreatState::NotProved, NOT_READ.to_owned());
        }
        let what = match self.done.kind {
            Kind::Bundle => format!("{} files read again", self.done.counts.files),
            Kind::Case | Kind::Log => format!("{} entries read again", self.lines()),
        };
        (
            ThreatState::Held,
            format!("{what} and hashed anew; an append signs only what fits the root signed before"),
        )
    }

    fn privacy(&self) -> Said {
        let origin = &self.log.summary.origin;
        let random = origin.strip_prefix("exhibit/").is_some_and(|id| {
            id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if random {
            return (
                ThreatState::Held,
                "the origin is random; an anchor is given origin, size and root only".to_owned(),
            );
        }
        (ThreatState::Found, format!("the origin {origin:?} is no random name, and every anchor is given it"))
    }
}

/// A fault in the words of the table.
fn words_of(fault: &Fault) -> String {
    let lead = match fault.kind {
        FaultKind::Chain | FaultKind::Root | FaultKind::Entry => match fault.place.entry {
            Some(seq) => format!("ALTERED entry {seq}"),
            None => format!("ALTERED {}", fault.place),
        },
        FaultKind::Spelling => match fault.place.entry {
            Some(seq) => format!("NON-CANONICAL line {seq}"),
            None => format!("NON-CANONICAL {}", fault.place),
        },
        FaultKind::Changed
        | FaultKind::Missing
        | FaultKind::Unlisted
        | FaultKind::Chunk
        | FaultKind::Stream
        | FaultKind::Table => format!("ALTERED {}", fault.place),
        FaultKind::Truncated | FaultKind::RolledBack | FaultKind::Fork | FaultKind::Genesis => {
            return fault.words.clone();
        }
        _ => fault.place.to_string(),
    };
    format!("{lead}: {}", fault.words)
}

fn recovered(entry: &Entry) -> String {
    let torn = entry.about.subject.iter().find(|subject| subject.id.starts_with(case_layout::TORN_PREFIX));
    match torn.and_then(|subject| Some((subject.size?, subject.sha256?))) {
        Some((size, hash)) => format!("RECOVERED: {size} torn bytes kept, hash {hash} (entry {})", entry.seq),
        None => format!("RECOVERED: whole entries that were not signed, by entry {}", entry.seq),
    }
}

fn unfinished((seq, act): (&u64, &Unfinished)) -> String {
    match &act.last {
        Some((last, kind)) => format!("UNFINISHED act seq {seq} ({}, last {kind} seq {last})", act.kind),
        None => format!("UNFINISHED act seq {seq} ({})", act.kind),
    }
}

fn independent(anchors: u32) -> String {
    match anchors {
        1 => "1 anchor independent of presenter".to_owned(),
        n => format!("{n} anchors independent of presenter"),
    }
}

fn and_more(count: u64) -> String {
    match count.saturating_sub(1) {
        0 => String::new(),
        1 => ", and 1 more".to_owned(),
        more => format!(", and {more} more"),
    }
}

/// A length of time in its largest fitting unit.
fn span(ns: i64) -> String {
    let seconds = ns.unsigned_abs() / 1_000_000_000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
