//! The EBS direct APIs as a service of numbered blocks.
//!
//! Reference: Amazon EBS direct APIs, `ListSnapshotBlocks`, `ListChangedBlocks`, `GetSnapshotBlock`. The signature of a
//! request does not cover the body of its answer, so the SHA-256 in the answer's header is what a block is checked by.

use std::time::Duration;

use aws_sdk_ebs::error::SdkError;
use aws_sdk_ebs::operation::get_snapshot_block::GetSnapshotBlockError as GetError;
use aws_sdk_ebs::operation::list_changed_blocks::ListChangedBlocksError as ChangedError;
use aws_sdk_ebs::operation::list_snapshot_blocks::ListSnapshotBlocksError as ListError;
use aws_sdk_ebs::types::ChecksumAlgorithm;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::is_zero;
use custody::digest::Hasher;
use custody::{Digest, sha256};

use crate::aws::{Connection, Failure, FailureKind};
use crate::blocks::{BlockService, Fetched, ListFrom, Listed, Page};
use crate::error::Result;

/// Bytes of a block: the only size that the service documents.
pub const BLOCK: u32 = 512 << 10;

/// The largest volume that there is, in GiB: 64 TiB.
const LARGEST_GIB: u64 = 64 << 10;

/// Blocks asked for with one page, which is the most there can be; and for a first look, the fewest.
const PAGE: i32 = 10_000;
const FIRST_PAGE: i32 = 100;

/// Times that the first page is asked for, and the pause between.
const FIRST_TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The blocks of one snapshot, or those that differ from another of the same volume.
#[derive(Debug, Clone)]
pub struct SnapshotBlocks {
    client: aws_sdk_ebs::Client,
    region: String,
    snapshot: String,
    base: Option<String>,
    size: u64,
    /// The SHA-256 of a block of zeros.
    of_zeros: Digest,
}

impl SnapshotBlocks {
    /// Looks at the first page of a snapshot's list, or of what differs from a base, and learns the size of the volume.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`], also if what the service says of the volume cannot be.
    pub fn open(connection: &Connection, snapshot: &str, base: Option<&str>) -> Result<Self> {
        let mut opened = Self {
            client: connection.ebs(),
            region: connection.region().to_owned(),
            snapshot: snapshot.to_owned(),
            base: base.map(str::to_owned),
            size: 0,
            of_zeros: sha256(&vec![0; BLOCK as usize]),
        };
        opened.size = connection.wait(opened.first_look())?;
        Ok(opened)
    }

    /// Bytes of the volume.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    async fn first_look(&self) -> std::result::Result<u64, Failure> {
        let mut tries = 1;
        loop {
            let failure = match self.page(&ListFrom::Block(0), FIRST_PAGE).await {
                Ok((_, size)) => return Ok(size),
                Err(failure) => failure,
            };
            if !failure.kind.is_worth_another_try() || tries >= FIRST_TRIES {
                return Err(failure);
            }
            tokio::time::sleep(FIRST_PAUSE.saturating_mul(tries)).await;
            tries += 1;
        }
    }

    /// A page, and the size of the volume.
    async fn page(&self, from: &ListFrom, blocks: i32) -> std::result::Result<(Page<String>, u64), Failure> {
        match &self.base {
            None => self.page_of_all(from, blocks).await,
            Some(base) => self.page_of_changed(base, from, blocks).await,
        }
    }

    async fn page_of_all(
        &self,
        from: &ListFrom,
        blocks: i32,
    ) -> std::result::Result<(Page<String>, u64), Failure> {
        let request = self.client.list_snapshot_blocks().snapshot_id(&self.snapshot).max_results(blocks);
        let request = match from {
            ListFrom::Block(first) => request.starting_block_index(index_of(*first)?),
            ListFrom::Page(token) => request.next_token(token),
        };
        let page = request.send().await.map_err(|error| {
            self.explained(
                Failure::with_reason(Self::LIST, reason_of_list(&error), &error),
                "ebs:ListSnapshotBlocks",
            )
        })?;
        let size = volume_size(page.volume_size, page.block_size)?;
        let mut listed = Vec::with_capacity(page.blocks().len());
        for block in page.blocks.unwrap_or_default() {
            let token = block.block_token.filter(|token| !token.is_empty());
            let (Some(index), Some(token)) = (number(block.block_index), token) else {
                return Err(cannot_be("it lists a block without its number or its token"));
            };
            listed.push((index, Listed::Present(token)));
        }
        Ok((Page { blocks: listed, next: page.next_token }, size))
    }

    async fn page_of_changed(
        &self,
        base: &str,
        from: &ListFrom,
        blocks: i32,
    ) -> std::result::Result<(Page<String>, u64), Failure> {
        let request = self.client.list_changed_blocks().first_snapshot_id(base);
        let request = request.second_snapshot_id(&self.snapshot).max_results(blocks);
        let request = match from {
            ListFrom::Block(first) => request.starting_block_index(index_of(*first)?),
            ListFrom::Page(token) => request.next_token(token),
        };
        let page = request.send().await.map_err(|error| {
            let failure = Failure::with_reason("EBS ListChangedBlocks", reason_of_changed(&error), &error);
            let failure = self.explained(failure, "ebs:ListChangedBlocks");
            if failure.reason == "UNRELATED_SNAPSHOTS" { self.unrelated(base, failure) } else { failure }
        })?;
        let size = volume_size(page.volume_size, page.block_size)?;
        let mut listed = Vec::with_capacity(page.changed_blocks().len());
        for block in page.changed_blocks.unwrap_or_default() {
            let Some(index) = number(block.block_index) else {
                return Err(cannot_be("it lists a block without its number"));
            };
            // In the base only: the volume has no such block any more.
            let block = block.second_block_token.map_or(Listed::Gone, Listed::Present);
            listed.push((index, block));
        }
        Ok((Page { blocks: listed, next: page.next_token }, size))
    }

    fn unrelated(&self, base: &str, failure: Failure) -> Failure {
        let message = format!(
            "{} and {base} are not snapshots of the same volume, so there is no list of what changed between them; \
             acquire it without --base",
            self.snapshot
        );
        Failure { message, ..failure }
    }

    /// A refusal, with what is missing said in words.
    fn explained(&self, failure: Failure, permission: &str) -> Failure {
        if failure.kind != FailureKind::Denied {
            return failure;
        }
        let missing = if failure.reason == "DEPENDENCY_ACCESS_DENIED" {
            format!(
                "the key of this encrypted snapshot may not be used: kms:Decrypt and kms:DescribeKey are missing on the KMS \
                 key of {}, in the key's policy or in that of the caller; for a key of another account, in both",
                self.snapshot
            )
        } else if failure.is_of_key() {
            format!(
                "the key of the encrypted snapshot {} cannot be used: it is disabled, waits for its deletion, or is gone, or \
                 its grant is; once it can be used, go on",
                self.snapshot
            )
        } else {
            format!(
                "{permission} is missing on arn:aws:ec2:{}::snapshot/{}, or the snapshot is not shared with this account",
                self.region, self.snapshot
            )
        };
        let message =
            if failure.message.is_empty() { missing } else { format!("{missing} ({})", failure.message) };
        Failure { message, ..failure }
    }
}

impl BlockService for SnapshotBlocks {
    type Token = String;

    const LIST: &'static str = "EBS ListSnapshotBlocks";
    const FETCH: &'static str = "EBS GetSnapshotBlock";

    async fn list(&self, from: ListFrom) -> std::result::Result<Page<String>, Failure> {
        let (page, size) = self.page(&from, PAGE).await?;
        if size != self.size {
            let what = format!("the volume has {size} bytes now, and had {} before", self.size);
            return Err(cannot_be(&what));
        }
        Ok(page)
    }

    async fn fetch(
        &self,
        index: u64,
        token: &String,
        room: &mut [u8],
    ) -> std::result::Result<Fetched, Failure> {
        let request = self.client.get_snapshot_block().snapshot_id(&self.snapshot);
        let request = request.block_index(index_of(index)?).block_token(token);
        let answer = request.send().await.map_err(|error| {
            let failure = Failure::with_reason(Self::FETCH, reason_of_get(&error), &error);
            self.explained(failure, "ebs:GetSnapshotBlock")
        })?;
        let corrupt = |what: String| Failure::found(Self::FETCH, FailureKind::Corrupt, what);
        if answer
            .data_length
            .and_then(|length| usize::try_from(length).ok())
            .is_some_and(|told| told != room.len())
        {
            return Err(corrupt(format!(
                "a block of {} bytes was announced",
                answer.data_length.unwrap_or(0)
            )));
        }
        if answer.checksum_algorithm != Some(ChecksumAlgorithm::ChecksumAlgorithmSha256) {
            return Err(corrupt("no SHA-256 came with the block".to_owned()));
        }
        let expected = answer.checksum.as_deref().and_then(|text| STANDARD.decode(text).ok());
        let Some(expected) = expected.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(Digest) else {
            return Err(corrupt("what came as its SHA-256 is none".to_owned()));
        };
        // Whether bytes are zeros is seen many times sooner than what their hash is.
        let zeros = expected == self.of_zeros && room.len() == BLOCK as usize;
        // Hashed as it comes, while it is in the processor's cache.
        let (mut body, mut got, mut hasher) = (answer.block_data, 0usize, Hasher::new());
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| {
                let what = format!("the answer broke off after {got} bytes: {error}");
                Failure::found(Self::FETCH, FailureKind::Connection, what)
            })?;
            let end = got.saturating_add(part.len());
            let Some(to) = room.get_mut(got..end) else {
                return Err(corrupt(format!("more than {} bytes came", room.len())));
            };
            if !zeros {
                to.copy_from_slice(&part);
                hasher.update(&part);
            } else if !is_zero(&part) {
                return Err(corrupt(
                    "the SHA-256 of zeros was announced, but something else came".to_owned(),
                ));
            }
            got = end;
        }
        if got != room.len() {
            return Err(corrupt(format!("{got} bytes came instead of {}", room.len())));
        }
        if zeros {
            return Ok(Fetched { sha256: Some(expected), is_zero: true, ..Fetched::default() });
        }
        let found = hasher.finish();
        if found != expected {
            return Err(corrupt(format!("its SHA-256 is {found}, but {expected} was announced")));
        }
        Ok(Fetched { sha256: Some(found), ..Fetched::default() })
    }
}

fn cannot_be(what: &str) -> Failure {
    Failure::found(SnapshotBlocks::LIST, FailureKind::Corrupt, what)
}

fn number(index: Option<i32>) -> Option<u64> {
    index.and_then(|index| u64::try_from(index).ok())
}

fn index_of(block: u64) -> std::result::Result<i32, Failure> {
    i32::try_from(block).map_err(|_| {
        let what = format!("no volume has a block {block}");
        Failure::found(SnapshotBlocks::LIST, FailureKind::Invalid, what)
    })
}

/// The bytes of a volume. The service says GiB; examples in its documentation are in bytes, so these are understood too.
fn volume_size(size: Option<i64>, block_size: Option<i32>) -> std::result::Result<u64, Failure> {
    const GIB: u64 = 1 << 30;
    let invalid = |what: String| Failure::found(SnapshotBlocks::LIST, FailureKind::Invalid, what);
    if block_size.and_then(|size| u32::try_from(size).ok()) != Some(BLOCK) {
        let said = block_size.map_or("nothing".to_owned(), |size| format!("{size} bytes"));
        return Err(invalid(format!(
            "it says {said} of the size of a block, where {BLOCK} bytes are documented"
        )));
    }
    match size.and_then(|size| u64::try_from(size).ok()) {
        Some(gib @ 1..=LARGEST_GIB) => Ok(gib.saturating_mul(GIB)),
        Some(bytes) if bytes.is_multiple_of(GIB) && (1..=LARGEST_GIB).contains(&(bytes / GIB)) => Ok(bytes),
        said => Err(invalid(format!("it says a volume size that cannot be: {said:?} GiB"))),
    }
}

/// The reason that the service gives in a field of its own.
pub(super) fn reason_of_get(error: &SdkError<GetError, HttpResponse>) -> &str {
    match error.as_service_error() {
        Some(GetError::AccessDeniedException(error)) => error.reason.as_str(),
        Some(GetError::RequestThrottledException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(GetError::ResourceNotFoundException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(GetError::ServiceQuotaExceededException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(GetError::ValidationException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        _ => "",
    }
}

pub(super) fn reason_of_list(error: &SdkError<ListError, HttpResponse>) -> &str {
    match error.as_service_error() {
        Some(ListError::AccessDeniedException(error)) => error.reason.as_str(),
        Some(ListError::RequestThrottledException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(ListError::ResourceNotFoundException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(ListError::ServiceQuotaExceededException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(ListError::ValidationException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        _ => "",
    }
}

fn reason_of_changed(error: &SdkError<ChangedError, HttpResponse>) -> &str {
    match error.as_service_error() {
        Some(ChangedError::AccessDeniedException(error)) => error.reason.as_str(),
        Some(ChangedError::RequestThrottledException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(ChangedError::ResourceNotFoundException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(ChangedError::ServiceQuotaExceededException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        Some(ChangedError::ValidationException(error)) => {
            error.reason.as_ref().map_or("", |reason| reason.as_str())
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_size_is_gib_and_where_it_cannot_be_that_bytes() {
        assert_eq!(volume_size(Some(8), Some(524_288)).unwrap(), 8 << 30);
        assert_eq!(volume_size(Some(65_536), Some(524_288)).unwrap(), 64 << 40);
        assert_eq!(volume_size(Some(8 << 30), Some(524_288)).unwrap(), 8 << 30);
        for (size, block) in [
            (None, Some(524_288)),
            (Some(0), Some(524_288)),
            (Some(-1), Some(524_288)),
            (Some(65_537), Some(524_288)),
            (Some(i64::MAX), Some(524_288)),
            (Some(8), None),
            (Some(8), Some(512)),
            (Some(8), Some(-1)),
        ] {
            assert!(volume_size(size, block).is_err(), "{size:?} {block:?}");
        }
    }
}
