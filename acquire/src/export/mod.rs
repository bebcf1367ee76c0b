//! The original bytes of a bundle's stream again, in a form that other tools read, verified while they are written.
//!
//! Every chunk is checked against its SHA-256 before a byte of it is written, and the whole stream against the
//! manifest at the end. A file is written beside its name as `NAME.part`, synced, and renamed once all of it has been
//! verified; nothing is ever overwritten or removed.

mod chunks;
mod e01;
mod e01_sections;
mod output;
mod padded;
mod plain;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use custody::Digest;
use custody::bundle::{Bundle, Manifest, State, StateBytes, StreamReader};

use crate::error::{Error, Result};
use crate::progress::{NoProgress, Progress};
use output::Output;

/// The smallest part that a split export is cut into: 1 MiB.
pub const SMALLEST_PART: u64 = 1 << 20;

/// In what form a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bytes of a disk, or of an imported file, as they are; of a memory, padded by address.
    Raw,
    /// The LiME image of a memory, as it is.
    Lime,
    /// The tar of files or of commands' output, as it is.
    Tar,
    /// A disk as an Expert Witness image in the layout of EnCase 6.
    E01,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Lime, Self::Tar, Self::E01];

    /// Its name on a command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Lime => "lime",
            Self::Tar => "tar",
            Self::E01 => "e01",
        }
    }

    /// Whether a stream of this kind can be written so.
    fn takes(self, kind: &str, manifest: &Manifest) -> bool {
        let imported = |formats: &[&str]| {
            let format = manifest.options.get("format").and_then(|format| format.as_str());
            kind == "import" && format.is_some_and(|format| formats.contains(&format))
        };
        match self {
            Self::Raw => matches!(kind, "disk" | "import" | "memory"),
            Self::Lime => kind == "memory" || imported(&["lime"]),
            Self::Tar => matches!(kind, "files" | "commands" | "objects"),
            Self::E01 => kind == "disk" || imported(&["raw", "split-raw"]),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.word() == word);
        found.ok_or_else(|| "it is one of raw, lime, tar and e01".to_owned())
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// What an export wrote.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Name of the stream.
    pub stream: String,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of the stream: computed from what was written, and equal to the manifest's.
    pub sha256: Digest,
    /// Bytes of the stream by state: all but `data` were written as zeros.
    pub states: StateBytes,
    /// The files in order; none if it was written to a stream of bytes.
    pub files: Vec<ExportedFile>,
    /// What an E01 says of its media.
    pub media: Option<Media>,
    /// What the reader of the file must know, in words.
    pub notes: Vec<String>,
}

/// The media of an E01: the stream, and zeros up to a whole sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Zeros behind the stream's last byte.
    pub padding: u32,
    /// MD5 of the media, padding included, as stored in the image.
    pub md5: String,
    /// SHA-1 of the media, padding included, as stored in the image.
    pub sha1: String,
    /// Runs of sectors in its list of read errors.
    pub unreadable_runs: u64,
}

/// An export that is planned, and can be run once.
pub struct Export<'a> {
    manifest: &'a Manifest,
    manifest_sha256: Digest,
    reader: StreamReader,
    format: Format,
    split: Option<u64>,
    workers: usize,
    progress: &'a dyn Progress,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("stream", &self.reader.name()).finish_non_exhaustive()
    }
}

static SILENT: NoProgress = NoProgress;

impl<'a> Export<'a> {
    /// Plans to write one stream: the named one, or the only one that the format takes.
    ///
    /// # Errors
    ///
    /// [`Error::NotExportable`] if there is no such stream, or more than one; [`Error::NotVerified`] or
    /// [`Error::ReadBundle`] if its tables cannot be used.
    pub fn new(bundle: &'a Bundle, format: Format, stream: Option<&str>) -> Result<Self> {
        let manifest = bundle.manifest();
        let name = choose(manifest, format, stream)?;
        let reader = bundle.stream(name).map_err(Error::of_reading)?;
        if reader.extents().iter().any(|extent| extent.state == State::Base) {
            return Err(refused(
                "it holds only what changed since its base, and what did not lies in the exhibit of that",
            ));
        }
        let manifest_sha256 = bundle.manifest_sha256();
        Ok(Self { manifest, manifest_sha256, reader, format, split: None, workers: 0, progress: &SILENT })
    }

    /// The stream that will be written.
    #[must_use]
    pub fn stream(&self) -> &StreamReader {
        &self.reader
    }

    /// Cuts a raw or E01 image into files of at most so many bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NotExportable`] for other formats, and for less than [`SMALLEST_PART`].
    pub fn split(mut self, bytes: u64) -> Result<Self> {
        if !matches!(self.format, Format::Raw | Format::E01) || self.is_memory() {
            return Err(refused("only raw and e01 of a disk can be split"));
        }
        if bytes < SMALLEST_PART {
            return Err(refused("parts smaller than 1 MiB are not written"));
        }
        self.split = Some(bytes);
        Ok(self)
    }

    /// Sets how many threads decompress, check and compress; 0 for one a core.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Tells somebody how far it is, in bytes of the stream.
    #[must_use]
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Writes it to a file, or to several if it is split: `FILE.001`, `FILE.002` … or `FILE.E01`, `FILE.E02` ….
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`], [`Error::Write`]; [`Error::NotVerified`] or [`Error::StreamDiffers`] if the bundle's
    /// bytes are not those that were acquired. What was written before stays as `NAME.part`.
    pub fn to_file(self, path: &Path) -> Result<Exported> {
        match self.format {
            Format::E01 => e01::write(&self, path),
            Format::Raw if self.is_memory() => padded::write(&self, path),
            _ => {
                let parts = plain::names(path, self.reader.len(), self.split)?;
                plain::write(&self, Output::files(parts)?)
            }
        }
    }

    /// Writes it to a stream of bytes, such as standard output. What was written before a fault cannot be taken back.
    ///
    /// # Errors
    ///
    /// As [`Export::to_file`]; [`Error::NotExportable`] for E01 and for split exports, which are files.
    pub fn to_stream(self, out: &mut dyn io::Write) -> Result<Exported> {
        let is_file = self.format == Format::E01 || (self.format == Format::Raw && self.is_memory());
        if is_file || self.split.is_some() {
            return Err(refused(
                "E01, memory padded by address and what is split are files: name one with -o FILE",
            ));
        }
        plain::write(&self, Output::stream(out))
    }

    /// Whether it is a memory of our own, whose ranges stand behind headers. An imported one is given as it was.
    fn is_memory(&self) -> bool {
        self.reader.stream().kind == "memory"
    }

    fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            workers => workers,
        }
    }

    /// What was written, of the whole stream.
    fn exported(&self, sha256: Digest, files: Vec<ExportedFile>, notes: Vec<String>) -> Exported {
        let stream = self.reader.stream();
        let (stream, size, states) = (stream.name.clone(), stream.size, stream.states);
        Exported { stream, size, sha256, states, files, media: None, notes }
    }

    /// What the states of the stream mean for who reads the file.
    fn notes(&self) -> Vec<String> {
        let states = self.reader.stream().states;
        let gaps = [
            (states.unreadable, "could not be read from the source"),
            (states.absent, "were not there in the source"),
            (states.skipped, "were not asked for"),
            (states.base, "are in the bundle that this one builds on, and not in this file"),
        ];
        let told = gaps.into_iter().filter(|(bytes, _)| *bytes > 0);
        told.map(|(bytes, what)| format!("{bytes} bytes are zeros here because they {what}")).collect()
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::NotExportable { reason: reason.into() }
}

/// The name of the stream to write.
fn choose<'m>(manifest: &'m Manifest, format: Format, wanted: Option<&str>) -> Result<&'m str> {
    let fitting = || manifest.streams.iter().filter(|stream| format.takes(&stream.kind, manifest));
    let all = || {
        let names = manifest.streams.iter().map(|stream| format!("{} ({})", stream.name, stream.kind));
        names.collect::<Vec<_>>().join(", ")
    };
    if let Some(wanted) = wanted {
        let stream = manifest.streams.iter().find(|stream| stream.name == wanted);
        let stream = stream
            .ok_or_else(|| refused(format!("the bundle has no stream {wanted:?}: it has {}", all())))?;
        if !format.takes(&stream.kind, manifest) {
            let reason = format!(
                "stream {wanted:?} is of kind {}, which {} does not take",
                stream.kind,
                format.word()
            );
            return Err(refused(reason));
        }
        return Ok(&stream.name);
    }
    let mut found = fitting();
    match (found.next(), found.next()) {
        (Some(stream), None) => Ok(&stream.name),
        (None, _) => {
            let what =
                format!("no stream of the bundle can be written as {}: it has {}", format.word(), all());
            Err(refused(what))
        }
        (Some(_), Some(_)) => {
            let names: Vec<_> = fitting().map(|stream| stream.name.as_str()).collect();
            Err(refused(format!(
                "several streams can be written as {}: say which of {}",
                format.word(),
                names.join(", ")
            )))
        }
    }
}
