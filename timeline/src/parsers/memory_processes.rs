//! Processes in a memory image, with their start.
//!
//! - Found at: streams of memory (LiME, AVML). It claims no file; the engine calls [`crate::memory::MemoryImage::read`].
//! - Reference: Linux `include/linux/sched.h`.

use crate::memory::{Artefact, MemoryParser};

pub(super) static PARSER: MemoryParser = MemoryParser {
    artefact: Artefact::Processes,
    name: "memory_processes",
    reads: "processes in memory: pid, parent, name, owner, command, executable",
    times: "Start Time",
};
