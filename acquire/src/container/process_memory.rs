//! The memory of one process, read from outside through `/proc/PID/mem`, as an ELF core.
//!
//! - `/V1/memory/PID.core`: ELF64, `ET_CORE`. One `PT_LOAD` for each run of pages, its address in `p_vaddr`, its bytes in
//!   the file; `NT_AUXV` and `NT_FILE` as a core of the kernel has them. No registers: the process is not traced.
//! - `/V1/memory/PID.ranges.jsonl`: every range of `/proc/PID/smaps`, and how many of its bytes are in which state: `data`,
//!   `absent` (in no page of memory: never touched, or as in its file), `unreadable`, or `skipped` with the reason. Their
//!   sum is the range.
//! - Read are the pages that `/proc/PID/pagemap` says are in memory or swapped out, and of mappings that have no file (any
//!   more) and are shared, all pages. So nothing is paged in but what was swapped out.
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

use crate::error::Result;
use crate::file_content::{Content, Problem, Problems};
use crate::pipeline::Marks;
use crate::tar_packer::TarPacker;
use crate::triage::bounded_reads::{Patience, open_below, open_folder, read_below};
use crate::triage::live_table::{Lines, Row};
use crate::triage::processes::has_gone;

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
/// `PT_LOAD`s of one core; `e_phnum` has 16 bits.
const MOST_SEGMENTS: usize = 60_000;
/// Runs of pages of one process, beyond which its rest is skipped.
const MOST_PIECES: usize = 1 << 20;
/// Pages in a row that cannot be read before the run is given up.
const MOST_FAILURES: u32 = 64;
/// Bytes of one read.
const READ: u64 = 512 << 10;

/// Bytes of a page of this machine.
fn page() -> u64 {
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
    fn add(&mut self, state: State, bytes: u64) {
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

/// Takes the memory of a process, at most `most` bytes of it. Gives what became of all of it; `None` if it has gone.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(super) fn process_memory(
    proc: &Path,
    pid: u32,
    most: u64,
    out: &mut TarPacker<'_>,
) -> Result<Option<Tally>> {
    let place = format!("V1/memory/{pid}.core");
    let mut patience = Patience::of(LIMIT);
    let opened = Opened::open(proc, pid, &mut patience);
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

/// One line of `maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
    permissions: String,
    offset: u64,
    device: String,
    inode: u64,
    path: Vec<u8>,
    flags: String,
}

impl Range {
    fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn is_shared(&self) -> bool {
        self.permissions.ends_with('s')
    }

    /// Whether its content lies in a file that others can read.
    fn has_file(&self) -> bool {
        let nameless = ["/memfd:", "/dev/shm/", "/run/shm/", "/SYSV", "/dev/zero"];
        self.path.starts_with(b"/")
            && !self.path.ends_with(b" (deleted)")
            && !nameless.iter().any(|start| self.path.starts_with(start.as_bytes()))
    }

    /// Why none of it is read.
    fn refusal(&self) -> Option<&'static str> {
        let has = |flag: &str| self.flags.split(' ').any(|word| word == flag);
        if self.path.starts_with(b"[vvar") || self.path == b"[vsyscall]" || self.end > i64::MAX as u64 {
            Some("a page of the kernel's own")
        } else if has("io") || has("pf") {
            Some("memory of a device")
        } else {
            None
        }
    }

    fn row(&self, tally: &Tally, why: &str) -> Row {
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
fn ranges(text: &[u8]) -> Vec<Range> {
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

/// A process whose files in `/proc` are open, so that its number cannot pass to another one.
struct Opened {
    memory: Arc<File>,
    pagemap: Option<Arc<File>>,
    ranges: Vec<Range>,
    auxv: Vec<u8>,
}

impl Opened {
    fn open(proc: &Path, pid: u32, patience: &mut Patience) -> io::Result<Self> {
        let folder = Arc::new(open_folder(&proc.join(pid.to_string()))?);
        let read = |patience: &mut Patience, name: &'static str, most: usize| {
            let folder: Arc<OwnedFd> = Arc::clone(&folder);
            patience.wait(move || read_below(&folder, name, most))
        };
        let text = match read(patience, "smaps", SMAPS) {
            Ok(taken) if !taken.bytes.is_empty() && !taken.cut => taken.bytes,
            _ => read(patience, "maps", SMAPS)?.bytes,
        };
        let auxv = read(patience, "auxv", 64 << 10).map(|taken| taken.bytes).unwrap_or_default();
        let to_open = Arc::clone(&folder);
        let memory = patience.wait(move || open_below(&to_open, "mem"))?;
        let pagemap = patience.wait(move || open_below(&folder, "pagemap"));
        Ok(Self {
            memory: Arc::new(memory),
            pagemap: pagemap.ok().map(Arc::new),
            ranges: ranges(&text),
            auxv,
        })
    }
}

/// A run of pages that are read, or that are zeros in the file because nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    range: usize,
    start: u64,
    length: u64,
    is_there: bool,
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
                Ok(runs) => plan.keep(at, range, runs),
                Err(why) => plan.skip(at, range, &why),
            }
        }
        plan.fit(&opened.ranges, most);
        plan
    }

    /// The runs of pages of a range that are worth reading, or why none is.
    fn look(
        &self,
        opened: &Opened,
        range: &Range,
        pages_left: &mut u64,
        patience: &mut Patience,
    ) -> std::result::Result<Vec<(u64, u64)>, String> {
        if let Some(why) = range.refusal() {
            return Err(why.to_owned());
        }
        let pages = range.length() / page();
        if range.is_shared() && !range.has_file() && pages <= MOST_OF_RANGE {
            return Ok(vec![(range.start, range.length())]);
        }
        let Some(pagemap) = &opened.pagemap else {
            let small = pages <= (1 << 18) && range.permissions.starts_with('r');
            let why = "which of its pages are in memory could not be seen";
            return if small { Ok(vec![(range.start, range.length())]) } else { Err(why.to_owned()) };
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
        Ok(runs)
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
        let head = head(opened, &pieces);
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

/// Runs of pages as pieces of a file with at most so many segments: where there are more, small holes are filled.
fn pieces(runs: &[Vec<(u64, u64)>], most: usize) -> Vec<Piece> {
    let mut largest = 0u64;
    loop {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut segments = 0usize;
        for (range, runs) in runs.iter().enumerate() {
            let mut end = None;
            for &(start, length) in runs {
                let hole = end.map(|end: u64| start.saturating_sub(end));
                match (hole, end) {
                    (Some(hole), Some(end)) if hole <= largest => {
                        pieces.push(Piece { range, start: end, length: hole, is_there: false });
                    }
                    _ => segments = segments.saturating_add(1),
                }
                pieces.push(Piece { range, start, length, is_there: true });
                end = Some(start.saturating_add(length));
            }
        }
        if segments <= most || largest > 1 << 40 {
            return pieces;
        }
        largest = if largest == 0 { page() } else { largest.saturating_mul(4) };
    }
}

/// Elf header, program headers and notes, filled up to a whole page.
fn head(opened: &Opened, pieces: &[Piece]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const PROGRAM: u64 = 56;
    // Segments: pieces that follow each other.
    let mut segments: Vec<(usize, u64, u64)> = Vec::new();
    for piece in pieces {
        match segments.last_mut() {
            Some((range, start, length))
                if *range == piece.range && start.saturating_add(*length) == piece.start =>
            {
                *length = length.saturating_add(piece.length);
            }
            _ => segments.push((piece.range, piece.start, piece.length)),
        }
    }
    let notes = [note(6, &opened.auxv), note(0x4649_4c45, &mapped_files(&opened.ranges))].concat();
    let count = segments.len().saturating_add(1).min(0xfffe);
    let notes_at = HEADER.saturating_add(PROGRAM.saturating_mul(count as u64));
    let body_at = notes_at.saturating_add(notes.len() as u64).next_multiple_of(page());
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut head = Vec::new();
    head.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for field in [4u16, machine] {
        head.extend(field.to_le_bytes());
    }
    head.extend(1u32.to_le_bytes());
    for field in [0u64, HEADER, 0] {
        head.extend(field.to_le_bytes());
    }
    head.extend(0u32.to_le_bytes());
    for field in [64u16, 56, u16::try_from(count).unwrap_or(u16::MAX), 0, 0, 0] {
        head.extend(field.to_le_bytes());
    }
    let mut program = |kind: u32, flags: u32, offset: u64, address: u64, size: u64, align: u64| {
        head.extend(kind.to_le_bytes());
        head.extend(flags.to_le_bytes());
        let in_memory = if kind == 1 { size } else { 0 };
        for field in [offset, address, 0, size, in_memory, align] {
            head.extend(field.to_le_bytes());
        }
    };
    program(4, 0, notes_at, 0, notes.len() as u64, 4);
    let mut offset = body_at;
    for (range, start, length) in segments {
        let permissions = opened.ranges.get(range).map_or("", |range| range.permissions.as_str());
        let flag = |letter: char, bit: u32| if permissions.contains(letter) { bit } else { 0 };
        program(1, flag('r', 4) | flag('w', 2) | flag('x', 1), offset, start, length, page());
        offset = offset.saturating_add(length);
    }
    head.extend(notes);
    head.resize(usize::try_from(body_at).unwrap_or(head.len()), 0);
    head
}

/// One note of the name `CORE`.
fn note(kind: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(0);
    let mut note = Vec::new();
    for field in [5u32, length, kind] {
        note.extend(field.to_le_bytes());
    }
    note.extend(b"CORE\0\0\0\0");
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The content of `NT_FILE`: how many files, page size, ranges, then names.
fn mapped_files(ranges: &[Range]) -> Vec<u8> {
    let files: Vec<&Range> = ranges.iter().filter(|range| range.path.starts_with(b"/")).collect();
    let mut content = Vec::new();
    for field in [files.len() as u64, page()] {
        content.extend(field.to_le_bytes());
    }
    for file in &files {
        for field in [file.start, file.end, file.offset / page()] {
            content.extend(field.to_le_bytes());
        }
    }
    for file in files {
        content.extend(&file.path);
        content.push(0);
    }
    content
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

    #[test]
    fn small_holes_are_filled_only_where_there_would_be_too_many_segments() {
        let runs = vec![vec![(0x1000, 0x1000), (0x3000, 0x1000), (0x9000, 0x1000)], vec![(0x20000, 0x2000)]];
        assert!(pieces(&runs, 10).iter().all(|piece| piece.is_there));
        let filled = pieces(&runs, 3);
        let holes: Vec<_> = filled.iter().filter(|piece| !piece.is_there).collect();
        assert_eq!(holes.len(), 1);
        assert_eq!((holes[0].start, holes[0].length), (0x2000, 0x1000));
    }

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

    /// The memory of this very test is read through the same files as that of any process.
    #[test]
    fn a_secret_in_memory_is_found_in_the_core_at_its_address() {
        use crate::triage::packed::packed;
        let kept = format!("planted-{}-secret", "x".repeat(3)).into_bytes();
        let address = kept.as_ptr() as u64;
        let pid = std::process::id();
        let out = packed(|out, _| {
            let tally = process_memory(Path::new("/proc"), pid, 1 << 30, out)?.unwrap();
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
