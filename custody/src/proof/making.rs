//! Makes proofs of what is in a sealed bundle.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value};

use super::evidence::{EvidenceProof, Seal};
use super::tlog::TlogProof;
use crate::bundle::{Bundle, CatalogEntry, ChunkProof, MemberKind, StreamReader};
use crate::digest::{Digest, Hasher};
use crate::durable_file::read_small;
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::merkle::{Tree, leaf_hash};
use crate::verify::LogCopy;

/// A bundle laid open to prove parts of it. Its log is verified when it is opened, its evidence as far as it is read.
#[derive(Debug)]
pub struct Prover {
    bundle: Bundle,
    manifest: Vec<u8>,
    seal: Seal,
}

/// A file of a bundle: its line in the catalogue, and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// The stream that holds it.
    pub stream: String,
    /// What the catalogue says of it.
    pub entry: CatalogEntry,
    /// Its line as it is stored, without LF.
    line: String,
    /// The number of the line, from 0.
    index: usize,
    /// All lines as leaves, where the manifest has their root.
    leaves: Option<Vec<Digest>>,
}

impl Prover {
    /// Opens a bundle for proofs; `folder` is where it lies.
    ///
    /// # Errors
    ///
    /// [`Error::LogBroken`] when its log does not verify, [`Error::Malformed`] when it was never sealed,
    /// [`Error::Read`].
    pub fn open(bundle: Bundle, folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let missing = || Error::Read { path: path.clone(), source: io::ErrorKind::NotFound.into() };
        let manifest = read_small(&path, crate::bundle::LONGEST_MANIFEST)?.ok_or_else(missing)?;
        let seal = LogCopy::read(folder)?.seal()?;
        Ok(Self { bundle, manifest, seal })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The proof of the entry that sealed it, and the key that signed its checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Key`], which cannot be of a bundle that was opened.
    pub fn seal(&self) -> Result<(TlogProof, VerifyingKey)> {
        self.seal.parts()
    }

    /// Proves one chunk, its bytes included.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] when the stream or the chunk cannot be read.
    pub fn chunk(&self, stream: &str, index: u64) -> Result<EvidenceProof> {
        let reader = self.bundle.stream(stream)?;
        let bytes = reader.chunk(index)?;
        let proof = EvidenceProof::new(&self.manifest, self.seal.clone());
        Ok(proof.with_chunk(stream, &chunk_proof(&reader, index)?, Some(&bytes)))
    }

    /// Proves the record of an event: its row, the ranges that hold its bytes, and the chunks that hold those.
    ///
    /// Texts of the row are escaped, and what is null is left out. The chunks hold more than the record: whatever lies
    /// beside it goes along.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when no range holds a byte; as [`Prover::chunk`].
    pub fn event(
        &self,
        stream: &str,
        row: Map<String, Value>,
        ranges: &[(u64, u64)],
    ) -> Result<EvidenceProof> {
        let reader = self.bundle.stream(stream)?;
        let ranges: Vec<(u64, u64)> = ranges.iter().copied().filter(|(start, end)| start < end).collect();
        let mut wanted: Vec<u64> = ranges
            .iter()
            .filter_map(|(start, end)| Some(reader.chunk_of(*start)?..=reader.chunk_of(end.checked_sub(1)?)?))
            .flatten()
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Err(Error::malformed("event", "its record holds no byte of the stream"));
        }
        let mut proof = EvidenceProof::new(&self.manifest, self.seal.clone());
        for index in wanted {
            let bytes = reader.chunk(index)?;
            proof = proof.with_chunk(stream, &chunk_proof(&reader, index)?, Some(&bytes));
        }
        let mut stored = Hasher::new();
        for (start, end) in &ranges {
            let mut at = *start;
            while at < *end {
                let mut part = vec![0; usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 20)];
                reader.read_exact_at(at, &mut part)?;
                stored.update(&part);
                at = at.saturating_add(part.len() as u64);
            }
        }
        Ok(proof.with_event(stream, row, ranges, stored.finish()))
    }

    /// Finds a file by the path in its catalogue, escaped as there.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when there is no such file, or it has no content of its own.
    pub fn find_file(&self, path: &str) -> Result<FoundFile> {
        for stream in &self.bundle.manifest().streams {
            if stream.catalog.is_none() {
                continue;
            }
            let reader = self.bundle.stream(&stream.name)?;
            let Some(mut catalog) = reader.catalog() else { continue };
            let mut found: Option<(usize, CatalogEntry, Vec<u8>)> = None;
            let mut leaves = Vec::new();
            let mut index = 0usize;
            // To its end, because only there it is known that the catalogue is the manifest's.
            while let Some(entry) = catalog.next() {
                let entry = entry?;
                if stream.catalog_root.is_some() {
                    leaves.push(leaf_hash(catalog.line()));
                }
                if entry.path == path && found.is_none() {
                    found = Some((index, entry, catalog.line().to_vec()));
                }
                index += 1;
            }
            let Some((index, entry, line)) = found else { continue };
            if entry.kind != MemberKind::File || entry.sha256.is_none() {
                let why = match &entry.link {
                    Some(link) => format!("{path:?} is a {:?} to {link:?}", entry.kind).to_lowercase(),
                    None => format!("{path:?} has no content that was read"),
                };
                return Err(Error::malformed("file", why));
            }
            let line = String::from_utf8(line).map_err(|_| Error::malformed("catalogue", "not UTF-8"))?;
            let leaves = stream.catalog_root.map(|_| leaves);
            return Ok(FoundFile { stream: stream.name.clone(), entry, line, index, leaves });
        }
        Err(Error::malformed("file", format!("no catalogue of the bundle has {path:?}")))
    }

    /// Proves a file by its line in the catalogue. Its content is not in the proof: it has the line's SHA-256.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the bundle was made before catalogues had a root.
    pub fn file(&self, found: &FoundFile) -> Result<EvidenceProof> {
        let no_root = || {
            let why =
                format!("the catalogue of stream {} has no root; prove the chunks instead", found.stream);
            Error::malformed("proof", why)
        };
        let leaves = found.leaves.clone().ok_or_else(no_root)?;
        let count = leaves.len() as u64;
        let path = Tree::new(leaves).inclusion_proof(found.index).ok_or_else(no_root)?;
        let proof = EvidenceProof::new(&self.manifest, self.seal.clone());
        Ok(proof.with_file(&found.stream, found.line.clone(), found.index as u64, count, path))
    }

    /// Writes the content of a file, and makes sure that it is what its line says.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is not, [`Error::Bundle`], [`Error::Write`] without a path of its own.
    pub fn copy_file(&self, found: &FoundFile, out: &mut dyn Write) -> Result<()> {
        let reader = self.bundle.stream(&found.stream)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = found.entry.offset;
        let end = at.saturating_add(found.entry.size);
        while at < end {
            let take = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..take).unwrap_or_default();
            reader.read_exact_at(at, part)?;
            hasher.update(part);
            out.write_all(part)
                .map_err(|source| Error::Write { path: found.entry.path.clone().into(), source })?;
            at = at.saturating_add(take as u64);
        }
        if Some(hasher.finish()) != found.entry.sha256 {
            return Err(Error::malformed(
                "file",
                format!("{:?} is not what its catalogue says", found.entry.path),
            ));
        }
        Ok(())
    }
}

fn chunk_proof(reader: &StreamReader, index: u64) -> Result<ChunkProof> {
    let none = || Error::malformed("chunk", format!("stream {} has no chunk {index}", reader.name()));
    reader.chunk_proof(index).ok_or_else(none)
}
