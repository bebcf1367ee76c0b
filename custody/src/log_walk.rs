//! One pass over a log's lines: chain, order, spelling and tree, without holding the log in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read as _};

use crate::clock::parse_rfc3339;
use crate::closing::allowed_after_close;
use crate::digest::{Digest, sha256};
use crate::entry::{Entry, EntryType, MAX_ENTRY};
use crate::error::Result;
use crate::log_story::Story;
use crate::merkle::Frontier;

/// What a pass over a log found.
#[derive(Debug, Default)]
pub(crate) struct LogWalk {
    /// The tree over all whole lines.
    pub(crate) frontier: Frontier,
    /// SHA-256 of the last whole line; zeros when there is none.
    pub(crate) last: Option<Digest>,
    /// Bytes of all whole lines.
    pub(crate) whole_bytes: u64,
    /// Bytes after the last line feed.
    pub(crate) torn_bytes: u64,
    /// The state at each size that was asked for and is not beyond the log's.
    pub(crate) at: BTreeMap<u64, Mark>,
    /// Entries that say something about the log itself, the seal or the exhibits.
    pub(crate) landmarks: Vec<Entry>,
    /// Lines that are wrong.
    pub(crate) faults: Vec<LineFault>,
    /// How many lines were wrong, more than are listed.
    pub(crate) fault_count: u64,
    /// Things worth saying that are no faults.
    pub(crate) notes: Vec<String>,
    /// What the entries tell together.
    pub(crate) story: Story,
    /// The keys that entries name as their writer's: the first and last entry of each. Bounded.
    pub(crate) writers: BTreeMap<String, (u64, u64)>,
    /// Who recovered the log in the entry before, and is not known yet.
    recoverer: Option<(String, u64)>,
    /// The line of the entry that closed the log.
    closed: Option<u64>,
}

/// The state of a log after a number of lines.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// The tree over those lines.
    pub(crate) frontier: Frontier,
    /// Where the next line begins.
    pub(crate) end: u64,
    /// SHA-256 of the last of those lines.
    pub(crate) last: Option<Digest>,
    /// The latest time that an entry among them claims.
    pub(crate) latest_wall: String,
}

/// A line that is wrong.
#[derive(Debug, Clone)]
pub(crate) struct LineFault {
    /// The number of the line, from 0; a log that is right has the entry of that number there.
    pub(crate) line: u64,
    pub(crate) kind: LineFaultKind,
    /// The line is the first, and not how a log begins: its number is not 0, or it is chained to another.
    pub(crate) begins: bool,
    pub(crate) words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineFaultKind {
    /// Not an entry in its canonical spelling.
    Spelling,
    /// Its number is not the next one.
    Order,
    /// It, or the entry after it, is not the one that was chained.
    Chain,
}

const MOST_FAULTS: usize = 100;
const MOST_NOTES: usize = 100;
const MOST_WRITERS: usize = 2000;

/// Walks a log from its first byte, and notes root and position at the sizes in `wanted`.
///
/// Stops nowhere: a wrong line is listed and the next is chained to it as it stands.
pub(crate) fn walk(mut log: impl BufRead, wanted: &BTreeSet<u64>) -> Result<LogWalk, std::io::Error> {
    let mut walk = LogWalk::default();
    let mut expected_seq = 0;
    let (mut last_wall, mut latest_wall) = (String::new(), String::new());
    let mut line = Vec::new();
    loop {
        if wanted.contains(&walk.frontier.size()) {
            let mark = Mark {
                frontier: walk.frontier.clone(),
                end: walk.whole_bytes,
                last: walk.last,
                latest_wall: latest_wall.clone(),
            };
            walk.at.insert(mark.frontier.size(), mark);
        }
        line.clear();
        let most = MAX_ENTRY as u64 + 1;
        let read = (&mut log).take(most).read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(walk);
        }
        if line.last() != Some(&b'\n') {
            let rest = std::io::copy(&mut log, &mut std::io::sink())?;
            walk.torn_bytes = read.saturating_add(rest);
            return Ok(walk);
        }
        line.pop();
        let number = walk.frontier.size();
        let prev = walk.last;
        walk.frontier.push(&line);
        walk.last = Some(sha256(&line));
        walk.whole_bytes = walk.whole_bytes.saturating_add(read);
        let entry = match Entry::parse(&line) {
            Ok(entry) => entry,
            Err(error) => {
                walk.fault(number, LineFaultKind::Spelling, error.to_string());
                walk.story.see_no_entry();
                expected_seq += 1;
                continue;
            }
        };
        if entry.seq != expected_seq {
            let said =
                format!("the entry calls itself number {}; number {expected_seq} is due here", entry.seq);
            let begins = number == 0;
            let words = if begins { format!("WRONG GENESIS: {said}") } else { said };
            walk.list(LineFault { line: number, kind: LineFaultKind::Order, begins, words });
        }
        expected_seq = entry.seq.saturating_add(1);
        if entry.prev != prev.unwrap_or(Digest([0; 32])) {
            walk.chain_fault(number);
        }
        walk.after_close(number, &entry);
        walk.writer(&entry);
        if !is_utc_with_9_digits(&entry.time.wall, &last_wall) {
            let words = "its time is no UTC time with 9 digits of a second".to_owned();
            walk.fault(number, LineFaultKind::Spelling, words);
        }
        walk.look_at(&entry, &last_wall);
        walk.story.see(&entry);
        last_wall.clone_from(&entry.time.wall);
        if latest_wall < last_wall {
            latest_wall.clone_from(&last_wall);
        }
        if is_landmark(&entry) {
            walk.landmarks.push(entry);
        }
    }
}

impl LogWalk {
    fn fault(&mut self, line: u64, kind: LineFaultKind, words: String) {
        self.list(LineFault { line, kind, begins: false, words });
    }

    fn list(&mut self, fault: LineFault) {
        self.fault_count += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    /// After the close only some entries may come.
    fn after_close(&mut self, number: u64, entry: &Entry) {
        match self.closed {
            Some(closed) if !allowed_after_close(&entry.kind) => {
                let words =
                    format!("a {} follows the close in entry {closed}, which allows none", entry.kind);
                self.fault(number, LineFaultKind::Order, words);
            }
            None if entry.kind == EntryType::CASE_CLOSED => self.closed = Some(number),
            _ => {}
        }
    }

    /// A recovery may be written with the introduction that follows it, before its key may sign.
    fn writer(&mut self, entry: &Entry) {
        let key = &entry.actor.key;
        if let Some((recoverer, seq)) = self.recoverer.take()
            && (recoverer != *key || entry.kind != EntryType::KEY_ADDED)
        {
            self.wrote(&recoverer, seq);
        }
        if entry.kind == EntryType::LOG_RECOVERED && !self.writers.contains_key(key) {
            self.recoverer = Some((key.clone(), entry.seq));
        } else if !key.is_empty() {
            self.wrote(key, entry.seq);
        }
    }

    fn wrote(&mut self, key: &str, seq: u64) {
        if let Some((_, last)) = self.writers.get_mut(key) {
            *last = seq;
        } else if self.writers.len() < MOST_WRITERS {
            self.writers.insert(key.to_owned(), (seq, seq));
        }
    }

    /// Entry `number` is not chained to the line before it: one of the two was changed.
    fn chain_fault(&mut self, number: u64) {
        match number.checked_sub(1) {
            None => {
                let words = "WRONG GENESIS: the first entry must be chained to 64 zeros".to_owned();
                self.list(LineFault { line: 0, kind: LineFaultKind::Chain, begins: true, words });
            }
            Some(before) => {
                let words = format!("entry {number} was chained to another entry {before} than this one");
                self.fault(before, LineFaultKind::Chain, words);
            }
        }
    }

    fn look_at(&mut self, entry: &Entry, last_wall: &str) {
        let mut say = |words: String| {
            if self.notes.len() < MOST_NOTES {
                self.notes.push(words);
            }
        };
        if entry.v != 1 {
            say(format!(
                "entry {} is of format version {}, which this version does not know",
                entry.seq, entry.v
            ));
        }
        if !entry.kind.is_known() {
            say(format!("entry {} has the unknown type {}", entry.seq, entry.kind));
        }
        // All times are UTC with 9 digits, so they sort as text.
        if entry.time.wall.as_str() < last_wall {
            say(format!(
                "the clock went back at entry {}, from {last_wall} to {}",
                entry.seq, entry.time.wall
            ));
        }
    }
}

/// Whether a time is spelled so that times sort as texts; `last` is a time that is.
fn is_utc_with_9_digits(wall: &str, last: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000000000Z";
    let fits = |(byte, due): (u8, &u8)| if *due == b'0' { byte.is_ascii_digit() } else { byte == *due };
    let shape = wall.len() == SHAPE.len() && wall.bytes().zip(SHAPE).all(fits);
    // The calendar is asked once for each minute.
    let same_minute = last.get(..17) == wall.get(..17) && wall.get(17..18) < Some("6");
    shape && (same_minute || parse_rfc3339(wall).is_ok())
}

/// Whether verifying or writing needs to see this entry again.
fn is_landmark(entry: &Entry) -> bool {
    let more = [
        EntryType::LOG_GENESIS,
        EntryType::EXHIBIT_ADDED,
        EntryType::ITEM_DISPOSED,
        EntryType::RETENTION_SET,
        EntryType::DISCLOSURE_MADE,
        EntryType::COPY_MADE,
        EntryType::EXPORT_MADE,
        EntryType::REPORT_ISSUED,
        EntryType::TIMELINE_BUILT,
    ];
    entry.kind.keeps_checkpoint()
        || more.contains(&entry.kind)
        || !entry.about.party_sigs.is_empty()
        || entry.about.subject.iter().any(|subject| subject.id == "manifest.json")
}
