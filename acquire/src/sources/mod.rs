//! What can be acquired, one file each.

pub mod disk;
pub mod files;
