//! Names of the system calls that audit rules watch, where the record gives only a number.
//!
//! From the kernel's `arch/x86/entry/syscalls/syscall_64.tbl`, `syscall_32.tbl` and
//! `include/uapi/asm-generic/unistd.h`.

/// The name of call `number` on `arch`, the record's hexadecimal `AUDIT_ARCH_…`.
pub(super) fn name(arch: &str, number: u32) -> Option<&'static str> {
    let table: &[(u32, &str)] = match arch {
        "c000003e" => &X86_64,
        "40000003" => &I386,
        "c00000b7" | "c00000f3" => &GENERIC,
        _ => return None,
    };
    table.binary_search_by_key(&number, |(n, _)| *n).ok().and_then(|at| table.get(at)).map(|(_, name)| *name)
}

const X86_64: [(u32, &str); 72] = [
    (0, "read"),
    (1, "write"),
    (2, "open"),
    (3, "close"),
    (9, "mmap"),
    (10, "mprotect"),
    (16, "ioctl"),
    (40, "sendfile"),
    (41, "socket"),
    (42, "connect"),
    (43, "accept"),
    (44, "sendto"),
    (45, "recvfrom"),
    (46, "sendmsg"),
    (49, "bind"),
    (50, "listen"),
    (56, "clone"),
    (57, "fork"),
    (58, "vfork"),
    (59, "execve"),
    (62, "kill"),
    (76, "truncate"),
    (77, "ftruncate"),
    (80, "chdir"),
    (82, "rename"),
    (83, "mkdir"),
    (84, "rmdir"),
    (85, "creat"),
    (86, "link"),
    (87, "unlink"),
    (88, "symlink"),
    (90, "chmod"),
    (91, "fchmod"),
    (92, "chown"),
    (93, "fchown"),
    (94, "lchown"),
    (101, "ptrace"),
    (105, "setuid"),
    (106, "setgid"),
    (113, "setreuid"),
    (117, "setresuid"),
    (132, "utime"),
    (133, "mknod"),
    (155, "pivot_root"),
    (159, "adjtimex"),
    (161, "chroot"),
    (164, "settimeofday"),
    (165, "mount"),
    (166, "umount2"),
    (169, "reboot"),
    (170, "sethostname"),
    (175, "init_module"),
    (176, "delete_module"),
    (188, "setxattr"),
    (227, "clock_settime"),
    (235, "utimes"),
    (257, "openat"),
    (258, "mkdirat"),
    (260, "fchownat"),
    (263, "unlinkat"),
    (264, "renameat"),
    (268, "fchmodat"),
    (280, "utimensat"),
    (288, "accept4"),
    (310, "process_vm_readv"),
    (311, "process_vm_writev"),
    (313, "finit_module"),
    (316, "renameat2"),
    (319, "memfd_create"),
    (321, "bpf"),
    (322, "execveat"),
    (437, "openat2"),
];

const I386: [(u32, &str); 21] = [
    (2, "fork"),
    (3, "read"),
    (4, "write"),
    (5, "open"),
    (6, "close"),
    (8, "creat"),
    (9, "link"),
    (10, "unlink"),
    (11, "execve"),
    (12, "chdir"),
    (15, "chmod"),
    (21, "mount"),
    (26, "ptrace"),
    (37, "kill"),
    (38, "rename"),
    (102, "socketcall"),
    (128, "init_module"),
    (129, "delete_module"),
    (197, "fstat64"),
    (295, "openat"),
    (358, "execveat"),
];

/// arm64 and riscv64.
const GENERIC: [(u32, &str); 34] = [
    (5, "setxattr"),
    (33, "mknodat"),
    (34, "mkdirat"),
    (35, "unlinkat"),
    (36, "symlinkat"),
    (37, "linkat"),
    (38, "renameat"),
    (39, "umount2"),
    (40, "mount"),
    (49, "chdir"),
    (51, "chroot"),
    (52, "fchmod"),
    (53, "fchmodat"),
    (54, "fchownat"),
    (55, "fchown"),
    (56, "openat"),
    (57, "close"),
    (63, "read"),
    (64, "write"),
    (88, "utimensat"),
    (105, "init_module"),
    (106, "delete_module"),
    (117, "ptrace"),
    (129, "kill"),
    (142, "reboot"),
    (198, "socket"),
    (200, "bind"),
    (203, "connect"),
    (220, "clone"),
    (221, "execve"),
    (273, "finit_module"),
    (276, "renameat2"),
    (280, "bpf"),
    (281, "execveat"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order_so_that_every_entry_is_found() {
        for (arch, table) in [("c000003e", &X86_64[..]), ("40000003", &I386[..]), ("c00000b7", &GENERIC[..])]
        {
            for (number, called) in table {
                assert_eq!(name(arch, *number), Some(*called));
            }
        }
        assert_eq!((name("c000003e", 9999), name("0", 59)), (None, None));
    }
}
