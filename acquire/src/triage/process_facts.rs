//! What the small texts of `/proc/PID` say: `stat`, `status`, `cgroup`. Reference: proc(5).

use std::collections::BTreeMap;

/// The fields of `/proc/PID/stat` that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) name: Vec<u8>,
    pub(crate) state: char,
    pub(crate) parent: u64,
    pub(crate) group: u64,
    pub(crate) session: u64,
    pub(crate) terminal: i64,
    pub(crate) flags: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) threads: u64,
    /// Clock ticks between boot and start.
    pub(crate) start: u64,
}

/// `PF_KTHREAD` of `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Stat {
    /// Reads `PID (NAME) S …`; the name may hold anything, brackets and line feeds too.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let name = text.get(open.checked_add(1)?..close)?.to_vec();
        let rest = std::str::from_utf8(text.get(close.checked_add(1)?..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let text = |at: usize| fields.get(at).copied();
        let number = |at: usize| text(at).and_then(|field| field.parse::<u64>().ok());
        Some(Self {
            name,
            state: text(0)?.chars().next()?,
            parent: number(1)?,
            group: number(2).unwrap_or(0),
            session: number(3).unwrap_or(0),
            terminal: text(4).and_then(|field| field.parse().ok()).unwrap_or(0),
            flags: number(6).unwrap_or(0),
            user_ticks: number(11).unwrap_or(0),
            system_ticks: number(12).unwrap_or(0),
            threads: number(17)?,
            start: number(19)?,
        })
    }

    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// The terminal as device numbers, `0:0` for none.
    pub(crate) fn terminal_device(&self) -> Option<(u32, u32)> {
        let device = u32::try_from(self.terminal).ok().filter(|&device| device != 0)?;
        Some((device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00))
    }
}

/// The lines `Key:\tvalue` of `/proc/PID/status`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status(BTreeMap<String, String>);

impl Status {
    pub(crate) fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The nth number of a line: `Uid:` has the real, the effective, the saved and the file system's.
    pub(crate) fn number(&self, key: &str, nth: usize) -> Option<u64> {
        self.value(key)?.split_ascii_whitespace().nth(nth)?.parse().ok()
    }
}

/// The path of the unified hierarchy (`0::`), or of the first one.
pub(crate) fn control_group(text: &[u8]) -> Option<&[u8]> {
    let lines = || text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let path = |line: &'_ [u8]| -> Option<usize> {
        let mut colons = line.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
        colons.nth(1).and_then(|at| at.checked_add(1))
    };
    let unified = lines().find(|line| line.starts_with(b"0::"));
    let line = match unified {
        // Of a mixed system the unified one may be empty, and the first named one tells more.
        Some(line) if line != b"0::/" => line,
        _ => lines().next()?,
    };
    line.get(path(line)?..)
}

/// The container that a control group's path speaks of: its id, and who names it so.
///
/// A guess by the path, which whoever made the group chose. Docker, containerd, CRI-O and Podman use 64 hex digits.
pub(crate) fn container_of(group: &[u8]) -> Option<(String, &'static str)> {
    let group = std::str::from_utf8(group).ok()?;
    let is_id = |id: &str| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    for part in group.rsplit('/') {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let known = [
            ("docker-", "docker"),
            ("cri-containerd-", "containerd"),
            ("crio-", "cri-o"),
            ("libpod-", "podman"),
        ];
        if let Some((id, engine)) =
            known.iter().find_map(|(start, engine)| Some((part.strip_prefix(start)?, *engine)))
            && is_id(id)
        {
            return Some((id.to_owned(), engine));
        }
        if is_id(part) {
            let engine = match () {
                () if group.contains("/docker/") => "docker",
                () if group.contains("libpod") => "podman",
                () if group.contains("kubepods") => "kubernetes",
                () => "unknown",
            };
            return Some((part.to_owned(), engine));
        }
        if let Some(name) = part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("lxc.payload/")) {
            return Some((name.to_owned(), "lxc"));
        }
        if let Some(name) = part.strip_prefix("machine-") {
            return Some((name.to_owned(), "machine"));
        }
    }
    None
}

/// Seconds since boot, in nanoseconds, as `/proc/uptime` says to a hundredth.
pub(crate) fn uptime_ns(text: &[u8]) -> Option<i64> {
    let first = std::str::from_utf8(text).ok()?.split_ascii_whitespace().next()?;
    let (seconds, part) = first.split_once('.').unwrap_or((first, "0"));
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)
}

/// `btime` of `/proc/stat`: the boot in whole seconds since 1970.
pub(crate) fn boot_second(text: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_stat_may_hold_brackets_spaces_and_line_feeds() {
        let text = b"42 (a) S (x\n) R 1 42 42 34816 42 4194560 1 0 0 0 7 9 0 0 20 0 3 0 1234567 0 0";
        let stat = Stat::read(text).unwrap();
        assert_eq!(stat.name, b"a) S (x\n");
        assert_eq!((stat.state, stat.parent, stat.threads, stat.start), ('R', 1, 3, 1_234_567));
        assert_eq!((stat.user_ticks, stat.system_ticks), (7, 9));
        assert_eq!(stat.terminal_device(), Some((136, 0)));
        assert!(!stat.is_kernel_thread());
        for end in 0..text.len() {
            let _ = Stat::read(&text[..end]); // must not panic
        }
    }

    #[test]
    fn containers_are_told_by_the_path_of_their_control_group() {
        let id = "9c1f4c0e6f9b2a7d5e3c1b0a99887766554433221100ffeeddccbbaa99887766";
        for (group, engine) in [
            (format!("/system.slice/docker-{id}.scope"), "docker"),
            (format!("/docker/{id}"), "docker"),
            (format!("/kubepods.slice/x/cri-containerd-{id}.scope"), "containerd"),
            (format!("/machine.slice/libpod-{id}.scope/container"), "podman"),
            (format!("/kubepods/besteffort/pod1/{id}"), "kubernetes"),
        ] {
            assert_eq!(container_of(group.as_bytes()), Some((id.to_owned(), engine)), "{group}");
        }
        assert_eq!(container_of(b"/lxc.payload.web"), Some(("web".to_owned(), "lxc")));
        assert_eq!(container_of(b"/user.slice/user-1000.slice/session-2.scope"), None);
        assert_eq!(container_of(b"/docker/\xff"), None);
    }

    #[test]
    fn the_control_group_is_the_unified_one_or_the_first() {
        assert_eq!(control_group(b"0::/init.scope\n"), Some(&b"/init.scope"[..]));
        let mixed = b"12:pids:/docker/x\n1:name=systemd:/docker/x\n0::/\n";
        assert_eq!(control_group(mixed), Some(&b"/docker/x"[..]));
        assert_eq!(control_group(b"0::/\n"), Some(&b"/"[..]));
        assert_eq!(control_group(b""), None);
        assert_eq!(control_group(b"nonsense"), None);
    }

    #[test]
    fn uptime_and_boot_time_are_read() {
        assert_eq!(uptime_ns(b"350735.47 234388.90\n"), Some(350_735_470_000_000));
        assert_eq!(uptime_ns(b"x"), None);
        assert_eq!(boot_second(b"cpu 1\nbtime 1795224600\nprocesses 3\n"), Some(1_795_224_600));
        assert_eq!(Status::read(b"Uid:\t1\t2\t3\t4\n").number("Uid", 1), Some(2));
    }
}
