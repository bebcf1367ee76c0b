//! Commands that running shells of a memory image remember.
//!
//! - Found at: streams of memory (LiME, AVML). It claims no file; the engine calls [`crate::memory::MemoryImage::read`].
//! - Reference: GNU history library `lib/readline/history.h`.

use crate::memory::{Artefact, MemoryParser};

pub(super) static PARSER: MemoryParser = MemoryParser {
    artefact: Artefact::Commands,
    name: "memory_commands",
    reads: "commands in the memory of running bash shells, saved to a history or not",
    times: "Last Time Executed",
};
