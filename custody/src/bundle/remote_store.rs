//! A store that is not a folder: what it lists, and what its history says against it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::remote_place::RemotePlace;
use super::store::{BundleStore, NewFile};

/// Something in a store that a store of evidence must not hold: a later version of a file, a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFault {
    /// The file, from the bundle's folder; escaped where it is no path of a bundle.
    pub path: String,
    /// What it is, with version and time.
    pub words: String,
}

/// What a store holds under the place of one bundle.
#[derive(Debug, Clone, Default)]
pub struct RemoteListing {
    /// Each file that can be read, with its size.
    pub files: BTreeMap<String, u64>,
    /// What speaks against the store.
    pub faults: Vec<RemoteFault>,
    /// Whether the store could be listed at all. Where not, a file is known only by its name.
    pub is_complete: bool,
}

/// A store elsewhere that holds a bundle's files, each under its path in the bundle.
///
/// The custody log lies in it as one object an entry, `custody/00000007.json`, the line without its LF, and one for each
/// checkpoint, `checkpoints/00000008`, named by its size.
pub trait RemoteStore: BundleStore {
    /// Where it is, in words that a person can find it by.
    fn place(&self) -> String;

    /// What it holds, as it was when it was opened.
    fn listing(&self) -> &RemoteListing;

    /// Says which files will be read next, each whole and small, so that the store can ask for many of them at once.
    fn will_read(&self, _paths: &[String]) {}

    /// What is worth saying of what was read so far, and of what could not be seen.
    fn notes(&self) -> Vec<String>;
}

/// Who opens what a `store.json` names. This library opens no connection.
pub trait OpenRemote: fmt::Debug + Send + Sync {
    /// Opens the place.
    ///
    /// # Errors
    ///
    /// What stands in the way, in words.
    fn open(&self, place: &RemotePlace) -> io::Result<Arc<dyn RemoteStore>>;
}

/// The folder of the files that lie in the store alone.
const DATA: &str = "data/";

/// A bundle whose `data/` lies in another store than its other files. Nothing can be put into it.
#[derive(Debug)]
pub struct LayeredStore {
    rest: Arc<dyn BundleStore>,
    data: Arc<dyn BundleStore>,
}

impl LayeredStore {
    /// Takes `data/` from one store and all else from the other. Nothing is read yet.
    #[must_use]
    pub fn new(rest: Arc<dyn BundleStore>, data: Arc<dyn BundleStore>) -> Self {
        Self { rest, data }
    }

    fn of(&self, path: &str) -> &dyn BundleStore {
        if path.starts_with(DATA) { &*self.data } else { &*self.rest }
    }
}

impl BundleStore for LayeredStore {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        self.of(path).size_of(path)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.of(path).read_at(path, offset, buf)
    }

    fn put_new(&self, _: &str) -> io::Result<Box<dyn NewFile>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a sealed bundle takes no new file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::LocalFolder;

    #[test]
    fn data_comes_from_one_store_and_all_else_from_the_other() {
        let [here, there] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for (folder, text) in [(&here, "here"), (&there, "there")] {
            std::fs::create_dir(folder.path().join("data")).unwrap();
            for name in ["manifest.json", "data/x", "database"] {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
        }
        let local = |folder: &tempfile::TempDir| Arc::new(LocalFolder::new(folder.path()));
        let store = LayeredStore::new(local(&here), local(&there));
        for (path, size) in [("manifest.json", 4), ("database", 4), ("data/x", 5)] {
            assert_eq!(store.size_of(path).unwrap(), size, "{path}");
        }
        assert!(store.put_new("data/y").is_err());
    }
}
