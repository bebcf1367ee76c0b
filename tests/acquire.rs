//! Acquisition from end to end: what goes in comes out, what cannot be read is named, and nothing is lost on the way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[cfg(feature = "cloud")]
#[path = "acquire/azurite.rs"]
mod azurite;
#[path = "acquire/bad_sectors.rs"]
mod bad_sectors;
#[cfg(feature = "cloud")]
#[path = "acquire/blocks.rs"]
mod blocks;
#[cfg(feature = "cloud")]
#[path = "acquire/cloud_logs.rs"]
mod cloud_logs;
#[cfg(feature = "cloud")]
#[path = "acquire/cloudtrail_digests.rs"]
mod cloudtrail_digests;
#[path = "acquire/container.rs"]
mod container;
#[path = "acquire/custody_of_it.rs"]
mod custody_of_it;
#[path = "acquire/cut_short.rs"]
mod cut_short;
#[path = "acquire/disk.rs"]
mod disk;
#[cfg(feature = "cloud")]
#[path = "acquire/ebs.rs"]
mod ebs;
#[cfg(feature = "cloud")]
#[path = "acquire/ebs_faults.rs"]
mod ebs_faults;
#[cfg(feature = "cloud")]
#[path = "acquire/ebs_instance.rs"]
mod ebs_instance;
#[path = "acquire/encryption.rs"]
mod encryption;
#[path = "acquire/export.rs"]
mod export;
#[cfg(feature = "cloud")]
#[path = "support/fault_server/mod.rs"]
mod fault_server;
#[path = "acquire/faulty_disk.rs"]
mod faulty_disk;
#[path = "acquire/files.rs"]
mod files;
#[cfg(feature = "cloud")]
#[path = "acquire/grants.rs"]
mod grants;
#[cfg(feature = "cloud")]
#[path = "acquire/image_objects.rs"]
mod image_objects;
#[path = "acquire/imaging.rs"]
mod imaging;
#[path = "acquire/import.rs"]
mod import;
#[cfg(feature = "cloud")]
#[path = "support/loopback.rs"]
mod loopback;
#[path = "acquire/memory.rs"]
mod memory;
#[cfg(feature = "cloud")]
#[path = "support/moto.rs"]
mod moto;
#[cfg(feature = "cloud")]
#[path = "acquire/page_blobs.rs"]
mod page_blobs;
#[path = "acquire/patience.rs"]
mod patience;
#[cfg(feature = "cloud")]
#[path = "support/radosgw.rs"]
mod radosgw;
#[cfg(feature = "cloud")]
#[path = "acquire/range_server.rs"]
mod range_server;
#[path = "acquire/resume.rs"]
mod resume;
#[path = "support/runc_box.rs"]
mod runc_box;
#[cfg(feature = "cloud")]
#[path = "support/s3.rs"]
mod s3;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_desk.rs"]
mod s3_desk;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_faults.rs"]
mod s3_faults;
#[cfg(feature = "cloud")]
#[path = "support/s3_front.rs"]
mod s3_front;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_kills.rs"]
mod s3_kills;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_lock.rs"]
mod s3_lock;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_push.rs"]
mod s3_push;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_reader.rs"]
mod s3_reader;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_servers.rs"]
mod s3_servers;
#[cfg(feature = "cloud")]
#[path = "acquire/s3_store.rs"]
mod s3_store;
#[path = "acquire/silent_folder.rs"]
mod silent_folder;
#[path = "acquire/support.rs"]
mod support;
#[path = "acquire/triage.rs"]
mod triage;
#[path = "acquire/triage_table.rs"]
mod triage_table;
