//! Rows of NIST's test plan for imaging tools that no other test covers; `docs/IMAGING_TESTS.md` lists them all.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use acquire::sources::disk::{self, StreamSource};
use acquire::sources::subset::Subset;
use custody::bundle::Bundle;
use custody::verify::{Level, Options, verify};
use custody::{CustodyLog, EntryType, sha256};

use crate::faulty_disk::Loop;
use crate::support::*;

const TIB: u64 = 1 << 40;

#[test]
fn sectors_beyond_what_32_bits_can_count_are_where_they_belong() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let file = File::options().read(true).write(true).create_new(true).open(&image).unwrap();
    let size = 3 * TIB + 512;
    if let Err(error) = file.set_len(size) {
        eprintln!("skipped: no sparse file of 3 TiB can be made here: {error}");
        return;
    }
    // Around the 2^32nd sector, around 1 TiB, and at the very end.
    let border = 2 * TIB;
    for at in [TIB - 512, TIB, border - 512, border, border + 512, size - 512] {
        file.write_all_at(format!("sector {:>12}|", at / 512).as_bytes(), at).unwrap();
    }
    let length = 4 * CHUNK as u64;
    for (name, offset) in [("border", border - length / 2), ("end", size - length), ("tib", TIB - length / 2)]
    {
        let source = Subset::new(disk::open(&image).unwrap(), offset, Some(length)).unwrap();
        let folder = place.path().join(name);
        let report = acquire_disk(Box::new(source), &folder).unwrap();
        let mut expected = vec![0; length as usize];
        file.read_exact_at(&mut expected, offset).unwrap();
        assert_eq!(report.streams[0].sha256, sha256(&expected), "{name}");
        assert!(expected.iter().any(|&byte| byte != 0));
        let told = Bundle::open(&folder).unwrap();
        assert_eq!(told.manifest().source.more["subset"]["source_size"], size);
    }
    // Many zeros of the same file lead to many others, so an offset that was cut to 32 bits would not be seen there.
    let first = Subset::new(disk::open(&image).unwrap(), 0, Some(length)).unwrap();
    let report = acquire_disk(Box::new(first), &place.path().join("first")).unwrap();
    assert_eq!(report.states().zero, length);
}

#[test]
#[ignore = "reads 64 GiB of holes: several minutes; run it with --ignored --release"]
fn a_sparse_disk_of_64_gib_is_counted_to_the_last_byte() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let file = File::create(&image).unwrap();
    let size = (64u64 << 30) + 7;
    file.set_len(size).unwrap();
    file.write_all_at(b"last one", size - 8).unwrap();
    let folder = place.path().join("bundle");
    let report = with_writer(|writer| {
        let capture = acquire::sources::disk::DiskCapture::new(disk::open(&image).unwrap());
        acquire::Acquisition::new(capture, destination(&folder)).run(writer)
    })
    .unwrap();
    assert_eq!((report.streams[0].size, report.states().total()), (size, size));
    let mut last = [0; 8];
    Bundle::open(&folder).unwrap().stream("disk").unwrap().read_exact_at(size - 8, &mut last).unwrap();
    assert_eq!(&last, b"last one");
}

#[test]
fn disks_of_512_and_4096_byte_sectors_are_read_to_the_last() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    for (sector, sectors) in [(512u32, 1usize), (512, 4099), (4096, 1), (4096, 521)] {
        let data = content(sector as usize * sectors);
        fs::write(&image, &data).unwrap();
        let Some(attached) = Loop::attach(&image, sector) else { return };
        let folder = place.path().join(format!("{sector}-{sectors}"));
        let report = acquire_disk(disk::open(&attached.device).unwrap(), &folder).unwrap();
        assert_eq!(report.streams[0].sha256, sha256(&data), "{sectors} of {sector}");
        assert_eq!(Bundle::open(&folder).unwrap().manifest().source.sector_size, Some(sector));
    }
}

#[test]
fn a_pipe_is_a_source() {
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let data = content(2 * SEGMENT + 13);
    let (into, bytes) = (pipe.clone(), data.clone());
    let writing = std::thread::spawn(move || fs::write(into, bytes).unwrap());
    let report = acquire_disk(disk::open(&pipe).unwrap(), &place.path().join("bundle")).unwrap();
    writing.join().unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&data));
    let bundle = Bundle::open(&place.path().join("bundle")).unwrap();
    assert_eq!(bundle.manifest().source.more["form"], "stream");
}

/// A file system on a loop device, mounted; both are let go when it is dropped.
struct Mounted {
    folder: PathBuf,
    device: String,
}

impl Mounted {
    /// Makes one; `None`, with the reason on standard error, where that is not possible.
    fn new(place: &Path, make: &[&str], megabytes: u64) -> Option<Self> {
        let name = make[0].trim_start_matches("mkfs.");
        let (image, folder) = (place.join(format!("{name}.img")), place.join(name));
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        fs::create_dir(&folder).unwrap();
        let run = |program: &str, args: &[&str]| -> Result<String, String> {
            match Command::new(program).args(args).stdin(Stdio::null()).output() {
                Ok(output) if output.status.success() => {
                    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
                }
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => Err(format!("{program}: {error}")),
            }
        };
        let image = image.to_str().unwrap();
        let made = run(make[0], &[&make[1..], &[image]].concat())
            .and_then(|_| run("losetup", &["--find", "--show", image]))
            .and_then(|device| match run("mount", &[&device, folder.to_str().unwrap()]) {
                Ok(_) => Ok(device),
                Err(why) => run("losetup", &["--detach", &device]).and(Err(why)),
            });
        match made {
            Ok(device) => Some(Self { folder, device }),
            Err(why) => {
                eprintln!("skipped in part: {name}: {why}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

#[test]
fn a_bundle_can_be_written_to_any_common_file_system() {
    let place = tempfile::tempdir().unwrap();
    let data = content(5 * SEGMENT + 100);
    let systems: [(&[&str], u64); 6] = [
        (&["mkfs.ext4", "-q"], 32),
        (&["mkfs.ext2", "-q"], 32),
        (&["mkfs.xfs", "-q"], 300),
        (&["mkfs.btrfs", "-q"], 120),
        (&["mkfs.vfat"], 64),
        (&["mkfs.exfat"], 64),
    ];
    for (make, megabytes) in systems {
        let Some(mounted) = Mounted::new(place.path(), make, megabytes) else { continue };
        let folder = mounted.folder.join("E001-disk");
        let source = Box::new(StreamSource::new("-", std::io::Cursor::new(data.clone())));
        let report = acquire_disk(source, &folder).unwrap();
        assert_eq!(report.streams[0].sha256, sha256(&data), "{make:?}");
        let found = verify(&folder, &Options::default()).unwrap();
        assert_eq!(found.verdict.level, Level::Consistent, "{make:?}: {:?}", found.faults);
    }
    // In memory, everywhere on Linux.
    if let Ok(shm) = tempfile::tempdir_in("/dev/shm") {
        let source = Box::new(StreamSource::new("-", std::io::Cursor::new(data)));
        acquire_disk(source, shm.path()).unwrap();
        assert_eq!(verify(shm.path(), &Options::default()).unwrap().verdict.level, Level::Consistent);
    }
}

#[test]
fn a_mounted_disk_is_acquired_with_a_warning_and_its_journal_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(place.path(), &["mkfs.ext4", "-q"], 32) else { return };
    fs::write(mounted.folder.join("evidence"), content(100_000)).unwrap();
    Command::new("sync").status().unwrap();
    let live = place.path().join("live");
    let report = acquire_disk(disk::open(mounted.device.as_ref()).unwrap(), &live).unwrap();
    let issue = report.issues.iter().find(|issue| issue.what.starts_with("live, inconsistent")).unwrap();
    assert!(issue.what.contains("ext4"), "{issue:?}");
    let in_use = Bundle::open(&live).unwrap().manifest().source.more["in_use"].clone();
    assert_eq!(in_use[0]["on"], mounted.folder.to_str().unwrap());

    // A copy made now has a journal that a mount would replay. Acquiring it must not.
    let dirty = place.path().join("dirty.raw");
    fs::copy(place.path().join("ext4.img"), &dirty).unwrap();
    let before = fs::read(&dirty).unwrap();
    // The superblock's feature needs_recovery.
    assert_eq!(before[1024 + 0x60] & 4, 4, "the copy has no journal to replay");
    let report = acquire_disk(disk::open(&dirty).unwrap(), &place.path().join("dirty")).unwrap();
    assert_eq!(report.streams[0].sha256, sha256(&before));
    assert!(fs::read(&dirty).unwrap() == before);
}

#[test]
fn parts_are_no_larger_than_asked_and_every_one_is_in_the_list_of_hashes() {
    let place = tempfile::tempdir().unwrap();
    let data = content(7 * SEGMENT + 1);
    let source = Box::new(StreamSource::new("-", std::io::Cursor::new(data)));
    let report = acquire_disk(source, place.path()).unwrap();
    let sums = fs::read_to_string(place.path().join("SHA256SUMS")).unwrap();
    let segments = &report.streams[0].segments;
    assert_eq!(segments.len(), 8);
    for segment in segments {
        let bytes = fs::read(place.path().join(&segment.path)).unwrap();
        assert!(sums.contains(&format!("{}  {}\n", sha256(&bytes), segment.path)), "{}", segment.path);
        let plain = zstd::decode_all(&bytes[..]).unwrap();
        assert!(plain.len() <= SEGMENT, "{}", segment.path);
    }
}

#[test]
fn a_thousand_checks_of_an_unchanged_bundle_raise_no_alarm() {
    let place = tempfile::tempdir().unwrap();
    let source = Box::new(FaultSource::new(content(3 * CHUNK), &[5]));
    acquire_disk(source, place.path()).unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < 1000 {
                    let found = verify(place.path(), &Options::default()).unwrap();
                    assert_eq!(found.verdict.level, Level::Consistent, "{:?}", found.faults);
                }
            });
        }
    });
}

/// Acquires in a process whose files may grow to `blocks` of 1 KiB; `deaf` means that the signal is ignored.
fn acquire_with_file_limit(image: &Path, folder: &Path, blocks: u32, deaf: bool) -> bool {
    let trap = if deaf { "trap '' XFSZ; " } else { "" };
    let script = format!("{trap}ulimit -f {blocks}; exec \"$@\"");
    child(&["bash", "-c", &script, "limited"], image, folder).status().unwrap().success()
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_never_a_sealed_bundle() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    // Noise, so that a segment is as large as its content.
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(3 * SEGMENT)
    .collect();
    fs::write(&image, &noise).unwrap();
    for deaf in [true, false] {
        let folder = place.path().join(format!("deaf-{deaf}"));
        assert!(!acquire_with_file_limit(&image, &folder, 100, deaf));
        assert!(!folder.join("manifest.json").exists());
        assert_log_holds(&folder);
        let found = verify(&folder, &Options::default()).unwrap();
        assert_eq!(found.verdict.level, Level::Open, "{:?}", found.faults);
        let last = CustodyLog::open(&folder).unwrap().read().unwrap().entries.pop().unwrap();
        if deaf {
            assert_eq!(last.kind, EntryType::ACQUIRE_ERROR);
            let why = last.about.errors["stopped_by"].as_str().unwrap().to_owned();
            assert!(why.contains("File too large"), "{why}");
        } else {
            // Killed by the signal, it could say nothing more.
            assert_eq!(last.kind, EntryType::ACQUIRE_START);
        }
    }
    let folder = place.path().join("enough");
    assert!(acquire_with_file_limit(&image, &folder, 4096, true));
    assert_eq!(verify(&folder, &Options::default()).unwrap().verdict.level, Level::Consistent);
}

#[test]
fn what_the_log_and_the_manifest_say_is_what_was_there() {
    let place = tempfile::tempdir().unwrap();
    let data = content(6 * CHUNK + 300);
    let bad = [3u64, 4, 200];
    let source = FaultSource::new(data.clone(), &bad);
    let (expected, read) = source.expected();
    let report = acquire_disk(Box::new(source), place.path()).unwrap();
    let (whole, of_data) = (sha256(&expected), sha256(&read));
    let bundle = Bundle::open(place.path()).unwrap();
    let manifest = bundle.manifest();
    let stream = &manifest.streams[0];
    assert_eq!((stream.sha256, stream.sha256_data, stream.size), (whole, of_data, data.len() as u64));
    assert_eq!(stream.states.unreadable, 3 * 512);
    assert_eq!((manifest.exhibit.as_str(), manifest.name.as_str()), ("E001", "web01-disk"));
    assert_eq!((manifest.case.as_deref(), manifest.examiner.name.as_str()), (Some("ir-2026-017"), "J. Doe"));
    assert_eq!((manifest.tool.name.as_str(), manifest.tool.version.as_str()), ("exhibit", "0.1.0"));
    assert_eq!((manifest.source.kind.as_str(), manifest.source.path.as_deref()), ("disk", Some("fault")));
    assert_eq!(manifest.options["chunk_size"], CHUNK);
    // The clock of these tests starts here and goes on by a millisecond at each look.
    assert!(manifest.created.starts_with("2026-11-21T01:30:00."), "{}", manifest.created);

    let entries = CustodyLog::open(place.path()).unwrap().read().unwrap().entries;
    let of = |kind: EntryType| &entries.iter().find(|entry| entry.kind == kind).unwrap().about;
    let start = of(EntryType::ACQUIRE_START);
    assert_eq!(
        (&start.how["command"], &start.how["source"]["path"]),
        (&"acquire disk".into(), &"fault".into())
    );
    assert_eq!(start.how["options"]["chunk_size"], CHUNK);
    let end = of(EntryType::ACQUIRE_END);
    assert_eq!((&end.result["bytes"], &end.result["issues"]), (&data.len().into(), &2.into()));
    assert_eq!(
        (&end.result["sha256"], &end.result["sha256_data"]),
        (&whole.to_string().into(), &of_data.to_string().into())
    );
    assert_eq!(end.result["states"], serde_json::to_value(stream.states).unwrap());
    let error = of(EntryType::ACQUIRE_ERROR);
    assert_eq!(
        (&error.errors["unreadable_bytes"], &error.errors["absent_bytes"]),
        (&(3 * 512).into(), &0.into())
    );
    assert_eq!(
        (&error.errors["first"][0]["offset"], &error.errors["first"][0]["length"]),
        (&(3 * 512).into(), &1024.into())
    );
    assert_eq!(
        (&error.errors["first"][1]["offset"], &error.errors["first"][1]["length"]),
        (&(200 * 512).into(), &512.into())
    );
    let extents = fs::read(place.path().join("data/disk.extents.tsv")).unwrap();
    let subject = error.subject.iter().find(|subject| subject.id == "data/disk.extents.tsv").unwrap();
    assert_eq!((subject.sha256, subject.size), (Some(sha256(&extents)), Some(extents.len() as u64)));
    let sealed = of(EntryType::BUNDLE_SEALED);
    assert!(sealed.subject.iter().any(|subject| subject.sha256 == Some(report.manifest_sha256)));
    for (seq, entry) in entries.iter().enumerate() {
        assert_eq!(
            (entry.seq, entry.tool.name.as_str(), entry.actor.name.as_str()),
            (seq as u64, "exhibit", "J. Doe")
        );
    }
}
