//! The custody log: entries chained by hash, their Merkle root signed anew at each append.
//!
//! An append holds an exclusive `flock` on `custody.jsonl` from reading the log's end to renaming the new
//! checkpoint, so that many processes make one chain. Its order is: line, sync; kept checkpoint; frontier;
//! checkpoint, sync. A crash anywhere leaves a log that verifies, at worst with an *unsigned tail* that the next
//! append records as `log.recovered`. Its cost does not grow with the log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::clock::Clock;
use crate::closing::allowed_after_close;
use crate::digest::{Digest, sha256};
use crate::durable_file::{is_plain_file, plain_folder, read_small, replace, sync_folder, write_new};
use crate::entry::{Entry, EntryType, Identity, MAX_ENTRY, NewEntry};
use crate::error::{Error, Result};
use crate::held_log::{End, HeldLog, kept_checkpoints};
use crate::keys::{Signer, VerifyingKey, random};
use crate::log_head::{read_head, walk_to_checkpoint};
use crate::log_keys::{HOW_FINGERPRINT, HOW_ORIGIN, HOW_VKEY, KeyWindow, LogKeys};
use crate::log_mirror::{LogMirror, MirrorState, assumed, put_missing};
use crate::merkle::{Frontier, leaf_hash};

/// In `how` of an entry that was written where locks cannot be relied on: the kind of file system.
pub const HOW_SINGLE_WRITER: &str = "single_writer";

/// Larger anchors are no anchors.
pub(crate) const MOST_ANCHOR: u64 = 16 << 20;

/// Who appends, with which key and clock.
#[derive(Clone)]
pub struct Writer<'a> {
    key: &'a dyn Signer,
    vouched_by: Option<&'a dyn Signer>,
    clock: &'a dyn Clock,
    identity: Identity,
    single_writer: bool,
    mirror: Option<&'a dyn LogMirror>,
    needs_mirror: bool,
}

impl<'a> Writer<'a> {
    /// A writer that signs with this key.
    pub fn new(key: &'a dyn Signer, clock: &'a dyn Clock, identity: Identity) -> Self {
        Self {
            key,
            vouched_by: None,
            clock,
            identity,
            single_writer: false,
            mirror: None,
            needs_mirror: false,
        }
    }

    /// Gives an earlier key of the log, which signs too when this writer's key is new to it.
    #[must_use]
    pub fn vouched_by(mut self, earlier: &'a dyn Signer) -> Self {
        self.vouched_by = Some(earlier);
        self
    }

    /// Allows appending on network and user-space file systems, when nobody else writes; it is recorded.
    #[must_use]
    pub fn single_writer(mut self, allowed: bool) -> Self {
        self.single_writer = allowed;
        self
    }

    /// Puts the entries of logs whose bundles lie in an evidence store there too. What cannot be put now is put by the next
    /// append, and the mirror is told so.
    #[must_use]
    pub fn mirrored_by(mut self, mirror: &'a dyn LogMirror) -> Self {
        self.mirror = Some(mirror);
        self
    }

    /// Counts an entry as appended only when the evidence store has it: an acquisition does not go on without it.
    #[must_use]
    pub fn needing_mirror(mut self) -> Self {
        self.needs_mirror = true;
        self
    }

    /// Writes for this exhibit.
    #[must_use]
    pub fn for_exhibit(mut self, exhibit: &str) -> Self {
        self.identity.exhibit = Some(exhibit.to_owned());
        self
    }

    /// The key.
    pub fn key(&self) -> &'a dyn Signer {
        self.key
    }

    /// The clock.
    pub fn clock(&self) -> &'a dyn Clock {
        self.clock
    }

    /// The earlier key that signs too.
    pub(crate) fn vouching(&self) -> Option<&'a dyn Signer> {
        self.vouched_by
    }

    /// Who puts entries into an evidence store, and whether an entry counts only when it is there.
    pub(crate) fn mirror(&self) -> (Option<&'a dyn LogMirror>, bool) {
        (self.mirror, self.needs_mirror)
    }

    /// Whether it may append where locks cannot be relied on.
    pub(crate) fn is_single(&self) -> bool {
        self.single_writer
    }

    /// Who writes, with what, where.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Says whether an entry may follow those that are there.
type Allowed<'a> = &'a dyn Fn(&[Entry]) -> Result<()>;

/// What an append did.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The number of the entry.
    pub seq: u64,
    /// The checkpoint that covers it.
    pub checkpoint: SignedCheckpoint,
    /// Whether an unsigned tail was recorded before it.
    pub recovered: bool,
}

/// A log as it was read; nothing is verified, see [`crate::verify`].
#[derive(Debug, Clone)]
pub struct LogContents {
    /// All whole entries, signed or not.
    pub entries: Vec<Entry>,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<SignedCheckpoint>,
    /// Bytes after the last whole line.
    pub torn_bytes: u64,
}

/// The log of a case or bundle.
#[derive(Debug, Clone)]
pub struct CustodyLog {
    folder: PathBuf,
    origin: String,
    genesis: VerifyingKey,
}

impl CustodyLog {
    /// Makes a log in a folder that is there, with a random origin and its first entry.
    ///
    /// `genesis` may carry subjects and facts; its type, origin and key are set here.
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`] when there is a log already, [`Error::SharedFilesystem`], [`Error::Write`].
    pub fn create(folder: &Path, genesis: NewEntry, writer: &Writer<'_>) -> Result<Self> {
        let path = case_layout::log(folder);
        if path.exists() {
            return Err(Error::WouldOverwrite { path });
        }
        for name in [case_layout::CHECKPOINTS, case_layout::ANCHORS, "keys"] {
            plain_folder(&folder.join(name))?;
        }
        let origin = format!("exhibit/{}", hex::encode(random::<16>()?));
        let key = writer.key.verifying_key();
        let vkey = key.to_vkey(&origin);
        write_new(&folder.join(case_layout::LOG_VKEY), format!("{vkey}\n").as_bytes())?;
        sync_folder(&folder.join("keys"))?;
        write_new(&path, b"")?;
        let log = Self { folder: folder.to_owned(), origin, genesis: key };
        let mut held = HeldLog::lock(&log, writer)?;
        let genesis = NewEntry { kind: EntryType::LOG_GENESIS, ..genesis }
            .how(HOW_ORIGIN, log.origin.as_str())
            .how(HOW_VKEY, vkey);
        let mut end = End { frontier: Frontier::new(), last: Digest([0; 32]) };
        let checkpoint = held.write(&mut end, &[genesis], &[writer.key], writer)?;
        put_missing(folder, &checkpoint, &held.file, writer, 0)?;
        Ok(log)
    }

    /// Opens the log in a folder. Only its name is read: `keys/log.vkey`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when there is none, [`Error::Malformed`] when its name is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(case_layout::LOG_VKEY);
        let missing = || Error::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
        let vkey = read_small(&path, MAX_NOTE as u64)?.ok_or_else(missing)?;
        let vkey = String::from_utf8_lossy(&vkey);
        let (origin, genesis) = VerifyingKey::from_vkey(vkey.trim_end_matches('\n'))?;
        Ok(Self { folder: folder.to_owned(), origin, genesis })
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its random name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key it began with.
    pub fn genesis_key(&self) -> &VerifyingKey {
        &self.genesis
    }

    /// Appends one entry and signs a new checkpoint; both are on the disk when this returns.
    ///
    /// Before it, an unsigned tail is recorded (`log.recovered`) and a key that is new to the log is introduced
    /// (`key.added`), when an earlier key vouches for it.
    ///
    /// # Errors
    ///
    /// [`Error::LogBroken`] when the log does not fit its checkpoint, [`Error::KeyNotIntroduced`],
    /// [`Error::Closed`], [`Error::SharedFilesystem`], [`Error::StrictJson`] or [`Error::Malformed`] when the entry cannot be
    /// written, [`Error::Key`] when the key does not sign, [`Error::Read`] and [`Error::Write`]. Nothing is appended then, except that a failing disk may
    /// leave an unsigned tail.
    pub fn append(&self, new: &NewEntry, writer: &Writer<'_>) -> Result<Appended> {
        self.append_after(new, writer, None, |_| Ok(()))
    }

    /// Appends one entry when `allowed` finds nothing against it in the entries that are there, under the same lock.
    ///
    /// Reads the whole log: for rare acts that depend on what was done before.
    ///
    /// # Errors
    ///
    /// Those of `allowed` and of [`CustodyLog::append`]; nothing is appended then.
    pub fn append_when(
        &self,
        new: &NewEntry,
        writer: &Writer<'_>,
        allowed: impl Fn(&[Entry]) -> Result<()>,
    ) -> Result<Appended> {
        self.append_after(new, writer, Some(&allowed), |_| Ok(()))
    }

    /// Appends after `before` has done its work in the folder, under the lock.
    fn append_after(
        &self,
        new: &NewEntry,
        writer: &Writer<'_>,
        allowed: Option<Allowed<'_>>,
        before: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Appended> {
        let own = writer.key.verifying_key().fingerprint();
        if new.kind == EntryType::KEY_REVOKED
            && new.about.how.get(HOW_FINGERPRINT).and_then(|value| value.as_str()) == Some(&own)
        {
            return Err(Error::KeyNotIntroduced {
                fingerprint: own,
                why: "a key cannot revoke itself".to_owned(),
            });
        }
        let mut held = HeldLog::lock(self, writer)?;
        let head = read_head(&self.folder, &self.origin, &mut held.file)?;
        if let Some(allowed) = allowed {
            held.file
                .rewind()
                .map_err(|source| Error::Read { path: case_layout::log(&self.folder), source })?;
            allowed(&self.entries_of(&held.file)?.0)?;
        }
        held.closed = head.closed;
        held.assumed = assumed(&self.folder)?;
        let told = held.assumed.len();
        if let Some(closed) = head.closed.filter(|_| !allowed_after_close(&new.kind)) {
            let path = case_layout::log(&self.folder);
            return Err(Error::Closed { path, closed, kind: new.kind.to_string() });
        }
        let introduction = held.introduction(&head, writer)?;
        let recovery = held.set_torn_aside(&head)?;
        let recovered = recovery.is_some();
        let mut end = End { frontier: head.frontier, last: head.last };
        let signers: Vec<_> =
            std::iter::once(writer.key).chain(introduction.as_ref().and_then(|(_, by)| *by)).collect();
        // Before its introduction a new key may sign nothing, so a recovery then goes with it.
        let first: Vec<_> = recovery.into_iter().chain(introduction.map(|(entry, _)| entry)).collect();
        if !first.is_empty() {
            held.write(&mut end, &first, &signers, writer)?;
        }
        before(&self.folder)?;
        let checkpoint = held.write(&mut end, std::slice::from_ref(new), &[writer.key], writer)?;
        put_missing(&self.folder, &checkpoint, &held.file, writer, told)?;
        Ok(Appended { seq: checkpoint.checkpoint.size.saturating_sub(1), checkpoint, recovered })
    }

    /// Signs whole entries that a killed writer left behind the newest checkpoint, and records that, as the next append would.
    /// Gives whether there were any.
    ///
    /// # Errors
    ///
    /// Those of [`CustodyLog::append`] but for [`Error::Closed`].
    pub fn record_tail(&self, writer: &Writer<'_>) -> Result<bool> {
        let mut held = HeldLog::lock(self, writer)?;
        let head = read_head(&self.folder, &self.origin, &mut held.file)?;
        // A log without a tail is left alone, whoever may sign it: it may have come from another machine.
        if head.tail.is_none() && held.set_torn_aside(&head)?.is_none() {
            return Ok(false);
        }
        held.closed = head.closed;
        held.assumed = assumed(&self.folder)?;
        let told = held.assumed.len();
        let introduction = held.introduction(&head, writer)?;
        let Some(recovery) = held.set_torn_aside(&head)? else { return Ok(false) };
        let mut end = End { frontier: head.frontier, last: head.last };
        let signers: Vec<_> =
            std::iter::once(writer.key).chain(introduction.as_ref().and_then(|(_, by)| *by)).collect();
        let entries: Vec<_> = std::iter::once(recovery).chain(introduction.map(|(entry, _)| entry)).collect();
        let checkpoint = held.write(&mut end, &entries, &signers, writer)?;
        put_missing(&self.folder, &checkpoint, &held.file, writer, told)?;
        Ok(true)
    }

    /// Puts into the evidence store what it lacks of this log, without an entry. Gives how much is there then; `None` if the
    /// log's bundle lies in no store.
    ///
    /// # Errors
    ///
    /// [`Error::Mirror`] when the store cannot be reached, or holds what was not put from here; [`Error::LogBroken`],
    /// [`Error::Read`], [`Error::Write`].
    pub fn put_missing(&self, writer: &Writer<'_>) -> Result<Option<MirrorState>> {
        let mut held = HeldLog::lock(self, writer)?;
        let head = read_head(&self.folder, &self.origin, &mut held.file)?;
        put_missing(&self.folder, &head.checkpoint, &held.file, &writer.clone().needing_mirror(), 0)?;
        MirrorState::read(&self.folder)
    }

    /// Stores a file in `anchors/` and appends the entry that names it, under one lock.
    ///
    /// A file of that name with the same bytes, which an interrupted call left, is taken as stored.
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`] when other bytes are there, [`Error::Malformed`] for a name that is not of
    /// `A–Z a–z 0–9 . _ -`, and those of [`CustodyLog::append`].
    pub fn append_anchor(
        &self,
        name: &str,
        bytes: &[u8],
        new: NewEntry,
        writer: &Writer<'_>,
    ) -> Result<Appended> {
        self.append_anchors(&[(name, bytes)], new, writer)
    }

    /// Stores several files in `anchors/` and appends the one entry that names them, as
    /// [`CustodyLog::append_anchor`] does one.
    ///
    /// # Errors
    ///
    /// Those of [`CustodyLog::append_anchor`].
    pub fn append_anchors(
        &self,
        files: &[(&str, &[u8])],
        new: NewEntry,
        writer: &Writer<'_>,
    ) -> Result<Appended> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut entry = new;
        for (name, bytes) in files {
            if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
                return Err(Error::malformed("anchor name", format!("{name:?}")));
            }
            let id = format!("{}/{name}", case_layout::ANCHORS);
            entry = entry.subject(&id, bytes.len() as u64, sha256(bytes));
        }
        self.append_after(&entry, writer, None, |folder| {
            let into = folder.join(case_layout::ANCHORS);
            plain_folder(&into)?;
            for (name, bytes) in files {
                let path = into.join(name);
                if read_small(&path, MOST_ANCHOR)?.is_none_or(|there| there != *bytes) {
                    write_new(&path, bytes)?;
                }
            }
            sync_folder(&into)
        })
    }

    /// Keeps the newest checkpoint whole under `checkpoints/`, where an anchor can be made over it, and gives it.
    ///
    /// # Errors
    ///
    /// [`Error::LogBroken`] when the log does not fit its checkpoint, [`Error::SharedFilesystem`], [`Error::Read`]
    /// and [`Error::Write`].
    pub fn keep_checkpoint(&self, writer: &Writer<'_>) -> Result<SignedCheckpoint> {
        let mut held = HeldLog::lock(self, writer)?;
        let head = read_head(&self.folder, &self.origin, &mut held.file)?;
        let kept = case_layout::kept_checkpoint(&self.folder, head.checkpoint.checkpoint.size);
        let note = head.checkpoint.note.to_text();
        let into = self.folder.join(case_layout::CHECKPOINTS);
        plain_folder(&into)?;
        match read_small(&kept, MAX_NOTE as u64)? {
            Some(there) if there == note.as_bytes() => {}
            Some(_) => {
                let why = format!("{kept:?} is another checkpoint of the same size");
                return Err(Error::LogBroken { path: case_layout::log(&self.folder), why });
            }
            None => {
                let temporary = case_layout::LEFTOVERS.get(2).copied().unwrap_or_default();
                replace(&kept, &self.folder.join(temporary), note.as_bytes())?;
                sync_folder(&into)?;
            }
        }
        Ok(head.checkpoint)
    }

    /// The hashes of the first `size` entries as leaves of the tree, for proofs. 32 bytes each are held.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::LogBroken`] when there are fewer.
    pub fn leaf_hashes(&self, size: u64) -> Result<Vec<Digest>> {
        let path = case_layout::log(&self.folder);
        let file = lock_shared(&path)?;
        let mut lines = BufReader::new(&file);
        let (mut line, mut leaves) = (Vec::new(), Vec::new());
        while (leaves.len() as u64) < size {
            line.clear();
            let read = (&mut lines).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line);
            read.map_err(|source| Error::Read { path: path.clone(), source })?;
            if line.pop() != Some(b'\n') {
                let why = format!("{} whole entries where {size} are due", leaves.len());
                return Err(Error::LogBroken { path, why });
            }
            leaves.push(leaf_hash(&line));
        }
        Ok(leaves)
    }

    /// Reads all entries. Waits while somebody appends; never changes anything.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::LogBroken`] naming the first line that is no entry.
    pub fn read(&self) -> Result<LogContents> {
        let file = lock_shared(&case_layout::log(&self.folder))?;
        let (entries, torn_bytes) = self.entries_of(&file)?;
        let checkpoint = read_small(&case_layout::checkpoint(&self.folder), MAX_NOTE as u64)?;
        let checkpoint = checkpoint.map(|bytes| SignedCheckpoint::parse(&bytes)).transpose()?;
        Ok(LogContents { entries, checkpoint, torn_bytes })
    }

    /// The keys of the log, each with the entries that it may sign for. Reads the whole log.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::LogBroken`] when the log does not fit its checkpoint.
    pub fn keys(&self) -> Result<Vec<KeyWindow>> {
        let mut file = lock_shared(&case_layout::log(&self.folder))?;
        let head = read_head(&self.folder, &self.origin, &mut file)?;
        let (keys, covered) = self.gather_keys(&head.checkpoint, &mut file)?;
        Ok(keys.windows(&covered))
    }

    /// The entry that closed the log, if one did.
    ///
    /// # Errors
    ///
    /// As [`CustodyLog::keys`].
    pub fn closed(&self) -> Result<Option<u64>> {
        let mut file = lock_shared(&case_layout::log(&self.folder))?;
        Ok(read_head(&self.folder, &self.origin, &mut file)?.closed)
    }

    /// The keys up to this checkpoint, and the entries that say something of them.
    pub(crate) fn gather_keys(
        &self,
        head: &SignedCheckpoint,
        file: &mut File,
    ) -> Result<(LogKeys, Vec<Entry>)> {
        let kept = kept_checkpoints(&self.folder)?;
        let sizes = kept.iter().map(|kept| kept.checkpoint.size).collect();
        let (walked, _) = walk_to_checkpoint(&case_layout::log(&self.folder), head, file, sizes)?;
        let fits = |kept: &&SignedCheckpoint| {
            let mark = walked.at.get(&kept.checkpoint.size);
            mark.is_some_and(|mark| mark.frontier.root() == kept.checkpoint.root)
        };
        let signed: Vec<_> = std::iter::once(head).chain(kept.iter().filter(fits)).collect();
        let size = head.checkpoint.size;
        let covered: Vec<_> = walked.landmarks.into_iter().filter(|entry| entry.seq < size).collect();
        Ok((LogKeys::gather(&self.origin, self.genesis, &covered, &signed), covered))
    }

    /// All whole entries from where the file stands, and how many bytes follow them.
    fn entries_of(&self, file: &File) -> Result<(Vec<Entry>, u64)> {
        let path = case_layout::log(&self.folder);
        let fault = |source| Error::Read { path: path.clone(), source };
        let mut entries = Vec::new();
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line).map_err(fault)?;
            if line.pop() != Some(b'\n') {
                let rest = std::io::copy(&mut lines, &mut std::io::sink()).map_err(fault)?;
                return Ok((entries, rest.saturating_add(read as u64)));
            }
            let entry = Entry::parse(&line).map_err(|error| Error::LogBroken {
                path: path.clone(),
                why: format!("line {}: {error}", entries.len()),
            })?;
            entries.push(entry);
        }
    }
}

/// Opens a log for reading, under a shared lock where locks can be had.
pub(crate) fn lock_shared(path: &Path) -> Result<File> {
    is_plain_file(path)?;
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    // A read-only or foreign file system may not lock; then nobody appends there either.
    let _ = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared));
    Ok(file)
}
