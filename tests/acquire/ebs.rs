//! EBS snapshots, read from moto: the hashes are those of the same image acquired from a disk.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use acquire::aws::{Connection, Credentials, Settings};
use acquire::ebs::{BaseBundle, EbsSnapshot};
use acquire::sources::disk;
use acquire::{Acquisition, Capture, Error, Progress, Report};
use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ebs::types::ChecksumAlgorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::{Bundle, Overlaid, State};
use custody::{sha256, verify};

use crate::moto::{Moto, moto};
use crate::support::*;

const BLOCK: usize = 512 << 10;
const GIB: usize = 1 << 30;

/// A region of its own for each test: snapshots are listed by it.
pub(crate) fn connection(moto: &Moto, region: &str) -> Connection {
    let settings = Settings {
        region: Some(region.to_owned()),
        credentials: Some(Credentials {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
            session_token: None,
        }),
        endpoint: Some(moto.endpoint.clone()),
        ..Settings::default()
    };
    Connection::open(&settings).unwrap()
}

/// A snapshot of one GiB with these blocks, and no others.
pub(crate) fn snapshot(moto: &Moto, region: &str, blocks: &BTreeMap<usize, Vec<u8>>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = aws_sdk_ebs::Config::builder()
        .behavior_version(aws_sdk_ebs::config::BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(aws_sdk_ebs::config::Region::new(region.to_owned()))
        .credentials_provider(aws_sdk_ebs::config::Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(&moto.endpoint)
        .build();
    let client = aws_sdk_ebs::Client::from_conf(config);
    runtime.block_on(async {
        let started = client.start_snapshot().volume_size(1).send().await.unwrap();
        let id = started.snapshot_id.unwrap();
        for (index, data) in blocks {
            client
                .put_snapshot_block()
                .snapshot_id(&id)
                .block_index(i32::try_from(*index).unwrap())
                .data_length(i32::try_from(data.len()).unwrap())
                .checksum(STANDARD.encode(sha256(data).as_bytes()))
                .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
                .block_data(ByteStream::from(data.clone()))
                .send()
                .await
                .unwrap();
        }
        let count = i32::try_from(blocks.len()).unwrap();
        client.complete_snapshot().snapshot_id(&id).changed_blocks_count(count).send().await.unwrap();
        id
    })
}

fn block(seed: usize) -> Vec<u8> {
    (0..BLOCK / 8).flat_map(|at| ((at * 31 + seed * 7919) as u64).to_le_bytes()).collect()
}

pub(crate) fn some_blocks() -> BTreeMap<usize, Vec<u8>> {
    let last = GIB / BLOCK - 1;
    let mut blocks: BTreeMap<_, _> = (3..20).chain([100, 700, last]).map(|at| (at, block(at))).collect();
    // Written, and all zeros: present, unlike those that are not listed.
    blocks.insert(50, vec![0; BLOCK]);
    blocks
}

pub(crate) fn image(blocks: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
    let mut image = vec![0; GIB];
    for (index, data) in blocks {
        image[index * BLOCK..][..data.len()].copy_from_slice(data);
    }
    image
}

fn acquire(capture: impl Capture + 'static, folder: &std::path::Path) -> acquire::Result<Report> {
    with_writer(|writer| Acquisition::new(capture, destination(folder)).run(writer))
}

#[test]
fn a_snapshot_gives_the_bundle_of_the_same_image_with_absent_and_zero_told_apart() {
    let Some(moto) = moto() else { return };
    let (place, region, blocks) = (tempfile::tempdir().unwrap(), "eu-north-1", some_blocks());
    let id = snapshot(moto, region, &blocks);
    let folder = place.path().join("ebs");
    let report = acquire(EbsSnapshot::open(&connection(moto, region), &id).unwrap(), &folder).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);

    let image_file = place.path().join("image.raw");
    fs::write(&image_file, image(&blocks)).unwrap();
    let disk = disk::open(&image_file).unwrap();
    let disk = acquire(acquire::sources::disk::DiskCapture::new(disk), &place.path().join("disk")).unwrap();
    let (of_snapshot, of_disk) = (&report.streams[0], &disk.streams[0]);
    assert_eq!(of_snapshot.sha256, of_disk.sha256);
    assert_eq!(of_snapshot.chunk_root, of_disk.chunk_root);

    let present = blocks.len() * BLOCK;
    let states = of_snapshot.states;
    assert_eq!(states.of(State::Data), (present - BLOCK) as u64);
    assert_eq!(states.of(State::Zero), BLOCK as u64);
    assert_eq!(states.of(State::Absent), (GIB - present) as u64);
    let present: Vec<u8> = blocks.values().flatten().copied().collect();
    assert_eq!(of_snapshot.sha256_data, sha256(&present));

    let verified = verify::verify(&folder, &verify::Options::default()).unwrap();
    assert_eq!(verified.fault_count, 0, "{:?}", verified.faults);
    let facts = Bundle::open(&folder).unwrap().manifest().source.clone();
    assert_eq!((facts.kind.as_str(), facts.path.as_deref()), ("ebs", Some(id.as_str())));
    assert_eq!(facts.more["blocks_fetched"], blocks.len());
}

/// Asks for a pause once so much is stored.
struct PausesAt {
    left: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Progress for PausesAt {
    fn advanced(&self, bytes: u64) {
        if self.left.fetch_sub(bytes, Ordering::Relaxed) <= bytes {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_snapshot_that_was_paused_goes_on_and_ends_in_the_same_bundle() {
    let Some(moto) = moto() else { return };
    let (place, region, blocks) = (tempfile::tempdir().unwrap(), "eu-south-1", some_blocks());
    let id = snapshot(moto, region, &blocks);
    let folder = place.path().join("ebs");
    let open = || EbsSnapshot::open(&connection(moto, region), &id).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let progress = PausesAt { left: AtomicU64::new(300 << 20), stop: Arc::clone(&stop) };
    let paused = with_writer(|writer| {
        Acquisition::new(open(), destination(&folder)).progress(&progress).stop_when(stop).run(writer)
    });
    assert!(matches!(paused, Err(Error::Paused)), "{paused:?}");
    let report = with_writer(|writer| Acquisition::new(open(), destination(&folder)).resume(writer)).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    assert_eq!(report.streams[0].sha256, sha256(&image(&blocks)));
    assert_eq!(report.streams[0].states.of(State::Absent), (GIB - blocks.len() * BLOCK) as u64);
    let another = snapshot(moto, region, &BTreeMap::new());
    let other = EbsSnapshot::open(&connection(moto, region), &another).unwrap();
    let refused = with_writer(|writer| Acquisition::new(other, destination(&folder)).resume(writer));
    assert!(matches!(refused, Err(Error::NotResumable { .. })), "{refused:?}");
}

#[test]
fn only_what_changed_is_read_and_with_its_base_it_is_the_whole() {
    let Some(moto) = moto() else { return };
    let (place, region, blocks) = (tempfile::tempdir().unwrap(), "eu-west-2", some_blocks());
    let mut later = blocks.clone();
    later.insert(4, block(4444));
    later.insert(900, block(900));
    later.remove(&100);
    let (first, second) = (snapshot(moto, region, &blocks), snapshot(moto, region, &later));
    let connection = connection(moto, region);
    let (base, folder) = (place.path().join("base"), place.path().join("changes"));
    acquire(EbsSnapshot::open(&connection, &first).unwrap(), &base).unwrap();
    let base = Bundle::open(&base).unwrap();
    let stream = Overlaid::new(base.stream("disk").unwrap());
    let stored = BaseBundle { bundle: &base, stream: stream.clone() };
    let capture = EbsSnapshot::open_since(&connection, &second, &first, Some(stored)).unwrap();
    let report = acquire(capture, &folder).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    let states = report.streams[0].states;
    assert_eq!(states.of(State::Data), 2 * BLOCK as u64);
    assert_eq!(states.of(State::Absent), BLOCK as u64, "what the base has and this has no more");
    assert_eq!(states.of(State::Base), (GIB - 3 * BLOCK) as u64);
    assert_eq!(report.streams[0].full_sha256, Some(sha256(&image(&later))));
    assert_eq!(report.facts["blocks_fetched"], 2);
    let bundle = Bundle::open(&folder).unwrap();
    let named = bundle.manifest().base.clone().unwrap();
    assert_eq!((named.snapshot, named.manifest_sha256), (first.clone(), Some(base.manifest_sha256())));
    let whole = Overlaid::new(bundle.stream("disk").unwrap()).over(stream).unwrap();
    let mut changed = vec![0; BLOCK];
    whole.read_exact_at(4 * BLOCK as u64, &mut changed).unwrap();
    assert_eq!(changed, later[&4]);
    whole.read_exact_at(5 * BLOCK as u64, &mut changed).unwrap();
    assert_eq!(changed, later[&5]);
    let verified = verify::verify(&folder, &verify::Options::default()).unwrap();
    assert_eq!(verified.fault_count, 0, "{:?}", verified.faults);
    assert!(verified.notes.iter().any(|note| note.contains(&first)), "{:?}", verified.notes);
}

#[test]
fn an_estimate_counts_blocks_and_money_and_reads_nothing_but_a_try() {
    let Some(moto) = moto() else { return };
    let (region, blocks) = ("eu-west-3", some_blocks());
    let id = snapshot(moto, region, &blocks);
    let estimate = EbsSnapshot::open(&connection(moto, region), &id).unwrap().estimate().unwrap();
    assert_eq!((estimate.blocks, estimate.volume_bytes), (blocks.len() as u64, GIB as u64));
    assert_eq!(estimate.nano_dollars, 3000 * blocks.len() as u64 + 600 * estimate.list_calls);
    assert!(matches!(estimate.trial, Some(acquire::ebs::Trial::Read)), "{:?}", estimate.trial);
}

#[test]
fn the_sheet_says_why_another_image_may_have_another_hash_and_its_recipe_holds() {
    let Some(moto) = moto() else { return };
    let (place, region, blocks) = (tempfile::tempdir().unwrap(), "ap-south-1", some_blocks());
    let id = snapshot(moto, region, &blocks);
    let folder = place.path().join("ebs");
    let capture = EbsSnapshot::open(&connection(moto, region), &id).unwrap().encrypted(Some(true));
    let report = acquire(capture, &folder).unwrap();
    let sheet = fs::read_to_string(folder.join("VERIFY.md")).unwrap();
    let (_, section) = sheet.split_once("## 5.").unwrap();
    assert!(section.contains("decrypts zeros that nobody encrypted"), "{section}");
    // The restored volume: noise where nothing was written.
    let mut restored: Vec<u8> = (0..GIB).map(|at| ((at * 2_654_435_761) >> 13) as u8).collect();
    for (index, data) in &blocks {
        restored[index * BLOCK..][..BLOCK].copy_from_slice(data);
    }
    fs::write(folder.join("OTHER"), restored).unwrap();
    let recipe = section.split("```").nth(1).unwrap();
    let output =
        std::process::Command::new("bash").args(["-c", recipe]).current_dir(&folder).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.split_whitespace().next(), Some(report.streams[0].sha256_data.to_string().as_str()));
    assert!(section.contains(&report.streams[0].sha256_data.to_string()));
}
