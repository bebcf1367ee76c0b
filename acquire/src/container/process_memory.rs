//! The memory of one process, read from outside through `/proc/PID/mem`, as an ELF core.
//!
//! - `/V1/memory/PID.core`: ELF64, `ET_CORE`. One `PT_LOAD` for each run of pages, its address in `p_vaddr`, its bytes in
//!   the file; `NT_AUXV` and `NT_FILE` as a core of the kernel has them. No registers: the process is not traced.
//! - `/V1/memory/PID.ranges.jsonl`: every range of `/proc/PID/smaps`, and how many of its bytes are in which state: `data`,
//!   `absent` (in no page of memory: never touched, or as in its file), `unreadable`, or `skipped` with the reason. Their
//!   sum is the range.
//! - Read are the pages that `/proc/PID/pagemap` says are in memory or swapped out, and of mappings that have no file (any
//!   more) and are shared, those that hold data, whoever wrote them (`SEEK_DATA` on `/proc/PID/map_files`). So nothing is
//!   paged in but what was swapped out, and no page comes to be that was not there.
//! - Skipped are the kernel's own pages (`[vvar]`, `[vsyscall]`), memory of devices (`VmFlags` `io`, `pf`), and what goes
//!   beyond the limit: anonymous memory comes first, mapped files last.
//! - Reference: proc_pid_smaps(5), `Documentation/admin-guide/mm/pagemap.rst`, elf(5), core(5).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use custody::bundle::State;
use custody::{Digest, Hasher};
use rustix::fs::{SeekFrom, seek};

use super::elf_core::{MOST_SEGMENTS, Piece, head, pieces};
use super::members::start_below;
use super::memory_ranges::{Range, Tally, page, ranges};
use crate::error::Result;
use crate::file_content::{Content, Problem, Problems};
use crate::pipeline::Marks;
use crate::tar_packer::TarPacker;
use crate::triage::bounded_reads::{Patience, open_below, open_folder, read_below};
use crate::triage::live_table::{Lines, Row};
use crate::triage::processes::has_gone;

/// The file system that shared memory lies in, by statfs(2).
const TMPFS: u64 = 0x0102_1994;
const FORMAT: &str = "exhibit-process-memory/1";
/// One read; a page that another program must bring may never come.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of `/proc/PID/smaps`.
const SMAPS: usize = 256 << 20;
/// Pages of one range that are looked up, and of one process: a range of 64 GiB, a quarter of a TiB.
const MOST_OF_RANGE: u64 = 1 << 24;
const MOST_OF_PROCESS: u64 = 1 << 26;
/// Entries of `pagemap` in one read.
const BLOCK: u64 = 1 << 16;
/// Runs of pages of one process, beyond which its rest is skipped.
const MOST_PIECES: usize = 1 << 20;
/// Pages in a row that cannot be read before the run is given up.
const MOST_FAILURES: u32 = 64;
/// Bytes of one read.
const READ: u64 = 512 << 10;

/// Takes the memory of the process that began at `start`, at most `most` bytes of it. Gives what became of all of it; `None` if it has gone.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(super) fn process_memory(
    proc: &Path,
    pid: u32,
    start: u64,
    most: u64,
    out: &mut TarPacker<'_>,
) -> Result<Option<Tally>> {
    let place = format!("V1/memory/{pid}.core");
    let mut patience = Patience::of(LIMIT);
    let opened = Opened::open(proc, pid, start, &mut patience);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let why = if has_gone(&error) { "the process had ended".to_owned() } else { error.to_string() };
            out.note(Path::new(&place), &format!("not taken: {why}"));
            return Ok(None);
        }
    };
    if opened.ranges.is_empty() {
        // One that has ended and was not waited for, or a thread of the kernel.
        return Ok(None);
    }
    let mut plan = Plan::make(&opened, most, &mut patience);
    let mut core = Core::of(&opened, &mut plan);
    let size = core.size;
    if !core.pieces.is_empty() {
        out.made_of(&place, size, &mut core)?;
    }
    let ended = core.ended;
    let tallies = core.tallies;
    let mut lines = Lines::default();
    let mut header = Row::default();
    header.put("format", FORMAT);
    header.put("pid", pid);
    header.number("core_bytes", Some(if plan.pieces == 0 { 0 } else { size }));
    header.flag("ended_meanwhile", ended);
    lines.line(header);
    let mut whole = Tally::default();
    for ((range, tally), why) in opened.ranges.iter().zip(&tallies).zip(&plan.why) {
        whole.append(*tally);
        lines.line(range.row(tally, why));
    }
    out.made(&format!("V1/memory/{pid}.ranges.jsonl"), lines.bytes())?;
    if plan.beyond > 0 {
        out.note(Path::new(&place), &format!("{} bytes not taken: beyond the limit", plan.beyond));
    }
    Ok(Some(whole))
}

/// A process whose files in `/proc` are open, so that its number cannot pass to another one.
struct Opened {
    folder: Arc<OwnedFd>,
    memory: Arc<File>,
    pagemap: Option<Arc<File>>,
    ranges: Vec<Range>,
    auxv: Vec<u8>,
    /// Whether the flags of its ranges are known.
    has_flags: bool,
}

impl Opened {
    fn open(proc: &Path, pid: u32, start: u64, patience: &mut Patience) -> io::Result<Self> {
        let folder = Arc::new(open_folder(&proc.join(pid.to_string()))?);
        let to_look = Arc::clone(&folder);
        if patience.wait(move || Ok(start_below(&to_look)))? != Some(start) {
            return Err(io::Error::other("the process had ended, and another one has its number"));
        }
        let read = |patience: &mut Patience, name: &'static str, most: usize| {
            let folder: Arc<OwnedFd> = Arc::clone(&folder);
            patience.wait(move || read_below(&folder, name, most))
        };
        let (text, has_flags) = match read(patience, "smaps", SMAPS) {
            Ok(taken) if !taken.bytes.is_empty() && !taken.cut => (taken.bytes, true),
            _ => (read(patience, "maps", SMAPS)?.bytes, false),
        };
        let auxv = read(patience, "auxv", 64 << 10).map(|taken| taken.bytes).unwrap_or_default();
        let to_open = Arc::clone(&folder);
        let memory = patience.wait(move || open_below(&to_open, "mem"))?;
        let to_open = Arc::clone(&folder);
        let pagemap = patience.wait(move || open_below(&to_open, "pagemap"));
        Ok(Self {
            folder,
            has_flags,
            memory: Arc::new(memory),
            pagemap: pagemap.ok().map(Arc::new),
            ranges: ranges(&text),
            auxv,
        })
    }
}

/// What is read of each range.
struct Plan {
    runs: Vec<Vec<(u64, u64)>>,
    /// Of each range, why some of it is not read; may be empty.
    why: Vec<String>,
    tallies: Vec<Tally>,
    /// Bytes that the limit cost.
    beyond: u64,
    pieces: usize,
}

impl Plan {
    fn make(opened: &Opened, most: u64, patience: &mut Patience) -> Self {
        let count = opened.ranges.len();
        let mut plan = Self {
            runs: vec![Vec::new(); count],
            why: vec![String::new(); count],
            tallies: vec![Tally::default(); count],
            beyond: 0,
            pieces: 0,
        };
        let mut pages_left = MOST_OF_PROCESS;
        for (at, range) in opened.ranges.iter().enumerate() {
            match plan.look(opened, range, &mut pages_left, patience) {
                Ok((runs, why)) => {
                    plan.keep(at, range, runs);
                    if let Some(place) = plan.why.get_mut(at) {
                        *place = why;
                    }
                }
                Err(why) => plan.skip(at, range, &why),
            }
        }
        plan.fit(&opened.ranges, most);
        plan
    }

    /// The runs of pages of a range that are worth reading and what is missed by them, or why none is.
    fn look(
        &self,
        opened: &Opened,
        range: &Range,
        pages_left: &mut u64,
        patience: &mut Patience,
    ) -> std::result::Result<(Vec<(u64, u64)>, String), String> {
        if let Some(why) = range.refusal() {
            return Err(why.to_owned());
        }
        if !opened.has_flags && range.may_be_a_device() {
            return Err("it may be memory of a device: its flags could not be read".to_owned());
        }
        let mut why = String::new();
        let pages = range.length() / page();
        if range.is_shared() && !range.has_file() {
            let (folder, of) = (Arc::clone(&opened.folder), range.clone());
            match patience.wait(move || shared_runs(&folder, &of)) {
                Ok(runs) => return Ok((runs, why)),
                Err(error) => {
                    why = format!("of what is shared, only what this process has in memory: {error}");
                }
            }
        }
        let Some(pagemap) = &opened.pagemap else {
            let small = pages <= (1 << 18) && range.permissions.starts_with('r');
            let why = "which of its pages are in memory could not be seen";
            return if small && !range.is_shared() {
                Ok((vec![(range.start, range.length())], String::new()))
            } else {
                Err(why.to_owned())
            };
        };
        if pages > MOST_OF_RANGE || pages > *pages_left || self.pieces >= MOST_PIECES {
            return Err("too large to be looked through".to_owned());
        }
        *pages_left = pages_left.saturating_sub(pages);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let (first, mut done) = (range.start / page(), 0u64);
        while done < pages {
            let count = BLOCK.min(pages.saturating_sub(done));
            let (to_read, from) = (Arc::clone(pagemap), first.saturating_add(done));
            let entries = patience
                .wait(move || read_entries(&to_read, from, count))
                .map_err(|error| format!("its pages could not be looked up: {error}"))?;
            for (number, entry) in entries.into_iter().enumerate() {
                // Bit 63: in memory. Bit 62: swapped out.
                if entry >> 62 == 0 {
                    continue;
                }
                let address = from.saturating_add(number as u64).saturating_mul(page());
                match runs.last_mut() {
                    Some((start, length)) if start.saturating_add(*length) == address => *length += page(),
                    _ => runs.push((address, page())),
                }
            }
            done = done.saturating_add(count);
        }
        Ok((runs, why))
    }

    fn keep(&mut self, at: usize, range: &Range, runs: Vec<(u64, u64)>) {
        let there: u64 = runs.iter().map(|(_, length)| length).sum();
        if let Some(tally) = self.tallies.get_mut(at) {
            tally.add(State::Absent, range.length().saturating_sub(there));
        }
        self.pieces = self.pieces.saturating_add(runs.len());
        if let Some(place) = self.runs.get_mut(at) {
            *place = runs;
        }
    }

    fn skip(&mut self, at: usize, range: &Range, why: &str) {
        if let Some(tally) = self.tallies.get_mut(at) {
            tally.add(State::Skipped, range.length());
        }
        if let Some(place) = self.why.get_mut(at) {
            why.clone_into(place);
        }
    }

    /// Leaves out what goes beyond the limit: mapped files first.
    fn fit(&mut self, ranges: &[Range], most: u64) {
        let mut left = most;
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|&at| ranges.get(at).is_some_and(Range::has_file));
        for at in order {
            let Some(runs) = self.runs.get_mut(at) else { continue };
            let mut beyond = 0u64;
            for (_, length) in runs.iter_mut() {
                let taken = (*length).min(left) / page() * page();
                beyond = beyond.saturating_add(length.saturating_sub(taken));
                left = left.saturating_sub(taken);
                *length = taken;
            }
            runs.retain(|(_, length)| *length > 0);
            if beyond > 0 {
                self.beyond = self.beyond.saturating_add(beyond);
                if let (Some(tally), Some(why)) = (self.tallies.get_mut(at), self.why.get_mut(at)) {
                    tally.add(State::Skipped, beyond);
                    "beyond the limit".clone_into(why);
                }
            }
        }
        self.pieces = self.runs.iter().map(Vec::len).sum();
    }
}

/// The runs of a shared range that hold data in what it is a mapping of, by whomever that was written.
fn shared_runs(folder: &OwnedFd, range: &Range) -> io::Result<Vec<(u64, u64)>> {
    let file = open_below(folder, &format!("map_files/{:x}-{:x}", range.start, range.end))?;
    if u64::try_from(rustix::fs::fstatfs(&file)?.f_type).unwrap_or(0) != TMPFS {
        return Err(io::Error::other("it lies in no file system that tells its holes"));
    }
    let end = range.offset.saturating_add(range.length());
    let (mut runs, mut at) = (Vec::new(), range.offset);
    while at < end && runs.len() < MOST_PIECES {
        let from = match seek(&file, SeekFrom::Data(at)) {
            Ok(from) => from / page() * page(),
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let to = seek(&file, SeekFrom::Hole(from.max(at)))?.next_multiple_of(page()).min(end);
        if from >= end || to <= from {
            break;
        }
        let address = range.start.saturating_add(from.saturating_sub(range.offset));
        runs.push((address, to.saturating_sub(from)));
        at = to;
    }
    Ok(runs)
}

fn read_entries(pagemap: &File, from: u64, count: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(0).saturating_mul(8)];
    let mut done = 0usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let offset = from.saturating_mul(8).saturating_add(done as u64);
        match pagemap.read_at(rest, offset) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the process has ended")),
            Ok(read) => done = done.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_ne_bytes(entry.try_into().unwrap_or_default())).collect())
}

/// A core on its way into the tar.
struct Core {
    head: Vec<u8>,
    pieces: Vec<Piece>,
    size: u64,
    memory: Arc<File>,
    patience: Patience,
    tallies: Vec<Tally>,
    hasher: Hasher,
    problems: Problems,
    /// Byte of the file.
    offset: u64,
    /// Which piece is next, and how much of it is done.
    at: (usize, u64),
    failed: u32,
    /// Why nothing more is tried.
    given_up: Option<(State, &'static str)>,
    ended: bool,
}

impl Core {
    fn of(opened: &Opened, plan: &mut Plan) -> Self {
        let pieces = pieces(&plan.runs, MOST_SEGMENTS);
        let head = head(&opened.ranges, &opened.auxv, &pieces);
        let body: u64 = pieces.iter().map(|piece| piece.length).sum();
        // Holes that were filled are in the file, as zeros that are marked so; they are in the tally already.
        Self {
            size: (head.len() as u64).saturating_add(body),
            head,
            pieces,
            memory: Arc::clone(&opened.memory),
            patience: Patience::of(LIMIT),
            tallies: std::mem::take(&mut plan.tallies),
            hasher: Hasher::new(),
            problems: Problems::default(),
            offset: 0,
            at: (0, 0),
            failed: 0,
            given_up: None,
            ended: false,
        }
    }

    fn block(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize {
        let (number, done) = self.at;
        let Some(piece) = self.pieces.get(number).copied() else { return 0 };
        let left = piece.length.saturating_sub(done);
        let want = left.min(room.len() as u64).min(READ);
        let want = usize::try_from(want).unwrap_or(0);
        let Some(room) = room.get_mut(..want) else { return 0 };
        let address = piece.start.saturating_add(done);
        let mut count = |bytes: usize, state: State| {
            if piece.is_there
                && let Some(tally) = self.tallies.get_mut(piece.range)
            {
                tally.add(state, bytes as u64);
            }
        };
        let filled = if !piece.is_there {
            room.fill(0);
            marks.add(0, want, State::Absent, "not in memory");
            want
        } else if let Some((state, why)) = self.given_up {
            count(want, state);
            self.problems.missing(self.offset, room, marks, (state, why), why);
            want
        } else {
            let memory = Arc::clone(&self.memory);
            let read = self.patience.wait(move || {
                let mut bytes = vec![0; want];
                let read = memory.read_at(&mut bytes, address)?;
                bytes.truncate(read);
                Ok(bytes)
            });
            match read {
                Ok(bytes) if !bytes.is_empty() => {
                    self.failed = 0;
                    let filled = bytes.len().min(want);
                    if let (Some(room), Some(bytes)) = (room.get_mut(..filled), bytes.get(..filled)) {
                        room.copy_from_slice(bytes);
                    }
                    count(filled, State::Data);
                    filled
                }
                Ok(_) => {
                    self.ended = true;
                    self.given_up = Some((State::Absent, "the process ended while its memory was read"));
                    0
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.given_up =
                        Some((State::Unreadable, "given up: a read of it did not answer in time"));
                    0
                }
                Err(error) => {
                    self.failed += 1;
                    let page = usize::try_from(page() - address % page()).unwrap_or(4096);
                    let step = if self.failed > MOST_FAILURES { want } else { want.min(page) };
                    let detail = format!("errno={} tries=1", error.raw_os_error().unwrap_or(0));
                    let block = room.get_mut(..step).unwrap_or_default();
                    count(step, State::Unreadable);
                    let what = format!("unreadable: {error}");
                    self.problems.missing(self.offset, block, marks, (State::Unreadable, &detail), &what);
                    step
                }
            }
        };
        let done = done.saturating_add(filled as u64);
        if done >= piece.length {
            self.at = (number.saturating_add(1), 0);
            self.failed = 0;
        } else {
            self.at = (number, done);
        }
        filled
    }
}

impl Content for Core {
    fn is_done(&self) -> bool {
        self.offset >= self.size
    }

    fn read(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize {
        let filled = match usize::try_from(self.offset).ok().and_then(|at| self.head.get(at..)) {
            Some(rest) if !rest.is_empty() => {
                let take = rest.len().min(room.len());
                if let (Some(room), Some(rest)) = (room.get_mut(..take), rest.get(..take)) {
                    room.copy_from_slice(rest);
                }
                take
            }
            _ => self.block(room, marks),
        };
        self.hasher.update(room.get(..filled).unwrap_or_default());
        self.offset = self.offset.saturating_add(filled as u64);
        filled
    }

    fn finish(&mut self) -> (Digest, Vec<Problem>) {
        (std::mem::take(&mut self.hasher).finish(), self.problems.take_with(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_mapped_files_go_first_and_every_byte_is_accounted_for() {
        let file = ranges(
            b"00400000-00404000 r-xp 00000000 fd:01 7 /usr/lib/x.so\n00600000-00604000 rw-p 0 00:00 0 \n",
        );
        let mut plan = Plan {
            runs: vec![Vec::new(); 2],
            why: vec![String::new(); 2],
            tallies: vec![Tally::default(); 2],
            beyond: 0,
            pieces: 0,
        };
        plan.keep(0, &file[0], vec![(0x40_0000, 0x4000)]);
        plan.keep(1, &file[1], vec![(0x60_0000, 0x3000)]);
        plan.fit(&file, 0x4000);
        assert_eq!(plan.runs, [vec![(0x40_0000, 0x1000)], vec![(0x60_0000, 0x3000)]]);
        assert_eq!((plan.tallies[0].skipped, plan.tallies[1].absent, plan.beyond), (0x3000, 0x1000, 0x3000));
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a test that is skipped must say so")]
    fn what_is_shared_is_read_where_it_holds_data_and_no_page_comes_to_be() {
        use crate::triage::packed::packed;
        use std::os::unix::fs::MetadataExt;
        let memory = rustix::fs::memfd_create("sparse", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let memory = File::from(memory);
        memory.set_len(64 << 20).unwrap();
        memory.write_at(b"planted-in-shared-memory", 32 << 20).unwrap();
        // Mapped by a child, which never touches it.
        let script = "import mmap,time\nm=mmap.mmap(0,64<<20)\nprint(flush=True)\ntime.sleep(600)";
        let child = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::from(memory.try_clone().unwrap()))
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: python3 is not installed");
            return;
        };
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let start = super::super::members::start_of(Path::new("/"), child.id()).unwrap();
        let before = memory.metadata().unwrap().blocks();
        let out = packed(|out, _| {
            process_memory(Path::new("/proc"), child.id(), start, 1 << 30, out)?.unwrap();
            // Another process of that number is none of ours.
            let other = process_memory(Path::new("/proc"), child.id(), start + 1, 1 << 30, out)?;
            assert_eq!(other, None);
            Ok(())
        });
        let after = memory.metadata().unwrap().blocks();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(before, after, "pages came to be because they were read");
        let rows = out.rows(&format!("V1/memory/{}.ranges.jsonl", child.id()));
        let shared = rows
            .iter()
            .find(|row| {
                row.get("path").is_some_and(|path| path.as_str().unwrap().starts_with("/memfd:sparse"))
            })
            .expect("the mapping is listed");
        if shared.get("why").is_some() {
            eprintln!("skipped in part: {}", shared["why"]);
            return;
        }
        assert_eq!(shared["data"], 4096);
        let core = &out.files[&format!("V1/memory/{}.core", child.id())];
        assert!(core.windows(24).any(|bytes| bytes == b"planted-in-shared-memory"));
    }

    /// The memory of this very test is read through the same files as that of any process.
    #[test]
    fn a_secret_in_memory_is_found_in_the_core_at_its_address() {
        use crate::triage::packed::packed;
        let kept = format!("planted-{}-secret", "x".repeat(3)).into_bytes();
        let address = kept.as_ptr() as u64;
        let pid = std::process::id();
        let start = super::super::members::start_of(Path::new("/"), pid).unwrap();
        let out = packed(|out, _| {
            let tally = process_memory(Path::new("/proc"), pid, start, 1 << 30, out)?.unwrap();
            assert!(tally.data > 1 << 16, "{tally:?}");
            Ok(())
        });
        let core = &out.files[&format!("V1/memory/{pid}.core")];
        let field = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap());
        let count = u16::from_le_bytes(core[56..58].try_into().unwrap());
        let found = (0..usize::from(count)).map(|n| 64 + n * 56).find_map(|at| {
            let (offset, start, size) = (field(at + 8), field(at + 16), field(at + 32));
            let inside = core[at] == 1 && (start..start + size).contains(&address);
            inside.then(|| usize::try_from(offset + address - start).unwrap())
        });
        let at = found.expect("the page of the secret is in the core");
        assert_eq!(&core[at..at + kept.len()], &kept[..]);
        for row in out.rows(&format!("V1/memory/{pid}.ranges.jsonl")) {
            let hex = |key: &str| {
                u64::from_str_radix(row[key].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
            };
            let sum: u64 = ["data", "absent", "unreadable", "skipped"]
                .iter()
                .filter_map(|key| row.get(*key)?.as_u64())
                .sum();
            assert_eq!(sum, hex("end") - hex("start"), "{row}");
        }
    }
}
