//! A grant: a file with which a host that has no credential writes one exhibit to an evidence store, for a few hours.
//!
//! It holds a signature for every act that the host may do: a part of an upload that was begun for it, the end of such an
//! upload, one object that is not there yet. With none of them can anything be read, listed, replaced or removed.
//! The file is a secret as long as it holds. [`fmt::Debug`] and errors show none of its signatures.

use std::collections::BTreeMap;
use std::fmt;

use custody::bundle::{RemotePlace, Retention, SEGMENT};
use custody::strict_json;
use custody::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use super::presigning::encoded;
use crate::error::{Error, Result};

/// What a person reads who opens the file.
const WARNING: &str = "Whoever has this file can write to this place of the evidence store until it ends. Keep it as you keep a \
                       key, and remove it from the host when the acquisition has ended.";

/// No grant is longer: one of 4 TiB has 20 MB.
const LONGEST: usize = 128 << 20;

/// Bytes of a part.
pub(super) const PART: usize = 16 << 20;

/// Parts that one object may have: a segment that does not compress, or a table of 1 GiB.
pub(super) const PARTS: usize = 66;

/// Disks for which one grant can be made.
pub const LARGEST_GRANT: u64 = 4 << 40;

/// Entries that the log of a granted acquisition may have.
pub(super) const ENTRIES: u64 = 64;

/// What a grant lets a host acquire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GrantedKind {
    /// `acquire container`.
    Container,
    /// `acquire disk`.
    Disk,
    /// `acquire logs`.
    Logs,
    /// `acquire memory`.
    Memory,
    /// `acquire triage`.
    Triage,
}

impl GrantedKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Container, Self::Disk, Self::Logs, Self::Memory, Self::Triage];

    /// As it is typed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Disk => "disk",
            Self::Logs => "logs",
            Self::Memory => "memory",
            Self::Triage => "triage",
        }
    }

    /// The streams that such a bundle has.
    fn streams(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["commands", "processes", "files"],
            Self::Disk => &["disk"],
            Self::Logs => &["files"],
            Self::Memory => &["memory", "symbols"],
            Self::Triage => &["commands", "files"],
        }
    }
}

/// What is granted, before anything is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The case's id.
    pub case: String,
    /// Who examines.
    pub examiner: String,
    /// For what organisation; empty if none.
    pub organisation: String,
    /// The exhibit's id.
    pub exhibit: String,
    /// Its name.
    pub name: String,
    /// What is acquired.
    pub kind: GrantedKind,
    /// Bytes of it, before compression.
    pub size: u64,
    /// Whom it is encrypted to.
    pub encrypt_to: Vec<String>,
}

/// One upload that was begun for the host.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantedUpload {
    /// The signature with which it is ended.
    pub(super) complete: String,
    pub(super) id: String,
    /// The signature of each part.
    pub(super) parts: Vec<String>,
}

/// The file, its fields in the order of strict JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantFile {
    pub(super) about: String,
    /// The address before each path.
    pub(super) base: String,
    pub(super) bucket: String,
    pub(super) case: String,
    /// The parameters that all signatures share.
    pub(super) common: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) encrypt_to: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) endpoint: Option<String>,
    pub(super) examiner: String,
    pub(super) exhibit: String,
    /// RFC 3339.
    pub(super) expires: String,
    /// Nanoseconds since 1970, as a string.
    pub(super) expires_ns: String,
    /// Headers that are sent with what is put once.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) kind: GrantedKind,
    pub(super) name: String,
    /// The signature of each object that is put once.
    pub(super) once: BTreeMap<String, String>,
    pub(super) organisation: String,
    pub(super) prefix: String,
    pub(super) region: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) retention: Option<Retention>,
    /// The names of the headers that are signed: of the end of an upload, of what is put once, of a part.
    pub(super) signed_headers: [String; 3],
    pub(super) size: u64,
    pub(super) uploads: BTreeMap<String, GrantedUpload>,
    pub(super) v: u32,
}

/// What one signature allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Put an object that is not there yet.
    Once,
    /// Send this part of its upload.
    Part(i32),
    /// End its upload.
    Complete,
}

/// A grant.
#[derive(Clone)]
pub struct Grant {
    pub(super) file: GrantFile,
    place: RemotePlace,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GrantFile { exhibit, expires, .. } = &self.file;
        f.debug_struct("Grant")
            .field("place", &self.place)
            .field("exhibit", exhibit)
            .field("expires", expires)
            .finish()
    }
}

fn unusable(reason: impl Into<String>) -> Error {
    Error::Grant { reason: reason.into() }
}

impl Grant {
    /// Reads what [`Grant::to_bytes`] gave.
    ///
    /// # Errors
    ///
    /// [`Error::Grant`], which repeats nothing of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if line.len() > LONGEST {
            return Err(unusable("it is longer than any grant is"));
        }
        // What a parser says repeats what it read.
        let file = strict_json::parse(line).ok().and_then(|value| serde_json::from_value(value).ok());
        let file: GrantFile = file.ok_or_else(|| unusable("it is no grant, or was cut short"))?;
        if file.v != 1 {
            return Err(unusable(format!("it is of version {}, and this build reads 1", file.v)));
        }
        Self::new(file)
    }

    pub(super) fn new(file: GrantFile) -> Result<Self> {
        let wrong = |_| unusable("it names a place that cannot be");
        let text = format!("s3://{}/{}", file.bucket, file.prefix);
        let place = RemotePlace::parse(&text).map_err(wrong)?;
        let place = place.on(&file.region, file.endpoint.as_deref()).map_err(wrong)?;
        let place = place.retained(file.retention).map_err(wrong)?;
        if file.base != super::presigning::base_of(&place) {
            return Err(unusable("it would send evidence to another server than the one that it names"));
        }
        let name = custody::case_layout::exhibit_folder_name(&file.exhibit, &file.name);
        if !place.prefix.ends_with(&name) || custody::case_layout::exhibit_number(&file.exhibit).is_none() {
            return Err(unusable("it names an exhibit that is not of its place"));
        }
        Ok(Self { file, place })
    }

    /// The file: one line of strict JSON and an LF. It is a secret.
    ///
    /// # Errors
    ///
    /// [`Error::Grant`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let value = serde_json::to_value(&self.file).map_err(|_| unusable("it cannot be written"))?;
        let line = strict_json::to_line(&value).map_err(|_| unusable("it cannot be written"))?;
        Ok((line + "\n").into_bytes())
    }

    /// Where the bundle is written to.
    #[must_use]
    pub fn place(&self) -> &RemotePlace {
        &self.place
    }

    /// What it grants.
    #[must_use]
    pub fn granted(&self) -> Granted {
        let GrantFile { case, examiner, organisation, exhibit, name, kind, size, encrypt_to, .. } =
            self.file.clone();
        Granted { case, examiner, organisation, exhibit, name, kind, size, encrypt_to }
    }

    /// When it ends: RFC 3339.
    #[must_use]
    pub fn expires(&self) -> &str {
        &self.file.expires
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.file.expires_ns.parse::<i64>().map_or(true, |end| SystemClock.now().wall_ns >= end)
    }

    /// Its limits in words.
    #[must_use]
    pub fn limits(&self) -> String {
        let GrantFile { size, uploads, expires, .. } = &self.file;
        format!(
            "it holds until {expires}, for {} GiB before compression ({} uploads begun), a log of {ENTRIES} entries, and \
             files of at most {} MiB",
            size.div_ceil(1 << 30),
            uploads.len(),
            (PART * PARTS) >> 20,
        )
    }

    /// The address of an act, as far as the grant has it. Never to be shown.
    pub(super) fn url(&self, path: &str, act: Act) -> Option<String> {
        let file = &self.file;
        let [complete, once, part] = &file.signed_headers;
        let upload = || file.uploads.get(path);
        let (query, headers, signature) = match act {
            Act::Once => (String::new(), once, file.once.get(path)?),
            Act::Complete => {
                (format!("uploadId={}&", encoded(&upload()?.id, false)), complete, &upload()?.complete)
            }
            Act::Part(number) => {
                let upload = upload()?;
                let signature = upload.parts.get(usize::try_from(number.checked_sub(1)?).ok()?)?;
                (format!("partNumber={number}&uploadId={}&", encoded(&upload.id, false)), part, signature)
            }
        };
        Some(format!(
            "{}?{query}{}&X-Amz-SignedHeaders={}&X-Amz-Signature={signature}",
            address(&file.base, path),
            file.common,
            encoded(headers, false)
        ))
    }
}

/// The address of an object, unsigned.
pub(super) fn address(base: &str, path: &str) -> String {
    format!("{base}/{}", encoded(path, true))
}

/// The objects that an upload is begun for.
pub(super) fn uploads_of(granted: &Granted) -> Vec<String> {
    let ending = if granted.encrypt_to.is_empty() { "" } else { ".age" };
    let mut paths = Vec::new();
    for stream in granted.kind.streams() {
        // The symbols of a kernel are some MiB.
        let size = if *stream == "symbols" { SEGMENT } else { granted.size };
        for number in 0..size.div_ceil(SEGMENT).max(1) {
            paths.push(format!("data/{stream}/{number:06}.zst{ending}"));
        }
        paths.extend(tables_of(stream).map(|table| format!("data/{stream}.{table}{ending}")));
    }
    paths
}

/// The objects that are put once, in one piece.
pub(super) fn once_of(granted: &Granted) -> Vec<String> {
    let ending = if granted.encrypt_to.is_empty() { "" } else { ".age" };
    let mut paths: Vec<String> = [
        "SHA256SUMS",
        "VERIFY.md",
        "keys/log.vkey",
        "keys/signer.pub.pem",
        "manifest.json",
        "manifest.json.sig",
    ]
    .map(str::to_owned)
    .to_vec();
    for stream in granted.kind.streams() {
        paths.extend(tables_of(stream).map(|table| format!("data/{stream}.{table}{ending}")));
        paths.push(format!("data/{stream}.ranges.tsv{ending}"));
    }
    for entry in 0..ENTRIES {
        paths.push(custody::entry_path(entry));
        let name = custody::case_layout::kept_checkpoint_name(entry + 1);
        paths.push(format!("checkpoints/{name}"));
    }
    paths
}

fn tables_of(stream: &str) -> impl Iterator<Item = &'static str> {
    let has_catalog = !matches!(stream, "disk" | "memory");
    ["chunks.tsv", "extents.tsv"].into_iter().chain(has_catalog.then_some("catalog.jsonl"))
}

/// What the file begins with.
pub(super) fn warning() -> String {
    WARNING.to_owned()
}
