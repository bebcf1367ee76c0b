//! Reads physical memory into a stream: in large blocks, page by page where that fails, and never stopping for a page.

use std::io;

use custody::bundle::State;

use super::iomem::PhysicalRange;
use super::page_flags::{PageFlags, Withheld};
use super::physical::{PAGE, PhysicalMemory};
use super::smear::Samples;
use crate::error::Result;
use crate::pipeline::Feed;
use crate::source::{Issue, Issues};

/// Bytes that are read, and then stored, together.
const BLOCK: usize = 1 << 20;

/// So many pages that failed one after the other (256 MiB), and the method itself is taken to have failed.
const METHOD_FAILED: u64 = 65_536;

/// A part of a block that is zeros without having been read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    start: usize,
    length: usize,
    why: Why,
}

/// Why it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The system gave this error.
    Errno(i32),
    /// The method gives nothing at this address.
    Nothing,
    /// The kernel gave zeros for what it holds back.
    Withheld(Withheld),
}

impl Why {
    fn state(self) -> State {
        match self {
            Self::Errno(_) => State::Unreadable,
            Self::Nothing => State::Absent,
            Self::Withheld(withheld) => withheld.state(),
        }
    }

    fn detail(self) -> String {
        match self {
            Self::Errno(errno) => format!("errno={errno} tries=2"),
            Self::Nothing => "not_in_source".to_owned(),
            Self::Withheld(withheld) => withheld.detail().to_owned(),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Errno(errno) => format!("unreadable: {}", io::Error::from_raw_os_error(errno)),
            Self::Nothing => "the source gives nothing at these addresses".to_owned(),
            Self::Withheld(withheld) => withheld.words().to_owned(),
        }
    }
}

/// Pages by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageCounts {
    /// Read, zeros or not.
    pub(crate) read: u64,
    /// Failed to be read.
    pub(crate) failed: u64,
    /// Not given by the source.
    pub(crate) absent: u64,
    /// Poisoned, and zeros for it.
    pub(crate) poisoned: u64,
    /// Offline, and zeros for it.
    pub(crate) offline: u64,
    /// Not there for the kernel, and zeros for it.
    pub(crate) no_page: u64,
}

/// Memory that is being read.
pub(crate) struct Reading<'a> {
    /// The method in use first; the others take over where it fails altogether.
    pub(crate) methods: &'a mut Vec<Box<dyn PhysicalMemory>>,
    pub(crate) flags: PageFlags,
    pub(crate) samples: Samples,
    pub(crate) counts: PageCounts,
    pub(crate) issues: &'a mut Issues,
    block: Vec<u8>,
    failed_in_a_row: u64,
    /// Holes next to each other, that are one issue.
    run: Option<(PhysicalRange, Why)>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        methods: &'a mut Vec<Box<dyn PhysicalMemory>>,
        flags: PageFlags,
        samples: Samples,
        issues: &'a mut Issues,
    ) -> Self {
        let (counts, block) = (PageCounts::default(), vec![0; BLOCK]);
        Self { methods, flags, samples, counts, issues, block, failed_in_a_row: 0, run: None }
    }

    /// Reads a range into the stream: always exactly its length.
    pub(crate) fn range(&mut self, range: PhysicalRange, feed: &mut Feed) -> Result<()> {
        let mut address = range.start();
        loop {
            let left = (range.last() - address).saturating_add(1);
            let to_boundary = BLOCK as u64 - address % BLOCK as u64;
            let length = usize::try_from(left.min(to_boundary)).unwrap_or(BLOCK);
            let mut block = std::mem::take(&mut self.block);
            let bytes = block.get_mut(..length).unwrap_or_default();
            let holes = self.block(address, bytes);
            self.note(address, &holes, length);
            self.sample(address, bytes, &holes);
            let fed = store(bytes, &holes, feed);
            self.block = block;
            fed?;
            match address.checked_add(length as u64).filter(|&next| next <= range.last()) {
                Some(next) => address = next,
                None => break,
            }
        }
        self.list_run();
        Ok(())
    }

    /// Fills a block; what cannot be had is zeros and a hole.
    fn block(&mut self, address: u64, block: &mut [u8]) -> Vec<Hole> {
        let mut holes = Vec::new();
        loop {
            holes.clear();
            let Some(memory) = self.methods.first_mut() else {
                block.fill(0);
                let length = block.len();
                return vec![Hole { start: 0, length, why: Why::Nothing }];
            };
            read_block(&mut **memory, address, block, &mut holes);
            let missing: usize = holes.iter().map(|hole| hole.length).sum();
            if missing < block.len() {
                self.failed_in_a_row = 0;
                break;
            }
            self.failed_in_a_row = self.failed_in_a_row.saturating_add((block.len() / PAGE) as u64);
            if self.failed_in_a_row < METHOD_FAILED || self.methods.len() < 2 {
                break;
            }
            self.failed_in_a_row = 0;
            let failed = self.methods.remove(0);
            let next = self.methods.first().map_or("", |memory| memory.path());
            self.issues.add(Issue {
                path: failed.path().to_owned(),
                offset: Some(address),
                length: None,
                what: format!(
                    "{METHOD_FAILED} pages failed one after the other: from this address on, {next} is read instead"
                ),
            });
        }
        // Only zeros can have been given in place of something else.
        for (page, withheld) in self.flags.withheld(address - address % PAGE as u64, block.len()) {
            let skew = usize::try_from(address % PAGE as u64).unwrap_or(0);
            let start = (page * PAGE).saturating_sub(skew);
            let end = ((page + 1) * PAGE).saturating_sub(skew).min(block.len());
            let is_zero = block.get(start..end).is_some_and(|page| page.iter().all(|&byte| byte == 0));
            let is_hole = holes.iter().any(|hole| hole.start < end && start < hole.start + hole.length);
            if is_zero && !is_hole && start < end {
                holes.push(Hole { start, length: end - start, why: Why::Withheld(withheld) });
            }
        }
        holes.sort_by_key(|hole| hole.start);
        holes.dedup_by(|next, before| {
            let joins = next.why == before.why && before.start + before.length == next.start;
            if joins {
                before.length += next.length;
            }
            joins
        });
        holes
    }

    /// Counts pages, and joins holes to runs.
    fn note(&mut self, address: u64, holes: &[Hole], length: usize) {
        let pages = |bytes: usize| bytes.div_ceil(PAGE) as u64;
        let mut read = pages(length);
        for hole in holes {
            let missing = pages(hole.length);
            read = read.saturating_sub(missing);
            let count = match hole.why {
                Why::Errno(_) => &mut self.counts.failed,
                Why::Nothing => &mut self.counts.absent,
                Why::Withheld(Withheld::Poisoned) => &mut self.counts.poisoned,
                Why::Withheld(Withheld::Offline) => &mut self.counts.offline,
                Why::Withheld(Withheld::NoPage) => &mut self.counts.no_page,
            };
            *count = count.saturating_add(missing);
            let start = address.saturating_add(hole.start as u64);
            let Some(range) = PhysicalRange::with_length(start, hole.length as u64) else { continue };
            match self.run {
                Some((run, why)) if why == hole.why && run.last().checked_add(1) == Some(start) => {
                    self.run = PhysicalRange::new(run.start(), range.last()).map(|run| (run, why));
                }
                _ => {
                    self.list_run();
                    self.run = Some((range, hole.why));
                }
            }
        }
        self.counts.read = self.counts.read.saturating_add(read);
    }

    fn list_run(&mut self) {
        let Some((range, why)) = self.run.take() else { return };
        // A balloon leaves holes everywhere: they are counted, and each is in the extents table.
        if matches!(why, Why::Withheld(Withheld::Offline | Withheld::NoPage)) {
            return;
        }
        self.issues.add(Issue {
            path: self.methods.first().map_or_else(String::new, |memory| memory.path().to_owned()),
            offset: Some(range.start()),
            length: Some(range.length()),
            what: format!("{} (physical addresses {range})", why.words()),
        });
    }

    /// Keeps the hashes of those pages that are read again at the end.
    fn sample(&mut self, address: u64, block: &[u8], holes: &[Hole]) {
        let skew = usize::try_from(address % PAGE as u64).unwrap_or(0);
        let mut start = if skew == 0 { 0 } else { PAGE - skew };
        while let Some(page) = block.get(start..start + PAGE) {
            let is_hole =
                holes.iter().any(|hole| hole.start < start + PAGE && start < hole.start + hole.length);
            if self.samples.wants() && !is_hole {
                self.samples.keep(address.saturating_add(start as u64), page);
            }
            start += PAGE;
        }
    }
}

/// Puts a block into the stream with the marks of its holes.
fn store(block: &[u8], holes: &[Hole], feed: &mut Feed) -> Result<()> {
    let mut done = 0usize;
    while done < block.len() {
        done += feed.fill(|room, marks| {
            let take = room.len().min(block.len() - done);
            if let (Some(room), Some(from)) = (room.get_mut(..take), block.get(done..done + take)) {
                room.copy_from_slice(from);
            }
            for hole in holes {
                let start = hole.start.max(done);
                let end = (hole.start + hole.length).min(done + take);
                if start < end {
                    marks.add(start - done, end - start, hole.why.state(), &hole.why.detail());
                }
            }
            Ok(take)
        })?;
    }
    Ok(())
}

/// Reads a block in as few reads as the method allows. Where one fails, every page behind is tried by itself.
fn read_block(memory: &mut dyn PhysicalMemory, address: u64, block: &mut [u8], holes: &mut Vec<Hole>) {
    let largest = memory.largest_read().max(1);
    let mut done = 0usize;
    while done < block.len() {
        let at = address.saturating_add(done as u64);
        let end = block.len().min(done.saturating_add(largest));
        let Some(rest) = block.get_mut(done..end) else { return };
        match memory.read_at(at, rest) {
            Ok(0) => break,
            Ok(read) => done += read.min(rest.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    while done < block.len() {
        let at = address.saturating_add(done as u64);
        let to_boundary = PAGE - usize::try_from(at % PAGE as u64).unwrap_or(0);
        let length = to_boundary.min(block.len() - done);
        let Some(page) = block.get_mut(done..done + length) else { return };
        if let Err(why) = read_page(memory, at, page) {
            page.fill(0);
            match holes.last_mut() {
                Some(hole) if hole.start + hole.length == done && hole.why == why => hole.length += length,
                _ => holes.push(Hole { start: done, length, why }),
            }
        }
        done += length;
    }
}

fn read_page(memory: &mut dyn PhysicalMemory, address: u64, page: &mut [u8]) -> std::result::Result<(), Why> {
    let mut done = 0usize;
    while let Some(rest) = page.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match memory.read_at(address.saturating_add(done as u64), rest) {
            Ok(0) => return Err(Why::Nothing),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Why::Errno(error.raw_os_error().unwrap_or(0))),
        }
    }
    Ok(())
}

/// Reads one whole page; whether that went well.
pub(crate) fn reads_page(
    memory: &mut dyn PhysicalMemory,
    address: u64,
    page: &mut [u8],
) -> std::result::Result<(), i32> {
    read_page(memory, address, page).map_err(|why| match why {
        Why::Errno(errno) => errno,
        Why::Nothing | Why::Withheld(_) => 0,
    })
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
