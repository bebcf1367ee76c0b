//! What can be acquired, one file each.

mod device;
mod device_commands;
pub mod disk;
pub mod files;
mod hidden_areas;
mod holes;
pub mod paced;
pub mod split_image;
pub mod subset;
