//! Block devices, image files and standard input.
//!
//! - Opened with `O_RDONLY | O_CLOEXEC`, and `O_NOATIME` where the system allows it; never otherwise.
//! - Size: what the end of the device or file is when it is opened.
//! - Facts of a device: sysfs, and the device itself (`hidden_areas`).
//! - Bad sectors are read again with `O_DIRECT`, where the device or file system takes it: the page cache reads 4 KiB at
//!   a time and would give up seven good sectors with each bad one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::sha256;
use custody::strict_json::escape_text;
use rustix::fs::{Advice, CWD, Mode, OFlags, fadvise, openat};
use serde_json::{Map, Value};

use super::device::{BlockDevice, System};
use super::hidden_areas::{self, HiddenAreas};
use super::holes::Holes;
use super::paced::{Paced, Rate};
use super::split_image::{self, SplitImage};
use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::reading::Patience;
use crate::source::{Issue, Issues, Source};

/// `O_DIRECT` wants memory and offsets aligned to this at most.
pub(super) const ALIGNMENT: usize = 4096;

/// Sectors at the start and at the end that hold partition tables: the MBR, and GPT with its 128 entries.
const TABLE_SECTORS: (u64, u64) = (34, 33);

/// A block device or an image file.
#[derive(Debug)]
pub struct DiskSource {
    path: PathBuf,
    file: File,
    /// Opened once it is needed; not at all if it was refused.
    direct: Option<Option<File>>,
    holes: Holes,
    size: u64,
    facts: SourceFacts,
    facts_after: Map<String, Value>,
    sector_size: u32,
    device: Option<BlockDevice>,
    hidden_bytes: u64,
}

/// A disk, an image or a stream of bytes, acquired as the stream `disk`.
pub struct DiskCapture {
    source: Box<dyn Source>,
    patience: Patience,
    rate: Rate,
}

impl std::fmt::Debug for DiskCapture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskCapture").finish_non_exhaustive()
    }
}

impl DiskCapture {
    /// Plans to acquire a source from its start to its end.
    #[must_use]
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, patience: Patience::default(), rate: Rate::of(0) }
    }

    /// Bounds the time that bad areas may take.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Reads no faster than this, which can be changed while it runs.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }
}

impl Capture for DiskCapture {
    fn facts(&self) -> SourceFacts {
        self.source.facts()
    }

    fn size(&self) -> Option<u64> {
        self.source.size()
    }

    fn options(&self) -> Map<String, Value> {
        let mut options = Map::new();
        options.insert("bad_areas_s".to_owned(), self.patience.bad_areas.as_secs().into());
        if self.rate.get() > 0 {
            options.insert("max_read".to_owned(), self.rate.get().into());
        }
        options
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let mut source = Paced::new(&mut *self.source, self.rate.clone(), self.patience, streams.clock());
        streams.source("disk", "disk", &mut source)
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.source.facts_after()
    }
}

/// Opens a file for reading and nothing else, without touching its access time where that is allowed.
pub(crate) fn open_read_only(
    directory: impl std::os::fd::AsFd,
    path: &Path,
    more: OFlags,
) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | more;
    match openat(&directory, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner and root may leave the access time alone.
        Err(rustix::io::Errno::PERM) => Ok(File::from(openat(&directory, path, flags, Mode::empty())?)),
        opened => Ok(File::from(opened?)),
    }
}

/// Opens a source by its path; `-` is standard input, and one part of a split image stands for all of them.
///
/// # Errors
///
/// [`Error::OpenSource`], [`Error::NotASource`] for folders, sockets and character devices, [`Error::MissingPart`].
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    match if is_file { split_image::parts_of(path)? } else { None } {
        Some(parts) => Ok(Box::new(SplitImage::open(path, parts)?)),
        None => open_alone(path),
    }
}

/// Opens a source by its path as [`open`] does, but a file alone, whatever others of like names lie beside it.
///
/// # Errors
///
/// [`Error::OpenSource`], [`Error::NotASource`].
pub fn open_alone(path: &Path) -> Result<Box<dyn Source>> {
    if path == Path::new("-") {
        return Ok(Box::new(StreamSource::new("-", io::stdin())));
    }
    let failed = |source| Error::OpenSource { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    let refused = |reason| Err(Error::NotASource { path: path.to_owned(), reason });
    if kind.is_dir() {
        return refused("it is a folder; `acquire logs` takes folders");
    }
    if kind.is_socket() || kind.is_char_device() {
        return refused("it is neither a block device, nor a file, nor a pipe");
    }
    if kind.is_fifo() {
        let file = open_read_only(CWD, path, OFlags::empty()).map_err(failed)?;
        return Ok(Box::new(StreamSource::new(&escape_text(path.as_os_str().as_bytes()), file)));
    }
    Ok(Box::new(DiskSource::open(path)?))
}

impl DiskSource {
    /// Opens a block device or an image file.
    ///
    /// # Errors
    ///
    /// [`Error::OpenSource`].
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::OpenSource { path: path.to_owned(), source };
        let mut file = open_read_only(CWD, path, OFlags::empty()).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let is_device = metadata.file_type().is_block_device();
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut facts = SourceFacts {
            kind: "disk".to_owned(),
            path: Some(escape_text(path.as_os_str().as_bytes())),
            size: Some(size),
            ..SourceFacts::default()
        };
        let mut sector_size = 512;
        let mut device = None;
        let mut hidden_bytes = 0;
        let form = if is_device { "block device" } else { "file" };
        facts.more.insert("form".to_owned(), form.into());
        if is_device {
            sector_size = rustix::fs::ioctl_blksszget(&file).unwrap_or(512).clamp(1, 1 << 16);
            facts.sector_size = Some(sector_size);
            let number = metadata.rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            facts.more.insert("device_number".to_owned(), format!("{major}:{minor}").into());
            device = BlockDevice::find(System::default(), major, minor);
            if let Some(device) = device.as_ref() {
                device.facts(&mut facts);
            }
            table_hashes(&file, size, sector_size, &mut facts);
            let hidden = hidden_areas(&mut file, device.as_ref(), size, sector_size);
            hidden_bytes = hidden.bytes;
            facts.more.insert("hidden_areas".to_owned(), hidden.told.into());
        } else if let Some(mtime) =
            custody::bundle::file_time(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0))
        {
            facts.more.insert("mtime".to_owned(), mtime.into());
        }
        // Advice only; a file system that takes none is read all the same.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let (facts_after, holes) = (Map::new(), Holes::of(&file));
        Ok(Self {
            path: path.to_owned(),
            holes,
            file,
            direct: None,
            size,
            facts,
            facts_after,
            sector_size,
            device,
            hidden_bytes,
        })
    }

    fn direct(&mut self) -> Option<&File> {
        let path = &self.path;
        self.direct.get_or_insert_with(|| open_read_only(CWD, path, OFlags::DIRECT).ok()).as_ref()
    }

    fn path(&self) -> String {
        self.facts.path.clone().unwrap_or_default()
    }
}

impl Source for DiskSource {
    fn facts(&self) -> SourceFacts {
        self.facts.clone()
    }

    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let hole = self.holes.length_at(&self.file, offset);
        if hole > 0 {
            self.direct();
            let most = buf.len().min(usize::try_from(hole).unwrap_or(usize::MAX));
            if let (Some(Some(direct)), Some(buf)) = (&self.direct, buf.get_mut(..most))
                && let Some(read) = self.holes.read(direct, offset, buf)
            {
                return read;
            }
        }
        self.file.read_at(buf, offset)
    }

    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let length = buf.len();
        let Some(direct) = self.direct() else { return self.file.read_at(buf, offset) };
        let mut room = vec![0u8; length.saturating_add(ALIGNMENT)];
        let skip = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let aligned = room.get_mut(skip..skip.saturating_add(length)).unwrap_or_default();
        match direct.read_at(aligned, offset) {
            Ok(read) => {
                if let (Some(to), Some(from)) = (buf.get_mut(..read), aligned.get(..read)) {
                    to.copy_from_slice(from);
                }
                Ok(read)
            }
            // A length that the device does not take, as at an odd end.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.file.read_at(buf, offset),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self, issues: &mut Issues) {
        let path = self.path();
        if let Some(device) = self.device.as_mut() {
            device.begin();
            device.warn(&path, issues);
        }
        if self.hidden_bytes > 0 {
            issues.add(Issue {
                path,
                offset: Some(self.size),
                length: Some(self.hidden_bytes),
                what: format!("the device hides {} bytes, which were not acquired", self.hidden_bytes),
            });
        }
    }

    fn end(&mut self, issues: &mut Issues) {
        let path = self.path();
        if let Some(device) = self.device.as_ref() {
            self.facts_after = device.after(&path, issues);
        }
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.facts_after.clone()
    }
}

/// The hashes of the sectors that hold partition tables, so that a later reader can check them by themselves.
fn table_hashes(file: &File, size: u64, sector_size: u32, facts: &mut SourceFacts) {
    let sector = u64::from(sector_size);
    let (first, last) = (TABLE_SECTORS.0.saturating_mul(sector), TABLE_SECTORS.1.saturating_mul(sector));
    for (name, offset, length) in
        [("first_34_sectors", 0, first), ("last_33_sectors", size.saturating_sub(last), last)]
    {
        if length > size {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let told = match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => format!("sha256:{}", sha256(&bytes)),
            Err(error) => format!("unreadable: {error}"),
        };
        facts.more.insert(name.to_owned(), told.into());
    }
}

/// Asks the device for what lies behind its last sector, if it is of a kind that can say.
fn hidden_areas(file: &mut File, device: Option<&BlockDevice>, size: u64, sector_size: u32) -> HiddenAreas {
    let Some(device) = device else { return HiddenAreas::not_asked("the system does not know the device") };
    if device.is_partition() {
        return HiddenAreas::not_asked("this is a partition; acquire the whole disk");
    }
    match device.transport() {
        _ if device.is_ata() => hidden_areas::of_ata(file, size / u64::from(sector_size.max(1)), sector_size),
        "nvme" => hidden_areas::of_nvme(file, size),
        "usb" => HiddenAreas::not_asked("USB bridges may hang on such questions; connect the disk to SATA"),
        other => HiddenAreas::not_asked(&format!("not a SATA or NVMe disk ({other})")),
    }
}

/// A source that gives each byte once: standard input or a pipe.
pub struct StreamSource {
    name: String,
    input: Box<dyn Read + Send>,
}

impl std::fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSource").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StreamSource {
    /// Takes the bytes of `input`, under a name for the manifest.
    pub fn new(name: &str, input: impl Read + Send + 'static) -> Self {
        Self { name: name.to_owned(), input: Box::new(input) }
    }
}

impl Source for StreamSource {
    fn facts(&self) -> SourceFacts {
        let more = Map::from_iter([("form".to_owned(), Value::from("stream"))]);
        SourceFacts { kind: "disk".to_owned(), path: Some(self.name.clone()), more, ..SourceFacts::default() }
    }

    fn size(&self) -> Option<u64> {
        None
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn read_at(&mut self, _offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.input.read(buf)
    }

    fn is_seekable(&self) -> bool {
        false
    }
}
