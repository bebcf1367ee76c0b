//! The check of a custody log: chain, tree, every checkpoint and anchor, keys, and what was kept aside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::anchors::{self, AnchorFact, AnchorKind};
use super::findings::{FaultKind, Findings, Place};
use super::handovers;
use super::log_files::{self, LogFiles};
use super::{Options, TrustedKey};
use crate::case_layout;
use crate::checkpoint::SignedCheckpoint;
use crate::digest::Digest;
use crate::entry::{Entry, EntryType};
use crate::error::Result;
use crate::keys::VerifyingKey;
use crate::log_keys::{HOW_ORIGIN, HOW_VKEY, LogKeys};
use crate::log_story::Story;
use crate::log_walk::{LineFault, LineFaultKind};
use crate::parties::{PartySignature, People};

/// What was found out about a log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogSummary {
    /// Its random name.
    pub origin: String,
    /// Entries that a signed checkpoint covers.
    pub size: u64,
    /// The root over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// Whole entries after those, signed by nobody.
    pub unsigned_entries: u64,
    /// Bytes of a torn line after the last whole entry.
    pub torn_bytes: u64,
    /// Fingerprints of the keys that signed its newest checkpoint and may.
    pub signed_by: Vec<String>,
    /// The newest checkpoint that holds, whole: a signed note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Checkpoints verified, the newest included.
    pub checkpoints: u64,
    /// The anchors that count, in words, one for each party.
    pub anchors: Vec<String>,
    /// Every anchor that was found and checked, whether it counts or not.
    pub anchored: Vec<AnchorFact>,
    /// Every signature of a party to a handover.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<PartySignature>,
}

/// What the checks of a bundle or case need to know about its log.
#[derive(Debug, Default)]
pub(super) struct LogCheck {
    pub(super) summary: LogSummary,
    /// Entries that matter, of those that are signed for.
    pub(super) landmarks: Vec<Entry>,
    pub(super) keys: Option<LogKeys>,
    pub(super) genesis_vkey: String,
    /// Whether a trusted key stands behind it.
    pub(super) trusted: bool,
    /// For each party that counts: how many entries it covers, and whether it is a trusted key that cosigned.
    pub(super) anchored: Vec<(u64, bool)>,
    /// The newest checkpoint that holds, and the keys that signed it and may.
    pub(super) head: Option<(SignedCheckpoint, Vec<VerifyingKey>)>,
    /// What its entries tell together.
    pub(super) story: Story,
    /// The size at which the verifier saw it before and which it was compared with.
    pub(super) remembered: Option<u64>,
    /// Checkpoints from outside that were compared with it.
    pub(super) compared: usize,
}

impl LogCheck {
    pub(super) fn unsigned_tail(&self) -> bool {
        self.summary.unsigned_entries > 0 || self.summary.torn_bytes > 0
    }

    pub(super) fn entries_of<'a>(&'a self, kind: &'a EntryType) -> impl Iterator<Item = &'a Entry> {
        self.landmarks.iter().filter(move |entry| entry.kind == *kind)
    }
}

/// Verifies the log in `folder`.
pub(super) fn verify(folder: &Path, options: &Options, findings: &mut Findings) -> Result<LogCheck> {
    let outside = options.outside.sizes();
    let remembered = options.memory.sizes();
    let more: BTreeSet<u64> = outside.chain(remembered).collect();
    let Some(files) = log_files::read(folder, &more, findings)? else { return Ok(LogCheck::default()) };
    let mut check = Check {
        files,
        options,
        findings,
        origin: String::new(),
        vkey: String::new(),
        wrong_roots: Vec::new(),
        claimed: 0,
    };
    Ok(check.run())
}

pub(super) struct Check<'a> {
    pub(super) files: LogFiles,
    pub(super) options: &'a Options,
    pub(super) findings: &'a mut Findings,
    pub(super) origin: String,
    vkey: String,
    /// Checkpoints that a key of the log signed, and whose root the log does not give.
    wrong_roots: Vec<(u64, String)>,
    /// The largest size that a key of the log signed and the log does not reach.
    claimed: u64,
}

/// How many whole entries before it, which nobody had signed, a recovery took in.
fn recovered(entry: &Entry) -> u64 {
    entry.about.how.get("entries").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

impl Check<'_> {
    fn run(&mut self) -> LogCheck {
        let Some(genesis) = self.genesis() else {
            let place = Place::entry(0);
            self.findings.fault(
                place,
                FaultKind::Genesis,
                "WRONG GENESIS: neither the first entry nor keys/log.vkey holds a log key",
            );
            return LogCheck::default();
        };
        let keys = self.keys(genesis);
        let head = self.checkpoints(&keys);
        let size = head.as_ref().map_or(0, |head| head.checkpoint.size);
        for key in keys.all().iter().filter(|key| !key.accepted && key.introduced < size) {
            let words = format!("no earlier key vouches for the key {} that it adds", key.key.fingerprint());
            self.findings.fault(Place::entry(key.introduced), FaultKind::Key, words);
        }
        let covered = self.lines(head.as_ref());
        self.writers(&keys, size);
        self.frontier(size);
        self.kept_rule(size);
        self.torn_files(size);
        self.taken_in(size);
        let anchored = self.anchors(&keys);
        let parties: Vec<AnchorFact> = anchors::by_party(&anchored);
        let remembered = self.memory();
        let outside = self.options.outside.notes.iter().map(|(_, note)| note);
        let compared = outside.filter(|note| note.checkpoint.origin == self.origin).count();
        self.findings.notes.append(&mut self.files.walk.notes);
        let whole = self.files.walk.frontier.size();
        let mut landmarks = std::mem::take(&mut self.files.walk.landmarks);
        // Without any good checkpoint the verdict is settled; the entries still help to say what is wrong.
        landmarks.retain(|entry| entry.seq < size || head.is_none());
        let people = People {
            signers: self.options.signers.clone(),
            trusted: self.options.trust.iter().map(TrustedKey::fingerprint).collect(),
        };
        let signatures = handovers::verify(&landmarks, &people, self.findings);
        let signers: Vec<VerifyingKey> = head.as_ref().map_or_else(Vec::new, |head| {
            keys.valid_at(size).filter(|key| head.is_signed_by(key)).copied().collect()
        });
        let trust = |key: &VerifyingKey| self.options.trust.iter().any(|trusted| trusted.is_for_logs(key));
        // All later keys were vouched for by a chain that the genesis key began.
        let trusted = signers.iter().any(trust) || (!signers.is_empty() && trust(&genesis));
        let summary = LogSummary {
            origin: self.origin.clone(),
            size,
            root: head.as_ref().map(|head| head.checkpoint.root),
            unsigned_entries: whole.saturating_sub(covered),
            torn_bytes: self.files.walk.torn_bytes,
            signed_by: signers.iter().map(VerifyingKey::fingerprint).collect(),
            checkpoint: head.as_ref().map(|head| head.note.to_text()),
            checkpoints: self.files.kept.len() as u64 + u64::from(self.files.checkpoint.is_some()),
            anchors: parties.iter().map(|fact| fact.words.clone()).collect(),
            anchored,
            parties: signatures,
        };
        if summary.unsigned_entries > 0 || summary.torn_bytes > 0 {
            self.findings.note(format!(
                "UNSIGNED TAIL: {} whole entries and {} torn bytes follow what the newest checkpoint covers; the \
                 next append records them",
                summary.unsigned_entries, summary.torn_bytes
            ));
        }
        LogCheck {
            summary,
            landmarks,
            keys: Some(keys),
            genesis_vkey: self.vkey.clone(),
            trusted,
            anchored: parties
                .iter()
                .map(|fact| (fact.covers, fact.kind == AnchorKind::Cosignature))
                .collect(),
            head: head.map(|head| (head, signers)),
            story: std::mem::take(&mut self.files.walk.story),
            remembered,
            compared,
        }
    }

    /// The log's first key: of the first entry and of `keys/log.vkey`, which must be the same.
    fn genesis(&mut self) -> Option<VerifyingKey> {
        let first = self.files.walk.landmarks.first().filter(|entry| entry.kind == EntryType::LOG_GENESIS);
        let said = first.and_then(|entry| entry.how_text(HOW_VKEY)).map(str::to_owned);
        let of_entry = said.as_deref().and_then(|vkey| VerifyingKey::from_vkey(vkey).ok());
        if let (Some(entry), Some((origin, _))) = (first, &of_entry)
            && entry.how_text(HOW_ORIGIN) != Some(origin)
        {
            let words = "WRONG GENESIS: its origin and the name of its key differ";
            self.findings.fault(Place::entry(0), FaultKind::Genesis, words);
        }
        let file = self.files.vkey.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let file = file.and_then(|text| text.strip_suffix('\n'));
        let of_file = file.and_then(|vkey| VerifyingKey::from_vkey(vkey).ok());
        let signs = |found: &&(String, VerifyingKey)| {
            let mut notes = self.files.checkpoint.iter().chain(self.files.kept.values());
            notes.any(|note| note.checkpoint.origin == found.0 && note.is_signed_by(&found.1))
        };
        // Where they differ, the one that signed is right.
        let chosen = match (&of_entry, &of_file) {
            (Some(entry), Some(file)) if entry != file => {
                [file, entry].into_iter().find(signs).unwrap_or(entry)
            }
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => return None,
        }
        .clone();
        if of_entry.as_ref() != Some(&chosen) {
            self.findings.fault(
                Place::entry(0),
                FaultKind::Genesis,
                "WRONG GENESIS: the first entry does not hold the log's first key",
            );
        }
        if of_file.as_ref() != Some(&chosen) && self.files.vkey.is_some() {
            let words = "WRONG GENESIS: it is not the key that the first entry names";
            self.findings.fault(Place::file(case_layout::LOG_VKEY), FaultKind::Genesis, words);
        }
        let (origin, key) = chosen;
        self.vkey = key.to_vkey(&origin);
        self.origin = origin;
        Some(key)
    }

    pub(super) fn root_fits(&self, signed: &SignedCheckpoint) -> bool {
        signed.checkpoint.origin == self.origin
            && self
                .files
                .walk
                .at
                .get(&signed.checkpoint.size)
                .is_some_and(|mark| mark.frontier.root() == signed.checkpoint.root)
    }

    fn keys(&self, genesis: VerifyingKey) -> LogKeys {
        let signed: Vec<_> = self
            .files
            .checkpoint
            .iter()
            .chain(self.files.kept.values())
            .filter(|note| self.root_fits(note))
            .collect();
        LogKeys::gather(&self.origin, genesis, &self.files.walk.landmarks, &signed)
    }

    /// Verifies `checkpoint` and all that were kept; gives the one that covers most.
    fn checkpoints(&mut self, keys: &LogKeys) -> Option<SignedCheckpoint> {
        let mut all: Vec<(String, SignedCheckpoint)> = Vec::new();
        all.extend(self.files.checkpoint.clone().map(|signed| (case_layout::CHECKPOINT.to_owned(), signed)));
        let kept = self.files.kept.iter();
        all.extend(
            kept.map(|(name, signed)| (format!("{}/{name}", case_layout::CHECKPOINTS), signed.clone())),
        );
        let mut head: Option<SignedCheckpoint> = None;
        for (file, signed) in all {
            if self.checkpoint_holds(&file, &signed, keys)
                && head.as_ref().is_none_or(|head| head.checkpoint.size < signed.checkpoint.size)
            {
                head = Some(signed);
            }
        }
        head
    }

    fn checkpoint_holds(&mut self, file: &str, signed: &SignedCheckpoint, keys: &LogKeys) -> bool {
        let size = signed.checkpoint.size;
        let entries = self.files.walk.frontier.size();
        let place = || Place::file(file);
        if signed.checkpoint.origin != self.origin {
            let words = format!(
                "WRONG GENESIS: it is of the log {:?}, not of {:?}",
                signed.checkpoint.origin, self.origin
            );
            self.findings.fault(place(), FaultKind::Genesis, words);
            return false;
        }
        let forged = keys.all().iter().any(|key| signed.note.is_forged_for(&self.origin, &key.key));
        if forged || !keys.accept(signed) {
            let known = keys.all().iter().any(|key| signed.is_signed_by(&key.key));
            let (kind, words) = if forged || !known {
                (FaultKind::Signature, "no signature on it verifies under a key of the log")
            } else {
                (
                    FaultKind::Key,
                    "SIGNED BY KEY OUTSIDE ITS WINDOW: signed by a key outside the entries it may sign for",
                )
            };
            self.findings.fault(place(), kind, words);
            return false;
        }
        self.unknown_signers(file, signed, keys);
        // From here on the checkpoint is what was signed, so the log is at fault.
        if size > entries {
            let words = format!("TRUNCATED: have {entries}, {file} says >={size}");
            self.findings.fault(Place::entry(entries), FaultKind::Truncated, words);
            self.claimed = self.claimed.max(size);
            return false;
        }
        if !self.root_fits(signed) {
            self.wrong_roots.push((size, file.to_owned()));
            return false;
        }
        true
    }

    /// A signature by nobody who is known here proves nothing, but it may be a known one's that was damaged.
    fn unknown_signers(&mut self, file: &str, signed: &SignedCheckpoint, keys: &LogKeys) {
        for line in signed.note.signatures() {
            let of_log = keys
                .all()
                .iter()
                .any(|key| line.name == self.origin && line.key_id == key.key.note_id(&self.origin));
            // What a trusted witness signed is said with the anchors.
            if !of_log {
                let words =
                    format!("{file} carries a signature by {}, which is by no key of the log", line.name);
                self.findings.note(words);
            }
        }
    }

    /// Faults of single lines, then of the roots that they do not explain.
    ///
    /// Lines that nothing signed covers are an unsigned tail and no fault. Gives how many entries are covered.
    fn lines(&mut self, head: Option<&SignedCheckpoint>) -> u64 {
        let good = head.map_or(0, |head| head.checkpoint.size);
        let wrong = std::mem::take(&mut self.wrong_roots);
        // Of a log that was cut, every line that is left was signed for.
        let covered = wrong.iter().map(|(size, _)| *size).max().unwrap_or(0).max(good).max(self.claimed);
        let covered = if head.is_none() { u64::MAX } else { covered };
        // A chain fault is between its line and the next.
        let reach =
            |fault: &LineFault| fault.line.saturating_add(u64::from(fault.kind == LineFaultKind::Chain));
        let mut faults = std::mem::take(&mut self.files.walk.faults);
        faults.retain(|fault| reach(fault) < covered);
        for fault in &faults {
            let kind = match fault.kind {
                LineFaultKind::Spelling => FaultKind::Spelling,
                // Whatever was cut off before the first line, or put in its place.
                _ if fault.begins => FaultKind::Genesis,
                LineFaultKind::Chain => FaultKind::Chain,
                LineFaultKind::Order => FaultKind::Entry,
            };
            self.findings.fault(Place::entry(fault.line), kind, fault.words.as_str());
        }
        // The smallest root that fails says most: what fits a smaller one was not changed.
        let Some((size, file)) = wrong.into_iter().min() else { return covered };
        let last = size.saturating_sub(1);
        let said = format!("the first {size} entries do not give the root signed in {file}");
        // What lies there fits a later signed head, so the same keys signed two logs.
        if size <= good {
            let words = format!("FORK: two signed heads, size {size}, different root: {said}");
            self.findings.fault(Place::entry(size.saturating_sub(1)), FaultKind::Fork, words);
            return covered;
        }
        if faults.iter().any(|fault| reach(fault) < last) {
            self.findings.fault(Place::file(case_layout::LOG), FaultKind::Root, said);
        } else {
            // The chain up to here is whole, so its last entry was changed, or more were and written anew.
            let from = if good < last {
                format!(", or others from {good} on with all after them")
            } else {
                String::new()
            };
            let words = format!("{said}: entry {last} was changed{from}");
            self.findings.fault(Place::entry(last), FaultKind::Root, words);
        }
        covered
    }

    /// Every entry must name as its writer a key that might sign for it then.
    fn writers(&mut self, keys: &LogKeys, size: u64) {
        for (fingerprint, (first, last)) in std::mem::take(&mut self.files.walk.writers) {
            if first >= size {
                continue;
            }
            let mut known =
                keys.all().iter().filter(|key| key.accepted && key.key.fingerprint() == fingerprint);
            let (place, words) = match known.next() {
                None => (first, format!("it names the key {fingerprint}, which may sign nothing here")),
                Some(key) if first < key.introduced => {
                    let from = key.introduced;
                    (first, format!("it names the key {fingerprint}, which came with entry {from} only"))
                }
                Some(key) => match key.revoked.filter(|revoked| *revoked <= last && last < size) {
                    Some(revoked) => {
                        (last, format!("it names the key {fingerprint}, which entry {revoked} had revoked"))
                    }
                    None => continue,
                },
            };
            let words = format!("SIGNED BY KEY OUTSIDE ITS WINDOW: {words}");
            self.findings.fault(Place::entry(place), FaultKind::Key, words);
        }
    }

    fn frontier(&mut self, size: u64) {
        let Some(frontier) = &self.files.frontier else { return };
        let mark = self.files.walk.at.get(&frontier.size());
        let signed = |signed: &SignedCheckpoint| {
            signed.checkpoint.size == frontier.size() && signed.checkpoint.root == frontier.root()
        };
        // Where it gives a signed root, it is the log that was changed.
        if self.files.checkpoint.as_ref().is_some_and(signed) {
            return;
        }
        if mark.is_none_or(|mark| mark.frontier != *frontier) {
            let words = "its hashes are not those of the log";
            self.findings.fault(Place::file(case_layout::FRONTIER), FaultKind::Frontier, words);
        } else if frontier.size() != size {
            let words = format!("custody.frontier is of size {}, the checkpoint of {size}", frontier.size());
            self.findings.note(words);
        }
    }

    /// After each seal, handover, anchor and close a checkpoint must have been kept.
    fn kept_rule(&mut self, size: u64) {
        let kept: BTreeSet<u64> = self.files.kept.values().map(|signed| signed.checkpoint.size).collect();
        let by_seq: BTreeMap<u64, &Entry> =
            self.files.walk.landmarks.iter().map(|entry| (entry.seq, entry)).collect();
        let mut missing = Vec::new();
        for entry in
            self.files.walk.landmarks.iter().filter(|entry| entry.kind.keeps_checkpoint() && entry.seq < size)
        {
            // An interrupted writer left it to the recovery after it; see `CustodyLog::append`.
            let mut last = entry;
            while !kept.contains(&(last.seq + 1)) {
                let next = by_seq.get(&(last.seq + 1)).filter(|next| {
                    (next.kind == EntryType::LOG_RECOVERED
                        && recovered(next) >= next.seq.saturating_sub(entry.seq))
                        || (last.kind == EntryType::LOG_RECOVERED && next.kind == EntryType::KEY_ADDED)
                });
                match next {
                    Some(next) => last = next,
                    None => {
                        missing.push((entry.seq + 1, entry.kind.clone()));
                        break;
                    }
                }
            }
        }
        for (size, kind) in missing {
            let file = format!("{}/{}", case_layout::CHECKPOINTS, case_layout::kept_checkpoint_name(size));
            if !self.findings.names(&file) {
                let words = format!("the checkpoint kept after {kind} is not there");
                self.findings.fault(Place::file(file), FaultKind::Missing, words);
            }
        }
    }

    /// Entries that no writer signed when he wrote them, and that the next one signed with his own.
    fn taken_in(&mut self, size: u64) {
        for entry in self.files.walk.landmarks.iter().filter(|entry| entry.kind == EntryType::LOG_RECOVERED) {
            let entries = recovered(entry);
            if entries > 0 && entry.seq < size {
                self.findings.note(format!(
                    "what stands in the {entries} entries before entry {} was signed by nobody when it was written; \
                     the recovery there took it in",
                    entry.seq
                ));
            }
        }
    }

    /// Torn bytes that a recovery kept aside must be there, and no others.
    fn torn_files(&mut self, size: u64) {
        let mut known = BTreeSet::new();
        for entry in self.files.walk.landmarks.iter().filter(|entry| entry.kind == EntryType::LOG_RECOVERED) {
            for subject in &entry.about.subject {
                known.insert(subject.id.clone());
                let words = format!("not the torn bytes that entry {} recorded", entry.seq);
                match self.files.torn.get(&subject.id) {
                    Some((size, sha256))
                        if subject.size == Some(*size) && subject.sha256 == Some(*sha256) => {}
                    Some(_) => self.findings.fault(Place::file(&subject.id), FaultKind::Changed, words),
                    None => self.findings.fault(Place::file(&subject.id), FaultKind::Missing, words),
                }
            }
        }
        let due = case_layout::torn_name(self.files.walk.frontier.size(), 0);
        let due = due.strip_suffix('0').unwrap_or(&due).to_owned();
        for name in self.files.torn.keys().filter(|name| !known.contains(*name)) {
            if name.starts_with(&due) && self.files.walk.frontier.size() >= size {
                self.findings.notes.push(format!("{name} holds torn bytes that the next append will record"));
            } else {
                self.findings.fault(
                    Place::file(name),
                    FaultKind::Unlisted,
                    "no log.recovered entry names it",
                );
            }
        }
    }

    /// Compares with what the verifier saw before; gives how many entries that were.
    fn memory(&mut self) -> Option<u64> {
        let seen = self.options.memory.of(&self.origin)?;
        let entries = self.files.walk.frontier.size();
        if entries < seen.size {
            let words = format!("ROLLED BACK from {} to {entries}", seen.size);
            self.findings.fault(Place::entry(entries), FaultKind::RolledBack, words);
        } else if self.files.walk.at.get(&seen.size).is_none_or(|mark| mark.frontier.root() != seen.root) {
            let words =
                format!("FORK: the first {} entries had another root when they were seen before", seen.size);
            self.findings.fault(Place::entry(seen.size.saturating_sub(1)), FaultKind::Fork, words);
        }
        Some(seen.size)
    }
}
