//! Two copies of one log compared: the same, one the beginning of the other, or two histories.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::findings::Findings;
use super::trust::Memory;
use super::{Options, log};
use crate::case;
use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::custody_log::lock_shared;
use crate::digest::Digest;
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType, MAX_ENTRY};
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::merkle::{Tree, consistency_proof, leaf_hash, root_of_hashes};
use crate::proof::{ForkProof, Head, ProvedLine, Seal, TlogProof};

/// A copy of a log, or one signed checkpoint of it.
#[derive(Debug)]
pub struct LogCopy {
    name: String,
    head: SignedCheckpoint,
    /// The keys of the log that signed the head; none is known of a lone checkpoint.
    keys: Vec<VerifyingKey>,
    /// Every key that may be the log's.
    all_keys: Vec<VerifyingKey>,
    /// The log's folder and the hashes of its entries under the head; none of a lone checkpoint.
    log: Option<(PathBuf, Vec<Digest>)>,
}

/// The first or the second of what was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What two copies are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Both end in the same head.
    Same {
        /// How many entries.
        size: u64,
    },
    /// One is the beginning of the other.
    Beginning {
        /// Which is the shorter.
        shorter: Side,
        /// Its entries.
        old: u64,
        /// The other's entries.
        new: u64,
        /// The RFC 6962 consistency proof from one to the other.
        proof: Vec<Digest>,
    },
    /// They are two histories, each signed.
    Forked(Box<ForkProof>),
    /// They are two logs.
    OtherLogs {
        /// The origin of each.
        origins: [String; 2],
    },
    /// It cannot be told from what is there.
    Unknown {
        /// Why, and what would tell.
        why: String,
    },
}

impl LogCopy {
    /// Reads a copy: the folder of a case, bundle or log, or a file with a signed checkpoint.
    ///
    /// The folder's log is verified on the way: what is compared is what its keys signed, and not what was done to it
    /// since.
    ///
    /// # Errors
    ///
    /// [`Error::LogBroken`] when the log does not verify, [`Error::Malformed`] when the file is no checkpoint,
    /// [`Error::Read`].
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if !path.is_dir() {
            let missing =
                || Error::Read { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
            let bytes = read_small(path, MAX_NOTE as u64)?.ok_or_else(missing)?;
            let head = SignedCheckpoint::parse(&bytes)?;
            return Ok(Self { name, head, keys: Vec::new(), all_keys: Vec::new(), log: None });
        }
        let mut findings = Findings::default();
        let check = log::verify(path, &Options::default(), &mut findings)?;
        let broken = |why: String| Error::LogBroken { path: case_layout::log(path), why };
        if let Some(fault) = findings.faults.first() {
            return Err(broken(format!("{fault}; only a log that verifies can be compared")));
        }
        let (head, keys) = check.head.ok_or_else(|| broken("nobody signed it".to_owned()))?;
        let all_keys = check
            .keys
            .iter()
            .flat_map(|keys| keys.all())
            .filter(|key| key.accepted)
            .map(|key| key.key)
            .collect();
        let leaves = leaves_of(path, head.checkpoint.size)?;
        if root_of_hashes(&leaves) != head.checkpoint.root {
            return Err(broken("it changed while it was read".to_owned()));
        }
        Ok(Self { name, head, keys, all_keys, log: Some((path.to_owned(), leaves)) })
    }

    /// A checkpoint that was seen before.
    pub(super) fn of_checkpoint(name: &str, head: SignedCheckpoint) -> Self {
        Self { name: name.to_owned(), head, keys: Vec::new(), all_keys: Vec::new(), log: None }
    }

    /// Where it was read from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its newest signed checkpoint.
    pub fn head(&self) -> &SignedCheckpoint {
        &self.head
    }

    /// The line of an entry, the proof that it is under the head, and a key of the log that signed the head.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when there is no such entry under the head, [`Error::Read`].
    pub fn prove(&self, index: u64) -> Result<(String, TlogProof, VerifyingKey)> {
        let none = || Error::malformed("entry", format!("{} has no signed entry {index}", self.name));
        let (_, leaves) = self.log.as_ref().ok_or_else(none)?;
        let at = usize::try_from(index).ok().filter(|at| *at < leaves.len()).ok_or_else(none)?;
        let ProvedLine { line, path } = self.proved_line(&Tree::new(leaves.clone()), at)?;
        let key = *self.keys.first().ok_or_else(none)?;
        Ok((line, TlogProof { extra: None, index, path, checkpoint: self.head.clone() }, key))
    }

    /// The entry that sealed the bundle, with its proof.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the log holds none, and those of [`LogCopy::prove`].
    pub fn seal(&self) -> Result<Seal> {
        let none = || Error::malformed("bundle", format!("{} was never sealed", self.name));
        let (folder, _) = self.log.as_ref().ok_or_else(none)?;
        let mut sealed = None;
        each_line(folder, |at, line| {
            if line.windows(15).any(|part| part == b"\"bundle.sealed\"")
                && Entry::parse(line).is_ok_and(|entry| entry.kind == EntryType::BUNDLE_SEALED)
            {
                sealed = Some(at);
            }
            sealed.is_none()
        })?;
        let (line, proof, key) = self.prove(sealed.ok_or_else(none)?)?;
        Ok(Seal::new(line, &proof, &key))
    }

    fn size(&self) -> u64 {
        self.head.checkpoint.size
    }

    /// Its head with a key that signed it, known from either copy.
    fn signed_head(&self, other: &Self) -> Option<Head> {
        let known = self.keys.iter().chain(&other.all_keys);
        let key = known.into_iter().find(|key| self.head.is_signed_by(key))?;
        Some(Head::new(&self.head, key))
    }

    /// The entry of this number with its way to the head's root.
    fn proved_line(&self, tree: &Tree, index: usize) -> Result<ProvedLine> {
        let Some((folder, _)) = &self.log else {
            return Err(Error::malformed("copy", "a checkpoint has no entries"));
        };
        let path = tree.inclusion_proof(index).ok_or_else(|| Error::malformed("entry", "there is none"))?;
        let mut wanted = None;
        each_line(folder, |at, line| {
            if at == index as u64 {
                wanted = Some(line.to_vec());
            }
            wanted.is_none()
        })?;
        let line = wanted.and_then(|line| String::from_utf8(line).ok());
        Ok(ProvedLine { line: line.ok_or_else(|| Error::malformed("entry", "it is no text"))?, path })
    }
}

/// Compares two copies of a log.
///
/// # Errors
///
/// [`Error::Read`] when a log cannot be read again.
pub fn compare(a: &LogCopy, b: &LogCopy) -> Result<Comparison> {
    let (head_a, head_b) = (&a.head.checkpoint, &b.head.checkpoint);
    if head_a.origin != head_b.origin {
        return Ok(Comparison::OtherLogs { origins: [head_a.origin.clone(), head_b.origin.clone()] });
    }
    let (Some(signed_a), Some(signed_b)) = (a.signed_head(b), b.signed_head(a)) else {
        let lone = a.log.is_none() && b.log.is_none();
        let why = if lone {
            "two checkpoints alone hold no key to check their signatures with; compare each with a log"
        } else {
            "the checkpoint is signed by no key of the log"
        };
        return Ok(Comparison::Unknown { why: why.to_owned() });
    };
    if head_a == head_b {
        return Ok(Comparison::Same { size: head_a.size });
    }
    let heads = ForkProof::of_heads(signed_a, signed_b);
    match (&a.log, &b.log) {
        (Some((_, leaves_a)), Some((_, leaves_b))) => {
            let same = leaves_a.iter().zip(leaves_b).take_while(|(a, b)| a == b).count();
            let shorter = leaves_a.len().min(leaves_b.len());
            if same == shorter {
                let (side, long) =
                    if leaves_a.len() == shorter { (Side::A, leaves_b) } else { (Side::B, leaves_a) };
                return Ok(beginning(side, shorter, long));
            }
            let line_a = a.proved_line(&Tree::new(leaves_a.clone()), same)?;
            let line_b = b.proved_line(&Tree::new(leaves_b.clone()), same)?;
            Ok(Comparison::Forked(Box::new(heads.with_entries(same as u64, line_a, line_b))))
        }
        (None, Some((_, leaves))) => Ok(with_checkpoint(a, leaves, Side::A, heads)),
        (Some((_, leaves)), None) => Ok(with_checkpoint(b, leaves, Side::B, heads)),
        (None, None) if head_a.size == head_b.size => Ok(Comparison::Forked(Box::new(heads))),
        (None, None) => Ok(Comparison::Unknown {
            why: "two checkpoints of different sizes; one of the logs would tell".to_owned(),
        }),
    }
}

/// Compares a lone checkpoint with the entries of a log.
fn with_checkpoint(lone: &LogCopy, leaves: &[Digest], side: Side, heads: ForkProof) -> Comparison {
    let size = lone.size();
    let first = usize::try_from(size).ok().filter(|size| *size > 0).and_then(|size| leaves.get(..size));
    let Some(first) = first else {
        let why = format!(
            "the log has {} entries and the checkpoint is of {size}: the log is cut, or the older copy, or another \
             history; the whole longer log would tell",
            leaves.len()
        );
        return Comparison::Unknown { why };
    };
    let root = root_of_hashes(first);
    if root == lone.head.checkpoint.root {
        return beginning(side, first.len(), leaves);
    }
    if first.len() == leaves.len() {
        return Comparison::Forked(Box::new(heads));
    }
    let path = consistency_proof(leaves, first.len()).unwrap_or_default();
    Comparison::Forked(Box::new(heads.with_first(side == Side::A, root, path)))
}

fn beginning(shorter: Side, old: usize, leaves: &[Digest]) -> Comparison {
    let proof = consistency_proof(leaves, old).unwrap_or_default();
    Comparison::Beginning { shorter, old: old as u64, new: leaves.len() as u64, proof }
}

/// For each log below `folder` that is another history than the one remembered: the proof.
///
/// Logs that do not verify, and those remembered without their checkpoint, give none.
///
/// # Errors
///
/// [`Error::Read`].
pub fn forks_from_memory(folder: &Path, memory: &Memory) -> Result<Vec<ForkProof>> {
    let mut folders = vec![folder.to_owned()];
    folders.extend(case::exhibits_in(folder)?.into_iter().map(|exhibit| exhibit.folder));
    let mut proofs = Vec::new();
    for folder in folders {
        let Ok(copy) = LogCopy::read(&folder) else { continue };
        let origin = &copy.head.checkpoint.origin;
        let Some(head) = memory.of(origin).and_then(|seen| seen.checkpoint.clone()) else { continue };
        let seen = LogCopy::of_checkpoint("memory", head);
        if let Comparison::Forked(proof) = compare(&seen, &copy)? {
            proofs.push(*proof);
        }
    }
    Ok(proofs)
}

/// The hashes of the first `size` entries.
fn leaves_of(folder: &Path, size: u64) -> Result<Vec<Digest>> {
    let mut leaves = Vec::new();
    each_line(folder, |at, line| {
        if at < size {
            leaves.push(leaf_hash(line));
        }
        at < size
    })?;
    Ok(leaves)
}

/// Calls `see` with each whole line of a log until it says `false`.
fn each_line(folder: &Path, mut see: impl FnMut(u64, &[u8]) -> bool) -> Result<()> {
    let path = case_layout::log(folder);
    let file = lock_shared(&path)?;
    let mut lines = BufReader::with_capacity(1 << 20, &file);
    let mut line = Vec::new();
    let mut at = 0;
    loop {
        line.clear();
        (&mut lines)
            .take(MAX_ENTRY as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        if line.pop() != Some(b'\n') || !see(at, &line) {
            return Ok(());
        }
        at += 1;
    }
}
