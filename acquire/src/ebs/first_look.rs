//! A first look at a snapshot through the EBS direct APIs: can it be listed, can a block of it be read.

use super::service::{reason_of_get, reason_of_list};
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
    let page = connection
        .wait(request)
        .map_err(|error| Failure::with_reason("EBS ListSnapshotBlocks", reason_of_list(&error), &error))?;
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
    answer.map_err(|error| Failure::with_reason("EBS GetSnapshotBlock", reason_of_get(&error), &error))
}
