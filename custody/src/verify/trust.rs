//! What the person who verifies brings along: trusted keys, anchors kept elsewhere, remembered sizes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{MAX_NOTE, SignedCheckpoint, SignedNote};
use crate::digest::Digest;
use crate::durable_file::{read_small, replace, sync_folder};
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::strict_json;

/// A key that the verifier trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Key { name: Option<String>, key: VerifyingKey },
    Fingerprint(String),
}

impl TrustedKey {
    /// Reads a C2SP verifier key, a PEM public key, or a fingerprint (`SHA256:…`).
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
        let (name, key) = VerifyingKey::from_vkey(text)?;
        Ok(Self(Form::Key { name: Some(name), key }))
    }

    /// Whether this is that key.
    pub fn is(&self, key: &VerifyingKey) -> bool {
        match &self.0 {
            Form::Key { key: trusted, .. } => trusted == key,
            Form::Fingerprint(fingerprint) => *fingerprint == key.fingerprint(),
        }
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> String {
        match &self.0 {
            Form::Key { key, .. } => key.fingerprint(),
            Form::Fingerprint(fingerprint) => fingerprint.clone(),
        }
    }

    /// Whether it signed a note; a bare fingerprint can verify nothing.
    pub(super) fn signed(&self, note: &SignedNote) -> bool {
        let Form::Key { name, key } = &self.0 else { return false };
        let mut names = note.signatures().iter().map(|line| line.name.as_str());
        names
            .any(|signer| name.as_deref().is_none_or(|name| name == signer) && note.is_signed_by(signer, key))
    }
}

/// Checkpoints and tokens that were kept outside the evidence.
#[derive(Debug, Clone, Default)]
pub struct OutsideAnchors {
    pub(super) notes: Vec<(String, SignedCheckpoint)>,
    pub(super) unchecked: Vec<String>,
}

impl OutsideAnchors {
    /// Reads every file in a folder: signed checkpoints, and others, which are only listed.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self> {
        let fault = |source| Error::Read { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for item in std::fs::read_dir(folder).map_err(fault)? {
            let path = item.map_err(fault)?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        let mut outside = Self::default();
        for path in files {
            let name = strict_json::escape_text(path.file_name().unwrap_or_default().as_encoded_bytes());
            let bytes = read_small(&path, 16 << 20)?.unwrap_or_default();
            let note = (bytes.len() <= MAX_NOTE).then(|| SignedCheckpoint::parse(&bytes).ok()).flatten();
            match note {
                Some(note) => outside.notes.push((name, note)),
                None => outside.unchecked.push(name),
            }
        }
        Ok(outside)
    }
}

/// The largest size and its root that the verifier saw of each log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(BTreeMap<String, Remembered>);

/// What is remembered of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The root at that size.
    pub root: Digest,
    /// How many entries it had.
    pub size: u64,
}

impl Memory {
    /// Reads a memory file; a file that is not there remembers nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::StrictJson`] or [`Error::Malformed`].
    pub fn load(path: &Path) -> Result<Self> {
        let Some(bytes) = read_small(path, 64 << 20)? else { return Ok(Self::default()) };
        let line =
            bytes.strip_suffix(b"\n").ok_or_else(|| Error::malformed("memory file", "no final line feed"))?;
        let known = serde_json::from_value(strict_json::parse(line)?)
            .map_err(|error| Error::malformed("memory file", error.to_string()))?;
        Ok(Self(known))
    }

    /// Replaces a memory file: one line of strict JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let value =
            serde_json::to_value(&self.0).map_err(|error| Error::malformed("memory", error.to_string()))?;
        let line = strict_json::to_line(&value)? + "\n";
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        replace(path, Path::new(&temporary), line.as_bytes())?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
            _ => Ok(()),
        }
    }

    /// Every size that is remembered.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.0.values().map(|seen| seen.size)
    }

    /// What is remembered of a log.
    pub fn of(&self, origin: &str) -> Option<Remembered> {
        self.0.get(origin).copied()
    }

    /// Remembers a log, unless a larger size of it is remembered.
    pub fn remember(&mut self, origin: &str, size: u64, root: Digest) {
        let known = self.0.entry(origin.to_owned()).or_insert(Remembered { root, size });
        if known.size < size {
            *known = Remembered { root, size };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        memory.remember("exhibit/0", 7, Digest([7; 32]));
        memory.remember("exhibit/0", 5, Digest([5; 32]));
        memory.save(&path).unwrap();
        assert_eq!(Memory::load(&path).unwrap(), memory);
        assert_eq!(memory.of("exhibit/0").unwrap().size, 7);
        assert_eq!(memory.of("exhibit/1"), None);
    }
}
