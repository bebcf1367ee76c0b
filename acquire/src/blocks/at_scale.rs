//! The memory that an acquisition takes does not grow with the number of blocks.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use custody::bundle::{BundleStore, LocalFolder, State};

use super::Limits;
use super::service::{BlockService, Fetched, ListFrom, Listed, Page};
use super::storing::{BlockSource, store_blocks};
use crate::aws::Failure;
use crate::pipeline::{Begun, Flow, PipelineOptions, store_stream};
use crate::progress::NoProgress;
use crate::source::Issues;

const BLOCK: u32 = 512 << 10;

/// Blocks whose bytes are given, so that every buffer is in use once; the others are said to be zeros.
const WITH_BYTES: u64 = 2000;

/// Lists every block but one in a thousand, in pages of 10,000 with tokens as long as those of AWS.
struct Huge {
    blocks: u64,
    fetches: AtomicU64,
}

impl BlockService for Huge {
    type Token = String;

    const LIST: &'static str = "Huge ListBlocks";
    const FETCH: &'static str = "Huge GetBlock";

    async fn list(&self, from: ListFrom) -> Result<Page<String>, Failure> {
        let first: u64 = match &from {
            ListFrom::Block(first) => *first,
            ListFrom::Page(token) => token.parse().unwrap(),
        };
        let end = self.blocks.min(first + 10_000);
        let blocks = (first..end)
            .filter(|index| index % 1000 != 999)
            .map(|index| (index, Listed::Present(format!("{index:0>88}"))))
            .collect();
        Ok(Page { blocks, next: (end < self.blocks).then(|| end.to_string()) })
    }

    async fn fetch(&self, index: u64, token: &String, room: &mut [u8]) -> Result<Fetched, Failure> {
        assert_eq!(token.len(), 88);
        if self.fetches.fetch_add(1, Ordering::Relaxed) >= WITH_BYTES {
            return Ok(Fetched { is_zero: true, ..Fetched::default() });
        }
        room.fill((index % 251) as u8 + 1);
        Ok(Fetched::default())
    }
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn acquire(blocks: u64) -> BTreeMap<&'static str, u64> {
    let place = tempfile::tempdir().unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(place.path()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = Huge { blocks, fetches: AtomicU64::new(0) };
    let mut limits = Limits::default();
    (limits.requests_per_second, limits.lists_per_second) = (0, 0);
    let size = blocks * u64::from(BLOCK);
    let mut source = BlockSource::new(service, runtime.handle().clone(), "huge", size, BLOCK).limits(limits);
    // A mark of the journal waits for the disk; one for each GiB is enough of them.
    let options = PipelineOptions { mark_every: 1 << 30, ..PipelineOptions::default() };
    let flow = Flow { options, progress: &NoProgress, stop: Arc::default(), protection: None };
    let mut begun = Begun::anew(&store, "disk", "disk", &flow, true).unwrap();
    begun.is_not_hashed = true;
    let mut issues = Issues::default();
    let ((), written) =
        store_stream(begun, &flow, |feed| store_blocks(&mut source, None, feed, &mut issues, &flow.stop))
            .unwrap();
    let stream = written.writer.finish(written.sha256, written.sha256_data, None).unwrap();
    assert_eq!(issues.count(), 0);
    assert_eq!(stream.size, size);
    BTreeMap::from([
        ("absent", stream.states.of(State::Absent) / u64::from(BLOCK)),
        ("data", stream.states.of(State::Data) / u64::from(BLOCK)),
        ("fetched", source.counts().fetched),
        ("zero", stream.states.of(State::Zero) / u64::from(BLOCK)),
    ])
}

#[test]
fn every_block_of_a_long_list_ends_in_its_state() {
    let blocks = 50_000;
    let counts = acquire(blocks);
    assert_eq!((counts["absent"], counts["data"]), (50, WITH_BYTES));
    assert_eq!((counts["zero"], counts["fetched"]), (blocks - 50 - WITH_BYTES, blocks - 50));
}

/// `cargo test --release -p exhibit-acquire --features cloud --lib sixteen_tebibytes -- --ignored --nocapture`
#[test]
#[ignore = "it takes minutes and 6 GB of disk"]
#[allow(clippy::print_stderr, reason = "a measurement is there to be read")]
fn sixteen_tebibytes_of_blocks_take_no_more_than_256_mib_of_memory() {
    let blocks = 1 << 25;
    let counts = acquire(blocks);
    assert_eq!(counts["fetched"], blocks - blocks / 1000);
    let peak = peak();
    eprintln!("{blocks} blocks: {} MiB at most", peak >> 20);
    assert!(peak <= 256 << 20, "{peak} bytes");
}
