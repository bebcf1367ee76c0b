//! Making anchors: asks every authority and witness at once over one checkpoint, and records what they gave.
//!
//! # Entries
//!
//! Each anchor is one `anchor.made` entry:
//!
//! | where | fact |
//! |---|---|
//! | `subject[0]` | the file: `anchors/00000007.NAME.tsr`, `….note` (a cosigned checkpoint) |
//! | `subject[1]` | of a token: `anchors/00000007.NAME.chain.pem`, the certificates that lie in it and beside it |
//! | `how.kind` | `time_stamp`, `cosignature` |
//! | `how.checkpoint` | the file that it is over: `checkpoints/00000007` |
//! | `how.url` | who was asked, where somebody was |
//! | `how.covers` | how many entries it covers, from the first |
//! | `how.waiting_since` | when the oldest of the entries was written that no earlier anchor of this kind covers |
//! | `result.time` | the time that the authority or witness states, RFC 3339 |
//! | `result.who` | the authority's name in its certificate, or the witness's name |
//! | `result.serial` | of a token: its serial number, in hex |
//! | `result.vkey` | of a cosignature: the witness's verifier key |
//!
//! What was asked for and not got is no entry: the log only says what was made.

use super::certificate;
use super::{Cosignature, Post, TimeStamp, Witness, ask_witness, request_time_stamp};
use crate::case_layout;
use crate::checkpoint::{SignedCheckpoint, SignedNote};
use crate::custody_log::{Appended, CustodyLog, Writer};
use crate::entry::{Entry, EntryType, NewEntry};
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;

/// In `how` of `anchor.made`: what kind of anchor.
pub const HOW_KIND: &str = "kind";
/// In `how` of `anchor.made`: the file that it is over.
pub const HOW_CHECKPOINT: &str = "checkpoint";
/// In `how` of `anchor.made`: the address that was asked.
pub const HOW_URL: &str = "url";
/// In `how` of `anchor.made`: how many entries it covers.
pub const HOW_COVERS: &str = "covers";
/// In `how` of `anchor.made`: since when the oldest entry waited that it is the first to cover.
pub const HOW_WAITING_SINCE: &str = "waiting_since";

/// [`HOW_KIND`] of a token.
pub const KIND_TIME_STAMP: &str = "time_stamp";
/// [`HOW_KIND`] of a cosigned checkpoint.
pub const KIND_COSIGNATURE: &str = "cosignature";

/// Whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parties {
    /// Addresses of time-stamp authorities.
    pub authorities: Vec<String>,
    /// Witnesses.
    pub witnesses: Vec<Witness>,
    /// Certificates in PEM that are kept beside each token, where an authority leaves its issuers out.
    pub chain: String,
}

/// What became of one request.
#[derive(Debug)]
pub struct Asked {
    /// Who was asked: an address.
    pub who: String,
    /// The entry and one sentence, or why there is none.
    pub outcome: Result<(Appended, String)>,
}

/// What is to be stored.
enum Got {
    Stamp(TimeStamp),
    Cosigned(Cosignature, VerifyingKey),
}

/// Anchors the newest checkpoint of a log, which is kept whole, with every party at once.
///
/// One that fails does not stop the others. Nothing but the checkpoint's hash, or the checkpoint itself, is sent: it
/// holds a random name, a number and a hash.
///
/// # Errors
///
/// Those of [`CustodyLog::keep_checkpoint`]. What a party did wrong is in its [`Asked`].
pub fn anchor(
    log: &CustodyLog,
    parties: &Parties,
    post: &dyn Post,
    writer: &Writer<'_>,
) -> Result<(SignedCheckpoint, Vec<Asked>)> {
    let checkpoint = log.keep_checkpoint(writer)?;
    let bytes = checkpoint.note.to_text();
    let gave: Vec<(String, Result<Got>)> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for url in &parties.authorities {
            let bytes = bytes.as_bytes();
            let ask = move || request_time_stamp(post, url, bytes).map(Got::Stamp);
            running.push((url.clone(), scope.spawn(ask)));
        }
        for witness in &parties.witnesses {
            let checkpoint = &checkpoint;
            let ask = move || {
                ask_witness(post, witness, log, checkpoint).map(|made| Got::Cosigned(made, witness.key))
            };
            running.push((witness.url.clone(), scope.spawn(ask)));
        }
        running
            .into_iter()
            .map(|(who, thread)| {
                let gave = thread.join();
                (who, gave.unwrap_or_else(|_| Err(Error::malformed("anchor", "asking for it stopped short"))))
            })
            .collect()
    });
    let mut asked = Vec::new();
    for (who, gave) in gave {
        let outcome = gave.and_then(|got| record(log, &checkpoint, got, Some(&who), &parties.chain, writer));
        asked.push(Asked { who, outcome });
    }
    Ok((checkpoint, asked))
}

/// Takes in an anchor that was got elsewhere: a token over a kept checkpoint, or a cosigned checkpoint.
///
/// A cosigned checkpoint must be one of this log; its cosignatures are taken as they stand, for no key of theirs is
/// known here.
///
/// # Errors
///
/// [`Error::Malformed`] when it is neither, or over nothing of this log; those of [`CustodyLog::append_anchors`].
pub fn import_anchor(
    log: &CustodyLog,
    bytes: &[u8],
    chain: &str,
    writer: &Writer<'_>,
) -> Result<(Appended, String)> {
    if let Ok(cosigned) = SignedCheckpoint::parse(bytes) {
        if cosigned.checkpoint.origin != log.origin() {
            return Err(Error::malformed("anchor", "it is a checkpoint of another log"));
        }
        let leaves = log.leaf_hashes(cosigned.checkpoint.size)?;
        if crate::merkle::Tree::new(leaves).root() != cosigned.checkpoint.root {
            return Err(Error::malformed(
                "anchor",
                "FORK: it holds another root than this log gives at its size",
            ));
        }
        let names: Vec<&str> = (cosigned.note.signatures().iter().map(|line| line.name.as_str()))
            .filter(|name| *name != log.origin())
            .collect();
        if names.is_empty() {
            return Err(Error::malformed("anchor", "nobody but the log itself signed this checkpoint"));
        }
        let who = names.join(", ");
        let entry = entry_of(log, &cosigned, KIND_COSIGNATURE, None)?.result("who", who.as_str());
        let name = free_name(log, cosigned.checkpoint.size, &who, "note")?;
        let appended = log.append_anchor(&name, bytes, entry, writer)?;
        return Ok((appended, format!("cosigned by {who}")));
    }
    let stamp = TimeStamp::parse(bytes)?;
    for kept in kept_checkpoints(log)? {
        if stamp.is_over(kept.note.to_text().as_bytes()) {
            stamp.signer(kept.note.to_text().as_bytes(), chain)?;
            return record(log, &kept, Got::Stamp(stamp), None, chain, writer);
        }
    }
    Err(Error::malformed("anchor", "it is a time stamp over no checkpoint that this log has kept"))
}

/// Entries of a log that no anchor of its own covers yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The first of them.
    pub from: u64,
    /// How many entries the log has.
    pub size: u64,
    /// When the first of them was written, RFC 3339.
    pub since: String,
}

/// What of a log waits to be anchored; `anchor.made` entries themselves do not count.
///
/// # Errors
///
/// Those of [`CustodyLog::read`].
pub fn pending(log: &CustodyLog) -> Result<Option<Pending>> {
    let entries = log.read()?.entries;
    let covered = entries.iter().filter_map(|entry| covers(entry, None)).max().unwrap_or(0);
    let waiting = entries.iter().filter(|entry| entry.seq >= covered && entry.kind != EntryType::ANCHOR_MADE);
    Ok(waiting.into_iter().next().map(|entry| Pending {
        from: entry.seq,
        size: entries.len() as u64,
        since: entry.time.wall.clone(),
    }))
}

/// How many entries an `anchor.made` entry covers, when it is of this kind.
fn covers(entry: &Entry, kind: Option<&str>) -> Option<u64> {
    let fits = entry.kind == EntryType::ANCHOR_MADE
        && kind.is_none_or(|kind| entry.how_text(HOW_KIND) == Some(kind));
    if fits { entry.about.how.get(HOW_COVERS)?.as_u64() } else { None }
}

fn entry_of(log: &CustodyLog, over: &SignedCheckpoint, kind: &str, url: Option<&str>) -> Result<NewEntry> {
    let size = over.checkpoint.size;
    let name = case_layout::kept_checkpoint_name(size);
    let mut entry = NewEntry::new(EntryType::ANCHOR_MADE)
        .how(HOW_KIND, kind)
        .how(HOW_CHECKPOINT, format!("{}/{name}", case_layout::CHECKPOINTS))
        .how(HOW_COVERS, size);
    if let Some(url) = url {
        entry = entry.how(HOW_URL, url);
    }
    let entries = log.read()?.entries;
    let before = entries.iter().filter_map(|entry| covers(entry, Some(kind))).max().unwrap_or(0);
    let waiting = entries.iter().filter(|entry| entry.seq >= before && entry.seq < size);
    if let Some(first) = waiting.into_iter().find(|entry| entry.kind != EntryType::ANCHOR_MADE) {
        entry = entry.how(HOW_WAITING_SINCE, first.time.wall.as_str());
    }
    Ok(entry)
}

fn record(
    log: &CustodyLog,
    over: &SignedCheckpoint,
    got: Got,
    url: Option<&str>,
    chain: &str,
    writer: &Writer<'_>,
) -> Result<(Appended, String)> {
    let size = over.checkpoint.size;
    match got {
        Got::Stamp(stamp) => {
            let who = stamp.signer(over.note.to_text().as_bytes(), chain)?;
            let time = stamp.time();
            let entry = entry_of(log, over, KIND_TIME_STAMP, url)?
                .result("time", time.as_str())
                .result("who", who.as_str())
                .result("serial", stamp.serial());
            let name = free_name(log, size, url.unwrap_or(&who), "tsr")?;
            let certificates = certificate::merged_pem(&[&stamp.certificates_pem(), chain]);
            let beside = format!("{}.chain.pem", name.strip_suffix(".tsr").unwrap_or(&name));
            let files = [(name.as_str(), stamp.as_bytes()), (beside.as_str(), certificates.as_bytes())];
            let appended = log.append_anchors(&files, entry, writer)?;
            Ok((appended, format!("time stamp by {who}, {time}")))
        }
        Got::Cosigned(made, key) => {
            let mut note: SignedNote = over.note.clone();
            note.add_line(made.line.clone())?;
            let entry = entry_of(log, over, KIND_COSIGNATURE, url)?
                .result("time", made.time())
                .result("who", made.name.as_str())
                .result("vkey", key.to_cosigner_vkey(&made.name));
            let name = free_name(log, size, &made.name, "note")?;
            let appended = log.append_anchor(&name, note.to_text().as_bytes(), entry, writer)?;
            Ok((appended, format!("cosigned by {}, {}", made.name, made.time())))
        }
    }
}

/// A name in `anchors/` that is not taken: size, party, and a number where there are more.
fn free_name(log: &CustodyLog, size: u64, party: &str, kind: &str) -> Result<String> {
    let party = party.split_once("://").map_or(party, |(_, rest)| rest);
    let host: String = party
        .split(['/', '?', '@'])
        .find(|part| !part.is_empty())
        .unwrap_or("party")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
        .take(48)
        .collect();
    let folder = log.folder().join(case_layout::ANCHORS);
    for nth in 1..10_000u32 {
        let more = if nth == 1 { String::new() } else { format!("-{nth}") };
        let name = format!("{}.{host}{more}.{kind}", case_layout::kept_checkpoint_name(size));
        if std::fs::symlink_metadata(folder.join(&name)).is_err() {
            return Ok(name);
        }
    }
    Err(Error::malformed("anchor name", "10,000 anchors of one party over one checkpoint are there already"))
}

/// The checkpoints that a log has kept, the largest first, and its newest.
fn kept_checkpoints(log: &CustodyLog) -> Result<Vec<SignedCheckpoint>> {
    let mut all = crate::held_log::kept_checkpoints(log.folder())?;
    all.sort_by_key(|kept| std::cmp::Reverse(kept.checkpoint.size));
    Ok(all)
}
