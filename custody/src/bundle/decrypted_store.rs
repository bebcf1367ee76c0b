//! Reads the encrypted files of a bundle as what is in them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::age_format::Decrypting;
use super::protection::{ENDING, Identities};
use super::store::{BundleStore, NewFile};

/// Files kept open: each holds one block of 64 KiB and its ciphertext.
const OPEN_FILES: usize = 32;

/// A store in which a path that ends in `.age` gives what is in that file, with its size. Nothing can be put into it.
///
/// Any range costs the decryption of the 64 KiB blocks it touches; each of them is authenticated. Threads read side by
/// side, each through a reader of its own.
pub struct DecryptedStore {
    stored: Arc<dyn BundleStore>,
    identities: Identities,
    /// Readers that nobody uses just now, the last used last.
    idle: Mutex<Vec<(String, Decrypting)>>,
}

impl fmt::Debug for DecryptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptedStore").field("stored", &self.stored).finish_non_exhaustive()
    }
}

impl DecryptedStore {
    /// Takes the store that holds the files, and the keys that open them. Nothing is read yet.
    #[must_use]
    pub fn new(stored: Arc<dyn BundleStore>, identities: Identities) -> Self {
        Self { stored, identities, idle: Mutex::default() }
    }

    /// Lends a reader to `with`; one that failed is not used again.
    fn reader<T>(&self, path: &str, with: impl FnOnce(&mut Decrypting) -> io::Result<T>) -> io::Result<T> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.iter().rposition(|(open, _)| open == path).map(|at| idle.remove(at).1)
        };
        let mut reader = match idle {
            Some(reader) => reader,
            None => Decrypting::open(&self.stored, path, self.identities.keys())?,
        };
        let done = with(&mut reader)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= OPEN_FILES {
            idle.remove(0);
        }
        idle.push((path.to_owned(), reader));
        Ok(done)
    }
}

impl BundleStore for DecryptedStore {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        if path.ends_with(ENDING) {
            self.reader(path, |reader| Ok(reader.length()))
        } else {
            self.stored.size_of(path)
        }
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if path.ends_with(ENDING) {
            self.reader(path, |reader| reader.read_at(offset, buf))
        } else {
            self.stored.read_at(path, offset, buf)
        }
    }

    fn put_new(&self, _: &str) -> io::Result<Box<dyn NewFile>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a decrypted bundle is only read"))
    }
}
