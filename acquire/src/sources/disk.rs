//! Block devices, image files and standard input.
//!
//! - Opened with `O_RDONLY | O_CLOEXEC`, and `O_NOATIME` where the system allows it; never otherwise.
//! - Size: what the end of the device or file is when it is opened.
//! - Model, serial number, sector sizes: sysfs, where it is there.
//! - Bad sectors of a block device are read again with `O_DIRECT`: the page cache reads 4 KiB at a time and would give
//!   up seven good sectors with each bad one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use rustix::fs::{Advice, CWD, Mode, OFlags, fadvise, openat};
use serde_json::{Map, Value};

use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::source::Source;

/// `O_DIRECT` wants memory and offsets aligned to this at most.
const ALIGNMENT: usize = 4096;

/// A block device or an image file.
#[derive(Debug)]
pub struct DiskSource {
    path: PathBuf,
    file: File,
    direct: Option<File>,
    size: u64,
    facts: SourceFacts,
    sector_size: u32,
}

/// A disk, an image or a stream of bytes, acquired as the stream `disk`.
pub struct DiskCapture {
    source: Box<dyn Source>,
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
        Self { source }
    }
}

impl Capture for DiskCapture {
    fn facts(&self) -> SourceFacts {
        self.source.facts()
    }

    fn size(&self) -> Option<u64> {
        self.source.size()
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        streams.source("disk", "disk", &mut *self.source)
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

/// Opens a source by its path; `-` is standard input.
///
/// # Errors
///
/// [`Error::OpenSource`], or [`Error::NotASource`] for folders, sockets and character devices.
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
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
        let form = if is_device { "block device" } else { "file" };
        facts.more.insert("form".to_owned(), form.into());
        if is_device {
            sector_size = rustix::fs::ioctl_blksszget(&file).unwrap_or(512).clamp(1, 1 << 16);
            facts.sector_size = Some(sector_size);
            device_facts(metadata.rdev(), &mut facts);
        } else if let Some(mtime) =
            custody::bundle::file_time(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0))
        {
            facts.more.insert("mtime".to_owned(), mtime.into());
        }
        // Advice only; a file system that takes none is read all the same.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self { path: path.to_owned(), file, direct: None, size, facts, sector_size })
    }

    fn direct(&mut self) -> Option<&File> {
        if self.direct.is_none() && self.facts.sector_size.is_some() {
            self.direct = open_read_only(CWD, &self.path, OFlags::DIRECT).ok();
        }
        self.direct.as_ref()
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
}

/// What sysfs tells of a block device.
fn device_facts(rdev: u64, facts: &mut SourceFacts) {
    let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let text = |path: &str| {
        let text = fs::read(device.join(path)).ok()?;
        let text = escape_text(text.trim_ascii());
        (!text.is_empty()).then_some(text)
    };
    // A partition's folder lies in that of its disk.
    let either = |path: &str| text(path).or_else(|| text(&format!("../{path}")));
    facts.model = either("device/model");
    facts.serial = either("device/serial").or_else(|| either("serial"));
    let mut more = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.more.insert(name.to_owned(), value.into());
        }
    };
    more("wwid", either("wwid").or_else(|| either("device/wwid")));
    more("firmware", either("device/firmware_rev").or_else(|| either("device/rev")));
    more("partition", text("partition"));
    more("start_sector", text("start"));
    more("physical_sector_size", either("queue/physical_block_size"));
    more("read_only", text("ro"));
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
