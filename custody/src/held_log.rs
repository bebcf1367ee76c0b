//! A log under its exclusive lock: who may sign, what an interrupted writer left, and the writing itself.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::case_layout;
use crate::checkpoint::{Checkpoint, MAX_NOTE, SignedCheckpoint, SignedNote};
use crate::closing::HOW_AFTER_CLOSE;
use crate::custody_log::{CustodyLog, HOW_SINGLE_WRITER, Writer};
use crate::digest::{Digest, sha256};
use crate::durable_file::{is_plain_file, plain_folder, read_small, replace, sync_folder, write_new};
use crate::entry::{EntryType, NewEntry, line_of};
use crate::error::{Error, Result};
use crate::keys::Signer;
use crate::log_head::Head;
use crate::log_keys::{HOW_TO_KEY, HOW_VKEY};
use crate::log_mirror::HOW_STORE_ASSUMED;
use crate::merkle::Frontier;

/// The end of a log while an append moves it on.
pub(crate) struct End {
    pub(crate) frontier: Frontier,
    pub(crate) last: Digest,
}

/// A log under its exclusive lock.
pub(crate) struct HeldLog<'a> {
    log: &'a CustodyLog,
    pub(crate) file: File,
    /// Where locks cannot be relied on: what file system it is.
    shared: Option<&'static str>,
    /// The entry that closed it.
    pub(crate) closed: Option<u64>,
    /// Objects in an evidence store that the next entry tells of.
    pub(crate) assumed: Vec<String>,
}

impl<'a> HeldLog<'a> {
    pub(crate) fn lock(log: &'a CustodyLog, writer: &Writer<'_>) -> Result<Self> {
        let path = case_layout::log(log.folder());
        let fault = |source| Error::Write { path: path.clone(), source };
        is_plain_file(&path)?;
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(fault)?;
        let shared = shared_filesystem(&file);
        if let (Some(kind), false) = (shared, writer.is_single()) {
            return Err(Error::SharedFilesystem { path, kind });
        }
        let locked = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive));
        if let (Err(error), None) = (locked, shared) {
            return Err(fault(error.into()));
        }
        Ok(Self { log, file, shared, closed: None, assumed: Vec::new() })
    }

    /// What must be said before this writer's key signs: nothing, or a `key.added` and who signs it too.
    pub(crate) fn introduction<'k>(
        &mut self,
        head: &Head,
        writer: &Writer<'k>,
    ) -> Result<Option<(NewEntry, Option<&'k dyn Signer>)>> {
        let key = writer.key().verifying_key();
        if head.checkpoint.is_signed_by(&key) {
            return Ok(None);
        }
        // Somebody else signed last, which is rare: now the whole log is read.
        let (keys, covered) = self.log.gather_keys(&head.checkpoint, &mut self.file)?;
        let size = head.checkpoint.checkpoint.size;
        if !keys.accept(&head.checkpoint) {
            return Err(Error::LogBroken {
                path: case_layout::log(self.log.folder()),
                why: "no key that may sign it signed its checkpoint".to_owned(),
            });
        }
        if keys.valid_at(size).any(|valid| *valid == key) {
            return Ok(None);
        }
        let fingerprint = key.fingerprint();
        let refused =
            |why: &str| Error::KeyNotIntroduced { fingerprint: fingerprint.clone(), why: why.to_owned() };
        if keys.all().iter().any(|known| known.key == key && known.revoked.is_some()) {
            return Err(refused("it was revoked"));
        }
        let entry = NewEntry::new(EntryType::KEY_ADDED).how(HOW_VKEY, key.to_vkey(self.log.origin()));
        let offer = covered.iter().find(|entry| {
            entry.kind == EntryType::TRANSFER_OFFERED && entry.how_text(HOW_TO_KEY) == Some(&fingerprint)
        });
        if let Some(offer) = offer {
            return Ok(Some((entry.refers_to(offer.seq), None)));
        }
        match writer.vouching() {
            Some(earlier) if keys.valid_at(size).any(|valid| *valid == earlier.verifying_key()) => {
                Ok(Some((entry, Some(earlier))))
            }
            _ => Err(refused("no transfer.offered names it and no earlier key vouches for it")),
        }
    }

    /// Keeps torn bytes aside and cuts them off; gives the `log.recovered` entry when there is one to write.
    pub(crate) fn set_torn_aside(&mut self, head: &Head) -> Result<Option<NewEntry>> {
        let folder = self.log.folder();
        let seq = head.frontier.size();
        let mut aside = Vec::new();
        for nth in 0u32.. {
            let name = case_layout::torn_name(seq, nth);
            match read_small(&folder.join(&name), u64::from(u32::MAX))? {
                Some(bytes) => aside.push((name, bytes)),
                None => break,
            }
        }
        let Some(tail) = &head.tail else {
            if aside.is_empty() {
                return Ok(None);
            }
            // Interrupted between cutting torn bytes off and recording them.
            return Ok(Some(recovery(0, 0, sha256(b""), &aside)));
        };
        if !tail.torn.is_empty() {
            if !aside.iter().any(|(_, bytes)| *bytes == tail.torn) {
                let name = case_layout::torn_name(seq, u32::try_from(aside.len()).unwrap_or(u32::MAX));
                write_new(&folder.join(&name), &tail.torn)?;
                aside.push((name, tail.torn.clone()));
            }
            sync_folder(folder)?;
            let path = case_layout::log(folder);
            self.file.set_len(head.end).map_err(|source| Error::Write { path, source })?;
        }
        Ok(Some(recovery(tail.entries, tail.length, tail.sha256, &aside)))
    }

    /// Signs the checkpoint that covers these entries, writes them with one `write`, then stores the checkpoint.
    pub(crate) fn write(
        &mut self,
        end: &mut End,
        entries: &[NewEntry],
        signers: &[&dyn Signer],
        writer: &Writer<'_>,
    ) -> Result<SignedCheckpoint> {
        let folder = self.log.folder();
        let mut lines = String::new();
        let (mut frontier, mut last) = (end.frontier.clone(), end.last);
        for entry in entries {
            let mut entry = entry.clone();
            if let Some(kind) = self.shared {
                entry = entry.how(HOW_SINGLE_WRITER, kind);
            }
            if let Some(closed) = self.closed {
                entry = entry.how(HOW_AFTER_CLOSE, closed);
            }
            if !self.assumed.is_empty() {
                entry = entry.how(HOW_STORE_ASSUMED, std::mem::take(&mut self.assumed));
            }
            let line =
                line_of(&entry, frontier.size(), last, writer.identity(), writer.key(), writer.clock())?;
            frontier.push(line.as_bytes());
            last = sha256(line.as_bytes());
            lines.push_str(&line);
            lines.push('\n');
        }
        let path = case_layout::log(folder);
        let keep = entries.iter().any(|entry| entry.kind.keeps_checkpoint());
        let kept = case_layout::kept_checkpoint(folder, frontier.size());
        if keep && kept.exists() {
            let why = format!("{kept:?} is there already, signed for other entries");
            return Err(Error::LogBroken { path, why });
        }
        // Before the lines are there: a key that does not sign must leave nothing behind.
        let checkpoint =
            Checkpoint { origin: self.log.origin().to_owned(), size: frontier.size(), root: frontier.root() };
        let note = SignedNote::unsigned(&checkpoint.to_text());
        let mut signed = SignedCheckpoint { note, checkpoint };
        for key in signers {
            signed.note.add_signature(self.log.origin(), *key)?;
        }
        let note = signed.note.to_text();
        self.file
            .write_all(lines.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::Write { path, source })?;
        let temporary =
            |nth: usize| folder.join(case_layout::LEFTOVERS.get(nth).copied().unwrap_or_default());
        if keep {
            let into = folder.join(case_layout::CHECKPOINTS);
            plain_folder(&into)?;
            replace(&kept, &temporary(2), note.as_bytes())?;
            sync_folder(&into)?;
        }
        replace(&folder.join(case_layout::FRONTIER), &temporary(1), frontier.to_text().as_bytes())?;
        replace(&case_layout::checkpoint(folder), &temporary(0), note.as_bytes())?;
        sync_folder(folder)?;
        *end = End { frontier, last };
        Ok(signed)
    }
}

fn recovery(entries: u64, length: u64, sha256_of_tail: Digest, aside: &[(String, Vec<u8>)]) -> NewEntry {
    let entry = NewEntry::new(EntryType::LOG_RECOVERED)
        .how("entries", entries)
        .how("length", length)
        .how("sha256", sha256_of_tail.to_string());
    aside.iter().fold(entry, |entry, (name, bytes)| entry.subject(name, bytes.len() as u64, sha256(bytes)))
}

/// All checkpoints under `checkpoints/` that can be read as such.
pub(crate) fn kept_checkpoints(folder: &Path) -> Result<Vec<SignedCheckpoint>> {
    let path = folder.join(case_layout::CHECKPOINTS);
    let fault = |source| Error::Read { path: path.clone(), source };
    let mut kept = Vec::new();
    for file in std::fs::read_dir(&path).map_err(fault)? {
        let bytes = read_small(&file.map_err(fault)?.path(), MAX_NOTE as u64)?.unwrap_or_default();
        kept.extend(SignedCheckpoint::parse(&bytes).ok());
    }
    Ok(kept)
}

#[cfg(target_os = "linux")]
fn shared_filesystem(file: &File) -> Option<&'static str> {
    let kind = rustix::fs::fstatfs(file).ok()?.f_type;
    shared_kind(u64::try_from(kind).ok()? & 0xffff_ffff)
}

#[cfg(not(target_os = "linux"))]
fn shared_filesystem(_file: &File) -> Option<&'static str> {
    None
}

/// File systems on which `flock` may not be seen by other machines, by their `statfs` magic (linux/magic.h).
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "magic numbers are Linux's"))]
fn shared_kind(magic: u64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x0102_1997 => Some("9p"),
        0x6573_5546 => Some("FUSE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known() {
        let known = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546];
        let names: Vec<_> = known.into_iter().map(shared_kind).collect();
        assert_eq!(names, ["NFS", "SMB", "SMB", "SMB", "9p", "FUSE"].map(Some));
        // ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(shared_kind(local), None);
        }
    }
}
