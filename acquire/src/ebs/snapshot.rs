//! A snapshot as something to acquire.

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use serde_json::{Map, Value};

use super::service::{BLOCK, SnapshotBlocks};
use crate::aws::Connection;
use crate::blocks::{BlockSource, Limits};
use crate::capture::{Capture, Streams};
use crate::error::Result;

/// An EBS snapshot, acquired as the stream `disk`.
pub struct EbsSnapshot {
    /// Its runtime reads the blocks.
    connection: Connection,
    snapshot: String,
    source: BlockSource<SnapshotBlocks>,
    limits: Limits,
}

impl std::fmt::Debug for EbsSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbsSnapshot").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl EbsSnapshot {
    /// Looks at a snapshot: whether it can be listed, and how large its volume is.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`].
    pub fn open(connection: &Connection, snapshot: &str) -> Result<Self> {
        let blocks = SnapshotBlocks::open(connection, snapshot, None)?;
        let size = blocks.size();
        let source = BlockSource::new(blocks, connection.runtime().handle().clone(), snapshot, size, BLOCK);
        Ok(Self {
            connection: connection.clone(),
            snapshot: snapshot.to_owned(),
            source,
            limits: Limits::default(),
        })
    }

    /// How much of the service may be asked for.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.source = self.source.limits(limits);
        self.limits = limits;
        self
    }
}

impl Capture for EbsSnapshot {
    fn facts(&self) -> SourceFacts {
        let mut more = Map::new();
        more.insert("block_size".to_owned(), BLOCK.into());
        more.insert("region".to_owned(), escape_text(self.connection.region().as_bytes()).into());
        SourceFacts {
            kind: "ebs".to_owned(),
            path: Some(escape_text(self.snapshot.as_bytes())),
            size: Some(self.source.size()),
            more,
            ..SourceFacts::default()
        }
    }

    fn size(&self) -> Option<u64> {
        Some(self.source.size())
    }

    fn options(&self) -> Map<String, Value> {
        let mut options = Map::new();
        options.insert("max_requests_per_second".to_owned(), self.limits.requests_per_second.into());
        if self.limits.bytes_per_second > 0 {
            options.insert("max_read".to_owned(), self.limits.bytes_per_second.into());
        }
        options
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        streams.blocks("disk", "disk", &mut self.source)
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.source.counts().facts()
    }
}
