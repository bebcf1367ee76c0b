//! Everything in a bundle that may hold events: its volumes, file systems and files, each with its locator.

mod imported;

use std::collections::HashMap;
use std::sync::Arc;

use custody::bundle::{Bundle, MemberKind, State, StreamReader};

use crate::build::Issue;
use crate::bundle_stream::BundleStream;
use crate::bytes::{ByteSource, Window};
use crate::error::{Error, ReadError};
use crate::event::{Event, Span};
use crate::file_scan::{Account, Accounting, EvidenceFile};
use crate::host_facts::{self, HostRoot, LARGEST_CONFIG};
use crate::images::collection::Layout;
use crate::memory::MemoryImage;
use crate::parser::{Collected, Context};
use crate::parsers::file_times;
use crate::text::{clean, locator_bytes, locator_name};
use crate::volumes::{self, Ext};
use crate::zone::Zone;

/// A bundle, laid open for parsers.
pub struct Evidence {
    /// Files that may be parsed, in the order in which they lie in the stream.
    pub files: Vec<EvidenceFile>,
    /// Where file times come from.
    pub file_times: Vec<FileTimes>,
    /// Images of memory.
    pub memory: Vec<MemoryImage>,
    /// What the evidence says about its host.
    pub context: Context,
    issues: Vec<Issue>,
    opened: Vec<(String, imported::Opened)>,
    by_locator: HashMap<String, usize>,
}

/// A source of file times: a file system, or the headers of a tar stream.
pub enum FileTimes {
    /// The inodes of an ext file system.
    Ext {
        /// `disk/p1/ext4`.
        locator: String,
        /// The file system.
        ext: Arc<Ext>,
        /// The volume it lies in.
        volume: Arc<dyn ByteSource>,
    },
    /// The members' headers of a tar, or the directory entries of a zip.
    Archive {
        /// `files/tar`, `original/gzip/tar`, `original/zip`.
        locator: String,
        /// The archive's bytes.
        archive: Arc<dyn ByteSource>,
        /// Where the headers or entries lie.
        headers: Vec<Span>,
        /// Whether it is a zip.
        is_zip: bool,
        /// How its names tell of the host's paths.
        layout: Layout,
    },
}

impl FileTimes {
    /// The locator of its rows.
    pub fn locator(&self) -> &str {
        match self {
            FileTimes::Ext { locator, .. } | FileTimes::Archive { locator, .. } => locator,
        }
    }

    /// The bytes that its rows' ranges are in.
    pub fn source(&self) -> &Arc<dyn ByteSource> {
        match self {
            FileTimes::Ext { volume, .. } => volume,
            FileTimes::Archive { archive, .. } => archive,
        }
    }

    /// Gives all file times; the account comes back.
    pub fn read(&self, rows: &mut dyn FnMut(Event)) -> Account {
        let mut restored = |mut event: Event| {
            self.restore_path(&mut event);
            rows(event);
        };
        let mut out = Accounting::new(&mut restored);
        let result = match self {
            FileTimes::Ext { ext, .. } => file_times::scan(ext, &mut out),
            FileTimes::Archive { archive, headers, is_zip, .. } => headers.iter().try_for_each(|span| {
                let length = usize::try_from(span.length).unwrap_or(0);
                let header = crate::bytes::read_vec(&**archive, span.offset, length)?;
                match is_zip {
                    true => file_times::rows_of_zip_entry(&header, *span, &mut out),
                    false => file_times::rows_of_tar_header(&header, *span, &mut out),
                }
                Ok(())
            }),
        };
        let mut account = out.into_account();
        // The rest of a file system is not this parser's to account for: its records are the whole of it.
        account.bytes = account.bytes_used;
        account.stopped = result.err().map(|error: ReadError| error.to_string());
        account
    }

    /// The rows of one record again, from its bytes and pieces alone.
    pub fn of_record(&self, bytes: &[u8], span: Span, pieces: &[(u64, Vec<u8>)]) -> Vec<Event> {
        let mut out = Collected::default();
        match self {
            FileTimes::Ext { .. } => file_times::rows_of_record(bytes, span, pieces, &mut out),
            FileTimes::Archive { is_zip: true, .. } => file_times::rows_of_zip_entry(bytes, span, &mut out),
            FileTimes::Archive { .. } => file_times::rows_of_tar_header(bytes, span, &mut out),
        }
        out.events.iter_mut().for_each(|event| self.restore_path(event));
        out.events
    }

    /// Names the file as its host did, where the archive names it otherwise.
    fn restore_path(&self, event: &mut Event) {
        let FileTimes::Archive { layout, .. } = self else { return };
        if *layout != Layout::AsOnTheHost
            && let Some(path) = event.path.as_ref().and_then(|path| layout.host_path(path.as_bytes()))
        {
            event.path = Some(clean(&path));
        }
    }
}

impl Evidence {
    /// Opens every stream, volume and file system of a bundle. `timezone` is what the person said.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] when the bundle cannot be read at all. A damaged volume is in [`Evidence::all_issues`].
    pub fn open(bundle: &Bundle, timezone: Option<&Zone>) -> Result<Evidence, Error> {
        let mut opening = Opening::default();
        for reader in bundle.streams()? {
            let source: Arc<dyn ByteSource> = Arc::new(BundleStream::new(reader.clone()));
            match reader.stream().kind.as_str() {
                "disk" => opening.disk(reader.name(), source)?,
                "files" | "commands" | "objects" => opening.tar(&reader, source)?,
                "import" => {
                    let imported = imported::Imported::of(&bundle.manifest().options);
                    opening.imported(reader.name(), &imported, source)?;
                }
                "memory" => match MemoryImage::open(reader.name(), source, &missing(&reader)) {
                    Ok(image) => opening.memory.push(image),
                    Err(error) => opening.issues.push(Issue::new(reader.name(), error)),
                },
                other => {
                    let reason = format!("streams of kind {other:?} are not read by this version");
                    opening.issues.push(Issue::new(reader.name(), reason));
                }
            }
        }
        for memory in &mut opening.memory {
            let files = opening.files.iter();
            memory.take_symbols(files.map(|f| (f.locator.as_str(), f.path.as_str(), f.source.clone())));
        }
        let mut context = match &opening.root {
            Some(root) => host_facts::read(root.as_ref(), timezone),
            None => host_facts::read(&NoRoot, timezone),
        };
        if context.host.is_none() {
            context.host = opening.memory.iter().find_map(MemoryImage::host);
        }
        let Opening { mut files, file_times, memory, issues, opened, .. } = opening;
        files.sort_by(|a, b| (a.order, &a.locator).cmp(&(b.order, &b.locator)));
        let by_locator = files.iter().enumerate().map(|(at, file)| (file.locator.clone(), at)).collect();
        Ok(Evidence { files, file_times, memory, context, issues, opened, by_locator })
    }

    /// All issues, those that came up while files were read among them.
    pub fn all_issues(&self) -> Vec<Issue> {
        let mut issues = self.issues.clone();
        for (locator, opened) in &self.opened {
            issues.extend(opened.issues().into_iter().map(|issue| Issue::new(locator, issue)));
        }
        for times in &self.file_times {
            if let FileTimes::Ext { locator, ext, .. } = times {
                issues.extend(ext.issues().iter().map(|issue| Issue::new(locator, issue)));
            }
        }
        for memory in &self.memory {
            issues.extend(memory.issues().into_iter().map(|issue| Issue::new(memory.locator(), issue)));
        }
        issues
    }

    /// The file of that locator (without its codec).
    pub fn file(&self, locator: &str) -> Option<&EvidenceFile> {
        self.files.get(*self.by_locator.get(locator)?)
    }
}

#[derive(Default)]
struct Opening {
    files: Vec<EvidenceFile>,
    file_times: Vec<FileTimes>,
    memory: Vec<MemoryImage>,
    issues: Vec<Issue>,
    opened: Vec<(String, imported::Opened)>,
    root: Option<Box<dyn HostRoot>>,
}

impl Opening {
    fn disk(&mut self, stream: &str, disk: Arc<dyn ByteSource>) -> Result<(), Error> {
        let (volumes, issues) = volumes::find(disk)?;
        self.issues.extend(issues.into_iter().map(|issue| Issue::new(stream, issue)));
        for volume in volumes {
            let base = if volume.label.is_empty() {
                stream.to_owned()
            } else {
                format!("{stream}/{}", volume.label)
            };
            match Ext::open(volume.source.clone()) {
                Ok(ext) => {
                    let locator = format!("{base}/{}", ext.kind());
                    if let Err(error) = self.ext(&locator, Arc::new(ext), volume.source) {
                        self.issues.push(Issue::new(&locator, error));
                    }
                }
                Err(error) => {
                    self.issues.push(Issue::new(&base, format!("{} is not read: {error}", volume.what)));
                }
            }
        }
        Ok(())
    }

    fn ext(&mut self, locator: &str, ext: Arc<Ext>, volume: Arc<dyn ByteSource>) -> Result<(), ReadError> {
        for found in ext.files()? {
            let path = locator_name(&found.path);
            self.files.push(EvidenceFile {
                locator: format!("{locator}:{path}"),
                path,
                source: found.source,
                modified: found.modified,
                order: found.first_byte,
                is_deleted: found.deleted,
            });
        }
        if self.root.is_none() && ext.read_path(b"/etc/passwd", 1).is_some() {
            self.root = Some(Box::new(ExtRoot(ext.clone())));
        }
        self.file_times.push(FileTimes::Ext { locator: locator.to_owned(), ext, volume });
        Ok(())
    }

    fn tar(&mut self, reader: &StreamReader, stream: Arc<dyn ByteSource>) -> Result<(), Error> {
        let locator = format!("{}/tar", reader.name());
        let mut headers = Vec::new();
        let mut members = HashMap::new();
        let Some(catalog) = reader.catalog() else {
            self.issues.push(Issue::new(&locator, "the stream has no catalogue, so its files are not read"));
            return Ok(());
        };
        for entry in catalog {
            let entry = entry?;
            // What a triage made itself (a command's output, a table) has no inode, and its time is of no file.
            if entry.inode.is_some() {
                headers.push(Span::new(entry.header, entry.header_size));
            }
            let name = locator_bytes(&entry.path);
            match (entry.kind, &entry.link) {
                (MemberKind::File, _) => {
                    let path = locator_name(&name);
                    let source: Arc<dyn ByteSource> =
                        Arc::new(Window::new(stream.clone(), entry.offset, entry.size));
                    members.insert(name, Member::File(source.clone()));
                    self.files.push(EvidenceFile {
                        locator: format!("{locator}:{path}"),
                        path,
                        source,
                        modified: entry.mtime.as_deref().and_then(seconds_of),
                        order: entry.offset,
                        is_deleted: false,
                    });
                }
                (MemberKind::Symlink, Some(target)) => {
                    members.insert(name, Member::Link(locator_bytes(target)));
                }
                _ => {}
            }
        }
        if self.root.is_none() {
            self.root = TarRoot::find(members).map(|root| Box::new(root) as Box<dyn HostRoot>);
        }
        self.file_times.push(FileTimes::Archive {
            locator,
            archive: stream,
            headers,
            is_zip: false,
            layout: Layout::AsOnTheHost,
        });
        Ok(())
    }
}

struct NoRoot;

impl HostRoot for NoRoot {
    fn file(&self, _path: &str) -> Option<Vec<u8>> {
        None
    }
    fn link(&self, _path: &str) -> Option<Vec<u8>> {
        None
    }
}

struct ExtRoot(Arc<Ext>);

impl HostRoot for ExtRoot {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.0.read_path(path.as_bytes(), LARGEST_CONFIG)
    }
    fn link(&self, path: &str) -> Option<Vec<u8>> {
        self.0.read_link(path.as_bytes())
    }
}

enum Member {
    File(Arc<dyn ByteSource>),
    Link(Vec<u8>),
}

/// The root of a host in a tar: whatever stands before `/etc/hostname`, `/etc/passwd` or `/etc/localtime`.
struct TarRoot {
    root: Vec<u8>,
    members: HashMap<Vec<u8>, Member>,
}

impl TarRoot {
    fn find(members: HashMap<Vec<u8>, Member>) -> Option<TarRoot> {
        let marks = [&b"/etc/hostname"[..], b"/etc/passwd", b"/etc/localtime", b"/etc/timezone"];
        let root = members
            .keys()
            .filter_map(|path| marks.iter().find_map(|mark| path.strip_suffix(*mark)))
            .min_by_key(|root| (root.len(), root.to_vec()))?
            .to_vec();
        Some(TarRoot { root, members })
    }

    fn member(&self, path: &str) -> Option<&Member> {
        self.members.get([self.root.as_slice(), path.as_bytes()].concat().as_slice())
    }
}

impl HostRoot for TarRoot {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        match self.member(path)? {
            Member::File(source) => crate::bytes::read_vec(&**source, 0, LARGEST_CONFIG).ok(),
            Member::Link(_) => None,
        }
    }
    fn link(&self, path: &str) -> Option<Vec<u8>> {
        match self.member(path)? {
            Member::Link(target) => Some(target.clone()),
            Member::File(_) => None,
        }
    }
}

/// The ranges of a stream that hold nothing of the source.
fn missing(reader: &StreamReader) -> Vec<Span> {
    let extents = reader.extents().iter();
    let missing = extents.filter(|extent| !matches!(extent.state, State::Data | State::Zero));
    missing.map(|extent| Span::new(extent.start, extent.length)).collect()
}

fn seconds_of(time: &str) -> Option<i64> {
    Some(chrono::DateTime::parse_from_rfc3339(time).ok()?.timestamp())
}
