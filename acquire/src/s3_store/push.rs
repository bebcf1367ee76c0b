//! A sealed bundle of this machine as a copy in an evidence store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use custody::bundle::{
    BundleStore, LocalFolder, Manifest, RemotePlace, has_uploads, open_uploads, remove_uploads,
};
use custody::{Digest, case_layout, each_log_object};
use md5::{Digest as _, Md5};
use tokio::sync::Semaphore;

use super::checksums::{PartSums, composite, hex};
use super::files::{Files, OF_THE_LOG, SUMS, clear_up, left_behind};
use super::multipart::Dispatch;
use super::requests::{Known, Pace, Requests};
use super::uploads::{Line, Part, Uploads};
use crate::aws::{Connection, FailureKind};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Puts every file of a sealed bundle into an evidence store, its log as objects of their own.
///
/// What is there already is compared by size and checksum where the store tells, and counted where it does not. An
/// interrupted push goes on where it was.
#[derive(Debug)]
pub struct Push<'a> {
    connection: &'a Connection,
    bundle: &'a Path,
    place: RemotePlace,
    pace: Pace,
}

/// What a push did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Where the bundle lies now.
    pub place: String,
    /// Objects that were put.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were there already with the same size and checksum.
    pub same: u64,
    /// Objects that were there already, and whose content the store does not tell a writer.
    pub not_compared: u64,
    /// What may be left in the store that belongs to no file.
    pub left_behind: Vec<String>,
}

/// What the store says of an object before it is put.
enum There {
    No,
    Same,
    /// It is there, or may be; nobody says what it is.
    NotCompared,
    Unknown,
}

impl<'a> Push<'a> {
    /// Plans to put a bundle below a place.
    ///
    /// # Errors
    ///
    /// [`Error::NotPushable`] if the bundle is not sealed, or its data is in a store already.
    pub fn new(
        connection: &'a Connection,
        bundle: &'a Path,
        below: &RemotePlace,
        pace: Pace,
    ) -> Result<Self> {
        let refused = |reason: String| Error::NotPushable { path: bundle.to_owned(), reason };
        if let Some(place) = RemotePlace::read(bundle)? {
            return Err(refused(format!("its data is in {place}")));
        }
        let sealed = custody::bundle::Bundle::open(bundle).map_err(|error| refused(error.to_string()))?;
        let Manifest { exhibit, name, .. } = sealed.manifest();
        let place = below.below(&case_layout::exhibit_folder_name(exhibit, name))?;
        Ok(Self { connection, bundle, place, pace })
    }

    /// Where it will lie.
    #[must_use]
    pub fn place(&self) -> &RemotePlace {
        &self.place
    }

    /// Puts what is not there yet. Every file is hashed while it is sent; one that is not what the bundle's list names does not
    /// get its name in the store.
    ///
    /// The caller verifies the bundle first.
    ///
    /// # Errors
    ///
    /// [`Error::NotPushable`] if an earlier push to another place was cut short; [`Error::Bundle`] with the file that was changed,
    /// is there with other bytes, or could not be put.
    pub fn run(&self, progress: &dyn Progress) -> Result<Pushed> {
        let uploads = self.journal()?;
        let requests = Requests::new(self.connection, self.place.clone(), self.pace);
        let room = Arc::new(Semaphore::new(self.pace.in_flight.max(1)));
        let line = Arc::new(Dispatch { requests, uploads, room });
        clear_up(&line);
        let local = LocalFolder::new(self.bundle);
        let mut putting = Putting {
            files: Files { line: &line, local: &local },
            may_ask: true,
            pushed: Pushed { place: self.place.to_string(), ..Pushed::default() },
        };
        let named = |path: &str| {
            let path = path.to_owned();
            move |source| Error::from(custody::bundle::Error::Write { path, source })
        };
        let mut listed = putting.files.listed().map_err(named(SUMS))?;
        listed.retain(|(_, path)| path != OF_THE_LOG);
        let sums = custody::sha256(&putting.files.small(SUMS).map_err(named(SUMS))?);
        listed.push((sums, SUMS.to_owned()));
        let sizes = listed.iter().filter_map(|(_, path)| local.size_of(path).ok());
        progress.started(&self.place.to_string(), Some(sizes.fold(0, u64::saturating_add)));
        for (sha256, path) in &listed {
            putting.file(path, *sha256, progress).map_err(named(path))?;
        }
        each_log_object(self.bundle, |path, bytes| putting.bytes(path, bytes).map_err(named(path)))?;
        progress.finished();
        clear_up(&line);
        let mut pushed = putting.pushed;
        pushed.left_behind = left_behind(&line);
        if !line.uploads.has_open() {
            remove_uploads(self.bundle)?;
        }
        Ok(pushed)
    }

    /// The journal of this push, of one place only. A bundle that cannot be written to is pushed without one.
    fn journal(&self) -> Result<Uploads> {
        let went_on = has_uploads(self.bundle);
        let Ok((read, append)) = open_uploads(self.bundle) else {
            let memory = rustix::fs::memfd_create("uploads", rustix::fs::MemfdFlags::CLOEXEC);
            let file = std::fs::File::from(memory.map_err(|error| Error::Thread(error.into()))?);
            let again = file.try_clone().map_err(Error::Thread)?;
            return Uploads::open(again, file).map_err(Error::Thread);
        };
        let fault = |source| Error::Write { path: PathBuf::from(self.bundle), source };
        let refused =
            |reason: &str| Error::NotPushable { path: self.bundle.to_owned(), reason: reason.to_owned() };
        rustix::fs::flock(&append, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| refused("another process is pushing it now"))?;
        let uploads = Uploads::open(read, append).map_err(fault)?;
        let place = self.place.to_string();
        match uploads.place() {
            Some(before) if before != place => {
                return Err(refused(&format!("a push to {before} was cut short: end that one first")));
            }
            Some(_) => {}
            None if went_on => return Err(refused("uploads.journal in it is not of a push")),
            None => uploads.note(&[Line::Place { place }]).map_err(fault)?,
        }
        Ok(uploads)
    }
}

/// A push on its way.
struct Putting<'a> {
    files: Files<'a>,
    /// Whether the store tells what it has; it is asked until it refuses.
    may_ask: bool,
    pushed: Pushed,
}

impl Putting<'_> {
    fn file(&mut self, path: &str, sha256: Digest, progress: &dyn Progress) -> io::Result<()> {
        let size = self.files.local.size_of(path)?;
        match self.there(path, (size, sha256), None)? {
            There::Same => self.pushed.same += 1,
            There::NotCompared => self.pushed.not_compared += 1,
            asked => {
                let put = self.files.put(path, sha256, progress);
                return self.count(path, put, size, matches!(asked, There::Unknown));
            }
        }
        progress.advanced(size);
        Ok(())
    }

    /// Puts an object of the log.
    fn bytes(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        match self.there(path, (size, custody::sha256(bytes)), Some(bytes))? {
            There::Same => self.pushed.same += 1,
            There::NotCompared => self.pushed.not_compared += 1,
            asked => {
                let announced = self.files.line.uploads.of(path).putting;
                let put = self.files.put_bytes(path, bytes.to_vec(), announced);
                return self.count(path, put, size, matches!(asked, There::Unknown));
            }
        }
        Ok(())
    }

    /// Counts what was put. Where nobody tells what is there, an object that is in the way is taken for ours.
    fn count(&mut self, path: &str, put: io::Result<()>, size: u64, unknown: bool) -> io::Result<()> {
        match put {
            Err(error) if unknown && error.kind() == io::ErrorKind::AlreadyExists => {
                give_up(self.files.line, path)?;
                self.pushed.not_compared += 1;
            }
            put => {
                put?;
                self.pushed.files += 1;
                self.pushed.bytes = self.pushed.bytes.saturating_add(size);
            }
        }
        Ok(())
    }

    /// Compares what the store has under a path with what it should have.
    fn there(&mut self, path: &str, made: (u64, Digest), log: Option<&[u8]>) -> io::Result<There> {
        let object = self.files.line.uploads.of(path);
        if let Some(done) = object.done {
            return if done == made { Ok(There::Same) } else { Err(other()) };
        }
        if object.upload.is_some() || object.putting {
            // An earlier push was at it: going on with that tells.
            return Ok(There::No);
        }
        if !self.may_ask {
            return Ok(There::Unknown);
        }
        let requests = &self.files.line.requests;
        let key = requests.place.key(path).map_err(io::Error::other)?;
        let known = match requests.wait(requests.head(&key)) {
            Ok(known) => known,
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(There::No),
            Err(failure) if failure.kind == FailureKind::Denied => {
                // Without the right to list, a store does not even say that an object is not there.
                self.may_ask = false;
                return Ok(There::Unknown);
            }
            Err(failure) => return Err(io::Error::other(failure)),
        };
        self.compare(path, &known, made, log)
    }

    fn compare(
        &self,
        path: &str,
        known: &Known,
        (size, sha256): (u64, Digest),
        log: Option<&[u8]>,
    ) -> io::Result<There> {
        if known.size != size {
            return Err(other());
        }
        let verdict = |same: bool| if same { Ok(There::Same) } else { Err(other()) };
        let part_size = self.files.line.requests.pace.part_size;
        match (known.parts, &known.sha256, &known.md5) {
            (None, Some(found), _) => verdict(*found == BASE64.encode(sha256.as_bytes())),
            (None, None, Some(found)) if size <= part_size as u64 => {
                let md5 = match log {
                    Some(bytes) => Md5::digest(bytes),
                    None => Md5::digest(self.files.small(path)?),
                };
                verdict(found.eq_ignore_ascii_case(&hex(&md5)))
            }
            // An object that another program put may be cut into other parts.
            (Some(parts), sha256, md5) if log.is_none() && size.div_ceil(part_size as u64) == parts => {
                let (of_parts, whole_md5) = self.sums_of(path, part_size)?;
                match (sha256, md5) {
                    (Some(found), _) => {
                        verdict(composite(&of_parts).split_once('-').is_some_and(|(ours, _)| ours == found))
                    }
                    (None, Some(found)) => verdict(found.eq_ignore_ascii_case(&whole_md5)),
                    (None, None) => Ok(There::NotCompared),
                }
            }
            _ => Ok(There::NotCompared),
        }
    }

    /// SHA-256 of every part of a file, and the MD5 of the MD5s of all.
    fn sums_of(&self, path: &str, part_size: usize) -> io::Result<(Vec<(i32, Part)>, String)> {
        let (mut parts, mut part, mut md5s) = (Vec::new(), Vec::new(), Vec::new());
        let mut end = |part: &mut Vec<u8>| {
            let sums = PartSums::of(part, true);
            md5s.extend(sums.md5);
            let number = i32::try_from(md5s.len()).unwrap_or(i32::MAX);
            parts.push((number, Part { size: part.len() as u64, sha256: sums.sha256, etag: String::new() }));
            part.clear();
        };
        self.files.each_block(path, |mut block| {
            while !block.is_empty() {
                let (now, rest) = block.split_at(block.len().min(part_size.saturating_sub(part.len())));
                part.extend_from_slice(now);
                block = rest;
                if part.len() >= part_size {
                    end(&mut part);
                }
            }
            Ok(())
        })?;
        if !part.is_empty() {
            end(&mut part);
        }
        Ok((parts, hex(&Md5::digest(md5s.concat()))))
    }
}

/// Frees the parts of an upload whose key is taken.
fn give_up(line: &Dispatch, path: &str) -> io::Result<()> {
    let Some(upload) = line.uploads.of(path).upload else { return Ok(()) };
    let key = line.requests.place.key(path).map_err(io::Error::other)?;
    match line.requests.wait(line.requests.abort(&key, &upload.id)) {
        Ok(_) => line.uploads.note(&[Line::Aborted { id: upload.id, path: path.to_owned() }]),
        // It stays in the journal, and is told of at the end.
        Err(_) => Ok(()),
    }
}

fn other() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "the store has another object of that key")
}
