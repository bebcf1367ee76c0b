//! Seals a bundle: the files that make a stranger able to check it, written in the order that the format demands.

use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::error::{Error, Result};
use super::manifest::{LONGEST_MANIFEST, Manifest, StoredFile, Stream};
use super::opening::read_whole;
use super::store::{BundleStore, StoreFile};
use super::tables::{ChunkRow, segment_name};
use super::writer::put;
use crate::digest::Hasher;
use crate::entry::{EntryType, NewEntry};
use crate::keys::Signer;

const VERIFY_SHEET: &str = include_str!("verify_sheet.md");

/// What `bundle.sealed` must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealFiles {
    /// `manifest.json`
    pub manifest: StoredFile,
    /// `manifest.json.sig`
    pub signature: StoredFile,
    /// `SHA256SUMS`
    pub sums: StoredFile,
}

impl SealFiles {
    /// The entry that seals the bundle, once it is in the bundle's log.
    #[must_use]
    pub fn entry(&self) -> NewEntry {
        [&self.manifest, &self.signature, &self.sums]
            .into_iter()
            .fold(NewEntry::new(EntryType::BUNDLE_SEALED), |entry, file| {
                entry.subject(&file.path, file.size, file.sha256)
            })
    }
}

/// Writes everything that follows the data and the tables: the public key, `VERIFY.md`, the manifest, its signature and
/// `SHA256SUMS`. The bundle is sealed only when [`SealFiles::entry`] is in its log.
///
/// `keys/log.vkey` must be there already: the log puts it.
///
/// # Errors
///
/// [`Error::Write`], [`Error::Read`], [`Error::Refused`] for a manifest that cannot be told in strict JSON, or when the
/// key does not sign.
pub fn seal(store: &Arc<dyn BundleStore>, manifest: &Manifest, key: &dyn Signer) -> Result<SealFiles> {
    let bytes = manifest.to_bytes()?;
    let refused = |error: &dyn std::fmt::Display| Error::Refused { reason: error.to_string() };
    let pem = key.verifying_key().to_pem().map_err(|error| refused(&error))?;
    let mut listed =
        vec![put(&**store, "keys/signer.pub.pem", pem.as_bytes())?, hash(store, "keys/log.vkey")?];
    let sheet = verify_sheet(store, manifest)?;
    listed.push(put(&**store, "VERIFY.md", sheet.as_bytes())?);
    let manifest_file = put(&**store, "manifest.json", &bytes)?;
    let signature = key.sign(&bytes).map_err(|error| refused(&error))?;
    let signature = put(&**store, "manifest.json.sig", &signature)?;
    listed.extend([manifest_file.clone(), signature.clone()]);
    listed.extend(manifest.streams.iter().flat_map(Stream::files).cloned());
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    let sums: String = listed.iter().map(|file| format!("{}  {}\n", file.sha256, file.path)).collect();
    let sums = put(&**store, "SHA256SUMS", sums.as_bytes())?;
    if let Some(store) = store.write_only() {
        store.settle().map_err(|source| Error::write("SHA256SUMS", source))?;
    }
    Ok(SealFiles { manifest: manifest_file, signature, sums })
}

/// Gives a segment its name in a store that waits for that.
pub(super) fn publish(store: &dyn BundleStore, path: &str) -> Result<()> {
    match store.write_only() {
        Some(store) => store.publish(path).map_err(|source| Error::write(path, source)),
        None => Ok(()),
    }
}

/// Goes on with sealing where it was interrupted while the store took the files: with the very files that were written.
///
/// # Errors
///
/// [`Error::Read`], [`Error::Manifest`], [`Error::Write`].
pub fn seal_again(store: &Arc<dyn BundleStore>) -> Result<(SealFiles, Manifest)> {
    let bytes = read_whole(&**store, "manifest.json", LONGEST_MANIFEST)?;
    let manifest = Manifest::from_bytes(&bytes)?;
    let files = SealFiles {
        manifest: hash(store, "manifest.json")?,
        signature: hash(store, "manifest.json.sig")?,
        sums: hash(store, "SHA256SUMS")?,
    };
    if let Some(store) = store.write_only() {
        store.settle().map_err(|source| Error::write("SHA256SUMS", source))?;
    }
    Ok((files, manifest))
}

/// Reads a stored file through: its bytes and their hash.
pub(super) fn hash(store: &Arc<dyn BundleStore>, path: &str) -> Result<StoredFile> {
    let mut file = StoreFile::new(Arc::clone(store), path);
    let mut hasher = Hasher::new();
    let mut size = 0u64;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer).map_err(|source| Error::read(path, source))?;
        if read == 0 {
            return Ok(StoredFile { path: path.to_owned(), plain: None, sha256: hasher.finish(), size });
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        size = size.saturating_add(read as u64);
    }
}

/// A chunk that the sheet checks by hand.
#[derive(Debug, Default, Serialize)]
struct SampleChunk {
    index: u64,
    /// Of the table, counted from 1 with its header.
    line: u64,
    segment: String,
    /// As `tail -c +N` counts: from 1.
    start: u64,
    frame_length: u32,
    sha256: String,
}

#[derive(Serialize)]
struct SheetValues<'a> {
    manifest: &'a Manifest,
    /// One for each stream.
    chunks: Vec<SampleChunk>,
}

/// `VERIFY.md`: the commands that check the bundle, with its own values.
fn verify_sheet(store: &Arc<dyn BundleStore>, manifest: &Manifest) -> Result<String> {
    let refused = |error: minijinja::Error| Error::Refused { reason: format!("VERIFY.md: {error}") };
    let chunks = manifest.streams.iter().map(|stream| sample(store, stream)).collect::<Result<Vec<_>>>()?;
    let mut pages = Environment::new();
    pages.set_undefined_behavior(UndefinedBehavior::Strict);
    let sheet = pages.render_str(VERIFY_SHEET, Serde(&SheetValues { manifest, chunks })).map_err(refused)?;
    Ok(sheet + "\n")
}

/// The last chunk of a stream, read from the end of its table.
fn sample(store: &Arc<dyn BundleStore>, stream: &Stream) -> Result<SampleChunk> {
    // The table of an encrypted stream cannot be read here; there the sheet's command finds the row itself.
    if stream.size == 0 || stream.is_encrypted() {
        return Ok(SampleChunk::default());
    }
    let path = &stream.chunks.path;
    let mut tail = [0; 512];
    let start = stream.chunks.size.saturating_sub(tail.len() as u64);
    let read = store.read_at(path, start, &mut tail).map_err(|source| Error::read(path, source))?;
    let text = String::from_utf8_lossy(tail.get(..read).unwrap_or_default()).into_owned();
    let last = text.lines().next_back().unwrap_or_default();
    let row = ChunkRow::parse(last).map_err(|reason| Error::table(path, 0, reason))?;
    Ok(SampleChunk {
        index: row.index,
        line: row.index.saturating_add(2),
        segment: segment_name(row.segment),
        start: row.frame_offset.saturating_add(1),
        frame_length: row.frame_length,
        sha256: row.sha256.to_string(),
    })
}
