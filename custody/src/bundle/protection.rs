//! Who may read a bundle: recipients that its data is encrypted to, and identities that open it again.
//!
//! A protected file is an `age` file (<https://age-encryption.org/v1>), so `age -d -i KEY FILE` opens it without this
//! program. Keys are X25519: `age1…` and `AGE-SECRET-KEY-1…`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::age_format::{self, Encrypting};
use super::error::{Error, Result};
use super::manifest::Plain;
use super::store::{BundleStore, NewFile};
use crate::digest::{Digest, Hasher};

/// What is put behind the name of an encrypted file.
pub(crate) const ENDING: &str = ".age";

/// More recipients than this are refused, so that every header that is written can be read again.
const MOST_RECIPIENTS: usize = 100;

/// No file of keys is longer.
const LONGEST_KEY_FILE: u64 = 1 << 20;

/// The public keys that a bundle's data is encrypted to. Each of them alone opens it.
#[derive(Clone, Default)]
pub struct Recipients {
    keys: Vec<age_format::Recipient>,
    names: Vec<String>,
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipients").field(&self.names).finish()
    }
}

impl Recipients {
    /// Adds one recipient: `age1…`. One that is there already is not added again.
    ///
    /// # Errors
    ///
    /// [`Error::Protection`] for everything else, with what it seems to be.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let text = text.trim();
        if self.names.iter().any(|name| name == text) {
            return Ok(());
        }
        let key = age_format::Recipient::parse(text).map_err(|reason| Error::Protection {
            // A secret key that was given by mistake is not repeated.
            reason: match wrong_recipient(text) {
                Some(kind) => kind.to_owned(),
                None => format!("{text:?} is no age recipient: {reason}"),
            },
        })?;
        if self.keys.len() >= MOST_RECIPIENTS {
            return Err(Error::Protection {
                reason: format!("there are more than {MOST_RECIPIENTS} recipients"),
            });
        }
        self.keys.push(key);
        self.names.push(text.to_owned());
        Ok(())
    }

    /// Adds the recipients in a file: one a line, empty lines and lines that begin with `#` aside.
    ///
    /// # Errors
    ///
    /// [`Error::Protection`] with the line, or when the file holds none; [`Error::KeyFile`].
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        each_key(path, "recipient", |line| self.add(line).map_err(|error| error.to_string()))
    }

    /// The recipients as they were given, in that order. They are public.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether there is none: then nothing can be encrypted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Encrypts a canary to each recipient alone, and says for each whether these identities gave it back.
    ///
    /// # Errors
    ///
    /// [`Error::Protection`] when it cannot be encrypted.
    pub fn opened_by(&self, identities: &Identities, canary: &[u8]) -> Result<Vec<(String, bool)>> {
        let cannot = |error: io::Error| Error::Protection { reason: error.to_string() };
        let each = self.names.iter().zip(self.keys.chunks(1)).map(|(name, key)| {
            let mut encrypting = Encrypting::begin(key, Vec::new()).map_err(cannot)?;
            encrypting.write_all(canary).map_err(cannot)?;
            let sealed = encrypting.finish().map_err(cannot)?;
            Ok((name.clone(), opens(sealed, identities, canary)))
        });
        each.collect()
    }
}

/// Whether an encrypted canary is given back whole.
fn opens(sealed: Vec<u8>, identities: &Identities, canary: &[u8]) -> bool {
    let store: Arc<dyn BundleStore> = Arc::new(OneFile(sealed));
    let Ok(mut opened) = age_format::Decrypting::open(&store, "canary", identities.keys()) else {
        return false;
    };
    let mut plain = vec![0; canary.len()];
    opened.length() == canary.len() as u64
        && opened.read_at(0, &mut plain).is_ok_and(|read| read == canary.len())
        && plain == canary
}

/// A store of one file, which is in memory.
#[derive(Debug)]
struct OneFile(Vec<u8>);

impl BundleStore for OneFile {
    fn read_at(&self, _: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(at..).unwrap_or_default();
        let take = rest.len().min(buf.len());
        if let (Some(into), Some(from)) = (buf.get_mut(..take), rest.get(..take)) {
            into.copy_from_slice(from);
        }
        Ok(take)
    }

    fn size_of(&self, _: &str) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn put_new(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("{path:?} cannot be put here")))
    }
}

fn wrong_recipient(text: &str) -> Option<&'static str> {
    if text.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("AGE-SECRET-KEY-1")) {
        Some("that is a secret key, not a recipient: `age-keygen -y FILE` prints the recipient of a key")
    } else if text.starts_with("ssh-") {
        Some("SSH keys are not supported as recipients: make a key with `age-keygen`")
    } else {
        None
    }
}

/// The secret keys that a reader brings along. Empty, it opens nothing.
#[derive(Clone, Default)]
pub struct Identities {
    keys: Arc<Vec<age_format::Identity>>,
}

impl fmt::Debug for Identities {
    /// Says how many there are, and nothing of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.keys.len()).finish()
    }
}

impl Identities {
    /// Reads files of identities, as `age-keygen` writes them.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if one cannot be read, [`Error::Protection`] for one that holds something else; a file that is
    /// itself encrypted with a passphrase is not supported, and said to be one.
    pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<Self> {
        let mut keys = Vec::new();
        for file in files {
            each_key(file.as_ref(), "identity", |line| {
                keys.push(age_format::Identity::parse(line)?);
                Ok(())
            })?;
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    /// Takes one identity: `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    ///
    /// [`Error::Protection`], which does not repeat the text.
    pub fn one(text: &str) -> Result<Self> {
        let key = age_format::Identity::parse(text.trim()).map_err(|reason| Error::Protection { reason })?;
        Ok(Self { keys: Arc::new(vec![key]) })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn keys(&self) -> &[age_format::Identity] {
        &self.keys
    }
}

/// Calls `take` for every line of a file of keys. No line is repeated in an error: it may be secret.
fn each_key(
    path: &Path,
    what: &str,
    mut take: impl FnMut(&str) -> std::result::Result<(), String>,
) -> Result<()> {
    let unread = |source| Error::KeyFile { path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(unread)?;
    let read = file.take(LONGEST_KEY_FILE + 1).read_to_end(&mut bytes).map_err(unread)?;
    let wrong = |reason: String| Error::Protection { reason: format!("{path:?} {reason}") };
    if read as u64 > LONGEST_KEY_FILE {
        return Err(wrong(format!("is longer than 1 MiB, so it is no file of age {what} lines")));
    }
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
        return Err(wrong(
            "is itself encrypted, which is not supported: give what `age -d` makes of it, as in <(age -d FILE)".into(),
        ));
    }
    if bytes.starts_with(b"-----BEGIN ") {
        return Err(wrong(
            "is a key of another kind: only keys that `age-keygen` makes are supported".into(),
        ));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is no text".into()))?;
    let mut found = false;
    for (number, line) in (1u64..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        take(line).map_err(|reason| wrong(format!("line {number}: {reason}")))?;
        found = true;
    }
    if found { Ok(()) } else { Err(wrong(format!("holds no age {what}"))) }
}

/// Why an encrypted file does not give what is in it. It travels inside an [`io::Error`].
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unopened {
    /// It was encrypted to other keys.
    #[error("it is encrypted, and none of the given identities opens it")]
    NoKey,
    /// The ciphertext is not what was written.
    #[error("its ciphertext was altered or cut: {0}")]
    #[cfg_attr(not(feature = "age"), expect(dead_code, reason = "nothing is decrypted without the feature"))]
    Damaged(String),
}

impl Unopened {
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self {
            Self::NoKey => io::ErrorKind::PermissionDenied,
            Self::Damaged(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }

    /// What an error of a store was about, if it was about this.
    fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether an error says that no key fits.
    pub(crate) fn is_no_key(error: &io::Error) -> bool {
        matches!(Self::of(error), Some(Self::NoKey))
    }

    /// Whether an error says that ciphertext was altered.
    pub(crate) fn is_damage(error: &io::Error) -> bool {
        matches!(Self::of(error), Some(Self::Damaged(_)))
    }
}

/// The stored bytes of a file on their way, hashed and counted.
pub(super) struct Stored {
    file: Box<dyn NewFile>,
    hasher: Hasher,
    size: u64,
}

impl Write for Stored {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_all(buf).map(|()| buf.len())
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.file.write_all(buf)?;
        self.hasher.update(buf);
        self.size = self.size.saturating_add(buf.len() as u64);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A new file of the bundle: stored as it is, or encrypted on the way.
pub(super) enum Output {
    /// Stored as it is, or all of it encrypted already, with what was inside.
    Stored(Stored, Option<Plain>),
    /// Being encrypted; what goes in is hashed and counted too.
    Encrypted(Box<Encrypting<Stored>>, Hasher, u64),
    /// The end could not be written.
    Failed,
}

impl Output {
    pub(super) fn new(file: Box<dyn NewFile>, protection: Option<&Recipients>) -> io::Result<Self> {
        let stored = Stored { file, hasher: Hasher::new(), size: 0 };
        Ok(match protection {
            None => Self::Stored(stored, None),
            Some(recipients) => {
                let encrypting = Encrypting::begin(&recipients.keys, stored)?;
                Self::Encrypted(Box::new(encrypting), Hasher::new(), 0)
            }
        })
    }

    /// Goes on with a file that is stored as it is, behind its first `size` bytes, whose hash so far is `hasher`.
    pub(super) fn resumed(file: Box<dyn NewFile>, size: u64, hasher: Hasher) -> Self {
        Self::Stored(Stored { file, hasher, size }, None)
    }

    /// Bytes that are stored so far; 0 while they are encrypted.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Stored(stored, _) => stored.size,
            Self::Encrypted(..) | Self::Failed => 0,
        }
    }

    /// A descriptor that syncs the file, where there is one.
    pub(super) fn flushed_file(&mut self) -> io::Result<Option<File>> {
        match self {
            Self::Stored(stored, _) => stored.file.flushed_file(),
            Self::Encrypted(..) | Self::Failed => Ok(None),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stored(stored, None) => stored.write_all(bytes),
            Self::Encrypted(encrypting, hasher, size) => {
                encrypting.write_all(bytes)?;
                hasher.update(bytes);
                *size = size.saturating_add(bytes.len() as u64);
                Ok(())
            }
            Self::Stored(..) | Self::Failed => Err(io::Error::other("the file has ended")),
        }
    }

    /// Ends what is encrypted, so that all of it is in the file; nothing can be written behind it.
    pub(super) fn end(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Failed) {
            Self::Encrypted(encrypting, hasher, size) => {
                let stored = encrypting.finish()?;
                Self::Stored(stored, Some(Plain { sha256: hasher.finish(), size }))
            }
            other => other,
        };
        Ok(())
    }

    /// Makes the file durable, and gives size and SHA-256 of what is stored and of what is inside.
    pub(super) fn finish(mut self) -> io::Result<(u64, Digest, Option<Plain>)> {
        self.end()?;
        match self {
            Self::Stored(stored, plain) => {
                stored.file.finish()?;
                Ok((stored.size, stored.hasher.finish(), plain))
            }
            Self::Encrypted(..) | Self::Failed => Err(io::Error::other("the file could not be ended")),
        }
    }
}
