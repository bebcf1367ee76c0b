//! Opens a sealed bundle, and refuses what was never sealed or is not what was sealed.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::cache::ChunkCache;
use super::decrypted_store::DecryptedStore;
use super::error::{Error, Result};
use super::frame::LARGEST_CHUNK;
use super::manifest::{LONGEST_MANIFEST, Manifest, Stream};
use super::protection::Identities;
use super::reader::StreamReader;
use super::store::{BundleStore, LocalFolder, StoreFile};
use crate::digest::{Digest, sha256};
use crate::strict_json;

/// Bytes of decompressed chunks that a bundle keeps, unless told otherwise: 256 MiB.
pub const DEFAULT_CACHE: usize = 256 << 20;

/// A line of a custody log has at most 65,535 bytes and its LF.
const LONGEST_LOG_LINE: u64 = 65_536;

/// A sealed bundle, open for reading. Nothing in it can be changed through this.
///
/// Opening checks that the custody log sealed this very manifest. It does not check the signature, nor whether the log
/// itself holds: that is what verifying is for.
#[derive(Debug)]
pub struct Bundle {
    shared: Arc<Shared>,
    manifest: Manifest,
    manifest_sha256: Digest,
    streams: Vec<OnceLock<StreamReader>>,
}

/// What all readers of a bundle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn BundleStore>,
    /// Whether the store gives what is inside encrypted files.
    decrypts: bool,
    pub(super) cache: ChunkCache,
}

impl Bundle {
    /// Opens the bundle in a local folder.
    ///
    /// # Errors
    ///
    /// [`Error::NotABundle`], [`Error::NotSealed`] while it is open, [`Error::UnknownFormat`] of a later version,
    /// [`Error::NotAsSealed`], [`Error::Manifest`], [`Error::Read`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Arc::new(LocalFolder::new(path)), DEFAULT_CACHE)
    }

    /// Opens a bundle in any store; `path` is for messages. `cache` bounds the decompressed chunks that are kept.
    ///
    /// # Errors
    ///
    /// As [`Bundle::open`].
    pub fn open_with(path: &Path, store: Arc<dyn BundleStore>, cache: usize) -> Result<Self> {
        Self::open_in(path, store, cache, false)
    }

    /// Opens the bundle in a local folder with the keys that open what is encrypted in it. Without any, its manifest
    /// can be read and its streams cannot.
    ///
    /// # Errors
    ///
    /// As [`Bundle::open`]. Whether a key fits is known when a stream is first asked for.
    pub fn open_with_identities(path: &Path, identities: &Identities) -> Result<Self> {
        Self::open_with_identities_in(path, Arc::new(LocalFolder::new(path)), identities)
    }

    /// The same in any store; `path` is for messages.
    ///
    /// # Errors
    ///
    /// As [`Bundle::open_with_identities`].
    pub fn open_with_identities_in(
        path: &Path,
        store: Arc<dyn BundleStore>,
        identities: &Identities,
    ) -> Result<Self> {
        if identities.is_empty() {
            return Self::open_with(path, store, DEFAULT_CACHE);
        }
        let store = DecryptedStore::new(store, identities.clone());
        Self::open_in(path, Arc::new(store), DEFAULT_CACHE, true)
    }

    fn open_in(path: &Path, store: Arc<dyn BundleStore>, cache: usize, decrypts: bool) -> Result<Self> {
        let has = |name| match store.size_of(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::read(name, error)),
        };
        if !has("custody.jsonl")? {
            let path = path.to_owned();
            return Err(if has("manifest.json")? {
                Error::NotSealed { path }
            } else {
                Error::NotABundle { path }
            });
        }
        if !has("manifest.json")? {
            return Err(Error::NotSealed { path: path.to_owned() });
        }
        let bytes = read_whole(&*store, "manifest.json", LONGEST_MANIFEST)?;
        let manifest = Manifest::from_bytes(&bytes)?;
        let found = sha256(&bytes);
        match sealed_manifest(&store)? {
            None => return Err(Error::NotSealed { path: path.to_owned() }),
            Some(sealed) if sealed != found => {
                return Err(Error::NotAsSealed { found: found.to_string(), sealed: sealed.to_string() });
            }
            Some(_) => {}
        }
        let largest = manifest.streams.iter().map(|stream| stream.chunk_size).max().unwrap_or(LARGEST_CHUNK);
        let streams = manifest.streams.iter().map(|_| OnceLock::new()).collect();
        let shared = Shared { store, decrypts, cache: ChunkCache::new(cache, largest as usize) };
        Ok(Self { shared: Arc::new(shared), manifest, manifest_sha256: found, streams })
    }

    /// What the bundle says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`.
    #[must_use]
    pub fn manifest_sha256(&self) -> Digest {
        self.manifest_sha256
    }

    /// The store that it is read from.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn BundleStore> {
        &self.shared.store
    }

    /// A reader of one stream. All readers of a bundle share one cache; the tables are read once.
    ///
    /// # Errors
    ///
    /// [`Error::NoStream`], [`Error::Encrypted`] without an identity, [`Error::Table`], [`Error::Altered`] if a table is
    /// not the one that the manifest names, [`Error::Read`], also when no identity fits.
    pub fn stream(&self, name: &str) -> Result<StreamReader> {
        let no_stream = || Error::NoStream { name: name.to_owned() };
        let number =
            self.manifest().streams.iter().position(|stream| stream.name == name).ok_or_else(no_stream)?;
        let slot = self.streams.get(number).ok_or_else(no_stream)?;
        if let Some(reader) = slot.get() {
            return Ok(reader.clone());
        }
        let stream = self.manifest().streams.get(number).ok_or_else(no_stream)?.clone();
        if stream.is_encrypted() && !self.shared.decrypts {
            return Err(Error::Encrypted { path: stream.chunks.path });
        }
        let reader = StreamReader::load(Arc::clone(&self.shared), number, stream)?;
        Ok(slot.get_or_init(|| reader).clone())
    }

    /// Readers of all streams, in the manifest's order.
    ///
    /// # Errors
    ///
    /// As [`Bundle::stream`].
    pub fn streams(&self) -> Result<Vec<StreamReader>> {
        self.manifest().streams.iter().map(|stream| self.stream(&stream.name)).collect()
    }
}

impl StreamReader {
    /// A reader of a stream that is finished, in a bundle that is not sealed yet.
    ///
    /// # Errors
    ///
    /// As [`Bundle::stream`].
    pub fn of_finished(store: Arc<dyn BundleStore>, stream: Stream) -> Result<Self> {
        if stream.is_encrypted() {
            return Err(Error::Encrypted { path: stream.chunks.path });
        }
        let cache = ChunkCache::new(0, stream.chunk_size as usize);
        Self::load(Arc::new(Shared { store, decrypts: false, cache }), 0, stream)
    }
}

/// Reads a small file whole.
pub(super) fn read_whole(store: &dyn BundleStore, path: &str, longest: u64) -> Result<Vec<u8>> {
    let size = store.size_of(path).map_err(|source| Error::read(path, source))?;
    if size > longest {
        return Err(Error::manifest(format!("{path} has {size} bytes, more than {longest}")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = store.read_at(path, 0, &mut bytes).map_err(|source| Error::read(path, source))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The hash of manifest.json that the bundle's log sealed, if it did.
fn sealed_manifest(store: &Arc<dyn BundleStore>) -> Result<Option<Digest>> {
    let path = "custody.jsonl";
    let mut log = BufReader::new(StoreFile::new(Arc::clone(store), path));
    let mut sealed = None;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        let read = Read::take(&mut log, LONGEST_LOG_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::read(path, source))?;
        // A torn tail is the verifier's to report: here it only ends the log.
        if read == 0 || line.pop() != Some(b'\n') {
            return Ok(sealed);
        }
        // Only the line that seals must be understood.
        if !line.windows(13).any(|window| window == b"bundle.sealed") {
            continue;
        }
        let entry =
            strict_json::parse(&line).map_err(|error| Error::table(path, number, error.to_string()))?;
        if entry.get("type").and_then(Value::as_str) != Some("bundle.sealed") || sealed.is_some() {
            continue;
        }
        let subjects = entry.get("subject").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        sealed = subjects
            .iter()
            .find(|subject| subject.get("id").and_then(Value::as_str) == Some("manifest.json"))
            .and_then(|subject| subject.get("sha256")?.as_str()?.parse().ok());
        if sealed.is_none() {
            return Err(Error::table(path, number, "bundle.sealed does not name manifest.json"));
        }
    }
}
