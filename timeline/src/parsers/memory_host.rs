//! What the kernel of a memory image says of its machine: boot time and clock.
//!
//! - Found at: streams of memory (LiME, AVML). It claims no file; the engine calls [`crate::memory::MemoryImage::read`].
//! - Reference: see [`crate::memory`]; Linux `kernel/time/timekeeping.c`.

use crate::memory::{Artefact, MemoryParser};

pub(super) static PARSER: MemoryParser = MemoryParser {
    artefact: Artefact::Host,
    name: "memory_host",
    reads: "the kernel's clock in memory: boot time, and the time at which memory was read",
    times: "Start Time (boot), Recorded Time (the clock)",
};
