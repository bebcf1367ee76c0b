//! Which keys may sign a log, and from where to where.
//!
//! The genesis key may from the start. A key that `key.added` brings is accepted only when an earlier accepted
//! key vouches for it: by signing a checkpoint that covers that entry, or one that covers an earlier
//! `transfer.offered` which names the key. A key that `key.revoked` names may sign nothing from there on.

use std::collections::HashMap;

use serde::Serialize;

use crate::checkpoint::SignedCheckpoint;
use crate::entry::{Entry, EntryType};
use crate::keys::VerifyingKey;

/// In `how` of `log.genesis` and `key.added`: the key, as a C2SP verifier key.
pub const HOW_VKEY: &str = "vkey";
/// In `how` of `log.genesis`: the log's origin.
pub const HOW_ORIGIN: &str = "origin";
/// In `how` of `key.revoked`: the key's fingerprint.
pub const HOW_FINGERPRINT: &str = "fingerprint";
/// In `how` of `transfer.offered`: the fingerprint of the receiver's key.
pub const HOW_TO_KEY: &str = "to_key";

/// In `how` of `key.added`: whose key it is.
pub const HOW_NAME: &str = "name";
/// In `how` of `key.revoked`: why.
pub const HOW_REASON: &str = "reason";

/// A key of a log, and the entries that it may sign for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyWindow {
    /// Its fingerprint.
    pub fingerprint: String,
    /// The key, as a C2SP verifier key of the log.
    pub vkey: String,
    /// Whose it is, where the log says so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The entry that brought it.
    pub introduced: u64,
    /// The entry that revoked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// Why it was revoked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it is the first key, or an earlier one vouches for it; else it may sign nothing.
    pub accepted: bool,
}

/// More keys than any log needs; what is added beyond them is not accepted.
const MOST_KEYS: usize = 1000;

/// The keys of one log.
#[derive(Debug)]
pub(crate) struct LogKeys {
    origin: String,
    keys: Vec<LogKey>,
}

#[derive(Debug)]
pub(crate) struct LogKey {
    pub(crate) key: VerifyingKey,
    /// The entry that brought it.
    pub(crate) introduced: u64,
    /// The entry that revoked it.
    pub(crate) revoked: Option<u64>,
    /// Whether it is vouched for.
    pub(crate) accepted: bool,
}

impl LogKey {
    fn may_sign(&self, size: u64) -> bool {
        self.accepted && self.introduced < size && self.revoked.is_none_or(|seq| size <= seq)
    }
}

impl LogKeys {
    /// Gathers keys from a log's entries.
    ///
    /// `signed` must hold only checkpoints whose root the log was found to give; their signatures are verified
    /// here.
    pub(crate) fn gather(
        origin: &str,
        genesis: VerifyingKey,
        entries: &[Entry],
        signed: &[&SignedCheckpoint],
    ) -> Self {
        let mut keys = vec![LogKey { key: genesis, introduced: 0, revoked: None, accepted: true }];
        let mut offers: HashMap<&str, u64> = HashMap::new();
        let mut named_at = HashMap::new();
        for entry in entries {
            if entry.kind == EntryType::TRANSFER_OFFERED {
                if let Some(to) = entry.how_text(HOW_TO_KEY) {
                    offers.entry(to).or_insert(entry.seq);
                }
            } else if entry.kind == EntryType::KEY_ADDED && keys.len() < MOST_KEYS {
                if let Some((_, key)) =
                    entry.how_text(HOW_VKEY).and_then(|text| VerifyingKey::from_vkey(text).ok())
                {
                    let offered = offers.get(key.fingerprint().as_str()).copied();
                    named_at.insert(keys.len(), offered.unwrap_or(entry.seq));
                    keys.push(LogKey { key, introduced: entry.seq, revoked: None, accepted: false });
                }
            } else if entry.kind == EntryType::KEY_REVOKED {
                let gone = entry.how_text(HOW_FINGERPRINT).unwrap_or_default();
                for key in keys.iter_mut().filter(|key| key.key.fingerprint() == gone) {
                    key.revoked = key.revoked.or(Some(entry.seq));
                }
            }
        }
        let signers: Vec<(u64, Vec<usize>)> =
            signed.iter().map(|signed| (signed.checkpoint.size, signers_of(signed, origin, &keys))).collect();
        for at in 1..keys.len() {
            let named = named_at.get(&at).copied().unwrap_or(u64::MAX);
            let vouched = signers.iter().filter(|(size, _)| *size > named).any(|(size, signers)| {
                signers
                    .iter()
                    .any(|signer| *signer < at && keys.get(*signer).is_some_and(|key| key.may_sign(*size)))
            });
            if let Some(key) = keys.get_mut(at) {
                key.accepted = vouched;
            }
        }
        Self { origin: origin.to_owned(), keys }
    }

    /// The keys that may sign a checkpoint of this size.
    pub(crate) fn valid_at(&self, size: u64) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter().filter(move |key| key.may_sign(size)).map(|key| &key.key)
    }

    /// Each key with its window; names and reasons are looked up in these entries.
    pub(crate) fn windows(&self, entries: &[Entry]) -> Vec<KeyWindow> {
        let by_seq: HashMap<u64, &Entry> = entries.iter().map(|entry| (entry.seq, entry)).collect();
        let said = |seq: Option<u64>, fact: &str| {
            seq.and_then(|seq| by_seq.get(&seq)?.how_text(fact)).unwrap_or_default().to_owned()
        };
        let window = |key: &LogKey| KeyWindow {
            fingerprint: key.key.fingerprint(),
            vkey: key.key.to_vkey(&self.origin),
            name: said(Some(key.introduced), HOW_NAME),
            introduced: key.introduced,
            revoked: key.revoked,
            reason: said(key.revoked, HOW_REASON),
            accepted: key.accepted,
        };
        self.keys.iter().map(window).collect()
    }

    /// Every key, accepted or not, in the order they came.
    pub(crate) fn all(&self) -> &[LogKey] {
        &self.keys
    }

    /// Whether a checkpoint carries a good signature by a key that may sign it.
    pub(crate) fn accept(&self, signed: &SignedCheckpoint) -> bool {
        self.valid_at(signed.checkpoint.size).any(|key| signed.is_signed_by(key))
    }
}

/// Which of `keys` signed, found by key id so that a long list of strangers costs nothing.
fn signers_of(signed: &SignedCheckpoint, origin: &str, keys: &[LogKey]) -> Vec<usize> {
    let ids: Vec<[u8; 4]> = keys.iter().map(|key| key.key.note_id(origin)).collect();
    let claimed = |id: &[u8; 4]| signed.note.signatures().iter().any(|line| line.key_id == *id);
    let candidates = keys.iter().enumerate().zip(&ids).filter(|(_, id)| claimed(id));
    candidates
        .filter(|((_, key), _)| signed.note.is_signed_by(origin, &key.key))
        .map(|((at, _), _)| at)
        .collect()
}
