//! A snapshot as something to acquire.

use custody::bundle::{Base, Bundle, Overlaid, Source as SourceFacts};
use custody::strict_json::escape_text;
use serde_json::{Map, Value};

use super::estimate::{Estimate, estimate};
use super::note::hash_note;
use super::service::{BLOCK, SnapshotBlocks};
use crate::aws::ec2::Ec2;
use crate::aws::{Connection, FailureKind};
use crate::blocks::{BlockSource, Limits};
use crate::capture::{Capture, Streams};
use crate::error::Result;

/// An EBS snapshot, acquired as the stream `disk`: whole, or what changed since another of the same volume.
pub struct EbsSnapshot {
    /// Its runtime reads the blocks.
    connection: Connection,
    snapshot: String,
    blocks: SnapshotBlocks,
    source: BlockSource<SnapshotBlocks>,
    limits: Limits,
    base: Option<Base>,
    told: Map<String, Value>,
    encrypted: Option<bool>,
}

impl std::fmt::Debug for EbsSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbsSnapshot").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// A bundle of the snapshot that another builds on.
#[derive(Debug)]
pub struct BaseBundle<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// Its stream, with those that it builds on in turn.
    pub stream: Overlaid,
}

impl EbsSnapshot {
    /// Looks at a snapshot: whether it can be listed, and how large its volume is.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`].
    pub fn open(connection: &Connection, snapshot: &str) -> Result<Self> {
        let blocks = SnapshotBlocks::open(connection, snapshot, None)?;
        Ok(Self::new(connection, snapshot, blocks))
    }

    /// Looks at what changed in a volume between `base` and `snapshot`. What did not is in state `base`; where the bundle
    /// of the base is at hand, the manifest names it and tells the hash of the whole.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`], also where the two are not snapshots of the same volume.
    pub fn open_since(
        connection: &Connection,
        snapshot: &str,
        base: &str,
        stored: Option<BaseBundle<'_>>,
    ) -> Result<Self> {
        let size = SnapshotBlocks::open(connection, base, None)?.size();
        let blocks = SnapshotBlocks::open(connection, snapshot, Some(base))?;
        let mut opened = Self::new(connection, snapshot, blocks);
        let manifest = stored.as_ref().map(|stored| stored.bundle.manifest());
        opened.base = Some(Base {
            bundle: manifest.map(|manifest| manifest.id.clone()),
            exhibit: manifest.map(|manifest| manifest.exhibit.clone()),
            manifest_sha256: stored.as_ref().map(|stored| stored.bundle.manifest_sha256()),
            snapshot: escape_text(base.as_bytes()),
        });
        opened.source = opened.source.on_base(size, stored.map(|stored| stored.stream));
        Ok(opened)
    }

    fn new(connection: &Connection, snapshot: &str, blocks: SnapshotBlocks) -> Self {
        let runtime = connection.runtime().handle().clone();
        let source = BlockSource::new(blocks.clone(), runtime, snapshot, blocks.size(), BLOCK);
        let (of_ec2, id) = (connection.clone(), snapshot.to_owned());
        let source = source.still_there(move || is_described(&of_ec2, &id));
        let limits = Limits::default();
        let (connection, snapshot) = (connection.clone(), snapshot.to_owned());
        let (told, base, encrypted) = (Map::new(), None, None);
        Self { connection, snapshot, blocks, source, limits, base, told, encrypted }
    }

    /// How much of the service may be asked for.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.source = self.source.limits(limits);
        self.limits = limits;
        self
    }

    /// Adds facts that EC2 tells of the snapshot; texts must be escaped.
    #[must_use]
    pub fn told(mut self, facts: Map<String, Value>) -> Self {
        self.told.extend(facts);
        self
    }

    /// Whether the volume is encrypted, where that is known.
    #[must_use]
    pub fn encrypted(mut self, encrypted: Option<bool>) -> Self {
        self.encrypted = encrypted;
        self
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether only what changed since another is read.
    pub(super) fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// Asks for no more blocks and no more pages of the list a second than this.
    pub(super) fn no_faster_than(self, requests_per_second: u32, lists_per_second: u32) -> Self {
        let mut limits = self.limits;
        limits.requests_per_second = no_more(limits.requests_per_second, requests_per_second);
        limits.lists_per_second = no_more(limits.lists_per_second, lists_per_second);
        self.limits(limits)
    }

    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// Blocks that will be asked for in a second at most.
    #[must_use]
    pub fn requests_per_second(&self) -> u32 {
        self.limits.requests_per_second
    }

    /// What reading it will take. The whole list is asked for, and one block.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`] where the list cannot be had; that a block cannot is part of the estimate.
    pub fn estimate(&self) -> Result<Estimate> {
        estimate(&self.connection, &self.blocks, &self.source)
    }
}

/// What is allowed already, where 0 is no bound, and no more than this.
fn no_more(allowed: u32, most: u32) -> u32 {
    if allowed == 0 { most } else { allowed.min(most) }
}

/// Whether EC2 knows a snapshot; `None` where it cannot be asked.
fn is_described(connection: &Connection, snapshot: &str) -> Option<bool> {
    match Ec2::new(connection).and_then(|ec2| ec2.describe_snapshot(snapshot)) {
        Ok(_) => Some(true),
        Err(failure) if failure.kind == FailureKind::NotFound => Some(false),
        Err(_) => None,
    }
}

impl Capture for EbsSnapshot {
    fn facts(&self) -> SourceFacts {
        let mut more = self.told.clone();
        more.insert("block_size".to_owned(), BLOCK.into());
        more.insert("region".to_owned(), escape_text(self.connection.region().as_bytes()).into());
        if self.connection.has_own_endpoint() {
            more.insert("own_endpoint".to_owned(), true.into());
        }
        if let Some(encrypted) = self.encrypted {
            more.insert("encrypted".to_owned(), encrypted.into());
        }
        if let Some(base) = &self.base {
            more.insert("base".to_owned(), base.snapshot.as_str().into());
        }
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
        let mut facts = self.source.counts().facts();
        if let Some(note) = hash_note(self.encrypted) {
            facts.insert("hash_note".to_owned(), note.into());
        }
        facts
    }

    fn base(&self) -> Option<Base> {
        self.base.clone()
    }
}
