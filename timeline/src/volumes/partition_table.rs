//! Partition tables: MBR with its extended partitions, and GPT with its backup.
//!
//! - Times: none.
//! - Not read: BSD disklabels, Apple partition maps, MBR on disks with sectors other than 512 bytes.
//! - Reference: UEFI Specification 2.10, chapter 5; Linux `block/partitions/msdos.c` and `efi.c`.

use std::collections::HashSet;

use crate::bytes::{ByteSource, read_or_zeros};
use crate::error::ReadError;
use crate::text::clean;

use super::ext_superblock::{PRIMARY, kind_of_bytes};
use super::fields::{byte, le16, le32, le64, part};
use super::identify::is_boot_sector_of_a_volume;
use super::issues::VolumeIssue;

const SECTOR: u64 = 512;
/// More logical partitions than any disk has; a longer chain is cut.
const MOST_LOGICAL: usize = 256;
/// More entries than the largest table in use (128).
const MOST_ENTRIES: u64 = 1024;

/// One entry of a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) label: String,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) entry: String,
}

impl Partition {
    pub(super) fn whole(length: u64) -> Partition {
        Partition { label: String::new(), start: 0, length, entry: "no partition table".into() }
    }
}

/// The partitions of a disk; `None` where it has no partition table.
pub(super) fn read(
    disk: &dyn ByteSource,
    issues: &mut Vec<VolumeIssue>,
) -> Result<Option<Vec<Partition>>, ReadError> {
    let first = read_or_zeros(disk, 0, 4096)?;
    let is_mbr = part(&first, 510, 2) == [0x55, 0xAA];
    let is_protective = is_mbr && (0..4).any(|n| byte(&first, 446 + n * 16 + 4) == 0xEE);
    let partitions = match gpt(disk, is_protective, issues)? {
        Some(partitions) => partitions,
        None if is_mbr && !is_boot_sector_of_a_volume(&first) => match mbr(disk, &first, issues)? {
            Some(partitions) => {
                if kind_of_bytes(part(&first, PRIMARY as usize, 1024)).is_some() {
                    issue(
                        issues,
                        PRIMARY,
                        "an ext superblock lies before the first partition: the disk was used whole once",
                    );
                }
                partitions
            }
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    check_places(&partitions, disk.len(), issues);
    Ok(Some(partitions))
}

fn issue(issues: &mut Vec<VolumeIssue>, offset: u64, what: impl Into<String>) {
    issues.push(VolumeIssue { offset, what: what.into() });
}

fn check_places(partitions: &[Partition], disk: u64, issues: &mut Vec<VolumeIssue>) {
    let mut sorted: Vec<&Partition> = partitions.iter().collect();
    sorted.sort_by_key(|p| (p.start, p.length));
    let mut before: Option<&Partition> = None;
    for partition in sorted {
        let end = partition.start.saturating_add(partition.length);
        if end > disk {
            let what = format!("partition {} ends at {end}, the disk at {disk}", partition.label);
            issue(issues, partition.start, what);
        }
        if let Some(before) = before.filter(|b| b.start.saturating_add(b.length) > partition.start) {
            let what = format!("partition {} overlaps {}", partition.label, before.label);
            issue(issues, partition.start, what);
        }
        if before.is_none_or(|b| b.start.saturating_add(b.length) < end) {
            before = Some(partition);
        }
    }
}

/// The four entries of an MBR, and the logical partitions of its extended one. `None` where the sector is no MBR.
fn mbr(
    disk: &dyn ByteSource,
    sector: &[u8],
    issues: &mut Vec<VolumeIssue>,
) -> Result<Option<Vec<Partition>>, ReadError> {
    let entries: Vec<Entry> = (0..4).map(|n| Entry::parse(sector, n)).collect();
    let is_plausible = entries.iter().all(|entry| entry.boot & 0x7F == 0)
        && entries.iter().any(|entry| entry.is_used() && entry.start < disk.len());
    if !is_plausible {
        return Ok(None);
    }
    let mut partitions = Vec::new();
    let mut logical = Vec::new();
    for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_used()) {
        if entry.is_extended() {
            extended(disk, entry.start, issues, &mut logical)?;
        } else {
            partitions.push(entry.partition(n + 1, 0));
        }
    }
    partitions.append(&mut logical);
    Ok(Some(partitions))
}

/// Follows the chain of an extended partition: each link has one logical partition and the place of the next link.
fn extended(
    disk: &dyn ByteSource,
    base: u64,
    issues: &mut Vec<VolumeIssue>,
    logical: &mut Vec<Partition>,
) -> Result<(), ReadError> {
    let mut seen = HashSet::new();
    let mut links = vec![base];
    while let Some(at) = links.pop() {
        if !seen.insert(at) {
            issue(issues, at, "the chain of logical partitions comes back to itself");
            break;
        }
        if logical.len() >= MOST_LOGICAL || seen.len() > MOST_LOGICAL {
            issue(issues, at, "there are more logical partitions than we read");
            break;
        }
        let sector = read_or_zeros(disk, at, SECTOR as usize)?;
        if part(&sector, 510, 2) != [0x55, 0xAA] {
            issue(issues, at, "the chain of logical partitions breaks off here");
            break;
        }
        for entry in (0..4).map(|n| Entry::parse(&sector, n)).filter(Entry::is_used) {
            if entry.is_extended() {
                links.push(base.saturating_add(entry.start));
            } else {
                logical.push(entry.partition(logical.len() + 5, at));
            }
        }
    }
    Ok(())
}

struct Entry {
    boot: u8,
    kind: u8,
    start: u64,
    length: u64,
}

impl Entry {
    fn parse(sector: &[u8], n: usize) -> Entry {
        let at = 446 + n * 16;
        Entry {
            boot: byte(sector, at),
            kind: byte(sector, at + 4),
            start: u64::from(le32(sector, at + 8)) * SECTOR,
            length: u64::from(le32(sector, at + 12)) * SECTOR,
        }
    }

    fn is_used(&self) -> bool {
        self.kind != 0 && self.length != 0
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0F | 0x85)
    }

    fn partition(&self, number: usize, base: u64) -> Partition {
        Partition {
            label: format!("p{number}"),
            start: base.saturating_add(self.start),
            length: self.length,
            entry: format!("MBR type {:#04x}", self.kind),
        }
    }
}

/// The entries of the GPT; `None` where there is none.
fn gpt(
    disk: &dyn ByteSource,
    is_protected: bool,
    issues: &mut Vec<VolumeIssue>,
) -> Result<Option<Vec<Partition>>, ReadError> {
    for sector in [512, 4096] {
        let primary = Header::read(disk, sector, sector)?;
        // Without any mark at the start, a backup at the end may be left from an earlier use of the disk.
        if primary.is_none() && !is_protected {
            continue;
        }
        let last = (disk.len() / sector).saturating_sub(1).saturating_mul(sector);
        let own_backup =
            primary.as_ref().map(|header| header.backup).filter(|at| *at < disk.len() && *at > sector);
        let backup = match own_backup {
            Some(at) => Header::read(disk, at, sector)?,
            None => None,
        };
        let backup = match backup {
            Some(backup) => Some(backup),
            None => Header::read(disk, last, sector)?,
        };
        let chosen = match (&primary, &backup) {
            (Some(primary), Some(backup)) if primary.is_sound && backup.is_sound => {
                if primary.table_checksum != backup.table_checksum {
                    issue(issues, primary.at, "the GPT and its backup differ; the first is used");
                }
                Some(primary)
            }
            (Some(primary), _) if primary.is_sound => {
                issue(issues, primary.at, "the GPT has no sound backup");
                Some(primary)
            }
            (_, Some(backup)) if backup.is_sound => {
                issue(issues, sector, "the GPT is damaged; its backup is used");
                Some(backup)
            }
            (Some(primary), _) => {
                issue(
                    issues,
                    primary.at,
                    "the GPT and its backup are damaged; what it says is used nevertheless",
                );
                Some(primary)
            }
            (None, _) => None,
        };
        if let Some(header) = chosen {
            return Ok(Some(header.partitions(disk, sector)?));
        }
    }
    if is_protected {
        issue(issues, 0, "the MBR says that there is a GPT, but neither it nor its backup can be found");
    }
    Ok(None)
}

struct Header {
    at: u64,
    backup: u64,
    table: u64,
    entries: u64,
    entry_size: u64,
    table_checksum: u32,
    /// Whether both checksums hold.
    is_sound: bool,
}

impl Header {
    fn read(disk: &dyn ByteSource, at: u64, sector: u64) -> Result<Option<Header>, ReadError> {
        let bytes = read_or_zeros(disk, at, SECTOR as usize)?;
        if part(&bytes, 0, 8) != b"EFI PART" {
            return Ok(None);
        }
        let length = le32(&bytes, 12) as usize;
        let own = part(&bytes, 0, length);
        let sum = own.iter().enumerate().map(|(n, b)| if (16..20).contains(&n) { 0 } else { *b });
        let header_holds = length >= 92 && crc32(&sum.collect::<Vec<_>>()) == le32(&bytes, 16);
        let mut header = Header {
            at,
            backup: le64(&bytes, 32).saturating_mul(sector),
            table: le64(&bytes, 72).saturating_mul(sector),
            entries: u64::from(le32(&bytes, 80)).min(MOST_ENTRIES),
            entry_size: u64::from(le32(&bytes, 84)),
            table_checksum: le32(&bytes, 88),
            is_sound: false,
        };
        if !(128..=4096).contains(&header.entry_size) {
            return Ok(None);
        }
        header.is_sound = header_holds && crc32(&header.table_bytes(disk)?) == header.table_checksum;
        Ok(Some(header))
    }

    fn table_bytes(&self, disk: &dyn ByteSource) -> Result<Vec<u8>, ReadError> {
        read_or_zeros(disk, self.table, self.entries.saturating_mul(self.entry_size) as usize)
    }

    fn partitions(&self, disk: &dyn ByteSource, sector: u64) -> Result<Vec<Partition>, ReadError> {
        let table = self.table_bytes(disk)?;
        let mut partitions = Vec::new();
        for (n, entry) in table.chunks_exact(self.entry_size as usize).enumerate() {
            let (first, last) = (le64(entry, 32), le64(entry, 40));
            if part(entry, 0, 16).iter().all(|b| *b == 0) || last < first {
                continue;
            }
            let name: Vec<u16> =
                (0..36).map(|n| le16(entry, 56 + n * 2)).take_while(|unit| *unit != 0).collect();
            let name = String::from_utf16_lossy(&name);
            partitions.push(Partition {
                label: format!("p{}", n + 1),
                start: first.saturating_mul(sector),
                length: (last - first).saturating_add(1).saturating_mul(sector),
                entry: format!("GPT type {} {:?}", guid(part(entry, 0, 16)), clean(name.as_bytes())),
            });
        }
        Ok(partitions)
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A GUID as it is written: its first three fields are little-endian.
fn guid(bytes: &[u8]) -> String {
    format!(
        "{:08x}-{:04x}-{:04x}-{}-{}",
        le32(bytes, 0),
        le16(bytes, 4),
        le16(bytes, 6),
        hex::encode(part(bytes, 8, 2)),
        hex::encode(part(bytes, 10, 6))
    )
}
