//! The memory of the running machine, or of an image of one.
//!
//! Memory is read first, as it is what changes; then the symbols pack. No page that cannot be read stops the run: its
//! bytes are zeros, and the extents table, the issues and the counts say so. The stream is LiME, version 1.
//!
//! [`Forecast`] says beforehand which way to read a machine's memory works here, and why others do not.

mod capture;
mod held_back;
mod host;
mod iomem;
mod kcore;
mod lime;
#[cfg(test)]
mod made_machine;
mod methods;
mod padded;
mod page_flags;
mod physical;
mod ranges_table;
mod reading;
mod smear;
mod symbols;

pub use capture::{MemoryCapture, MemorySource};
pub use host::Host;
pub use iomem::{IomemError, PhysicalRange, system_ram};
pub use kcore::{Kcore, KcoreError, ReadAt, Segment};
pub use methods::{Forecast, Outlook, Way};
pub use padded::{Padded, PaddedError, lime_ranges, write_padded};
pub use physical::PhysicalMemory;
