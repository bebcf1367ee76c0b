//! Partition tables made by hand and by `sfdisk`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;

use super::made_images::find as find_tool;
use super::{Volume, find};

const MIB: usize = 1 << 20;

/// One entry of an MBR: type, first sector, sectors.
fn put_entry(disk: &mut [u8], sector: usize, n: usize, kind: u8, start: u32, count: u32) {
    let at = sector * 512 + 446 + n * 16;
    disk[at + 4] = kind;
    disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xAA]);
}

fn places(volumes: &[Volume]) -> Vec<(String, u64, u64)> {
    volumes.iter().map(|v| (v.label.clone(), v.start / 512, v.length / 512)).collect()
}

fn sfdisk(size: usize, script: &str) -> Option<Vec<u8>> {
    let tool = find_tool("sfdisk")?;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size as u64).unwrap();
    let mut ran = Command::new(tool)
        .arg("-q")
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    ran.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(ran.wait().unwrap().success());
    Some(std::fs::read(file.path()).unwrap())
}

#[test]
fn a_disk_without_a_table_is_one_volume() {
    let mut disk = vec![0; MIB];
    disk[0..4].copy_from_slice(b"XFSB");
    let (volumes, issues) = find(Arc::new(disk)).unwrap();
    assert_eq!(
        (volumes[0].label.as_str(), volumes[0].length, volumes[0].what.as_str()),
        ("", MIB as u64, "XFS")
    );
    assert!(issues.is_empty());
}

#[test]
fn logical_partitions_follow_their_chain_even_when_it_is_a_cycle() {
    let mut disk = vec![0; 4 * MIB];
    put_entry(&mut disk, 0, 0, 0x83, 64, 100);
    put_entry(&mut disk, 0, 1, 0x05, 1000, 5000);
    put_entry(&mut disk, 1000, 0, 0x83, 10, 90);
    put_entry(&mut disk, 1000, 1, 0x05, 200, 100);
    put_entry(&mut disk, 1200, 0, 0x82, 10, 90);
    let (volumes, issues) = find(Arc::new(disk.clone())).unwrap();
    let expected = [("p1".to_owned(), 64, 100), ("p5".to_owned(), 1010, 90), ("p6".to_owned(), 1210, 90)];
    assert_eq!((places(&volumes), issues.len()), (expected.to_vec(), 0));

    put_entry(&mut disk, 1200, 1, 0x05, 0, 100);
    let (volumes, issues) = find(Arc::new(disk)).unwrap();
    assert_eq!(places(&volumes), expected);
    assert!(issues[0].what.contains("comes back to itself"));
}

#[test]
fn partitions_that_overlap_or_leave_the_disk_are_given_and_listed() {
    let mut disk = vec![0; MIB];
    put_entry(&mut disk, 0, 0, 0x83, 64, 1000);
    put_entry(&mut disk, 0, 1, 0x83, 500, 1_000_000);
    let (volumes, issues) = find(Arc::new(disk)).unwrap();
    assert_eq!(places(&volumes), [("p1".into(), 64, 1000), ("p2".into(), 500, 2048 - 500)]);
    let words: Vec<_> = issues.iter().map(|i| i.what.as_str()).collect();
    assert_eq!(words, ["partition p2 ends at 512256000, the disk at 1048576", "partition p2 overlaps p1"]);
}

#[test]
fn sfdisk_and_we_read_the_same_mbr() {
    let script = "label: dos\nstart=2048,size=4096,type=83\nstart=8192,size=20000,type=5\nstart=10240,size=2048,type=83\nstart=14336,size=4096,type=82\n";
    let Some(disk) = sfdisk(20 * MIB, script) else { return };
    let (volumes, issues) = find(Arc::new(disk)).unwrap();
    let expected = [("p1".into(), 2048, 4096), ("p5".into(), 10240, 2048), ("p6".into(), 14336, 4096)];
    assert_eq!((places(&volumes), issues), (expected.to_vec(), vec![]));
}

#[test]
fn a_gpt_is_read_from_its_backup_when_it_is_damaged() {
    let script = "label: gpt\nstart=2048,size=4096,name=boot\nstart=8192,size=8192,name=root\n";
    let Some(mut disk) = sfdisk(20 * MIB, script) else { return };
    let expected = vec![("p1".into(), 2048, 4096), ("p2".into(), 8192, 8192)];
    let (volumes, issues) = find(Arc::new(disk.clone())).unwrap();
    assert_eq!((places(&volumes), issues), (expected.clone(), vec![]));
    assert!(volumes[1].table_entry.ends_with("0fc63daf-8483-4772-8e79-3d69d8477de4 \"root\""));

    disk[1024 + 40] ^= 1;
    let (volumes, issues) = find(Arc::new(disk.clone())).unwrap();
    assert_eq!(places(&volumes), expected);
    assert!(issues[0].what.contains("its backup is used"));

    disk[512..1024].fill(0);
    let (volumes, _) = find(Arc::new(disk.clone())).unwrap();
    assert_eq!(places(&volumes), expected);

    let last = disk.len() - 512;
    disk[last..].fill(0);
    let (volumes, issues) = find(Arc::new(disk)).unwrap();
    assert!(issues.iter().any(|i| i.what.contains("neither it nor its backup")));
    assert_eq!(volumes[0].label, "p1");
}

proptest! {
    #[test]
    fn no_table_makes_us_fail(sectors in proptest::collection::vec(any::<u8>(), 4096), flips in proptest::collection::vec((446usize..1200, any::<u8>()), 0..40)) {
        let mut disk = sectors;
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        find(Arc::new(disk.clone())).unwrap();
        disk[446..510].fill(0);
        disk[512..520].copy_from_slice(b"EFI PART");
        put_entry(&mut disk, 0, 0, 0x05, 1, 4);
        for (at, value) in flips {
            disk[at] = value;
        }
        find(Arc::new(disk)).unwrap();
    }
}
