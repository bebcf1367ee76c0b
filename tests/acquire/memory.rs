//! Memory from end to end, of a machine whose every byte is known: against AVML, with the symbols, and from files.

use std::fs;
use std::io::{Cursor, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use acquire::memory::{Host, MemoryCapture, MemorySource, Way, write_padded};
use acquire::{Acquisition, Error, Report};
use custody::bundle::{Bundle, State};
use custody::{CustodyLog, EntryType};

use crate::support::*;

const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-007fffff : System RAM
  00200000-002fffff : Kernel code
00a00000-00bfffff : System RAM
";

/// What the made `/proc/kcore` holds: not the half page at 0x9f000, and not the last mebibyte.
const SEGMENTS: [(u64, u64); 3] = [(0x1000, 0x9_e000), (0x10_0000, 0x70_0000), (0xa0_0000, 0x10_0000)];

/// Bytes that tell their own address, and are never a page of zeros.
fn filled(address: u64, length: u64) -> Vec<u8> {
    let word = |at: u64| (at | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let mut bytes: Vec<u8> =
        (address / 8..(address + length).div_ceil(8)).flat_map(|i| word(i * 8)).collect();
    bytes.drain(..(address % 8) as usize);
    bytes.truncate(length as usize);
    bytes
}

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An ELF core file as the kernel makes it. Gives where each segment's bytes begin.
fn write_kcore(root: &Path) -> Vec<u64> {
    let mut note = Vec::new();
    let text = b"OSRELEASE=6.1.0-made\nPAGESIZE=4096\n";
    note.extend([11u32, text.len() as u32, 0].map(u32::to_le_bytes).concat());
    note.extend(b"VMCOREINFO\0\0");
    note.extend(text);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, SEGMENTS.len() as u16 + 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut program = |kind: u32, fields: [u64; 6]| {
        file.extend([kind, 4].map(u32::to_le_bytes).concat());
        file.extend(fields.map(u64::to_le_bytes).concat());
    };
    program(4, [0x800, 0, 0, note.len() as u64, 0, 0]);
    // vmalloc: no physical address.
    program(1, [0x1000, 0xffff_c900_0000_0000, u64::MAX, 0x1000, 0x1000, 4096]);
    let mut at = 0x2000u64;
    let mut places = Vec::new();
    for (address, length) in SEGMENTS {
        program(1, [at, 0xffff_8880_0000_0000 + address, address, length, length, 4096]);
        places.push(at);
        at += length;
    }
    file.resize(0x800, 0);
    file.extend(note);
    file.resize(0x2000, 0);
    for (address, length) in SEGMENTS {
        file.extend(filled(address, length));
    }
    write(root, "proc/kcore", file);
    places
}

fn make_machine(root: &Path) -> Vec<u64> {
    write(root, "proc/iomem", IOMEM);
    write(root, "proc/version", "Linux version 6.1.0-made\n");
    write(root, "proc/sys/kernel/osrelease", "6.1.0-made\n");
    write(root, "proc/sys/kernel/kptr_restrict", "2\n");
    write(root, "proc/kallsyms", "0000000000000000 T _text\n0000000000000000 D linux_banner\n");
    write(root, "proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1024 512 -2\n");
    write(root, "sys/kernel/btf/vmlinux", b"\x9f\xeb\x01\0");
    write(root, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    write(root, "boot/System.map-6.1.0-made", "ffffffff81000000 T _text\n");
    // Page 0x105 is poisoned.
    let mut flags = vec![0u8; 0xc00 * 8];
    flags[0x105 * 8..0x106 * 8].copy_from_slice(&(1u64 << 19).to_le_bytes());
    write(root, "proc/kpageflags", flags);
    write_kcore(root)
}

fn acquire(host: &Host, source: &MemorySource, folder: &Path) -> acquire::Result<Report> {
    let capture = MemoryCapture::plan(host, source)?;
    with_writer(|writer| Acquisition::new(capture, destination(folder)).options(options()).run(writer))
}

/// What AVML makes of the same ranges of the same file. Its own reader of `/proc/kcore` takes no other path.
fn by_avml(kcore: &Path, places: &[u64]) -> Vec<u8> {
    let blocks: Vec<_> = SEGMENTS
        .iter()
        .zip(places)
        .map(|(&(start, length), &offset)| avml::image::Block { offset, range: start..start + length })
        .collect();
    let mut out = Vec::new();
    let mut image =
        avml::image::Image::<fs::File, fs::File>::with_dst(avml::Format::Lime, kcore, Cursor::new(&mut out))
            .unwrap();
    image.write_blocks(&blocks).unwrap();
    out
}

#[test]
fn a_running_machine_gives_the_bytes_that_avml_gives_and_says_what_it_could_not_have() {
    let place = tempfile::tempdir().unwrap();
    let (root, folder) = (place.path().join("root"), place.path().join("bundle"));
    let places = make_machine(&root);
    // What the kernel does with a poisoned page.
    let kcore = fs::OpenOptions::new().write(true).open(root.join("proc/kcore")).unwrap();
    kcore.write_all_at(&[0; 4096], places[1] + 0x5000).unwrap();
    let report = acquire(&Host::below(&root), &MemorySource::Auto, &folder).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let memory = read_all(&bundle, "memory");
    assert!(memory == by_avml(&root.join("proc/kcore"), &places), "not what AVML gives");

    let extents = bundle.stream("memory").unwrap();
    let gaps: Vec<_> = extents.extents().iter().filter(|extent| extent.state != State::Data).collect();
    let poisoned = 32 + 0x9_e000 + 32 + 0x5000;
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].start, gaps[0].length, gaps[0].state), (poisoned, 4096, State::Unreadable));
    assert_eq!(gaps[0].detail, "hwpoison");

    let table = fs::read_to_string(folder.join("data/memory.ranges.tsv")).unwrap();
    let expected = "start\tend\tstream_offset\tlength\tdetail
0x0000000000001000\t0x000000000009efff\t32\t647168\t
0x000000000009f000\t0x000000000009fbff\t-\t3072\tpart_of_a_page
0x0000000000100000\t0x00000000007fffff\t647232\t7340032\t
0x0000000000a00000\t0x0000000000afffff\t7987296\t1048576\t
0x0000000000b00000\t0x0000000000bfffff\t-\t1048576\tnot_in_source
";
    assert_eq!(table, expected);
    let whats: Vec<&str> = report.issues.iter().map(|issue| issue.what.as_str()).collect();
    assert!(whats[0].contains("hwpoison") && whats[0].contains("0x105000-0x105fff"), "{whats:?}");
    assert!(whats[1].contains("does not reach") && whats[1].contains("0xb00000-0xbfffff"), "{whats:?}");
    assert!(whats[2].contains("kernel.kptr_restrict is 2"), "{whats:?}");
    assert_eq!(whats.len(), 3);
}

#[test]
fn the_symbols_pack_keeps_the_paths_of_the_machine_and_names_what_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let (root, folder) = (place.path().join("root"), place.path().join("bundle"));
    make_machine(&root);
    let report = acquire(&Host::below(&root), &MemorySource::Only(Way::Kcore), &folder).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let reader = bundle.stream("symbols").unwrap();
    let paths: Vec<String> = reader.catalog().unwrap().map(|entry| entry.unwrap().path).collect();
    let expected = [
        "/proc/kallsyms",
        "/sys/kernel/btf/vmlinux",
        "/proc/version",
        "/proc/iomem",
        "/proc/swaps",
        "/sys/kernel/security/lockdown",
        "/proc/sys/kernel/kptr_restrict",
        "/proc/kcore.vmcoreinfo",
        "/boot/System.map-6.1.0-made",
    ];
    assert_eq!(paths, expected);
    let missing = &report.facts["symbols_missing"];
    let named: Vec<&str> =
        missing.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    let expected = ["/proc/kallsyms", "/sys/kernel/notes", "/proc/cmdline", "/proc/modules", "/proc/meminfo"];
    assert_eq!(named[..5], expected);
    assert_eq!(named[5..], ["/boot/config-6.1.0-made"]);
    // The same facts are in the manifest and in the log's last entry but the seal.
    let source = &bundle.manifest().source;
    assert_eq!(source.more["symbols_missing"], *missing);
    assert_eq!(source.more["lockdown"], "none [integrity] confidentiality");
    assert_eq!(source.more["swap_used_bytes_not_acquired"], 512 * 1024);
    let log = CustodyLog::open(&folder).unwrap().read().unwrap();
    let end = log.entries.iter().find(|entry| entry.kind == EntryType::ACQUIRE_END).unwrap();
    let result = serde_json::to_value(&end.about.result).unwrap();
    let smear = &result["smear"];
    // 2198 whole pages, of which the poisoned one is no sample.
    assert_eq!((smear["sampled"].as_u64(), smear["changed"].as_u64()), (Some(23), Some(0)), "{result}");
}

#[test]
fn a_raw_image_a_lime_image_and_a_padded_image_hold_the_same_memory() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::write(path("iomem"), "00001000-0009fbff : System RAM\n00100000-0017ffff : System RAM\n").unwrap();
    let raw = fs::File::create(path("raw")).unwrap();
    raw.write_all_at(&filled(0x1000, 0x9_ec00), 0x1000).unwrap();
    raw.write_all_at(&filled(0x10_0000, 0x8_0000), 0x10_0000).unwrap();
    let host = Host::below(&path("no-such-machine"));
    let file =
        |name: &str, iomem: Option<&str>| MemorySource::File { path: path(name), iomem: iomem.map(path) };

    let report = acquire(&host, &file("raw", Some("iomem")), &path("one")).unwrap();
    assert_eq!(report.issue_count, 0, "{:?}", report.issues);
    let lime = read_all(&Bundle::open(&path("one")).unwrap(), "memory");
    assert_eq!(lime.len(), 32 + 0x9_ec00 + 32 + 0x8_0000);
    let mut by_avml = Vec::new();
    avml::Snapshot::new(Path::new("nowhere"), vec![0x1000..0x9_fc00, 0x10_0000..0x18_0000])
        .source(Some(avml::Source::Raw(path("raw"))))
        .create_to_writer(&mut by_avml)
        .unwrap();
    assert!(lime == by_avml, "not what AVML gives");

    fs::write(path("lime"), &lime).unwrap();
    let report = acquire(&host, &file("lime", None), &path("two")).unwrap();
    assert_eq!((report.issue_count, report.streams.len()), (0, 1));
    assert!(read_all(&Bundle::open(&path("two")).unwrap(), "memory") == lime);
    let table = |folder: &str| fs::read_to_string(path(folder).join("data/memory.ranges.tsv")).unwrap();
    assert_eq!(table("one"), table("two"));

    let mut padded = fs::File::create(path("padded")).unwrap();
    write_padded(&mut Cursor::new(&lime), &mut padded, 1 << 30).unwrap();
    assert!(fs::read(path("padded")).unwrap() == fs::read(path("raw")).unwrap());

    // Cut within its second range.
    fs::write(path("cut"), &lime[..lime.len() - 0x1000]).unwrap();
    let report = acquire(&host, &file("cut", None), &path("three")).unwrap();
    assert_eq!(report.issue_count, 1);
    assert!(report.issues[0].what.contains("ends 4096 bytes before"), "{:?}", report.issues);
    // Compressed by AVML itself.
    let mut compressed = Vec::new();
    let image = fs::File::open(path("raw")).unwrap();
    let mut image =
        avml::image::Image::from_streams(avml::Format::AvmlCompressed, image, Cursor::new(&mut compressed));
    image.src.seek(SeekFrom::Start(0x1000)).unwrap();
    image.copy_block(0x1000..0x2000).unwrap();
    fs::write(path("avml"), &compressed).unwrap();
    let refused = acquire(&host, &file("avml", None), &path("four")).unwrap_err();
    assert!(
        matches!(&refused, Error::NotMemory { reason, .. } if reason.contains("acquire import")),
        "{refused}"
    );
}

#[test]
fn a_machine_that_lets_nobody_read_its_memory_is_refused_with_the_table_of_ways() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("bundle");
    let refused = acquire(&Host::below(root.path()), &MemorySource::Auto, &folder).unwrap_err();
    let Error::NoMemory { forecast, .. } = &refused else { panic!("{refused}") };
    for path in ["/proc/kcore", "/dev/crash", "/dev/mem"] {
        assert!(forecast.contains(path), "{forecast}");
    }
    assert!(refused.to_string().contains(forecast));
    assert!(!folder.exists());
    // Another way would have worked, and the table says so.
    make_machine(root.path());
    let refused = acquire(&Host::below(root.path()), &MemorySource::Only(Way::Mem), &folder).unwrap_err();
    assert!(refused.to_string().contains("by /dev/mem"), "{refused}");
    assert!(refused.to_string().contains("/proc/kcore  yes"), "{refused}");
}

const CHILD_ROOT: &str = "EXHIBIT_TEST_MACHINE";

/// Acquires when it is started by the test below, as a process of its own; nothing is asked of it otherwise.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the way to hand a path to a test that runs as a process of its own"
)]
fn child_reads_memory() {
    let Some(root) = std::env::var_os(CHILD_ROOT) else { return };
    let root = Path::new(&root);
    acquire(&Host::below(root), &MemorySource::Auto, &root.with_extension("bundle")).unwrap();
}

#[test]
fn nothing_of_the_machine_is_opened_for_writing() {
    if !has_tool("strace") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("machine");
    make_machine(&root);
    write(&root, "dev/mem", vec![0; 1 << 20]);
    let trace = place.path().join("trace");
    let ran = std::process::Command::new("strace")
        .args(["-f", "-e", "trace=open,openat,openat2,creat", "-o"])
        .args([trace.as_os_str(), std::env::current_exe().unwrap().as_os_str()])
        .args(["--exact", "memory::child_reads_memory"])
        .env(CHILD_ROOT, &root)
        .output()
        .unwrap();
    if !ran.status.success() && !trace.exists() {
        eprintln!("skipped: strace may not watch here");
        return;
    }
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let trace = fs::read_to_string(&trace).unwrap();
    let below = format!("\"{}/", root.display());
    let opens: Vec<&str> = trace.lines().filter(|line| line.contains(&below)).collect();
    for path in ["proc/kcore", "proc/iomem", "proc/kpageflags", "proc/kallsyms", "dev/mem", "dev/crash"] {
        assert!(
            opens.iter().any(|line| line.contains(&format!("{below}{path}\""))),
            "the opening of {path} was not seen"
        );
    }
    for line in opens {
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];
        assert!(line.contains("O_RDONLY") && !writes.iter().any(|flag| line.contains(flag)), "{line}");
    }
}
