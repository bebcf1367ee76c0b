//! The evidence bundle: its format, how it is written and how any byte of it is read again.
//!
//! A bundle is a folder that `sha256sum`, `zstd`, `jq` and `openssl` can check. Only this module knows its files.

#[cfg(not(feature = "age"))]
#[path = "age_absent.rs"]
mod age_format;
#[cfg(feature = "age")]
mod age_format;
mod cache;
mod catalog;
mod decrypted_store;
mod direct_write;
mod error;
mod extent;
mod frame;
mod journal;
mod manifest;
mod opening;
mod overlay;
mod protected_table;
mod protection;
mod reader;
mod remote_bundle;
mod remote_place;
mod remote_store;
mod resume;
mod seal;
mod store;
mod tables;
mod writer;

pub use catalog::{CatalogEntry, CatalogReader, CatalogWriter, MemberKind, Xattr, file_time};
pub use decrypted_store::DecryptedStore;
pub use error::{Error, Result};
pub use extent::{Extent, Gap, State, StateBytes, UnknownState};
pub use frame::{DEFAULT_CHUNK, EncodedChunk, Encoder, Frame, LARGEST_CHUNK, SMALLEST_CHUNK, is_zero};
pub use journal::HashState;
pub use manifest::{Base, Examiner, FORMAT, LogOrigin, Manifest, Plain, Source, StoredFile, Stream};
pub use opening::{Bundle, DEFAULT_CACHE};
pub use overlay::Overlaid;
pub use protection::{Identities, Recipients};
pub use reader::{ChunkProof, StreamReader};
pub use remote_bundle::{Fetched, fetch_all_but_data, fetch_data};
pub use remote_place::{
    RemotePlace, Retention, RetentionMode, has_uploads, open_uploads, remove_local_data, remove_uploads,
};
pub use remote_store::{LayeredStore, OpenRemote, RemoteFault, RemoteListing, RemoteStore};
pub use resume::{
    Resume, Resumed, Sample, Samples, StreamHashes, journaled_bytes, lock_journal, remove_journal,
};
pub use seal::{SealFiles, seal, seal_again};
pub use store::{BundleStore, LocalFolder, NewFile, Unfinished, WriteOnly};
pub use tables::{ChunkRow, ChunkTable, read_extents, segment_name};
pub use writer::{Cut, HashedFile, MARK_EVERY, SEGMENT, StreamWriter, put};

pub(crate) use frame::{SeekTable, decode};
pub(crate) use manifest::LONGEST_MANIFEST;
pub(crate) use protection::Unopened;
pub(crate) use remote_bundle::{RemoteFile, read as read_remote};
pub(crate) use remote_place::{STORE, UPLOADS};
pub(crate) use store::StoreFile;
