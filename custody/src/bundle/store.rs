//! Where a bundle's files lie: each is put once, whole, and never changed.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::fs::{Advice, CWD, Mode, OFlags, RenameFlags, fadvise, openat, renameat_with};

use super::direct_write::DirectWrite;

/// A place that holds the immutable files of one bundle.
///
/// Paths are relative, with `/` between their parts. A store refuses every other path, so what a manifest names can
/// never lead out of the bundle.
pub trait BundleStore: Send + Sync + fmt::Debug {
    /// The size of a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, or what the system says.
    fn size_of(&self, path: &str) -> io::Result<u64>;

    /// Reads at an offset. Gives fewer bytes than asked only at the end of the file.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Begins a new file, which gets its name only by [`NewFile::finish`].
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if a file of that name is there, or what the system says.
    fn put_new(&self, path: &str) -> io::Result<Box<dyn NewFile>>;

    /// What it can do with files that were begun and not finished; nothing, unless it says so.
    fn unfinished(&self) -> Option<&dyn Unfinished> {
        None
    }

    /// How it is written to if the segments put there can be neither read nor removed again; `None` for a folder.
    fn write_only(&self) -> Option<&dyn WriteOnly> {
        None
    }
}

/// An evidence store that is only ever added to, by a writer that may not read it.
///
/// Segments go there as they come: [`NewFile::finish`] makes one durable without its name, which [`WriteOnly::publish`]
/// gives it once nothing can make it anew. All other files lie in a local folder, and are put by [`WriteOnly::settle`].
pub trait WriteOnly {
    /// Gives a finished segment its name. One that has it already is left as it is.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if somebody else took the name, or what the store says.
    fn publish(&self, path: &str) -> io::Result<()>;

    /// Puts everything that is not there yet. From its first moment on, none of these files is made anew: an interrupted
    /// call is followed by another.
    ///
    /// # Errors
    ///
    /// As [`WriteOnly::publish`].
    fn settle(&self) -> io::Result<()>;

    /// Whether [`WriteOnly::settle`] was begun, by an earlier process too.
    fn is_settling(&self) -> bool;

    /// Removes from the local folder what was kept there only until the bundle is sealed.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sealed(&self) -> io::Result<()>;

    /// What may be left in the store that belongs to no file, each in words with all that is needed to remove it.
    fn left_behind(&self) -> Vec<String>;
}

/// Files that were begun and never sealed, so that a writer that was cut short can be followed by another.
pub trait Unfinished {
    /// Opens a file that is only ever appended to, made if it is not there.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn open_to_append(&self, path: &str) -> io::Result<File>;

    /// Where the bytes of a file can be read that may or may not have its name yet.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is neither, or what the system says.
    fn path_of(&self, path: &str) -> io::Result<String>;

    /// Takes a file up again, cut to its first `length` bytes. One that had its name already loses it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if it is shorter, or what the system says.
    fn reopen(&self, path: &str, length: u64) -> io::Result<Box<dyn NewFile>>;

    /// Makes the name of a file durable, finished or not, with those of the folders above it.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync_names(&self, path: &str) -> io::Result<()>;

    /// Removes a file, finished or not. Says whether there was one.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn discard(&self, path: &str) -> io::Result<bool>;
}

/// A file on its way into a store.
///
/// Dropped without [`NewFile::finish`], its bytes may stay under another name, never under its own.
pub trait NewFile: Write + Send {
    /// Makes the bytes durable and gives the file its name.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::AlreadyExists`] if another writer took the name.
    fn finish(self: Box<Self>) -> io::Result<()>;

    /// A second descriptor of the file, with which another thread brings it to the disk; `None` if there is none.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn flushed_file(&mut self) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// After so many bytes a file is synced while it is written on.
const SYNC_EVERY: usize = 32 << 20;

/// The same, where what is written shall not stay in the page cache.
const DROP_EVERY: usize = 4 << 20;

/// Files kept open by one store: a bundle of 64 GiB has 64 segments.
const OPEN_FILES: usize = 64;

/// A bundle in a local folder.
pub struct LocalFolder {
    root: PathBuf,
    open: Mutex<HashMap<String, Arc<File>>>,
    leaves_no_cache: bool,
}

impl fmt::Debug for LocalFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFolder").field("root", &self.root).finish_non_exhaustive()
    }
}

impl LocalFolder {
    /// Takes the folder as it is; nothing is read or made.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), open: Mutex::default(), leaves_no_cache: false }
    }

    /// Asks the system to drop from its page cache what is written, as soon as it is on the disk.
    ///
    /// For evidence that is this machine's own memory: each page of cache overwrites a free page of it, which may still
    /// hold what a process that has ended left behind. Reading the files again takes longer.
    #[must_use]
    pub fn leaving_no_cache(mut self) -> Self {
        self.leaves_no_cache = true;
        self
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of a bundle path, if it stays inside and no part on the way is a link.
    fn locate(&self, path: &str) -> io::Result<PathBuf> {
        if !is_bundle_path(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path inside a bundle"));
        }
        let mut place = self.root.clone();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            place.push(part);
            if parts.peek().is_some() && fs::symlink_metadata(&place).is_ok_and(|found| !found.is_dir()) {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    "a folder of the bundle is a link or a file",
                ));
            }
        }
        Ok(place)
    }

    /// A file that is appended to behind its first `length` bytes.
    fn local_file(
        &self,
        file: File,
        unfinished: PathBuf,
        place: PathBuf,
        length: u64,
    ) -> io::Result<Box<dyn NewFile>> {
        let file = DirectWrite::behind(file, &unfinished, length)?;
        let (root, leaves_no_cache) = (self.root.clone(), self.leaves_no_cache);
        Ok(Box::new(LocalFile { file, unfinished, place, root, leaves_no_cache, unsynced: 0, syncing: None }))
    }

    /// Closes a file that is about to change, under both its names.
    fn forget(&self, path: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(path);
        open.remove(&format!("{path}.part"));
    }

    fn opened(&self, path: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(path) {
            return Ok(Arc::clone(file));
        }
        let place = self.locate(path)?;
        // NONBLOCK: a pipe put in a file's place must not hold the reader for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(openat(CWD, &place, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        let file = Arc::new(file);
        open.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

/// Whether a path is relative, has no empty, `.` or `..` part and only printable ASCII without `\`.
pub(crate) fn is_bundle_path(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

impl BundleStore for LocalFolder {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        Ok(self.opened(path)?.metadata()?.len())
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = self.opened(path)?;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn put_new(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        let place = self.locate(path)?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::symlink_metadata(&place).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let unfinished = unfinished_name(&place);
        let file = File::options().write(true).create_new(true).open(&unfinished)?;
        self.local_file(file, unfinished, place, 0)
    }

    fn unfinished(&self) -> Option<&dyn Unfinished> {
        Some(self)
    }
}

/// The name of a file until it is finished.
fn unfinished_name(place: &Path) -> PathBuf {
    let mut name = place.to_owned().into_os_string();
    name.push(".part");
    PathBuf::from(name)
}

impl Unfinished for LocalFolder {
    fn open_to_append(&self, path: &str) -> io::Result<File> {
        let place = self.locate(path)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(openat(CWD, &place, flags, Mode::from_raw_mode(0o644))?);
        File::open(&self.root)?.sync_all()?;
        Ok(file)
    }

    fn path_of(&self, path: &str) -> io::Result<String> {
        let place = self.locate(path)?;
        if fs::symlink_metadata(&place).is_ok() {
            return Ok(path.to_owned());
        }
        fs::symlink_metadata(unfinished_name(&place))?;
        Ok(format!("{path}.part"))
    }

    fn reopen(&self, path: &str, length: u64) -> io::Result<Box<dyn NewFile>> {
        let place = self.locate(path)?;
        let unfinished = unfinished_name(&place);
        if fs::symlink_metadata(&place).is_ok() {
            fs::rename(&place, &unfinished)?;
        }
        self.forget(path);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(openat(CWD, &unfinished, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        if found.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.set_len(length)?;
        self.local_file(file, unfinished, place, length)
    }

    fn sync_names(&self, path: &str) -> io::Result<()> {
        sync_folders_above(&self.locate(path)?, &self.root)
    }

    fn discard(&self, path: &str) -> io::Result<bool> {
        let place = self.locate(path)?;
        self.forget(path);
        let mut found = false;
        for name in [unfinished_name(&place), place] {
            match fs::remove_file(&name) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

struct LocalFile {
    file: DirectWrite,
    unfinished: PathBuf,
    place: PathBuf,
    root: PathBuf,
    leaves_no_cache: bool,
    unsynced: usize,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl LocalFile {
    /// Lets a thread bring to the disk what is written so far, so that little is left to wait for at the end.
    fn sync_behind(&mut self) -> io::Result<()> {
        let every = if self.leaves_no_cache { DROP_EVERY } else { SYNC_EVERY };
        if self.unsynced < every || self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        self.end_syncing()?;
        self.unsynced = 0;
        let file = self.file.file().try_clone()?;
        let leaves_no_cache = self.leaves_no_cache;
        let sync = move || {
            file.sync_data()?;
            if leaves_no_cache {
                drop_cache(&file);
            }
            Ok(())
        };
        self.syncing = Some(thread::Builder::new().name("sync".to_owned()).spawn(sync)?);
        Ok(())
    }

    fn end_syncing(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(syncing) => {
                syncing.join().map_err(|_| io::Error::other("the thread that syncs the file failed"))?
            }
            None => Ok(()),
        }
    }
}

impl Write for LocalFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.append(buf)?;
        self.unsynced = self.unsynced.saturating_add(buf.len());
        self.sync_behind()?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for LocalFile {
    fn flushed_file(&mut self) -> io::Result<Option<File>> {
        self.file.flushed()?.try_clone().map(Some)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        // An error of the file is told to one sync only, and that may have been the thread's.
        self.end_syncing()?;
        self.file.flushed()?.sync_all()?;
        if self.leaves_no_cache {
            drop_cache(self.file.file());
        }
        match renameat_with(CWD, &self.unfinished, CWD, &self.place, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // File systems without the flag: the name was free when the file was begun, and one writer owns a bundle.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                if fs::symlink_metadata(&self.place).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(&self.unfinished, &self.place)?;
            }
            Err(error) => return Err(error.into()),
        }
        sync_folders_above(&self.place, &self.root)
    }
}

/// Drops a file's pages from the cache, but for those that are not on the disk yet. Advice: it may be left unheeded.
fn drop_cache(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// A name is durable only when its folder is, and a new folder only when the folder above it is.
fn sync_folders_above(place: &Path, root: &Path) -> io::Result<()> {
    for folder in place.ancestors().skip(1) {
        File::open(folder)?.sync_all()?;
        if folder == root {
            break;
        }
    }
    Ok(())
}

/// Reads one file of a store from its start.
pub(crate) struct StoreFile {
    store: Arc<dyn BundleStore>,
    path: String,
    offset: u64,
}

impl StoreFile {
    pub(crate) fn new(store: Arc<dyn BundleStore>, path: &str) -> Self {
        Self { store, path: path.to_owned(), offset: 0 }
    }
}

impl io::Read for StoreFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.store.read_at(&self.path, self.offset, buf)?;
        self.offset = self.offset.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_leaves_no_cache_keeps_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFolder::new(folder.path()).leaving_no_cache();
        let bytes: Vec<u8> = (0..3 * DROP_EVERY + 77).map(|i| (i / 251) as u8).collect();
        let mut file = store.put_new("data/memory/000000.zst").unwrap();
        for part in bytes.chunks(1 << 20) {
            file.write_all(part).unwrap();
        }
        file.finish().unwrap();
        let mut read = vec![0; bytes.len()];
        assert_eq!(store.read_at("data/memory/000000.zst", 0, &mut read).unwrap(), bytes.len());
        assert!(read == bytes);
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFolder::new(folder.path());
        let mut file = store.put_new("data/disk/000000.zst").unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(store.size_of("data/disk/000000.zst").unwrap_err().kind(), io::ErrorKind::NotFound);
        file.finish().unwrap();
        assert_eq!(store.size_of("data/disk/000000.zst").unwrap(), 3);
        let mut buf = [0; 8];
        assert_eq!(store.read_at("data/disk/000000.zst", 1, &mut buf).unwrap(), 2);
        assert_eq!(&buf[..2], b"bc");
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFolder::new(folder.path());
        store.put_new("a").unwrap().finish().unwrap();
        let refused = store.put_new("a").err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn paths_that_leave_the_bundle_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFolder::new(folder.path());
        for path in ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/", "a\\b", "a\nb", "ä"] {
            assert!(store.size_of(path).is_err(), "{path}");
            assert!(store.put_new(path).is_err(), "{path}");
        }
    }

    #[test]
    fn links_and_pipes_in_a_files_place_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("x"), b"secret").unwrap();
        std::os::unix::fs::symlink(outside.path().join("x"), folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("data")).unwrap();
        rustix::fs::mknodat(
            CWD,
            folder.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let store = LocalFolder::new(folder.path());
        for path in ["link", "data/x", "pipe"] {
            assert!(store.size_of(path).is_err(), "{path}");
        }
    }
}
