//! An S3 bucket as an evidence store: a bundle's files become objects, each put once, by a writer who may do nothing else.
//!
//! Segments stream there in parts, with nothing on the local disk. Tables, manifest and log lie in the exhibit's folder
//! and are put from there; once the bundle is sealed, what is in `data/` is removed from it. The writer needs neither to
//! list, nor to read, nor to delete: what it must know, `uploads.journal` tells.
//!
//! Rules: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html> (`If-None-Match`),
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>.

mod checksums;
mod denied;
mod files;
mod grant;
mod granted;
mod issuing;
mod log_objects;
mod multipart;
mod presigning;
mod push;
mod requests;
mod rights;
mod soundness;
mod uploads;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::bundle::{
    Bundle, BundleStore, LocalFolder, NewFile, RemotePlace, Unfinished, WriteOnly, open_uploads,
    remove_journal, remove_local_data, remove_uploads,
};
use custody::{CustodyLog, Digest, EntryType, Hasher, Writer};
use tokio::sync::Semaphore;

use crate::acquisition::Report;
use crate::aws::Connection;
use crate::error::{Error, Result};
use crate::progress::NoProgress;
use files::{Files, OF_THE_LOG, SUMS, clear_up, left_behind};
use multipart::{Dispatch, Sending, complete};
use requests::Requests;
use uploads::{Line, Uploads};

pub use grant::{Grant, Granted, GrantedKind, LARGEST_GRANT};
pub use issuing::{Closed, LONGEST_GRANT, close, give_up, issue, renew};
pub use log_objects::S3LogMirror;
pub use push::{Push, Pushed};
pub use requests::Pace;
pub use rights::{Rights, rights};
pub use soundness::{Canary, Soundness, belongs_to, canary, soundness};

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
    /// # Errors
    ///
    /// [`Error::Custody`] if the folder cannot be written, or names a place already.
    pub fn begin(connection: &Connection, place: RemotePlace, folder: &Path, pace: Pace) -> Result<Self> {
        place.write(folder)?;
        let store = Self::open(connection, place, folder, pace)?;
        let note = Line::Place { place: store.place().to_string() };
        let fault = |source| Error::Write { path: folder.to_owned(), source };
        store.line.uploads.note(&[note]).map_err(fault)?;
        Ok(store)
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
        clear_up(&store.line);
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

    /// Ends what an interruption left of a bundle that is sealed here: entries that the store lacks are put, and what was kept
    /// only until the seal is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] if the store lacks entries still, [`Error::Bundle`].
    pub fn end_sealed(&self, writer: &Writer<'_>) -> Result<Report> {
        let log = CustodyLog::open(&self.folder)?;
        log.put_missing(writer)?;
        let bundle = Bundle::open(&self.folder)?;
        let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(&self.folder));
        remove_journal(&*store)?;
        self.sealed().map_err(|source| custody::bundle::Error::Write { path: "data".to_owned(), source })?;
        let entries = log.read()?.entries;
        let end = entries.iter().rfind(|entry| entry.kind == EntryType::ACQUIRE_END);
        Ok(Report {
            bundle: self.folder.clone(),
            streams: bundle.manifest().streams.clone(),
            manifest_sha256: bundle.manifest_sha256(),
            files: None,
            facts: serde_json::Map::new(),
            issues: Vec::new(),
            issue_count: end.and_then(|end| end.about.result.get("issues")?.as_u64()).unwrap_or_default(),
            left_behind: self.left_behind(),
            seconds: 0.0,
        })
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
        // What lies there is small, and may be of a machine whose memory is read.
        let local = LocalFolder::new(folder).leaving_no_cache();
        Ok(Self { line, local, folder: folder.to_owned() })
    }

    fn files(&self) -> Files<'_> {
        Files { line: &self.line, local: &self.local }
    }

    /// Where the bundle lies.
    #[must_use]
    pub fn place(&self) -> &RemotePlace {
        &self.line.requests.place
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
        let files = self.files();
        let listed = files.listed()?;
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
                files.put(path, *sha256, &NoProgress)
            }
            .map_err(|error| named(path, error))?;
        }
        let sums = custody::sha256(&files.small(SUMS)?);
        files.put(SUMS, sums, &NoProgress).map_err(|error| named(SUMS, error))?;
        clear_up(&self.line);
        Ok(())
    }

    fn is_settling(&self) -> bool {
        self.line.uploads.is_settling()
    }

    fn sealed(&self) -> io::Result<()> {
        let put: Vec<String> = self.files().listed()?.into_iter().map(|(_, path)| path).collect();
        remove_local_data(&self.folder, &put).map_err(io::Error::other)?;
        if !self.line.uploads.has_open() {
            remove_uploads(&self.folder).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn left_behind(&self) -> Vec<String> {
        left_behind(&self.line)
    }
}

/// A file that could not be put while the bundle was settled.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} could not be put")]
struct Unsettled {
    path: String,
    source: io::Error,
}
