use std::collections::BTreeMap;
use std::sync::Arc;

use custody::bundle::{Cut, LocalFolder, State};

use super::super::lime;
use super::super::made_machine::filled;
use super::*;
use crate::pipeline::PipelineOptions;

/// Memory with pages that fail, and a limit to what one read gives.
struct FailingMemory {
    size: u64,
    bad: BTreeMap<u64, i32>,
    zero: Vec<u64>,
    reads: u64,
}

impl FailingMemory {
    fn new(size: u64, bad: &[(u64, i32)]) -> Self {
        Self { size, bad: bad.iter().copied().collect(), zero: Vec::new(), reads: 0 }
    }
}

impl PhysicalMemory for FailingMemory {
    fn path(&self) -> &str {
        "/proc/kcore"
    }

    fn reach(&self) -> Option<Vec<PhysicalRange>> {
        None
    }

    fn read_at(&mut self, address: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(7) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if address >= self.size {
            return Ok(0);
        }
        let last = address + buf.len() as u64 - 1;
        // As the kernel does: a read with a bad page in it fails as a whole.
        if let Some((_, errno)) = self.bad.range(address / 4096..=last / 4096).next() {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        let take = buf.len().min((self.size - address) as usize);
        for (at, byte) in (address..).zip(&mut buf[..take]) {
            *byte = if self.zero.contains(&(at / 4096)) { 0 } else { filled(at, 1)[0] };
        }
        Ok(take)
    }
}

/// Reads ranges into a stream of a bundle; gives its bytes, gaps, issues and what was counted.
struct Read {
    bytes: Vec<u8>,
    extents: Vec<(u64, u64, State, String)>,
    issues: Vec<Issue>,
    counts: PageCounts,
}

fn read(memory: FailingMemory, flags: PageFlags, ranges: &[(u64, u64)]) -> Read {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalFolder::new(folder.path()));
    let mut methods: Vec<Box<dyn PhysicalMemory>> = vec![Box::new(memory)];
    let mut issues = Issues::default();
    let cut = Cut { chunk_size: 64 << 10, ..Cut::default() };
    let options = PipelineOptions { cut, ..PipelineOptions::default() };
    let (counts, written) = crate::pipeline::store_alone(store, "memory", options, |feed| {
        let mut reading = Reading::new(&mut methods, flags, Samples::new(1000), &mut issues);
        for &(start, length) in ranges {
            let range = PhysicalRange::with_length(start, length).unwrap();
            feed.append(&lime::header(range))?;
            reading.range(range, feed)?;
        }
        Ok(reading.counts)
    })
    .unwrap();
    let stream = written.writer.finish(written.sha256, written.sha256_data, None).unwrap();
    let segment = std::fs::read(folder.path().join("data/memory/000000.zst")).unwrap();
    let bytes = zstd::decode_all(segment.as_slice()).unwrap();
    assert_eq!(bytes.len() as u64, stream.size);
    let table = std::fs::read_to_string(folder.path().join("data/memory.extents.tsv")).unwrap();
    let extents = table
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let number = |at: usize| cells[at].parse().unwrap();
            (number(0), number(1), cells[2].parse().unwrap(), cells[3].to_owned())
        })
        .collect();
    Read { bytes, extents, issues: issues.into_kept(), counts }
}

#[test]
fn pages_that_fail_are_zeros_and_listed_exactly_and_their_neighbours_are_right() {
    // First, last, a run, every second of a stretch, at block edges.
    let bad: Vec<u64> = [0u64, 1, 2, 255, 256, 511, 767].into_iter().chain((300..320).step_by(2)).collect();
    let pages = 768u64;
    let listed: Vec<(u64, i32)> =
        bad.iter().map(|&page| (page, if page == 511 { 133 } else { 14 })).collect();
    let read = read(FailingMemory::new(pages * 4096, &listed), PageFlags::new(None), &[(0, pages * 4096)]);
    let mut expected = filled(0, (pages * 4096) as usize);
    for page in &bad {
        expected[(page * 4096) as usize..][..4096].fill(0);
    }
    assert!(read.bytes[32..] == expected);
    let mut reported = Vec::new();
    for (start, length, state, detail) in &read.extents {
        if *state == State::Data {
            continue;
        }
        assert_eq!(*state, State::Unreadable);
        for page in (start - 32) / 4096..(start - 32 + length) / 4096 {
            reported.push((page, if detail == "errno=133 tries=2" { 133 } else { 14 }));
            assert!(detail == "errno=133 tries=2" || detail == "errno=14 tries=2", "{detail}");
        }
    }
    let mut listed = listed;
    listed.sort_unstable();
    assert_eq!(reported, listed);
    assert_eq!((read.counts.failed, read.counts.read), (bad.len() as u64, pages - bad.len() as u64));
    // One issue for each run of one error.
    let mut runs = 0;
    let mut before = None;
    for entry in &listed {
        runs += usize::from(before != Some((entry.0.wrapping_sub(1), entry.1)));
        before = Some(*entry);
    }
    assert_eq!(read.issues.len(), runs);
    assert_eq!((read.issues[0].offset, read.issues[0].length), (Some(0), Some(3 * 4096)));
    assert!(read.issues[0].what.contains("Bad address"), "{}", read.issues[0].what);
}

#[test]
fn ranges_that_start_or_end_within_a_page_keep_every_byte() {
    let ranges = [(0x1080u64, 0x2b7fu64), (0x5000, 0x1), (0x10_0ff0, 0x10_1020)];
    let read = read(FailingMemory::new(1 << 30, &[(0x3, 5), (0x200, 5)]), PageFlags::new(None), &ranges);
    let mut expected = Vec::new();
    for (start, length) in ranges {
        expected.extend(lime::header(PhysicalRange::with_length(start, length).unwrap()));
        let mut bytes = filled(start, length as usize);
        for (at, byte) in (start..).zip(&mut bytes) {
            if matches!(at / 4096, 0x3 | 0x200) {
                *byte = 0;
            }
        }
        expected.extend(bytes);
    }
    assert!(read.bytes == expected);
    let gaps: Vec<u64> = read.extents.iter().filter(|e| e.2 == State::Unreadable).map(|e| e.1).collect();
    assert_eq!(gaps, [0xbff, 0x1000]);
}

#[test]
fn pages_that_the_kernel_withholds_are_told_from_pages_of_zeros() {
    let flags = |words: &[(u64, u64)]| {
        let mut bytes = vec![0u8; 8 * 64];
        for (page, flags) in words {
            bytes[*page as usize * 8..][..8].copy_from_slice(&flags.to_le_bytes());
        }
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        PageFlags::new(Some(file))
    };
    let mut memory = FailingMemory::new(64 * 4096, &[(9, 14)]);
    memory.zero = vec![3, 4, 5, 6, 7];
    // 3 is a plain page of zeros, 8 is offline but was given with its content, 9 fails.
    let words = [(4, 1u64 << 19), (5, 1 << 23), (6, 1 << 23), (7, 1 << 20), (8, 1 << 23), (9, 1 << 19)];
    let read = read(memory, flags(&words), &[(0x1000, 63 * 4096)]);
    let gaps: Vec<(u64, u64, State, &str)> = read
        .extents
        .iter()
        .filter(|e| e.2 != State::Data)
        .map(|e| ((e.0 - 32) / 4096 + 1, e.1 / 4096, e.2, e.3.as_str()))
        .collect();
    let expected = [
        (4, 1, State::Unreadable, "hwpoison"),
        (5, 2, State::Absent, "page_offline"),
        (7, 1, State::Absent, "no_page"),
        (9, 1, State::Unreadable, "errno=14 tries=2"),
    ];
    assert_eq!(gaps, expected);
    let counts = PageCounts { read: 58, failed: 1, absent: 0, poisoned: 1, offline: 2, no_page: 1 };
    assert_eq!(read.counts, counts);
    assert_eq!(read.issues.len(), 2, "{:?}", read.issues);
}

#[test]
fn what_the_source_does_not_reach_is_absent() {
    let read = read(FailingMemory::new(0x3000, &[]), PageFlags::new(None), &[(0x1000, 0x4000)]);
    let gaps: Vec<_> = read.extents.iter().filter(|e| e.2 != State::Data).collect();
    assert_eq!(gaps, [&(32 + 0x2000, 0x2000, State::Absent, "not_in_source".to_owned())]);
    assert_eq!(read.counts.absent, 2);
}

#[test]
fn a_method_that_fails_altogether_gives_way_to_the_next_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let size = (METHOD_FAILED + 1024) * 4096;
    struct Dead;
    impl PhysicalMemory for Dead {
        fn path(&self) -> &str {
            "/dev/crash"
        }
        fn reach(&self) -> Option<Vec<PhysicalRange>> {
            None
        }
        fn read_at(&mut self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    struct Ones;
    impl PhysicalMemory for Ones {
        fn path(&self) -> &str {
            "/dev/mem"
        }
        fn reach(&self) -> Option<Vec<PhysicalRange>> {
            None
        }
        fn read_at(&mut self, _: u64, buf: &mut [u8]) -> io::Result<usize> {
            buf.fill(1);
            Ok(buf.len())
        }
    }
    let mut methods: Vec<Box<dyn PhysicalMemory>> = vec![Box::new(Dead), Box::new(Ones)];
    let mut issues = Issues::default();
    let store = Arc::new(LocalFolder::new(folder.path()));
    let options = PipelineOptions::default();
    let (counts, _) = crate::pipeline::store_alone(store, "memory", options, |feed| {
        let mut reading = Reading::new(&mut methods, PageFlags::new(None), Samples::new(1), &mut issues);
        reading.range(PhysicalRange::with_length(0, size).unwrap(), feed)?;
        Ok(reading.counts)
    })
    .unwrap();
    // The block at which the limit is met is read by the next method already.
    assert_eq!((counts.failed, counts.read), (METHOD_FAILED - 256, 1024 + 256));
    assert!(issues.kept()[0].what.contains("/dev/mem is read instead"), "{:?}", issues.kept());
}
