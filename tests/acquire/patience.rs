//! Disks that fail slowly, or only sometimes: time is bounded, and every place is told.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acquire::sources::disk::{self, DiskCapture};
use acquire::sources::paced::Rate;
use acquire::sources::subset::Subset;
use acquire::{Acquisition, Patience, Report, Source};
use custody::bundle::{self, Bundle, State};
use custody::clock::{Clock, Moment};
use custody::{SigningKey, SystemClock, Writer, sha256};

use crate::support::*;

/// A clock that goes on only when somebody spends time.
#[derive(Clone, Default)]
struct SpentTime(Arc<AtomicU64>);

impl SpentTime {
    fn spend(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }

    fn seconds(&self) -> u64 {
        self.0.load(Ordering::SeqCst) / 1_000_000_000
    }
}

impl Clock for SpentTime {
    fn now(&self) -> Moment {
        let mono_ns = self.0.load(Ordering::SeqCst);
        Moment { wall_ns: 1_795_224_600_000_000_000, tz_min: 0, mono_ns, boot: None, sync: None }
    }
}

/// A disk that takes its time for each read that fails.
struct SlowDisk {
    inner: FaultSource,
    clock: SpentTime,
    each: Duration,
    failed: Arc<AtomicU64>,
}

impl Source for SlowDisk {
    fn facts(&self) -> bundle::Source {
        self.inner.facts()
    }

    fn size(&self) -> Option<u64> {
        self.inner.size()
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read_at(offset, buf);
        if read.is_err() {
            self.clock.spend(self.each);
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        read
    }
}

struct Outcome {
    report: Report,
    bundle: Bundle,
    seconds: u64,
    failed: u64,
    _place: tempfile::TempDir,
}

fn acquire_slowly(data: &[u8], bad: &[u64], each: Duration, patience: Duration) -> Outcome {
    let place = tempfile::tempdir().unwrap();
    let (clock, failed) = (SpentTime::default(), Arc::new(AtomicU64::new(0)));
    let inner = FaultSource::new(data.to_vec(), bad);
    let disk = SlowDisk { inner, clock: clock.clone(), each, failed: Arc::clone(&failed) };
    let key = SigningKey::from_seed(&[7; 32]);
    let capture = DiskCapture::new(Box::new(disk)).patience(Patience::of(patience));
    let report = Acquisition::new(capture, destination(place.path()))
        .options(options())
        .run(&Writer::new(&key, &clock, identity()))
        .unwrap();
    let bundle = Bundle::open(place.path()).unwrap();
    Outcome { report, bundle, seconds: clock.seconds(), failed: failed.load(Ordering::SeqCst), _place: place }
}

/// Every byte that is not listed as unreadable is the source's, every other one is zero, and all bad sectors are listed.
fn assert_exact(outcome: &Outcome, data: &[u8], bad: &[u64]) {
    let stream = read_all(&outcome.bundle, "disk");
    let mut expected = data.to_vec();
    let mut listed = Vec::new();
    for extent in outcome.bundle.stream("disk").unwrap().extents() {
        if extent.state == State::Unreadable {
            expected[extent.start as usize..extent.end() as usize].fill(0);
            listed.push(extent.start..extent.end());
        }
    }
    assert!(stream == expected);
    for lba in bad {
        assert!(listed.iter().any(|range| range.contains(&(lba * 512))), "sector {lba} is not listed");
    }
}

#[test]
fn a_disk_that_takes_half_a_minute_for_each_bad_sector_is_not_tried_for_years() {
    let data = content(400 * CHUNK);
    let last = data.len() as u64 / 512;
    // The half of it is bad, and there are some bad sectors elsewhere.
    let mut bad: Vec<u64> = (last / 4..3 * last / 4).collect();
    bad.extend([5, last - 3]);
    let half_minute = Duration::from_secs(30);
    let outcome = acquire_slowly(&data, &bad, half_minute, Duration::from_secs(3600));
    assert_exact(&outcome, &data, &bad);
    assert!(outcome.seconds < 3 * 3600, "{} s, {} reads failed", outcome.seconds, outcome.failed);
    let states = outcome.report.states();
    let lost = bad.len() as u64 * 512;
    // Nothing good is lost but what lies in a chunk with something bad.
    assert!(states.unreadable >= lost && states.unreadable <= lost + 4 * CHUNK as u64, "{states:?}");
    let words: Vec<_> = outcome.report.issues.iter().map(|issue| &issue.what).collect();
    assert!(words.iter().any(|what| what.starts_with("given up, not every sector was tried")), "{words:?}");
    let untried =
        outcome.bundle.stream("disk").unwrap().extents().iter().any(|e| e.detail == "errno=5 tries=0");
    assert!(untried);
}

#[test]
fn the_last_good_sectors_behind_a_long_bad_area_are_found() {
    let data = content(100 * CHUNK);
    let last = data.len() as u64 / 512;
    let bad: Vec<u64> = (200..last - 200).collect();
    let outcome = acquire_slowly(&data, &bad, Duration::from_secs(30), Duration::ZERO);
    assert_exact(&outcome, &data, &bad);
    assert!(outcome.failed < 40, "{} reads failed", outcome.failed);
    let back = read_all(&outcome.bundle, "disk");
    assert!(back[back.len() - 512..] == data[data.len() - 512..]);
    // To the very end.
    let bad: Vec<u64> = (200..last).collect();
    let outcome = acquire_slowly(&data, &bad, Duration::from_secs(30), Duration::ZERO);
    assert_exact(&outcome, &data, &bad);
    assert!(outcome.failed < 40, "{} reads failed", outcome.failed);
}

#[test]
fn odd_ends_and_single_sectors_are_exact_without_any_time() {
    for length in [513usize, 4097, 3 * CHUNK + 513] {
        let data = content(length);
        let last = (length as u64 - 1) / 512;
        for bad in [vec![0], vec![last], (0..=last).collect()] {
            let outcome = acquire_slowly(&data, &bad, Duration::from_secs(1), Duration::ZERO);
            assert_exact(&outcome, &data, &bad);
        }
    }
}

#[test]
fn a_slow_sector_is_tried_once_and_a_quick_one_three_times() {
    let data = content(10 * CHUNK);
    for (each, tries) in [(Duration::from_secs(30), "tries=1"), (Duration::from_millis(2), "tries=3")] {
        let outcome = acquire_slowly(&data, &[700], each, Duration::from_secs(36_000));
        let reader = outcome.bundle.stream("disk").unwrap();
        let bad: Vec<_> = reader.extents().iter().filter(|e| e.state == State::Unreadable).collect();
        assert_eq!(bad.len(), 1);
        assert_eq!((bad[0].start, bad[0].length), (700 * 512, 512));
        assert_eq!(bad[0].detail, format!("errno=5 {tries}"));
    }
}

/// A disk whose sectors fail a number of times, then read, perhaps differently each time.
struct FlakyDisk {
    data: Vec<u8>,
    /// Sector, and how often it fails.
    flaky: Vec<(u64, u32)>,
    changes: bool,
    reads: u8,
}

impl Source for FlakyDisk {
    fn facts(&self) -> bundle::Source {
        bundle::Source { kind: "disk".into(), path: Some("flaky".into()), ..bundle::Source::default() }
    }

    fn size(&self) -> Option<u64> {
        Some(self.data.len() as u64)
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = (self.data.len() as u64).min(offset + buf.len() as u64);
        let part = self.data[offset as usize..end as usize].to_vec();
        for (lba, left) in &mut self.flaky {
            let hit = *lba * 512 < end && (*lba + 1) * 512 > offset;
            if hit && *left > 0 {
                *left -= 1;
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        buf[..part.len()].copy_from_slice(&part);
        if self.changes && (offset, end) == (300 * 512, 301 * 512) {
            self.reads += 1;
            buf[0] = self.reads;
        }
        Ok(part.len())
    }
}

fn acquire_flaky(flaky: &[(u64, u32)], changes: bool) -> (Report, Vec<u8>, Vec<u8>) {
    let place = tempfile::tempdir().unwrap();
    let data = content(4 * CHUNK);
    let disk = FlakyDisk { data: data.clone(), flaky: flaky.to_vec(), changes, reads: 0 };
    let report = acquire_disk(Box::new(disk), place.path()).unwrap();
    let back = read_all(&Bundle::open(place.path()).unwrap(), "disk");
    (report, data, back)
}

#[test]
fn a_sector_that_reads_only_when_tried_again_is_kept_and_listed() {
    // Chunk, 64 KiB and 4 KiB fail once each before the sector is tried by itself.
    let (report, data, back) = acquire_flaky(&[(300, 4)], false);
    assert!(back == data);
    assert_eq!(report.states().unreadable, 0);
    let [issue] = report.issues.as_slice() else { panic!("{:?}", report.issues) };
    assert_eq!((issue.offset, issue.length), (Some(300 * 512), Some(512)));
    assert_eq!(issue.what, "read only at try 2");
}

#[test]
fn an_area_that_reads_in_parts_only_is_listed() {
    let (report, data, back) = acquire_flaky(&[(300, 3)], false);
    assert!(back == data);
    let [issue] = report.issues.as_slice() else { panic!("{:?}", report.issues) };
    assert_eq!((issue.offset, issue.length), (Some(300 * 512 / 4096 * 4096), Some(4096)));
    assert!(issue.what.starts_with("a read failed here"), "{issue:?}");
}

#[test]
fn a_sector_that_reads_differently_each_time_is_listed_with_both_hashes() {
    let (report, data, back) = acquire_flaky(&[(300, 4)], true);
    let at = 300 * 512;
    assert!(back[..at] == data[..at] && back[at + 512..] == data[at + 512..]);
    let issue = report.issues.iter().find(|issue| issue.what.contains("differently")).unwrap();
    assert!(issue.what.contains(&sha256(&back[at..at + 512]).to_string()), "{issue:?}");
    assert_eq!(issue.what.matches("SHA-256").count(), 1);
}

#[test]
fn reading_is_no_faster_than_allowed_and_the_options_say_so() {
    let place = tempfile::tempdir().unwrap();
    let (image, folder) = (place.path().join("image.raw"), place.path().join("bundle"));
    fs::write(&image, content(2_000_000)).unwrap();
    let run = |rate: Rate| {
        fs::create_dir_all(&folder).unwrap();
        let key = SigningKey::from_seed(&[7; 32]);
        let capture = DiskCapture::new(disk::open(&image).unwrap()).rate(rate);
        let before = SystemClock.mono_ns();
        let report = Acquisition::new(capture, destination(&folder))
            .options(options())
            .run(&Writer::new(&key, &SystemClock, identity()))
            .unwrap();
        (report, (SystemClock.mono_ns() - before) as f64 / 1e9)
    };
    let (report, seconds) = run(Rate::of(2_000_000));
    assert_eq!(report.streams[0].sha256, sha256(&content(2_000_000)));
    assert!((0.85..5.0).contains(&seconds), "{seconds} s");
    let bundle = Bundle::open(&folder).unwrap();
    assert_eq!(bundle.manifest().options["max_read"], 2_000_000);
    // Let go while it runs, it does not take the 2000 s that it was begun for.
    fs::remove_dir_all(&folder).unwrap();
    let rate = Rate::of(1000);
    let other = rate.clone();
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        other.set(0);
    });
    let (_, seconds) = run(rate);
    freed.join().unwrap();
    assert!((0.25..20.0).contains(&seconds), "{seconds} s");
}

#[test]
fn a_range_is_acquired_alone_and_the_rest_is_told() {
    let data = content(9 * CHUNK + 100);
    let subset =
        |offset, length| Subset::new(Box::new(FaultSource::new(data.clone(), &[130])), offset, length);
    let place = tempfile::tempdir().unwrap();
    let range = 64 * 512..3 * CHUNK as u64 + 512;
    let source = subset(range.start, Some(range.end - range.start)).unwrap();
    let report = acquire_disk(Box::new(source), place.path()).unwrap();
    let bundle = Bundle::open(place.path()).unwrap();
    let mut expected = data[range.start as usize..range.end as usize].to_vec();
    expected[66 * 512..67 * 512].fill(0);
    assert!(read_all(&bundle, "disk") == expected);
    assert_eq!(report.issues[0].offset, Some(66 * 512));
    let told = &bundle.manifest().source.more["subset"];
    assert_eq!((&told["offset"], &told["source_size"]), (&range.start.into(), &data.len().into()));
    assert_eq!(told["not_acquired_behind"], data.len() as u64 - range.end);

    let rest = subset(9 * CHUNK as u64, None).unwrap();
    assert_eq!(rest.size(), Some(100));
    for (offset, length) in [(100, None), (0, Some(100)), (0, Some(1 << 40)), (512, Some(u64::MAX))] {
        assert!(subset(offset, length).is_err(), "{offset} {length:?}");
    }
}

#[test]
fn split_images_are_read_as_one_and_every_part_is_in_the_manifest() {
    let place = tempfile::tempdir().unwrap();
    let data = content(3 * CHUNK + 700);
    let cuts = [0, 1000, 1000, 2 * CHUNK, data.len()];
    for (number, cut) in cuts.windows(2).enumerate() {
        fs::write(place.path().join(format!("image.{:03}", number + 1)), &data[cut[0]..cut[1]]).unwrap();
    }
    let folder = place.path().join("bundle");
    let report = acquire_disk(disk::open(&place.path().join("image.003")).unwrap(), &folder).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    let bundle = Bundle::open(&folder).unwrap();
    let more = &bundle.manifest().source.more;
    assert_eq!((&more["form"], &more["part_count"]), (&"split image".into(), &4.into()));
    assert_eq!(more["parts"][3]["name"], "image.004");
    assert_eq!(more["parts"][3]["size"], data.len() - 2 * CHUNK);

    let alone = disk::open_alone(&place.path().join("image.003")).unwrap();
    assert_eq!(alone.size(), Some(2 * CHUNK as u64 - 1000));
    fs::remove_file(place.path().join("image.002")).unwrap();
    let refused = disk::open(&place.path().join("image.001")).err().unwrap();
    assert!(
        matches!(&refused, acquire::Error::MissingPart { path, .. } if path.ends_with("image.002")),
        "{refused}"
    );
}

#[test]
fn a_part_that_shrinks_or_goes_shifts_nothing() {
    let place = tempfile::tempdir().unwrap();
    let data = content(6 * CHUNK);
    for number in 0..3 {
        let part = &data[2 * number * CHUNK..2 * (number + 1) * CHUNK];
        fs::write(place.path().join(format!("image.00{number}")), part).unwrap();
    }
    let source = disk::open(&place.path().join("image.000")).unwrap();
    let middle = place.path().join("image.001");
    fs::File::options().write(true).open(&middle).unwrap().set_len(CHUNK as u64 + 100).unwrap();
    let report = acquire_disk(source, &place.path().join("shrunk")).unwrap();
    let back = read_all(&Bundle::open(&place.path().join("shrunk")).unwrap(), "disk");
    assert!(back[..3 * CHUNK + 100] == data[..3 * CHUNK + 100] && back[4 * CHUNK..] == data[4 * CHUNK..]);
    assert!(report.states().unreadable >= CHUNK as u64 - 512 && report.states().absent == 0);

    fs::write(&middle, &data[2 * CHUNK..4 * CHUNK]).unwrap();
    let source = disk::open(&place.path().join("image.000")).unwrap();
    fs::remove_file(&middle).unwrap();
    let report = acquire_disk(source, &place.path().join("gone")).unwrap();
    let back = read_all(&Bundle::open(&place.path().join("gone")).unwrap(), "disk");
    assert!(back[..2 * CHUNK] == data[..2 * CHUNK] && back[back.len() - 2 * CHUNK..] == data[4 * CHUNK..]);
    assert!(report.issues.iter().any(|issue| issue.what.contains("No such file")), "{:?}", report.issues);
}
