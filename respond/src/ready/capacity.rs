//! Whether there is room and time enough.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use acquire::aws::ec2::Ec2;
use acquire::aws::quotas::{EbsQuota, Quotas};
use custody::Hasher;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD27",
        version: 1,
        severity: Severity::High,
        title: "the account has room for more snapshots, and may read them fast enough",
        scope: "region",
        tested: "Service Quotas: snapshots in the region (L-309BACF6) against EC2 DescribeSnapshots, 80 % at most; requests a \
                 second for blocks (L-C125AE42) against the largest disk and `ready.longest_hours`",
        remediation: "request an increase of the quota that is named; remove snapshots that nobody needs",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: quotas,
    },
    Check {
        id: "RD28",
        version: 1,
        severity: Severity::Critical,
        title: "there is room for the largest capture twice",
        scope: "folder",
        tested: "statvfs of the folders of cases and of the state: free bytes against twice the largest disk and memory in scope \
                 (`ready.largest_disk_gib`, `ready.largest_memory_gib`, or this host's), and free inodes",
        remediation: "enlarge the file system, or move old cases away; with an evidence store (capture.to) less is needed here, so \
                      that it is a warning",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: room,
    },
    Check {
        id: "RD29",
        version: 1,
        severity: Severity::High,
        title: "the largest disk in scope would be written in time",
        scope: "folder",
        tested: "`ready.throughput_mib` MiB that do not compress are hashed, written to the folder of cases and synced; the rate \
                 gives the hours for the largest disk, `ready.longest_hours` at most",
        remediation: "put the cases on faster disks, or capture to an evidence store over a faster line",
        prowler: &[],
        seconds: 120,
        drill: None,
        test: throughput,
    },
];

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// No drill of throughput writes more.
const MOST_MIB: u64 = 1024;

/// What is written at a time.
const PIECE: usize = 1 << 20;

/// A case is some hundred files; this many cases should find room.
const FEWEST_INODES: u64 = 100_000;

/// Bytes of the largest disk in scope: as set, or the largest of this host.
fn largest_disk(probe: &Probe) -> Result<u64, Unable> {
    if let Some(gib) = probe.settings.ready.largest_disk_gib {
        return Ok(gib.saturating_mul(GIB));
    }
    let unknown =
        || Unable::untested("the size of the largest disk is not known: set ready.largest_disk_gib");
    let disks = fs::read_dir(probe.root.join("sys/block")).map_err(|_| unknown())?;
    let sizes = disks.flatten().filter_map(|disk| {
        let name = disk.file_name().into_string().ok()?;
        // What is only in memory or on another disk is no disk.
        let is_disk = !["loop", "ram", "zram", "dm-", "md", "sr"].iter().any(|kind| name.starts_with(kind));
        let text = fs::read_to_string(disk.path().join("size")).ok()?;
        text.trim().parse::<u64>().ok().filter(|_| is_disk)?.checked_mul(512)
    });
    sizes.max().filter(|bytes| *bytes > 0).ok_or_else(unknown)
}

/// Bytes of the largest memory in scope: as set, or this host's.
fn largest_memory(probe: &Probe) -> Result<u64, Unable> {
    if let Some(gib) = probe.settings.ready.largest_memory_gib {
        return Ok(gib.saturating_mul(GIB));
    }
    let unknown = || Unable::untested("the size of memory is not known: set ready.largest_memory_gib");
    let text = probe.host_file("/proc/meminfo").map_err(|_| unknown())?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.and_then(|kib| kib.checked_mul(1024)).ok_or_else(unknown)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

fn room(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let needed = largest_disk(probe)?.saturating_add(largest_memory(probe)?).saturating_mul(2);
    let settings = &probe.settings;
    let small = 10 * GIB;
    let has_store = settings.capture.to.is_some();
    let folders = [(&settings.cases, needed, "cases"), (&settings.state, small, "state")];
    let each = folders.map(|(folder, needed, what)| {
        let scope = folder.display().to_string();
        let expected = format!("{} free for {what}, and {FEWEST_INODES} inodes", gib(needed));
        match rustix::fs::statvfs(folder) {
            Err(error) => {
                let seen = format!("the folder of {what} cannot be asked: {error}");
                Finding::new(scope, Status::Error, seen, expected)
            }
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                // Some file systems have no table of inodes, and say 0 of 0.
                let has_inodes = stat.f_files == 0 || stat.f_favail >= FEWEST_INODES;
                let status = match (free >= needed, has_inodes) {
                    (true, true) => Status::Pass,
                    (false, true) if has_store && what == "cases" => Status::Warn,
                    _ => Status::Fail,
                };
                let seen = format!("{} free, {} inodes of {}", gib(free), stat.f_favail, stat.f_files);
                Finding::new(scope, status, &seen, expected).with_evidence(seen)
            }
        }
    });
    Ok(each.into())
}

/// A file that goes when it is no longer needed.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn throughput(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let disk = largest_disk(probe)?;
    let folder = &probe.settings.cases;
    let mib = probe.settings.ready.throughput_mib.clamp(1, MOST_MIB);
    let (elapsed, digest) = write_and_hash(folder, mib, probe.clock.now().mono_ns)
        .map_err(|error| Unable::untested(format!("{}: {error}", folder.display())))?;
    let rate = (mib * MIB) as f64 / elapsed.as_secs_f64().max(1e-6);
    let hours = disk as f64 / rate / 3600.0;
    let longest = probe.settings.ready.longest_hours;
    let seen =
        format!("{:.0} MB/s hashed, written and synced; {} would take {hours:.1} h", rate / 1e6, gib(disk));
    let expected = format!("{longest} h at most");
    let evidence = format!("{mib} MiB in {:.3} s, SHA-256 {digest}", elapsed.as_secs_f64());
    let scope = folder.display().to_string();
    Ok(vec![Finding::of(scope, hours <= longest as f64, seen, expected).with_evidence(evidence)])
}

/// Writes as a capture does: hashed on the way, and synced at the end.
fn write_and_hash(folder: &Path, mib: u64, seed: u64) -> std::io::Result<(Duration, String)> {
    let path = folder.join(format!(".exhibit-ready-{}", std::process::id()));
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let _removed = Removed(path);
    let mut piece = noise(seed);
    let mut hasher = Hasher::new();
    let begun = Instant::now();
    for number in 0..mib {
        // No two pieces are the same, so that nothing below can spare itself the work.
        if let Some(head) = piece.get_mut(..8) {
            head.copy_from_slice(&number.to_le_bytes());
        }
        hasher.update(&piece);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok((begun.elapsed(), hasher.finish().to_string()))
}

/// Bytes that do not compress (xorshift64).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut piece = Vec::with_capacity(PIECE);
    while piece.len() < PIECE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.extend_from_slice(&state.to_le_bytes());
    }
    piece
}

fn quotas(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    /// "Snapshots per Region" of the service `ebs`.
    const SNAPSHOTS: &str = "L-309BACF6";
    /// Bytes of a block of the EBS direct APIs.
    const BLOCK: f64 = 524_288.0;
    let connection = probe.aws()?;
    let scope = probe.region_scope()?;
    let quotas = Quotas::new(connection)?;
    let limit = quotas.value("ebs", SNAPSHOTS)?;
    let used = Ec2::new(connection)?.count_own_snapshots()?;
    let share = used.value as f64 / limit.value.max(1.0);
    let seen = format!("{} of {} snapshots, {:.0} %", used.value, limit.value, share * 100.0);
    let mut found = vec![
        Finding::of(format!("{scope}/snapshots"), share < 0.8, seen, "less than 80 %")
            .with_answers(limit.raw.iter().chain(&used.raw)),
    ];
    let scope = format!("{scope}/blocks");
    let expected = format!("the largest disk within {} h", probe.settings.ready.longest_hours);
    found.push(match (quotas.ebs(EbsQuota::GetPerAccount), largest_disk(probe)) {
        (Ok(rate), Ok(disk)) => {
            let hours = disk as f64 / (f64::from(rate.value).max(1.0) * BLOCK) / 3600.0;
            let seen = format!("{} blocks a second: {} in {hours:.1} h", rate.value, gib(disk));
            let holds = hours <= probe.settings.ready.longest_hours as f64;
            Finding::of(scope, holds, seen, expected).with_answers(&rate.raw)
        }
        (Err(failure), _) => Finding::new(scope, Status::Error, failure.to_string(), expected),
        (_, Err(_)) => {
            let seen = "the size of the largest disk is not known: set ready.largest_disk_gib";
            Finding::new(scope, Status::Error, seen, expected)
        }
    });
    Ok(found)
}
