//! EBS's direct APIs when something goes wrong: each fault has its behaviour, its message, and its end.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use acquire::aws::{Connection, Credentials, FailureKind};
use acquire::blocks::Limits;
use acquire::ebs::{EbsSnapshot, Trial};
use acquire::{Acquisition, Error, Report};
use custody::Digest;
use custody::bundle::{Bundle, State, Stream};
use custody::sha256;

use crate::fault_server::{BLOCK, Counts, Fault, FaultServer, Operation, Plan, Rule, Settings, Snapshot};
use crate::support::{content, destination, with_writer};

const ID: &str = "snap-0123456789abcdef0";
const BASE: &str = "snap-0fedcba9876543210";
const SECRET: &str = "kXaMpLeSeCrEtKeY0123456789";

/// Blocks of the disk's image; each fifth of them was never written.
const BLOCKS: u32 = 60;

fn is_present(index: u32) -> bool {
    index % 5 != 4
}

const PRESENT: u64 = 48;

fn snapshot() -> Snapshot {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let mut image = content(BLOCKS as usize * BLOCK);
        image[BLOCK * 10..BLOCK * 14].fill(0);
        image
    });
    Snapshot::of_image(ID, image.clone(), is_present)
}

/// The hash of the disk, which is the same in all tests.
fn expected() -> Digest {
    static HASH: OnceLock<Digest> = OnceLock::new();
    *HASH.get_or_init(|| sha256(&snapshot().disk()))
}

/// Limits with which a test does not wait.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.requests_per_second = 0;
    limits.lists_per_second = 0;
    limits.first_pause = Duration::from_millis(1);
    limits.longest_pause = Duration::from_millis(20);
    limits.attempt = Duration::from_secs(20);
    limits.gone_after = Duration::from_millis(50);
    limits
}

/// What came of an acquisition from a server.
struct Ran {
    result: acquire::Result<Report>,
    counts: Counts,
    folder: tempfile::TempDir,
}

fn connect(server: &FaultServer) -> Connection {
    Connection::open(&acquire::aws::Settings {
        region: Some("eu-central-1".into()),
        endpoint: Some(server.endpoint()),
        credentials: Some(Credentials {
            access_key_id: "AKIASAMPLE".into(),
            secret_access_key: SECRET.into(),
            session_token: None,
        }),
        ..Default::default()
    })
    .unwrap()
}

fn acquire_from(server: &FaultServer, limits: Limits, base: Option<&str>) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(server);
    let opened = match base {
        None => EbsSnapshot::open(&connection, ID),
        Some(base) => EbsSnapshot::open_since(&connection, ID, base, None),
    };
    let result = opened.and_then(|snapshot| {
        let plan = Acquisition::new(snapshot.limits(limits), destination(folder.path()));
        with_writer(|writer| plan.run(writer))
    });
    Ran { result, counts: server.counts(), folder }
}

fn run(plan: impl Into<Plan>) -> Ran {
    run_with(plan, limits())
}

fn run_with(plan: impl Into<Plan>, limits: Limits) -> Ran {
    acquire_from(&FaultServer::start(vec![snapshot()], plan.into()), limits, None)
}

impl Ran {
    /// It went through, and the bundle holds the disk, byte for byte, without an issue.
    fn is_whole(&self) -> &Counts {
        let report = self.result.as_ref().unwrap();
        assert_eq!(report.issue_count, 0, "{:?}", report.issues);
        let stream = &report.streams[0];
        assert_eq!(stream.sha256, expected());
        let bytes = |state| stream.states.of(state) / BLOCK as u64;
        assert_eq!(bytes(State::Data) + bytes(State::Zero), PRESENT);
        assert_eq!(bytes(State::Absent), 2048 - PRESENT);
        Bundle::open(self.folder.path()).unwrap();
        self.keeps_secrets();
        &self.counts
    }

    fn stream(&self) -> &Stream {
        &self.result.as_ref().unwrap().streams[0]
    }

    /// It ended, and says why.
    fn fails_as(&self, kind: FailureKind, words: &[&str]) -> &Counts {
        let error = self.result.as_ref().unwrap_err();
        let Error::Cloud(failure) = error else { panic!("{error:?}") };
        assert_eq!(failure.kind, kind, "{error:?}");
        let said = chain(error);
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        self.keeps_secrets();
        &self.counts
    }

    /// Neither the bundle nor the words hold what requests were signed with.
    fn keeps_secrets(&self) {
        let said = match &self.result {
            Ok(report) => format!("{report:?}"),
            Err(error) => format!("{error:?} {}", chain(error)),
        };
        assert!(!said.contains(SECRET) && !said.contains("Signature="), "{said}");
        nothing_holds(self.folder.path(), SECRET.as_bytes());
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words = format!("{words}: {error}");
        next = error.source();
    }
    words
}

fn nothing_holds(folder: &Path, secret: &[u8]) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            nothing_holds(&path, secret);
        } else if path.extension().is_none_or(|end| end != "zst") {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{path:?}");
        }
    }
}

fn on_lists(fault: Fault) -> Rule {
    Rule::on(Operation::ListBlocks, fault)
}

fn on_gets(fault: Fault) -> Rule {
    Rule::on(Operation::GetBlock, fault)
}

#[test]
fn a_server_without_faults_is_asked_once_for_each_block_it_lists() {
    let ran = run(Plan::default());
    let counts = ran.is_whole();
    assert_eq!(counts.of(Operation::GetBlock), PRESENT);
    assert_eq!(counts.blocks, PRESENT);
    assert!(counts.of(Operation::ListBlocks) <= 2, "{counts:?}");
}

#[test]
fn every_fault_that_passes_is_survived_and_asked_for_once_more_only() {
    let mut faults = Fault::throttles();
    faults.extend([
        Fault::Error(500, "InternalServerException", ""),
        Fault::Error(502, "BadGateway", ""),
        Fault::Error(504, "GatewayTimeout", ""),
        Fault::WrongChecksum,
        Fault::WrongBytes,
        Fault::NoChecksum,
        Fault::OtherAlgorithm,
        Fault::Truncated,
        Fault::Short,
        Fault::Longer,
        Fault::Garbage,
        Fault::Reset,
        Fault::Trickle { bytes: 64 << 10, every: Duration::from_millis(5) },
    ]);
    let present: Vec<u32> = (0..BLOCKS).filter(|index| is_present(*index)).collect();
    let rules = present.iter().zip(&faults).map(|(index, fault)| Rule::block(*index, fault.clone()).times(1));
    let ran = run(rules.collect::<Vec<_>>());
    let counts = ran.is_whole();
    for (index, fault) in present.iter().zip(&faults) {
        assert_eq!(counts.shown(&fault.name()), 1, "{fault:?}");
        let asked = if matches!(fault, Fault::Trickle { .. }) { 1 } else { 2 };
        assert_eq!(counts.of_blocks[index], asked, "{fault:?}");
    }
    for index in &present[faults.len()..] {
        assert_eq!(counts.of_blocks[index], 1);
    }
}

#[test]
fn lists_that_fail_once_are_asked_for_again() {
    let mut faults = Fault::throttles();
    faults.extend([
        Fault::Error(500, "InternalServerException", ""),
        Fault::Garbage,
        Fault::Reset,
        Fault::Descending,
        Fault::Duplicate,
        Fault::OutOfRange,
        Fault::Negative,
        Fault::NoToken,
    ]);
    // One after the other, with good pages of two blocks between.
    let rules = (1..).zip(&faults).map(|(number, fault)| on_lists(fault.clone()).after(number).times(1));
    let settings = Settings { page: 2, ..Settings::default() };
    let ran = run(Plan { settings, rules: rules.collect() });
    let counts = ran.is_whole();
    for fault in &faults {
        assert_eq!(counts.shown(&fault.name()), 1, "{fault:?}");
    }
    // A first look, 24 pages, and each fault asked for again.
    assert_eq!(counts.of(Operation::ListBlocks), 25 + faults.len() as u64);
    assert_eq!(counts.of(Operation::GetBlock), PRESENT);
    // The first look, at which the size of the volume is learnt, is tried again too.
    let first = vec![on_lists(Fault::throttled("ACCOUNT_THROTTLED")).times(1)];
    assert_eq!(run(first).is_whole().of(Operation::ListBlocks), 3);
}

#[test]
fn a_hung_connection_and_a_body_that_trickles_are_given_up_in_time_and_asked_for_again() {
    let trickle = Fault::Trickle { bytes: 1, every: Duration::from_millis(50) };
    let rules = vec![
        Rule::block(0, Fault::Hang).times(1),
        Rule::block(1, trickle).times(1),
        on_lists(Fault::Hang).times(1),
    ];
    let mut limits = limits();
    limits.attempt = Duration::from_secs(10);
    let ran = run_with(rules, limits);
    let counts = ran.is_whole();
    assert!(counts.of_blocks[&0] >= 2 && counts.of_blocks[&1] >= 2, "{counts:?}");
}

#[test]
fn blocks_that_never_come_right_are_unreadable_by_name_and_the_rest_is_there() {
    let faults = [
        Fault::WrongChecksum,
        Fault::WrongBytes,
        Fault::NoChecksum,
        Fault::OtherAlgorithm,
        Fault::Truncated,
        Fault::Short,
        Fault::Longer,
        Fault::Garbage,
        Fault::Error(500, "InternalServerException", ""),
        Fault::Reset,
        Fault::Error(400, "ValidationException", "INVALID_BLOCK"),
    ];
    // None of them beside another.
    let bad: Vec<u32> = (0..BLOCKS).filter(|index| is_present(*index) && index % 5 % 2 == 1).collect();
    let rules = bad.iter().zip(&faults).map(|(index, fault)| Rule::block(*index, fault.clone())).collect();
    let mut limits = limits();
    limits.tries = 3;
    let settings = Settings::default();
    let ran = run_with(Plan { settings, rules }, limits);
    let report = ran.result.as_ref().unwrap();
    assert_eq!(report.issue_count, faults.len() as u64, "{:?}", report.issues);
    let mut disk = snapshot().disk();
    for ((&index, fault), issue) in bad.iter().zip(&faults).zip(&report.issues) {
        let at = index as usize * BLOCK;
        assert_eq!((issue.offset, issue.length), (Some(at as u64), Some(BLOCK as u64)), "{issue:?}");
        assert!(issue.what.contains("unreadable after"), "{fault:?}: {issue:?}");
        let word = match fault {
            Fault::WrongChecksum | Fault::WrongBytes => "was announced",
            Fault::NoChecksum | Fault::OtherAlgorithm => "SHA-256",
            Fault::Short | Fault::Longer | Fault::Garbage => "bytes",
            Fault::Error(_, code, _) => code,
            _ => "GetSnapshotBlock",
        };
        assert!(issue.what.contains(word), "{fault:?}: {issue:?}");
        let tries = match fault {
            Fault::Error(400, ..) => 1,
            // It may be the service: once the snapshot could be listed, it is asked for as often again.
            Fault::Truncated | Fault::Error(..) | Fault::Reset => 6,
            _ => 3,
        };
        assert_eq!(ran.counts.of_blocks[&index], tries, "{fault:?}");
        disk[at..at + BLOCK].fill(0);
    }
    let stream = ran.stream();
    assert_eq!(stream.states.of(State::Unreadable), (faults.len() * BLOCK) as u64);
    assert_eq!(stream.sha256, sha256(&disk));
    ran.keeps_secrets();
}

#[test]
fn a_list_that_never_comes_right_ends_the_acquisition_with_the_reason() {
    for (fault, words) in [
        (Fault::Garbage, "ListSnapshotBlocks"),
        (Fault::Error(500, "InternalServerException", ""), "InternalServerException"),
        (Fault::Reset, "ListSnapshotBlocks"),
        (Fault::Descending, "it lists block"),
        (Fault::Duplicate, "it lists block"),
        (Fault::OutOfRange, "it lists block"),
        (Fault::Cycle, "ListSnapshotBlocks"),
        (Fault::EmptyPage, "round in a circle"),
        (Fault::EndlessPages, "empty for too long"),
        (Fault::OtherBlockSize(512), "512"),
        (Fault::OtherBlockSize(0), "0"),
        (Fault::OtherBlockSize(1 << 60), "out of range"),
    ] {
        let mut limits = limits();
        limits.tries = 3;
        let settings = Settings { page: 20, ..Settings::default() };
        // A size that cannot be is seen at once; the rest comes when the list is read.
        let skip = if matches!(fault, Fault::OtherBlockSize(_)) { 0 } else { 2 };
        let rules = vec![on_lists(fault.clone()).after(skip)];
        let ran = run_with(Plan { settings, rules }, limits);
        let said = chain(ran.result.as_ref().unwrap_err());
        assert!(said.contains(words) && said.contains("ListSnapshotBlocks"), "{fault:?}: {said}");
        assert!(ran.counts.of(Operation::ListBlocks) < 11_000);
        ran.keeps_secrets();
    }
}

#[test]
fn a_refusal_is_asked_once_and_says_which_permission_is_missing_on_what() {
    for code in ["AccessDeniedException", "UnauthorizedOperation"] {
        let ran = run(vec![on_lists(Fault::Error(403, code, "UNAUTHORIZED_ACCOUNT"))]);
        let counts = ran.fails_as(FailureKind::Denied, &["ebs:ListSnapshotBlocks", ID]);
        assert_eq!((counts.of(Operation::ListBlocks), counts.of(Operation::GetBlock)), (1, 0));
        let ran = run(vec![on_gets(Fault::Error(403, code, "UNAUTHORIZED_ACCOUNT"))]);
        let counts = ran.fails_as(FailureKind::Denied, &["ebs:GetSnapshotBlock", ID]);
        // What was on its way already is answered alike, but nothing is asked a second time.
        assert!(counts.of_blocks.values().all(|&asked| asked == 1), "{counts:?}");
        let mut one = limits();
        (one.tasks, one.most_tasks) = (1, 1);
        let ran = run_with(vec![on_gets(Fault::Error(403, code, "UNAUTHORIZED_ACCOUNT"))], one);
        assert_eq!(ran.fails_as(FailureKind::Denied, &[]).of(Operation::GetBlock), 1);
    }
}

#[test]
fn a_refusal_of_the_key_names_the_permission_on_the_key() {
    let denied = || Fault::Error(403, "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED");
    for rule in [on_lists(denied()), on_gets(denied()), on_gets(denied()).after(20)] {
        let ran = run(vec![rule]);
        let counts = ran.fails_as(FailureKind::Denied, &["kms:Decrypt", ID]);
        assert!(counts.of_blocks.values().all(|&asked| asked == 1), "{counts:?}");
        assert!(counts.of(Operation::ListBlocks) <= 2, "{counts:?}");
    }
}

#[test]
fn a_key_that_cannot_be_used_stops_it_at_once_and_no_block_is_called_unreadable() {
    for (status, code, reason) in [
        (400, "ValidationException", "INVALID_CUSTOMER_KEY"),
        (400, "ValidationException", "INVALID_DEPENDENCY_REQUEST"),
        (400, "ValidationException", "INVALID_GRANT_TOKEN"),
        (404, "ResourceNotFoundException", "DEPENDENCY_RESOURCE_NOT_FOUND"),
    ] {
        let ran = run(vec![on_gets(Fault::Error(status, code, reason)).after(20)]);
        let counts = ran.fails_as(FailureKind::Denied, &["the key of the encrypted snapshot", ID]);
        assert!(counts.of_blocks.values().all(|&asked| asked == 1), "{reason}: {counts:?}");
    }
}

#[test]
fn an_estimate_says_whether_a_block_was_read_and_does_not_take_none_for_one() {
    let tried = |rules: Vec<Rule>, snapshot: Snapshot| {
        let server = FaultServer::start(vec![snapshot], rules.into());
        let opened = EbsSnapshot::open(&connect(&server), ID).unwrap();
        opened.limits(limits()).estimate().unwrap().trial.unwrap()
    };
    let denied = || Fault::Error(403, "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED");
    assert!(matches!(tried(vec![], snapshot()), Trial::Read));
    // What passes is no answer.
    let passes = vec![
        on_gets(Fault::throttled("ACCOUNT_THROTTLED")).times(2),
        on_lists(Fault::Reset).after(2).times(1),
    ];
    assert!(matches!(tried(passes, snapshot()), Trial::Read));
    let unreadable = tried(vec![on_gets(denied())], snapshot());
    assert!(
        matches!(&unreadable, Trial::Unreadable(why) if why.message.contains("kms:Decrypt")),
        "{unreadable:?}"
    );
    // The first look and the count are had, and the list that the block would be tried with is not.
    let not_tried = tried(vec![on_lists(denied()).after(2)], snapshot());
    assert!(matches!(&not_tried, Trial::NotTried(why) if why.kind == FailureKind::Denied), "{not_tried:?}");
    let empty = Snapshot::of_image(ID, vec![0; BLOCK], |_| false);
    assert!(matches!(tried(vec![], empty), Trial::NoneListed));
}

#[test]
fn what_waiting_does_not_lift_is_not_waited_for() {
    let quota = Fault::Error(402, "ServiceQuotaExceededException", "DEPENDENCY_SERVICE_QUOTA_EXCEEDED");
    let ran = run(vec![on_gets(quota)]);
    let counts = ran.fails_as(FailureKind::Quota, &["ServiceQuotaExceededException"]);
    assert!(counts.of_blocks.values().all(|&asked| asked == 1), "{counts:?}");
    let ran = run(vec![on_gets(Fault::Error(400, "ExpiredTokenException", ""))]);
    let counts = ran.fails_as(FailureKind::Credentials, &["ExpiredTokenException"]);
    assert!(counts.of_blocks.values().all(|&asked| asked == 1), "{counts:?}");
}

#[test]
fn throttling_that_never_ends_ends_the_acquisition_which_can_go_on_later() {
    for fault in Fault::throttles() {
        let mut limits = limits();
        limits.throttled_tries = 5;
        let name = fault.name();
        let ran = run_with(vec![on_gets(fault)], limits);
        let counts = ran.fails_as(FailureKind::Throttled, &[]);
        assert!(counts.of_blocks.values().all(|&asked| asked <= 5), "{name}: {counts:?}");
    }
}

#[test]
fn a_rate_that_the_server_holds_to_slows_the_acquisition_and_loses_nothing() {
    let settings = Settings { rate: 20, latency: Duration::from_millis(2), ..Settings::default() };
    let mut limits = limits();
    limits.longest_pause = Duration::from_millis(200);
    limits.throttled_tries = 1000;
    let ran = run_with(Plan { settings, rules: vec![] }, limits);
    let counts = ran.is_whole();
    assert!(counts.over_rate > 0, "{counts:?}");
    assert_eq!(counts.blocks, PRESENT);
    // Held to the rate of the account by itself, it is never refused.
    let settings = Settings { rate: 2000, latency: Duration::from_millis(2), ..Settings::default() };
    let mut limits = crate::ebs_faults::limits();
    limits.requests_per_second = 60;
    let ran = run_with(Plan { settings, rules: vec![] }, limits);
    assert_eq!(ran.is_whole().over_rate, 0);
}

#[test]
fn no_more_is_asked_for_at_a_time_than_allowed() {
    let settings = Settings { latency: Duration::from_millis(20), ..Settings::default() };
    let mut limits = limits();
    (limits.tasks, limits.most_tasks) = (2, 6);
    let ran = run_with(Plan { settings, rules: vec![] }, limits);
    let counts = ran.is_whole();
    assert!((2..=7).contains(&counts.most_at_once), "{counts:?}");
}

#[test]
fn empty_and_short_pages_are_followed_to_the_end() {
    let settings = || Settings { page: 7, ..Settings::default() };
    let rules = vec![
        on_lists(Fault::EmptyPage).after(1).times(1),
        on_lists(Fault::ShortPage(1)).after(1).times(2),
        on_lists(Fault::EndlessPages).after(2).times(5),
    ];
    run(Plan { settings: settings(), rules }).is_whole();
    run(Plan { settings: settings(), rules: vec![on_lists(Fault::ShortPage(1))] }).is_whole();
}

#[test]
fn a_page_token_that_is_no_longer_good_is_followed_by_a_list_from_that_block_on() {
    let settings = Settings { page: 10, ..Settings::default() };
    let expired = Fault::Error(400, "ValidationException", "INVALID_PAGE_TOKEN");
    let rules = vec![on_lists(expired.clone()).after(2).times(1), on_lists(expired).after(3).times(2)];
    let ran = run(Plan { settings, rules });
    let counts = ran.is_whole();
    assert_eq!(counts.shown("INVALID_PAGE_TOKEN"), 3);
    assert_eq!(counts.of(Operation::GetBlock), PRESENT, "no block is asked for twice");
}

#[test]
fn tokens_that_end_or_that_a_second_list_takes_back_are_listed_anew() {
    let settings = Settings { block_token_gets: 12, page: 10, ..Settings::default() };
    let counts = run(Plan { settings, rules: vec![] }).is_whole().clone();
    assert_eq!(counts.blocks, PRESENT);
    for times in [1, 3] {
        let settings = Settings { newest_list_only: true, ..Settings::default() };
        let rules = vec![on_gets(Fault::SecondLister).after(5).times(times)];
        let counts = run(Plan { settings, rules }).is_whole().clone();
        assert_eq!(counts.shown("SecondLister"), times);
        assert_eq!(counts.blocks, PRESENT);
    }
}

#[test]
fn tokens_that_are_always_refused_end_the_acquisition() {
    let settings = Settings { newest_list_only: true, ..Settings::default() };
    let ran = run(Plan { settings, rules: vec![on_gets(Fault::SecondLister)] });
    ran.fails_as(FailureKind::Token, &["somebody else"]);
    assert!(ran.counts.of(Operation::ListBlocks) < 200, "{:?}", ran.counts);
    let settings = Settings { page: 10, ..Settings::default() };
    let expired = Fault::Error(400, "ValidationException", "INVALID_PAGE_TOKEN");
    let ran = run(Plan { settings, rules: vec![on_lists(expired).after(1)] });
    ran.fails_as(FailureKind::Token, &["INVALID_PAGE_TOKEN"]);
    assert!(ran.counts.of(Operation::ListBlocks) < 200, "{:?}", ran.counts);
}

#[test]
fn a_snapshot_that_vanishes_leaves_what_was_read_and_the_rest_unreadable_by_name() {
    let gone = || Fault::Error(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND");
    let mut limits = limits();
    (limits.tasks, limits.most_tasks) = (1, 1);
    // The first look and the list are had; whoever asks again learns that it is gone, of EC2 too.
    let of_ec2 = Rule::on(Operation::Other, gone());
    let ran = run_with(vec![on_gets(gone()).after(20), on_lists(gone()).after(2), of_ec2], limits);
    let report = ran.result.as_ref().unwrap();
    let stream = ran.stream();
    let unreadable = stream.states.of(State::Unreadable);
    assert!(unreadable > 0, "{stream:?}");
    let named: u64 = report.issues.iter().filter_map(|issue| issue.length).sum();
    assert_eq!(named, unreadable, "{:?}", report.issues);
    assert!(report.issues.iter().any(|issue| issue.what.contains("no more")), "{:?}", report.issues);
    let disk = snapshot().disk();
    let bundle = Bundle::open(ran.folder.path()).unwrap();
    let reader = bundle.stream(&stream.name).unwrap();
    let mut first = vec![0; 20 * BLOCK];
    reader.read_exact_at(0, &mut first).unwrap();
    let differs = (0..20).filter(|n| first[n * BLOCK..][..BLOCK] != disk[n * BLOCK..][..BLOCK]);
    assert_eq!(differs.collect::<Vec<_>>(), Vec::<usize>::new(), "{:?}", report.issues);
}

#[test]
fn a_snapshot_that_the_list_has_lost_and_ec2_still_has_is_not_written_off() {
    let gone = || Fault::Error(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND");
    let mut limits = limits();
    (limits.tasks, limits.most_tasks) = (1, 1);
    let rules = vec![on_gets(gone()).after(20), on_lists(gone()).after(2)];
    let ran = run_with(rules, limits);
    ran.fails_as(FailureKind::NotFound, &["nothing of it is written off"]);
    // It goes on where it was.
    let server = FaultServer::start(vec![snapshot()], Plan::default());
    let opened = EbsSnapshot::open(&connect(&server), ID).unwrap().limits(limits);
    let plan = Acquisition::new(opened, destination(ran.folder.path()));
    let report = with_writer(|writer| plan.resume(writer)).unwrap();
    assert_eq!((report.issue_count, report.streams[0].sha256), (0, expected()), "{:?}", report.issues);
}

#[test]
fn a_snapshot_that_is_not_there_is_said_to_be_so() {
    let server = FaultServer::start(vec![snapshot().of_volume("vol-other")], Plan::default());
    let ran = acquire_from(&server, limits(), Some("snap-00000000000000000"));
    ran.fails_as(FailureKind::NotFound, &["snap-00000000000000000"]);
}

#[test]
fn only_what_changed_since_the_base_is_read_and_the_rest_is_said_to_be_the_bases() {
    let (mut before, after) = (content(BLOCKS as usize * BLOCK), content(BLOCKS as usize * BLOCK));
    before[3 * BLOCK] ^= 1;
    before[20 * BLOCK + 5] ^= 1;
    let base = Snapshot::of_image(BASE, before, |index| index != 8);
    let newer = Snapshot::of_image(ID, after.clone(), |index| index != 30);
    let settings = Settings { page: 2, ..Settings::default() };
    let server = FaultServer::start(vec![base, newer], Plan { settings, rules: vec![] });
    let ran = acquire_from(&server, limits(), Some(BASE));
    let report = ran.result.as_ref().unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    let states = &ran.stream().states;
    let blocks = |state| states.of(state) / BLOCK as u64;
    // Two were changed, one is new, and one is there no more.
    assert_eq!((blocks(State::Data) + blocks(State::Zero), blocks(State::Absent)), (3, 1), "{states:?}");
    assert_eq!(blocks(State::Base), 2048 - 4);
    let bundle = Bundle::open(ran.folder.path()).unwrap();
    let reader = bundle.stream(&ran.stream().name).unwrap();
    for index in [3usize, 8, 20] {
        let mut block = vec![0; BLOCK];
        reader.read_exact_at((index * BLOCK) as u64, &mut block).unwrap();
        assert!(block == after[index * BLOCK..][..BLOCK], "{index}");
    }
}

#[test]
fn snapshots_of_two_volumes_are_not_compared() {
    let other = Snapshot::of_image(BASE, vec![1; BLOCK], |_| true).of_volume("vol-0000000000000000f");
    let server = FaultServer::start(vec![snapshot(), other], Plan::default());
    let ran = acquire_from(&server, limits(), Some(BASE));
    ran.fails_as(FailureKind::Invalid, &["UNRELATED_SNAPSHOTS"]);
    assert_eq!(ran.counts.of(Operation::GetBlock), 0);
}
