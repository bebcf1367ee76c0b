//! The imaging assertions that can be tried on any host in seconds, on this very build.
//!
//! Every assertion has an id of NIST's *Digital Data Acquisition Tool* test plan (AM, AO), or one of our own (X). The
//! source is in memory, stamped with its sector numbers, and fails where it is told to; bundles go to a folder that
//! the caller removes. Where an assertion compares, the comparison itself is tried on something wrong first: a check
//! that cannot fail proves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use custody::bundle::{Bundle, Cut, SMALLEST_CHUNK, Source as SourceFacts, State};
use custody::clock::Clock;
use custody::digest::{self_test, sha256_portable};
use custody::verify::{Level, Options, verify};
use custody::{Identity, SigningKey, Writer, sha256};
use serde::Serialize;

use crate::acquisition::{Acquisition, Destination, Report};
use crate::error::Error;
use crate::pipeline::PipelineOptions;
use crate::source::Source;
use crate::sources::disk::{self, DiskCapture};

const SECTOR: usize = 512;
const CHUNK: usize = SMALLEST_CHUNK as usize;

/// This chunk of a stamped source holds zeros, as most of a disk does.
const ZERO_CHUNK: usize = 4;

/// Sectors of the source that bad sectors are tried on.
const SECTORS: u64 = 9 * (CHUNK / SECTOR) as u64 + 3;

/// The verdict on one assertion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assertion {
    /// Such as `AM-09`.
    pub id: &'static str,
    /// What is asserted.
    pub assertion: &'static str,
    /// Whether it holds here.
    pub passed: bool,
    /// What was tried, or what went wrong.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

type Tried = Result<String, String>;

/// Tries all assertions in a folder, which must be empty and is left to the caller.
///
/// Bundles are signed by a key of the moment, under the given identity.
#[must_use]
pub fn run(folder: &Path, clock: &dyn Clock, identity: &Identity) -> Vec<Assertion> {
    let bench = Bench { folder, clock, identity };
    let mut done = Vec::new();
    let mut attempt = |id, assertion, test: &mut dyn FnMut(&Bench<'_>) -> Tried| {
        let before = clock.mono_ns();
        let tried = test(&bench);
        let seconds = Duration::from_nanos(clock.mono_ns().saturating_sub(before)).as_secs_f64();
        let passed = tried.is_ok();
        let detail = tried.unwrap_or_else(|wrong| wrong);
        done.push(Assertion { id, assertion, passed, detail, seconds });
    };
    attempt("HASH", "both SHA-256 implementations agree with the standard", &mut |_| hashes());
    attempt("AM-06", "every sector is acquired, at any size", &mut |bench| sizes(bench));
    attempt("AM-08", "every sector is in its place", &mut |bench| accuracy(bench));
    let mut bad = None;
    attempt("AM-09", "bad sectors are told, exactly and with their error", &mut |bench| {
        let (listed, filled) = bad_sectors(bench);
        bad = Some(filled);
        listed
    });
    attempt("AM-10", "only bad sectors are filled, with zeros", &mut |_| {
        bad.take().unwrap_or_else(|| Err("not tried".to_owned()))
    });
    attempt("AO-06", "what is unchanged is said to be unchanged", &mut |bench| unchanged(bench));
    attempt("AO-07", "what is changed is said to be changed, and where", &mut |bench| changed(bench));
    attempt("AO-22", "the chunk table agrees with an independent hash", &mut |bench| chunk_table(bench));
    attempt("AO-24", "the source stays as it was", &mut |bench| source_untouched(bench));
    attempt("X1", "interrupted and resumed, the hash is the same", &mut |bench| resumed(bench));
    attempt("X2", "sectors that read only when tried again are told", &mut |bench| flaky(bench));
    attempt("X3", "a source that shrinks is told, and nothing is lost", &mut |bench| shrunk(bench));
    done
}

struct Bench<'a> {
    folder: &'a Path,
    clock: &'a dyn Clock,
    identity: &'a Identity,
}

impl Bench<'_> {
    /// A plan to acquire a source into the bundle of this name.
    fn plan(&self, source: Box<dyn Source>, name: &str) -> Acquisition<'static> {
        let destination = Destination {
            folder: self.folder.join(name),
            exhibit: "E001".to_owned(),
            name: "selftest".to_owned(),
            case: None,
        };
        let options = PipelineOptions {
            cut: Cut { chunk_size: SMALLEST_CHUNK, segment_size: 4 * u64::from(SMALLEST_CHUNK) },
            ..PipelineOptions::default()
        };
        Acquisition::new(DiskCapture::new(source), destination).options(options)
    }

    /// Acquires a source into a new bundle, under a name for its folder.
    fn acquire(&self, source: Box<dyn Source>, name: &str) -> Result<(Report, Bundle), String> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(words)?;
        let key = SigningKey::generate().map_err(words)?;
        let writer = Writer::new(&key, self.clock, self.identity.clone());
        let report = self.plan(source, name).run(&writer).map_err(words)?;
        let bundle = Bundle::open(&folder).map_err(words)?;
        Ok((report, bundle))
    }

    /// The same, and the whole stream as it is read back; the bundle is removed.
    fn round_trip(&self, source: Box<dyn Source>) -> Result<(Report, Bundle, Vec<u8>), String> {
        let (report, bundle) = self.acquire(source, "round-trip")?;
        let reader = bundle.stream("disk").map_err(words)?;
        let mut back = vec![0xAA; usize::try_from(reader.len()).map_err(words)?];
        reader.read_exact_at(0, &mut back).map_err(words)?;
        fs::remove_dir_all(self.folder.join("round-trip")).map_err(words)?;
        Ok((report, bundle, back))
    }
}

fn words(error: impl std::error::Error) -> String {
    error.to_string()
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Sectors that tell their own number, and one chunk of zeros.
fn stamped(length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    for (number, sector) in data.chunks_mut(SECTOR).enumerate() {
        if number * SECTOR / CHUNK == ZERO_CHUNK {
            continue;
        }
        let stamp = format!("sector {number:>12}|").into_bytes();
        for (to, from) in sector.iter_mut().zip(stamp.iter().cycle()) {
            *to = *from;
        }
    }
    data
}

/// The first sector that does not hold what it must, of a stream and of what is expected.
fn first_difference(back: &[u8], expected: &[u8]) -> Option<usize> {
    let sectors = back.chunks(SECTOR).zip(expected.chunks(SECTOR));
    let different = sectors.enumerate().find(|(_, (one, other))| one != other).map(|(number, _)| number);
    different.or((back.len() != expected.len()).then_some(back.len().min(expected.len()) / SECTOR))
}

/// A disk in memory that fails as it is told to.
#[derive(Default)]
struct StampedDisk {
    data: Vec<u8>,
    claimed: u64,
    bad: BTreeSet<u64>,
    /// Sectors that fail so many times more, then read.
    flaky: Vec<(u64, u32)>,
    /// Once this byte is read, a person asks for a pause.
    pause: Option<(u64, Arc<AtomicBool>)>,
}

impl StampedDisk {
    fn new(data: &[u8]) -> Self {
        Self { data: data.to_vec(), claimed: data.len() as u64, ..Self::default() }
    }
}

impl Source for StampedDisk {
    fn facts(&self) -> SourceFacts {
        SourceFacts { kind: "disk".to_owned(), path: Some("selftest".to_owned()), ..SourceFacts::default() }
    }

    fn size(&self) -> Option<u64> {
        Some(self.claimed)
    }

    fn sector_size(&self) -> u32 {
        SECTOR as u32
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        const EIO: i32 = 5;
        let length = self.data.len() as u64;
        let (start, end) = (offset.min(length), offset.saturating_add(buf.len() as u64).min(length));
        if let Some((_, flag)) = self.pause.as_ref().filter(|(at, _)| end > *at) {
            flag.store(true, Ordering::Relaxed);
        }
        let touched = start / SECTOR as u64..end.div_ceil(SECTOR as u64);
        let flaky = self.flaky.iter_mut().find(|(lba, left)| touched.contains(lba) && *left > 0);
        if let Some((_, left)) = flaky {
            *left -= 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if start < end && self.bad.range(touched).next().is_some() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let part = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let part = part.and_then(|(start, end)| self.data.get(start..end)).unwrap_or_default();
        if let Some(room) = buf.get_mut(..part.len()) {
            room.copy_from_slice(part);
        }
        Ok(part.len())
    }
}

fn hashes() -> Tried {
    self_test().map_err(words)?;
    let data = stamped(4096);
    let lengths = (0..=260).chain([511, 512, 513, 4095, 4096]);
    let mut count = 0;
    for length in lengths {
        let part = data.get(..length).unwrap_or_default();
        must(sha256(part) == sha256_portable(part), || format!("they differ on {length} bytes"))?;
        count += 1;
    }
    must(sha256(&data) != sha256_portable(data.get(1..).unwrap_or_default()), || {
        "all is equal to all".to_owned()
    })?;
    Ok(format!("the standard's vectors, and {count} lengths"))
}

fn sizes(bench: &Bench<'_>) -> Tried {
    let sizes = [0, 1, 511, 512, 513, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 1_048_583];
    for size in sizes {
        let data = stamped(size);
        let (report, bundle, back) = bench.round_trip(Box::new(StampedDisk::new(&data)))?;
        let stream = report.streams.first().ok_or("no stream was stored")?;
        must(stream.size == size as u64 && back.len() == size, || {
            format!("of {size} bytes {} came back", back.len())
        })?;
        must(back == data, || format!("{size} bytes came back changed"))?;
        must(stream.sha256 == sha256_portable(&data), || format!("the hash of {size} bytes is wrong"))?;
        must(bundle.manifest().streams.len() == 1 && report.issue_count == 0, || {
            "issues without a cause".to_owned()
        })?;
    }
    Ok(format!("{} sizes, from 0 to 1,048,583 bytes (a prime)", sizes.len()))
}

fn accuracy(bench: &Bench<'_>) -> Tried {
    let data = stamped(SECTORS as usize * SECTOR);
    let mut shifted = data.clone();
    shifted.rotate_right(SECTOR);
    must(first_difference(&shifted, &data).is_some(), || "a shift is not noticed".to_owned())?;
    let (_, _, back) = bench.round_trip(Box::new(StampedDisk::new(&data)))?;
    match first_difference(&back, &data) {
        Some(lba) => Err(format!("sector {lba} is not the one that was there")),
        None => Ok(format!("{SECTORS} sectors, each stamped with its number")),
    }
}

/// Where sectors are bad.
fn bad_sector_cases() -> Vec<Vec<u64>> {
    let chunk = (CHUNK / SECTOR) as u64;
    vec![
        vec![0],
        vec![SECTORS - 1],
        vec![700],
        (2 * chunk - 4..2 * chunk + 4).collect(),
        (3 * chunk..3 * chunk + 64).step_by(2).collect(),
        vec![chunk - 1, chunk, 5 * chunk, 6 * chunk - 1],
        (800..808).collect(),
    ]
}

/// The list of bad sectors, and what was put in their place.
fn bad_sectors(bench: &Bench<'_>) -> (Tried, Tried) {
    let data = stamped(SECTORS as usize * SECTOR);
    let (mut listed_well, mut filled_well) = (Ok(()), Ok(()));
    let cases = bad_sector_cases();
    for bad in &cases {
        let disk = StampedDisk { bad: bad.iter().copied().collect(), ..StampedDisk::new(&data) };
        let (bundle, back) = match bench.round_trip(Box::new(disk)) {
            Ok((_, bundle, back)) => (bundle, back),
            Err(wrong) => return (Err(wrong.clone()), Err(wrong)),
        };
        let mut listed = Vec::new();
        let mut errors = BTreeSet::new();
        match bundle.stream("disk") {
            Err(error) => return (Err(words(&error)), Err(words(error))),
            Ok(reader) => {
                for extent in reader.extents().iter().filter(|extent| extent.state == State::Unreadable) {
                    listed.extend(extent.start / SECTOR as u64..extent.end().div_ceil(SECTOR as u64));
                    errors.insert(extent.detail.clone());
                }
            }
        }
        let told = errors.iter().all(|detail| detail.starts_with("errno=5 tries="));
        if listed_well.is_ok() {
            listed_well = must(listed == *bad && told, || format!("bad were {bad:?}, listed {listed:?}"));
        }
        let mut expected = data.clone();
        for (lba, sector) in expected.chunks_mut(SECTOR).enumerate() {
            if bad.contains(&(lba as u64)) {
                sector.fill(0);
            }
        }
        if filled_well.is_ok() {
            filled_well = match first_difference(&back, &expected) {
                Some(lba) => Err(format!("sector {lba} is wrong where {bad:?} were bad")),
                None => Ok(()),
            };
        }
    }
    let total: usize = cases.iter().map(Vec::len).sum();
    let tried = format!("{} patterns, {total} bad sectors", cases.len());
    (listed_well.map(|()| tried.clone()), filled_well.map(|()| tried + ", neighbours compared"))
}

fn resumed(bench: &Bench<'_>) -> Tried {
    let data = stamped(SECTORS as usize * SECTOR);
    let key = SigningKey::generate().map_err(words)?;
    let writer = Writer::new(&key, bench.clock, bench.identity.clone());
    let pauses = [1, 3 * CHUNK as u64, 6 * CHUNK as u64 + 1];
    for (number, at) in pauses.into_iter().enumerate() {
        let name = format!("resumed-{number}");
        fs::create_dir_all(bench.folder.join(&name)).map_err(words)?;
        let flag = Arc::new(AtomicBool::new(false));
        let disk = StampedDisk { pause: Some((at, Arc::clone(&flag))), ..StampedDisk::new(&data) };
        match bench.plan(Box::new(disk), &name).stop_when(flag).run(&writer) {
            Err(Error::Paused) => {}
            Err(error) => return Err(words(error)),
            Ok(_) => return Err(format!("it did not pause at byte {at}")),
        }
        let report = bench.plan(Box::new(StampedDisk::new(&data)), &name).resume(&writer).map_err(words)?;
        let stream = report.streams.first().ok_or("no stream was stored")?;
        must(stream.sha256 == sha256_portable(&data), || {
            format!("paused at byte {at}, the hash is another")
        })?;
    }
    Ok(format!("paused at {} places", pauses.len()))
}

fn flaky(bench: &Bench<'_>) -> Tried {
    let data = stamped(2 * CHUNK);
    let disk = StampedDisk { flaky: vec![(70, 4)], ..StampedDisk::new(&data) };
    let (report, _, back) = bench.round_trip(Box::new(disk))?;
    must(back == data, || "bytes are lost that could be read".to_owned())?;
    match report.issues.as_slice() {
        [issue] if issue.offset == Some(70 * SECTOR as u64) && issue.what.contains("try 2") => {
            Ok("one sector that fails four times".to_owned())
        }
        issues => Err(format!("it is not told: {issues:?}")),
    }
}

fn shrunk(bench: &Bench<'_>) -> Tried {
    let data = stamped(3 * CHUNK + 100);
    let disk = StampedDisk { claimed: 5 * CHUNK as u64, ..StampedDisk::new(&data) };
    let (report, _, back) = bench.round_trip(Box::new(disk))?;
    must(back.starts_with(&data), || "bytes are lost that could be read".to_owned())?;
    let absent = report.states().absent;
    must(report.issue_count == 1 && absent == 5 * CHUNK as u64 - data.len() as u64, || {
        format!("{absent} bytes are said to be absent, {} issues", report.issue_count)
    })?;
    Ok("a disk that ends before its size".to_owned())
}

/// A sealed bundle with data, zeros and bad sectors.
fn sealed(bench: &Bench<'_>, name: &str) -> Result<PathBuf, String> {
    let data = stamped(SECTORS as usize * SECTOR);
    let disk = StampedDisk { bad: [3, 4].into(), ..StampedDisk::new(&data) };
    bench.acquire(Box::new(disk), name)?;
    Ok(bench.folder.join(name))
}

fn unchanged(bench: &Bench<'_>) -> Tried {
    let folder = sealed(bench, "unchanged")?;
    for _ in 0..3 {
        let found = verify(&folder, &Options::default()).map_err(words)?;
        must(found.verdict.level >= Level::Consistent, || format!("{}: {:?}", found.verdict, found.faults))?;
    }
    Ok("verified three times".to_owned())
}

fn changed(bench: &Bench<'_>) -> Tried {
    let folder = sealed(bench, "changed")?;
    let files = files_below(&folder, Path::new(""))?;
    let mut flips = 0;
    for file in &files {
        let path = folder.join(file);
        let good = fs::read(&path).map_err(words)?;
        for at in [good.len() / 3, good.len() * 2 / 3] {
            let mut bad = good.clone();
            let Some(byte) = bad.get_mut(at) else { continue };
            *byte ^= 1;
            fs::write(&path, &bad).map_err(words)?;
            let found = verify(&folder, &Options::default()).map_err(words)?;
            let named = found.faults.iter().any(|fault| Path::new(&fault.place.file) == file);
            must(!found.is_intact() && named, || {
                format!("byte {at} of {} was changed: {}, {:?}", file.display(), found.verdict, found.faults)
            })?;
            flips += 1;
        }
        fs::write(&path, &good).map_err(words)?;
    }
    let found = verify(&folder, &Options::default()).map_err(words)?;
    must(found.is_intact(), || "it stays broken when all is put back".to_owned())?;
    Ok(format!("{flips} changed bytes in {} files, each found and named", files.len()))
}

fn files_below(folder: &Path, below: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join(below)).map_err(words)? {
        let entry = entry.map_err(words)?;
        let path = below.join(entry.file_name());
        if entry.file_type().map_err(words)?.is_dir() {
            files.extend(files_below(folder, &path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn chunk_table(bench: &Bench<'_>) -> Tried {
    let data = stamped(SECTORS as usize * SECTOR);
    bench.acquire(Box::new(StampedDisk::new(&data)), "chunk-table")?;
    let table = bench.folder.join("chunk-table/data/disk.chunks.tsv");
    let table = fs::read_to_string(table).map_err(words)?;
    let told: Vec<&str> = table.lines().skip(1).filter_map(|row| row.split('\t').nth(3)).collect();
    let hashed: Vec<String> = data.chunks(CHUNK).map(|chunk| sha256_portable(chunk).to_string()).collect();
    must(told == hashed, || "a chunk's hash is not that of its bytes".to_owned())?;
    Ok(format!("{} chunks, hashed by the other implementation", hashed.len()))
}

fn source_untouched(bench: &Bench<'_>) -> Tried {
    use std::os::unix::fs::MetadataExt;
    let image = bench.folder.join("image.raw");
    let data = stamped(3 * CHUNK + 7);
    fs::write(&image, &data).map_err(words)?;
    let facts = || -> Result<_, String> {
        let found = fs::metadata(&image).map_err(words)?;
        let times = [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
            found.atime(),
            found.atime_nsec(),
        ];
        Ok((found.len(), found.mode(), times))
    };
    let before = facts()?;
    bench.acquire(disk::open(&image).map_err(words)?, "untouched")?;
    must(facts()? == before, || "its times or its size changed".to_owned())?;
    must(sha256_portable(&fs::read(&image).map_err(words)?) == sha256(&data), || {
        "its bytes changed".to_owned()
    })?;
    Ok("bytes, size and all times of a file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody::clock::SystemClock;

    #[test]
    fn all_assertions_hold_on_this_host_within_ten_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let done = run(folder.path(), &SystemClock, &Identity::default());
        let failed: Vec<_> = done.iter().filter(|assertion| !assertion.passed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(done.len(), 12);
        let seconds: f64 = done.iter().map(|assertion| assertion.seconds).sum();
        assert!(seconds < 30.0, "{seconds} s in a build without optimisation");
    }

    #[test]
    fn a_wrong_comparison_is_noticed() {
        let data = stamped(10 * SECTOR);
        let mut other = data.clone();
        assert_eq!(first_difference(&data, &other), None);
        other[3 * SECTOR + 5] ^= 1;
        assert_eq!(first_difference(&data, &other), Some(3));
        assert_eq!(first_difference(&data, &data[..9 * SECTOR]), Some(9));
    }

    #[test]
    fn where_no_bundle_can_be_written_the_assertions_fail() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let done = run(&file, &SystemClock, &Identity::default());
        let passed: Vec<_> = done.iter().filter(|assertion| assertion.passed).map(|a| a.id).collect();
        assert_eq!(passed, ["HASH"]);
    }
}
