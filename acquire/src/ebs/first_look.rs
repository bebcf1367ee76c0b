//! A first look at a snapshot through the EBS direct APIs: can it be listed, can a block of it be read.

use aws_sdk_ebs::operation::get_snapshot_block::GetSnapshotBlockError as GetError;
use aws_sdk_ebs::operation::list_snapshot_blocks::ListSnapshotBlocksError as ListError;

use crate::aws::{Connection, Failure};

/// The fewest blocks that a page can be asked for.
const FEWEST: i32 = 100;

/// The first block of a snapshot, with its token; `None` if the first page is empty.
///
/// # Errors
///
/// What the service says, tried once.
pub(super) fn first_block(connection: &Connection, snapshot: &str) -> Result<Option<(i32, String)>, Failure> {
    let request = connection.ebs().list_snapshot_blocks().snapshot_id(snapshot).max_results(FEWEST).send();
    let page = connection.wait(request).map_err(|error| {
        let reason = match error.as_service_error() {
            Some(ListError::AccessDeniedException(denied)) => denied.reason.as_str().to_owned(),
            _ => String::new(),
        };
        Failure::with_reason("EBS ListSnapshotBlocks", &reason, &error)
    })?;
    let mut blocks = page.blocks.unwrap_or_default().into_iter();
    Ok(blocks.find_map(|block| Some((block.block_index?, block.block_token?))))
}

/// Asks for one block, and drops it: whether the permission is there, and that on the key.
///
/// # Errors
///
/// What the service says, tried once.
pub(super) fn ask_for_block(
    connection: &Connection,
    snapshot: &str,
    (index, token): (i32, &str),
) -> Result<(), Failure> {
    let request = connection.ebs().get_snapshot_block().snapshot_id(snapshot);
    let request = request.block_index(index).block_token(token).send();
    let answer = connection.wait(request).map(drop);
    answer.map_err(|error| {
        let reason = match error.as_service_error() {
            Some(GetError::AccessDeniedException(denied)) => denied.reason.as_str().to_owned(),
            _ => String::new(),
        };
        Failure::with_reason("EBS GetSnapshotBlock", &reason, &error)
    })
}
