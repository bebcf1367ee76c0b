//! Proof that bytes are in a sealed bundle, for anybody who does not have the bundle.
//!
//! One line of strict JSON and one LF; texts that hold line feeds are escaped as everywhere (`\x0a`):
//!
//! ```text
//! {"chunks":[{"bytes_b64":"…","index":7,"path":["<hex>",…],"sha256":"<hex>","stream":"disk"}],
//!  "event":{"ranges":[[3670016,3670100]],"row":{…},"sha256":"<hex>","stream":"disk"},     the record's stored bytes
//!  "file":{"index":12,"path":["<hex>",…],"row":"{…}","size":90,"stream":"files"},    size: lines of the catalogue
//!  "format":"exhibit-proof/1",
//!  "manifest":"{…}\x0a",
//!  "seal":{"line":"{…}","proof":"c2sp.org/tlog-proof@v1\x0a…","vkey":"exhibit/9f2c…+…"}}
//! ```
//!
//! From the bytes up: the chunk's bytes have its `sha256`; that is leaf `index` under the stream's `chunk_root` in the
//! manifest; the manifest has the SHA-256 that `bundle.sealed` (`seal.line`) names; that entry is under the checkpoint at
//! the end of `seal.proof`; and `seal.vkey` signed the checkpoint. Of a file: its bytes have the `sha256` of its catalogue
//! line `row`, which is a leaf under the stream's `catalog_root`, and the rest is the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tlog::TlogProof;
use crate::bundle::{CatalogEntry, ChunkProof, LARGEST_CHUNK, Manifest, Stream};
use crate::digest::{Digest, sha256};
use crate::entry::{Entry, EntryType};
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::merkle::{leaf_hash, verify_inclusion};
use crate::strict_json;

const FORMAT: &str = "exhibit-proof/1";
/// A tree of 2^64 leaves has no longer path.
const LONGEST_PATH: usize = 64;
/// More chunks are better proved by the bundle itself.
const MOST_CHUNKS: usize = 1000;
/// Larger proofs are not read.
pub const MOST_PROOF: usize = 512 << 20;

/// The entry that sealed a bundle, with the proof that it is in the bundle's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    line: String,
    proof: String,
    vkey: String,
}

impl Seal {
    /// The seal by its line, its proof, and the log's key that signed the proof's checkpoint.
    pub fn new(line: String, proof: &TlogProof, key: &VerifyingKey) -> Self {
        let origin = &proof.checkpoint.checkpoint.origin;
        let text = strict_json::escape_text(proof.to_text().as_bytes());
        Self { line, proof: text, vkey: key.to_vkey(origin) }
    }

    /// The proof and the key again.
    pub(super) fn parts(&self) -> Result<(TlogProof, VerifyingKey)> {
        let proof = TlogProof::parse(&strict_json::unescape_text(&self.proof)?)?;
        Ok((proof, VerifyingKey::from_vkey(&self.vkey)?.1))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvedChunk {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    bytes_b64: Option<String>,
    index: u64,
    path: Vec<Digest>,
    sha256: Digest,
    stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvedRow {
    index: u64,
    path: Vec<Digest>,
    row: String,
    size: u64,
    stream: String,
}

/// An event of the timeline: its row, and where its record lies in the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvedEvent {
    ranges: Vec<(u64, u64)>,
    row: Map<String, Value>,
    sha256: Digest,
    stream: String,
}

/// Proof that chunks, a file or an event's record are in a sealed bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceProof {
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    chunks: Vec<ProvedChunk>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    event: Option<ProvedEvent>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    file: Option<ProvedRow>,
    format: String,
    manifest: String,
    seal: Seal,
}

/// What a proof proves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proved {
    /// Id and name of the exhibit, as its manifest says.
    pub exhibit: [String; 2],
    /// SHA-256 of the manifest.
    pub manifest_sha256: Digest,
    /// The entry that sealed the bundle.
    pub sealed_by_entry: u64,
    /// When the host says that it was written.
    pub sealed_at: String,
    /// The log and how many entries the checkpoint covers.
    pub log: (String, u64),
    /// The fingerprint of the key that signed the checkpoint.
    pub key: String,
    /// Whether that is the key which the manifest says began the log; another key needs the log to be judged.
    pub key_began_the_log: bool,
    /// The chunks.
    pub chunks: Vec<ProvedPart>,
    /// The file's catalogue line, where a file is proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<CatalogEntry>,
    /// The bytes of an event's record as they are stored, where an event is proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<ProvedRecord>,
}

/// A part of a stream that is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvedPart {
    /// The stream.
    pub stream: String,
    /// The chunk.
    pub index: u64,
    /// Its first byte in the stream.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Their SHA-256.
    pub sha256: Digest,
    /// Whether the bytes themselves are in the proof.
    pub has_bytes: bool,
}

/// The stored bytes of an event's record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProvedRecord {
    /// How many, of all ranges together.
    pub length: u64,
    /// Their SHA-256.
    pub sha256: Digest,
    /// The row of the timeline that is said to be made of them. Only parsing them again proves that.
    pub row: Map<String, Value>,
}

impl EvidenceProof {
    /// A proof of nothing yet but the manifest's own seal.
    ///
    /// `manifest` is the exact content of `manifest.json`.
    pub fn new(manifest: &[u8], seal: Seal) -> Self {
        Self {
            chunks: Vec::new(),
            event: None,
            file: None,
            format: FORMAT.to_owned(),
            manifest: strict_json::escape_text(manifest),
            seal,
        }
    }

    /// Adds a chunk, with its bytes or without.
    #[must_use]
    pub fn with_chunk(mut self, stream: &str, chunk: &ChunkProof, bytes: Option<&[u8]>) -> Self {
        self.chunks.push(ProvedChunk {
            bytes_b64: bytes.map(|bytes| STANDARD.encode(bytes)),
            index: chunk.index,
            path: chunk.path.clone(),
            sha256: chunk.sha256,
            stream: stream.to_owned(),
        });
        self
    }

    /// Adds a line of a catalogue: number `index` of `size`, with its way to the stream's `catalog_root`.
    #[must_use]
    pub fn with_file(mut self, stream: &str, row: String, index: u64, size: u64, path: Vec<Digest>) -> Self {
        self.file = Some(ProvedRow { index, path, row, size, stream: stream.to_owned() });
        self
    }

    /// Adds an event's row, and the ranges of the stream that hold its record: `stored` bytes, whose chunks are there.
    ///
    /// Numbers that strict JSON cannot hold become texts, control characters `\xNN`; what is null is left out.
    #[must_use]
    pub fn with_event(
        mut self,
        stream: &str,
        row: Map<String, Value>,
        ranges: Vec<(u64, u64)>,
        stored: Digest,
    ) -> Self {
        let row = strict_json::of_any(row);
        self.event = Some(ProvedEvent { ranges, row, sha256: stored, stream: stream.to_owned() });
        self
    }

    /// The proof as it is stored: one line of strict JSON and one LF.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] when an event's row holds what strict JSON cannot.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let value = serde_json::to_value(self).map_err(|error| bad(error.to_string()))?;
        Ok((strict_json::to_line(&value)? + "\n").into_bytes())
    }

    /// Reads a proof. Nothing is verified yet.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] or [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MOST_PROOF {
            return Err(bad(format!("{} bytes; at most {MOST_PROOF}", bytes.len())));
        }
        let line = bytes.strip_suffix(b"\n").ok_or_else(|| bad("no final line feed"))?;
        let proof: Self =
            serde_json::from_value(strict_json::parse(line)?).map_err(|error| bad(error.to_string()))?;
        if proof.format != FORMAT {
            return Err(bad(format!("its format is {:?}, not {FORMAT:?}", proof.format)));
        }
        if proof.chunks.is_empty() && proof.file.is_none() {
            return Err(bad("it proves nothing"));
        }
        if proof.chunks.len() > MOST_CHUNKS {
            return Err(bad(format!("more than {MOST_CHUNKS} chunks")));
        }
        Ok(proof)
    }

    /// Checks everything in it, from the bytes up to the signature; what comes back is proved.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] naming the step that does not hold, [`Error::Signature`] when the key did not sign.
    pub fn check(&self) -> Result<Proved> {
        let bytes = strict_json::unescape_text(&self.manifest)?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| bad(error.to_string()))?;
        let manifest_sha256 = sha256(&bytes);
        let (seal, log, key) = self.sealed(&manifest, manifest_sha256, bytes.len() as u64)?;
        let parts = self.chunks.iter().map(|chunk| chunk.check(&manifest)).collect::<Result<Vec<_>>>()?;
        let file = self.file.as_ref().map(|row| row.check(&manifest)).transpose()?;
        let record = self.event.as_ref().map(|event| self.record(event, &parts)).transpose()?;
        let parts = parts.into_iter().map(|(part, _)| part).collect();
        Ok(Proved {
            exhibit: [manifest.exhibit, manifest.name],
            manifest_sha256,
            sealed_by_entry: seal.seq,
            sealed_at: seal.time.wall,
            log,
            key: key.fingerprint(),
            key_began_the_log: self.seal.vkey == manifest.log.vkey,
            chunks: parts,
            file,
            record,
        })
    }

    /// The entry that sealed the manifest, under a signed checkpoint of the log that the manifest names.
    fn sealed(
        &self,
        manifest: &Manifest,
        found: Digest,
        size: u64,
    ) -> Result<(Entry, (String, u64), VerifyingKey)> {
        let proof = TlogProof::parse(&strict_json::unescape_text(&self.seal.proof)?)?;
        let checkpoint = &proof.checkpoint.checkpoint;
        let (name, key) = VerifyingKey::from_vkey(&self.seal.vkey)?;
        if name != checkpoint.origin || manifest.log.origin != checkpoint.origin {
            return Err(bad("the seal is in another log than the manifest names"));
        }
        proof.check(self.seal.line.as_bytes(), &key)?;
        let seal = Entry::parse(self.seal.line.as_bytes())?;
        let names = |id: &str| seal.about.subject.iter().find(|subject| subject.id == id);
        let sealed = names("manifest.json").filter(|subject| subject.size.is_none_or(|known| known == size));
        if seal.kind != EntryType::BUNDLE_SEALED || sealed.and_then(|subject| subject.sha256) != Some(found) {
            return Err(bad("the entry does not seal this manifest"));
        }
        if seal.seq != proof.index {
            return Err(bad("the entry has another number than its proof"));
        }
        Ok((seal, (checkpoint.origin.clone(), checkpoint.size), key))
    }

    /// The stored bytes of an event, cut out of its chunks.
    fn record(&self, event: &ProvedEvent, parts: &[(ProvedPart, Option<Vec<u8>>)]) -> Result<ProvedRecord> {
        let mut stored = Vec::new();
        for (start, end) in &event.ranges {
            let mut at = *start;
            if end <= start {
                return Err(bad("an empty range of an event"));
            }
            while at < *end {
                let holds = |(part, _): &&(ProvedPart, Option<Vec<u8>>)| {
                    part.stream == event.stream
                        && (part.offset..part.offset.saturating_add(part.length)).contains(&at)
                };
                let held = parts.iter().find(holds).and_then(|(part, bytes)| {
                    let from = usize::try_from(at.checked_sub(part.offset)?).ok()?;
                    let upto = usize::try_from(end.checked_sub(part.offset)?.min(part.length)).ok()?;
                    bytes.as_deref()?.get(from..upto).filter(|held| !held.is_empty())
                });
                let held = held.ok_or_else(|| bad("bytes of the event are in no chunk of the proof"))?;
                stored.extend_from_slice(held);
                at = at.saturating_add(held.len() as u64);
            }
        }
        if sha256(&stored) != event.sha256 {
            return Err(bad("the ranges do not hold the event's record"));
        }
        Ok(ProvedRecord { length: stored.len() as u64, sha256: sha256(&stored), row: event.row.clone() })
    }
}

impl ProvedChunk {
    fn check(&self, manifest: &Manifest) -> Result<(ProvedPart, Option<Vec<u8>>)> {
        let stream = stream_of(manifest, &self.stream)?;
        let size = u64::from(stream.chunk_size);
        let offset = self.index.checked_mul(size).filter(|offset| *offset < stream.size);
        let offset =
            offset.ok_or_else(|| bad(format!("stream {} has no chunk {}", self.stream, self.index)))?;
        let length = size.min(stream.size - offset);
        let bytes = match &self.bytes_b64 {
            None => None,
            // Before anything is decoded: base64 has 4 characters for 3 bytes.
            Some(text) if text.len() > LARGEST_CHUNK as usize * 4 / 3 + 4 => {
                return Err(bad(format!("chunk {} has too many bytes", self.index)));
            }
            Some(text) => Some(STANDARD.decode(text).map_err(|_| bad("a chunk is not canonical base64"))?),
        };
        if let Some(bytes) = &bytes
            && (bytes.len() as u64 != length || sha256(bytes) != self.sha256)
        {
            return Err(bad(format!("the bytes of chunk {} do not have its SHA-256", self.index)));
        }
        let leaf = leaf_hash(self.sha256.as_bytes());
        let count = stream.size.div_ceil(size);
        if self.path.len() > LONGEST_PATH
            || !verify_inclusion(&leaf, self.index, count, &self.path, &stream.chunk_root)
        {
            return Err(bad(format!(
                "chunk {} is not under the chunk_root of stream {}",
                self.index, self.stream
            )));
        }
        let part = ProvedPart {
            stream: self.stream.clone(),
            index: self.index,
            offset,
            length,
            sha256: self.sha256,
            has_bytes: bytes.is_some(),
        };
        Ok((part, bytes))
    }
}

impl ProvedRow {
    fn check(&self, manifest: &Manifest) -> Result<CatalogEntry> {
        let stream = stream_of(manifest, &self.stream)?;
        let root =
            stream.catalog_root.ok_or_else(|| bad(format!("stream {} has no catalog_root", self.stream)))?;
        let leaf = leaf_hash(self.row.as_bytes());
        if self.path.len() > LONGEST_PATH
            || !verify_inclusion(&leaf, self.index, self.size, &self.path, &root)
        {
            return Err(bad(format!("the line is not under the catalog_root of stream {}", self.stream)));
        }
        CatalogEntry::parse(self.row.as_bytes()).map_err(bad)
    }
}

fn stream_of<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a Stream> {
    let stream = manifest.streams.iter().find(|stream| stream.name == name);
    stream.ok_or_else(|| bad(format!("the manifest has no stream {name:?}")))
}

fn bad(why: impl Into<String>) -> Error {
    Error::malformed("proof", why)
}
