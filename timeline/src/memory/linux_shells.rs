//! Commands that a running bash remembers, written to a file or not.
//!
//! - Found in: the heap of processes that are named `bash` or run a program of that name, where readline keeps each
//!   command as two pointers: to its text, and to `#` with the seconds at which it was typed. bash keeps that time
//!   whether or not `HISTTIMEFORMAT` is set.
//! - Limits: 256 MiB of a heap, 65,536 commands a shell, 16 KiB of a command.
//! - Reference: GNU history library `lib/readline/history.h` (`HIST_ENTRY`), `history.c` (`hist_inittime`).

use std::collections::HashSet;

use super::address_space::PAGE;
use super::btf::Field;
use super::kernel::Kernel;
use super::linux_tasks::{Task, TaskReader};
use super::page_table::PageTables;
use super::record_parts::Part;
use super::structure::needed;
use crate::event::{Event, Precision, Span, Timestamp, TzBasis, flags};
use crate::parser::Context;
use crate::text::clean;

const LARGEST_HEAP: u64 = 256 << 20;
const MOST_COMMANDS: usize = 1 << 16;
const LONGEST_COMMAND: u64 = 16 << 10;
/// `#1795168810` and its NUL.
const TIME_LENGTH: u64 = 12;
/// A history entry: pointers to text and time.
const ENTRY_LENGTH: u64 = 16;

/// Where a process keeps its heap.
pub(crate) struct ShellReader {
    pgd: Field,
    heap_start: Field,
    heap_end: Field,
}

impl ShellReader {
    /// Finds the members.
    ///
    /// # Errors
    ///
    /// In words, which member is missing.
    pub(crate) fn new(kernel: &Kernel) -> Result<ShellReader, String> {
        let field = |way| needed(kernel.types(), "mm_struct", way);
        Ok(ShellReader { pgd: field("pgd")?, heap_start: field("start_brk")?, heap_end: field("brk")? })
    }

    /// Gives what each row stands on.
    pub(crate) fn for_each(
        &self,
        kernel: &Kernel,
        tasks: &TaskReader,
        command: &mut dyn FnMut(Vec<Part>),
        broken: &mut dyn FnMut(Span, &'static str),
    ) {
        let mut each = |task: &Task| match tasks.is_program(kernel, task, "bash") {
            true => self.of_task(kernel, task, command),
            false => Ok(()),
        };
        tasks.try_each(kernel, &mut each, broken);
    }

    fn of_task(
        &self,
        kernel: &Kernel,
        task: &Task,
        command: &mut dyn FnMut(Vec<Part>),
    ) -> Result<(), &'static str> {
        let Some(mm) = task.mm else { return Ok(()) };
        let number = |field: &Field| kernel.u64(mm.wrapping_add(field.offset));
        let tables = number(&self.pgd).and_then(|pgd| kernel.physical(pgd));
        let (Some(root), Some(start), Some(end)) = (tables, number(&self.heap_start), number(&self.heap_end))
        else {
            return Err("the memory of this shell is not in the image");
        };
        let heap = Heap { kernel, tables: kernel.tables().of_process(root), start, end };
        if end < start || end - start > LARGEST_HEAP {
            return Err("the heap of this shell is impossibly large: it was not searched");
        }
        let mut times = HashSet::new();
        heap.for_each_page(&mut |at, page| {
            for n in memchr::memchr_iter(b'#', page) {
                let at = at.wrapping_add(n as u64);
                if times.len() < MOST_COMMANDS && heap.time(at).is_some() {
                    times.insert(at);
                }
            }
        });
        if times.is_empty() {
            return Ok(());
        }
        let mut left = MOST_COMMANDS;
        heap.for_each_page(&mut |at, page| {
            for (n, word) in page.chunks_exact(8).enumerate() {
                if times.contains(&super::address_space::le(word))
                    && let Some(entry) = at.wrapping_add(8 * n as u64).checked_sub(8)
                    && let Some([text, time, entry]) = heap.command(entry)
                    && left > 0
                {
                    left -= 1;
                    command(vec![text, time, entry, task.part.clone(), task.owner.clone()]);
                }
            }
        });
        Ok(())
    }

    /// The row of a command.
    pub(crate) fn rows(&self, parts: &[Part], tasks: &TaskReader, context: &Context) -> Vec<Event> {
        let [text, time, _, task, owner] = parts else { return Vec::new() };
        let (Some(seconds), Some(identity)) = (seconds(&time.bytes), tasks.identity(task, owner)) else {
            return Vec::new();
        };
        let is_cut = text.bytes.last() != Some(&0);
        let command = clean(text.bytes.strip_suffix(b"\0").unwrap_or(&text.bytes));
        let message = format!("bash ({}): {}", identity.pid, command.replace('\n', " ⏎ "));
        let mut event = Event::new("memory:bash", "Last Time Executed", Span::default(), message);
        if let Some(time) = Timestamp::from_unix(seconds, 0) {
            event = event.at(time, Precision::S, TzBasis::UtcByFormat);
        }
        event.category = Some("process".into());
        event.action = Some("command-run".into());
        event.pid = Some(identity.pid);
        event.process = Some(identity.name);
        event.user_name = identity.uid.and_then(|uid| context.user(uid)).map(str::to_owned);
        event.command = Some(command);
        event.attrs.put_some("uid", identity.uid);
        event.flags = flags::RECOVERED | if is_cut { flags::TRUNCATED } else { 0 };
        vec![event]
    }
}

/// The heap of one process.
struct Heap<'k> {
    kernel: &'k Kernel,
    tables: PageTables,
    start: u64,
    end: u64,
}

impl Heap<'_> {
    /// Gives each page that is in the image, with its address.
    fn for_each_page(&self, page: &mut dyn FnMut(u64, &[u8])) {
        let mut at = self.start / PAGE * PAGE;
        while at < self.end {
            if let Some(part) =
                self.kernel.part_of(&self.tables, at, PAGE).filter(|p| p.bytes.len() as u64 == PAGE)
            {
                page(at, &part.bytes);
            }
            at = at.saturating_add(PAGE);
        }
    }

    fn time(&self, at: u64) -> Option<Part> {
        let part = self.kernel.part_of(&self.tables, at, TIME_LENGTH)?;
        seconds(&part.bytes).map(|_| part)
    }

    /// Text, time and entry, if all three are what they must be.
    fn command(&self, entry: u64) -> Option<[Part; 3]> {
        let part = self.kernel.part_of(&self.tables, entry, ENTRY_LENGTH)?;
        let pointer = |at: usize| part.bytes.get(at..at + 8).map(super::address_space::le);
        let (text, time) = (pointer(0)?, self.time(pointer(8)?)?);
        if !(self.start..self.end).contains(&text) {
            return None;
        }
        let text = self.text(text)?;
        Some([text, time, part])
    }

    /// The text at an address, with its NUL if that is not too far.
    fn text(&self, at: u64) -> Option<Part> {
        let mut length = 64;
        loop {
            let part = self.kernel.part_of(&self.tables, at, length)?;
            if let Some(end) = memchr::memchr(0, &part.bytes) {
                let is_text =
                    part.bytes.get(..end)?.iter().all(|b| *b >= b' ' || matches!(b, b'\t' | b'\n' | 0x1b));
                return (end > 0 && is_text)
                    .then(|| self.kernel.part_of(&self.tables, at, end as u64 + 1))
                    .flatten();
            }
            if (part.bytes.len() as u64) < length || length >= LONGEST_COMMAND {
                return Some(part);
            }
            length *= 4;
        }
    }
}

/// The seconds in `#1795168810` and a NUL.
fn seconds(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"#")?.strip_suffix(b"\0").filter(|digits| digits.len() == 10)?;
    std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_ten_digits_and_nothing_else() {
        assert_eq!(seconds(b"#1795168810\0"), Some(1_795_168_810));
        for text in
            [&b"#1795168810"[..], b"#179516881\0", b"#17951688100\0", b"#179516881x\0", b"1795168810\0", b""]
        {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }
}
