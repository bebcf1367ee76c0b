//! Images and archives that other tools made: their files unchanged, and what they state about themselves checked.
//!
//! - The bytes of the foreign files are the stream `original`, of kind `import`; a set of several is one behind the other.
//!   A folder of KAPE becomes the stream `files`, as any folder does.
//! - The manifest's options say `format` and the `parts` (`name`, `size`; not where there are hundreds). Its source says the
//!   `parts` with their SHA-256, and under `foreign` what the image says of itself and how its hashes compare with its
//!   content.
//! - The check runs beside the storing and reads the same open files: what it says is about the same content as long as
//!   nobody writes to them, which is looked at.
//! - What does not match is an issue and an entry of the log. The bytes are stored all the same: they are the evidence.

mod archive;
mod ewf;
mod hashes;
mod kape;
mod memory_image;
mod parts;
mod sidecar;

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use custody::{EntryType, NewEntry};
use serde_json::{Map, Value, json};

use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::source::{Issue, Issues, Source};
use hashes::{Algorithm, Hashes, Values};
use parts::{Part, Parts, refused};
use sidecar::{Of, Sidecar, Stated};

/// Parts whose facts stand in the manifest one by one: as many as an E01 can have.
const MOST_PARTS: usize = 20_000;
/// Statements of the log's entry.
const NAMED_STATEMENTS: usize = 20;
/// Bytes that the list of parts may take in an entry of the log, which is 64 KiB at most.
const MOST_LISTED: usize = 30_000;

/// What kind of image or archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An Expert Witness image, in one file or several.
    E01,
    /// The bytes of a disk, or anything else that is not known more closely.
    Raw,
    /// The same, cut into files whose names end in numbers.
    SplitRaw,
    /// A memory image of LiME.
    Lime,
    /// A memory image that AVML compressed.
    Avml,
    /// The tar of UAC.
    UacTar,
    /// The zip of Velociraptor's offline collector.
    VelociraptorZip,
    /// The folder of KAPE.
    Kape,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::E01,
        Self::Raw,
        Self::SplitRaw,
        Self::Lime,
        Self::Avml,
        Self::UacTar,
        Self::VelociraptorZip,
        Self::Kape,
    ];

    /// The word in the manifest.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::E01 => "e01",
            Self::Raw => "raw",
            Self::SplitRaw => "split-raw",
            Self::Lime => "lime",
            Self::Avml => "avml",
            Self::UacTar => "uac-tar",
            Self::VelociraptorZip => "velociraptor-zip",
            Self::Kape => "kape",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = String;

    /// Reads the manifest's word; `uac` and `velociraptor` are understood too.
    fn from_str(word: &str) -> std::result::Result<Self, String> {
        match word {
            "uac" => Ok(Self::UacTar),
            "velociraptor" => Ok(Self::VelociraptorZip),
            word => Self::ALL.into_iter().find(|format| format.word() == word).ok_or_else(|| {
                "it is one of auto, e01, raw, split-raw, lime, avml, uac, velociraptor and kape".to_owned()
            }),
        }
    }
}

/// What a check of an image found.
#[derive(Default)]
struct Checked {
    /// For the manifest's `foreign`.
    facts: Map<String, Value>,
    issues: Issues,
    /// Hashes of what was imaged, where that is not what the files hold.
    image: Option<Values>,
}

/// Files of another tool, open and ready to be acquired.
#[derive(Debug)]
pub struct Import {
    format: Format,
    what: What,
    /// Known after the run.
    after: Map<String, Value>,
}

#[derive(Debug)]
enum What {
    Files { parts: Arc<Parts>, stated: Vec<Stated>, sidecars: Vec<Sidecar> },
    Folder(PathBuf),
}

impl Import {
    /// Opens files, and finds out what they are unless that is said. Of a set that is cut into parts, one is enough.
    ///
    /// # Errors
    ///
    /// [`Error::OpenSource`]; [`Error::NotImportable`] for a part that is missing, named, and for what is not of the format.
    pub fn open(given: &[PathBuf], format: Option<Format>) -> Result<Self> {
        let Some(first) = given.first() else {
            return Err(Error::NotASource { path: PathBuf::new(), reason: "no file is given" });
        };
        let metadata = std::fs::metadata(first);
        let metadata = metadata.map_err(|source| Error::OpenSource { path: first.clone(), source })?;
        if metadata.is_dir() {
            return Self::folder(given, first, format);
        }
        let format = match format {
            Some(format) => format,
            None => detect(given)?,
        };
        let paths = match format {
            Format::E01 => parts::e01_set(given)?,
            Format::Raw | Format::SplitRaw if given.len() > 1 || format == Format::SplitRaw => {
                parts::raw_set(given)?
            }
            Format::Kape => {
                return Err(refused(first, "a collection of KAPE is a folder, and this is a file"));
            }
            _ => match given {
                [_] => given.to_vec(),
                [_, second, ..] => return Err(refused(second, format!("a {format} image is one file"))),
                [] => Vec::new(),
            },
        };
        if paths.len() > MOST_PARTS {
            return Err(refused(first, format!("it has more than {MOST_PARTS} parts")));
        }
        let parts = Parts::open(&paths)?;
        let (stated, sidecars) = sidecar::find(&parts);
        Ok(Self { format, what: What::Files { parts: Arc::new(parts), stated, sidecars }, after: Map::new() })
    }

    fn folder(given: &[PathBuf], first: &Path, format: Option<Format>) -> Result<Self> {
        if given.len() > 1 {
            return Err(refused(first, "one folder is imported at a time"));
        }
        if format.is_some_and(|format| format != Format::Kape) {
            return Err(refused(first, "it is a folder, and only a collection of KAPE is one"));
        }
        let path =
            first.canonicalize().map_err(|source| Error::OpenSource { path: first.to_owned(), source })?;
        if format.is_none() && kape::copy_logs(&path).is_empty() {
            return Err(refused(
                first,
                "it has no *_CopyLog.csv of KAPE: say --format kape if it is one, or take it by `acquire logs`",
            ));
        }
        Ok(Self { format: Format::Kape, what: What::Folder(path), after: Map::new() })
    }

    /// What kind of image it was said or found to be.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Names of the files, escaped, in their order.
    #[must_use]
    pub fn part_names(&self) -> Vec<&str> {
        match &self.what {
            What::Files { parts, .. } => parts.list().iter().map(|part| part.name.as_str()).collect(),
            What::Folder(_) => Vec::new(),
        }
    }
}

/// What the files are, by their first bytes, and by their names where those say nothing.
fn detect(given: &[PathBuf]) -> Result<Format> {
    let Some(path) = given.first() else { return Ok(Format::Raw) };
    let part = Part::open(path)?;
    let mut magic = [0; 8];
    // A shorter file has none.
    let _ = part.read_exact_at(0, &mut magic);
    let newer = "it is an Ex01 of EnCase 7, which is not read: --format raw stores it as it is";
    Ok(match &magic {
        magic if *magic == crate::ewf::SIGNATURE => Format::E01,
        [b'L', b'V', b'F', 9, ..] => {
            return Err(refused(
                path,
                "it is an L01 of files, which is not read: --format raw stores it as it is",
            ));
        }
        [b'E', b'V', b'F', b'2', ..] => return Err(refused(path, newer)),
        magic if magic == memory_image::LIME => Format::Lime,
        magic if magic == memory_image::AVML => Format::Avml,
        [b'P', b'K', 3, 4, ..] if archive::is_velociraptor(&part) => Format::VelociraptorZip,
        _ if archive::is_uac(&part) => Format::UacTar,
        _ if given.len() > 1 => Format::SplitRaw,
        _ if parts::digits(path).is_some() && parts::raw_set(given)?.len() > 1 => Format::SplitRaw,
        _ => Format::Raw,
    })
}

impl Capture for Import {
    fn facts(&self) -> SourceFacts {
        let (path, size, form) = match &self.what {
            What::Files { parts, .. } => {
                (parts.list().first().map(|part| part.path.as_path()), Some(parts.size()), "file")
            }
            What::Folder(path) => (Some(path.as_path()), None, "folder"),
        };
        SourceFacts {
            kind: "import".to_owned(),
            path: path.map(|path| escape_text(path.as_os_str().as_bytes())),
            size,
            more: Map::from_iter([("form".to_owned(), form.into())]),
            ..SourceFacts::default()
        }
    }

    fn options(&self) -> Map<String, Value> {
        let mut options = Map::from_iter([("format".to_owned(), Value::from(self.format.word()))]);
        if let What::Files { parts, .. } = &self.what {
            let parts: Value =
                parts.list().iter().map(|part| json!({"name": part.name, "size": part.size})).collect();
            // A longer list stands in the source's facts alone.
            if parts.to_string().len() <= MOST_LISTED {
                options.insert("parts".to_owned(), parts);
            }
        }
        options
    }

    fn size(&self) -> Option<u64> {
        match &self.what {
            What::Files { parts, .. } => Some(parts.size()),
            What::Folder(_) => None,
        }
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        self.after = match &self.what {
            What::Files { parts, stated, sidecars } => files(self.format, parts, stated, sidecars, streams)?,
            What::Folder(path) => folder(path, streams)?,
        };
        Ok(())
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.after.clone()
    }
}

fn folder(path: &Path, streams: &mut Streams<'_>) -> Result<Map<String, Value>> {
    streams.tar("files", "files", |packer| packer.tree(path))?;
    let foreign = kape::check(path, streams.issues());
    streams.log(&entry(Format::Kape, &foreign))?;
    Ok(Map::from_iter([("foreign".to_owned(), Value::Object(foreign))]))
}

/// Stores the files, checks them meanwhile, and gives what is known then.
fn files(
    format: Format,
    parts: &Parts,
    stated: &[Stated],
    sidecars: &[Sidecar],
    streams: &mut Streams<'_>,
) -> Result<Map<String, Value>> {
    let (checked, hashed) = std::thread::scope(|scope| {
        let image: Vec<Algorithm> =
            stated.iter().filter(|stated| stated.of == Of::Image).map(|stated| stated.algorithm).collect();
        let work = move || match format {
            Format::E01 => ewf::check(parts, &image),
            Format::Lime | Format::Avml => memory_image::check(parts),
            Format::UacTar => archive::check_uac(parts),
            Format::VelociraptorZip => archive::check_velociraptor(parts),
            Format::Raw | Format::SplitRaw | Format::Kape => Checked::default(),
        };
        let checking = std::thread::Builder::new()
            .name("check".to_owned())
            .spawn_scoped(scope, work)
            .map_err(Error::Thread)?;
        let mut source = Reading::new(parts, stated, format);
        streams.source("original", "import", &mut source)?;
        let checked = checking.join().map_err(|_| Error::Stopped)?;
        Ok::<_, Error>((checked, source.finish()))
    })?;
    let Checked { facts: mut foreign, issues, image } = checked;
    for part in parts.list().iter().filter(|part| part.has_changed()) {
        let what =
            "it was written to while it was read: what was checked may not be what was stored".to_owned();
        streams.issues().add(Issue { path: part.name.clone(), offset: None, length: None, what });
    }
    issues.give_to(streams.issues());
    // An E01 states hashes of its media; other files state those of themselves.
    let image = image.or(if format == Format::E01 { None } else { hashed.whole.clone() });
    let compared = compare(stated, image.as_ref(), &hashed.parts, parts, streams.issues());
    if !stated.is_empty() {
        let own = foreign.get("check").and_then(Value::as_str);
        let verdict = match (own, compared.differs, compared.matches) {
            (Some("differs"), ..) | (_, true, _) => Some("differs"),
            (None | Some("none stored"), false, true) => Some("matches"),
            _ => None,
        };
        if let Some(verdict) = verdict {
            foreign.insert("check".to_owned(), verdict.into());
        }
        foreign.insert("stated".to_owned(), compared.listed.into());
        let sidecars =
            sidecars.iter().map(|file| json!({"name": file.name, "size": file.size, "sha256": file.sha256}));
        foreign.insert("sidecars".to_owned(), sidecars.collect());
    }
    foreign.entry("check".to_owned()).or_insert("none stored".into());
    streams.log(&entry(format, &foreign))?;
    // The SHA-256 of a single part is that of the stream.
    let alone =
        streams.finished().last().filter(|_| parts.list().len() == 1).map(|stream| stream.sha256.to_string());
    let told = parts.list().iter().zip(&hashed.parts).map(|(part, values)| {
        let mut told = Map::new();
        told.insert("name".to_owned(), part.name.as_str().into());
        told.insert("size".to_owned(), part.size.into());
        if let Some(sha256) = alone.as_ref().or(values.sha256.as_ref()) {
            told.insert("sha256".to_owned(), sha256.as_str().into());
        }
        Value::Object(told)
    });
    Ok(Map::from_iter([("parts".to_owned(), told.collect()), ("foreign".to_owned(), Value::Object(foreign))]))
}

/// The entry of the log that tells what the check found.
fn entry(format: Format, foreign: &Map<String, Value>) -> NewEntry {
    let mut entry = NewEntry::new(EntryType::VERIFY_RESULT)
        .how("command", "acquire import")
        .how("checked", "the foreign file's own hashes")
        .how("format", format.word());
    for key in [
        "check",
        "stored",
        "computed",
        "members_right",
        "files_right",
        "files_differ",
        "files_missing",
        "is_whole",
    ] {
        if let Some(value) = foreign.get(key) {
            entry = entry.result(key, value.clone());
        }
    }
    if let Some(stated) = foreign.get("stated").and_then(Value::as_array) {
        entry = entry.result("stated", stated.iter().take(NAMED_STATEMENTS).cloned().collect::<Vec<_>>());
    }
    entry
}

struct Compared {
    listed: Vec<Value>,
    matches: bool,
    differs: bool,
}

/// Compares what notes beside the files state with what was computed.
fn compare(
    stated: &[Stated],
    image: Option<&Values>,
    parts: &[Values],
    set: &Parts,
    issues: &mut Issues,
) -> Compared {
    let mut compared = Compared { listed: Vec::new(), matches: false, differs: false };
    for one in stated {
        let (of, found) = match one.of {
            Of::Image => ("image".to_owned(), image.and_then(|image| image.of(one.algorithm))),
            Of::Part(at) => (
                set.list().get(at).map(|part| part.name.clone()).unwrap_or_default(),
                parts.get(at).and_then(|part| part.of(one.algorithm)),
            ),
        };
        let verdict = match found {
            Some(found) if found == one.value => {
                compared.matches = true;
                "matches"
            }
            Some(found) => {
                compared.differs = true;
                let word = one.algorithm.word();
                let what = format!("it says that {of} has the {word} {}, but that is {found}", one.value);
                issues.add(Issue { path: one.by.clone(), offset: None, length: None, what });
                "differs"
            }
            None => "not computed",
        };
        let word = one.algorithm.word();
        compared
            .listed
            .push(json!({"algorithm": word, "by": one.by, "of": of, "value": one.value, "check": verdict}));
    }
    compared
}

fn values_json(values: &Values) -> Value {
    let known =
        Algorithm::ALL.into_iter().filter_map(|one| Some((one.word().to_owned(), values.of(one)?.into())));
    Value::Object(known.collect())
}

/// The files as a source, read in order and hashed as far as somebody asks.
struct Reading<'p> {
    parts: &'p Parts,
    /// Hashes of each part, and of all of them as one; given up where a read failed.
    of_parts: Vec<Hashes>,
    whole: Hashes,
    next: u64,
    is_broken: bool,
}

/// What a reading came to.
struct Hashed {
    parts: Vec<Values>,
    whole: Option<Values>,
}

impl<'p> Reading<'p> {
    fn new(parts: &'p Parts, stated: &[Stated], format: Format) -> Self {
        let is_alone = parts.list().len() == 1;
        let wanted = |of: Of, algorithm| stated.iter().any(|one| one.of == of && one.algorithm == algorithm);
        let of_parts = (0..parts.list().len()).map(|at| {
            Hashes::new(|one| wanted(Of::Part(at), one) || (one == Algorithm::Sha256 && !is_alone))
        });
        let whole = Hashes::new(|one| wanted(Of::Image, one) && format != Format::E01);
        Self { parts, of_parts: of_parts.collect(), whole, next: 0, is_broken: false }
    }

    fn hash(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let list = self.parts.list();
            let at = list.partition_point(|part| part.start + part.size <= self.next);
            let (Some(part), Some(hashes)) = (list.get(at), self.of_parts.get_mut(at)) else { return };
            let room = usize::try_from(part.start + part.size - self.next).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            hashes.update(now);
            self.next += now.len() as u64;
            bytes = rest;
        }
    }

    fn finish(self) -> Hashed {
        let is_whole = !self.is_broken && self.next == self.parts.size();
        let parts = self
            .of_parts
            .into_iter()
            .map(|hashes| if is_whole { hashes.finish() } else { Values::default() });
        Hashed { parts: parts.collect(), whole: is_whole.then(|| self.whole.finish()) }
    }
}

impl Source for Reading<'_> {
    fn facts(&self) -> SourceFacts {
        let path = self.parts.list().first().map(|part| part.name.clone());
        SourceFacts {
            kind: "import".to_owned(),
            path,
            size: Some(self.parts.size()),
            ..SourceFacts::default()
        }
    }

    fn size(&self) -> Option<u64> {
        Some(self.parts.size())
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.parts.read_at(offset, buf);
        match &read {
            Ok(read) if offset == self.next => {
                let read = *read;
                self.hash(buf.get(..read).unwrap_or_default());
            }
            Ok(0) => {}
            // Read again, or out of order: no hash of what is not stored as it was read.
            _ => self.is_broken = true,
        }
        read
    }
}
