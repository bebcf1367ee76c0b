//! What the person who verifies brings along: trusted keys, anchors kept elsewhere, remembered sizes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::anchors::{Authorities, CosignRequest, Cosignature, Receipt, TimeStamp};
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint, SignedNote};
use crate::digest::Digest;
use crate::durable_file::{read_small, replace, sync_folder};
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::ssh::SshPublicKey;
use crate::strict_json;

/// A memory file of a hundred thousand logs has 64 MB.
const MOST_MEMORY: u64 = 256 << 20;

/// A key that the verifier trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Key {
        name: Option<String>,
        key: VerifyingKey,
    },
    /// A witness by its verifier key: only its cosignatures count, no plain signature.
    Cosigner {
        name: String,
        key: VerifyingKey,
    },
    Fingerprint(String),
}

impl TrustedKey {
    /// Reads a C2SP verifier key (of a log, or of a cosigner), a PEM public key, the line of an OpenSSH `.pub` file, or a
    /// fingerprint (`SHA256:…`).
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Key`] when it is none of these.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with("-----BEGIN") {
            return Ok(Self(Form::Key { name: None, key: VerifyingKey::from_pem(text)? }));
        }
        if text.starts_with("SHA256:") {
            if text.len() != 50 {
                return Err(Error::malformed(
                    "fingerprint",
                    format!("{text:?} is not SHA256: and 43 characters"),
                ));
            }
            return Ok(Self(Form::Fingerprint(text.to_owned())));
        }
        if ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| text.starts_with(kind)) {
            let key = SshPublicKey::from_line(text)?;
            return Ok(Self(match key.ed25519() {
                Some(key) => Form::Key { name: None, key },
                // It signs no log, but may be a person's or an authority's.
                None => Form::Fingerprint(key.fingerprint()),
            }));
        }
        if let Ok((name, key)) = VerifyingKey::from_cosigner_vkey(text) {
            return Ok(Self(Form::Cosigner { name, key }));
        }
        let (name, key) = VerifyingKey::from_vkey(text)?;
        Ok(Self(Form::Key { name: Some(name), key }))
    }

    /// Whether this is that key.
    pub fn is(&self, key: &VerifyingKey) -> bool {
        match &self.0 {
            Form::Key { key: trusted, .. } | Form::Cosigner { key: trusted, .. } => trusted == key,
            Form::Fingerprint(fingerprint) => *fingerprint == key.fingerprint(),
        }
    }

    /// The key itself; a bare fingerprint has none.
    pub fn key(&self) -> Option<VerifyingKey> {
        match &self.0 {
            Form::Key { key, .. } | Form::Cosigner { key, .. } => Some(*key),
            Form::Fingerprint(_) => None,
        }
    }

    /// Whether it says that this key may sign logs: the verifier key of a cosigner does not.
    pub(super) fn is_for_logs(&self, key: &VerifyingKey) -> bool {
        !matches!(self.0, Form::Cosigner { .. }) && self.is(key)
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> String {
        match &self.0 {
            Form::Key { key, .. } | Form::Cosigner { key, .. } => key.fingerprint(),
            Form::Fingerprint(fingerprint) => fingerprint.clone(),
        }
    }

    /// How it signed a note: plainly, or with a cosignature, whose time is given. A bare fingerprint can verify
    /// nothing.
    pub(super) fn signed(&self, note: &SignedNote) -> Option<Option<Cosignature>> {
        match &self.0 {
            Form::Fingerprint(_) => None,
            Form::Cosigner { name, key } => Cosignature::find(note, Some(name), key).map(Some),
            Form::Key { name, key } => {
                // A PEM key has no name and no type: it may have signed either way.
                let cosigned = if name.is_none() { Cosignature::find(note, None, key) } else { None };
                let mut names = note.signatures().iter().map(|line| line.name.as_str());
                let plain = names.any(|signer| {
                    name.as_deref().is_none_or(|name| name == signer) && note.is_signed_by(signer, key)
                });
                match cosigned {
                    Some(found) => Some(Some(found)),
                    None => plain.then_some(None),
                }
            }
        }
    }

    /// Whether it signed a note plainly under this name, as a log's key does.
    pub(crate) fn signed_as(&self, note: &SignedNote, name: &str) -> bool {
        match &self.0 {
            Form::Key { name: own, key } => {
                own.as_deref().is_none_or(|own| own == name) && note.is_signed_by(name, key)
            }
            Form::Cosigner { .. } | Form::Fingerprint(_) => false,
        }
    }
}

/// Checkpoints and tokens that were kept outside the evidence.
#[derive(Debug, Clone, Default)]
pub struct OutsideAnchors {
    pub(super) notes: Vec<(String, SignedCheckpoint)>,
    pub(super) stamps: Vec<(String, TimeStamp)>,
    /// Certificates that lay there: roots of authorities, and those between.
    pub(super) authorities: Authorities,
    /// What is none of these, and why.
    pub(super) unread: Vec<(String, String)>,
}

/// More files are not read.
const MOST_FILES: usize = 10_000;

impl OutsideAnchors {
    /// Reads every file in a folder, and in folders one below it: signed checkpoints, cosigned or not, requests to
    /// witnesses, receipts as text, time-stamp tokens, and certificates in PEM. What is none of these is listed.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(folder, 1, &mut files)?;
        files.sort();
        let mut outside = Self::default();
        for path in files.into_iter().take(MOST_FILES) {
            let name = path.strip_prefix(folder).unwrap_or(&path).as_os_str();
            let name = strict_json::escape_text(name.as_encoded_bytes());
            let bytes = read_small(&path, 16 << 20)?.unwrap_or_default();
            outside.add(name, &bytes);
        }
        Ok(outside)
    }

    /// Adds what one file holds.
    fn add(&mut self, name: String, bytes: &[u8]) {
        if bytes.len() <= MAX_NOTE
            && let Ok(signed) = SignedCheckpoint::parse(bytes)
        {
            self.notes.push((name, signed));
            return;
        }
        if bytes.first() == Some(&0x30) {
            match TimeStamp::parse(bytes) {
                Ok(stamp) => self.stamps.push((name, stamp)),
                Err(error) => self.unread.push((name, error.to_string())),
            }
            return;
        }
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        // What a telephone read from a receipt's code, and kept without its last line feed.
        if text.len() <= MAX_NOTE
            && let Ok(signed) = SignedCheckpoint::parse(format!("{}\n", text.trim_end()).as_bytes())
        {
            self.notes.push((name, signed));
        } else if text.contains("-----BEGIN CERTIFICATE-----") {
            match self.authorities.add_pem(&text) {
                Ok(_) => {}
                Err(error) => self.unread.push((name, error.to_string())),
            }
        } else if let Ok(request) = CosignRequest::parse(bytes) {
            self.notes.push((name, request.checkpoint));
        } else if let Some(signed) = Receipt::find(&text) {
            self.notes.push((name, signed));
        } else {
            self.unread
                .push((name, "neither a signed checkpoint, a receipt, a token nor a certificate".to_owned()));
        }
    }

    /// The sizes at which somebody outside knows the root.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.notes.iter().map(|(_, note)| note.checkpoint.size)
    }
}

fn list(folder: &Path, deeper: u8, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    let fault = |source| Error::Read { path: folder.to_owned(), source };
    for item in std::fs::read_dir(folder).map_err(fault)? {
        let path = item.map_err(fault)?.path();
        let Ok(about) = std::fs::metadata(&path) else { continue };
        if about.is_dir() && deeper > 0 {
            list(&path, deeper - 1, files)?;
        } else if about.is_file() && files.len() < MOST_FILES {
            files.push(path);
        }
    }
    Ok(())
}

/// The largest size and its root that the verifier saw of each log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(BTreeMap<String, Remembered>);

/// What is remembered of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The whole checkpoint, so that a second history signed by the same key can be proved.
    pub checkpoint: Option<SignedCheckpoint>,
    /// The root at that size.
    pub root: Digest,
    /// How many entries it had.
    pub size: u64,
}

/// How one log is spelled in a memory file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    /// The signed note, escaped; files of earlier versions have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    checkpoint: Option<String>,
    root: Digest,
    size: u64,
}

impl Spelled {
    fn read(self, origin: &str) -> Result<Remembered> {
        let Self { checkpoint, root, size } = self;
        let checkpoint = checkpoint
            .map(|text| SignedCheckpoint::parse(&strict_json::unescape_text(&text)?))
            .transpose()?;
        if checkpoint.as_ref().is_some_and(|signed| {
            let said = &signed.checkpoint;
            said.origin != origin || said.size != size || said.root != root
        }) {
            return Err(Error::malformed(
                "memory file",
                format!("the checkpoint of {origin} is not of its root"),
            ));
        }
        Ok(Remembered { checkpoint, root, size })
    }
}

impl Memory {
    /// Reads a memory file; a file that is not there remembers nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Damaged`] when it is there and is no memory file: it is never written over.
    pub fn load(path: &Path) -> Result<Self> {
        let Some(bytes) = read_small(path, MOST_MEMORY)? else { return Ok(Self::default()) };
        Self::parse(&bytes).map_err(|error| Error::Damaged { path: path.to_owned(), why: error.to_string() })
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let line =
            bytes.strip_suffix(b"\n").ok_or_else(|| Error::malformed("memory file", "no final line feed"))?;
        let known: BTreeMap<String, Spelled> = serde_json::from_value(strict_json::parse(line)?)
            .map_err(|error| Error::malformed("memory file", error.to_string()))?;
        let known = known.into_iter().map(|(origin, seen)| {
            let seen = seen.read(&origin)?;
            Ok((origin, seen))
        });
        Ok(Self(known.collect::<Result<_>>()?))
    }

    /// Replaces a memory file: one line of strict JSON.
    ///
    /// Two programs that do this at once lose what one of them saw; [`super::verify_remembering`] does not.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let spelled: BTreeMap<&String, Spelled> = self
            .0
            .iter()
            .map(|(origin, seen)| {
                let note = seen.checkpoint.as_ref().map(|signed| signed.note.to_text());
                let checkpoint = note.map(|note| strict_json::escape_text(note.as_bytes()));
                (origin, Spelled { checkpoint, root: seen.root, size: seen.size })
            })
            .collect();
        let value =
            serde_json::to_value(&spelled).map_err(|error| Error::malformed("memory", error.to_string()))?;
        let line = strict_json::to_line(&value)? + "\n";
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        replace(path, Path::new(&temporary), line.as_bytes())?;
        sync_folder(folder_of(path))
    }

    /// Holds all others off who remember in this file, until the result is dropped.
    pub(super) fn lock(path: &Path) -> Result<File> {
        // The file itself is replaced at each save, so the lock is on one beside it that stays.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let fault = |source| Error::Write { path: beside.clone().into(), source };
        let lock = File::options().create(true).append(true).open(&beside).map_err(fault)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .map_err(|error| fault(error.into()))?;
        Ok(lock)
    }

    /// Every size that is remembered.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.0.values().map(|seen| seen.size)
    }

    /// What is remembered of a log.
    pub fn of(&self, origin: &str) -> Option<&Remembered> {
        self.0.get(origin)
    }

    /// Remembers a log, unless as large a size of it is remembered with its checkpoint.
    pub fn remember(&mut self, origin: &str, size: u64, root: Digest, checkpoint: Option<SignedCheckpoint>) {
        let seen = Remembered { checkpoint, root, size };
        match self.0.entry(origin.to_owned()) {
            Entry::Vacant(free) => drop(free.insert(seen)),
            Entry::Occupied(mut known) => {
                let before = known.get();
                let adds_checkpoint =
                    before.size == size && before.root == root && before.checkpoint.is_none();
                if before.size < size || adds_checkpoint {
                    known.insert(seen);
                }
            }
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::keys::SigningKey;

    #[test]
    fn a_key_is_trusted_in_each_of_its_spellings() {
        let key = SigningKey::from_seed(&[3; 32]).verifying_key();
        let other = SigningKey::from_seed(&[4; 32]).verifying_key();
        for text in [key.to_vkey("lab.example/w"), key.to_pem().unwrap(), key.fingerprint()] {
            let trusted = TrustedKey::parse(&text).unwrap();
            assert!(trusted.is(&key));
            assert!(!trusted.is(&other));
            assert_eq!(trusted.fingerprint(), key.fingerprint());
        }
        for text in ["", "SHA256:short", "key", "-----BEGIN PUBLIC KEY-----"] {
            assert!(TrustedKey::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_memory_file_keeps_the_largest_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.json");
        let mut memory = Memory::load(&path).unwrap();
        memory.remember("exhibit/0", 7, Digest([7; 32]), None);
        memory.remember("exhibit/0", 5, Digest([5; 32]), None);
        memory.save(&path).unwrap();
        assert_eq!(Memory::load(&path).unwrap(), memory);
        assert_eq!(memory.of("exhibit/0").unwrap().size, 7);
        assert_eq!(memory.of("exhibit/1"), None);
    }

    #[test]
    fn a_memory_file_keeps_whole_checkpoints_and_refuses_one_that_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.json");
        let key = SigningKey::from_seed(&[3; 32]);
        let said = Checkpoint { origin: "exhibit/0".to_owned(), size: 7, root: Digest([7; 32]) };
        let signed = SignedCheckpoint::sign(said, &key).unwrap();
        let mut memory = Memory::default();
        memory.remember("exhibit/0", 7, Digest([7; 32]), None);
        memory.remember("exhibit/0", 7, Digest([7; 32]), Some(signed.clone()));
        memory.save(&path).unwrap();
        assert_eq!(Memory::load(&path).unwrap().of("exhibit/0").unwrap().checkpoint, Some(signed));
        let text = std::fs::read_to_string(&path).unwrap();
        let zeros = "0".repeat(64);
        for damaged in [
            text.replace("\"size\":7", "\"size\":8"),
            text.replace(&Digest([7; 32]).to_string(), &zeros),
            text.replace("exhibit/0\":", "exhibit/1\":"),
            text.trim_end().to_owned(),
            String::new(),
            "{}".to_owned(),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            assert!(matches!(Memory::load(&path), Err(Error::Damaged { .. })), "{damaged}");
        }
    }
}
