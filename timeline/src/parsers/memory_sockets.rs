//! Open internet sockets in a memory image, with the process that holds them.
//!
//! - Found at: streams of memory (LiME, AVML). It claims no file; the engine calls [`crate::memory::MemoryImage::read`].
//! - Reference: Linux `include/net/sock.h`.

use crate::memory::{Artefact, MemoryParser};

pub(super) static PARSER: MemoryParser = MemoryParser {
    artefact: Artefact::Sockets,
    name: "memory_sockets",
    reads: "open TCP, UDP and other internet sockets in memory, with their processes",
    times: "Recorded Time (when memory was read)",
};
