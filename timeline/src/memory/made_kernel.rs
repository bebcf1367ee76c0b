//! A small kernel that tests make: two MiB of memory, with structures of our own layout that only its BTF explains.

use std::sync::Arc;

use super::address_space::lime_header;
use super::btf::made::Maker;
use crate::bytes::ByteSource;

/// Where the kernel sees physical address 0.
pub(super) const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// Bytes of memory.
pub(super) const SIZE: usize = 1 << 20;

const ROOT: u64 = 0x1000;
const CORE: u64 = 0x9000;
const NAMES: u64 = 0xa000;
const OPERATIONS: u64 = 0xb000;
const MODULES: u64 = 0xb100;
const MOUNT: u64 = 0xb200;
const ROOT_ENTRY: u64 = 0xb300;
const NAMESPACE: u64 = 0xb400;
const FIRST_TASK: u64 = 0x1_0000;

/// What the made kernel's clock gives: boot at 2026-11-20T10:00:00.5Z, read at 10:01:40Z.
pub(super) const BOOT_NS: u64 = 1_795_168_800_500_000_000;

/// Memory in the making. Addresses are physical; the kernel sees them at `KERNEL +`.
#[derive(Clone)]
pub(super) struct MadeKernel {
    pub(super) memory: Vec<u8>,
    free: u64,
    tasks: Vec<u64>,
    modules: Vec<u64>,
}

impl MadeKernel {
    /// A kernel with its first task and no other.
    pub(super) fn new() -> MadeKernel {
        let mut made = MadeKernel {
            memory: vec![0; SIZE],
            free: 0x2_0000,
            tasks: vec![FIRST_TASK],
            modules: vec![MODULES],
        };
        made.put(ROOT + 511 * 8, 0x2003);
        made.put(0x2000 + 510 * 8, 0x3003);
        made.put(0x3000, 0x83);
        made.text(FIRST_TASK + 80, b"swapper/0");
        // seq, then the timekeeper: seconds, real time less monotonic, boot time less monotonic.
        made.put(CORE + 16, 1_795_168_900);
        made.put(CORE + 24, BOOT_NS + 7_000_000_000);
        made.put(CORE + 32, 7_000_000_000);
        made.text(NAMES + 65, b"made01");
        made.text(NAMES + 130, b"6.1.0-made");
        made.text(NAMES + 195, b"#1 SMP");
        made.text(NAMES + 260, b"x86_64");
        made.put(MOUNT + 16, KERNEL + MOUNT);
        made.put(MOUNT + 32, KERNEL + ROOT_ENTRY);
        made.put(NAMESPACE + 24, 4_026_531_840);
        made.link();
        made
    }

    pub(super) fn put(&mut self, at: u64, number: u64) {
        self.text(at, &number.to_le_bytes());
    }

    pub(super) fn put32(&mut self, at: u64, number: u32) {
        self.text(at, &number.to_le_bytes());
    }

    pub(super) fn text(&mut self, at: u64, bytes: &[u8]) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn take(&mut self, length: u64) -> u64 {
        let at = self.free;
        self.free += length.next_multiple_of(64);
        at
    }

    /// Joins tasks and modules to their rings.
    fn link(&mut self) {
        for (ring, list) in [(self.tasks.clone(), 16), (self.modules.clone(), 0)] {
            for (n, at) in ring.iter().enumerate() {
                let next = ring[(n + 1) % ring.len()] + list;
                self.put(at + list, KERNEL + next);
                self.put(next + 8, KERNEL + at + list);
            }
        }
    }

    /// Adds a process; gives where its task lies.
    pub(super) fn process(&mut self, pid: u32, name: &str, uid: u32, started_ns: u64) -> u64 {
        let (task, cred, mm, file) = (self.take(128), self.take(64), self.take(64), self.take(64));
        self.put32(task + 8, 1);
        self.put32(task + 44, pid);
        self.put(task + 48, started_ns);
        self.put(task + 56, KERNEL + FIRST_TASK);
        self.put(task + 64, KERNEL + cred);
        self.text(task + 80, name.as_bytes());
        for field in [4, 8, 12] {
            self.put32(cred + field, uid);
        }
        // Its arguments, one page of its own at 0x400000.
        let page = (self.free).next_multiple_of(4096);
        self.free = page + 4096;
        let arguments = format!("/bin/{name}\0--pid={pid}\0");
        self.text(page + 0x10, arguments.as_bytes());
        self.put(task + 32, KERNEL + mm);
        let tables = self.user_tables(page);
        self.put(mm, KERNEL + tables);
        self.put(mm + 8, 0x40_0010);
        self.put(mm + 16, 0x40_0010 + arguments.len() as u64);
        self.put(mm + 24, KERNEL + file);
        let bin = self.entry("bin", ROOT_ENTRY);
        let entry = self.entry(name, bin);
        self.put(file + 24, KERNEL + MOUNT + 32);
        self.put(file + 32, KERNEL + entry);
        self.tasks.push(task);
        self.link();
        task
    }

    /// Page tables of one process, with one page at 0x400000.
    fn user_tables(&mut self, page: u64) -> u64 {
        let first = self.free;
        self.free += 4 * 4096;
        self.put(first, (first + 0x1000) | 7);
        self.put(first + 0x1000, (first + 0x2000) | 7);
        self.put(first + 0x2000 + 2 * 8, (first + 0x3000) | 7);
        self.put(first + 0x3000, page | 7);
        first
    }

    fn entry(&mut self, name: &str, parent: u64) -> u64 {
        let (at, text) = (self.take(64), self.take(64));
        self.put(at + 16, 1);
        self.put(at + 24, KERNEL + parent);
        self.put32(at + 36, name.len() as u32);
        self.put(at + 40, KERNEL + text);
        self.text(text, name.as_bytes());
        at
    }

    /// Marks the executable of a task as deleted.
    pub(super) fn delete_executable(&mut self, task: u64) {
        let number = |made: &MadeKernel, at: u64| {
            u64::from_le_bytes(made.memory[at as usize..at as usize + 8].try_into().unwrap()) - KERNEL
        };
        let file = number(self, number(self, task + 32) + 24);
        let entry = number(self, file + 32);
        self.put(entry + 16, 0);
    }

    /// Gives a shell commands that it remembers, in the upper half of its page.
    pub(super) fn remember(&mut self, task: u64, commands: &[(&str, &str)]) {
        let number = |made: &MadeKernel, at: u64| {
            u64::from_le_bytes(made.memory[at as usize..at as usize + 8].try_into().unwrap())
        };
        let mm = number(self, task + 32) - KERNEL;
        let table = number(self, mm) - KERNEL + 0x3000;
        let page = number(self, table) & !0xfff;
        self.put(mm + 32, 0x40_0800);
        self.put(mm + 40, 0x40_1000);
        for (n, (time, command)) in commands.iter().enumerate() {
            let at = 0x800 + 0x100 * n as u64;
            self.put(page + at, 0x40_0000 + at + 0x40);
            self.put(page + at + 8, 0x40_0000 + at + 0x20);
            self.text(page + at + 0x20, time.as_bytes());
            self.text(page + at + 0x40, command.as_bytes());
        }
    }

    /// Adds a module at `address`.
    pub(super) fn module(&mut self, name: &str, address: u64, size: u32) -> u64 {
        let at = self.take(128);
        self.text(at + 24, name.as_bytes());
        self.put(at + 80, 1 << 12);
        self.put(at + 96, address);
        self.put32(at + 104, size);
        self.modules.push(at);
        self.link();
        at
    }

    /// Gives a task these sockets, as bytes of `struct sock` that [`tcp4`] and the like make.
    pub(super) fn sockets(&mut self, task: u64, socks: &[Vec<u8>]) {
        let (files, table, entries) = (self.take(64), self.take(64), self.take(8 * 64));
        self.put(task + 72, KERNEL + files);
        self.put(files + 32, KERNEL + table);
        self.put32(table, 64);
        self.put(table + 8, KERNEL + entries);
        for (n, sock) in socks.iter().enumerate() {
            let (file, socket, at) = (self.take(64), self.take(256), self.take(256));
            self.put(entries + 8 * (n as u64 + 3), KERNEL + file);
            self.put(file + 8, KERNEL + OPERATIONS);
            self.put(file + 16, KERNEL + socket);
            self.put(socket + 24, KERNEL + at);
            self.put(socket + 128 + 64, 7000 + n as u64);
            self.text(at, sock);
            self.put(at + 48, KERNEL + NAMESPACE);
        }
    }

    /// The image: LiME, in two ranges, so that offsets are no addresses.
    pub(super) fn image(&self) -> Vec<u8> {
        let (low, high) = self.memory.split_at(0x8000);
        [
            lime_header(0, low.len() as u64),
            low.to_vec(),
            lime_header(0x8000, high.len() as u64),
            high.to_vec(),
        ]
        .concat()
    }

    /// `/proc/kallsyms`, BTF and VMCOREINFO of it, by their paths.
    pub(super) fn pack() -> Vec<(&'static str, Arc<dyn ByteSource>)> {
        let symbols = [
            ("_stext", 0x8000),
            ("init_task", FIRST_TASK),
            ("init_top_pgt", ROOT),
            ("init_uts_ns", NAMES),
            ("modules", MODULES),
            ("socket_file_ops", OPERATIONS),
            ("tk_core", CORE),
        ];
        let text: String =
            symbols.iter().map(|(name, at)| format!("{:016x} D {name}\n", KERNEL + at)).collect();
        vec![
            ("/proc/kallsyms", Arc::new(text.into_bytes())),
            ("/sys/kernel/btf/vmlinux", Arc::new(types())),
            ("/proc/kcore.vmcoreinfo", Arc::new(Self::vmcoreinfo().into_bytes())),
        ]
    }

    /// What the kernel notes of itself.
    pub(super) fn vmcoreinfo() -> String {
        format!(
            "OSRELEASE=6.1.0-made\nSYMBOL(_stext)={:x}\nSYMBOL(init_top_pgt)={:x}\nNUMBER(phys_base)=0\n\
             NUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\n",
            KERNEL + 0x8000,
            KERNEL + ROOT
        )
    }
}

/// An IPv4 socket: local and remote end, TCP state, protocol.
pub(super) fn sock4(local: ([u8; 4], u16), remote: ([u8; 4], u16), state: u8, protocol: u16) -> Vec<u8> {
    let mut sock = vec![0; 208];
    sock[0..4].copy_from_slice(&remote.0);
    sock[4..8].copy_from_slice(&local.0);
    sock[12..14].copy_from_slice(&remote.1.to_be_bytes());
    sock[14..16].copy_from_slice(&local.1.to_le_bytes());
    sock[16] = 2;
    sock[18] = state;
    sock[200..202].copy_from_slice(&protocol.to_le_bytes());
    sock
}

/// An IPv6 socket that listens on a port of every address.
pub(super) fn listener6(port: u16) -> Vec<u8> {
    let mut sock = sock4(([0; 4], port), ([0; 4], 0), 10, 6);
    sock[16] = 10;
    sock
}

/// The types, laid out as no kernel does.
pub(super) fn types() -> Vec<u8> {
    let mut made = Maker::default();
    let (u8, u16, u32, u64) = (made.int(1), made.int(2), made.int(4), made.int(8));
    let pointer = made.add("", 2 << 24, 0, &[]);
    let list = made.structure("list_head", 16, &[("next", pointer, 0), ("prev", pointer, 8)]);
    let name16 = made.array(u8, 16);
    made.structure(
        "task_struct",
        128,
        &[
            ("__state", u32, 8),
            ("flags", u32, 12),
            ("tasks", list, 16),
            ("mm", pointer, 32),
            ("exit_state", u32, 40),
            ("tgid", u32, 44),
            ("start_boottime", u64, 48),
            ("real_parent", pointer, 56),
            ("real_cred", pointer, 64),
            ("files", pointer, 72),
            ("comm", name16, 80),
        ],
    );
    made.structure("cred", 16, &[("uid", u32, 4), ("gid", u32, 8), ("euid", u32, 12)]);
    made.structure(
        "mm_struct",
        64,
        &[
            ("pgd", pointer, 0),
            ("arg_start", u64, 8),
            ("arg_end", u64, 16),
            ("exe_file", pointer, 24),
            ("start_brk", u64, 32),
            ("brk", u64, 40),
        ],
    );
    let timekeeper = made.structure(
        "timekeeper",
        40,
        &[("xtime_sec", u64, 8), ("offs_real", u64, 16), ("offs_boot", u64, 24)],
    );
    made.structure("", 48, &[("seq", u32, 0), ("timekeeper", timekeeper, 8)]);
    let word = made.array(u8, 65);
    let names = made.structure(
        "new_utsname",
        390,
        &[("nodename", word, 65), ("release", word, 130), ("version", word, 195), ("machine", word, 260)],
    );
    made.structure("uts_namespace", 400, &[("name", names, 0)]);
    let name56 = made.array(u8, 56);
    let layout = made.structure("module_layout", 16, &[("base", pointer, 0), ("size", u32, 8)]);
    made.structure(
        "module",
        128,
        &[
            ("state", u32, 16),
            ("list", list, 0),
            ("name", name56, 24),
            ("taints", u64, 80),
            ("core_layout", layout, 96),
        ],
    );
    made.structure("files_struct", 64, &[("fdt", pointer, 32)]);
    made.structure("fdtable", 64, &[("max_fds", u32, 0), ("fd", pointer, 8)]);
    let path = made.structure("path", 16, &[("mnt", pointer, 0), ("dentry", pointer, 8)]);
    made.structure("file", 64, &[("f_op", pointer, 8), ("private_data", pointer, 16), ("f_path", path, 24)]);
    let socket = made.structure("socket", 128, &[("sk", pointer, 24)]);
    let inode = made.structure("inode", 128, &[("i_ino", u64, 64)]);
    made.structure("socket_alloc", 256, &[("socket", socket, 0), ("vfs_inode", inode, 128)]);
    let (six, net) = (made.array(u8, 16), made.structure("possible_net_t", 8, &[("net", pointer, 0)]));
    let common = made.structure(
        "sock_common",
        88,
        &[
            ("skc_daddr", u32, 0),
            ("skc_rcv_saddr", u32, 4),
            ("skc_dport", u16, 12),
            ("skc_num", u16, 14),
            ("skc_family", u16, 16),
            ("skc_state", u8, 18),
            ("skc_net", net, 48),
            ("skc_v6_daddr", six, 56),
            ("skc_v6_rcv_saddr", six, 72),
        ],
    );
    made.structure(
        "sock",
        208,
        &[("__sk_common", common, 0), ("sk_protocol", u16, 200), ("sk_type", u16, 202)],
    );
    let ns = made.structure("ns_common", 16, &[("inum", u32, 8)]);
    made.structure("net", 64, &[("ns", ns, 16)]);
    let qstr = made.structure("qstr", 16, &[("len", u32, 4), ("name", pointer, 8)]);
    let hash = made.structure("hlist_bl_node", 16, &[("next", pointer, 0), ("pprev", pointer, 8)]);
    made.structure("dentry", 64, &[("d_hash", hash, 8), ("d_parent", pointer, 24), ("d_name", qstr, 32)]);
    let vfsmount = made.structure("vfsmount", 16, &[("mnt_root", pointer, 0)]);
    made.structure(
        "mount",
        64,
        &[("mnt_parent", pointer, 16), ("mnt_mountpoint", pointer, 24), ("mnt", vfsmount, 32)],
    );
    made.bytes()
}
