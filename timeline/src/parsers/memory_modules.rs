//! Kernel modules in a memory image.
//!
//! - Found at: streams of memory (LiME, AVML). It claims no file; the engine calls [`crate::memory::MemoryImage::read`].
//! - Reference: Linux `include/linux/module.h`.

use crate::memory::{Artefact, MemoryParser};

pub(super) static PARSER: MemoryParser = MemoryParser {
    artefact: Artefact::Modules,
    name: "memory_modules",
    reads: "kernel modules in memory",
    times: "Recorded Time (when memory was read)",
};
