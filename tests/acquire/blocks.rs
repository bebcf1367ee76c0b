//! Sources of numbered blocks: whatever a service does, every block ends in its one state, and nothing runs for ever.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acquire::aws::{Failure, FailureKind};
use acquire::blocks::{BlockCounts, BlockService, BlockSource, Fetched, Limits, ListFrom, Listed, Page};
use acquire::{Acquisition, Capture, Error, PipelineOptions, Report, Streams};
use custody::bundle::{self, Bundle, Cut, State};
use custody::{sha256, verify};
use tokio::runtime::Runtime;

use crate::support::*;

const BLOCK: usize = CHUNK;
const BLOCKS: u64 = 96;

/// How one answer is to differ from a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Of(FailureKind),
    /// Nothing comes, ever.
    Hangs,
}

/// A service in memory that does what a test wants of it.
#[derive(Default)]
struct Made {
    blocks: BTreeMap<u64, Vec<u8>>,
    page: usize,
    /// Every other page is empty, though more follow.
    empty_pages: bool,
    /// The page behind this one is this one again.
    circle_at: Option<u64>,
    /// Listed before its time.
    out_of_order: Option<u64>,
    /// What each fetch of a block gives, the first entry first; then it is good.
    faults: Mutex<BTreeMap<u64, Vec<Fault>>>,
    /// Every fetch of these fails so.
    always: BTreeMap<u64, Fault>,
    /// After so many fetches, everything fails so.
    ends: Option<(u64, Fault)>,
    /// What lists give, the first but for the very first; then they are good.
    list_faults: Mutex<Vec<Fault>>,
    /// After so many blocks each, all tokens are refused that were listed before.
    refuses_after: Option<u64>,
    fetches: Arc<AtomicU64>,
    given: AtomicU64,
    lists: Arc<AtomicU64>,
    generation: AtomicU64,
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        operation: "Made GetBlock".into(),
        kind,
        code: format!("{kind:?}Exception"),
        reason: String::new(),
        message: "as the test wants it".into(),
        status: None,
        request_id: None,
    }
}

impl Fault {
    async fn happens<T>(self) -> Result<T, Failure> {
        match self {
            Self::Of(kind) => Err(failure(kind)),
            Self::Hangs => std::future::pending().await,
        }
    }
}

impl Made {
    fn new() -> Self {
        // Data, a block of zeros, and holes.
        let content = content(BLOCKS as usize * BLOCK);
        let present = (0..BLOCKS).filter(|index| index % 5 != 3 && !(40..60).contains(index));
        let block = |index: u64| (index, content[index as usize * BLOCK..][..BLOCK].to_vec());
        Self { blocks: present.map(block).collect(), page: 7, ..Self::default() }
    }

    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; BLOCKS as usize * BLOCK];
        for (index, block) in &self.blocks {
            image[*index as usize * BLOCK..][..BLOCK].copy_from_slice(block);
        }
        image
    }

    fn has_ended(&self) -> Option<Fault> {
        self.ends.filter(|(after, _)| self.fetches.load(Ordering::Relaxed) >= *after).map(|(_, fault)| fault)
    }
}

impl BlockService for Made {
    /// The block, and when it was listed.
    type Token = (u64, u64);

    const LIST: &'static str = "Made ListBlocks";
    const FETCH: &'static str = "Made GetBlock";

    async fn list(&self, from: ListFrom) -> Result<Page<(u64, u64)>, Failure> {
        let calls = self.lists.fetch_add(1, Ordering::Relaxed);
        assert!(calls < 20_000, "it lists without end");
        if let Some(fault) = self.has_ended() {
            return fault.happens().await;
        }
        let fault = Some(&self.list_faults).filter(|_| calls > 0).and_then(|faults| {
            let mut faults = faults.lock().unwrap();
            (!faults.is_empty()).then(|| faults.remove(0))
        });
        if let Some(fault) = fault {
            return fault.happens().await;
        }
        let (first, was_empty) = match &from {
            ListFrom::Block(first) => (*first, false),
            ListFrom::Page(token) => {
                let (first, kind) = token.split_once(' ').unwrap();
                (first.parse().unwrap(), kind == "empty")
            }
        };
        if self.empty_pages && !was_empty {
            return Ok(Page { blocks: Vec::new(), next: Some(format!("{first} empty")) });
        }
        let generation = self.generation.load(Ordering::Relaxed);
        let mut blocks: Vec<_> = self
            .blocks
            .range(first..)
            .take(self.page)
            .map(|(index, _)| (*index, Listed::Present((*index, generation))))
            .collect();
        let next =
            blocks.last().map(|(last, _)| last + 1).filter(|next| self.blocks.range(next..).next().is_some());
        if self.circle_at.is_some_and(|at| next.is_some_and(|next| next > at)) {
            return Ok(Page { blocks: Vec::new(), next: Some(format!("{first} round")) });
        }
        if self.out_of_order.is_some_and(|index| blocks.iter().any(|(listed, _)| *listed == index)) {
            blocks.reverse();
        }
        Ok(Page { blocks, next: next.map(|next| format!("{next} more")) })
    }

    async fn fetch(&self, index: u64, token: &(u64, u64), room: &mut [u8]) -> Result<Fetched, Failure> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = self.has_ended() {
            return fault.happens().await;
        }
        assert_eq!(token.0, index);
        if token.1 < self.generation.load(Ordering::Relaxed) {
            return Err(failure(FailureKind::Token));
        }
        if let Some(fault) = self.always.get(&index) {
            return fault.happens().await;
        }
        let fault = self
            .faults
            .lock()
            .unwrap()
            .get_mut(&index)
            .filter(|faults| !faults.is_empty())
            .map(|faults| faults.remove(0));
        if let Some(fault) = fault {
            return fault.happens().await;
        }
        let given = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        if self.refuses_after.is_some_and(|after| given.is_multiple_of(after)) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        let block = &self.blocks[&index];
        room.copy_from_slice(block);
        Ok(Fetched { sha256: Some(sha256(block)), ..Fetched::default() })
    }
}

struct MadeCapture {
    _runtime: Runtime,
    source: BlockSource<Made>,
}

impl Capture for MadeCapture {
    fn facts(&self) -> bundle::Source {
        bundle::Source { kind: "made".into(), path: Some("made".into()), ..bundle::Source::default() }
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> acquire::Result<()> {
        streams.blocks("disk", "disk", &mut self.source)
    }

    fn facts_after(&self) -> serde_json::Map<String, serde_json::Value> {
        self.source.counts().facts()
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.tasks = 8;
    limits.window_bytes = 16 * BLOCK;
    limits.tries = 4;
    limits.throttled_tries = 6;
    limits.requests_per_second = 0;
    limits.lists_per_second = 0;
    limits.first_pause = Duration::from_millis(1);
    limits.longest_pause = Duration::from_millis(4);
    limits.attempt = Duration::from_secs(20);
    limits.gone_after = Duration::from_millis(50);
    limits
}

/// Limits with which what hangs is given up soon. A slow machine may give up more than that.
fn hasty() -> Limits {
    let mut limits = limits();
    limits.attempt = Duration::from_millis(500);
    limits
}

fn plan(made: Made, folder: &Path, options: PipelineOptions) -> Acquisition<'static> {
    plan_with(limits(), |source| source, made, folder, options)
}

fn plan_with(
    limits: Limits,
    more: impl FnOnce(BlockSource<Made>) -> BlockSource<Made>,
    made: Made,
    folder: &Path,
    options: PipelineOptions,
) -> Acquisition<'static> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let size = BLOCKS * BLOCK as u64;
    let source = BlockSource::new(made, runtime.handle().clone(), "made", size, BLOCK as u32).limits(limits);
    let source = more(source);
    Acquisition::new(MadeCapture { _runtime: runtime, source }, destination(folder)).options(options)
}

fn acquire_made(made: Made, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| plan(made, folder, options()).run(writer))
}

fn acquire_with(limits: Limits, made: Made, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| plan_with(limits, |source| source, made, folder, options()).run(writer))
}

fn resume_made(made: Made, folder: &Path) -> acquire::Result<Report> {
    with_writer(|writer| plan(made, folder, options()).resume(writer))
}

fn count(report: &Report, name: &str) -> u64 {
    report.facts[name].as_u64().unwrap()
}

fn assert_whole(report: &Report, expected: &Made, folder: &Path) {
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    let (stream, image) = (&report.streams[0], expected.image());
    assert_eq!(stream.sha256, sha256(&image));
    assert_eq!(stream.sha256_data, sha256(&expected.blocks.values().flatten().copied().collect::<Vec<_>>()));
    let is_zero = |block: &&Vec<u8>| block.iter().all(|byte| *byte == 0);
    let zero = (expected.blocks.values().filter(is_zero).count() * BLOCK) as u64;
    assert!(zero > 0);
    assert_eq!(stream.states.of(State::Zero), zero);
    assert_eq!(stream.states.of(State::Absent), (BLOCKS - expected.blocks.len() as u64) * BLOCK as u64);
    let verified = verify::verify(folder, &verify::Options::default()).unwrap();
    assert_eq!(verified.fault_count, 0, "{:?}", verified.faults);
}

#[test]
fn short_and_empty_pages_are_followed_to_the_end() {
    for (page, empty_pages) in [(1, false), (7, true), (1000, false), (1000, true)] {
        let place = tempfile::tempdir().unwrap();
        let report = acquire_made(Made { page, empty_pages, ..Made::new() }, place.path()).unwrap();
        assert_whole(&report, &Made::new(), place.path());
        assert_eq!(count(&report, "blocks_fetched"), Made::new().blocks.len() as u64);
    }
}

#[test]
fn pages_in_a_circle_and_blocks_out_of_order_end_the_acquisition() {
    for (made, words) in [
        (Made { circle_at: Some(30), ..Made::new() }, "circle"),
        (Made { out_of_order: Some(30), ..Made::new() }, "where only"),
        (Made { blocks: [(BLOCKS, vec![1; BLOCK])].into(), page: 9, ..Made::default() }, "where only"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let failed = acquire_made(made, place.path()).unwrap_err().to_string();
        assert!(failed.contains(words), "{failed}");
    }
}

#[test]
fn what_may_pass_is_tried_again_and_each_kind_is_counted() {
    use FailureKind::{Connection, Corrupt, Server, Throttled};
    let mut made = Made::new();
    for (index, kind) in [(0, Throttled), (6, Server), (11, Connection), (20, Corrupt), (95, Throttled)] {
        made.faults.get_mut().unwrap().insert(index, vec![Fault::Of(kind); 3]);
    }
    let place = tempfile::tempdir().unwrap();
    let report = acquire_made(made, place.path()).unwrap();
    assert_whole(&report, &Made::new(), place.path());
    assert_eq!((count(&report, "throttles"), count(&report, "corrupt_answers")), (6, 3));
    assert_eq!(count(&report, "retries"), 15);
}

#[test]
fn what_hangs_is_given_up_in_time_and_tried_again() {
    let mut made = Made::new();
    made.faults.get_mut().unwrap().insert(30, vec![Fault::Hangs]);
    let mut limits = hasty();
    limits.tries = 100;
    let place = tempfile::tempdir().unwrap();
    let report = acquire_with(limits, made, place.path()).unwrap();
    assert_whole(&report, &Made::new(), place.path());
    assert!(count(&report, "retries") >= 1);
}

#[test]
fn a_block_that_fails_for_as_long_as_one_round_of_tries_is_read_in_the_second_when_the_source_can_be_listed()
{
    use FailureKind::{Conflict, Connection, NotFound, Server};
    // Four tries are one round; what is not there is asked for once in the first.
    for (kind, times) in [(Connection, 7), (Server, 5), (Conflict, 7), (NotFound, 3)] {
        let mut made = Made::new();
        for index in [6, 20, 95] {
            made.faults.get_mut().unwrap().insert(index, vec![Fault::Of(kind); times]);
        }
        let place = tempfile::tempdir().unwrap();
        let report = acquire_made(made, place.path()).unwrap();
        assert_whole(&report, &Made::new(), place.path());
    }
}

#[test]
fn one_server_that_does_not_know_the_source_for_a_moment_does_not_cost_the_rest_of_it() {
    let place = tempfile::tempdir().unwrap();
    let list_faults = Mutex::new(vec![Fault::Of(FailureKind::NotFound); 5]);
    let mut limits = limits();
    limits.gone_after = Duration::from_secs(600);
    let report = acquire_with(limits, Made { list_faults, ..Made::new() }, place.path()).unwrap();
    assert_whole(&report, &Made::new(), place.path());
    assert_eq!(count(&report, "retries"), 5);
}

#[test]
fn a_source_that_the_list_has_lost_and_somebody_else_has_not_stops_the_acquisition_and_nothing_is_written_off()
 {
    let place = tempfile::tempdir().unwrap();
    let ends = Some((50, Fault::Of(FailureKind::NotFound)));
    let stopped = with_writer(|writer| {
        let made = Made { ends, ..Made::new() };
        plan_with(limits(), |source| source.still_there(|| Some(true)), made, place.path(), options())
            .run(writer)
    });
    let said = stopped.unwrap_err().to_string();
    assert!(said.contains("nothing of it is written off"), "{said}");
    let report = resume_made(Made::new(), place.path()).unwrap();
    assert_whole(&report, &Made::new(), place.path());
    // Where nobody knows better, the list is believed.
    for answer in [Some(false), None] {
        let place = tempfile::tempdir().unwrap();
        let report = with_writer(|writer| {
            let made = Made { ends, ..Made::new() };
            plan_with(limits(), |source| source.still_there(move || answer), made, place.path(), options())
                .run(writer)
        });
        assert!(report.unwrap().streams[0].states.of(State::Unreadable) > 0);
    }
}

#[test]
fn many_blocks_in_a_row_that_fail_for_one_cause_stop_the_acquisition_and_none_of_them_is_written_off() {
    let from = |first: u64| {
        let bad = Made::new().blocks.into_keys().filter(|index| *index >= first);
        bad.map(|index| (index, Fault::Of(FailureKind::Invalid))).collect::<BTreeMap<_, _>>()
    };
    let mut limits = limits();
    limits.most_unreadable = 10;
    let place = tempfile::tempdir().unwrap();
    // Before and behind the great hole.
    let made = Made { always: from(35), ..Made::new() };
    let stopped = acquire_with(limits, made, place.path()).unwrap_err();
    let Error::Cloud(failure) = &stopped else { panic!("{stopped:?}") };
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(failure.message.contains("10 blocks in a row"), "{failure}");
    let report = resume_made(Made::new(), place.path()).unwrap();
    assert_whole(&report, &Made::new(), place.path());
    // Fewer than that are what they seem.
    let mut nine = from(0);
    nine.retain(|index, _| Made::new().blocks.keys().take(9).any(|first| first == index));
    assert_eq!(nine.len(), 9);
    let place = tempfile::tempdir().unwrap();
    let report = acquire_with(limits, Made { always: nine, ..Made::new() }, place.path()).unwrap();
    assert_eq!(report.streams[0].states.of(State::Unreadable), 9 * BLOCK as u64);
    assert_eq!(report.streams[0].states.total(), BLOCKS * BLOCK as u64);
}

#[test]
fn a_block_that_stays_bad_is_unreadable_and_an_issue_and_its_neighbours_are_not() {
    use FailureKind::{Connection, Corrupt, Invalid, Server};
    // Where it may be the service, in two rounds.
    for (kind, tries) in [(Corrupt, 4), (Invalid, 1), (Connection, 8), (Server, 8)] {
        let place = tempfile::tempdir().unwrap();
        let made = Made { always: [(20, Fault::Of(kind)), (21, Fault::Of(kind))].into(), ..Made::new() };
        let report = acquire_made(made, place.path()).unwrap();
        let [issue] = report.issues.as_slice() else { panic!("{:?}", report.issues) };
        assert_eq!((issue.offset, issue.length), (Some(20 * BLOCK as u64), Some(2 * BLOCK as u64)));
        assert!(issue.what.contains("as the test wants it"), "{}", issue.what);
        let mut image = Made::new().image();
        image[20 * BLOCK..22 * BLOCK].fill(0);
        assert_eq!(report.streams[0].sha256, sha256(&image));
        let bundle = Bundle::open(place.path()).unwrap();
        let extents = bundle.stream("disk").unwrap().extents().to_vec();
        let bad: Vec<_> = extents.iter().filter(|extent| extent.state == State::Unreadable).collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!(bad[0].detail, format!("code={kind:?}Exception tries={tries}"));
    }
}

#[test]
fn what_is_refused_stops_at_once_and_is_not_tried_again() {
    for kind in [FailureKind::Denied, FailureKind::Credentials, FailureKind::Quota] {
        let fetches = Arc::new(AtomicU64::new(0));
        let ends = Some((0, Fault::Of(kind)));
        let place = tempfile::tempdir().unwrap();
        let failed = acquire_made(Made { ends, ..Made::new() }, place.path()).unwrap_err();
        assert!(matches!(&failed, Error::Cloud(failure) if failure.kind == kind), "{failed:?}");
        let made =
            Made { always: [(2, Fault::Of(kind))].into(), fetches: Arc::clone(&fetches), ..Made::new() };
        let place = tempfile::tempdir().unwrap();
        let failed = acquire_made(made, place.path()).unwrap_err();
        assert!(matches!(&failed, Error::Cloud(failure) if failure.kind == kind), "{failed:?}");
        // Those that were on their way already, and no more.
        assert!(fetches.load(Ordering::Relaxed) <= 32, "{fetches:?}");
    }
}

#[test]
fn tokens_that_are_taken_back_are_listed_anew_and_nothing_is_lost() {
    for after in [3, 10, 50] {
        let place = tempfile::tempdir().unwrap();
        let report = acquire_made(Made { refuses_after: Some(after), ..Made::new() }, place.path()).unwrap();
        assert_whole(&report, &Made::new(), place.path());
        assert!(count(&report, "relists") > 0);
    }
}

#[test]
fn tokens_that_are_always_taken_back_end_the_acquisition_with_the_reason() {
    let (fetches, lists) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let made = Made {
        always: Made::new().blocks.keys().map(|index| (*index, Fault::Of(FailureKind::Token))).collect(),
        fetches: Arc::clone(&fetches),
        lists: Arc::clone(&lists),
        ..Made::new()
    };
    let place = tempfile::tempdir().unwrap();
    let result = acquire_made(made, place.path());
    match result {
        Err(Error::Cloud(failure)) => assert!(failure.message.contains("somebody else"), "{failure}"),
        Ok(report) => assert!(report.issue_count > 0, "no block was fetched, and none is missed"),
        Err(other) => panic!("{other:?}"),
    }
    assert!(fetches.load(Ordering::Relaxed) < 5000 && lists.load(Ordering::Relaxed) < 5000);
}

#[test]
fn a_source_that_vanishes_leaves_a_sealed_bundle_whose_rest_is_unreadable() {
    let place = tempfile::tempdir().unwrap();
    let report = acquire_made(
        Made { ends: Some((50, Fault::Of(FailureKind::NotFound))), ..Made::new() },
        place.path(),
    )
    .unwrap();
    let states = report.streams[0].states;
    assert!(states.of(State::Unreadable) > 0 && states.of(State::Data) > 0, "{states:?}");
    assert_eq!(states.total(), BLOCKS * BLOCK as u64);
    let listed: u64 = report.issues.iter().filter_map(|issue| issue.length).sum();
    assert_eq!(listed, states.of(State::Unreadable), "{:?}", report.issues);
    let verified = verify::verify(place.path(), &verify::Options::default()).unwrap();
    assert_eq!(verified.fault_count, 0, "{:?}", verified.faults);
}

#[test]
fn a_service_that_goes_away_stops_the_acquisition_and_it_goes_on_where_it_stopped() {
    for fault in [Fault::Of(FailureKind::Server), Fault::Of(FailureKind::Throttled), Fault::Hangs] {
        let place = tempfile::tempdir().unwrap();
        let limits = if fault == Fault::Hangs { hasty() } else { limits() };
        let made = Made { ends: Some((50, fault)), ..Made::new() };
        let failed = acquire_with(limits, made, place.path()).unwrap_err();
        assert!(matches!(failed, Error::Cloud(_)), "{failed:?}");
        let fetches = Arc::new(AtomicU64::new(0));
        let made = Made { fetches: Arc::clone(&fetches), ..Made::new() };
        let report = resume_made(made, place.path()).unwrap();
        assert_whole(&report, &Made::new(), place.path());
        assert!(count(&report, "blocks_compared") > 0);
        let all = Made::new().blocks.len() as u64;
        assert!(fetches.load(Ordering::Relaxed) < all, "everything was fetched again");
    }
}

#[test]
fn a_source_that_is_another_one_by_now_is_told_by_its_list_and_by_its_bytes() {
    let place = tempfile::tempdir().unwrap();
    let ends = Some((60, Fault::Of(FailureKind::Server)));
    acquire_made(Made { ends, ..Made::new() }, place.path()).unwrap_err();
    let mut other = Made::new();
    other.blocks.insert(3, vec![1; BLOCK]);
    other.blocks.remove(&4);
    for block in other.blocks.values_mut() {
        block[5] ^= 1;
    }
    let report = resume_made(other, place.path()).unwrap();
    let said = |words: &str| report.issues.iter().any(|issue| issue.what.contains(words));
    assert!(
        said("does not have these blocks") && said("though it did not") && said("other bytes"),
        "{:?}",
        report.issues
    );
}

#[test]
fn chunks_may_be_larger_or_smaller_than_blocks() {
    // Blocks of 64 KiB in chunks of 256 KiB; then blocks of 256 KiB in chunks of 64 KiB, also taken up within a block.
    let place = tempfile::tempdir().unwrap();
    let mut large = options();
    large.cut = Cut { chunk_size: 4 * CHUNK as u32, segment_size: 8 * CHUNK as u64 };
    let report = with_writer(|writer| plan(Made::new(), place.path(), large).run(writer)).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&Made::new().image()));
    assert_eq!(
        report.streams[0].states.of(State::Absent),
        (BLOCKS - Made::new().blocks.len() as u64) * BLOCK as u64
    );
    let counts = BlockCounts::default();
    assert_eq!(counts.facts().len(), 9);
    let ends = Some((50, Fault::Of(FailureKind::Server)));
    let place = tempfile::tempdir().unwrap();
    let made = Made { ends, ..Made::new() };
    with_writer(|writer| plan(made, place.path(), large).run(writer)).unwrap_err();
    let report = with_writer(|writer| plan(Made::new(), place.path(), large).resume(writer)).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    assert_eq!(report.streams[0].sha256, sha256(&Made::new().image()));
}
