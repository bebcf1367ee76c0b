//! Disks that a cloud gives out over HTTP: Azure's page blobs by a shared access signature, images that were exported as
//! objects.
//!
//! - All are read by one reader: ranges are fetched ahead by a few threads, each answer is checked, and what the service
//!   says it does not hold is told as a state of its own.
//! - An address with a signature in it is a [`SecretUrl`]: neither an error, nor a log, nor [`std::fmt::Debug`] shows it.
//! - What is read is pinned: an object that changes meanwhile stops the acquisition. It never becomes a mixture.
//! - A range that the service gives damaged, however often it is asked, becomes unreadable and is listed. A service that
//!   is gone, overloaded or refuses stops the acquisition, which can be taken up again.

mod address;
mod compared_object;
mod disk_in_tar;
mod exchange;
mod image_object;
mod page_blob;
mod page_list;
mod read_ahead;
mod sparse_map;

pub use address::{NotAnAddress, SecretUrl};
pub use image_object::{Bearer, ImageObject};
pub use page_blob::PageBlob;
