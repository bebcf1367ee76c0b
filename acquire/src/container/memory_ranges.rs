//! The ranges of a process's memory, as `maps` and `smaps` of proc_pid_maps(5) and proc_pid_smaps(5) list them.

use custody::bundle::State;

use crate::triage::live_table::Row;

/// Bytes of a page of this machine.
pub(super) fn page() -> u64 {
    (rustix::param::page_size() as u64).max(4096)
}

/// How many bytes went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) data: u64,
    pub(super) absent: u64,
    pub(super) unreadable: u64,
    pub(super) skipped: u64,
}

impl Tally {
    pub(super) fn add(&mut self, state: State, bytes: u64) {
        let counter = match state {
            State::Data | State::Zero => &mut self.data,
            State::Unreadable => &mut self.unreadable,
            State::Skipped => &mut self.skipped,
            State::Absent | State::Base => &mut self.absent,
        };
        *counter = counter.saturating_add(bytes);
    }

    pub(super) fn append(&mut self, other: Self) {
        self.data = self.data.saturating_add(other.data);
        self.absent = self.absent.saturating_add(other.absent);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
        self.skipped = self.skipped.saturating_add(other.skipped);
    }
}

/// One line of `maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) permissions: String,
    pub(super) offset: u64,
    device: String,
    inode: u64,
    pub(super) path: Vec<u8>,
    flags: String,
}

impl Range {
    pub(super) fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.permissions.ends_with('s')
    }

    /// Whether its content lies in a file that others can read.
    pub(super) fn has_file(&self) -> bool {
        let nameless = ["/memfd:", "/dev/shm/", "/run/shm/", "/SYSV", "/dev/zero"];
        self.path.starts_with(b"/")
            && !self.path.ends_with(b" (deleted)")
            && !nameless.iter().any(|start| self.path.starts_with(start.as_bytes()))
    }

    /// Why none of it is read.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let has = |flag: &str| self.flags.split(' ').any(|word| word == flag);
        if self.path.starts_with(b"[vvar") || self.path == b"[vsyscall]" || self.end > i64::MAX as u64 {
            Some("a page of the kernel's own")
        } else if has("io") || has("pf") {
            Some("memory of a device")
        } else {
            None
        }
    }

    /// Whether it may be memory of a device, as far as its path tells.
    pub(super) fn may_be_a_device(&self) -> bool {
        let plain = ["/dev/zero", "/dev/shm/"];
        [&b"/dev/"[..], b"/sys/", b"/proc/"].iter().any(|start| self.path.starts_with(start))
            && !plain.iter().any(|start| self.path.starts_with(start.as_bytes()))
    }

    pub(super) fn row(&self, tally: &Tally, why: &str) -> Row {
        let mut row = Row::default();
        row.put("start", format!("{:#x}", self.start));
        row.put("end", format!("{:#x}", self.end));
        row.put("permissions", self.permissions.clone());
        row.put("offset", format!("{:#x}", self.offset));
        row.text("device", self.device.as_bytes());
        row.put("inode", self.inode.to_string());
        if !self.path.is_empty() {
            row.text("path", &self.path);
        }
        for (key, bytes) in [
            ("data", tally.data),
            ("absent", tally.absent),
            ("unreadable", tally.unreadable),
            ("skipped", tally.skipped),
        ] {
            if bytes > 0 {
                row.number(key, Some(bytes));
            }
        }
        if !why.is_empty() {
            row.put("why", why);
        }
        row
    }
}

/// The ranges that `maps` or `smaps` list; lines that are not understood are left out.
pub(super) fn ranges(text: &[u8]) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        if let Some(range) = range(line) {
            // They never overlap; what would is no text of the kernel.
            if found.last().is_none_or(|last| last.end <= range.start) {
                found.push(range);
            }
        } else if let Some(flags) = line.strip_prefix(b"VmFlags:")
            && let Some(last) = found.last_mut()
        {
            last.flags = String::from_utf8_lossy(flags).trim().to_owned();
        }
    }
    found
}

fn range(line: &[u8]) -> Option<Range> {
    let mut words = line.splitn(6, |&byte| byte == b' ');
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let (start, end) = word()?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let permissions = word()?.to_owned();
    let offset = number(word()?)?;
    let device = word()?.to_owned();
    let inode = word()?.parse().ok()?;
    let path = words.next().unwrap_or_default().trim_ascii_start().to_vec();
    let whole = start.is_multiple_of(page()) && end.is_multiple_of(page()) && start < end;
    let whole = whole && permissions.len() == 4;
    whole.then(|| Range { start, end, permissions, offset, device, inode, path, flags: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &[u8] = b"00400000-00402000 r-xp 00001000 fd:01 7 /usr/lib/a b.so (deleted)\n\
        Size:                  8 kB\n\
        Rss:                   8 kB\n\
        VmFlags: rd ex mr mw me \n\
        7ff0000000-7ff0001000 rw-p 00000000 00:00 0                          [stack]\n\
        VmFlags: rd wr io pf\n\
        7ff0002000-7ff0004000 r--p 00000000 00:00 0                          [vvar]\n\
        nonsense-here rw-p 0 0:0 0\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

    #[test]
    fn ranges_are_read_with_their_flags_and_what_must_not_be_read_is_known() {
        let found = ranges(SMALL);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].path, b"/usr/lib/a b.so (deleted)");
        assert_eq!((found[0].length(), found[0].refusal(), found[0].has_file()), (8192, None, false));
        assert_eq!(found[1].refusal(), Some("memory of a device"));
        assert!(found[2].refusal().is_some() && found[3].refusal().is_some());
        for end in 0..SMALL.len() {
            let _ = ranges(&SMALL[..end]);
        }
    }
}
