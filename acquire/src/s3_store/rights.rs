//! What a writer may do at a place, found out before anything is begun there, and without changing anything.

use custody::bundle::RemotePlace;

use super::requests::{Pace, Requests};
use crate::aws::{Connection, FailureKind};
use crate::error::Result;

/// What was found out.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// The retention that the bucket itself gives every object, in words; `None` if it gives none, or cannot be asked.
    pub default_retention: Option<String>,
    /// What could not be found out or is missing, and what follows; none of it stops the writing.
    pub remarks: Vec<String>,
}

/// Asks whether objects may be put below a place: by a part of an upload that does not exist, which only who may put is
/// told. Rights that need a real object show with the first one, which is the log's first entry.
///
/// # Errors
///
/// [`crate::Error::Cloud`] if the bucket is not there, in another region, or may not be written to; and if retention was
/// asked for and the bucket is known to have no Object Lock.
pub fn rights(connection: &Connection, place: &RemotePlace) -> Result<Rights> {
    let requests = Requests::new(connection, place.clone(), Pace { tries: 2, ..Pace::default() });
    let key = place.key("custody/00000000.json")?;
    let mut rights = Rights::default();
    match requests.wait(requests.try_to_put(&key)) {
        // A server that stumbles over the question may do well with what is meant.
        Err(failure) if failure.kind == FailureKind::Server => {}
        asked => asked?,
    }
    match requests.wait(requests.try_to_abort(&key)) {
        Err(failure) if failure.kind == FailureKind::Denied => {
            rights
                .remarks
                .push(format!("what an interruption leaves cannot be cleared up from here: {failure}"));
        }
        Err(failure) if failure.kind == FailureKind::Server => {}
        asked => asked?,
    }
    match requests.wait(requests.object_lock()) {
        Ok(Some(default)) => rights.default_retention = default,
        Ok(None) if place.retention.is_some() => {
            return Err(crate::aws::Failure::found(
                "S3 GetObjectLockConfiguration",
                FailureKind::Invalid,
                format!("the bucket {} has no Object Lock, so nothing in it can be retained", place.bucket),
            )
            .into());
        }
        Ok(None) => rights.remarks.push(format!(
            "the bucket {} has no Object Lock: who may delete objects can delete these",
            place.bucket
        )),
        Err(failure) => {
            rights.remarks.push(format!("whether the bucket has Object Lock is not known: {failure}"));
        }
    }
    Ok(rights)
}
