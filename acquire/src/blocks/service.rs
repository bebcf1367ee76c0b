//! What a service that gives numbered blocks must be able to do.

use std::future::Future;
use std::ops::Range;

use custody::Digest;

use crate::aws::Failure;

/// Lists which blocks of a source there are, and gives each.
///
/// Every call is one request, or a few that belong together; what is tried again, and when, is not decided here. What a
/// server says of lengths and offsets is checked by the implementation, all else by who calls.
pub trait BlockService: Send + Sync + 'static {
    /// What a listed block is fetched with.
    type Token: Clone + Send + Sync + 'static;

    /// The operation that lists, for messages: `EBS ListSnapshotBlocks`.
    const LIST: &'static str;

    /// The operation that fetches, for messages: `EBS GetSnapshotBlock`.
    const FETCH: &'static str;

    /// One page of the list, which may be empty though more follow.
    fn list(&self, from: ListFrom) -> impl Future<Output = Result<Page<Self::Token>, Failure>> + Send;

    /// Fills `room`, which is as long as the block, and checks what came against what the service says of it.
    ///
    /// A block that is too long, too short or has another hash is a failure of kind
    /// [`crate::aws::FailureKind::Corrupt`].
    fn fetch(
        &self,
        index: u64,
        token: &Self::Token,
        room: &mut [u8],
    ) -> impl Future<Output = Result<Fetched, Failure>> + Send;
}

/// Where a page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListFrom {
    /// At the first block that is not before this one.
    Block(u64),
    /// Where the page before ended, by what it gave to go on with.
    Page(String),
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The blocks, by ascending numbers.
    pub blocks: Vec<(u64, Listed<T>)>,
    /// What to go on with; `None` at the end of the list.
    pub next: Option<String>,
}

/// What a list says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed<T> {
    /// It can be fetched with this.
    Present(T),
    /// Others than these are as in the base; this one is there no more.
    Gone,
}

/// What came with the bytes of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The SHA-256 of the block, where the service gave it and it was found to be so.
    pub sha256: Option<Digest>,
    /// Parts of the block, in order, that the source does not have; zeros stand there.
    pub absent: Vec<Range<u32>>,
    /// Nothing was put into the room, for the service says that the block is all zeros.
    pub is_zero: bool,
}
