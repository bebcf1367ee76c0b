//! EBS snapshots, read from moto: the hashes are those of the same image acquired from a disk.

use std::collections::BTreeMap;
use std::fs;

use acquire::aws::{Connection, Credentials, Settings};
use acquire::ebs::EbsSnapshot;
use acquire::sources::disk;
use acquire::{Acquisition, Capture, Report};
use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ebs::types::ChecksumAlgorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::{Bundle, State};
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
