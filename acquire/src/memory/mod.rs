//! The memory of the running machine, or of an image of one.

mod iomem;
mod kcore;
mod lime;
#[cfg(test)]
mod made_machine;
mod padded;
mod page_flags;
mod physical;
mod reading;
mod smear;

pub use iomem::{IomemError, PhysicalRange, system_ram};
pub use kcore::{Kcore, KcoreError, ReadAt, Segment};
pub use padded::{Padded, PaddedError, lime_ranges, write_padded};
pub use physical::PhysicalMemory;
pub use reading::PageCounts;
pub use smear::Smear;
