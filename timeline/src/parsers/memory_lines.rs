//! Lines of logs and histories that lie anywhere in a memory image.
//!
//! - Found at: streams of memory (LiME, AVML). It claims no file; the engine calls [`crate::memory::MemoryImage::read`].
//! - Reference: the parsers that read the same lines in their files.

use crate::memory::{Artefact, MemoryParser};

pub(super) static PARSER: MemoryParser = MemoryParser {
    artefact: Artefact::Lines,
    name: "memory_lines",
    reads: "lines of logs with a full time, and commands of bash and zsh with theirs, anywhere in memory",
    times: "as in the log or history",
};
