//! Which anchors of a log hold, and which of them count: those that the presenter of the log does not control.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::findings::{FaultKind, Place};
use super::log::Check;
use super::trust::TrustedKey;
use crate::anchors::{Authorities, TimeStamp};
use crate::checkpoint::SignedCheckpoint;
use crate::entry::EntryType;
use crate::log_keys::LogKeys;

/// How a note says that a token proves nothing.
pub(super) const DOES_NOT_HOLD: &str = "does not hold";

/// What kind of anchor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorKind {
    /// An RFC 3161 token of a time-stamp authority.
    TimeStamp,
    /// A signature of somebody else over a checkpoint.
    Cosignature,
    /// A checkpoint that the verifier kept elsewhere.
    KeptCopy,
}

/// An anchor that holds for this log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnchorFact {
    /// What kind.
    pub kind: AnchorKind,
    /// Who vouches, by the name that they gave.
    pub who: String,
    /// What tells one party from another: a fingerprint, or the SHA-256 of a root certificate; empty of a kept copy.
    pub party: String,
    /// Whether it counts: it rests on something that the verifier brought.
    pub independent: bool,
    /// How many entries it covers, from the first.
    pub covers: u64,
    /// Those entries were there at this time, RFC 3339, as the party says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The file that holds it, from the log's folder or the folder that the verifier brought.
    pub file: String,
    /// One plain sentence.
    pub words: String,
}

/// The best fact of each party that counts.
pub(super) fn by_party(facts: &[AnchorFact]) -> Vec<AnchorFact> {
    let mut best: BTreeMap<&str, &AnchorFact> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.independent) {
        let known = best.entry(&fact.party).or_insert(fact);
        if known.covers < fact.covers {
            *known = fact;
        }
    }
    best.into_values().cloned().collect()
}

/// A checkpoint that a token may be over: where it lies, and what it is.
struct Stampable {
    file: String,
    outside: bool,
    text: String,
    signed: SignedCheckpoint,
}

impl Check<'_> {
    /// Checks every anchor, inside and brought along.
    pub(super) fn anchors(&mut self, keys: &LogKeys) -> Vec<AnchorFact> {
        self.anchor_files();
        let options = self.options;
        let foreign: Vec<&TrustedKey> = options
            .trust
            .iter()
            .filter(|trusted| !keys.all().iter().any(|key| trusted.is(&key.key)))
            .collect();
        let mut facts = Vec::new();
        let stampable = self.stampable();
        for candidate in &stampable {
            let name = &candidate.file;
            let damaged =
                keys.all().iter().any(|key| candidate.signed.note.is_forged_for(&self.origin, &key.key));
            let known = keys.accept(&candidate.signed)
                || keys.all().iter().any(|key| key.accepted && candidate.signed.is_signed_by(&key.key));
            let vouched: Vec<AnchorFact> = if self.root_fits(&candidate.signed) {
                foreign.iter().filter_map(|trusted| cosigned(trusted, candidate)).collect()
            } else {
                Vec::new()
            };
            let witnessed = foreign.iter().any(|trusted| trusted.signed(&candidate.signed.note).is_some());
            if !candidate.outside {
                // What lies in checkpoints/ was judged already; a note in anchors/ was not.
                // Its signer may be a key that another history no longer tells of.
                if name.starts_with("anchors/") && !damaged {
                    self.contradicted(name, &candidate.signed);
                }
            } else if damaged && !witnessed {
                let words =
                    format!("the anchor {name} is damaged: its signature does not verify; not counted");
                self.findings.note(words);
            } else if !known && !witnessed && self.root_fits(&candidate.signed) {
                self.findings.note(format!("the anchor {name} is signed by no known key; not counted"));
            // Where the key that signed it is not in the log either, what introduced it was cut off too.
            } else if !self.contradicted(&format!("the anchor {name}"), &candidate.signed)
                && vouched.is_empty()
            {
                facts.push(kept_copy(candidate));
            }
            facts.extend(vouched);
        }
        let stamps = Stamps::over(&stampable);
        let inside: Vec<(String, TimeStamp, String)> = self
            .files
            .anchors
            .iter()
            .filter_map(|(path, anchor)| {
                let beside = path.strip_suffix(".tsr").map(|stem| format!("{stem}.chain.pem"));
                let beside = beside.and_then(|path| self.files.anchors.get(&path)?.pem.clone());
                Some((path.clone(), anchor.stamp.clone()?, beside.unwrap_or_default()))
            })
            .collect();
        let mut authorities = options.authorities.clone();
        authorities.add_all(&options.outside.authorities);
        for (path, stamp, helpers) in &inside {
            self.time_stamp(path, stamp, (helpers, &authorities), &stamps, &mut facts);
        }
        for (name, stamp) in &options.outside.stamps {
            self.time_stamp(name, stamp, ("", &authorities), &stamps, &mut facts);
        }
        for (name, why) in &options.outside.unread {
            self.findings.note(format!("{name} is no anchor that can be read ({why}); not counted"));
        }
        self.clocks(&facts);
        facts
    }

    /// Every checkpoint that something may vouch for: those inside that are whole, and those brought along.
    fn stampable(&self) -> Vec<Stampable> {
        let of = |file: String, outside, signed: &SignedCheckpoint| Stampable {
            file,
            outside,
            text: signed.note.to_text(),
            signed: signed.clone(),
        };
        let mut found = Vec::new();
        found.extend(self.files.checkpoint.as_ref().map(|signed| of("checkpoint".to_owned(), false, signed)));
        found.extend(
            self.files.kept.iter().map(|(name, signed)| of(format!("checkpoints/{name}"), false, signed)),
        );
        let notes =
            self.files.anchors.iter().filter_map(|(path, anchor)| Some((path, anchor.note.as_ref()?)));
        found.extend(notes.map(|(path, signed)| of(path.clone(), false, signed)));
        let brought = self.options.outside.notes.iter();
        found.extend(brought.map(|(name, signed)| of(name.clone(), true, signed)));
        found.retain(|candidate| candidate.signed.checkpoint.origin == self.origin);
        found
    }

    /// Says so when a checkpoint of this log does not fit it.
    fn contradicted(&mut self, name: &str, signed: &SignedCheckpoint) -> bool {
        let (size, entries) = (signed.checkpoint.size, self.files.walk.frontier.size());
        if self.root_fits(signed) {
            return false;
        }
        if size > entries {
            let words = format!("TRUNCATED: have {entries}, {name} says >={size}");
            self.findings.fault(Place::entry(entries), FaultKind::Truncated, words);
        } else {
            let words = format!("FORK: {name} has another root for the first {size} entries");
            self.findings.fault(Place::entry(size.saturating_sub(1)), FaultKind::Fork, words);
        }
        true
    }

    /// Checks one token, against the checkpoint that it is over.
    fn time_stamp(
        &mut self,
        name: &str,
        stamp: &TimeStamp,
        (helpers, authorities): (&str, &Authorities),
        stamps: &Stamps<'_>,
        facts: &mut Vec<AnchorFact>,
    ) {
        let Some(over) = stamps.find(stamp) else {
            let other = self.options.outside.notes.iter();
            let of_another_log = other
                .filter(|(_, note)| note.checkpoint.origin != self.origin)
                .any(|(_, note)| stamp.is_over(note.note.to_text().as_bytes()));
            if !of_another_log {
                self.findings.note(format!(
                    "{name} is a time stamp over no checkpoint of this log that is here; not counted"
                ));
            }
            return;
        };
        if !self.root_fits(&over.signed) {
            // Said already: TRUNCATED or FORK.
            return;
        }
        let covers = over.signed.checkpoint.size;
        let mut fact = AnchorFact {
            kind: AnchorKind::TimeStamp,
            who: String::new(),
            party: String::new(),
            independent: false,
            covers,
            time: Some(stamp.time()),
            file: name.to_owned(),
            words: String::new(),
        };
        match stamp.verify(over.text.as_bytes(), authorities, helpers) {
            Ok(proof) => {
                fact.words = format!("the first {covers} entries were there: {} ({name})", proof.words());
                fact.who.clone_from(&proof.authority);
                fact.party = proof.root_sha256;
                fact.independent = true;
                facts.push(fact);
            }
            Err(why) => match stamp.signer(over.text.as_bytes(), helpers) {
                Ok(who) => {
                    let reason = if authorities.is_empty() {
                        "bring its root certificate with --trust to have it count".to_owned()
                    } else {
                        crate::anchors::words_of(why)
                    };
                    fact.words = format!(
                        "time stamp by {who} over the first {covers} entries, {}: not counted; {reason} ({name})",
                        stamp.time()
                    );
                    self.findings.note(fact.words.clone());
                    fact.who = who;
                    facts.push(fact);
                }
                Err(damage) => {
                    let words = format!(
                        "the time stamp {name} {DOES_NOT_HOLD}: {}; not counted",
                        crate::anchors::words_of(damage)
                    );
                    self.findings.note(words);
                }
            },
        }
    }

    /// Entries cannot be younger than a time at which they were there.
    fn clocks(&mut self, facts: &[AnchorFact]) {
        for fact in facts.iter().filter(|fact| fact.independent) {
            let Some(mark) = self.files.walk.at.get(&fact.covers) else { continue };
            let parse = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
            let (Some(time), Some(claimed)) =
                (fact.time.as_deref().and_then(parse), parse(&mark.latest_wall))
            else {
                continue;
            };
            let ahead = claimed.signed_duration_since(time).num_milliseconds();
            // What an authority's own clock may be off by.
            if ahead > 2000 {
                self.findings.note(format!(
                    "CLOCK: {} had the first {} entries at {}, and one of them says that it was written at {}: the \
                     host's clock was at least {} s ahead of theirs",
                    fact.who,
                    fact.covers,
                    fact.time.as_deref().unwrap_or_default(),
                    mark.latest_wall,
                    ahead / 1000
                ));
            }
        }
    }

    /// Every file in `anchors/` must be one that an `anchor.made` entry names, and the other way round.
    fn anchor_files(&mut self) {
        let mut known = BTreeSet::new();
        for entry in self.files.walk.landmarks.iter().filter(|entry| entry.kind == EntryType::ANCHOR_MADE) {
            for subject in entry.about.subject.iter().filter(|subject| subject.id.starts_with("anchors/")) {
                known.insert(subject.id.clone());
                match self.files.anchors.get(&subject.id) {
                    Some(anchor)
                        if subject.sha256 == Some(anchor.sha256)
                            && subject.size.is_none_or(|size| size == anchor.size) => {}
                    Some(_) => {
                        let words = format!("not the anchor that entry {} recorded", entry.seq);
                        self.findings.fault(Place::file(&subject.id), FaultKind::Changed, words);
                    }
                    None if self.findings.names(&subject.id) => {}
                    None => {
                        let words = format!("the anchor that entry {} recorded is not there", entry.seq);
                        self.findings.fault(Place::file(&subject.id), FaultKind::Missing, words);
                    }
                }
            }
        }
        for (path, anchor) in &self.files.anchors {
            if !known.contains(path) {
                self.findings.fault(Place::file(path), FaultKind::Unlisted, "no anchor.made entry names it");
            } else if anchor.note.is_none() && anchor.stamp.is_none() && anchor.pem.is_none() {
                self.findings.note(format!("{path} is no anchor that can be read; not counted"));
            }
        }
    }
}

/// A trusted key that is none of the log's own signed the checkpoint.
fn cosigned(trusted: &TrustedKey, candidate: &Stampable) -> Option<AnchorFact> {
    let cosignature = trusted.signed(&candidate.signed.note)?;
    let covers = candidate.signed.checkpoint.size;
    let (party, file) = (trusted.fingerprint(), candidate.file.clone());
    let (who, time) = match &cosignature {
        Some(found) => (found.name.clone(), Some(found.time())),
        None => (party.clone(), None),
    };
    let at = time.as_ref().map_or_else(String::new, |time| format!(" at {time}"));
    let words = format!("the first {covers} entries, cosigned{at} by the trusted key {party} in {file}");
    Some(AnchorFact {
        kind: AnchorKind::Cosignature,
        who,
        party,
        independent: true,
        covers,
        time,
        file,
        words,
    })
}

fn kept_copy(candidate: &Stampable) -> AnchorFact {
    let (covers, file) = (candidate.signed.checkpoint.size, candidate.file.clone());
    AnchorFact {
        kind: AnchorKind::KeptCopy,
        who: "the verifier".to_owned(),
        party: String::new(),
        independent: true,
        covers,
        time: None,
        words: format!("the first {covers} entries, by the checkpoint kept elsewhere in {file}"),
        file,
    }
}

/// Checkpoints by their hash, so that many tokens cost one look each.
struct Stamps<'a> {
    all: &'a [Stampable],
    by_hash: BTreeMap<Vec<u8>, usize>,
}

impl<'a> Stamps<'a> {
    fn over(all: &'a [Stampable]) -> Self {
        let mut by_hash = BTreeMap::new();
        for (at, candidate) in all.iter().enumerate() {
            for hash in crate::anchors::imprints(candidate.text.as_bytes()) {
                by_hash.entry(hash).or_insert(at);
            }
        }
        Self { all, by_hash }
    }

    fn find(&self, stamp: &TimeStamp) -> Option<&'a Stampable> {
        self.all.get(*self.by_hash.get(stamp.imprint())?)
    }
}
