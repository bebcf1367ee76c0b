//! What the tests of acquisition share: a writer, sources that fail on purpose, a small system of files.

use std::fs::{self, File};
use std::io::{self};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use acquire::sources::disk::{self, DiskCapture};
use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Destination, OpenAcquisition, PipelineOptions, Report, Source};
use custody::bundle::{self, Bundle, CatalogEntry, Cut, SMALLEST_CHUNK};
use custody::{Actor, FixedClock, Identity, SigningKey, Tool, Writer, sha256};

pub(crate) const CHUNK: usize = SMALLEST_CHUNK as usize;
pub(crate) const SEGMENT: usize = 4 * CHUNK;

pub(crate) fn options() -> PipelineOptions {
    let mut options = PipelineOptions::default();
    options.cut = Cut { chunk_size: SMALLEST_CHUNK, segment_size: SEGMENT as u64 };
    options.mark_every = 2 * CHUNK as u64;
    options
}

pub(crate) fn identity() -> Identity {
    Identity {
        actor: Actor { name: "J. Doe".into(), ..Actor::default() },
        tool: Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: None },
        case: Some("ir-2026-017".into()),
        ..Identity::default()
    }
}

/// Runs `act` with a writer whose key and clock are fixed.
pub(crate) fn with_writer<T>(act: impl FnOnce(&Writer<'_>) -> T) -> T {
    let key = SigningKey::from_seed(&[7; 32]);
    let clock = FixedClock::stepping(1_795_224_600_000_000_000, 1_000_000);
    act(&Writer::new(&key, &clock, identity()))
}

pub(crate) fn destination(folder: &Path) -> Destination {
    fs::create_dir_all(folder).unwrap();
    Destination {
        folder: folder.to_owned(),
        exhibit: "E001".into(),
        name: "web01-disk".into(),
        case: Some("ir-2026-017".into()),
    }
}

pub(crate) fn acquire_disk(source: Box<dyn Source>, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| {
        Acquisition::new(DiskCapture::new(source), destination(folder)).options(options()).run(writer)
    })
}

pub(crate) fn acquire_files(paths: &[PathBuf], folder: &Path) -> acquire::Result<Report> {
    let source = FilesSource::new(paths)?;
    with_writer(|writer| Acquisition::new(source, destination(folder)).options(options()).run(writer))
}

/// Every sector tells its own number, some chunks are zeros and some are noise: any shift shows.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut data = vec![0; length];
    for (number, sector) in data.chunks_mut(512).enumerate() {
        match (number * 512 / CHUNK) % 4 {
            1 => {}
            2 => sector.fill_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            }),
            _ => {
                let text = format!("sector {number:>10} ").into_bytes();
                for (to, from) in sector.iter_mut().zip(text.iter().cycle()) {
                    *to = *from;
                }
            }
        }
    }
    data
}

pub(crate) fn has_tool(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped in part: {tool} is not installed");
    }
    found
}

/// The stream as a stranger gets it: `zstd -dc data/NAME/*.zst`.
pub(crate) fn by_zstd(folder: &Path, stream: &str) -> Vec<u8> {
    let mut segments: Vec<_> = fs::read_dir(folder.join("data").join(stream))
        .map_or(vec![], |found| found.map(|f| f.unwrap().path()).collect());
    segments.sort();
    if segments.is_empty() {
        return Vec::new();
    }
    let output = Command::new("zstd").arg("-dcq").args(segments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) fn read_all(bundle: &Bundle, stream: &str) -> Vec<u8> {
    let reader = bundle.stream(stream).unwrap();
    let mut data = vec![0xAA; usize::try_from(reader.len()).unwrap()];
    reader.read_exact_at(0, &mut data).unwrap();
    data
}

/// A disk in memory, some of whose sectors cannot be read.
pub(crate) struct FaultSource {
    pub(crate) data: Vec<u8>,
    pub(crate) claimed: u64,
    pub(crate) bad: Vec<u64>,
    /// From here on the device has gone.
    pub(crate) gone_at: Option<u64>,
}

impl FaultSource {
    pub(crate) fn new(data: Vec<u8>, bad: &[u64]) -> Self {
        Self { claimed: data.len() as u64, data, bad: bad.to_vec(), gone_at: None }
    }
}

impl Source for FaultSource {
    fn facts(&self) -> bundle::Source {
        bundle::Source { kind: "disk".into(), path: Some("fault".into()), ..bundle::Source::default() }
    }

    fn size(&self) -> Option<u64> {
        Some(self.claimed)
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let start = (self.data.len() as u64).min(offset);
        let end = (self.data.len() as u64).min(offset + buf.len() as u64);
        if self.gone_at.is_some_and(|gone| end > gone) {
            return Err(io::Error::from_raw_os_error(6));
        }
        // As a disk does: what lies before the bad sector is given first.
        match self.bad.iter().filter(|&&lba| lba * 512 < end && (lba + 1) * 512 > start).min() {
            Some(lba) if lba * 512 <= start => Err(io::Error::from_raw_os_error(5)),
            Some(lba) => self.give(start, lba * 512, buf),
            None => self.give(start, end, buf),
        }
    }
}

impl FaultSource {
    /// What an acquisition must give: the whole with zeros for bad sectors, and what could be read.
    pub(crate) fn expected(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut whole, mut read) = (self.data.clone(), Vec::new());
        for (lba, sector) in whole.chunks_mut(512).enumerate() {
            if self.bad.contains(&(lba as u64)) {
                sector.fill(0);
            } else {
                read.extend_from_slice(sector);
            }
        }
        (whole, read)
    }

    fn give(&self, start: u64, end: u64, buf: &mut [u8]) -> io::Result<usize> {
        let part = &self.data[start as usize..end as usize];
        buf[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

/// A source that asks for a stop once so much of it was read.
pub(crate) struct StopsAt<S> {
    pub(crate) inner: S,
    pub(crate) at: u64,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) reads: Arc<AtomicU64>,
}

impl<S: Source> Source for StopsAt<S> {
    fn facts(&self) -> bundle::Source {
        self.inner.facts()
    }
    fn size(&self) -> Option<u64> {
        self.inner.size()
    }
    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(buf.len() as u64, Ordering::Relaxed);
        if offset >= self.at {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.inner.read_at(offset, buf)
    }
}

/// The log's lines are chained, and all that the checkpoint covers is there.
pub(crate) fn assert_log_holds(folder: &Path) {
    let text = fs::read(folder.join("custody.jsonl")).unwrap();
    let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    lines.pop(); // torn, or nothing
    let mut prev = "0".repeat(64);
    for (seq, line) in lines.iter().enumerate() {
        let entry = custody::Entry::parse(line).unwrap();
        assert_eq!((entry.seq, entry.prev.to_string()), (seq as u64, prev));
        prev = sha256(line).to_string();
    }
    if let Ok(checkpoint) = fs::read(folder.join("checkpoint")) {
        let checkpoint = custody::SignedCheckpoint::parse(&checkpoint).unwrap();
        let covered = usize::try_from(checkpoint.checkpoint.size).unwrap();
        assert!(covered <= lines.len());
        assert_eq!(custody::merkle::root_of(&lines[..covered]), checkpoint.checkpoint.root);
        assert!(checkpoint.is_signed_by(&SigningKey::from_seed(&[7; 32]).verifying_key()));
    }
}

pub(crate) const CHILD_SOURCE: &str = "EXHIBIT_TEST_SOURCE";
pub(crate) const CHILD_BUNDLE: &str = "EXHIBIT_TEST_BUNDLE";

/// Acquires, or goes on, when it is started by [`child`], as a process of its own; nothing is asked of it otherwise.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the way to hand a path to a test that runs as a process of its own"
)]
fn child_acquires() {
    let (Some(source), Some(folder)) = (std::env::var_os(CHILD_SOURCE), std::env::var_os(CHILD_BUNDLE))
    else {
        return;
    };
    let folder = Path::new(&folder);
    if Path::new(&source).is_dir() {
        acquire_files(&[PathBuf::from(source)], folder).unwrap();
        return;
    }
    let source = disk::open(source.as_ref()).unwrap();
    if OpenAcquisition::in_folder(folder).ok().flatten().is_none() {
        acquire_disk(source, folder).unwrap();
        return;
    }
    with_writer(|writer| {
        let plan = Acquisition::new(DiskCapture::new(source), destination(folder)).options(options());
        plan.resume(writer).unwrap()
    });
}

/// The process that acquires `source`, started through `wrapper` if that is not empty.
pub(crate) fn child(wrapper: &[&str], source: &Path, folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["--exact", "support::child_acquires"]).env(CHILD_SOURCE, source).env(CHILD_BUNDLE, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A small system with all kinds of files.
pub(crate) fn make_tree(root: &Path) {
    for folder in ["etc", "var/log/nginx", "var/log/empty", "usr/share/zoneinfo/Europe"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/hostname"), "web01\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(root.join("usr/share/zoneinfo/Europe/Berlin"), "TZif2").unwrap();
    symlink("/usr/share/zoneinfo/Europe/Berlin", root.join("etc/localtime")).unwrap();
    let log = root.join("var/log");
    fs::write(log.join("syslog"), content(CHUNK + 1234)).unwrap();
    fs::write(log.join("nothing"), b"").unwrap();
    fs::write(log.join("block"), [b'x'; 512]).unwrap();
    fs::write(log.join("nginx/access.log"), "1.2.3.4 - -\n".repeat(1000)).unwrap();
    fs::hard_link(log.join("syslog"), log.join("syslog.also")).unwrap();
    symlink("syslog", log.join("current")).unwrap();
    symlink("/no/such/place", log.join("dangling")).unwrap();
    symlink(".", log.join("loop")).unwrap();
    fs::write(log.join(std::ffi::OsStr::from_bytes(b"caf\xe9\n.log")), "latin").unwrap();
    fs::write(log.join("ünïcode"), "utf8").unwrap();
    let long = "n".repeat(200);
    fs::create_dir(log.join(&long)).unwrap();
    fs::write(log.join(&long).join(&long), "deep").unwrap();
    let sparse = File::create(log.join("lastlog")).unwrap();
    sparse.set_len(3 * SEGMENT as u64).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 3 * SEGMENT as u64 - 3).unwrap();
    let pipe = Command::new("mkfifo").arg(log.join("pipe")).status().unwrap();
    assert!(pipe.success());
    drop(std::os::unix::net::UnixListener::bind(log.join("socket")).unwrap());
}

pub(crate) fn catalog(folder: &Path) -> Vec<CatalogEntry> {
    let reader = Bundle::open(folder).unwrap().stream("files").unwrap();
    reader.catalog().unwrap().map(Result::unwrap).collect()
}
