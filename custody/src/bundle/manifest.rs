//! `manifest.json`: what was acquired, from what, by whom, how, and every file that holds it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{Error, Result};
use super::extent::StateBytes;
use super::frame::{LARGEST_CHUNK, SMALLEST_CHUNK};
use super::protection::ENDING;
use super::store::is_bundle_path;
use super::tables::segment_name;
use crate::digest::Digest;
use crate::entry::{Host, Tool};
use crate::strict_json;

/// The format that this build writes and reads.
pub const FORMAT: &str = "exhibit-bundle/1";

/// No manifest is longer: one of 100,000 segments has 20 MB.
pub(crate) const LONGEST_MANIFEST: u64 = 64 << 20;

/// Everything that a manifest says.
///
/// Fields that a later build of format 1 adds are kept out of this type but stay in the signed file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the ranges in state `base` are as in, if only changes were acquired.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base: Option<Base>,
    /// Id of the case, if the bundle was made in one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub case: Option<String>,
    /// When the bundle was begun: RFC 3339, UTC, 9 digits.
    pub created: String,
    /// Id of the exhibit: `E001`.
    pub exhibit: String,
    /// Who acquired it.
    pub examiner: Examiner,
    /// [`FORMAT`].
    pub format: String,
    /// The machine that acquired it.
    pub host: Host,
    /// UUIDv7 of the bundle.
    pub id: String,
    /// The log that tells its custody.
    pub log: LogOrigin,
    /// Name of the exhibit: `web01-disk`.
    pub name: String,
    /// How it was acquired: whatever the source's options are.
    pub options: Map<String, Value>,
    /// What it was acquired from.
    pub source: Source,
    /// Its streams.
    pub streams: Vec<Stream>,
    /// The program that wrote it.
    pub tool: Tool,
}

/// What a bundle builds on that holds only what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Id of the bundle, as its manifest has it; `None` if no bundle of the base was at hand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bundle: Option<String>,
    /// Its exhibit: `E001`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exhibit: Option<String>,
    /// SHA-256 of its `manifest.json`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest_sha256: Option<Digest>,
    /// The snapshot, as its service names it.
    pub snapshot: String,
}

/// Who acquired a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examiner {
    /// Fingerprint of the key that signs the manifest.
    pub key: String,
    /// Name, as given.
    pub name: String,
}

/// The log that tells a bundle's custody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOrigin {
    /// Origin of its checkpoints.
    pub origin: String,
    /// The key that began it.
    pub vkey: String,
}

/// What a bundle was acquired from. Unknown facts are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `disk`, `memory`, `files`, `logs`, …
    pub kind: String,
    /// Its path, escaped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Model of the device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Serial number of the device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
    /// Bytes it had when it was opened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// Bytes of a logical sector.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sector_size: Option<u32>,
    /// Whatever else the source tells of itself.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A file of the bundle, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Path inside the bundle; it ends in `.age` where the file is encrypted.
    pub path: String,
    /// What is inside, of an encrypted file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plain: Option<Plain>,
    /// SHA-256 of the stored file.
    pub sha256: Digest,
    /// Bytes of the stored file.
    pub size: u64,
}

/// What is inside an encrypted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its bytes.
    pub size: u64,
}

impl StoredFile {
    /// The file as one who can decrypt it sees it, under the same path.
    #[must_use]
    pub fn decrypted(&self) -> Self {
        match self.plain {
            Some(Plain { sha256, size }) => Self { path: self.path.clone(), plain: None, sha256, size },
            None => self.clone(),
        }
    }
}

/// One stream of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The catalogue, of streams that hold files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub catalog: Option<StoredFile>,
    /// RFC 6962 root of the tree whose leaf data are the catalogue's lines in order, without LF. Each line has a random
    /// `salt`, so that one file can be proved to somebody who must not learn of the others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub catalog_root: Option<Digest>,
    /// RFC 6962 root of the tree whose leaf data are the chunk hashes in order.
    pub chunk_root: Digest,
    /// Bytes of every chunk but the last.
    pub chunk_size: u32,
    /// The table of chunks.
    pub chunks: StoredFile,
    /// The table of extents.
    pub extents: StoredFile,
    /// SHA-256 of the whole stream with what is as in its base; `None` without a base, or where it was not at hand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub full_sha256: Option<Digest>,
    /// `disk`, `memory`, `files`, `commands`, `objects`.
    pub kind: String,
    /// Name of the stream.
    pub name: String,
    /// Physical ranges, of a memory stream.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ranges: Option<StoredFile>,
    /// The segments in order.
    pub segments: Vec<StoredFile>,
    /// SHA-256 of the whole stream.
    pub sha256: Digest,
    /// SHA-256 of the bytes of its `data` and `zero` extents only.
    pub sha256_data: Digest,
    /// Bytes of the stream.
    pub size: u64,
    /// Its bytes by state.
    pub states: StateBytes,
}

impl Manifest {
    /// The bytes of `manifest.json`: one line of strict JSON and one LF.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where a value cannot be told in strict JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let refused = |reason: String| Error::Refused { reason: format!("manifest: {reason}") };
        let value = serde_json::to_value(self).map_err(|error| refused(error.to_string()))?;
        let mut bytes =
            strict_json::to_line(&value).map_err(|error| refused(error.to_string()))?.into_bytes();
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the bytes of `manifest.json` and checks everything in it that can be checked without other files.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFormat`], or [`Error::Manifest`] with what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let line =
            bytes.strip_suffix(b"\n").ok_or_else(|| Error::manifest("it does not end in a line feed"))?;
        let value = strict_json::parse(line).map_err(|error| Error::manifest(error.to_string()))?;
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            Some(format) => return Err(Error::UnknownFormat { format: format.to_owned() }),
            None => return Err(Error::manifest("it names no format")),
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|error| Error::manifest(error.to_string()))?;
        for (at, stream) in manifest.streams.iter().enumerate() {
            stream.check()?;
            if manifest.streams.iter().take(at).any(|other| other.name == stream.name) {
                return Err(Error::manifest(format!("two streams are called {:?}", stream.name)));
            }
        }
        Ok(manifest)
    }
}

impl Stream {
    /// All files that hold the stream.
    pub fn files(&self) -> impl Iterator<Item = &StoredFile> {
        let tables = [Some(&self.chunks), Some(&self.extents), self.catalog.as_ref(), self.ranges.as_ref()];
        tables.into_iter().flatten().chain(&self.segments)
    }

    /// Whether its files are encrypted: all of them are, or none.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.chunks.plain.is_some()
    }

    /// The stream as one who can decrypt it sees it: sizes and hashes of its files are of what is inside.
    #[must_use]
    pub fn decrypted(&self) -> Self {
        Self {
            catalog: self.catalog.as_ref().map(StoredFile::decrypted),
            chunks: self.chunks.decrypted(),
            extents: self.extents.decrypted(),
            ranges: self.ranges.as_ref().map(StoredFile::decrypted),
            segments: self.segments.iter().map(StoredFile::decrypted).collect(),
            ..self.clone()
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::manifest(format!("stream {:?}: {what}", self.name)));
        if !is_stream_name(&self.name) {
            return wrong("its name is not of a-z, 0-9, - and _");
        }
        if !self.chunk_size.is_power_of_two() || !(SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&self.chunk_size)
        {
            return wrong("chunk_size is not a power of two from 64 KiB to 16 MiB");
        }
        if self.states.total() != self.size {
            return wrong("the states do not add up to its size");
        }
        if self.segments.is_empty() != (self.size == 0) {
            return wrong("its segments do not fit its size");
        }
        if self.full_sha256.is_some() && self.states.base == 0 {
            return wrong("it has the hash of a whole with a base and nothing that is as in a base");
        }
        if self.catalog_root.is_some() && self.catalog.is_none() {
            return wrong("it has the root of a catalogue and no catalogue");
        }
        if self.files().any(|file| file.plain.is_some() != self.is_encrypted()) {
            return wrong("some of its files are encrypted and some are not");
        }
        let data = format!("data/{}", self.name);
        let ending = if self.is_encrypted() { ENDING } else { "" };
        for (number, segment) in self.segments.iter().enumerate() {
            let name = u32::try_from(number).map(segment_name).unwrap_or_default();
            if segment.path != format!("{data}/{name}{ending}") {
                return wrong("a segment has another path than its number gives");
            }
        }
        for (file, kind) in [
            (Some(&self.chunks), "chunks.tsv"),
            (Some(&self.extents), "extents.tsv"),
            (self.catalog.as_ref(), "catalog.jsonl"),
            (self.ranges.as_ref(), "ranges.tsv"),
        ] {
            if file.is_some_and(|file| {
                file.path != format!("{data}.{kind}{ending}") || !is_bundle_path(&file.path)
            }) {
                return wrong("a table has another path than its stream gives");
            }
        }
        Ok(())
    }
}

/// Whether a word can name a stream: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
pub(crate) fn is_stream_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::digest::sha256;

    pub(crate) fn manifest() -> Manifest {
        Manifest {
            base: None,
            case: Some("ir-2026-017".into()),
            created: "2026-11-21T01:30:00.123456789Z".into(),
            exhibit: "E001".into(),
            examiner: Examiner { key: "SHA256:x".into(), name: "J. Doe".into() },
            format: FORMAT.into(),
            host: Host { name: "web01".into(), ..Host::default() },
            id: "019aa0d5-0000-7000-8000-000000000000".into(),
            log: LogOrigin { origin: "exhibit/00".into(), vkey: "v".into() },
            name: "web01-disk".into(),
            options: Map::new(),
            source: Source { kind: "disk".into(), size: Some(0), ..Source::default() },
            streams: vec![],
            tool: Tool { build_sha256: None, name: "exhibit".into(), version: "0.1.0".into() },
        }
    }

    fn stream() -> Stream {
        let file = |path: &str| StoredFile { path: path.into(), plain: None, sha256: sha256(b""), size: 1 };
        Stream {
            catalog: None,
            catalog_root: None,
            chunk_root: sha256(b""),
            chunk_size: SMALLEST_CHUNK,
            chunks: file("data/disk.chunks.tsv"),
            extents: file("data/disk.extents.tsv"),
            full_sha256: None,
            kind: "disk".into(),
            name: "disk".into(),
            ranges: None,
            segments: vec![file("data/disk/000000.zst")],
            sha256: sha256(b""),
            sha256_data: sha256(b""),
            size: 7,
            states: StateBytes { data: 7, ..StateBytes::default() },
        }
    }

    #[test]
    fn a_manifest_is_one_line_and_comes_back_equal() {
        let manifest = Manifest { streams: vec![stream()], ..manifest() };
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert!(bytes.starts_with(br#"{"case":"ir-2026-017","created":"#));
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
    }

    fn encrypted_stream() -> Stream {
        let mut encrypted = stream();
        encrypted.catalog = Some(StoredFile { path: "data/disk.catalog.jsonl".into(), ..stream().chunks });
        let Stream { chunks, extents, catalog, segments, .. } = &mut encrypted;
        for file in [chunks, extents].into_iter().chain(catalog).chain(segments) {
            file.path.push_str(".age");
            file.plain = Some(Plain { sha256: sha256(b"plain"), size: 3 });
        }
        encrypted
    }

    #[test]
    fn an_encrypted_stream_names_every_file_with_its_ending_and_what_is_inside() {
        let manifest = Manifest { streams: vec![encrypted_stream()], ..manifest() };
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
        let plain = manifest.streams[0].decrypted();
        assert!(!plain.is_encrypted());
        assert!(plain.files().all(|file| file.size == 3 && file.sha256 == sha256(b"plain")));
        type Change = fn(&mut Stream);
        let changes: [Change; 5] = [
            |stream| stream.chunks.plain = None,
            |stream| stream.segments[0].plain = None,
            |stream| stream.catalog.as_mut().unwrap().plain = None,
            |stream| stream.extents.path = "data/disk.extents.tsv".into(),
            |stream| stream.segments[0].path = "data/disk/000000.zst".into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = encrypted_stream();
            change(&mut changed);
            let bytes = Manifest { streams: vec![changed], ..super::tests::manifest() }.to_bytes().unwrap();
            assert!(matches!(Manifest::from_bytes(&bytes), Err(Error::Manifest { .. })), "change {number}");
        }
    }

    #[test]
    fn a_later_format_and_a_corrupt_file_are_told_apart() {
        let later = Manifest { format: "exhibit-bundle/2".into(), ..manifest() }.to_bytes().unwrap();
        assert!(
            matches!(Manifest::from_bytes(&later), Err(Error::UnknownFormat { format }) if format.ends_with("/2"))
        );
        let good = manifest().to_bytes().unwrap();
        for length in 0..good.len() {
            assert!(matches!(Manifest::from_bytes(&good[..length]), Err(Error::Manifest { .. })), "{length}");
        }
    }

    #[test]
    fn paths_sizes_and_names_that_cannot_be_are_refused() {
        type Change = fn(&mut Stream);
        let changes: [Change; 8] = [
            |stream| stream.name = "../x".into(),
            |stream| stream.chunk_size = 100_000,
            |stream| stream.chunk_size = 32 << 20,
            |stream| stream.size = 8,
            |stream| stream.segments.clear(),
            |stream| stream.segments[0].path = "data/disk/000001.zst".into(),
            |stream| stream.segments[0].path = "/etc/passwd".into(),
            |stream| stream.chunks.path = "data/other.chunks.tsv".into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = stream();
            change(&mut changed);
            let bytes = Manifest { streams: vec![changed], ..manifest() }.to_bytes().unwrap();
            assert!(matches!(Manifest::from_bytes(&bytes), Err(Error::Manifest { .. })), "change {number}");
        }
        let twice = Manifest { streams: vec![stream(), stream()], ..manifest() }.to_bytes().unwrap();
        assert!(matches!(Manifest::from_bytes(&twice), Err(Error::Manifest { .. })));
    }
}
