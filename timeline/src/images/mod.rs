//! Images and archives made by other tools, read where they lie in a bundle: disk images in the Expert Witness format,
//! memory in AVML's compressed form, and the tar and zip archives of collectors.
//!
//! Each of them is a [`ByteSource`](crate::bytes::ByteSource) over the foreign file's unchanged bytes, so that every row
//! still leads back to a range of the bundle's stream.

pub mod collection;
mod decoded_cache;
pub mod ewf;
mod ewf_segment;
mod ewf_table;
mod inflated;
mod tar_members;
pub(crate) mod zip_members;
