//! An S3 bucket as an evidence store: a bundle's files become objects, each put once, by a writer who may do nothing else.
//!
//! Segments stream there in parts, with nothing on the local disk. Tables, manifest and log lie in the exhibit's folder
//! and are put from there; once the bundle is sealed, what is in `data/` is removed from it. The writer needs neither to
//! list, nor to read, nor to delete: what it must know, `uploads.journal` tells.
//!
//! Rules: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html> (`If-None-Match`),
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>.

mod denied;
mod grant;
mod granted;
mod issuing;
mod log_objects;
mod multipart;
mod presigning;
mod requests;
mod rights;
mod uploads;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::bundle::{
    BundleStore, LocalFolder, NewFile, RemotePlace, Unfinished, WriteOnly, open_uploads, remove_local_data,
    remove_uploads,
};
use custody::{Digest, Hasher};
use tokio::sync::Semaphore;

use crate::aws::{Connection, Failure};
use crate::error::{Error, Result};
use multipart::{Dispatch, Sending, complete, settle_put};
use requests::Requests;
use uploads::{Line, Uploads};

pub use grant::{Grant, Granted, GrantedKind, LARGEST_GRANT};
pub use issuing::{Closed, LONGEST_GRANT, close, issue, renew};
pub use log_objects::S3LogMirror;
pub use requests::Pace;
pub use rights::{Rights, rights};

/// The list of a bundle's files, which is put last.
const SUMS: &str = "SHA256SUMS";

/// No list is longer: it names a segment for each GiB.
const LONGEST_SUMS: u64 = 256 << 20;

/// What the log puts by itself.
const OF_THE_LOG: &str = "keys/log.vkey";

/// Words about uploads name so many; more only count.
const MOST_NAMED: usize = 20;

/// A bundle that is written to an S3 bucket.
pub struct S3Store {
    line: Arc<Dispatch>,
    local: LocalFolder,
    folder: PathBuf,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("place", self.place())
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// Begins a bundle at a place of its own; its folder is there and from now on says where the data lies.
    ///
    /// `leaves_no_cache` as [`LocalFolder::leaving_no_cache`].
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] if the folder cannot be written, or names a place already.
    pub fn begin(connection: &Connection, place: RemotePlace, folder: &Path, pace: Pace) -> Result<Self> {
        place.write(folder)?;
        Self::open(connection, place, folder, pace)
    }

    /// Goes on with a bundle that was begun, at the place that its folder names.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] if the folder names no place, or its notes cannot be read.
    pub fn take_up(connection: &Connection, folder: &Path, pace: Pace) -> Result<Self> {
        let Some(place) = RemotePlace::read(folder)? else {
            return Err(Error::NotResumable {
                exhibit: folder.display().to_string(),
                reason: "it was not begun in an evidence store".to_owned(),
            });
        };
        let store = Self::open(connection, place, folder, pace)?;
        store.clear_up();
        Ok(store)
    }

    /// Begins the bundle that a grant is for; its folder is there and from now on says where the data lies.
    ///
    /// # Errors
    ///
    /// As [`S3Store::begin`].
    pub fn begin_granted(grant: &Grant, folder: &Path, pace: Pace) -> Result<Self> {
        grant.place().write(folder)?;
        Self::open_with(Requests::of_grant(&Connection::without_account(grant.place())?, grant, pace), folder)
    }

    /// Goes on with a bundle that a grant is for: the one that it was begun with, or one that was renewed.
    ///
    /// # Errors
    ///
    /// As [`S3Store::take_up`], and [`Error::Grant`] for a grant of another exhibit.
    pub fn take_up_granted(grant: &Grant, folder: &Path, pace: Pace) -> Result<Self> {
        if RemotePlace::read(folder)?.as_ref() != Some(grant.place()) {
            return Err(Error::Grant { reason: "what was begun here was begun at another place".to_owned() });
        }
        Self::open_with(Requests::of_grant(&Connection::without_account(grant.place())?, grant, pace), folder)
    }

    fn open(connection: &Connection, place: RemotePlace, folder: &Path, pace: Pace) -> Result<Self> {
        Self::open_with(Requests::new(connection, place, pace), folder)
    }

    fn open_with(requests: Requests, folder: &Path) -> Result<Self> {
        let pace = requests.pace;
        let (read, append) = open_uploads(folder)?;
        let fault = |source| custody::Error::Read { path: folder.to_owned(), source };
        let uploads = Uploads::open(read, append).map_err(fault)?;
        let room = Arc::new(Semaphore::new(pace.in_flight.max(1)));
        let line = Arc::new(Dispatch { requests, uploads, room });
        Ok(Self { line, local: LocalFolder::new(folder), folder: folder.to_owned() })
    }

    /// Leaves as little as can be in the memory of this machine: see [`LocalFolder::leaving_no_cache`].
    #[must_use]
    pub fn leaving_no_cache(mut self) -> Self {
        self.local = LocalFolder::new(&self.folder).leaving_no_cache();
        self
    }

    /// Where the bundle lies.
    #[must_use]
    pub fn place(&self) -> &RemotePlace {
        &self.line.requests.place
    }

    /// Looks for uploads that were begun by an answer that never came, or were left for another, and gives them up.
    ///
    /// What cannot be found or given up stays in the journal, and is told by [`WriteOnly::left_behind`].
    fn clear_up(&self) {
        let Dispatch { requests, uploads, .. } = &*self.line;
        for (path, object) in uploads.all() {
            let Ok(key) = requests.place.key(&path) else { continue };
            for id in &object.left {
                if requests.wait(requests.abort(&key, id)).is_ok() {
                    // The journal only forgets what is gone: a line that is lost is found again.
                    let _ = uploads.note(&[Line::Aborted { id: id.clone(), path: path.clone() }]);
                }
            }
            if object.unknown == 0 {
                continue;
            }
            let Ok(found) = requests.wait(requests.uploads_of(&key)) else { continue };
            let own = object.upload.as_ref().map(|upload| upload.id.as_str());
            let all_gone = found
                .iter()
                .filter(|id| Some(id.as_str()) != own)
                .all(|id| requests.wait(requests.abort(&key, id)).is_ok());
            if all_gone {
                let _ = uploads.note(&[Line::Cleared { path }]);
            }
        }
    }

    /// Puts a file that lies in the folder, whose hash is known.
    fn put_local(&self, path: &str, expected: Digest) -> io::Result<()> {
        let Dispatch { requests, uploads, .. } = &*self.line;
        let object = uploads.of(path);
        if object.done.is_some() {
            return Ok(());
        }
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "it was changed since it was written");
        if object.upload.as_ref().is_some_and(|upload| upload.ready.is_some()) {
            return complete(&self.line, path);
        }
        let part_size = requests.pace.part_size as u64;
        let size = self.local.size_of(path)?;
        if size > part_size {
            let mut sending = Sending::begin(&self.line, path)?;
            self.each_block(path, |block| io::Write::write_all(&mut sending, block))?;
            let (_, sha256) = sending.finish_sending()?;
            return if sha256 == expected { complete(&self.line, path) } else { Err(changed()) };
        }
        let mut bytes = Vec::new();
        self.each_block(path, |block| {
            bytes.extend_from_slice(block);
            Ok(())
        })?;
        if custody::sha256(&bytes) != expected {
            return Err(changed());
        }
        let key = requests.place.key(path).map_err(io::Error::other)?;
        uploads.note(&[Line::Putting { path: path.to_owned() }])?;
        let size = bytes.len() as u64;
        let sent = requests.wait(requests.put(&key, bytes));
        settle_put(&self.line, path, &key, (size, expected), object.putting, sent)
    }

    fn each_block(&self, path: &str, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut block = vec![0; 1 << 20];
        let mut at = 0u64;
        loop {
            let read = self.local.read_at(path, at, &mut block)?;
            if read == 0 {
                return Ok(());
            }
            take(block.get(..read).unwrap_or_default())?;
            at = at.saturating_add(read as u64);
        }
    }

    /// The files of the bundle with their hashes, as its list in the folder has them.
    fn listed(&self) -> io::Result<Vec<(Digest, String)>> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is no list of files");
        let text = self.small_file(SUMS)?;
        let text = String::from_utf8(text).map_err(|_| wrong())?;
        text.lines()
            .map(|line| {
                let (hash, path) = line.split_once("  ").ok_or_else(wrong)?;
                Ok((hash.parse().map_err(|_| wrong())?, path.to_owned()))
            })
            .collect()
    }

    fn small_file(&self, path: &str) -> io::Result<Vec<u8>> {
        if self.local.size_of(path)? > LONGEST_SUMS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than can be"));
        }
        let mut bytes = Vec::new();
        self.each_block(path, |block| {
            bytes.extend_from_slice(block);
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// Whether a path is one of a segment: `data/disk/000000.zst`.
fn is_segment(path: &str) -> bool {
    path.strip_prefix("data/").is_some_and(|rest| rest.contains('/'))
}

impl BundleStore for S3Store {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        self.local.size_of(path)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.local.read_at(path, offset, buf)
    }

    fn put_new(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        if !is_segment(path) {
            return self.local.put_new(path);
        }
        match self.line.uploads.of(path).done {
            None => Ok(Box::new(Sending::begin(&self.line, path)?)),
            Some((size, sha256)) => Ok(Box::new(Again { size, sha256, hasher: Hasher::new(), so_far: 0 })),
        }
    }

    fn unfinished(&self) -> Option<&dyn Unfinished> {
        Some(self)
    }

    fn write_only(&self) -> Option<&dyn WriteOnly> {
        Some(self)
    }
}

/// A segment that the store has already, made anew: it must be the same.
struct Again {
    size: u64,
    sha256: Digest,
    hasher: Hasher,
    so_far: u64,
}

impl io::Write for Again {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.so_far = self.so_far.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Again {
    fn finish(self: Box<Self>) -> io::Result<()> {
        if (self.so_far, self.hasher.finish()) == (self.size, self.sha256) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the store has it already with other bytes, which nobody can replace: the source has changed since",
        ))
    }
}

impl Unfinished for S3Store {
    fn open_to_append(&self, path: &str) -> io::Result<File> {
        Unfinished::open_to_append(&self.local, path)
    }

    fn path_of(&self, path: &str) -> io::Result<String> {
        self.local.path_of(path)
    }

    fn reopen(&self, path: &str, length: u64) -> io::Result<Box<dyn NewFile>> {
        self.local.reopen(path, length)
    }

    fn sync_names(&self, path: &str) -> io::Result<()> {
        if is_segment(path) { Ok(()) } else { self.local.sync_names(path) }
    }

    fn discard(&self, path: &str) -> io::Result<bool> {
        // What was sent of a segment stays: parts of it that are made again need not be sent again.
        if is_segment(path) { Ok(false) } else { self.local.discard(path) }
    }
}

impl WriteOnly for S3Store {
    fn publish(&self, path: &str) -> io::Result<()> {
        complete(&self.line, path)
    }

    fn settle(&self) -> io::Result<()> {
        let named = |path: &str, error: io::Error| {
            let kind = error.kind();
            io::Error::new(kind, Unsettled { path: path.to_owned(), source: error })
        };
        let listed = self.listed()?;
        if !self.line.uploads.is_settling() {
            self.line.uploads.note(&[Line::Settling])?;
        }
        for (sha256, path) in listed.iter().filter(|(_, path)| path != OF_THE_LOG) {
            if is_segment(path) {
                let object = self.line.uploads.of(path);
                let made = object
                    .done
                    .or(object.upload.and_then(|upload| upload.ready).map(|(_, size, hash)| (size, hash)));
                if made.is_none_or(|(_, made)| made != *sha256) {
                    return Err(named(
                        path,
                        io::Error::other("the store has not got what the manifest names"),
                    ));
                }
                self.publish(path)
            } else {
                self.put_local(path, *sha256)
            }
            .map_err(|error| named(path, error))?;
        }
        let sums = custody::sha256(&self.small_file(SUMS)?);
        self.put_local(SUMS, sums).map_err(|error| named(SUMS, error))?;
        self.clear_up();
        Ok(())
    }

    fn is_settling(&self) -> bool {
        self.line.uploads.is_settling()
    }

    fn sealed(&self) -> io::Result<()> {
        let put: Vec<String> = self.listed()?.into_iter().map(|(_, path)| path).collect();
        remove_local_data(&self.folder, &put).map_err(io::Error::other)?;
        if self.left_behind().is_empty() {
            remove_uploads(&self.folder).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn left_behind(&self) -> Vec<String> {
        let mut words = Vec::new();
        let bucket = &self.place().bucket;
        for (path, object) in self.line.uploads.all() {
            let Ok(key) = self.place().key(&path) else { continue };
            if object.unknown > 0 {
                words.push(format!(
                    "an upload to s3://{bucket}/{key} may have been begun whose id is not known here: \
                     `aws s3api list-multipart-uploads --bucket {bucket} --prefix {key}` tells"
                ));
            }
            let open = object.upload.iter().map(|upload| &upload.id).chain(&object.left);
            words.extend(
                open.map(|id| format!("the upload {id} to s3://{bucket}/{key} was begun and not ended")),
            );
            if object.assumed {
                words.push(format!(
                    "s3://{bucket}/{key} was there after an attempt whose answer never came; it was taken for that one"
                ));
            }
        }
        if words.len() > MOST_NAMED {
            let more = words.len() - MOST_NAMED;
            words.truncate(MOST_NAMED);
            words.push(format!("and {more} more, in uploads.journal"));
        }
        words
    }
}

/// A file that could not be put while the bundle was settled.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} could not be put")]
struct Unsettled {
    path: String,
    source: io::Error,
}

/// The failure of a service inside the error of a store.
#[must_use]
pub fn failure_in(error: &io::Error) -> Option<&Failure> {
    multipart::failure_of(error)
}
