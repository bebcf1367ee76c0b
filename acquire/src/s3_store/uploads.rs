//! The journal of uploads: what was begun in the store, and what is there, so that another process can go on.
//!
//! `uploads.journal` in the exhibit's folder holds strict JSON lines, each on the disk before what it announces is done or
//! after what it tells was answered. It goes when the bundle is sealed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Mutex, PoisonError};

use custody::{Digest, strict_json};
use serde::{Deserialize, Serialize};

/// No line that is longer is believed.
const LONGEST_LINE: u64 = 16 << 10;

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) etag: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Line {
    /// Where all of it goes.
    Place { place: String },
    /// An upload is about to be begun.
    Begin { path: String },
    /// The store refused to begin one.
    Refused { path: String },
    /// It was begun.
    Upload { checksummed: bool, id: String, path: String },
    /// A part is there.
    Part { etag: String, number: i32, path: String, sha256: Digest, size: u64 },
    /// All its parts are there.
    Ready { parts: i32, path: String, sha256: Digest, size: u64 },
    /// It is about to become an object, or an object is about to be put.
    Putting { path: String },
    /// The object is there.
    Done { path: String, sha256: Digest, size: u64 },
    /// The object was there after an attempt whose answer never came, and was taken for our own.
    Assumed { path: String },
    /// The object got its name, and the store said that it holds other bytes than were sent.
    Differs { path: String },
    /// An upload was given up.
    Aborted { id: String, path: String },
    /// No other upload of this object is left.
    Cleared { path: String },
    /// Everything is decided; what is not there yet is put as it lies in the folder.
    Settling,
}

/// How far one object is.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    /// Attempts to begin an upload that may have left one which is not known.
    pub(super) unknown: u32,
    /// The upload that is its own.
    pub(super) upload: Option<Upload>,
    /// Uploads of it that were left for another.
    pub(super) left: Vec<String>,
    /// An attempt to put it, or to complete its upload, was announced.
    pub(super) putting: bool,
    /// It is there.
    pub(super) done: Option<(u64, Digest)>,
    /// It was taken for our own without proof.
    pub(super) assumed: bool,
    /// The store said that it holds other bytes than were sent.
    pub(super) differs: bool,
}

/// An upload in parts.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) id: String,
    pub(super) checksummed: bool,
    pub(super) parts: BTreeMap<i32, Part>,
    /// Number of parts, size and SHA-256 once all parts are there.
    pub(super) ready: Option<(i32, u64, Digest)>,
}

/// The journal, open to be gone on with.
#[derive(Debug)]
pub(super) struct Uploads {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    objects: BTreeMap<String, Object>,
    settling: bool,
    place: Option<String>,
}

impl Uploads {
    /// Reads a journal through and goes on with it. `read` and `append` are the same file; a torn last line is left out.
    pub(super) fn open(read: File, mut append: File) -> io::Result<Self> {
        let mut objects = BTreeMap::new();
        let (mut settling, mut place) = (false, None);
        let mut input = BufReader::new(read);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            if line.last() != Some(&b'\n') {
                // The next line must not be glued to what is left of this one.
                append.write_all(b"\n")?;
                break;
            }
            if let Some(line) = parse(&line) {
                take(&mut objects, &mut settling, &mut place, line);
            }
        }
        Ok(Self { state: Mutex::new(State { file: append, objects, settling, place }) })
    }

    /// Writes lines and brings them to the disk.
    pub(super) fn note(&self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            let value = serde_json::to_value(line).map_err(io::Error::other)?;
            text.push_str(&strict_json::to_line(&value).map_err(io::Error::other)?);
            text.push('\n');
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.write_all(text.as_bytes())?;
        state.file.sync_data()?;
        let State { objects, settling, place, .. } = &mut *state;
        for line in lines {
            take(objects, settling, place, line.clone());
        }
        Ok(())
    }

    /// How far an object is.
    pub(super) fn of(&self, path: &str) -> Object {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .objects
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    /// Every object.
    pub(super) fn all(&self) -> Vec<(String, Object)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.objects.iter().map(|(path, object)| (path.clone(), object.clone())).collect()
    }

    /// Where all of it goes, as the journal says.
    pub(super) fn place(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).place.clone()
    }

    /// Whether an upload is known, or may be there, that belongs to nothing.
    pub(super) fn has_open(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .objects
            .values()
            .any(|object| object.unknown > 0 || object.upload.is_some() || !object.left.is_empty())
    }

    pub(super) fn is_settling(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).settling
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let value = strict_json::parse(line.strip_suffix(b"\n")?).ok()?;
    serde_json::from_value(value).ok()
}

fn take(objects: &mut BTreeMap<String, Object>, settling: &mut bool, place: &mut Option<String>, line: Line) {
    match line {
        Line::Begin { path } => {
            let object = of(objects, &path);
            object.unknown = object.unknown.saturating_add(1);
        }
        Line::Refused { path } => {
            let object = of(objects, &path);
            object.unknown = object.unknown.saturating_sub(1);
        }
        Line::Upload { checksummed, id, path } => {
            let object = of(objects, &path);
            object.unknown = object.unknown.saturating_sub(1);
            object.putting = false;
            if let Some(before) = object.upload.take() {
                object.left.push(before.id);
            }
            object.upload = Some(Upload { id, checksummed, parts: BTreeMap::new(), ready: None });
        }
        Line::Part { etag, number, path, sha256, size } => {
            if let Some(upload) = of(objects, &path).upload.as_mut() {
                upload.ready = None;
                upload.parts.insert(number, Part { size, sha256, etag });
            }
        }
        Line::Ready { parts, path, sha256, size } => {
            if let Some(upload) = of(objects, &path).upload.as_mut() {
                upload.ready = Some((parts, size, sha256));
            }
        }
        Line::Putting { path } => of(objects, &path).putting = true,
        Line::Done { path, sha256, size } => {
            let object = of(objects, &path);
            object.done = Some((size, sha256));
            // The parts are told no more: a bundle of 16 TiB has two million.
            object.upload = None;
        }
        Line::Assumed { path } => of(objects, &path).assumed = true,
        Line::Differs { path } => of(objects, &path).differs = true,
        Line::Aborted { id, path } => {
            let object = of(objects, &path);
            object.left.retain(|left| *left != id);
            if object.upload.as_ref().is_some_and(|upload| upload.id == id) {
                object.upload = None;
            }
        }
        Line::Cleared { path } => of(objects, &path).unknown = 0,
        Line::Settling => *settling = true,
        Line::Place { place: named } => *place = Some(named),
    }
}

fn of<'o>(objects: &'o mut BTreeMap<String, Object>, path: &str) -> &'o mut Object {
    objects.entry(path.to_owned()).or_default()
}
