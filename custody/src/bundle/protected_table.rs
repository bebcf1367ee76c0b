//! The tables of an encrypted stream: in the clear while it may be taken up again, ciphertext once it is whole.

use std::io::Read;
use std::sync::Arc;

use super::error::{Error, Result};
use super::manifest::StoredFile;
use super::protection::Recipients;
use super::store::{BundleStore, StoreFile};
use super::writer::{HashedFile, TABLE_BUFFER};

/// Encrypts a table that lay in the clear until its stream was finished, and removes what lay there.
pub(super) fn encrypt_table(
    store: &Arc<dyn BundleStore>,
    protection: Option<&Recipients>,
    mut table: HashedFile,
) -> Result<StoredFile> {
    table.flush()?;
    let path = table.path.clone();
    drop(table);
    let unfinished =
        store.unfinished().ok_or_else(|| Error::write(&path, std::io::ErrorKind::Unsupported.into()))?;
    let place = unfinished.path_of(&path).map_err(|source| Error::read(&path, source))?;
    let mut plain = StoreFile::new(Arc::clone(store), &place);
    let mut encrypted = HashedFile::begin_with(&**store, &path, protection)?;
    let mut buffer = vec![0; TABLE_BUFFER];
    loop {
        let read = plain.read(&mut buffer).map_err(|source| Error::read(&path, source))?;
        if read == 0 {
            break;
        }
        encrypted.append(buffer.get(..read).unwrap_or_default())?;
    }
    let stored = encrypted.finish()?;
    unfinished.discard(&path).map_err(|source| Error::write(&path, source))?;
    Ok(stored)
}
