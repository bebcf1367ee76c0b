//! One container, before it goes away: what its runtime says of it, its processes and their memory, its sockets, its logs,
//! and what it changed in its file system.
//!
//! - Found through Docker or Podman, containerd, the state of runc on disk, or the control groups of processes. Only
//!   questions are asked that change nothing, and nothing is written into the container.
//! - Three streams, in the order in which things go away: `commands` (tables and answers, as a triage has them),
//!   `processes` (memory, one ELF core a process, see [`process_memory`](self)), `files` (logs, the overlay's upper folder
//!   or the whole root, what lies in memory such as `/dev/shm`).
//! - A container that ends while it is read costs what had not been read by then, and each of that is an issue.
//! - With `pause`, its processes are frozen by their control group from the first look at them to the last byte of their
//!   memory, and thawed whatever happens, unless this very process is killed: then `/sys/fs/cgroup/…/cgroup.freeze` holds
//!   1 until someone writes 0.
//! - Not taken: volumes (they are listed), checkpoints, what lies in memory of the kernel for it.

mod capture;
mod containerd;
mod docker;
mod elf_core;
mod find;
mod freezer;
mod members;
mod memory_ranges;
mod process_memory;
mod root_files;
mod runc;

pub use capture::{ContainerCapture, ContainerOptions, ContainerRuntime};
