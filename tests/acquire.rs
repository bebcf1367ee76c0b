//! Acquisition from end to end: what goes in comes out, what cannot be read is named, and nothing is lost on the way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use acquire::sources::disk::{self, StreamSource};
use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Destination, Error, PipelineOptions, Report, Source};
use custody::bundle::{
    self, Bundle, BundleStore, CatalogEntry, Cut, LocalFolder, MemberKind, NewFile, SMALLEST_CHUNK, State,
};
use custody::verify::{Level, Options, verify};
use custody::{
    Actor, Case, CustodyLog, EntryType, FixedClock, Identity, NewCase, SigningKey, Tool, Writer, sha256,
};
use proptest::prelude::*;

const CHUNK: usize = SMALLEST_CHUNK as usize;
const SEGMENT: usize = 4 * CHUNK;

fn options() -> PipelineOptions {
    let mut options = PipelineOptions::default();
    options.cut = Cut { chunk_size: SMALLEST_CHUNK, segment_size: SEGMENT as u64 };
    options
}

fn identity() -> Identity {
    Identity {
        actor: Actor { name: "J. Doe".into(), ..Actor::default() },
        tool: Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: None },
        case: Some("ir-2026-017".into()),
        ..Identity::default()
    }
}

/// Runs `act` with a writer whose key and clock are fixed.
fn with_writer<T>(act: impl FnOnce(&Writer<'_>) -> T) -> T {
    let key = SigningKey::from_seed(&[7; 32]);
    let clock = FixedClock::stepping(1_795_224_600_000_000_000, 1_000_000);
    act(&Writer::new(&key, &clock, identity()))
}

fn destination(folder: &Path) -> Destination {
    fs::create_dir_all(folder).unwrap();
    Destination {
        folder: folder.to_owned(),
        exhibit: "E001".into(),
        name: "web01-disk".into(),
        case: Some("ir-2026-017".into()),
    }
}

fn acquire_disk(source: Box<dyn Source>, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| Acquisition::disk(source, destination(folder)).options(options()).run(writer))
}

fn acquire_files(paths: &[PathBuf], folder: &Path) -> acquire::Result<Report> {
    let source = FilesSource::new(paths)?;
    with_writer(|writer| Acquisition::files(source, destination(folder)).options(options()).run(writer))
}

/// Every sector tells its own number, some chunks are zeros and some are noise: any shift shows.
fn content(length: usize) -> Vec<u8> {
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

fn has_tool(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped in part: {tool} is not installed");
    }
    found
}

/// The stream as a stranger gets it: `zstd -dc data/NAME/*.zst`.
fn by_zstd(folder: &Path, stream: &str) -> Vec<u8> {
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

fn read_all(bundle: &Bundle, stream: &str) -> Vec<u8> {
    let reader = bundle.stream(stream).unwrap();
    let mut data = vec![0xAA; usize::try_from(reader.len()).unwrap()];
    reader.read_exact_at(0, &mut data).unwrap();
    data
}

#[test]
fn sources_of_odd_sizes_come_back_byte_for_byte() {
    let zstd = has_tool("zstd");
    for length in
        [0, 1, 511, 513, CHUNK - 1, CHUNK, CHUNK + 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + CHUNK + 513]
    {
        let place = tempfile::tempdir().unwrap();
        let (image, folder) = (place.path().join("image.raw"), place.path().join("bundle"));
        let data = content(length);
        fs::write(&image, &data).unwrap();
        let report = acquire_disk(disk::open(&image).unwrap(), &folder).unwrap();
        assert_eq!(report.stream.size, length as u64);
        assert_eq!(report.stream.sha256, sha256(&data));
        assert_eq!(report.stream.sha256_data, sha256(&data));
        assert_eq!(report.stream.segments.len(), length.div_ceil(SEGMENT));
        assert_eq!(report.issue_count, 0);
        let bundle = Bundle::open(&folder).unwrap();
        assert!(read_all(&bundle, "disk") == data, "{length}");
        let states = report.states();
        let zeros: u64 =
            data.chunks(CHUNK).filter(|chunk| bundle::is_zero(chunk)).map(|chunk| chunk.len() as u64).sum();
        assert_eq!((states.zero, states.data), (zeros, length as u64 - zeros));
        if zstd {
            assert!(by_zstd(&folder, "disk") == data, "{length} by zstd");
        }
        for (index, chunk) in data.chunks(CHUNK).enumerate() {
            let row = bundle.stream("disk").unwrap().chunk_row(index as u64).unwrap();
            assert_eq!(row.sha256, sha256(chunk));
        }
    }
}

#[test]
fn standard_input_and_a_file_give_the_same_stream() {
    let place = tempfile::tempdir().unwrap();
    let data = content(2 * SEGMENT + 77);
    let source = StreamSource::new("-", io::Cursor::new(data.clone()));
    let report = acquire_disk(Box::new(source), &place.path().join("bundle")).unwrap();
    assert_eq!(report.stream.sha256, sha256(&data));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_range_of_any_stream_equals_the_source(
        runs in proptest::collection::vec((0u8..3, 1usize..3 * CHUNK), 0..8),
        reads in proptest::collection::vec((0u64..1 << 20, 0usize..3 * CHUNK), 20),
    ) {
        let mut data = Vec::new();
        for (kind, length) in runs {
            let from = data.len();
            match kind {
                0 => data.resize(from + length, 0),
                1 => data.extend(content(length)),
                _ => data.extend((0..length).map(|at| (at * at % 256) as u8)),
            }
        }
        let place = tempfile::tempdir().unwrap();
        acquire_disk(Box::new(StreamSource::new("-", io::Cursor::new(data.clone()))), place.path()).unwrap();
        let reader = Bundle::open(place.path()).unwrap().stream("disk").unwrap();
        for (offset, length) in reads {
            let mut buf = vec![0xAA; length];
            let read = reader.read_at(offset, &mut buf).unwrap();
            let from = data.len().min(usize::try_from(offset).unwrap());
            let expected = &data[from..data.len().min(from + length)];
            prop_assert!(&buf[..read] == expected);
        }
    }
}

/// A disk in memory, some of whose sectors cannot be read.
struct FaultSource {
    data: Vec<u8>,
    claimed: u64,
    bad: Vec<u64>,
    /// From here on the device has gone.
    gone_at: Option<u64>,
}

impl FaultSource {
    fn new(data: Vec<u8>, bad: &[u64]) -> Self {
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
    fn give(&self, start: u64, end: u64, buf: &mut [u8]) -> io::Result<usize> {
        let part = &self.data[start as usize..end as usize];
        buf[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

#[test]
fn exactly_the_bad_sectors_are_listed_and_nothing_is_shifted() {
    let data = content(40 * CHUNK + 300);
    let last = data.len() as u64 / 512;
    let per_chunk = CHUNK as u64 / 512;
    let cases: [Vec<u64>; 6] = [
        vec![0],
        vec![last],
        vec![777],
        (5 * per_chunk - 4..5 * per_chunk + 4).collect(),
        (900..1000).step_by(2).collect(),
        vec![0, 1, 7, 8, 9, 128, 1000, 1001, 3 * per_chunk, last - 1, last],
    ];
    for mut bad in cases {
        bad.sort_unstable();
        let place = tempfile::tempdir().unwrap();
        let report = acquire_disk(Box::new(FaultSource::new(data.clone(), &bad)), place.path()).unwrap();
        let mut expected = data.clone();
        let mut read = Vec::new();
        for (lba, sector) in expected.chunks_mut(512).enumerate() {
            if bad.contains(&(lba as u64)) {
                sector.fill(0);
            } else {
                read.extend_from_slice(sector);
            }
        }
        let bundle = Bundle::open(place.path()).unwrap();
        assert!(read_all(&bundle, "disk") == expected, "{bad:?}");
        assert_eq!(report.stream.sha256, sha256(&expected));
        assert_eq!(report.stream.sha256_data, sha256(&read), "{bad:?}");
        let mut listed = Vec::new();
        for extent in bundle.stream("disk").unwrap().extents() {
            if extent.state == State::Unreadable {
                assert_eq!(extent.detail, "errno=5 tries=3");
                listed.extend(extent.start / 512..extent.end().div_ceil(512));
            }
        }
        assert_eq!(listed, bad);
        let runs = bad.iter().enumerate().filter(|(at, lba)| *at == 0 || bad[at - 1] + 1 != **lba).count();
        assert_eq!(report.issue_count, runs as u64);
        let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
        let error = log.entries.iter().find(|entry| entry.kind == EntryType::ACQUIRE_ERROR).unwrap();
        assert_eq!(error.about.errors["issues"], report.issue_count);
        assert_eq!(error.about.errors["unreadable_bytes"], report.states().unreadable);
    }
}

#[test]
fn a_device_that_goes_away_leaves_what_was_read_and_says_so() {
    let data = content(20 * CHUNK);
    let gone = 7 * CHUNK as u64 + 1536;
    let mut source = FaultSource::new(data.clone(), &[]);
    source.gone_at = Some(gone);
    let place = tempfile::tempdir().unwrap();
    let report = acquire_disk(Box::new(source), place.path()).unwrap();
    let back = read_all(&Bundle::open(place.path()).unwrap(), "disk");
    assert!(back[..7 * CHUNK] == data[..7 * CHUNK]);
    assert_eq!(report.stream.size, data.len() as u64);
    assert!(report.states().unreadable >= data.len() as u64 - gone);
    assert!(report.issue_count >= 1);
}

#[test]
fn a_source_that_shrinks_or_grows_is_said_to_have_done_so() {
    let data = content(5 * CHUNK + 100);
    let place = tempfile::tempdir().unwrap();
    let mut source = FaultSource::new(data.clone(), &[]);
    source.claimed = 7 * CHUNK as u64;
    let report = acquire_disk(Box::new(source), &place.path().join("shrunk")).unwrap();
    assert_eq!(report.stream.size, 7 * CHUNK as u64);
    assert_eq!(report.states().absent, 7 * CHUNK as u64 - data.len() as u64);
    assert_eq!(report.stream.sha256_data, sha256(&data));
    assert_eq!(report.issue_count, 1);
    assert!(report.issues[0].what.contains("ended at byte"), "{:?}", report.issues);

    let mut source = FaultSource::new(data.clone(), &[]);
    source.claimed = 3 * CHUNK as u64;
    let report = acquire_disk(Box::new(source), &place.path().join("grown")).unwrap();
    assert_eq!(report.stream.sha256, sha256(&data[..3 * CHUNK]));
    assert!(report.issues[0].what.contains("grew"), "{:?}", report.issues);
}

#[test]
fn a_pipe_that_breaks_leaves_an_open_bundle_with_what_came_before() {
    struct Breaks(io::Cursor<Vec<u8>>);
    impl Read for Breaks {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::Error::from_raw_os_error(5)),
                read => Ok(read),
            }
        }
    }
    let place = tempfile::tempdir().unwrap();
    let data = content(SEGMENT + 2 * CHUNK);
    let source = StreamSource::new("-", Breaks(io::Cursor::new(data.clone())));
    let refused = acquire_disk(Box::new(source), place.path()).unwrap_err();
    assert!(matches!(refused, Error::SourceLost { offset, .. } if offset == data.len() as u64), "{refused}");
    assert!(matches!(Bundle::open(place.path()), Err(bundle::Error::NotSealed { .. })));
    let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
    assert_eq!(log.entries.last().unwrap().kind, EntryType::ACQUIRE_ERROR);
    let first = fs::read(place.path().join("data/disk/000000.zst")).unwrap();
    assert!(zstd::decode_all(&first[..]).unwrap() == data[..SEGMENT]);
}

/// A folder that is full after some bytes of data.
#[derive(Debug)]
struct FullStore {
    inner: LocalFolder,
    room: Arc<std::sync::atomic::AtomicI64>,
}

struct FullFile {
    inner: Box<dyn NewFile>,
    full: File,
    room: Arc<std::sync::atomic::AtomicI64>,
}

impl BundleStore for FullStore {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        self.inner.size_of(path)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(path, offset, buf)
    }

    fn put_new(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        let full = File::options().write(true).open("/dev/full")?;
        Ok(Box::new(FullFile { inner: self.inner.put_new(path)?, full, room: Arc::clone(&self.room) }))
    }
}

impl Write for FullFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.room.fetch_sub(buf.len() as i64, std::sync::atomic::Ordering::SeqCst) < buf.len() as i64 {
            // The kernel's own answer, not one that we made up.
            return self.full.write(buf);
        }
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for FullFile {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.inner.finish()
    }
}

#[test]
fn without_space_left_what_was_written_stays_open_and_readable() {
    let data = content(12 * SEGMENT);
    for room in [0, 1000, 100_000, 300_000, 600_000] {
        let place = tempfile::tempdir().unwrap();
        let room = Arc::new(std::sync::atomic::AtomicI64::new(room));
        let store = FullStore { inner: LocalFolder::new(place.path()), room };
        let source = Box::new(StreamSource::new("-", io::Cursor::new(data.clone())));
        let refused = with_writer(|writer| {
            let acquisition = Acquisition::disk(source, destination(place.path()));
            acquisition.options(options()).store(Arc::new(store)).run(writer)
        })
        .unwrap_err();
        assert!(matches!(refused, Error::NoSpace(_)), "{refused:?}");
        assert!(matches!(Bundle::open(place.path()), Err(bundle::Error::NotSealed { .. })));
        assert_log_holds(place.path());
        let stored = stored_prefix(place.path());
        assert!(data.starts_with(&stored), "{} bytes", stored.len());
        let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
        let last = log.entries.last().unwrap();
        assert_eq!(last.kind, EntryType::ACQUIRE_ERROR);
        assert!(last.about.errors["stopped_by"].as_str().unwrap().contains("no space left"));
    }
}

#[test]
fn a_full_disk_stops_a_source_that_would_go_on_for_long() {
    let place = tempfile::tempdir().unwrap();
    let room = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let store = FullStore { inner: LocalFolder::new(place.path()), room };
    // More than all buffers hold, so that the reader must be woken up to be told.
    let source = Box::new(StreamSource::new("-", io::repeat(7).take(1 << 40)));
    let refused = with_writer(|writer| {
        Acquisition::disk(source, destination(place.path())).store(Arc::new(store)).run(writer)
    });
    assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
}

/// What can be read of a bundle that was cut short: its segments, and as many frames of the last as are whole.
fn stored_prefix(folder: &Path) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir(folder.join("data/disk"))
        .map_or(vec![], |found| found.map(|f| f.unwrap().path()).collect());
    names.sort();
    let mut data = Vec::new();
    for name in names {
        let bytes = fs::read(&name).unwrap();
        let whole = zstd::stream::copy_decode(&bytes[..], &mut data);
        assert!(whole.is_ok() || name.extension() == Some("part".as_ref()), "{name:?}");
    }
    data
}

/// The log's lines are chained, and all that the checkpoint covers is there.
fn assert_log_holds(folder: &Path) {
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

const CHILD_SOURCE: &str = "EXHIBIT_TEST_SOURCE";
const CHILD_BUNDLE: &str = "EXHIBIT_TEST_BUNDLE";

#[test]
#[ignore = "run by other tests, as a process of its own"]
#[expect(
    clippy::disallowed_methods,
    reason = "the way to hand a path to a test that runs as a process of its own"
)]
fn child_acquires() {
    let source = std::env::var_os(CHILD_SOURCE).unwrap();
    let folder = std::env::var_os(CHILD_BUNDLE).unwrap();
    acquire_disk(disk::open(source.as_ref()).unwrap(), folder.as_ref()).unwrap();
}

/// The process that acquires `source`, started through `wrapper` if that is not empty.
fn child(wrapper: &[&str], source: &Path, folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(["--exact", "child_acquires", "--ignored"])
        .env(CHILD_SOURCE, source)
        .env(CHILD_BUNDLE, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn killed_at_any_moment_nothing_sealed_is_lost_and_the_log_holds() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let data = content(24 * SEGMENT + 5);
    fs::write(&image, &data).unwrap();
    let begun = Instant::now();
    assert!(child(&[], &image, &place.path().join("whole")).status().unwrap().success());
    let whole = begun.elapsed();
    let (mut sealed, mut open, mut nothing) = (0, 0, 0);
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    for round in 0..100 {
        let folder = place.path().join(format!("killed-{round}"));
        let mut running = child(&[], &image, &folder).spawn().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_nanos(random % (whole.as_nanos() as u64 * 11 / 10)));
        running.kill().unwrap();
        running.wait().unwrap();
        match Bundle::open(&folder) {
            Ok(bundle) => {
                sealed += 1;
                assert!(read_all(&bundle, "disk") == data);
                assert_log_holds(&folder);
            }
            Err(bundle::Error::NotSealed { .. }) => {
                open += 1;
                assert_log_holds(&folder);
                let stored = stored_prefix(&folder);
                assert!(data.starts_with(&stored), "round {round}: {} bytes", stored.len());
            }
            Err(bundle::Error::NotABundle { .. }) => nothing += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
        let _ = fs::remove_dir_all(&folder);
    }
    eprintln!("killed 100 times: {sealed} sealed, {open} open, {nothing} not begun");
    assert!(open > 0, "the moments missed the acquisition: {sealed} sealed, {nothing} not begun");
}

#[test]
fn the_source_is_opened_for_reading_only_and_stays_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let (image, folder) = (place.path().join("image.raw"), place.path().join("bundle"));
    let data = content(3 * SEGMENT);
    fs::write(&image, &data).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).unwrap();
    let facts = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.mode(), found.size(), found.mtime_nsec(), found.ctime_nsec(), found.atime_nsec(), found.ino())
    };
    let before = facts(&image);
    let trace = place.path().join("trace");
    let trace_text = trace.to_str().unwrap();
    let wrapper = ["strace", "-f", "-e", "trace=open,openat,openat2,creat", "-o", trace_text];
    let traced =
        has_tool("strace") && child(&wrapper, &image, &folder).status().is_ok_and(|status| status.success());
    if traced {
        let trace = fs::read_to_string(&trace).unwrap();
        let opened: Vec<_> = trace.lines().filter(|line| line.contains("image.raw\"")).collect();
        assert!(!opened.is_empty());
        for line in opened {
            assert!(
                line.contains("O_RDONLY") && line.contains("O_CLOEXEC") && line.contains("O_NOATIME"),
                "{line}"
            );
            assert!(
                !line.contains("O_RDWR") && !line.contains("O_WRONLY") && !line.contains("O_CREAT"),
                "{line}"
            );
        }
    } else {
        eprintln!("skipped in part: system calls cannot be traced here");
        acquire_disk(disk::open(&image).unwrap(), &folder).unwrap();
    }
    assert_eq!(facts(&image), before);
    assert!(fs::read(&image).unwrap() == data);
}

#[test]
fn what_is_no_source_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    assert!(matches!(disk::open(place.path()), Err(Error::NotASource { .. })));
    assert!(matches!(disk::open(&place.path().join("none")), Err(Error::OpenSource { .. })));
    assert!(matches!(disk::open("/dev/null".as_ref()), Err(Error::NotASource { .. })));
    assert!(matches!(FilesSource::new(&[place.path().join("none")]), Err(Error::OpenSource { .. })));
    assert!(matches!(FilesSource::new(&[]), Err(Error::NotASource { .. })));
}

#[test]
fn a_bundle_that_is_there_is_never_written_over() {
    let place = tempfile::tempdir().unwrap();
    let source = || Box::new(StreamSource::new("-", io::Cursor::new(vec![1; 10])));
    acquire_disk(source(), place.path()).unwrap();
    let before = fs::read(place.path().join("custody.jsonl")).unwrap();
    assert!(matches!(acquire_disk(source(), place.path()), Err(Error::Custody(_))));
    assert_eq!(fs::read(place.path().join("custody.jsonl")).unwrap(), before);
}

/// A small system with all kinds of files.
fn make_tree(root: &Path) {
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

fn catalog(folder: &Path) -> Vec<CatalogEntry> {
    let reader = Bundle::open(folder).unwrap().stream("files").unwrap();
    reader.catalog().unwrap().map(Result::unwrap).collect()
}

#[test]
fn files_come_with_context_catalogue_and_content_in_a_fixed_order() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root").canonicalize().unwrap_or_else(|_| place.path().join("root"));
    make_tree(&root);
    let folder = place.path().join("bundle");
    let report = acquire_files(&[root.join("var/log")], &folder).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    let entries = catalog(&folder);
    let base = root.to_str().unwrap();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.strip_prefix(base).unwrap()).collect();
    let long = "n".repeat(200);
    assert_eq!(
        paths,
        [
            "/etc/hostname",
            "/etc/localtime",
            "/usr/share/zoneinfo/Europe/Berlin",
            "/etc/passwd",
            "/var/log",
            "/var/log/block",
            r"/var/log/caf\xe9\x0a.log",
            "/var/log/current",
            "/var/log/dangling",
            "/var/log/empty",
            "/var/log/lastlog",
            "/var/log/loop",
            "/var/log/nginx",
            "/var/log/nginx/access.log",
            &format!("/var/log/{long}"),
            &format!("/var/log/{long}/{long}"),
            "/var/log/nothing",
            "/var/log/pipe",
            "/var/log/socket",
            "/var/log/syslog",
            "/var/log/syslog.also",
            "/var/log/ünïcode",
        ]
    );
    let named = |name: &str| entries.iter().find(|entry| entry.path.ends_with(name)).unwrap();
    assert_eq!(named("/pipe").kind, MemberKind::Pipe);
    assert_eq!(named("/socket").kind, MemberKind::Socket);
    assert_eq!(named("/loop").link.as_deref(), Some("."));
    assert_eq!(named("/syslog.also").kind, MemberKind::Hardlink);
    assert_eq!(named("/syslog.also").link.as_deref(), Some(named("/syslog").path.as_str()));
    let stat = fs::metadata(root.join("var/log/syslog")).unwrap();
    let entry = named("/syslog");
    assert_eq!(entry.mode, Some(stat.mode()));
    assert_eq!(entry.inode, Some(stat.ino().to_string()));
    assert_eq!(entry.mtime, bundle::file_time(stat.mtime(), stat.mtime_nsec() as u32));
    assert_eq!(entry.ctime, bundle::file_time(stat.ctime(), stat.ctime_nsec() as u32));
    let bundle = Bundle::open(&folder).unwrap();
    let context: Vec<_> = bundle.manifest().options["context"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert_eq!(context, entries[..4].iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>());
    let stream = bundle.stream("files").unwrap();
    for entry in entries.iter().filter(|entry| entry.sha256.is_some()) {
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        stream.read_exact_at(entry.offset, &mut content).unwrap();
        assert_eq!(Some(sha256(&content)), entry.sha256, "{}", entry.path);
        let path = custody::strict_json::unescape_text(&entry.path).unwrap();
        assert!(
            fs::read(Path::new(std::ffi::OsStr::from_bytes(&path))).unwrap() == content,
            "{}",
            entry.path
        );
    }
    let again = place.path().join("again");
    let second = acquire_files(&[root.join("var/log")], &again).unwrap();
    assert_eq!(catalog(&again).len(), entries.len());
    assert_eq!(second.stream.size, report.stream.size);
}

#[test]
fn gnu_tar_takes_the_stream_and_gets_what_the_catalogue_says() {
    if !has_tool("tar") || !has_tool("zstd") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    make_tree(&root);
    let folder = place.path().join("bundle");
    acquire_files(&[root.join("var/log")], &folder).unwrap();
    let archive = place.path().join("files.tar");
    fs::write(&archive, by_zstd(&folder, "files")).unwrap();
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&out).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let mut checked = 0;
    for entry in catalog(&folder) {
        let path = custody::strict_json::unescape_text(&entry.path).unwrap();
        let path = out.join(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap()));
        let found = fs::symlink_metadata(&path).unwrap();
        if let Some(hash) = entry.sha256 {
            assert_eq!(sha256(&fs::read(&path).unwrap()), hash, "{path:?}");
            assert_eq!(bundle::file_time(found.mtime(), found.mtime_nsec() as u32), entry.mtime, "{path:?}");
            assert_eq!(Some(found.mode()), entry.mode, "{path:?}");
            checked += 1;
        }
        match entry.kind {
            MemberKind::Symlink => {
                assert_eq!(fs::read_link(&path).unwrap().to_str(), entry.link.as_deref());
            }
            MemberKind::Folder => assert!(found.is_dir()),
            MemberKind::Hardlink => assert_eq!(fs::metadata(&path).unwrap().nlink(), 2),
            _ => {}
        }
    }
    assert!(checked >= 9, "{checked}");
    // Python's reader is stricter about PAX records than GNU tar.
    if has_tool("python3") {
        let script = "import tarfile,sys\nfor m in tarfile.open(sys.argv[1]): assert 'EXHIBIT.btime' in m.pax_headers or m.mtime, m";
        let python = Command::new("python3").args(["-c", script]).arg(&archive).output().unwrap();
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    }
}

#[test]
fn extended_attributes_are_in_the_catalogue_and_in_the_tar() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "x").unwrap();
    if rustix::fs::setxattr(&file, "user.exhibit", b"a\0b\n", rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("skipped: no extended attributes on this file system");
        return;
    }
    let folder = place.path().join("bundle");
    acquire_files(std::slice::from_ref(&file), &folder).unwrap();
    let entry = catalog(&folder).pop().unwrap();
    assert_eq!(entry.xattrs.len(), 1);
    assert_eq!((entry.xattrs[0].name.as_str(), entry.xattrs[0].value.as_str()), ("user.exhibit", "YQBiCg=="));
    let tar = read_all(&Bundle::open(&folder).unwrap(), "files");
    let needle = b"SCHILY.xattr.user.exhibit=a\0b\n\n";
    assert!(tar.windows(needle.len()).any(|window| window == needle));
}

#[test]
fn files_that_change_while_they_are_read_keep_the_size_they_had_and_are_named() {
    let place = tempfile::tempdir().unwrap();
    let logs = place.path().join("logs");
    fs::create_dir(&logs).unwrap();
    // Large enough that the first thread is still reading when the second one writes.
    let growing = logs.join("growing.log");
    fs::write(&growing, vec![b'a'; 64 << 20]).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (growing, stop) = (growing, Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                File::options().append(true).open(&growing).unwrap().write_all(b"more\n").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let folder = place.path().join("bundle");
    let report = acquire_files(&[logs], &folder).unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let entry = catalog(&folder).pop().unwrap();
    assert!(entry.errors.iter().any(|error| error.starts_with("grew from")), "{:?}", entry.errors);
    assert_eq!(report.issue_count, 1);
    let mut content = vec![0; usize::try_from(entry.size).unwrap()];
    Bundle::open(&folder)
        .unwrap()
        .stream("files")
        .unwrap()
        .read_exact_at(entry.offset, &mut content)
        .unwrap();
    assert_eq!(Some(sha256(&content)), entry.sha256);
}

#[test]
fn the_bundle_itself_is_left_out_of_what_it_holds() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.log"), "a").unwrap();
    let folder = place.path().join("case/exhibits/E001-x");
    let report = acquire_files(&[place.path().to_owned()], &folder).unwrap();
    assert!(report.issues.iter().any(|issue| issue.what.contains("left out")), "{:?}", report.issues);
    assert!(!catalog(&folder).iter().any(|entry| entry.path.contains("custody.jsonl")));
}

/// Runs what `VERIFY.md` prints, as it prints it. Gives the number of commands, or the first that printed another thing.
fn run_sheet(folder: &Path) -> Result<usize, String> {
    let sheet = fs::read_to_string(folder.join("VERIFY.md")).unwrap();
    let mut commands = 0;
    let mut rest = sheet.as_str();
    while let Some((_, from)) = rest.split_once("```sh\n") {
        let (command, behind) = from.split_once("```\n").unwrap();
        let (between, expected) = behind.split_once("```text\n").unwrap();
        assert!(between.trim().is_empty(), "no expected outcome beside {command}");
        let (expected, behind) = expected.split_once("```\n").unwrap();
        rest = behind;
        let output = Command::new("bash").args(["-c", command]).current_dir(folder).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        if printed != expected {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command}printed {printed:?} instead of {expected:?}: {words}"));
        }
        commands += 1;
    }
    Ok(commands)
}

#[test]
fn the_commands_of_the_verify_sheet_print_what_it_says() {
    let tools = ["bash", "sha256sum", "zstd", "jq", "python3"];
    if !tools.into_iter().all(has_tool) || !openssl_has_rawin() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    let bad = [3u64, 4, 5, 2000];
    acquire_disk(Box::new(FaultSource::new(content(3 * SEGMENT + 1000), &bad)), &disk).unwrap();
    assert_eq!(run_sheet(&disk), Ok(12));
    let empty = place.path().join("empty");
    acquire_disk(Box::new(StreamSource::new("-", io::empty())), &empty).unwrap();
    assert_eq!(run_sheet(&empty), Ok(10));
    let root = place.path().join("root");
    make_tree(&root);
    let files = place.path().join("files");
    acquire_files(&[root.join("var/log")], &files).unwrap();
    assert_eq!(run_sheet(&files), Ok(12));
}

#[test]
fn the_commands_of_the_verify_sheet_tell_what_was_changed() {
    if !["bash", "sha256sum", "zstd", "jq", "python3"].into_iter().all(has_tool) || !openssl_has_rawin() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("bundle");
    acquire_disk(Box::new(StreamSource::new("-", io::Cursor::new(content(2 * SEGMENT)))), &folder).unwrap();
    for (file, at) in
        [("data/disk/000000.zst", 3000), ("manifest.json", 40), ("custody.jsonl", 300), ("checkpoint", 60)]
    {
        let path = folder.join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(run_sheet(&folder).is_err(), "{file}");
        fs::write(&path, good).unwrap();
    }
    fs::write(folder.join("data/extra"), "x").unwrap();
    assert!(run_sheet(&folder).unwrap_err().contains("no other file"));
}

fn openssl_has_rawin() -> bool {
    let help = Command::new("openssl").args(["pkeyutl", "-help"]).output();
    let has = help
        .is_ok_and(|help| String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("-rawin"));
    if !has {
        eprintln!("skipped: openssl is older than 3.0");
    }
    has
}

#[test]
fn what_was_acquired_in_a_case_verifies_and_what_was_cut_short_does_not() {
    let place = tempfile::tempdir().unwrap();
    let case_folder = place.path().join("case");
    with_writer(|writer| {
        let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
        let case = Case::create(&case_folder, &new, writer).unwrap();
        let destination = Destination::in_case(&case, "web01-disk", writer).unwrap();
        let source = Box::new(FaultSource::new(content(3 * SEGMENT + 10), &[5, 6, 700]));
        let report = Acquisition::disk(source, destination).options(options()).run(writer).unwrap();
        assert_eq!(report.bundle, case_folder.join("exhibits/E001-web01-disk"));
        let found = verify(&report.bundle, &Options::default()).unwrap();
        assert_eq!(found.verdict.level, Level::Consistent, "{:?}", found.faults);

        let root = place.path().join("root");
        make_tree(&root);
        let destination = Destination::in_case(&case, "web01-logs", writer).unwrap();
        let source = FilesSource::new(&[root.join("var/log")]).unwrap();
        let report = Acquisition::files(source, destination).options(options()).run(writer).unwrap();
        assert_eq!(report.bundle, case_folder.join("exhibits/E002-web01-logs"));
        let found = verify(&case_folder, &Options::default()).unwrap();
        assert!(found.faults.is_empty(), "{:?}", found.faults);

        let destination = Destination::in_case(&case, "broken", writer).unwrap();
        let folder = destination.folder.clone();
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        Acquisition::disk(Box::new(StreamSource::new("-", Breaks)), destination).run(writer).unwrap_err();
        let found = verify(&folder, &Options::default()).unwrap();
        assert_eq!(found.verdict.level, Level::Open, "{:?}", found.faults);
    });
}

#[test]
fn the_log_tells_the_acquisition_in_order() {
    let place = tempfile::tempdir().unwrap();
    let report =
        acquire_disk(Box::new(StreamSource::new("-", io::Cursor::new(content(99)))), place.path()).unwrap();
    let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
    let kinds: Vec<_> = log.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["log.genesis", "acquire.start", "acquire.end", "bundle.sealed"]);
    let subjects: BTreeMap<_, _> =
        log.entries[3].about.subject.iter().map(|subject| (subject.id.as_str(), subject.sha256)).collect();
    assert_eq!(subjects["manifest.json"], Some(report.manifest_sha256));
    for (path, hash) in subjects {
        assert_eq!(hash, Some(sha256(&fs::read(place.path().join(path)).unwrap())));
    }
    assert!(place.path().join("checkpoints/00000004").exists());
    assert!(log.entries.iter().all(|entry| entry.about.exhibit.as_deref() == Some("E001")));
}
